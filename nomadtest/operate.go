package nomadtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file has the endpoints host, schedulers, keyring and reload.

type hostJSON struct {
	Disk        map[string]diskJSON
	Environment map[string]string
	Hosts       string
	Network     []map[string]string
	OS          string
	ResolvConf  string
}

type diskJSON struct{ DiskMB, UsedMB int }

// machine is the fictitious host of all agents.
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

// streamHost handles host. It is called without the lock.
func (a *Agent) streamHost(w http.ResponseWriter, r *http.Request) error {
	var complaint error
	result, err := a.decide(func(a *Agent, r *http.Request) (any, error) { return a.host(r, &complaint) }, r)
	complain(w, complaint)
	if err == nil {
		writeJSON(w, r, result)
	}
	return err
}

func (a *Agent) host(r *http.Request, complaint *error) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, resolved, agentRead); err != nil {
		return nil, err
	}
	if err := a.mayDebug(); err != nil {
		return nil, err
	}
	values := r.URL.Query()
	to := aim{node: values.Get("node_id"), server: values.Get("server_id"), each: (*Agent).mayDebug}
	switch {
	case to.server != "" && to.node != "":
		return nil, refusef(400, "Can only forward to either client node or server")
	case to.server == "" && to.node == "":
		return machine, nil
	}
	q, err := a.parse(r)
	to.region, *complaint = q.region, err
	answer := struct {
		AgentID  string
		HostData hostJSON
	}{HostData: machine}
	if a.isLocalNode(to.node) || a.isLocalNode(to.server) {
		answer.AgentID = a.node
		return answer, nil
	}
	found, err := ask(a, func(server *Agent) (*Agent, error) { return server.reach(to) })
	if err != nil {
		return nil, err
	}
	answer.AgentID = found.fullName()
	if to.node != "" {
		answer.AgentID = found.node
	}
	return answer, nil
}

// mayDebug returns an error unless enable_debug or ACLs are on.
func (a *Agent) mayDebug() error {
	if !a.acls && !a.debug {
		return errPermission
	}
	return nil
}

// noRegion is the message for a region without a server in the pool.
const noRegion = "No path to region"

// cpuCount is the number of processors that agents report.
const cpuCount = 2

// workers are the scheduler workers of a server.
type workers struct {
	count   int
	enabled []string
}

func newWorkers() workers {
	return workers{count: cpuCount, enabled: []string{"service", "batch", "system", "sysbatch", "_core"}}
}

type schedulersConfigJSON struct {
	EnabledSchedulers []string `json:"enabled_schedulers"`
	NumSchedulers     int      `json:"num_schedulers"`
	ServerID          string   `json:"server_id"`
}

func (a *Agent) serveSchedulers(r *http.Request) (any, error) {
	if !a.server {
		return nil, refusef(400, "Server only endpoint")
	}
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, helped, agentRead); err != nil {
		return nil, err
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
	leader := a.pool.leader(a.region)
	paused := 0 // a leader pauses three quarters of its workers
	if leader == a && a.workers.count > 1 {
		paused = 3 * a.workers.count / 4
	}
	for i := range a.workers.count {
		status, workload := "Started", "WaitingToDequeue"
		switch {
		case i < paused:
			status, workload = "Paused", "Paused"
		case leader == nil:
			workload = "Backoff"
		}
		out.Schedulers = append(out.Schedulers, worker{
			EnabledSchedulers: a.workers.enabled, ID: idOf("worker", a.id, strconv.Itoa(i)),
			Started: a.started.UTC().Format(time.RFC3339Nano), Status: status, WorkloadStatus: workload,
		})
	}
	return out, nil
}

func (a *Agent) serveSchedulersConfig(r *http.Request) (any, error) {
	write := isWrite(r)
	switch {
	case !a.server:
		return nil, refusef(400, "Server only endpoint")
	case !write && r.Method != http.MethodGet:
		return nil, invalidMethod(405)
	case write:
		if err := a.authorize(r, helped, agentWrite); err != nil {
			return nil, err
		}
		var change schedulersConfigJSON
		if err := decodeBody(r, &change, "api.AgentSchedulerWorkerConfigRequest"); err != nil {
			return nil, refusef(400, "Invalid request: %v", err)
		}
		unknown := slices.ContainsFunc(change.EnabledSchedulers, func(name string) bool {
			return !slices.Contains(newWorkers().enabled, name)
		})
		if change.NumSchedulers < 0 || change.NumSchedulers > cpuCount || unknown || !slices.Contains(change.EnabledSchedulers, "_core") {
			return nil, refusef(400, "Invalid request")
		}
		a.setWorkers(workers{change.NumSchedulers, change.EnabledSchedulers})
	default:
		if err := a.authorize(r, helped, agentRead); err != nil {
			return nil, err
		}
	}
	return schedulersConfigJSON{a.workers.enabled, a.workers.count, a.fullName()}, nil
}

