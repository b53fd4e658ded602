package nomadtest

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serveProfile handles pprof/ with profiles of the current process. It is called without the lock.
func (a *Agent) serveProfile(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	name := strings.TrimPrefix(r.URL.Path, endpointPrefix+profilePrefix)
	if name == "" {
		return invalidMethod(404)
	}
	if query.Get("server_id") != "" && query.Get("node_id") != "" {
		return errTwoTargets
	}
	target, complaint, err := a.profileTarget(r)
	complain(w, complaint)
	if err != nil {
		return err
	}
	return target.profile(w, r, name)
}

// streamDebug handles /debug/pprof/ as package net/http/pprof does. It needs enable_debug but no
// token.
func (a *Agent) streamDebug(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(r.URL.Path, "/debug/pprof/")
	if name != "" {
		return a.profile(w, r, name)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprint(w, "<html>\n<head>\n<title>/debug/pprof/</title>\n</head>\n<body>\n/debug/pprof/\n")
	for _, profile := range pprof.Profiles() {
		fmt.Fprintf(w, "<br><a href='%s?debug=1'>%s</a>\n", profile.Name(), profile.Name())
	}
	fmt.Fprint(w, "</body>\n</html>\n")
	return nil
}

// profile writes a profile of the agent.
func (a *Agent) profile(w http.ResponseWriter, r *http.Request, name string) error {
	query := r.URL.Query()
	seconds, _ := strconv.Atoi(query.Get("seconds"))
	debug, _ := strconv.Atoi(query.Get("debug"))
	var body bytes.Buffer
	contentType := "application/octet-stream"
	switch name {
	case "cmdline":
		contentType = "text/plain; charset=utf-8"
		body.WriteString(strings.Join([]string{"/usr/bin/nomad", "agent", "-config", a.name + ".hcl"}, "\x00"))
	case "profile":
		err := cpuTurns.take(r, a, seconds, func() error { return pprof.StartCPUProfile(&body) }, pprof.StopCPUProfile)
		if err != nil {
			return err
		}
	case "trace":
		err := traceTurns.take(r, a, seconds, func() error { return trace.Start(&body) }, trace.Stop)
		if err != nil {
			return err
		}
	default:
		profile := pprof.Lookup(name)
		if profile == nil {
			return refusef(404, "Pprof profile not found profile: %s", name)
		}
		if query.Get("gc") == "1" {
			runtime.GC()
		}
		if debug > 0 {
			contentType = "text/plain; charset=utf-8"
		}
		if err := profile.WriteTo(&body, debug); err != nil {
			return err
		}
	}
	if contentType == "application/octet-stream" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body.Bytes())
	return nil
}

// shortestProfile is how long an agent records after it has waited for its turn.
const shortestProfile = 20 * time.Millisecond

// turns serializes the profiles of agents, which share a process.
//
// A second profile of the same agent fails at once, as it does in a real agent. Profiles of several agents take as long
// as in a real cluster: an agent that waits for its turn records less.
type turns struct {
	turn  chan struct{}
	inUse string // error message for a second profile of the same agent

	mu   sync.Mutex
	busy map[*Agent]bool
}

var (
	cpuTurns   = turns{turn: make(chan struct{}, 1), inUse: "cpu profiling already in use", busy: map[*Agent]bool{}}
	traceTurns = turns{turn: make(chan struct{}, 1), inUse: "execution tracer already enabled", busy: map[*Agent]bool{}}
)

func (t *turns) take(r *http.Request, a *Agent, seconds int, start func() error, stop func()) error {
	if a.cluster.memory { // In a bubble of testing/synctest a recording is a fatal error of the runtime.
		return refusef(500, "an agent on a network in memory cannot record a CPU profile or trace")
	}
	t.mu.Lock()
	again := t.busy[a]
	t.busy[a] = true
	t.mu.Unlock()
	if again {
		return refusef(500, "%s", t.inUse)
	}
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.busy, a)
	}()
	began := time.Now()
	select {
	case t.turn <- struct{}{}:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	defer func() { <-t.turn }()
	if err := start(); err != nil {
		return err
	}
	defer stop()
	pause(r, max(time.Duration(max(seconds, 1))*time.Second-time.Since(began), shortestProfile))
	return nil
}

// profileTarget returns the agent to profile, after a check of the request's token.
//
// An agent in client mode forwards a request without node_id to its server. complaint is an error
// in the query.
func (a *Agent) profileTarget(r *http.Request) (found *Agent, complaint, err error) {
	mu.Lock()
	defer mu.Unlock()
	values := r.URL.Query()
	q, complaint := a.parse(r)
	to := aim{node: values.Get("node_id"), server: values.Get("server_id"), region: q.region}
	how := remoteCheck
	if !a.server && a.isLocalNode(to.node) {
		how = local
	}
	if err := a.authorize(r, how, agentWrite); err != nil {
		return nil, complaint, err
	}
	if found = a; !a.isLocalNode(to.node) {
		if found, err = ask(a, func(server *Agent) (*Agent, error) { return server.reach(to) }); err != nil {
			return nil, complaint, err
		}
	}
	return found, complaint, found.mayDebug()
}
