package nomad

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/agenturl"
	"github.com/nomad-go/nomad/internal/header"
	"github.com/nomad-go/nomad/internal/reload"
	"github.com/nomad-go/nomad/internal/version"
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
type Option func(*settings) error

// settings are what options set. A Client never changes its own.
type settings struct {
	address         agenturl.Address
	token           string
	tokenPath       *string // of the file that tokenFile follows, in place of token
	tokenFile       *reload.Token
	region          string
	namespace       string
	user, password  string
	header          http.Header // of WithHeader
	common          http.Header // of all requests
	userAgent       string
	tls             *TLS
	tlsConfig       *tls.Config
	httpClient      *http.Client
	wrappers        []func(http.RoundTripper) http.RoundTripper
	timeout         time.Duration
	maxConns        int
	maxResponseSize int64 // 0 for the limits of the endpoints
	compression     bool
	retries         int
	logger          logger

	// reconnects has the names of the given options that only NewClient accepts, because connections depend on them.
	reconnects []string
}

func defaultSettings() *settings {
	return &settings{
		address:   agenturl.Address{Host: "127.0.0.1:4646"}, // DefaultAddress, with https when TLS is set up
		header:    http.Header{},
		userAgent: version.UserAgent,
		timeout:   DefaultTimeout,
		maxConns:  DefaultMaxConns,
		retries:   DefaultRetries,
		logger:    noLogger{},
	}
}

func (s *settings) clone() *settings {
	clone := *s
	clone.header = s.header.Clone()
	clone.wrappers = slices.Clone(s.wrappers)
	clone.reconnects = nil
	return &clone
}

// commonHeader returns the headers of all requests.
func (s *settings) commonHeader() http.Header {
	h := maps.Clone(s.header)
	h["User-Agent"] = []string{s.userAgent}
	h["Accept"] = []string{"application/json, text/plain;q=0.5, */*;q=0.1"}
	switch {
	case s.compression:
		h["Accept-Encoding"] = []string{"gzip"}
	case s.httpClient != nil:
		h["Accept-Encoding"] = []string{"identity"} // or its transport would ask for gzip
	}
	if s.token != "" {
		h["X-Nomad-Token"] = []string{s.token}
	}
	if s.user != "" {
		h["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(s.user+":"+s.password))}
	}
	return h
}

// apply applies options and reports every one that fails.
func (s *settings) apply(opts []Option) error {
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("option %d is nil", i+1))
			continue
		}
		switch err := opt(s).(type) {
		case nil:
		case interface{ Unwrap() []error }:
			errs = append(errs, err.Unwrap()...)
		default:
			errs = append(errs, err)
		}
	}
	if err := s.openTokenFile(); err != nil {
		errs = append(errs, fmt.Errorf("WithTokenFile: %w", err))
	}
	return optionErrors(errs)
}

