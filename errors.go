package nomad

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/redact"
)

// The errors that a program can act on, for errors.Is. They go by the meaning of a response and not by its status: Nomad
// reports the same failure with different statuses on different endpoints and versions.
//
// An error matches one of them, with these exceptions: ErrInvalidToken is an ErrPermissionDenied too, ErrNoLeader of
// Agent.Health is an ErrUnhealthy too, and ErrTooManyRequests matches a context error too if the deadline ended the wait.
var (
	// ErrInvalidArgument reports an argument that was refused: by this package before a request was sent, or by the agent
	// (status 400).
	ErrInvalidArgument = errors.New("nomad: invalid argument")

	// ErrPermissionDenied reports that the ACL token, or its absence, does not allow the request (status 403), or that a
	// proxy in front of the agent requires authentication (status 401). Since Nomad 2.0 agents report an unknown token
	// this way, so every ErrInvalidToken is an ErrPermissionDenied too.
	ErrPermissionDenied = errors.New("nomad: permission denied")

	// ErrInvalidToken reports an ACL token that is malformed, expired or, before Nomad 2.0, unknown.
	ErrInvalidToken = errors.New("nomad: invalid ACL token")

	// ErrNotFound reports a node, server, region, profile or path that the agent does not know.
	ErrNotFound = errors.New("nomad: not found")

	// ErrServerOnly reports a request that requires an agent in server mode, sent to one that is not.
	ErrServerOnly = errors.New("nomad: the agent is not a server")

	// ErrClientOnly reports a request that requires an agent in client mode, sent to one that is not.
	ErrClientOnly = errors.New("nomad: the agent is not a client")

	// ErrNoLeader reports that the region has no leader. Servers wait 5 s for one before they respond.
	ErrNoLeader = errors.New("nomad: no cluster leader")

	// ErrTooManyRequests reports that the agent had no room for another connection from this address within the time
	// limit, or that a proxy in front of it refused every attempt with status 429.
	ErrTooManyRequests = errors.New("nomad: too many requests")

	// ErrUnsupported reports an endpoint that the agent does not have: its version is older.
	ErrUnsupported = errors.New("nomad: not supported by this agent's version")

	// ErrUnhealthy reports that an agent considers itself unhealthy.
	ErrUnhealthy = errors.New("nomad: the agent is unhealthy")

	// ErrJoinFailed reports that none of the addresses could be joined. Agents respond with status 200.
	ErrJoinFailed = errors.New("nomad: join failed")

	// ErrResponseTooLarge reports a response over its limit; see WithMaxResponseSize.
	ErrResponseTooLarge = errors.New("nomad: response too large")

	// ErrInvalidResponse reports a response that the endpoint does not give: empty, null, cut short, not JSON, of the
	// wrong shape, or followed by something else.
	ErrInvalidResponse = errors.New("nomad: invalid response")

	// ErrNotApplied reports an update that the agent accepted without changing anything.
	ErrNotApplied = errors.New("nomad: the update was not applied")

	// ErrRedirect reports a redirect that was not followed: to another host or port, from https to http, or one that
	// turns a PUT into a GET. Nothing was sent to its target.
	ErrRedirect = errors.New("nomad: redirect refused")

	// ErrStreamEnded reports that a log without an end has ended: the agent or the target stopped, or the connection was
	// lost, in which case the error matches io.ErrUnexpectedEOF too.
	ErrStreamEnded = errors.New("nomad: the stream has ended")

	// ErrStreamStalled reports a stream on which nothing, not even a heartbeat, arrived for 10 s.
	ErrStreamStalled = errors.New("nomad: the stream has stalled")

	// ErrClosed reports a request on a closed Client, or a read from a closed stream.
	ErrClosed = errors.New("nomad: use of a closed client or stream")
)

// APIError is a response that reports a failure. Use errors.Is with the errors of this package to find out what it means:
//
//	if errors.Is(err, nomad.ErrPermissionDenied) { … }
//
// Its fields are for people and logs.
type APIError struct {
	Method     string // the HTTP method, such as PUT
	Address    string // the agent's address, such as http://127.0.0.1:4646
	Path       string // the path below the address, without the query
	StatusCode int    // the HTTP status; 200 for ErrJoinFailed
	Message    string // the agent's message on one line, at most 1 KiB, without the secrets of the request

	hint  string
	kinds []error
}

