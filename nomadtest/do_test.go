package nomadtest_test

import (
	"context"
	"net/url"

	"github.com/nomad-go/nomad"
)

// call sends a request with Client.Do.
func call(ctx context.Context, c *nomad.Client, method, path string, query url.Values, in, out any) error {
	_, err := c.Do(ctx, &nomad.Request{Method: method, Path: path, Query: query, Body: in}, out)
	return err
}
