package agentconn

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// Output of net/http to the standard log.
var logged lockedBuffer

func TestMain(m *testing.M) {
	log.SetOutput(&logged)
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// inBubble runs a subtest in simulated time.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// settle waits until all goroutines are blocked.
func settle() {
	time.Sleep(time.Microsecond)
	synctest.Wait()
}

const host = "agent.example:4646"

// Documented times.
const (
	ms        = time.Millisecond
	probeTime = 20 * ms          // time that a new connection to a full agent is watched before it is used
	oldPause  = 50 * ms          // time that the place of an old connection is left to other processes
	tick      = 500 * ms         // precision of the longer times
	idleTime  = 4 * time.Second  // time until an idle connection is closed
	fullTime  = 10 * time.Second // time until a refusal is forgotten
	dialTime  = 10 * time.Second // timeout of a dial
)

// fake is an agent in memory. The fields before mu must be set before it is used.
type fake struct {
	latency time.Duration                   // from the dial to the connection
	think   func() time.Duration            // before each response; it stands for the round trip
	paths   map[string]handler              // all others get 200 and their path as the body
	onDial  func(ctx context.Context) error // called before each dial; its error fails the dial
	onConn  func(c *peer)                   // serves a connection in place of the agent
	tls     *tls.Config                     // of the agent
	dialed  func(network, addr string)      // called with the address of each dial
	t       *testing.T
	pools   []*Pool

	mu       sync.Mutex
	limit    int // maximum of connections at once; -1 for none
	says     int // number of refused connections that get a 429; later ones are closed
	open     int // open connections, without refused ones
	peak     int // maximum of open
	total    int // all connections so far, with refused ones
	refused  int
	dials    int            // dials in progress
	dialPeak int            // maximum of dials
	read     map[string]int // requests by id
	handled  map[string]int // requests with status 200, by id
	peers    map[*peer]struct{}
	lastEnd  time.Time // when a connection last ended while others were open
}

// handler responds to a request and reports whether the connection stays open.
type handler func(c *peer, req *http.Request) bool

// refuseAll makes all refused connections get a 429.
const refuseAll = 1 << 30

// newFake returns an agent. It and its Pools are closed when the test ends.
func newFake(t *testing.T) *fake {
	f := &fake{
		t:       t,
		limit:   1000,
		paths:   map[string]handler{},
		read:    map[string]int{},
		handled: map[string]int{},
		peers:   map[*peer]struct{}{},
	}
	t.Cleanup(func() {
		for _, p := range f.pools {
			p.Close()
		}
		f.closeAll()
		time.Sleep(time.Minute) // until all goroutines of the test have ended
	})
	return f
}

// after returns a constant think time.
func after(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// locked calls do with the lock held.
func (f *fake) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// set changes the number of connections that the agent accepts and of refusals that get a 429.
func (f *fake) set(limit, says int) { f.locked(func() { f.limit, f.says = limit, says }) }

// counts returns the numbers of open connections, their maximum, all connections, and refused ones.
func (f *fake) counts() (open, peak, total, refused int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open, f.peak, f.total, f.refused
}

func (f *fake) reads(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read[id]
}

func (f *fake) responses(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handled[id]
}

// closeAll closes all open connections on the agent's side.
func (f *fake) closeAll() {
	f.mu.Lock()
	peers := make([]*peer, 0, len(f.peers))
	for c := range f.peers {
		peers = append(peers, c)
	}
	f.mu.Unlock()
	for _, c := range peers {
		c.Close()
	}
}

// dial is the DialContext of transports.
func (f *fake) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.locked(func() {
		f.dials++
		f.dialPeak = max(f.dialPeak, f.dials)
	})
	defer f.locked(func() { f.dials-- })
	if f.dialed != nil {
		f.dialed(network, addr)
	}
	if f.onDial != nil {
		if err := f.onDial(ctx); err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
	}
	if f.latency > 0 {
		select {
		case <-time.After(f.latency):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
		}
	}
	near, far := net.Pipe()
	c := &peer{Conn: far, agent: f, more: make(chan struct{}, 1), gone: make(chan struct{})}
	f.mu.Lock()
	f.total++
	refuse := f.limit < 0 || f.open >= f.limit
	said := refuse && f.says > 0
	if said {
		f.says--
	}
	if refuse {
		f.refused++
	} else {
		f.open++
		f.peak = max(f.peak, f.open)
		f.peers[c] = struct{}{}
		c.counted = true
	}
	f.mu.Unlock()
	go c.pump()
	switch {
	case refuse:
		go c.refuse(said)
	case f.onConn != nil:
		go func() {
			f.onConn(c)
			c.Close()
		}()
	default:
		go c.serve()
	}
	return &socket{Conn: near, peer: c}, nil
}

// socket is the client's end of a net.Pipe. It returns the errors of TCP: when the peer has closed the
// connection, a read fails at once, but a write only fails the second time.
type socket struct {
	net.Conn
	peer   *peer
	closed atomic.Bool
	wrote  atomic.Bool // after the peer closed
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	switch {
	case err == io.EOF && s.peer.reset.Load():
		err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	case err == io.ErrClosedPipe:
		err = &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	}
	return n, err
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	switch {
	case err == nil:
	case s.closed.Load():
		err = &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}
	case err == io.ErrClosedPipe && !s.wrote.Swap(true):
		return len(p), nil
	case err == io.ErrClosedPipe:
		err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
	return n, err
}

func (s *socket) Close() error {
	s.closed.Store(true)
	s.peer.end()
	return s.Conn.Close()
}

// peer is the agent's end of a connection. Writes of the client never block, like those to a kernel buffer.
type peer struct {
	net.Conn
	agent   *fake
	counted bool
	secured *tls.Conn   // nil without TLS
	reset   atomic.Bool // whether the client gets a reset
	once    sync.Once
	gone    chan struct{} // closed when either end was closed

	mu   sync.Mutex
	data []byte
	err  error
	more chan struct{}
}

func (c *peer) pump() {
	for p := make([]byte, 4096); ; {
		n, err := c.Conn.Read(p)
		c.mu.Lock()
		c.data, c.err = append(c.data, p[:n]...), err
		c.mu.Unlock()
		select {
		case c.more <- struct{}{}:
		default:
		}
		if err != nil {
			c.end()
			return
		}
	}
}

func (c *peer) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		n, err := copy(p, c.data), c.err
		c.data = c.data[n:]
		c.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		<-c.more
	}
}

