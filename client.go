package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nomad-go/nomad/internal/deadline"
	"github.com/nomad-go/nomad/internal/meaning"
	"github.com/nomad-go/nomad/internal/retry"
	"github.com/nomad-go/nomad/internal/settings"
	"github.com/nomad-go/nomad/internal/transport"
)

// Client sends requests to one Nomad agent. Create it with [NewClient] and close it when it is no longer needed.
//
// It is safe for concurrent use and does not change once it is created, so one Client for each agent is enough.
type Client struct {
	// Agent has the methods for /v1/agent.
	Agent *Agent

	// Status has the methods for /v1/status.
	Status *Status

	address   string // for errors and logs
	base      url.URL
	settings  *settings.Settings
	transport *transport.Client
	budgets   *retry.Budgets    // of the retries of each agent, shared with other Clients as the transport is
	budget    retry.AgentBudget // of this agent's retries
	shared    bool              // another Client closes the transport
}

// NewClient creates a Client. Without options it uses the agent at DefaultAddress.
//
// It reads the files that options name and does nothing on the network, so it succeeds whether or not the agent is up.
// The error is an ErrInvalidArgument and names every option that cannot be used.
func NewClient(opts ...Option) (*Client, error) {
	s, errs := settings.New(settings.Defaults{Timeout: DefaultTimeout, MaxConns: DefaultMaxConns, Retries: DefaultRetries}, opts)
	if errs != nil {
		return nil, optionErrors(errs)
	}
	t, err := s.Transport(ErrClosed, ErrRedirect, ErrUnsupported)
	if err != nil {
		return nil, optionErrors([]error{err})
	}
	return newClient(s, t, new(retry.Budgets)), nil
}

func newClient(s *settings.Settings, t *transport.Client, budgets *retry.Budgets) *Client {
	c := &Client{address: s.Address.String(), base: s.Address.Base(), settings: s, transport: t, budgets: budgets}
	c.budget = budgets.Of(s.Address.Key())
	c.Agent, c.Status = &Agent{c}, &Status{c}
	return c
}

// With creates a Client that is like c except for the given options, such as another token, region, namespace, time
// limit or agent's address. It shares the connections of c and, for the same agent, the limit on their number and the
// budget of retries. It is cheap and needs no Close.
//
// Options that take effect when connections are made are refused with ErrInvalidArgument: WithTLS, WithTLSConfig,
// WithHTTPClient, WithTransport, WithMaxConns, FromEnvironment where it finds TLS variables, and an address with
// another unix socket, or with one in place of a host or the reverse.
func (c *Client) With(opts ...Option) (*Client, error) {
	s, errs := settings.With(c.settings, opts)
	if errs != nil {
		return nil, optionErrors(errs)
	}
	derived := newClient(s, c.transport, c.budgets)
	derived.shared = true
	return derived, nil
}

// Close closes idle connections. Requests in progress and open streams continue. New requests fail with ErrClosed, also
// those of Clients from With. On a Client from With, Close does nothing. It can be called again. The error is always
// nil.
func (c *Client) Close() error {
	if !c.shared {
		c.transport.Close()
	}
	return nil
}

// String returns the address of the agent, as in nomad.Client(http://127.0.0.1:4646).
func (c *Client) String() string { return "nomad.Client(" + c.address + ")" }

// Format prints what String returns, whatever the verb, so that no secret of the Client is printed.
func (c Client) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// addressOf returns the address of a Client for printing. The zero Agent and Status have no Client.
func addressOf(c *Client) string {
	if c == nil {
		return ""
	}
	return c.address
}

// Address returns the address of the agent, such as http://127.0.0.1:4646 or unix:///path/to/socket.
func (c *Client) Address() string { return c.address }

