package lenient

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxUnknown bounds what Unknown returns, in bytes of pointers and values with an allowance for each entry. Without it,
// the pointers below a long name could take the square of the document's size.
const (
	maxUnknown   = 6 << 20
	unknownEntry = 128
)

// Unknown returns what Unmarshal skips when it decodes data into a value of type t: the values that have no field, and
// those that do not fit their field. The keys are JSON Pointers. Of more than 6 MiB it returns only the first.
func Unknown(data []byte, t reflect.Type) map[string]json.RawMessage {
	w := walker{
		dec: jsontext.NewDecoder(bytes.NewBuffer(data),
			jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)),
		found:  map[string]json.RawMessage{},
		fields: map[reflect.Type]map[string]reflect.Type{},
		room:   maxUnknown,
	}
	_ = w.value(t) // data that has an error is read up to it
	return w.found
}

type walker struct {
	dec    *jsontext.Decoder
	found  map[string]json.RawMessage
	fields map[reflect.Type]map[string]reflect.Type
	room   int
}

var errFull = errors.New("too many unknown values")

// value reads a value for a type.
func (w *walker) value(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	kind := w.dec.PeekKind()
	switch {
	case kind == 'n':
		return w.dec.SkipValue()
	case isLeaf(t):
		value, err := w.dec.ReadValue()
		if err == nil && !store(reflect.New(t).Interface(), value) {
			err = w.add(value)
		}
		return err
	case reflect.PointerTo(t).Implements(reflect.TypeFor[jsonv2.Unmarshaler]()):
		return w.dec.SkipValue()
	case !fits(t, kind):
		return w.unknown()
	}
	switch t.Kind() {
	case reflect.Struct:
		fields := w.fieldsOf(t)
		return w.each(func(name string) error {
			if field, ok := fields[name]; ok {
				return w.value(field)
			}
			return w.unknown()
		})
	case reflect.Map, reflect.Slice:
		return w.each(func(string) error { return w.value(t.Elem()) })
	}
	return w.dec.SkipValue()
}

// each reads an object or a list, whose elements are read by read.
func (w *walker) each(read func(name string) error) error {
	begin, err := w.dec.ReadToken()
	if err != nil {
		return err
	}
	object := begin.Kind() == '{'
	for kind := w.dec.PeekKind(); kind != '}' && kind != ']'; kind = w.dec.PeekKind() {
		var name string
		if object {
			token, err := w.dec.ReadToken()
			if err != nil {
				return err
			}
			name = token.String()
		}
		if err := read(name); err != nil {
			return err
		}
	}
	_, err = w.dec.ReadToken()
	return err
}

// unknown reads a value that has no place.
func (w *walker) unknown() error {
	value, err := w.dec.ReadValue()
	if err != nil {
		return err
	}
	return w.add(value)
}

// add stores the value that was just read.
func (w *walker) add(value jsontext.Value) error {
	pointer := string(w.dec.StackPointer())
	if w.room -= len(pointer) + len(value) + unknownEntry; w.room < 0 {
		return errFull
	}
	w.found[pointer] = json.RawMessage(value.Clone())
	return nil
}

// fieldsOf returns the types of the fields of a struct by their names in JSON.
func (w *walker) fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := w.fields[t]; ok {
		return known
	}
	fields := map[string]reflect.Type{}
	for _, field := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); field.IsExported() && name != "" {
			fields[name] = field.Type
		} else if field.IsExported() && !field.Anonymous {
			fields[field.Name] = field.Type
		}
	}
	w.fields[t] = fields
	return fields
}
