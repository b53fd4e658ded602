// Package nomadtest runs Nomad agents in memory, for tests and demonstrations of programs that use package nomad.
//
//	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1))
//	defer cluster.Close()
//
//	client := cluster.Client("server-1")
//	members, err := client.Agent.Members(ctx)
//
// Each agent listens on a loopback port of its own and answers as a real agent does: the same status, content type and
// text, checked against recorded answers. What runs behind it is a model of the cluster, not Nomad: a gossip pool whose
// members join, fail, leave and are pruned, and per region a leader as long as there is a quorum. Changes are seen by
// all agents at once, in the order in which they were made, so that tests are deterministic.
//
//	cluster.Agent("server-1").Stop()  // its peers see it as failed, and elect another leader
//	cluster.Agent("server-1").Start() // it is alive again
//
// The package can be used outside tests. As in net/http/httptest, its constructors panic where a test could not go on:
// when no loopback port can be had, or when an agent is asked for that the cluster does not have.
package nomadtest
