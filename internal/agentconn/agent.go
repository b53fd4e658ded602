package agentconn

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	startWindow = 16                   // the window at first: enough for an agent that is near
	farRTT      = 3 * time.Millisecond // the round trip from which the window may grow
	farRounds   = 2                    // how many rounds in a row must need a larger window
	longestLife = 5 * time.Second      // the age up to which a connection gets requests; each gets a random part of it
	farLife     = 10 * time.Second     // the most that it is for an agent that is far, where a new connection costs more
	fullLife    = 1200 * time.Millisecond
	sharedLife  = 7 * time.Second
	idleTimeout = 4 * time.Second        // how long a connection may be idle
	slowAfter   = time.Second            // the connection of a request that takes longer is not counted
	tickEvery   = 500 * time.Millisecond // how often these two are checked

	fullFor    = 10 * time.Second      // how long after a refusal the agent is taken to be full
	maxUntried = 2                     // how many connections may have no response yet while the agent is full
	pauseFull  = time.Millisecond      // the scale of the pauses between dials while the agent is full
	pauseOld   = 50 * time.Millisecond // after an old connection was closed, so that another process gets its place

	pauseSilentMin, pauseSilentMax = 10 * time.Millisecond, 250 * time.Millisecond // before the agent has sent anything

	giveUpNew   = 5 * time.Second  // how long a request waits for an agent that closes connections and never responded
	giveUpKnown = 15 * time.Second // the same for one that did
	giveUpFull  = time.Minute      // the same for one that says that it is full
)

// agent is the state of one agent: its connections, and the requests that wait for one. Pool.mu guards it.
type agent struct {
	pool *Pool
	key  agentKey
	addr string

	conns   map[*conn]struct{}
	idle    []*conn   // last in, first out
	waiting list.List // of *waiter, first in, first out
	dials   []*dial
	counted int // connections, without slow ones and streams
	untried int // connections without a response yet

	known     bool      // it has sent a response or a 429
	heard     time.Time // when it last sent a response or a 429, or when this state was made
	full      time.Time // the agent is taken to be full until then
	sent429   bool      // it reported with a 429 that it is full
	fullSince time.Time // when it was first taken to be full
	nextDial  time.Time
	odds      float64 // the rough probability that the agent accepts a connection while it is full

	window    int           // how many connections may be counted
	rtt       time.Duration // the smallest round trip
	sum       time.Duration // of the round trips in this round, which has a response for each connection of the window
	responses int
	far       int // how many rounds in a row needed a larger window

	wake, tick *time.Timer
}

// waiter is a request that waits for a connection.
type waiter struct {
	mark  Mark
	began time.Time     // the request
	place *list.Element // nil when it does not wait any more
	ready chan struct{} // closed then
	conn  *conn
	err   error
}

func newAgent(p *Pool, key agentKey, addr string) *agent {
	a := &agent{pool: p, key: key, addr: addr, conns: map[*conn]struct{}{}, heard: time.Now(), odds: .5}
	a.window = min(startWindow, p.config.MaxConns)
	a.wake = time.AfterFunc(time.Hour, a.locked(a.dispatch))
	a.wake.Stop()
	a.tick = time.AfterFunc(tickEvery, a.locked(a.onTick))
	return a
}

// locked makes f a function that can be called without the lock.
func (a *agent) locked(f func()) func() {
	return func() {
		a.pool.mu.Lock()
		defer a.pool.mu.Unlock()
		f()
	}
}

func (a *agent) isFull() bool { return time.Now().Before(a.full) }

// fullError says why there is no connection while the agent is taken to be full.
func (a *agent) fullError() error {
	if a.sent429 {
		return ErrFull
	}
	return ErrNoResponse
}

// endOf returns why a request ends with its context, and why it waited until then.
func (a *agent) endOf(ctx context.Context) error {
	if a.isFull() {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), a.fullError())
	}
	return context.Cause(ctx)
}

func (a *agent) enqueue(mark Mark, began time.Time, inFront bool) *waiter {
	w := &waiter{mark: mark, began: began, ready: make(chan struct{})}
	if inFront || mark&Once != 0 && a.isFull() {
		w.place = a.waiting.PushFront(w)
	} else {
		w.place = a.waiting.PushBack(w)
	}
	return w
}

