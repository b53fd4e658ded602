package acceptance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/nomadtest"
)

const (
	proxyAgentHost = "agent.example.com" // as in the certificate of package httptest
	proxyUser      = "ops"
	proxyPassword  = "hunter2 /:@%" // has to be escaped in a URL

	proxyCallVariable = "NOMAD_TEST_PROXY_CALL"
	proxyResultPrefix = "proxy-result:"
)

// proxyCall is a call to an agent that a child process makes. A child process is needed because net/http
// reads the proxy variables only once per process.
type proxyCall struct {
	Address    string
	CAs        []byte        // PEM; if empty, no TLS option is used
	ServerName string        // of the agent
	TLSConfig  bool          // whether CAs and ServerName are set by WithTLSConfig
	Token      string        // of the client
	Host       string        // if set, use Client.HTTPClient and this Host field
	Lent       bool          // use Client.HTTPClient
	Retries    int           // of the client
	Timeout    time.Duration // timeout of the context; 0 means none
	Resolves   bool          // whether every name resolves to 127.0.0.1; otherwise none resolves
}

// proxyResult is the result of a proxyCall.
type proxyResult struct {
	Member   string // name of the first member
	Error    string
	Printed  string // all layers of the error, with several verbs
	Meaning  string // sentinels that the error matches
	Status   int    // of an APIError
	Expired  bool   // the error is context.DeadlineExceeded
	Attempts int    // requests that reached the transport
	Stderr   string
}

// run makes the call in a child process with variables such as HTTP_PROXY=….
func (c proxyCall) run(t *testing.T, variables ...string) proxyResult {
	if testing.Short() {
		t.Skip("it starts a process for each call, which is slow with the race detector")
	}
	t.Helper()
	encoded, err := json.Marshal(c)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperProxyCall$")
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if name := strings.ToUpper(name); !strings.HasSuffix(name, "_PROXY") && name != "REQUEST_METHOD" {
			child.Env = append(child.Env, variable)
		}
	}
	child.Env = append(child.Env, variables...)
	child.Env = append(child.Env, proxyCallVariable+"="+string(encoded), "GORACE=atexit_sleep_ms=0")
	var stdout, stderr bytes.Buffer
	child.Stdout, child.Stderr = &stdout, &stderr
	require.NoError(t, child.Run(), "%s%s", &stdout, &stderr)

	_, line, found := strings.Cut(stdout.String(), proxyResultPrefix)
	require.True(t, found, "%s%s", &stdout, &stderr)
	line, _, _ = strings.Cut(line, "\n")
	var result proxyResult
	require.NoError(t, json.Unmarshal([]byte(line), &result))
	result.Stderr = stderr.String()

	credentials := proxyUser + ":" + proxyPassword
	for _, secret := range []string{
		"hunter2", url.PathEscape(proxyPassword), url.QueryEscape(proxyPassword),
		base64.StdEncoding.EncodeToString([]byte(credentials)),
	} {
		assert.NotContains(t, result.Printed+result.Stderr, secret)
	}
	return result
}

// TestHelperProxyCall runs in the child processes. It does nothing in the parent process.
func TestHelperProxyCall(t *testing.T) {
	encoded := os.Getenv(proxyCallVariable)
	if encoded == "" {
		return
	}
	var call proxyCall
	require.NoError(t, json.Unmarshal([]byte(encoded), &call))
	if call.Resolves {
		nameServer(t)
	} else {
		net.DefaultResolver = &net.Resolver{
			PreferGo: true,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("no name resolves here")
			},
		}
	}

	var result proxyResult
	opts := []nomad.Option{
		nomad.WithAddress(call.Address), nomad.WithRetries(call.Retries), nomad.WithToken(call.Token),
		nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return testkit.RoundTripper(func(r *http.Request) (*http.Response, error) {
				result.Attempts++
				return next.RoundTrip(r)
			})
		}),
	}
	switch {
	case call.TLSConfig:
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(call.CAs))
		opts = append(opts, nomad.WithTLSConfig(&tls.Config{RootCAs: pool, ServerName: call.ServerName}))
	case call.CAs != nil:
		opts = append(opts, nomad.WithTLS(nomad.TLS{CAPEM: call.CAs, ServerName: call.ServerName}))
	}
	client := testkit.NewClient(t, opts...)
	ctx := t.Context()
	if call.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, call.Timeout)
		defer cancel()
	}

	var err error
	if call.Lent || call.Host != "" {
		result.Member, err = membersByHTTPClient(ctx, client, call.Host)
	} else {
		var members *nomad.Members
		if members, err = client.Agent.Members(ctx); err == nil {
			result.Member = members.Members[0].Name
		}
	}
	if err != nil {
		result.Error, result.Meaning = err.Error(), testkit.Meaning(err)
		result.Expired = errors.Is(err, context.DeadlineExceeded)
		var api *nomad.APIError
		if errors.As(err, &api) {
			result.Status = api.StatusCode
		}
		result.Printed = printLayers(err)
	}
	line, err := json.Marshal(result)
	require.NoError(t, err)
	fmt.Printf("%s%s\n", proxyResultPrefix, line)
}

