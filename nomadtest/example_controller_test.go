package nomadtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// reaper is a controller that forces failed servers to leave after some time. It lists the whole pool
// each time, and the caller passes the current time, so that tests control the clock. The reaper in the
// folder examples uses watch.Members instead.
type reaper struct {
	agent *nomad.Agent
	after time.Duration // time that a server must have been failed
	log   *slog.Logger

	since map[string]time.Time // when each failed server was first seen as failed
}

// reconcile lists the members once and forces servers to leave. A controller calls it every few seconds
// and logs the error. The next call retries whatever failed.
func (r *reaper) reconcile(ctx context.Context, now time.Time) error {
	members, err := r.agent.Members(ctx)
	if err != nil {
		return err // r.since stays unchanged
	}
	slices.SortFunc(members.Members, nomad.CompareMembers)
	failed := map[string]time.Time{}
	for _, m := range members.Members {
		if m.Status != nomad.StatusFailed {
			continue
		}
		first, seen := r.since[m.Name]
		if !seen {
			first = now
			r.log.Info("failed", "server", m.Name)
		}
		failed[m.Name] = first
		if now.Sub(first) < r.after {
			continue
		}
		if failure := r.agent.ForceLeave(ctx, m.Name); failure != nil {
			err = errors.Join(err, failure) // continue with the other servers
			continue
		}
		r.log.Info("forced to leave", "server", m.Name)
		delete(failed, m.Name)
	}
	r.since = failed
	return err
}

// Example_controller tests a controller on a cluster in memory. A server crashes and returns, the leader
// changes, and requests fail. The output is always the same, because the test controls the clock.
func Example_controller() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	ctx := context.Background()
	first := cluster.Agent("server-1")
	r := &reaper{
		agent: first.Client(nomad.WithRetries(0)).Agent,
		after: time.Minute,
		log:   slog.New(slog.NewTextHandler(os.Stdout, withoutTime)),
	}
	now := time.Now()
	reconcile := func(after time.Duration) {
		now = now.Add(after)
		if err := r.reconcile(ctx, now); err != nil {
			fmt.Println("error:", short(err))
		}
	}

	fmt.Println("A server crashes and returns in time.")
	cluster.Agent("server-5").Stop()
	reconcile(0)
	reconcile(59 * time.Second)
	cluster.Agent("server-5").Start()
	reconcile(time.Second)

	fmt.Println("It crashes for good, and requests fail when it is due to leave.")
	cluster.Agent("server-5").Stop()
	reconcile(0)
	first.Inject(nomadtest.Truncate(100), nomadtest.On("members"), nomadtest.Times(1))
	reconcile(time.Minute)
	first.Inject(nomadtest.Status(503, "draining"), nomadtest.On("force-leave"), nomadtest.Times(1))
	reconcile(time.Second)
	reconcile(time.Second)

	fmt.Println("The leader crashes, and another server takes over.")
	cluster.Agent("server-2").TakeLead()
	cluster.Agent("server-2").Stop()
	fmt.Println("leader:", cluster.Leader().Name())
	reconcile(time.Minute)
	reconcile(time.Minute)

	fmt.Println("PUT requests that the agent received:")
	for _, request := range first.Requests() {
		if request.Method == "PUT" {
			fmt.Println(request.Path, request.Query.Get("node"))
		}
	}
	// Output:
	// A server crashes and returns in time.
	// level=INFO msg=failed server=server-5.global
	// It crashes for good, and requests fail when it is due to leave.
	// level=INFO msg=failed server=server-5.global
	// error: unexpected EOF
	// error: 503 draining
	// level=INFO msg="forced to leave" server=server-5.global
	// The leader crashes, and another server takes over.
	// leader: server-1
	// level=INFO msg=failed server=server-2.global
	// level=INFO msg="forced to leave" server=server-2.global
	// PUT requests that the agent received:
	// /v1/agent/force-leave server-5.global
	// /v1/agent/force-leave server-5.global
	// /v1/agent/force-leave server-2.global
}

// withoutTime removes the time from log records, so that the output is always the same.
var withoutTime = &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

// short returns the message of an error without the agent's address, which differs from run to run.
func short(err error) string {
	var failure *nomad.APIError
	switch {
	case errors.As(err, &failure):
		return fmt.Sprint(failure.StatusCode, " ", strings.TrimSpace(failure.Message))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF.Error()
	}
	return err.Error()
}
