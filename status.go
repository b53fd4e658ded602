package nomad

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
)

// Status has the methods for the endpoints of /v1/status. It is the field Status of a Client. Errors are as for the methods
// of Agent.
type Status struct{ client *Client }

// Format prints the address of the agent, whatever the verb.
func (s Status) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "nomad.Status(%s)", addressOf(s.client)) }

var leaderEndpoint = register(endpoint{name: "Status.Leader", method: http.MethodGet, path: "/v1/status/leader"})

// Leader returns the RPC address (host:port) of a region's leader. The region is that of WithRegion, or else the
// agent's own.
//
// If there is no leader the error is ErrNoLeader, after up to 5 s in which the agent waits for one. It requires no ACL
// token.
//
// Endpoint: GET /v1/status/leader
func (s *Status) Leader(ctx context.Context) (string, error) {
	r := leaderEndpoint.newRequest(nil)
	leader, err := get[rpcAddress](ctx, s.client, r)
	if err != nil {
		return "", err
	}
	if *leader == "" {
		return "", s.client.apiError(r, http.StatusOK, "the agent knows no leader", ErrNoLeader)
	}
	return string(*leader), nil
}

// rpcAddress is host:port, or empty.
type rpcAddress string

func (a *rpcAddress) check() error {
	if _, _, err := net.SplitHostPort(string(*a)); err != nil && *a != "" {
		return errors.New("it is not host:port")
	}
	return nil
}

var peersEndpoint = register(endpoint{name: "Status.Peers", method: http.MethodGet, path: "/v1/status/peers"})

// Peers returns the RPC addresses, host:port, of all servers in the Raft configuration, with the leader. The region is
// that of WithRegion, or else the agent's own.
//
// Without a leader the error is ErrNoLeader. It requires no ACL token.
//
// Endpoint: GET /v1/status/peers
func (s *Status) Peers(ctx context.Context) ([]string, error) {
	peers, err := get[addressList](ctx, s.client, peersEndpoint.newRequest(nil))
	if err != nil {
		return nil, err
	}
	return *peers, nil
}

// addressList is a list of addresses.
type addressList []string

func (l *addressList) check() error {
	if slices.Contains(*l, "") {
		return errors.New("an address is empty")
	}
	return nil
}
