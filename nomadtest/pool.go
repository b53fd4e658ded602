package nomadtest

import (
	"cmp"
	"slices"
	"time"
)

// The statuses of members, as Serf has them.
const (
	alive   = "alive"
	leaving = "leaving"
	failed  = "failed"
	left    = "left"
)

// pool is a gossip pool. All agents in it share one view.
type pool struct {
	members map[string]*member // by full name
	rafts   map[string]*raft   // by region
	keyring keyring
	queries int // that Serf has made, to all servers

	cutFrom    *pool // by a partition
	mergedInto *pool

	expelled  bool // of a single server that was pruned while it was alive
	restarted bool // after that
}

// member is a server as its pool knows it.
type member struct {
	agent  *Agent
	status string
	tags   map[string]string
	dead   bool            // it has ended while it was said to be leaving
	lacks  map[string]bool // gossip keys that were installed while it was away
}

// present reports whether a member is there, whatever is said of it: one that was made to leave while it was alive goes
// by leaving, and works on.
func (m *member) present() bool { return m.status == alive || m.status == leaving && !m.dead }

// raft is the consensus among the servers of one region.
type raft struct {
	voters []string  // full names; empty until there was a first election
	leader string    // full name, or empty
	lost   time.Time // when there was one before
	term   int
	index  int
	nodes  []*Agent // clients that have registered
}

func newPool(key string) *pool {
	return &pool{members: map[string]*member{}, rafts: map[string]*raft{}, keyring: newKeyring(key)}
}

func (p *pool) raft(region string) *raft {
	if p.rafts[region] == nil {
		p.rafts[region] = &raft{}
	}
	return p.rafts[region]
}

// add makes an agent an alive member.
func (p *pool) add(a *Agent) {
	p.tell("EventMemberJoin", p.admit(a))
	p.settle()
}

// admit is add without what follows from it.
func (p *pool) admit(a *Agent) *member {
	m := &member{agent: a, status: alive, tags: a.memberTags()}
	if before := p.members[a.fullName()]; before != nil && before.agent == a {
		m.lacks = before.lacks
	}
	p.members[a.fullName()] = m
	return m
}

// tell writes what happened to a member to the logs of the servers that run.
func (p *pool) tell(event string, about *member) {
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.present() {
			m.agent.hear(event, about.agent)
		}
	}
}

// hear logs what a server learns about a member.
func (a *Agent) hear(event string, about *Agent) {
	a.emit("info", "nomad", "serf: "+event, "member", about.fullName(), "address", about.serfAddr())
}

// conflict is a name that different servers of two pools have, or empty.
func (p *pool) conflict(other *pool) string {
	for _, name := range sortedKeys(p.members) {
		if m := other.members[name]; m != nil && m.agent != p.members[name].agent {
			return name
		}
	}
	return ""
}

// expelledPools are the pools of servers that were pruned while they were alive. They are told of members, as those of
// other pools are not.
func expelledPools() (pools []*pool) {
	for _, a := range registry {
		if a.server && a.pool != nil && a.pool.expelled && !slices.Contains(pools, a.pool) {
			pools = append(pools, a.pool)
		}
	}
	return pools
}

// note changes what a server that was expelled believes about another.
func (p *pool) note(a *Agent, status string) {
	if m := p.members[a.fullName()]; m != nil && m.agent == a {
		m.status = status
	}
}

// set changes what the pool believes about a member.
func (p *pool) set(name, status string) {
	if m := p.members[name]; m != nil {
		if status == failed && m.status == leaving {
			m.dead = true // nobody says more of it than that it is leaving
			p.settle()
			return
		}
		m.status = status
		p.tell("EventMember"+map[string]string{alive: "Join", failed: "Failed", left: "Leave"}[status], m)
		p.settle()
	}
}

// retire lets a leader take a server that is about to leave out of Raft, so that it is not missed in a quorum.
func (p *pool) retire(a *Agent) {
	r := p.raft(a.region)
	if r.leader == "" || len(r.voters) == 1 {
		return
	}
	r.voters = slices.DeleteFunc(slices.Clone(r.voters), func(name string) bool { return name == a.fullName() })
	r.index++
}

// unite brings two pools together, unless one is of a server that was expelled: it has to be restarted first.
func unite(p, other *pool) {
	if p.expelled {
		p, other = other, p
	}
	if !other.expelled || other.restarted {
		p.merge(other)
	}
}

// merge takes over the members of another pool. What the two know of one member is brought together: it is alive if it is
// with them, and otherwise has left if one of them knows that.
func (p *pool) merge(other *pool) {
	if p == other {
		return
	}
	for name, m := range other.members {
		mine := p.members[name]
		switch {
		case mine == nil, m.present(), m.status == left && mine.status == failed:
			p.members[name] = m
		}
	}
	for _, a := range registry {
		if a.pool == other {
			a.pool = p
		}
	}
	other.mergedInto = p
	for region, r := range other.rafts {
		// One region has one Raft: the one that has a leader, and otherwise this pool's, if it had an election.
		mine := p.raft(region)
		if len(mine.voters) == 0 || mine.leader == "" && r.leader != "" {
			p.rafts[region] = r
		}
	}
	p.settle()
}

