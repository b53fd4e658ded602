package nomad

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/nomad-go/nomad/internal/redact"
	"github.com/nomad-go/nomad/internal/show"
)

// Agent has the methods for the endpoints of /v1/agent. It is the field Agent of a Client.
//
// If the context ends, a method returns the context's error. If the limit of WithTimeout is reached, it returns
// context.DeadlineExceeded. If the ACL token is refused, it returns ErrPermissionDenied. If the agent cannot be
// reached, it returns a net.Error or a TLS error. context.DeadlineExceeded is a net.Error too, so test for it before
// net.Error. If there is an error, the result is nil, with one exception: Health returns a result together with
// ErrUnhealthy.
type Agent struct{ client *Client }

// Format prints the address of the agent, whatever the verb.
func (a Agent) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "nomad.Agent(%s)", addressOf(a.client)) }

var serversEndpoint = register(endpoint{name: "Servers", method: http.MethodGet, path: "/v1/agent/servers", role: RoleClient, acl: "agent:read"})

// Servers returns the RPC addresses, host:port, of the servers that a client agent knows. An address can be listed twice.
// An empty list means that the client knows no server, and so is unhealthy.
//
// It requires a client agent (ErrClientOnly) and the ACL capability agent:read.
//
// Endpoint: GET /v1/agent/servers
func (a *Agent) Servers(ctx context.Context) ([]string, error) {
	servers, err := get[addressList](ctx, a.client, serversEndpoint.newRequest(nil))
	if err != nil {
		return nil, err
	}
	return *servers, nil
}

var updateServersEndpoint = register(endpoint{name: "UpdateServers", method: http.MethodPut, path: "/v1/agent/servers", role: RoleClient, acl: "agent:write", decode: decodeEmpty})

// UpdateServers replaces the list of servers that a client agent knows.
//
// An address is host:port, or a host for Nomad's default port 4647. The agent contacts each address and silently drops
// those that it cannot resolve or reach; if none is left the error is ErrInvalidArgument. The list does not last: with
// its next heartbeat the agent learns the other servers of the region again.
//
// It requires a client agent (ErrClientOnly) and the ACL capability agent:write. If no address is given, or one is
// malformed, the error is ErrInvalidArgument.
//
// Endpoint: PUT /v1/agent/servers
func (a *Agent) UpdateServers(ctx context.Context, addresses ...string) error {
	query, err := addressQuery("UpdateServers", addresses)
	if err != nil {
		return err
	}
	_, err = a.client.do(ctx, updateServersEndpoint.newRequest(query), nil)
	return err
}

// JoinResult is the result of [Agent.Join].
type JoinResult struct {
	// Joined is how many of the addresses could be contacted. If at least one could be contacted, agents do not report
	// which of the others could not.
	Joined int `json:"num_joined"`

	// Warning is a message for operators, since Nomad 2.0. A warning does not mean that the join failed.
	Warning string `json:"warning,omitempty"`
}

// String returns the result in words, such as "joined 2".
func (r JoinResult) String() string {
	return strings.TrimSuffix(fmt.Sprintf("joined %d (%s)", r.Joined, show.Line(r.Warning)), " ()")
}

// joinResponse is the response on the wire.
type joinResponse struct {
	NumJoined *int   `json:"num_joined"`
	Error     string `json:"error"`
	Warning   string `json:"warning"`
}

func (j *joinResponse) check() error {
	if j.NumJoined == nil || *j.NumJoined < 0 {
		return errors.New("num_joined does not count what was joined")
	}
	return nil
}

var joinEndpoint = register(endpoint{name: "Join", method: http.MethodPut, path: "/v1/agent/join", role: RoleServer})

