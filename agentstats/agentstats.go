// Package agentstats has the statistics that an agent reports in nomad.Self.
//
//	self, err := client.Agent.Self(ctx)
//	if err != nil {
//		return err
//	}
//	fmt.Println(self.Stats.IsLeader(), self.Stats.RaftPeers(), self.Stats["runtime"]["version"])
package agentstats

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/show"
)

// Stats are an agent's counters and states in groups. Every agent has the group runtime, a server nomad, raft and serf,
// and a client agent client. All values are strings. The methods return common ones, or zero if the agent does not
// report the value.
type Stats map[string]map[string]string

// String returns a server's state in Raft, and the node ID of a client agent.
func (s Stats) String() string {
	var parts []string
	if state := s.RaftState(); state != "" {
		parts = append(parts, fmt.Sprintf("%s in term %d at index %d", state, s.RaftTerm(), s.AppliedIndex()))
	}
	if id := s.NodeID(); id != "" {
		parts = append(parts, fmt.Sprintf("node %s with %d allocations", id, s.Allocations()))
	}
	return show.Line(strings.Join(parts, "; "))
}

// MarshalJSON encodes the groups as agents send them.
func (s Stats) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]map[string]string(s)) }

// IsLeader reports whether the agent is the leader of its region.
func (s Stats) IsLeader() bool { return s["nomad"]["leader"] == "true" }

// LeaderAddr returns the RPC address, host:port, of the region's leader as a server knows it; empty if there is none.
func (s Stats) LeaderAddr() string { return s["nomad"]["leader_addr"] }

// KnownRegions returns how many regions a server knows, its own included.
func (s Stats) KnownRegions() int { return s.count("nomad", "known_regions") }

// RaftState returns a server's state in Raft: Leader, Follower or Candidate.
func (s Stats) RaftState() string { return s["raft"]["state"] }

// RaftTerm returns a server's current term in Raft.
func (s Stats) RaftTerm() uint64 { return s.number("raft", "term") }

// RaftPeers returns how many other voters a server knows.
func (s Stats) RaftPeers() int { return s.count("raft", "num_peers") }

// AppliedIndex returns the index of the last entry of the Raft log that a server has applied.
func (s Stats) AppliedIndex() uint64 { return s.number("raft", "applied_index") }

// CommitIndex returns the index of the last entry of the Raft log that a server knows to be on a quorum.
func (s Stats) CommitIndex() uint64 { return s.number("raft", "commit_index") }

// LastLogIndex returns the index of the last entry of the Raft log that a server has.
func (s Stats) LastLogIndex() uint64 { return s.number("raft", "last_log_index") }

// LastContact returns how long ago a server had contact with its leader. It is 0 for the leader itself. The bool is
// false if the server never had contact, or if the agent is not a server.
func (s Stats) LastContact() (time.Duration, bool) {
	text := s["raft"]["last_contact"]
	if text == "0" {
		return 0, true
	}
	d, err := time.ParseDuration(text)
	return max(d, 0), err == nil
}

// NodeID returns the ID of a client agent's node.
func (s Stats) NodeID() string { return s["client"]["node_id"] }

// KnownServers returns the RPC addresses of the servers that a client agent knows.
func (s Stats) KnownServers() []string {
	return strings.FieldsFunc(s["client"]["known_servers"], func(r rune) bool { return r == ',' })
}

// Allocations returns how many allocations a client agent has.
func (s Stats) Allocations() int { return s.count("client", "num_allocations") }

// LastHeartbeat returns how long ago a client agent's last heartbeat succeeded.
func (s Stats) LastHeartbeat() time.Duration { return s.duration("client", "last_heartbeat") }

// HeartbeatTTL returns the time within which a client agent must send its next heartbeat.
func (s Stats) HeartbeatTTL() time.Duration { return s.duration("client", "heartbeat_ttl") }

func (s Stats) number(group, key string) uint64 {
	n, err := strconv.ParseUint(s[group][key], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (s Stats) count(group, key string) int {
	n, err := strconv.Atoi(s[group][key])
	if err != nil {
		return 0
	}
	return max(n, 0)
}

func (s Stats) duration(group, key string) time.Duration {
	d, err := time.ParseDuration(s[group][key])
	if err != nil {
		return 0
	}
	return max(d, 0)
}
