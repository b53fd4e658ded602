// Observability makes OpenTelemetry spans and Prometheus metrics of what a client does. It asks an agent for its members,
// itself and its health again and again, serves the metrics meanwhile, and tells at the end what they and the spans say.
//
// When no agent is named it starts three servers in memory, the first of which fails some requests to begin with: the
// retries are spans below that of their call. With NOMAD_ADDR or NOMAD_UNIX_ADDR set it asks that agent, and only reads.
// What a program of your own needs is in observe.go.
//
//	go run . [-interval 500ms] [-for 2s] [-listen 127.0.0.1:9100] [-timeout 10s] [-json]
//
// It exits with 0 when all calls succeeded, if need be after retries; with 1 when some did not; with 2 when it was called
// the wrong way, cannot listen, or the agent could not be asked.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

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
	flags := flag.NewFlagSet("observability", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Makes spans and metrics of calls to the agent at NOMAD_ADDR, or to a cluster in memory.\n\n"+
			"usage: observability [flags]\n\nThe agent in memory fails now and then, so that attempts and errors are seen. -for 1m leaves time to look at /metrics.\n\n")
		flags.PrintDefaults()
		fmt.Fprintf(stderr, "\nexit codes: 0 all calls succeeded, 1 some failed, 2 wrong usage or the agent could not be asked\n")
	}
	interval := flags.Duration("interval", 500*time.Millisecond, "time between two rounds of calls")
	lasting := flags.Duration("for", 0, "time to go on; 0 is 2s in memory, and otherwise until interrupted")
	listen := flags.String("listen", "127.0.0.1:0", "address to serve /metrics on")
	timeout := flags.Duration("timeout", 10*time.Second, "time that a call may take, retries included")
	asJSON := flags.Bool("json", false, "print JSON Lines in place of tables")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || *interval <= 0 || *lasting < 0 {
		fmt.Fprintln(stderr, "observability: want no arguments, an interval above 0, and a time to go on of 0 or more")
		return 2
	}
	fail := func(err error) int {
		fmt.Fprintln(stderr, "observability:", err)
		return 2
	}

	spans := newRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer provider.Shutdown(context.WithoutCancel(ctx))
	registry := prometheus.NewRegistry()
	observer := newObserver(provider, registry)

	client, inMemory, done, err := connect(nomad.WithTimeout(*timeout), nomad.WithTransport(observer.transport))
	if err != nil {
		return fail(err)
	}
	defer done()
	if inMemory && *lasting == 0 {
		*lasting = 2 * time.Second
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fail(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer server.Close()
	go server.Serve(listener)
	fmt.Fprintf(stderr, "metrics are at http://%s/metrics\n", listener.Addr())

	if err := watch(ctx, observer, client, *interval, *lasting, stderr); err != nil {
		return fail(err)
	}
	ok, err := report(stdout, registry, spans, *asJSON)
	switch {
	case err != nil:
		return fail(err)
	case !ok:
		return 1
	}
	return 0
}

// connect makes a client of the agent that the environment names or, without one, of one in memory that is about to fail.
func connect(options ...nomad.Option) (client *nomad.Client, inMemory bool, done func(), err error) {
	client, cluster, done, err := demo.Connect(options, nomadtest.Servers(3), nomadtest.ACLs())
	if err != nil || cluster == nil {
		return client, false, done, err
	}
	agent := cluster.Agents()[0]
	agent.Inject(nomadtest.Status(http.StatusServiceUnavailable, "busy"), nomadtest.On("members"), nomadtest.Times(2))
	agent.Inject(nomadtest.Reset(), nomadtest.On("self"), nomadtest.Times(2))
	return client, true, done, nil
}

// watch makes the calls until the time is over or the context ends. It tells of those that fail, and gives up only when the
// very first has no answer.
func watch(ctx context.Context, o *observer, client *nomad.Client, interval, lasting time.Duration, stderr io.Writer) error {
	calls := []struct {
		name string
		do   func(context.Context) error
	}{
		{"Members", func(ctx context.Context) error { _, err := client.Agent.Members(ctx); return err }},
		{"Self", func(ctx context.Context) error { _, err := client.Agent.Self(ctx); return err }},
		{"Health", func(ctx context.Context) error { _, err := client.Agent.Health(ctx); return err }},
	}
	// The end of the time ends no call that is under way.
	limited := ctx
	if lasting > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, lasting)
		defer cancel()
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for first := true; first || limited.Err() == nil; {
		for _, call := range calls {
			err := o.call(ctx, call.name, call.do)
			if ctx.Err() != nil {
				return nil
			}
			if answer := new(nomad.APIError); first && err != nil && !errors.As(err, &answer) {
				return err
			}
			if err != nil {
				fmt.Fprintln(stderr, "observability:", err)
			}
			first = false
		}
		select {
		case <-limited.Done():
		case <-tick.C:
		}
	}
	return nil
}
