package nomad_test

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// TestDoSends checks the HTTP request that Do makes from a Request.
func TestDoSends(t *testing.T) {
	var got *http.Request
	var body string
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		got, body = r, string(content)
		w.Header().Set("X-Nomad-Index", "42")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"a":1}`)
	}), nomad.WithNamespace("ops"), nomad.WithRegion("eu"))
	for name, test := range map[string]struct {
		req                                   nomad.Request
		method, query, contentType, body, own string
	}{
		"only a path":                 {nomad.Request{Path: "/v1/x"}, "GET", "namespace=ops&region=eu", "", "", ""},
		"a query of its own":          {nomad.Request{Path: "/v1/x", Query: url.Values{"namespace": {"*"}}}, "GET", "namespace=%2A&region=eu", "", "", ""},
		"a struct":                    {nomad.Request{Method: "put", Path: "/v1/x", Body: struct{ A int }{1}}, "PUT", "namespace=ops&region=eu", "application/json", `{"A":1}`, ""},
		"bytes":                       {nomad.Request{Method: "POST", Path: "/v1/x", Body: []byte("job {}")}, "POST", "namespace=ops&region=eu", "", "job {}", ""},
		"a reader with its type":      {nomad.Request{Method: "PUT", Path: "/v1/x", Body: strings.NewReader("x"), Header: http.Header{"Content-Type": {"text/plain"}}}, "PUT", "namespace=ops&region=eu", "text/plain", "x", ""},
		"a header in whatever case":   {nomad.Request{Path: "/v1/x", Header: http.Header{"x-own": {"b"}}}, "GET", "namespace=ops&region=eu", "", "", "b"},
		"JSON with a type of its own": {nomad.Request{Method: "PUT", Path: "/v1/x", Body: 1, Header: http.Header{"Content-Type": {"application/x"}}}, "PUT", "namespace=ops&region=eu", "application/x", "1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out map[string]int
			res, err := client.Do(t.Context(), &test.req, &out)
			require.NoError(t, err)
			assert.Equal(t, map[string]int{"a": 1}, out)
			assert.Equal(t, http.StatusCreated, res.StatusCode)
			assert.EqualValues(t, 42, res.Index())
			assert.Equal(t, test.method, got.Method)
			assert.Equal(t, test.query, got.URL.RawQuery)
			assert.Equal(t, test.contentType, got.Header.Get("Content-Type"))
			assert.Equal(t, test.own, got.Header.Get("X-Own"))
			assert.Equal(t, test.body, body)
		})
	}
	for name, header := range map[string]http.Header{
		`"X-Nomad-Token": use WithToken or WithTokenFile`: {"X-Nomad-Token": {"x"}},
		`"a b" is not the name of a header`:               {"a b": {"x"}},
		`"X-A": the value has a character`:                {"X-A": {"a\nb"}},
	} {
		_, err := client.Do(t.Context(), &nomad.Request{Path: "/v1/x", Header: header}, nil)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
		assert.ErrorContains(t, err, name)
	}
}

// TestDoBlocks checks that the wait time of a blocking query is added to the time limit.
func TestDoBlocks(t *testing.T) {
	t.Parallel()
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(400 * time.Millisecond):
		case <-r.Context().Done():
		}
		io.WriteString(w, "[]")
	}), nomad.WithTimeout(200*time.Millisecond))
	for query, fits := range map[string]bool{"index=5&wait=30s": true, "index=5": true, "index=0&wait=30s": false, "wait=30s": false, "": false} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = client.Do(t.Context(), &nomad.Request{Path: "/v1/jobs", Query: values}, nil)
		assert.Equal(t, fits, err == nil, "%q: %v", query, err)
	}
}

// TestDoRetries checks which requests are retried.
func TestDoRetries(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		requests.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}), nomad.WithRetries(1))
	for name, test := range map[string]struct {
		req  nomad.Request
		want int32
	}{
		"GET":                          {nomad.Request{}, 2},
		"PUT":                          {nomad.Request{Method: "PUT", Body: 1}, 1},
		"an idempotent PUT":            {nomad.Request{Method: "PUT", Body: 1, Idempotent: true}, 2},
		"a body that can be read once": {nomad.Request{Method: "PUT", Body: strings.NewReader("x"), Idempotent: true}, 1},
		"a body of one byte":           {nomad.Request{Method: "PUT", Body: []byte("x"), Idempotent: true}, 2},
	} {
		requests.Store(0)
		test.req.Path = "/v1/x"
		_, err := client.Do(t.Context(), &test.req, nil)
		assert.Error(t, err, name)
		assert.Equal(t, test.want, requests.Load(), name)
	}
}

// TestDoSendsReadersOnce checks that a body that is an io.Reader is sent once, also if its type can be read again.
func TestDoSendsReadersOnce(t *testing.T) {
	t.Parallel()
	for kind, test := range map[string]struct {
		body   func() io.Reader
		length int64
	}{
		"a strings.Reader": {func() io.Reader { return strings.NewReader("abc") }, 3},
		"a bytes.Reader":   {func() io.Reader { return bytes.NewReader([]byte("abc")) }, 3},
		"a bytes.Buffer":   {func() io.Reader { return bytes.NewBufferString("abc") }, 3},
		"another reader":   {func() io.Reader { return io.MultiReader(strings.NewReader("abc")) }, -1},
	} {
		var sent atomic.Int32
		var length atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if r.URL.Path == "/v1/warm" {
				return
			}
			sent.Add(1)
			length.Store(r.ContentLength)
			assert.Equal(t, "abc", string(body), kind)
			switch r.URL.Path {
			case "/v1/lost":
				panic(http.ErrAbortHandler)
			case "/v1/redirected":
				http.Redirect(w, r, "/v1/x", http.StatusTemporaryRedirect)
			case "/v1/ui":
				http.Redirect(w, r, "/ui/x", http.StatusTemporaryRedirect)
			case "/v1/elsewhere":
				http.Redirect(w, r, "http://nomad.example/v1/x", http.StatusPermanentRedirect)
			}
		}))
		t.Cleanup(server.Close)
		own := clientOf(t, nomad.WithAddress(server.URL))
		others := clientOf(t, nomad.WithAddress(server.URL), nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{}}))
		for name, client := range map[string]*nomad.Client{"": own, ", with WithHTTPClient": others} {
			for _, method := range []string{"GET", "PUT"} {
				for path, want := range map[string]error{
					"/v1/x":          nil,
					"/v1/redirected": nomad.ErrRedirect,
					"/v1/elsewhere":  nomad.ErrRedirect,
					"/v1/ui":         nomad.ErrUnsupported,
					"/v1/lost":       io.EOF,
				} {
					_, err := client.Do(t.Context(), &nomad.Request{Path: "/v1/warm"}, nil)
					require.NoError(t, err)
					sent.Store(0)
					_, err = client.Do(t.Context(), &nomad.Request{Method: method, Path: path, Body: test.body(), Idempotent: true}, nil)
					assert.ErrorIs(t, err, want, "%s: %s %s%s", kind, method, path, name)
					assert.EqualValues(t, 1, sent.Load(), "%s: %s %s%s", kind, method, path, name)
					if method == "PUT" {
						assert.Equal(t, test.length, length.Load(), "%s: %s%s", kind, path, name)
					}
				}
			}
		}
	}
}

// TestDoWithFullAgent checks that a body that is an io.Reader does not wait for a full agent.
func TestDoWithFullAgent(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		sent.Add(1)
		w.Header()["Date"] = nil
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, agentsRefusal)
	}))
	_, err := client.Do(t.Context(), &nomad.Request{Method: "POST", Path: "/v1/x", Body: strings.NewReader("abc")}, nil)
	assert.ErrorIs(t, err, nomad.ErrTooManyRequests)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualValues(t, 1, sent.Load())
}

// TestIdempotencyKey checks that the header Idempotency-Key is sent as any other, and that Request.Idempotent alone decides
// whether a request is sent again.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	var got atomic.Value // of []string, the header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got.Store(r.Header["Idempotency-Key"])
		if sent.Add(1) == 1 && strings.HasPrefix(r.URL.Path, "/v1/lost") {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	own := clientOf(t, nomad.WithAddress(server.URL))
	others := clientOf(t, nomad.WithAddress(server.URL), nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{}}))
	withKey, err := own.With(nomad.WithHeader("Idempotency-Key", "b"))
	require.NoError(t, err)
	header := http.Header{"Idempotency-Key": {"a"}}
	for name, test := range map[string]struct {
		client *nomad.Client
		req    nomad.Request
		key    []string
		sent   int32
	}{
		"not idempotent":                                    {own, nomad.Request{}, nil, 1},
		"idempotent":                                        {own, nomad.Request{Idempotent: true}, nil, 1},
		"a key":                                             {own, nomad.Request{Header: header}, []string{"a"}, 1},
		"idempotent, with a key":                            {own, nomad.Request{Header: header, Idempotent: true}, []string{"a"}, 1},
		"a GET with a key":                                  {own, nomad.Request{Header: header, Method: "GET"}, []string{"a"}, 1},
		"WithHeader":                                        {withKey, nomad.Request{}, []string{"b"}, 1},
		"WithHeader, idempotent":                            {withKey, nomad.Request{Idempotent: true}, []string{"b"}, 1},
		"WithHTTPClient, idempotent":                        {others, nomad.Request{Idempotent: true}, nil, 1},
		"WithHTTPClient, idempotent, with a key":            {others, nomad.Request{Header: header, Idempotent: true}, []string{"a"}, 1},
		"lost, not idempotent: once":                        {own, nomad.Request{Path: "/v1/lost"}, nil, 1},
		"lost, idempotent: again":                           {own, nomad.Request{Path: "/v1/lost", Idempotent: true}, nil, 2},
		"lost, with a key: once":                            {own, nomad.Request{Path: "/v1/lost", Header: header}, []string{"a"}, 1},
		"lost, WithHeader: once":                            {withKey, nomad.Request{Path: "/v1/lost"}, []string{"b"}, 1},
		"lost, idempotent, with a key: again":               {own, nomad.Request{Path: "/v1/lost", Header: header, Idempotent: true}, []string{"a"}, 2},
		"lost, WithHTTPClient, idempotent: again":           {others, nomad.Request{Path: "/v1/lost", Idempotent: true}, nil, 2},
		"lost, WithHTTPClient, idempotent, with key: again": {others, nomad.Request{Path: "/v1/lost", Header: header, Idempotent: true}, []string{"a"}, 2},
	} {
		test.req.Path = cmp.Or(test.req.Path, "/v1/x")
		test.req.Method = cmp.Or(test.req.Method, "POST")
		test.req.Body = 1
		sent.Store(0)
		_, err := test.client.Do(t.Context(), &test.req, nil)
		assert.Equal(t, test.sent == 1 && test.req.Path == "/v1/lost", err != nil, "%s: %v", name, err)
		assert.Equal(t, test.key, got.Load(), name)
		assert.Equal(t, test.sent, sent.Load(), name)
	}
	for _, idempotent := range []bool{true, false} {
		sent.Store(0)
		_, err = withKey.Do(t.Context(), &nomad.Request{Method: "POST", Path: "/v1/lost", Idempotent: idempotent}, nil)
		assert.Equal(t, idempotent, err == nil, "without a body: %v", err)
	}
}

// TestDoReplaces checks that Do replaces what out holds, and leaves it as it is if there is an error.
func TestDoReplaces(t *testing.T) {
	body := ""
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
	type job struct{ ID, Status string }
	jobs := []job{{"old", "running"}, {"other", "dead"}}
	body = `[{"ID":"a","Status":"x"},{"ID":7}]`
	_, err := client.Do(t.Context(), &nomad.Request{Path: "/v1/jobs"}, &jobs)
	assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
	assert.Equal(t, []job{{"old", "running"}, {"other", "dead"}}, jobs)
	body = `[{"ID":"a"}]`
	_, err = client.Do(t.Context(), &nomad.Request{Path: "/v1/jobs"}, &jobs)
	require.NoError(t, err)
	assert.Equal(t, []job{{"a", ""}}, jobs)
}

// slow is a result that takes longer to decode than the context lasts.
type slow struct{ Healthy bool }

var endContext context.CancelFunc

func (s *slow) UnmarshalJSON([]byte) error {
	s.Healthy = true
	endContext()
	return nil
}

// TestDoEnds ends the context while a response is decoded.
func TestDoEnds(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusTooManyRequests} {
		client := newClient(t, responding(status, "application/json", `{"Healthy":false}`))
		var ctx context.Context
		ctx, endContext = context.WithCancel(t.Context())
		var out slow
		res, err := client.Do(ctx, &nomad.Request{Path: "/v1/operator/autopilot/health"}, &out)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorAs(t, err, new(*nomad.APIError))
		assert.Nil(t, res)
		assert.Zero(t, out)
	}
}

// TestDoLeavesOut ends the context when the whole response was read.
func TestDoLeavesOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"a":1}`) }),
		nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := next.RoundTrip(r)
				if err == nil {
					content, _ := io.ReadAll(res.Body)
					res.Body.Close()
					res.Body = io.NopCloser(strings.NewReader(string(content)))
					cancel()
				}
				return res, err
			})
		}))
	raw, decoded := []byte("before"), map[string]int{"before": 1}
	if _, err := client.Do(ctx, &nomad.Request{Path: "/v1/x"}, &raw); err != nil {
		assert.Equal(t, "before", string(raw))
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer func() { cancel() }()
	if _, err := client.Do(ctx, &nomad.Request{Path: "/v1/x"}, &decoded); err != nil {
		assert.Equal(t, map[string]int{"before": 1}, decoded)
	}
}

