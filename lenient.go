package nomad

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// This file reads and writes JSON that changes from one version of Nomad to the next, which configurations do. What a
// struct has no field for, and what does not fit its field, is kept beside the fields and written again; neither fails
// what is around it. Durations are read as numbers of nanoseconds and as text, and written in the form that they came in.

// object is embedded in the structs that keep what they cannot hold. It is a pointer so that printing such a struct
// does not print what is kept.
type object struct{ *kept }

// kept is what an object has beside the fields of its struct.
type kept struct {
	seen    fieldSet                  // the fields that were there
	variant fieldSet                  // the fields that came in their other form: durations as text, lists as one object
	rest    map[string]jsontext.Value // all else, by JSON Pointer below this object
}

func (o *object) own() *object { return o }

// keep stores a value under a path below the object. Without an object the value is lost.
func (k *kept) keep(path string, value jsontext.Value) {
	if k == nil {
		return
	}
	if k.rest == nil {
		k.rest = map[string]jsontext.Value{}
	}
	k.rest[path] = value.Clone()
}

// below lists the keys of what is kept, by the path that they are below.
func (k *kept) below() map[string][]string {
	index := map[string][]string{}
	for path := range k.rest {
		parent, key := "", path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			parent, key = path[:i], path[i+1:]
		}
		index[parent] = append(index[parent], unescape(key))
	}
	return index
}

// fieldSet is a set of the indexes of fields.
type fieldSet [2]uint64

func (s *fieldSet) add(i int)     { s[i/64] |= 1 << (i % 64) }
func (s fieldSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// layout is what is known about a struct type.
type layout struct {
	fields  []fieldLayout
	byName  map[string]int
	singles map[string]int // keys that hold one element of a list's field
	keeps   bool
}

type fieldLayout struct {
	name   string
	single string
	index  int
}

var layouts sync.Map // of *layout, by reflect.Type

func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	l := &layout{byName: map[string]int{}, singles: map[string]int{}}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == reflect.TypeFor[object]() {
			l.keeps = true
		}
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		field := fieldLayout{name: cmp.Or(name, f.Name), single: f.Tag.Get("single"), index: i}
		l.byName[field.name] = len(l.fields)
		if field.single != "" {
			l.singles[field.single] = len(l.fields)
		}
		l.fields = append(l.fields, field)
	}
	known, _ := layouts.LoadOrStore(t, l)
	return known.(*layout)
}

// objectOf is the object that is embedded in a struct, or nil.
func (l *layout) objectOf(v reflect.Value) *object {
	if !l.keeps {
		return nil
	}
	return v.Addr().Interface().(interface{ own() *object }).own()
}

// reader reads values of one document.
type reader struct {
	dec  *jsontext.Decoder
	slab []kept // room for the objects to come
	kept int64  // what is kept beside the fields, in bytes
}

// What is kept takes more memory than its text. No configuration has nearly as much of it as this.
const (
	keptCost = 100     // bytes for a value
	keptMost = 1 << 20 // and twice the text
)

// spend counts what is kept.
func (r *reader) spend(n int) error {
	if r.kept += int64(n); r.kept > keptMost+2*r.dec.InputOffset() {
		return errors.New("too much of it has no place in the result")
	}
	return nil
}

// keep stores a value under a path below an object.
func (r *reader) keep(o *kept, path string, value jsontext.Value) error {
	o.keep(path, value)
	return r.spend(len(path) + len(value) + keptCost)
}

// below makes the path of what is in a list or map. Long ones count, as each value below them has a copy.
func (r *reader) below(path, key string) (string, error) {
	path += "/" + key
	if len(path) > 1024 {
		return path, r.spend(len(path))
	}
	return path, nil
}

// newKept makes room in large pieces: a configuration has about fifty objects.
func (r *reader) newKept() *kept {
	if len(r.slab) == 0 {
		r.slab = make([]kept, 64)
	}
	k := &r.slab[0]
	r.slab = r.slab[1:]
	return k
}

