package acceptance_test

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nomad-go/nomad/internal/wire"
)

// Outcomes of a call. All others are the names of the sentinel errors that the error matches.
const (
	succeeds = "success"
	fails    = "an APIError that matches no sentinel"
)

// Outcomes for a token that is invalid or lacks a capability.
const (
	invalidToken = "ErrInvalidToken ErrPermissionDenied"
	denied       = "ErrPermissionDenied"
)

// recordedAgent is the configuration of an agent in the recordings.
type recordedAgent struct {
	server, client bool
	debug          bool // enable_debug
	encrypted      bool // gossip encryption
	acl            bool
	leaderless     bool
}

func (a recordedAgent) has(role string) bool {
	return role == "server" && a.server || role == "client" && a.client
}

var recordedAgents = map[string]recordedAgent{
	"srv1":   {server: true, debug: true, encrypted: true},
	"srv2":   {server: true, encrypted: true}, // a peer of srv1, used only as a target
	"cli1":   {client: true, debug: true},
	"both1":  {server: true, client: true},
	"wedge1": {server: true, leaderless: true},
	"acl1":   {server: true, acl: true},
}

// recordedEndpoint describes what an endpoint requires. The keys of recordedEndpoints are paths below
// /v1/agent/, or their first segments.
type recordedEndpoint struct {
	since       string // the first version that has the endpoint; empty means all versions
	methods     string // empty means any; POST counts as PUT
	role        string
	read, write string // ACL capabilities
	forwarded   bool   // a server checks the token, not the agent that received the request
}

var recordedEndpoints = map[string]recordedEndpoint{
	"members":           {methods: "GET", read: "node:read", forwarded: true},
	"servers":           {methods: "GET PUT", role: "client", read: "agent:read", write: "agent:write"},
	"self":              {methods: "GET", read: "agent:read"},
	"join":              {methods: "PUT", role: "server"},
	"force-leave":       {methods: "PUT", role: "server", write: "agent:write"},
	"health":            {methods: "GET"},
	"host":              {methods: "GET", read: "agent:read"},
	"monitor":           {methods: "GET", read: "agent:read"},
	"monitor/export":    {methods: "GET", read: "agent:read", since: "1.10.4"},
	"pprof":             {methods: "GET", read: "agent:write", forwarded: true},
	"schedulers":        {methods: "GET", role: "server", read: "agent:read"},
	"schedulers/config": {methods: "GET PUT", role: "server", read: "agent:read", write: "agent:write"},
	"keyring":           {role: "server", read: "agent:write", write: "agent:write"},
	"reload":            {methods: "PUT", write: "agent:write", since: "2.0.3"},
}

var recordedPolicies = map[string][]string{
	"management":  {"node:read", "agent:read", "agent:write"},
	"agent-write": {"agent:read", "agent:write"},
	"agent-read":  {"agent:read"},
	"node-read":   {"node:read"},
}

// expected returns the expected outcome of a recorded exchange. Its rules depend on the endpoint, the
// agent and the version. They are applied in the order in which an agent checks a request.
func expected(r wire.Recording, x wire.Exchange) string {
	agent, query, write := recordedAgents[x.Agent], x.URL().Query(), x.Method != http.MethodGet
	group, operation, _ := strings.Cut(x.Endpoint(), "/")
	endpoint, known := recordedEndpoints[x.Endpoint()]
	if !known && (group == "pprof" || group == "keyring") {
		endpoint, known = recordedEndpoints[group]
	}
	method := x.Method
	if method == http.MethodPost {
		method = http.MethodPut
	}
	need := endpoint.read
	if write {
		need = endpoint.write
	}
	switch {
	case !known, endpoint.since != "" && !r.Since(endpoint.since):
		return "ErrUnsupported"
	case endpoint.methods != "" && !slices.Contains(strings.Fields(endpoint.methods), method):
		return fails
	case endpoint.role != "" && !agent.has(endpoint.role):
		return lacksRole(endpoint.role)
	case agent.acl && need != "" && !slices.Contains(recordedPolicies[x.Token], need):
		return refused(r, x, endpoint)
	}
	switch group {
	case "health":
		return expectedHealth(agent, x, query["type"])
	case "join":
		return cmp.Or(unless(query.Has("address"), "ErrInvalidArgument"),
			unless(anyReachable(query), "ErrJoinFailed"), succeeds)
	case "servers":
		return cmp.Or(unless(!write || anyReachable(query), "ErrInvalidArgument"), succeeds)
	case "force-leave":
		_, err := strconv.ParseBool(cmp.Or(query.Get("prune"), "false"))
		return cmp.Or(unless(query.Has("node") && err == nil, "ErrInvalidArgument"), succeeds)
	case "host", "pprof", "monitor":
		return expectedOfTarget(agent, query, group, operation)
	case "schedulers":
		return cmp.Or(unless(!write || strings.Contains(x.RequestBody, `"_core"`), "ErrInvalidArgument"), succeeds)
	case "keyring":
		return expectedKeyring(agent, x, operation)
	}
	return succeeds
}

