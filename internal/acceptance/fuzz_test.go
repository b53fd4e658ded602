package acceptance_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/internal/wire"
)

// FuzzAddress passes arbitrary addresses to NewClient. It must return a client or an error, and the error
// must not contain a password.
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
		assert.NotContains(t, host, "@", "the host contains a user or password")
		client.Close()
		// The address that the client reports leads to the same client.
		again, err := nomad.NewClient(nomad.WithAddress(strings.TrimSuffix(strings.TrimPrefix(client.String(), "nomad.Client("), ")")))
		require.NoError(t, err)
		assert.Equal(t, client.String(), again.String())
	})
}

// FuzzEnvironment passes arbitrary variables to FromEnvironment.
func FuzzEnvironment(f *testing.F) {
	f.Add("http://127.0.0.1:4646", "t", "eu", "ops:hunter2", "true", "/a")
	f.Add("", "\x00", "a b", ":hunter2", "yes", "unix:///a")
	f.Fuzz(func(t *testing.T, addr, token, region, auth, skip, socket string) {
		for _, variable := range os.Environ() {
			if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "NOMAD_") {
				t.Setenv(name, "")
			}
		}
		for name, value := range map[string]string{"NOMAD_ADDR": addr, "NOMAD_TOKEN": token, "NOMAD_REGION": region,
			"NOMAD_HTTP_AUTH": auth, "NOMAD_SKIP_VERIFY": skip, "NOMAD_UNIX_ADDR": socket} {
			if strings.ContainsRune(value, 0) {
				return // variables cannot contain it
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

// FuzzLog reads arbitrary bytes as a log stream. Read, Lines and Entries must agree on its content.
func FuzzLog(f *testing.F) {
	for _, seed := range []string{"", "{}", "{}{}", testkit.Frame("a\nb"), testkit.Frame("a") + "{}" + testkit.Frame("\n"), `{"Data":"*"}`, "[1]", `{"Data":"YQ`,
		testkit.Frame(`{"@level":"warn","@message":"m","@timestamp":"2026-11-23T18:43:00Z","a":1}` + "\n"),
		testkit.Frame("2026-11-23T18:43:00.000Z [WARN]  nomad.rpc: a message: key=value other=\"two words\"\n"), testkit.Frame("a\r\n\r\n\xff"), testkit.Frame("a\r")} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, wire string, asJSON bool) {
		client, err := nomad.NewClient(testkit.WithResponse(200, wire), nomad.WithRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		open := func() *nomad.LogStream {
			stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{JSON: asJSON})
			if err != nil && !isBrokenLog(err) {
				t.Fatal(err)
			}
			return stream
		}
		stream := open()
		if stream == nil {
			return
		}
		text, readErr := io.ReadAll(stream)
		stream.Close()
		var lines strings.Builder
		var lineErr error
		for line, err := range open().Lines() {
			if lineErr = inGoodOrder(err); err != nil {
				break
			}
			if strings.Contains(line, "\n") {
				t.Fatalf("a line contains a line break: %q", line)
			}
			lines.WriteString(line + "\n")
		}
		if readErr = inGoodOrder(readErr); (readErr == nil) != (lineErr == nil) {
			t.Fatalf("read: %v, lines: %v", readErr, lineErr)
		}
		if want := strings.ReplaceAll(string(text), "\r\n", "\n"); lineErr == nil && strings.TrimSuffix(want, "\n") != strings.TrimSuffix(lines.String(), "\n") {
			t.Fatalf("read %q, lines %q", want, lines.String())
		}
		for entry, err := range open().Entries() {
			if err != nil && (!isBrokenLog(err) || len(err.Error()) > 4096) {
				t.Fatal(err)
			}
			_ = entry.String()
		}
	})
}

// isBrokenLog reports whether a log can end with this error.
func isBrokenLog(err error) bool {
	return errors.Is(err, nomad.ErrInvalidResponse) || errors.Is(err, nomad.ErrStreamEnded)
}

// inGoodOrder returns nil if the error reports that the agent ended the log properly.
func inGoodOrder(err error) error {
	if errors.Is(err, nomad.ErrStreamEnded) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*nomad.APIError)) {
		return nil
	}
	return err
}

