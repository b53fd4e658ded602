package nomadtest_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/nomadtest"
)

func TestErrorOfAProcessThatEndsSaysSo(t *testing.T) {
	program, err := exec.LookPath("false")
	if err != nil {
		t.Skip("there is no program that ends at once")
	}
	t.Setenv("NOMAD_BIN", program)
	for range 20 {
		_, err := nomadtest.StartProcess(t.Context())
		require.Error(t, err)
		assert.Contains(t, err.Error(), "did not come up: it has ended;")
	}
}
