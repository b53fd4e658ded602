package survey_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

// urls returns an option with the addresses of the agents of a cluster.
func urls(cluster *nomadtest.Cluster) survey.Option {
	byName := map[string]string{}
	for _, agent := range cluster.Agents() {
		byName[agent.MemberName()] = agent.URL()
	}
	return survey.WithAddress(func(m nomad.Member) string { return byName[m.Name] })
}

// replying returns an option that responds to all requests without a network.
func replying(respond func(*http.Request) (status int, body string)) nomad.Option {
	return nomad.WithHTTPClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		status, body := respond(r)
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	})})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(5), nomadtest.ACLs())
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	opts := []survey.Option{urls(cluster), survey.WithTimeout(2 * time.Second)}

	report, err := survey.Run(t.Context(), client, opts...)
	require.NoError(t, err)
	assert.True(t, report.OK())
	assert.Len(t, report.Members, 5)
	assert.Empty(t, report.Disagreements)
	assert.Empty(t, report.Unreachable())
	for i, s := range report.Servers {
		assert.Equal(t, fmt.Sprintf("server-%d.global", i+1), s.Member.Name)
		assert.Equal(t, 5, s.Sees)
		assert.True(t, s.Healthy() && s.Reachable())
		assert.Equal(t, "2.0.5", s.Build)
		assert.Equal(t, cluster.Leader().RPCAddr(), s.Leader)
		assert.Equal(t, cluster.Agents()[i].URL(), s.Address)
		assert.Positive(t, s.Duration)
	}

	// Each server has another problem: stopped, stalled, left, partitioned, or refusing.
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Inject(nomadtest.Stall())
	cluster.Agent("server-4").Leave()
	cluster.Partition("server-5")
	cluster.Agent("server-1").Inject(nomadtest.Status(http.StatusForbidden, "Permission denied"), nomadtest.On("members"))
	var progress []string
	opts = append(opts, survey.WithProgress(func(done, total int, s survey.Server) {
		progress = append(progress, fmt.Sprintf("%d of %d", done, total))
		assert.NotEmpty(t, s.Address)
		assert.Positive(t, s.Duration)
	}))
	viaFive, err := client.With(nomad.WithAddress(cluster.URL("server-5")))
	require.NoError(t, err)
	report, err = survey.Run(t.Context(), viaFive, opts...)
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.Equal(t, []string{"1 of 4", "2 of 4", "3 of 4", "4 of 4"}, progress, "server-4 has left")
	require.Len(t, report.Unreachable(), 2)
	assert.Equal(t, "server-2.global", report.Unreachable()[0].Member.Name)
	assert.Equal(t, "server-3.global", report.Unreachable()[1].Member.Name)
	assert.ErrorIs(t, report.Unreachable()[1].Err, context.DeadlineExceeded)
	denied, alone := report.Servers[0], report.Servers[3]
	assert.ErrorIs(t, denied.Err, nomad.ErrPermissionDenied)
	assert.True(t, denied.Reachable() && !denied.Healthy())
	assert.NoError(t, alone.Err)
	assert.False(t, alone.Healthy(), "the server has no leader")
	assert.Empty(t, alone.Leader)
	assert.Empty(t, report.Disagreements, "only one server responds")
	encoded, err := json.Marshal(report)
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", report, *report, *report), string(encoded)} {
		assert.NotContains(t, text, nomadtest.ManagementToken)
	}
}

func TestViewsThatDiffer(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	client := cluster.Client("server-1")
	cluster.Partition("server-4", "server-5")
	cluster.AddServer("server-6") // joins the larger side
	report, err := survey.Run(t.Context(), client, urls(cluster))
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.Empty(t, report.Unreachable())
	type short struct {
		status  nomad.MemberStatus
		servers []string
	}
	got := map[string][]short{}
	for _, d := range report.Disagreements {
		for _, v := range d.Views {
			got[d.Name] = append(got[d.Name], short{v.Member.Status, v.Servers})
		}
	}
	most, few := []string{"server-1.global", "server-2.global", "server-3.global", "server-6.global"}, []string{"server-4.global", "server-5.global"}
	assert.Equal(t, map[string][]short{
		"server-1.global": {{nomad.StatusAlive, most}, {nomad.StatusFailed, few}},
		"server-2.global": {{nomad.StatusAlive, most}, {nomad.StatusFailed, few}},
		"server-3.global": {{nomad.StatusAlive, most}, {nomad.StatusFailed, few}},
		"server-4.global": {{nomad.StatusFailed, most}, {nomad.StatusAlive, few}},
		"server-5.global": {{nomad.StatusFailed, most}, {nomad.StatusAlive, few}},
		"server-6.global": {{nomad.StatusAlive, most}, {"", few}},
	}, got)
	assert.Equal(t, "server-1.global", report.Disagreements[0].Name)

	cluster.Heal()
	report, err = survey.Run(t.Context(), client, urls(cluster))
	require.NoError(t, err)
	assert.True(t, report.OK())
}

func TestContextEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(40))
	defer cluster.Close()
	client := cluster.Client("server-1")
	for _, agent := range cluster.Agents() {
		if agent.MemberName() > "server-13.global" { // servers with smaller names come first
			agent.Inject(nomadtest.Stall())
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	defer cancel(nil)
	report, err := survey.Run(ctx, client, urls(cluster), survey.WithConcurrency(8), survey.WithTimeout(time.Hour),
		survey.WithProgress(func(done, _ int, _ survey.Server) {
			if done == 5 {
				time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
			}
		}))
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, why)
	assert.ErrorContains(t, err, "nomad: survey: ")
	require.NotNil(t, report)
	responded := 0
	for _, s := range report.Servers {
		if s.Err == nil {
			responded++
		} else {
			assert.ErrorIs(t, s.Err, context.Canceled)
		}
	}
	assert.Equal(t, 5, responded)
	assert.Len(t, report.Unreachable(), 35)
}

func TestOptions(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Both(1, nomadtest.Socket()))
	defer cluster.Close()
	client := cluster.Client("both-1")
	for text, opt := range map[string]survey.Option{
		"WithConcurrency(0): want 1 or more":  survey.WithConcurrency(0),
		"WithTimeout(-1ns): want more than 0": survey.WithTimeout(-1),
		"WithAddress: the function is nil":    survey.WithAddress(nil),
		"WithProgress: the function is nil":   survey.WithProgress(nil),
		"option 1 is the zero Option":         {},
	} {
		_, err := survey.Run(t.Context(), client, opt)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
		assert.EqualError(t, err, "nomad: invalid argument: survey: "+text)
	}
	report, err := survey.Run(t.Context(), client, survey.WithAddress(func(nomad.Member) string { return "nowhere" }))
	require.NoError(t, err)
	assert.ErrorIs(t, report.Servers[0].Err, nomad.ErrInvalidArgument)
	assert.False(t, report.Servers[0].Reachable())

	// By default servers are called at their gossip address and the port of the Client's agent.
	report, err = survey.Run(t.Context(), client)
	require.NoError(t, err)
	assert.Equal(t, cluster.URL("both-1"), report.Servers[0].Address)
	assert.True(t, report.OK())

	socket, err := nomad.NewClient(nomad.WithAddress("unix://"+cluster.Agent("both-1").SocketPath()), nomad.WithToken(nomadtest.ManagementToken))
	require.NoError(t, err)
	defer socket.Close()
	report, err = survey.Run(t.Context(), socket)
	require.NoError(t, err)
	assert.ErrorContains(t, report.Servers[0].Err, "unix socket")

	for want, address := range map[string]func(nomad.Member) string{
		"http://10.0.0.1:4646": survey.HTTPAddress(4646),
		"https://10.0.0.1:443": survey.HTTPSAddress(443),
	} {
		assert.Equal(t, want, address(nomad.Member{Addr: netip.MustParseAddr("10.0.0.1")}))
	}
	assert.Equal(t, "http://[fd00::1]:80", survey.HTTPAddress(80)(nomad.Member{Addr: netip.MustParseAddr("fd00::1")}))
}

// TestDefaultAddress uses Clients whose addresses have no port, or have a path.
func TestDefaultAddress(t *testing.T) {
	member := nomad.Member{Name: "a.global", Addr: netip.MustParseAddr("10.0.0.2"), Status: nomad.StatusAlive, Tags: map[string]string{}}
	body, err := json.Marshal(nomad.Members{ServerName: "a", ServerRegion: "global", ServerDC: "dc1", Members: []nomad.Member{member}})
	require.NoError(t, err)
	for address, want := range map[string]string{
		"http://10.0.0.1":            "http://10.0.0.2:80",
		"https://10.0.0.1":           "https://10.0.0.2:443",
		"https://10.0.0.1:4647/here": "https://10.0.0.2:4647",
		"10.0.0.1:4646":              "http://10.0.0.2:4646",
	} {
		client, err := nomad.NewClient(nomad.WithAddress(address), replying(func(*http.Request) (int, string) { return 200, string(body) }))
		require.NoError(t, err)
		report, err := survey.Run(t.Context(), client)
		require.NoError(t, err)
		assert.Equal(t, want, report.Servers[0].Address)
	}
}

