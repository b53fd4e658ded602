package nomad_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// seenRequest is a request as the agent received it.
type seenRequest struct {
	Method, URI, Host, From string
	Header                  http.Header
	Body                    string
	Length                  int64
}

// recordingAgent records the requests that it receives. It responds with the request as JSON, or as
// respond does if that is set.
type recordingAgent struct {
	*httptest.Server
	respond http.HandlerFunc
	count   *counter

	mu   sync.Mutex
	seen []seenRequest
}

func newRecordingAgent(t *testing.T, respond http.HandlerFunc) *recordingAgent {
	a := &recordingAgent{respond: respond}
	a.Server = httptest.NewUnstartedServer(a)
	a.count = &counter{Listener: a.Listener}
	a.Listener = a.count
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *recordingAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	seen := seenRequest{r.Method, r.RequestURI, r.Host, r.RemoteAddr, r.Header, string(body), r.ContentLength}
	a.mu.Lock()
	a.seen = append(a.seen, seen)
	a.mu.Unlock()
	if a.respond != nil {
		a.respond(w, r)
		return
	}
	json.NewEncoder(w).Encode(seen)
}

// received returns all recorded requests.
func (a *recordingAgent) received() []seenRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]seenRequest(nil), a.seen...)
}

// last returns the most recent request.
func (a *recordingAgent) last(t *testing.T) seenRequest {
	t.Helper()
	seen := a.received()
	require.NotEmpty(t, seen)
	return seen[len(seen)-1]
}

// client returns a client that sends its requests to the agent.
func (a *recordingAgent) client(t *testing.T, opts ...nomad.Option) *nomad.Client {
	return clientOf(t, append([]nomad.Option{nomad.WithAddress(a.URL)}, opts...)...)
}

// send sends a request and returns the response with its body, which it reads and closes.
func send(
	t *testing.T, h *http.Client, method, address string, body io.Reader, header http.Header,
) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	require.NoError(t, err)
	req.Header = header
	return do(h, req)
}

func do(h *http.Client, req *http.Request) (*http.Response, string, error) {
	res, err := h.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// get sends a GET request, which must succeed, and returns the body.
func get(t *testing.T, h *http.Client, address string) string {
	t.Helper()
	res, text, err := send(t, h, http.MethodGet, address, nil, http.Header{})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	return text
}

func TestHTTPClientAddress(t *testing.T) {
	for given, want := range map[string]string{
		"127.0.0.1:4646":                   "http://127.0.0.1:4646",
		"HTTPS://nomad.example.com/eu%2F1": "https://nomad.example.com/eu%2F1",
		"unix:///secrets/api.sock":         "unix:///secrets/api.sock",
	} {
		assert.Equal(t, want, clientOf(t, nomad.WithAddress(given)).Address())
	}
	assert.Equal(t, nomad.DefaultAddress, clientOf(t).Address())
}

func TestHTTPClientToken(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	with, without := agent.client(t, nomad.WithToken("clients")), agent.client(t)
	for _, row := range []struct {
		name   string
		client *nomad.Client
		header http.Header
		token  []string // that the agent receives
	}{
		{"request without a token gets the Client's", with, http.Header{}, []string{"clients"}},
		{"request without headers gets the Client's", with, nil, []string{"clients"}},
		{"empty token is replaced by the Client's", with, http.Header{"X-Nomad-Token": {""}}, []string{"clients"}},
		{"X-Nomad-Token stays", with, http.Header{"X-Nomad-Token": {"own"}}, []string{"own"}},
		{"X-Nomad-Token in another spelling stays alone", with, http.Header{"x-nomad-token": {"own"}}, []string{"own"}},
		{"bearer token stays alone", with, http.Header{"Authorization": {"Bearer own"}}, nil},
		{"bearer token in lower case stays alone", with, http.Header{"Authorization": {"bearer own"}}, nil},
		{"basic authentication is no token", with, http.Header{"Authorization": {"Basic b3duOm93bg=="}}, []string{"clients"}},
		{"Client without a token adds none", without, http.Header{}, nil},
		{"Client without a token leaves the request's", without, http.Header{"X-Nomad-Token": {"own"}}, []string{"own"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.header.Clone()
			_, _, err := send(t, row.client.HTTPClient(), http.MethodGet, row.client.Address()+"/v1/jobs", nil, row.header)
			require.NoError(t, err)
			got := agent.last(t)
			assert.Equal(t, row.token, got.Header["X-Nomad-Token"])
			assert.Equal(t, before["Authorization"], got.Header["Authorization"])
			assert.Equal(t, before, row.header, "the caller's request does not change")
		})
	}
}

func TestHTTPClientTokenFollowsItsFile(t *testing.T) {
	t.Parallel()
	agent := newRecordingAgent(t, nil)
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("first\n"), 0o600))
	client := agent.client(t, nomad.WithTokenFile(path))
	h := client.HTTPClient()
	token := func() string {
		get(t, h, agent.URL+"/v1/jobs")
		return agent.last(t).Header.Get("X-Nomad-Token")
	}
	assert.Equal(t, "first", token())
	require.NoError(t, os.WriteFile(path, []byte("second\n"), 0o600))
	assert.Eventually(t, func() bool { return token() == "second" }, 20*time.Second, 50*time.Millisecond)
}

