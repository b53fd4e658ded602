package nomadtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestFaults checks the error of a client for each fault, with and without TLS.
func TestFaults(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	cases := []struct {
		name  string
		fault nomadtest.Fault
		want  func(error) bool
	}{
		{"delay", nomadtest.Delay(time.Millisecond), func(err error) bool { return err == nil }},
		{"long delay", nomadtest.Delay(time.Hour), is(context.DeadlineExceeded)},
		{"status", nomadtest.Status(500, "No cluster leader"), is(nomad.ErrNoLeader)},
		{"body", nomadtest.Status(200, "null"), is(nomad.ErrInvalidResponse)},
		{"redirect", nomadtest.Redirect(elsewhere.URL + "/v1/agent/members"), is(nomad.ErrRedirect)},
		{"reset", nomadtest.Reset(), isReset},
		{"reset after the head", nomadtest.ResetAfter(0), isReset},
		{"reset in the body", nomadtest.ResetAfter(30), isReset},
		{"truncate", nomadtest.Truncate(30), is(io.ErrUnexpectedEOF)},
		{"truncate before the last byte", nomadtest.Truncate(1 << 20), is(io.ErrUnexpectedEOF)},
		{"garbage", nomadtest.Garbage(), func(err error) bool { return err != nil && !errors.Is(err, context.DeadlineExceeded) }},
		{"stall", nomadtest.Stall(), is(context.DeadlineExceeded)},
		{"stall after the head", nomadtest.StallAfter(0), is(context.DeadlineExceeded)},
		{"stall in the body", nomadtest.StallAfter(100), is(context.DeadlineExceeded)},
		{"drip", nomadtest.Drip(100, time.Millisecond), func(err error) bool { return err == nil }},
		{"slow drip", nomadtest.Drip(1, time.Hour), is(context.DeadlineExceeded)},
		{"custom", func(w http.ResponseWriter, r *http.Request, respond http.HandlerFunc) {
			r.Header.Set("Accept-Encoding", "gzip")
			respond(w, r)
		}, func(err error) bool { return err == nil }},
	}
	for kind, option := range map[string]nomadtest.AgentOption{"http": nomadtest.Debug(), "https": nomadtest.TLS()} {
		cluster := start(t, option)
		agent := cluster.Agent("server-1")
		client := cluster.Client("server-1", nomad.WithRetries(0))
		for _, c := range cases {
			for _, compress := range []bool{false, true} {
				client, err := client.With(nomad.WithCompression(compress))
				require.NoError(t, err)
				injection := agent.Inject(c.fault, nomadtest.On("members"))
				_, err = client.Agent.Health(t.Context())
				require.NoError(t, err, "another endpoint")
				assert.Zero(t, injection.Hits())
				limit := 20 * time.Second
				if c.want(context.DeadlineExceeded) {
					limit = 100 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				_, err = client.Agent.Members(ctx)
				cancel()
				assert.True(t, c.want(err), "%s over %s, compressed %t: %v", c.name, kind, compress, err)
				assert.Positive(t, injection.Hits()) // net/http retries on a connection that was reset while idle
				injection.Remove()
				_, err = client.Agent.Members(t.Context())
				assert.NoError(t, err, "after %s", c.name)
			}
		}
	}
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

// isReset reports whether a connection was reset. Windows has a number for it that syscall.ECONNRESET is not.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || runtime.GOOS == "windows" && errors.Is(err, syscall.Errno(10054))
}

// TestFaultsOfStreams breaks a log stream while it is read.
func TestFaultsOfStreams(t *testing.T) {
	t.Parallel()
	cluster := start(t)
	agent := cluster.Agent("server-1")
	for name, c := range map[string]struct {
		fault nomadtest.Fault
		want  func(error) bool
	}{
		"cut in a frame": {nomadtest.Truncate(10), is(io.ErrUnexpectedEOF)},
		"reset":          {nomadtest.ResetAfter(10), isReset},
	} {
		injection := agent.Inject(c.fault, nomadtest.On("monitor"))
		logs, err := cluster.Client("server-1").Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		require.NoError(t, err, name)
		go func() {
			for agent.Listeners() == 0 {
				time.Sleep(time.Millisecond)
			}
			agent.Log("info", "test", "a line that is not seen to its end")
		}()
		_, err = io.Copy(io.Discard, logs)
		assert.True(t, c.want(err), "%s: %v", name, err)
		injection.Remove()
		assert.Eventually(t, func() bool { return agent.Listeners() == 0 }, 20*time.Second, time.Millisecond)
	}
}

// TestFaultsTogether injects several faults into one agent.
func TestFaultsTogether(t *testing.T) {
	cluster := start(t)
	agent, client := cluster.Agent("server-1"), cluster.Client("server-1", nomad.WithRetries(0))
	first := agent.Inject(nomadtest.Status(503, "first"), nomadtest.Times(2), nomadtest.On("members", "keyring/"))
	second := agent.Inject(nomadtest.Status(502, "second"))
	delay := agent.Inject(nomadtest.Delay(0))
	status := func() int {
		_, err := client.Agent.Members(t.Context())
		var failure *nomad.APIError
		if !errors.As(err, &failure) {
			return 200
		}
		return failure.StatusCode
	}
	assert.Equal(t, []int{503, 503, 502}, []int{status(), status(), status()})
	_, err := client.Agent.ListKeys(t.Context())
	assert.ErrorContains(t, err, "second", "the first is used up")
	assert.Equal(t, "2 2 0", fmt.Sprint(first.Hits(), second.Hits(), delay.Hits()))
	second.Remove()
	second.Remove()
	assert.Equal(t, 200, status())
	assert.Equal(t, 1, delay.Hits())

	// Retries succeed when the faults end.
	agent.Inject(nomadtest.Reset(), nomadtest.Times(1))
	agent.Inject(nomadtest.Status(429, ""), nomadtest.Times(1))
	_, err = cluster.Client("server-1").Agent.Members(t.Context())
	assert.NoError(t, err)
}

// TestFaultsWithoutNetwork calls the handler of an agent directly.
func TestFaultsWithoutNetwork(t *testing.T) {
	agent := start(t).Agent("server-1")
	for _, fault := range []nomadtest.Fault{nomadtest.Reset(), nomadtest.Garbage(), nomadtest.Truncate(3)} {
		agent.Inject(fault, nomadtest.Times(1))
		assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
			agent.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/agent/members", nil))
		})
	}
}

