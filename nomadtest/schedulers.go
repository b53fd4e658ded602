package nomadtest

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// cpuCount is the number of processors that agents report.
const cpuCount = 2

// workers are the scheduler workers of a server.
type workers struct {
	count   int
	enabled []string
}

func newWorkers() workers {
	return workers{count: cpuCount, enabled: []string{"service", "batch", "system", "sysbatch", "_core"}}
}

type schedulersConfigJSON struct {
	EnabledSchedulers []string `json:"enabled_schedulers"`
	NumSchedulers     int      `json:"num_schedulers"`
	ServerID          string   `json:"server_id"`
}

func (a *Agent) serveSchedulers(r *http.Request) (any, error) {
	if !a.server {
		return nil, refusef(400, "Server only endpoint")
	}
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, helped, agentRead); err != nil {
		return nil, err
	}
	type worker struct {
		EnabledSchedulers []string `json:"enabled_schedulers"`
		ID                string   `json:"id"`
		Started           string   `json:"started"`
		Status            string   `json:"status"`
		WorkloadStatus    string   `json:"workload_status"`
	}
	out := struct {
		Schedulers []worker `json:"schedulers"`
		ServerID   string   `json:"server_id"`
	}{Schedulers: []worker{}, ServerID: a.fullName()}
	leader := a.pool.leader(a.region)
	paused := 0 // a leader pauses three quarters of its workers
	if leader == a && a.workers.count > 1 {
		paused = 3 * a.workers.count / 4
	}
	for i := range a.workers.count {
		status, workload := "Started", "WaitingToDequeue"
		switch {
		case i < paused:
			status, workload = "Paused", "Paused"
		case leader == nil:
			workload = "Backoff"
		}
		out.Schedulers = append(out.Schedulers, worker{
			EnabledSchedulers: a.workers.enabled, ID: idOf("worker", a.id, strconv.Itoa(i)),
			Started: a.started.UTC().Format(time.RFC3339Nano), Status: status, WorkloadStatus: workload,
		})
	}
	return out, nil
}

func (a *Agent) serveSchedulersConfig(r *http.Request) (any, error) {
	write := isWrite(r)
	switch {
	case !a.server:
		return nil, refusef(400, "Server only endpoint")
	case !write && r.Method != http.MethodGet:
		return nil, invalidMethod(405)
	case write:
		if err := a.authorize(r, helped, agentWrite); err != nil {
			return nil, err
		}
		var change schedulersConfigJSON
		if err := decodeBody(r, &change, "api.AgentSchedulerWorkerConfigRequest"); err != nil {
			return nil, refusef(400, "Invalid request: %v", err)
		}
		unknown := slices.ContainsFunc(change.EnabledSchedulers, func(name string) bool {
			return !slices.Contains(newWorkers().enabled, name)
		})
		if change.NumSchedulers < 0 || change.NumSchedulers > cpuCount || unknown || !slices.Contains(change.EnabledSchedulers, "_core") {
			return nil, refusef(400, "Invalid request")
		}
		a.setWorkers(workers{change.NumSchedulers, change.EnabledSchedulers})
	default:
		if err := a.authorize(r, helped, agentRead); err != nil {
			return nil, err
		}
	}
	return schedulersConfigJSON{a.workers.enabled, a.workers.count, a.fullName()}, nil
}

// setWorkers changes the scheduler workers as agents do, odd as it is: a list that is the beginning of the old one, in
// alphabetical order, changes nothing, and one that goes on where the old one ends breaks the connection.
func (a *Agent) setWorkers(change workers) {
	if change.count == a.workers.count {
		before, after := slices.Sorted(slices.Values(a.workers.enabled)), slices.Sorted(slices.Values(change.enabled))
		same := min(len(before), len(after))
		switch {
		case !slices.Equal(before[:same], after[:same]):
		case len(after) > len(before):
			panic(http.ErrAbortHandler)
		default:
			return
		}
	}
	a.workers = change
}
