package nomad_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// urls tells where the agents of a cluster answer.
func urls(cluster *nomadtest.Cluster) func(nomad.Member) string {
	byName := map[string]string{}
	for _, agent := range cluster.Agents() {
		byName[agent.MemberName()] = agent.URL()
	}
	return func(m nomad.Member) string { return byName[m.Name] }
}

func TestSurvey(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(5), nomadtest.ACLs())
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	opts := nomad.SurveyOptions{Address: urls(cluster), Timeout: 2 * time.Second}

	survey, err := client.Agent.Survey(t.Context(), opts)
	require.NoError(t, err)
	assert.True(t, survey.OK())
	assert.Len(t, survey.Members, 5)
	assert.Empty(t, survey.Disagreements)
	assert.Empty(t, survey.Unreachable())
	for i, r := range survey.Servers {
		assert.Equal(t, fmt.Sprintf("server-%d.global", i+1), r.Member.Name)
		assert.Equal(t, 5, r.Sees)
		assert.True(t, r.Health.OK() && r.Reachable())
		assert.Equal(t, cluster.Agents()[i].URL(), r.Address)
		assert.Positive(t, r.Took)
	}

	// One is down, one stalls, one has left, one is cut off, and one refuses.
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Inject(nomadtest.Stall())
	cluster.Agent("server-4").Leave()
	cluster.Partition("server-5")
	cluster.Agent("server-1").Inject(nomadtest.Status(http.StatusForbidden, "Permission denied"), nomadtest.On("members"))
	var progress []string
	opts.Progress = func(done, total int, r nomad.ServerReport) {
		progress = append(progress, fmt.Sprintf("%d of %d", done, total))
		assert.NotEmpty(t, r.Address)
	}
	viaFive, err := client.With(nomad.WithAddress(cluster.URL("server-5")))
	require.NoError(t, err)
	survey, err = viaFive.Agent.Survey(t.Context(), opts)
	require.NoError(t, err)
	assert.False(t, survey.OK())
	assert.Equal(t, []string{"1 of 4", "2 of 4", "3 of 4", "4 of 4"}, progress, "server-4 has left")
	require.Len(t, survey.Unreachable(), 2)
	assert.Equal(t, "server-2.global", survey.Unreachable()[0].Member.Name)
	assert.Equal(t, "server-3.global", survey.Unreachable()[1].Member.Name)
	assert.ErrorIs(t, survey.Unreachable()[1].Err, context.DeadlineExceeded)
	denied, alone := survey.Servers[0], survey.Servers[3]
	assert.ErrorIs(t, denied.Err, nomad.ErrPermissionDenied)
	assert.True(t, denied.Reachable() && !denied.Health.OK())
	assert.NoError(t, alone.Err)
	assert.False(t, alone.Health.OK(), "it has no leader")
	assert.Empty(t, survey.Disagreements, "only one has a view to tell")
	assert.NotContains(t, fmt.Sprint(survey), nomadtest.ManagementToken)
}

func TestSurveyOfViewsThatDiffer(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	client := cluster.Client("server-1")
	opts := nomad.SurveyOptions{Address: urls(cluster)}
	cluster.Partition("server-4", "server-5")
	cluster.AddServer("server-6") // joins the greater part
	opts.Address = urls(cluster)
	survey, err := client.Agent.Survey(t.Context(), opts)
	require.NoError(t, err)
	assert.False(t, survey.OK())
	assert.Empty(t, survey.Unreachable())
	type short struct {
		status  nomad.MemberStatus
		servers []string
	}
	got := map[string][]short{}
	for _, d := range survey.Disagreements {
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
	assert.Equal(t, "server-1.global", survey.Disagreements[0].Name)

	cluster.Heal()
	survey, err = client.Agent.Survey(t.Context(), opts)
	require.NoError(t, err)
	assert.True(t, survey.OK())
}

func TestSurveyEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(40))
	defer cluster.Close()
	client := cluster.Client("server-1")
	for _, agent := range cluster.Agents() {
		if agent.MemberName() > "server-13.global" { // those before it are asked first
			agent.Inject(nomadtest.Stall())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	survey, err := client.Agent.Survey(ctx, nomad.SurveyOptions{Address: urls(cluster), Concurrency: 8, Timeout: time.Hour, Progress: func(done, _ int, _ nomad.ServerReport) {
		if done == 5 {
			time.AfterFunc(10*time.Millisecond, cancel)
		}
	}})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "nomad: Survey: ")
	require.NotNil(t, survey)
	answered := 0
	for _, r := range survey.Servers {
		if r.Err == nil {
			answered++
		} else {
			assert.ErrorIs(t, r.Err, context.Canceled)
		}
	}
	assert.Equal(t, 5, answered)
	assert.Len(t, survey.Unreachable(), 35)
}

func TestSurveyMistakes(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Both(1, nomadtest.Socket()))
	defer cluster.Close()
	client := cluster.Client("both-1")
	for text, opts := range map[string]nomad.SurveyOptions{
		"Concurrency -1: want 1 or more, or 0 for 32":  {Concurrency: -1},
		"Timeout -1ns: want more than 0, or 0 for 10s": {Timeout: -1},
	} {
		_, err := client.Agent.Survey(t.Context(), opts)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
		assert.EqualError(t, err, "nomad: Survey: "+text)
	}
	survey, err := client.Agent.Survey(t.Context(), nomad.SurveyOptions{Address: func(nomad.Member) string { return "nowhere" }})
	require.NoError(t, err)
	assert.ErrorIs(t, survey.Servers[0].Err, nomad.ErrInvalidArgument)
	assert.False(t, survey.Servers[0].Reachable())

	// By default servers are asked at the address that they gossip at, and the port of the agent that is called.
	survey, err = client.Agent.Survey(t.Context(), nomad.SurveyOptions{})
	require.NoError(t, err)
	assert.Equal(t, cluster.URL("both-1"), survey.Servers[0].Address)
	assert.True(t, survey.OK())

	socket, err := nomad.NewClient(nomad.WithAddress("unix://"+cluster.Agent("both-1").SocketPath()), nomad.WithToken(nomadtest.ManagementToken))
	require.NoError(t, err)
	defer socket.Close()
	survey, err = socket.Agent.Survey(t.Context(), nomad.SurveyOptions{})
	require.NoError(t, err)
	assert.ErrorContains(t, survey.Servers[0].Err, "unix socket")

	var none context.Context
	_, err = client.Agent.Survey(none, nomad.SurveyOptions{})
	assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
}

