package nomad

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// The errors that a program can act on. They are matched with errors.Is, and they go by the meaning of an answer,
// not by its status: Nomad reports the same fault with different statuses on different endpoints and versions.
var (
	// ErrInvalidArgument reports an argument that was refused, here before anything was sent or by the agent
	// (status 400). Trying again does not help.
	ErrInvalidArgument = errors.New("nomad: invalid argument")

	// ErrPermissionDenied reports that the ACL token, or the lack of one, does not allow the call. Agents since
	// Nomad 2.0 answer a token that they do not know in the same way, so every ErrInvalidToken is an
	// ErrPermissionDenied too.
	ErrPermissionDenied = errors.New("nomad: permission denied")

	// ErrInvalidToken reports an ACL token that is malformed, expired or, before Nomad 2.0, unknown.
	ErrInvalidToken = errors.New("nomad: invalid ACL token")

	// ErrNotFound reports a node, server, region, profile or path that the agent does not know.
	ErrNotFound = errors.New("nomad: not found")

	// ErrServerOnly reports a call that needs an agent in server mode, made to one that is not.
	ErrServerOnly = errors.New("nomad: the agent is not a server")

	// ErrClientOnly reports a call that needs an agent in client mode, made to one that is not.
	ErrClientOnly = errors.New("nomad: the agent is not a client")

	// ErrNoLeader reports that the region has no leader at the moment. Servers say so after waiting 5 s for one.
	ErrNoLeader = errors.New("nomad: no cluster leader")

	// ErrTooManyRequests reports that the agent, or a proxy before it, still refused the call (status 429) when all
	// retries were used. An agent takes 100 connections from one address unless limits.http_max_conns_per_client
	// says otherwise.
	ErrTooManyRequests = errors.New("nomad: too many requests")

	// ErrUnsupported reports an endpoint that the agent does not have (404 with an empty body): its version is
	// older than the call.
	ErrUnsupported = errors.New("nomad: not supported by this agent's version")

	// ErrUnhealthy reports that an agent said of itself that it is unhealthy.
	ErrUnhealthy = errors.New("nomad: the agent is unhealthy")

	// ErrJoinFailed reports that no address could be joined. Agents answer this with status 200.
	ErrJoinFailed = errors.New("nomad: join failed")

	// ErrResponseTooLarge reports an answer over the limit of WithMaxResponseSize.
	ErrResponseTooLarge = errors.New("nomad: response too large")

	// ErrInvalidResponse reports an answer that is not what the endpoint answers: empty, null, cut short, not
	// JSON, of the wrong shape, or followed by something else.
	ErrInvalidResponse = errors.New("nomad: invalid response")

	// ErrRedirect reports a redirect that was not followed, because it leads to another host or port, from https
	// to http, or would turn a PUT into a GET. Nothing was sent to where it leads.
	ErrRedirect = errors.New("nomad: redirect refused")

	// ErrClosed reports a call on a closed Client.
	ErrClosed = errors.New("nomad: client is closed")
)

// APIError is an answer that reports a failure. What it means is told by errors.Is and the errors of this package:
//
//	if errors.Is(err, nomad.ErrPermissionDenied) { … }
//
// Its fields are for people and for logs.
type APIError struct {
	Method     string // the HTTP method, such as PUT
	Address    string // the agent that was called, such as http://127.0.0.1:4646
	Path       string // the path below the address, without the query
	StatusCode int    // the HTTP status; 200 for ErrJoinFailed
	Message    string // the agent's words on one line, at most 1 KiB, without any secret of the client

	hint  string
	kinds []error
}

// Error says what was called, what came back and, where it helps, what that means.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nomad: %s %s%s:", e.Method, e.Address, e.Path)
	if e.StatusCode >= 300 {
		fmt.Fprintf(&b, " %d", e.StatusCode)
	}
	if text := cmp.Or(e.Message, http.StatusText(e.StatusCode)); text != "" {
		b.WriteString(" " + text)
	}
	if e.hint != "" {
		b.WriteString(": " + e.hint)
	}
	return b.String()
}

// Is reports whether target is one of the things that this answer means.
func (e *APIError) Is(target error) bool { return slices.Contains(e.kinds, target) }

// failure turns an answer that reports a failure into an error.
func (c *Client) failure(r *request, status int, message string, kinds ...error) *APIError {
	e := &APIError{
		Method:     r.method,
		Address:    c.address,
		Path:       r.path,
		StatusCode: status,
		Message:    c.cleanMessage(r, message),
	}
	for _, kind := range append(kinds, classify(r.endpoint, status, e.Message)...) {
		if !slices.Contains(e.kinds, kind) {
			e.kinds = append(e.kinds, kind)
		}
	}
	e.hint = hint(r.endpoint, e)
	return e
}

