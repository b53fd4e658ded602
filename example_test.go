package nomad_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

func Example() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	os.Setenv("NOMAD_ADDR", cluster.URL("server-1")) // as in an operator's shell

	client, err := nomad.NewClient(nomad.FromEnvironment())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	members, err := client.Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	slices.SortFunc(members.Members, nomad.CompareMembers)
	for _, m := range members.Members {
		fmt.Println(m.Name, m.Status, m.Region())
	}
	// Output:
	// server-1.global alive global
	// server-2.global alive global
	// server-3.global alive global
}

func ExampleNewClient() {
	client, err := nomad.NewClient(
		nomad.WithAddress("https://nomad.example.com:4646"),
		nomad.WithToken(os.Getenv("MY_TOKEN")),
		nomad.WithTimeout(10*time.Second),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client)
	// Output: nomad.Client(https://nomad.example.com:4646)
}

func ExampleNewClient_mistakes() {
	_, err := nomad.NewClient(nomad.WithAddress("nomad.example.com"), nomad.WithRetries(-1))
	fmt.Println(err)
	// Output:
	// nomad: WithAddress: "nomad.example.com": want http://host:port, https://host:port, unix:///path/to/socket or host:port
	// nomad: WithRetries(-1): want 0 or more
}

func ExampleClient_With() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1")

	// Requests go to the same agent over the same connections, with another region and another token.
	eu, err := client.With(nomad.WithRegion("eu"), nomad.WithToken("c2f7…"))
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(eu.String() == client.String())
	// Output: true
}

func ExampleClient_Do() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1")

	// Do sends requests to endpoints that have no method. Here it requests the members.
	var members struct{ ServerRegion string }
	if _, err := client.Do(context.Background(), &nomad.Request{Path: "/v1/agent/members"}, &members); err != nil {
		log.Fatal(err)
	}
	fmt.Println(members.ServerRegion)
	// Output: global
}

func ExampleClient_HTTPClient() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	client := cluster.Client("server-1")

	// Nomad's official client can use it too:
	//
	//	api.NewClient(&api.Config{Address: client.Address(), HttpClient: client.HTTPClient()})
	//
	// So can any other code that accepts an http.Client.
	res, err := client.HTTPClient().Get(client.Address() + "/v1/agent/members")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
	// Output: 200 OK
}

func ExampleAgent_Members() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	cluster.Agent("server-3").Stop()

	members, err := cluster.Client("server-1").Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range members.Members {
		if m.Status == nomad.StatusFailed {
			fmt.Println(m.Name, "runs Nomad", m.Build(), "in", m.Datacenter(), "and has failed")
		}
	}
	// Output: server-3.global runs Nomad 2.0.5 in dc1 and has failed
}

func ExampleMembers_All() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(2), nomadtest.Servers(1, nomadtest.Region("eu")))
	defer cluster.Close()

	members, err := cluster.Client("server-1").Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	regions := map[string]int{}
	for m := range members.All() {
		regions[m.Region()]++
	}
	fmt.Println(regions)
	// Output: map[eu:1 global:2]
}

func ExampleAgent_Servers() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.Clients(1))
	defer cluster.Close()

	servers, err := cluster.Client("client-1").Agent.Servers(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(servers), "servers")

	// A server does not have this list.
	_, err = cluster.Client("server-1").Agent.Servers(context.Background())
	fmt.Println(errors.Is(err, nomad.ErrClientOnly))
	// Output:
	// 3 servers
	// true
}

func ExampleAgent_UpdateServers() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1))
	defer cluster.Close()

	address := cluster.Agent("server-1").RPCAddr() // on a real server: host:4647
	if err := cluster.Client("client-1").Agent.UpdateServers(context.Background(), address); err != nil {
		log.Fatal(err)
	}
	fmt.Println("updated")
	// Output: updated
}

func ExampleAgent_Self() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	self, err := cluster.Client("server-1").Agent.Self(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(self.Config.NodeName, self.Config.Version, self.Member.Status)
	// Output: server-1 2.0.5 alive
}

