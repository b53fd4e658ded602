package reload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var serial atomic.Int64

// identity is a certificate with its key and its intermediate certificates.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pair tls.Certificate
}

// issue creates a certificate for names and addresses, or an authority if there are none. Without a parent
// it is self-signed.
func issue(t testing.TB, parent *identity, names ...string) *identity {
	t.Helper()
	number := serial.Add(1)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(number),
		Subject:               pkix.Name{CommonName: fmt.Sprint("certificate ", number)},
		NotBefore:             time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // package synctest starts in 2000
		NotAfter:              time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
	}
	if template.IsCA = len(names) == 0; template.IsCA {
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	id := &identity{key: key}
	if parent == nil {
		parent = &identity{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	require.NoError(t, err)
	id.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	id.pair = tls.Certificate{Certificate: append([][]byte{der}, parent.pair.Certificate...), PrivateKey: key}
	return id
}

// certPEM returns the certificate without its key.
func (id *identity) certPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}))
}

func (id *identity) keyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func poolOf(authorities ...*identity) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, id := range authorities {
		pool.AddCert(id.cert)
	}
	return pool
}

// agent is an HTTPS server whose certificate and requirements can change while it runs. It resumes
// sessions from before a change if the new requirements allow it.
type agent struct {
	mu     sync.Mutex
	config *tls.Config
	seen   *tls.ConnectionState // of the last request
}

func (a *agent) use(id *identity, change func(*tls.Config)) {
	config := &tls.Config{Certificates: []tls.Certificate{id.pair}}
	if change != nil {
		change(config)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config = config
}

// requires makes the agent require a client certificate of one of the authorities.
func requires(authorities ...*identity) func(*tls.Config) {
	return func(config *tls.Config) {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, poolOf(authorities...)
	}
}

func (a *agent) tlsConfig() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.config, nil
	}}
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = r.TLS
}

// clientSerial returns the serial number of the last client certificate, or 0 if there was none.
func (a *agent) clientSerial() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen.PeerCertificates) == 0 {
		return 0
	}
	return a.seen.PeerCertificates[0].SerialNumber.Int64()
}

// startAgent starts an agent and returns its port.
func startAgent(t *testing.T, id *identity, change func(*tls.Config)) (*agent, string) {
	t.Helper()
	a := new(agent)
	a.use(id, change)
	server := httptest.NewUnstartedServer(a)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = a.tlsConfig()
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	return a, port
}

// source returns the name of a field for error messages.
func source(field string) string { return strings.TrimSuffix("Option: "+field, ": ") }

func newTLS(t testing.TB, files Files) (*TLS, *warnings) {
	t.Helper()
	warned := new(warnings)
	files.Source = source
	settings, err := NewTLS(files, warned)
	require.NoError(t, err)
	return settings, warned
}

// client sends every request on a new connection.
type client struct {
	transport *http.Transport
	url       string
}

func newClient(t testing.TB, config *tls.Config, url string) *client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{transport, url}
}

// get sends a request and returns the state of its connection.
func (c *client) get(t testing.TB) (tls.ConnectionState, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
	require.NoError(t, err)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	require.NoError(t, response.Body.Close())
	return *response.TLS, nil
}

func (c *client) succeeds(t testing.TB) (resumed bool) {
	t.Helper()
	state, err := c.get(t)
	require.NoError(t, err)
	return state.DidResume
}

func (c *client) meetsUnknownAuthority(t testing.TB) {
	t.Helper()
	_, err := c.get(t)
	assertVerificationError[x509.UnknownAuthorityError](t, err)
}

func assertVerificationError[E error](t testing.TB, err error) {
	t.Helper()
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	assert.True(t, ok, "%v", err)
	_, ok = errors.AsType[E](err)
	assert.True(t, ok, "%v", err)
}

