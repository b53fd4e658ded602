package nomadtest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// This file has the other endpoints that the nomad command and other tools request. They respond as
// in a cluster without jobs: empty lists and constant values. That is enough for nomad status, node
// status and operator debug. Writes are not supported.

var tools = map[string]target{
	"/v1/jobs":                             {serve: list(0, nil)},
	"/v1/jobs/statuses":                    {serve: list(0, nil)},
	"/v1/allocations":                      {serve: list(0, nil)},
	"/v1/evaluations":                      {serve: list(0, nil)},
	"/v1/deployments":                      {serve: list(0, nil)},
	"/v1/services":                         {serve: list(firstIndex, nil)},
	"/v1/vars":                             {serve: list(firstIndex, nil)},
	"/v1/scaling/policies":                 {serve: list(firstIndex, nil)},
	"/v1/plugins":                          {serve: (*Agent).serveTyped},
	"/v1/volumes":                          {serve: (*Agent).serveTyped},
	"/v1/namespaces":                       {serve: list(firstIndex, []any{defaultNamespace})},
	"/v1/namespace/":                       {serve: (*Agent).serveNamespace},
	"/v1/job/":                             {serve: nothing("job not found", 0)},
	"/v1/metrics":                          {serve: (*Agent).serveMetrics},
	"/v1/client/stats":                     {serve: (*Agent).serveClientStats},
	"/v1/operator/license":                 {stream: (*Agent).streamLicense},
	"/v1/operator/scheduler/configuration": {serve: (*Agent).serveSchedulerConfiguration},
	"/v1/operator/raft/configuration":      {serve: (*Agent).serveRaftConfiguration},
	"/v1/operator/autopilot/health":        {serve: (*Agent).serveAutopilotHealth},
	"/v1/operator/autopilot/configuration": {serve: (*Agent).serveAutopilotConfiguration},
	"/v1/event/stream":                     {stream: (*Agent).streamEvents},
	"/v1/acl/policies":                     {serve: (*Agent).serveNoACL},
	"/v1/acl/tokens":                       {serve: (*Agent).serveNoACL},
	"/v1/acl/roles":                        {serve: (*Agent).serveNoACL},
}

// ready checks the method, query, permission, region and leader, and then reads from a region's
// state.
func (a *Agent) ready(r *http.Request, read func(server *Agent, q query) (any, error)) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	if a.judge(r, management) != allowed {
		return nil, errPermission
	}
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) { return read(server, q) })
	})
}

// list returns a handler for a constant list.
func list(index int, items []any) handler {
	if items == nil {
		items = []any{}
	}
	return func(a *Agent, r *http.Request) (any, error) {
		return a.ready(r, func(server *Agent, _ query) (any, error) {
			return withMeta{body: items, index: index, server: server}, nil
		})
	}
}

// nothing returns a handler that responds with 404.
func nothing(message string, index int) handler {
	return func(a *Agent, r *http.Request) (any, error) {
		return a.ready(r, func(server *Agent, _ query) (any, error) {
			return withMeta{status: 404, message: message, index: index, server: server}, nil
		})
	}
}

// serveTyped handles plugins and volumes. Both lists are empty. Without a type, agents do not read
// any state.
func (a *Agent) serveTyped(r *http.Request) (any, error) {
	kind := r.URL.Query().Get("type")
	if r.Method == http.MethodGet && kind == "" {
		return []any{}, nil
	}
	index := 0
	if kind == "host" {
		index = firstIndex
	}
	return list(index, nil)(a, r)
}

var defaultNamespace = map[string]any{
	"Name": "default", "Description": "Default shared namespace", "Quota": "",
	"Hash":         "C7UbjDwBK0dK8wQq7Izg7SJIzaV+lIo2X7wRtzY3pSw=",
	"Capabilities": nil, "Meta": nil, "ConsulConfiguration": nil, "NodePoolConfiguration": nil, "VaultConfiguration": nil,
	"OptionalExtraClaims": nil, "RequiredExtraClaims": nil, "CreateIndex": firstIndex, "ModifyIndex": firstIndex,
}

