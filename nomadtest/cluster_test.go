package nomadtest_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16") // most tests wait; the flag -parallel overrides it
	goleak.VerifyTestMain(m)
}

// start runs a cluster for a test.
func start(t *testing.T, opts ...nomadtest.Option) *nomadtest.Cluster {
	cluster := nomadtest.NewCluster(opts...)
	t.Cleanup(cluster.Close)
	return cluster
}

// view returns the members that an agent reports, sorted and with their statuses.
func view(t *testing.T, client *nomad.Client) string {
	t.Helper()
	members, err := client.Agent.Members(t.Context())
	require.NoError(t, err)
	slices.SortFunc(members.Members, nomad.CompareMembers)
	return strings.Trim(fmt.Sprint(members.Members), "[]")
}

func leader(c *nomadtest.Cluster, region ...string) string {
	if a := c.Leader(region...); a != nil {
		return a.Name()
	}
	return "none"
}

func TestOneServerByDefault(t *testing.T) {
	cluster := start(t)
	assert.Equal(t, "server-1.global (alive)", view(t, cluster.Client("server-1")))
	assert.Equal(t, "server-1", leader(cluster))
}

// TestLifeOfAServer takes a server through all its states and checks what its peers and a client report.
func TestLifeOfAServer(t *testing.T) {
	cluster := start(t, nomadtest.Clients(1), nomadtest.Servers(3))
	third := cluster.Agent("server-3")
	steps := []struct {
		name string
		do   func()
		want string
	}{
		{"stop", third.Stop, "failed"},
		{"stop again", third.Stop, "failed"},
		{"start", third.Start, "alive"},
		{"start again", third.Start, "alive"},
		{"force-leave while alive", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "server-3.global"))
		}, "alive"}, // the server refutes it, and its peer passes that on

		{"join again", func() {
			_, err := cluster.Client("server-3").Agent.Join(t.Context(), cluster.Agent("server-1").SerfAddr())
			require.NoError(t, err)
		}, "alive"},
		{"force-leave while alive, and crash", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "server-3.global"))
			third.Stop()
		}, "failed"},
		{"start after that", third.Start, "alive"},
		{"prune while alive", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "server-3.global", nomad.Prune()))
		}, ""},
		{"restart after that", func() { third.Stop(); third.Start() }, ""},
		{"join after that", func() {
			_, err := cluster.Client("server-1").Agent.Join(t.Context(), third.SerfAddr())
			require.NoError(t, err)
		}, "alive"},
		{"leave", third.Leave, "left"},
		{"start after it left", third.Start, "alive"},
		{"crash", third.Stop, "failed"},
		{"force-leave", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "server-3.global"))
		}, "left"},
		{"force-leave of a name that nobody knows", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "nobody"))
		}, "left"},
		{"prune", func() {
			require.NoError(t, cluster.Client("server-1").Agent.ForceLeave(t.Context(), "server-3.global", nomad.Prune()))
		}, ""},
		{"start after it was forgotten", third.Start, "alive"},
	}
	for _, step := range steps {
		step.do()
		want := "server-1.global (alive) server-2.global (alive)"
		if step.want != "" {
			want += " server-3.global (" + step.want + ")"
		}
		for _, observer := range []string{"server-1", "server-2", "client-1"} {
			assert.Equal(t, want, view(t, cluster.Client(observer)), "%s: %s", observer, step.name)
		}
	}
}

// TestForceLeaveOfALiveServer forces a server to leave that is alive, in a pool of two. The server refutes
// it, but there is no third server that passes that on.
func TestForceLeaveOfALiveServer(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2))
	first, second := cluster.Client("server-1"), cluster.Client("server-2")
	require.NoError(t, first.Agent.ForceLeave(t.Context(), "server-2.global"))
	assert.Equal(t, "server-1.global (alive) server-2.global (leaving)", view(t, first))
	assert.Equal(t, "server-1.global (alive) server-2.global (alive)", view(t, second))
	assert.Equal(t, "server-1", leader(cluster))
	cluster.Agent("server-2").Stop()
	assert.Equal(t, "server-1.global (alive) server-2.global (leaving)", view(t, first), "after the second server has stopped")
	assert.Equal(t, "none", leader(cluster))
	cluster.Agent("server-2").Start()
	assert.Equal(t, "server-1.global (alive) server-2.global (alive)", view(t, first))
	assert.Equal(t, "server-1", leader(cluster))
}

