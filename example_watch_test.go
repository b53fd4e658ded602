package nomad_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func ExampleAgent_WatchMembers() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	opts := nomad.WatchOptions{Interval: 20 * time.Millisecond, Settle: 10 * time.Millisecond} // an example has to end soon
	for event, err := range client.Agent.WatchMembers(context.Background(), opts) {
		if err != nil {
			log.Print(err) // an outage: the watch goes on, and tells what was missed
			continue
		}
		fmt.Println(event)
		switch event.Kind {
		case nomad.MembersSynced:
			cluster.Agent("server-3").Stop() // now something happens
		case nomad.MemberFailed:
			cluster.Agent("server-3").SetTag("build", "2.0.6")
			cluster.Agent("server-3").Start()
		case nomad.MemberRecovered:
			fmt.Println(event.Before.Build(), "before,", event.After.Build(), "now; changed:", event.Changed)
			return // the end of the loop is the end of the watch
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

// What is known of the pool is kept as the events have it.
func ExampleAgent_WatchMembers_keep() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	pool := map[string]nomad.Member{}
	opts := nomad.WatchOptions{Interval: 20 * time.Millisecond, Settle: 10 * time.Millisecond} // an example has to end soon
	for event, err := range client.Agent.WatchMembers(context.Background(), opts) {
		switch {
		case err != nil:
			fmt.Println("what is known may be old:", err)
		case event.Kind == nomad.MembersSynced:
			fmt.Println(len(pool), "members")
			return
		case event.Kind == nomad.MemberRemoved:
			delete(pool, event.Name())
		default:
			pool[event.Name()] = event.After
		}
	}
	// Output: 3 members
}

func ExampleAgent_WatchHealth() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	opts := nomad.WatchOptions{Interval: 20 * time.Millisecond, Settle: 10 * time.Millisecond} // an example has to end soon
	for event, err := range client.Agent.WatchHealth(context.Background(), opts, nomad.RoleServer) {
		if err != nil {
			log.Print(err)
			continue
		}
		fmt.Println(event)
		if errors.Is(event.Err, nomad.ErrNoLeader) {
			return
		}
		cluster.Agent("server-2").Stop() // two of three are gone, and with them the quorum
		cluster.Agent("server-3").Stop()
	}
	// Output:
	// healthy
	// unhealthy: server: No cluster leader
}

func ExampleWatchError() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	cluster.Agent("server-1").Stop()

	opts := nomad.WatchOptions{Interval: 20 * time.Millisecond, Settle: 10 * time.Millisecond} // an example has to end soon
	for _, err := range client.Agent.WatchMembers(context.Background(), opts) {
		var outage *nomad.WatchError
		if errors.As(err, &outage) {
			fmt.Println("no news for less than a minute:", time.Since(outage.Since) < time.Minute)
			cluster.Agent("server-1").Start()
		}
		if err == nil {
			fmt.Println("it is back")
			return
		}
	}
	// Output:
	// no news for less than a minute: true
	// it is back
}

func ExampleAgent_Survey() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")
	cluster.Agent("server-2").Stop()
	cluster.Partition("server-3") // it still answers, but the others do not hear of it

	survey, err := client.Agent.Survey(context.Background(), nomad.SurveyOptions{
		// Agents in memory share an IP address. Those of a real pool are found without this, if they have one port.
		Address: func(m nomad.Member) string { return cluster.URL(m.Name[:len("server-1")]) },
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range survey.Servers {
		fmt.Println(r.Member.Name, "reachable:", r.Reachable(), "healthy:", r.Health.OK())
	}
	for _, d := range survey.Disagreements {
		for _, view := range d.Views {
			fmt.Println(d.Name, "is", view.Member.Status, "to", view.Servers)
		}
	}
	// Output:
	// server-1.global reachable: true healthy: false
	// server-2.global reachable: false healthy: false
	// server-3.global reachable: true healthy: false
	// server-1.global is alive to [server-1.global]
	// server-1.global is failed to [server-3.global]
	// server-3.global is failed to [server-1.global]
	// server-3.global is alive to [server-3.global]
}
