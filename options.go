package nomad

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nomad-go/nomad/internal/settings"
)

// The defaults of options.
const (
	DefaultAddress         = "http://127.0.0.1:4646" // WithAddress; https if TLS is configured by an option or variable
	DefaultTimeout         = 30 * time.Second        // WithTimeout
	DefaultMaxConns        = 64                      // WithMaxConns
	DefaultMaxResponseSize = 64 << 20                // WithMaxResponseSize, in bytes, for Members and Do
	DefaultRetries         = 4                       // WithRetries
)

// Option configures a Client. Options are applied in order; a later one replaces what an earlier one set. A value that
// cannot be used is an error of NewClient or Client.With that names the option.
type Option func(*settings.Settings) error

// optionErrors joins the errors of options.
func optionErrors(errs []error) error {
	for i, err := range errs {
		errs[i] = fmt.Errorf("nomad: %w", err)
	}
	return &optionError{errors.Join(errs...)}
}

type optionError struct{ error }

func (e *optionError) Unwrap() error        { return e.error }
func (e *optionError) Is(target error) bool { return target == ErrInvalidArgument }

// WithAddress sets the agent's address: http://host:port, https://host:port, unix:///path/to/socket or host:port.
// The default is DefaultAddress.
//
// host:port means https if WithTLS or WithTLSConfig is given, and http otherwise. An http or https address can have a path
// in front of /v1, as behind a proxy. IPv6 hosts are in brackets: [::1]:4646. An address with a user or password is
// refused: use WithBasicAuth.
func WithAddress(addr string) Option { return Option(settings.WithAddress(addr)) }

// WithToken sets the ACL token that requests send in X-Nomad-Token: the secret ID of a token, or a workload identity.
// Empty sends none, which is the default. The token does not appear in errors and logs.
func WithToken(token string) Option { return Option(settings.WithToken(token)) }

// WithTokenFile sends the ACL token in a file, in place of that of WithToken, and follows the file when it changes: for
// workload identities, which Nomad writes to ${NOMAD_SECRETS_DIR}/nomad_token, and for tokens that Vault or Consul render.
//
// The file must exist when NewClient or With is called. White space around the token is ignored. A request reads the
// file again if the last read is more than 1 s ago, or if the agent refuses the token. If the file has another token
// then, the request is sent once more. While the file is missing, empty or without a valid token, the previous token is
// used, and WithLogger gets one warning. A file system that hangs delays a request until its context ends.
func WithTokenFile(path string) Option { return Option(settings.WithTokenFile(path)) }

// WithRegion sets the region that requests are for; agents forward them where the endpoint allows it. Empty means the
// agent's own region, which is the default.
func WithRegion(region string) Option { return Option(settings.WithRegion(region)) }

// WithNamespace sets the namespace of requests to endpoints that have one, which are reached by Client.Do. Without it
// agents use the namespace named default. The endpoints of /v1/agent have none.
func WithNamespace(namespace string) Option { return Option(settings.WithNamespace(namespace)) }

// WithBasicAuth sets the user and password of HTTP basic authentication, for a proxy in front of the agent. It replaces
// an Authorization of WithHeader. Without a user nothing is sent, which is the default. The password does not appear in
// errors and logs.
func WithBasicAuth(user, password string) Option {
	return Option(settings.WithBasicAuth(user, password))
}

// WithHeader sets a header of all requests. A later one of the same name replaces it; an empty value removes it.
//
// NewClient refuses headers that have an option of their own, such as X-Nomad-Token, or that belong to the connection.
// Authorization is accepted, and WithBasicAuth replaces it. The value is treated as a secret: it does not appear in
// errors and logs.
func WithHeader(name, value string) Option { return Option(settings.WithHeader(name, value)) }

// WithUserAgent sets the User-Agent of requests. The default is the name and version of this library.
func WithUserAgent(name string) Option { return Option(settings.WithUserAgent(name)) }

// WithTLS sets how the certificate of an https agent is verified, and the certificate of this client. It replaces an earlier
// WithTLS or WithTLSConfig. The default is to trust the system's authorities and to send no certificate. NewClient reads the
// files. TLS 1.2 is the lowest version.
func WithTLS(t TLS) Option { return Option(settings.WithTLS(t.files())) }

// WithTLSConfig sets the whole TLS configuration, for what the type TLS cannot express, such as keys in hardware. It
// replaces an earlier WithTLS. The configuration is copied. A MinVersion below TLS 1.2 is refused; none means 1.2.
func WithTLSConfig(config *tls.Config) Option { return Option(settings.WithTLSConfig(config)) }

