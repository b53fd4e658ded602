package nomadtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nomad-go/nomad"
)

// ErrNoBinary reports that NOMAD_BIN does not name a nomad binary. Tests that need one can skip on
// it.
var ErrNoBinary = errors.New("nomadtest: NOMAD_BIN does not name a nomad binary")

// startLimit limits the start of an agent if the context has no deadline.
const startLimit = time.Minute

// Process is a real agent, run from a Nomad binary on loopback with its data in a temporary folder.
//
// Most of its methods are those of Agent. Start and Log differ.
type Process struct {
	spec
	name   string
	folder string
	ca     *authority // nil without TLS

	http, rpc, serf int

	mu      sync.Mutex
	output  tail
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd has exited
	clients []*nomad.Client
}

// Format prints the agent's name and address, for every verb.
func (p *Process) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Process(%s, %s)", p.name, p.URL())
}

// StartProcess starts a real agent from the binary named by NOMAD_BIN, and waits until it is ready.
//
// Pass Servers(1), Clients(1) or Both(1); the default is Servers(1). More than one agent is an
// error. The agent joins no others. A server with Expect(1) is ready when it has elected itself
// leader, and an agent in client mode when it has connected to one of its KnownServers. With ACLs,
// the agent is bootstrapped with ManagementToken; it does not know the other tokens. Agents in
// client mode need the privileges that Nomad requires.
//
// Without a binary, the error is ErrNoBinary. The options Version, Config, Socket and
// InMemoryNetwork are refused with an error. If the agent is not ready before the context ends, or
// within a minute if it has no deadline, the error includes the end of the agent's log.
//
// The agent runs until Close, even if ctx ends.
func StartProcess(ctx context.Context, opts ...Option) (*Process, error) {
	binary := os.Getenv("NOMAD_BIN")
	if binary == "" {
		return nil, ErrNoBinary
	}
	if _, err := exec.LookPath(binary); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBinary, err)
	}
	var s setup
	for _, opt := range opts {
		opt.cluster(&s)
	}
	if len(s.groups) == 0 {
		Servers(1).cluster(&s)
	}
	if len(s.groups) > 1 || s.groups[0].n != 1 {
		return nil, errors.New("nomadtest: StartProcess: want one of Servers(1), Clients(1) and Both(1)")
	}
	specs, names := s.groups[0].specs(s.common, func(kind string) string { return kind + "-1" })
	p := &Process{spec: specs[0], name: names[0]}
	switch {
	case p.version != DefaultVersion:
		return nil, errors.New("nomadtest: StartProcess: Version is determined by the binary")
	case len(p.settings) > 0:
		return nil, errors.New("nomadtest: StartProcess: Config is for agents in memory")
	case s.memory:
		return nil, errors.New("nomadtest: StartProcess: InMemoryNetwork is for agents in memory")
	case p.socket:
		return nil, errors.New("nomadtest: StartProcess: Socket is for agents in memory: a real agent creates a socket for each task")
	}
	folder, err := os.MkdirTemp("", "nomadtest-")
	if err != nil {
		return nil, err
	}
	p.folder = folder
	for range 3 {
		if err = p.prepare(); err != nil {
			break
		}
		// Another process can take a port before the agent binds it.
		if err = p.Start(ctx); err == nil || !strings.Contains(p.Log(), "address already in use") {
			break
		}
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// prepare finds free ports and writes the configuration file.
func (p *Process) prepare() error {
	var err error
	if p.http, p.rpc, p.serf, err = freePorts(); err != nil {
		return err
	}
	type object = map[string]any
	config := object{
		"name": p.name, "region": p.region, "datacenter": p.dc, "data_dir": filepath.Join(p.folder, "data"),
		"bind_addr": "127.0.0.1",
		"advertise": object{"http": "127.0.0.1", "rpc": "127.0.0.1", "serf": "127.0.0.1"},
		"ports":     object{"http": p.http, "rpc": p.rpc, "serf": p.serf},
		"limits":    object{"http_max_conns_per_client": p.maxConns},
		"acl":       object{"enabled": p.acls},
		"consul":    object{"auto_advertise": false, "client_auto_join": false, "server_auto_join": false},

		"enable_debug": p.debug, "disable_update_check": true,
	}
	if p.logFile != "" {
		config["log_file"] = filepath.Join(p.folder, "nomad.log")
	}
	if p.server {
		server := object{"enabled": true, "encrypt": p.gossipKey}
		if p.expect > 0 {
			server["bootstrap_expect"] = p.expect
		}
		config["server"] = server
	}
	if p.client {
		known := slices.Clone(p.known)
		if p.server {
			known = append(known, p.RPCAddr())
		}
		config["client"] = object{
			"enabled": true, "servers": known,
			// The fingerprinters of cloud providers take seconds.
			"options": object{"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean"},
		}
	}
	if p.tls {
		if p.ca == nil {
			p.ca = newAuthority()
		}
		files := p.ca.files()
		cert, key := p.ca.issueAgent("server", p.region)
		certFile, keyFile := filepath.Join(p.folder, "server.pem"), filepath.Join(p.folder, "server-key.pem")
		if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600)); err != nil {
			return err
		}
		config["tls"] = object{"http": true, "verify_https_client": p.mutualTLS, "ca_file": files.CAFile, "cert_file": certFile, "key_file": keyFile}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(p.configFile(), text, 0o600)
}

