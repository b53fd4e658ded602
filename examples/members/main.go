// Members lists the servers of the gossip pool and tells which of them lead, as nomad server members does.
//
//	usage: members [-json] [-status status] [-timeout duration]
//
// It asks the agent at NOMAD_ADDR or, when that is not set, a cluster in memory that has lost a server.
//
// It exits with 0 when all is well, with 1 when a server that it lists is neither alive nor left, or when it lists none,
// and with 2 when its usage is wrong or the agent could not be asked.
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
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
)

// server is what is told about a server.
type server struct {
	Name        string             `json:"name"`
	Address     netip.Addr         `json:"address"`
	Port        uint16             `json:"port"`
	Status      nomad.MemberStatus `json:"status"`
	Leader      *bool              `json:"leader"` // nil when it could not be found out
	RaftVersion string             `json:"raft_version"`
	Build       string             `json:"build"`
	Datacenter  string             `json:"datacenter"`
	Region      string             `json:"region"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("members", flag.ContinueOnError)
	flags.SetOutput(stderr)
	asJSON := flags.Bool("json", false, "print a JSON object for each server, one a line")
	status := flags.String("status", "", "list only the servers of this `status`: alive, leaving, left or failed")
	timeout := flags.Duration("timeout", 10*time.Second, "the limit for all calls together")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Lists the servers of the gossip pool, as the agent at NOMAD_ADDR sees them or, when that is not set, one in memory.\n\nusage: members [flags]\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nexit codes: 0 all is well, 1 a listed server is neither alive nor left, or none is listed,\n"+
			"2 wrong usage or the agent could not be asked\n")
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "members:", err)
		return 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case !slices.Contains([]string{"", "alive", "leaving", "left", "failed"}, *status):
		return fail(fmt.Errorf("unknown status %q: want alive, leaving, left or failed", *status))
	}

	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(3, nomadtest.Region("eu")))
	if err != nil {
		return fail(err)
	}
	defer done()
	if cluster != nil {
		cluster.Agent("server-3").Stop()
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	pool, err := client.Agent.Members(ctx)
	if err != nil {
		return fail(err)
	}
	slices.SortFunc(pool.Members, nomad.CompareMembers)
	lines, table := json.NewEncoder(stdout), tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if !*asJSON {
		fmt.Fprintln(table, "NAME\tADDRESS\tPORT\tSTATUS\tLEADER\tRAFT VERSION\tBUILD\tDATACENTER\tREGION")
	}
	leaders := map[string]string{} // by region
	listed, bad := 0, 0
	for _, m := range pool.Members {
		if *status != "" && *status != string(m.Status) {
			continue
		}
		listed++
		if m.Status != nomad.StatusAlive && m.Status != nomad.StatusLeft {
			bad++
		}
		s := server{m.Name, m.Addr, m.Port, m.Status, nil, m.Tags["raft_vsn"], m.Build(), m.Datacenter(), m.Region()}
		leads := "-"
		if _, asked := leaders[s.Region]; !asked {
			leaders[s.Region] = leaderOf(ctx, client, s.Region, stderr)
		}
		if leader := leaders[s.Region]; leader != "" {
			s.Leader = new(leader == m.RPCAddr().String())
			leads = strconv.FormatBool(*s.Leader)
		}
		if *asJSON {
			if err := lines.Encode(s); err != nil {
				return fail(err)
			}
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Address, s.Port, s.Status, leads, s.RaftVersion,
			s.Build, s.Datacenter, s.Region)
	}
	if err := table.Flush(); err != nil {
		return fail(err)
	}
	switch {
	case listed == 0:
		fmt.Fprintln(stderr, "members: there is no such server")
		return 1
	case bad > 0:
		fmt.Fprintf(stderr, "members: neither alive nor left: %d of %d\n", bad, listed)
		return 1
	}
	return 0
}

// leaderOf asks for the RPC address of a region's leader. It is "none" when there is none, and empty when the agent does not
// say.
func leaderOf(ctx context.Context, client *nomad.Client, region string, stderr io.Writer) string {
	there, err := client.With(nomad.WithRegion(region))
	var address string
	if err == nil {
		address, err = there.Status.Leader(ctx)
	}
	switch {
	case err == nil && address != "":
		return address
	case err == nil, errors.Is(err, nomad.ErrNoLeader):
		fmt.Fprintf(stderr, "members: region %q has no leader\n", region)
		return "none"
	}
	fmt.Fprintf(stderr, "members: the leader of region %q is not known: %v\n", region, err)
	return ""
}
