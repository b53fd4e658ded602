// Package agentconn shares a few connections to each Nomad agent among many requests.
//
// An agent accepts a limited number of connections from one address, 100 unless limits.http_max_conns_per_client
// says otherwise, for all processes there. It refuses the next ones: a few with a 429, the others by closing the
// connection without a response. So a Pool opens few connections, makes requests wait in order for one of them,
// sends a refused request again, and closes connections now and then so that other processes get their share.
//
// The Pool is an http.RoundTripper and knows nothing of Nomad's endpoints.
package agentconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a Pool.
type Config struct {
	Transport *http.Transport // makes the connections, one at a time; its own pool is not used
	Socket    string          // path of a unix socket to connect to, whatever the address
	MaxConns  int             // most connections to one agent

	// TLS returns the configuration for a host: an agent, or a proxy on the way to one.
	TLS func(host string, proxy bool) *tls.Config
}

// Mark changes how a Pool treats a request.
type Mark uint8

// The marks. They can be combined.
const (
	Once  Mark = 1 << iota // send one request; do not wait for the agent to have room
	Fresh                  // use a connection that carried no request before
	Slow                   // the response is a stream, or can take long to begin: its connection does not count
	Bound                  // the context ends when the response was read, and so needs none below it

	// These say whether the request may be sent again after the connection was lost, whatever its method and headers are.
	Idempotent
	NotIdempotent
)

type markKey struct{}

// WithMark marks the request that is made with the context, in addition to the marks that the context has. Idempotent and
// NotIdempotent replace each other.
func WithMark(ctx context.Context, m Mark) context.Context {
	marks := markOf(ctx)
	if m&(Idempotent|NotIdempotent) != 0 {
		marks &^= Idempotent | NotIdempotent
	}
	return context.WithValue(ctx, markKey{}, marks|m)
}

// ByMethod returns a context without the marks Idempotent and NotIdempotent. A wrapper around the transport may use the
// context of one request for another one.
func ByMethod(ctx context.Context) context.Context {
	if marks := markOf(ctx); marks&(Idempotent|NotIdempotent) != 0 {
		return context.WithValue(ctx, markKey{}, marks&^(Idempotent|NotIdempotent))
	}
	return ctx
}

// markOf returns the marks that a context has.
func markOf(ctx context.Context) Mark {
	m, _ := ctx.Value(markKey{}).(Mark)
	return m
}

// Pool is an http.RoundTripper that keeps connections to agents.
//
// A request that is marked Idempotent is sent again when the connection is lost before the response. If it is not marked
// NotIdempotent either, a GET, a HEAD, or a request with an Idempotency-Key in its headers (which is not sent if it has no
// values) is, as with http.Transport.
type Pool struct {
	config Config

	mu     sync.Mutex // guards agents and all that belongs to them
	agents map[agentKey]*agent
	closed bool
}

type agentKey struct{ scheme, host string }

// New makes a Pool. It connects to nothing.
func New(config Config) *Pool { return &Pool{config: config, agents: map[agentKey]*agent{}} }

// How many connections may end without a response to one request: maxLost if the agent never sent anything, maxLostKnown if
// it did, because it may be full. From the second on, the request waits longer before each.
const (
	maxLost, maxLostKnown = 5, 12
	pauseLost             = 200 * time.Millisecond
	idleBefore            = time.Second // a new connection that lived for longer was not refused
)

