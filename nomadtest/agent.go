package nomadtest

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Agent is one agent of a cluster.
type Agent struct {
	spec
	cluster *Cluster
	name    string
	id      string // of the server; node is that of the client
	node    string

	http, rpc, serf int // ports; only that of HTTP has a listener

	lifecycle  sync.Mutex // held while the agent is started or stopped, before mu
	httpServer *http.Server

	// What follows is guarded by mu.
	running bool
	gone    bool              // its cluster is closed
	pool    *pool             // of a server
	servers []string          // RPC addresses that a client knows
	tags    map[string]string // that SetTag changed
	started time.Time
	config  []byte // of Self, made when it is first asked for
	workers workers

	history   []entry
	listeners []chan entry
}

func newAgent(c *Cluster, name string, s spec) *Agent {
	mu.Lock()
	defer mu.Unlock()
	a := &Agent{
		spec:    s,
		cluster: c,
		workers: newWorkers(),
		name:    name,
		id:      idOf("server", name, s.region),
		node:    idOf("client", name, s.region),
	}
	a.rpc = takePort()
	a.serf = takePort()
	a.running, a.started = true, time.Now()
	return a
}

// listen starts the HTTP listener.
func (a *Agent) listen() {
	listener := a.bind()
	a.httpServer = &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go a.httpServer.Serve(listener)
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
		listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			if a.http == 0 {
				a.http = port
			}
			return listener
		}
	}
	panic("nomadtest: " + err.Error())
}

// shut closes the listener and all connections.
func (a *Agent) shut() { a.httpServer.Close() }

// Name is the agent's name, without its region.
func (a *Agent) Name() string { return a.name }

// MemberName is the name that a server has in the gossip pool, such as server-1.global.
func (a *Agent) MemberName() string { return a.fullName() }

// URL is where the agent listens, such as http://127.0.0.1:40123. It stays the same when the agent is restarted.
func (a *Agent) URL() string { return "http://" + a.httpAddr() }

// ServerID is the ID of a server, as in its member's tags; NodeID that of a client.
func (a *Agent) ServerID() string { return a.id }

// NodeID is the ID of a client agent's node.
func (a *Agent) NodeID() string { return a.node }

// SerfAddr is the address that Agent.Join of package nomad takes, host:port. Nothing listens there: agents in memory
// find each other without a network.
func (a *Agent) SerfAddr() string { return a.serfAddr() }

// RPCAddr is the address that Agent.UpdateServers of package nomad takes, host:port. Nothing listens there either.
func (a *Agent) RPCAddr() string { return a.rpcAddr() }

func (a *Agent) fullName() string { return a.name + "." + a.region }
func (a *Agent) httpAddr() string { return fmt.Sprintf("127.0.0.1:%d", a.http) }
func (a *Agent) rpcAddr() string  { return fmt.Sprintf("127.0.0.1:%d", a.rpc) }
func (a *Agent) serfAddr() string { return fmt.Sprintf("127.0.0.1:%d", a.serf) }

// Stop ends the agent as a crash does: its connections break, and its peers see it as failed.
func (a *Agent) Stop() { a.end(failed) }

// Leave ends the agent after it has said goodbye: its peers see it as left, and Raft forgets it.
func (a *Agent) Leave() { a.end(left) }

func (a *Agent) end(status string) {
	a.lifecycle.Lock()
	defer a.lifecycle.Unlock()
	mu.Lock()
	wasRunning := a.running
	a.running = false
	for _, listener := range a.listeners {
		close(listener)
	}
	a.listeners = nil
	if wasRunning && a.server {
		if status == left {
			a.pool.retire(a)
		}
		a.pool.set(a.fullName(), status)
	}
	mu.Unlock()
	if wasRunning {
		a.shut()
	}
}

// Start starts an agent that was stopped or has left, at the same address and with the same ID. A server is alive
// again in the pool that it was in. When the cluster is closed it does nothing.
func (a *Agent) Start() {
	a.lifecycle.Lock()
	defer a.lifecycle.Unlock()
	mu.Lock()
	idle := !a.running && !a.gone
	mu.Unlock()
	if !idle {
		return
	}
	a.listen()
	mu.Lock()
	defer mu.Unlock()
	if a.gone {
		a.shut()
		return
	}
	a.running, a.started = true, time.Now()
	if a.server {
		a.pool.add(a)
	}
}

