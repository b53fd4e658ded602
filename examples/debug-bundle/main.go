// Debug-bundle writes an archive for a support case: what the servers of a cluster, and chosen clients, report about
// themselves, with profiles and a few seconds of their logs. See -h for flags and exit codes.
//
// The folders and names in the archive are those of nomad operator debug. Secrets are redacted. An agent that does not
// respond costs its own parts only; manifest.json lists every part, and why one is missing.
package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

const help = `Writes an archive for a support case: what all servers of the cluster at
NOMAD_ADDR (default ` + nomad.DefaultAddress + `), and chosen clients, report about
themselves, with profiles and a few seconds of their logs.

Secrets are redacted. In logs these are the token of this program, the gossip
keys, and fields that are named like a secret. Logs can hold others.

It requires a token with agent:write and node:read; without ACLs the agents
need enable_debug for profiles and host data.

usage: debug-bundle [flags]

`

const exitCodes = `
exit codes: 0 the archive is written and complete
            1 the archive is written, and parts are missing: see manifest.json
            2 no archive: wrong usage, no response, interrupted, or a full disk
`

const (
	agentsAtOnce = 16
	maxNodes     = 100
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("debug-bundle", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	b := &bundle{stderr: stderr}
	output := flags.String("o", "", "the new `file` to write (default nomad-debug-<time>.tar.gz)")
	servers := flags.String("server-id", "all", "the `names` of servers, with commas, or all, or none")
	nodes := flags.String("node-id", "", "the full `IDs` of client nodes, with commas")
	direct := flags.Bool("direct", false, "send requests to each agent at its own address, for its health and\n"+
		"configuration too; each receives the token (default through one agent)")
	port := flags.Uint("port", 0, "with -direct: the HTTP `port` of the servers (default that of NOMAD_ADDR)")
	flags.DurationVar(&b.logTime, "duration", 10*time.Second, "how long logs are recorded; 0 for no logs")
	level := flags.String("log-level", "debug", "the lowest `level`: trace, debug, info, warn, error")
	flags.DurationVar(&b.cpuTime, "pprof-duration", time.Second, "how long CPU profiles take, in whole seconds; 0 for none")
	timeout := flags.Duration("timeout", nomad.DefaultTimeout, "the limit for a request, beside these durations")
	maxSize := flags.Int64("max-size", 256, "the largest size of all parts together in `MiB`, before compression;\n"+
		"agents get equal shares, logs at most half of each")
	asJSON := flags.Bool("json", false, "print the manifest as JSON on one line")
	demo := flags.Bool("demo", false, "use a cluster in memory: three servers, one of them down, and a client")
	flags.Usage = func() {}
	fail := func(err error) int {
		if ctx.Err() != nil {
			err = errors.New("interrupted: nothing is written")
		}
		fmt.Fprintln(stderr, "debug-bundle:", plain(err))
		return 2
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		var text strings.Builder
		text.WriteString(help)
		flags.SetOutput(&text)
		flags.PrintDefaults()
		text.WriteString(exitCodes)
		if _, err := io.WriteString(stdout, text.String()); err != nil {
			return fail(err)
		}
		return 0
	} else if err != nil {
		return fail(fmt.Errorf("%w (see -h)", err))
	}
	var err error
	if b.level, err = nomad.ParseLogLevel(*level); err != nil || b.level == "" {
		return fail(fmt.Errorf("-log-level %q: want trace, debug, info, warn or error", *level))
	}
	switch {
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0)))
	case b.logTime < 0 || b.logTime > time.Hour:
		return fail(fmt.Errorf("-duration %v: want 0 to 1h", b.logTime))
	case b.cpuTime < 0 || b.cpuTime > time.Hour || b.cpuTime%time.Second != 0:
		return fail(fmt.Errorf("-pprof-duration %v: want whole seconds, 0 to 1h", b.cpuTime))
	case *timeout <= 0:
		return fail(fmt.Errorf("-timeout %v: want more than 0", *timeout))
	case *maxSize < 1 || *maxSize > 1<<20:
		return fail(fmt.Errorf("-max-size %d: want 1 to %d", *maxSize, 1<<20))
	case *port > 65535 || *port > 0 && !*direct:
		return fail(errors.New("-port: want a port, together with -direct"))
	case *demo && *port > 0:
		return fail(errors.New("-port and -demo exclude each other"))
	case *servers == "":
		return fail(errors.New("-server-id: want names, all or none"))
	}

	options := []nomad.Option{nomad.WithTimeout(*timeout)}
	if *demo {
		fmt.Fprintln(stderr, "debug-bundle: -demo: using a cluster in memory")
		cluster, stop := newDemo()
		defer stop()
		b.client = cluster.Client("server-1", options...)
		b.address = func(m nomad.Member) string { return cluster.URL(strings.TrimSuffix(m.Name, "."+m.Region())) }
		*nodes = cmp.Or(*nodes, cluster.Agent("client-1").NodeID())
		b.nodeAddress = func(context.Context, string) (string, error) { return cluster.URL("client-1"), nil }
	} else {
		if b.client, err = nomad.NewClient(append(options, nomad.FromEnvironment())...); err != nil {
			return fail(err)
		}
		defer b.client.Close()
		b.nodeAddress = b.lookUpNode
		if *direct {
			if b.address, err = serverAddresses(b.client.Address(), uint16(*port)); err != nil {
				return fail(err)
			}
		}
	}
	b.direct = *direct

	name := "nomad-debug-" + time.Now().UTC().Format("2006-01-02-150405Z")
	file := cmp.Or(*output, name+".tar.gz")
	manifest, err := b.write(ctx, file, name, *servers, *nodes, *maxSize<<20)
	if err != nil {
		return fail(err)
	}
	if err := show(stdout, manifest, *asJSON); err != nil {
		return fail(err)
	}
	if !manifest.Complete {
		return 1
	}
	return 0
}

