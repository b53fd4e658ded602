// Package examples tests the programs in its folders. It copies each one alone into an empty module, builds
// it there and runs it.
package examples

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/nomadtest"
)

// examples are the programs and their files. Examples that are modules have their own tests.
var examples = map[string][]string{
	"bootstrap":         {"main.go"},
	"debug-bundle":      {"main.go"},
	"drift":             {"main.go"},
	"health":            {"main.go"},
	"logs":              {"main.go"},
	"members":           {"main.go"},
	"profile":           {"main.go"},
	"quickstart":        {"main.go"},
	"reaper":            {"main.go", "reaper.go"},
	"rotate-gossip-key": {"main.go"},
	"survey":            {"main.go"},
}

// runs are the command lines of each example. They run one after the other in a folder of their own.
var runs = map[string][]struct {
	args string
	code int
	out  []string // regular expressions that standard output matches
	err  string   // a regular expression that standard error matches
	file string   // a file that exists afterwards
}{
	"quickstart": {
		{args: "", out: []string{`server-1\.global +127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ +alive`, `server-4\.global .*failed`, `server-4\.global .*left`}, err: "in memory"},
		{args: "-json", out: []string{`"call":"UpdateServers"`}},
	},
	"members": {
		{args: "-demo", code: 1, out: []string{`^NAME +ADDRESS +STATUS +LEADER`, `server-1\.eu +127\.0\.0\.1:\d+ +alive +true +2\.0\.5 +dc1 +eu`, `server-3\.eu .*failed +false`}},
		{args: "-demo -json -status alive", out: []string{`"name":"server-2.eu".*"leader":false`}},
		{args: "-demo -status left", code: 1, err: "no such server"},
		{args: "-status dead", code: 2, err: `-status "dead": want alive, leaving, left or failed`},
		{args: "-timeout 0s", code: 2, err: "-timeout 0s: want more than 0"},
		{args: "-watch -every 1ms", code: 2, err: "-every 1ms: want 100ms or more"},
		{args: "-demo -every 5s", code: 2, err: "-every requires -watch"},
		{args: "-watch -status failed", code: 2, err: "-watch and -status exclude each other"},
	},
	"health": {
		{args: "-demo", out: []string{`^server  true +ok`, `^client  true +ok`}},
		{args: "-demo -quiet"},
		{args: "-demo -timeout 1ns", code: 2, err: "no response within 1ns"},
		{args: "-demo -json -role server", out: []string{`^\{"server":\{"ok":true,"message":"ok"\}\}`}},
		{args: "-role chief", code: 2, err: "want server or client"},
		{args: "-json -quiet", code: 2, err: "-json and -quiet exclude each other"},
		{args: "-timeout 0", code: 2, err: "-timeout 0s: want more than 0"},
	},
	"debug-bundle": {
		{args: "-demo -duration 1s -o bundle.tar.gz", code: 1, file: "bundle.tar.gz", out: []string{
			`^server-2\.global +alive +6 of 6 parts`, `^server-3\.global +failed +0 of 6 parts`,
		}},
		{args: "-demo -duration 1s -json", code: 1, out: []string{`"file":"server/server-1\.global/heap_0000\.prof"`}},
		{args: "-timeout 0", code: 2, err: "timeout"},
	},
	"drift": {
		{args: "-demo", code: 2, out: []string{`^Server\.RaftMultiplier +1 +server-1\.global`, `^server-3\.global: not compared`}},
		{args: "-demo -ignore Server", code: 2, out: []string{`^server-3\.global: not compared`}},
		{args: "-timeout 0", code: 2, err: "timeout"},
	},
	"survey": {
		{args: "-demo", code: 1, err: "1 of 7 servers do not respond, 6 members are seen differently", out: []string{
			`^server-1\.global +alive +ok +7`, `^server-2\.global +failed +unknown +-`, `^"server-2\.global": dial tcp .*connection refused`,
			`^server-5\.global +failed +unhealthy`, `^"server-5\.global": "No cluster leader"`, `^server-5\.global +alive +1 +server-5\.global`,
		}},
		{args: "-demo -json", code: 1, out: []string{`"name":"server-2\.global".*"reachable":false`}},
		{args: "-concurrency -1", code: 2, err: "-concurrency -1: want 1 or more"},
		{args: "-https", code: 2, err: "-https requires -port"},
		{args: "-demo -port 1", code: 2, err: "-demo and -port exclude each other"},
		{args: "-timeout 0", code: 2, err: "-timeout 0s: want more than 0"},
	},
	"logs": {
		{args: "-demo -n 3", out: []string{`server-\d\.global  \S+ \[(INFO|WARN|ERROR)\] +nomad\.\w+: .+: count=\d+ server=server-`}},
		{args: "-demo -n 100", out: []string{`server-2`}, err: "server-2.global: outage: "},
		{args: "-demo -n 1 -level error -json", out: []string{`"agent":"server-\d\.global".*"level":"error","module":"nomad\.raft"`}},
		{args: "-demo -n 1 -level warn -color always", out: []string{"\x1b\\[3[13]m.*\x1b\\[0m"}},
		{args: "-demo -since 1h -grep heartbeat -n 2", out: []string{`\[WARN\]  nomad\.heartbeat: node TTL expired`}},
		{args: "-level loud", code: 2, err: `-level "loud": want`},
		{args: "-since 1m -target b", code: 2, err: "-since and -target exclude each other"},
		{args: "-node 1234", code: 2, err: `-node "1234": want the full ID of a node`},
		{args: "-json -color always", code: 2, err: "-json and -color always exclude each other"},
	},
	"profile": {
		{args: "-demo -type heap", out: []string{`^server-1-heap\.pprof: \d+ bytes`, `^open it with: go tool pprof -http=: server-1-heap\.pprof`}, file: "server-1-heap.pprof"},
		{args: "-demo -type heap", code: 1, err: "server-1-heap.pprof exists"},
		{args: "-demo -type heap -f", out: []string{`bytes`}},
		{args: "-demo -seconds 1 -o cpu -json", out: []string{`"open_with":"go tool pprof -http=: cpu"`}, err: `profiling "server-1" for 1s`, file: "cpu"},
		{args: "-demo -type heap -o missing/heap", code: 1, err: "profile: missing/heap: no such file or directory\n$"},
		{args: "-demo -type heap -o . -f", code: 1, err: "not a regular file"},
		{args: "-type soul", code: 2, err: `-type "soul": want one of cpu`},
		{args: "-type heap -seconds 1", code: 2, err: "-seconds and -type heap exclude each other"},
		{args: "-server a -node b", code: 2, err: "-server and -node exclude each other"},
	},
	"bootstrap": {
		{args: "-demo", out: []string{`server-3\.global +127\.0\.0\.1:\d+ +alive +2\.0\.5`}, err: "3 of 3 alive, with a leader"},
		{args: "-demo -json -timeout 500ms", code: 1, out: []string{`"name":"server-1\.global","status":"alive"`}, err: "not complete: 2 of 3 alive"},
		{args: "-expect -1", code: 2, err: "-expect -1: want 1 or more"},
		{args: "-timeout 0 x", code: 2, err: "-timeout 0s: want more than 0"},
		{args: "127.0.0.1:1 -timeout 2s", code: 2, err: "flags must come before the addresses"},
		{args: "-demo x", code: 2, err: "-demo and addresses exclude each other"},
		{args: "", code: 2, err: "want addresses"},
	},
	"reaper": {
		{args: "-demo", out: []string{`msg=recovered server=server-5\.global`, `msg="forced to leave" server=server-4\.global`, `msg=stopped`}},
		{args: "-demo -json -dry-run", out: []string{`"msg":"would be forced to leave","server":"server-4\.global"`}},
		{args: "-after 0s", code: 2, err: "-after 0s: want more than 0"},
		{args: "-demo -interval 1us", code: 2, err: "exclude each other"},
		{args: "-keep -1", code: 2, err: "-keep -1: want 0 or more"},
		{args: "-demo -once", code: 2, err: "exclude each other"},
	},
	"rotate-gossip-key": {
		{args: "-demo -out key", file: "key", out: []string{`check +done +servers: 3, keys: 1`, `verify +done +[0-9a-f]{8} is on 3 of 3 servers`, `remove +done +keys removed: 1`}},
		{args: "-demo -json -key-file key -keep", out: []string{`"detail":"[0-9a-f]{8} is on 3 of 3 servers","result":"done","step":"verify"`}},
		{args: "-demo -out key", code: 2, out: []string{`save +failed`}, err: "open key: file exists"},
		{args: "-demo -key-file missing", code: 2, err: "open missing: no such file"},
		{args: "-key-file a -out b", code: 2, err: "-key-file and -out exclude each other"},
		{args: "", code: 2, err: "want -key-file, or -out"},
	},
}

