package nomadtest

import (
	"testing"
	"time"
)

// New is NewCluster for a test: the cluster is closed when the test ends. In a bubble of testing/synctest it has
// InMemoryNetwork; there t has to be that of the bubble.
func New(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	if inBubble(t) {
		opts = append(opts, InMemoryNetwork())
	}
	c := NewCluster(opts...)
	t.Cleanup(c.Close)
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
