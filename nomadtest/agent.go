package nomadtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad"
)

// Agent is an agent of a Cluster.
type Agent struct {
	spec
	cluster *Cluster
	name    string
	id      string // server ID, or empty
	node    string // node ID, or empty

	http, rpc, serf int // ports; only http has a listener

	tlsConfig                atomic.Pointer[tls.Config]
	limit                    atomic.Pointer[connLimit]
	socketFolder, socketPath string

	lifecycle    sync.Mutex // held while the agent is started or stopped, before mu
	httpServer   *http.Server
	socketServer *http.Server

	// mu guards the fields below.
	ahead      time.Duration // offset from the clock, for tests
	slowBeat   bool          // renew the list of servers only when the heartbeat is due
	running    bool
	life       context.Context // ends when the agent stops
	stopLife   context.CancelFunc
	parted     bool              // left its pool, has to be joined again
	gone       bool              // cluster closed
	island     *island           // set by Cluster.Partition, or nil
	pool       *pool             // servers only
	servers    []string          // RPC addresses that a client uses
	configured []string          // initial RPC addresses
	learned    []string          // RPC addresses of the last heartbeat
	nextBeat   time.Time         // time of the next heartbeat
	tags       map[string]string // changes of SetTag
	started    time.Time
	config     []byte // of Self, created on first use
	workers    workers
	injections []*Injection // copied on write

	history   []entry
	listeners []chan entry

	recordMu sync.Mutex
	record   []*Request // ring buffer once it is full
	oldest   int
}

// Format prints the agent's name and address, for every verb.
func (a *Agent) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Agent(%s, %s)", a.name, a.URL())
}

func newAgent(c *Cluster, name string, s spec) *Agent {
	mu.Lock()
	defer mu.Unlock()
	a := &Agent{
		spec:    s,
		cluster: c,
		workers: newWorkers(),
		name:    name,
	}
	if s.server {
		a.id = idOf("server", name, s.region)
	}
	if s.client {
		a.node = idOf("client", name, s.region)
	}
	a.rpc = takePort()
	a.serf = takePort()
	a.live()
	return a
}

// role returns the role in the agent's certificate. An agent in both modes is a server.
func (a *Agent) role() string {
	if a.server {
		return "server"
	}
	return "client"
}

// Name returns the agent's name, without its region.
func (a *Agent) Name() string { return a.name }

// MemberName returns the agent's name with its region, such as server-1.global. A server has this
// name in the gossip pool.
func (a *Agent) MemberName() string { return a.fullName() }

// URL returns the agent's HTTP address, such as http://127.0.0.1:40123, or https with TLS. It does
// not change when the agent is restarted.
func (a *Agent) URL() string {
	if a.tls {
		return "https://" + a.httpAddr()
	}
	return "http://" + a.httpAddr()
}

// SocketPath returns the path of the unix socket of an agent with the option Socket, for
// nomad.WithAddress("unix://" + path). It is empty for other agents.
func (a *Agent) SocketPath() string { return a.socketPath }

// Running reports whether the agent is running. It is false after Stop or Leave.
func (a *Agent) Running() bool {
	mu.Lock()
	defer mu.Unlock()
	return a.running
}

// Client returns a new client of the agent. See Cluster.Client.
func (a *Agent) Client(opts ...nomad.Option) *nomad.Client {
	a.cluster.mustBeOpen()
	var ca *authority
	if a.tls {
		ca = a.cluster.authority()
	}
	client, err := a.newClient(a.URL(), ca, opts)
	if err != nil {
		panic("nomadtest: " + err.Error())
	}
	mu.Lock()
	defer mu.Unlock()
	a.cluster.clients = append(a.cluster.clients, client)
	return client
}

// newClient returns a client with the TLS settings and the token that the agent requires.
func (s spec) newClient(url string, ca *authority, opts []nomad.Option) (*nomad.Client, error) {
	ready := []nomad.Option{nomad.WithAddress(url)}
	if s.tls {
		ready = append(ready, nomad.WithTLS(ca.clientTLS()))
	}
	if s.acls {
		ready = append(ready, nomad.WithToken(ManagementToken))
	}
	return nomad.NewClient(append(ready, opts...)...)
}

// ServerID returns the ID of an agent in server mode, which is also the tag id of its member. It is
// empty for other agents.
func (a *Agent) ServerID() string { return a.id }

// NodeID returns the node ID of an agent in client mode. It is empty for other agents.
func (a *Agent) NodeID() string { return a.node }

// SerfAddr returns the agent's gossip address for Agent.Join of package nomad, as host:port. It has
// no listener: agents in memory connect without a network.
func (a *Agent) SerfAddr() string { return a.serfAddr() }

// RPCAddr returns the agent's RPC address for Agent.UpdateServers of package nomad and
// KnownServers, as host:port. Nothing listens there: agents in memory do not use RPC.
func (a *Agent) RPCAddr() string { return a.rpcAddr() }

func (a *Agent) fullName() string { return a.name + "." + a.region }
func (a *Agent) httpAddr() string { return fmt.Sprintf("127.0.0.1:%d", a.http) }
func (a *Agent) rpcAddr() string  { return fmt.Sprintf("127.0.0.1:%d", a.rpc) }
func (a *Agent) serfAddr() string { return fmt.Sprintf("127.0.0.1:%d", a.serf) }

// SetTag changes a tag of a server's member, such as its build. An empty value removes the tag. It
// has no effect on an agent in client mode.
func (a *Agent) SetTag(name, value string) {
	mu.Lock()
	defer mu.Unlock()
	if a.tags == nil {
		a.tags = map[string]string{}
	}
	a.tags[name] = value
	if m := a.member(); m != nil {
		m.tags = a.memberTags()
	}
}

// member returns the agent's entry in its pool, or nil.
func (a *Agent) member() *member {
	if !a.server {
		return nil
	}
	return a.pool.members[a.fullName()]
}

// memberTags returns the tags of a server's member.
func (a *Agent) memberTags() map[string]string {
	tags := map[string]string{
		"role": "nomad", "region": a.region, "dc": a.dc, "id": a.id, "build": a.version, "revision": "",
		"rpc_addr": "127.0.0.1", "port": strconv.Itoa(a.rpc), "vsn": "1", "raft_vsn": "3",
	}
	if a.expect > 0 {
		tags["expect"] = strconv.Itoa(a.expect)
	}
	if a.expect == 1 {
		tags["bootstrap"] = "1"
	}
	maps.Copy(tags, a.tags)
	maps.DeleteFunc(tags, func(name, value string) bool { return value == "" && name != "revision" })
	return tags
}

// isLeader reports whether the agent leads its region.
func (a *Agent) isLeader() bool { return a.running && a.pool.leader(a.region) == a }

// TakeLead makes a server the leader of its region, as a transfer of leadership does.
//
// It returns false if the region has no leader at the time, or if the agent is not a voter of Raft.
func (a *Agent) TakeLead() bool {
	mu.Lock()
	defer mu.Unlock()
	return a.server && a.running && a.pool.transfer(a)
}

// reaches reports whether the agent can connect to another agent.
func (a *Agent) reaches(other *Agent) bool { return other.running && a.island == other.island }
