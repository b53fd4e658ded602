package nomad

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestDecodingEnds checks that decoding a large list stops when the context ends.
func TestDecodingEnds(t *testing.T) {
	member := `{"Name":"` + strings.Repeat("a", 100) + `","Tags":{"a":"b"}}`
	body := []byte(`{"Members":[` + strings.Repeat(member+",", 1<<20/len(member)) + member + `]}`)
	ctx, cancel := context.WithCancel(t.Context())
	assert.NoError(t, decodeMembers(ctx, body, new(Members)))
	cancel()
	assert.ErrorIs(t, decodeMembers(ctx, body, new(Members)), context.Canceled)
}
