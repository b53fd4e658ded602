package nomad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/hashicorp/go-cleanhttp"
)

const (
	dialTimeout    = 10 * time.Second
	keepAlive      = 30 * time.Second
	maxHeaderBytes = 1 << 20
	maxRedirects   = 5
)

// pool is the http.Client, and the connections behind it, that a Client shares with those made from it.
type pool struct {
	http   *http.Client
	own    []*http.Transport // to close; none with WithHTTPClient
	closed atomic.Bool

	mu    sync.Mutex
	peers map[string]weak.Pointer[peer] // by address, for as long as a Client has it
}

// newPool makes the transport that settings describe. It connects to nothing.
func newPool(s *settings) (*pool, error) {
	p := &pool{
		http:  &http.Client{CheckRedirect: checkRedirect},
		peers: map[string]weak.Pointer[peer]{},
	}
	var rt http.RoundTripper
	if s.httpClient != nil {
		rt = s.httpClient.Transport
		if rt == nil {
			rt = http.DefaultTransport
		}
		p.http.Jar = s.httpClient.Jar
	} else {
		calls, err := newTransport(s)
		if err != nil {
			return nil, err
		}
		// A stream stays for as long as it likes, so it gets a connection of its own.
		streams := calls.Clone()
		streams.MaxConnsPerHost = 0
		streams.DisableKeepAlives = true
		p.own = []*http.Transport{calls, streams}
		rt = &transports{calls: calls, streams: streams, wrapped: len(s.wrappers) > 0}
	}
	for _, wrap := range s.wrappers {
		if rt = wrap(rt); rt == nil {
			return nil, fmt.Errorf("WithTransport: the function returned nil")
		}
	}
	p.http.Transport = rt
	return p, nil
}

// newTransport makes a pooled transport that keeps as many connections as it may make, so that no call makes and drops
// one of its own.
func newTransport(s *settings) (*http.Transport, error) {
	t := cleanhttp.DefaultPooledTransport()
	t.MaxConnsPerHost = s.maxConns
	t.MaxIdleConnsPerHost = s.maxConns
	t.MaxIdleConns = 0 // the limit is per agent
	t.IdleConnTimeout = idleTimeout
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaderBytes
	// Agents speak HTTP/1.1 only.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)

	// What a call has given up on must not hold its place among the connections for much longer than the call may take.
	t.TLSHandshakeTimeout = min(t.TLSHandshakeTimeout, 2*s.timeout)
	d := &dialer{
		Dialer:    net.Dialer{Timeout: min(dialTimeout, 2*s.timeout), KeepAlive: keepAlive},
		socket:    s.address.socket,
		handshake: t.TLSHandshakeTimeout,
		lifetime:  s.connLifetime,
	}
	t.DialContext = d.dial
	t.DialTLSContext = d.dialTLS
	if d.socket != "" {
		t.Proxy = nil
	}

	d.tls = func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }
	switch {
	case s.tlsConfig != nil:
		config := s.tlsConfig.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
		config.NextProtos = nil // a configuration that package http has used offers HTTP/2, which is not spoken here
		d.tls = config.Clone
	case s.tls != nil:
		live, err := newLiveTLS(s.tls, s.logger)
		if err != nil {
			return nil, err
		}
		d.tls = live.config
	}
	// Behind a proxy the handshake is package http's.
	t.TLSClientConfig = d.tls()
	if config := t.TLSClientConfig; s.tls != nil && len(config.Certificates) > 0 {
		config.Certificates = nil
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &d.tls().Certificates[0], nil
		}
	}
	return t, nil
}

// wrapped reports whether something of the program's own stands before the transports.
func (p *pool) wrapped() bool {
	own, ok := p.http.Transport.(*transports)
	return !ok || own.wrapped
}

// close drops the idle connections; those in use follow when they are done.
func (p *pool) close() {
	p.closed.Store(true)
	for _, t := range p.own {
		t.CloseIdleConnections()
	}
}

// peer finds what other Clients of the pool know about an agent.
func (p *pool) peer(address string) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.peers[address].Value(); known != nil {
		return known
	}
	fresh := &peer{budget: budget{left: budgetSize, since: time.Now()}}
	p.peers[address] = weak.Make(fresh)
	runtime.AddCleanup(fresh, p.forget, address)
	return fresh
}

// forget drops what was known about an agent that no Client calls any more.
func (p *pool) forget(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers[address].Value() == nil {
		delete(p.peers, address)
	}
}

// transports sends streams and calls on connections of different pools.
type transports struct {
	calls, streams *http.Transport
	wrapped        bool // by round trippers of the program's own
}

// attempt is one try of a call, as its request's context carries it to where connections are made.
type attempt struct {
	peer    *peer
	stream  bool         // it gets a connection of its own
	refused atomic.Bool  // the agent's limit is why it failed
	held    atomic.Bool  // a connection for it waits for its turn
	running atomic.Int32 // round trips of it; none has a use for a connection any more

	trip // where no round tripper of the program's own can make several of it, even at once
}

// trip is the way of a request through the transport.
type trip struct {
	trace httptrace.ClientTrace
	req   *http.Request
	conn  *conn // that it was sent on
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	call, _ := ctx.Value(attemptKey{}).(*attempt)
	return call
}

