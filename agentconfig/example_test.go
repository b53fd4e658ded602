package agentconfig_test

import (
	"encoding/json"
	"fmt"
	"log"

	"github.com/nomad-go/nomad/agentconfig"
)

func ExampleDiff() {
	var a, b agentconfig.Config
	for text, c := range map[string]*agentconfig.Config{
		`{"Server":{"RaftMultiplier":1},"ACL":{"ReplicationToken":"one"},"Client":{"Meta":{"rack":"r1"}}}`: &a,
		`{"Server":{"RaftMultiplier":5},"ACL":{"ReplicationToken":"two"}}`:                                 &b,
	} {
		if err := json.Unmarshal([]byte(text), c); err != nil { // in a program: Agent.Self of two servers
			log.Fatal(err)
		}
	}
	for _, difference := range agentconfig.Diff(&a, &b) {
		fmt.Println(difference)
	}
	// Output:
	// ACL.ReplicationToken: "<redacted>" -> "<redacted>"
	// Client.Meta[rack]: "r1" -> ""
	// Server.RaftMultiplier: "1" -> "5"
}

func ExampleConfig_Unknown() {
	var config agentconfig.Config
	text := `{"Region":"eu","Client":{"Enabled":true,"FromTheFuture":"10m","GCInterval":[1]}}`
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		log.Fatal(err)
	}
	unknown := config.Unknown()
	fmt.Println(len(unknown))
	fmt.Println(string(unknown["/Client/FromTheFuture"])) // has no field
	fmt.Println(string(unknown["/Client/GCInterval"]))    // does not fit its field
	// Output:
	// 2
	// "10m"
	// [1]
}
