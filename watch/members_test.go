package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

// direct calls agents in memory without a network, so that tests can use simulated time.
type direct struct {
	do       func(func()) // runs a function in real time
	mu       sync.Mutex
	agents   []*nomadtest.Agent                // called in turn
	down     bool                              // no agent can be reached
	requests []time.Time                       // time of each request
	late     func(now time.Time) (body []byte) // an outdated response, or nil
}

func (d *direct) RoundTrip(req *http.Request) (res *http.Response, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	agent := d.agents[len(d.requests)%len(d.agents)]
	d.requests = append(d.requests, time.Now())
	if d.down {
		return nil, errors.New("no route to host")
	}
	recorder := httptest.NewRecorder()
	if d.late != nil && strings.HasSuffix(req.URL.Path, "/members") {
		if body := d.late(time.Now()); body != nil {
			recorder.Header().Set("Content-Type", "application/json")
			recorder.Write(body)
			return recorder.Result(), nil
		}
	}
	d.do(func() {
		defer func() {
			if recover() != nil {
				err = errors.New("connection reset by peer")
			}
		}()
		agent.ServeHTTP(recorder, req.WithContext(context.Background()))
	})
	if err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

// polls returns the time of each request.
func (d *direct) polls() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

func (d *direct) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// outside returns a function that runs others outside the bubble. Agents cannot start in simulated time.
func outside(t *testing.T) func(func()) {
	work, done := make(chan func()), make(chan struct{})
	go func() {
		for f := range work {
			f()
			done <- struct{}{}
		}
		close(done)
	}()
	t.Cleanup(func() {
		close(work)
		<-done
	})
	var mu sync.Mutex
	return func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		work <- f
		<-done
	}
}

// watched is a watch of a cluster's members in simulated time.
type watched struct {
	cluster   *nomadtest.Cluster
	transport *direct
	do        func(func()) // runs changes of the cluster

	mu       sync.Mutex
	reported []string            // all events
	events   []watch.MemberEvent // events of members
	at       []time.Time         // time of each of events
	outages  []watch.MemberEvent // of the kinds Outage and OutageOver
	end      error
}

func watchCluster(t *testing.T, cluster *nomadtest.Cluster, agents []*nomadtest.Agent, opts watch.Options, test func(w *watched)) {
	do := outside(t)
	w := &watched{cluster: cluster, transport: &direct{do: do, agents: agents}, do: do}
	synctest.Test(t, func(t *testing.T) {
		client, err := nomad.NewClient(nomad.WithHTTPClient(&http.Client{Transport: w.transport}), nomad.WithRetries(0))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			for event, err := range watch.Members(ctx, client.Agent, opts) {
				w.mu.Lock()
				switch {
				case err != nil:
					w.end = err
				case event.Kind == watch.Outage || event.Kind == watch.OutageOver:
					w.reported = append(w.reported, string(event.Kind))
					w.outages = append(w.outages, event)
				default:
					w.reported = append(w.reported, strings.ReplaceAll(event.String(), ".global", ""))
					w.events = append(w.events, event)
					w.at = append(w.at, time.Now())
				}
				w.mu.Unlock()
			}
		})
		synctest.Wait()
		test(w)
		cancel()
		synctest.Wait() // the watch must end without delay
		group.Wait()
		assert.Equal(t, context.Canceled, w.end)
	})
}

// news returns the events since its last call, or since the beginning.
func (w *watched) news() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	reported := w.reported
	w.reported = nil
	return reported
}

