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
	defaults spec
	agents   []*Agent
	clients  []*nomad.Client
	counts   map[string]int // of names given, by kind
	closed   bool
}

// Option says what a cluster is made of.
type Option func(*Cluster)

// Servers adds n servers, named server-1, server-2 and so on, across all such options. Each expects n servers before the first election, as the
// setting bootstrap_expect has it.
func Servers(n int, opts ...AgentOption) Option {
	return func(c *Cluster) { c.addMany("server", n, spec{server: true, expect: n}, opts) }
}

// Clients adds n agents in client mode, named client-1, client-2 and so on. They know the servers of their region.
func Clients(n int, opts ...AgentOption) Option {
	return func(c *Cluster) { c.addMany("client", n, spec{client: true}, opts) }
}

// Both adds n agents that are server and client, named both-1, both-2 and so on.
func Both(n int, opts ...AgentOption) Option {
	return func(c *Cluster) { c.addMany("both", n, spec{server: true, client: true, expect: n}, opts) }
}

// Version sets the version of Nomad that the agents of options after it report: the shape of Self and the texts of some
// errors depend on it. The default is DefaultVersion.
func Version(version string) Option {
	return func(c *Cluster) { c.defaults.version = version }
}

// DefaultVersion is the version of Nomad that agents report unless Version says otherwise.
const DefaultVersion = "2.0.5"

// spec is how an agent is started.
type spec struct {
	server, client bool
	region, dc     string
	version        string
	expect         int
	unjoined       bool
}

// AgentOption says how an agent is started.
type AgentOption func(*spec)

// Region sets the region of an agent. The default is global.
func Region(name string) AgentOption { return func(s *spec) { s.region = name } }

// Datacenter sets the datacenter of an agent. The default is dc1.
func Datacenter(name string) AgentOption { return func(s *spec) { s.dc = name } }

// Expect sets how many servers of its region a server waits for before the first election: bootstrap_expect. A server
// with 0 never starts one, and waits to be added by a leader. Without the option it is the number of servers that are
// added together.
func Expect(n int) AgentOption { return func(s *spec) { s.expect = n } }

// Unjoined starts a server in a gossip pool of its own, for Agent.Join of package nomad.
func Unjoined() AgentOption { return func(s *spec) { s.unjoined = true } }

// NewCluster starts a cluster. Without options it has one server.
func NewCluster(opts ...Option) *Cluster {
	c := &Cluster{
		defaults: spec{region: "global", dc: "dc1", version: DefaultVersion},
		counts:   map[string]int{},
	}
	for _, opt := range opts {
		opt(c)
	}
	if len(c.agents) == 0 {
		Servers(1)(c)
	}
	// A client can stand before the servers of its region.
	mu.Lock()
	defer mu.Unlock()
	for _, a := range c.agents {
		if a.client && len(a.servers) == 0 {
			a.learnServers(c.agents)
		}
	}
	return c
}

func (c *Cluster) addMany(kind string, n int, s spec, opts []AgentOption) {
	for range n {
		mu.Lock()
		c.counts[kind]++
		name := fmt.Sprintf("%s-%d", kind, c.counts[kind])
		mu.Unlock()
		c.add(name, s, opts)
	}
}

// AddServer starts one more server. It expects no other servers: the leader adds it.
func (c *Cluster) AddServer(name string, opts ...AgentOption) *Agent {
	return c.add(name, spec{server: true}, opts)
}

// AddClient starts one more agent in client mode.
func (c *Cluster) AddClient(name string, opts ...AgentOption) *Agent {
	return c.add(name, spec{client: true}, opts)
}

func (c *Cluster) add(name string, s spec, opts []AgentOption) *Agent {
	s.region, s.dc, s.version = c.defaults.region, c.defaults.dc, c.defaults.version
	for _, opt := range opts {
		opt(&s)
	}
	a := newAgent(c, name, s)
	a.listen()

	mu.Lock()
	defer mu.Unlock()
	if c.closed {
		a.shut()
		panic("nomadtest: the cluster is closed")
	}
	if c.find(name) != nil {
		a.shut()
		panic(fmt.Sprintf("nomadtest: there is an agent %q already", name))
	}
	c.agents = append(c.agents, a)
	registry[a.serfAddr()], registry[a.rpcAddr()] = a, a
	if s.server {
		a.pool = newPool()
		if peer := c.anyServer(); peer != nil && !s.unjoined {
			a.pool = peer.pool
		}
		a.pool.add(a)
	}
	if s.client {
		a.learnServers(c.agents)
	}
	return a
}

// anyServer is a server that others are joined with.
func (c *Cluster) anyServer() *Agent {
	for _, a := range c.agents {
		if a.server && !a.unjoined && a.pool != nil {
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

// Client makes a client of the agent of a name. Close closes it.
func (c *Cluster) Client(name string, opts ...nomad.Option) *nomad.Client {
	client, err := nomad.NewClient(append([]nomad.Option{nomad.WithAddress(c.URL(name))}, opts...)...)
	if err != nil {
		panic("nomadtest: " + err.Error())
	}
	mu.Lock()
	defer mu.Unlock()
	c.clients = append(c.clients, client)
	return client
}

// Close ends all agents and the connections of all clients that Client made. It can be called again.
func (c *Cluster) Close() {
	mu.Lock()
	agents, clients := c.agents, c.clients
	c.closed, c.clients = true, nil
	for _, a := range agents {
		delete(registry, a.serfAddr())
		delete(registry, a.rpcAddr())
		a.running, a.gone = false, true
	}
	mu.Unlock()
	for _, client := range clients {
		client.Close()
	}
	for _, a := range agents {
		a.lifecycle.Lock()
		a.shut()
		a.lifecycle.Unlock()
	}
}

// registry finds the agents of all clusters by their gossip and RPC addresses. Nothing listens there; the model
// connects through it.
var registry = map[string]*Agent{}

// The ports of agents are below the ranges from which systems take those of outgoing connections, so that one is still
// free when a stopped agent starts again. Processes that run at the same time begin at different ones.
const firstPort, lastPort = 10000, 32000

var nextPort = firstPort + os.Getpid()*61%(lastPort-firstPort)

func takePort() int {
	for {
		if nextPort++; nextPort >= lastPort {
			nextPort = firstPort
		}
		if _, taken := registry[fmt.Sprintf("127.0.0.1:%d", nextPort)]; !taken {
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
