package nomad

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/internal/lenient"
)

// Self is an agent's configuration, its entry in the gossip pool and its state.
type Self struct {
	Config *agentconfig.Config // configuration
	Member Member              // entry in the gossip pool; on a client agent empty, with StatusNone
	Stats  Stats               // counters and states

	raw *string // what was decoded; package fmt never prints what a pointer to a string points to
}

// Raw returns a copy of the document as the agent sent it, with the secrets that the agent does not redact. It is nil
// for a Self that was not decoded.
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
	return fmt.Sprintf("%s, %s", s.Config, s.Member.Status)
}

// Format prints what String returns, whatever the verb.
func (s Self) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue logs what String returns.
func (s Self) LogValue() slog.Value { return slog.StringValue(s.String()) }

// selfJSON is Self in JSON. A pointer is nil if the value is missing or of another type.
type selfJSON struct {
	Config *agentconfig.Config `json:"config"`
	Member *Member             `json:"member"`
	Stats  Stats               `json:"stats"`
}

// MarshalJSON returns the values with the names and shapes of Nomad, and with secrets as "<redacted>". Raw has what the
// agent sent.
func (s Self) MarshalJSON() ([]byte, error) {
	return json.Marshal(selfJSON{s.Config, &s.Member, s.Stats})
}

// UnmarshalJSON decodes a document from an agent. A value whose type does not fit its field is skipped.
func (s *Self) UnmarshalJSON(data []byte) error { return lenient.Unmarshal(data, s) }

// UnmarshalJSONFrom is UnmarshalJSON for json/v2.
func (s *Self) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
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

// Stats are an agent's counters and states, in groups: runtime always, nomad, raft and serf of a server, client of a
// client. Their values are texts, whatever they count. Its methods read those that people look at, and give zero where
// the agent does not say.
type Stats map[string]map[string]string

// IsLeader reports whether the agent is the leader of its region.
func (s Stats) IsLeader() bool { return s["nomad"]["leader"] == "true" }

// LeaderAddr is the RPC address of the region's leader, host:port, as a server knows it; empty when there is none.
func (s Stats) LeaderAddr() string { return s["nomad"]["leader_addr"] }

// KnownRegions is how many regions a server knows, its own included.
func (s Stats) KnownRegions() int { return int(s.number("nomad", "known_regions")) }

// RaftState is a server's state in Raft: Leader, Follower or Candidate.
func (s Stats) RaftState() string { return s["raft"]["state"] }

// RaftTerm is the election that a server is in.
func (s Stats) RaftTerm() uint64 { return s.number("raft", "term") }

// RaftPeers is how many other voters a server knows.
func (s Stats) RaftPeers() int { return int(s.number("raft", "num_peers")) }

// AppliedIndex is the last entry of the Raft log that a server has applied.
func (s Stats) AppliedIndex() uint64 { return s.number("raft", "applied_index") }

// CommitIndex is the last entry of the Raft log that a server knows to be on a quorum.
func (s Stats) CommitIndex() uint64 { return s.number("raft", "commit_index") }

// LastLogIndex is the last entry of the Raft log that a server has.
func (s Stats) LastLogIndex() uint64 { return s.number("raft", "last_log_index") }

// LastContact is how long ago a server heard of its leader, 0 for the leader itself. It is false when it never did, and
// for an agent that is no server.
func (s Stats) LastContact() (time.Duration, bool) {
	text := s["raft"]["last_contact"]
	if text == "0" {
		return 0, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// NodeID is the ID of a client agent's node.
func (s Stats) NodeID() string { return s["client"]["node_id"] }

// KnownServers are the RPC addresses of the servers that a client agent knows.
func (s Stats) KnownServers() []string {
	return strings.FieldsFunc(s["client"]["known_servers"], func(r rune) bool { return r == ',' })
}

// Allocations is how many allocations a client agent has.
func (s Stats) Allocations() int { return int(s.number("client", "num_allocations")) }

// LastHeartbeat is how long ago a client agent's last heartbeat succeeded.
func (s Stats) LastHeartbeat() time.Duration { return s.duration("client", "last_heartbeat") }

// HeartbeatTTL is the time within which a client agent has to send the next heartbeat.
func (s Stats) HeartbeatTTL() time.Duration { return s.duration("client", "heartbeat_ttl") }

func (s Stats) number(group, key string) uint64 {
	n, err := strconv.ParseUint(s[group][key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (s Stats) duration(group, key string) time.Duration {
	d, err := time.ParseDuration(s[group][key])
	if err != nil {
		return 0
	}
	return d
}

var selfEndpoint = endpoint{name: "Self", method: http.MethodGet, path: "/v1/agent/self", acl: "agent:read", limit: largeResponse}

// Self returns an agent's configuration, its entry in the gossip pool and its state.
//
// It requires the ACL capability agent:read.
//
// Endpoint: GET /v1/agent/self
func (a *Agent) Self(ctx context.Context) (*Self, error) {
	return get[Self](ctx, a.client, selfEndpoint.newRequest(nil))
}
