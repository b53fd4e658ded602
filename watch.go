package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/agentconn"
)

// The defaults of WatchOptions.
const (
	DefaultWatchInterval = 5 * time.Second
	DefaultWatchSettle   = 2 * time.Second
)

// maxWatchBackoff is the longest time between two looks during an outage, unless the interval is longer.
const maxWatchBackoff = time.Minute

// WatchOptions say how Agent.WatchMembers and Agent.WatchHealth look. The zero value is good for most programs.
type WatchOptions struct {
	// Interval is the time between two looks, 1 ms or more, varied by a tenth up and down so that many programs do not look
	// at once. 0 stands for DefaultWatchInterval. During an outage it doubles with each look, up to a minute.
	Interval time.Duration

	// Settle is how long every answer must agree on a change until it is told: on the status of a member or on whether an
	// agent is healthy, and where these stay as they are, on all the rest. In that time the watch looks every quarter of it, or
	// every Interval if that is shorter, each time on another connection. Servers learn of a change one after the other,
	// over some seconds, and a client agent or a load balancer asks now this one and now that one: a change that only
	// some of them know of comes and goes, and is not told before it stays. 0 stands for DefaultWatchSettle; below 0 a
	// change is told when it is first seen.
	//
	// It is no timer for what has to last: the first answer is told at once, and those that have failed by then too. Keep the
	// Time of the event for that, as the example reaper does.
	Settle time.Duration
}

// MemberEventKind is what a MemberEvent tells.
type MemberEventKind string

// The kinds of events.
const (
	MemberJoined    MemberEventKind = "joined"    // it was not in the pool before, or had left it
	MemberFailed    MemberEventKind = "failed"    // it has stopped answering: StatusFailed
	MemberLeft      MemberEventKind = "left"      // it has left, or was made to: StatusLeft
	MemberRecovered MemberEventKind = "recovered" // it had failed, and is alive again
	MemberUpdated   MemberEventKind = "updated"   // something else about it has changed, as Changed says
	MemberRemoved   MemberEventKind = "removed"   // it is not in the pool any more: it was pruned or reaped
	MembersSynced   MemberEventKind = "synced"    // about no member: all that the agent answered has been told
)

// MemberEvent is a change in the gossip pool.
type MemberEvent struct {
	Kind MemberEventKind

	// Before and After are the member as it was known and as it is now. Before is the zero Member when it joins, After when
	// it is removed, and both are when Kind is MembersSynced.
	Before, After Member

	// Changed names what differs between Before and After: fields by their name, tags as in Tags.build. It is nil when there
	// are not both.
	Changed []string

	// Time is when the watch first saw it so. What happened in an outage was first seen when that was over.
	Time time.Time
}

// Name is the name of the member, empty for MembersSynced.
func (e MemberEvent) Name() string { return cmp.Or(e.After.Name, e.Before.Name) }

// String says what happened, such as "server-2.global failed".
func (e MemberEvent) String() string {
	switch {
	case e.Kind == MembersSynced:
		return string(e.Kind)
	case e.Kind == MemberUpdated:
		return e.Name() + " updated: " + strings.Join(e.Changed, ", ")
	}
	return e.Name() + " " + string(e.Kind)
}

// HealthEvent is a change in the health of an agent.
type HealthEvent struct {
	Before, After Health // Before is the zero Health in the first event

	// Err is nil when the agent is healthy, and otherwise the error of Agent.Health, by which ErrNoLeader and the like can be
	// told.
	Err error

	// Time is when the watch first saw it so. What happened in an outage was first seen when that was over.
	Time time.Time
}

// String says how the agent is.
func (e HealthEvent) String() string {
	if e.After.OK() {
		return "healthy"
	}
	return "unhealthy: " + e.After.message()
}

// WatchError is an outage: a look had no answer. The watch goes on, and says no more about this outage until it is over. That
// it is a context.DeadlineExceeded means that the look took too long, not that the watch's context has ended.
type WatchError struct {
	Since time.Time // the last answer, or the start of the watch if there was none
	Err   error     // how the first look that failed did so
}

// Error is the text of Err and the time since when there is no news.
func (e *WatchError) Error() string {
	return fmt.Sprintf("%v (no news since %s)", e.Err, e.Since.Format(time.RFC3339))
}