// invalidTokenTexts are how agents say that they could not make sense of a token. All but the first two come from
// below the ACL code and so have changed between versions.
var invalidTokenTexts = []string{
	"acl token not found",
	"acl token expired",
	"acl token lookup failed",
	"invalid workload identity",
	"failed to parse signed token",
}

// notFoundTexts are how agents say, with status 500, that they do not know a target.
var notFoundTexts = []string{
	"unknown nomad server",
	"unknown node",
	"no path to region",
}

// classify finds what an answer means. The rules come from recorded answers of Nomad 1.6.5 and 2.0.5.
func classify(ep *endpoint, status int, message string) []error {
	// A server that passed the call on to another agent reports that agent's status in the text.
	if coded, ok := strings.CutPrefix(message, "RPC Error:: "); ok {
		if code, text, ok := strings.Cut(coded, ","); ok {
			if n, err := strconv.Atoi(code); err == nil && n >= 400 && n <= 599 {
				status, message = n, text
			}
		}
	}
	if status < 400 {
		return nil
	}
	lower := strings.ToLower(message)
	says := func(text string) bool { return strings.Contains(lower, text) }
	switch {
	case status == http.StatusNotImplemented && says("invalid method") && ep.role == RoleClient:
		return []error{ErrClientOnly}
	case status == http.StatusNotImplemented && says("invalid method") && ep.role == RoleServer,
		says("server only endpoint"):
		return []error{ErrServerOnly}
	case slices.ContainsFunc(invalidTokenTexts, says):
		return []error{ErrInvalidToken, ErrPermissionDenied}
	case status == http.StatusForbidden, says("permission denied"):
		return []error{ErrPermissionDenied}
	case says("no cluster leader"):
		return []error{ErrNoLeader}
	case status == http.StatusTooManyRequests:
		return []error{ErrTooManyRequests}
	case status == http.StatusNotFound && message == "":
		return []error{ErrUnsupported}
	case status == http.StatusNotFound, slices.ContainsFunc(notFoundTexts, says):
		return []error{ErrNotFound}
	case status == http.StatusBadRequest:
		return []error{ErrInvalidArgument}
	}
	return nil
}

// hint says what an answer means to the person who reads the error, where the agent's words do not.
func hint(ep *endpoint, e *APIError) string {
	switch {
	case e.Is(ErrServerOnly) && !e.Is(ErrUnhealthy):
		return "this agent is not a server"
	case e.Is(ErrClientOnly) && !e.Is(ErrUnhealthy):
		return "this agent is not a client"
	case e.Is(ErrInvalidToken):
		return "the ACL token is malformed, expired or unknown"
	case e.Is(ErrPermissionDenied) && ep.acl != "":
		return "the call needs a valid ACL token with " + ep.acl
	case e.Is(ErrTooManyRequests):
		return "the agent takes no more connections from this address"
	case e.Is(ErrUnsupported) && ep.since != "":
		return ep.name + " needs Nomad " + ep.since + " or later"
	case e.Is(ErrUnsupported):
		return "this agent does not have the endpoint"
	case e.StatusCode == http.StatusBadRequest && strings.Contains(e.Message, "HTTP request to an HTTPS server"):
		return "this agent wants an https:// address"
	}
	return ""
}

// maxMessage bounds the part of an agent's words that is kept in an error.
const maxMessage = 1 << 10

// cleanMessage makes one printable line of what an agent said: bounded, and without the secrets that the request
// carried, in case that the agent or a proxy repeats them.
func (c *Client) cleanMessage(r *request, message string) string {
	for _, secret := range append(c.secrets(), r.secret) {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "<redacted>")
		}
	}
	if len(message) > maxMessage {
		message = message[:maxMessage] + " …"
	}
	message = strings.ToValidUTF8(message, "\uFFFD")
	// Agents list faults one a line, below a line that counts them.
	if first, faults, ok := strings.Cut(message, "\n"); ok && strings.HasSuffix(first, " occurred:") {
		message = strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(faults), "* "), "\n\t* ", "; ")
	}
	message = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, message)
	return strings.Join(strings.Fields(message), " ")
}

// callError is a call that got no answer, or none that can be used.
func (c *Client) callError(r *request, err error) error {
	return fmt.Errorf("nomad: %s %s%s: %w", r.method, c.address, r.path, err)
}

// invalidArgument refuses an argument of a call before anything is sent.
func invalidArgument(call, format string, args ...any) error {
	return &argumentError{text: "nomad: " + call + ": " + fmt.Sprintf(format, args...)}
}

type argumentError struct{ text string }

func (e *argumentError) Error() string        { return e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
