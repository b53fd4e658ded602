// Package demo gives an example something to call: the agent that the environment names or, without one, a cluster in memory.
// A program of your own has nomad.NewClient(nomad.FromEnvironment()) in its place.
package demo

import (
	"cmp"
	"fmt"
	"os"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// Connect makes a client of the agent at NOMAD_ADDR or NOMAD_UNIX_ADDR. When neither is set it starts a cluster of what the
// options say, tells so on the standard error, and makes a client of its first agent; the cluster is nil otherwise. Call
// done at the end.
func Connect(options ...nomadtest.Option) (client *nomad.Client, cluster *nomadtest.Cluster, done func(), err error) {
	if cmp.Or(os.Getenv("NOMAD_ADDR"), os.Getenv("NOMAD_UNIX_ADDR")) != "" {
		client, err := nomad.NewClient(nomad.FromEnvironment())
		if err != nil {
			return nil, nil, nil, err
		}
		return client, nil, func() { client.Close() }, nil
	}
	fmt.Fprintln(os.Stderr, "NOMAD_ADDR is not set: this is a cluster in memory")
	cluster = nomadtest.NewCluster(options...)
	return cluster.Client(cluster.Agents()[0].Name()), cluster, cluster.Close, nil
}
