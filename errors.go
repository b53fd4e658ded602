package nomad

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/nomad-go/nomad/internal/agentconn"
)

// The errors that a program can act on. They are matched with errors.Is, and they go by the meaning of an answer,
// not by its status: Nomad reports the same fault with different statuses on different endpoints and versions.
var (
	// ErrInvalidArgument reports an argument that was refused, here before anything was sent or by the agent
	// (status 400). Trying again helps only when what the argument names has changed.
	ErrInvalidArgument = errors.New("nomad: invalid argument")

	// ErrPermissionDenied reports that the ACL token, or the lack of one, does not allow the call, or that a proxy
	// in front of the agent wants to know who calls (status 401). Agents since
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

	// ErrTooManyRequests reports that the agent still had no connection free for this address when the time was over, or
	// that a proxy before it still refused the call (status 429) when all retries were used.
	ErrTooManyRequests = errors.New("nomad: too many requests")

	// ErrUnsupported reports an endpoint that the agent does not have (404 with an empty body): its version is
	// older than the call.
	ErrUnsupported = errors.New("nomad: not supported by this agent's version")

	// ErrUnhealthy reports that an agent said of itself that it is unhealthy.
	ErrUnhealthy = errors.New("nomad: the agent is unhealthy")

	// ErrJoinFailed reports that no address could be joined. Agents answer this with status 200.
	ErrJoinFailed = errors.New("nomad: join failed")

	// ErrResponseTooLarge reports an answer over the limit of WithMaxResponseSize, or over 4 MiB where it does not grow
	// with the cluster: of all calls but Members, Client.Call and streams.
	ErrResponseTooLarge = errors.New("nomad: response too large")

	// ErrInvalidResponse reports an answer that is not what the endpoint answers: empty, null, cut short, not
	// JSON, of the wrong shape, or followed by something else.
	ErrInvalidResponse = errors.New("nomad: invalid response")

	// ErrRedirect reports a redirect that was not followed, because it leads to another host or port, from https
	// to http, or would turn a PUT into a GET. Nothing was sent to where it leads.
	ErrRedirect = errors.New("nomad: redirect refused")

	// ErrStreamStalled reports a stream on which nothing, not even a heartbeat, has come for 10 s.
	ErrStreamStalled = errors.New("nomad: the stream has stalled")

	// ErrClosed reports a call on a closed Client, or a read from a closed stream.
	ErrClosed = errors.New("nomad: use of a closed client or stream")
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

// Is reports whether target is one of the things that this answer means.
func (e *APIError) Is(target error) bool { return slices.Contains(e.kinds, target) }

// failure makes an error of an answer that reports one.
func (c *Client) failure(r *request, a *answer) *APIError {
	text := a.body.String()
	if a.partial {
		text = c.dropCut(r, text)
	}
	message := c.clean(r, text, maxMessage)
	kinds := classify(r.endpoint, a.status, message)
	if r.isDocument(a) {
		kinds = nil
	}
	if a.partial {
		// That there is no text does not mean that there was none.
		if i := slices.Index(kinds, ErrUnsupported); i >= 0 {
			kinds[i] = ErrNotFound
		}
	}
	return c.apiError(r, a.status, message, kinds...)
}

// apiError makes an error of an answer whose meaning is known. The message is clean.
func (c *Client) apiError(r *request, status int, message string, kinds ...error) *APIError {
	e := &APIError{Method: r.method, Address: c.address, Path: r.path, StatusCode: status, Message: message, kinds: kinds}
	e.hint = hint(r.endpoint, e)
	if file := c.settings.tokenFile; file != nil && e.Is(ErrPermissionDenied) {
		if note := file.Problem(); note != "" {
			e.hint = strings.TrimPrefix(e.hint+"; the token file cannot be used: "+note, "; ")
		}
	}
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
	case status == http.StatusForbidden, status == http.StatusUnauthorized, strings.HasSuffix(message, "Permission denied"):
		return []error{ErrPermissionDenied}
	case says("no cluster leader"):
		return []error{ErrNoLeader}
	case status == http.StatusTooManyRequests:
		return []error{ErrTooManyRequests}
	case status == http.StatusNotFound && message == "":
		return []error{ErrUnsupported}
	case status == http.StatusNotFound, slices.ContainsFunc(notFoundTexts, says):
		return []error{ErrNotFound}
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity, says("illegal base64"):
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
	case e.Is(ErrTooManyRequests) && strings.Contains(e.Message, "too many concurrent connections"):
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

const (
	maxMessage   = 1 << 10 // bytes of an agent's words that are kept in an error
	maxErrorText = 2 << 10 // bytes of another error's text
)

// clean makes one printable line, of at most limit bytes, of what came from the network, without the secrets that the
// request carried, in case that they are repeated.
func (c *Client) clean(r *request, text string, limit int) string {
	// Agents list faults one a line, below a line that counts them.
	if first, faults, ok := strings.Cut(text, "\n"); ok && strings.HasSuffix(first, " occurred:") {
		text = strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(faults), "* "), "\n\t* ", "; ")
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Join(strings.Fields(text), " ")
	for _, secret := range c.secrets(r) {
		text = strings.ReplaceAll(text, secret, "<redacted>")
	}
	if r.keys {
		text = withoutKeys(text)
	}
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + " …"
	}
	return text
}

// withoutKeys takes out what looks like a gossip key.
func withoutKeys(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+/=", r))
	})
	for _, word := range words {
		// A word can have a sign before the key, as in Key=….
		for i := max(0, len(word)-44); i <= len(word)-24; i++ {
			if isKey(word[i:]) {
				text = strings.ReplaceAll(text, word[i:], "<redacted>")
				break
			}
		}
	}
	return text
}

