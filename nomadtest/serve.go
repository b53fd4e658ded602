package nomadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// refusal is an answer that reports a failure, as agents send it: plain text.
type refusal struct {
	status int
	text   string
}

func (f *refusal) Error() string { return f.text }

func refusef(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// invalidMethod is the answer to a wrong HTTP method (405) and, of all texts, to a wrong role (501).
func invalidMethod(status int) error { return refusef(status, "Invalid method") }

// errNoEndpoint is the answer to a path that the agent's version does not have.
var errNoEndpoint = refusef(404, "")

// handler answers a request with something to send as JSON, with nothing, or with a refusal. It has the lock.
type handler func(a *Agent, r *http.Request) (any, error)

var handlers = map[string]handler{
	"members":           (*Agent).serveMembers,
	"servers":           (*Agent).serveServers,
	"self":              (*Agent).serveSelf,
	"join":              (*Agent).serveJoin,
	"force-leave":       (*Agent).serveForceLeave,
	"host":              (*Agent).serveHost,
	"schedulers":        (*Agent).serveSchedulers,
	"schedulers/config": (*Agent).serveSchedulersConfig,
	"reload":            (*Agent).serveReload,
}

// streamer writes an answer itself, and takes as long as it likes, without the lock.
type streamer func(a *Agent, w http.ResponseWriter, r *http.Request) error

var streamers = map[string]streamer{
	"health":         (*Agent).streamHealth,
	"monitor":        (*Agent).streamMonitor,
	"monitor/export": (*Agent).streamExport,
}

const (
	endpointPrefix = "/v1/agent/"
	keyringPrefix  = "keyring/"
	profilePrefix  = "pprof/"
	leaderPath     = "/v1/status/leader"
)

// route finds what answers a path: one of the two, or none.
func route(path string) (handler, streamer) {
	endpoint, ok := strings.CutPrefix(path, endpointPrefix)
	switch {
	case path == leaderPath:
		return nil, (*Agent).streamLeader
	case !ok:
		return nil, nil
	case strings.HasPrefix(endpoint, keyringPrefix):
		return (*Agent).serveKeyring, nil
	case strings.HasPrefix(endpoint, profilePrefix):
		return nil, (*Agent).serveProfile
	}
	return handlers[endpoint], streamers[endpoint]
}

// ServeHTTP answers as the agent does, also without a network. The agent's listener calls it. Where an agent would break
// the connection it panics with http.ErrAbortHandler, as handlers of package http do: when it is stopped, and in some
// faults.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r, end := a.mustRun(r)
	defer end()
	recorder := a.remember(w, r)
	defer a.logRequest(r, time.Now())
	a.meet(recorder, r, func(w http.ResponseWriter, r *http.Request) {
		w, end := compressed(w, r)
		defer end()
		a.answer(w, r)
	})
	recorder.done()
}

// serveSocket answers what comes over the unix socket: to those who say who they are, and never compressed.
func (a *Agent) serveSocket(w http.ResponseWriter, r *http.Request) {
	r, end := a.mustRun(r)
	defer end()
	recorder := a.remember(w, r)
	defer a.logRequest(r, time.Now())
	a.meet(recorder, r, func(w http.ResponseWriter, r *http.Request) {
		if a.authenticate(w, r) {
			a.answer(w, r)
		}
	})
	recorder.done()
}

// decide has a handler answer, if the agent still runs.
func (a *Agent) decide(serve handler, r *http.Request) (any, error) {
	mu.Lock()
	defer mu.Unlock()
	if !a.running {
		panic(http.ErrAbortHandler)
	}
	return serve(a, r)
}

// logRequest logs a request that was answered, for those who stream the log.
func (a *Agent) logRequest(r *http.Request, began time.Time) {
	mu.Lock()
	defer mu.Unlock()
	if len(a.listeners) > 0 {
		a.emit("debug", "http", "request complete", "method", r.Method, "path", r.URL.RequestURI(), "duration", time.Since(began))
	}
}

// answer gives the agent's own answer.
func (a *Agent) answer(w http.ResponseWriter, r *http.Request) {
	serve, stream := route(r.URL.Path)
	var result any
	var err error
	switch {
	case stream != nil:
		err = stream(a, w, r)
		_, end := a.mustRun(r)
		end()
	case serve != nil:
		result, err = a.decide(serve, r)
	default:
		err = errNoEndpoint
	}
	switch {
	case err == errNoEndpoint:
		w.WriteHeader(http.StatusNotFound)
	case err == errEnded:
		w.Header().Set("Content-Type", "application/json")
	case err != nil:
		status := http.StatusInternalServerError
		if f, ok := err.(*refusal); ok {
			status = f.status
		}
		if w.Header().Get("Content-Type") == "" || !a.isVersion1() {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		w.WriteHeader(status)
		fmt.Fprint(w, err)
	case result != nil:
		writeJSON(w, r, result)
	}
}

// mustRun breaks the connection of a request to an agent that is stopped. Otherwise it gives the request with a context
// that ends when the agent stops, and what lets go of that.
func (a *Agent) mustRun(r *http.Request) (*http.Request, func()) {
	mu.Lock()
	running, life := a.running, a.life
	mu.Unlock()
	if !running {
		panic(http.ErrAbortHandler)
	}
	ctx, cancel := context.WithCancel(r.Context())
	forget := context.AfterFunc(life, cancel)
	return r.WithContext(ctx), func() { forget(); cancel() }
}

// writeJSON writes an answer, indented when the request asks for it.
func writeJSON(w http.ResponseWriter, r *http.Request, result any) {
	pretty, indent := r.URL.Query()["pretty"]
	indent = indent && pretty[0] != "0"
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if indent {
		encoder.SetIndent("", "    ")
	}
	if err := encoder.Encode(result); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if !indent {
		body.Truncate(body.Len() - 1) // agents end the line only in what is for people
	}
	w.Header().Set("Content-Type", "application/json")
	contentLength(w, body.Bytes())
	w.Write(body.Bytes())
}