func TestConfigVerifiesTheAgent(t *testing.T) {
	ca, other := issue(t, nil), issue(t, nil)
	intermediate := issue(t, ca)
	both := []string{"localhost", "127.0.0.1"}
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "folder")
	write(t, file, "comment\n"+other.certPEM()+ca.certPEM())
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "deeper"), 0o700))
	write(t, filepath.Join(folder, "README"), "no certificate")
	write(t, filepath.Join(folder, "zone"), "no certificate")
	require.NoError(t, os.Symlink(file, filepath.Join(folder, "deeper", "link.pem")))
	require.NoError(t, os.Symlink(dir, filepath.Join(folder, "up")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "none"), filepath.Join(folder, "dangling.pem")))
	write(t, filepath.Join(folder, "README.windows"), "\xff\xfen\x00o\x00n\x00e\x00")

	unknown := assertVerificationError[x509.UnknownAuthorityError]
	wrongName := assertVerificationError[x509.HostnameError]
	caPEM := []byte(ca.certPEM())
	for _, row := range []struct {
		name  string
		host  string // of the URL
		agent *identity
		files Files
		fails func(testing.TB, error)
	}{
		{"a name", "localhost", issue(t, ca, both...), Files{CAPEM: caPEM}, nil},
		{"an address", "127.0.0.1", issue(t, ca, both...), Files{CAPEM: caPEM}, nil},
		{"a file", "localhost", issue(t, ca, both...), Files{CAFile: file}, nil},
		{"a folder", "localhost", issue(t, ca, both...), Files{CADir: folder}, nil},
		{"all together", "localhost", issue(t, ca, both...),
			Files{CAFile: file, CADir: folder, CAPEM: []byte(other.certPEM())}, nil},
		{"an intermediate authority", "localhost", issue(t, intermediate, both...), Files{CAPEM: caPEM}, nil},
		{"another name", "localhost", issue(t, ca, "elsewhere", "127.0.0.1"), Files{CAPEM: caPEM}, wrongName},
		{"another address", "127.0.0.1", issue(t, ca, "localhost", "127.0.0.2"), Files{CAPEM: caPEM}, wrongName},
		{"an address as a name", "127.0.0.1", issue(t, ca, "localhost"), Files{CAPEM: caPEM}, wrongName},
		{"an unknown authority", "localhost", issue(t, other, both...), Files{CAPEM: caPEM}, unknown},
		{"an unknown authority at an address", "127.0.0.1", issue(t, other, both...), Files{CAPEM: caPEM}, unknown},
		{"the system's authorities", "localhost", issue(t, ca, both...), Files{}, unknown},
		{"a server name", "127.0.0.1", issue(t, ca, "server.global.nomad"),
			Files{CAPEM: caPEM, ServerName: "server.global.nomad"}, nil},
		{"another server name", "localhost", issue(t, ca, both...),
			Files{CAPEM: caPEM, ServerName: "server.global.nomad"}, wrongName},
		{"no verification", "localhost", issue(t, other, "elsewhere"), Files{CAPEM: caPEM, SkipVerify: true}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, port := startAgent(t, row.agent, nil)
			settings, warned := newTLS(t, row.files)
			config := settings.Config(row.host, false)
			assert.EqualValues(t, tls.VersionTLS12, config.MinVersion)
			assert.Nil(t, config.GetClientCertificate)
			c := newClient(t, config, "https://"+net.JoinHostPort(row.host, port))
			if row.fails == nil {
				assert.False(t, c.succeeds(t))
				assert.True(t, c.succeeds(t), "the second connection must resume the first one's session")
			} else {
				for range 2 {
					_, err := c.get(t)
					row.fails(t, err)
				}
			}
			assert.Empty(t, warned.all())
		})
	}

	t.Run("an empty host", func(t *testing.T) {
		settings, _ := newTLS(t, Files{CAPEM: caPEM})
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{issue(t, ca, both...).cert}}
		wrongName(t, settings.Config("", false).VerifyConnection(state))
	})
}

