package nomadtest

// island is a part of the network that reaches only itself. Agents that are on none reach each other.
type island struct{ _ byte }

// Partition separates the named agents from all others. The named agents still reach each other. Servers see those on
// the other side as failed, and a side with a quorum elects a leader. Agents in client mode lose the servers on the
// other side. HTTP clients still reach every agent; use Agent.Inject to disturb them. Each further call separates one
// more group. An agent of an earlier group moves to the new one. Heal joins all groups again.
func (c *Cluster) Partition(names ...string) {
	agents := make([]*Agent, len(names))
	for i, name := range names {
		agents[i] = c.Agent(name)
	}
	mu.Lock()
	defer mu.Unlock()
	here := new(island)
	parts := map[*pool]*pool{}
	for _, a := range agents {
		if a.island == here {
			continue // named twice
		}
		a.island = here
		if !a.server {
			continue
		}
		if parts[a.pool] == nil {
			parts[a.pool] = a.pool.split()
		}
		a.pool = parts[a.pool]
	}
	seen := map[*pool]bool{}
	for _, a := range c.agents {
		if a.server && !seen[a.pool] {
			seen[a.pool] = true
			a.pool.lose(func(other *Agent) bool { return other.island != a.island })
		}
	}
}

// Heal ends all partitions: the servers see each other again, in one pool with one leader for each region.
func (c *Cluster) Heal() {
	mu.Lock()
	defer mu.Unlock()
	for _, a := range c.agents {
		a.island = nil
	}
	for _, a := range c.agents {
		for a.server && a.pool.cutFrom != nil {
			part, whole := a.pool, a.pool.cutFrom.survivor()
			part.cutFrom = nil
			whole.merge(part)
		}
	}
}

// split makes a pool that knows the same, for those who are cut off.
func (p *pool) split() *pool {
	part := &pool{members: map[string]*member{}, rafts: map[string]*raft{}, keyring: p.keyring, cutFrom: p,
		expelled: p.expelled, restarted: p.restarted}
	for name, m := range p.members {
		known := *m
		part.members[name] = &known
	}
	for region, r := range p.rafts {
		known := *r
		part.rafts[region] = &known
	}
	part.keyring.keys = append([]string(nil), p.keyring.keys...)
	return part
}

// lose makes members failed that are not reached any more.
func (p *pool) lose(gone func(*Agent) bool) {
	for _, name := range sortedKeys(p.members) {
		if m := p.members[name]; m.present() && gone(m.agent) {
			m.status = failed
			p.tell("EventMemberFailed", m)
		}
	}
	p.settle()
}

// survivor is the pool that a pool has become part of, which is itself at first.
func (p *pool) survivor() *pool {
	for p.mergedInto != nil {
		p = p.mergedInto
	}
	return p
}
