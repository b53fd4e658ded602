package nomad_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/memnet"
)

// logging returns an agent whose log is written by write. The channel gone is closed when the caller
// disconnects.
func logAgent(write func(w io.Writer, flush func(), gone <-chan struct{})) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		flush := w.(http.Flusher).Flush
		write(w, flush, r.Context().Done())
	})
}

// sends returns an agent whose log is text. The stream ends after it.
func logOf(text string) http.Handler {
	return logAgent(func(w io.Writer, _ func(), _ <-chan struct{}) { io.WriteString(w, text) })
}

func collect(t *testing.T, stream *nomad.LogStream) (lines []string, err error) {
	t.Helper()
	for line, lineErr := range stream.Lines() {
		if lineErr != nil {
			return lines, lineErr
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// TestLines reads lines that are spread over frames in different ways.
func TestLines(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for _, test := range []struct {
		name string
		wire string
		want []string
	}{
		{"one line per frame", frame("a\n") + frame("b\n"), []string{"a", "b"}},
		{"several lines in a frame", frame("a\nb\n"), []string{"a", "b"}},
		{"a line over several frames", frame("a") + "{}" + frame("b\nc") + frame("\n"), []string{"ab", "c"}},
		{"heartbeats", "{}{}" + frame("a\n") + "{}\n{}", []string{"a"}},
		{"no newline at the end", frame("a\nb"), []string{"a", "b"}},
		{"empty lines", frame("\n\na\n"), []string{"", "", "a"}},
		{"line endings of Windows", frame("a\r\nb\r") + frame("\nc\r\n"), []string{"a", "b", "c"}},
		{"invalid UTF-8", frame("a\xffb\n"), []string{"a\xffb"}},
		{"unknown keys and null", `{"Data":null,"New":[1]}` + frame("a\n"), []string{"a"}},
		{"a long line", frame(long[:700_000]) + frame(long[:700_000]+"\n"), []string{long[:1<<20], long[:1_400_000-1<<20]}},
		{"only heartbeats", "{}{}", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream, err := newClient(t, logOf(test.wire)).Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
			require.NoError(t, err)
			lines, err := collect(t, stream)
			require.NoError(t, err)
			assert.Equal(t, len(test.want), len(lines))
			for i := range lines {
				assert.True(t, test.want[i] == lines[i], "line %d", i)
			}
			_, err = stream.Read(make([]byte, 1))
			assert.Error(t, err, "the stream is closed at the end of the loop")
		})
	}
}

// TestBrokenStreams reads invalid frames and streams that break off.
func TestBrokenStreams(t *testing.T) {
	endless := logAgent(func(w io.Writer, flush func(), _ <-chan struct{}) {
		io.WriteString(w, frame("a\n")+`{"Data":"`)
		for range 1 << 14 {
			if _, err := io.WriteString(w, strings.Repeat("QUJD", 1<<10)); err != nil {
				return
			}
		}
	})
	dies := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, text)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	for _, test := range []struct {
		name  string
		agent http.Handler
		lines int
		want  string
		cause error
	}{
		{"ends in a frame", logOf(frame("a\n") + frame("b\n")[:12]), 1, "ErrStreamEnded", io.ErrUnexpectedEOF},
		{"dies in a frame", dies(frame("a\n") + frame("b\n")[:12]), 1, "ErrStreamEnded", io.ErrUnexpectedEOF},
		{"dies between frames", dies(frame("a\n") + "{}"), 1, "ErrStreamEnded", io.ErrUnexpectedEOF},
		{"not JSON", logOf(frame("a\n") + "oops"), 1, "ErrInvalidResponse", nil},
		{"not a frame", logOf(frame("a\n") + "[1]"), 1, "ErrInvalidResponse", nil},
		{"not base64", logOf(frame("a\n") + `{"Data":"*"}`), 1, "ErrInvalidResponse", nil},
		{"data of another type", logOf(frame("a\n") + `{"Data":{}}`), 1, "ErrInvalidResponse", nil},
		{"an endless frame", endless, 1, "ErrInvalidResponse", nil},
		{"endless nesting", logOf(frame("a\n") + `{"x":` + strings.Repeat("[", 1<<19)), 1, "ErrInvalidResponse", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream, err := newClient(t, test.agent).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			require.NoError(t, err)
			lines, err := collect(t, stream)
			assert.Len(t, lines, test.lines, "earlier lines are not lost")
			require.Error(t, err)
			assert.Equal(t, test.want, meaning(err), "%v", err)
			if test.cause != nil {
				assert.ErrorIs(t, err, test.cause)
			}
			assert.Less(t, len(err.Error()), 1000)
			assert.Contains(t, err.Error(), "/v1/agent/monitor: ")
		})
	}
	// If the first frame is invalid, the call itself returns the error.
	for name, text := range map[string]string{"HTML": "<html>", "a list": "[]", "text": "no"} {
		_, err := newClient(t, logOf(text)).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		assert.ErrorIs(t, err, nomad.ErrInvalidResponse, name)
	}
	_, err := newClient(t, logOf(`{"Data":"`)).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.Equal(t, "ErrStreamEnded", meaning(err))
	_, err = newClient(t, logOf("")).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.Equal(t, "ErrStreamEnded", meaning(err))
	_, err = newClient(t, logOf(""), nomad.WithToken("x")).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.Equal(t, "ErrInvalidToken ErrPermissionDenied", meaning(err))
}

