package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// The defaults of SurveyOptions.
const (
	DefaultSurveyConcurrency = 32
	DefaultSurveyTimeout     = 10 * time.Second
)

// SurveyOptions say how Agent.Survey reaches the servers. The zero value is good where all of them answer at one port.
type SurveyOptions struct {
	// Address tells where a server answers HTTP, in any form that WithAddress takes. nil stands for the address that it
	// gossips at, with the port and scheme of the Client's own address. Servers that share an IP address, as those of package
	// nomadtest do, cannot be found without it.
	Address func(Member) string

	// Concurrency is how many servers are asked at once; 0 stands for DefaultSurveyConcurrency.
	Concurrency int

	// Timeout is how long a server can take to answer; 0 stands for DefaultSurveyTimeout. One without a leader takes 5 s.
	Timeout time.Duration

	// Progress, if it is set, is told of each server when it has been asked: how many have been, and of how many. Like Address
	// it is called in the goroutine that called Survey.
	Progress func(done, total int, report ServerReport)
}

// Survey is what the servers of a pool say, each for itself.
type Survey struct {
	Members       []Member       // the pool as the Client's agent sees it, in the order of CompareMembers
	Servers       []ServerReport // of each of Members that has not left, in the same order
	Disagreements []Disagreement // what servers see differently, by the names of the members
}

// OK reports whether every server answered and is healthy, and all see the same pool.
func (s *Survey) OK() bool {
	return len(s.Disagreements) == 0 && !slices.ContainsFunc(s.Servers, func(r ServerReport) bool { return !r.OK() })
}

// Unreachable gives the servers that did not answer at all.
func (s *Survey) Unreachable() []ServerReport {
	var reports []ServerReport
	for _, r := range s.Servers {
		if !r.Reachable() {
			reports = append(reports, r)
		}
	}
	return reports
}

// ServerReport is what one server says.
type ServerReport struct {
	Member  Member        // the server, as the Client's agent sees it
	Address string        // where it was asked
	Health  *Health       // what it says of itself; nil if it did not
	Sees    int           // how many members the pool has in its view
	Err     error         // why its health or its view is not known; nil also when it is unhealthy
	Took    time.Duration // how long it took to answer, or not to
}

// OK reports whether the server answered, and is alive and healthy.
func (r ServerReport) OK() bool {
	return r.Err == nil && r.Health.OK() && r.Member.Status == StatusAlive
}

// Reachable reports whether the server answered something, be it a refusal.
func (r ServerReport) Reachable() bool { return r.Err == nil || r.Health != nil || isAnswer(r.Err) }

// Disagreement is a member that servers see differently.
type Disagreement struct {
	Name  string       // of the member
	Views []MemberView // the one that most servers share first
}

// MemberView is what some servers see of a member.
type MemberView struct {
	Member  Member   // as they see it; the zero Member when they do not know it
	Servers []string // their names, sorted
}

// Known reports whether they know the member.
func (v MemberView) Known() bool { return v.Member.Name != "" }

// Survey asks every server of the pool for its health and its own view of the pool, many at once, and reports which cannot be
// reached and where the views differ. Views that differ for some seconds are gossip on its way; those that go on to differ
// are a network that is cut somewhere. It asks the servers that are known to the Client's agent and have not left, those that
// failed too: one that answers has only been cut off from the others. That a member which has left is not known to all is
// no disagreement: a server that was started later never hears of it.
//
// The ACL token goes to every address that the pool names, and so do the user and password of WithBasicAuth and the headers of
// WithHeader: to servers that failed too, whose address may be another machine's by now, and in the clear where the Client's own
// address is http. Whoever can join the gossip can be one of them. Use https, or Address, or a token with node:read alone. With
// https the certificates must be good for the addresses, or for the name that TLS.ServerName gives. A Client of a unix
// socket cannot reach others, and each report says so.
//
// What a server fails with is in its report; that another one answers in its place is ErrInvalidResponse. Survey itself
// fails, without a Survey, as Members does; when options mean nothing it is ErrInvalidArgument. When the context ends it
// fails with that, and the Survey has what there was by then: servers that were not asked have the context's error.
//
// A pool of a thousand servers, where each tells of a thousand, is a gigabyte that comes over the network; little of it is kept.
// It needs an agent of any role and an ACL token with node:read. It makes the calls GET /v1/agent/members and
// GET /v1/agent/health.
func (a *Agent) Survey(ctx context.Context, opts SurveyOptions) (*Survey, error) {
	switch {
	case opts.Concurrency < 0:
		return nil, invalidArgument("Survey", "Concurrency %d: want 1 or more, or 0 for %d", opts.Concurrency, DefaultSurveyConcurrency)
	case opts.Timeout < 0:
		return nil, invalidArgument("Survey", "Timeout %v: want more than 0, or 0 for %v", opts.Timeout, DefaultSurveyTimeout)
	case opts.Address == nil:
		opts.Address = a.besides
	}
	opts.Concurrency = cmp.Or(opts.Concurrency, DefaultSurveyConcurrency)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultSurveyTimeout)

	members, err := a.Members(ctx)
	if err != nil {
		return nil, err
	}
	survey := &Survey{Members: members.Members}
	slices.SortFunc(survey.Members, CompareMembers)
	survey.Members = slices.CompactFunc(survey.Members, func(a, b Member) bool { return a.Name == b.Name })
	for _, m := range survey.Members {
		if m.Status != StatusLeft {
			survey.Servers = append(survey.Servers, ServerReport{Member: m, Address: opts.Address(m)})
		}
	}

	type answered struct {
		server int
		view   []Member
	}
	var (
		turns   = make(chan int, len(survey.Servers))
		answers = make(chan answered) // has room for none: views are large, and Progress can be slow
		ended   = make(chan struct{})
	)
	for i := range survey.Servers {
		turns <- i
	}
	close(turns)
	asking, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait() // also when Progress panics
	defer stop()
	defer close(ended)
	for range min(opts.Concurrency, len(survey.Servers)) {
		group.Go(func() {
			for i := range turns {
				answer := answered{i, a.ask(asking, opts.Timeout, &survey.Servers[i])}
				select {
				case answers <- answer:
				case <-ended:
					return
				}
			}
		})
	}
	var views tally
	for done := range survey.Servers {
		answer := <-answers
		report := survey.Servers[answer.server]
		if answer.view != nil {
			views.add(report.Member.Name, answer.view)
		}
		if opts.Progress != nil {
			opts.Progress(done+1, len(survey.Servers), report)
		}
	}
	survey.Disagreements = views.disagreements()
	if ctx.Err() != nil {
		return survey, fmt.Errorf("nomad: Survey: %w", a.client.timeError(ctx, opts.Timeout, ctx.Err()))
	}
	return survey, nil
}

