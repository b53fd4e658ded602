package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the program until the test ends, and returns what it prints.
func start(t *testing.T, args ...string) description {
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	ended := make(chan int)
	var stderr bytes.Buffer
	go func() {
		code := run(ctx, args, in, &stderr)
		in.Close()
		ended <- code
	}()
	stop := func() int {
		cancel()
		return <-ended
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		stop()
		t.Fatal(err, stderr.String())
	}
	t.Cleanup(func() {
		assert.Zero(t, stop(), "it was interrupted")
		assert.Empty(t, stderr.String())
	})
	var d description
	require.NoError(t, json.Unmarshal(line, &d))
	return d
}

// send sends a request to the control address, and returns the status and the document of the response.
func (d description) send(t *testing.T, method, path, body string) (int, any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.Control+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var out any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&out))
	return response.StatusCode, out
}

func (d description) succeeds(t *testing.T, method, path, body string) any {
	t.Helper()
	status, out := d.send(t, method, path, body)
	require.Equal(t, http.StatusOK, status, "%v", out)
	return out
}

func statuses(t *testing.T, client *nomad.Client) map[string]nomad.MemberStatus {
	members, err := client.Agent.Members(t.Context())
	require.NoError(t, err)
	out := map[string]nomad.MemberStatus{}
	for _, m := range members.Members {
		out[m.Name] = m.Status
	}
	return out
}

func TestEnvironmentIsEnoughForAClient(t *testing.T) {
	d := start(t, "-servers", "3", "-clients", "1", "-acl", "-mutual-tls", "-version", "1.6.5", "-region", "eu")
	for name, value := range d.Environment {
		t.Setenv(name, value)
	}
	client, err := nomad.NewClient(nomad.FromEnvironment())
	require.NoError(t, err)
	defer client.Close()
	assert.Len(t, statuses(t, client), 3)
	self, err := client.Agent.Self(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "eu", self.Config.Region)

	require.Len(t, d.Agents, 4)
	assert.Equal(t, "client-1", d.Agents[3].Name)
	assert.NotEmpty(t, d.Agents[3].NodeID)
	assert.Empty(t, d.Agents[3].ServerID)
	assert.NotEmpty(t, d.Agents[0].ServerID)
	assert.Empty(t, d.Agents[0].NodeID)
	assert.Equal(t, nomadtest.NodeReadToken, d.Tokens["node_read"])
	assert.FileExists(t, d.TLS.CAFile)
}

func TestAgentsHaveWhatTheirRoleHas(t *testing.T) {
	d := start(t, "-servers", "1", "-clients", "1", "-both", "1")
	require.Len(t, d.Agents, 3)
	for i, name := range []string{"server-1", "client-1", "both-1"} {
		a := d.Agents[i]
		assert.Equal(t, name, a.Name)
		assert.Equal(t, name == "server-1", a.NodeID == "", name)
		for _, ofServer := range []string{a.ServerID, a.RPC, a.Serf} {
			assert.Equal(t, name == "client-1", ofServer == "", name)
		}
	}
}

func TestControl(t *testing.T) {
	d := start(t, "-servers", "3")
	client, err := nomad.NewClient(nomad.WithAddress(d.Agents[0].URL), nomad.WithRetries(0))
	require.NoError(t, err)
	defer client.Close()

	d.succeeds(t, "PUT", "/agents/server-3/stop", "")
	assert.Equal(t, nomad.StatusFailed, statuses(t, client)["server-3.global"])
	d.succeeds(t, "PUT", "/agents/server-3/start", "")
	assert.Equal(t, nomad.StatusAlive, statuses(t, client)["server-3.global"])
	d.succeeds(t, "PUT", "/agents/server-2/take-lead", "")
	assert.Equal(t, []any{
		map[string]any{"name": "server-1", "running": true, "leader": false},
		map[string]any{"name": "server-2", "running": true, "leader": true},
		map[string]any{"name": "server-3", "running": true, "leader": false},
	}, d.succeeds(t, "GET", "/agents", ""))
	d.succeeds(t, "PUT", "/partition", `{"agents": ["server-1"]}`)
	_, err = client.Agent.Health(t.Context())
	assert.ErrorIs(t, err, nomad.ErrNoLeader)
	d.succeeds(t, "PUT", "/heal", "")
	_, err = client.Agent.Health(t.Context())
	assert.NoError(t, err)
	d.succeeds(t, "PUT", "/agents/server-3/leave", "")
	assert.Equal(t, nomad.StatusLeft, statuses(t, client)["server-3.global"])

	// Faults.
	fault := `{"fault": "status", "status": 403, "body": "Permission denied", "endpoints": ["self"], "times": 5, "for": "1h", "share": 0.5}`
	assert.Equal(t, map[string]any{"id": 1.}, d.succeeds(t, "PUT", "/agents/server-1/faults", fault))
	_, err = client.Agent.Self(t.Context())
	assert.NoError(t, err)
	_, err = client.Agent.Self(t.Context())
	assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
	assert.Equal(t, []any{map[string]any{
		"id": 1., "agent": "server-1", "fault": "status", "status": 403., "body": "Permission denied", "endpoints": []any{"self"},
		"times": 5., "for": "1h0m0s", "share": .5, "hits": 1.,
	}}, d.succeeds(t, "GET", "/faults", ""))
	assert.Equal(t, map[string]any{"hits": 1.}, d.succeeds(t, "DELETE", "/faults/1", ""))
	assert.Empty(t, d.succeeds(t, "GET", "/faults", ""))
	requests, _ := d.succeeds(t, "GET", "/agents/server-1/requests", "").([]any)
	require.NotEmpty(t, requests)
	last, _ := requests[len(requests)-1].(map[string]any)
	assert.Equal(t, "/v1/agent/self", last["path"])
	assert.Equal(t, 403., last["status"])
	assert.Equal(t, true, last["fault"])

	for name := range makers {
		body := `{"fault": "` + name + `", "status": 200, "location": "/", "bytes": 1, "delay": "1ms", "endpoints": ["/nothing"]}`
		d.succeeds(t, "PUT", "/agents/server-1/faults", body)
	}
}