func (a *Agent) serveNamespace(r *http.Request) (any, error) {
	return a.ready(r, func(server *Agent, _ query) (any, error) {
		if strings.TrimPrefix(r.URL.Path, "/v1/namespace/") == "default" {
			return withMeta{body: defaultNamespace, index: firstIndex, server: server}, nil
		}
		return withMeta{status: 404, message: "Namespace not found", index: firstIndex, server: server}, nil
	})
}

func (a *Agent) serveNoACL(*http.Request) (any, error) {
	if a.acls {
		return nil, errNoEndpoint // not imitated
	}
	return nil, refusef(400, "ACL support disabled")
}

// serveMetrics handles metrics. The only metric is the agent's uptime.
func (a *Agent) serveMetrics(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if r.URL.Query().Get("format") == "prometheus" {
		return nil, refusef(415, "Prometheus is not enabled")
	}
	type gauge struct {
		Labels map[string]string
		Name   string
		Value  float64
	}
	return struct {
		Counters, Points, Samples []any
		Gauges                    []gauge
		Timestamp                 string
	}{[]any{}, []any{}, []any{},
		[]gauge{{map[string]string{"host": "nomad-host"}, "nomad.runtime.uptime", time.Since(a.started).Seconds()}},
		time.Now().UTC().Format("2006-01-02 15:04:05 -0700 MST")}, nil
}

// serveClientStats handles client/stats for the agent's own node or the node in the request.
func (a *Agent) serveClientStats(r *http.Request) (any, error) {
	id := r.URL.Query().Get("node_id")
	switch {
	case id == "" && !a.client:
		return nil, refusef(400, "No local Node and node_id not provided")
	case id != "" && !a.isLocalNode(id):
		q, _ := a.parse(r)
		_, err := ask(a, func(server *Agent) (*Agent, error) { return server.reach(aim{node: id, region: q.region}) })
		if err != nil {
			return nil, err
		}
	}
	if a.judge(r, nodeRead) != allowed {
		return nil, errPermission
	}
	return json.RawMessage(`{"AllocDirStats":{"Available":0,"Device":"","InodesUsedPercent":0,"Mountpoint":"","Size":0,"Used":0,` +
		`"UsedPercent":0},"CPU":[{"CPU":"cpu0","Idle":94,"System":2,"TotalPercent":6,"TotalTicks":155,"User":4}],` +
		`"CPUTicksConsumed":155,"DeviceStats":[],"DiskStats":[{"Available":160798081024,"Device":"/dev/vda1",` +
		`"InodesUsedPercent":2,"Mountpoint":"/","Size":264195022848,"Used":103079215104,"UsedPercent":39}],` +
		`"Memory":{"Available":24272187392,"Free":21742858240,"Total":25276502016,"Used":659107840},` +
		`"Timestamp":0,"Uptime":86400}`), nil
}

func (a *Agent) streamLicense(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNoContent) // only Nomad Enterprise has one
	return nil
}

func (a *Agent) serveSchedulerConfiguration(r *http.Request) (any, error) {
	if isWrite(r) && r.Body != http.NoBody {
		return nil, errNoEndpoint // not imitated
	}
	if isWrite(r) {
		return nil, refusef(400, "Error parsing scheduler config: Request body is empty")
	}
	return a.ready(r, func(server *Agent, _ query) (any, error) {
		if server.pool.leader(server.region) == nil {
			return nil, refusef(500, "scheduler config not initialized yet")
		}
		type preemption struct {
			BatchSchedulerEnabled, ServiceSchedulerEnabled, SysBatchSchedulerEnabled, SystemSchedulerEnabled bool
		}
		type config struct {
			CreateIndex                   int
			MemoryOversubscriptionEnabled bool
			ModifyIndex                   int
			NodeLimitForFeasibilityChecks int
			PauseEvalBroker               bool
			PreemptionConfig              preemption
			RejectJobRegistration         bool
			SchedulerAlgorithm            string
		}
		return withMeta{body: struct {
			Index           int
			KnownLeader     bool
			LastContact     int
			NextToken       string
			SchedulerConfig config
		}{schedulerIndex, true, 0, "", config{CreateIndex: schedulerIndex, ModifyIndex: schedulerIndex,
			PreemptionConfig: preemption{SystemSchedulerEnabled: true}, SchedulerAlgorithm: "binpack"}},
			index: schedulerIndex, server: server}, nil
	})
}

