package nomad

import (
	"cmp"
	"context"
	"encoding"
	"encoding/json"
	"errors"
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

// shape is what is known about a type.
type shape struct {
	class   class
	bits    int // of a number
	elem    *shape
	layout  *layout
	strings bool // a map of them
}

// class is how values of a type are read.
type class int

const (
	classNone class = iota // not at all
	classString
	classBool
	classInt
	classUint
	classFloat
	classDuration
	classText // by UnmarshalText
	classRaw
	classPointer
	classStruct
	classList
	classMap
)

// layout is what is known about a struct type.
type layout struct {
	fields  []fieldLayout
	byName  map[string]int
	singles map[string]int // keys that hold one element of a list's field
	object  int            // the index of the object that is embedded, or -1
}

type fieldLayout struct {
	name   string
	single string
	index  int
	shape  *shape
}

var shapes sync.Map // of *shape, by reflect.Type

// shapeOf finds or makes the shape of a type, which must not contain itself.
func shapeOf(t reflect.Type) *shape {
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	known, _ := shapes.LoadOrStore(t, newShape(t))
	return known.(*shape)
}

func newShape(t reflect.Type) *shape {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return &shape{class: classDuration}
	case t == rawType:
		return &shape{class: classRaw}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return &shape{class: classText}
	}
	switch t.Kind() {
	case reflect.String:
		return &shape{class: classString}
	case reflect.Bool:
		return &shape{class: classBool}
	case reflect.Int, reflect.Int64:
		return &shape{class: classInt, bits: t.Bits()}
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		return &shape{class: classUint, bits: t.Bits()}
	case reflect.Float64:
		return &shape{class: classFloat}
	case reflect.Pointer:
		return &shape{class: classPointer, elem: shapeOf(t.Elem())}
	case reflect.Slice:
		return &shape{class: classList, elem: shapeOf(t.Elem())}
	case reflect.Map:
		return &shape{class: classMap, elem: shapeOf(t.Elem()), strings: t == reflect.TypeFor[map[string]string]()}
	case reflect.Struct:
		return &shape{class: classStruct, layout: newLayout(t)}
	}
	return &shape{}
}

func newLayout(t reflect.Type) *layout {
	l := &layout{byName: map[string]int{}, singles: map[string]int{}, object: -1}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == reflect.TypeFor[object]() {
			l.object = i
		}
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		field := fieldLayout{name: cmp.Or(name, f.Name), single: f.Tag.Get("single"), index: i, shape: shapeOf(f.Type)}
		l.byName[field.name] = len(l.fields)
		if field.single != "" {
			l.singles[field.single] = len(l.fields)
		}
		l.fields = append(l.fields, field)
	}
	return l
}

// layoutOf is the layout of a struct type, and nil of one that is read as text.
func layoutOf(t reflect.Type) *layout { return shapeOf(t).layout }

// objectOf is the object that is embedded in a struct, or nil.
func (l *layout) objectOf(v reflect.Value) *object {
	if l == nil || l.object < 0 {
		return nil
	}
	return v.Addr().Interface().(interface{ own() *object }).own()
}

// lenientReader reads the values of one document.
type lenientReader struct {
	*textReader
	path []step // from the document to where it is
	base int    // how much of that leads to the object that keeps things
	slab []kept // room for the objects to come
	kept int64  // what is kept beside the fields, in bytes
}

// step leads to a field, or to an element of a list.
type step struct {
	key   string
	index int
}

// What is kept takes more memory than its text. No configuration has nearly as much of it as this.
const (
	keptCost = 100     // bytes for a value
	keptMost = 1 << 20 // and twice the text
)

// form is how a value came.
type form int

const (
	plain form = iota
	other      // a duration as text
	stray      // as something that has no place in the result
)

// keep stores a value that has no place in the result beside the fields of the object that it is in.
func (r *lenientReader) keep(o *kept, value jsontext.Value) (form, error) {
	if o == nil { // it is lost
		return stray, nil
	}
	var path strings.Builder
	for i, step := range r.path[r.base:] {
		if i > 0 {
			path.WriteByte('/')
		}
		if step.key != "" || step.index < 0 {
			path.WriteString(pointer(step.key))
		} else {
			path.WriteString(strconv.Itoa(step.index))
		}
	}
	if err := r.spend(path.Len() + len(value) + keptCost); err != nil {
		return stray, err
	}
	if o.rest == nil {
		o.rest = map[string]jsontext.Value{}
	}
	if _, ok := o.rest[path.String()]; ok {
		return stray, errTwice
	}
	o.rest[path.String()] = value.Clone()
	return stray, nil
}

