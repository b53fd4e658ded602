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
	"unicode"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// LogEntry is an entry of a log in JSON. It encodes to JSON with the names in its tags.
type LogEntry struct {
	Time    time.Time `json:"time,omitzero"`    // zero if the line has none
	Level   LogLevel  `json:"level,omitempty"`  // empty if the line has none
	Module  string    `json:"module,omitempty"` // the part of Nomad that wrote it, such as nomad.raft
	Message string    `json:"message"`          // the whole line if it is not an entry in JSON

	// Fields has the other fields of the entry: a string, bool, nil, json.Number, or json.RawMessage for a list or an
	// object. Numbers are as they were sent. It is nil if there are none.
	Fields map[string]any `json:"fields,omitempty"`
}

// MarshalJSON encodes the entry with the names in its tags.
func (e LogEntry) MarshalJSON() ([]byte, error) {
	type entry LogEntry // so that package json/v2 does not take a json.Number for a string
	return json.Marshal(entry(e))
}

// Entries returns the log's entries. It requires a stream with MonitorOptions.JSON: of a line that is not an entry in
// JSON only Message is set. Errors are as in Lines.
func (l *LogStream) Entries() iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		for line, err := range l.Lines() {
			if err != nil {
				yield(LogEntry{}, err)
				return
			}
			if !yield(parseEntry(line), nil) {
				return
			}
		}
	}
}

// parseEntry reads an entry as Nomad's logger writes it.
func parseEntry(line string) LogEntry {
	var values map[string]jsontext.Value
	if !strings.HasPrefix(line, "{") ||
		jsonv2.Unmarshal([]byte(line), &values, decodeOptions, jsontext.AllowDuplicateNames(true)) != nil {
		return LogEntry{Message: line}
	}
	fields := make(map[string]any, len(values))
	for name, value := range values {
		fields[name] = logField(value)
	}
	take := func(name string) string {
		text, ok := fields[name].(string)
		if ok {
			delete(fields, name)
		}
		return text
	}
	e := LogEntry{Level: LogLevel(take("@level")), Module: take("@module"), Message: take("@message")}
	if stamp, ok := fields["@timestamp"].(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			e.Time = at
			delete(fields, "@timestamp")
		}
	}
	if len(fields) > 0 {
		e.Fields = fields
	}
	return e
}

// logField returns the value of a field.
func logField(value jsontext.Value) any {
	switch value.Kind() {
	case '"':
		text, _ := jsontext.AppendUnquote(nil, value) // the decoder has checked it
		return string(text)
	case 't', 'f':
		return value.Kind() == 't'
	case 'n':
		return nil
	case '0':
		return json.Number(value)
	}
	return json.RawMessage(value)
}

// String returns the entry on one line, as in Nomad's log.
func (e LogEntry) String() string {
	var b strings.Builder
	if !e.Time.IsZero() {
		b.WriteString(e.Time.Format("2006-01-02T15:04:05.000Z07:00 "))
	}
	if e.Level != "" {
		fmt.Fprintf(&b, "%-7s ", "["+strings.ToUpper(oneLine(string(e.Level)))+"]")
	}
	if e.Module != "" {
		b.WriteString(oneLine(e.Module) + ": ")
	}
	b.WriteString(oneLine(e.Message))
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
		b.WriteString(" " + oneLine(name) + "=" + oneLine(text))
	}
	return b.String()
}

// oneLine escapes what does not print.
func oneLine(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}
