package nomad

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nomad-go/nomad/internal/show"
)

// Schedulers has the scheduler workers of a server.
type Schedulers struct {
	ServerID   string      `json:"server_id"` // full name of the server, such as server-1.global
	Schedulers []Scheduler `json:"schedulers"`
}

// String returns the server and the number of its workers.
func (s Schedulers) String() string {
	return fmt.Sprintf("%s: %d schedulers", show.Line(s.ServerID), len(s.Schedulers))
}

// MarshalJSON encodes the workers as agents send them.
func (s Schedulers) MarshalJSON() ([]byte, error) {
	type fields Schedulers
	return show.JSON(fields(s))
}

func (s *Schedulers) check() error {
	if s.ServerID == "" {
		return errors.New("it has no server_id")
	}
	return nil
}

// Scheduler is a worker that evaluates jobs.
type Scheduler struct {
	ID                string    `json:"id"`
	EnabledSchedulers []string  `json:"enabled_schedulers"` // types of jobs that it evaluates, and _core
	Started           time.Time `json:"started"`
	Status            string    `json:"status"`          // state of the worker: Starting, Started, Pausing, Paused, Resuming, Stopping, Stopped
	WorkloadStatus    string    `json:"workload_status"` // state of its work, such as WaitingToDequeue, Scheduling or Backoff
}

// String returns the ID of the worker and its states.
func (s Scheduler) String() string {
	return show.Line(s.ID + ": " + s.Status + ", " + s.WorkloadStatus)
}

// MarshalJSON encodes the worker as agents send it.
func (s Scheduler) MarshalJSON() ([]byte, error) { type fields Scheduler; return show.JSON(fields(s)) }

var schedulersEndpoint = register(endpoint{name: "Schedulers", method: http.MethodGet, path: "/v1/agent/schedulers", role: RoleServer, acl: "agent:read", since: "1.2.4"})

// Schedulers returns the scheduler workers of a server.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:read.
//
// Endpoint: GET /v1/agent/schedulers
func (a *Agent) Schedulers(ctx context.Context) (*Schedulers, error) {
	return get[Schedulers](ctx, a.client, schedulersEndpoint.newRequest(nil))
}

// SchedulerConfig is the configuration of a server's scheduler workers.
type SchedulerConfig struct {
	ServerID          string   `json:"server_id"`          // full name of the server, such as server-1.global; ignored in an update
	NumSchedulers     int      `json:"num_schedulers"`     // number of workers, at most the number of cores
	EnabledSchedulers []string `json:"enabled_schedulers"` // service, batch, system, sysbatch, and _core, which is required
}

// String returns the server, the number of its workers and the types of jobs that they evaluate.
func (s SchedulerConfig) String() string {
	return show.Line(fmt.Sprintf("%s: %d schedulers of %v", s.ServerID, s.NumSchedulers, s.EnabledSchedulers))
}

// MarshalJSON encodes the configuration as agents send it.
func (s SchedulerConfig) MarshalJSON() ([]byte, error) {
	type fields SchedulerConfig
	return show.JSON(fields(s))
}

func (s *SchedulerConfig) check() error {
	if s.ServerID == "" {
		return errors.New("it has no server_id")
	}
	return nil
}

var schedulerConfigEndpoint = register(endpoint{name: "SchedulerConfig", method: http.MethodGet, path: "/v1/agent/schedulers/config", role: RoleServer, acl: "agent:read", since: "1.2.4"})

// SchedulerConfig returns the configuration of a server's scheduler workers.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:read.
//
// Endpoint: GET /v1/agent/schedulers/config
func (a *Agent) SchedulerConfig(ctx context.Context) (*SchedulerConfig, error) {
	return get[SchedulerConfig](ctx, a.client, schedulerConfigEndpoint.newRequest(nil))
}

var updateSchedulerConfigEndpoint = register(endpoint{name: "UpdateSchedulerConfig", method: http.MethodPut, path: "/v1/agent/schedulers/config", role: RoleServer, acl: "agent:write", since: "1.2.4", once: true})

// UpdateSchedulerConfig sets the configuration of a server's scheduler workers, which lasts until the server restarts.
// It returns the configuration that the server now has.
//
// Agents respond with success to some updates that they do not apply. If the server then has another configuration than
// config, the error is ErrNotApplied. It happens if config.NumSchedulers equals the server's, and
// config.EnabledSchedulers, sorted, is a proper prefix of the server's sorted list. With some invalid lists the agent
// closes the connection instead of responding, and the error is that of the connection. So a request of this method
// that may have reached the agent is not sent again, unless the agent refused its token and WithTokenFile has another.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write. It returns ErrInvalidArgument for a
// nil config, a negative number, a list without _core, and whatever the server refuses with a response.
//
// Endpoint: PUT /v1/agent/schedulers/config
func (a *Agent) UpdateSchedulerConfig(ctx context.Context, config *SchedulerConfig) (*SchedulerConfig, error) {
	if config == nil {
		return nil, invalidArgument("UpdateSchedulerConfig", "the SchedulerConfig is nil")
	}
	if config.NumSchedulers < 0 {
		return nil, invalidArgument("UpdateSchedulerConfig", "NumSchedulers: %d: want 0 or more", config.NumSchedulers)
	}
	if !slices.Contains(config.EnabledSchedulers, "_core") {
		return nil, invalidArgument("UpdateSchedulerConfig", "EnabledSchedulers: %q: want a list with _core", config.EnabledSchedulers)
	}
	r, err := updateSchedulerConfigEndpoint.newJSONRequest(config)
	if err != nil {
		return nil, err
	}
	updated, err := get[SchedulerConfig](ctx, a.client, r)
	if err != nil {
		return nil, err
	}
	// The response has the configuration that the server has now.
	if updated.NumSchedulers != config.NumSchedulers || !sameNames(updated.EnabledSchedulers, config.EnabledSchedulers) {
		return nil, a.client.requestError(r, fmt.Errorf("%w: the server still has %d schedulers for %q",
			ErrNotApplied, updated.NumSchedulers, updated.EnabledSchedulers))
	}
	return updated, nil
}

// sameNames reports whether two lists have the same names, in whatever order.
func sameNames(a, b []string) bool {
	unique := func(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }
	return slices.Equal(unique(a), unique(b))
}
