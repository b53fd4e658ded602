package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxBuffered is how many bytes a connection holds in each direction that were not read yet.
const maxBuffered = 64 << 10

// Conn is a net.Conn of this network. It behaves as a *net.TCPConn: what was written is held for the
// other side, also after Close.
type Conn struct {
	in, out       *flow
	local, remote net.Addr
	reset         bool // by Close; guarded by out.mu
}

// flow is what one side writes and the other reads.
type flow struct {
	mu      sync.Mutex
	changed *sync.Cond

	data  []byte
	ended bool // the writer has closed
	gone  bool // the reader has closed
	reset bool // one of them broke the connection

	readBy, writeBy deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newFlow() *flow {
	f := &flow{}
	f.changed = sync.NewCond(&f.mu)
	return f
}

// pipe makes the two sides of a connection.
func pipe(client, server net.Addr) (near, far *Conn) {
	up, down := newFlow(), newFlow()
	return &Conn{in: down, out: up, local: client, remote: server}, &Conn{in: up, out: down, local: server, remote: client}
}

func (c *Conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	f := c.in
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.gone:
			return 0, c.fail("read", net.ErrClosed)
		case f.reset:
			return 0, c.fail("read", os.NewSyscallError("read", syscall.ECONNRESET))
		case f.readBy.passed():
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(f.data) > 0:
			n := copy(p, f.data)
			f.data = f.data[:copy(f.data, f.data[n:])]
			f.changed.Broadcast()
			return n, nil
		case f.ended:
			return 0, io.EOF
		}
		f.changed.Wait()
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	f := c.out
	f.mu.Lock()
	defer f.mu.Unlock()
	for written := 0; ; {
		room := maxBuffered - len(f.data)
		switch {
		case f.ended:
			return written, c.fail("write", net.ErrClosed)
		case f.reset:
			return written, c.fail("write", os.NewSyscallError("write", syscall.ECONNRESET))
		case f.writeBy.passed():
			return written, c.fail("write", os.ErrDeadlineExceeded)
		case f.gone:
			return written, c.fail("write", os.NewSyscallError("write", syscall.EPIPE))
		case written == len(p):
			return written, nil
		case room > 0:
			n := min(room, len(p)-written)
			f.data = append(f.data, p[written:written+n]...)
			written += n
			f.changed.Broadcast()
			continue
		}
		f.changed.Wait()
	}
}

// SetLinger makes Close break the connection if it is 0, as that of a *net.TCPConn: the other side
// loses what it has not read, and gets an error. Other values change nothing.
func (c *Conn) SetLinger(seconds int) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.reset = seconds == 0
	return nil
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.out.mu.Lock()
	again, reset := c.out.ended, c.reset
	c.out.ended = true
	c.out.end(reset)
	c.out.mu.Unlock()
	if again {
		return c.fail("close", net.ErrClosed)
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.gone, c.in.data = true, nil
	c.in.end(reset)
	return nil
}

// end tells both sides of a change that one of them made for good.
func (f *flow) end(reset bool) {
	if reset {
		f.reset, f.data = true, nil
	}
	f.changed.Broadcast()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.set(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.set(&c.out.writeBy, t)
	return nil
}

func (f *flow) set(d *deadline, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if wait := time.Until(at); !at.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			f.mu.Lock() // whoever waits has seen the time before, or waits already
			defer f.mu.Unlock()
			f.changed.Broadcast()
		})
	}
	f.changed.Broadcast()
}