// TestStall reads a stream that sends nothing and a stream whose frame arrives too slowly. A slow
// reader is no stall.
func TestStall(t *testing.T) {
	for name, write := range map[string]func(w io.Writer, flush func(), gone <-chan struct{}){
		"silence": func(w io.Writer, flush func(), gone <-chan struct{}) {
			io.WriteString(w, frame("a\n"))
			flush()
			<-gone
		},
		"drops": func(w io.Writer, flush func(), gone <-chan struct{}) {
			io.WriteString(w, frame("a\n")+`{"Data":"`)
			for {
				io.WriteString(w, "QUJD")
				flush()
				select {
				case <-gone:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		},
	} {
		inBubble(t, name, logAgent(write), func(t *testing.T, client *nomad.Client) {
			stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			require.NoError(t, err)
			started := time.Now()
			lines, err := collect(t, stream)
			assert.Equal(t, []string{"a"}, lines)
			assert.Equal(t, "ErrStreamStalled", meaning(err), "%v", err)
			assert.InDelta(t, 10, time.Since(started).Seconds(), 1)
			assert.ErrorContains(t, err, map[string]string{"silence": "nothing arrived", "drops": "a frame did not arrive whole"}[name])
		})
	}
	slow := logAgent(func(w io.Writer, flush func(), gone <-chan struct{}) {
		io.WriteString(w, frame("a\n"))
		flush()
		select {
		case <-gone:
		case <-time.After(11 * time.Second):
			io.WriteString(w, frame("b\n"))
		}
	})
	inBubble(t, "a slow reader is no stall", slow, func(t *testing.T, client *nomad.Client) {
		stream, err := client.Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
		require.NoError(t, err)
		var lines []string
		for line, err := range stream.Lines() {
			require.NoError(t, err)
			if lines = append(lines, line); len(lines) == 1 {
				time.Sleep(11500 * time.Millisecond)
			}
		}
		assert.Equal(t, []string{"a", "b"}, lines)
	})
}

// TestMessageBeforeStall reads a message of an agent that keeps the connection open after it.
func TestMessageBeforeStall(t *testing.T) {
	for message, want := range map[string]string{
		"rpc error: Permission denied": "ErrPermissionDenied",
		"oops":                         "ErrInvalidResponse",
		"<html>":                       "ErrInvalidResponse",
	} {
		says := func(text string) http.Handler {
			return logAgent(func(w io.Writer, flush func(), gone <-chan struct{}) {
				io.WriteString(w, text)
				flush()
				<-gone
			})
		}
		inBubble(t, message, says(message), func(t *testing.T, client *nomad.Client) {
			_, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			assert.Equal(t, want, meaning(err), "%v", err)
		})
		inBubble(t, "{}"+message, says("{}"+message), func(t *testing.T, client *nomad.Client) {
			stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			require.NoError(t, err)
			_, err = collect(t, stream)
			assert.Equal(t, want, meaning(err), "%v", err)
			assert.ErrorContains(t, err, "/v1/agent/monitor: ")
		})
		inBubble(t, message+", then the context ends", says("{}"+message), func(t *testing.T, client *nomad.Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			stream, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{})
			require.NoError(t, err)
			_, err = collect(t, stream)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Empty(t, meaning(err), "%v", err)
		})
	}
}

// inBubble runs a test in a synctest bubble with an agent in memory, so that waits take no time.
func inBubble(t *testing.T, name string, agent http.Handler, test func(*testing.T, *nomad.Client)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const address = "192.0.2.7:4646"
			listener, err := memnet.Listen("tcp", address)
			require.NoError(t, err)
			defer memnet.Release(address)
			server := &http.Server{Handler: agent}
			go server.Serve(listener)
			defer server.Close()
			client, err := nomad.NewClient(nomad.WithAddress("http://" + address))
			require.NoError(t, err)
			defer client.Close()
			test(t, client)
		})
	})
}

