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

// pool is the http.Client, and the connections behind it, that a Client shares with those made from it.
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
	p.http.Transport = rt
	return p, nil
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