// bundle collects the parts of an archive.
type bundle struct {
	client      *nomad.Client
	direct      bool
	address     func(nomad.Member) string                            // the HTTP address of a server
	nodeAddress func(ctx context.Context, id string) (string, error) // the HTTP address of a client agent
	level       nomad.LogLevel
	logTime     time.Duration
	cpuTime     time.Duration
	stderr      io.Writer

	folder   string                  // holds the parts and the archive until it is complete
	name     string                  // the folder in the archive
	fail     context.CancelCauseFunc // ends everything: the archive cannot be written
	redact   func(string) string     // takes secrets out of a line
	noLogs   string                  // why logs of servers cannot be had, if they cannot
	progress progress

	mu  sync.Mutex // for tar
	tar *tar.Writer
}

// Manifest is the table of contents of an archive.
type Manifest struct {
	File     string    `json:"archive"`
	Created  time.Time `json:"created"`
	Address  string    `json:"address"` // the agent that listed the members
	Direct   bool      `json:"direct"`  // each agent received the requests itself
	Duration string    `json:"duration"`
	Level    string    `json:"log_level"`
	Complete bool      `json:"complete"`
	Bytes    int64     `json:"bytes"`          // before compression
	Size     int64     `json:"size,omitempty"` // of the archive; unknown in the archive itself
	Agents   []*Agent  `json:"agents"`
}

// Agent is what the archive has of an agent, or of the cluster.
type Agent struct {
	Name    string `json:"name"`
	Status  string `json:"status,omitempty"`  // of a server, as the agent at Address sees it
	Address string `json:"address,omitempty"` // with -direct: where the requests were sent
	Folder  string `json:"folder"`
	Error   string `json:"error,omitempty"` // why nothing could be requested
	Parts   []Part `json:"parts"`

	parts []part
}

// Part is a file of the archive, or a missing one.
type Part struct {
	File    string `json:"file"`
	Bytes   int64  `json:"bytes"`
	Error   string `json:"error,omitempty"`   // why it is missing or, with bytes, cut short
	Skipped string `json:"skipped,omitempty"` // why it does not apply
}

