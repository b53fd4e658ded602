package nomad_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// recordedSelfs are the recorded answers of Self, by version and case.
func recordedSelfs(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, recording := range recordings(t) {
		for _, x := range recording.Exchanges {
			if x.Endpoint() == "self" && x.Status == http.StatusOK {
				all[recording.Nomad+" "+x.Name] = x.Body
			}
		}
	}
	require.NotEmpty(t, all)
	return all
}

// selfOf decodes an answer as a call does.
func selfOf(t testing.TB, body string) *nomad.Self {
	t.Helper()
	client, err := nomad.NewClient(playing(200, body))
	require.NoError(t, err)
	self, err := client.Agent.Self(t.Context())
	require.NoError(t, err)
	return self
}

// TestSelfIsLossless decodes every recorded answer and encodes it again, and compares them leaf by leaf.
func TestSelfIsLossless(t *testing.T) {
	total := 0
	for name, body := range recordedSelfs(t) {
		t.Run(name, func(t *testing.T) {
			self := selfOf(t, body)
			assert.Empty(t, self.Config.Unknown(), "every key has a field that it fits")
			encoded, err := json.Marshal(self)
			require.NoError(t, err)
			var want, have any
			require.NoError(t, json.Unmarshal([]byte(body), &want))
			require.NoError(t, json.Unmarshal(encoded, &have))
			wantLeaves := leaves(want)
			require.Equal(t, wantLeaves, leaves(have))
			total += len(wantLeaves)
			// The same holds for keys, whatever their values.
			assert.Equal(t, keysOf("", want), keysOf("", have))

			var again nomad.Self
			require.NoError(t, json.Unmarshal(encoded, &again))
			assert.Equal(t, self, &again)
		})
	}
	t.Logf("%d answers, %d leaves that say something", len(recordedSelfs(t)), total)
}

// keysOf lists the paths of all keys.
func keysOf(path string, value any) map[string]bool {
	all := map[string]bool{}
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			all[path+"/"+key] = true
			for k := range keysOf(path+"/"+key, below) {
				all[k] = true
			}
		}
	case []any:
		for i, below := range value {
			for k := range keysOf(fmt.Sprintf("%s/%d", path, i), below) {
				all[k] = true
			}
		}
	}
	return all
}

// TestSelfOfAnotherVersion changes each leaf of each recorded answer to a value of another type, one at a time. Each
// answer must still decode, with all other leaves as they were.
func TestSelfOfAnotherVersion(t *testing.T) {
	var tried atomic.Int64
	t.Run("documents", func(t *testing.T) {
		seen := map[string]bool{}
		for name, body := range recordedSelfs(t) {
			var document any
			require.NoError(t, json.Unmarshal([]byte(body), &document))
			var changes []change
			eachLeaf(document, "", func(c change) {
				// The answers of one version differ in few leaves: one of a kind, with one value, is enough.
				key := name[:5] + c.path + fmt.Sprint(c.value)
				if !seen[key] {
					changes = append(changes, c)
				}
				seen[key] = true
			})
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				original := encodedLeaves(t, selfOf(t, body))
				for _, c := range changes {
					for _, other := range []any{"another type", 1.5, true, nil, []any{"x"}, map[string]any{"x": 1.0}} {
						if reflect.TypeOf(other) == reflect.TypeOf(c.value) {
							continue
						}
						c.set(other)
						changed, err := json.Marshal(document)
						require.NoError(t, err)
						now := encodedLeaves(t, selfOf(t, string(changed)))
						for leaf, value := range original {
							if leaf != c.path && !strings.HasPrefix(leaf, c.path+"/") && now[leaf] != value {
								t.Fatalf("%s became %v: %s is %v, was %v", c.path, other, leaf, now[leaf], value)
							}
						}
						tried.Add(1)
					}
					c.set(c.value)
				}
			})
		}
	})
	t.Logf("%d changes tried", tried.Load())
	assert.Greater(t, tried.Load(), int64(1000))
}

// change is a leaf of a document that can be given another value.
type change struct {
	path  string
	value any
	set   func(any)
}

func encodedLeaves(t *testing.T, self *nomad.Self) map[string]any {
	encoded, err := json.Marshal(self)
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal(encoded, &value))
	return leaves(value)
}

// eachLeaf visits the values that have no others below them.
func eachLeaf(value any, path string, visit func(change)) {
	below := func(path string, value any, set func(any)) {
		object, _ := value.(map[string]any)
		list, _ := value.([]any)
		if len(object)+len(list) > 0 {
			eachLeaf(value, path, visit)
		} else {
			visit(change{path, value, set})
		}
	}
	switch v := value.(type) {
	case map[string]any:
		for key, element := range v {
			below(path+"/"+key, element, func(other any) { v[key] = other })
		}
	case []any:
		for i, element := range v {
			below(fmt.Sprintf("%s/%d", path, i), element, func(other any) { v[i] = other })
		}
	}
}

