package nomadtest

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// The ACL tokens that agents with the option ACLs know, for nomad.WithToken, and two that they do not know. No token at
// all is the anonymous one, which may call Agent.Health and Agent.Join of package nomad. The option Token adds others.
const (
	ManagementToken = "6d616e61-6765-6d65-6e74-20746f6b656e" // may do everything
	AgentReadToken  = "6167656e-7420-7265-6164-20746f6b656e" // policy agent { policy = "read" }
	AgentWriteToken = "6167656e-7420-7772-6974-6520746f6b6e" // policy agent { policy = "write" }
	NodeReadToken   = "6e6f6465-2072-6561-6420-746f6b656e20" // policy node { policy = "read" }
	ExpiredToken    = "65787069-7265-6420-746f-6b656e202020" // was good until it expired
	UnknownToken    = "756e6b6e-6f77-6e20-746f-6b656e202020" // has the form of a token
	MalformedToken  = "not-a-token"                          // has not
)

// permission is what a call needs.
type permission int

const (
	agentRead permission = iota
	agentWrite
	nodeRead
	management // of the tokens here only those that may do everything have it
)

// permissions are what the rights of a token allow.
var permissions = map[string][]permission{
	"agent:read":  {agentRead},
	"agent:write": {agentRead, agentWrite},
	"node:read":   {nodeRead},
	"node:write":  {nodeRead},
	"management":  {agentRead, agentWrite, nodeRead, management},
}

// builtin are the rights of the tokens that agents know without being told.
var builtin = map[string][]string{
	"":              nil, // the anonymous token
	ManagementToken: {"management"},
	AgentReadToken:  {"agent:read"},
	AgentWriteToken: {"agent:write"},
	NodeReadToken:   {"node:read"},
}

// Token makes agents with ACLs know one more token, or gives one that they know other rights. A right is agent:read,
// agent:write, node:read, node:write or management; several are those of several policies. The empty token is the anonymous
// one, which has none unless this option gives it some. Token panics when a right is none of these, and when the token is
// neither empty nor a UUID.
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

// isUUID is what agents take for the secret of a token. Anything else could be the identity of a workload.
var isUUID = regexp.MustCompile(`(?i)^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$`)

// tokenOf is the token of a request, from either of the headers that agents look at.
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

// verdict is what an agent makes of a token.
type verdict int

const (
	allowed   verdict = iota
	denied            // the token is known, or there is none
	unknown           // it has the form of a token
	malformed         // it has not
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

// The ways in which endpoints look at a token. They differ in what they answer to one that is not good.
type check int

const (
	resolved    check = iota // self, host, reload
	helped                   // force-leave, schedulers, keyring: on servers only
	local                    // servers: on clients only
	remoteCheck              // members, pprof, nodes
	streamed                 // monitor, monitor/export
)

// errEnded is the answer of a stream to a token that it cannot read: a good beginning, and then nothing.
var errEnded = refusef(http.StatusOK, "")

const (
	permissionDenied = "Permission denied"
	tokenNotFound    = "ACL token not found"
	badJWT           = "failed to parse signed token: go-jose/go-jose: compact JWS format must have three parts"
	tokenExpired     = "ACL token expired"
	badUUID          = "acl token lookup failed: index error: UUID must be 36 characters"
)

// authorize gives the answer to a request that may not do what it wants, or nil. The texts and statuses are those of
// the recorded agents; agents of version 1 in client mode were not recorded and answer as version 2 does.
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

// reason is what is wrong with a token that nobody looks up.
func (v verdict) reason() string {
	if v == expired {
		return tokenExpired
	}
	return badJWT
}

// isMine reports whether an agent in client mode streams a log itself, and does not ask a server for that of another
// node.
func (a *Agent) isMine(r *http.Request) bool {
	id := r.URL.Query().Get("node_id")
	return id == "" || id == a.node
}

// clientRefusal is how an agent in client mode answers, which has the token looked up by a server.
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

// oldRefusal is how servers before 1.11.1 answer.
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

// authenticate is what stands before the task API, on the unix socket: every request needs a token, with or without
// ACLs. It reports whether the request may go on.
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
