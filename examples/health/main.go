// Health is a probe for load balancers and Kubernetes: it tells by its exit code whether an agent is healthy.
//
//	usage: health [-role server|client] [-timeout duration] [-json] [-quiet]
//
// It asks the agent at NOMAD_ADDR or, when that is not set, a healthy one in memory. A server is healthy when its region has
// a leader, a client when it knows a server. No ACL token is needed.
//
// It exits with 0 when the agent is healthy, with 1 when it says that it is not, and with 2 when that is not known: it could
// not be asked in time, it does not have the role, or the usage is wrong. go run has an exit code of its own, so build it.
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
	"strings"
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
	flags := flag.NewFlagSet("health", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var roles []nomad.Role
	flags.Func("role", "the `role` to ask about, server or client; can be repeated, or be a list with commas (default all that the agent has)",
		func(list string) error {
			for name := range strings.SplitSeq(list, ",") {
				role := nomad.Role(name)
				if role != nomad.RoleServer && role != nomad.RoleClient {
					return errors.New("want server or client")
				}
				roles = append(roles, role)
			}
			return nil
		})
	timeout := flags.Duration("timeout", 10*time.Second, "the limit for the answer; a server without a leader takes 5s to say so")
	asJSON := flags.Bool("json", false, "print the answer as a JSON object")
	quiet := flags.Bool("quiet", false, "print nothing but errors")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Tells whether the agent at NOMAD_ADDR is healthy or, when that is not set, one in memory.\n\nusage: health [flags]\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nexit codes: 0 healthy, 1 unhealthy, 2 not known: no answer in time, not of that role, or wrong usage\n")
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "health:", err)
		return 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}

	client, _, done, err := demo.Connect(nil, nomadtest.Both(1))
	if err != nil {
		return fail(err)
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	// When the agent is unhealthy there is an answer beside the error.
	health, err := client.Agent.Health(ctx, roles...)
	if err != nil && (!errors.Is(err, nomad.ErrUnhealthy) || errors.Is(err, nomad.ErrServerOnly) || errors.Is(err, nomad.ErrClientOnly)) {
		return fail(err)
	}
	if !*quiet {
		if err := write(stdout, health, *asJSON); err != nil {
			return fail(err)
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

// write prints the answer as a table or as JSON.
func write(w io.Writer, health *nomad.Health, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(health)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ROLE\tHEALTHY\tMESSAGE")
	row := func(role nomad.Role, h *nomad.RoleHealth) {
		if h != nil {
			fmt.Fprintf(table, "%s\t%t\t%s\n", role, h.OK, h.Message)
		}
	}
	row(nomad.RoleServer, health.Server)
	row(nomad.RoleClient, health.Client)
	return table.Flush()
}
