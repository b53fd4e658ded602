package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nomad-go/nomad/nomadtest"
)

// control lets a test change a cluster over HTTP.
type control struct {
	cluster *nomadtest.Cluster
	region  string

	mu         sync.Mutex
	injections []*injection
}

type injection struct {
	*nomadtest.Injection
	fault
	id      int
	agent   string
	removed bool
}

// maxBody is how long the body of a request may be.
const maxBody = 1 << 20

func newControl(cluster *nomadtest.Cluster, region string) http.Handler {
	c := &control{cluster: cluster, region: region}
	mux := http.NewServeMux()
	handle := func(pattern string, serve func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			var out any
			var err error
			if problem := try(func() { out, err = serve(r) }); problem != nil {
				err = problem
			}
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				out = map[string]string{"error": err.Error()}
			}
			json.NewEncoder(w).Encode(out)
		})
	}
	handle("GET /agents", c.agents)
	handle("PUT /agents/{name}/{action}", c.act)
	handle("GET /agents/{name}/requests", c.requests)
	handle("PUT /agents/{name}/faults", c.inject)
	handle("GET /faults", c.faults)
	handle("DELETE /faults/{id}", c.remove)
	handle("PUT /partition", c.partition)
	handle("PUT /heal", c.heal)
	handle("/", func(r *http.Request) (any, error) {
		return nil, fmt.Errorf("no request %s %s: docs/testing.md lists the requests", r.Method, r.URL.Path)
	})
	return mux
}

// done is the response to a request that has nothing to say.
var done = map[string]bool{"ok": true}

func (c *control) agents(*http.Request) (any, error) {
	type state struct {
		Name    string `json:"name"`
		Running bool   `json:"running"`
		Leader  bool   `json:"leader"`
	}
	var states []state
	for _, a := range c.cluster.Agents() {
		states = append(states, state{a.Name(), a.Running(), a == c.cluster.Leader(c.region)})
	}
	return states, nil
}

func (c *control) act(r *http.Request) (any, error) {
	a := c.cluster.Agent(r.PathValue("name"))
	switch action := r.PathValue("action"); action {
	case "stop":
		a.Stop()
	case "start":
		a.Start()
	case "leave":
		a.Leave()
	case "take-lead":
		if !a.TakeLead() {
			return nil, fmt.Errorf("%s cannot lead: it needs to run and to have a vote, in a region that has a leader", a.Name())
		}
	default:
		return nil, fmt.Errorf("no action %q: there are faults, leave, start, stop, take-lead", action)
	}
	return done, nil
}

func (c *control) requests(r *http.Request) (any, error) {
	return c.cluster.Agent(r.PathValue("name")).Requests(), nil
}

func (c *control) partition(r *http.Request) (any, error) {
	var in struct {
		Agents []string `json:"agents"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if len(in.Agents) == 0 {
		return nil, errors.New("no agents")
	}
	c.cluster.Partition(in.Agents...)
	return done, nil
}

func (c *control) heal(*http.Request) (any, error) {
	c.cluster.Heal()
	return done, nil
}

// fault is the description of a fault.
type fault struct {
	Fault    string   `json:"fault"`
	Status   int      `json:"status,omitempty"`
	Body     string   `json:"body,omitempty"`
	Location string   `json:"location,omitempty"`
	Bytes    int      `json:"bytes,omitempty"`
	Delay    duration `json:"delay,omitempty"`

	Endpoints []string `json:"endpoints,omitempty"`
	Times     int      `json:"times,omitempty"`
	For       duration `json:"for,omitempty"`
	Share     float64  `json:"share,omitempty"`
}

var makers = map[string]func(f fault) nomadtest.Fault{
	"delay":       func(f fault) nomadtest.Fault { return nomadtest.Delay(time.Duration(f.Delay)) },
	"drip":        func(f fault) nomadtest.Fault { return nomadtest.Drip(f.Bytes, time.Duration(f.Delay)) },
	"garbage":     func(fault) nomadtest.Fault { return nomadtest.Garbage() },
	"redirect":    func(f fault) nomadtest.Fault { return nomadtest.Redirect(f.Location) },
	"reset":       func(fault) nomadtest.Fault { return nomadtest.Reset() },
	"reset-after": func(f fault) nomadtest.Fault { return nomadtest.ResetAfter(f.Bytes) },
	"stall":       func(fault) nomadtest.Fault { return nomadtest.Stall() },
	"stall-after": func(f fault) nomadtest.Fault { return nomadtest.StallAfter(f.Bytes) },
	"status":      func(f fault) nomadtest.Fault { return nomadtest.Status(f.Status, f.Body) },
	"truncate":    func(f fault) nomadtest.Fault { return nomadtest.Truncate(f.Bytes) },
}

func (c *control) inject(r *http.Request) (any, error) {
	a := c.cluster.Agent(r.PathValue("name"))
	var spec fault
	if err := decode(r, &spec); err != nil {
		return nil, err
	}
	maker := makers[spec.Fault]
	switch {
	case maker == nil:
		return nil, fmt.Errorf("no fault %q: there are %s", spec.Fault, strings.Join(slices.Sorted(maps.Keys(makers)), ", "))
	case spec.Fault == "redirect" && spec.Location == "":
		return nil, errors.New("the fault redirect needs a location")
	case spec.Fault == "delay" && spec.Delay == 0:
		return nil, errors.New(`the fault delay needs a delay, such as "1.5s"`)
	}
	options := []nomadtest.FaultOption{nomadtest.On(spec.Endpoints...)}
	if spec.Times != 0 {
		options = append(options, nomadtest.Times(spec.Times))
	}
	if spec.For != 0 {
		options = append(options, nomadtest.For(time.Duration(spec.For)))
	}
	if spec.Share != 0 {
		options = append(options, nomadtest.Share(spec.Share))
	}
	i := &injection{Injection: a.Inject(maker(spec), options...), fault: spec, agent: a.Name()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.injections = append(c.injections, i)
	i.id = len(c.injections)
	return map[string]int{"id": i.id}, nil
}

func (c *control) faults(*http.Request) (any, error) {
	type state struct {
		ID    int    `json:"id"`
		Agent string `json:"agent"`
		fault
		Hits int `json:"hits"`
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	states := []state{}
	for _, i := range c.injections {
		if !i.removed {
			states = append(states, state{i.id, i.agent, i.fault, i.Hits()})
		}
	}
	return states, nil
}

func (c *control) remove(r *http.Request) (any, error) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	c.mu.Lock()
	defer c.mu.Unlock()
	if id < 1 || id > len(c.injections) || c.injections[id-1].removed {
		return nil, fmt.Errorf("no fault with the ID %q", r.PathValue("id"))
	}
	i := c.injections[id-1]
	i.Remove()
	i.removed = true
	return map[string]int{"hits": i.Hits()}, nil
}

// decode reads the JSON object of a request.
func decode(r *http.Request, out any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(out)
	wrong := new(json.UnmarshalTypeError)
	switch {
	case err == io.EOF:
		return errors.New("the body is empty: want a JSON object")
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("the body is a JSON %s: want an object", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("the body: %s cannot be a JSON %s", wrong.Field, wrong.Value)
	case err != nil:
		return fmt.Errorf("the body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("the body: something follows the object")
	}
	return nil
}

// duration is a time such as "1.5s" in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
