// Package nomadtest runs Nomad agents in memory, for tests and demonstrations of programs that use package nomad.
//
//	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1))
//	defer cluster.Close()
//
//	client := cluster.Client("server-1")
//	members, err := client.Agent.Members(ctx)
//
// Each agent listens on a loopback port of its own and answers every endpoint of /v1/agent as a real agent does. That
// is checked against 193 recorded exchanges with each of Nomad 1.6.5, 1.8.4, 1.11.3 and 2.0.5 and 2,600 further ones with
// 2.0.5: status, headers and body are the same but for IDs, ports, times and the like. An agent starts in less than
// 0.1 ms, or 1 ms with TLS, and takes 5 to 50 kB.
//
// # What is imitated
//
// All of /v1/agent, /v1/status, /v1/regions, /v1/nodes, /v1/node/ID with its allocations, /v1/node/pools and
// /v1/node/pool/NAME; of agents with Debug also /debug/pprof/. What the command line and other tools ask besides is answered
// as a cluster does that runs nothing, so that nomad status, nomad node status, nomad operator debug and the like work:
//
//	/v1/jobs, /v1/jobs/statuses, /v1/allocations, /v1/evaluations,      empty lists
//	/v1/deployments, /v1/services, /v1/vars, /v1/plugins, /v1/volumes,
//	/v1/scaling/policies
//	/v1/job/                                                            404
//	/v1/namespaces, /v1/namespace/                                      the namespace default
//	/v1/operator/raft/configuration, /v1/operator/autopilot/health      the servers
//	/v1/operator/scheduler/configuration,                               their defaults
//	/v1/operator/autopilot/configuration
//	/v1/metrics, /v1/client/stats                                       hardly anything
//	/v1/event/stream                                                    no events
//	/v1/operator/license                                                204
//	/v1/acl/policies, /v1/acl/tokens, /v1/acl/roles                     without ACLs: 400
//
// Everything else is 404, as are requests to change what these show: jobs, drains, volumes, variables, ACLs, snapshots,
// search and the rest of Nomad's API.
//
// Agents answer as the version that they were given: as the recorded one, between two recorded ones with what had changed
// by then, and above the newest as that.
//
// # Setting up
//
// An option says what the cluster is made of, or how agents are set up: all of them when it is given to NewCluster, some
// when it is given to Servers, Clients or Both. As in Nomad, ACLs, Debug, GossipKey and TLS are off unless asked for.
//
//	cluster := nomadtest.NewCluster(
//		nomadtest.Servers(3, nomadtest.Region("eu")),
//		nomadtest.Servers(1, nomadtest.Region("us"), nomadtest.Version("1.6.5")),
//		nomadtest.ACLs(),
//		nomadtest.MutualTLS(),
//	)
//	reader := cluster.Client("server-1", nomad.WithToken(nomadtest.AgentReadToken))
//
// # What happens in a cluster
//
// What runs behind the agents is a model, not Nomad: a gossip pool whose members join, fail, leave and are pruned, and
// per region a leader as long as there is a quorum. Changes are seen by all agents at once, in the order in which they
// were made, so that tests are deterministic. Where real agents take their time on purpose, RealDelays makes these do so.
//
//	cluster.Agent("server-1").Stop()      // its peers see it as failed, and elect another leader
//	cluster.Agent("server-1").Start()     // it is alive again
//	cluster.Agent("server-3").TakeLead()  // the leader moves
//	cluster.Partition("server-2")         // cut off from the others, until Heal
//
// # What goes wrong on the way
//
// Faults make an agent misbehave on some requests or on all: Delay, Status, Redirect, Reset, Truncate, Garbage, Stall,
// Drip, and functions of your own. Requests tells what the agent was asked. The limit of connections from one address is
// that of real agents; see MaxConns.
//
//	agent := cluster.Agent("server-1")
//	fault := agent.Inject(nomadtest.Reset(), nomadtest.On("members"), nomadtest.Times(2))
//	...
//	fmt.Println(fault.Hits(), agent.Requests())
//
// The example of the package is a controller and its test. StartProcess runs a real agent, for tests that are to hold
// for both.
//
// The package can be used outside tests. As in net/http/httptest, its constructors panic where a test could not go on:
// when no loopback port can be had, when an agent is asked for that the cluster does not have, or when options
// contradict each other.
package nomadtest
