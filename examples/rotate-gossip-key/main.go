// Rotate-gossip-key replaces the key that the servers of a pool encrypt their gossip with: it installs
// the new key, checks that every server has it, uses it, checks again, and removes the other keys. It
// is safe to repeat with the same key. Run it with -h for its flags, and with -demo to try it without
// an agent.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

const usage = `Rotate-gossip-key replaces the key that servers encrypt their gossip with.

usage: rotate-gossip-key -key-file file | -out file [flags]

It calls the server at NOMAD_ADDR, or at http://127.0.0.1:4646 if that is not
set. The ACL token at NOMAD_TOKEN needs agent:write and node:read. It can be
interrupted at any step: run it again with the same key. Keys are never printed,
only the first 8 hex digits of their SHA-256.

exit codes:
  0  the key was rotated
  1  a server is not ready or did not follow, or the program was interrupted
  2  wrong usage, a request failed, or the output could not be written

flags:
`

func main() {
	signal.Ignore(syscall.SIGPIPE) // A closed pipe is an error of the write, like a full disk.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rotate-gossip-key:", err)
	}
	os.Exit(code)
}

// run returns the exit code, and what went wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	flags := flag.NewFlagSet("rotate-gossip-key", flag.ContinueOnError)
	keyFile := flags.String("key-file", "", "`file` with the new key in base64, or - for standard input")
	out := flags.String("out", "", "new `file` to write a random key to")
	keep := flags.Bool("keep", false, "do not remove the other keys")
	asJSON := flags.Bool("json", false, "print a JSON object for each step, one a line")
	demo := flags.Bool("demo", false, "use a cluster in memory, where -out is optional")
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
	case *keyFile != "" && *out != "":
		return 2, errors.New("-key-file and -out exclude each other")
	case *keyFile == "" && *out == "" && !*demo:
		return 2, errors.New("want -key-file, or -out for a random key: new servers need the key in their configuration")
	}
	key := randomKey()
	if *keyFile != "" {
		var err error
		if key, err = readKey(*keyFile); err != nil {
			return 2, err
		}
	}

	options := []nomad.Option{nomad.FromEnvironment()}
	if *demo {
		fmt.Fprintln(stderr, "rotate-gossip-key: -demo: using a cluster in memory")
		cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.GossipKey(randomKey()))
		defer cluster.Close()
		options = []nomad.Option{nomad.WithAddress(cluster.URL("server-1"))}
	}
	client, err := nomad.NewClient(options...)
	if err != nil {
		return 2, err
	}
	defer client.Close()

	r := &rotation{agent: client.Agent, key: key, out: *out}
	steps := []step{
		{"check", r.check}, {"save", r.save}, {"install", r.change(r.agent.InstallKey)}, {"verify", r.verify},
		{"use", r.change(r.agent.UseKey)}, {"verify", r.verify}, {"remove", r.remove},
	}
	steps = slices.DeleteFunc(steps, func(s step) bool {
		return s.name == "save" && *out == "" || s.name == "remove" && *keep
	})

	// A step is printed when it is done, so that one can see where an interruption came.
	line := func(name, result, detail string) error {
		if runes := []rune(detail); len(runes) > 63 {
			detail = string(runes[:62]) + "…"
		}
		_, err := fmt.Fprintf(stdout, "%-7s  %-6s  %s\n", name, result, detail)
		return err
	}
	if *asJSON {
		lines := json.NewEncoder(stdout)
		line = func(name, result, detail string) error {
			return lines.Encode(map[string]any{"step": name, "result": result, "detail": detail})
		}
	} else if err := line("STEP", "RESULT", "DETAIL"); err != nil {
		return 2, err
	}
	for _, step := range steps {
		result, detail, err := "done", "", error(nil)
		if detail, err = step.do(ctx); err != nil {
			result, detail = "failed", err.Error()
		}
		if failed := line(step.name, result, detail); failed != nil {
			return 2, failed
		}
		if err == nil {
			continue
		}
		if r.saved {
			fmt.Fprintf(stderr, "To go on later: rotate-gossip-key -key-file %s\n", *out)
		}
		refused := (*nomad.APIError)(nil)
		if errors.Is(err, errNotReady) || ctx.Err() != nil || errors.As(err, &refused) && refused.StatusCode == 500 {
			again := "run it again"
			if r.sent || r.saved || *keyFile != "" {
				again += " with the same key"
			}
			return 1, fmt.Errorf("not rotated, but the pool works; repair this and %s: %w", again, err)
		}
		return 2, err
	}
	if r.saved {
		fmt.Fprintf(stderr, "Put the key in %s into server.encrypt of every server's configuration:\n"+
			"a server with a new data_dir starts with that.\n", *out)
	}
	return 0, nil
}