func TestNewTLSReportsTheSourceOfTheFirstProblem(t *testing.T) {
	id := issue(t, nil, "client")
	other := issue(t, nil, "client")
	dir := t.TempDir()
	none, empty, folder := filepath.Join(dir, "none"), filepath.Join(dir, "empty"), filepath.Join(dir, "folder")
	utf16 := filepath.Join(dir, "utf16")
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, empty, "")
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.Mkdir(utf16, 0o700))
	write(t, filepath.Join(utf16, "ca.pem"), "\xff\xfe-\x00")
	write(t, certFile, id.certPEM())
	write(t, keyFile, id.keyPEM(t))
	missing := "open " + none + ": no such file or directory"
	for _, row := range []struct {
		want  string
		files Files
	}{
		{"Option: CAFile: " + missing, Files{CAFile: none}},
		{"Option: CAFile: " + missing, Files{CAFile: none, CertFile: none, KeyFile: none}},
		{"Option: CAFile: no PEM certificate in " + strconv.Quote(empty), Files{CAFile: empty}},
		{fmt.Sprintf("Option: CAFile: %q is not a file that can be read again", folder), Files{CAFile: folder}},
		{"Option: CADir: lstat " + none + ": no such file or directory", Files{CADir: none}},
		{"Option: CADir: no PEM certificate in the files of " + strconv.Quote(folder), Files{CADir: folder}},
		{fmt.Sprintf("Option: CADir: %q is encoded as UTF-16: want ASCII or UTF-8", filepath.Join(utf16, "ca.pem")), Files{CADir: utf16}},
		{"Option: CAPEM: no PEM certificate in it", Files{CAPEM: []byte("hunter2")}},
		{"Option: CertFile: " + missing, Files{CertFile: none, KeyFile: keyFile}},
		{"Option: KeyFile: " + missing, Files{CertFile: certFile, KeyFile: none}},
		{"Option: CertFile: the certificate has no key", Files{CertFile: certFile}},
		{"Option: KeyFile: the key has no certificate", Files{KeyFile: keyFile}},
		{"Option: CertPEM: the certificate has no key", Files{CertPEM: []byte("hunter2")}},
		{"Option: KeyPEM: the key has no certificate", Files{KeyPEM: []byte("hunter2")}},
		{"Option: the certificate is given twice: as files and as content",
			Files{CertFile: certFile, KeyPEM: []byte("hunter2")}},
		{"Option: CertFile: tls: failed to find any PEM data in certificate input",
			Files{CertFile: empty, KeyFile: keyFile}},
		{"Option: CertPEM: tls: private key does not match public key",
			Files{CertPEM: []byte(id.certPEM()), KeyPEM: []byte(other.keyPEM(t))}},
	} {
		row.files.Source = source
		settings, err := NewTLS(row.files, new(warnings))
		assert.EqualError(t, err, row.want)
		assert.Nil(t, settings)
	}
}

// paths are the TLS files of a client.
type paths struct{ Files }

func newPaths(t testing.TB) paths {
	dir := t.TempDir()
	return paths{Files{
		CAFile:   filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "cert.pem"),
		KeyFile:  filepath.Join(dir, "key.pem"),
	}}
}

// write writes an authority and a client certificate that it has issued.
func (p paths) write(t testing.TB, ca *identity) (client *identity) {
	t.Helper()
	client = issue(t, ca, "client")
	write(t, p.CAFile, ca.certPEM())
	write(t, p.CertFile, client.certPEM())
	write(t, p.KeyFile, client.keyPEM(t))
	return client
}

// contents returns the PEM of an authority and of a client certificate.
func contents(t testing.TB, ca, client *identity) Files {
	return Files{
		CAPEM:   []byte(ca.certPEM()),
		CertPEM: []byte(client.certPEM()),
		KeyPEM:  []byte(client.keyPEM(t)),
	}
}

// versions runs a test with each version of TLS, because they resume sessions in different ways.
func versions(t *testing.T, test func(t *testing.T, limit func(*tls.Config))) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			test(t, func(config *tls.Config) { config.MaxVersion = version })
		})
	}
}

func TestRotationOfAuthorityAndPairTakesEffectOnTheNextConnection(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		files := newPaths(t)
		ca := issue(t, nil)
		known := files.write(t, ca)
		a, port := startAgent(t, issue(t, ca, "localhost"), func(c *tls.Config) { limit(c); requires(ca)(c) })
		settings, warned := newTLS(t, files.Files)
		c := newClient(t, settings.Config("localhost", false), "https://localhost:"+port)
		assert.False(t, c.succeeds(t))
		assert.True(t, c.succeeds(t))
		for range 5 {
			assert.Equal(t, known.cert.SerialNumber.Int64(), a.clientSerial())
			ca = issue(t, nil)
			known = files.write(t, ca)
			a.use(issue(t, ca, "localhost"), func(c *tls.Config) { limit(c); requires(ca)(c) })
			assert.False(t, c.succeeds(t))
		}
		assert.Empty(t, warned.all())
	})
}

