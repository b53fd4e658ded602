package meaning

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOf(t *testing.T) {
	for name, test := range map[string]struct {
		role   string
		status int
		body   string
		want   Kind
	}{
		"a redirect":                             {"", 302, "No cluster leader", Unknown},
		"a server's endpoint on a client":        {"server", 501, "Invalid method", ServerOnly},
		"a client's endpoint on a server":        {"client", 501, "Invalid method", ClientOnly},
		"a wrong method":                         {"", 501, "Invalid method", Unknown},
		"the schedulers of a client":             {"server", 400, "Server only endpoint", ServerOnly},
		"an unknown token, 1.6":                  {"", 500, "ACL token not found", InvalidToken},
		"an unknown accessor":                    {"", 404, "ACL token not found", NotFound},
		"a malformed token":                      {"", 500, "acl token lookup failed: index error: UUID must be 36 characters", InvalidToken},
		"a bad workload identity":                {"", 500, "ACL token not found or invalid workload identity: x", InvalidToken},
		"a token without the capability":         {"", 403, "Permission denied", PermissionDenied},
		"a proxy":                                {"", 401, "", PermissionDenied},
		"forwarded":                              {"", 500, "rpc error: Permission denied", PermissionDenied},
		"without a leader":                       {"", 500, "No cluster leader", NoLeader},
		"a stale read without a leader":          {"", 500, "no leader", NoLeader},
		"an unknown node of an agent behind two": {"", 500, "rpc error: rpc error: RPC Error:: 404,Unknown node 5", NotFound},
		"http to an agent with TLS":              {"", 400, "Client sent an HTTP request to an HTTPS server.", SchemeMismatch},
		"http to nginx with TLS":                 {"", 400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title>", SchemeMismatch},
		"the ID of a node that is cut short":     {"", 500, "node lookup failed: index error: UUID must be 36 characters", Unknown},
		"too many":                               {"", 429, "slow down", TooManyRequests},
		"an old agent":                           {"", 404, "", Unsupported},
		"an unknown node of another agent":       {"", 500, "RPC Error:: 404,Unknown node 5", NotFound},
		"an unknown server":                      {"", 500, "unknown Nomad server x", NotFound},
		"an unknown region":                      {"", 500, "No path to region", NotFound},
		"a bad argument":                         {"", 400, "no", InvalidArgument},
		"a bad key":                              {"server", 500, "illegal base64 data at input byte 4", InvalidArgument},
		"a failure of another kind":              {"", 500, "disk full", Unknown},
		"a coded failure whose code is absurd":   {"", 500, "RPC Error:: 99999999999,x", Unknown},
	} {
		assert.Equal(t, test.want, Of(Response{Role: test.role, Status: test.status, Body: test.body}), name)
	}
	assert.Equal(t, NotFound, Of(Response{Status: 404, Cut: true}), "the message may have been lost")
	uuid := Response{Status: 500, Body: "index error: UUID must be 36 characters"}
	assert.Equal(t, Unknown, Of(uuid))
	uuid.Identity = true
	assert.Equal(t, InvalidToken, Of(uuid))
	uuid.Body = "rpc error: node lookup failed: " + uuid.Body
	assert.Equal(t, Unknown, Of(uuid), "the message is about a node ID")
}

func TestIsDocument(t *testing.T) {
	assert.True(t, isDocument(` {"message":"Forbidden"}`))
	assert.True(t, isDocument("\ufeff<html>"))
	assert.False(t, isDocument("Permission denied"))
	assert.True(t, isAgentsLimit("Your IP is issuing too many concurrent connections, please rate limit your calls\n"))
	assert.False(t, isAgentsLimit("Too many requests"))
}

func TestHasHealth(t *testing.T) {
	assert.True(t, HasHealth([]byte(`{"Healthy":false}`)))
	assert.True(t, HasHealth([]byte(`{"server":{"ok":false}}`)))
	for _, body := range []string{``, `{}`, `null`, `{"message":"API rate limit exceeded"}`, `{"Healthy":"no"}`, `<html>`, `{"server":null}`} {
		assert.False(t, HasHealth([]byte(body)), body)
	}
}
