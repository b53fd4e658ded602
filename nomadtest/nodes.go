package nomadtest

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file has the endpoints for the leader, Raft peers, regions, nodes and node pools of a cluster.

func (a *Agent) serveRegions(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if _, err := a.parse(r); err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) { return server.pool.aliveRegions(), nil })
}

// leaderOf returns the RPC address of the leader of the requested region. Without a leader, it
// returns an empty string to a stale read and an error otherwise.
func (a *Agent) leaderOf(q query) (string, error) {
	return ask(a, func(server *Agent) (string, error) {
		return consistently(server, q, func(server *Agent) (string, error) {
			if leader := server.pool.leader(server.region); leader != nil {
				return leader.rpcAddr(), nil
			}
			return "", nil
		})
	})
}

func (a *Agent) serveLeader(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	return a.leaderOf(q)
}

func (a *Agent) servePeers(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			peers := []string{}
			for _, name := range server.pool.raft(server.region).voters {
				if m := server.pool.members[name]; m != nil {
					peers = append(peers, m.agent.rpcAddr())
				}
			}
			return peers, nil
		})
	})
}

// withMeta is a response with the index and leader headers.
type withMeta struct {
	body    any
	status  int // 0 for 200
	index   int
	server  *Agent
	next    string // token of the next page, if any
	message string // replaces the body if status is set
}

// writeHeaders writes the index, leader and pagination headers.
func (m withMeta) writeHeaders(h http.Header) {
	if m.server == nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	known, contact := m.server.pool.leader(m.server.region) != nil, time.Duration(0)
	if !known {
		contact = 1<<63 - 1
		if lost := m.server.pool.raft(m.server.region).lost; !lost.IsZero() {
			contact = time.Since(lost)
		}
	}
	if m.next != "" {
		h.Set("X-Nomad-Nexttoken", m.next)
	}
	h.Set("X-Nomad-Index", strconv.Itoa(m.index))
	h.Set("X-Nomad-Knownleader", strconv.FormatBool(known))
	h.Set("X-Nomad-Lastcontact", strconv.FormatInt(contact.Milliseconds(), 10))
}

// nodes returns the nodes of a region, by ID. Stopped nodes remain in the list.
func (p *pool) nodes(region string) []*Agent {
	r := p.raft(region)
	for _, a := range registry {
		if a.client && a.running && a.region == region && a.worksFor(p) && !slices.Contains(r.nodes, a) {
			r.nodes = append(r.nodes, a)
		}
	}
	slices.SortFunc(r.nodes, func(a, b *Agent) int { return cmp.Compare(a.node, b.node) })
	return r.nodes
}

// Indexes in the state of a cluster without jobs.
const (
	firstIndex     = 1 // initial state
	schedulerIndex = 5
	nodeIndex      = 10
)

// readIndex returns the index of a response about nodes.
func readIndex(nodes []*Agent) int {
	if len(nodes) == 0 {
		return 0
	}
	return nodeIndex + len(nodes) - 1
}

// nodeStatus returns the status of a node as servers report it.
func (a *Agent) nodeStatus(p *pool) string {
	if a.running && a.worksFor(p) {
		return "ready"
	}
	return "down"
}

// clientSetting returns a client setting that Config has set, or nil.
func (a *Agent) clientSetting(name string) any {
	for _, s := range slices.Backward(a.settings) {
		if len(s.path) == 2 && s.path[0] == "Client" && s.path[1] == name {
			return s.value
		}
	}
	return nil
}

func (a *Agent) nodePool() string {
	if name, ok := a.clientSetting("NodePool").(string); ok && name != "" {
		return name
	}
	return "default"
}

func (a *Agent) nodeClass() string {
	name, _ := a.clientSetting("NodeClass").(string)
	return name
}

