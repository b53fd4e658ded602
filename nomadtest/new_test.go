package nomadtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
	"github.com/nomad-go/nomad/watch"
)

// recordedTB is a testing.TB whose result a test can check.
type recordedTB struct {
	testing.TB
	failed   bool
	log      strings.Builder
	cleanups []func()
}

func (t *recordedTB) Helper()           {}
func (t *recordedTB) Failed() bool      { return t.failed }
func (t *recordedTB) Cleanup(f func())  { t.cleanups = append(t.cleanups, f) }
func (t *recordedTB) Log(args ...any)   { fmt.Fprintln(&t.log, args...) }
func (t *recordedTB) Fatal(args ...any) { t.failed = true; t.Log(args...) }
func (t *recordedTB) end(failed bool) string {
	t.failed = t.failed || failed
	for _, f := range t.cleanups {
		f()
	}
	return t.log.String()
}

func TestNewReportsWhatFailedToAFailedTest(t *testing.T) {
	tb := &recordedTB{}
	cluster := nomadtest.New(tb, nomadtest.Servers(2), nomadtest.ACLs(), nomadtest.GossipKey(firstKey))
	agent := cluster.Agent("server-1")
	agent.Inject(nomadtest.Status(500, "No cluster leader"), nomadtest.On("members"), nomadtest.Times(1))
	client := cluster.Client("server-1", nomad.WithRetries(0))
	_, err := client.Agent.Members(t.Context())
	require.ErrorIs(t, err, nomad.ErrNoLeader)
	_, err = client.Agent.Self(t.Context())
	require.NoError(t, err)
	agent.Inject(nomadtest.Reset(), nomadtest.On("keyring/install"))
	_, err = client.Agent.InstallKey(t.Context(), nomad.NewSecret(secondKey))
	require.Error(t, err)
	agent.Log("warn", "nomad.heartbeat", "node TTL expired")
	cluster.Agent("server-2").Stop()

	log := tb.end(true)
	assert.Contains(t, log, "GET /v1/agent/members: 500 No cluster leader (fault)")
	assert.Contains(t, log, "/v1/agent/keyring/install: no response (fault)")
	assert.NotContains(t, log, "/v1/agent/self")
	assert.Contains(t, log, "node TTL expired")
	assert.Regexp(t, `server-2 at \S+, which does not run`, log)
	for _, secret := range []string{nomadtest.ManagementToken, firstKey, secondKey} {
		assert.NotContains(t, log, secret)
	}
	_, err = client.Agent.Self(t.Context())
	assert.ErrorIs(t, err, nomad.ErrClosed)
}

func TestNewReportsNothingToATestThatPassed(t *testing.T) {
	tb := &recordedTB{}
	cluster := nomadtest.New(tb)
	cluster.Agent("server-1").Inject(nomadtest.Status(500, ""))
	_, err := cluster.Client("server-1").Agent.Self(t.Context())
	require.Error(t, err)
	assert.Empty(t, tb.end(false))
}

func TestNewEndsTheTestForOptionsThatCannotBe(t *testing.T) {
	tb := &recordedTB{}
	nomadtest.New(tb, nomadtest.Servers(2, nomadtest.Names("a")))
	assert.True(t, tb.failed)
	assert.Contains(t, tb.end(false), "1 names for 2 agents")
}

func TestRequestsPrintWithoutSecrets(t *testing.T) {
	cluster := nomadtest.New(t, nomadtest.ACLs(), nomadtest.GossipKey(firstKey))
	client := cluster.Client("server-1")
	_, err := client.Agent.InstallKey(t.Context(), nomad.NewSecret(secondKey))
	require.NoError(t, err)
	_, err = client.Do(t.Context(), &nomad.Request{Path: "/v1/agent/self", Query: map[string][]string{
		"x": {"hunter2"}, "node": {nomadtest.ManagementToken, secondKey, "a\nb"}}}, nil)
	require.NoError(t, err)
	requests := cluster.Agent("server-1").Requests()
	require.Len(t, requests, 2)
	assert.Equal(t, "PUT /v1/agent/keyring/install: 200", requests[0].String())

	var printed bytes.Buffer
	for _, r := range requests {
		fmt.Fprintf(&printed, "%v %+v %#v %s %d %v %v\n", r, r, r, r, r, &r, requests)
		encoded, err := json.Marshal(r)
		require.NoError(t, err)
		printed.Write(encoded)
		slog.New(slog.NewTextHandler(&printed, nil)).Info("request", "request", r)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("request", "request", r)
	}
	for _, secret := range []string{nomadtest.ManagementToken, firstKey, secondKey, "hunter2"} {
		assert.NotContains(t, printed.String(), secret)
	}
	var object map[string]any
	encoded, err := json.Marshal(requests[1])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, &object))
	assert.Equal(t, "/v1/agent/self", object["path"])
	assert.Equal(t, 200., object["status"])
	assert.NotContains(t, object, "fault")
}

