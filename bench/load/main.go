// Command load compares this library with Nomad's official client under load.
//
// Many goroutines in one or more processes call Members of one agent, which accepts 100 connections
// from one address. The command prints a table with the latencies and failures of each client.
//
//	go run ./load          # a new agent in memory for each row
//	go run ./load -real    # a real agent, run from the binary in NOMAD_BIN
//
// With NOMAD_ADDR it calls the agent at that address. The agent, the clients and this command run in
// separate processes. The exit code is 1 if a call of this library failed, or if the library had more
// connections than its limit.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/bench/internal/crew"
)

// row is a line of the table.
type row struct {
	Client     string  `json:"client"`
	Processes  int     `json:"processes"`
	Goroutines int     `json:"goroutines"` // per process
	Calls      int     `json:"calls"`      // of all processes
	Failures   int     `json:"failures"`
	Rate       float64 `json:"calls_per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	Open       int     `json:"connections"` // maximum at once
	Error      string  `json:"error,omitempty"`
	Took       float64 `json:"seconds"`
}

func main() {
	crew.Main(nil)
	calls := flag.Int("calls", 100_000, "how many calls for each row")
	limit := flag.Duration("limit", time.Minute, "maximum time of a row; calls until then are counted")
	real := flag.Bool("real", false, "run a real agent from the binary in NOMAD_BIN")
	only := flag.String("client", "", "run only one client: nomad-go, official, or \"official, lent\" (the official client with the connections of nomad-go)")
	asJSON := flag.Bool("json", false, "print one line of JSON for each row")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "Calls one agent from many goroutines and processes, with this client and the official one.\n\nusage: load [flags]\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	if err := run(ctx, *calls, *limit, *real, *only, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run runs all rows and prints them.
func run(ctx context.Context, calls int, limit time.Duration, real bool, only string, asJSON bool) error {
	var rows []row
	for _, shape := range []struct{ processes, goroutines int }{{1, 1}, {1, 16}, {1, 256}, {1, 1000}, {1, 10_000}, {8, 64}} {
		for _, client := range []string{"nomad-go", "official, lent", "official"} {
			if only == "" || only == client {
				rows = append(rows, row{Client: client, Processes: shape.processes, Goroutines: shape.goroutines})
			}
		}
	}
	var failed []error
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(os.Stderr, "%d of %d: %s, %d × %d goroutines, up to %v …\n", i+1, len(rows), r.Client, r.Processes, r.Goroutines, limit)
		if err := r.run(ctx, calls, limit, real); err != nil {
			return err
		}
		if r.Client != "nomad-go" {
			continue
		}
		if r.Failures > 0 {
			failed = append(failed, fmt.Errorf("%d × %d goroutines: %d calls failed: %s", r.Processes, r.Goroutines, r.Failures, r.Error))
		}
		if most := r.Processes * nomad.DefaultMaxConns; r.Open > most {
			failed = append(failed, fmt.Errorf("%d × %d goroutines: %d connections at once, want at most %d", r.Processes, r.Goroutines, r.Open, most))
		}
	}
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		for _, r := range rows {
			if err := encoder.Encode(r); err != nil {
				return err
			}
		}
		return errors.Join(failed...)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "processes × goroutines\tclient\tcalls\tfailed\tcalls/s\tp50 ms\tp99 ms\tmax ms\tconnections\t")
	for _, r := range rows {
		fmt.Fprintf(table, "%d × %d\t%s\t%d\t%.1f %%\t%.0f\t%.2f\t%.2f\t%.0f\t%d\t\n", r.Processes, r.Goroutines, r.Client, r.Calls,
			100*float64(r.Failures)/float64(max(r.Calls, 1)), r.Rate, r.P50, r.P99, r.Max, r.Open)
	}
	table.Flush()
	for _, r := range rows {
		if r.Error != "" {
			fmt.Printf("%s, %d × %d, most often: %s\n", r.Client, r.Processes, r.Goroutines, r.Error)
		}
	}
	return errors.Join(failed...)
}

// run runs a row against its own agent.
func (r *row) run(ctx context.Context, calls int, limit time.Duration, real bool) error {
	agent, err := startAgent(ctx, real)
	if err != nil {
		return err
	}
	defer agent.Stop()
	jobs := make([]crew.Job, r.Processes)
	for i := range jobs {
		jobs[i] = crew.Job{Facts: agent.Facts, Client: r.Client, Goroutines: r.Goroutines, Calls: calls / r.Processes, For: limit}
	}
	results, err := crew.Work(ctx, jobs, nil)
	if err != nil {
		return err
	}
	sum := crew.Sum(results)
	r.Calls, r.Failures, r.Error, r.Took = sum.Calls(), sum.Failures, sum.Error(), sum.Took.Seconds()
	r.Rate = float64(r.Calls-r.Failures) / r.Took
	r.P50, r.P99, r.Max = sum.At(.5), sum.At(.99), sum.At(1)
	state, err := agent.State()
	r.Open = state.Most
	return err
}

// startAgent starts an agent in memory or a real one, or uses the agent at NOMAD_ADDR.
func startAgent(ctx context.Context, real bool) (*crew.Agent, error) {
	if address := os.Getenv("NOMAD_ADDR"); address != "" {
		time.Sleep(11 * time.Second) // so that the agent again responds to 100 refused connections
		return crew.Watched(address, func() {})
	}
	if real {
		return crew.StartReal(ctx)
	}
	return crew.StartAgent(ctx, crew.Setup{})
}
