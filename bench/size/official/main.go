// Command official lists the members of the gossip pool with Nomad's official client. Command compare
// measures its size.
package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/nomad/api"
)

func main() {
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	members, err := client.Agent().Members()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, member := range members.Members {
		fmt.Println(member.Name, member.Status)
	}
}