func TestSessionOfAReplacedPairIsNotResumed(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		files := newPaths(t)
		ca := issue(t, nil)
		first := files.write(t, ca)
		a, port := startAgent(t, issue(t, ca, "127.0.0.1"), func(c *tls.Config) { limit(c); requires(ca)(c) })
		synctest.Test(t, func(t *testing.T) { // without the agent
			settings, _ := newTLS(t, files.Files)
			c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
			assert.False(t, c.succeeds(t))
			assert.True(t, c.succeeds(t))
			assert.Equal(t, first.cert.SerialNumber.Int64(), a.clientSerial())
			second := files.write(t, ca)
			assert.False(t, c.succeeds(t), "the agent accepts both certificates, but the first is gone")
			assert.Equal(t, second.cert.SerialNumber.Int64(), a.clientSerial())
			time.Sleep(2*time.Second - 1)
			assert.False(t, c.succeeds(t))
			time.Sleep(time.Nanosecond)
			assert.False(t, c.succeeds(t), "no session is stored until the change has settled")
			assert.True(t, c.succeeds(t))
		})
	})
}

// TestSessionThatIsStoredLateIsNotResumedWithANewPair has the first response, with which TLS 1.3 sends a session, come
// long after a change of the pair.
func TestSessionThatIsStoredLateIsNotResumedWithANewPair(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		files := newPaths(t)
		ca := issue(t, nil)
		first := files.write(t, ca)
		a, port := startAgent(t, issue(t, ca, "127.0.0.1"), func(c *tls.Config) { limit(c); requires(ca)(c) })
		synctest.Test(t, func(t *testing.T) { // without the agent
			settings, _ := newTLS(t, files.Files)
			slow, err := tls.Dial("tcp", "127.0.0.1:"+port, settings.Config("127.0.0.1", false))
			require.NoError(t, err)
			defer slow.Close()

			second := files.write(t, ca)
			connect := func() (resumed bool) {
				return newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port).succeeds(t)
			}
			assert.False(t, connect())
			time.Sleep(time.Hour)
			_, err = io.WriteString(slow, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			require.NoError(t, err)
			_, err = io.ReadAll(slow)
			require.NoError(t, err)
			assert.Equal(t, first.cert.SerialNumber.Int64(), a.clientSerial())

			assert.False(t, connect(), "the session is of the first certificate")
			assert.Equal(t, second.cert.SerialNumber.Int64(), a.clientSerial())
			assert.True(t, connect())
			assert.Equal(t, second.cert.SerialNumber.Int64(), a.clientSerial())
		})
	})
}

func TestSessionsAreSharedByConfigurationsForAHostOnly(t *testing.T) {
	ca := issue(t, nil)
	_, port := startAgent(t, issue(t, ca, "server.global.nomad"), nil)
	settings, _ := newTLS(t, Files{CAPEM: []byte(ca.certPEM()), ServerName: "server.global.nomad"})
	connect := func(host string) bool {
		return newClient(t, settings.Config(host, false), "https://"+host+":"+port).succeeds(t)
	}
	assert.False(t, connect("localhost"))
	assert.True(t, connect("localhost"))
	assert.False(t, connect("127.0.0.1"))
	assert.True(t, connect("127.0.0.1"))
}

func TestReplacedAuthorityIsTrustedForTwoMoreSeconds(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		path := filepath.Join(t.TempDir(), "ca.pem")
		old, new := issue(t, nil), issue(t, nil)
		write(t, path, old.certPEM())
		a, port := startAgent(t, issue(t, old, "127.0.0.1"), limit)
		synctest.Test(t, func(t *testing.T) { // without the agent
			settings, warned := newTLS(t, Files{CAFile: path})
			c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
			assert.False(t, c.succeeds(t))
			assert.True(t, c.succeeds(t))

			time.Sleep(time.Hour)
			write(t, path, new.certPEM())
			assert.False(t, c.succeeds(t), "sessions end when the authorities change")
			time.Sleep(2*time.Second - 1)
			assert.False(t, c.succeeds(t))
			time.Sleep(time.Nanosecond)
			c.meetsUnknownAuthority(t)
			c.meetsUnknownAuthority(t)

			a.use(issue(t, new, "127.0.0.1"), limit)
			assert.False(t, c.succeeds(t))
			assert.True(t, c.succeeds(t))
			assert.Empty(t, warned.all())
		})
	})
}

