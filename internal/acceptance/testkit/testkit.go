// Package testkit has helpers that the tests of several packages share: clients of fake agents,
// certificates, and the names of the sentinel errors that an error matches.
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

// Refusal is the body of the 429 that an agent sends on connections beyond its limit.
const Refusal = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"

// NewClient returns a client that is closed when the test ends.
func NewClient(t testing.TB, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	client, err := nomad.NewClient(opts...)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// Serve starts a server with the handler h and returns a client for it.
func Serve(t testing.TB, h http.Handler, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return NewClient(t, append([]nomad.Option{nomad.WithAddress(server.URL)}, opts...)...)
}

// Call sends a request to an endpoint that has no method of its own.
func Call(ctx context.Context, c *nomad.Client, method, path string, query url.Values, in, out any) error {
	_, err := c.Do(ctx, &nomad.Request{Method: method, Path: path, Query: query, Body: in}, out)
	return err
}

// Responding returns an agent that always sends the same response.
func Responding(status int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// WithResponse gives every request the same response, without a network.
func WithResponse(status int, body string) nomad.Option {
	return WithResponses(func(*http.Request) (int, http.Header, string) { return status, http.Header{}, body })
}

// WithResponses gives each request the response that respond returns, without a network.
func WithResponses(respond func(*http.Request) (int, http.Header, string)) nomad.Option {
	return nomad.WithHTTPClient(&http.Client{Transport: RoundTripper(func(r *http.Request) (*http.Response, error) {
		status, header, body := respond(r)
		return &http.Response{
			StatusCode: status, Header: header, Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	})})
}

// RoundTripper is a function that implements http.RoundTripper.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// RawAgent starts an agent and returns its address. On each connection it reads a request, writes the
// bytes of response unchanged, and closes the connection.
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

// Frame returns a frame of a log stream with the given data.
func Frame(text string) string {
	return `{"Data":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `","FileEvent":"log","Offset":17}`
}

// Leaves returns the leaves of a decoded JSON value by path, without those that are null or "". Strings
// that are durations are converted to time.Duration, so that two spellings of a duration are equal.
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
