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
// # Making a client
//
// A [Client] calls one agent. It is safe for use by any number of goroutines, never changes once it is made, and keeps to
// a few connections, so that a program needs one and can keep it for as long as it runs. [Client.With] makes another
// that differs in its token or region and shares the connections. Options say everything else; the environment is
// read only where [FromEnvironment] is given. As in package net/http, HTTP_PROXY, HTTPS_PROXY and NO_PROXY name a
// proxy, except for an agent at localhost, a loopback address or a unix socket.
//
//	client, err := nomad.NewClient(
//		nomad.FromEnvironment(),                 // NOMAD_ADDR and its like
//		nomad.WithTokenFile("/secrets/token"),   // read again when it changes
//		nomad.WithTimeout(10*time.Second),       // for a call with all its retries
//	)
//	eu, err := client.With(nomad.WithRegion("eu"))
//
// # Calling
//
// The calls are methods of [Agent], the field Agent of a Client, and each is one endpoint of /v1/agent. Those that ask:
// [Agent.Members], [Agent.Servers], [Agent.Self], [Agent.Health], [Agent.Host], [Agent.Schedulers],
// [Agent.SchedulerConfig] and [Agent.ListKeys]. Those that change something: [Agent.Join], [Agent.ForceLeave],
// [Agent.UpdateServers], [Agent.UpdateSchedulerConfig], [Agent.InstallKey], [Agent.UseKey], [Agent.RemoveKey] and
// [Agent.Reload]. Those that stream: [Agent.Monitor], [Agent.MonitorExport] and [Agent.Profile]. [Client.Call] makes
// any other call of Nomad's API.
//
// A call ends with its context or in 30 s, whichever is sooner. What is safe to send again is, within a budget for all calls.
// Which agent and which ACL token a call needs, and how it fails, is in its comment.
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
// # Watching
//
// Package [github.com/nomad-go/nomad/watch] reports what happens in the gossip pool, how healthy an agent is and what it
// logs, for as long as the loop runs. An outage is an event, and so is its end:
//
//	for event, err := range watch.Members(ctx, client.Agent, watch.Options{}) {
//		if err != nil {
//			return err // the end: the context's error, ErrClosed
//		}
//		switch event.Kind {
//		case watch.Failed:
//			page(event.Name(), event.Time)
//		case watch.Outage:
//			log.Print(event)
//		}
//	}
//
// Package [github.com/nomad-go/nomad/survey] gets from every server of the pool its own health and view, and reports which
// cannot be reached and where views differ.
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
// this package. Its agents answer as real ones do, and crash, leave and misbehave when they are told to:
//
//	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
//	defer cluster.Close()
//	client := cluster.Client("server-1")
//	cluster.Agent("server-3").Stop()
package nomad
