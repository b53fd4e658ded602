package acceptance_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// The tests in the files situations_… cover problems that people reported about Nomad's agents, about
// proxies in front of them and about other clients. Each row is one situation and its expected outcome.

// Workload identities and tokens.
const (
	someToken    = "6f5c7f8e-ab4d-b2c1-9d0e-a1b2c3d4e5f6"
	someIdentity = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJnbG9iYWw6ZGVmYXVsdDpqb2IifQ.c2lnbmF0dXJl"
)

// situation is a response to a call, and the expected outcome of the call.
type situation struct {
	name     string
	status   int
	header   string // "Name: value"; several are separated by line breaks
	body     string
	opts     []nomad.Option
	call     func(context.Context, *nomad.Client) error // Members if it is nil
	want     string                                     // sentinel errors that the error matches; "success" if there is no error
	is       error                                      // another error that the error matches
	says     string
	silent   string // must not be part of the message
	attempts int64  // 0 for any number
}

func callMembers(ctx context.Context, c *nomad.Client) error {
	_, err := c.Agent.Members(ctx)
	return err
}

func callMonitor(ctx context.Context, c *nomad.Client) error {
	stream, err := c.Agent.Monitor(ctx, nomad.MonitorOptions{})
	if err == nil {
		stream.Close()
	}
	return err
}

func callHealth(ctx context.Context, c *nomad.Client) error {
	_, err := c.Agent.Health(ctx)
	return err
}

// do returns a call to an endpoint that has no method.
func do(method, path string, out any) func(context.Context, *nomad.Client) error {
	return func(ctx context.Context, c *nomad.Client) error {
		_, err := c.Do(ctx, &nomad.Request{Method: method, Path: path}, out)
		return err
	}
}

// check runs the situation.
func (s situation) check(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int64
	client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempts.Add(1)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for line := range strings.SplitSeq(s.header, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok && (name != "Content-Type" || value == "") {
				w.Header().Add(name, value)
			} else if ok {
				w.Header().Set(name, value)
			}
		}
		w.WriteHeader(s.status)
		io.WriteString(w, s.body)
	}), append([]nomad.Option{nomad.WithRetries(0)}, s.opts...)...)
	call := s.call
	if call == nil {
		call = callMembers
	}
	s.checkError(t, call(t.Context(), client))
	if s.attempts > 0 {
		assert.Equal(t, s.attempts, attempts.Load(), "attempts")
	}
}

func (s situation) checkError(t *testing.T, err error) {
	t.Helper()
	if s.want == succeeds {
		require.NoError(t, err)
		return
	}
	require.Error(t, err)
	assert.Equal(t, s.want, testkit.Meaning(err), "%v", err)
	assert.Contains(t, err.Error(), s.says)
	if s.silent != "" {
		assert.NotContains(t, err.Error(), s.silent)
	}
	if s.is != nil {
		assert.ErrorIs(t, err, s.is)
	}
}

const (
	gatewayLimit = `{"message":"API rate limit exceeded"}`
	jsonType     = "Content-Type: application/json"
	htmlType     = "Content-Type: text/html"
	blamesAgent  = "the agent accepts no more connections"
	unhealthy    = `{"FailureTolerance":0,"Healthy":false,"Leader":"a","Servers":[]}`
)

