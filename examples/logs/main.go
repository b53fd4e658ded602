// Logs shows the log of an agent as it is written, and takes it up again when the connection was lost.
//
//	usage: logs [-level level] [-n count] [-target server | -node id] [-color when] [-json]
//
// It asks the agent at NOMAD_ADDR or, when that is not set, one in memory that logs all the time.
//
// It exits with 0 after -n entries or when it is interrupted, and with 2 when its usage is wrong or when the agent refuses the
// log. There is no 1. An agent that cannot be reached is waited for; what happens is said on the standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
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
	flags := flag.NewFlagSet("logs", flag.ContinueOnError)
	flags.SetOutput(stderr)
	level := flags.String("level", "info", "the lowest `level` to show: trace, debug, info, warn or error")
	n := flags.Uint("n", 0, "stop after so many entries; 0 is never")
	server := flags.String("target", "", "show the log of the `server` of this name, through the agent; the name leader is whichever leads")
	node := flags.String("node", "", "show the log of the client agent whose node has this full `id`, through the agent")
	color := flags.String("color", "auto", "color entries by level: `when` is auto, always or never;\nauto is on a terminal unless NO_COLOR is set")
	asJSON := flags.Bool("json", false, "print a JSON object for each entry, one a line")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Shows the log of the agent at NOMAD_ADDR as it is written or, when that is not set, of one in memory.\n\nusage: logs [flags]\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nexit codes: 0 after -n entries or an interrupt, 2 wrong usage or the log was refused\n")
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "logs:", err)
		return 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case *server != "" && *node != "":
		return fail(errors.New("-target and -node do not go together"))
	case !slices.Contains([]string{"auto", "always", "never"}, *color):
		return fail(fmt.Errorf("unknown color %q", *color))
	}
	options := nomad.MonitorOptions{Level: nomad.LogLevel(*level), JSON: true}
	if *server != "" {
		options.Target = nomad.OnServer(*server)
	} else if *node != "" {
		options.Target = nomad.OnNode(*node)
	}
	colored := *color == "always" || *color == "auto" && demo.Terminal(stdout) && os.Getenv("NO_COLOR") == ""

	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(3))
	if err != nil {
		return fail(err)
	}
	defer done()
	if cluster != nil {
		go chatter(ctx, cluster)
	}

	fmt.Fprintf(stderr, "following the log, %s and above; interrupt to end\n", *level)
	shown := uint(0)
	for event, err := range watch.Log(ctx, client.Agent, options) {
		switch {
		case ctx.Err() != nil:
			return 0
		case err != nil:
			return fail(err)
		case event.Kind == watch.Entry:
			if err := show(stdout, event.Entry, *asJSON, colored); err != nil {
				return fail(err)
			}
			if shown++; shown == *n {
				return 0
			}
		default: // an outage, or its end
			fmt.Fprintln(stderr, "logs:", event)
		}
	}
	return 0
}

var colors = map[nomad.LogLevel]string{
	nomad.LevelTrace: "\x1b[90m", nomad.LevelDebug: "\x1b[90m", nomad.LevelWarn: "\x1b[33m", nomad.LevelError: "\x1b[31m",
}

// show prints an entry as text or as JSON.
func show(w io.Writer, e nomad.LogEntry, asJSON, colored bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	line := e.String()
	if color := colors[e.Level]; colored && color != "" {
		line = color + line + "\x1b[0m"
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// chatter has the agents of a cluster log something all the time.
func chatter(ctx context.Context, cluster *nomadtest.Cluster) {
	entries := []struct{ level, module, message string }{
		{"info", "nomad.raft", "entering follower state"},
		{"debug", "worker", "dequeued evaluation"},
		{"info", "nomad.autopilot", "promoted server"},
		{"warn", "nomad.heartbeat", "node TTL expired"},
		{"trace", "nomad.job", "evaluating job"},
		{"info", "nomad.serf", "EventMemberJoin"},
		{"error", "nomad.raft", "failed to contact quorum of nodes"},
	}
	for i := 0; ctx.Err() == nil; i++ {
		for _, agent := range cluster.Agents() {
			e := entries[i%len(entries)]
			agent.Log(e.level, e.module, e.message, "server", agent.Name(), "count", i)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