// isKey reports whether a text is the base64 of 16, 24 or 32 bytes, as gossip keys are.
func isKey(text string) bool {
	key, err := base64.StdEncoding.DecodeString(text)
	// The decoder passes over line breaks; agents do not.
	return err == nil && (len(key) == 16 || len(key) == 24 || len(key) == 32) && !strings.ContainsAny(text, "\r\n")
}

// dropCut takes the beginning of a secret from the end of a text that was cut.
func (c *Client) dropCut(r *request, text string) string {
	for _, secret := range c.secrets(r) {
		for n := min(len(secret)-1, len(text)); n > 2; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				return text[:len(text)-n]
			}
		}
	}
	return text
}

// secrets lists what must not appear in an error, in all forms that went over the wire, longest first.
func (c *Client) secrets(r *request) []string {
	s := c.settings
	secrets := []string{s.token, r.token, r.refused, s.password, r.secret}
	if r.secret != "" { // base64, in the forms that it has in URLs and JSON
		secrets = append(secrets, url.QueryEscape(r.secret), url.PathEscape(r.secret), strings.TrimRight(r.secret, "="),
			strings.ReplaceAll(r.secret, "/", `\/`), strings.ReplaceAll(r.secret, "+", `\u002b`),
			strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(r.secret), "="))
	}
	if c.pool.conns != nil && s.address.socket == "" {
		if proxy, _ := http.ProxyFromEnvironment(&http.Request{URL: &c.common.base}); proxy != nil && proxy.User != nil {
			password, _ := proxy.User.Password()
			secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
		}
	}
	if s.user != "" {
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(s.user+":"+s.password)))
	}
	for name, values := range s.header {
		for _, value := range values {
			// A short value of a harmless header would take words out of every message.
			if len(value) >= 6 || name == "Authorization" || name == "Cookie" {
				secrets = append(secrets, value)
			}
			if _, credentials, ok := strings.Cut(value, " "); ok && name == "Authorization" {
				secrets = append(secrets, credentials)
			}
		}
	}
	for _, secret := range secrets { // as package http quotes it
		if quoted := strconv.Quote(secret); len(quoted) > len(secret)+2 {
			secrets = append(secrets, quoted[1:len(quoted)-1])
		}
	}
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return secret == "" })
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return secrets
}

// callFailure is a call that got no answer, or none that can be used. Its text is clean; what it wraps is for errors.Is
// and errors.As.
type callFailure struct {
	text  string
	cause error
}

func (e *callFailure) Error() string              { return e.text }
func (e *callFailure) Unwrap() error              { return e.cause }
func (e *callFailure) Format(f fmt.State, _ rune) { io.WriteString(f, e.text) }

// callError says which call failed, unless the error says so already.
func (c *Client) callError(r *request, err error) error {
	switch err.(type) {
	case *APIError, *callFailure:
		return err
	}
	raw := err.Error()
	cleaned := c.clean(r, raw, maxErrorText)
	if slices.ContainsFunc(c.secrets(r), func(secret string) bool { return strings.Contains(raw, secret) }) {
		err = &sealedError{cleaned, err}
	}
	text := fmt.Sprintf("nomad: %s %s%s: %s", r.method, c.address, r.path, strings.TrimPrefix(cleaned, "nomad: "))
	return &callFailure{text, err}
}

// sealedError is an error whose text has a secret in it. It can be matched, but what prints errors layer by layer does
// not come to the text.
type sealedError struct {
	text  string
	cause error
}

func (e *sealedError) Error() string              { return e.text }
func (e *sealedError) Is(target error) bool       { return errors.Is(e.cause, target) }
func (e *sealedError) As(target any) bool         { return errors.As(e.cause, target) }
func (e *sealedError) Format(f fmt.State, _ rune) { io.WriteString(f, e.text) }

// transportError gives an error of the transport its meaning.
func transportError(ctx context.Context, err error) error {
	text := err.Error()
	var lost *agentconn.LostError
	switch {
	case errors.Is(err, agentconn.ErrFull):
		err = fmt.Errorf("%w: %w", ErrTooManyRequests, agentconn.ErrFull)
		if ctx.Err() != nil {
			return &waitError{context.Cause(ctx), err}
		}
		return err
	case errors.Is(err, agentconn.ErrNoResponse) && ctx.Err() != nil:
		return &waitError{context.Cause(ctx), agentconn.ErrNoResponse}
	case errors.As(err, &lost), errors.Is(err, agentconn.ErrNoResponse), errors.As(err, new(*agentconn.DialError)):
		return err
	case strings.Contains(text, "response headers exceeded"):
		return fmt.Errorf("%w: its head: %w", ErrResponseTooLarge, err)
	case strings.Contains(text, "Location header"):
		return fmt.Errorf("%w: %w", ErrRedirect, err)
	case isMalformed(err), strings.Contains(text, "1xx informational"):
		return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	return err
}

// isMalformed reports whether package http could not make sense of the head of an answer.
func isMalformed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "malformed") || strings.Contains(text, "HTTP/1.x transport connection broken")
}

// invalidArgument refuses an argument of a call before anything is sent.
func invalidArgument(call, format string, args ...any) error {
	return &argumentError{text: "nomad: " + call + ": " + fmt.Sprintf(format, args...)}
}

type argumentError struct{ text string }

func (e *argumentError) Error() string        { return e.text }
func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
