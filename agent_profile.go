package nomad

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nomad-go/nomad/internal/body"
)

// ProfileType is a type of profile.
type ProfileType string

// The types of profiles. ProfileCPU and ProfileTrace observe the agent for ProfileOptions.Duration; the others are
// snapshots. Any other name that the agent's package runtime/pprof knows can be used too.
const (
	ProfileCPU          ProfileType = "profile"      // CPU time
	ProfileTrace        ProfileType = "trace"        // an execution trace, for go tool trace
	ProfileCmdline      ProfileType = "cmdline"      // the agent's command line, as text
	ProfileHeap         ProfileType = "heap"         // memory in use
	ProfileAllocs       ProfileType = "allocs"       // all memory allocated so far
	ProfileGoroutine    ProfileType = "goroutine"    // stacks of all goroutines
	ProfileBlock        ProfileType = "block"        // where goroutines wait for each other
	ProfileMutex        ProfileType = "mutex"        // holders of contended mutexes
	ProfileThreadcreate ProfileType = "threadcreate" // what created threads
)

// ProfileOptions selects the profile that [Agent.Profile] takes.
type ProfileOptions struct {
	Type     ProfileType   // required
	Duration time.Duration // for ProfileCPU and ProfileTrace, in whole seconds, at most an hour; default 1 s
	Debug    int           // 1 or 2 for text; 0 for pprof's format; no effect on ProfileCPU, ProfileTrace and ProfileCmdline
	GC       bool          // collect garbage before a ProfileHeap; no effect on other profiles

	// Target is the agent to profile. Without a Target, a server profiles itself, and a client agent forwards the
	// request to its server. With WithRegion, both forward it to a server of that region. To profile a client agent,
	// use OnNode.
	Target Target
}

const maxProfile = time.Hour

var profileEndpoint = register(endpoint{name: "Profile", method: http.MethodGet, path: "/v1/agent/pprof/", acl: "agent:write, or enable_debug on an agent without ACLs", since: "0.11.0"})

// Profile takes a profile of an agent and streams it: copy it to a file, and close it.
//
// It returns when the agent has begun to send, which is after the profile's duration. The whole profile must arrive
// within the duration plus the limit of WithTimeout. If nothing arrives for 10 s while the profile is read, it ends
// with ErrStreamStalled. If the connection is lost, the error is ErrInvalidResponse, except behind a proxy that sends
// neither the length of the profile nor chunks, as with HTTP/1.0: a loss then looks like the end.
//
// It requires the ACL capability agent:write. If ACLs are disabled in the cluster, the agent and the target must have
// enable_debug set (ErrPermissionDenied). An unknown profile or target is ErrNotFound. It returns ErrInvalidArgument
// for a Type that is empty, ".", ".." or has a slash, a Duration that is not in whole seconds from 0 to an hour or that
// is set for a snapshot, a Debug other than 0, 1 and 2, and a Target of OnServer or OnNode with an empty string.
//
// Endpoint: GET /v1/agent/pprof/<type>
func (a *Agent) Profile(ctx context.Context, opts ProfileOptions) (io.ReadCloser, error) {
	timed := opts.Type == ProfileCPU || opts.Type == ProfileTrace
	switch {
	case opts.Type == "", opts.Type == ".", opts.Type == "..", strings.Contains(string(opts.Type), "/"):
		return nil, invalidArgument("Profile", "Type: %q: want a profile such as %q or %q", opts.Type, ProfileCPU, ProfileHeap)
	case opts.Duration < 0 || opts.Duration%time.Second != 0 || opts.Duration > maxProfile:
		return nil, invalidArgument("Profile", "Duration: %v: want whole seconds, from 0 to %v", opts.Duration, maxProfile)
	case opts.Duration > 0 && !timed:
		return nil, invalidArgument("Profile", "Duration: %v: the profile %s is a snapshot", opts.Duration, opts.Type)
	case opts.Debug < 0 || opts.Debug > 2:
		return nil, invalidArgument("Profile", "Debug: %d: want 0, 1 or 2", opts.Debug)
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
	r := profileEndpoint.newRequest(query)
	r.path += url.PathEscape(string(opts.Type))
	s, err := a.client.open(ctx, r, a.client.settings.Timeout+opts.Duration)
	if err != nil {
		return nil, err
	}
	p := &profile{stream: s, buffered: bufio.NewReader(s.body)}
	err = p.Wait(func() error {
		start, err := p.buffered.Peek(1)
		switch {
		case body.MediaType(s.header) == "text/html", string(start) == "<":
			return errors.New("it is a web page, not a profile")
		case err == io.EOF:
			return errors.New("it is empty")
		}
		return err
	})
	if err != nil {
		err = p.explain(fmt.Errorf("%w: %w", ErrInvalidResponse, err))
		p.Close()
		return nil, err
	}
	return p, nil
}

// profile is a profile that is being received. The limit of its stream holds until it is closed.
type profile struct {
	*stream
	buffered *bufio.Reader
}

func (p *profile) Read(b []byte) (n int, err error) {
	if cause := context.Cause(p.Context); cause != nil { // what is buffered is not read any more
		return 0, p.explain(cause)
	}
	err = p.Wait(func() error {
		n, err = p.buffered.Read(b)
		return err
	})
	if err != nil && err != io.EOF {
		err = p.explain(fmt.Errorf("%w: %w", ErrInvalidResponse, err))
	}
	return n, err
}
