package relay_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad/internal/acceptance/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is a timeout far above the duration of any test here.
const timeout = 30 * time.Second

// serve starts a server that calls handle for each connection, and returns its address.
func serve(t *testing.T, handle func(*net.TCPConn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(timeout))
			work.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		work.Wait()
	})
	return listener.Addr().String()
}

// echo sends all data back.
func echo(conn *net.TCPConn) { io.Copy(conn, io.MultiReader(conn)) }

// through starts a relay to the target.
func through(t *testing.T, target string, rtt time.Duration) *relay.Relay {
	r, err := relay.New(target, rtt)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func dial(t *testing.T, r *relay.Relay) *net.TCPConn {
	conn, err := net.Dial("tcp", r.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(timeout))
	return conn.(*net.TCPConn)
}

// roundTrip sends a byte, reads one, and returns the time that this took.
func roundTrip(conn net.Conn) (time.Duration, error) {
	began := time.Now()
	if _, err := conn.Write([]byte{1}); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return time.Since(began), err
}

func TestRoundTrip(t *testing.T) {
	const rtt = 100 * time.Millisecond
	r := through(t, serve(t, echo), rtt)
	began := time.Now()
	conn := dial(t, r)
	_, err := roundTrip(conn)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), 2*rtt, "the handshake takes another round trip")
	for range 3 {
		took, err := roundTrip(conn)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, took, rtt)
		assert.Less(t, took, timeout)
	}
}

// TestThroughput sends far more data than could arrive in time if each chunk waited for the previous one.
// 32 MiB are 1,000 reads of 32 KiB, and 1,000 round trips take 200 s.
func TestThroughput(t *testing.T) {
	const rtt = 200 * time.Millisecond
	conn := dial(t, through(t, serve(t, echo), rtt))
	sent := make([]byte, 32<<20)
	for i := range sent {
		sent[i] = byte(i >> 8)
	}
	var work sync.WaitGroup
	work.Go(func() {
		_, err := conn.Write(sent)
		assert.NoError(t, err)
		assert.NoError(t, conn.CloseWrite())
	})
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got))
	work.Wait()
}

// TestHalfClose closes one direction and then uses the other.
func TestHalfClose(t *testing.T) {
	const rtt = 50 * time.Millisecond
	conn := dial(t, through(t, serve(t, func(conn *net.TCPConn) {
		request, err := io.ReadAll(conn)
		assert.NoError(t, err)
		conn.Write(bytes.ToUpper(request))
	}), rtt))
	_, err := conn.Write([]byte("question"))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	response, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "QUESTION", string(response))
}

// TestServerCloses has the server close a connection at once, like an agent at its connection limit.
func TestServerCloses(t *testing.T) {
	const rtt = 100 * time.Millisecond
	r := through(t, serve(t, func(conn *net.TCPConn) { conn.Write([]byte("no")) }), rtt)
	began := time.Now()
	conn := dial(t, r)
	response, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "no", string(response))
	assert.GreaterOrEqual(t, time.Since(began), 2*rtt)
}

func TestReset(t *testing.T) {
	const rtt = 50 * time.Millisecond
	t.Run("by the server", func(t *testing.T) {
		conn := dial(t, through(t, serve(t, func(conn *net.TCPConn) {
			io.ReadFull(conn, make([]byte, 1))
			conn.SetLinger(0)
		}), rtt))
		_, err := roundTrip(conn)
		assert.Error(t, err)
		assert.NotErrorIs(t, err, io.EOF)
	})
	t.Run("by the client", func(t *testing.T) {
		ended := make(chan error, 1)
		conn := dial(t, through(t, serve(t, func(conn *net.TCPConn) {
			io.CopyN(conn, conn, 1)
			_, err := io.ReadFull(conn, make([]byte, 1))
			ended <- err
		}), rtt))
		_, err := roundTrip(conn)
		require.NoError(t, err)
		conn.SetLinger(0)
		began := time.Now()
		conn.Close()
		err = <-ended
		assert.GreaterOrEqual(t, time.Since(began), rtt/2)
		assert.Error(t, err)
		assert.NotErrorIs(t, err, io.EOF)
	})
	t.Run("by a client that had closed its own direction", func(t *testing.T) {
		ended := make(chan error, 1)
		conn := dial(t, through(t, serve(t, func(conn *net.TCPConn) {
			var err error
			for err == nil { // until the connection is reset
				_, err = conn.Write(make([]byte, 1<<10))
				time.Sleep(time.Millisecond)
			}
			ended <- err
		}), rtt))
		_, err := io.ReadFull(conn, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		time.Sleep(2 * rtt)
		conn.Close()
		assert.Error(t, <-ended)
	})
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener.Close()
	_, err = roundTrip(dial(t, through(t, listener.Addr().String(), time.Millisecond)))
	assert.Error(t, err)
}

// TestMany keeps 200 connections busy. The bound is far above the expected time.
func TestMany(t *testing.T) {
	const rtt = 20 * time.Millisecond
	r := through(t, serve(t, echo), rtt)
	began := time.Now()
	var work sync.WaitGroup
	for range 200 {
		conn := dial(t, r)
		work.Go(func() {
			for range 10 {
				_, err := roundTrip(conn)
				assert.NoError(t, err)
			}
		})
	}
	work.Wait()
	t.Logf("10 round trips of %v on each of 200 connections took %v", rtt, time.Since(began))
	assert.Less(t, time.Since(began), timeout)
}

// TestClose closes a relay whose connections are in all states: being accepted, idle, and with much data
// in transit.
func TestClose(t *testing.T) {
	r, err := relay.New(serve(t, echo), 300*time.Millisecond)
	require.NoError(t, err)
	conns := make([]net.Conn, 30)
	for i := range conns {
		conns[i] = dial(t, r)
		if i%2 == 0 {
			conns[i].Write(make([]byte, 64<<10))
		}
		if i < len(conns)/2 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	r.Close()
	r.Close()
	for _, conn := range conns {
		_, err := io.Copy(io.Discard, conn)
		if err != nil {
			var timeout net.Error
			assert.False(t, assert.ErrorAs(t, err, &timeout) && timeout.Timeout(), "%v", err)
		}
	}
	_, err = net.Dial("tcp", r.Addr())
	assert.Error(t, err)
}
