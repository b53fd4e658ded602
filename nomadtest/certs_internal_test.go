package nomadtest

import (
	"crypto/x509"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRotationsAtTheSameTime checks that agents end with the certificate and the authority of the last rotation.
func TestRotationsAtTheSameTime(t *testing.T) {
	cluster := New(t, Servers(3), MutualTLS())
	for range 50 {
		var group sync.WaitGroup
		for range 3 {
			group.Go(cluster.RotateTLS)
		}
		group.Wait()
		trusted := x509.NewCertPool()
		require.True(t, trusted.AppendCertsFromPEM(cluster.TLS().CAPEM))
		for _, a := range cluster.Agents() {
			config := a.tlsConfig.Load()
			assert.True(t, trusted.Equal(config.ClientCAs), a.name)
			cert, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
			require.NoError(t, err)
			_, err = cert.Verify(x509.VerifyOptions{Roots: trusted})
			require.NoError(t, err, a.name)
		}
	}
}
