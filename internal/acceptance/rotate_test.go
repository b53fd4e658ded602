package acceptance_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/nomadtest"
)

// syncBuffer is a buffer that a logger and a test can share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// warnings returns a logger of warnings and the buffer that it writes to.
func warnings() (*slog.Logger, *syncBuffer) {
	b := new(syncBuffer)
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelWarn})), b
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.ACLs()))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	path, write := tokenFile(t, nomadtest.AgentReadToken+"\n")
	logger, warned := warnings()
	client := testkit.NewClient(t, nomad.WithAddress(agent.URL()), nomad.WithTokenFile(path), nomad.WithLogger(logger))
	// sent makes a call and returns the tokens of its requests.
	sent := func() (tokens []string, err error) {
		agent.ForgetRequests()
		_, err = client.Agent.Self(t.Context())
		for _, request := range agent.Requests() {
			tokens = append(tokens, request.Token.Reveal())
		}
		if err != nil {
			for _, token := range append(tokens, nomadtest.AgentReadToken) {
				assert.NotContains(t, err.Error(), token)
			}
		}
		return tokens, err
	}
	only := func(token string) {
		t.Helper()
		tokens, err := sent()
		assert.NoError(t, err)
		assert.Equal(t, []string{token}, tokens)
	}
	soon := func(token string) {
		t.Helper()
		assert.Eventually(t, func() bool {
			tokens, err := sent()
			assert.NoError(t, err)
			return tokens[len(tokens)-1] == token
		}, 10*time.Second, 20*time.Millisecond)
		only(token)
	}

	only(nomadtest.AgentReadToken)

	// A new token is used without a refused request.
	write(nomadtest.AgentWriteToken)
	soon(nomadtest.AgentWriteToken)
	assert.Empty(t, warned.String())

	// Invalid content does not replace the old token.
	for _, content := range []string{"", "  \n", "two\nlines", "two words", "nul\x00", strings.Repeat("a", 1<<17)} {
		write(content)
		time.Sleep(1100 * time.Millisecond)
		only(nomadtest.AgentWriteToken)
	}
	require.NoError(t, os.Remove(path))
	time.Sleep(1100 * time.Millisecond)
	only(nomadtest.AgentWriteToken)
	only(nomadtest.AgentWriteToken)
	assert.Equal(t, 6, strings.Count(warned.String(), "the token file cannot be used"), warned.String()) // the two empty files have the same message
	assert.NotContains(t, warned.String(), "two")

	// A half-written token is refused. The file is read once more, and the old token is not used again.
	half := nomadtest.AgentReadToken[:20]
	write(half)
	assert.Eventually(t, func() bool { _, err := sent(); return err != nil }, 10*time.Second, 20*time.Millisecond)
	refused, err := sent()
	assert.ErrorIs(t, err, nomad.ErrInvalidToken)
	assert.Equal(t, []string{half}, refused)
	write(nomadtest.AgentReadToken)
	refused, err = sent()
	assert.NoError(t, err)
	assert.Equal(t, []string{half, nomadtest.AgentReadToken}, refused)
	only(nomadtest.AgentReadToken)

	// No call fails if the token was replaced just before it was refused.
	write(nomadtest.UnknownToken)
	assert.Eventually(t, func() bool { _, err := sent(); return err != nil }, 10*time.Second, 20*time.Millisecond)
	_, err = sent()
	assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
	write(nomadtest.AgentWriteToken)
	tokens, err := sent()
	assert.NoError(t, err)
	assert.Equal(t, []string{nomadtest.UnknownToken, nomadtest.AgentWriteToken}, tokens)

	// The client does not return to the old token when the new one has fewer permissions.
	write(nomadtest.NodeReadToken)
	assert.Eventually(t, func() bool { _, err := sent(); return err != nil }, 10*time.Second, 20*time.Millisecond)
	tokens, err = sent()
	assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
	assert.Equal(t, []string{nomadtest.NodeReadToken}, tokens)

	// The error reports if the token file is the reason.
	require.NoError(t, os.Remove(path))
	_, err = sent()
	assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
	assert.ErrorContains(t, err, "the token file cannot be used: open "+path)

	// A derived Client follows the file too, unless it has its own token.
	own, err := client.With(nomad.WithToken(nomadtest.AgentWriteToken))
	require.NoError(t, err)
	_, err = own.Agent.Self(t.Context())
	assert.NoError(t, err)
	write(nomadtest.AgentReadToken)
	same, err := client.With(nomad.WithRegion("global"))
	require.NoError(t, err)
	_, err = same.Agent.Self(t.Context())
	assert.NoError(t, err)
	logs, err := same.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	if assert.NoError(t, err) {
		logs.Close()
	}
}

