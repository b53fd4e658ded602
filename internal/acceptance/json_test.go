package acceptance_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/agentstats"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/internal/wire"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
	"github.com/nomad-go/nomad/watch"
)

// TestJSON checks the documented JSON of each exported type, and its string.
func TestJSON(t *testing.T) {
	at := time.Date(2026, 11, 23, 18, 0, 1, 500e6, time.UTC)
	hidden, join := nomad.NewSecret(planted), agentconfig.NewEndpoint("provider=aws secret_access_key="+planted)
	leaderless := nomad.Health{Server: &nomad.RoleHealth{Message: "No cluster leader"}}
	member := nomad.Member{
		Name: "server-1.global", Addr: netip.MustParseAddr("10.0.0.1"), Port: 4648, Status: nomad.StatusAlive,
		Tags: map[string]string{"region": "global"}, ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2,
	}
	const memberJSON = `{"Name":"server-1.global","Addr":"10.0.0.1","Port":4648,"Status":"alive",
		"Tags":{"region":"global"},
		"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":0,"DelegateMax":0,"DelegateCur":0}`
	failed := testkit.NewClient(t, nomad.WithRetries(0), testkit.WithResponse(403, "Permission denied"))
	_, denied := failed.Agent.Members(t.Context())
	require.Error(t, denied)
	var failure *nomad.APIError
	require.ErrorAs(t, denied, &failure)

	for _, row := range []struct {
		value      any
		text, want string
	}{
		// Types that agents send.
		{member, "server-1.global (alive)", memberJSON},
		{nomad.Member{Status: nomad.StatusNone}, " (none)", `{"Name":"","Addr":null,"Port":0,"Status":"none","Tags":null,
			"ProtocolMin":0,"ProtocolMax":0,"ProtocolCur":0,"DelegateMin":0,"DelegateMax":0,"DelegateCur":0}`},
		{nomad.Members{ServerName: "server-1", ServerRegion: "global", ServerDC: "dc1", Members: []nomad.Member{member}},
			"1 members, reported by server-1.global",
			`{"ServerName":"server-1","ServerRegion":"global","ServerDC":"dc1","Members":[` + memberJSON + `]}`},
		{nomad.Members{}, "0 members, reported by .", `{"ServerName":"","ServerRegion":"","ServerDC":"","Members":[]}`},
		{leaderless, "unhealthy: server: No cluster leader", `{"server":{"ok":false,"message":"No cluster leader"}}`},
		{nomad.RoleHealth{OK: true, Message: "ok"}, "healthy", `{"ok":true,"message":"ok"}`},
		{nomad.JoinResult{Joined: 2}, "joined 2", `{"num_joined":2}`},
		{nomad.JoinResult{Joined: 1, Warning: "a"}, "joined 1 (a)", `{"num_joined":1,"warning":"a"}`},
		{nomad.Host{
			AgentID: "server-1.global", OS: "linux", Network: []nomad.HostAddress{{"address": "10.0.0.1", "mask_bits": "8"}},
			Environment: map[string]nomad.Secret{"KEY": hidden, "NONE": {}},
			Disk:        map[string]nomad.HostDisk{"/": {DiskMB: 2, UsedMB: 1}},
		}, "server-1.global: linux", `{"AgentID":"server-1.global","OS":"linux",
			"Network":[{"address":"10.0.0.1","mask_bits":"8"}],"ResolvConf":"","Hosts":"",
			"Environment":{"KEY":"<redacted>","NONE":""},"Disk":{"/":{"DiskMB":2,"UsedMB":1}}}`},
		{nomad.HostAddress{"address": "10.0.0.1", "mask_bits": "8"}, "10.0.0.1/8", `{"address":"10.0.0.1","mask_bits":"8"}`},
		{nomad.HostDisk{DiskMB: 2, UsedMB: 1}, "1 of 2 MiB in use", `{"DiskMB":2,"UsedMB":1}`},
		{nomad.Schedulers{ServerID: "server-1.global", Schedulers: []nomad.Scheduler{
			{ID: "a", Started: at, Status: "Started", WorkloadStatus: "Backoff"},
		}}, "server-1.global: 1 schedulers", `{"server_id":"server-1.global","schedulers":[{"id":"a","enabled_schedulers":[],
			"started":"2026-11-23T18:00:01.5Z","status":"Started","workload_status":"Backoff"}]}`},
		{nomad.Scheduler{ID: "a", EnabledSchedulers: []string{"_core"}, Status: "Started", WorkloadStatus: "Backoff"},
			"a: Started, Backoff",
			`{"id":"a","enabled_schedulers":["_core"],"started":"0001-01-01T00:00:00Z","status":"Started",
				"workload_status":"Backoff"}`},
		{nomad.SchedulerConfig{ServerID: "a", NumSchedulers: 2, EnabledSchedulers: []string{"batch", "_core"}},
			"a: 2 schedulers of [batch _core]",
			`{"server_id":"a","num_schedulers":2,"enabled_schedulers":["batch","_core"]}`},
		{nomad.Keyring{
			Keys:     map[nomad.Secret]int{hidden: 2, nomad.NewSecret("other"): 3},
			Messages: map[string]string{"server-1.global": "no key " + planted}, NumNodes: 3,
		}, "2 keys on 3 servers; server-1.global: no key <redacted>",
			`{"Keys":[{"key":"<redacted>","nodes":3},{"key":"<redacted>","nodes":2}],
			"Messages":{"server-1.global":"no key <redacted>"},"NumNodes":3}`},
		{agentstats.Stats{"raft": {"state": "Leader", "term": "2", "applied_index": "7"}}, "Leader in term 2 at index 7",
			`{"raft":{"state":"Leader","term":"2","applied_index":"7"}}`},
		{agentstats.Stats{"client": {"node_id": "a", "num_allocations": "3"}}, "node a with 3 allocations",
			`{"client":{"node_id":"a","num_allocations":"3"}}`},
		{agentconfig.Ports{HTTP: 4646, RPC: 4647, Serf: 4648}, "", `{"HTTP":4646,"RPC":4647,"Serf":4648}`},
		{agentconfig.Limits{HTTPSHandshakeTimeout: 5 * time.Second, HTTPMaxConnsPerClient: 100}, "",
			`{"HTTPSHandshakeTimeout":"5s","HTTPMaxConnsPerClient":100,"RPCHandshakeTimeout":"","RPCMaxConnsPerClient":0}`},
		{agentconfig.ServerJoin{RetryJoin: []agentconfig.Endpoint{join}, RetryInterval: 30 * time.Second}, "",
			`{"StartJoin":null,"RetryJoin":["provider=aws <redacted>"],"RetryMaxAttempts":0,"RetryInterval":30000000000}`},
		{agentconfig.Plugin{Name: "a", Args: []nomad.Secret{hidden}}, "", `{"Name":"a","Args":["<redacted>"],"Config":null}`},

		// Types of this library.
		{nomad.LogEntry{
			Time: at, Level: nomad.LevelInfo, Module: "nomad.raft", Message: "a b",
			Fields: map[string]any{"n": json.Number("1.50"), "list": json.RawMessage(`[1]`), "s": "x y", "none": nil,
				"yes": true},
		}, `2026-11-23T18:00:01.500Z [INFO]  nomad.raft: a b: list=[1] n=1.50 none=null s="x y" yes=true`,
			`{"time":"2026-11-23T18:00:01.5Z","level":"info","module":"nomad.raft","message":"a b","fields":{"n":1.50,
				"list":[1],"s":"x y","none":null,"yes":true}}`},
		{nomad.LogEntry{Message: "a"}, "a", `{"message":"a"}`},
		{failure, "nomad: GET http://127.0.0.1:4646/v1/agent/members: 403 Permission denied: " +
			"it requires a valid ACL token with node:read",
			`{"method":"GET","address":"http://127.0.0.1:4646","path":"/v1/agent/members","status_code":403,
			"message":"Permission denied","meanings":["permission denied"]}`},
		{&nomad.APIError{Method: "GET", Address: "a", Path: "/", StatusCode: 418}, "nomad: GET a/: 418 I'm a teapot",
			`{"method":"GET","address":"a","path":"/","status_code":418,"meanings":[]}`},
		{nomad.Response{StatusCode: 200, Header: http.Header{"X-Nomad-Index": {"7"}, "Set-Cookie": {planted}}}, "200 OK",
			`{"status_code":200,"index":7}`},
		{nomad.Response{StatusCode: 299}, "299", `{"status_code":299}`},
		{nomad.Request{Path: "/v1/jobs", Body: planted}, "GET /v1/jobs", `{"method":"GET","path":"/v1/jobs"}`},
		{nomad.OnServer("leader"), "server leader", `"server leader"`},
		{nomad.Target{}, "this agent", `"this agent"`},
		{nomad.TLS{CAFile: "/ca.pem", CertPEM: []byte(planted), KeyPEM: hidden, SkipVerify: true},
			`{"ca_file":"/ca.pem","key_pem":"<redacted>","skip_verify":true,"cert_pem":"<redacted>"}`,
			`{"ca_file":"/ca.pem","cert_pem":"<redacted>","key_pem":"<redacted>","skip_verify":true}`},
		{nomad.TLS{}, "{}", `{}`},
		{hidden, "<redacted>", `"<redacted>"`},
		{agentconfig.Difference{Path: "Region", B: "eu"}, `Region: "" -> "eu"`, `{"path":"Region","b":"eu"}`},
		{nomadtest.Request{Time: at, Method: "PUT", Path: "/v1/agent/join", Token: hidden, Status: 200},
			"PUT /v1/agent/join: 200", `{"time":"2026-11-23T18:00:01.5Z","method":"PUT","path":"/v1/agent/join","status":200}`},

		{watch.MemberEvent{Kind: watch.Joined, After: member, Time: at}, "server-1.global joined",
			`{"kind":"joined","time":"2026-11-23T18:00:01.5Z","name":"server-1.global","after":` + memberJSON + `}`},
		{watch.MemberEvent{Kind: watch.Updated, Before: member, After: member, Changed: []string{"Port"}, Time: at},
			"server-1.global updated: Port",
			`{"kind":"updated","time":"2026-11-23T18:00:01.5Z","name":"server-1.global","before":` + memberJSON + `,
				"after":` + memberJSON + `,"changed":["Port"]}`},
		{watch.MemberEvent{Kind: watch.OutageOver, Since: at.Add(-1500 * time.Millisecond), Time: at},
			"outage over after 1.5s",
			`{"kind":"outage_over","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:00Z","duration":"1.5s"}`},
		{watch.HealthEvent{Kind: watch.Unhealthy, After: leaderless, Err: errors.New("no leader"), Time: at},
			"unhealthy: server: No cluster leader",
			`{"kind":"unhealthy","time":"2026-11-23T18:00:01.5Z","error":"no leader",
			"after":{"server":{"ok":false,"message":"No cluster leader"}}}`},
		{watch.LogEvent{Kind: watch.Entry, Entry: nomad.LogEntry{Message: "a"}, Time: at}, "a",
			`{"kind":"entry","time":"2026-11-23T18:00:01.5Z","entry":{"message":"a"}}`},
		{watch.LogEvent{Kind: watch.Outage, Err: context.DeadlineExceeded, Since: at, Time: at},
			"outage: context deadline exceeded (since 2026-11-23T18:00:01Z)",
			`{"kind":"outage","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:01.5Z",
				"error":"context deadline exceeded"}`},
		{survey.Report{}, "", `{"ok":true,"members":[],"servers":[],"disagreements":[]}`},
		{survey.Server{Member: member, Address: "http://a", Err: errors.New("no\nroute"),
			Duration: 1500 * time.Millisecond}, `server-1.global: unreachable: no\nroute`,
			`{"name":"server-1.global","status":"alive","address":"http://a","reachable":false,"healthy":false,
				"duration":"1.5s","error":"no\\nroute"}`},
		{survey.Disagreement{Name: "a", Views: []survey.View{{Member: member, Servers: []string{"b"}},
			{Servers: []string{"c"}}}},
			"a: alive to [b]; unknown to [c]",
			`{"name":"a","views":[{"known":true,"member":` + memberJSON + `,"servers":["b"]},{"known":false,"servers":["c"]}]}`},
	} {
		v1, err := json.Marshal(row.value)
		require.NoError(t, err)
		v2, err := jsonv2.Marshal(row.value)
		require.NoError(t, err)
		assert.JSONEq(t, row.want, string(v1))
		assert.JSONEq(t, row.want, string(v2))
		if row.text != "" {
			assert.Equal(t, row.text+"\n"+row.text, fmt.Sprintf("%v\n%+v", row.value, row.value))
		}
	}
	config := new(agentconfig.Config)
	require.NotNil(t, agentconfig.Diff(config, config), "an empty list is not nil")
}