// TestMembers takes a pool through every transition.
func TestMembers(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	t.Cleanup(cluster.Close)
	agent := cluster.Agent
	agent("server-4").Stop()
	agent("server-5").Leave()
	admin := cluster.Client("server-1")
	forceLeave := func(name string, opts ...nomad.ForceLeaveOption) {
		require.NoError(t, admin.Agent.ForceLeave(t.Context(), name+".global", opts...))
	}
	watchCluster(t, cluster, cluster.Agents()[:1], watch.Options{}, func(w *watched) {
		assert.Equal(t, []string{
			"server-1 joined", "server-2 joined", "server-3 joined",
			"server-4 joined", "server-4 failed",
			"server-5 joined", "server-5 left",
			"synced",
		}, w.news(), "the first response")
		for _, e := range w.events[:3] {
			assert.Zero(t, e.Before)
			assert.Equal(t, e.After.Name, e.Name())
			assert.Equal(t, "2.0.5", e.After.Build())
			assert.Equal(t, time.Now(), e.Time)
		}
		for _, step := range []struct {
			name    string
			do      func()
			want    []string
			changed []string // in the last event
		}{
			{name: "nothing", do: func() {}},
			{name: "it fails", do: agent("server-2").Stop, want: []string{"server-2 failed"}, changed: []string{"Status"}},
			{name: "it recovers", do: agent("server-2").Start, want: []string{"server-2 recovered"}, changed: []string{"Status"}},
			{name: "it fails again, and recovers with another build", do: agent("server-2").Stop, want: []string{"server-2 failed"}, changed: []string{"Status"}},
			{do: func() { agent("server-2").SetTag("build", "2.0.6"); agent("server-2").Start() }, want: []string{"server-2 recovered"}, changed: []string{"Status", "Tags.build"}},
			{name: "a server that had failed before the watch began recovers", do: agent("server-4").Start, want: []string{"server-4 recovered"}, changed: []string{"Status"}},
			{name: "a server that had left joins again", do: agent("server-5").Start, want: []string{"server-5 joined"}, changed: []string{"Status"}},
			{name: "it leaves", do: agent("server-5").Leave, want: []string{"server-5 left"}, changed: []string{"Status"}},
			{name: "it is removed", do: func() { forceLeave("server-5", nomad.Prune()) }, want: []string{"server-5 removed"}},
			{name: "it comes back", do: agent("server-5").Start, want: []string{"server-5 joined"}},
			{name: "it fails and is forced to leave", do: agent("server-5").Stop, want: []string{"server-5 failed"}, changed: []string{"Status"}},
			{do: func() { forceLeave("server-5") }, want: []string{"server-5 left"}, changed: []string{"Status"}},
			{name: "a server that is alive is forced to leave and refutes it at once", do: func() { forceLeave("server-3") }},
			{name: "a tag is added", do: func() { agent("server-2").SetTag("zone", "a") }, want: []string{"server-2 updated: Tags.zone"}, changed: []string{"Tags.zone"}},
			{name: "two tags are changed", do: func() { agent("server-2").SetTag("zone", "b"); agent("server-2").SetTag("build", "2.0.7") }, want: []string{"server-2 updated: Tags.build, Tags.zone"}, changed: []string{"Tags.build", "Tags.zone"}},
			{name: "a tag is removed", do: func() { agent("server-2").SetTag("zone", "") }, want: []string{"server-2 updated: Tags.zone"}, changed: []string{"Tags.zone"}},
			{name: "a server is added", do: func() { cluster.AddServer("server-0") }, want: []string{"server-0 joined"}},
			{name: "several at once, in order", do: func() {
				agent("server-4").Stop()
				agent("server-2").Stop()
				forceLeave("server-5", nomad.Prune())
				cluster.AddServer("server-9")
			}, want: []string{"server-2 failed", "server-4 failed", "server-5 removed", "server-9 joined"}},
			{name: "a server restarts between two polls", do: func() { agent("server-0").Stop(); agent("server-0").Start() }},
		} {
			w.do(step.do)
			time.Sleep(10 * time.Second) // an interval, and the time to settle
			assert.Equal(t, step.want, w.news(), step.name)
			if len(step.want) > 0 {
				last := w.events[len(w.events)-1]
				assert.Equal(t, step.changed, last.Changed, step.name)
				assert.WithinDuration(t, time.Now(), last.Time, 10*time.Second, step.name)
			}
		}
		assert.Empty(t, w.outages)
	})
}

