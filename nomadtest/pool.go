package nomadtest

import (
	"cmp"
	"slices"
	"time"
)

// Statuses of members, as in Serf.
const (
	alive   = "alive"
	leaving = "leaving"
	failed  = "failed"
	left    = "left"
)

// pool is a gossip pool. All its agents share one view.
type pool struct {
	members map[string]*member // by full name
	rafts   map[string]*raft   // by region
	keyring keyring
	queries int // number of Serf queries

	cutFrom    *pool // pool before a partition
	mergedInto *pool

	expelled  bool // pool of a server that was pruned while it was alive
	restarted bool // restarted since it was expelled
}

// member is a server as its pool knows it.
type member struct {
	agent  *Agent
	status string
	tags   map[string]string
	dead   bool            // stopped while its status was leaving
	lacks  map[string]bool // gossip keys that were installed while it was stopped
}

// present reports whether a member is running. A member that was forced to leave while it was alive
// keeps running with the status leaving.
func (m *member) present() bool { return m.status == alive || m.status == leaving && !m.dead }

// raft is the state of Raft among the servers of a region.
type raft struct {
	voters []string  // full names; empty before the first election
	leader string    // full name, or empty
	lost   time.Time // when the last leader was lost
	term   int
	index  int
	nodes  []*Agent // registered clients
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

// admit adds a member without logging it and without settling Raft.
func (p *pool) admit(a *Agent) *member {
	m := &member{agent: a, status: alive, tags: a.memberTags()}
	if before := p.members[a.fullName()]; before != nil && before.agent == a {
		m.lacks = before.lacks
	}
	p.members[a.fullName()] = m
	return m
}

// tell logs a member event on all running servers.
func (p *pool) tell(event string, about *member) {
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.present() {
			m.agent.hear(event, about.agent)
		}
	}
}

// hear logs a member event on a server.
func (a *Agent) hear(event string, about *Agent) {
	a.emit("info", "nomad", "serf: "+event, "member", about.fullName(), "address", about.serfAddr())
}

// conflict returns a name that different servers have in the two pools, or an empty string.
func (p *pool) conflict(other *pool) string {
	for _, name := range sortedKeys(p.members) {
		if m := other.members[name]; m != nil && m.agent != p.members[name].agent {
			return name
		}
	}
	return ""
}

// expelledPools returns the pools of servers that were pruned while they were alive. Only these
// pools learn the status of members outside of them.
func expelledPools() (pools []*pool) {
	for _, a := range registry {
		if a.server && a.pool != nil && a.pool.expelled && !slices.Contains(pools, a.pool) {
			pools = append(pools, a.pool)
		}
	}
	return pools
}

// note sets the status of another server in the pool of an expelled server.
func (p *pool) note(a *Agent, status string) {
	if m := p.members[a.fullName()]; m != nil && m.agent == a {
		m.status = status
	}
}

// set changes the status of a member.
func (p *pool) set(name, status string) {
	if m := p.members[name]; m != nil {
		if status == failed && m.status == leaving {
			m.dead = true // its peers still report it as leaving
			p.settle()
			return
		}
		m.status = status
		p.tell("EventMember"+map[string]string{alive: "Join", failed: "Failed", left: "Leave"}[status], m)
		p.settle()
	}
}

// retire removes a leaving server from Raft, so that it does not count for the quorum.
func (p *pool) retire(a *Agent) {
	r := p.raft(a.region)
	if r.leader == "" || len(r.voters) == 1 {
		return
	}
	r.voters = slices.DeleteFunc(slices.Clone(r.voters), func(name string) bool { return name == a.fullName() })
	r.index++
}

// unite merges two pools, except the pool of an expelled server that was not restarted.
func unite(p, other *pool) {
	if p.expelled {
		p, other = other, p
	}
	if !other.expelled || other.restarted {
		p.merge(other)
	}
}

// merge adds the members of another pool.
//
// If both pools know a member, it is alive if it is running, and otherwise left if one of them has
// that status.
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
		// A region keeps one Raft: the one with a leader, or else this pool's if it has had an election.
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

// lead starts a new term with a leader.
func (r *raft) lead(p *pool, name string) {
	r.leader = name
	r.term++
	r.index += 2
	p.members[name].agent.emit("info", "nomad", "cluster leadership acquired")
}

// leader returns the leader of a region as the pool's servers know it, or nil.
func (p *pool) leader(region string) *Agent {
	if m := p.members[p.raft(region).leader]; m != nil {
		return m.agent
	}
	return nil
}

// forceLeave marks a failed member as left, or removes it with prune.
//
// A running member refutes this: it stays alive if a third member can pass that on. In a pool of
// two it has the status leaving until it joins again, but keeps running. With prune, a running
// member is expelled.
func (p *pool) forceLeave(name string, prune bool) {
	m := p.members[name]
	switch {
	case m == nil:
		return
	case m.present() && prune && m.agent.pool == p:
		p.expel(m.agent)
	case prune: // not running, or not in this pool any more
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

// present returns the number of running members.
func (p *pool) present() int {
	n := 0
	for _, m := range p.members {
		if m.present() {
			n++
		}
	}
	return n
}

// expel moves a running server to its own pool with a copy of the members and without Raft.
func (p *pool) expel(a *Agent) {
	a.pool = p.split()
	a.pool.cutFrom, a.pool.expelled = nil, true
	for _, r := range a.pool.rafts {
		r.leader, r.lost = "", time.Now()
	}
	a.pool.members[a.fullName()].status = alive
}

// settle updates Raft in each region after a change of members.
//
// Where there is a quorum, a leader is elected. A leader removes voters that have left and adds new
// servers.
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

// bootstrap returns the first voters of a region once the expected number of servers is running.
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
	slices.SortStableFunc(servers, func(a, b string) int { // a server with bootstrap_expect 1 comes first
		return cmp.Compare(p.members[b].agent.begins(), p.members[a].agent.begins())
	})
	return servers
}

// begins returns 1 for a server with bootstrap_expect 1, and otherwise 0.
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

// elect keeps a leader that is alive and has a quorum, and otherwise elects another.
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

// reconcile updates the voters of a region to its members, as a leader does. It reports whether
// they changed.
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

// aliveRegions returns the regions with a running server.
func (p *pool) aliveRegions() []string {
	seen := map[string]bool{}
	for _, m := range p.members {
		if m.present() {
			seen[m.agent.region] = true
		}
	}
	return sortedKeys(seen)
}

// aliveServers returns the running servers of a region, by name.
func (p *pool) aliveServers(region string) []*Agent {
	var servers []*Agent
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.present() && m.agent.region == region {
			servers = append(servers, m.agent)
		}
	}
	return servers
}