// module is the folder of the module that the examples are copied to. TestMain removes it.
var module string

// build copies the examples and builds them into the folder bin of the module.
var build = sync.OnceValue(func() error {
	checkout, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		return err
	}
	files := map[string][]byte{"go.sum": sums, "go.mod": fmt.Appendf(nil,
		"module copied\n\ngo 1.26\n\nrequire github.com/nomad-go/nomad v0.0.0\n\nreplace github.com/nomad-go/nomad => %s\n", checkout)}
	for name, list := range examples {
		for _, file := range list {
			path := filepath.Join(name, file)
			if files[path], err = os.ReadFile(path); err != nil {
				return err
			}
		}
	}
	for path, content := range files {
		path = filepath.Join(module, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	// Linking is faster without debugging information.
	cmd := exec.Command("go", "build", "-mod=mod", "-ldflags=-s -w", "-o", "bin"+string(filepath.Separator), "./...")
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
})

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16") // most tests wait; the flag -parallel overrides it
	for _, name := range []string{"NOMAD_ADDR", "NOMAD_UNIX_ADDR", "NOMAD_TOKEN", "NOMAD_REGION", "NOMAD_NAMESPACE"} {
		os.Unsetenv(name)
	}
	var err error
	if module, err = os.MkdirTemp("", "nomad-examples-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(module)
	os.Exit(code)
}

// command returns a command that runs an example in a folder.
func command(t *testing.T, folder, name string, args ...string) *exec.Cmd {
	t.Helper()
	require.NoError(t, build())
	cmd := exec.CommandContext(t.Context(), filepath.Join(module, "bin", name), args...)
	cmd.Dir = folder
	return cmd
}

// exit runs a command and returns its exit code and output. Output that cmd redirects is not returned.
func exit(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &err
	failed := cmd.Run()
	if status := (*exec.ExitError)(nil); failed != nil {
		require.ErrorAs(t, failed, &status)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func TestAllExamplesAreTested(t *testing.T) {
	folders, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	for _, main := range folders {
		name := filepath.Dir(main)
		if _, err := os.Stat(filepath.Join(name, "go.mod")); err != nil { // examples that are modules have their own tests
			assert.Contains(t, examples, name)
			assert.Contains(t, runs, name)
		}
	}
}

func TestRuns(t *testing.T) {
	short(t)
	t.Parallel()
	for name, list := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			for _, run := range list {
				t.Run(run.args, func(t *testing.T) {
					args := strings.Fields(run.args)
					code, out, stderr := exit(t, command(t, folder, name, args...))
					assert.Equal(t, run.code, code, out+stderr)
					for _, want := range run.out {
						assert.Regexp(t, "(?m)"+want, out)
					}
					assert.Regexp(t, run.err, stderr)
					if slices.Contains(args, "-demo") && code != 2 {
						assert.Contains(t, stderr, "-demo: using a cluster in memory")
					}
					if code == 2 && run.out == nil {
						assert.Empty(t, out)
						assert.Equal(t, 1, strings.Count(strings.ReplaceAll(stderr, name+": -demo: using a cluster in memory\n", ""), "\n"), stderr)
					}
					assert.NotRegexp(t, `nomad: \w+: nomad:`, stderr)
					for line := range strings.Lines(out) {
						if slices.Contains(args, "-json") {
							assert.True(t, json.Valid([]byte(line)), line)
						} else if name != "reaper" && name != "logs" && !strings.HasPrefix(line, `"`) { // tables
							assert.LessOrEqual(t, utf8.RuneCountInString(line), 81, line)
						}
					}
					if run.file != "" {
						info, err := os.Stat(filepath.Join(folder, run.file))
						require.NoError(t, err)
						assert.Positive(t, info.Size())
					}
				})
			}
			if name == "profile" {
				file, err := os.Open(filepath.Join(folder, "server-1-heap.pprof"))
				require.NoError(t, err)
				defer file.Close()
				profile, err := gzip.NewReader(file)
				require.NoError(t, err)
				content, err := io.ReadAll(profile)
				require.NoError(t, err, "the profile is complete")
				assert.Contains(t, string(content), "inuse_space")
				names, err := os.ReadDir(folder)
				require.NoError(t, err)
				assert.Len(t, names, 2, "no temporary file is left")
			}
		})
	}
}

