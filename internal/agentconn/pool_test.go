package agentconn

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// between returns a think time that varies.
func between(low, high time.Duration) func() time.Duration {
	return func() time.Duration { return low + rand.N(high-low) }
}

// TestWindow counts the connections of many goroutines that call one agent.
func TestWindow(t *testing.T) {
	for name, test := range map[string]struct {
		maxConns, requesters, each int
		think                      func() time.Duration
		least, most                int // peak of the connections
		window                     int // at the end
	}{
		"200 requesters of a near agent share 16":               {64, 200, 20, after(1 * ms), 16, 16, 16},
		"200 requesters of a far agent come to use 64":          {64, 200, 20, after(100 * ms), 64, 64, 64},
		"200 requesters of a far agent come to use 96":          {96, 200, 30, after(100 * ms), 96, 96, 96},
		"16 requesters of a far agent never wait, and use 16":   {64, 16, 100, after(100 * ms), 16, 16, 16},
		"a single requester of a far agent uses one":            {64, 1, 100, after(100 * ms), 1, 2, 16}, // an old connection is closed while the next one is made
		"a near agent that is busy gets no more than 16":        {64, 200, 20, between(1*ms, 15*ms), 16, 16, 16},
		"an agent that is a bit further, and busy, gets 16":     {64, 200, 20, between(4*ms, 24*ms), 16, 16, 16},
		"200 requesters of a near agent share 3 if that is all": {3, 200, 10, after(1 * ms), 3, 3, 3},
		"200 requesters of a far agent share 3 if that is all":  {3, 200, 5, after(100 * ms), 3, 3, 3},
		"200 requesters share one connection if that is all":    {1, 200, 10, after(10 * ms), 1, 2, 1},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.think = test.think
			f.latency = 1 // so that a closing connection has ended before the next one is counted
			p := f.newPool(test.maxConns)
			crowd(test.requesters, func(int) {
				for range test.each {
					request{}.check(t, p, name)
				}
			})
			_, peak, _, refused := f.counts()
			assert.GreaterOrEqual(t, peak, test.least, name)
			assert.LessOrEqual(t, peak, test.most, name)
			assert.Equal(t, test.window, p.state(t).window, name)
			assert.Zero(t, refused, name)
			closed(t, p, f)
		})
	}
}

// crowd runs f concurrently for each number below n and waits.
func crowd(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

func TestWindowShrinks(t *testing.T) {
	inBubble(t, "an agent that only seemed to be far gets 16 again", func(t *testing.T) {
		f, began := newFake(t), time.Now()
		f.latency = 1
		f.think = func() time.Duration {
			if time.Since(began) < time.Second {
				return 20 * ms
			}
			return ms
		}
		p := f.newPool(64)
		crowd(100, func(int) {
			for time.Since(began) < time.Second {
				request{}.check(t, p)
			}
		})
		_, peak, _, _ := f.counts()
		assert.Equal(t, 64, peak, "while the round trip seems to be long")
		crowd(100, func(int) {
			for range 10 {
				request{}.check(t, p)
			}
		})
		open, _, _, _ := f.counts()
		assert.LessOrEqual(t, open, 16)
		assert.Equal(t, 16, p.state(t).window)
		closed(t, p, f)
	})
}

// TestFullAgent has more concurrent requests than the agent accepts connections. All must succeed.
func TestFullAgent(t *testing.T) {
	before := logged.String()
	for name, test := range map[string]struct {
		says    int
		request request
	}{
		"64 requesters of an agent that says 429: none fails":             {refuseAll, request{}},
		"64 requesters of an agent that is silent: none fails":            {0, request{}},
		"64 requesters of an agent that says 429 at first: none fails":    {20, request{}},
		"64 POSTs to an agent that says 429: each is handled once":        {refuseAll, request{method: http.MethodPost}},
		"64 requesters of a silent agent, safe to repeat: none fails":     {0, request{method: http.MethodPut, header: idempotent}},
		"64 requesters of an agent that says 429 with TLS: none fails":    {refuseAll, request{scheme: "https"}},
		"64 requesters of an agent that is silent with TLS: none fails":   {0, request{scheme: "https"}},
		"64 POSTs to an agent that is silent with TLS: each handled once": {0, request{scheme: "https", method: http.MethodPost}},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.think = after(5 * ms)
			f.set(4, test.says)
			if test.request.scheme == "https" {
				f.tls = serverTLS()
			}
			p := f.newPool(64)
			crowd(64, func(i int) {
				for n := range 5 {
					r := test.request
					r.id = fmt.Sprint(i, " ", n)
					r.check(t, p, name)
					if r.method == http.MethodPost {
						assert.Equal(t, 1, f.reads(r.id), name)
					}
					assert.GreaterOrEqual(t, f.responses(r.id), 1, name)
				}
			})
			_, peak, total, refused := f.counts()
			assert.Equal(t, 4, peak, name)
			assert.NotZero(t, refused, name)
			assert.Less(t, total, 200, "%s: connections for 320 requests in half a second", name)
			closed(t, p, f)
		})
	}
	assert.Equal(t, before, logged.String(), "net/http wrote to the log")
}

