package nomad_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

const forms = "want http://host:port, https://host:port, unix:///path/to/socket or host:port"

// TestAddresses checks the URL that each spelling of an address leads to, or the exact error.
func TestAddresses(t *testing.T) {
	for _, test := range []struct{ in, want, err string }{
		{in: "http://127.0.0.1:4646", want: "http://127.0.0.1:4646"},
		{in: "HTTP://127.0.0.1:4646/", want: "http://127.0.0.1:4646"},
		{in: "https://nomad.example.com", want: "https://nomad.example.com"},
		{in: "https://proxy.example.com/clusters/eu/", want: "https://proxy.example.com/clusters/eu"},
		{in: "http://proxy/a%2Fb", want: "http://proxy/a%2Fb"},
		{in: "http://[::1]:4646", want: "http://[::1]:4646"},
		{in: "http://[fe80::1%25eth0]:4646", want: "http://[fe80::1%25eth0]:4646"},
		{in: "127.0.0.1:4646", want: "http://127.0.0.1:4646"},
		{in: "localhost:4646", want: "http://localhost:4646"},
		{in: "nomad-1.node.consul:4646", want: "http://nomad-1.node.consul:4646"},
		{in: "[::1]:4646", want: "http://[::1]:4646"},
		{in: "[fe80::1%eth0]:4646", want: "http://[fe80::1%25eth0]:4646"},
		{in: "unix:///secrets/api.sock", want: "unix:///secrets/api.sock"},
		{in: "unix:///with space/api.sock", want: "unix:///with space/api.sock"},

		{in: "", err: "the address is empty: " + forms},
		{in: "localhost", err: `"localhost": ` + forms},
		{in: "::1", err: `"::1": ` + forms},
		{in: "::1:4646", err: `"::1:4646": ` + forms},
		{in: "127.0.0.1:", err: `"127.0.0.1:": ` + forms},
		{in: "127.0.0.1:http", err: `"127.0.0.1:http": ` + forms},
		{in: "127.0.0.1:0", err: `"127.0.0.1:0": ` + forms},
		{in: "127.0.0.1:65536", err: `"127.0.0.1:65536": ` + forms},
		{in: ":4646", err: `":4646": ` + forms},
		{in: "127.0.0.1:4646/v1", err: `"127.0.0.1:4646/v1": ` + forms},
		{in: " http://127.0.0.1:4646", err: `" http://127.0.0.1:4646": ` + forms},
		{in: "http://127.0.0.1:4646\n", err: `"http://127.0.0.1:4646\n": ` + forms},
		{in: "http://", err: `"http://": ` + forms},
		{in: "http://:4646", err: `"http://:4646": ` + forms},
		{in: "http://host:", err: `"http://host:": ` + forms},
		{in: "http://host:99999", err: `"http://host:99999": ` + forms},
		{in: "http:///v1/agent", err: `"http:///v1/agent": ` + forms},
		{in: "http://a b:4646", err: `"http://a b:4646": ` + forms},
		{in: "http://127.0.0.1:4646/v1", err: `"http://127.0.0.1:4646/v1": leave out /v1, requests add it`},
		{in: "http://127.0.0.1:4646?region=eu", err: `"http://127.0.0.1:4646?region=eu": an address has no query or fragment: ` + forms},
		{in: "http://127.0.0.1:4646#x", err: `"http://127.0.0.1:4646#x": an address has no query or fragment: ` + forms},
		{in: "ftp://127.0.0.1:4646", err: `"ftp://127.0.0.1:4646": ` + forms},
		{in: "tcp://127.0.0.1:4646", err: `"tcp://127.0.0.1:4646": ` + forms},
		{in: "unix://api.sock", err: `"unix://api.sock": the socket's path is not absolute: want unix:///path/to/socket`},
		{in: "unix://", err: `"unix://": the socket's path is not absolute: want unix:///path/to/socket`},
		{in: "http://ops:hunter2@127.0.0.1:4646", err: `the address has a user or password in it: use WithBasicAuth or NOMAD_HTTP_AUTH`},
		{in: "http://ops:hunter2@127.0.0.1:4646:1", err: `an address with an @ in it: ` + forms},
		{in: "http://ops:hunter2%40127.0.0.1:4646", err: `an address with an @ in it: ` + forms},
		{in: "http://ops:hunter2", err: `an address with a port that is not a number: ` + forms},
		{in: "https://ops:hunter2/nomad", err: `an address with a port that is not a number: ` + forms},
		{in: "ops:hunter2@127.0.0.1:4646", err: `the address has a user or password in it: use WithBasicAuth or NOMAD_HTTP_AUTH`},
	} {
		t.Run(test.in, func(t *testing.T) {
			client, err := nomad.NewClient(nomad.WithAddress(test.in))
			if test.err != "" {
				require.EqualError(t, err, "nomad: WithAddress: "+test.err)
				assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
				assert.NotContains(t, err.Error(), "hunter2")
				return
			}
			require.NoError(t, err)
			defer client.Close()
			assert.Equal(t, "nomad.Client("+test.want+")", client.String())
		})
	}
}