// unless returns outcome if must is false.
func unless(must bool, outcome string) string {
	if must {
		return ""
	}
	return outcome
}

func lacksRole(role string) string {
	return map[string]string{"server": "ErrServerOnly", "client": "ErrClientOnly"}[role]
}

// refused returns the outcome of a call whose token lacks a required capability.
func refused(r wire.Recording, x wire.Exchange, endpoint recordedEndpoint) string {
	switch {
	case !oddToken(x), endpoint.forwarded:
		return denied
	case x.Token == "malformed", x.Endpoint() == "monitor", !r.Since("1.11"):
		return invalidToken
	case r.Since("1.11.3"): // these versions report an unknown token as a missing permission
		return denied
	case strings.Contains(x.Text(), "token not found"): // the message changed within these versions
		return invalidToken
	}
	return denied
}

// expectedHealth returns the outcome of Health for the roles of the request. Without any, these are all
// roles of the agent.
func expectedHealth(agent recordedAgent, x wire.Exchange, types []string) string {
	leaderless := agent.leaderless || x.Name == "health after losing quorum"
	if len(types) == 0 {
		types = slices.DeleteFunc([]string{"server", "client"}, func(role string) bool { return !agent.has(role) })
	}
	var wrong []string
	for _, role := range types {
		switch {
		case lacksRole(role) == "": // agents ignore unknown roles
		case !agent.has(role):
			return lacksRole(role)
		case role == "server" && leaderless:
			wrong = append(wrong, "ErrNoLeader", "ErrUnhealthy")
		}
	}
	slices.Sort(wrong)
	return cmp.Or(strings.Join(slices.Compact(wrong), " "), succeeds)
}

// anyReachable reports whether at least one address is that of a server. Nothing listens on port 1, and
// names below .invalid do not resolve.
func anyReachable(query url.Values) bool {
	return slices.ContainsFunc(query["address"], func(address string) bool {
		return !strings.HasSuffix(address, ":1") && !strings.Contains(address, ".invalid")
	})
}

var profiles = []string{"cmdline", "profile", "trace", "goroutine", "heap", "threadcreate"}

// expectedOfTarget returns the outcome for endpoints that forward a request to another agent.
func expectedOfTarget(agent recordedAgent, query url.Values, group, operation string) string {
	name, _, _ := strings.Cut(query.Get("server_id"), ".")
	target, known := recordedAgents[name]
	switch {
	case query.Has("server_id") && query.Has("node_id"):
		return "ErrInvalidArgument"
	case query.Has("server_id") && !known, strings.HasPrefix(query.Get("node_id"), "00000000-"):
		return "ErrNotFound"
	case query.Has("node_id"):
		target = recordedAgents["cli1"]
	case !query.Has("server_id"):
		target = agent
	}
	switch {
	case group != "monitor" && !agent.acl && !(agent.debug && target.debug):
		return denied
	case group == "pprof" && !slices.Contains(profiles, operation):
		return "ErrNotFound"
	case operation == "export": // no agent has a log file, and no request names a service of the journal
		return "ErrInvalidArgument"
	case !slices.Contains([]string{"", "trace", "debug", "info", "warn", "error"}, query.Get("log_level")):
		return "ErrInvalidArgument"
	}
	return succeeds
}

func expectedKeyring(agent recordedAgent, x wire.Exchange, operation string) string {
	var body struct{ Key string }
	malformed := x.RequestBody != "" && json.Unmarshal([]byte(x.RequestBody), &body) != nil
	_, err := base64.StdEncoding.DecodeString(body.Key)
	switch {
	case !slices.Contains([]string{"list", "install", "use", "remove"}, operation):
		return "ErrNotFound"
	case malformed, err != nil:
		return "ErrInvalidArgument"
	case !agent.encrypted, x.Name == "keyring remove in use":
		return fails
	}
	return succeeds
}

// plausible reports whether the outcome is acceptable for a response of an unknown version.
func plausible(x wire.Exchange, outcome string) bool {
	switch outcome {
	case succeeds:
		return x.Status < 300
	case fails:
		return x.Status >= 400
	case "ErrInvalidArgument":
		return x.Status == http.StatusBadRequest || x.Status == http.StatusUnprocessableEntity
	case denied:
		return x.Status == http.StatusUnauthorized || x.Status == http.StatusForbidden
	case invalidToken:
		return x.Status >= 400 && oddToken(x)
	case "ErrUnsupported":
		return x.Status == http.StatusNotFound && len(x.Content()) == 0
	case "ErrNotFound":
		return x.Status == http.StatusNotFound && len(x.Content()) > 0
	}
	return false
}

// oddToken reports whether the token of an exchange is unknown to the agent.
func oddToken(x wire.Exchange) bool { return x.Token == "unknown" || x.Token == "malformed" }
