package body

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"unicode/utf8"
)

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
