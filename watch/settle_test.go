package watch_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/watch"
)

// script is an agent whose responses are functions of the time since the start.
type script struct {
	members func(since time.Duration) ([]nomad.Member, error)
	health  func(since time.Duration) (*nomad.Health, error)
	began   time.Time
	polls   []time.Duration
}

func (s *script) poll() time.Duration {
	if s.polls == nil {
		s.began = time.Now()
	}
	s.polls = append(s.polls, time.Since(s.began))
	return time.Since(s.began)
}

func (s *script) Members(context.Context) (*nomad.Members, error) {
	members, err := s.members(s.poll())
	if err != nil {
		return nil, err
	}
	return &nomad.Members{Members: members}, nil
}

func (s *script) Health(context.Context, ...nomad.Role) (*nomad.Health, error) {
	return s.health(s.poll())
}

// between returns the number of polls in a span of time.
func (s *script) between(from, to time.Duration) int {
	return len(slices.DeleteFunc(slices.Clone(s.polls), func(at time.Duration) bool { return at < from || at >= to }))
}

// run watches a script for some simulated time. It returns the events as strings, with the time when the
// change was first seen.
func (s *script) run(t *testing.T, opts watch.Options, lasts time.Duration) (reported []string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		note := func(event fmt.Stringer, at time.Time, err error) {
			if err != nil {
				assert.Equal(t, context.DeadlineExceeded, err)
				return
			}
			text, _, _ := strings.Cut(event.String(), ":")
			reported = append(reported, fmt.Sprintf("%s at %.0fs", text, at.Sub(s.began).Seconds()))
		}
		if s.members != nil {
			for event, err := range watch.Members(ctx, s, opts) {
				note(event, event.Time, err)
			}
			return
		}
		for event, err := range watch.Health(ctx, s, opts) {
			note(event, event.Time, err)
		}
	})
	return reported
}

func one(status nomad.MemberStatus, tags ...string) []nomad.Member {
	m := nomad.Member{Name: "a", Status: status, Tags: map[string]string{}}
	for i := 0; i < len(tags); i += 2 {
		m.Tags[tags[i]] = tags[i+1]
	}
	return []nomad.Member{m}
}

// TestNeverAtRest has a tag that differs in every response. The status and other tags must still be
// reported, and the agent must not be polled more often because of that tag.
func TestNeverAtRest(t *testing.T) {
	n := 0
	s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
		n++
		status, build := nomad.StatusAlive, "1"
		if since >= 5*time.Minute && since < 15*time.Minute {
			status = nomad.StatusFailed
		}
		if since >= 30*time.Minute {
			build = "2"
		}
		return one(status, "counter", fmt.Sprint(n), "build", build), nil
	}}
	reported := s.run(t, watch.Options{}, time.Hour)
	require.Len(t, reported, 5, reported)
	assert.Equal(t, []string{"a joined at 0s", "synced at 0s"}, reported[:2])
	assert.Regexp(t, `^a failed at 30[0-5]s$`, reported[2])
	assert.Regexp(t, `^a recovered at 90[0-5]s$`, reported[3])
	assert.Regexp(t, `^a updated at 18[01]\ds$`, reported[4])
	assert.Less(t, s.between(0, time.Hour), 800, "every 5 s, and more often only while a change settles")
	assert.Greater(t, s.between(0, time.Hour), 700)
	assert.Less(t, s.between(time.Minute, 5*time.Minute), 60)
}

// TestStatusWhileOthersMove changes the status while another value has just begun to change.
func TestStatusWhileOthersMove(t *testing.T) {
	n := 0
	s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
		n++
		if since < 7*time.Second {
			return one(nomad.StatusAlive, "zone", "1"), nil
		}
		return one(nomad.StatusFailed, "zone", fmt.Sprint(n%2)), nil
	}}
	reported := s.run(t, watch.Options{}, time.Minute)
	require.GreaterOrEqual(t, len(reported), 3)
	assert.Regexp(t, `^a failed at (9|10|11)s$`, reported[2])
}

