package acceptance_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/agentstats"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/secret"
	"github.com/nomad-go/nomad/survey"
	"github.com/nomad-go/nomad/watch"
)

// planted is a secret. It is the base64 of 16 bytes, so that it is a valid gossip key too.
const planted = "aHVudGVyMmh1bnRlcjJodQ=="

// hostile is a string with control characters, as an agent could send it.
const hostile = "a\x1b[2J\r\nb\u009b\u202e\U000e0001\xff"

// structs are the exported types that fill fills field by field.
var structs = []any{
	nomad.APIError{}, nomad.Health{}, nomad.Host{}, nomad.HostAddress{}, nomad.HostDisk{}, nomad.JoinResult{},
	nomad.Keyring{},
	nomad.LogEntry{}, nomad.Member{}, nomad.Members{}, nomad.MonitorExportOptions{}, nomad.MonitorOptions{},
	nomad.ProfileOptions{}, nomad.Request{}, nomad.Response{}, nomad.RoleHealth{}, nomad.Scheduler{},
	nomad.SchedulerConfig{},
	nomad.Schedulers{}, nomad.Self{}, agentstats.Stats{}, nomad.TLS{}, nomad.Target{}, secret.Secret{},

	agentconfig.ACL{}, agentconfig.Addresses{}, agentconfig.Artifact{}, agentconfig.Audit{}, agentconfig.AuditFilter{},
	agentconfig.AuditSink{}, agentconfig.Autopilot{}, agentconfig.Client{}, agentconfig.ClientIntroduction{},
	agentconfig.Config{}, agentconfig.Consul{}, agentconfig.Difference{}, agentconfig.Drain{}, agentconfig.Endpoint{},
	agentconfig.Eventlog{}, agentconfig.Fingerprint{}, agentconfig.HostNetwork{}, agentconfig.HostVolume{},
	agentconfig.Identity{}, agentconfig.KEKProvider{}, agentconfig.Limits{}, agentconfig.PlanRejectionTracker{},
	agentconfig.Plugin{}, agentconfig.Ports{}, agentconfig.Preemption{}, agentconfig.RPC{}, agentconfig.RaftBolt{},
	agentconfig.RaftLogStore{}, agentconfig.RaftVerification{}, agentconfig.RaftWAL{}, agentconfig.Reporting{},
	agentconfig.ReportingLicense{}, agentconfig.Reserved{}, agentconfig.Retry{}, agentconfig.SchedulerConfig{},
	agentconfig.Search{}, agentconfig.Sentinel{}, agentconfig.SentinelImport{}, agentconfig.Server{},
	agentconfig.ServerJoin{}, agentconfig.Setting{}, agentconfig.TLS{}, agentconfig.Telemetry{}, agentconfig.Template{},
	agentconfig.UI{}, agentconfig.UIContentSecurityPolicy{}, agentconfig.UILabel{}, agentconfig.UILink{},
	agentconfig.Users{}, agentconfig.Vault{}, agentconfig.Version{}, agentconfig.Wait{},

	watch.HealthEvent{}, watch.LogEvent{}, watch.MemberEvent{}, watch.Options{},
	survey.Disagreement{}, survey.Report{}, survey.Server{}, survey.View{},
	nomadtest.Request{},
}

// handles are the exported types with state or behavior: clients, agents, streams and options.
var handles = []string{
	"nomad.Agent", "nomad.Client", "nomad.ForceLeaveOption", "nomad.LogStream", "nomad.Option", "nomad.Status",
	"nomadtest.Agent", "nomadtest.AgentOption", "nomadtest.Cluster", "nomadtest.Fault", "nomadtest.FaultOption",
	"nomadtest.Injection", "nomadtest.Option", "nomadtest.Process", "survey.Option",
}

// without are the exported types that hold no secret: enumerations and interfaces.
var without = []string{
	"nomad.LogLevel", "nomad.MemberStatus", "nomad.ProfileType", "nomad.Role", "watch.Kind",
	"watch.HealthAgent", "watch.LogAgent", "watch.MembersAgent",
}

// arguments are types that calls take but never return. They have no JSON encoding of their own, and
// json/v2 does not encode durations.
var arguments = []string{"nomad.MonitorExportOptions", "nomad.MonitorOptions", "nomad.ProfileOptions", "watch.Options"}

