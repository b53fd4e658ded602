package nomadtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// New is NewCluster for a test. The cluster is closed when the test ends. If the test has failed by then, its log also
// shows the requests that failed and the last lines of the agents' logs. If NewCluster would panic because of an
// option, New fails the test.
//
// In a bubble of testing/synctest the cluster has InMemoryNetwork. There t must be the bubble's.
func New(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	defer func() {
		switch problem := recover(); {
		case problem == nil:
		case strings.HasPrefix(fmt.Sprint(problem), "nomadtest: "):
			t.Helper()
			t.Fatal(problem)
		default:
			panic(problem)
		}
	}()
	if inBubble(t) {
		opts = append(slices.Clone(opts), InMemoryNetwork())
	}
	c := NewCluster(opts...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.report())
		}
		c.Close()
	})
	return c
}

// inBubble reports whether a test runs in a bubble of testing/synctest. There it must not call Deadline, which panics.
func inBubble(t testing.TB) (bubble bool) {
	if t, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		defer func() { bubble = recover() != nil }()
		t.Deadline()
	}
	return false
}

// How much report shows: of the agents, and of the requests and the log of each.
const reportAgents, reportRequests, reportEntries = 10, 20, 10

// report is what may explain the failure of a test.
func (c *Cluster) report() string {
	var b strings.Builder
	b.WriteString("nomadtest:")
	agents := c.Agents()
	for _, a := range agents[:min(len(agents), reportAgents)] {
		a.report(&b)
	}
	if more := len(agents) - reportAgents; more > 0 {
		fmt.Fprintf(&b, "\n… and %d more agents", more)
	}
	return b.String()
}

func (a *Agent) report(b *strings.Builder) {
	requests := a.Requests()
	bad := slices.DeleteFunc(slices.Clone(requests), func(r Request) bool { return !r.failed() })
	mu.Lock()
	running, history := a.running, a.history[max(0, len(a.history)-reportEntries):]
	mu.Unlock()
	limit := a.limit.Load()
	limit.mu.Lock()
	refused := limit.refused
	limit.mu.Unlock()

	fmt.Fprintf(b, "\n%s at %s", a.name, a.URL())
	if !running {
		b.WriteString(", which does not run")
	}
	fmt.Fprintf(b, ": requests: %d, failed: %d, connections refused for the limit of %d: %d", len(requests), len(bad), a.maxConns, refused)
	for _, r := range bad[max(0, len(bad)-reportRequests):] {
		fmt.Fprintf(b, "\n\t%s %s", r.Time.UTC().Format("15:04:05.000"), r)
	}
	for _, e := range history {
		b.WriteString("\n\t" + strings.TrimSpace(e.text()))
	}
}
