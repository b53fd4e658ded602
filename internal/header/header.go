// Package header checks the names and values of HTTP headers.
package header

import (
	"encoding/base64"
	"fmt"
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

// Challenges reports whether a response asks for a scheme of authentication.
func Challenges(h http.Header, scheme string) bool {
	for challenge := range strings.SplitSeq(strings.Join(h.Values("WWW-Authenticate"), ","), ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(challenge), " ")
		if strings.EqualFold(name, scheme) {
			return true
		}
	}
	return false
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

// Secrets returns the values of headers that must not be shown.
func Secrets(h http.Header) (secrets []string) {
	for name, values := range h {
		name = http.CanonicalHeaderKey(name)
		for _, value := range values {
			// A short value of a harmless header would remove words from every message.
			if len(value) >= 6 && name != "Content-Type" && name != "Accept" || name == "Authorization" || name == "Cookie" {
				secrets = append(secrets, value)
			}
			if scheme, credentials, ok := strings.Cut(value, " "); ok && name == "Authorization" {
				credentials = strings.TrimSpace(credentials)
				secrets = append(secrets, credentials)
				if strings.EqualFold(scheme, "Basic") {
					secrets = append(secrets, password(credentials))
				}
			}
		}
	}
	return secrets
}

// password returns the password in the credentials of basic authentication, or "".
func password(credentials string) string {
	decoded, _ := base64.StdEncoding.DecodeString(credentials)
	_, password, _ := strings.Cut(string(decoded), ":")
	return password
}

// Check refuses a header that a single request cannot have.
func Check(name string, values []string) error {
	why := Reserved(name)
	switch {
	case !IsName(name):
		return fmt.Errorf("%q is not the name of a header", name)
	case why != "" && !strings.EqualFold(name, "Accept") && !strings.EqualFold(name, "Content-Type"):
		return fmt.Errorf("%q: %s", name, why)
	case !IsValue(strings.Join(values, "")):
		return fmt.Errorf("%q: the value has a character that a header cannot carry", name)
	}
	return nil
}