// clearEnvironment unsets the Nomad variables of the machine that runs the test.
func clearEnvironment(t *testing.T) {
	for _, name := range []string{"NOMAD_ADDR", "NOMAD_UNIX_ADDR", "NOMAD_TOKEN", "NOMAD_REGION", "NOMAD_HTTP_AUTH",
		"NOMAD_CACERT", "NOMAD_CAPATH", "NOMAD_CLIENT_CERT", "NOMAD_CLIENT_KEY", "NOMAD_TLS_SERVER_NAME", "NOMAD_SKIP_VERIFY"} {
		t.Setenv(name, "")
	}
}

// TestEnvironments checks the client that the variables configure, or the exact error.
func TestEnvironments(t *testing.T) {
	pki := newPKI(t)
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("nothing\n"), 0o600))
	none := filepath.Join(folder, "none.pem")
	noFile := none + ": no such file or directory"

	for _, test := range []struct {
		name string
		env  string
		want string
		err  string
	}{
		{name: "nothing set", want: "http://127.0.0.1:4646"},
		{name: "an authority alone", env: "NOMAD_CACERT=" + pki.CAFile, want: "https://127.0.0.1:4646"},
		{name: "an authority and an address that says http", env: "NOMAD_ADDR=http://a:1 NOMAD_CACERT=" + pki.CAFile, want: "http://a:1"},
		{name: "an address", env: "NOMAD_ADDR=https://nomad:4646", want: "https://nomad:4646"},
		{name: "a socket", env: "NOMAD_UNIX_ADDR=unix:///secrets/api.sock", want: "unix:///secrets/api.sock"},
		{name: "a socket's path", env: "NOMAD_UNIX_ADDR=/secrets/api.sock", want: "unix:///secrets/api.sock"},
		{name: "a socket as address", env: "NOMAD_ADDR=unix:///secrets/api.sock", want: "unix:///secrets/api.sock"},
		{name: "the address counts before the socket", env: "NOMAD_ADDR=http://a:1 NOMAD_UNIX_ADDR=/secrets/api.sock", want: "http://a:1"},
		{name: "the address hides a bad socket", env: "NOMAD_ADDR=http://a:1 NOMAD_UNIX_ADDR=x", want: "http://a:1"},
		{name: "host and port with an authority", env: "NOMAD_ADDR=a:1 NOMAD_CACERT=" + pki.CAFile, want: "https://a:1"},
		{name: "a folder of authorities", env: "NOMAD_ADDR=a:1 NOMAD_CAPATH=" + filepath.Dir(pki.CAFile), want: "https://a:1"},
		{name: "a certificate", env: "NOMAD_ADDR=a:1 NOMAD_CLIENT_CERT=" + pki.CertFile + " NOMAD_CLIENT_KEY=" + pki.KeyFile, want: "https://a:1"},
		{name: "a server's name", env: "NOMAD_ADDR=a:1 NOMAD_TLS_SERVER_NAME=server.global.nomad", want: "https://a:1"},
		{name: "no verification", env: "NOMAD_ADDR=a:1 NOMAD_SKIP_VERIFY=1", want: "https://a:1"},
		{name: "verification", env: "NOMAD_ADDR=a:1 NOMAD_SKIP_VERIFY=false", want: "http://a:1"},
		{name: "a user alone", env: "NOMAD_HTTP_AUTH=ops", want: "http://127.0.0.1:4646"},

		{name: "a bad address", env: "NOMAD_ADDR=nowhere", err: `NOMAD_ADDR: "nowhere": ` + forms},
		{name: "a password in the address", env: "NOMAD_ADDR=http://ops:hunter2@a:1", err: `NOMAD_ADDR: the address has a user or password in it: use WithBasicAuth or NOMAD_HTTP_AUTH`},
		{name: "a bad socket", env: "NOMAD_UNIX_ADDR=api.sock", err: `NOMAD_UNIX_ADDR: "unix://api.sock": the socket's path is not absolute: want unix:///path/to/socket`},
		{name: "a URL for a socket", env: "NOMAD_UNIX_ADDR=http://a:1", err: `NOMAD_UNIX_ADDR: "http://a:1" is not a unix socket: want unix:///path/to/socket`},
		{name: "a token with a line break", env: "NOMAD_TOKEN=hunter2\n", err: "NOMAD_TOKEN: the token has a space at an end or a character that a header cannot carry"},
		{name: "a password alone", env: "NOMAD_HTTP_AUTH=:hunter2", err: "NOMAD_HTTP_AUTH: want user:password"},
		{name: "no authority", env: "NOMAD_CACERT=" + none, err: "NOMAD_CACERT: open " + noFile},
		{name: "an empty authority", env: "NOMAD_CACERT=" + empty, err: "NOMAD_CACERT: no PEM certificate in " + strconv.Quote(empty)},
		{name: "no folder", env: "NOMAD_CAPATH=" + none, err: "NOMAD_CAPATH: lstat " + noFile},
		{name: "an empty folder", env: "NOMAD_CAPATH=" + folder, err: "NOMAD_CAPATH: no PEM certificate in the files of " + strconv.Quote(folder)},
		{name: "a certificate without key", env: "NOMAD_CLIENT_CERT=" + pki.CertFile, err: "NOMAD_CLIENT_CERT: the certificate has no key"},
		{name: "a key without certificate", env: "NOMAD_CLIENT_KEY=" + pki.KeyFile, err: "NOMAD_CLIENT_KEY: the key has no certificate"},
		{name: "no certificate", env: "NOMAD_CLIENT_CERT=" + none + " NOMAD_CLIENT_KEY=" + pki.KeyFile, err: "NOMAD_CLIENT_CERT: open " + noFile},
		{name: "no key", env: "NOMAD_CLIENT_CERT=" + pki.CertFile + " NOMAD_CLIENT_KEY=" + none, err: "NOMAD_CLIENT_KEY: open " + noFile},
		{name: "not a certificate", env: "NOMAD_CLIENT_CERT=" + empty + " NOMAD_CLIENT_KEY=" + pki.KeyFile, err: "NOMAD_CLIENT_CERT: tls: failed to find any PEM data in certificate input"},
		{name: "neither true nor false", env: "NOMAD_SKIP_VERIFY=perhaps", err: `NOMAD_SKIP_VERIFY: "perhaps" is neither true nor false`},
		{name: "two at once", env: "NOMAD_ADDR=nowhere NOMAD_SKIP_VERIFY=perhaps", err: `NOMAD_ADDR: "nowhere": ` + forms + "\n" + `nomad: NOMAD_SKIP_VERIFY: "perhaps" is neither true nor false`},
	} {
		t.Run(test.name, func(t *testing.T) {
			clearEnvironment(t)
			for _, pair := range strings.Split(test.env, " ") {
				if name, value, ok := strings.Cut(pair, "="); ok {
					t.Setenv(name, value)
				}
			}
			client, err := nomad.NewClient(nomad.FromEnvironment())
			if test.err != "" {
				require.EqualError(t, err, "nomad: "+test.err)
				assert.NotContains(t, err.Error(), "hunter2")
				return
			}
			require.NoError(t, err)
			defer client.Close()
			assert.Equal(t, "nomad.Client("+test.want+")", client.String())
		})
	}
}