func TestSituationsOfMeaning(t *testing.T) {
	retries := nomad.WithRetries(2)
	identity := nomad.WithToken(someIdentity)
	for _, s := range []situation{
		{
			name:   "no leader, and a request header has the same words",
			status: 500, body: "No cluster leader", opts: []nomad.Option{nomad.WithHeader("X-Route", "leader")}, want: "ErrNoLeader",
			says: "No cluster <redacted>",
		},
		{
			name:   "permission denied, and a request header has the same words",
			status: 500, body: "rpc error: Permission denied", opts: []nomad.Option{nomad.WithHeader("X-Note", "Permission denied")}, want: denied,
		},
		{
			name:   "no leader, and the token has these words",
			status: 500, body: "No cluster leader", opts: []nomad.Option{nomad.WithToken("cluster-leader"), nomad.WithHeader("X-Note", "No cluster leader")}, want: "ErrNoLeader",
		},
		{
			name:   "an unhealthy server without a leader, and a request header has the same words",
			status: 500, body: `{"server":{"ok":false,"message":"No cluster leader"}}`, opts: []nomad.Option{nomad.WithHeader("X-Route", "leader")}, call: callHealth,
			want: "ErrNoLeader ErrUnhealthy",
		},
		{name: "a stale read without a leader", status: 500, body: "no leader", call: do("GET", "/v1/jobs", new(any)), want: "ErrNoLeader"},
		{name: "a stale read without a leader, forwarded twice", status: 500, body: "rpc error: rpc error: no leader", want: "ErrNoLeader"},
		{name: "a failure that only mentions a leader", status: 500, body: "no leader election is configured", want: ""},

		// Proxies that limit requests.
		{
			name:   "an API gateway's limit in JSON",
			status: 429, header: jsonType, body: gatewayLimit, opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3,
			says: "a proxy", silent: blamesAgent,
		},
		{
			name:   "an API gateway's limit in JSON, on Join",
			status: 429, header: jsonType, body: gatewayLimit, opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3,
			call: func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Join(ctx, "10.0.0.1"); return err },
		},
		{
			name:   "an API gateway's limit in JSON, on Health",
			status: 429, header: jsonType, body: gatewayLimit, opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3, call: callHealth,
		},
		{
			name:   "an API gateway's limit in JSON, on Monitor",
			status: 429, header: jsonType, body: gatewayLimit, opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3, call: callMonitor,
		},
		{
			name:   "an API gateway's limit in JSON, on the health of autopilot",
			status: 429, header: jsonType, body: gatewayLimit, opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3,
			call: do("GET", "/v1/operator/autopilot/health", nil),
		},
		{
			name:   "the health of autopilot as agents send it",
			status: 429, body: unhealthy, opts: []nomad.Option{retries}, want: "", attempts: 1, call: autopilot,
		},
		{
			name:   "the health of autopilot as JSON",
			status: 429, header: jsonType, body: unhealthy, opts: []nomad.Option{retries}, want: "", attempts: 1, call: autopilot,
		},
		{
			name:   "the health of autopilot that does not fit what it is decoded into",
			status: 429, body: unhealthy, opts: []nomad.Option{retries}, want: "", attempts: 1, call: do("GET", "/v1/operator/autopilot/health", new([]string)), silent: "proxy",
		},
		{
			name:   "the health of an agent, by Do",
			status: 500, body: `{"server":{"ok":false,"message":"server not enabled"}}`, want: "", call: do("GET", "/v1/agent/health", new(any)), silent: "proxy",
		},
		{
			name:   "HAProxy's limit",
			status: 429, header: htmlType + "\nConnection: close", body: "<html><body><h1>429 Too Many Requests</h1></body></html>",
			opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 3, says: "a proxy", silent: blamesAgent,
		},
		{
			name:   "a limit that Retry-After puts behind the time limit",
			status: 429, header: "Retry-After: 3600", body: "slow down", opts: []nomad.Option{retries}, want: "ErrTooManyRequests", attempts: 1,
		},
		{
			name:   "a gateway that is unavailable, in JSON",
			status: 503, header: jsonType, body: `{"message":"Service Unavailable"}`, opts: []nomad.Option{retries}, want: "", attempts: 3, says: "a proxy",
		},
		{
			name:   "a load balancer without a healthy target",
			status: 503, header: htmlType, body: "<html><title>503 Service Temporarily Unavailable</title></html>", opts: []nomad.Option{retries}, want: "", attempts: 3,
		},

		// Tokens.
		{
			name:   "an unknown accessor, and the token is valid",
			status: 404, body: "ACL token not found", call: do("GET", "/v1/acl/token/"+someToken, new(any)), opts: []nomad.Option{nomad.WithToken(someToken)},
			want: "ErrNotFound",
		},
		{
			name:   "an unknown accessor, forwarded to another region",
			status: 500, body: "RPC Error:: 404,ACL token not found", call: do("GET", "/v1/acl/token/"+someToken, new(any)), want: "ErrNotFound",
		},
		{
			name:   "a workload identity that the agent cannot verify",
			status: 500, body: "ACL token not found or invalid workload identity: failed to parse signed token: x", opts: []nomad.Option{identity},
			want: invalidToken, says: "could not verify the workload identity", silent: "malformed, expired or unknown",
		},
		{
			name:   "a workload identity that an old agent takes for an ID",
			status: 500, body: "acl token lookup failed: index error: UUID must be 36 characters", opts: []nomad.Option{identity},
			want: invalidToken, says: "could not verify the workload identity",
		},
		{
			name:   "a workload identity that an old agent takes for an ID, without more words",
			status: 500, body: "rpc error: UUID must be 36 characters", opts: []nomad.Option{identity}, want: invalidToken, says: "could not verify the workload identity",
		},
		{
			name:   "a workload identity in Authorization",
			status: 403, body: "failed to parse signed token: go-jose/go-jose: compact JWS format must have three parts",
			opts: []nomad.Option{nomad.WithHeader("Authorization", "Bearer "+someIdentity)}, want: invalidToken, says: "could not verify the workload identity",
		},
		{
			name:   "the ID of a node that is cut short, with a workload identity",
			status: 500, body: "node lookup failed: index error: UUID must be 36 characters", opts: []nomad.Option{identity}, want: "",
		},
		{
			name:   "a token that is no ID",
			status: 500, body: "acl token lookup failed: index error: UUID must be 36 characters", opts: []nomad.Option{nomad.WithToken("not-a-token")},
			want: invalidToken, says: "malformed, expired or unknown",
		},

		// Proxies that require authentication.
		{
			name:   "a proxy with basic authentication",
			status: 401, header: `WWW-Authenticate: Basic realm="nomad"`, want: denied, says: "WithBasicAuth", silent: "ACL token",
		},
		{
			name:   "a proxy with two schemes, in two headers",
			status: 401, header: "WWW-Authenticate: Negotiate\nWWW-Authenticate: basic realm=\"nomad\"", want: denied, says: "WithBasicAuth", silent: "ACL token",
		},
		{
			name:   "a proxy with two schemes, in one header",
			status: 401, header: `WWW-Authenticate: Bearer realm="a, b", BASIC realm="nomad"`, want: denied, says: "WithBasicAuth", silent: "ACL token",
		},
		{
			name:   "a proxy that refuses the password",
			status: 401, header: `WWW-Authenticate: Basic realm="nomad"`, opts: []nomad.Option{nomad.WithBasicAuth("ops", "hunter2-password")},
			want: denied, says: "refused the user or password of WithBasicAuth", silent: "ACL token",
		},
		{
			name:   "a gateway that wants its own key",
			status: 401, header: jsonType, body: `{"message":"No API key found in request"}`, want: denied, says: "a proxy", silent: "ACL token",
		},
		{
			name:   "a firewall's page",
			status: 403, header: htmlType, body: "<html><h1>403 Forbidden</h1></html>", want: denied, says: "a proxy", silent: "ACL token",
		},
		{
			name:   "a forward proxy that wants a password",
			status: 407, header: `Proxy-Authenticate: Basic realm="x"`, want: denied, says: "the proxy", silent: "ACL token",
		},
		{name: "a proxy's 404 page", status: 404, header: htmlType, body: "<html>404 Not Found</html>", want: "ErrNotFound", says: "a proxy"},

		// The wrong scheme.
		{
			name:   "http to an agent with TLS",
			status: 400, body: "Client sent an HTTP request to an HTTPS server.\n", want: "", is: http.ErrSchemeMismatch, says: "https://",
		},
		{
			name:   "http to an agent with TLS, and a request header has the same words",
			status: 400, body: "Client sent an HTTP request to an HTTPS server.\n", opts: []nomad.Option{nomad.WithHeader("X-Kind", "HTTPS server")},
			want: "", is: http.ErrSchemeMismatch, says: "this agent requires an https:// address",
		},
		{
			name:   "http to nginx with TLS",
			status: 400, header: htmlType, body: "<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
			want: "", is: http.ErrSchemeMismatch, says: "this agent requires an https:// address",
		},
	} {
		t.Run(s.name, s.check)
	}
}

