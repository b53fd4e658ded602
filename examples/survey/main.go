// Survey asks every server of the pool how it is and what it sees, and shows who cannot be reached and where the views differ.
//
//	survey [-port 4646] [-concurrency 32] [-timeout 10s] [-every 5s] [-json]
//
// Servers are asked at the address that they gossip at. On a terminal -every draws the table anew each time. Exit codes: 0 all
// servers answer, are healthy and see the same; 1 some do not; 2 wrong usage, or the agent could not be asked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("survey", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Uint("port", 0, "the `port` for HTTP of the servers (default that of the agent)")
	tls := flags.Bool("https", false, "with -port: the servers speak https")
	concurrency := flags.Int("concurrency", survey.DefaultConcurrency, "how many servers are asked at once")
	timeout := flags.Duration("timeout", survey.DefaultTimeout, "how long a server can take; one without a leader takes 5s")
	every := flags.Duration("every", 0, "ask again after this time, until interrupted; 0 asks once")
	asJSON := flags.Bool("json", false, "print JSON: a line for each server, and for each member that servers see differently")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Asks every server of the pool how it is and what it sees: at NOMAD_ADDR or, when that is not set, in memory.\n\nusage: survey [flags]\n\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nexit codes: 0 all is well; 1 a server does not answer, is unhealthy or sees something else; 2 wrong usage, or no answer\n")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || *port > 65535 || *every < 0 {
		fmt.Fprintln(stderr, "survey: want no arguments, a port, and -every not below 0; see -h")
		return 2
	}
	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(5), nomadtest.Servers(2, nomadtest.Region("eu")))
	if err != nil {
		fmt.Fprintln(stderr, "survey:", err)
		return 2
	}
	defer done()
	opts := []survey.Option{survey.WithConcurrency(*concurrency), survey.WithTimeout(*timeout)}
	switch {
	case cluster != nil: // its agents share an address; one has crashed, and one is cut off from the others
		cluster.Agent("server-2").Stop()
		cluster.Partition("server-5")
		opts = append(opts, survey.WithAddress(func(m nomad.Member) string { return cluster.URL(strings.TrimSuffix(m.Name, "."+m.Region())) }))
	case *port > 0 && *tls:
		opts = append(opts, survey.WithAddress(survey.HTTPSAddress(uint16(*port))))
	case *port > 0:
		opts = append(opts, survey.WithAddress(survey.HTTPAddress(uint16(*port))))
	}
	live := demo.Terminal(stderr)
	if live {
		opts = append(opts, survey.WithProgress(func(n, total int, _ survey.Server) {
			fmt.Fprintf(stderr, "\r\033[K%d of %d servers asked", n, total)
		}))
	}

	for {
		report, err := survey.Run(ctx, client, opts...)
		if live {
			fmt.Fprint(stderr, "\r\033[K")
		}
		if err != nil && report == nil {
			fmt.Fprintln(stderr, "survey:", err)
			return 2
		}
		if *every > 0 && !*asJSON && demo.Terminal(stdout) {
			fmt.Fprintf(stdout, "\033[H\033[2J%s\n", time.Now().Format(time.TimeOnly))
		}
		if err := show(stdout, report, *asJSON); err != nil {
			fmt.Fprintln(stderr, "survey:", err)
			return 2
		}
		if *every > 0 && err == nil {
			select {
			case <-time.After(*every):
				continue
			case <-ctx.Done():
			}
		}
		if report.OK() {
			return 0
		}
		fmt.Fprintf(stderr, "survey: not all is well: %d of %d servers do not answer, %d members are seen differently\n",
			len(report.Unreachable()), len(report.Servers), len(report.Disagreements))
		return 1
	}
}

// show prints what was found.
func show(w io.Writer, report *survey.Report, asJSON bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "SERVER\tSTATUS\tHEALTH\tMEMBERS SEEN\tTOOK\tPROBLEM")
	}
	for _, r := range report.Servers {
		health, problem := "-", ""
		if r.Health != nil {
			health = map[bool]string{true: "ok", false: "unhealthy"}[r.Health.OK()]
			if s := r.Health.Server; s != nil && !s.OK {
				problem = s.Message
			}
		}
		if r.Err != nil {
			problem = cause(r.Err)
		}
		if asJSON {
			json.NewEncoder(table).Encode(map[string]any{"server": r.Member.Name, "status": r.Member.Status, "address": r.Address,
				"reachable": r.Reachable(), "health": r.Health, "leader": r.Leader, "build": r.Build, "sees": r.Sees, "took_ms": r.Duration.Milliseconds(), "problem": problem})
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%v\t%s\n", r.Member.Name, r.Member.Status, health, r.Sees, r.Duration.Round(time.Millisecond), problem)
	}
	if !asJSON && len(report.Disagreements) > 0 {
		fmt.Fprintln(table, "\nMEMBER\tSEEN AS\tBY")
	}
	for _, d := range report.Disagreements {
		for _, v := range d.Views {
			status := v.Member.Status
			if !v.Known() {
				status = "unknown"
			}
			if asJSON {
				json.NewEncoder(table).Encode(map[string]any{"member": d.Name, "seen_as": status, "by": v.Servers})
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", d.Name, status, some(v.Servers))
		}
	}
	return table.Flush()
}

// cause is an error without what the table tells anyway: which call was made.
func cause(err error) string {
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return network.Error()
	}
	return err.Error()
}

// some names a few of many.
func some(names []string) string {
	const few = 4
	if len(names) <= few+1 {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], " "), len(names)-few)
}
