package nomadtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestSameNames joins clusters with servers of the same name. As with real servers, that is an error.
func TestSameNames(t *testing.T) {
	a, b := start(t), start(t)
	_, err := a.Client("server-1").Agent.Join(t.Context(), b.Agent("server-1").SerfAddr())
	assert.ErrorContains(t, err, "both pools have a server server-1.global")
	assert.ErrorIs(t, err, nomad.ErrJoinFailed)
	assert.Equal(t, "server-1", leader(a)+leader(b)[8:])
}

// TestCloseOneOfTwo closes a cluster that another cluster has joined.
func TestCloseOneOfTwo(t *testing.T) {
	a := start(t, nomadtest.Servers(1, nomadtest.Names("a1")))
	b := start(t, nomadtest.Servers(1, nomadtest.Names("b1"), nomadtest.Expect(0)))
	_, err := a.Client("a1").Agent.Join(t.Context(), b.Agent("b1").SerfAddr())
	require.NoError(t, err)
	a.Close()
	assert.Equal(t, "a1.global (failed) b1.global (alive)", view(t, b.Client("b1")))
	assert.Equal(t, "none", leader(b))
	assert.PanicsWithValue(t, "nomadtest: the cluster is closed", func() { a.Client("a1") })
}

// TestAddDuringPartition checks that servers that are added during a partition join only the servers that
// they reach.
func TestAddDuringPartition(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3))
	cluster.Partition("server-1")
	cluster.AddServer("server-4")
	assert.Equal(t, "server-1.global (failed) server-2.global (alive) server-3.global (alive) server-4.global (alive)", view(t, cluster.Client("server-2")))
	cluster.Partition("server-1")
	cluster.Partition("server-1", "server-2")
	cluster.Heal()
	whole := "server-1.global (alive) server-2.global (alive) server-3.global (alive) server-4.global (alive)"
	for _, a := range cluster.Agents() {
		assert.Equal(t, whole, view(t, a.Client()))
	}

	prune := func(caller, node string) {
		require.NoError(t, cluster.Client(caller).Agent.ForceLeave(t.Context(), node+".global", nomad.Prune()))
	}
	prune("server-2", "server-1")
	cluster.AddServer("server-5")
	assert.Equal(t, "server-2.global (alive) server-3.global (alive) server-4.global (alive) server-5.global (alive)", view(t, cluster.Client("server-5")))
	prune("server-1", "server-2") // the view of a removed server does not matter
	assert.Equal(t, "server-2.global (alive) server-3.global (alive) server-4.global (alive) server-5.global (alive)", view(t, cluster.Client("server-2")))
	assert.NotEqual(t, "none", leader(cluster))
	cluster.Agent("server-3").Stop()
	assert.Contains(t, view(t, cluster.Client("server-1")), "server-3.global (failed)")
}

// TestKeysApart uses servers with different gossip keys in one cluster.
func TestKeysApart(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1, nomadtest.GossipKey(firstKey)), nomadtest.Servers(1))
	assert.Equal(t, "server-1.global (alive)", view(t, cluster.Client("server-1")))
	assert.Equal(t, "server-2.global (alive)", view(t, cluster.Client("server-2")))
}

// TestStopWithoutNetwork checks that stopping an agent ends requests that were made without a network.
func TestStopWithoutNetwork(t *testing.T) {
	for name, end := range map[string]func(*nomadtest.Cluster){
		"stop": func(c *nomadtest.Cluster) { c.Agent("server-1").Stop() }, "close": (*nomadtest.Cluster).Close,
	} {
		for _, path := range []string{"/v1/agent/monitor", "/v1/agent/members"} {
			cluster := start(t)
			agent := cluster.Agent("server-1")
			agent.Inject(nomadtest.Stall(), nomadtest.On("members"))
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				agent.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
			}()
			time.Sleep(5 * time.Millisecond)
			end(cluster)
			select {
			case problem := <-ended:
				assert.Equal(t, http.ErrAbortHandler, problem, "%s of %s", name, path)
			case <-time.After(20 * time.Second):
				t.Fatalf("%s does not end %s", name, path)
			}
		}
	}
}

