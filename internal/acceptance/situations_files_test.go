package acceptance_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// writeFile returns the path of a new file.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestSituationsOfPaths passes the content of a file where its name is expected.
func TestSituationsOfPaths(t *testing.T) {
	pki := testkit.NewPKI(t)
	key, cert := string(pki.KeyPEM), string(pki.CertPEM)
	body := strings.NewReplacer("\n", "").Replace(strings.Split(strings.SplitN(key, "-----\n", 2)[1], "-----")[0])
	long, certPath := strings.Repeat("x", 201), writeFile(t, cert)
	withTLS := func(set func(*nomad.TLS, string)) func(string) nomad.Option {
		return func(content string) nomad.Option {
			var t nomad.TLS
			set(&t, content)
			return nomad.WithTLS(t)
		}
	}
	options := map[string]func(string) nomad.Option{
		"KeyFile":       withTLS(func(t *nomad.TLS, s string) { t.CertFile, t.KeyFile = certPath, s }),
		"CertFile":      withTLS(func(t *nomad.TLS, s string) { t.CertFile, t.KeyFile = s, s }),
		"CAFile":        withTLS(func(t *nomad.TLS, s string) { t.CAFile = s }),
		"CADir":         withTLS(func(t *nomad.TLS, s string) { t.CADir = s }),
		"WithTokenFile": nomad.WithTokenFile,
	}
	for name, content := range map[string]string{
		"a key": key, "a key on one line": strings.ReplaceAll(key, "\n", " "), "a key with escaped line breaks": strings.ReplaceAll(key, "\n", `\n`),
		"a key without its first and last line": body,
		"a certificate":                         cert,
		"a token":                               someToken, "a token with a line break": someToken + "\n", "a token in quotes": `"` + someToken + `"`,
		"a token as in a header": "Bearer " + someToken, "a token as in a shell": "NOMAD_TOKEN=" + someToken, "a token in upper case": strings.ToUpper(someToken),
		"a workload identity": someIdentity, "a long line": long, "two lines": "hunter2\nhunter2",
	} {
		for field, option := range options {
			t.Run(field+": "+name, func(t *testing.T) {
				_, err := nomad.NewClient(nomad.WithAddress("https://127.0.0.1:1"), option(content))
				require.ErrorIs(t, err, nomad.ErrInvalidArgument)
				for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)} {
					for _, part := range []string{"xxxx", "hunter2", "PRIVATE", "BEGIN", body[:16], someToken[9:], strings.ToUpper(someToken)[9:], someIdentity[:20]} {
						assert.NotContains(t, text, part)
					}
				}
				assert.ErrorContains(t, err, field)
			})
		}
	}
	_, err := nomad.NewClient(options["KeyFile"](key))
	assert.ErrorContains(t, err, "KeyFile: this is a key, not the name of a file: use KeyPEM")

	t.Run("printed", func(t *testing.T) {
		for _, content := range []string{key, cert, body, someToken, long} {
			config := nomad.TLS{CAFile: content, CADir: content, CertFile: content, KeyFile: content}
			var logged strings.Builder
			slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "tls", config)
			for _, text := range []string{fmt.Sprintf("%v %+v %#v", config, &config, config), logged.String()} {
				assertHidden(t, text, content, body, "TLS")
			}
		}
		assert.Contains(t, fmt.Sprint(nomad.TLS{CAFile: "/etc/ca.pem"}), `"ca_file":"/etc/ca.pem"`)
	})
	t.Run("variables", func(t *testing.T) {
		for _, name := range []string{"NOMAD_CLIENT_KEY", "NOMAD_CLIENT_CERT", "NOMAD_CACERT", "NOMAD_CAPATH"} {
			t.Run(name, func(t *testing.T) {
				t.Setenv("NOMAD_CLIENT_CERT", certPath)
				t.Setenv("NOMAD_CLIENT_KEY", certPath)
				t.Setenv(name, key)
				_, err := nomad.NewClient(nomad.FromEnvironment())
				require.ErrorIs(t, err, nomad.ErrInvalidArgument)
				assert.ErrorContains(t, err, name+": this is a key")
				assert.NotContains(t, err.Error(), body[:16])
			})
		}
	})
}

