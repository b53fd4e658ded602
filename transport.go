package nomad

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

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
}

// newPool makes the transport that settings describe. It connects to nothing.
func newPool(s *settings) (*pool, error) {
	p := &pool{http: &http.Client{CheckRedirect: checkRedirect}}
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
		rt = &transports{calls: calls, streams: streams}
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
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaderBytes
	// Agents speak HTTP/1.1 only.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)

	// What a call has given up on must not hold its place among the connections for much longer than the call may take.
	t.TLSHandshakeTimeout = min(t.TLSHandshakeTimeout, 2*s.timeout)
	dialer := &net.Dialer{Timeout: min(dialTimeout, 2*s.timeout), KeepAlive: keepAlive}
	t.DialContext = dialer.DialContext
	if socket := s.address.socket; socket != "" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}

	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case s.tlsConfig != nil:
		t.TLSClientConfig = s.tlsConfig.Clone()
		t.TLSClientConfig.MinVersion = max(t.TLSClientConfig.MinVersion, tls.VersionTLS12)
	case s.tls != nil:
		config, err := s.tls.config()
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = config
	}
	return t, nil
}

// close drops the idle connections; those in use follow when they are done.
func (p *pool) close() {
	p.closed.Store(true)
	for _, t := range p.own {
		t.CloseIdleConnections()
	}
}

// transports sends streams and calls on connections of different pools.
type transports struct{ calls, streams *http.Transport }

type streamKey struct{}

// asStream marks a request's context so that it gets a connection of its own.
func asStream(ctx context.Context) context.Context { return context.WithValue(ctx, streamKey{}, true) }

func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(streamKey{}) != nil {
		return t.streams.RoundTrip(req)
	}
	return t.calls.RoundTrip(req)
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
		return fmt.Errorf("%w: it leads to another host, %.200q", ErrRedirect, req.URL.Scheme+"://"+req.URL.Host)
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