// part gets the content of a file.
type part struct {
	file string
	skip string // why it does not apply, if it does not
	log  bool   // kept even if it is cut short
	get  func(ctx context.Context, w io.Writer) error
}

// write collects everything and writes the archive, which appears when it is complete.
func (b *bundle) write(ctx context.Context, file, name, servers, nodes string, maxSize int64) (*Manifest, error) {
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("%s exists", file)
	}
	members, err := b.client.Agent.Members(ctx)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(members, servers)
	if err != nil {
		return nil, err
	}
	ids := slices.Compact(slices.Sorted(strings.SplitSeq(nodes, ",")))
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	if len(ids) > maxNodes {
		return nil, fmt.Errorf("-node-id: want at most %d nodes", maxNodes)
	}

	// Parts are spooled beside the archive, where there has to be room for them anyway, and not in memory.
	if b.folder, err = os.MkdirTemp(filepath.Dir(file), filepath.Base(file)+".part-*"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.folder)
	spool, err := os.OpenFile(filepath.Join(b.folder, "archive"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	zip := gzip.NewWriter(spool)
	b.tar, b.name = tar.NewWriter(zip), name
	ctx, b.fail = context.WithCancelCause(ctx)
	defer b.fail(nil)

	manifest := &Manifest{File: filepath.Base(file), Created: time.Now().UTC(), Address: b.client.Address(),
		Direct: b.direct, Duration: b.logTime.String(), Level: string(b.level)}
	manifest.Agents = append(manifest.Agents, b.cluster(ctx, members))
	manifest.Agents = append(manifest.Agents, b.servers(chosen)...)
	manifest.Agents = append(manifest.Agents, b.nodes(ctx, ids)...)
	b.collect(ctx, manifest.Agents, maxSize)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	manifest.Complete = true
	for _, a := range manifest.Agents {
		manifest.Complete = manifest.Complete && a.Error == ""
		for _, p := range a.Parts {
			manifest.Complete = manifest.Complete && p.Error == ""
			manifest.Bytes += p.Bytes
		}
	}
	var text strings.Builder
	if err := indented(&text).Encode(manifest); err != nil {
		return nil, err
	}
	err = b.add("manifest.json", int64(text.Len()), strings.NewReader(text.String()))
	if err := cmp.Or(err, b.tar.Close(), zip.Close(), spool.Sync()); err != nil {
		return nil, err
	}
	info, err := spool.Stat()
	if err := cmp.Or(err, spool.Close()); err != nil {
		return nil, err
	}
	manifest.Size = info.Size()
	return manifest, os.Rename(spool.Name(), file)
}

// choose returns the servers that -server-id names. Those that have left have nothing to report.
func choose(members *nomad.Members, names string) ([]nomad.Member, error) {
	var chosen []nomad.Member
	for m := range members.All() {
		if names == "all" && m.Status != nomad.StatusLeft {
			chosen = append(chosen, m)
		}
	}
	if names == "all" || names == "none" {
		return chosen, nil
	}
	for _, name := range slices.Compact(slices.Sorted(strings.SplitSeq(names, ","))) {
		i := slices.IndexFunc(members.Members, func(m nomad.Member) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("-server-id: no server has the name %q", name)
		}
		chosen = append(chosen, members.Members[i])
	}
	return chosen, nil
}

// cluster has what the agent at NOMAD_ADDR reports about itself and the cluster. It also learns the gossip keys, to
// redact them, and the roles of the agent.
func (b *bundle) cluster(ctx context.Context, members *nomad.Members) *Agent {
	agent := b.client.Agent
	self, selfErr := agent.Self(ctx)
	health, healthErr := getHealth(ctx, b.client)
	var keys *nomad.Keyring
	noServer, noKeys := "", ""
	if healthErr == nil && health.Server == nil {
		noServer, noKeys = "it is not a server", "it is not a server"
		b.noLogs = "a client agent does not forward logs of servers: use the address of a server"
	} else if selfErr == nil && self.Stats["serf"]["encrypted"] == "false" {
		noKeys = "gossip is not encrypted"
	}
	var keysErr error
	if noKeys == "" {
		keys, keysErr = agent.ListKeys(ctx)
	}
	b.redact = redactor(keys)
	return &Agent{Name: "cluster", Folder: "cluster", parts: []part{
		{file: "members.json", get: document(members, nil)},
		{file: "leader.json", get: func(ctx context.Context, w io.Writer) error {
			leader, err := b.client.Status.Leader(ctx)
			return document(leader, err)(ctx, w)
		}},
		{file: "agent-self.json", get: document(self, selfErr)},
		{file: "agent-health.json", get: document(health, healthErr)},
		{file: "schedulers.json", skip: noServer, get: func(ctx context.Context, w io.Writer) error {
			schedulers, err := agent.Schedulers(ctx)
			return document(schedulers, err)(ctx, w)
		}},
		{file: "keyring.json", skip: noKeys, get: document(keys, keysErr)},
	}}
}

// servers has the parts of the servers.
func (b *bundle) servers(members []nomad.Member) []*Agent {
	var agents []*Agent
	used := map[string]bool{}
	for _, m := range members {
		a := &Agent{Name: m.Name, Status: string(m.Status), Folder: path.Join("server", folder(m.Name))}
		for used[a.Folder] {
			a.Folder += "_"
		}
		used[a.Folder] = true
		if b.direct {
			client, err := b.client.With(nomad.WithAddress(b.address(m)), nomad.WithRegion(""))
			if err != nil {
				a.Error = plain(err)
			} else {
				a.Address = client.Address()
				a.parts = append(b.own(client, m.Name), b.forwarded(client, nomad.Target{}, "")...)
			}
		} else if client, err := b.client.With(nomad.WithRegion(m.Region())); err != nil {
			a.Error = plain(err)
		} else {
			a.parts = b.forwarded(client, nomad.OnServer(m.Name), b.noLogs)
		}
		agents = append(agents, a)
	}
	return agents
}

// nodes has the parts of client agents.
func (b *bundle) nodes(ctx context.Context, ids []string) []*Agent {
	agents := make([]*Agent, len(ids))
	var lookUps sync.WaitGroup
	for i, id := range ids {
		a := &Agent{Name: id, Folder: path.Join("client", folder(id))}
		agents[i] = a
		if !b.direct {
			a.parts = b.forwarded(b.client, nomad.OnNode(id), "")
			continue
		}
		lookUps.Go(func() {
			address, err := b.nodeAddress(ctx, id)
			client := b.client
			if err == nil {
				client, err = b.client.With(nomad.WithAddress(address), nomad.WithRegion(""))
			}
			if err != nil {
				a.Error = plain(err)
				return
			}
			a.Address = address
			a.parts = append(b.own(client, id), b.forwarded(client, nomad.OnNode(id), "")...)
		})
	}
	lookUps.Wait()
	return agents
}

// own has what an agent reports only about itself. name is the name of a server or the ID of a node.
func (b *bundle) own(client *nomad.Client, name string) []part {
	return []part{
		{file: "agent-self.json", get: func(ctx context.Context, w io.Writer) error {
			self, err := client.Agent.Self(ctx)
			if err == nil && self.Member.Name != name && self.Stats.NodeID() != name {
				err = fmt.Errorf("another agent responds at %s: %s", client.Address(), self)
			}
			return document(self, err)(ctx, w)
		}},
		{file: "agent-health.json", get: func(ctx context.Context, w io.Writer) error {
			health, err := getHealth(ctx, client)
			return document(health, err)(ctx, w)
		}},
		{file: "schedulers.json", get: func(ctx context.Context, w io.Writer) error {
			schedulers, err := client.Agent.Schedulers(ctx)
			return document(schedulers, err)(ctx, w)
		}},
	}
}

// forwarded has what agents also report about others.
func (b *bundle) forwarded(client *nomad.Client, target nomad.Target, noLog string) []part {
	profile := func(opts nomad.ProfileOptions) func(context.Context, io.Writer) error {
		opts.Target = target
		return func(ctx context.Context, w io.Writer) error {
			profile, err := client.Agent.Profile(ctx, opts)
			if err != nil {
				return err
			}
			defer profile.Close()
			_, err = io.Copy(w, profile)
			return err
		}
	}
	parts := []part{
		{file: "agent-host.json", get: func(ctx context.Context, w io.Writer) error {
			host, err := client.Agent.Host(ctx, target)
			return document(host, err)(ctx, w)
		}},
		{file: "goroutine_0000.prof", get: profile(nomad.ProfileOptions{Type: nomad.ProfileGoroutine})},
		{file: "goroutine-debug2_0000.txt", get: profile(nomad.ProfileOptions{Type: nomad.ProfileGoroutine, Debug: 2})},
		{file: "heap_0000.prof", get: profile(nomad.ProfileOptions{Type: nomad.ProfileHeap})},
	}
	if b.cpuTime > 0 {
		cpu := nomad.ProfileOptions{Type: nomad.ProfileCPU, Duration: b.cpuTime}
		parts = append(parts, part{file: "profile_0000.prof", get: profile(cpu)})
	}
	if b.logTime == 0 {
		return parts
	}
	return append(parts, part{file: "monitor.log", log: true, get: func(ctx context.Context, w io.Writer) error {
		if noLog != "" {
			return errors.New(noLog)
		}
		log, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{Level: b.level, Target: target})
		if err != nil {
			return err
		}
		// A closed log ends without an error.
		defer time.AfterFunc(b.logTime, func() { log.Close() }).Stop()
		for line, err := range log.Lines() {
			if err != nil {
				return err
			}
			if _, err := io.WriteString(w, b.redact(line)+"\n"); err != nil {
				return err
			}
		}
		return nil
	}})
}

