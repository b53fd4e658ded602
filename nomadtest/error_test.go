package nomadtest_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// meanings are the sentinel errors of package nomad that Error accepts.
var meanings = []error{
	nomad.ErrInvalidArgument, nomad.ErrPermissionDenied, nomad.ErrInvalidToken, nomad.ErrNotFound, nomad.ErrServerOnly,
	nomad.ErrClientOnly, nomad.ErrNoLeader, nomad.ErrTooManyRequests, nomad.ErrUnsupported, nomad.ErrUnhealthy, nomad.ErrJoinFailed,
}

func TestErrorHasItsMeaningAndNoOther(t *testing.T) {
	for _, meaning := range meanings {
		err := nomadtest.Error(meaning)
		for _, other := range meanings {
			both := meaning == nomad.ErrInvalidToken && other == nomad.ErrPermissionDenied
			assert.Equal(t, other == meaning || both, errors.Is(err, other), "%v is %v", err, other)
		}
		t.Log(err)
	}
}

func TestErrorWithTwoMeanings(t *testing.T) {
	for _, both := range [][2]error{{nomad.ErrUnhealthy, nomad.ErrNoLeader}, {nomad.ErrPermissionDenied, nomad.ErrInvalidToken}} {
		for _, err := range []error{nomadtest.Error(both[0], both[1]), nomadtest.Error(both[1], both[0])} {
			assert.ErrorIs(t, err, both[0])
			assert.ErrorIs(t, err, both[1])
		}
	}
	assert.Equal(t, "/v1/agent/health", nomadtest.Error(nomad.ErrUnhealthy, nomad.ErrNoLeader).Path)
	assert.Panics(t, func() { nomadtest.Error(nomad.ErrNotFound, nomad.ErrNoLeader) })
}

func TestErrorRefusesWhatNoResponseMeans(t *testing.T) {
	for _, meaning := range []error{nil, nomad.ErrClosed, errors.New("nomad: no cluster leader")} {
		assert.Panics(t, func() { nomadtest.Error(meaning) }, "%v", meaning)
	}
}
