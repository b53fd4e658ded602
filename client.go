package nomad

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/retry"
)

// Client calls one Nomad agent. Make it with NewClient. It is safe for use by any number of goroutines, and does not
// change once it is made: share one, and close it when the program has no more calls to make.
type Client struct {
	// Agent makes the calls of /v1/agent.
	Agent *Agent

	address  string // for errors and logs
	common   *common
	settings *settings
	pool     *pool
	budget   *retry.Budget // of this agent's retries
	shared   bool          // the pool is another Client's to close
}

// NewClient makes a Client. Without options it calls the agent at DefaultAddress. It reads the files that options name
// and does nothing on the network, so that it succeeds whether or not the agent is up. Its error names every option
// that cannot be used, and is an ErrInvalidArgument.
func NewClient(opts ...Option) (*Client, error) {
	s := defaultSettings()
	if err := s.apply(opts); err != nil {
		return nil, err
	}
	if s.httpClient != nil {
		if s.address.socket != "" {
			s.reconnects = append(s.reconnects, "a unix address")
		}
		for _, name := range s.reconnects {
			if name != "WithHTTPClient" && name != "WithTransport" {
				return nil, optionErrors([]error{fmt.Errorf("WithHTTPClient: it cannot be combined with %s", name)})
			}
		}
	}
	p, err := newPool(s)
	if err != nil {
		return nil, optionErrors([]error{err})
	}
	return newClient(s, p), nil
}

// common is what all requests of a Client have in common.
type common struct {
	base   url.URL     // that paths are appended to
	header http.Header // its values are shared
}

func newClient(s *settings, p *pool) *Client {
	a := s.address
	if a.scheme == "" {
		a.scheme = "http"
		if s.tls != nil || s.tlsConfig != nil {
			a.scheme = "https"
		}
	}
	c := &Client{address: a.String(), common: &common{a.base(), s.requestHeader()}, settings: s, pool: p, budget: new(retry.Budget)}
	c.Agent = &Agent{c}
	return c
}

// With makes a Client that differs in the given options and shares the connections of this one: another token,
// region, time limit, or another agent's address. Options that take effect when connections are made cannot be
// given here: WithTLS, WithTLSConfig, WithHTTPClient, WithTransport, WithMaxConns, FromEnvironment where it finds TLS
// variables, and a change to or from a unix socket. It is cheap, and reads no file but that of WithTokenFile. Closing the
// new Client is not needed and does nothing.
func (c *Client) With(opts ...Option) (*Client, error) {
	s := c.settings.clone()
	if err := s.apply(opts); err != nil {
		return nil, err
	}
	if s.address.socket != c.settings.address.socket {
		s.reconnects = append(s.reconnects, "WithAddress to or from a unix socket")
	}
	if len(s.reconnects) > 0 {
		return nil, optionErrors([]error{fmt.Errorf("%s: it takes effect when connections are made: use NewClient",
			s.reconnects[0])})
	}
	return c.derive(s), nil
}

// derive makes a Client with other settings and the same connections. It has the same budget for the same agent.
func (c *Client) derive(s *settings) *Client {
	derived := newClient(s, c.pool)
	derived.shared = true
	if derived.address == c.address {
		derived.budget = c.budget
	}
	return derived
}

// Close closes the idle connections. Calls under way go on to their end; new ones, by this Client and those made from
// it, fail with ErrClosed. On a Client that With made it does nothing. It can be called again. The error is always nil.
func (c *Client) Close() error {
	if !c.shared {
		c.pool.close()
	}
	return nil
}

// String names the agent that the Client calls.
func (c *Client) String() string { return "nomad.Client(" + c.address + ")" }

// Format prints what String gives, whatever the verb, so that no secret of the Client is ever printed.
func (c Client) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// endpoint is what is known about a call before it is made.
type endpoint struct {
	name   string // of the call, such as ForceLeave
	method string
	path   string
	role   Role   // that the agent must have, if it must
	acl    string // that the token must have, if it must
	since  string // the Nomad version that has it, where an agent of interest may be older
	large  bool   // its answer grows with the cluster
	keys   bool   // its answer can have gossip keys in it
	any    bool   // Call makes it
}

