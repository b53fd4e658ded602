package agentconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// closeNotify closes a connection properly, with a TLS close_notify, but without a response.
func closeNotify(c *peer, _ *http.Request) bool {
	if c.secured != nil {
		c.secured.CloseWrite()
	}
	return false
}

// aborts resets the connection without a response.
func aborts(c *peer, _ *http.Request) bool { return c.abort() }

// firstDoes returns a handler that calls first for the first request and responds to later ones.
func firstDoes(first handler) handler {
	var began atomic.Bool
	return func(c *peer, req *http.Request) bool {
		if began.Swap(true) {
			return c.ok(req)
		}
		return first(c, req)
	}
}

// TestLostConnection loses the connection after the request was written and before the response begins.
func TestLostConnection(t *testing.T) {
	for how, handle := range map[string]handler{"closed": hangUp, "reset": aborts, "closed in good order": closeNotify} {
		for _, scheme := range []string{"http", "https"} {
			for _, served := range []bool{false, true} {
				for what, test := range map[string]struct {
					request request
					reads   int // 1 if the request is lost, or 2
				}{
					"GET is sent again":                      {request{}, 2},
					"HEAD is sent again":                     {request{method: http.MethodHead}, 2},
					"POST is not sent again":                 {request{method: http.MethodPost}, 1},
					"PUT is not sent again":                  {request{method: http.MethodPut}, 1},
					"DELETE is not sent again":               {request{method: http.MethodDelete}, 1},
					"PUT with Idempotency-Key is sent again": {request{method: http.MethodPut, header: idempotent, body: strings.NewReader("x")}, 2},
					"GET, marked Once, is not sent again":    {request{mark: Once}, 1},
				} {
					if what == "GET, marked Once, is not sent again" {
						test.request.method = http.MethodGet
					}
					name := fmt.Sprintf("%s %s, served before: %v: %s", scheme, how, served, what)
					inBubble(t, name, func(t *testing.T) {
						f := newFake(t)
						if scheme == "https" {
							f.tls = serverTLS()
						}
						var header http.Header
						handle := firstDoes(handle)
						f.paths["/x"] = func(c *peer, req *http.Request) bool { header = req.Header; return handle(c, req) }
						p := f.newPool(64)
						if served {
							request{scheme: scheme}.check(t, p, name)
						}
						r := test.request
						r.scheme, r.path, r.id = scheme, "/x", "x"
						status, _, err := r.do(t.Context(), p)
						assert.Equal(t, test.reads, f.reads("x"), name)
						if test.reads == 2 {
							assert.NoError(t, err, name)
							assert.Equal(t, http.StatusOK, status, name)
						} else {
							var lost *LostError
							assert.ErrorAs(t, err, &lost, name)
							assert.NotErrorIs(t, err, ErrNoResponse, name)
						}
						assert.NotContains(t, header, "Idempotency-Key", name)
						closed(t, p, f)
					})
				}
			}
		}
	}
}

// TestCutHeaders loses the connection in the middle of the headers.
func TestCutHeaders(t *testing.T) {
	for _, cut := range []string{
		"H",
		"HTTP/1.1",
		"HTTP/1.1 200 OK",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\nContent-Le",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
		"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTT",
	} {
		for _, scheme := range []string{"http", "https"} {
			for _, served := range []bool{false, true} {
				for _, reset := range []bool{false, true} {
					name := fmt.Sprintf("%s, served before: %v, reset: %v, after %.40q: an error", scheme, served, reset, cut)
					if reset && scheme == "https" && !served {
						continue // the data can be part of the handshake, so this looks like a refusal
					}
					inBubble(t, name, func(t *testing.T) {
						f := newFake(t)
						if scheme == "https" {
							f.tls = serverTLS()
						}
						f.paths["/x"] = func(c *peer, _ *http.Request) bool {
							c.write(cut)
							c.reset.Store(reset)
							return false
						}
						p := f.newPool(64)
						if served {
							request{scheme: scheme}.check(t, p, name)
						}
						_, _, err := request{scheme: scheme, path: "/x", id: "x"}.do(t.Context(), p)
						var lost *LostError
						assert.ErrorAs(t, err, &lost, name)
						if !reset {
							assert.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
						}
						assert.Equal(t, 1, f.reads("x"), name)
						assert.False(t, p.state(t).isFull(), name)
						closed(t, p, f)
					})
				}
			}
		}
	}
}