// WithHTTPClient sends requests over the transport and the cookie jar of another http.Client. Then connections are that
// client's business: how many there are, how long they are kept, and what happens if the agent accepts no more of them.
//
// The http.Client itself is not changed, and its Timeout and CheckRedirect are not used: WithTimeout and this library's rule
// for redirects apply. It cannot be combined with options of the replaced transport: WithTLS, WithTLSConfig, WithMaxConns,
// unix addresses and the TLS variables of FromEnvironment. Client.Close does not close its connections.
func WithHTTPClient(client *http.Client) Option { return Option(settings.WithHTTPClient(client)) }

// WithTransport wraps the transport, for tracing, metrics or signing. NewClient calls wrap once; the last wrapper given is
// the outermost.
//
// The wrapper sees each attempt of a request. If the agent refuses a request for its limit of connections, or closes an
// idle connection just when a request is sent, the request may be sent again below the wrapper, as a part of the same
// attempt.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return Option(settings.WithTransport(wrap))
}

// WithTimeout limits the duration of a method call, with retries and waiting. A context that ends sooner ends it
// sooner. The default is DefaultTimeout. d must be more than 0.
//
// Agents wait 5 s for a leader before they respond to some requests: a shorter limit hides the real error.
func WithTimeout(d time.Duration) Option { return Option(settings.WithTimeout(d)) }

// WithMaxConns limits the number of connections to one agent, in use or idle. When all are in use, a request waits for
// a free one. The default is DefaultMaxConns. n must be at least 1.
//
// The Client opens only as many as help: up to 16 if the agent is near, and up to n if each request takes long because
// of the distance. Streams, blocking queries and requests that have waited 1 s for a response are not counted. An agent
// accepts 100 connections from one address, unless limits.http_max_conns_per_client says otherwise. So that several
// processes on one machine get their part of these, a connection is closed after about 5 s and another process can open
// one.
func WithMaxConns(n int) Option { return Option(settings.WithMaxConns(n)) }

// WithMaxResponseSize limits the size of every response in bytes, after decompression. A larger one is
// ErrResponseTooLarge. The limit must be at least 1; above 2 GiB it is 2 GiB.
//
// The default is DefaultMaxResponseSize for Members and Client.Do, and 1 MiB for everything else. Streams
// have no limit. A decoded response takes about three times the memory of its JSON, at worst about eight times.
func WithMaxResponseSize(bytes int64) Option { return Option(settings.WithMaxResponseSize(bytes)) }

// WithCompression requests compressed responses. It helps on slow networks only: on loopback agents respond three times
// slower with it. The default is off.
func WithCompression(enabled bool) Option { return Option(settings.WithCompression(enabled)) }

// WithRetries sets how many times a request is retried. It is retried if it can be repeated without harm and there was
// no connection to the agent, the connection was lost before the response, or the status is 429, 502, 503 or 504. The
// default is DefaultRetries.
//
// The pause between attempts is 0.1 s at first and doubles up to 2 s, varied by half at random. A longer Retry-After
// replaces it. All attempts together are within the limit of WithTimeout. All requests to an agent share a budget of
// 100 retries, which regains one a second and one for every ten requests, so that retries do not multiply the load on a
// failing agent.
//
// If the agent refuses a connection because it has too many from this address, that does not count as an attempt. The
// request waits until a connection is free or the agent accepts another. If the agent has closed every connection
// without a response for 5 s, the request fails with ErrTooManyRequests or an error that names the possible reasons. It
// waits 15 s if the agent has responded to this Client before.
//
// With 0 a request is sent once, and fails at once if the agent refuses the connection. n must not be negative.
func WithRetries(n int) Option { return Option(settings.WithRetries(n)) }

// WithLogger logs each attempt of a request at level debug: method, URL without its query, attempt, status, duration and
// error. It also logs at level warn when a token or certificate file can no longer be used. The default is not to log.
func WithLogger(logger *slog.Logger) Option { return Option(settings.WithLogger(logger)) }

// FromEnvironment configures the Client from the variables of Nomad's own tools: NOMAD_ADDR, NOMAD_TOKEN, NOMAD_REGION,
// NOMAD_NAMESPACE, NOMAD_HTTP_AUTH as user:password, and for TLS NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT,
// NOMAD_CLIENT_KEY, NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY. If NOMAD_ADDR is not set, NOMAD_UNIX_ADDR is used: in
// a task it names the socket of the task API.
//
// An empty variable counts as not set, and leaves what earlier options set. Variables are read when the option is
// applied; nothing else in this package reads them. If any TLS variable is set, all together replace an earlier
// WithTLS. An error names the variable.
func FromEnvironment() Option { return Option(settings.FromEnvironment()) }
