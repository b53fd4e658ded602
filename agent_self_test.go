package nomad_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentstats"
)

// recordedSelfs returns the recorded responses to Self, by version and case.
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

// selfOf decodes a response as a call does.
func selfOf(t testing.TB, body string) *nomad.Self {
	t.Helper()
	client, err := nomad.NewClient(playing(200, body))
	require.NoError(t, err)
	self, err := client.Agent.Self(t.Context())
	require.NoError(t, err)
	return self
}

// TestRecordedSelfIsDecoded compares every recorded document with the decoded member and statistics,
// leaf by leaf. Package agentconfig does the same for the configuration.
func TestRecordedSelfIsDecoded(t *testing.T) {
	t.Parallel()
	for name, body := range recordedSelfs(t) {
		t.Run(name, func(t *testing.T) {
			self := selfOf(t, body)
			assert.Equal(t, body, string(self.Raw()))
			assert.Empty(t, self.Config.Unknown(), "every key has a field of its type")
			encoded, err := json.Marshal(self)
			require.NoError(t, err)
			var want, have map[string]any
			require.NoError(t, json.Unmarshal([]byte(body), &want))
			require.NoError(t, json.Unmarshal(encoded, &have))
			assert.Equal(t, keysOf("", want["member"]), keysOf("", have["member"]))
			for _, part := range []string{"member", "stats"} {
				require.Equal(t, leaves(want[part]), leaves(have[part]))
			}
			config, err := json.Marshal(self.Config)
			require.NoError(t, err)
			assert.Equal(t, leaves(exactly(t, string(config))), leaves(exactly(t, string(encoded)).(map[string]any)["config"]))

			var again, v2 nomad.Self
			require.NoError(t, json.Unmarshal([]byte(body), &again))
			assert.Equal(t, self, &again)
			require.NoError(t, jsonv2.Unmarshal([]byte(body), &v2))
			assert.Equal(t, self, &v2)
			require.NoError(t, json.Unmarshal(encoded, &again), "the JSON of a Self can be decoded again")
			assert.Empty(t, again.Config.Unknown())
		})
	}
}

// keysOf returns the paths of all keys.
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