// TestForeignPeer sends requests to a peer that does not speak HTTP.
func TestForeignPeer(t *testing.T) {
	for name, raw := range map[string]string{
		"a peer that speaks SSH: an error, and it is not lost":             "SSH-2.0-OpenSSH_9.9\r\n",
		"a peer that wants TLS: an error, and it is not lost":              "\x15\x03\x01\x00\x02\x02\x0a",
		"a peer that speaks another version: an error, and it is not lost": "HTTP/3 200 OK\r\n\r\n",
		"a peer that sends headers without end: an error":                  "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 100_000),
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.paths["/"] = replies(raw)
			config := f.config(64)
			config.Transport.MaxResponseHeaderBytes = 1 << 16
			p := f.poolWith(config)
			_, _, err := request{id: "x"}.do(t.Context(), p)
			assert.Error(t, err, name)
			var lost *LostError
			assert.False(t, errors.As(err, &lost), "%s: %v", name, err)
			assert.Equal(t, 1, f.reads("x"), name)
			assert.False(t, p.state(t).isFull(), name)
			closed(t, p, f)
		})
	}
}

// TestClosedWhileIdle has an agent close an idle connection that was used before.
func TestClosedWhileIdle(t *testing.T) {
	timedOut := "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"
	for name, test := range map[string]struct {
		scheme string
		end    func(*peer)
	}{
		"closed":                           {"http", func(c *peer) { c.Close() }},
		"reset":                            {"http", func(c *peer) { c.abort() }},
		"closed with TLS":                  {"https", func(c *peer) { c.Close() }},
		"reset with TLS":                   {"https", func(c *peer) { c.abort() }},
		"closed in good order with TLS":    {"https", func(c *peer) { c.secured.Close() }},
		"closed after a time-out (408)":    {"http", func(c *peer) { c.write(timedOut); c.Close() }},
		"closed by the agent's CloseWrite": {"https", func(c *peer) { c.secured.CloseWrite() }},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			name := fmt.Sprintf("%s: a %s is handled once", name, method)
			inBubble(t, name, func(t *testing.T) {
				f := newFake(t)
				if test.scheme == "https" {
					f.tls = serverTLS()
				}
				var last *peer
				f.paths["/last"] = func(c *peer, req *http.Request) bool { last = c; return c.ok(req) }
				p := f.newPool(64)
				request{scheme: test.scheme, path: "/last"}.check(t, p, name)
				test.end(last)
				settle()
				request{scheme: test.scheme, method: method, id: "x"}.check(t, p, name)
				assert.Equal(t, 1, f.reads("x"), name)
				_, _, total, _ := f.counts()
				assert.Equal(t, 2, total, name)
				closed(t, p, f)
			})

			inBubble(t, name+", when it gets the connection just before", func(t *testing.T) {
				f := newFake(t)
				if test.scheme == "https" {
					f.tls = serverTLS()
				}
				var last *peer
				f.paths["/last"] = func(c *peer, req *http.Request) bool { last = c; return c.ok(req) }
				p := f.newPool(64)
				request{scheme: test.scheme, path: "/last"}.check(t, p, name)
				a := p.state(t)
				p.mu.Lock()
				c := a.takeIdle(0)
				p.mu.Unlock()
				test.end(last)
				settle()
				_, err := c.roundTrip(request{scheme: test.scheme, method: method}.build(t.Context()))
				var lost *LostError
				assert.ErrorAs(t, err, &lost, name)
				assert.True(t, c.silent(err), name)
				assert.False(t, c.sent.Load(), "%s: sent", name)
				p.failed(c, false, true)
				closed(t, p, f)
			})
		}
	}

	inBubble(t, "a POST on a connection whose end net/http has not noticed is handled once", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		request{}.check(t, p)
		a := p.state(t)
		p.mu.Lock()
		a.idle[0].ended.Store(true)
		p.mu.Unlock()
		request{method: http.MethodPost, id: "x"}.check(t, p)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "a POST on a new connection that was closed before it was used is handled once", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		unused(t, f, p)
		f.closeAll()
		settle()
		request{method: http.MethodPost, id: "x"}.check(t, p)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "a POST on a new connection that was refused before it was used is handled once", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		f.set(1, 1)
		unused(t, f, p)
		_, _, _, refused := f.counts()
		require.Equal(t, 1, refused)
		request{method: http.MethodPost, id: "x"}.check(t, p)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "30 idle connections that are all dead when they are used: a GET succeeds", func(t *testing.T) {
		f := newFake(t)
		f.think = after(20 * ms)
		p := f.newPool(64)
		crowd(200, func(int) {
			for range 8 {
				request{}.check(t, p)
			}
		})
		_, idle, _ := p.sizes()
		require.GreaterOrEqual(t, idle, 30)
		// The agent's address moves to another host, which resets connections that it does not know.
		var mu sync.Mutex
		lost := 0
		f.paths["/moved"] = func(c *peer, req *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if lost < idle {
				lost++
				return c.abort()
			}
			return c.ok(req)
		}
		request{path: "/moved"}.check(t, p)
		closed(t, p, f)
	})
}