// TestConfigAcrossVersions asks both versions the same way, and sees durations in one type however they came.
func TestConfigAcrossVersions(t *testing.T) {
	selfs := recordedSelfs(t)
	for _, version := range []string{"1.6.5", "2.0.5"} {
		config := selfOf(t, selfs[version+" self on cli1"]).Config
		assert.Equal(t, version, config.Version.String())
		require.Len(t, config.Consuls, 1, version)
		assert.Equal(t, "nomad-client", config.Consuls[0].ClientServiceName)
		assert.Equal(t, 5*time.Second, config.Consuls[0].Timeout)
		require.Len(t, config.Vaults, 1, version)
		assert.Equal(t, "https://vault.service.consul:8200", config.Vaults[0].Addr)
		assert.Equal(t, 30*time.Second, config.Vaults[0].ConnectionRetryIntv)
		assert.Equal(t, 30*time.Second, config.ACL.TokenTTL, "a number")
		assert.Equal(t, 30*time.Minute, config.Client.Artifact.GCSTimeout, "a text")
		assert.Zero(t, config.LogRotateDuration, "an empty text")
		assert.True(t, config.Client.Enabled)
		assert.Equal(t, "env_aws,env_gce,env_azure,env_digitalocean", config.Client.Options["fingerprint.denylist"])
		assert.Nil(t, config.Server.NumSchedulers)
	}
}

// TestUnknownConfig keeps what it has no place for.
func TestUnknownConfig(t *testing.T) {
	self := selfOf(t, `{"config":{"Region":5,"Brand New":{"a":[1]},"Client":{"Enabled":"yes","Servers":["a:1",7],"Meta":{"a":"b","c":1}},
		"Consuls":[{"Name":"default","Later":true}],"Consul":{"Name":"second"},"Limits":"none"},"member":{"Name":"x","Port":"y","Status":"alive"},
		"stats":{"raft":{"term":5,"state":["x"]},"new":"x"},"future":{"a":1}}`)
	unknown := map[string]string{}
	for path, value := range self.Config.Unknown() {
		unknown[path] = string(value)
	}
	assert.Equal(t, map[string]string{
		"/Region": "5", "/Brand New": `{"a":[1]}`, "/Client/Enabled": `"yes"`, "/Client/Servers/1": "7", "/Client/Meta/c": "1",
		"/Consuls/0/Later": "true", "/Consul": `{"Name":"second"}`, "/Limits": `"none"`,
	}, unknown)
	assert.Equal(t, []string{"a:1", ""}, self.Config.Client.Servers)
	assert.Equal(t, map[string]string{"a": "b"}, self.Config.Client.Meta)
	assert.Equal(t, "x", self.Member.Name)
	assert.Equal(t, nomad.StatusAlive, self.Member.Status)
	assert.Equal(t, nomad.Stats{"raft": {}}, self.Stats)
	encoded, err := json.Marshal(self)
	require.NoError(t, err)
	assert.JSONEq(t, `{"config":{"Region":5,"Brand New":{"a":[1]},"Client":{"Enabled":"yes","Servers":["a:1",7],"Meta":{"a":"b","c":1}},
		"Consuls":[{"Name":"default","Later":true}],"Consul":{"Name":"second"},"Limits":"none"},
		"member":{"Name":"x","Addr":"","Port":0,"Tags":null,"Status":"alive","ProtocolMin":0,"ProtocolMax":0,"ProtocolCur":0,"DelegateMin":0,"DelegateMax":0,"DelegateCur":0},
		"stats":{"raft":{"term":5,"state":["x"]},"new":"x"},"future":{"a":1}}`, string(encoded))
}

// TestConfigEdges decodes and encodes what recordings do not have.
func TestConfigEdges(t *testing.T) {
	for in, want := range map[string]string{
		`{"Plugins":[{"Name":"p","Config":{"n":9007199254740993,"nested":{"a":[null]}}}]}`: "",
		`{"ACL":{"ReplicationToken":"s"},"Vault":{"Token":"t"}}`:                           "",
		`{"a/b~c":{"d/e":1},"HTTPAPIResponseHeaders":{"x/y":5,"z":"w"}}`:                   "",
		`{"Consuls":[],"Vaults":null,"Client":{"HostVolumes":[{"Name":"v"},7]}}`:           "",
		`{"RPC":{"KeepAliveIntervalHCL":"30m"}}`:                                           `{"RPC":{"KeepAliveIntervalHCL":"30m0s"}}`,
		`{}`:                                                                               "",
	} {
		var config nomad.Config
		require.NoError(t, json.Unmarshal([]byte(in), &config))
		encoded, err := json.Marshal(config)
		require.NoError(t, err)
		assert.Equal(t, exactly(t, cmp.Or(want, in)), exactly(t, string(encoded)))
	}
	var config nomad.Config
	require.NoError(t, json.Unmarshal([]byte("null"), &config))
	assert.Error(t, json.Unmarshal([]byte("[]"), &config))
	assert.Error(t, json.Unmarshal([]byte(`{"Region":"a","Region":"b"}`), &config))

	// What was made or changed by hand is written too.
	made := nomad.Config{Region: "eu", Consuls: []nomad.ConfigConsul{{Name: "a"}, {Name: "b"}}}
	encoded, err := json.Marshal(made)
	require.NoError(t, err)
	var again nomad.Config
	require.NoError(t, json.Unmarshal(encoded, &again))
	assert.Equal(t, "eu", again.Region)
	assert.Equal(t, "b", again.Consuls[1].Name)
	again.Region = "us"
	encoded, err = json.Marshal(again)
	require.NoError(t, err)
	assert.Contains(t, string(encoded), `"Region":"us"`)
}

