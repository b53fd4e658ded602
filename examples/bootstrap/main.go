// Bootstrap joins servers until their gossip pool is complete: as many members as expected are alive,
// and there is a leader. It is safe to repeat, and can add servers to a pool. Run it with -h for its
// flags, and with -demo to try it without an agent.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
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
)

const usage = `Bootstrap joins servers until their gossip pool is complete.

usage: bootstrap [flags] [serf address ...], flags first

It calls the server at NOMAD_ADDR, or at http://127.0.0.1:4646 if that is not
set, and has it join the servers at the addresses, such as 10.0.0.2:4648. The
ACL token at NOMAD_TOKEN needs node:read. Progress is on standard error.

exit codes:
  0  the pool is complete: the expected members are alive, and there is a leader
  1  it was not complete in time
  2  wrong usage, a request failed, the agent did not respond in time, the
     program was interrupted, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bootstrap:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("bootstrap", flag.ContinueOnError)
	expect := flags.Int("expect", 0, "`number` of members that must be alive (default one more than addresses)")
	timeout := flags.Duration("timeout", 2*time.Minute, "time limit")
	interval := flags.Duration("interval", time.Second, "time between two attempts")
	asJSON := flags.Bool("json", false, "print a JSON object for each member, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory, of which one server starts late")
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
	case slices.ContainsFunc(flags.Args(), func(address string) bool { return strings.HasPrefix(address, "-") }):
		return 2, errors.New("flags must come before the addresses")
	case *expect < 0:
		return 2, fmt.Errorf("-expect %d: want 1 or more", *expect)
	case *timeout <= 0:
		return 2, fmt.Errorf("-timeout %v: want more than 0", *timeout)
	case *interval <= 0:
		return 2, fmt.Errorf("-interval %v: want more than 0", *interval)
	case *demo && flags.NArg() > 0:
		return 2, errors.New("-demo and addresses exclude each other")
	case !*demo && flags.NArg() == 0 && *expect == 0:
		return 2, errors.New("want addresses to join, or -expect to wait for members (see -h)")
	}

	p := &pool{addresses: flags.Args()}
	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "bootstrap: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3, nomadtest.Unjoined(), nomadtest.Expect(3)))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		late := cluster.Agent("server-3")
		p.addresses = []string{cluster.Agent("server-2").SerfAddr(), late.SerfAddr()}
		late.Stop()
		defer time.AfterFunc(1500*time.Millisecond, late.Start).Stop()
	}
	if p.expect = *expect; p.expect == 0 {
		p.expect = len(p.addresses) + 1
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()
	p.client = client

	limited, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	incomplete := p.complete(limited, *interval, stderr)
	switch {
	case incomplete == nil:
	case ctx.Err() != nil:
		return 2, errors.New("interrupted")
	case limited.Err() == nil:
		return 2, incomplete
	case p.members == nil:
		return 2, fmt.Errorf("no response within %v: %w", *timeout, incomplete)
	}
	if err := p.show(stdout, *asJSON); err != nil {
		return 2, err
	}
	if incomplete != nil {
		return 1, fmt.Errorf("the pool is not complete: %s%s", p, p.missing())
	}
	return 0, nil
}

// pool is what is known about a pool that is to be completed.
type pool struct {
	client    *nomad.Client
	addresses []string
	expect    int

	joined  int   // number of addresses that the last Join contacted
	joinErr error // why it contacted none
	members []nomad.Member
	alive   int
	leader  bool
}

func (p *pool) String() string {
	text := fmt.Sprintf("%d of %d alive", p.alive, p.expect)
	switch {
	case p.leader:
		text += ", with a leader"
	case p.alive >= p.expect: // The leader is requested only then.
		text += ", no leader"
	}
	return text
}

// complete updates the pool until it is complete. Its error says why it is not.
func (p *pool) complete(ctx context.Context, interval time.Duration, stderr io.Writer) error {
	for shown := ""; ; {
		if err := p.update(ctx); err != nil {
			return err
		}
		if line := p.String(); line != shown {
			fmt.Fprintln(stderr, "bootstrap:", line)
			shown = line
		}
		if p.leader && p.joinErr == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
}

// update joins the addresses until all of them were contacted, and gets the members and the leader.
func (p *pool) update(ctx context.Context) error {
	if p.joined < len(p.addresses) {
		var result *nomad.JoinResult
		if result, p.joinErr = p.client.Agent.Join(ctx, p.addresses...); p.joinErr == nil {
			p.joined = result.Joined
		} else if !errors.Is(p.joinErr, nomad.ErrJoinFailed) {
			return p.joinErr
		}
	}
	list, err := p.client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(list.Members, nomad.CompareMembers)
	p.members, p.alive, p.leader = list.Members, 0, false
	for _, m := range p.members {
		if m.Status == nomad.StatusAlive {
			p.alive++
		}
	}
	if p.alive < p.expect {
		return nil // A server without a leader takes 5 s to respond.
	}
	if _, err = p.client.Status.Leader(ctx); errors.Is(err, nomad.ErrNoLeader) {
		return nil
	}
	p.leader = err == nil
	return err
}

// missing returns lines that say which members are missing.
func (p *pool) missing() string {
	text, found := "", map[string]bool{}
	for _, m := range p.members {
		found[m.SerfAddr().String()] = true
		if m.Status != nomad.StatusAlive {
			text += fmt.Sprintf("\n  %q is %q", m.Name, m.Status)
		}
	}
	for _, address := range p.addresses {
		// Only an IP address with a port can be compared without a resolver.
		if ip, err := netip.ParseAddrPort(address); err == nil && !found[ip.String()] {
			text += "\n  no member is at " + address
		}
	}
	if p.joined < len(p.addresses) {
		text += fmt.Sprintf("\n  %d of %d addresses could be joined", p.joined, len(p.addresses))
	}
	if p.joinErr != nil {
		text += fmt.Sprintf("\n  %v", p.joinErr)
	}
	return text
}

// show prints the members as a table or as JSON.
func (p *pool) show(w io.Writer, asJSON bool) error {
	rows := [][]string{{"NAME", "ADDRESS", "STATUS", "BUILD"}}
	lines := json.NewEncoder(w)
	for _, m := range p.members {
		address := m.SerfAddr().String()
		if !asJSON {
			rows = append(rows, []string{m.Name, address, string(m.Status), m.Build()})
			continue
		}
		err := lines.Encode(map[string]any{"name": m.Name, "address": address, "status": m.Status, "build": m.Build()})
		if err != nil {
			return err
		}
	}
	if asJSON {
		return nil
	}
	return table(w, rows)
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
