package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestDemo runs the program on its cluster in memory and checks its metrics and its output.
func TestDemo(t *testing.T) {
	code, stdout, stderr, metrics := scraped(t, "-demo", "-interval", "1h", "-for", "1h", "-json")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stderr, "-demo: using a cluster in memory") {
		t.Errorf("standard error does not name the cluster in memory: %s", stderr)
	}
	withoutSecrets(t, stdout, stderr, metrics)

	rows := map[string]row{}
	for line := range strings.Lines(stdout) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		if r.MeanMS <= 0 {
			t.Errorf("want a duration: %s", line)
		}
		r.MeanMS = 0
		rows[r.Span] = r
	}
	want := map[string]row{}
	for _, r := range []row{
		{Span: "Members", Count: 1}, {Span: "Self", Count: 1}, {Span: "Health", Count: 1},
		{Span: "GET /v1/agent/members", Count: 3, Failed: 2}, {Span: "GET /v1/agent/self", Count: 1},
		{Span: "GET /v1/agent/health", Count: 1},
	} {
		want[r.Span] = r
	}
	if !maps.Equal(rows, want) {
		t.Errorf("the spans are %v, want %v", rows, want)
	}
	for _, want := range []string{
		`nomad_client_requests_total{code="503",endpoint="/v1/agent/members",method="get"} 2`,
		`nomad_client_call_duration_seconds_count{call="Members",result="ok"}`,
		`nomad_client_request_duration_seconds_count{endpoint="/v1/agent/members"}`,
		`nomad_client_requests_in_flight`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s:\n%s", want, metrics)
		}
	}
}

// TestAgent runs the program with an agent and a token from the environment, and checks the tables.
func TestAgent(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.ACLs())
	defer cluster.Close()
	t.Setenv("NOMAD_ADDR", cluster.URL("server-1"))
	t.Setenv("NOMAD_REGION", "global")
	for token, want := range map[string]int{nomadtest.ManagementToken: 0, nomadtest.NodeReadToken: 1} {
		t.Setenv("NOMAD_TOKEN", token)
		code, stdout, stderr, metrics := scraped(t)
		if code != want {
			t.Errorf("exit code %d, want %d: %s", code, want, stderr)
		}
		withoutSecrets(t, stdout, stderr, metrics)
		cluster.Agent("server-1").ForgetRequests()
		args := []string{"-for", "500ms", "-interval", "20ms"}
		if again, err := run(t.Context(), args, io.Discard, io.Discard); again != want || err != nil {
			t.Errorf("exit code %d, want %d: %v", again, want, err)
		}
		if n := len(cluster.Agent("server-1").Requests()); n < 6 {
			t.Errorf("%d requests, want at least two rounds of three", n)
		}
		for _, text := range []string{"SPAN", "Members ", "Self ", "Health ", "GET /v1/agent/self "} {
			if !strings.Contains(stdout, text) {
				t.Errorf("the output lacks %q:\n%s", text, stdout)
			}
		}
	}
}

// TestSpans checks the spans: their parents and their attributes.
func TestSpans(t *testing.T) {
	cluster := nomadtest.NewCluster(nomadtest.ACLs())
	defer cluster.Close()
	spans := tracetest.NewInMemoryExporter()
	registry := prometheus.NewRegistry()
	o := newObserver(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), registry)
	client := cluster.Client("server-1", nomad.WithTransport(o.transport), nomad.WithRegion("global"), nomad.WithHeader("X-Proxy", "hunter2"))
	agent := cluster.Agent("server-1")

	agent.Inject(nomadtest.Status(http.StatusServiceUnavailable, "busy"), nomadtest.On("force-leave"), nomadtest.Times(2))
	leave := func(ctx context.Context) error { return client.Agent.ForceLeave(ctx, "secret-node.global") }
	if err := o.call(t.Context(), "ForceLeave", leave); err != nil {
		t.Error(err)
	}
	servers := func(ctx context.Context) error { _, err := client.Agent.Servers(ctx); return err }
	if err := o.call(t.Context(), "Servers", servers); !errors.Is(err, nomad.ErrClientOnly) {
		t.Errorf("Servers of a server: %v", err)
	}
	agent.Inject(nomadtest.Reset(), nomadtest.On("members"), nomadtest.Times(2))
	members := func(ctx context.Context) error { _, err := client.Agent.Members(ctx); return err }
	if err := o.call(t.Context(), "Members", members); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.call(canceled, "Members", members); err == nil {
		t.Error("a call with a canceled context succeeded")
	}

	var roots []string
	all := spans.GetSpans()
	for _, root := range all {
		if root.Parent.IsValid() {
			continue
		}
		roots = append(roots, root.Name+" "+root.Status.Code.String())
		for _, child := range all {
			if child.SpanContext.TraceID() != root.SpanContext.TraceID() || child.SpanContext.SpanID() == root.SpanContext.SpanID() {
				continue
			}
			if child.Parent.SpanID() != root.SpanContext.SpanID() || child.SpanKind != trace.SpanKindClient {
				t.Errorf("%s is not a child of %s", child.Name, root.Name)
			}
			if child.StartTime.Before(root.StartTime) || child.EndTime.After(root.EndTime) {
				t.Errorf("%s is not within %s", child.Name, root.Name)
			}
		}
	}
	if want := []string{"ForceLeave Unset", "Servers Error", "Members Unset", "Members Error"}; !slices.Equal(roots, want) {
		t.Errorf("the calls are %v, want %v", roots, want)
	}
	attempts := func(name string, code codes.Code) (n int) {
		for _, span := range all {
			if span.Name == name && span.Status.Code == code {
				n++
			}
		}
		return n
	}
	if failed, ok := attempts("PUT /v1/agent/force-leave", codes.Error), attempts("PUT /v1/agent/force-leave", codes.Unset); failed != 2 || ok != 1 {
		t.Errorf("%d attempts of ForceLeave failed and %d succeeded", failed, ok)
	}
	if lost, ok := attempts("GET /v1/agent/members", codes.Error), attempts("GET /v1/agent/members", codes.Unset); lost < 1 || ok != 1 {
		t.Errorf("%d attempts of Members were lost and %d succeeded", lost, ok)
	}

	var text strings.Builder
	for _, span := range all {
		fmt.Fprintln(&text, span.Name, span.Attributes, span.Events, span.Status.Description)
	}
	scrape := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
	text.WriteString(scrape.Body.String())
	withoutSecrets(t, text.String())
	for _, query := range []string{"secret-node", "region=", "?", "hunter2", "X-Nomad-Token"} {
		if strings.Contains(text.String(), query) {
			t.Errorf("%q is reported:\n%s", query, text.String())
		}
	}
	if want := cluster.URL("server-1") + "/v1/agent/force-leave"; !strings.Contains(text.String(), want) {
		t.Errorf("%q is missing in:\n%s", want, text.String())
	}
}

