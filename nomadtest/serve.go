package nomadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// fault is an answer that reports a failure, as agents send it: plain text.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func faultf(status int, format string, args ...any) error {
	return &fault{status, fmt.Sprintf(format, args...)}
}

// invalidMethod is the answer to a wrong HTTP method (405) and, of all texts, to a wrong role (501).
func invalidMethod(status int) error { return faultf(status, "Invalid method") }

// errNoEndpoint is the answer to a path that the agent's version does not have.
var errNoEndpoint = faultf(404, "")

// handler answers a request with something to send as JSON, with nothing, or with a fault. It has the lock.
type handler func(a *Agent, r *http.Request) (any, error)

var handlers = map[string]handler{
	"/v1/agent/members":           (*Agent).serveMembers,
	"/v1/agent/servers":           (*Agent).serveServers,
	"/v1/agent/self":              (*Agent).serveSelf,
	"/v1/agent/join":              (*Agent).serveJoin,
	"/v1/agent/force-leave":       (*Agent).serveForceLeave,
	"/v1/agent/health":            (*Agent).serveHealth,
	"/v1/agent/host":              (*Agent).serveHost,
	"/v1/agent/schedulers":        (*Agent).serveSchedulers,
	"/v1/agent/schedulers/config": (*Agent).serveSchedulersConfig,
	"/v1/agent/reload":            (*Agent).serveReload,
}

// streamer writes an answer itself, for as long as it likes, without the lock.
type streamer func(a *Agent, w http.ResponseWriter, r *http.Request) error

var streamers = map[string]streamer{
	"/v1/agent/monitor":        (*Agent).streamMonitor,
	"/v1/agent/monitor/export": (*Agent).streamExport,
}

const (
	keyringPath = "/v1/agent/keyring/"
	profilePath = "/v1/agent/pprof/"
)

// route finds what answers a path: one of the two, or none.
func route(path string) (handler, streamer) {
	switch {
	case strings.HasPrefix(path, keyringPath):
		return (*Agent).serveKeyring, nil
	case strings.HasPrefix(path, profilePath):
		return nil, (*Agent).serveProfile
	}
	return handlers[path], streamers[path]
}

// ServeHTTP answers as the agent does, also without a network; a stopped agent breaks the connection. The agent's
// listener calls it.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve, stream := route(r.URL.Path)
	a.mustRun()
	var result any
	var err error
	switch {
	case stream != nil:
		w.Header().Set("Vary", "Accept-Encoding")
		err = stream(a, w, r)
		a.mustRun()
	case serve != nil:
		w.Header().Set("Vary", "Accept-Encoding")
		mu.Lock()
		result, err = serve(a, r)
		mu.Unlock()
	default:
		err = errNoEndpoint
	}
	switch {
	case err == errNoEndpoint:
		w.WriteHeader(http.StatusNotFound)
	case err != nil:
		status := http.StatusInternalServerError
		if f, ok := err.(*fault); ok {
			status = f.status
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprint(w, err)
	case result != nil:
		writeJSON(w, r, result)
	}
}

// mustRun breaks the connection of a request to an agent that is stopped.
func (a *Agent) mustRun() {
	mu.Lock()
	defer mu.Unlock()
	if !a.running {
		panic(http.ErrAbortHandler)
	}
}

// writeJSON writes an answer, indented when the request asks for it.
func writeJSON(w http.ResponseWriter, r *http.Request, result any) {
	body, err := json.Marshal(result)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if pretty, ok := r.URL.Query()["pretty"]; ok && pretty[0] != "0" {
		var indented bytes.Buffer
		if json.Indent(&indented, body, "", "    ") == nil {
			body = append(indented.Bytes(), '\n')
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}
