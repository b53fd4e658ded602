//go:build !unix

package main

import (
	"errors"
	"net"
)

func fillBacklog(*net.TCPListener) (held, error) {
	return nil, errors.New("filling the backlog is not supported on this system")
}
