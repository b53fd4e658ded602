package nomad_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// TestInvalidResponses sends responses that a call cannot decode.
func TestInvalidResponses(t *testing.T) {
	reads := map[string]func(context.Context, *nomad.Client) error{
		"Members": func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Members(ctx); return err },
		"Servers": func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Servers(ctx); return err },
		"Self":    func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Self(ctx); return err },
		"Join":    func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Join(ctx, "a:1"); return err },
		"Health":  func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Health(ctx); return err },
		"Call": func(ctx context.Context, c *nomad.Client) error {
			var out struct{ A []int }
			return call(ctx, c, "GET", "/v1/x", nil, nil, &out)
		},
	}
	for name, body := range map[string]string{
		"empty":         "",
		"space":         " \n ",
		"null":          "null",
		"null in space": "\nnull ",
		"text":          "hello",
		"HTML":          "<html><body>Log in</body></html>",
		"cut short":     `{"Members":[{"Name":"a`,
		"trailing":      `{"Members":[],"config":{},"num_joined":1,"server":{"ok":true,"message":"ok"},"A":[]}{}`,
		"a number":      "1",
		"a string":      `"x"`,
		"wrong types":   `{"Members":{"a":1},"config":[],"num_joined":"x","server":"ok","A":"x"}`,
		"a deep list":   strings.Repeat("[", 20000),
	} {
		for call, do := range reads {
			t.Run(call+"/"+name, func(t *testing.T) {
				err := do(t.Context(), newClient(t, responding(200, "application/json", body)))
				require.ErrorIs(t, err, nomad.ErrInvalidResponse)
				assert.Less(t, len(err.Error()), 2000)
			})
		}
	}
	// A JSON object without the fields that the call needs.
	for _, call := range []string{"Members", "Self", "Join", "Health", "Servers"} {
		err := reads[call](t.Context(), newClient(t, responding(200, "application/json", "{}")))
		assert.ErrorIs(t, err, nomad.ErrInvalidResponse, call)
	}
	for _, call := range []string{"ForceLeave", "UpdateServers"} {
		client := newClient(t, responding(200, "text/html", "<html>Log in</html>"))
		err := client.Agent.ForceLeave(t.Context(), "a.global")
		if call == "UpdateServers" {
			err = client.Agent.UpdateServers(t.Context(), "a:1")
		}
		assert.ErrorIs(t, err, nomad.ErrInvalidResponse, call)
		assert.ErrorContains(t, err, `: invalid response: status 200, content type "text/html": want an empty response`)
	}
	// An error that quotes the response is bounded and on one line.
	long := `{"Members":[{"Addr":"` + strings.Repeat(`x\n`, 1<<19) + `"}]}`
	_, err := newClient(t, responding(200, "application/json", long)).Agent.Members(t.Context())
	require.ErrorIs(t, err, nomad.ErrInvalidResponse)
	assert.Less(t, len(err.Error()), 2000)
	assert.NotContains(t, err.Error(), "\n")
}

// TestTruncatedResponse closes the connection in the middle of a body.
func TestTruncatedResponse(t *testing.T) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `["a:1"`)
	}))
	_, err := client.Agent.Servers(t.Context())
	require.ErrorIs(t, err, nomad.ErrInvalidResponse)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.ErrorContains(t, err, "/v1/agent/servers: invalid response: it ended after 6 bytes: unexpected EOF")
}

// zip returns body, compressed with gzip.
func zip(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, body)
	w.Close()
	return b.String()
}

// TestResponseSize checks the size limit of plain and compressed responses.
func TestResponseSize(t *testing.T) {
	t.Parallel()
	exact := `["` + strings.Repeat("a", 996) + `"]`
	for _, test := range []struct {
		name, encoding, body string
		length, want         error
	}{
		{"at the limit", "", exact, nil, nil},
		{"above the limit", "", exact + " ", nil, nomad.ErrResponseTooLarge},
		{"at the limit, compressed", "gzip", zip(exact), nil, nil},
		{"a decompression bomb", "gzip", zip(`["` + strings.Repeat("a", 50<<20) + `"]`), nil, nomad.ErrResponseTooLarge},
		{"not gzip", "gzip", exact, nil, nomad.ErrInvalidResponse},
		{"truncated gzip", "gzip", zip(exact)[:20], nil, nomad.ErrInvalidResponse},
		{"another encoding", "br", exact, nil, nomad.ErrInvalidResponse},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%t", test.name, chunked), func(t *testing.T) {
				client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if test.encoding != "" {
						w.Header().Set("Content-Encoding", test.encoding)
					}
					if !chunked {
						w.Header().Set("Content-Length", strconv.Itoa(len(test.body)))
					} else {
						w.(http.Flusher).Flush()
					}
					io.WriteString(w, test.body)
				}), nomad.WithMaxResponseSize(1000), nomad.WithCompression(true))
				servers, err := client.Agent.Servers(t.Context())
				assert.ErrorIs(t, err, test.want)
				if test.want == nil {
					assert.Len(t, servers, 1)
				}
			})
		}
	}
}

