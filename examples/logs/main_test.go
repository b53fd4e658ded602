package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a buffer that a test can read while the program writes it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// program is a run of the program.
type program struct {
	out, stderr buffer
	code        int
	err         error
	ended       chan struct{}
	interrupt   context.CancelFunc
}

func start(t *testing.T, address string, args ...string) *program {
	t.Helper()
	t.Setenv("NOMAD_ADDR", address)
	ctx, cancel := context.WithCancel(t.Context())
	p := &program{ended: make(chan struct{}), interrupt: cancel}
	go func() {
		defer close(p.ended)
		p.code, p.err = run(ctx, args, &p.out, &p.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
	})
	return p
}

// wait waits until the program has ended.
func (p *program) wait(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("the program does not end: %s%s", p.out.String(), p.stderr.String())
	}
}

// prints waits until the output of the program matches pattern.
func prints(t *testing.T, b *buffer, pattern string) {
	t.Helper()
	match := regexp.MustCompile(pattern)
	require.Eventually(t, func() bool { return match.MatchString(b.String()) }, time.Minute, 5*time.Millisecond, pattern)
}

// logUntil repeats a log entry until the program has printed it. A log stream only has entries that were
// written after it was opened.
func logUntil(t *testing.T, p *program, agent *nomadtest.Agent, message string) {
	t.Helper()
	for range 1000 {
		agent.Log("info", "nomad", message)
		if strings.Contains(p.out.String(), message) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s is not printed: %s%s", message, p.out.String(), p.stderr.String())
}

func TestTwoAgentsThroughARestart(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	first, second := cluster.Agent("server-1"), cluster.Agent("server-2")
	p := start(t, "http://192.0.2.1:1", "-agent", first.URL(), "-agent", second.URL(), "-color", "always")
	logUntil(t, p, first, "one")
	logUntil(t, p, second, "two")
	second.Stop()
	prints(t, &p.stderr, `logs: server-2.global: outage.*`)
	logUntil(t, p, first, "alone")
	second.Start()
	logUntil(t, p, second, "again")
	prints(t, &p.stderr, `logs: server-2.global: outage over`)
	p.interrupt()
	p.wait(t)
	assert.Equal(t, 0, p.code)
	assert.NoError(t, p.err)
	assert.Regexp(t, "(?m)^\x1b\\[36mserver-1.global\x1b\\[0m  .*nomad: alone$", p.out.String())
	assert.Regexp(t, "(?m)^\x1b\\[35mserver-2.global\x1b\\[0m  .*nomad: again$", p.out.String())
}

// TestSince writes numbered entries while the program starts. None may be missing or printed twice.
func TestSince(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.LogFile()))
	defer cluster.Close()
	agent := cluster.Agent("server-1")
	ctx, cancel := context.WithCancel(t.Context())
	var logging sync.WaitGroup
	defer logging.Wait()
	defer cancel()
	logging.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			agent.Log("info", "nomad", fmt.Sprintf("entry %d", i), "a", 1)
			agent.Log("debug", "nomad", "not wanted")
			time.Sleep(time.Millisecond)
		}
	})
	time.Sleep(100 * time.Millisecond)
	p := start(t, agent.URL(), "-since", "1h", "-n", "2000", "-grep", `^nomad: entry \d+: a=1$`)
	p.wait(t)
	assert.Equal(t, 0, p.code, p.stderr.String())
	var numbers []string
	for _, m := range regexp.MustCompile(`entry (\d+)`).FindAllStringSubmatch(p.out.String(), -1) {
		numbers = append(numbers, m[1])
	}
	require.Len(t, numbers, 2000)
	for i, number := range numbers {
		require.Equal(t, fmt.Sprint(i), number)
	}
}

// TestInterrupted ends the program while it connects, opens the log and reads. It is no error at any time.
func TestInterrupted(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2, nomadtest.LogFile()))
	defer cluster.Close()
	for i := range 100 {
		p := start(t, "", "-agent", cluster.URL("server-1"), "-agent", cluster.URL("server-2"), "-since", "1h")
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		p.interrupt()
		p.wait(t)
		require.NoError(t, p.err)
		require.Equal(t, 0, p.code, p.stderr.String())
	}
}

// TestNames has an agent whose name would control a terminal.
func TestNames(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2, nomadtest.Names("a", "b\x1b[2J\x1b]0;mine\x07"+strings.Repeat("c", 200))))
	defer cluster.Close()
	first, second := cluster.Agents()[0], cluster.Agents()[1]
	for _, format := range []string{"-color=never", "-json"} {
		p := start(t, "", "-agent", first.URL(), "-agent", second.URL(), format)
		logUntil(t, p, second, "hello")
		second.Stop()
		prints(t, &p.stderr, `logs: b\?\[2J\?\]0;mine\?c+: outage`)
		p.interrupt()
		p.wait(t)
		second.Start()
		assert.Regexp(t, `(?m)\bb\?\[2J\?\]0;mine\?c{86}\b.*hello`, p.out.String())
		assert.NotRegexp(t, `[^[:print:]\n]`, p.out.String()+p.stderr.String())
	}
}

