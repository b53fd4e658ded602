package reload

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

const (
	settleTime = 2 * time.Second // how long a change takes to settle: files may be half written
	readTime   = time.Second / 2 // how long a handshake waits for a read: its context cannot end that
)

// Files says which PEM files, or contents of such files, TLS uses.
type Files struct {
	// CAFile, CADir and CAPEM together hold the authorities to trust in place of the system's.
	CAFile, CADir string
	CAPEM         []byte

	// CertFile and KeyFile, or CertPEM and KeyPEM, are the client's certificate and key.
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte

	ServerName string // the name in the agent's certificate, in place of the host
	SkipVerify bool   // accepts every certificate of the agent

	// Source names a field in errors, such as "WithTLS: CAFile" for "CAFile", and the whole for "".
	// It must not be nil.
	Source func(field string) string
}

// TLS makes configurations that follow files. While a file is missing, cut short or does not fit its other
// half, what it held before stays in use, and the logger is warned once per problem.
type TLS struct {
	files Files
	held  *follower[credentials]
}

// NewTLS reads the files for the first time. It returns an error if one cannot be used.
// The logger must not be nil.
func NewTLS(files Files, logger Logger) (*TLS, error) {
	held, err := newFollower(files.read, "nomad: a TLS file cannot be used, what it held before stays", logger)
	if err != nil {
		return nil, err
	}
	return &TLS{files, held}, nil
}

// Config returns a new configuration for one connection to host, a name or an IP address: an agent, or a proxy on the
// way to one, whose certificate has its own name. It follows the files. Configurations share the sessions with a host.
func (t *TLS) Config(host string, proxy bool) *tls.Config {
	name := host
	if !proxy {
		name = cmp.Or(t.files.ServerName, host)
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         name,
		InsecureSkipVerify: t.files.SkipVerify,
		ClientSessionCache: &sessionCache{t: t, host: host},
	}
	configured := t.held.last.Load().value
	if configured.pair != nil {
		config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair := t.current().value.pair
			if info.SupportsCertificate(pair) != nil {
				return &tls.Certificate{}, nil // as with tls.Config.Certificates, the agent may accept none
			}
			return pair, nil
		}
	}
	if configured.trusted != nil && !t.files.SkipVerify {
		// tls.Config.RootCAs cannot change. VerifyConnection is called for resumed sessions too.
		// ConnectionState.ServerName is empty for an IP address.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return t.current().value.verify(state.PeerCertificates, name)
		}
	}
	return config
}

// Changed reports whether the files had other content a moment ago, which the agent may still have.
func (t *TLS) Changed() bool { return !t.held.last.Load().value.settled() }

// current reads the files, and returns what they held before if that takes too long.
func (t *TLS) current() *reading[credentials] {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	last, _ := t.held.reread(ctx)
	return last
}

// sessionCache holds the TLS sessions with a host, for one connection. Its handshake begins with Get, which returns only
// a session of the current credentials, as a resumption does not present the client's certificate again. A session can
// be stored much later: in TLS 1.3 it comes with the first response. It is of the credentials of the handshake.
type sessionCache struct {
	t    *TLS
	host string
	used atomic.Pointer[credentials] // what Get read, or nil while a change settles
}

func (c *sessionCache) Get(string) (*tls.ClientSessionState, bool) {
	now := c.t.current().value
	if !now.settled() {
		c.used.Store(nil)
		return nil, false // there is none yet
	}
	c.used.Store(&now)
	return now.sessions.Get(c.host)
}

func (c *sessionCache) Put(_ string, session *tls.ClientSessionState) {
	// Until a change has settled, the session may be of an agent with the former certificate.
	if used := c.used.Load(); used != nil {
		used.sessions.Put(c.host, session)
	}
}

// credentials are what the files hold.
type credentials struct {
	trusted  *x509.CertPool         // nil for the system's authorities
	former   []former               // the authorities before, which stay trusted for a while
	pair     *tls.Certificate       // nil without a client certificate
	skipped  []string               // files of CADir that have no text, and links to nothing
	sessions tls.ClientSessionCache // of handshakes with these credentials
	changed  time.Time              // when they replaced others
}

// former holds authorities that others replaced.
type former struct {
	pool     *x509.CertPool
	replaced time.Time
}

func (f former) expired() bool { return time.Since(f.replaced) >= settleTime }

func (c credentials) settled() bool { return time.Since(c.changed) >= settleTime }

// verify checks certificates as crypto/tls does.
func (c credentials) verify(certs []*x509.Certificate, name string) error {
	opts := x509.VerifyOptions{Roots: c.trusted, Intermediates: x509.NewCertPool()}
	for _, cert := range certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	err := certs[0].VerifyHostname(name) // opts.DNSName would not check an empty name
	if err == nil {
		_, err = certs[0].Verify(opts)
		for _, old := range c.former {
			if err != nil && !old.expired() {
				opts.Roots = old.pool
				if _, oldErr := certs[0].Verify(opts); oldErr == nil {
					err = nil
				}
			}
		}
	}
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return nil
}

