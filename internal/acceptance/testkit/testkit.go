// Package testkit has what tests of several packages share: clients of agents that a test plays, certificates, and the
// meaning of an error as text.
package testkit

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// Refusal is the body of an agent's 429 to a connection beyond its limit.
const Refusal = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"

// NewClient returns a client that is closed when the test ends.
func NewClient(t testing.TB, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	client, err := nomad.NewClient(opts...)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// Serve starts an agent that h plays, and returns a client of it.
func Serve(t testing.TB, h http.Handler, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return NewClient(t, append([]nomad.Option{nomad.WithAddress(server.URL)}, opts...)...)
}

// Call makes a call that has no method of its own.
func Call(ctx context.Context, c *nomad.Client, method, path string, query url.Values, in, out any) error {
	_, err := c.Do(ctx, &nomad.Request{Method: method, Path: path, Query: query, Body: in}, out)
	return err
}

// Responding is an agent that always gives one response.
func Responding(status int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// WithResponse has every request get one response, without a network.
func WithResponse(status int, body string) nomad.Option {
	return WithResponses(func(*http.Request) (int, http.Header, string) { return status, http.Header{}, body })
}

// WithResponses has each request get the response that respond returns, without a network.
func WithResponses(respond func(*http.Request) (int, http.Header, string)) nomad.Option {
	return nomad.WithHTTPClient(&http.Client{Transport: RoundTripper(func(r *http.Request) (*http.Response, error) {
		status, header, body := respond(r)
		return &http.Response{
			StatusCode: status, Header: header, Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	})})
}

// RoundTripper is an http.RoundTripper that is one function.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// RawAgent writes response to each connection that sent a request, byte by byte as it is, and closes it. It returns its
// address.
func RawAgent(t testing.TB, response string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, response)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return listener.Addr().String()
}

// Frame is a frame of a log stream as an agent sends it.
func Frame(text string) string {
	return `{"Data":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `","FileEvent":"log","Offset":17}`
}

// Leaves flattens a decoded JSON value to its leaves, by path, without those that are null or "". Two spellings of a
// duration are the same.
func Leaves(value any) map[string]any {
	flat := map[string]any{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for key, v := range value {
				walk(path+"/"+key, v)
			}
		case []any:
			for i, v := range value {
				walk(fmt.Sprintf("%s/%d", path, i), v)
			}
		case nil:
		case string:
			if d, err := time.ParseDuration(value); err == nil && value != "0" {
				flat[path] = d
			} else if value != "" {
				flat[path] = value
			}
		default:
			flat[path] = value
		}
	}
	walk("", value)
	return flat
}
