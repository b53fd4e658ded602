package nomad

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-cleanhttp"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/reload"
)

const (
	keepAlive      = 30 * time.Second
	maxHeaderBytes = 1 << 20
	maxRedirects   = 5
)

// pool is the http.Client, and its connections, that a Client shares with those created from it.
type pool struct {
	http   *http.Client
	conns  *agentconn.Pool // nil with WithHTTPClient
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
		rt = typedErrors{rt}
		p.http.Jar = s.httpClient.Jar
	} else {
		var err error
		if p.conns, err = newConns(s); err != nil {
			return nil, err
		}
		rt = p.conns
	}
	for _, wrap := range s.wrappers {
		if rt = wrap(rt); rt == nil {
			return nil, fmt.Errorf("WithTransport: the function returned nil")
		}
	}
	p.http.Transport = outermost{rt}
	return p, nil
}

// outermost marks the errors of the round trippers, so that those of http.Client itself can be told apart.
type outermost struct{ http.RoundTripper }

type roundTripError struct{ error }

func (e *roundTripError) Unwrap() error { return e.error }

func (o outermost) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := o.RoundTripper.RoundTrip(req)
	if err != nil {
		err = &roundTripError{err}
	}
	return res, err
}

// typedErrors gives the errors of the program's own round tripper the types of those of agentconn.
type typedErrors struct{ http.RoundTripper }

func (t typedErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		err = agentconn.Classify(err, t.RoundTripper)
	}
	return res, err
}

func (o outermost) CloseIdleConnections()   { closeIdle(o.RoundTripper) }
func (t typedErrors) CloseIdleConnections() { closeIdle(t.RoundTripper) }

func closeIdle(rt http.RoundTripper) {
	if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// newConns makes the pool of connections that settings describe.
func newConns(s *settings) (*agentconn.Pool, error) {
	t := cleanhttp.DefaultPooledTransport()
	t.DialContext = (&net.Dialer{KeepAlive: keepAlive}).DialContext
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaderBytes
	// Agents speak HTTP/1.1 only.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	config := agentconn.Config{Transport: t, Socket: s.address.socket, MaxConns: s.maxConns}
	base, override := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)}, ""
	switch {
	case s.tlsConfig != nil:
		base, override = s.tlsConfig, s.tlsConfig.ServerName
	case s.tls != nil:
		files, err := reload.NewTLS(s.tls.files(), s.logger)
		if err != nil {
			return nil, err
		}
		config.TLS = files.Config
		return agentconn.New(config), nil
	}
	config.TLS = func(host string, proxy bool) *tls.Config {
		c := base.Clone()
		c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
		c.NextProtos = nil // a configuration that package http has used offers HTTP/2
		if c.ServerName = host; !proxy {
			c.ServerName = cmp.Or(override, host)
		}
		return c
	}
	return agentconn.New(config), nil
}

// close drops the idle connections; those in use follow when they are done.
func (p *pool) close() {
	p.closed.Store(true)
	if p.conns != nil {
		p.conns.Close()
	}
}

// checkRedirect decides whether to follow a redirect. Package http would send X-Nomad-Token to any host, and turn a PUT into a
// GET. Old agents redirect unknown paths to their web interface.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1]
	switch {
	case strings.Contains(from.URL.Path, "/v1/") && !strings.Contains(req.URL.Path, "/v1/") && strings.Contains(req.URL.Path, "/ui/"):
		return fmt.Errorf("%w: it redirects to its web interface", ErrUnsupported)
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
	return strings.EqualFold(from.Hostname(), to.Hostname()) && (portOf(from) == portOf(to) && from.Scheme == to.Scheme ||
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
