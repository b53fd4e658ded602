package nomad

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/agenturl"
	"github.com/nomad-go/nomad/internal/header"
)

// endpoint describes an endpoint of the API.
type endpoint struct {
	name   string // of the method that calls it
	method string
	path   string
	role   Role                                                  // required role of the agent, if any
	acl    string                                                // required ACL capability, if any
	since  string                                                // the Nomad version that added it, where supported agents may be older
	limit  int64                                                 // default limit of a response in bytes; 0 stands for smallResponse
	keys   bool                                                  // requests and responses can hold gossip keys
	once   bool                                                  // a request that may have reached the agent is not sent again
	decode func(ctx context.Context, body []byte, out any) error // nil stands for decodeJSON
}

// smallResponse is the default limit of a response in bytes.
const smallResponse = 1 << 20

// endpoints are those that have a method.
var endpoints []*endpoint

// register adds an endpoint.
func register(ep endpoint) *endpoint {
	endpoints = append(endpoints, &ep)
	return &ep
}

// request is a request to an endpoint.
type request struct {
	*endpoint
	path       string // escaped, below the Client's address
	query      url.Values
	header     http.Header // in addition to the Client's
	body       []byte
	reader     io.Reader // in place of body; it can be read once
	secret     string    // in the body
	idempotent bool
	document   int           // a status above 299 that comes with the endpoint's document
	wait       time.Duration // how long a blocking query may take beyond the time limit
	stream     bool          // the response is read while it arrives
	deadline   time.Time     // of a stream's first bytes; zero for the time limit from now on

	token   string   // the ACL token that is sent
	refused []string // earlier ones, from WithTokenFile, that the agent refused
}

// newRequest makes a request to an endpoint.
func (ep *endpoint) newRequest(query url.Values) *request {
	return &request{endpoint: ep, path: ep.path, query: query, idempotent: !ep.once}
}

// newJSONRequest makes a request with a JSON body to an endpoint.
func (ep *endpoint) newJSONRequest(body any) (*request, error) {
	encoded, err := jsonv2.Marshal(body)
	if err != nil {
		return nil, invalidArgument(ep.name, "the body cannot be encoded as JSON: %v", err)
	}
	r := ep.newRequest(nil)
	r.body = encoded
	return r, nil
}

// Request is a request to any endpoint of Nomad's API, for [Client.Do].
type Request struct {
	// Method is the HTTP method; empty means GET.
	Method string

	// Path starts with a slash and is escaped as in a URL, such as /v1/job/web%2Ffront.
	Path string

	// Query holds the query parameters. The parameter index makes the request a blocking query, if it is above 0. The
	// parameter wait is how long the agent may wait for a change: 5 minutes if it is not given. The time limit is then
	// that of WithTimeout, plus wait, plus a sixteenth of wait, which agents may add.
	Query url.Values

	// Header holds headers of this request. They replace those of the Client that have the same name; the others are
	// sent too. Those that WithHeader refuses, such as X-Nomad-Token, are refused here too, except Accept and
	// Content-Type. Values do not appear in errors and logs.
	Header http.Header

	// Body is sent as JSON, as encoding/json encodes it. An io.Reader or a []byte is sent as it is. A request with an
	// io.Reader is never sent a second time. It fails even if the agent had just closed the connection that it was to
	// use.
	Body any

	// Idempotent allows the request to reach the agent more than once. It is then retried after a lost connection and
	// the statuses 502, 503 and 504 too, like a GET or HEAD.
	Idempotent bool
}

// autopilotHealth is the endpoint that reports the health of servers with status 429 or 200.
const autopilotHealth = "/v1/operator/autopilot/health"

