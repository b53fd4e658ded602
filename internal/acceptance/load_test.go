package acceptance_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/nomadtest"
)

// counting serves the member list and counts connections.
func counting(t *testing.T, listener net.Listener, name string) *testkit.Counter {
	count := &testkit.Counter{Listener: listener}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"ServerRegion":"global","Members":[{"Name":%q,"Addr":"127.0.0.1","Port":4648,"Status":"alive"}]}`, name)
	}))
	server.Listener.Close()
	server.Listener = count
	server.Start()
	t.Cleanup(server.Close)
	return count
}

// TestGoroutines shares one client among many goroutines. No call may fail, and there must never be
// more connections than configured.
func TestGoroutines(t *testing.T) {
	for _, goroutines := range []int{1, 16, 256, 1000, 10_000} {
		if testing.Short() && goroutines != 256 {
			continue
		}
		t.Run(strconv.Itoa(goroutines), func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			count := counting(t, listener, "a")
			client := testkit.NewClient(t, nomad.WithAddress(listener.Addr().String()))
			calls := make(chan struct{}, 10_000)
			for range cap(calls) {
				calls <- struct{}{}
			}
			close(calls)
			var failures atomic.Int64
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range calls {
						if _, err := client.Agent.Members(t.Context()); err != nil && failures.Add(1) < 5 {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			assert.Zero(t, failures.Load())
			assert.LessOrEqual(t, count.Most.Load(), int64(nomad.DefaultMaxConns))
			t.Logf("at most %d connections at once, %d in all", count.Most.Load(), count.All.Load())
		})
	}
}

// TestMoreConnectionsThanTheAgentTakes uses eight clients with separate connections, like eight
// processes. Together they want 128 connections of an agent that accepts 100, and they make enough
// calls to keep every connection busy.
func TestMoreConnectionsThanTheAgentTakes(t *testing.T) {
	for scheme, opts := range map[string][]nomadtest.AgentOption{"http": nil, "https": {nomadtest.TLS()}} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			cluster := nomadtest.NewCluster(nomadtest.Servers(1, opts...))
			defer cluster.Close()
			var calls [8]atomic.Int64
			var failures atomic.Int64
			var wg sync.WaitGroup
			end := time.Now().Add(3 * time.Second)
			for i := range calls {
				client := cluster.Client(cluster.Agents()[0].Name())
				defer client.Close()
				for range 64 {
					wg.Go(func() {
						for time.Now().Before(end) || calls[i].Load() == 0 { // every client must succeed at least once
							if _, err := client.Agent.Members(t.Context()); err != nil && failures.Add(1) < 5 {
								t.Error(err)
							}
							calls[i].Add(1)
						}
					})
				}
			}
			wg.Wait()
			assert.Zero(t, failures.Load())
		})
	}
}

// TestNoConnectionLeft makes calls while other programs hold all connections of the agent.
func TestNoConnectionLeft(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MaxConns(3)))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	take := func() (release func()) {
		var held []net.Conn
		for range 3 {
			conn, err := net.Dial("tcp", strings.TrimPrefix(agent.URL(), "http://"))
			require.NoError(t, err)
			held = append(held, conn)
			fmt.Fprint(conn, "GET /v1/agent/health HTTP/1.1\r\nHost: a\r\n\r\n")
			_, err = conn.Read(make([]byte, 1))
			require.NoError(t, err)
		}
		return func() {
			for _, conn := range held {
				conn.Close()
			}
		}
	}
	client := func(opts ...nomad.Option) *nomad.Client {
		return testkit.NewClient(t, append([]nomad.Option{nomad.WithAddress(agent.URL())}, opts...)...)
	}

	release := take()
	defer release()

	started := time.Now()
	_, err := client(nomad.WithRetries(0)).Agent.Members(t.Context())
	assert.ErrorIs(t, err, nomad.ErrTooManyRequests, "without retries the call does not wait")
	assert.NotErrorIs(t, err, context.DeadlineExceeded)

	_, err = client(nomad.WithTimeout(time.Second)).Agent.Members(t.Context())
	assert.ErrorIs(t, err, nomad.ErrTooManyRequests)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no response within 1s")
	assert.GreaterOrEqual(t, time.Since(started), time.Second)

	// Many calls wait for a connection.
	var wg sync.WaitGroup
	patient := client()
	for range 100 {
		wg.Go(func() {
			_, err := patient.Agent.Members(t.Context())
			assert.NoError(t, err)
		})
	}
	wg.Go(func() { // a refused request was not processed, so even a call that is not idempotent is retried
		assert.NoError(t, testkit.Call(t.Context(), patient, http.MethodPut, "/v1/agent/join", map[string][]string{"address": {agent.SerfAddr()}}, nil, nil))
	})
	wg.Go(func() {
		logs, err := patient.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		if assert.NoError(t, err) {
			logs.Close()
		}
	})
	time.Sleep(2 * time.Second)
	release()
	wg.Wait()
}

// TestRetryBudget makes many calls to an agent that fails, and counts the retries.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	trouble := agent.Inject(nomadtest.Status(http.StatusServiceUnavailable, "no"))
	client := cluster.Client(agent.Name())
	defer client.Close()
	const calls = 500
	all := func() {
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				_, err := client.Agent.Members(t.Context())
				var failure *nomad.APIError
				if assert.ErrorAs(t, err, &failure) {
					assert.Equal(t, http.StatusServiceUnavailable, failure.StatusCode)
				}
			})
		}
		wg.Wait()
	}
	all()
	assert.InDelta(t, calls+100, trouble.Hits(), 20, "100 retries, plus one per second")
	before := trouble.Hits()
	all()
	assert.InDelta(t, calls, trouble.Hits()-before, 20)

	// A derived client shares the budget for the same agent.
	before = trouble.Hits()
	same, err := client.With(nomad.WithToken("another"))
	require.NoError(t, err)
	for range 10 {
		_, err = same.Agent.Members(t.Context())
		assert.Error(t, err)
	}
	assert.InDelta(t, 10, trouble.Hits()-before, 3)

	// Ten successful calls earn one retry.
	trouble.Remove()
	for range 200 {
		_, err = client.Agent.Members(t.Context())
		require.NoError(t, err)
	}
	trouble = agent.Inject(nomadtest.Status(http.StatusServiceUnavailable, "no"), nomadtest.Times(3))
	_, err = client.Agent.Members(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, 3, trouble.Hits())
}

// TestRetryBudgetOfManyClients makes each call to an agent that fails with a Client of its own from With.
func TestRetryBudgetOfManyClients(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	agent, other := cluster.Agents()[0], cluster.Agents()[1]
	trouble := agent.Inject(nomadtest.Status(http.StatusServiceUnavailable, "no"))
	client := testkit.NewClient(t, nomad.WithAddress(other.URL()), nomad.WithRetries(1))
	const calls = 300
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			derived, err := client.With(nomad.WithAddress(agent.URL()))
			if assert.NoError(t, err) {
				_, err = derived.Agent.Members(t.Context())
				assert.Error(t, err)
			}
		})
	}
	wg.Wait()
	assert.InDelta(t, calls+100, trouble.Hits(), 20, "100 retries, plus one per second")
}

// TestNameThatMoves changes the IP address of an agent's name while the agent at the first address keeps
// running.
func TestNameThatMoves(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		first.Close()
		t.Skip("this system has only one loopback address: ", err)
	}
	counting(t, first, "first")
	counting(t, second, "second")
	moved := nameServer(t)

	client := testkit.NewClient(t, nomad.WithAddress(fmt.Sprintf("agent.example:%d", port)))
	name := func() string {
		members, err := client.Agent.Members(t.Context())
		require.NoError(t, err)
		return members.Members[0].Name
	}
	assert.Equal(t, "first", name())
	moved.Store(true)
	assert.Eventually(t, func() bool { return name() == "second" }, 30*time.Second, 10*time.Millisecond)
}

// nameServer starts a name server and makes it the default resolver of this process. It resolves every
// name to 127.0.0.1, or to 127.0.0.2 once moved is set.
func nameServer(t *testing.T) (moved *atomic.Bool) {
	moved = new(atomic.Bool)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			end := 12 // end of the question
			for buffer[end] != 0 {
				end += int(buffer[end]) + 1
			}
			kind := binary.BigEndian.Uint16(buffer[end+1:])
			response := append([]byte(nil), buffer[:min(end+5, n)]...)
			copy(response[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // flags of a response, and one question
			if kind == 1 {
				address := byte(1)
				if moved.Load() {
					address = 2
				}
				response[7] = 1
				response = append(response, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, address)
			}
			conn.WriteTo(response, from)
		}
	}()
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		conn.Close()
		<-done
	})
	return moved
}

// TestConnectionBrokenByTheRequest calls an agent that closes the connection after each request. To the
// client this looks like the connection limit, but the call must still end with an error.
func TestConnectionBrokenByTheRequest(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			var hits atomic.Int32
			server := start(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				hits.Add(1)
				panic(http.ErrAbortHandler)
			}))
			defer server.Close()
			opts := []nomad.Option{nomad.WithAddress(server.URL)}
			if server.TLS != nil {
				opts = append(opts, nomad.WithTLSConfig(server.Client().Transport.(*http.Transport).TLSClientConfig))
			}
			client := testkit.NewClient(t, opts...)
			err := testkit.Call(t.Context(), client, http.MethodGet, "/v1/x", nil, nil, nil)
			assert.ErrorIs(t, err, io.EOF)
			assert.ErrorContains(t, err, "each new connection was closed without a response")
			assert.NotErrorIs(t, err, context.DeadlineExceeded)
			assert.EqualValues(t, 5, hits.Load())

			hits.Store(0)
			err = testkit.Call(t.Context(), client, http.MethodPost, "/v1/x", nil, nil, nil)
			assert.ErrorIs(t, err, io.EOF)
			assert.EqualValues(t, 1, hits.Load(), "a request that is not idempotent is sent once")
		})
	}
}

// TestHedgedRoundTrips uses a round tripper that sends a request several times at once. When one of them
// ends, the others must go on.
func TestHedgedRoundTrips(t *testing.T) {
	client := testkit.Serve(t, testkit.Responding(200, "application/json", `["a:1"]`), nomad.WithRetries(0), nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return testkit.RoundTripper(func(r *http.Request) (*http.Response, error) {
			if res, err := next.RoundTrip(r.Clone(r.Context())); err == nil {
				res.Body.Close()
			}
			var other sync.WaitGroup
			defer other.Wait()
			other.Go(func() {
				ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
				defer cancel()
				if res, err := next.RoundTrip(r.Clone(ctx)); err == nil {
					res.Body.Close()
				}
			})
			return next.RoundTrip(r.Clone(r.Context()))
		})
	}))
	for range 20 {
		_, err := client.Agent.Servers(t.Context())
		assert.NoError(t, err)
	}
}
