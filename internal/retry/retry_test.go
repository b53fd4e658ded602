package retry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nomad-go/nomad/internal/agentconn"
)

func TestMayRepeat(t *testing.T) {
	refused := errors.New("connection refused")
	for name, test := range map[string]struct {
		attempt          Attempt
		once, idempotent bool // whether it is retried, for requests that are not idempotent and that are
	}{
		"no connection":                 {Attempt{Err: &agentconn.DialError{Err: refused}}, true, true},
		"no connection, in a layer":     {Attempt{Err: fmt.Errorf("x: %w", &agentconn.DialError{Err: refused})}, true, true},
		"a proxy without the agent":     {Attempt{Err: &agentconn.DialError{Err: &agentconn.ProxyError{StatusCode: 502}}}, true, true},
		"a certificate that is refused": {Attempt{Err: &agentconn.DialError{Err: refused, Permanent: true}}, false, false},
		"a certificate, with new ones":  {Attempt{Err: &agentconn.DialError{Err: &tls.CertificateVerificationError{Err: refused}, Permanent: true}, NewCertificates: true}, true, true},
		"an alert, with new ones":       {Attempt{Err: &net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")}, NewCertificates: true}, true, true},
		"an alert, without new ones":    {Attempt{Err: &net.OpError{Op: "remote error", Err: errors.New("tls: unknown certificate authority")}}, false, false},
		"an alert for another reason":   {Attempt{Err: &net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}, NewCertificates: true}, false, false},
		"a port, with new certificates": {Attempt{Err: &agentconn.DialError{Err: refused, Permanent: true}, NewCertificates: true}, false, false},
		"lost before the response":      {Attempt{Err: &agentconn.LostError{Err: io.EOF}}, false, true},
		"no response at all":            {Attempt{Err: fmt.Errorf("%w: %w", agentconn.ErrNoResponse, &agentconn.LostError{Err: io.EOF})}, false, false},
		"the agent is full":             {Attempt{Err: agentconn.ErrFull}, false, false},
		"another error":                 {Attempt{Err: io.EOF}, false, false},
		"the context ended":             {Attempt{Err: context.Canceled}, false, false},
		"200":                           {Attempt{Status: 200}, false, false},
		"400":                           {Attempt{Status: 400}, false, false},
		"403":                           {Attempt{Status: 403}, false, false},
		"408":                           {Attempt{Status: 408}, false, false},
		"429":                           {Attempt{Status: 429}, true, true},
		"500":                           {Attempt{Status: 500}, false, false},
		"501":                           {Attempt{Status: 501}, false, false},
		"502":                           {Attempt{Status: 502}, false, true},
		"503":                           {Attempt{Status: 503}, false, true},
		"504":                           {Attempt{Status: 504}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.once, test.attempt.MayRepeat())
			test.attempt.Idempotent = true
			assert.Equal(t, test.idempotent, test.attempt.MayRepeat())
		})
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that a date is exact
		date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		for name, test := range map[string]struct {
			attempts   int
			retryAfter string
			min, max   time.Duration
		}{
			"the first":          {1, "", 50 * time.Millisecond, 150 * time.Millisecond},
			"the second":         {2, "", 100 * time.Millisecond, 300 * time.Millisecond},
			"the fifth":          {5, "", 800 * time.Millisecond, 2400 * time.Millisecond},
			"the sixth":          {6, "", time.Second, 3 * time.Second},
			"the thousandth":     {1000, "", time.Second, 3 * time.Second},
			"seconds":            {1, "7", 7 * time.Second, 7 * time.Second},
			"no seconds":         {1, "0", 50 * time.Millisecond, 150 * time.Millisecond},
			"a date":             {1, date(9 * time.Second), 9 * time.Second, 9 * time.Second},
			"a date in the past": {1, date(-time.Hour), 50 * time.Millisecond, 150 * time.Millisecond},
			"nonsense":           {1, "soon", 50 * time.Millisecond, 150 * time.Millisecond},
			"a negative number":  {1, "-5", 50 * time.Millisecond, 150 * time.Millisecond},
			"too many seconds":   {1, "99999999999999", 50 * time.Millisecond, 150 * time.Millisecond},
		} {
			for range 20 {
				wait := Attempt{Header: http.Header{"Retry-After": {test.retryAfter}}}.Wait(test.attempts)
				assert.GreaterOrEqual(t, wait, test.min, name)
				assert.LessOrEqual(t, wait, test.max, name)
			}
		}
		assert.NotZero(t, Attempt{}.Wait(1), "without a response")
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		assert.True(t, Sleep(t.Context(), time.Minute))
		assert.Equal(t, time.Minute, time.Since(began))

		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		assert.False(t, Sleep(ctx, 2*time.Hour), "the deadline is before the end of the sleep")
		assert.Zero(t, time.Since(began))

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		assert.False(t, Sleep(ctx, time.Hour))
		assert.Equal(t, time.Second, time.Since(began))
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Budget)
		taken := func() (n int) {
			for b.Take() {
				n++
			}
			return n
		}
		assert.Equal(t, 100, taken())
		time.Sleep(10 * time.Second)
		assert.Equal(t, 10, taken(), "one retry per second")
		for range 1001 {
			b.Earn()
		}
		assert.InDelta(t, 100, taken(), 1, "one retry per ten calls")
		time.Sleep(time.Hour)
		assert.Equal(t, 100, taken(), "never more than the capacity")
	})
}

