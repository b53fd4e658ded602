package nomad_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// TestSecretsDoNotShow prints every exported type that holds a secret, in every way that packages fmt,
// log/slog and encoding/json offer.
func TestSecretsDoNotShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hunter2-file"), 0o600))
	withToken := clientOf(t, nomad.WithToken("hunter2-token"), nomad.WithBasicAuth("ops", "hunter2-password"),
		nomad.WithHeader("Authorization", "Bearer hunter2-header"))
	withFile := clientOf(t, nomad.WithTokenFile(file))
	settings := nomad.TLS{KeyPEM: nomad.NewSecret("hunter2-key"), CertPEM: []byte("certificate")}
	secret := nomad.NewSecret("hunter2-secret")
	values := map[string]any{
		"client": withToken, "client's copy": *withToken, "agent": withToken.Agent, "agent's copy": *withToken.Agent,
		"client with a file": withFile, "TLS": settings, "pointer to TLS": &settings, "secret": secret, "pointer to secret": &secret,
		"key ring": &nomad.Keyring{Keys: map[nomad.Secret]int{secret: 1}}, "in a field": struct{ S nomad.Secret }{secret},
		"in a field that is not exported": struct{ s nomad.Secret }{secret}, "in a slice": []nomad.Secret{secret},
		"options": []nomad.Option{nomad.WithToken("hunter2-token")},
	}
	for name, value := range values {
		for _, verb := range strings.Split("%v %+v %#v %s %q %x %X %d %t %p %T %w %o %c %U %e", " ") {
			assertNoSecret(t, fmt.Sprintf(verb, value), name+" "+verb)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "value", value)
		slog.New(slog.NewTextHandler(&log, nil)).Info("a", "value", value)
		encoded, _ := json.Marshal(value)
		assertNoSecret(t, log.String()+string(encoded), name)
	}
}

func assertNoSecret(t *testing.T, text, what string) {
	t.Helper()
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), "104 117 110 116 101 114 50"} {
		assert.NotContains(t, text, form, what)
	}
}

// TestSecretsInLayersOfErrors has an agent repeat the token where net/http quotes it in an error. It
// unwraps the error as loggers do that print every layer.
func TestSecretsInLayersOfErrors(t *testing.T) {
	for _, response := range []string{
		"hunter2-token\r\n\r\n",
		"HTTP/1.1 hunter2-token\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: hunter2-token\r\n\r\n",
		"HTTP/1.1 200 OK\r\nhunter2-token\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: hunter2-token\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://hunter2-token/\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://[hunter2-token\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: hunter2-token\r\nContent-Length: 1\r\n\r\na",
		"HTTP/1.1 200 OK\r\nContent-Type: hunter2-token\r\nContent-Length: 15\r\n\r\n{hunter2-token}",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"Members\":\"hunter2-token\"}}",
		"HTTP/1.1 500 No\r\nContent-Length: 13\r\n\r\nhunter2-token",
	} {
		client := clientOf(t, nomad.WithAddress(rawAgent(t, response)), nomad.WithToken("hunter2-token"), nomad.WithRetries(0))
		_, err := client.Agent.Members(t.Context())
		require.Error(t, err, response)
		layers := []error{err}
		for i := 0; i < len(layers); i++ {
			for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x"} {
				assertNoSecret(t, fmt.Sprintf(verb, layers[i]), response)
			}
			switch layer := layers[i].(type) {
			case interface{ Unwrap() error }:
				if inner := layer.Unwrap(); inner != nil {
					layers = append(layers, inner)
				}
			case interface{ Unwrap() []error }:
				layers = append(layers, layer.Unwrap()...)
			}
		}
	}
	// The error can still be matched.
	client := clientOf(t, nomad.WithAddress(rawAgent(t, "hunter2-token\r\n\r\n")), nomad.WithToken("hunter2-token"), nomad.WithRetries(0))
	_, err := client.Agent.Members(t.Context())
	assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
	var op *net.OpError
	assert.False(t, errors.As(err, &op))
}

// TestSecretsInArguments passes the Client's token in the path of a request, which is refused.
func TestSecretsInArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hunter2-token"), 0o600))
	for _, option := range []nomad.Option{nomad.WithToken("hunter2-token"), nomad.WithTokenFile(file), nomad.WithBasicAuth("ops", "hunter2-token")} {
		_, err := clientOf(t, option).Do(t.Context(), &nomad.Request{Path: "/v1/jobs?token=hunter2-token"}, nil)
		assert.EqualError(t, err, `nomad: Do: Path: "/v1/jobs?token=<redacted>" has a query or fragment in it: use Query`)
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
	}
}

// TestSecretsInHeaders has an agent repeat the credentials in the headers of a request.
func TestSecretsInHeaders(t *testing.T) {
	client := newClient(t, responding(500, "", "hunter2-password is wrong"), nomad.WithHeader("Authorization", "Basic b3BzOmh1bnRlcjItcGFzc3dvcmQ="))
	_, err := client.Agent.Members(t.Context())
	assert.ErrorContains(t, err, "<redacted> is wrong")
	client = newClient(t, responding(500, "", "hunter2 is wrong"))
	for name, value := range map[string]string{"authorization": "Bearer hunter2", "cookie": "hunter2"} {
		_, err = client.Do(t.Context(), &nomad.Request{Path: "/v1/x", Header: map[string][]string{name: {value}}}, nil)
		assert.ErrorContains(t, err, "<redacted> is wrong")
	}
}
