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
// The file holds the token, with white space around it if need be, and must exist when NewClient or With is called. It is
// read again by the first request after a second, and when the agent refuses the token: if it holds another token by then,
// the request is sent once more. While the file is missing, empty or not a token, the previous token is used and WithLogger
// gets one warning. A file system that hangs delays a request until its context ends.
func WithTokenFile(path string) Option { return Option(settings.WithTokenFile(path)) }

// WithRegion sets the region that requests are for; agents forward them where the endpoint allows it. Empty means the
// agent's own region, which is the default.
func WithRegion(region string) Option { return Option(settings.WithRegion(region)) }

// WithNamespace sets the namespace of requests to endpoints that have one, which are reached by Client.Do. Empty means the
// namespace default, which is the default. The endpoints of /v1/agent have none.
func WithNamespace(namespace string) Option { return Option(settings.WithNamespace(namespace)) }

// WithBasicAuth sets the user and password of HTTP basic authentication, for a proxy in front of the agent. It replaces an
// Authorization of WithHeader. An empty user sends none, which is the default. The password does not appear in errors and
// logs.
func WithBasicAuth(user, password string) Option {
	return Option(settings.WithBasicAuth(user, password))
}

// WithHeader sets a header of all requests. A later one of the same name replaces it; an empty value removes it.
//
// Headers that have an option of their own, such as WithToken, or that belong to the connection are refused. The value is
// treated as a secret: it does not appear in errors and logs.
func WithHeader(name, value string) Option { return Option(settings.WithHeader(name, value)) }

// WithUserAgent sets the User-Agent of requests. The default is the name and version of this library.
func WithUserAgent(name string) Option { return Option(settings.WithUserAgent(name)) }

// WithTLS sets how the certificate of an https agent is verified, and the certificate of this client. It replaces an earlier
// WithTLS or WithTLSConfig. The default is to trust the system's authorities and to send no certificate. NewClient reads the
// files. TLS 1.2 is the lowest version.
func WithTLS(t TLS) Option { return Option(settings.WithTLS(t.files())) }

// WithTLSConfig sets the whole TLS configuration, for what TLS does not cover, such as keys in hardware. It replaces an
// earlier WithTLS. The configuration is copied. A MinVersion below TLS 1.2 is refused; none means 1.2.
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
// The wrapper sees each attempt of a request. A request that the agent refuses for its limit of connections, or whose
// connection is lost before the response, may be sent again below the wrapper: that is one attempt.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return Option(settings.WithTransport(wrap))
}

// WithTimeout limits the duration of a method call, with retries and waiting. A context that ends sooner ends it sooner.
// The default is DefaultTimeout; there is always a limit.
//
// Agents wait 5 s for a leader before they respond to some requests: a shorter limit hides the real error.
func WithTimeout(d time.Duration) Option { return Option(settings.WithTimeout(d)) }

// WithMaxConns sets the most connections to one agent, in use and idle. Further requests wait in order for a free one. The
// default is DefaultMaxConns.
//
// How many there are follows the agent: up to 16 for a near agent, more if requests wait because of the distance. Streams,
// blocking queries and requests without a response for a second do not count. An agent accepts 100 connections from one
// address unless limits.http_max_conns_per_client says otherwise. Processes share them: no connection is kept for more
// than about 5 s.
func WithMaxConns(n int) Option { return Option(settings.WithMaxConns(n)) }

// WithMaxResponseSize limits the size of every response in bytes, after decompression. A larger one is
// ErrResponseTooLarge. Values above 2 GiB mean 2 GiB.
//
// The default is DefaultMaxResponseSize for Members and Client.Do, and 1 MiB for everything else. Streams
// have no limit. A decoded response takes about three times the memory of its JSON, at worst about eight times.
func WithMaxResponseSize(bytes int64) Option { return Option(settings.WithMaxResponseSize(bytes)) }

// WithCompression requests compressed responses. It helps on slow networks only: on loopback agents respond three times
// slower with it. The default is off.
func WithCompression(enabled bool) Option { return Option(settings.WithCompression(enabled)) }

// WithRetries sets how many times a request is retried where that is safe: if no connection could be made, by a proxy
// either, if it was lost before the response, and on the statuses 429, 502, 503 and 504. The default is DefaultRetries.
//
// Attempts are 0.1 s apart at first, doubling up to 2 s, each varied by half at random, or what Retry-After says. They
// share the limit of WithTimeout. All requests to an agent share a budget of 100 retries, which regains one a second and
// one for every ten requests, so that retries do not multiply the load on a failing agent.
//
// A connection that the agent refuses because it has too many from this address is no attempt: the request waits until a
// connection is free or the agent has room. If the agent closes every connection without a response for 5 s, or 15 s if it
// ever responded, the request fails.
//
// With 0 a method sends one request and does not wait for room.
func WithRetries(n int) Option { return Option(settings.WithRetries(n)) }

// WithLogger logs each attempt of a request at level debug: method, URL without its query, attempt, status, duration and
// error. It also logs at level warn when a token or certificate file can no longer be used. The default is not to log.
func WithLogger(logger *slog.Logger) Option { return Option(settings.WithLogger(logger)) }

// FromEnvironment configures the Client from the variables of Nomad's own tools: NOMAD_ADDR, or NOMAD_UNIX_ADDR if that is
// not set (Nomad sets it for tasks, to the socket of the task API), NOMAD_TOKEN, NOMAD_REGION, NOMAD_NAMESPACE,
// NOMAD_HTTP_AUTH as user:password, and for TLS NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY,
// NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY.
//
// An empty variable counts as not set. Variables are read when the option is applied; nothing else in this package reads
// them. The TLS variables, if any is set, replace an earlier WithTLS as a whole. An error names the variable.
func FromEnvironment() Option { return Option(settings.FromEnvironment()) }
