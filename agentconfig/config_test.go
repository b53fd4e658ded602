package agentconfig

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/wire"
	"github.com/nomad-go/nomad/secret"
)

// recordedConfigs returns the recorded configurations by version and case.
func recordedConfigs(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	recordings, err := wire.Stored()
	require.NoError(t, err)
	for _, recording := range recordings {
		for _, x := range recording.Exchanges {
			if x.Endpoint() == "self" && x.Status == http.StatusOK {
				var document struct{ Config json.RawMessage }
				require.NoError(t, json.Unmarshal([]byte(x.Text()), &document))
				all[recording.Nomad+" "+x.Name] = document.Config
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}

func decoded(t testing.TB, text string) *Config {
	t.Helper()
	c := new(Config)
	require.NoError(t, json.Unmarshal([]byte(text), c))
	return c
}

// TestRecordedConfigsArriveInTheFields compares every recorded configuration with the fields, leaf by leaf.
func TestRecordedConfigsArriveInTheFields(t *testing.T) {
	total := 0
	for name, text := range recordedConfigs(t) {
		t.Run("Recorded "+name, func(t *testing.T) {
			c := decoded(t, string(text))
			assert.Empty(t, c.Unknown(), "every key has a field that it fits")
			want := leaves(tree(t, text))
			require.Equal(t, want, leaves(revealed(reflect.ValueOf(*c), "")))
			total += len(want)

			// Marshalling keeps values and kinds, and has no secrets.
			encoded, err := json.Marshal(c)
			require.NoError(t, err)
			have := leaves(tree(t, encoded))
			for path, value := range want {
				if have[path] != "<redacted>" {
					assert.Equal(t, value, have[path], path)
				}
			}
			have, kinds := map[string]any{}, map[string]string{}
			flatten(tree(t, encoded), "", func(path string, value any) { kinds[path] = fmt.Sprintf("%T", value) })
			flatten(tree(t, text), "", func(path string, value any) { have[path] = value })
			for path, value := range have {
				if value != nil {
					assert.Equal(t, fmt.Sprintf("%T", value), kinds[path], path)
				}
			}
			v2, err := jsonv2.Marshal(c)
			require.NoError(t, err)
			assert.JSONEq(t, string(encoded), string(v2))
		})
	}
	t.Logf("%d leaves that say something", total)
}

// tree decodes a configuration without types. One in the shape up to 1.6 gets the lists of later ones.
func tree(t testing.TB, text []byte) map[string]any {
	var all map[string]any
	require.NoError(t, json.Unmarshal(text, &all))
	for _, name := range []string{"Consul", "Vault"} {
		if one, ok := all[name]; ok {
			all[name+"s"] = []any{one}
			delete(all, name)
		}
	}
	return all
}

// revealed is what MarshalJSON would return if it did not hide secrets.
func revealed(v reflect.Value, tag reflect.StructTag) any {
	switch value := v.Interface().(type) {
	case secret.Secret:
		return value.Reveal()
	case Endpoint:
		return value.Reveal()
	case Setting:
		return value.Reveal()
	case time.Duration:
		if tag.Get("wire") == "text" {
			return value.String()
		}
		return float64(value)
	case time.Time:
		return value.Format(time.RFC3339Nano)
	case string, bool:
		return value
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return revealed(v.Elem(), tag)
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, revealed(v.Index(i), ""))
		}
		return list
	case reflect.Map:
		all := map[string]any{}
		for _, key := range v.MapKeys() {
			all[key.String()] = revealed(v.MapIndex(key), "")
		}
		return all
	case reflect.Struct:
		all := map[string]any{}
		for field, value := range v.Fields() {
			if field.IsExported() {
				all[field.Name] = revealed(value, field.Tag)
			}
		}
		return all
	}
	return v.Convert(reflect.TypeFor[float64]()).Interface()
}

// flatten visits the values that have no others in them.
func flatten(value any, path string, visit func(string, any)) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			flatten(v, path+"/"+key, visit)
		}
	case []any:
		for i, v := range value {
			flatten(v, fmt.Sprintf("%s/%d", path, i), visit)
		}
	default:
		visit(path, value)
	}
}