// read returns what the files hold now, with what is left of last where they cannot be used.
func (f *Files) read(last credentials) (credentials, error) {
	next := last
	next.former = slices.DeleteFunc(slices.Clone(last.former), former.expired)
	pool, skipped, err := f.readPool()
	for _, path := range skipped {
		if err == nil && last.trusted != nil && !slices.Contains(last.skipped, path) { // it had a certificate, perhaps
			err = fmt.Errorf("%s: %s cannot be read any more", f.Source("CADir"), Shown(path))
		}
	}
	if err == nil {
		next.skipped = skipped
	}
	switch {
	case err != nil && last.trusted == nil: // in NewTLS, which reports the first problem only
		return last, err
	case err == nil && !pool.Equal(last.trusted):
		next.trusted = pool
		if last.trusted != nil {
			next.former = append(next.former, former{last.trusted, time.Now()})
		}
	}
	pair, pairErr := f.readPair()
	if pair != nil &&
		(last.pair == nil || !slices.EqualFunc(pair.Certificate, last.pair.Certificate, bytes.Equal)) {
		next.pair = pair
	}
	switch {
	case last.sessions == nil:
		next.sessions = tls.NewLRUClientSessionCache(0)
	case next.trusted != last.trusted || next.pair != last.pair:
		next.sessions, next.changed = tls.NewLRUClientSessionCache(0), time.Now()
	}
	return next, errors.Join(err, pairErr)
}

// readPool reads the authorities. Each of CAPEM, CAFile and CADir that is given must hold a certificate. skipped are the
// files of CADir that have no text, and links to nothing.
func (f *Files) readPool() (pool *x509.CertPool, skipped []string, err error) {
	if len(f.CAPEM) == 0 && f.CAFile == "" && f.CADir == "" {
		return nil, nil, nil
	}
	pool = x509.NewCertPool()
	if len(f.CAPEM) > 0 && !pool.AppendCertsFromPEM(bytes.TrimPrefix(f.CAPEM, []byte("\ufeff"))) {
		return nil, nil, fmt.Errorf("%s: no PEM certificate in it", f.Source("CAPEM"))
	}
	if f.CAFile != "" {
		content, err := readFile(f.CAFile)
		if err == nil && !pool.AppendCertsFromPEM(content) {
			err = fmt.Errorf("no PEM certificate in %s", Shown(f.CAFile))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Source("CAFile"), err)
		}
	}
	if f.CADir != "" {
		if _, err := os.Stat(f.CADir); err != nil {
			if err := CheckPath(f.CADir); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", f.Source("CADir"), err)
			}
		}
		found := false
		var problem error // of the first file that was skipped
		err := filepath.WalkDir(f.CADir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			// A mounted secret has links to folders in it.
			if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
				return nil
			}
			content, err := readFile(path)
			if _, ok := errors.AsType[contentError](err); ok || errors.Is(err, fs.ErrNotExist) { // a link to nothing
				skipped, problem = append(skipped, path), cmp.Or(problem, err)
				return nil
			}
			found = pool.AppendCertsFromPEM(content) || found
			return err
		})
		if err == nil && !found {
			err = cmp.Or(problem, fmt.Errorf("no PEM certificate in the files of %s", Shown(f.CADir)))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Source("CADir"), withoutPath(f.CADir, err))
		}
	}
	return pool, skipped, nil
}

// readPair reads the client's certificate and key, if there are any.
func (f *Files) readPair() (*tls.Certificate, error) {
	certPEM, keyPEM, kind := f.CertPEM, f.KeyPEM, "PEM"
	if f.CertFile != "" || f.KeyFile != "" {
		kind = "File"
	}
	var err error
	switch {
	case kind == "File" && len(certPEM)+len(keyPEM) > 0:
		return nil, fmt.Errorf("%s: the certificate is given twice: as files and as content", f.Source(""))
	case kind == "PEM" && len(certPEM)+len(keyPEM) == 0:
		return nil, nil
	case f.CertFile == "" && len(certPEM) == 0:
		return nil, fmt.Errorf("%s: the key has no certificate", f.Source("Key"+kind))
	case f.KeyFile == "" && len(keyPEM) == 0:
		return nil, fmt.Errorf("%s: the certificate has no key", f.Source("Cert"+kind))
	case kind == "File":
		if certPEM, err = readFile(f.CertFile); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Source("CertFile"), err)
		}
		if keyPEM, err = readFile(f.KeyFile); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Source("KeyFile"), err)
		}
	}
	pair, err := tls.X509KeyPair(bytes.TrimPrefix(certPEM, []byte("\ufeff")), bytes.TrimPrefix(keyPEM, []byte("\ufeff")))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Source("Cert"+kind), err)
	}
	return &pair, nil
}
