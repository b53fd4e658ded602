package nomad_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentstats"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/internal/wire"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16") // most tests wait; the flag -parallel overrides it
	goleak.VerifyTestMain(m)
}

// Shared with the tests of other packages.
const agentsRefusal = testkit.Refusal

var (
	responding  = testkit.Responding
	call        = testkit.Call
	clientOf    = testkit.NewClient
	connectBoth = testkit.ConnectBoth
	frame       = testkit.Frame
	leaves      = testkit.Leaves
	meaning     = testkit.Meaning
	newClient   = testkit.Serve
	newPKI      = testkit.NewPKI
	playing     = testkit.WithResponse
	rawAgent    = testkit.RawAgent
)

type (
	counter      = testkit.Counter
	roundTripper = testkit.RoundTripper
)

// recordings returns the stored recordings.
func recordings(t testing.TB) []wire.Recording {
	t.Helper()
	all, err := wire.Stored()
	require.NoError(t, err)
	return all
}

// TestCoreCalls checks the request that each of the seven core calls sends, and the value that it
// returns for a response.
func TestCoreCalls(t *testing.T) {
	member := nomad.Member{
		Name: "a.global", Addr: netip.MustParseAddr("10.0.0.1"), Port: 4648, Status: nomad.StatusAlive,
		Tags: map[string]string{
			"region": "global", "dc": "dc1", "build": "2.0.5", "id": "i", "rpc_addr": "10.0.0.1", "port": "4647",
		},
	}
	const memberJSON = `{"Name":"a.global","Addr":"10.0.0.1","Port":4648,"Status":"alive",` +
		`"Tags":{"region":"global","dc":"dc1","build":"2.0.5","id":"i","rpc_addr":"10.0.0.1","port":"4647"}}`
	ok := nomad.RoleHealth{OK: true, Message: "ok"}
	for _, row := range []struct {
		name, request, response string
		call                    func(context.Context, *nomad.Agent) (any, error)
		want                    any
	}{
		{
			"Members", "GET /v1/agent/members",
			`{"ServerName":"a","ServerRegion":"global","ServerDC":"dc1","Members":[` + memberJSON + `]}`,
			func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Members(ctx) },
			&nomad.Members{ServerName: "a", ServerRegion: "global", ServerDC: "dc1", Members: []nomad.Member{member}},
		},
		{
			"Servers", "GET /v1/agent/servers", `["10.0.0.1:4647","10.0.0.1:4647"]`,
			func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Servers(ctx) },
			[]string{"10.0.0.1:4647", "10.0.0.1:4647"},
		},
		{
			"Self", "GET /v1/agent/self",
			`{"config":{"Region":"global"},"member":` + memberJSON + `,"stats":{"nomad":{"leader":"true"}}}`,
			func(ctx context.Context, a *nomad.Agent) (any, error) {
				self, err := a.Self(ctx)
				if err != nil {
					return nil, err
				}
				return []any{self.Config.Region, self.Member, self.Stats}, nil
			},
			[]any{"global", member, agentstats.Stats{"nomad": {"leader": "true"}}},
		},
		{
			"UpdateServers", "PUT /v1/agent/servers?address=10.0.0.1%3A4647&address=b", ``,
			func(ctx context.Context, a *nomad.Agent) (any, error) {
				return nil, a.UpdateServers(ctx, "10.0.0.1:4647", "b")
			},
			nil,
		},
		{
			"Join", "PUT /v1/agent/join?address=10.0.0.1%3A4648&address=b",
			`{"error":"","num_joined":1,"warning":"careful"}`,
			func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Join(ctx, "10.0.0.1:4648", "b") },
			&nomad.JoinResult{Joined: 1, Warning: "careful"},
		},
		{
			"ForceLeave", "PUT /v1/agent/force-leave?node=a.global", ``,
			func(ctx context.Context, a *nomad.Agent) (any, error) { return nil, a.ForceLeave(ctx, "a.global") },
			nil,
		},
		{
			"ForceLeave with Prune", "PUT /v1/agent/force-leave?node=a.global&prune=true", ``,
			func(ctx context.Context, a *nomad.Agent) (any, error) {
				return nil, a.ForceLeave(ctx, "a.global", nomad.Prune())
			},
			nil,
		},
		{
			"Health", "GET /v1/agent/health", `{"server":{"ok":true,"message":"ok"}}`,
			func(ctx context.Context, a *nomad.Agent) (any, error) { return a.Health(ctx) },
			&nomad.Health{Server: &ok},
		},
		{
			"Health of two roles", "GET /v1/agent/health?type=client&type=server",
			`{"server":{"ok":true,"message":"ok"},"client":{"ok":true,"message":"ok"}}`,
			func(ctx context.Context, a *nomad.Agent) (any, error) {
				return a.Health(ctx, nomad.RoleClient, nomad.RoleServer)
			},
			&nomad.Health{Server: &ok, Client: &ok},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, row.request, r.Method+" "+r.RequestURI)
				body, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Empty(t, body)
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, row.response)
			}))
			got, err := row.call(t.Context(), client.Agent)
			require.NoError(t, err)
			assert.Equal(t, row.want, got)
		})
	}
}

// TestHealthHasOneMeaning checks that the messages of an unhealthy agent add no other meaning than that there is no leader.
func TestHealthHasOneMeaning(t *testing.T) {
	message := ""
	client := newClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"server":{"ok":false,"message":"`+message+`"}}`)
	}), nomad.WithRetries(0))
	for text, noLeader := range map[string]bool{"No cluster leader": true, "No path to region": false, "rpc error: Permission denied": false} {
		message = text
		_, err := client.Agent.Health(t.Context())
		assert.ErrorIs(t, err, nomad.ErrUnhealthy)
		assert.Equal(t, noLeader, errors.Is(err, nomad.ErrNoLeader))
		assert.NotErrorIs(t, err, nomad.ErrNotFound)
		assert.NotErrorIs(t, err, nomad.ErrPermissionDenied)
	}
}

func TestSerfAddr(t *testing.T) {
	assert.Equal(t, "[fd00::1]:4648", nomad.Member{Addr: netip.MustParseAddr("fd00::1"), Port: 4648}.SerfAddr().String())
	assert.False(t, nomad.Member{Port: 4648}.SerfAddr().IsValid())
}

// TestZeroValues prints services that have no Client.
func TestZeroValues(t *testing.T) {
	assert.Equal(t, "nomad.Agent() nomad.Status()", fmt.Sprint(nomad.Agent{}, nomad.Status{}))
}
