package nomadtest

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nomad-go/nomad/internal/memnet"
)

// listen starts the agent's listeners.
func (a *Agent) listen() {
	listener := a.bind()
	limit := &connLimit{most: a.maxConns}
	a.limit.Store(limit)
	a.httpServer = newServer(a)
	a.httpServer.ConnState = limit.track
	if a.tls {
		listener = tls.NewListener(listener, &tls.Config{
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return a.tlsConfig.Load(), nil },
		})
	}
	go a.httpServer.Serve(listener)
	if a.socketPath != "" {
		os.Remove(a.socketPath)
		socket, err := a.network("unix", a.socketPath)
		if err != nil {
			a.httpServer.Close()
			panic("nomadtest: " + err.Error())
		}
		if socket, ok := socket.(*net.UnixListener); ok {
			socket.SetUnlinkOnClose(false) // it could be the next one's by then
		}
		a.socketServer = newServer(http.HandlerFunc(a.serveSocket))
		go a.socketServer.Serve(socket)
	}
}

// renewTLS takes a certificate from the cluster's authority.
func (a *Agent) renewTLS() {
	a.tlsConfig.Store(a.cluster.authority().listener(a.role(), a.region, a.mutualTLS))
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
}

// bind takes a free port the first time, and the same one after that.
func (a *Agent) bind() net.Listener {
	var listener net.Listener
	var err error
	for try := range 100 {
		port := a.http
		if port == 0 {
			mu.Lock()
			port = takePort()
			mu.Unlock()
		} else if try > 0 {
			time.Sleep(50 * time.Millisecond) // another process has taken it while the agent was stopped
		}
		listener, err = a.network("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			if a.http == 0 {
				mu.Lock()
				a.http, httpPorts[port] = port, true
				mu.Unlock()
			}
			return listener
		}
	}
	panic("nomadtest: " + err.Error())
}

// network listens on the cluster's network.
func (a *Agent) network(network, address string) (net.Listener, error) {
	if a.cluster.memory {
		return memnet.Listen(network, address)
	}
	return net.Listen(network, address)
}

// shut closes the listeners and all connections.
func (a *Agent) shut() {
	a.httpServer.Close()
	if a.socketServer != nil {
		a.socketServer.Close()
	}
}

// discard ends the agent for good.
func (a *Agent) discard() {
	a.shut()
	if a.cluster.memory {
		memnet.Release(a.httpAddr())
		memnet.Release(a.socketPath)
	}
	if a.socketFolder != "" {
		os.RemoveAll(a.socketFolder)
	}
}

// makeSocketPath finds a path for the unix socket. It is short: a path of more than about 100 bytes cannot be bound.
func (a *Agent) makeSocketPath() {
	if a.socket {
		a.socketFolder = must(os.MkdirTemp("", "nomadtest-"))
		a.socketPath = filepath.Join(a.socketFolder, "api.sock")
	}
}

// connLimit is how agents limit the connections from one address.
type connLimit struct {
	most int // at once from one address; 0 for no limit

	mu    sync.Mutex
	conns map[net.Conn]string // to where they come from
	count map[string]int
	peak  int // of conns

	refused int

	// Refusals are answered at first, and then seldom: a bucket that fills with 10 a second and holds 100.
	spent float64
	last  time.Time
}

const (
	answersHeld   = 100
	answersPerSec = 10

	tooMany = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
)

// Connections tells how many connections to the agent's address are open, and how many were at most since it was started.
// Those that were refused for the limit are not counted.
func (a *Agent) Connections() (open, most int) {
	l := a.limit.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns), l.peak
}

// track is told of each connection that comes and goes. It is called by the goroutine that accepts connections, so that
// none is served before it is counted.
func (l *connLimit) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if refused, answer := l.add(conn); refused {
			if answer {
				conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
				fmt.Fprintf(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
					"Connection: close\r\n\r\n%s", len(tooMany), tooMany)
			}
			conn.Close()
		}
	case http.StateHijacked, http.StateClosed:
		l.remove(conn)
	}
}

func (l *connLimit) add(conn net.Conn) (refused, answer bool) {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most == 0 || l.count[host] < l.most {
		if l.conns == nil {
			l.conns, l.count = map[net.Conn]string{}, map[string]int{}
		}
		l.conns[conn] = host
		l.count[host]++
		l.peak = max(l.peak, len(l.conns))
		return false, false
	}
	l.refused++
	now := time.Now()
	l.spent = max(0, l.spent-now.Sub(l.last).Seconds()*answersPerSec)
	l.last = now
	if l.spent+1 > answersHeld {
		return true, false
	}
	l.spent++
	return true, true
}

func (l *connLimit) remove(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if host, ok := l.conns[conn]; ok {
		delete(l.conns, conn)
		l.count[host]--
	}
}