// SetTag changes what a server says about itself, such as its build. An empty value removes the tag.
func (a *Agent) SetTag(name, value string) {
	mu.Lock()
	defer mu.Unlock()
	if a.tags == nil {
		a.tags = map[string]string{}
	}
	a.tags[name] = value
}

// isLeader reports whether the agent leads its region.
func (a *Agent) isLeader() bool {
	return a.running && a.pool.raft(a.region).leader == a.fullName()
}

// leader is the leader that a server knows, or nil.
func (a *Agent) leader() *Agent {
	if m := a.pool.members[a.pool.raft(a.region).leader]; m != nil {
		return m.agent
	}
	return nil
}

// learnServers gives a client the servers of its region to begin with.
func (a *Agent) learnServers(agents []*Agent) {
	for _, other := range agents {
		if other.server && other.running && other.region == a.region {
			a.servers = append(a.servers, other.rpcAddr())
		}
	}
}

// upstream is the server that a client talks to, or nil: the first one on its list that runs.
func (a *Agent) upstream() *Agent {
	for _, address := range a.servers {
		if other := registry[address]; other != nil && other.server && other.running {
			return other
		}
	}
	return nil
}

// heartbeat renews a client's list of servers, as the answer of a server to its heartbeat does.
func (a *Agent) heartbeat() {
	if !a.client || !a.running {
		return
	}
	server := a.upstream()
	if server == nil {
		return
	}
	a.servers = nil
	for _, other := range server.pool.aliveServers(a.region) {
		a.servers = append(a.servers, other.rpcAddr())
	}
}

// setServers replaces a client's list of servers by those of the list that answer. When none does, it says why.
func (a *Agent) setServers(addresses []string) error {
	var good, faults []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, "4647"
		}
		resolved := net.JoinHostPort(host, port)
		switch other := registry[resolved]; {
		case net.ParseIP(host) == nil:
			faults = append(faults, noSuchHost(host))
		case other == nil || !other.server || !other.running || resolved != other.rpcAddr():
			faults = append(faults, fmt.Sprintf("Server at address %s failed ping: rpc error: failed to get conn: "+
				"dial tcp %s: connect: connection refused", resolved, resolved))
		case !slices.Contains(good, resolved):
			good = append(good, resolved)
		}
	}
	if len(good) == 0 {
		return multiError(faults)
	}
	a.servers = good
	a.heartbeat()
	return nil
}

// join merges a server's pool with those of the servers at addresses, and counts the addresses that were there.
func (a *Agent) join(addresses []string) (int, error) {
	joined := 0
	var faults []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, "4648"
		}
		resolved := net.JoinHostPort(host, port)
		verb := "failed"
		if strings.HasPrefix(a.version, "1.") {
			verb = "Failed"
		}
		switch other := registry[resolved]; {
		case net.ParseIP(host) == nil:
			faults = append(faults, fmt.Sprintf("%s to resolve %s: %s", verb, host, noSuchHost(host)))
		case other == nil || !other.server || !other.running || resolved != other.serfAddr():
			faults = append(faults, fmt.Sprintf("%s to join %s: dial tcp %s: connect: connection refused", verb, host+":"+port, resolved))
		default:
			joined++
			other.pool.merge(a.pool)
		}
	}
	if joined == 0 {
		return 0, multiError(faults)
	}
	return joined, nil
}

// noSuchHost is what a resolver says about a name. Names are never looked up here.
func noSuchHost(host string) string {
	return fmt.Sprintf("lookup %s on 192.0.2.53:53: no such host", host)
}

// multiError lists faults as Nomad's agents do, over several lines and with two breaks at the end.
type multiError []string

func (e multiError) Error() string {
	plural := "s"
	if len(e) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d error%s occurred:\n\t* %s\n\n", len(e), plural, strings.Join(e, "\n\t* "))
}
