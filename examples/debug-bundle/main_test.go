package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad/nomadtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const gossipKey = "c2VjcmV0LWdvc3NpcC1rZXktb2YtMzItYnl0ZXMtISE="

// bundleOf runs the program for an agent and returns the files of the archive without its folder.
func bundleOf(t *testing.T, address string, args ...string) (files map[string][]byte, manifest Manifest, code int) {
	t.Helper()
	t.Setenv("NOMAD_ADDR", address)
	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"-o", out, "-json", "-duration", "500ms"}, args...), &stdout, &stderr)
	require.Less(t, code, 2, "%s", stderr.String())
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &manifest))
	left, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, left, 1, "only the archive is left")
	return unpack(t, out), manifest, code
}

func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	zip, err := gzip.NewReader(file)
	require.NoError(t, err)
	files := map[string][]byte{}
	for archive := tar.NewReader(zip); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		require.NoError(t, err)
		top, name, found := strings.Cut(header.Name, "/")
		require.True(t, found && strings.HasPrefix(top, "nomad-debug-"), header.Name)
		require.NotContains(t, files, name)
		files[name], err = io.ReadAll(archive)
		require.NoError(t, err)
	}
}

func part1(t *testing.T, m Manifest, file string) Part {
	t.Helper()
	for _, a := range m.Agents {
		for _, p := range a.Parts {
			if p.File == file {
				return p
			}
		}
	}
	require.Fail(t, "the manifest does not list "+file)
	return Part{}
}

func TestThroughOneAgent(t *testing.T) {
	cluster, stop := newDemo()
	defer stop()
	node := cluster.Agent("client-1").NodeID()
	files, manifest, code := bundleOf(t, cluster.URL("server-1"), "-node-id", node)
	assert.Equal(t, 1, code)
	assert.False(t, manifest.Complete)
	for _, name := range []string{
		"members.json", "leader.json", "agent-self.json", "agent-health.json", "schedulers.json", "keyring.json",
	} {
		assert.True(t, json.Valid(files["cluster/"+name]), name)
	}
	for _, agent := range []string{"server/server-1.global", "server/server-2.global", "client/" + node} {
		assert.True(t, json.Valid(files[agent+"/agent-host.json"]))
		for _, name := range []string{"goroutine_0000.prof", "heap_0000.prof", "profile_0000.prof"} {
			assert.True(t, bytes.HasPrefix(files[agent+"/"+name], []byte{0x1f, 0x8b}), "%s is a profile", name)
		}
		assert.Contains(t, string(files[agent+"/goroutine-debug2_0000.txt"]), "goroutine ")
		assert.Contains(t, string(files[agent+"/monitor.log"]), "[DEBUG] nomad.raft: heartbeat")
	}
	for name := range files {
		assert.NotContains(t, name, "server-3")
	}
	for _, name := range []string{"agent-host.json", "heap_0000.prof", "monitor.log"} {
		p := part1(t, manifest, "server/server-3.global/"+name)
		assert.Contains(t, p.Error, "server-3.global")
		assert.Zero(t, p.Bytes)
	}
	var kept Manifest
	require.NoError(t, json.Unmarshal(files["manifest.json"], &kept))
	kept.Size = manifest.Size
	assert.Equal(t, manifest, kept)
	for _, a := range kept.Agents {
		for _, p := range a.Parts {
			assert.Len(t, files[p.File], int(p.Bytes), p.File)
		}
	}
}

func TestDirect(t *testing.T) {
	b := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Debug())
	defer b.Close()
	// The pool lists 127.0.0.1 for every server, which leads to the agent itself.
	files, manifest, code := bundleOf(t, b.URL("server-1"), "-direct")
	assert.Equal(t, 0, code, "%+v", manifest)
	assert.True(t, manifest.Complete)
	for _, name := range []string{"agent-self.json", "agent-health.json", "schedulers.json", "agent-host.json"} {
		assert.True(t, json.Valid(files["server/server-1.global/"+name]), name)
	}
	assert.Equal(t, "gossip is not encrypted", part1(t, manifest, "cluster/keyring.json").Skipped)
	assert.Equal(t, b.URL("server-1"), manifest.Agents[1].Address)

	two := nomadtest.NewCluster(nomadtest.Servers(2), nomadtest.Debug())
	defer two.Close()
	_, manifest, code = bundleOf(t, two.URL("server-1"), "-direct")
	assert.Equal(t, 1, code)
	assert.Contains(t, part1(t, manifest, "server/server-2.global/agent-self.json").Error, "another agent responds")
}

func TestDemoDirect(t *testing.T) {
	files, manifest, code := bundleOf(t, "http://192.0.2.1:1", "-demo", "-direct", "-duration", "0")
	assert.Equal(t, 1, code)
	assert.Contains(t, files, "server/server-2.global/agent-self.json")
	assert.Contains(t, part1(t, manifest, "server/server-3.global/agent-self.json").Error, "refused")
	client := manifest.Agents[len(manifest.Agents)-1]
	assert.Contains(t, files, client.Folder+"/agent-self.json")
	assert.Equal(t, "it is not a server", part1(t, manifest, client.Folder+"/schedulers.json").Skipped)
	assert.NotContains(t, files, "server/server-2.global/monitor.log")
}

