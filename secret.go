package nomad

import (
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// Secret is a text that must not be printed or logged by accident: a token, a password or a gossip key. Packages fmt,
// log/slog and encoding/json show only whether it is there; Reveal gives the text. Secrets can be compared, and be the
// keys of a map.
type Secret struct{ text unique.Handle[string] }

// NewSecret makes a secret of a text. An empty text gives the zero Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal gives the text.
func (s Secret) Reveal() string {
	if s == (Secret{}) {
		return ""
	}
	return s.text.Value()
}

// Format prints a stand-in for the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.standIn()) }

// LogValue logs a stand-in for the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.standIn()) }

// MarshalText writes a stand-in for the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.standIn()), nil }

// UnmarshalText reads the secret itself.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

func (s Secret) standIn() string {
	if s == (Secret{}) {
		return ""
	}
	return "<redacted>"
}