// readStruct reads an object. Its errors are of syntax only.
func (r *reader) readStruct(v reflect.Value) error {
	l := layoutOf(v.Type())
	var o *kept
	if object := l.objectOf(v); object != nil {
		object.kept = r.newKept()
		o = object.kept
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() == '"' {
		name, err := r.dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		if i, ok := l.byName[key]; ok {
			if o != nil && o.seen.has(i) { // it came as one object before
				err = r.skip(o, pointer(key))
			} else {
				err = r.readField(v, o, l, i, key)
			}
		} else if i, ok := l.singles[key]; ok && o != nil && r.dec.PeekKind() == '{' && !o.seen.has(i) {
			list := v.Field(l.fields[i].index)
			list.Set(reflect.MakeSlice(list.Type(), 1, 1))
			o.seen.add(i)
			o.variant.add(i)
			err = r.readStruct(list.Index(0))
		} else {
			err = r.skip(o, pointer(key))
		}
		if err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

func (r *reader) readField(v reflect.Value, o *kept, l *layout, i int, key string) error {
	variant, err := r.read(v.Field(l.fields[i].index), o, key)
	if o != nil {
		o.seen.add(i)
		if variant {
			o.variant.add(i)
		}
	}
	return err
}

// skip keeps a value as it is.
func (r *reader) skip(o *kept, path string) error {
	value, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	return r.keep(o, path, value)
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	secretType          = reflect.TypeFor[Secret]()
	rawType             = reflect.TypeFor[json.RawMessage]()
)

// read reads a value into v if it fits, and keeps it under the path if not. It tells whether a duration came as text.
func (r *reader) read(v reflect.Value, o *kept, path string) (variant bool, err error) {
	kind := r.dec.PeekKind()
	switch t := v.Type(); {
	case t == durationType:
		return r.readDuration(v, o, path, kind)
	case t == rawType:
		value, err := r.dec.ReadValue()
		v.SetBytes(value.Clone())
		return false, err
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		return false, r.readText(v, o, path, kind)
	}
	switch v.Kind() {
	case reflect.String:
		if kind != '"' && kind != 'n' {
			return false, r.skip(o, path)
		}
		token, err := r.dec.ReadToken()
		if err == nil && kind == '"' {
			v.SetString(token.String())
		}
		return false, err
	case reflect.Bool:
		if kind != 't' && kind != 'f' {
			return false, r.skip(o, path)
		}
		token, err := r.dec.ReadToken()
		if err == nil {
			v.SetBool(token.Bool())
		}
		return false, err
	case reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Float64:
		return false, r.readNumber(v, o, path)
	case reflect.Pointer:
		if kind == 'n' {
			_, err := r.dec.ReadToken()
			return false, err
		}
		if fits(v.Type().Elem(), kind) {
			v.Set(reflect.New(v.Type().Elem()))
			variant, err := r.read(v.Elem(), o, path)
			if o != nil && o.rest[path] != nil {
				v.SetZero() // it did not fit after all
			}
			return variant, err
		}
	case reflect.Struct:
		if kind == '{' {
			return false, r.readStruct(v)
		}
	case reflect.Slice:
		if kind == 'n' {
			_, err := r.dec.ReadToken()
			return false, err
		}
		if kind == '[' {
			return false, r.readList(v, o, path)
		}
	case reflect.Map:
		if kind == 'n' {
			_, err := r.dec.ReadToken()
			return false, err
		}
		if kind == '{' {
			return false, r.readMap(v, o, path)
		}
	}
	return false, r.skip(o, path)
}

// fits tells whether a value of a kind has a chance to fit a type, so that a pointer to it is made.
func fits(t reflect.Type, kind jsontext.Kind) bool {
	switch {
	case t == durationType:
		return kind == '0' || kind == '"'
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		return kind == '"'
	}
	switch t.Kind() {
	case reflect.String:
		return kind == '"'
	case reflect.Bool:
		return kind == 't' || kind == 'f'
	case reflect.Struct, reflect.Map:
		return kind == '{'
	case reflect.Slice:
		return kind == '['
	}
	return kind == '0'
}

func (r *reader) readDuration(v reflect.Value, o *kept, path string, kind jsontext.Kind) (text bool, err error) {
	value, err := r.dec.ReadValue()
	if err != nil {
		return false, err
	}
	switch kind {
	case '0':
		if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			v.SetInt(n)
			return false, nil
		}
	case '"':
		unquoted, _ := jsontext.AppendUnquote(nil, value)
		if len(unquoted) == 0 {
			return true, nil
		}
		if d, err := time.ParseDuration(string(unquoted)); err == nil {
			v.SetInt(int64(d))
			return true, nil
		}
	}
	return false, r.keep(o, path, value)
}

func (r *reader) readText(v reflect.Value, o *kept, path string, kind jsontext.Kind) error {
	value, err := r.dec.ReadValue()
	if err != nil || kind == 'n' {
		return err
	}
	if kind == '"' {
		unquoted, _ := jsontext.AppendUnquote(nil, value)
		if v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(unquoted) == nil {
			return nil
		}
	}
	v.SetZero()
	return r.keep(o, path, value)
}

func (r *reader) readNumber(v reflect.Value, o *kept, path string) error {
	value, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Float64:
		if f, err := strconv.ParseFloat(string(value), 64); err == nil {
			v.SetFloat(f)
			return nil
		}
	case reflect.Uint8, reflect.Uint16:
		if n, err := strconv.ParseUint(string(value), 10, v.Type().Bits()); err == nil {
			v.SetUint(n)
			return nil
		}
	default:
		if n, err := strconv.ParseInt(string(value), 10, v.Type().Bits()); err == nil {
			v.SetInt(n)
			return nil
		}
	}
	return r.keep(o, path, value)
}

// readList reads a list. An element that does not fit stays zero, so that the others keep their places.
func (r *reader) readList(v reflect.Value, o *kept, path string) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), 0, 4)
	zero := reflect.Zero(v.Type().Elem())
	for i := 0; r.dec.PeekKind() != ']'; i++ {
		if r.dec.PeekKind() == jsontext.KindInvalid {
			break
		}
		list = reflect.Append(list, zero)
		below, err := r.below(path, strconv.Itoa(i))
		if err != nil {
			return err
		}
		if _, err := r.read(list.Index(i), o, below); err != nil {
			return err
		}
	}
	v.Set(list)
	_, err := r.dec.ReadToken()
	return err
}

