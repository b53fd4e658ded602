package agentconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad/internal/memnet"
)

const (
	dialTimeout = 10 * time.Second       // for connect, CONNECT and TLS handshake together
	probeFor    = 20 * time.Millisecond  // in which nine of ten refusals without a response arrive
	probeFarMax = 200 * time.Millisecond // the most that is added to it for the distance
)

// conn is one connection: for net/http it is the network's, for the Pool it is one that carries a request at a time.
//
// A refusal can come before the request. net/http must not read it before the request is written, or it drops it and
// writes to the standard log. So Read waits for the first Write, and again for the first one after a TLS handshake
// or after a SOCKS proxy has connected.
//
// net/http also writes to the log what comes on a connection between two requests, and that can be a secret. So Read takes
// it for the end of the connection.
type conn struct {
	net.Conn
	http  *http.ClientConn
	agent *agent
	proxy bool // an https proxy is on the way; net/http dials in one goroutine

	// Pool.mu guards these.
	made    time.Time
	life    float64   // the part of agent.lifetime that it may be used
	since   time.Time // when it became idle, or a request took it
	isIdle  bool
	slow    bool // it is not counted
	served  bool // it carried a response
	untried bool // it counts in agent.untried
	removed bool

	// These belong to the request that has the connection.
	rtt    time.Duration // from the request to the headers of the response
	ahead  []byte        // what probe read
	probed bool

	asked     chan struct{} // closed when open becomes true
	open      atomic.Bool   // Read does not wait
	handshake atomic.Bool   // a TLS handshake with the agent began
	ended     atomic.Bool   // Read failed
	closed    atomic.Bool   // Close was called
	gone      atomic.Bool   // probe read to the end
	sent      atomic.Bool   // a part of the request was written
	received  atomic.Bool   // something was read since then
	foreign   atomic.Bool   // it does not begin as HTTP does
	resting   atomic.Bool   // a response is complete, and nothing was written since then
}

type connKey struct{}

// newTransport makes the transport of one connection to the agent. A TLS configuration belongs to one handshake.
func (a *agent) newTransport() *http.Transport {
	config := &a.pool.config
	t := config.Transport.Clone()
	connect := memnet.DialContext(t.DialContext)
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if config.Socket != "" {
			network, addr = "unix", config.Socket
		}
		c := ctx.Value(connKey{}).(*conn)
		var err error
		c.Conn, err = connect(ctx, network, addr)
		return c, err
	}
	host, _, _ := net.SplitHostPort(a.addr)
	t.TLSClientConfig = config.TLS(host, false)
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		agentOrProxy := t.TLSClientConfig
		if addr != a.addr {
			host, _, _ := net.SplitHostPort(addr)
			agentOrProxy = config.TLS(host, true)
			ctx.Value(connKey{}).(*conn).proxy = true
		}
		c, err := t.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return tls.Client(c, agentOrProxy), nil // net/http does the handshake
	}
	proxy := t.Proxy
	t.Proxy = func(req *http.Request) (*url.URL, error) {
		if proxy == nil || config.Socket != "" {
			return nil, nil
		}
		req.URL.Host, req.Host = a.addr, a.addr // NewClientConn leaves out the port, and NO_PROXY can have one
		return proxy(req)
	}
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &ProxyError{res.StatusCode, res.Status}
		}
		return nil
	}
	return t
}

// dial is a connection that is being made. It belongs to no request.
type dial struct{ cancel context.CancelFunc }

// dial makes a connection in the background.
func (a *agent) dial() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), dialTimeout, timeoutError{})
	d := &dial{cancel}
	a.dials = append(a.dials, d)
	go func() {
		defer cancel()
		c, err := a.connect(ctx)
		a.locked(func() { a.dialed(d, c, err) })()
	}()
}

// timeoutError reports that no connection was made in time.
type timeoutError struct{}

func (timeoutError) Error() string { return "no connection within " + dialTimeout.String() }
func (timeoutError) Timeout() bool { return true }

