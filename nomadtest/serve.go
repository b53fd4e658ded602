package nomadtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
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

// handler answers a request with something to send as JSON, with nothing, or with a fault.
type handler func(a *Agent, r *http.Request) (any, error)

var handlers = map[string]handler{
	"/v1/agent/members":     (*Agent).serveMembers,
	"/v1/agent/servers":     (*Agent).serveServers,
	"/v1/agent/self":        (*Agent).serveSelf,
	"/v1/agent/join":        (*Agent).serveJoin,
	"/v1/agent/force-leave": (*Agent).serveForceLeave,
	"/v1/agent/health":      (*Agent).serveHealth,
}

// ServeHTTP answers as the agent does, also without a network; a stopped agent breaks the connection. The agent's
// listener calls it.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve, ok := handlers[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Vary", "Accept-Encoding")
	mu.Lock()
	if !a.running {
		mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	result, err := serve(a, r)
	mu.Unlock()
	if err != nil {
		status := http.StatusInternalServerError
		if f, ok := err.(*fault); ok {
			status = f.status
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprint(w, err)
		return
	}
	if result == nil {
		return
	}
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