// idempotent marks a request that may be retried. The header is not sent.
var idempotent = http.Header{"Idempotency-Key": nil}

// TestFullAgentSilentToPosts has an agent close connections of POST requests without a response. The Pool
// cannot know whether the agent handled them.
func TestFullAgentSilentToPosts(t *testing.T) {
	inBubble(t, "64 POSTs to an agent that is silent: few are lost, and none is handled twice", func(t *testing.T) {
		f := newFake(t)
		f.think = after(5 * ms)
		f.set(4, 0)
		p := f.newPool(64)
		lost := 0
		var mu sync.Mutex
		crowd(64, func(i int) {
			for n := range 5 {
				id := fmt.Sprint(i, " ", n)
				_, _, err := request{method: http.MethodPost, id: id}.do(t.Context(), p)
				if err != nil {
					var end *LostError
					assert.ErrorAs(t, err, &end)
					assert.NotErrorIs(t, err, ErrNoResponse)
					assert.Zero(t, f.reads(id))
					mu.Lock()
					lost++
					mu.Unlock()
				} else {
					assert.Equal(t, 1, f.reads(id))
				}
			}
		})
		assert.LessOrEqual(t, lost, 12, "requests that were sent before the agent was known to be full")
		closed(t, p, f)
	})
}

func TestQueueOfAFullAgent(t *testing.T) {
	inBubble(t, "64 requesters of a full agent dial for two connections at a time", func(t *testing.T) {
		f := newFake(t)
		f.set(-1, 0)
		p := f.newPool(64)
		request{mark: Once}.do(t.Context(), p)
		f.latency = 100 * ms
		crowd(64, func(int) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			request{}.do(ctx, p)
		})
		assert.Equal(t, 2, f.dialPeak)
		closed(t, p, f)
	})

	inBubble(t, "a request that was refused is served before those that came later", func(t *testing.T) {
		for range 10 {
			f := newFake(t)
			f.set(-1, refuseAll)
			f.think = after(100 * ms)
			p := f.newPool(64)
			var mu sync.Mutex
			var order []int
			crowd(6, func(i int) {
				time.Sleep(time.Duration(i) * 100 * ms)
				if i == 5 {
					time.AfterFunc(time.Second, func() { f.set(1, refuseAll) })
				}
				request{}.check(t, p)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			assert.Equal(t, 0, order[0], "%d", order)
			closed(t, p, f)
		}
	})
}

// TestFairness has four Pools, like four processes, share an agent's limit. The first one uses all
// connections before the others start.
func TestFairness(t *testing.T) {
	inBubble(t, "four pools share 20 connections for a minute: the least gets half of the most, or more", func(t *testing.T) {
		f := newFake(t)
		f.think = after(40 * ms)
		f.set(20, 100) // later refusals get no response
		var pools [4]*Pool
		var served [4]atomic.Int64
		for i := range pools {
			pools[i] = f.newPool(64)
		}
		began := time.Now()
		crowd(len(pools)*20, func(i int) {
			if i %= len(pools); i > 0 {
				time.Sleep(time.Second)
			}
			for time.Since(began) < time.Minute {
				request{}.check(t, pools[i])
				served[i].Add(1)
			}
		})
		var counts []int64
		for i := range served {
			counts = append(counts, served[i].Load())
		}
		assert.GreaterOrEqual(t, 2*slices.Min(counts), slices.Max(counts), "%d", counts)
		assert.Greater(t, counts[0]+counts[1]+counts[2]+counts[3], int64(22500), "of 30000 that 20 connections can carry: %d", counts)
		_, peak, _, _ := f.counts()
		assert.Equal(t, 20, peak)
		for _, p := range pools {
			assert.NoError(t, p.consistent())
			p.Close()
		}
		closed(t, pools[0], f)
	})
}

// TestFullForAWhile begins with an agent that accepts no connection.
func TestFullForAWhile(t *testing.T) {
	for name, test := range map[string]struct {
		scheme string
		says   int
		while  time.Duration
	}{
		"an agent that is silent for 3 s: a request succeeds shortly after":          {"", 0, 3 * time.Second},
		"an agent that says 429 for 3 s: a request succeeds shortly after":           {"", refuseAll, 3 * time.Second},
		"an agent that says 429 for 20 s: a request succeeds shortly after":          {"", refuseAll, 20 * time.Second},
		"an agent that is silent for 3 s with TLS: a request succeeds shortly after": {"https", 0, 3 * time.Second},
		"an agent that says 429 for 3 s with TLS: a request succeeds shortly after":  {"https", refuseAll, 3 * time.Second},
		"an agent that says 429 for 20 s with TLS: a request succeeds shortly after": {"https", refuseAll, 20 * time.Second},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.set(-1, test.says)
			if test.scheme == "https" {
				f.tls = serverTLS()
			}
			p := f.newPool(64)
			time.AfterFunc(test.while, func() { f.set(100, 0) })
			took := timed(func() { request{scheme: test.scheme}.check(t, p, name) })
			assert.GreaterOrEqual(t, took, test.while, name)
			assert.LessOrEqual(t, took, test.while+500*ms, name)
			closed(t, p, f)
		})
	}
}