// Unwrap gives Err.
func (e *WatchError) Unwrap() error { return e.Err }

// WatchMembers tells what happens in the gossip pool, as the agent sees it. Nomad has nothing that waits for a change there,
// and so this looks again and again.
//
//	for event, err := range client.Agent.WatchMembers(ctx, nomad.WatchOptions{}) {
//		if err != nil {
//			log.Print(err) // an outage: the watch goes on
//			continue
//		}
//		fmt.Println(event)
//	}
//
// The first answer is told at once: each member joins, one that has failed or left by then fails or leaves in the next event,
// and an event of the kind MembersSynced follows. After that each event is a change that has settled, as
// WatchOptions.Settle has it. What is seen at the same time is told in the order of CompareMembers. Whoever keeps After of each
// event by its Name, and drops it when it is MemberRemoved, has the pool as it is.
//
// When a look fails, a *WatchError is yielded, once for the outage, and the watch goes on. What was missed is told when the
// agent answers again and it has settled, and then MembersSynced.
//
// It ends when the context does, without an error, and with the loop over it; and after an error that is no *WatchError: an
// invalid option, ErrInvalidArgument, or a closed Client, ErrClosed, which the next look finds out. Nothing happens
// but in the loop, in the loop's own goroutine: while its body is busy nothing is asked, and nothing is missed but what comes
// and goes in the meantime. Each loop over it is a watch of its own.
//
// A name says nothing of the machine behind it: one that was replaced recovers, or is updated, with another Member.ID. A
// server that has just been started knows nobody until it has joined again, and never those that left before: who asks several
// through one address can be told that members are removed and join.
//
// What an agent and an ACL token need is as for Members.
func (a *Agent) WatchMembers(ctx context.Context, opts WatchOptions) iter.Seq2[MemberEvent, error] {
	return func(yield func(MemberEvent, error) bool) {
		apart := a.apart()
		w := watch[Member]{
			call: "WatchMembers",
			look: func(ctx context.Context) (map[string]Member, error) {
				members, err := apart.Members(ctx)
				if err != nil {
					return nil, err
				}
				seen := make(map[string]Member, len(members.Members))
				for _, m := range members.Members {
					seen[m.Name] = m
				}
				return seen, nil
			},
			same:  sameMember,
			alike: func(a, b Member) bool { return a.Status == b.Status },
			own: func(m Member) Member {
				m.Tags = maps.Clone(m.Tags) // the loop may change what it was given
				return m
			},
			tell: func(changes []change[Member], synced bool) bool {
				for _, event := range memberEvents(changes) {
					if ctx.Err() != nil || !yield(event, nil) {
						return false
					}
				}
				return !synced || ctx.Err() == nil && yield(MemberEvent{Kind: MembersSynced, Time: time.Now()}, nil)
			},
			fail: func(err error) bool { return yield(MemberEvent{}, err) },
		}
		w.run(ctx, opts)
	}
}

// memberEvents makes events of what has changed, in order.
func memberEvents(changes []change[Member]) []MemberEvent {
	var events []MemberEvent
	slices.SortFunc(changes, func(a, b change[Member]) int {
		return CompareMembers(*cmp.Or(a.after, a.before), *cmp.Or(b.after, b.before))
	})
	for _, c := range changes {
		switch {
		case c.after == nil:
			events = append(events, MemberEvent{Kind: MemberRemoved, Before: *c.before, Time: c.since})
		case c.before == nil:
			events = append(events, MemberEvent{Kind: MemberJoined, After: *c.after, Time: c.since})
			if kind := kindOf(StatusNone, c.after.Status); kind == MemberFailed || kind == MemberLeft {
				events = append(events, MemberEvent{Kind: kind, Before: *c.after, After: *c.after, Time: c.since})
			}
		default:
			events = append(events, MemberEvent{
				Kind: kindOf(c.before.Status, c.after.Status), Before: *c.before, After: *c.after,
				Changed: changedIn(*c.before, *c.after), Time: c.since,
			})
		}
	}
	return events
}

// kindOf is the kind of a change of a member that was there before.
func kindOf(before, after MemberStatus) MemberEventKind {
	switch {
	case after == before:
		return MemberUpdated
	case after == StatusFailed:
		return MemberFailed
	case after == StatusLeft:
		return MemberLeft
	case after == StatusAlive && before == StatusFailed:
		return MemberRecovered
	case after == StatusAlive && before == StatusLeft:
		return MemberJoined
	}
	return MemberUpdated
}

