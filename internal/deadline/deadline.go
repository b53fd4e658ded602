// Package deadline finds out which deadline ended a request.
package deadline

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Error is a wait that a context ended. It wraps the cause and the last error before.
type Error struct{ Cause, Last error }

func (e *Error) Error() string   { return e.Cause.Error() }
func (e *Error) Unwrap() []error { return []error{e.Cause, e.Last} }

// Explain returns the error of a request that ended with its context: which deadline expired, or that the caller's
// context was canceled. Any other error it returns as it is. ctx is the caller's context with a limit.
func Explain(ctx, caller context.Context, limit time.Duration, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Cause(ctx)) && !isTimeout(err) {
		return err
	}
	ended := fmt.Errorf("no response within %v: %w", limit, context.DeadlineExceeded)
	if caller.Err() != nil {
		ended = caller.Err()
		if cause := context.Cause(caller); cause != ended {
			ended = fmt.Errorf("%w: %w", ended, cause)
		}
	}
	if waited := (*Error)(nil); errors.As(err, &waited) {
		return fmt.Errorf("%w (%w)", ended, waited.Last)
	}
	return ended
}

// isTimeout reports whether a time limit of the transport was reached.
func isTimeout(err error) bool {
	var limit net.Error
	return errors.As(err, &limit) && limit.Timeout()
}