// TestUnasked has an agent write to a connection after a response. net/http must not see it: it would write it to the log.
func TestUnasked(t *testing.T) {
	for name, test := range map[string]struct {
		method, response string
		after            time.Duration
	}{
		"just after a response":                     {"GET", response("/x"), 0},
		"some time after a response":                {"GET", response("/x"), 100 * ms},
		"just after chunks":                         {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n/x\r\n0\r\n\r\n", 0},
		"just after a response without a body":      {"PUT", "HTTP/1.1 204 No Content\r\n\r\n", 0},
		"just after a response to HEAD":             {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 0},
		"some time after a response without a body": {"PUT", "HTTP/1.1 204 No Content\r\n\r\n", 100 * ms},
		"just after the second response":            {"GET", response("/x"), -1},
		"just after the second one, without a body": {"PUT", "HTTP/1.1 204 No Content\r\n\r\n", -1},
	} {
		for _, scheme := range []string{"http", "https"} {
			name := name + ", " + scheme
			inBubble(t, name, func(t *testing.T) {
				f := newFake(t)
				if scheme == "https" {
					f.tls = serverTLS()
				}
				f.paths["/x"] = func(c *peer, req *http.Request) bool {
					c.write(test.response)
					if test.after < 0 && req.Header.Get("X-Id") == "first" {
						return true
					}
					c.wait(test.after)
					c.write("your token is x")
					return c.hang()
				}
				p := f.newPool(64)
				before := logged.String()
				if test.after < 0 {
					_, _, err := request{scheme: scheme, method: test.method, path: "/x", id: "first"}.do(t.Context(), p)
					require.NoError(t, err, name)
				}
				_, _, err := request{scheme: scheme, method: test.method, path: "/x"}.do(t.Context(), p)
				assert.NoError(t, err, name)
				time.Sleep(200 * ms)
				settle()
				assert.Equal(t, before, logged.String(), "%s: net/http wrote to the log", name)
				open, _, total, _ := f.counts()
				assert.Zero(t, open, name)
				assert.Equal(t, 1, total, name)
				request{scheme: scheme, method: http.MethodPost, id: "next"}.check(t, p, name)
				assert.Equal(t, 1, f.reads("next"), name)
				closed(t, p, f)
			})
		}
	}
}

// TestRefusals checks that an agent's refusal of a connection is distinguished from other 429s.
func TestRefusals(t *testing.T) {
	with := func(header, text string) string {
		return fmt.Sprintf("HTTP/1.1 429 Too Many Requests\r\n%sContent-Length: %d\r\n\r\n%s", header, len(text), text)
	}
	closes := "Content-Type: text/plain\r\nConnection: close\r\n"
	for name, test := range map[string]struct {
		raw     string
		served  bool // the connection carried a response before
		refusal bool
	}{
		"the agent's own words: refused":                 {tooManyRequests, false, true},
		"with a charset: refused":                        {strings.Replace(tooManyRequests, "plain", "plain; charset=utf-8", 1), false, true},
		"on a connection that was used: a response":      {tooManyRequests, true, false},
		"with a date: a response":                        {with(closes+"Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n", refusal), false, false},
		"keeps the connection: a response":               {with("Content-Type: text/plain\r\n", refusal), false, false},
		"JSON: a response":                               {with("Content-Type: application/json\r\nConnection: close\r\n", refusal), false, false},
		"no type: a response":                            {with("Connection: close\r\n", refusal), false, false},
		"another text: a response":                       {with(closes, "slow down\n"), false, false},
		"another text of the same length: a response":    {with(closes, strings.ToUpper(refusal)), false, false},
		"another text and Retry-After: a response":       {with(closes+"Retry-After: 7\r\n", "slow down\n"), false, false},
		"with a date and Retry-After: a response":        {with(closes+"Retry-After: 7\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n", refusal), false, false},
		"no length: a response":                          {"HTTP/1.1 429 Too Many Requests\r\n" + closes + "\r\n" + refusal, false, false},
		"chunks: a response":                             {"HTTP/1.1 429 Too Many Requests\r\n" + closes + "Transfer-Encoding: chunked\r\n\r\n5\r\nx too\r\n0\r\n\r\n", false, false},
		"empty: a response":                              {with(closes, ""), false, false},
		"the same words with another status: a response": {strings.Replace(tooManyRequests, "429 Too Many Requests", "503 Service Unavailable", 1), false, false},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.paths["/x"] = firstDoes(replies(test.raw))
			p := f.newPool(64)
			if test.served {
				request{}.check(t, p, name)
			}
			res, err := p.RoundTrip(request{path: "/x", id: "x", method: http.MethodPost}.build(t.Context()))
			require.NoError(t, err, name)
			text, err := io.ReadAll(res.Body)
			assert.NoError(t, err, name)
			res.Body.Close()
			if test.refusal {
				assert.Equal(t, http.StatusOK, res.StatusCode, name)
				assert.Equal(t, 2, f.reads("x"), name)
			} else {
				assert.NotEqual(t, http.StatusOK, res.StatusCode, name)
				assert.Equal(t, 1, f.reads("x"), name)
				want := test.raw[strings.Index(test.raw, "\r\n\r\n")+4:]
				if strings.Contains(test.raw, "chunked") {
					want = "x too"
				}
				assert.Equal(t, want, string(text), name)
				assert.Equal(t, strings.Contains(test.raw, "Retry-After"), res.Header.Get("Retry-After") != "", name)
			}
			assert.Equal(t, test.refusal, p.state(t).isFull(), name)
			closed(t, p, f)
		})
	}
}

