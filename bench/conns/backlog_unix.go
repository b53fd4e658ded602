//go:build unix

package main

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// fillBacklog minimizes and fills the backlog of a listener, so that connecting blocks until the
// listener accepts.
func fillBacklog(listener *net.TCPListener) (held, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	var conns held
	for range 100 {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 300*time.Millisecond)
		if err != nil {
			return conns, nil
		}
		conns = append(conns, conn)
	}
	conns.release()
	return nil, errors.New("the backlog takes 100 connections")
}