// FuzzAnswer responds to a call with an arbitrary status, type, encoding and body.
func FuzzAnswer(f *testing.F) {
	calls := slices.Sorted(maps.Keys(completeCalls))
	for _, body := range []string{"", "null", "[]", "{}", `["a:1"]`, `{"Members":[{"Name":"a","Addr":"::1","Tags":{"a":"b"}}]}`,
		`{"config":{"Region":"x"},"member":{"Addr":null},"stats":{"a":{"b":"c"}}}`, `{"num_joined":1,"error":""}`,
		`{"server":{"ok":false,"message":"No cluster leader"}}`, "Permission denied", "RPC Error:: 404,Unknown node",
		"2 errors occurred:\n\t* a\n\t* b\n\n", "\xff", "hunter2-token hunter2-pass", "\x1f\x8b\x08"} {
		for call := range calls {
			f.Add(uint8(call), 200, "application/json", "", body)
		}
		f.Add(uint8(0), 500, "text/plain", "", body)
		f.Add(uint8(1), 429, "application/json; charset=utf-8", "gzip", body)
	}
	recordings, err := wire.Stored()
	require.NoError(f, err)
	for _, recording := range recordings {
		for i, x := range recording.Exchanges {
			if body := x.Content(); len(body) < 4096 {
				f.Add(uint8(i), x.Status, x.Header["Content-Type"], "", string(body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, call uint8, status int, contentType, encoding, body string) {
		if status < 200 || status > 599 {
			return
		}
		client, err := nomad.NewClient(nomad.WithRetries(0), nomad.WithToken("hunter2-token"), nomad.WithBasicAuth("ops", "hunter2-pass"),
			testkit.WithResponses(func(*http.Request) (int, http.Header, string) {
				return status, http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}}, body
			}))
		if err != nil {
			t.Fatal(err)
		}
		name := calls[int(call)%len(calls)]
		err = completeCalls[name](t.Context(), client)
		if err == nil {
			if status > 299 {
				t.Fatalf("%s: status %d is no error", name, status)
			}
			return
		}
		text := err.Error()
		var failure *nomad.APIError
		switch {
		case !utf8.ValidString(text), len(text) > 4096, strings.ContainsAny(text, "\n\r\x00"):
			t.Fatalf("%s: %q", name, text)
		case strings.Contains(text, "hunter2-token"), strings.Contains(text, "hunter2-pass"):
			t.Fatalf("%s shows a secret: %q", name, text)
		case errors.As(err, &failure):
			if len(failure.Message) > 1024+len(" …") {
				t.Fatalf("%s: a message of %d bytes", name, len(failure.Message))
			}
		case !isBrokenLog(err) && !errors.Is(err, nomad.ErrRedirect) && !errors.Is(err, nomad.ErrResponseTooLarge):
			t.Fatalf("%s: %v", name, err)
		}
	})
}

// completeCalls make a call and read streams to the end. They panic if there is neither a result nor an
// error.
var completeCalls = map[string]func(context.Context, *nomad.Client) error{
	"Members": func(ctx context.Context, c *nomad.Client) error {
		members, err := c.Agent.Members(ctx)
		if err == nil {
			for _, m := range members.Members {
				if _, _, order := m.RPCAddr(), m.String(), nomad.CompareMembers(m, m); order != 0 || m.Name == "" {
					panic("a member has no name or is not equal to itself")
				}
			}
		}
		return err
	},
	"Servers": func(ctx context.Context, c *nomad.Client) error {
		servers, err := c.Agent.Servers(ctx)
		return some(servers == nil, err)
	},
	"Self": func(ctx context.Context, c *nomad.Client) error {
		self, err := c.Agent.Self(ctx)
		if err == nil {
			if _, err := json.Marshal(self); err != nil {
				panic(err)
			}
		}
		return some(self == nil, err)
	},
	"Health": func(ctx context.Context, c *nomad.Client) error {
		health, err := c.Agent.Health(ctx)
		return some(health == nil && (err == nil || errors.Is(err, nomad.ErrUnhealthy) && !errors.As(err, new(*nomad.APIError))), err)
	},
	"Host": func(ctx context.Context, c *nomad.Client) error {
		host, err := c.Agent.Host(ctx, nomad.Target{})
		return some(host == nil, err)
	},
	"Join": func(ctx context.Context, c *nomad.Client) error {
		joined, err := c.Agent.Join(ctx, "a:1")
		return some(joined == nil && err == nil, err)
	},
	"UpdateServers": func(ctx context.Context, c *nomad.Client) error { return c.Agent.UpdateServers(ctx, "a:1") },
	"ForceLeave":    func(ctx context.Context, c *nomad.Client) error { return c.Agent.ForceLeave(ctx, "a") },
	"Reload":        func(ctx context.Context, c *nomad.Client) error { return c.Agent.Reload(ctx) },
	"Schedulers": func(ctx context.Context, c *nomad.Client) error {
		schedulers, err := c.Agent.Schedulers(ctx)
		return some(schedulers == nil, err)
	},
	"SchedulerConfig": func(ctx context.Context, c *nomad.Client) error {
		config, err := c.Agent.SchedulerConfig(ctx)
		return some(config == nil, err)
	},
	"ListKeys": func(ctx context.Context, c *nomad.Client) error {
		ring, err := c.Agent.ListKeys(ctx)
		return some(ring == nil, err)
	},
	"Status.Leader": func(ctx context.Context, c *nomad.Client) error {
		leader, err := c.Status.Leader(ctx)
		return some(leader == "", err)
	},
	"Status.Peers": func(ctx context.Context, c *nomad.Client) error {
		peers, err := c.Status.Peers(ctx)
		return some(peers == nil, err)
	},
	"Call": func(ctx context.Context, c *nomad.Client) error {
		var out any
		return testkit.Call(ctx, c, http.MethodGet, "/v1/x", nil, nil, &out)
	},
	"Monitor": func(ctx context.Context, c *nomad.Client) error {
		logs, err := c.Agent.Monitor(ctx, nomad.MonitorOptions{JSON: true})
		if err != nil {
			return err
		}
		entries := 0
		for _, err := range logs.Entries() {
			if err != nil && (entries > 0 || inGoodOrder(err) != nil) {
				return inGoodOrder(err)
			}
			entries++
		}
		return nil
	},
	"MonitorExport": func(ctx context.Context, c *nomad.Client) error {
		export, err := c.Agent.MonitorExport(ctx, nomad.MonitorExportOptions{OnDisk: true})
		return drained(export, err)
	},
	"Profile": func(ctx context.Context, c *nomad.Client) error {
		profile, err := c.Agent.Profile(ctx, nomad.ProfileOptions{Type: "heap"})
		return drained(profile, err)
	},
}

// some panics if there is neither a result nor an error.
func some(missing bool, err error) error {
	if missing && err == nil {
		panic("no result and no error")
	}
	return err
}

func drained(r io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// FuzzRaw responds to a call with arbitrary bytes.
func FuzzRaw(f *testing.F) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, seed := range []string{"", ok, ok + "Content-Length: 2\r\n\r\n[]", ok + "Content-Length: 9\r\n\r\n[]", ok + "\r\n[\"a\"]",
		ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
		"HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\n[]", "HTTP/1.1 307 X\r\nLocation: /v1/x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n\r\nno", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	log.SetOutput(io.Discard) // net/http logs unsolicited responses
	f.Fuzz(func(t *testing.T, wire []byte) {
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				there.SetDeadline(time.Now().Add(10 * time.Second))
				if n, err := there.Read(make([]byte, 4096)); n > 0 && err == nil {
					there.Write(wire)
				}
			}()
			return here, nil
		}, MaxResponseHeaderBytes: 1 << 20}
		defer transport.CloseIdleConnections()
		client, err := nomad.NewClient(nomad.WithRetries(0), nomad.WithTimeout(20*time.Second), nomad.WithToken("hunter2-token"),
			nomad.WithHTTPClient(&http.Client{Transport: transport}))
		if err != nil {
			t.Fatal(err)
		}
		servers, err := client.Agent.Servers(t.Context())
		switch {
		case err == nil && servers == nil:
			t.Fatal("no result and no error")
		case err != nil && (!utf8.ValidString(err.Error()) || len(err.Error()) > 4096 || strings.ContainsAny(err.Error(), "\n\r\x00")):
			t.Fatalf("%q", err)
		case err != nil && strings.Contains(err.Error(), "hunter2-token"):
			t.Fatal(err)
		case errors.Is(err, context.DeadlineExceeded):
			t.Fatal("the connection has ended, but the call has not")
		}
	})
}