// exactly decodes JSON with the numbers as they are written.
func exactly(t *testing.T, text string) (value any) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value))
	return value
}

// TestConfigKeepsSecrets prints a configuration that has some.
func TestConfigKeepsSecrets(t *testing.T) {
	self := selfOf(t, `{"config":{"ACL":{"ReplicationToken":"hunter2"},"Vault":{"Token":"hunter2"},"Client":{"IntroToken":"hunter2"},
		"Later":{"Token":"hunter2"}},"member":{},"stats":{}}`)
	assert.Equal(t, "hunter2", self.Config.Vaults[0].Token.Reveal())
	var log strings.Builder
	logJSON(&log, "x", self, *self, self.Config, *self.Config, self.Config.ACL, self.Config.Vaults, self.Config.ACL.ReplicationToken,
		struct{ v nomad.ConfigACL }{self.Config.ACL})
	assert.NotContains(t, log.String(), "hunter2")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%p", "%w"} {
		for _, value := range []any{self, *self, self.Config, *self.Config, self.Config.Vaults, self.Config.ACL.ReplicationToken,
			struct{ s nomad.Secret }{self.Config.ACL.ReplicationToken}, struct{ c nomad.ConfigACL }{self.Config.ACL}} {
			assert.NotContains(t, fmt.Sprintf(verb, value), "hunter2", verb)
		}
	}
}

func TestStats(t *testing.T) {
	selfs := recordedSelfs(t)
	server := selfOf(t, selfs["2.0.5 self on srv1"]).Stats
	assert.True(t, server.IsLeader())
	assert.Equal(t, "127.0.0.1:21001", server.LeaderAddr())
	assert.Equal(t, 1, server.KnownRegions())
	assert.Equal(t, "Leader", server.RaftState())
	assert.EqualValues(t, 2, server.RaftTerm())
	assert.Zero(t, server.RaftPeers())
	assert.EqualValues(t, 10, server.AppliedIndex())
	assert.EqualValues(t, 10, server.CommitIndex())
	assert.EqualValues(t, 10, server.LastLogIndex())
	contact, known := server.LastContact()
	assert.True(t, known)
	assert.Zero(t, contact)
	assert.Empty(t, server.NodeID())

	client := selfOf(t, selfs["2.0.5 self on cli1"]).Stats
	assert.False(t, client.IsLeader())
	assert.Equal(t, "219c89ae-4f0b-e138-db4c-2a8af8dd4922", client.NodeID())
	assert.Equal(t, []string{"127.0.0.1:21001"}, client.KnownServers())
	assert.Zero(t, client.Allocations())
	assert.Equal(t, 383108*time.Nanosecond, client.LastHeartbeat())
	assert.Equal(t, 17279208953*time.Nanosecond, client.HeartbeatTTL())
	_, known = client.LastContact()
	assert.False(t, known)

	odd := nomad.Stats{"raft": {"term": "x", "last_contact": "never"}, "client": {"last_heartbeat": "x"}}
	assert.Zero(t, odd.RaftTerm())
	assert.Zero(t, odd.LastHeartbeat())
	_, known = odd.LastContact()
	assert.False(t, known)
	assert.Empty(t, nomad.Stats(nil).KnownServers())
}

// TestSelfIndexes reads the only numbers of a configuration that are counted without a sign.
func TestSelfIndexes(t *testing.T) {
	var config nomad.Config
	require.NoError(t, json.Unmarshal([]byte(`{"Server":{"DefaultSchedulerConfig":{"CreateIndex":7,"ModifyIndex":18446744073709551615}}}`), &config))
	assert.EqualValues(t, 7, config.Server.DefaultSchedulerConfig.CreateIndex)
	assert.EqualValues(t, uint64(math.MaxUint64), config.Server.DefaultSchedulerConfig.ModifyIndex)
	assert.Empty(t, config.Unknown())
}

// TestSelfKeysTwice gives a table a key twice, where one value or both are of another type.
func TestSelfKeysTwice(t *testing.T) {
	for _, meta := range []string{`"a":"x","a":"y"`, `"a":"x","a":1`, `"a":1,"a":"x"`, `"a":1,"a":2`} {
		var config nomad.Config
		assert.ErrorContains(t, json.Unmarshal([]byte(`{"Client":{"Meta":{`+meta+`}}}`), &config), "twice", meta)
	}
}
