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

func TestSecrets(t *testing.T) {
	for name, test := range map[string]struct {
		header http.Header
		want   []string
	}{
		"a token":             {http.Header{"Authorization": {"Bearer abc"}}, []string{"Bearer abc", "abc"}},
		"in lower case":       {http.Header{"authorization": {"Bearer abc"}}, []string{"Bearer abc", "abc"}},
		"a user and password": {http.Header{"Authorization": {"basic  b3BzOmh1bnRlcjI="}}, []string{"basic  b3BzOmh1bnRlcjI=", "b3BzOmh1bnRlcjI=", "hunter2"}},
		"no user":             {http.Header{"Authorization": {"Basic !"}}, []string{"Basic !", "!", ""}},
		"a cookie":            {http.Header{"cookie": {"a=b"}}, []string{"a=b"}},
		"others":              {http.Header{"X-A": {"short", "longer"}, "accept": {"text/plain"}, "Content-Type": {"text/plain"}}, []string{"longer"}},
	} {
		assert.Equal(t, test.want, Secrets(test.header), name)
	}
}

func TestCheck(t *testing.T) {
	for _, name := range []string{"X-Own", "accept", "CONTENT-TYPE", "authorization"} {
		assert.NoError(t, Check(name, []string{"x"}), name)
	}
	for _, name := range []string{"x-nomad-token", "Host", "connection", "a b", ""} {
		assert.Error(t, Check(name, []string{"x"}), name)
	}
	assert.Error(t, Check("X-Own", []string{"a\nb"}))
}
