package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/secret"
)

// TestSecretIsNotPrinted prints a secret in every way that packages fmt, log/slog and the JSON packages have.
func TestSecretIsNotPrinted(t *testing.T) {
	s := secret.New("hunter2")
	for name, value := range map[string]any{
		"secret": s, "pointer": &s,
		"field": struct{ S secret.Secret }{s}, "field that is not exported": struct{ s secret.Secret }{s},
		"slice": []secret.Secret{s}, "key": map[secret.Secret]int{s: 1}, "value": map[string]secret.Secret{"a": s},
	} {
		for _, verb := range strings.Split("%v %+v %#v %s %q %x %X %d %t %p %T %w %o %c %U %e", " ") {
			assertHidden(t, fmt.Sprintf(verb, value), name+" "+verb)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("a", "value", value)
		slog.New(slog.NewTextHandler(&log, nil)).Info("a", "value", value)
		encoded, err := json.Marshal(value)
		require.NoError(t, err, name)
		encodedV2, _ := jsonv2.Marshal(value) // it refuses structs without exported fields
		assertHidden(t, log.String()+string(encoded)+string(encodedV2), name)
	}
}

func assertHidden(t *testing.T, text, what string) {
	t.Helper()
	hex := fmt.Sprintf("%x", "hunter2")
	for _, form := range []string{"hunter2", hex, strings.ToUpper(hex), "104 117 110 116 101 114 50"} {
		assert.NotContains(t, text, form, what)
	}
}

func TestSecret(t *testing.T) {
	assert.Equal(t, "hunter2", secret.New("hunter2").Reveal())
	counts := map[secret.Secret]int{secret.New("a"): 1, secret.New("b"): 2}
	assert.Equal(t, 1, counts[secret.New("a")])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		assert.Equal(t, "<redacted>", fmt.Sprintf(verb, secret.New("a")))
		assert.Empty(t, fmt.Sprintf(verb, secret.Secret{}))
	}
	assert.Equal(t, secret.Secret{}, secret.New(""))
	assert.Empty(t, secret.Secret{}.Reveal())

	var s secret.Secret
	require.NoError(t, json.Unmarshal([]byte(`"hunter2"`), &s))
	assert.Equal(t, secret.New("hunter2"), s)
	require.NoError(t, jsonv2.Unmarshal([]byte(`""`), &s))
	assert.Equal(t, secret.Secret{}, s)
	encoded, err := json.Marshal([]secret.Secret{secret.New("a"), {}})
	require.NoError(t, err)
	assert.Equal(t, `["\u003credacted\u003e",""]`, string(encoded))
}