func (p *Process) configFile() string { return filepath.Join(p.folder, "agent.json") }

func freePorts() (http, rpc, serf int, err error) {
	for _, port := range []*int{&http, &rpc, &serf} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, 0, err
		}
		defer listener.Close()
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return http, rpc, serf, nil
}

// Start starts a stopped agent with the same addresses and data, and waits until it is ready as
// StartProcess does.
func (p *Process) Start(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startLimit)
		defer cancel()
	}
	p.mu.Lock()
	if p.cmd != nil && !isClosed(p.exited) {
		p.mu.Unlock()
		return nil
	}
	cmd := exec.Command(os.Getenv("NOMAD_BIN"), "agent", "-config", p.configFile())
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.WaitDelay = 5 * time.Second // child processes can hold the output open
	p.output.reset()
	exited := make(chan struct{})
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrNoBinary, err)
	}
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	go func() {
		cmd.Wait()
		close(exited)
	}()
	if err := p.await(ctx, exited); err != nil {
		p.Stop()
		return fmt.Errorf("nomadtest: %s did not come up: %w; the end of its log:\n%s", p.name, err, p.Log())
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// await waits until the agent is ready.
func (p *Process) await(ctx context.Context, exited <-chan struct{}) error {
	client, err := p.newClient(nomad.WithRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		err := p.ready(ctx, client)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if isClosed(exited) {
				return errors.New("it has ended")
			}
			return cmp.Or(context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *Process) ready(ctx context.Context, client *nomad.Client) error {
	if p.server && p.expect != 1 || !p.server && len(p.known) == 0 {
		// It does not join others, so any response will do.
		_, err := client.Agent.Self(ctx)
		if failure := (*nomad.APIError)(nil); errors.As(err, &failure) {
			return nil
		}
		return err
	}
	if _, err := client.Agent.Health(ctx); err != nil {
		return err
	}
	if p.acls && p.server {
		_, err := client.Do(ctx, &nomad.Request{
			Method: http.MethodPut, Path: "/v1/acl/bootstrap", Body: map[string]string{"BootstrapSecret": ManagementToken},
		}, nil)
		if failure := (*nomad.APIError)(nil); err != nil && !(errors.As(err, &failure) && strings.Contains(failure.Message, "already done")) {
			return err
		}
	}
	_, err := client.Agent.Members(ctx)
	return err
}

// Stop kills the agent, as a crash does. Its peers report it as failed after some seconds.
func (p *Process) Stop() {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.cmd = nil
	p.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		<-exited
	}
}

// Close kills the agent, closes its clients and removes its data. Calling it again has no effect.
func (p *Process) Close() {
	p.mu.Lock()
	clients := p.clients
	p.clients = nil
	p.mu.Unlock()
	for _, client := range clients {
		client.Close()
	}
	p.Stop()
	os.RemoveAll(p.folder)
	if p.ca != nil {
		p.ca.remove()
	}
}

// Client returns a new client of the agent, as Agent.Client does. Close closes the client.
func (p *Process) Client(opts ...nomad.Option) *nomad.Client {
	client, err := p.newClient(opts...)
	if err != nil {
		panic("nomadtest: " + err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients = append(p.clients, client)
	return client
}

func (p *Process) newClient(opts ...nomad.Option) (*nomad.Client, error) {
	return p.spec.newClient(p.URL(), p.ca, opts)
}

// TLS returns the TLS settings for clients of an agent with TLS or MutualTLS, as Cluster.TLS does.
// It is empty for other agents.
func (p *Process) TLS() nomad.TLS {
	if p.ca == nil {
		return nomad.TLS{}
	}
	return p.ca.clientTLS()
}

// Name returns the agent's name, without its region.
func (p *Process) Name() string { return p.name }

// MemberName returns a server's name in the gossip pool.
func (p *Process) MemberName() string { return p.name + "." + p.region }

// URL returns the agent's HTTP address. It does not change when the agent is restarted.
func (p *Process) URL() string {
	scheme := "http"
	if p.tls {
		scheme = "https"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, p.http)
}

// SerfAddr returns the agent's gossip address for Agent.Join of package nomad, as host:port.
func (p *Process) SerfAddr() string { return fmt.Sprintf("127.0.0.1:%d", p.serf) }

// RPCAddr returns the agent's RPC address for Agent.UpdateServers of package nomad and
// KnownServers, as host:port.
func (p *Process) RPCAddr() string { return fmt.Sprintf("127.0.0.1:%d", p.rpc) }

// Log returns the end of the agent's output, at most 64 KiB.
func (p *Process) Log() string { return p.output.String() }

// tail is a writer that keeps the end of its input.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailSize {
		t.text = bytes.Clone(t.text[len(t.text)-tailSize:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text[max(0, len(t.text)-tailSize):])
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = nil
}
