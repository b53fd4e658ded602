// Package nomadtest runs Nomad agents in memory, for tests and demonstrations of programs that use package nomad.
//
//	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1))
//	defer cluster.Close()
//
//	client := cluster.Client("server-1")
//	members, err := client.Agent.Members(ctx)
//
// Each agent listens on its own loopback port. It has all endpoints of /v1/agent, and /v1/status/leader. A test compares
// its responses with 193 recorded exchanges of Nomad 1.6.5 and as many of 2.0.5: status, headers and body are the same,
// except for IDs, ports, times and the like.
//
// # Options
//
// Options describe the cluster and its agents. An option given to NewCluster holds for all agents. An option given to
// Servers, Clients or Both holds for these agents only. As in Nomad, ACLs, Debug, GossipKey and TLS are off by default.
//
//	cluster := nomadtest.NewCluster(
//		nomadtest.Servers(3, nomadtest.Region("eu")),
//		nomadtest.Servers(1, nomadtest.Region("us"), nomadtest.Version("1.6.5")),
//		nomadtest.ACLs(),
//		nomadtest.MutualTLS(),
//	)
//	reader := cluster.Client("server-1", nomad.WithToken(nomadtest.AgentReadToken))
//
// # Changes in the cluster
//
// The cluster is a model and not Nomad. It has a gossip pool, whose members join, fail, leave and are pruned. Each region
// has a leader as long as it has a quorum. All agents see a change at once, so tests are deterministic. With RealDelays
// agents are as slow as real ones where those wait on purpose.
//
//	cluster.Agent("server-1").Stop()     // a crash: the others see it as failed and elect a leader
//	cluster.Agent("server-1").Start()    // it is alive again
//	cluster.Agent("server-3").TakeLead() // the leader changes
//	cluster.Partition("server-2")        // the network is cut, until Heal
//
// # Faults
//
// A fault makes an agent misbehave on some requests or on all: Delay, Status, Redirect, Reset, Truncate, Garbage, Stall,
// Drip, or a function of your own. Requests returns the requests that an agent received. Agents limit the connections from
// one address as real ones do; see MaxConns.
//
//	agent := cluster.Agent("server-1")
//	fault := agent.Inject(nomadtest.Reset(), nomadtest.On("members"), nomadtest.Times(2))
//	// the program runs
//	fmt.Println(fault.Hits(), agent.Requests())
//
// # Real agents
//
// StartProcess runs a real agent from a binary of Nomad, for tests that must hold for both.
//
// # Panics
//
// The package can be used outside tests. As in net/http/httptest, its functions panic where a test could not continue: if
// no loopback port is free, if the cluster has no agent of a name, and if options contradict each other.
package nomadtest
