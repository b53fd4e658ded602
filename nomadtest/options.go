package nomadtest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/nomad-go/nomad/agentconfig"
)

// Option describes the agents of a cluster or configures all of them.
type Option interface{ cluster(*setup) }

// AgentOption configures agents.
//
// Given to Servers, Clients, Both, AddServer or AddClient, it applies to those agents. Given to New
// or NewCluster, it applies to all agents, also those added later. The options of Servers and the
// like override it. An option that does not apply to an agent's role has no effect on it.
type AgentOption interface {
	Option
	agent(*spec)
}

// setup collects the options of NewCluster.
type setup struct {
	groups []group
	common []AgentOption
	memory bool // in-memory network
}

type clusterOption func(*setup)

func (o clusterOption) cluster(s *setup) { o(s) }

// InMemoryNetwork connects the agents through a network in this process, without sockets. A cluster
// then works in a bubble of testing/synctest. New does this by itself in a bubble. Its agents refuse
// to record CPU profiles and traces, which the runtime cannot record in a bubble.
//
// All clients of package nomad can connect to these agents by URL. Other HTTP clients can use
// nomad.Client.HTTPClient. Other programs cannot connect.
func InMemoryNetwork() Option { return clusterOption(func(s *setup) { s.memory = true }) }

// group is a number of agents with the same role and options.
type group struct {
	kind string
	n    int
	spec spec
	opts []AgentOption
}

func (g group) cluster(s *setup) { s.groups = append(s.groups, g) }

type agentOption func(*spec)

func (o agentOption) agent(s *spec)    { o(s) }
func (o agentOption) cluster(s *setup) { s.common = append(s.common, o) }

// spec is the configuration of an agent.
type spec struct {
	server, client bool
	names          []string
	region, dc     string
	version        string
	expect         int
	unjoined       bool
	debug          bool
	acls           bool
	tls, mutualTLS bool
	socket         bool
	gossipKey      string
	maxConns       int
	realDelays     bool
	known          []string
	logFile        string
	settings       []setting
	tokens         map[string][]string // added by Token, with their rights
}

// setting is a value of the configuration that an agent reports.
type setting struct {
	path  []string
	value any
}

func defaultSpec() spec {
	return spec{region: "global", dc: "dc1", version: DefaultVersion, maxConns: DefaultMaxConns}
}

// Servers adds n servers named server-1, server-2 and so on.
//
// The numbers continue if Servers is given more than once. Each server expects n servers before the
// first election (bootstrap_expect); see Expect.
func Servers(n int, opts ...AgentOption) Option {
	return newGroup("server", n, spec{server: true, expect: n}, opts)
}

// Clients adds n agents in client mode named client-1, client-2 and so on. They connect to the
// servers of their region.
func Clients(n int, opts ...AgentOption) Option {
	return newGroup("client", n, spec{client: true}, opts)
}

// Both adds n agents in server and client mode named both-1, both-2 and so on.
func Both(n int, opts ...AgentOption) Option {
	return newGroup("both", n, spec{server: true, client: true, expect: n}, opts)
}

func newGroup(kind string, n int, s spec, opts []AgentOption) Option {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: %d agents of kind %s: want 0 or more", n, kind))
	}
	return group{kind, n, s, opts}
}

// DefaultVersion is the version of Nomad that agents report by default.
const DefaultVersion = "2.0.5"

// DefaultMaxConns is the number of connections that an agent accepts from one address by default,
// as real agents do.
const DefaultMaxConns = 100

// Names sets the names of agents. It panics unless there is one name for each agent, and no name
// twice.
func Names(names ...string) AgentOption { return agentOption(func(s *spec) { s.names = names }) }

// Version sets the version of Nomad that agents imitate and report. The default is DefaultVersion.
// It panics for what is not a version.
//
// The version determines the endpoints, the fields of Self and some error messages. Versions 1.6.5,
// 1.8.4, 1.11.3 and 2.0.5 were recorded.
func Version(version string) AgentOption {
	if !versionForm.MatchString(version) {
		panic(fmt.Sprintf("nomadtest: Version(%q): want one such as %s, 1.11.3 or 2.1.0-beta.1", version, DefaultVersion))
	}
	return agentOption(func(s *spec) { s.version = version })
}