func (timeoutError) Temporary() bool { return true } // net.Error has it

func (a *agent) connect(ctx context.Context) (*conn, error) {
	c := &conn{agent: a, made: time.Now(), life: .1 + .9*rand.Float64()}
	c.hush()
	proxied := false
	traced := httptrace.WithClientTrace(context.WithValue(ctx, connKey{}, c), &httptrace.ClientTrace{
		TLSHandshakeStart: func() {
			c.handshake.Store(!c.proxy || proxied)
			proxied = true // the next one is with the agent
		},
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil { // or net/http is closing it
				c.hush()
			}
		},
	})
	var err error
	if c.http, err = a.newTransport().NewClientConn(traced, a.key.scheme, a.addr); err == nil {
		c.http.SetStateHook(func(h *http.ClientConn) { c.resting.Store(h.Available() > 0) })
		if err = c.probe(ctx); err == nil {
			return c, nil
		}
		c.http.Close()
		return nil, &LostError{err}
	}
	var proxy *ProxyError
	switch {
	case ctx.Err() != nil:
		return nil, &DialError{Err: context.Cause(ctx)}
	case errors.As(err, &proxy):
		return nil, &DialError{err, proxy.StatusCode < 500 && proxy.StatusCode != http.StatusTooManyRequests}
	case IsPlainHTTP(err) && !c.handshake.Load():
		return nil, &DialError{fmt.Errorf("the proxy: %w", http.ErrSchemeMismatch), true}
	case !c.handshake.Load():
		return nil, &DialError{err, isPermanent(err, a.pool.config.Socket != "")}
	case IsPlainHTTP(err):
		return nil, &DialError{http.ErrSchemeMismatch, true}
	case isLost(err):
		return nil, &LostError{err}
	}
	return nil, &DialError{err, true}
}

// dialed takes what a dial led to. The request that waits for longest gets the connection, or the error.
func (a *agent) dialed(d *dial, c *conn, err error) {
	i := slices.Index(a.dials, d)
	if i < 0 { // it was canceled
		if c != nil {
			go c.http.Close()
		}
		return
	}
	a.dials = slices.Delete(a.dials, i, i+1)
	if c != nil {
		a.conns[c] = struct{}{}
		c.isIdle, c.since = true, time.Now()
		a.idle = append(a.idle, c)
		a.counted++
		a.untried++
		c.untried = true
	}
	var lost *LostError
	isRefusal := errors.As(err, &lost)
	if isRefusal {
		a.refuse(false)
	}
	if first := a.waiting.Front(); err != nil && first != nil {
		if w := first.Value.(*waiter); !isRefusal || w.mark&Once != 0 {
			a.deliver(w, nil, err)
		}
	}
	a.dispatch()
}

// cancelDials ends the dials that no request waits for any more.
func (a *agent) cancelDials() {
	for n := len(a.dials) - 1; n >= a.waiting.Len(); n-- {
		a.dials[n].cancel()
		a.dials = a.dials[:n]
	}
}

