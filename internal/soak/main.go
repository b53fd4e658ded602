// Command soak runs one Client for a while against an agent that restarts, stalls, resets connections, answers nonsense
// and rotates its certificates and token, and shows that the Client's goroutines, connections and heap stay as they are.
//
//	go run ./internal/soak -for 10m
//
// The agent is in memory, in a process of its own. Once a minute the calls pause until idle connections are closed, and
// what is left is counted. The exit status is 1 when that grew, or when a call failed for a reason that the agent did
// not give it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
)

func main() {
	span := flag.Duration("for", 10*time.Minute, "how long")
	workers := flag.Int("goroutines", 32, "how many make calls")
	agent := flag.String("agent", "", "used by this command itself")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "Calls an agent that restarts, stalls, resets and rotates its certificate and token, and counts what is left behind.\n\nusage: soak [flags]\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *agent != "" {
		err = beAgent(ctx, *agent)
	} else {
		err = soak(ctx, *span, *workers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak starts the agent and calls it.
func soak(ctx context.Context, span time.Duration, workers int) error {
	folder, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	agent := exec.Command(self, "-agent", folder)
	agent.Stderr = os.Stderr
	alive, err := agent.StdinPipe() // the agent ends when this process does
	if err != nil {
		return err
	}
	facts, err := agent.StdoutPipe()
	if err != nil {
		return err
	}
	if err := agent.Start(); err != nil {
		return err
	}
	defer agent.Wait()
	defer alive.Close()
	var address, ca, cert, key, token string
	if _, err := fmt.Fscanln(facts, &address, &ca, &cert, &key, &token); err != nil {
		return fmt.Errorf("the agent did not start: %w", err)
	}
	did := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(facts)
		did <- string(text)
	}()

	client, err := nomad.NewClient(
		nomad.WithAddress(address),
		nomad.WithTLS(nomad.TLS{CAFile: ca, CertFile: cert, KeyFile: key}),
		nomad.WithTokenFile(token),
		nomad.WithTimeout(5*time.Second),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	w := &work{client: client, failures: map[string]int{}}
	ctx, cancel := context.WithTimeout(ctx, span+2*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	for i := range workers {
		running.Go(func() { w.loop(ctx, i) })
	}
	err = w.watch(ctx, span)
	cancel()
	running.Wait()
	alive.Close()
	fmt.Printf("\nThe agent: %s", <-did)
	return err
}

// work is the calls and what became of them.
type work struct {
	client *nomad.Client
	pause  sync.RWMutex // held by those who make a call

	calls, streams, entries atomic.Int64

	mu       sync.Mutex
	failures map[string]int
	own      error // the first error that the agent did not cause
}

// loop makes calls until the context ends.
func (w *work) loop(ctx context.Context, i int) {
	for ctx.Err() == nil {
		w.pause.RLock()
		err := w.call(ctx, i)
		w.pause.RUnlock()
		w.calls.Add(1)
		if err != nil && ctx.Err() == nil {
			why := reason(err)
			w.mu.Lock()
			w.failures[why]++
			if w.own == nil && strings.HasPrefix(why, "!") {
				w.own = err
				fmt.Fprintf(os.Stderr, "\n%v a call failed by itself: %v\n", time.Now().Format(time.TimeOnly), err)
			}
			w.mu.Unlock()
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
}

func (w *work) call(ctx context.Context, i int) error {
	agent := w.client.Agent
	var err error
	switch i % 8 {
	case 0: // a stream, read for a while
		ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Millisecond)
		defer cancel()
		logs, err := agent.Monitor(ctx, nomad.MonitorOptions{JSON: true})
		if err != nil {
			return unlessOver(ctx, err)
		}
		w.streams.Add(1)
		for _, err := range logs.Entries() {
			if err != nil {
				return unlessOver(ctx, err)
			}
			w.entries.Add(1)
		}
	case 1:
		_, err = agent.Self(ctx)
	case 2:
		_, err = agent.Health(ctx)
	case 3: // a caller that gives up
		ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(5000))*time.Microsecond)
		defer cancel()
		_, err = agent.Members(ctx)
		return unlessOver(ctx, err)
	default:
		_, err = agent.Members(ctx)
	}
	return err
}

// unlessOver forgives an error of a context that the caller ended.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// reason puts failures into groups. Those that begin with "!" are none of the agent's faults.
func reason(err error) string {
	var answer *nomad.APIError
	var timeout net.Error
	switch {
	case errors.Is(err, nomad.ErrInvalidToken) && strings.Contains(err.Error(), "ended the log before its first entry"):
		return "cut short or garbage" // the log, and the request that finds out why
	case errors.Is(err, nomad.ErrPermissionDenied):
		return "!denied"
	case strings.Contains(err.Error(), "certificate"):
		return "!certificate"
	case errors.As(err, &answer):
		return fmt.Sprintf("status %d", answer.StatusCode)
	case errors.Is(err, nomad.ErrStreamStalled):
		return "stalled"
	case errors.Is(err, context.DeadlineExceeded):
		return "out of time"
	case errors.Is(err, nomad.ErrInvalidResponse):
		return "cut short or garbage"
	case strings.Contains(err.Error(), "connection refused"):
		return "refused"
	case strings.Contains(err.Error(), "reset by peer"), strings.Contains(err.Error(), "EOF"), strings.Contains(err.Error(), "broken pipe"):
		return "reset"
	case errors.As(err, &timeout):
		return "timeout"
	}
	return "!" + err.Error()
}

// sample is what is left of a Client when it has nothing to do.
type sample struct {
	goroutines, connections int
	heap                    uint64
}

// watch pauses the calls once a minute and counts what is left.
func (w *work) watch(ctx context.Context, span time.Duration) error {
	every := min(time.Minute, span/2)
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "minutes\tcalls\tfailed\tstreams\tentries\tgoroutines\tconnections\theap kB\t")
	started := time.Now()
	var first, last sample
	for n := 1; time.Since(started) < span; n++ {
		for next := started.Add(time.Duration(n) * every); time.Now().Before(next); {
			fmt.Fprintf(os.Stderr, "\r%v of %v, %d calls ", time.Since(started).Round(time.Second), span, w.calls.Load())
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		fmt.Fprint(os.Stderr, "\r\033[K")
		w.pause.Lock()
		time.Sleep(7 * time.Second) // idle connections are closed after 5 s
		last = measure()
		w.pause.Unlock()
		if n == 1 {
			first = last
		}
		w.mu.Lock()
		failed := 0
		for _, count := range w.failures {
			failed += count
		}
		w.mu.Unlock()
		fmt.Fprintf(table, "%.1f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", time.Since(started).Minutes(), w.calls.Load(), failed,
			w.streams.Load(), w.entries.Load(), last.goroutines, last.connections, last.heap>>10)
		table.Flush()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Println("\nFailures by reason:", w.failures)
	if w.own != nil {
		return fmt.Errorf("a call failed by itself: %w", w.own)
	}
	if last.goroutines > first.goroutines || last.connections > first.connections || last.heap > first.heap+first.heap/2 {
		return fmt.Errorf("it grew from %+v to %+v", first, last)
	}
	return nil
}

func measure() sample {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s := sample{goroutines: runtime.NumGoroutine(), heap: memory.HeapAlloc}
	open, _ := filepath.Glob("/proc/self/fd/*") // none on other systems
	for _, file := range open {
		if target, _ := os.Readlink(file); strings.HasPrefix(target, "socket:") {
			s.connections++
		}
	}
	return s
}