func ExampleAgent_Join() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	newcomer := cluster.AddServer("server-4", nomadtest.Unjoined())

	result, err := cluster.Client("server-4").Agent.Join(context.Background(), cluster.Agent("server-1").SerfAddr())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("joined", result.Joined)

	_, err = cluster.Client(newcomer.Name()).Agent.Join(context.Background(), "127.0.0.1:1")
	fmt.Println(errors.Is(err, nomad.ErrJoinFailed))
	// Output:
	// joined 1
	// true
}

func ExampleAgent_ForceLeave() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	cluster.Agent("server-3").Stop() // it crashes and stays in the list as failed

	client := cluster.Client("server-1")
	if err := client.Agent.ForceLeave(context.Background(), "server-3.global"); err != nil {
		log.Fatal(err)
	}
	members, err := client.Agent.Members(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	slices.SortFunc(members.Members, nomad.CompareMembers)
	fmt.Println(members.Members)

	// Prune also removes it from the list.
	if err := client.Agent.ForceLeave(context.Background(), "server-3.global", nomad.Prune()); err != nil {
		log.Fatal(err)
	}
	// Output: [server-1.global (alive) server-2.global (alive) server-3.global (left)]
}

func ExampleAgent_Health() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	client := cluster.Client("server-1")

	_, err := client.Agent.Health(context.Background())
	fmt.Println("healthy:", err == nil)

	// With two of three servers down there is no leader.
	cluster.Agent("server-2").Stop()
	cluster.Agent("server-3").Stop()
	health, err := client.Agent.Health(context.Background(), nomad.RoleServer)
	fmt.Println("healthy:", err == nil)
	fmt.Println(errors.Is(err, nomad.ErrUnhealthy), errors.Is(err, nomad.ErrNoLeader), health.Server.Message)
	// Output:
	// healthy: true
	// healthy: false
	// true true No cluster leader
}

func ExampleAgent_Host() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1), nomadtest.Debug())
	defer cluster.Close()
	client := cluster.Client("server-1")

	// The zero Target is the server itself. The request about the client goes through the server.
	for _, target := range []nomad.Target{{}, nomad.OnNode(cluster.Agent("client-1").NodeID())} {
		host, err := client.Agent.Host(context.Background(), target)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(host.OS, host.Network[0].Prefix(), host.Disk["/"].DiskMB)
	}
	// Output:
	// 6.1.0-29-amd64 #1 SMP Debian x86_64 127.0.0.1/8 251955
	// 6.1.0-29-amd64 #1 SMP Debian x86_64 127.0.0.1/8 251955
}

func ExampleAgent_Monitor() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	logs, err := cluster.Client("server-1").Agent.Monitor(ctx, nomad.MonitorOptions{Level: nomad.LevelWarn})
	if err != nil {
		log.Fatal(err)
	}
	cluster.Agent("server-1").Log("info", "nomad", "nothing to see")
	cluster.Agent("server-1").Log("warn", "nomad.raft", "heartbeat timeout reached")
	for line, err := range logs.Lines() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(line[len("2026-11-23T18:43:00.870Z "):]) // without the timestamp
		break                                                // this closes the stream
	}
	// Output: [WARN]  nomad.raft: heartbeat timeout reached
}

func ExampleAgent_MonitorExport() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()
	cluster.Agent("server-1").Log("error", "nomad", "it has happened before")

	logs, err := cluster.Client("server-1").Agent.MonitorExport(context.Background(), nomad.MonitorExportOptions{
		Service: "nomad.service",
		Since:   time.Hour,
	})
	if err != nil {
		log.Fatal(err)
	}
	last := ""
	for line, err := range logs.Lines() {
		if err != nil {
			log.Fatal(err)
		}
		last = line
	}
	fmt.Println(last[len("2026-11-23T18:43:00.870Z "):])
	// Output: [ERROR] nomad: it has happened before
}

func ExampleLogStream_Entries() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	logs, err := cluster.Client("server-1").Agent.Monitor(context.Background(), nomad.MonitorOptions{JSON: true})
	if err != nil {
		log.Fatal(err)
	}
	cluster.Agent("server-1").Log("info", "nomad.raft", "entering follower state", "leader", "10.0.0.1:4647")
	for entry, err := range logs.Entries() {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(entry.Level, entry.Module, entry.Message, entry.Fields["leader"])
		break
	}
	// Output: info nomad.raft entering follower state 10.0.0.1:4647
}

