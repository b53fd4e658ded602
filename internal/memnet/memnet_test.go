package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const address = "127.0.0.1:4646"

var errNext = errors.New("the real network")

var dial = DialContext(func(context.Context, string, string) (net.Conn, error) { return nil, errNext })

// connected returns both ends of a connection. It must be called in a bubble.
func connected(t *testing.T) (client, server net.Conn) {
	l, err := Listen("tcp", address)
	require.NoError(t, err)
	client, err = dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		server.Close()
		l.Close()
		Release(address)
	})
	return client, server
}

// inBubble runs a test with a connection in a bubble.
func inBubble(t *testing.T, f func(t *testing.T, client, server net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		client, server := connected(t)
		f(t, client, server)
	})
}

func TestAddresses(t *testing.T) {
	_, err := dial(t.Context(), "tcp", address)
	require.ErrorIs(t, err, errNext)
	l, err := Listen("tcp", address)
	require.NoError(t, err)
	_, err = Listen("tcp", address)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	Release(address) // has no effect while a listener uses the address
	assert.Equal(t, address, l.Addr().String())

	c, err := dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	assert.Equal(t, address, c.RemoteAddr().String())
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host)
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Close(), net.ErrClosed)
	_, err = c.Read(make([]byte, 1)) // it was never accepted
	require.ErrorIs(t, err, syscall.ECONNRESET)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)

	_, err = dial(t.Context(), "tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	assert.Equal(t, "dial", op.Op)
	again, err := Listen("tcp", address)
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dial(canceled, "tcp", address)
	require.ErrorIs(t, err, context.Canceled)
	for range maxPending {
		_, err := dial(t.Context(), "tcp", address)
		require.NoError(t, err)
	}
	_, err = dial(t.Context(), "tcp", address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, again.Close())
	Release(address)
	_, err = dial(t.Context(), "tcp", address)
	require.ErrorIs(t, err, errNext)
}

func TestDataArrivesInOrderAlsoAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		sent := bytes.Repeat([]byte("0123456789abcdef#"), 20_000)
		go func() {
			n, err := client.Write(sent)
			assert.NoError(t, err)
			assert.Equal(t, len(sent), n)
			assert.NoError(t, client.Close())
		}()
		time.Sleep(time.Hour)
		received, err := io.ReadAll(server)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(sent, received))
		_, err = server.Write([]byte("x"))
		assert.ErrorIs(t, err, syscall.EPIPE)
		_, err = client.Read(make([]byte, 1))
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = client.Write([]byte("x"))
		assert.ErrorIs(t, err, net.ErrClosed)
		assert.ErrorIs(t, client.Close(), net.ErrClosed)
	})
}

func TestBufferIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		require.NoError(t, client.SetWriteDeadline(time.Now().Add(time.Minute)))
		began := time.Now()
		n, err := client.Write(make([]byte, 2*maxBuffered))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, maxBuffered, n)
		assert.Equal(t, time.Minute, time.Since(began))
	})
}

func TestResetLosesWhatWasNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		_, err := server.Write([]byte("lost"))
		require.NoError(t, err)
		require.NoError(t, server.(*Conn).SetLinger(0))
		require.NoError(t, server.Close())
		_, err = client.Read(make([]byte, 4))
		assert.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = client.Write([]byte("x"))
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestDeadlinesMove(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		began := time.Now()
		require.NoError(t, client.SetDeadline(began.Add(time.Minute)))
		time.AfterFunc(30*time.Second, func() { client.SetReadDeadline(began.Add(time.Hour)) })
		_, err := client.Read(make([]byte, 1))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.Equal(t, time.Hour, time.Since(began))

		require.NoError(t, client.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Minute, func() { server.Write([]byte("x")) })
		n, err := client.Read(make([]byte, 4))
		assert.NoError(t, err)
		assert.Equal(t, 1, n)

		// A deadline in the past ends a waiting read. The server of net/http relies on this.
		time.AfterFunc(time.Minute, func() { client.SetReadDeadline(time.Unix(1, 0)) })
		_, err = client.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		var waits sync.WaitGroup
		waits.Go(func() {
			_, err := client.Read(make([]byte, 1))
			assert.ErrorIs(t, err, net.ErrClosed)
		})
		waits.Go(func() {
			_, err := client.Write(make([]byte, 2*maxBuffered))
			assert.ErrorIs(t, err, net.ErrClosed)
		})
		synctest.Wait()
		require.NoError(t, client.Close())
		waits.Wait()
	})
}