// TestOutage watches an agent that cannot be reached for some time.
func TestOutage(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	t.Cleanup(cluster.Close)
	watchCluster(t, cluster, cluster.Agents()[:1], watch.Options{Interval: 10 * time.Second}, func(w *watched) {
		began := time.Now()
		w.news()
		time.Sleep(35 * time.Second)
		requests := w.transport.polls()
		lastResponse := requests[len(requests)-1]
		w.transport.setDown(true)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"outage"}, w.news(), "one event for the outage")
		outage := w.outages[0]
		assert.Equal(t, lastResponse, outage.Since)
		assert.ErrorContains(t, outage.Err, "no route to host")
		assert.Contains(t, outage.String(), "no route to host (since "+lastResponse.Format(time.RFC3339)+")")
		assert.InDelta(t, 12, len(w.transport.polls())-len(requests), 2, "after 10, 20, 40 and then every 60 s")

		w.do(cluster.Agent("server-3").Stop)
		w.transport.setDown(false)
		time.Sleep(70 * time.Second)
		assert.Equal(t, []string{"outage_over", "server-3 failed", "synced"}, w.news(), "changes during the outage")
		over := w.outages[1]
		assert.Equal(t, lastResponse, over.Since)
		assert.NoError(t, over.Err)
		assert.Greater(t, over.Time.Sub(over.Since), 10*time.Minute)
		assert.Regexp(t, `^outage over after 1[01]m\d`, over.String())

		w.transport.setDown(true)
		time.Sleep(15 * time.Second)
		w.transport.setDown(false)
		time.Sleep(25 * time.Second)
		assert.Equal(t, []string{"outage", "outage_over", "synced"}, w.news(), "another outage, in which nothing happened")
		assert.Greater(t, time.Since(began), 10*time.Minute)
	})

	t.Run("from the start", func(t *testing.T) {
		cluster := nomadtest.NewCluster()
		t.Cleanup(cluster.Close)
		cluster.Agent("server-1").Stop()
		watchCluster(t, cluster, cluster.Agents(), watch.Options{}, func(w *watched) {
			began := time.Now()
			assert.Equal(t, []string{"outage"}, w.news())
			assert.Equal(t, began, w.outages[0].Since)
			w.do(cluster.Agent("server-1").Start)
			time.Sleep(2 * time.Minute)
			assert.Equal(t, []string{"outage_over", "server-1 joined", "synced"}, w.news())
		})
	})
}

// TestSettles watches through agents that report different views of the pool.
func TestSettles(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*nomadtest.Cluster, []*nomadtest.Agent) {
		cluster := nomadtest.NewCluster(nomadtest.Servers(3))
		t.Cleanup(cluster.Close)
		return cluster, []*nomadtest.Agent{cluster.Agent("server-1"), cluster.Agent("server-3")}
	}
	t.Run("alternating views", func(t *testing.T) {
		cluster, agents := start(t)
		watchCluster(t, cluster, agents, watch.Options{}, func(w *watched) {
			w.news()
			w.do(func() { cluster.Partition("server-3") })
			time.Sleep(time.Hour)
			assert.Empty(t, w.news(), "no events while the views differ")
			w.do(cluster.Heal)
			time.Sleep(time.Minute)
			assert.Empty(t, w.news())
			w.do(cluster.Agent("server-2").Stop)
			time.Sleep(10 * time.Second)
			assert.Equal(t, []string{"server-2 failed"}, w.news())
		})
	})
	t.Run("a status that changes back before Settle", func(t *testing.T) {
		cluster, agents := start(t)
		watchCluster(t, cluster, agents[:1], watch.Options{Interval: time.Second, Settle: 4 * time.Second}, func(w *watched) {
			w.news()
			for range 50 {
				w.do(cluster.Agent("server-2").Stop)
				time.Sleep(3 * time.Second)
				w.do(cluster.Agent("server-2").Start)
				time.Sleep(3 * time.Second)
			}
			time.Sleep(10 * time.Second)
			assert.Empty(t, w.news())
			w.do(cluster.Agent("server-2").Stop)
			time.Sleep(3500 * time.Millisecond)
			assert.Empty(t, w.news())
			time.Sleep(3 * time.Second)
			assert.Equal(t, []string{"server-2 failed"}, w.news())
		})
	})
	t.Run("negative Settle", func(t *testing.T) {
		cluster, agents := start(t)
		watchCluster(t, cluster, agents[:1], watch.Options{Interval: time.Second, Settle: -1}, func(w *watched) {
			w.news()
			w.do(cluster.Agent("server-2").Stop)
			time.Sleep(1200 * time.Millisecond)
			assert.Equal(t, []string{"server-2 failed"}, w.news())
		})
	})
	t.Run("intervals between polls", func(t *testing.T) {
		cluster, agents := start(t)
		watchCluster(t, cluster, agents[:1], watch.Options{}, func(w *watched) {
			time.Sleep(1000 * time.Second)
			requests := w.transport.polls()
			assert.InDelta(t, 200, len(requests), 10)
			different := map[time.Duration]bool{}
			for i := range requests[1:] {
				wait := requests[i+1].Sub(requests[i])
				assert.InDelta(t, 5, wait.Seconds(), 0.501)
				different[wait] = true
			}
			assert.Greater(t, len(different), 100, "the intervals vary")
		})
	})
}