func TestEachReplacedAuthorityIsTrustedForItsOwnTwoSeconds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	first, second := issue(t, nil), issue(t, nil)
	write(t, path, first.certPEM())
	a, port := startAgent(t, issue(t, first, "127.0.0.1"), nil)
	synctest.Test(t, func(t *testing.T) { // without the agent
		settings, _ := newTLS(t, Files{CAFile: path})
		c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
		write(t, path, second.certPEM())
		assert.False(t, c.succeeds(t))
		time.Sleep(time.Second)
		write(t, path, issue(t, nil).certPEM())
		assert.False(t, c.succeeds(t), "the first authority was replaced a second ago")
		time.Sleep(time.Second - 1)
		assert.False(t, c.succeeds(t))
		time.Sleep(time.Nanosecond)
		c.meetsUnknownAuthority(t)

		a.use(issue(t, second, "127.0.0.1"), nil)
		time.Sleep(time.Second - 1)
		assert.False(t, c.succeeds(t), "the second authority was replaced less than two seconds ago")
		time.Sleep(time.Nanosecond)
		c.meetsUnknownAuthority(t)
		assert.Empty(t, settings.current().value.former)
	})
}

func TestFormerAuthorityIsNotTrustedForLongerWhenThePairChanges(t *testing.T) {
	files := newPaths(t)
	old, new := issue(t, nil), issue(t, nil)
	files.write(t, old)
	_, port := startAgent(t, issue(t, old, "127.0.0.1"), nil)
	synctest.Test(t, func(t *testing.T) { // without the agent
		settings, _ := newTLS(t, files.Files)
		c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
		files.write(t, new)
		assert.False(t, c.succeeds(t))
		time.Sleep(time.Second)
		files.write(t, new) // another certificate of the same authority
		assert.False(t, c.succeeds(t))
		time.Sleep(time.Second)
		c.meetsUnknownAuthority(t)
	})
}

func TestFormerAuthorityIsNotTrustedAgainWhenThePairChanges(t *testing.T) {
	files := newPaths(t)
	old, new := issue(t, nil), issue(t, nil)
	files.write(t, old)
	_, port := startAgent(t, issue(t, old, "127.0.0.1"), nil)
	synctest.Test(t, func(t *testing.T) { // without the agent
		settings, _ := newTLS(t, files.Files)
		c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
		files.write(t, new)
		assert.False(t, c.succeeds(t))
		time.Sleep(2 * time.Second)
		files.write(t, new) // another certificate of the same authority
		c.meetsUnknownAuthority(t)
	})
}

func TestSessionOfAFormerAuthorityIsNotResumedAfterItsTime(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		path := filepath.Join(t.TempDir(), "ca.pem")
		old, new := issue(t, nil), issue(t, nil)
		write(t, path, old.certPEM())
		a, port := startAgent(t, issue(t, old, "127.0.0.1"), limit)
		synctest.Test(t, func(t *testing.T) { // without the agent
			settings, _ := newTLS(t, Files{CAFile: path})
			c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
			write(t, path, new.certPEM())
			assert.False(t, c.succeeds(t))
			a.use(issue(t, new, "127.0.0.1"), limit)
			time.Sleep(2 * time.Second)
			assert.False(t, c.succeeds(t), "the agent refuses the old session, although its new certificate is trusted")
			assert.True(t, c.succeeds(t))
		})
	})
}

