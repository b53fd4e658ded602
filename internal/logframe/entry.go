package logframe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Entry is an entry of a log.
type Entry struct {
	Time                   time.Time
	Level, Module, Message string
	Fields                 map[string]any // the other fields
}

// ParseEntry reads a line as Nomad's logger writes it, in JSON or as text. Of a line that is not an entry only Message is
// set. Fields in text stay in Message, because it does not say where they begin.
func ParseEntry(line string) Entry {
	var values map[string]jsontext.Value
	if !strings.HasPrefix(line, "{") ||
		jsonv2.Unmarshal([]byte(line), &values, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) != nil {
		return parseText(line)
	}
	fields := make(map[string]any, len(values))
	for name, value := range values {
		fields[name] = field(value)
	}
	take := func(name string) string {
		text, ok := fields[name].(string)
		if ok {
			delete(fields, name)
		}
		return text
	}
	e := Entry{Level: take("@level"), Module: take("@module"), Message: take("@message")}
	if stamp, ok := fields["@timestamp"].(string); ok {
		if at, err := parseTime(time.RFC3339Nano, stamp); err == nil {
			e.Time = at
			delete(fields, "@timestamp")
		}
	}
	if len(fields) > 0 {
		e.Fields = fields
	}
	return e
}

// textEntry is an entry as text, which a journal puts behind the time, the host and the process.
var textEntry = regexp.MustCompile(`^(?:\w.* \S+\[\d+\]: )?(\d{4}-\d\d-\d\dT\S+) \[(TRACE|DEBUG|INFO|WARN|ERROR)\] +(?:([\w.-]+): )?(.*)$`)

func parseText(line string) Entry {
	m := textEntry.FindStringSubmatch(line)
	if m == nil {
		return Entry{Message: line}
	}
	at, err := parseTime("2006-01-02T15:04:05.000Z0700", m[1])
	if err != nil {
		return Entry{Message: line}
	}
	return Entry{Time: at, Level: strings.ToLower(m[2]), Module: m[3], Message: m[4]}
}

// parseTime parses a time that can be encoded again. Package time parses more, such as an offset of 24 hours.
func parseTime(layout, text string) (time.Time, error) {
	at, err := time.Parse(layout, text)
	if err == nil {
		_, err = at.MarshalText()
	}
	return at, err
}

// field returns the value of a field. Numbers, lists and objects stay as they were sent. A list or an object that is not
// strict JSON is a string, because an encoder would refuse it.
func field(value jsontext.Value) any {
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
	value = bytes.ToValidUTF8(value, []byte("\uFFFD"))
	if !isStrict(value) {
		return string(value)
	}
	return json.RawMessage(value)
}

// maxDepth is how deep lists and objects of a field are nested at most. Encoders refuse a depth of 10,000 in total.
const maxDepth = 1000

// isStrict reports whether every encoder accepts a value: it has no name twice, no half of a surrogate pair and no deep
// nesting.
func isStrict(value []byte) bool {
	for dec := jsontext.NewDecoder(bytes.NewReader(value)); ; {
		if _, err := dec.ReadToken(); err != nil || dec.StackDepth() > maxDepth {
			return err == io.EOF
		}
	}
}

// ParseLevel returns the level of a name in any case.
func ParseLevel(name string) (string, error) {
	levels := []string{"trace", "debug", "info", "warn", "error"}
	level := strings.ToLower(strings.TrimSpace(name))
	if level == "warning" {
		level = "warn"
	}
	if !slices.Contains(levels, level) && level != "off" {
		return "", fmt.Errorf("%q is not a log level: want one of %q", name, levels)
	}
	return level, nil
}
