package nomad

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nomad-go/nomad/internal/reload"
)

// TLS configures how the certificate of an https agent is verified, and the certificate of the client, as Nomad's
// NOMAD_CACERT and related variables do. The zero value trusts the system's authorities and sends no certificate.
//
// Files are read again for new connections, so that certificates and authorities can be replaced while a program runs.
// While a file is missing, cut short or does not match its other half, the previous content is used, and WithLogger gets
// one warning. Replaced authorities are trusted for 2 s more.
//
// It is printed, logged and encoded without its key.
type TLS struct {
	// CAFile is a file with the PEM certificates of the authorities to trust in place of the system's.
	// CADir is a directory of such files; files in it that hold no certificate are skipped.
	// CAPEM has the certificates themselves. All that are given are trusted.
	CAFile string
	CADir  string
	CAPEM  []byte

	// CertFile and KeyFile are the PEM files of the client's certificate and key, CertPEM and KeyPEM their content.
	// A certificate requires its key.
	CertFile string
	KeyFile  string
	CertPEM  []byte
	KeyPEM   Secret

	// ServerName is the expected name in the agent's certificate; default the host of the address. Nomad's own
	// certificates are for server.<region>.nomad and client.<region>.nomad.
	ServerName string

	// SkipVerify accepts any certificate. Then anyone on the network path can read the token.
	SkipVerify bool
}

// Format prints the configuration without the key, whatever the verb.
func (t TLS) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomad.TLS{CAFile:%q CADir:%q CAPEM:%d bytes CertFile:%q KeyFile:%q CertPEM:%d bytes KeyPEM:%s "+
		"ServerName:%q SkipVerify:%t}", t.CAFile, t.CADir, len(t.CAPEM), t.CertFile, t.KeyFile, len(t.CertPEM),
		cmp.Or(fmt.Sprint(t.KeyPEM), "none"), t.ServerName, t.SkipVerify)
}

// LogValue logs the configuration without the key.
func (t TLS) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

// files returns the configuration for package reload.
func (t TLS) files() reload.Files {
	return reload.Files{
		CAFile: t.CAFile, CADir: t.CADir, CAPEM: t.CAPEM,
		CertFile: t.CertFile, KeyFile: t.KeyFile, CertPEM: t.CertPEM, KeyPEM: []byte(t.KeyPEM.Reveal()),
		ServerName: t.ServerName, SkipVerify: t.SkipVerify,
		Source: func(field string) string { return strings.TrimSuffix("WithTLS: "+field, ": ") },
	}
}
