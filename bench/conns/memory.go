package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/bench/internal/crew"
)

// memory measures how much memory a Client keeps for agents that it has called once.
var memory = group{
	name: "memory",
	columns: []column{
		{key: "bytes_at_once", title: "bytes per address, at once"},
		{key: "bytes_later", title: "later"},
		{key: "goroutines", title: "goroutines later", worst: true},
		{key: "failed", title: "failed calls"},
		{key: "seconds", title: "seconds"},
	},
	rows: []row{{"addresses", "one With and one refused call per address", func(ctx context.Context, o options) (f figures, note string, err error) {
		process, err := crew.Start(ctx, "memory", memoryJob{o.addresses, o.idle})
		if err != nil {
			return nil, "", err
		}
		defer process.Stop()
		return f, "", process.Hear(&f)
	}}},
}

// memoryJob configures the process of the row.
type memoryJob struct {
	Addresses int
	Idle      time.Duration
}

func beMemory(ctx context.Context, pipe *crew.Pipe) error {
	var job memoryJob
	if err := pipe.Hear(&job); err != nil {
		return err
	}
	client, err := nomad.NewClient(nomad.WithRetries(0), nomad.WithTimeout(5*time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	var failed atomic.Int64
	if err := callAll(ctx, client, 1000, job.Addresses, &failed); err != nil { // warm up
		return err
	}
	time.Sleep(job.Idle)
	failed.Store(0)
	before, began := heap(), time.Now()
	if err := callAll(ctx, client, job.Addresses, 0, &failed); err != nil {
		return err
	}
	took := time.Since(began)
	at := func() float64 { return float64(heap()-before) / float64(job.Addresses) }
	f := figures{"bytes_at_once": at(), "failed": float64(failed.Load()), "seconds": took.Seconds()}
	time.Sleep(job.Idle)
	f["bytes_later"], f["goroutines"] = at(), float64(runtime.NumGoroutine())
	return pipe.Say(f)
}

// callAll calls n loopback addresses without a listener, starting at an offset.
func callAll(ctx context.Context, client *nomad.Client, n, from int, failed *atomic.Int64) error {
	var next atomic.Int64
	var work sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		work.Go(func() {
			for i := int(next.Add(1)); i <= n && ctx.Err() == nil; i = int(next.Add(1)) {
				i += from
				one, err := client.With(nomad.WithAddress(fmt.Sprintf("http://127.%d.%d.%d:1", 1+i>>16, i>>8&255, i&255)))
				if err != nil {
					errs <- err
					return
				}
				if crew.Members(ctx, one) != nil {
					failed.Add(1)
				}
			}
		})
	}
	work.Wait()
	close(errs)
	return <-errs
}

// heap returns the size of the heap in use. Objects with finalizers or in a sync.Pool need several
// collections.
func heap() int64 {
	var stats runtime.MemStats
	for range 4 {
		runtime.GC()
		time.Sleep(50 * time.Millisecond) // for finalizers
	}
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
