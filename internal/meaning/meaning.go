// Package meaning finds out what a response that reports a failure means. The rules come from recorded responses.
package meaning

import (
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
)

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

// Of returns the meaning of a response with a status above 299, from an endpoint that requires a role, "server" or
// "client", or none. If the body was cut, that it is empty says nothing.
func Of(role string, status int, body string, cut bool) Kind {
	message := redact.Line(body[:min(len(body), 16*maxText)], maxText)
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
	case status != http.StatusNotFound && slices.ContainsFunc(invalidTokenTexts, has):
		return InvalidToken
	case status == http.StatusForbidden, status == http.StatusUnauthorized, strings.HasSuffix(message, "Permission denied"):
		return PermissionDenied
	case has("no cluster leader"), status == http.StatusInternalServerError && strings.HasSuffix(lower, "no leader"):
		return NoLeader
	case status == http.StatusTooManyRequests:
		return TooManyRequests
	case status == http.StatusNotFound && message == "" && !cut:
		return Unsupported
	case status == http.StatusNotFound, slices.ContainsFunc(notFoundTexts, has):
		return NotFound
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, has("illegal base64"):
		return InvalidArgument
	}
	return Unknown
}