// TestGivingUp has agents that never respond or stop responding.
func TestGivingUp(t *testing.T) {
	noRoom := func(says int) func(*fake) { return func(f *fake) { f.set(-1, says) } }
	hangsUp := func(f *fake) { f.paths["/"] = hangUp }
	for name, test := range map[string]struct {
		known            bool // the agent responded before
		request          request
		fault            func(*fake)
		want             error
		least, most      int // requests that the agent reads
		fastest, slowest time.Duration
		mostConns        int
	}{
		"an agent that closes after each request and never responded: 5 requests": {
			false, request{}, hangsUp, ErrNoResponse, 5, 5, 0, 5 * time.Second, 5},
		"an agent that closes after each request and did respond: more than 5, and at most 20": {
			true, request{}, hangsUp, ErrNoResponse, 6, 20, 0, 15 * time.Second, 20},
		"an agent that closes after each TLS request and never responded: 5 requests": {
			false, request{scheme: "https"}, hangsUp, ErrNoResponse, 5, 5, 0, 5 * time.Second, 5},
		"an agent that is silent and never responded: 5 s": {
			false, request{}, noRoom(0), ErrNoResponse, 0, 0, 5 * time.Second, 6 * time.Second, 75},
		"an agent that is silent and did respond: 15 s": {
			true, request{}, noRoom(0), ErrNoResponse, 0, 0, 15 * time.Second, 16 * time.Second, 2000},
		"an agent that says 429 and never responded: a minute": {
			false, request{}, noRoom(refuseAll), ErrFull, 0, 0, 60 * time.Second, 61 * time.Second, 4000},
		"an agent that says 429 and did respond: a minute": {
			true, request{}, noRoom(refuseAll), ErrFull, 0, 0, 60 * time.Second, 61 * time.Second, 4000},
		"a peer that closes in the TLS handshake: 5 s": {
			false, request{scheme: "https"}, func(f *fake) {
				f.onConn = func(c *peer) { c.Read(make([]byte, 4096)) }
			}, ErrNoResponse, 0, 0, 5 * time.Second, 6 * time.Second, 75},
		"a peer that resets in the TLS handshake: 5 s": {
			false, request{scheme: "https"}, func(f *fake) {
				f.onConn = func(c *peer) { c.Read(make([]byte, 4096)); c.abort() }
			}, ErrNoResponse, 0, 0, 5 * time.Second, 6 * time.Second, 75},
		"a POST to an agent that closes after each request: one": {
			false, request{method: http.MethodPost}, hangsUp, nil, 1, 1, 0, 0, 1},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			if test.request.scheme == "https" {
				f.tls = serverTLS()
			}
			p := f.newPool(64)
			if test.known {
				request{}.check(t, p, name)
				p.CloseIdleConnections()
				settle()
			}
			_, _, before, _ := f.counts()
			test.fault(f)
			test.request.id = "x"
			var err error
			took := timed(func() { _, _, err = test.request.do(t.Context(), p) })
			if test.want != nil {
				assert.ErrorIs(t, err, test.want, name)
			} else {
				var lost *LostError
				assert.ErrorAs(t, err, &lost, name)
			}
			assert.GreaterOrEqual(t, f.reads("x"), test.least, name)
			assert.LessOrEqual(t, f.reads("x"), test.most, name)
			assert.GreaterOrEqual(t, took, test.fastest, name)
			assert.LessOrEqual(t, took, test.slowest, name)
			_, _, total, _ := f.counts()
			assert.LessOrEqual(t, total-before, test.mostConns, name)
			closed(t, p, f)
		})
	}
}

