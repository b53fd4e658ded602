// Package docs tests the documentation: its code compiles, its numbers are those of the code, its links lead somewhere.
package docs

import (
	"fmt"
	"go/constant"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/snippets"
	"github.com/nomad-go/nomad/internal/wire"
	"github.com/nomad-go/nomad/nomadtest"
)

const module = "github.com/nomad-go/nomad"

// The public packages.
var packages = []string{
	module, module + "/agentconfig", module + "/agentstats", module + "/nomadtest", module + "/secret", module + "/survey",
	module + "/watch",
}

// The packages of the standard library that snippets use without importing them.
var standard = []string{
	"context", "encoding/json", "errors", "fmt", "io", "log", "log/slog", "net/http", "net/url", "os", "os/signal", "syscall", "testing",
	"testing/synctest", "time",
}

// The variables that snippets use without declaring them.
const variables = "ctx context.Context, client *nomad.Client, err error, self *nomad.Self, logger *slog.Logger, " +
	"cluster *nomadtest.Cluster, agent *nomadtest.Agent, t *testing.T"

func newChecker(t *testing.T) *snippets.Checker {
	c, err := snippets.NewChecker("..", variables, append(packages, standard...)...)
	require.NoError(t, err)
	return c
}

// documents returns the paths of all documents.
func documents(t *testing.T) []string {
	files := []string{"../bench/README.md"}
	for _, pattern := range []string{"../*.md", "*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.Greater(t, len(files), 6)
	return files
}

func inMarkdown(t *testing.T, file string) []snippets.Snippet {
	found, err := snippets.InMarkdown(file)
	require.NoError(t, err)
	return found
}

func inPackageComment(t *testing.T, dir string) []snippets.Snippet {
	found, err := snippets.InPackageComment(dir)
	require.NoError(t, err)
	require.NotEmpty(t, found, dir)
	return found
}

func TestSnippetsCompile(t *testing.T) {
	var all []snippets.Snippet
	for _, file := range documents(t) {
		for _, s := range inMarkdown(t, file) {
			if !snippets.UsesOfficialClient(s) { // the module bench has it, and a test for these
				all = append(all, s)
			}
		}
	}
	for _, p := range packages {
		all = append(all, inPackageComment(t, filepath.Join("..", strings.TrimPrefix(p, module)))...)
	}
	require.Greater(t, len(all), 60)
	c := newChecker(t)
	for _, s := range all {
		assert.NoError(t, c.Check(s), s)
	}
}

// TestProgramsRun runs the programs that the README and the package comment show.
func TestProgramsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs")
	}
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	t.Setenv("NOMAD_ADDR", cluster.URL("server-1"))
	programs := 0
	for _, s := range append(inMarkdown(t, "../README.md"), inPackageComment(t, "..")...) {
		if !s.IsProgram() {
			continue
		}
		programs++
		file := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(file, []byte(s.Code), 0o600))
		run := exec.CommandContext(t.Context(), "go", "run", file)
		run.Dir = ".."
		output, err := run.CombinedOutput()
		assert.NoError(t, err, s)
		assert.Equal(t, "server-1.global alive 2.0.5\nserver-2.global alive 2.0.5\n", string(output), s)
	}
	assert.Equal(t, 2, programs)
}

// numbers are what promises.md says, with the constant whose value stands at %s.
var numbers = []struct{ text, dir, constant string }{
	{"decoding | %s | `WithTimeout`", "..", "DefaultTimeout"},
	{"until it begins, with all requests for that | %s | `WithTimeout`", "..", "DefaultTimeout"},
	{"through `Client.Do` | %s, plus its `wait`", "..", "DefaultTimeout"},
	{"a profile as a whole | %s plus its duration", "..", "DefaultTimeout"},
	{"a profile without data | %s, then", "..", "stallLimit"},
	{"handshake together | %s |", "../internal/agentconn", "dialTimeout"},
	{"which are closed after about %s", "../internal/agentconn", "idleTimeout"},
	{"has up to %s connections", "../internal/agentconn", "startWindow"},
	{"(a round trip of %s or more)", "../internal/agentconn", "farRTT"},
	{"up to %s (`WithMaxConns`)", "..", "DefaultMaxConns"},
	{"until it has waited %s for its response", "../internal/agentconn", "slowAfter"},
	{"A connection gets new requests for at most %s", "../internal/agentconn", "longestLife"},
	{"assumes for %s that the agent is full", "../internal/agentconn", "fullFor"},
	{"at most %s new connections", "../internal/agentconn", "maxUntried"},
	{"the request fails within %s and after", "../internal/agentconn", "giveUpNew"},
	{"and after at most %s connections on which it was sent", "../internal/agentconn", "maxLost"},
	{"or within %s and after", "../internal/agentconn", "giveUpKnown"},
	{"and after at most %s connections if the agent has responded", "../internal/agentconn", "maxLostKnown"},
	{"sent this Client a 429 in the last %s", "../internal/agentconn", "fullFor"},
	{"for up to %s if the agent never responds", "../internal/agentconn", "farLife"},
	{"An agent accepts %s connections", "../nomadtest", "DefaultMaxConns"},
	{"at most %s retries (`WithRetries`)", "..", "DefaultRetries"},
	{"before them are %s", "../internal/retry", "minWait"},
	{"With more retries they grow to %s.", "../internal/retry", "maxWait"},
	{"a budget of %s retries", "../internal/retry", "budgetSize"},
	{"It regains %s each second", "../internal/retry", "budgetPerSecond"},
	{"headers | %s |", "../internal/transport", "maxHeaderBytes"},
	{"after decompression | %s (`WithMaxResponseSize`)", "..", "DefaultMaxResponseSize"},
	{"any other response, except logs and profiles, which are streamed | %s (`WithMaxResponseSize` sets", "..", "smallResponse"},
	{"reports a failure | %s are read", "..", "maxErrorBody"},
	{"are read, %s is in the error", "..", "maxMessage"},
	{"a line of a log | %s;", "../internal/logframe", "MaxLine"},
	{"a frame of a log stream | %s;", "../internal/logframe", "MaxFrame"},
	{"redirects | %s, to the same host", "../internal/transport", "maxRedirects"},
	{"`watch.Health` poll every %s", "../watch", "DefaultInterval"},
	{"agreed on it for %s", "../watch", "DefaultSettle"},
	{"the interval doubles up to %s", "../watch", "maxBackoff"},
	{"opens it again after %s. If", "../watch", "minLogBackoff"},
	{"at doubled intervals up to %s", "../watch", "maxLogBackoff"},
	{"up to %s servers at the same time", "../survey", "DefaultConcurrency"},
	{"waits up to %s for each", "../survey", "DefaultTimeout"},
	{"was last read more than %s", "../internal/reload", "tokenAge"},
	{"the old ones are trusted for %s more", "../internal/reload", "settleTime"},
}