func TestHTTPClientAcceptEncoding(t *testing.T) {
	for _, row := range []struct {
		name string
		opts []nomad.Option
		want map[string]string // by the header of the request
	}{
		{"dropped", nil, map[string]string{"": "", "gzip": "", "br": ""}},
		{"unchanged WithCompression", []nomad.Option{nomad.WithCompression(true)},
			map[string]string{"": "", "gzip": "gzip", "br": "br"}},
		{"identity WithHTTPClient, whose transport would ask for gzip",
			[]nomad.Option{nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})},
			map[string]string{"": "identity", "gzip": "identity"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			agent := newRecordingAgent(t, nil)
			h := agent.client(t, row.opts...).HTTPClient()
			for given, want := range row.want {
				header := http.Header{}
				if given != "" {
					header.Set("Accept-Encoding", given)
				}
				_, _, err := send(t, h, http.MethodGet, agent.URL+"/v1/jobs", nil, header)
				require.NoError(t, err)
				assert.Equal(t, want, agent.last(t).Header.Get("Accept-Encoding"), given)
			}
		})
	}
}

func TestHTTPClientResponseThatIsCompressedComesUnchanged(t *testing.T) {
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, zip("hello"))
	})
	h := agent.client(t, nomad.WithCompression(true)).HTTPClient()
	res, text, err := send(t, h, http.MethodGet, agent.URL+"/v1/jobs", nil, http.Header{"Accept-Encoding": {"gzip"}})
	require.NoError(t, err)
	assert.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
	assert.Equal(t, zip("hello"), text)
}

func TestHTTPClientRequestsComeUnchanged(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	// None of these options applies to requests of other code.
	h := agent.client(t, nomad.WithRegion("eu"), nomad.WithBasicAuth("ops", "hunter2"),
		nomad.WithHeader("X-Team", "a"), nomad.WithUserAgent("me/1")).HTTPClient()
	const uri = "/v1/job/web%2Ffront/plan?namespace=a+b&x=%2F"
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LIST"} {
		for name, newBody := range map[string]func() io.Reader{
			"no body":                    func() io.Reader { return nil },
			"body with a known length":   func() io.Reader { return strings.NewReader("hello") },
			"body that can be read once": func() io.Reader { return struct{ io.Reader }{strings.NewReader("hello")} },
		} {
			t.Run(method+" with "+name, func(t *testing.T) {
				header := http.Header{"X-A": {"1", "2"}, "User-Agent": {"other/1"}, "Accept": {"text/plain"}}
				res, _, err := send(t, h, method, agent.URL+uri, newBody(), header)
				require.NoError(t, err)
				assert.Equal(t, http.StatusOK, res.StatusCode)
				got := agent.last(t)
				assert.Equal(t, method, got.Method)
				assert.Equal(t, uri, got.URI)
				assert.Equal(t, agent.Listener.Addr().String(), got.Host)
				want := header.Clone()
				if name == "no body" {
					assert.Empty(t, got.Body)
				} else {
					assert.Equal(t, "hello", got.Body)
				}
				for _, length := range []string{"Content-Length"} {
					got.Header.Del(length)
				}
				assert.Equal(t, want, got.Header)
			})
		}
	}
	t.Run("Host and user of the URL are sent", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"http://own:secret@"+agent.Listener.Addr().String()+"/v1/jobs", nil)
		require.NoError(t, err)
		req.Host = "nomad.example"
		_, _, err = do(h, req)
		require.NoError(t, err)
		assert.Equal(t, "nomad.example", agent.last(t).Host)
		assert.Equal(t, "Basic b3duOnNlY3JldA==", agent.last(t).Header.Get("Authorization"))
	})
}

func TestHTTPClientResponsesComeUnchanged(t *testing.T) {
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("X-Nomad-Index", "7")
		w.Header().Add("X-A", "1")
		w.Header().Add("X-A", "2")
		w.Header().Set("Trailer", "X-End")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			fmt.Fprint(w, "status ", status)
			w.Header().Set("X-End", "3")
		}
	})
	h := agent.client(t, nomad.WithRetries(4)).HTTPClient()
	for i, status := range []int{200, 201, 204, 400, 403, 404, 429, 500, 501, 502, 503, 504} {
		t.Run(fmt.Sprintf("%d is sent once", status), func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprint(agent.URL, "/v1/jobs?status=", status), nil)
			require.NoError(t, err)
			res, text, err := do(h, req)
			require.NoError(t, err)
			assert.Equal(t, status, res.StatusCode)
			assert.Equal(t, []string{"1", "2"}, res.Header["X-A"])
			assert.Equal(t, "7", res.Header.Get("X-Nomad-Index"))
			assert.Same(t, req.URL, res.Request.URL)
			if status != http.StatusNoContent {
				assert.Equal(t, fmt.Sprint("status ", status), text)
				assert.Equal(t, "3", res.Trailer.Get("X-End"))
			}
			assert.Len(t, agent.received(), i+1)
		})
	}
}

