package agentconfig

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/nomad-go/nomad/internal/show"
	"github.com/nomad-go/nomad/secret"
)

// Endpoint is the address of a service or of servers: host and port, a URL, or a go-discover expression such as
// "provider=aws tag_key=nomad secret_access_key=...". String and packages fmt, log/slog, encoding/json and json/v2
// print "<redacted>" in place of its secrets. Endpoints can be compared.
type Endpoint struct{ text secret.Secret }

// NewEndpoint returns text as an Endpoint.
func NewEndpoint(text string) Endpoint { return Endpoint{secret.New(text)} }

// Reveal returns the whole text, with its secrets.
func (e Endpoint) Reveal() string { return e.text.Reveal() }

var provider = regexp.MustCompile(`\bprovider="?(\w+)`)

// String returns the text with "<redacted>" in place of the user info and the query of a URL, and of all settings of a
// go-discover expression except the provider.
func (e Endpoint) String() string {
	text := show.Line(e.Reveal())
	if match := provider.FindStringSubmatch(text); match != nil {
		return "provider=" + match[1] + " <redacted>"
	}
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		scheme, _, found := strings.Cut(text[:at], "://")
		if found {
			scheme += "://"
		} else {
			scheme = ""
		}
		text = scheme + "<redacted>" + text[at:]
	}
	if address, _, found := strings.Cut(text, "?"); found {
		return address + "?<redacted>"
	}
	if strings.Contains(text, "=") {
		return "<redacted>"
	}
	return text
}

// Format prints what String returns, whatever the verb.
func (e Endpoint) Format(f fmt.State, _ rune) { io.WriteString(f, e.String()) }

// LogValue logs what String returns.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// MarshalText returns what String returns.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads the whole text.
func (e *Endpoint) UnmarshalText(text []byte) error {
	*e = NewEndpoint(string(text))
	return nil
}

// Setting is a setting of a plugin: a JSON value that only the plugin understands. It may hold secrets, so packages
// fmt, log/slog, encoding/json and json/v2 print "<redacted>" in its place. Settings can be compared.
type Setting struct{ value secret.Secret }

// Reveal returns the value as the agent sent it.
func (s Setting) Reveal() json.RawMessage { return json.RawMessage(s.value.Reveal()) }

// Format prints "<redacted>", whatever the verb.
func (s Setting) Format(f fmt.State, verb rune) { s.value.Format(f, verb) }

// LogValue returns "<redacted>".
func (s Setting) LogValue() slog.Value { return s.value.LogValue() }

// MarshalText returns "<redacted>".
func (s Setting) MarshalText() ([]byte, error) { return s.value.MarshalText() }

// UnmarshalJSON reads any value.
func (s *Setting) UnmarshalJSON(value []byte) error {
	s.value = secret.New(string(value))
	return nil
}