// Error returns the request, the status, the message and, where it helps, an explanation.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nomad: %s %s%s:", e.Method, e.Address, e.Path)
	if e.StatusCode < 200 || e.StatusCode > 299 {
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

// Is reports whether target is the meaning of the response.
func (e *APIError) Is(target error) bool { return slices.Contains(e.kinds, target) }

// maxMessage is how many bytes of an agent's message an error has.
const maxMessage = 1 << 10

// failure makes an error of a response that reports one. It is classified as the agent sent it, and redacted afterwards.
func (c *Client) failure(r *request, res *response) *APIError {
	text := res.body.String()
	kinds := classify(r.endpoint, res.status, text)
	if res.partial {
		text = c.secrets(r).RemoveCut(text)
		// The body may have had a message.
		if i := slices.Index(kinds, ErrUnsupported); i >= 0 {
			kinds[i] = ErrNotFound
		}
	}
	e := c.apiError(r, res.status, text, kinds...)
	if e.hint == "" || e.Is(ErrPermissionDenied) {
		e.hint = cmp.Or(c.proxyHint(res), e.hint)
	}
	return e
}

// apiError makes an error of a response whose meaning is known.
func (c *Client) apiError(r *request, status int, text string, kinds ...error) *APIError {
	e := &APIError{
		Method: r.method, Address: c.address, Path: c.shownPath(r), StatusCode: status,
		Message: redact.Cut(c.clean(r, text), maxMessage), kinds: kinds,
	}
	e.hint = hint(r, e)
	if file := c.settings.tokenFile; file != nil && e.Is(ErrPermissionDenied) {
		if problem := file.Problem(); problem != "" {
			e.hint = strings.TrimPrefix(e.hint+"; the token file cannot be used: "+problem, "; ")
		}
	}
	return e
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

// classify returns the meaning of a response that reports a failure. The rules come from recorded responses.
func classify(ep *endpoint, status int, text string) []error {
	message := redact.Line(text, 4*maxMessage)
	// A server that forwarded the request to another agent has that agent's status in its message.
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
	has := func(text string) bool { return strings.Contains(lower, text) }
	switch {
	case status == http.StatusNotImplemented && has("invalid method") && ep.role == RoleClient:
		return []error{ErrClientOnly}
	case status == http.StatusNotImplemented && has("invalid method") && ep.role == RoleServer,
		has("server only endpoint"):
		return []error{ErrServerOnly}
	case status != http.StatusNotFound && slices.ContainsFunc(invalidTokenTexts, has):
		return []error{ErrInvalidToken, ErrPermissionDenied}
	case status == http.StatusForbidden, status == http.StatusUnauthorized, strings.HasSuffix(message, "Permission denied"):
		return []error{ErrPermissionDenied}
	case has("no cluster leader"), status == http.StatusInternalServerError && strings.HasSuffix(lower, "no leader"):
		return []error{ErrNoLeader}
	case status == http.StatusTooManyRequests:
		return []error{ErrTooManyRequests}
	case status == http.StatusNotFound && message == "":
		return []error{ErrUnsupported}
	case status == http.StatusNotFound, slices.ContainsFunc(notFoundTexts, has):
		return []error{ErrNotFound}
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, has("illegal base64"):
		return []error{ErrInvalidArgument}
	}
	return nil
}

// hint explains an error where the agent's message does not.
func hint(r *request, e *APIError) string {
	switch {
	case e.Is(ErrServerOnly):
		return "this agent is not a server"
	case e.Is(ErrClientOnly):
		return "this agent is not a client"
	case e.Is(ErrInvalidToken) && strings.Count(r.token, ".") == 2:
		return "this agent could not verify the workload identity"
	case e.Is(ErrInvalidToken):
		return "the ACL token is malformed, expired or unknown"
	case e.Is(ErrPermissionDenied) && r.acl != "":
		return "it requires a valid ACL token with " + r.acl
	case e.Is(ErrUnsupported) && r.since != "":
		return r.name + " requires Nomad " + r.since + " or later"
	case e.Is(ErrUnsupported):
		return "this agent does not have the endpoint"
	case e.StatusCode == http.StatusBadRequest && strings.Contains(e.Message, "HTTP request to an HTTPS server"):
		return "this agent requires an https:// address"
	}
	return ""
}

// proxyHint explains a response that a proxy gave in place of the agent.
func (c *Client) proxyHint(res *response) string {
	scheme, _, _ := strings.Cut(res.header.Get("WWW-Authenticate"), " ")
	switch {
	case res.status == http.StatusUnauthorized && strings.EqualFold(scheme, "Basic"):
		return "a proxy in front of the agent requires a user and password: use WithBasicAuth"
	case res.status == http.StatusTooManyRequests:
		return "a proxy in front of the agent limits requests"
	}
	return ""
}

// maxErrorText is how many bytes of another error's message an error has.
const maxErrorText = 2 << 10

// clean returns text from the network on one printable line, without the secrets of the request.
func (c *Client) clean(r *request, text string) string {
	text = c.secrets(r).Remove(redact.Line(text, maxErrorBody))
	if r.keys {
		text = redact.GossipKeys(text)
	}
	return redact.Cut(text, maxErrorText)
}

// secrets returns what must not appear in an error.
func (c *Client) secrets(r *request) redact.Secrets {
	s := c.settings
	secrets := []string{s.token, r.token, r.refused, s.password, r.secret}
	if s.user != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(s.user+":"+s.password)))
	}
	if c.pool.conns != nil && s.address.socket == "" {
		if proxy, _ := http.ProxyFromEnvironment(&http.Request{URL: &c.base}); proxy != nil && proxy.User != nil {
			password, _ := proxy.User.Password()
			secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
		}
	}
	for _, h := range []http.Header{s.header, r.header} {
		for name, values := range h {
			for _, value := range values {
				// A short value of a harmless header would remove words from every message.
				if len(value) >= 6 && name != "Content-Type" && name != "Accept" || name == "Authorization" || name == "Cookie" {
					secrets = append(secrets, value)
				}
				if _, credentials, ok := strings.Cut(value, " "); ok && name == "Authorization" {
					secrets = append(secrets, credentials)
				}
			}
		}
	}
	return redact.New(secrets...)
}

