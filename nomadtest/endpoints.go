package nomadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Responses of agents, with keys in the order in which agents write them.

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
	Message string
	OK      bool
}

// MarshalJSON encodes the health of a role in a healthy response.
func (h roleHealthJSON) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Message string `json:"message"`
		OK      bool   `json:"ok"`
	}{h.Message, h.OK})
}

// unhealthyJSON is the health of a role in an unhealthy response. Agents use another encoder there,
// with another order of keys.
type unhealthyJSON roleHealthJSON

func (h unhealthyJSON) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		OK      bool   `json:"ok"`
		Message string `json:"message"`
	}{h.OK, h.Message})
}

func isWrite(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodPost
}

func (a *Agent) serveMembers(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if _, err := a.parse(r); err != nil {
		return nil, err
	}
	if a.client && !a.server {
		a.heartbeat()
	}
	return ask(a, func(server *Agent) (any, error) {
		if err := a.authorize(r, remoteCheck, nodeRead); err != nil {
			return nil, err
		}
		out := membersJSON{ServerDC: server.dc, ServerName: server.name, ServerRegion: server.region, Members: []memberJSON{}}
		for _, name := range sortedKeys(server.pool.members) {
			out.Members = append(out.Members, server.pool.members[name].json(server))
		}
		return out, nil
	})
}

// noUpstream returns the error of a client without a reachable server.
func (a *Agent) noUpstream() error {
	if len(a.servers) == 0 {
		return refusef(500, "no servers")
	}
	first := a.servers[0]
	a.servers = append(slices.Clone(a.servers[1:]), first)
	return refusef(500, "rpc error: failed to get conn: dial tcp %s: connect: connection refused", first)
}

// json returns a member as an agent reports it. An agent never reports itself as leaving.
func (m *member) json(observer *Agent) memberJSON {
	addr, status := "127.0.0.1", m.status
	if m.agent == observer && m.present() {
		status = alive
	}
	return memberJSON{
		Addr: &addr, Port: m.agent.serf, Name: m.agent.fullName(), Status: status, Tags: m.tags,
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
		if err := a.authorize(r, local, agentRead); err != nil {
			return nil, err
		}
		a.heartbeat()
		return append([]string{}, slices.Sorted(slices.Values(a.servers))...), nil
	}
	addresses := r.URL.Query()["address"]
	if len(addresses) == 0 {
		return nil, refusef(400, "missing server address")
	}
	if err := a.authorize(r, local, agentWrite); err != nil {
		return nil, err
	}
	if err := a.setServers(addresses); err != nil {
		return nil, refusef(400, "%s", err)
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
		return nil, refusef(400, "missing address to join")
	}
	var out joinJSON
	if a.atLeast(2, 0, 4) {
		out.Warning = new(string)
		if a.judge(r, agentWrite) != allowed {
			*out.Warning = "anonymous server join is deprecated and will be removed in a future version of Nomad"
		}
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
	if err := a.authorize(r, helped, agentWrite); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	node := query.Get("node")
	if node == "" {
		return nil, refusef(400, "missing node to force leave")
	}
	prune := false
	if query.Get("prune") != "" {
		var err error
		if prune, err = strconv.ParseBool(query.Get("prune")); err != nil {
			return nil, refusef(400, "invalid prune value")
		}
	}
	a.pool.forceLeave(node, prune)
	return nil, nil
}

// leaderWait is how long a real server waits for a leader before it reports that there is none.
const leaderWait = 5 * time.Second

// streamHealth handles health. It is called without the lock.
func (a *Agent) streamHealth(w http.ResponseWriter, r *http.Request) error {
	out, err := a.health(r)
	if err != nil {
		return err
	}
	if a.realDelays && out.Server != nil && out.Server.Message == noLeader {
		until := time.Now().Add(leaderWait)
		for out.Server.Message == noLeader && time.Now().Before(until) {
			pause(r, leaderWait/100)
			if out, err = a.health(r); err != nil {
				return err
			}
		}
	}
	if out.Client != nil && !out.Client.OK || out.Server != nil && !out.Server.OK {
		body, err := json.Marshal(struct {
			Client *unhealthyJSON `json:"client,omitempty"`
			Server *unhealthyJSON `json:"server,omitempty"`
		}{(*unhealthyJSON)(out.Client), (*unhealthyJSON)(out.Server)})
		if err != nil {
			return err
		}
		return refusef(500, "%s", body)
	}
	writeJSON(w, r, out)
	return nil
}

const noLeader = "No cluster leader"

// health returns the current health of the agent.
func (a *Agent) health(r *http.Request) (healthJSON, error) {
	mu.Lock()
	defer mu.Unlock()
	var out healthJSON
	if r.Method != http.MethodGet {
		return out, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return out, err
	}
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
		switch leader, err := a.leaderOf(q); {
		case err != nil:
			out.Server = &roleHealthJSON{Message: err.Error()}
		case leader == "":
			out.Server = &roleHealthJSON{Message: "no leader"}
		default:
			out.Server = &roleHealthJSON{Message: "ok", OK: true}
		}
	}
	return out, nil
}

