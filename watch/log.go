package watch

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/show"
)

// LogAgent is the agent whose log Log follows. *nomad.Agent implements it. Only a Client makes a LogStream, so a test of Log
// uses a Client of an agent of package nomadtest.
type LogAgent interface {
	Monitor(ctx context.Context, opts nomad.MonitorOptions) (*nomad.LogStream, error)
}

// LogEvent is an entry of a log, an Outage or an OutageOver.
type LogEvent struct {
	Kind Kind

	// Entry is the entry of the log for the kind Entry, and zero otherwise.
	Entry nomad.LogEntry

	// Err is why the log ended, or could not be opened, for the kind Outage. It is nil otherwise.
	Err error

	// Since is when the outage began, for the kinds Outage and OutageOver. Entries after it may be
	// missing. It is the start of the loop if the log was never open.
	Since time.Time

	// Time is when the entry was received, the outage was noticed, or the log was open again.
	Time time.Time
}

func (e LogEvent) outage() outage { return outage{e.Kind, e.Since, e.Time, e.Err} }

// String returns the entry on one line, as in Nomad's log, or what happened to the log.
func (e LogEvent) String() string {
	switch e.Kind {
	case Outage, OutageOver:
		return e.outage().describe()
	}
	return e.Entry.String()
}

// MarshalJSON encodes the event as an object with kind, time, entry, since, duration (of an outage
// that is over, such as "1m30s") and error. What the kind does not have is absent.
func (e LogEvent) MarshalJSON() ([]byte, error) {
	var entry *nomad.LogEntry
	if e.Kind == Entry {
		entry = &e.Entry
	}
	return show.JSON(struct {
		header
		Entry *nomad.LogEntry `json:"entry,omitzero"`
	}{e.outage().header(), entry})
}

const (
	minLogBackoff = 500 * time.Millisecond // before the log is opened again
	maxLogBackoff = 10 * time.Second

	// maxRefusals is for how long a log that was open before may be refused: an agent that restarts
	// does not know tokens for a moment, and nobody knows an agent that restarts.
	maxRefusals = 30 * time.Second

	// stallLimit is how long nothing was received when a stream ends with ErrStreamStalled.
	stallLimit = 10 * time.Second
)

// errLogEnded is the error of an Outage that began because the agent ended the log in good order.
var errLogEnded = errors.New("nomad: the agent ended the log")

// Log follows the log of an agent until the context ends. When the stream ends or stalls, Log opens
// it again. Entries are always requested as JSON, whatever opts.JSON says.
//
// When the stream ends, an Outage has the reason, and OutageOver follows when it is open again. No
// entry is repeated. Entries between Since and Time of the OutageOver may be missing. The stream is
// opened again after 0.5 s, then at doubled intervals up to 10 s. Agents drop entries if the loop
// is too slow; that is not reported.
//
// The errors of the package comment end the loop. So does an agent that responds with
// ErrPermissionDenied, ErrInvalidArgument, ErrNotFound (the target), ErrServerOnly, ErrClientOnly
// or ErrUnsupported: at once if the log has never been open, and otherwise if that lasts for 30 s.
// An agent that restarts can refuse a good token, or not know a target, for a while.
//
// It requires the ACL capability agent:read.
func Log(ctx context.Context, agent LogAgent, opts nomad.MonitorOptions) iter.Seq2[LogEvent, error] {
	opts.JSON = true
	return sequence(ctx, func(emit func(LogEvent) bool) error {
		f := follower{emit: emit, known: time.Now()}
		for backoff := time.Duration(0); ctx.Err() == nil; {
			opened := time.Now()
			logs, err := agent.Monitor(ctx, opts)
			if err == nil {
				opened = time.Now()
				err = f.follow(logs)
			}
			lasted := time.Since(opened)
			switch {
			case ctx.Err() != nil || f.left:
				return endOf(ctx)
			case f.isFinal(err):
				return err
			case !f.out && !f.lose(err):
				return endOf(ctx)
			}
			if logs != nil && lasted >= backoff {
				backoff = 0
			}
			backoff = min(max(2*backoff, minLogBackoff), maxLogBackoff)
			pause(ctx, backoff)
		}
		return endOf(ctx)
	})
}

// follower follows a log over the streams that it comes in.
type follower struct {
	emit    func(LogEvent) bool
	known   time.Time // until when the log is known without a gap
	out     bool      // an outage was reported that is not over
	opened  bool      // the log was open
	left    bool      // the loop was left
	refused time.Time // since when the log is refused; zero if it is not
}

// follow reports the entries of a stream until that ends, and returns why it did.
func (f *follower) follow(logs *nomad.LogStream) error {
	defer logs.Close()
	if f.out {
		if f.left = !f.emit(LogEvent{Kind: OutageOver, Since: f.known, Time: time.Now()}); f.left {
			return nil
		}
	}
	f.known, f.opened, f.out, f.refused = time.Now(), true, false, time.Time{}
	for entry, err := range logs.Entries() {
		if err != nil {
			return err
		}
		f.known = time.Now()
		if f.left = !f.emit(LogEvent{Kind: Entry, Entry: entry, Time: f.known}); f.left {
			return nil
		}
	}
	return errLogEnded
}

// lose reports an outage. It returns whether to continue.
func (f *follower) lose(err error) bool {
	now := time.Now()
	if since := now.Add(-stallLimit); !errors.Is(err, nomad.ErrStreamStalled) {
		f.known = now
	} else if since.After(f.known) {
		f.known = since
	}
	f.out = true
	return f.emit(LogEvent{Kind: Outage, Err: err, Since: f.known, Time: now})
}

// isFinal reports whether waiting cannot cure an error.
func (f *follower) isFinal(err error) bool {
	is := func(target error) bool { return errors.Is(err, target) }
	refusals := []error{nomad.ErrPermissionDenied, nomad.ErrInvalidArgument, nomad.ErrNotFound, nomad.ErrServerOnly,
		nomad.ErrClientOnly, nomad.ErrUnsupported}
	switch {
	case is(nomad.ErrClosed):
		return true
	case !slices.ContainsFunc(refusals, is):
		f.refused = time.Time{}
		return false
	case !f.opened || !isResponse(err):
		return true
	case f.refused.IsZero():
		f.refused = time.Now()
	}
	return time.Since(f.refused) >= maxRefusals
}