func TestNumbersArePromised(t *testing.T) {
	content, err := os.ReadFile("promises.md")
	require.NoError(t, err)
	text := strings.Join(strings.Fields(string(content)), " ")
	c := newChecker(t)
	folders := map[string]map[string]*types.Const{}
	for _, n := range numbers {
		if folders[n.dir] == nil {
			folders[n.dir], err = c.Constants(n.dir)
			require.NoError(t, err)
		}
		value := folders[n.dir][n.constant]
		require.NotNil(t, value, n.constant)
		if want := fmt.Sprintf(n.text, shown(value)); !strings.Contains(text, want) {
			t.Errorf("%s: want %q in promises.md", n.constant, want)
		}
	}
}

// shown returns a constant as documents write it: as a duration, a size in bytes, or a number.
func shown(c *types.Const) string {
	n, _ := constant.Float64Val(constant.ToFloat(c.Val()))
	switch {
	case c.Type().String() != "time.Duration" && n >= 1<<20:
		return fmt.Sprint(n/(1<<20), " MiB")
	case c.Type().String() != "time.Duration" && n >= 1<<10:
		return fmt.Sprint(n/(1<<10), " KiB")
	case c.Type().String() != "time.Duration":
		return fmt.Sprint(n)
	case n < float64(100*time.Millisecond):
		return fmt.Sprint(n/float64(time.Millisecond), " ms")
	}
	return fmt.Sprint(time.Duration(n).Seconds(), " s")
}

// TestErrorsAreDocumented compares the table of errors.md with the errors of the package.
func TestErrorsAreDocumented(t *testing.T) {
	content, err := os.ReadFile("errors.md")
	require.NoError(t, err)
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(Err\\w+)` \\|").FindAllStringSubmatch(string(content), -1) {
		documented = append(documented, row[1])
	}
	scope, err := newChecker(t).Scope(module)
	require.NoError(t, err)
	var declared []string
	for _, name := range scope.Names() {
		if _, ok := scope.Lookup(name).(*types.Var); ok && strings.HasPrefix(name, "Err") {
			declared = append(declared, name)
		}
	}
	assert.ElementsMatch(t, declared, documented)
}

// TestLinks follows the links from a document to files, and to headings of documents.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, file := range documents(t) {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range link.FindAllStringSubmatch(string(content), -1) {
			path, heading, _ := strings.Cut(match[1], "#")
			if strings.Contains(path, "://") || strings.HasPrefix(path, "mailto:") {
				continue
			}
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, file) || heading == "" {
				continue
			}
			assert.Contains(t, headings(t, target), heading, "%s: %s", file, match[1])
		}
	}
}

// headings returns the anchors of a document's headings.
func headings(t *testing.T, file string) []string {
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(content), -1) {
		anchor := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading[1])), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// TestVersionsAreNamed checks that documents name the versions of Nomad that were recorded.
func TestVersionsAreNamed(t *testing.T) {
	recordings, err := wire.Stored()
	require.NoError(t, err)
	var versions []string
	for _, r := range recordings {
		versions = append(versions, r.Nomad)
	}
	last := len(versions) - 1
	want := strings.Join(versions[:last], ", ") + " and " + versions[last]
	for _, file := range []string{"../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md"} {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Contains(t, string(content), want, file)
	}
}

func TestReadmeIsShort(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(content), "\n"), 140)
}
