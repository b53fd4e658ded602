package nomadtest_test

import (
	"io"
	"testing"

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
