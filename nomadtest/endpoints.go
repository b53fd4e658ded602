package nomadtest

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// The answers of agents, with keys in the order in which agents write them.

type membersJSON struct {
	Members      []memberJSON
	ServerDC     string
	ServerName   string
	ServerRegion string
}

type memberJSON struct {
	Addr                                  *string
	DelegateCur, DelegateMax, DelegateMin int
	Name                                  string
	Port                                  int
	ProtocolCur, ProtocolMax, ProtocolMin int
	Status                                string
	Tags                                  map[string]string
}

type joinJSON struct {
	Error     string  `json:"error"`
	NumJoined int     `json:"num_joined"`
	Warning   *string `json:"warning,omitempty"`
}

type selfJSON struct {
	Config json.RawMessage              `json:"config"`
	Member memberJSON                   `json:"member"`
	Stats  map[string]map[string]string `json:"stats"`
}

type healthJSON struct {
	Client *roleHealthJSON `json:"client,omitempty"`
	Server *roleHealthJSON `json:"server,omitempty"`
}

type roleHealthJSON struct {
	Message string `json:"message"`
	OK      bool   `json:"ok"`
}

func isWrite(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodPost
}

func (a *Agent) serveMembers(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	server := a
	if !a.server {
		a.heartbeat()
		if server = a.upstream(); server == nil {
			return nil, a.noUpstream()
		}
	}
	out := membersJSON{ServerDC: server.dc, ServerName: server.name, ServerRegion: server.region, Members: []memberJSON{}}
	for _, name := range sortedKeys(server.pool.members) {
		out.Members = append(out.Members, server.pool.members[name].json())
	}
	return out, nil
}

// noUpstream is how a client's call to a server fails.
func (a *Agent) noUpstream() error {
	if len(a.servers) == 0 {
		return faultf(500, "no servers")
	}
	return faultf(500, "rpc error: failed to get conn: dial tcp %s: connect: connection refused", a.servers[0])
}

func (m *member) json() memberJSON {
	a := m.agent
	addr := "127.0.0.1"
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
	return memberJSON{
		Addr: &addr, Port: a.serf, Name: a.fullName(), Status: m.status, Tags: tags,
		DelegateCur: 4, DelegateMax: 5, DelegateMin: 2, ProtocolCur: 2, ProtocolMax: 5, ProtocolMin: 1,
	}
}

func (a *Agent) serveServers(r *http.Request) (any, error) {
	write := isWrite(r)
	switch {
	case !write && r.Method != http.MethodGet:
		return nil, invalidMethod(405)
	case !a.client:
		return nil, invalidMethod(501)
	case !write:
		a.heartbeat()
		return append([]string{}, a.servers...), nil
	}
	addresses := r.URL.Query()["address"]
	if len(addresses) == 0 {
		return nil, faultf(400, "missing server address")
	}
	if err := a.setServers(addresses); err != nil {
		return nil, faultf(400, "%s", err)
	}
	return nil, nil
}

func (a *Agent) serveJoin(r *http.Request) (any, error) {
	if !isWrite(r) {
		return nil, invalidMethod(405)
	}
	if !a.server {
		return nil, invalidMethod(501)
	}
	addresses := r.URL.Query()["address"]
	if len(addresses) == 0 {
		return nil, faultf(400, "missing address to join")
	}
	var out joinJSON
	if !strings.HasPrefix(a.version, "1.") {
		out.Warning = new(string)
	}
	joined, err := a.join(addresses)
	if err != nil {
		out.Error = err.Error()
	}
	out.NumJoined = joined
	return out, nil
}

func (a *Agent) serveForceLeave(r *http.Request) (any, error) {
	if !isWrite(r) {
		return nil, invalidMethod(405)
	}
	if !a.server {
		return nil, invalidMethod(501)
	}
	query := r.URL.Query()
	node := query.Get("node")
	if node == "" {
		return nil, faultf(400, "missing node to force leave")
	}
	prune := false
	if query.Has("prune") {
		var err error
		if prune, err = strconv.ParseBool(query.Get("prune")); err != nil {
			return nil, faultf(400, "invalid prune value")
		}
	}
	a.pool.forceLeave(node, prune)
	return nil, nil
}

func (a *Agent) serveHealth(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	var out healthJSON
	askServer, askClient := true, true
	if types, ok := r.URL.Query()["type"]; ok {
		askServer, askClient = false, false
		for _, t := range types {
			switch t {
			case "server":
				askServer, out.Server = true, &roleHealthJSON{Message: "server not enabled"}
			case "client":
				askClient, out.Client = true, &roleHealthJSON{Message: "client not enabled"}
			}
		}
	}
	if askClient && a.client {
		out.Client = &roleHealthJSON{Message: "ok", OK: true}
		if len(a.servers) == 0 {
			out.Client = &roleHealthJSON{Message: "no known servers"}
		}
	}
	if askServer && a.server {
		out.Server = &roleHealthJSON{Message: "ok", OK: true}
		if a.leader() == nil {
			out.Server = &roleHealthJSON{Message: "No cluster leader"}
		}
	}
	if out.Client != nil && !out.Client.OK || out.Server != nil && !out.Server.OK {
		body, err := json.Marshal(out)
		if err != nil {
			return nil, err
		}
		return nil, faultf(500, "%s", body)
	}
	return out, nil
}

func (a *Agent) serveSelf(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if a.config == nil {
		config, err := a.makeConfig()
		if err != nil {
			return nil, err
		}
		a.config = config
	}
	out := selfJSON{Config: a.config, Member: memberJSON{Status: "none"}, Stats: a.stats()}
	if a.server {
		if m := a.pool.members[a.fullName()]; m != nil {
			out.Member = m.json()
		}
	}
	return out, nil
}