// TestEnvironmentReplacesTLS checks that NOMAD_SKIP_VERIFY=false, which alone is no reason for https, replaces earlier
// options for TLS as the other variables do.
func TestEnvironmentReplacesTLS(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("NOMAD_SKIP_VERIFY", "false")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "[]") }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	for name, opt := range map[string]nomad.Option{
		"WithTLS":       nomad.WithTLS(nomad.TLS{SkipVerify: true}),
		"WithTLSConfig": nomad.WithTLSConfig(&tls.Config{InsecureSkipVerify: true}),
	} {
		t.Run(name, func(t *testing.T) {
			address := nomad.WithAddress(server.Listener.Addr().String())
			client, err := nomad.NewClient(address, opt, nomad.FromEnvironment())
			require.NoError(t, err)
			defer client.Close()
			assert.Contains(t, client.String(), "https://")
			_, err = client.Agent.Servers(t.Context())
			assert.ErrorContains(t, err, "unknown authority")

			client, err = nomad.NewClient(address, nomad.FromEnvironment(), opt)
			require.NoError(t, err)
			defer client.Close()
			_, err = client.Agent.Servers(t.Context())
			assert.NoError(t, err)
			_, err = client.With(nomad.FromEnvironment())
			assert.ErrorContains(t, err, "FromEnvironment with TLS variables")
		})
	}
}