// shownPath returns the path of a request. Only that of Do may have a secret in it.
func (c *Client) shownPath(r *request) string {
	if r.name == "Do" {
		return c.secrets(r).Remove(r.path)
	}
	return r.path
}

// failedRequest is a request without a response that can be used. Its message is clean; the cause is for errors.Is and
// errors.As.
type failedRequest struct {
	text  string
	cause error
}

func (e *failedRequest) Error() string              { return e.text }
func (e *failedRequest) Unwrap() error              { return e.cause }
func (e *failedRequest) Format(f fmt.State, _ rune) { io.WriteString(f, e.text) }

// requestError adds the request to an error, unless it has it.
func (c *Client) requestError(r *request, err error) error {
	switch err.(type) {
	case *APIError, *failedRequest:
		return err
	}
	raw := err.Error()
	cleaned := c.clean(r, raw)
	if c.secrets(r).In(raw) {
		err = &sealedError{cleaned, err}
	}
	text := fmt.Sprintf("nomad: %s %s%s: %s", r.method, c.address, c.shownPath(r), strings.TrimPrefix(cleaned, "nomad: "))
	return &failedRequest{text, err}
}

// sealedError is an error whose message has a secret in it. It can be matched, but code that prints errors layer by
// layer does not reach the message.
type sealedError struct {
	text  string
	cause error
}

func (e *sealedError) Error() string              { return e.text }
func (e *sealedError) Is(target error) bool       { return errors.Is(e.cause, target) }
func (e *sealedError) As(target any) bool         { return errors.As(e.cause, target) }
func (e *sealedError) Format(f fmt.State, _ rune) { io.WriteString(f, e.text) }

// sendError gives an error of http.Client its meaning.
func (c *Client) sendError(ctx context.Context, err error) error {
	var wrapped *url.Error // it has the query in it
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var transport *roundTripError
	if !errors.As(err, &transport) {
		if ctx.Err() == nil && !errors.Is(err, ErrRedirect) && !errors.Is(err, ErrUnsupported) {
			err = fmt.Errorf("%w: %w", ErrRedirect, err) // all else that http.Client fails with
		}
		return err
	}
	err = transport.error
	var protocol *agentconn.ProtocolError
	switch {
	case errors.Is(err, agentconn.ErrFull):
		err = fmt.Errorf("%w: %w", ErrTooManyRequests, agentconn.ErrFull)
		if ctx.Err() != nil {
			return &endedError{context.Cause(ctx), err}
		}
	case errors.Is(err, agentconn.ErrNoResponse) && ctx.Err() != nil:
		return &endedError{context.Cause(ctx), agentconn.ErrNoResponse}
	case errors.As(err, &protocol) && protocol.TooLarge:
		return fmt.Errorf("%w: its headers: %w", ErrResponseTooLarge, err)
	case errors.As(err, &protocol):
		return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: this agent requires an http:// address", err)
	}
	return err
}

// endedError is a wait that the context ended.
type endedError struct{ cause, last error }

func (e *endedError) Error() string   { return e.cause.Error() }
func (e *endedError) Unwrap() []error { return []error{e.cause, e.last} }

// timeError reports which deadline expired, or that the caller's context was canceled, if that is how a request ended.
func (c *Client) timeError(ctx, caller context.Context, limit time.Duration, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Cause(ctx)) && !timedOut(err) {
		return err
	}
	ended := fmt.Errorf("no response within %v: %w", limit, context.DeadlineExceeded)
	if caller.Err() != nil {
		ended = caller.Err()
		if cause := context.Cause(caller); cause != ended {
			ended = fmt.Errorf("%w: %w", ended, cause)
		}
	}
	if waited := (*endedError)(nil); errors.As(err, &waited) {
		return fmt.Errorf("%w (%w)", ended, waited.last)
	}
	return ended
}

// timedOut reports whether a time limit of the transport was reached.
func timedOut(err error) bool {
	var limit net.Error
	return errors.As(err, &limit) && limit.Timeout()
}

// invalidArgument refuses an argument before a request is sent.
func invalidArgument(call, format string, args ...any) error {
	return &argumentError{text: "nomad: " + call + ": " + fmt.Sprintf(format, args...)}
}

type argumentError struct{ text string }

func (e *argumentError) Error() string        { return e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