// TestErrorBodies checks that the message of an error response is bounded and on one line, and that
// a truncated body is still interpreted.
func TestErrorBodies(t *testing.T) {
	_, err := newClient(t, responding(500, "text/plain", strings.Repeat("x\x1b[31m\n\u202e", 1<<20))).Agent.Members(t.Context())
	var api *nomad.APIError
	require.ErrorAs(t, err, &api)
	assert.LessOrEqual(t, len(api.Message), 1100)
	assert.NotContains(t, api.Message, "\x1b")
	assert.NotContains(t, api.Message, "\n")
	assert.Equal(t, "", meaning(err))

	_, err = newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "Permission")
	})).Agent.Members(t.Context())
	assert.Equal(t, "ErrPermissionDenied", meaning(err))
}

// TestMeanings checks the errors for responses that are not among the recorded ones.
func TestMeanings(t *testing.T) {
	for _, test := range []struct {
		status     int
		body, want string
	}{
		{500, "rpc error: Permission denied", "ErrPermissionDenied"},
		{403, "ACL token expired", "ErrInvalidToken ErrPermissionDenied"},
		{500, "No cluster leader", "ErrNoLeader"},
		{500, "RPC Error:: 404,Unknown node \"x\"", "ErrNotFound"},
		{500, "RPC Error:: 403,Permission denied", "ErrPermissionDenied"},
		{500, "RPC Error:: x,y", ""},
		{500, "unknown Nomad server nope.global", "ErrNotFound"},
		{500, "No path to region", "ErrNotFound"},
		{404, "", "ErrUnsupported"},
		{404, "<html>nothing here</html>", "ErrNotFound"},
		{400, "Server only endpoint", "ErrServerOnly"},
		{400, "missing something", "ErrInvalidArgument"},
		{429, "", "ErrTooManyRequests"},
		{500, "", ""},
		{503, "", ""},
		{304, "", ""},
		{501, "Not Implemented", ""},
	} {
		_, err := newClient(t, responding(test.status, "text/plain", test.body), nomad.WithRetries(0)).Agent.Self(t.Context())
		var api *nomad.APIError
		require.ErrorAs(t, err, &api)
		assert.Equal(t, test.status, api.StatusCode)
		assert.Equal(t, test.want, meaning(err), "%d %s", test.status, test.body)
	}
}

// TestRetries counts the attempts after temporary and after permanent failures.
func TestRetries(t *testing.T) {
	t.Parallel()
	hijack := func(w http.ResponseWriter, text string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, text)
			conn.Close()
		}
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	for _, test := range []struct {
		name string
		fail func(w http.ResponseWriter)
		want int // attempts when the first two fail
		call int // attempts of a PUT through Do
	}{
		{"429", status(429), 3, 3},
		{"502", status(502), 3, 1},
		{"503", status(503), 3, 1},
		{"504", status(504), 3, 1},
		{"closed before the headers", func(w http.ResponseWriter) { hijack(w, "") }, 3, 1},
		{"closed in the headers", func(w http.ResponseWriter) { hijack(w, "HTTP/1.1 200 OK\r\nX-A: b\r\n") }, 3, 1},
		{"a raw 429 of an agent at its connection limit", func(w http.ResponseWriter) { hijack(w, "HTTP/1.1 429 Too Many Requests\r\n\r\n") }, 3, 3},
		{"500", status(500), 1, 1},
		{"403", status(403), 1, 1},
		{"404", status(404), 1, 1},
		{"closed in the body", func(w http.ResponseWriter) { hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[") }, 1, 1},
		{"not HTTP", func(w http.ResponseWriter) { hijack(w, "SSH-2.0-OpenSSH_9.6\r\n") }, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var attempts atomic.Int32
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if attempts.Add(1) <= 2 {
					test.fail(w)
					return
				}
				if r.Method == http.MethodGet {
					io.WriteString(w, "[]")
				}
			})
			client := newClient(t, handler)
			_, err := client.Agent.Servers(t.Context())
			assert.EqualValues(t, test.want, attempts.Load())
			assert.Equal(t, test.want == 3, err == nil, "%v", err)

			attempts.Store(0)
			err = client.Agent.ForceLeave(t.Context(), "a.global")
			assert.EqualValues(t, test.want, attempts.Load(), "ForceLeave is idempotent")
			if test.want == 3 {
				assert.NoError(t, err)
			}

			attempts.Store(0)
			err = call(t.Context(), client, "PUT", "/v1/jobs", nil, map[string]string{"a": "b"}, nil)
			assert.EqualValues(t, test.call, attempts.Load(), "a PUT that is not known to be idempotent")
			assert.Equal(t, test.call == 3, err == nil, "%v", err)

			attempts.Store(0)
			off := newClient(t, handler, nomad.WithRetries(0))
			_, err = off.Agent.Servers(t.Context())
			assert.EqualValues(t, 1, attempts.Load())
			assert.Error(t, err)
		})
	}
}

