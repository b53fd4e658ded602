// Package memnet is a network within this process, for agents and clients in a bubble of
// testing/synctest: a goroutine that waits for it is durably blocked, as none is that waits for a
// socket.
//
// Addresses are those of the real network. The dialer of DialContext connects to what listens here
// under an address, and passes all others on.
package memnet

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

var (
	mu    sync.Mutex
	hosts = map[string]*Listener{} // by address; nil where nothing listens at the moment
)

// maxPending is how many connections a listener holds that were not accepted yet.
const maxPending = 128

// Listener is a net.Listener of this network.
type Listener struct {
	addr    net.Addr
	pending chan *Conn
	closed  chan struct{}
}

// Listen listens on an address, host:port or the path of a unix socket. When the Listener is closed,
// connections to the address are refused, until Release or another Listen.
func Listen(network, address string) (*Listener, error) {
	mu.Lock()
	defer mu.Unlock()
	if hosts[address] != nil {
		err := os.NewSyscallError("bind", syscall.EADDRINUSE)
		return nil, &net.OpError{Op: "listen", Net: network, Addr: addr{network, address}, Err: err}
	}
	l := &Listener{addr{network, address}, make(chan *Conn, maxPending), make(chan struct{})}
	hosts[address] = l
	return l, nil
}

// Release gives an address on which nothing listens any more back to the real network.
func Release(address string) {
	mu.Lock()
	defer mu.Unlock()
	if hosts[address] == nil {
		delete(hosts, address)
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.pending:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close implements net.Listener. It resets the connections that were not accepted.
func (l *Listener) Close() error {
	mu.Lock()
	defer mu.Unlock()
	if hosts[l.addr.String()] != l {
		return &net.OpError{Op: "close", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
	}
	hosts[l.addr.String()] = nil
	close(l.closed)
	for len(l.pending) > 0 {
		c := <-l.pending
		c.SetLinger(0)
		c.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial is the type of net.Dialer.DialContext.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// DialContext returns a function that connects to the listeners of this network, and with next to
// all other addresses.
func DialContext(next Dial) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		l, known := hosts[address]
		if !known {
			mu.Unlock()
			defer mu.Lock()
			return next(ctx, network, address)
		}
		err := ctx.Err()
		if err == nil && (l == nil || len(l.pending) == maxPending) {
			err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Addr: addr{network, address}, Err: err}
		}
		near, far := pipe(sourceOf(l.addr), l.addr)
		l.pending <- far
		return near, nil
	}
}

// addr is an address as it was given.
type addr struct{ network, address string }

func (a addr) Network() string { return a.network }
func (a addr) String() string  { return a.address }

var sources atomic.Uint32

// sourceOf returns an address from which a client connects to another.
func sourceOf(to net.Addr) net.Addr {
	if to.Network() == "unix" {
		return addr{"unix", "@"}
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(32768 + sources.Add(1)%28000)}
}
