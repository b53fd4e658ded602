package body

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

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