// trackedBody is a request body. open counts bodies that are not closed.
type trackedBody struct {
	io.Reader
	open *atomic.Int64
	once sync.Once
}

func (b *trackedBody) Close() error {
	b.once.Do(func() { b.open.Add(-1) })
	return nil
}

// TestRequestBodies sends requests with bodies.
func TestRequestBodies(t *testing.T) {
	text := strings.Repeat("body ", 5000)
	for name, test := range map[string]struct {
		method  string
		header  http.Header
		getBody bool
		mark    Mark
		fault   func(t *testing.T, f *fake, p *Pool) // before the request
		ctx     func(context.Context) context.Context
		reads   int
		status  int // 0 for an error
	}{
		"no fault: it is sent once":                          {http.MethodPost, nil, true, 0, nil, nil, 1, 200},
		"no fault, no GetBody: it is sent once":              {http.MethodPost, nil, false, 0, nil, nil, 1, 200},
		"refused: it is sent again, whole":                   {http.MethodPost, nil, true, 0, onceRefused, nil, 1, 200},
		"refused, no GetBody: the refusal is the response":   {http.MethodPost, nil, false, 0, onceRefused, nil, 0, 429},
		"lost: an error":                                     {http.MethodPost, nil, true, 0, onceLost, nil, 1, 0},
		"lost, may be repeated: it is sent again, whole":     {http.MethodPost, idempotent, true, 0, onceLost, nil, 2, 200},
		"lost, may be repeated, no GetBody: an error":        {http.MethodPost, idempotent, false, 0, onceLost, nil, 1, 0},
		"a GET that is lost, no GetBody: an error":           {http.MethodGet, nil, false, 0, onceLost, nil, 1, 0},
		"closed while idle: it is sent once":                 {http.MethodPost, nil, true, 0, closedIdle, nil, 1, 200},
		"closed while idle, no GetBody: it is sent once":     {http.MethodPost, nil, false, 0, closedIdle, nil, 1, 200},
		"closed before it was used: it is sent once":         {http.MethodPost, nil, true, 0, closedUnused, nil, 1, 200},
		"Once, closed before it was used: it may fail":       {http.MethodPost, nil, true, Once, closedUnused, nil, -1, -1},
		"the end of a connection is not noticed: it is sent": {http.MethodPost, nil, true, 0, endNotNoticed, nil, 1, 200},
		"no connection: an error":                            {http.MethodPost, nil, true, 0, noDial, nil, 0, 0},
		"the context ended before: an error":                 {http.MethodPost, nil, true, 0, nil, ended, 0, 0},
		"the context ends while it waits: an error":          {http.MethodPost, nil, true, 0, noRoom, soon, 0, 0},
		"the context ends before the response: an error":     {http.MethodPost, nil, true, 0, hangs, soon, 1, 0},
		"a header that cannot be sent: an error":             {http.MethodPost, http.Header{"A": {"b\nc"}}, true, 0, nil, nil, 0, 0},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			p := f.newPool(64)
			if test.fault != nil {
				test.fault(t, f, p)
			}
			handle := f.paths["/x"]
			f.paths["/x"] = func(c *peer, req *http.Request) bool {
				got, _ := io.ReadAll(req.Body)
				assert.Equal(t, text, string(got), name)
				if handle != nil {
					return handle(c, req)
				}
				return c.ok(req)
			}
			var open atomic.Int64
			newBody := func() (io.ReadCloser, error) {
				open.Add(1)
				return &trackedBody{Reader: strings.NewReader(text), open: &open}, nil
			}
			ctx := t.Context()
			if test.ctx != nil {
				ctx = test.ctx(ctx)
			}
			req := request{method: test.method, path: "/x", id: "x", header: test.header, mark: test.mark}.build(ctx)
			req.Body, _ = newBody()
			req.ContentLength = int64(len(text))
			if test.getBody {
				req.GetBody = newBody
			}
			res, err := p.RoundTrip(req)
			if err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if test.status >= 0 {
				assert.Equal(t, test.status > 0, err == nil, "%s: %v", name, err)
			}
			if test.status > 0 && err == nil {
				assert.Equal(t, test.status, res.StatusCode, name)
				assert.Same(t, req, res.Request, name)
			}
			if test.reads >= 0 {
				assert.Equal(t, test.reads, f.reads("x"), name)
			}
			settle()
			assert.Zero(t, open.Load(), "%s: bodies that are not closed", name)
			closed(t, p, f)
		})
	}
}

