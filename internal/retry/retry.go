// Package retry decides whether a request is sent again, and when.
package retry

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nomad-go/nomad/internal/agentconn"
)

// The waits between attempts double from minWait to maxWait. Each is varied by half at random.
const (
	minWait = 100 * time.Millisecond
	maxWait = 2 * time.Second
)

// Attempt is the outcome of sending a request once: a response or an error.
type Attempt struct {
	Status     int
	Header     http.Header
	Err        error
	Idempotent bool // the request may reach the agent twice
	Final      bool // the outcome is not repeated

	// NewCertificates reports that the client's certificates changed a moment ago. The agent may get its own soon.
	NewCertificates bool
}

// MayRepeat reports whether the request may be sent again, and whether that can help.
func (a Attempt) MayRepeat() bool {
	if a.Final {
		return false
	}
	if a.Err != nil {
		var dial *agentconn.DialError
		var lost *agentconn.LostError
		switch {
		case a.NewCertificates && agentconn.IsCertificate(a.Err):
			return true // the handshake failed, so the agent did not get the request
		case errors.As(a.Err, &dial):
			return !dial.Permanent
		case errors.Is(a.Err, agentconn.ErrFull), errors.Is(a.Err, agentconn.ErrNoResponse):
			return false // the request waited for that long enough
		}
		return errors.As(a.Err, &lost) && a.Idempotent
	}
	switch a.Status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a.Idempotent
	}
	return false
}

// Wait returns how long to wait before the next attempt, after n attempts were made: what the response's Retry-After
// says if that is longer.
func (a Attempt) Wait(n int) time.Duration {
	wait := min(minWait<<min(n-1, 10), maxWait)
	wait = time.Duration(float64(wait) * (.5 + rand.Float64()))
	after := a.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		wait = max(wait, time.Duration(seconds)*time.Second)
	} else if date, err := http.ParseTime(after); err == nil {
		wait = max(wait, time.Until(date))
	}
	return wait
}

// Loop retries a request.
type Loop struct {
	Retries  int         // most retries; 0 for one attempt
	Budget   AgentBudget // shared by requests to one agent
	Deadline time.Time   // no attempt begins later; zero for none but that of the context
}

// Run makes attempts until one is final: its outcome may not be repeated, or the retries, the budget or the time are used
// up. It returns the cause if the context ends during a wait.
func (l Loop) Run(ctx context.Context, attempt func() Attempt) error {
	for retries := 0; ; {
		a := attempt()
		switch {
		case l.Retries == 0, !a.MayRepeat():
			if a.Err == nil {
				l.Budget.Earn()
			}
			return nil
		case retries == l.Retries:
			return nil
		}
		retries++
		wait := a.Wait(retries)
		switch {
		case !l.Deadline.IsZero() && time.Until(l.Deadline) < wait:
			return nil
		case !lasts(ctx, wait):
			return context.Cause(ctx) // nil if there is no time for another attempt
		case !l.Budget.Take(): // only now, because a retry for which there is no time costs nothing
			return nil
		case !Sleep(ctx, wait):
			return context.Cause(ctx)
		}
	}
}

// lasts reports whether a context has not ended, and has no deadline that would end it within d.
func lasts(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) >= d)
}

// Sleep waits and reports whether the context allowed it. It does not begin a wait that the context's deadline would
// end.
func Sleep(ctx context.Context, d time.Duration) bool {
	if !lasts(ctx, d) {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// The size of a Budget, and what refills it.
const (
	budgetSize      = 100.
	budgetPerSecond = 1.
	budgetPerCall   = 0.1
)

// Budget limits the retries of all calls to one agent, so that an agent in trouble does not get several times the
// requests. It holds 100 retries and regains one a second and one for ten calls that were not retried to their end. The
// zero Budget is full.
type Budget struct {
	mu    sync.Mutex
	spent float64
	since time.Time
}

// Take takes a retry out of the budget and reports whether there was one.
func (b *Budget) Take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	if b.spent > budgetSize-1 {
		return false
	}
	b.spent++
	return true
}

func (b *Budget) refill() {
	now := time.Now()
	b.spent = max(b.spent-now.Sub(b.since).Seconds()*budgetPerSecond, 0)
	b.since = now
}

// isFull reports whether all retries are left.
func (b *Budget) isFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	return b.spent == 0
}

// Earn notes a call that came to its end.
func (b *Budget) Earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(b.spent-budgetPerCall, 0)
}

// Budgets have a Budget for each agent. They keep those of which retries were taken lately; the others are full.
type Budgets struct {
	mu    sync.Mutex
	used  map[string]*Budget // by the agent's address
	swept time.Time          // when full ones were removed
}

// AgentBudget is the Budget of one agent.
type AgentBudget struct {
	all     *Budgets
	address string
}

// Of returns the budget of the agent with an address.
func (b *Budgets) Of(address string) AgentBudget { return AgentBudget{b, address} }

// Take is Budget.Take.
func (a AgentBudget) Take() bool {
	b := a.all
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.swept) > budgetSize/budgetPerSecond*time.Second {
		maps.DeleteFunc(b.used, func(_ string, budget *Budget) bool { return budget.isFull() })
		b.swept = time.Now()
	}
	if b.used[a.address] == nil {
		if b.used == nil {
			b.used = make(map[string]*Budget)
		}
		b.used[a.address] = new(Budget)
	}
	return b.used[a.address].Take()
}

// Earn is Budget.Earn.
func (a AgentBudget) Earn() {
	a.all.mu.Lock()
	defer a.all.mu.Unlock()
	if budget := a.all.used[a.address]; budget != nil {
		budget.Earn()
	}
}
