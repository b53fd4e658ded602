package nomad

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
)

// Target is the agent that a call is about, where it can be about another than the one that is called. The zero Target
// is the agent that is called, where the option does not say otherwise.
type Target struct {
	key, id string
	named   bool
}

// OnServer is a server of the region, by its name as in Members or by its ID; the name leader is whichever server leads.
func OnServer(name string) Target { return Target{"server_id", name, true} }

// OnNode is an agent in client mode, by the full ID of its node.
func OnNode(id string) Target { return Target{"node_id", id, true} }

// String names the target.
func (t Target) String() string {
	switch t.key {
	case "server_id":
		return "server " + t.id
	case "node_id":
		return "node " + t.id
	}
	return "this agent"
}

// addTo sets the target in a query.
func (t Target) addTo(call string, query url.Values) error {
	if !t.named {
		return nil
	}
	if !isName(t.id) {
		return invalidArgument(call, "%s %q: want the name or ID of a server, or the ID of a node", t.key, t.id)
	}
	query.Set(t.key, t.id)
	return nil
}

// Host is what an agent tells about the machine that it runs on.
type Host struct {
	AgentID     string              // the full name of the server, or the ID of the node; empty for the zero Target
	OS          string              // what uname says: kernel, release, version, hardware
	Network     []HostAddress       // the addresses of its network interfaces
	ResolvConf  string              // the content of /etc/resolv.conf
	Hosts       string              // the content of /etc/hosts
	Environment map[string]string   // the agent's environment; the agent redacts what looks like a secret
	Disk        map[string]HostDisk // its disks, by where they are mounted
}

// HostDisk is the size of a disk, in MiB.
type HostDisk struct {
	DiskMB int64 // in all
	UsedMB int64 // in use
}

// HostAddress is what an agent tells about one of its machine's addresses, by names such as type, address, network and
// mask_bits. Its methods read those that people look at.
type HostAddress map[string]string

// Addr is the address. It is invalid when the agent does not tell.
func (a HostAddress) Addr() netip.Addr {
	addr, err := netip.ParseAddr(a["address"])
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// Prefix is the address with the length of its network's prefix. It is invalid when the agent does not tell.
func (a HostAddress) Prefix() netip.Prefix {
	prefix, err := netip.ParsePrefix(a["address"] + "/" + a["mask_bits"])
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// hostAnswer has both shapes that agents answer with: the document itself, or one around it when a target was named.
type hostAnswer struct {
	Host
	HostData *Host
}

func (h *hostAnswer) check() error {
	data := h.HostData
	if data == nil {
		data = &h.Host
	}
	if data.OS == "" && data.Network == nil && data.Environment == nil && data.Disk == nil {
		return errors.New("it tells nothing of a host")
	}
	return nil
}

var hostEndpoint = endpoint{name: "Host", method: http.MethodGet, path: "/v1/agent/host", acl: "agent:read, or enable_debug on an agent without ACLs", since: "0.12.0"}

// Host tells about the machine that an agent runs on: its addresses, disks, name resolution and environment. The
// environment can have secrets in it that the agent did not take for such.
//
// It needs an agent of any role and an ACL token with agent:read; without ACLs the agent that is called, and the target,
// must have enable_debug set, or it fails with ErrPermissionDenied. A target that the agent does not know is
// ErrNotFound. It makes the call GET /v1/agent/host.
func (a *Agent) Host(ctx context.Context, target Target) (*Host, error) {
	query := url.Values{}
	if err := target.addTo("Host", query); err != nil {
		return nil, err
	}
	answer, err := read[hostAnswer](ctx, a.client, hostEndpoint.to(query))
	if err != nil {
		return nil, err
	}
	if answer.HostData != nil {
		answer.HostData.AgentID = answer.AgentID
		return answer.HostData, nil
	}
	return &answer.Host, nil
}
