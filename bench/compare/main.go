// Command compare measures this library, Nomad's official client and plain net/http in turn, and prints a
// table with ratios. It runs the benchmarks of its own module. Run it in the module's folder.
//
//	go run ./compare                                 # ten rounds, about five minutes
//	go run ./compare -chart ../docs/benchmark.svg    # also draw the chart of the README
//	go run ./compare -rounds 0 -size                 # binary size and build time, three minutes
//
// With NOMAD_ADDR the calls go to the real agent at that address. Each round measures all clients one after
// the other. A ratio is the median of the ratios of all rounds, with its 95 % confidence interval.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

const (
	ours     = "nomad-go"
	official = "official"
	floor    = "net-http"
)

func main() {
	rounds := flag.Int("rounds", 10, "number of rounds of each benchmark")
	span := flag.String("benchtime", "300ms", "duration of each benchmark, as in go test")
	pattern := flag.String("bench", ".", "pattern of the benchmarks to run, as in go test")
	chart := flag.String("chart", "", "write the chart to this SVG file")
	size := flag.Bool("size", false, "also compare the size and build time of a small program; with -rounds 0 only that")
	saved := flag.String("results", "", "write the output of go test to this file; with -rounds 0 read it from there")
	asJSON := flag.Bool("json", false, "print one line of JSON for each row")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "Measures this client, the official one and plain net/http in turn, and prints ratios.\n\nusage: compare [flags]\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*rounds, *span, *pattern, *chart, *size, *saved, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(rounds int, span, pattern, chart string, size bool, saved string, asJSON bool) error {
	var log []byte
	if rounds == 0 && saved == "" && size {
		rows, err := measureSizes()
		if err != nil {
			return err
		}
		return show(rows, "", asJSON)
	}
	if rounds == 0 {
		var err error
		if log, err = os.ReadFile(saved); err != nil {
			return err
		}
	}
	for n := range rounds {
		started := time.Now()
		fmt.Fprintf(os.Stderr, "round %d of %d …", n+1, rounds)
		test := exec.Command("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", span, ".")
		test.Env = append(os.Environ(), fmt.Sprintf("NOMAD_GO_BENCH_ROUND=%d", n)) // decides which client runs first
		output, err := test.Output()
		if err != nil {
			return fmt.Errorf("go test: %w: %s", err, bytes.TrimSpace(output))
		}
		fmt.Fprintf(os.Stderr, " %v\n", time.Since(started).Round(time.Second))
		log = append(log, output...)
	}
	if saved != "" && rounds > 0 {
		if err := os.WriteFile(saved, log, 0o644); err != nil {
			return err
		}
	}
	results, err := parse(log)
	if err != nil {
		return err
	}
	rows := results.rows()
	if len(rows) == 0 {
		return errors.New("no benchmark ran")
	}
	if size {
		sizes, err := measureSizes()
		if err != nil {
			return err
		}
		rows = append(rows, sizes...)
	}
	if chart != "" {
		if err := drawChart(results, chart); err != nil {
			return err
		}
	}
	return show(rows, results.cpu, asJSON)
}

// show prints the rows.
func show(rows []row, cpu string, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		for _, r := range rows {
			if err := encoder.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if cpu != "" {
		cpu += ", "
	}
	fmt.Printf("%s%s/%s, %d processors, %s, %s\n\n", cpu, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(),
		time.Now().Format(time.DateOnly))
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "benchmark\tof\tthis client\tofficial\tnet/http\tofficial ÷ this\tthis ÷ net/http")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Benchmark, r.Unit, number(r.Ours), number(r.Official), number(r.Floor),
			r.OfficialToOurs, r.OursToFloor)
	}
	return table.Flush()
}

// results are the measurements of one benchmark, client and unit, in the order of the rounds.
type results struct {
	cpu    string
	names  []string // of benchmarks, without the client
	units  map[string][]string
	values map[key][]float64
}

type key struct{ name, unit, client string }

// parse reads the output of go test.
func parse(log []byte) (*results, error) {
	r := &results{units: map[string][]string{}, values: map[key][]float64{}}
	reader := benchfmt.NewReader(bytes.NewReader(log), "go test")
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		r.cpu = result.GetConfig("cpu")
		name, client, ok := strings.Cut(result.Name.String(), "/client=")
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(client, '-'); i >= 0 { // GOMAXPROCS
			if strings.Trim(client[i+1:], "0123456789") == "" {
				client = client[:i]
			}
		}
		if !slices.Contains(r.names, name) {
			r.names = append(r.names, name)
		}
		for _, value := range result.Values {
			k := key{name, value.Unit, client}
			if client == ours && len(r.values[k]) == 0 {
				r.units[name] = append(r.units[name], value.Unit)
			}
			r.values[k] = append(r.values[k], value.Value)
		}
	}
	return r, reader.Err()
}

// ratio is a median with its confidence interval.
type ratio struct{ Median, Low, High float64 }

func (r *ratio) String() string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", r.Median, r.Low, r.High)
}

