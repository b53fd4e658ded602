package wire_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/wire"
)

func versions(all []wire.Recording) (names []string) {
	for _, r := range all {
		names = append(names, r.Nomad)
	}
	return names
}

func TestStoredRecordings(t *testing.T) {
	all, err := wire.Stored()
	require.NoError(t, err)
	assert.Equal(t, []string{"1.6.5", "1.8.4", "1.11.3", "2.0.5"}, versions(all), "the oldest first")
	for _, r := range all {
		assert.Len(t, r.Exchanges, 193, r.Nomad)
		same, err := wire.Version(r.Nomad)
		require.NoError(t, err)
		assert.Equal(t, r, same)
	}
	_, err = wire.Version("1.0.0")
	assert.EqualError(t, err, "no recording of Nomad 1.0.0")
}

func TestFurtherRecordings(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(wire.Variable, folder)
	_, err := wire.All()
	assert.ErrorContains(t, err, "there is no nomad-*.json")

	for file, version := range map[string]string{
		"nomad-1.8.4.json": "1.8.4", "nomad-other.json": "1.9.7", "others.json": "3.0.0",
	} {
		r, err := wire.Version("1.8.4")
		require.NoError(t, err)
		r.Nomad = version
		content, err := json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), content, 0o600))
	}
	all, err := wire.All()
	require.NoError(t, err)
	assert.Equal(t, []string{"1.6.5", "1.8.4", "1.9.7", "1.11.3", "2.0.5"}, versions(all))
	stored, err := wire.Stored()
	require.NoError(t, err)
	assert.Len(t, stored, 4)

	require.NoError(t, os.WriteFile(filepath.Join(folder, "nomad-broken.json"), []byte("{"), 0o600))
	_, err = wire.All()
	assert.ErrorContains(t, err, "nomad-broken.json")
}

func TestExtras(t *testing.T) {
	stored, err := wire.Extras()
	require.NoError(t, err)
	require.Len(t, stored, 2)
	cases := map[string]int{}
	for _, e := range stored {
		assert.Equal(t, "2.0.5", e.Nomad)
		for _, scene := range e.Scenes {
			cases[e.File] += len(scene.Cases)
			assert.NotEmpty(t, scene.Agents, scene.Name)
		}
	}
	assert.Equal(t, map[string]int{"extra-2.0.5.json": 1542, "extra-tools-2.0.5.json": 1025}, cases)

	folder := t.TempDir()
	t.Setenv(wire.Variable, folder)
	further := `{"nomad": "3.0.0", "scenes": {"one": {"agents": [{"name": "a"}], "cases": [` +
		`{"n": 7, "agent": "a", "stable": false, "request_headers": {"X-Nomad-Token": "ab × 3", "Host": "h"}}]}}}`
	require.NoError(t, os.WriteFile(filepath.Join(folder, "extra-further.json"), []byte(further), 0o600))
	all, err := wire.Extras()
	require.NoError(t, err)
	require.Len(t, all, 3)
	found := all[2].Scenes[0].Cases[0]
	assert.Equal(t, 7, found.N)
	assert.True(t, found.Varies())
	assert.Equal(t, map[string]string{"X-Nomad-Token": "ababab", "Host": "h"}, found.Headers())
	_, err = wire.All()
	assert.NoError(t, err, "the folder has no recordings of whole versions")

	require.NoError(t, os.WriteFile(filepath.Join(folder, "extra-broken.json"), []byte("{"), 0o600))
	_, err = wire.Extras()
	assert.ErrorContains(t, err, "extra-broken.json")
}

func TestSince(t *testing.T) {
	for _, row := range []struct {
		version, since string
		want           bool
	}{
		{"1.10.4", "1.10.4", true},
		{"1.10.4", "1.9", true},
		{"1.10.4", "1.10", true},
		{"1.10.4", "1.10.5", false},
		{"1.10.4", "2", false},
		{"2.1.0-beta.1", "2.1", true},
		{"1.10.4+ent", "1.10.5", false},
	} {
		assert.Equal(t, row.want, wire.Recording{Nomad: row.version}.Since(row.since), "%s since %s", row.version, row.since)
	}
}
