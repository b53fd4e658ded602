// Health is a probe for load balancers and Kubernetes: its exit code reports whether a Nomad agent is
// healthy. Build it, because go run has an exit code of its own. Run it with -h for its flags, and
// with -demo to try it without an agent.
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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

const usage = `Health reports by its exit code whether a Nomad agent is healthy.

usage: health [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set).
A server is healthy if its region has a leader, a client if it knows a server.
No ACL token is needed.

exit codes:
  0  the agent is healthy
  1  the agent is unhealthy
  2  unknown: no response in time, the agent does not have the role, wrong
     usage, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("health", flag.ContinueOnError)
	var roles []nomad.Role
	flags.Func("role", "check this `role` only: server or client; may be repeated", func(name string) error {
		for part := range strings.SplitSeq(name, ",") {
			role := nomad.Role(part)
			if role != nomad.RoleServer && role != nomad.RoleClient {
				return errors.New("want server or client")
			}
			roles = append(roles, role)
		}
		return nil
	})
	timeout := flags.Duration("timeout", 10*time.Second, "time limit; a server without a leader takes 5s")
	asJSON := flags.Bool("json", false, "print the result as a JSON object")
	quiet := flags.Bool("quiet", false, "print nothing but errors")
	demo := flags.Bool("demo", false, "use a cluster in memory")
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
	case *asJSON && *quiet:
		return 2, errors.New("-json and -quiet exclude each other")
	}

	// With a region, a server would report whether that region has a leader, and not its own.
	options := []nomad.Option{nomad.FromEnvironment(), nomad.WithRegion(""), nomad.WithTimeout(*timeout)}
	if *demo {
		fmt.Fprintln(stderr, "health: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Both(1))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.Agents()[0].URL()), nomad.WithTimeout(*timeout)}
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	// Health returns the result of an unhealthy agent together with ErrUnhealthy.
	health, err := client.Agent.Health(ctx, roles...)
	if err != nil && !errors.Is(err, nomad.ErrUnhealthy) {
		return 2, err
	}
	if !*quiet {
		if err := show(stdout, health, *asJSON); err != nil {
			return 2, err
		}
	}
	if err != nil {
		return 1, nil
	}
	return 0, nil
}

// show prints the result as a table or as JSON.
func show(w io.Writer, health *nomad.Health, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(health)
	}
	text := "ROLE    HEALTHY  MESSAGE\n"
	row := func(role nomad.Role, h *nomad.RoleHealth) {
		if h != nil {
			text += fmt.Sprintf("%-6s  %-7t  %.62s\n", role, h.OK, strings.Map(printable, h.Message))
		}
	}
	row(nomad.RoleServer, health.Server)
	row(nomad.RoleClient, health.Client)
	_, err := io.WriteString(w, text)
	return err
}

// printable replaces what could control a terminal.
func printable(r rune) rune {
	if strconv.IsPrint(r) {
		return r
	}
	return '?'
}