func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Budgets)
		taken := func(address string) (n int) {
			for b.Of(address).Take() {
				n++
			}
			return n
		}
		assert.Equal(t, 100, taken("a"))
		assert.Equal(t, 100, taken("b"), "each agent has its own")
		assert.Equal(t, 0, taken("a"))
		for range 1001 {
			b.Of("a").Earn()
			b.Of("c").Earn()
		}
		assert.InDelta(t, 100, taken("a"), 1)
		assert.Equal(t, 0, taken("b"))
		for i := range 1000 {
			assert.True(t, b.Of(fmt.Sprint(i)).Take())
		}
		time.Sleep(60 * time.Second)
		assert.Equal(t, 60, taken("b"))
		time.Sleep(60 * time.Second)
		assert.Equal(t, 60, taken("b"))
		assert.Len(t, b.used, 1, "those that are full again are forgotten")
	})
}

// FuzzRetryAfter parses arbitrary values of Retry-After. The wait must not be negative.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "1", "-1", "9999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "Mon, 01 Jan 9999 00:00:00 GMT"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if wait := (Attempt{Header: http.Header{"Retry-After": {value}}}).Wait(1); wait <= 0 {
			t.Fatal(wait)
		}
	})
}

func TestLoop(t *testing.T) {
	lost := Attempt{Err: &agentconn.LostError{Err: io.EOF}, Idempotent: true}
	busy := Attempt{Status: 429, Header: http.Header{"Retry-After": {"20"}}}
	for name, test := range map[string]struct {
		loop     Loop
		attempts []Attempt // the last one is repeated
		want     int
		err      error
	}{
		"a response":                      {Loop{Retries: 4}, []Attempt{{Status: 200}}, 1, nil},
		"a response after two losses":     {Loop{Retries: 4}, []Attempt{lost, lost, {Status: 200}}, 3, nil},
		"losses":                          {Loop{Retries: 4}, []Attempt{lost}, 5, nil},
		"no retries":                      {Loop{}, []Attempt{lost}, 1, nil},
		"a final outcome":                 {Loop{Retries: 4}, []Attempt{{Status: 429, Final: true}}, 1, nil},
		"no time for the next attempt":    {Loop{Retries: 4}, []Attempt{busy}, 2, nil},
		"no time in the loop's own limit": {Loop{Retries: 4, Deadline: time.Now().Add(time.Second)}, []Attempt{busy}, 1, nil},
		"the context ends in a wait":      {Loop{Retries: 4}, []Attempt{lost, {Status: 0}}, 2, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				test.loop.Budget = new(Budgets).Of("")
				if !test.loop.Deadline.IsZero() {
					test.loop.Deadline = time.Now().Add(time.Second)
				}
				made := 0
				err := test.loop.Run(ctx, func() Attempt {
					made++
					a := test.attempts[min(made, len(test.attempts))-1]
					if a.Status == 0 && a.Err == nil { // the context ends while the loop waits
						time.AfterFunc(time.Millisecond, cancel)
						return lost
					}
					return a
				})
				assert.Equal(t, test.want, made)
				assert.Equal(t, test.err, err)
			})
		})
	}
}

// TestLoopWithoutTime makes requests for whose retry there is no time. They use up no retry.
func TestLoopWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		budget := new(Budgets).Of("")
		busy := func() Attempt { return Attempt{Status: 429, Header: http.Header{"Retry-After": {"20"}}} }
		for range 200 {
			assert.NoError(t, Loop{Retries: 4, Budget: budget, Deadline: time.Now().Add(time.Second)}.Run(ctx, busy))
		}
		time.Sleep(15 * time.Second)
		for range 200 {
			assert.NoError(t, Loop{Retries: 4, Budget: budget}.Run(ctx, busy))
		}
		cancel()
		for range 200 {
			assert.ErrorIs(t, Loop{Retries: 4, Budget: budget}.Run(ctx, busy), context.Canceled)
		}
		assert.Empty(t, budget.all.used, "no retry was ever taken")
	})
}
