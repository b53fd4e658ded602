package nomad_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// Options that follow FromEnvironment have the last word.
func ExampleFromEnvironment() {
	os.Setenv("NOMAD_ADDR", "https://nomad.example.com:4646")
	defer os.Unsetenv("NOMAD_ADDR")

	client, err := nomad.NewClient(nomad.FromEnvironment(), nomad.WithRegion("eu"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client)
	// Output: nomad.Client(https://nomad.example.com:4646)
}

// The task API of a Nomad client is a unix socket.
func ExampleWithAddress() {
	for _, address := range []string{"10.0.0.1:4646", "[::1]:4646", "https://nomad.example.com", "unix:///secrets/api.sock"} {
		client, err := nomad.NewClient(nomad.WithAddress(address))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(client)
		client.Close()
	}
	// Output:
	// nomad.Client(http://10.0.0.1:4646)
	// nomad.Client(http://[::1]:4646)
	// nomad.Client(https://nomad.example.com)
	// nomad.Client(unix:///secrets/api.sock)
}

// The limit is for a call as a whole, with all that is tried again. A context that ends sooner ends it sooner.
func ExampleWithTimeout() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	cluster.Agent("server-1").Inject(nomadtest.Stall()) // it never answers

	client := cluster.Client("server-1", nomad.WithTimeout(50*time.Millisecond))
	_, err := client.Agent.Self(context.Background())
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// What is safe to send again is sent again: here the agent is too busy twice, and the call succeeds all the same.
func ExampleWithRetries() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	busy := cluster.Agent("server-1").Inject(nomadtest.Status(503, "busy"), nomadtest.Times(2))

	client := cluster.Client("server-1", nomad.WithRetries(2))
	_, err := client.Agent.Self(context.Background())
	fmt.Println(err, "after", busy.Hits(), "refusals")
	// Output: <nil> after 2 refusals
}

func ExampleWithHeader() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	client := cluster.Client("server-1", nomad.WithHeader("X-Request-Source", "reaper"))
	client.Agent.Health(context.Background())
	fmt.Println(cluster.Agent("server-1").Requests()[0].Header.Get("X-Request-Source"))
	// Output: reaper
}

// An http.Client of your own brings its own transport: connections, TLS and proxies are its business.
func ExampleWithHTTPClient() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	client, err := nomad.NewClient(
		nomad.WithAddress(cluster.URL("server-1")),
		nomad.WithHTTPClient(&http.Client{Transport: &http.Transport{MaxConnsPerHost: 4}}),
	)
	if err != nil {
		log.Fatal(err)
	}
	health, err := client.Agent.Health(context.Background())
	fmt.Println(health.OK(), err)
	// Output: true <nil>
}

// A Secret shows itself only when it is asked to.
func ExampleSecret() {
	token := nomad.NewSecret("6d616e61-6765-6d65-6e74-20746f6b656e")
	fmt.Printf("%v %s %+v\n", token, token, struct{ Token nomad.Secret }{token})
	fmt.Println(token.Reveal())
	// Output:
	// <redacted> <redacted> {Token:<redacted>}
	// 6d616e61-6765-6d65-6e74-20746f6b656e
}

// One agent can pass a call on to another: a server by its name, a client by the ID of its node.
func ExampleTarget() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Debug())
	defer cluster.Close()
	client := cluster.Client("server-1")

	host, err := client.Agent.Host(context.Background(), nomad.OnServer("server-2.global"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(host.AgentID)
	// Output: server-2.global
}