// configs holds the configurations that agents of two versions report, with all that they default to.
//
//go:embed config/*.json
var configs embed.FS

// makeConfig is the configuration that the agent reports.
func (a *Agent) makeConfig() ([]byte, error) {
	name := "config/2.0.5.json"
	if strings.HasPrefix(a.version, "1.") {
		name = "config/1.6.5.json"
	}
	template, err := configs.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := json.Unmarshal(template, &config); err != nil {
		return nil, err
	}
	set := func(value any, path ...string) {
		at := config
		for _, key := range path[:len(path)-1] {
			at, _ = at[key].(map[string]any)
		}
		at[path[len(path)-1]] = value
	}
	file := a.name + ".hcl"
	set(a.name, "NodeName")
	set(a.region, "Region")
	set(a.dc, "Datacenter")
	set(a.version, "Version", "Version")
	set(a.http, "Ports", "HTTP")
	set(a.rpc, "Ports", "RPC")
	set(a.serf, "Ports", "Serf")
	set(a.httpAddr(), "AdvertiseAddrs", "HTTP")
	set(a.rpcAddr(), "AdvertiseAddrs", "RPC")
	set("/var/lib/nomad/"+a.name, "DataDir")
	set("/var/lib/nomad/"+a.name+"/plugins", "PluginDir")
	set([]string{file}, "Files")
	if _, ok := config["ConfigPaths"]; ok {
		set([]string{file}, "ConfigPaths")
	}
	set(a.server, "Server", "Enabled")
	set(a.expect, "Server", "BootstrapExpect")
	set(a.client, "Client", "Enabled")
	if a.server {
		set(a.serfAddr(), "AdvertiseAddrs", "Serf")
	} else {
		set("127.0.0.1", "AdvertiseAddrs", "Serf")
	}
	if a.client {
		set(append([]string{}, a.servers...), "Client", "Servers")
	}
	return json.Marshal(config)
}

// stats are the counters and states that the agent reports.
func (a *Agent) stats() map[string]map[string]string {
	cpus := strconv.Itoa(runtime.NumCPU())
	out := map[string]map[string]string{
		"runtime": {
			"arch": runtime.GOARCH, "kernel.name": runtime.GOOS, "version": runtime.Version(),
			"cpu_count": cpus, "max_procs": cpus, "goroutines": strconv.Itoa(runtime.NumGoroutine()),
		},
	}
	if a.server {
		a.serverStats(out)
	}
	if a.client {
		a.heartbeat()
		out["client"] = map[string]string{
			"node_id": a.node, "known_servers": strings.Join(a.servers, ","), "num_allocations": "0",
			"last_heartbeat": (time.Since(a.started) % (10 * time.Second)).String(), "heartbeat_ttl": "17.5s",
		}
	}
	return out
}

func (a *Agent) serverStats(out map[string]map[string]string) {
	r := a.pool.raft(a.region)
	leaderAddr, state, contact := "", "Candidate", "never"
	if leader := a.leader(); leader == a {
		leaderAddr, state, contact = a.rpcAddr(), "Leader", "0"
	} else if leader != nil {
		leaderAddr, state, contact = leader.rpcAddr(), "Follower", "20ms"
	}
	var voters []string
	for _, name := range r.voters {
		if m := a.pool.members[name]; m != nil {
			voters = append(voters, fmt.Sprintf("{Suffrage:Voter ID:%s Address:%s}", m.agent.id, m.agent.rpcAddr()))
		}
	}
	peers := max(0, len(r.voters)-1)
	term, index := strconv.Itoa(r.term), strconv.Itoa(r.index)
	out["nomad"] = map[string]string{
		"server": "true", "leader": strconv.FormatBool(state == "Leader"), "leader_addr": leaderAddr,
		"bootstrap": strconv.FormatBool(a.expect == 1), "known_regions": strconv.Itoa(len(a.pool.regions())),
	}
	out["raft"] = map[string]string{
		"state": state, "term": term, "last_contact": contact, "num_peers": strconv.Itoa(peers),
		"applied_index": index, "commit_index": index, "last_log_index": index, "last_log_term": term,
		"last_snapshot_index": "0", "last_snapshot_term": "0", "fsm_pending": "0",
		"latest_configuration": "[" + strings.Join(voters, " ") + "]", "latest_configuration_index": "0",
		"protocol_version": "3", "protocol_version_min": "0", "protocol_version_max": "3",
		"snapshot_version_min": "0", "snapshot_version_max": "1",
	}
	counts := map[string]int{}
	for _, m := range a.pool.members {
		counts[m.status]++
	}
	out["serf"] = map[string]string{
		"members": strconv.Itoa(len(a.pool.members)), "failed": strconv.Itoa(counts[failed]), "left": strconv.Itoa(counts[left]),
		"encrypted": "true", "health_score": "0", "coordinate_resets": "0", "member_time": "1", "event_time": "1",
		"query_time": "1", "intent_queue": "0", "event_queue": "0", "query_queue": "0",
	}
	if strings.HasPrefix(a.version, "1.") {
		out["vault"] = map[string]string{
			"token_ttl": "0s", "token_expire_time": "", "token_last_renewal_time": "", "token_next_renewal_time": "",
			"tracked_for_revoked": "0",
		}
	} else {
		out["raft"]["logstore_backend"] = "boltdb"
	}
}
