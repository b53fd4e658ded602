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

// Option configures a Client. Options are applied in order; a later one replaces what an earlier one set. There are two
// exceptions: each WithTransport adds a wrapper, and WithHeader leaves headers of other names. A value that cannot be
// used, such as a nil argument, is an error of NewClient or Client.With that names the option.
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
// host:port means https if WithTLS, WithTLSConfig or a TLS variable of FromEnvironment is given (but not for
// NOMAD_SKIP_VERIFY=false alone), and http otherwise. An http or https address can have a path, such as
// https://proxy/nomad. The paths /v1/… are added to it. IPv6 hosts are in brackets: [::1]:4646. An address with a user
// or password is refused: use WithBasicAuth.
func WithAddress(addr string) Option { return Option(settings.WithAddress(addr)) }

// WithToken sets the ACL token that requests send in X-Nomad-Token: the secret ID of a token, or a workload identity.
// Empty sends none, which is the default. The token does not appear in errors and logs.
func WithToken(token string) Option { return Option(settings.WithToken(token)) }

// WithTokenFile reads the ACL token from a file, and reads the file again when it changes. Use it for workload
// identities, which Nomad writes to ${NOMAD_SECRETS_DIR}/nomad_token, and for tokens that tools such as Vault Agent
// write. It replaces an earlier WithToken, and a later WithToken replaces it.
//
// The file must exist and hold a token when NewClient or With is called with this option. White space around the token
// is ignored. A request reads the file again if it was last read more than 1 s ago, or if the agent refuses the token.
// If the agent refuses the token and the file has another one now, the request is sent again with it, at most twice,
// unless its body is an io.Reader. While the file is missing or empty, or its content cannot be a token, the previous
// token is used, and one warning is logged (WithLogger). If the file system hangs, requests wait within their time
// limit.
func WithTokenFile(path string) Option { return Option(settings.WithTokenFile(path)) }

// WithRegion sets the region that requests are for. Empty means the agent's own region, which is the default. Agents
// forward to that region: requests of Status and of Client.Do, those of Profile, and those of Host, Monitor and
// MonitorExport whose Target is not zero. An unknown region is ErrNotFound. In Health a region has a meaning of its
// own, and an unknown one is ErrUnhealthy. The other methods are about the agent itself or the whole pool, and it has
// no effect on them.
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

// WithHeader sets a header of all requests. A later WithHeader of the same name replaces the value. An empty value
// removes the header.
//
// NewClient refuses headers that have an option of their own, such as X-Nomad-Token, or that belong to the connection.
// Authorization is accepted; it and WithBasicAuth replace each other. The value is treated as a secret: it does not
// appear in errors and logs. Only a value of fewer than 6 characters that the agent repeats does, unless the header is
// Authorization or Cookie.
func WithHeader(name, value string) Option { return Option(settings.WithHeader(name, value)) }

// WithUserAgent sets the User-Agent of requests. The default is the name and version of this library.
func WithUserAgent(name string) Option { return Option(settings.WithUserAgent(name)) }

// WithTLS sets the certificate of this client, and how the certificate of an https agent is verified. It replaces an
// earlier WithTLS or WithTLSConfig. The default is to trust the system's authorities and to send no certificate.
// NewClient reads the files. TLS 1.2 is the lowest version.
func WithTLS(t TLS) Option { return Option(settings.WithTLS(t.files())) }

// WithTLSConfig sets the whole TLS configuration, for what the type TLS cannot express, such as keys in hardware. It
// replaces an earlier WithTLS. The configuration is copied. A MinVersion below TLS 1.2 is refused; none means 1.2.
func WithTLSConfig(config *tls.Config) Option { return Option(settings.WithTLSConfig(config)) }

// WithHTTPClient sends requests over the transport and the cookie jar of another http.Client. Then connections are that
// client's business: how many there are, how long they are kept, and what happens if the agent accepts no more of them.
//
// The http.Client itself is not changed, and its Timeout and CheckRedirect are not used: WithTimeout and this library's
// rule for redirects apply. WithHTTPClient cannot be combined with options for connections of this package: WithTLS,
// WithTLSConfig, WithMaxConns, unix addresses and the TLS variables of FromEnvironment. Client.Close does not close the
// connections of that http.Client.
func WithHTTPClient(client *http.Client) Option { return Option(settings.WithHTTPClient(client)) }

// WithTransport wraps the transport, for tracing, metrics or signing. NewClient calls wrap once, and it must not return
// nil. With several wrappers the last one is the outermost.
//
// The wrapper is called once for each attempt of a request. Within an attempt the transport below it sends the request
// again on another connection in three cases: the agent refused the connection with status 429, the connection was
// closed before anything was sent on it, or the request is idempotent and the connection was closed without a response.
// With WithRetries(0) there is one case only, except for requests of Client.HTTPClient: the agent had already closed an
// idle connection, so that nothing could be sent on it.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return Option(settings.WithTransport(wrap))
}

// WithTimeout limits the duration of a method call, with retries and waiting. The call also ends when its context ends.
// The default is DefaultTimeout. d must be more than 0.
//
// Agents wait 5 s for a leader before they respond to some requests: a shorter limit hides the real error.
func WithTimeout(d time.Duration) Option { return Option(settings.WithTimeout(d)) }

