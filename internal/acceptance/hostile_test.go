package acceptance_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// TestHostileResponses sends responses that no agent sends. The error must match the right sentinel, be
// one printable line of bounded length, and contain no secret. SECRET stands for each secret in turn.
func TestHostileResponses(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	long := strings.Repeat("x", 900_000)
	for _, test := range []struct{ name, answer, want string }{
		{"a bad length", ok + "Content-Length: SECRET\r\n\r\n", "ErrInvalidResponse"},
		{"a negative length", ok + "Content-Length: -1\r\n\r\n", "ErrInvalidResponse"},
		{"two lengths", ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]", "ErrInvalidResponse"},
		{"a bad transfer encoding", ok + "Transfer-Encoding: SECRET\r\n\r\n", "ErrInvalidResponse"},
		{"a bad header line", ok + "SECRET\r\n\r\n", "ErrInvalidResponse"},
		{"a bad chunk", ok + "Transfer-Encoding: chunked\r\n\r\nSECRET\r\n", "ErrInvalidResponse"},
		{"a bad content encoding", ok + "Content-Encoding: SECRET\r\n\r\n", "ErrInvalidResponse"},
		{"two content encodings", ok + "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]", "ErrInvalidResponse"},
		{"a bad content type", ok + "Content-Type: SECRET\r\nContent-Length: 1\r\n\r\nx", "ErrInvalidResponse"},
		{"a long line", long, "ErrInvalidResponse"},
		{"a long header line", ok + long + "\r\n\r\n", "ErrInvalidResponse"},
		{"long headers", ok + "A: " + long + "\r\nB: " + long + "\r\n\r\n", "ErrResponseTooLarge"},
		{"HTTP/0.9", "<html>SECRET</html>", "ErrInvalidResponse"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "ErrInvalidResponse"},
		{"TLS", "\x15\x03\x01\x00\x02\x02\x16", "ErrInvalidResponse"},
		{"nothing", "", ""},
		{"a status of 0", "HTTP/1.1 000 SECRET\r\n\r\n", "ErrInvalidResponse"},
		{"a status of 999", "HTTP/1.1 999 SECRET\r\nContent-Length: 0\r\n\r\n", ""},
		{"a partial response", "HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\n[]", "ErrInvalidResponse"},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "ErrInvalidResponse"},
		{"a redirect to the secret", "HTTP/1.1 307 X\r\nLocation: http://SECRET.invalid/\r\nContent-Length: 0\r\n\r\n", "ErrRedirect"},
		{"a redirect to an invalid URL", "HTTP/1.1 307 X\r\nLocation: http://[::SECRET\r\nContent-Length: 0\r\n\r\n", "ErrRedirect"},
		{"a long redirect", "HTTP/1.1 307 X\r\nLocation: http://" + long + "/\r\nContent-Length: 0\r\n\r\n", "ErrRedirect"},
		{"the secret in parts", "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nSE\x00CRET SE\u200bCRET", "ErrPermissionDenied"},
		{"a long 404", "HTTP/1.1 404 X\r\nContent-Length: 900000\r\n\r\n" + long, "ErrNotFound"},
		{"a 404 with an unknown encoding", "HTTP/1.1 404 X\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", "ErrNotFound"},
		{"a 404 that is cut short", "HTTP/1.1 404 X\r\nContent-Length: 50\r\n\r\n", "ErrNotFound"},
		{"a long refusal", "HTTP/1.1 500 X\r\nContent-Length: 900000\r\n\r\nACL token not found" + strings.Repeat(" ", 900_000), "ErrInvalidToken ErrPermissionDenied"},
		{"a 401 without a body", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "ErrPermissionDenied"},
		{"a permission error of a file", "HTTP/1.1 500 X\r\nContent-Length: 29\r\n\r\nopen /etc/x permission denied", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, secret := range []string{"hunter2-token", "hunter2-password", "hunter2-header", base64.StdEncoding.EncodeToString([]byte("ops:hunter2-password"))} {
				answer := strings.ReplaceAll(test.answer, "SECRET", secret)
				answer = strings.ReplaceAll(answer, "SE\x00CRET", secret[:4]+"\x00"+secret[4:])
				answer = strings.ReplaceAll(answer, "SE\u200bCRET", secret[:4]+"\u200b"+secret[4:])
				var log strings.Builder
				client, err := nomad.NewClient(nomad.WithAddress(testkit.RawAgent(t, answer)), nomad.WithRetries(0), nomad.WithTimeout(5*time.Second),
					nomad.WithToken("hunter2-token"), nomad.WithBasicAuth("ops", "hunter2-password"), nomad.WithHeader("X-Session", "hunter2-header"),
					nomad.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
				require.NoError(t, err)
				_, err = client.Agent.Servers(t.Context())
				client.Close()
				require.Error(t, err)
				assert.Equal(t, test.want, testkit.Meaning(err), "%v", err)
				assert.NotErrorIs(t, err, context.DeadlineExceeded)
				assert.Less(t, len(err.Error()), 4096)
				assert.True(t, strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) < 0, "%q", err)
				for _, text := range []string{err.Error(), log.String()} {
					assert.NotContains(t, text, "hunter2")
					assert.NotContains(t, text, secret)
				}
			}
		})
	}
}

