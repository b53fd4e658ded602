// Package survey requests from every server of a gossip pool its health and its view of the pool.
//
//	report, err := survey.Run(ctx, client)
//	if err != nil {
//		return err
//	}
//	fmt.Println(report)
//
// Servers learn of a change one after the other, so views can differ for some seconds. Views that
// stay different mean that the network between the servers is cut.
package survey

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/show"
)

// The defaults of the options.
const (
	DefaultConcurrency = 32
	DefaultTimeout     = 10 * time.Second
)

// defaultPort is Nomad's own for HTTP.
const defaultPort = 4646

// Option changes how Run reaches the servers.
type Option struct{ set func(*settings) error }

type settings struct {
	address     func(nomad.Member) string
	concurrency int
	timeout     time.Duration
	progress    func(done, total int, server Server)
}

// WithAddress sets a function that returns the HTTP address of a server, in any form that nomad.WithAddress accepts.
// HTTPAddress and HTTPSAddress return such functions. If Run cannot use an address, Server.Err is ErrInvalidArgument.
// Run calls the function from the goroutine that called Run, so it needs no lock.
//
// The default is the IP address at which the server gossips, with the scheme and port of the Client's own address.
// Servers that share an IP address, as those of package nomadtest do, need this option.
func WithAddress(address func(nomad.Member) string) Option {
	return Option{func(s *settings) error {
		if address == nil {
			return errors.New("WithAddress: the function is nil")
		}
		s.address = address
		return nil
	}}
}

// HTTPAddress returns a function for WithAddress. The function returns an http address with the IP address at which the
// server gossips and the given port.
func HTTPAddress(port uint16) func(nomad.Member) string { return addresses("http", port) }

// HTTPSAddress returns a function for WithAddress. The function returns an https address with the IP address at which
// the server gossips and the given port. The certificates must be valid for these addresses, or for
// nomad.TLS.ServerName.
func HTTPSAddress(port uint16) func(nomad.Member) string { return addresses("https", port) }

func addresses(scheme string, port uint16) func(nomad.Member) string {
	return func(m nomad.Member) string {
		return scheme + "://" + net.JoinHostPort(m.Addr.String(), strconv.FormatUint(uint64(port), 10))
	}
}

// addressesAs returns the function of a Client that no option names one for.
func addressesAs(client *nomad.Client) func(nomad.Member) string {
	own, err := url.Parse(client.Address())
	if err != nil || own.Scheme != "https" && own.Scheme != "http" {
		return HTTPAddress(defaultPort) // of a unix socket, which reaches no other server
	}
	port := map[string]uint64{"http": 80, "https": 443}[own.Scheme]
	if own.Port() != "" {
		port, _ = strconv.ParseUint(own.Port(), 10, 16)
	}
	return addresses(own.Scheme, uint16(port))
}

// WithConcurrency sets how many servers are surveyed at the same time, 1 or more. The default is DefaultConcurrency.
func WithConcurrency(n int) Option {
	return Option{func(s *settings) error {
		if n < 1 {
			return fmt.Errorf("WithConcurrency(%d): want 1 or more", n)
		}
		s.concurrency = n
		return nil
	}}
}

// WithTimeout limits the time for all responses of one server. A server without a leader takes 5 s. The default is
// DefaultTimeout. d must be more than 0.
func WithTimeout(d time.Duration) Option {
	return Option{func(s *settings) error {
		if d <= 0 {
			return fmt.Errorf("WithTimeout(%v): want more than 0", d)
		}
		s.timeout = d
		return nil
	}}
}

// WithProgress sets a function that Run calls after each server, with the number of servers that are done and of all.
// It is called from the goroutine that called Run, so it needs no lock. The default is none.
func WithProgress(progress func(done, total int, server Server)) Option {
	return Option{func(s *settings) error {
		if progress == nil {
			return errors.New("WithProgress: the function is nil")
		}
		s.progress = progress
		return nil
	}}
}