// TestLeader moves the leadership, and stops servers until there is no leader.
func TestLeader(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3))
	healthy := func(name string) error {
		_, err := cluster.Client(name).Agent.Health(t.Context())
		return err
	}
	stat := func(name, group, key string) string {
		self, err := cluster.Client(name).Agent.Self(t.Context())
		require.NoError(t, err)
		return self.Stats[group][key]
	}
	assert.Equal(t, "server-1", leader(cluster))
	assert.Equal(t, "Follower", stat("server-2", "raft", "state"))
	cluster.Agent("server-1").Stop()
	assert.Equal(t, "server-2", leader(cluster))
	assert.Equal(t, "Leader", stat("server-2", "raft", "state"))
	assert.Equal(t, cluster.Agent("server-2").RPCAddr(), stat("server-3", "nomad", "leader_addr"))
	cluster.Agent("server-1").Start()
	assert.Equal(t, "server-2", leader(cluster), "a server that returns does not become the leader")

	cluster.Agent("server-1").Stop()
	cluster.Agent("server-2").Stop()
	assert.Equal(t, "none", leader(cluster))
	assert.ErrorIs(t, healthy("server-3"), nomad.ErrNoLeader)
	require.NoError(t, cluster.Client("server-3").Agent.ForceLeave(t.Context(), "server-1.global"))
	assert.ErrorIs(t, healthy("server-3"), nomad.ErrNoLeader, "without a leader Raft keeps all peers")
	cluster.Agent("server-2").Start()
	assert.NoError(t, healthy("server-3"))
	cluster.Agent("server-2").Leave()
	assert.Equal(t, "server-3", leader(cluster), "a server that has left does not count for the quorum")
}

// TestBootstrap checks that there is a leader only when the expected number of servers has joined.
func TestBootstrap(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1, nomadtest.Expect(2)))
	assert.Equal(t, "none", leader(cluster))
	cluster.AddServer("second")
	assert.Equal(t, "second", leader(cluster))
}

// TestJoin joins two pools of one cluster, and two clusters.
func TestJoin(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1))
	lone := cluster.AddServer("lone", nomadtest.Unjoined())
	client := cluster.Client("lone")
	assert.Equal(t, "lone.global (alive)", view(t, client))
	_, err := client.Agent.Health(t.Context())
	assert.ErrorIs(t, err, nomad.ErrNoLeader)

	for _, address := range []string{"127.0.0.1:1", "nowhere.example", cluster.Agent("server-1").RPCAddr()} {
		_, err := client.Agent.Join(t.Context(), address)
		assert.ErrorIs(t, err, nomad.ErrJoinFailed)
	}
	result, err := client.Agent.Join(t.Context(), "127.0.0.1:1", cluster.Agent("server-1").SerfAddr())
	require.NoError(t, err)
	assert.Equal(t, 1, result.Joined)
	both := "lone.global (alive) server-1.global (alive)"
	assert.Equal(t, both, view(t, client))
	assert.Equal(t, both, view(t, cluster.Client("server-1")))
	_, err = client.Agent.Health(t.Context())
	assert.NoError(t, err)

	eu := start(t, nomadtest.Servers(1, nomadtest.Region("eu"), nomadtest.Datacenter("eu-1")))
	_, err = eu.Client("server-1").Agent.Join(t.Context(), lone.SerfAddr())
	require.NoError(t, err)
	all := "server-1.eu (alive) " + both
	assert.Equal(t, all, view(t, client))
	assert.Equal(t, all, view(t, eu.Client("server-1")))
	assert.Equal(t, "server-1", leader(eu, "eu"))
	assert.Equal(t, "server-1", leader(cluster))
}

// TestServersOfAClient checks the server list of a client while the servers change.
func TestServersOfAClient(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1))
	client := cluster.Client("client-1")
	known := func() []string {
		servers, err := client.Agent.Servers(t.Context())
		require.NoError(t, err)
		var names []string
		for _, address := range servers {
			for _, a := range cluster.Agents() {
				if a.RPCAddr() == address {
					names = append(names, a.Name())
				}
			}
		}
		return names
	}
	assert.Equal(t, []string{"server-1", "server-2", "server-3"}, known())
	cluster.Agent("server-1").Stop()
	assert.Equal(t, []string{"server-2", "server-3"}, known())
	cluster.AddServer("server-4")
	assert.Equal(t, []string{"server-2", "server-3", "server-4"}, known())
	require.NoError(t, client.Agent.UpdateServers(t.Context(), cluster.Agent("server-4").RPCAddr(), "127.0.0.9:4647"))
	assert.Equal(t, []string{"server-4"}, known(), "until the next heartbeat")
	cluster.Agent("client-1").Elapse(time.Minute)
	assert.Equal(t, []string{"server-2", "server-3", "server-4"}, known())
	assert.ErrorIs(t, client.Agent.UpdateServers(t.Context(), "nowhere.example"), nomad.ErrInvalidArgument)

	alone := start(t, nomadtest.Clients(1)).Client("client-1")
	_, err := alone.Agent.Health(t.Context())
	assert.ErrorIs(t, err, nomad.ErrUnhealthy)
	_, err = alone.Agent.Members(t.Context())
	assert.Error(t, err)
}

