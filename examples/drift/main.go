// Drift compares the configuration of all servers of a cluster with each other, or with a state that was kept, and
// shows what differs. See -h for flags and exit codes.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/agentconfig"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

const help = `Compares the configuration of all servers of the cluster at NOMAD_ADDR
(default ` + nomad.DefaultAddress + `) and shows what differs.

It sends a request, with the token, to each server at the address that it
gossips at, with the scheme and port of NOMAD_ADDR. It requires a token with
agent:read and node:read.

By default it leaves out what differs on purpose:
  ` + onPurpose + `
Settings of a newer Nomad than this program knows are not compared.

With -baseline each server is compared with its own kept state. That holds no
secrets: it shows that one was set or removed, but not that it was changed.

usage: drift [flags]

`

const exitCodes = `
exit codes: 0 nothing differs
            1 something differs
            2 a server could not be compared, also if something differs;
              wrong usage, no response, or an unusable file
`

// onPurpose has the paths that differ between servers that are set up alike. The plugins are in DataDir by default.
const onPurpose = "NodeName Region BindAddr Addresses AdvertiseAddrs Ports DataDir\n" +
	"  PluginDir Files ConfigPaths"

const atOnce = 32

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("drift", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	ignore := flags.String("ignore", "", "more `paths` to leave out, with commas, such as Datacenter or\n"+
		"Client.Meta[rack]; with all below them")
	all := flags.Bool("all", false, "leave out only what -ignore names")
	baseline := flags.String("baseline", "", "compare each server with its state in this `file`")
	write := flags.String("write", "", "keep the state of the servers in this `file`, for -baseline")
	port := flags.Uint("port", 0, "the HTTP `port` of the servers (default that of NOMAD_ADDR)")
	timeout := flags.Duration("timeout", 10*time.Second, "the limit for each request")
	asJSON := flags.Bool("json", false, "print JSON, a line for each path and for each server with an error")
	demo := flags.Bool("demo", false, "use a cluster in memory: three servers, one of them down")
	flags.Usage = func() {}
	fail := func(err error) int {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(stderr, "drift:", clean(plain(err)))
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
	switch {
	case flags.NArg() > 0:
		return fail(fmt.Errorf("unexpected argument %q (see -h)", flags.Arg(0)))
	case *timeout <= 0:
		return fail(fmt.Errorf("-timeout %v: want more than 0", *timeout))
	case *port > 65535:
		return fail(fmt.Errorf("-port %d: want at most 65535", *port))
	case *demo && *port > 0:
		return fail(errors.New("-port and -demo exclude each other"))
	case *baseline != "" && *write != "":
		return fail(errors.New("-baseline and -write exclude each other"))
	}
	ignored := strings.FieldsFunc(*ignore, func(r rune) bool { return r == ',' })
	if !*all {
		ignored = append(ignored, strings.Fields(onPurpose)...)
	}
	var kept *state
	if *baseline != "" {
		var err error
		if kept, err = load(*baseline); err != nil {
			return fail(err)
		}
	}

	var client *nomad.Client
	var address func(nomad.Member) string
	var err error
	if *demo {
		fmt.Fprintln(stderr, "drift: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.Names("server-1")),
			nomadtest.Servers(1, nomadtest.Names("server-2"), nomadtest.Config("Server.RaftMultiplier", 5)),
			nomadtest.Servers(1, nomadtest.Names("server-3")),
			nomadtest.Config("Server.RaftMultiplier", 1))
		defer cluster.Close()
		cluster.Agent("server-3").Stop()
		client = cluster.Client("server-1", nomad.WithTimeout(*timeout))
		address = func(m nomad.Member) string { return cluster.URL(strings.TrimSuffix(m.Name, "."+m.Region())) }
	} else {
		if client, err = nomad.NewClient(nomad.WithTimeout(*timeout), nomad.FromEnvironment()); err != nil {
			return fail(err)
		}
		defer client.Close()
		if address, err = serverAddresses(client.Address(), uint16(*port)); err != nil {
			return fail(err)
		}
	}
	servers, err := configurations(ctx, client, address)
	if err != nil {
		return fail(err)
	}
	if ctx.Err() != nil {
		return fail(ctx.Err())
	}
	var drifts []drift
	if kept != nil {
		drifts = since(kept, servers, ignored)
	} else {
		drifts = between(servers, ignored)
	}
	if *write != "" {
		if err := save(*write, servers); err != nil {
			return fail(err)
		}
		fmt.Fprintf(stderr, "the state is in %s\n", *write)
	}
	if err := show(stdout, drifts, servers, *asJSON); err != nil {
		return fail(err)
	}
	for _, s := range servers {
		if s.err != nil && !*asJSON && cut(s.problem(), 80) != s.problem() {
			fmt.Fprintln(stderr, "drift:", s.problem()) // the table has its beginning
		}
	}
	switch {
	case slices.ContainsFunc(servers, func(s server) bool { return s.err != nil }):
		return 2
	case len(drifts) > 0:
		return 1
	}
	return 0
}

// server is a server of the cluster with its configuration.
type server struct {
	name   string
	config *agentconfig.Config // nil with an error
	err    error
}

// configurations gets the configuration of each server that has not left, of all at once.
func configurations(ctx context.Context, client *nomad.Client, address func(nomad.Member) string) ([]server, error) {
	members, err := client.Agent.Members(ctx)
	if err != nil {
		return nil, err
	}
	present := slices.DeleteFunc(slices.Collect(members.All()), func(m nomad.Member) bool {
		return m.Status == nomad.StatusLeft
	})
	servers := make([]server, len(present))
	var requests sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, m := range present {
		requests.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			config, err := configuration(ctx, client, m.Name, address(m))
			servers[i] = server{m.Name, config, err}
		})
	}
	requests.Wait()
	return servers, nil
}

