package nomad

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// scripted watches what a script answers, in time that passes at once, and gives what it tells with the time since the start.
func scripted(t *testing.T, opts WatchOptions, lasts time.Duration, look func(since time.Duration) (map[string]Member, error)) (told []string, looks []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		began := time.Now()
		w := watch[Member]{
			call: "Test", same: sameMember,
			alike: func(a, b Member) bool { return a.Status == b.Status },
			own:   func(m Member) Member { return m },
			look: func(context.Context) (map[string]Member, error) {
				looks = append(looks, time.Since(began))
				return look(time.Since(began))
			},
			tell: func(changes []change[Member], synced bool) bool {
				for _, e := range memberEvents(changes) {
					told = append(told, fmt.Sprintf("%v at %.0fs", e, e.Time.Sub(began).Seconds()))
				}
				if synced {
					told = append(told, "synced")
				}
				return true
			},
			fail: func(error) bool { told = append(told, "error"); return true },
		}
		w.run(ctx, opts)
	})
	return told, looks
}

func one(status MemberStatus, zone string) map[string]Member {
	return map[string]Member{"a": {Name: "a", Status: status, Tags: map[string]string{"zone": zone}}}
}

// TestWatchWhatMatters has something else change all the time: the status is told all the same.
func TestWatchWhatMatters(t *testing.T) {
	n := 0
	told, _ := scripted(t, WatchOptions{}, time.Minute, func(since time.Duration) (map[string]Member, error) {
		n++
		if since < 7*time.Second {
			return one(StatusAlive, "1"), nil
		}
		return one(StatusFailed, fmt.Sprint(n%2)), nil
	})
	assert.GreaterOrEqual(t, len(told), 3)
	assert.Regexp(t, `^a failed at (9|10|11)s$`, told[2])
}

// TestWatchPendingAcrossOutage has an outage between two answers that agree: what was in between is not known.
func TestWatchPendingAcrossOutage(t *testing.T) {
	told, _ := scripted(t, WatchOptions{}, 10*time.Minute, func(since time.Duration) (map[string]Member, error) {
		switch {
		case since < 3*time.Second:
			return one(StatusAlive, ""), nil
		case since < 6*time.Second, since > 5*time.Minute:
			return one(StatusFailed, ""), nil
		}
		return nil, errors.New("broken")
	})
	assert.Equal(t, []string{"a joined at 0s", "synced", "error"}, told[:3])
	assert.Regexp(t, `^a failed at 3\d\ds$`, told[3], "when it was seen after the outage")
	assert.Equal(t, "synced", told[4])
}

func TestWatchLooks(t *testing.T) {
	always := func(time.Duration) (map[string]Member, error) { return one(StatusAlive, ""), nil }
	_, looks := scripted(t, WatchOptions{Interval: math.MaxInt64}, 24*time.Hour, always)
	assert.Len(t, looks, 1)
	n := 0
	_, looks = scripted(t, WatchOptions{Interval: time.Second, Settle: 8 * time.Second}, 100*time.Second, func(time.Duration) (map[string]Member, error) {
		n++
		return one(StatusAlive, fmt.Sprint(n)), nil
	})
	assert.InDelta(t, 100, len(looks), 8, "not more seldom while something settles")
}

// TestWatchOfMany looks at a large pool in which nothing happens.
func TestWatchOfMany(t *testing.T) {
	pool := map[string]Member{}
	for i := range 10_000 {
		name := fmt.Sprint("server-", i, ".global")
		pool[name] = Member{Name: name, Status: StatusAlive, Tags: map[string]string{"region": "global", "id": name}}
	}
	w := watch[Member]{same: sameMember, own: func(m Member) Member { m.Tags = maps.Clone(m.Tags); return m }, tell: func([]change[Member], bool) bool { return true }}
	w.learn(pool, time.Now(), time.Second, false)
	assert.Less(t, testing.AllocsPerRun(5, func() { w.learn(pool, time.Now(), time.Second, false) }), 10.)
}