// membersByHTTPClient makes the call Members with Client.HTTPClient. host replaces the Host header.
func membersByHTTPClient(ctx context.Context, c *nomad.Client, host string) (string, error) {
	address := c.Address() + "/v1/agent/members"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	if host != "" {
		req.Host = host
	}
	res, err := c.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var members struct{ Members []struct{ Name string } }
	if err := json.NewDecoder(res.Body).Decode(&members); err != nil {
		return "", err
	}
	return members.Members[0].Name, nil
}

// printLayers prints an error and all errors that it wraps.
func printLayers(err error) string {
	var b strings.Builder
	for _, layer := range layers(err) {
		b.WriteString(renderings(layer))
	}
	return b.String()
}

// proxiedAgent is an agent on loopback that records the headers of its requests.
type proxiedAgent struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
}

func newProxiedAgent(t *testing.T, scheme string, config *tls.Config) *proxiedAgent {
	a := &proxiedAgent{}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.headers = append(a.headers, r.Header)
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"ServerRegion":"global","Members":[`+
			`{"Name":"a.global","Addr":"127.0.0.1","Port":4648,"Status":"alive"}]}`)
	}))
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.TLS = config
	if scheme == "https" {
		a.StartTLS()
	} else {
		a.Start()
	}
	t.Cleanup(a.Close)
	return a
}

func (a *proxiedAgent) port() string {
	_, port, _ := net.SplitHostPort(a.host())
	return port
}

// host returns the host:port on which the agent listens.
func (a *proxiedAgent) host() string { return a.Listener.Addr().String() }

// address returns the address of the agent that the client is configured with.
func (a *proxiedAgent) address(scheme string) string {
	return scheme + "://" + proxyAgentHost + ":" + a.port()
}

func (a *proxiedAgent) received() []http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.headers)
}

// testCA returns the certificate of httptest servers, for 127.0.0.1 and *.example.com.
func testCA() []byte {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// failure may respond in place of the proxy and then returns true. n counts the requests from 1. r is
// nil for a SOCKS proxy.
type failure func(n int, w http.ResponseWriter, r *http.Request) bool

// testProxy is a proxy that connects to one agent, regardless of the name in the request.
type testProxy struct {
	t       *testing.T
	URL     *url.URL // with the user and password, if the proxy requires them
	agent   string   // host:port
	secured bool     // whether the proxy requires the user and password
	config  *tls.Config
	fail    failure
	tunnels sync.WaitGroup

	mu       sync.Mutex
	requests []string
}

// start starts the proxy as an http, https or socks5 proxy.
func (p *testProxy) start(t *testing.T, kind string) *testProxy {
	p.t, p.URL = t, &url.URL{Scheme: kind}
	if p.secured {
		p.URL.User = url.UserPassword(proxyUser, proxyPassword)
	}
	if kind == "socks5" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		p.URL.Host = listener.Addr().String()
		p.tunnels.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				p.tunnels.Go(func() {
					defer conn.Close()
					p.serveSOCKS(conn)
				})
			}
		})
		t.Cleanup(func() {
			listener.Close()
			p.tunnels.Wait()
		})
		return p
	}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = p.config
	if kind == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	p.URL.Host = server.Listener.Addr().String()
	t.Cleanup(func() {
		server.Close()
		p.tunnels.Wait()
	})
	return p
}

// variables returns the environment variables that make a process use the proxy.
func (p *testProxy) variables() []string {
	return []string{"HTTP_PROXY=" + p.URL.String(), "HTTPS_PROXY=" + p.URL.String()}
}

// record records a request and returns its number.
func (p *testProxy) record(request string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request)
	return len(p.requests)
}

// received returns the requests, such as CONNECT host:port, GET http://host:port/path and
// SOCKS host:port.
func (p *testProxy) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

func (p *testProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := p.record(r.Method + " " + r.RequestURI)
	if p.fail != nil && p.fail(n, w, r) {
		return
	}
	user, password, _ := (&http.Request{
		Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]},
	}).BasicAuth()
	if p.secured && (user != proxyUser || password != proxyPassword) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		transport := &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, p.agent)
			},
		}
		(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport}).ServeHTTP(w, r)
		return
	}
	agent, err := net.Dial("tcp", p.agent)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	p.tunnels.Add(1)
	defer p.tunnels.Done()
	conn, _, err := w.(http.Hijacker).Hijack()
	if !assert.NoError(p.t, err) {
		agent.Close()
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	testkit.ConnectBoth(conn, agent)
}

// serveSOCKS serves one connection of a SOCKS5 proxy (RFC 1928, RFC 1929).
func (p *testProxy) serveSOCKS(conn net.Conn) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	greeting := read(2)
	if greeting[0] != 5 {
		return
	}
	methods := read(int(greeting[1]))
	method := byte(0)
	if p.secured {
		method = 2
	}
	if !slices.Contains(methods, method) {
		conn.Write([]byte{5, 0xff})
		return
	}
	conn.Write([]byte{5, method})
	if p.secured {
		version := read(1)
		user := read(int(read(1)[0]))
		password := read(int(read(1)[0]))
		good := version[0] == 1 && string(user) == proxyUser && string(password) == proxyPassword
		if !good {
			p.record("SOCKS password refused")
			conn.Write([]byte{1, 1})
			return
		}
		conn.Write([]byte{1, 0})
	}

	request := read(4) // version, command, reserved, type of address
	var host string
	switch request[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	port := binary.BigEndian.Uint16(read(2))
	if request[0] != 5 || request[1] != 1 || host == "" {
		conn.Write([]byte{5, 7, 0, 1, 0, 0, 0, 0, 0, 0}) // command not supported
		return
	}
	n := p.record("SOCKS " + net.JoinHostPort(host, fmt.Sprint(port)))
	if p.fail != nil && p.fail(n, rawResponse{conn}, nil) {
		return
	}
	agent, err := net.Dial("tcp", p.agent)
	if err != nil {
		conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // connection refused
		return
	}
	conn.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0})
	testkit.ConnectBoth(conn, agent)
}

// rawResponse passes the connection of a SOCKS proxy to testProxy.fail.
type rawResponse struct{ net.Conn }

func (rawResponse) Header() http.Header { return http.Header{} }
func (rawResponse) WriteHeader(int)     {}

// failAlways has a proxy respond with a status.
func failAlways(status int) failure {
	return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		return true
	}
}

// hangUp has an HTTP proxy write text and close the connection.
func hangUp(text string) failure {
	return func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, text)
			if encrypted, ok := conn.(*tls.Conn); ok {
				conn = encrypted.NetConn() // without a TLS alert, as when the proxy is killed
			}
			conn.Close()
		}
		return true
	}
}

// repeatedRequest returns n copies of request.
func repeatedRequest(request string, n int) []string { return slices.Repeat([]string{request}, n) }

func TestProxyCarriesCalls(t *testing.T) {
	t.Parallel()
	ca := testCA()
	for _, scheme := range []string{"http", "https"} {
		for _, kind := range []string{"", "http", "https", "socks5"} {
			for _, secured := range []bool{false, true} {
				name := scheme + " agent through " + kind + " proxy"
				switch {
				case kind == "" && secured:
					continue
				case kind == "":
					name = scheme + " agent without a proxy"
				case secured:
					name += " that wants a password"
				}
				t.Run(name+" works", func(t *testing.T) {
					agent := newProxiedAgent(t, scheme, nil)
					call := proxyCall{Address: agent.address(scheme), CAs: ca, Resolves: kind == ""}
					var variables, want []string
					var proxy *testProxy
					if kind != "" {
						proxy = (&testProxy{agent: agent.host(), secured: secured}).start(t, kind)
						variables = proxy.variables()
					}
					for _, lent := range []bool{false, true} {
						call.Lent = lent
						result := call.run(t, variables...)
						assert.Empty(t, result.Error)
						assert.Equal(t, "a.global", result.Member)
						assert.Equal(t, 1, result.Attempts)
						assert.Empty(t, result.Stderr)
						target := proxyAgentHost + ":" + agent.port()
						switch {
						case kind == "":
							continue
						case kind == "socks5":
							target = "SOCKS " + target
						case scheme == "https":
							target = "CONNECT " + target
						default:
							target = "GET " + agent.address(scheme) + "/v1/agent/members"
						}
						want = append(want, target)
						assert.Equal(t, want, proxy.received())
					}
					assert.Len(t, agent.received(), 2)
					for _, header := range agent.received() {
						assert.NotContains(t, header, "Proxy-Authorization")
					}
				})
			}
		}
	}
}

func TestProxyIsGivenTheAddressInFull(t *testing.T) {
	t.Parallel()
	ca := testCA()
	for _, row := range []struct {
		name, kind, address, want string
	}{
		{"http address without a port", "http", "http://agent.example.com", "GET http://agent.example.com/v1/agent/members"},
		{"https address without a port", "http", "https://agent.example.com", "CONNECT agent.example.com:443"},
		{"http address without a port", "socks5", "http://agent.example.com", "SOCKS agent.example.com:80"},
		{"https address without a port", "socks5", "https://agent.example.com", "SOCKS agent.example.com:443"},
		{"http address in IPv6", "http", "http://[2001:db8::1]:4646", "GET http://[2001:db8::1]:4646/v1/agent/members"},
		{"https address in IPv6", "http", "https://[2001:db8::1]:4646", "CONNECT [2001:db8::1]:4646"},
		{"http address in IPv6", "socks5", "http://[2001:db8::1]:4646", "SOCKS [2001:db8::1]:4646"},
		{"https address in IPv4", "socks5", "https://192.0.2.1:4646", "SOCKS 192.0.2.1:4646"},
		{"address with a path", "http", "http://agent.example.com/eu", "GET http://agent.example.com/eu/v1/agent/members"},
	} {
		t.Run(row.name+" through "+row.kind+" proxy", func(t *testing.T) {
			scheme, _, _ := strings.Cut(row.address, ":")
			agent := newProxiedAgent(t, scheme, nil)
			proxy := (&testProxy{agent: agent.host(), secured: true}).start(t, row.kind)
			result := proxyCall{Address: row.address, CAs: ca, ServerName: proxyAgentHost}.run(t, proxy.variables()...)
			assert.Empty(t, result.Error)
			assert.Equal(t, []string{row.want}, proxy.received())
		})
	}
}

func TestProxyIsNotUsedForExceptions(t *testing.T) {
	t.Parallel()
	ca := testCA()
	for _, scheme := range []string{"http", "https"} {
		agent := newProxiedAgent(t, scheme, nil)
		named := agent.address(scheme)
		for _, row := range []struct {
			name, address, noProxy string
			used                   bool
		}{
			{"NO_PROXY with the agent's port goes direct", named, proxyAgentHost + ":" + agent.port(), false},
			{"NO_PROXY with another port uses the proxy", named, proxyAgentHost + ":1", true},
			{"NO_PROXY without a port goes direct", named, proxyAgentHost, false},
			{"NO_PROXY with the domain goes direct", named, ".example.com", false},
			{"NO_PROXY with another host uses the proxy", named, "other.example.com", true},
			{"loopback address goes direct", agent.URL, "", false},
		} {
			t.Run(scheme+": "+row.name, func(t *testing.T) {
				proxy := (&testProxy{agent: agent.host()}).start(t, "http")
				call := proxyCall{Address: row.address, CAs: ca, Resolves: !row.used}
				result := call.run(t, append(proxy.variables(), "NO_PROXY="+row.noProxy)...)
				assert.Empty(t, result.Error)
				assert.Equal(t, "a.global", result.Member)
				assert.Equal(t, row.used, len(proxy.received()) == 1, "%v", proxy.received())
			})
		}
	}
}

func TestProxyIsNotUsedForUnixSocket(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1, nomadtest.Socket()))
	defer cluster.Close()
	proxy := (&testProxy{agent: "127.0.0.1:1"}).start(t, "http")
	address := "unix://" + cluster.Agent("client-1").SocketPath()
	call := proxyCall{Address: address, Token: nomadtest.ManagementToken}
	result := call.run(t, proxy.variables()...)
	assert.Empty(t, result.Error)
	assert.Equal(t, "server-1.global", result.Member)
	assert.Empty(t, proxy.received())
}

func TestProxyThatRefusesToConnect(t *testing.T) {
	t.Parallel()
	ca := testCA()
	for _, row := range []struct {
		name     string
		fail     failure
		text     string // in the error
		attempts int    // with two retries
	}{
		{"502 is retried", failAlways(502), `the proxy could not connect to the agent: "502 Bad Gateway"`, 3},
		{"503 is retried", failAlways(503), `the proxy could not connect to the agent: "503 Service Unavailable"`, 3},
		{"429 is retried", failAlways(429), `the proxy could not connect to the agent: "429 Too Many Requests"`, 3},
		{"403 is not retried", failAlways(403), `the proxy could not connect to the agent: "403 Forbidden"`, 1},
		{"407 is not retried", failAlways(407), "the proxy wants another user or password", 1},
		{"closed before the response is retried", hangUp(""), "EOF", 3},
		{"closed in the response is retried", hangUp("HTTP/1.1 200 OK\r\nX-A: b\r\n"), "EOF", 3},
	} {
		for _, kind := range []string{"http", "https"} {
			t.Run(kind+" proxy: "+row.name, func(t *testing.T) {
				agent := newProxiedAgent(t, "https", nil)
				proxy := (&testProxy{agent: agent.host(), secured: true, fail: row.fail}).start(t, kind)
				call := proxyCall{Address: agent.address("https"), CAs: ca, Retries: 2}
				result := call.run(t, proxy.variables()...)
				assert.Contains(t, result.Error, row.text)
				assert.Empty(t, result.Meaning)
				assert.Equal(t, row.attempts, result.Attempts)
				connect := "CONNECT " + proxyAgentHost + ":" + agent.port()
				assert.Equal(t, repeatedRequest(connect, row.attempts), proxy.received())
				assert.Empty(t, agent.received())
				assert.Empty(t, result.Stderr)
			})
		}
	}
	t.Run("call succeeds after a temporary 503", func(t *testing.T) {
		agent := newProxiedAgent(t, "https", nil)
		fail := func(n int, w http.ResponseWriter, r *http.Request) bool {
			return n <= 2 && failAlways(503)(n, w, r)
		}
		proxy := (&testProxy{agent: agent.host(), fail: fail}).start(t, "http")
		result := proxyCall{Address: agent.address("https"), CAs: ca, Retries: 2}.run(t, proxy.variables()...)
		assert.Empty(t, result.Error)
		assert.Len(t, proxy.received(), 3)
	})
}

func TestProxyPasswordThatIsWrong(t *testing.T) {
	t.Parallel()
	ca := testCA()
	const refused = "the proxy wants another user or password"
	for _, row := range []struct {
		scheme, kind, text string
		status             int
	}{
		{"https", "http", refused, 0},
		{"https", "https", refused, 0},
		{"https", "socks5", "username/password authentication failed", 0},
		{"http", "socks5", "username/password authentication failed", 0},
		{"http", "http", "407 Proxy Authentication Required", 407},
		{"http", "https", "407 Proxy Authentication Required", 407},
	} {
		for name, user := range map[string]*url.Userinfo{
			"wrong password": url.UserPassword(proxyUser, "hunter2-wrong"),
			"no password":    nil,
		} {
			t.Run(name+": "+row.scheme+" agent, "+row.kind+" proxy", func(t *testing.T) {
				agent := newProxiedAgent(t, row.scheme, nil)
				proxy := (&testProxy{agent: agent.host(), secured: true}).start(t, row.kind)
				proxy.URL.User = user
				text := row.text
				if row.kind == "socks5" && user == nil {
					text = "no acceptable authentication methods"
				}
				call := proxyCall{Address: agent.address(row.scheme), CAs: ca}
				result := call.run(t, proxy.variables()...)
				assert.Contains(t, result.Error, text)
				assert.Equal(t, row.status, result.Status)
				assert.Empty(t, agent.received())
			})
		}
	}
}

func TestProxyThatRepeatsThePassword(t *testing.T) {
	ca := testCA()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme+" agent: the error leaves it out", func(t *testing.T) {
			agent := newProxiedAgent(t, scheme, nil)
			fail := func(n int, w http.ResponseWriter, r *http.Request) bool {
				given := r.Header.Get("Proxy-Authorization") + " " + proxyPassword
				status := "HTTP/1.1 407 not " + given
				return hangUp(fmt.Sprintf("%s\r\nContent-Length: %d\r\n\r\n%s", status, len(given), given))(n, w, r)
			}
			proxy := (&testProxy{agent: agent.host(), secured: true, fail: fail}).start(t, "http")
			call := proxyCall{Address: agent.address(scheme), CAs: ca}
			assert.NotEmpty(t, call.run(t, proxy.variables()...).Error)
		})
	}
}

func TestProxyThatIsNotThere(t *testing.T) {
	t.Parallel()
	ca := testCA()
	nowhere := "127.0.0.1:1"
	for _, scheme := range []string{"http", "https"} {
		for _, kind := range []string{"http", "https", "socks5"} {
			t.Run(scheme+" agent, "+kind+" proxy: is retried and reported", func(t *testing.T) {
				proxy := (&url.URL{Scheme: kind, Host: nowhere, User: url.UserPassword(proxyUser, proxyPassword)}).String()
				result := proxyCall{Address: scheme + "://" + proxyAgentHost + ":4646", CAs: ca, Retries: 2}.run(t,
					"HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy)
				assert.Contains(t, result.Error, "proxyconnect tcp: dial tcp "+nowhere)
				assert.Empty(t, result.Meaning)
				assert.Equal(t, 3, result.Attempts)
			})
		}
	}
	t.Run("a name that does not resolve is reported", func(t *testing.T) {
		result := proxyCall{Address: "https://" + proxyAgentHost + ":4646", CAs: ca}.run(t,
			"HTTPS_PROXY=http://proxy.example.com:3128")
		assert.Contains(t, result.Error, "proxyconnect tcp: dial tcp: lookup proxy.example.com")
	})
}

func TestProxyThatHangs(t *testing.T) {
	t.Parallel()
	ca := testCA()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its backlog
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	for _, scheme := range []string{"http", "https"} {
		for _, kind := range []string{"http", "https", "socks5"} {
			t.Run(scheme+" agent, silent "+kind+" proxy: the call ends with its context", func(t *testing.T) {
				t.Parallel()
				proxy := (&url.URL{Scheme: kind, Host: silent.Addr().String()}).String()
				call := proxyCall{
					Address: scheme + "://" + proxyAgentHost + ":4646", CAs: ca, Retries: 2,
					Timeout: 300 * time.Millisecond,
				}
				result := call.run(t, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy)
				assert.True(t, result.Expired, result.Error)
				assert.Empty(t, result.Meaning)
				assert.Equal(t, 1, result.Attempts)
			})
		}
	}
	for _, kind := range []string{"http", "https", "socks5"} {
		t.Run(kind+" proxy that hangs while it connects: the call ends with its context", func(t *testing.T) {
			t.Parallel()
			agent := newProxiedAgent(t, "https", nil)
			fail := func(_ int, w http.ResponseWriter, r *http.Request) bool {
				if r != nil {
					<-r.Context().Done() // until the client disconnects
				} else {
					io.Copy(io.Discard, w.(rawResponse))
				}
				return true
			}
			proxy := (&testProxy{agent: agent.host(), secured: true, fail: fail}).start(t, kind)
			call := proxyCall{
				Address: agent.address("https"), CAs: ca, Retries: 2, Timeout: 3 * time.Second,
			}
			result := call.run(t, proxy.variables()...)
			assert.True(t, result.Expired, result.Error)
			assert.Empty(t, result.Meaning)
			assert.Equal(t, 1, result.Attempts)
			assert.Len(t, proxy.received(), 1)
		})
	}
}

func TestProxyThatRefusesARequest(t *testing.T) {
	t.Parallel()
	ca := testCA()
	// The response of an agent at its connection limit. The server adds a Date.
	agentsWords := func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, testkit.Refusal)
		return true
	}
	for _, row := range []struct {
		name    string
		fail    failure
		status  int
		meaning string
	}{
		{"429", failAlways(429), 429, "ErrTooManyRequests"},
		{"429 with the agent's words", agentsWords, 429, "ErrTooManyRequests"},
		{"502", failAlways(502), 502, ""},
		{"503", failAlways(503), 503, ""},
		{"504", failAlways(504), 504, ""},
	} {
		for _, kind := range []string{"http", "https"} {
			if kind == "https" && row.name != "429 with the agent's words" {
				continue // the same as with http
			}
			agent := newProxiedAgent(t, "http", nil)
			call := proxyCall{Address: agent.address("http"), CAs: ca, Retries: 2}
			request := "GET " + call.Address + "/v1/agent/members"
			t.Run(kind+" proxy: "+row.name+" is retried up to the limit of WithRetries", func(t *testing.T) {
				for _, retries := range []int{2, 0} {
					proxy := (&testProxy{agent: agent.host(), secured: true, fail: row.fail}).start(t, kind)
					call := call
					call.Retries = retries
					result := call.run(t, proxy.variables()...)
					assert.Equal(t, row.status, result.Status, result.Error)
					assert.Equal(t, row.meaning, result.Meaning)
					assert.Equal(t, retries+1, result.Attempts)
					assert.Equal(t, repeatedRequest(request, retries+1), proxy.received())
					assert.NotContains(t, result.Error, "the agent accepts no more connections")
				}
			})
			t.Run(kind+" proxy: "+row.name+" that is temporary does not fail the call", func(t *testing.T) {
				fail := func(n int, w http.ResponseWriter, r *http.Request) bool {
					return n <= 2 && row.fail(n, w, r)
				}
				proxy := (&testProxy{agent: agent.host(), secured: true, fail: fail}).start(t, kind)
				result := call.run(t, proxy.variables()...)
				assert.Empty(t, result.Error)
				assert.Equal(t, repeatedRequest(request, 3), proxy.received())
			})
			t.Run(kind+" proxy: "+row.name+" with a Retry-After beyond the time limit is not retried", func(t *testing.T) {
				fail := func(n int, w http.ResponseWriter, r *http.Request) bool {
					w.Header().Set("Retry-After", "3600")
					return row.fail(n, w, r)
				}
				proxy := (&testProxy{agent: agent.host(), secured: true, fail: fail}).start(t, kind)
				result := call.run(t, proxy.variables()...)
				assert.Equal(t, row.status, result.Status, result.Error)
				assert.Equal(t, repeatedRequest(request, 1), proxy.received())
			})
		}
	}
}

func TestProxyThatClosesInTheResponse(t *testing.T) {
	t.Parallel()
	ca := testCA()
	for _, row := range []struct{ name, text string }{
		{"the status line", "HTTP/1.1 2"},
		{"the protocol", "HTT"},
		{"the headers", "HTTP/1.1 200 OK\r\nX-A: b\r\n"},
	} {
		for _, kind := range []string{"http", "https"} {
			t.Run(kind+" proxy: closed in "+row.name+" is retried", func(t *testing.T) {
				agent := newProxiedAgent(t, "http", nil)
				fail := func(n int, w http.ResponseWriter, r *http.Request) bool {
					return n <= 2 && hangUp(row.text)(n, w, r)
				}
				proxy := (&testProxy{agent: agent.host(), fail: fail}).start(t, kind)
				call := proxyCall{Address: agent.address("http"), CAs: ca, Retries: 2}
				result := call.run(t, proxy.variables()...)
				assert.Empty(t, result.Error)
				assert.Len(t, proxy.received(), 3)
			})
		}
	}
}

func TestProxyLimitIsNotCalledTheAgents(t *testing.T) {
	agent := newProxiedAgent(t, "http", nil)
	proxy := (&testProxy{agent: agent.host(), fail: failAlways(429)}).start(t, "http")
	result := proxyCall{Address: agent.address("http")}.run(t, proxy.variables()...)
	assert.Contains(t, result.Error, "429 Too Many Requests")
	assert.NotContains(t, result.Error, "the agent takes no more connections")
}

func TestProxyCertificateIsCheckedForTheProxysHost(t *testing.T) {
	t.Parallel()
	pki, ca := testkit.NewPKI(t), testCA()
	const agentName = "server.global.nomad" // the certificate of pki
	agentsCert := &tls.Config{Certificates: []tls.Certificate{pki.Pair}}
	agent := newProxiedAgent(t, "https", agentsCert)
	for _, row := range []struct {
		name, host string
		cert       *tls.Config
		text       string // in the error
	}{
		{"certificate for the proxy's IP address is accepted", "127.0.0.1", nil, ""},
		{"certificate for the proxy's name is accepted", "proxy.example.com", nil, ""},
		{"certificate for the agent's name is refused", "127.0.0.1", agentsCert, "127.0.0.1"},
		{"certificate for another name is refused", "proxy.example.org", nil, "proxy.example.org"},
	} {
		for option, config := range map[string]bool{"WithTLS": false, "WithTLSConfig": true} {
			t.Run(option+": "+row.name, func(t *testing.T) {
				proxy := (&testProxy{agent: agent.host(), secured: true, config: row.cert}).start(t, "https")
				_, port, _ := net.SplitHostPort(proxy.URL.Host)
				proxy.URL.Host = net.JoinHostPort(row.host, port)
				call := proxyCall{
					Address: agent.address("https"), CAs: append(slices.Clone(pki.CAPEM), ca...),
					ServerName: agentName, TLSConfig: config, Retries: 2, Resolves: true,
				}
				result := call.run(t, proxy.variables()...)
				if row.text == "" {
					assert.Empty(t, result.Error)
					assert.Len(t, proxy.received(), 1)
					return
				}
				assert.Contains(t, result.Error, "x509: ")
				assert.Contains(t, result.Error, row.text)
				assert.Equal(t, 1, result.Attempts, "a TLS failure is not retried")
				assert.Empty(t, proxy.received())
			})
		}
	}
	t.Run("an agent's certificate for another name is refused behind a good proxy", func(t *testing.T) {
		for _, kind := range []string{"http", "https", "socks5"} {
			proxy := (&testProxy{agent: agent.host()}).start(t, kind)
			call := proxyCall{
				Address: agent.address("https"), CAs: append(slices.Clone(pki.CAPEM), ca...), Retries: 2,
			}
			result := call.run(t, proxy.variables()...)
			assert.Contains(t, result.Error, "not "+proxyAgentHost)
			assert.Equal(t, 1, result.Attempts)
		}
	})
	t.Run("without a TLS option the system's authorities are used", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("the system's authorities cannot be replaced here")
		}
		agent := newProxiedAgent(t, "http", nil)
		proxy := (&testProxy{agent: agent.host()}).start(t, "https")
		call := proxyCall{Address: agent.address("http")}
		result := call.run(t, proxy.variables()...)
		assert.Contains(t, result.Error, "x509: ")
		file := t.TempDir() + "/ca.pem"
		require.NoError(t, os.WriteFile(file, ca, 0o600))
		result = call.run(t, append(proxy.variables(), "SSL_CERT_FILE="+file)...)
		assert.Empty(t, result.Error)
		assert.Len(t, proxy.received(), 1)
	})
}

// TestProxyToAgentAtItsLimit makes a call while other programs hold all connections of the agent.
func TestProxyToAgentAtItsLimit(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ scheme, kind string }{
		{"https", "http"}, {"https", "https"}, {"https", "socks5"}, {"http", "socks5"},
	} {
		t.Run(row.scheme+" agent through "+row.kind+" proxy: the error reports the connection limit", func(t *testing.T) {
			opts := []nomadtest.AgentOption{nomadtest.MaxConns(1)}
			if row.scheme == "https" {
				opts = append(opts, nomadtest.TLS())
			}
			cluster := nomadtest.NewCluster(nomadtest.Servers(1, opts...))
			defer cluster.Close()
			agent, err := url.Parse(cluster.Agents()[0].URL())
			require.NoError(t, err)
			holder := cluster.Client(cluster.Agents()[0].Name())
			logs, err := holder.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
			require.NoError(t, err)
			defer logs.Close()

			proxy := (&testProxy{agent: agent.Host, secured: true}).start(t, row.kind)
			call := proxyCall{
				Address: row.scheme + "://" + proxyAgentHost + ":" + agent.Port(), Timeout: time.Second, Retries: 2,
				CAs: append(testCA(), cluster.TLS().CAPEM...), ServerName: "server.global.nomad",
			}
			for said := false; !said; call.Timeout *= 2 {
				// On a busy machine the context may end before the first refusal.
				require.Less(t, call.Timeout, 30*time.Second, "no error names the connection limit")
				before := len(proxy.received())
				result := call.run(t, proxy.variables()...)
				require.True(t, result.Expired || call.Timeout > 4*time.Second, result.Error)
				said = strings.Contains(result.Error, "the agent accepts no more connections from this address")
				assert.Empty(t, result.Stderr, "nothing goes to the standard log")
				most := int(call.Timeout/time.Second) * 300
				assert.Less(t, len(proxy.received())-before, most, "the agent is given a pause between two attempts")
			}

			logs.Close()
			call.Timeout = 0
			result := call.run(t, proxy.variables()...)
			assert.Empty(t, result.Error)
			assert.Empty(t, result.Stderr)
		})
	}
}

// TestProxySOCKSWithRefusalBeforeTheRequest has the proxy send the agent's 429 right after its own reply.
func TestProxySOCKSWithRefusalBeforeTheRequest(t *testing.T) {
	t.Parallel()
	const words = testkit.Refusal
	fail := func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprintf(w, "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00HTTP/1.1 429 Too Many Requests\r\n"+
			"Content-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(words), words)
		return true
	}
	proxy := (&testProxy{fail: fail}).start(t, "socks5")
	call := proxyCall{Address: "http://" + proxyAgentHost + ":4646", Timeout: time.Second, Retries: 2}
	result := call.run(t, proxy.variables()...)
	assert.True(t, result.Expired, result.Error)
	assert.Equal(t, "ErrTooManyRequests", result.Meaning)
	assert.Equal(t, 1, result.Attempts)
	assert.Empty(t, result.Stderr, "nothing goes to the standard log")
	assert.Less(t, len(proxy.received()), 300, "the agent is given a pause between two attempts")
}

func TestProxyGetsNoTokenForAnotherHost(t *testing.T) {
	agent := newProxiedAgent(t, "http", nil)
	proxy := (&testProxy{agent: agent.host()}).start(t, "http")
	call := proxyCall{Address: agent.address("http"), Token: "secret", Host: "other.example.com"}
	result := call.run(t, proxy.variables()...)
	assert.Empty(t, result.Error)
	// A proxy forwards a request to its Host.
	require.Equal(t, []string{"GET http://other.example.com/v1/agent/members"}, proxy.received())
	assert.Empty(t, agent.received()[0].Get("X-Nomad-Token"))
}
