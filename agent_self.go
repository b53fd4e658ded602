package nomad

import (
	"context"
	"errors"
	"net/http"
)

// Self is what an agent knows about itself.
type Self struct {
	Config *Config `json:"config"` // what it was configured to do, and the defaults for the rest
	Member Member  `json:"member"` // its part in the gossip pool; of a client agent empty, with StatusNone
	Stats  Stats   `json:"stats"`  // counters and states at this moment
}

func (s *Self) check() error {
	switch {
	case s.Config == nil:
		return errors.New("it has no config")
	case s.Member.Status == "":
		return errors.New("it has no member")
	case s.Stats == nil:
		return errors.New("it has no stats")
	}
	return nil
}

// Config is an agent's configuration, as far as this package has types for it. Take it for a secret: agents redact some
// of the secrets in it, not all.
type Config struct {
	Region     string  // the region that the agent belongs to
	Datacenter string  // the datacenter that the agent is in
	NodeName   string  // the agent's name, without its region
	Version    Version // the version of Nomad that the agent runs
}

// Version is a version of Nomad.
type Version struct {
	Version           string // such as 2.0.5
	VersionPrerelease string // such as dev or rc.1; empty for a release
	VersionMetadata   string // such as ent for Nomad Enterprise
	Revision          string // the commit that was built, where the build knows it
}

// String is the version as Nomad prints it, such as 2.0.5 or 2.1.0-rc.1+ent.
func (v Version) String() string {
	s := v.Version
	if v.VersionPrerelease != "" {
		s += "-" + v.VersionPrerelease
	}
	if v.VersionMetadata != "" {
		s += "+" + v.VersionMetadata
	}
	return s
}

// Stats are an agent's counters and states, in groups: runtime always, nomad, raft and serf of a server, client of a
// client. Their values are texts, whatever they count.
type Stats map[string]map[string]string

var selfEndpoint = endpoint{name: "Self", method: http.MethodGet, path: "/v1/agent/self", acl: "agent:read"}

// Self tells the agent's configuration, its part in the gossip pool and its state.
//
// It needs an agent of any role and an ACL token with agent:read. It makes the call GET /v1/agent/self.
func (a *Agent) Self(ctx context.Context) (*Self, error) {
	return read[Self](ctx, a.client, selfEndpoint.to(nil))
}