// getHealth returns the health of an agent, also if it is unhealthy.
func getHealth(ctx context.Context, client *nomad.Client) (*nomad.Health, error) {
	local, err := client.With(nomad.WithRegion("")) // with a region it would be about the leader there
	if err != nil {
		return nil, err
	}
	health, err := local.Agent.Health(ctx)
	if health != nil {
		return health, nil
	}
	return nil, err
}

// document writes a value as JSON, unless there is an error. The types of package nomad encode without their secrets.
func document(v any, err error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		if err != nil {
			return err
		}
		return indented(w).Encode(v)
	}
}

// indented returns an encoder for people, who read <redacted> as it is.
func indented(w io.Writer) *json.Encoder {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder
}

// collect gets all parts of the agents, and of each agent all at once.
func (b *bundle) collect(ctx context.Context, agents []*Agent, maxSize int64) {
	for _, a := range agents {
		b.progress.total += len(a.parts)
	}
	showing, stop := context.WithCancel(ctx)
	var shown, done sync.WaitGroup
	shown.Go(func() { b.progress.draw(showing, b.stderr) })
	share := maxSize / int64(len(agents)) / 2
	slots := make(chan struct{}, agentsAtOnce)
	for _, a := range agents {
		done.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var forLogs, forOthers atomic.Int64
			forLogs.Store(share)
			forOthers.Store(share)
			a.Parts = make([]Part, len(a.parts))
			var parts sync.WaitGroup
			for i, p := range a.parts {
				left := &forOthers
				if p.log {
					left = &forLogs
				}
				parts.Go(func() {
					a.Parts[i] = b.save(ctx, path.Join(a.Folder, p.file), p, left)
					b.progress.done.Add(1)
				})
			}
			parts.Wait()
			if ctx.Err() == nil {
				have, size, problem := a.summary()
				b.progress.println(b.stderr, fmt.Sprintf("%s: %s, %s%s", clean(a.Name), have, size, prefixed(": ", problem)))
			}
		})
	}
	done.Wait()
	stop()
	shown.Wait()
}

