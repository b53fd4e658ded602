package acceptance_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

func decode(r io.Reader, out any) { json.NewDecoder(r).Decode(out) }

// logOf returns an agent whose log has the given lines, one per frame, and then ends.
func logOf(lines ...string) http.Handler {
	var frames strings.Builder
	for _, line := range lines {
		frames.WriteString(testkit.Frame(line))
	}
	return testkit.Responding(200, "application/json", frames.String())
}

// readLog reads all lines of a log.
func readLog(stream *nomad.LogStream, err error) ([]string, error) {
	var lines []string
	if err != nil {
		return nil, err
	}
	for line, err := range stream.Lines() {
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

type openLog = func(context.Context, *nomad.Client) (*nomad.LogStream, error)

var (
	monitor openLog = func(ctx context.Context, c *nomad.Client) (*nomad.LogStream, error) {
		return c.Agent.Monitor(ctx, nomad.MonitorOptions{})
	}
	monitorServer openLog = func(ctx context.Context, c *nomad.Client) (*nomad.LogStream, error) {
		return c.Agent.Monitor(ctx, nomad.MonitorOptions{Target: nomad.OnServer("srv two.eu west")})
	}
	export openLog = func(ctx context.Context, c *nomad.Client) (*nomad.LogStream, error) {
		return c.Agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true})
	}
	exportFollow openLog = func(ctx context.Context, c *nomad.Client) (*nomad.LogStream, error) {
		return c.Agent.MonitorExport(ctx, nomad.MonitorExportOptions{Service: "nomad", Follow: true})
	}
)

func TestSituationsOfStreamEnds(t *testing.T) {
	const headers = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := func(text string) string { return headers + strings.ToLower(hexLength(text)) + "\r\n" + text + "\r\n" }
	line := testkit.Frame("a line\n")
	for _, test := range []struct {
		name  string
		open  openLog
		sends string
		reset bool
		want  string
		is    error
		says  string
	}{
		{"a target that is killed", monitorServer, chunk(line+"{}{}") + "0\r\n\r\n", false, "ErrStreamEnded", nil, ""},
		{"an agent that stops", monitor, chunk(line) + "0\r\n\r\n", false, "ErrStreamEnded", nil, ""},
		{"a journal that is followed ends", exportFollow, chunk(line) + "0\r\n\r\n", false, "ErrStreamEnded", nil, ""},
		{"a stored log ends", export, chunk(line) + "0\r\n\r\n", false, succeeds, nil, ""},
		{"the connection is reset between frames", monitor, chunk(line), true, "ErrStreamEnded", io.ErrUnexpectedEOF, "connection was lost"},
		{"the connection is reset in a frame", monitorServer, chunk(line + line[:20]), true, "ErrStreamEnded", io.ErrUnexpectedEOF, "connection was lost"},
		{"the connection is closed in a frame", monitor, chunk(line + line[:20]), false, "ErrStreamEnded", io.ErrUnexpectedEOF, "connection was lost"},
		{"the stream ends in a frame", monitor, chunk(line+line[:20]) + "0\r\n\r\n", false, "ErrStreamEnded", io.ErrUnexpectedEOF, "connection was lost"},
		{"the connection of a journal is reset", exportFollow, chunk(line), true, "ErrStreamEnded", io.ErrUnexpectedEOF, ""},
		{"the connection of a stored log is reset", export, chunk(line), true, "ErrInvalidResponse", io.ErrUnexpectedEOF, "connection was lost"},
		{"garbage", monitor, chunk(line+`{"Data": 5}`) + "0\r\n\r\n", false, "ErrInvalidResponse", nil, ""},
		{"a web page", monitor, chunk(line+"<html>Bad Gateway</html>") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "web page"},
		{"the agent's error", monitorServer, chunk(line+"rpc error: EOF") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "rpc error: EOF"},
		{"an error that begins like true", monitor, chunk(line+"the target is gone") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "the target is gone"},
		{"an error that begins like false", monitor, chunk(line+"failed to read") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "failed to read"},
		{"an error that begins like null", monitor, chunk(line+"null pointer dereference") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "null pointer dereference"},
		{"an error that begins with a number", monitor, chunk(line+"500 Internal Server Error") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "500 Internal Server Error"},
		{"an error after a heartbeat and a line break", monitor, chunk(line+"{}\nrpc error: x") + "0\r\n\r\n", false, "ErrInvalidResponse", nil, "rpc error: x"},
		{"an error that matches a sentinel", monitorServer, chunk(line+"rpc error: Permission denied") + "0\r\n\r\n", false, denied, nil, "Permission denied"},
		{"no leader", monitorServer, chunk(line+"No cluster leader") + "0\r\n\r\n", false, "ErrNoLeader", nil, "No cluster leader"},
		{"an unknown target", monitorServer, chunk(line+"unknown Nomad server srv") + "0\r\n\r\n", false, "ErrNotFound", nil, "unknown Nomad server srv"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			read := make(chan struct{})
			address, _ := rawServer(t, func(conn net.Conn, _ *http.Request) {
				io.WriteString(conn, test.sends)
				if test.reset {
					<-read // resetting earlier would lose the data that was sent
					conn.(*net.TCPConn).SetLinger(0)
				}
			})
			client := testkit.NewClient(t, nomad.WithAddress(address))
			stream, err := test.open(t.Context(), client)
			require.NoError(t, err)
			var lines []string
			for text, lineErr := range stream.Lines() {
				if err = lineErr; err == nil {
					lines = append(lines, text)
				}
				if len(lines) == 1 && test.reset && err == nil {
					close(read)
				}
			}
			assert.Equal(t, []string{"a line"}, lines)
			if test.want == succeeds {
				assert.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Equal(t, test.want, testkit.Meaning(err), "%v", err)
			assert.ErrorContains(t, err, test.says)
			if test.is != nil {
				assert.ErrorIs(t, err, test.is)
			}
		})
	}
}

