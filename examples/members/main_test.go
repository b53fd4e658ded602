package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
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

// shows waits until the latest output matches pattern.
func (b *buffer) shows(t *testing.T, pattern string) {
	t.Helper()
	match := regexp.MustCompile(pattern)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		text := b.text.String()
		b.mu.Unlock()
		if text = text[max(0, strings.LastIndex(text, "\x1b[H")):]; match.MatchString(text) {
			return
		}
		require.True(t, time.Now().Before(end), "%s in %q", pattern, text)
	}
}

func TestLiveTable(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	ctx, cancel := context.WithCancel(t.Context())
	var out buffer
	var following sync.WaitGroup
	following.Go(func() {
		s := screen{out: &out, colored: true, changed: map[string]time.Time{}}
		code, err := s.follow(ctx, client, 100*time.Millisecond, time.Second)
		assert.Equal(t, 0, code)
		assert.NoError(t, err)
	})
	out.shows(t, `faults: 0(?s:.*)server-3.global +127\.0\.0\.1:\d+ +alive`)
	cluster.Agent("server-3").Stop()
	out.shows(t, `faults: 1(?s:.*)\x1b\[31;7m\* server-3.global .*failed`)
	cluster.Agent("server-1").Stop()
	out.shows(t, `faults: 1(?s:.*)server-3.global(?s:.*)\x1b\[31mnomad: GET http://127`)
	cluster.Agent("server-1").Start()
	out.shows(t, `server-3.global .*\n\x1b\[J$`)
	cancel()
	following.Wait()
	assert.True(t, strings.HasSuffix(out.text.String(), "\x1b[?1049l\x1b[?25h"), "the terminal is restored")
}

// TestFrame draws strings that are wider than the terminal or contain control characters.
func TestFrame(t *testing.T) {
	var out strings.Builder
	s := screen{out: &out, changed: map[string]time.Time{}}
	servers := []server{{Name: "\x1b[31m" + strings.Repeat("n", 70), Status: nomad.StatusFailed, Datacenter: strings.Repeat("d", 70)}}
	require.NoError(t, s.draw("http://"+strings.Repeat("a", 90), servers, 1, []error{errors.New("\x1b" + strings.Repeat("e", 90)), nil}))
	text := strings.NewReplacer("\x1b[H", "", "\x1b[K", "", "\x1b[J", "").Replace(out.String())
	assert.NotContains(t, text, "\x1b")
	for line := range strings.Lines(text) {
		assert.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\r\n"))), 80, line)
	}
}

func TestChanges(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	t.Setenv("NOMAD_ADDR", cluster.URL("server-1"))
	for _, asJSON := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		var out buffer
		var following sync.WaitGroup
		following.Go(func() {
			args := []string{"-watch", "-every", "100ms"}
			if asJSON {
				args = append(args, "-json")
			}
			code, err := run(ctx, args, &out, &out)
			assert.Equal(t, 0, code)
			assert.NoError(t, err)
		})
		out.shows(t, "synced")
		cancel()
		following.Wait()
		if lines := strings.Split(strings.TrimSpace(out.text.String()), "\n"); asJSON {
			for _, line := range lines {
				assert.True(t, json.Valid([]byte(line)), line)
			}
		} else {
			assert.Regexp(t, `^\d\d:\d\d:\d\d server-1.global joined$`, lines[0])
		}
	}
}

func TestRealAgent(t *testing.T) {
	process, err := nomadtest.StartProcess(t.Context(), nomadtest.Servers(1))
	if errors.Is(err, nomadtest.ErrNoBinary) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer process.Close()
	t.Setenv("NOMAD_ADDR", process.URL())
	var out, stderr bytes.Buffer
	code, err := run(t.Context(), nil, &out, &stderr)
	require.NoError(t, err)
	assert.Equal(t, 0, code, stderr.String())
	assert.Regexp(t, `server-1\S+ +127.0.0.1:\d+ +alive +true`, out.String())
}
