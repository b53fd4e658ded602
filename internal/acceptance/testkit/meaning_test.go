package testkit

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSentinelsAreComplete compares the sentinels with the errors that the root package declares.
func TestSentinelsAreComplete(t *testing.T) {
	files, err := filepath.Glob("../../../*.go")
	require.NoError(t, err)
	declared := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`(?m)^(?:\t|var )(Err\w+) += `).FindAllSubmatch(source, -1) {
			declared[string(match[1])] = true
		}
	}
	require.NotEmpty(t, declared)
	for name := range declared {
		assert.Contains(t, sentinels, name)
	}
	assert.Len(t, sentinels, len(declared))
}
