package nomad_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
)

// FuzzAddress gives NewClient whatever a person might write. It must make a client or say what is wrong, and what it
// says must not repeat a password.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:4646", "[::1]:4646", "unix:///a", "a:1", "https://a/b", "http://u:hunter2@a:1", "u:hunter2@a", "", "//", "http://[::1%25x]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		client, err := nomad.NewClient(nomad.WithAddress(address))
		if err != nil {
			assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
			assert.True(t, strings.HasPrefix(err.Error(), "nomad: WithAddress: "), err.Error())
			assert.NotContains(t, err.Error(), "\n")
			if strings.Contains(address, ":hunter2@") && strings.HasPrefix(address, "http") {
				assert.NotContains(t, err.Error(), "hunter2")
			}
			return
		}
		_, beyond, _ := strings.Cut(client.String(), "://")
		host, _, _ := strings.Cut(beyond, "/")
		assert.NotContains(t, host, "@", "a user or password")
		client.Close()
		// What it understood is what it would understand again.
		again, err := nomad.NewClient(nomad.WithAddress(strings.TrimSuffix(strings.TrimPrefix(client.String(), "nomad.Client("), ")")))
		require.NoError(t, err)
		assert.Equal(t, client.String(), again.String())
	})
}

// FuzzEnvironment gives FromEnvironment whatever a shell might hold.
func FuzzEnvironment(f *testing.F) {
	f.Add("http://127.0.0.1:4646", "t", "eu", "ops:hunter2", "true", "/a")
	f.Add("", "\x00", "a b", ":hunter2", "yes", "unix:///a")
	f.Fuzz(func(t *testing.T, addr, token, region, auth, skip, socket string) {
		clearEnvironment(t)
		for name, value := range map[string]string{"NOMAD_ADDR": addr, "NOMAD_TOKEN": token, "NOMAD_REGION": region,
			"NOMAD_HTTP_AUTH": auth, "NOMAD_SKIP_VERIFY": skip, "NOMAD_UNIX_ADDR": socket} {
			if strings.ContainsRune(value, 0) {
				return // no environment holds it
			}
			t.Setenv(name, value)
		}
		client, err := nomad.NewClient(nomad.FromEnvironment())
		if err != nil {
			assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
			assert.Contains(t, err.Error(), "NOMAD_")
			return
		}
		client.Close()
	})
}

// playing answers every request without a network.
func playing(status int, body string) nomad.Option {
	return nomad.WithHTTPClient(&http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{}, Request: r,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	})})
}

// FuzzLog gives a log stream whatever might come over the wire.
func FuzzLog(f *testing.F) {
	for _, seed := range []string{"", "{}", "{}{}", frame("a\nb"), frame("a") + "{}" + frame("\n"), `{"Data":"*"}`, "[1]", `{"Data":"YQ`,
		frame(`{"@level":"warn","@message":"m","@timestamp":"2026-11-23T18:43:00Z","a":1}` + "\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire string) {
		client, err := nomad.NewClient(playing(200, wire), nomad.WithRetries(0))
		require.NoError(t, err)
		stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{JSON: true})
		if err != nil {
			assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
			return
		}
		for entry, err := range stream.Entries() {
			if err != nil {
				assert.ErrorIs(t, err, nomad.ErrInvalidResponse)
				assert.Less(t, len(err.Error()), 4096)
			}
			assert.NotContains(t, entry.Message, "\n\n")
			_ = entry.String()
		}
	})
}

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

// FuzzAnswer gives every call whatever an agent, or what poses as one, might answer.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{"", "null", "[]", "{}", `["a:1"]`, `{"Members":[{"Addr":"::1","Tags":{"a":"b"}}]}`,
		`{"config":{"Region":"x"},"member":{"Addr":null},"stats":{"a":{"b":"c"}}}`, `{"num_joined":1,"error":""}`,
		`{"server":{"ok":false,"message":"No cluster leader"}}`, "Permission denied", "RPC Error:: 404,Unknown node",
		"2 errors occurred:\n\t* a\n\t* b\n\n", "\xff"} {
		f.Add(200, body)
		f.Add(500, body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		client, err := nomad.NewClient(playing(status, body), nomad.WithRetries(0), nomad.WithToken("hunter2"))
		require.NoError(t, err)
		ctx, agent := t.Context(), client.Agent
		check := func(call string, isNil bool, err error) {
			if err == nil {
				assert.False(t, isNil, "%s: no result and no error", call)
				assert.True(t, status < 300, "%s: status %d is no error", call, status)
				return
			}
			assert.True(t, utf8.ValidString(err.Error()), "%s: %q", call, err)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Less(t, len(err.Error()), 4096)
			assert.NotContains(t, err.Error(), "\n")
			var failure *nomad.APIError
			assert.True(t, errors.As(err, &failure) || errors.Is(err, nomad.ErrInvalidResponse) || errors.Is(err, nomad.ErrRedirect) ||
				status >= 300 && status < 400, "%s: %v", call, err)
		}
		members, err := agent.Members(ctx)
		check("Members", members == nil, err)
		if err == nil {
			for _, m := range members.Members {
				_, _, _ = m.RPCAddr(), m.String(), nomad.CompareMembers(m, m)
			}
		}
		servers, err := agent.Servers(ctx)
		check("Servers", servers == nil, err)
		self, err := agent.Self(ctx)
		check("Self", self == nil, err)
		joined, err := agent.Join(ctx, "a:1")
		check("Join", joined == nil, err)
		health, err := agent.Health(ctx)
		check("Health", health == nil, err)
		if errors.Is(err, nomad.ErrUnhealthy) {
			assert.NotNil(t, health)
		}
		check("ForceLeave", false, agent.ForceLeave(ctx, "a"))
		var out any
		check("Call", false, client.Call(ctx, "GET", "/v1/x", nil, nil, &out))
	})
}