// endpoints are all that this package has a typed call for.
var endpoints = []*endpoint{
	&membersEndpoint, &serversEndpoint, &selfEndpoint, &updateServersEndpoint, &joinEndpoint, &forceLeaveEndpoint,
	&healthEndpoint, &hostEndpoint, &monitorEndpoint, &monitorExportEndpoint, &profileEndpoint, &schedulersEndpoint,
	&schedulerConfigEndpoint, &updateSchedulerConfigEndpoint, &listKeysEndpoint, &installKeyEndpoint, &useKeyEndpoint,
	&removeKeyEndpoint, &reloadEndpoint,
}

// request is one call.
type request struct {
	*endpoint
	path       string // escaped, below the Client's address
	query      url.Values
	body       []byte
	token      string // the ACL token to send
	refused    string // the one that was sent before, from WithTokenFile
	secret     string // in the body, to keep out of errors
	idempotent bool
	stream     bool      // the answer is read as it comes
	deadline   time.Time // of a stream's beginning
}

// to makes a request to an endpoint. All of the agent's are idempotent.
func (ep *endpoint) to(query url.Values) *request {
	return &request{endpoint: ep, path: ep.path, query: query, idempotent: true}
}

// with makes a request with a JSON body to an endpoint.
func (ep *endpoint) with(body any) (*request, error) {
	encoded, err := jsonv2.Marshal(body)
	if err != nil {
		return nil, invalidArgument(ep.name, "the body cannot be written as JSON: %v", err)
	}
	r := ep.to(nil)
	r.body = encoded
	return r, nil
}

// Call makes any call of Nomad's API, for endpoints that have no method here. The path starts with a slash and is
// escaped as in a URL, such as /v1/job/web%2Ffront; query may be nil. A non-nil in is sent as JSON, as encoding/json
// writes it. The answer's JSON is decoded into out, as encoding/json reads it; a *[]byte gets the body as it is, and a
// nil out drops it unread, so that only the status tells whether the call succeeded.
//
// Limits, retries and errors are those of every other call, except that a method other than GET and HEAD is tried
// again only when the agent was not reached or refused it with 429. A 429 with a JSON body is taken for an answer, as the
// autopilot health endpoint gives it, and not for a refusal. Blocking queries must end within the time limit.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if !isHeaderName(method) {
		return invalidArgument("Call", "%q is not an HTTP method", method)
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if target := reflect.ValueOf(out); out != nil && (target.Kind() != reflect.Pointer || target.IsNil()) {
		return invalidArgument("Call", "out is %T: want a pointer to decode into, or nil", out)
	}
	method = strings.ToUpper(method)
	r := &request{
		endpoint:   &endpoint{method: method, large: true, any: true},
		path:       path,
		query:      query,
		idempotent: method == http.MethodGet || method == http.MethodHead,
	}
	for _, known := range endpoints {
		if known.path == path && (known.method == method || r.role == "") {
			r.endpoint = &endpoint{method: method, role: known.role, since: known.since, name: known.name, large: true, keys: known.keys, any: true}
		}
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return &argumentError{text: "nomad: Call: the body cannot be written as JSON: " + err.Error()}
		}
		r.body = body
	}
	return c.do(ctx, r, func(ctx context.Context, a *answer) error {
		switch out := out.(type) {
		case nil:
			return nil
		case *[]byte:
			*out = bytes.Clone(a.body.Bytes())
			return nil
		}
		if err := isJSONValue(a.body.Bytes()); err != nil {
			return c.invalidResponse(r, a, err)
		}
		if err := json.Unmarshal(a.body.Bytes(), out); err != nil {
			return c.invalidResponse(r, a, err)
		}
		return nil
	})
}

