// Survey gets from every server of the pool its health and its view of the pool. It reports which
// servers cannot be reached, and where views differ. Run it with -h for its flags, and with -demo to
// try it without an agent.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

const usage = `Survey gets from every server its health and its view of the pool.

usage: survey [flags]

It gets the list of servers from the agent at NOMAD_ADDR, or from that at
http://127.0.0.1:4646 if that is not set, and calls each server at the address
that it gossips at. The ACL token at NOMAD_TOKEN needs node:read; it is sent to
every server. With -every the survey goes on while the agent does not respond.

exit codes (with -every those of the last round):
  0  all servers respond, are healthy and see the same pool
  1  some do not
  2  wrong usage, a request failed, the program was interrupted in its only
     round, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "survey:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("survey", flag.ContinueOnError)
	port := flags.Uint("port", 0, "HTTP `port` of the servers (default that of the agent)")
	https := flags.Bool("https", false, "with -port: the servers speak https")
	concurrency := flags.Int("concurrency", survey.DefaultConcurrency, "`number` of servers to survey at the same time")
	timeout := flags.Duration("timeout", survey.DefaultTimeout, "time limit for the list of servers, and for each server; one without a\nleader takes 5s")
	every := flags.Duration("every", 0, "time between two rounds, until interrupted; 0 means one round")
	asJSON := flags.Bool("json", false, "print each round as a JSON object on one line")
	demo := flags.Bool("demo", false, "use a cluster in memory with a failed and an isolated server")
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
	case *port > 65535:
		return 2, fmt.Errorf("-port %d: want at most 65535", *port)
	case *https && *port == 0:
		return 2, errors.New("-https requires -port")
	case *demo && *port > 0:
		return 2, errors.New("-demo and -port exclude each other")
	case *concurrency < 1:
		return 2, fmt.Errorf("-concurrency %d: want 1 or more", *concurrency)
	case *timeout <= 0:
		return 2, fmt.Errorf("-timeout %v: want more than 0", *timeout)
	case *every < 0:
		return 2, fmt.Errorf("-every %v: want 0 or more", *every)
	}

	options := []nomad.Option{nomad.FromEnvironment()}
	settings := []survey.Option{survey.WithConcurrency(*concurrency), survey.WithTimeout(*timeout)}
	switch {
	case *demo:
		fmt.Fprintln(stderr, "survey: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(5), nomadtest.Servers(2, nomadtest.Region("eu")))
		defer cluster.Close()
		cluster.Agent("server-2").Stop()
		cluster.Partition("server-5")
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		settings = append(settings, survey.WithAddress(func(m nomad.Member) string { // They share an IP address.
			return cluster.URL(strings.TrimSuffix(m.Name, "."+m.Region()))
		}))
	case *https:
		settings = append(settings, survey.WithAddress(survey.HTTPSAddress(uint16(*port))))
	case *port > 0:
		settings = append(settings, survey.WithAddress(survey.HTTPAddress(uint16(*port))))
	}
	client, err := nomad.NewClient(append(options, nomad.WithTimeout(*timeout))...)
	if err != nil {
		return 2, err
	}
	defer client.Close()
	clearLine := func() {}
	if terminal(stderr) {
		clearLine = func() { fmt.Fprint(stderr, "\r\033[K") }
		settings = append(settings, survey.WithProgress(func(done, total int, _ survey.Server) {
			fmt.Fprintf(stderr, "\r\033[K%d of %d servers", done, total)
		}))
	}

	for code := 2; ; {
		report, err := survey.Run(ctx, client, settings...)
		clearLine()
		switch {
		case *every == 0 && ctx.Err() != nil:
			return 2, errors.New("interrupted")
		case *every == 0 && err != nil:
			return 2, err
		case ctx.Err() != nil:
			return code, nil
		case err != nil:
			code = 2
			fmt.Fprintln(stderr, "survey:", err)
		default:
			if *every > 0 && !*asJSON && terminal(stdout) {
				fmt.Fprint(stdout, "\033[H\033[2J") // Draw the tables in place of the last ones.
			}
			if err := show(stdout, report, *asJSON); err != nil {
				return 2, err
			}
			code = 0
			if !report.OK() {
				code = 1
				fmt.Fprintf(stderr, "survey: %d of %d servers do not respond, %d members are seen differently\n",
					len(report.Unreachable()), len(report.Servers), len(report.Disagreements))
			}
		}
		if *every == 0 {
			return code, nil
		}
		select {
		case <-time.After(*every):
		case <-ctx.Done():
			return code, nil
		}
	}
}

// show prints a report as tables, with the problems below, or as JSON.
func show(w io.Writer, report *survey.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(report)
	}
	rows := [][]string{{"SERVER", "STATUS", "HEALTH", "SEES", "TOOK"}}
	problems := ""
	for _, s := range report.Servers {
		health := "unknown"
		switch {
		case s.Healthy():
			health = "ok"
		case s.Health != nil:
			health = "unhealthy"
		}
		sees := "-"
		if s.Sees > 0 {
			sees = strconv.Itoa(s.Sees)
		}
		took := s.Duration.Round(time.Millisecond).String()
		rows = append(rows, []string{s.Member.Name, string(s.Member.Status), health, sees, took})
		if s.Err != nil {
			problems += fmt.Sprintf("%q: %v\n", s.Member.Name, cause(s.Err))
		} else if h := s.Health; h != nil && h.Server != nil && !h.Server.OK {
			problems += fmt.Sprintf("%q: %q\n", s.Member.Name, h.Server.Message)
		}
	}
	for _, region := range report.LeaderDisagreements() {
		problems += fmt.Sprintf("region %q: its servers name different leaders\n", region)
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if problems != "" {
		if _, err := fmt.Fprint(w, "\n", problems); err != nil {
			return err
		}
	}
	if len(report.Disagreements) == 0 {
		return nil
	}
	rows = [][]string{{"MEMBER", "SEEN AS", "SERVERS", ""}}
	for _, d := range report.Disagreements {
		for _, v := range d.Views {
			status := "unknown"
			if v.Known() {
				status = string(v.Member.Status)
			}
			rows = append(rows, []string{d.Name, status, strconv.Itoa(len(v.Servers)), strings.Join(v.Servers, " ")})
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, rows)
}

// cause returns an error without the request, if the network failed.
func cause(err error) error {
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return network
	}
	return err
}

// terminal reports whether w is a terminal that interprets escape sequences.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// table prints rows in columns. It cuts the widest columns until a line fits 80 characters.
func table(w io.Writer, rows [][]string) error {
	widths, total := make([]int, len(rows[0])), -2
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	for ; total > 80; total-- {
		widths[slices.Index(widths, slices.Max(widths))]--
	}
	printable := func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}
	var text strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			if runes := []rune(cell); len(runes) > widths[i] {
				cell = string(runes[:widths[i]-1]) + "…"
			}
			line += fmt.Sprintf("%-*s  ", widths[i], strings.Map(printable, cell))
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}
