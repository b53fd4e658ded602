package nomad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"

	"github.com/nomad-go/nomad/internal/body"
	"github.com/nomad-go/nomad/internal/redact"
	"github.com/nomad-go/nomad/internal/show"
)

// Keyring is what the servers of a gossip pool report about their encryption keys. Printing, logging and JSON do not
// show the keys. Secret.Reveal returns a key.
type Keyring struct {
	Keys     map[Secret]int // number of servers that have each key; ListKeys only
	NumNodes int            // number of servers in the pool that have not failed; if one does not respond, the method fails

	// Messages has the messages of servers, by full name, such as server-1.global. They are without gossip keys, and cut
	// after 4 KiB.
	Messages map[string]string
}

func (k *Keyring) check() error {
	if k.NumNodes <= 0 {
		return errors.New("it counts no servers")
	}
	return nil
}

// String returns the number of keys and servers.
func (k Keyring) String() string {
	text := fmt.Sprintf("%d keys on %d servers", len(k.Keys), k.NumNodes)
	for _, name := range slices.Sorted(maps.Keys(k.Messages)) {
		text += "; " + name + ": " + k.Messages[name]
	}
	return show.Line(redact.GossipKeys(text))
}

// Format prints what String returns, whatever the verb.
func (k Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue logs what String returns.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON encodes the keyring without its keys, as
//
//	{"Keys":[{"key":"<redacted>","nodes":3}],"Messages":{},"NumNodes":3}
func (k Keyring) MarshalJSON() ([]byte, error) {
	type key struct {
		Key   Secret `json:"key"`
		Nodes int    `json:"nodes"`
	}
	keys := make([]key, 0, len(k.Keys))
	for secret, nodes := range k.Keys {
		keys = append(keys, key{secret, nodes})
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(b.Nodes, a.Nodes) })
	messages := make(map[string]string, len(k.Messages))
	for name, message := range k.Messages {
		messages[redact.GossipKeys(name)] = redact.GossipKeys(message)
	}
	return show.JSON(struct {
		Keys     []key
		Messages map[string]string
		NumNodes int
	}{keys, messages, k.NumNodes})
}

// keyringEndpoint describes one of the endpoints of the keyring.
func keyringEndpoint(name, method, path string) *endpoint {
	return register(endpoint{name: name, method: method, path: "/v1/agent/keyring/" + path, role: RoleServer, acl: "agent:write", keys: true, decode: decodeKeyring("")})
}

var (
	listKeysEndpoint   = keyringEndpoint("ListKeys", http.MethodGet, "list")
	installKeyEndpoint = keyringEndpoint("InstallKey", http.MethodPut, "install")
	useKeyEndpoint     = keyringEndpoint("UseKey", http.MethodPut, "use")
	removeKeyEndpoint  = keyringEndpoint("RemoveKey", http.MethodPut, "remove")
)

// The keys that are looked for in messages, in every form: how many, and their bytes in total. Pools have one to three
// keys of 44 bytes.
const (
	maxKeys     = 64
	maxKeyBytes = 8 << 10
	maxSearch   = 1 << 20 // these bytes, times the messages
)

// decodeKeyring decodes a Keyring, after a request with a key in it or none. The error of a decoder could quote a key.
func decodeKeyring(sent string) func(ctx context.Context, content []byte, out any) error {
	return func(ctx context.Context, content []byte, out any) error {
		if err := body.CheckValue(content); err != nil {
			return err
		}
		if decodeJSON(ctx, content, out) != nil {
			return errors.New("it is not the JSON of a keyring")
		}
		ring := out.(*Keyring)
		if len(ring.Messages) == 0 {
			return nil
		}
		keys, size := []string{sent}, len(sent)
		for key := range ring.Keys {
			keys = append(keys, key.Reveal())
			size += len(key.Reveal())
		}
		if len(ring.Keys) > maxKeys || size > maxKeyBytes || len(ring.Messages)*size > maxSearch { // it would take too long
			for name := range ring.Messages {
				ring.Messages[name] = redact.Mark
			}
			return nil
		}
		return redact.Values(ctx, ring.Messages, redact.New(keys...))
	}
}

// ListKeys returns the gossip keys of the servers of the pool, in all regions.
//
// Before UseKey, check that all servers that have not failed have the key: Keyring.Keys[key] must be Keyring.NumNodes.
// If gossip is not encrypted, or if a server does not respond, the error is an APIError with status 500.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write.
//
// Endpoint: GET /v1/agent/keyring/list
func (a *Agent) ListKeys(ctx context.Context) (*Keyring, error) {
	return get[Keyring](ctx, a.client, listKeysEndpoint.newRequest(nil))
}

// InstallKey adds a key to all servers of the pool. Installing a key again is not an error.
//
// A key is 16, 24 or 32 random bytes in base64. The command "nomad operator gossip keyring generate" prints one. A
// malformed key is ErrInvalidArgument. If a server does not respond or reports an error, the error is an APIError with
// status 500, and the other servers have the key.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write.
//
// Endpoint: PUT /v1/agent/keyring/install
func (a *Agent) InstallKey(ctx context.Context, key Secret) (*Keyring, error) {
	return a.changeKey(ctx, installKeyEndpoint, key)
}

// UseKey makes all servers of the pool encrypt with a key that they have. If a server does not have the key or does not
// respond, the error is an APIError with status 500. A malformed key is ErrInvalidArgument.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write.
//
// Endpoint: PUT /v1/agent/keyring/use
func (a *Agent) UseKey(ctx context.Context, key Secret) (*Keyring, error) {
	return a.changeKey(ctx, useKeyEndpoint, key)
}

// RemoveKey removes a key from all servers of the pool. If the key is the active one, the error is an APIError with
// status 500. The error is the same if a server does not respond or reports an error. In that case the other servers
// have removed the key. A malformed key is ErrInvalidArgument.
//
// It requires a server agent (ErrServerOnly) and the ACL capability agent:write.
//
// Endpoint: PUT /v1/agent/keyring/remove
func (a *Agent) RemoveKey(ctx context.Context, key Secret) (*Keyring, error) {
	return a.changeKey(ctx, removeKeyEndpoint, key)
}

func (a *Agent) changeKey(ctx context.Context, ep *endpoint, key Secret) (*Keyring, error) {
	if !redact.IsGossipKey(key.Reveal()) {
		return nil, invalidArgument(ep.name, "the key is not the base64 of 16, 24 or 32 bytes")
	}
	r, err := ep.newJSONRequest(struct{ Key string }{key.Reveal()})
	if err != nil {
		return nil, err
	}
	r.secret = key.Reveal()
	withKey := *ep
	withKey.decode = decodeKeyring(r.secret)
	r.endpoint = &withKey
	return get[Keyring](ctx, a.client, r)
}
