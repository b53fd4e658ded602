// Package nomadtest runs Nomad agents in memory, for tests and demonstrations of programs that use package nomad.
//
//	cluster := nomadtest.New(t, nomadtest.Servers(3), nomadtest.Clients(1)) // closed when the test ends
//	client := cluster.Client("server-1")
//	members, err := client.Agent.Members(t.Context())
//
// Each agent listens on its own loopback port. Tests compare its responses with 193 recorded exchanges of each of Nomad
// 1.6.5, 1.8.4, 1.11.3 and 2.0.5, and with 2,600 more of 2.0.5: status, headers and body are the same, except for IDs,
// ports, times and the like.
//
// # What is imitated
//
// All of /v1/agent, /v1/status, /v1/regions, /v1/nodes, /v1/node/ID with its allocations, /v1/node/pools and
// /v1/node/pool/NAME; with Debug also /debug/pprof/. Other endpoints that tools request respond as in a cluster that runs
// nothing, so that nomad status, nomad node status and nomad operator debug work:
//
//   - /v1/jobs, /v1/jobs/statuses, /v1/allocations, /v1/evaluations, /v1/deployments, /v1/services, /v1/vars, /v1/plugins,
//     /v1/volumes and /v1/scaling/policies: empty lists
//   - /v1/job/: 404
//   - /v1/namespaces and /v1/namespace/: the namespace default
//   - /v1/operator/raft/configuration and /v1/operator/autopilot/health: the servers
//   - /v1/operator/scheduler/configuration and /v1/operator/autopilot/configuration: their defaults
//   - /v1/metrics and /v1/client/stats: hardly anything
//   - /v1/event/stream: no events
//   - /v1/operator/license: 204
//   - /v1/acl/policies, /v1/acl/tokens and /v1/acl/roles: 400 without ACLs
//
// All other paths respond with 404. So do these endpoints to requests that would change something, except those of
// /v1/agent.
//
// The option Version selects the version of Nomad that is imitated. A recorded version responds as it was recorded. A
// version between two recorded ones has the changes that Nomad had made by then. An older version responds as the
// oldest, a newer one as the newest.
//
// If a test has failed, New logs the requests that failed and the last lines of the agents' logs. Programs use
// NewCluster and Cluster.Close.
//
// # Options
//
// Options describe the cluster and its agents. An option given to New or NewCluster holds for all agents. An option given
// to Servers, Clients or Both holds for these agents only. As in Nomad, ACLs, Debug, GossipKey and TLS are off by default.
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
// The cluster is a model and not Nomad. It has a gossip pool, whose members join, fail, leave and are pruned. Each
// region has a leader as long as it has a quorum. All agents see a change at once, so tests are deterministic.
// RealDelays adds the waits that real agents make on purpose.
//
//	cluster.Agent("server-1").Stop()     // a crash: the others see it as failed and elect a leader
//	cluster.Agent("server-1").Start()    // it is alive again
//	cluster.Agent("server-3").TakeLead() // the leader changes
//	cluster.Partition("server-2")        // the network is cut, until Heal
//
// # Faults
//
// A fault makes an agent misbehave on some requests or on all: Delay, Status, Redirect, Reset, Truncate, Garbage,
// Stall, Drip, or a function of your own. On, Times, For and Share limit it. Requests returns the requests that an
// agent received. Agents limit the connections from one address as real ones do; see MaxConns.
//
//	agent := cluster.Agent("server-1")
//	fault := agent.Inject(nomadtest.Reset(), nomadtest.On("members"), nomadtest.Times(2))
//	// the program runs
//	fmt.Println(fault.Hits(), agent.Requests())
//
// Error makes errors for fakes of the methods of package nomad.
//
// # Hours in milliseconds
//
// In a bubble of testing/synctest the clock jumps ahead as soon as all goroutines wait. There New uses a network in
// memory in place of sockets, so a test of an hour takes milliseconds:
//
//	func TestOutage(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			cluster := nomadtest.New(t, nomadtest.Servers(3))
//			agent := cluster.Agent("server-1")
//			time.AfterFunc(10*time.Minute, agent.Stop)
//			time.AfterFunc(70*time.Minute, agent.Start)
//
//			for event, err := range watch.Members(t.Context(), agent.Client().Agent, watch.Options{}) {
//				if err != nil {
//					t.Fatal(err)
//				}
//				if event.Kind == watch.OutageOver {
//					t.Log(event) // outage over after 1h0m2s
//					return
//				}
//			}
//		})
//	}
//
// # Other languages
//
// The program in cmd/nomadtest runs a cluster for tests in other languages and for the nomad command:
//
//	go run github.com/nomad-go/nomad/nomadtest/cmd/nomadtest@latest -servers 3 -clients 1 -acl -tls
//
// # Real agents
//
// StartProcess runs a real agent from a binary of Nomad, for tests that must pass with agents in memory and with real
// ones.
//
// # Panics
//
// The package can be used outside tests. As in net/http/httptest, its functions panic where a test could not continue:
// if no loopback port is free, if options contradict each other, and if a name is mistyped. The message lists the valid
// names.
package nomadtest
