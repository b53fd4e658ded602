package nomadtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// node is an agent in memory or a real one.
type node interface {
	Name() string
	MemberName() string
	URL() string
	SerfAddr() string
	RPCAddr() string
	Client(...nomad.Option) *nomad.Client
	Stop()
}

var _, _ node = (*nomadtest.Agent)(nil), (*nomadtest.Process)(nil)

// TestConformance makes the same checks on agents in memory and, if NOMAD_BIN is set, on real agents.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		conform(t, func(t *testing.T, opts ...nomadtest.Option) node {
			return start(t, opts...).Agents()[0]
		})
	})
	t.Run("process", func(t *testing.T) {
		if os.Getenv("NOMAD_BIN") == "" {
			t.Skip("NOMAD_BIN does not name a nomad binary; only agents in memory were checked")
		}
		conform(t, func(t *testing.T, opts ...nomadtest.Option) node {
			p, err := nomadtest.StartProcess(t.Context(), opts...)
			require.NoError(t, err)
			t.Cleanup(p.Close)
			return p
		})
	})
}

const firstKey, secondKey = "cg8StVXbQJ0gPvMd9o7yrg==", "tbLJg26ZJyJ9pK3qhc9jig=="

// conform starts the agents that the checks need and runs the checks in order.
func conform(t *testing.T, start func(*testing.T, ...nomadtest.Option) node) {
	e := &environment{}
	named := func(name string) nomadtest.AgentOption { return nomadtest.Names(name) }
	e.server = start(t, nomadtest.Servers(1, named("first"), nomadtest.Debug(), nomadtest.GossipKey(firstKey)))
	e.peer = start(t, nomadtest.Servers(1, named("second"), nomadtest.Expect(0), nomadtest.GossipKey(firstKey)))
	e.third = start(t, nomadtest.Servers(1, named("third"), nomadtest.Expect(0), nomadtest.GossipKey(firstKey)))
	e.client = start(t, nomadtest.Clients(1, named("worker"), nomadtest.Debug(), nomadtest.KnownServers(e.server.RPCAddr())))
	e.lost = start(t, nomadtest.Servers(1, named("lost"), nomadtest.Expect(3), nomadtest.Datacenter("dc2"), nomadtest.Region("eu")))
	e.guarded = start(t, nomadtest.Servers(1, named("guarded")), nomadtest.ACLs(), nomadtest.MutualTLS(), nomadtest.MaxConns(5))
	passed := 0
	for _, c := range checks {
		if t.Run(c.name, func(t *testing.T) { c.check(t, e) }) {
			passed++
		}
	}
	t.Logf("%d of %d checks passed", passed, len(checks))
}

type environment struct {
	server  node // with a leader, debug and a gossip key
	peer    node // a server that shares the key and has bootstrap_expect 0
	third   node // another server like peer
	client  node // of server
	lost    node // a single server with bootstrap_expect 3
	guarded node // a server with ACLs, mutual TLS and few connections
}

