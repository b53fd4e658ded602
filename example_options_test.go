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

// Options after FromEnvironment override the variables.
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

// An address can be a URL, a host and port, or a unix socket such as that of the task API.
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

// The limit applies to a whole call, including retries. A context with an earlier deadline ends the
// call earlier.
func ExampleWithTimeout() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	cluster.Agent("server-1").Inject(nomadtest.Stall()) // the request gets no response

	client := cluster.Client("server-1", nomad.WithTimeout(50*time.Millisecond))
	_, err := client.Agent.Self(context.Background())
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// Safe requests are retried. Here the agent refuses the request twice and the third attempt succeeds.
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

// Your own http.Client uses its own transport, which handles connections, TLS and proxies.
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

// A Secret is redacted when it is printed. Reveal returns its value.
func ExampleSecret() {
	token := nomad.NewSecret("6d616e61-6765-6d65-6e74-20746f6b656e")
	fmt.Printf("%v %s %+v\n", token, token, struct{ Token nomad.Secret }{token})
	fmt.Println(token.Reveal())
	// Output:
	// <redacted> <redacted> {Token:<redacted>}
	// 6d616e61-6765-6d65-6e74-20746f6b656e
}

// An agent can forward a call to another agent: to a server by its name, to a client by its node ID.
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

// Agents forward some requests to another region, such as those of Status.
func ExampleWithRegion() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Servers(1, nomadtest.Region("eu")))
	defer cluster.Close()
	client := cluster.Client("server-1")

	eu, err := client.With(nomad.WithRegion("eu"))
	if err != nil {
		log.Fatal(err)
	}
	leader, err := eu.Status.Leader(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(leader == cluster.Agent("server-2").RPCAddr())
	// Output: true
}

// Other programs on this machine need connections to the agent too.
func ExampleWithMaxConns() {
	client, err := nomad.NewClient(nomad.FromEnvironment(), nomad.WithMaxConns(4))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

// A proxy in front of the agent requires a user and a password. It also serves the API below a path.
func ExampleWithBasicAuth() {
	client, err := nomad.NewClient(
		nomad.WithAddress("https://proxy.example.com/nomad"),
		nomad.WithBasicAuth("ops", os.Getenv("PROXY_PASSWORD")),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client)
	// Output: nomad.Client(https://proxy.example.com/nomad)
}

// The namespace is that of requests to endpoints that have one.
func ExampleWithNamespace() {
	client, err := nomad.NewClient(nomad.FromEnvironment())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	web, err := client.With(nomad.WithNamespace("web"))
	if err != nil {
		log.Fatal(err)
	}
	var jobs []struct{ ID, Status string }
	if _, err := web.Do(context.Background(), &nomad.Request{Path: "/v1/jobs"}, &jobs); err != nil {
		log.Print(err)
	}
}