// TestEnvironmentNeedsOption checks that NewClient ignores the environment without FromEnvironment.
func TestEnvironmentNeedsOption(t *testing.T) {
	t.Setenv("NOMAD_ADDR", "nowhere")
	client, err := nomad.NewClient()
	require.NoError(t, err)
	assert.Equal(t, "nomad.Client("+nomad.DefaultAddress+")", client.String())
}

// TestBadOptions checks that each invalid value is an error that names the option and shows no secret.
func TestBadOptions(t *testing.T) {
	var nilTransport = func(http.RoundTripper) http.RoundTripper { return nil }
	for _, test := range []struct {
		err  string
		opts []nomad.Option
	}{
		{"option 1 is nil", []nomad.Option{nil}},
		{"WithToken: the token has a space at an end or a character that a header cannot carry", []nomad.Option{nomad.WithToken("hunter2 ")}},
		{"WithBasicAuth: a user cannot contain a colon", []nomad.Option{nomad.WithBasicAuth("a:b", "hunter2")}},
		{"WithBasicAuth: a password needs a user", []nomad.Option{nomad.WithBasicAuth("", "hunter2")}},
		{`WithHeader(""): not the name of a header`, []nomad.Option{nomad.WithHeader("", "x")}},
		{`WithHeader("a b"): not the name of a header`, []nomad.Option{nomad.WithHeader("a b", "x")}},
		{`WithHeader("X-Nomad-Token"): use WithToken or WithTokenFile`, []nomad.Option{nomad.WithHeader("x-nomad-token", "hunter2")}},
		{`WithHeader("Host"): it is set from the address`, []nomad.Option{nomad.WithHeader("host", "x")}},
		{`WithHeader("X-A"): the value has a character that a header cannot carry`, []nomad.Option{nomad.WithHeader("X-A", "hunter2\r\n")}},
		{`WithUserAgent(""): want text on one line`, []nomad.Option{nomad.WithUserAgent("")}},
		{"WithTLS: KeyPEM: the key has no certificate", []nomad.Option{nomad.WithTLS(nomad.TLS{KeyPEM: nomad.NewSecret("hunter2")})}},
		{"WithTLS: CertPEM: the certificate has no key", []nomad.Option{nomad.WithTLS(nomad.TLS{CertPEM: []byte("x")})}},
		{"WithTLS: the certificate is given twice: as files and as content", []nomad.Option{nomad.WithTLS(nomad.TLS{CertFile: "a", CertPEM: []byte("x")})}},
		{"WithTLS: CAPEM: no PEM certificate in it", []nomad.Option{nomad.WithTLS(nomad.TLS{CAPEM: []byte("x")})}},
		{"WithTLSConfig: the configuration is nil", []nomad.Option{nomad.WithTLSConfig(nil)}},
		{"WithTLSConfig: MinVersion is TLS 1.1, want TLS 1.2 or later", []nomad.Option{nomad.WithTLSConfig(&tls.Config{MinVersion: tls.VersionTLS11})}},
		{"WithHTTPClient: the client is nil", []nomad.Option{nomad.WithHTTPClient(nil)}},
		{"WithHTTPClient: it cannot be combined with WithMaxConns", []nomad.Option{nomad.WithHTTPClient(http.DefaultClient), nomad.WithMaxConns(1)}},
		{"WithHTTPClient: it cannot be combined with WithTLS", []nomad.Option{nomad.WithTLS(nomad.TLS{}), nomad.WithHTTPClient(http.DefaultClient)}},
		{"WithHTTPClient: it cannot be combined with a unix address", []nomad.Option{nomad.WithHTTPClient(http.DefaultClient), nomad.WithAddress("unix:///a")}},
		{"WithTransport: the function is nil", []nomad.Option{nomad.WithTransport(nil)}},
		{"WithTransport: the function returned nil", []nomad.Option{nomad.WithTransport(nilTransport)}},
		{"WithTimeout(0s): want more than 0", []nomad.Option{nomad.WithTimeout(0)}},
		{"WithTimeout(-1s): want more than 0", []nomad.Option{nomad.WithTimeout(-time.Second)}},
		{"WithMaxConns(0): want at least 1", []nomad.Option{nomad.WithMaxConns(0)}},
		{"WithMaxResponseSize(0): want at least 1 byte", []nomad.Option{nomad.WithMaxResponseSize(0)}},
		{"WithRetries(-1): want 0 or more", []nomad.Option{nomad.WithRetries(-1)}},
		{"WithLogger: the logger is nil", []nomad.Option{nomad.WithLogger(nil)}},
		{"WithTimeout(0s): want more than 0\nnomad: WithRetries(-1): want 0 or more", []nomad.Option{nomad.WithTimeout(0), nomad.WithRetries(-1)}},
	} {
		t.Run(test.err, func(t *testing.T) {
			client, err := nomad.NewClient(test.opts...)
			require.EqualError(t, err, "nomad: "+test.err)
			assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Nil(t, client)
		})
	}
}