// TestRequestBodyErrors sends request bodies that fail.
func TestRequestBodyErrors(t *testing.T) {
	for name, fault := range map[string]error{
		"a body that cannot be read: its error":                         errors.New("the disk is gone"),
		"a body that is cut: its error, which is not a lost connection": io.ErrUnexpectedEOF,
		"a body that is too short: an error of net/http":                nil,
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			p := f.newPool(64)
			dials := 0
			f.dialed = func(_, _ string) { dials++ }
			r := request{method: http.MethodPut, header: idempotent}
			req := r.build(t.Context())
			body := func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(cmp.Or(fault, io.EOF)))), nil
			}
			req.Body, _ = body()
			req.GetBody = body
			req.ContentLength = 10
			_, err := p.RoundTrip(req)
			if fault != nil {
				assert.ErrorIs(t, err, fault, name)
			} else {
				assert.ErrorContains(t, err, "ContentLength=10 with Body length 5", name)
			}
			var lost *LostError
			assert.False(t, errors.As(err, &lost), "%s: %v", name, err)
			assert.Equal(t, 1, dials, name)
			assert.False(t, p.state(t).isFull(), name)
			closed(t, p, f)
		})
	}
}

// TestErrorOfAnEarlierBody has an agent refuse a request while its body is read, and lose the second one.
func TestErrorOfAnEarlierBody(t *testing.T) {
	inBubble(t, "a request that is sent again and lost: the error is not that of the first body", func(t *testing.T) {
		f := newFake(t)
		f.paths["/x"] = hangUp
		onceRefused(t, f, nil)
		p := f.newPool(64)
		req := request{method: http.MethodPut, path: "/x", id: "x"}.build(t.Context())
		req.Body, _ = io.Pipe() // it blocks until it is closed
		req.ContentLength = 2
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("{}")), nil }
		_, err := p.RoundTrip(req)
		var lost *LostError
		assert.ErrorAs(t, err, &lost)
		assert.NotErrorIs(t, err, io.ErrClosedPipe)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "the body of the second attempt cannot be read: its error", func(t *testing.T) {
		f := newFake(t)
		onceRefused(t, f, nil)
		p := f.newPool(64)
		gone := errors.New("the disk is gone")
		req := request{method: http.MethodPut}.build(t.Context())
		req.Body, _ = io.Pipe() // it blocks until it is closed
		req.ContentLength = 2
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(gone)), nil }
		_, err := p.RoundTrip(req)
		assert.ErrorIs(t, err, gone)
		closed(t, p, f)
	})
}