// checkPath refuses paths that would reach something else than they say.
func checkPath(path string) error {
	u, err := url.ParseRequestURI(path)
	switch {
	case err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return invalidArgument("Call", "%q is not a path: want one such as /v1/jobs", path)
	case strings.ContainsAny(path, "?#"):
		return invalidArgument("Call", "%q has a query or fragment in it: the query is an argument of its own", path)
	case slices.Contains(strings.Split(u.Path, "/"), ".."), slices.Contains(strings.Split(u.Path, "/"), "."):
		return invalidArgument("Call", "%q has . or .. in it", path)
	}
	return nil
}

// answer is an answer whose body was read. The body belongs to a pool: release it when it is decoded.
type answer struct {
	status  int
	header  http.Header
	body    *bytes.Buffer
	live    io.ReadCloser // in place of body: the answer to a stream's request
	partial bool          // the body is not all that was sent; only where the status reports a failure
	limited io.LimitedReader
}

// buffers holds the bodies of answers while they are decoded.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer is the largest body whose buffer is kept.
const maxPooledBuffer = 1 << 20

func (a *answer) release() {
	if a != nil && a.body != nil && a.body.Cap() <= maxPooledBuffer {
		a.body.Reset()
		buffers.Put(a.body)
	}
}

// do sends a request and hands the answer to use if it reports success.
func (c *Client) do(ctx context.Context, r *request, use func(context.Context, *answer) error) error {
	return c.doAny(ctx, r, func(ctx context.Context, a *answer) error {
		switch {
		case a.status < 200, a.status == http.StatusPartialContent:
			return c.invalidResponse(r, a, errors.New("want status 200"))
		case a.status > 299:
			return c.failure(r, a)
		}
		return use(ctx, a)
	})
}

// doAny sends a request, again where that is safe and helps, and hands the answer to use, whatever its status. All of it
// happens within one time limit.
func (c *Client) doAny(ctx context.Context, r *request, use func(context.Context, *answer) error) error {
	if err := c.ready(ctx, r); err != nil {
		return err
	}
	caller := ctx
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > c.settings.timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.settings.timeout)
		defer cancel()
	}
	a, err := c.send(ctx, r)
	if err == nil {
		defer a.release()
		if err = use(ctx, a); err == nil {
			return nil
		}
	}
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) || timedOut(err)) {
		err = c.timeError(caller, c.settings.timeout, err)
	}
	return c.callError(r, err)
}

// ready reports what keeps a request from being sent at all.
func (c *Client) ready(ctx context.Context, r *request) error {
	switch {
	case ctx == nil:
		return invalidArgument(cmp.Or(r.name, "Call"), "the context is nil")
	case c.pool.closed.Load():
		return c.callError(r, ErrClosed)
	}
	return nil
}

// send sends a request until there is a response to return, the retries are used up or the time is over.
func (c *Client) send(ctx context.Context, r *request) (*answer, error) {
	var err error
	if r.token, err = c.token(ctx); err != nil {
		return nil, err
	}
	retries := 0
	for n := 1; ; n++ {
		a, err := c.try(ctx, r, n)
		if file := c.settings.tokenFile; file != nil && r.refused == "" && err == nil && a.status >= 400 && errors.Is(c.failure(r, a), ErrPermissionDenied) {
			r.refused = r.token
			if token, changed, err := file.Reread(ctx, r.token); err == nil && changed {
				r.token = token
				a.release()
				continue
			}
		}
		attempt := retry.Attempt{Err: err, Idempotent: r.idempotent}
		if err == nil {
			attempt.Status, attempt.Header = a.status, a.header
		}
		switch {
		case c.settings.retries == 0, !attempt.MayRepeat(), err == nil && r.isDocument(a):
			if err == nil {
				c.budget.Earn()
			}
			return a, err
		case retries == c.settings.retries, !c.budget.Take():
			return a, err
		}
		retries++
		wait := attempt.Wait(retries)
		if r.stream && time.Until(r.deadline) < wait {
			return a, err
		}
		if !retry.Sleep(ctx, wait) {
			if ctx.Err() == nil {
				return a, err // the response is worth more than to wait for the end of the time
			}
			if err == nil {
				err = c.failure(r, a)
				a.release()
			}
			return nil, &waitError{context.Cause(ctx), err}
		}
		a.release()
	}
}

