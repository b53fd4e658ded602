package crew

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad/internal/acceptance/relay"
	"github.com/nomad-go/nomad/nomadtest"
)

// Setup configures an agent in memory.
type Setup struct {
	TLS   bool
	RTT   time.Duration // round-trip time to the agent
	Count bool          // count requests by token
}

// Facts is what clients need to call an agent.
type Facts struct {
	Address string // HTTP address
	CA      []byte // certificate authority, if it uses TLS
	Serf    string // gossip address, for Join
}

// State holds counters of an agent.
type State struct {
	Open, Most int // open connections and their maximum
	Tokens     int // distinct tokens, if they are counted
	Repeated   int // tokens of more than one request
}

// Agent is the agent of a row.
type Agent struct {
	Facts
	Stop  func()
	State func() (State, error)
}

// StartAgent starts an agent in memory.
func StartAgent(ctx context.Context, setup Setup) (*Agent, error) {
	process, err := Start(ctx, "agent", setup)
	if err != nil {
		return nil, err
	}
	a := &Agent{Stop: process.Stop}
	if err := process.Hear(&a.Facts); err != nil {
		process.Stop()
		return nil, fmt.Errorf("the agent did not start: %w", err)
	}
	a.State = func() (s State, err error) {
		return s, errors.Join(process.Say("state"), process.Hear(&s))
	}
	return a, nil
}

// beAgent runs an agent in memory until the pipe is closed. It responds to each message with its
// state.
func beAgent(_ context.Context, pipe *Pipe) error {
	var setup Setup
	if err := pipe.Hear(&setup); err != nil {
		return err
	}
	var opts []nomadtest.AgentOption
	if setup.TLS {
		opts = append(opts, nomadtest.TLS())
	}
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, opts...))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	agent.Inject(block, nomadtest.On(BlockingPath))
	var tokens tokens
	if setup.Count {
		agent.Inject(tokens.count)
	}
	facts := Facts{Address: agent.URL(), Serf: agent.SerfAddr()}
	if setup.TLS {
		facts.CA = cluster.TLS().CAPEM
	}
	if setup.RTT > 0 {
		scheme, target, _ := strings.Cut(facts.Address, "://")
		way, err := relay.New(target, setup.RTT)
		if err != nil {
			return err
		}
		defer way.Close()
		facts.Address = scheme + "://" + way.Addr()
	}
	for response := any(facts); ; {
		if err := pipe.Say(response); err != nil {
			return err
		}
		if pipe.Hear(new(string)) != nil {
			return nil
		}
		state := State{}
		state.Open, state.Most = agent.Connections()
		state.Tokens, state.Repeated = tokens.seen()
		response = state
	}
}

// BlockingPath is a path where agents in memory respond after the time in the query parameter wait.
const BlockingPath = "/v1/x"

func block(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Nomad-Index", "1")
	w.Write([]byte("[]"))
}

// tokens counts requests by token.
type tokens struct {
	mu       sync.Mutex
	requests map[string]int
	repeated int
}

func (t *tokens) count(w http.ResponseWriter, r *http.Request, response http.HandlerFunc) {
	t.mu.Lock()
	if t.requests == nil {
		t.requests = map[string]int{}
	}
	token := r.Header.Get("X-Nomad-Token")
	t.requests[token]++
	if t.requests[token] == 2 {
		t.repeated++
	}
	t.mu.Unlock()
	response(w, r)
}

func (t *tokens) seen() (all, repeated int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.requests), t.repeated
}

// StartReal starts a real agent.
func StartReal(ctx context.Context) (*Agent, error) {
	process, err := nomadtest.StartProcess(ctx, nomadtest.Servers(1))
	if err != nil {
		return nil, err
	}
	return Watched(process.URL(), process.Close)
}

// Watched returns an agent whose connections are counted on Linux only, by polling /proc 200 times
// a second.
func Watched(address string, stop func()) (*Agent, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, fmt.Errorf("the address %q has no port", address)
	}
	var most atomic.Int64
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				most.Store(max(most.Load(), established(port)))
			}
		}
	}()
	return &Agent{
		Facts: Facts{Address: address},
		Stop:  func() { close(done); stop() },
		State: func() (State, error) { return State{Most: int(most.Load())}, nil },
	}, nil
}

// established returns the number of established connections to a port on Linux. It includes
// connections that the agent is about to refuse.
func established(port int) (n int64) {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return 0
	}
	defer file.Close()
	remote := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 3 && strings.HasSuffix(fields[2], remote) && fields[3] == "01" {
			n++
		}
	}
	return n
}
