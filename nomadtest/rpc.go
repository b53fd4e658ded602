package nomadtest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file has the rules by which agents forward requests: from a client to a server, to the leader,
// to another region, or to the agent in the request. Each agent prepends "rpc error: " to an error.

// refusalKind is how an error changes when agents forward it.
type refusalKind int

const (
	plainKind refusalKind = iota // each agent that forwards it adds a prefix
	codedKind                    // keeps its status and message
)

// codedf returns an error that keeps its status and message when agents forward it.
func codedf(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...), kind: codedKind}
}

// noRegion is the message for a region without a server in the pool.
const noRegion = "No path to region"

var (
	errPermission = refusef(403, permissionDenied)
	errNoLeader   = refusef(500, noLeader)
	errNoRegion   = refusef(500, noRegion)
)

// remote returns an error from another agent as this agent reports it.
func remote(err error) error {
	var f *refusal
	if !errors.As(err, &f) || f.kind == codedKind || f.text == permissionDenied {
		return err
	}
	return &refusal{status: f.status, text: "rpc error: " + f.text}
}

// ask calls a server: the agent itself or, for an agent in client mode, the first reachable server
// in its list.
func ask[T any](a *Agent, call func(server *Agent) (T, error)) (T, error) {
	if a.server {
		return call(a)
	}
	server := a.upstream()
	if server == nil {
		var none T
		return none, a.noUpstream()
	}
	out, err := call(server)
	if err != nil {
		a.turnFrom(server)
	}
	return out, remote(err)
}

// turnFrom moves a server to the end of a client's list. Clients do this after any error.
func (a *Agent) turnFrom(server *Agent) {
	if i := slices.Index(a.servers, server.rpcAddr()); i >= 0 && len(a.servers) > 1 {
		rest := slices.Delete(slices.Clone(a.servers), i, i+1)
		a.servers = append(rest, a.servers[i])
	}
}

// inRegion calls a server of a region.
func inRegion[T any](server *Agent, region string, call func(*Agent) (T, error)) (T, error) {
	if region == server.region {
		return call(server)
	}
	var none T
	there := server.pool.aliveServers(region)
	if len(there) == 0 {
		return none, errNoRegion
	}
	out, err := call(there[0])
	return out, remote(err)
}

// consistently calls the leader of the requested region, or any of its servers for a stale read.
func consistently[T any](server *Agent, q query, call func(*Agent) (T, error)) (T, error) {
	return inRegion(server, q.region, func(server *Agent) (T, error) {
		if q.stale {
			return call(server)
		}
		var none T
		leader := server.pool.leader(server.region)
		switch leader {
		case nil:
			return none, errNoLeader
		case server:
			return call(server)
		}
		out, err := call(leader)
		return out, remote(err)
	})
}

// query has the common query parameters of requests.
type query struct {
	region, prefix, filter, nextToken string
	stale, reverse                    bool
	perPage                           int
	index                             uint64
	wait                              time.Duration
}

// parse parses the query parameters in the same order as agents, and stops at the first invalid
// value.
func (a *Agent) parse(r *http.Request) (query, error) {
	values := r.URL.Query()
	q := query{region: values.Get("region"), prefix: values.Get("prefix"), filter: values.Get("filter"),
		nextToken: values.Get("next_token"), reverse: values.Get("reverse") == "true"}
	if q.region == "" {
		q.region = a.region
	}
	if stale, ok := values["stale"]; ok {
		q.stale = stale[0] == ""
		if !q.stale {
			var err error
			if q.stale, err = strconv.ParseBool(stale[0]); err != nil {
				return q, refusef(400, "Expect `true` or `false` for `stale` query string parameter")
			}
		}
	}
	if text := values.Get("per_page"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil && a.atLeast(1, 8) {
			return q, refusef(400, "Expect a number for `per_page` query string parameter")
		}
		q.perPage = int(n)
	}
	if text := values.Get("wait"); text != "" {
		wait, err := time.ParseDuration(text)
		if err != nil {
			return q, refusef(400, "Invalid wait time")
		}
		q.wait = wait
	}
	if text := values.Get("index"); text != "" {
		index, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return q, refusef(400, "Invalid index")
		}
		q.index = index
	}
	return q, nil
}

