// Observability makes OpenTelemetry spans and Prometheus metrics of what a client does. It calls an
// agent again and again, serves the metrics meanwhile, and prints a summary of the spans at the end.
// What a program of your own needs is the type observer. Run it with -h for its flags, and with -demo
// to try it without an agent.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

const usage = `Observability makes spans and metrics of calls to a Nomad agent.

usage: observability [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set),
and changes nothing. Without -for it ends when it is interrupted. Metrics are at
/metrics of the address that it prints.

exit codes:
  0  all calls succeeded, some perhaps after retries
  1  some calls failed
  2  wrong usage, the first call got no response, the address of -listen
     cannot be used, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "observability:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("observability", flag.ContinueOnError)
	interval := flags.Duration("interval", 500*time.Millisecond, "time between two rounds of calls")
	duration := flags.Duration("for", 0, "how long to go on; 0 means until interrupted, or 2s with -demo")
	listen := flags.String("listen", "127.0.0.1:0", "`address` to serve /metrics on")
	timeout := flags.Duration("timeout", 10*time.Second, "time limit of a call, with its retries")
	asJSON := flags.Bool("json", false, "print a JSON object for each name of spans, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory that fails some requests")
	var help bytes.Buffer
	flags.SetOutput(&help)
	flags.Usage = func() {
		help.WriteString(usage)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		if _, err := help.WriteTo(stdout); err != nil {
			return 2, err
		}
		return 0, nil
	case err != nil:
		return 2, fmt.Errorf("%w (see -h)", err)
	case flags.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0))
	case *interval <= 0:
		return 2, fmt.Errorf("-interval %v: want more than 0", *interval)
	case *timeout <= 0:
		return 2, fmt.Errorf("-timeout %v: want more than 0", *timeout)
	case *duration < 0:
		return 2, fmt.Errorf("-for %v: want 0 or more", *duration)
	}

	spans := &summary{rows: map[string]*row{}}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer provider.Shutdown(context.WithoutCancel(ctx))
	registry := prometheus.NewRegistry()
	o := newObserver(provider, registry)

	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "observability: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3))
		defer cluster.Close()
		cluster.Agent("server-1").Inject(nomadtest.Status(503, "busy"), nomadtest.On("members"), nomadtest.Times(2))
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		if *duration == 0 {
			*duration = 2 * time.Second
		}
	}
	client, err := nomad.NewClient(append(options, nomad.WithTimeout(*timeout), nomad.WithTransport(o.transport))...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return 2, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer server.Close()
	go server.Serve(listener)
	fmt.Fprintf(stderr, "observability: metrics are at http://%s/metrics\n", listener.Addr())

	failed, err := o.watch(ctx, client.Agent, *interval, *duration, stderr)
	if err != nil {
		return 2, err
	}
	if err := spans.show(stdout, *asJSON); err != nil {
		return 2, err
	}
	if failed > 0 {
		return 1, nil
	}
	return 0, nil
}

// watch makes the calls until the duration is over (0 is never) or the context ends, and returns how
// many failed. It gives up if the first has no response.
func (o *observer) watch(
	ctx context.Context, agent *nomad.Agent, interval, duration time.Duration, stderr io.Writer,
) (failed int, err error) {
	calls := map[string]func(context.Context) error{
		"Members": func(ctx context.Context) error { _, err := agent.Members(ctx); return err },
		"Self":    func(ctx context.Context) error { _, err := agent.Self(ctx); return err },
		"Health":  func(ctx context.Context) error { _, err := agent.Health(ctx); return err },
	}
	var end <-chan time.Time
	if duration > 0 {
		end = time.After(duration)
	}
	for first := true; ; {
		for _, name := range slices.Sorted(maps.Keys(calls)) {
			err := o.call(ctx, name, calls[name])
			if ctx.Err() != nil {
				return failed, nil
			}
			if response := new(nomad.APIError); first && err != nil && !errors.As(err, &response) {
				return failed, err
			}
			if err != nil {
				failed++
				fmt.Fprintln(stderr, "observability:", err)
			}
			first = false
		}
		select {
		case <-ctx.Done():
			return failed, nil
		case <-end:
			return failed, nil
		case <-time.After(interval):
		}
	}
}

// observer makes spans and metrics of what a nomad.Client does.
type observer struct {
	provider  trace.TracerProvider
	tracer    trace.Tracer
	calls     *prometheus.HistogramVec
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	inFlight  prometheus.Gauge
}

func newObserver(provider trace.TracerProvider, registry prometheus.Registerer) *observer {
	metrics := promauto.With(registry)
	return &observer{
		provider: provider,
		tracer:   provider.Tracer("github.com/nomad-go/nomad/examples/observability"),
		calls: metrics.NewHistogramVec(prometheus.HistogramOpts{Name: "nomad_client_call_duration_seconds",
			Help: "Duration of calls, with all attempts and the waits between them."}, []string{"call", "result"}),
		requests: metrics.NewCounterVec(prometheus.CounterOpts{Name: "nomad_client_requests_total",
			Help: "Number of attempts; the code is none if there was no response."}, []string{"endpoint", "method", "code"}),
		durations: metrics.NewHistogramVec(prometheus.HistogramOpts{Name: "nomad_client_request_duration_seconds",
			Help: "Duration of attempts, up to the headers of the response."}, []string{"endpoint"}),
		inFlight: metrics.NewGauge(prometheus.GaugeOpts{Name: "nomad_client_requests_in_flight",
			Help: "Number of attempts that wait for a response."}),
	}
}

// call makes a call of the library within a span. The spans of its attempts become children of that
// span, because the library passes the context on to them.
func (o *observer) call(ctx context.Context, name string, do func(context.Context) error) error {
	ctx, span := o.tracer.Start(ctx, name)
	defer span.End()
	start, result := time.Now(), "ok"
	err := do(ctx)
	switch {
	case errors.Is(err, context.Canceled): // The program is ending, which is not the agent's fault.
		result = "canceled"
	case err != nil:
		result = "failed"
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error()) // The library keeps secrets out of its errors.
	}
	o.calls.WithLabelValues(name, result).Observe(time.Since(start).Seconds())
	return err
}

// transport is for nomad.WithTransport. It makes a span and metrics of each attempt.
func (o *observer) transport(next http.RoundTripper) http.RoundTripper {
	endpoint := promhttp.WithLabelFromRequest("endpoint", endpointOf)
	next = promhttp.InstrumentRoundTripperInFlight(o.inFlight, next)
	next = promhttp.InstrumentRoundTripperDuration(o.durations, next, endpoint)
	next = promhttp.InstrumentRoundTripperCounter(o.requests, next, endpoint)
	return otelhttp.NewTransport(o.complete(next),
		otelhttp.WithTracerProvider(o.provider),
		otelhttp.WithSpanNameFormatter(func(_ string, req *http.Request) string {
			return req.Method + " " + endpointOf(req)
		}))
}

// complete adds what the two libraries lack. Spans of otelhttp have the whole URL: it removes the query,
// which can name nodes. (Headers, such as X-Nomad-Token, are not in spans.) And promhttp does not count
// attempts without a response.
func (o *observer) complete(next http.RoundTripper) http.RoundTripper {
	return promhttp.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		url := req.URL.Scheme + "://" + req.URL.Host + req.URL.EscapedPath()
		trace.SpanFromContext(req.Context()).SetAttributes(semconv.URLFull(url), semconv.URLTemplate(endpointOf(req)))
		res, err := next.RoundTrip(req)
		if err != nil {
			o.requests.WithLabelValues(endpointOf(req), strings.ToLower(req.Method), "none").Inc()
		}
		return res, err
	})
}

// endpointOf returns the path of a request without what varies, so that there are few labels and names of spans.
func endpointOf(req *http.Request) string {
	_, path, ok := strings.Cut(req.URL.Path, "/v1/agent/")
	switch {
	case !ok:
		return "other"
	case strings.HasPrefix(path, "pprof/"):
		return "/v1/agent/pprof/{profile}"
	default:
		return "/v1/agent/" + path
	}
}

// summary is an exporter that counts spans by their name. A program of your own has one that sends
// them somewhere, such as otlptracehttp, and gives it to sdktrace.WithBatcher.
type summary struct {
	mu   sync.Mutex
	rows map[string]*row
}

// row is about the spans of one name.
type row struct {
	Span   string  `json:"span"`
	Count  int     `json:"count"`
	Failed int     `json:"failed"`
	MeanMS float64 `json:"mean_ms"`
}

// ExportSpans implements sdktrace.SpanExporter.
func (s *summary) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range spans {
		r := s.rows[span.Name()]
		if r == nil {
			r = &row{Span: span.Name()}
			s.rows[r.Span] = r
		}
		r.Count++
		if span.Status().Code == codes.Error {
			r.Failed++
		}
		ms := float64(span.EndTime().Sub(span.StartTime())) / float64(time.Millisecond)
		r.MeanMS += (ms - r.MeanMS) / float64(r.Count)
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (s *summary) Shutdown(context.Context) error { return nil }

// show prints the rows as a table or as JSON.
func (s *summary) show(w io.Writer, asJSON bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text bytes.Buffer
	if !asJSON {
		fmt.Fprintf(&text, "%-48s  %8s  %8s  %s\n", "SPAN", "COUNT", "FAILED", "MEAN")
	}
	lines := json.NewEncoder(&text)
	for _, name := range slices.Sorted(maps.Keys(s.rows)) {
		r := s.rows[name]
		if !asJSON {
			fmt.Fprintf(&text, "%-48.48s  %8d  %8d  %.2f ms\n", r.Span, r.Count, r.Failed, r.MeanMS)
		} else if err := lines.Encode(r); err != nil {
			return err
		}
	}
	_, err := text.WriteTo(w)
	return err
}
