package watch

import (
	"context"
	"iter"
	"time"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/show"
)

// HealthAgent is the agent that Health polls. *nomad.Agent implements it.
type HealthAgent interface {
	Health(ctx context.Context, roles ...nomad.Role) (*nomad.Health, error)
}

// HealthEvent is a change in the health of an agent, or one of the kinds Outage and OutageOver.
type HealthEvent struct {
	Kind Kind

	// Before and After are the health as it was reported before and as it is now. Before is the zero Health in the
	// first event. Both are zero for the kinds Outage and OutageOver.
	Before, After nomad.Health

	// Err is the error of Agent.Health for the kind Unhealthy, such as ErrNoLeader, and the error of the first failed
	// poll for an Outage. It is context.DeadlineExceeded if the poll timed out. It is nil for the other kinds.
	Err error

	// Since is the time of the last response before the outage, for the kinds Outage and OutageOver. It is the start of
	// the watch if there was none.
	Since time.Time

	// Time is when the watch first saw the change. What happened in an outage is seen when the
	// outage is over.
	Time time.Time
}

func (e HealthEvent) outage() outage { return outage{e.Kind, e.Since, e.Time, e.Err} }

// String returns how the agent is, such as "unhealthy: server: No cluster leader".
func (e HealthEvent) String() string {
	switch e.Kind {
	case Outage, OutageOver:
		return e.outage().describe()
	case Unhealthy:
		return e.After.String()
	}
	return string(e.Kind)
}

// MarshalJSON encodes the event as an object with kind, time, before, after, since, duration (of an
// outage that is over, such as "1m30s") and error. What the kind does not have is absent.
func (e HealthEvent) MarshalJSON() ([]byte, error) {
	return show.JSON(struct {
		header
		Before nomad.Health `json:"before,omitzero"`
		After  nomad.Health `json:"after,omitzero"`
	}{e.outage().header(), e.Before, e.After})
}

// health is a response of Health.
type health struct {
	nomad.Health
	err error
}

// differs names the roles whose health differs. That the message of an unhealthy role is another
// one is no difference.
func (h health) differs(other health) []string {
	var names []string
	if h.OK() != other.OK() {
		names = append(names, status)
	}
	if !sameHealth(h.Server, other.Server) {
		names = append(names, "Server")
	}
	if !sameHealth(h.Client, other.Client) {
		names = append(names, "Client")
	}
	return names
}

func sameHealth(a, b *nomad.RoleHealth) bool { return a == b || a != nil && b != nil && a.OK == b.OK }

// clone returns a copy that shares nothing.
func (h health) clone() health {
	for _, role := range []**nomad.RoleHealth{&h.Server, &h.Client} {
		if *role != nil {
			*role = new(**role)
		}
	}
	return h
}

// Health reports an agent's health in the given roles, or without roles in all roles that it has. The first event is
// the present health. Each later one is a change that has settled (see Options.Settle). An unhealthy agent is an event
// of the kind Unhealthy and does not end the loop.
//
// An event has the health of all roles. Its kind is Unhealthy if any of them is unhealthy. It is reported when a role
// becomes healthy or unhealthy. A new message of a role that stays unhealthy is not reported. A role that the agent
// does not have is an Outage with ErrServerOnly or ErrClientOnly.
//
// Failed polls in a row are one Outage. When the agent responds again, OutageOver is reported and then its health, when
// that has settled, even if it is the same as before.
//
// It requires no ACL token. A server without a leader takes 5 s to respond. Pass the Agent of a Client without a
// region: see nomad.Agent.Health.
func Health(
	ctx context.Context, agent HealthAgent, opts Options, roles ...nomad.Role,
) iter.Seq2[HealthEvent, error] {
	return sequence(ctx, func(emit func(HealthEvent) bool) error {
		var known, latest health
		w := watcher[health]{
			diff:  health.differs,
			clone: health.clone,
			poll: func(ctx context.Context) (map[string]health, error) {
				h, err := agent.Health(ctx, roles...)
				if h == nil {
					return nil, err
				}
				latest = health{*h, err}
				return map[string]health{"": latest}, nil
			},
			report: func(changes []change[health], synced bool) bool {
				event := HealthEvent{Kind: Healthy, Before: known.clone().Health, Time: time.Now()}
				for _, c := range changes {
					known, event.Time = *c.after, c.since
				}
				switch {
				case len(changes) > 0:
				case !synced:
					return true
				case len(known.differs(latest)) == 0:
					known = latest
				}
				event.After, event.Err = known.clone().Health, known.err
				if !known.OK() {
					event.Kind = Unhealthy
				}
				return emit(event)
			},
			outage: func(o outage) bool {
				return emit(HealthEvent{Kind: o.kind, Since: o.since, Time: o.time, Err: o.err})
			},
		}
		return w.run(ctx, "Health", opts)
	})
}