// chatter writes a log that never ends.
func chatter(w io.Writer, flush func(), gone <-chan struct{}) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(w, frame(fmt.Sprintf("line %d\n", i))); err != nil {
			return
		}
		flush()
		select {
		case <-gone:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// TestEndsOfStreams ends a stream in every way that a reader can, and checks that the agent notices.
func TestEndsOfStreams(t *testing.T) {
	for _, test := range []struct {
		name string
		read func(t *testing.T, stream *nomad.LogStream, cancel func())
	}{
		{"break", func(t *testing.T, stream *nomad.LogStream, _ func()) {
			for _, err := range stream.Lines() {
				require.NoError(t, err)
				break
			}
		}},
		{"break of entries", func(t *testing.T, stream *nomad.LogStream, _ func()) {
			for _, err := range stream.Entries() {
				require.NoError(t, err)
				break
			}
		}},
		{"a panic in the loop", func(t *testing.T, stream *nomad.LogStream, _ func()) {
			assert.Panics(t, func() {
				for range stream.Lines() {
					panic("x")
				}
			})
		}},
		{"the context", func(t *testing.T, stream *nomad.LogStream, cancel func()) {
			time.AfterFunc(20*time.Millisecond, cancel)
			_, err := collect(t, stream)
			assert.ErrorIs(t, err, context.Canceled)
		}},
		{"close", func(t *testing.T, stream *nomad.LogStream, _ func()) {
			require.NoError(t, stream.Close())
			require.NoError(t, stream.Close())
			_, err := io.ReadAll(stream)
			assert.ErrorIs(t, err, nomad.ErrClosed)
		}},
		{"close from elsewhere", func(t *testing.T, stream *nomad.LogStream, _ func()) {
			time.AfterFunc(20*time.Millisecond, func() { stream.Close() })
			_, err := collect(t, stream)
			assert.NoError(t, err, "closing the stream ends it without an error")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			left := make(chan struct{})
			client := newClient(t, logAgent(func(w io.Writer, flush func(), gone <-chan struct{}) {
				defer close(left)
				chatter(w, flush, gone)
			}), nomad.WithRetries(0))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{})
			require.NoError(t, err)
			test.read(t, stream, cancel)
			select {
			case <-left:
			case <-time.After(10 * time.Second):
				t.Fatal("the agent is still sending")
			}
		})
	}
}

// TestConnectingStreams checks the time limit, retries and errors while a stream is being opened.
func TestConnectingStreams(t *testing.T) {
	t.Parallel()
	client := newClient(t, stalling(t, func(http.ResponseWriter) {}), nomad.WithTimeout(50*time.Millisecond))
	_, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no response within 50ms")
	_, err = client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	attempts := 0
	client = newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts < 3 {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, frame("a\n"))
	}))
	stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	require.NoError(t, err)
	stream.Close()
	client.Close()
	_, err = client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.ErrorIs(t, err, nomad.ErrClosed)
}

// TestBeginningOfStreams stalls after the headers. The time limit applies until the first frame has
// arrived.
func TestBeginningOfStreams(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"", "gzip"} {
		client := newClient(t, stalling(t, func(w http.ResponseWriter) {
			if encoding != "" {
				w.Header().Set("Content-Encoding", encoding)
			}
			w.(http.Flusher).Flush()
		}), nomad.WithTimeout(100*time.Millisecond))
		_, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	_, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	assert.Equal(t, "ErrTooManyRequests", meaning(err))
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
}