// TestGivenUpCalls has callers cancel their requests while connections are being made.
func TestGivenUpCalls(t *testing.T) {
	inBubble(t, "32 requests give up on dials that hang: no dial is left, and the next request needs no time", func(t *testing.T) {
		f := newFake(t)
		var hangs atomic.Bool
		hangs.Store(true)
		f.onDial = func(ctx context.Context) error {
			if hangs.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		p := f.newPool(64)
		crowd(32, func(int) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := request{}.do(ctx, p)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.NotErrorIs(t, err, ErrNoResponse)
		})
		hangs.Store(false)
		took := timed(func() { request{}.check(t, p) })
		assert.Zero(t, took)
		settle()
		f.locked(func() { assert.Zero(t, f.dials, "dials that are left") })
		closed(t, p, f)
	})

	inBubble(t, "one of two requests gives up: one of two dials is left", func(t *testing.T) {
		f := newFake(t)
		f.onDial = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		p := f.newPool(64)
		ctx, cancel := context.WithCancel(t.Context())
		var both sync.WaitGroup
		for _, ctx := range []context.Context{ctx, t.Context()} {
			both.Go(func() { request{}.do(ctx, p) })
		}
		settle()
		f.locked(func() { assert.Equal(t, 2, f.dials) })
		cancel()
		settle()
		f.locked(func() { assert.Equal(t, 1, f.dials) })
		both.Wait()
		closed(t, p, f)
	})
}

// TestSlowRequests makes slow requests concurrently with others.
func TestSlowRequests(t *testing.T) {
	inBubble(t, "64 requests that take 30 s do not keep 16 others out", func(t *testing.T) {
		f := newFake(t)
		f.think = after(ms)
		f.paths["/slow"] = func(c *peer, req *http.Request) bool {
			return c.wait(30*time.Second) && c.ok(req)
		}
		p := f.newPool(64)
		var slow sync.WaitGroup
		for range 64 {
			slow.Go(func() { request{path: "/slow"}.check(t, p) })
		}
		settle()
		took := timed(func() { crowd(16, func(int) { request{}.check(t, p) }) })
		assert.LessOrEqual(t, took, 7*time.Second, "four rounds of slow requests come first")
		took = timed(func() {
			crowd(16, func(int) {
				for range 10 {
					request{}.check(t, p)
				}
			})
		})
		assert.LessOrEqual(t, took, time.Second, "slow requests no longer count")
		slow.Wait()
		conns, _, _ := p.sizes()
		assert.LessOrEqual(t, conns, 16, "too many connections are kept")
		closed(t, p, f)
	})

	inBubble(t, "20 streams leave the window when their headers are there", func(t *testing.T) {
		f := newFake(t)
		f.paths["/stream"] = func(c *peer, _ *http.Request) bool {
			c.write("HTTP/1.1 200 OK\r\n\r\n")
			return c.hang()
		}
		p := f.newPool(2)
		ctx, cancel := context.WithCancel(t.Context())
		var bodies []*http.Response
		took := timed(func() {
			for range 20 {
				res, err := p.RoundTrip(request{path: "/stream", mark: Slow}.build(ctx))
				require.NoError(t, err)
				bodies = append(bodies, res)
			}
			for range 20 {
				request{}.check(t, p)
			}
		})
		assert.Zero(t, took)
		conns, idle, _ := p.sizes()
		assert.Equal(t, 21, conns)
		assert.Equal(t, 1, idle)
		assert.NoError(t, p.consistent())
		cancel()
		for _, res := range bodies {
			res.Body.Close()
		}
		settle()
		conns, _, _ = p.sizes()
		assert.Equal(t, 1, conns)
		closed(t, p, f)
	})

	for name, known := range map[string]bool{
		"three requests that take long all get a connection to a new agent that was full for a moment":   false,
		"three requests that take long all get a connection to a known agent that was full for a moment": true,
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.paths["/slow"] = func(c *peer, req *http.Request) bool {
				return c.wait(30*time.Second) && c.ok(req)
			}
			p := f.newPool(64)
			if known {
				request{}.check(t, p, name)
				p.CloseIdleConnections()
				settle()
			}
			f.set(-1, refuseAll)
			time.AfterFunc(time.Second, func() { f.set(100, 0) })
			took := timed(func() { crowd(3, func(int) { request{path: "/slow"}.check(t, p, name) }) })
			assert.LessOrEqual(t, took, 33*time.Second, name)
			closed(t, p, f)
		})
	}
}