// TestSelfOfAnotherVersion changes each leaf of each recorded response to a value of another type, one
// at a time. The response must still decode, and no other leaf may change.
func TestSelfOfAnotherVersion(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it decodes 10,000 documents")
	}
	var tried atomic.Int64
	t.Run("documents", func(t *testing.T) {
		seen := map[string]bool{}
		for name, body := range recordedSelfs(t) {
			var document any
			require.NoError(t, json.Unmarshal([]byte(body), &document))
			var changes []change
			eachLeaf(document, "", func(c change) {
				// The responses have most leaves in common. Test each leaf with each value once.
				key := c.path + fmt.Sprint(c.value)
				if !seen[key] {
					changes = append(changes, c)
				}
				seen[key] = true
			})
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				original := encodedLeaves(t, selfOf(t, body))
				for _, c := range changes {
					path := strings.Replace(c.path, "/config/Consul/", "/config/Consuls/0/", 1)
					path = strings.Replace(path, "/config/Vault/", "/config/Vaults/0/", 1)
					for _, other := range []any{"another type", 1.5, true, nil, []any{"x"}, map[string]any{"x": 1.0}} {
						if reflect.TypeOf(other) == reflect.TypeOf(c.value) {
							continue
						}
						c.set(other)
						changed, err := json.Marshal(document)
						require.NoError(t, err)
						now := encodedLeaves(t, selfOf(t, string(changed)))
						for leaf, value := range original {
							if leaf != path && !strings.HasPrefix(leaf, path+"/") && now[leaf] != value {
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
	t.Logf("%d changes tested", tried.Load())
	assert.Greater(t, tried.Load(), int64(1000))
}

// change is a leaf of a document, with a function that replaces its value.
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

// eachLeaf calls visit for every scalar, empty list and empty object.
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

// TestSelfSkipsMismatchedTypes decodes values that do not have the types of their fields.
func TestSelfSkipsMismatchedTypes(t *testing.T) {
	body := `{"config":{"Region":5,"Later":{"a":[1]}},"member":{"Name":"x","Port":"y","Status":"alive","Addr":"nowhere"},
		"stats":{"raft":{"term":5,"state":["x"]},"new":"x"},"future":{"a":1}}`
	self := selfOf(t, body)
	unknown := map[string]json.RawMessage{"/Region": json.RawMessage("5"), "/Later": json.RawMessage(`{"a":[1]}`)}
	assert.Equal(t, unknown, self.Config.Unknown())
	assert.Equal(t, nomad.Member{Name: "x", Status: nomad.StatusAlive}, self.Member)
	assert.Zero(t, self.Stats.RaftTerm())
	assert.Empty(t, self.Stats.RaftState())
	assert.Equal(t, body, string(self.Raw()))
}

func TestSelfIsIncomplete(t *testing.T) {
	for body, want := range map[string]string{
		`{"member":{},"stats":{}}`:                                   "no config",
		`{"config":null,"member":{},"stats":{}}`:                     "no config",
		`{"config":[],"member":{},"stats":{}}`:                       "no config",
		`{"config":{},"stats":{}}`:                                   "no member",
		`{"config":{},"member":"x","stats":{}}`:                      "no member",
		`{"config":{},"member":{},"stats":null}`:                     "no stats",
		`{"config":{},"member":{},"stats":[1]}`:                      "no stats",
		`{"config":{},"member":{},"stats":{},"stats":{}}`:            "duplicate",
		`{"config":{"X":1,"X":2},"member":{},"stats":{}}`:            "duplicate",
		`{"config":{},"member":{"Tags":{"a":"","a":""}},"stats":{}}`: "duplicate",
		`[]`: "",
	} {
		client, err := nomad.NewClient(playing(200, body))
		require.NoError(t, err)
		_, err = client.Agent.Self(t.Context())
		assert.ErrorIs(t, err, nomad.ErrInvalidResponse, body)
		assert.ErrorContains(t, err, want, body)
	}
}

func TestSelfString(t *testing.T) {
	selfs := recordedSelfs(t)
	assert.Equal(t, "srv1.global 2.0.5 (server), alive", selfOf(t, selfs["2.0.5 self on srv1"]).String())
	assert.Equal(t, "cli1.global 2.0.5 (client), none", fmt.Sprintf("%+v", selfOf(t, selfs["2.0.5 self on cli1"])))
	assert.Equal(t, "x (alive)", nomad.Self{Member: nomad.Member{Name: "x", Status: nomad.StatusAlive}}.String())
	assert.Nil(t, new(nomad.Self).Raw())
}

// exactly decodes JSON without converting numbers.
func exactly(t *testing.T, text string) (value any) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value))
	return value
}

// TestSelfKeepsSecrets prints a Self with secrets, one of them in an unknown field.
func TestSelfKeepsSecrets(t *testing.T) {
	self := selfOf(t, `{"config":{"ACL":{"ReplicationToken":"hunter2"},"Vault":{"Token":"hunter2"},
		"Client":{"IntroToken":"hunter2"},"HTTPAPIResponseHeaders":{"X-Key":"hunter2"},"Later":{"Token":"hunter2"}},"member":{},"stats":{},"later":"hunter2"}`)
	assert.Equal(t, "hunter2", self.Config.Vaults[0].Token.Reveal())
	assert.Contains(t, string(self.Raw()), `"later":"hunter2"`)
	for _, value := range []any{
		self, *self, self.Config, *self.Config, struct{ s nomad.Self }{*self}, struct{ s *nomad.Self }{self},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%p", "%w"} {
			assertNoSecret(t, fmt.Sprintf(verb, value), verb)
		}
		var log strings.Builder
		logJSON(&log, "x", value)
		encoded, err := json.Marshal(value)
		require.NoError(t, err)
		assertNoSecret(t, log.String()+string(encoded), "JSON")
	}
	encoded, err := jsonv2.Marshal(self)
	require.NoError(t, err)
	assertNoSecret(t, string(encoded), "json/v2")
	assert.Contains(t, string(encoded), "<redacted>")
}

// BenchmarkSelfDecode decodes the document of an agent that is server and client. The "map" variant
// decodes it as the official client does.
func BenchmarkSelfDecode(b *testing.B) {
	body := []byte(recordedSelfs(b)["2.0.5 self on both1"])
	b.Run("Self", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, new(nomad.Self).UnmarshalJSON(body))
		}
	})
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var self struct {
				Config map[string]any            `json:"config"`
				Member map[string]any            `json:"member"`
				Stats  map[string]map[string]any `json:"stats"`
			}
			require.NoError(b, json.Unmarshal(body, &self))
		}
	})
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

	odd := agentstats.Stats{"raft": {"term": "x", "last_contact": "never"}, "client": {"last_heartbeat": "x"}}
	assert.Zero(t, odd.RaftTerm())
	assert.Zero(t, odd.LastHeartbeat())
	_, known = odd.LastContact()
	assert.False(t, known)
	assert.Empty(t, agentstats.Stats(nil).KnownServers())
}
