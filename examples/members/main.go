// Members lists the servers of the gossip pool and who leads, as nomad server members does. Run it with
// -h for its flags, and with -demo to try it without an agent.
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

const usage = `Members lists the servers of the gossip pool and reports who leads.

usage: members [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set).
The ACL token at NOMAD_TOKEN needs node:read.

exit codes:
  0  all is well
  1  a listed server is neither alive nor left, its region has no leader, or no
     server is listed
  2  wrong usage, a request failed, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "members:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("members", flag.ContinueOnError)
	status := flags.String("status", "", "list only servers of this `status`: alive, leaving, left or failed")
	timeout := flags.Duration("timeout", 10*time.Second, "time limit of all requests together")
	asJSON := flags.Bool("json", false, "print a JSON object for each server, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory that has lost a server")
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
	case *timeout <= 0:
		return 2, fmt.Errorf("-timeout %v: want more than 0", *timeout)
	case !slices.Contains([]string{"", "alive", "leaving", "left", "failed"}, *status):
		return 2, fmt.Errorf("-status %q: want alive, leaving, left or failed", *status)
	}

	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "members: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3, nomadtest.Region("eu")))
		defer cluster.Close()
		cluster.Agent("server-3").Stop()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
	}
	client, err := nomad.NewClient(append(options, nomad.WithTimeout(*timeout))...)
	if err != nil {
		return 2, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	pool, err := client.Agent.Members(ctx)
	if err != nil {
		return 2, err
	}
	servers, bad := []server{}, 0
	leaders := map[string]string{} // by region
	slices.SortFunc(pool.Members, nomad.CompareMembers)
	for _, m := range pool.Members {
		if *status != "" && *status != string(m.Status) {
			continue
		}
		s := server{m.Name, m.Addr, m.Port, m.Status, nil, m.Tags["raft_vsn"], m.Build(), m.Datacenter(), m.Region()}
		leader, known := leaders[s.Region]
		if !known {
			leader, err = leaderOf(ctx, client, s.Region)
			if err != nil {
				fmt.Fprintf(stderr, "members: who leads region %s: %v\n", s.Region, err)
			}
			if errors.Is(err, nomad.ErrNoLeader) {
				leader = "none"
				bad++
			}
			leaders[s.Region] = leader
		}
		if leader != "" {
			s.Leader = new(leader == m.RPCAddr().String())
		}
		if s.Status != nomad.StatusAlive && s.Status != nomad.StatusLeft {
			bad++
		}
		servers = append(servers, s)
	}
	if err := show(stdout, servers, *asJSON); err != nil {
		return 2, err
	}
	switch {
	case len(servers) == 0:
		return 1, errors.New("no such server")
	case bad > 0:
		return 1, nil
	}
	return 0, nil
}

// leaderOf returns the RPC address of a region's leader.
func leaderOf(ctx context.Context, client *nomad.Client, region string) (string, error) {
	regional, err := client.With(nomad.WithRegion(region))
	if err != nil {
		return "", err
	}
	return regional.Status.Leader(ctx)
}

// server is what is printed about a server.
type server struct {
	Name        string             `json:"name"`
	Address     netip.Addr         `json:"address"`
	Port        uint16             `json:"port"`
	Status      nomad.MemberStatus `json:"status"`
	Leader      *bool              `json:"leader"` // nil if it is unknown who leads
	RaftVersion string             `json:"raft_version"`
	Build       string             `json:"build"`
	Datacenter  string             `json:"datacenter"`
	Region      string             `json:"region"`
}

// show prints the servers as a table or as JSON.
func show(w io.Writer, servers []server, asJSON bool) error {
	rows := [][]string{{"NAME", "ADDRESS", "STATUS", "LEADER", "BUILD", "DATACENTER", "REGION"}}
	lines := json.NewEncoder(w)
	for _, s := range servers {
		if asJSON {
			if err := lines.Encode(s); err != nil {
				return err
			}
			continue
		}
		leader := "-"
		if s.Leader != nil {
			leader = strconv.FormatBool(*s.Leader)
		}
		address := netip.AddrPortFrom(s.Address, s.Port).String()
		rows = append(rows, []string{s.Name, address, string(s.Status), leader, s.Build, s.Datacenter, s.Region})
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