func ExampleLogStream_Lines() {
	cluster := nomadtest.NewCluster(nomadtest.LogFile())
	defer cluster.Close()
	cluster.Agent("server-1").Log("warn", "nomad", "memberlist: Refuting a suspect message")

	logs, err := cluster.Client("server-1").Agent.MonitorExport(context.Background(), nomad.MonitorExportOptions{OnDisk: true})
	if err != nil {
		log.Fatal(err)
	}
	for line, err := range logs.Lines() {
		if err != nil {
			log.Fatal(err)
		}
		if _, message, found := strings.Cut(line, "[WARN]"); found {
			fmt.Println(strings.TrimSpace(message))
		}
	}
	// Output: nomad: memberlist: Refuting a suspect message
}

func ExampleParseLogLevel() {
	for _, name := range []string{"WARNING", "loud"} {
		level, err := nomad.ParseLogLevel(name)
		fmt.Printf("%q %v\n", level, errors.Is(err, nomad.ErrInvalidArgument))
	}
	// Output:
	// "warn" false
	// "" true
}

func ExampleAgent_Profile() {
	cluster := nomadtest.NewCluster(nomadtest.Debug())
	defer cluster.Close()

	profile, err := cluster.Client("server-1").Agent.Profile(context.Background(), nomad.ProfileOptions{Type: nomad.ProfileHeap})
	if err != nil {
		log.Fatal(err)
	}
	defer profile.Close()
	file, err := os.CreateTemp("", "heap-*.pprof") // open it with go tool pprof
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	size, err := io.Copy(file, profile)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size > 0, file.Close())
	// Output: true <nil>
}

func ExampleAgent_Schedulers() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	schedulers, err := cluster.Client("server-1").Agent.Schedulers(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range schedulers.Schedulers {
		fmt.Println(s.Status, s.WorkloadStatus)
	}
	// Output:
	// Paused Paused
	// Started WaitingToDequeue
}

func ExampleAgent_SchedulerConfig() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	config, err := cluster.Client("server-1").Agent.SchedulerConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.NumSchedulers, config.EnabledSchedulers)
	// Output: 2 [service batch system sysbatch _core]
}

func ExampleAgent_UpdateSchedulerConfig() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	config, err := cluster.Client("server-1").Agent.UpdateSchedulerConfig(context.Background(), &nomad.SchedulerConfig{
		NumSchedulers:     1,
		EnabledSchedulers: []string{"service", "_core"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config.NumSchedulers, config.EnabledSchedulers)
	// Output: 1 [service _core]
}

// Rotating the gossip encryption key takes three steps: install, use and remove. Start the next step
// only when the previous one has reached every server.
func ExampleAgent_InstallKey() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg=="))
	defer cluster.Close()
	agent, ctx := cluster.Client("server-1").Agent, context.Background()

	key := nomad.NewSecret("tbLJg26ZJyJ9pK3qhc9jig==") // from nomad operator gossip keyring generate
	if _, err := agent.InstallKey(ctx, key); err != nil {
		log.Fatal(err)
	}
	ring, err := agent.ListKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if ring.Keys[key] == ring.NumNodes { // every server has it
		if _, err := agent.UseKey(ctx, key); err != nil {
			log.Fatal(err)
		}
	}
	for old := range ring.Keys {
		if old != key {
			if _, err := agent.RemoveKey(ctx, old); err != nil {
				log.Fatal(err)
			}
		}
	}
	fmt.Println(ring)
	// Output: 2 keys on 3 servers
}

func ExampleAgent_ListKeys() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3), nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg=="))
	defer cluster.Close()

	ring, err := cluster.Client("server-1").Agent.ListKeys(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for key, servers := range ring.Keys {
		fmt.Println(key, "is on", servers, "of", ring.NumNodes) // key.Reveal() would show it
	}
	// Output: <redacted> is on 3 of 3
}

