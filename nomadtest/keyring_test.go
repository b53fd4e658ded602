package nomadtest_test

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestKeyring rotates the gossip key of all servers.
func TestKeyring(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1), nomadtest.GossipKey("bm9tYWR0ZXN0IGdvc3NpcA=="))
	first, second := cluster.Client("server-1").Agent, cluster.Client("server-2").Agent
	ctx := context.Background()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	keys := func() int {
		ring, err := second.ListKeys(ctx)
		require.NoError(t, err)
		assert.Equal(t, 3, ring.NumNodes)
		return len(ring.Keys)
	}
	ring, err := first.ListKeys(ctx)
	require.NoError(t, err)
	_, err = first.UseKey(ctx, nomad.NewSecret(key))
	assert.Error(t, err, "no server has the key")
	for range 2 {
		_, err = first.InstallKey(ctx, nomad.NewSecret(key))
		require.NoError(t, err)
	}
	assert.Equal(t, 2, keys())
	_, err = second.UseKey(ctx, nomad.NewSecret(key))
	require.NoError(t, err)
	_, err = first.RemoveKey(ctx, nomad.NewSecret(key))
	assert.Error(t, err, "the key is active")
	for old := range ring.Keys {
		_, err = first.RemoveKey(ctx, old)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, keys())
	_, err = cluster.Client("client-1").Agent.ListKeys(ctx)
	assert.ErrorIs(t, err, nomad.ErrServerOnly)
}