// autopilot checks that the document is returned together with the error.
func autopilot(ctx context.Context, c *nomad.Client) error {
	var health struct{ Leader string }
	res, err := c.Do(ctx, &nomad.Request{Path: "/v1/operator/autopilot/health"}, &health)
	if err != nil && (res == nil || res.StatusCode != http.StatusTooManyRequests || health.Leader != "a") {
		return fmt.Errorf("the document is missing: %v, %+v", res, health)
	}
	return err
}

// TestSituationsOfPages responds to every call with a web page or a redirect to one, as old agents and
// proxies do.
func TestSituationsOfPages(t *testing.T) {
	calls := map[string]func(context.Context, *nomad.Client) error{
		"Members": callMembers, "Health": callHealth, "Monitor": callMonitor,
		"Servers":       func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Servers(ctx); return err },
		"Self":          func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Self(ctx); return err },
		"UpdateServers": func(ctx context.Context, c *nomad.Client) error { return c.Agent.UpdateServers(ctx, "10.0.0.1") },
		"Join":          func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Join(ctx, "10.0.0.1"); return err },
		"ForceLeave":    func(ctx context.Context, c *nomad.Client) error { return c.Agent.ForceLeave(ctx, "srv two.eu west") },
		"Host": func(ctx context.Context, c *nomad.Client) error {
			_, err := c.Agent.Host(ctx, nomad.Target{})
			return err
		},
		"MonitorExport": func(ctx context.Context, c *nomad.Client) error {
			_, err := c.Agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true})
			return err
		},
		"Profile": func(ctx context.Context, c *nomad.Client) error {
			_, err := c.Agent.Profile(ctx, nomad.ProfileOptions{Type: nomad.ProfileHeap})
			return err
		},
		"Schedulers": func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.Schedulers(ctx); return err },
		"UpdateSchedulerConfig": func(ctx context.Context, c *nomad.Client) error {
			_, err := c.Agent.UpdateSchedulerConfig(ctx, &nomad.SchedulerConfig{NumSchedulers: 1, EnabledSchedulers: []string{"_core"}})
			return err
		},
		"ListKeys":           func(ctx context.Context, c *nomad.Client) error { _, err := c.Agent.ListKeys(ctx); return err },
		"Reload":             func(ctx context.Context, c *nomad.Client) error { return c.Agent.Reload(ctx) },
		"Leader":             func(ctx context.Context, c *nomad.Client) error { _, err := c.Status.Leader(ctx); return err },
		"Peers":              func(ctx context.Context, c *nomad.Client) error { _, err := c.Status.Peers(ctx); return err },
		"Do":                 do("GET", "/v1/jobs", new(any)),
		"Do without a value": do("DELETE", "/v1/job/a", nil),
	}
	for name, call := range calls {
		for _, page := range []string{"<!DOCTYPE html><html><title>Nomad</title></html>", "\n\n<html><body>Sign in</body></html>", "\ufeff<html></html>"} {
			situation{name: name, status: 200, header: htmlType, body: page, call: call, want: "ErrInvalidResponse", says: "web page"}.run(t)
		}
		for _, to := range []string{"/ui/", "/ui", "/v1/nomad/ui/", "/nomad/ui/jobs"} {
			for _, status := range []int{301, 302, 307, 308} {
				situation{
					name: name, status: status, header: "Location: " + to, call: call,
					want: "ErrUnsupported", says: "it redirects to its web interface", attempts: 1,
				}.run(t)
			}
		}
	}
	situation{
		name: "a redirect to the interface of another host", status: 307, header: "Location: https://sign-in.example.com/ui/", want: "ErrRedirect", says: "another host",
	}.run(t)
	situation{name: "a redirect below a path that has both", status: 307, header: "Location: /ui/v1/agent/members/", want: "ErrRedirect", says: "more than"}.run(t)
}

