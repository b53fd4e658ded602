package watch_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

// wire responds to log requests. Each request gets the next stream, and later ones get the last again.
type wire struct {
	streams  []func(w *stream)
	requests []time.Duration
	queries  []string
	began    time.Time
	group    sync.WaitGroup
}

// stream is a response that is written while it is read.
type stream struct {
	*io.PipeWriter
	ctx    context.Context
	refuse func(status int, body string)
	lose   func() // fails the request
}

func (s *stream) beat() { io.WriteString(s, "{}") }

// hang sends nothing more and keeps the response open until the client cancels the request.
func (s *stream) hang() {
	<-s.ctx.Done()
	time.Sleep(time.Second)
}

func (s *stream) log(message string) {
	entry := fmt.Sprintf(`{"@level":"warn","@module":"nomad","@message":%q,"n":1}`+"\n", message)
	fmt.Fprintf(s, `{"Data":%q}`, base64.StdEncoding.EncodeToString([]byte(entry)))
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.requests = append(w.requests, time.Since(w.began))
	w.queries = append(w.queries, req.URL.RawQuery)
	play := w.streams[min(len(w.requests), len(w.streams))-1]
	body, out := io.Pipe()
	header := http.Header{"Content-Type": {"application/json"}}
	res := &http.Response{StatusCode: 200, Header: header, Body: body, Request: req}
	var err error
	ready := make(chan struct{})
	once := sync.OnceFunc(func() { close(ready) })
	s := &stream{PipeWriter: out, ctx: req.Context()}
	s.refuse = func(status int, text string) {
		res.StatusCode = status
		once()
		io.WriteString(out, text)
	}
	s.lose = func() { err = errors.New("no route to host"); once() }
	context.AfterFunc(req.Context(), func() { body.CloseWithError(req.Context().Err()) })
	w.group.Go(func() {
		defer out.Close()
		defer once()
		time.AfterFunc(time.Millisecond, once)
		play(s)
	})
	<-ready
	if err != nil {
		return nil, err
	}
	return res, nil
}

// play follows the log in simulated time. It returns the events, the events as strings with their time,
// and the final error.
func (w *wire) play(
	t *testing.T, lasts time.Duration, opts nomad.MonitorOptions,
) (reported []string, events []watch.LogEvent, end error) {
	synctest.Test(t, func(t *testing.T) {
		client, err := nomad.NewClient(nomad.WithHTTPClient(&http.Client{Transport: w}), nomad.WithRetries(0),
			nomad.WithToken("secret-token"))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		w.began = time.Now()
		for event, err := range watch.Log(ctx, client.Agent, opts) {
			if end = err; err != nil {
				continue // this is the last iteration
			}
			events = append(events, event)
			text := string(event.Kind)
			if event.Kind == watch.Entry {
				text = event.Entry.Message
			}
			reported = append(reported, fmt.Sprintf("%s at %.0fs", text, event.Time.Sub(w.began).Seconds()))
		}
		synctest.Wait()
		w.group.Wait()
	})
	return reported, events, end
}

func lasting(messages ...string) func(*stream) {
	return func(s *stream) {
		s.beat()
		for _, message := range messages {
			s.log(message)
		}
		for s.ctx.Err() == nil {
			time.Sleep(time.Second)
			s.beat()
		}
	}
}

func refused(status int, text string) func(*stream) {
	return func(s *stream) { s.refuse(status, text) }
}

func lost(s *stream) { s.lose() }

