package nomad

import (
	"context"
	"net/http"
)

var reloadEndpoint = endpoint{name: "Reload", method: http.MethodPut, path: "/v1/agent/reload", acl: "agent:write", since: "2.0.3"}

// Reload makes an agent read its configuration files again, as the signal SIGHUP does. It takes over what can change
// while it runs, such as the log level and TLS certificates.
//
// It needs an agent of any role of Nomad 2.0.3 or later, or fails with ErrUnsupported, and an ACL token with agent:write.
// A configuration that cannot be used makes it fail with status 500, and the agent goes on with the one that it has. It
// makes the call PUT /v1/agent/reload.
func (a *Agent) Reload(ctx context.Context) error {
	return done(ctx, a.client, reloadEndpoint.to(nil))
}