// setWorkers changes the scheduler workers as agents do, odd as it is: a list that is the beginning of the old one, in
// alphabetical order, changes nothing, and one that goes on where the old one ends breaks the connection.
func (a *Agent) setWorkers(change workers) {
	if change.count == a.workers.count {
		before, after := slices.Sorted(slices.Values(a.workers.enabled)), slices.Sorted(slices.Values(change.enabled))
		same := min(len(before), len(after))
		switch {
		case !slices.Equal(before[:same], after[:same]):
		case len(after) > len(before):
			panic(http.ErrAbortHandler)
		default:
			return
		}
	}
	a.workers = change
}

// decodeBody decodes the JSON body of a request. as is the type name in the error messages of
// agents.
func decodeBody(r *http.Request, into any, as string) error {
	if r.Body == http.NoBody {
		return errors.New("Request body is empty")
	}
	err := json.NewDecoder(r.Body).Decode(into)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		if mismatch.Field == "" {
			return fmt.Errorf("json: cannot unmarshal %s into Go value of type %s", mismatch.Value, as)
		}
		_, mismatch.Struct, _ = strings.Cut(as, ".")
	}
	return err
}

// keyring holds the gossip keys of a pool, which all its servers share. Without a key, gossip is
// not encrypted.
type keyring struct {
	keys    []string
	primary string
}

func newKeyring(key string) keyring {
	if key == "" {
		return keyring{}
	}
	return keyring{[]string{key}, key}
}

// shares reports whether servers with the two keyrings can communicate.
func (k keyring) shares(other keyring) bool {
	return k.primary == other.primary || slices.Contains(other.keys, k.primary) && slices.Contains(k.keys, other.primary)
}

// gossipLimit is the maximum size of a gossip message. gossipOverhead is the approximate size of a
// message without the key.
const gossipLimit, gossipOverhead = 1024, 160

func (a *Agent) serveKeyring(r *http.Request) (any, error) {
	if !a.server {
		return nil, invalidMethod(501)
	}
	if err := a.authorize(r, helped, agentWrite); err != nil {
		return nil, err
	}
	op := strings.TrimPrefix(r.URL.Path, endpointPrefix+keyringPrefix)
	if !slices.Contains([]string{"list", "install", "use", "remove"}, op) {
		return nil, refusef(404, "resource not found")
	}
	var body struct{ Key string }
	if op != "list" {
		if err := decodeBody(r, &body, "structs.KeyringRequest"); err != nil {
			return nil, refusef(400, "%v", err)
		}
		raw, err := base64.StdEncoding.DecodeString(body.Key)
		if err != nil {
			return nil, err
		}
		if len(raw)+gossipOverhead > gossipLimit {
			return nil, refusef(500, "query exceeds limit of %d bytes", gossipLimit)
		}
		body.Key = base64.StdEncoding.EncodeToString(raw) // it may have line breaks
	}
	nodes := a.pool.present()
	out := struct {
		Keys     map[string]int
		Messages map[string]string
		NumNodes int
	}{map[string]int{}, map[string]string{}, nodes}
	a.pool.queries++
	ring := &a.pool.keyring
	known := slices.Index(ring.keys, body.Key)
	failed := 0
	switch {
	case ring.primary == "":
		failed = nodes
	case op == "list":
		for _, key := range ring.keys {
			if n := nodes - a.pool.lacking(key); n > 0 {
				out.Keys[key] = n
			}
		}
	case op == "install" && !isGossipKey(body.Key), op == "use" && known < 0, op == "remove" && body.Key == ring.primary:
		failed = nodes
	case op == "install":
		if known < 0 {
			ring.keys = append(ring.keys, body.Key)
		}
		a.pool.give(body.Key)
	case op == "use":
		if failed = a.pool.lacking(body.Key); failed == 0 {
			ring.primary = body.Key
		}
	case op == "remove" && known >= 0:
		ring.keys = slices.Delete(slices.Clone(ring.keys), known, known+1)
	}
	if failed > 0 {
		return nil, refusef(500, "%d/%d nodes reported failure", failed, nodes)
	}
	return out, nil
}

// lacking returns the number of running members that do not have a key.
func (p *pool) lacking(key string) int {
	n := 0
	for _, m := range p.members {
		if m.present() && m.lacks[key] {
			n++
		}
	}
	return n
}

// give installs a key on the running members.
func (p *pool) give(key string) {
	for _, m := range p.members {
		if m.present() {
			delete(m.lacks, key)
			continue
		}
		if m.lacks == nil {
			m.lacks = map[string]bool{}
		}
		m.lacks[key] = true
	}
}

func (a *Agent) serveReload(r *http.Request) (any, error) {
	if !isWrite(r) {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, resolved, agentWrite); err != nil {
		return nil, err
	}
	a.emit("info", "agent", "reloading agent")
	return nil, nil
}
