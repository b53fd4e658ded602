package crew

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"time"
)

// Job describes the calls that the goroutines of a worker process make.
type Job struct {
	Facts
	Client     string        // nomad-go, official or "official, lent" (with the connections of nomad-go)
	Call       string        // put for Join and ForceLeave, otherwise Members
	Goroutines int           // at least one
	Calls      int           // of all goroutines; 0 for no limit
	For        time.Duration // time after which no call starts
	MaxConns   int           // 0 for the default
	Timeout    time.Duration // 0 for the default
	Number     int           // worker number
}

// Result is the result of one or more jobs.
type Result struct {
	Latencies []time.Duration // of all calls
	Failures  int
	InTime    int            // calls that succeeded within the job's time
	Errors    map[string]int // number of each error
	Took      time.Duration
}

// Work runs each job in its own process.
//
// All jobs start at the same time, once all processes are ready. meanwhile runs concurrently, if it
// is not nil. The results have the order of the jobs.
func Work(ctx context.Context, jobs []Job, meanwhile func()) ([]Result, error) {
	workers := make([]*Process, len(jobs))
	defer func() {
		for _, worker := range workers {
			if worker != nil {
				worker.Stop()
			}
		}
	}()
	var err error
	for i, job := range jobs {
		if workers[i], err = Start(ctx, "worker", job); err != nil {
			return nil, err
		}
	}
	for _, worker := range workers {
		if err := worker.Hear(new(string)); err != nil {
			return nil, fmt.Errorf("a worker was not ready: %w", err)
		}
	}
	for _, worker := range workers {
		if err := worker.Say("go"); err != nil {
			return nil, fmt.Errorf("a worker: %w", err)
		}
	}
	var wg sync.WaitGroup
	if meanwhile != nil {
		wg.Go(meanwhile)
	}
	results := make([]Result, len(jobs))
	errs := make([]error, len(jobs))
	for i, worker := range workers {
		wg.Go(func() { errs[i] = worker.Hear(&results[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("workers: %w", err)
	}
	return results, nil
}

// beWorker runs a job and sends its result.
func beWorker(ctx context.Context, pipe *Pipe) error {
	var job Job
	if err := pipe.Hear(&job); err != nil {
		return err
	}
	call, err := job.caller()
	if err != nil {
		return err
	}
	log.SetOutput(io.Discard) // package http logs responses to idle connections
	if err := pipe.Say("ready"); err != nil {
		return err
	}
	if err := pipe.Hear(new(string)); err != nil {
		return err
	}
	return pipe.Say(job.Do(ctx, call))
}

// Do makes the calls of a job and passes each its number.
func (j Job) Do(ctx context.Context, call Caller) Result {
	var (
		next    atomic.Int64
		started = time.Now()
		all     = make([]Result, j.Goroutines)
		wg      sync.WaitGroup
	)
	for i := range all {
		mine := &all[i]
		mine.Errors = map[string]int{}
		wg.Go(func() {
			for n := next.Add(1); (j.Calls == 0 || n <= int64(j.Calls)) && time.Since(started) < j.For && ctx.Err() == nil; n = next.Add(1) {
				begun := time.Now()
				err := call(ctx, n)
				mine.Latencies = append(mine.Latencies, time.Since(begun))
				if err != nil {
					mine.Failures++
					mine.Errors[Shorten(err)]++
				} else if time.Since(started) < j.For {
					mine.InTime++
				}
			}
		})
	}
	wg.Wait()
	sum := Sum(all)
	sum.Took = time.Since(started)
	return sum
}