// TestMarksOfWrappers has a wrapper send a request of its own with the context of another one.
func TestMarksOfWrappers(t *testing.T) {
	var sent atomic.Int32
	lost := newClient(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		sent.Add(1)
		panic(http.ErrAbortHandler)
	}))
	for name, send := range map[string]func(ctx context.Context) error{
		"Do": func(ctx context.Context) error {
			_, err := lost.Do(ctx, &nomad.Request{Method: "POST", Path: "/v1/jobs", Body: 1}, nil)
			return err
		},
		"HTTPClient": func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, "POST", lost.Address()+"/v1/jobs", strings.NewReader("1"))
			require.NoError(t, err)
			res, err := lost.HTTPClient().Do(req)
			if err == nil {
				res.Body.Close()
			}
			return err
		},
	} {
		sent.Store(0)
		client := newClient(t, responding(200, "application/json", `["a:1"]`), nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				assert.Error(t, send(r.Context()))
				return next.RoundTrip(r)
			})
		}))
		_, err := client.Agent.Servers(t.Context())
		assert.NoError(t, err)
		assert.EqualValues(t, 1, sent.Load(), name)
	}
}

// TestHeadersAreCopies has a wrapper change the headers of a request.
func TestHeadersAreCopies(t *testing.T) {
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "secret-of-mine", r.Header.Get("X-Own"))
		io.WriteString(w, `["a:1"]`)
	}), nomad.WithHeader("X-Own", "secret-of-mine"), nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			r.Header["X-Own"][0] = "***"
			return res, err
		})
	}))
	for range 2 {
		_, err := client.Agent.Servers(t.Context())
		assert.NoError(t, err)
	}
}

// TestResponseWithError has a wrapper return a response together with an error.
func TestResponseWithError(t *testing.T) {
	var closed atomic.Int32
	client := newClient(t, responding(200, "application/json", `["a:1"]`), nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			if err == nil {
				res.Body = closing{res.Body, &closed}
			}
			return res, io.ErrUnexpectedEOF
		})
	}), nomad.WithRetries(0))
	_, err := client.Agent.Servers(t.Context())
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.EqualValues(t, 1, closed.Load(), "the body is closed")
}

type closing struct {
	io.ReadCloser
	closed *atomic.Int32
}

func (c closing) Close() error {
	c.closed.Add(1)
	return c.ReadCloser.Close()
}