func (s situation) run(t *testing.T) { t.Run(s.name, s.check) }

// failing is a round tripper that always returns err.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// TestSituationsOfOwnTransports uses round trippers whose errors have the same words as errors of
// net/http.
func TestSituationsOfOwnTransports(t *testing.T) {
	for _, words := range []string{
		"malformed cookie", "malformed HTTP response \"x\"", "no Location header here", "301 response missing Location header", "response headers exceeded the quota",
		"HTTP/1.x transport connection broken by policy", "http: server closed idle connection", "readLoopPeekFailLocked: x", "too many concurrent connections",
		"stopped after 10 redirects", "unexpected EOF", "connection reset by peer", "context deadline exceeded", "No cluster leader", "Permission denied", "x509: certificate signed by unknown authority",
		"net/http: request canceled", "http: server gave HTTP response to HTTPS client", "1xx informational",
	} {
		own := errors.New(words)
		for name, option := range map[string]nomad.Option{
			"WithHTTPClient": nomad.WithHTTPClient(&http.Client{Transport: failing{own}}),
			"WithTransport":  nomad.WithTransport(func(http.RoundTripper) http.RoundTripper { return failing{own} }),
		} {
			t.Run(name+": "+words, func(t *testing.T) {
				client := testkit.NewClient(t, option)
				for _, call := range []func(context.Context, *nomad.Client) error{callMembers, callMonitor, do("PUT", "/v1/jobs", nil)} {
					err := call(t.Context(), client)
					assert.ErrorIs(t, err, own)
					assert.Empty(t, testkit.Meaning(err), "%v", err)
					assert.Contains(t, err.Error(), words)
				}
			})
		}
	}
	t.Run("neither a response nor an error", func(t *testing.T) {
		client := testkit.NewClient(t, nomad.WithTransport(func(http.RoundTripper) http.RoundTripper {
			return testkit.RoundTripper(func(*http.Request) (*http.Response, error) { return nil, nil })
		}))
		err := callMembers(t.Context(), client)
		assert.ErrorContains(t, err, "neither a response nor an error")
		assert.Empty(t, testkit.Meaning(err))
	})
	t.Run("a response without a body", func(t *testing.T) {
		client := testkit.NewClient(t, nomad.WithTransport(func(http.RoundTripper) http.RoundTripper {
			return testkit.RoundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, ContentLength: 5}, nil
			})
		}))
		assert.Equal(t, "ErrInvalidResponse", testkit.Meaning(callMembers(t.Context(), client)))
	})
}