// optionErrors joins the errors of options.
func optionErrors(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
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
func WithAddress(addr string) Option {
	return func(s *settings) (err error) {
		if s.address, err = agenturl.Parse(addr); err != nil {
			err = fmt.Errorf("WithAddress: %w", err)
		}
		return err
	}
}

// WithToken sets the ACL token that requests send in X-Nomad-Token: the secret ID of a token, or a workload identity.
// Empty sends none, which is the default. The token does not appear in errors and logs.
func WithToken(token string) Option {
	return func(s *settings) error {
		if !header.IsValue(token) || token != strings.TrimSpace(token) {
			return errors.New("WithToken: the token has a space at an end or a character that a header cannot carry")
		}
		s.token, s.tokenPath, s.tokenFile = token, nil, nil
		return nil
	}
}

// WithRegion sets the region that requests are for; agents forward them where the endpoint allows it. Empty means the
// agent's own region, which is the default.
func WithRegion(region string) Option {
	return func(s *settings) error {
		s.region = region
		return nil
	}
}

// WithNamespace sets the namespace of requests to endpoints that have one, which are reached by Client.Do. Empty means the
// namespace default, which is the default. The endpoints of /v1/agent have none.
func WithNamespace(namespace string) Option {
	return func(s *settings) error {
		s.namespace = namespace
		return nil
	}
}

// WithBasicAuth sets the user and password of HTTP basic authentication, for a proxy in front of the agent. It replaces an
// Authorization of WithHeader. An empty user sends none, which is the default. The password does not appear in errors and
// logs.
func WithBasicAuth(user, password string) Option {
	return func(s *settings) error {
		if strings.Contains(user, ":") {
			return errors.New("WithBasicAuth: a user cannot contain a colon")
		}
		if user == "" && password != "" {
			return errors.New("WithBasicAuth: a password needs a user")
		}
		s.user, s.password = user, password
		s.header.Del("Authorization")
		return nil
	}
}

// WithHeader sets a header of all requests. A later one of the same name replaces it; an empty value removes it.
//
// Headers that have an option of their own, such as WithToken, or that belong to the connection are refused. The value is
// treated as a secret: it does not appear in errors and logs.
func WithHeader(name, value string) Option {
	return func(s *settings) error {
		if !header.IsName(name) {
			return fmt.Errorf("WithHeader(%q): not the name of a header", name)
		}
		name := http.CanonicalHeaderKey(name)
		if why := header.Reserved(name); why != "" {
			return fmt.Errorf("WithHeader(%q): %s", name, why)
		}
		if !header.IsValue(value) {
			return fmt.Errorf("WithHeader(%q): the value has a character that a header cannot carry", name)
		}
		if value == "" {
			s.header.Del(name)
			return nil
		}
		if name == "Authorization" {
			s.user, s.password = "", ""
		}
		s.header.Set(name, value)
		return nil
	}
}

// WithUserAgent sets the User-Agent of requests. The default is the name and version of this library.
func WithUserAgent(name string) Option {
	return func(s *settings) error {
		if strings.TrimSpace(name) == "" || !header.IsValue(name) {
			return fmt.Errorf("WithUserAgent(%q): want text on one line", name)
		}
		s.userAgent = name
		return nil
	}
}

// WithTLS sets how the certificate of an https agent is verified, and the certificate of this client. It replaces an earlier
// WithTLS or WithTLSConfig. The default is to trust the system's authorities and to send no certificate. NewClient reads the
// files. TLS 1.2 is the lowest version.
func WithTLS(t TLS) Option {
	return func(s *settings) error {
		s.tls, s.tlsConfig = &t, nil
		s.reconnects = append(s.reconnects, "WithTLS")
		return nil
	}
}

// WithTLSConfig sets the whole TLS configuration, for what TLS does not cover, such as keys in hardware. It replaces an
// earlier WithTLS. The configuration is copied. A MinVersion below TLS 1.2 is refused; none means 1.2.
func WithTLSConfig(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			return errors.New("WithTLSConfig: the configuration is nil")
		}
		if config.MinVersion != 0 && config.MinVersion < tls.VersionTLS12 {
			return fmt.Errorf("WithTLSConfig: MinVersion is %s, want TLS 1.2 or later", tls.VersionName(config.MinVersion))
		}
		s.tls, s.tlsConfig = nil, config.Clone()
		s.reconnects = append(s.reconnects, "WithTLSConfig")
		return nil
	}
}

// WithHTTPClient sends requests over the transport and the cookie jar of another http.Client. Then connections are that
// client's business: how many there are, how long they are kept, and what happens if the agent accepts no more of them.
//
// The http.Client itself is not changed, and its Timeout and CheckRedirect are not used: WithTimeout and this library's rule
// for redirects apply. It cannot be combined with options of the replaced transport: WithTLS, WithTLSConfig, WithMaxConns,
// unix addresses and the TLS variables of FromEnvironment. Client.Close does not close its connections.
func WithHTTPClient(client *http.Client) Option {
	return func(s *settings) error {
		if client == nil {
			return errors.New("WithHTTPClient: the client is nil")
		}
		s.httpClient = client
		s.reconnects = append(s.reconnects, "WithHTTPClient")
		return nil
	}
}

// WithTransport wraps the transport, for tracing, metrics or signing. NewClient calls wrap once; the last wrapper given is
// the outermost.
//
// The wrapper sees each attempt of a request. A request that the agent refuses for its limit of connections, or whose
// connection is lost before the response, may be sent again below the wrapper: that is one attempt.
func WithTransport(wrap func(http.RoundTripper) http.RoundTripper) Option {
	return func(s *settings) error {
		if wrap == nil {
			return errors.New("WithTransport: the function is nil")
		}
		s.wrappers = append(s.wrappers, wrap)
		s.reconnects = append(s.reconnects, "WithTransport")
		return nil
	}
}

// WithTimeout limits the duration of a method call, with retries and waiting. A context that ends sooner ends it sooner.
// The default is DefaultTimeout; there is always a limit.
//
// Agents wait 5 s for a leader before they respond to some requests: a shorter limit hides the real error.
func WithTimeout(d time.Duration) Option {
	return func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("WithTimeout(%v): want more than 0", d)
		}
		s.timeout = min(d, math.MaxInt64/2) // so that something can be added
		return nil
	}
}

// WithMaxConns sets the most connections to one agent, in use and idle. Further requests wait in order for a free one. The
// default is DefaultMaxConns.
//
// How many there are follows the agent: up to 16 for a near agent, more if requests wait because of the distance. Streams,
// blocking queries and requests without a response for a second do not count. An agent accepts 100 connections from one
// address unless limits.http_max_conns_per_client says otherwise. Processes share them: no connection is kept for more
// than about 5 s.
func WithMaxConns(n int) Option {
	return func(s *settings) error {
		if n < 1 {
			return fmt.Errorf("WithMaxConns(%d): want at least 1", n)
		}
		s.maxConns = n
		s.reconnects = append(s.reconnects, "WithMaxConns")
		return nil
	}
}

