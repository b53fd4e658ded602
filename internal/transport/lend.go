package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/agenturl"
	"github.com/nomad-go/nomad/internal/redact"
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
	token := ""
	if t.isToAgent(req) && !hasToken(req.Header) {
		var err error
		if token, err = t.loan.Token(req.Context()); err != nil {
			return fail(err)
		}
		if token != "" {
			own.Header.Set("X-Nomad-Token", token)
		}
	}
	if ctx := agentconn.ByMethod(own.Context()); ctx != own.Context() {
		own = *own.WithContext(ctx)
	}
	if agenturl.BlockingWait(req.URL.Query()) > 0 {
		own = *own.WithContext(agentconn.WithMark(own.Context(), agentconn.Slow))
	}
	res, err := t.client.http.Transport.RoundTrip(&own)
	if failed := (*roundTripError)(nil); errors.As(err, &failed) {
		err = failed.error
	}
	if res != nil {
		res.Request = req
	}
	if token == "" {
		return res, err
	}
	return t.withoutToken(token, res, err)
}

// withoutToken takes the token out of the errors of a request. The program does not know that the request had it.
func (t *lent) withoutToken(token string, res *http.Response, err error) (*http.Response, error) {
	switch {
	case err != nil:
		return res, clean(err, token)
	case isRedirect(res):
		// http.Client would have the address in its errors.
		if location := res.Header.Get("Location"); redact.New(token).Remove(location) != location {
			res.Body.Close()
			return nil, t.client.refuse("it leads to an address with the Client's token in it")
		}
	case res.Body != http.NoBody && res.StatusCode != http.StatusSwitchingProtocols:
		res.Body = &cleanBody{res.Body, token}
	}
	return res, nil
}

// cleanBody is the body of a response. An error can have a part of it, such as a trailer.
type cleanBody struct {
	io.ReadCloser
	token string
}

func (b *cleanBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = clean(err, b.token)
	}
	return n, err
}

// clean takes a token out of the message of an error.
func clean(err error, token string) error {
	text := err.Error()
	if cleaned := redact.New(token).Remove(text); cleaned != text {
		return redact.Error(cleaned, cleaned, err)
	}
	return err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *lent) CloseIdleConnections() {
	if conns := t.client.conns; conns != nil {
		conns.CloseIdleConnections() // a wrapper may not pass it on
		return
	}
	t.client.http.CloseIdleConnections()
}

// isToAgent reports whether a request is for the agent. Through a proxy it goes where its Host and its Opaque say.
func (t *lent) isToAgent(req *http.Request) bool {
	u, base := req.URL, &t.loan.Base
	return t.loan.Socket || agenturl.SameHost(u, base) && agenturl.IsBelow(u, base) &&
		(req.Host == "" || strings.EqualFold(req.Host, u.Host)) && u.Opaque == ""
}

// hasToken reports whether a request has an ACL token, in either of the two headers that agents read.
func hasToken(h http.Header) bool {
	for name, values := range h {
		for _, value := range values {
			scheme, _, _ := strings.Cut(value, " ")
			if strings.EqualFold(name, "X-Nomad-Token") && value != "" ||
				strings.EqualFold(name, "Authorization") && strings.EqualFold(scheme, "Bearer") {
				return true
			}
		}
	}
	return false
}
