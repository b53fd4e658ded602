package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/bench/internal/crew"
)

// recovery measures calls to an agent after an outage.
var recovery = group{
	name: "recover",
	columns: []column{
		{key: "seconds", title: "seconds", digits: 3},
		{key: "worst_seconds", title: "seconds", digits: 3, worst: true},
		{key: "failed", title: "failed", worst: true},
		{key: "connections", title: "connections", worst: true},
	},
	rows: []row{
		{"full", "one call of a new client, while the agent is full and sends nothing for 3 s", full},
		{"tls-hung", "next good call, after TLS handshakes that hung", afterHang(&gate{tls: true})},
		{"proxy-hung", "next good call, after a proxy's CONNECT that hung", afterHang(&gate{tls: true, proxy: true})},
		{"silent", "next good call, after a peer that accepted and did not respond", afterHang(&gate{resumes: true})},
		{"silent-dead", "the same, and these connections never get a response", afterHang(&gate{})},
		{"backlog", "next good call, after a peer whose backlog was full", afterHang(&gate{backlog: true})},
		{"tls-closed", "one call, to a peer that closes in each TLS handshake", closing},
	},
}

const (
	silence   = 3 * time.Second
	agentMost = 100 // connections that an agent accepts
)

// full makes one call while the agent's connections are all in use and it refuses more without a
// response.
func full(ctx context.Context, _ options) (figures, string, error) {
	agent, err := crew.StartAgent(ctx, crew.Setup{})
	if err != nil {
		return nil, "", err
	}
	defer agent.Stop()
	others, err := hold(agent, agentMost)
	if err != nil {
		return nil, "", err
	}
	defer others.release()
	client, err := nomad.NewClient(nomad.WithAddress(agent.Address))
	if err != nil {
		return nil, "", err
	}
	defer client.Close()
	for responded := true; responded; {
		if responded, err = refused(agent); err != nil {
			return nil, "", err
		}
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		for began := time.Now(); time.Since(began) < silence; time.Sleep(time.Millisecond) {
			refused(agent)
		}
		others.release()
	})
	return one(ctx, client)
}

// refused connects to an agent that is full, and reports whether it got a response.
func refused(agent *crew.Agent) (responded bool, err error) {
	conn, err := dial(agent)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	n, _ := conn.Read(make([]byte, 1))
	return n > 0, nil
}

// one makes one call.
func one(ctx context.Context, client *nomad.Client) (figures, string, error) {
	began := time.Now()
	err := crew.Members(ctx, client)
	f := seconds(time.Since(began))
	f["failed"] = 0
	if err != nil {
		f["failed"] = 1
		return f, crew.Shorten(err), nil
	}
	return f, "", nil
}

func seconds(d time.Duration) figures {
	return figures{"seconds": d.Seconds(), "worst_seconds": d.Seconds()}
}

// closing calls a peer that closes each connection during its TLS handshake.
func closing(ctx context.Context, _ options) (figures, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	var seen atomic.Int64
	var work sync.WaitGroup
	defer work.Wait()
	defer listener.Close()
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			seen.Add(1)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			conn.Read(make([]byte, 16<<10)) // the whole ClientHello, so that closing does not reset the connection
			conn.Close()
		}
	})
	client, err := nomad.NewClient(nomad.WithAddress("https://" + listener.Addr().String()))
	if err != nil {
		return nil, "", err
	}
	defer client.Close()
	f, note, err := one(ctx, client)
	f["connections"] = float64(seen.Load())
	return f, note, err
}

// hungJob configures a process whose agent hangs and then recovers.
type hungJob struct {
	crew.Job
	HungTimeout time.Duration // timeout of each call while the agent hangs
}

// hungResult is the result of the calls after the agent has recovered.
type hungResult struct {
	Took   time.Duration // until the first call that succeeded
	Failed int           // calls that failed before it
	Error  string        // error of the last call that failed
}

const (
	hungCalls   = 32
	hungTime    = time.Second
	recoverTime = 2 * time.Minute
)

// afterHang makes calls through a closed gate, opens it, and measures the time until a call
// succeeds.
func afterHang(kind *gate) func(context.Context, options) (figures, string, error) {
	return func(ctx context.Context, _ options) (f figures, note string, err error) {
		agent, err := crew.StartAgent(ctx, crew.Setup{TLS: kind.tls})
		if err != nil {
			return nil, "", err
		}
		defer agent.Stop()
		g, err := kind.before(agent)
		if err != nil {
			return nil, "", err
		}
		defer g.close()
		job := hungJob{Job: crew.Job{Facts: agent.Facts, Goroutines: hungCalls}, HungTimeout: hungTime}
		job.Address = g.address()
		worker, err := crew.Start(ctx, "hung", job, g.environment()...)
		if err != nil {
			return nil, "", err
		}
		defer worker.Stop()
		good := 0
		if err := worker.Hear(&good); err != nil {
			return nil, "", err
		}
		if good > 0 {
			return nil, "", fmt.Errorf("%d calls passed a closed gate", good)
		}
		if g.backlog {
			time.Sleep(hungTime / 2) // not at the time of a TCP retransmission, so that rounds are comparable
		}
		g.open()
		if err := worker.Say("open"); err != nil {
			return nil, "", err
		}
		var r hungResult
		if err := worker.Hear(&r); err != nil {
			return nil, "", err
		}
		f = seconds(r.Took)
		f["failed"] = float64(r.Failed)
		return f, r.Error, nil
	}
}

