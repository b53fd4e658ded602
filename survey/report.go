package survey

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/redact"
	"github.com/nomad-go/nomad/internal/show"
)

// Report has the responses of the servers of a pool, compared.
type Report struct {
	Members       []nomad.Member // the pool as the Client's agent sees it, in the order of nomad.CompareMembers
	Servers       []Server       // all of Members that have not left, in the same order
	Disagreements []Disagreement // the members that servers see differently, sorted by name
}

// OK reports whether every server is healthy, all see the same pool, and those of a region name the same leader.
func (r Report) OK() bool {
	return len(r.Disagreements) == 0 && len(r.LeaderDisagreements()) == 0 &&
		!slices.ContainsFunc(r.Servers, func(s Server) bool { return !s.OK() })
}

// LeaderDisagreements returns the regions whose servers name different leaders, sorted. During an election that can
// happen for a moment.
func (r Report) LeaderDisagreements() []string {
	leaders := map[string]string{}
	var regions []string
	for _, s := range r.Servers {
		region := s.Member.Region()
		switch leader := leaders[region]; {
		case s.Leader == "":
		case leader == "":
			leaders[region] = s.Leader
		case leader != s.Leader && !slices.Contains(regions, region):
			regions = append(regions, region)
		}
	}
	slices.Sort(regions)
	return regions
}

// Unreachable returns the servers that did not respond at all.
func (r Report) Unreachable() []Server {
	var servers []Server
	for _, s := range r.Servers {
		if !s.Reachable() {
			servers = append(servers, s)
		}
	}
	return servers
}

// String returns the report as a table of the servers, one of different leaders and one of the members that they see
// differently. Cells of more than 200 bytes are cut, such as long lists of servers, but problems are not.
func (r Report) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVER\tSTATUS\tHEALTH\tBUILD\tLEADER\tSEES\tTIME\tPROBLEM")
	for _, s := range r.Servers {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n",
			line(s.Member.Name), line(string(s.Member.Status)), s.state(), line(s.Build), line(s.Leader), s.Sees,
			show.Duration(s.Duration), s.problem())
	}
	if regions := r.LeaderDisagreements(); len(regions) > 0 {
		fmt.Fprintln(table, "\nREGION\tLEADER\tNAMED BY")
		for _, region := range regions {
			for _, s := range r.Servers {
				if s.Member.Region() == region && s.Leader != "" {
					fmt.Fprintf(table, "%s\t%s\t%s\n", line(region), line(s.Leader), line(s.Member.Name))
				}
			}
		}
	}
	if len(r.Disagreements) > 0 {
		fmt.Fprintln(table, "\nMEMBER\tSEEN AS\tBY")
	}
	for _, d := range r.Disagreements {
		for _, v := range d.Views {
			fmt.Fprintf(table, "%s\t%s\t%s\n", line(d.Name), line(v.status()), line(strings.Join(v.Servers, " ")))
		}
	}
	table.Flush()
	return b.String()
}

// maxCell is how many bytes a cell has at most: all cells of a column are as wide as the widest one.
const maxCell = 200

// line returns a cell of a table.
func line(s string) string { return redact.Cut(cmp.Or(show.Line(s), "-"), maxCell) }

// MarshalJSON encodes the report as an object with ok, members, servers and disagreements, and leader_disagreements if
// there are any.
func (r Report) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		OK                  bool           `json:"ok"`
		Members             []nomad.Member `json:"members"`
		Servers             []Server       `json:"servers"`
		Disagreements       []Disagreement `json:"disagreements"`
		LeaderDisagreements []string       `json:"leader_disagreements,omitempty"`
	}{r.OK(), r.Members, r.Servers, r.Disagreements, r.LeaderDisagreements()})
}

