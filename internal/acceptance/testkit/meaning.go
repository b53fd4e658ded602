package testkit

import (
	"errors"
	"slices"
	"strings"

	"github.com/nomad-go/nomad"
)

// sentinels are all sentinel errors by name.
var sentinels = map[string]error{
	"ErrInvalidArgument":  nomad.ErrInvalidArgument,
	"ErrPermissionDenied": nomad.ErrPermissionDenied,
	"ErrInvalidToken":     nomad.ErrInvalidToken,
	"ErrNotFound":         nomad.ErrNotFound,
	"ErrServerOnly":       nomad.ErrServerOnly,
	"ErrClientOnly":       nomad.ErrClientOnly,
	"ErrNoLeader":         nomad.ErrNoLeader,
	"ErrTooManyRequests":  nomad.ErrTooManyRequests,
	"ErrUnsupported":      nomad.ErrUnsupported,
	"ErrUnhealthy":        nomad.ErrUnhealthy,
	"ErrJoinFailed":       nomad.ErrJoinFailed,
	"ErrResponseTooLarge": nomad.ErrResponseTooLarge,
	"ErrInvalidResponse":  nomad.ErrInvalidResponse,
	"ErrNotApplied":       nomad.ErrNotApplied,
	"ErrRedirect":         nomad.ErrRedirect,
	"ErrStreamEnded":      nomad.ErrStreamEnded,
	"ErrStreamStalled":    nomad.ErrStreamStalled,
	"ErrClosed":           nomad.ErrClosed,
}

// Meaning returns the names of the sentinel errors that err matches, sorted and separated by spaces.
func Meaning(err error) string {
	var names []string
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