// leaves are the values that say something: not null, zero or empty. Durations as text lose their form.
func leaves(value any) map[string]any {
	flat := map[string]any{}
	flatten(value, "", func(path string, value any) {
		if text, ok := value.(string); ok && text != "0" {
			if d, err := time.ParseDuration(text); err == nil {
				value = d
			}
		}
		if value != nil && !reflect.ValueOf(value).IsZero() {
			flat[path] = value
		}
	})
	return flat
}

func TestConfigAcrossVersions(t *testing.T) {
	configs := recordedConfigs(t)
	for _, version := range []string{"1.6.5", "2.0.5"} {
		c := decoded(t, string(configs[version+" self on cli1"]))
		assert.Equal(t, version, c.Version.String())
		require.Len(t, c.Consuls, 1, version)
		assert.Equal(t, "nomad-client", c.Consuls[0].ClientServiceName)
		assert.Equal(t, 5*time.Second, c.Consuls[0].Timeout)
		require.Len(t, c.Vaults, 1, version)
		assert.Equal(t, "https://vault.service.consul:8200", c.Vaults[0].Addr.String())
		assert.Equal(t, 30*time.Second, c.Vaults[0].ConnectionRetryIntv)
		assert.Equal(t, 30*time.Second, c.ACL.TokenTTL, "a number")
		assert.Equal(t, 30*time.Minute, c.Client.Artifact.GCSTimeout, "a string")
		assert.Zero(t, c.LogRotateDuration, "an empty string")
		assert.True(t, c.Client.Enabled)
		assert.Equal(t, "env_aws,env_gce,env_azure,env_digitalocean", c.Client.Options["fingerprint.denylist"].Reveal())
		assert.Nil(t, c.Server.NumSchedulers)
	}
}

func TestUnknownReturnsWhatHasNoFieldOrDoesNotFit(t *testing.T) {
	text := `{"Region":5,"Brand New":{"a":[1]},"Client":{"Enabled":"yes","Servers":["a:1",7],"Meta":{"a":"b","c":1}},
		"Consuls":[{"Name":"default","Later":true,"ShareSSL":"no","TaskIdentity":[]}],"Consul":{"Name":"second","Token":5},
		"Limits":"none","Version":{"BuildDate":"yesterday"},"Plugins":[{"Config":{"x":{"y":1}}}],"a/b~c":1,"Files":null,
		"Ports":{"HTTP":1e3,"RPC":1.5,"Serf":99999999999999999999},"LogRotateDuration":"soon",
		"ACL":{"TokenTTL":"10s","PolicyTTL":""}}`
	c := decoded(t, text)
	unknown := map[string]string{}
	for path, value := range c.Unknown() {
		unknown[path] = string(value)
	}
	assert.Equal(t, map[string]string{
		"/Region": "5", "/Brand New": `{"a":[1]}`, "/Client/Enabled": `"yes"`, "/Client/Servers/1": "7",
		"/Client/Meta/c":   "1",
		"/Consuls/0/Later": "true", "/Consuls/0/ShareSSL": `"no"`, "/Consuls/0/TaskIdentity": "[]", "/Consul/Token": "5",
		"/Limits": `"none"`, "/Version/BuildDate": `"yesterday"`, "/a~1b~0c": "1", "/Ports/HTTP": "1e3", "/Ports/RPC": "1.5",
		"/Ports/Serf": "99999999999999999999", "/LogRotateDuration": `"soon"`,
	}, unknown)
	assert.Equal(t, []string{"a:1", ""}, c.Client.Servers)
	assert.Equal(t, map[string]string{"a": "b", "c": ""}, c.Client.Meta)
	assert.Equal(t, []string{"default", "second"}, []string{c.Consuls[0].Name, c.Consuls[1].Name})
	assert.Nil(t, c.Consuls[0].ShareSSL)
	assert.Nil(t, c.Version.BuildDate)
	assert.Equal(t, 10*time.Second, c.ACL.TokenTTL)
	assert.JSONEq(t, `{"y":1}`, string(c.Plugins[0].Config["x"].Reveal()))

	var v2 Config
	require.NoError(t, jsonv2.Unmarshal([]byte(text), &v2))
	assert.Equal(t, c, &v2)
	var streamed Config
	require.NoError(t, jsonv2.UnmarshalRead(strings.NewReader(text), &streamed))
	assert.Equal(t, c, &streamed)
	assert.Empty(t, new(Config).Unknown())
}