// Server has the responses of one server.
type Server struct {
	Member   nomad.Member  // the server as the Client's agent sees it
	Address  string        // where it was called
	Build    string        // its version of Nomad, such as 2.0.5: as it reports itself, or else as in Member
	Health   *nomad.Health // its own health; nil if it did not report it
	Leader   string        // the RPC address of its region's leader, as it sees it; empty if unknown
	Sees     int           // number of members in its view of the pool
	Err      error         // why its health or its view is unknown; nil also for an unhealthy server
	Duration time.Duration // time until all its responses were there, or the error was
}

// OK reports whether the server responded, is healthy and, as the Client's agent sees it, alive.
func (s Server) OK() bool {
	return s.Err == nil && s.Healthy() && s.Member.Status == nomad.StatusAlive
}

// Healthy reports whether the server reports that it is healthy.
func (s Server) Healthy() bool { return s.Health.OK() }

// Reachable reports whether the server responded at all, even if it refused the request.
func (s Server) Reachable() bool { return s.Err == nil || s.Health != nil || isResponse(s.Err) }

func (s Server) state() string {
	switch {
	case !s.Reachable():
		return "unreachable"
	case s.Health == nil:
		return "unknown"
	case s.Healthy():
		return "healthy"
	}
	return "unhealthy"
}

// problem returns what is wrong, on one line.
func (s Server) problem() string {
	switch {
	case s.Err != nil:
		return show.Error(s.Err)
	case s.Health != nil && s.Health.Server != nil && !s.Health.Server.OK:
		return show.Line(s.Health.Server.Message)
	case s.Health != nil && s.Health.Client != nil && !s.Health.Client.OK:
		return show.Line("client: " + s.Health.Client.Message)
	}
	return ""
}

// String returns the name of the server and how it is, such as "server-1.global: unhealthy: No
// cluster leader".
func (s Server) String() string {
	return strings.TrimSuffix(show.Line(s.Member.Name)+": "+s.state()+": "+s.problem(), ": ")
}

// MarshalJSON encodes the server as an object with name, status (as the Client's agent sees it),
// address, build, reachable, healthy, health, leader, sees, duration (such as "1.5s") and error.
// What is unknown is absent.
func (s Server) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		Name      string             `json:"name"`
		Status    nomad.MemberStatus `json:"status"`
		Address   string             `json:"address"`
		Build     string             `json:"build,omitempty"`
		Reachable bool               `json:"reachable"`
		Healthy   bool               `json:"healthy"`
		Health    *nomad.Health      `json:"health,omitzero"`
		Leader    string             `json:"leader,omitempty"`
		Sees      int                `json:"sees,omitzero"`
		Duration  string             `json:"duration"`
		Error     string             `json:"error,omitempty"`
	}{s.Member.Name, s.Member.Status, s.Address, s.Build, s.Reachable(), s.Healthy(), s.Health, s.Leader, s.Sees,
		show.Duration(s.Duration), show.Error(s.Err)})
}

// Disagreement is a member that servers see differently: its status, an address, a tag or another field differs, or
// some servers do not know it. A member that has left is no disagreement if some servers do not know it, because a
// server that started later never learns of it.
type Disagreement struct {
	Name  string // of the member
	Views []View // the one that most servers share comes first
}

// String returns the name of the member and who sees it how.
func (d Disagreement) String() string {
	views := make([]string, len(d.Views))
	for i, v := range d.Views {
		views[i] = v.String()
	}
	return show.Line(d.Name) + ": " + strings.Join(views, "; ")
}

// MarshalJSON encodes the disagreement as an object with name and views.
func (d Disagreement) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		Name  string `json:"name"`
		Views []View `json:"views"`
	}{d.Name, d.Views})
}

// View is a member as some servers see it.
type View struct {
	Member  nomad.Member // as they see it; the zero Member if they do not know it
	Servers []string     // their names, sorted; views of the same servers share the list
}

// Known reports whether the servers know the member.
func (v View) Known() bool { return v.Member.Name != "" }

func (v View) status() string {
	if !v.Known() {
		return "unknown"
	}
	return show.Line(string(v.Member.Status))
}

// String returns how the servers see the member, such as "failed to [server-1.global]".
func (v View) String() string {
	return v.status() + " to [" + show.Line(strings.Join(v.Servers, " ")) + "]"
}

