package bench

import (
	"context"
	"os"
	"testing"
	"time"

	official "github.com/hashicorp/nomad/api"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestOfficialClientOnLentConnections uses Nomad's official client with the connections of this library and a
// real agent. It makes short requests, blocking queries, streams and writes concurrently, together with
// calls of Members.
func TestOfficialClientOnLentConnections(t *testing.T) {
	if os.Getenv("NOMAD_BIN") == "" {
		t.Skip("NOMAD_BIN does not name a nomad binary")
	}
	process, err := nomadtest.StartProcess(t.Context(), nomadtest.Servers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	own, err := nomad.NewClient(nomad.WithAddress(process.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	client, err := official.NewClient(&official.Config{Address: own.Address(), HttpClient: own.HTTPClient()})
	if err != nil {
		t.Fatal(err)
	}
	for { // until there is a leader
		if leader, err := client.Status().Leader(); err == nil && leader != "" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}

	jobs, meta, err := client.Jobs().List(nil)
	if err != nil || len(jobs) != 0 {
		t.Fatalf("%v, %v", jobs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan string)
	for range 64 { // each blocks for 30 s and the jitter that the agent adds
		go func() {
			began := time.Now()
			options := (&official.QueryOptions{WaitIndex: max(meta.LastIndex, 1), WaitTime: 30 * time.Second}).WithContext(ctx)
			_, _, err := client.Jobs().List(options)
			if err != nil || time.Since(began) < 29*time.Second {
				done <- "a blocking query ended after " + time.Since(began).String()
			} else {
				done <- ""
			}
		}()
	}
	events, err := client.EventStream().Stream(ctx, map[official.Topic][]string{official.TopicAll: {"*"}}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	logs, errs := client.Agent().Monitor(stop, (&official.QueryOptions{Params: map[string]string{"log_level": "TRACE"}}).WithContext(ctx))
	if err := client.System().GarbageCollect(); err != nil { // a PUT
		t.Fatal(err)
	}
	select {
	case frame := <-logs:
		if frame == nil {
			t.Fatal("the log ended")
		}
	case err := <-errs:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("no log")
	}
	if len(events) > 0 {
		if event := <-events; event.Err != nil {
			t.Fatal(event.Err)
		}
	}
	for range 1000 {
		if _, err := client.Agent().Members(); err != nil {
			t.Fatal(err)
		}
	}
	for range 64 {
		if problem := <-done; problem != "" {
			t.Error(problem)
		}
	}
	close(stop)
}