// TestSituationsOfTokenFiles checks which contents of a token file are accepted.
func TestSituationsOfTokenFiles(t *testing.T) {
	for name, test := range map[string]struct{ content, says string }{
		"a byte order mark":            {"\ufeff" + someToken, ""},
		"CRLF":                         {someToken + "\r\n", ""},
		"a byte order mark and CRLF":   {"\ufeff" + someToken + "\r\n", ""},
		"white space around it":        {" \t\n" + someToken + "\u00a0\n", ""},
		"a zero width space":           {someToken + "\u200b", "U+200B"},
		"a zero width joiner":          {someToken[:8] + "\u200d" + someToken[8:], "U+200D"},
		"a soft hyphen":                {someToken[:8] + "\u00ad" + someToken[8:], "U+00AD"},
		"a right-to-left mark":         {"\u200f" + someToken, "U+200F"},
		"a word joiner":                {someToken + "\u2060\n", "U+2060"},
		"a byte order mark at its end": {someToken + "\ufeff", "U+FEFF"},
		"a zero byte":                  {someToken + "\x00", "U+0000"},
		"a space in it":                {someToken[:8] + " " + someToken[8:], "U+0020"},
		"two lines":                    {someToken + "\n" + someToken, "U+000A"},
		"a Latin-1 byte":               {someToken + "\xa0", "0xA0"},
		"UTF-16 of Windows":            {"\xff\xfe6\x00f\x00", "UTF-16"},
		"UTF-16, big-endian":           {"\xfe\xff\x006\x00f", "UTF-16"},
		"nothing":                      {" \n", "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Value
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent.Store(r.Header.Get("X-Nomad-Token"))
				io.WriteString(w, `{"ServerName":"a","Members":[]}`)
			}))
			defer server.Close()
			client, err := nomad.NewClient(nomad.WithAddress(server.URL), nomad.WithTokenFile(writeFile(t, test.content)))
			if test.says != "" {
				require.ErrorIs(t, err, nomad.ErrInvalidArgument)
				assert.ErrorContains(t, err, test.says)
				assert.NotContains(t, err.Error(), someToken[:8])
				return
			}
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, callMembers(t.Context(), client))
			assert.Equal(t, someToken, sent.Load())
		})
	}
	for _, token := range []string{someToken + "\u200b", "\ufeff" + someToken, someToken[:5] + "\u00ad" + someToken[5:]} {
		_, err := nomad.NewClient(nomad.WithToken(token))
		assert.ErrorContains(t, err, "WithToken: ")
		assert.Regexp(t, `U\+(200B|FEFF|00AD)`, err)
		t.Setenv("NOMAD_TOKEN", token)
		_, err = nomad.NewClient(nomad.FromEnvironment())
		assert.ErrorContains(t, err, "NOMAD_TOKEN: ")
	}
}

// tokenAgent accepts one token and records the tokens of all requests.
type tokenAgent struct {
	accepts  atomic.Value
	sent     []string
	onRefuse func()
}

func (a *tokenAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("X-Nomad-Token")
	a.sent = append(a.sent, token)
	if token != a.accepts.Load() {
		if a.onRefuse != nil {
			a.onRefuse()
		}
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	io.WriteString(w, `{"ServerName":"a","Members":[]}`)
}

func TestSituationsOfRotation(t *testing.T) {
	for _, test := range []struct {
		name, first, then, accepts string
		want                       string
		sent                       []string
	}{
		{"half written when the file is read", "6f5c7f8e-ab4d", someToken, someToken, succeeds, []string{"6f5c7f8e-ab4d", someToken}},
		{"revoked, and the file has the new token", "old-token", someToken, someToken, succeeds, []string{"old-token", someToken}},
		{"revoked, and the file has not changed", "old-token", "old-token", someToken, denied, []string{"old-token"}},
		{"revoked, and the file is empty", "old-token", "", someToken, denied, []string{"old-token"}},
		{"revoked, and the file is gone", "old-token", "gone", someToken, denied, []string{"old-token"}},
		{"revoked, and the file has another token that is refused", "old-token", "other-token", someToken, denied, []string{"old-token", "other-token"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, test.first)
			agent := &tokenAgent{onRefuse: func() {
				if test.then == "gone" {
					os.Remove(path)
				} else {
					os.WriteFile(path, []byte(test.then), 0o600)
				}
			}}
			agent.accepts.Store(test.accepts)
			client := testkit.Serve(t, agent, nomad.WithTokenFile(path))
			err := callMembers(t.Context(), client)
			if test.want == succeeds {
				require.NoError(t, err)
			} else {
				assert.Equal(t, test.want, testkit.Meaning(err))
			}
			assert.Equal(t, test.sent, agent.sent)
			if test.then == "" || test.then == "gone" {
				assert.ErrorContains(t, err, "the token file cannot be used")
				agent.sent = nil
				assert.Error(t, callMembers(t.Context(), client))
				assert.Equal(t, test.sent, agent.sent, "one request per call")
			}
		})
	}
}