func TestGrepAndJSON(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	p := start(t, cluster.URL("server-1"), "-target", "server-2.global", "-json", "-grep", "job=(a|b)$", "-n", "2")
	for i := 0; ; i++ {
		for _, job := range []string{"a", "c", "b"} {
			cluster.Agent("server-2").Log("warn", "worker", "evaluated", "job", job)
		}
		select {
		case <-p.ended:
		case <-time.After(20 * time.Millisecond):
			require.Less(t, i, 1000)
			continue
		}
		break
	}
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	require.Len(t, lines, 2)
	for _, text := range lines {
		var line struct {
			Agent string
			Event struct {
				Kind  string
				Entry nomad.LogEntry
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		assert.Equal(t, "server-2.global", line.Agent)
		assert.Equal(t, "entry", line.Event.Kind)
		assert.Contains(t, []any{"a", "b"}, line.Event.Entry.Fields["job"])
	}
}

func TestRefused(t *testing.T) {
	open, closed := nomadtest.NewCluster(nomadtest.Servers(1)), nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.ACLs())
	defer open.Close()
	defer closed.Close()
	t.Setenv("NOMAD_TOKEN", "")
	p := start(t, "", "-agent", closed.URL("server-1"))
	p.wait(t)
	assert.Equal(t, 2, p.code)
	assert.ErrorIs(t, p.err, nomad.ErrPermissionDenied)

	p = start(t, "", "-agent", closed.URL("server-1"), "-agent", open.URL("server-1"))
	prints(t, &p.stderr, "403 Permission denied")
	logUntil(t, p, open.Agent("server-1"), "it goes on")
	p.interrupt()
	p.wait(t)
	assert.Equal(t, 1, p.code)
	assert.NoError(t, p.err)
}

func TestNoStoredLog(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	p := start(t, cluster.URL("server-1"), "-since", "1m", "-n", "1")
	prints(t, &p.stderr, "the stored log: .*No nomad log file defined")
	logUntil(t, p, cluster.Agent("server-1"), "it goes on")
	p.wait(t)
	assert.Equal(t, 1, p.code)
}

func TestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"-since -1s: want 0 or more":                            {"-since", "-1s"},
		"-service needs -since":                                 {"-service", "nomad"},
		"-since and -target exclude each other":                 {"-since", "1m", "-target", "leader"},
		"-agent excludes -target and -node":                     {"-agent", "a", "-node", "b"},
		"-demo excludes -agent, -target and -node":              {"-demo", "-agent", "a"},
		"-grep: error parsing regexp":                           {"-grep", "("},
		`invalid value "" for flag -agent: it is empty`:         {"-agent", ""},
		`WithAddress: "http://a b": want http://host:port`:      {"-agent", "http://a b"},
		`-color "red": want auto, always or never`:              {"-color", "red"},
		`-level "loud": want trace, debug, info, warn or error`: {"-level", "loud"},
	} {
		code, err := run(t.Context(), args, &buffer{}, &buffer{})
		assert.Equal(t, 2, code, args)
		assert.ErrorContains(t, err, want)
	}
}

func TestRealAgents(t *testing.T) {
	var addresses []string
	for range 2 {
		process, err := nomadtest.StartProcess(t.Context(), nomadtest.Servers(1, nomadtest.LogFile()))
		if errors.Is(err, nomadtest.ErrNoBinary) {
			t.Skip(err)
		}
		require.NoError(t, err)
		defer process.Close()
		addresses = append(addresses, process.URL())
	}
	p := start(t, "", "-agent", addresses[0], "-agent", addresses[1], "-since", "1h", "-level", "debug", "-json", "-grep", "http: request complete|serf", "-n", "20")
	for i := 0; ; i++ {
		for _, address := range addresses {
			client, err := nomad.NewClient(nomad.WithAddress(address))
			require.NoError(t, err)
			_, err = client.Agent.Members(t.Context())
			require.NoError(t, err)
			client.Close()
		}
		select {
		case <-p.ended:
		case <-time.After(100 * time.Millisecond):
			require.Less(t, i, 300, p.stderr.String())
			continue
		}
		break
	}
	assert.Equal(t, 0, p.code, p.stderr.String())
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	slices.Sort(lines)
	assert.Len(t, slices.Compact(lines), 20)
}
