package watch

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/show"
)

// MembersAgent is the agent that Members polls. *nomad.Agent implements it.
type MembersAgent interface {
	Members(ctx context.Context) (*nomad.Members, error)
}

// MemberEvent is a change in the gossip pool, or one of the kinds Synced, Outage and OutageOver.
type MemberEvent struct {
	Kind Kind

	// Before and After are the member as it was reported before and as it is now. Before is the
	// zero Member for a member that was not in the pool, After for one that is Removed. Both are
	// zero for Synced, Outage and OutageOver.
	Before, After nomad.Member

	// Changed lists the fields that differ between Before and After. A tag is listed as
	// "Tags.build". It is nil if Before or After is the zero Member. It is also nil for a Failed or
	// Left of the first response, where Before and After are the same.
	Changed []string

	// Err is the error of the first failed poll for an Outage. It is context.DeadlineExceeded if
	// the poll timed out. It is nil for the other kinds.
	Err error

	// Since is the time of the last response before the outage, for the kinds Outage and
	// OutageOver. It is the start of the watch if there was none.
	Since time.Time

	// Time is when the watch first saw the change. What happened in an outage is seen when the
	// outage is over.
	Time time.Time
}

// Name returns the name of the member. It is empty for Synced, Outage and OutageOver.
func (e MemberEvent) Name() string { return cmp.Or(e.After.Name, e.Before.Name) }

func (e MemberEvent) outage() outage { return outage{e.Kind, e.Since, e.Time, e.Err} }

// String returns what happened, such as "server-2.global failed".
func (e MemberEvent) String() string {
	switch e.Kind {
	case Outage, OutageOver:
		return e.outage().describe()
	case Synced:
		return string(e.Kind)
	case Updated:
		return show.Line(e.Name() + " updated: " + strings.Join(e.Changed, ", "))
	}
	return show.Line(e.Name() + " " + string(e.Kind))
}

// MarshalJSON encodes the event as an object with kind, time, name, before, after, changed, since,
// duration (of an outage that is over, such as "1m30s") and error. What the kind does not have is
// absent.
func (e MemberEvent) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		header
		Name    string       `json:"name,omitempty"`
		Before  nomad.Member `json:"before,omitzero"`
		After   nomad.Member `json:"after,omitzero"`
		Changed []string     `json:"changed,omitempty"`
	}{e.outage().header(), e.Name(), e.Before, e.After, e.Changed})
}

// Members reports the changes in the gossip pool, as an agent sees it.
//
// The first response is reported at once: each member as Joined, a member that has failed or left
// also as Failed or Left, and Synced at the end. After that each event is a change that has
// settled: see Options.Settle. Events of one poll come in the order of nomad.CompareMembers. To
// keep a copy of the pool, store After under the event's Name in a map, and delete the Name on
// Removed. Skip events without a Name.
//
// Failed polls in a row are one Outage. When the agent responds again, OutageOver is reported.
// Changes during the outage follow when they have settled, and then Synced.
//
// A server can be replaced by another machine with the same name. The event is then Recovered or
// Updated, and Member.ID has changed. Behind a load balancer a poll can reach a server that has
// just started. It does not know the other members until it has joined, and never learns of members
// that left before. So members can be reported as Removed, and later as Joined.
//
// It requires the ACL capability node:read. A refused token is an Outage and does not end the loop,
// because servers learn of a new token one after the other.
func Members(ctx context.Context, agent MembersAgent, opts Options) iter.Seq2[MemberEvent, error] {
	return sequence(ctx, func(emit func(MemberEvent) bool) error {
		w := membersWatcher(emit)
		w.poll = func(ctx context.Context) (map[string]nomad.Member, error) {
			members, err := agent.Members(ctx)
			if err != nil {
				return nil, err
			}
			seen := make(map[string]nomad.Member, len(members.Members))
			for _, m := range members.Members {
				seen[m.Name] = m
			}
			return seen, nil
		}
		return w.run(ctx, "Members", opts)
	})
}

func membersWatcher(emit func(MemberEvent) bool) *watcher[nomad.Member] {
	return &watcher[nomad.Member]{
		diff: func(before, after nomad.Member) []string {
			changed := changedIn(before, after)
			if before.Status != after.Status {
				changed = append(changed, status)
			}
			return changed
		},
		clone: func(m nomad.Member) nomad.Member {
			m.Tags = maps.Clone(m.Tags) // the body of the loop may change what it got
			return m
		},
		report: func(changes []change[nomad.Member], synced bool) bool {
			for _, event := range memberEvents(changes) {
				if !emit(event) {
					return false
				}
			}
			return !synced || emit(MemberEvent{Kind: Synced, Time: time.Now()})
		},
		outage: func(o outage) bool {
			return emit(MemberEvent{Kind: o.kind, Since: o.since, Time: o.time, Err: o.err})
		},
	}
}

// memberEvents returns the events of what changed, in order.
func memberEvents(changes []change[nomad.Member]) []MemberEvent {
	slices.SortFunc(changes, func(a, b change[nomad.Member]) int {
		return nomad.CompareMembers(*cmp.Or(a.after, a.before), *cmp.Or(b.after, b.before))
	})
	var events []MemberEvent
	for _, c := range changes {
		switch {
		case c.after == nil:
			events = append(events, MemberEvent{Kind: Removed, Before: *c.before, Time: c.since})
		case c.before == nil:
			events = append(events, MemberEvent{Kind: Joined, After: *c.after, Time: c.since})
			if kind := kindOf(nomad.StatusNone, c.after.Status); kind == Failed || kind == Left {
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

// kindOf returns the kind of a change of a member that was there before.
func kindOf(before, after nomad.MemberStatus) Kind {
	switch {
	case after == before:
		return Updated
	case after == nomad.StatusFailed:
		return Failed
	case after == nomad.StatusLeft:
		return Left
	case after == nomad.StatusAlive && before == nomad.StatusFailed:
		return Recovered
	case after == nomad.StatusAlive && before == nomad.StatusLeft:
		return Joined
	}
	return Updated
}

// changedIn names what differs between two members of one name.
func changedIn(a, b nomad.Member) []string {
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
