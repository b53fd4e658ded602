// Package transport makes the http.Client of a Client: connections from agentconn or from the program's own http.Client,
// the program's wrappers around them, and the rule for redirects.
package transport

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-cleanhttp"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/agenturl"
)

const (
	keepAlive      = 30 * time.Second
	maxHeaderBytes = 1 << 20
	maxRedirects   = 5
)

// Config describes an http.Client.
type Config struct {
	Socket   string                                      // path of a unix socket to connect to, whatever the address
	MaxConns int                                         // most connections to one agent
	TLS      func(host string, proxy bool) *tls.Config   // returns the configuration for a host; see FixedTLS
	Client   *http.Client                                // the program's own, in place of the above
	Wrappers []func(http.RoundTripper) http.RoundTripper // of the program, from the innermost

	// The errors that are wrapped: of a request after Close, of a redirect that is not followed, and of one to the web
	// interface, as old agents redirect unknown paths.
	ErrClosed, ErrRedirect, ErrUnsupported error
}

// FixedTLS returns a Config.TLS that is base with the name of each host; nil stands for the default configuration.
func FixedTLS(base *tls.Config) func(host string, proxy bool) *tls.Config {
	if base == nil {
		base = &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	}
	return func(host string, proxy bool) *tls.Config {
		c := base.Clone()
		c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
		c.NextProtos = nil // a configuration that package http has used offers HTTP/2
		if c.ServerName = host; !proxy {
			c.ServerName = cmp.Or(base.ServerName, host)
		}
		return c
	}
}

// Client is an http.Client and its connections.
type Client struct {
	config Config
	http   *http.Client
	conns  *agentconn.Pool // nil with the program's own http.Client
	closed atomic.Bool
}

// New makes a Client. It connects to nothing. Its error is that of a wrapper.
func New(config Config) (*Client, error) {
	c := &Client{config: config}
	c.http = &http.Client{CheckRedirect: c.checkRedirect}
	var rt http.RoundTripper
	if config.Client != nil {
		if rt = config.Client.Transport; rt == nil {
			rt = http.DefaultTransport
		}
		rt = typedErrors{rt}
		c.http.Jar = config.Client.Jar
	} else {
		t := cleanhttp.DefaultPooledTransport()
		t.DialContext = (&net.Dialer{KeepAlive: keepAlive}).DialContext
		t.DisableCompression = true
		t.MaxResponseHeaderBytes = maxHeaderBytes
		// Agents speak HTTP/1.1 only.
		t.ForceAttemptHTTP2 = false
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		c.conns = agentconn.New(agentconn.Config{Transport: t, Socket: config.Socket, MaxConns: config.MaxConns, TLS: config.TLS})
		rt = c.conns
	}
	for _, wrap := range config.Wrappers {
		if rt = wrap(rt); rt == nil {
			return nil, errors.New("WithTransport: the function returned nil")
		}
	}
	c.http.Transport = outermost{rt}
	return c, nil
}

// Do sends a request, also after Close. Its error is ErrRedirect, ErrUnsupported or what a round tripper returned.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	res, err := c.http.Do(req)
	if err == nil {
		if err = c.unfollowed(res, req); err != nil {
			res.Body.Close()
			return nil, err
		}
		return res, nil
	}
	var failed *roundTripError
	if errors.As(err, &failed) {
		return nil, failed.error
	}
	err = errors.Unwrap(err) // of a url.Error, which has the query in it
	if !errors.Is(err, c.config.ErrUnsupported) && !errors.Is(err, c.config.ErrRedirect) && req.Context().Err() == nil {
		err = fmt.Errorf("%w: %w", c.config.ErrRedirect, err) // all else that http.Client fails with
	}
	return nil, err
}

// IsOwn reports whether the connections are those of agentconn.
func (c *Client) IsOwn() bool { return c.conns != nil }

// IsClosed reports whether Close was called.
func (c *Client) IsClosed() bool { return c.closed.Load() }

// Close closes idle connections. Those in use follow when they are done. Those of the program's own http.Client stay.
func (c *Client) Close() {
	c.closed.Store(true)
	if c.conns != nil {
		c.conns.Close()
	}
}

// checkRedirect decides whether to follow a redirect. Package http would send X-Nomad-Token to any host, and turn a PUT
// into a GET.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	from := via[len(via)-1]
	switch {
	case strings.Contains(from.URL.Path, "/v1/") && isUI(req.URL.Path) && agenturl.MayRedirect(from.URL, req.URL):
		return fmt.Errorf("%w: it redirects to its web interface", c.config.ErrUnsupported)
	case len(via) > maxRedirects:
		return c.refuse("more than %d in a row", maxRedirects)
	case req.Method != from.Method:
		return c.refuse("it would turn the %s into a %s", from.Method, req.Method)
	case from.URL.Scheme == "https" && req.URL.Scheme != "https":
		return c.refuse("it leads from https to %q", req.URL.Scheme)
	case !agenturl.MayRedirect(from.URL, req.URL):
		return c.refuse("it leads to another host, %q", req.URL.Scheme+"://"+req.URL.Host)
	}
	return nil
}

// unfollowed returns an error if a response is a redirect that http.Client has not followed. That is one for which a body
// would have to be sent again that can be read once.
func (c *Client) unfollowed(res *http.Response, req *http.Request) error {
	if !isRedirect(res) {
		return nil
	}
	from := cmp.Or(res.Request, req)
	if target, err := from.URL.Parse(res.Header.Get("Location")); err == nil {
		if err := c.checkRedirect(&http.Request{Method: from.Method, URL: target}, []*http.Request{from}); err != nil {
			return err
		}
	}
	return c.refuse("the body of the request can be sent only once")
}

// isRedirect reports whether a response is a redirect that package http knows.
func isRedirect(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return res.Header.Get("Location") != ""
	}
	return false
}

// refuse returns the error of a redirect that is not followed.
func (c *Client) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", c.config.ErrRedirect, fmt.Errorf(format, args...))
}

// isUI reports whether a path is that of the web interface. Both parts can be in the path of a proxy too.
func isUI(path string) bool {
	return strings.LastIndex(path+"/", "/ui/") > strings.LastIndex(path+"/", "/v1/")
}

// outermost marks the errors of the round trippers, so that those of http.Client itself can be told apart.
type outermost struct{ http.RoundTripper }

type roundTripError struct{ error }

func (e *roundTripError) Unwrap() error { return e.error }

func (o outermost) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := o.RoundTripper.RoundTrip(req)
	switch {
	case err != nil:
		if res != nil && res.Body != nil { // a wrapper that is wrong
			res.Body.Close()
		}
		res, err = nil, &roundTripError{err}
	case res == nil:
		err = &roundTripError{errors.New("the round tripper returned neither a response nor an error")}
	case res.Body == nil:
		res.Body = http.NoBody
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
