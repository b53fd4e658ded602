// Package body reads the bodies of responses: within a limit, and without their compression.
package body

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// maxGrow is the largest announced size for which memory is allocated before it arrives.
const maxGrow = 1 << 20

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
		into.Grow(int(min(n, maxGrow)) + bytes.MinRead)
	}
	r, err := Decompress(res.Header, res.Body)
	if err != nil {
		return err
	}
	n, err := into.ReadFrom(&io.LimitedReader{R: r, N: limit + 1})
	switch {
	case n > limit:
		into.Truncate(int(limit))
		return &TooLargeError{0, limit}
	case err != nil:
		return fmt.Errorf("it ended after %d bytes: %w", n, err)
	}
	return nil
}

// Decompress returns a body without its compression.
func Decompress(h http.Header, r io.Reader) (io.Reader, error) {
	switch encoding := strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
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
		return nil, fmt.Errorf("its encoding is %.100q, want gzip or none", encoding)
	}
}

// CheckValue refuses a body that a JSON decoder would take for a zero value.
func CheckValue(body []byte) error {
	switch trimmed := bytes.TrimSpace(body); {
	case len(trimmed) == 0:
		return errors.New("it is empty")
	case string(trimmed) == "null":
		return errors.New("it is null")
	case trimmed[0] == '<':
		return errors.New("it is a web page, not JSON")
	}
	return nil
}

// CheckEmpty refuses a body that says something.
func CheckEmpty(body []byte) error {
	switch string(bytes.TrimSpace(body)) {
	case "", "null", "{}":
		return nil
	}
	return errors.New("want an empty response")
}

// MediaType returns the media type of a body, without its parameters.
func MediaType(h http.Header) string {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType
}

// WithContext returns a reader of a body that ends with its context.
func WithContext(ctx context.Context, body []byte) io.Reader {
	return &contextReader{ctx, bytes.NewReader(body)}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p[:min(len(p), 64<<10)])
}