// headersOf returns the headers that a client with opts sends.
func headersOf(t *testing.T, opts ...nomad.Option) http.Header {
	t.Helper()
	var got http.Header
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		fmt.Fprint(w, "[]")
	}), opts...)
	_, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	return got
}

func TestHeaders(t *testing.T) {
	plain := headersOf(t)
	assert.NotContains(t, plain, "X-Nomad-Token")
	assert.NotContains(t, plain, "Authorization")
	assert.NotContains(t, plain, "Accept-Encoding")
	assert.Contains(t, plain.Get("User-Agent"), "nomad-go")

	full := headersOf(t, nomad.WithToken("t"), nomad.WithBasicAuth("ops", "p"), nomad.WithHeader("x-team", "a"),
		nomad.WithHeader("X-Team", "b"), nomad.WithHeader("X-Gone", "a"), nomad.WithHeader("X-Gone", ""),
		nomad.WithUserAgent("me/1"), nomad.WithCompression(true))
	assert.Equal(t, "t", full.Get("X-Nomad-Token"))
	assert.Equal(t, "Basic b3BzOnA=", full.Get("Authorization"))
	assert.Equal(t, []string{"b"}, full["X-Team"])
	assert.NotContains(t, full, "X-Gone")
	assert.Equal(t, "me/1", full.Get("User-Agent"))
	assert.Equal(t, "gzip", full.Get("Accept-Encoding"))

	bearer, basic := nomad.WithHeader("Authorization", "Bearer t"), nomad.WithBasicAuth("ops", "p")
	assert.Equal(t, "Bearer t", headersOf(t, basic, bearer).Get("Authorization"), "the later option wins")
	assert.Equal(t, "Basic b3BzOnA=", headersOf(t, bearer, basic).Get("Authorization"))
}

