package nomadtest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/nomadtest"
)

// BenchmarkStart starts and closes clusters of one agent and of a thousand agents.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name   string
		agents int
		make   func() *nomadtest.Cluster
	}{
		{"1server", 1, func() *nomadtest.Cluster { return nomadtest.NewCluster() }},
		{"1server+tls", 1, func() *nomadtest.Cluster { return nomadtest.NewCluster(nomadtest.MutualTLS()) }},
		{"5servers+995clients", 1000, func() *nomadtest.Cluster {
			return nomadtest.NewCluster(nomadtest.Servers(5), nomadtest.Clients(995))
		}},
		{"1000servers", 1000, func() *nomadtest.Cluster { return nomadtest.NewCluster(nomadtest.Servers(1000)) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.make().Close()
			}
			b.ReportMetric(heapOf(c.make)/float64(c.agents), "B/agent")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.agents), "ns/agent")
		})
	}
}

// heapOf returns the heap memory that a cluster uses.
func heapOf(start func() *nomadtest.Cluster) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cluster := start()
	runtime.GC()
	runtime.ReadMemStats(&after)
	cluster.Close()
	return float64(after.HeapAlloc) - float64(before.HeapAlloc) + float64(after.StackInuse) - float64(before.StackInuse)
}

// BenchmarkCall makes a call to an agent in memory, and the same call to a plain server with a fixed
// response.
func BenchmarkCall(b *testing.B) {
	cluster := nomadtest.NewCluster(nomadtest.Servers(3))
	defer cluster.Close()
	response, err := http.Get(cluster.URL("server-1") + "/v1/agent/members")
	if err != nil {
		b.Fatal(err)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	response.Body.Close()
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(content)
	}))
	defer bare.Close()
	for _, url := range []string{cluster.URL("server-1"), bare.URL} {
		client, err := nomad.NewClient(nomad.WithAddress(url))
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		name := map[bool]string{true: "agent", false: "httptest"}[url != bare.URL]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Agent.Members(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.Agent.Members(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
