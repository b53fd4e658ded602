package nomadtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConfigurationsInBetween checks that the changes between two recorded versions convert one
// configuration into the other, and that a version in between has some of them.
func TestConfigurationsInBetween(t *testing.T) {
	for i, version := range recordedVersions[1:] {
		from := recordedVersions[i]
		have, err := defaultsOf(from)
		require.NoError(t, err)
		want, err := defaultsOf(version)
		require.NoError(t, err)
		a := &Agent{spec: spec{version: version}}
		a.advance(have, want, nil, version)
		for _, config := range []map[string]any{have, want} {
			for _, key := range []string{"Version", "Ports", "AdvertiseAddrs", "Files", "ConfigPaths"} { // set for each agent
				delete(config, key)
			}
		}
		assert.Equal(t, want, have, "from %s to %s", from, version)
	}
	for version, want := range map[string]map[string]bool{
		"1.5.0":        {"Consul": true, "Consuls": false},
		"1.7.2":        {"Consul": false, "Consuls": true, "KEKProviders": false},
		"1.8.3":        {"KEKProviders": true},
		"1.9.7":        {"RPC": false, "Eventlog": false},
		"1.10.4":       {"RPC": true, "Eventlog": false},
		"1.11.0-beta1": {"Eventlog": true},
		"2.0.2":        {"ConfigPaths": false},
		"2.0.3-dev":    {"ConfigPaths": true},
		"3.1.0":        {"ConfigPaths": true},
	} {
		config, err := (&Agent{spec: spec{version: version}}).defaults()
		require.NoError(t, err)
		for key, there := range want {
			_, ok := config[key]
			assert.Equal(t, there, ok, "%s of %s", key, version)
		}
	}
}
