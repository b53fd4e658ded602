package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Agent makes the calls of /v1/agent. It is the field Agent of a Client.
//
// Every call ends with its context or after the time limit of WithTimeout, whichever is sooner, and fails with a context
// error then. A refused ACL token is ErrPermissionDenied, and ErrInvalidToken where the agent says so; an agent that
// is not there is a net.Error. The comment of a call names what else it can fail with.
type Agent struct{ client *Client }

// Format prints which agent is called, whatever the verb.
func (a Agent) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "nomad.Agent(%s)", a.client.address) }

// MemberStatus is what the gossip pool believes about a member, in Serf's words. An agent can report a status that is
// not listed here.
type MemberStatus string

// The statuses of members.
const (
	StatusNone    MemberStatus = "none"    // not a member, as of a client agent in Self
	StatusAlive   MemberStatus = "alive"   // answers
	StatusLeaving MemberStatus = "leaving" // has announced that it leaves
	StatusLeft    MemberStatus = "left"    // has left, or was made to by ForceLeave
	StatusFailed  MemberStatus = "failed"  // has stopped answering
)

// Members is the gossip pool of servers as one agent sees it.
type Members struct {
	ServerName   string   // the name of the server that answered, without its region
	ServerRegion string   // its region
	ServerDC     string   // its datacenter
	Members      []Member // in no fixed order: sort them with CompareMembers
}

func (m *Members) check() error {
	if m.Members == nil {
		return errors.New("it has no list of Members")
	}
	for i := range m.Members {
		if m.Members[i].Name == "" {
			return fmt.Errorf("member %d has no name", i)
		}
	}
	return nil
}