func TestResumedSessionIsVerifiedWithTheCurrentAuthorities(t *testing.T) {
	versions(t, func(t *testing.T, limit func(*tls.Config)) {
		path := filepath.Join(t.TempDir(), "ca.pem")
		old, new := issue(t, nil), issue(t, nil)
		write(t, path, old.certPEM())
		a, port := startAgent(t, issue(t, old, "127.0.0.1"), limit)
		synctest.Test(t, func(t *testing.T) { // without the agent
			settings, _ := newTLS(t, Files{CAFile: path})
			config := settings.Config("127.0.0.1", false)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1) // keeps sessions when authorities change
			verify, resumed := config.VerifyConnection, false
			config.VerifyConnection = func(state tls.ConnectionState) error {
				resumed = state.DidResume
				return verify(state)
			}
			c := newClient(t, config, "https://127.0.0.1:"+port)
			assert.False(t, c.succeeds(t))
			write(t, path, new.certPEM())
			a.use(issue(t, new, "127.0.0.1"), limit)
			assert.True(t, c.succeeds(t))
			time.Sleep(2 * time.Second)
			c.meetsUnknownAuthority(t)
			assert.True(t, resumed)
			assert.False(t, c.succeeds(t), "crypto/tls drops the session that was refused")
		})
	})
}

func TestUnusableTLSFileLeavesWhatItHeldAndWarnsOncePerProblem(t *testing.T) {
	files := newPaths(t)
	ca := issue(t, nil)
	files.write(t, ca)
	_, port := startAgent(t, issue(t, ca, "localhost"), requires(ca))
	settings, warned := newTLS(t, files.Files)
	c := newClient(t, settings.Config("localhost", false), "https://localhost:"+port)
	stranger := issue(t, nil)
	for _, row := range []struct{ field, path, misfit, problem string }{
		{"CAFile", files.CAFile, stranger.keyPEM(t), "no PEM certificate in"},
		{"CertFile", files.CertFile, stranger.certPEM(), "private key does not match public key"},
		{"KeyFile", files.KeyFile, stranger.keyPEM(t), "private key does not match public key"},
	} {
		content, err := os.ReadFile(row.path)
		require.NoError(t, err)
		whole := string(content)
		before := len(warned.all())
		check := func() {
			c.succeeds(t)
			c.succeeds(t)
		}
		for _, part := range []string{"", whole[:len(whole)/2], "hunter2", row.misfit} {
			write(t, row.path, part)
			check()
		}
		require.NoError(t, os.Remove(row.path))
		check()
		write(t, row.path, whole)
		check()
		texts := warned.all()[before:]
		for i, text := range texts {
			assert.Contains(t, text, "nomad: a TLS file cannot be used, what it held before stays error")
			if i > 0 {
				assert.NotEqual(t, texts[i-1], text)
			}
			assert.NotContains(t, text, "hunter2")
		}
		all := strings.Join(texts, "\n")
		assert.Contains(t, all, row.problem)
		assert.Contains(t, all, "Option: "+row.field+": open "+row.path+": no such file or directory")
	}
}

func TestProblemsOfAuthoritiesAndPairAreBothReported(t *testing.T) {
	files := newPaths(t)
	files.write(t, issue(t, nil))
	settings, warned := newTLS(t, files.Files)
	require.NoError(t, os.Remove(files.CAFile))
	require.NoError(t, os.Remove(files.KeyFile))
	settings.current()
	if texts := warned.all(); assert.Len(t, texts, 1) {
		assert.Contains(t, texts[0], files.CAFile)
		assert.Contains(t, texts[0], files.KeyFile)
	}
}

func TestClientCertificateIsPresentedOnlyToAnAgentThatAcceptsIt(t *testing.T) {
	ca, other := issue(t, nil), issue(t, nil)
	known := issue(t, ca, "client")
	files := contents(t, ca, known)
	for _, row := range []struct {
		name    string
		accepts *identity
		serial  int64
	}{
		{"its authority", ca, known.cert.SerialNumber.Int64()},
		{"another authority", other, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, port := startAgent(t, issue(t, ca, "localhost"), func(c *tls.Config) {
				c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, poolOf(row.accepts)
			})
			settings, _ := newTLS(t, files)
			newClient(t, settings.Config("localhost", false), "https://localhost:"+port).succeeds(t)
			assert.Equal(t, row.serial, a.clientSerial())
		})
	}
}

