// Package relay makes a server seem far away. A Relay listens on loopback and passes what comes on to the server, each
// byte half a round trip later than it came, so that any amount can be under way. It adds no limit of throughput of its
// own.
package relay

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Relay is a way to a server that takes time.
type Relay struct {
	target   string
	half     time.Duration // of a round trip
	listener net.Listener
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup
}

// New starts a relay to the TCP address of a server, with a round trip of the given time.
//
// Connecting to the relay itself takes no time, as the system does it. A connection is accepted a round trip later, the
// time of the handshake, and what was sent on it by then leaves only then. So the first answer takes two round trips and
// each further one a single round trip, as over a real distance.
func New(target string, rtt time.Duration) (*Relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{target: target, half: rtt / 2, listener: listener}
	r.life, r.end = context.WithCancel(context.Background())
	r.work.Go(r.accept)
	return r, nil
}

// Addr is where the relay listens, host:port.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Close breaks all connections, and returns when nothing of the relay is left. It can be called again.
func (r *Relay) Close() {
	r.end()
	r.listener.Close()
	r.work.Wait()
}

func (r *Relay) accept() {
	for r.life.Err() == nil {
		conn, err := r.listener.Accept()
		if err != nil {
			pause(r.life, 10*time.Millisecond) // it is closed, or there are no files left
			continue
		}
		r.work.Go(func() { r.carry(conn.(*net.TCPConn)) })
	}
}

// event is what one end did, for the other end.
type event struct {
	due   time.Time
	data  []byte // or, if there is none, the end of what is sent
	reset bool   // the connection broke
}

// maxEvents is how many events one direction can have under way.
const maxEvents = 4096

// link is a connection through the relay. It is over when both ends have closed it, or one of them has broken it.
type link struct {
	ctx   context.Context // ends when it is over
	over  context.CancelFunc
	half  time.Duration
	out   chan event // to the server
	back  chan event // from it
	mu    sync.Mutex
	ended int // directions that have ended in order
}

// carry is the life of a connection.
func (r *Relay) carry(near *net.TCPConn) {
	l := &link{half: r.half, out: make(chan event, maxEvents), back: make(chan event, maxEvents)}
	l.ctx, l.over = context.WithCancel(r.life)
	var work sync.WaitGroup
	defer work.Wait()
	defer near.Close()
	defer l.over()

	pause(l.ctx, 2*l.half)
	work.Go(func() { l.read(near, l.out) })
	pause(l.ctx, l.half)
	conn, err := new(net.Dialer).DialContext(l.ctx, "tcp", r.target)
	if err != nil {
		pause(l.ctx, l.half)
		reset(near)
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	work.Go(func() { l.read(far, l.back) })
	work.Go(func() { l.write(near, l.back, l.out) })
	work.Go(func() { l.write(far, l.out, l.back) })
	<-l.ctx.Done()
}

// read queues what comes from one end.
func (l *link) read(from *net.TCPConn, queue chan<- event) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			l.send(queue, event{data: bytes.Clone(buffer[:n])})
		}
		if err != nil {
			l.send(queue, event{reset: err != io.EOF})
			return
		}
	}
}

// send queues an event that happens now. It waits while there are too many.
func (l *link) send(queue chan<- event, e event) {
	e.due = time.Now().Add(l.half)
	select {
	case queue <- e:
	case <-l.ctx.Done():
	}
}

// write does to one end what is due. When that end turns out to be broken, the other end learns it in time.
func (l *link) write(to *net.TCPConn, queue <-chan event, opposite chan<- event) {
	broken := false
	for {
		var e event
		select {
		case e = <-queue:
		case <-l.ctx.Done():
			return
		}
		if pause(l.ctx, time.Until(e.due)); l.ctx.Err() != nil {
			return
		}
		switch {
		case e.reset:
			reset(to)
			l.over()
		case broken:
		case len(e.data) == 0:
			to.CloseWrite()
			l.endOne()
		default:
			if _, err := to.Write(e.data); err != nil {
				broken = true
				l.send(opposite, event{reset: true})
			}
		}
	}
}

// endOne notes that one direction has ended.
func (l *link) endOne() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended++; l.ended == 2 {
		l.over()
	}
}

// reset closes a connection in a way that the other side takes for a break.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// pause waits for a time or the end of a context.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
