// Rotate-gossip-key gives the servers of a pool another key for their gossip: it installs the key, sees that it is
// everywhere, uses it, sees that all can still be heard, and removes the other keys.
//
//	rotate-gossip-key [-key-file file] [-out file] [-keep] [-json]
//
// It can be interrupted at any step: run it again with the same key, and it does what is left. Exit codes: 0 rotated; 1 a
// server is not ready or did not follow; 2 wrong usage, or the agent could not be asked. No key is ever printed: keys go by the
// first 8 hex digits of their SHA-256. The ACL token needs agent:write and node:read.
package main

import (
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
	"github.com/nomad-go/nomad/examples/internal/demo"
	"github.com/nomad-go/nomad/nomadtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("rotate-gossip-key", flag.ContinueOnError)
	flags.SetOutput(stderr)
	keyFile := flags.String("key-file", "", "the `file` with the new key in base64, or - for the standard input; without it the key is random")
	out := flags.String("out", "", "the `file` to write a random key to, as it must be kept")
	keep := flags.Bool("keep", false, "do not remove the other keys")
	asJSON := flags.Bool("json", false, "print each step as JSON, one a line")
	flags.Usage = func() {
		fmt.Fprint(stderr, "Rotates the key that servers encrypt their gossip with: at NOMAD_ADDR or, when that is not set, in memory.\n\nusage: rotate-gossip-key [flags]\n\nOn a real agent -key-file or -out is required. Keys are shown by the first 8 hex digits of their SHA-256.\n\n")
		flags.PrintDefaults()
		fmt.Fprint(stderr, "\nexit codes: 0 rotated; 1 a server is not ready or did not follow; 2 wrong usage, or the agent could not be asked\n")
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	fail := func(code int, err error) int {
		fmt.Fprintln(stderr, "rotate-gossip-key:", err)
		return code
	}
	if flags.NArg() > 0 || *keyFile != "" && *out != "" {
		return fail(2, errors.New("want no arguments, and one of -key-file and -out; see -h"))
	}
	client, cluster, done, err := demo.Connect(nil, nomadtest.Servers(3), nomadtest.GossipKey(randomKey()))
	if err != nil {
		return fail(2, err)
	}
	defer done()
	if cluster == nil && *keyFile == "" && *out == "" {
		return fail(2, errors.New("want -out for the new key, or -key-file: new servers need the key in their configuration"))
	}
	r := &rotation{agent: client.Agent, key: randomKey(), out: *out}
	if *keyFile != "" {
		if r.key, err = readKey(*keyFile); err != nil {
			return fail(2, err)
		}
	}
	steps := []step{
		{"check", r.check}, {"save", r.save}, {"install", r.give(r.agent.InstallKey)}, {"verify", r.verify},
		{"use", r.give(r.agent.UseKey)}, {"verify", r.verify}, {"remove", r.remove},
	}
	if *out == "" {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == "save" })
	}
	if *keep {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == "remove" })
	}

	// A step is printed when it is done, so that an interruption shows how far it came.
	print := func(name, result, detail string) { fmt.Fprintf(stdout, "%-8s  %-6s  %s\n", name, result, detail) }
	if *asJSON {
		print = func(name, result, detail string) {
			json.NewEncoder(stdout).Encode(map[string]any{"step": name, "result": result, "detail": detail})
		}
	} else {
		print("STEP", "RESULT", "DETAIL")
	}
	for _, step := range steps {
		detail, err := step.do(ctx)
		if err == nil {
			print(step.name, "done", detail)
			continue
		}
		print(step.name, "failed", err.Error())
		if r.saved {
			fmt.Fprintf(stderr, "To go on later: rotate-gossip-key -key-file %s\n", *out)
		}
		if answer := (*nomad.APIError)(nil); errors.Is(err, errNotReady) || ctx.Err() != nil || errors.As(err, &answer) && answer.StatusCode == 500 {
			return fail(1, errors.New("not rotated, but the pool works on: fix what "+step.name+" reports, and run it again with the same key"))
		}
		return fail(2, err)
	}
	if r.saved {
		fmt.Fprintf(stderr, "Put the key in %s into server.encrypt of every server's configuration: one with a new data_dir starts with that.\n", *out)
	}
	return 0
}

type step struct {
	name string
	do   func(context.Context) (detail string, err error)
}

// errNotReady is why a step must not follow.
var errNotReady = errors.New("not ready")

// rotation is the way to a new key.
type rotation struct {
	agent *nomad.Agent
	key   string
	out   string
	saved bool
}

// list lists the keys, unless there is a server that would miss the new one. Keyrings count only servers that can be reached.
func (r *rotation) list(ctx context.Context) (*nomad.Keyring, error) {
	members, err := r.agent.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members.Members {
		if m.Status != nomad.StatusAlive && m.Status != nomad.StatusLeft {
			return nil, fmt.Errorf("%w: %s is %s and would miss the change: start it, or force it to leave", errNotReady, m.Name, m.Status)
		}
	}
	return r.agent.ListKeys(ctx)
}

func (r *rotation) check(ctx context.Context) (string, error) {
	ring, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("servers: %d, keys: %d", ring.NumNodes, len(ring.Keys)), nil
}

// save keeps the key before any server has it.
func (r *rotation) save(context.Context) (string, error) {
	file, err := os.OpenFile(r.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(r.key + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", err
	}
	r.saved = true
	return fingerprint(r.key) + " is in " + r.out, nil
}

// give makes a step of a call that takes the new key.
func (r *rotation) give(call func(context.Context, nomad.Secret) (*nomad.Keyring, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		_, err := call(ctx, nomad.NewSecret(r.key))
		return fingerprint(r.key), err
	}
}

// verify sees that every server has the key. After use, their answers come encrypted with it.
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

// remove takes all other keys from the servers. None of them is in use after use.
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

// readKey reads a key in the form in which servers list it.
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