// TestEveryExportedTypeIsPrinted compares the lists of this file with the source of all packages that users can import.
func TestEveryExportedTypeIsPrinted(t *testing.T) {
	listed := slices.Concat(handles, without)
	for _, v := range structs {
		listed = append(listed, fmt.Sprintf("%T", v))
	}
	slices.Sort(listed)
	var found []string
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." &&
			(name == "internal" || name == "testdata" || name == "bench" || name == "examples" || strings.HasPrefix(name, ".")):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil || file.Name.Name == "main" {
			return err
		}
		for _, decl := range file.Decls {
			types, _ := decl.(*ast.GenDecl)
			if types == nil || types.Tok != token.TYPE {
				continue
			}
			for _, spec := range types.Specs {
				if s := spec.(*ast.TypeSpec); s.Name.IsExported() && !s.Assign.IsValid() { // an alias is tested in the package that declares the type
					found = append(found, file.Name.Name+"."+s.Name.Name)
				}
			}
		}
		return nil
	}))
	slices.Sort(found)
	assert.Equal(t, slices.Compact(found), listed)
}

// fill sets all exported fields: those that may hold a secret to planted, other strings to text.
func fill(v reflect.Value, text string, err error) {
	switch value := v.Addr().Interface().(type) {
	case *nomad.Secret:
		*value = nomad.NewSecret(planted)
	case *agentconfig.Endpoint:
		*value = agentconfig.NewEndpoint("https://user:" + planted + "@" + text + "/?token=" + planted)
	case *agentconfig.Setting:
		json.Unmarshal([]byte(`{"password":"`+planted+`"}`), value)
	case *nomad.HostAddress:
		*value = nomad.HostAddress{"address": text, "mask_bits": "8", text: text}
	case *agentstats.Stats:
		*value = agentstats.Stats{"raft": {"state": text}, "client": {"node_id": text}, text: {text: text}}
	case *nomad.Target:
		*value = nomad.OnServer(text)
	case *nomad.Keyring:
		*value = nomad.Keyring{
			Keys:     map[nomad.Secret]int{nomad.NewSecret(planted): 3},
			Messages: map[string]string{text: text + ": no key " + planted, planted: `key="` + planted + `"`}, NumNodes: 3,
		}
	case *http.Header:
		*value = http.Header{"Set-Cookie": {planted}, "X-Nomad-Token": {planted}, "X-Nomad-Index": {"7"}}
	case *url.Values:
		*value = url.Values{"q": {planted}}
	case *[]byte:
		*value = []byte(planted)
	case *netip.Addr:
		*value = netip.MustParseAddr("10.0.0.1")
	case *time.Time:
		*value = time.Date(2026, 11, 2, 15, 4, 5, 0, time.UTC)
	case *error:
		*value = err
	case *map[string]any: // of a log entry
		*value = map[string]any{text: text, "n": json.Number("1.50")}
	case *any: // the body of a request
		*value = map[string]any{"Key": planted}
	default:
		fillKind(v, text, err)
	}
	if settings, ok := v.Addr().Interface().(*nomad.TLS); ok {
		settings.KeyFile = "-----BEGIN PRIVATE KEY-----\n" + planted
	}
}

func fillKind(v reflect.Value, text string, err error) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, err)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text, err)
	case reflect.Map:
		key, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text, err)
		fill(element, text, err)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, element)
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				fill(value, text, err)
			}
		}
	default:
		v.Set(reflect.ValueOf(3).Convert(v.Type()))
	}
}

// filled returns a pointer to a filled value of each type in structs. For an APIError that is err itself.
func filled(text string, err error) []any {
	all := make([]any, len(structs))
	for i, prototype := range structs {
		v := reflect.New(reflect.TypeOf(prototype))
		fill(v.Elem(), text, err)
		all[i] = v.Interface()
		if failure := (*nomad.APIError)(nil); v.Type() == reflect.TypeFor[*nomad.APIError]() && errors.As(err, &failure) {
			all[i] = failure
		}
		kind := v.Elem()
		if kind.Kind() != reflect.Struct {
			continue
		}
		if kind = kind.FieldByName("Kind"); kind.IsValid() { // the value is an event
			kind.SetString(string(watch.Outage))
			for _, other := range []watch.Kind{watch.OutageOver, watch.Unhealthy, watch.Updated, watch.Failed, watch.Synced,
				watch.Entry} {
				event := reflect.New(v.Type().Elem())
				event.Elem().Set(v.Elem())
				event.Elem().FieldByName("Kind").SetString(string(other))
				all = append(all, event.Interface())
			}
		}
	}
	return all
}