func TestHTTPClientHasNoLimitsOfCalls(t *testing.T) {
	t.Parallel()
	t.Run("body larger than WithMaxResponseSize is not cut", func(t *testing.T) {
		large := strings.Repeat("x", 5<<20)
		agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, large) })
		assert.Len(t, get(t, agent.client(t, nomad.WithMaxResponseSize(1000)).HTTPClient(), agent.URL), len(large))
	})
	t.Run("request longer than WithTimeout is not ended", func(t *testing.T) {
		agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(50 * time.Millisecond)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
			io.WriteString(w, "late")
		})
		assert.Equal(t, "late", get(t, agent.client(t, nomad.WithTimeout(time.Millisecond)).HTTPClient(), agent.URL))
	})
	t.Run("request ends with its context, before the headers and after", func(t *testing.T) {
		for _, flushed := range []bool{false, true} {
			client := newClient(t, stalling(t, func(w http.ResponseWriter) {
				if flushed {
					w.(http.Flusher).Flush()
				}
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Address(), nil)
			require.NoError(t, err)
			_, _, err = do(client.HTTPClient(), req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
	t.Run("request ends with the Timeout of the http.Client", func(t *testing.T) {
		client := newClient(t, stalling(t, func(http.ResponseWriter) {}))
		h := client.HTTPClient()
		h.Timeout = 50 * time.Millisecond
		_, _, err := send(t, h, http.MethodGet, client.Address(), nil, nil)
		var limit net.Error
		require.ErrorAs(t, err, &limit)
		assert.True(t, limit.Timeout())
	})
	t.Run("headers larger than the Client takes are an error", func(t *testing.T) {
		agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-A", strings.Repeat("x", 2<<20))
		})
		_, _, err := send(t, agent.client(t).HTTPClient(), http.MethodGet, agent.URL, nil, nil)
		assert.ErrorContains(t, err, "response headers exceeded")
	})
}

// TestHTTPClientDestinations replaces the transport, records the requests and checks which of them
// carry the token.
func TestHTTPClientDestinations(t *testing.T) {
	const dots = "bug: a path with .. counts as below the Client's path"
	const escapes = "bug: paths are compared unescaped"
	for _, row := range []struct {
		name, base, url string
		own             bool
		bug             string // known bug that makes the case fail
	}{
		{"same address", "http://a.example:4646", "http://a.example:4646/v1/jobs", true, ""},
		{"same address without a path", "http://a.example:4646", "http://a.example:4646", true, ""},
		{"host in another case", "http://a.example:4646", "http://A.Example:4646/v1/jobs", true, ""},
		{"address in another case", "http://A.Example:4646", "http://a.example:4646/v1/jobs", true, ""},
		{"scheme in another case", "http://a.example:4646", "HTTP://a.example:4646/v1/jobs", true, ""},
		{"default port of http", "http://a.example", "http://a.example:80/v1/jobs", true, ""},
		{"default port of https", "https://a.example:443", "https://a.example/v1/jobs", true, ""},
		{"IPv6", "http://[::1]:4646", "http://[::1]:4646/v1/jobs", true, ""},
		{"below the path", "http://a.example/eu", "http://a.example/eu/v1/jobs", true, ""},
		{"the path itself", "http://a.example/eu", "http://a.example/eu", true, ""},
		{"below the escaped path", "http://a.example/eu%2F1", "http://a.example/eu%2F1/v1/jobs", true, ""},

		{"another host", "http://a.example:4646", "http://b.example:4646/v1/jobs", false, ""},
		{"host below the host", "http://a.example:4646", "http://b.a.example:4646/v1/jobs", false, ""},
		{"host that begins the same", "http://a.example:4646", "http://a.example.com:4646/v1/jobs", false, ""},
		{"host as user", "http://a.example:4646", "http://a.example:4646@b.example:4646/v1/jobs", false, ""},
		{"another port", "http://a.example:4646", "http://a.example:4647/v1/jobs", false, ""},
		{"default port", "http://a.example:4646", "http://a.example/v1/jobs", false, ""},
		{"https in place of http", "http://a.example:4646", "https://a.example:4646/v1/jobs", false, ""},
		{"http in place of https", "https://a.example:4646", "http://a.example:4646/v1/jobs", false, ""},
		{"another path", "http://a.example/eu", "http://a.example/us/v1/jobs", false, ""},
		{"path that begins the same", "http://a.example/eu", "http://a.example/europe/v1/jobs", false, ""},
		{"path above", "http://a.example/eu", "http://a.example/v1/jobs", false, ""},
		{"path in another case", "http://a.example/eu", "http://a.example/EU/v1/jobs", false, ""},
		{"path that leaves the Client's path", "http://a.example/eu", "http://a.example/eu/../us/v1/jobs", false, dots},
		{"escaped path that leaves the Client's path", "http://a.example/eu", "http://a.example/eu/%2e%2e/us/v1/jobs", false, dots},
		{"unescaped path", "http://a.example/eu%2F1", "http://a.example/eu/1/v1/jobs", false, escapes},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.bug != "" {
				t.Skip(row.bug)
			}
			var got http.Header
			outside := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				got = r.Header
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			})}
			client := clientOf(t, nomad.WithAddress(row.base), nomad.WithHTTPClient(outside), nomad.WithToken("clients"),
				nomad.WithBasicAuth("ops", "hunter2"), nomad.WithHeader("X-Team", "a"))
			_, _, err := send(t, client.HTTPClient(), http.MethodGet, row.url, nil, http.Header{"X-Own": {"b"}})
			require.NoError(t, err)
			assert.Equal(t, row.own, got.Get("X-Nomad-Token") != "")
			assert.Equal(t, "b", got.Get("X-Own"))
			assert.NotContains(t, got, "X-Team")
			if row.name != "host as user" {
				assert.NotContains(t, got, "Authorization")
			}
		})
	}
}

func TestHTTPClientSendsNoSecretToAnotherServer(t *testing.T) {
	agent, other := newRecordingAgent(t, nil), newRecordingAgent(t, nil)
	client := agent.client(t, nomad.WithToken("clients"), nomad.WithBasicAuth("ops", "hunter2"),
		nomad.WithHeader("X-Team", "a"))
	h := client.HTTPClient()
	get(t, h, other.URL+"/v1/jobs")
	for _, name := range []string{"X-Nomad-Token", "Authorization", "X-Team"} {
		assert.NotContains(t, other.last(t).Header, name)
	}
	_, _, err := send(t, h, http.MethodGet, other.URL+"/v1/jobs", nil, http.Header{"X-Nomad-Token": {"others"}})
	require.NoError(t, err)
	assert.Equal(t, "others", other.last(t).Header.Get("X-Nomad-Token"), "the request's own token is sent to any server")
	assert.Empty(t, agent.received())
}

