package nomadtest_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestTokens sends each kind of token to agents with ACLs and compares the responses with those of real
// agents.
func TestTokens(t *testing.T) {
	table, err := os.ReadFile("testdata/acl-2.0.5.txt")
	require.NoError(t, err)
	cluster := start(t, nomadtest.Servers(1), nomadtest.Clients(1), nomadtest.ACLs())
	server, node := cluster.Agent("server-1"), cluster.Agent("client-1")
	here := strings.NewReplacer("{node}", node.NodeID(), "{server}", server.MemberName(), "{rpc}", server.RPCAddr())
	count := 0
	for row := range strings.Lines(string(table)) {
		if strings.HasPrefix(row, "#") {
			continue
		}
		column := strings.Split(strings.TrimSuffix(row, "\n"), "|")
		role, status, contentType, want := column[0], column[3], column[4], column[5]
		method, path, _ := strings.Cut(here.Replace(column[1]), " ")
		for kind := range strings.SplitSeq(column[2], ",") {
			count++
			agent := map[string]*nomadtest.Agent{"server": server, "client": node}[role]
			ctx, cancel := context.WithCancel(t.Context())
			request, err := http.NewRequestWithContext(ctx, method, agent.URL()+"/v1/agent/"+path, nil)
			require.NoError(t, err)
			request.Header.Set("X-Nomad-Token", tokens[kind])
			response, err := http.DefaultTransport.RoundTrip(request)
			require.NoError(t, err)
			about := strings.Join([]string{role, kind, method, path}, " ")
			assert.Equal(t, status, response.Status[:3], about)
			assert.Equal(t, map[string]string{"text": "text/plain; charset=utf-8", "json": "application/json", "none": ""}[contentType],
				response.Header.Get("Content-Type"), about)
			if want != "*" {
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				assert.Equal(t, here.Replace(want), string(body), about)
			}
			cancel()
			response.Body.Close()
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	t.Logf("%d responses compared", count)
}

// TestTokensOfTheirOwn sends tokens that the option Token adds, in every form that agents accept.
func TestTokensOfTheirOwn(t *testing.T) {
	const mixed, readers = "0f0e0d0c-0b0a-0908-0706-05040302010a", "0f0e0d0c-0b0a-0908-0706-05040302010b"
	cluster := start(t, nomadtest.Servers(1), nomadtest.Clients(1), nomadtest.ACLs(),
		nomadtest.Token(mixed, "agent:write", "node:read"), nomadtest.Token(readers, "node:read"), nomadtest.Token("", "agent:read"))
	send := func(agent, method, path, header, value string) string {
		request, err := http.NewRequestWithContext(t.Context(), method, cluster.URL(agent)+path, nil)
		require.NoError(t, err)
		if header != "" {
			request.Header.Set(header, value)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		if response.StatusCode == http.StatusOK {
			return "200"
		}
		return response.Status[:3] + " " + string(body)
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	const self, members, reload, force = "/v1/agent/self", "/v1/agent/members", "/v1/agent/reload", "/v1/agent/force-leave?node=x"
	const denied, token = "403 Permission denied", "X-Nomad-Token"
	for _, c := range []struct{ agent, method, path, header, value, want string }{
		{"server-1", "GET", self, token, mixed, "200"},
		{"server-1", "GET", members, token, strings.ToUpper(mixed), "200"},
		{"server-1", "PUT", reload, "Authorization", "Bearer " + mixed, "200"},
		{"server-1", "PUT", reload, "Authorization", "bearer  " + mixed + " more", "200"},
		{"server-1", "PUT", reload, "Authorization", "Basic " + mixed, denied},
		{"server-1", "GET", self, token, readers, denied},
		{"server-1", "GET", "/v1/nodes", token, readers, "200"},
		{"server-1", "GET", "/v1/nodes", "", "", denied},
		{"server-1", "GET", self, "", "", "200"}, // the anonymous token has read access
		{"server-1", "PUT", force, "", "", denied},
		{"server-1", "GET", self, token, nomadtest.ExpiredToken, "500 ACL token not found or invalid workload identity: ACL token expired"},
		{"server-1", "PUT", force, token, nomadtest.ExpiredToken, "403 ACL token expired"},
		{"server-1", "GET", members, token, nomadtest.ExpiredToken, denied},
		{"server-1", "GET", "/v1/agent/monitor", token, nomadtest.ExpiredToken, "200"}, // with an empty log
		{"client-1", "GET", self, token, mixed, "200"},
		{"client-1", "GET", self, token, nomadtest.ExpiredToken, "500 failed to resolve ACL token: rpc error: ACL token expired"},
		{"client-1", "GET", "/v1/agent/servers", token, nomadtest.ExpiredToken, "500 rpc error: ACL token expired"},
		{"client-1", "GET", "/v1/agent/monitor", token, nomadtest.ExpiredToken, "403 rpc error: ACL token expired"},
		{"server-1", "GET", "/v1/status/leader", token, nomadtest.ExpiredToken, "200"},
		{"server-1", "GET", "/v1/regions", "", "", "200"},
		{"server-1", "GET", self, token, strings.Repeat("x", 8<<10),
			"500 ACL token not found or invalid workload identity: failed to parse signed token: go-jose/go-jose: compact JWS format must have three parts"},
	} {
		assert.Equal(t, c.want, send(c.agent, c.method, c.path, c.header, c.value), "%s %s %s %.50s", c.agent, c.method, c.path, c.value)
	}
	assert.Panics(t, func() { nomadtest.Token("me", "agent:read") })
	assert.Panics(t, func() { nomadtest.Token(mixed, "agent:all") })
}

// TestTokenMeanings checks the errors that package nomad returns for each kind of token.
func TestTokenMeanings(t *testing.T) {
	cluster := start(t, nomadtest.ACLs())
	for token, want := range map[string]error{
		"": nomad.ErrPermissionDenied, nomadtest.NodeReadToken: nomad.ErrPermissionDenied,
		nomadtest.UnknownToken: nomad.ErrPermissionDenied, nomadtest.MalformedToken: nomad.ErrInvalidToken,
	} {
		_, err := cluster.Client("server-1", nomad.WithToken(token)).Agent.Self(t.Context())
		assert.ErrorIs(t, err, want, token)
	}
	_, err := cluster.Client("server-1").Agent.Self(t.Context())
	assert.NoError(t, err, "the token of the cluster's clients has all permissions")
	_, err = cluster.Client("server-1", nomad.WithToken("")).Agent.Health(t.Context())
	assert.NoError(t, err, "Health needs no token")
}

// TestSocket calls an agent in client mode through its unix socket, as tasks do.
func TestSocket(t *testing.T) {
	for _, acls := range []bool{false, true} {
		options := []nomadtest.Option{nomadtest.Servers(1), nomadtest.Clients(1), nomadtest.Socket()}
		if acls {
			options = append(options, nomadtest.ACLs())
		}
		cluster := start(t, options...)
		assert.Empty(t, cluster.Agent("server-1").SocketPath(), "only agents in client mode have a socket")
		path := cluster.Agent("client-1").SocketPath()
		send := func(token string) error {
			client, err := nomad.NewClient(nomad.WithAddress("unix://"+path), nomad.WithToken(token))
			require.NoError(t, err)
			defer client.Close()
			_, err = client.Agent.Servers(t.Context())
			return err
		}
		assert.NoError(t, send(nomadtest.ManagementToken))
		assert.ErrorIs(t, send(""), nomad.ErrPermissionDenied, "the socket requires a token, with and without ACLs")
		if acls {
			assert.ErrorIs(t, send(nomadtest.UnknownToken), nomad.ErrPermissionDenied)
			assert.Error(t, send(nomadtest.MalformedToken))
		}
		cluster.Close()
		_, err := os.Stat(path)
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
}

// TestTLS calls agents with TLS, with and without the certificates that they require.
func TestTLS(t *testing.T) {
	for name, mutual := range map[string]nomadtest.AgentOption{"tls": nomadtest.TLS(), "mutual": nomadtest.MutualTLS()} {
		cluster := start(t, nomadtest.Servers(2), mutual, nomadtest.ACLs())
		assert.Equal(t, "server-1.global (alive) server-2.global (alive)", view(t, cluster.Client("server-1")), name)
		files := cluster.TLSFiles()
		assert.FileExists(t, files.KeyFile)
		for what, with := range map[string]nomad.TLS{"files": files, "no certificate": {CAFile: files.CAFile}, "nothing": {}} {
			client, err := nomad.NewClient(nomad.WithAddress(cluster.URL("server-1")), nomad.WithTLS(with),
				nomad.WithToken(nomadtest.ManagementToken), nomad.WithRetries(0))
			require.NoError(t, err)
			_, err = client.Agent.Self(t.Context())
			good := what == "files" || what == "no certificate" && name == "tls"
			assert.Equal(t, good, err == nil, "%s: %s: %v", name, what, err)
			client.Close()
		}
		self, err := cluster.Client("server-1").Agent.Self(t.Context())
		require.NoError(t, err)
		assert.True(t, self.Config.TLSConfig.EnableHTTP)
		assert.Equal(t, name == "mutual", self.Config.TLSConfig.VerifyHTTPSClient)
		cluster.Agent("server-1").Stop()
		cluster.Agent("server-1").Start()
		assert.Equal(t, 2, strings.Count(view(t, cluster.Client("server-1")), "alive"), "the second server has the same certificate")
		cluster.Close()
		assert.NoFileExists(t, files.KeyFile)
	}
}

// TestMaxConns opens more connections than an agent accepts from one address.
func TestMaxConns(t *testing.T) {
	cluster := start(t, nomadtest.MaxConns(3))
	address := strings.TrimPrefix(cluster.URL("server-1"), "http://")
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	send := func(conn net.Conn) string {
		io.WriteString(conn, "GET /v1/agent/health HTTP/1.1\r\nHost: x\r\n\r\n")
		response := make([]byte, 200)
		n, err := conn.Read(response)
		if err != nil {
			return "closed"
		}
		return strings.SplitN(string(response[:n]), "\r\n", 2)[0]
	}
	var conns []net.Conn
	for range 3 {
		conns = append(conns, dial())
		assert.Equal(t, "HTTP/1.1 200 OK", send(conns[len(conns)-1]))
	}
	// Responses to refused connections are limited too: a hundred at first, and some more over time.
	counts := map[string]int{}
	for range 400 {
		conn := dial()
		counts[send(conn)]++
		conn.Close()
	}
	assert.GreaterOrEqual(t, counts["HTTP/1.1 429 Too Many Requests"], 50) // some are lost with the connection
	assert.Positive(t, counts["closed"])
	assert.Equal(t, 400, counts["closed"]+counts["HTTP/1.1 429 Too Many Requests"])
	assert.Equal(t, "HTTP/1.1 200 OK", send(conns[0]), "open connections are kept")
	conns[0].Close()
	assert.Eventually(t, func() bool { return send(dial()) == "HTTP/1.1 200 OK" }, 20*time.Second, 10*time.Millisecond, "a closed connection makes room for another")
}