// sameMember reports whether two members of one name differ in nothing.
func sameMember(a, b Member) bool { return len(changedIn(a, b)) == 0 }

// changedIn names what differs between two members of one name.
func changedIn(a, b Member) []string {
	var names []string
	for _, field := range []struct {
		name string
		same bool
	}{
		{"Addr", a.Addr == b.Addr},
		{"Port", a.Port == b.Port},
		{"Status", a.Status == b.Status},
		{"ProtocolMin", a.ProtocolMin == b.ProtocolMin},
		{"ProtocolMax", a.ProtocolMax == b.ProtocolMax},
		{"ProtocolCur", a.ProtocolCur == b.ProtocolCur},
		{"DelegateMin", a.DelegateMin == b.DelegateMin},
		{"DelegateMax", a.DelegateMax == b.DelegateMax},
		{"DelegateCur", a.DelegateCur == b.DelegateCur},
	} {
		if !field.same {
			names = append(names, field.name)
		}
	}
	if maps.Equal(a.Tags, b.Tags) {
		return names
	}
	tags := maps.Clone(a.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, b.Tags)
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		before, had := a.Tags[tag]
		if after, has := b.Tags[tag]; had != has || before != after {
			names = append(names, "Tags."+tag)
		}
	}
	return names
}

// WatchHealth tells how healthy an agent is in the given roles, or in all that it has: in the first event how it is, and
// then each change that has settled, as WatchOptions.Settle has it. That an agent is unhealthy is an event, not an error.
//
// When a look has no answer a *WatchError is yielded, once for the outage, and the watch goes on. When the agent answers again
// an event tells how it is, even when it is as before. How the sequence ends, and what the loop over it must know, is as for
// WatchMembers; what an agent and an ACL token need is as for Health. Mind that a server without a leader takes 5 s to say so.
func (a *Agent) WatchHealth(ctx context.Context, opts WatchOptions, roles ...Role) iter.Seq2[HealthEvent, error] {
	return func(yield func(HealthEvent, error) bool) {
		type state struct {
			Health
			err error
		}
		var known state
		apart := a.apart()
		w := watch[state]{
			call: "WatchHealth",
			look: func(ctx context.Context) (map[string]state, error) {
				health, err := apart.Health(ctx, roles...)
				if health == nil {
					return nil, err
				}
				return map[string]state{"": {*health, err}}, nil
			},
			same:  func(a, b state) bool { return sameHealth(a.Server, b.Server) && sameHealth(a.Client, b.Client) },
			alike: func(a, b state) bool { return a.OK() == b.OK() },
			own:   func(s state) state { return state{s.clone(), s.err} },
			tell: func(changes []change[state], synced bool) bool {
				event := HealthEvent{Before: known.Health, Time: time.Now()}
				for _, c := range changes {
					known, event.Time = *c.after, c.since
				}
				if len(changes) == 0 && !synced {
					return true
				}
				event.Before, event.After, event.Err = event.Before.clone(), known.clone(), known.err
				return ctx.Err() == nil && yield(event, nil)
			},
			fail: func(err error) bool { return yield(HealthEvent{}, err) },
		}
		w.run(ctx, opts)
	}
}

func sameHealth(a, b *RoleHealth) bool { return a == b || a != nil && b != nil && *a == *b }

// clone gives a Health that shares nothing with another.
func (h Health) clone() Health {
	for _, role := range []**RoleHealth{&h.Server, &h.Client} {
		if *role != nil {
			*role = new(**role)
		}
	}
	return h
}

// apart is the Agent with a connection of its own for each call, so that what is behind an address that several share has
// its turn.
func (a *Agent) apart() *Agent {
	s := a.client.settings.clone()
	s.mark |= agentconn.Fresh
	return a.client.derive(s).Agent
}

// watch looks at things that have names, again and again, and tells the changes that have settled.
type watch[V any] struct {
	call  string // the method that it is for
	look  func(context.Context) (map[string]V, error)
	same  func(a, b V) bool
	alike func(a, b V) bool                           // reports whether they are the same in what matters most
	own   func(V) V                                   // makes a copy
	tell  func(changes []change[V], synced bool) bool // reports whether to go on
	fail  func(error) bool                            // reports whether to go on

	known   map[string]V
	pending map[string]change[V] // what has not settled yet
	missed  map[string]bool      // what has to settle until an outage is told in full; nil if none is
}

