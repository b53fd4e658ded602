package agentconfig

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/show"
)

// Difference is a value that differs between two configurations, as text. Lists and blocks are JSON.
type Difference struct {
	Path string `json:"path"`        // such as Server.RaftMultiplier, Consuls[0].Addr or Client.Meta[rack]
	A    string `json:"a,omitempty"` // value in the first configuration; empty if it is not set
	B    string `json:"b,omitempty"` // value in the second configuration; empty if it is not set
}

// String returns the difference on one line.
func (d Difference) String() string { return fmt.Sprintf("%s: %q -> %q", show.Line(d.Path), d.A, d.B) }

// Diff returns the values that differ between two configurations, sorted by path. A secret is "<redacted>", or empty if
// it is not set. A secret that the agent redacts cannot be compared. Lists of blocks, such as Consuls, are compared
// element by element, and lists of other values as a whole. A block that only one configuration has is compared with an
// empty block. A nil Config is empty. Values that belong to one agent, such as NodeName, are included. What Unknown
// returns is not compared.
func Diff(a, b *Config) []Difference {
	found := []Difference{}
	diff(reflect.ValueOf(*cmp.Or(a, new(Config))), reflect.ValueOf(*cmp.Or(b, new(Config))), "", &found)
	slices.SortFunc(found, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return found
}

// diff compares two values of one type. The zero reflect.Value stands for a value that is not set.
func diff(a, b reflect.Value, path string, found *[]Difference) {
	a, b = indirect(a), indirect(b)
	if a.IsValid() != b.IsValid() {
		n := len(*found)
		if one := cmp.Or(a, b); isBlock(one.Type()) {
			zero := reflect.Zero(one.Type())
			diff(cmp.Or(a, zero), cmp.Or(b, zero), path, found)
		}
		if len(*found) == n {
			*found = append(*found, Difference{path, text(a), text(b)})
		}
		return
	}
	if !a.IsValid() {
		return
	}
	switch t := a.Type(); {
	case isBlock(t):
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				diff(a.Field(i), b.Field(i), strings.TrimPrefix(path+"."+t.Field(i).Name, "."), found)
			}
		}
	case t.Kind() == reflect.Slice && isBlock(t.Elem()):
		for i := range max(a.Len(), b.Len()) {
			diff(index(a, i), index(b, i), fmt.Sprintf("%s[%d]", path, i), found)
		}
	case t.Kind() == reflect.Map:
		for _, key := range a.MapKeys() {
			diff(a.MapIndex(key), b.MapIndex(key), fmt.Sprintf("%s[%s]", path, key), found)
		}
		for _, key := range b.MapKeys() {
			if !a.MapIndex(key).IsValid() {
				diff(reflect.Value{}, b.MapIndex(key), fmt.Sprintf("%s[%s]", path, key), found)
			}
		}
	case t.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0:
	case !reflect.DeepEqual(a.Interface(), b.Interface()):
		*found = append(*found, Difference{path, text(a), text(b)})
	}
}

// indirect returns what a pointer points to.
func indirect(v reflect.Value) reflect.Value {
	if v.IsValid() && v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}

// index returns an element of a list, if it is that long.
func index(list reflect.Value, i int) reflect.Value {
	if i < list.Len() {
		return list.Index(i)
	}
	return reflect.Value{}
}

// text returns a value for people, without its secrets.
func text(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	switch value := v.Interface().(type) {
	case string:
		return value
	case time.Duration:
		return value.String()
	case encoding.TextMarshaler:
		b, _ := value.MarshalText()
		return string(b)
	}
	b, _ := marshal(v)
	return string(b)
}
