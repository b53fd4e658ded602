// Profile writes a profile of a Nomad agent to a file: where its CPU time goes, what is in its memory,
// what its goroutines do. Run it with -h for its flags, and with -demo to try it without an agent.
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
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

const usage = `Profile writes a profile of a Nomad agent to a file.

usage: profile [flags]

It calls the agent at NOMAD_ADDR (http://127.0.0.1:4646 if that is not set).
The ACL token at NOMAD_TOKEN needs agent:write and agent:read; without ACLs the
agent needs enable_debug. The file appears when the profile is complete.

exit codes:
  0  the profile was written
  1  it was not: the file exists or could not be written, the profile was cut
     short, or the program was interrupted
  2  wrong usage, a request failed, or the output could not be written

flags:
`

var types = []string{"cpu", "trace", "heap", "allocs", "goroutine", "block", "mutex", "threadcreate"}

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("profile", flag.ContinueOnError)
	kind := flags.String("type", "cpu",
		"`type` of profile: cpu, trace, heap, allocs, goroutine, block,\nmutex or threadcreate")
	seconds := flags.Int("seconds", 5, "duration of cpu and trace, at most 3600")
	server := flags.String("server", "", "profile the server of this `name`, or leader, through the agent")
	node := flags.String("node", "", "profile the client agent with this node `ID` through the agent")
	path := flags.String("o", "", "`file` to write (default <agent>-<type>.pprof or .trace)")
	force := flags.Bool("f", false, "replace the file if it exists")
	asJSON := flags.Bool("json", false, "print the result as a JSON object")
	demo := flags.Bool("demo", false, "use a cluster in memory")
	var help bytes.Buffer
	flags.SetOutput(&help)
	flags.Usage = func() {
		help.WriteString(usage)
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	timed, secondsSet := *kind == "cpu" || *kind == "trace", false
	flags.Visit(func(f *flag.Flag) { secondsSet = secondsSet || f.Name == "seconds" })
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
	case !slices.Contains(types, *kind):
		return 2, fmt.Errorf("-type %q: want one of %s", *kind, strings.Join(types, ", "))
	case *seconds < 1 || *seconds > 3600:
		return 2, fmt.Errorf("-seconds %d: want 1 to 3600", *seconds)
	case secondsSet && !timed:
		return 2, fmt.Errorf("-seconds and -type %s exclude each other", *kind)
	case *server != "" && *node != "":
		return 2, errors.New("-server and -node exclude each other")
	}

	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "profile: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3, nomadtest.Debug()))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	profile := nomad.ProfileOptions{Type: nomad.ProfileType(*kind)}
	if *kind == "cpu" {
		profile.Type = nomad.ProfileCPU
	}
	if timed {
		profile.Duration = time.Duration(*seconds) * time.Second
	}
	name := cmp.Or(*server, *node)
	switch {
	case *server != "":
		profile.Target = nomad.OnServer(*server)
	case *node != "":
		profile.Target = nomad.OnNode(*node)
	default:
		self, err := client.Agent.Self(ctx)
		if err != nil {
			return 2, err
		}
		name = self.Config.NodeName
		if !self.Config.Server.Enabled { // Without a target a client agent has its server profiled.
			profile.Target = nomad.OnNode(self.Stats.NodeID())
		}
	}
	extension, tool := ".pprof", "go tool pprof -http=: "
	if *kind == "trace" {
		extension, tool = ".trace", "go tool trace "
	}
	file := cmp.Or(*path, filepath.Base(name)+"-"+*kind+extension)
	info, err := os.Lstat(file)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return 1, fmt.Errorf("%s exists and is not a regular file", file)
	case err == nil && !*force:
		return 1, fmt.Errorf("%s exists: name another file with -o, or replace it with -f", file)
	}
	size, code, err := save(ctx, client.Agent, profile, file, name, stderr)
	if err != nil {
		return code, err
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(map[string]any{
			"agent": name, "type": *kind, "file": file, "bytes": size, "open_with": tool + file,
		})
	} else {
		_, err = fmt.Fprintf(stdout, "%s: %d bytes\nopen it with: %s\n", file, size, tool+file)
	}
	if err != nil {
		return 2, err
	}
	return 0, nil
}

// save writes a profile to a temporary file, and renames it when it is complete. It returns an exit
// code with an error.
func save(
	ctx context.Context, agent *nomad.Agent, options nomad.ProfileOptions, path, name string, stderr io.Writer,
) (size int64, code int, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*")
	if err != nil {
		return 0, 1, fileError(path, err)
	}
	defer os.Remove(file.Name()) // It does nothing after the renaming.
	defer file.Close()
	stop := progress(stderr, name, options.Duration)
	profile, err := agent.Profile(ctx, options)
	stop()
	switch {
	case ctx.Err() != nil:
		return 0, 1, errors.New("interrupted: nothing was written")
	case err != nil:
		return 0, 2, err
	}
	defer profile.Close()
	size, err = io.Copy(file, profile)
	if err = cmp.Or(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	return size, 1, fileError(path, err)
}

// fileError names the file in place of the temporary one.
func fileError(path string, err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", path, e.Err)
	}
	if e := (*os.LinkError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", path, e.Err)
	}
	return err
}

// progress shows on a terminal how much of a duration is over. The agent sends nothing before its end.
func progress(stderr io.Writer, name string, duration time.Duration) (stop func()) {
	if duration == 0 {
		return func() {}
	}
	fmt.Fprintf(stderr, "profile: profiling %q for %v\n", name, duration)
	if file, ok := stderr.(*os.File); !ok || os.Getenv("TERM") == "dumb" {
		return func() {}
	} else if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	ended, cleared := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cleared)
		for second := time.Duration(0); ; second += time.Second {
			fmt.Fprintf(stderr, "\r\033[K%v of %v", min(second, duration), duration)
			select {
			case <-time.After(time.Second):
			case <-ended:
				fmt.Fprint(stderr, "\r\033[K")
				return
			}
		}
	}()
	return func() { close(ended); <-cleared }
}
