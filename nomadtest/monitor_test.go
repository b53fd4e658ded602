package nomadtest_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

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