// RoundTrip sends a request on a connection to the agent that its URL names.
func (p *Pool) RoundTrip(original *http.Request) (*http.Response, error) {
	req, cancel := original, context.CancelFunc(func() {})
	mark := markOf(req.Context())
	if mark&Bound == 0 {
		// A request that fails leaves something in its context (http.ClientConn.RoundTrip) until that ends.
		var ctx context.Context
		ctx, cancel = context.WithCancel(req.Context())
		req = req.WithContext(ctx)
	}
	if req.Body != nil && req.Body != http.NoBody && mark&Bound == 0 {
		again := *req
		again.Body, req = &sending{ReadCloser: req.Body}, &again
	}
	fail := func(err error) (*http.Response, error) {
		cancel()
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	for began, tries, lost := time.Now(), 0, 0; ; tries++ {
		c, err := p.get(req, mark, began, tries > 0)
		if err != nil {
			return fail(err)
		}
		res, err := c.roundTrip(req)
		if sent, ok := req.Body.(*sending); err != nil && ok && sent.err.Load() != nil {
			err = *sent.err.Load()
		}
		refused := err == nil && c.isRefusal(res)
		if err == nil && (!refused || mark&Once != 0 || !rewind(&req)) {
			res.Request = original
			p.responded(c, res, mark, refused, cancel)
			return res, nil
		}
		var end *LostError
		silent := errors.As(err, &end) && c.silent(err)
		repeat := refused || silent && (!c.sent.Load() || isIdempotent(req, mark))
		if mark&Once != 0 { // except after a connection that the agent closed while it was idle
			repeat = silent && !c.sent.Load() && (c.served || time.Since(c.made) > idleBefore)
		}
		served := c.served
		known := p.failed(c, refused, silent) // another request may have the connection now
		if !repeat || !refused && !rewind(&req) {
			if ctx := req.Context(); !served && ctx.Err() != nil {
				c.agent.locked(func() { err = c.agent.endOf(ctx) })()
			}
			return fail(err)
		}
		if silent && c.sent.Load() && (!served || tries > p.config.MaxConns) { // many idle ones can be dead
			if lost++; lost >= maxLostKnown || lost >= maxLost && !known {
				return fail(fmt.Errorf("%w: %w", ErrNoResponse, end.Err))
			}
			select {
			case <-time.After(time.Duration(lost-1) * pauseLost):
			case <-req.Context().Done():
			}
		}
	}
}

// rewind prepares a request to be sent again and reports whether that is possible.
func rewind(req **http.Request) bool {
	if (*req).Body == nil || (*req).Body == http.NoBody {
		return true
	}
	if (*req).GetBody == nil {
		return false
	}
	body, err := (*req).GetBody()
	again := **req
	if again.Body = body; err == nil {
		if _, ok := (*req).Body.(*sending); ok { // its error is not that of the next attempt
			again.Body = &sending{ReadCloser: body}
		}
	}
	(*req).Body.Close()
	*req = &again
	return err == nil
}

func isIdempotent(req *http.Request, mark Mark) bool {
	if mark&(Idempotent|NotIdempotent) != 0 {
		return mark&Idempotent != 0
	}
	_, marked := req.Header["Idempotency-Key"]
	return marked || req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == ""
}

// get waits for a connection. A request that was refused waits in front of the others.
func (p *Pool) get(req *http.Request, mark Mark, began time.Time, again bool) (*conn, error) {
	ctx := req.Context()
	p.mu.Lock()
	a, err := p.agent(req.URL)
	if err == nil && ctx.Err() != nil {
		err = a.endOf(ctx)
	}
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if c := a.takeIdle(mark); c != nil {
		p.mu.Unlock()
		return c, nil
	}
	w := a.enqueue(mark, began, again)
	a.dispatch()
	p.mu.Unlock()
	select {
	case <-w.ready:
		return w.conn, w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case w.place != nil:
		a.dequeue(w)
		a.cancelDials()
	case w.conn != nil:
		a.put(w.conn)
		a.dispatch()
	}
	return nil, a.endOf(ctx)
}

// agent returns the state of the agent that a URL names.
func (p *Pool) agent(u *url.URL) (*agent, error) {
	key := agentKey{u.Scheme, strings.ToLower(u.Host)}
	if a := p.agents[key]; a != nil {
		return a, nil
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if port == "" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q with host %q: want http or https, and a host", u.Scheme, u.Host)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	p.agents[key] = newAgent(p, key, net.JoinHostPort(strings.ToLower(u.Hostname()), port))
	return p.agents[key], nil
}

// responded notes a response, whose end gives the connection back.
func (p *Pool) responded(c *conn, res *http.Response, mark Mark, refused bool, cancel func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if refused {
		c.agent.refuse(true)
	} else {
		c.agent.onResponse(c)
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols: // from now on the connection is the caller's
		c.agent.remove(c)
	case res.Body == http.NoBody:
		c.agent.put(c)
		c.agent.dispatch()
	default:
		res.Body = &body{ReadCloser: res.Body, conn: c, cancel: cancel}
		return
	}
	cancel()
}

// failed drops a connection that carried no response, unless net/http has not used it, and reports whether the agent ever
// sent anything.
func (p *Pool) failed(c *conn, with429, silent bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.served && (with429 || silent) {
		c.agent.refuse(with429)
	}
	if with429 || silent {
		c.agent.drop(c)
	} else {
		c.agent.put(c)
	}
	c.agent.dispatch()
	return c.agent.known
}

// CloseIdleConnections closes the connections that carry no request.
func (p *Pool) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.agents {
		a.dropIdle()
	}
}

// Close closes the idle connections. From then on none is kept after its request.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, a := range p.agents {
		a.dispatch()
	}
}

// sending is the body of a request. It notes why it could not be read, which is not the connection's fault.
type sending struct {
	io.ReadCloser
	err atomic.Pointer[error]
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		s.err.Store(&err)
	}
	return n, err
}

// body is the body of a response. Its end gives the connection back.
type body struct {
	io.ReadCloser
	conn   *conn
	cancel func()
	once   sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.once.Do(b.end)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.end)
	return err
}

func (b *body) end() {
	b.cancel()
	a := b.conn.agent
	a.pool.mu.Lock()
	defer a.pool.mu.Unlock()
	a.put(b.conn)
	a.dispatch()
}