// TestThroughBalancer watches through a load balancer that gives each connection to the next server.
// Servers whose views never agree must not cause events.
func TestThroughBalancer(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	cluster.Partition("server-3")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var accepted atomic.Int64
	var group sync.WaitGroup
	defer group.Wait()
	defer listener.Close()
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			to := cluster.URL([]string{"server-1", "server-3"}[accepted.Add(1)%2])
			server, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
			if err != nil {
				conn.Close()
				continue
			}
			group.Go(func() { io.Copy(server, conn); server.Close() })
			group.Go(func() { io.Copy(conn, server); conn.Close() })
		}
	})
	client, err := nomad.NewClient(nomad.WithAddress("http://" + listener.Addr().String()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	synced := false
	for event, err := range watch.Members(ctx, client.Agent, watch.Options{Interval: 100 * time.Millisecond, Settle: 80 * time.Millisecond}) {
		if err != nil {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			break
		}
		assert.False(t, synced, event)
		synced = event.Kind == watch.Synced
	}
	assert.True(t, synced)
	assert.Greater(t, accepted.Load(), int64(10))
}

// TestRefusedByProxy has a proxy refuse every poll with a 429. Polls use new connections, on which an agent
// at its connection limit sends a 429 too. The polls must not be retried more often than other calls.
func TestRefusedByProxy(t *testing.T) {
	var requests atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer proxy.Close()
	client, err := nomad.NewClient(nomad.WithAddress(proxy.URL), nomad.WithRetries(1))
	require.NoError(t, err)
	defer client.Close()
	for event, err := range watch.Members(t.Context(), client.Agent, watch.Options{}) {
		require.NoError(t, err)
		assert.ErrorIs(t, event.Err, nomad.ErrTooManyRequests)
		break
	}
	assert.EqualValues(t, 2, requests.Load())
}

// TestChurn changes a pool at random and watches it through agents whose responses are outdated or fail at
// times. It compares the events with the changes.
func TestChurn(t *testing.T) {
	t.Parallel()
	const (
		maxLate = 1500 * time.Millisecond // shorter than Settle
		mustSee = 20 * time.Second        // a state must be reported if it lasts this long outside an outage
	)
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	t.Cleanup(cluster.Close)
	admin := cluster.Client("server-1")
	body := func() []byte {
		members, err := admin.Agent.Members(t.Context())
		require.NoError(t, err)
		slices.SortFunc(members.Members, nomad.CompareMembers)
		encoded, err := json.Marshal(members)
		require.NoError(t, err)
		return encoded
	}
	decoded := func(body []byte) map[string]nomad.Member {
		var members nomad.Members
		require.NoError(t, json.Unmarshal(body, &members))
		byName := map[string]nomad.Member{}
		for _, m := range members.Members {
			byName[m.Name] = m
		}
		return byName
	}
	events, outages, seeds := 0, 0, 100
	if testing.Short() {
		seeds = 40
	}
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 7))
		stopped := map[string]bool{}
		change := func() {
			name := fmt.Sprintf("server-%d", 2+random.IntN(4))
			agent := cluster.Agent(name)
			switch what := random.IntN(7); {
			case stopped[name] && what < 3:
				agent.Start()
				stopped[name] = false
			case stopped[name] && what < 5:
				require.NoError(t, admin.Agent.ForceLeave(t.Context(), name+".global"))
			case stopped[name]:
				require.NoError(t, admin.Agent.ForceLeave(t.Context(), name+".global", nomad.Prune()))
			case what < 3:
				agent.Stop()
				stopped[name] = true
			case what < 5:
				agent.Leave()
				stopped[name] = true
			default:
				agent.SetTag("zone", fmt.Sprint(random.IntN(3)))
			}
		}
		type snapshot struct {
			from time.Time
			body []byte
		}
		var (
			history []snapshot
			hidden  [][2]time.Time // outages
			end     time.Time
		)
		var w *watched
		opts := watch.Options{Interval: time.Duration(1+seed%2*4) * time.Second} // one second is shorter than maxLate
		watchCluster(t, cluster, cluster.Agents()[:1], opts, func(started *watched) {
			w = started
			record := func() {
				var now []byte
				w.do(func() { now = body() })
				w.transport.mu.Lock()
				history = append(history, snapshot{time.Now(), now})
				w.transport.mu.Unlock()
			}
			record()
			w.transport.mu.Lock()
			w.transport.late = func(now time.Time) []byte {
				if random := rand.N(2); random == 0 {
					return nil
				}
				then := now.Add(-rand.N(maxLate))
				for _, s := range slices.Backward(history) {
					if !s.from.After(then) {
						return s.body
					}
				}
				return nil
			}
			w.transport.mu.Unlock()
			for range 40 {
				// Some changes follow each other closely, others after a long time.
				time.Sleep(time.Duration(random.Float64() * random.Float64() * 60 * float64(time.Second)))
				if random.IntN(10) == 0 {
					began := time.Now()
					w.transport.setDown(true)
					time.Sleep(time.Duration(random.Float64() * 90 * float64(time.Second)))
					w.transport.setDown(false)
					hidden = append(hidden, [2]time.Time{began, time.Now().Add(70 * time.Second)})
				}
				w.do(change)
				record()
			}
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			end = time.Now()
		})

		// The events must match the changes in order. Short-lived states may be missing.
		known, synced := map[string]nomad.Member{}, 0
		reported := map[string][]nomad.Member{}
		for _, e := range w.events {
			if e.Kind == watch.Synced {
				synced++
				continue
			}
			if first := reflect.DeepEqual(e.Before, e.After); first {
				require.Contains(t, []watch.Kind{watch.Failed, watch.Left}, e.Kind, "seed %d: %v changes nothing", seed, e)
				before := reported[e.Name()]
				require.True(t, len(before) > 0 && reflect.DeepEqual(before[len(before)-1], e.After), "seed %d: %v", seed, e)
				continue
			}
			require.Equal(t, known[e.Name()], e.Before, "seed %d: %v", seed, e)
			reported[e.Name()] = append(reported[e.Name()], e.After)
			if known[e.Name()] = e.After; e.Kind == watch.Removed {
				delete(known, e.Name())
			}
		}
		require.Equal(t, decoded(history[len(history)-1].body), known, "seed %d: final state", seed)
		outaged := (len(w.outages) + 1) / 2
		require.LessOrEqual(t, synced, 1+outaged, "seed %d", seed) // fewer if an outage begins before synced
		require.Greater(t, lastIndex(w.reported, "synced"), lastIndex(w.reported, "outage"), "seed %d", seed)
		require.LessOrEqual(t, outaged, len(hidden), "seed %d", seed)
		for i, o := range w.outages {
			require.Equal(t, [...]watch.Kind{watch.Outage, watch.OutageOver}[i%2], o.Kind, "seed %d", seed)
		}
		names := map[string]bool{}
		states := make([]map[string]nomad.Member, len(history))
		for i, s := range history {
			states[i] = decoded(s.body)
			for name := range states[i] {
				names[name] = true
			}
		}
		for name := range names {
			left := reported[name]
			for i, next := 0, 0; i < len(states); i = next {
				for next = i + 1; next < len(states) && reflect.DeepEqual(states[next][name], states[i][name]); next++ {
				}
				from, to := history[i].from, end
				if next < len(states) {
					to = history[next].from
				}
				long := to.Sub(from) > mustSee && !slices.ContainsFunc(hidden, func(h [2]time.Time) bool { return from.Before(h[1]) && to.After(h[0]) })
				if len(left) > 0 && reflect.DeepEqual(left[0], states[i][name]) {
					left = left[1:]
				}
				if long {
					var last nomad.Member
					for k, e := range w.events {
						if e.Name() == name && w.at[k].Before(to) {
							last = e.After
						}
					}
					require.Equal(t, states[i][name], last, "seed %d: %s had this state for %v, but it was not reported", seed, name, to.Sub(from))
				}
			}
			require.Empty(t, left, "seed %d: events of %s that did not happen, or in another order", seed, name)
		}
		events += len(w.events)
		outages += outaged
		for name, is := range stopped {
			if is {
				cluster.Agent(name).Start()
			}
		}
	}
	t.Logf("%d seeds: %d events, %d outages", seeds, events, outages)
	assert.Greater(t, events, 10*seeds)
	assert.Greater(t, outages, seeds/2)
}