// TestRoles checks which calls need a server or a client.
func TestRoles(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1), nomadtest.Clients(1), nomadtest.Both(1))
	for name, role := range map[string]string{"server-1": "server", "client-1": "client", "both-1": "both"} {
		assert.Equal(t, role != "client", cluster.Agent(name).ServerID() != "")
		assert.Equal(t, role != "server", cluster.Agent(name).NodeID() != "")
		agent := cluster.Client(name).Agent
		_, err := agent.Servers(t.Context())
		assert.Equal(t, role == "server", err != nil)
		err = agent.ForceLeave(t.Context(), "nobody")
		assert.Equal(t, role == "client", err != nil)
		health, err := agent.Health(t.Context())
		require.NoError(t, err)
		assert.Equal(t, role != "client", health.Server != nil)
		assert.Equal(t, role != "server", health.Client != nil)
		self, err := agent.Self(t.Context())
		require.NoError(t, err)
		assert.Equal(t, name, self.Config.NodeName)
		assert.Equal(t, role == "client", self.Member.Status == nomad.StatusNone)
	}
}

// TestTags changes the tags of a server.
func TestTags(t *testing.T) {
	cluster := start(t, nomadtest.Version("1.6.5"), nomadtest.Servers(1))
	server := cluster.Agent("server-1")
	server.SetTag("build", "1.7.0")
	server.SetTag("team", "a")
	members, err := cluster.Client("server-1").Agent.Members(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "1.7.0", members.Members[0].Build())
	assert.Equal(t, "a", members.Members[0].Tags["team"])
	assert.Equal(t, server.ServerID(), members.Members[0].ID())
	assert.Equal(t, server.RPCAddr(), members.Members[0].RPCAddr().String())
	server.SetTag("team", "")
	members, err = cluster.Client("server-1").Agent.Members(t.Context())
	require.NoError(t, err)
	assert.NotContains(t, members.Members[0].Tags, "team")
}

// TestMistakes checks that wrong use of the package panics with a helpful message.
func TestMistakes(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2))
	assert.PanicsWithValue(t, `nomadtest: no agent "server-3": there are server-1, server-2`, func() { cluster.Agent("server-3") })
	assert.PanicsWithValue(t, `nomadtest: there is an agent "server-1" already`, func() { cluster.AddServer("server-1") })
	cluster.Close()
	cluster.Close()
	assert.PanicsWithValue(t, "nomadtest: the cluster is closed", func() { cluster.AddServer("server-3") })
	assert.PanicsWithValue(t, "nomadtest: option 2 is nil", func() { nomadtest.NewCluster(nomadtest.Servers(1), nil) })
	assert.PanicsWithValue(t, `nomadtest: Leader(["a" "b"]): want one region`, func() { cluster.Leader("a", "b") })
	_, err := http.Get(cluster.URL("server-1"))
	assert.Error(t, err)
}

// TestDeterministic builds the same cluster twice and compares the two.
func TestDeterministic(t *testing.T) {
	build := func() string {
		cluster := nomadtest.NewCluster(nomadtest.Servers(5), nomadtest.Servers(3, nomadtest.Region("eu")))
		defer cluster.Close()
		cluster.Agent("server-2").Stop()
		cluster.Agent("server-1").Stop()
		var out strings.Builder
		for _, a := range cluster.Agents() {
			fmt.Fprintln(&out, a.MemberName(), a.ServerID())
		}
		return out.String() + leader(cluster) + leader(cluster, "eu") + view(t, cluster.Client("server-8"))
	}
	first := build()
	for range 20 {
		assert.Equal(t, first, build())
	}
}

// TestConcurrentUse changes a cluster and calls its agents concurrently.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	cluster := start(t, nomadtest.Servers(5))
	var group sync.WaitGroup
	for _, a := range cluster.Agents()[1:] {
		group.Go(func() {
			for range 20 {
				a.Stop()
				a.Start()
			}
		})
	}
	for range 4 {
		group.Go(func() {
			client := cluster.Client("server-1")
			for range 50 {
				_, err := client.Agent.Members(t.Context())
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
	assert.Equal(t, 5, strings.Count(view(t, cluster.Client("server-1")), "(alive)"))
}

// TestUnknownPath checks the response to an unknown path.
func TestUnknownPath(t *testing.T) {
	res, err := http.Get(start(t).URL("server-1") + "/v1/agent/nope")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "404 ", fmt.Sprint(res.StatusCode, " ", string(body)))
	http.DefaultClient.CloseIdleConnections()
}
