package main

import (
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/bench/internal/crew"
)

// blocking measures calls while blocking queries of the same Client are waiting.
var blocking = group{
	name: "blocking",
	columns: []column{
		{key: "alone", title: "Members/s alone"},
		{key: "beside", title: "beside"},
		{key: "failed", title: "failed", worst: true},
		{key: "max_ms", title: "max ms"},
		{key: "blocking", title: "blocking"},
		{key: "blocking_failed", title: "failed", worst: true},
		{key: "blocking_max_s", title: "max s", digits: 1},
		{key: "connections", title: "connections", worst: true},
	},
	rows: []row{{"64", "16 goroutines with Members beside 64 with blocking queries", besideBlocking}},
}

const blockingGoroutines = 64

// besideBlocking makes calls in another process, alone and then beside blocking queries.
func besideBlocking(ctx context.Context, o options) (f figures, note string, err error) {
	agent, err := crew.StartAgent(ctx, crew.Setup{})
	if err != nil {
		return nil, "", err
	}
	defer agent.Stop()
	process, err := crew.Start(ctx, "blocking", crew.Job{Facts: agent.Facts, Goroutines: 16, For: o.long(10 * time.Second)})
	if err != nil {
		return nil, "", err
	}
	defer process.Stop()
	var r blockingResult
	if err := process.Hear(&r); err != nil {
		return nil, "", err
	}
	state, err := agent.State()
	r.Figures["connections"] = float64(state.Most)
	return r.Figures, r.Note, err
}

type blockingResult struct {
	Figures figures
	Note    string
}

// beBlocking is the process of besideBlocking. Each query blocks for as long as the calls are made;
// new queries start until the calls end.
func beBlocking(ctx context.Context, pipe *crew.Pipe) error {
	var job crew.Job
	if err := pipe.Hear(&job); err != nil {
		return err
	}
	client, err := nomad.NewClient(job.Options()...)
	if err != nil {
		return err
	}
	defer client.Close()
	members := func(ctx context.Context, _ int64) error { return crew.Members(ctx, client) }
	alone := job.Do(ctx, members)

	queries := crew.Job{Goroutines: blockingGoroutines, For: job.For}
	var blocked crew.Result
	var finished atomic.Int64
	var work sync.WaitGroup
	work.Go(func() {
		blocked = queries.Do(ctx, func(ctx context.Context, _ int64) error {
			err := blockingQuery(ctx, client, job.For)
			if err == nil {
				finished.Add(1)
			}
			return err
		})
	})
	time.Sleep(100 * time.Millisecond) // let the queries start
	beside := job.Do(ctx, members)
	work.Wait()
	note := beside.Error()
	if blocked.Failures > 0 {
		note += " (blocking: " + blocked.Error() + ")"
	}
	return pipe.Say(blockingResult{figures{
		"alone":           float64(alone.InTime) / job.For.Seconds(),
		"beside":          float64(beside.InTime) / job.For.Seconds(),
		"failed":          float64(alone.Failures + beside.Failures),
		"max_ms":          beside.At(1),
		"blocking":        float64(finished.Load()),
		"blocking_failed": float64(blocked.Failures),
		"blocking_max_s":  blocked.At(1) / 1000,
	}, note})
}

// blockingQuery makes a call to which the agent responds after wait.
func blockingQuery(ctx context.Context, client *nomad.Client, wait time.Duration) error {
	query := url.Values{"index": {"1"}, "wait": {wait.String()}}
	_, err := client.Do(ctx, &nomad.Request{Path: crew.BlockingPath, Query: query}, nil)
	return err
}