var versionForm = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// Region sets the region of agents. The default is global.
func Region(name string) AgentOption { return agentOption(func(s *spec) { s.region = name }) }

// Datacenter sets the datacenter of agents. The default is dc1.
func Datacenter(name string) AgentOption { return agentOption(func(s *spec) { s.dc = name }) }

// Expect sets how many servers of its region a server waits for before the first election
// (bootstrap_expect).
//
// The default is the number n of the call of Servers or Both that adds the server, and 0 for
// AddServer. A server with 0 never starts an election; it waits until a leader adds it.
func Expect(n int) AgentOption {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: Expect(%d): want 0 or more", n))
	}
	return agentOption(func(s *spec) { s.expect = n })
}

// Unjoined starts each server in its own gossip pool, to test Agent.Join of package nomad.
func Unjoined() AgentOption { return agentOption(func(s *spec) { s.unjoined = true }) }

// Debug sets enable_debug: agents without ACLs then allow Agent.Host and Agent.Profile of package
// nomad.
//
// As with real agents it is off by default, and these calls return ErrPermissionDenied.
func Debug() AgentOption { return agentOption(func(s *spec) { s.debug = true }) }

// ACLs makes agents require a token.
//
// Agents know ManagementToken, AgentReadToken, AgentWriteToken, NodeReadToken and ExpiredToken. A
// nomad.Client from Cluster.Client uses ManagementToken by default.
func ACLs() AgentOption { return agentOption(func(s *spec) { s.acls = true }) }

// TLS makes agents serve https.
//
// The certificate is issued by the cluster's own authority for 127.0.0.1, localhost and
// server.<region>.nomad, or client.<region>.nomad in client mode. A nomad.Client from
// Cluster.Client trusts it. Cluster.TLSFiles returns files for other programs.
func TLS() AgentOption { return agentOption(func(s *spec) { s.tls = true }) }

// MutualTLS makes agents serve https and require a client certificate (verify_https_client).
//
// A nomad.Client from Cluster.Client has a certificate. Cluster.TLSFiles returns files for other
// programs.
func MutualTLS() AgentOption { return agentOption(func(s *spec) { s.tls, s.mutualTLS = true, true }) }

// Socket makes agents in client mode also listen on a unix socket, as Nomad's task API does. Its
// path is Agent.SocketPath.
//
// Requests on the socket require a token. Without ACLs any token is accepted.
func Socket() AgentOption { return agentOption(func(s *spec) { s.socket = true }) }

// GossipKey encrypts the gossip of servers, as the keyring calls of package nomad require.
//
// The key has 16, 24 or 32 bytes in base64. Servers without a common key cannot join each other.
func GossipKey(key string) AgentOption {
	if !isGossipKey(key) {
		panic("nomadtest: GossipKey: want 16, 24 or 32 bytes in base64")
	}
	return agentOption(func(s *spec) { s.gossipKey = key })
}

func isGossipKey(key string) bool {
	raw, err := base64.StdEncoding.DecodeString(key)
	return err == nil && (len(raw) == 16 || len(raw) == 24 || len(raw) == 32)
}

// MaxConns sets how many connections an agent accepts from one address (http_max_conns_per_client).
//
// The default is DefaultMaxConns; 0 means no limit. The first 100 connections above the limit get a
// 429 response, then 10 a second; the others are closed without a response.
func MaxConns(n int) AgentOption {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: MaxConns(%d): want 0 or more", n))
	}
	return agentOption(func(s *spec) { s.maxConns = n })
}

// RealDelays makes agents as slow as real ones where those wait on purpose.
//
// A server without a leader responds to Agent.Health of package nomad after 5 s. A log stream
// starts with its first heartbeat after 1 s. An agent in server and client mode has its own address
// twice in its list of servers for the first 15 s.
func RealDelays() AgentOption { return agentOption(func(s *spec) { s.realDelays = true }) }

