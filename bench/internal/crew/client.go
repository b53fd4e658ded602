package crew

import (
	"context"
	"errors"
	"fmt"

	official "github.com/hashicorp/nomad/api"

	"github.com/nomad-go/nomad"
)

// Caller makes a call. Its number is unique in the worker.
type Caller func(context.Context, int64) error

// Options returns the options of this library's client for a job.
func (j Job) Options() []nomad.Option {
	opts := []nomad.Option{nomad.WithAddress(j.Address)}
	if j.CA != nil {
		opts = append(opts, nomad.WithTLS(nomad.TLS{CAPEM: j.CA}))
	}
	if j.MaxConns > 0 {
		opts = append(opts, nomad.WithMaxConns(j.MaxConns))
	}
	if j.Timeout > 0 {
		opts = append(opts, nomad.WithTimeout(j.Timeout))
	}
	return opts
}

// caller creates the client of a job, one for the whole process.
func (j Job) caller() (Caller, error) {
	if j.Client == "official" {
		return members(&official.Config{Address: j.Address})
	}
	client, err := nomad.NewClient(j.Options()...)
	if err != nil {
		return nil, err
	}
	if j.Client == "official, lent" {
		return members(&official.Config{Address: client.Address(), HttpClient: client.HTTPClient()})
	}
	if j.Call == "put" {
		return j.put(client), nil
	}
	return func(ctx context.Context, _ int64) error { return Members(ctx, client) }, nil
}

// Members calls Members. A response without members is an error.
func Members(ctx context.Context, client *nomad.Client) error {
	members, err := client.Agent.Members(ctx)
	return atLeastOne(err, func() int { return len(members.Members) })
}

// members returns a Caller of Members with Nomad's official client, which takes no context.
func members(config *official.Config) (Caller, error) {
	client, err := official.NewClient(config)
	if err != nil {
		return nil, err
	}
	return func(context.Context, int64) error {
		members, err := client.Agent().Members()
		return atLeastOne(err, func() int { return len(members.Members) })
	}, nil
}

// atLeastOne returns an error for a response without members.
func atLeastOne(err error, members func() int) error {
	if err == nil && members() == 0 {
		return errors.New("no members")
	}
	return err
}

// put returns a Caller that alternates Join and ForceLeave. Each call has its own token, by which
// the agent identifies it.
func (j Job) put(client *nomad.Client) Caller {
	return func(ctx context.Context, n int64) error {
		one, err := client.With(nomad.WithToken(fmt.Sprintf("worker-%d-call-%d", j.Number, n)))
		switch {
		case err != nil:
			return err
		case n%2 == 0:
			return one.Agent.ForceLeave(ctx, "server-9.global")
		}
		result, err := one.Agent.Join(ctx, j.Serf)
		if err == nil && result.Joined == 0 {
			return errors.New("joined nobody")
		}
		return err
	}
}
