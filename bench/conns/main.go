// Command conns measures connections to agents: with a long round-trip time, shared by many processes,
// after an outage, beside blocking queries, and the memory that is kept for former agents.
//
//	go run ./conns                    # all rows, three rounds, about half an hour
//	go run ./conns fair recover       # some groups
//	go run ./conns -rounds 1 far/20ms # one row
//	go run ./conns -real cpu          # CPU time of a real agent, run from the binary in NOMAD_BIN
//	go run ./conns -beside ./other    # each row alternates with another build of this command
//
// Each row has a new agent in memory, which accepts 100 connections from one address. Agents and clients
// run in separate processes. Each figure is the median of the rounds, or the worst round in columns
// with an exclamation mark.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad/bench/internal/crew"
)

// options holds the values of the flags.
type options struct {
	rounds    int
	span      time.Duration // duration of the calls, or 0 for the row's default
	addresses int           // number of addresses in the group memory
	idle      time.Duration // wait before the group memory measures again
	real      bool
	beside    string
	asJSON    bool
}

// long returns how long a row makes calls.
func (o options) long(usual time.Duration) time.Duration {
	if o.span > 0 {
		return o.span
	}
	return usual
}

// figures holds the results of a row, by the keys of the group's columns.
type figures map[string]float64

// row is a line of a table.
type row struct {
	name  string // without the group
	about string
	run   func(context.Context, options) (f figures, note string, err error)
}

// group is a table.
type group struct {
	name    string
	columns []column
	rows    []row
}

func groups() []group { return []group{far, fair, recovery, memory, blocking, cpu} }

func main() {
	crew.Main(map[string]crew.Role{"hung": beHung, "memory": beMemory, "blocking": beBlocking})
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "number of rounds of each row")
	flag.DurationVar(&o.span, "for", 0, "how long rows of far, fair and blocking make calls; 0 is the row's default of 10 to 20 s")
	flag.IntVar(&o.addresses, "addresses", 40_000, "number of addresses that memory calls")
	flag.DurationVar(&o.idle, "idle", 15*time.Second, "how long memory waits before it measures again")
	flag.BoolVar(&o.real, "real", false, "run the rows of cpu, with a real agent from the binary in NOMAD_BIN")
	flag.StringVar(&o.beside, "beside", "", "another build of this command; each row alternates between both")
	flag.BoolVar(&o.asJSON, "json", false, "print one line of JSON for each row")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "conns:", err)
		os.Exit(1)
	}
}

func usage() {
	w := flag.CommandLine.Output()
	fmt.Fprint(w, "Measures connections to agents.\n\nusage: conns [flags] [group or group/row ...]\n\n")
	flag.PrintDefaults()
	fmt.Fprintln(w)
	for _, g := range groups() {
		for _, r := range g.rows {
			fmt.Fprintf(w, "%s/%s\t%s\n", g.name, r.name, r.about)
		}
	}
}

// run runs the chosen rows and prints each group when it has finished.
func run(ctx context.Context, o options, names []string) error {
	chosen, err := choose(names, o.real)
	if err != nil {
		return err
	}
	for _, g := range chosen {
		var lines []line
		for _, r := range g.rows {
			more, err := g.measure(ctx, o, r)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", g.name, r.name, err)
			}
			lines = append(lines, more...)
		}
		if err := g.print(lines, o.asJSON); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the groups with the named rows, by default all rows. Rows of cpu need a real
// agent.
func choose(names []string, real bool) (chosen []group, err error) {
	found := map[string]bool{}
	for _, g := range groups() {
		var rows []row
		for _, r := range g.rows {
			whole := g.name + "/" + r.name
			if slices.Contains(names, g.name) || slices.Contains(names, whole) || len(names) == 0 && (real || g.name != cpu.name) {
				rows = append(rows, r)
			}
			found[g.name], found[whole] = true, true
		}
		if g.rows = rows; len(rows) > 0 {
			chosen = append(chosen, g)
		}
	}
	for _, name := range names {
		if !found[name] {
			return nil, fmt.Errorf("unknown row %q: -h lists all rows", name)
		}
		if strings.HasPrefix(name, cpu.name) && !real {
			return nil, errors.New("cpu needs a real agent: use -real")
		}
	}
	return chosen, nil
}

// measure runs a row several times, and returns a line for each build of this command.
func (g group) measure(ctx context.Context, o options, r row) ([]line, error) {
	lines := []line{{Row: g.name + "/" + r.name, About: r.about}}
	if o.beside != "" {
		lines[0].Build = "this"
		lines = append(lines, line{Row: lines[0].Row, About: r.about, Build: o.beside})
	}
	for n := range o.rounds {
		for i := range lines {
			l := &lines[(n+i)%len(lines)] // alternate which build runs first
			fmt.Fprintf(os.Stderr, "%s, round %d of %d: %s %s …", l.Row, n+1, o.rounds, l.About, l.Build)
			began := time.Now()
			f, notes, err := runOne(ctx, o, r, l)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, " %v\n", time.Since(began).Round(time.Second))
			l.Rounds = append(l.Rounds, f)
			for _, note := range notes {
				if !slices.Contains(l.Notes, note) {
					l.Notes = append(l.Notes, note)
				}
			}
		}
	}
	for i := range lines {
		lines[i].Figures = g.medians(lines[i].Rounds)
	}
	return lines, nil
}

// runOne runs a row once, in this build or in the other.
func runOne(ctx context.Context, o options, r row, l *line) (figures, []string, error) {
	if l.Build == o.beside && o.beside != "" {
		return elsewhere(ctx, o, l.Row)
	}
	f, note, err := r.run(ctx, o)
	if note == "" {
		return f, nil, err
	}
	return f, []string{ports.ReplaceAllString(note, "127.0.0.1:…")}, err
}

// ports matches addresses whose ports differ between otherwise equal notes.
var ports = regexp.MustCompile(`127\.0\.0\.1:\d+`)
