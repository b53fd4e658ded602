package nomad

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// textReader reads the strings of a JSON text. What agents say, they say again: names of tags and keys, versions, regions,
// and all of it in the next answer. So strings that it has read lately are given once more, not made anew.
type textReader struct {
	jsontext.Decoder
	text    bytes.Buffer // that it reads
	scratch []byte
	lately  [1 << slotBits][2]string // without escapes and in ASCII; by slot, the last one first
}

const (
	slotBits = 9

	// maxShared is the length in bytes of a string that may be given again. With the number of them it bounds what stays
	// in memory.
	maxShared = 64

	// maxPooledText is the length in bytes of a text whose reader is kept.
	maxPooledText = 1 << 20
)

var textReaders = sync.Pool{New: func() any { return new(textReader) }}

// string is what a JSON string says.
func (r *textReader) string(value jsontext.Value) string {
	inner := value[1 : len(value)-1]
	if len(inner) > maxShared {
		return string(r.unquote(value))
	}
	two := &r.lately[slot(inner)]
	if two[0] == string(inner) {
		return two[0]
	}
	if two[1] != string(inner) {
		if !isPlain(inner) {
			return string(r.unquote(value))
		}
		two[1] = string(inner)
	}
	two[0], two[1] = two[1], two[0]
	return two[0]
}

// slot spreads strings over slots. It looks at both ends, which is where most differ.
func slot(b []byte) uint64 {
	n := uint64(len(b))
	mix := n << 24
	switch {
	case n >= 8:
		mix ^= binary.LittleEndian.Uint64(b) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(b[n-8:]), 31)
	case n > 0:
		mix ^= uint64(b[0]) | uint64(b[n/2])<<8 | uint64(b[n-1])<<16
	}
	return mix * 0x9e3779b97f4a7c15 >> (64 - slotBits) // the golden ratio, as Knuth hashes
}

// isPlain reports whether what is between the quotes of a JSON string is what it says.
func isPlain(inner []byte) bool {
	for _, c := range inner {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

// unquote is what a JSON string says. It is valid until something else is read.
func (r *textReader) unquote(value jsontext.Value) []byte {
	if inner := value[1 : len(value)-1]; isPlain(inner) {
		return inner
	}
	r.scratch, _ = jsontext.AppendUnquote(r.scratch[:0], value)
	return r.scratch
}

// name reads the name of an object's field. It is valid until something else is read.
func (r *textReader) name() ([]byte, error) {
	value, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	return r.unquote(value), nil
}

// key reads the name of a field that is to be kept.
func (r *textReader) key() (string, error) {
	value, err := r.ReadValue()
	if err != nil {
		return "", err
	}
	return r.string(value), nil
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