// TestRequestsThatAreNotSent makes requests that net/http refuses.
func TestRequestsThatAreNotSent(t *testing.T) {
	inBubble(t, "requests with an invalid header leave their connection to others", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		for range 10 {
			_, _, err := request{header: http.Header{"A": {"b\nc"}}}.do(t.Context(), p)
			assert.ErrorContains(t, err, "invalid header")
			request{}.check(t, p)
		}
		_, _, total, _ := f.counts()
		assert.Equal(t, 1, total)
		closed(t, p, f)
	})
}

func onceRefused(_ *testing.T, f *fake, _ *Pool) {
	f.set(-1, refuseAll)
	time.AfterFunc(time.Second, func() { f.set(100, 0) })
}

func onceLost(_ *testing.T, f *fake, _ *Pool) { f.paths["/x"] = firstDoes(hangUp) }

func closedIdle(t *testing.T, f *fake, p *Pool) {
	request{}.check(t, p)
	f.closeAll()
	settle()
}

func closedUnused(t *testing.T, f *fake, p *Pool) {
	unused(t, f, p)
	f.closeAll()
	settle()
}

func endNotNoticed(t *testing.T, _ *fake, p *Pool) {
	request{}.check(t, p)
	a := p.state(t)
	p.mu.Lock()
	a.idle[0].ended.Store(true)
	p.mu.Unlock()
}

func noDial(_ *testing.T, f *fake, _ *Pool) {
	f.onDial = func(context.Context) error { return errors.New("no route") }
}

func noRoom(_ *testing.T, f *fake, _ *Pool) { f.set(-1, 0) }

func hangs(_ *testing.T, f *fake, _ *Pool) { f.paths["/x"] = hang }

