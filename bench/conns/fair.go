package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nomad-go/nomad/bench/internal/crew"
)

// fair measures many processes that share one agent.
var fair = group{
	name: "fair",
	columns: []column{
		{key: "least", title: "least"},
		{key: "most", title: "most"},
		{key: "ratio", title: "ratio", digits: 2},
		{key: "calls_per_second", title: "calls/s"},
		{key: "calls", title: "calls"},
		{key: "failed", title: "failed", worst: true},
		{key: "max_ms", title: "max ms", worst: true},
		{key: "repeated", title: "read twice", worst: true},
	},
	rows: []row{
		shared("8", "8 × 64 goroutines", 8, 64, crew.Setup{}, ""),
		shared("12", "12 × 64 goroutines", 12, 64, crew.Setup{}, ""),
		shared("20", "20 × 64 goroutines", 20, 64, crew.Setup{}, ""),
		shared("40", "40 × 64 goroutines", 40, 64, crew.Setup{}, ""),
		shared("8-tls", "8 × 64 goroutines, TLS", 8, 64, crew.Setup{TLS: true}, ""),
		shared("8-beside-90", "8 × 64 goroutines, another has 90 connections for 3 s", 8, 64, crew.Setup{}, "beside"),
		shared("20-put", "20 × 16 goroutines, Join and ForceLeave", 20, 16, crew.Setup{Count: true}, "put"),
	},
}

const (
	othersConns = 90
	othersTime  = 3 * time.Second
)

// shared returns a row whose processes call one agent.
func shared(name, about string, processes, goroutines int, setup crew.Setup, kind string) row {
	return row{name, about, func(ctx context.Context, o options) (figures, string, error) {
		agent, err := crew.StartAgent(ctx, setup)
		if err != nil {
			return nil, "", err
		}
		defer agent.Stop()
		jobs := make([]crew.Job, processes)
		for i := range jobs {
			jobs[i] = crew.Job{Facts: agent.Facts, Call: kind, Goroutines: goroutines, For: o.long(12 * time.Second), Number: i}
		}
		meanwhile, err := beside(agent, kind)
		if err != nil {
			return nil, "", err
		}
		results, err := crew.Work(ctx, jobs, meanwhile)
		if err != nil {
			return nil, "", err
		}
		state, err := agent.State()
		if err != nil {
			return nil, "", err
		}
		f, note := share(results, jobs[0].For)
		if setup.Count {
			f["repeated"] = float64(state.Repeated)
			if lost := int(f["calls"]) - state.Tokens; lost > 0 {
				note += fmt.Sprintf(" (%d calls did not reach the agent)", lost)
			}
		}
		return f, note, nil
	}}
}

// beside takes connections of the agent before the workers do. The returned function releases them
// after a time.
func beside(agent *crew.Agent, kind string) (meanwhile func(), err error) {
	if kind != "beside" {
		return nil, nil
	}
	held, err := hold(agent, othersConns)
	if err != nil {
		return nil, err
	}
	return func() {
		time.Sleep(othersTime)
		held.release()
	}, nil
}

// share compares the calls of the processes.
func share(results []crew.Result, span time.Duration) (figures, string) {
	sum := crew.Sum(results)
	f := load(sum, span)
	least, most := results[0].InTime, results[0].InTime
	for _, one := range results {
		least, most = min(least, one.InTime), max(most, one.InTime)
	}
	f["least"], f["most"], f["ratio"] = float64(least), float64(most), float64(most)/float64(max(least, 1))
	return f, sum.Error()
}