// configuration gets the configuration of the server of a name.
func configuration(ctx context.Context, client *nomad.Client, name, address string) (*agentconfig.Config, error) {
	client, err := client.With(nomad.WithAddress(address), nomad.WithRegion(""))
	if err != nil {
		return nil, err
	}
	self, err := client.Agent.Self(ctx)
	if err != nil {
		return nil, err
	}
	if self.Member.Name != name {
		return nil, fmt.Errorf("another agent responds at %s: %s", address, self)
	}
	return self.Config, nil
}

// drift is a path whose values differ.
type drift struct {
	Path   string  `json:"path"`
	Values []value `json:"values"`
}

// value is a value of a path and the servers that have it, or had it in the baseline.
type value struct {
	Value    string   `json:"value"` // empty if it is not set
	Baseline bool     `json:"baseline,omitempty"`
	Servers  []string `json:"servers"`
}

// between compares all servers with each other. Of each path the value that most servers have comes first.
func between(servers []server, ignored []string) []drift {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.config == nil })
	// differences of two servers by path. Most servers are compared with the first one only.
	known := map[[2]int]map[string]agentconfig.Difference{}
	differences := func(i, j int) map[string]agentconfig.Difference {
		if known[[2]int{i, j}] == nil {
			byPath := map[string]agentconfig.Difference{}
			for _, d := range agentconfig.Diff(servers[i].config, servers[j].config) {
				byPath[d.Path] = d
			}
			known[[2]int{i, j}] = byPath
		}
		return known[[2]int{i, j}]
	}
	paths := map[string]string{} // with the value of the first server
	for i := range servers {
		for path, d := range differences(0, i) {
			if !covered(path, ignored) {
				paths[path] = d.A
			}
		}
	}
	var drifts []drift
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		// Values are compared by Diff and not as they are shown: different secrets are shown alike.
		found := drift{Path: path}
		var first []int // the first server with each value
	next:
		for j := range servers {
			for n, i := range first {
				if _, differ := differences(i, j)[path]; !differ {
					found.Values[n].Servers = append(found.Values[n].Servers, servers[j].name)
					continue next
				}
			}
			text := paths[path]
			if j > 0 {
				if d, differ := differences(0, j)[path]; differ {
					text = d.B
				}
			}
			first = append(first, j)
			found.Values = append(found.Values, value{Value: text, Servers: []string{servers[j].name}})
		}
		slices.SortStableFunc(found.Values, func(a, b value) int { return len(b.Servers) - len(a.Servers) })
		drifts = append(drifts, found)
	}
	return drifts
}

// since compares each server with its kept state. It sets the error of a server that has none.
func since(kept *state, servers []server, ignored []string) []drift {
	found := map[agentconfig.Difference][]string{}
	present := map[string]bool{}
	for i, s := range servers {
		present[s.name] = true
		if s.config == nil {
			continue
		}
		before := kept.Servers[s.name]
		if before == nil {
			servers[i].err = errors.New("the baseline does not have it")
			continue
		}
		for _, d := range agentconfig.Diff(before, redacted(s.config)) {
			if !covered(d.Path, ignored) {
				found[d] = append(found[d], s.name)
			}
		}
	}
	var drifts []drift
	for d, names := range found {
		drifts = append(drifts, drift{d.Path, []value{{d.A, true, names}, {d.B, false, names}}})
	}
	for _, name := range slices.Sorted(maps.Keys(kept.Servers)) {
		if !present[name] {
			names := []string{name}
			drifts = append(drifts, drift{"(server)", []value{{"in the pool", true, names}, {"gone", false, names}}})
		}
	}
	slices.SortFunc(drifts, func(a, b drift) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), slices.Compare(a.Values[0].Servers, b.Values[0].Servers))
	})
	return drifts
}

