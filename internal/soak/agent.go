package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad/nomadtest"
)

// beAgent runs the agent until standard input ends. It prints what a client needs, and in the end what it did.
func beAgent(ctx context.Context, folder string) error {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.MutualTLS(), nomadtest.ACLs()))
	defer cluster.Close()
	agent := cluster.Agents()[0]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &chaos{ctx: ctx, cluster: cluster, agent: agent, token: filepath.Join(folder, "token"), did: map[string]int{}}
	c.valid.Store([]string{nomadtest.ManagementToken})
	if err := os.WriteFile(c.token, []byte(nomadtest.ManagementToken), 0o600); err != nil {
		return err
	}
	agent.Inject(c.checkToken)
	files := cluster.TLSFiles()
	fmt.Println(agent.URL(), files.CAFile, files.CertFile, files.KeyFile, c.token)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for {
		agent.Log("info", "soak", "still here")
		select {
		case <-time.After(time.Duration(500+rand.IntN(1500)) * time.Millisecond): // the budget of retries fills again
		case <-ctx.Done():
			fmt.Println(c.did)
			return nil
		}
		c.do()
	}
}

// chaos is what happens to the agent.
type chaos struct {
	ctx     context.Context
	cluster *nomadtest.Cluster
	agent   *nomadtest.Agent
	token   string       // the file
	valid   atomic.Value // of []string: the tokens that the agent takes
	used    atomic.Value // of string: the last one that the client sent
	did     map[string]int
}

// checkToken refuses tokens that were replaced.
func (c *chaos) checkToken(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	token := r.Header.Get("X-Nomad-Token")
	if !slices.Contains(c.valid.Load().([]string), token) {
		if len(token) < len(nomadtest.ManagementToken) { // as an agent says that it is no UUID
			http.Error(w, "ACL token lookup failed: invalid UUID", http.StatusInternalServerError)
			return
		}
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	c.used.Store(token)
	r.Header.Set("X-Nomad-Token", nomadtest.ManagementToken) // the only one that the agent knows
	next(w, r)
}

// do does one thing to the agent.
func (c *chaos) do() {
	events := []struct {
		name string
		do   func()
	}{
		{"restart", func() {
			c.agent.Stop()
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
			c.agent.Start()
		}},
		{"stall", c.fault(nomadtest.Stall())},
		{"stall in a response", c.fault(nomadtest.StallAfter(rand.IntN(500)))},
		{"reset", c.fault(nomadtest.Reset())},
		{"reset in a response", c.fault(nomadtest.ResetAfter(rand.IntN(500)))},
		{"cut", c.fault(nomadtest.Truncate(rand.IntN(500)))},
		{"garbage", c.fault(nomadtest.Garbage())},
		{"drip", c.fault(nomadtest.Drip(10, 50*time.Millisecond))},
		{"delay", c.fault(nomadtest.Delay(time.Second))},
		{"503", c.fault(nomadtest.Status(http.StatusServiceUnavailable, "busy"))},
		{"500", c.fault(nomadtest.Status(http.StatusInternalServerError, "oops"))},
		{"certificates", c.cluster.RotateTLS},
		{"token", c.rotateToken},
		{"token", c.rotateToken},
	}
	event := events[rand.IntN(len(events))]
	event.do()
	c.did[event.name]++
}

// fault has some calls meet a fault.
func (c *chaos) fault(f nomadtest.Fault) func() {
	return func() {
		injection := c.agent.Inject(f, nomadtest.Times(1+rand.IntN(50)))
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
		injection.Remove()
	}
}

// rotateToken makes another token, empties the file, writes the token to it as a whole, and then revokes the old one at
// once. A token that is written by halves is refused until it is whole: that would be no fault of the client.
func (c *chaos) rotateToken() {
	text := fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", rand.Uint32(), rand.N(1<<16), rand.N(1<<16), rand.N(1<<16), rand.N(uint64(1)<<48))
	c.valid.Store(append(c.valid.Load().([]string), text))
	err := os.WriteFile(c.token, nil, 0o600)
	time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
	fresh := c.token + ".new"
	if err := errors.Join(err, os.WriteFile(fresh, []byte(text), 0o600), os.Rename(fresh, c.token)); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	c.valid.Store([]string{text})
	for c.used.Load() != text && c.ctx.Err() == nil { // the file stays as it is until the client has read it
		time.Sleep(10 * time.Millisecond)
	}
}
