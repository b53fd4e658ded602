// Package header checks the names and values of HTTP headers.
package header

import (
	"net/http"
	"strings"
)

// reserved has the headers that belong to an option or to the connection.
var reserved = map[string]string{
	"X-Nomad-Token":     "use WithToken or WithTokenFile",
	"User-Agent":        "use WithUserAgent",
	"Accept-Encoding":   "use WithCompression",
	"Accept":            "it is set for each request",
	"Host":              "it is set from the address",
	"Content-Length":    "it is set for each request",
	"Content-Type":      "it is set for each request",
	"Transfer-Encoding": "it belongs to the connection",
	"Connection":        "it belongs to the connection",
	"Upgrade":           "it belongs to the connection",
	"Te":                "it belongs to the connection",
	"Trailer":           "it belongs to the connection",
}

// Reserved returns why a header cannot be set, or "" if it can.
func Reserved(name string) string { return reserved[http.CanonicalHeaderKey(name)] }

// IsName reports whether s is a token of RFC 9110, as the names of headers and methods are.
func IsName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// IsValue reports whether a header can carry s.
func IsValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// WithDefault returns a copy of h that has a header.
func WithDefault(h http.Header, name, value string) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	if h.Get(name) == "" {
		h.Set(name, value)
	}
	return h
}
