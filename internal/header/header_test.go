package header

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestChallenges(t *testing.T) {
	for _, values := range [][]string{{"Basic"}, {`basic realm="a, b"`}, {"Negotiate", `BASIC realm="x"`}, {`Bearer realm="x", Basic realm="y"`}} {
		assert.True(t, Challenges(http.Header{"Www-Authenticate": values}, "Basic"), values)
	}
	for _, values := range [][]string{nil, {""}, {"Bearer"}, {`Bearer realm="Basic"`}, {"Basically"}} {
		assert.False(t, Challenges(http.Header{"Www-Authenticate": values}, "Basic"), values)
	}
}