// TestLimitOfEmptyStreams ends streams before their first entry, as agents do if they do not know the token. The requests
// that find out why, and a second stream with a new token, have the time limit in common.
func TestLimitOfEmptyStreams(t *testing.T) {
	for name, times := range map[string]struct{ stream, check time.Duration }{
		"the check of the token hangs":       {9 * time.Second, time.Hour},
		"all are slow, and the token is new": {8 * time.Second, 8 * time.Second},
		"the second stream is too slow":      {9 * time.Second, 15 * time.Second},
	} {
		path := filepath.Join(t.TempDir(), "token")
		agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			isStream, wait := r.URL.Path == "/v1/agent/monitor", times.check
			if isStream {
				w.(http.Flusher).Flush()
				wait = times.stream
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(wait):
			}
			if isStream {
				assert.NoError(t, os.WriteFile(path, []byte("second-token"), 0o600))
				return
			}
			io.WriteString(w, `{"config":{},"member":{},"stats":{}}`)
		})
		inBubble(t, name, agent, func(t *testing.T, client *nomad.Client) {
			require.NoError(t, os.WriteFile(path, []byte("first-token"), 0o600))
			client, err := client.With(nomad.WithTokenFile(path))
			require.NoError(t, err)
			started := time.Now()
			_, err = client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "no response within 30s")
			assert.InDelta(t, 30, time.Since(started).Seconds(), 1)
		})
	}
}

// TestOddTransport uses a transport that wraps the deadline error in a type of its own.
func TestOddTransport(t *testing.T) {
	client, err := nomad.NewClient(nomad.WithTimeout(20*time.Millisecond), nomad.WithTransport(func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, errors.Join(r.Context().Err())
		})
	}))
	require.NoError(t, err)
	_, err = client.Agent.Self(t.Context())
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestStreamsDoNotStarveCalls opens more streams than the client may have connections for calls.
func TestStreamsDoNotStarveCalls(t *testing.T) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent/servers" {
			io.WriteString(w, "[]")
			return
		}
		chatter(w, w.(http.Flusher).Flush, r.Context().Done())
	}), nomad.WithMaxConns(1))
	for range 3 {
		stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		require.NoError(t, err)
		defer stream.Close()
	}
	_, err := client.Agent.Servers(t.Context())
	assert.NoError(t, err)
}

// TestLongStream reads 100 MB of log and checks that memory use does not grow.
func TestLongStream(t *testing.T) {
	const frames, perFrame = 1600, 64 << 10
	line := strings.Repeat("x", 127) + "\n"
	text := strings.Repeat(line, perFrame/len(line))
	client := newClient(t, logAgent(func(w io.Writer, _ func(), _ <-chan struct{}) {
		piece := frame(text)
		for range frames {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
		}
	}))
	stream, err := client.Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
	require.NoError(t, err)
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	var early, late uint64
	count, total := 0, 0
	for line, err := range stream.Lines() {
		require.NoError(t, err)
		total += len(line) + 1
		switch count++; count * 128 {
		case frames * perFrame / 10:
			early = heap()
		case frames * perFrame * 99 / 100 / 128 * 128:
			late = heap()
		}
	}
	assert.Equal(t, frames*perFrame, total)
	t.Logf("%d MB read; heap %d kB after a tenth, %d kB at the end", total>>20, early>>10, late>>10)
	require.NotZero(t, late)
	assert.Less(t, late, early+2<<20)
}

