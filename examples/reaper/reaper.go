package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nomad-go/nomad"
)

// reaper makes servers leave that stay failed.
type reaper struct {
	agent  *nomad.Agent
	after  time.Duration // how long a server must have failed
	retry  time.Duration // the wait after one could not be made to leave
	prune  bool
	dryRun bool
	watch  nomad.WatchOptions
	log    *slog.Logger
	reaped func(name string) // if set, called for each server that was made to leave
}

// news is what the watch tells: an event or an outage.
type news struct {
	event nomad.MemberEvent
	err   error
}

// run works until the context ends.
func (r *reaper) run(ctx context.Context) {
	r.log.Info("watching", "after", r.after, "prune", r.prune, "dry_run", r.dryRun)
	defer r.log.Info("stopped")
	feed := make(chan news)
	go func() {
		defer close(feed)
		for event, err := range r.agent.WatchMembers(ctx, r.watch) {
			select {
			case feed <- news{event, err}:
			case <-ctx.Done():
				return
			}
		}
	}()

	due := map[string]time.Time{} // when those that have failed are to leave
	synced := false               // what is known is as it is, and not as it was before an outage
	for {
		var alarm <-chan time.Time
		if name := first(due); synced && name != "" {
			alarm = time.After(time.Until(due[name]))
		}
		select {
		case n, more := <-feed:
			switch {
			case !more:
				return
			case n.err != nil:
				synced = false
				r.log.Warn("the agent does not answer: nothing is done until it does", "error", n.err)
			case n.event.Kind == nomad.MembersSynced:
				synced = true
				r.log.Info("the pool is known", "failed", len(due))
			default:
				r.note(n.event, due)
			}
		case <-alarm:
			name := first(due)
			err := r.reap(ctx, name)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				due[name] = time.Now().Add(r.retry)
				r.log.Warn("left alone for now", "server", name, "reason", err)
				continue
			}
			delete(due, name)
		}
	}
}

// note keeps account of who has failed.
func (r *reaper) note(e nomad.MemberEvent, due map[string]time.Time) {
	_, had := due[e.Name()]
	switch {
	case e.Kind == nomad.MemberFailed:
		due[e.Name()] = e.Time.Add(r.after)
		r.log.Info("failed", "server", e.Name(), "leaves_at", due[e.Name()])
	case had && e.After.Status != nomad.StatusFailed:
		delete(due, e.Name())
		r.log.Info(string(e.Kind), "server", e.Name())
	}
}

// reap makes a server leave, if it is still as it was.
func (r *reaper) reap(ctx context.Context, name string) error {
	pool, err := r.agent.Members(ctx)
	if err != nil {
		return err
	}
	member, alive, failed := find(pool.Members, name)
	switch {
	case member.Status != nomad.StatusFailed:
		r.log.Info("not failed any more", "server", name)
		return nil
	case failed >= alive:
		return fmt.Errorf("of region %s %d servers have failed and %d are alive", member.Region(), failed, alive)
	case r.dryRun:
		r.log.Info("would be made to leave", "server", name)
	default:
		var options []nomad.ForceLeaveOption
		if r.prune {
			options = append(options, nomad.Prune())
		}
		if err := r.agent.ForceLeave(ctx, name, options...); err != nil {
			if errors.Is(err, nomad.ErrPermissionDenied) {
				err = fmt.Errorf("the token needs agent:write: %w", err)
			}
			return err
		}
		r.log.Info("was made to leave", "server", name)
	}
	if r.reaped != nil {
		r.reaped(name)
	}
	return nil
}

// find finds a member, and counts those of its region.
func find(members []nomad.Member, name string) (member nomad.Member, alive, failed int) {
	for _, m := range members {
		if m.Name == name {
			member = m
		}
	}
	for _, m := range members {
		if m.Region() == member.Region() {
			switch m.Status {
			case nomad.StatusAlive:
				alive++
			case nomad.StatusFailed:
				failed++
			}
		}
	}
	return member, alive, failed
}

// first is who is due first; nobody is "".
func first(due map[string]time.Time) string {
	name := ""
	for n, at := range due {
		if name == "" || at.Before(due[name]) {
			name = n
		}
	}
	return name
}
