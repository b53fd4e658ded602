package nomadtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestTargets makes calls that an agent forwards to other agents.
func TestTargets(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2), nomadtest.Clients(1), nomadtest.Debug())
	for _, caller := range []string{"server-2", "client-1"} {
		agent := cluster.Client(caller).Agent
		server, node := cluster.Agent("server-1"), cluster.Agent("client-1")
		for target, id := range map[nomad.Target]string{
			{}:                                "",
			nomad.OnServer("server-1.global"): server.MemberName(),
			nomad.OnServer(server.ServerID()): server.MemberName(),
			nomad.OnServer("leader"):          server.MemberName(),
			nomad.OnNode(node.NodeID()):       node.NodeID(),
		} {
			host, err := agent.Host(t.Context(), target)
			require.NoError(t, err, target)
			assert.Equal(t, id, host.AgentID)
			profile, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileCmdline, Target: target})
			require.NoError(t, err, target)
			text, err := io.ReadAll(profile)
			require.NoError(t, err)
			profile.Close()
			assert.Contains(t, string(text), "/usr/bin/nomad\x00agent\x00-config\x00")
		}
		nobody, nothing := nomad.OnServer("nobody"), nomad.OnNode("00000000-0000-0000-0000-000000000000")
		for _, target := range []nomad.Target{nobody, nothing} {
			_, err := agent.Host(t.Context(), target)
			assert.ErrorIs(t, err, nomad.ErrNotFound)
			_, err = agent.Profile(t.Context(), nomad.ProfileOptions{Type: "heap", Target: target})
			assert.ErrorIs(t, err, nomad.ErrNotFound)
			logs, err := agent.Monitor(t.Context(), nomad.MonitorOptions{Target: target})
			if caller == "client-1" && target == nobody {
				require.NoError(t, err, "an agent in client mode ignores the server name")
				logs.Close()
				continue
			}
			assert.ErrorIs(t, err, nomad.ErrNotFound)
		}
	}
}

// TestMonitor streams log entries of the cluster and of the test, from the requested level.
func TestMonitor(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1))
	logs, err := cluster.Client("server-2").Agent.Monitor(t.Context(), nomad.MonitorOptions{
		Level: nomad.LevelInfo, JSON: true, Target: nomad.OnServer("server-1.global"),
	})
	require.NoError(t, err)
	cluster.Agent("server-1").Log("debug", "test", "below the level")
	cluster.Agent("server-3").Stop()
	cluster.Agent("server-1").Log("error", "test", "the end", "n", 5)
	var got []string
	for entry, err := range logs.Entries() {
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), entry.Time, time.Minute)
		got = append(got, string(entry.Level)+" "+entry.Message)
		if entry.Message == "the end" {
			assert.Equal(t, map[string]any{"n": json.Number("5")}, entry.Fields)
			break
		}
	}
	assert.Equal(t, []string{"info serf: EventMemberFailed", "error the end"}, got)
}

// TestMonitorOfADyingAgent stops an agent while its log is read.
func TestMonitorOfADyingAgent(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1))
	logs, err := cluster.Client("server-1").Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	require.NoError(t, err)
	time.AfterFunc(20*time.Millisecond, cluster.Agent("server-1").Stop)
	_, err = io.Copy(io.Discard, logs)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// TestExport reads earlier log entries and follows new ones.
func TestExport(t *testing.T) {
	cluster := start(t, nomadtest.Servers(1), nomadtest.Servers(1, nomadtest.Version("1.6.5")))
	agent := cluster.Client("server-1").Agent
	cluster.Agent("server-1").Log("info", "test", "before")
	for _, follow := range []bool{false, true} {
		logs, err := agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{Service: "nomad", Follow: follow})
		require.NoError(t, err)
		cluster.Agent("server-1").Log("info", "test", "after")
		var text strings.Builder
		for line, err := range logs.Lines() {
			require.NoError(t, err)
			text.WriteString(line)
			if strings.Contains(line, "after") {
				break
			}
		}
		assert.Contains(t, text.String(), "test: before")
		assert.Equal(t, follow, strings.HasSuffix(text.String(), "test: after"))
	}
	_, err := agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
	assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	_, err = cluster.Client("server-2").Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{Service: "nomad"})
	assert.ErrorIs(t, err, nomad.ErrUnsupported)
}