func TestDecodingFails(t *testing.T) {
	for _, text := range []string{`[]`, `"x"`, `5`, `{"Region":"a","Region":"b"}`, `{"New":{"a":1,"a":2}}`,
		`{"Client":{"Meta":{"a":"x","a":1}}}`, `{"Client":{"Meta":{"a":1,"a":2}}}`, `{"Region":`} {
		var c Config
		assert.Error(t, json.Unmarshal([]byte(text), &c), text)
		assert.Error(t, jsonv2.Unmarshal([]byte(text), &c), text)
	}
	assert.Equal(t, new(Config), decoded(t, "null"))
}

func TestUnsignedIndexes(t *testing.T) {
	c := decoded(t, `{"Server":{"DefaultSchedulerConfig":{"CreateIndex":7,"ModifyIndex":18446744073709551615}}}`)
	assert.EqualValues(t, 7, c.Server.DefaultSchedulerConfig.CreateIndex)
	assert.EqualValues(t, uint64(math.MaxUint64), c.Server.DefaultSchedulerConfig.ModifyIndex)
	assert.Empty(t, c.Unknown())
}

func TestMarshalledConfigDecodesAgain(t *testing.T) {
	made := Config{
		Region:            "eu",
		Consuls:           []Consul{{Name: "a", Timeout: time.Second}, {Name: "b"}},
		LogRotateDuration: 90 * time.Minute,
		Client: Client{
			Drain: &Drain{Deadline: new(time.Hour), Force: new(true)},
			Meta:  map[string]string{"z": "1", "a": "2"},
		},
	}
	encoded, err := json.Marshal(made)
	require.NoError(t, err)
	assert.Contains(t, string(encoded), `"LogRotateDuration":"1h30m"`)
	assert.Contains(t, string(encoded), `"Drain":{"Deadline":"1h","IgnoreSystemJobs":null,"Force":true}`)
	assert.Contains(t, string(encoded), `"Timeout":1000000000`)
	assert.Contains(t, string(encoded), `"Vaults":null`)
	again := decoded(t, string(encoded))
	assert.Empty(t, again.Unknown())
	assert.Empty(t, Diff(&made, again))
}

func TestString(t *testing.T) {
	configs := recordedConfigs(t)
	assert.Equal(t, "srv1.global 2.0.5 (server)", decoded(t, string(configs["2.0.5 self on srv1"])).String())
	assert.Equal(t, "cli1.global 1.6.5 (client)", decoded(t, string(configs["1.6.5 self on cli1"])).String())
	for _, verb := range []string{"%v", "%+v", "%s", "%#v"} {
		assert.Equal(t, "a.eu 2.1.0-rc.1+ent (no role)", fmt.Sprintf(verb, Config{NodeName: "a", Region: "eu",
			Version: Version{Version: "2.1.0", VersionPrerelease: "rc.1", VersionMetadata: "ent"}}))
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	text := recordedConfigs(b)["2.0.5 self on both1"]
	b.Run("Config", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, new(Config).UnmarshalJSON(text))
		}
	})
	b.Run("map", func(b *testing.B) { // as the official client does
		b.ReportAllocs()
		for b.Loop() {
			var m map[string]any
			require.NoError(b, json.Unmarshal(text, &m))
		}
	})
}

// FuzzConfig decodes whatever a later version may send.
func FuzzConfig(f *testing.F) {
	f.Add(`{"Region":"eu","Consul":{"Timeout":"5s"},"Client":{"Servers":["a"],"Meta":{"a":"b"}},"X":{"Y":[null]}}`)
	f.Add(`{"Consuls":[{"Timeout":5}],"Vault":{},"Vaults":[],"Limits":null,"a/b~c":1}`)
	for _, text := range recordedConfigs(f) {
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c, v2 Config
		err := json.Unmarshal([]byte(text), &c)
		if err != nil {
			return
		}
		require.NoError(t, jsonv2.UnmarshalRead(strings.NewReader(text), &v2, jsontext.AllowInvalidUTF8(true)))
		require.Empty(t, Diff(&c, &v2))
		for path := range c.Unknown() {
			require.True(t, strings.HasPrefix(path, "/"), path)
		}
		encoded, err := json.Marshal(c)
		require.NoError(t, err)
		again := decoded(t, string(encoded))
		require.Empty(t, again.Unknown())
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(encoded), string(twice))
	})
}
