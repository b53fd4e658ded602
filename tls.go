package nomad

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// TLS says how an https agent is verified and how this client shows who it is, as Nomad's NOMAD_CACERT and the
// variables beside it do. The zero value trusts the system's authorities and shows no certificate.
//
// Files are read again for every connection that is made, at least every 5 s while calls are made, so that certificates
// and authorities can be replaced while a program runs. While a file is missing, cut short or does not fit its other half,
// what it held before stays, and the logger of WithLogger is warned once. To an agent behind an HTTP proxy the
// authorities stay as they were at the beginning.
//
// It prints, logs and encodes without its key.
type TLS struct {
	// CAFile is a file with the PEM certificates of the authorities to trust in place of the system's.
	// CADir is a directory of such files; those in it that hold no certificate are passed over.
	// CAPEM is the certificates themselves. What is given of the three is taken together.
	CAFile string
	CADir  string
	CAPEM  []byte

	// CertFile and KeyFile are the PEM files of the certificate and key to show, CertPEM and KeyPEM their content.
	// A certificate needs its key and comes once, from a file or as content.
	CertFile string
	KeyFile  string
	CertPEM  []byte
	KeyPEM   Secret

	// ServerName is the name to find in the agent's certificate, in place of the address's host. Nomad's own
	// certificates are made out to server.<region>.nomad and client.<region>.nomad.
	ServerName string

	// SkipVerify takes any certificate for the agent's. Whoever stands between can then read the token.
	SkipVerify bool

	// sources names where fields came from, for errors: a variable in place of WithTLS and the field.
	sources map[string]string
}

// Format prints the settings without the key's content, whatever the verb.
func (t TLS) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomad.TLS{CAFile:%q CADir:%q CAPEM:%d bytes CertFile:%q KeyFile:%q CertPEM:%d bytes KeyPEM:%s "+
		"ServerName:%q SkipVerify:%t}", t.CAFile, t.CADir, len(t.CAPEM), t.CertFile, t.KeyFile, len(t.CertPEM),
		cmp.Or(t.KeyPEM.standIn(), "none"), t.ServerName, t.SkipVerify)
}

// LogValue logs the settings without the key's content.
func (t TLS) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

func (t *TLS) source(field string) string {
	if name, ok := t.sources[field]; ok {
		return name
	}
	return "WithTLS: " + field
}

// liveTLS makes the configuration of each handshake from what the files hold by then. What cannot be used, as when a file
// is being written, leaves in place what was there before.
type liveTLS struct {
	settings *TLS
	logger   logger

	mu       sync.Mutex
	caPEM    []pemText
	replaced []replacedPEM
	roots    *x509.CertPool // of both; nil for the system's
	pairPEM  [2][]byte
	pair     *tls.Certificate
	problem  string // as it was logged
}

// replacedPEM is authorities that are trusted for a little longer, in case that there is more to come of the file that
// took their place.
type replacedPEM struct {
	texts []pemText
	until time.Time
}

const (
	settleTime  = 2 * time.Second
	maxReplaced = 4
)

// newLiveTLS reads the files for the first time. It reports the first thing that is wrong by its source.
func newLiveTLS(settings *TLS, logger logger) (*liveTLS, error) {
	l := &liveTLS{settings: settings, logger: logger}
	var err error
	if l.caPEM, err = settings.readAuthorities(); err == nil {
		if l.roots, err = poolOf(l.caPEM); err == nil {
			err = l.refreshPair()
		}
	}
	return l, err
}

// config makes the configuration of a handshake.
func (l *liveTLS) config() *tls.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	roots, err := l.refreshRoots()
	err = errors.Join(err, l.refreshPair())
	switch {
	case err == nil:
		l.problem = ""
	case l.problem != err.Error():
		l.problem = err.Error()
		l.logger.Warn("nomad: a TLS file cannot be used, what it held before stays", "error", l.problem)
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         l.settings.ServerName,
		InsecureSkipVerify: l.settings.SkipVerify,
		RootCAs:            roots,
	}
	if l.pair != nil {
		config.Certificates = []tls.Certificate{*l.pair}
	}
	return config
}

