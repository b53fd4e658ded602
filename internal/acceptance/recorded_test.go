package acceptance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/internal/wire"
)

// TestRecorded replays every recorded request through the client. It compares the result with the
// recorded response, leaf by leaf, or the error with the outcome that function expected returns.
func TestRecorded(t *testing.T) {
	t.Parallel()
	all, err := wire.All()
	require.NoError(t, err)
	total := testRecordings(t, all)
	assert.GreaterOrEqual(t, total, 4*193)
}

// TestRecordedUnknownVersions replays the recordings under version numbers that do not exist.
func TestRecordedUnknownVersions(t *testing.T) {
	folder := t.TempDir()
	t.Setenv(wire.Variable, folder)
	renamed := map[string]string{"1.8.4": "1.9.7", "2.0.5": "2.1.0"}
	for from, to := range renamed {
		recording, err := wire.Version(from)
		require.NoError(t, err)
		content, err := json.Marshal(recording)
		require.NoError(t, err)
		content = []byte(strings.ReplaceAll(string(content), from, to))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "nomad-"+to+".json"), content, 0o600))
	}
	all, err := wire.All()
	require.NoError(t, err)
	further := slices.DeleteFunc(all, func(r wire.Recording) bool { return r.Nomad != "1.9.7" && r.Nomad != "2.1.0" })
	assert.Equal(t, 2*193, testRecordings(t, further))
}

// testRecordings tests each exchange and returns their number.
func testRecordings(t *testing.T, recordings []wire.Recording) (total int) {
	for _, recording := range recordings {
		_, err := wire.Version(recording.Nomad)
		known := err == nil
		counts := map[string]int{}
		for _, x := range recording.Exchanges {
			group, _, _ := strings.Cut(x.Endpoint(), "/")
			counts[group]++
			t.Run(recording.Nomad+"/"+x.Name, func(t *testing.T) {
				require.Contains(t, recordedAgents, x.Agent)
				got, err := replay(t, x, known)
				assertOutcome(t, recording, x, err, known)
				if err == nil {
					assertSame(t, x, got, known)
				}
			})
		}
		total += len(recording.Exchanges)
		t.Logf("Nomad %s: %d exchanges: %v", recording.Nomad, len(recording.Exchanges), counts)
	}
	return total
}

// assertOutcome checks the outcome of a call. An agent of an unknown version may respond in ways that the
// rules do not cover. Then the error may only match the sentinel for the response's status, or none.
func assertOutcome(t *testing.T, recording wire.Recording, x wire.Exchange, err error, known bool) {
	t.Helper()
	got := succeeds
	var failure *nomad.APIError
	if err != nil {
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), secretToken)
		if got = testkit.Meaning(err); errors.As(err, &failure) {
			assert.Equal(t, x.Status, failure.StatusCode)
			if got == "" {
				got = fails
			}
		}
	}
	want := expected(recording, x)
	if !known && got != want && plausible(x, got) {
		t.Logf("%s, not %s as in other versions: %v", got, want, err)
		return
	}
	assert.Equal(t, want, got, "error: %v", err)
}

const secretToken = "1f4f7c3e-2f0a-4f6d-9f3e-5b1c2d3e4f50"