// KnownServers sets the RPC addresses of the servers that an agent in client mode knows at first.
//
// The default is the servers of its region. RPC addresses are those of Agent.RPCAddr, or
// Process.RPCAddr for real agents.
func KnownServers(addresses ...string) AgentOption {
	return agentOption(func(s *spec) { s.known = append([]string{}, addresses...) })
}

// LogFile sets log_file, so that Agent.MonitorExport of package nomad works with OnDisk.
//
// An agent in memory writes no file: it responds with the entries that it keeps in memory.
func LogFile() AgentOption {
	return agentOption(func(s *spec) { s.logFile = "/var/log/nomad.log" })
}

// Config changes a value of the configuration that Agent.Self of package nomad returns. It does not
// change the agent's behavior.
//
// The path consists of field names of agentconfig.Config or of names in the JSON that agents send,
// such as "Telemetry.PublishNodeMetrics". Config panics for any other path. The value is sent as
// JSON, whatever its type is.
func Config(path string, value any) AgentOption {
	keys := strings.Split(path, ".")
	if err := checkConfigPath(keys); err != nil {
		panic(fmt.Sprintf("nomadtest: Config(%q): %v", path, err))
	}
	return agentOption(func(s *spec) { s.settings = append(s.settings, setting{keys, value}) })
}

// checkConfigPath returns an error for a path that no agent's configuration has.
func checkConfigPath(path []string) error {
	typ := reflect.TypeFor[agentconfig.Config]()
	for i, key := range path {
		if kind := typ.Kind(); kind == reflect.Map || kind == reflect.Slice {
			return nil // any key is valid
		}
		var names []string
		if typ.Kind() == reflect.Struct {
			for _, field := range reflect.VisibleFields(typ) {
				if field.IsExported() {
					names = append(names, field.Name)
				}
			}
		}
		if !slices.Contains(names, key) {
			if reported(path) {
				return nil
			}
			in := cmp.Or(strings.Join(path[:i], "."), "the configuration")
			if len(names) == 0 {
				return fmt.Errorf("%s has no parts", in)
			}
			slices.Sort(names)
			return fmt.Errorf("no %q in %s: there are %s", key, in, strings.Join(names, ", "))
		}
		field, _ := typ.FieldByName(key)
		if typ = field.Type; typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
	}
	return nil
}

// reported reports whether a recorded configuration of some version has the path.
func reported(path []string) bool {
	files, _ := fs.Glob(configs, "config/[0-9]*.json")
	return slices.ContainsFunc(files, func(file string) bool {
		var at any
		text, _ := configs.ReadFile(file)
		json.Unmarshal(text, &at)
		for _, key := range path {
			object, _ := at.(map[string]any)
			var ok bool
			if at, ok = object[key]; !ok {
				return false
			}
		}
		return true
	})
}

// specs returns the configurations and names of a group's agents.
func (g group) specs(common []AgentOption, nextName func(kind string) string) (specs []spec, names []string) {
	s := defaultSpec()
	s.server, s.client, s.expect = g.spec.server, g.spec.client, g.spec.expect
	for _, opt := range common {
		opt.agent(&s)
	}
	for _, opt := range g.opts {
		opt.agent(&s)
	}
	s.check()
	if s.names != nil && len(s.names) != g.n {
		panic(fmt.Sprintf("nomadtest: Names: %d names for %d agents", len(s.names), g.n))
	}
	for i := range g.n {
		specs = append(specs, s)
		if s.names != nil {
			names = append(names, s.names[i])
		} else {
			names = append(names, nextName(g.kind))
		}
	}
	return specs, names
}

// check resets options that do not apply to the agent's role.
func (s *spec) check() {
	if !s.server {
		s.expect, s.unjoined, s.gossipKey = 0, false, ""
	}
	if !s.client {
		s.socket = false
	}
}
