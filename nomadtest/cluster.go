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

// mu guards the state of all clusters: an agent of one can join another.
var mu sync.Mutex

// Cluster is a set of agents that were started together. Servers are in one gossip pool, unless they were started with
// Unjoined.
type Cluster struct {
	common    []AgentOption
	memory    bool // its network is one in memory
	authority func() *authority

	// What follows is guarded by mu.
	agents  []*Agent
	clients []*nomad.Client
	counts  map[string]int // of names given, by kind
	issued  *authority     // once authority was called
	closed  bool

	complete bool // NewCluster has added all that it was asked for
}

// Format prints the number of agents, whatever the verb.
func (c *Cluster) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Cluster(%d agents)", len(c.Agents()))
}

// NewCluster starts a cluster. Without Servers, Clients or Both it has one server.
func NewCluster(opts ...Option) *Cluster {
	var s setup
	for _, opt := range opts {
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
		if !c.complete { // it has panicked
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

// meet has the agents that were added meet, all at once, so that a thousand take a thousand times as long as one.
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

// AddServer starts one more server, set up as those of NewCluster. It waits for a leader to add it; the first server of a
// cluster without any needs Expect(1) to become one.
func (c *Cluster) AddServer(name string, opts ...AgentOption) *Agent {
	return c.addOne(name, spec{server: true}, opts)
}

// AddClient starts one more agent in client mode, set up as those of NewCluster.
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

// anyServer is a server that another is joined with: one that it can talk to.
func (c *Cluster) anyServer(newcomer *Agent) *Agent {
	for _, a := range c.agents {
		if a.server && !a.unjoined && a.pool != nil && !a.pool.expelled && a.reaches(newcomer) && a.pool.keyring.shares(newcomer.pool.keyring) {
			return a
		}
	}
	return nil
}

// Agent is the agent of a name, such as server-1.
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

// Agents are all agents, in the order in which they were started.
func (c *Cluster) Agents() []*Agent {
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(c.agents)
}

// Leader is the leader of the region global, or of the one that is named. It is nil when there is none, or when it
// belongs to another cluster.
func (c *Cluster) Leader(region ...string) *Agent {
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

// URL is where the agent of a name listens, such as http://127.0.0.1:40123.
func (c *Cluster) URL(name string) string { return c.Agent(name).URL() }

// Client makes a client of the agent of a name, with the cluster's certificates if it speaks https and with
// ManagementToken if it has ACLs. Options come after these. Close closes it.
func (c *Cluster) Client(name string, opts ...nomad.Option) *nomad.Client {
	return c.Agent(name).Client(opts...)
}

// TLS is what a client needs to call agents that speak https, for nomad.WithTLS: the authority, a certificate and its
// key, for agents that ask for one.
func (c *Cluster) TLS() nomad.TLS { return c.authority().clientTLS() }

// TLSFiles is TLS with files in a temporary folder, for programs that take their names. Close removes them.
func (c *Cluster) TLSFiles() nomad.TLS {
	c.mustBeOpen()
	return c.authority().files()
}

// RotateTLS gives the cluster a new authority, the agents new certificates of it, and the files of TLSFiles new content.
// Connections stay; new ones are made with the new certificates only. Clients that Client made before go on trusting
// the old ones; those that were given the files follow.
func (c *Cluster) RotateTLS() {
	c.mustBeOpen()
	c.authority().rotate()
	for _, a := range c.Agents() {
		if a.tls {
			a.renewTLS()
		}
	}
}

// Close ends all agents and the connections of all clients that Client made. It can be called again.
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

// tellOthers lets the servers of other clusters in the same pools see that those of this one are gone.
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

// mustBeOpen panics after Close: nobody would close what is made then.
func (c *Cluster) mustBeOpen() {
	mu.Lock()
	defer mu.Unlock()
	if c.closed {
		panic("nomadtest: the cluster is closed")
	}
}

// registry finds the agents of all clusters by their gossip and RPC addresses. Nothing listens there; the model
// connects through it.
var registry = map[string]*Agent{}

// The ports of agents are below the ranges from which systems take those of outgoing connections, so that one is still
// free when a stopped agent starts again. Processes that run at the same time begin at different ones.
const firstPort, lastPort = 10000, 32000

// httpPorts are the ports of all agents, on either network, also of those that are stopped. mu guards them.
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

// idOf makes an ID that is the same in every run.
func idOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
