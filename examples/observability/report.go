package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// recorder is an exporter that counts spans and keeps the trace that has the most of them. A program of your own has one
// that sends them somewhere, such as otlptracehttp, and gives it to sdktrace.WithBatcher.
type recorder struct {
	mu     sync.Mutex
	spans  int
	traces int
	open   map[trace.TraceID][]sdktrace.ReadOnlySpan // whose root has not ended
	sample []sdktrace.ReadOnlySpan
}

func newRecorder() *recorder {
	return &recorder{open: map[trace.TraceID][]sdktrace.ReadOnlySpan{}}
}

// ExportSpans takes spans that have ended. The root is the last of its trace.
func (r *recorder) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, span := range spans {
		id := span.SpanContext().TraceID()
		r.spans++
		r.open[id] = append(r.open[id], span)
		if span.Parent().IsValid() {
			continue
		}
		r.traces++
		if len(r.open[id]) > len(r.sample) {
			r.sample = r.open[id]
		}
		delete(r.open, id)
	}
	return nil
}

// Shutdown has nothing to do.
func (r *recorder) Shutdown(context.Context) error { return nil }

// node is a span in the tree of its trace.
type node struct {
	Span     string  `json:"span"`
	MS       float64 `json:"ms"`
	Result   string  `json:"result"` // the status of an attempt, what went wrong, or ok
	Children []node  `json:"children,omitempty"`
}

// treeOf gives the spans below a parent, in the order in which they ended.
func treeOf(spans []sdktrace.ReadOnlySpan, parent trace.SpanID) []node {
	var nodes []node
	for _, span := range spans {
		if span.Parent().SpanID() != parent {
			continue
		}
		n := node{Span: span.Name(), MS: milliseconds(span.EndTime().Sub(span.StartTime())), Result: "ok"}
		if why := span.Status().Description; why != "" {
			n.Result = why
		}
		for _, attribute := range span.Attributes() {
			if attribute.Key == semconv.HTTPResponseStatusCodeKey {
				n.Result = attribute.Value.String()
			}
		}
		n.Children = treeOf(spans, span.SpanContext().SpanID())
		nodes = append(nodes, n)
	}
	return nodes
}

// print writes a tree in lines, the first of which begins with one thing and the others with another.
func (n node) print(w io.Writer, first, rest string) {
	fmt.Fprintf(w, "%s%s\t%.2f ms\t%s\n", first, n.Span, n.MS, n.Result)
	for i, child := range n.Children {
		if i < len(n.Children)-1 {
			child.print(w, rest+"├─ ", rest+"│  ")
		} else {
			child.print(w, rest+"└─ ", rest+"   ")
		}
	}
}

// These are the lines of the report.
type (
	callRow struct {
		Call   string  `json:"call"`
		Count  uint64  `json:"count"`
		Failed uint64  `json:"failed"`
		MeanMS float64 `json:"mean_ms"`
		total  float64 // seconds
	}
	requestRow struct {
		Request string  `json:"request"`
		Code    string  `json:"code"`
		Count   float64 `json:"count"`
	}
	spanRow struct {
		Spans  int    `json:"spans"`
		Traces int    `json:"traces"`
		Sample []node `json:"sample"`
	}
)

// rows reads the metrics as a scrape would. Those of one call come one after the other.
func rows(registry prometheus.Gatherer) (calls []callRow, requests []requestRow, err error) {
	families, err := registry.Gather()
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			label := map[string]string{}
			for _, pair := range metric.GetLabel() {
				label[pair.GetName()] = pair.GetValue()
			}
			switch family.GetName() {
			case callDuration:
				if len(calls) == 0 || calls[len(calls)-1].Call != label["call"] {
					calls = append(calls, callRow{Call: label["call"]})
				}
				row := &calls[len(calls)-1]
				row.Count += metric.GetHistogram().GetSampleCount()
				row.total += metric.GetHistogram().GetSampleSum()
				if label["result"] == "failed" {
					row.Failed += metric.GetHistogram().GetSampleCount()
				}
				row.MeanMS = milliseconds(time.Duration(row.total / float64(row.Count) * float64(time.Second)))
			case requestsTotal:
				request := strings.ToUpper(label["method"]) + " " + label["endpoint"]
				requests = append(requests, requestRow{request, label["code"], metric.GetCounter().GetValue()})
			}
		}
	}
	slices.SortStableFunc(requests, func(a, b requestRow) int { return cmp.Compare(a.Request, b.Request) })
	return calls, requests, err
}

// report prints what the metrics and the spans say, and reports whether all calls succeeded.
func report(w io.Writer, registry prometheus.Gatherer, r *recorder, asJSON bool) (ok bool, err error) {
	calls, requests, err := rows(registry)
	if err != nil {
		return false, err
	}
	ok = true
	for _, row := range calls {
		ok = ok && row.Failed == 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := spanRow{r.spans, r.traces, treeOf(r.sample, trace.SpanID{})}

	if asJSON {
		lines := json.NewEncoder(w)
		for _, row := range calls {
			err = errors.Join(err, lines.Encode(row))
		}
		for _, row := range requests {
			err = errors.Join(err, lines.Encode(row))
		}
		return ok, errors.Join(err, lines.Encode(spans))
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CALL\tCOUNT\tFAILED\tMEAN")
	for _, row := range calls {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.2f ms\n", row.Call, row.Count, row.Failed, row.MeanMS)
	}
	fmt.Fprintln(table, "\nREQUEST\tCODE\tCOUNT")
	for _, row := range requests {
		fmt.Fprintf(table, "%s\t%s\t%.0f\n", row.Request, row.Code, row.Count)
	}
	fmt.Fprintf(table, "\n%d spans in %d traces, of which the largest is:\n\n", spans.Spans, spans.Traces)
	for _, root := range spans.Sample {
		root.print(table, "", "")
	}
	return ok, table.Flush()
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