// isDocument reports whether a 429 is the document that was asked for, as at the autopilot health endpoint.
func (r *request) isDocument(a *answer) bool {
	return r.any && a.status == http.StatusTooManyRequests && isJSON(a.header)
}

// timedOut reports whether a time limit of the transport was reached.
func timedOut(err error) bool {
	var limit net.Error
	return errors.As(err, &limit) && limit.Timeout()
}

// timeError says whose patience ended. What is known of an earlier try is kept.
func (c *Client) timeError(caller context.Context, limit time.Duration, last error) error {
	ended := fmt.Errorf("no answer within %v: %w", limit, context.DeadlineExceeded)
	if caller.Err() != nil {
		ended = caller.Err()
		if cause := context.Cause(caller); cause != ended {
			ended = fmt.Errorf("%w: %w", ended, cause)
		}
	}
	if waited := (*waitError)(nil); errors.As(last, &waited) {
		return fmt.Errorf("%w (%w)", ended, waited.last)
	}
	return ended
}

// waitError is a wait between two tries that the context ended.
type waitError struct{ cause, last error }

func (e *waitError) Error() string   { return e.cause.Error() }
func (e *waitError) Unwrap() []error { return []error{e.cause, e.last} }

// try sends a request once and reads the whole answer.
func (c *Client) try(ctx context.Context, r *request, n int) (*answer, error) {
	started := time.Now()
	a, err := c.exchange(ctx, r)
	if logger := c.settings.logger; logger.Enabled(ctx, slog.LevelDebug) {
		attrs := []slog.Attr{
			slog.String("method", r.method),
			slog.String("url", c.address+r.path),
			slog.Int("attempt", n),
			slog.Duration("duration", time.Since(started)),
		}
		if a != nil {
			attrs = append(attrs, slog.Int("status", a.status))
		}
		if err != nil {
			attrs = append(attrs, slog.String("error", c.clean(r, err.Error(), maxErrorText)))
		}
		logger.LogAttrs(ctx, slog.LevelDebug, "nomad call", attrs...)
	}
	return a, err
}

// exchange sends a request and reads the answer.
func (c *Client) exchange(ctx context.Context, r *request) (*answer, error) {
	res, err := c.roundTrip(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.stream && res.StatusCode == http.StatusOK {
		return &answer{status: res.StatusCode, header: res.Header, live: res.Body}, nil
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header, body: buffers.Get().(*bytes.Buffer)}
	failed := a.status >= 400
	limit := c.settings.maxResponseSize
	switch {
	case failed:
		limit = min(limit, maxErrorBody)
	case !r.large:
		limit = min(limit, maxSmallBody)
	}
	if r.method != http.MethodHead {
		err = a.read(res, limit, failed)
	}
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case failed:
		a.partial = true
		return a, nil // the status says more than what is wrong with the text to it
	}
	a.release()
	return nil, err
}

const (
	maxErrorBody = 64 << 10 // what is read of an answer that reports a failure
	maxSmallBody = 4 << 20  // an answer that does not grow with the cluster
)