func TestWithoutCPUProfilesAndLogs(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Debug())
	defer cluster.Close()
	files, manifest, code := bundleOf(t, cluster.URL("server-1"), "-duration", "0", "-pprof-duration", "0")
	assert.Equal(t, 0, code, "%+v", manifest)
	assert.Contains(t, files, "server/server-1.global/heap_0000.prof")
	assert.NotContains(t, files, "server/server-1.global/profile_0000.prof")
	assert.NotContains(t, files, "server/server-1.global/monitor.log")
}

func TestThroughAClientAgent(t *testing.T) {
	cluster, stop := newDemo()
	defer stop()
	files, manifest, _ := bundleOf(t, cluster.URL("client-1"))
	assert.Contains(t, part1(t, manifest, "server/server-1.global/monitor.log").Error, "does not forward logs")
	assert.Contains(t, files, "server/server-1.global/heap_0000.prof")
	assert.NotEmpty(t, part1(t, manifest, "cluster/keyring.json").Skipped)
}

func TestServersOfOtherRegions(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Servers(1, nomadtest.Region("eu")), nomadtest.Debug())
	defer cluster.Close()
	_, manifest, code := bundleOf(t, cluster.URL("server-1"))
	assert.Equal(t, 0, code, "%+v", manifest.Agents[1:])
}