// roundTrip sends a request and returns the response when its headers are there.
func (c *conn) roundTrip(req *http.Request) (*http.Response, error) {
	c.sent.Store(false)
	c.received.Store(false)
	if !c.served {
		if err := c.probe(req.Context()); err != nil {
			return nil, &LostError{err}
		}
		if ctx := req.Context(); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	c.http.Reserve() // so that the state hook is called when the response is complete, before net/http reads on
	began := time.Now()
	res, err := c.http.RoundTrip(req)
	c.rtt = time.Since(began)
	switch ctx := req.Context(); {
	case err == nil && c.served && !c.received.Load(): // it came together with the response before
		res.Body.Close()
		return nil, &ProtocolError{errors.New("malformed: a response came before its request"), false}
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case isLost(err), isIdleEnd(err):
		err = &LostError{err}
	case c.ended.Load() && !c.foreign.Load(): // net/http reports the line that was cut
		err = &LostError{io.ErrUnexpectedEOF}
	default:
		err = protocolError(err)
	}
	return nil, err
}

// silent reports whether a connection was lost without a byte of the response.
func (c *conn) silent(err error) bool {
	switch {
	case c.agent.key.scheme == "http":
		return !c.received.Load()
	case errors.Is(err, io.EOF): // net/http has another error for an end within the headers
		return true
	case !c.served: // what was received can be a part of the handshake
		return !errors.Is(err, io.ErrUnexpectedEOF)
	}
	return !c.received.Load()
}

// refusal is what an agent that is full writes with its status 429 (go-connlimit v0.3.1).
const refusal = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"

// isRefusal reports whether a response is the agent's refusal of the connection. A proxy's 429 has a date, keeps the
// connection, or says something else.
func (c *conn) isRefusal(res *http.Response) bool {
	if res.StatusCode != http.StatusTooManyRequests || c.served || !res.Close || res.Header.Get("Date") != "" ||
		res.ContentLength != int64(len(refusal)) || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		return false
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(text))
	return err != nil || string(text) == refusal
}

// probe reads what the agent sends on a new connection without a request, and reports when it closes it: for a while
// if the agent is full, and for a moment if the connection was left unused since it was made. It ends with ctx.
func (c *conn) probe(ctx context.Context) error {
	wait := time.Duration(0)
	c.agent.locked(func() {
		if c.agent.isFull() && !c.probed {
			c.probed, wait = true, probeFor+min(2*c.agent.rtt, probeFarMax)
		} else if time.Since(c.made) > probeFor {
			wait = time.Millisecond
		}
	})()
	if wait == 0 || c.open.Load() {
		return nil
	}
	c.SetReadDeadline(time.Now().Add(wait))
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.SetReadDeadline(time.Now())
		close(ended)
	})
	defer func() {
		if !stop() {
			<-ended
		}
		c.SetReadDeadline(time.Time{})
	}()
	for buffer := make([]byte, 4096); len(c.ahead) < 1<<16; {
		n, err := c.Conn.Read(buffer)
		c.ahead = append(c.ahead, buffer[:n]...)
		var timeout net.Error
		switch {
		case n > 0 && c.agent.key.scheme == "http", errors.As(err, &timeout) && timeout.Timeout():
			return nil
		case err != nil && len(c.ahead) > 0: // over TLS this can be the agent's 429
			c.gone.Store(true)
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// hush makes Read wait for the next Write.
func (c *conn) hush() {
	c.asked = make(chan struct{})
	c.open.Store(false)
}

func (c *conn) speak() {
	if c.open.CompareAndSwap(false, true) {
		close(c.asked)
	}
}

func (c *conn) Read(p []byte) (n int, err error) {
	if !c.open.Load() {
		<-c.asked
	}
	if len(c.ahead) > 0 {
		n = copy(p, c.ahead)
		c.ahead = c.ahead[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 && c.resting.Load() {
		n, err = 0, io.EOF
	}
	if err != nil && !c.closed.Load() {
		c.ended.Store(true)
	}
	if n > 0 && !c.received.Load() {
		c.received.Store(true)
		begin := []byte("HTTP/1.")
		c.foreign.Store(c.agent.key.scheme == "http" && !c.proxy && !bytes.HasPrefix(begin, p[:min(n, len(begin))]))
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.resting.Store(false)
	if c.ended.Load() {
		return 0, net.ErrClosed
	}
	c.speak()
	if c.gone.Load() {
		return len(p), nil // nothing is sent, and net/http reads what came before the end
	}
	c.sent.Store(true)
	if n, err := c.Conn.Write(p); err == nil || c.closed.Load() {
		return n, err
	}
	return len(p), nil // Read reports the error, and before it a response that the agent sent without reading the request
}

// SetDeadline is what the SOCKS client of net/http calls, without a deadline when it is done.
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.hush()
	}
	return c.Conn.SetDeadline(t)
}

func (c *conn) Close() error {
	c.closed.Store(true)
	c.speak()
	return c.Conn.Close()
}