// within gives the context of the attempt's request.
func (call *attempt) within(ctx context.Context, p *pool) context.Context {
	ctx = context.WithValue(ctx, attemptKey{}, call)
	if p.wrapped() {
		return ctx
	}
	return call.watch(ctx)
}

// watch has the trip learn which connection it gets.
func (t *trip) watch(ctx context.Context) context.Context {
	t.trace.GotConn = t.gotConn
	return httptrace.WithClientTrace(ctx, &t.trace)
}

// gotConn notes the connection that the request is sent on. On one that is old it is the last.
func (t *trip) gotConn(info httptrace.GotConnInfo) {
	if t.conn = connOf(info.Conn); t.conn != nil && info.Reused && time.Now().After(t.conn.expires) {
		lastOn(t.req)
		t.conn.peer.yield()
	}
}

func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	call := attemptOf(req.Context())
	if call == nil { // a round tripper of the program's own has dropped it
		return t.calls.RoundTrip(req)
	}
	rt := t.calls
	if call.stream {
		rt = t.streams
	}
	way := &call.trip
	if t.wrapped {
		way = new(trip)
		own := req.WithContext(way.watch(req.Context()))
		if own.Body != nil {
			own.Header = own.Header.Clone() // as lastOn may change it
		}
		way.req = own
	} else {
		way.req, way.conn = req, nil
	}
	call.running.Add(1)
	res, err := rt.RoundTrip(way.req)
	call.running.Add(-1)
	c := way.conn
	if err != nil && c != nil && !lostConnection(err) && isMalformed(err) && c.cutHead() {
		err = errCutHead
	}
	if call.held.Load() {
		call.peer.wake()
	}
	switch {
	case errors.Is(err, errRefused):
		call.refused.Store(true)
	case c == nil || c.served.Load():
	case err != nil:
		if req.Context().Err() == nil && lostConnection(err) && c.peer.refusedSilently(c) {
			call.refused.Store(true)
		}
	case isRefusal(way.req, res):
		c.peer.refused()
		call.refused.Store(true)
	default:
		c.peer.take(c)
	}
	if call.stream && call.refused.Load() {
		t.calls.CloseIdleConnections() // it can have the place of one
	}
	if err != nil {
		return nil, err
	}
	res.Request = req
	if c != nil && c.tls != nil {
		res.TLS = c.tls
	}
	return res, nil
}

// lastOn has the connection closed after a request. Package http sends a copy of one with a body, with the same header.
func lastOn(req *http.Request) {
	req.Close = true
	if req.Body != nil {
		req.Header.Set("Connection", "close")
	}
}

// isRefusal reports whether an answer is how an agent refuses a connection that is over its limit. Proxies that limit
// requests say when to come back, or keep the connection; where they were asked to close it, they date what they say, and a
// refusal has no date.
func isRefusal(req *http.Request, res *http.Response) bool {
	return res.StatusCode == http.StatusTooManyRequests && res.Close && res.Header.Get("Retry-After") == "" && !isJSON(res.Header) &&
		!(req.Close && res.Header.Get("Date") != "")
}

// connOf finds the connection that the dialer made.
func connOf(c net.Conn) *conn {
	if secured, ok := c.(*tls.Conn); ok { // by package http, to an agent behind a proxy
		c = secured.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// do is the Do of the http.Client, without what that does to every request for the sake of redirects.
func (p *pool) do(req *http.Request) (*http.Response, error) {
	if p.http.Jar != nil {
		return p.http.Do(req)
	}
	res, err := p.http.Transport.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case res == nil:
		return nil, errors.New("the transport gave neither an answer nor an error")
	case res.Body == nil:
		res.Body = http.NoBody
	}
	if res.StatusCode < 300 || res.StatusCode > 399 {
		return res, nil
	}
	follow := &http.Client{Transport: &resumed{res, p.http.Transport}, CheckRedirect: p.http.CheckRedirect}
	return follow.Do(req)
}

// resumed gives an answer that is here already, and then what its transport gives.
type resumed struct {
	first *http.Response
	http.RoundTripper
}

func (r *resumed) RoundTrip(req *http.Request) (*http.Response, error) {
	if res := r.first; res != nil {
		r.first = nil
		return res, nil
	}
	return r.RoundTripper.RoundTrip(req)
}

// checkRedirect decides whether to follow a redirect. The http package would carry X-Nomad-Token to any host, and
// would turn a PUT into a GET.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d in a row", ErrRedirect, maxRedirects)
	case req.Method != from.Method:
		return fmt.Errorf("%w: it would turn the %s into a %s", ErrRedirect, from.Method, req.Method)
	case from.URL.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: it leads from https to %.10q", ErrRedirect, req.URL.Scheme)
	case !sameOrigin(from.URL, req.URL):
		return fmt.Errorf("%w: it leads to another host, %q", ErrRedirect, req.URL.Scheme+"://"+req.URL.Host)
	}
	return nil
}

// sameOrigin reports whether two URLs lead to the same host and port, or from the default port of http to that of
// https on the same host.
func sameOrigin(from, to *url.URL) bool {
	return from.Hostname() == to.Hostname() && (portOf(from) == portOf(to) && from.Scheme == to.Scheme ||
		from.Scheme == "http" && to.Scheme == "https" && (portOf(from) == portOf(to) || portOf(from) == "80" && portOf(to) == "443"))
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}