func TestHTTPClientRedirects(t *testing.T) {
	other := newRecordingAgent(t, nil)
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			status, _ := strconv.Atoi(r.URL.Query().Get("status"))
			w.Header().Set("Location", to)
			w.WriteHeader(status)
		}
	})
	port := agent.Listener.Addr().(*net.TCPAddr).Port
	client := agent.client(t, nomad.WithToken("clients"))
	prefixed, err := client.With(nomad.WithAddress(agent.URL + "/eu"))
	require.NoError(t, err)
	for _, row := range []struct {
		name, method string
		status       int
		to           string
		followed     bool
	}{
		{"path on the same host", "GET", 307, "/v1/there", true},
		{"URL on the same host", "GET", 302, agent.URL + "/v1/there", true},
		{"PUT on the same host", "PUT", 307, "/v1/there", true},
		{"PUT that would become a GET", "PUT", 302, "/v1/there", false},
		{"another port", "GET", 307, other.URL + "/v1/there", false},
		{"another name of the host", "GET", 307, fmt.Sprintf("http://localhost:%d/v1/there", port), false},
		{"URL without a scheme to another port", "GET", 307, strings.TrimPrefix(other.URL, "http:") + "/v1/there", false},
		{"another scheme and host", "GET", 307, "https://nomad.example/v1/there", false},
		{"PUT to another port", "PUT", 307, other.URL + "/v1/there", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := len(agent.received())
			var body io.Reader
			if row.method == "PUT" {
				body = strings.NewReader("hello")
			}
			address := fmt.Sprintf("%s/v1/here?status=%d&to=%s", agent.URL, row.status, url.QueryEscape(row.to))
			res, _, err := send(t, client.HTTPClient(), row.method, address, body, nil)
			seen := agent.received()[before:]
			assert.Empty(t, other.received())
			if !row.followed {
				require.ErrorIs(t, err, nomad.ErrRedirect)
				assert.Nil(t, res)
				assert.Len(t, seen, 1)
				return
			}
			require.NoError(t, err)
			require.Len(t, seen, 2)
			assert.Equal(t, "/v1/there", seen[1].URI)
			for _, request := range seen {
				assert.Equal(t, row.method, request.Method)
				assert.Equal(t, "clients", request.Header.Get("X-Nomad-Token"))
				if body != nil {
					assert.Equal(t, "hello", request.Body)
				}
			}
		})
	}
	t.Run("redirect out of the Client's path gets no token", func(t *testing.T) {
		before := len(agent.received())
		get(t, prefixed.HTTPClient(), agent.URL+"/eu/v1/here?status=307&to=/us/v1/there")
		seen := agent.received()[before:]
		require.Len(t, seen, 2)
		assert.Equal(t, "clients", seen[0].Header.Get("X-Nomad-Token"))
		assert.NotContains(t, seen[1].Header, "X-Nomad-Token")
	})
	t.Run("endless redirects are an error", func(t *testing.T) {
		var loop *recordingAgent
		loop = newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, loop.URL+"/v1/there", http.StatusTemporaryRedirect)
		})
		_, _, err := send(t, loop.client(t).HTTPClient(), http.MethodGet, loop.URL, nil, nil)
		assert.ErrorIs(t, err, nomad.ErrRedirect)
	})
}

// trackedBody is a request body that records whether it was closed.
type trackedBody struct {
	io.Reader
	closed atomic.Bool
}

func (b *trackedBody) Close() error {
	b.closed.Store(true)
	return nil
}

// TestHTTPClientCountsRequests checks which requests do not count towards WithMaxConns.
func TestHTTPClientCountsRequests(t *testing.T) {
	const requests = 12
	for query, blocking := range map[string]bool{
		"index=7": true, "wait=1m&index=7": true, "index=0": false, "last_index=7": false, "a=index%3D7": false, "a=index=7": false, "": false,
	} {
		t.Run(query, func(t *testing.T) {
			var mu sync.Mutex
			now, most := 0, 0
			all := make(chan struct{}) // closed when all requests are in progress
			server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				mu.Lock()
				now++
				if most = max(most, now); now == requests {
					close(all)
				}
				mu.Unlock()
				wait := 20 * time.Millisecond
				if blocking {
					wait = 20 * time.Second
				}
				select {
				case <-all:
				case <-time.After(wait):
				}
				mu.Lock()
				now--
				mu.Unlock()
			}))
			defer server.Close()
			h := clientOf(t, nomad.WithAddress(server.URL), nomad.WithMaxConns(3)).HTTPClient()
			var group sync.WaitGroup
			for range requests {
				group.Go(func() { get(t, h, server.URL+"/v1/jobs?"+query) })
			}
			group.Wait()
			if blocking {
				assert.Equal(t, requests, most)
			} else {
				assert.LessOrEqual(t, most, 3)
			}
		})
	}
}