// nodeStub is a node in the list of nodes.
type nodeStub struct {
	Address               string
	Attributes            map[string]string `json:",omitempty"`
	CreateIndex           int
	Datacenter            string
	Drain                 bool
	Drivers               map[string]any
	ID                    string
	LastDrain             any
	ModifyIndex           int
	Name                  string
	NodeClass             string
	NodePool              string
	NodeResources         any `json:",omitempty"`
	ReservedResources     any `json:",omitempty"`
	SchedulingEligibility string
	Status                string
	StatusDescription     string
	Version               string
}

func (a *Agent) stub(p *pool, at int) nodeStub {
	driver := func(healthy bool, description string, attributes map[string]string) map[string]any {
		return map[string]any{"Attributes": attributes, "Detected": healthy, "HealthDescription": description, "Healthy": healthy,
			"UpdateTime": a.started.UTC().Format(time.RFC3339Nano)}
	}
	return nodeStub{
		Address: "127.0.0.1", CreateIndex: nodeIndex + at - 1, ModifyIndex: nodeIndex + at, Datacenter: a.dc,
		Drivers: map[string]any{
			"mock_driver": driver(true, "Healthy", map[string]string{"driver.mock_driver": "true"}),
			"raw_exec":    driver(false, "disabled", map[string]string{}),
		}, ID: a.node, Name: a.name, NodeClass: a.nodeClass(), NodePool: a.nodePool(),
		SchedulingEligibility: "eligible", Status: a.nodeStatus(p), Version: a.version}
}

// serveNodes handles /v1/nodes.
func (a *Agent) serveNodes(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"resources", "os"} {
		if _, err := boolFrom(r.URL.Query(), name, "Failed to parse node list fields"); err != nil {
			return nil, err
		}
	}
	if err := a.authorize(r, remoteCheck, nodeRead); err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			nodes := server.pool.nodes(server.region)
			prefix, err := uuidKey(q.prefix, false)
			if err != nil {
				return nil, refusef(500, "node lookup failed: index error: %v", err)
			}
			keep, err := nodeFilter(q.filter)
			if err != nil {
				return nil, err
			}
			stubs := []nodeStub{}
			for i, n := range nodes {
				stub := n.stub(server.pool, i)
				if key, _ := uuidKey(n.node, true); strings.HasPrefix(key, prefix) && n.node >= q.nextToken && keep(stub) {
					stubs = append(stubs, stub)
				}
			}
			if q.reverse {
				slices.Reverse(stubs)
			}
			next := ""
			if n := max(q.perPage, 0); q.perPage != 0 && len(stubs) > n {
				stubs, next = stubs[:n], stubs[n].ID
			}
			return withMeta{body: stubs, index: readIndex(nodes), next: next, server: server}, nil
		})
	})
}

// nodeFilter parses a filter expression. Only the comparison of one field with == or != is
// supported.
func nodeFilter(filter string) (func(nodeStub) bool, error) {
	field, value, equal := "", "", true
	if filter != "" {
		var ok bool
		if field, value, ok = strings.Cut(filter, "=="); !ok {
			if field, value, ok = strings.Cut(filter, "!="); !ok {
				return nil, codedf(400, "failed to create result paginator: failed to read filter expression: 1:%d (%d): no match found, "+
					`expected: "!=", ".", "==", "[", [ \t\r\n] or [a-zA-Z0-9_/]`, len(filter)+1, len(filter))
			}
			equal = false
		}
	}
	field, value = strings.TrimSpace(field), strings.Trim(strings.TrimSpace(value), "\"`")
	if field != "" {
		if _, ok := (nodeStub{}).fields()[field]; !ok {
			return nil, codedf(400, "failed to read result page: error finding value in datum: /%s at part 0: "+
				"couldn't find key: struct field with name %q", field, field)
		}
	}
	return func(n nodeStub) bool { return field == "" || (n.fields()[field] == value) == equal }, nil
}

func (n nodeStub) fields() map[string]string {
	return map[string]string{"Address": n.Address, "Datacenter": n.Datacenter, "Drain": strconv.FormatBool(n.Drain), "ID": n.ID,
		"Name": n.Name, "NodeClass": n.NodeClass, "NodePool": n.NodePool, "SchedulingEligibility": n.SchedulingEligibility,
		"Status": n.Status, "StatusDescription": n.StatusDescription, "Version": n.Version}
}

