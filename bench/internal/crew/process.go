// Package crew runs agents and the workers that call them in separate processes.
//
// So the CPU time of each process can be measured, and each worker has its own connections.
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

// variable is the environment variable with the role of a process.
const variable = "NOMAD_GO_BENCH_ROLE"

// Role is the main function of a process that Start started.
type Role func(context.Context, *Pipe) error

// Pipe exchanges values between a process and its parent.
type Pipe struct {
	in  *json.Decoder
	out *json.Encoder
}

// Say sends a value.
func (p *Pipe) Say(value any) error { return p.out.Encode(value) }

// Hear receives the next value. The error is io.EOF after the last value.
func (p *Pipe) Hear(value any) error { return p.in.Decode(value) }

// Main runs the role of a process that Start started, and then exits. In other processes it returns
// at once.
//
// Commands that use this package call it first. more adds roles to those of this package.
func Main(more map[string]Role) {
	name := os.Getenv(variable)
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

// Process is a child process with a role.
type Process struct {
	Pipe
	cmd   *exec.Cmd
	input io.Closer
}

// Start runs this program again in a role with additional environment variables, and sends it the
// orders.
func Start(ctx context.Context, role string, orders any, env ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), variable+"="+role), env...)
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

// Stop closes the input of the process and waits until it has exited. Calling it again has no
// effect.
func (p *Process) Stop() {
	p.input.Close()
	p.cmd.Wait()
}