// TestHTTPClientErrorsHaveNoToken has an agent repeat the token that the Client added to a request.
func TestHTTPClientErrorsHaveNoToken(t *testing.T) {
	const token = "5f0ab9c2-1111-2222-3333-444455556666"
	for name, reply := range map[string]string{
		"another host":          "HTTP/1.1 302 Found\r\nLocation: http://TOKEN.example/\r\nContent-Length: 0\r\n\r\n",
		"the same host":         "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/TOKEN\r\nContent-Length: 0\r\n\r\n",
		"an invalid address":    "HTTP/1.1 302 Found\r\nLocation: http://[TOKEN/\r\nContent-Length: 0\r\n\r\n",
		"an unknown scheme":     "HTTP/1.1 302 Found\r\nLocation: x-TOKEN://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
		"the token in capitals": "HTTP/1.1 302 Found\r\nLocation: http://" + strings.ToUpper(token) + ".example/\r\nContent-Length: 0\r\n\r\n",
		"the status line":       "HTTP/1.1 TOKEN\r\n\r\n",
		"the protocol":          "TOKEN\r\n\r\n",
		"a header":              "HTTP/1.1 200 OK\r\nTOKEN\r\n\r\n",
		"the length":            "HTTP/1.1 200 OK\r\nContent-Length: TOKEN\r\n\r\n",
		"the encoding":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: TOKEN\r\n\r\n",
		"a trailer":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTOKEN\r\n\r\n",
		"a chunk":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nTOKEN\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/v1/jobs", r.URL.Path)
				conn, _, err := http.NewResponseController(w).Hijack()
				if assert.NoError(t, err) {
					io.WriteString(conn, strings.ReplaceAll(reply, "TOKEN", r.Header.Get("X-Nomad-Token")))
					conn.Close()
				}
			}))
			defer server.Close()
			for _, opts := range [][]nomad.Option{nil, {nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{}})}} {
				client := clientOf(t, append(opts, nomad.WithAddress(server.URL), nomad.WithToken(token))...)
				_, _, err := send(t, client.HTTPClient(), http.MethodGet, server.URL+"/v1/jobs", nil, nil)
				require.Error(t, err)
				for ; err != nil; err = errors.Unwrap(err) {
					assert.NotContains(t, strings.ToLower(fmt.Sprintf("%v %+v", err, err)), token)
				}
			}
		})
	}
}

func TestHTTPClientAfterClose(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	client := agent.client(t)
	derived, err := client.With(nomad.WithToken("other"))
	require.NoError(t, err)
	before := client.HTTPClient()
	get(t, before, agent.URL)
	require.NoError(t, derived.Close(), "closing a derived client does nothing")
	get(t, derived.HTTPClient(), agent.URL)
	require.NoError(t, client.Close())
	for _, h := range []*http.Client{before, client.HTTPClient(), derived.HTTPClient()} {
		body := &trackedBody{Reader: strings.NewReader("hello")}
		_, _, err := send(t, h, http.MethodPost, agent.URL, body, nil)
		assert.ErrorIs(t, err, nomad.ErrClosed)
		assert.True(t, body.closed.Load(), "a RoundTripper must close the body")
	}
	assert.Len(t, agent.received(), 2)
}

func TestHTTPClientCloseLeavesResponsesThatAreRead(t *testing.T) {
	release := make(chan struct{})
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-release
		io.WriteString(w, "late")
	})
	client := agent.client(t)
	res, err := client.HTTPClient().Get(agent.URL)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	close(release)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "late", string(text))
	require.NoError(t, res.Body.Close())
	assert.Eventually(t, func() bool { return agent.count.Open.Load() == 0 }, 10*time.Second, 10*time.Millisecond)
}

func TestHTTPClientOfDerivedClients(t *testing.T) {
	agent, other := newRecordingAgent(t, nil), newRecordingAgent(t, nil)
	client := agent.client(t, nomad.WithToken("first"))
	second, err := client.With(nomad.WithToken("second"))
	require.NoError(t, err)
	elsewhere, err := client.With(nomad.WithAddress(other.URL), nomad.WithToken("third"))
	require.NoError(t, err)

	for h, want := range map[*nomad.Client]string{client: "first", second: "second"} {
		get(t, h.HTTPClient(), agent.URL)
		assert.Equal(t, want, agent.last(t).Header.Get("X-Nomad-Token"))
	}
	_, err = client.Agent.Servers(t.Context())
	require.Error(t, err) // the response is not a list
	for _, request := range agent.received() {
		assert.Equal(t, agent.received()[0].From, request.From, "all clients share one connection")
	}

	get(t, elsewhere.HTTPClient(), other.URL)
	assert.Equal(t, "third", other.last(t).Header.Get("X-Nomad-Token"))
	assert.Equal(t, other.URL, elsewhere.Address())
	get(t, elsewhere.HTTPClient(), agent.URL)
	assert.NotContains(t, agent.last(t).Header, "X-Nomad-Token", "the token is only sent to the derived client's own address")
	get(t, client.HTTPClient(), other.URL)
	assert.NotContains(t, other.last(t).Header, "X-Nomad-Token")
}

func TestHTTPClientWithWrappers(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	var seen []string
	wrap := func(name string) nomad.Option {
		return nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				seen = append(seen, name+" "+r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Nomad-Token"))
				r = r.Clone(r.Context())
				r.Header.Add("X-Signed", name)
				return next.RoundTrip(r)
			})
		})
	}
	h := agent.client(t, wrap("inner"), wrap("outer"), nomad.WithToken("clients")).HTTPClient()
	get(t, h, agent.URL+"/v1/jobs")
	assert.Equal(t, []string{"outer GET /v1/jobs clients", "inner GET /v1/jobs clients"}, seen)
	assert.Equal(t, []string{"outer", "inner"}, agent.last(t).Header["X-Signed"])
}

func TestHTTPClientWithHTTPClient(t *testing.T) {
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	own := &http.Client{Transport: transport, Jar: jar, Timeout: time.Nanosecond}
	client := agent.client(t, nomad.WithHTTPClient(own), nomad.WithToken("clients"))
	h := client.HTTPClient()
	get(t, h, agent.URL)
	assert.Empty(t, agent.last(t).Header.Get("Cookie"))
	get(t, h, agent.URL)
	assert.Equal(t, "session=1", agent.last(t).Header.Get("Cookie"), "the cookie jar is used")
	assert.Equal(t, "clients", agent.last(t).Header.Get("X-Nomad-Token"))
	assert.Zero(t, h.Timeout)
	require.NoError(t, client.Close())
	_, _, err = send(t, h, http.MethodGet, agent.URL, nil, http.Header{})
	assert.ErrorIs(t, err, nomad.ErrClosed)
}