// tokenFile makes a file with a token, and a function that replaces its content.
func tokenFile(t *testing.T, token string) (path string, write func(content string)) {
	path = filepath.Join(t.TempDir(), "token")
	write = func(content string) { assert.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	write(token)
	return path, write
}

// TestTokenFileThatChangesAgain replaces the token twice while a request is retried.
func TestTokenFileThatChangesAgain(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.ACLs()))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	path, write := tokenFile(t, "11111111-1111-1111-1111-111111111111")
	client := testkit.NewClient(t, nomad.WithAddress(agent.URL()), nomad.WithTokenFile(path))
	attempts := 0
	agent.Inject(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		switch attempts++; attempts {
		case 1: // the first token is refused, and the second one is in the file
			write("22222222-2222-2222-2222-222222222222")
		case 2: // the second token has become invalid when the request is retried
			write(nomadtest.AgentReadToken)
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		next(w, r)
	})
	_, err := client.Agent.Self(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, 4, attempts)
}

// TestTokenFileThatChangesWithEachRequest checks that a request is sent twice more at most, and never with a token that
// was refused.
func TestTokenFileThatChangesWithEachRequest(t *testing.T) {
	for name, test := range map[string]struct{ tokens, want int }{"two tokens": {2, 2}, "always another token": {1000, 3}} {
		t.Run(name, func(t *testing.T) {
			path, write := tokenFile(t, "token-0")
			var sent []string
			client := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent = append(sent, r.Header.Get("X-Nomad-Token"))
				write(fmt.Sprintf("token-%d", len(sent)%test.tokens))
				http.Error(w, "Permission denied", http.StatusForbidden)
			}), nomad.WithTokenFile(path))
			_, err := client.Agent.Members(t.Context())
			assert.ErrorIs(t, err, nomad.ErrPermissionDenied)
			assert.NotContains(t, err.Error(), "file")
			assert.Equal(t, []string{"token-0", "token-1", "token-2"}[:test.want], sent)
		})
	}
}

// TestTokenFileWithReader checks that a body that can be read once is not sent a second time, without its content.
func TestTokenFileWithReader(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.ACLs()))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	path, write := tokenFile(t, "11111111-1111-1111-1111-111111111111")
	client := testkit.NewClient(t, nomad.WithAddress(agent.URL()), nomad.WithTokenFile(path))
	write(nomadtest.ManagementToken)
	put := func() error {
		body := strings.NewReader(`{"server_id":"","num_schedulers":1,"enabled_schedulers":["_core"]}`)
		_, err := client.Do(t.Context(), &nomad.Request{Method: "PUT", Path: "/v1/agent/schedulers/config", Body: body}, nil)
		return err
	}
	assert.ErrorIs(t, put(), nomad.ErrPermissionDenied)
	assert.Len(t, agent.Requests(), 1)
	assert.Eventually(t, func() bool { return put() == nil }, 10*time.Second, 100*time.Millisecond)
}

// TestTokenFileWhenTheContextEnds ends the context with the response that refuses the old token.
func TestTokenFileWhenTheContextEnds(t *testing.T) {
	path, write := tokenFile(t, "11111111-1111-1111-1111-111111111111")
	var ctx context.Context
	var cancel context.CancelFunc
	client := testkit.NewClient(t, nomad.WithTokenFile(path), nomad.WithTransport(func(http.RoundTripper) http.RoundTripper {
		return testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if err := req.Context().Err(); err != nil {
				return nil, err
			}
			cancel()
			return &http.Response{StatusCode: 403, Body: io.NopCloser(strings.NewReader("Permission denied")), Request: req}, nil
		})
	}))
	for n := range 50 {
		write(fmt.Sprintf("22222222-2222-2222-2222-%012d", n))
		ctx, cancel = context.WithCancel(t.Context())
		_, err := client.Agent.Members(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, nomad.ErrPermissionDenied)
		cancel()
	}
}

