package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/deadline"
	"github.com/nomad-go/nomad/internal/header"
	"github.com/nomad-go/nomad/internal/meaning"
	"github.com/nomad-go/nomad/internal/redact"
)

// The errors that a program can act on, for errors.Is. They do not depend on the HTTP status alone, because Nomad
// reports the same failure with different statuses on different endpoints and versions.
//
// An error matches at most one of them, with two exceptions: ErrInvalidToken also matches ErrPermissionDenied, and
// ErrNoLeader of Agent.Health also matches ErrUnhealthy. If the scheme of the address does not fit the agent, http://
// for one that uses TLS or the reverse, the error is http.ErrSchemeMismatch.
var (
	// ErrInvalidArgument reports an argument that was refused: by this package before a request was sent, or by the agent
	// (status 400).
	ErrInvalidArgument = errors.New("nomad: invalid argument")

	// ErrPermissionDenied reports that the ACL token, or its absence, does not allow the request (status 403), that
	// enable_debug is not set (Agent.Host, Agent.Profile), or that a proxy in front of the agent requires
	// authentication (status 401 or 407). An error that is ErrInvalidToken is ErrPermissionDenied too.
	ErrPermissionDenied = errors.New("nomad: permission denied")

	// ErrInvalidToken reports an ACL token that is malformed or expired. An unknown token is ErrInvalidToken with Nomad
	// before 2.0, and with Agent.Monitor. Otherwise it is only ErrPermissionDenied.
	ErrInvalidToken = errors.New("nomad: invalid ACL token")

	// ErrNotFound reports a node, server, region or profile that the agent does not know. For Client.Do it is any
	// response with status 404, such as that for a job that does not exist, unless the agent does not have the endpoint
	// (ErrUnsupported).
	ErrNotFound = errors.New("nomad: not found")

	// ErrServerOnly reports a request that requires an agent in server mode, sent to one that is not.
	ErrServerOnly = errors.New("nomad: the agent is not a server")

	// ErrClientOnly reports a request that requires an agent in client mode, sent to one that is not.
	ErrClientOnly = errors.New("nomad: the agent is not a client")

	// ErrNoLeader reports that the region has no leader. Servers wait 5 s for a leader before they respond.
	ErrNoLeader = errors.New("nomad: no cluster leader")

	// ErrTooManyRequests reports that the agent refused connections because it has too many from this address (see
	// WithRetries), or that a proxy in front of it refused the last attempt with status 429. If the time limit ended
	// while the request was waiting for a connection, the error also matches context.DeadlineExceeded.
	ErrTooManyRequests = errors.New("nomad: too many requests")

	// ErrUnsupported reports that the agent's version of Nomad is too old for the method.
	ErrUnsupported = errors.New("nomad: not supported by this agent's version")

	// ErrUnhealthy reports that an agent considers itself unhealthy.
	ErrUnhealthy = errors.New("nomad: the agent is unhealthy")

	// ErrJoinFailed reports that none of the addresses could be joined. Agents report it with status 200.
	ErrJoinFailed = errors.New("nomad: join failed")

	// ErrResponseTooLarge reports a response over its limit; see WithMaxResponseSize.
	ErrResponseTooLarge = errors.New("nomad: response too large")

	// ErrInvalidResponse reports a response that is not valid for the endpoint: empty, null, cut short, not JSON, of
	// the wrong shape, or followed by something else.
	ErrInvalidResponse = errors.New("nomad: invalid response")

	// ErrNotApplied reports an update that the agent accepted, but after which it does not have the requested
	// configuration.
	ErrNotApplied = errors.New("nomad: the update was not applied")

	// ErrRedirect reports a redirect that was not followed: to another host or port (except from http on port 80 to
	// https on port 443), from https to http, one that turns a PUT into a GET, one that would send the body of an
	// io.Reader again, or the sixth in a row. Nothing was sent to its target.
	ErrRedirect = errors.New("nomad: redirect refused")

	// ErrStreamEnded reports the end of a stream of Agent.Monitor, or of Agent.MonitorExport with Follow: the agent or
	// the target stopped, or the connection was lost. After a lost connection the error also matches
	// io.ErrUnexpectedEOF.
	ErrStreamEnded = errors.New("nomad: the stream has ended")

	// ErrStreamStalled reports a stream on which nothing arrived for 10 s while it was read: of a log no whole frame,
	// not even a heartbeat, of a profile no data.
	ErrStreamStalled = errors.New("nomad: the stream has stalled")

	// ErrClosed reports a request on a closed Client, or a read from a closed stream.
	ErrClosed = errors.New("nomad: use of a closed client or stream")
)