func TestNoSecretIsInTheArchive(t *testing.T) {
	const planted = "pl4nted-s3cret"
	cluster := nomadtest.NewCluster(nomadtest.Servers(2), nomadtest.Clients(1), nomadtest.ACLs(), nomadtest.Debug(),
		nomadtest.GossipKey(gossipKey),
		nomadtest.Config("Vaults", []map[string]any{{"Name": "default", "Token": planted}}),
		nomadtest.Config("Consuls", []map[string]any{{"Name": "default", "Token": planted, "Auth": "user:" + planted}}),
		nomadtest.Config("HTTPAPIResponseHeaders", map[string]string{"X-Key": planted}),
		nomadtest.Config("Client.Options", map[string]string{"driver.password": planted}))
	defer cluster.Close()
	t.Setenv("NOMAD_TOKEN", nomadtest.ManagementToken)
	host := nomadtest.Status(200, `{"AgentID":"x","HostData":{"OS":"Linux","Environment":{"SECRET":"`+planted+
		`","NOMAD_TOKEN":"`+nomadtest.ManagementToken+`"}}}`)
	cluster.Agent("server-1").Inject(host, nomadtest.On("host"))
	bad := nomadtest.Status(500, "bad token "+nomadtest.ManagementToken)
	cluster.Agent("server-1").Inject(bad, nomadtest.On("schedulers"))
	logged := make(chan struct{})
	defer func() { <-logged }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		defer close(logged)
		for ctx.Err() == nil {
			for _, agent := range cluster.Agents() {
				agent.Log("error", "nomad", "cannot use "+nomadtest.ManagementToken+" or "+gossipKey,
					"secret_id", planted, "vault_token", planted+" with space")
				agent.Log("error", "nomad", `body: {"SecretID":"`+planted+`", "password" : "`+planted+`\" more"}`)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	node := cluster.Agent("client-1").NodeID()
	files, manifest, _ := bundleOf(t, cluster.URL("server-1"), "-node-id", node)
	assert.Contains(t, part1(t, manifest, "cluster/schedulers.json").Error, "bad token")
	assert.Contains(t, string(files["server/server-1.global/monitor.log"]), "secret_id=<redacted>")
	assert.Regexp(t, `"Token": "(<|\\u003c)redacted`, string(files["cluster/agent-self.json"]))
	assert.Contains(t, string(files["cluster/keyring.json"]), `"nodes": 2`)
	assert.Contains(t, string(files["server/server-1.global/agent-host.json"]), `"SECRET": "<redacted>"`)
	raw, err := base64.StdEncoding.DecodeString(gossipKey)
	require.NoError(t, err)
	for name, content := range files {
		if zip, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
			content, err = io.ReadAll(zip)
			require.NoError(t, err)
		}
		for _, secret := range []string{planted, nomadtest.ManagementToken, gossipKey, string(raw)} {
			assert.NotContains(t, string(content), secret, name)
		}
	}
}

func TestSizeIsLimited(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Debug())
	defer cluster.Close()
	logged := make(chan struct{})
	defer func() { <-logged }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		defer close(logged)
		for ctx.Err() == nil {
			cluster.Agent("server-1").Log("info", "nomad", strings.Repeat("x", 100<<10))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	files, manifest, code := bundleOf(t, cluster.URL("server-1"), "-max-size", "1", "-duration", "1m")
	assert.Equal(t, 1, code)
	log := part1(t, manifest, "server/server-1.global/monitor.log")
	assert.Contains(t, log.Error, "-max-size")
	assert.Positive(t, log.Bytes, "the beginning is kept")
	assert.LessOrEqual(t, log.Bytes, int64(1<<18))
	assert.LessOrEqual(t, manifest.Bytes, int64(1<<20))
	assert.Contains(t, files, "server/server-1.global/heap_0000.prof", "a log does not use up the size limit")
}

func TestStreamsThatEndEarly(t *testing.T) {
	cluster, stop := newDemo()
	defer stop()
	cluster.Agent("server-1").Inject(nomadtest.ResetAfter(300), nomadtest.On("monitor"))
	cluster.Agent("server-1").Inject(nomadtest.ResetAfter(300), nomadtest.On("pprof/heap"))
	files, manifest, code := bundleOf(t, cluster.URL("server-1"), "-server-id", "server-2.global")
	assert.Equal(t, 1, code)
	assert.NotEmpty(t, part1(t, manifest, "server/server-2.global/heap_0000.prof").Error)
	assert.NotContains(t, files, "server/server-2.global/heap_0000.prof", "a truncated profile is useless")
	assert.NotEmpty(t, part1(t, manifest, "server/server-2.global/monitor.log").Error)
}

func TestInterruptedLeavesNothing(t *testing.T) {
	cluster, stop := newDemo()
	defer stop()
	cluster.Agent("server-1").Inject(nomadtest.Stall(), nomadtest.On("pprof/heap"))
	t.Setenv("NOMAD_ADDR", cluster.URL("server-1"))
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for len(cluster.Agent("server-1").Requests()) < 10 {
			time.Sleep(time.Millisecond)
		}
	}()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"-o", filepath.Join(folder, "x.tar.gz"), "-duration", "1h"}, &stdout, &stderr)
	assert.Equal(t, 2, code)
	assert.Empty(t, stdout.String())
	assert.Contains(t, stderr.String(), "interrupted: nothing is written")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestUsage(t *testing.T) {
	t.Setenv("NOMAD_ADDR", "http://127.0.0.1:1")
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("there", nil, 0o600))
	for name, args := range map[string][]string{
		"unexpected argument": {"x"},
		"not defined":         {"-x"},
		"-log-level":          {"-log-level", "loud"},
		"-pprof-duration":     {"-pprof-duration", "1500ms"},
		"-duration":           {"-duration", "-1s"},
		"-timeout":            {"-timeout", "0"},
		"-max-size":           {"-max-size", "0"},
		"-port":               {"-port", "4646"},
		"-port and -demo":     {"-demo", "-direct", "-port", "1"},
		"exists":              {"-demo", "-o", "there"},
		"no server has":       {"-demo", "-server-id", "nobody"},
		"no such file":        {"-demo", "-o", "missing/x"},
		"connection refused":  {},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(t.Context(), args, &stdout, &stderr), name)
		assert.Contains(t, stderr.String(), name)
		assert.Empty(t, stdout.String())
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 0, run(t.Context(), []string{"-h"}, &stdout, &stderr))
	assert.Contains(t, stdout.String(), "exit codes:")
	assert.Empty(t, stderr.String())
	for line := range strings.Lines(stdout.String()) {
		assert.LessOrEqual(t, len(strings.ReplaceAll(line, "\t", "    ")), 81, line)
	}
	assert.Equal(t, 2, run(t.Context(), []string{"-h"}, full{}, &stderr))
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestFolder(t *testing.T) {
	for name, want := range map[string]string{
		"server-1.global": "server-1.global", "../../etc": ".._.._etc", "..": "_..", "": "_", "a\x1b\\é": "a___",
	} {
		assert.Equal(t, want, folder(name))
	}
}

func TestTable(t *testing.T) {
	manifest := &Manifest{File: "x.tar.gz", Agents: []*Agent{{
		Name: strings.Repeat("n", 90), Status: "fa\x1biled", Error: strings.Repeat("e\x1b", 90),
	}}}
	var out strings.Builder
	require.NoError(t, show(&out, manifest, false))
	assert.NotContains(t, out.String(), "\x1b")
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, len([]rune(line)), 81, line)
	}
	assert.Error(t, show(full{}, manifest, false))
}

func TestRealAgent(t *testing.T) {
	process, err := nomadtest.StartProcess(t.Context(), nomadtest.Servers(1), nomadtest.Debug(),
		nomadtest.GossipKey(gossipKey))
	if errors.Is(err, nomadtest.ErrNoBinary) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer process.Close()
	for _, args := range [][]string{{}, {"-direct"}} {
		files, manifest, code := bundleOf(t, process.URL(), append(args, "-log-level", "trace", "-duration", "2s")...)
		require.Equal(t, 0, code, "%+v", manifest)
		folder := "server/" + process.MemberName() + "/"
		assert.Contains(t, string(files[folder+"monitor.log"]), "request complete")
		assert.True(t, bytes.HasPrefix(files[folder+"profile_0000.prof"], []byte{0x1f, 0x8b}))
		for name, content := range files {
			assert.NotContains(t, string(content), gossipKey, name)
			t.Logf("%8d %s", len(content), name)
		}
	}
}