var checks = []struct {
	name  string
	check func(*testing.T, *environment)
}{
	{"leader", func(t *testing.T, e *environment) {
		for _, who := range []node{e.server, e.client} {
			var leader string
			require.NoError(t, call(t.Context(), who.Client(), "GET", "/v1/status/leader", nil, nil, &leader))
			assert.Equal(t, e.server.RPCAddr(), leader)
			err := call(t.Context(), who.Client(), "GET", "/v1/status/leader", url.Values{"region": {"nowhere"}}, nil, nil)
			assert.ErrorContains(t, err, "No path to region")
		}
		err := call(t.Context(), e.lost.Client(), "GET", "/v1/status/leader", nil, nil, nil)
		assert.ErrorIs(t, err, nomad.ErrNoLeader)
		var refused *nomad.APIError
		require.ErrorAs(t, call(t.Context(), e.server.Client(), "DELETE", "/v1/status/leader", nil, nil, nil), &refused)
		assert.Equal(t, http.StatusMethodNotAllowed, refused.StatusCode)
	}},
	{"members", func(t *testing.T, e *environment) {
		for _, who := range []node{e.server, e.client} {
			members, err := who.Client().Agent.Members(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "first", members.ServerName)
			assert.Equal(t, "global", members.ServerRegion)
			assert.Equal(t, "dc1", members.ServerDC)
			require.Len(t, members.Members, 1)
			m := members.Members[0]
			assert.Equal(t, "first.global (alive)", m.String())
			assert.Equal(t, e.server.SerfAddr(), fmt.Sprintf("%s:%d", m.Addr, m.Port))
			assert.Equal(t, e.server.RPCAddr(), fmt.Sprintf("%s:%d", m.RPCAddr().Addr().Unmap(), m.RPCAddr().Port()))
			delete(m.Tags, "id")
			delete(m.Tags, "build")
			assert.Equal(t, map[string]string{"role": "nomad", "region": "global", "dc": "dc1", "revision": "", "rpc_addr": "127.0.0.1",
				"port": e.server.RPCAddr()[len("127.0.0.1:"):], "vsn": "1", "raft_vsn": "3", "expect": "1", "bootstrap": "1"}, m.Tags)
		}
	}},
	{"members of a server elsewhere", func(t *testing.T, e *environment) {
		members, err := e.lost.Client().Agent.Members(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "eu dc2 lost.eu (alive)", fmt.Sprint(members.ServerRegion, " ", members.ServerDC, " ", members.Members[0]))
		assert.NotContains(t, members.Members[0].Tags, "bootstrap")
	}},
	{"members compressed", func(t *testing.T, e *environment) {
		plain, err := e.server.Client().Agent.Members(t.Context())
		require.NoError(t, err)
		compressed, err := e.server.Client(nomad.WithCompression(true)).Agent.Members(t.Context())
		require.NoError(t, err)
		assert.Equal(t, plain, compressed)
	}},
	{"servers", func(t *testing.T, e *environment) {
		servers, err := e.client.Client().Agent.Servers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{e.server.RPCAddr()}, servers)
		_, err = e.server.Client().Agent.Servers(t.Context())
		assert.ErrorIs(t, err, nomad.ErrClientOnly)
	}},
	{"update servers", func(t *testing.T, e *environment) {
		agent := e.client.Client().Agent
		assert.ErrorIs(t, agent.UpdateServers(t.Context(), "127.0.0.1:1"), nomad.ErrInvalidArgument)
		assert.ErrorContains(t, agent.UpdateServers(t.Context(), e.server.SerfAddr()), "failed ping: rpc error: EOF")
		require.NoError(t, agent.UpdateServers(t.Context(), "127.0.0.1:1", e.server.RPCAddr()), "one address is valid")
		servers, err := agent.Servers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{e.server.RPCAddr()}, servers)
		assert.ErrorIs(t, e.server.Client().Agent.UpdateServers(t.Context(), "127.0.0.1:1"), nomad.ErrClientOnly)
	}},
	{"self of a server", func(t *testing.T, e *environment) {
		self, err := e.server.Client().Agent.Self(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "first.global (alive)", self.Member.String())
		assert.Equal(t, "first", self.Config.NodeName)
		assert.True(t, self.Config.Server.Enabled && !self.Config.Client.Enabled && self.Config.EnableDebug && !self.Config.ACL.Enabled)
		assert.Equal(t, 1, self.Config.Server.BootstrapExpect)
		assert.Equal(t, e.server.SerfAddr(), self.Config.AdvertiseAddrs.Serf)
		assert.Equal(t, "http://"+self.Config.AdvertiseAddrs.HTTP, e.server.URL())
		assert.Equal(t, "true", self.Stats["nomad"]["leader"])
		assert.Equal(t, "true", self.Stats["serf"]["encrypted"])
		assert.Equal(t, e.server.RPCAddr(), self.Stats["nomad"]["leader_addr"])
		assert.NotContains(t, self.Stats, "client")
	}},
	{"self of a client", func(t *testing.T, e *environment) {
		self, err := e.client.Client().Agent.Self(t.Context())
		require.NoError(t, err)
		assert.Empty(t, self.Member.Name)
		assert.True(t, !self.Config.Server.Enabled && self.Config.Client.Enabled)
		assert.Equal(t, e.server.RPCAddr(), self.Stats["client"]["known_servers"])
		assert.Len(t, self.Stats["client"]["node_id"], 36)
		assert.NotContains(t, self.Stats, "serf")
	}},
	{"self of a server without a leader", func(t *testing.T, e *environment) {
		self, err := e.lost.Client().Agent.Self(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "Follower never [] false", fmt.Sprint(self.Stats["raft"]["state"], " ", self.Stats["raft"]["last_contact"], " ",
			self.Stats["raft"]["latest_configuration"], " ", self.Stats["serf"]["encrypted"]))
	}},
	{"health", func(t *testing.T, e *environment) {
		health, err := e.server.Client().Agent.Health(t.Context())
		require.NoError(t, err)
		assert.True(t, health.Server.OK && health.Client == nil)
		health, err = e.client.Client().Agent.Health(t.Context())
		require.NoError(t, err)
		assert.True(t, health.Client.OK && health.Server == nil)
		_, err = e.server.Client().Agent.Health(t.Context(), nomad.RoleClient)
		assert.ErrorIs(t, err, nomad.ErrClientOnly)
		_, err = e.server.Client(nomad.WithRegion("mars")).Agent.Health(t.Context())
		assert.ErrorContains(t, err, "No path to region")
		_, err = e.client.Client(nomad.WithRegion("mars")).Agent.Health(t.Context())
		assert.NoError(t, err)
		_, err = e.lost.Client().Agent.Health(t.Context())
		assert.ErrorIs(t, err, nomad.ErrNoLeader)
	}},
	{"host", func(t *testing.T, e *environment) {
		worker := nodeID(t, e)
		for _, who := range []node{e.server, e.client} {
			for id, targets := range map[string][]nomad.Target{
				"": {{}}, "first.global": {nomad.OnServer("first.global"), nomad.OnServer("leader")}, worker: {nomad.OnNode(worker)},
			} {
				for _, target := range targets {
					host, err := who.Client().Agent.Host(t.Context(), target)
					require.NoError(t, err, "%s of %s", target, who.Name())
					assert.Equal(t, id, host.AgentID)
					assert.NotEmpty(t, host.OS)
				}
			}
			for _, target := range []nomad.Target{nomad.OnServer("first"), nomad.OnServer("nobody"), nomad.OnNode(noID)} {
				_, err := who.Client().Agent.Host(t.Context(), target)
				assert.ErrorIs(t, err, nomad.ErrNotFound)
			}
		}
		_, err := e.peer.Client().Agent.Host(t.Context(), nomad.Target{})
		assert.ErrorIs(t, err, nomad.ErrPermissionDenied, "without debug")
	}},
	{"profile", func(t *testing.T, e *environment) {
		for _, who := range []node{e.server, e.client} {
			for name, begin := range map[nomad.ProfileType]string{nomad.ProfileHeap: "\x1f\x8b", nomad.ProfileGoroutine: "\x1f\x8b", nomad.ProfileTrace: "go 1."} {
				profile, err := who.Client().Agent.Profile(t.Context(), nomad.ProfileOptions{Type: name, Target: nomad.OnNode(nodeID(t, e))})
				require.NoError(t, err)
				content, err := io.ReadAll(profile)
				require.NoError(t, err)
				assert.True(t, strings.HasPrefix(string(content), begin))
				profile.Close()
			}
			_, err := who.Client().Agent.Profile(t.Context(), nomad.ProfileOptions{Type: "nope"})
			assert.ErrorIs(t, err, nomad.ErrNotFound)
			_, err = who.Client().Agent.Profile(t.Context(), nomad.ProfileOptions{Type: "heap", Target: nomad.OnServer("nobody")})
			assert.ErrorIs(t, err, nomad.ErrNotFound)
		}
		_, err := e.peer.Client().Agent.Profile(t.Context(), nomad.ProfileOptions{Type: "heap"})
		assert.ErrorIs(t, err, nomad.ErrPermissionDenied, "without debug")
	}},
	{"monitor", func(t *testing.T, e *environment) {
		for _, who := range []node{e.server, e.client} {
			for _, target := range []nomad.Target{{}, nomad.OnServer("first.global"), nomad.OnNode(nodeID(t, e))} {
				logs, err := who.Client().Agent.Monitor(t.Context(), nomad.MonitorOptions{Level: nomad.LevelTrace, Target: target})
				require.NoError(t, err)
				assert.NoError(t, logs.Close())
			}
			_, err := who.Client().Agent.Monitor(t.Context(), nomad.MonitorOptions{Target: nomad.OnNode(noID)})
			assert.ErrorIs(t, err, nomad.ErrNotFound)
		}
		_, err := e.server.Client().Agent.Monitor(t.Context(), nomad.MonitorOptions{Target: nomad.OnServer("nobody")})
		assert.ErrorIs(t, err, nomad.ErrNotFound)
	}},
	{"monitor what is logged", func(t *testing.T, e *environment) {
		for _, who := range []node{e.server, e.client} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			logs, err := who.Client().Agent.Monitor(ctx, nomad.MonitorOptions{Level: nomad.LevelDebug, JSON: true})
			require.NoError(t, err)
			_, err = who.Client().Agent.Health(ctx)
			require.NoError(t, err)
			for entry, err := range logs.Entries() {
				require.NoError(t, err)
				if entry.Message == "request complete" && entry.Fields["path"] == "/v1/agent/health" {
					assert.Equal(t, nomad.LevelDebug, entry.Level)
					assert.Equal(t, "http", entry.Module)
					assert.Equal(t, "GET", entry.Fields["method"])
					assert.WithinDuration(t, time.Now(), entry.Time, time.Minute)
					break
				}
			}
			cancel()
		}
	}},
	{"reload", func(t *testing.T, e *environment) {
		assert.NoError(t, e.server.Client().Agent.Reload(t.Context()))
		assert.NoError(t, e.client.Client().Agent.Reload(t.Context()))
	}},
	{"monitor export", func(t *testing.T, e *environment) {
		_, err := e.server.Client().Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument, "there is no log file")
		assert.ErrorContains(t, err, "No nomad log file defined")
	}},
	{"schedulers", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		all, err := agent.Schedulers(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "first.global", all.ServerID)
		config, err := agent.SchedulerConfig(t.Context())
		require.NoError(t, err)
		assert.Len(t, all.Schedulers, config.NumSchedulers)
		changed, err := agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 1, EnabledSchedulers: []string{"batch", "_core"}})
		require.NoError(t, err)
		assert.Equal(t, 1, changed.NumSchedulers)
		_, err = agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 10_000, EnabledSchedulers: []string{"_core"}})
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument, "more schedulers than processors")
		_, err = agent.UpdateSchedulerConfig(t.Context(), config)
		require.NoError(t, err)
		_, err = e.client.Client().Agent.Schedulers(t.Context())
		assert.ErrorIs(t, err, nomad.ErrServerOnly)
	}},
	{"keyring", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		keys := func() (keys []string) {
			ring, err := agent.ListKeys(t.Context())
			require.NoError(t, err)
			for key, servers := range ring.Keys {
				assert.Equal(t, ring.NumNodes, servers)
				keys = append(keys, key.Reveal())
			}
			slices.Sort(keys)
			return keys
		}
		assert.Equal(t, []string{firstKey}, keys())
		_, err := agent.UseKey(t.Context(), nomad.NewSecret(secondKey))
		assert.Error(t, err, "no server has the key")
		_, err = agent.InstallKey(t.Context(), nomad.NewSecret(secondKey))
		require.NoError(t, err)
		assert.Equal(t, []string{firstKey, secondKey}, keys())
		_, err = agent.UseKey(t.Context(), nomad.NewSecret(secondKey))
		require.NoError(t, err)
		_, err = agent.RemoveKey(t.Context(), nomad.NewSecret(secondKey))
		assert.Error(t, err, "the key is active")
		_, err = agent.UseKey(t.Context(), nomad.NewSecret(firstKey))
		require.NoError(t, err)
		_, err = agent.RemoveKey(t.Context(), nomad.NewSecret(secondKey))
		require.NoError(t, err)
		assert.Equal(t, []string{firstKey}, keys())
		_, err = e.lost.Client().Agent.ListKeys(t.Context())
		assert.ErrorContains(t, err, "1/1 nodes reported failure", "gossip is not encrypted")
		_, err = e.client.Client().Agent.ListKeys(t.Context())
		assert.ErrorIs(t, err, nomad.ErrServerOnly)
	}},
	{"tokens", func(t *testing.T, e *environment) {
		client := e.guarded.Client(nomad.WithMaxConns(1))
		defer client.Close()
		agentWith := func(token string) *nomad.Agent {
			client, err := client.With(nomad.WithToken(token))
			require.NoError(t, err)
			return client.Agent
		}
		_, err := agentWith(nomadtest.ManagementToken).Members(t.Context())
		require.NoError(t, err)
		for _, token := range []string{"", nomadtest.UnknownToken} {
			_, err = agentWith(token).Members(t.Context())
			assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
			assert.ErrorIs(t, agentWith(token).ForceLeave(t.Context(), "nobody"), nomad.ErrPermissionDenied)
			_, err = agentWith(token).Health(t.Context())
			assert.NoError(t, err)
		}
		_, err = agentWith(nomadtest.MalformedToken).Self(t.Context())
		assert.ErrorIs(t, err, nomad.ErrInvalidToken)
		_, err = agentWith(nomadtest.UnknownToken).Monitor(t.Context(), nomad.MonitorOptions{})
		assert.ErrorIs(t, err, nomad.ErrInvalidToken)
	}},
	{"connection limit", func(t *testing.T, e *environment) {
		var conns []net.Conn
		refused := false
		for range 10 {
			conn, err := net.Dial("tcp", strings.TrimPrefix(e.guarded.URL(), "https://"))
			require.NoError(t, err)
			conns = append(conns, conn)
			conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
			_, err = conn.Read(make([]byte, 1))
			refused = refused || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		}
		assert.True(t, refused, "one of ten connections is refused")
		for _, conn := range conns {
			conn.Close()
		}
		client := e.guarded.Client()
		eventually(t, func() bool {
			_, err := client.Agent.Health(t.Context())
			return err == nil
		}, "calls get through once there is room")
	}},
	{"join", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		_, err := agent.Join(t.Context(), "127.0.0.1:1")
		assert.ErrorIs(t, err, nomad.ErrJoinFailed)
		_, err = agent.Join(t.Context(), e.lost.SerfAddr())
		assert.ErrorContains(t, err, "encryption is configured but remote state is not encrypted")
		_, err = e.lost.Client().Agent.Join(t.Context(), e.server.SerfAddr())
		assert.ErrorContains(t, err, "remote state is encrypted and encryption is not configured")
		for range 2 {
			joined, err := agent.Join(t.Context(), "127.0.0.1:1", e.peer.SerfAddr())
			require.NoError(t, err)
			assert.Equal(t, 1, joined.Joined)
			assert.Empty(t, joined.Warning)
		}
		both := "first.global (alive) second.global (alive)"
		sees(t, e.server, both)
		sees(t, e.peer, both)
		sees(t, e.client, both)
		eventually(t, func() bool {
			_, err := e.peer.Client().Agent.Health(t.Context())
			return err == nil
		}, "the leader makes it a follower")
		servers := []string{e.server.RPCAddr(), e.peer.RPCAddr()}
		slices.Sort(servers)
		eventually(t, func() bool {
			known, err := e.client.Client().Agent.Servers(t.Context())
			return err == nil && slices.Equal(known, servers)
		}, "a client hears of it")
		_, err = e.client.Client().Agent.Join(t.Context(), e.peer.SerfAddr())
		assert.ErrorIs(t, err, nomad.ErrServerOnly)
	}},
	{"force-leave of one that is alive", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		require.NoError(t, agent.ForceLeave(t.Context(), "second.global"))
		sees(t, e.server, "first.global (alive) second.global (leaving)")
		sees(t, e.peer, "first.global (alive) second.global (alive)")
		_, err := e.peer.Client().Agent.Health(t.Context())
		assert.NoError(t, err, "the agent keeps running")
		rejoins(t, e.peer, e.server, "first.global (alive) second.global (alive)")
	}},
	{"prune of one that is alive", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		_, err := agent.Join(t.Context(), e.third.SerfAddr())
		require.NoError(t, err)
		all := "first.global (alive) second.global (alive) third.global (alive)"
		sees(t, e.server, all)
		sees(t, e.third, all)
		healthy := func() bool {
			_, err := e.third.Client().Agent.Health(t.Context())
			return err == nil
		}
		eventually(t, healthy, "the leader makes it a follower")
		require.NoError(t, agent.ForceLeave(t.Context(), "third.global", nomad.Prune()))
		sees(t, e.server, "first.global (alive) second.global (alive)")
		sees(t, e.third, all)
		eventually(t, func() bool { return !healthy() }, "the server loses its leader")
		e.third.Stop() // the others must notice that it is gone; otherwise it is a matter of chance how it returns
	}},
	{"force-leave", func(t *testing.T, e *environment) {
		agent := e.server.Client().Agent
		require.NoError(t, agent.ForceLeave(t.Context(), "nobody.global"))
		e.peer.Stop()
		sees(t, e.server, "first.global (alive) second.global (failed)")
		eventually(t, func() bool {
			_, err := e.server.Client().Agent.Health(t.Context())
			return errors.Is(err, nomad.ErrNoLeader)
		}, "one of two is no quorum")
		require.NoError(t, agent.ForceLeave(t.Context(), "second.global"))
		sees(t, e.server, "first.global (alive) second.global (left)")
		require.NoError(t, agent.ForceLeave(t.Context(), "second.global", nomad.Prune()))
		sees(t, e.server, "first.global (alive)")
		assert.ErrorIs(t, e.client.Client().Agent.ForceLeave(t.Context(), "second.global"), nomad.ErrServerOnly)
	}},
}

const noID = "00000000-0000-0000-0000-000000000000"

func nodeID(t *testing.T, e *environment) string {
	self, err := e.client.Client().Agent.Self(t.Context())
	require.NoError(t, err)
	return self.Stats["client"]["node_id"]
}

// sees waits until an agent reports the given members.
func sees(t *testing.T, who node, want string) {
	t.Helper()
	client := who.Client()
	defer client.Close()
	seen := ""
	defer func() {
		if t.Failed() {
			t.Log("the agent reports ", seen)
		}
	}()
	eventually(t, func() bool { seen = view(t, client); return seen == want }, who.Name()+" sees "+want)
}

// rejoins makes an agent join another until the other reports the given members. Real agents sometimes
// need several attempts, because Serf uses the later of two messages about a member by its logical clock.
func rejoins(t *testing.T, who, other node, want string) {
	t.Helper()
	agent, client := who.Client().Agent, other.Client()
	eventually(t, func() bool {
		_, err := agent.Join(t.Context(), other.SerfAddr())
		require.NoError(t, err)
		return view(t, client) == want
	}, other.Name()+" sees "+want)
}

// eventually waits for a condition that real agents need some seconds for.
func eventually(t *testing.T, done func() bool, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("timed out: " + what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
