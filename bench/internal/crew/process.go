// Package crew runs agents, and the workers that call them, as processes of their own, so that none of them takes the
// processor's time of another unseen and each worker has connections of its own.
package crew

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
)

// asked is the variable that gives a process its role.
const asked = "NOMAD_GO_BENCH_ROLE"

// Role is what a process does that Start started.
type Role func(context.Context, *Pipe) error

// Pipe carries values between a process and the one that started it.
type Pipe struct {
	in  *json.Decoder
	out *json.Encoder
}

// Say sends a value.
func (p *Pipe) Say(value any) error { return p.out.Encode(value) }

// Hear reads the next value that the other side says. The error is io.EOF when there will be none.
func (p *Pipe) Hear(value any) error { return p.in.Decode(value) }

// Main plays the role that this process was started for, if it was started for one, and then exits. A command that uses
// this package calls it first. Beside the given roles there are those of this package.
func Main(more map[string]Role) {
	name := os.Getenv(asked)
	if name == "" {
		return
	}
	role := map[string]Role{"agent": beAgent, "worker": beWorker}[name]
	if role == nil {
		role = more[name]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := role(ctx, &Pipe{json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)}); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is a process that plays a role.
type Process struct {
	Pipe
	cmd   *exec.Cmd
	input io.Closer
}

// Start runs this program again, in a role and with more environment variables, and tells it what to do.
func Start(ctx context.Context, role string, orders any, env ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), asked+"="+role), env...)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Pipe: Pipe{json.NewDecoder(output), json.NewEncoder(input)}, cmd: cmd, input: input}
	if err := p.Say(orders); err != nil {
		p.Stop()
		return nil, fmt.Errorf("the %s: %w", role, err)
	}
	return p, nil
}

// Stop ends what the process hears, and waits until it has ended. Calling it again does nothing.
func (p *Process) Stop() {
	p.input.Close()
	p.cmd.Wait()
}