// TestSurveyOfSharedAddress asks servers at one address, where one answers for all of them.
func TestSurveyOfSharedAddress(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	cluster.Agent("server-2").Stop()
	survey, err := cluster.Client("server-1").Agent.Survey(t.Context(), nomad.SurveyOptions{})
	require.NoError(t, err)
	assert.False(t, survey.OK())
	assert.NoError(t, survey.Servers[0].Err)
	for _, r := range survey.Servers[1:] {
		assert.ErrorIs(t, r.Err, nomad.ErrInvalidResponse)
		assert.ErrorContains(t, r.Err, "server-1.global answers at "+cluster.URL("server-1")+", where "+r.Member.Name+" was looked for")
		assert.Nil(t, r.Health)
	}
}

// TestSurveyOfLiar has a server call itself by the token.
func TestSurveyOfLiar(t *testing.T) {
	const token = "6d616e61-6765-6d65-6e74-20746f6b656e"
	client, err := nomad.NewClient(nomad.WithToken(token), replying(func(r *http.Request) (int, http.Header, string) {
		name := token + strings.Repeat("\n", 1000)
		body, _ := json.Marshal(nomad.Members{ServerName: name, Members: []nomad.Member{{Name: "a", Addr: netip.MustParseAddr("10.0.0.1"), Status: nomad.StatusAlive}}})
		return 200, http.Header{"Content-Type": {"application/json"}}, string(body)
	}))
	require.NoError(t, err)
	survey, err := client.Agent.Survey(t.Context(), nomad.SurveyOptions{})
	require.NoError(t, err)
	assert.ErrorIs(t, survey.Servers[0].Err, nomad.ErrInvalidResponse)
	assert.NotContains(t, survey.Servers[0].Err.Error(), token)
	assert.NotContains(t, survey.Servers[0].Err.Error(), "\n")
	assert.Less(t, len(survey.Servers[0].Err.Error()), 400)
}

// TestSurveyOfRegions asks through a Client of another region: each server has to tell of its own.
func TestSurveyOfRegions(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Servers(3, nomadtest.Region("eu")))
	defer cluster.Close()
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Stop() // the region global has no leader
	survey, err := cluster.Client("server-1", nomad.WithRegion("eu"), nomad.WithRetries(0)).Agent.Survey(t.Context(), nomad.SurveyOptions{Address: urls(cluster)})
	require.NoError(t, err)
	for _, r := range survey.Servers {
		assert.Equal(t, r.Member.Region() == "eu", r.Health.OK(), r.Member.Name)
	}
}

// TestSurveyAfterRestart has a server start anew after another has left, and so not know that one.
func TestSurveyAfterRestart(t *testing.T) {
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
	client, err := nomad.NewClient(nomad.WithAddress("http://10.0.0.1:4646"), replying(func(r *http.Request) (int, http.Header, string) {
		sent.Add(1)
		header := http.Header{"Content-Type": {"application/json"}}
		switch {
		case r.URL.Path == "/v1/agent/health":
			return 200, header, `{"server":{"ok":true,"message":"ok"}}`
		case r.URL.Host == "10.0.0.1:4646":
			return 200, header, members("a", a, b, left, left)
		}
		return 200, header, members("b", a, b)
	}))
	require.NoError(t, err)
	survey, err := client.Agent.Survey(t.Context(), nomad.SurveyOptions{})
	require.NoError(t, err)
	assert.True(t, survey.OK(), "%v", survey.Disagreements)
	assert.Len(t, survey.Members, 3, "one comes twice")
	assert.Equal(t, "http://10.0.0.2:4646", survey.Servers[1].Address)
	assert.EqualValues(t, 5, sent.Load())
}

// TestSurveyPanics has the program's own functions panic: that is the caller's to recover from, and nothing is left behind.
func TestSurveyPanics(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	client := cluster.Client("server-1")
	for _, opts := range []nomad.SurveyOptions{
		{Address: func(nomad.Member) string { panic("mine") }},
		{Address: urls(cluster), Progress: func(int, int, nomad.ServerReport) { panic("mine") }},
	} {
		assert.PanicsWithValue(t, "mine", func() { client.Agent.Survey(t.Context(), opts) })
	}
}

// TestSurveyOfMany surveys a pool of many servers, each of which sees as many.
func TestSurveyOfMany(t *testing.T) {
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
	survey, err := client.Agent.Survey(t.Context(), nomad.SurveyOptions{Address: urls(cluster), Timeout: 5 * time.Minute})
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Len(t, survey.Servers, n)
	assert.Len(t, survey.Unreachable(), 1)
	assert.Empty(t, survey.Disagreements)
	kept := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	t.Logf("%d servers in %v, %.1f MB kept", n, time.Since(began).Round(time.Millisecond), kept/1e6)
	assert.Less(t, kept, 100e6)
	runtime.KeepAlive(survey)
}
