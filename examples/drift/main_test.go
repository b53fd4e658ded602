package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/nomadtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// execute runs the program for an agent.
func execute(t *testing.T, address string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("NOMAD_ADDR", address)
	return output(t, args...)
}

// output runs the program for the agent at NOMAD_ADDR.
func output(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "{") {
			assert.LessOrEqual(t, len([]rune(strings.ReplaceAll(line, "\t", "    "))), 81, line)
		}
	}
	return out.String(), errs.String(), code
}

func TestDemoShowsTheServerWithAnotherMultiplier(t *testing.T) {
	t.Setenv("NOMAD_ADDR", "http://192.0.2.1:1")
	t.Run("table", func(t *testing.T) {
		t.Parallel()
		out, stderr, code := output(t, "-demo")
		assert.Equal(t, 2, code, "a server is down")
		assert.Contains(t, stderr, "cluster in memory")
		if strings.Contains(out, "…") {
			assert.Regexp(t, `(?m)^drift: server-3.global: not compared: .*refused$`, stderr)
		}
		assert.Regexp(t, `(?m)^PATH +VALUE  SERVERS\nServer.RaftMultiplier  1 +server-1.global\n +5 +server-2.global\n`+
			`server-3.global: not compared: .*connect.*\n2 of 3 servers compared, 1 paths differ$`, out)
	})
	t.Run("JSON", func(t *testing.T) {
		t.Parallel()
		out, _, _ := output(t, "-demo", "-json")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		require.Len(t, lines, 2)
		assert.JSONEq(t, `{"path":"Server.RaftMultiplier","values":[{"value":"1","servers":["server-1.global"]},
			{"value":"5","servers":["server-2.global"]}]}`, lines[0])
		var failed map[string]string
		require.NoError(t, json.Unmarshal([]byte(lines[1]), &failed))
		assert.Equal(t, "server-3.global", failed["server"])
		assert.Contains(t, failed["error"], "refused")
	})
	t.Run("-ignore", func(t *testing.T) {
		t.Parallel()
		out, _, _ := output(t, "-demo", "-ignore", "Server,Client")
		assert.Contains(t, out, "0 paths differ")
	})
	t.Run("-all", func(t *testing.T) {
		t.Parallel()
		out, _, _ := output(t, "-demo", "-all", "-ignore", "Server")
		assert.Contains(t, out, "NodeName ")
	})
}

func TestOneServer(t *testing.T) {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	out, _, code := execute(t, cluster.URL("server-1"))
	assert.Equal(t, 0, code)
	assert.Contains(t, out, "1 of 1 servers compared, 0 paths differ")
}

func TestAnotherServerRespondsInItsPlace(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2)) // both have the same address, so requests for both go to the first
	defer cluster.Close()
	out, _, code := execute(t, cluster.URL("server-1"), "-json")
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "another agent responds")
}

func TestBaseline(t *testing.T) {
	const planted = "pl4nted-s3cret"
	cluster := nomadtest.NewCluster(nomadtest.ACLs(), nomadtest.Config("ACL.ReplicationToken", planted),
		nomadtest.Config("Consuls", []map[string]any{{"Name": "default", "Token": planted, "Addr": "127.0.0.1:8500"}}))
	defer cluster.Close()
	t.Setenv("NOMAD_TOKEN", nomadtest.AgentReadToken)
	_, stderr, code := execute(t, cluster.URL("server-1"))
	assert.Equal(t, 2, code)
	assert.Contains(t, stderr, "Permission denied")
	t.Setenv("NOMAD_TOKEN", nomadtest.ManagementToken)
	file := filepath.Join(t.TempDir(), "state.json")
	_, stderr, code = execute(t, cluster.URL("server-1"), "-write", file)
	assert.Equal(t, 0, code, stderr)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.NotContains(t, string(text), planted)
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Len(t, left, 1)

	out, stderr, code := execute(t, cluster.URL("server-1"), "-baseline", file, "-all")
	assert.Equal(t, 0, code, "unchanged secrets are no drift: %s%s", out, stderr)

	changed := bytes.Replace(text, []byte(`"127.0.0.1:8500"`), []byte(`"consul:8500"`), 1)
	require.NoError(t, os.WriteFile(file, changed, 0o600))
	out, _, code = execute(t, cluster.URL("server-1"), "-baseline", file)
	assert.Equal(t, 1, code)
	assert.Regexp(t, `Consuls\[0\].Addr  was consul:8500 +server-1.global\n +127.0.0.1:8500 +server-1.global`, out)

	renamed := bytes.Replace(text, []byte(`"server-1.global"`), []byte(`"server-9.global"`), 1)
	require.NoError(t, os.WriteFile(file, renamed, 0o600))
	out, _, code = execute(t, cluster.URL("server-1"), "-baseline", file)
	assert.Equal(t, 2, code)
	assert.Regexp(t, `\(server\) +was in the pool +server-9.global\n +gone +server-9.global`, out)
	assert.Contains(t, out, "server-1.global: not compared: the baseline does not have it")
}