// beHung is the process of an afterHang row.
func beHung(ctx context.Context, pipe *crew.Pipe) error {
	var job hungJob
	if err := pipe.Hear(&job); err != nil {
		return err
	}
	client, err := nomad.NewClient(job.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	var good atomic.Int64
	var work sync.WaitGroup
	for range job.Goroutines {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, job.HungTimeout)
			defer cancel()
			if crew.Members(ctx, client) == nil {
				good.Add(1)
			}
		})
	}
	work.Wait()
	if err := pipe.Say(good.Load()); err != nil {
		return err
	}
	if err := pipe.Hear(new(string)); err != nil {
		return err
	}
	var r hungResult
	for began := time.Now(); time.Since(began) < recoverTime; r.Failed++ {
		err := crew.Members(ctx, client)
		if r.Took = time.Since(began); err == nil {
			break
		}
		r.Error = crew.Shorten(err)
	}
	return pipe.Say(r)
}

// gate is a proxy in front of an agent. While it is closed, connections hang, and by default they
// hang forever.
type gate struct {
	tls     bool // carries https
	proxy   bool // acts as an HTTP proxy
	resumes bool // serves waiting connections when it opens
	backlog bool // the same, and clients cannot connect while it is closed

	target   string
	listener net.Listener
	filled   held // connections in the backlog
	work     sync.WaitGroup

	mu     sync.Mutex
	isOpen bool
	closed bool
	conns  held
}

// proxiedName is a name in the agent's certificate for calls through a proxy. Package http does not
// use a proxy for loopback addresses.
const proxiedName = "server.global.nomad"

// before returns a closed gate of the same kind in front of an agent.
func (g *gate) before(agent *crew.Agent) (*gate, error) {
	made := &gate{tls: g.tls, proxy: g.proxy, resumes: g.resumes, backlog: g.backlog}
	_, made.target, _ = strings.Cut(agent.Address, "://")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	made.listener = listener
	if g.backlog {
		if made.filled, err = fillBacklog(listener.(*net.TCPListener)); err != nil {
			made.close()
			return nil, err
		}
		return made, nil
	}
	made.work.Go(made.accept)
	return made, nil
}

// address returns the address for clients.
func (g *gate) address() string {
	switch {
	case g.proxy:
		return "https://" + proxiedName + ":4646"
	case g.tls:
		return "https://" + g.listener.Addr().String()
	}
	return "http://" + g.listener.Addr().String()
}

// environment returns the environment variables of the client's process.
func (g *gate) environment() []string {
	if !g.proxy {
		return nil
	}
	url := "http://" + g.listener.Addr().String()
	return []string{"HTTPS_PROXY=" + url, "https_proxy=" + url, "NO_PROXY=", "no_proxy="}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOpen = true
	if g.resumes {
		for _, conn := range g.conns {
			g.work.Go(func() { g.serve(conn) })
		}
	}
	if g.backlog {
		g.filled.release()
		g.work.Go(g.accept)
	}
}

func (g *gate) close() {
	g.listener.Close()
	g.filled.release()
	g.mu.Lock()
	g.closed = true
	g.conns.release()
	g.mu.Unlock()
	g.work.Wait()
}

func (g *gate) accept() {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.take(conn)
	}
}

// take serves a connection, or lets it wait while the gate is closed.
func (g *gate) take(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		conn.Close()
		return
	}
	g.conns = append(g.conns, conn)
	if g.isOpen {
		g.work.Go(func() { g.serve(conn) })
	}
}

// serve forwards a connection to the agent.
func (g *gate) serve(conn net.Conn) {
	defer conn.Close()
	if g.proxy {
		if err := connect(conn); err != nil {
			return
		}
	}
	agent, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer agent.Close()
	go func() {
		defer agent.Close()
		io.Copy(agent, conn)
	}()
	io.Copy(conn, agent)
}

// connect accepts a CONNECT request to any target.
func connect(conn net.Conn) error {
	var head strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); head.Write(one) {
		if _, err := io.ReadFull(conn, one); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(head.String(), "CONNECT ") {
		return fmt.Errorf("%q is not a CONNECT request", head.String())
	}
	_, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	return err
}
