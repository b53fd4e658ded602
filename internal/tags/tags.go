// Package tags decodes the tags of members. Members share most names and values of their tags, so strings that were
// decoded lately are used again. That halves the time and the memory of a large list: see the benchmark.
package tags

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The limits of what is kept, and of the tags of one member. Serf allows 512 bytes of tags.
const (
	maxTags   = 1 << 10
	maxShared = 64 // bytes of a string
	slots     = 1 << 9
)

// recent are strings that were decoded lately, by their hash.
type recent [slots]string

var (
	seed = maphash.MakeSeed()
	pool = sync.Pool{New: func() any { return new(recent) }}
)

// Unmarshal decodes an object of strings into a map. It is for json.UnmarshalFromFunc.
func Unmarshal(dec *jsontext.Decoder, tags *map[string]string) error {
	if dec.PeekKind() != '{' {
		return errors.ErrUnsupported
	}
	value, err := dec.ReadValue()
	if err != nil {
		return err
	}
	n := bytes.Count(value, []byte(`":`))
	if n > maxTags {
		return fmt.Errorf("a member has more than %d tags", maxTags)
	}
	*tags = make(map[string]string, n)
	r := pool.Get().(*recent)
	defer pool.Put(r)
	if !r.simple(value, *tags) {
		clear(*tags)
		return json.Unmarshal(value, tags, jsontext.AllowInvalidUTF8(true))
	}
	return nil
}

// simple decodes an object whose names and values are strings in ASCII without escapes, and reports whether it is one. The
// object is valid JSON.
func (r *recent) simple(value []byte, tags map[string]string) bool {
	for i := 1; ; {
		key, next, ok := r.text(value, i)
		if !ok {
			return bytes.IndexByte(value[i:], '"') < 0 && value[len(value)-1] == '}' && len(bytes.TrimSpace(value[i:len(value)-1])) == 0
		}
		if next = skip(value, next); value[next] != ':' {
			return false
		}
		text, next, ok := r.text(value, next+1)
		if !ok {
			return false
		}
		tags[key] = text
		if i = skip(value, next); value[i] == ',' {
			i++
		}
	}
}

// text returns the string at i and where it ends. It is false for anything else.
func (r *recent) text(value []byte, i int) (text string, next int, ok bool) {
	if i = skip(value, i); value[i] != '"' {
		return "", 0, false
	}
	end := i + 1
	for ; value[end] != '"'; end++ {
		if value[end] == '\\' || value[end] >= 0x80 {
			return "", 0, false
		}
	}
	return r.share(value[i+1 : end]), end + 1, true
}

// skip returns where the white space at i ends.
func skip(value []byte, i int) int {
	for value[i] == ' ' || value[i] == '\t' || value[i] == '\n' || value[i] == '\r' {
		i++
	}
	return i
}

// share returns b as a string.
func (r *recent) share(b []byte) string {
	if len(b) > maxShared {
		return string(b)
	}
	s := &r[maphash.Bytes(seed, b)%slots]
	if *s != string(b) {
		*s = string(b)
	}
	return *s
}
