package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/watch"
)

// soon has short intervals, so that the examples end soon. Most programs use the zero Options.
var soon = watch.Options{Interval: 20 * time.Millisecond, Settle: 10 * time.Millisecond}

func ExampleMembers() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	for event, err := range watch.Members(context.Background(), client.Agent, soon) {
		if err != nil {
			log.Fatal(err) // the context has ended or the Client was closed
		}
		fmt.Println(event)
		switch event.Kind {
		case watch.Synced:
			cluster.Agent("server-3").Stop() // causes an event
		case watch.Failed:
			cluster.Agent("server-3").SetTag("build", "2.0.6")
			cluster.Agent("server-3").Start()
		case watch.Recovered:
			fmt.Println(event.Before.Build(), "before,", event.After.Build(), "now; changed:", event.Changed)
			return // ends the watch
		}
	}
	// Output:
	// server-1.global joined
	// server-2.global joined
	// server-3.global joined
	// synced
	// server-3.global failed
	// server-3.global recovered
	// 2.0.5 before, 2.0.6 now; changed: [Status Tags.build]
}

// A map of After by Name always has the current state of the pool.
func ExampleMembers_keep() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	pool := map[string]nomad.Member{}
	for event, err := range watch.Members(context.Background(), client.Agent, soon) {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Kind == watch.Outage:
			fmt.Println("what is known may be old:", event)
		case event.Kind == watch.OutageOver:
		case event.Kind == watch.Synced:
			fmt.Println(len(pool), "members")
			return
		case event.Kind == watch.Removed:
			delete(pool, event.Name())
		default:
			pool[event.Name()] = event.After
		}
	}
	// Output: 3 members
}

// The beginning and the end of an outage are events.
func ExampleMembers_outage() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	cluster.Agent("server-1").Stop()

	for event, err := range watch.Members(context.Background(), client.Agent, soon) {
		if err != nil {
			log.Fatal(err)
		}
		switch event.Kind {
		case watch.Outage:
			fmt.Println("no response for less than a minute:", time.Since(event.Since) < time.Minute)
			cluster.Agent("server-1").Start()
		case watch.OutageOver:
			fmt.Println("it is back")
			return
		}
	}
	// Output:
	// no response for less than a minute: true
	// it is back
}

func ExampleHealth() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	for event, err := range watch.Health(context.Background(), client.Agent, soon, nomad.RoleServer) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event)
		if errors.Is(event.Err, nomad.ErrNoLeader) {
			return
		}
		cluster.Agent("server-2").Stop() // two of three servers are down, so there is no quorum
		cluster.Agent("server-3").Stop()
	}
	// Output:
	// healthy
	// unhealthy: server: No cluster leader
}

// Log follows the log of an agent that restarts. The gap is reported as an outage.
func ExampleLog() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	agent := cluster.Agent("server-1")
	client := agent.Client(nomad.WithRetries(0))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() { // something to read
		for ctx.Err() == nil {
			agent.Log("warn", "nomad.heartbeat", "node TTL expired")
			time.Sleep(10 * time.Millisecond)
		}
	}()

	stop := sync.OnceFunc(agent.Stop)
	continued := false
	for event, err := range watch.Log(ctx, client.Agent, nomad.MonitorOptions{Level: nomad.LevelWarn}) {
		switch {
		case err != nil:
			log.Fatal(err) // such as ErrPermissionDenied
		case event.Kind == watch.Outage:
			fmt.Println("entries are missing from now on")
			agent.Start()
		case event.Kind == watch.OutageOver:
			fmt.Println("the log continues after less than a minute:", event.Time.Sub(event.Since) < time.Minute)
			continued = true
		case continued:
			fmt.Println(event.Entry.Module+":", event.Entry.Message)
			return
		default:
			stop()
		}
	}
	// Output:
	// entries are missing from now on
	// the log continues after less than a minute: true
	// nomad.heartbeat: node TTL expired
}

// Events can be written as JSON.
func ExampleMemberEvent_json() {
	event := watch.MemberEvent{
		Kind:  watch.OutageOver,
		Since: time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC),
		Time:  time.Date(2026, 11, 23, 18, 1, 30, 0, time.UTC),
	}
	line, err := json.Marshal(event)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
	// Output: {"kind":"outage_over","time":"2026-11-23T18:01:30Z","since":"2026-11-23T18:00:00Z","duration":"1m30s"}
}