// spend counts what is kept.
func (r *lenientReader) spend(n int) error {
	if r.kept += int64(n); r.kept > keptMost+2*r.InputOffset() {
		return errors.New("too much of it has no place in the result")
	}
	return nil
}

// enter goes to an element of a list or map. What is below long names counts, as to write it takes a copy of them.
func (r *lenientReader) enter(to step) error {
	r.path[len(r.path)-1] = to
	length := 0
	for _, step := range r.path[r.base:] {
		length += len(step.key) + 1
	}
	if length > 1024 {
		return r.spend(length)
	}
	return nil
}

// skip keeps the next value as it is.
func (r *lenientReader) skip(o *kept) (form, error) {
	value, err := r.ReadValue()
	if err != nil {
		return stray, err
	}
	return r.keep(o, value)
}

// newKept makes room in large pieces: a configuration has about fifty objects.
func (r *lenientReader) newKept() *kept {
	if len(r.slab) == 0 {
		r.slab = make([]kept, 64)
	}
	k := &r.slab[0]
	r.slab = r.slab[1:]
	return k
}

// object reads an object into a struct. Its errors are of syntax only.
func (r *lenientReader) object(v reflect.Value, l *layout) error {
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	return r.fields(v, l)
}

// fields reads what is in an object, and its end.
func (r *lenientReader) fields(v reflect.Value, l *layout) error {
	var o *kept
	outer := r.base
	r.base = len(r.path)
	if object := l.objectOf(v); object != nil {
		object.kept = r.newKept()
		o = object.kept
	}
	var seen, variant, single fieldSet
	for r.PeekKind() == '"' {
		name, err := r.name()
		if err != nil {
			return err
		}
		i, known := l.byName[string(name)]
		key, one := "", false
		if known {
			key = l.fields[i].name
		} else if i, one = l.singles[string(name)]; one {
			key = l.fields[i].single // the name is gone when the next value is looked at
			one = o != nil && r.PeekKind() == '{'
		} else {
			key = string(name)
		}
		switch {
		case known && seen.has(i) && !single.has(i), one && single.has(i):
			return errTwice
		case known && !seen.has(i):
			r.path = append(r.path, step{key: key, index: -1})
			var f form
			f, err = r.value(v.Field(l.fields[i].index), l.fields[i].shape, o)
			seen.add(i)
			if f == other {
				variant.add(i)
			}
		case one && !seen.has(i):
			list := v.Field(l.fields[i].index)
			list.Set(reflect.MakeSlice(list.Type(), 1, 1))
			seen.add(i)
			variant.add(i)
			single.add(i)
			r.path = append(r.path, step{key: key, index: -1})
			err = r.object(list.Index(0), l.fields[i].shape.elem.layout)
		default:
			r.path = append(r.path, step{key: key, index: -1})
			_, err = r.skip(o)
		}
		if err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
	}
	if o != nil {
		o.seen, o.variant = seen, variant
	}
	r.base = outer
	_, err := r.ReadToken()
	return err
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

// value reads a value into v if it fits, and keeps it beside the fields of o if not.
func (r *lenientReader) value(v reflect.Value, s *shape, o *kept) (form, error) {
	kind := r.PeekKind()
	switch s.class {
	case classStruct:
		if kind == '{' {
			return plain, r.object(v, s.layout)
		}
		return r.skip(o)
	case classList, classMap, classPointer:
		switch {
		case kind == 'n':
			return plain, r.SkipValue()
		case s.class == classList && kind == '[':
			return plain, r.list(v, s, o)
		case s.class == classMap && kind == '{':
			return plain, r.table(v, s, o)
		case s.class == classPointer && s.elem.mayTake(kind):
			v.Set(reflect.New(v.Type().Elem()))
			f, err := r.value(v.Elem(), s.elem, o)
			if f == stray {
				v.SetZero() // it did not fit after all
			}
			return f, err
		}
		return r.skip(o)
	}
	value, err := r.ReadValue()
	if err != nil {
		return plain, err
	}
	if f, ok := r.leaf(v, s, kind, value); ok {
		return f, nil
	}
	return r.keep(o, value)
}

// leaf reads a value that has no others in it, and reports whether it fits.
func (r *lenientReader) leaf(v reflect.Value, s *shape, kind jsontext.Kind, value jsontext.Value) (f form, ok bool) {
	switch s.class {
	case classString:
		if kind == '"' {
			v.SetString(r.string(value))
		}
		return plain, kind == '"' || kind == 'n'
	case classBool:
		v.SetBool(kind == 't')
		return plain, kind == 't' || kind == 'f'
	case classInt:
		n, err := strconv.ParseInt(string(value), 10, s.bits)
		if err == nil {
			v.SetInt(n)
		}
		return plain, err == nil
	case classUint:
		n, err := strconv.ParseUint(string(value), 10, s.bits)
		if err == nil {
			v.SetUint(n)
		}
		return plain, err == nil
	case classFloat:
		n, err := strconv.ParseFloat(string(value), 64)
		if err == nil && kind == '0' {
			v.SetFloat(n)
		}
		return plain, err == nil && kind == '0'
	case classDuration:
		switch kind {
		case '0':
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err == nil {
				v.SetInt(n)
			}
			return plain, err == nil
		case '"':
			text := r.unquote(value)
			if len(text) == 0 {
				return other, true
			}
			d, err := time.ParseDuration(string(text))
			if err == nil {
				v.SetInt(int64(d))
			}
			return other, err == nil
		}
	case classText:
		if kind == 'n' {
			return plain, true
		}
		if kind == '"' && v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(r.unquote(value)) == nil {
			return plain, true
		}
		v.SetZero()
	case classRaw:
		v.SetBytes(value.Clone())
		return plain, true
	}
	return stray, false
}

// mayTake tells whether a value of a kind has a chance to fit, so that a pointer to it is made.
func (s *shape) mayTake(kind jsontext.Kind) bool {
	switch s.class {
	case classDuration:
		return kind == '0' || kind == '"'
	case classString, classText:
		return kind == '"'
	case classBool:
		return kind == 't' || kind == 'f'
	case classStruct, classMap:
		return kind == '{'
	case classList:
		return kind == '['
	}
	return kind == '0'
}

// list reads a list. An element that does not fit stays zero, so that the others keep their places.
func (r *lenientReader) list(v reflect.Value, s *shape, o *kept) error {
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	list := reflect.MakeSlice(v.Type(), 0, 4)
	zero := reflect.Zero(v.Type().Elem())
	r.path = append(r.path, step{})
	at := len(r.path) - 1
	for i := 0; r.PeekKind() != ']'; i++ {
		if r.PeekKind() == jsontext.KindInvalid {
			break
		}
		if err := r.enter(step{index: i}); err != nil {
			return err
		}
		list = reflect.Append(list, zero)
		if _, err := r.value(list.Index(i), s.elem, o); err != nil {
			return err
		}
	}
	r.path = r.path[:at]
	v.Set(list)
	_, err := r.ReadToken()
	return err
}

// table reads an object into a map with names for keys.
func (r *lenientReader) table(v reflect.Value, s *shape, o *kept) error {
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	m := reflect.MakeMap(v.Type())
	var texts map[string]string
	if s.strings {
		texts = m.Interface().(map[string]string)
	}
	element := reflect.New(v.Type().Elem()).Elem()
	r.path = append(r.path, step{index: -1})
	at := len(r.path) - 1
	var strays map[string]bool
	for n := 0; r.PeekKind() == '"'; {
		key, err := r.key()
		if err != nil {
			return err
		}
		if err := r.enter(step{key: key, index: -1}); err != nil {
			return err
		}
		element.SetZero()
		f, err := r.value(element, s.elem, o)
		switch {
		case err != nil:
			return err
		case strays[key], f == stray && m.MapIndex(reflect.ValueOf(key)).IsValid():
			return errTwice
		case f == stray:
			if strays == nil {
				strays = map[string]bool{}
			}
			strays[key] = true
			continue
		case texts != nil:
			texts[key] = element.String()
		default:
			m.SetMapIndex(reflect.ValueOf(key), element)
		}
		if n++; m.Len() != n {
			return errTwice
		}
	}
	r.path = r.path[:at]
	v.Set(m)
	_, err := r.ReadToken()
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
		if l := layoutOf(v.Type()); l != nil && l.object >= 0 {
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

// parseLenient is the parser of structs that keep what they cannot hold.
func parseLenient[T any](ctx context.Context, body []byte, out *T) error {
	return tokens(ctx, body, func(text *textReader) error {
		if err := text.begin('{', "it"); err != nil {
			return err
		}
		v := reflect.ValueOf(out).Elem()
		v.SetZero()
		return (&lenientReader{textReader: text}).fields(v, layoutOf(v.Type()))
	})
}

// unmarshalLenient is an UnmarshalJSON of such structs.
func unmarshalLenient[T any](data []byte, out *T) error {
	if string(data) == "null" {
		return nil // by convention
	}
	return parseLenient(context.Background(), data, out)
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
