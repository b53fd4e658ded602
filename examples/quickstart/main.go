// Quickstart walks through the core calls of package nomad and prints their results. If NOMAD_ADDR is
// not set it makes them on a cluster in memory. Run it with -h for its flags.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

const usage = `Quickstart walks through the core calls and prints their results.

usage: quickstart [flags]

It calls the agent at NOMAD_ADDR or NOMAD_UNIX_ADDR, and changes nothing there.
If neither is set it makes all calls on a cluster in memory.

exit codes:
  0  all calls were made
  2  wrong usage, a call failed, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print a JSON object for each call, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory, also if NOMAD_ADDR is set")
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
	}
	p := &printer{w: stdout, asJSON: *asJSON}
	walk := agent
	if *demo || os.Getenv("NOMAD_ADDR") == "" && os.Getenv("NOMAD_UNIX_ADDR") == "" {
		fmt.Fprintln(stderr, "quickstart: using a cluster in memory; set NOMAD_ADDR to use an agent")
		walk = inMemory
	}
	err := walk(ctx, p)
	if err = cmp.Or(err, p.err); err != nil {
		return 2, err
	}
	return 0, nil
}

// agent makes the calls that change nothing, on the agent that the environment names.
func agent(ctx context.Context, p *printer) error {
	client, err := nomad.NewClient(nomad.FromEnvironment())
	if err != nil {
		return err
	}
	defer client.Close()
	return read(ctx, p, client)
}

// read makes the calls that change nothing. They work on servers and clients.
func read(ctx context.Context, p *printer, client *nomad.Client) error {
	health, err := client.Agent.Health(ctx)
	if err != nil && !errors.Is(err, nomad.ErrUnhealthy) {
		return err
	}
	p.print("Health", "Is the agent healthy?", health, []string{health.String()})

	self, err := client.Agent.Self(ctx)
	if err != nil {
		return err
	}
	p.print("Self", "What is it?", self, []string{"NODE", "REGION", "DATACENTER", "NOMAD", "STATUS", "RAFT"}, []string{
		self.Config.NodeName, self.Config.Region, self.Config.Datacenter, self.Config.Version.String(),
		string(self.Member.Status), cmp.Or(self.Stats["raft"]["state"], "-"),
	})

	if err := p.members(ctx, client, "Which servers does it see?"); err != nil {
		return err
	}

	servers, err := client.Agent.Servers(ctx)
	if errors.Is(err, nomad.ErrClientOnly) { // The agent is a server.
		none := []string{"none: it is not a client (nomad.ErrClientOnly)"}
		p.print("Servers", "Which servers does it work for?", err.Error(), none)
		return nil
	}
	if err != nil {
		return err
	}
	p.list("Servers", "Which servers does it work for?", servers)
	return nil
}

// inMemory makes all calls, on a cluster of its own.
func inMemory(ctx context.Context, p *printer) error {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1))
	defer cluster.Close()
	server, client := cluster.Client("server-1"), cluster.Client("client-1")

	p.heading("A server")
	if err := read(ctx, p, server); err != nil {
		return err
	}
	p.heading("A client")
	if err := read(ctx, p, client); err != nil {
		return err
	}

	p.heading("A fourth server joins, crashes, and is forced to leave")
	fourth := cluster.AddServer("server-4", nomadtest.Unjoined())
	joined, err := server.Agent.Join(ctx, fourth.SerfAddr())
	if err != nil {
		return err
	}
	p.print("Join", "Join:", joined, []string{"joined " + strconv.Itoa(joined.Joined)})
	if err := p.members(ctx, server, "It is a member:"); err != nil {
		return err
	}
	fourth.Stop()
	if err := p.members(ctx, server, "It has crashed:"); err != nil {
		return err
	}
	if err := server.Agent.ForceLeave(ctx, fourth.MemberName()); err != nil {
		return err
	}
	if err := p.members(ctx, server, "After ForceLeave:"); err != nil {
		return err
	}
	if err := server.Agent.ForceLeave(ctx, fourth.MemberName(), nomad.Prune()); err != nil {
		return err
	}
	if err := p.members(ctx, server, "After ForceLeave with Prune:"); err != nil {
		return err
	}

	p.heading("The client gets another list of servers")
	if err := client.Agent.UpdateServers(ctx, cluster.Agent("server-3").RPCAddr()); err != nil {
		return err
	}
	servers, err := client.Agent.Servers(ctx)
	if err != nil {
		return err
	}
	p.list("UpdateServers", "After UpdateServers with server-3:", servers)
	return nil
}

// printer prints results as tables or as JSON.
type printer struct {
	w      io.Writer
	asJSON bool
	err    error // of the first write that failed
}

func (p *printer) heading(text string) {
	if !p.asJSON && p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s\n%s\n\n", text, strings.Repeat("=", len(text)))
	}
}

// members gets the members and prints them.
func (p *printer) members(ctx context.Context, client *nomad.Client, title string) error {
	list, err := client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(list.Members, nomad.CompareMembers)
	rows := [][]string{{"NAME", "GOSSIP ADDRESS", "RPC ADDRESS", "STATUS", "NOMAD"}}
	for _, m := range list.Members {
		address := m.SerfAddr().String()
		rows = append(rows, []string{m.Name, address, m.RPCAddr().String(), string(m.Status), m.Build()})
	}
	p.print("Members", title, list, rows...)
	return nil
}

func (p *printer) list(call, title string, items []string) {
	rows := [][]string{{"ADDRESS"}}
	for _, item := range items {
		rows = append(rows, []string{item})
	}
	p.print(call, title, items, rows...)
}

// print prints the result of a call: as JSON, or as rows.
func (p *printer) print(call, title string, result any, rows ...[]string) {
	switch {
	case p.err != nil:
	case p.asJSON:
		p.err = json.NewEncoder(p.w).Encode(map[string]any{"call": call, "result": result})
	default:
		_, err := fmt.Fprintln(p.w, title)
		p.err = cmp.Or(err, table(p.w, rows))
		if p.err == nil {
			_, p.err = fmt.Fprintln(p.w)
		}
	}
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
