package nomad

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/logframe"
	"github.com/nomad-go/nomad/internal/show"
)

// LogEntry is an entry of a log. It encodes to JSON with the names in its tags.
type LogEntry struct {
	Time    time.Time `json:"time,omitzero"`    // zero if the line has none
	Level   LogLevel  `json:"level,omitempty"`  // empty if the line has none
	Module  string    `json:"module,omitempty"` // the part of Nomad that wrote it, such as nomad.raft
	Message string    `json:"message"`          // the message, or the whole line if the line is not an entry

	// Fields has the other fields of the entry: a string, bool, nil, json.Number, or json.RawMessage for a list or an
	// object. Numbers are as they were sent. A list or an object that is not strict JSON, such as one with a name twice,
	// is a string. Fields is nil if there are none. An entry of a log in text has its fields in Message.
	Fields map[string]any `json:"fields,omitempty"`
}

// MarshalJSON encodes the entry with the names in its tags.
func (e LogEntry) MarshalJSON() ([]byte, error) {
	type entry LogEntry // so that package json/v2 does not take a json.Number for a string
	return json.Marshal(entry(e))
}

// Entries returns the log's entries, whether the lines are JSON or text. In text the fields of an entry are part of
// Message, so set MonitorOptions.JSON for Agent.Monitor. For a line that is not an entry, only Message is set. Errors
// are as in Lines.
func (l *LogStream) Entries() iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		for line, err := range l.Lines() {
			if err != nil {
				yield(LogEntry{}, err)
				return
			}
			e := logframe.ParseEntry(line)
			if !yield(LogEntry{e.Time, LogLevel(e.Level), e.Module, e.Message, e.Fields}, nil) {
				return
			}
		}
	}
}

// String returns the entry on one line, as in Nomad's log.
func (e LogEntry) String() string {
	var b strings.Builder
	if !e.Time.IsZero() {
		b.WriteString(e.Time.Format("2006-01-02T15:04:05.000Z07:00 "))
	}
	if e.Level != "" {
		fmt.Fprintf(&b, "%-7s ", "["+strings.ToUpper(show.Line(string(e.Level)))+"]")
	}
	if e.Module != "" {
		b.WriteString(show.Line(e.Module) + ": ")
	}
	b.WriteString(show.Line(e.Message))
	if len(e.Fields) > 0 {
		b.WriteByte(':')
	}
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		var text string
		switch value := e.Fields[name].(type) {
		case string:
			if text = value; text == "" || strings.ContainsAny(text, " \"=") {
				text = strconv.Quote(text)
			}
		case nil:
			text = "null"
		case json.RawMessage:
			text = string(value)
		default:
			text = fmt.Sprint(value)
		}
		b.WriteString(" " + show.Line(name) + "=" + show.Line(text))
	}
	return b.String()
}
