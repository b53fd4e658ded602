package nomad

import (
	"errors"
	"net/http"
	"strings"

	"github.com/nomad-go/nomad/internal/agentconn"
)

// HTTPClient returns an http.Client that sends requests over the connections of this Client: for code that makes requests
// of its own, above all for Nomad's official client,
//
//	api.NewClient(&api.Config{Address: c.Address(), HttpClient: c.HTTPClient()})
//
// which then shares few connections to each agent and is never refused for having too many.
//
// Requests are sent as they are, with two exceptions. A request to the Client's own address that has no token gets the
// Client's (WithToken, WithTokenFile); no other host ever gets one. Accept-Encoding is dropped unless WithCompression is
// enabled, because compression costs the agent most of the time of a request. A request that the agent refuses for its
// limit of connections is sent again, unless its body can be read only once (no GetBody).
//
// The Client's rule for redirects and its limit on the size of headers apply. Its time limit, its retries and its limit on
// the size of a body do not: a request ends with its own context. A body must be closed, as with any http.Client. After
// Close requests fail with ErrClosed.
func (c *Client) HTTPClient() *http.Client {
	return &http.Client{
		Transport:     &lentTransport{c},
		CheckRedirect: c.pool.http.CheckRedirect,
		Jar:           c.pool.http.Jar,
	}
}

// Address returns the address of the agent that the Client calls, such as http://127.0.0.1:4646 or unix:///path/to/socket.
func (c *Client) Address() string { return c.address }

// lentTransport sends the requests of other code.
type lentTransport struct{ client *Client }

func (t *lentTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := t.client
	fail := func(err error) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	switch {
	case c.pool.closed.Load():
		return fail(ErrClosed)
	case req.URL == nil:
		return fail(errors.New("nomad: the request has no URL"))
	}
	own := *req
	own.Header = req.Header.Clone()
	if own.Header == nil {
		own.Header = http.Header{}
	}
	if !c.settings.compression {
		own.Header.Del("Accept-Encoding")
		if c.settings.httpClient != nil {
			own.Header.Set("Accept-Encoding", "identity") // or its transport would ask for gzip
		}
	}
	if c.isOwn(req) && !hasToken(req.Header) {
		token, err := c.token(req.Context())
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
	res, err := c.pool.http.Transport.RoundTrip(&own)
	if failed := (*roundTripError)(nil); errors.As(err, &failed) {
		err = failed.error
	}
	if res != nil {
		res.Request = req
	}
	return res, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *lentTransport) CloseIdleConnections() {
	if conns := t.client.pool.conns; conns != nil {
		conns.CloseIdleConnections() // a wrapper may not pass it on
		return
	}
	t.client.pool.http.CloseIdleConnections()
}

// isOwn reports whether a request leads to the address of the Client. Through a proxy it goes where its Host says.
func (c *Client) isOwn(req *http.Request) bool {
	u, base := req.URL, &c.base
	if c.settings.address.socket != "" {
		return true // wherever it leads, it is sent to the socket
	}
	return u.Scheme == base.Scheme && strings.EqualFold(u.Hostname(), base.Hostname()) && portOf(u) == portOf(base) &&
		(req.Host == "" || strings.EqualFold(req.Host, u.Host)) &&
		(base.Path == "" || strings.HasPrefix(u.EscapedPath()+"/", base.EscapedPath()+"/") && !strings.Contains(u.Path+"/", "/../"))
}

// hasToken reports whether a request has an ACL token, in either of the two headers that agents read.
func hasToken(h http.Header) bool {
	scheme, _, _ := strings.Cut(h.Get("Authorization"), " ")
	return h.Get("X-Nomad-Token") != "" || strings.EqualFold(scheme, "Bearer")
}