// TestIncompleteResults responds with valid JSON in which required values are missing.
func TestIncompleteResults(t *testing.T) {
	for body, call := range map[string]func(*nomad.Client) error{
		`{"Members":[null]}`:                           func(c *nomad.Client) error { _, err := c.Agent.Members(t.Context()); return err },
		`{"Members":[{}]}`:                             func(c *nomad.Client) error { _, err := c.Agent.Members(t.Context()); return err },
		`["a:1",null]`:                                 func(c *nomad.Client) error { _, err := c.Agent.Servers(t.Context()); return err },
		`{"config":{}}`:                                func(c *nomad.Client) error { _, err := c.Agent.Self(t.Context()); return err },
		`{"config":{},"member":null,"stats":{}}`:       func(c *nomad.Client) error { _, err := c.Agent.Self(t.Context()); return err },
		`{"server":{"ok":true,"message":"ok"}}`:        func(c *nomad.Client) error { _, err := c.Agent.Health(t.Context(), nomad.RoleClient); return err },
		`{"client":{"ok":true,"message":"ok"}}`:        func(c *nomad.Client) error { _, err := c.Agent.Health(t.Context(), "client", "server"); return err },
		`{"error":"log in first"}`:                     func(c *nomad.Client) error { return c.Agent.ForceLeave(t.Context(), "a") },
		`"Permission denied"`:                          func(c *nomad.Client) error { return c.Agent.UpdateServers(t.Context(), "a") },
		`{"Members":[{"Name":"a","Addr":"nonsense"}]}`: func(c *nomad.Client) error { _, err := c.Agent.Members(t.Context()); return err },
	} {
		assert.ErrorIs(t, call(testkit.Serve(t, testkit.Responding(200, "application/json", body))), nomad.ErrInvalidResponse, body)
	}
}

// TestCancelWhileWaiting cancels a call between two attempts. Its error must include that of the first
// attempt.
func TestCancelWhileWaiting(t *testing.T) {
	client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := client.Agent.Servers(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	var failure *nomad.APIError
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, 503, failure.StatusCode)
	assert.Regexp(t, `^nomad: GET http://127.0.0.1:\d+/v1/agent/servers: context canceled \(nomad: GET http://127.0.0.1:\d+/v1/agent/servers: 503 Service Unavailable\)$`, err.Error())
}

// TestAutopilotHealth429 checks that a 429 with JSON of the autopilot health endpoint is not taken for a
// rate limit. The endpoint uses that status for an unhealthy cluster.
func TestAutopilotHealth429(t *testing.T) {
	var requests atomic.Int32
	client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"Healthy":false}`)
	}))
	var out any
	err := testkit.Call(t.Context(), client, "GET", "/v1/operator/autopilot/health", nil, nil, &out)
	assert.NotErrorIs(t, err, nomad.ErrTooManyRequests)
	var failure *nomad.APIError
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, `{"Healthy":false}`, failure.Message)
	assert.EqualValues(t, 1, requests.Load())
}

// TestHead sends a HEAD request.
func TestHead(t *testing.T) {
	client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		w.Header().Set("Content-Encoding", "br")
	}))
	assert.NoError(t, testkit.Call(t.Context(), client, "HEAD", "/v1/x", nil, nil, nil))
}

// TestCloseDuringRetry closes the client while a call waits for its next attempt. The call must succeed
// and leave no connection open.
func TestCloseDuringRetry(t *testing.T) {
	var open atomic.Int32
	var requests atomic.Int32
	first := make(chan struct{})
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				close(first)
				return
			}
			io.WriteString(w, "[]")
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go server.Serve(listener)
	defer server.Close()
	client, err := nomad.NewClient(nomad.WithAddress(listener.Addr().String()))
	require.NoError(t, err)
	go func() {
		<-first
		client.Close()
	}()
	_, err = client.Agent.Servers(t.Context())
	assert.NoError(t, err)
	assert.Eventually(t, func() bool { return open.Load() == 0 }, 5*time.Second, 5*time.Millisecond)
}

// TestRecoveryFromHungHandshakes calls an agent that hangs in the TLS handshake, and calls it again after
// it has recovered.
func TestRecoveryFromHungHandshakes(t *testing.T) {
	t.Parallel()
	pki := testkit.NewPKI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	client, err := nomad.NewClient(nomad.WithAddress(listener.Addr().String()), nomad.WithTimeout(50*time.Millisecond),
		nomad.WithRetries(0), nomad.WithMaxConns(2), nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, ServerName: "server.global.nomad"}))
	require.NoError(t, err)
	defer client.Close()
	for range 10 {
		_, err := client.Agent.Servers(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
	server := &http.Server{
		Handler:   testkit.Responding(200, "application/json", "[]"),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pki.Pair}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	go server.ServeTLS(listener, "", "")
	defer server.Close()
	patient, err := client.With(nomad.WithTimeout(5 * time.Second)) // half the default timeout of a handshake
	require.NoError(t, err)
	_, err = patient.Agent.Servers(t.Context())
	assert.NoError(t, err)
}

// TestMostResponseSize checks that the largest possible limit works.
func TestMostResponseSize(t *testing.T) {
	client := testkit.Serve(t, testkit.Responding(200, "application/json", `["a:1"]`), nomad.WithMaxResponseSize(1<<63-1))
	servers, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.Len(t, servers, 1)
}

// TestDoArguments checks that Do refuses invalid arguments and sends no request.
func TestDoArguments(t *testing.T) {
	var requests atomic.Int32
	client := testkit.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	var nilBytes *[]byte
	for _, out := range []any{nilBytes, struct{}{}, "x"} {
		assert.ErrorIs(t, testkit.Call(t.Context(), client, "PUT", "/v1/x", nil, nil, out), nomad.ErrInvalidArgument)
	}
	assert.Zero(t, requests.Load())
}
