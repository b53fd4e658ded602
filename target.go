package nomad

import (
	"net/url"

	"github.com/nomad-go/nomad/internal/show"
)

// Target is the agent that a request is about. The zero Target is the agent that receives the request. Three methods
// differ. Agent.Profile with the zero Target profiles a server of the region of WithRegion, and if a client agent
// receives the request without a region, that agent's server. On a client agent, Agent.Monitor and Agent.MonitorExport
// ignore OnServer and stream the agent's own log.
type Target struct {
	key, id string
}

// OnServer targets a server by its full name, such as server-1.global, or by its ID. The name leader stands for the
// region's leader. The server must be in the region of the request: that of WithRegion, or else that of the agent that
// receives the request. An empty name is ErrInvalidArgument.
func OnServer(name string) Target { return Target{"server_id", name} }

// OnNode targets a client agent by the full ID of its node. An empty ID is ErrInvalidArgument. For any other ID that is
// not a UUID, the error is an APIError with status 500.
func OnNode(id string) Target { return Target{"node_id", id} }

// String returns the target, such as "server server-1.global".
func (t Target) String() string {
	switch t.key {
	case "server_id":
		return "server " + show.Line(t.id)
	case "node_id":
		return "node " + show.Line(t.id)
	}
	return "this agent"
}

// MarshalText returns what String returns.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// addTo sets the target in a query.
func (t Target) addTo(call string, query url.Values) error {
	if t.key == "" {
		return nil
	}
	if t.id == "" {
		return invalidArgument(call, "Target: the %s is empty: want the name or ID of a server, or the ID of a node", t.key)
	}
	query.Set(t.key, t.id)
	return nil
}