func TestTokenFileOptions(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "nomad: WithTokenFile: open ",
		dir:                        "is not a file that can be read again",
		empty:                      "is empty: want an ACL token",
		"":                         "nomad: WithTokenFile: open : no such file or directory",
	} {
		_, err := nomad.NewClient(nomad.WithTokenFile(path))
		assert.ErrorIs(t, err, nomad.ErrInvalidArgument)
		assert.ErrorContains(t, err, want)
	}
}

// TestTLSFilesDuringHandshakes replaces the authority and all certificates while new connections are made. In a handshake
// one side can have the new certificates before the other.
func TestTLSFilesDuringHandshakes(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MutualTLS()))
	defer cluster.Close()
	client := testkit.NewClient(t, nomad.WithAddress(cluster.Agents()[0].URL()), nomad.WithTLS(cluster.TLSFiles()),
		nomad.WithRetries(10)) // on a busy machine the next rotation can come during a retry
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				client.HTTPClient().CloseIdleConnections()
				_, err := client.Agent.Members(t.Context())
				assert.NoError(t, err)
			}
		})
	}
	for range 5 {
		cluster.RotateTLS()
		time.Sleep(700 * time.Millisecond)
	}
	stop()
	group.Wait()
}

// TestTLSFiles replaces the authority and all certificates while a client uses them.
func TestTLSFiles(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MutualTLS()))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	files := cluster.TLSFiles()
	logger, warned := warnings()
	client := testkit.NewClient(t, nomad.WithAddress(agent.URL()), nomad.WithTLS(files), nomad.WithLogger(logger))
	call := func() {
		t.Helper()
		client.HTTPClient().CloseIdleConnections() // so that the next call opens a connection
		_, err := client.Agent.Members(t.Context())
		assert.NoError(t, err)
	}
	call()
	for range 5 {
		cluster.RotateTLS()
		for range 10 {
			time.Sleep(10 * time.Millisecond)
			call()
		}
	}
	assert.Empty(t, warned.String())

	// A half-written file does not replace the previous content.
	for _, path := range []string{files.CAFile, files.CertFile, files.KeyFile} {
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, part := range [][]byte{nil, whole[:len(whole)/2], []byte("what is this?")} {
			require.NoError(t, os.WriteFile(path, part, 0o600))
			time.Sleep(50 * time.Millisecond)
			call()
			call()
		}
		require.NoError(t, os.Remove(path))
		time.Sleep(50 * time.Millisecond)
		call()
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		time.Sleep(50 * time.Millisecond)
		call()
	}
	assert.Contains(t, warned.String(), "a TLS file cannot be used")
	assert.NotContains(t, warned.String(), "what is this?")

	// When the authority has been replaced, an agent with a certificate of the old one is refused.
	other := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.TLS()))
	defer other.Close()
	foreign, err := os.ReadFile(other.TLSFiles().CAFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files.CAFile, foreign, 0o600))
	assert.Eventually(t, func() bool {
		time.Sleep(50 * time.Millisecond)
		client.HTTPClient().CloseIdleConnections()
		_, err := client.Agent.Members(t.Context())
		return err != nil && strings.Contains(err.Error(), "certificate signed by unknown authority")
	}, 10*time.Second, time.Millisecond)
}

// TestAgentThatComesBack stops the agent and starts it again at the same address.
func TestAgentThatComesBack(t *testing.T) {
	t.Parallel()
	cluster := nomadtest.NewCluster(nomadtest.Servers(1))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	client := cluster.Client(agent.Name())
	defer client.Close()
	for range 20 {
		_, err := client.Agent.Members(t.Context())
		require.NoError(t, err)
		agent.Stop()
		back := make(chan struct{})
		go func() {
			time.Sleep(20 * time.Millisecond)
			agent.Start()
			close(back)
		}()
		// The connections are closed, and for a moment nothing listens.
		_, err = client.Agent.Members(t.Context())
		require.NoError(t, err)
		<-back
	}
	agent.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := client.Agent.Members(ctx)
	assert.ErrorContains(t, err, "connection refused")
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	agent.Start()
	require.NoError(t, testkit.Call(ctx, client, http.MethodGet, "/v1/agent/members", nil, nil, nil))
}
