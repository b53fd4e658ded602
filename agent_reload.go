package nomad

import (
	"context"
	"net/http"
)

var reloadEndpoint = register(endpoint{name: "Reload", method: http.MethodPut, path: "/v1/agent/reload", acl: "agent:write", since: "2.0.3", decode: decodeEmpty})

// Reload makes an agent read its configuration files again, as the signal SIGHUP does, and apply what can change while it
// runs, such as the log level and TLS certificates.
//
// If the configuration cannot be used the error is an APIError with status 500, and the agent keeps its configuration.
//
// It requires Nomad 2.0.3 or later (ErrUnsupported) and the ACL capability agent:write.
//
// Endpoint: PUT /v1/agent/reload
func (a *Agent) Reload(ctx context.Context) error {
	_, err := a.client.do(ctx, reloadEndpoint.newRequest(nil), nil)
	return err
}