func (a *agent) dequeue(w *waiter) {
	a.waiting.Remove(w.place)
	w.place = nil
}

// deliver ends a request's wait with a connection or an error.
func (a *agent) deliver(w *waiter, c *conn, err error) {
	a.dequeue(w)
	w.conn, w.err = c, err
	close(w.ready)
}

// waiters yields the waiting requests, from the one that waits for longest. The loop may deliver to each.
func (a *agent) waiters(yield func(*waiter) bool) {
	for e := a.waiting.Front(); e != nil; {
		w := e.Value.(*waiter)
		if e = e.Next(); !yield(w) {
			return
		}
	}
}

// dispatch gives idle connections to waiting requests and dials for the others. It is called after every change.
func (a *agent) dispatch() {
	for w := range a.waiters {
		if len(a.idle) == 0 {
			break
		}
		if c := a.takeIdle(w.mark); c != nil {
			a.deliver(w, c, nil)
		}
	}
	for len(a.dials) < a.waiting.Len() && a.counted+len(a.dials) < a.window {
		full, wait := a.isFull(), time.Until(a.nextDial)
		switch first := a.waiting.Front().Value.(*waiter); {
		case first.mark&Once != 0 && len(a.dials) == 0: // it does not wait
		case full && len(a.dials)+a.untried >= maxUntried:
			return
		case wait > 0:
			a.wake.Reset(wait)
			return
		}
		if full {
			a.pauseDials(a.pause())
		}
		a.dial()
	}
	if a.pool.closed && a.waiting.Len() == 0 {
		a.cancelDials()
		a.dropIdle()
	}
}

func (a *agent) dropIdle() {
	for len(a.idle) > 0 {
		a.drop(a.idle[0])
	}
}

// takeIdle returns the idle connection that was used last, if the request can have one.
func (a *agent) takeIdle(mark Mark) *conn {
	for _, c := range slices.Backward(a.idle) {
		if c.http.Err() != nil || c.served && time.Since(c.made) > a.oldest() {
			a.drop(c)
		} else if mark&Fresh == 0 || !c.served {
			a.unidle(c)
			if mark&Slow != 0 {
				a.uncount(c)
			}
			return c
		}
	}
	if len(a.idle) > 0 && a.counted+len(a.dials) >= a.window {
		a.drop(a.idle[0]) // a fresh one gets its place
	}
	return nil
}

func (a *agent) unidle(c *conn) {
	if i := slices.Index(a.idle, c); i >= 0 {
		a.idle = slices.Delete(a.idle, i, i+1)
	}
	c.isIdle, c.since = false, time.Now()
}

// put takes back a connection after a request.
func (a *agent) put(c *conn) {
	if c.removed {
		return
	}
	if c.slow {
		c.slow = false
		a.counted++
	}
	now := time.Now()
	switch {
	case c.http.Available() == 0, a.counted > a.window:
		a.drop(c)
	case now.Sub(c.made) > time.Duration(c.life*float64(a.lifetime())):
		if a.drop(c); a.counted > 0 {
			a.pauseDials(pauseOld)
		}
	default:
		c.isIdle, c.since = true, now
		a.idle = append(a.idle, c)
	}
}

// lifetime is the longest that a connection is used. While the agent is full, a process with more connections closes each
// of them sooner: the time falls nearly with the square of their number. So all processes come to have about as many.
func (a *agent) lifetime() time.Duration {
	if !a.isFull() {
		return a.oldest()
	}
	return max(fullLife+sharedLife/time.Duration(max(a.counted, 1)), min(100*a.rtt, farLife))
}

// oldest is the age up to which a connection gets requests, whether the agent is full or not.
func (a *agent) oldest() time.Duration { return max(longestLife, min(100*a.rtt, farLife)) }

// uncount stops counting a connection that is used for long.
func (a *agent) uncount(c *conn) {
	if !c.slow && !c.removed {
		c.slow = true
		a.counted--
	}
}

// drop closes a connection.
func (a *agent) drop(c *conn) {
	if !c.removed {
		a.remove(c)
		go c.http.Close() // over TLS it can take time
	}
}