// TestWith checks that only the given options change in a derived client, and that the original
// client does not change.
func TestWith(t *testing.T) {
	var seen []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, fmt.Sprintf("token=%q region=%q from=%s", r.Header.Get("X-Nomad-Token"), r.URL.Query().Get("region"), r.RemoteAddr))
		fmt.Fprint(w, "[]")
	})
	client := newClient(t, handler, nomad.WithToken("one"), nomad.WithHeader("X-A", "1"))
	derived, err := client.With(nomad.WithToken("two"), nomad.WithRegion("eu"), nomad.WithHeader("X-A", "2"))
	require.NoError(t, err)
	for _, c := range []*nomad.Client{client, derived, client} {
		_, err := c.Agent.Servers(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, derived.Close(), "closing a derived client does nothing")
	_, err = client.Agent.Servers(t.Context())
	require.NoError(t, err)

	from := seen[0][strings.Index(seen[0], "from="):]
	assert.Equal(t, []string{
		`token="one" region="" ` + from,
		`token="two" region="eu" ` + from,
		`token="one" region="" ` + from,
		`token="one" region="" ` + from,
	}, seen, "one connection serves both")

	other := httptest.NewServer(handler)
	defer other.Close()
	elsewhere, err := client.With(nomad.WithAddress(other.URL))
	require.NoError(t, err)
	_, err = elsewhere.Agent.Servers(t.Context())
	require.NoError(t, err)

	for want, opt := range map[string]nomad.Option{
		"WithMaxConns: it takes effect when connections are made: use NewClient":                         nomad.WithMaxConns(2),
		"WithTLS: it takes effect when connections are made: use NewClient":                              nomad.WithTLS(nomad.TLS{}),
		"WithHTTPClient: it takes effect when connections are made: use NewClient":                       nomad.WithHTTPClient(http.DefaultClient),
		"WithAddress to or from a unix socket: it takes effect when connections are made: use NewClient": nomad.WithAddress("unix:///a"),
		"WithTimeout(0s): want more than 0":                                                              nomad.WithTimeout(0),
	} {
		_, err := client.With(opt)
		assert.EqualError(t, err, "nomad: "+want)
	}
}

// TestSecretsDoNotPrint prints and logs values that hold a secret.
func TestSecretsDoNotPrint(t *testing.T) {
	var log strings.Builder
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden) // the body repeats every secret
		fmt.Fprintf(w, "no %s %s %s", r.Header.Get("X-Nomad-Token"), r.Header.Get("X-Api-Key"), "hunter2-password")
	}), nomad.WithToken("hunter2-token"), nomad.WithBasicAuth("ops", "hunter2-password"), nomad.WithHeader("X-Api-Key", "hunter2-key"),
		nomad.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	_, err := client.Agent.Members(t.Context())
	require.ErrorIs(t, err, nomad.ErrPermissionDenied)
	settings := nomad.TLS{CertPEM: []byte("c"), KeyPEM: nomad.NewSecret("hunter2-pem"), KeyFile: "key.pem"}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "tls", settings, "client", client, "agent", client.Agent)
	asJSON, jsonErr := json.Marshal(settings)
	require.NoError(t, jsonErr)

	printed := log.String() + string(asJSON) + err.Error()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{client, *client, client.Agent, *client.Agent, err, settings, &settings, nomad.WithToken("hunter2-token")} {
			printed += fmt.Sprintf(verb, value)
		}
	}
	assert.NotContains(t, printed, "hunter2")
	assert.NotContains(t, printed, fmt.Sprintf("%x", "hunter2"))
	assert.NotContains(t, printed, "aHVudGVyMi")                               // base64
	assert.NotContains(t, printed, fmt.Sprintf("%d", []byte("hunter2"))[1:10]) // as numbers
	assert.Contains(t, err.Error(), "403 no <redacted> <redacted> <redacted>")
}

