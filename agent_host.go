package nomad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/nomad-go/nomad/internal/show"
)

// Host describes the machine of an agent.
type Host struct {
	AgentID     string              `json:",omitempty"` // full name of the server or ID of the node; empty for the zero Target
	OS          string              // from uname: kernel, release, version, hardware
	Network     []HostAddress       // addresses of the network interfaces
	ResolvConf  string              // content of /etc/resolv.conf
	Hosts       string              // content of /etc/hosts
	Environment map[string]Secret   // the agent's environment; the agent redacts some secrets, not all
	Disk        map[string]HostDisk // disks by mount point
}

// String returns the agent, if it is known, and its operating system.
func (h Host) String() string {
	return show.Line(strings.TrimPrefix(h.AgentID+": "+h.OS, ": "))
}

// Format prints what String returns, whatever the verb.
func (h Host) Format(f fmt.State, _ rune) { io.WriteString(f, h.String()) }

// MarshalJSON encodes the host, with the AgentID if it is set. It leaves out the envelope that agents send for a
// request with a target. Values of the environment are "<redacted>".
func (h Host) MarshalJSON() ([]byte, error) { return show.JSON(hostFields(h)) }

type hostFields Host // without its methods

// HostDisk is the size of a disk, in MiB.
type HostDisk struct {
	DiskMB int64 // size
	UsedMB int64 // in use
}

// String returns the size, such as "98304 of 251955 MiB in use".
func (d HostDisk) String() string { return fmt.Sprintf("%d of %d MiB in use", d.UsedMB, d.DiskMB) }

// HostAddress describes an address of a network interface, with keys such as type, address, network and mask_bits.
type HostAddress map[string]string

// String returns the address as the agent sent it, with the length of its network's prefix.
func (a HostAddress) String() string {
	return show.Line(strings.TrimSuffix(a["address"]+"/"+a["mask_bits"], "/"))
}

// Addr returns the address. It is invalid if the agent does not report it.
func (a HostAddress) Addr() netip.Addr {
	addr, _ := netip.ParseAddr(a["address"])
	return addr
}

// Prefix returns the address with the length of its network's prefix. It is invalid if the agent does not report it.
func (a HostAddress) Prefix() netip.Prefix {
	prefix, _ := netip.ParsePrefix(a["address"] + "/" + a["mask_bits"])
	return prefix
}

// hostResponse has both shapes of responses: the document itself, or one around it if there is a target.
type hostResponse struct {
	hostFields
	HostData *Host
}

func (h *hostResponse) check() error {
	data := &h.hostFields
	if h.HostData != nil {
		data = (*hostFields)(h.HostData)
	}
	if data.OS == "" && data.Network == nil && data.Environment == nil && data.Disk == nil {
		return errors.New("it does not describe a host")
	}
	return nil
}

var hostEndpoint = register(endpoint{name: "Host", method: http.MethodGet, path: "/v1/agent/host", acl: "agent:read, or enable_debug on an agent without ACLs", since: "0.12.0"})

// Host returns the addresses, disks, name resolution and environment of an agent's machine.
//
// It requires the ACL capability agent:read. If ACLs are disabled in the cluster, the agent and the target must have
// enable_debug set (ErrPermissionDenied). An unknown target is ErrNotFound.
//
// Endpoint: GET /v1/agent/host
func (a *Agent) Host(ctx context.Context, target Target) (*Host, error) {
	query := url.Values{}
	if err := target.addTo("Host", query); err != nil {
		return nil, err
	}
	res, err := get[hostResponse](ctx, a.client, hostEndpoint.newRequest(query))
	if err != nil {
		return nil, err
	}
	if res.HostData != nil {
		res.HostData.AgentID = res.AgentID
		return res.HostData, nil
	}
	return (*Host)(&res.hostFields), nil
}