// TestHistories makes random changes to a cluster. After each step it checks invariants of real servers:
// there is at most one leader, and servers with a leader report it as alive or leaving. In the end all
// servers must form one pool again.
func TestHistories(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 0))
		cluster := start(t, nomadtest.Servers(5), nomadtest.Clients(1))
		servers := cluster.Agents()[:5]
		var history []string
		for range 40 {
			a, b := servers[random.IntN(5)], servers[random.IntN(5)]
			step := random.IntN(8)
			history = append(history, fmt.Sprint(step, " ", a.Name(), " ", b.Name()))
			switch step {
			case 0, 1:
				a.Stop()
			case 2, 3:
				a.Start()
			case 4:
				a.TakeLead()
			case 5:
				cluster.Partition(a.Name(), b.Name())
			case 6:
				cluster.Heal()
			case 7:
				if _, running := stats(t, a); running {
					require.NoError(t, a.Client().Agent.ForceLeave(t.Context(), b.MemberName()))
				}
			}
			leaders := map[string][]string{} // servers by the leader that they report
			for _, s := range servers {
				self, running := stats(t, s)
				if !running {
					continue
				}
				led := self.Stats["nomad"]["leader_addr"]
				leaders[led] = append(leaders[led], s.Name())
				members, err := s.Client().Agent.Members(t.Context())
				require.NoError(t, err)
				for _, m := range members.Members {
					if fmt.Sprintf("%s:%d", m.RPCAddr().Addr().Unmap(), m.RPCAddr().Port()) == led {
						assert.Contains(t, []nomad.MemberStatus{nomad.StatusAlive, nomad.StatusLeaving}, m.Status, "seed %d: %v: the leader of %s", seed, history, s.Name())
					}
				}
			}
			delete(leaders, "")
			assert.LessOrEqual(t, len(leaders), 1, "seed %d: %v: %v", seed, history, leaders)
		}
		cluster.Heal()
		for _, s := range servers {
			s.Start()
		}
		whole := "server-1.global (alive) server-2.global (alive) server-3.global (alive) server-4.global (alive) server-5.global (alive)"
		for _, s := range servers { // joining corrects the status of servers that were reported wrongly
			_, err := s.Client().Agent.Join(t.Context(), servers[0].SerfAddr())
			require.NoError(t, err)
		}
		for _, s := range cluster.Agents() {
			assert.Equal(t, whole, view(t, s.Client()), "seed %d: %v", seed, history)
		}
		require.NotNil(t, cluster.Leader(), "seed %d: %v", seed, history)
		cluster.Close()
		if t.Failed() {
			return
		}
	}
}

func stats(t *testing.T, a *nomadtest.Agent) (*nomad.Self, bool) {
	client := a.Client(nomad.WithRetries(0))
	defer client.Close()
	self, err := client.Agent.Self(t.Context())
	return self, err == nil
}

// forceLeave calls ForceLeave and ignores the result.
func forceLeave(t *testing.T, a *nomadtest.Agent, node string) {
	client := a.Client(nomad.WithRetries(0))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // the agent may stall because of a fault
	defer cancel()
	_ = client.Agent.ForceLeave(ctx, node)
}

// TestEverythingAtOnce makes all changes from many goroutines, to find data races and deadlocks.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1))
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	jobs := []func(*nomadtest.Agent, *rand.Rand){
		func(a *nomadtest.Agent, _ *rand.Rand) { a.Stop() },
		func(a *nomadtest.Agent, _ *rand.Rand) { a.Start() },
		func(a *nomadtest.Agent, _ *rand.Rand) { a.Leave(); a.Start() },
		func(a *nomadtest.Agent, _ *rand.Rand) {
			a.TakeLead()
			a.SetTag("x", "y")
			a.Log("info", "test", "log", "odd")
		},
		func(a *nomadtest.Agent, _ *rand.Rand) { cluster.Partition(a.Name()) },
		func(*nomadtest.Agent, *rand.Rand) { cluster.Heal() },
		func(a *nomadtest.Agent, _ *rand.Rand) {
			fault := a.Inject(nomadtest.Stall(), nomadtest.Times(1))
			defer fault.Remove()
			a.Requests()
			time.Sleep(time.Millisecond)
		},
		func(a *nomadtest.Agent, _ *rand.Rand) {
			forceLeave(t, a, cluster.Agents()[0].MemberName())
		},
		func(a *nomadtest.Agent, _ *rand.Rand) {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			client := a.Client(nomad.WithRetries(0))
			defer client.Close()
			client.Agent.Self(short)
			client.Agent.Join(short, cluster.Agents()[1].SerfAddr())
			if logs, err := client.Agent.Monitor(short, nomad.MonitorOptions{}); err == nil {
				logs.Close()
			}
		},
	}
	for i, job := range slices.Concat(jobs, jobs) {
		go func() {
			defer func() { done <- struct{}{} }()
			random := rand.New(rand.NewPCG(uint64(i), 0))
			for ctx.Err() == nil {
				job(cluster.Agents()[random.IntN(4)], random)
			}
		}()
	}
	for range 2 * len(jobs) {
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("deadlock")
		}
	}
	cluster.Close()
}
