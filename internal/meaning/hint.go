package meaning

import (
	"net/http"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/header"
)

// Facts are what a hint depends on besides the meaning of a response.
type Facts struct {
	Name     string // of the method
	ACL      string // capability that the endpoint requires
	Since    string // version that added the endpoint, where supported agents may be older
	Identity bool   // the token of the request is a workload identity
}

// Hint explains a response where the agent's message does not.
func Hint(k Kind, f Facts) string {
	switch {
	case k == ServerOnly:
		return "this agent is not a server"
	case k == ClientOnly:
		return "this agent is not a client"
	case k == InvalidToken && f.Identity:
		return "this agent could not verify the workload identity"
	case k == InvalidToken:
		return "the ACL token is malformed, expired or unknown"
	case k == PermissionDenied && f.ACL != "":
		return "it requires a valid ACL token with " + f.ACL
	case k == Unsupported && f.Since != "":
		return f.Name + " requires Nomad " + f.Since + " or later"
	case k == Unsupported:
		return "this agent does not have the endpoint"
	case k == SchemeMismatch:
		return "this agent requires an https:// address"
	}
	return ""
}

// ProxyHint explains a response that a proxy gave in place of the agent. basicAuth says that the request had a user.
func ProxyHint(status int, h http.Header, body string, basicAuth bool) string {
	switch {
	case HasHealth([]byte(body)): // an agent's
	case status == http.StatusUnauthorized && header.Challenges(h, "Basic") && basicAuth:
		return "a proxy in front of the agent refused the user or password of WithBasicAuth"
	case status == http.StatusUnauthorized && header.Challenges(h, "Basic"):
		return "a proxy in front of the agent requires a user and password: use WithBasicAuth"
	case status == http.StatusUnauthorized:
		return "a proxy in front of the agent requires authentication"
	case status == http.StatusProxyAuthRequired:
		return "the proxy on the way to the agent requires another user or password"
	case status == http.StatusTooManyRequests && isAgentsLimit(body) && h.Get("Date") == "":
		return agentconn.ErrFull.Error()
	case status == http.StatusTooManyRequests:
		return "a proxy in front of the agent limits requests"
	case isDocument(body):
		return "this may be the response of a proxy in front of the agent, or of another server"
	}
	return ""
}