// Do sends a request to any endpoint of Nomad's API, decodes the response's JSON as encoding/json does, and stores the
// result in out. It decodes into a new value, which replaces what out held. A *[]byte receives the body as it is. If
// out is nil, the body is dropped. A successful response with an HTML page, such as a proxy's, is ErrInvalidResponse,
// unless out is a *[]byte: it may be a file or a log of an allocation.
//
//	var jobs []Job
//	_, err := client.Do(ctx, &nomad.Request{Path: "/v1/jobs"}, &jobs)
//
// The time limit and the errors are those of the other methods. WithRetries describes which requests are retried. A
// response can have 64 MiB (WithMaxResponseSize). JSON with more than 16,384 values is ErrInvalidResponse if it has
// more than one value in 3 bytes on average. JSON with more than 16,384 objects is ErrInvalidResponse if it has more
// than one object in 32 bytes on average. Such documents take much memory.
//
// If req or out cannot be used, the error is ErrInvalidArgument and nothing is sent. If there is an error, the Response
// is nil and out is not changed. There is one exception: the endpoint of autopilot's health reports an unhealthy
// cluster with status 429 and a document. Do then decodes the document into out, and returns the Response together with
// an APIError. That error does not match ErrTooManyRequests, and the request is not retried.
func (c *Client) Do(ctx context.Context, req *Request, out any) (*Response, error) {
	if err := checkOut(out); err != nil {
		return nil, err
	}
	r, err := req.newRequest()
	if err != nil {
		return nil, c.cleanArgument(err)
	}
	res, err := c.do(ctx, r, out)
	if err != nil {
		return nil, err
	}
	return &Response{StatusCode: res.status, Header: res.header}, res.documentError
}

// get sends a request and returns its response as a T.
func get[T any](ctx context.Context, c *Client, r *request) (*T, error) {
	out := new(T)
	if _, err := c.do(ctx, r, out); err != nil {
		return nil, err
	}
	return out, nil
}

// do sends a request and decodes its response into out, within the time limit. The stations of a request:
//
//	newHTTPRequest    builds the http.Request
//	send              retries it where that is safe and helps
//	attempt           sends it once: http.Client, the user's wrappers, agentconn
//	readResponse      limits and decompresses the body
//	failure           gives a response that reports a failure its meaning
//	decodeResponse    decodes the body and checks the result
func (c *Client) do(ctx context.Context, r *request, out any) (*response, error) {
	limit := c.settings.Timeout + r.wait
	caller := ctx
	ctx, cancel := context.WithDeadline(ctx, cmp.Or(r.deadline, time.Now().Add(limit)))
	defer cancel()
	res, err := c.send(ctx, r)
	if err == nil {
		defer res.release()
		switch {
		case r.hasDocument(res):
			if err = c.decodeResponse(ctx, r, res, out); err == nil {
				res.documentError = c.apiError(r, res.status, res.body.String())
			} else if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
				err = c.failure(r, res)
			}
		case res.status > 299:
			err = c.failure(r, res)
		case res.status < 200, res.status == http.StatusPartialContent:
			err = c.invalidResponse(r, res, errors.New("want status 200"))
		default:
			err = c.decodeResponse(ctx, r, res, out)
		}
	}
	if err != nil {
		return nil, c.requestError(r, deadline.Explain(ctx, caller, limit, err))
	}
	return res, nil
}

// send sends a request until it has a response to return, or retries are not allowed, used up or too late.
func (c *Client) send(ctx context.Context, r *request) (res *response, err error) {
	if c.transport.IsClosed() {
		return nil, ErrClosed
	}
	if r.token, err = c.settings.CurrentToken(ctx); err != nil {
		return nil, &deadline.Error{Cause: err, Last: errTokenFile}
	}
	retries := retry.Loop{Retries: c.settings.Retries, Budget: c.budget, Deadline: r.deadline}
	if r.reader != nil {
		retries.Retries = 0
	}
	attempts := 0
	attempt := func() {
		attempts++
		res.release()
		res, err = c.attempt(ctx, r, attempts)
	}
	ended := retries.Run(ctx, func() retry.Attempt {
		for again := true; again; {
			if attempt(); err != nil {
				break
			}
			again, err = c.replaceToken(ctx, r, res)
		}
		if err != nil {
			return retry.Attempt{Err: err, Idempotent: r.idempotent, NewCertificates: c.settings.CertificatesChanged()}
		}
		return retry.Attempt{Status: res.status, Header: res.header, Idempotent: r.idempotent, Final: r.hasDocument(res)}
	})
	if ended == nil {
		return res, err
	}
	if err == nil {
		err = c.failure(r, res)
		res.release()
	}
	return nil, &deadline.Error{Cause: ended, Last: err}
}