func TestEndpointOf(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/agent/members":           "/v1/agent/members",
		"/v1/agent/keyring/list":      "/v1/agent/keyring/list",
		"/v1/agent/pprof/heap":        "/v1/agent/pprof/{profile}",
		"/behind/proxy/v1/agent/self": "/v1/agent/self",
		"/v1/job/web/allocations":     "other",
	} {
		if got := endpointOf(httptest.NewRequest("GET", path+"?node=x", nil)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestCopied copies main.go alone into a module that requires the same modules, and builds it.
func TestCopied(t *testing.T) {
	folder := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"main.go", "go.mod", "go.sum"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.ReplaceAll(content, []byte("=> ../.."), []byte("=> "+root))
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, ".")
	build.Dir, build.Env = folder, append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// TestExitCodes checks the exit code of every kind of failure.
func TestExitCodes(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	t.Setenv("NOMAD_ADDR", "http://"+dead.Addr().String())
	for args, want := range map[string]string{
		"-wrong":           "not defined: -wrong",
		"argument":         `unexpected argument "argument"`,
		"-interval 0s":     "-interval 0s: want more than 0",
		"-timeout 0":       "-timeout 0s: want more than 0",
		"-for -1s":         "-for -1s: want 0 or more",
		"-listen nonsense": "nonsense",
		"-timeout 1s":      "connection refused",
	} {
		var stdout bytes.Buffer
		code, err := run(t.Context(), strings.Fields(args), &stdout, io.Discard)
		if code != 2 || err == nil || !strings.Contains(err.Error(), want) || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want 2; %v, want %s; %s", args, code, err, want, &stdout)
		}
	}
	var stdout, stderr bytes.Buffer
	code, err := run(t.Context(), []string{"-h"}, &stdout, &stderr)
	if code != 0 || err != nil || stderr.Len() > 0 || !strings.Contains(stdout.String(), "exit codes") {
		t.Errorf("-h: exit code %d, %v, %s%s", code, err, &stdout, &stderr)
	}
	reader, writer := io.Pipe()
	reader.Close()
	for _, args := range []string{"-h", "-demo -for 1ms", "-demo -for 1ms -json"} {
		if code, err := run(t.Context(), strings.Fields(args), writer, io.Discard); code != 2 || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s to a closed pipe: exit code %d, %v", args, code, err)
		}
	}
}

// scraped runs the program until its metrics include the first round of calls.
func scraped(t *testing.T, args ...string) (code int, stdout, stderr, metrics string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	notices := &notices{address: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() {
		code, err := run(ctx, args, &out, notices)
		if err != nil {
			t.Error(err)
		}
		ended <- code
	}()
	select {
	case code = <-ended:
	case address := <-notices.address:
		for !strings.Contains(metrics, `_count{call="Self"`) {
			res, err := http.Get(address)
			if err != nil {
				t.Error(err)
				break
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if metrics = string(body); err != nil {
				t.Error(err)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		code = <-ended
	}
	return code, out.String(), notices.String(), metrics
}

// notices is the standard error of the program. It sends the address of the metrics to a channel.
type notices struct {
	bytes.Buffer
	address chan string
}

func (n *notices) Write(p []byte) (int, error) {
	if address, ok := strings.CutPrefix(string(p), "observability: metrics are at "); ok {
		n.address <- strings.TrimSpace(address)
	}
	return n.Buffer.Write(p)
}

func withoutSecrets(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, token := range []string{nomadtest.ManagementToken, nomadtest.NodeReadToken} {
			if strings.Contains(text, token) {
				t.Errorf("a token is in:\n%s", text)
			}
		}
	}
}
