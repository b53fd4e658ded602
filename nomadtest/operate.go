package nomadtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file answers the calls that look at an agent or change how it works: host, schedulers, keyring, reload.

type hostJSON struct {
	Disk        map[string]diskJSON
	Environment map[string]string
	Hosts       string
	Network     []map[string]string
	OS          string
	ResolvConf  string
}

type diskJSON struct{ DiskMB, UsedMB int }

// machine is the host of all agents. It describes no real one.
var machine = hostJSON{
	Disk:        map[string]diskJSON{"/": {DiskMB: 251955, UsedMB: 98304}},
	Environment: map[string]string{"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "VAULT_TOKEN": "<redacted>"},
	Hosts:       "127.0.0.1\tlocalhost\n192.0.2.10\tnomad-host\n",
	Network: []map[string]string{{
		"type": "IPv4", "address": "127.0.0.1", "host": "127.0.0.1", "string": "127.0.0.1/8", "port": "0", "mask_bits": "8",
		"network": "127.0.0.0", "netmask": "255.0.0.0", "broadcast": "127.255.255.255", "size": "16777216",
		"first_usable": "127.0.0.1", "last_usable": "127.255.255.254", "octets": "127 0 0 1", "hex": "7f000001",
		"uint32": "2130706433", "binary": "01111111000000000000000000000001",
		"DialPacket": `"udp4" ""`, "DialStream": `"tcp4" ""`, "ListenPacket": `"udp4" ""`, "ListenStream": `"tcp4" ""`,
	}},
	OS:         "6.1.0-29-amd64 #1 SMP Debian x86_64",
	ResolvConf: "nameserver 192.0.2.53\n",
}

func (a *Agent) serveHost(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	query := r.URL.Query()
	if query.Get("server_id") != "" && query.Get("node_id") != "" {
		return nil, faultf(400, "Can only forward to either client node or server")
	}
	_, id, err := a.target(query)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return machine, nil
	}
	return struct {
		AgentID  string
		HostData hostJSON
	}{id, machine}, nil
}

// target finds the agent that a query is about, and what it goes by: the full name of a server, the ID of a node. Without
// one it is the agent itself, and no name.
func (a *Agent) target(query url.Values) (*Agent, string, error) {
	server := a
	if !a.server {
		server = a.upstream()
	}
	if name := query.Get("server_id"); name != "" {
		if server == nil {
			return nil, "", a.noUpstream()
		}
		for _, m := range server.pool.members {
			leads := name == "leader" && m.agent.region == a.region && m.agent.isLeader()
			if !m.agent.running {
				continue
			}
			if leads || name == m.agent.fullName() || name == m.agent.name || name == m.agent.id {
				return m.agent, m.agent.fullName(), nil
			}
		}
		return nil, "", faultf(500, "unknown Nomad server %s", name)
	}
	if id := query.Get("node_id"); id != "" {
		for _, other := range a.cluster.agents {
			if other.client && other.running && other.node == id {
				return other, other.node, nil
			}
		}
		return nil, "", faultf(404, "Unknown node %q", id)
	}
	return a, "", nil
}

// workers are the scheduler workers of a server.
type workers struct {
	count   int
	enabled []string
}

func newWorkers() workers {
	return workers{count: 2, enabled: []string{"service", "batch", "system", "sysbatch", "_core"}}
}

type schedulersConfigJSON struct {
	EnabledSchedulers []string `json:"enabled_schedulers"`
	NumSchedulers     int      `json:"num_schedulers"`
	ServerID          string   `json:"server_id"`
}

func (a *Agent) serveSchedulers(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if !a.server {
		return nil, faultf(400, "Server only endpoint")
	}
	type worker struct {
		EnabledSchedulers []string `json:"enabled_schedulers"`
		ID                string   `json:"id"`
		Started           string   `json:"started"`
		Status            string   `json:"status"`
		WorkloadStatus    string   `json:"workload_status"`
	}
	out := struct {
		Schedulers []worker `json:"schedulers"`
		ServerID   string   `json:"server_id"`
	}{Schedulers: []worker{}, ServerID: a.fullName()}
	for i := range a.workers.count {
		out.Schedulers = append(out.Schedulers, worker{
			EnabledSchedulers: a.workers.enabled, ID: idOf("worker", a.id, strconv.Itoa(i)),
			Started: a.started.UTC().Format(time.RFC3339Nano), Status: "Started", WorkloadStatus: "WaitingToDequeue",
		})
	}
	return out, nil
}

func (a *Agent) serveSchedulersConfig(r *http.Request) (any, error) {
	write := isWrite(r)
	switch {
	case !write && r.Method != http.MethodGet:
		return nil, invalidMethod(405)
	case !a.server:
		return nil, faultf(400, "Server only endpoint")
	case write:
		var change schedulersConfigJSON
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil {
			return nil, faultf(400, "Invalid request: %v", err)
		}
		if change.NumSchedulers < 0 || !slices.Contains(change.EnabledSchedulers, "_core") {
			return nil, faultf(400, "Invalid request")
		}
		a.workers = workers{change.NumSchedulers, change.EnabledSchedulers}
	}
	return schedulersConfigJSON{a.workers.enabled, a.workers.count, a.fullName()}, nil
}

// keyring is the gossip keys of a pool. All servers have the same.
type keyring struct {
	keys    []string
	primary string
}

func newKeyring() keyring {
	key := base64.StdEncoding.EncodeToString([]byte("nomadtest gossip")) // 16 bytes
	return keyring{[]string{key}, key}
}

func (a *Agent) serveKeyring(r *http.Request) (any, error) {
	if !a.server {
		return nil, invalidMethod(501)
	}
	ring := &a.pool.keyring
	nodes := 0
	for _, m := range a.pool.members {
		if m.status == alive {
			nodes++
		}
	}
	out := struct {
		Keys     map[string]int
		Messages map[string]string
		NumNodes int
	}{map[string]int{}, map[string]string{}, nodes}
	op := strings.TrimPrefix(r.URL.Path, keyringPath)
	if op == "list" {
		for _, key := range ring.keys {
			out.Keys[key] = nodes
		}
		return out, nil
	}
	if !slices.Contains([]string{"install", "use", "remove"}, op) {
		return nil, faultf(404, "resource not found")
	}
	var body struct{ Key string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, faultf(400, "%v", err)
	}
	if _, err := base64.StdEncoding.DecodeString(body.Key); err != nil {
		return nil, err
	}
	known := slices.Index(ring.keys, body.Key)
	switch {
	case op == "install":
		if known < 0 {
			ring.keys = append(ring.keys, body.Key)
		}
	case op == "use" && known < 0, op == "remove" && body.Key == ring.primary:
		return nil, fmt.Errorf("%d/%d nodes reported failure", nodes, nodes)
	case op == "use":
		ring.primary = body.Key
	case known >= 0:
		ring.keys = slices.Delete(slices.Clone(ring.keys), known, known+1)
	}
	return out, nil
}

func (a *Agent) serveReload(r *http.Request) (any, error) {
	if !a.atLeast(2, 0, 3) {
		return nil, errNoEndpoint
	}
	if !isWrite(r) {
		return nil, invalidMethod(405)
	}
	a.emit("info", "agent", "reloading agent")
	return nil, nil
}

// atLeast reports whether the agent's version of Nomad is that or a later one.
func (a *Agent) atLeast(want ...int) bool {
	have := strings.FieldsFunc(a.version, func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	for i, n := range want {
		part := 0
		if i < len(have) {
			part, _ = strconv.Atoi(have[i])
		}
		if part != n {
			return part > n
		}
	}
	return true
}
