// Nomadtest runs a cluster of Nomad agents in memory, for tests in other languages and for the nomad
// command.
//
//	usage: nomadtest [flags]
//
// It prints the addresses of the agents as one line of JSON, and runs until it is interrupted. At the
// control address in that line, tests can stop and start agents, partition them and inject faults. See
// docs/testing.md.
//
// The exit code is 0 after an interrupt or -help, and 2 for wrong usage or if the cluster could not be
// started.
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
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nomad-go/nomad/nomadtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// maxAgents is how many agents a cluster has at most. More take long to start, and a file descriptor each.
const maxAgents = 2000

// setup holds the values of the flags.
type setup struct {
	servers, clients, both  int
	acl, tls, mutualTLS     bool
	debug, realDelays       bool
	version, region, gossip string
	control                 string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s setup
	flags := flag.NewFlagSet("nomadtest", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&s.servers, "servers", 1, "the `number` of agents in server mode, named server-1\nand so on")
	flags.IntVar(&s.clients, "clients", 0, "the `number` of agents in client mode, named client-1 and so on")
	flags.IntVar(&s.both, "both", 0, "the `number` of agents in both modes, named both-1 and so on")
	flags.BoolVar(&s.acl, "acl", false, "agents ask for a token")
	flags.BoolVar(&s.tls, "tls", false, "agents speak https")
	flags.BoolVar(&s.mutualTLS, "mutual-tls", false, "agents speak https and ask for a certificate")
	flags.BoolVar(&s.debug, "debug", false, "agents without ACLs give profiles and facts about their host")
	flags.BoolVar(&s.realDelays, "real-delays", false, "agents are as slow as real ones are on purpose")
	flags.StringVar(&s.version, "version", nomadtest.DefaultVersion, "the `version` of Nomad that agents report and\nrespond as")
	flags.StringVar(&s.region, "region", "global", "the `name` of the agents' region")
	flags.StringVar(&s.gossip, "gossip-key", "", "the `key` of the servers' gossip: 16, 24 or 32 bytes in base64")
	flags.StringVar(&s.control, "control", "127.0.0.1:0", "the `address` to control the cluster at,\nhost:port")
	fail := func(err error) int {
		fmt.Fprintln(stderr, "nomadtest:", strings.TrimPrefix(err.Error(), "nomadtest: "))
		return 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		help := bytes.NewBufferString("Runs a cluster of Nomad agents in memory, prints where they are as a line of\n" +
			"JSON, and ends when it is interrupted.\n\nusage: nomadtest [flags]\n\n")
		flags.SetOutput(help)
		flags.PrintDefaults()
		help.WriteString("\nexit codes: 0 it was interrupted\n            2 wrong usage, the cluster could not be started, or the output could\n" +
			"              not be written\n")
		if _, err := help.WriteTo(stdout); err != nil {
			return fail(err)
		}
		return 0
	case err != nil:
		return fail(err)
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case max(s.servers, s.clients, s.both) > maxAgents || s.servers+s.clients+s.both > maxAgents:
		return fail(fmt.Errorf("too many agents: want at most %d", maxAgents))
	case s.servers == 0 && s.clients == 0 && s.both == 0:
		return fail(errors.New("no agents: want -servers, -clients or -both to be more than 0"))
	}
	listener, err := net.Listen("tcp", s.control)
	if err != nil {
		return fail(err)
	}
	defer listener.Close()
	var cluster *nomadtest.Cluster
	if err := try(func() { cluster = nomadtest.NewCluster(s.options()...) }); err != nil {
		return fail(err)
	}
	defer cluster.Close()

	server := &http.Server{Handler: newControl(cluster, s.region), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	d := s.describe(cluster)
	d.Control = "http://" + listener.Addr().String()
	if err := json.NewEncoder(stdout).Encode(d); err != nil {
		server.Close()
		<-served
		return fail(err)
	}
	select {
	case err := <-served:
		return fail(err)
	case <-ctx.Done():
		server.Close()
		<-served
		return 0
	}
}

// try calls f and returns a panic of package nomadtest, such as for an invalid version, as an error.
func try(f func()) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			text, ok := problem.(string)
			if !ok || !strings.HasPrefix(text, "nomadtest: ") {
				panic(problem)
			}
			err = errors.New(text)
		}
	}()
	f()
	return nil
}

func (s setup) options() []nomadtest.Option {
	options := []nomadtest.Option{
		nomadtest.Servers(s.servers), nomadtest.Clients(s.clients), nomadtest.Both(s.both),
		nomadtest.Version(s.version), nomadtest.Region(s.region),
	}
	for _, o := range []struct {
		given  bool
		option nomadtest.Option
	}{
		{s.acl, nomadtest.ACLs()}, {s.tls, nomadtest.TLS()}, {s.mutualTLS, nomadtest.MutualTLS()},
		{s.debug, nomadtest.Debug()}, {s.realDelays, nomadtest.RealDelays()},
	} {
		if o.given {
			options = append(options, o.option)
		}
	}
	if s.gossip != "" {
		options = append(options, nomadtest.GossipKey(s.gossip))
	}
	return options
}

// description is the output of the program.
type description struct {
	Control     string            `json:"control"`
	Agents      []agent           `json:"agents"`
	Tokens      map[string]string `json:"tokens,omitempty"`
	TLS         *tlsFiles         `json:"tls,omitempty"`
	Environment map[string]string `json:"environment"`
}

type agent struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	RPC      string `json:"rpc,omitempty"`  // of a server
	Serf     string `json:"serf,omitempty"` // of a server
	ServerID string `json:"server_id,omitempty"`
	NodeID   string `json:"node_id,omitempty"`
}

type tlsFiles struct {
	CAFile   string `json:"ca_file"`
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
}

func (s setup) describe(cluster *nomadtest.Cluster) description {
	agents := cluster.Agents()
	d := description{Environment: map[string]string{"NOMAD_ADDR": agents[0].URL(), "NOMAD_REGION": s.region}}
	for _, a := range agents {
		about := agent{Name: a.Name(), URL: a.URL(), ServerID: a.ServerID(), NodeID: a.NodeID()}
		if about.ServerID != "" {
			about.RPC, about.Serf = a.RPCAddr(), a.SerfAddr()
		}
		d.Agents = append(d.Agents, about)
	}
	if s.acl {
		d.Tokens = map[string]string{
			"management": nomadtest.ManagementToken, "agent_read": nomadtest.AgentReadToken, "agent_write": nomadtest.AgentWriteToken,
			"node_read": nomadtest.NodeReadToken, "unknown": nomadtest.UnknownToken,
		}
		d.Environment["NOMAD_TOKEN"] = nomadtest.ManagementToken
	}
	if s.tls || s.mutualTLS {
		files := cluster.TLSFiles()
		d.TLS = &tlsFiles{files.CAFile, files.CertFile, files.KeyFile}
		d.Environment["NOMAD_CACERT"] = files.CAFile
		d.Environment["NOMAD_CLIENT_CERT"] = files.CertFile
		d.Environment["NOMAD_CLIENT_KEY"] = files.KeyFile
	}
	return d
}
