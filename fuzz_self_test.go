package nomad_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// FuzzSelf gives Self whatever configuration a later version might send. What decodes must encode to the same again.
func FuzzSelf(f *testing.F) {
	f.Add(`{"Region":"eu","Consul":{"Timeout":"5s"},"Client":{"Servers":["a"],"Meta":{"a":"b"}},"X":{"Y":[null]}}`)
	f.Add(`{"Consuls":[{"Timeout":5}],"Vault":{},"Vaults":[],"Limits":null,"a/b~c":1}`)
	for _, body := range recordedSelfs(f) {
		var document struct {
			Config json.RawMessage `json:"config"`
		}
		require.NoError(f, json.Unmarshal([]byte(body), &document))
		f.Add(string(document.Config))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var config, again nomad.Config
		if json.Unmarshal([]byte(text), &config) != nil {
			return
		}
		encoded, err := json.Marshal(config)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(encoded, &again), "%s", encoded)
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		assert.Equal(t, exactly(t, string(encoded)), exactly(t, string(twice)))
		// encoding/json escapes characters that it need not: the values have the same meaning.
		assert.ElementsMatch(t, slices.Collect(maps.Keys(config.Unknown())), slices.Collect(maps.Keys(again.Unknown())))
	})
}
