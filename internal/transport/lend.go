package transport

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/agenturl"
)

// Loan describes an http.Client for other code.
type Loan struct {
	Base        url.URL // of the agent that gets the token
	Socket      bool    // every request is sent to one unix socket
	Compression bool    // Accept-Encoding is sent as it is

	// Token returns the ACL token for requests that have none.
	Token func(context.Context) (string, error)
}

// Lend returns an http.Client that sends the requests of other code over the connections of c.
func (c *Client) Lend(loan Loan) *http.Client {
	return &http.Client{Transport: &lent{c, loan}, CheckRedirect: c.http.CheckRedirect, Jar: c.http.Jar}
}

type lent struct {
	client *Client
	loan   Loan
}

func (t *lent) RoundTrip(req *http.Request) (*http.Response, error) {
	fail := func(err error) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	switch {
	case t.client.IsClosed():
		return fail(t.client.config.ErrClosed)
	case req.URL == nil:
		return fail(errors.New("nomad: the request has no URL"))
	}
	own := *req
	own.Header = req.Header.Clone()
	if own.Header == nil {
		own.Header = http.Header{}
	}
	if !t.loan.Compression {
		own.Header.Del("Accept-Encoding")
		if !t.client.IsOwn() {
			own.Header.Set("Accept-Encoding", "identity") // or its transport would request gzip
		}
	}
	if t.isToAgent(req) && !hasToken(req.Header) {
		token, err := t.loan.Token(req.Context())
		if err != nil {
			return fail(err)
		}
		if token != "" {
			own.Header.Set("X-Nomad-Token", token)
		}
	}
	if strings.Contains(req.URL.RawQuery, "index=") { // a blocking query
		own = *own.WithContext(agentconn.WithMark(own.Context(), agentconn.Slow))
	}
	res, err := t.client.http.Transport.RoundTrip(&own)
	if failed := (*roundTripError)(nil); errors.As(err, &failed) {
		err = failed.error
	}
	if res != nil {
		res.Request = req
	}
	return res, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *lent) CloseIdleConnections() {
	if conns := t.client.conns; conns != nil {
		conns.CloseIdleConnections() // a wrapper may not pass it on
		return
	}
	t.client.http.CloseIdleConnections()
}

// isToAgent reports whether a request is for the agent. Through a proxy it goes where its Host says.
func (t *lent) isToAgent(req *http.Request) bool {
	u, base := req.URL, &t.loan.Base
	return t.loan.Socket || agenturl.SameHost(u, base) && agenturl.IsBelow(u, base) &&
		(req.Host == "" || strings.EqualFold(req.Host, u.Host))
}

// hasToken reports whether a request has an ACL token, in either of the two headers that agents read.
func hasToken(h http.Header) bool {
	scheme, _, _ := strings.Cut(h.Get("Authorization"), " ")
	return h.Get("X-Nomad-Token") != "" || strings.EqualFold(scheme, "Bearer")
}
