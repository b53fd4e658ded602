package nomad

import (
	"fmt"
	"net/http"

	"github.com/nomad-go/nomad/internal/reload"
	"github.com/nomad-go/nomad/internal/transport"
)

// newTransport makes the http.Client that settings describe.
func newTransport(s *settings) (*transport.Client, error) {
	if s.httpClient != nil {
		if s.address.Socket != "" {
			s.reconnects = append(s.reconnects, "a unix address")
		}
		for _, name := range s.reconnects {
			if name != "WithHTTPClient" && name != "WithTransport" {
				return nil, fmt.Errorf("WithHTTPClient: it cannot be combined with %s", name)
			}
		}
	}
	tls := transport.FixedTLS(s.tlsConfig)
	if s.tls != nil {
		files, err := reload.NewTLS(s.tls.files(), s.logger)
		if err != nil {
			return nil, err
		}
		tls = files.Config
	}
	return transport.New(transport.Config{
		Socket: s.address.Socket, MaxConns: s.maxConns, TLS: tls, Client: s.httpClient, Wrappers: s.wrappers,
		ErrClosed: ErrClosed, ErrRedirect: ErrRedirect, ErrUnsupported: ErrUnsupported,
	})
}

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
	return c.transport.Lend(transport.Loan{
		Base: c.base, Socket: c.settings.address.Socket != "", Compression: c.settings.compression, Token: c.token,
	})
}
