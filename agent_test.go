package nomad_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sentinels are all that an error can be matched with.
var sentinels = map[string]error{
	"ErrInvalidArgument":  nomad.ErrInvalidArgument,
	"ErrPermissionDenied": nomad.ErrPermissionDenied,
	"ErrInvalidToken":     nomad.ErrInvalidToken,
	"ErrNotFound":         nomad.ErrNotFound,
	"ErrServerOnly":       nomad.ErrServerOnly,
	"ErrClientOnly":       nomad.ErrClientOnly,
	"ErrNoLeader":         nomad.ErrNoLeader,
	"ErrTooManyRequests":  nomad.ErrTooManyRequests,
	"ErrUnsupported":      nomad.ErrUnsupported,
	"ErrUnhealthy":        nomad.ErrUnhealthy,
	"ErrJoinFailed":       nomad.ErrJoinFailed,
	"ErrResponseTooLarge": nomad.ErrResponseTooLarge,
	"ErrInvalidResponse":  nomad.ErrInvalidResponse,
	"ErrRedirect":         nomad.ErrRedirect,
	"ErrStreamStalled":    nomad.ErrStreamStalled,
	"ErrClosed":           nomad.ErrClosed,
}

// meaning lists the names of the sentinels that an error matches.
func meaning(err error) string {
	var names []string
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// newClient makes a client of an agent that is played by h.
func newClient(t testing.TB, h http.Handler, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := nomad.NewClient(append([]nomad.Option{nomad.WithAddress(server.URL)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// recordings are the recorded exchanges.
func recordings(t testing.TB) []wire.Recording {
	t.Helper()
	var all []wire.Recording
	for _, version := range []string{"1.6.5", "2.0.5"} {
		recording, err := wire.Version(version)
		require.NoError(t, err)
		all = append(all, recording)
	}
	return all
}

// TestRecordings sends every recorded request through the client, and checks what comes out of the recorded answer: the
// value, leaf by leaf, or exactly the errors that outcomes lists.
func TestRecordings(t *testing.T) {
	seen := map[string]bool{}
	total := 0
	for _, recording := range recordings(t) {
		counts := map[string]int{}
		for _, x := range recording.Exchanges {
			counts[strings.SplitN(x.Endpoint(), "/", 2)[0]]++
			total++
			seen[x.Name] = true
			t.Run(recording.Nomad+"/"+x.Name, func(t *testing.T) {
				want, known := outcomes[x.Name]
				if !known {
					t.Fatalf("no test knows the recorded case %q", x.Name)
				}
				got, err := replay(t, x)
				if texts, ok := want[recording.Nomad[:1]]; ok {
					assert.Equal(t, texts, meaning(err), "error: %v", err)
				} else {
					assert.Equal(t, want["*"], meaning(err), "error: %v", err)
				}
				if err != nil {
					assert.NotContains(t, err.Error(), "\n")
					assert.NotContains(t, err.Error(), secretToken)
				} else {
					assertSame(t, x, got)
				}
			})
		}
		t.Logf("Nomad %s: %d exchanges: %v", recording.Nomad, len(recording.Exchanges), counts)
	}
	for name := range outcomes {
		assert.True(t, seen[name], "no recording has the case %q", name)
	}
	assert.Equal(t, 386, total)
}

const secretToken = "1f4f7c3e-2f0a-4f6d-9f3e-5b1c2d3e4f50"

// replay makes the call of an exchange, checks that it sends the recorded request, and gives what the call made of the
// recorded answer. A request that no typed call sends, because it is wrong, goes through Call.
func replay(t *testing.T, x wire.Exchange) (any, error) {
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
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Agents take PUT and POST alike.
		if x.Method != http.MethodPost || r.Method != http.MethodPut {
			assert.Equal(t, x.Method, r.Method)
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
		endpoint = "none" // no call asks about two
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
		// Unhealthy is an error, and the value is there all the same.
		assertSame(t, x, health)
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
		return string(text), err
	case endpoint == "monitor" && rest == "export" && recorded.Has("on_disk"):
		return unlessNil(agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true}))
	case endpoint == "pprof" && rest != "":
		opts := nomad.ProfileOptions{Name: nomad.ProfileName(rest), Target: target}
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
		return unlessNil(agent.UpdateSchedulerConfig(ctx, config))
	case endpoint == "keyring" && rest == "list":
		return unlessNil(agent.ListKeys(ctx))
	case endpoint == "keyring" && write && strings.Contains(x.RequestBody, "=="):
		var body struct{ Key string }
		require.NoError(t, json.Unmarshal([]byte(x.RequestBody), &body))
		change := map[string]func(context.Context, string) (*nomad.Keyring, error){
			"install": agent.InstallKey, "use": agent.UseKey, "remove": agent.RemoveKey,
		}[rest]
		return unlessNil(change(ctx, body.Key))
	case endpoint == "reload" && write:
		return nil, agent.Reload(ctx)
	}
	// The typed calls refuse these before they are sent.
	delete(recorded, "region")
	if x.Header["Content-Type"] == "text/plain" {
		var out []byte
		err := client.Call(ctx, x.Method, x.URL().Path, recorded, nil, &out)
		return string(out), err
	}
	var in, out any
	if json.Valid([]byte(x.RequestBody)) {
		in = json.RawMessage(x.RequestBody)
	}
	err := client.Call(ctx, x.Method, x.URL().Path, recorded, in, &out)
	return out, err
}

// unlessNil keeps a nil pointer from becoming a non-nil any.
func unlessNil[T any](v *T, err error) (any, error) {
	if v == nil {
		return nil, err
	}
	return v, err
}

// assertSame compares a recorded body with what the client made of it, after both have become plain JSON values. Null and
// empty are the same, and so are two spellings of a duration.
func assertSame(t *testing.T, x wire.Exchange, got any) {
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
	var want any
	require.NoError(t, json.Unmarshal([]byte(body), &want))
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
	case *nomad.Host:
		if data, ok := fields["HostData"].(map[string]any); ok {
			data["AgentID"] = fields["AgentID"]
			want = data
		}
	}
	encoded, err := json.Marshal(got)
	require.NoError(t, err)
	var have any
	require.NoError(t, json.Unmarshal(encoded, &have))
	wantLeaves, haveLeaves := leaves(want), leaves(have)
	if body != "{}" {
		assert.NotEmpty(t, wantLeaves, "%s", body)
	}
	assert.Equal(t, wantLeaves, haveLeaves)
}

// leaves flattens a JSON value to its leaves that say something.
func leaves(value any) map[string]any {
	flat := map[string]any{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for key, v := range value {
				walk(path+"/"+key, v)
			}
		case []any:
			for i, v := range value {
				walk(fmt.Sprintf("%s/%d", path, i), v)
			}
		case nil:
		case string:
			if d, err := time.ParseDuration(value); err == nil && value != "0" {
				flat[path] = d
			} else if value != "" {
				flat[path] = value
			}
		default:
			flat[path] = value
		}
	}
	walk("", value)
	return flat
}

// framesText is the text in the frames of a log.
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
