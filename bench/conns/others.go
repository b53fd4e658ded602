package main

import (
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/nomad-go/nomad/bench/internal/crew"
)

// held are connections of another program to an agent.
type held []net.Conn

// hold opens n connections to an agent that has none.
func hold(agent *crew.Agent, n int) (held, error) {
	var conns held
	for range n {
		conn, err := dial(agent)
		if err != nil {
			conns.release()
			return nil, err
		}
		conns = append(conns, conn)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		state, err := agent.State()
		if err == nil && state.Open == n {
			return conns, nil
		}
		if err == nil && time.Since(began) > 2*time.Second {
			err = fmt.Errorf("the agent has %d connections, want %d", state.Open, n)
		}
		if err != nil {
			conns.release()
			return nil, err
		}
	}
}

func (h held) release() {
	for _, conn := range h {
		conn.Close()
	}
}

// dial connects to an agent directly, without a client.
func dial(agent *crew.Agent) (net.Conn, error) {
	u, err := url.Parse(agent.Address)
	if err != nil {
		return nil, err
	}
	return net.Dial("tcp", u.Host)
}
