// Package nomad is a client for the agent API of HashiCorp Nomad. This program lists the servers of a cluster:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//
//		"github.com/nomad-go/nomad"
//	)
//
//	func main() {
//		client, err := nomad.NewClient(nomad.FromEnvironment()) // NOMAD_ADDR, NOMAD_TOKEN, …
//		if err != nil {
//			log.Fatal(err)
//		}
//		defer client.Close()
//
//		members, err := client.Agent.Members(context.Background())
//		if err != nil {
//			log.Fatal(err)
//		}
//		for m := range members.All() {
//			fmt.Println(m.Name, m.Status, m.Build())
//		}
//	}
//
// # Clients
//
// A [Client] sends requests to one agent. It is safe for concurrent use, so a program needs one for each agent and keeps
// it for as long as it runs. [Client.With] creates a Client with another token, region or time limit that shares the
// connections. [Client.HTTPClient] lends the connections to other code, such as Nomad's official client.
//
// Environment variables are read only by [FromEnvironment]. There is one exception: HTTP_PROXY, HTTPS_PROXY and NO_PROXY
// name a proxy, as in package net/http.
//
// # Requests
//
// [Agent] has a method for each endpoint of /v1/agent, and [Status] for those of /v1/status. [Client.Do] sends a request
// to any other endpoint. The comment of a method names its errors, the agent that it requires and the ACL capability.
//
// A method returns when its context ends or after 30 s, whichever is sooner ([WithTimeout]). Safe requests are retried
// ([WithRetries]).
//
// # Errors
//
// If the error is nil, the request succeeded and the result is complete. Use errors.Is to find out what an error means:
//
//	_, err := client.Agent.Health(ctx)
//	switch {
//	case errors.Is(err, nomad.ErrNoLeader): // the region has no leader: try again later
//	case errors.Is(err, nomad.ErrPermissionDenied): // the request needs another token
//	}
//
// [APIError] has the status and the agent's message. An agent that cannot be reached is a net.Error. A request that timed
// out is context.DeadlineExceeded.
//
// # Streams
//
// [Agent.Monitor] streams a log. The stream ends with its context and when the loop ends. A stream that is silent for 10 s
// ends with [ErrStreamStalled].
//
//	logs, err := client.Agent.Monitor(ctx, nomad.MonitorOptions{JSON: true})
//	if err != nil {
//		return err
//	}
//	for entry, err := range logs.Entries() {
//		if err != nil {
//			return err
//		}
//		fmt.Println(entry.Level, entry.Message)
//	}
//
// # Other packages
//
//   - [github.com/nomad-go/nomad/watch] reports changes of members and health as events, and follows logs.
//   - [github.com/nomad-go/nomad/survey] compares what all servers report.
//   - [github.com/nomad-go/nomad/nomadtest] runs a cluster in memory, for tests.
package nomad