type step struct {
	name string
	do   func(context.Context) (detail string, err error)
}

// errNotReady reports that the next step must not follow.
var errNotReady = errors.New("not ready")

// rotation is the change to a new key.
type rotation struct {
	agent *nomad.Agent
	key   string
	out   string
	saved bool
	sent  bool // a server may have the key
}

// list returns the keys, unless a server would miss the change: keyrings count only servers that can be reached.
func (r *rotation) list(ctx context.Context) (*nomad.Keyring, error) {
	members, err := r.agent.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members.Members {
		if m.Status != nomad.StatusAlive && m.Status != nomad.StatusLeft {
			return nil, fmt.Errorf("%w: %q is %q and would miss the change: start it, or force it to leave",
				errNotReady, m.Name, m.Status)
		}
	}
	return r.agent.ListKeys(ctx)
}

func (r *rotation) check(ctx context.Context) (string, error) {
	ring, err := r.list(ctx)
	if err != nil {
		if self, _ := r.agent.Self(ctx); self != nil && self.Stats["serf"]["encrypted"] == "false" {
			return "", errors.New("gossip is not encrypted, so there is no key to replace: set server.encrypt")
		}
		return "", err
	}
	return fmt.Sprintf("servers: %d, keys: %d", ring.NumNodes, len(ring.Keys)), nil
}

// save writes the key to its file before any server has it.
func (r *rotation) save(context.Context) (string, error) {
	file, err := os.OpenFile(r.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(r.key + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		os.Remove(r.out)
		return "", err
	}
	r.saved = true
	return fingerprint(r.key) + " is in " + r.out, nil
}

// change returns a step that makes a call with the new key.
func (r *rotation) change(
	call func(context.Context, nomad.Secret) (*nomad.Keyring, error),
) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		r.sent = true
		_, err := call(ctx, nomad.NewSecret(r.key))
		return fingerprint(r.key), err
	}
}

// verify checks that every server has the key. After the step use, their responses are encrypted with it.
func (r *rotation) verify(ctx context.Context) (string, error) {
	ring, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	n := ring.Keys[nomad.NewSecret(r.key)]
	if n != ring.NumNodes {
		return "", fmt.Errorf("%w: %s is on %d of %d servers", errNotReady, fingerprint(r.key), n, ring.NumNodes)
	}
	return fmt.Sprintf("%s is on %d of %d servers", fingerprint(r.key), n, ring.NumNodes), nil
}

// remove removes all other keys. None of them is active after the step use.
func (r *rotation) remove(ctx context.Context) (string, error) {
	ring, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	removed := 0
	for secret := range ring.Keys {
		if secret.Reveal() != r.key {
			if _, err := r.agent.RemoveKey(ctx, secret); err != nil {
				return "", err
			}
			removed++
		}
	}
	if ring, err = r.list(ctx); err == nil && len(ring.Keys) != 1 {
		err = fmt.Errorf("%w: %d keys are left, want 1", errNotReady, len(ring.Keys))
	}
	return fmt.Sprintf("keys removed: %d", removed), err
}

func randomKey() string {
	key := make([]byte, 32)
	rand.Read(key) // It never fails.
	return base64.StdEncoding.EncodeToString(key)
}

// readKey reads a key, and returns it in the form in which servers list it.
func readKey(path string) (string, error) {
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return "", err
		}
		defer file.Close()
	}
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	if err != nil {
		return "", err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
		return "", errors.New("the key is not the base64 of 16, 24 or 32 bytes")
	}
	return base64.StdEncoding.EncodeToString(key), nil
}

func fingerprint(key string) string { return fmt.Sprintf("%.4x", sha256.Sum256([]byte(key))) }