// TestSituationsOfSchemes uses https with agents that serve http, and the other way round.
func TestSituationsOfSchemes(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	address := nomad.WithAddress(strings.Replace(plain.URL, "http:", "https:", 1))
	var attempts atomic.Int64
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	count := nomad.WithTransport(func(rt http.RoundTripper) http.RoundTripper {
		return testkit.RoundTripper(func(r *http.Request) (*http.Response, error) {
			attempts.Add(1)
			return rt.RoundTrip(r)
		})
	})
	for name, opts := range map[string][]nomad.Option{
		"https to an agent without TLS":                           {address, count},
		"https to an agent without TLS, with other verification":  {address, count, nomad.WithTLS(nomad.TLS{SkipVerify: true})},
		"https to an agent without TLS, over another http.Client": {address, count, nomad.WithHTTPClient(&http.Client{Transport: transport})},
		"https to an agent without TLS, over another transport": {address, count, nomad.WithTransport(func(http.RoundTripper) http.RoundTripper {
			return testkit.RoundTripper(func(r *http.Request) (*http.Response, error) {
				attempts.Add(1)
				return transport.RoundTrip(r)
			})
		})},
	} {
		t.Run(name, func(t *testing.T) {
			client := testkit.NewClient(t, opts...)
			for _, call := range []func(context.Context, *nomad.Client) error{callMembers, callMonitor, do("PUT", "/v1/jobs", nil)} {
				attempts.Store(0)
				err := call(t.Context(), client)
				assert.ErrorIs(t, err, http.ErrSchemeMismatch)
				assert.ErrorContains(t, err, "this agent requires an http:// address")
				assert.EqualValues(t, 1, attempts.Load())
			}
		})
	}
	t.Run("https to an agent without TLS, by Client.HTTPClient", func(t *testing.T) {
		res, err := testkit.NewClient(t, address).HTTPClient().Get(strings.Replace(plain.URL, "http:", "https:", 1) + "/v1/jobs")
		if err == nil {
			res.Body.Close()
		}
		assert.ErrorIs(t, err, http.ErrSchemeMismatch)
	})
	t.Run("http to an agent with TLS", func(t *testing.T) {
		secure := httptest.NewUnstartedServer(http.NotFoundHandler())
		secure.Config.ErrorLog = log.New(io.Discard, "", 0)
		secure.StartTLS()
		t.Cleanup(secure.Close)
		client := testkit.NewClient(t, nomad.WithAddress(strings.Replace(secure.URL, "https:", "http:", 1)))
		for _, call := range []func(context.Context, *nomad.Client) error{callMembers, callMonitor, do("PUT", "/v1/jobs", nil)} {
			err := call(t.Context(), client)
			assert.ErrorIs(t, err, http.ErrSchemeMismatch)
			assert.ErrorContains(t, err, "this agent requires an https:// address")
		}
	})
}