func hexLength(text string) string {
	const digits = "0123456789abcdef"
	n, out := len(text), ""
	for ; n > 0; n /= 16 {
		out = string(digits[n%16]) + out
	}
	return out
}

// emptyLogs is an agent that sends an empty log for an unknown token, as real agents do. For the known
// token it sends log, which may be empty too.
type emptyLogs struct {
	known   string
	log     string
	self    int          // status of its responses to Self with the known token; 0 means 200
	refuse  bool         // whether it refuses requests without the known token
	checks  atomic.Int64 // requests of Self
	opened  atomic.Int64 // requests for a log
	onCheck func()
}

const selfDocument = `{"config":{},"member":{"Name":"a"},"stats":{"nomad":{}}}`

func (a *emptyLogs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known := r.Header.Get("X-Nomad-Token") == a.known || !a.refuse
	if strings.HasSuffix(r.URL.Path, "/self") {
		a.checks.Add(1)
		if a.onCheck != nil {
			a.onCheck()
			known = r.Header.Get("X-Nomad-Token") == a.known
		}
		switch {
		case !known:
			http.Error(w, "Permission denied", http.StatusForbidden)
		case a.self != 0:
			http.Error(w, "it does not work", a.self)
		default:
			io.WriteString(w, selfDocument)
		}
		return
	}
	a.opened.Add(1)
	w.Header().Set("Content-Type", "application/json")
	if known {
		io.WriteString(w, a.log)
	}
}

func TestSituationsOfEmptyLogs(t *testing.T) {
	line := testkit.Frame("a line\n")
	for _, test := range []struct {
		name           string
		open           openLog
		agent          *emptyLogs
		token          string
		want           string
		checks, opened int64
	}{
		{"a stored log is empty, good token", export, &emptyLogs{known: someToken, refuse: true}, someToken, succeeds, 1, 1},
		{"a stored log is empty, ACLs off, no token", export, &emptyLogs{}, "", succeeds, 1, 1},
		{"a stored log is empty, ACLs off, a token", export, &emptyLogs{}, someToken, succeeds, 1, 1},
		{"a stored log, unknown token", export, &emptyLogs{known: "x", refuse: true, log: line}, someToken, invalidToken, 1, 1},
		{"a stored log, no token", export, &emptyLogs{known: "x", refuse: true, log: line}, "", denied, 1, 1},
		{"a stored log is empty, and the agent fails", export, &emptyLogs{self: 500}, someToken, "", 1, 1},
		{"a live log, unknown token", monitor, &emptyLogs{known: "x", refuse: true, log: line}, someToken, invalidToken, 1, 1},
		{"a live log of a server, unknown token", monitorServer, &emptyLogs{known: "x", refuse: true, log: line}, someToken, invalidToken, 1, 1},
		{"a live log ends before its first entry", monitor, &emptyLogs{known: someToken, refuse: true}, someToken, "ErrStreamEnded", 1, 1},
		{"a journal that is followed ends before its first entry", exportFollow, &emptyLogs{}, "", "ErrStreamEnded", 1, 1},
		{"a log that is not empty", monitor, &emptyLogs{log: line}, someToken, "", 0, 1},
	} {
		for _, file := range []bool{false, true} {
			name, option := test.name, nomad.WithToken(test.token)
			if file && test.token == "" {
				continue
			}
			if file {
				path := filepath.Join(t.TempDir(), "token")
				require.NoError(t, os.WriteFile(path, []byte(test.token+"\n"), 0o600))
				name, option = name+", from a file", nomad.WithTokenFile(path)
			}
			t.Run(name, func(t *testing.T) {
				test.agent.checks.Store(0)
				test.agent.opened.Store(0)
				client := testkit.Serve(t, test.agent, option)
				stream, err := test.open(t.Context(), client)
				switch {
				case test.want == succeeds:
					lines, err := readLog(stream, err)
					assert.NoError(t, err)
					assert.Empty(t, lines)
				case test.checks == 0:
					require.NoError(t, err)
					stream.Close()
				default:
					require.Error(t, err)
					assert.Nil(t, stream)
					assert.Equal(t, test.want, testkit.Meaning(err), "%v", err)
				}
				assert.Equal(t, test.checks, test.agent.checks.Load())
				assert.Equal(t, test.opened, test.agent.opened.Load())
			})
		}
	}
	t.Run("the file has been replaced by then", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		write := func(token string) { require.NoError(t, os.WriteFile(path, []byte(token), 0o600)) }
		write("old-token")
		agent := &emptyLogs{known: someToken, refuse: true, log: line}
		var once sync.Once
		agent.onCheck = func() { once.Do(func() { write(someToken) }) }
		client := testkit.Serve(t, agent, nomad.WithTokenFile(path))
		stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		require.NoError(t, err)
		defer stream.Close()
		assert.EqualValues(t, 2, agent.opened.Load())
	})
	t.Run("the file has been replaced by then, and the new token is unknown too", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("old-token"), 0o600))
		agent := &emptyLogs{known: someToken, refuse: true, log: line}
		agent.onCheck = func() { os.WriteFile(path, []byte("another-token"), 0o600) }
		client := testkit.Serve(t, agent, nomad.WithTokenFile(path))
		_, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		assert.ErrorIs(t, err, nomad.ErrInvalidToken)
		assert.LessOrEqual(t, agent.opened.Load(), int64(2))
	})
}

