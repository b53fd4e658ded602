package nomadtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nomad-go/nomad/nomadtest"
)

func ExampleGossipKey() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg=="))
	defer cluster.Close()

	ring, err := cluster.Client("server-1").Agent.ListKeys(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for key, servers := range ring.Keys {
		fmt.Println(key, "on", servers, "of", ring.NumNodes, "servers")
	}
	// Output: <redacted> on 3 of 3 servers
}

func ExampleConfig() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1, nomadtest.Config("Server.RaftMultiplier", 5)))
	defer cluster.Close()

	self, err := cluster.Client("server-1").Agent.Self(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(*self.Config.Server.RaftMultiplier)
	// Output: 5
}

// An upgrade changes the tag build of a server.
func ExampleAgent_SetTag() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2))
	defer cluster.Close()
	cluster.Agent("server-2").SetTag("build", "2.0.6")

	members, err := cluster.Client("server-1").Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for m := range members.All() {
		fmt.Println(m.Name, m.Build())
	}
	// Unordered output:
	// server-1.global 2.0.5
	// server-2.global 2.0.6
}

// The agents listen on no socket. Clients of package nomad reach them by their URLs.
func ExampleInMemoryNetwork() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.InMemoryNetwork())
	defer cluster.Close()

	health, err := cluster.Client("server-1").Agent.Health(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(health)
	// Output: healthy
}
