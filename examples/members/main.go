// Members lists the servers of the gossip pool and who leads, as nomad server members does. With -watch
// it follows them. Run it with -h for its flags, and with -demo to try it without an agent.
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
	"net/netip"
	"os"
	"os/signal"
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

const usage = `Members lists the servers of the gossip pool and reports who leads.

usage: members [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set).
The ACL token at NOMAD_TOKEN needs node:read.

With -watch it shows the table again and again until it is interrupted, with a *
before what has changed in the last 10 s. If the output is no terminal, or
TERM=dumb, and with -json, it prints a line for each change instead.

exit codes:
  0  all is well, or -watch was interrupted
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
	timeout := flags.Duration("timeout", 10*time.Second, "time limit of all requests for one list")
	follow := flags.Bool("watch", false, "follow changes until it is interrupted")
	every := flags.Duration("every", 0, "with -watch: the `time` between two lists (default 1s)")
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
	case *every != 0 && !*follow:
		return 2, errors.New("-every requires -watch")
	case *every != 0 && *every < 100*time.Millisecond:
		return 2, fmt.Errorf("-every %v: want 100ms or more", *every)
	case *follow && *status != "":
		return 2, errors.New("-watch and -status exclude each other")
	case !slices.Contains([]string{"", "alive", "leaving", "left", "failed"}, *status):
		return 2, fmt.Errorf("-status %q: want alive, leaving, left or failed", *status)
	}

	*every = cmp.Or(*every, time.Second)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "members: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3, nomadtest.Region("eu")))
		defer cluster.Close()
		cluster.Agent("server-3").Stop()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
		if *follow {
			var acting sync.WaitGroup
			defer acting.Wait()
			defer cancel()
			acting.Go(func() { act(ctx, cluster) })
		}
	}
	options = append(options, nomad.WithTimeout(*timeout))
	if *follow {
		options = append(options, nomad.WithRetries(0)) // the next list is soon enough
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	switch {
	case *follow && (*asJSON || !isTerminal(stdout)):
		return printChanges(ctx, client, *every, *asJSON, stdout)
	case *follow:
		s := screen{out: stdout, colored: os.Getenv("NO_COLOR") == "", changed: map[string]time.Time{}}
		return s.follow(ctx, client, *every, *timeout)
	}
	ctx, cancelList := context.WithTimeout(ctx, *timeout)
	defer cancelList()
	servers, bad, warnings, err := list(ctx, client, *status)
	if err != nil {
		return 2, err
	}
	for _, warning := range warnings {
		fmt.Fprintln(stderr, "members:", warning)
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

// list returns the servers of a status, or all, and how many faults there are.
func list(ctx context.Context, client *nomad.Client, status string) (servers []server, bad int, warnings []error, err error) {
	pool, err := client.Agent.Members(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	leaders := map[string]string{} // by region
	slices.SortFunc(pool.Members, nomad.CompareMembers)
	for _, m := range pool.Members {
		if status != "" && status != string(m.Status) {
			continue
		}
		s := server{m.Name, m.Addr, m.Port, m.Status, nil, m.Tags["raft_vsn"], m.Build(), m.Datacenter(), m.Region()}
		leader, known := leaders[s.Region]
		if !known {
			leader, err = leaderOf(ctx, client, s.Region)
			if err != nil {
				warnings = append(warnings, fmt.Errorf("who leads region %s: %w", s.Region, err))
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
	return servers, bad, warnings, nil
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
	if !asJSON {
		return table(w, rowsOf(servers), 80)
	}
	lines := json.NewEncoder(w)
	for _, s := range servers {
		if err := lines.Encode(s); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf returns the cells of the table.
func rowsOf(servers []server) [][]string {
	rows := [][]string{{"NAME", "ADDRESS", "STATUS", "LEADER", "BUILD", "DATACENTER", "REGION"}}
	for _, s := range servers {
		leader := "-"
		if s.Leader != nil {
			leader = strconv.FormatBool(*s.Leader)
		}
		address := netip.AddrPortFrom(s.Address, s.Port).String()
		rows = append(rows, []string{s.Name, address, string(s.Status), leader, s.Build, s.Datacenter, s.Region})
	}
	return rows
}

// printChanges prints a line for each change of the pool.
func printChanges(ctx context.Context, client *nomad.Client, every time.Duration, asJSON bool, w io.Writer) (int, error) {
	for event, err := range watch.Members(ctx, client.Agent, watch.Options{Interval: every}) {
		switch {
		case ctx.Err() != nil:
			return 0, nil
		case err != nil:
			return 2, err
		case asJSON:
			err = json.NewEncoder(w).Encode(event)
		default:
			_, err = fmt.Fprintln(w, event.Time.Format(time.TimeOnly), event)
		}
		if err != nil {
			return 2, err
		}
	}
	return 0, nil
}

// screen shows the table on a terminal again and again.
type screen struct {
	out     io.Writer
	colored bool
	before  map[string][]string  // the rows of the table before, by name
	changed map[string]time.Time // when a row was another one
}

// isNew is for how long a change is marked.
const isNew = 10 * time.Second

func (s *screen) follow(ctx context.Context, client *nomad.Client, every, timeout time.Duration) (int, error) {
	const alternate, normal = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"
	if _, err := io.WriteString(s.out, alternate); err != nil {
		return 2, err
	}
	defer io.WriteString(s.out, normal)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var servers []server // of the last list, and how many faults they have
	faults := 0
	for {
		limited, cancel := context.WithTimeout(ctx, timeout)
		now, bad, warnings, err := list(limited, client, "")
		cancel()
		if ctx.Err() != nil {
			return 0, nil
		}
		if err == nil {
			servers, faults = now, bad
		}
		if err := s.draw(client.Address(), servers, faults, append(warnings, err)); err != nil {
			return 2, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, nil
		}
	}
}

// draw draws the table over the one before. Nil errors are ignored.
func (s *screen) draw(address string, servers []server, faults int, errs []error) error {
	now := time.Now()
	rows := rowsOf(servers)
	s.compare(rows[1:], now)
	var text strings.Builder
	if err := table(&text, rows, 78); err != nil {
		return err
	}
	var frame strings.Builder
	write := func(color, line string) {
		if runes := []rune(line); len(runes) > 80 {
			line = string(runes[:79]) + "…"
		}
		if s.colored && color != "" {
			line = "\x1b[" + color + "m" + line + "\x1b[0m"
		}
		frame.WriteString(line + "\x1b[K\r\n")
	}
	frame.WriteString("\x1b[H")
	write("", fmt.Sprintf("%s  %s  faults: %d", now.Format(time.TimeOnly), address, faults))
	write("", "")
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		mark, color := "  ", ""
		if i == 0 {
			color = "1" // bold
		} else {
			color = colors[servers[i-1].Status]
			if at, ok := s.changed[servers[i-1].Name]; ok && now.Sub(at) < isNew {
				mark, color = "* ", strings.TrimPrefix(color+";7", ";") // reversed
			}
		}
		write(color, mark+line)
	}
	for _, err := range errs {
		if err != nil {
			write("", "")
			write("31", strings.Map(printable, err.Error()))
		}
	}
	frame.WriteString("\x1b[J")
	_, err := io.WriteString(s.out, frame.String())
	return err
}

var colors = map[nomad.MemberStatus]string{nomad.StatusLeaving: "33", nomad.StatusLeft: "90", nomad.StatusFailed: "31"}

// compare notes which rows are not as they were.
func (s *screen) compare(rows [][]string, now time.Time) {
	before := s.before
	s.before = map[string][]string{}
	for _, row := range rows {
		name := row[0]
		s.before[name] = row
		if before != nil && !slices.Equal(before[name], row) {
			s.changed[name] = now
		}
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// table prints rows in columns. It cuts the widest columns until a line fits width characters.
func table(w io.Writer, rows [][]string, width int) error {
	widths, total := make([]int, len(rows[0])), -2
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i] + 2
	}
	for ; total > width; total-- {
		widths[slices.Index(widths, slices.Max(widths))]--
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

func printable(r rune) rune {
	if strconv.IsPrint(r) {
		return r
	}
	return '?'
}

// act makes a server of the demonstration come and go.
func act(ctx context.Context, cluster *nomadtest.Cluster) {
	second := cluster.Agent("server-2")
	for i := 0; ; i++ {
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return
		}
		switch i % 4 {
		case 0:
			cluster.Agent("server-3").Start()
		case 1:
			second.Leave()
		case 2:
			second.Start()
		case 3:
			cluster.Agent("server-3").Stop()
		}
	}
}
