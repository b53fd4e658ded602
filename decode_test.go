package nomad

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDecodingEnds checks that decoding a large list stops when the context ends.
func TestDecodingEnds(t *testing.T) {
	member := `{"Name":"` + strings.Repeat("a", 100) + `","Tags":{"a":"b"}}`
	body := []byte(`{"Members":[` + strings.Repeat(member+",", 1<<20/len(member)) + member + `]}`)
	ctx, cancel := context.WithCancel(t.Context())
	assert.NoError(t, decodeMembers(ctx, body, new(Members)))
	cancel()
	assert.ErrorIs(t, decodeMembers(ctx, body, new(Members)), context.Canceled)
	withoutTags := bytes.ReplaceAll(body, []byte("Tags"), []byte("tags of another name"))
	assert.ErrorIs(t, decodeMembers(ctx, withoutTags, new(Members)), context.Canceled)

	ring := []byte(`{"NumNodes":1,"Keys":{"k":1},"Messages":{"a":"b"}}`)
	assert.NoError(t, decodeKeyring("")(t.Context(), ring, new(Keyring)))
	assert.ErrorIs(t, decodeKeyring("")(ctx, ring, new(Keyring)), context.Canceled)
}

// TestDensity checks which documents Do decodes: small ones, those with ordinary objects, and long strings.
func TestDensity(t *testing.T) {
	for name, test := range map[string]struct {
		element string
		n       int
		fits    bool
	}{
		"small":                {`{},`, 16_000, true},
		"empty objects":        {`{},`, 100_000, false},
		"empty lists":          {`[],`, 100_000, false},
		"digits":               {`0,`, 100_000, false},
		"nested lists":         {`[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],`, 10_000, false},
		"objects of ten bytes": {`{"a":true},`, 100_000, false},
		"ports":                {`{"Label":"http","Value":8080,"To":0},`, 100_000, true},
		"names":                {`"web-1234",`, 100_000, true},
		"JSON in a string":     {`"` + strings.Repeat(`{\"a\":[0,1]},`, 100_000) + `",`, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			var out any
			err := decodeAny(t.Context(), []byte("["+strings.TrimSuffix(strings.Repeat(test.element, test.n), ",")+"]"), &out)
			if test.fits {
				require.NoError(t, err)
				assert.Len(t, out, test.n)
			} else {
				assert.ErrorContains(t, err, " objects in ")
				assert.Nil(t, out)
			}
		})
	}
}

// TestKeyringWithLongMessages has an agent send many keys, and a message in which they could be escaped many times.
func TestKeyringWithLongMessages(t *testing.T) {
	decode := func(keys int) string {
		var b strings.Builder
		for i := range keys {
			fmt.Fprintf(&b, `"%044d":1,`, i)
		}
		ring := new(Keyring)
		message := strings.Repeat("%25252541=3Damp;amp;x&#37;41&amp;amp;", 27_000)
		content := `{"NumNodes":1,"Messages":{"a":"` + message + `"},"Keys":{` + strings.TrimSuffix(b.String(), ",") + `}}`
		require.NoError(t, decodeKeyring("")(t.Context(), []byte(content), ring))
		return ring.Messages["a"]
	}
	assert.Less(t, len(decode(0)), 8<<10)
	assert.Less(t, len(decode(maxKeys)), 8<<10)
	assert.Equal(t, "<redacted>", decode(maxKeys+1))
}
