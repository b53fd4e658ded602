package nomadtest

import (
	"cmp"
	"time"
)

// Listeners is how many streams an agent's log goes to.
func (a *Agent) Listeners() int {
	mu.Lock()
	defer mu.Unlock()
	return len(a.listeners)
}

// Elapse lets time pass for the agent.
func (a *Agent) Elapse(d time.Duration) {
	mu.Lock()
	defer mu.Unlock()
	a.ahead += d
}

// Identify gives an agent other IDs.
func (a *Agent) Identify(server, node string) {
	mu.Lock()
	defer mu.Unlock()
	a.id, a.node = cmp.Or(server, a.id), cmp.Or(node, a.node)
	if m := a.member(); m != nil {
		m.tags = a.memberTags()
	}
}

// BeatByTheClock has a client renew its list of servers when its heartbeat is due, and at no other time.
func (a *Agent) BeatByTheClock() {
	mu.Lock()
	defer mu.Unlock()
	a.slowBeat = true
}