// TestStopDuringStall stops an agent while a request stalls. The request must end.
func TestStopDuringStall(t *testing.T) {
	cluster := start(t)
	agent := cluster.Agent("server-1")
	agent.Inject(nomadtest.Stall())
	time.AfterFunc(20*time.Millisecond, agent.Stop)
	_, err := cluster.Client("server-1", nomad.WithRetries(0)).Agent.Members(t.Context())
	assert.Error(t, err)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
}

// TestRequests checks the recorded requests, and that printing them shows no secrets.
func TestRequests(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2), nomadtest.GossipKey("bm9tYWR0ZXN0IGdvc3NpcA=="))
	agent := cluster.Agent("server-1")
	client := cluster.Client("server-1", nomad.WithToken("s3cr3t"), nomad.WithHeader("X-Trace", "1"), nomad.WithBasicAuth("me", "pa55"))
	require.NoError(t, client.Agent.ForceLeave(t.Context(), "server-9.global", nomad.Prune()))
	_, err := client.Agent.InstallKey(t.Context(), nomad.NewSecret("AAAAAAAAAAAAAAAAAAAAAA=="))
	require.NoError(t, err)
	sent := agent.Requests()
	require.Len(t, sent, 2)
	assert.Equal(t, "PUT /v1/agent/force-leave", sent[0].Method+" "+sent[0].Path)
	assert.Equal(t, "server-9.global", sent[0].Query.Get("node"))
	assert.Equal(t, "1", sent[0].Header.Get("X-Trace"))
	assert.Equal(t, "s3cr3t", sent[0].Token.Reveal())
	assert.NotContains(t, fmt.Sprintf("%v %+v", sent, sent), "s3cr3t")
	assert.NotContains(t, fmt.Sprintf("%v %+v", sent, sent), "bWU6cGE1NQ", "basic authentication")
	assert.JSONEq(t, `{"Key":"AAAAAAAAAAAAAAAAAAAAAA=="}`, string(sent[1].Body))
	assert.Empty(t, cluster.Agent("server-2").Requests())
	agent.ForgetRequests()
	assert.Empty(t, agent.Requests())

	for i := range 10_500 {
		agent.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", fmt.Sprintf("/v1/agent/nothing?%d", i), nil))
	}
	sent = agent.Requests()
	assert.Len(t, sent, 10_000)
	assert.True(t, sent[0].Query.Has("500") && sent[9_999].Query.Has("10499"))
}