// Join makes a server join the gossip pool of the servers at the given addresses.
//
// An address is host:port, with the port of Serf. Without a port, the port on which the agent itself gossips is used
// (Nomad's default is 4648). A member's name can be in front, as in server-2.global/10.0.0.2:4648. One address that can
// be contacted is enough. Joining a pool again is not an error. If none could be contacted the error is ErrJoinFailed,
// and its message has the reasons.
//
// It requires a server agent (ErrServerOnly). It requires no ACL token yet. Nomad 2.0 warns in JoinResult.Warning that
// a later version will require agent:write. Without an address, or with a malformed one, the error is
// ErrInvalidArgument.
//
// Endpoint: PUT /v1/agent/join
func (a *Agent) Join(ctx context.Context, addresses ...string) (*JoinResult, error) {
	query, err := addressQuery("Join", addresses)
	if err != nil {
		return nil, err
	}
	r, res := joinEndpoint.newRequest(query), new(joinResponse)
	if _, err := a.client.do(ctx, r, res); err != nil {
		return nil, err
	}
	if res.Error != "" || *res.NumJoined == 0 {
		return nil, a.client.apiError(r, http.StatusOK, res.Error, ErrJoinFailed)
	}
	return &JoinResult{Joined: *res.NumJoined, Warning: redact.Cut(a.client.clean(r, res.Warning), maxMessage)}, nil
}

// ForceLeaveOption changes what ForceLeave does.
type ForceLeaveOption struct{ prune bool }

// Prune also removes the member from the list of members. Without it a failed member stays there with the status
// "left".
//
// Do not prune a server that is alive: its peers remove it from Raft, it loses its leader, and it takes at least a
// restart and another join to bring it back. Check the member's Status immediately before, and use WithRetries(0), so
// that no retry prunes a server that has recovered in the meantime.
func Prune() ForceLeaveOption { return ForceLeaveOption{prune: true} }

var forceLeaveEndpoint = register(endpoint{name: "ForceLeave", method: http.MethodPut, path: "/v1/agent/force-leave", role: RoleServer, acl: "agent:write", decode: decodeEmpty})

// ForceLeave marks a failed server as having left the gossip pool, so that Raft stops replicating to it.
//
// node is the full member name, such as server-2.global. For an unknown name the error is nil. A server that is alive
// keeps running. In a pool of three or more its peers report it as alive again after a few seconds. In a pool of two
// the other server reports it as leaving until it is joined again (Agent.Join). The request can take 2 s, or 6 s to
// prune a live server. The change spreads by gossip, so Members may show it a moment later. If the server recovers
// between two attempts, the retry is sent for a healthy server; WithRetries(0) prevents that.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write. An empty name is ErrInvalidArgument.
//
// Endpoint: PUT /v1/agent/force-leave
func (a *Agent) ForceLeave(ctx context.Context, node string, opts ...ForceLeaveOption) error {
	if node == "" {
		return invalidArgument("ForceLeave", "node is empty: want the name of a member, such as server-2.global")
	}
	query := url.Values{"node": {node}}
	for _, opt := range opts {
		if opt.prune {
			query.Set("prune", "true")
		}
	}
	_, err := a.client.do(ctx, forceLeaveEndpoint.newRequest(query), nil)
	return err
}

// Role is a mode of an agent: server or client. An agent can run in both.
type Role string

// The roles of agents.
const (
	RoleServer Role = "server" // takes part in the gossip pool and in Raft
	RoleClient Role = "client" // runs the work
)

// Health is the health of an agent in its roles.
type Health struct {
	// Server or Client is nil if the agent does not have the role, or if the request was not about it.
	Server *RoleHealth `json:"server,omitempty"`
	Client *RoleHealth `json:"client,omitempty"`
}

// RoleHealth is the health of an agent in one role.
type RoleHealth struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"` // "ok", or the reason
}

// String returns "healthy", or "unhealthy" and the reason.
func (r RoleHealth) String() string {
	if r.OK {
		return "healthy"
	}
	return strings.TrimSuffix("unhealthy: "+show.Line(r.Message), ": ")
}

// OK reports whether the agent is healthy in every role that the response has.
func (h *Health) OK() bool {
	return h != nil && (h.Server != nil || h.Client != nil) &&
		(h.Server == nil || h.Server.OK) && (h.Client == nil || h.Client.OK)
}

