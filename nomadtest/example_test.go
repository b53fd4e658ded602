package nomadtest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func ExampleNewCluster() {
	cluster := nomadtest.NewCluster(
		nomadtest.Servers(2, nomadtest.Region("eu"), nomadtest.Names("ams", "ber")),
		nomadtest.Servers(1, nomadtest.Region("us"), nomadtest.Version("1.6.5")),
	)
	defer cluster.Close()

	members, err := cluster.Client("ams").Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range members.Members {
		fmt.Println(m.Name, m.Build())
	}
	fmt.Println("the leader in eu is", cluster.Leader("eu").Name())
	// Output:
	// ams.eu 2.0.5
	// ber.eu 2.0.5
	// server-1.us 1.6.5
	// the leader in eu is ams
}

func ExampleACLs() {
	cluster := nomadtest.NewCluster(nomadtest.ACLs())
	defer cluster.Close()

	for _, token := range []string{nomadtest.ManagementToken, nomadtest.AgentReadToken, nomadtest.UnknownToken} {
		client := cluster.Client("server-1", nomad.WithToken(token))
		_, err := client.Agent.Members(context.Background()) // needs node:read
		fmt.Println(errors.Is(err, nomad.ErrPermissionDenied))
	}
	// Output:
	// false
	// true
	// true
}

// TLSFiles is for programs whose TLS settings are file names.
func ExampleCluster_TLSFiles() {
	cluster := nomadtest.NewCluster(nomadtest.MutualTLS())
	defer cluster.Close()

	client, err := nomad.NewClient(nomad.WithAddress(cluster.URL("server-1")), nomad.WithTLS(cluster.TLSFiles()))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	health, err := client.Agent.Health(context.Background())
	fmt.Println(health.Server.Message, err)
	// Output: ok <nil>
}

func ExampleCluster_RotateTLS() {
	cluster := nomadtest.NewCluster(nomadtest.MutualTLS())
	defer cluster.Close()
	client, err := nomad.NewClient(nomad.WithAddress(cluster.URL("server-1")), nomad.WithTLS(cluster.TLSFiles()))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	// RotateTLS replaces the authority, the certificates and the files. The client reads the new files when
	// it opens its next connection.
	cluster.RotateTLS()
	health, err := client.Agent.Health(context.Background())
	fmt.Println(health.Server.Message, err)
	// Output: ok <nil>
}

func ExampleAgent_Inject() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	agent := cluster.Agent("server-1")

	fault := agent.Inject(nomadtest.Status(503, "draining"), nomadtest.On("members"), nomadtest.Times(2))
	members, err := agent.Client().Agent.Members(context.Background()) // it is retried
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(members.Members), fault.Hits())
	// Output: 1 2
}

// This fault is a function of the test. It makes the agent respond like a future version.
func ExampleFault() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	agent := cluster.Agent("server-1")

	agent.Inject(func(w http.ResponseWriter, r *http.Request, respond http.HandlerFunc) {
		w.Header().Set("X-Nomad-Version", "3.0.0")
		respond(w, r)
	})
	response, err := http.Get(agent.URL() + "/v1/agent/health")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	fmt.Println(response.Header.Get("X-Nomad-Version"))
	// Output: 3.0.0
}

func ExampleAgent_Requests() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	agent := cluster.Agent("server-1")

	if err := agent.Client().Agent.ForceLeave(context.Background(), "server-9.global", nomad.Prune()); err != nil {
		log.Fatal(err)
	}
	for _, r := range agent.Requests() {
		fmt.Println(r)
	}
	// Output: PUT /v1/agent/force-leave?node=server-9.global&prune=true: 200
}

// Two of five servers are partitioned from the others. Each side reports the other as failed.
func ExampleCluster_Partition() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(5))
	defer cluster.Close()
	failed := func(name string) (n int) {
		members, err := cluster.Client(name).Agent.Members(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range members.Members {
			if m.Status == nomad.StatusFailed {
				n++
			}
		}
		return n
	}

	cluster.Partition("server-1", "server-2")
	fmt.Println(failed("server-1"), failed("server-3"), cluster.Leader().Name())
	cluster.Heal()
	fmt.Println(failed("server-1"), failed("server-3"))
	// Output:
	// 3 2 server-3
	// 0 0
}

// Tests that need a real agent can be skipped where there is no nomad binary.
func ExampleStartProcess() {
	agent, err := nomadtest.StartProcess(context.Background(), nomadtest.Servers(1), nomadtest.Debug())
	if errors.Is(err, nomadtest.ErrNoBinary) {
		return // in a test, t.Skip
	}
	if err != nil {
		log.Fatal(err)
	}
	defer agent.Close()
	self, err := agent.Client().Agent.Self(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(self.Config.Version.Version)
}

// downAgent replaces *nomad.Agent in code that needs only its method Members.
type downAgent struct{}

func (downAgent) Members(context.Context) (*nomad.Members, error) {
	return nil, nomadtest.Error(nomad.ErrNoLeader)
}

func ExampleError() {
	var agent interface {
		Members(context.Context) (*nomad.Members, error)
	} = downAgent{}
	_, err := agent.Members(context.Background())
	fmt.Println(errors.Is(err, nomad.ErrNoLeader), err)
	// Output: true nomad: GET http://127.0.0.1:4646/v1/agent/members: 500 No cluster leader
}

func ExampleShare() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1", nomad.WithRetries(0))
	cluster.Agent("server-1").Inject(nomadtest.Status(503, "later"), nomadtest.On("members"), nomadtest.Share(0.25))

	for i := range 8 {
		if _, err := client.Agent.Members(context.Background()); err != nil {
			fmt.Println("request", i+1, "failed")
		}
	}
	// Output:
	// request 4 failed
	// request 8 failed
}