// save gets a part into a file, and adds that to the archive.
func (b *bundle) save(ctx context.Context, name string, p part, left *atomic.Int64) Part {
	result := Part{File: name, Skipped: p.skip}
	if p.skip != "" {
		return result
	}
	file, err := os.CreateTemp(b.folder, "spool-*")
	if err != nil {
		b.fail(err)
		return result
	}
	defer os.Remove(file.Name())
	defer file.Close()
	w := &spool{file: file, left: left, total: &b.progress.bytes}
	err = p.get(ctx, w)
	switch {
	case w.err != nil:
		b.fail(w.err)
		return result
	case errors.Is(err, nomad.ErrServerOnly):
		result.Skipped = "it is not a server"
		return result
	case err != nil:
		result.Error = b.redact(plain(err))
	}
	if err != nil && (!p.log || w.size == 0) {
		left.Add(w.size)
		return result
	}
	result.Bytes = w.size
	if _, err = file.Seek(0, io.SeekStart); err == nil {
		err = b.add(name, w.size, file)
	}
	if err != nil {
		b.fail(err)
	}
	return result
}

// add adds a file to the archive.
func (b *bundle) add(name string, size int64, content io.Reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	header := &tar.Header{Name: path.Join(b.name, name), Mode: 0o600, Size: size, ModTime: time.Now()}
	if err := b.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(b.tar, content)
	return err
}

