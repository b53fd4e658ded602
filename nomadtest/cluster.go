package nomadtest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/nomad-go/nomad"
)

// mu guards the state of all clusters: agents of different clusters can join each other.
var mu sync.Mutex

// Cluster is a set of agents that were started together.
//
// Servers share one gossip pool, except those with the option Unjoined.
type Cluster struct {
	common    []AgentOption
	memory    bool // in-memory network
	authority func() *authority

	// mu guards the fields below.
	agents  []*Agent
	clients []*nomad.Client
	counts  map[string]int // generated names, by kind
	issued  *authority     // once authority was called
	closed  bool

	complete bool // NewCluster has added all agents
}

// Format prints the number of agents, for every verb.
func (c *Cluster) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Cluster(%d agents)", len(c.Agents()))
}

// NewCluster starts a cluster. Without Servers, Clients or Both it has one server.
//
// It panics for invalid options. Call Close when the cluster is no longer needed; New does so when
// the test ends.
func NewCluster(opts ...Option) *Cluster {
	var s setup
	for i, opt := range opts {
		if opt == nil {
			panic(fmt.Sprintf("nomadtest: option %d is nil", i+1))
		}
		opt.cluster(&s)
	}
	if len(s.groups) == 0 {
		Servers(1).cluster(&s)
	}
	c := &Cluster{common: s.common, memory: s.memory, counts: map[string]int{}}
	c.authority = sync.OnceValue(func() *authority {
		made := newAuthority()
		mu.Lock()
		defer mu.Unlock()
		c.issued = made
		return made
	})
	defer func() {
		if !c.complete { // panicked
			c.Close()
		}
	}()
	for _, g := range s.groups {
		specs, names := g.specs(c.common, c.nextName)
		for i, spec := range specs {
			c.add(names[i], spec)
		}
	}
	c.meet()
	return c
}

// meet joins the agents of NewCluster in one step, so that the time is linear in their number.
func (c *Cluster) meet() {
	mu.Lock()
	defer mu.Unlock()
	pools := map[*pool]bool{}
	for _, a := range c.agents {
		if a.server {
			a.pool.admit(a)
			a.hear("EventMemberJoin", a)
		}
	}
	for _, a := range c.agents {
		if a.server && !pools[a.pool] {
			pools[a.pool] = true
			a.pool.settle()
		}
		if a.client {
			a.learnServers(c.agents)
		}
	}
	c.complete = true
}

func (c *Cluster) nextName(kind string) string {
	mu.Lock()
	defer mu.Unlock()
	c.counts[kind]++
	return fmt.Sprintf("%s-%d", kind, c.counts[kind])
}

// AddServer starts another server with the options of NewCluster.
//
// A leader adds it to Raft. The first server of a cluster without servers needs Expect(1) to become
// the leader.
func (c *Cluster) AddServer(name string, opts ...AgentOption) *Agent {
	return c.addOne(name, spec{server: true}, opts)
}

// AddClient starts another agent in client mode with the options of NewCluster.
func (c *Cluster) AddClient(name string, opts ...AgentOption) *Agent {
	return c.addOne(name, spec{client: true}, opts)
}

func (c *Cluster) addOne(name string, kind spec, opts []AgentOption) *Agent {
	specs, names := group{n: 1, spec: kind, opts: append(slices.Clone(opts), Names(name))}.specs(c.common, c.nextName)
	return c.add(names[0], specs[0])
}

func (c *Cluster) add(name string, s spec) *Agent {
	a := newAgent(c, name, s)
	if a.tls {
		a.renewTLS()
	}
	a.makeSocketPath()
	a.listen()

	mu.Lock()
	defer mu.Unlock()
	if c.closed {
		a.discard()
		panic("nomadtest: the cluster is closed")
	}
	if c.find(name) != nil {
		a.discard()
		panic(fmt.Sprintf("nomadtest: there is an agent %q already", name))
	}
	c.agents = append(c.agents, a)
	registry[a.serfAddr()], registry[a.rpcAddr()] = a, a
	if s.server {
		a.pool = newPool(a.gossipKey)
		if peer := c.anyServer(a); peer != nil && !s.unjoined {
			a.pool = peer.pool
		}
	}
	if c.complete {
		if s.server {
			a.pool.add(a)
		}
		if s.client {
			a.learnServers(c.agents)
		}
	}
	return a
}

// anyServer returns a server that a new server can join, or nil.
func (c *Cluster) anyServer(newcomer *Agent) *Agent {
	for _, a := range c.agents {
		if a.server && !a.unjoined && a.pool != nil && !a.pool.expelled && a.reaches(newcomer) && a.pool.keyring.shares(newcomer.pool.keyring) {
			return a
		}
	}
	return nil
}

