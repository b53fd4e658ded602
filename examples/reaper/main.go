// Reaper is a controller: it makes servers leave the pool that have failed and stay so, with a log of what it does and why.
// Nomad keeps a failed server in the pool for a day, in case that it comes back.
//
//	reaper [-after 10m] [-keep 3] [-prune] [-dry-run] [-once] [-interval 5s] [-json]
//
// It leaves a region alone of which half the servers or more have failed, for then it is the network that has, or which has few
// alive; and everything while the agent does not answer. It ends with SIGTERM or an interrupt. Exit codes: 0 interrupted, or done
// with -once; 2 wrong usage.
//
// Without an agent it shows what it does on a cluster in memory, faster, and ends by itself.
package main

import (
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

	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("reaper", flag.ContinueOnError)
	flags.SetOutput(stderr)
	after := flags.Duration("after", 10*time.Minute, "how long a server must have failed")
	keep := flags.Int("keep", 3, "leave a region alone that has fewer servers alive")
	prune := flags.Bool("prune", false, "remove it from the list of members too")
	dryRun := flags.Bool("dry-run", false, "say what would be done, and do nothing")
	once := flags.Bool("once", false, "end when one server was forced to leave")
	interval := flags.Duration("interval", watch.DefaultInterval, "the time between two looks at the pool")
	asJSON := flags.Bool("json", false, "log in JSON, one record a line")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Makes servers leave the pool that have failed and stay so, at NOMAD_ADDR or in a cluster in memory that shows it in seconds.\n\nusage: reaper [flags]\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nexit codes: 0 interrupted, or done with -once; 2 wrong usage\n")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || *after <= 0 || *interval <= 0 {
		fmt.Fprintln(stderr, "reaper: want no arguments, and -after and -interval above 0; see -h")
		return 2
	}
	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(5))
	if err != nil {
		fmt.Fprintln(stderr, "reaper:", err)
		return 2
	}
	defer done()

	handler := slog.Handler(slog.NewTextHandler(stdout, nil))
	if *asJSON {
		handler = slog.NewJSONHandler(stdout, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &reaper{
		client: client, after: *after, keep: *keep, prune: *prune, dryRun: *dryRun,
		watch: watch.Options{Interval: *interval}, retry: 10 * time.Second, log: slog.New(handler),
	}
	if cluster != nil { // one server fails for a moment, another for good, all faster than in life
		r.after, r.watch = 3*time.Second, watch.Options{Interval: 200 * time.Millisecond, Settle: 400 * time.Millisecond}
		cluster.Agent("server-4").Stop()
		cluster.Agent("server-5").Stop()
		time.AfterFunc(2*time.Second, cluster.Agent("server-5").Start)
	}
	if *once || cluster != nil {
		r.reaped = func(string) { cancel() }
	}
	r.run(ctx)
	return 0
}
