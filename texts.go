package nomad

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// textReader reads the strings of a JSON text. What agents say, they say again: names of tags and keys, versions, regions,
// and all of it in the next answer. So strings that it has read lately are given once more, not made anew.
type textReader struct {
	jsontext.Decoder
	text    bytes.Buffer // that it reads
	scratch []byte
	lately  [512][2]string // by what their hashes end in, the last one first
}

const (
	// maxShared is the length in bytes of a string that may be given again. With the number of them it bounds what stays
	// in memory.
	maxShared = 64

	// maxPooledText is the length in bytes of a text whose reader is kept.
	maxPooledText = 1 << 20
)

var (
	textReaders = sync.Pool{New: func() any { return new(textReader) }}
	textSeed    = maphash.MakeSeed()
)

// string makes a string of bytes, or gives one that was made before.
func (r *textReader) string(b []byte) string {
	if len(b) > maxShared {
		return string(b)
	}
	two := &r.lately[maphash.Bytes(textSeed, b)%uint64(len(r.lately))]
	if two[0] != string(b) {
		if two[0], two[1] = two[1], two[0]; two[0] != string(b) {
			two[0] = string(b)
		}
	}
	return two[0]
}

// unquote is what a JSON string says. It is valid until something else is read.
func (r *textReader) unquote(value jsontext.Value) []byte {
	inner := value[1 : len(value)-1]
	for _, c := range inner {
		if c == '\\' || c >= 0x80 {
			r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], value)
			return r.scratch
		}
	}
	return inner
}

// name reads the name of an object's field. It is valid until something else is read.
func (r *textReader) name() ([]byte, error) {
	value, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	return r.unquote(value), nil
}

// begin reads the beginning of an object or list.
func (r *textReader) begin(want jsontext.Kind, what string) error {
	if kind := r.PeekKind(); kind != want && kind != jsontext.KindInvalid {
		return wrongKind(kind, what, want)
	}
	_, err := r.ReadToken()
	return err
}

func wrongKind(got jsontext.Kind, what string, want jsontext.Kind) error {
	return fmt.Errorf("%s begins with %q, want %q", what, got, want)
}

var errTwice = errors.New("a name comes twice in an object")
