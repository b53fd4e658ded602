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
	kind   refusalKind
}

func (f *refusal) Error() string { return f.text }

func refusef(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// invalidMethod is the answer to a wrong HTTP method (405) and, of all texts, to a wrong role (501).
func invalidMethod(status int) error { return refusef(status, "Invalid method") }

// errNoEndpoint is the answer to a path that the agent's version does not have.
var errNoEndpoint = refusef(404, "")

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
	target := a.route(w, r)
	var result any
	var err error
	switch {
	case target.done:
		return
	case target.stream != nil:
		err = target.stream(a, w, r)
		_, end := a.mustRun(r)
		end()
	case target.serve != nil:
		result, err = a.await(target.serve, r)
	default:
		err = errNoEndpoint
	}
	if m, ok := result.(withMeta); ok {
		m.writeHeaders(w.Header())
		result = m.body
		if m.status != 0 {
			err = refusef(m.status, "%s", m.message)
		}
	}
	switch {
	case err == errNoEndpoint:
		w.WriteHeader(http.StatusNotFound)
	case err == errEnded:
		w.Header().Set("Content-Type", "application/json")
	case err != nil:
		a.writeError(w, err)
	case result != nil:
		writeJSON(w, r, result)
	}
}

// writeError writes what went wrong. Of an error that came a long way only its end tells agents that it is about
// permission.
func (a *Agent) writeError(w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, err.Error()
	if f, ok := err.(*refusal); ok {
		status = f.status
	}
	if status == http.StatusInternalServerError && strings.HasSuffix(text, permissionDenied) {
		status, text = http.StatusForbidden, permissionDenied
	}
	if w.Header().Get("Content-Type") == "" || a.atLeast(1, 9, 4) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

// await has a handler answer. A request that names an index is answered when there is something newer, or after the time
// that it gives. With real delays one that needs a leader waits for one first.
func (a *Agent) await(serve handler, r *http.Request) (any, error) {
	result, err := a.decide(serve, r)
	if err != nil && a.realDelays && strings.HasSuffix(err.Error(), noLeader) {
		for until := time.Now().Add(leaderWait); err != nil && strings.HasSuffix(err.Error(), noLeader) && time.Now().Before(until); {
			pause(r, leaderWait/100)
			result, err = a.decide(serve, r)
		}
	}
	q, invalid := a.parse(r)
	if m, ok := result.(withMeta); !ok || invalid != nil || err != nil || q.index == 0 || uint64(m.index) > q.index {
		return result, err
	}
	if q.wait <= 0 {
		q.wait = defaultWait
	}
	until := time.Now().Add(min(q.wait, maxWait))
	for time.Now().Before(until) {
		pause(r, min(time.Until(until), pollInterval))
		result, err = a.decide(serve, r)
		if m, ok := result.(withMeta); !ok || err != nil || uint64(m.index) > q.index {
			break
		}
	}
	return result, err
}

// How long a request is held that asks for something newer than there is.
const (
	defaultWait  = 5 * time.Minute
	maxWait      = 10 * time.Minute
	pollInterval = 50 * time.Millisecond
)

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