// TestSharedAddress surveys servers with the same address, where one server responds for all of them.
func TestSharedAddress(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	cluster.Agent("server-2").Stop()
	report, err := survey.Run(t.Context(), cluster.Client("server-1"))
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.NoError(t, report.Servers[0].Err)
	for _, s := range report.Servers[1:] {
		assert.ErrorIs(t, s.Err, nomad.ErrInvalidResponse)
		assert.ErrorContains(t, s.Err, "server-1.global responds at "+cluster.URL("server-1")+" in place of "+s.Member.Name)
		assert.Nil(t, s.Health)
	}
}

// TestFreshConnection checks that Health uses another connection than Members, because there can be several
// servers behind one address.
func TestFreshConnection(t *testing.T) {
	var mu sync.Mutex
	from := map[string][]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from[r.URL.Path] = append(from[r.URL.Path], r.RemoteAddr)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/v1/agent/health":
			io.WriteString(w, `{"server":{"ok":true,"message":"ok"}}`)
		case "/v1/agent/members":
			io.WriteString(w, `{"ServerName":"a","ServerRegion":"global","ServerDC":"dc1",`+
				`"Members":[{"Name":"a.global","Addr":"127.0.0.1","Status":"alive"}]}`)
		default:
			io.WriteString(w, `"127.0.0.1:4647"`)
		}
	}))
	defer server.Close()
	client, err := nomad.NewClient(nomad.WithAddress(server.URL))
	require.NoError(t, err)
	defer client.Close()
	report, err := survey.Run(t.Context(), client)
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	require.Len(t, from["/v1/agent/members"], 2)
	require.Len(t, from["/v1/agent/health"], 1)
	assert.NotContains(t, from["/v1/agent/members"], from["/v1/agent/health"][0])
}

// TestLiar has a server report the token as its name.
func TestLiar(t *testing.T) {
	const token = "6d616e61-6765-6d65-6e74-20746f6b656e"
	client, err := nomad.NewClient(nomad.WithToken(token), replying(func(r *http.Request) (int, string) {
		name := token + strings.Repeat("\n", 1000)
		body, _ := json.Marshal(nomad.Members{ServerName: name, Members: []nomad.Member{{Name: "a", Addr: netip.MustParseAddr("10.0.0.1"), Status: nomad.StatusAlive}}})
		return 200, string(body)
	}))
	require.NoError(t, err)
	report, err := survey.Run(t.Context(), client)
	require.NoError(t, err)
	assert.ErrorIs(t, report.Servers[0].Err, nomad.ErrInvalidResponse)
	assert.ErrorContains(t, report.Servers[0].Err, "another server responds at ")
	assert.NotContains(t, report.Servers[0].Err.Error(), token)
	assert.NotContains(t, report.Servers[0].Err.Error(), "\n")
	assert.Less(t, len(report.Servers[0].Err.Error()), 400)
	assert.NotContains(t, report.String(), token)
}

// TestRegions uses a Client with another region. Each server must report its own region.
func TestRegions(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Servers(3, nomadtest.Region("eu")))
	defer cluster.Close()
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Stop() // the region global has no leader
	client := cluster.Client("server-1", nomad.WithRegion("eu"), nomad.WithRetries(0))
	report, err := survey.Run(t.Context(), client, urls(cluster))
	require.NoError(t, err)
	leader := cluster.Leader("eu").RPCAddr()
	for _, s := range report.Servers {
		assert.Equal(t, s.Member.Region() == "eu", s.Healthy(), s.Member.Name)
		assert.Equal(t, map[bool]string{true: leader}[s.Healthy()], s.Leader)
	}
}