// TestProfiles requests each kind of profile.
func TestProfiles(t *testing.T) {
	t.Parallel()
	agent := start(t, nomadtest.Debug()).Client("server-1").Agent
	for _, name := range []nomad.ProfileType{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate", "profile", "trace"} {
		profile, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: name})
		require.NoError(t, err, name)
		content, err := io.ReadAll(profile)
		require.NoError(t, err, name)
		profile.Close()
		if name == "trace" {
			assert.True(t, strings.HasPrefix(string(content), "go 1."), name)
		} else {
			assert.True(t, strings.HasPrefix(string(content), "\x1f\x8b"), name)
		}
	}
	_, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: "nope"})
	assert.ErrorIs(t, err, nomad.ErrNotFound)
}

// TestKeyring rotates the gossip key of all servers.
func TestKeyring(t *testing.T) {
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(1), nomadtest.GossipKey("bm9tYWR0ZXN0IGdvc3NpcA=="))
	first, second := cluster.Client("server-1").Agent, cluster.Client("server-2").Agent
	ctx := context.Background()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	keys := func() int {
		ring, err := second.ListKeys(ctx)
		require.NoError(t, err)
		assert.Equal(t, 3, ring.NumNodes)
		return len(ring.Keys)
	}
	ring, err := first.ListKeys(ctx)
	require.NoError(t, err)
	_, err = first.UseKey(ctx, nomad.NewSecret(key))
	assert.Error(t, err, "no server has the key")
	for range 2 {
		_, err = first.InstallKey(ctx, nomad.NewSecret(key))
		require.NoError(t, err)
	}
	assert.Equal(t, 2, keys())
	_, err = second.UseKey(ctx, nomad.NewSecret(key))
	require.NoError(t, err)
	_, err = first.RemoveKey(ctx, nomad.NewSecret(key))
	assert.Error(t, err, "the key is active")
	for old := range ring.Keys {
		_, err = first.RemoveKey(ctx, old)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, keys())
	_, err = cluster.Client("client-1").Agent.ListKeys(ctx)
	assert.ErrorIs(t, err, nomad.ErrServerOnly)
}

// TestSchedulers changes the scheduler workers of one server.
func TestSchedulers(t *testing.T) {
	cluster := start(t, nomadtest.Servers(2), nomadtest.Clients(1))
	agent := cluster.Client("server-1").Agent
	config, err := agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 1, EnabledSchedulers: []string{"batch", "_core"}})
	require.NoError(t, err)
	assert.Equal(t, "server-1.global", config.ServerID)
	all, err := agent.Schedulers(t.Context())
	require.NoError(t, err)
	assert.Len(t, all.Schedulers, 1)
	assert.Equal(t, []string{"batch", "_core"}, all.Schedulers[0].EnabledSchedulers)
	other, err := cluster.Client("server-2").Agent.SchedulerConfig(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, other.NumSchedulers)
	_, err = cluster.Client("client-1").Agent.Schedulers(t.Context())
	assert.ErrorIs(t, err, nomad.ErrServerOnly)
}

// TestProfilesInABubble checks that an agent refuses what the runtime cannot record in a bubble, and does not hang.
func TestProfilesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := nomadtest.New(t, nomadtest.Debug()).Client("server-1").Agent
		for _, name := range []nomad.ProfileType{nomad.ProfileCPU, nomad.ProfileTrace} {
			_, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: name})
			assert.ErrorContains(t, err, "cannot record a CPU profile or trace", name)
		}
		profile, err := agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
		require.NoError(t, err)
		profile.Close()
	})
}
