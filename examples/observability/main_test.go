package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// TestInMemory runs the program on its cluster in memory, scrapes it meanwhile and reads what it prints.
func TestInMemory(t *testing.T) {
	t.Setenv("NOMAD_ADDR", "")
	t.Setenv("NOMAD_UNIX_ADDR", "")
	code, stdout, stderr, metrics := scraped(t, "-interval", "1h", "-for", "1h", "-json")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	withoutSecrets(t, stdout, stderr, metrics)

	counts := map[string]float64{}
	var requests float64
	var spans spanRow
	for line := range strings.Lines(stdout) {
		var call callRow
		var request requestRow
		err := errors.Join(json.Unmarshal([]byte(line), &call), json.Unmarshal([]byte(line), &request), json.Unmarshal([]byte(line), &spans))
		switch {
		case err != nil:
			t.Errorf("%v: %s", err, line)
		case call.Call != "":
			counts[call.Call] = float64(call.Count)
			if call.Failed != 0 || call.MeanMS <= 0 {
				t.Errorf("want no failures, and time taken: %s", line)
			}
		case request.Request != "":
			requests += request.Count
			counts[request.Request+" "+request.Code] = request.Count
		}
	}
	if counts["Members"] != 1 || counts["Self"] != 1 || counts["Health"] != 1 {
		t.Errorf("want each call once: %v", counts)
	}
	// The two requests that are reset are sent again below the transport that is observed.
	if counts["GET /v1/agent/members 503"] != 2 || requests != 3+2 {
		t.Errorf("want the attempts that failed, and one more for each call: %v", counts)
	}
	if spans.Traces != 3 || float64(spans.Spans) != 3+requests {
		t.Errorf("want a trace for each call and a span for it and each of its attempts, got %+v for %v", spans, counts)
	}
	if len(spans.Sample) != 1 || len(spans.Sample[0].Children) != 3 {
		t.Errorf("want one call with three attempts: %+v", spans.Sample)
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

// TestAgent runs the program on an agent that the environment names, with a token, and reads the tables.
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
		if again := run(t.Context(), []string{"-for", "500ms", "-interval", "20ms"}, io.Discard, io.Discard); again != want {
			t.Errorf("exit code %d, want %d", again, want)
		}
		if n := len(cluster.Agent("server-1").Requests()); n < 6 {
			t.Errorf("%d requests, want at least two rounds of three", n)
		}
		for _, text := range []string{"CALL", "Members ", "Self ", "Health ", "└─ GET /v1/agent/"} {
			if !strings.Contains(stdout, text) {
				t.Errorf("the output lacks %q:\n%s", text, stdout)
			}
		}
	}
}

// TestSpans looks at the spans themselves: whose children they are, and what they tell.
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
				t.Errorf("%s is no child of %s", child.Name, root.Name)
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

	var told strings.Builder
	for _, span := range all {
		fmt.Fprintln(&told, span.Name, span.Attributes, span.Events, span.Status.Description)
	}
	scrape := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
	told.WriteString(scrape.Body.String())
	withoutSecrets(t, told.String())
	for _, query := range []string{"secret-node", "region=", "?", "hunter2", "X-Nomad-Token"} {
		if strings.Contains(told.String(), query) {
			t.Errorf("%q is told:\n%s", query, told.String())
		}
	}
	if want := cluster.URL("server-1") + "/v1/agent/force-leave"; !strings.Contains(told.String(), want) {
		t.Errorf("%q is not told:\n%s", want, told.String())
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

// TestExitCodes runs the program where it can do nothing.
func TestExitCodes(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	t.Setenv("NOMAD_ADDR", "http://"+dead.Addr().String())
	for _, test := range []struct {
		args string
		code int
		text string
	}{
		{"-h", 0, "usage: observability"},
		{"-wrong", 2, "usage: observability"},
		{"argument", 2, "want no arguments"},
		{"-interval 0s", 2, "want no arguments"},
		{"-listen nonsense", 2, "nonsense"},
		{"-timeout 1s", 2, "connection refused"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.text) || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d; %s%s", test.args, code, test.code, &stdout, &stderr)
		}
	}
}

// scraped runs the program until its metrics tell of the first round of calls.
func scraped(t *testing.T, args ...string) (code int, stdout, stderr, metrics string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	notices := &notices{address: make(chan string, 1)}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, &out, notices) }()
	select {
	case code = <-ended:
	case address := <-notices.address:
		for !strings.Contains(metrics, `_count{call="Health"`) {
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

// notices are what the program writes on the standard error, and where it says that its metrics are.
type notices struct {
	bytes.Buffer
	address chan string
}

func (n *notices) Write(p []byte) (int, error) {
	if address, ok := strings.CutPrefix(string(p), "metrics are at "); ok {
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