// TestAfterRestart has a server restart after another one has left. It does not list that one.
func TestAfterRestart(t *testing.T) {
	var sent atomic.Int64
	members := func(name string, m ...nomad.Member) string {
		body, err := json.Marshal(nomad.Members{ServerName: name, ServerRegion: "global", ServerDC: "dc1", Members: m})
		require.NoError(t, err)
		return string(body)
	}
	member := func(name, addr string, status nomad.MemberStatus) nomad.Member {
		return nomad.Member{Name: name + ".global", Addr: netip.MustParseAddr(addr), Status: status, Tags: map[string]string{"region": "global"}}
	}
	a, b, left := member("a", "10.0.0.1", nomad.StatusAlive), member("b", "10.0.0.2", nomad.StatusAlive), member("c", "10.0.0.3", nomad.StatusLeft)
	itself := b
	itself.Tags = map[string]string{"region": "global", "build": "2.1.0"}
	client, err := nomad.NewClient(nomad.WithAddress("http://10.0.0.1:4646"), replying(func(r *http.Request) (int, string) {
		sent.Add(1)
		switch {
		case r.URL.Path == "/v1/agent/health":
			return 200, `{"server":{"ok":true,"message":"ok"}}`
		case r.URL.Path == "/v1/status/leader" && r.URL.Host == "10.0.0.1:4646":
			return 200, `"10.0.0.1:4647"`
		case r.URL.Path == "/v1/status/leader":
			return 404, "not for everyone"
		case r.URL.Host == "10.0.0.1:4646":
			return 200, members("a", a, b, left, left)
		}
		return 200, members("b", a, itself)
	}))
	require.NoError(t, err)
	report, err := survey.Run(t.Context(), client)
	require.NoError(t, err)
	assert.Len(t, report.Members, 3, "one server is listed twice")
	require.Len(t, report.Servers, 2)
	assert.True(t, report.Servers[0].OK() && report.Servers[1].OK())
	assert.Equal(t, "10.0.0.1:4647", report.Servers[0].Leader)
	assert.Empty(t, report.Servers[1].Leader)
	assert.Equal(t, "2.1.0", report.Servers[1].Build, "the version that the server itself reports")
	assert.Equal(t, "http://10.0.0.2:4646", report.Servers[1].Address)
	require.Len(t, report.Disagreements, 1, "none about c, which has left")
	assert.Equal(t, "b.global", report.Disagreements[0].Name)
	assert.EqualValues(t, 7, sent.Load())
}

// TestListedTwice has an agent list one server with two regions, and another one between them.
func TestListedTwice(t *testing.T) {
	var called atomic.Int64
	client, err := nomad.NewClient(replying(func(r *http.Request) (int, string) {
		if r.URL.Path == "/v1/agent/health" {
			called.Add(1)
			return 200, `{"server":{"ok":true,"message":"ok"}}`
		}
		return 200, `{"ServerName":"a","ServerRegion":"global","ServerDC":"dc1","Members":[` +
			`{"Name":"a.global","Addr":"10.0.0.1","Status":"alive","Tags":{"region":"c"}},` +
			`{"Name":"b.global","Addr":"10.0.0.2","Status":"left","Tags":{"region":"b"}},` +
			`{"Name":"a.global","Addr":"10.0.0.1","Status":"alive","Tags":{"region":"a"}}]}`
	}))
	require.NoError(t, err)
	report, err := survey.Run(t.Context(), client)
	require.NoError(t, err)
	require.Len(t, report.Members, 2)
	assert.Equal(t, "a", report.Members[0].Region(), "the first one in the order of CompareMembers")
	assert.Equal(t, "b.global", report.Members[1].Name)
	require.Len(t, report.Servers, 1)
	assert.True(t, report.Servers[0].OK())
	assert.EqualValues(t, 1, called.Load())
	assert.Empty(t, report.Disagreements)
}

// TestLeaders has servers respond with invalid leader addresses.
func TestLeaders(t *testing.T) {
	member := nomad.Member{Name: "a.global", Addr: netip.MustParseAddr("10.0.0.2"), Status: nomad.StatusAlive, Tags: map[string]string{}}
	body, err := json.Marshal(nomad.Members{ServerName: "a", ServerRegion: "global", ServerDC: "dc1", Members: []nomad.Member{member}})
	require.NoError(t, err)
	for leader, want := range map[string]string{
		`"10.0.0.1:4647"`: "10.0.0.1:4647", `""`: "", `"me"`: "", `{}`: "", `"` + strings.Repeat("x", 300) + `:1"`: "",
	} {
		client, err := nomad.NewClient(replying(func(r *http.Request) (int, string) {
			switch r.URL.Path {
			case "/v1/agent/health":
				return 200, `{"server":{"ok":true,"message":"ok"}}`
			case "/v1/status/leader":
				return 200, leader
			}
			return 200, string(body)
		}))
		require.NoError(t, err)
		report, err := survey.Run(t.Context(), client)
		require.NoError(t, err)
		assert.Equal(t, want, report.Servers[0].Leader)
		assert.True(t, report.OK())
	}
}

