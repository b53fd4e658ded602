package crew

import (
	"slices"
	"strings"
	"time"
)

// Sum makes one of several results, with the latencies in order.
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

// Calls is how many calls were made.
func (r Result) Calls() int { return len(r.Latencies) }

// At is the time, in milliseconds, in which a part of the calls came to an end, of what Sum gave.
func (r Result) At(part float64) float64 {
	if len(r.Latencies) == 0 {
		return 0
	}
	return Milliseconds(r.Latencies[int(part*float64(len(r.Latencies)-1))])
}

// Error is the error that came most often.
func (r Result) Error() (most string) {
	for text, n := range r.Errors {
		if n > r.Errors[most] || n == r.Errors[most] && text < most {
			most = text
		}
	}
	return most
}

// Milliseconds gives a time as a number.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Shorten makes errors comparable that differ in the port they came from.
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