// APIError is a response that reports a failure. Use errors.Is with the errors of this package to find out what it
// means:
//
//	if errors.Is(err, nomad.ErrPermissionDenied) { … }
//
// The fields are for people and logs. Many responses with status 500 match none of these errors.
type APIError struct {
	Method     string // the HTTP method, such as PUT
	Address    string // the agent's address, such as http://127.0.0.1:4646
	Path       string // the path below the address, without the query
	StatusCode int    // the HTTP status; it can be 200, as for ErrJoinFailed
	Message    string // the agent's message on one line, at most 1 KiB, without the token, password and headers of the Client

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

// Is reports whether the response means target, one of the errors of this package.
func (e *APIError) Is(target error) bool { return slices.Contains(e.kinds, target) }

// maxMessage is how many bytes of an agent's message an error has.
const maxMessage = 1 << 10

// failure makes an error of a response that reports one. It is classified as the agent sent it, and redacted afterwards.
func (c *Client) failure(r *request, res *response) *APIError {
	text := res.body.String()
	kinds := c.classify(r, res.status, text, res.partial)
	if r.hasDocument(res) {
		kinds = nil // it cannot be decoded; its status does not mean what it says
	}
	if res.partial {
		text = c.secrets(r).RemoveCut(text)
	}
	e := c.apiError(r, res.status, text, kinds...)
	if e.hint == "" || e.Is(ErrPermissionDenied) {
		start := res.body.Bytes()[:min(res.body.Len(), maxErrorBody)]
		e.hint = cmp.Or(meaning.ProxyHint(res.status, res.header, string(start), c.settings.User != ""), e.hint)
	}
	return e
}

// apiError makes an error of a response whose meaning is known.
func (c *Client) apiError(r *request, status int, text string, kinds ...error) *APIError {
	e := &APIError{
		Method: r.method, Address: c.address, Path: c.shownPath(r), StatusCode: status,
		Message: redact.Cut(c.clean(r, text), maxMessage), kinds: kinds,
	}
	for kind, errs := range meanings {
		if len(kinds) > 0 && kinds[0] == errs[0] {
			e.hint = meaning.Hint(kind, meaning.Facts{Name: r.name, ACL: r.acl, Since: r.since, Identity: c.sendsIdentity(r)})
		}
	}
	if file := c.settings.TokenFile; file != nil && e.Is(ErrPermissionDenied) {
		if problem := file.Problem(); problem != "" {
			e.hint = strings.TrimPrefix(e.hint+"; the token file cannot be used: "+problem, "; ")
		}
	}
	return e
}

// meanings are the errors of each meaning of a response.
var meanings = map[meaning.Kind][]error{
	meaning.ServerOnly:       {ErrServerOnly},
	meaning.ClientOnly:       {ErrClientOnly},
	meaning.InvalidToken:     {ErrInvalidToken, ErrPermissionDenied},
	meaning.PermissionDenied: {ErrPermissionDenied},
	meaning.NoLeader:         {ErrNoLeader},
	meaning.TooManyRequests:  {ErrTooManyRequests},
	meaning.Unsupported:      {ErrUnsupported},
	meaning.NotFound:         {ErrNotFound},
	meaning.InvalidArgument:  {ErrInvalidArgument},
	meaning.SchemeMismatch:   {http.ErrSchemeMismatch},
}

// classify returns the meaning of a response that reports a failure.
func (c *Client) classify(r *request, status int, text string, cut bool) []error {
	return meanings[meaning.Of(meaning.Response{
		Role: string(r.role), Status: status, Body: text, Cut: cut, Identity: c.sendsIdentity(r),
	})]
}

// sendsIdentity reports whether the token of a request is a workload identity, which is a JWT. Agents accept one in either
// header.
func (c *Client) sendsIdentity(r *request) bool {
	token := r.token
	if scheme, bearer, _ := strings.Cut(c.settings.Header.Get("Authorization"), " "); token == "" && strings.EqualFold(scheme, "Bearer") {
		token = bearer
	}
	return strings.Count(token, ".") == 2
}

// maxErrorText is how many bytes of another error's message an error has.
const maxErrorText = 2 << 10

// clean returns text from the network on one printable line, without the secrets of the request.
func (c *Client) clean(r *request, text string) string {
	text = c.secrets(r).Remove(redact.Line(c.cut(r, text), maxErrorBody))
	if r.keys {
		text = redact.GossipKeys(text)
	}
	return redact.Cut(text, maxErrorText)
}

// cut shortens a text that is too long to be read for secrets.
func (c *Client) cut(r *request, text string) string {
	if len(text) <= maxErrorBody {
		return text
	}
	return c.secrets(r).RemoveCut(text[:maxErrorBody])
}

// secrets returns what must not appear in an error.
func (c *Client) secrets(r *request) redact.Secrets {
	secrets := append(c.settings.Secrets(), r.token, r.secret)
	return redact.New(slices.Concat(secrets, r.refused, header.Secrets(r.header))...)
}

// shownPath returns the path of a request. Only that of Do may have a secret in it.
func (c *Client) shownPath(r *request) string {
	if r.name == "Do" {
		return c.secrets(r).Remove(r.path)
	}
	return r.path
}

// requestError adds the request to an error, unless it has it.
func (c *Client) requestError(r *request, err error) error {
	if _, ok := err.(*APIError); ok || redact.IsError(err) {
		return err
	}
	cleaned := c.clean(r, err.Error())
	text := fmt.Sprintf("nomad: %s %s%s: %s", r.method, c.address, c.shownPath(r), strings.TrimPrefix(cleaned, "nomad: "))
	return redact.Error(text, cleaned, err)
}

// sendError gives an error of the transport its meaning.
func sendError(ctx context.Context, err error) error {
	var protocol *agentconn.ProtocolError
	var dial *agentconn.DialError
	switch {
	case errors.Is(err, agentconn.ErrFull):
		err = fmt.Errorf("%w: %w", ErrTooManyRequests, agentconn.ErrFull)
		if ctx.Err() != nil {
			return &deadline.Error{Cause: context.Cause(ctx), Last: err}
		}
	case errors.Is(err, agentconn.ErrNoResponse) && ctx.Err() != nil:
		return &deadline.Error{Cause: context.Cause(ctx), Last: agentconn.ErrNoResponse}
	case errors.As(err, &protocol) && protocol.TooLarge:
		return fmt.Errorf("%w: its headers: %w", ErrResponseTooLarge, err)
	case errors.As(err, &protocol):
		return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	case errors.As(err, &dial) && dial.Err == http.ErrSchemeMismatch, agentconn.IsPlainHTTP(err):
		return fmt.Errorf("%w: this agent requires an http:// address", http.ErrSchemeMismatch)
	}
	return err
}

// invalidArgument refuses an argument before a request is sent.
func invalidArgument(call, format string, args ...any) error {
	return &argumentError{text: "nomad: " + call + ": " + fmt.Sprintf(format, args...)}
}

// cleanArgument removes the Client's secrets from an error of invalidArgument, such as a token in the path of a request.
func (c *Client) cleanArgument(err error) error {
	secrets := c.settings.Secrets()
	if file := c.settings.TokenFile; file != nil {
		secrets = append(secrets, file.Last())
	}
	return &argumentError{redact.New(secrets...).Remove(err.Error())}
}

type argumentError struct{ text string }

func (e *argumentError) Error() string        { return e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