// MarshalJSON encodes the view as an object with known, member and servers.
func (v View) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		Known   bool         `json:"known"`
		Member  nomad.Member `json:"member,omitzero"`
		Servers []string     `json:"servers"`
	}{v.Known(), v.Member, v.Servers})
}

// views collects how servers see the members of a pool. Of equal views of a member it keeps one, and of equal sets of
// servers too, because a single server can list thousands of members that no other one knows.
type views struct {
	servers []string
	members map[string]seen
}

// seen is a member as servers see it.
type seen struct {
	by    *group // all that know it
	views []view
}

type view struct {
	member nomad.Member
	by     *group
}

// group is a set of servers: those of before, if it is not nil, and the one that was added after them. Equal sets are the
// same group.
type group struct {
	before *group
	server string
	size   int
}

// add adds what one server sees.
func (v *views) add(server string, members []nomad.Member) {
	if v.members == nil {
		v.members = map[string]seen{}
	}
	v.servers = append(v.servers, server)
	grown := map[*group]*group{}
	with := func(g *group) *group {
		if grown[g] == nil {
			grown[g] = &group{g, server, 1}
			if g != nil {
				grown[g].size += g.size
			}
		}
		return grown[g]
	}
	added := make(map[string]bool, len(members))
	for _, m := range members {
		if added[m.Name] {
			continue
		}
		added[m.Name] = true
		s := v.members[m.Name]
		s.by = with(s.by)
		i := slices.IndexFunc(s.views, func(v view) bool { return sameMember(v.member, m) })
		if i < 0 {
			i = len(s.views)
			s.views = append(s.views, view{member: m})
		}
		s.views[i].by = with(s.views[i].by)
		v.members[m.Name] = s
	}
}

// list returns the servers of a group, or all others.
func (v *views) list(g *group, others bool) []string {
	n := g.size
	if others {
		n = len(v.servers) - n
	}
	in := make(map[string]bool, g.size)
	for ; g != nil; g = g.before {
		in[g.server] = true
	}
	list := make([]string, 0, n)
	for _, server := range v.servers {
		if in[server] != others {
			list = append(list, server)
		}
	}
	return list
}

// sameMember reports whether two members of one name differ in nothing.
func sameMember(a, b nomad.Member) bool {
	return a.Addr == b.Addr && a.Port == b.Port && a.Status == b.Status && maps.Equal(a.Tags, b.Tags) &&
		a.ProtocolMin == b.ProtocolMin && a.ProtocolMax == b.ProtocolMax && a.ProtocolCur == b.ProtocolCur &&
		a.DelegateMin == b.DelegateMin && a.DelegateMax == b.DelegateMax && a.DelegateCur == b.DelegateCur
}

// disagreements returns the members that servers see differently.
func (v *views) disagreements() []Disagreement {
	slices.Sort(v.servers)
	type key struct {
		by     *group
		others bool
	}
	lists := map[key][]string{}
	list := func(g *group, others bool) []string {
		k := key{g, others}
		if lists[k] == nil {
			lists[k] = v.list(g, others)
		}
		return lists[k]
	}
	var all []Disagreement
	for name, s := range v.members {
		missing := s.by.size < len(v.servers)
		if len(s.views) == 1 && (!missing || s.views[0].member.Status == nomad.StatusLeft) {
			continue
		}
		different := make([]View, 0, len(s.views)+1)
		for _, view := range s.views {
			different = append(different, View{view.member, list(view.by, false)})
		}
		if missing {
			different = append(different, View{Servers: list(s.by, true)})
		}
		slices.SortFunc(different, func(a, b View) int {
			return cmp.Or(cmp.Compare(len(b.Servers), len(a.Servers)), slices.Compare(a.Servers, b.Servers))
		})
		all = append(all, Disagreement{name, different})
	}
	slices.SortFunc(all, func(a, b Disagreement) int { return strings.Compare(a.Name, b.Name) })
	return all
}
