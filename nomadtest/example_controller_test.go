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

// reaper is a controller: it forces servers to leave that stay failed. It looks at the whole pool each time, by a clock that
// its test has in hand; the reaper in the folder examples is one that follows watch.Members.
type reaper struct {
	agent *nomad.Agent
	after time.Duration // for how long a server must have failed
	log   *slog.Logger

	since map[string]time.Time // when each failed server was first seen so
}

// look does what is to be done at a time. A controller calls it every few seconds; an error is for its log, as the next
// look makes good for it.
func (r *reaper) look(ctx context.Context, now time.Time) error {
	members, err := r.agent.Members(ctx)
	if err != nil {
		return err // nothing is known, and nothing is forgotten
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
			err = errors.Join(err, failure) // the others have their turn
			continue
		}
		r.log.Info("forced to leave", "server", m.Name)
		delete(failed, m.Name)
	}
	r.since = failed
	return err
}

// Example_controller tests a controller on a cluster in memory: a server dies and comes back, the leader moves, and the
// network misbehaves. The test's own clock makes it the same each time.
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
	look := func(after time.Duration) {
		now = now.Add(after)
		if err := r.look(ctx, now); err != nil {
			fmt.Println("error:", short(err))
		}
	}

	fmt.Println("A server dies, and comes back in time.")
	cluster.Agent("server-5").Stop()
	look(0)
	look(59 * time.Second)
	cluster.Agent("server-5").Start()
	look(time.Second)

	fmt.Println("It dies for good, and the network misbehaves when its time has come.")
	cluster.Agent("server-5").Stop()
	look(0)
	first.Inject(nomadtest.Truncate(100), nomadtest.On("members"), nomadtest.Times(1))
	look(time.Minute)
	first.Inject(nomadtest.Status(503, "draining"), nomadtest.On("force-leave"), nomadtest.Times(1))
	look(time.Second)
	look(time.Second)

	fmt.Println("The leader dies, and another takes over.")
	cluster.Agent("server-2").TakeLead()
	cluster.Agent("server-2").Stop()
	fmt.Println("leader:", cluster.Leader().Name())
	look(time.Minute)
	look(time.Minute)

	fmt.Println("What the agent was asked to do:")
	for _, request := range first.Requests() {
		if request.Method == "PUT" {
			fmt.Println(request.Path, request.Query.Get("node"))
		}
	}
	// Output:
	// A server dies, and comes back in time.
	// level=INFO msg=failed server=server-5.global
	// It dies for good, and the network misbehaves when its time has come.
	// level=INFO msg=failed server=server-5.global
	// error: unexpected EOF
	// error: 503 draining
	// level=INFO msg="forced to leave" server=server-5.global
	// The leader dies, and another takes over.
	// leader: server-1
	// level=INFO msg=failed server=server-2.global
	// level=INFO msg="forced to leave" server=server-2.global
	// What the agent was asked to do:
	// /v1/agent/force-leave server-5.global
	// /v1/agent/force-leave server-5.global
	// /v1/agent/force-leave server-2.global
}

// withoutTime leaves the time out of a log, for the sake of the test.
var withoutTime = &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

// short is an error without the agent's address, which is different each time.
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