// transfer makes another voter the leader of its region.
func (p *pool) transfer(a *Agent) bool {
	r := p.raft(a.region)
	if r.leader == "" || !slices.Contains(r.voters, a.fullName()) || !p.isAlive(a.fullName()) {
		return false
	}
	if r.leader != a.fullName() {
		r.lead(p, a.fullName())
	}
	return true
}

// lead begins a new term.
func (r *raft) lead(p *pool, name string) {
	r.leader = name
	r.term++
	r.index += 2
	p.members[name].agent.emit("info", "nomad", "cluster leadership acquired")
}

// leader is the leader that the pool's servers of a region know, or nil.
func (p *pool) leader(region string) *Agent {
	if m := p.members[p.raft(region).leader]; m != nil {
		return m.agent
	}
	return nil
}

// forceLeave makes a failed member one that has left, and with prune forgets it. One that is there contradicts, and is alive
// again as soon as a third one can pass that on. With two left it goes by leaving until it joins again, and works on; with
// prune it is expelled.
func (p *pool) forceLeave(name string, prune bool) {
	m := p.members[name]
	switch {
	case m == nil:
		return
	case m.present() && prune && m.agent.pool == p:
		p.expel(m.agent)
	case prune: // of one that is not there, or not any more
	case m.present() && p.present() > 2:
		m.status = alive
	case m.present():
		m.status = leaving
	default:
		m.status = left
	}
	if prune {
		delete(p.members, name)
	}
	p.settle()
}

// present is how many members are there.
func (p *pool) present() int {
	n := 0
	for _, m := range p.members {
		if m.present() {
			n++
		}
	}
	return n
}

// expel leaves a server that works in a pool where it sees what it saw before, and is in no Raft.
func (p *pool) expel(a *Agent) {
	a.pool = p.split()
	a.pool.cutFrom, a.pool.expelled = nil, true
	for _, r := range a.pool.rafts {
		r.leader, r.lost = "", time.Now()
	}
	a.pool.members[a.fullName()].status = alive
}

// settle brings Raft in line with the members, region by region: voters that left are removed and servers that are new
// are added while there is a leader, and a leader is elected where there is a quorum.
func (p *pool) settle() {
	if p.expelled {
		return
	}
	for _, region := range p.regions() {
		r := p.raft(region)
		if len(r.voters) == 0 {
			r.voters = p.bootstrap(region)
		}
		for {
			p.elect(r)
			if r.leader == "" || !p.reconcile(region, r) {
				break
			}
		}
	}
}

// bootstrap gives the first voters of a region when as many servers as they expect are there.
func (p *pool) bootstrap(region string) []string {
	var servers []string
	expect := 0
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.agent.region == region && m.present() {
			servers = append(servers, name)
			expect = max(expect, m.agent.expect)
		}
	}
	if expect == 0 || len(servers) < expect {
		return nil
	}
	slices.SortStableFunc(servers, func(a, b string) int { // one that expects no other begins alone
		return cmp.Compare(p.members[b].agent.begins(), p.members[a].agent.begins())
	})
	return servers
}

// begins is 1 for a server that starts a region by itself.
func (a *Agent) begins() int {
	if a.expect == 1 {
		return 1
	}
	return 0
}

func (p *pool) isAlive(name string) bool {
	m := p.members[name]
	return m != nil && m.present()
}

// elect keeps the leader while it is alive and has a quorum, and otherwise finds another.
func (p *pool) elect(r *raft) {
	var up []string
	for _, name := range r.voters {
		if p.isAlive(name) {
			up = append(up, name)
		}
	}
	switch {
	case len(up) <= len(r.voters)/2:
		if r.leader != "" {
			r.leader, r.lost = "", time.Now()
		}
	case !slices.Contains(up, r.leader):
		first := slices.Min(up)
		if r.term == 0 {
			first = up[0]
		}
		r.lead(p, first)
	}
}

// reconcile is what a leader does about members that came and went. It reports whether something changed.
func (p *pool) reconcile(region string, r *raft) bool {
	voters := slices.DeleteFunc(slices.Clone(r.voters), func(name string) bool {
		m := p.members[name]
		return m == nil || m.status == left
	})
	for _, name := range sortedKeys(p.members) {
		m := p.members[name]
		if m.agent.region == region && m.present() && !slices.Contains(voters, name) {
			voters = append(voters, name)
		}
	}
	if slices.Equal(voters, r.voters) {
		return false
	}
	r.voters = voters
	r.index++
	return true
}

func (p *pool) regions() []string {
	seen := map[string]bool{}
	for _, m := range p.members {
		seen[m.agent.region] = true
	}
	return sortedKeys(seen)
}

// aliveRegions are the regions that a server is alive in.
func (p *pool) aliveRegions() []string {
	seen := map[string]bool{}
	for _, m := range p.members {
		if m.present() {
			seen[m.agent.region] = true
		}
	}
	return sortedKeys(seen)
}

// aliveServers are the members of a region that answer, by name.
func (p *pool) aliveServers(region string) []*Agent {
	var servers []*Agent
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.present() && m.agent.region == region {
			servers = append(servers, m.agent)
		}
	}
	return servers
}
