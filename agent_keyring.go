package nomad

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
)

// Keyring is what the servers of a gossip pool said about the keys that they encrypt gossip with. It prints, logs and
// encodes without the keys: Secret.Reveal gives one.
type Keyring struct {
	Keys     map[Secret]int    // on how many servers each key is installed; ListKeys only
	Messages map[string]string // what servers had to say, by their names
	NumNodes int               // how many servers were asked; those that failed are not among them, see Agent.Members
}

func (k *Keyring) check() error {
	if k.NumNodes <= 0 {
		return errors.New("it counts no servers")
	}
	return nil
}

// Format prints the keyring without its keys, whatever the verb.
func (k Keyring) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{Keys:%d Messages:%v NumNodes:%d}", len(k.Keys), k.Messages, k.NumNodes)
}

// LogValue logs the keyring without its keys.
func (k Keyring) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("keys", len(k.Keys)), slog.Any("messages", k.Messages), slog.Int("nodes", k.NumNodes))
}

var (
	listKeysEndpoint   = endpoint{name: "ListKeys", method: http.MethodGet, path: "/v1/agent/keyring/list", role: RoleServer, acl: "agent:write", keys: true}
	installKeyEndpoint = endpoint{name: "InstallKey", method: http.MethodPut, path: "/v1/agent/keyring/install", role: RoleServer, acl: "agent:write", keys: true}
	useKeyEndpoint     = endpoint{name: "UseKey", method: http.MethodPut, path: "/v1/agent/keyring/use", role: RoleServer, acl: "agent:write", keys: true}
	removeKeyEndpoint  = endpoint{name: "RemoveKey", method: http.MethodPut, path: "/v1/agent/keyring/remove", role: RoleServer, acl: "agent:write", keys: true}
)

// ListKeys lists the gossip keys that the servers of the pool have, in all regions. A key that is not on every server,
// as Keyring.NumNodes counts them, is not safe to use.
//
// It needs an agent in server mode, or fails with ErrServerOnly, and an ACL token with agent:write. An agent without
// gossip encryption, and a server that does not answer, make it fail with status 500. It makes the call
// GET /v1/agent/keyring/list.
func (a *Agent) ListKeys(ctx context.Context) (*Keyring, error) {
	return readWith(ctx, a.client, listKeysEndpoint.to(nil), parseKeyring)
}

// InstallKey gives a key to all servers of the pool, beside those that they have. Installing a key again is no error.
//
// A key is the base64 of 16, 24 or 32 random bytes, as nomad operator gossip keyring generate makes it; any other is
// ErrInvalidArgument before anything is sent. It needs an agent in server mode, or fails with ErrServerOnly, and an ACL
// token with agent:write. When a server failed it fails with status 500, and the others have the key. It makes the call
// PUT /v1/agent/keyring/install.
func (a *Agent) InstallKey(ctx context.Context, key string) (*Keyring, error) {
	return a.changeKey(ctx, &installKeyEndpoint, key)
}

// UseKey makes all servers of the pool encrypt with a key that they have.
//
// What it needs and how it fails is as for InstallKey; so is a key that a server does not have. It makes the call
// PUT /v1/agent/keyring/use.
func (a *Agent) UseKey(ctx context.Context, key string) (*Keyring, error) {
	return a.changeKey(ctx, &useKeyEndpoint, key)
}

// RemoveKey takes a key from all servers of the pool.
//
// What it needs and how it fails is as for InstallKey; so does the key that is in use. It makes the call
// PUT /v1/agent/keyring/remove.
func (a *Agent) RemoveKey(ctx context.Context, key string) (*Keyring, error) {
	return a.changeKey(ctx, &removeKeyEndpoint, key)
}

func (a *Agent) changeKey(ctx context.Context, ep *endpoint, key string) (*Keyring, error) {
	if !isKey(key) {
		return nil, invalidArgument(ep.name, "the key is not the base64 of 16, 24 or 32 bytes")
	}
	r, err := ep.with(struct{ Key string }{key})
	if err != nil {
		return nil, err
	}
	r.secret = key
	return readWith(ctx, a.client, r, parseKeyring)
}

// parseKeyring is the parser of a Keyring. What a decoder would say about a text that is none has keys in it.
func parseKeyring(ctx context.Context, body []byte, k *Keyring) error {
	err := parse(ctx, body, k)
	if err != nil && ctx.Err() == nil {
		return errors.New("it is not the JSON of a keyring")
	}
	return err
}
