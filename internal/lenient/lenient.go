// Package lenient decodes JSON in which single values may have changed their type, as the configurations of Nomad's
// agents do from one version to the next. A value that does not fit its Go field is skipped and leaves the field zero.
// Unknown lists such values, and those that have no field.
package lenient

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxValues is the number of values that a document may have, ten times that of a large configuration. It bounds the
// memory for a document: the two bytes of an empty object may become a struct of a kilobyte.
const maxValues = 8192

// maxStrict is the size in bytes of a document that is decoded strictly first. Of long strings package json makes many
// copies.
const maxStrict = 1 << 18

// The strict unmarshalers fail for a value that does not fit. They take half the time of the tolerant ones.
var (
	strict   = json.JoinUnmarshalers(json.UnmarshalFromFunc(decodeDuration), json.UnmarshalFromFunc(decodeStrings))
	tolerant = json.UnmarshalFromFunc(decode)

	strictOptions, tolerantOptions = options(strict), options(tolerant)
)

func options(u *json.Unmarshalers) json.Options {
	return json.JoinOptions(jsontext.AllowInvalidUTF8(true), json.WithUnmarshalers(u))
}

// Register sets the function that decodes a type, in place of a method UnmarshalJSONFrom. An exported type cannot have that
// method: a type of another module would be a part of its API. Call it when the package is initialized.
func Register[T any](decode func(dec *jsontext.Decoder, out *T) error) {
	own := json.UnmarshalFromFunc(decode)
	strict, tolerant = json.JoinUnmarshalers(own, strict), json.JoinUnmarshalers(own, tolerant)
	strictOptions, tolerantOptions = options(strict), options(tolerant)
}

// Unmarshal decodes exactly one JSON value into the variable that out points to, in place of what it holds. A
// time.Duration may be a number of nanoseconds, or a string such as "10s", where "" is 0. Invalid UTF-8 is replaced.
//
// It fails for a syntax error, a name that occurs twice in an object, data after the value, a value that does not fit
// out as a whole, and a document with more than 8,192 values, which are counted by their commas.
func Unmarshal(data []byte, out any) error {
	if bytes.Count(data, []byte(",")) >= maxValues {
		return fmt.Errorf("more than %d values", maxValues)
	}
	v := reflect.ValueOf(out).Elem()
	v.SetZero()
	if len(data) < maxStrict {
		if json.Unmarshal(data, out, strictOptions) == nil {
			return nil
		}
		v.SetZero()
	}
	return json.Unmarshal(data, out, tolerantOptions)
}

// UnmarshalFrom decodes the next value of dec into out as Unmarshal does, and returns a copy of the value. The copy is
// a string, as package fmt never prints what a pointer to a string points to.
func UnmarshalFrom(dec *jsontext.Decoder, out any) (string, error) {
	if u, _ := json.GetOption(dec.Options(), json.WithUnmarshalers); u != strict && u != tolerant {
		value, err := dec.ReadValue()
		if err != nil {
			return "", err
		}
		raw := string(value)
		return raw, Unmarshal([]byte(raw), out)
	}
	// In a call of Unmarshal dec has the whole document in its buffer, so the value need not be read twice.
	rest, start := dec.UnreadBuffer(), dec.InputOffset()
	err := json.UnmarshalDecode(dec, out)
	rest = rest[:dec.InputOffset()-start]
	return string(bytes.TrimLeft(rest, " \t\r\n:,")), err
}

// decodeDuration decodes both forms of a duration.
func decodeDuration(dec *jsontext.Decoder, out *time.Duration) error {
	value, err := dec.ReadValue()
	if err == nil && value.Kind() != 'n' && !store(out, value) {
		err = errors.New("not a duration")
	}
	return err
}

// decodeStrings decodes a map of strings in a third of the time that package json takes.
func decodeStrings(dec *jsontext.Decoder, out *map[string]string) error {
	if dec.PeekKind() != '{' {
		return errors.ErrUnsupported
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*out = map[string]string{}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		value, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if value.Kind() != '"' {
			return errors.New("not a string")
		}
		(*out)[key] = value.String()
	}
	_, err := dec.ReadToken()
	return err
}

// decode skips a value that does not fit. An object or a list that fits is left to package json, which calls decode for
// its elements.
func decode(dec *jsontext.Decoder, out any) error {
	if dec.StackDepth() == 0 {
		return errors.ErrUnsupported
	}
	switch out.(type) {
	case encoding.TextUnmarshaler: // preferred, as of a time.Time
	case json.Unmarshaler, json.UnmarshalerFrom:
		return errors.ErrUnsupported
	}
	v, kind := reflect.ValueOf(out).Elem(), dec.PeekKind()
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case kind == 'n', fits(t, kind):
		return errors.ErrUnsupported
	case !isLeaf(t):
		return dec.SkipValue()
	}
	value, err := dec.ReadValue()
	if elem := reflect.New(t); err == nil && store(elem.Interface(), value) {
		if v.Kind() != reflect.Pointer {
			elem = elem.Elem()
		}
		v.Set(elem)
	}
	return err
}

// fits reports whether a value is of the kind that a type without leaves needs.
func fits(t reflect.Type, kind jsontext.Kind) bool {
	switch {
	case isLeaf(t):
		return false
	case t.Kind() == reflect.Slice:
		return kind == '['
	case t.Kind() == reflect.Interface:
		return true
	}
	return kind == '{'
}

// isLeaf reports whether values of a type have no elements.
func isLeaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		return false
	case reflect.Struct:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	}
	return true
}

// store sets what out points to, which has no elements, and reports whether the value fits.
func store(out any, value jsontext.Value) bool {
	kind := value.Kind()
	var text []byte
	if kind == '"' {
		text = unquote(value)
	}
	switch out := out.(type) {
	case *time.Duration:
		if kind == '"' && len(text) < 100 { // of a longer one, the error would take much memory
			d, err := time.ParseDuration(string(text))
			*out = d
			return err == nil || len(text) == 0
		}
	case encoding.TextUnmarshaler:
		return kind == '"' && out.UnmarshalText(text) == nil
	}
	switch v := reflect.ValueOf(out).Elem(); {
	case kind == '"' && v.Kind() == reflect.String:
		v.SetString(string(text))
		return true
	case (kind == 't' || kind == 'f') && v.Kind() == reflect.Bool:
		v.SetBool(kind == 't')
		return true
	case kind == '0' && v.CanInt():
		n, err := strconv.ParseInt(string(value), 10, v.Type().Bits())
		v.SetInt(n)
		return err == nil
	case kind == '0' && v.CanUint():
		n, err := strconv.ParseUint(string(value), 10, v.Type().Bits())
		v.SetUint(n)
		return err == nil
	case kind == '0' && v.CanFloat():
		n, err := strconv.ParseFloat(string(value), v.Type().Bits())
		v.SetFloat(n)
		return err == nil
	}
	return false
}

// unquote returns the text of a JSON string. It may share memory with it.
func unquote(value jsontext.Value) []byte {
	for _, c := range value {
		if c == '\\' || c >= utf8.RuneSelf {
			// Invalid UTF-8 takes three times the bytes.
			text, _ := jsontext.AppendUnquote(make([]byte, 0, 3*len(value)), value)
			return text
		}
	}
	return value[1 : len(value)-1]
}