func TestHTTPClientThroughUnixSocket(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1, nomadtest.Socket()))
	defer cluster.Close()
	client := clientOf(t, nomad.WithAddress("unix://"+cluster.Agent("client-1").SocketPath()),
		nomad.WithToken(nomadtest.ManagementToken))
	for _, address := range []string{"http://127.0.0.1", "http://localhost"} { // the hosts that clients of the socket use
		assert.Contains(t, get(t, client.HTTPClient(), address+"/v1/agent/members"), "server-1.global")
	}
}

func TestHTTPClientOverTLS(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MutualTLS(), nomadtest.ACLs()))
	defer cluster.Close()
	client := cluster.Client("server-1")
	text := get(t, client.HTTPClient(), client.Address()+"/v1/agent/members")
	assert.Contains(t, text, "server-1.global")
}

func TestHTTPClientThatIsRefusedForTheLimit(t *testing.T) {
	t.Parallel()
	for scheme, opts := range map[string][]nomadtest.AgentOption{"http": nil, "https": {nomadtest.TLS()}} {
		t.Run(scheme+": refused requests are retried", func(t *testing.T) {
			cluster := nomadtest.NewCluster(nomadtest.Servers(1, append(opts, nomadtest.MaxConns(16))...))
			defer cluster.Close()
			agent := cluster.Agents()[0]
			var group sync.WaitGroup
			for range 3 { // like three processes, which need 48 connections
				group.Go(func() {
					client := cluster.Client(agent.Name())
					defer client.Close()
					h := client.HTTPClient()
					var requests sync.WaitGroup
					for range 16 {
						requests.Go(func() {
							for range 10 {
								res, _, err := send(t, h, http.MethodGet, agent.URL()+"/v1/agent/members", nil, nil)
								if assert.NoError(t, err) {
									assert.Equal(t, http.StatusOK, res.StatusCode)
								}
							}
						})
					}
					requests.Wait()
				})
			}
			group.Wait()
			_, most := agent.Connections()
			assert.LessOrEqual(t, most, 16)
		})
	}
	t.Run("request waits for a connection until its context ends", func(t *testing.T) {
		cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MaxConns(1)))
		defer cluster.Close()
		agent := cluster.Agents()[0]
		logs, err := cluster.Client(agent.Name()).Agent.Monitor(t.Context(), nomad.MonitorOptions{})
		require.NoError(t, err)
		defer logs.Close()
		client := clientOf(t, nomad.WithAddress(agent.URL()))
		for _, body := range []string{"", `{"a":"b"}`} {
			// On a busy machine the first request may time out before it was refused.
			for timeout, explained := 300*time.Millisecond, false; !explained; timeout *= 2 {
				require.Less(t, timeout, 30*time.Second, "no error names the connection limit")
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				method, reader := http.MethodGet, io.Reader(nil)
				if body != "" {
					method, reader = http.MethodPut, strings.NewReader(body)
				}
				req, err := http.NewRequestWithContext(ctx, method, agent.URL()+"/v1/agent/members", reader)
				require.NoError(t, err)
				_, _, err = do(client.HTTPClient(), req)
				cancel()
				require.ErrorIs(t, err, context.DeadlineExceeded)
				explained = strings.Contains(err.Error(), "the agent accepts no more connections from this address")
			}
		}
		logs.Close()
		get(t, client.HTTPClient(), agent.URL()+"/v1/agent/members")
	})
}

// refusingListener refuses the first connections as an agent at its limit does.
type refusingListener struct {
	net.Listener
	words     string // body of the 429; if it is empty, connections are closed without a response
	onAttempt func()
	left      atomic.Int32
	group     sync.WaitGroup
}

func (l *refusingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.left.Add(-1) < 0 {
			return conn, err
		}
		if l.onAttempt != nil {
			l.onAttempt()
		}
		if l.words != "" {
			fmt.Fprintf(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n"+
				"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(l.words), l.words)
			conn.(*net.TCPConn).CloseWrite()
		}
		l.group.Go(func() {
			if l.words != "" {
				io.Copy(io.Discard, conn) // unread data would reset the connection and lose the response
			}
			conn.Close()
		})
	}
}

func TestHTTPClientRetriesRefusedRequests(t *testing.T) {
	const words = agentsRefusal
	for _, row := range []struct {
		name, words, method string
		body                func() io.Reader
		status              int
	}{
		{"GET after the agent's 429", words, "GET", nil, 200},
		{"GET after a close without a byte", "", "GET", nil, 200},
		{"POST after the agent's 429", words, "POST", func() io.Reader { return strings.NewReader("hello") }, 200},
		{"POST without a body after the agent's 429", words, "POST", nil, 200},
		{"POST with a body that can be read once gets the agent's 429", words, "POST",
			func() io.Reader { return struct{ io.Reader }{strings.NewReader("hello")} }, 429},
	} {
		t.Run(row.name, func(t *testing.T) {
			var seen []string
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				seen = append(seen, r.Method+" "+string(body))
			}))
			listener := &refusingListener{Listener: server.Listener, words: row.words}
			listener.left.Store(1)
			server.Listener = listener
			server.Start()
			defer listener.group.Wait()
			defer server.Close()
			client := clientOf(t, nomad.WithAddress(server.URL))
			defer client.HTTPClient().CloseIdleConnections()
			var body io.Reader
			if row.body != nil {
				body = row.body()
			}
			res, text, err := send(t, client.HTTPClient(), row.method, server.URL+"/v1/jobs", body, nil)
			require.NoError(t, err)
			assert.Equal(t, row.status, res.StatusCode)
			switch {
			case row.status == 429:
				assert.Equal(t, words, text)
				assert.Empty(t, seen)
			case row.body != nil:
				assert.Equal(t, []string{"POST hello"}, seen)
			default:
				assert.Equal(t, []string{row.method + " "}, seen)
			}
		})
	}
}