// row is a line of the table.
type row struct {
	Benchmark      string   `json:"benchmark"`
	Unit           string   `json:"unit"`
	Ours           float64  `json:"nomad_go"`
	Official       *float64 `json:"official,omitempty"`
	Floor          *float64 `json:"net_http,omitempty"`
	OfficialToOurs *ratio   `json:"official_to_nomad_go,omitempty"`
	OursToFloor    *ratio   `json:"nomad_go_to_net_http,omitempty"`
}

// units are the units that are shown, with their names in the table.
var units = map[string]string{
	"sec/op": "time", "cpu-sec/op": "processor time", "B/op": "memory", "allocs/op": "allocations", "calls/s": "calls a second",
	"%failed": "% failed", "B/s": "bytes a second", "sec/member": "time a member",
}

func (r *results) rows() []row {
	var rows []row
	for _, name := range r.names {
		for _, unit := range r.units[name] {
			label, ok := units[unit]
			if !ok {
				continue
			}
			mine := r.values[key{name, unit, ours}]
			theirs, least := r.values[key{name, unit, official}], r.values[key{name, unit, floor}]
			rows = append(rows, row{
				Benchmark: strings.TrimPrefix(name, "Benchmark"), Unit: label,
				Ours: summary(mine).Center, Official: center(theirs), Floor: center(least),
				OfficialToOurs: ratioOf(theirs, mine), OursToFloor: ratioOf(mine, least),
			})
		}
	}
	return rows
}

func summary(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), .95)
}

func center(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	median := summary(values).Center
	return &median
}

// ratioOf returns the median of the ratios of each round.
func ratioOf(a, b []float64) *ratio {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 && !math.IsInf(b[i], 0) {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	s := summary(ratios)
	if math.IsInf(s.Lo, 0) || math.IsInf(s.Hi, 0) { // too few rounds for an interval
		s.Lo, s.Hi = s.Center, s.Center
		for _, r := range ratios {
			s.Lo, s.Hi = min(s.Lo, r), max(s.Hi, r)
		}
	}
	return &ratio{s.Center, s.Lo, s.Hi}
}

// number formats a value with three significant digits.
func number(value any) string {
	var v float64
	switch value := value.(type) {
	case float64:
		v = value
	case *float64:
		if value == nil {
			return ""
		}
		v = *value
	}
	abs := math.Abs(v)
	for _, scale := range []struct {
		from   float64
		by     float64
		suffix string
	}{{1e9, 1e9, " G"}, {1e6, 1e6, " M"}, {1e3, 1e3, " k"}, {1, 1, ""}, {1e-3, 1e-3, " m"}, {1e-6, 1e-6, " µ"}, {1e-9, 1e-9, " n"}} {
		if abs >= scale.from {
			return fmt.Sprintf("%.3g%s", v/scale.by, scale.suffix)
		}
	}
	return "0"
}

// builds is the number of builds of each of the two small programs.
const builds = 3

// measureSizes builds the two small programs in turn, each time with only the standard library in the build
// cache. It builds them with the default settings, and with encoding/json/v2 of the standard library, which
// Go 1.27 includes and for which go-json-experiment is then only an alias.
func measureSizes() ([]row, error) {
	folder, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	var rows []row
	for _, experiment := range []string{"", "jsonv2"} {
		build := func(cache string, args ...string) error {
			cmd := exec.Command("go", append([]string{"build", "-trimpath"}, args...)...)
			cmd.Env = append(os.Environ(), "GOCACHE="+cache, "CGO_ENABLED=0", "GOEXPERIMENT="+experiment)
			cmd.Stderr = os.Stderr
			return cmd.Run()
		}
		standard := filepath.Join(folder, "std"+experiment)
		fmt.Fprintln(os.Stderr, "building the standard library …")
		if err := build(standard, "std"); err != nil {
			return nil, err
		}
		sizes, times := map[string][]float64{}, map[string][]float64{}
		for n := range builds {
			for _, client := range []string{ours, official} {
				fmt.Fprintf(os.Stderr, "build %d of %d with %s …\n", n+1, builds, client)
				cache := filepath.Join(folder, fmt.Sprint(client, n))
				if err := os.CopyFS(cache, os.DirFS(standard)); err != nil {
					return nil, err
				}
				binary, started := filepath.Join(folder, client), time.Now()
				if err := build(cache, "-ldflags=-s -w", "-o", binary, "./size/"+client); err != nil {
					return nil, err
				}
				times[client] = append(times[client], time.Since(started).Seconds())
				info, err := os.Stat(binary)
				if err != nil {
					return nil, err
				}
				sizes[client] = append(sizes[client], float64(info.Size()))
				os.RemoveAll(cache)
			}
		}
		name := "a program that lists members"
		if experiment != "" {
			name += ", " + experiment
		}
		rows = append(rows,
			row{Benchmark: name, Unit: "bytes", Ours: summary(sizes[ours]).Center, Official: center(sizes[official]), OfficialToOurs: ratioOf(sizes[official], sizes[ours])},
			row{Benchmark: name, Unit: "build time", Ours: summary(times[ours]).Center, Official: center(times[official]), OfficialToOurs: ratioOf(times[official], times[ours])})
	}
	return rows, nil
}
