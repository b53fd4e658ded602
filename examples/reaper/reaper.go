package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/watch"
)

// reaper forces servers to leave that stay failed.
type reaper struct {
	client *nomad.Client
	after  time.Duration // how long a server must have failed
	retry  time.Duration // the wait after an attempt that failed or was refused
	keep   int           // how many servers of a region must be alive
	prune  bool
	dryRun bool
	watch  watch.Options
	log    *slog.Logger
	reaped func(name string) // if set, called for each server that was forced to leave
}

// run returns when the context ends, or with an error if the members cannot be watched.
func (r *reaper) run(ctx context.Context) error {
	r.log.Info("watching", "after", r.after.String(), "keep", r.keep, "prune", r.prune, "dry_run", r.dryRun)
	defer r.log.Info("stopped")
	feed := make(chan watch.MemberEvent)
	var ended error // set before feed is closed
	go func() {
		defer close(feed)
		for event, err := range watch.Members(ctx, r.client.Agent, r.watch) {
			if err != nil {
				ended = err
				return
			}
			select {
			case feed <- event:
			case <-ctx.Done():
				return
			}
		}
	}()

	due := map[string]time.Time{} // when each failed server is to leave
	synced, outage := false, false
	for {
		var alarm <-chan time.Time
		if name := first(due); synced && name != "" {
			alarm = time.After(time.Until(due[name]))
		}
		select {
		case event, more := <-feed:
			if !more && ctx.Err() == nil {
				return ended
			} else if !more {
				return nil
			}
			switch event.Kind {
			case watch.Outage:
				synced, outage = false, true
				r.log.Warn("the members cannot be listed: nothing is done until they can", "error", event.Err)
			case watch.OutageOver:
				r.log.Info("the members can be listed again")
			case watch.Synced:
				if outage { // A server may have recovered meanwhile, and failed again.
					for name := range due {
						due[name] = time.Now().Add(r.after)
					}
				}
				synced, outage = true, false
				r.log.Info("synced", "failed", len(due))
			default:
				r.note(event, due)
			}
		case <-alarm:
			name := first(due)
			err := r.reap(ctx, name)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				due[name] = time.Now().Add(r.retry)
				r.log.Warn("no action yet", "server", name, "reason", err)
				continue
			}
			delete(due, name)
		}
	}
}

// note updates which servers have failed.
func (r *reaper) note(e watch.MemberEvent, due map[string]time.Time) {
	_, had := due[e.Name()]
	switch {
	case e.Kind == watch.Failed,
		had && e.After.Status == nomad.StatusFailed && e.Before.ID() != e.After.ID(): // another machine
		due[e.Name()] = e.Time.Add(r.after)
		r.log.Info("failed", "server", e.Name(), "due_at", due[e.Name()])
	case had && e.After.Status != nomad.StatusFailed:
		delete(due, e.Name())
		r.log.Info(string(e.Kind), "server", e.Name())
	}
}

// reap forces a server to leave if it is still failed. Its error is the reason why it did not.
func (r *reaper) reap(ctx context.Context, name string) error {
	pool, err := r.client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	member, alive, failed := find(pool.Members, name)
	switch {
	case member.Status != nomad.StatusFailed: // The watch reports it, unless the server fails again before that.
		return errors.New("it is not failed at the moment")
	case failed >= alive:
		return fmt.Errorf("%d servers of region %s are alive and %d have failed: half or more",
			alive, member.Region(), failed)
	case alive < r.keep:
		return fmt.Errorf("%d servers of region %s are alive, fewer than the %d to keep", alive, member.Region(), r.keep)
	case r.dryRun:
		r.log.Info("would be forced to leave", "server", name)
	default:
		// A single attempt, and a short one: a retry could find a server that has recovered. An interrupt does
		// not end it, so that the log says what became of it.
		once, err := r.client.With(nomad.WithRetries(0), nomad.WithTimeout(10*time.Second))
		if err != nil {
			return err
		}
		var options []nomad.ForceLeaveOption
		if r.prune {
			options = append(options, nomad.Prune())
		}
		if err := once.Agent.ForceLeave(context.WithoutCancel(ctx), name, options...); err != nil {
			return err
		}
		r.log.Info("forced to leave", "server", name)
	}
	if r.reaped != nil {
		r.reaped(name)
	}
	return nil
}

// find returns a member, and counts the servers of its region.
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

// first returns the server that is due first, or "" if there is none.
func first(due map[string]time.Time) string {
	name := ""
	for n, at := range due {
		if name == "" || at.Before(due[name]) {
			name = n
		}
	}
	return name
}
