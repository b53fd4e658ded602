// Package nomadtest runs Nomad agents in memory, for tests and demonstrations of programs that use package nomad.
//
//	cluster := nomadtest.New(t, nomadtest.Servers(3), nomadtest.Clients(1)) // closed when the test ends
//	client := cluster.Client("server-1")
//	members, err := client.Agent.Members(t.Context())
//
// Each agent listens on a loopback port of its own and answers every endpoint of /v1/agent as a real agent does. That
// is checked against 193 recorded exchanges with each of Nomad 1.6.5 and 2.0.5: status, headers and body are the same but
// for IDs, ports, times and the like. Beside it there is /v1/status/leader, and nothing else of Nomad's API. An agent starts
// in less than 0.1 ms, or 1 ms with TLS, and takes 5 to 50 kB.
//
// If a test has failed, New shows in its log the requests that failed and the ends of the agents' logs. Programs use
// NewCluster, and Cluster.Close.
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
// Times, For and Share limit a fault to some requests. Error makes errors for fakes of the methods of package nomad.
//
// # Hours in milliseconds
//
// In a bubble of testing/synctest, where time passes whenever everything waits, New uses a network in memory in place of
// sockets. So a test of what takes an hour takes milliseconds:
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
// The example of the package is a controller and its test. StartProcess runs a real agent, for tests that are to hold
// for both.
//
// The package can be used outside tests. As in net/http/httptest, its functions panic where a test could not go on: when no
// loopback port can be had, when options contradict each other, and for what is mistyped, such as the name of an agent, an
// endpoint or a setting. The message lists what there is.
package nomadtest
