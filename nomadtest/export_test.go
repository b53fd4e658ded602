package nomadtest

import (
	"cmp"
	"time"
)

// Listeners returns the number of open log streams of an agent.
func (a *Agent) Listeners() int {
	mu.Lock()
	defer mu.Unlock()
	return len(a.listeners)
}

// Elapse advances the agent's clock.
func (a *Agent) Elapse(d time.Duration) {
	mu.Lock()
	defer mu.Unlock()
	a.ahead += d
}

// Identify changes the IDs of an agent.
func (a *Agent) Identify(server, node string) {
	mu.Lock()
	defer mu.Unlock()
	a.id, a.node = cmp.Or(server, a.id), cmp.Or(node, a.node)
	if m := a.member(); m != nil {
		m.tags = a.memberTags()
	}
}

// BeatByTheClock makes a client renew its list of servers only when its heartbeat is due.
func (a *Agent) BeatByTheClock() {
	mu.Lock()
	defer mu.Unlock()
	a.slowBeat = true
}