func TestSituationsOfEntries(t *testing.T) {
	for name, test := range map[string]struct{ sent, field, want, text string }{
		"a duration in nanoseconds":   {`1001340322`, "duration", `1001340322`, "duration=1001340322"},
		"a number beyond a float":     {`9007199254740993`, "index", `9007199254740993`, "index=9007199254740993"},
		"a huge number":               {`123456789012345678901234567890`, "n", `123456789012345678901234567890`, "n=123456789012345678901234567890"},
		"a number with an exponent":   {`1E+2`, "n", `1E+2`, "n=1E+2"},
		"a fraction with zeros":       {`1.500`, "n", `1.500`, "n=1.500"},
		"a negative zero":             {`-0`, "n", `-0`, "n=-0"},
		"null":                        {`null`, "error", `null`, "error=null"},
		"an object":                   {`{"code":9007199254740993,"inner":{"a":[1.0,null]}}`, "error", `{"code":9007199254740993,"inner":{"a":[1.0,null]}}`, `error={"code":9007199254740993,"inner":{"a":[1.0,null]}}`},
		"an empty object":             {`{}`, "error", `{}`, "error={}"},
		"a list":                      {`[1e3,"x",{}]`, "servers", `[1e3,"x",{}]`, `servers=[1e3,"x",{}]`},
		"an object with a bad byte":   {"{\"a\":\"\xff\"}", "error", "{\"a\":\"\uFFFD\"}", "error={"},
		"an object with a name twice": {`{"a":1,"a":2}`, "error", `"{\"a\":1,\"a\":2}"`, `error="{\"a\":1,\"a\":2}"`},
		"half a character in a list":  {`["\ud83d"]`, "error", `"[\"\\ud83d\"]"`, `error="[\"\\ud83d\"]"`},
		"a string":                    {`"rpc error"`, "error", `"rpc error"`, `error="rpc error"`},
		"a bool":                      {`false`, "ok", `false`, "ok=false"},
		"a message that is no string": {`5`, "@message", `5`, "@message=5"},
		"an invalid timestamp":        {`"yesterday"`, "@timestamp", `"yesterday"`, "@timestamp=yesterday"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := `{"@level":"info","` + test.field + `":` + test.sent + `}` + "\n"
			client := testkit.Serve(t, logOf(sent))
			stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{JSON: true})
			require.NoError(t, err)
			for entry, err := range stream.Entries() {
				require.NoError(t, err)
				assert.Contains(t, entry.Fields, test.field)
				assert.Contains(t, entry.String(), test.text)
				for _, marshal := range []func(any) ([]byte, error){
					json.Marshal, func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
				} {
					encoded, err := marshal(entry)
					require.NoError(t, err)
					assert.Contains(t, string(encoded), `"`+test.field+`":`+test.want)
				}
				break
			}
		})
	}
}

func TestSituationsOfLevels(t *testing.T) {
	for given, want := range map[nomad.LogLevel]string{
		"WARN": "warn", "Warning": "warn", "warn": "warn", "INFO": "info", " Debug ": "debug", "Trace": "trace", "ERROR": "error", "": "", "OFF": "off",
	} {
		var query atomic.Value
		client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			query.Store(r.URL.Query().Get("log_level"))
			io.WriteString(w, testkit.Frame("a line\n"))
		}))
		stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{Level: given})
		if assert.NoError(t, err, given) {
			stream.Close()
			assert.Equal(t, want, query.Load())
		}
	}
	_, err := nomad.ParseLogLevel("loud")
	assert.Error(t, err)
}