// spool writes to a file as long as there is room.
type spool struct {
	file  *os.File
	left  *atomic.Int64
	total *atomic.Int64
	size  int64
	err   error // of the file
}

func (s *spool) Write(b []byte) (int, error) {
	n := int64(len(b))
	if s.left.Add(-n) < 0 {
		s.left.Add(n)
		return 0, errors.New("-max-size is reached")
	}
	s.size += n
	s.total.Add(n)
	written, err := s.file.Write(b)
	s.err = err
	return written, err
}

// secretField is a field whose name is that of a secret, as in token=… and "secret_id":"…".
var secretField = regexp.MustCompile(`(?i)([\w.-]*(?:token|secret|password|passwd|encrypt)[\w.-]*(?:=|"\s*:\s*))` +
	`("(?:[^"\\]|\\.)*"|[^\s,;&}\]]+)`)

// redactor returns a function that takes the secrets that this program knows, and those with a telling name, out of a
// line.
func redactor(keys *nomad.Keyring) func(string) string {
	_, password, _ := strings.Cut(os.Getenv("NOMAD_HTTP_AUTH"), ":")
	known := []string{os.Getenv("NOMAD_TOKEN"), password}
	if keys != nil {
		for key := range keys.Keys {
			known = append(known, key.Reveal())
		}
	}
	var pairs []string
	for _, secret := range known {
		if secret != "" {
			pairs = append(pairs, secret, "<redacted>")
		}
	}
	replacer := strings.NewReplacer(pairs...)
	return func(line string) string {
		return secretField.ReplaceAllString(replacer.Replace(line), "$1<redacted>")
	}
}

// serverAddresses returns how servers are reached: at the address that they gossip at, with the scheme and port of an
// agent's address, or another port.
func serverAddresses(agent string, port uint16) (func(nomad.Member) string, error) {
	u, err := url.Parse(agent)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("-direct: want NOMAD_ADDR to be http or https, not %s", agent)
	}
	if port == 0 {
		standard := map[string]string{"http": "80", "https": "443"}[u.Scheme]
		n, err := strconv.ParseUint(cmp.Or(u.Port(), standard), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("-direct: NOMAD_ADDR has no port: use -port")
		}
		port = uint16(n)
	}
	if u.Scheme == "https" {
		return survey.HTTPSAddress(port), nil
	}
	return survey.HTTPAddress(port), nil
}

// lookUpNode returns the HTTP address of a client agent, as the servers know it.
func (b *bundle) lookUpNode(ctx context.Context, id string) (string, error) {
	var node struct {
		HTTPAddr   string
		TLSEnabled bool
	}
	if _, err := b.client.Do(ctx, &nomad.Request{Path: "/v1/node/" + url.PathEscape(id)}, &node); err != nil {
		return "", err
	}
	if node.TLSEnabled {
		return "https://" + node.HTTPAddr, nil
	}
	return "http://" + node.HTTPAddr, nil
}

