// Package bench compares the performance of this library, Nomad's official client and plain net/http.
package bench

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	official "github.com/hashicorp/nomad/api"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/bench/internal/agent"
	"github.com/nomad-go/nomad/internal/wire"
)

func TestMain(m *testing.M) {
	agent.Main()
	log.SetOutput(io.Discard) // net/http logs refusals on connections that the official client no longer uses
	os.Exit(m.Run())
}

// start starts an agent for one benchmark, or uses the real one at NOMAD_ADDR.
func start(b *testing.B) *agent.Process {
	if url := os.Getenv("NOMAD_ADDR"); url != "" {
		return &agent.Process{URL: url}
	}
	process, err := agent.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(process.Stop)
	return process
}

// measure repeats a call. In addition to time and memory it reports the CPU time of this process.
func measure(b *testing.B, call func(context.Context) error) {
	if err := call(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := processorTime()
	n := 0
	for b.Loop() {
		if err := call(b.Context()); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(processorTime()-before)/float64(n), "cpu-ns/op")
}

// BenchmarkCall makes the core calls, one at a time.
func BenchmarkCall(b *testing.B) {
	names := []string{"Members", "Servers", "Self", "UpdateServers", "Join", "ForceLeave", "Health"}
	if os.Getenv("NOMAD_ADDR") != "" {
		names = []string{"Members", "Self", "Health"} // calls that change nothing and that every agent supports
	}
	process := start(b)
	for _, name := range names {
		for _, s := range subjects(b, process.URL, nil) {
			b.Run(name+"/client="+s.name, func(b *testing.B) { measure(b, s.calls[name]) })
			s.close()
		}
	}
}

// BenchmarkMembers lists pools of different sizes.
func BenchmarkMembers(b *testing.B) {
	process := start(b)
	for _, n := range agent.Sizes {
		url := process.Pools[n]
		if url == "" {
			b.Skip("a real agent has one pool")
		}
		for _, s := range subjects(b, url, nil) {
			b.Run(fmt.Sprintf("members=%d/client=%s", n, s.name), func(b *testing.B) {
				measure(b, s.calls["Members"])
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
			})
			s.close()
		}
	}
}

// recordedBodies returns recorded response bodies by the names of the exchanges.
func recordedBodies(b *testing.B) map[string][]byte {
	recording, err := wire.Version("2.0.5")
	if err != nil {
		b.Fatal(err)
	}
	bodies := map[string][]byte{}
	for _, x := range recording.Exchanges {
		bodies[x.Name] = x.Content()
	}
	return bodies
}

// BenchmarkDecode makes calls without a network, which leaves the client's own work, mainly decoding.
func BenchmarkDecode(b *testing.B) {
	bodies := recordedBodies(b)
	member, self := bodies["members on srv1"], bodies["self on srv1"]
	bodies = nil // so that the garbage collector does not scan them
	for _, c := range []struct {
		name, call string
		body       []byte
	}{
		{"members=1", "Members", member},
		{"members=1000", "Members", agent.MembersOf(member, 1000)},
		{"Self", "Self", self},
	} {
		for _, s := range subjects(b, "http://127.0.0.1:4646", canned(c.body)) {
			b.Run(c.name+"/client="+s.name, func(b *testing.B) { measure(b, s.calls[c.call]) })
		}
	}
}

// BenchmarkParallel shares one client among many goroutines. Each run has a new agent, because failures
// affect an agent's later responses.
func BenchmarkParallel(b *testing.B) {
	for _, goroutines := range []int{16, 64, 1000, 10_000} {
		for _, client := range []int{0, 1, 2} {
			process := start(b)
			s := subjects(b, process.URL, nil)[client]
			b.Run(fmt.Sprintf("goroutines=%d/client=%s", goroutines, s.name), func(b *testing.B) {
				var failed atomic.Int64
				b.ReportAllocs()
				b.SetParallelism(goroutines / runtime.GOMAXPROCS(0))
				before := processorTime()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if s.calls["Members"](b.Context()) != nil {
							failed.Add(1)
						}
					}
				})
				b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(int64(b.N)-failed.Load())/b.Elapsed().Seconds(), "calls/s")
				b.ReportMetric(100*float64(failed.Load())/float64(b.N), "%failed")
			})
			s.close()
		}
	}
}

// BenchmarkLog reads a log that the agent sends as fast as it is read.
func BenchmarkLog(b *testing.B) {
	if os.Getenv("NOMAD_ADDR") != "" {
		b.Skip("a real agent logs too slowly")
	}
	process := start(b)
	const piece = 4 << 20
	for _, s := range subjects(b, process.URL, nil) {
		if s.logs != nil {
			b.Run("client="+s.name, func(b *testing.B) {
				b.SetBytes(piece)
				measure(b, func(ctx context.Context) error { return s.logs(ctx, piece) })
			})
		}
		s.close()
	}
}

// BenchmarkNew creates clients.
func BenchmarkNew(b *testing.B) {
	b.Run("NewClient/client=nomad-go", func(b *testing.B) {
		measure(b, func(context.Context) error {
			client, err := nomad.NewClient()
			if err == nil {
				client.Close()
			}
			return err
		})
	})
	b.Run("NewClient/client=official", func(b *testing.B) {
		measure(b, func(context.Context) error {
			client, err := official.NewClient(official.DefaultConfig())
			if err == nil {
				client.Close()
			}
			return err
		})
	})
	client, err := nomad.NewClient(nomad.WithHTTPClient(&http.Client{}))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("With/client=nomad-go", func(b *testing.B) {
		measure(b, func(context.Context) error {
			_, err := client.With(nomad.WithRegion("eu"), nomad.WithToken("secret"))
			return err
		})
	})
}
