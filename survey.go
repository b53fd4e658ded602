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
	// gossips at, with the port and scheme of the Client's own address.
	Address func(Member) string

	// Concurrency is how many servers are asked at once; 0 stands for DefaultSurveyConcurrency.
	Concurrency int

	// Timeout is how long a server can take to answer; 0 stands for DefaultSurveyTimeout. One without a leader takes 5 s.
	Timeout time.Duration

	// Progress, if it is set, is told of each server when it has been asked: how many have been, and of how many. It is called
	// by one goroutine at a time, and the survey waits for it.
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
	return len(s.Disagreements) == 0 && !slices.ContainsFunc(s.Servers, func(r ServerReport) bool { return r.Err != nil || !r.Health.OK() })
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
	Members int           // how many members the pool has in its view
	Err     error         // why its health or its view is not known; nil also when it is unhealthy
	Took    time.Duration // how long it took to answer, or not to
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

// Survey asks every server of the pool for its health and its own view of the pool, many at once, and reports which cannot be
// reached and where the views differ. Views that differ for some seconds are gossip on its way; those that go on to differ
// are a network that is cut somewhere. It asks the servers that are known to the Client's agent and have not left, those that
// failed too: one that answers has only been cut off from the others.
//
// The ACL token goes to all of them. With https their certificates must be good for the addresses, or for the name
// that TLS.ServerName gives. A Client of a unix socket cannot reach others, and each report says so.
//
// What a server fails with is in its report. Survey itself fails, without a Survey, as Members does; when options mean
// nothing it is ErrInvalidArgument. When the context ends it fails with that, and the Survey has what there was by then.
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
	for _, m := range survey.Members {
		if m.Status != StatusLeft {
			survey.Servers = append(survey.Servers, ServerReport{Member: m})
		}
	}

	var (
		mu    sync.Mutex // of all that follows
		next  int
		done  int
		views tally
		group sync.WaitGroup
	)
	for range min(opts.Concurrency, len(survey.Servers)) {
		group.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(survey.Servers) {
					return
				}
				report := &survey.Servers[i]
				view := a.ask(ctx, opts, report)
				mu.Lock()
				if view != nil {
					views.add(report.Member.Name, view)
				}
				done++
				if opts.Progress != nil {
					opts.Progress(done, len(survey.Servers), *report)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
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
func (a *Agent) ask(ctx context.Context, opts SurveyOptions, report *ServerReport) []Member {
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	started := time.Now()
	defer func() { report.Took = time.Since(started) }()
	report.Address = opts.Address(report.Member)
	client, err := a.client.With(WithAddress(report.Address), WithTimeout(opts.Timeout))
	if err != nil {
		report.Err = err
		return nil
	}
	if report.Health, err = client.Agent.Health(ctx); err != nil && report.Health == nil {
		report.Err = err
		if !isAnswer(err) {
			return nil
		}
	}
	members, err := client.Agent.Members(ctx)
	if err != nil {
		report.Err = errors.Join(report.Err, err)
		return nil
	}
	report.Members = len(members.Members)
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
		if len(seen) == 1 && len(seen[0].Servers) == len(t.servers) {
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
