package nomadtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

// TestWatchThroughAnOutage shows how to test an outage of an hour in milliseconds. In a bubble of
// testing/synctest time advances whenever all goroutines wait.
func TestWatchThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := nomadtest.New(t, nomadtest.Servers(3))
		agent := cluster.Agent("server-1")
		time.AfterFunc(10*time.Minute, agent.Stop)
		time.AfterFunc(70*time.Minute, agent.Start)

		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		var outage time.Duration
		for event, err := range watch.Members(ctx, agent.Client().Agent, watch.Options{}) {
			require.NoError(t, err)
			if event.Kind == watch.OutageOver {
				outage = event.Time.Sub(event.Since)
				break
			}
		}
		assert.InDelta(t, time.Hour, outage, float64(2*time.Minute))
	})
}

// TestRetriesThroughAnOutage makes a call that waits until an agent has restarted.
func TestRetriesThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := nomadtest.New(t)
		agent := cluster.Agent("server-1")
		client := agent.Client(nomad.WithRetries(100), nomad.WithTimeout(5*time.Minute))
		agent.Stop()
		time.AfterFunc(time.Minute, agent.Start)
		began := time.Now()
		_, err := client.Agent.Members(t.Context())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(began), time.Minute)
	})
}