func TestClientCertificateIsReadWhenTheAgentRequestsIt(t *testing.T) {
	files := newPaths(t)
	files.write(t, issue(t, nil))
	settings, _ := newTLS(t, Files{CertFile: files.CertFile, KeyFile: files.KeyFile})
	config := settings.Config("agent.test", false)
	assert.Nil(t, config.VerifyConnection)
	assert.False(t, config.InsecureSkipVerify)
	known := files.write(t, issue(t, nil))
	pair, err := config.GetClientCertificate(&tls.CertificateRequestInfo{
		Version:          tls.VersionTLS13,
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
	})
	require.NoError(t, err)
	assert.Equal(t, known.pair.Certificate[:1], pair.Certificate)
}

func TestFormerAuthorityIsNotTrustedForLongerWhileFilesHang(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	ca := issue(t, nil)
	write(t, path, ca.certPEM())
	_, port := startAgent(t, issue(t, ca, "127.0.0.1"), nil)
	synctest.Test(t, func(t *testing.T) { // without the agent
		settings, _ := newTLS(t, Files{CAFile: path})
		c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
		write(t, path, issue(t, nil).certPEM())
		c.succeeds(t)
		reads := scripted(settings.held)
		c.succeeds(t)
		time.Sleep(2 * time.Second)
		c.meetsUnknownAuthority(t)
		reads.values <- settings.held.last.Load().value
	})
}

func TestHangingFilesDelayAHandshakeButDoNotBlockIt(t *testing.T) {
	files := newPaths(t)
	ca := issue(t, nil)
	files.write(t, ca)
	a, port := startAgent(t, issue(t, ca, "127.0.0.1"), requires(ca))
	synctest.Test(t, func(t *testing.T) { // without the agent
		settings, _ := newTLS(t, files.Files)
		read := settings.held.read
		reads := scripted(settings.held)
		config := settings.Config("127.0.0.1", false)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() { newClient(t, config, "https://127.0.0.1:"+port).succeeds(t) })
		}
		group.Wait()
		assert.EqualValues(t, 1, reads.begun.Load())

		// The rotation works again when the file system does.
		ca = issue(t, nil)
		known := files.write(t, ca)
		a.use(issue(t, ca, "127.0.0.1"), requires(ca))
		settings.held.read = read
		reads.values <- settings.held.last.Load().value
		newClient(t, config, "https://127.0.0.1:"+port).succeeds(t)
		assert.Equal(t, known.cert.SerialNumber.Int64(), a.clientSerial())
	})
}

// startProxy starts an HTTP proxy and returns its URL. used counts its requests.
func startProxy(t *testing.T) (address *url.URL, used *atomic.Int32) {
	t.Helper()
	used = new(atomic.Int32)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !assert.Equal(t, http.MethodConnect, r.Method) {
			return
		}
		used.Add(1)
		target, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
		if !assert.NoError(t, err) {
			return
		}
		defer target.Close()
		conn, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(target, conn)
			target.Close()
		}()
		_, _ = io.Copy(conn, target)
		conn.Close()
		<-done
	}))
	t.Cleanup(proxy.Close)
	address, err := url.Parse(proxy.URL)
	require.NoError(t, err)
	return address, used
}

func TestConfigFollowsFilesBehindAProxy(t *testing.T) {
	files := newPaths(t)
	ca := issue(t, nil)
	files.write(t, ca)
	a, port := startAgent(t, issue(t, ca, "localhost"), requires(ca))
	settings, _ := newTLS(t, files.Files)
	c := newClient(t, settings.Config("localhost", false), "https://localhost:"+port)
	proxy, used := startProxy(t)
	c.transport.Proxy = http.ProxyURL(proxy)
	assert.False(t, c.succeeds(t))
	assert.True(t, c.succeeds(t))
	ca = issue(t, nil)
	known := files.write(t, ca)
	a.use(issue(t, ca, "localhost"), requires(ca))
	assert.False(t, c.succeeds(t))
	assert.Equal(t, known.cert.SerialNumber.Int64(), a.clientSerial())
	a.use(issue(t, issue(t, nil), "localhost"), func(c *tls.Config) { c.SessionTicketsDisabled = true })
	c.meetsUnknownAuthority(t)
	assert.EqualValues(t, 4, used.Load())
}

