package nomad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Self is what an agent knows about itself.
type Self struct {
	object

	Config *Config `json:"config"` // what it was configured to do, and the defaults for the rest
	Member Member  `json:"member"` // its part in the gossip pool; of a client agent empty, with StatusNone
	Stats  Stats   `json:"stats"`  // counters and states at this moment
}

func (s *Self) check() error {
	switch {
	case s.Config == nil:
		return errors.New("it has no config")
	case s.kept.rest["member"] != nil || !s.kept.seen.has(1):
		return errors.New("it has no member")
	case s.Stats == nil:
		return errors.New("it has no stats")
	}
	return nil
}

// Format prints the answer like %+v, whatever the verb, so that no Secret in it is ever shown.
func (s Self) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{Config:%v Member:%+v Stats:%v}", s.Config, s.Member, s.Stats)
}

// LogValue logs what Format prints.
func (s Self) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// MarshalJSON writes what the agent sent, in another order, and with the secrets in it. Of the member it writes what
// Member has fields for.
func (s Self) MarshalJSON() ([]byte, error) { return marshalLenient(&s) }

// UnmarshalJSON reads what agents send.
func (s *Self) UnmarshalJSON(data []byte) error { return unmarshalLenient(data, s) }

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

var selfEndpoint = endpoint{name: "Self", method: http.MethodGet, path: "/v1/agent/self", acl: "agent:read"}

// Self tells the agent's configuration, its part in the gossip pool and its state.
//
// It needs an agent of any role and an ACL token with agent:read. It makes the call GET /v1/agent/self.
func (a *Agent) Self(ctx context.Context) (*Self, error) {
	return readWith(ctx, a.client, selfEndpoint.to(nil), parseLenient[Self])
}