func lastIndex(all []string, one string) int {
	for i, s := range slices.Backward(all) {
		if s == one {
			return i
		}
	}
	return -1
}

// TestHealth watches a server that loses its leader.
func TestHealth(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	t.Cleanup(cluster.Close)
	do := outside(t)
	transport := &direct{do: do, agents: cluster.Agents()[:1]}
	synctest.Test(t, func(t *testing.T) {
		client, err := nomad.NewClient(nomad.WithHTTPClient(&http.Client{Transport: transport}), nomad.WithRetries(0))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var (
			group    sync.WaitGroup
			mu       sync.Mutex
			reported []string
			events   []watch.HealthEvent
		)
		group.Go(func() {
			for event, err := range watch.Health(ctx, client.Agent, watch.Options{}) {
				if err != nil {
					assert.Equal(t, context.Canceled, err)
					break
				}
				mu.Lock()
				events = append(events, event)
				if event.Kind == watch.Outage {
					assert.ErrorContains(t, event.Err, "no route to host")
					reported = append(reported, "outage")
				} else {
					reported = append(reported, event.String())
				}
				mu.Unlock()
			}
		})
		news := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			was := reported
			reported = nil
			return was
		}
		assert.Equal(t, []string{"healthy"}, news())
		assert.Zero(t, events[0].Before)
		time.Sleep(time.Minute)
		assert.Empty(t, news())

		do(func() { cluster.Agent("server-2").Stop(); cluster.Agent("server-3").Stop() })
		time.Sleep(10 * time.Second)
		assert.Equal(t, []string{"unhealthy: server: No cluster leader"}, news())
		last := events[len(events)-1]
		assert.Equal(t, watch.Unhealthy, last.Kind)
		assert.ErrorIs(t, last.Err, nomad.ErrUnhealthy)
		assert.ErrorIs(t, last.Err, nomad.ErrNoLeader)
		assert.True(t, last.Before.OK())

		transport.setDown(true)
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"outage"}, news())
		transport.setDown(false)
		time.Sleep(time.Minute)
		after := news()
		over := events[len(events)-2]
		assert.Equal(t, []string{over.String(), "unhealthy: server: No cluster leader"}, after, "the same as before the outage")
		assert.Equal(t, watch.OutageOver, over.Kind)

		do(cluster.Agent("server-2").Start)
		time.Sleep(10 * time.Second)
		assert.Equal(t, []string{"healthy"}, news())
		assert.NoError(t, events[len(events)-1].Err)

		do(func() { cluster.Agent("server-2").Stop() })
		time.Sleep(time.Second)
		do(func() { cluster.Agent("server-2").Start() })
		time.Sleep(10 * time.Second)
		assert.Empty(t, news(), "a short outage of the leader is not reported")
		cancel()
		group.Wait()
	})
}