func TestTyposAreRefused(t *testing.T) {
	cluster := nomadtest.New(t)
	for name, c := range map[string]struct {
		typo func()
		want string // listed in the message
	}{
		"endpoint":           {func() { nomadtest.On("member") }, "members"},
		"endpoint's folder":  {func() { nomadtest.On("keyrings/") }, "keyring/install"},
		"endpoint below":     {func() { nomadtest.On("/v1/agent/member") }, "members"},
		"no endpoint":        {func() { nomadtest.On("") }, "members"},
		"profile":            {func() { nomadtest.On("pprof/heep") }, "pprof/heap"},
		"setting":            {func() { nomadtest.Config("Nope.Nope", 1) }, "Telemetry"},
		"setting in a block": {func() { nomadtest.Config("Telemetry.Nope", 1) }, "PublishNodeMetrics"},
		"part of a number":   {func() { nomadtest.Config("Ports.HTTP.Nope", 1) }, "no parts"},
		"servers":            {func() { nomadtest.Servers(-3) }, "-3"},
		"clients":            {func() { nomadtest.Clients(-1) }, "-1"},
		"both":               {func() { nomadtest.Both(-1) }, "-1"},
		"version":            {func() { nomadtest.Version("latest") }, "2.0.5"},
		"half a version":     {func() { nomadtest.Version("1.7") }, "2.0.5"},
		"expect":             {func() { nomadtest.Expect(-1) }, "-1"},
		"connections":        {func() { nomadtest.MaxConns(-1) }, "-1"},
		"times":              {func() { nomadtest.Times(0) }, "1 or more"},
		"time":               {func() { nomadtest.For(-time.Second) }, "more than 0"},
		"share":              {func() { nomadtest.Share(25) }, "at most 1"},
		"agent":              {func() { cluster.Agent("server1").Inject(nomadtest.Reset()) }, "server-1"},
		"agent of a client":  {func() { cluster.Client("client-1") }, "server-1"},
		"agent cut off":      {func() { cluster.Partition("server-9") }, "server-1"},
		"status":             {func() { nomadtest.Status(50, "") }, "599"},
		"fault":              {func() { cluster.Agent("server-1").Inject(nil) }, "nil"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				problem := fmt.Sprint(recover())
				assert.True(t, strings.HasPrefix(problem, "nomadtest: "), problem)
				assert.Contains(t, problem, c.want)
			}()
			c.typo()
		})
	}
}

func TestEndpointsThatCanBeNamedAreThere(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.New(t, nomadtest.Both(1), nomadtest.Debug(), nomadtest.InMemoryNetwork())
	client := cluster.Client("both-1").HTTPClient()
	for _, name := range nomadtest.EndpointNames {
		response, err := client.Post(cluster.URL("both-1")+"/v1/agent/"+name+"?seconds=1", "", nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.NotEqual(t, http.StatusNotFound, response.StatusCode, name)
	}
}

func TestWhatIsNoTypoIsAccepted(t *testing.T) {
	nomadtest.On("members", "keyring/", "keyring/list", "pprof/", "pprof/heap", "schedulers/config")
	nomadtest.On("/v1/jobs", "/", "/v1/agent/self")
	for _, path := range []string{
		"Region", "Client.Meta.rack", "Client.Options", "Consuls", "Consul.Addr", "Telemetry.PublishNodeMetrics",
		"Server.ServerJoin.RetryJoin", "TLSConfig.CAFile", "Server.JobGCThreshold", "HTTPAPIResponseHeaders.X-Test",
	} {
		nomadtest.Config(path, nil)
	}
	for _, version := range []string{"1.6.5", "2.0.6-dev", "2.1.0-beta.1", "1.8.4+ent"} {
		nomadtest.Version(version)
	}
	nomadtest.New(t, nomadtest.Servers(0), nomadtest.Clients(1))
}

func TestFaultsOnAShareAndForATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := nomadtest.New(t)
		agent := cluster.Agent("server-1")
		client := agent.Client(nomad.WithRetries(0))
		fails := func(n int) (failed []int) {
			for i := range n {
				if _, err := client.Agent.Self(t.Context()); err != nil {
					failed = append(failed, i+1)
				}
			}
			return failed
		}
		quarter := agent.Inject(nomadtest.Status(500, "broken"), nomadtest.Share(.25))
		assert.Equal(t, []int{4, 8}, fails(9))
		quarter.Remove()
		tenth := agent.Inject(nomadtest.Status(500, "broken"), nomadtest.Share(.1), nomadtest.Times(2))
		assert.Equal(t, []int{10, 20}, fails(100))
		assert.Equal(t, 2, tenth.Hits())

		minute := agent.Inject(nomadtest.Status(500, "broken"), nomadtest.For(time.Minute))
		assert.Equal(t, []int{1}, fails(1))
		time.Sleep(59 * time.Second)
		assert.Equal(t, []int{1}, fails(1))
		time.Sleep(time.Second)
		assert.Empty(t, fails(1))
		assert.Equal(t, 2, minute.Hits())
	})
}

