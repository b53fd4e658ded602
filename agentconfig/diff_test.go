package agentconfig

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nomad-go/nomad/secret"
)

func TestDiff(t *testing.T) {
	a := &Config{
		Region: "eu", LogRotateDuration: time.Hour, Files: []string{"a.hcl"},
		ACL:                    ACL{ReplicationToken: secret.New("one")},
		Consuls:                []Consul{{Name: "default", Addr: NewEndpoint("http://u:one@consul:1")}},
		Client:                 Client{Meta: map[string]string{"rack": "1", "only-a": "x"}},
		Telemetry:              Telemetry{PrefixFilter: []string{}},
		Server:                 Server{RaftMultiplier: new(1), NumSchedulers: new(2)},
		HTTPAPIResponseHeaders: map[string]secret.Secret{"X-Same": secret.New("s"), "X-Key": secret.New("one")},
	}
	b := &Config{
		Region: "us", LogRotateDuration: time.Minute, Files: []string{"a.hcl", "b.hcl"},
		ACL: ACL{ReplicationToken: secret.New("two")},
		Consuls: []Consul{
			{Name: "default", Addr: NewEndpoint("http://u:two@consul:1")},
			{Name: "second", Token: secret.New("three")},
		},
		Client:                 Client{Meta: map[string]string{"rack": "2", "only-b": "y"}, Drain: &Drain{Force: new(true)}},
		Server:                 Server{RaftMultiplier: new(5)},
		TLSConfig:              TLS{KeyLoader: &struct{}{}},
		Telemetry:              Telemetry{DataDogTags: []string{}},
		HTTPAPIResponseHeaders: map[string]secret.Secret{"X-Same": secret.New("s"), "X-Key": secret.New("two")},
	}
	assert.Equal(t, []Difference{
		{"ACL.ReplicationToken", "<redacted>", "<redacted>"},
		{"Client.Drain.Force", "", "true"},
		{"Client.Meta[only-a]", "x", ""},
		{"Client.Meta[only-b]", "", "y"},
		{"Client.Meta[rack]", "1", "2"},
		{"Consuls[0].Addr", "http://<redacted>@consul:1", "http://<redacted>@consul:1"},
		{"Consuls[1].Name", "", "second"},
		{"Consuls[1].Token", "", "<redacted>"},
		{"Files", `["a.hcl"]`, `["a.hcl","b.hcl"]`},
		{"HTTPAPIResponseHeaders[X-Key]", "<redacted>", "<redacted>"},
		{"LogRotateDuration", "1h0m0s", "1m0s"},
		{"Region", "eu", "us"},
		{"Server.NumSchedulers", "2", ""},
		{"Server.RaftMultiplier", "1", "5"},
		{"TLSConfig.KeyLoader", "", "{}"},
	}, Diff(a, b))
	back := Diff(b, a)
	for i, d := range Diff(a, b) {
		assert.Equal(t, Difference{d.Path, d.B, d.A}, back[i])
	}
	assert.Empty(t, Diff(a, a))
	assert.Empty(t, Diff(new(Config), nil))
	assert.Equal(t, []Difference{{"Region", "", "eu"}}, Diff(nil, &Config{Region: "eu"}))
}

func TestDiffOfRecordedConfigs(t *testing.T) {
	configs := recordedConfigs(t)
	server, client := decoded(t, string(configs["2.0.5 self on srv1"])), decoded(t, string(configs["2.0.5 self on cli1"]))
	var paths []string
	for _, d := range Diff(server, client) {
		paths = append(paths, d.Path)
		assert.NotEqual(t, d.A, d.B, d.Path)
	}
	assert.Subset(t, paths, []string{"Client.Enabled", "NodeName", "Server.Enabled"})
	assert.Less(t, len(paths), 40)
}