// WithMaxResponseSize limits the size of every response in bytes, after decompression. A larger one is
// ErrResponseTooLarge. Values above 2 GiB mean 2 GiB.
//
// The default is DefaultMaxResponseSize for Members and Client.Do, 4 MiB for Self, and 1 MiB for everything else. Streams
// have no limit. A decoded response takes about three times the memory of its JSON, at worst about eight times.
func WithMaxResponseSize(bytes int64) Option {
	return func(s *settings) error {
		if bytes < 1 {
			return fmt.Errorf("WithMaxResponseSize(%d): want at least 1 byte", bytes)
		}
		s.maxResponseSize = min(bytes, math.MaxInt32)
		return nil
	}
}

// WithCompression requests compressed responses. It helps on slow networks only: on loopback agents respond three times
// slower with it. The default is off.
func WithCompression(enabled bool) Option {
	return func(s *settings) error {
		s.compression = enabled
		return nil
	}
}

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
func WithRetries(n int) Option {
	return func(s *settings) error {
		if n < 0 {
			return fmt.Errorf("WithRetries(%d): want 0 or more", n)
		}
		s.retries = n
		return nil
	}
}

// WithLogger logs each attempt of a request at level debug: method, URL without its query, attempt, status, duration and
// error. It also logs at level warn when a token or certificate file can no longer be used. The default is not to log.
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil")
		}
		s.logger = logger
		return nil
	}
}

// FromEnvironment configures the Client from the variables of Nomad's own tools: NOMAD_ADDR, or NOMAD_UNIX_ADDR if that is
// not set (Nomad sets it for tasks, to the socket of the task API), NOMAD_TOKEN, NOMAD_REGION, NOMAD_NAMESPACE,
// NOMAD_HTTP_AUTH as user:password, and for TLS NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY,
// NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY.
//
// An empty variable counts as not set. Variables are read when the option is applied; nothing else in this package reads
// them. The TLS variables, if any is set, replace an earlier WithTLS as a whole. An error names the variable.
func FromEnvironment() Option {
	return func(s *settings) error {
		var errs []error
		set := func(name, option string, with func(value string) Option) {
			if value := os.Getenv(name); value != "" {
				if err := with(value)(s); err != nil {
					errs = append(errs, errors.New(name+strings.TrimPrefix(err.Error(), option)))
				}
			}
		}
		if os.Getenv("NOMAD_ADDR") != "" {
			set("NOMAD_ADDR", "WithAddress", WithAddress)
		} else {
			set("NOMAD_UNIX_ADDR", "WithAddress", withSocket)
		}
		set("NOMAD_TOKEN", "WithToken", WithToken)
		set("NOMAD_REGION", "", WithRegion)
		set("NOMAD_NAMESPACE", "", WithNamespace)
		set("NOMAD_HTTP_AUTH", "WithBasicAuth", func(value string) Option {
			user, password, _ := strings.Cut(value, ":")
			if user == "" {
				return func(*settings) error { return errors.New(": want user:password") }
			}
			return WithBasicAuth(user, password)
		})
		t := TLS{sources: map[string]string{}}
		for _, v := range []struct {
			name, field string
			to          *string
		}{
			{"NOMAD_CACERT", "CAFile", &t.CAFile}, {"NOMAD_CAPATH", "CADir", &t.CADir}, {"NOMAD_CLIENT_CERT", "CertFile", &t.CertFile},
			{"NOMAD_CLIENT_KEY", "KeyFile", &t.KeyFile}, {"NOMAD_TLS_SERVER_NAME", "ServerName", &t.ServerName},
		} {
			if *v.to = os.Getenv(v.name); *v.to != "" {
				t.sources[v.field] = v.name
			}
		}
		if value := os.Getenv("NOMAD_SKIP_VERIFY"); value != "" {
			var err error
			if t.SkipVerify, err = strconv.ParseBool(value); err != nil {
				errs = append(errs, fmt.Errorf("NOMAD_SKIP_VERIFY: %q is neither true nor false", value))
			}
		}
		if len(t.sources) > 0 || t.SkipVerify {
			s.tls, s.tlsConfig = &t, nil
			s.reconnects = append(s.reconnects, "FromEnvironment with TLS variables")
		}
		return errors.Join(errs...)
	}
}

// withSocket is WithAddress for the address or the path of a unix socket.
func withSocket(value string) Option {
	if !strings.Contains(value, "://") {
		value = "unix://" + value
	}
	if !strings.HasPrefix(value, "unix://") {
		return func(*settings) error {
			return fmt.Errorf(": %q is not a unix socket: want unix:///path/to/socket", value)
		}
	}
	return WithAddress(value)
}

// isName reports whether s is printable and has no spaces.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' })
}
