package nomadtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/show"
)

// maxRecord is how many requests an agent remembers, and maxRequestBody how much of each it reads.
const (
	maxRecord      = 10_000
	maxRequestBody = 4 << 20
)

// Request is a request that an agent was sent.
type Request struct {
	Time   time.Time
	Method string
	Path   string // such as /v1/agent/members
	Query  url.Values
	Header http.Header  // without the token
	Token  nomad.Secret // of the header X-Nomad-Token or Authorization
	Body   []byte       // at most 4 MiB
}

// String returns the method and the path. All else may hold secrets.
func (r Request) String() string { return show.Line(r.Method + " " + r.Path) }

// Format prints what String returns, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// MarshalJSON encodes the time, the method and the path, as in
//
//	{"time":"2026-11-02T15:04:05Z","method":"GET","path":"/v1/jobs"}
func (r Request) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		Time   time.Time `json:"time"`
		Method string    `json:"method"`
		Path   string    `json:"path"`
	}{r.Time, r.Method, r.Path})
}

// Requests are the requests that came to the agent, the oldest first, also those that met a fault. The last 10,000 are
// kept. Requests that were refused for the limit of connections are not among them.
func (a *Agent) Requests() []Request {
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	return append(slices.Clone(a.record[a.oldest:]), a.record[:a.oldest]...)
}

// ForgetRequests empties what Requests gives.
func (a *Agent) ForgetRequests() {
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	a.record, a.oldest = nil, 0
}

// remember reads a request's body and keeps the request.
func (a *Agent) remember(r *http.Request) {
	var body []byte
	if r.Body != nil && r.Body != http.NoBody {
		body, _ = io.ReadAll(io.LimitReader(r.Body, maxRequestBody))
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), r.Body))
	}
	header := r.Header.Clone()
	header.Del("X-Nomad-Token")
	header.Del("Authorization")
	request := Request{time.Now(), r.Method, r.URL.Path, r.URL.Query(), header, nomad.NewSecret(tokenOf(r)), body}
	a.recordMu.Lock()
	defer a.recordMu.Unlock()
	if len(a.record) < maxRecord {
		a.record = append(a.record, request)
		return
	}
	a.record[a.oldest] = request
	a.oldest = (a.oldest + 1) % maxRecord
}
