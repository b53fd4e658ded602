// Package relay adds latency to the connections of a server. A Relay listens on loopback and forwards
// each byte to the server half a round trip after it arrived. It does not limit the throughput: any
// amount of data can be in transit.
package relay

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Relay is a TCP relay with latency.
type Relay struct {
	target   string
	half     time.Duration // of a round trip
	listener net.Listener
	life     context.Context
	end      context.CancelFunc
	work     sync.WaitGroup
}

// New starts a relay to the TCP address of a server. rtt is the round-trip time.
//
// Connecting to the relay itself takes no time, because the system does it. To include the time of the
// handshake, the relay accepts a connection one round trip later and forwards data only after that. So
// the first response takes two round trips and each further one takes one, as on a real network.
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

// Addr returns the host:port on which the relay listens.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// Close resets all connections and returns when all goroutines have ended. It can be called again.
func (r *Relay) Close() {
	r.end()
	r.listener.Close()
	r.work.Wait()
}

func (r *Relay) accept() {
	for r.life.Err() == nil {
		conn, err := r.listener.Accept()
		if err != nil {
			pause(r.life, 10*time.Millisecond) // closed, or out of file descriptors
			continue
		}
		r.work.Go(func() { r.carry(conn.(*net.TCPConn)) })
	}
}

// event is data or the end of data from one side, for the other side.
type event struct {
	due   time.Time
	data  []byte // if empty, the side has ended its direction
	reset bool   // the connection was reset
}

// maxEvents is the number of events that can be in transit in one direction.
const maxEvents = 4096

// link is a connection through the relay. It ends when both sides have closed it or one has reset it.
type link struct {
	ctx   context.Context // ends with the link
	over  context.CancelFunc
	half  time.Duration
	out   chan event // to the server
	back  chan event // from the server
	mu    sync.Mutex
	ended int // directions that have been closed
}

// carry relays one connection until it ends.
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

// read queues the data that one side sends.
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

// send queues an event. It waits while the queue is full.
func (l *link) send(queue chan<- event, e event) {
	e.due = time.Now().Add(l.half)
	select {
	case queue <- e:
	case <-l.ctx.Done():
	}
}

// write delivers due events to one side. If that side is broken, the other side gets a reset.
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

// endOne records that one direction has ended.
func (l *link) endOne() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended++; l.ended == 2 {
		l.over()
	}
}

// reset closes a connection with a TCP reset.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// pause waits for d or until the context ends.
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