// TestEnds ends watches on a network in different ways.
func TestEnds(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer cluster.Close()
	client := cluster.Client("server-1")

	t.Run("break", func(t *testing.T) {
		for event, err := range watch.Members(t.Context(), client.Agent, watch.Options{}) {
			require.NoError(t, err)
			assert.Equal(t, watch.Joined, event.Kind)
			break
		}
	})
	t.Run("twice", func(t *testing.T) {
		events := watch.Members(t.Context(), client.Agent, watch.Options{})
		for range 2 {
			n := 0
			for event := range events {
				if n++; event.Kind == watch.Synced {
					break
				}
			}
			assert.Equal(t, 3, n)
		}
	})
	t.Run("between two polls", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var end error
		for event, err := range watch.Members(ctx, client.Agent, watch.Options{Interval: time.Hour}) {
			end = err
			if event.Kind == watch.Synced {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
		}
		assert.Equal(t, context.Canceled, end)
	})
	t.Run("during a poll", func(t *testing.T) {
		stall := cluster.Agent("server-1").Inject(nomadtest.Stall())
		defer stall.Remove()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		n := 0
		for event, err := range watch.Health(ctx, client.Agent, watch.Options{}) {
			n++
			assert.Zero(t, event)
			assert.Equal(t, context.DeadlineExceeded, err)
		}
		assert.Equal(t, 1, n)
	})
	t.Run("before the first poll", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		n := 0
		for event, err := range watch.Members(ctx, client.Agent, watch.Options{}) {
			n++
			assert.Zero(t, event)
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorIs(t, err, why)
		}
		assert.Equal(t, 1, n)
	})
	t.Run("invalid arguments", func(t *testing.T) {
		closed := cluster.Agent("server-1").Client()
		closed.Close()
		for _, test := range []struct {
			client *nomad.Client
			opts   watch.Options
			roles  []nomad.Role
			want   error
			text   string
		}{
			{client, watch.Options{Interval: -1}, nil, nomad.ErrInvalidArgument, "Interval -1ns: want 1ms or more, or 0 for 5s"},
			{closed, watch.Options{}, nil, nomad.ErrClosed, "closed"},
			{client, watch.Options{}, []nomad.Role{"chief"}, nomad.ErrInvalidArgument, `role "chief"`},
		} {
			var errs []error
			for _, err := range watch.Health(t.Context(), test.client.Agent, test.opts, test.roles...) {
				errs = append(errs, err)
			}
			if test.roles == nil {
				for _, err := range watch.Members(t.Context(), test.client.Agent, test.opts) {
					errs = append(errs, err)
				}
				require.Len(t, errs, 2)
			}
			for _, err := range errs {
				assert.ErrorIs(t, err, test.want)
				assert.ErrorContains(t, err, test.text)
			}
		}
	})
	t.Run("among many events", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var errs []error
		for _, err := range watch.Members(ctx, client.Agent, watch.Options{}) {
			errs = append(errs, err)
			cancel()
		}
		assert.Equal(t, []error{nil, context.Canceled}, errs)
	})
	t.Run("changes of an event in the loop do not affect the watch", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		for event, err := range watch.Members(ctx, client.Agent, watch.Options{Interval: time.Millisecond, Settle: -1}) {
			if err != nil {
				assert.Equal(t, context.DeadlineExceeded, err)
				break
			}
			assert.NotEqual(t, watch.Updated, event.Kind)
			if event.Kind == watch.Joined {
				event.After.Tags["note"] = "mine"
			}
		}
	})
	t.Run("a refused token is an outage", func(t *testing.T) {
		guarded := nomadtest.NewCluster(nomadtest.ACLs())
		defer guarded.Close()
		client := guarded.Client("server-1", nomad.WithToken(nomadtest.UnknownToken))
		for event, err := range watch.Members(t.Context(), client.Agent, watch.Options{Interval: time.Millisecond}) {
			require.NoError(t, err)
			assert.Equal(t, watch.Outage, event.Kind)
			assert.ErrorIs(t, event.Err, nomad.ErrPermissionDenied)
			assert.NotContains(t, event.String(), nomadtest.UnknownToken)
			break
		}
	})
}
