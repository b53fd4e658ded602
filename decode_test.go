package nomad

import (
	"context"
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