// TestRetryAfter checks that Retry-After delays the next attempt, and that there is no next attempt
// when the delay exceeds the time limit.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int32
	wait := "1"
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if attempts.Add(1) == 1 {
			w.Header().Set("Retry-After", wait)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "[]")
	}))
	started := time.Now()
	_, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(started), time.Second)

	attempts.Store(0)
	wait = "3600"
	_, err = client.Agent.Servers(t.Context())
	assert.EqualValues(t, 1, attempts.Load())
	var api *nomad.APIError
	assert.ErrorAs(t, err, &api)
}

// TestDeadAgent checks the error when nothing listens at the address.
func TestDeadAgent(t *testing.T) {
	const address = "127.0.0.1:1"
	client, err := nomad.NewClient(nomad.WithAddress(address), nomad.WithRetries(1))
	require.NoError(t, err)
	_, err = client.Agent.Members(t.Context())
	var netErr net.Error
	assert.ErrorAs(t, err, &netErr)
	assert.ErrorContains(t, err, "nomad: GET http://"+address+"/v1/agent/members: dial tcp "+address+": connect")
	assert.Equal(t, "", meaning(err))
}

// stalling returns an agent that runs before for each request and then stalls until the test ends.
func stalling(t *testing.T, before func(w http.ResponseWriter)) http.Handler {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before(w)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
}

// TestLongestTimeout uses the largest time.Duration as the time limit, which overflows a time.Time.
func TestLongestTimeout(t *testing.T) {
	client := newClient(t, responding(200, "application/json", `["a:1"]`), nomad.WithTimeout(1<<63-1))
	_, err := client.Agent.Servers(t.Context())
	assert.NoError(t, err)
	profile, err := client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileCPU, Duration: time.Second})
	if assert.NoError(t, err) {
		profile.Close()
	}
}

// TestTime checks that every wait ends at the client's time limit or with the caller's context,
// whichever is first, and that the error reports which one.
func TestTime(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(http.ResponseWriter){
		"no headers": func(http.ResponseWriter) {},
		"no body":    func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"half a body": func(w http.ResponseWriter) {
			io.WriteString(w, `["a`)
			w.(http.Flusher).Flush()
		},
		"half an error": func(w http.ResponseWriter) {
			w.WriteHeader(500)
			io.WriteString(w, `oops`)
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, stalling(t, before), nomad.WithTimeout(50*time.Millisecond))
			_, err := client.Agent.Servers(t.Context())
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "/v1/agent/servers: no response within 50ms: context deadline exceeded")

			patient, err := client.With(nomad.WithTimeout(time.Hour))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = patient.Agent.Servers(ctx)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.NotContains(t, err.Error(), "no response within")

			ctx, cancelCause := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { cancelCause(errors.New("the operator went home")) })
			_, err = patient.Agent.Servers(ctx)
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorContains(t, err, "context canceled: the operator went home")
		})
	}
	t.Run("during the delay before a retry", func(t *testing.T) {
		client := newClient(t, responding(503, "", ""), nomad.WithRetries(1000))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		_, err := client.Agent.Servers(ctx)
		assert.Error(t, err)
	})
	t.Run("while waiting for a connection", func(t *testing.T) {
		client := newClient(t, stalling(t, func(http.ResponseWriter) {}), nomad.WithMaxConns(1))
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				_, err := client.Agent.Servers(ctx)
				assert.ErrorIs(t, err, context.Canceled)
			})
		}
		time.AfterFunc(50*time.Millisecond, cancel)
		group.Wait()
	})
	t.Run("context that has ended before the call", func(t *testing.T) {
		sent := false
		client := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent = true }))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client.Agent.Servers(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.False(t, sent)
	})
}