// FuzzRedirect responds with arbitrary redirects. No request, and so no token, may go to another host or
// be sent without TLS.
func FuzzRedirect(f *testing.F) {
	for _, location := range []string{"/v1/x", "//evil.example/", "http://agent.example:4646/v1/x", "https://agent.example:4646/", "https://agent.example/",
		"https://agent.example:4646@evil.example/", "https://AGENT.example:4646/", "https://agent.example.:4646/", "\\\\evil.example", "https:evil.example", "?x", ""} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			f.Add(status, location, true)
			f.Add(status, location, false)
		}
	}
	f.Fuzz(func(t *testing.T, status int, location string, put bool) {
		if status < 300 || status > 399 {
			return
		}
		requests := 0
		client, err := nomad.NewClient(nomad.WithAddress("https://agent.example:4646"), nomad.WithToken("hunter2"), nomad.WithRetries(0),
			testkit.WithResponses(func(r *http.Request) (int, http.Header, string) {
				requests++
				if r.URL.Scheme != "https" || r.URL.Host != "agent.example:4646" && !strings.EqualFold(r.URL.Host, "agent.example:4646") {
					t.Fatalf("the request went to %s", r.URL)
				}
				if want := map[bool]string{true: http.MethodPut, false: http.MethodGet}[put]; r.Method != want {
					t.Fatalf("the method became %s", r.Method)
				}
				return status, http.Header{"Location": {location}}, ""
			}))
		if err != nil {
			t.Fatal(err)
		}
		if put {
			err = client.Agent.Reload(t.Context())
		} else {
			_, err = client.Agent.Servers(t.Context())
		}
		if err == nil || requests > 6 || strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 4096 {
			t.Fatalf("%d requests, %v", requests, err)
		}
	})
}

