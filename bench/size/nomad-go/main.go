// Command nomad-go lists the members of the gossip pool with this library. Command compare measures its size.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/nomad-go/nomad"
)

func main() {
	client, err := nomad.NewClient(nomad.FromEnvironment())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	members, err := client.Agent.Members(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, member := range members.Members {
		fmt.Println(member.Name, member.Status)
	}
}
