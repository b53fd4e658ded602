package nomad

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/agentstats"
	"github.com/nomad-go/nomad/internal/lenient"
	"github.com/nomad-go/nomad/internal/show"
)

// Self is an agent's configuration, its entry in the gossip pool and its state.
type Self struct {
	Config *agentconfig.Config // configuration
	Member Member              // entry in the gossip pool; on a client agent empty, with StatusNone
	Stats  agentstats.Stats    // counters and states

	raw *string // what was decoded; package fmt never prints what a pointer to a string points to
}

// Raw returns a copy of the document as the agent sent it, with the secrets that the agent does not redact. It is nil
// for a Self that was not decoded from JSON.
func (s *Self) Raw() json.RawMessage {
	if s.raw == nil {
		return nil
	}
	return json.RawMessage(*s.raw)
}

// String describes the agent on one line: its name, region, version, roles and status.
func (s Self) String() string {
	if s.Config == nil {
		return s.Member.String()
	}
	return fmt.Sprintf("%s, %s", s.Config, show.Line(string(s.Member.Status)))
}

// Format prints what String returns, whatever the verb.
func (s Self) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue logs what String returns.
func (s Self) LogValue() slog.Value { return slog.StringValue(s.String()) }

// selfJSON is Self in JSON. A pointer is nil if the value is missing or of another type.
type selfJSON struct {
	Config *agentconfig.Config `json:"config"`
	Member *Member             `json:"member"`
	Stats  agentstats.Stats    `json:"stats"`
}

// MarshalJSON returns the values with the names and shapes of Nomad, and with secrets as "<redacted>". Raw has what the
// agent sent.
func (s Self) MarshalJSON() ([]byte, error) {
	return show.JSON(selfJSON{s.Config, &s.Member, s.Stats})
}

// UnmarshalJSON decodes a document from an agent. A value whose type does not fit its field is skipped.
func (s *Self) UnmarshalJSON(data []byte) error { return lenient.Unmarshal(data, s) }

func init() { lenient.Register(unmarshalSelf) }

func unmarshalSelf(dec *jsontext.Decoder, s *Self) error {
	if dec.PeekKind() == 'n' {
		return dec.SkipValue()
	}
	var document selfJSON
	raw, err := lenient.UnmarshalFrom(dec, &document)
	switch {
	case err != nil:
		return err
	case document.Config == nil:
		return errors.New("it has no config")
	case document.Member == nil:
		return errors.New("it has no member")
	case document.Stats == nil:
		return errors.New("it has no stats")
	}
	*s = Self{document.Config, *document.Member, document.Stats, &raw}
	return nil
}

// decodeSelf decodes a Self without a second reading of the document, which encoding/json/v2 needs for UnmarshalJSON.
func decodeSelf(_ context.Context, content []byte, out any) error {
	if err := checkDocument(content); err != nil {
		return err
	}
	return lenient.Unmarshal(content, out)
}

var selfEndpoint = register(endpoint{name: "Self", method: http.MethodGet, path: "/v1/agent/self", acl: "agent:read", decode: decodeSelf})

// Self returns an agent's configuration, its entry in the gossip pool and its state.
//
// It requires the ACL capability agent:read.
//
// Endpoint: GET /v1/agent/self
func (a *Agent) Self(ctx context.Context) (*Self, error) {
	return get[Self](ctx, a.client, selfEndpoint.newRequest(nil))
}
