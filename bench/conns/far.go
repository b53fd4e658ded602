package main

import (
	"context"
	"time"

	"github.com/nomad-go/nomad/bench/internal/crew"
)

// far measures one process and an agent with a long round-trip time.
var far = group{
	name: "far",
	columns: []column{
		{key: "calls_per_second", title: "calls/s"},
		{key: "calls", title: "calls"},
		{key: "failed", title: "failed", worst: true},
		{key: "failed_percent", title: "failed %", digits: 2, worst: true},
		{key: "p50_ms", title: "p50 ms"},
		{key: "max_ms", title: "max ms"},
		{key: "connections", title: "connections", worst: true},
	},
	rows: []row{
		{"100ms", "RTT 100 ms, 200 goroutines", distant(100*time.Millisecond, 10*time.Second, crew.Job{Goroutines: 200})},
		{"100ms-96", "RTT 100 ms, 200 goroutines, WithMaxConns(96)",
			distant(100*time.Millisecond, 10*time.Second, crew.Job{Goroutines: 200, MaxConns: 96})},
		{"100ms-official", "RTT 100 ms, 200 goroutines, the official client",
			distant(100*time.Millisecond, 10*time.Second, crew.Job{Goroutines: 200, Client: "official"})},
		{"100ms-6000", "RTT 100 ms, 6,000 goroutines, WithTimeout(30 s)",
			distant(100*time.Millisecond, 20*time.Second, crew.Job{Goroutines: 6000, Timeout: 30 * time.Second})},
		{"20ms", "RTT 20 ms, 200 goroutines", distant(20*time.Millisecond, 10*time.Second, crew.Job{Goroutines: 200})},
	},
}

// distant runs a job against an agent with a round-trip time.
func distant(rtt, usual time.Duration, job crew.Job) func(context.Context, options) (figures, string, error) {
	return func(ctx context.Context, o options) (figures, string, error) {
		agent, err := crew.StartAgent(ctx, crew.Setup{RTT: rtt})
		if err != nil {
			return nil, "", err
		}
		defer agent.Stop()
		job := job
		job.Facts, job.For = agent.Facts, o.long(usual)
		results, err := crew.Work(ctx, []crew.Job{job}, nil)
		if err != nil {
			return nil, "", err
		}
		state, err := agent.State()
		if err != nil {
			return nil, "", err
		}
		sum := crew.Sum(results)
		f := load(sum, job.For)
		f["p50_ms"], f["connections"] = sum.At(.5), float64(state.Most)
		return f, sum.Error(), nil
	}
}

// load returns the figures of all rows with many calls.
func load(sum crew.Result, span time.Duration) figures {
	return figures{
		"calls_per_second": float64(sum.InTime) / span.Seconds(),
		"calls":            float64(sum.Calls()),
		"failed":           float64(sum.Failures),
		"failed_percent":   100 * float64(sum.Failures) / float64(max(sum.Calls(), 1)),
		"max_ms":           sum.At(1),
	}
}