// TestWatchedConnections has new connections to an agent that is taken to be full. They are read before they are used.
func TestWatchedConnections(t *testing.T) {
	// full makes the agent refuse one connection.
	full := func(t *testing.T, f *fake, p *Pool) {
		f.set(-1, refuseAll)
		_, _, err := request{mark: Once}.do(t.Context(), p)
		require.NoError(t, err) // it is the 429
		require.True(t, p.state(t).isFull())
		f.set(1000, 0)
	}

	for name, test := range map[string]struct {
		rtt   time.Duration
		mark  Mark
		watch time.Duration
	}{
		"an agent that is near":                            {ms, 0, probeTime + 2*ms},
		"an agent at a distance of 100 ms":                 {100 * ms, 0, probeTime + 200*ms},
		"an agent that took 0.9 s to respond":              {900 * ms, 0, probeTime + 200*ms},
		"an agent that took 5 s, such as without a leader": {5 * time.Second, 0, probeTime},
		"an agent that took 0.9 s for a blocking query":    {900 * ms, Slow, probeTime},
	} {
		inBubble(t, name+": requests do not wait longer than its distance needs", func(t *testing.T) {
			f := newFake(t)
			f.think = after(test.rtt)
			p := f.newPool(64)
			request{mark: test.mark}.check(t, p, name)
			p.CloseIdleConnections()
			full(t, f, p)
			f.think = nil
			time.Sleep(time.Second) // until the pause before the next dial is over
			took := timed(func() { request{}.check(t, p, name) })
			assert.GreaterOrEqual(t, took, test.watch, name)
			assert.LessOrEqual(t, took, test.watch+2*ms, name)
			closed(t, p, f)
		})
	}

	inBubble(t, "the context of a request ends meanwhile: so does the request, and the connection is kept", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		unused(t, f, p)
		a := p.state(t)
		a.locked(func() {
			a.rtt = 100 * ms
			a.refuse(true)
		})()
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		var err error
		took := timed(func() { _, _, err = request{id: "x"}.do(ctx, p) })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 50*ms, took)
		assert.Zero(t, f.reads("x"))
		_, _, before, _ := f.counts()
		request{}.check(t, p)
		_, _, total, _ := f.counts()
		assert.Equal(t, before, total)
		closed(t, p, f)
	})

	inBubble(t, "the last request gives up meanwhile: no connection is left", func(t *testing.T) {
		f := newFake(t)
		f.think = after(100 * ms)
		p := f.newPool(64)
		request{}.check(t, p)
		p.CloseIdleConnections()
		full(t, f, p)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		_, _, err := request{}.do(ctx, p)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		settle()
		open, _, total, _ := f.counts()
		assert.Equal(t, 3, total)
		assert.Zero(t, open)
		closed(t, p, f)
	})
}

// TestOldConnections uses connections for a long time.
func TestOldConnections(t *testing.T) {
	inBubble(t, "connections in use live for half a second to five, and leave their place to others for 50 ms", func(t *testing.T) {
		f := newFake(t)
		f.think = after(ms)
		f.onDial = func(context.Context) error {
			f.locked(func() {
				assert.GreaterOrEqual(t, time.Since(f.lastEnd), oldPause)
			})
			return nil
		}
		p := f.newPool(2)
		began, longest := time.Now(), time.Duration(0)
		var mu sync.Mutex
		crowd(2, func(int) {
			for time.Since(began) < 20*time.Second {
				took := timed(func() { request{}.check(t, p) })
				mu.Lock()
				longest = max(longest, took)
				mu.Unlock()
				time.Sleep(5 * ms)
			}
		})
		_, peak, total, _ := f.counts()
		assert.LessOrEqual(t, peak, 2)
		assert.GreaterOrEqual(t, total, 40/5, "connections in 40 s")
		assert.LessOrEqual(t, total, 40*2)
		assert.LessOrEqual(t, longest, oldPause+10*ms)
		closed(t, p, f)
	})

	for name, test := range map[string]struct {
		think, pause time.Duration // the time of a request, and until the next one
		most         time.Duration // for which a connection may get requests
	}{
		"an agent that is near":            {40 * ms, 0, longestLife},
		"an agent that is far":             {100 * ms, 0, farLife},
		"an agent that takes 0.8 s":        {800 * ms, 0, farLife},
		"an agent that takes 2 s":          {2 * time.Second, 0, longestLife}, // such responses do not count
		"a request every 3 s":              {ms, 3 * time.Second, longestLife},
		"a request each time after 3.95 s": {ms, 3950 * ms, longestLife},
	} {
		inBubble(t, name+": a connection gets new requests for some time", func(t *testing.T) {
			f := newFake(t)
			f.think = after(test.think)
			p := f.newPool(1)
			made, oldest := map[*peer]time.Time{}, time.Duration(0)
			f.paths["/"] = func(c *peer, req *http.Request) bool {
				now := time.Now().Add(-test.think) // when the request came
				if made[c].IsZero() {
					made[c] = now
				}
				oldest = max(oldest, now.Sub(made[c]))
				return c.ok(req)
			}
			for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(test.pause) {
				request{}.check(t, p, name)
			}
			assert.LessOrEqual(t, oldest, test.most, name)
			closed(t, p, f)
		})
	}

	inBubble(t, "16 connections to a full agent are replaced more often than to one that is not", func(t *testing.T) {
		replaced := func(limit int) int {
			f := newFake(t)
			f.think = after(10 * ms)
			f.set(limit, refuseAll)
			p := f.newPool(17)
			began := time.Now()
			crowd(40, func(int) {
				for time.Since(began) < 8*time.Second {
					request{}.check(t, p)
				}
			})
			_, _, total, refused := f.counts()
			closed(t, p, f)
			return total - refused
		}
		full, roomy := replaced(16), replaced(17)
		assert.Greater(t, 3*full, 4*roomy)
	})
}