// typeName returns the name of a value's type, without its pointer.
func typeName(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "*") }

// echoing returns a client with a secret in every option that can hold one. Its agent repeats them in
// responses with the given status.
func echoing(t *testing.T, status int, opts ...nomad.Option) *nomad.Client {
	t.Helper()
	return testkit.NewClient(t, append([]nomad.Option{
		nomad.WithToken(planted), nomad.WithBasicAuth("ops", planted), nomad.WithHeader("X-Key", planted),
		nomad.WithRetries(0),
		testkit.WithResponses(func(r *http.Request) (int, http.Header, string) {
			var text bytes.Buffer
			r.Header.Write(&text)
			if r.Body != nil {
				text.ReadFrom(r.Body)
			}
			echo := strings.ReplaceAll(text.String(), "\r\n", " ")
			return status, http.Header{"Content-Type": {"text/plain " + echo}, "Location": {"http://" + planted + "/"}}, echo
		}),
	}, opts...)...)
}

// echoedErrors returns the errors of calls whose responses repeat the secrets of the requests.
func echoedErrors(t *testing.T) []error {
	t.Helper()
	var all []error
	for _, status := range []int{200, 206, 301, 307, 400, 403, 404, 429, 500, 501, 503} {
		client := echoing(t, status)
		ctx := t.Context()
		calls := map[string]func() error{
			"Members":    func() error { _, err := client.Agent.Members(ctx); return err },
			"Self":       func() error { _, err := client.Agent.Self(ctx); return err },
			"Join":       func() error { _, err := client.Agent.Join(ctx, "10.0.0.1"); return err },
			"InstallKey": func() error { _, err := client.Agent.InstallKey(ctx, nomad.NewSecret(planted)); return err },
			"Monitor":    func() error { _, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{}); return err },
			"Do": func() error {
				_, err := client.Do(ctx, &nomad.Request{
					Path: "/v1/x/" + url.PathEscape(planted), Header: http.Header{"X-Other": {planted}},
					Query: url.Values{"q": {planted}},
				}, new(int))
				return err
			},
		}
		for name, call := range calls {
			err := call()
			if status != 200 || name != "Monitor" {
				require.Error(t, err, "%s %d", name, status)
			}
			if err != nil {
				all = append(all, err, fmt.Errorf("survey: %w", err))
			}
		}
	}
	for _, opt := range []nomad.Option{
		nomad.WithAddress("http://ops:" + planted + "@agent:x"), nomad.WithAddress("http://" + planted + "@a b"),
		nomad.WithToken(planted + "\n"),
		nomad.WithHeader("X-Key", planted+"\n"), nomad.WithBasicAuth("a:b", planted),
		nomad.WithTokenFile("-----BEGIN PRIVATE KEY-----" + planted),
		nomad.WithTLS(nomad.TLS{KeyFile: "-----BEGIN PRIVATE KEY-----" + planted}),
		nomad.WithTLS(nomad.TLS{KeyPEM: nomad.NewSecret(planted)}),
	} {
		_, err := nomad.NewClient(opt)
		require.Error(t, err)
		all = append(all, err)
	}
	proxy := &url.URL{Scheme: "http", User: url.UserPassword("ops", planted), Host: "127.0.0.1:1"}
	client := testkit.NewClient(t, nomad.WithRetries(0), nomad.WithAddress("http://agent.invalid:1"),
		nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}))
	_, err := client.Agent.Members(t.Context())
	require.Error(t, err)
	return append(all, err)
}