// TestMaxConns counts the connections of many concurrent calls.
func TestMaxConns(t *testing.T) {
	var open, most atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "[]") }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			for n := open.Add(1); ; {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	client, err := nomad.NewClient(nomad.WithAddress(server.URL), nomad.WithMaxConns(3))
	require.NoError(t, err)
	defer client.Close()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for range 20 {
				_, err := client.Agent.Servers(t.Context())
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
	assert.LessOrEqual(t, most.Load(), int32(3))
}

// TestRedirects checks that redirects to the same agent are followed, and that no request is sent to
// another host.
func TestRedirects(t *testing.T) {
	var strayRequests atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayRequests.Add(1) }))
	defer other.Close()
	redirect := func(status int, location string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/agent/elsewhere" {
				assert.Equal(t, "t", r.Header.Get("X-Nomad-Token"))
				if r.Method == http.MethodGet {
					io.WriteString(w, "[]")
				}
				return
			}
			w.Header().Set("Location", location)
			w.WriteHeader(status)
		})
	}
	for _, test := range []struct {
		status   int
		location string
		get, put bool // whether the redirect is followed
	}{
		{301, "/v1/agent/elsewhere", true, false},
		{302, "/v1/agent/elsewhere", true, false},
		{303, "/v1/agent/elsewhere", true, false},
		{307, "/v1/agent/elsewhere", true, true},
		{308, "/v1/agent/elsewhere", true, true},
		{307, other.URL + "/v1/agent/elsewhere", false, false},
		{307, "//" + strings.TrimPrefix(other.URL, "http://") + "/", false, false},
		{307, "https://example.com/", false, false},
		{307, "ftp://127.0.0.1/", false, false},
		{307, "/v1/agent/servers", false, false},
	} {
		t.Run(fmt.Sprint(test.status, test.location), func(t *testing.T) {
			client := newClient(t, redirect(test.status, test.location), nomad.WithToken("t"))
			_, err := client.Agent.Servers(t.Context())
			if test.get {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, nomad.ErrRedirect)
			}
			err = client.Agent.UpdateServers(t.Context(), "a:1")
			if test.put {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, nomad.ErrRedirect)
			}
		})
	}
	assert.Zero(t, strayRequests.Load(), "requests that reached another host")
}

// TestDowngrade redirects from https to http on the same host and port.
func TestDowngrade(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	client, err := nomad.NewClient(nomad.WithAddress(server.URL), nomad.WithTLS(nomad.TLS{SkipVerify: true}))
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Agent.Servers(t.Context())
	assert.ErrorIs(t, err, nomad.ErrRedirect)
	assert.ErrorContains(t, err, `it leads from https to "http"`)
}

func TestClose(t *testing.T) {
	client := newClient(t, responding(200, "application/json", "[]"))
	derived, err := client.With(nomad.WithToken("x"))
	require.NoError(t, err)
	_, err = client.Agent.Servers(t.Context())
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.NoError(t, client.Close())
	for _, c := range []*nomad.Client{client, derived} {
		_, err = c.Agent.Servers(t.Context())
		assert.ErrorIs(t, err, nomad.ErrClosed)
	}
}

