package nomadtest

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// handler returns a value to send as JSON, nil for an empty body, or an error. It is called with
// the lock held.
type handler func(a *Agent, r *http.Request) (any, error)

// streamer writes the response itself. It is called without the lock and may block.
type streamer func(a *Agent, w http.ResponseWriter, r *http.Request) error

// target is the handler of a path: serve, stream or neither.
type target struct {
	serve  handler
	stream streamer
	done   bool // the response has been written
}

const (
	endpointPrefix = "/v1/agent/"
	keyringPrefix  = "keyring/"
	profilePrefix  = "pprof/"
)

// endpoints maps paths to handlers. A path that ends in a slash handles everything below it.
var endpoints map[string]target

func init() {
	endpoints = map[string]target{
		"/v1/agent/members":           {serve: (*Agent).serveMembers},
		"/v1/agent/servers":           {serve: (*Agent).serveServers},
		"/v1/agent/self":              {serve: (*Agent).serveSelf},
		"/v1/agent/join":              {serve: (*Agent).serveJoin},
		"/v1/agent/force-leave":       {serve: (*Agent).serveForceLeave},
		"/v1/agent/host":              {stream: (*Agent).streamHost},
		"/v1/agent/schedulers":        {serve: (*Agent).serveSchedulers},
		"/v1/agent/schedulers/config": {serve: (*Agent).serveSchedulersConfig},
		"/v1/agent/reload":            {serve: (*Agent).serveReload},
		"/v1/agent/keyring/":          {serve: (*Agent).serveKeyring},
		"/v1/agent/health":            {stream: (*Agent).streamHealth},
		"/v1/agent/monitor":           {stream: (*Agent).streamMonitor},
		"/v1/agent/monitor/export":    {stream: (*Agent).streamExport},
		"/v1/agent/pprof/":            {stream: (*Agent).serveProfile},
		"/v1/status/leader":           {serve: (*Agent).serveLeader},
		"/v1/status/peers":            {serve: (*Agent).servePeers},
		"/v1/regions":                 {serve: (*Agent).serveRegions},
		"/v1/nodes":                   {serve: (*Agent).serveNodes},
		"/v1/node/":                   {serve: (*Agent).serveNode},
		"/v1/node/pools":              {serve: (*Agent).serveNodePools},
		"/v1/node/pool/":              {serve: (*Agent).serveNodePools},
		"/debug/pprof/":               {stream: (*Agent).streamDebug},
		"/":                           {stream: (*Agent).streamRoot},
		"/ui/":                        {stream: (*Agent).streamUI},
	}
	for path, target := range tools {
		endpoints[path] = target
	}
}

// missing reports whether the agent's version or configuration does not have an endpoint.
func (a *Agent) missing(pattern string) bool {
	switch pattern {
	case "/v1/agent/reload":
		return !a.atLeast(2, 0, 3)
	case "/v1/agent/monitor/export":
		return !a.atLeast(1, 10, 4)
	case "/debug/pprof/":
		return !a.debug
	}
	return false
}

// find returns the endpoint of a clean path: the exact match or the longest prefix that ends in a
// slash.
func (a *Agent) find(p string) (pattern string, found target) {
	for pattern := p; ; {
		if t, ok := endpoints[pattern]; ok && !a.missing(pattern) {
			return pattern, t
		}
		if pattern == "" || pattern == "/" {
			return "", target{}
		}
		pattern = pattern[:strings.LastIndexByte(strings.TrimSuffix(pattern, "/"), '/')+1]
	}
}

// route returns the handler of a request. It redirects paths that are not clean or lack a trailing
// slash.
func (a *Agent) route(w http.ResponseWriter, r *http.Request) target {
	p := r.URL.Path
	if r.Method != http.MethodConnect {
		if clean := cleaned(p); clean != p {
			return a.redirect(w, r, clean)
		}
	}
	pattern, t := a.find(p)
	if pattern == "/" && p != "/" {
		if folder, _ := a.find(p + "/"); folder == p+"/" {
			return a.redirect(w, r, p+"/")
		}
		return target{}
	}
	return t
}

// redirect redirects a request to another path with the same query.
func (a *Agent) redirect(w http.ResponseWriter, r *http.Request, to string) target {
	status := http.StatusMovedPermanently
	if a.atLeast(2) {
		status = http.StatusTemporaryRedirect
	}
	http.Redirect(w, r, (&url.URL{Path: to, RawQuery: r.URL.RawQuery}).String(), status)
	return target{done: true}
}

// cleaned returns a path without dot segments and double slashes.
func cleaned(p string) string {
	if p == "" {
		return "/"
	}
	if p[0] != '/' {
		p = "/" + p
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// streamRoot redirects / to the web UI.
func (a *Agent) streamRoot(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, (&url.URL{Path: "/ui/", RawQuery: r.URL.RawQuery}).String(), http.StatusTemporaryRedirect)
	return nil
}

const noUI = `<!DOCTYPE html>
<html>
<p>Nomad UI is not available in this binary. To get Nomad UI do one of the following:</p>
<ul>
<li><a href="https://developer.hashicorp.com/nomad/downloads">Download an official release</a></li>
<li>Run <pre>make release</pre> to create your own release binaries.
<li>Run <pre>make dev-ui</pre> to create a development binary with the UI.
</ul>
</html>
`

// streamUI responds as an agent that was built without the web UI.
func (a *Agent) streamUI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err := w.Write([]byte(noUI))
	return err
}