// TestJSONIsWhatAgentsSend decodes recorded documents, encodes them again and compares the two.
func TestJSONIsWhatAgentsSend(t *testing.T) {
	all, err := wire.All()
	require.NoError(t, err)
	values := map[string]func(context.Context, *nomad.Agent) (any, error){
		"members":           func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Members(ctx) },
		"health":            func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Health(ctx) },
		"schedulers":        func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Schedulers(ctx) },
		"schedulers/config": func(ctx context.Context, a *nomad.Agent) (any, error) { return a.SchedulerConfig(ctx) },
		"host":              func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Host(ctx, nomad.Target{}) },
		"self": func(ctx context.Context, a *nomad.Agent) (any, error) {
			self, err := a.Self(ctx)
			if err != nil {
				return nil, err
			}
			return map[string]any{"member": self.Member, "stats": self.Stats}, nil
		},
	}
	counts := map[string]int{}
	for _, recording := range all {
		for _, x := range recording.Exchanges {
			call := values[x.Endpoint()]
			if call == nil || x.Method != http.MethodGet || x.Status != 200 || x.Text() == "{}" {
				continue
			}
			counts[x.Endpoint()]++
			value, err := call(t.Context(), testkit.NewClient(t, testkit.WithResponse(200, x.Text())).Agent)
			require.NoError(t, err, x.Name)
			want := decoded(t, []byte(x.Text())).(map[string]any)
			switch x.Endpoint() {
			case "self":
				delete(want, "config") // package agentconfig has tests for it
			case "host":
				if data, ok := want["HostData"].(map[string]any); ok {
					data["AgentID"] = want["AgentID"]
					want = data
				}
				for name := range want["Environment"].(map[string]any) {
					want["Environment"].(map[string]any)[name] = "<redacted>"
				}
			}
			expected, err := json.Marshal(want)
			require.NoError(t, err)
			v1, err := json.Marshal(value)
			require.NoError(t, err)
			v2, err := jsonv2.Marshal(value)
			require.NoError(t, err)
			assert.JSONEq(t, string(expected), string(v1), x.Name)
			assert.JSONEq(t, string(expected), string(v2), x.Name)
		}
	}
	assert.Len(t, counts, len(values), "%v", counts)
}