// TestWrongUse checks that calls with invalid arguments return an error and send no request.
func TestWrongUse(t *testing.T) {
	var sent atomic.Int32
	client := newClient(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	ctx, agent := t.Context(), client.Agent
	result := func(_ any, err error) error { return err }
	for want, err := range map[string]error{
		"Join: no address: want at least one host:port":                                 result(agent.Join(ctx)),
		`Join: address "": want host:port or host`:                                      result(agent.Join(ctx, "a:1", "")),
		`Join: address "http://a:1": want host:port or host`:                            result(agent.Join(ctx, "http://a:1")),
		"UpdateServers: no address: want at least one host:port":                        agent.UpdateServers(ctx),
		`UpdateServers: address "a b": want host:port or host`:                          agent.UpdateServers(ctx, "a b"),
		`ForceLeave: node is empty: want the name of a member, such as server-2.global`: agent.ForceLeave(ctx, ""),
		`Health: role "leader": want "server" or "client"`:                              result(agent.Health(ctx, nomad.RoleServer, "leader")),
		`Do: Method: "G T" is not an HTTP method`:                                       call(ctx, client, "G T", "/v1/x", nil, nil, nil),
		`Do: Path: "v1/x" is not a path: want one such as /v1/jobs`:                     call(ctx, client, "GET", "v1/x", nil, nil, nil),
		`Do: Path: "//evil/v1" is not a path: want one such as /v1/jobs`:                call(ctx, client, "GET", "//evil/v1", nil, nil, nil),
		`Do: Path: "@evil/v1" is not a path: want one such as /v1/jobs`:                 call(ctx, client, "GET", "@evil/v1", nil, nil, nil),
		`Do: Path: "/v1/%zz" is not a path: want one such as /v1/jobs`:                  call(ctx, client, "GET", "/v1/%zz", nil, nil, nil),
		`Do: Path: "/v1/x?a=b" has a query or fragment in it: use Query`:                call(ctx, client, "GET", "/v1/x?a=b", nil, nil, nil),
		`Do: Path: "/v1/%2e%2e/x" has . or .. in it`:                                    call(ctx, client, "GET", "/v1/%2e%2e/x", nil, nil, nil),
		"Do: Body: it cannot be encoded as JSON: json: unsupported type: func()":        call(ctx, client, "PUT", "/v1/x", nil, func() {}, nil),
		"Do: Body: it is a nil *bytes.Buffer":                                           call(ctx, client, "PUT", "/v1/x", nil, (*bytes.Buffer)(nil), nil),
		"Do: Body: it is a nil *os.File":                                                call(ctx, client, "PUT", "/v1/x", nil, (*os.File)(nil), nil),
	} {
		assert.EqualError(t, err, "nomad: "+want)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	}
	assert.Zero(t, sent.Load())
}

// TestCall sends requests to an endpoint for which the library has no method.
func TestCall(t *testing.T) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"Got":%q}`, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body))
	}), nomad.WithRegion("eu"))
	var out struct{ Got string }
	err := call(t.Context(), client, "put", "/v1/job/web%2Ffront/plan", url.Values{"namespace": {"a b"}}, map[string]int{"N": 1}, &out)
	require.NoError(t, err)
	assert.Equal(t, `PUT /v1/job/web%2Ffront/plan?namespace=a+b&region=eu application/json {"N":1}`, out.Got)

	var raw []byte
	require.NoError(t, call(t.Context(), client, "GET", "/v1/x", url.Values{"region": {"us"}}, nil, &raw))
	assert.Equal(t, `{"Got":"GET /v1/x?region=us  "}`, string(raw))
	require.NoError(t, call(t.Context(), client, "DELETE", "/v1/x", nil, nil, nil))
}

// TestInformational sends 1xx responses before the final one. A few are skipped, endless ones are an
// error.
func TestInformational(t *testing.T) {
	for _, n := range []int{3, 1 << 20} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var group sync.WaitGroup
		group.Go(func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			http.ReadRequest(bufio.NewReader(conn))
			for range n {
				if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
					return
				}
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
		})
		client, err := nomad.NewClient(nomad.WithAddress(listener.Addr().String()), nomad.WithRetries(0))
		require.NoError(t, err)
		_, err = client.Agent.Servers(t.Context())
		assert.Equal(t, n == 3, err == nil, "%v", err)
		client.Close()
		listener.Close()
		group.Wait()
	}
}

// TestEscapedPaths uses partly escaped paths. Escaped characters must stay escaped, or the request
// reaches another endpoint.
func TestEscapedPaths(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.RequestURI
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "[]")
	}))
	defer server.Close()
	for _, test := range []struct{ base, path, want string }{
		{"", "/v1/job/web%2Ffront", "/v1/job/web%2Ffront"},
		{"", "/v1/job/web%2Ffront b", "/v1/job/web%2Ffront%20b"},
		{"", "/v1/job/web%2Fé", "/v1/job/web%2F%C3%A9"},
		{"", `/v1/job/web%2F"x"|^`, "/v1/job/web%2F%22x%22%7C%5E"},
		{"", "/v1/job/a%252Fb%3F c", "/v1/job/a%252Fb%3F%20c"},
		{"", "/v1/job/é", "/v1/job/%C3%A9"},
		{"/eu%2F1", "/v1/job/ü", "/eu%2F1/v1/job/%C3%BC"},
		{"/eu%2F1 x", "/v1/jobs", "/eu%2F1%20x/v1/jobs"},
	} {
		client := clientOf(t, nomad.WithAddress(server.URL+test.base))
		require.NoError(t, call(t.Context(), client, http.MethodGet, test.path, nil, nil, nil), test.path)
		assert.Equal(t, test.want, got, "%s %s", test.base, test.path)
	}
}

// TestHTTP2IsNotOffered uses a TLS configuration that offers HTTP/2, which the client does not speak.
func TestHTTP2IsNotOffered(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "%q", r.Proto)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	var proto string
	client := clientOf(t, nomad.WithAddress(server.URL), nomad.WithTLSConfig(config))
	require.NoError(t, call(t.Context(), client, http.MethodGet, "/v1/x", nil, nil, &proto))
	assert.Equal(t, "HTTP/1.1", proto)
}
