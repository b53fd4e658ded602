package nomadtest

import (
	"context"
	"time"
)

// live marks the agent as running.
func (a *Agent) live() {
	a.running, a.started = true, time.Now()
	a.life, a.stopLife = context.WithCancel(context.Background())
}

// die marks the agent as stopped and ends its log streams.
func (a *Agent) die() {
	a.running = false
	a.stopLife()
	for _, listener := range a.listeners {
		close(listener)
	}
	a.listeners = nil
}

// Stop ends the agent as a crash does: its connections break, and its peers report it as failed.
func (a *Agent) Stop() { a.end(failed) }

// Leave ends the agent gracefully: its peers report it as left, and a leader removes it from Raft.
func (a *Agent) Leave() { a.end(left) }

func (a *Agent) end(status string) {
	a.lifecycle.Lock()
	defer a.lifecycle.Unlock()
	mu.Lock()
	wasRunning := a.running
	a.die()
	if wasRunning && a.server {
		if status == left {
			a.pool.retire(a)
			a.parted = a.unjoined
		}
		a.pool.set(a.fullName(), status)
		for _, p := range expelledPools() {
			p.note(a, status)
		}
	}
	mu.Unlock()
	if wasRunning {
		a.shut()
	}
}

// Start starts an agent after Stop or Leave, with the same address and ID. It does nothing if the
// agent is running or the cluster is closed.
//
// A server returns to its pool. A server with the option Unjoined that has left starts in a new
// pool.
func (a *Agent) Start() {
	a.lifecycle.Lock()
	defer a.lifecycle.Unlock()
	mu.Lock()
	idle := !a.running && !a.gone
	mu.Unlock()
	if !idle {
		return
	}
	a.listen()
	mu.Lock()
	defer mu.Unlock()
	if a.gone {
		a.shut()
		return
	}
	a.live()
	if a.server && a.parted {
		a.parted = false
		a.pool = newPool(a.gossipKey)
		a.pool.add(a)
		return
	}
	if a.server {
		a.pool.restarted = true
		a.pool.add(a)
		for _, p := range expelledPools() {
			p.note(a, alive)
		}
	}
}
