package nomad

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/nomad-go/nomad/internal/redact"
	"github.com/nomad-go/nomad/internal/reload"
	"github.com/nomad-go/nomad/internal/show"
)

// TLS sets the certificate of this client, and how the certificate of an https agent is verified. Its fields correspond
// to NOMAD_CACERT and the related variables. The zero value trusts the system's authorities and sends no certificate.
//
// Files are read again for new connections, so that certificates and authorities can be replaced while a program runs.
// While a file is missing or cut short, or certificate and key do not match, the previous content is used, and one
// warning is logged (WithLogger). The old authorities are trusted for 2 s more, from the moment the Client reads the
// new ones.
//
// It is printed, logged and encoded with its PEM redacted.
type TLS struct {
	// CAFile is a file with the PEM certificates of the authorities to trust in place of the system's. CADir is a
	// directory of such files; files in it that hold no certificate are skipped. CAPEM has the certificates themselves.
	// The authorities of all three are trusted.
	CAFile string `json:"ca_file,omitzero"`
	CADir  string `json:"ca_dir,omitzero"`
	CAPEM  []byte `json:"ca_pem,omitzero"`

	// CertFile and KeyFile are the PEM files of the client's certificate and key, CertPEM and KeyPEM their content.
	// A certificate requires its key.
	CertFile string `json:"cert_file,omitzero"`
	KeyFile  string `json:"key_file,omitzero"`
	CertPEM  []byte `json:"cert_pem,omitzero"`
	KeyPEM   Secret `json:"key_pem,omitzero"`

	// ServerName is the expected name in the agent's certificate; default the host of the address. Nomad's own
	// certificates are for server.<region>.nomad and client.<region>.nomad.
	ServerName string `json:"server_name,omitzero"`

	// SkipVerify accepts any certificate. Then anyone on the network path can read the token.
	SkipVerify bool `json:"skip_verify,omitzero"`
}

// MarshalJSON encodes the fields that are set, with the names in their tags. CAPEM, CertPEM and KeyPEM are
// "<redacted>", because text with a certificate can have a key in it too.
func (t TLS) MarshalJSON() ([]byte, error) {
	type fields TLS
	for _, path := range []*string{&t.CAFile, &t.CADir, &t.CertFile, &t.KeyFile} {
		if reload.Shown(*path) == reload.Hidden { // it may be a secret in place of a path
			*path = redact.Mark
		}
	}
	return show.JSON(struct {
		fields
		CAPEM   Secret `json:"ca_pem,omitzero"`
		CertPEM Secret `json:"cert_pem,omitzero"`
	}{fields(t), NewSecret(string(t.CAPEM)), NewSecret(string(t.CertPEM))})
}

// UnmarshalJSON decodes the fields with the names in their tags, as from a configuration file. CAPEM, CertPEM and KeyPEM
// are text.
func (t *TLS) UnmarshalJSON(data []byte) error {
	type fields TLS
	decoded := struct {
		fields
		CAPEM   string `json:"ca_pem"`
		CertPEM string `json:"cert_pem"`
	}{fields(*t), string(t.CAPEM), string(t.CertPEM)}
	if err := json.Unmarshal(data, &decoded); err != nil {
		return err
	}
	*t = TLS(decoded.fields)
	t.CAPEM, t.CertPEM = append([]byte(nil), decoded.CAPEM...), append([]byte(nil), decoded.CertPEM...)
	return nil
}

// Format prints what MarshalJSON returns, whatever the verb.
func (t TLS) Format(f fmt.State, _ rune) {
	text, _ := t.MarshalJSON()
	io.WriteString(f, show.Text(text))
}

// LogValue logs what MarshalJSON returns.
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
