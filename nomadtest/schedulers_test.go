package nomadtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestSchedulers changes the scheduler workers of one server.
func TestSchedulers(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2), nomadtest.Clients(1))
	agent := cluster.Client("server-1").Agent
	config, err := agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 1, EnabledSchedulers: []string{"batch", "_core"}})
	require.NoError(t, err)
	assert.Equal(t, "server-1.global", config.ServerID)
	all, err := agent.Schedulers(t.Context())
	require.NoError(t, err)
	assert.Len(t, all.Schedulers, 1)
	assert.Equal(t, []string{"batch", "_core"}, all.Schedulers[0].EnabledSchedulers)
	other, err := cluster.Client("server-2").Agent.SchedulerConfig(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, other.NumSchedulers)
	_, err = cluster.Client("client-1").Agent.Schedulers(t.Context())
	assert.ErrorIs(t, err, nomad.ErrServerOnly)
}