// TestEntries parses a log in JSON. Lines that are not JSON are returned as messages.
func TestEntries(t *testing.T) {
	wire := frame(`{"@level":"warn","@message":"Election timeout reached","@module":"nomad.raft","@timestamp":"2026-11-23T18:43:00.870Z","term":3,"error":"a b"}` + "\n" +
		"plain text\n{\"half\n" + `{"@message":5,"@timestamp":"yesterday"}` + "\n" + `{"@message":"twice","a":1,"a":2}` + "\n")
	stream, err := newClient(t, logOf(wire)).Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
	require.NoError(t, err)
	var entries []nomad.LogEntry
	for entry, err := range stream.Entries() {
		require.NoError(t, err)
		entries = append(entries, entry)
	}
	assert.Equal(t, []nomad.LogEntry{
		{Time: time.Date(2026, 11, 23, 18, 43, 0, 870_000_000, time.UTC), Level: nomad.LevelWarn, Module: "nomad.raft",
			Message: "Election timeout reached", Fields: map[string]any{"term": json.Number("3"), "error": "a b"}},
		{Message: "plain text"},
		{Message: `{"half`},
		{Fields: map[string]any{"@message": json.Number("5"), "@timestamp": "yesterday"}},
		{Message: "twice", Fields: map[string]any{"a": json.Number("2")}},
	}, entries)
	assert.Equal(t, `2026-11-23T18:43:00.870Z [WARN]  nomad.raft: Election timeout reached: error="a b" term=3`, entries[0].String())
	assert.Equal(t, "plain text", entries[1].String())
	assert.Equal(t, `a\nb: x\n=\n`, nomad.LogEntry{Message: "a\nb", Fields: map[string]any{"x\n": "\n"}}.String())
}

// TestProfileStream checks large, truncated and slow profiles.
func TestProfileStream(t *testing.T) {
	t.Parallel()
	get := func(agent http.Handler, opts ...nomad.Option) ([]byte, error) {
		profile, err := newClient(t, agent, opts...).Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
		if err != nil {
			return nil, err
		}
		defer profile.Close()
		return io.ReadAll(profile)
	}
	large := bytes.Repeat([]byte("profile "), 1<<20)
	content, err := get(responding(200, "application/octet-stream", string(large)), nomad.WithMaxResponseSize(1000))
	require.NoError(t, err, "a profile is not held in memory, so its size is not limited")
	assert.True(t, bytes.Equal(large, content))

	_, err = get(responding(200, "application/octet-stream", ""))
	assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
	_, err = get(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	}))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
	_, err = get(stalling(t, func(w http.ResponseWriter) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
	}), nomad.WithTimeout(200*time.Millisecond))
	assert.ErrorIs(t, err, context.DeadlineExceeded, "the time limit applies to the whole profile")
}

// TestProfileTime checks that the requested duration is added to the time limit.
func TestProfileTime(t *testing.T) {
	t.Parallel()
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "20", r.URL.Query().Get("seconds"))
		time.Sleep(time.Second)
		io.WriteString(w, "profile")
	}), nomad.WithTimeout(500*time.Millisecond))
	profile, err := client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileCPU, Duration: 20 * time.Second})
	require.NoError(t, err)
	content, err := io.ReadAll(profile)
	require.NoError(t, err)
	assert.Equal(t, "profile", string(content))
	profile.Close()
}