// end records that the connection has ended.
func (c *peer) end() {
	c.once.Do(func() {
		close(c.gone)
		if c.counted {
			c.agent.locked(func() {
				c.agent.open--
				if c.agent.open > 0 {
					c.agent.lastEnd = time.Now()
				}
				delete(c.agent.peers, c)
			})
		}
	})
}

func (c *peer) Close() error {
	c.end()
	return c.Conn.Close()
}

// abort resets the connection.
func (c *peer) abort() bool {
	c.reset.Store(true)
	c.Close()
	return false
}

// wait waits, and reports whether the connection is still open.
func (c *peer) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}

// hang waits until the client closes the connection.
func (c *peer) hang() bool {
	<-c.gone
	return false
}

// stream returns the stream that the agent reads and writes: the connection, or TLS over it.
func (c *peer) stream() io.ReadWriter {
	if c.secured != nil {
		return c.secured
	}
	return c
}

// secure performs the agent's part of a TLS handshake.
func (c *peer) secure(on net.Conn) bool {
	c.secured = tls.Server(on, c.agent.tls)
	return c.secured.Handshake() == nil
}

// write sends raw bytes.
func (c *peer) write(raw string) bool {
	_, err := io.WriteString(c.stream(), raw)
	return err == nil
}

// refuse refuses the connection like go-connlimit v0.3.1.
func (c *peer) refuse(say bool) {
	defer c.Close()
	if !say {
		return
	}
	if c.agent.tls != nil {
		timer := time.AfterFunc(10*time.Millisecond, func() { c.Close() })
		if c.secure(c); !timer.Stop() {
			return
		}
		defer c.secured.Close()
	}
	c.write(tooManyRequests)
}

var tooManyRequests = fmt.Sprintf("HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
	"Connection: close\r\n\r\n%s", len(refusal), refusal)

// serve responds to requests until either end closes the connection.
func (c *peer) serve() {
	defer c.Close()
	f := c.agent
	if f.tls != nil && c.secured == nil && !c.secure(c) {
		return
	}
	for r := bufio.NewReader(c.stream()); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		id := req.Header.Get("X-Id")
		f.locked(func() { f.read[id]++ })
		if f.think != nil && !c.wait(f.think()) {
			return
		}
		handle := f.paths[req.URL.Path]
		if handle == nil {
			handle = (*peer).ok
		}
		if !handle(c, req) {
			return
		}
	}
}

// ok responds with 200 and the path.
func (c *peer) ok(req *http.Request) bool {
	c.agent.locked(func() { c.agent.handled[req.Header.Get("X-Id")]++ })
	if req.Method == http.MethodHead {
		return c.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	}
	return c.write(response(req.URL.Path))
}