// rawServer calls serve for each connection after it has read the first request. It counts the requests.
func rawServer(t *testing.T, serve func(conn net.Conn, request *http.Request)) (address string, requests *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	requests = new(atomic.Int64)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					io.Copy(io.Discard, request.Body)
					requests.Add(1)
					serve(conn, request)
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return "http://" + listener.Addr().String(), requests
}

// TestSituationsOfLimits checks responses with status 429 that have no Date and close the connection.
func TestSituationsOfLimits(t *testing.T) {
	for _, test := range []struct {
		name, header, body string
		retries            int
		says, silent       string
	}{
		{"HAProxy's page", "Content-Type: text/html\r\n", "<html><body><h1>429 Too Many Requests</h1>\nYou have sent too many requests in a given amount of time.\n</body></html>\n", 2, "a proxy", blamesAgent},
		{"HAProxy's text", "Content-Type: text/plain\r\n", "Too many requests\n", 2, "a proxy", blamesAgent},
		{"a message as long as the agent's", "Content-Type: text/plain\r\n", strings.Repeat("x", len(testkit.Refusal)), 2, "a proxy", blamesAgent},
		{"nothing", "", "", 2, "a proxy", blamesAgent},
		{"JSON", "Content-Type: application/json\r\n", gatewayLimit, 1, "a proxy", blamesAgent},
		{"the agent's message, without retries", "Content-Type: text/plain\r\n", testkit.Refusal, 0, blamesAgent, "a proxy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address, requests := rawServer(t, func(conn net.Conn, _ *http.Request) {
				fmt.Fprintf(conn, "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", test.header, len(test.body), test.body)
			})
			client := testkit.NewClient(t, nomad.WithAddress(address), nomad.WithRetries(test.retries))
			err := callMembers(t.Context(), client)
			assert.Equal(t, "ErrTooManyRequests", testkit.Meaning(err))
			assert.ErrorContains(t, err, test.says)
			assert.NotContains(t, err.Error(), test.silent)
			assert.EqualValues(t, test.retries+1, requests.Load())
		})
	}
}

// scheduling is a server whose scheduler workers can be configured. It behaves like Nomad 2.0.5.
type scheduling struct {
	mu     sync.Mutex
	number int
	names  []string
}