var notPlain = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// folder returns a name as one of a folder on any system.
func folder(name string) string {
	name = notPlain.ReplaceAllString(name, "_")
	if strings.Trim(name, ".") == "" {
		return "_" + name
	}
	return name
}

// progress is how far the collection is.
type progress struct {
	total int
	done  atomic.Int64
	bytes atomic.Int64
	mu    sync.Mutex
	live  bool // a line is drawn again and again
}

// draw shows a bar on a terminal until the context ends.
func (p *progress) draw(ctx context.Context, w io.Writer) {
	if !terminal(w) {
		return
	}
	for {
		p.mu.Lock()
		p.live = true
		done := int(p.done.Load())
		bar := strings.Repeat("#", 30*done/max(p.total, 1))
		fmt.Fprintf(w, "\r\033[K[%-30s] %d of %d parts, %s", bar, done, p.total, size(p.bytes.Load()))
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			fmt.Fprint(w, "\r\033[K")
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// println prints a line above the bar.
func (p *progress) println(w io.Writer, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live {
		fmt.Fprint(w, "\r\033[K")
	}
	fmt.Fprintln(w, line)
}

// terminal reports whether w is a terminal that understands more than text.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// summary returns how many parts there are, their size, and the first problem.
func (a *Agent) summary() (have, bytes, problem string) {
	var n, all int
	var sum int64
	problem = a.Error
	for _, p := range a.Parts {
		sum += p.Bytes
		if p.Skipped != "" {
			continue
		}
		all++
		if p.Error == "" {
			n++
		}
		problem = cmp.Or(problem, p.Error)
	}
	return fmt.Sprintf("%d of %d parts", n, all), size(sum), clean(problem)
}

// show prints the result: a table of at most 80 columns, or the manifest.
func show(w io.Writer, manifest *Manifest, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(manifest)
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "AGENT\tSTATUS\tPARTS\tSIZE")
	var problems []string
	for _, a := range manifest.Agents {
		have, bytes, problem := a.summary()
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", cut(clean(a.Name), 36), cut(cmp.Or(clean(a.Status), "-"), 10), have, bytes)
		if problem != "" {
			problems = append(problems, cut(clean(a.Name), 36)+": "+problem)
		}
	}
	table.Flush()
	for _, problem := range problems {
		fmt.Fprintf(&text, "%s\n", cut(problem, 80))
	}
	fmt.Fprintf(&text, "%s  %s\n", manifest.File, size(manifest.Size))
	_, err := io.WriteString(w, text.String())
	return err
}

// plain returns an error for people: of a connection that failed only why, and of a response not the agent's address.
func plain(err error) string {
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return network.Error()
	}
	text := strings.TrimPrefix(err.Error(), "nomad: ")
	if response := (*nomad.APIError)(nil); errors.As(err, &response) {
		text = strings.Replace(text, response.Address, "", 1)
	}
	return text
}

// clean replaces what could control a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// cut shortens a text to a number of columns.
func cut(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:columns-1]) + "…"
	}
	return text
}

// prefixed returns a text with a prefix, if there is a text.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// size returns a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// newDemo starts a cluster in memory whose agents log something until stop is called. One server is down.
func newDemo() (cluster *nomadtest.Cluster, stop func()) {
	cluster = nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1), nomadtest.Debug(),
		nomadtest.GossipKey("bm9tYWQtZ28tZGVtby1nb3NzaXAta2V5LTMyLWJ5dGU="))
	cluster.Agent("server-3").Stop()
	ctx, cancel := context.WithCancel(context.Background())
	var logging sync.WaitGroup
	logging.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			for _, agent := range cluster.Agents() {
				agent.Log("debug", "nomad.raft", "heartbeat", "count", n)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return cluster, func() {
		cancel()
		logging.Wait()
		cluster.Close()
	}
}