// TestStatusNeverAtRest has two views that alternate for an hour and then agree.
func TestStatusNeverAtRest(t *testing.T) {
	n := 0
	s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
		n++
		if n%2 == 0 || since > time.Hour {
			return one(nomad.StatusFailed), nil
		}
		return one(nomad.StatusAlive), nil
	}}
	reported := s.run(t, watch.Options{}, time.Hour+time.Minute)
	require.Len(t, reported, 3, reported)
	assert.Regexp(t, `^a failed at 3[56]\d\ds$`, reported[2])
	assert.Less(t, s.between(0, time.Hour), 800)
}

// TestSyncedAlthoughOneNeverRests ends an outage while one value keeps changing.
func TestSyncedAlthoughOneNeverRests(t *testing.T) {
	n := 0
	s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
		n++
		if since > time.Minute && since < 2*time.Minute {
			return nil, errors.New("broken")
		}
		return one(nomad.StatusAlive, "counter", fmt.Sprint(n)), nil
	}}
	reported := s.run(t, watch.Options{}, 10*time.Minute)
	require.Len(t, reported, 5, reported)
	assert.Contains(t, reported[2], "outage at ")
	assert.Contains(t, reported[3], "outage over after ")
	assert.Contains(t, reported[4], "synced at ")
}

// TestHealthMessages changes the message of an unhealthy server in every response, or twice a minute.
func TestHealthMessages(t *testing.T) {
	for name, every := range map[string]time.Duration{"always": 1, "now and then": 30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			s := &script{health: func(since time.Duration) (*nomad.Health, error) {
				if since < 20*time.Second || since > 10*time.Minute {
					return &nomad.Health{Server: &nomad.RoleHealth{OK: true, Message: "ok"}}, nil
				}
				message := fmt.Sprint("no leader for ", int64(since/every))
				return &nomad.Health{Server: &nomad.RoleHealth{Message: message}}, nomad.ErrUnhealthy
			}}
			reported := s.run(t, watch.Options{}, 20*time.Minute)
			require.Len(t, reported, 3, reported)
			assert.Regexp(t, `^healthy at 0s$`, reported[0])
			assert.Regexp(t, `^unhealthy at 2\ds$`, reported[1])
			assert.Regexp(t, `^healthy at 60\ds$`, reported[2])
			assert.Less(t, len(s.polls), 280)
		})
	}
}

// TestHealthAfterOutage changes the message during an outage. The event after the outage must have the new
// message.
func TestHealthAfterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{health: func(since time.Duration) (*nomad.Health, error) {
			switch {
			case since < time.Minute:
				return &nomad.Health{Client: &nomad.RoleHealth{Message: "before"}}, nomad.ErrUnhealthy
			case since < 2*time.Minute:
				return nil, errors.New("broken")
			}
			return &nomad.Health{Client: &nomad.RoleHealth{Message: "after"}}, nomad.ErrNoLeader
		}}
		var last watch.HealthEvent
		for event, err := range watch.Health(t.Context(), s, watch.Options{}) {
			require.NoError(t, err)
			if last.Kind == watch.OutageOver {
				assert.Equal(t, "unhealthy: client: after", event.String())
				assert.Equal(t, nomad.ErrNoLeader, event.Err)
				assert.Equal(t, "before", event.Before.Client.Message)
				return
			}
			last = event
		}
	})
}

// TestPendingAcrossOutage has an outage between two equal responses. The state in between is unknown.
func TestPendingAcrossOutage(t *testing.T) {
	s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
		switch {
		case since < 3*time.Second:
			return one(nomad.StatusAlive), nil
		case since < 6*time.Second, since > 5*time.Minute:
			return one(nomad.StatusFailed), nil
		}
		return nil, errors.New("broken")
	}}
	reported := s.run(t, watch.Options{}, 10*time.Minute)
	require.Len(t, reported, 6, reported)
	assert.Equal(t, []string{"a joined at 0s", "synced at 0s"}, reported[:2])
	assert.Contains(t, reported[2], "outage at ")
	assert.Contains(t, reported[3], "outage over ")
	assert.Regexp(t, `^a failed at 3\d\ds$`, reported[4], "the time of the first poll after the outage")
	assert.Contains(t, reported[5], "synced")
}

