// Package watch follows a Nomad agent: the members of its gossip pool, its health and its log.
//
//	for event, err := range watch.Members(ctx, client.Agent, watch.Options{}) {
//		if err != nil {
//			return err // the end: the context's error, or that of a closed Client
//		}
//		fmt.Println(event) // server-2.global failed
//	}
//
// Nomad has no endpoint that waits for a change, so Members and Health poll. Log reads a stream, and opens it again
// when it ends.
//
// # Outages
//
// A failed poll does not end a loop. It is reported as the event [Outage], with its error and the time of the last
// response. Further failed polls in a row are not reported. When the agent responds again, that is the event
// [OutageOver]. Changes during the outage are reported after it.
//
// # How a loop ends
//
// The last element of a sequence is an error: the context's error (and its cause), ErrClosed if the Client was closed,
// or ErrInvalidArgument for an argument that cannot be used. The comment of Log names more.
//
// A watch has no goroutine of its own: it polls while the loop waits for the next event. A change that is undone while
// the body of the loop is busy is not reported. When the loop ends, no request or connection of the watch remains. A
// sequence can be used again: each loop over it starts a new watch.
//
// # Testing
//
// The functions take an interface of one method, which *nomad.Agent implements. For Members and Health a test can
// implement it too, and in a bubble of testing/synctest hours of watching take no time. The method for Log returns a
// *nomad.LogStream, which only a Client makes: a test of Log uses package nomadtest.
package watch

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
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/show"
)

// The defaults of Options.
const (
	DefaultInterval = 5 * time.Second
	DefaultSettle   = 2 * time.Second
)

// maxBackoff is the longest time between two polls during an outage, unless the interval is longer.
const maxBackoff = time.Minute

// Options set how Members and Health poll. The zero value is good for most programs.
type Options struct {
	// Interval is the time between two polls, 1 ms or more. It is varied at random by a tenth, so that many programs do
	// not poll at the same moment. 0 means DefaultInterval; a shorter or negative one is ErrInvalidArgument. During an
	// outage it doubles with each poll, up to a minute or Interval, whichever is longer.
	Interval time.Duration

	// Settle is how long all responses must agree on a change before it is reported, 1 ms or more; a shorter time counts
	// as that. 0 means DefaultSettle. With a negative value a change is reported as soon as it is seen.
	//
	// A change takes seconds to reach all servers. A client agent or a load balancer may forward each request to a
	// different server, so a new change can appear and disappear again. While a change settles, the watch polls every
	// quarter of Settle, 1 ms or more (every Interval if that is shorter), each time on a new connection.
	//
	// A new status is reported when the status has settled, even if other fields still change. Other changes of a
	// member are reported in one event when at least one of them has settled. Some values never settle, such as a
	// counter in a tag. After four times Settle the watch goes back to polling every Interval, and reports such a value
	// when it has been the same for two intervals. It also goes back to every Interval if new changes keep coming and
	// none of them settles in that time, until one does or they end.
	//
	// Do not use Settle as a grace period: members that have already failed are reported with the first response, at
	// once. Compare the event's Time with the present time before you act, as the example reaper does.
	Settle time.Duration
}

// Kind is what an event reports.
type Kind string

// The kinds of events of Members.
const (
	Joined    Kind = "joined"    // the member was not in the pool before, or had left it
	Failed    Kind = "failed"    // it stopped responding: nomad.StatusFailed
	Left      Kind = "left"      // it left, or was forced to: nomad.StatusLeft
	Recovered Kind = "recovered" // it had failed and is alive again
	Updated   Kind = "updated"   // something else changed, such as a tag, or the status to leaving: see Changed
	Removed   Kind = "removed"   // it is no longer in the pool: it was pruned or reaped
	Synced    Kind = "synced"    // the first response, or the first one after an outage, has been reported in full
)

// The kinds of events of Health.
const (
	Healthy   Kind = "healthy"
	Unhealthy Kind = "unhealthy"
)

// The kind of most events of Log.
const Entry Kind = "entry"

// The kinds of events that report outages.
const (
	Outage     Kind = "outage"      // polls or streams fail; the watch goes on
	OutageOver Kind = "outage_over" // they succeed again
)

// outage is the beginning or the end of an outage.
type outage struct {
	kind        Kind
	since, time time.Time
	err         error
}

// describe returns what an event of the kinds Outage and OutageOver reports, on one line.
func (o outage) describe() string {
	if o.kind == OutageOver {
		return "outage over after " + show.Duration(o.time.Sub(o.since))
	}
	return fmt.Sprintf("outage: %s (since %s)", show.Error(o.err), o.since.Format(time.RFC3339))
}