// TestLog has streams that end normally, in the middle of a frame, by a stall and because the agent cannot
// be reached.
func TestLog(t *testing.T) {
	w := &wire{streams: []func(*stream){
		func(s *stream) { s.beat(); s.log("one"); time.Sleep(5 * time.Second); s.log("two") },
		func(s *stream) { s.beat(); s.log("three"); io.WriteString(s, `{"Data":`) },
		func(s *stream) { s.beat(); s.log("four"); s.hang() },
		lost, lost, lost, lost, lost, lost, lost, lost,
		lasting("five"),
	}}
	reported, events, end := w.play(t, 2*time.Minute, nomad.MonitorOptions{Level: nomad.LevelWarn})
	assert.Equal(t, context.DeadlineExceeded, end)
	require.Len(t, reported, 11, reported)
	for i, kind := range []watch.Kind{
		watch.Entry, watch.Entry, watch.Outage, watch.OutageOver, watch.Entry, watch.Outage, watch.OutageOver,
		watch.Entry, watch.Outage, watch.OutageOver, watch.Entry,
	} {
		assert.Equal(t, kind, events[i].Kind, reported)
	}
	assert.Equal(t, []string{"one at 0s", "two at 5s", "outage at 5s"}, reported[:3])
	assert.Regexp(t, `^four at [67]s$`, reported[7])

	ended, cut, stalled := events[2], events[5], events[8]
	assert.Error(t, ended.Err)
	assert.Equal(t, ended.Time, ended.Since)
	assert.ErrorIs(t, cut.Err, nomad.ErrStreamEnded)
	assert.ErrorIs(t, cut.Err, io.ErrUnexpectedEOF)
	assert.ErrorIs(t, stalled.Err, nomad.ErrStreamStalled)
	assert.Equal(t, events[7].Time, stalled.Since, "the gap begins at the last entry")
	assert.Equal(t, 10*time.Second, stalled.Time.Sub(stalled.Since))
	over := events[9]
	assert.Equal(t, stalled.Since, over.Since)
	assert.Greater(t, over.Time.Sub(over.Since), 40*time.Second, "0.5, 1, 2, 4, 8, 10, 10 and 10 s")
	assert.Less(t, over.Time.Sub(over.Since), 70*time.Second)
	assert.Contains(t, over.String(), "outage over after ")
	for _, query := range w.queries {
		assert.Equal(t, "log_json=true&log_level=warn", query)
	}
}

// TestLogStalledLater has a stream stall a minute after its last entry. The gap begins at the last frame.
func TestLogStalledLater(t *testing.T) {
	w := &wire{streams: []func(*stream){func(s *stream) {
		s.beat()
		s.log("one")
		for range 60 {
			time.Sleep(time.Second)
			s.beat()
		}
		s.hang()
	}, lasting()}}
	reported, events, _ := w.play(t, 2*time.Minute, nomad.MonitorOptions{})
	require.Equal(t, []string{"one at 0s", "outage at 70s"}, reported[:2])
	assert.Equal(t, 60, int(events[1].Since.Sub(w.began).Seconds()))
}

// TestLogNotThereYet starts during an outage.
func TestLogNotThereYet(t *testing.T) {
	w := &wire{streams: []func(*stream){
		lost, lost, refused(500, "No cluster leader"), refused(502, "bad gateway"), lasting("one"),
	}}
	reported, events, _ := w.play(t, time.Minute, nomad.MonitorOptions{})
	require.Len(t, reported, 3, reported)
	assert.Equal(t, "outage at 0s", reported[0])
	assert.Equal(t, events[0].Since, events[1].Since)
	assert.Equal(t, watch.OutageOver, events[1].Kind)
	assert.Contains(t, reported[2], "one at ")
}

// TestLogBackoff has an agent that ends every log at once, for an hour.
func TestLogBackoff(t *testing.T) {
	w := &wire{streams: []func(*stream){func(s *stream) { s.beat(); s.log("x") }}}
	reported, _, end := w.play(t, time.Hour, nomad.MonitorOptions{})
	assert.Equal(t, context.DeadlineExceeded, end)
	assert.InDelta(t, 364, len(w.requests), 20, "finally every 10 s")
	assert.InDelta(t, 3*len(w.requests), len(reported), 3)

	// A stream that lasted is opened again without a long delay.
	w = &wire{streams: []func(*stream){func(s *stream) {
		for range 30 {
			s.beat()
			time.Sleep(time.Second)
		}
	}}}
	_, _, _ = w.play(t, time.Hour, nomad.MonitorOptions{})
	assert.InDelta(t, 118, len(w.requests), 3, "30 s and a delay of half a second")
}

