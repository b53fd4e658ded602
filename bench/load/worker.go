package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	official "github.com/hashicorp/nomad/api"

	"github.com/nomad-go/nomad"
)

// job is what a worker process does, and result what came of it.
type job struct {
	Client     string
	Address    string
	Goroutines int
	Calls      int
	Limit      time.Duration
}

type result struct {
	Latencies []time.Duration // of all calls
	Failures  int
	Errors    map[string]int
	Took      time.Duration
}

// startWorker runs a job in a process of its own.
func startWorker(ctx context.Context, j job) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	worker := exec.CommandContext(ctx, self, "-be-worker", string(text))
	worker.Stderr = os.Stderr
	output, err := worker.Output()
	if err != nil {
		return r, fmt.Errorf("a worker: %w", err)
	}
	return r, json.Unmarshal(output, &r)
}

// beWorker does a job and prints the result.
func beWorker(ctx context.Context, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	call, err := j.client()
	if err != nil {
		return err
	}
	log.SetOutput(io.Discard) // where package http tells of refusals that nobody waited for
	var (
		next    atomic.Int64
		started = time.Now()
		all     = make([]result, j.Goroutines)
		wg      sync.WaitGroup
	)
	for i := range all {
		mine := &all[i]
		mine.Errors = map[string]int{}
		wg.Go(func() {
			for next.Add(1) <= int64(j.Calls) && time.Since(started) < j.Limit && ctx.Err() == nil {
				begun := time.Now()
				err := call(ctx)
				mine.Latencies = append(mine.Latencies, time.Since(begun))
				if err != nil {
					mine.Failures++
					mine.Errors[shorten(err)]++
				}
			}
		})
	}
	wg.Wait()
	sum := result{Errors: map[string]int{}, Took: time.Since(started)}
	for _, one := range all {
		sum.Latencies = append(sum.Latencies, one.Latencies...)
		sum.Failures += one.Failures
		for text, n := range one.Errors {
			sum.Errors[text] += n
		}
	}
	return json.NewEncoder(os.Stdout).Encode(sum)
}

// client makes the client of a job, as its documentation says: one for the whole process, with its defaults.
func (j job) client() (func(context.Context) error, error) {
	if j.Client == "official" {
		client, err := official.NewClient(&official.Config{Address: j.Address})
		if err != nil {
			return nil, err
		}
		return func(context.Context) error { // its call takes no context
			members, err := client.Agent().Members()
			return atLeastOne(err, func() int { return len(members.Members) })
		}, nil
	}
	client, err := nomad.NewClient(nomad.WithAddress(j.Address))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		members, err := client.Agent.Members(ctx)
		return atLeastOne(err, func() int { return len(members.Members) })
	}, nil
}

// atLeastOne takes an answer without a member for a failure, too.
func atLeastOne(err error, members func() int) error {
	if err == nil && members() == 0 {
		return fmt.Errorf("no members")
	}
	return err
}
