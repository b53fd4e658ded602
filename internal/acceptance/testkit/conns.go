package testkit

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Counter is a listener that counts its connections: open now, the most open at once, and all.
type Counter struct {
	net.Listener
	Open, Most, All atomic.Int64
}

// Accept waits for a connection and counts it.
func (c *Counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.All.Add(1)
	if n := c.Open.Add(1); n > c.Most.Load() {
		c.Most.Store(n) // no race: Accept has one caller
	}
	return &countedConn{Conn: conn, counter: c}, nil
}

type countedConn struct {
	net.Conn
	counter *Counter
	once    sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.counter.Open.Add(-1) })
	return c.Conn.Close()
}

// ConnectBoth copies data between two connections, in both directions, until one ends. It closes both.
func ConnectBoth(client, agent net.Conn) {
	var group sync.WaitGroup
	group.Go(func() {
		io.Copy(agent, client)
		agent.Close()
	})
	io.Copy(client, agent)
	client.Close()
	agent.Close()
	group.Wait()
}
