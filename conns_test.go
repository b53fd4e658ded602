package nomad

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mayDial reports whether a connection may be tried now.
func mayDial(p *peer) bool {
	wait, _ := p.mayDial()
	return wait <= 0
}

// turns counts how many of three connections may be tried now.
func turns(p *peer) (n int) {
	for range 3 {
		if mayDial(p) {
			n++
		}
	}
	return n
}

func TestConnectionsAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(peer)
		for range 100 {
			assert.True(t, mayDial(p), "any number at once until one is refused")
		}

		// Several that were tried at once are refused once.
		p.refused()
		p.refused()
		assert.False(t, mayDial(p))
		time.Sleep(minHold / 2)
		assert.LessOrEqual(t, turns(p), 1, "not before half of the time")
		time.Sleep(minHold * 3 / 2)
		require.True(t, mayDial(p))
		assert.False(t, mayDial(p), "one by one")

		// The time between them grows, to a bound.
		var waits []time.Duration
		for range 20 {
			p.refused()
			wait, _ := p.mayDial()
			waits = append(waits, wait)
			time.Sleep(wait)
			require.True(t, mayDial(p))
		}
		assert.Less(t, waits[0], 4*minHold)
		assert.Greater(t, waits[19], maxHold/3)
		for _, wait := range waits {
			assert.LessOrEqual(t, wait, maxHold*3/2)
		}

		// One that is taken lets the next be tried at once, and wakes who waits for that.
		_, changed := p.mayDial()
		c := &conn{peer: p}
		p.take(c)
		<-changed
		assert.True(t, mayDial(p))
		assert.False(t, mayDial(p), "one by one still")
		time.Sleep(probeTime)
		assert.True(t, mayDial(p), "one that does not answer does not block the others")

		// After a while without a refusal there is no limit to be seen.
		time.Sleep(limitedFor)
		assert.Equal(t, 3, turns(p))

		// What is closed without a word counts when the agent answers others, or has refused with a word.
		silent := &conn{peer: p}
		assert.True(t, p.refusedSilently(silent))
		time.Sleep(limitedFor + time.Second)
		p.lose(c)
		p.lose(c)
		assert.False(t, p.refusedSilently(silent))
		p.refused()
		assert.True(t, p.refusedSilently(silent))
		assert.Zero(t, p.served)
	})
}

func TestPlaceLeftToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(peer)
		first, second := &conn{peer: p}, &conn{peer: p}
		p.take(first)
		p.take(first)
		assert.Equal(t, 1, p.served)
		p.yield()
		assert.True(t, mayDial(p), "the only connection is replaced at once")
		p.take(second)
		p.yield()
		assert.False(t, mayDial(p))
		time.Sleep(yieldFor)
		assert.Equal(t, 3, turns(p))
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{left: budgetSize, since: time.Now()}
		taken := func() (n int) {
			for b.take() {
				n++
			}
			return n
		}
		assert.Equal(t, 100, taken())
		time.Sleep(10 * time.Second)
		assert.Equal(t, 10, taken(), "one a second")
		for range 1001 {
			b.earn()
		}
		assert.InDelta(t, 100, taken(), 1, "one for ten answers")
		time.Sleep(time.Hour)
		assert.Equal(t, 100, taken(), "and never more than it holds")
	})
}

// TestForgottenPeers calls many addresses from one Client. What is known about each goes with the last Client that calls it.
func TestForgottenPeers(t *testing.T) {
	client, err := NewClient()
	require.NoError(t, err)
	defer client.Close()
	known := func() int {
		client.pool.mu.Lock()
		defer client.pool.mu.Unlock()
		return len(client.pool.peers)
	}
	kept, err := client.With(WithAddress("agent.example:4646"))
	require.NoError(t, err)
	same, err := client.With(WithAddress("agent.example:4646"), WithToken("another"))
	require.NoError(t, err)
	assert.Same(t, kept.peer, same.peer)
	for i := range 100 {
		_, err := client.With(WithAddress("10.0.0.1:" + string(rune('1'+i%9)) + string(rune('0'+i/9%10))))
		require.NoError(t, err)
	}
	assert.Greater(t, known(), 2)
	require.Eventually(t, func() bool { runtime.GC(); return known() == 2 }, 10*time.Second, time.Millisecond)
	runtime.KeepAlive(kept)
	runtime.KeepAlive(same)
}

// TestBrokenForTheAsking asks an agent for what makes it break the connection, which looks like its limit: that ends too.
func TestBrokenForTheAsking(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		hits.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	client, err := NewClient(WithAddress(server.URL), WithRetries(1), WithTLSConfig(server.Client().Transport.(*http.Transport).TLSClientConfig))
	require.NoError(t, err)
	defer client.Close()
	err = client.Call(t.Context(), http.MethodGet, "/v1/x", nil, nil, nil)
	assert.ErrorIs(t, err, io.EOF)
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualValues(t, maxSilent+2, hits.Load())
}

// TestUnusedConnection leaves a connection unused, and has the agent close it: a call that cannot be sent twice has to take
// another one.
func TestUnusedConnection(t *testing.T) {
	hold, dialed := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/hold" {
			<-hold
		}
	}))
	var accepted atomic.Int32
	server.Listener = dropping{server.Listener, func() bool { return accepted.Add(1) == 2 }}
	server.Start()
	defer server.Close()
	client, err := NewClient(WithAddress(server.URL))
	require.NoError(t, err)
	defer client.Close()
	transport := client.pool.own[0]
	dial, dials := transport.DialContext, atomic.Int32{}
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 2 {
			close(hold) // the call gets the first connection while its own is made
			time.Sleep(100 * time.Millisecond)
			defer close(dialed)
		}
		return dial(ctx, network, addr)
	}
	var group sync.WaitGroup
	group.Go(func() { assert.NoError(t, client.Call(t.Context(), http.MethodGet, "/v1/hold", nil, nil, nil)) })
	for dials.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	group.Go(func() { assert.NoError(t, client.Call(t.Context(), http.MethodGet, "/v1/x", nil, nil, nil)) })
	group.Wait()
	<-dialed
	time.Sleep(50 * time.Millisecond)
	for range 3 {
		assert.NoError(t, client.Call(t.Context(), http.MethodPost, "/v1/x", nil, map[string]int{}, nil))
	}
	assert.EqualValues(t, 2, dials.Load())
}

// dropping is a listener that closes some of what it accepts.
type dropping struct {
	net.Listener
	drop func() bool
}

func (d dropping) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil || !d.drop() {
			return c, err
		}
		c.Close()
	}
}

// TestHedgedRoundTrips has a round tripper of the program's own send a request several times at once. That one ends must not
// end the others.
func TestHedgedRoundTrips(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hits.Add(1) == 1 { // as an agent at its limit
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	client, err := NewClient(WithAddress(server.URL), WithRetries(0), WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if res, err := next.RoundTrip(r.Clone(r.Context())); err == nil {
				res.Body.Close()
			}
			go func() {
				time.Sleep(5 * time.Millisecond)
				ctx, cancel := context.WithTimeout(r.Context(), 5*time.Millisecond)
				defer cancel()
				if res, err := next.RoundTrip(r.Clone(ctx)); err == nil {
					res.Body.Close()
				}
			}()
			return next.RoundTrip(r.Clone(r.Context())) // waits for its turn meanwhile
		})
	}))
	require.NoError(t, err)
	defer client.Close()
	assert.NoError(t, client.Call(t.Context(), http.MethodGet, "/v1/x", nil, nil, nil))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
