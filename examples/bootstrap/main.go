// Bootstrap joins servers until their gossip pool is complete: as many members as expected are alive, and there is a leader.
//
//	bootstrap [-expect N] [-timeout 2m] [-interval 1s] [-json] [serf address …]
//
// It is safe to repeat, and is as good for adding servers to a pool. Exit codes: 0 the pool is complete; 1 it was not in
// time; 2 wrong usage, or the agent could not be asked.
package main

import (
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
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bootstrap", flag.ContinueOnError)
	flags.SetOutput(stderr)
	expect := flags.Int("expect", 0, "how many members are to be alive (default one more than there are addresses)")
	timeout := flags.Duration("timeout", 2*time.Minute, "how long to try")
	interval := flags.Duration("interval", time.Second, "the time between two looks")
	asJSON := flags.Bool("json", false, "print the members as JSON, one a line")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Joins servers until their gossip pool is complete: at NOMAD_ADDR or, when that is not set, in memory.\n\nusage: bootstrap [flags] [serf address …]\n\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nexit codes: 0 complete; 1 not complete in time; 2 wrong usage, or the agent could not be asked\n")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if *expect < 0 || *timeout <= 0 || *interval <= 0 {
		fmt.Fprintln(stderr, "bootstrap: -expect, -timeout and -interval are to be above 0; see -h")
		return 2
	}
	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(3, nomadtest.Unjoined(), nomadtest.Expect(3)))
	if err != nil {
		fmt.Fprintln(stderr, "bootstrap:", err)
		return 2
	}
	defer done()
	addresses := flags.Args()
	if cluster != nil && len(addresses) == 0 {
		addresses = []string{cluster.Agent("server-2").SerfAddr(), cluster.Agent("server-3").SerfAddr()}
		cluster.Agent("server-3").Stop() // It comes up late, as servers do.
		time.AfterFunc(3*time.Second, cluster.Agent("server-3").Start)
	}
	switch {
	case *expect > 0:
	case len(addresses) == 0:
		fmt.Fprintln(stderr, "bootstrap: want the addresses to join, or -expect to wait for others that do; see -h")
		return 2
	default:
		*expect = len(addresses) + 1
	}

	limited, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	p := &pool{client: client, addresses: addresses, expect: *expect}
	incomplete := p.complete(limited, *interval, stderr)
	if incomplete != nil && (limited.Err() == nil || p.members == nil) {
		fmt.Fprintln(stderr, "bootstrap:", incomplete)
		return 2
	}
	if err := p.print(stdout, *asJSON); err != nil {
		fmt.Fprintln(stderr, "bootstrap:", err)
		return 2
	}
	if incomplete != nil {
		p.explain(stderr)
		return 1
	}
	return 0
}

// pool is what is known of a pool that is to be complete.
type pool struct {
	client    *nomad.Client
	addresses []string
	expect    int

	joined  int   // How many of the addresses the last Join reached.
	joinErr error // Why it reached none.
	members []nomad.Member
	alive   int
	leader  bool
}

func (p *pool) String() string {
	line := fmt.Sprintf("%d of %d alive", p.alive, p.expect)
	if p.alive >= p.expect { // The leader is not asked for before.
		line += map[bool]string{true: ", with a leader", false: ", no leader"}[p.leader]
	}
	return line
}

// complete returns nil when the pool is complete, and otherwise why there is no use in going on.
func (p *pool) complete(ctx context.Context, interval time.Duration, stderr io.Writer) error {
	before, after := "", "\n"
	if demo.Terminal(stderr) {
		before, after = "\r\033[K", "" // The line changes in place.
		defer fmt.Fprintln(stderr)
	}
	for said := ""; ; {
		if err := p.look(ctx); err != nil {
			return err
		}
		if line := p.String(); line != said {
			fmt.Fprint(stderr, before, line, after)
			said = line
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

// look joins the addresses until all of them were reached, and sees what has become of the pool.
func (p *pool) look(ctx context.Context) error {
	if p.joined < len(p.addresses) {
		var result *nomad.JoinResult
		if result, p.joinErr = p.client.Agent.Join(ctx, p.addresses...); p.joinErr == nil {
			p.joined = result.Joined
		} else if !errors.Is(p.joinErr, nomad.ErrJoinFailed) {
			return p.joinErr
		}
	}
	answer, err := p.client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(answer.Members, nomad.CompareMembers)
	p.members, p.alive, p.leader = answer.Members, 0, false
	for _, m := range p.members {
		if m.Status == nomad.StatusAlive {
			p.alive++
		}
	}
	if p.alive < p.expect {
		return nil // A server without a leader takes 5 s to say so, and there are servers to join.
	}
	if _, err = p.client.Agent.Health(ctx, nomad.RoleServer); errors.Is(err, nomad.ErrNoLeader) {
		return nil
	}
	p.leader = err == nil
	return err
}

func (p *pool) print(w io.Writer, asJSON bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "NAME\tADDRESS\tSTATUS\tBUILD")
	}
	for _, m := range p.members {
		if address := netip.AddrPortFrom(m.Addr, m.Port); asJSON {
			json.NewEncoder(table).Encode(map[string]any{"name": m.Name, "address": address, "status": m.Status, "build": m.Build()})
		} else {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.Name, address, m.Status, m.Build())
		}
	}
	return table.Flush() // Which tells of all errors in writing.
}

// explain says who is missing.
func (p *pool) explain(w io.Writer) {
	fmt.Fprintf(w, "bootstrap: the pool is not complete: %s\n", p)
	at := map[string]bool{}
	for _, m := range p.members {
		at[netip.AddrPortFrom(m.Addr, m.Port).String()] = true
		if m.Status != nomad.StatusAlive {
			fmt.Fprintf(w, "  %s is %s\n", m.Name, m.Status)
		}
	}
	for _, address := range p.addresses {
		// What is not an IP address and a port cannot be told from members without a resolver.
		if ip, err := netip.ParseAddrPort(address); err == nil && !at[ip.String()] {
			fmt.Fprintf(w, "  no member is at %s\n", address)
		}
	}
	if p.joined < len(p.addresses) {
		fmt.Fprintf(w, "  %d of %d addresses could be joined\n", p.joined, len(p.addresses))
	}
	if p.joinErr != nil {
		fmt.Fprintf(w, "  %v\n", p.joinErr)
	}
}