// Run surveys all servers that the Client's agent knows and that have not left. That includes failed servers: one that
// responds is running, but cut off from the others.
//
// Server.Err is the error of one server. It is ErrInvalidResponse if another server responds at the address. Run fails
// without a Report if Members fails, and with ErrInvalidArgument if an option cannot be used. When the context ends,
// Run returns the context's error and a Report of the responses so far. In it the context's error is also the
// Server.Err of the other servers.
//
// Run sends the Client's ACL token, the password of WithBasicAuth and the headers of WithHeader to every address in the
// pool. That includes failed servers, whose address may belong to another machine by now. If the Client's address is
// http, they are sent unencrypted. Whoever can join the gossip pool can add an address. Use https, WithAddress, or a
// token that has node:read only. With https the certificates must be valid for the servers' addresses, or for
// nomad.TLS.ServerName. A Client whose own address is a unix socket cannot reach other servers, and each Server.Err
// says so.
//
// A survey of a thousand servers transfers about a gigabyte. It keeps little of that in memory.
//
// Run itself has no limit on its time or on the number of servers. If none responds, it takes the time limit of one
// server for every WithConcurrency servers: more than five minutes for a thousand servers with the defaults. The agent
// decides how many servers there are. Give the context a deadline.
//
// It requires the ACL capability node:read.
func Run(ctx context.Context, client *nomad.Client, opts ...Option) (*Report, error) {
	s := settings{address: addressesAs(client), concurrency: DefaultConcurrency, timeout: DefaultTimeout}
	for i, opt := range opts {
		if opt.set == nil {
			return nil, fmt.Errorf("%w: survey: option %d is the zero Option", nomad.ErrInvalidArgument, i+1)
		}
		if err := opt.set(&s); err != nil {
			return nil, fmt.Errorf("%w: survey: %w", nomad.ErrInvalidArgument, err)
		}
	}
	members, err := client.Agent.Members(ctx)
	if err != nil {
		return nil, err
	}
	report := &Report{Members: members.Members}
	slices.SortFunc(report.Members, nomad.CompareMembers)
	listed := map[string]bool{}
	report.Members = slices.DeleteFunc(report.Members, func(m nomad.Member) bool {
		twice := listed[m.Name] // perhaps with another region, so not one after the other
		listed[m.Name] = true
		return twice
	})
	for _, m := range report.Members {
		if m.Status != nomad.StatusLeft {
			report.Servers = append(report.Servers, Server{Member: m, Address: s.address(m), Build: m.Build()})
		}
	}
	var all views
	s.each(ctx, client, report, func(server int, view []nomad.Member) {
		if view != nil {
			all.add(report.Servers[server].Member.Name, view)
		}
	})
	report.Disagreements = all.disagreements()
	if err := ctx.Err(); err != nil {
		if cause := context.Cause(ctx); cause != err {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return report, fmt.Errorf("nomad: survey: %w", err)
	}
	return report, nil
}

// each surveys the servers of a report, several at the same time, and passes each server's view, or
// nil, to use.
func (s *settings) each(
	ctx context.Context, client *nomad.Client, report *Report, use func(server int, view []nomad.Member),
) {
	type result struct {
		server int
		view   []nomad.Member
	}
	var (
		next    = make(chan int, len(report.Servers))
		results = make(chan result) // without a buffer: views are large, and the progress function can be slow
		ended   = make(chan struct{})
		group   sync.WaitGroup
	)
	for i := range report.Servers {
		next <- i
	}
	close(next)
	ctx, cancel := context.WithCancel(ctx)
	defer group.Wait() // also when the progress function panics
	defer cancel()
	defer close(ended)
	for range min(s.concurrency, len(report.Servers)) {
		group.Go(func() {
			for i := range next {
				r := result{i, s.survey(ctx, client, report, i)}
				select {
				case results <- r:
				case <-ended:
					return
				}
			}
		})
	}
	for done := range report.Servers {
		r := <-results
		use(r.server, r.view)
		if s.progress != nil {
			s.progress(done+1, len(report.Servers), report.Servers[r.server])
		}
	}
}

// survey fills in what one server of a report responds, and returns its view of the pool, or nil.
func (s *settings) survey(ctx context.Context, client *nomad.Client, report *Report, i int) []nomad.Member {
	server := &report.Servers[i]
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	started := time.Now()
	defer func() { server.Duration = time.Since(started) }()
	// With a region the health would be that of a server there.
	client, err := client.With(nomad.WithAddress(server.Address), nomad.WithTimeout(s.timeout), nomad.WithRegion(""))
	if err != nil {
		server.Err = err
		return nil
	}
	members, err := client.Agent.Members(ctx)
	if err != nil {
		server.Err = err
		if !isResponse(err) {
			return nil
		}
	} else if name := members.ServerName + "." + members.ServerRegion; name != server.Member.Name {
		// A name that the pool does not have is not quoted: it can be anything.
		server.Err = fmt.Errorf("%w: survey: %s responds at %s in place of %s", nomad.ErrInvalidResponse,
			report.nameOf(name), server.Address, show.Line(server.Member.Name))
		return nil
	}
	// Where several servers share an address another one can respond on another connection.
	health, err := client.Agent.Health(agentconn.WithMark(ctx, agentconn.Fresh))
	if server.Health = health; health == nil {
		server.Err = errors.Join(server.Err, err)
	}
	if err == nil { // otherwise it has no leader, or needs its time to say so
		server.Leader = leaderOf(ctx, client)
	}
	if members == nil {
		return nil
	}
	server.Sees = len(members.Members)
	for _, m := range members.Members {
		if m.Name == server.Member.Name {
			server.Build = m.Build()
		}
	}
	return members.Members
}

// nameOf returns the name of a member of the pool. Another name is not repeated: it can be anything.
func (r Report) nameOf(name string) string {
	if slices.ContainsFunc(r.Members, func(m nomad.Member) bool { return m.Name == name }) {
		return show.Line(name)
	}
	return "another server"
}

// leaderOf returns the RPC address of the leader as a server sees it, or an empty string.
func leaderOf(ctx context.Context, client *nomad.Client) string {
	leader, err := client.Status.Leader(ctx)
	if _, _, invalid := net.SplitHostPort(leader); err != nil || invalid != nil || len(leader) > 300 {
		return ""
	}
	return leader
}

// isResponse reports whether an error is a response of an agent.
func isResponse(err error) bool {
	var response *nomad.APIError
	return errors.As(err, &response)
}