// replay makes the call of an exchange, checks that it sends the recorded request, and returns the call's
// result for the recorded response. It uses testkit.Call for invalid requests that no method sends.
func replay(t *testing.T, x wire.Exchange, known bool) (any, error) {
	t.Helper()
	opts := []nomad.Option{nomad.WithRetries(0)}
	if x.Token != "" && x.Token != "anonymous" {
		opts = append(opts, nomad.WithToken(secretToken))
	}
	if x.Header["Content-Encoding"] == "gzip" {
		opts = append(opts, nomad.WithCompression(true))
	}
	recorded := x.URL().Query()
	if recorded.Has("region") {
		opts = append(opts, nomad.WithRegion(recorded.Get("region")))
	}
	client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Agents treat PUT and POST the same.
		if x.Method != http.MethodPost || r.Method != http.MethodPut {
			assert.Equal(t, x.Method, r.Method)
		}
		if x.Endpoint() == "monitor" && r.URL.Path == "/v1/agent/self" { // requested after an empty log
			http.Error(w, "Permission denied", http.StatusForbidden)
			return
		}
		assert.Equal(t, x.URL().Path, r.URL.Path)
		assert.Equal(t, recorded, r.URL.Query())
		if x.Token != "" && x.Token != "anonymous" {
			assert.Equal(t, secretToken, r.Header.Get("X-Nomad-Token"))
		} else {
			assert.NotContains(t, r.Header, "X-Nomad-Token")
		}
		assert.Equal(t, x.Header["Content-Encoding"], r.Header.Get("Accept-Encoding"))
		x.ServeHTTP(w, r)
	}), opts...)
	ctx, agent := t.Context(), client.Agent

	endpoint, rest, _ := strings.Cut(x.Endpoint(), "/")
	read, write := x.Method == http.MethodGet, x.Method == http.MethodPut || x.Method == http.MethodPost
	var target nomad.Target
	switch {
	case recorded.Has("server_id") && recorded.Has("node_id"):
		endpoint = "none" // no method has two targets
	case recorded.Has("server_id"):
		target = nomad.OnServer(recorded.Get("server_id"))
	case recorded.Has("node_id"):
		target = nomad.OnNode(recorded.Get("node_id"))
	}
	switch {
	case endpoint == "members" && read && !recorded.Has("pretty") && !recorded.Has("stale"):
		return unlessNil(agent.Members(ctx))
	case endpoint == "servers" && read:
		return agent.Servers(ctx)
	case endpoint == "servers" && write && recorded.Has("address"):
		return nil, agent.UpdateServers(ctx, recorded["address"]...)
	case endpoint == "self" && read:
		return unlessNil(agent.Self(ctx))
	case endpoint == "join" && write && recorded.Has("address"):
		return unlessNil(agent.Join(ctx, recorded["address"]...))
	case endpoint == "force-leave" && write && recorded.Has("node") && recorded.Get("prune") != "maybe":
		var opts []nomad.ForceLeaveOption
		if recorded.Get("prune") == "true" {
			opts = append(opts, nomad.Prune())
		}
		return nil, agent.ForceLeave(ctx, recorded.Get("node"), opts...)
	case endpoint == "health" && read && recorded.Get("type") != "leader":
		var roles []nomad.Role
		for _, role := range recorded["type"] {
			roles = append(roles, nomad.Role(role))
		}
		health, err := agent.Health(ctx, roles...)
		if err != nil && !errors.Is(err, nomad.ErrUnhealthy) {
			return nil, err
		}
		// An unhealthy agent is an error, but the value is still returned.
		assertSame(t, x, health, known)
		return health, err
	case endpoint == "host" && read:
		return unlessNil(agent.Host(ctx, target))
	case endpoint == "monitor" && rest == "" && recorded.Get("log_level") != "loud" && !recorded.Has("plain"):
		stream, err := agent.Monitor(ctx, nomad.MonitorOptions{
			Level: nomad.LogLevel(recorded.Get("log_level")), JSON: recorded.Has("log_json"), Target: target,
		})
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		text, err := io.ReadAll(stream)
		return string(text), inGoodOrder(err)
	case endpoint == "monitor" && rest == "export" && recorded.Has("on_disk"):
		return unlessNil(agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true}))
	case endpoint == "pprof" && rest != "":
		opts := nomad.ProfileOptions{Type: nomad.ProfileType(rest), Target: target}
		if rest == "profile" || rest == "trace" {
			opts.Duration = time.Second
		}
		opts.Debug, _ = strconv.Atoi(recorded.Get("debug"))
		profile, err := agent.Profile(ctx, opts)
		if err != nil {
			return nil, err
		}
		defer profile.Close()
		content, err := io.ReadAll(profile)
		return string(content), err
	case endpoint == "schedulers" && rest == "" && read:
		return unlessNil(agent.Schedulers(ctx))
	case endpoint == "schedulers" && rest == "config" && read:
		return unlessNil(agent.SchedulerConfig(ctx))
	case x.Name == "schedulers config update":
		var config nomad.SchedulerConfig
		require.NoError(t, json.Unmarshal([]byte(x.RequestBody), &config))
		return unlessNil(agent.UpdateSchedulerConfig(ctx, &config))
	case endpoint == "keyring" && rest == "list":
		return unlessNil(agent.ListKeys(ctx))
	case endpoint == "keyring" && write && strings.Contains(x.RequestBody, "=="):
		var body struct{ Key string }
		require.NoError(t, json.Unmarshal([]byte(x.RequestBody), &body))
		change := map[string]func(context.Context, nomad.Secret) (*nomad.Keyring, error){
			"install": agent.InstallKey, "use": agent.UseKey, "remove": agent.RemoveKey,
		}[rest]
		return unlessNil(change(ctx, nomad.NewSecret(body.Key)))
	case endpoint == "reload" && write:
		return nil, agent.Reload(ctx)
	}
	// The methods refuse these arguments without sending a request.
	delete(recorded, "region")
	if x.Header["Content-Type"] == "text/plain" {
		var out []byte
		err := testkit.Call(ctx, client, x.Method, x.URL().Path, recorded, nil, &out)
		return string(out), err
	}
	var in, out any
	if json.Valid([]byte(x.RequestBody)) {
		in = json.RawMessage(x.RequestBody)
	}
	err := testkit.Call(ctx, client, x.Method, x.URL().Path, recorded, in, &out)
	return out, err
}

