package nomadtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nomad-go/nomad"
)

// authority makes the certificates of a cluster. They are valid for ten years from an hour ago: time flies in a
// bubble of testing/synctest.
type authority struct {
	mu     sync.Mutex
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64

	client nomad.TLS // for Cluster.Client, in PEM
	folder string    // of TLSFiles, once it was called
}

// must gives a value whose making cannot fail but for a lack of memory or of disk.
func must[T any](value T, err error) T {
	if err != nil {
		panic("nomadtest: " + err.Error())
	}
	return value
}

func newAuthority() *authority {
	a := &authority{}
	a.renew()
	return a
}

// renew takes a new key, whose certificates have nothing to do with those of the old one.
func (a *authority) renew() {
	a.key = newKey()
	template := a.template("nomadtest authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := must(x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key))
	a.cert = must(x509.ParseCertificate(der))
	cert, key := a.issue("client.global.nomad", x509.ExtKeyUsageClientAuth)
	a.client = nomad.TLS{CAPEM: encode("CERTIFICATE", der), CertPEM: cert, KeyPEM: nomad.NewSecret(string(key))}
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) template(name string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}
}

// issue makes a certificate and its key, both in PEM.
func (a *authority) issue(name string, use x509.ExtKeyUsage) (cert, key []byte) {
	template := a.template(name)
	template.ExtKeyUsage, template.KeyUsage = []x509.ExtKeyUsage{use}, x509.KeyUsageDigitalSignature
	template.DNSNames = []string{name, "localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	private := newKey()
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key))
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(private)))
}

func (a *authority) issueAgent(role, region string) (cert, key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issueAgentLocked(role, region)
}

func (a *authority) issueAgentLocked(role, region string) (cert, key []byte) {
	return a.issue(role+"."+region+".nomad", x509.ExtKeyUsageServerAuth)
}

// equip replaces the configuration of an agent's listener, all of it by one authority.
func (a *authority) equip(agent *Agent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	cert, key := a.issueAgentLocked(agent.role(), agent.region)
	config := &tls.Config{Certificates: []tls.Certificate{must(tls.X509KeyPair(cert, key))}, MinVersion: tls.VersionTLS12}
	if agent.mutualTLS {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(a.cert)
	}
	agent.tlsConfig.Store(config)
}

// files writes what a client needs to a folder, once.
func (a *authority) files() nomad.TLS {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.folder == "" {
		a.folder = must(os.MkdirTemp("", "nomadtest-"))
		a.write()
	}
	return nomad.TLS{
		CAFile:   filepath.Join(a.folder, "ca.pem"),
		CertFile: filepath.Join(a.folder, "client.pem"),
		KeyFile:  filepath.Join(a.folder, "client-key.pem"),
	}
}

// write writes the files that there is a folder for.
func (a *authority) write() {
	for name, content := range map[string][]byte{"ca.pem": a.client.CAPEM, "client.pem": a.client.CertPEM, "client-key.pem": []byte(a.client.KeyPEM.Reveal())} {
		if err := os.WriteFile(filepath.Join(a.folder, name), content, 0o600); err != nil {
			panic("nomadtest: " + err.Error())
		}
	}
}

// rotate renews the authority, its client's certificate and the files of that.
func (a *authority) rotate() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.renew()
	if a.folder != "" {
		a.write()
	}
}

// clientTLS is what a client needs.
func (a *authority) clientTLS() nomad.TLS {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client
}

func (a *authority) remove() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.folder != "" {
		os.RemoveAll(a.folder)
		a.folder = ""
	}
}