// covered reports whether a path is one of the given ones or below one.
func covered(path string, ignored []string) bool {
	return slices.ContainsFunc(ignored, func(prefix string) bool {
		rest, found := strings.CutPrefix(path, prefix)
		return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// state is what -write keeps.
type state struct {
	Created time.Time                      `json:"created"`
	Servers map[string]*agentconfig.Config `json:"servers"`
}

// save writes the state of the servers that responded. The file is replaced when the new one is complete.
func save(name string, servers []server) error {
	kept := state{time.Now().UTC(), map[string]*agentconfig.Config{}}
	for _, s := range servers {
		if s.config != nil {
			kept.Servers[s.name] = s.config
		}
	}
	if len(kept.Servers) == 0 {
		return errors.New("no server responded: the state is not kept")
	}
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part-*")
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		failed.Path = name // which the user knows
	}
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // There is none after the file was renamed.
	_, err = file.Write(append(text, '\n'))
	if err := cmp.Or(err, file.Sync()); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// load reads a state.
func load(name string) (*state, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	kept := new(state)
	if err := json.Unmarshal(text, kept); err != nil {
		return nil, fmt.Errorf("%s: it is not a file of -write: %w", name, err)
	}
	if len(kept.Servers) == 0 {
		return nil, fmt.Errorf("%s: it is not a file of -write", name)
	}
	return kept, nil
}

// redacted returns a configuration as it is kept, without its secrets.
func redacted(config *agentconfig.Config) *agentconfig.Config {
	kept := new(agentconfig.Config)
	text, err := json.Marshal(config)
	if err == nil {
		err = json.Unmarshal(text, kept)
	}
	if err != nil {
		panic(err) // It was decoded from JSON.
	}
	return kept
}

// show prints a table of at most 80 columns, or lines of JSON.
func show(w io.Writer, drifts []drift, servers []server, asJSON bool) error {
	var out strings.Builder
	if asJSON {
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		for _, d := range drifts {
			encoder.Encode(d)
		}
		for _, s := range servers {
			if s.err != nil {
				encoder.Encode(map[string]string{"server": s.name, "error": plain(s.err)})
			}
		}
	} else {
		table(&out, drifts)
		compared := 0
		for _, s := range servers {
			if s.err != nil {
				fmt.Fprintln(&out, cut(s.problem(), 80))
				continue
			}
			compared++
		}
		fmt.Fprintf(&out, "%d of %d servers compared, %d paths differ\n", compared, len(servers), len(drifts))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// problem returns why a server is not compared.
func (s server) problem() string { return clean(s.name + ": not compared: " + plain(s.err)) }

// table prints the paths with their values and the servers that have each.
func table(w io.Writer, drifts []drift) {
	if len(drifts) == 0 {
		return
	}
	rows := [][3]string{{"PATH", "VALUE", "SERVERS"}}
	for _, d := range drifts {
		path := clean(d.Path)
		for _, v := range d.Values {
			text := cmp.Or(clean(v.Value), "(not set)")
			if v.Baseline {
				text = "was " + text
			}
			names := strings.Join(v.Servers, ", ")
			if n := len(v.Servers); n > 2 { // They may not fit.
				names = fmt.Sprintf("%d servers: %s", n, names)
			}
			rows = append(rows, [3]string{path, text, clean(names)})
			path = ""
		}
	}
	var width [3]int
	for _, row := range rows {
		for i := range row {
			width[i] = max(width[i], len([]rune(row[i])))
		}
	}
	width[0] = min(width[0], 34)
	left := 80 - width[0] - 4
	width[2] = min(width[2], max(left/2, left-width[1]))
	width[1] = min(width[1], left-width[2])
	for _, row := range rows {
		for i := range row {
			row[i] = cut(row[i], width[i])
		}
		line := fmt.Sprintf("%-*s  %-*s  %s", width[0], row[0], width[1], row[1], row[2])
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// serverAddresses returns how servers are reached: at the address that they gossip at, with the scheme and port of an
// agent's address, or another port.
func serverAddresses(agent string, port uint16) (func(nomad.Member) string, error) {
	u, err := url.Parse(agent)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("want NOMAD_ADDR to be http or https, not %s: servers are reached in the same way", agent)
	}
	if port == 0 {
		standard := map[string]string{"http": "80", "https": "443"}[u.Scheme]
		n, err := strconv.ParseUint(cmp.Or(u.Port(), standard), 10, 16)
		if err != nil {
			return nil, errors.New("NOMAD_ADDR has no port: use -port")
		}
		port = uint16(n)
	}
	if u.Scheme == "https" {
		return survey.HTTPSAddress(port), nil
	}
	return survey.HTTPAddress(port), nil
}

// plain returns an error for people: of a connection that failed only why.
func plain(err error) string {
	if network := (*net.OpError)(nil); errors.As(err, &network) {
		return network.Error()
	}
	return strings.TrimPrefix(err.Error(), "nomad: ")
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