// TestManners checks the command-line behavior that all programs share.
func TestManners(t *testing.T) {
	short(t)
	t.Parallel()
	for name := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			code, out, stderr := exit(t, command(t, folder, name, "-h"))
			assert.Equal(t, 0, code)
			assert.Empty(t, stderr)
			assert.Contains(t, out, "usage: "+name)
			assert.Contains(t, out, "exit codes")
			assert.Contains(t, out, "  -demo\n")
			assert.Contains(t, out, "  -json\n")
			for line := range strings.Lines(out) {
				assert.LessOrEqual(t, len(strings.TrimSuffix(strings.Replace(line, "\t", "    ", 1), "\n")), 80, line)
			}

			code, out, stderr = exit(t, command(t, folder, name, "-wrong"))
			assert.Equal(t, 2, code)
			assert.Empty(t, out)
			assert.Contains(t, stderr, "flag provided but not defined: -wrong (see -h)")
			if name != "bootstrap" { // its arguments are addresses
				code, out, stderr = exit(t, command(t, folder, name, "-json", "argument"))
				assert.Equal(t, 2, code)
				assert.Empty(t, out)
				assert.Contains(t, stderr, `unexpected argument "argument"`)
			}

			demo := []string{"-demo"}
			switch name {
			case "profile":
				demo = append(demo, "-type", "heap")
			case "debug-bundle":
				demo = append(demo, "-duration", "500ms")
			}
			for _, args := range [][]string{{"-h"}, demo} {
				reader, writer, err := os.Pipe()
				require.NoError(t, err)
				reader.Close()
				cmd := command(t, folder, name, args...)
				cmd.Stdout = writer
				code, _, stderr = exit(t, cmd)
				writer.Close()
				assert.Equal(t, 2, code, stderr)
				assert.Contains(t, stderr, "pipe")
			}
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				return // this system has no /dev/full
			}
			defer full.Close()
			demo = append(demo, "-json")
			switch name {
			case "profile":
				demo = append(demo, "-f")
			case "debug-bundle":
				demo = append(demo, "-o", "second.tar.gz")
			}
			cmd := command(t, folder, name, demo...)
			cmd.Stdout = full
			code, _, stderr = exit(t, cmd)
			assert.Equal(t, 2, code, stderr)
			assert.Contains(t, stderr, "no space left")
		})
	}
}