func (s *scheduling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		var to struct {
			Number int      `json:"num_schedulers"`
			Names  []string `json:"enabled_schedulers"`
		}
		decode(r.Body, &to)
		now, next := slices.Sorted(slices.Values(s.names)), slices.Sorted(slices.Values(to.Names))
		switch {
		case to.Number != s.number, !slices.Equal(next[:min(len(next), len(now))], now[:min(len(next), len(now))]):
			s.number, s.names = to.Number, to.Names
		case len(next) > len(now):
			panic(http.ErrAbortHandler) // as real servers do
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"server_id":"a.global","num_schedulers":%d,"enabled_schedulers":["%s"]}`, s.number, strings.Join(s.names, `","`))
}

func TestSituationsOfSchedulers(t *testing.T) {
	for _, test := range []struct {
		name     string
		number   int
		names    string
		want     string
		attempts int64
	}{
		{"another list", 2, "_core service", succeeds, 1},
		{"the same list in another order", 2, "sysbatch batch _core", succeeds, 1},
		{"the same list", 2, "_core batch sysbatch", succeeds, 1},
		{"a prefix of the old list", 2, "_core batch", "ErrNotApplied", 1},
		{"a prefix of the old list, in another order", 2, "batch _core", "ErrNotApplied", 1},
		{"a prefix of the old list, and another number", 1, "_core batch", succeeds, 1},
		{"a list with a name twice", 2, "_core _core batch", succeeds, 1},
		{"no workers", 0, "_core batch", succeeds, 1},
		{"a list that crashes the agent", 2, "_core batch sysbatch system", "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var attempts atomic.Int64
			agent := &scheduling{number: 2, names: []string{"sysbatch", "_core", "batch"}}
			client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					attempts.Add(1)
				}
				agent.ServeHTTP(w, r)
			}))
			names := strings.Fields(test.names)
			config, err := client.Agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: test.number, EnabledSchedulers: names})
			assert.Equal(t, test.attempts, attempts.Load())
			if test.want == succeeds {
				require.NoError(t, err)
				assert.Equal(t, test.number, config.NumSchedulers)
				return
			}
			assert.Nil(t, config)
			assert.Equal(t, test.want, testkit.Meaning(err))
			if test.want == "" {
				assert.ErrorContains(t, err, "the connection was closed before the response")
			} else {
				assert.ErrorContains(t, err, "batch")
			}
		})
	}
	for name, respond := range map[string]string{
		"the number stays":       `{"server_id":"a","num_schedulers":3,"enabled_schedulers":["_core"]}`,
		"a proxy is unavailable": "",
	} {
		t.Run(name, func(t *testing.T) {
			var attempts atomic.Int64
			client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				attempts.Add(1)
				if respond == "" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				io.WriteString(w, respond)
			}))
			_, err := client.Agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 2, EnabledSchedulers: []string{"_core"}})
			assert.Error(t, err)
			assert.Equal(t, respond != "", errors.Is(err, nomad.ErrNotApplied))
			assert.EqualValues(t, 1, attempts.Load())
		})
	}
	t.Run("a used connection that the agent closes when it gets the request", func(t *testing.T) {
		var puts atomic.Int64
		client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				puts.Add(1)
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, `{"ServerName":"a","Members":[]}`)
		}))
		require.NoError(t, callMembers(t.Context(), client))
		_, err := client.Agent.UpdateSchedulerConfig(t.Context(), &nomad.SchedulerConfig{NumSchedulers: 2, EnabledSchedulers: []string{"_core"}})
		assert.ErrorContains(t, err, "the connection was closed before the response")
		assert.EqualValues(t, 1, puts.Load())
	})
}

func TestSituationsOfEncodings(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	io.WriteString(w, `{"ServerName":"a","Members":[]}`)
	w.Close()
	for header, want := range map[string]string{
		"gzip": succeeds, "x-gzip": succeeds, "X-GZIP": succeeds, "GZip": succeeds, "identity, gzip": succeeds, "gzip\nContent-Encoding: identity": succeeds,
		"br": "ErrInvalidResponse", "deflate": "ErrInvalidResponse", "gzip, gzip": "ErrInvalidResponse", "zstd": "ErrInvalidResponse",
	} {
		situation{name: header, status: 200, header: "Content-Encoding: " + header, body: zipped.String(), want: want, says: "its encoding is"}.run(t)
	}
}

// TestSituationsOfNames uses server names that need escaping in a URL.
func TestSituationsOfNames(t *testing.T) {
	for _, name := range []string{"srv two.eu west", "SRV.dots.eu-west.1", "süd 2.global", "a/b.global", `quote".global`, " leading.global", "tab\t.global", "100%.global", "a+b&c=d.global"} {
		t.Run(name, func(t *testing.T) {
			queries := make(chan url.Values, 10)
			_, region, _ := strings.Cut(name, ".")
			client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				queries <- r.URL.Query()
				if strings.HasSuffix(r.URL.Path, "host") {
					io.WriteString(w, `{"OS":"linux"}`)
				}
				if strings.HasSuffix(r.URL.Path, "join") {
					io.WriteString(w, `{"num_joined":1}`)
				}
			}), nomad.WithRegion(region))
			require.NoError(t, client.Agent.ForceLeave(t.Context(), name))
			query := <-queries
			assert.Equal(t, name, query.Get("node"))
			assert.Equal(t, region, query.Get("region"))
			_, err := client.Agent.Host(t.Context(), nomad.OnServer(name))
			require.NoError(t, err)
			assert.Equal(t, name, (<-queries).Get("server_id"))
			_, err = client.Agent.Join(t.Context(), name+"/10.0.0.1:4648")
			require.NoError(t, err)
			assert.Equal(t, name+"/10.0.0.1:4648", (<-queries).Get("address"))
		})
	}
}

