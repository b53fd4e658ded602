// Package body reads the bodies of responses: within a limit, and without their compression.
package body

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
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

// Decompress returns a body without its compression.
func Decompress(h http.Header, r io.Reader) (io.Reader, error) {
	encodings := strings.FieldsFunc(strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")), func(r rune) bool { return r == ',' || r == ' ' })
	encodings = slices.DeleteFunc(encodings, func(encoding string) bool { return encoding == "identity" })
	switch encoding := strings.Join(encodings, ", "); encoding {
	case "":
		return r, nil
	case "gzip", "x-gzip": // RFC 9110, 8.4.1.3
		raw := bufio.NewReader(r)
		if _, err := raw.Peek(1); err == io.EOF {
			return raw, nil // without a body there is nothing to decompress
		}
		unzipped, err := gzip.NewReader(raw)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("its encoding is gzip, but the body is not: %w", err)
		}
		return unzipped, nil
	default:
		return nil, fmt.Errorf("its encoding is %q, want gzip or none", encoding)
	}
}

// CheckNoPage refuses a web page, such as that of a proxy or the web interface of an old agent.
func CheckNoPage(body []byte) error {
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n\ufeff"), []byte("<")) {
		return errors.New("it is a web page, not a response of Nomad's API")
	}
	return nil
}

// CheckValue refuses a body that a JSON decoder would take for a zero value.
func CheckValue(body []byte) error {
	switch trimmed := bytes.TrimSpace(body); {
	case len(trimmed) == 0:
		return errors.New("it is empty")
	case string(trimmed) == "null":
		return errors.New("it is null")
	}
	if CheckNoPage(body) != nil {
		return errors.New("it is a web page, not JSON")
	}
	return nil
}

// maxString is how many bytes a string has at most in a large document.
const maxString = 64 << 10

// CheckStrings refuses a large JSON document with strings that take much memory to decode: long ones, and those that are
// not UTF-8.
func CheckStrings(body []byte) error {
	if len(body) <= pieceSize {
		return nil
	}
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	for rest := body; ; {
		i := bytes.IndexByte(rest, '"')
		switch {
		case i > maxString:
			return fmt.Errorf("it has a string of more than %d bytes", maxString)
		case i < 0:
			return nil
		}
		rest = rest[i+1:]
	}
}

// CheckEmpty refuses a body that says something.
func CheckEmpty(body []byte) error {
	switch string(bytes.TrimSpace(body)) {
	case "", "null", "{}":
		return nil
	}
	if CheckNoPage(body) != nil {
		return errors.New("want an empty response, not a web page")
	}
	return errors.New("want an empty response")
}

// MediaType returns the media type of a body, without its parameters.
func MediaType(h http.Header) string {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType
}
