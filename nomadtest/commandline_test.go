package nomadtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/nomadtest"
)

// TestCommandLine runs the nomad binary that NOMAD_BIN names against agents in memory.
func TestCommandLine(t *testing.T) {
	program := os.Getenv("NOMAD_BIN")
	if program == "" {
		t.Skip("NOMAD_BIN does not name a nomad binary")
	}
	cluster := start(t, nomadtest.Servers(3), nomadtest.Clients(2), nomadtest.Debug(), nomadtest.GossipKey(firstGossipKey))
	node, folder := cluster.Agent("client-1").NodeID(), t.TempDir()
	run := func(t *testing.T, agent, command string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		process := exec.CommandContext(ctx, program, strings.Fields(command)...)
		process.Env = append(os.Environ(), "NOMAD_ADDR="+cluster.URL(agent))
		output, err := process.CombinedOutput()
		return string(output), err
	}
	for command, want := range map[string]string{
		"server members":                   "server-3.global",
		"agent-info":                       "cpu_count",
		"status":                           "No running jobs",
		"node status":                      "client-2",
		"node status " + node:              "Driver Status",
		"node status -verbose " + node[:8]: "mock_driver",
		"operator scheduler get-config":    "binpack",
		"operator raft list-peers":         "server-2.global",
		"operator autopilot health":        "Healthy: true",
		"operator autopilot get-config":    "LastContactThreshold",
		"namespace list":                   "default",
		"node pool list":                   "default",
	} {
		for _, agent := range []string{"server-2", "client-1"} {
			t.Run(agent+" "+command, func(t *testing.T) {
				output, err := run(t, agent, command)
				require.NoError(t, err, output)
				assert.Contains(t, output, want)
			})
		}
	}
	t.Run("operator gossip keyring list", func(t *testing.T) {
		output, err := run(t, "server-1", "operator gossip keyring list")
		require.NoError(t, err, output)
		assert.Contains(t, output, firstGossipKey)
	})
	t.Run("operator debug", func(t *testing.T) {
		output, err := run(t, "server-1", "operator debug -duration=2s -interval=1s -server-id=all -node-id=all -pprof-duration=1s -output="+folder)
		require.NoError(t, err, output)
		for kind, n := range map[string]int{"server": 3, "client": 2} {
			for _, name := range []string{"agent-host.json", "monitor.log", "goroutine_0000.prof", "profile_0000.prof"} {
				files, err := filepath.Glob(filepath.Join(folder, "*", kind, "*", name))
				require.NoError(t, err)
				assert.Len(t, files, n, "%s of each %s", name, kind)
			}
		}
		for _, name := range []string{"members.json", "agent-self.json", "nodes.json", "leader.json"} {
			files, err := filepath.Glob(filepath.Join(folder, "*", "cluster", name))
			require.NoError(t, err)
			assert.Len(t, files, 1, name)
		}
	})
}