// TestWrongOptions checks that calls with invalid options return an error and send no request.
func TestWrongOptions(t *testing.T) {
	sent := false
	client := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent = true }))
	ctx, agent := t.Context(), client.Agent
	result := func(_ any, err error) error { return err }
	const badKey = "the key is not the base64 of 16, 24 or 32 bytes"
	for want, err := range map[string]error{
		`Host: Target: the server_id is empty: want the name or ID of a server, or the ID of a node`:     result(agent.Host(ctx, nomad.OnServer(""))),
		`Monitor: Level: "loud" is not a log level: want one of ["trace" "debug" "info" "warn" "error"]`: result(agent.Monitor(ctx, nomad.MonitorOptions{Level: "loud"})),
		`Monitor: Target: the node_id is empty: want the name or ID of a server, or the ID of a node`:    result(agent.Monitor(ctx, nomad.MonitorOptions{Target: nomad.OnNode("")})),
		"MonitorExport: want OnDisk or Service":                                                          result(agent.MonitorExport(ctx, nomad.MonitorExportOptions{})),
		"MonitorExport: OnDisk and Service contradict each other":                                        result(agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true, Service: "nomad"})),
		"MonitorExport: OnDisk and Follow contradict each other":                                         result(agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true, Follow: true})),
		`MonitorExport: Service: "sshd": want the name of a systemd service that contains nomad`:         result(agent.MonitorExport(ctx, nomad.MonitorExportOptions{Service: "sshd"})),
		"MonitorExport: Since: 1.5s: want whole seconds, 0 or more":                                      result(agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true, Since: 1500 * time.Millisecond})),
		`Profile: Type: "": want a profile such as "profile" or "heap"`:                                  result(agent.Profile(ctx, nomad.ProfileOptions{})),
		`Profile: Type: "../x": want a profile such as "profile" or "heap"`:                              result(agent.Profile(ctx, nomad.ProfileOptions{Type: "../x"})),
		`Profile: Type: ".": want a profile such as "profile" or "heap"`:                                 result(agent.Profile(ctx, nomad.ProfileOptions{Type: "."})),
		`Profile: Type: "..": want a profile such as "profile" or "heap"`:                                result(agent.Profile(ctx, nomad.ProfileOptions{Type: ".."})),
		"Profile: Duration: 1ms: want whole seconds, from 0 to 1h0m0s":                                   result(agent.Profile(ctx, nomad.ProfileOptions{Type: "trace", Duration: time.Millisecond})),
		"Profile: Duration: 1s: the profile heap is a snapshot":                                          result(agent.Profile(ctx, nomad.ProfileOptions{Type: "heap", Duration: time.Second})),
		"Profile: Debug: 3: want 0, 1 or 2":                                                              result(agent.Profile(ctx, nomad.ProfileOptions{Type: "heap", Debug: 3})),
		"UpdateSchedulerConfig: NumSchedulers: -1: want 0 or more":                                       result(agent.UpdateSchedulerConfig(ctx, &nomad.SchedulerConfig{NumSchedulers: -1})),
		`UpdateSchedulerConfig: EnabledSchedulers: ["service"]: want a list with _core`:                  result(agent.UpdateSchedulerConfig(ctx, &nomad.SchedulerConfig{EnabledSchedulers: []string{"service"}})),
		"UpdateSchedulerConfig: the SchedulerConfig is nil":                                              result(agent.UpdateSchedulerConfig(ctx, nil)),
		"Do: the Request is nil": result(client.Do(ctx, nil, nil)),
		"InstallKey: " + badKey:  result(agent.InstallKey(ctx, nomad.NewSecret("hunter2"))),
		"UseKey: " + badKey:      result(agent.UseKey(ctx, nomad.NewSecret("aHVudGVyMg=="))),
		"RemoveKey: " + badKey:   result(agent.RemoveKey(ctx, nomad.NewSecret(""))),
	} {
		assert.EqualError(t, err, "nomad: "+want)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	}
	assert.False(t, sent)
}

// TestKeysDoNotShow searches printed values, logs and error messages for a gossip key.
func TestKeysDoNotShow(t *testing.T) {
	const key = "cg8StVXbQJ0gPvMd9o7yrg=="
	ring, err := newClient(t, responding(200, "application/json", `{"Keys":{"`+key+`":3},"Messages":{},"NumNodes":3}`)).Agent.ListKeys(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[nomad.Secret]int{nomad.NewSecret(key): 3}, ring.Keys)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{ring, *ring, ring.Keys, nomad.NewSecret(key)} {
			assert.NotContains(t, fmt.Sprintf(verb, value), key, verb)
		}
	}
	var log bytes.Buffer
	logJSON(&log, "x", ring, *ring, []*nomad.Keyring{ring}, ring.Keys, nomad.NewSecret(key))
	assert.NotContains(t, log.String(), key)

	for _, breaks := range []string{"\n", "\r\n"} {
		_, err = newClient(t, responding(200, "", "")).Agent.UseKey(t.Context(), nomad.NewSecret(key+breaks))
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	}
	_, err = newClient(t, responding(500, "", "no cg8StVXbQJ0gPvMd9o7yrg%3D%3D")).Agent.UseKey(t.Context(), nomad.NewSecret(key))
	assert.NotContains(t, err.Error(), "cg8StVXb")
	_, err = newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(500)
		fmt.Fprintf(w, "no such key: %s", body)
	})).Agent.UseKey(t.Context(), nomad.NewSecret(key))
	assert.ErrorContains(t, err, `no such key: {"Key":"<redacted>"}`)
}

// TestConcurrentReaders reads and closes streams from many goroutines, for the race detector.
func TestConcurrentReaders(t *testing.T) {
	client := newClient(t, logAgent(chatter))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			if !assert.NoError(t, err) {
				return
			}
			time.AfterFunc(30*time.Millisecond, func() { stream.Close() })
			io.Copy(io.Discard, stream)
		})
	}
	group.Wait()
}

