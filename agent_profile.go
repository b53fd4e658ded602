package nomad

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ProfileName is a kind of profile.
type ProfileName string

// The profiles that agents make. ProfileCPU and ProfileTrace take the time of ProfileOptions.Duration; the others are a
// look at this moment. Any other name that package runtime/pprof knows can be used too.
const (
	ProfileCPU          ProfileName = "profile"      // where CPU time is spent
	ProfileTrace        ProfileName = "trace"        // an execution trace, for go tool trace
	ProfileCmdline      ProfileName = "cmdline"      // the agent's command line, as text
	ProfileHeap         ProfileName = "heap"         // memory in use
	ProfileAllocs       ProfileName = "allocs"       // all memory allocated so far
	ProfileGoroutine    ProfileName = "goroutine"    // the stacks of all goroutines
	ProfileBlock        ProfileName = "block"        // where goroutines wait for each other
	ProfileMutex        ProfileName = "mutex"        // who holds mutexes that others wait for
	ProfileThreadcreate ProfileName = "threadcreate" // what made threads of the system
)

// ProfileOptions says which profile to make, and of whom.
type ProfileOptions struct {
	Name     ProfileName   // the kind of profile
	Duration time.Duration // how long to look, in whole seconds; at most an hour; ProfileCPU and ProfileTrace only; 0 means 1 s
	Debug    int           // 1 or 2 for text in place of the format of pprof; not for ProfileCPU and ProfileTrace
	GC       bool          // collect garbage before; ProfileHeap and its like only
	Target   Target        // the agent to look at; the zero Target is the server that is called, or that of the client that is called
}

const maxProfile = time.Hour

var profileEndpoint = endpoint{name: "Profile", method: http.MethodGet, path: "/v1/agent/pprof/", acl: "agent:write, or enable_debug on an agent without ACLs", since: "0.11.0"}

// Profile makes a profile of an agent and streams it: copy it to a file, and close it. It returns when the agent has
// begun to send, which is after the profile's duration. All of it must have come within the limit of WithTimeout and the
// profile's duration together, and nothing may be silent for 10 s, or reading ends with an error.
//
// It needs an agent of any role and an ACL token with agent:write; without ACLs the agent, and the target, must have
// enable_debug set, or it fails with ErrPermissionDenied. A profile or target that the agent does not know is
// ErrNotFound, options that mean nothing ErrInvalidArgument before anything is sent. It makes the call
// GET /v1/agent/pprof/<name>.
func (a *Agent) Profile(ctx context.Context, opts ProfileOptions) (io.ReadCloser, error) {
	timed := opts.Name == ProfileCPU || opts.Name == ProfileTrace
	switch {
	case !isName(string(opts.Name)) || strings.Contains(string(opts.Name), "/"):
		return nil, invalidArgument("Profile", "name %q: want a profile such as %q or %q", opts.Name, ProfileCPU, ProfileHeap)
	case opts.Duration < 0 || opts.Duration%time.Second != 0 || opts.Duration > maxProfile:
		return nil, invalidArgument("Profile", "duration %v: want whole seconds, from 0 to %v", opts.Duration, maxProfile)
	case opts.Duration > 0 && !timed:
		return nil, invalidArgument("Profile", "duration %v: profile %s takes no time", opts.Duration, opts.Name)
	case opts.Debug < 0 || opts.Debug > 2:
		return nil, invalidArgument("Profile", "debug %d: want 0, 1 or 2", opts.Debug)
	}
	query := url.Values{}
	if timed {
		opts.Duration = max(opts.Duration, time.Second)
		query.Set("seconds", strconv.Itoa(int(opts.Duration/time.Second)))
	}
	if opts.Debug > 0 {
		query.Set("debug", strconv.Itoa(opts.Debug))
	}
	if opts.GC {
		query.Set("gc", "1")
	}
	if err := opts.Target.addTo("Profile", query); err != nil {
		return nil, err
	}
	r := profileEndpoint.to(query)
	r.path += url.PathEscape(string(opts.Name))
	s, err := a.client.open(ctx, r, a.client.settings.timeout+opts.Duration)
	if err != nil {
		return nil, err
	}
	if mediaType, _, _ := mime.ParseMediaType(s.header.Get("Content-Type")); mediaType == "text/html" {
		err = s.explain(fmt.Errorf("%w: a page, not a profile", ErrInvalidResponse))
		s.Close()
		return nil, err
	}
	p := &profile{stream: s, buffered: bufio.NewReader(s.plain)}
	// What is empty is no profile.
	if err := p.waiting(func() error { _, err := p.buffered.Peek(1); return err }); err != nil {
		if err == io.EOF {
			err = a.client.callError(r, fmt.Errorf("%w: it is empty", ErrInvalidResponse))
		}
		p.Close()
		return nil, err
	}
	return p, nil
}

// profile is a profile that is on its way. The limit of its stream holds until it is closed.
type profile struct {
	*stream
	buffered *bufio.Reader
}

func (p *profile) Read(b []byte) (n int, err error) {
	err = p.waiting(func() error {
		n, err = p.buffered.Read(b)
		return err
	})
	return n, err
}
