// Package demo gives an example something to call: the agent that the environment names or, without one, a cluster in memory.
// A program of your own has nomad.NewClient(nomad.FromEnvironment()) in its place.
package demo

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// Connect makes a client, with options, of the agent at NOMAD_ADDR or NOMAD_UNIX_ADDR. When neither is set it starts a cluster
// of what memory says, tells so on the standard error, and makes a client of its first agent; the cluster is nil otherwise.
// Call done at the end.
func Connect(options []nomad.Option, memory ...nomadtest.Option) (client *nomad.Client, cluster *nomadtest.Cluster, done func(), err error) {
	if cmp.Or(os.Getenv("NOMAD_ADDR"), os.Getenv("NOMAD_UNIX_ADDR")) != "" {
		client, err := nomad.NewClient(append([]nomad.Option{nomad.FromEnvironment()}, options...)...)
		if err != nil {
			return nil, nil, nil, err
		}
		return client, nil, func() { client.Close() }, nil
	}
	fmt.Fprintln(os.Stderr, "NOMAD_ADDR is not set: this is a cluster in memory")
	cluster = nomadtest.NewCluster(memory...)
	return cluster.Client(cluster.Agents()[0].Name(), options...), cluster, cluster.Close, nil
}

// Terminal reports whether people look at what is written to w.
func Terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
