// Package nomad calls the agent API of HashiCorp Nomad: who is in the cluster, is this agent healthy, what is it
// configured to do, make it join, make it forget, stream its log, profile it.
//
//	client, err := nomad.NewClient(nomad.FromEnvironment())
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	members, err := client.Agent.Members(ctx)
//	if err != nil {
//		return err
//	}
//	for _, m := range members.Members {
//		fmt.Println(m.Name, m.Status, m.Region())
//	}
//
// A [Client] calls one agent. It is safe for use by any number of goroutines, never changes once it is made, and keeps to
// a few connections, so that a program needs one and can keep it for as long as it runs. [Client.With] makes another
// that differs in its token or region and shares the connections. Options say everything else; the environment is
// read only where [FromEnvironment] is given. As in package net/http, HTTP_PROXY, HTTPS_PROXY and NO_PROXY name a
// proxy, except for an agent at localhost, a loopback address or a unix socket.
//
// # Errors
//
// A call that returns a nil error did what it says, and its result is complete: an answer that is empty, null, cut
// short or of another shape is an error. What an error means is told by errors.Is and the variables of this package,
// which go by what the agent said and not by its status, since that varies:
//
//	switch {
//	case errors.Is(err, nomad.ErrPermissionDenied): // another token is needed
//	case errors.Is(err, nomad.ErrServerOnly):       // another agent is needed
//	case errors.Is(err, nomad.ErrNoLeader):         // it is worth trying later
//	}
//
// [APIError] has the details. An agent that cannot be reached gives a net.Error, a call that was out of time
// context.DeadlineExceeded, whether the limit was the context's or that of [WithTimeout].
//
// # Streams
//
// [Agent.Monitor] gives an agent's log as it is written, as text to read, as lines or as typed entries:
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
// A stream ends with its context, when it is closed, when the loop over it ends, and with [ErrStreamStalled] when the agent
// has gone silent. It has a connection of its own, so that it cannot keep calls waiting.
//
// # Testing
//
// Package [github.com/nomad-go/nomad/nomadtest] has a cluster of agents in memory, for the tests of programs that use
// this package.
package nomad