// TestLogEnds checks that permanent errors end the loop.
func TestLogEnds(t *testing.T) {
	empty := func(*stream) {}
	denied := refused(403, "Permission denied")
	for name, test := range map[string]struct {
		streams  []func(*stream)
		opts     nomad.MonitorOptions
		want     error
		requests int
	}{
		"permission":   {streams: []func(*stream){denied}, want: nomad.ErrPermissionDenied, requests: 1},
		"token":        {streams: []func(*stream){empty}, want: nomad.ErrInvalidToken, requests: 2},
		"target":       {streams: []func(*stream){refused(400, "unknown Nomad server x")}, want: nomad.ErrNotFound, requests: 1},
		"unsupported":  {streams: []func(*stream){refused(404, "")}, want: nomad.ErrUnsupported, requests: 1},
		"level":        {opts: nomad.MonitorOptions{Level: "loud"}, want: nomad.ErrInvalidArgument},
		"after losses": {streams: []func(*stream){lost, lost, denied}, want: nomad.ErrPermissionDenied, requests: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := &wire{streams: test.streams}
			_, _, end := w.play(t, time.Hour, test.opts)
			assert.ErrorIs(t, end, test.want)
			assert.NotContains(t, end.Error(), "secret-token")
			assert.Len(t, w.requests, test.requests)
		})
	}
	t.Run("a token that is revoked", func(t *testing.T) {
		w := &wire{streams: []func(*stream){func(s *stream) { s.beat(); s.log("one") }, refused(403, "Permission denied")}}
		reported, _, end := w.play(t, time.Hour, nomad.MonitorOptions{})
		assert.Equal(t, []string{"one at 0s", "outage at 0s"}, reported)
		assert.ErrorIs(t, end, nomad.ErrPermissionDenied)
		assert.Less(t, w.requests[len(w.requests)-1], 45*time.Second)
	})
	t.Run("a target that restarts", func(t *testing.T) {
		gone := refused(500, "RPC Error:: 404,No path to node")
		w := &wire{streams: []func(*stream){func(s *stream) { s.beat(); s.log("one") }, gone, gone, gone, lasting("two")}}
		reported, _, end := w.play(t, time.Minute, nomad.MonitorOptions{})
		require.Len(t, reported, 4, reported)
		assert.Contains(t, reported[3], "two at ")
		assert.Equal(t, context.DeadlineExceeded, end)
	})
}

// TestLogOnNetwork follows the log of an agent in memory that restarts, and ends the loop in different
// ways.
func TestLogOnNetwork(t *testing.T) {
	cluster := nomadtest.NewCluster()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer cluster.Close()
	agent := cluster.Agent("server-1")
	client := agent.Client()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			agent.Log("info", "nomad", "entry", "n", n)
			time.Sleep(time.Millisecond)
		}
	})
	for range 3 { // each break ends the stream
		for event, err := range watch.Log(ctx, client.Agent, nomad.MonitorOptions{}) {
			require.NoError(t, err)
			assert.Equal(t, watch.Entry, event.Kind)
			break
		}
	}
	var kinds []watch.Kind
	for event, err := range watch.Log(ctx, client.Agent, nomad.MonitorOptions{}) {
		if err != nil {
			assert.Equal(t, context.Canceled, err)
			break
		}
		if len(kinds) == 0 || kinds[len(kinds)-1] != event.Kind {
			kinds = append(kinds, event.Kind)
			switch len(kinds) {
			case 1:
				group.Go(func() { agent.Stop(); agent.Start() })
			case 4:
				cancel()
			}
		}
	}
	assert.Equal(t, []watch.Kind{watch.Entry, watch.Outage, watch.OutageOver, watch.Entry}, kinds)
	assert.PanicsWithValue(t, "mine", func() {
		for range watch.Log(ctx, client.Agent, nomad.MonitorOptions{}) {
			panic("mine")
		}
	})
	client.Close()
	for _, err := range watch.Log(t.Context(), client.Agent, nomad.MonitorOptions{}) {
		assert.ErrorIs(t, err, nomad.ErrClosed)
	}
}