// TestWithoutAnAgent checks that only quickstart starts a cluster in memory without -demo.
func TestWithoutAnAgent(t *testing.T) {
	short(t)
	t.Parallel()
	if conn, err := net.Dial("tcp", "127.0.0.1:4646"); err == nil {
		conn.Close()
		t.Skip("an agent is running on this machine")
	}
	for name, args := range map[string][]string{
		"health": nil, "members": nil, "survey": nil, "profile": nil, "bootstrap": {"127.0.0.1"}, "rotate-gossip-key": {"-out", "key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, stderr := exit(t, command(t, t.TempDir(), name, args...))
			assert.Equal(t, 2, code)
			assert.Contains(t, stderr, "127.0.0.1:4646")
			if runtime.GOOS != "windows" {
				assert.Contains(t, stderr, "connection refused")
			}
			assert.NotContains(t, stderr, "memory")
		})
	}
}

// TestHealthIsThatOfTheAgent checks that health reports no other region's leader, whatever NOMAD_REGION is.
func TestHealthIsThatOfTheAgent(t *testing.T) {
	short(t)
	t.Parallel()
	cluster := nomadtest.New(t, nomadtest.Servers(3), nomadtest.Servers(1, nomadtest.Region("eu")))
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Stop()
	for address, want := range map[string]int{cluster.URL("server-1"): 1, cluster.URL("server-4"): 0} {
		for _, region := range []string{"", "eu", "global", "mars"} {
			cmd := command(t, t.TempDir(), "health")
			cmd.Env = append(os.Environ(), "NOMAD_ADDR="+address, "NOMAD_REGION="+region)
			code, stdout, stderr := exit(t, cmd)
			assert.Equal(t, want, code, "region %q: %s%s", region, stdout, stderr)
		}
	}
}

// TestLongNames checks that tables fit 80 columns and print no control characters, whatever the names of the
// members are.
func TestLongNames(t *testing.T) {
	short(t)
	t.Parallel()
	long := strings.Repeat("long-", 20)
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.Names("\x1b[31m"+long), nomadtest.Region("region"), nomadtest.Datacenter(long)))
	defer cluster.Close()
	for name, args := range map[string][]string{"members": nil, "survey": nil, "bootstrap": {"-expect", "1"}, "quickstart": nil} {
		cmd := command(t, t.TempDir(), name, args...)
		cmd.Env = append(os.Environ(), "NOMAD_ADDR="+cluster.Agents()[0].URL())
		code, out, stderr := exit(t, cmd)
		assert.Equal(t, 0, code, stderr)
		assert.Contains(t, out, "…", name)
		assert.NotContains(t, out, "\x1b", name)
		for line := range strings.Lines(out) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
		}
	}
}

