package nomad

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestDecodingEnds checks that the time limit holds while an answer is decoded, not only until it has come.
func TestDecodingEnds(t *testing.T) {
	member := `{"Name":"` + strings.Repeat("a", 100) + `"}`
	body := []byte(`{"Members":[` + strings.Repeat(member+",", maxPooledBuffer/len(member)) + member + `]}`)
	ctx, cancel := context.WithCancel(t.Context())
	assert.NoError(t, decode(ctx, body, new(Members), parseMembers))
	cancel()
	assert.ErrorIs(t, decode(ctx, body, new(Members), parseMembers), context.Canceled)
}

// TestContextOfAnEnd ends the context where only the end of the text is left to be read.
func TestContextOfAnEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	body := []byte("[" + strings.Repeat(" ", maxPooledBuffer) + "]" + strings.Repeat(" ", 1<<17))
	err := tokens(ctx, body, func(r *textReader) error {
		for range 2 {
			if _, err := r.ReadToken(); err != nil {
				return err
			}
		}
		cancel(errors.New("a cause"))
		return nil
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.EqualError(t, tokens(t.Context(), append(body, '1'), func(r *textReader) error {
		_, err := r.ReadValue()
		return err
	}), "something follows its end")
}
