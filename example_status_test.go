package nomad_test

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"strconv"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func ExampleStatus_Leader() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	leader, err := client.Status.Leader(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	members, err := client.Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for m := range members.All() {
		if m.RPCAddr().String() == leader {
			fmt.Println(m.Name, "is the leader")
		}
	}
	// Output: server-1.global is the leader
}

func ExampleStatus_Peers() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Servers(1, nomadtest.Region("eu")))
	defer cluster.Close()

	for _, region := range []string{"global", "eu"} {
		client := cluster.Client("server-1", nomad.WithRegion(region))
		peers, err := client.Status.Peers(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(region, len(peers))
	}
	// Output:
	// global 3
	// eu 1
}

// A blocking query responds when the data has changed. A program sends it in a loop.
func ExampleResponse_Index() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1))
	defer cluster.Close()
	client := cluster.Client("server-1")

	var nodes []struct{ Name string }
	res, err := client.Do(context.Background(), &nomad.Request{Path: "/v1/nodes"}, &nodes)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(nodes)

	cluster.AddClient("client-2")
	query := url.Values{"index": {strconv.FormatUint(res.Index(), 10)}, "wait": {"1m"}}
	if _, err = client.Do(context.Background(), &nomad.Request{Path: "/v1/nodes", Query: query}, &nodes); err != nil {
		log.Fatal(err)
	}
	fmt.Println(nodes)
	// Output:
	// [{client-1}]
	// [{client-1} {client-2}]
}
