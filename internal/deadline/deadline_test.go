package deadline

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestExplain(t *testing.T) {
	other := errors.New("other")
	cause := errors.New("cause")
	open, closeIt := context.WithCancel(context.Background())
	defer closeIt()
	canceled, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	expired, stop := context.WithTimeout(context.Background(), -time.Second)
	defer stop()

	assert.Equal(t, other, Explain(open, open, time.Second, other), "the context has not ended")
	assert.Equal(t, other, Explain(expired, open, time.Second, other), "the request ended for another reason")

	err := Explain(expired, open, time.Second, context.DeadlineExceeded)
	assert.EqualError(t, err, "no response within 1s: context deadline exceeded")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualError(t, Explain(expired, open, time.Second, os.ErrDeadlineExceeded), err.Error(), "a time limit of the transport")

	err = Explain(canceled, canceled, time.Second, cause)
	assert.EqualError(t, err, "context canceled: cause")
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, cause)

	err = Explain(expired, open, time.Second, &Error{context.DeadlineExceeded, other})
	assert.EqualError(t, err, "no response within 1s: context deadline exceeded (other)")
	assert.ErrorIs(t, err, other)
}