func ExampleAgent_UseKey() {
	cluster := nomadtest.NewCluster(nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg=="))
	defer cluster.Close()

	_, err := cluster.Client("server-1").Agent.UseKey(context.Background(), nomad.NewSecret("short"))
	fmt.Println(err)
	// Output: nomad: UseKey: the key is not the base64 of 16, 24 or 32 bytes
}

func ExampleAgent_RemoveKey() {
	cluster := nomadtest.NewCluster(nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg=="))
	defer cluster.Close()
	agent, ctx := cluster.Client("server-1").Agent, context.Background()

	ring, err := agent.ListKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for key := range ring.Keys { // the only key is active and cannot be removed
		_, err := agent.RemoveKey(ctx, key)
		fmt.Println(err != nil)
	}
	// Output: true
}

func ExampleAgent_Reload() {
	cluster := nomadtest.NewCluster(nomadtest.Servers(1), nomadtest.Clients(1, nomadtest.Version("1.6.5")))
	defer cluster.Close()

	fmt.Println(cluster.Client("server-1").Agent.Reload(context.Background()))

	err := cluster.Client("client-1").Agent.Reload(context.Background())
	fmt.Println(errors.Is(err, nomad.ErrUnsupported)) // Reload needs Nomad 2.0.3
	// Output:
	// <nil>
	// true
}

func ExampleAPIError() {
	cluster := nomadtest.NewCluster(nomadtest.Clients(1))
	defer cluster.Close()

	err := cluster.Client("client-1").Agent.ForceLeave(context.Background(), "server-9.global")
	var failure *nomad.APIError
	if errors.As(err, &failure) {
		fmt.Println(failure.Method, failure.Path, failure.StatusCode, failure.Message)
	}
	fmt.Println(errors.Is(err, nomad.ErrServerOnly))
	// Output:
	// PUT /v1/agent/force-leave 501 Invalid method
	// true
}

func ExampleWithTLS() {
	// The files that "nomad tls ca create" and "nomad tls cert create -cli" write.
	_, err := nomad.NewClient(
		nomad.WithAddress("https://10.0.0.1:4646"),
		nomad.WithTLS(nomad.TLS{
			CAFile:     "nomad-agent-ca.pem",
			CertFile:   "global-cli-nomad.pem",
			KeyFile:    "global-cli-nomad-key.pem",
			ServerName: "server.global.nomad",
		}),
	)
	fmt.Println(err)
	// Output: nomad: WithTLS: CAFile: open nomad-agent-ca.pem: no such file or directory
}

func ExampleWithTokenFile() {
	cluster := nomadtest.NewCluster(nomadtest.ACLs())
	defer cluster.Close()
	folder, err := os.MkdirTemp("", "secrets-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "nomad_token") // in a task, ${NOMAD_SECRETS_DIR}/nomad_token
	if err := os.WriteFile(path, []byte(nomadtest.UnknownToken), 0o600); err != nil {
		log.Fatal(err)
	}

	client, err := nomad.NewClient(nomad.WithAddress(cluster.URL("server-1")), nomad.WithTokenFile(path))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = client.Agent.Self(context.Background())
	fmt.Println(errors.Is(err, nomad.ErrPermissionDenied))

	// The token is replaced while the program runs.
	if err := os.WriteFile(path, []byte(nomadtest.AgentReadToken), 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = client.Agent.Self(context.Background())
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

func ExampleWithTLSConfig() {
	config := &tls.Config{ServerName: "server.global.nomad", MinVersion: tls.VersionTLS13}
	client, err := nomad.NewClient(nomad.WithAddress("10.0.0.1:4646"), nomad.WithTLSConfig(config))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client)
	// Output: nomad.Client(https://10.0.0.1:4646)
}

func ExampleWithTransport() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	count := func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := next.RoundTrip(r)
			if err == nil {
				fmt.Println(r.Method, r.URL.Path, res.StatusCode)
			}
			return res, err
		})
	}
	client := cluster.Client("server-1", nomad.WithTransport(count))
	client.Agent.Health(context.Background())
	// Output: GET /v1/agent/health 200
}

func ExampleWithLogger() {
	cluster := nomadtest.NewCluster()
	defer cluster.Close()

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "url" || a.Key == "duration" {
				return slog.Attr{} // they differ from run to run
			}
			return a
		},
	}))
	client := cluster.Client("server-1", nomad.WithLogger(logger))
	client.Agent.Health(context.Background())
	// Output: level=DEBUG msg="nomad request" method=GET attempt=1 status=200
}