// WithMaxConns limits the number of connections to one agent, in use or idle, for ordinary requests. A Client and all
// that were created by its method With have this limit in common. When all connections are in use, a request waits for
// a free one. The default is DefaultMaxConns. n must be at least 1.
//
// The Client opens up to 16 connections, or n if that is less. If the round trip to the agent takes 3 ms or more, it
// opens up to n. Connections with a stream, a blocking query or a request that has waited 1 s for its response are not
// counted: they come in addition. By default an agent accepts 100 connections from one address
// (limits.http_max_conns_per_client). A connection gets new requests for 5 s only, or for up to 10 s if the agent never
// responds within 50 ms. After that it is closed as soon as it has no request, and the Client opens another when it
// needs one. Whenever that happens, another process on the same machine can open a connection in its place. So a Client
// that uses all of the agent's connections does not lock other processes out.
func WithMaxConns(n int) Option { return Option(settings.WithMaxConns(n)) }

// WithMaxResponseSize limits the size of every response, except logs and profiles, in bytes after decompression. A
// larger one is ErrResponseTooLarge. The limit must be at least 1; above 2 GiB it is 2 GiB.
//
// The default is DefaultMaxResponseSize for Members and Client.Do, and 1 MiB for everything else. Logs and profiles are
// streamed, and their size has no limit. A decoded response takes about three times the memory of its JSON, at worst
// about eight times. With Client.Do it depends on out: at worst it is about 20 times for an any. It is more for a list
// of large structs, of which each takes its whole size for as little as 5 bytes of JSON.
func WithMaxResponseSize(bytes int64) Option { return Option(settings.WithMaxResponseSize(bytes)) }

// WithCompression requests compressed responses. It helps on slow networks only: over loopback, agents respond three
// times slower with it. The default is off.
func WithCompression(enabled bool) Option { return Option(settings.WithCompression(enabled)) }

// WithRetries sets how many times a request is retried. With the exceptions below, every request is retried if no
// connection could be made or if a proxy responds with status 429. An idempotent request is also retried if the
// connection was lost within the headers of the response, or if the status is 502, 503 or 504. The requests of all
// methods but UpdateSchedulerConfig and Client.Do are idempotent. A request of Client.Do is idempotent if its method is
// GET or HEAD, or if Request.Idempotent is set. Four things are not retried: a request whose Body is an io.Reader, a
// unix socket that does not exist, a refused certificate (unless the Client has read changed files of WithTLS less than
// 2 s ago), and the 429 with which autopilot's health reports an unhealthy cluster. The default is DefaultRetries.
//
// The pause between attempts is 0.1 s at first and doubles up to 2 s, times a random factor between 0.5 and 1.5. A
// longer Retry-After replaces it. All attempts and pauses together are within the limit of WithTimeout. A Client and
// the Clients from its method With share a budget of 100 retries for each agent. It regains one retry a second, and one
// for every ten requests. While it is empty, requests are not retried. So retries do not multiply the load on a failing
// agent.
//
// If the agent has too many connections from this address, it refuses more: with status 429, or by closing them without
// a response. The request then waits until a connection is free or the agent accepts another, and is sent again. That
// does not count as a retry. A request that is not idempotent is sent again only after a 429, or if nothing of it was
// sent on the closed connection. A request whose Body is an io.Reader fails instead. If every connection that is tried
// for a request is closed without a response, the request fails within 5 s, or within 15 s if the agent has responded
// to this Client before. The error of such a request is ErrTooManyRequests if another request of this Client has just
// got a 429. Otherwise the error names the possible reasons.
//
// With 0 a request is sent once, and it fails immediately if the agent refuses the connection. There are two
// exceptions. If the agent had already closed an idle connection, so that nothing could be sent on it, the request is
// sent on another. If the agent refuses the token, and the file of WithTokenFile has a new one, the request is sent
// again (unless its Body is an io.Reader). n must not be negative.
func WithRetries(n int) Option { return Option(settings.WithRetries(n)) }

// WithLogger logs each attempt of a request at level debug: method, URL without its query, attempt, status, duration and
// error. It also logs at level warn when a token or certificate file can no longer be used. The default is not to log.
func WithLogger(logger *slog.Logger) Option { return Option(settings.WithLogger(logger)) }

// FromEnvironment configures the Client from the variables that the nomad command reads: NOMAD_ADDR, NOMAD_TOKEN,
// NOMAD_REGION, NOMAD_NAMESPACE, NOMAD_HTTP_AUTH as user:password, and for TLS NOMAD_CACERT, NOMAD_CAPATH,
// NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY, NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY. If NOMAD_ADDR is not set,
// NOMAD_UNIX_ADDR is used, which the nomad command does not read: in a task it names the socket of the task API.
//
// An empty variable counts as not set, and leaves what earlier options set. Variables are read when the option is
// applied; nothing else in this package reads them. If any TLS variable is set, the TLS variables as a whole replace an
// earlier WithTLS or WithTLSConfig. An error names the variable.
func FromEnvironment() Option { return Option(settings.FromEnvironment()) }