func TestControlSaysWhatThereIs(t *testing.T) {
	d := start(t, "-servers", "3")
	for _, c := range []struct{ method, path, body, want string }{
		{"PUT", "/agents/server-4/stop", "", "server-3"},
		{"PUT", "/agents/server-1/jump", "", "take-lead"},
		{"GET", "/agents/server-4/requests", "", "server-3"},
		{"PUT", "/partition", `{"agents": ["server4"]}`, "server-3"},
		{"PUT", "/partition", `{"agent": ["server-1"]}`, `unknown field "agent"`},
		{"PUT", "/partition", `{}`, "no agents"},
		{"PUT", "/agents/server-1/faults", `{"fault": "fire"}`, "stall-after"},
		{"PUT", "/agents/server-1/faults", `{"fault": "reset", "endpoints": ["member"]}`, "members"},
		{"PUT", "/agents/server-1/faults", `{"fault": "reset", "times": -1}`, "1 or more"},
		{"PUT", "/agents/server-1/faults", `{"fault": "reset", "for": "soon"}`, "duration"},
		{"PUT", "/agents/server-1/faults", `{"fault": "reset", "share": 2}`, "at most 1"},
		{"PUT", "/agents/server-1/faults", `{"fault": "status"}`, "599"},
		{"PUT", "/agents/server-1/faults", `{"fault": "reset"} {}`, "follows"},
		{"PUT", "/agents/server-1/faults", ``, "body"},
		{"PUT", "/agents/server-1/faults", `[]`, "the body is a JSON array: want an object"},
		{"PUT", "/partition", `{"agents": "server-1"}`, "agents cannot be a JSON string"},
		{"PUT", "/agents/server-1/faults", `{"fault": "delay", "delay": 3}`, "delay cannot be a JSON number"},
		{"PUT", "/agents/server-1/faults", `{"fault": "delay"}`, "needs a delay"},
		{"PUT", "/agents/server-1/faults", `{"fault": "delay", "delay": "-1s"}`, "0 or more"},
		{"PUT", "/agents/server-1/faults", `{"fault": "drip", "bytes": -1}`, "1 byte or more"},
		{"PUT", "/agents/server-1/faults", `{"fault": "truncate", "bytes": -1}`, "0 or more"},
		{"PUT", "/agents/server-1/faults", `{"fault": "redirect"}`, "needs a location"},
		{"GET", "/", "", "no request GET /"},
		{"POST", "/agents/server-1/stop", "", "no request POST"},
		{"DELETE", "/faults/7", "", `"7"`},
		{"DELETE", "/faults/x", "", `"x"`},
	} {
		status, out := d.send(t, c.method, c.path, c.body)
		assert.Equal(t, http.StatusBadRequest, status, "%s %s", c.path, c.body)
		object, _ := out.(map[string]any)
		assert.Contains(t, object["error"], c.want, "%s %s", c.path, c.body)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestUsage(t *testing.T) {
	var problem bytes.Buffer
	assert.Equal(t, 2, run(t.Context(), []string{"-h"}, full{}, &problem))
	assert.Contains(t, problem.String(), "no space left")
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"-h", 0, "-servers number", ""},
		{"-help", 0, "exit codes", ""},
		{"server-1", 2, "", `unexpected argument "server-1"`},
		{"-server 3", 2, "", "-server"},
		{"-servers three", 2, "", "three"},
		{"-servers -3", 2, "", "-3"},
		{"-servers 0", 2, "", "no agents"},
		{"-version latest", 2, "", "latest"},
		{"-gossip-key x", 2, "", "base64"},
		{"-control nowhere", 2, "", "nowhere"},
		{"-servers 1999 -clients 2", 2, "", "want at most 2000"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, c.code, run(t.Context(), strings.Fields(c.args), &stdout, &stderr), c.args)
		assert.Contains(t, stdout.String(), c.stdout, c.args)
		assert.Contains(t, stderr.String(), c.stderr, c.args)
		assert.Equal(t, c.code != 0, stderr.Len() > 0, c.args)
		assert.Equal(t, c.code == 0, stdout.Len() > 0, c.args)
	}
}