// besides is where another server answers if it does so as the Client's agent does.
func (a *Agent) besides(m Member) string {
	own := a.client.common.base
	return own.Scheme + "://" + net.JoinHostPort(m.Addr.String(), portOf(&own))
}

// ask asks one server. It gives the server's view, or nil.
func (a *Agent) ask(ctx context.Context, timeout time.Duration, report *ServerReport) []Member {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started := time.Now()
	defer func() { report.Took = time.Since(started) }()
	// A region would have the health of another server.
	client, err := a.client.With(WithAddress(report.Address), WithTimeout(timeout), WithRegion(""))
	if err != nil {
		report.Err = err
		return nil
	}
	members, err := client.Agent.Members(ctx)
	switch {
	case err != nil:
		report.Err = err
		if !isAnswer(err) {
			return nil
		}
	case members.ServerName+"."+members.ServerRegion != report.Member.Name:
		name := client.clean(membersEndpoint.to(nil), members.ServerName+"."+members.ServerRegion, 100)
		report.Err = fmt.Errorf("nomad: Survey: %w: %s answers at %s, where %s was looked for", ErrInvalidResponse,
			name, report.Address, client.clean(membersEndpoint.to(nil), report.Member.Name, 100))
		return nil
	}
	if report.Health, err = client.Agent.apart().Health(ctx); report.Health == nil {
		report.Err = errors.Join(report.Err, err)
	}
	if members == nil {
		return nil
	}
	report.Sees = len(members.Members)
	return members.Members
}

// tally sorts what servers see of members by what it is, and keeps one of each.
type tally struct {
	servers []string
	members map[string][]MemberView
}

func (t *tally) add(server string, view []Member) {
	if t.members == nil {
		t.members = map[string][]MemberView{}
	}
	t.servers = append(t.servers, server)
	told := make(map[string]bool, len(view))
	for _, m := range view {
		if told[m.Name] {
			continue
		}
		told[m.Name] = true
		seen := t.members[m.Name]
		i := slices.IndexFunc(seen, func(v MemberView) bool { return sameMember(v.Member, m) })
		if i < 0 {
			i = len(seen)
			seen = append(seen, MemberView{Member: m})
			t.members[m.Name] = seen
		}
		seen[i].Servers = append(seen[i].Servers, server)
	}
}

func (t *tally) disagreements() []Disagreement {
	var all []Disagreement
	for name, seen := range t.members {
		if len(seen) == 1 && (len(seen[0].Servers) == len(t.servers) || seen[0].Member.Status == StatusLeft) {
			continue
		}
		know := map[string]bool{}
		for _, v := range seen {
			slices.Sort(v.Servers)
			for _, server := range v.Servers {
				know[server] = true
			}
		}
		var without []string
		for _, server := range t.servers {
			if !know[server] {
				without = append(without, server)
			}
		}
		if without != nil {
			slices.Sort(without)
			seen = append(seen, MemberView{Servers: without})
		}
		slices.SortFunc(seen, func(a, b MemberView) int {
			return cmp.Or(cmp.Compare(len(b.Servers), len(a.Servers)), slices.Compare(a.Servers, b.Servers))
		})
		all = append(all, Disagreement{name, seen})
	}
	slices.SortFunc(all, func(a, b Disagreement) int { return strings.Compare(a.Name, b.Name) })
	return all
}
