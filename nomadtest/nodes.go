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