func (a *Agent) serveSelf(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, resolved, agentRead); err != nil {
		return nil, err
	}
	if a.config == nil {
		config, err := a.makeConfig()
		if err != nil {
			return nil, err
		}
		a.config = config
	}
	out := selfJSON{Config: a.config, Member: memberJSON{Status: "none"}, Stats: a.stats()}
	if m := a.member(); m != nil {
		out.Member = m.json(a)
	}
	return out, nil
}

// makeConfig returns the configuration that the agent reports.
func (a *Agent) makeConfig() ([]byte, error) {
	config, err := a.defaults()
	if err != nil {
		return nil, err
	}
	set := func(value any, path ...string) {
		at := config
		for _, key := range path[:len(path)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[path[len(path)-1]] = value
	}
	file := a.name + ".hcl"
	set(a.name, "NodeName")
	set(a.region, "Region")
	set(a.dc, "Datacenter")
	version, metadata, _ := strings.Cut(a.version, "+")
	version, prerelease, _ := strings.Cut(version, "-")
	set(version, "Version", "Version")
	set(prerelease, "Version", "VersionPrerelease")
	set(metadata, "Version", "VersionMetadata")
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
		set(append([]string{}, a.configured...), "Client", "Servers")
	}
	set(a.debug, "EnableDebug")
	set(a.acls, "ACL", "Enabled")
	set(a.logFile, "LogFile")
	set(a.maxConns, "Limits", "HTTPMaxConnsPerClient")
	set(a.tls, "TLSConfig", "EnableHTTP")
	set(a.mutualTLS, "TLSConfig", "VerifyHTTPSClient")
	for _, s := range a.settings {
		set(s.value, s.path...)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(config)
	return bytes.TrimSpace(out.Bytes()), err
}

// stats returns the statistics that the agent reports.
func (a *Agent) stats() map[string]map[string]string {
	cpus := strconv.Itoa(cpuCount)
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
		ttl := "0s"
		if a.registered() {
			ttl = "17.5s"
		}
		out["client"] = map[string]string{
			"node_id": a.node, "known_servers": strings.Join(a.servers, ","), "num_allocations": "0",
			"last_heartbeat": (time.Since(a.started) % (10 * time.Second)).String(), "heartbeat_ttl": ttl,
		}
	}
	return out
}

func (a *Agent) serverStats(out map[string]map[string]string) {
	r := a.pool.raft(a.region)
	leaderAddr, state, contact := "", "Follower", "never"
	if len(r.voters) > 0 {
		state = "Candidate"
	}
	if !r.lost.IsZero() {
		contact = time.Since(r.lost).String()
	}
	if leader := a.pool.leader(a.region); leader == a {
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
		"encrypted": strconv.FormatBool(a.pool.keyring.primary != ""), "health_score": "0", "coordinate_resets": "0", "member_time": "1", "event_time": "1",
		"query_time": strconv.Itoa(1 + a.pool.queries), "intent_queue": "0", "event_queue": "0", "query_queue": "0",
	}
	switch {
	case a.atLeast(2):
		out["raft"]["logstore_backend"] = "boltdb"
	case a.atLeast(1, 10):
	case a.atLeast(1, 7):
		out["vault"] = nil
	default:
		out["vault"] = map[string]string{
			"token_ttl": "0s", "token_expire_time": "", "token_last_renewal_time": "", "token_next_renewal_time": "",
			"tracked_for_revoked": "0",
		}
	}
}
