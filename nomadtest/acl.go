package nomadtest

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// ACL tokens of agents with the option ACLs, for nomad.WithToken, and three invalid ones.
//
// Agent.Health and Agent.Join of package nomad require no token. The option Token adds more tokens.
const (
	ManagementToken = "6d616e61-6765-6d65-6e74-20746f6b656e" // may do everything
	AgentReadToken  = "6167656e-7420-7265-6164-20746f6b656e" // policy agent { policy = "read" }
	AgentWriteToken = "6167656e-7420-7772-6974-6520746f6b6e" // policy agent { policy = "write" }
	NodeReadToken   = "6e6f6465-2072-6561-6420-746f6b656e20" // policy node { policy = "read" }
	ExpiredToken    = "65787069-7265-6420-746f-6b656e202020" // has expired
	UnknownToken    = "756e6b6e-6f77-6e20-746f-6b656e202020" // a UUID that agents do not know
	MalformedToken  = "not-a-token"                          // not a UUID
)

// permission is the permission that an endpoint requires.
type permission int

const (
	agentRead permission = iota
	agentWrite
	nodeRead
	management // only management tokens have it
)

// permissions maps the rights of a token to what they permit.
var permissions = map[string][]permission{
	"agent:read":  {agentRead},
	"agent:write": {agentRead, agentWrite},
	"node:read":   {nodeRead},
	"node:write":  {nodeRead},
	"management":  {agentRead, agentWrite, nodeRead, management},
}

// builtin maps the predefined tokens to their rights.
var builtin = map[string][]string{
	"":              nil, // the anonymous token
	ManagementToken: {"management"},
	AgentReadToken:  {"agent:read"},
	AgentWriteToken: {"agent:write"},
	NodeReadToken:   {"node:read"},
}

// Token adds a token to agents with ACLs, or changes the rights of a token that they have.
//
// A right is agent:read, agent:write, node:read, node:write or management. Several rights are
// combined. The empty secret is the anonymous token, which has no rights by default.
//
// Token panics if a right is unknown, or if the secret is neither empty nor a UUID.
func Token(secret string, rights ...string) AgentOption {
	if secret != "" && !isUUID.MatchString(secret) {
		panic("nomadtest: Token: want a UUID or nothing")
	}
	for _, right := range rights {
		if _, ok := permissions[right]; !ok {
			panic(fmt.Sprintf("nomadtest: Token: right %q: want one of %q", right, sortedKeys(permissions)))
		}
	}
	return agentOption(func(s *spec) {
		s.tokens = maps.Clone(s.tokens)
		if s.tokens == nil {
			s.tokens = map[string][]string{}
		}
		s.tokens[strings.ToLower(secret)] = rights
	})
}

// isUUID matches the secret of a token. Agents treat any other string as a workload identity.
var isUUID = regexp.MustCompile(`(?i)^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$`)

// tokenOf returns the token of a request, from X-Nomad-Token or Authorization.
func tokenOf(r *http.Request) string {
	if token := r.Header.Get("X-Nomad-Token"); token != "" {
		return strings.TrimSpace(token)
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		token, _, _ = strings.Cut(strings.TrimSpace(token), " ")
		return token
	}
	return ""
}

// verdict is the result of checking a token.
type verdict int

const (
	allowed   verdict = iota
	denied            // known or anonymous token without the permission
	unknown           // a UUID
	malformed         // not a UUID
	expired
)

func (a *Agent) judge(r *http.Request, need permission) verdict {
	if !a.acls {
		return allowed
	}
	token := strings.ToLower(tokenOf(r))
	rights, known := a.tokens[token]
	if !known {
		rights, known = builtin[token]
	}
	switch {
	case token == ExpiredToken:
		return expired
	case !known && isUUID.MatchString(token):
		return unknown
	case !known:
		return malformed
	}
	for _, right := range rights {
		if slices.Contains(permissions[right], need) {
			return allowed
		}
	}
	return denied
}