// TestInABubble uses every feature with connections in a synctest bubble.
func TestInABubble(t *testing.T) {
	for name, tls := range map[string][]nomadtest.Option{"http": nil, "https": {nomadtest.MutualTLS()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { tryBubble(t, tls) })
		})
	}
}

func tryBubble(t *testing.T, opts []nomadtest.Option) {
	cluster := nomadtest.New(t, append(opts, nomadtest.Servers(3), nomadtest.Clients(1), nomadtest.ACLs(), nomadtest.Socket(),
		nomadtest.MaxConns(8))...)
	first := cluster.Agent("server-1")
	client := first.Client(nomad.WithRetries(0))

	// The test's own client with a unix socket, and an http.Client with its connections.
	own, err := nomad.NewClient(nomad.WithAddress("unix://"+cluster.Agent("client-1").SocketPath()),
		nomad.WithToken(nomadtest.ManagementToken))
	require.NoError(t, err)
	defer own.Close()
	servers, err := own.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.Len(t, servers, 3)
	response, err := client.HTTPClient().Get(first.URL() + "/v1/agent/health")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusOK, response.StatusCode)

	// Faults and the time that they take.
	for _, c := range []struct {
		fault nomadtest.Fault
		takes time.Duration
	}{
		{nomadtest.Reset(), 0}, {nomadtest.ResetAfter(10), 0}, {nomadtest.Truncate(10), 0}, {nomadtest.Garbage(), 0},
		{nomadtest.Stall(), nomad.DefaultTimeout}, {nomadtest.StallAfter(10), nomad.DefaultTimeout},
	} {
		fault := first.Inject(c.fault)
		began := time.Now()
		_, err := client.Agent.Members(t.Context())
		assert.Error(t, err)
		assert.WithinDuration(t, began.Add(c.takes), time.Now(), time.Second)
		fault.Remove()
	}

	// The log is lost for some minutes. Certificates are still valid after a week.
	time.Sleep(7 * 24 * time.Hour)
	time.AfterFunc(time.Minute, func() { first.Log("warn", "nomad", "before") })
	time.AfterFunc(2*time.Minute, first.Stop)
	time.AfterFunc(10*time.Minute, first.Start)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var kinds []watch.Kind
	for event, err := range watch.Log(ctx, client.Agent, nomad.MonitorOptions{Level: nomad.LevelWarn}) {
		require.NoError(t, err)
		kinds = append(kinds, event.Kind)
		if event.Kind == watch.OutageOver {
			break
		}
	}
	assert.Equal(t, []watch.Kind{watch.Entry, watch.Outage, watch.OutageOver}, kinds)

	// Many concurrent calls to an agent that accepts few connections.
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, err := first.Client().Agent.Members(t.Context())
			assert.NoError(t, err)
		})
	}
	calls.Wait()

	cluster.Partition("server-3")
	time.Sleep(time.Hour)
	_, err = client.Agent.Health(t.Context())
	require.NoError(t, err)
	urls := map[string]string{}
	for _, a := range cluster.Agents() {
		urls[a.MemberName()] = a.URL()
	}
	report, err := survey.Run(t.Context(), client, survey.WithAddress(func(m nomad.Member) string { return urls[m.Name] }))
	require.NoError(t, err)
	require.Len(t, report.Servers, 3)
	for _, s := range report.Servers {
		assert.NoError(t, s.Err, s.Member.Name)
	}
	assert.NotEmpty(t, report.Disagreements)
}

// TestNetworkInMemoryOutsideABubble uses the network in memory without a bubble, as programs do.
func TestNetworkInMemoryOutsideABubble(t *testing.T) {
	cluster := nomadtest.New(t, nomadtest.Servers(3), nomadtest.InMemoryNetwork())
	members, err := cluster.Client("server-1").Agent.Members(t.Context())
	require.NoError(t, err)
	assert.Len(t, members.Members, 3)
	_, err = http.Get(cluster.URL("server-1"))
	assert.Error(t, err)
}
