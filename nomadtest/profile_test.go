package nomadtest_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestProfiles requests each kind of profile.
func TestProfiles(t *testing.T) {
	t.Parallel()
	agent := start(t, nomadtest.Debug()).Client("server-1").Agent
	for _, name := range []nomad.ProfileType{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate", "profile", "trace"} {
		profile, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: name})
		require.NoError(t, err, name)
		content, err := io.ReadAll(profile)
		require.NoError(t, err, name)
		profile.Close()
		if name == "trace" {
			assert.True(t, strings.HasPrefix(string(content), "go 1."), name)
		} else {
			assert.True(t, strings.HasPrefix(string(content), "\x1f\x8b"), name)
		}
	}
	_, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: "nope"})
	assert.ErrorIs(t, err, nomad.ErrNotFound)
}

// TestProfilesInABubble checks that an agent refuses what the runtime cannot record in a bubble, and does not hang.
func TestProfilesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := nomadtest.New(t, nomadtest.Debug()).Client("server-1").Agent
		for _, name := range []nomad.ProfileType{nomad.ProfileCPU, nomad.ProfileTrace} {
			_, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: name})
			assert.ErrorContains(t, err, "cannot record a CPU profile or trace", name)
		}
		profile, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
		require.NoError(t, err)
		profile.Close()
	})
}
