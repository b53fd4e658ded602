package nomad

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/nomad-go/nomad/internal/body"
	"github.com/nomad-go/nomad/internal/show"
	"github.com/nomad-go/nomad/internal/tags"
)

// MemberStatus is the status of a member of the gossip pool, in Serf's words. Later versions of Nomad may report others
// than those listed here.
type MemberStatus string

// The statuses of members.
const (
	StatusNone    MemberStatus = "none"    // not a member; only Self of a client agent has it
	StatusAlive   MemberStatus = "alive"   // responds
	StatusLeaving MemberStatus = "leaving" // has announced that it leaves
	StatusLeft    MemberStatus = "left"    // has left, or was marked so by ForceLeave
	StatusFailed  MemberStatus = "failed"  // has stopped responding
)

// Members is the gossip pool of servers as one agent sees it.
type Members struct {
	ServerName   string   // name of the server that responded, without its region
	ServerRegion string   // its region
	ServerDC     string   // its datacenter
	Members      []Member // in no fixed order; All returns them sorted
}

// All returns the members in the order of CompareMembers.
func (m *Members) All() iter.Seq[Member] {
	return slices.Values(slices.SortedFunc(slices.Values(m.Members), CompareMembers))
}

// String returns how many members there are and which server reports them.
func (m Members) String() string {
	return fmt.Sprintf("%d members, reported by %s", len(m.Members), show.Line(m.ServerName+"."+m.ServerRegion))
}

// MarshalJSON encodes the members as agents send them.
func (m Members) MarshalJSON() ([]byte, error) { type fields Members; return show.JSON(fields(m)) }

func (m *Members) check() error {
	if m.Members == nil {
		return errors.New("it has no list of Members")
	}
	for i := range m.Members {
		if m.Members[i].Name == "" {
			return fmt.Errorf("member %d has no name", i)
		}
	}
	return nil
}

// Member is a server of the gossip pool.
type Member struct {
	Name   string            // full name: the server and its region, such as server-1.global; unique in the pool
	Addr   netip.Addr        // gossip address; invalid for an agent that is no member
	Port   uint16            // gossip port
	Tags   map[string]string // properties; the methods return common ones
	Status MemberStatus

	// Lowest, highest and current versions of the gossip protocol (Protocol…) and of Serf's own protocol (Delegate…).
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

// Region returns the member's region, from the tag region.
func (m Member) Region() string { return m.Tags["region"] }

// Datacenter returns the member's datacenter, from the tag dc.
func (m Member) Datacenter() string { return m.Tags["dc"] }

// Build returns the member's version of Nomad, such as 2.0.5, from the tag build.
func (m Member) Build() string { return m.Tags["build"] }

// ID returns the member's server ID, which Raft uses too, from the tag id.
func (m Member) ID() string { return m.Tags["id"] }

// SerfAddr returns the member's gossip address, from Addr and Port. Its String is an address for Agent.Join. It is invalid
// if Addr is.
func (m Member) SerfAddr() netip.AddrPort {
	if !m.Addr.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(m.Addr, m.Port)
}

// RPCAddr returns the member's RPC address, from the tags rpc_addr and port. Its String is an address for
// Agent.UpdateServers. It is invalid if a tag is missing or malformed.
func (m Member) RPCAddr() netip.AddrPort {
	addr, err := netip.ParseAddr(m.Tags["rpc_addr"])
	port, errPort := strconv.ParseUint(m.Tags["port"], 10, 16)
	if err != nil || errPort != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, uint16(port))
}

// String returns the member's name and status, such as "server-1.global (alive)".
func (m Member) String() string { return show.Line(m.Name + " (" + string(m.Status) + ")") }

// MarshalJSON encodes the member as agents send it. An address or tags that are missing are null.
func (m Member) MarshalJSON() ([]byte, error) {
	type fields Member
	var addr *netip.Addr
	if m.Addr.IsValid() {
		addr = &m.Addr
	}
	return json.Marshal(struct {
		Name string
		Addr *netip.Addr
		fields
	}{m.Name, addr, fields(m)})
}

// CompareMembers orders members by region, name, address and ID, for slices.SortFunc.
func CompareMembers(a, b Member) int {
	return cmp.Or(
		strings.Compare(a.Region(), b.Region()),
		strings.Compare(a.Name, b.Name),
		a.Addr.Compare(b.Addr),
		cmp.Compare(a.Port, b.Port),
		strings.Compare(a.ID(), b.ID()),
	)
}

var membersEndpoint = register(endpoint{name: "Members", method: http.MethodGet, path: "/v1/agent/members", acl: "node:read",
	limit: DefaultMaxResponseSize, decode: decodeMembers})

// Members returns the servers of the gossip pool, in all regions, as the agent sees them.
//
// Servers that failed or left stay in the list until they are pruned, or until Serf removes them: failed servers after
// 72 hours, those that left after 24. A client agent forwards the request to a server. WithRegion has no effect: the
// pool is the same in all regions.
//
// It requires the ACL capability node:read.
//
// Endpoint: GET /v1/agent/members
func (a *Agent) Members(ctx context.Context) (*Members, error) {
	return get[Members](ctx, a.client, membersEndpoint.newRequest(nil))
}

// A list of members has about one value in 20 bytes and one object in 250. These limits keep the memory of a decoded list
// in proportion to its size.
const (
	bytesPerValue  = 12
	bytesPerObject = 64
)

var unmarshalTags = jsonv2.UnmarshalFromFunc(tags.Unmarshal)

// decodeMembers decodes the only document that grows with the cluster.
func decodeMembers(ctx context.Context, content []byte, out any) error {
	if err := body.CheckValue(content); err != nil {
		return err
	}
	if err := body.CheckStrings(content); err != nil {
		return err
	}
	if err := checkDensity(content, bytesPerValue, bytesPerObject); err != nil {
		return err
	}
	m := out.(*Members)
	m.Members = make([]Member, 0, min(bytes.Count(content, []byte("{"))/2, len(content)/bytesPerObject))
	unmarshalers := unmarshalTags
	if len(content) > 1<<20 { // a large list takes time
		unmarshalers = jsonv2.JoinUnmarshalers(unmarshalTags, jsonv2.UnmarshalFromFunc(func(*jsontext.Decoder, *Member) error {
			return cmp.Or(ctx.Err(), errors.ErrUnsupported) // or decode it the usual way
		}))
	}
	err := jsonv2.Unmarshal(content, m, decodeOptions, jsonv2.WithUnmarshalers(unmarshalers))
	if len(m.Members) == 0 && !bytes.Contains(content, []byte("[]")) { // there is no list
		m.Members = nil
	}
	return err
}
