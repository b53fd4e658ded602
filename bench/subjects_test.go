package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/go-cleanhttp"
	official "github.com/hashicorp/nomad/api"

	"github.com/nomad-go/nomad"
)

// subject is one of the compared clients: this library, Nomad's official client, and a few lines of net/http,
// which show the minimum cost of a call. Each call checks that its response is not empty.
type subject struct {
	name  string
	calls map[string]func(context.Context) error
	logs  func(context.Context, int) error // reads the given number of bytes of a log
	close func()
}

// subjects creates the clients as their documentation recommends, or with transport if it is not nil. The
// variable NOMAD_GO_BENCH_ROUND rotates their order, so that no client is always the first.
func subjects(b *testing.B, url string, transport http.RoundTripper) []subject {
	all := []subject{nomadGo(b, url, transport), theOfficial(b, url, transport), netHTTP(url, transport)}
	round, _ := strconv.Atoi(os.Getenv("NOMAD_GO_BENCH_ROUND"))
	first := round % len(all)
	return append(all[first:], all[:first]...)
}

const (
	address = "127.0.0.1:4648"
	node    = "server-2.global"
)

func want(err error, ok bool) error {
	if err == nil && !ok {
		return errors.New("the response is empty")
	}
	return err
}

func nomadGo(b *testing.B, url string, transport http.RoundTripper) subject {
	opts := []nomad.Option{nomad.WithAddress(url)}
	if transport != nil {
		opts = append(opts, nomad.WithHTTPClient(&http.Client{Transport: transport}))
	}
	client, err := nomad.NewClient(opts...)
	if err != nil {
		b.Fatal(err)
	}
	agent := client.Agent
	return subject{
		name: "nomad-go",
		calls: map[string]func(context.Context) error{
			"Members": func(ctx context.Context) error {
				members, err := agent.Members(ctx)
				return want(err, err == nil && len(members.Members) > 0)
			},
			"Servers": func(ctx context.Context) error {
				servers, err := agent.Servers(ctx)
				return want(err, len(servers) > 0)
			},
			"Self": func(ctx context.Context) error {
				self, err := agent.Self(ctx)
				return want(err, err == nil && self.Config != nil)
			},
			"UpdateServers": func(ctx context.Context) error { return agent.UpdateServers(ctx, address) },
			"Join": func(ctx context.Context) error {
				result, err := agent.Join(ctx, address)
				return want(err, err == nil && result.Joined > 0)
			},
			"ForceLeave": func(ctx context.Context) error { return agent.ForceLeave(ctx, node) },
			"Health": func(ctx context.Context) error {
				health, err := agent.Health(ctx)
				return want(err, err == nil && health.Server != nil)
			},
		},
		logs: func(ctx context.Context, n int) error {
			logs, err := agent.Monitor(ctx, nomad.MonitorOptions{})
			if err != nil {
				return err
			}
			defer logs.Close()
			_, err = io.CopyN(io.Discard, logs, int64(n))
			return err
		},
		close: func() { client.Close() },
	}
}

func theOfficial(b *testing.B, url string, transport http.RoundTripper) subject {
	config := &official.Config{Address: url}
	if transport != nil {
		config.HttpClient = &http.Client{Transport: transport}
	}
	client, err := official.NewClient(config)
	if err != nil {
		b.Fatal(err)
	}
	agent := client.Agent()
	return subject{
		name: "official",
		calls: map[string]func(context.Context) error{ // its calls take no context
			"Members": func(context.Context) error {
				members, err := agent.Members()
				return want(err, err == nil && len(members.Members) > 0)
			},
			"Servers": func(context.Context) error {
				servers, err := agent.Servers()
				return want(err, len(servers) > 0)
			},
			"Self": func(context.Context) error {
				self, err := agent.Self()
				return want(err, err == nil && self.Config != nil)
			},
			"UpdateServers": func(context.Context) error { return agent.SetServers([]string{address}) },
			"Join": func(context.Context) error {
				joined, err := agent.Join(address)
				return want(err, joined > 0)
			},
			"ForceLeave": func(context.Context) error { return agent.ForceLeave(node) },
			"Health": func(context.Context) error {
				health, err := agent.Health()
				return want(err, err == nil && health.Server != nil)
			},
		},
		logs: func(ctx context.Context, n int) error {
			stop := make(chan struct{})
			defer close(stop)
			frames, errs := agent.Monitor(stop, new(official.QueryOptions).WithContext(ctx))
			for n > 0 {
				select {
				case frame, ok := <-frames:
					if !ok {
						return errors.New("the log ended")
					}
					n -= len(frame.Data)
				case err := <-errs:
					return err
				}
			}
			go func() { // drain the channel, or the client's goroutine never ends
				for range frames {
				}
			}()
			return nil
		},
		close: func() { client.Close() },
	}
}

// bare is a minimal client for known responses.
type bare struct {
	http *http.Client
	url  string
}

func netHTTP(url string, transport http.RoundTripper) subject {
	if transport == nil {
		own := cleanhttp.DefaultPooledTransport()
		own.MaxConnsPerHost, own.MaxIdleConnsPerHost = nomad.DefaultMaxConns, nomad.DefaultMaxConns
		own.DisableCompression = true
		transport = own
	}
	c := &bare{&http.Client{Transport: transport, Timeout: 30 * time.Second}, url}
	return subject{
		name: "net-http",
		calls: map[string]func(context.Context) error{
			"Members": func(ctx context.Context) error {
				var members nomad.Members
				err := c.call(ctx, http.MethodGet, "/v1/agent/members", &members)
				return want(err, len(members.Members) > 0)
			},
			"Servers": func(ctx context.Context) error {
				var servers []string
				err := c.call(ctx, http.MethodGet, "/v1/agent/servers", &servers)
				return want(err, len(servers) > 0)
			},
			"Self": func(ctx context.Context) error {
				var self nomad.Self
				err := c.call(ctx, http.MethodGet, "/v1/agent/self", &self)
				return want(err, self.Config != nil)
			},
			"UpdateServers": func(ctx context.Context) error {
				return c.call(ctx, http.MethodPut, "/v1/agent/servers?address="+address, nil)
			},
			"Join": func(ctx context.Context) error {
				var result struct {
					Joined         int `json:"num_joined"`
					Error, Warning string
				}
				err := c.call(ctx, http.MethodPut, "/v1/agent/join?address="+address, &result)
				return want(err, result.Joined > 0)
			},
			"ForceLeave": func(ctx context.Context) error {
				return c.call(ctx, http.MethodPut, "/v1/agent/force-leave?node="+node, nil)
			},
			"Health": func(ctx context.Context) error {
				var health nomad.Health
				err := c.call(ctx, http.MethodGet, "/v1/agent/health", &health)
				return want(err, health.Server != nil)
			},
		},
		close: c.http.CloseIdleConnections,
	}
}

func (c *bare) call(ctx context.Context, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if out == nil {
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
	return json.UnmarshalRead(res.Body, out, jsontext.AllowInvalidUTF8(true))
}

// canned responds to every request with the same body, without a network.
type canned string

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(string(c))),
		ContentLength: int64(len(c)),
	}, nil
}