// response returns a response with a body.
func response(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// replies returns a handler that writes raw bytes and closes the connection.
func replies(raw string) handler {
	return func(c *peer, _ *http.Request) bool {
		c.write(raw)
		return false
	}
}

// hangUp closes the connection without a response.
func hangUp(*peer, *http.Request) bool { return false }

// hang never responds.
func hang(c *peer, _ *http.Request) bool { return c.hang() }

// newPool returns a Pool whose connections lead to the agent.
func (f *fake) newPool(maxConns int) *Pool { return f.poolWith(f.config(maxConns)) }

func (f *fake) poolWith(config Config) *Pool {
	p := New(config)
	f.pools = append(f.pools, p)
	return p
}

func (f *fake) config(maxConns int) Config {
	return Config{
		Transport: &http.Transport{DialContext: f.dial, DisableCompression: true},
		MaxConns:  maxConns,
		TLS: func(host string, _ bool) *tls.Config {
			return &tls.Config{ServerName: host, RootCAs: authority.pool}
		},
	}
}

// request is a request of a test. Empty fields have the default in the comment.
type request struct {
	scheme string // http
	method string // GET
	path   string // /
	id     string // the agent counts requests by it
	mark   Mark
	header http.Header
	body   io.Reader
}

func (r request) build(ctx context.Context) *http.Request {
	if r.mark != 0 {
		ctx = WithMark(ctx, r.mark)
	}
	url := cmp.Or(r.scheme, "http") + "://" + host + cmp.Or(r.path, "/")
	req, err := http.NewRequestWithContext(ctx, cmp.Or(r.method, http.MethodGet), url, r.body)
	if err != nil {
		panic(err)
	}
	for key, values := range r.header {
		req.Header[key] = values
	}
	req.Header.Set("X-Id", r.id)
	return req
}

// do sends the request and reads the whole response.
func (r request) do(ctx context.Context, p *Pool) (status int, body string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := p.RoundTrip(r.build(ctx))
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), errors.Join(err, res.Body.Close())
}

// check sends the request, which must succeed.
func (r request) check(t *testing.T, p *Pool, msg ...any) {
	t.Helper()
	status, body, err := r.do(t.Context(), p)
	if assert.NoError(t, err, msg...) {
		assert.Equal(t, http.StatusOK, status, msg...)
		assert.Equal(t, cmp.Or(r.path, "/"), body, msg...)
	}
}

// timed returns how long f takes.
func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// state returns the state of the only agent of the Pool.
func (p *Pool) state(t *testing.T) *agent {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.agents {
		return a
	}
	require.Fail(t, "the Pool has no agent")
	return nil
}

// sizes returns the number of connections of the Pool, of idle ones, and of agents.
func (p *Pool) sizes() (conns, idle, agents int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.agents {
		conns += len(a.conns)
		idle += len(a.idle)
	}
	return conns, idle, len(p.agents)
}

// consistent returns an error if the state of the Pool is inconsistent.
func (p *Pool) consistent() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range p.agents {
		counted, idle, untried, slow := 0, 0, 0, 0
		for c := range a.conns {
			if !c.slow {
				counted++
			}
			if !c.served {
				untried++
				if c.slow {
					slow++
				}
			}
			if c.isIdle {
				idle++
			}
			if c.removed {
				wrong("a removed connection is in use")
			}
			if c.isIdle && c.slow {
				wrong("an idle connection does not count")
			}
		}
		seen := map[*conn]bool{}
		for _, c := range a.idle {
			_, known := a.conns[c]
			if seen[c] || !known || !c.isIdle {
				wrong("an idle connection is there twice, or removed, or in use")
			}
			seen[c] = true
		}
		if counted != a.counted {
			wrong("%d connections count, not %d", counted, a.counted)
		}
		if a.untried > untried || a.untried < untried-slow {
			wrong("%d connections are untried, and %d of them slow, not %d", untried, slow, a.untried)
		}
		if idle != len(a.idle) {
			wrong("%d connections are idle, not %d", idle, len(a.idle))
		}
		if a.window > max(a.pool.config.MaxConns, 1) || a.window < 1 {
			wrong("the window is %d", a.window)
		}
		for e := a.waiting.Front(); e != nil; e = e.Next() {
			if w := e.Value.(*waiter); w.place != e || w.conn != nil || w.err != nil {
				wrong("a request waits that has a connection or an error")
			}
		}
	}
	return errors.Join(errs...)
}

// closed closes the Pool and checks that no connection is left, in the Pool and at the agents.
func closed(t *testing.T, p *Pool, agents ...*fake) {
	t.Helper()
	assert.NoError(t, p.consistent())
	p.Close()
	settle()
	conns, _, _ := p.sizes()
	assert.Zero(t, conns, "connections of the Pool after Close")
	time.Sleep(tick) // a connection that is probed is closed after that
	settle()
	_, _, known := p.sizes()
	assert.Zero(t, known, "agents of the Pool after Close")
	for _, f := range agents {
		open, _, _, _ := f.counts()
		assert.Zero(t, open, "connections after Close")
		f.locked(func() { assert.Zero(t, f.dials, "dials after Close") })
	}
}

// authority issues the certificate of agents with TLS.
var authority = newAuthority()

type issuer struct {
	pool *x509.CertPool
	cert tls.Certificate
}

func newAuthority() issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	name, _, _ := strings.Cut(host, ":")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), // simulated time begins in 2000
		NotAfter:     time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames:     []string{name, "proxy.example"},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return issuer{pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}}
}

// serverTLS returns the TLS configuration of an agent.
func serverTLS() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{authority.cert}} }