// layers returns an error and all errors that it wraps.
func layers(err error) []error {
	all := []error{err}
	for i := 0; i < len(all); i++ {
		switch layer := all[i].(type) {
		case interface{ Unwrap() error }:
			if inner := layer.Unwrap(); inner != nil {
				all = append(all, inner)
			}
		case interface{ Unwrap() []error }:
			all = append(all, layer.Unwrap()...)
		}
	}
	return all
}

// renderings returns a value as fmt, log/slog, encoding/json and json/v2 print it.
func renderings(value any) string {
	var b bytes.Buffer
	shapes := []any{value, []any{value}, map[string]any{"k": value}, struct{ V any }{value}}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct && !v.IsNil() {
		if _, err := value.(error); !err && !slices.Contains(handles, typeName(value)) { // handles and errors must not be copied
			shapes = append(shapes, v.Elem().Interface(), []any{v.Elem().Interface()})
		}
	}
	for _, shape := range shapes {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%#x"} {
			fmt.Fprintf(&b, verb+"\n", shape)
		}
		slog.New(slog.NewJSONHandler(&b, nil)).Info("a", "value", shape)
		slog.New(slog.NewTextHandler(&b, nil)).Info("a", slog.Group("g", "value", shape))
		for _, marshal := range []func(any) ([]byte, error){json.Marshal, func(v any) ([]byte,
			error) {
			return jsonv2.Marshal(v)
		}} {
			encoded, err := marshal(shape)
			fmt.Fprintf(&b, "%s %v\n", encoded, err)
		}
	}
	return b.String()
}

// shownAs are the forms in which a secret could be printed.
var shownAs = func() []string {
	key, _ := base64.StdEncoding.DecodeString(planted)
	var all []string
	for _, bytes := range [][]byte{[]byte(planted), key} {
		bytes = bytes[:12] // finds truncated secrets too
		list := strings.Trim(fmt.Sprint(bytes), "[]")
		all = append(all, string(bytes), hex.EncodeToString(bytes), strings.ToUpper(hex.EncodeToString(bytes)),
			fmt.Sprintf("% x", bytes), list, strings.ReplaceAll(list, " ", ","), strings.Trim(fmt.Sprintf("%#v", bytes),
				"[]byte{}"))
		for shift := range 3 { // base64 of a longer string that contains the secret
			encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), bytes...))
			all = append(all, encoded[2*shift:len(encoded)-2])
		}
	}
	return all
}()

func assertNotShown(t *testing.T, text, what string) {
	t.Helper()
	for _, form := range shownAs {
		if i := strings.Index(text, form); i >= 0 {
			assert.Fail(t, what+" shows a secret", "%s", text[max(0, i-200):min(len(text), i+100)])
			return
		}
	}
}

// TestNoSecretIsShown plants a secret in each field that can hold one, of each exported type. It searches
// for the secret in everything that prints a value.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	errs := echoedErrors(t)
	for _, err := range errs {
		for _, layer := range layers(err) {
			assertNotShown(t, renderings(layer), fmt.Sprintf("%T of %v", layer, err))
		}
	}
	for _, value := range filled("server-1", errors.Join(errs...)) {
		assertNotShown(t, renderings(value), typeName(value))
		assertNotShown(t, renderings(reflect.New(reflect.TypeOf(value).Elem()).Interface()), typeName(value))
	}
}

// TestNoSecretOfADocumentIsShown has an agent send secrets in unknown fields of its configuration.
func TestNoSecretOfADocumentIsShown(t *testing.T) {
	document := `{"config":{"Region":"global","New":{"Token":"` + planted + `"},"Vault":{"Token":"` + planted + `"},
		"Consul":{"Auth":"ops:` + planted + `","Later":"` + planted + `"}},"member":{"Name":"a","Status":"alive"},"stats":{}}`
	client := testkit.NewClient(t, testkit.WithResponse(200, document))
	self, err := client.Agent.Self(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(self.Raw()), planted)
	require.NotEmpty(t, self.Config.Unknown())
	diff := agentconfig.Diff(self.Config, new(agentconfig.Config))
	require.NotEmpty(t, diff)
	for _, value := range []any{self, self.Config, diff, struct{ s *nomad.Self }{self}, struct{ s nomad.Self }{*self}} {
		assertNotShown(t, renderings(value), typeName(value))
	}
}