// unlessNil prevents that a nil pointer becomes a non-nil any.
func unlessNil[T any](v *T, err error) (any, error) {
	if v == nil {
		return nil, err
	}
	return v, err
}

// assertSame compares a recorded body with the result of the call, leaf by leaf. Null and empty are the
// same, and so are two spellings of a duration. Fields that only an unknown version has are ignored.
func assertSame(t *testing.T, x wire.Exchange, got any, known bool) {
	t.Helper()
	body := x.Text()
	if body == "" {
		return
	}
	if text, ok := got.(string); ok { // a log or a profile
		if x.Header["Content-Type"] == "application/json" {
			body = framesText(t, body)
		}
		assert.Equal(t, body, text)
		return
	}
	want := decoded(t, []byte(body))
	fields, _ := want.(map[string]any)
	switch result := got.(type) {
	case *nomad.JoinResult:
		warning, _ := fields["warning"].(string)
		assert.Equal(t, &nomad.JoinResult{Joined: int(fields["num_joined"].(float64)), Warning: warning}, result)
		return
	case *nomad.Keyring: // its JSON hides the keys
		keys := map[string]int{}
		for key, count := range result.Keys {
			keys[key.Reveal()] = count
		}
		got = map[string]any{"Keys": keys, "Messages": result.Messages, "NumNodes": result.NumNodes}
	case *nomad.Host: // its JSON hides the values of the environment
		environment := map[string]string{}
		for name, value := range result.Environment {
			environment[name] = value.Reveal()
		}
		got = map[string]any{"AgentID": result.AgentID, "OS": result.OS, "Network": result.Network, "ResolvConf": result.ResolvConf,
			"Hosts": result.Hosts, "Environment": environment, "Disk": result.Disk}
		if data, ok := fields["HostData"].(map[string]any); ok {
			data["AgentID"] = fields["AgentID"]
			want = data
		}
	case *nomad.Self: // package agentconfig has tests for the rest of the configuration
		config := fields["config"].(map[string]any)
		fields["config"] = map[string]any{"Region": config["Region"], "NodeName": config["NodeName"]}
		got = map[string]any{
			"config": map[string]any{"Region": result.Config.Region, "NodeName": result.Config.NodeName},
			"member": result.Member,
			"stats":  result.Stats,
		}
	}
	encoded, err := json.Marshal(got)
	require.NoError(t, err)
	wantLeaves, haveLeaves := testkit.Leaves(want), testkit.Leaves(decoded(t, encoded))
	if !known {
		deleteNewKeys(wantLeaves)
		deleteNewKeys(haveLeaves)
	}
	if body != "{}" {
		assert.NotEmpty(t, wantLeaves, "%s", body)
	}
	assert.Equal(t, wantLeaves, haveLeaves)
}

func decoded(t *testing.T, text []byte) (value any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(text, &value))
	return value
}

// deleteNewKeys deletes the leaves below keys that no stored recording has.
func deleteNewKeys(leaves map[string]any) {
	for path := range leaves {
		for key := range strings.SplitSeq(path, "/") {
			if _, err := strconv.Atoi(key); err != nil && key != "" && !storedKeys()[key] {
				delete(leaves, path)
			}
		}
	}
}

// storedKeys returns all keys in the bodies of the stored recordings.
var storedKeys = sync.OnceValue(func() map[string]bool {
	keys := map[string]bool{}
	all, err := wire.Stored()
	if err != nil {
		panic(err)
	}
	for _, recording := range all {
		for _, x := range recording.Exchanges {
			var value any
			if json.Unmarshal([]byte(x.Text()), &value) != nil {
				continue // not JSON
			}
			for path := range testkit.Leaves(value) {
				for key := range strings.SplitSeq(path, "/") {
					keys[key] = true
				}
			}
		}
	}
	return keys
})

// framesText returns the decoded data of the frames of a log.
func framesText(t *testing.T, body string) string {
	var text strings.Builder
	for decoder := json.NewDecoder(strings.NewReader(body)); ; {
		var frame struct{ Data []byte }
		if err := decoder.Decode(&frame); err == io.EOF {
			return text.String()
		} else {
			require.NoError(t, err)
		}
		text.Write(frame.Data)
	}
}