// TestHTTPClientReportsTheConnectionLimit cancels the context of a request at the moment of a refusal.
func TestHTTPClientReportsTheConnectionLimit(t *testing.T) {
	t.Parallel()
	for range 50 { // the result depends on timing
		server := httptest.NewUnstartedServer(responding(200, "application/json", "[]"))
		listener := &refusingListener{Listener: server.Listener, words: agentsRefusal}
		listener.left.Store(1000)
		ctx, cancel := context.WithCancel(t.Context())
		attempts := 0
		listener.onAttempt = func() {
			if attempts++; attempts == 3 {
				cancel()
			}
		}
		server.Listener = listener
		server.Start()
		client := clientOf(t, nomad.WithAddress(server.URL))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/jobs", nil)
		require.NoError(t, err)
		_, _, err = do(client.HTTPClient(), req)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, "the agent accepts no more connections from this address")
		client.Close()
		server.Close()
		listener.group.Wait()
	}
}

func TestHTTPClientOutlastsIdleConnectionsOfOthers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	agent := newRecordingAgent(t, nil)
	agentAddress := agent.Listener.Addr().String()
	var open atomic.Int32
	var group sync.WaitGroup
	group.Go(func() { // serves one connection at a time and closes the others without a response
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if open.Add(1) > 1 {
				open.Add(-1)
				conn.Close()
				continue
			}
			group.Go(func() {
				defer open.Add(-1)
				to, err := net.Dial("tcp", agentAddress)
				if assert.NoError(t, err) {
					connectBoth(conn, to)
				}
			})
		}
	})
	defer group.Wait()
	defer listener.Close()
	for range 2 {
		client := clientOf(t, nomad.WithAddress(listener.Addr().String()))
		defer client.Close()
		get(t, client.HTTPClient(), client.Address()+"/v1/jobs")
	}
}

// TestHTTPClientSeesTheRefusalOverTLS has an agent close one connection without a response, after
// which the client reads from new connections before it sends a request. The agent refuses those with
// a 429.
func TestHTTPClientSeesTheRefusalOverTLS(t *testing.T) {
	t.Parallel()
	pki := newPKI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{pki.Pair}}
	var group sync.WaitGroup
	group.Go(func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if n == 0 {
				conn.Close()
				continue
			}
			group.Go(func() {
				defer conn.Close()
				encrypted := tls.Server(conn, config)
				fmt.Fprintf(encrypted, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n"+
					"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(agentsRefusal), agentsRefusal)
				encrypted.CloseWrite()
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn)
			})
		}
	})
	defer group.Wait()
	defer listener.Close()
	client := clientOf(t, nomad.WithAddress("https://"+listener.Addr().String()),
		nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, ServerName: "server.global.nomad"}))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Address()+"/v1/jobs", nil)
	require.NoError(t, err)
	_, _, err = do(client.HTTPClient(), req)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "the agent accepts no more connections from this address")
	assert.NotContains(t, err.Error(), "without a response")
}

func TestHTTPClientCloseIdleConnections(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	h := agent.client(t).HTTPClient()
	for range 3 {
		get(t, h, agent.URL)
		require.EqualValues(t, 1, agent.count.Open.Load())
		h.CloseIdleConnections()
		assert.Eventually(t, func() bool { return agent.count.Open.Load() == 0 }, 4*time.Second, time.Millisecond)
	}
	assert.EqualValues(t, 3, agent.count.All.Load())

	t.Run("with a wrapper", func(t *testing.T) {
		h := agent.client(t, nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(next.RoundTrip)
		})).HTTPClient()
		get(t, h, agent.URL)
		h.CloseIdleConnections()
		assert.Eventually(t, func() bool { return agent.count.Open.Load() == 0 }, 4*time.Second, time.Millisecond)
	})
}

func TestHTTPClientSharesConnectionsWhateverTheCaseOfTheHost(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	port := agent.Listener.Addr().(*net.TCPAddr).Port
	client := clientOf(t, nomad.WithAddress(fmt.Sprintf("http://localhost:%d", port)))
	for _, host := range []string{"localhost", "LOCALHOST", "LocalHost"} {
		get(t, client.HTTPClient(), fmt.Sprintf("http://%s:%d/v1/jobs", host, port))
	}
	assert.EqualValues(t, 1, agent.count.All.Load())
}

func TestHTTPClientFieldsBelongToTheCaller(t *testing.T) {
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agent/servers" {
			http.Redirect(w, r, "http://nomad.example/", http.StatusTemporaryRedirect)
		}
	})
	client := agent.client(t)
	h := client.HTTPClient()
	assert.NotSame(t, h, client.HTTPClient())
	h.Timeout, h.Jar = time.Nanosecond, nil
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	h.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("not this one") })

	_, err := client.Agent.Servers(t.Context())
	assert.ErrorIs(t, err, nomad.ErrRedirect)
	_, _, err = send(t, client.HTTPClient(), http.MethodGet, agent.URL+"/v1/agent/servers", nil, nil)
	assert.ErrorIs(t, err, nomad.ErrRedirect)
	get(t, client.HTTPClient(), agent.URL)
}