// TestLeadersThatDiffer has two servers of a region name different leaders, and one of another region name a third one.
func TestLeadersThatDiffer(t *testing.T) {
	server := func(name, region, leader string) survey.Server {
		return survey.Server{Leader: leader, Health: &nomad.Health{Server: &nomad.RoleHealth{OK: true}},
			Member: nomad.Member{Name: name, Status: nomad.StatusAlive, Tags: map[string]string{"region": region}}}
	}
	report := survey.Report{Servers: []survey.Server{
		server("a.eu", "eu", "10.0.0.9:4647"), server("a.global", "global", "10.0.0.1:4647"), server("b.global", "global", ""),
		server("c.global", "global", "10.0.0.1:4647"),
	}}
	assert.True(t, report.OK())
	assert.Empty(t, report.LeaderDisagreements())
	report.Servers = append(report.Servers, server("d.global", "global", "10.0.0.2:4647"), server("e.global", "global", "10.0.0.3:4647"))
	assert.False(t, report.OK())
	assert.Equal(t, []string{"global"}, report.LeaderDisagreements())
	assert.Regexp(t, `(?m)^REGION +LEADER +NAMED BY\nglobal +10\.0\.0\.1:4647 +a\.global\nglobal +10\.0\.0\.1:4647 +c\.global\n`+
		`global +10\.0\.0\.2:4647 +d\.global\nglobal +10\.0\.0\.3:4647 +e\.global\n`, report.String())
	text, err := json.Marshal(report)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"leader_disagreements":["global"]`)
}

// TestPanics has functions of the program panic. The caller can recover from it, and no goroutine is left.
func TestPanics(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	client := cluster.Client("server-1")
	for _, opt := range []survey.Option{
		survey.WithAddress(func(nomad.Member) string { panic("mine") }),
		survey.WithProgress(func(int, int, survey.Server) { panic("mine") }),
	} {
		assert.PanicsWithValue(t, "mine", func() { survey.Run(t.Context(), client, urls(cluster), opt) })
	}
}

// TestManyServers surveys a large pool, in which each server lists all others.
func TestManyServers(t *testing.T) {
	n := 300
	if testing.Short() {
		n = 100
	}
	cluster := nomadtest.NewCluster(nomadtest.Servers(n))
	defer cluster.Close()
	client := cluster.Client("server-1")
	cluster.Agent("server-2").Stop()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	report, err := survey.Run(t.Context(), client, urls(cluster), survey.WithTimeout(5*time.Minute))
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Len(t, report.Servers, n)
	assert.Len(t, report.Unreachable(), 1)
	assert.Empty(t, report.Disagreements)
	kept := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	t.Logf("%d servers in %v, %.1f MB of memory", n, time.Since(began).Round(time.Millisecond), kept/1e6)
	assert.Less(t, kept, 100e6)
	runtime.KeepAlive(report)
}

// TestFakeMembers has two of many servers list members that no other one knows. The report must not have a list of all
// other servers for each of them.
func TestFakeMembers(t *testing.T) {
	const servers, fakes = 300, 10_000
	members := func(name string, list []nomad.Member) string {
		body, err := json.Marshal(nomad.Members{ServerName: name, ServerRegion: "global", ServerDC: "dc1", Members: list})
		require.NoError(t, err)
		return string(body)
	}
	member := func(name string) nomad.Member {
		return nomad.Member{Name: name + ".global", Addr: netip.MustParseAddr("10.0.0.1"), Status: nomad.StatusAlive}
	}
	var pool, odd []nomad.Member
	for i := range servers {
		pool = append(pool, member(fmt.Sprintf("server-%03d", i)))
	}
	all := slices.Clone(pool)
	for i := range fakes {
		fake := member(fmt.Sprintf("x-%05d", i))
		all = append(all, fake)
		if i%2 == 1 {
			odd = append(odd, fake)
		}
	}
	known, lists := members("NAME", pool), map[string]string{
		"server-007": members("server-007", all), "server-008": members("server-008", append(odd, pool...)),
	}
	client, err := nomad.NewClient(nomad.WithAddress("http://server-000"), replying(func(r *http.Request) (int, string) {
		switch name := r.URL.Hostname(); {
		case r.URL.Path == "/v1/agent/health":
			return 200, `{"server":{"ok":true,"message":"ok"}}`
		case r.URL.Path == "/v1/status/leader":
			return 200, `"10.0.0.1:4647"`
		default:
			return 200, cmp.Or(lists[name], strings.Replace(known, "NAME", name, 1))
		}
	}))
	require.NoError(t, err)
	address := survey.WithAddress(func(m nomad.Member) string { return "http://" + strings.TrimSuffix(m.Name, ".global") })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	report, err := survey.Run(t.Context(), client, address, survey.WithTimeout(5*time.Minute))
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Len(t, report.Disagreements, fakes)
	for i, d := range report.Disagreements {
		require.Len(t, d.Views, 2)
		require.False(t, d.Views[0].Known())
		require.True(t, d.Views[1].Known())
		require.Len(t, d.Views[0].Servers, servers-1-i%2)
		require.Equal(t, []string{"server-007.global", "server-008.global"}[:1+i%2], d.Views[1].Servers)
		require.NotContains(t, d.Views[0].Servers, "server-007.global")
		require.True(t, slices.IsSorted(d.Views[0].Servers))
	}
	kept := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	t.Logf("%.1f MB of memory", kept/1e6)
	assert.Less(t, kept, 20e6)
	runtime.KeepAlive(report)
	runtime.KeepAlive(client)
	runtime.KeepAlive(lists)
}

// TestEveryField changes each field of a member in the view of one server.
func TestEveryField(t *testing.T) {
	typ := reflect.TypeFor[nomad.Member]()
	for i := range typ.NumField() {
		a := nomad.Member{Name: "a.global", Addr: netip.MustParseAddr("10.0.0.2"), Status: nomad.StatusAlive, Tags: map[string]string{}}
		b := nomad.Member{Name: "b.global", Addr: netip.MustParseAddr("10.0.0.3"), Status: nomad.StatusAlive, Tags: map[string]string{}}
		changed := b
		switch field := reflect.ValueOf(&changed).Elem().Field(i); {
		case typ.Field(i).Name == "Name":
			continue
		case typ.Field(i).Name == "Tags":
			changed.Tags = map[string]string{"build": "2"}
		case typ.Field(i).Name == "Addr":
			changed.Addr = a.Addr
		case field.CanUint():
			field.SetUint(1)
		default:
			field.SetString("failed")
		}
		client, err := nomad.NewClient(nomad.WithAddress("http://10.0.0.2:4646"), replying(func(r *http.Request) (int, string) {
			m := nomad.Members{ServerName: "a", ServerRegion: "global", ServerDC: "dc1", Members: []nomad.Member{a, b}}
			if r.URL.Host != "10.0.0.2:4646" {
				m.ServerName, m.Members = "b", []nomad.Member{a, changed}
			}
			body, err := json.Marshal(m)
			assert.NoError(t, err)
			return 200, string(body)
		}))
		require.NoError(t, err)
		report, err := survey.Run(t.Context(), client)
		require.NoError(t, err)
		require.Len(t, report.Disagreements, 1, typ.Field(i).Name)
		assert.Len(t, report.Disagreements[0].Views, 2)
	}
}

// report returns a report in which all fields are set.
func report() *survey.Report {
	a := nomad.Member{Name: "a.global", Status: nomad.StatusAlive, Tags: map[string]string{}}
	b := nomad.Member{Name: "b.global", Status: nomad.StatusFailed, Tags: map[string]string{}}
	return &survey.Report{
		Members: []nomad.Member{a, b},
		Servers: []survey.Server{
			{Member: a, Address: "http://10.0.0.1:4646", Build: "2.0.5", Leader: "10.0.0.1:4647", Sees: 2, Duration: 1500 * time.Microsecond,
				Health: &nomad.Health{Server: &nomad.RoleHealth{OK: true, Message: "ok"}}},
			{Member: a, Address: "http://10.0.0.1:4646", Sees: 1, Duration: 5 * time.Second,
				Health: &nomad.Health{Server: &nomad.RoleHealth{Message: "No cluster\tleader"}}},
			{Member: b, Address: "http://10.0.0.2:4646", Err: errors.New("connection\nrefused"), Duration: time.Millisecond},
		},
		Disagreements: []survey.Disagreement{{Name: "b.global", Views: []survey.View{
			{Member: b, Servers: []string{"a.global", "c.global"}}, {Servers: []string{"b.global"}},
		}}},
	}
}

func TestJSON(t *testing.T) {
	r := report()
	encoded, err := json.Marshal(r.Members)
	require.NoError(t, err)
	b, err := json.Marshal(r.Members[1])
	require.NoError(t, err)
	want := `{"ok":false,"members":` + string(encoded) + `,"servers":[` +
		`{"name":"a.global","status":"alive","address":"http://10.0.0.1:4646","build":"2.0.5","reachable":true,"healthy":true,` +
		`"health":{"server":{"ok":true,"message":"ok"}},"leader":"10.0.0.1:4647","sees":2,"duration":"2ms"},` +
		`{"name":"a.global","status":"alive","address":"http://10.0.0.1:4646","reachable":true,"healthy":false,` +
		`"health":{"server":{"ok":false,"message":"No cluster\tleader"}},"sees":1,"duration":"5s"},` +
		`{"name":"b.global","status":"failed","address":"http://10.0.0.2:4646","reachable":false,"healthy":false,` +
		`"duration":"1ms","error":"connection\\nrefused"}],` +
		`"disagreements":[{"name":"b.global","views":[{"known":true,"member":` + string(b) + `,"servers":["a.global","c.global"]},` +
		`{"known":false,"servers":["b.global"]}]}]}`
	got, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Equal(t, want, string(got))
	got, err = json.Marshal(survey.Report{})
	require.NoError(t, err)
	assert.Equal(t, `{"ok":true,"members":[],"servers":[],"disagreements":[]}`, string(got))
	got, err = json.Marshal(survey.Disagreement{})
	require.NoError(t, err)
	assert.Equal(t, `{"name":"","views":[]}`, string(got))
	got, err = json.Marshal(survey.View{})
	require.NoError(t, err)
	assert.Equal(t, `{"known":false,"servers":[]}`, string(got))
}

func TestString(t *testing.T) {
	r := report()
	want := strings.Join([]string{
		`SERVER    STATUS  HEALTH       BUILD  LEADER         SEES  TIME  PROBLEM`,
		`a.global  alive   healthy      2.0.5  10.0.0.1:4647  2     2ms   `,
		`a.global  alive   unhealthy    -      -              1     5s    No cluster\tleader`,
		`b.global  failed  unreachable  -      -              0     1ms   connection\nrefused`,
		``,
		`MEMBER    SEEN AS  BY`,
		`b.global  failed   a.global c.global`,
		`b.global  unknown  b.global`,
		``,
	}, "\n")
	for _, verb := range []string{"%v", "%+v", "%s"} {
		assert.Equal(t, want, fmt.Sprintf(verb, r))
		assert.Equal(t, want, fmt.Sprintf(verb, *r))
		assert.Equal(t, "a.global: healthy", fmt.Sprintf(verb, r.Servers[0]))
		assert.Equal(t, `a.global: unhealthy: No cluster\tleader`, fmt.Sprintf(verb, r.Servers[1]))
		assert.Equal(t, `b.global: unreachable: connection\nrefused`, fmt.Sprintf(verb, &r.Servers[2]))
		assert.Equal(t, "b.global: failed to [a.global c.global]; unknown to [b.global]", fmt.Sprintf(verb, r.Disagreements[0]))
	}
}

// TestStringOfLongNames has one member with a long name and status among many, and one that many servers know.
func TestStringOfLongNames(t *testing.T) {
	r := survey.Report{Disagreements: []survey.Disagreement{{Name: "a" + strings.Repeat("ä", 30_000), Views: []survey.View{
		{Member: nomad.Member{Name: "a", Status: nomad.MemberStatus(strings.Repeat("x", 60_000))}, Servers: []string{"b"}},
		{Servers: slices.Repeat([]string{"server-1.global"}, 10_000)},
	}}}}
	for range 1000 {
		r.Disagreements = append(r.Disagreements, survey.Disagreement{Name: "c", Views: []survey.View{{Servers: []string{"b"}}}})
	}
	text := r.String()
	assert.Less(t, len(text), 1_000_000)
	for _, want := range []string{
		"\na" + strings.Repeat("ä", 99) + " …  " + strings.Repeat("x", 200) + " …  b\n", // no rune is cut
		"server-1.global server-1 …\n",
	} {
		assert.True(t, strings.Contains(text, want), want)
	}
}