// hasDocument reports whether the response to a request has the endpoint's document in spite of its status.
func (r *request) hasDocument(res *response) bool {
	if r.document == 0 || res.status != r.document {
		return false
	}
	if res.health == nil { // decoding a large document takes time
		has := checkDensity(res.body.Bytes(), anyBytesPerValue, anyBytesPerObject) == nil && meaning.HasHealth(res.body.Bytes())
		res.health = &has
	}
	return *res.health
}

// The last errors of a request that ended while it waited for the file with the token: the first time, and after the
// agent refused the token.
var (
	errTokenFile  = errors.New("the file with the token could not be read in time")
	errTokenAgain = errors.New("the agent refused the token, and its file could not be read again in time")
)

// maxReplaced is how many times a request is sent again with another token.
const maxReplaced = 2

// replaceToken reads the token file again if the agent refused the token, and reports whether another token is there to
// try, which the agent has not refused for this request. If ctx ends first it releases the response and returns an error.
func (c *Client) replaceToken(ctx context.Context, r *request, res *response) (again bool, err error) {
	file := c.settings.TokenFile
	if file == nil || r.reader != nil || res.status < 400 || !c.failure(r, res).Is(ErrPermissionDenied) {
		return false, nil
	}
	r.refused = append(r.refused, r.token)
	if len(r.refused) > maxReplaced {
		return false, nil
	}
	token, err := file.Reread(ctx)
	if err != nil {
		res.release()
		return false, &deadline.Error{Cause: err, Last: errTokenAgain}
	}
	if slices.Contains(r.refused, token) {
		return false, nil
	}
	r.token = token
	return true, nil
}

// attempt sends a request once and reads the response.
func (c *Client) attempt(ctx context.Context, r *request, n int) (*response, error) {
	started := time.Now()
	res, err := c.exchange(ctx, r)
	if c.settings.Logger.Enabled(ctx, slog.LevelDebug) {
		attempt := settings.Attempt{Method: r.method, URL: c.address + c.shownPath(r), Number: n, Started: started}
		if res != nil {
			attempt.Status = res.status
		}
		if err != nil {
			attempt.Err = c.clean(r, err.Error())
		}
		attempt.Log(ctx, c.settings.Logger)
	}
	return res, err
}

// exchange sends a request over the http.Client and reads the response.
func (c *Client) exchange(ctx context.Context, r *request) (*response, error) {
	req, err := c.newHTTPRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	res, err := c.transport.Do(req)
	if err != nil {
		return nil, sendError(ctx, err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		res.Body.Close() // it is the connection, which does not end with the context
		return nil, fmt.Errorf("%w: it switches to another protocol (status 101)", ErrInvalidResponse)
	}
	return c.readResponse(ctx, r, res)
}

// HTTPClient returns an http.Client that sends requests over the connections of this Client. It is for code that makes
// its own requests, such as Nomad's official client:
//
//	api.NewClient(&api.Config{Address: c.Address(), HttpClient: c.HTTPClient()})
//
// The official client then needs few connections to each agent, so the agent seldom refuses one.
//
// Requests are sent as they are, with these exceptions. If a request to the Client's address (scheme, host, port and
// path) has no token, it gets the Client's token (WithToken, WithTokenFile). Requests to other addresses do not.
// Accept-Encoding is removed unless WithCompression is enabled, because agents respond much faster without compression.
// If the agent refuses a connection because it has too many, the request waits and is sent again, even with
// WithRetries(0). WithRetries describes when. A GET, a HEAD and a request with the header Idempotency-Key are
// idempotent here. A request that has a body but no GetBody is sent once. If the agent refuses the token, the request
// is not sent again. The wrappers of WithTransport see the requests. WithHeader, WithBasicAuth, WithUserAgent,
// WithRegion, WithNamespace and WithLogger have no effect.
//
// The Client's rule for redirects and its limit on the size of headers apply. A redirect to an address that contains the
// token is ErrRedirect too. The Client's time limit, its retries and its limit on the size of a body do not apply: a
// request ends with its own context. A body must be closed, as with any http.Client. After Close, requests fail with
// ErrClosed.
func (c *Client) HTTPClient() *http.Client {
	return c.transport.Lend(transport.Loan{
		Base: c.base, Socket: c.settings.Address.Socket != "", Compression: c.settings.Compression, Token: c.settings.CurrentToken,
	})
}
