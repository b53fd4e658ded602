package agentconn

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestResponseBodies reads and closes response bodies. Each must return its connection exactly once.
func TestResponseBodies(t *testing.T) {
	text := strings.Repeat("0123456789", 2000)
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
	raws := map[string]string{
		"with a length": response(text),
		"in chunks":     chunked + "0\r\n\r\n",
	}
	read := func(r io.Reader, n int64) { io.CopyN(io.Discard, r, n) }
	for how, test := range map[string]struct {
		use   func(t *testing.T, body io.ReadCloser)
		reuse bool // whether the connection is used for the next request
	}{
		"read to the end":                         {func(_ *testing.T, b io.ReadCloser) { io.Copy(io.Discard, b) }, true},
		"read to the end and closed":              {func(_ *testing.T, b io.ReadCloser) { io.Copy(io.Discard, b); b.Close() }, true},
		"read to the end and closed twice":        {func(_ *testing.T, b io.ReadCloser) { io.Copy(io.Discard, b); b.Close(); b.Close() }, true},
		"read after the end":                      {func(_ *testing.T, b io.ReadCloser) { io.Copy(io.Discard, b); read(b, 1); read(b, 1) }, true},
		"closed at once":                          {func(_ *testing.T, b io.ReadCloser) { b.Close() }, false},
		"closed twice":                            {func(_ *testing.T, b io.ReadCloser) { b.Close(); b.Close() }, false},
		"closed half way":                         {func(_ *testing.T, b io.ReadCloser) { read(b, 10000); b.Close() }, false},
		"closed, then read":                       {func(_ *testing.T, b io.ReadCloser) { b.Close(); read(b, 1) }, false},
		"closed by many at once":                  {func(_ *testing.T, b io.ReadCloser) { crowd(8, func(int) { b.Close() }) }, false},
		"read to the end, closed by many at once": {func(_ *testing.T, b io.ReadCloser) { io.Copy(io.Discard, b); crowd(8, func(int) { b.Close() }) }, true},
		"read by one and closed by another": {func(_ *testing.T, b io.ReadCloser) {
			crowd(2, func(i int) {
				if i == 0 {
					io.Copy(io.Discard, b)
				} else {
					b.Close()
				}
			})
			b.Close()
		}, false},
	} {
		for what, raw := range raws {
			name := "a body " + what + ", " + how
			inBubble(t, name, func(t *testing.T) {
				f := newFake(t)
				f.paths["/x"] = func(c *peer, _ *http.Request) bool { return c.write(raw) }
				p := f.newPool(64)
				for n := range 20 {
					res, err := p.RoundTrip(request{path: "/x"}.build(t.Context()))
					require.NoError(t, err, name)
					conns, idle, _ := p.sizes()
					assert.Equal(t, []int{1, 0}, []int{conns, idle}, "%s: while it is read, %d", name, n)
					test.use(t, res.Body)
					conns, idle, _ = p.sizes()
					if test.reuse {
						assert.Equal(t, []int{1, 1}, []int{conns, idle}, "%s: %d", name, n)
					} else if how != "read by one and closed by another" {
						assert.Equal(t, []int{0, 0}, []int{conns, idle}, "%s: %d", name, n)
					}
					assert.NoError(t, p.consistent(), name)

					// Using the body later does not disturb the next request.
					if conns > 0 {
						next, err := p.RoundTrip(request{path: "/x"}.build(t.Context()))
						require.NoError(t, err, name)
						res.Body.Close()
						read(res.Body, 1)
						_, idle, _ = p.sizes()
						assert.Zero(t, idle, "%s: %d", name, n)
						got, err := io.ReadAll(next.Body)
						assert.NoError(t, err, name)
						assert.Len(t, got, len(text), name)
					}
				}
				closed(t, p, f)
			})
		}
	}

	for name, raw := range map[string]string{
		"a body that is cut, with a length": response(text)[:10000],
		"a body that is cut, in chunks":     chunked[:10000],
		"a body that is cut between chunks": chunked,
		"a body with a bad chunk":           chunked + "zz\r\n",
	} {
		inBubble(t, name+": an error, and the connection is dropped", func(t *testing.T) {
			f := newFake(t)
			f.paths["/x"] = replies(raw)
			p := f.newPool(64)
			res, err := p.RoundTrip(request{path: "/x"}.build(t.Context()))
			require.NoError(t, err, name)
			_, err = io.Copy(io.Discard, res.Body)
			assert.Error(t, err, name)
			conns, _, _ := p.sizes()
			assert.Zero(t, conns, name)
			res.Body.Close()
			closed(t, p, f)
		})
	}

	for name, raw := range map[string]string{
		"no content":              "HTTP/1.1 204 No Content\r\n\r\n",
		"not modified":            "HTTP/1.1 304 Not Modified\r\n\r\n",
		"an empty body":           "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"an error without a body": "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
	} {
		inBubble(t, name+": the connection is given back with the response", func(t *testing.T) {
			f := newFake(t)
			f.paths["/x"] = func(c *peer, _ *http.Request) bool { return c.write(raw) }
			p := f.newPool(64)
			for range 3 {
				res, err := p.RoundTrip(request{path: "/x"}.build(t.Context()))
				require.NoError(t, err, name)
				_, idle, _ := p.sizes()
				assert.Equal(t, 1, idle, name)
				res.Body.Close()
			}
			_, _, total, _ := f.counts()
			assert.Equal(t, 1, total, name)
			closed(t, p, f)
		})
	}

	inBubble(t, "a response that closes the connection: it is dropped", func(t *testing.T) {
		f := newFake(t)
		f.paths["/x"] = replies("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
		f.paths["/empty"] = replies("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		p := f.newPool(64)
		for _, path := range []string{"/x", "/empty"} {
			_, _, err := request{path: path}.do(t.Context(), p)
			assert.NoError(t, err, path)
			conns, _, _ := p.sizes()
			assert.Zero(t, conns, path)
		}
		closed(t, p, f)
	})

	inBubble(t, "a compressed body, read to the end: the connection is given back", func(t *testing.T) {
		var packed strings.Builder
		z := gzip.NewWriter(&packed)
		io.WriteString(z, text)
		z.Close()
		f := newFake(t)
		f.paths["/x"] = func(c *peer, _ *http.Request) bool {
			return c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", packed.Len(), packed.String()))
		}
		config := f.config(64)
		config.Transport.DisableCompression = false
		p := f.poolWith(config)
		for range 3 {
			_, got, err := request{path: "/x"}.do(t.Context(), p)
			assert.NoError(t, err)
			assert.Equal(t, text, got)
		}
		_, _, total, _ := f.counts()
		assert.Equal(t, 1, total)
		closed(t, p, f)
	})

	inBubble(t, "the context ends while a body is read: its cause, and the connection is dropped", func(t *testing.T) {
		f := newFake(t)
		f.paths["/x"] = func(c *peer, _ *http.Request) bool {
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
			return c.hang()
		}
		p := f.newPool(64)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		res, err := p.RoundTrip(request{path: "/x"}.build(ctx))
		require.NoError(t, err)
		took := timed(func() { _, err = io.Copy(io.Discard, res.Body) })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, took)
		conns, _, _ := p.sizes()
		assert.Zero(t, conns)
		res.Body.Close()
		closed(t, p, f)
	})

	inBubble(t, "a body that is closed while another request waits: it gets a connection", func(t *testing.T) {
		f := newFake(t)
		f.paths["/x"] = func(c *peer, _ *http.Request) bool {
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
			return c.hang()
		}
		p := f.newPool(1)
		res, err := p.RoundTrip(request{path: "/x"}.build(t.Context()))
		require.NoError(t, err)
		var other sync.WaitGroup
		other.Go(func() { request{}.check(t, p) })
		settle()
		res.Body.Close()
		assert.Zero(t, timed(other.Wait))
		closed(t, p, f)
	})
}

// TestSwitchingProtocols checks that a connection belongs to the caller after a switch of protocols.
func TestSwitchingProtocols(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		name := scheme + ": the body can be written to, and the connection does not count"
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			if scheme == "https" {
				f.tls = serverTLS()
			}
			f.paths["/exec"] = func(c *peer, _ *http.Request) bool {
				c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				io.Copy(c.stream(), c.stream())
				return false
			}
			p := f.newPool(1)
			r := request{scheme: scheme, path: "/exec", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}}
			var all []io.ReadWriteCloser
			for range 3 {
				res, err := p.RoundTrip(r.build(t.Context()))
				require.NoError(t, err, name)
				require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode, name)
				rw, ok := res.Body.(io.ReadWriteCloser)
				require.True(t, ok, name)
				all = append(all, rw)
				conns, _, _ := p.sizes()
				assert.Zero(t, conns, name)
			}
			request{scheme: scheme}.check(t, p, name)
			assert.NoError(t, p.consistent(), name)
			p.Close()
			time.Sleep(time.Minute)
			for _, rw := range all {
				_, err := io.WriteString(rw, "ping")
				assert.NoError(t, err, name)
				got := make([]byte, 4)
				_, err = io.ReadFull(rw, got)
				assert.NoError(t, err, name)
				assert.Equal(t, "ping", string(got), name)
				rw.Close()
			}
			settle()
			closed(t, p, f)
		})
	}
}
