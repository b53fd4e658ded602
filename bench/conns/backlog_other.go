//go:build !unix

package main

import (
	"errors"
	"net"
)

func fillBacklog(*net.TCPListener) (held, error) {
	return nil, errors.New("this system's backlog cannot be filled here")
}
