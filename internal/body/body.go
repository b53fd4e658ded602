// Package body reads the bodies of responses: within a limit, and without their compression.
package body

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// pieceSize is how many bytes a body has before it is read in pieces. No more memory is allocated before it arrives.
const pieceSize = 1 << 20

// buffers holds buffers for bodies. Larger ones than pieceSize are left to the garbage collector.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// NewBuffer returns an empty buffer for Read.
func NewBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// Release gives a buffer back, unless it is nil. Its content must not be used any more.
func Release(b *bytes.Buffer) {
	if b != nil && b.Cap() <= pieceSize {
		b.Reset()
		buffers.Put(b)
	}
}

// TooLargeError reports a body over its limit.
type TooLargeError struct{ Size, Limit int64 } // Size is 0 if it was not announced

func (e *TooLargeError) Error() string {
	if e.Size > 0 {
		return fmt.Sprintf("it has %d bytes, the limit is %d bytes", e.Size, e.Limit)
	}
	return fmt.Sprintf("the limit is %d bytes", e.Limit)
}

// Read reads the body of a response into a buffer, decompressed, up to limit. If cut is set, it reads the beginning of
// a longer one before it fails.
func Read(into *bytes.Buffer, res *http.Response, limit int64, cut bool) error {
	if n := res.ContentLength; n > limit && !cut {
		return &TooLargeError{n, limit}
	} else if n > 0 {
		into.Grow(int(min(n, pieceSize)) + bytes.MinRead)
	}
	r, err := Decompress(res.Header, res.Body)
	if err != nil {
		return err
	}
	r = &io.LimitedReader{R: r, N: limit + 1}
	n, err := io.CopyN(into, r, pieceSize)
	if err == nil {
		var more int64
		more, err = readPieces(into, r)
		n += more
	}
	switch {
	case n > limit:
		into.Truncate(int(limit))
		return &TooLargeError{0, limit}
	case err != io.EOF:
		return fmt.Errorf("it ended after %d bytes: %w", n, err)
	}
	return nil
}

// readPieces reads the rest of a large body in pieces, so that no memory is copied while the buffer grows.
func readPieces(into *bytes.Buffer, r io.Reader) (n int64, err error) {
	var pieces [][]byte
	for err == nil {
		piece, m := bytes.NewBuffer(make([]byte, 0, pieceSize+bytes.MinRead)), int64(0)
		m, err = io.CopyN(piece, r, pieceSize)
		pieces = append(pieces, piece.Bytes())
		n += m
	}
	into.Grow(int(n))
	for _, piece := range pieces {
		into.Write(piece)
	}
	return n, err
}