func TestConfigWorksWithNewClientConn(t *testing.T) {
	ca := issue(t, nil)
	known := issue(t, ca, "client")
	a, port := startAgent(t, issue(t, ca, "127.0.0.1"), requires(ca))
	settings, _ := newTLS(t, contents(t, ca, known))
	c := newClient(t, settings.Config("127.0.0.1", false), "https://127.0.0.1:"+port)
	for _, resumed := range []bool{false, true} {
		conn, err := c.transport.NewClientConn(t.Context(), "https", "127.0.0.1:"+port)
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
		require.NoError(t, err)
		response, err := conn.RoundTrip(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, resumed, response.TLS.DidResume)
		assert.Equal(t, known.cert.SerialNumber.Int64(), a.clientSerial())
		require.NoError(t, conn.Close())
	}
	a.use(issue(t, issue(t, nil), "127.0.0.1"), requires(ca))
	other, _ := newTLS(t, Files{CAPEM: []byte(ca.certPEM())})
	c = newClient(t, other.Config("127.0.0.1", false), "")
	_, err := c.transport.NewClientConn(t.Context(), "https", "127.0.0.1:"+port)
	assertVerificationError[x509.UnknownAuthorityError](t, err)
}

func TestConcurrentHandshakesSucceedDuringRotation(t *testing.T) {
	files := newPaths(t)
	ca := issue(t, nil)
	files.write(t, ca)
	a, port := startAgent(t, issue(t, ca, "localhost"), requires(ca))
	settings, warned := newTLS(t, files.Files)
	config := settings.Config("localhost", false)
	var (
		group   sync.WaitGroup
		rotated atomic.Bool
		counts  [4]atomic.Int64
	)
	for i := range counts {
		c := newClient(t, config.Clone(), "https://localhost:"+port)
		group.Go(func() {
			for !rotated.Load() {
				_, err := c.get(t)
				assert.NoError(t, err)
				counts[i].Add(1)
			}
		})
	}
	// settle waits until all connections that are being made now are established.
	settle := func() {
		for i := range counts {
			for before := counts[i].Load(); counts[i].Load() < before+2; {
				time.Sleep(time.Millisecond)
			}
		}
	}
	for range 5 {
		next := issue(t, nil)
		known := issue(t, next, "client")
		// The recommended order: first both authorities, then the certificates.
		a.use(issue(t, ca, "localhost"), requires(ca, next))
		write(t, files.CAFile, ca.certPEM()+next.certPEM())
		settle()
		write(t, files.CertFile, known.certPEM())
		write(t, files.KeyFile, known.keyPEM(t))
		a.use(issue(t, next, "localhost"), requires(ca, next))
		settle()
		ca = next
	}
	rotated.Store(true)
	group.Wait()
	for _, text := range warned.all() { // when only one file of a pair was replaced
		assert.Contains(t, text, "private key does not match public key")
	}
}

// TestFileOfCADirThatIsGone has a link of CADir lead to nothing for a while. Its certificate stays in use, and a link that
// never led anywhere does not matter.
func TestFileOfCADirThatIsGone(t *testing.T) {
	dir, away := t.TempDir(), filepath.Join(t.TempDir(), "b.pem")
	write(t, filepath.Join(dir, "a.pem"), issue(t, nil).certPEM())
	write(t, away, issue(t, nil).certPEM())
	require.NoError(t, os.Symlink(away, filepath.Join(dir, "b.pem")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "c.pem")))
	warned := new(warnings)
	settings, err := NewTLS(Files{CADir: dir, Source: source}, warned)
	require.NoError(t, err)
	both := settings.current().value.trusted
	require.NoError(t, os.Rename(away, away+".old"))
	assert.True(t, both.Equal(settings.current().value.trusted))
	assert.Len(t, warned.all(), 1)
	require.NoError(t, os.Rename(away+".old", away))
	assert.True(t, both.Equal(settings.current().value.trusted))
	assert.Len(t, warned.all(), 1)
	require.NoError(t, os.Remove(filepath.Join(dir, "b.pem")))
	assert.False(t, both.Equal(settings.current().value.trusted), "the link was removed")
}