func TestHTTPClientWithOddRequests(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	client := agent.client(t, nomad.WithToken("clients"))
	h := client.HTTPClient()
	t.Run("body without GetBody is sent", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, agent.URL, strings.NewReader("hello"))
		require.NoError(t, err)
		req.GetBody = nil
		_, _, err = do(h, req)
		require.NoError(t, err)
		assert.Equal(t, "hello", agent.last(t).Body)
		assert.EqualValues(t, 5, agent.last(t).Length)
	})
	t.Run("transport takes a request without headers", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, agent.URL, nil)
		require.NoError(t, err)
		req.Header = nil
		res, err := h.Transport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, "clients", agent.last(t).Header.Get("X-Nomad-Token"))
		assert.Nil(t, req.Header)
		assert.Same(t, req, res.Request)
	})
	t.Run("transport takes a request without a method", func(t *testing.T) {
		address, err := url.Parse(agent.URL)
		require.NoError(t, err)
		res, err := h.Transport.RoundTrip(&http.Request{URL: address})
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.MethodGet, agent.last(t).Method)
	})
	t.Run("transport refuses a request without a URL, as net/http does", func(t *testing.T) {
		assert.NotPanics(t, func() {
			_, err := h.Transport.RoundTrip(&http.Request{Method: http.MethodGet, Header: http.Header{}})
			assert.Error(t, err)
		})
	})
	t.Run("other schemes are refused", func(t *testing.T) {
		for _, address := range []string{"ftp://127.0.0.1/", "unix:///socket", "http:///v1/jobs"} {
			body := &trackedBody{Reader: strings.NewReader("hello")}
			_, _, err := send(t, h, http.MethodPost, address, body, nil)
			assert.Error(t, err, address)
			assert.True(t, body.closed.Load())
		}
	})
	t.Run("headers that cannot be sent are refused", func(t *testing.T) {
		before := len(agent.received())
		for _, header := range []http.Header{{"a b": {"c"}}, {"A": {"b\r\nc"}}} {
			_, _, err := send(t, h, http.MethodPost, agent.URL, strings.NewReader("hello"), header)
			assert.Error(t, err)
		}
		assert.Len(t, agent.received(), before)
		get(t, h, agent.URL)
	})
	t.Run("body of a request that is refused is closed", func(t *testing.T) {
		body := &trackedBody{Reader: strings.NewReader("hello")}
		_, _, err := send(t, h, http.MethodPost, agent.URL, body, http.Header{"a b": {"c"}})
		assert.Error(t, err)
		assert.True(t, body.closed.Load())
	})
}

// TestHTTPClientWithBodyThatFails reads a body that ends with an error, over a connection that
// carried no request before.
func TestHTTPClientWithBodyThatFails(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	agent := newRecordingAgent(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	client := agent.client(t, nomad.WithMaxConns(1))
	broken := errors.New("broken")
	for range 20 {
		body := io.MultiReader(strings.NewReader("hello"), brokenReader{broken})
		_, _, err := send(t, client.HTTPClient(), http.MethodPost, agent.URL, body, nil)
		assert.ErrorIs(t, err, broken)
	}

	// One request holds the only connection. The error of the next one must not blame the agent.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, agent.URL, nil)
			assert.NoError(t, err)
			_, _, err = do(client.HTTPClient(), req)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.NotContains(t, err.Error(), "accepts no more connections")
		})
	}
	group.Wait()
}

// brokenReader is a reader that fails.
type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func TestHTTPClientSwitchesProtocols(t *testing.T) {
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw)
	})
	client := agent.client(t)
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, agent.URL, nil)
	require.NoError(t, err)
	req.Header = header
	res, err := client.HTTPClient().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	stream, ok := res.Body.(io.ReadWriter)
	require.True(t, ok)
	for _, text := range []string{"hello", "again"} {
		_, err = io.WriteString(stream, text)
		require.NoError(t, err)
		got := make([]byte, len(text))
		_, err = io.ReadFull(stream, got)
		require.NoError(t, err)
		assert.Equal(t, text, string(got))
	}
}

// TestHTTPClientInManyGoroutines sends requests and calls of several Clients over shared connections.
func TestHTTPClientInManyGoroutines(t *testing.T) {
	agent := newRecordingAgent(t, nil)
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("first"), 0o600))
	client := agent.client(t, nomad.WithTokenFile(path))
	second, err := client.With(nomad.WithToken("second"))
	require.NoError(t, err)
	shared := client.HTTPClient()
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			h, token := shared, "first"
			switch i % 4 {
			case 1:
				h = client.HTTPClient()
			case 2, 3:
				h, token = second.HTTPClient(), "second"
			}
			for n := range 25 {
				text := fmt.Sprint(i, " ", n)
				var body io.Reader = strings.NewReader(text)
				if n%2 == 0 {
					body = struct{ io.Reader }{body}
				}
				_, response, err := send(t, h, http.MethodPost, agent.URL+"/v1/jobs", body, nil)
				if !assert.NoError(t, err) {
					return
				}
				var seen seenRequest
				assert.NoError(t, json.Unmarshal([]byte(response), &seen))
				assert.Equal(t, text, seen.Body)
				assert.Equal(t, token, seen.Header.Get("X-Nomad-Token"))
				if n%8 == 0 {
					var out seenRequest
					assert.NoError(t, call(t.Context(), second, http.MethodGet, "/v1/x", nil, nil, &out))
				}
				if n%12 == 0 {
					h.CloseIdleConnections()
				}
			}
		})
	}
	group.Wait()
	assert.LessOrEqual(t, agent.count.Most.Load(), int64(nomad.DefaultMaxConns))
}

func TestHTTPClientBodyThatIsNotReadFreesItsConnection(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 1<<20)
	agent := newRecordingAgent(t, func(w http.ResponseWriter, r *http.Request) { w.Write(large) })
	h := agent.client(t, nomad.WithMaxConns(1)).HTTPClient()
	for range 5 {
		res, err := h.Get(agent.URL)
		require.NoError(t, err)
		_, err = io.ReadFull(res.Body, make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	assert.Len(t, get(t, h, agent.URL), len(large))
}
