package guard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

var errStalled, errClosed = errors.New("stalled"), errors.New("closed")

func TestGuard(t *testing.T) {
	for name, test := range map[string]struct {
		use  func(g *Guard)
		want string
	}{
		"the beginning is late": {func(g *Guard) { time.Sleep(time.Minute) }, "no response within 30s: context deadline exceeded"},
		"it is silent":          {func(g *Guard) { g.Begun(); g.Wait(func() error { <-g.Context.Done(); return nil }) }, "stalled: nothing arrived for 10s"},
		"it is closed":          {func(g *Guard) { g.Begun(); g.Close(func() {}) }, "closed"},
		"the reader is slow":    {func(g *Guard) { g.Begun(); g.Wait(func() error { return nil }); time.Sleep(time.Hour) }, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(t.Context(), 30*time.Second, 10*time.Second, errStalled, errClosed)
				test.use(g)
				assert.EqualError(t, g.Explain(errors.New("other")), test.want)
				g.Close(func() {})
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // it begins at the moment of the limit
		for range 1000 {
			g := New(t.Context(), time.Second, 10*time.Second, errStalled, errClosed)
			time.Sleep(time.Second)
			if !g.Begun() {
				assert.EqualError(t, g.Explain(context.DeadlineExceeded), "no response within 1s: context deadline exceeded")
				assert.Error(t, g.Context.Err())
			}
			g.Close(func() {})
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := New(ctx, time.Second, time.Second, errStalled, errClosed)
		assert.True(t, g.Begun())
		cancel()
		ends := 0
		for range 2 {
			g.Close(func() { ends++ })
		}
		assert.Equal(t, 1, ends)
		assert.ErrorIs(t, g.Explain(errors.New("other")), context.Canceled)
	})
}
