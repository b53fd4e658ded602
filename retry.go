package nomad

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackoff gives the waits between tries: about 0.1, 0.2, 0.4 s and so on up to 2 s, each varied by half.
func newBackoff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     100 * time.Millisecond,
		RandomizationFactor: backoff.DefaultRandomizationFactor,
		Multiplier:          2,
		MaxInterval:         2 * time.Second,
	}
}

// budget limits how often the Clients of one agent try again, so that one that is down is not made to bear several times
// the calls. A call that succeeds, or fails for good, earns a part of a retry.
type budget struct {
	mu    sync.Mutex
	left  float64 // retries
	since time.Time
}

const (
	budgetSize      = 100
	budgetPerSecond = 1
	budgetPerAnswer = 0.1
)

// take reports whether a call may be tried again.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.left+now.Sub(b.since).Seconds()*budgetPerSecond, budgetSize)
	b.since = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// earn notes a call that came to its end.
func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+budgetPerAnswer, budgetSize)
}

// canRetry reports whether a request that ended so may be sent again. A request that changes something and is not
// known to be idempotent may be when it certainly did not reach the agent.
func canRetry(r *request, a *answer, err error) bool {
	if err != nil {
		return failedDial(err) || r.idempotent && lostConnection(err)
	}
	switch a.status {
	case http.StatusTooManyRequests:
		return !isJSON(a.header) // a refusal has no answer in it
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return r.idempotent
	}
	return false
}

// failedDial reports whether no connection came about.
func failedDial(err error) bool {
	if errors.Is(err, errRefused) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lostConnection reports whether a connection ended before the head of an answer was whole. A refused certificate does
// not count, on either side: it is refused the next time too.
func lostConnection(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		op          *net.OpError
	)
	switch {
	case errors.Is(err, ErrInvalidResponse): // it ended later than that
		return false
	case errors.As(err, &certificate), errors.As(err, &record):
		return false
	case errors.As(err, &op):
		// TLS alerts, but for what is left of a refusal that the agent did not write to its end.
		return op.Op != "remote error" && (op.Op != "local error" || strings.Contains(err.Error(), "bad record MAC"))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return true
	}
	// The http package does not export these.
	text := err.Error()
	return strings.Contains(text, "server closed idle connection") ||
		strings.Contains(text, "TLS handshake timeout")
}

// retryAfter reads the header that says how long to wait, in seconds or until a date. Without it there is no wait.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return time.Until(date)
	}
	return 0
}

// sleep waits, and reports whether the context allowed it. It does not begin a wait that the context's deadline
// would cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
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
