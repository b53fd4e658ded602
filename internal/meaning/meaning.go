// Package meaning finds out what a response that reports a failure means. The rules come from recorded responses.
package meaning

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nomad-go/nomad/internal/redact"
)

// Kind is the meaning of a response.
type Kind int

// The meanings.
const (
	Unknown Kind = iota
	ServerOnly
	ClientOnly
	InvalidToken
	PermissionDenied
	NoLeader
	TooManyRequests
	Unsupported
	NotFound
	InvalidArgument
	SchemeMismatch
)

// Response is a response that reports a failure.
type Response struct {
	Role     string // that the endpoint requires of the agent: "server", "client" or none
	Status   int
	Body     string
	Cut      bool // the body was cut: that it is empty says nothing
	Identity bool // the token of the request is a workload identity
}

// invalidTokenTexts are messages of agents about the token of a request. All but the first two come from below the ACL
// code, so they differ between versions.
var invalidTokenTexts = []string{
	"acl token not found",
	"acl token expired",
	"acl token lookup failed",
	"invalid workload identity",
	"failed to parse signed token",
}

// notFoundTexts are messages of agents, with status 500, about an unknown target.
var notFoundTexts = []string{
	"unknown nomad server",
	"unknown node",
	"no path to region",
}

// maxText is how many bytes of a body are looked at.
const maxText = 4 << 10

// httpsTexts are messages of servers that speak TLS about a request that does not: Go, nginx and Apache.
var httpsTexts = []string{
	"http request to an https server",
	"plain http request was sent to https port",
	"speaking plain http to an ssl-enabled server port",
}

// refusalText is in the response with status 429 of an agent that accepts no more connections from an address.
const refusalText = "your ip is issuing too many concurrent connections"

// isAgentsLimit reports whether the body of a response with status 429 is an agent's, and not a proxy's.
func isAgentsLimit(body string) bool {
	return strings.Contains(strings.ToLower(body[:min(len(body), maxText)]), refusalText)
}

// isDocument reports whether the body of a response is a document. Agents report failures as text.
func isDocument(body string) bool {
	body = strings.TrimLeft(body[:min(len(body), maxText)], " \t\r\n\ufeff")
	return strings.HasPrefix(body, "{") || strings.HasPrefix(body, "<")
}

// Of returns the meaning of a response.
func Of(r Response) Kind {
	role, status := r.Role, r.Status
	message := redact.Line(r.Body[:min(len(r.Body), 16*maxText)], maxText)
	for strings.HasPrefix(message, "rpc error: ") { // once for each agent that forwarded the request
		message = strings.TrimPrefix(message, "rpc error: ")
	}
	// A server that forwarded the request to another agent has that agent's status in its message.
	if coded, ok := strings.CutPrefix(message, "RPC Error:: "); ok {
		if code, text, ok := strings.Cut(coded, ","); ok {
			if n, err := strconv.Atoi(code); err == nil && n >= 400 && n <= 599 {
				status, message = n, text
			}
		}
	}
	if status < 400 {
		return Unknown
	}
	lower := strings.ToLower(message)
	has := func(text string) bool { return strings.Contains(lower, text) }
	switch {
	case status == http.StatusNotImplemented && has("invalid method") && role == "client":
		return ClientOnly
	case status == http.StatusNotImplemented && has("invalid method") && role == "server", has("server only endpoint"):
		return ServerOnly
	case status == http.StatusBadRequest && slices.ContainsFunc(httpsTexts, has):
		return SchemeMismatch
	case status != http.StatusNotFound && slices.ContainsFunc(invalidTokenTexts, has):
		return InvalidToken
	case r.Identity && has("uuid must be 36 characters") && !has("lookup failed"): // or it is about the ID of something else
		return InvalidToken
	case status == http.StatusForbidden, status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired, strings.HasSuffix(message, "Permission denied"):
		return PermissionDenied
	case has("no cluster leader"), status == http.StatusInternalServerError && strings.HasSuffix(lower, "no leader"):
		return NoLeader
	case status == http.StatusTooManyRequests:
		return TooManyRequests
	case status == http.StatusNotFound && message == "" && !r.Cut:
		return Unsupported
	case status == http.StatusNotFound, slices.ContainsFunc(notFoundTexts, has):
		return NotFound
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, has("illegal base64"):
		return InvalidArgument
	}
	return Unknown
}

// HasHealth reports whether a body is the document of the health of an agent or of autopilot. Agents send it with a
// status that reports a failure, and so may proxies send something else.
func HasHealth(body []byte) bool {
	var document struct {
		Healthy        *bool
		Server, Client any
	}
	return json.Unmarshal(body, &document) == nil && (document.Healthy != nil || document.Server != nil || document.Client != nil)
}
