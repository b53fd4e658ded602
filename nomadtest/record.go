package nomadtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/redact"
	"github.com/nomad-go/nomad/internal/show"
)

// maxRecord is how many requests an agent remembers, maxRequestBody how much of each it reads, and
// maxNoted how much it remembers of a response that reports a failure.
const (
	maxRecord      = 10_000
	maxRequestBody = 4 << 20
	maxNoted       = 200
)

// Request is a request to an agent, with the status of its response. When it is printed or encoded as JSON, headers and
// body are left out. So are query parameters that Nomad does not define.
type Request struct {
	Time   time.Time
	Method string
	Path   string // such as /v1/agent/members
	Query  url.Values
	Header http.Header  // without the token
	Token  nomad.Secret // of the header X-Nomad-Token or Authorization
	Body   []byte       // at most 4 MiB

	Status int  // of the response; 0 if there is none, or none yet
	Fault  bool // it met a fault

	message string // the begin of a body that reports a failure
}

// String returns the request and its response on one line, such as "GET /v1/agent/members: 500 No cluster leader (fault)".
func (r Request) String() string {
	u := url.URL{Path: r.Path, RawQuery: r.shownQuery()}
	text := r.Method + " " + u.String() + ": no response"
	if r.Status != 0 {
		text = strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", r.Method, u.String(), r.Status, r.message))
	}
	if r.Fault {
		text += " (fault)"
	}
	return r.clean(text)
}

// shownParameters are those that agents know. Others may hold anything.
var shownParameters = []string{
	"address", "consistent", "debug", "follow", "gc", "index", "log_include_location", "log_json", "log_level", "logs_since", "namespace",
	"node", "node_id", "on_disk", "per_page", "plain", "prefix", "pretty", "prune", "region", "seconds", "server_id", "service_name",
	"stale", "type", "wait",
}

// shownQuery is the query without the values of other parameters.
func (r Request) shownQuery() string {
	shown := url.Values{}
	for name, values := range r.Query {
		if !slices.Contains(shownParameters, name) {
			values = []string{"redacted"}
		}
		shown[name] = values
	}
	return shown.Encode()
}

// clean returns text on one line, without the secrets of the request.
func (r Request) clean(text string) string {
	text = redact.New(r.Token.Reveal()).Remove(redact.Line(text, 4<<10))
	return redact.Cut(redact.GossipKeys(text), 1<<10)
}

// Format prints what String returns, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// MarshalJSON encodes the request as an object, such as
//
//	{"time":"2026-11-02T15:04:05Z","method":"GET","path":"/v1/agent/members","query":"region=eu","status":500,"fault":true}
//
// Empty fields are left out.
func (r Request) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		Time   time.Time `json:"time"`
		Method string    `json:"method"`
		Path   string    `json:"path"`
		Query  string    `json:"query,omitempty"`
		Status int       `json:"status,omitzero"`
		Fault  bool      `json:"fault,omitzero"`
	}{r.Time, r.clean(r.Method), r.clean(r.Path), r.clean(r.shownQuery()), r.Status, r.Fault})
}

// failed reports whether the test that sent the request may have failed for it.
func (r Request) failed() bool { return r.Fault || r.Status == 0 || r.Status >= 400 }

// Requests returns the last 10,000 requests that the agent received, the oldest first. Requests with a fault are
// included. Requests that were refused because of MaxConns are not.
func (a *Agent) Requests() []Request {
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	requests := make([]Request, 0, len(a.record))
	for i := range a.record {
		requests = append(requests, *a.record[(a.oldest+i)%len(a.record)])
	}
	return requests
}

// ForgetRequests removes all requests from the list that Requests returns.
func (a *Agent) ForgetRequests() {
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	a.record, a.oldest = nil, 0
}

// remember reads a request's body and keeps the request. What is written to the writer that it gives is noted with it.
func (a *Agent) remember(w http.ResponseWriter, r *http.Request) *recorder {
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		body, _ = io.ReadAll(io.LimitReader(r.Body, maxRequestBody))
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	}
	header := r.Header.Clone()
	header.Del("X-Nomad-Token")
	header.Del("Authorization")
	request := &Request{Time: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: header,
		Token: nomad.NewSecret(tokenOf(r)), Body: body}
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	if len(a.record) < maxRecord {
		a.record = append(a.record, request)
	} else {
		a.record[a.oldest] = request
		a.oldest = (a.oldest + 1) % maxRecord
	}
	return &recorder{w, a, request}
}

// recorder notes a response in the record of its request.
type recorder struct {
	http.ResponseWriter
	agent   *Agent
	request *Request // guarded by agent.recordMu
}

func (r *recorder) WriteHeader(status int) {
	r.note(status, nil)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.note(http.StatusOK, p)
	return r.ResponseWriter.Write(p)
}

// note keeps the first status, and the begin of a body that says what failed.
func (r *recorder) note(status int, body []byte) {
	r.agent.recordMu.Lock()
	defer r.agent.recordMu.Unlock()
	if r.request.Status == 0 && status >= 200 {
		r.request.Status = status
	}
	if r.request.Status >= 400 && r.request.message == "" && r.Header().Get("Content-Encoding") == "" {
		r.request.message = string(body[:min(len(body), maxNoted)])
	}
}

// done notes a response without a body, whose headers package http sends when the handler returns.
func (r *recorder) done() { r.note(http.StatusOK, nil) }

// fault notes that the request met a fault.
func (r *recorder) fault() {
	r.agent.recordMu.Lock()
	defer r.agent.recordMu.Unlock()
	r.request.Fault = true
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
