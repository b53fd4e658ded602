package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "16") // most tests wait; the flag -parallel overrides it
	goleak.VerifyTestMain(m)
}

// start runs a reaper on a cluster. stop ends it and returns its log.
func start(t *testing.T, cluster *nomadtest.Cluster, change func(*reaper)) (stop func() string) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	r := &reaper{
		client: cluster.Client("server-1", nomad.WithRetries(0)), after: 150 * time.Millisecond, retry: 50 * time.Millisecond,
		watch: watch.Options{Interval: 10 * time.Millisecond, Settle: 10 * time.Millisecond},
		log:   slog.New(slog.NewTextHandler(&log, nil)),
	}
	if change != nil {
		change(r)
	}
	var group sync.WaitGroup
	group.Go(func() { assert.NoError(t, r.run(ctx)) })
	return sync.OnceValue(func() string {
		cancel()
		group.Wait()
		return log.String()
	})
}

// status returns the status of a server in the pool, or an empty one if the pool does not list it.
func status(t *testing.T, cluster *nomadtest.Cluster, name string) nomad.MemberStatus {
	pool, err := cluster.Client("server-2").Agent.Members(t.Context())
	require.NoError(t, err)
	member, _, _ := find(pool.Members, name+".global")
	return member.Status
}

func becomes(t *testing.T, cluster *nomadtest.Cluster, name string, want nomad.MemberStatus) {
	t.Helper()
	assert.Eventually(t, func() bool { return status(t, cluster, name) == want }, 20*time.Second, 10*time.Millisecond, "%s does not become %q", name, want)
}

func newCluster(t *testing.T, opts ...nomadtest.Option) *nomadtest.Cluster {
	cluster := nomadtest.NewCluster(append([]nomadtest.Option{nomadtest.Servers(5)}, opts...)...)
	t.Cleanup(cluster.Close)
	return cluster
}

func TestWhatStaysFailedLeaves(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	cluster.Agent("server-4").Stop() // before the watch begins
	stop := start(t, cluster, nil)
	becomes(t, cluster, "server-4", nomad.StatusLeft)
	cluster.Agent("server-5").Stop()
	becomes(t, cluster, "server-5", nomad.StatusLeft)
	log := stop()
	assert.Contains(t, log, `msg="forced to leave" server=server-4.global`)
	assert.Contains(t, log, `msg="forced to leave" server=server-5.global`)
	assert.True(t, strings.HasSuffix(log, "msg=stopped\n"))
}

func TestPrune(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	start(t, cluster, func(r *reaper) { r.prune = true })
	cluster.Agent("server-5").Stop()
	becomes(t, cluster, "server-5", "")
}

func TestWhatRecoversStays(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, func(r *reaper) { r.after = 600 * time.Millisecond })
	cluster.Agent("server-4").Stop()
	time.Sleep(200 * time.Millisecond)
	cluster.Agent("server-4").Start()
	time.Sleep(time.Second)
	assert.Equal(t, nomad.StatusAlive, status(t, cluster, "server-4"))
	assert.NotContains(t, stop(), "forced to leave")
}

func TestHalfAreLeftAlone(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, nil)
	cluster.Partition("server-3", "server-4", "server-5")
	time.Sleep(time.Second)
	for _, name := range []string{"server-3", "server-4", "server-5"} {
		assert.Equal(t, nomad.StatusFailed, status(t, cluster, name))
	}
	cluster.Heal()
	time.Sleep(200 * time.Millisecond)
	log := stop()
	assert.Contains(t, log, "2 servers of region global are alive and 3 have failed: half or more")
	assert.NotContains(t, log, "forced to leave")
}

func TestNothingIsDoneInAnOutage(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, nil)
	time.Sleep(100 * time.Millisecond)
	outage := cluster.Agent("server-1").Inject(nomadtest.Status(500, "broken"), nomadtest.On("members"))
	cluster.Agent("server-5").Stop()
	time.Sleep(500 * time.Millisecond)
	assert.Equal(t, nomad.StatusFailed, status(t, cluster, "server-5"))
	outage.Remove()
	becomes(t, cluster, "server-5", nomad.StatusLeft)
	log := stop()
	assert.Contains(t, log, "the members cannot be listed")
	assert.Contains(t, log, "500 broken")
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, func(r *reaper) { r.dryRun = true })
	cluster.Agent("server-5").Stop()
	time.Sleep(time.Second)
	assert.Equal(t, nomad.StatusFailed, status(t, cluster, "server-5"))
	assert.Contains(t, stop(), "would be forced to leave")
	for _, request := range cluster.Agent("server-1").Requests() {
		assert.Equal(t, "/v1/agent/members", request.Path)
	}
}