func (a *Agent) serveRaftConfiguration(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, refusef(405, "")
	}
	type server struct {
		Address, ID  string
		Leader       bool
		Node         string
		RaftProtocol string
		Voter        bool
	}
	return a.ready(r, func(s *Agent, _ query) (any, error) {
		servers := []server{}
		leader := s.pool.leader(s.region)
		for _, name := range s.pool.raft(s.region).voters {
			if m := s.pool.members[name]; m != nil {
				servers = append(servers, server{m.agent.rpcAddr(), m.agent.id, m.agent == leader, name, "3", true})
			}
		}
		return struct {
			Index   int
			Servers []server
		}{0, servers}, nil
	})
}

// autopilotServer is the state of a server in the health report of autopilot.
type autopilotServer struct {
	LastContact, ID, Name, Address, SerfStatus, Version string
	Leader                                              bool
	LastTerm, LastIndex                                 int
	Healthy, Voter                                      bool
	StableSince                                         string
}

func (a *Agent) serveAutopilotHealth(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(404)
	}
	values := r.URL.Query()
	values.Del("stale") // only the leader knows
	r = r.Clone(r.Context())
	r.URL.RawQuery = values.Encode()
	type health struct {
		FailureTolerance int
		Healthy          bool
		Leader           string
		Servers          []autopilotServer
		Voters           []string
	}
	return a.ready(r, func(s *Agent, _ query) (any, error) {
		leader, raft := s.pool.leader(s.region), s.pool.raft(s.region)
		out := health{Healthy: true, Leader: leader.id, Servers: []autopilotServer{}, Voters: []string{}}
		up := 0
		for _, name := range raft.voters {
			m := s.pool.members[name]
			if m == nil {
				continue
			}
			healthy := m.present()
			if healthy {
				up++
			}
			out.Healthy = out.Healthy && healthy
			out.Servers = append(out.Servers, autopilotServer{
				LastContact: "0s", ID: m.agent.id, Name: name, Address: m.agent.rpcAddr(), SerfStatus: m.status,
				Version: m.agent.version, Leader: m.agent == leader, LastTerm: raft.term, LastIndex: raft.index,
				Healthy: healthy, Voter: true, StableSince: m.agent.started.UTC().Format(time.RFC3339)})
			out.Voters = append(out.Voters, m.agent.id)
		}
		out.FailureTolerance = max(0, up-(len(raft.voters)/2+1))
		if !out.Healthy {
			body, err := json.Marshal(out)
			if err != nil {
				return nil, err
			}
			return nil, refusef(429, "%s\n", body)
		}
		return out, nil
	})
}

func (a *Agent) serveAutopilotConfiguration(r *http.Request) (any, error) {
	switch {
	case isWrite(r) && r.Body == http.NoBody:
		return nil, refusef(400, "Error parsing autopilot config: Request body is empty")
	case isWrite(r):
		return nil, errNoEndpoint // not imitated
	case r.Method != http.MethodGet:
		return nil, invalidMethod(404)
	}
	return a.ready(r, func(server *Agent, _ query) (any, error) {
		return json.RawMessage(`{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,"MinQuorum":0,` +
			`"ServerStabilizationTime":"10s","EnableRedundancyZones":false,"DisableUpgradeMigration":false,"EnableCustomUpgrades":false,` +
			`"CreateIndex":4,"ModifyIndex":4}`), nil
	})
}

// eventHeartbeat is the interval of heartbeats in an event stream.
const eventHeartbeat = 10 * time.Second

// streamEvents handles event/stream. It sends only heartbeats.
func (a *Agent) streamEvents(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return invalidMethod(405)
	}
	if text := r.URL.Query().Get("index"); text != "" {
		if _, err := strconv.Atoi(text); err != nil {
			return refusef(400, "Unable to parse index: %v", err)
		}
	}
	if _, err := a.parse(r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Connection", "close")
	for {
		if _, err := w.Write([]byte("{}\n")); err != nil {
			return nil
		}
		http.NewResponseController(w).Flush()
		timer := time.NewTimer(eventHeartbeat)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return nil
		}
	}
}