// FuzzDoPath passes arbitrary paths to Do. The request must go to that path on that agent.
func FuzzDoPath(f *testing.F) {
	for _, path := range []string{"/v1/jobs", "/v1/job/web%2Ffront", "/v1/../x", "//evil.example/", "http://evil.example/", "/v1/x?y#z", "", "/%", "/v1/ü", "/v1/a b", "/v1/\n"} {
		f.Add("GET", path)
	}
	f.Add("get\n", "/v1/jobs")
	f.Fuzz(func(t *testing.T, method, path string) {
		sent := false
		client, err := nomad.NewClient(nomad.WithAddress("http://agent.example:4646/prefix"), nomad.WithRetries(0), testkit.WithResponses(func(r *http.Request) (int, http.Header, string) {
			sent = true
			if r.URL.Host != "agent.example:4646" || !strings.HasPrefix(r.URL.EscapedPath(), "/prefix/") || r.URL.RawQuery != "" {
				t.Fatalf("%q went to %s", path, r.URL)
			}
			return 200, http.Header{}, ""
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := testkit.Call(t.Context(), client, method, path, nil, nil, nil); err != nil && sent != !errors.Is(err, nomad.ErrInvalidArgument) {
			t.Fatalf("sent: %v, %v", sent, err)
		}
	})
}

// FuzzToken passes arbitrary bytes as a token and as the content of a token file.
func FuzzToken(f *testing.F) {
	for _, text := range []string{"", "a", "6d616e61-6765-6d65-6e74-20746f6b656e\n", "\n", "a b", "a\nb", "\x00", "ey.a.b", "\ufeffa", strings.Repeat("a", 70_000)} {
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "token")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, option := range []nomad.Option{nomad.WithToken(text), nomad.WithTokenFile(path)} {
			var got string
			client, err := nomad.NewClient(option, nomad.WithRetries(0), testkit.WithResponses(func(r *http.Request) (int, http.Header, string) {
				got = r.Header.Get("X-Nomad-Token")
				return 403, http.Header{}, "no: " + got
			}))
			if err != nil {
				if !errors.Is(err, nomad.ErrInvalidArgument) || len(text) > 8 && strings.Contains(err.Error(), text) {
					t.Fatal(err)
				}
				continue
			}
			_, err = client.Agent.Servers(t.Context())
			want := strings.TrimSpace(text)
			if i == 1 {
				want = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
			}
			if got != want || !errors.Is(err, nomad.ErrPermissionDenied) || len(got) > 12 && strings.Contains(err.Error(), got) {
				t.Fatalf("%q was sent for %q: %v", got, text, err)
			}
		}
	})
}

// FuzzPEM passes arbitrary certificates and keys to WithTLS.
func FuzzPEM(f *testing.F) {
	pki := testkit.NewPKI(f)
	f.Add(pki.CAPEM, pki.CertPEM, pki.KeyPEM)
	f.Add(pki.CertPEM, pki.KeyPEM, pki.CertPEM)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, ca, cert, key []byte) {
		client, err := nomad.NewClient(nomad.WithAddress("https://agent.example"), nomad.WithTLS(nomad.TLS{CAPEM: ca, CertPEM: cert, KeyPEM: nomad.NewSecret(string(key))}))
		switch {
		case err == nil:
			client.Close()
		case !errors.Is(err, nomad.ErrInvalidArgument), !strings.HasPrefix(err.Error(), "nomad: WithTLS: "),
			len(key) > 20 && strings.Contains(err.Error(), string(key)):
			t.Fatal(err)
		}
	})
}