// change is a change that was seen. A thing that was not there before, or is not any more, is nil there.
type change[V any] struct {
	before, after *V
	since         time.Time
}

func (w *watch[V]) run(ctx context.Context, opts WatchOptions) {
	interval, settle, err := opts.durations(w.call)
	if ctx == nil {
		err = invalidArgument(w.call, "the context is nil")
	}
	if err != nil {
		w.fail(err)
		return
	}
	last, backoff := time.Now(), time.Duration(0)
	for ctx.Err() == nil {
		seen, err := w.look(ctx)
		wait := interval
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrClosed), errors.Is(err, ErrInvalidArgument) && !isAnswer(err):
			w.fail(err)
			return
		case err != nil:
			if backoff == 0 && !w.fail(&WatchError{Since: last, Err: err}) {
				return
			}
			w.pending = nil // it has to settle anew
			backoff = min(max(2*backoff, interval), max(maxWatchBackoff, interval))
			wait = backoff
		default:
			last = time.Now()
			if !w.learn(seen, last, settle, backoff > 0) {
				return
			}
			backoff = 0
			if len(w.pending) > 0 {
				wait = min(interval, settle/4)
			}
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// isAnswer reports whether an error is what an agent answered.
func isAnswer(err error) bool {
	var answered *APIError
	return errors.As(err, &answered)
}

// pause waits for about as long as is said, unless the context ends.
func pause(ctx context.Context, d time.Duration) bool {
	d = min(d, math.MaxInt64/2)
	d += time.Duration((rand.Float64() - 0.5) / 5 * float64(d))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// learn takes an answer and tells what has settled. It reports whether to go on.
func (w *watch[V]) learn(seen map[string]V, now time.Time, settle time.Duration, afterOutage bool) bool {
	first := w.known == nil
	if first {
		w.known, settle = make(map[string]V, len(seen)), -1
	}
	pending := map[string]change[V]{}
	var told []change[V]
	notice := func(name string, c change[V]) {
		if old, ok := w.pending[name]; ok && w.goesOn(old, c) {
			c.since = old.since
		}
		if now.Sub(c.since) < settle {
			pending[name] = c
			return
		}
		told = append(told, c)
		if c.after == nil {
			delete(w.known, name)
		} else {
			w.known[name] = w.own(*c.after)
		}
	}
	for name, after := range seen {
		if before, ok := w.known[name]; !ok {
			notice(name, change[V]{nil, new(after), now})
		} else if !w.same(before, after) {
			notice(name, change[V]{new(before), new(after), now})
		}
	}
	for name, before := range w.known {
		if _, ok := seen[name]; !ok {
			notice(name, change[V]{new(before), nil, now})
		}
	}
	w.pending = pending
	if first || afterOutage {
		w.missed = map[string]bool{}
		for name := range pending {
			w.missed[name] = true
		}
	}
	maps.DeleteFunc(w.missed, func(name string, _ bool) bool { _, still := pending[name]; return !still })
	synced := w.missed != nil && len(w.missed) == 0
	if synced {
		w.missed = nil
	}
	return w.tell(told, synced)
}

// goesOn reports whether a change that was seen before is still seen: to the same, or to what is the same in what matters most,
// if that is what has changed.
func (w *watch[V]) goesOn(old, c change[V]) bool {
	switch {
	case old.after == nil || c.after == nil:
		return old.after == nil && c.after == nil
	case w.same(*old.after, *c.after):
		return true
	}
	return w.alike(*old.after, *c.after) && (c.before == nil || !w.alike(*c.before, *c.after))
}

// durations gives the options with their defaults, or says what is wrong with them.
func (o WatchOptions) durations(call string) (interval, settle time.Duration, err error) {
	if o.Interval != 0 && o.Interval < time.Millisecond {
		return 0, 0, invalidArgument(call, "Interval %v: want 1ms or more, or 0 for %v", o.Interval, DefaultWatchInterval)
	}
	return cmp.Or(o.Interval, DefaultWatchInterval), cmp.Or(o.Settle, DefaultWatchSettle), nil
}
