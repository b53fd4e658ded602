package nomadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// refusal is an error response in plain text, as agents send it.
type refusal struct {
	status int
	text   string
	kind   refusalKind
}

func (f *refusal) Error() string { return f.text }

func refusef(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// invalidMethod is the response to a wrong HTTP method (405). Agents send the same message when the
// agent has the wrong role (501).
func invalidMethod(status int) error { return refusef(status, "Invalid method") }

// errNoEndpoint is the response to a path that the agent's version does not have.
var errNoEndpoint = refusef(404, "")

// ServeHTTP responds to a request as the agent does. The agent's listener calls it; tests can call
// it without a network.
//
// Where an agent would break the connection, ServeHTTP panics with http.ErrAbortHandler: when the
// agent is stopped, and in some faults.
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

// serveSocket responds to requests on the unix socket. They need a token, and responses are never
// compressed.
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

// decide calls a handler with the lock held. It aborts the request if the agent is stopped.
func (a *Agent) decide(serve handler, r *http.Request) (any, error) {
	mu.Lock()
	defer mu.Unlock()
	if !a.running {
		panic(http.ErrAbortHandler)
	}
	return serve(a, r)
}

// logRequest logs a finished request if the log is being streamed.
func (a *Agent) logRequest(r *http.Request, began time.Time) {
	mu.Lock()
	defer mu.Unlock()
	if len(a.listeners) > 0 {
		a.emit("debug", "http", "request complete", "method", r.Method, "path", r.URL.RequestURI(), "duration", time.Since(began))
	}
}

// answer writes the agent's own response, without faults.
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

// writeError writes an error response.
//
// An error that other agents passed on has a prefix. Agents recognize a permission error by the end
// of its message.
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

// await calls a handler and blocks where agents block.
//
// A request with an index waits for newer state or for the wait time of the request. With real
// delays, a request that needs a leader first waits for one.
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

// Limits and poll interval of blocking queries.
const (
	defaultWait  = 5 * time.Minute
	maxWait      = 10 * time.Minute
	pollInterval = 50 * time.Millisecond
)

// mustRun aborts the request if the agent is stopped.
//
// Otherwise it returns the request with a context that ends when the agent stops, and a function
// that releases the context.
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

// writeJSON writes a JSON response, indented if the request has the parameter pretty.
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
		body.Truncate(body.Len() - 1) // agents add a line break only to indented JSON
	}
	w.Header().Set("Content-Type", "application/json")
	contentLength(w, body.Bytes())
	w.Write(body.Bytes())
}

// decodeBody decodes the JSON body of a request. as is the type name in the error messages of
// agents.
func decodeBody(r *http.Request, into any, as string) error {
	if r.Body == http.NoBody {
		return errors.New("Request body is empty")
	}
	err := json.NewDecoder(r.Body).Decode(into)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		if mismatch.Field == "" {
			return fmt.Errorf("json: cannot unmarshal %s into Go value of type %s", mismatch.Value, as)
		}
		_, mismatch.Struct, _ = strings.Cut(as, ".")
	}
	return err
}