// TestJSON encodes one event of each kind.
func TestJSON(t *testing.T) {
	since := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	at := since.Add(1500 * time.Millisecond)
	member := nomad.Member{Name: "server-2.global", Status: nomad.StatusFailed}
	encoded, err := json.Marshal(member)
	require.NoError(t, err)
	m := string(encoded)
	broken := errors.New("no route\nto host")
	for _, test := range []struct {
		event fmt.Stringer
		json  string
		text  string
	}{
		{watch.MemberEvent{Kind: watch.Joined, After: member, Time: at},
			`{"kind":"joined","time":"2026-11-23T18:00:01.5Z","name":"server-2.global","after":` + m + `}`, "server-2.global joined"},
		{watch.MemberEvent{Kind: watch.Updated, Before: member, After: member, Changed: []string{"Tags.a", "Port"}, Time: at},
			`{"kind":"updated","time":"2026-11-23T18:00:01.5Z","name":"server-2.global","before":` + m + `,"after":` + m + `,"changed":["Tags.a","Port"]}`,
			"server-2.global updated: Tags.a, Port"},
		{watch.MemberEvent{Kind: watch.Synced, Time: at}, `{"kind":"synced","time":"2026-11-23T18:00:01.5Z"}`, "synced"},
		{watch.MemberEvent{Kind: watch.Outage, Since: since, Time: at, Err: broken},
			`{"kind":"outage","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:00Z","error":"no route\\nto host"}`,
			`outage: no route\nto host (since 2026-11-23T18:00:00Z)`},
		{watch.MemberEvent{Kind: watch.OutageOver, Since: since, Time: at},
			`{"kind":"outage_over","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:00Z","duration":"1.5s"}`, "outage over after 1.5s"},
		{watch.HealthEvent{Kind: watch.Healthy, After: nomad.Health{Client: &nomad.RoleHealth{OK: true, Message: "ok"}}, Time: at},
			`{"kind":"healthy","time":"2026-11-23T18:00:01.5Z","after":{"client":{"ok":true,"message":"ok"}}}`, "healthy"},
		{watch.HealthEvent{Kind: watch.Unhealthy, After: nomad.Health{Server: &nomad.RoleHealth{Message: "a\x1b[2J\xff"}}, Err: broken, Time: at},
			`{"kind":"unhealthy","time":"2026-11-23T18:00:01.5Z","error":"no route\\nto host","after":{"server":{"ok":false,"message":"a\u001b[2J` + "\uFFFD" + `"}}}`,
			`unhealthy: server: a\x1b[2J\xff`},
		{watch.HealthEvent{Kind: watch.OutageOver, Since: since, Time: at},
			`{"kind":"outage_over","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:00Z","duration":"1.5s"}`, "outage over after 1.5s"},
		{watch.LogEvent{Kind: watch.Entry, Entry: nomad.LogEntry{Level: nomad.LevelWarn, Message: "m", Fields: map[string]any{"b": 1.0, "a": "x"}}, Time: at},
			`{"kind":"entry","time":"2026-11-23T18:00:01.5Z","entry":{"level":"warn","message":"m","fields":{"a":"x","b":1}}}`, "[WARN]  m: a=x b=1"},
		{watch.LogEvent{Kind: watch.Entry, Time: at}, `{"kind":"entry","time":"2026-11-23T18:00:01.5Z","entry":{"message":""}}`, ""},
		{watch.LogEvent{Kind: watch.Outage, Since: since, Time: at, Err: broken},
			`{"kind":"outage","time":"2026-11-23T18:00:01.5Z","since":"2026-11-23T18:00:00Z","error":"no route\\nto host"}`,
			`outage: no route\nto host (since 2026-11-23T18:00:00Z)`},
	} {
		got, err := json.Marshal(test.event)
		require.NoError(t, err)
		assert.Equal(t, test.json, string(got))
		for _, verb := range []string{"%v", "%+v", "%s"} {
			assert.Equal(t, test.text, fmt.Sprintf(verb, test.event))
		}
	}
}
