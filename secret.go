package nomad

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a text that must not be printed or logged by accident: a token, a password or a gossip key. Package fmt and
// log/slog show only that it is there. Converting it to a string gives the text, and so does JSON.
type Secret string

// Format prints a stand-in for the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.standIn()) }

// LogValue logs a stand-in for the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.standIn()) }

func (s Secret) standIn() string {
	if s == "" {
		return "none"
	}
	return "<redacted>"
}
