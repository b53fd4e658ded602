// Package examples runs each example as its reader would, on the cluster in memory, and looks at what it says.
package examples

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runs is what is run of each example, in a folder of its own, one after the other.
var runs = []struct {
	example string
	args    []string
	code    int
	says    []string // regular expressions for the standard output
	files   []string // that it writes
}{
	{example: "quickstart", says: []string{`server-1\.global +127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ +alive`, `server-4\.global .*failed`, `server-4\.global .*left`}},
	{example: "quickstart", args: []string{"-json"}, says: []string{`"call":"UpdateServers"`}},

	{example: "members", code: 1, says: []string{`NAME +ADDRESS +PORT +STATUS +LEADER`, `server-1\.eu +127\.0\.0\.1 +\d+ +alive +true +3 +2\.0\.5 +dc1 +eu`, `server-3\.eu .*failed +false`}},
	{example: "members", args: []string{"-json", "-status", "alive"}, says: []string{`"name":"server-2.eu".*"leader":false`}},
	{example: "members", args: []string{"-status", "dead"}, code: 2},

	{example: "health", says: []string{`server +true +ok`, `client +true +ok`}},
	{example: "health", args: []string{"-json", "-role", "server"}, says: []string{`^\{"server":\{"ok":true,"message":"ok"\}\}`}},
	{example: "health", args: []string{"-role", "chief"}, code: 2},

	{example: "survey", code: 1, says: []string{`server-1\.global +alive +ok +7`, `server-2\.global +failed +- .*connection refused`, `server-5\.global +failed +unhealthy .*No cluster leader`, `server-5\.global +alive +server-5\.global`}},
	{example: "survey", args: []string{"-json"}, code: 1, says: []string{`"reachable":false.*"server":"server-2\.global"`, `"member":"server-1\.global","seen_as":"failed"`}},
	{example: "survey", args: []string{"-concurrency", "-1"}, code: 2},

	{example: "logs", args: []string{"-n", "3"}, says: []string{`\[INFO\] +nomad\.\w+: .+count=\d server=server-1`}},
	{example: "logs", args: []string{"-n", "1", "-level", "error", "-json"}, says: []string{`"level":"error","module":"nomad\.raft"`}},
	{example: "logs", args: []string{"-n", "1", "-level", "warn", "-color", "always"}, says: []string{"\x1b\\[3[13]m.*\x1b\\[0m"}},
	{example: "logs", args: []string{"-level", "loud"}, code: 2},

	{example: "profile", args: []string{"-type", "heap"}, says: []string{`server-1-heap\.pprof +\d+ bytes +open it with: go tool pprof -http=: server-1-heap\.pprof`}, files: []string{"server-1-heap.pprof"}},
	{example: "profile", args: []string{"-type", "heap"}, code: 1}, // the file exists
	{example: "profile", args: []string{"-seconds", "1", "-o", "cpu", "-json"}, says: []string{`"open_with":"go tool pprof -http=: cpu"`}, files: []string{"cpu"}},
	{example: "profile", args: []string{"-type", "soul"}, code: 2},

	{example: "bootstrap", says: []string{`server-3\.global +127\.0\.0\.1:\d+ +alive +2\.0\.5`}},
	{example: "bootstrap", args: []string{"-json", "-timeout", "500ms"}, code: 1, says: []string{`"name":"server-1\.global","status":"alive"`}},
	{example: "bootstrap", args: []string{"-expect", "-1"}, code: 2},

	{example: "reaper", says: []string{`msg=recovered server=server-5\.global`, `msg="forced to leave" server=server-4\.global`, `msg=stopped`}},
	{example: "reaper", args: []string{"-json"}, says: []string{`"msg":"forced to leave","server":"server-4\.global"`}},
	{example: "reaper", args: []string{"-after", "0s"}, code: 2},

	{example: "rotate-gossip-key", args: []string{"-out", "key"}, says: []string{`check +done +servers: 3, keys: 1`, `verify +done +[0-9a-f]{8} is on 3 of 3 servers`, `remove +done +keys removed: 1`}, files: []string{"key"}},
	{example: "rotate-gossip-key", args: []string{"-json", "-key-file", "key", "-keep"}, says: []string{`"detail":"[0-9a-f]{8} is on 3 of 3 servers","result":"done","step":"verify"`}},
	{example: "rotate-gossip-key", args: []string{"-out", "key"}, code: 2, says: []string{`save +failed +open key: `}}, // it exists
	{example: "rotate-gossip-key", args: []string{"-key-file", "missing"}, code: 2},

	{example: "debug-bundle", args: []string{"-demo", "-duration", "1s", "-o", "bundle.tar.gz"}, code: 1, says: []string{`server-2\.global +alive +6 of 6 parts`, `server-3\.global +failed +0 of 6 parts`}, files: []string{"bundle.tar.gz"}},
	{example: "debug-bundle", args: []string{"-demo", "-duration", "1s", "-json"}, code: 1, says: []string{`"file":"server/server-1\.global/heap_0000\.prof"`}},
	{example: "debug-bundle", args: []string{"-timeout", "0"}, code: 2},

	{example: "drift", args: []string{"-demo", "-ignore", "Server"}, code: 2, says: []string{`server-3\.global: not compared`}},
	{example: "drift", args: []string{"-timeout", "0"}, code: 2},
}

func TestExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs all examples")
	}
	t.Setenv("NOMAD_ADDR", "")
	t.Setenv("NOMAD_UNIX_ADDR", "")
	binaries := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binaries+string(filepath.Separator), "./...")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	tried := map[string]bool{}
	folders := map[string]string{}
	for _, run := range runs {
		tried[run.example] = true
		if folders[run.example] == "" {
			folders[run.example] = t.TempDir()
			t.Run(run.example+" -h", func(t *testing.T) {
				out, said, code := execute(t, binaries, run.example, folders[run.example], "-h")
				assert.Equal(t, 0, code)
				assert.Contains(t, out+said, "usage: "+run.example)
			})
		}
		t.Run(run.example, func(t *testing.T) {
			out, said, code := execute(t, binaries, run.example, folders[run.example], run.args...)
			require.Equal(t, run.code, code, "%v: %s%s", run.args, out, said)
			if code == 2 {
				name, value := strings.TrimPrefix(run.args[0], "-"), run.args[len(run.args)-1]
				assert.Regexp(t, "(?i)"+regexp.QuoteMeta(name)+"|"+regexp.QuoteMeta(value), said, "it says what is wrong")
				assert.Equal(t, len(run.says) > 0, out != "", out)
			}
			for _, want := range run.says {
				assert.Regexp(t, regexp.MustCompile("(?m)"+want), out)
			}
			if slices.Contains(run.args, "-json") {
				lines := 0
				for s := bufio.NewScanner(bytes.NewReader([]byte(out))); s.Scan(); lines++ {
					assert.True(t, json.Valid(s.Bytes()), s.Text())
				}
				assert.Positive(t, lines)
			}
			for _, name := range run.files {
				info, err := os.Stat(filepath.Join(folders[run.example], name))
				require.NoError(t, err)
				assert.Positive(t, info.Size())
			}
		})
	}
	// A profile is one that the tool of profiles can read.
	top := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", filepath.Join(folders["profile"], "server-1-heap.pprof"))
	output, err = top.CombinedOutput()
	assert.NoError(t, err, string(output))

	all, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	for _, main := range all {
		if name := filepath.Dir(main); name != "observability" { // which is a module of its own, with tests
			assert.True(t, tried[name], "%s was not run", name)
		}
	}
}

// execute runs an example, and gives what it wrote and its exit code.
func execute(t *testing.T, binaries, name, folder string, args ...string) (out, said string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, name), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil {
		require.ErrorAs(t, err, &exit, "%s", stderr.String())
		return stdout.String(), stderr.String(), exit.ExitCode()
	}
	return stdout.String(), stderr.String(), 0
}