// Member is one server of the gossip pool.
type Member struct {
	Name   string            // unique in the pool: the server's name and region, such as server-1.global
	Addr   netip.Addr        // where it gossips; invalid for an agent that is no member
	Port   uint16            // where it gossips
	Tags   map[string]string // what it says about itself; see the methods for the tags that people use
	Status MemberStatus      // what the pool believes about it

	// The versions of Serf's protocols that it can speak, and speaks now.
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

// Region is the member's region, from the tag region.
func (m Member) Region() string { return m.Tags["region"] }

// Datacenter is the member's datacenter, from the tag dc.
func (m Member) Datacenter() string { return m.Tags["dc"] }

// Build is the member's version of Nomad, such as 2.0.5, from the tag build.
func (m Member) Build() string { return m.Tags["build"] }

// ID is the member's server ID, which Raft uses too, from the tag id.
func (m Member) ID() string { return m.Tags["id"] }

// RPCAddr is where the member takes RPC, from the tags rpc_addr and port. It is invalid when the tags do not say.
// Agent.UpdateServers takes such addresses.
func (m Member) RPCAddr() netip.AddrPort {
	addr, err := netip.ParseAddr(m.Tags["rpc_addr"])
	if err != nil {
		return netip.AddrPort{}
	}
	port, err := strconv.ParseUint(m.Tags["port"], 10, 16)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

// String is the member's name and status.
func (m Member) String() string { return m.Name + " (" + string(m.Status) + ")" }

// CompareMembers orders members by region, name, address and ID, for slices.SortFunc.
func CompareMembers(a, b Member) int {
	return cmp.Or(
		strings.Compare(a.Region(), b.Region()),
		strings.Compare(a.Name, b.Name),
		a.Addr.Compare(b.Addr),
		cmp.Compare(a.Port, b.Port),
		strings.Compare(a.ID(), b.ID()),
	)
}

var membersEndpoint = endpoint{name: "Members", method: http.MethodGet, path: "/v1/agent/members", acl: "node:read", large: true}

// Members lists the servers of the gossip pool, in all regions, as the agent sees them: those that failed and left
// too, until they are pruned or, after 24 h by Serf's default, reaped. A client agent asks a server. The pool is the same
// in all regions, so WithRegion changes nothing here.
//
// It needs an agent of any role and an ACL token with node:read. It makes the call GET /v1/agent/members.
func (a *Agent) Members(ctx context.Context) (*Members, error) {
	return readWith(ctx, a.client, membersEndpoint.to(nil), parseMembers)
}

var serversEndpoint = endpoint{name: "Servers", method: http.MethodGet, path: "/v1/agent/servers", role: RoleClient, acl: "agent:read"}

// Servers lists the RPC addresses, host:port, of the servers that a client agent knows. An address can be listed
// twice. An empty list means that the client knows no server, and so is unhealthy.
//
// It needs an agent in client mode, or fails with ErrClientOnly, and an ACL token with agent:read. It makes the call
// GET /v1/agent/servers.
func (a *Agent) Servers(ctx context.Context) ([]string, error) {
	servers, err := read[serverList](ctx, a.client, serversEndpoint.to(nil))
	if err != nil {
		return nil, err
	}
	return *servers, nil
}

type serverList []string

func (s *serverList) check() error {
	if slices.Contains(*s, "") {
		return errors.New("an address is empty")
	}
	return nil
}

var updateServersEndpoint = endpoint{name: "UpdateServers", method: http.MethodPut, path: "/v1/agent/servers", role: RoleClient, acl: "agent:write"}

// UpdateServers replaces the list of servers that a client agent knows. An address is host:port, or a host when the
// port is Nomad's default of 4647. The agent asks each of them whether it is a server, drops those that it cannot
// resolve or reach without saying so, and fails with ErrInvalidArgument when none is left. With the answer to its next
// heartbeat it learns the other servers of the region again: Servers tells which it knows.
//
// It needs an agent in client mode, or fails with ErrClientOnly, and an ACL token with agent:write. No address, or one
// that cannot be an address, is ErrInvalidArgument before anything is sent. It makes the call PUT /v1/agent/servers.
func (a *Agent) UpdateServers(ctx context.Context, addresses ...string) error {
	query, err := addressQuery("UpdateServers", addresses)
	if err != nil {
		return err
	}
	return done(ctx, a.client, updateServersEndpoint.to(query))
}

// JoinResult tells how a join went.
type JoinResult struct {
	// Joined is how many of the addresses could be contacted. It can be less than were given, without an error: the
	// agent does not say which ones it could not contact as long as there is one that it could.
	Joined int

	// Warning is what the agent, since Nomad 2.0, wants an operator to know. It does not mean that the join failed.
	Warning string
}

// joinAnswer is the answer on the wire.
type joinAnswer struct {
	NumJoined *int   `json:"num_joined"`
	Error     string `json:"error"`
	Warning   string `json:"warning"`
}

func (j *joinAnswer) check() error {
	if j.NumJoined == nil || *j.NumJoined < 0 {
		return errors.New("num_joined does not count what was joined")
	}
	return nil
}

var joinEndpoint = endpoint{name: "Join", method: http.MethodPut, path: "/v1/agent/join", role: RoleServer}

// Join makes a server join the gossip pool of the servers at the given addresses, each host:port of Serf, or a host when
// the port is Nomad's default of 4648. Contacting one of them is enough. Joining a pool again is no error. When none
// could be contacted the error is ErrJoinFailed and says why.
//
// It needs an agent in server mode, or fails with ErrServerOnly. No ACL token is needed up to Nomad 2.0, which warns
// in JoinResult that agent:write will be. No address, or one that cannot be an address, is ErrInvalidArgument before
// anything is sent. It makes the call PUT /v1/agent/join.
func (a *Agent) Join(ctx context.Context, addresses ...string) (*JoinResult, error) {
	query, err := addressQuery("Join", addresses)
	if err != nil {
		return nil, err
	}
	r := joinEndpoint.to(query)
	answer, err := read[joinAnswer](ctx, a.client, r)
	if err != nil {
		return nil, err
	}
	result := &JoinResult{Joined: *answer.NumJoined, Warning: answer.Warning}
	if answer.Error != "" || result.Joined == 0 {
		return result, a.client.apiError(r, http.StatusOK, a.client.clean(r, answer.Error, maxMessage), ErrJoinFailed)
	}
	return result, nil
}

// ForceLeaveOption changes what ForceLeave does.
type ForceLeaveOption func(url.Values)

// Prune removes the member from the list altogether, in place of keeping it there as left. It does not spare a server
// that is alive: the others forget that one and take it out of Raft, and it is without a leader from then on; to get it back
// takes a restart and another join at least. So look at the member's Status first, as shortly before as can be.
func Prune() ForceLeaveOption {
	return func(query url.Values) { query.Set("prune", "true") }
}

var forceLeaveEndpoint = endpoint{name: "ForceLeave", method: http.MethodPut, path: "/v1/agent/force-leave", role: RoleServer, acl: "agent:write"}

// ForceLeave makes the pool treat a failed server as one that has left, so that Raft forgets it. The node is the
// member's full name, such as server-2.global. One that is alive works on, but goes by StatusLeaving among the others
// until it joins again, and by StatusLeft once it fails; Prune expels it. A name that the pool does not know is no error to
// the agent. Such a call can take two seconds, and a Prune of one that is alive six. The change spreads by gossip: it can
// take a moment until Members shows it.
//
// It needs an agent in server mode, or fails with ErrServerOnly, and an ACL token with agent:write. An empty name is
// ErrInvalidArgument before anything is sent. It makes the call PUT /v1/agent/force-leave.
func (a *Agent) ForceLeave(ctx context.Context, node string, opts ...ForceLeaveOption) error {
	if !isName(node) {
		return invalidArgument("ForceLeave", "node %q: want the name of a member, such as server-2.global", node)
	}
	query := url.Values{"node": {node}}
	for _, opt := range opts {
		if opt == nil {
			return invalidArgument("ForceLeave", "an option is nil")
		}
		opt(query)
	}
	return done(ctx, a.client, forceLeaveEndpoint.to(query))
}

// Role is a mode that an agent can be in. It can be in both.
type Role string

// The roles of agents.
const (
	RoleServer Role = "server" // takes part in the gossip pool and in Raft
	RoleClient Role = "client" // runs the work
)

// Health is what an agent says about itself.
type Health struct {
	// Server and Client are about the agent in that role. Each is nil when the agent does not have the role, unless
	// it was asked about it.
	Server *RoleHealth `json:"server,omitempty"`
	Client *RoleHealth `json:"client,omitempty"`
}

// RoleHealth is the health of an agent in one role.
type RoleHealth struct {
	OK      bool   `json:"ok"`
	Message string `json:"message"` // "ok", or what is wrong
}

// OK reports whether the agent is healthy in every role that the answer is about.
func (h *Health) OK() bool {
	return h != nil && (h.Server != nil || h.Client != nil) &&
		(h.Server == nil || h.Server.OK) && (h.Client == nil || h.Client.OK)
}

func (h *Health) check() error {
	if h.Server == nil && h.Client == nil {
		return errors.New("it is about no role")
	}
	return nil
}

// message says what is wrong.
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

var healthEndpoint = endpoint{name: "Health", method: http.MethodGet, path: "/v1/agent/health"}

// Health asks an agent whether it is healthy in the given roles, or in all that it has. A server is healthy when its
// region has a leader, a client when it knows a server.
//
// When the agent says that it is not, the error is ErrUnhealthy and the Health says more; so checking the error is
// enough. The error is ErrNoLeader too when a server has no leader, which it says after 5 s, and ErrServerOnly or
// ErrClientOnly when the agent was asked about a role that it does not have. An unknown role is ErrInvalidArgument
// before anything is sent.
//
// It needs an agent of any role and no ACL token: agents do not look at one here, not even at one that is not valid. It makes
// the call GET /v1/agent/health.
func (a *Agent) Health(ctx context.Context, roles ...Role) (*Health, error) {
	query := url.Values{}
	for _, role := range roles {
		if role != RoleServer && role != RoleClient {
			return nil, invalidArgument("Health", "role %q: want %q or %q", role, RoleServer, RoleClient)
		}
		query.Add("type", string(role))
	}
	c, r := a.client, healthEndpoint.to(query)
	health := new(Health)
	err := c.doAny(ctx, r, func(ctx context.Context, answer *answer) error {
		switch {
		case answer.status == http.StatusOK, answer.status == http.StatusInternalServerError:
		case answer.status < 300:
			return c.invalidResponse(r, answer, errors.New("want status 200"))
		default:
			return c.failure(r, answer)
		}
		err := decode(ctx, answer.body.Bytes(), health, parse)
		if err == nil && (slices.Contains(roles, RoleServer) && health.Server == nil ||
			slices.Contains(roles, RoleClient) && health.Client == nil) {
			err = errors.New("it leaves out a role that was asked about")
		}
		switch {
		case err != nil && answer.status == http.StatusOK:
			return c.invalidResponse(r, answer, err)
		case err != nil:
			*health = Health{}
			return c.failure(r, answer)
		case health.OK() && answer.status == http.StatusOK:
			return nil
		}
		message := c.clean(r, health.message(), maxMessage)
		return c.apiError(r, answer.status, message, append(classify(r.endpoint, answer.status, message), health.kinds()...)...)
	})
	if !errors.Is(err, ErrUnhealthy) && err != nil {
		return nil, err
	}
	return health, err
}

// kinds are the errors of an unhealthy agent.
func (h *Health) kinds() []error {
	kinds := []error{ErrUnhealthy}
	if h.Server != nil && h.Server.Message == "server not enabled" {
		kinds = append(kinds, ErrServerOnly)
	}
	if h.Client != nil && h.Client.Message == "client not enabled" {
		kinds = append(kinds, ErrClientOnly)
	}
	return kinds
}

// addressQuery makes the query of the calls that take addresses.
func addressQuery(call string, addresses []string) (url.Values, error) {
	if len(addresses) == 0 {
		return nil, invalidArgument(call, "no address: want at least one host:port")
	}
	for _, address := range addresses {
		if !isName(address) || strings.Contains(address, "://") {
			return nil, invalidArgument(call, "address %q: want host:port or host", address)
		}
	}
	return url.Values{"address": addresses}, nil
}
