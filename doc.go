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
// A [Client] sends requests to one agent. It is safe for concurrent use, so one Client for each agent is enough. Keep
// it for as long as the program runs. [Client.With] creates a Client with another token, region or time limit. It
// shares the connections of the original. [Client.HTTPClient] lends the connections to other code, such as Nomad's
// official client.
//
// This package reads environment variables only for the option [FromEnvironment]. Go's own packages read some too:
// HTTP_PROXY, HTTPS_PROXY and NO_PROXY say which proxy is used and when, as in package net/http.
//
// # Requests
//
// [Agent] has a method for each endpoint of /v1/agent, and [Status] for those of /v1/status. [Client.Do] sends a
// request to any other endpoint. The comment of a method names its errors and what it requires: the agent's role,
// Nomad's version, the ACL capability. An error in parentheses, as in "it requires a server agent (ErrServerOnly)", is
// returned if the requirement is not met. "A malformed key is ErrInvalidArgument" means that the method returns that
// error for it.
//
// A method takes 30 s at most ([WithTimeout]), or less if its context ends sooner. For a profile, its duration is
// added to this limit. For a blocking query, its wait is added ([Request]). [WithRetries] describes which failed
// requests are retried.
//
// # Errors
//
// If the error is nil, the request succeeded and the result is complete. (In Self, values of the wrong type are left
// out; Self.Raw has them. Profile and MonitorExport name a case in which a proxy hides a loss.) Use errors.Is to find
// out what an error means:
//
//	_, err := client.Agent.Health(ctx)
//	switch {
//	case errors.Is(err, nomad.ErrNoLeader): // the region has no leader: try again later
//	case errors.Is(err, nomad.ErrUnhealthy): // the agent is unhealthy for another reason
//	}
//
// An error that is a response of the agent is an *[APIError], with the status and the agent's message. If the time is
// over, the error is context.DeadlineExceeded. If the agent cannot be reached, it is a net.Error or a TLS error.
//
// # Streams
//
// [Agent.Monitor] streams a log. The stream ends when its context ends, or when the loop over it ends. If no whole frame
// arrives for 10 s, not even a heartbeat, it ends with [ErrStreamStalled].
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
//   - [github.com/nomad-go/nomad/agentconfig], [github.com/nomad-go/nomad/agentstats] and
//     [github.com/nomad-go/nomad/secret] have the types of an agent's configuration, statistics and secrets.
package nomad
