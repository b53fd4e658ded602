// Profile writes a profile of an agent to a file: where its CPU time goes, what is in its memory, what its goroutines do.
//
//	profile [-type cpu] [-seconds 5] [-server name | -node ID] [-o file] [-f] [-json]
//
// The file appears when it is complete, and not before. Exit codes: 0 the profile is written; 1 it is not, because the file
// exists or the profile ended early; 2 wrong usage, or the agent could not be asked.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
)

var types = []string{"cpu", "trace", "heap", "allocs", "goroutine", "block", "mutex", "threadcreate"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("profile", flag.ContinueOnError)
	flags.SetOutput(stderr)
	kind := flags.String("type", "cpu", "what to look at: "+strings.Join(types, ", "))
	seconds := flags.Int("seconds", 5, "how long to look; cpu and trace only")
	server := flags.String("server", "", "look at the server of this `name`, or leader, in place of the agent that is called")
	node := flags.String("node", "", "look at the client with this node `ID`")
	path := flags.String("o", "", "the `file` to write; default <agent>-<type>.pprof or .trace")
	force := flags.Bool("f", false, "replace the file if it exists")
	asJSON := flags.Bool("json", false, "print the result as JSON")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Writes a profile of the agent at NOMAD_ADDR to a file or, when that is not set, of one in memory.\n\nusage: profile [flags]\n\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nexit codes: 0 written; 1 the file exists, or the profile ended early; 2 wrong usage, or the agent could not be asked\n")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	fail := func(code int, err error) int {
		fmt.Fprintln(stderr, "profile:", err)
		return code
	}
	switch {
	case flags.NArg() > 0:
		return fail(2, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case !slices.Contains(types, *kind):
		return fail(2, fmt.Errorf("unknown -type %q: want one of %s", *kind, strings.Join(types, ", ")))
	case *seconds < 1:
		return fail(2, fmt.Errorf("-seconds %d: want 1 or more", *seconds))
	case *server != "" && *node != "":
		return fail(2, errors.New("-server and -node do not go together"))
	}
	client, _, done, err := demo.Connect(nil, nomadtest.Servers(3, nomadtest.Debug()))
	if err != nil {
		return fail(2, err)
	}
	defer done()

	opts := nomad.ProfileOptions{Type: nomad.ProfileType(*kind)}
	extension, open := ".pprof", "go tool pprof -http=: "
	switch *kind {
	case "cpu":
		opts.Type, opts.Duration = nomad.ProfileCPU, time.Duration(*seconds)*time.Second
	case "trace":
		opts.Duration, extension, open = time.Duration(*seconds)*time.Second, ".trace", "go tool trace "
	}
	name := cmp.Or(*server, *node)
	switch {
	case *server != "":
		opts.Target = nomad.OnServer(*server)
	case *node != "":
		opts.Target = nomad.OnNode(*node)
	default:
		self, err := client.Agent.Self(ctx)
		if err != nil {
			return fail(2, err)
		}
		name = self.Config.NodeName
		if !self.Config.Server.Enabled { // A client that is given no target has its server profiled.
			opts.Target = nomad.OnNode(self.Stats.NodeID())
		}
	}
	file := cmp.Or(*path, filepath.Base(name)+"-"+*kind+extension)
	if _, err := os.Lstat(file); err == nil && !*force {
		return fail(1, fmt.Errorf("%s exists: name another file with -o, or replace it with -f", file))
	}
	if opts.Duration > 0 {
		fmt.Fprintf(stderr, "looking at %s for %v\n", name, opts.Duration)
	}
	size, code, err := save(ctx, client, opts, file, stderr)
	if err != nil {
		return fail(code, err)
	}
	if *asJSON {
		json.NewEncoder(stdout).Encode(map[string]any{"agent": name, "type": *kind, "file": file, "bytes": size, "open_with": open + file})
		return 0
	}
	fmt.Fprintf(stdout, "%s  %d bytes  open it with: %s\n", file, size, open+file)
	return 0
}

// save writes beside the file that it is to be, and renames when all of it is there.
func save(ctx context.Context, client *nomad.Client, opts nomad.ProfileOptions, path string, stderr io.Writer) (size int64, code int, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return 0, 1, err
	}
	defer os.Remove(file.Name()) // After the renaming there is nothing of that name.
	defer file.Close()
	// The agent sends nothing before its time of looking is over.
	p := &progress{line: io.Discard}
	if demo.Terminal(stderr) {
		p.line = stderr
	}
	looking, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() { p.countdown(looking, opts.Duration) })
	profile, err := client.Agent.Profile(ctx, opts)
	stop()
	shown.Wait()
	if ctx.Err() != nil {
		return 0, 1, errors.New("interrupted: nothing is written")
	}
	if err != nil {
		return 0, 2, err
	}
	defer profile.Close()
	size, err = io.Copy(io.MultiWriter(file, p), profile)
	fmt.Fprint(p.line, "\r\033[K")
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, 1, err
	}
	return size, 1, os.Rename(file.Name(), path)
}

// progress is a line on a terminal that is written again and again. It counts what is written to it.
type progress struct {
	line  io.Writer
	bytes int
}

func (p *progress) Write(b []byte) (int, error) {
	p.bytes += len(b)
	fmt.Fprintf(p.line, "\r\033[K%d bytes", p.bytes)
	return len(b), nil
}

// countdown shows the time that passes.
func (p *progress) countdown(ctx context.Context, duration time.Duration) {
	for start := time.Now(); duration > 0 && ctx.Err() == nil; {
		elapsed := min(time.Since(start), duration)
		bar := strings.Repeat("#", int(30*elapsed/duration))
		fmt.Fprintf(p.line, "\r[%-30s] %.0f of %.0f s", bar, elapsed.Seconds(), duration.Seconds())
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