func ended(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func soon(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(time.Second, cancel)
	return ctx
}

// TestContexts ends contexts while their requests wait.
func TestContexts(t *testing.T) {
	cause := errors.New("the caller has enough")
	for name, test := range map[string]struct {
		fault func(*fake)
		want  error // in addition to the cause
		reads int
	}{
		"on an agent that says 429: the cause, and ErrFull":        {func(f *fake) { f.set(-1, refuseAll) }, ErrFull, 0},
		"on an agent that is silent: the cause, and ErrNoResponse": {func(f *fake) { f.set(-1, 0) }, ErrNoResponse, 0},
		"on an agent that says 429, then nothing: ErrFull":         {func(f *fake) { f.set(-1, 3) }, ErrFull, 0},
		"on a dial that hangs: the cause":                          {func(f *fake) { f.onDial = hangingDial }, nil, 0},
		"on an agent that hangs: the cause":                        {func(f *fake) { f.paths["/"] = hang }, nil, 1},
		"on an agent that sends a part of the headers: the cause": {func(f *fake) {
			f.paths["/"] = func(c *peer, _ *http.Request) bool { c.write("HTTP/1.1 200 OK\r\nA:"); return c.hang() }
		}, nil, 1},
	} {
		for how, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
			"a cause": func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(2*time.Second, func() { cancel(cause) })
				return ctx, func() { cancel(nil) }
			},
			"a deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, 2*time.Second, cause)
			},
		} {
			name := name + ", " + how
			inBubble(t, name, func(t *testing.T) {
				f := newFake(t)
				test.fault(f)
				p := f.newPool(64)
				ctx, cancel := end(t.Context())
				defer cancel()
				var err error
				took := timed(func() { _, _, err = request{id: "x"}.do(ctx, p) })
				assert.Equal(t, 2*time.Second, took, name)
				assert.ErrorIs(t, err, cause, name)
				for _, other := range []error{ErrFull, ErrNoResponse} {
					assert.Equal(t, other == test.want, errors.Is(err, other), "%s: %v", name, err)
				}
				assert.Equal(t, test.reads, f.reads("x"), name)
				closed(t, p, f)
			})
		}
	}

	inBubble(t, "in a window that is full: the cause alone", func(t *testing.T) {
		f := newFake(t)
		f.think = after(500 * ms)
		p := f.newPool(1)
		var first sync.WaitGroup
		first.Go(func() { request{}.check(t, p) })
		settle()
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*ms, cause)
		defer cancel()
		_, _, err := request{}.do(ctx, p)
		assert.Equal(t, cause, err)
		first.Wait()
		closed(t, p, f)
	})

	inBubble(t, "before the request: the cause, and nothing is dialled", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, _, err := request{}.do(ctx, p)
		assert.Equal(t, cause, err)
		settle()
		_, _, total, _ := f.counts()
		assert.Zero(t, total)
		closed(t, p, f)
	})

	inBubble(t, "just when the connection is there: it is not lost", func(t *testing.T) {
		for range 200 {
			f := newFake(t)
			f.latency = 10 * ms
			p := f.newPool(64)
			ctx, cancel := context.WithTimeout(t.Context(), f.latency)
			request{}.do(ctx, p)
			cancel()
			settle()
			assert.NoError(t, p.consistent())
			p.Close()
			settle()
			open, _, _, _ := f.counts()
			assert.Zero(t, open)
		}
	})

	inBubble(t, "a request that gives up in front does not hold up the others", func(t *testing.T) {
		f := newFake(t)
		f.set(-1, 0)
		p := f.newPool(64)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { request{}.do(ctx, p) })
		settle()
		all.Go(func() { request{}.check(t, p) })
		time.Sleep(990 * ms)
		f.set(100, 0)
		took := timed(all.Wait)
		assert.LessOrEqual(t, took, 300*ms)
		closed(t, p, f)
	})
}

// countingContext counts the derived contexts that have not ended.
type countingContext struct {
	context.Context
	done     chan struct{}
	children atomic.Int64
}

func (c *countingContext) Done() <-chan struct{} { return c.done }

func (c *countingContext) AfterFunc(func()) func() bool {
	c.children.Add(1)
	var once sync.Once
	return func() bool {
		once.Do(func() { c.children.Add(-1) })
		return true
	}
}

// TestNothingIsLeftInContexts sends many requests with one context.
func TestNothingIsLeftInContexts(t *testing.T) {
	for name, fault := range map[string]func(*fake){
		"requests that succeed leave nothing in their context": func(*fake) {},
		"requests without a body leave nothing in their context": func(f *fake) {
			f.paths["/"] = func(c *peer, _ *http.Request) bool { return c.write("HTTP/1.1 204 No Content\r\n\r\n") }
		},
		"requests that are lost leave nothing in their context":         func(f *fake) { f.paths["/"] = hangUp },
		"requests that are refused leave nothing in their context":      func(f *fake) { f.set(-1, 0) },
		"requests without a connection leave nothing in their context":  func(f *fake) { f.onDial = func(context.Context) error { return io.EOF } },
		"requests that are cut leave nothing in their context":          func(f *fake) { f.paths["/"] = replies("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx") },
		"requests whose headers are cut leave nothing in their context": func(f *fake) { f.paths["/"] = replies("HTTP/1.1 200") },
		"switched protocols leave nothing in their context": func(f *fake) {
			f.paths["/"] = replies("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			fault(f)
			p := f.newPool(64)
			ctx := &countingContext{Context: context.Background(), done: make(chan struct{})}
			crowd(8, func(int) {
				for range 20 {
					res, err := p.RoundTrip(request{}.build(ctx))
					if err == nil {
						assert.Same(t, ctx, res.Request.Context(), name)
						io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				}
			})
			assert.Zero(t, ctx.children.Load(), name)
			closed(t, p, f)
		})
	}
}