// TestCompressedStream reads a log that the agent compresses.
func TestCompressedStream(t *testing.T) {
	zipped := zip(frame("a\n") + "{}" + frame("b\n"))
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, zipped)
	}), nomad.WithCompression(true))
	stream, err := client.Agent.MonitorExport(t.Context(), nomad.MonitorExportOptions{OnDisk: true})
	require.NoError(t, err)
	lines, err := collect(t, stream)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, lines)
}

// TestDeadStreamAgent opens a stream when nothing listens at the address.
func TestDeadStreamAgent(t *testing.T) {
	client, err := nomad.NewClient(nomad.WithAddress("127.0.0.1:1"), nomad.WithRetries(0))
	require.NoError(t, err)
	_, err = client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	var netErr net.Error
	assert.ErrorAs(t, err, &netErr)
}

// TestClosedProfile closes a profile of which a part is buffered.
func TestClosedProfile(t *testing.T) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "profile") }))
	profile, err := client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
	require.NoError(t, err)
	profile.Close()
	n, err := profile.Read(make([]byte, 4))
	assert.Zero(t, n)
	assert.ErrorIs(t, err, nomad.ErrClosed)
	assert.NotErrorIs(t, err, nomad.ErrInvalidResponse)

	ctx, cancel := context.WithCancel(t.Context())
	profile, err = client.Agent.Profile(ctx, nomad.ProfileOptions{Type: nomad.ProfileHeap})
	require.NoError(t, err)
	defer profile.Close()
	cancel()
	_, err = profile.Read(make([]byte, 4))
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, nomad.ErrInvalidResponse)
}

func TestParseLogLevel(t *testing.T) {
	for name, want := range map[string]nomad.LogLevel{"WARNING": nomad.LevelWarn, "debug": nomad.LevelDebug, "off": "off"} {
		level, err := nomad.ParseLogLevel(name)
		assert.NoError(t, err)
		assert.Equal(t, want, level)
	}
	_, err := nomad.ParseLogLevel("loud")
	assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	assert.ErrorContains(t, err, `nomad: ParseLogLevel: "loud" is not a log level`)
}

// TestEndOfBufferedLog ends the context, or the stream, while much of the log is buffered.
func TestEndOfBufferedLog(t *testing.T) {
	for _, closes := range []bool{false, true} {
		client := newClient(t, logAgent(func(w io.Writer, flush func(), gone <-chan struct{}) {
			io.WriteString(w, frame(strings.Repeat("x\n", 1000)))
			flush()
			<-gone
		}))
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{})
		require.NoError(t, err)
		lines, last := 0, error(nil)
		for _, err := range stream.Lines() {
			if last = err; err != nil {
				break
			}
			if lines++; lines == 10 && closes {
				stream.Close()
			} else if lines == 10 {
				cancel()
			}
		}
		assert.Equal(t, 10, lines)
		_, err = stream.Read(make([]byte, 8))
		cancel()
		if closes {
			assert.NoError(t, last)
			assert.ErrorIs(t, err, nomad.ErrClosed)
		} else {
			assert.ErrorIs(t, last, context.Canceled)
			assert.ErrorIs(t, err, context.Canceled)
		}
	}
}

// TestKeyringWithTooMuch has keys and messages that take too long to be searched. No message remains.
func TestKeyringWithTooMuch(t *testing.T) {
	for name, test := range map[string]struct{ keys, size, messages int }{
		"many keys":     {65, 44, 1},
		"long keys":     {3, 3000, 1},
		"many messages": {64, 44, 1000},
	} {
		keys, messages := map[string]int{}, map[string]string{}
		for i := range test.keys {
			keys[fmt.Sprintf("%0*d", test.size, i)] = 1
		}
		for i := range test.messages {
			messages[fmt.Sprint(i)] = "no key " + strings.Repeat("0", test.size)
		}
		body, err := json.Marshal(map[string]any{"Keys": keys, "Messages": messages, "NumNodes": 1})
		require.NoError(t, err)
		ring, err := newClient(t, responding(200, "application/json", string(body))).Agent.ListKeys(t.Context())
		require.NoError(t, err, name)
		require.Len(t, ring.Messages, test.messages, name)
		for _, message := range ring.Messages {
			assert.Equal(t, "<redacted>", message, name)
		}
	}
}