// TestFresh checks that Fresh requests get connections that carried no request.
func TestFresh(t *testing.T) {
	for name, maxConns := range map[string]int{
		"a Fresh request beside an idle connection gets another one":          16,
		"a Fresh request on a window full of idle connections gets a new one": 1,
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			p := f.newPool(maxConns)
			for n := range 10 {
				request{}.check(t, p, name)
				_, _, before, _ := f.counts()
				took := timed(func() { request{mark: Fresh}.check(t, p, name) })
				_, _, total, _ := f.counts()
				assert.Equal(t, before+1, total, "%s: %d", name, n)
				assert.LessOrEqual(t, took, oldPause, name)
				assert.NoError(t, p.consistent(), name)
			}
			closed(t, p, f)
		})
	}

	inBubble(t, "50 Fresh requests beside others in a small window never get a served connection", func(t *testing.T) {
		f := newFake(t)
		f.think = after(2 * ms)
		p := f.newPool(4)
		var used sync.Map // connections that carried a request
		f.paths["/fresh"] = func(c *peer, req *http.Request) bool {
			_, served := used.Load(c)
			assert.False(t, served, "a Fresh request got a used connection")
			used.Store(c, true)
			return c.ok(req)
		}
		f.paths["/any"] = func(c *peer, req *http.Request) bool { used.Store(c, true); return c.ok(req) }
		crowd(20, func(i int) {
			for range 10 {
				if i%4 == 0 {
					request{path: "/fresh", mark: Fresh}.check(t, p)
				} else {
					request{path: "/any"}.check(t, p)
				}
			}
		})
		closed(t, p, f)
	})
}

// TestOnce sends requests that neither wait for a connection nor are retried.
func TestOnce(t *testing.T) {
	inBubble(t, "one request on an agent that says 429: the response is returned", func(t *testing.T) {
		f := newFake(t)
		f.set(-1, refuseAll)
		p := f.newPool(64)
		for range 3 { // later requests do not wait either
			took := timed(func() {
				status, body, err := request{mark: Once}.do(t.Context(), p)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusTooManyRequests, status)
				assert.Equal(t, refusal, body)
			})
			assert.LessOrEqual(t, took, 2*probeTime)
		}
		_, _, total, _ := f.counts()
		assert.Equal(t, 3, total)
		closed(t, p, f)
	})

	for name, r := range map[string]request{
		"one GET on an agent that is silent: it is lost":           {mark: Once},
		"one POST on an agent that is silent: it is lost":          {mark: Once, method: http.MethodPost},
		"one GET on an agent that is silent with TLS: it is lost":  {mark: Once, scheme: "https"},
		"one POST on an agent that is silent with TLS: it is lost": {mark: Once, scheme: "https", method: http.MethodPost},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.set(-1, 0)
			p := f.newPool(64)
			for range 3 {
				took := timed(func() {
					_, _, err := r.do(t.Context(), p)
					var lost *LostError
					assert.ErrorAs(t, err, &lost, name)
				})
				assert.LessOrEqual(t, took, 2*probeTime, name)
			}
			_, _, total, _ := f.counts()
			assert.Equal(t, 3, total, name)
			f.set(100, 0)
			if r.scheme == "https" {
				f.tls = serverTLS()
			}
			took := timed(func() { r.check(t, p, name) })
			assert.LessOrEqual(t, took, 2*probeTime, name)
			closed(t, p, f)
		})
	}

	inBubble(t, "a Once request is sent once to an agent that closes after each request", func(t *testing.T) {
		f := newFake(t)
		f.paths["/x"] = hangUp
		p := f.newPool(64)
		request{}.check(t, p)
		for range 2 { // on the idle connection, and on a new one
			_, _, err := request{mark: Once, path: "/x", id: "x"}.do(t.Context(), p)
			var lost *LostError
			assert.ErrorAs(t, err, &lost)
		}
		assert.Equal(t, 2, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "a connection that the agent closed while it was idle does not fail a Once request", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		request{}.check(t, p)
		f.closeAll()
		settle()
		request{mark: Once, method: http.MethodPost}.check(t, p)

		// This time the connection has ended, but net/http has not noticed it yet.
		a := p.state(t)
		p.mu.Lock()
		require.Len(t, a.idle, 1)
		a.idle[0].ended.Store(true)
		p.mu.Unlock()
		request{mark: Once, method: http.MethodPost, id: "x"}.check(t, p)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})

	inBubble(t, "a Once request behind others that wait for a full agent does not wait", func(t *testing.T) {
		f := newFake(t)
		f.set(-1, 0)
		p := f.newPool(64)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		var others sync.WaitGroup
		for range 8 {
			others.Go(func() { request{}.do(ctx, p) })
		}
		time.Sleep(3 * time.Second)
		for range 3 {
			took := timed(func() {
				_, _, err := request{mark: Once}.do(t.Context(), p)
				var lost *LostError
				assert.ErrorAs(t, err, &lost)
			})
			assert.LessOrEqual(t, took, 2*probeTime)
		}
		others.Wait()
		closed(t, p, f)
	})

	inBubble(t, "a Once request on a full agent does not let others dial without a pause", func(t *testing.T) {
		f := newFake(t)
		f.latency = 50 * ms
		f.set(-1, 0)
		p := f.newPool(64)
		_, _, err := request{mark: Once}.do(t.Context(), p)
		require.Error(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { request{mark: Once}.do(ctx, p) })
		settle()
		for range 12 {
			all.Go(func() { request{}.do(ctx, p) })
		}
		settle()
		f.locked(func() { assert.LessOrEqual(t, f.dials, 3) })
		all.Wait()
		closed(t, p, f)
	})

	inBubble(t, "a new connection that was closed before it was used does not fail a Once request", func(t *testing.T) {
		f := newFake(t)
		p := f.newPool(64)
		unused(t, f, p)
		f.closeAll()
		settle()
		request{mark: Once, method: http.MethodPost, id: "x"}.check(t, p)
		assert.Equal(t, 1, f.reads("x"))
		closed(t, p, f)
	})
}