// logJSON logs values as JSON.
func logJSON(to io.Writer, name string, values ...any) {
	logger := slog.New(slog.NewJSONHandler(to, nil))
	for _, value := range values {
		logger.Info("x", name, value)
	}
}

func TestLogger(t *testing.T) {
	var log strings.Builder
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "[]") }),
		nomad.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	_, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.Regexp(t, `level=DEBUG msg="nomad request" method=GET url=http://127.0.0.1:\d+/v1/agent/servers attempt=1 duration=\S+ status=200\n$`, log.String())
}

// TestTransportWrappers checks that wrappers see every attempt and that the last one is outermost.
func TestTransportWrappers(t *testing.T) {
	var seen []string
	wrap := func(name string) nomad.Option {
		return nomad.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				seen = append(seen, name)
				return next.RoundTrip(r)
			})
		})
	}
	attempts := 0
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "[]")
	}), wrap("inner"), wrap("outer"))
	_, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"outer", "inner", "outer", "inner"}, seen)
}

// TestOwnHTTPClientIsRetried closes the connections of an http.Client that the program provides.
func TestOwnHTTPClientIsRetried(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hits.Add(1) <= 2 {
			panic(http.ErrAbortHandler)
		}
		responding(200, "application/json", `["a:1"]`).ServeHTTP(w, r)
	}))
	defer server.Close()
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	client, err := nomad.NewClient(nomad.WithAddress(server.URL), nomad.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	_, err = client.Agent.Servers(t.Context())
	assert.NoError(t, err)
	assert.EqualValues(t, 3, hits.Load())
}

// TestHTTPClient checks that the http.Client of the program is used, and neither changed nor closed.
func TestHTTPClient(t *testing.T) {
	used := 0
	own := &http.Client{Timeout: time.Nanosecond, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		used++
		return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	})}
	client, err := nomad.NewClient(nomad.WithHTTPClient(own))
	require.NoError(t, err)
	require.NoError(t, client.Agent.ForceLeave(t.Context(), "a.global"))
	assert.Equal(t, 1, used)
	assert.Equal(t, time.Nanosecond, own.Timeout)
	assert.Nil(t, own.CheckRedirect)
}

// TestTLS makes calls over mutual TLS, with valid and with invalid settings.
func TestTLS(t *testing.T) {
	pki := newPKI(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "[]") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pki.Pair}, ClientCAs: pki.Pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	const name = "server.global.nomad"

	for _, test := range []struct {
		name string
		opt  nomad.Option
		err  string
	}{
		{"files", nomad.WithTLS(nomad.TLS{CAFile: pki.CAFile, CertFile: pki.CertFile, KeyFile: pki.KeyFile, ServerName: name}), ""},
		{"a folder", nomad.WithTLS(nomad.TLS{CADir: filepath.Dir(pki.CAFile), CertFile: pki.CertFile, KeyFile: pki.KeyFile, ServerName: name}), ""},
		{"content", nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, CertPEM: pki.CertPEM, KeyPEM: nomad.NewSecret(string(pki.KeyPEM)), ServerName: name}), ""},
		{"no verification", nomad.WithTLS(nomad.TLS{SkipVerify: true, CertPEM: pki.CertPEM, KeyPEM: nomad.NewSecret(string(pki.KeyPEM))}), ""},
		{"a configuration", nomad.WithTLSConfig(&tls.Config{RootCAs: pki.Pool, Certificates: []tls.Certificate{pki.Pair}, ServerName: name}), ""},
		{"no certificate", nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, ServerName: name}), "certificate required"},
		{"no authority", nomad.WithTLS(nomad.TLS{CertPEM: pki.CertPEM, KeyPEM: nomad.NewSecret(string(pki.KeyPEM)), ServerName: name}), "unknown authority"},
		{"another name", nomad.WithTLS(nomad.TLS{CAPEM: pki.CAPEM, CertPEM: pki.CertPEM, KeyPEM: nomad.NewSecret(string(pki.KeyPEM)), ServerName: "x"}), "not x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			attempts := 0
			client, err := nomad.NewClient(nomad.WithAddress(server.Listener.Addr().String()), test.opt, nomad.WithTransport(
				func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) { attempts++; return next.RoundTrip(r) })
				}))
			require.NoError(t, err)
			defer client.Close()
			_, err = client.Agent.Servers(t.Context())
			if test.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.err)
			assert.Equal(t, 1, attempts, "a TLS failure is not retried")
		})
	}
}