// TestPartition partitions a cluster and heals it.
func TestPartition(t *testing.T) {
	cluster := start(t, nomadtest.Servers(5), nomadtest.Clients(1))
	sees := func(name string) string { return view(t, cluster.Client(name)) }
	all := func(statuses ...any) string {
		return fmt.Sprintf("server-1.global (%s) server-2.global (%s) server-3.global (%s) server-4.global (%s) server-5.global (%s)", statuses...)
	}
	whole := all("alive", "alive", "alive", "alive", "alive")
	require.Equal(t, whole, sees("server-1"))

	cluster.Partition("server-1", "server-2")
	assert.Equal(t, all("alive", "alive", "failed", "failed", "failed"), sees("server-1"))
	assert.Equal(t, all("failed", "failed", "alive", "alive", "alive"), sees("server-3"))
	assert.Equal(t, sees("server-3"), sees("client-1"), "the client uses the servers that it can reach")
	assert.Equal(t, "server-3", leader(cluster), "the side with a quorum has the leader")
	_, err := cluster.Client("server-2").Agent.Health(t.Context())
	assert.ErrorIs(t, err, nomad.ErrNoLeader)
	joined, err := cluster.Client("server-1").Agent.Join(t.Context(), cluster.Agent("server-3").SerfAddr())
	assert.ErrorIs(t, err, nomad.ErrJoinFailed, joined)
	cluster.Agent("server-2").SetTag("build", "9.9.9")

	cluster.Partition("server-5") // a third side
	assert.Equal(t, all("failed", "failed", "alive", "alive", "failed"), sees("server-4"))
	assert.Equal(t, "none", leader(cluster))
	require.NoError(t, cluster.Client("server-4").Agent.ForceLeave(t.Context(), "server-2.global"))
	cluster.Agent("server-3").Stop()

	cluster.Heal()
	for _, name := range []string{"server-1", "server-2", "server-4", "server-5", "client-1"} {
		assert.Equal(t, all("alive", "alive", "failed", "alive", "alive"), sees(name), name)
	}
	assert.NotEqual(t, "none", leader(cluster))
	members, err := cluster.Client("server-4").Agent.Members(t.Context())
	require.NoError(t, err)
	for _, m := range members.Members {
		assert.Equal(t, m.Name == "server-2.global", m.Build() == "9.9.9")
	}
	cluster.Agent("server-3").Start()
	assert.Equal(t, whole, sees("server-1"))
	cluster.Heal()
	assert.Equal(t, whole, sees("server-1"))

	cluster.Partition("client-1", "client-1")
	_, err = cluster.Client("client-1", nomad.WithRetries(0)).Agent.Members(t.Context())
	assert.Error(t, err, "the client reaches no server")
}

// TestTakeLead moves the leader without a failure.
func TestTakeLead(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1))
	assert.True(t, cluster.Agent("server-3").TakeLead())
	assert.Equal(t, "server-3", leader(cluster))
	assert.True(t, cluster.Agent("server-3").TakeLead(), "server-3 is the leader already")
	assert.False(t, cluster.Agent("client-1").TakeLead())
	cluster.Agent("server-1").Stop()
	assert.False(t, cluster.Agent("server-1").TakeLead())
	cluster.Agent("server-2").Stop()
	assert.False(t, cluster.Agent("server-3").TakeLead(), "there is no quorum")
}

func TestConnections(t *testing.T) {
	for _, limit := range []int{0, 100} {
		cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MaxConns(limit)))
		agent := cluster.Agents()[0]
		open, most := agent.Connections()
		assert.Zero(t, open)
		assert.Zero(t, most)
		for range 3 {
			client := agent.Client()
			_, err := client.Agent.Members(t.Context())
			require.NoError(t, err)
			open, _ := agent.Connections()
			assert.Equal(t, 1, open)
			client.Close()
			assert.Eventually(t, func() bool { open, _ := agent.Connections(); return open == 0 }, 10*time.Second, time.Millisecond)
		}
		_, most = agent.Connections()
		assert.Equal(t, 1, most)
		cluster.Close()
	}
}