// nodeTemplate is the document of a node with default values.
//
//go:embed config/node.json
var nodeTemplate []byte

// document returns the full document of a node.
func (a *Agent) document(p *pool, at int) (map[string]any, error) {
	var doc map[string]any
	if err := json.Unmarshal(nodeTemplate, &doc); err != nil {
		return nil, err
	}
	stub := a.stub(p, at)
	for name, value := range map[string]any{
		"ID": a.node, "Name": a.name, "Datacenter": a.dc, "HTTPAddr": a.httpAddr(), "TLSEnabled": a.tls,
		"NodePool":  stub.NodePool,
		"NodeClass": stub.NodeClass, "Status": stub.Status, "CreateIndex": stub.CreateIndex, "ModifyIndex": stub.ModifyIndex,
		"StatusUpdatedAt": a.started.Unix(), "Drivers": stub.Drivers,
	} {
		doc[name] = value
	}
	if meta := a.clientSetting("Meta"); meta != nil {
		doc["Meta"] = meta
	}
	attributes := doc["Attributes"].(map[string]any)
	attributes["nomad.version"], attributes["unique.hostname"] = a.version, "nomad-host"
	return doc, nil
}

// serveNode handles paths below /v1/node/.
func (a *Agent) serveNode(r *http.Request) (any, error) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/node/")
	switch {
	case slices.Contains([]string{"evaluate", "drain", "eligibility", "purge"}, id[strings.LastIndexByte(id, '/')+1:]):
		if !isWrite(r) {
			return nil, invalidMethod(405)
		}
		return nil, errNoEndpoint // not imitated
	case r.Method != http.MethodGet:
		return nil, invalidMethod(405)
	}
	id, allocations := strings.CutSuffix(id, "/allocations")
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	if err := a.authorize(r, remoteCheck, nodeRead); err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			if allocations {
				if _, err := uuidKey(id, true); err != nil {
					return nil, refusef(500, "node lookup failed: index error: %v", err)
				}
				return withMeta{body: []int{}, index: firstIndex, server: server}, nil
			}
			if id == "" {
				return nil, refusef(500, "missing node ID")
			}
			key, err := uuidKey(id, true)
			if err != nil {
				return nil, refusef(500, "node lookup failed: index error: %v", err)
			}
			nodes := server.pool.nodes(server.region)
			for i, n := range nodes {
				if own, _ := uuidKey(n.node, true); own == key {
					doc, err := n.document(server.pool, i)
					return withMeta{body: doc, index: nodeIndex + i, server: server}, err
				}
			}
			return withMeta{status: 404, message: "node not found", index: readIndex(nodes), server: server}, nil
		})
	})
}

// serveNodePools handles /v1/node/pools and /v1/node/pool/NAME.
func (a *Agent) serveNodePools(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	type nodePool struct {
		Name        string
		CreateIndex int
		ModifyIndex int
	}
	name, one := strings.CutPrefix(r.URL.Path, "/v1/node/pool/")
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			pools := []nodePool{{"all", firstIndex, firstIndex}, {"default", firstIndex, firstIndex}}
			for i, n := range server.pool.nodes(server.region) {
				known := slices.ContainsFunc(pools, func(p nodePool) bool { return p.Name == n.nodePool() })
				if !known {
					pools = append(pools, nodePool{n.nodePool(), nodeIndex + i, nodeIndex + i})
				}
			}
			if !one {
				pools = slices.DeleteFunc(pools, func(p nodePool) bool { return !strings.HasPrefix(p.Name, q.prefix) })
				return withMeta{body: pools, index: firstIndex, server: server}, nil
			}
			for _, p := range pools {
				if p.Name == name {
					return withMeta{body: p, index: p.ModifyIndex, server: server}, nil
				}
			}
			return withMeta{status: 404, message: "node pool not found", index: firstIndex, server: server}, nil
		})
	})
}