// TestNoSecretOfAHandleIsShown does the same for clients, streams and other handles.
func TestNoSecretOfAHandleIsShown(t *testing.T) {
	client := echoing(t, 200)
	stream := testkit.NewClient(t, nomad.WithToken(planted), testkit.WithResponse(200, testkit.Frame("a line\n")))
	log, err := stream.Agent.Monitor(t.Context(), nomad.MonitorOptions{})
	require.NoError(t, err)
	defer log.Close()
	cluster := nomadtest.NewCluster(nomadtest.GossipKey(planted), nomadtest.ACLs())
	defer cluster.Close()
	_, err = cluster.Client("server-1", nomad.WithHeader("Cookie", planted)).Agent.InstallKey(context.Background(),
		nomad.NewSecret(planted))
	require.NoError(t, err)
	agent := cluster.Agent("server-1")
	require.NotEmpty(t, agent.Requests())
	values := []any{
		client, client.Agent, client.Status, client.HTTPClient(), log, cluster, agent, agent.Requests(),
		agent.Inject(nomadtest.Status(500, planted)), new(nomadtest.Process),
		nomad.WithToken(planted), nomad.WithBasicAuth("ops", planted), nomad.WithHeader("Cookie", planted), nomad.Prune(),
		nomad.WithTLS(nomad.TLS{KeyPEM: nomad.NewSecret(planted)}), nomadtest.GossipKey(planted),
		survey.WithAddress(func(nomad.Member) string { return planted }),
	}
	for _, value := range values {
		assertNotShown(t, renderings(value), typeName(value))
	}
}

// TestHostileTextIsEscaped fills all strings with characters that control a terminal.
func TestHostileTextIsEscaped(t *testing.T) {
	client := testkit.NewClient(t, nomad.WithRetries(0), testkit.WithResponse(500, hostile))
	_, err := client.Agent.Members(t.Context())
	require.Error(t, err)
	values := append(filled(hostile, err), err)
	for _, value := range values {
		name := typeName(value)
		if slices.Contains(arguments, name) {
			continue
		}
		var text strings.Builder
		for _, verb := range []string{"%v", "%+v", "%s"} {
			fmt.Fprintf(&text, verb+" ", value)
		}
		slog.New(slog.NewTextHandler(&text, nil)).Info("a", "value", value)
		shown := strings.TrimSuffix(text.String(), "\n")
		if name == "survey.Report" {
			shown = strings.ReplaceAll(shown, "\n", "") // it is a table
		}
		assert.True(t, strings.IndexFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) < 0, "%s: %q", name, shown)
		assert.NotContains(t, shown, "\xff", name)
		assert.NotContains(t, shown, "0xc0", "%s: a pointer", name)
	}
}

// TestJSONIsTheSameInBothPackages compares encoding/json and json/v2, for zero and other values.
func TestJSONIsTheSameInBothPackages(t *testing.T) {
	client := testkit.NewClient(t, nomad.WithRetries(0), testkit.WithResponse(403, "Permission denied"))
	_, err := client.Agent.Members(t.Context())
	require.Error(t, err)
	values := append(filled("server-1", err), err)
	for _, prototype := range structs {
		if reflect.TypeOf(prototype).Kind() == reflect.Map {
			continue // one encodes a nil map as null, the other as {}
		}
		values = append(values, reflect.New(reflect.TypeOf(prototype)).Interface())
	}
	for _, value := range values {
		name := typeName(value)
		if slices.Contains(arguments, name) {
			continue
		}
		for _, value := range []any{value, []any{reflect.ValueOf(value).Elem().Interface()}} {
			v1, err := json.Marshal(value)
			require.NoError(t, err, name)
			v2, err := jsonv2.Marshal(value)
			require.NoError(t, err, name)
			assert.JSONEq(t, string(v1), string(v2), name)
		}
		if pkg, _, _ := strings.Cut(name, "."); pkg == "watch" || pkg == "survey" {
			encoded, err := json.Marshal(value)
			require.NoError(t, err)
			for path, leaf := range testkit.Leaves(decoded(t, encoded)) {
				assert.True(t, leaf != nil || strings.HasSuffix(path, "/Addr") || strings.HasSuffix(path, "/Tags"),
					"%s%s is null", name, path)
			}
		}
	}
}
