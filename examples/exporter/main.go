// Exporter serves Prometheus metrics of a Nomad cluster as seen from outside: it gets from every server its health and its
// view of the pool. Beside it are a dashboard for Grafana (dashboard.json) and alert rules for Prometheus (alerts.yml).
// Run it with -h for its flags, and with -demo to try it without an agent.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

const usage = `Exporter serves Prometheus metrics of a Nomad cluster at /metrics.

usage: exporter [flags]

It gets the list of servers from the agent at NOMAD_ADDR, or from that at
http://127.0.0.1:4646 if that is not set, and calls each server at the address
that it gossips at. The ACL token at NOMAD_TOKEN needs node:read, and agent:read
for nomad_server_last_contact_seconds; it is sent to every server.

Scrapes that come while the servers are called share the results. A server that
does not respond has nomad_server_up 0. If the agent does not respond, nomad_up
is 0 and the metrics of the cluster are absent.

exit codes:
  0  interrupted, or with -once: the metrics are printed
  1  with -once: the metrics are printed, and nomad_up is 0
  2  wrong usage, the address cannot be listened on, or the output could not be
     written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "exporter:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("exporter", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:9646", "`address` to serve the metrics at;\nthere is no access control")
	interval := flags.Duration("interval", 0,
		"time for which results are served again;\n0 calls the servers for each scrape")
	timeout := flags.Duration("timeout", 9*time.Second,
		"time limit of a scrape; a server may take two thirds of it,\nand takes 5s if it has no leader")
	port := flags.Uint("port", 0, "HTTP `port` of the servers (default that of the agent)")
	https := flags.Bool("https", false, "with -port: the servers speak https")
	once := flags.Bool("once", false, "print the metrics and exit")
	demo := flags.Bool("demo", false, "use a cluster in memory with a failed server")
	var help bytes.Buffer
	flags.SetOutput(&help)
	flags.Usage = func() {
		help.WriteString(usage)
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, err := help.WriteTo(stdout); err != nil {
			return 2, err
		}
		return 0, nil
	case err != nil:
		return 2, fmt.Errorf("%w (see -h)", err)
	case flags.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0))
	case *interval < 0:
		return 2, fmt.Errorf("-interval %v: want 0 or more", *interval)
	case *timeout <= 0:
		return 2, fmt.Errorf("-timeout %v: want more than 0", *timeout)
	case *port > 65535:
		return 2, fmt.Errorf("-port %d: want at most 65535", *port)
	case *https && *port == 0:
		return 2, errors.New("-https requires -port")
	case *demo && *port > 0:
		return 2, errors.New("-demo and -port exclude each other")
	case *once && given["listen"]:
		return 2, errors.New("-once and -listen exclude each other")
	case *once && given["interval"]:
		return 2, errors.New("-once and -interval exclude each other")
	}

	logger := slog.New(slog.NewTextHandler(stderr, nil))
	options := []nomad.Option{nomad.FromEnvironment()}
	var settings []survey.Option
	switch {
	case *demo:
		fmt.Fprintln(stderr, "exporter: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(2), nomadtest.Servers(1, nomadtest.Version("1.11.3")))
		defer cluster.Close()
		cluster.Agent("server-1").TakeLead()
		cluster.Agent("server-2").Stop()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		settings = append(settings, survey.WithAddress(func(m nomad.Member) string { // They share an IP address.
			return cluster.URL(strings.TrimSuffix(m.Name, "."+m.Region()))
		}))
	case *https:
		settings = append(settings, survey.WithAddress(survey.HTTPSAddress(uint16(*port))))
	case *port > 0:
		settings = append(settings, survey.WithAddress(survey.HTTPAddress(uint16(*port))))
	}
	// One retry is enough, because the next scrape is another one.
	options = append(options, nomad.WithRetries(1), nomad.WithTimeout(*timeout), nomad.WithLogger(logger))
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()
	if *once {
		*interval = time.Hour // The page and the exit code are of the same survey.
	}
	e := newExporter(ctx, client, logger, *timeout, *interval, settings...)
	registry := prometheus.NewRegistry()
	registry.MustRegister(e)
	if *once {
		if err := write(stdout, registry); err != nil {
			return 2, err
		}
		if e.results().report == nil {
			return 1, nil
		}
		return 0, nil
	}
	return serve(ctx, *listen, *timeout, registry, logger)
}

// write writes the metrics in Prometheus' text format.
func write(w io.Writer, registry *prometheus.Registry) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	var page bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&page, family); err != nil {
			return err
		}
	}
	_, err = page.WriteTo(w)
	return err
}

// serve serves the metrics until the context ends, and returns the exit code.
func serve(
	ctx context.Context, address string, timeout time.Duration, registry *prometheus.Registry, logger *slog.Logger,
) (int, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return 2, err
	}
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelError)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry,
		promhttp.HandlerOpts{ErrorLog: errorLog, MaxRequestsInFlight: 100}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `<!DOCTYPE html><title>Nomad exporter</title><a href="metrics">Metrics of a Nomad cluster</a>`)
	})
	server := &http.Server{
		Handler: mux, ErrorLog: errorLog,
		ReadTimeout: 10 * time.Second, WriteTimeout: timeout + 10*time.Second, IdleTimeout: 2 * time.Minute,
	}
	defer server.Close()
	logger.Info("serving metrics", "url", "http://"+listener.Addr().String()+"/metrics")
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return 2, err
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		server.Shutdown(grace) // The scrapes end too, as their context is the same.
		return 0, nil
	}
}

// exporter is a prometheus.Collector of the metrics of a cluster.
type exporter struct {
	ctx      context.Context // of all surveys
	client   *nomad.Client
	log      *slog.Logger
	timeout  time.Duration // for a survey and the statistics of the servers
	interval time.Duration // for which results are used again
	settings []survey.Option

	mu   sync.Mutex
	last *results // of the survey that runs, or else of the last one

	// Surveys come one after the other, and only they use these.
	surveys float64
	errors  map[string]float64 // number of failures by part
	failing map[failure]bool   // what failed in the last survey
}

// failure is a part of a survey that failed.
type failure struct{ part, server string }

// The parts that can fail.
const (
	partMembers = "members" // the list of members
	partServer  = "server"  // health and view of a server
	partStats   = "stats"   // statistics of a server
)

// results are what a survey found. They are not changed after it.
type results struct {
	done        chan struct{}            // closed at the end
	err         error                    // the context of the exporter ended
	report      *survey.Report           // nil if the agent did not return the members
	lastContact map[string]time.Duration // by name of the server
	duration    time.Duration
	ended       time.Time
	surveys     float64
	errors      map[string]float64
}

func newExporter(ctx context.Context, client *nomad.Client, log *slog.Logger, timeout, interval time.Duration,
	settings ...survey.Option,
) *exporter {
	return &exporter{
		ctx: ctx, client: client, log: log, timeout: timeout, interval: interval,
		settings: slices.Clip(append(settings, survey.WithTimeout(timeout*2/3))),
		errors:   map[string]float64{partMembers: 0, partServer: 0, partStats: 0},
	}
}

// results returns what the current survey finds, and starts one if the last one is too old.
func (e *exporter) results() *results {
	e.mu.Lock()
	r := e.last
	if r == nil || r.isOlderThan(e.interval) {
		r = &results{done: make(chan struct{})}
		e.last = r
		go e.survey(r)
	}
	e.mu.Unlock()
	<-r.done
	return r
}

// isOlderThan reports whether the survey ended so long ago.
func (r *results) isOlderThan(d time.Duration) bool {
	select {
	case <-r.done:
		return time.Since(r.ended) >= d
	default:
		return false
	}
}

// survey calls all servers.
func (e *exporter) survey(r *results) {
	defer close(r.done)
	started := time.Now()
	ctx, cancel := context.WithTimeout(e.ctx, e.timeout)
	defer cancel()
	r.lastContact = map[string]time.Duration{}
	failed := map[failure]error{}
	var (
		mu    sync.Mutex // for r.lastContact and failed
		group sync.WaitGroup
		slots = make(chan struct{}, survey.DefaultConcurrency)
	)
	// The statistics of a server do not wait for another one that is slow.
	progress := survey.WithProgress(func(_, _ int, s survey.Server) {
		mu.Lock()
		defer mu.Unlock()
		if s.Err != nil {
			failed[failure{partServer, s.Member.Name}] = s.Err
		}
		if !s.Reachable() {
			return
		}
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			contact, known, err := e.lastContact(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[failure{partStats, s.Member.Name}] = err
			} else if known {
				r.lastContact[s.Member.Name] = contact
			}
		})
	})
	report, err := survey.Run(ctx, e.client, append(e.settings, progress)...)
	group.Wait()

	r.err, r.report, r.ended = e.ctx.Err(), report, time.Now()
	r.duration = r.ended.Sub(started)
	if report == nil {
		failed[failure{part: partMembers}] = err
	}
	if r.err == nil {
		e.logChanges(failed, report == nil)
	}
	e.surveys++
	for f := range failed {
		e.errors[f.part]++
	}
	r.surveys, r.errors = e.surveys, maps.Clone(e.errors)
}

// lastContact returns how long ago a server had contact with its leader, and whether it ever had.
func (e *exporter) lastContact(ctx context.Context, s survey.Server) (contact time.Duration, known bool, err error) {
	client, err := e.client.With(nomad.WithAddress(s.Address), nomad.WithRegion(""))
	if err != nil {
		return 0, false, err
	}
	self, err := client.Agent.Self(ctx)
	switch {
	case err != nil:
		return 0, false, err
	case self.Member.Name != s.Member.Name:
		return 0, false, errors.New("another server responds in its place")
	}
	contact, known = self.Stats.LastContact()
	return contact, known, nil
}

// logChanges logs which parts fail that did not fail before, and which do not fail any more. The other parts are as before
// if only the list of members was requested.
func (e *exporter) logChanges(failed map[failure]error, membersOnly bool) {
	for f, err := range failed {
		if !e.failing[f] {
			e.log.Warn("failed", "part", f.part, "server", f.server, "error", err)
		}
	}
	failing := map[failure]bool{}
	for f := range e.failing {
		if membersOnly {
			failing[f] = true
		} else if failed[f] == nil {
			e.log.Info("does not fail any more", "part", f.part, "server", f.server)
		}
	}
	for f := range failed {
		failing[f] = true
	}
	e.failing = failing
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func perServer(name, help string, labels ...string) *prometheus.Desc {
	return desc(name, help, append([]string{"server", "region"}, labels...)...)
}

var (
	up            = desc("nomad_up", "Whether the agent returned the members of the cluster.")
	members       = desc("nomad_cluster_members", "Servers in the gossip pool.", "region", "status", "build")
	disagreements = desc("nomad_cluster_disagreements", "Members that the servers see differently.")
	regionLeaders = desc("nomad_region_leaders",
		"Different leaders that the servers of the region report; absent if none responds.", "region")
	regionBuilds = desc("nomad_region_builds", "Different versions of Nomad among the alive servers of the region.", "region")

	serverInfo    = perServer("nomad_server_info", "Datacenter and version of the server.", "datacenter", "build")
	serverUp      = perServer("nomad_server_up", "Whether the server responds.")
	serverAlive   = perServer("nomad_server_alive", "Whether the server is alive in the gossip pool.")
	serverHealthy = perServer("nomad_server_healthy",
		"Whether the server reports that it is healthy; absent if it reports nothing.")
	serverLeader      = perServer("nomad_server_leader", "Whether a server of the region reports this one as leader.")
	serverLastContact = perServer("nomad_server_last_contact_seconds",
		"Time since the server had contact with its leader; 0 for the leader.")
	serverDuration = perServer("nomad_server_response_duration_seconds",
		"Time until the server had responded to all requests, or failed.")

	surveyDuration = desc("nomad_exporter_survey_duration_seconds", "Time that the last survey of all servers took.")
	surveyTime     = desc("nomad_exporter_survey_timestamp_seconds", "Unix time of the end of the last survey.")
	surveys        = desc("nomad_exporter_surveys_total", "Surveys of all servers.")
	surveyErrors   = desc("nomad_exporter_errors_total",
		"Parts of surveys that failed: the list of members, a server, or its statistics.", "part")

	descriptions = []*prometheus.Desc{
		up, members, disagreements, regionLeaders, regionBuilds, serverInfo, serverUp, serverAlive, serverHealthy, serverLeader,
		serverLastContact, serverDuration, surveyDuration, surveyTime, surveys, surveyErrors,
	}
)

// Describe sends the descriptions of all metrics.
func (e *exporter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		ch <- d
	}
}

// Collect sends the metrics.
func (e *exporter) Collect(ch chan<- prometheus.Metric) {
	r := e.results()
	if r.err != nil {
		ch <- prometheus.NewInvalidMetric(up, r.err)
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	gauge(surveyDuration, r.duration.Seconds())
	gauge(surveyTime, float64(r.ended.UnixMilli())/1000)
	counter(surveys, r.surveys)
	for part, n := range r.errors {
		counter(surveyErrors, n, part)
	}
	gauge(up, number(r.report != nil))
	if r.report != nil {
		r.collect(gauge)
	}
}

// region is what the servers of a region report.
type region struct {
	responds bool
	leaders  map[string]bool // RPC addresses
	builds   map[string]bool
}

// collect passes the metrics of the cluster to gauge.
func (r *results) collect(gauge func(d *prometheus.Desc, value float64, labels ...string)) {
	type kind struct{ region, status, build string }
	kinds := map[kind]float64{}
	for _, m := range r.report.Members {
		kinds[kind{m.Region(), string(m.Status), m.Build()}]++
	}
	for k, n := range kinds {
		gauge(members, n, k.region, k.status, k.build)
	}
	gauge(disagreements, float64(len(r.report.Disagreements)))

	regions := map[string]*region{}
	for _, s := range r.report.Servers {
		in := regions[s.Member.Region()]
		if in == nil {
			in = &region{leaders: map[string]bool{}, builds: map[string]bool{}}
			regions[s.Member.Region()] = in
		}
		in.responds = in.responds || s.Health != nil
		if s.Leader != "" {
			in.leaders[s.Leader] = true
		}
		if s.Member.Status == nomad.StatusAlive {
			in.builds[s.Build] = true
		}
	}
	for name, in := range regions {
		gauge(regionBuilds, float64(len(in.builds)), name)
		if in.responds {
			gauge(regionLeaders, float64(len(in.leaders)), name)
		}
	}

	for _, s := range r.report.Servers {
		name, in := s.Member.Name, s.Member.Region()
		gauge(serverInfo, 1, name, in, s.Member.Datacenter(), s.Build)
		gauge(serverUp, number(s.Reachable()), name, in)
		gauge(serverAlive, number(s.Member.Status == nomad.StatusAlive), name, in)
		if s.Health != nil {
			gauge(serverHealthy, number(s.Healthy()), name, in)
		}
		if regions[in].responds {
			gauge(serverLeader, number(regions[in].leaders[s.Member.RPCAddr().String()]), name, in)
		}
		if contact, ok := r.lastContact[name]; ok {
			gauge(serverLastContact, contact.Seconds(), name, in)
		}
		gauge(serverDuration, s.Duration.Seconds(), name, in)
	}
}

// number returns 1 for true, and 0 for false.
func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