// Agent returns the agent with a name, such as server-1. It panics if there is none.
func (c *Cluster) Agent(name string) *Agent {
	mu.Lock()
	defer mu.Unlock()
	if a := c.find(name); a != nil {
		return a
	}
	names := make([]string, len(c.agents))
	for i, a := range c.agents {
		names[i] = a.name
	}
	panic(fmt.Sprintf("nomadtest: no agent %q: there are %s", name, strings.Join(names, ", ")))
}

func (c *Cluster) find(name string) *Agent {
	for _, a := range c.agents {
		if a.name == name {
			return a
		}
	}
	return nil
}

// Agents returns all agents in the order in which they were started.
func (c *Cluster) Agents() []*Agent {
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(c.agents)
}

// Leader returns the leader of a region, by default of the region global.
//
// It returns nil if the region has no leader. It also returns nil if servers of another Cluster
// have joined the pool and one of them is the leader. It panics for more than one region.
func (c *Cluster) Leader(region ...string) *Agent {
	if len(region) > 1 {
		panic(fmt.Sprintf("nomadtest: Leader(%q): want one region", region))
	}
	name := "global"
	if len(region) > 0 {
		name = region[0]
	}
	mu.Lock()
	defer mu.Unlock()
	for _, a := range c.agents {
		if a.server && a.region == name && a.isLeader() {
			return a
		}
	}
	return nil
}

// URL returns the HTTP address of the named agent, such as http://127.0.0.1:40123.
func (c *Cluster) URL(name string) string { return c.Agent(name).URL() }

// Client returns a new client of the named agent.
//
// The client has the cluster's certificates if the agent serves https, and ManagementToken if the
// agent has ACLs. opts override these. Cluster.Close closes the client.
func (c *Cluster) Client(name string, opts ...nomad.Option) *nomad.Client {
	return c.Agent(name).Client(opts...)
}

// TLS returns the TLS settings for clients of the cluster's agents, for nomad.WithTLS: the
// authority, a client certificate and its key.
func (c *Cluster) TLS() nomad.TLS { return c.authority().clientTLS() }

// TLSFiles returns the settings of TLS as files in a temporary folder, for other programs. Close
// removes the files.
func (c *Cluster) TLSFiles() nomad.TLS {
	c.mustBeOpen()
	return c.authority().files()
}

// RotateTLS replaces the cluster's authority, the agents' certificates and the content of the files
// of TLSFiles.
//
// Open connections stay open; new connections use the new certificates. Clients that Client
// returned before still trust only the old authority. Clients that use the files follow the
// rotation.
func (c *Cluster) RotateTLS() {
	c.mustBeOpen()
	c.authority().rotate()
	for _, a := range c.Agents() {
		if a.tls {
			a.renewTLS()
		}
	}
}

// Close stops all agents and closes all clients that Client returned. Calling it again has no
// effect.
func (c *Cluster) Close() {
	mu.Lock()
	agents, clients, issued := c.agents, c.clients, c.issued
	c.closed, c.clients = true, nil
	for _, a := range agents {
		delete(registry, a.serfAddr())
		delete(registry, a.rpcAddr())
		delete(httpPorts, a.http)
		a.gone = true
		if a.running {
			a.die()
		}
	}
	c.tellOthers()
	mu.Unlock()
	for _, client := range clients {
		client.Close()
	}
	for _, a := range agents {
		a.lifecycle.Lock()
		a.discard()
		a.lifecycle.Unlock()
	}
	if issued != nil {
		issued.remove()
	}
}

// tellOthers marks this cluster's servers as failed in the pools that they share with other
// clusters.
func (c *Cluster) tellOthers() {
	shared := map[*pool]bool{}
	for _, other := range registry {
		if other.server && other.pool != nil {
			shared[other.pool] = true
		}
	}
	for _, a := range c.agents {
		if a.server && shared[a.pool] && a.pool.isAlive(a.fullName()) {
			a.pool.set(a.fullName(), failed)
		}
	}
}

// mustBeOpen panics after Close, because Close could no longer release new resources.
func (c *Cluster) mustBeOpen() {
	mu.Lock()
	defer mu.Unlock()
	if c.closed {
		panic("nomadtest: the cluster is closed")
	}
}

// registry maps gossip and RPC addresses to the agents of all clusters. Agents connect through it,
// without listeners.
var registry = map[string]*Agent{}

// Ports are below the ephemeral ranges of operating systems, so that a port is still free when a
// stopped agent starts again. The first port depends on the process ID, so that parallel processes
// rarely collide.
const firstPort, lastPort = 10000, 32000

// httpPorts holds the HTTP ports of all agents, including stopped ones. mu guards it.
var httpPorts = map[int]bool{}

var nextPort = firstPort + os.Getpid()*61%(lastPort-firstPort)

func takePort() int {
	for {
		if nextPort++; nextPort >= lastPort {
			nextPort = firstPort
		}
		if _, taken := registry[fmt.Sprintf("127.0.0.1:%d", nextPort)]; !taken && !httpPorts[nextPort] {
			return nextPort
		}
	}
}

// idOf returns an ID that is the same in every run.
func idOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
