package agentstats_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nomad-go/nomad/agentstats"
	"github.com/nomad-go/nomad/nomadtest"
)

func ExampleStats() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()

	self, err := cluster.Client("server-2").Agent.Self(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	var stats agentstats.Stats = self.Stats
	contact, known := stats.LastContact()
	fmt.Println(stats.IsLeader(), stats.RaftState(), stats.RaftPeers(), contact, known)
	// Output: false Follower 2 20ms true
}
