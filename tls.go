package nomad

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nomad-go/nomad/internal/reload"
)

// TLS says how an https agent is verified and how this client shows who it is, as Nomad's NOMAD_CACERT and the
// variables beside it do. The zero value trusts the system's authorities and shows no certificate.
//
// Files are read again for every connection that is made, at least every 5 s while calls are made, so that certificates
// and authorities can be replaced while a program runs. While a file is missing, cut short or does not fit its other half,
// what it held before stays, and the logger of WithLogger receives one warning. Authorities that were replaced are trusted
// for 2 s more.
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
	return strings.TrimSuffix("WithTLS: "+field, ": ")
}

// files returns the settings as package reload takes them.
func (t *TLS) files() reload.Files {
	return reload.Files{
		CAFile: t.CAFile, CADir: t.CADir, CAPEM: t.CAPEM,
		CertFile: t.CertFile, KeyFile: t.KeyFile, CertPEM: t.CertPEM, KeyPEM: []byte(t.KeyPEM.Reveal()),
		ServerName: t.ServerName, SkipVerify: t.SkipVerify,
		Source: t.source,
	}
}