// refreshRoots reads the authorities again and gives those to trust now.
func (l *liveTLS) refreshRoots() (*x509.CertPool, error) {
	texts, err := l.settings.readAuthorities()
	if err != nil {
		return l.roots, err
	}
	now := time.Now()
	replaced := slices.DeleteFunc(slices.Clone(l.replaced), func(r replacedPEM) bool { return now.After(r.until) })
	if !slices.EqualFunc(texts, l.caPEM, pemText.equal) {
		if _, err := poolOf(texts); err != nil {
			return l.roots, err
		}
		replaced = append(replaced, replacedPEM{l.caPEM, now.Add(settleTime)})
		l.caPEM = texts
	} else if len(replaced) == len(l.replaced) {
		return l.roots, nil
	}
	l.replaced = replaced[max(0, len(replaced)-maxReplaced):]
	for _, r := range l.replaced {
		texts = slices.Concat(texts, r.texts)
	}
	l.roots, err = poolOf(texts)
	return l.roots, err
}

// refreshPair reads the certificate and key again, if there are any.
func (l *liveTLS) refreshPair() error {
	certPEM, keyPEM, err := l.settings.readPair()
	if err != nil || bytes.Equal(certPEM, l.pairPEM[0]) && bytes.Equal(keyPEM, l.pairPEM[1]) {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("%s: %w", l.settings.source("CertFile"), err)
	}
	l.pair, l.pairPEM = &pair, [2][]byte{certPEM, keyPEM}
	return nil
}

// pemText is certificates of authorities and where they come from.
type pemText struct {
	source string
	where  string // it is in, for errors
	files  [][]byte
}

func (t pemText) equal(other pemText) bool {
	return slices.EqualFunc(t.files, other.files, bytes.Equal)
}

// readAuthorities collects the content of CAPEM, CAFile and CADir.
func (t *TLS) readAuthorities() ([]pemText, error) {
	var texts []pemText
	if len(t.CAPEM) > 0 {
		texts = append(texts, pemText{t.source("CAPEM"), "it", [][]byte{t.CAPEM}})
	}
	if t.CAFile != "" {
		content, err := readFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.source("CAFile"), err)
		}
		texts = append(texts, pemText{t.source("CAFile"), t.CAFile, [][]byte{content}})
	}
	if t.CADir != "" {
		text := pemText{source: t.source("CADir"), where: "the files of " + t.CADir}
		err := filepath.WalkDir(t.CADir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			// A mounted secret has links to folders in it.
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				return err
			}
			content, err := readFile(path)
			text.files = append(text.files, content)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text.source, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// poolOf collects certificates. Each text has to have one. Without a text there is no pool.
func poolOf(texts []pemText) (*x509.CertPool, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	for _, text := range texts {
		found := false
		for _, file := range text.files {
			found = roots.AppendCertsFromPEM(file) || found
		}
		if !found {
			return nil, fmt.Errorf("%s: no PEM certificate in %s", text.source, text.where)
		}
	}
	return roots, nil
}

// readPair reads the certificate to show and its key, if there are any.
func (t *TLS) readPair() (certPEM, keyPEM []byte, err error) {
	files := t.CertFile != "" || t.KeyFile != ""
	content := len(t.CertPEM) > 0 || t.KeyPEM != (Secret{})
	switch {
	case files && content:
		return nil, nil, errors.New("WithTLS: the certificate is given twice: as files and as content")
	case files && t.CertFile == "":
		return nil, nil, fmt.Errorf("%s: the key has no certificate", t.source("KeyFile"))
	case files && t.KeyFile == "":
		return nil, nil, fmt.Errorf("%s: the certificate has no key", t.source("CertFile"))
	case content && len(t.CertPEM) == 0:
		return nil, nil, errors.New("WithTLS: KeyPEM: the key has no certificate")
	case content && t.KeyPEM == (Secret{}):
		return nil, nil, errors.New("WithTLS: CertPEM: the certificate has no key")
	case !files:
		return t.CertPEM, []byte(t.KeyPEM.Reveal()), nil
	}
	if certPEM, err = readFile(t.CertFile); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", t.source("CertFile"), err)
	}
	if keyPEM, err = readFile(t.KeyFile); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", t.source("KeyFile"), err)
	}
	return certPEM, keyPEM, nil
}

// maxFile is the most that is read of a file that an option names.
const maxFile = 16 << 20

// readFile reads a file that can be read again. It does not wait for one that is not: a pipe, say.
func readFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a file that can be read again", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%q is too long: want at most %d bytes", path, maxFile)
	}
	return content, err
}
