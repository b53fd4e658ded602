package nomad

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// An agent takes a limited number of connections from one address, 100 unless it is told otherwise, for all processes
// there. It accepts one too many, says 429 on it and closes it, or closes it without a word when it has said so often or
// when a TLS handshake would take more than 10 ms. To dial again at once would only keep the agent busy, and its calls need not fail: they wait for one of the
// connections that the Client has, or for the agent to have room. So the first refusal makes a Client try new connections one by
// one, with waits between them; and no connection is kept for long, so that processes that want more than the agent
// gives get their turn.

const (
	connLifetime = 5 * time.Second        // of a connection in use, varied by a third
	idleTimeout  = 5 * time.Second        // of one that is not
	yieldFor     = 100 * time.Millisecond // how long the place of an old connection is left to others

	minHold    = 50 * time.Millisecond // the wait before the next new connection, after one was refused
	maxHold    = time.Second           // the same after many were
	limitedFor = 30 * time.Second      // how long after a refusal new connections are made one by one
	probeTime  = 500 * time.Millisecond
)

// errRefused is a connection that the agent closed before a request could be sent.
var errRefused = errors.New("the connection was closed during the TLS handshake, as agents do that take no more from this address")

// dialer makes the connections of a pool.
type dialer struct {
	net.Dialer
	socket    string             // to connect to in place of any address
	tls       func() *tls.Config // for the next handshake
	handshake time.Duration      // the time limit of one
	lifetime  time.Duration      // of a connection in use, varied by a third
}

// conn is a connection to an agent.
type conn struct {
	net.Conn
	peer    *peer
	expires time.Time
	tls     *tls.ConnectionState
	served  atomic.Bool // it has carried an answer, so that it is not over the agent's limit
	foreign atomic.Bool // what came first is not the beginning of HTTP
	ended   atomic.Bool // nothing more will come
	closed  bool        // guarded by the peer's mutex

	begun bool // something has come; only for Read

	// A refusal comes before it is asked for. Package http would drop it and tell the standard log, so that reading
	// begins with the first request.
	asked     chan struct{}
	askedOnce sync.Once
	made      time.Time
	ahead     []byte // what was read before it was asked for
}

// unusedFor is how long a connection is taken to be as it was made, although nothing is read from it.
const unusedFor = 20 * time.Millisecond

func (d *dialer) newConn(c net.Conn, p *peer) *conn {
	now := time.Now()
	return &conn{
		Conn:    c,
		peer:    p,
		expires: now.Add(vary(d.lifetime, 1./3)),
		asked:   make(chan struct{}),
		made:    now,
	}
}

func (c *conn) Read(p []byte) (int, error) {
	<-c.asked
	var n int
	var err error
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 && !c.begun {
		c.begun = true
		c.foreign.Store(string(p[:min(n, len(httpBegins))]) != httpBegins[:min(n, len(httpBegins))])
	}
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}

// httpBegins is how all answers begin.
const httpBegins = "HTTP/1."

// cutHead reports whether what is wrong with the head of an answer is that the connection ended in it. Package http
// reports the line that was cut, as if it had been sent so.
func (c *conn) cutHead() bool { return c.ended.Load() && !c.foreign.Load() }

func (c *conn) Write(p []byte) (int, error) {
	var err error
	c.askedOnce.Do(func() {
		if time.Since(c.made) > unusedFor {
			err = c.probe()
		}
		close(c.asked)
	})
	if err != nil {
		return 0, err // so that package http takes another connection
	}
	return c.Conn.Write(p)
}

// probe finds out whether the agent has closed a connection that was left unused. A call may have had another one before
// this one was ready.
func (c *conn) probe() error {
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	defer c.SetReadDeadline(time.Time{})
	first := make([]byte, 1)
	n, err := c.Conn.Read(first)
	if c.ahead = first[:n]; n > 0 || timedOut(err) {
		return nil
	}
	return err
}

func (c *conn) Close() error {
	c.askedOnce.Do(func() { close(c.asked) })
	c.peer.lose(c)
	return c.Conn.Close()
}

// dial makes a connection for plain HTTP, or to a proxy.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p, err := d.turn(ctx)
	if err != nil {
		return nil, err
	}
	c, err := d.connect(ctx, network, addr)
	if err != nil {
		p.resolve()
		return nil, err
	}
	return d.newConn(c, p), nil
}