// newRequest checks req and makes the request that is sent.
func (req *Request) newRequest() (*request, error) {
	if req == nil {
		return nil, invalidArgument("Do", "the Request is nil")
	}
	method := cmp.Or(strings.ToUpper(req.Method), http.MethodGet)
	if !header.IsName(method) {
		return nil, invalidArgument("Do", "Method: %q is not an HTTP method", method)
	}
	if err := agenturl.CheckPath(req.Path); err != nil {
		return nil, invalidArgument("Do", "Path: %v", err)
	}
	r := &request{
		endpoint:   &endpoint{name: "Do", method: method, limit: DefaultMaxResponseSize, decode: decodeAny},
		path:       req.Path,
		query:      req.Query,
		idempotent: req.Idempotent || method == http.MethodGet || method == http.MethodHead,
		wait:       agenturl.BlockingWait(req.Query),
	}
	for _, known := range endpoints {
		if known.path == req.Path && (known.method == method || r.role == "") {
			r.role, r.since, r.keys = known.role, known.since, known.keys
		}
	}
	if req.Path == autopilotHealth {
		r.document = http.StatusTooManyRequests
	}
	names := map[string]bool{}
	for name, values := range req.Header {
		if err := header.Check(name, values); err != nil {
			return nil, invalidArgument("Do", "Header: %v", err)
		}
		if name = http.CanonicalHeaderKey(name); names[name] {
			return nil, invalidArgument("Do", "Header: %q is there in two spellings", name)
		}
		names[name] = true
	}
	r.header = maps.Clone(req.Header)
	if r.header == nil {
		r.header = http.Header{} // no Content-Type but that of a JSON body below
	}
	switch body := req.Body.(type) {
	case nil:
	case []byte:
		r.body = body
	case io.Reader:
		if v := reflect.ValueOf(body); v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, invalidArgument("Do", "Body: it is a nil %T", body)
		}
		r.reader, r.idempotent = body, false
	default:
		var err error
		if r.body, err = json.Marshal(body); err != nil {
			return nil, invalidArgument("Do", "Body: it cannot be encoded as JSON: %v", err)
		}
		r.header = header.WithDefault(r.header, "Content-Type", "application/json")
	}
	return r, nil
}

// newHTTPRequest builds the request that is sent.
func (c *Client) newHTTPRequest(ctx context.Context, r *request) (*http.Request, error) {
	s := c.settings
	body := r.reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	mark := agentconn.Bound | agentconn.NotIdempotent
	if r.idempotent {
		mark = agentconn.Bound | agentconn.Idempotent
	}
	if s.Retries == 0 || r.reader != nil {
		mark |= agentconn.Once
	}
	if r.stream || r.wait > 0 {
		mark |= agentconn.Slow
	}
	req, err := http.NewRequestWithContext(agentconn.WithMark(ctx, mark), r.method, "", body)
	if err != nil {
		return nil, err
	}
	if r.reader != nil {
		req.GetBody = nil // net/http knows how to read some types again
	}
	if *req.URL, err = agenturl.Join(c.base, r.path); err != nil {
		return nil, err
	}
	query := agenturl.WithDefault(r.query, "region", s.Region)
	req.URL.RawQuery = agenturl.WithDefault(query, "namespace", s.Namespace).Encode()
	req.Host = c.base.Host
	req.Header = s.Common.Clone() // a wrapper may change what it gets
	if r.body != nil && r.header == nil {
		req.Header["Content-Type"] = []string{"application/json"}
	}
	for name, values := range r.header {
		req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	if _, isSet := req.Header["Idempotency-Key"]; !isSet && r.idempotent && s.Retries > 0 && !c.transport.IsOwn() {
		req.Header["Idempotency-Key"] = nil // for an http.Transport: it is not sent
	}
	if r.token != s.Token {
		req.Header["X-Nomad-Token"] = []string{r.token}
	}
	return req, nil
}

// checkOut refuses what a response cannot be decoded into.
func checkOut(out any) error {
	if target := reflect.ValueOf(out); out != nil && (target.Kind() != reflect.Pointer || target.IsNil()) {
		return invalidArgument("Do", "out is %T: want a pointer to decode into, or nil", out)
	}
	return nil
}