// TestUnixSocket calls an agent through a unix socket, as a task does with the task API.
func TestUnixSocket(t *testing.T) {
	folder, err := os.MkdirTemp("", "nomad") // t.TempDir is too long: a socket's path is limited to about 100 bytes
	require.NoError(t, err)
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "api.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "[%q]", r.Host)
	})}
	go server.Serve(listener)
	defer server.Close()

	clearEnvironment(t)
	t.Setenv("NOMAD_UNIX_ADDR", "unix://"+socket)
	client, err := nomad.NewClient(nomad.FromEnvironment())
	require.NoError(t, err)
	defer client.Close()
	servers, err := client.Agent.Servers(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"localhost"}, servers)
	_, err = client.With(nomad.WithAddress("http://127.0.0.1:4646"))
	assert.ErrorIs(t, err, nomad.ErrInvalidArgument)

	require.NoError(t, os.Remove(socket))
	client.Close()
	fresh, err := nomad.NewClient(nomad.FromEnvironment(), nomad.WithRetries(0))
	require.NoError(t, err)
	_, err = fresh.Agent.Servers(t.Context())
	assert.ErrorContains(t, err, "nomad: GET unix://"+socket+"/v1/agent/servers: dial unix "+socket+": connect: no such file or directory")
}

// TestIPv6 calls an agent on the IPv6 loopback address, if the machine has one.
func TestIPv6(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("IPv6 is not available: ", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "[]") })}
	go server.Serve(listener)
	defer server.Close()
	for _, address := range []string{listener.Addr().String(), "http://" + listener.Addr().String()} {
		client, err := nomad.NewClient(nomad.WithAddress(address))
		require.NoError(t, err)
		_, err = client.Agent.Servers(t.Context())
		assert.NoError(t, err)
		client.Close()
	}
}

// TestPathPrefix calls an agent through a proxy that serves it below a path.
func TestPathPrefix(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "[%q]", r.URL.EscapedPath())
	}))
	defer server.Close()
	client, err := nomad.NewClient(nomad.WithAddress(server.URL + "/eu%2F1/"))
	require.NoError(t, err)
	defer client.Close()
	servers, err := client.Agent.Servers(context.Background())
	require.NoError(t, err)
	assert.Equal(t, []string{"/eu%2F1/v1/agent/servers"}, servers)
}

// TestTLSFromJSON decodes the settings of TLS as from a configuration file.
func TestTLSFromJSON(t *testing.T) {
	want := nomad.TLS{CAFile: "ca.pem", CAPEM: []byte("A\n"), CertPEM: []byte("B"), KeyPEM: nomad.NewSecret("C"), ServerName: "n", SkipVerify: true}
	var got nomad.TLS
	require.NoError(t, json.Unmarshal([]byte(`{"ca_file":"ca.pem","ca_pem":"A\n","cert_pem":"B","key_pem":"C","server_name":"n","skip_verify":true}`), &got))
	assert.Equal(t, want, got)
	require.NoError(t, json.Unmarshal([]byte(`{"server_name":"m"}`), &got))
	want.ServerName = "m"
	assert.Equal(t, want, got, "what is not given stays")
	got = nomad.TLS{}
	require.NoError(t, json.Unmarshal([]byte(`{}`), &got))
	assert.Equal(t, nomad.TLS{}, got)
	assert.Error(t, json.Unmarshal([]byte(`{"ca_pem":1}`), &got))
}
