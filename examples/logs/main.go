// Logs follows the logs of Nomad agents, and goes on after an agent was restarted. Run it with -h for
// its flags, and with -demo to try it without an agent.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

const usage = `Logs follows the logs of one or more Nomad agents.

usage: logs [flags]

It follows the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set),
the agents named by -agent, or those that -target and -node name, through the
agent at NOMAD_ADDR. The ACL token at NOMAD_TOKEN needs agent:read. An agent
that does not respond is called again until it does; outages are reported on
standard error.

exit codes:
  0  interrupted, or -n entries were printed
  1  interrupted, or -n entries were printed; a part of the logs is missing
     because an agent refused it
  2  wrong usage, all agents refused the log, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "logs:", err)
	}
	os.Exit(code)
}

// names are the values of a flag that can be given more than once.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(value string) error {
	if value == "" {
		return errors.New("it is empty")
	}
	*n = append(*n, value)
	return nil
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("logs", flag.ContinueOnError)
	level := flags.String("level", "info", "lowest `level`: trace, debug, info, warn or error")
	grep := flags.String("grep", "", "print only entries of which the module, message and fields match\nthis regular `expression`")
	since := flags.Duration("since", 0, "begin with the entries of this `age` or younger in the agent's log\nfile; needs log_file and Nomad 1.10.4, not with -target")
	service := flags.String("service", "", "with -since: read the journal of this systemd `service` instead")
	n := flags.Uint("n", 0, "stop after this `number` of entries; 0 means never")
	var addresses, servers, nodes names
	flags.Var(&addresses, "agent", "follow the agent at this `address`; can be repeated")
	flags.Var(&servers, "target", "follow the server of this `name`, or leader, through the agent at\nNOMAD_ADDR; can be repeated")
	flags.Var(&nodes, "node", "follow the client agent with this node `ID` through the agent at\nNOMAD_ADDR; can be repeated")
	color := flags.String("color", "auto",
		"color entries: auto, always or never; auto means on a terminal\nunless NO_COLOR is set or TERM is dumb")
	asJSON := flags.Bool("json", false, "print a JSON object for each entry and outage, one a line")
	demo := flags.Bool("demo", false, "follow two servers of a cluster in memory, of which one restarts")
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
	case len(addresses) > 0 && len(servers)+len(nodes) > 0:
		return 2, errors.New("-agent excludes -target and -node")
	case *demo && len(addresses)+len(servers)+len(nodes) > 0:
		return 2, errors.New("-demo excludes -agent, -target and -node")
	case *since < 0:
		return 2, fmt.Errorf("-since %v: want 0 or more", *since)
	case *since == 0 && *service != "":
		return 2, errors.New("-service needs -since")
	case *since > 0 && len(servers) > 0:
		return 2, errors.New("-since and -target exclude each other: servers forward only the new entries of another; use -agent")
	case *asJSON && *color == "always":
		return 2, errors.New("-json and -color always exclude each other")
	case !slices.Contains([]string{"auto", "always", "never"}, *color):
		return 2, fmt.Errorf("-color %q: want auto, always or never", *color)
	}
	lowest, err := nomad.ParseLogLevel(*level)
	if err != nil {
		return 2, fmt.Errorf("-level %q: want trace, debug, info, warn or error", *level)
	}
	pattern, err := regexp.Compile(*grep)
	if err != nil {
		return 2, fmt.Errorf("-grep: %w", err)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *demo {
		fmt.Fprintln(stderr, "logs: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(2, nomadtest.LogFile()))
		defer cluster.Close()
		for _, agent := range cluster.Agents() {
			addresses = append(addresses, agent.URL())
		}
		var acting sync.WaitGroup
		defer acting.Wait()
		defer cancel()
		acting.Go(func() { act(ctx, cluster) })
	}
	sources, err := sourcesOf(addresses, servers, nodes)
	if err != nil {
		return 2, err
	}
	for _, s := range sources {
		defer s.client.Close()
		s.level, s.since, s.service = lowest, *since, *service
	}
	if len(sources) > 1 || *asJSON {
		nameAll(ctx, sources)
	}
	p := &printer{stdout: stdout, stderr: stderr, asJSON: *asJSON, pattern: pattern, limit: *n,
		colored: *color == "always" || *color == "auto" && takesColor(stdout)}
	p.begin(sources)

	lines := make(chan line)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	for _, s := range sources {
		following.Go(func() {
			s.follow(ctx, func(l line) bool {
				l.source = s
				select {
				case lines <- l:
					return true
				case <-ctx.Done():
					return false
				}
			})
		})
	}
	code := 0
	for left := len(sources); ; {
		select {
		case <-ctx.Done():
			return code, nil
		case l := <-lines:
			if ctx.Err() != nil { // an error is that of the context
				return code, nil
			}
			if l.err == nil {
				done, err := p.print(l)
				if err != nil {
					return 2, err
				}
				if done {
					return code, nil
				}
				continue
			}
			code = 1
			if l.isEnd {
				left--
			}
			if left == 0 {
				return 2, fmt.Errorf("%s: %w", l.source, l.err)
			}
			fmt.Fprintf(stderr, "logs: %s: %v\n", l.source, l.err)
		}
	}
}

// source is a log to follow.
type source struct {
	client  *nomad.Client
	target  nomad.Target
	name    string
	level   nomad.LogLevel
	since   time.Duration
	service string
}

func (s *source) String() string { return cmp.Or(s.name, s.client.Address()) }

// nodeID is a UUID. Agents refuse anything else with the status 500, as if it could be there later.
var nodeID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// sourcesOf returns the logs of the agents at addresses, or of others through the agent of the environment.
func sourcesOf(addresses, servers, nodes []string) ([]*source, error) {
	var sources []*source
	for _, address := range addresses {
		client, err := nomad.NewClient(nomad.FromEnvironment(), nomad.WithAddress(address))
		if err != nil {
			return nil, err
		}
		sources = append(sources, &source{client: client})
	}
	if len(sources) > 0 {
		return sources, nil
	}
	client, err := nomad.NewClient(nomad.FromEnvironment())
	if err != nil {
		return nil, err
	}
	for _, name := range servers {
		sources = append(sources, &source{client: client, target: nomad.OnServer(name), name: name})
	}
	for _, id := range nodes {
		if !nodeID.MatchString(id) {
			return nil, fmt.Errorf("-node %q: want the full ID of a node", id)
		}
		sources = append(sources, &source{client: client, target: nomad.OnNode(id), name: id})
	}
	if len(sources) == 0 {
		sources = append(sources, &source{client: client})
	}
	return sources, nil
}

// nameAll asks the agents for their names. One that does not respond at once goes by its address.
func nameAll(ctx context.Context, sources []*source) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var asking sync.WaitGroup
	for _, s := range sources {
		if s.name != "" {
			continue
		}
		asking.Go(func() {
			if self, err := s.client.Agent.Self(ctx); err == nil {
				s.name = fmt.Sprintf("%.100s", strings.Map(printable, cmp.Or(self.Member.Name, self.Config.NodeName)))
			}
		})
	}
	asking.Wait()
}

// printable replaces what could control a terminal.
func printable(r rune) rune {
	if strconv.IsPrint(r) {
		return r
	}
	return '?'
}

// line is an event of a source's log, or an error: why a part of it is missing, or why it ended.
type line struct {
	source *source
	event  watch.LogEvent
	err    error
	isEnd  bool
}

// follow emits the log's entries of the past, if they are wanted, and all that follow, until the context ends or the
// agent refuses the log.
func (s *source) follow(ctx context.Context, emit func(line) bool) {
	agent := &opening{Agent: s.client.Agent, tried: make(chan struct{})}
	live := watch.Log(ctx, agent, nomad.MonitorOptions{Level: s.level, Target: s.target})
	var seen past
	if s.since > 0 {
		// The log is opened first, so that no entry is missing between the past and what follows.
		var wait func()
		live, wait = buffered(ctx, live)
		defer wait()
		select {
		case <-agent.tried:
		case <-ctx.Done():
			return
		}
		if err := s.past(ctx, &seen, emit); err != nil && !emit(line{err: fmt.Errorf("the stored log: %w", err)}) {
			return
		}
	}
	for event, err := range live {
		switch {
		case err != nil:
			emit(line{err: err, isEnd: true})
			return
		case event.Kind == watch.Entry && seen.has(event.Entry):
		case !emit(line{event: event}):
			return
		}
	}
}

// opening is an agent whose log is followed. The channel is closed after the first attempt to open the log.
type opening struct {
	*nomad.Agent
	tried chan struct{}
	once  sync.Once
}

func (o *opening) Monitor(ctx context.Context, opts nomad.MonitorOptions) (*nomad.LogStream, error) {
	stream, err := o.Agent.Monitor(ctx, opts)
	o.once.Do(func() { close(o.tried) })
	return stream, err
}

// past are the last entries of the past, which the log that follows may repeat.
type past []nomad.LogEntry

const maxPast = 10_000

func (p *past) add(e nomad.LogEntry) {
	if *p = append(*p, e); len(*p) > 2*maxPast {
		*p = slices.Clone((*p)[maxPast:])
	}
}

// has reports whether an entry was read before, and forgets it. The log file has whole milliseconds and the fields in the
// message.
func (p *past) has(e nomad.LogEntry) bool {
	i := slices.IndexFunc(*p, func(old nomad.LogEntry) bool {
		return old.Time.Equal(e.Time.Truncate(time.Millisecond)) && old.Level == e.Level && old.Module == e.Module &&
			strings.HasPrefix(old.Message, e.Message)
	})
	if i < 0 {
		return false
	}
	*p = slices.Delete(*p, i, i+1)
	return true
}

// past emits the entries of the agent's stored log.
func (s *source) past(ctx context.Context, seen *past, emit func(line) bool) error {
	opts := nomad.MonitorExportOptions{OnDisk: true, Target: s.target}
	if s.service != "" {
		opts = nomad.MonitorExportOptions{Service: s.service, Since: max(s.since, time.Second).Truncate(time.Second), Target: s.target}
	}
	logs, err := s.client.Agent.MonitorExport(ctx, opts)
	if err != nil {
		return err
	}
	first := time.Now().Add(-s.since)
	isNew := false
	for e, err := range logs.Entries() {
		if err != nil {
			return err
		}
		if !e.Time.IsZero() { // lines without a time belong to the one before
			isNew = !e.Time.Before(first) && !less(e.Level, s.level)
		}
		if !isNew {
			continue
		}
		seen.add(e)
		if !emit(line{event: watch.LogEvent{Kind: watch.Entry, Entry: e, Time: time.Now()}}) {
			return nil
		}
	}
	return nil
}

var levels = []nomad.LogLevel{nomad.LevelTrace, nomad.LevelDebug, nomad.LevelInfo, nomad.LevelWarn, nomad.LevelError}

func less(a, b nomad.LogLevel) bool { return slices.Index(levels, a) < slices.Index(levels, b) }

// buffered begins a watch at once and keeps what it emits until the sequence is read. The function waits for its end.
func buffered(ctx context.Context, live iter.Seq2[watch.LogEvent, error]) (iter.Seq2[watch.LogEvent, error], func()) {
	type result struct {
		event watch.LogEvent
		err   error
	}
	results := make(chan result, maxPast)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(results)
		for event, err := range live {
			select {
			case results <- result{event, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	return func(yield func(watch.LogEvent, error) bool) {
		for r := range results {
			if !yield(r.event, r.err) {
				return
			}
		}
	}, reading.Wait
}

// printer prints lines.
type printer struct {
	stdout, stderr  io.Writer
	asJSON, colored bool
	pattern         *regexp.Regexp
	limit, printed  uint
	width           int // of names; 0 if they are not printed
	colors          map[*source]string
}

// begin says what is followed.
func (p *printer) begin(sources []*source) {
	names := []string{}
	p.colors = map[*source]string{}
	for i, s := range sources {
		names = append(names, s.String())
		p.colors[s] = fmt.Sprintf("\x1b[%dm", []int{36, 35, 34, 32, 96, 95, 94, 92}[i%8])
		if len(sources) > 1 {
			p.width = max(p.width, utf8.RuneCountInString(s.String()))
		}
	}
	fmt.Fprintf(p.stderr, "logs: following %s\nlogs: level %s and above; interrupt to end\n", strings.Join(names, ", "), sources[0].level)
}

// print prints an entry to standard output and an outage to standard error. It reports whether the limit is reached.
func (p *printer) print(l line) (done bool, err error) {
	e := l.event.Entry
	isEntry := l.event.Kind == watch.Entry
	if isEntry && !p.pattern.MatchString(text(e)) {
		return false, nil
	}
	if !isEntry {
		fmt.Fprintf(p.stderr, "logs: %s: %v\n", l.source, l.event)
	}
	switch {
	case p.asJSON:
		err = json.NewEncoder(p.stdout).Encode(struct {
			Agent string         `json:"agent"`
			Event watch.LogEvent `json:"event"`
		}{l.source.String(), l.event})
	case isEntry:
		name := ""
		if p.width > 0 {
			name = p.paint(p.colors[l.source], fmt.Sprintf("%-*s", p.width, l.source)) + "  "
		}
		_, err = fmt.Fprintln(p.stdout, name+p.paint(colors[e.Level], e.String()))
	}
	if isEntry {
		p.printed++
	}
	return p.limit > 0 && p.printed == p.limit, err
}

func (p *printer) paint(color, text string) string {
	if !p.colored || color == "" {
		return text
	}
	return color + text + "\x1b[0m"
}

// text is what -grep searches.
func text(e nomad.LogEntry) string {
	e.Time, e.Level = time.Time{}, ""
	return e.String()
}

var colors = map[nomad.LogLevel]string{
	nomad.LevelTrace: "\x1b[90m", nomad.LevelDebug: "\x1b[90m", nomad.LevelWarn: "\x1b[33m", nomad.LevelError: "\x1b[31m",
}

// takesColor reports whether w is a terminal on which colors are wanted.
func takesColor(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// act makes the agents of the demonstration log something all the time, and restarts the second one.
func act(ctx context.Context, cluster *nomadtest.Cluster) {
	entries := []struct{ level, module, message string }{
		{"info", "nomad.raft", "entering follower state"},
		{"debug", "worker", "dequeued evaluation"},
		{"warn", "nomad.heartbeat", "node TTL expired"},
		{"info", "nomad.serf", "EventMemberJoin"},
		{"error", "nomad.raft", "failed to contact quorum of nodes"},
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	second := cluster.Agent("server-2")
	for i := 0; ; i++ {
		for _, agent := range cluster.Agents() {
			e := entries[i%len(entries)]
			agent.Log(e.level, e.module, e.message, "server", agent.Name(), "count", i)
		}
		switch i % 50 {
		case 20:
			second.Stop()
		case 30:
			second.Start()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
