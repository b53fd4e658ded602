package crew

import (
	"slices"
	"strings"
	"time"
)

// Sum combines results and sorts their latencies.
func Sum(results []Result) Result {
	sum := Result{Errors: map[string]int{}}
	for _, one := range results {
		sum.Latencies = append(sum.Latencies, one.Latencies...)
		sum.Failures += one.Failures
		sum.InTime += one.InTime
		sum.Took = max(sum.Took, one.Took)
		for text, n := range one.Errors {
			sum.Errors[text] += n
		}
	}
	slices.Sort(sum.Latencies)
	return sum
}

// Calls returns the number of calls.
func (r Result) Calls() int { return len(r.Latencies) }

// At returns the quantile of the latencies in milliseconds. The result must come from Sum.
func (r Result) At(part float64) float64 {
	if len(r.Latencies) == 0 {
		return 0
	}
	return Milliseconds(r.Latencies[int(part*float64(len(r.Latencies)-1))])
}

// Error returns the most frequent error.
func (r Result) Error() (most string) {
	for text, n := range r.Errors {
		if n > r.Errors[most] || n == r.Errors[most] && text < most {
			most = text
		}
	}
	return most
}

// Milliseconds converts a duration to milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Shorten removes the addresses from read and write errors, so that equal errors have equal
// messages.
func Shorten(err error) string {
	text := err.Error()
	for _, operation := range []string{"read tcp ", "write tcp "} {
		if i := strings.Index(text, operation); i >= 0 {
			if _, end, ok := strings.Cut(text[i:], ": "); ok {
				text = text[:i] + end
			}
		}
	}
	return text[:min(len(text), 400)]
}
