package nomadtest_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestController tests the controller of the example with random failures of servers, leader changes and
// network faults. The controller must force exactly the servers to leave that have failed for a minute.
func TestController(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { tryController(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func tryController(t *testing.T, random *rand.Rand) {
	cluster := start(t, nomadtest.Servers(5))
	first := cluster.Agent("server-1")
	var log bytes.Buffer
	observer := first.Client()
	r := &reaper{
		agent: first.Client(nomad.WithRetries(0)).Agent,
		after: time.Minute,
		log:   slog.New(slog.NewTextHandler(&log, withoutTime)),
	}
	faults := []nomadtest.Fault{
		nomadtest.Truncate(0), nomadtest.Status(503, ""), nomadtest.Status(500, "No cluster leader"), nomadtest.Garbage(), nomadtest.ResetAfter(3),
	}
	now := time.Now()
	failedSince := map[string]time.Time{} // when the controller can first have seen the failure
	failedCalls := 0
	for range 60 {
		agent := cluster.Agents()[1+random.IntN(4)]
		switch random.IntN(5) {
		case 0:
			agent.Stop()
		case 1:
			agent.Start()
		case 2:
			agent.TakeLead()
		}
		endpoint := []string{"members", "force-leave", "/nothing"}[random.IntN(3)]
		fault := first.Inject(faults[random.IntN(len(faults))], nomadtest.On(endpoint), nomadtest.Times(1))
		now = now.Add(time.Duration(random.IntN(40)) * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := r.reconcile(ctx, now)
		cancel()
		fault.Remove()
		require.Equal(t, fault.Hits() > 0, err != nil, "%v", err)
		if endpoint == "force-leave" {
			failedCalls += fault.Hits()
		}
		seen := view(t, observer)
		for _, a := range cluster.Agents() {
			member := a.MemberName()
			switch {
			case !strings.Contains(seen, member+" (failed)"):
				delete(failedSince, member)
			case err != nil:
			case failedSince[member].IsZero():
				failedSince[member] = now
			default:
				assert.Less(t, now.Sub(failedSince[member]), r.after, "%s should have been forced to leave", member)
			}
		}
	}
	requests := 0
	for _, request := range first.Requests() {
		if request.Path == "/v1/agent/force-leave" {
			requests++
		}
	}
	forced := strings.Count(log.String(), "forced to leave")
	assert.Equal(t, forced+failedCalls, requests, log.String())
	assert.Positive(t, forced)
}
