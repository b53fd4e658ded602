package nomadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/nomad-go/nomad"
)

// failure is how an agent responds to a call to say that it failed.
type failure struct {
	meaning error
	status  int
	body    string
	call    func(context.Context, *nomad.Agent) error
}

var failures = []failure{
	{nomad.ErrInvalidArgument, 400, "missing address to join", callJoin},
	{nomad.ErrPermissionDenied, 403, permissionDenied, callMembers},
	{nomad.ErrInvalidToken, 403, tokenNotFound, callMembers},
	{nomad.ErrNotFound, 404, `Unknown node "5f6ca7d8-9be8-4d2a-8b26-0d5a2c6f9e9c"`, callMembers},
	{nomad.ErrServerOnly, 501, "Invalid method", callJoin},
	{nomad.ErrClientOnly, 501, "Invalid method", callServers},
	{nomad.ErrNoLeader, 500, noLeader, callMembers},
	{nomad.ErrTooManyRequests, 429, tooMany, callMembers},
	{nomad.ErrUnsupported, 404, "", callReload},
	{nomad.ErrUnhealthy, 500, `{"client":{"ok":false,"message":"no known servers"}}`, callHealth},
	{nomad.ErrUnhealthy, 500, `{"server":{"ok":false,"message":"No cluster leader"}}`, callHealth},
	{nomad.ErrJoinFailed, 200, `{"error":"1 error occurred:\n\t* Failed to join 192.0.2.1:4648: dial tcp 192.0.2.1:4648: ` +
		`connect: connection refused\n\n","num_joined":0}`, callJoin},
}

func callMembers(ctx context.Context, a *nomad.Agent) error {
	_, err := a.Members(ctx)
	return err
}

func callServers(ctx context.Context, a *nomad.Agent) error {
	_, err := a.Servers(ctx)
	return err
}

func callHealth(ctx context.Context, a *nomad.Agent) error {
	_, err := a.Health(ctx)
	return err
}

func callJoin(ctx context.Context, a *nomad.Agent) error {
	_, err := a.Join(ctx, "192.0.2.1:4648")
	return err
}

func callReload(ctx context.Context, a *nomad.Agent) error { return a.Reload(ctx) }

// Error returns the error with which the methods of package nomad report a response that means the given error, such as
// nomad.ErrNoLeader. Fakes of these methods can return it. Its fields can be changed.
//
// With more errors, it returns one that matches all of them. Agent.Health of a server without a leader returns
// Error(nomad.ErrUnhealthy, nomad.ErrNoLeader).
//
// It panics for an error that never comes from a response, such as nomad.ErrClosed, and for errors that never come
// together. A fake returns nomad.ErrClosed as it is.
func Error(meaning error, more ...error) *nomad.APIError {
	meanings := append([]error{meaning}, more...)
	var names []string
	for _, f := range failures {
		if slices.Contains(meanings, f.meaning) {
			err := f.make()
			if !slices.ContainsFunc(meanings, func(m error) bool { return !errors.Is(err, m) }) {
				return err
			}
		}
		names = append(names, fmt.Sprintf("%q", f.meaning))
	}
	panic(fmt.Sprintf("nomadtest: Error(%q): want one of %s", meanings, strings.Join(slices.Compact(names), ", ")))
}

// make has a client call an agent that responds in this way.
func (f failure) make() *nomad.APIError {
	client := must(nomad.NewClient(nomad.WithRetries(0), nomad.WithHTTPClient(&http.Client{Transport: f})))
	var err *nomad.APIError
	if got := f.call(context.Background(), client.Agent); !errors.As(got, &err) || !errors.Is(err, f.meaning) {
		panic(fmt.Sprintf("nomadtest: %q became %v", f.meaning, got))
	}
	return err
}

// RoundTrip implements http.RoundTripper.
func (f failure) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: f.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(f.body)), Request: r}, nil
}
