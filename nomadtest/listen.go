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

// listen starts the agent's HTTP servers.
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
			socket.SetUnlinkOnClose(false) // a restarted agent may already listen at the path
		}
		a.socketServer = newServer(http.HandlerFunc(a.serveSocket))
		go a.socketServer.Serve(socket)
	}
}

// renewTLS issues a new certificate for the agent.
func (a *Agent) renewTLS() {
	a.cluster.authority().equip(a)
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
}

// bind listens on a free port, and on the same port after a restart.
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
			time.Sleep(50 * time.Millisecond) // another process took the port while the agent was stopped
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

// discard closes the agent permanently and releases its addresses.
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

// makeSocketPath creates a folder for the unix socket. Its path is short, as socket paths are
// limited to about 100 bytes.
func (a *Agent) makeSocketPath() {
	if a.socket {
		a.socketFolder = must(os.MkdirTemp("", "nomadtest-"))
		a.socketPath = filepath.Join(a.socketFolder, "api.sock")
	}
}

// connLimit limits the connections from one address as agents do.
type connLimit struct {
	most int // per address, 0 for no limit

	mu    sync.Mutex
	conns map[net.Conn]string // remote host of each connection
	count map[string]int
	peak  int // maximum of len(conns)

	refused int

	// Token bucket for responses to refused connections: 100 tokens, refilled with 10 a second.
	spent float64
	last  time.Time
}

const (
	answersHeld   = 100
	answersPerSec = 10

	tooMany = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
)

// Connections returns the number of open connections to the agent's address, and their maximum
// since the agent was started.
//
// Connections refused by the limit are not counted.
func (a *Agent) Connections() (open, most int) {
	l := a.limit.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns), l.peak
}

// track counts connections and refuses those above the limit.
//
// It runs in the goroutine that accepts connections, so that each connection is counted before it
// is served.
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
