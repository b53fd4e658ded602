// Reaper is a controller: it forces servers to leave the pool that have failed and stay failed, with a
// log of what it does and why. (Nomad keeps a failed server in the pool for a day, in case it comes
// back.) Run it with -h for its flags, and with -demo to try it without an agent.
//
// Copy this folder as a whole: main.go reads the flags, reaper.go is the controller, and
// reaper_test.go shows how to test one.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

const usage = `Reaper forces servers to leave the pool that have failed and stay failed.

usage: reaper [flags]

It calls the server at NOMAD_ADDR, or at http://127.0.0.1:4646 if that is not
set. The ACL token at NOMAD_TOKEN needs agent:write and node:read. The log is on
standard output. It does nothing

  - in a region of which half of the servers or more have failed: that is rather
    a failure of the network
  - in a region with fewer servers alive than -keep
  - while the agent does not list the members

exit codes:
  0  interrupted, or done with -once or -demo
  2  wrong usage, or the log could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reaper:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("reaper", flag.ContinueOnError)
	after := flags.Duration("after", 10*time.Minute, "how long a server must have failed (3s with -demo)")
	keep := flags.Int("keep", 3, "do nothing in a region with fewer servers alive")
	prune := flags.Bool("prune", false, "remove the server from the list of members too")
	dryRun := flags.Bool("dry-run", false, "log what would be done, and do nothing")
	once := flags.Bool("once", false, "end after one server was forced to leave")
	interval := flags.Duration("interval", watch.DefaultInterval, "time between two polls (200ms with -demo)")
	asJSON := flags.Bool("json", false, "log in JSON, one record a line")
	demo := flags.Bool("demo", false, "use a cluster in memory in which servers fail")
	var help bytes.Buffer
	flags.SetOutput(&help)
	flags.Usage = func() {
		help.WriteString(usage)
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := help.WriteTo(stdout); err != nil {
			return 2, err
		}
		return 0, nil
	case err != nil:
		return 2, fmt.Errorf("%w (see -h)", err)
	case flags.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0))
	case *after <= 0:
		return 2, fmt.Errorf("-after %v: want more than 0", *after)
	case *interval <= 0:
		return 2, fmt.Errorf("-interval %v: want more than 0", *interval)
	case *keep < 0:
		return 2, fmt.Errorf("-keep %d: want 0 or more", *keep)
	case *demo && (*once || set["after"] || set["interval"]):
		return 2, errors.New("-demo and -after, -interval or -once exclude each other")
	}

	r := &reaper{
		after: *after, keep: *keep, prune: *prune, dryRun: *dryRun,
		watch: watch.Options{Interval: *interval}, retry: 10 * time.Second,
	}
	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "reaper: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(5))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		r.after, r.watch = 3*time.Second, watch.Options{Interval: 200 * time.Millisecond, Settle: 400 * time.Millisecond}
		cluster.Agent("server-4").Stop()
		cluster.Agent("server-5").Stop()
		defer time.AfterFunc(1500*time.Millisecond, cluster.Agent("server-5").Start).Stop()
	}
	if r.client, err = nomad.NewClient(options...); err != nil {
		return 2, err
	}
	defer r.client.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *once || *demo {
		r.reaped = func(string) { cancel() }
	}
	log := output{stdout, make(chan error, 1), cancel}
	r.log = slog.New(slog.NewTextHandler(log, nil))
	if *asJSON {
		r.log = slog.New(slog.NewJSONHandler(log, nil))
	}
	if err := r.run(ctx); err != nil {
		return 2, err
	}
	select {
	case err := <-log.failed:
		return 2, err
	default:
		return 0, nil
	}
}

// output ends the program when its log cannot be written. A slog.Logger drops such errors.
type output struct {
	io.Writer
	failed chan error
	cancel context.CancelFunc
}

func (o output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		select {
		case o.failed <- err:
		default: // only the first is reported
		}
		o.cancel()
	}
	return n, err
}
