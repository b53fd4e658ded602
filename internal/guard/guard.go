// Package guard bounds the life of a stream: how long it takes to begin, and how long it may be silent.
package guard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nomad-go/nomad/internal/deadline"
)

// Guard ends the context of a stream. Its errors are those given to New.
type Guard struct {
	Context context.Context // of the stream

	caller          context.Context
	cancel          context.CancelCauseFunc
	limit, silence  time.Duration
	begin, stall    *time.Timer
	stalled, closed error
	once            sync.Once
}

// New makes a Guard of a stream that must begin within limit, and may be silent for some time after that. The errors are
// those of a stream that is silent for longer, and of one that was closed.
func New(ctx context.Context, limit, silence time.Duration, stalled, closed error) *Guard {
	g := &Guard{caller: ctx, limit: limit, silence: silence, stalled: stalled, closed: closed}
	g.Context, g.cancel = context.WithCancelCause(ctx)
	g.begin = time.AfterFunc(limit, func() { g.cancel(context.DeadlineExceeded) })
	g.stall = time.AfterFunc(math.MaxInt64, func() { g.cancel(stalled) })
	g.stall.Stop()
	return g
}

// BeginBy moves the end of the time for the beginning.
func (g *Guard) BeginBy(deadline time.Time) { g.begin.Reset(time.Until(deadline)) }

// Begun ends the limit for the beginning, and reports whether it was kept.
func (g *Guard) Begun() bool {
	if g.begin.Stop() {
		return true
	}
	g.cancel(context.DeadlineExceeded) // the timer has fired, but its function may not have run yet
	return false
}

// Wait runs read, and ends the stream if that takes too long.
func (g *Guard) Wait(read func() error) error {
	g.stall.Reset(g.silence)
	err := read()
	g.stall.Stop()
	return err
}

// Explain returns why the stream ended if its context has ended, and err if not.
func (g *Guard) Explain(err error) error {
	cause := context.Cause(g.Context)
	switch {
	case g.Context.Err() == nil:
		return err
	case errors.Is(cause, g.stalled) && g.caller.Err() == nil:
		return fmt.Errorf("%w: nothing arrived for %v", g.stalled, g.silence)
	case errors.Is(cause, g.closed) && g.caller.Err() == nil:
		return g.closed
	case !errors.Is(err, cause):
		err = cause
	}
	return deadline.Explain(g.Context, g.caller, g.limit, err)
}

// Close ends the stream, and runs end the first time.
func (g *Guard) Close(end func()) {
	g.once.Do(func() {
		g.cancel(g.closed)
		g.begin.Stop()
		g.stall.Stop()
		end()
	})
}
