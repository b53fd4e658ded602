package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// The metrics.
const (
	callDuration    = "nomad_client_call_duration_seconds"    // of each call, with all its attempts and the waits between them
	requestsTotal   = "nomad_client_requests_total"           // attempts; the code is "none" when no answer came
	requestDuration = "nomad_client_request_duration_seconds" // of each attempt that was answered, to the head of the answer
	requestsNow     = "nomad_client_requests_in_flight"
)

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
		calls: metrics.NewHistogramVec(prometheus.HistogramOpts{Name: callDuration,
			Help: "How long calls took, retries included."}, []string{"call", "result"}),
		requests: metrics.NewCounterVec(prometheus.CounterOpts{Name: requestsTotal,
			Help: "How many requests were sent, each retry counted."}, []string{"endpoint", "method", "code"}),
		durations: metrics.NewHistogramVec(prometheus.HistogramOpts{Name: requestDuration,
			Help: "How long answers took to begin."}, []string{"endpoint"}),
		inFlight: metrics.NewGauge(prometheus.GaugeOpts{Name: requestsNow,
			Help: "How many requests wait for an answer."}),
	}
}

// call makes a call of the library within a span of its own. The spans of its attempts become children of that one, as
// the library passes the context on to them.
func (o *observer) call(ctx context.Context, name string, do func(context.Context) error) error {
	ctx, span := o.tracer.Start(ctx, name)
	defer span.End()
	start, result := time.Now(), "ok"
	err := do(ctx)
	switch {
	case errors.Is(err, context.Canceled): // the program is ending, which is no fault of the agent's
		result = "canceled"
	case err != nil:
		result = "failed"
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error()) // the library keeps secrets out of its errors
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
		otelhttp.WithSpanNameFormatter(func(_ string, req *http.Request) string { return req.Method + " " + endpointOf(req) }))
}

// complete does what the two libraries leave undone. Spans have the whole URL in them: the query, which can name
// nodes, is taken out. (Neither has headers in it, such as X-Nomad-Token.) An attempt without an answer is not counted
// by promhttp: that is done here.
func (o *observer) complete(next http.RoundTripper) http.RoundTripper {
	return promhttp.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		withoutQuery := req.URL.Scheme + "://" + req.URL.Host + req.URL.EscapedPath()
		trace.SpanFromContext(req.Context()).SetAttributes(semconv.URLFull(withoutQuery), semconv.URLTemplate(endpointOf(req)))
		res, err := next.RoundTrip(req)
		if err != nil {
			o.requests.WithLabelValues(endpointOf(req), strings.ToLower(req.Method), "none").Inc()
		}
		return res, err
	})
}

// endpointOf is the path of a request without what differs from one request to the next, so that it makes few labels
// and span names.
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
