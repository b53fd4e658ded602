package agentstats_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nomad-go/nomad/agentstats"
)

// TestOddValues has values that no agent sends. None becomes negative.
func TestOddValues(t *testing.T) {
	for _, text := range []string{"18446744073709551615", "-1", "-1s", "", "x"} {
		s := agentstats.Stats{
			"client": {"num_allocations": text, "last_heartbeat": text, "heartbeat_ttl": text},
			"raft":   {"num_peers": text, "last_contact": text}, "nomad": {"known_regions": text},
		}
		assert.Zero(t, s.Allocations(), text)
		assert.Zero(t, s.RaftPeers(), text)
		assert.Zero(t, s.KnownRegions(), text)
		assert.Zero(t, s.LastHeartbeat(), text)
		assert.Zero(t, s.HeartbeatTTL(), text)
		contact, _ := s.LastContact()
		assert.Zero(t, contact, text)
	}
}