func (a *agent) remove(c *conn) {
	a.uncount(c)
	a.unidle(c)
	c.removed = true
	delete(a.conns, c)
	a.tried(c)
}

// tried takes a connection out of those that are untried.
func (a *agent) tried(c *conn) {
	if c.untried {
		c.untried = false
		a.untried--
	}
}

// onResponse notes that a connection carried a response.
func (a *agent) onResponse(c *conn) {
	a.known, a.heard = true, time.Now()
	if !c.slow { // or its response says nothing about the distance
		a.sample(c.rtt)
	}
	if !c.served {
		c.served = true
		a.tried(c)
		a.odds += (1 - a.odds) / 8
		a.dispatch()
	}
}

// sample measures how far the agent is. The window grows where requests wait because of the distance, and not because
// the agent is busy.
func (a *agent) sample(rtt time.Duration) {
	if a.rtt == 0 || rtt < a.rtt {
		if a.rtt = rtt; rtt < farRTT {
			a.window = min(startWindow, a.pool.config.MaxConns)
		}
	}
	a.sum += min(rtt, 4*a.rtt)
	if a.responses++; a.responses < a.window {
		return
	}
	far := a.rtt >= farRTT && 2*a.sum < 3*a.rtt*time.Duration(a.responses) && 2*a.waiting.Len() >= a.window && !a.isFull()
	a.sum, a.responses = 0, 0
	if !far {
		a.far = 0
	} else if a.far++; a.far >= farRounds {
		a.window = min(2*a.window, a.pool.config.MaxConns)
	}
}

// refuse notes that the agent refused a connection: with a 429, or by closing it.
func (a *agent) refuse(with429 bool) {
	now := time.Now()
	if !a.isFull() {
		a.sent429, a.fullSince = false, now
	}
	a.full, a.odds = now.Add(fullFor), max(a.odds*15/16, .15)
	if with429 {
		a.sent429, a.known, a.heard = true, true, now
	}
	a.pauseDials(a.pause())
}

// pause is how long to wait between two dials while the agent is full. It is longer if there are more connections, and if
// refusals are more frequent. Constant pauses, and pauses that double, shared the agent less evenly.
func (a *agent) pause() time.Duration {
	pause := time.Duration(float64(pauseFull) * math.Pow(float64(a.counted+1), 1.5) / (a.odds * a.odds))
	if !a.known {
		pause = min(max(time.Since(a.fullSince)/16, pauseSilentMin), pauseSilentMax)
	}
	return time.Duration(float64(pause) * (.5 + rand.Float64()))
}

func (a *agent) pauseDials(pause time.Duration) {
	if until := time.Now().Add(pause); until.After(a.nextDial) {
		a.nextDial = until
	}
}

// onTick drops connections that have ended or were idle for long, stops counting those of slow requests, ends waits
// that cannot succeed, and forgets the agent when it has no connection and no request.
func (a *agent) onTick() {
	now, full := time.Now(), a.isFull()
	for c := range a.conns {
		switch age := now.Sub(c.since); {
		case c.http.Err() != nil, c.isIdle && age > idleTimeout: // a stream that ended may never be closed
			a.drop(c)
		case !c.isIdle && age > slowAfter:
			a.uncount(c)
			a.tried(c) // a refusal would have come by now
		}
	}
	patience := giveUpNew
	if a.known {
		patience = giveUpKnown
	}
	for w := range a.waiters {
		waited := now.Sub(w.began)
		if full && (waited >= patience && now.Sub(a.heard) >= patience || waited >= giveUpFull && a.counted == 0) {
			a.deliver(w, nil, a.fullError())
		}
	}
	a.cancelDials()
	if len(a.conns)+len(a.dials)+a.waiting.Len() == 0 && (!full || a.pool.closed) {
		a.wake.Stop()
		if delete(a.pool.agents, a.key); len(a.pool.agents) == 0 {
			a.pool.agents = map[agentKey]*agent{} // the old one keeps the room of all that it held
		}
		return
	}
	a.tick.Reset(tickEvery)
	a.dispatch()
}