// unused leaves the Pool with one idle connection that is a second old and has carried no request.
func unused(t *testing.T, f *fake, p *Pool) {
	latency := f.latency
	hold := make(chan struct{})
	f.paths["/hold"] = func(c *peer, req *http.Request) bool { <-hold; return c.ok(req) }
	var both sync.WaitGroup
	both.Go(func() { request{path: "/hold"}.check(t, p) })
	settle()
	f.latency = 10 * ms
	both.Go(func() { request{}.check(t, p) }) // it starts a dial, but then gets the first connection
	settle()
	close(hold)
	both.Wait()
	f.latency = latency
	time.Sleep(20 * ms)
	a := p.state(t)
	p.mu.Lock()
	for c := range a.conns {
		if c.served {
			a.drop(c)
		}
	}
	p.mu.Unlock()
	time.Sleep(time.Second)
	conns, idle, _ := p.sizes()
	require.Equal(t, 1, conns)
	require.Equal(t, 1, idle)
}

// TestForgetting checks that an unused Pool closes its connections and forgets agents.
func TestForgetting(t *testing.T) {
	inBubble(t, "idle connections are closed after 4 to 4.5 s, and the agent is forgotten", func(t *testing.T) {
		for range 20 {
			f := newFake(t)
			f.think = after(10 * ms)
			p := f.newPool(64)
			time.Sleep(rand.N(tick))
			crowd(10, func(int) { request{}.check(t, p) })
			began := time.Now()
			time.Sleep(idleTime - ms)
			_, idle, _ := p.sizes()
			assert.Positive(t, idle)
			for time.Since(began) < idleTime+tick+ms {
				time.Sleep(10 * ms)
			}
			open, _, _, _ := f.counts()
			assert.Zero(t, open)
			time.Sleep(tick)
			_, _, known := p.sizes()
			assert.Zero(t, known)
		}
	})

	for name, says := range map[string]int{
		"an agent that says 429 is forgotten 10 s after its last refusal":  refuseAll,
		"an agent that is silent is forgotten 10 s after its last refusal": 0,
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(t)
			f.set(-1, says)
			p := f.newPool(64)
			request{mark: Once}.do(t.Context(), p)
			time.Sleep(fullTime - tick)
			_, _, known := p.sizes()
			assert.Equal(t, 1, known, name)
			time.Sleep(2*tick + ms)
			_, _, known = p.sizes()
			assert.Zero(t, known, name)
		})
	}

	inBubble(t, "a thousand agents that fail to be dialled are forgotten", func(t *testing.T) {
		f := newFake(t)
		f.onDial = func(context.Context) error { return context.DeadlineExceeded }
		p := f.newPool(64)
		for i := range 1000 {
			req := request{}.build(t.Context())
			req.URL.Host = fmt.Sprintf("agent-%d.example", i)
			_, err := p.RoundTrip(req)
			require.Error(t, err)
		}
		time.Sleep(tick + ms)
		_, _, known := p.sizes()
		assert.Zero(t, known)
	})
}

