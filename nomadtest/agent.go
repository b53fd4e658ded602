package nomadtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
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

// live marks the agent as running.
func (a *Agent) live() {
	a.running, a.started = true, time.Now()
	a.life, a.stopLife = context.WithCancel(context.Background())
}

// die marks the agent as stopped and ends its log streams.
func (a *Agent) die() {
	a.running = false
	a.stopLife()
	for _, listener := range a.listeners {
		close(listener)
	}
	a.listeners = nil
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

// Stop ends the agent as a crash does: its connections break, and its peers report it as failed.
func (a *Agent) Stop() { a.end(failed) }

// Leave ends the agent gracefully: its peers report it as left, and a leader removes it from Raft.
func (a *Agent) Leave() { a.end(left) }

func (a *Agent) end(status string) {
	a.lifecycle.Lock()
	defer a.lifecycle.Unlock()
	mu.Lock()
	wasRunning := a.running
	a.die()
	if wasRunning && a.server {
		if status == left {
			a.pool.retire(a)
			a.parted = a.unjoined
		}
		a.pool.set(a.fullName(), status)
		for _, p := range expelledPools() {
			p.note(a, status)
		}
	}
	mu.Unlock()
	if wasRunning {
		a.shut()
	}
}

// Start starts an agent after Stop or Leave, with the same address and ID. It does nothing if the
// agent is running or the cluster is closed.
//
// A server returns to its pool. A server with the option Unjoined that has left starts in a new
// pool.
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
	a.live()
	if a.server && a.parted {
		a.parted = false
		a.pool = newPool(a.gossipKey)
		a.pool.add(a)
		return
	}
	if a.server {
		a.pool.restarted = true
		a.pool.add(a)
		for _, p := range expelledPools() {
			p.note(a, alive)
		}
	}
}

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

// learnServers sets a client's initial servers: those of KnownServers, or those of its region.
func (a *Agent) learnServers(agents []*Agent) {
	if a.known != nil {
		a.servers, a.configured = a.known, a.known
		return
	}
	for _, other := range agents {
		if other.server && other.running && other.region == a.region {
			a.servers = append(a.servers, other.rpcAddr())
		}
	}
	a.configured = a.servers
}

// upstream returns the first server in a client's list that it can connect to, or nil.
func (a *Agent) upstream() *Agent {
	if a.server {
		return a
	}
	for _, address := range a.servers {
		if other := registry[address]; other != nil && other.server && a.reaches(other) {
			return other
		}
	}
	return nil
}

// worksFor reports whether a client is connected to a server of the pool.
func (a *Agent) worksFor(p *pool) bool {
	server := a.upstream()
	return server != nil && server.pool == p
}

// reaches reports whether the agent can connect to another agent.
func (a *Agent) reaches(other *Agent) bool { return other.running && a.island == other.island }

// firstHeartbeat is the time of the first heartbeat of an agent in both modes with real delays.
const firstHeartbeat = 15 * time.Second

// registered reports whether a client has had its first heartbeat.
func (a *Agent) registered() bool {
	return !a.server || !a.realDelays || time.Since(a.started) > firstHeartbeat
}

// heartbeatInterval is the interval at which a client renews its list of servers.
const heartbeatInterval = 15 * time.Second

// now returns the agent's time.
func (a *Agent) now() time.Time { return time.Now().Add(a.ahead) }

// heartbeat renews a client's list of servers if the heartbeat is due.
//
// Without real delays it is also due when the list has changed. A region without a leader sends no
// list. Before its first heartbeat, an agent in both modes has its own address twice: from the
// configuration and from its server.
func (a *Agent) heartbeat() {
	if !a.client || !a.running {
		return
	}
	if !a.registered() {
		a.servers = []string{a.rpcAddr(), a.rpcAddr()}
		return
	}
	server := a.upstream()
	if server == nil || server.pool.leader(server.region) == nil {
		return
	}
	var renewed []string
	for _, other := range server.pool.aliveServers(server.region) {
		renewed = append(renewed, other.rpcAddr())
	}
	slices.Sort(renewed)
	now := a.now()
	due := !now.Before(a.nextBeat)
	if !a.realDelays && !a.slowBeat {
		due = due || !slices.Equal(renewed, a.learned)
	}
	if due {
		a.servers, a.learned, a.nextBeat = renewed, renewed, now.Add(heartbeatInterval)
	}
}