// TestSituationsOfAddresses checks base paths, redirects and unix sockets.
func TestSituationsOfAddresses(t *testing.T) {
	var paths atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.EscapedPath())
		io.WriteString(w, `{"ServerName":"a","Members":[]}`)
	}))
	t.Cleanup(server.Close)
	for base, want := range map[string]string{
		"/api/v1/namespaces/ops/services/http:nomad:http/proxy":  "/api/v1/namespaces/ops/services/http:nomad:http/proxy/v1/agent/members",
		"/api/v1/namespaces/ops/services/http:nomad:http/proxy/": "/api/v1/namespaces/ops/services/http:nomad:http/proxy/v1/agent/members",
		"/v1/nomad/":       "/v1/nomad/v1/agent/members",
		"/v1/agents":       "/v1/agents/v1/agent/members",
		"/v1x":             "/v1x/v1/agent/members",
		"/a%2Fv1/b":        "/a%2Fv1/b/v1/agent/members",
		"/v1/agent/nomad1": "/v1/agent/nomad1/v1/agent/members",
		"/v1":              "", "/v1/": "", "/v1/agent": "", "/x/v1/agent/": "",
	} {
		t.Run("the base path "+base, func(t *testing.T) {
			client, err := nomad.NewClient(nomad.WithAddress(server.URL + base))
			if want == "" {
				assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
				return
			}
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, callMembers(t.Context(), client))
			assert.Equal(t, want, paths.Load())
		})
	}
	t.Run("a redirect to the host in other case", func(t *testing.T) {
		client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Cookie") == "" && !strings.HasSuffix(r.URL.Path, "/") {
				_, port, _ := net.SplitHostPort(r.Host)
				http.Redirect(w, r, "http://LocalHost:"+port+r.URL.Path+"/", http.StatusTemporaryRedirect)
				return
			}
			io.WriteString(w, `{"ServerName":"a","Members":[]}`)
		}))
		_, port, err := net.SplitHostPort(strings.TrimPrefix(client.Address(), "http://"))
		require.NoError(t, err)
		client = testkit.NewClient(t, nomad.WithAddress("http://localhost:"+port))
		assert.NoError(t, callMembers(t.Context(), client))
	})
	t.Run("a unix socket that does not exist", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		for _, path := range []string{filepath.Join(dir, "none.sock"), filepath.Join(dir, "none", "x.sock"), filepath.Join(file, "x.sock")} {
			var attempts atomic.Int64
			client := testkit.NewClient(t, nomad.WithAddress("unix://"+path), nomad.WithTransport(func(rt http.RoundTripper) http.RoundTripper {
				return testkit.RoundTripper(func(r *http.Request) (*http.Response, error) {
					attempts.Add(1)
					return rt.RoundTrip(r)
				})
			}))
			for _, call := range []func(context.Context, *nomad.Client) error{callMembers, callMonitor, do("PUT", "/v1/jobs", nil)} {
				attempts.Store(0)
				err := call(t.Context(), client)
				assert.EqualValues(t, 1, attempts.Load(), path)
				var network net.Error
				assert.ErrorAs(t, err, &network)
			}
		}
	})
	t.Run("a unix socket whose path is too long for the system", func(t *testing.T) {
		_, err := nomad.NewClient(nomad.WithAddress("unix:///" + strings.Repeat("x", 300)))
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
		assert.NotContains(t, err.Error(), "xxxx")
	})
	t.Run("the largest time limit", func(t *testing.T) {
		for _, limit := range []time.Duration{math.MaxInt64, math.MaxInt64/2 + 1, math.MaxInt64 - 1} {
			client := testkit.Serve(t, logOf("a line\n"), nomad.WithTimeout(limit))
			assert.NoError(t, callMonitor(t.Context(), client))
			_, err := client.Do(t.Context(), &nomad.Request{Path: "/v1/jobs", Query: url.Values{"index": {"1"}, "wait": {"10m"}}}, nil)
			assert.NoError(t, err)
			profile, err := client.Agent.Profile(t.Context(), nomad.ProfileOptions{Type: nomad.ProfileCPU, Duration: time.Hour})
			require.NoError(t, err)
			profile.Close()
		}
	})
}