// header is what the JSON of all events begins with.
type header struct {
	Kind     Kind      `json:"kind"`
	Time     time.Time `json:"time,omitzero"`
	Since    time.Time `json:"since,omitzero"`
	Duration string    `json:"duration,omitempty"` // of the outage that is over
	Error    string    `json:"error,omitempty"`
}

func (o outage) header() header {
	h := header{Kind: o.kind, Time: o.time, Since: o.since, Error: show.Error(o.err)}
	if o.kind == OutageOver {
		h.Duration = show.Duration(o.time.Sub(o.since))
	}
	return h
}

// watcher polls things that have names, and reports the changes that have settled.
type watcher[V any] struct {
	poll   func(context.Context) (map[string]V, error)
	diff   func(before, after V) []string // the aspects that differ, with status among them if that does
	clone  func(V) V
	report func(changes []change[V], synced bool) bool // returns whether to continue
	outage func(outage) bool                           // returns whether to continue

	interval, settle time.Duration

	known   map[string]V
	pending map[string]unsettled[V]
	unrest  map[subject]unrest
	missed  map[string]bool // what must settle until all is reported; nil if nothing must
	polled  time.Time       // the last response
	fast    bool            // something may settle soon
	spent   time.Duration   // how long something might have settled soon, but nothing did
}

// maxGone is how many bytes the subjects take that are no longer there: each response can have new names.
const maxGone = 1 << 20

// status is the aspect that matters most: the status or presence of a member, whether an agent is
// healthy.
const status = ""

var onlyStatus = []string{status}

// change is a change that has settled. A thing that was not there before, or is no longer, is nil
// there.
type change[V any] struct {
	before, after *V
	since         time.Time
}

// unsettled is a thing that differs from what is known. after is nil if it is no longer there.
type unsettled[V any] struct {
	after *V
	since map[string]time.Time // by aspect that differs: since when it has been as in after
}

// subject is what may not come to rest: the status of a thing, or its other aspects.
type subject struct {
	name   string
	status bool
}

// unrest is how long a subject has been polled without settling.
type unrest struct {
	spent time.Duration
	last  time.Time
}

// run polls until the context ends or there is an error that waiting cannot cure, and returns that;
// nil if the loop ended.
func (w *watcher[V]) run(ctx context.Context, function string, opts Options) error {
	if opts.Interval != 0 && opts.Interval < time.Millisecond {
		return fmt.Errorf("%w: watch.%s: Interval %v: want 1ms or more, or 0 for %v", nomad.ErrInvalidArgument, function,
			opts.Interval, DefaultInterval)
	}
	const most = math.MaxInt64 / 8 // so that it can be multiplied
	w.interval = min(cmp.Or(opts.Interval, DefaultInterval), most)
	w.settle = min(cmp.Or(opts.Settle, DefaultSettle), most)
	if w.settle > 0 {
		w.settle = max(w.settle, time.Millisecond)
	}
	w.unrest = map[subject]unrest{}
	w.polled = time.Now()
	for backoff := time.Duration(0); ctx.Err() == nil; {
		// What is behind an address that several agents share changes with the connection.
		seen, err := w.poll(agentconn.WithMark(ctx, agentconn.Fresh))
		now, wait := time.Now(), w.interval
		switch {
		case ctx.Err() != nil:
			return endOf(ctx)
		case errors.Is(err, nomad.ErrClosed), errors.Is(err, nomad.ErrInvalidArgument) && !isResponse(err):
			return err
		case err != nil:
			if backoff == 0 && !w.outage(outage{Outage, w.polled, now, err}) {
				return endOf(ctx)
			}
			w.pending = nil // it has to settle again
			backoff = min(max(2*backoff, w.interval), max(maxBackoff, w.interval))
			wait = backoff
		default:
			after := backoff > 0
			if after && !w.outage(outage{OutageOver, w.polled, now, nil}) || !w.learn(seen, now, after) {
				return endOf(ctx)
			}
			backoff = 0
			if w.fast {
				wait = w.fastInterval()
			}
		}
		pause(ctx, wait)
	}
	return endOf(ctx)
}

func (w *watcher[V]) fastInterval() time.Duration {
	return min(w.interval, max(w.settle/4, time.Millisecond))
}

// sequence makes a sequence of the events that run emits; the error of run comes last. emit returns
// whether to continue.
func sequence[E any](ctx context.Context, run func(emit func(E) bool) error) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		left := false
		err := run(func(event E) bool {
			if ctx.Err() != nil {
				return false
			}
			left = !yield(event, nil)
			return !left
		})
		if err != nil && !left {
			var none E
			yield(none, err)
		}
	}
}

