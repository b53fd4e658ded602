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

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/reload"
)

// The defaults of a Client, for the options that have a number.
const (
	DefaultAddress         = "http://127.0.0.1:4646" // WithAddress; https when WithTLS or WithTLSConfig is given
	DefaultTimeout         = 30 * time.Second        // WithTimeout
	DefaultMaxConns        = 64                      // WithMaxConns
	DefaultMaxResponseSize = 64 << 20                // WithMaxResponseSize, in bytes
	DefaultRetries         = 4                       // WithRetries
)

// defaultUserAgent names this library to agents and to what stands before them.
const defaultUserAgent = "nomad-go (github.com/nomad-go/nomad)"

// Option sets one thing about a Client. Options are applied in their order, and a later one replaces what an earlier
// one set. A value that cannot be used is an error from NewClient or Client.With that names the option.
type Option func(*settings) error

// settings is what options set. A Client never changes its own.
type settings struct {
	address         address
	token           string
	tokenPath       *string // of the file that tokenFile follows, in place of token
	tokenFile       *reload.Token
	region          string
	user, password  string
	header          http.Header
	userAgent       string
	tls             *TLS
	tlsConfig       *tls.Config
	httpClient      *http.Client
	wrappers        []func(http.RoundTripper) http.RoundTripper
	timeout         time.Duration
	maxConns        int
	maxResponseSize int64
	compression     bool
	retries         int
	logger          logger
	mark            agentconn.Mark // on all requests

	// reconnects names the options given that take effect when connections are made, and so only in NewClient.
	reconnects []string
}

func defaultSettings() *settings {
	return &settings{
		address:         address{host: "127.0.0.1:4646"}, // DefaultAddress, with https when TLS is set up
		header:          http.Header{},
		userAgent:       defaultUserAgent,
		timeout:         DefaultTimeout,
		maxConns:        DefaultMaxConns,
		maxResponseSize: DefaultMaxResponseSize,
		retries:         DefaultRetries,
		logger:          noLogger{},
	}
}

func (s *settings) clone() *settings {
	clone := *s
	clone.header = s.header.Clone()
	clone.wrappers = slices.Clone(s.wrappers)
	clone.reconnects = nil
	return &clone
}