// setServers replaces a client's list of servers by the reachable servers at addresses. It returns
// an error if none is reachable.
func (a *Agent) setServers(addresses []string) error {
	var good, faults []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil && strings.Contains(err.Error(), "missing port") {
			host, port, err = address, "4647", nil
		}
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		if n, err := strconv.Atoi(port); err != nil {
			faults = append(faults, fmt.Sprintf("lookup tcp/%s: unknown port", port))
			continue
		} else if n < 0 || n > 65535 {
			faults = append(faults, fmt.Sprintf("address %s: invalid port", port))
			continue
		}
		if host == "localhost" {
			host = "127.0.0.1"
		}
		resolved := net.JoinHostPort(host, port)
		switch other := registry[resolved]; {
		case host != "" && net.ParseIP(host) == nil:
			faults = append(faults, noSuchHost(host))
		case other != nil && other.server && a.reaches(other) && resolved == other.serfAddr():
			faults = append(faults, fmt.Sprintf("Server at address %s failed ping: rpc error: EOF", resolved))
		case other == nil || !other.server || !a.reaches(other) || resolved != other.rpcAddr():
			faults = append(faults, fmt.Sprintf("Server at address %s failed ping: rpc error: failed to get conn: "+
				"dial tcp %s: connect: connection refused", resolved, resolved))
		default:
			good = append(good, resolved)
		}
	}
	if len(good) == 0 {
		return multiError(faults)
	}
	a.heartbeat() // so that it does not replace the new list before the next heartbeat
	a.servers = good
	return nil
}

// join merges a server's pool with those of the servers at addresses. It returns the number of
// servers that it joined.
func (a *Agent) join(addresses []string) (int, error) {
	joined := 0
	var faults []string
	for _, address := range addresses {
		verb := "failed"
		if !a.atLeast(1, 9, 6) {
			verb = "Failed"
		}
		resolved, err := a.resolveSerf(address)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s to resolve %s: %s", verb, address, err))
			continue
		}
		other := registry[resolved]
		if other != nil && other.server && other.pool == nil {
			other = nil
		}
		switch {
		case other != nil && a.reaches(other) && resolved == other.rpcAddr():
			faults = append(faults, fmt.Sprintf("%s to join %s: read tcp 127.0.0.1:50000->%s: read: connection reset by peer",
				verb, resolved, resolved))
		case other == nil || !other.server || !a.reaches(other) || resolved != other.serfAddr():
			faults = append(faults, fmt.Sprintf("%s to join %s: dial tcp %s: connect: connection refused", verb, resolved, resolved))
		case !a.pool.keyring.shares(other.pool.keyring):
			faults = append(faults, fmt.Sprintf("%s to join %s: %s", verb, resolved, mismatch(a.pool.keyring, other.pool.keyring)))
		case a.pool.conflict(other.pool) != "":
			// Not Nomad's message: of two real servers with one name, one would be isolated.
			faults = append(faults, fmt.Sprintf("%s to join %s: both pools have a server %s", verb, resolved, a.pool.conflict(other.pool)))
		default:
			joined++
			unite(other.pool, a.pool)
		}
	}
	if joined == 0 {
		return 0, multiError(faults)
	}
	if m := a.member(); m != nil && m.present() {
		m.status = alive // a join refutes the status leaving
	}
	return joined, nil
}

// resolveSerf returns the host:port for an address of join.
//
// The address may have the form NAME/ADDRESS; the name is ignored. The default port is the agent's
// own.
func (a *Agent) resolveSerf(address string) (string, error) {
	if name, rest, ok := strings.Cut(address, "/"); ok {
		if name == "" {
			return "", errors.New("empty node name provided")
		}
		address = rest
	}
	hasPort := strings.Count(address, ":") == 1
	if strings.LastIndex(address, "[") == 0 {
		hasPort = strings.LastIndex(address, ":") > strings.LastIndex(address, "]")
	}
	if !hasPort {
		address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(a.serf))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", err
	}
	switch {
	case host == "localhost":
		host = "127.0.0.1"
	case net.ParseIP(host) == nil:
		return "", errors.New(noSuchHost(host))
	}
	return net.JoinHostPort(host, port), nil
}

// mismatch returns the error message of a server that cannot decrypt another server's gossip.
func mismatch(mine, theirs keyring) string {
	switch {
	case theirs.primary == "":
		return "encryption is configured but remote state is not encrypted"
	case mine.primary == "":
		return "remote state is encrypted and encryption is not configured"
	default:
		return "no installed keys could decrypt the message"
	}
}

// noSuchHost returns the message of a resolver for an unknown name.
//
// Names are never looked up. The message for an invalid name does not include a DNS server.
func noSuchHost(host string) string {
	if !domainName.MatchString(host) {
		return fmt.Sprintf("lookup %s: no such host", host)
	}
	return fmt.Sprintf("lookup %s on 192.0.2.53:53: no such host", host)
}

var domainName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// multiError formats several errors as Nomad's agents do, one a line.
type multiError []string

func (e multiError) Error() string {
	plural := "s"
	if len(e) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d error%s occurred:\n\t* %s\n\n", len(e), plural, strings.Join(e, "\n\t* "))
}