// dialTLS makes a connection for HTTPS.
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	p, err := d.turn(ctx)
	if err != nil {
		return nil, err
	}
	c, err := d.connect(ctx, network, addr)
	if err != nil {
		p.resolve()
		return nil, err
	}
	config := d.tls()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.handshake, handshakeTimeout{})
	defer cancel()
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	secured := tls.Client(c, config)
	err = secured.HandshakeContext(ctx)
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(secured.ConnectionState(), err)
	}
	if err != nil {
		c.Close()
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case lostConnection(err):
			p.refused()
			return nil, fmt.Errorf("%w: %w", errRefused, noEOF(err))
		}
		p.resolve()
		return nil, err
	}
	wrapped := d.newConn(secured, p)
	state := secured.ConnectionState()
	wrapped.tls = &state
	return wrapped, nil
}

// handshakeTimeout is a TLS handshake that took too long.
type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "TLS handshake timeout" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return true }

// connect makes a connection without asking whether it is time to.
func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.socket != "" {
		network, addr = "unix", d.socket
	}
	return d.DialContext(ctx, network, addr)
}

// errAbandoned ends making a connection that no call waits for any more.
var errAbandoned = errors.New("the call is over")

// turn waits until a new connection may be tried.
func (d *dialer) turn(ctx context.Context) (*peer, error) {
	call := attemptOf(ctx)
	if call == nil {
		return new(peer), nil
	}
	for {
		wait, changed := call.peer.mayDial()
		if wait <= 0 {
			return call.peer, nil
		}
		call.held.Store(true)
		if call.running.Load() == 0 {
			return nil, errAbandoned
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case call.running.Load() == 0:
			return nil, errAbandoned
		}
	}
}

// peer is what the Clients of one address know about its agent.
type peer struct {
	budget budget

	mu       sync.Mutex
	served   int           // open connections that have carried an answer
	limited  time.Time     // until when the agent is taken to be at its limit
	hold     time.Time     // until when no connection is tried
	lastHold time.Duration // how long that was after the last refusal
	probing  time.Time     // until when a connection is being tried
	changed  chan struct{} // closed when one of these changes
}

// mayDial reports how long to wait before a connection is tried. When that is nothing, the caller has the turn.
func (p *peer) mayDial() (wait time.Duration, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	limited := now.Before(p.limited)
	wait = p.hold.Sub(now)
	if limited {
		wait = max(wait, p.probing.Sub(now))
	}
	switch {
	case wait > 0:
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		return wait, p.changed
	case limited:
		p.probing = now.Add(probeTime)
	default:
		p.lastHold = 0
	}
	return 0, nil
}

// take notes that a connection has carried an answer.
func (p *peer) take(c *conn) {
	if c.served.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.served.CompareAndSwap(false, true) && !c.closed {
		p.served++
	}
	p.lastHold = 0
	p.tell()
}

// lose notes that a connection is closed.
func (p *peer) lose(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.served.Load() && !c.closed {
		p.served--
	}
	c.closed = true
}

// resolve notes that a connection that was being tried failed in a way that says nothing about the limit.
func (p *peer) resolve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell()
}

// refused notes that the agent has refused a connection. Those that were tried at the same time count once.
func (p *peer) refused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse()
}

// refusedSilently notes that the agent has closed a new connection without an answer, and reports whether that is
// because of the limit. Without TLS it is only when there is reason to believe that the agent is well.
func (p *peer) refusedSilently(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.tls == nil && p.served == 0 && time.Now().After(p.limited) {
		p.tell()
		return false
	}
	p.refuse()
	return true
}

func (p *peer) refuse() {
	now := time.Now()
	p.limited = now.Add(limitedFor)
	if !now.Before(p.hold) {
		p.lastHold = min(max(2*p.lastHold, minHold), maxHold)
		p.hold = now.Add(vary(p.lastHold, .5))
	}
	p.tell()
}

// yield leaves the place of a connection that is about to be closed to other processes, if there are calls that can
// do without it.
func (p *peer) yield() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(yieldFor); p.served > 1 && p.hold.Before(until) {
		p.hold = until
	}
}

// tell ends a trial and wakes those who wait for a turn.
func (p *peer) tell() {
	p.probing = time.Time{}
	p.wakeLocked()
}

// wake wakes those who wait for a turn, so that one that has become useless ends.
func (p *peer) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeLocked()
}

func (p *peer) wakeLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// vary varies a time at random by a part of it.
func vary(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}