func TestDifferentSecretsAreDriftAndNotShown(t *testing.T) {
	config := func(text string) *agentconfig.Config {
		c := new(agentconfig.Config)
		require.NoError(t, json.Unmarshal([]byte(text), c))
		return c
	}
	one := `{"ACL":{"ReplicationToken":"one"},"LogLevel":"INFO"}`
	two := `{"ACL":{"ReplicationToken":"two"},"LogLevel":"INFO"}`
	servers := []server{
		{name: "a", config: config(one)}, {name: "down", err: errors.New("down")}, {name: "b", config: config(two)},
		{name: "c", config: config(two)}, {name: "d", config: config(`{"LogLevel":"INFO"}`)},
	}
	drifts := between(servers, nil)
	assert.Equal(t, []drift{{Path: "ACL.ReplicationToken", Values: []value{
		{Value: "<redacted>", Servers: []string{"b", "c"}},
		{Value: "<redacted>", Servers: []string{"a"}},
		{Value: "", Servers: []string{"d"}},
	}}}, drifts)
	assert.Empty(t, between(nil, nil))
}

func TestTable(t *testing.T) {
	var names []string
	for range 30 {
		names = append(names, "server-with-a-name.global")
	}
	drifts := []drift{{Path: strings.Repeat("p\x1b", 40), Values: []value{
		{Value: strings.Repeat("é\n", 50), Servers: names},
		{Servers: []string{strings.Repeat("s", 90)}},
	}}}
	var out strings.Builder
	require.NoError(t, show(&out, drifts, []server{{name: strings.Repeat("x\x1b", 60), err: errors.New("e")}}, false))
	assert.NotContains(t, out.String(), "\x1b")
	assert.Contains(t, out.String(), "30 servers: ")
	assert.Len(t, strings.Split(out.String(), "\n"), 6)
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, len([]rune(line)), 81, line)
	}
	assert.Error(t, show(full{}, drifts, nil, true))
}

func TestCovered(t *testing.T) {
	for path, want := range map[string]bool{
		"Ports": true, "Ports.HTTP": true, "PortsX": false,
		"Client.Meta[rack]": true, "Client.Meta[row]": false, "Tags[1]": true,
	} {
		assert.Equal(t, want, covered(path, []string{"Ports", "Client.Meta[rack]", "Tags"}), path)
	}
}

func TestUsage(t *testing.T) {
	folder := t.TempDir()
	other := filepath.Join(folder, "other.json")
	require.NoError(t, os.WriteFile(other, []byte(`{"a":1}`), 0o600))
	t.Setenv("NOMAD_ADDR", "http://127.0.0.1:1")
	for want, args := range map[string][]string{
		"unexpected argument":  {"x"},
		"not defined":          {"-x"},
		"-timeout":             {"-timeout", "0"},
		"-port":                {"-port", "70000"},
		"exclude":              {"-baseline", "a", "-write", "b"},
		"-demo exclude":        {"-demo", "-port", "1"},
		"no such file":         {"-baseline", filepath.Join(folder, "missing")},
		"not a file of -write": {"-baseline", other},
		"missing/x":            {"-demo", "-write", filepath.Join(folder, "missing", "x")},
		"connection refused":   {},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			out, stderr, code := output(t, args...)
			assert.Equal(t, 2, code)
			assert.Contains(t, stderr, want)
			assert.Empty(t, out)
		})
	}
	for _, arg := range []string{"-h", "-demo"} {
		t.Run(arg+" on a full disk", func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			assert.Equal(t, 2, run(t.Context(), []string{arg}, full{}, &errs))
			assert.Contains(t, errs.String(), "no space left")
		})
	}
	t.Run("-h", func(t *testing.T) {
		out, stderr, code := output(t, "-h")
		assert.Equal(t, 0, code)
		assert.Contains(t, out, "exit codes:")
		assert.Empty(t, stderr)
	})
	t.Run("NOMAD_ADDR of a socket", func(t *testing.T) {
		_, stderr, code := execute(t, "unix:///run/nomad.sock")
		assert.Equal(t, 2, code)
		assert.Contains(t, stderr, "NOMAD_ADDR")
	})
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	assert.Equal(t, 2, run(ctx, []string{"-demo"}, &out, &errs))
	assert.Contains(t, errs.String(), "interrupted")
	assert.Empty(t, out.String())
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestRealAgent(t *testing.T) {
	process, err := nomadtest.StartProcess(t.Context(), nomadtest.Servers(1))
	if errors.Is(err, nomadtest.ErrNoBinary) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer process.Close()
	file := filepath.Join(t.TempDir(), "state.json")
	out, stderr, code := execute(t, process.URL(), "-write", file)
	require.Equal(t, 0, code, "%s%s", out, stderr)
	out, stderr, code = execute(t, process.URL(), "-baseline", file, "-all")
	assert.Equal(t, 0, code, "%s%s", out, stderr)

	kept, err := load(file)
	require.NoError(t, err)
	multiplier := 7
	kept.Servers[process.MemberName()].Server.RaftMultiplier = &multiplier
	self, err := process.Client(nomad.WithRetries(0)).Agent.Self(t.Context())
	require.NoError(t, err)
	drifts := since(kept, []server{{name: process.MemberName(), config: self.Config}}, nil)
	require.Len(t, drifts, 1)
	assert.Equal(t, "Server.RaftMultiplier", drifts[0].Path)
}
