package nomad

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// TLS says how an https agent is verified and how this client shows who it is, as Nomad's NOMAD_CACERT and the
// variables beside it do. The zero value trusts the system's authorities and shows no certificate.
//
// It prints and logs without its key, unless it is in a field that is not exported: package fmt shows what is in those.
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
	KeyPEM   []byte `json:"-"`

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
		redacted(t.KeyPEM), t.ServerName, t.SkipVerify)
}

// LogValue logs the settings without the key's content.
func (t TLS) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

func redacted(secret []byte) string {
	if len(secret) == 0 {
		return "none"
	}
	return "<redacted>"
}

func (t *TLS) source(field string) string {
	if name, ok := t.sources[field]; ok {
		return name
	}
	return "WithTLS: " + field
}

// config reads the files and makes the configuration. It reports the first thing that is wrong by its source.
func (t *TLS) config() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.SkipVerify,
	}
	if t.CAFile != "" || t.CADir != "" || len(t.CAPEM) > 0 {
		roots, err := t.authorities()
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots
	}
	certificate, err := t.certificate()
	if err != nil {
		return nil, err
	}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	return config, nil
}

// authorities collects the certificates of CAFile, CADir and CAPEM.
func (t *TLS) authorities() (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if len(t.CAPEM) > 0 && !roots.AppendCertsFromPEM(t.CAPEM) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", t.source("CAPEM"))
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.source("CAFile"), err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no PEM certificate in %s", t.source("CAFile"), t.CAFile)
		}
	}
	if t.CADir != "" {
		found := false
		err := filepath.WalkDir(t.CADir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			// A mounted secret has links to folders in it.
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				return err
			}
			pem, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found = roots.AppendCertsFromPEM(pem) || found
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.source("CADir"), err)
		}
		if !found {
			return nil, fmt.Errorf("%s: no PEM certificate in the files of %s", t.source("CADir"), t.CADir)
		}
	}
	return roots, nil
}

// certificate loads the certificate to show, or none.
func (t *TLS) certificate() (*tls.Certificate, error) {
	files := t.CertFile != "" || t.KeyFile != ""
	content := len(t.CertPEM) > 0 || len(t.KeyPEM) > 0
	switch {
	case !files && !content:
		return nil, nil
	case files && content:
		return nil, errors.New("WithTLS: the certificate is given twice: as files and as content")
	case files && t.CertFile == "":
		return nil, fmt.Errorf("%s: the key has no certificate", t.source("KeyFile"))
	case files && t.KeyFile == "":
		return nil, fmt.Errorf("%s: the certificate has no key", t.source("CertFile"))
	case content && len(t.CertPEM) == 0:
		return nil, errors.New("WithTLS: KeyPEM: the key has no certificate")
	case content && len(t.KeyPEM) == 0:
		return nil, errors.New("WithTLS: CertPEM: the certificate has no key")
	}
	certPEM, keyPEM := t.CertPEM, t.KeyPEM
	if files {
		var err error
		if certPEM, err = os.ReadFile(t.CertFile); err != nil {
			return nil, fmt.Errorf("%s: %w", t.source("CertFile"), err)
		}
		if keyPEM, err = os.ReadFile(t.KeyFile); err != nil {
			return nil, fmt.Errorf("%s: %w", t.source("KeyFile"), err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.source("CertFile"), err)
	}
	return &pair, nil
}