// requestHeader is the header that all requests have.
func (s *settings) requestHeader() http.Header {
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

// apply applies options and reports every one that failed.
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

// optionErrors makes one error of all that is wrong with options.
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

// WithAddress sets the agent to call. It takes an address as people write it: http://host:port, https://host:port,
// either with a path in front of /v1 where a proxy wants one, unix:///path/to/socket, and host:port, which means https
// when WithTLS or WithTLSConfig is given and http otherwise. An address that says http:// is called without TLS whatever
// those say. IPv6 hosts stand in brackets: [::1]:4646. An address with a user or password in it is refused:
// WithBasicAuth takes them. The default is DefaultAddress.
func WithAddress(addr string) Option {
	return func(s *settings) error { return s.setAddress("WithAddress", addr) }
}

func (s *settings) setAddress(source, addr string) error {
	parsed, err := parseAddress(addr)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	s.address = parsed
	return nil
}

// WithToken sets the ACL token that every call sends in X-Nomad-Token: the secret ID of a token, or a workload
// identity. Empty sends none. The default is none. The token never appears in an error or a log.
func WithToken(token string) Option {
	return func(s *settings) error { return s.setToken("WithToken", token) }
}

func (s *settings) setToken(source, token string) error {
	if !isHeaderValue(token) || token != strings.TrimSpace(token) {
		return fmt.Errorf("%s: the token has a space at an end or a character that a header cannot carry", source)
	}
	s.token, s.tokenPath, s.tokenFile = token, nil, nil
	return nil
}

// WithRegion sets the region that calls ask for. Agents pass a call on to another region where the endpoint allows
// it. Empty means the agent's own region, which is the default.
func WithRegion(region string) Option {
	return func(s *settings) error { return s.setRegion("WithRegion", region) }
}

func (s *settings) setRegion(source, region string) error {
	if region != "" && !isName(region) {
		return fmt.Errorf("%s(%q): want the name of a region, without spaces", source, region)
	}
	s.region = region
	return nil
}

// WithBasicAuth sets the user and password of HTTP basic authentication, for a proxy in front of the agent. It replaces
// an Authorization of WithHeader. An empty user sends none, which is the default. The password never appears in an
// error or a log.
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

// ownHeaders are the headers that have an option of their own, or that belong to the connection.
var ownHeaders = map[string]string{
	"X-Nomad-Token":     "use WithToken or WithTokenFile",
	"User-Agent":        "use WithUserAgent",
	"Accept-Encoding":   "use WithCompression",
	"Accept":            "it is set for each request",
	"Host":              "it is set from the address",
	"Content-Length":    "it is set for each request",
	"Content-Type":      "it is set for each request",
	"Transfer-Encoding": "it belongs to the connection",
	"Connection":        "it belongs to the connection",
	"Upgrade":           "it belongs to the connection",
	"Te":                "it belongs to the connection",
	"Trailer":           "it belongs to the connection",
}

// WithHeader sets a header that every call sends, in addition to those of the library. A later one of the same name
// replaces the earlier; an empty value removes it. Headers that have an option of their own (WithToken,
// WithUserAgent, WithCompression) or that belong to the connection are refused. The value is taken for a secret: it
// does not appear in errors and logs.
func WithHeader(name, value string) Option {
	return func(s *settings) error {
		if !isHeaderName(name) {
			return fmt.Errorf("WithHeader(%q): not the name of a header", name)
		}
		name := http.CanonicalHeaderKey(name)
		if why, ok := ownHeaders[name]; ok {
			return fmt.Errorf("WithHeader(%q): %s", name, why)
		}
		if !isHeaderValue(value) {
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

// WithUserAgent sets the User-Agent that agents and proxies see. The default names this library.
func WithUserAgent(name string) Option {
	return func(s *settings) error {
		if strings.TrimSpace(name) == "" || !isHeaderValue(name) {
			return fmt.Errorf("WithUserAgent(%q): want text on one line", name)
		}
		s.userAgent = name
		return nil
	}
}

// WithTLS sets how an https agent is verified and how this client shows who it is. It replaces an earlier WithTLS or
// WithTLSConfig. Files are read by NewClient. The default is to trust the system's authorities and show no
// certificate. Versions below TLS 1.2 are never spoken.
func WithTLS(t TLS) Option {
	return func(s *settings) error {
		s.tls, s.tlsConfig = &t, nil
		s.reconnects = append(s.reconnects, "WithTLS")
		return nil
	}
}

// WithTLSConfig sets the TLS configuration as a whole, for what TLS does not cover, such as keys in hardware. It
// replaces an earlier WithTLS. The configuration is copied. A MinVersion below TLS 1.2 is refused, none means 1.2.
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

// WithHTTPClient makes calls through the transport and the cookie jar of an http.Client of your own, in place of the
// transport of this library. Connections are then that client's business: how many there are, how long they are kept and
// what happens when the agent has too many. The http.Client itself is not changed: its Timeout and CheckRedirect give way
// to WithTimeout and to this library's rule for redirects. It cannot be combined with WithTLS, WithTLSConfig,
// WithMaxConns, unix addresses and the TLS variables of FromEnvironment, which are about the transport that it replaces.
// Client.Close leaves its connections alone.
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

// WithTransport puts a round tripper of your own around the transport, for tracing, metrics or signing. It sees each
// attempt of each call, and is called once, by NewClient. The last one given is the outermost. A request that the agent
// refuses for its limit of connections, or whose connection is lost before the response, is sent again below it: that is
// one attempt.
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

// WithTimeout limits how long a call takes as a whole, retries and waiting included. A context that ends sooner ends
// it sooner. Agents wait 5 s for a leader before they answer some calls, so that a limit below that reports the wrong
// thing. The default is DefaultTimeout; there is always a limit.
func WithTimeout(d time.Duration) Option {
	return func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("WithTimeout(%v): want more than 0", d)
		}
		s.timeout = min(d, math.MaxInt64/2) // so that something can be added
		return nil
	}
}

// WithMaxConns sets the most connections to one agent, in use and idle; further calls wait in order for a free one. How
// many there are follows the agent: up to 16 to one that is near, more where calls wait because of the distance. Streams,
// blocking queries, and requests that have waited for more than a second, are not counted. An agent takes 100 connections from one address
// in all, unless limits.http_max_conns_per_client says otherwise: what several processes there want beyond that they share,
// as no connection is kept for more than about 5 s. The default is DefaultMaxConns.
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

// WithMaxResponseSize limits the size of an answer in bytes, after decompression; a larger one is ErrResponseTooLarge.
// Calls other than Members and Client.Call take at most 4 MiB all the same. A decoded answer takes about three times the
// memory of its text, the worst that was found 13 times, and that of Client.Call what package encoding/json makes of it.
// The default is DefaultMaxResponseSize, the most is 2 GiB.
func WithMaxResponseSize(bytes int64) Option {
	return func(s *settings) error {
		if bytes < 1 {
			return fmt.Errorf("WithMaxResponseSize(%d): want at least 1 byte", bytes)
		}
		s.maxResponseSize = min(bytes, math.MaxInt32)
		return nil
	}
}

// WithCompression asks for compressed answers when enabled. That pays on slow links only: on loopback an agent answered
// three times slower with it. The default is off.
func WithCompression(enabled bool) Option {
	return func(s *settings) error {
		s.compression = enabled
		return nil
	}
}

// WithRetries sets how many times a call is tried again, after the first attempt, when that is safe: when no connection
// could be made, by a proxy either, when it was lost before the response began, and on the statuses 429, 502, 503 and
// 504. The waits between attempts start at about 0.1 s and double up to about 2 s, each varied at random by half, or are
// what the response asks for in Retry-After. All attempts share the limit of WithTimeout, and all calls to an agent share
// a budget of 100 retries, which regains one a second and one for every ten calls; a call that needs one when there is
// none fails at once.
//
// A connection that the agent refuses because it has too many from this address is not counted here: the call waits
// within its time limit until one of the Client's connections is free or the agent has room for another. Where every
// connection is closed without a response, and the agent sent nothing for 5 s (15 s if it ever did), the call fails.
//
// The default is DefaultRetries. With 0 a call makes one request, and does not wait until the agent has room.
func WithRetries(n int) Option {
	return func(s *settings) error {
		if n < 0 {
			return fmt.Errorf("WithRetries(%d): want 0 or more", n)
		}
		s.retries = n
		return nil
	}
}

// WithLogger sets where one record at level debug goes for each attempt of a call: method, URL without its query,
// attempt, status, duration and error; and one at level warn when a file that was read once cannot be used any more. The
// default is nowhere.
func WithLogger(logger *slog.Logger) Option {
	return func(s *settings) error {
		if logger == nil {
			return errors.New("WithLogger: the logger is nil")
		}
		s.logger = logger
		return nil
	}
}

// FromEnvironment takes settings from the variables that Nomad's own tools use: NOMAD_ADDR, NOMAD_UNIX_ADDR when
// NOMAD_ADDR is not set (Nomad sets it for tasks, to the socket of the task API), NOMAD_TOKEN, NOMAD_REGION,
// NOMAD_HTTP_AUTH as user:password, and for TLS NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY,
// NOMAD_TLS_SERVER_NAME and NOMAD_SKIP_VERIFY. One that is empty is taken as not set. They are read when the option
// is applied; nothing else in this package reads them. The TLS variables, if there are any, replace an earlier WithTLS
// as a whole. An error names the variable.
func FromEnvironment() Option {
	return func(s *settings) error {
		var errs []error
		set := func(name string, use func(source, value string) error) {
			if value := os.Getenv(name); value != "" {
				if err := use(name, value); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if os.Getenv("NOMAD_ADDR") != "" {
			set("NOMAD_ADDR", s.setAddress)
		} else {
			set("NOMAD_UNIX_ADDR", s.setUnixAddress)
		}
		set("NOMAD_TOKEN", s.setToken)
		set("NOMAD_REGION", s.setRegion)
		set("NOMAD_HTTP_AUTH", func(source, value string) error {
			user, password, _ := strings.Cut(value, ":")
			if user == "" {
				return errors.New(source + ": want user:password")
			}
			s.user, s.password = user, password
			return nil
		})

		fromEnv := TLS{sources: map[string]string{}}
		given := false
		setTLS := func(name, field string, to *string) {
			set(name, func(_, value string) error {
				*to, fromEnv.sources[field], given = value, name, true
				return nil
			})
		}
		setTLS("NOMAD_CACERT", "CAFile", &fromEnv.CAFile)
		setTLS("NOMAD_CAPATH", "CADir", &fromEnv.CADir)
		setTLS("NOMAD_CLIENT_CERT", "CertFile", &fromEnv.CertFile)
		setTLS("NOMAD_CLIENT_KEY", "KeyFile", &fromEnv.KeyFile)
		setTLS("NOMAD_TLS_SERVER_NAME", "ServerName", &fromEnv.ServerName)
		set("NOMAD_SKIP_VERIFY", func(source, value string) error {
			skip, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("%s: %q is neither true nor false", source, value)
			}
			fromEnv.SkipVerify = skip
			given = given || skip
			return nil
		})
		if given {
			s.tls, s.tlsConfig = &fromEnv, nil
			s.reconnects = append(s.reconnects, "FromEnvironment with TLS variables")
		}
		return errors.Join(errs...)
	}
}

// setUnixAddress takes a unix:// address, or the bare path of a socket.
func (s *settings) setUnixAddress(source, value string) error {
	if !strings.Contains(value, "://") {
		value = "unix://" + value
	}
	if !strings.HasPrefix(value, "unix://") {
		return fmt.Errorf("%s: %q is not a unix socket: want unix:///path/to/socket", source, value)
	}
	return s.setAddress(source, value)
}

// isName reports whether s can be the name of a region, node or server: printable, without spaces.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' })
}

// isHeaderName reports whether s is a token of RFC 9110, as the names of headers are.
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// isHeaderValue reports whether a header can carry s.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
