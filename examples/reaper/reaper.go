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

// reaper makes servers leave that stay failed.
type reaper struct {
	client *nomad.Client
	after  time.Duration // how long a server must have failed
	retry  time.Duration // the wait after one could not be made to leave
	keep   int           // how many alive a region must have left
	prune  bool
	dryRun bool
	watch  watch.Options
	log    *slog.Logger
	reaped func(name string) // if set, called for each server that was made to leave
}

// run works until the context ends.
func (r *reaper) run(ctx context.Context) {
	r.log.Info("watching", "after", r.after.String(), "prune", r.prune, "dry_run", r.dryRun)
	defer r.log.Info("stopped")
	feed := make(chan watch.MemberEvent)
	go func() {
		defer close(feed)
		for event, err := range watch.Members(ctx, r.client.Agent, r.watch) {
			if err != nil { // the end
				if ctx.Err() == nil {
					r.log.Error("the watch has ended", "error", err)
				}
				return
			}
			select {
			case feed <- event:
			case <-ctx.Done():
				return
			}
		}
	}()

	due := map[string]time.Time{} // when those that have failed are to leave
	synced, outage := false, false
	for {
		var alarm <-chan time.Time
		if name := first(due); synced && name != "" {
			alarm = time.After(time.Until(due[name]))
		}
		select {
		case event, more := <-feed:
			if !more {
				return
			}
			switch event.Kind {
			case watch.Outage:
				synced, outage = false, true
				r.log.Warn("the agent does not answer: nothing is done until it does", "error", event.Err)
			case watch.OutageOver: // what was missed comes next
			case watch.Synced:
				if outage { // who knows what has happened in it: all have their time again
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
func (r *reaper) note(e watch.MemberEvent, due map[string]time.Time) {
	_, had := due[e.Name()]
	switch {
	case e.Kind == watch.Failed, had && e.After.Status == nomad.StatusFailed && e.Before.ID() != e.After.ID(): // another machine
		due[e.Name()] = e.Time.Add(r.after)
		r.log.Info("failed", "server", e.Name(), "due_at", due[e.Name()])
	case had && e.After.Status != nomad.StatusFailed:
		delete(due, e.Name())
		r.log.Info(string(e.Kind), "server", e.Name())
	}
}

// reap makes a server leave, if it is still as it was. Its error is why it was not.
func (r *reaper) reap(ctx context.Context, name string) error {
	pool, err := r.client.Agent.Members(ctx)
	if err != nil {
		return err
	}
	member, alive, failed := find(pool.Members, name)
	switch {
	case member.Status != nomad.StatusFailed: // the watch will tell, unless it fails again before that
		return errors.New("it is not failed at the moment")
	case failed >= alive || alive < r.keep:
		return fmt.Errorf("in region %s %d servers are alive and %d have failed", member.Region(), alive, failed)
	case r.dryRun:
		r.log.Info("would be forced to leave", "server", name)
	default:
		// Once, and soon: a call that is tried again could find a server that has recovered.
		once, err := r.client.With(nomad.WithRetries(0), nomad.WithTimeout(10*time.Second))
		if err != nil {
			return err
		}
		var options []nomad.ForceLeaveOption
		if r.prune {
			options = append(options, nomad.Prune())
		}
		if err := once.Agent.ForceLeave(ctx, name, options...); err != nil {
			if errors.Is(err, nomad.ErrPermissionDenied) {
				err = fmt.Errorf("the token needs agent:write: %w", err)
			}
			return err
		}
		r.log.Info("forced to leave", "server", name)
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
