// Package secret has a type for strings that must not be printed: tokens, passwords and keys.
//
//	token := secret.New("s3cr3t")
//	fmt.Println(token)          // <redacted>
//	fmt.Println(token.Reveal()) // s3cr3t
package secret

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// Secret is a string that must not be printed or logged by accident, such as a token, a password or a gossip key.
// Packages fmt, log/slog, encoding/json and json/v2 print "<redacted>" in its place, or an empty string if the secret
// is empty. Secrets can be compared and can be the keys of a map. The zero Secret is empty. Decoding the JSON of a
// Secret gives the string "<redacted>", not the secret. Packages that print values by reflection, such as the
// assertions of testify, do show it.
type Secret struct{ text unique.Handle[string] }

// New returns text as a Secret. An empty text gives the zero Secret.
func New(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string {
	if s == (Secret{}) {
		return ""
	}
	return s.text.Value()
}

// Format prints "<redacted>", or an empty string, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.redacted()) }

// LogValue returns "<redacted>", or an empty string.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.redacted()) }

// MarshalText returns "<redacted>", or an empty string.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.redacted()), nil }

// UnmarshalText sets the secret to text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}

func (s Secret) redacted() string {
	if s == (Secret{}) {
		return ""
	}
	return "<redacted>"
}