func TestWithoutTheRightToken(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, nomadtest.ACLs())
	stop := start(t, cluster, func(r *reaper) {
		r.client = cluster.Client("server-1", nomad.WithToken(nomadtest.NodeReadToken))
	})
	cluster.Agent("server-5").Stop()
	time.Sleep(time.Second)
	log := stop()
	assert.Contains(t, log, "403 Permission denied: it requires a valid ACL token with agent:write")
	assert.NotContains(t, log, nomadtest.NodeReadToken)
}

// TestEnoughAreKept has servers fail one after the other, never more than a few at once.
func TestEnoughAreKept(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, func(r *reaper) { r.keep = 4 })
	cluster.Agent("server-5").Stop()
	becomes(t, cluster, "server-5", nomad.StatusLeft)
	cluster.Agent("server-4").Stop()
	time.Sleep(time.Second)
	assert.Equal(t, nomad.StatusFailed, status(t, cluster, "server-4"))
	assert.Contains(t, stop(), "3 servers of region global are alive, fewer than the 4 to keep")
}

// TestARetryIsTooLate has the first ForceLeave fail and the server recover before the retry.
func TestARetryIsTooLate(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	cluster.Agent("server-1").Inject(func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		cluster.Agent("server-5").Start()
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}, nomadtest.On("force-leave"), nomadtest.Times(1))
	stop := start(t, cluster, func(r *reaper) { r.client, r.prune = cluster.Client("server-1"), true })
	cluster.Agent("server-5").Stop()
	becomes(t, cluster, "server-5", nomad.StatusAlive)
	time.Sleep(time.Second)
	assert.Equal(t, nomad.StatusAlive, status(t, cluster, "server-5"))
	assert.NotContains(t, stop(), `msg="forced to leave"`)
}

// TestAnInterruptIsLogged interrupts the reaper during a ForceLeave. The log says what became of it.
func TestAnInterruptIsLogged(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	slow := cluster.Agent("server-1").Inject(nomadtest.Delay(300*time.Millisecond), nomadtest.On("force-leave"))
	cluster.Agent("server-4").Stop()
	stop := start(t, cluster, nil)
	assert.Eventually(t, func() bool { return slow.Hits() > 0 }, 20*time.Second, time.Millisecond)
	assert.Contains(t, stop(), `msg="forced to leave" server=server-4.global`)
	assert.Equal(t, nomad.StatusLeft, status(t, cluster, "server-4"))
}

// TestTheClockStartsAgain checks that the time starts again after an outage, and for another machine with the
// same name.
func TestTheClockStartsAgain(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	stop := start(t, cluster, func(r *reaper) { r.after = 1500 * time.Millisecond })
	cluster.Agent("server-5").Stop()
	time.Sleep(time.Second)
	outage := cluster.Agent("server-1").Inject(nomadtest.Status(500, "broken"), nomadtest.On("members"), nomadtest.Times(1))
	for outage.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	ended := time.Now()
	becomes(t, cluster, "server-5", nomad.StatusLeft)
	assert.Greater(t, time.Since(ended), 1400*time.Millisecond)
	stop()
}

// TestARefusedTokenIsReported checks that a 403 is reported, and not as a missing response.
func TestARefusedTokenIsReported(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t, nomadtest.ACLs())
	stop := start(t, cluster, func(r *reaper) { r.client = cluster.Client("server-1", nomad.WithToken("")) })
	assert.Eventually(t, func() bool { return len(cluster.Agent("server-1").Requests()) > 1 }, 20*time.Second, 10*time.Millisecond)
	log := stop()
	assert.Contains(t, log, "the members cannot be listed")
	assert.Contains(t, log, "403 Permission denied")
	assert.NotContains(t, log, "respond")
}

// TestRun runs the program with -demo, interrupts it, and runs it with a log that cannot be written.
func TestRun(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	code, err := run(t.Context(), []string{"-demo", "-json"}, &out, &errs)
	require.NoError(t, err)
	assert.Equal(t, 0, code)
	assert.Contains(t, out.String(), `"msg":"forced to leave","server":"server-4.global"`)
	assert.Contains(t, out.String(), `"msg":"recovered","server":"server-5.global"`)

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	code, err = run(ctx, []string{"-demo"}, &out, &errs)
	require.NoError(t, err)
	assert.Equal(t, 0, code)

	reader, writer := io.Pipe()
	reader.Close()
	code, err = run(t.Context(), []string{"-demo"}, writer, &errs)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	assert.Equal(t, 2, code)
}