// String returns "healthy", or "unhealthy" and the reasons.
func (h Health) String() string {
	if h.OK() {
		return "healthy"
	}
	return strings.TrimSuffix("unhealthy: "+show.Line(h.message()), ": ")
}

func (h *Health) check() error {
	if h.Server == nil && h.Client == nil {
		return errors.New("it has no role")
	}
	return nil
}

// message returns the reasons.
func (h *Health) message() string {
	var parts []string
	if h.Server != nil && !h.Server.OK {
		parts = append(parts, "server: "+h.Server.Message)
	}
	if h.Client != nil && !h.Client.OK {
		parts = append(parts, "client: "+h.Client.Message)
	}
	return strings.Join(parts, "; ")
}

var healthEndpoint = register(endpoint{name: "Health", method: http.MethodGet, path: "/v1/agent/health"})

// Health returns whether an agent is healthy in the given roles. Without roles it checks all that the agent has. A
// server is healthy if its region has a leader, a client if it knows a server.
//
// If the agent is unhealthy the error is ErrUnhealthy and the Health is returned with it, so checking the error is
// enough. If a server is unhealthy because its region has no leader, the error also matches ErrNoLeader. The server
// waits 5 s for a leader before it responds. A role that the agent does not have is ErrServerOnly or ErrClientOnly, and
// not ErrUnhealthy. An unknown role is ErrInvalidArgument.
//
// With WithRegion, a server reports whether that region has a leader, and not its own. For the health of the agent
// itself, use a Client without a region, such as client.With(WithRegion("")). It requires no ACL token: agents ignore
// tokens here, even invalid ones.
//
// Endpoint: GET /v1/agent/health
func (a *Agent) Health(ctx context.Context, roles ...Role) (*Health, error) {
	query := url.Values{}
	for _, role := range roles {
		if role != RoleServer && role != RoleClient {
			return nil, invalidArgument("Health", "role %q: want %q or %q", role, RoleServer, RoleClient)
		}
		query.Add("type", string(role))
	}
	r, health := healthEndpoint.newRequest(query), new(requestedHealth)
	r.document = http.StatusInternalServerError
	health.roles = roles
	res, err := a.client.do(ctx, r, health)
	switch {
	case err != nil:
		return nil, err
	case health.Server != nil && health.Server.Message == "server not enabled":
		return nil, a.client.apiError(r, res.status, health.message(), ErrServerOnly)
	case health.Client != nil && health.Client.Message == "client not enabled":
		return nil, a.client.apiError(r, res.status, health.message(), ErrClientOnly)
	case health.OK() && res.status == http.StatusOK:
		return &health.Health, nil
	}
	kinds := []error{ErrUnhealthy}
	if slices.Contains(a.client.classify(r, http.StatusInternalServerError, health.message(), false), ErrNoLeader) {
		kinds = []error{ErrNoLeader, ErrUnhealthy}
	}
	return &health.Health, a.client.apiError(r, res.status, health.message(), kinds...)
}

// requestedHealth is a Health that must have the requested roles.
type requestedHealth struct {
	Health
	roles []Role
}

func (h *requestedHealth) check() error {
	if slices.Contains(h.roles, RoleServer) && h.Server == nil || slices.Contains(h.roles, RoleClient) && h.Client == nil {
		return errors.New("a requested role is missing")
	}
	return h.Health.check()
}

// addressQuery makes the query of the methods that take addresses.
func addressQuery(call string, addresses []string) (url.Values, error) {
	if len(addresses) == 0 {
		return nil, invalidArgument(call, "no address: want at least one host:port")
	}
	for _, address := range addresses {
		host := address[strings.LastIndex(address, "/")+1:] // Serf accepts name/host:port too, and a name can have spaces
		if host == "" || strings.Contains(address, "://") || strings.ContainsFunc(host, unicode.IsSpace) {
			return nil, invalidArgument(call, "address %q: want host:port or host", address)
		}
	}
	return url.Values{"address": addresses}, nil
}
