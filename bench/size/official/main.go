// Command official does nothing but list the members of the gossip pool, with Nomad's official client. Its size is what is
// measured.
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
