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

// Option says what a cluster is made of, or how all of its agents are set up.
type Option interface{ cluster(*setup) }

// AgentOption says how agents are set up. Given to Servers, Clients, Both, AddServer or AddClient it holds for those
// agents; given to NewCluster it holds for all of them, unless theirs say otherwise.
type AgentOption interface {
	Option
	agent(*spec)
}

// setup is what the options of NewCluster ask for.
type setup struct {
	groups []group
	common []AgentOption
	memory bool // there are no sockets
}

type clusterOption func(*setup)

func (o clusterOption) cluster(s *setup) { o(s) }

// InMemoryNetwork makes agents listen on a network within this process in place of sockets, so that a cluster works in a
// bubble of testing/synctest. New does that by itself in a bubble.
//
// Clients of package nomad find the agents at their URLs as usual, however they were made, and lend their connections with
// nomad.Client.HTTPClient. Other programs and other HTTP clients do not find them.
func InMemoryNetwork() Option { return clusterOption(func(s *setup) { s.memory = true }) }

// group is a number of agents that are added together.
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

// spec is how an agent is set up.
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
	tokens         map[string][]string // that agents know, and their rights
}

// setting is a leaf of the configuration that an agent reports.
type setting struct {
	path  []string
	value any
}

func defaultSpec() spec {
	return spec{region: "global", dc: "dc1", version: DefaultVersion, maxConns: DefaultMaxConns}
}

// Servers adds n servers, named server-1, server-2 and so on, across all such options. Each expects n servers before
// the first election, as the setting bootstrap_expect has it.
func Servers(n int, opts ...AgentOption) Option {
	return newGroup("server", n, spec{server: true, expect: n}, opts)
}

// Clients adds n agents in client mode, named client-1, client-2 and so on. They know the servers of their region.
func Clients(n int, opts ...AgentOption) Option {
	return newGroup("client", n, spec{client: true}, opts)
}

// Both adds n agents that are server and client, named both-1, both-2 and so on.
func Both(n int, opts ...AgentOption) Option {
	return newGroup("both", n, spec{server: true, client: true, expect: n}, opts)
}

func newGroup(kind string, n int, s spec, opts []AgentOption) Option {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: %d agents of kind %s: want 0 or more", n, kind))
	}
	return group{kind, n, s, opts}
}

// DefaultVersion is the version of Nomad that agents report unless Version says otherwise.
const DefaultVersion = "2.0.5"

// DefaultMaxConns is how many connections an agent takes from one address unless MaxConns says otherwise. Real agents
// have the same default.
const DefaultMaxConns = 100

// Names gives agents names of their own, one for each, in place of server-1 and the like.
func Names(names ...string) AgentOption { return agentOption(func(s *spec) { s.names = names }) }

// Version sets the version of Nomad that agents report: their endpoints, the shape of Self and the texts of some errors
// depend on it. Recorded are 1.6.5, 1.8.4, 1.11.3 and 2.0.5, which is the default.
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

// Expect sets how many servers of its region a server waits for before the first election: bootstrap_expect. A server
// with 0 never starts one, and waits to be added by a leader. Without the option it is the number of servers that are
// added together.
func Expect(n int) AgentOption {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: Expect(%d): want 0 or more", n))
	}
	return agentOption(func(s *spec) { s.expect = n })
}

// Unjoined starts each server in a gossip pool of its own, for Agent.Join of package nomad.
func Unjoined() AgentOption { return agentOption(func(s *spec) { s.unjoined = true }) }

// Debug lets agents without ACLs answer Agent.Host and Agent.Profile of package nomad: the setting enable_debug. As with
// real agents it is off by default, and those calls are ErrPermissionDenied.
func Debug() AgentOption { return agentOption(func(s *spec) { s.debug = true }) }

// ACLs makes agents ask for a token. They know ManagementToken, AgentReadToken, AgentWriteToken and NodeReadToken;
// Cluster.Client sends the first unless it is told otherwise.
func ACLs() AgentOption { return agentOption(func(s *spec) { s.acls = true }) }

// TLS makes agents speak https, with a certificate of the cluster's own authority for 127.0.0.1, localhost and
// server.<region>.nomad, or client.<region>.nomad in client mode. Cluster.Client trusts it, and Cluster.TLSFiles has the
// files for a client of your own.
func TLS() AgentOption { return agentOption(func(s *spec) { s.tls = true }) }

// MutualTLS is TLS with agents that ask for a certificate, as verify_https_client does. Cluster.Client has one, and
// Cluster.TLSFiles the files.
func MutualTLS() AgentOption { return agentOption(func(s *spec) { s.tls, s.mutualTLS = true, true }) }

// Socket makes agents in client mode answer on a unix socket too, at Agent.SocketPath, as Nomad's task API does: to those
// who send a token only, whether there are ACLs or not.
func Socket() AgentOption { return agentOption(func(s *spec) { s.socket = true }) }

// GossipKey encrypts the gossip of servers with a key of 16, 24 or 32 bytes in base64, so that the calls of package nomad
// about the keyring work. Servers that share no key cannot join each other.
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

// MaxConns sets how many connections an agent takes from one address, in place of DefaultMaxConns: the setting
// http_max_conns_per_client. Those above it get 429 at first, 100 of them and then 10 a second, and are otherwise
// closed without an answer. 0 sets no limit.
func MaxConns(n int) AgentOption {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: MaxConns(%d): want 0 or more", n))
	}
	return agentOption(func(s *spec) { s.maxConns = n })
}

// RealDelays makes agents as slow as real ones where those are slow on purpose: a server without a leader takes 5 s to
// say so in Agent.Health of package nomad, a log stream starts with its first heartbeat, after a second, and an agent that
// is server and client has itself twice on its list of servers for its first 15 s.
func RealDelays() AgentOption { return agentOption(func(s *spec) { s.realDelays = true }) }

// KnownServers sets the servers that an agent in client mode knows to begin with, by their RPC addresses, in place of those
// of its region. Agents in memory have them at Agent.RPCAddr, real ones at Process.RPCAddr.
func KnownServers(addresses ...string) AgentOption {
	return agentOption(func(s *spec) { s.known = append([]string{}, addresses...) })
}

// LogFile is the setting log_file: agents have their log in a file too, so that Agent.MonitorExport of package nomad
// can read it. Agents in memory write no file.
func LogFile() AgentOption {
	return agentOption(func(s *spec) { s.logFile = "/var/log/nomad.log" })
}

// Config changes what Agent.Self of package nomad reports as the configuration, at a path such as
// "Telemetry.PublishNodeMetrics". The agents behave as before. The path is one of package agentconfig, or of what agents
// report besides.
func Config(path string, value any) AgentOption {
	keys := strings.Split(path, ".")
	if err := checkConfigPath(keys); err != nil {
		panic(fmt.Sprintf("nomadtest: Config(%q): %v", path, err))
	}
	return agentOption(func(s *spec) { s.settings = append(s.settings, setting{keys, value}) })
}

// checkConfigPath refuses the path of a setting that no agent has.
func checkConfigPath(path []string) error {
	typ := reflect.TypeFor[agentconfig.Config]()
	for i, key := range path {
		if kind := typ.Kind(); kind == reflect.Map || kind == reflect.Slice {
			return nil // the keys are up to the configuration
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

// reported reports whether the configuration that agents of some version report has a path.
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

// specs are the setups of a group's agents, and their names.
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

// check puts right what does not apply to an agent's role.
func (s *spec) check() {
	if !s.server {
		s.expect, s.unjoined, s.gossipKey = 0, false, ""
	}
	if !s.client {
		s.socket = false
	}
}