// readMap reads a map with names for keys.
func (r *reader) readMap(v reflect.Value, o *kept, path string) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	m := reflect.MakeMap(v.Type())
	element := reflect.New(v.Type().Elem()).Elem()
	for r.dec.PeekKind() == '"' {
		name, err := r.dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String()
		below, err := r.below(path, pointer(key))
		if err != nil {
			return err
		}
		element.SetZero()
		if _, err := r.read(element, o, below); err != nil {
			return err
		}
		if o == nil || o.rest[below] == nil {
			m.SetMapIndex(reflect.ValueOf(key), element)
		}
	}
	v.Set(m)
	_, err := r.dec.ReadToken()
	return err
}

// pointer escapes a key for a JSON Pointer.
func pointer(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// sortedNames are the keys of a map, in order.
func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func unescape(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
}

// writer writes values with what was kept beside them.
type writer struct {
	b     []byte
	below map[*kept]map[string][]string // see kept.below, for the objects that keep something
}

// kept lists the keys that an object keeps below a path.
func (w *writer) kept(o *kept, path string) []string {
	if len(o.rest) == 0 {
		return nil
	}
	if w.below[o] == nil {
		w.below[o] = o.below()
	}
	return w.below[o][path]
}

func (w *writer) key(first bool, name string) {
	if !first {
		w.b = append(w.b, ',')
	}
	w.b, _ = jsontext.AppendQuote(w.b, name)
	w.b = append(w.b, ':')
}

func (w *writer) writeStruct(v reflect.Value) error {
	l := layoutOf(v.Type())
	o := l.objectOf(v).kept
	if o == nil { // it was not read
		o = new(kept)
		for i := range l.fields {
			o.seen.add(i)
		}
	}
	w.b = append(w.b, '{')
	first := true
	written := map[string]bool{}
	for i, f := range l.fields {
		field, name := v.Field(f.index), f.name
		if !o.seen.has(i) && field.IsZero() {
			continue
		}
		variant := o.variant.has(i)
		if f.single != "" && variant && field.Len() == 1 {
			w.key(first, f.single)
			first = false
			if err := w.writeStruct(field.Index(0)); err != nil {
				return err
			}
			continue
		}
		w.key(first, name)
		first = false
		written[pointer(name)] = true
		if kept, ok := o.rest[pointer(name)]; ok && field.IsZero() {
			w.b = append(w.b, kept...)
		} else if err := w.write(field, o, pointer(name), variant); err != nil {
			return err
		}
	}
	for _, path := range sortedNames(o.rest) {
		if !strings.Contains(path, "/") && !written[path] {
			w.key(first, unescape(path))
			first = false
			w.b = append(w.b, o.rest[path]...)
		}
	}
	w.b = append(w.b, '}')
	return nil
}

func (w *writer) write(v reflect.Value, o *kept, path string, variant bool) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			w.b = append(w.b, "null"...)
			return nil
		}
		return w.write(v.Elem(), o, path, variant)
	case reflect.Struct:
		if v.Type() == secretType {
			w.b, _ = jsontext.AppendQuote(w.b, v.Interface().(Secret).Reveal())
			return nil
		}
		if layoutOf(v.Type()).keeps {
			return w.writeStruct(v)
		}
	case reflect.Slice:
		if v.Type() == rawType && v.Len() > 0 {
			w.b = append(w.b, v.Bytes()...)
			return nil
		}
		if v.IsNil() {
			w.b = append(w.b, "null"...)
			return nil
		}
		w.b = append(w.b, '[')
		for i := range v.Len() {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			below := path + "/" + strconv.Itoa(i)
			if kept, ok := o.rest[below]; ok && v.Index(i).IsZero() {
				w.b = append(w.b, kept...)
			} else if err := w.write(v.Index(i), o, below, false); err != nil {
				return err
			}
		}
		w.b = append(w.b, ']')
		return nil
	case reflect.Map:
		if v.IsNil() {
			w.b = append(w.b, "null"...)
			return nil
		}
		return w.writeMap(v, o, path)
	case reflect.Int64:
		if v.Type() == durationType && variant {
			text := ""
			if d := time.Duration(v.Int()); d != 0 {
				text = d.String()
			}
			w.b, _ = jsontext.AppendQuote(w.b, text)
			return nil
		}
	}
	encoded, err := json.Marshal(v.Interface())
	w.b = append(w.b, encoded...)
	return err
}

