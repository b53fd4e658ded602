package nomad

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// Schedulers are the scheduler workers of a server.
type Schedulers struct {
	ServerID   string      `json:"server_id"` // the server's name, such as server-1.global
	Schedulers []Scheduler `json:"schedulers"`
}

func (s *Schedulers) check() error {
	if s.ServerID == "" {
		return errors.New("it names no server")
	}
	return nil
}

// Scheduler is a worker that evaluates jobs.
type Scheduler struct {
	ID                string    `json:"id"`
	EnabledSchedulers []string  `json:"enabled_schedulers"` // the types of jobs that it works on, and _core
	Started           time.Time `json:"started"`
	Status            string    `json:"status"`          // of the worker: Starting, Started, Pausing, Paused, Resuming, Stopping, Stopped
	WorkloadStatus    string    `json:"workload_status"` // of its work, such as WaitingToDequeue, Scheduling or Backoff
}

var schedulersEndpoint = endpoint{name: "Schedulers", method: http.MethodGet, path: "/v1/agent/schedulers", role: RoleServer, acl: "agent:read", since: "1.2.4"}

// Schedulers lists the scheduler workers of a server.
//
// It needs an agent in server mode, or fails with ErrServerOnly, and an ACL token with agent:read. It makes the call
// GET /v1/agent/schedulers.
func (a *Agent) Schedulers(ctx context.Context) (*Schedulers, error) {
	return read[Schedulers](ctx, a.client, schedulersEndpoint.to(nil))
}

// SchedulerConfig is how many scheduler workers a server has, and what they work on.
type SchedulerConfig struct {
	ServerID          string   `json:"server_id"`          // the server's name; the agent pays no heed to it in an update
	NumSchedulers     int      `json:"num_schedulers"`     // how many workers; at most the number of cores
	EnabledSchedulers []string `json:"enabled_schedulers"` // service, batch, system, sysbatch, and _core, which must be there
}

func (s *SchedulerConfig) check() error {
	if s.ServerID == "" {
		return errors.New("it names no server")
	}
	return nil
}

var schedulerConfigEndpoint = endpoint{name: "SchedulerConfig", method: http.MethodGet, path: "/v1/agent/schedulers/config", role: RoleServer, acl: "agent:read", since: "1.2.4"}

// SchedulerConfig tells how many scheduler workers a server has, and what they work on.
//
// It needs an agent in server mode, or fails with ErrServerOnly, and an ACL token with agent:read. It makes the call
// GET /v1/agent/schedulers/config.
func (a *Agent) SchedulerConfig(ctx context.Context) (*SchedulerConfig, error) {
	return read[SchedulerConfig](ctx, a.client, schedulerConfigEndpoint.to(nil))
}

var updateSchedulerConfigEndpoint = endpoint{name: "UpdateSchedulerConfig", method: http.MethodPut, path: "/v1/agent/schedulers/config", role: RoleServer, acl: "agent:write", since: "1.2.4"}

// UpdateSchedulerConfig sets how many scheduler workers a server has, and what they work on, until it is restarted. It
// gives what the server has made of it.
//
// It needs an agent in server mode, or fails with ErrServerOnly, and an ACL token with agent:write. A negative number, and
// a list without _core, are ErrInvalidArgument before anything is sent. It makes the call
// PUT /v1/agent/schedulers/config.
func (a *Agent) UpdateSchedulerConfig(ctx context.Context, config SchedulerConfig) (*SchedulerConfig, error) {
	if config.NumSchedulers < 0 {
		return nil, invalidArgument("UpdateSchedulerConfig", "%d schedulers: want 0 or more", config.NumSchedulers)
	}
	if !slices.Contains(config.EnabledSchedulers, "_core") {
		return nil, invalidArgument("UpdateSchedulerConfig", "enabled schedulers %q: _core must be one of them", config.EnabledSchedulers)
	}
	r, err := updateSchedulerConfigEndpoint.with(config)
	if err != nil {
		return nil, err
	}
	return read[SchedulerConfig](ctx, a.client, r)
}
