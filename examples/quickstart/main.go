// Quickstart walks through the seven core calls of package nomad and prints what they answer.
//
// When no agent is named it starts a cluster of three servers and a client in memory and makes every call on it. With
// NOMAD_ADDR set, or NOMAD_UNIX_ADDR, it calls that agent, and makes only the calls that change nothing.
//
//	go run ./examples/quickstart [-json]
//
// Exit codes: 0 all calls were made; 2 wrong usage, or one failed.
package main

import (
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
	"strings"
	"text/tabwriter"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func main() {
	asJSON := flag.Bool("json", false, "print one JSON object per call, in place of tables")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "Walks through the core calls, on the agent at NOMAD_ADDR or on a cluster in memory.\n\n"+
			"usage: quickstart [-json]\n\n")
		flag.PrintDefaults()
		fmt.Fprintf(flag.CommandLine.Output(), "\nexit codes: 0 all calls were made; 2 wrong usage, or one failed\n")
	}
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	p := &printer{w: os.Stdout, asJSON: *asJSON}
	walk := inMemory
	if cmp.Or(os.Getenv("NOMAD_ADDR"), os.Getenv("NOMAD_UNIX_ADDR")) != "" {
		walk = realAgent
	}
	if err := walk(ctx, p); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(2)
	}
}

// realAgent makes the calls that read.
func realAgent(ctx context.Context, p *printer) error {
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
	p.health("Is the agent healthy?", health)

	self, err := client.Agent.Self(ctx)
	if err != nil {
		return err
	}
	p.self("What is it?", self)

	members, err := client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	p.members("Which servers does it see?", members)

	servers, err := client.Agent.Servers(ctx)
	if errors.Is(err, nomad.ErrClientOnly) {
		// The error says what to do about it; a program tells by errors.Is.
		p.note("Servers", map[string]string{"error": err.Error()}, "Which servers does it work for? None, as it is no client (nomad.ErrClientOnly).")
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

	p.heading("A server (NOMAD_ADDR is not set: this is a cluster in memory)")
	if err := read(ctx, p, server); err != nil {
		return err
	}
	p.heading("A client of it")
	if err := read(ctx, p, client); err != nil {
		return err
	}

	p.heading("A fourth server joins, dies, is forced to leave, and is forgotten")
	fourth := cluster.AddServer("server-4", nomadtest.Unjoined())
	joined, err := server.Agent.Join(ctx, fourth.SerfAddr())
	if err != nil {
		return err
	}
	p.note("Join", joined, fmt.Sprintf("Join(%s): joined %d", fourth.SerfAddr(), joined.Joined))
	if err := p.show(ctx, server, "It is a member:"); err != nil {
		return err
	}

	fourth.Stop()
	if err := p.show(ctx, server, "It has crashed:"); err != nil {
		return err
	}
	if err := server.Agent.ForceLeave(ctx, fourth.MemberName()); err != nil {
		return err
	}
	if err := p.show(ctx, server, "ForceLeave("+fourth.MemberName()+"):"); err != nil {
		return err
	}
	if err := server.Agent.ForceLeave(ctx, fourth.MemberName(), nomad.Prune()); err != nil {
		return err
	}
	if err := p.show(ctx, server, "ForceLeave("+fourth.MemberName()+", Prune()):"); err != nil {
		return err
	}

	p.heading("The client gets another list of servers")
	address := cluster.Agent("server-3").RPCAddr()
	if err := client.Agent.UpdateServers(ctx, address); err != nil {
		return err
	}
	servers, err := client.Agent.Servers(ctx)
	if err != nil {
		return err
	}
	p.list("UpdateServers", "UpdateServers("+address+"), and the heartbeat has told it of the others again:", servers)
	return nil
}

// printer prints answers for people, or as JSON.
type printer struct {
	w      io.Writer
	asJSON bool
}

func (p *printer) json(call string, answer any) {
	json.NewEncoder(p.w).Encode(map[string]any{"call": call, "answer": answer})
}

func (p *printer) heading(text string) {
	if !p.asJSON {
		fmt.Fprintf(p.w, "%s\n%s\n\n", text, strings.Repeat("=", len(text)))
	}
}

func (p *printer) note(call string, answer any, text string) {
	if p.asJSON {
		p.json(call, answer)
		return
	}
	fmt.Fprintf(p.w, "%s\n\n", text)
}

func (p *printer) table(title string, rows func(w io.Writer)) {
	fmt.Fprintln(p.w, title)
	w := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	rows(w)
	w.Flush()
	fmt.Fprintln(p.w)
}

func (p *printer) health(title string, h *nomad.Health) {
	if p.asJSON {
		p.json("Health", h)
		return
	}
	p.table(title, func(w io.Writer) {
		fmt.Fprintln(w, "  ROLE\tHEALTHY\tMESSAGE")
		if h.Server != nil {
			fmt.Fprintf(w, "  server\t%t\t%s\n", h.Server.OK, h.Server.Message)
		}
		if h.Client != nil {
			fmt.Fprintf(w, "  client\t%t\t%s\n", h.Client.OK, h.Client.Message)
		}
	})
}

func (p *printer) self(title string, s *nomad.Self) {
	if p.asJSON {
		p.json("Self", s)
		return
	}
	p.table(title, func(w io.Writer) {
		fmt.Fprintln(w, "  NODE\tREGION\tDATACENTER\tNOMAD\tGOSSIP STATUS\tRAFT STATE")
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", s.Config.NodeName, s.Config.Region, s.Config.Datacenter, s.Config.Version,
			s.Member.Status, cmp.Or(s.Stats["raft"]["state"], "-"))
	})
}

func (p *printer) members(title string, m *nomad.Members) {
	slices.SortFunc(m.Members, nomad.CompareMembers)
	if p.asJSON {
		p.json("Members", m)
		return
	}
	p.table(title, func(w io.Writer) {
		fmt.Fprintln(w, "  NAME\tGOSSIP ADDRESS\tRPC ADDRESS\tSTATUS\tREGION\tDATACENTER\tNOMAD")
		for _, m := range m.Members {
			fmt.Fprintf(w, "  %s\t%s:%d\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Addr, m.Port, m.RPCAddr(), m.Status, m.Region(),
				m.Datacenter(), m.Build())
		}
	})
}

func (p *printer) list(call, title string, items []string) {
	if p.asJSON {
		p.json(call, items)
		return
	}
	p.table(title, func(w io.Writer) {
		for _, item := range items {
			fmt.Fprintln(w, " ", item)
		}
	})
}

// show asks for the members and prints them.
func (p *printer) show(ctx context.Context, client *nomad.Client, title string) error {
	members, err := client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	p.members(title, members)
	return nil
}