// TestClose closes Pools while requests are in progress.
func TestClose(t *testing.T) {
	inBubble(t, "nothing is left after it, requests under way finish, later ones work and keep no connection", func(t *testing.T) {
		f := newFake(t)
		f.think = after(100 * ms)
		p := f.newPool(64)
		crowd(4, func(int) { request{}.check(t, p) })
		var under sync.WaitGroup
		for range 2 {
			under.Go(func() { request{}.check(t, p) })
		}
		time.Sleep(50 * ms)
		p.Close()
		settle()
		open, _, _, _ := f.counts()
		assert.Equal(t, 2, open, "idle connections are closed at once")
		under.Wait()
		settle()
		open, _, _, _ = f.counts()
		assert.Zero(t, open, "other connections are closed when their requests finish")
		for range 3 {
			request{}.check(t, p)
			settle()
			open, _, _, _ = f.counts()
			assert.Zero(t, open, "no connection is kept")
		}
		time.Sleep(tick)
		_, _, known := p.sizes()
		assert.Zero(t, known)
	})

	inBubble(t, "a full agent is forgotten at once", func(t *testing.T) {
		f := newFake(t)
		f.set(-1, 0)
		p := f.newPool(64)
		request{mark: Once}.do(t.Context(), p)
		closed(t, p, f)
	})

	inBubble(t, "dials that nobody waits for are cancelled", func(t *testing.T) {
		f := newFake(t)
		hold := make(chan struct{})
		f.paths["/hold"] = func(c *peer, req *http.Request) bool { <-hold; return c.ok(req) }
		p := f.newPool(64)
		var both sync.WaitGroup
		both.Go(func() { request{path: "/hold"}.check(t, p) })
		settle()
		f.latency = time.Hour
		both.Go(func() { request{}.check(t, p) })
		settle()
		close(hold) // the second request gets the first connection
		both.Wait()
		f.locked(func() { assert.Equal(t, 1, f.dials) })
		closed(t, p, f)
	})

	inBubble(t, "a dial that ends later, without a request that waits, leaves no connection", func(t *testing.T) {
		f := newFake(t)
		f.latency = 100 * ms
		f.think = after(110 * ms)
		p := f.newPool(64)
		p.Close()
		var both sync.WaitGroup
		both.Go(func() { request{}.check(t, p) })
		time.Sleep(150 * ms)
		both.Go(func() { request{}.check(t, p) }) // gets the first one's connection after 60 ms
		both.Wait()
		time.Sleep(tick + ms)
		open, _, _, _ := f.counts()
		time.Sleep(10 * time.Second)
		closed(t, p, f)
		assert.Zero(t, open)
	})

	inBubble(t, "a Fresh request that waits leaves no served connection", func(t *testing.T) {
		f := newFake(t)
		f.think = after(10 * ms)
		p := f.newPool(64)
		p.Close()
		f.latency = 5 * ms
		var both sync.WaitGroup
		both.Go(func() { request{}.check(t, p) })
		time.Sleep(12 * ms)
		both.Go(func() { request{mark: Fresh}.check(t, p) })
		both.Wait()
		time.Sleep(tick + ms)
		open, _, _, _ := f.counts()
		time.Sleep(10 * time.Second)
		closed(t, p, f)
		assert.Zero(t, open)
	})
}

// TestMarksAdd adds marks to a context twice.
func TestMarksAdd(t *testing.T) {
	ctx := WithMark(context.Background(), Fresh)
	assert.Equal(t, Fresh|Bound|Slow, markOf(WithMark(ctx, Bound|Slow)))
	assert.Equal(t, Fresh, markOf(ctx))
	assert.Zero(t, markOf(context.Background()))
}

// TestAbandonedStreams ends the contexts of streams that nobody reads or closes.
func TestAbandonedStreams(t *testing.T) {
	inBubble(t, "their connections and their agent are forgotten", func(t *testing.T) {
		f := newFake(t)
		f.paths["/stream"] = func(c *peer, req *http.Request) bool {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
			return true
		}
		p := f.newPool(16)
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := p.RoundTrip(request{path: "/stream", mark: Slow}.build(ctx))
			require.NoError(t, err)
			cancel()
		}
		time.Sleep(time.Minute)
		conns, _, agents := p.sizes()
		assert.Zero(t, conns)
		assert.Zero(t, agents)
		closed(t, p)
	})
}