// roundTrip sends a request and returns when the head of the answer is here.
func (c *Client) roundTrip(ctx context.Context, r *request) (*http.Response, error) {
	s := c.settings
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	mark := s.mark | agentconn.Bound
	if s.retries == 0 {
		mark |= agentconn.Once
	}
	if r.stream || isBlocking(r.query) {
		mark |= agentconn.Slow
	}
	req, err := http.NewRequestWithContext(agentconn.WithMark(ctx, mark), r.method, "", body)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if err := c.target(req.URL, r); err != nil {
		return nil, err
	}
	req.Host = c.common.base.Host
	req.Header = make(http.Header, len(c.common.header)+2)
	maps.Copy(req.Header, c.common.header)
	if r.body != nil {
		req.Header["Content-Type"] = jsonContent
	}
	if r.idempotent && s.retries > 0 {
		req.Header["Idempotency-Key"] = nil // for the transport: it is not sent
	}
	if r.token != s.token {
		req.Header["X-Nomad-Token"] = []string{r.token}
	}
	res, err := c.pool.http.Do(req)
	if err != nil {
		if err = unwrapURL(err); c.pool.conns == nil && ctx.Err() == nil {
			err = agentconn.Classify(err)
		}
		return nil, transportError(ctx, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close() // it is the connection, which does not end with the context
		return nil, fmt.Errorf("%w: it switches to another protocol (status 101)", ErrInvalidResponse)
	}
	return res, nil
}

// isBlocking reports whether a query is one that the agent answers when something has changed.
func isBlocking(query url.Values) bool { return query.Get("index") != "" }

var jsonContent = []string{"application/json"}

// target sets the URL of a request.
func (c *Client) target(u *url.URL, r *request) error {
	*u = c.common.base
	escaped := u.EscapedPath() + r.path
	u.Path, u.RawPath = escaped, ""
	if strings.Contains(escaped, "%") {
		path, err := url.PathUnescape(escaped)
		if err != nil {
			return err
		}
		u.Path, u.RawPath = path, escapeRest(escaped)
	}
	query := r.query
	if region := c.settings.region; region != "" && !query.Has("region") {
		query = cloneQuery(query)
		query.Set("region", region)
	}
	u.RawQuery = query.Encode()
	return nil
}

// read reads the body, decompressed, up to limit. Of an answer that reports a failure it reads the beginning of one that
// is longer.
func (a *answer) read(res *http.Response, limit int64, failed bool) error {
	if n := res.ContentLength; n > limit && !failed {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrResponseTooLarge, n, limit)
	} else if n > 0 {
		a.body.Grow(int(min(n, maxPooledBuffer)) + bytes.MinRead)
	}
	body := io.Reader(res.Body)
	encoding, err := contentEncoding(res.Header)
	if err != nil {
		return err
	}
	if encoding == "gzip" {
		raw := bufio.NewReader(res.Body)
		if _, err := raw.Peek(1); err == io.EOF {
			return nil
		}
		unzipped, err := gzip.NewReader(raw)
		if err != nil {
			return fmt.Errorf("%w: it says that it is gzip: %w", ErrInvalidResponse, noEOF(err))
		}
		body = unzipped
	}
	a.limited = io.LimitedReader{R: body, N: limit + 1}
	n, err := a.body.ReadFrom(&a.limited)
	switch {
	case n > limit:
		a.body.Truncate(int(limit))
		return fmt.Errorf("%w: the limit is %d bytes", ErrResponseTooLarge, limit)
	case err != nil:
		return fmt.Errorf("%w: it ended after %d bytes: %w", ErrInvalidResponse, n, err)
	}
	return nil
}

// contentEncoding is how a body is compressed: gzip or not at all.
func contentEncoding(h http.Header) (string, error) {
	encoding := strings.Join(h.Values("Content-Encoding"), ",")
	switch strings.ToLower(encoding) {
	case "", "identity":
		return "", nil
	case "gzip":
		return "gzip", nil
	default:
		return "", fmt.Errorf("%w: its encoding is %q, want gzip or none", ErrInvalidResponse, encoding)
	}
}

// noEOF says that the end came unexpectedly, where io.EOF would read as if all was well.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unwrapURL takes the cause out of what the http package reports. Its wrapping repeats method and URL, and the URL
// has the query in it.
func unwrapURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

func cloneQuery(query url.Values) url.Values {
	clone := make(url.Values, len(query)+1)
	for name, values := range query {
		clone[name] = values
	}
	return clone
}
