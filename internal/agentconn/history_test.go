package agentconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// dice is a random number generator for concurrent use.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, seed))} }

// n returns a number below n.
func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// upTo returns a duration below the limit.
func (d *dice) upTo(limit time.Duration) time.Duration { return time.Duration(d.n(int(limit))) }

// moody returns an agent that behaves randomly.
func moody(t *testing.T, d *dice, secure bool) *fake {
	f := newFake(t)
	if secure {
		f.tls = serverTLS()
	}
	f.latency = d.upTo(3 * ms)
	base := d.upTo(30 * ms)
	f.think = func() time.Duration { return base + d.upTo(5*ms) }
	f.onDial = func(ctx context.Context) error {
		switch d.n(40) {
		case 0:
			return syscall.ECONNREFUSED
		case 1:
			return hangingDial(ctx)
		case 2:
			select {
			case <-time.After(d.upTo(time.Second)):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	f.paths["/"] = func(c *peer, req *http.Request) bool {
		switch d.n(40) {
		case 0:
			return c.hang()
		case 1:
			return hangUp(c, req)
		case 2:
			return c.abort()
		case 3:
			return closeNotify(c, req)
		case 4:
			return replies("HTTP/1.1 200 OK\r\nContent-Le")(c, req)
		case 5:
			return replies("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc")(c, req)
		case 6:
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc")
			return c.hang()
		case 7:
			return c.ok(req) && false // closed after the response
		case 8:
			c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			return c.wait(d.upTo(3*time.Second)) && c.write("0\r\n\r\n")
		case 9:
			return c.wait(d.upTo(4*time.Second)) && c.ok(req)
		case 10:
			return c.write("HTTP/1.1 204 No Content\r\n\r\n")
		case 11:
			return replies("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")(c, req)
		case 12:
			return replies("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")(c, req)
		case 13:
			return replies("HTTP/1.1 429 Too Many Requests\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 0\r\n\r\n")(c, req)
		}
		return c.ok(req)
	}
	return f
}

// TestRandomHistories uses agents, networks and callers that behave randomly. At the end the state of the
// Pool must be consistent, no connection may be left, and no request may have been handled twice that must
// not be repeated.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(4) {
		secure := seed == 3
		name := fmt.Sprintf("seed %d, TLS %v: the books are right, and nothing is left", seed, secure)
		inBubble(t, name, func(t *testing.T) { history(t, name, seed, secure) })
	}
}

func history(t *testing.T, name string, seed uint64, secure bool) {
	const pools, callers = 4, 8
	length := 2 * time.Minute
	if secure || testing.Short() {
		length /= 6 // TLS is slow
	}
	d := newDice(seed)
	f := moody(t, d, secure)
	began := time.Now()
	var all sync.WaitGroup

	// The agent's limit changes, and its idle connections are closed at times.
	all.Go(func() {
		for time.Since(began) < length {
			switch d.n(6) {
			case 0:
				f.set(-1, d.n(2)*d.n(100))
			case 1:
				f.closeAll()
			case 2:
				f.set(1000, 0)
			default:
				f.set(1+d.n(20), d.n(20))
			}
			time.Sleep(d.upTo(4 * time.Second))
		}
		f.set(1000, 0)
	})

	var good, bad atomic.Int64
	var made [pools]*Pool
	for i := range made {
		p := f.newPool(1 + d.n(20))
		made[i] = p
		all.Go(func() {
			for time.Since(began) < length {
				time.Sleep(d.upTo(200 * ms))
				assert.NoError(t, p.consistent(), name)
				if d.n(50) == 0 {
					p.CloseIdleConnections()
				}
			}
		})
		for j := range callers {
			all.Go(func() {
				for n := 0; time.Since(began) < length; n++ {
					ok := caller(t, name, d, f, p, fmt.Sprint(i, " ", j, " ", n), secure)
					if ok {
						good.Add(1)
					} else {
						bad.Add(1)
					}
					time.Sleep(d.upTo(100 * ms))
				}
			})
		}
	}
	all.Wait()
	assert.Greater(t, good.Load(), 2*bad.Load(), name)
	for _, p := range made {
		assert.NoError(t, p.consistent(), name)
		conns, idle, _ := p.sizes()
		assert.Equal(t, idle, conns, "%s: connections are still in use", name)
	}
	if seed%2 == 0 {
		for _, p := range made {
			p.Close()
		}
	} else { // without Close all connections end too
		time.Sleep(fullTime + idleTime + 2*tick)
	}
	settle()
	for _, p := range made {
		conns, _, _ := p.sizes()
		assert.Zero(t, conns, name)
	}
	time.Sleep(tick)
	for _, p := range made {
		closed(t, p, f)
	}
}

// caller sends one request and reports whether it succeeded.
func caller(t *testing.T, name string, d *dice, f *fake, p *Pool, id string, secure bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), d.upTo(8*time.Second))
	defer cancel()
	r := request{id: id, mark: Mark(d.n(16) * d.n(2) & 7)}
	if secure {
		r.scheme = "https"
	}
	switch d.n(3) {
	case 0:
		r.method = http.MethodPost
	case 1:
		r.method, r.header = http.MethodPut, idempotent
	}
	if r.method != "" && d.n(2) == 0 {
		r.body = strings.NewReader(strings.Repeat("x", d.n(10000)))
	}
	res, err := p.RoundTrip(r.build(ctx))
	if r.method == http.MethodPost || r.mark&Once != 0 {
		assert.LessOrEqual(t, f.reads(id), 1, "%s: a request was repeated that must not be", name)
	}
	if err != nil {
		return errors.Is(err, context.DeadlineExceeded)
	}
	switch d.n(8) {
	case 0:
	case 1:
		io.CopyN(io.Discard, res.Body, 2)
	case 2:
		go io.Copy(io.Discard, res.Body)
	default:
		io.Copy(io.Discard, res.Body)
	}
	if d.n(20) == 0 {
		time.Sleep(d.upTo(2 * time.Second))
	}
	res.Body.Close()
	return res.StatusCode < 400
}
