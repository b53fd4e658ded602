// Logs follows the log of a Nomad agent, and goes on after the connection was lost. Run it with -h for
// its flags, and with -demo to try it without an agent.
package main

import (
	"bytes"
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
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

const usage = `Logs follows the log of a Nomad agent.

usage: logs [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set).
The ACL token at NOMAD_TOKEN needs agent:read. An agent that does not respond is
called again until it does; outages are reported on standard error.

exit codes:
  0  interrupted, or -n entries were printed
  2  wrong usage, the agent refused the log, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "logs:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("logs", flag.ContinueOnError)
	level := flags.String("level", "info", "lowest `level`: trace, debug, info, warn or error")
	n := flags.Uint("n", 0, "stop after this `number` of entries; 0 means never")
	server := flags.String("target", "", "follow the server of this `name`, or leader, through the agent")
	node := flags.String("node", "", "follow the client agent with this node `ID` through the agent")
	color := flags.String("color", "auto",
		"color entries: auto, always or never; auto means on a terminal\nunless NO_COLOR is set or TERM is dumb")
	asJSON := flags.Bool("json", false, "print a JSON object for each entry, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory that logs all the time")
	var help bytes.Buffer
	flags.SetOutput(&help)
	flags.Usage = func() {
		help.WriteString(usage)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		if _, err := help.WriteTo(stdout); err != nil {
			return 2, err
		}
		return 0, nil
	case err != nil:
		return 2, fmt.Errorf("%w (see -h)", err)
	case flags.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0))
	case *server != "" && *node != "":
		return 2, errors.New("-target and -node exclude each other")
	case *asJSON && *color == "always":
		return 2, errors.New("-json and -color always exclude each other")
	case !slices.Contains([]string{"auto", "always", "never"}, *color):
		return 2, fmt.Errorf("-color %q: want auto, always or never", *color)
	}
	lowest, err := nomad.ParseLogLevel(*level)
	if err != nil {
		return 2, fmt.Errorf("-level %q: want trace, debug, info, warn or error", *level)
	}
	log := nomad.MonitorOptions{Level: lowest}
	if *server != "" {
		log.Target = nomad.OnServer(*server)
	} else if *node != "" {
		log.Target = nomad.OnNode(*node)
	}
	colored := *color == "always" || *color == "auto" && takesColor(stdout)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "logs: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		go chatter(ctx, cluster.Agents())
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	fmt.Fprintf(stderr, "logs: following %s, level %s and above; interrupt to end\n", client.Address(), lowest)
	printed := uint(0)
	for event, err := range watch.Log(ctx, client.Agent, log) {
		switch {
		case ctx.Err() != nil:
			return 0, nil
		case err != nil:
			return 2, err
		case event.Kind == watch.Entry:
			if err := show(stdout, event.Entry, *asJSON, colored); err != nil {
				return 2, err
			}
			if printed++; printed == *n {
				return 0, nil
			}
		default: // an outage, or its end
			fmt.Fprintln(stderr, "logs:", event)
		}
	}
	return 0, nil
}

var colors = map[nomad.LogLevel]string{
	nomad.LevelTrace: "\x1b[90m", nomad.LevelDebug: "\x1b[90m", nomad.LevelWarn: "\x1b[33m", nomad.LevelError: "\x1b[31m",
}

// show prints an entry on one line.
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

// takesColor reports whether w is a terminal on which colors are wanted.
func takesColor(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// chatter makes the agents of the demonstration log something all the time.
func chatter(ctx context.Context, agents []*nomadtest.Agent) {
	entries := []struct{ level, module, message string }{
		{"info", "nomad.raft", "entering follower state"},
		{"debug", "worker", "dequeued evaluation"},
		{"warn", "nomad.heartbeat", "node TTL expired"},
		{"info", "nomad.serf", "EventMemberJoin"},
		{"error", "nomad.raft", "failed to contact quorum of nodes"},
	}
	for i := 0; ctx.Err() == nil; i++ {
		for _, agent := range agents {
			e := entries[i%len(entries)]
			agent.Log(e.level, e.module, e.message, "server", agent.Name(), "count", i)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
