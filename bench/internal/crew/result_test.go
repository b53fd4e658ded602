package crew

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestSum(t *testing.T) {
	sum := Sum([]Result{
		{Latencies: []time.Duration{3 * time.Millisecond, time.Millisecond}, InTime: 2, Took: time.Second},
		{Latencies: []time.Duration{2 * time.Millisecond}, Failures: 1, Errors: map[string]int{"b": 1, "a": 1}, Took: 2 * time.Second},
	})
	if sum.Calls() != 3 || sum.Failures != 1 || sum.InTime != 2 || sum.Took != 2*time.Second || sum.Error() != "a" {
		t.Errorf("%+v", sum)
	}
	if least, median, most := sum.At(0), sum.At(.5), sum.At(1); least != 1 || median != 2 || most != 3 {
		t.Error(least, median, most)
	}
	if empty := Sum(nil); empty.At(1) != 0 || empty.Error() != "" {
		t.Errorf("%+v", empty)
	}
}

func TestShorten(t *testing.T) {
	const want = "Get: read: connection reset by peer"
	if got := Shorten(errors.New("Get: read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTokens counts requests, one of which is repeated.
func TestTokens(t *testing.T) {
	var tokens tokens
	handled := 0
	for _, token := range []string{"a", "b", "a", "c", "a"} {
		r := httptest.NewRequest(http.MethodPut, "/v1/agent/join", nil)
		r.Header.Set("X-Nomad-Token", token)
		tokens.count(httptest.NewRecorder(), r, func(http.ResponseWriter, *http.Request) { handled++ })
	}
	if all, repeated := tokens.seen(); all != 3 || repeated != 1 || handled != 5 {
		t.Error(all, repeated, handled)
	}
}