// endOf returns the error of a context and its cause; nil if it has not ended.
func endOf(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// isResponse reports whether an error is a response of an agent.
func isResponse(err error) bool {
	var response *nomad.APIError
	return errors.As(err, &response)
}

// pause waits for a duration, varied by a tenth, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	d += time.Duration((rand.Float64() - 0.5) / 5 * float64(d))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// learn takes a response and reports what has settled. It returns whether to continue.
func (w *watcher[V]) learn(seen map[string]V, now time.Time, afterOutage bool) bool {
	first := w.known == nil
	if first {
		w.known = make(map[string]V, len(seen))
	}
	pending := map[string]unsettled[V]{}
	restless := map[string]bool{}
	var changes []change[V]
	w.fast = false
	notice := func(name string, before, after *V, aspects []string) {
		u := w.unsettled(name, after, aspects, now)
		since, rests := w.rests(name, u, now)
		switch {
		case !first && !rests:
			pending[name] = u
			restless[name] = w.isRestless(subjectOf(name, u))
			w.fast = w.fast || !restless[name]
			return
		case after == nil:
			delete(w.known, name)
		default:
			w.known[name] = w.clone(*after)
		}
		changes = append(changes, change[V]{before, after, since})
		delete(w.unrest, subjectOf(name, u))
	}
	for name, after := range seen {
		if before, ok := w.known[name]; !ok {
			notice(name, nil, new(after), onlyStatus)
		} else if aspects := w.diff(before, after); len(aspects) > 0 {
			notice(name, new(before), new(after), aspects)
		}
	}
	for name, before := range w.known {
		if _, ok := seen[name]; !ok {
			notice(name, new(before), nil, onlyStatus)
		}
	}
	if w.fast && len(changes) == 0 {
		w.spent += min(now.Sub(w.polled), w.fastInterval())
	} else {
		w.spent = 0
	}
	w.fast = w.fast && w.spent <= 4*w.settle
	w.pending, w.polled = pending, now
	gone := 0
	maps.DeleteFunc(w.unrest, func(s subject, u unrest) bool {
		_, isKnown := w.known[s.name]
		_, isPending := pending[s.name]
		if !isKnown && !isPending {
			gone += len(s.name) + 100
		}
		return u.isOver(now, w.interval) || !isKnown && !isPending && gone > maxGone
	})
	if first || afterOutage {
		w.missed = map[string]bool{}
		for name := range pending {
			w.missed[name] = true
		}
	}
	maps.DeleteFunc(w.missed, func(name string, _ bool) bool {
		_, still := pending[name]
		return !still || restless[name]
	})
	synced := w.missed != nil && len(w.missed) == 0
	if synced {
		w.missed = nil
	}
	return w.report(changes, synced)
}

// unsettled returns a thing that differs from what is known, with the time since when it has been so.
func (w *watcher[V]) unsettled(name string, after *V, aspects []string, now time.Time) unsettled[V] {
	u := unsettled[V]{after, make(map[string]time.Time, len(aspects))}
	old, had := w.pending[name]
	var moved []string // since the last poll
	switch {
	case !had || old.after == nil && after == nil:
	case old.after == nil || after == nil:
		moved = onlyStatus
	default:
		moved = w.diff(*old.after, *after)
	}
	for _, aspect := range aspects {
		since, ok := old.since[aspect]
		if !ok || slices.Contains(moved, aspect) {
			since = now
		}
		u.since[aspect] = since
	}
	return u
}

func subjectOf[V any](name string, u unsettled[V]) subject {
	_, ok := u.since[status]
	return subject{name, ok}
}

// rests reports whether a thing has been as it is for long enough, and since when. Its status
// decides, if that changed.
func (w *watcher[V]) rests(name string, u unsettled[V], now time.Time) (since time.Time, rests bool) {
	since = now
	if w.settle < 0 {
		return since, true
	}
	s := subjectOf(name, u)
	if s.status {
		since = u.since[status]
	} else {
		for _, t := range u.since {
			if t.Before(since) {
				since = t
			}
		}
	}
	past := w.unrest[s]
	if past.isOver(now, w.interval) {
		past = unrest{}
	}
	past.last = now
	past.spent += min(now.Sub(w.polled), w.fastInterval())
	w.unrest[s] = past
	hold := w.settle
	if w.isRestless(s) {
		hold = max(hold, 2*w.interval)
	}
	return since, now.Sub(since) >= hold
}

// isOver reports whether a subject has rested for so long that its past does not count.
func (u unrest) isOver(now time.Time, interval time.Duration) bool {
	return now.Sub(u.last) > 4*interval
}

// isRestless reports whether a subject has been polled for so long without settling that this is no
// reason to poll fast.
func (w *watcher[V]) isRestless(s subject) bool { return w.unrest[s].spent > 4*w.settle }