// complain responds with 400 to an invalid query parameter, for endpoints that then continue with
// the request.
//
// It is called without the lock, because writing can block.
func complain(w http.ResponseWriter, complaint error) {
	if complaint != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusBadRequest)
		w.Write([]byte(complaint.Error()))
	}
}

// uuidKey parses an ID as Nomad's state store does. Hyphens and case are ignored.
func uuidKey(id string, whole bool) (string, error) {
	if whole && len(id) != 36 {
		return "", refusef(500, "UUID must be 36 characters")
	}
	if n := strings.Count(id, "-"); n > 4 {
		return "", refusef(500, `UUID should have maximum of 4 "-"; got %d`, n)
	}
	digits := strings.ReplaceAll(id, "-", "")
	if len(digits)%2 != 0 {
		return "", refusef(500, "Input (without hyphens) must be even length")
	}
	key, err := hex.DecodeString(digits)
	if err != nil {
		return "", refusef(500, "Invalid UUID: %v", err)
	}
	return string(key), nil
}

// isLocalNode reports whether id is the agent's own node, whose requests it does not forward.
func (a *Agent) isLocalNode(id string) bool { return a.client && id == a.node }

// findNode returns the node with an ID in the server's region, and the server that the node is
// connected to.
func (a *Agent) findNode(id string) (node, server *Agent, err error) {
	key, err := uuidKey(id, true)
	if err != nil {
		return nil, nil, codedf(500, "node lookup failed: index error: %v", err)
	}
	for _, n := range a.pool.nodes(a.region) {
		if own, _ := uuidKey(n.node, true); own == key {
			// Connections are looked up by the literal ID.
			if server := n.upstream(); n.node == id && n.running && server != nil && server.pool == a.pool {
				return n, server, nil
			}
			return nil, nil, codedf(404, "No path to node")
		}
	}
	return nil, nil, codedf(404, "Unknown node %q", id)
}

// forwardFor returns the server that a request names, or nil if it is the agent itself.
func (a *Agent) forwardFor(name, region string) (*Agent, error) {
	if name == "leader" {
		leader := a.pool.leader(a.region)
		switch leader {
		case nil:
			return nil, errNoLeader
		case a:
			return nil, nil
		}
		return leader, nil
	}
	servers := a.pool.aliveServers(region)
	if len(servers) == 0 {
		return nil, errNoRegion
	}
	i := slices.IndexFunc(servers, func(s *Agent) bool { return s.fullName() == name || s.id == name })
	switch {
	case i < 0:
		return nil, refusef(500, "unknown Nomad server %s", name)
	case servers[i] == a:
		return nil, nil
	}
	return servers[i], nil
}

// aim is the target of a request: a node, a server or neither.
type aim struct {
	node, server string
	region       string
	each         func(server *Agent) error // check by each server that forwards the request, or nil
}

// passes returns an error if a server's check rejects the request.
func (to aim) passes(server *Agent) error {
	if to.each == nil {
		return nil
	}
	return to.each(server)
}

// reach returns the target agent of a request that a server has received.
func (a *Agent) reach(to aim) (*Agent, error) {
	if err := to.passes(a); err != nil {
		return nil, err
	}
	return inRegion(a, to.region, func(a *Agent) (*Agent, error) {
		if err := to.passes(a); err != nil {
			return nil, err
		}
		if to.node != "" {
			node, server, err := a.findNode(to.node)
			if err == nil {
				err = to.passes(server)
			}
			return node, err
		}
		if to.server == "" {
			return a, nil
		}
		server, err := a.forwardFor(to.server, to.region)
		if err != nil || server == nil {
			return a, err
		}
		return server, remote(to.passes(server))
	})
}