// TestSituationsOfCertificateFiles reads PEM files in the forms that editors produce.
func TestSituationsOfCertificateFiles(t *testing.T) {
	pki := testkit.NewPKI(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"ServerName":"a","Members":[]}`)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pki.Pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pki.Pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	for name, form := range map[string]func(string) string{
		"as it is":            func(s string) string { return s },
		"a byte order mark":   func(s string) string { return "\ufeff" + s },
		"CRLF":                func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"both":                func(s string) string { return "\ufeff" + strings.ReplaceAll(s, "\n", "\r\n") },
		"text around it":      func(s string) string { return "Subject: a\n\n" + s + "\nthe end\n" },
		"no line break after": func(s string) string { return strings.TrimSpace(s) },
	} {
		ca, cert, key := form(string(pki.CAPEM)), form(string(pki.CertPEM)), form(string(pki.KeyPEM))
		for kind, config := range map[string]nomad.TLS{
			"files":    {CAFile: writeFile(t, ca), CertFile: writeFile(t, cert), KeyFile: writeFile(t, key), ServerName: "server.global.nomad"},
			"contents": {CAPEM: []byte(ca), CertPEM: []byte(cert), KeyPEM: nomad.NewSecret(key), ServerName: "server.global.nomad"},
			"folder":   {CADir: filepath.Dir(writeFile(t, ca)), CertFile: writeFile(t, cert), KeyFile: writeFile(t, key), ServerName: "server.global.nomad"},
		} {
			t.Run(kind+": "+name, func(t *testing.T) {
				client := testkit.NewClient(t, nomad.WithAddress(server.URL), nomad.WithTLS(config))
				assert.NoError(t, callMembers(t.Context(), client))
			})
		}
	}
	_, err := nomad.NewClient(nomad.WithTLS(nomad.TLS{CAFile: writeFile(t, "\xff\xfe-\x00-\x00")}))
	assert.ErrorContains(t, err, "CAFile: ")
	assert.ErrorContains(t, err, "UTF-16")
}

// encodings are the forms in which a server may repeat a string that it received.
var encodings = map[string]func(string) string{
	"as it is":               func(s string) string { return s },
	"upper case":             strings.ToUpper,
	"hexadecimal":            func(s string) string { return hex.EncodeToString([]byte(s)) },
	"upper-case hexadecimal": func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"base64":                 func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64, shifted by one": func(s string) string { return base64.StdEncoding.EncodeToString([]byte("x" + s + "y")) },
	"base64, shifted by two": func(s string) string { return base64.URLEncoding.EncodeToString([]byte("xx" + s + "yy")) },
	"base64 in pieces": func(s string) string {
		s = base64.StdEncoding.EncodeToString([]byte("x" + s))
		return s[:len(s)/2] + " " + s[len(s)/2:]
	},
	"a URL":                  url.QueryEscape,
	"a URL, twice":           func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"a URL, every character": func(s string) string { return everyByte("%%%02X", s) },
	"JSON in JSON":           func(s string) string { return inJSON(inJSON(s)) },
	"escapes of JSON":        func(s string) string { return everyByte(`\u%04x`, s) },
	"quoted-printable":       func(s string) string { return everyByte("=%02X", s) },
	"HTML":                   html.EscapeString,
	"HTML entities":          func(s string) string { return everyByte("&#x%X;", s) },
	"bytes":                  func(s string) string { return fmt.Sprint([]byte(s)) },
	"cut":                    func(s string) string { return s[:len(s)*3/4] + "..." },
}

func everyByte(format, s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

func inJSON(s string) string {
	quoted, _ := json.Marshal(s)
	return string(quoted)
}

// TestSituationsOfRepeatedSecrets has an agent or a proxy repeat each secret of a request in each
// encoding, in every part of a response that may be quoted in an error or a log.
func TestSituationsOfRepeatedSecrets(t *testing.T) {
	const password, header = `hunter2/päss+"word"<&>=1`, "gateway-key-0123456789abcdef"
	secrets := map[string]string{
		"token": someToken, "identity": someIdentity, "password": password, "header": header,
		"basic": base64.StdEncoding.EncodeToString([]byte("ops:" + password)),
	}
	places := map[string]string{
		"a message":                    "HTTP/1.1 403 Forbidden\r\nContent-Length: 4096\r\nContent-Type: text/plain\r\n\r\nthe token %s is unknown",
		"JSON":                         "HTTP/1.1 500 X\r\nContent-Type: application/json\r\n\r\n{\"message\":\"%s\"}",
		"a page":                       "HTTP/1.1 502 X\r\nContent-Type: text/html\r\n\r\n<html>%s</html>",
		"a truncated message":          "HTTP/1.1 403 Forbidden\r\nContent-Length: 4096\r\n\r\n%s",
		"Location":                     "HTTP/1.1 307 X\r\nLocation: http://%s.example/\r\nContent-Length: 0\r\n\r\n",
		"Location, a query":            "HTTP/1.1 307 X\r\nLocation: http://other.example/?a=%s\r\nContent-Length: 0\r\n\r\n",
		"Location, a scheme":           "HTTP/1.1 307 X\r\nLocation: x%s://other.example/\r\nContent-Length: 0\r\n\r\n",
		"Content-Type":                 "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: 1\r\n\r\nx",
		"Content-Type, at its end":     "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=" + strings.Repeat("x", 70) + "%s\r\nContent-Length: 1\r\n\r\nx",
		"Content-Encoding":             "HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 1\r\n\r\nx",
		"Content-Encoding, truncated":  "HTTP/1.1 200 OK\r\nContent-Encoding: " + strings.Repeat("x", 80) + "%s\r\nContent-Length: 1\r\n\r\nx",
		"WWW-Authenticate":             "HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=\"%s\"\r\nContent-Length: 0\r\n\r\n",
		"WWW-Authenticate, scheme":     "HTTP/1.1 401 X\r\nWWW-Authenticate: %s\r\nContent-Length: 0\r\n\r\n",
		"Retry-After":                  "HTTP/1.1 429 X\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n",
		"an invalid header":            "HTTP/1.1 200 OK\r\n%s\r\n\r\n",
		"the reason":                   "HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n",
		"the status":                   "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n",
		"the protocol":                 "%s 200 OK\r\nContent-Length: 0\r\n\r\n",
		"Content-Length":               "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n",
		"Transfer-Encoding":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n",
		"a name in JSON":               "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Members\":[{\"Tags\":{\"%s\":5,\"x\":}}]}",
		"a value in JSON":              "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Members\":\"%s\"}",
		"a value in place of a number": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"Members\":[{\"Name\":\"a\",\"Port\":\"%s\"}]}",
		"not JSON":                     "HTTP/1.1 200 OK\r\n\r\n%s",
	}
	for place, response := range places {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			for name, secret := range secrets {
				for encoding, encode := range encodings {
					repeated := strings.NewReplacer("\r", "", "\n", "").Replace(encode(secret))
					address := testkit.RawAgent(t, strings.Replace(response, "%s", repeated, 1))
					var logged strings.Builder
					token := nomad.WithToken(someToken)
					if name == "identity" {
						token = nomad.WithToken(someIdentity)
					}
					client, err := nomad.NewClient(nomad.WithAddress(address), nomad.WithRetries(0), token,
						nomad.WithBasicAuth("ops", password), nomad.WithHeader("X-Gateway", header),
						nomad.WithLogger(slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))))
					require.NoError(t, err)
					_, err = client.Agent.Members(t.Context())
					client.Close()
					if err == nil {
						continue
					}
					for _, shown := range chain(err) {
						assertHidden(t, shown, repeated, secret, place+", "+name+", "+encoding)
					}
					assertHidden(t, logged.String(), repeated, secret, "log: "+place+", "+name+", "+encoding)
				}
			}
		})
	}
}

// chain returns the messages of all errors in a chain, as code that prints them one by one shows them.
func chain(err error) (shown []string) {
	for err != nil {
		shown = append(shown, err.Error(), fmt.Sprintf("%+v", err))
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				shown = append(shown, chain(one)...)
			}
			return shown
		}
		one, ok := err.(interface{ Unwrap() error })
		if !ok {
			return shown
		}
		err = one.Unwrap()
	}
	return shown
}

// assertHidden checks that text contains no long part of a secret or of the form in which it was sent.
func assertHidden(t *testing.T, text, repeated, secret, about string) {
	t.Helper()
	const part = 14
	for _, form := range []string{repeated, secret} {
		for i := 0; i+part <= len(form); i += 3 {
			if piece := form[i : i+part]; strings.Trim(piece, "%0123456789 ") != "" && strings.Contains(strings.ToLower(text), strings.ToLower(piece)) {
				t.Errorf("%s: %q contains %q", about, text, piece)
				return
			}
		}
	}
}

func TestSituationsOfStreamSecrets(t *testing.T) {
	for encoding, encode := range encodings {
		t.Run(encoding, func(t *testing.T) {
			repeated := encode(someToken)
			for _, text := range []string{"rpc error: the token " + repeated + " is unknown", strings.Repeat("x", 1000) + " " + repeated} {
				client := testkit.Serve(t, testkit.Responding(200, "application/json", testkit.Frame("a\n")+text), nomad.WithToken(someToken))
				stream, err := client.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
				require.NoError(t, err)
				_, err = readLog(stream, nil)
				require.Error(t, err)
				for _, shown := range chain(err) {
					assertHidden(t, shown, repeated, someToken, encoding)
				}
			}
		})
	}
}

// TestSituationsOfKeyrings has servers repeat a gossip key in their messages.
func TestSituationsOfKeyrings(t *testing.T) {
	const key = "Zm9vYmFyYmF6cXV4+2/vcmdlZ3JhdWx0Z2FycGx5MDE="
	for encoding, encode := range encodings {
		if encoding == "cut" || encoding == "bytes" || encoding == "base64 in pieces" {
			continue
		}
		t.Run(encoding, func(t *testing.T) {
			repeated := encode(key)
			messages, err := json.Marshal(map[string]string{"a.global": "the key " + repeated + " is not there", "b.global": repeated})
			require.NoError(t, err)
			document := fmt.Sprintf(`{"Keys":{%q:2},"Messages":%s,"NumNodes":2}`, key, messages)
			client := testkit.Serve(t, testkit.Responding(200, "application/json", document))
			list, err := client.Agent.ListKeys(t.Context())
			require.NoError(t, err)
			client = testkit.Serve(t, testkit.Responding(200, "application/json", fmt.Sprintf(`{"Messages":%s,"NumNodes":2}`, messages)))
			installed, err := client.Agent.InstallKey(t.Context(), nomad.NewSecret(key))
			require.NoError(t, err)
			for _, ring := range []*nomad.Keyring{list, installed} {
				encoded, err := json.Marshal(ring)
				require.NoError(t, err)
				encoded2, err := jsonv2.Marshal(ring)
				require.NoError(t, err)
				var logged strings.Builder
				slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "ring", ring, "messages", ring.Messages)
				shown := []string{fmt.Sprintf("%v %+v %#v %s", ring, *ring, *ring, ring), fmt.Sprintf("%v %#v", ring.Messages, ring.Messages),
					string(encoded), string(encoded2), logged.String()}
				for _, text := range shown {
					assertHidden(t, text, repeated, key, encoding)
				}
				assert.Contains(t, ring.Messages["b.global"], "<redacted>")
			}
		})
	}
	t.Run("in an error", func(t *testing.T) {
		client := testkit.Serve(t, testkit.Responding(500, "text/plain", "1/1 nodes reported failure: "+url.QueryEscape(key)))
		_, err := client.Agent.ListKeys(t.Context())
		assertHidden(t, strings.Join(chain(err), " "), url.QueryEscape(key), key, "ListKeys")
	})
}

func TestSituationsOfWarnings(t *testing.T) {
	client := testkit.Serve(t, testkit.Responding(200, "application/json", `{"num_joined":1,"warning":"the token `+someToken+` is not checked yet"}`),
		nomad.WithToken(someToken))
	result, err := client.Agent.Join(t.Context(), "10.0.0.1")
	require.NoError(t, err)
	assert.Equal(t, "joined 1 (the token <redacted> is not checked yet)", result.String())
}