// TestLimits checks that -timeout limits also the first request, to an agent that does not respond.
func TestLimits(t *testing.T) {
	short(t)
	t.Parallel()
	cluster := nomadtest.New(t)
	cluster.Agent("server-1").Inject(nomadtest.Stall())
	for _, args := range [][]string{{"survey"}, {"members"}, {"health"}, {"bootstrap", "-expect", "1"}} {
		cmd := command(t, t.TempDir(), args[0], append(args[1:], "-timeout", "50ms")...)
		cmd.Env = append(os.Environ(), "NOMAD_ADDR="+cluster.URL("server-1"))
		code, _, stderr := exit(t, cmd)
		assert.Equal(t, 2, code, stderr)
		if args[0] == "members" {
			assert.Contains(t, stderr, "context deadline exceeded")
		} else {
			assert.Contains(t, stderr, "no response within 50ms")
		}
	}
}

// TestRotationWithoutEncryption checks that rotate-gossip-key says what is missing.
func TestRotationWithoutEncryption(t *testing.T) {
	short(t)
	t.Parallel()
	cluster := nomadtest.New(t)
	folder := t.TempDir()
	cmd := command(t, folder, "rotate-gossip-key", "-out", "key")
	cmd.Env = append(os.Environ(), "NOMAD_ADDR="+cluster.URL("server-1"))
	code, _, stderr := exit(t, cmd)
	assert.Equal(t, 2, code)
	assert.Contains(t, stderr, "gossip is not encrypted")
	assert.NotContains(t, stderr, "same key")
	assert.NoFileExists(t, filepath.Join(folder, "key"))
}

// TestControlCharacters has an agent send control characters in what is not a name.
func TestControlCharacters(t *testing.T) {
	short(t)
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/agent/health" {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"server":{"ok":false,"message":"no \u001b[2Jleader"}}`)
			return
		}
		io.WriteString(w, `{"ServerName":"a","ServerRegion":"global","ServerDC":"dc1",`+
			`"Members":[{"Name":"a.global","Addr":"10.0.0.1","Status":"fail\u001b[2Jed"}]}`)
	}))
	defer agent.Close()
	for name, args := range map[string][]string{
		"health": nil, "members": nil, "survey": {"-timeout", "1s"}, "bootstrap": {"-expect", "1", "-timeout", "1s"},
		"rotate-gossip-key": {"-out", "key"},
	} {
		cmd := command(t, t.TempDir(), name, args...)
		cmd.Env = append(os.Environ(), "NOMAD_ADDR="+agent.URL)
		code, out, stderr := exit(t, cmd)
		assert.Equal(t, 1, code, "%s: %s%s", name, out, stderr)
		assert.Contains(t, out+stderr, "[2J", name)
		assert.NotContains(t, out+stderr, "\x1b", name)
	}
}

// TestSurveyGoesOn checks that survey -every continues after an outage of the agent.
func TestSurveyGoesOn(t *testing.T) {
	short(t)
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	cmd := command(t, t.TempDir(), "survey", "-every", "10ms", "-json")
	cmd.Env = append(os.Environ(), "NOMAD_ADDR="+agent.URL())
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	rounds, errors := bufio.NewScanner(stdout), bufio.NewScanner(stderr)

	require.True(t, rounds.Scan())
	outage := agent.Inject(nomadtest.Status(500, "broken"), nomadtest.On("members"))
	reported := make(chan string, 1)
	go func() { // read both pipes, so that neither blocks the program
		for errors.Scan() && !strings.Contains(errors.Text(), "GET "+agent.URL()+"/v1/agent/members: 500 broken") {
		}
		reported <- errors.Text()
		outage.Remove()
		io.Copy(io.Discard, stderr)
	}()
	for ok := false; !ok; {
		require.True(t, rounds.Scan(), "the survey has ended")
		assert.True(t, json.Valid(rounds.Bytes()))
		select {
		case line := <-reported:
			assert.Contains(t, line, "survey: nomad: GET ")
			ok = true
		default:
		}
	}
	for range 3 {
		require.True(t, rounds.Scan(), "the survey continues after the outage")
	}
	if runtime.GOOS == "windows" {
		require.NoError(t, cmd.Process.Kill())
		return
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	io.Copy(io.Discard, stdout)
	assert.NoError(t, cmd.Wait())
}

func short(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds all examples")
	}
}