func TestPolls(t *testing.T) {
	s := &script{members: func(time.Duration) ([]nomad.Member, error) { return one(nomad.StatusAlive), nil }}
	s.run(t, watch.Options{Interval: math.MaxInt64, Settle: math.MaxInt64}, 24*time.Hour)
	assert.Len(t, s.polls, 1)

	n := 0
	s = &script{members: func(time.Duration) ([]nomad.Member, error) {
		n++
		return one(nomad.StatusAlive, "zone", fmt.Sprint(n)), nil
	}}
	s.run(t, watch.Options{Interval: time.Second, Settle: 8 * time.Second}, 100*time.Second)
	assert.InDelta(t, 100, len(s.polls), 8, "not less often while a change settles")
}

// TestSettleNegative checks that a negative Settle reports every change at once.
func TestSettleNegative(t *testing.T) {
	n := 0
	s := &script{members: func(time.Duration) ([]nomad.Member, error) {
		n++
		return one(nomad.StatusAlive, "counter", fmt.Sprint(n)), nil
	}}
	reported := s.run(t, watch.Options{Settle: -1}, 10*time.Minute)
	assert.Equal(t, len(s.polls)+1, len(reported), "joined, synced, and one update for each further poll")
}

// newNames is a script whose responses have the members of others, and 20 with long names that are new in each response.
func newNames(others func(since time.Duration) []nomad.Member) *script {
	n := 0
	return &script{members: func(since time.Duration) ([]nomad.Member, error) {
		members := others(since)
		for range 20 {
			n++
			members = append(members, nomad.Member{Name: fmt.Sprintf("%05000d", n), Status: nomad.StatusAlive})
		}
		return members, nil
	}}
}

// TestNewNames has other members in each response. The agent must not be polled more often for long because of them. A
// change of a member that is always there must still be reported.
func TestNewNames(t *testing.T) {
	s := newNames(func(since time.Duration) []nomad.Member {
		if since > 30*time.Minute {
			return one(nomad.StatusFailed)
		}
		return one(nomad.StatusAlive)
	})
	reported := s.run(t, watch.Options{Interval: time.Minute}, time.Hour)
	assert.Less(t, len(s.polls), 150, "every minute, and more often only for a while")
	require.NotEmpty(t, reported)
	assert.Regexp(t, `^a failed at 1[89]\d\ds$`, reported[len(reported)-1])
}

// TestNewNamesAreForgotten has other members in each response, and one whose status changes now and then and settles, so
// that the agent is polled often all the time.
func TestNewNamesAreForgotten(t *testing.T) {
	memory := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	n, before, most := 0, memory(), 0.
	s := newNames(func(since time.Duration) []nomad.Member {
		if n++; n%50 == 0 {
			most = max(most, memory()-before)
		}
		if int(since.Seconds())/4%2 == 1 {
			return one(nomad.StatusFailed)
		}
		return one(nomad.StatusAlive)
	})
	s.run(t, watch.Options{Interval: time.Minute}, 4*time.Minute)
	assert.Greater(t, len(s.polls), 300)
	assert.Less(t, most, 20e6)
}

// TestSettleShort checks that a very short Settle is no loop without a pause, and that changes settle nevertheless.
func TestSettleShort(t *testing.T) {
	for _, settle := range []time.Duration{1, 3, time.Microsecond, time.Millisecond} {
		n := 0
		s := &script{members: func(since time.Duration) ([]nomad.Member, error) {
			if n++; n > 10_000 {
				return nil, nomad.ErrClosed // the end
			}
			status := nomad.StatusAlive
			if since > 30*time.Second {
				status = nomad.StatusFailed
			}
			counter := min(since, time.Minute) // it never settles before
			return one(status, "counter", fmt.Sprint(counter)), nil
		}}
		reported := s.run(t, watch.Options{Settle: settle}, 2*time.Minute)
		require.Len(t, reported, 4, "%v: %v", settle, reported)
		assert.Regexp(t, `^a failed at 3\ds$`, reported[2])
		assert.Regexp(t, `^a updated at 6\ds$`, reported[3])
		assert.Less(t, len(s.polls), 100, settle)
	}
}