// writeMap writes a map, with the elements that did not fit it.
func (w *writer) writeMap(v reflect.Value, o *kept, path string) error {
	keys := map[string]bool{}
	for _, key := range v.MapKeys() {
		keys[key.String()] = true
	}
	for _, key := range w.kept(o, path) {
		keys[key] = true
	}
	w.b = append(w.b, '{')
	for i, key := range sortedNames(keys) {
		w.key(i == 0, key)
		below := path + "/" + pointer(key)
		if element := v.MapIndex(reflect.ValueOf(key)); !element.IsValid() {
			w.b = append(w.b, o.rest[below]...)
		} else if err := w.write(element, o, below, false); err != nil {
			return err
		}
	}
	w.b = append(w.b, '}')
	return nil
}

// unmarshalLenient reads one JSON object into a struct.
func unmarshalLenient(data []byte, out any) error {
	if string(data) == "null" {
		return nil // by convention
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), decodeOptions)
	return readLenient(dec, out)
}

// readLenient reads one JSON object and then the end.
func readLenient(dec *jsontext.Decoder, out any) error {
	if kind := dec.PeekKind(); kind != '{' {
		if kind == jsontext.KindInvalid {
			_, err := dec.ReadToken()
			return noEOF(err)
		}
		return fmt.Errorf("it begins with %q, want an object", kind)
	}
	v := reflect.ValueOf(out).Elem()
	v.SetZero()
	r := &reader{dec: dec}
	if err := r.readStruct(v); err != nil {
		return noEOF(err)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// marshalLenient writes a struct that was read so, with all that was kept.
func marshalLenient(in any) ([]byte, error) {
	w := &writer{b: make([]byte, 0, 16<<10), below: map[*kept]map[string][]string{}}
	if err := w.writeStruct(reflect.ValueOf(in).Elem()); err != nil {
		return nil, err
	}
	return w.b, nil
}

// collectRest gathers what the objects in v have kept, by path.
func collectRest(v reflect.Value, path string, into map[string]json.RawMessage) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			collectRest(v.Elem(), path, into)
		}
	case reflect.Slice:
		for i := range v.Len() {
			collectRest(v.Index(i), path+"/"+strconv.Itoa(i), into)
		}
	case reflect.Struct:
		l := layoutOf(v.Type())
		object := l.objectOf(v)
		if object == nil {
			return
		}
		if object.kept != nil {
			for below, value := range object.rest {
				into[path+"/"+below] = json.RawMessage(value)
			}
		}
		for _, f := range l.fields {
			collectRest(v.Field(f.index), path+"/"+pointer(f.name), into)
		}
	}
}