// check is how an endpoint checks a token. The kinds differ in their responses to an invalid token.
type check int

const (
	resolved    check = iota // self, host, reload
	helped                   // force-leave, schedulers, keyring: on servers only
	local                    // servers: on clients only
	remoteCheck              // members, pprof, nodes
	streamed                 // monitor, monitor/export
)

// errEnded is the response of a log stream to an invalid token: status 200 and no data.
var errEnded = refusef(http.StatusOK, "")

const (
	permissionDenied = "Permission denied"
	tokenNotFound    = "ACL token not found"
	badJWT           = "failed to parse signed token: go-jose/go-jose: compact JWS format must have three parts"
	tokenExpired     = "ACL token expired"
	badUUID          = "acl token lookup failed: index error: UUID must be 36 characters"
)

// authorize returns the error response to a request without the required permission, or nil.
//
// Messages and statuses are those of the recorded agents. Agents of version 1 in client mode were
// not recorded; they respond as version 2 does.
func (a *Agent) authorize(r *http.Request, how check, need permission) error {
	v := a.judge(r, need)
	switch {
	case v == allowed:
		return nil
	case v == denied, how == remoteCheck:
		return refusef(403, permissionDenied)
	case how == streamed && (a.server || !a.isMine(r)):
		return errEnded
	case !a.server:
		return clientRefusal(how, v)
	case !a.atLeast(1, 11, 1):
		return oldRefusal(r, how, v)
	case v == unknown:
		return refusef(403, permissionDenied)
	case how == resolved:
		return refusef(500, "%s or invalid workload identity: %s", tokenNotFound, v.reason())
	default:
		return refusef(403, "%s", v.reason())
	}
}

// reason returns the message for a token that was rejected without a lookup.
func (v verdict) reason() string {
	if v == expired {
		return tokenExpired
	}
	return badJWT
}

// isMine reports whether an agent in client mode streams its own log, and not that of another node.
func (a *Agent) isMine(r *http.Request) bool {
	id := r.URL.Query().Get("node_id")
	return id == "" || id == a.node
}

// clientRefusal is the error response of an agent in client mode. A server looks up its tokens.
func clientRefusal(how check, v verdict) error {
	switch {
	case v == unknown && how == streamed:
		return refusef(403, "rpc error: %s", permissionDenied)
	case v == unknown:
		return refusef(403, permissionDenied)
	case how == streamed:
		return refusef(403, "rpc error: %s", v.reason())
	case how == resolved:
		return refusef(500, "failed to resolve ACL token: rpc error: %s", v.reason())
	default:
		return refusef(500, "rpc error: %s", v.reason())
	}
}

// oldRefusal is the error response of servers before 1.11.1.
func oldRefusal(r *http.Request, how check, v verdict) error {
	switch {
	case v == unknown && how == helped && strings.HasPrefix(r.URL.Path, "/v1/agent/schedulers"):
		return refusef(500, tokenNotFound)
	case v == unknown:
		return refusef(403, tokenNotFound)
	}
	reason := badUUID
	if v == expired {
		reason = tokenExpired
	}
	if how == resolved {
		return refusef(500, "failed to resolve ACL token: %s", reason)
	}
	return refusef(500, "%s", reason)
}

// authenticate checks the token of a request to the task API on the unix socket.
//
// Every request needs a token there, with or without ACLs. It reports whether the request may
// continue, and otherwise writes an error response.
func (a *Agent) authenticate(w http.ResponseWriter, r *http.Request) bool {
	refuse := func(status int, text string) bool {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		w.Write([]byte(text))
		return false
	}
	if tokenOf(r) == "" {
		return refuse(http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized))
	}
	switch a.judge(r, agentRead) {
	case unknown:
		return refuse(http.StatusForbidden, http.StatusText(http.StatusForbidden))
	case malformed, expired:
		return refuse(http.StatusInternalServerError, "Server error authenticating request\n")
	}
	return true
}
