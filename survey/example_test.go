package survey_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
	"github.com/nomad-go/nomad/survey"
)

func ExampleRun() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1")

	report, err := survey.Run(context.Background(), client)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range report.Servers {
		fmt.Println(s.Member.Name, s.Healthy(), s.Build)
	}
	fmt.Println("all is well:", report.OK())
	// Output:
	// server-1.global true 2.0.5
	// all is well: true
}

func ExampleRun_partition() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")
	cluster.Agent("server-2").Stop()
	cluster.Partition("server-3") // it still responds, but the others report it as failed

	report, err := survey.Run(context.Background(), client,
		// Agents in memory share an IP address. Those of a real pool are found without this option.
		survey.WithAddress(func(m nomad.Member) string { return cluster.URL(m.Name[:len("server-1")]) }))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range report.Servers {
		fmt.Println(s.Member.Name, "reachable:", s.Reachable(), "healthy:", s.Healthy())
	}
	for _, d := range report.Disagreements {
		for _, view := range d.Views {
			fmt.Println(d.Name, "is", view)
		}
	}
	// Output:
	// server-1.global reachable: true healthy: false
	// server-2.global reachable: false healthy: false
	// server-3.global reachable: true healthy: false
	// server-1.global is alive to [server-1.global]
	// server-1.global is failed to [server-3.global]
	// server-3.global is failed to [server-1.global]
	// server-3.global is alive to [server-3.global]
}

func ExampleHTTPAddress() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()

	// For a Client that calls its agent on another port, through a tunnel or a load balancer.
	opt := survey.WithAddress(survey.HTTPAddress(4646))
	report, err := survey.Run(context.Background(), cluster.Client("server-1"), opt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Servers[0].Address)
	// Output: http://127.0.0.1:4646
}
