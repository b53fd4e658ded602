package logframe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Entry is an entry of a log in JSON.
type Entry struct {
	Time                   time.Time
	Level, Module, Message string
	Fields                 map[string]any // the other fields
}

// ParseEntry reads a line as Nomad's logger writes it. Of a line that is not an entry only Message is set.
func ParseEntry(line string) Entry {
	var values map[string]jsontext.Value
	if !strings.HasPrefix(line, "{") ||
		jsonv2.Unmarshal([]byte(line), &values, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)) != nil {
		return Entry{Message: line}
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

// field returns the value of a field. Numbers, lists and objects stay as they were sent.
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
	return json.RawMessage(bytes.ToValidUTF8(value, []byte("\uFFFD")))
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
