package nomadtest

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
)

// keyring holds the gossip keys of a pool, which all its servers share. Without a key, gossip is
// not encrypted.
type keyring struct {
	keys    []string
	primary string
}

func newKeyring(key string) keyring {
	if key == "" {
		return keyring{}
	}
	return keyring{[]string{key}, key}
}

// shares reports whether servers with the two keyrings can communicate.
func (k keyring) shares(other keyring) bool {
	return k.primary == other.primary || slices.Contains(other.keys, k.primary) && slices.Contains(k.keys, other.primary)
}

// gossipLimit is the maximum size of a gossip message. gossipOverhead is the approximate size of a
// message without the key.
const gossipLimit, gossipOverhead = 1024, 160

func (a *Agent) serveKeyring(r *http.Request) (any, error) {
	if !a.server {
		return nil, invalidMethod(501)
	}
	if err := a.authorize(r, helped, agentWrite); err != nil {
		return nil, err
	}
	op := strings.TrimPrefix(r.URL.Path, endpointPrefix+keyringPrefix)
	if !slices.Contains([]string{"list", "install", "use", "remove"}, op) {
		return nil, refusef(404, "resource not found")
	}
	var body struct{ Key string }
	if op != "list" {
		if err := decodeBody(r, &body, "structs.KeyringRequest"); err != nil {
			return nil, refusef(400, "%v", err)
		}
		raw, err := base64.StdEncoding.DecodeString(body.Key)
		if err != nil {
			return nil, err
		}
		if len(raw)+gossipOverhead > gossipLimit {
			return nil, refusef(500, "query exceeds limit of %d bytes", gossipLimit)
		}
		body.Key = base64.StdEncoding.EncodeToString(raw) // it may have line breaks
	}
	nodes := a.pool.present()
	out := struct {
		Keys     map[string]int
		Messages map[string]string
		NumNodes int
	}{map[string]int{}, map[string]string{}, nodes}
	a.pool.queries++
	ring := &a.pool.keyring
	known := slices.Index(ring.keys, body.Key)
	failed := 0
	switch {
	case ring.primary == "":
		failed = nodes
	case op == "list":
		for _, key := range ring.keys {
			if n := nodes - a.pool.lacking(key); n > 0 {
				out.Keys[key] = n
			}
		}
	case op == "install" && !isGossipKey(body.Key), op == "use" && known < 0, op == "remove" && body.Key == ring.primary:
		failed = nodes
	case op == "install":
		if known < 0 {
			ring.keys = append(ring.keys, body.Key)
		}
		a.pool.give(body.Key)
	case op == "use":
		if failed = a.pool.lacking(body.Key); failed == 0 {
			ring.primary = body.Key
		}
	case op == "remove" && known >= 0:
		ring.keys = slices.Delete(slices.Clone(ring.keys), known, known+1)
	}
	if failed > 0 {
		return nil, refusef(500, "%d/%d nodes reported failure", failed, nodes)
	}
	return out, nil
}

// lacking returns the number of running members that do not have a key.
func (p *pool) lacking(key string) int {
	n := 0
	for _, m := range p.members {
		if m.present() && m.lacks[key] {
			n++
		}
	}
	return n
}

// give installs a key on the running members.
func (p *pool) give(key string) {
	for _, m := range p.members {
		if m.present() {
			delete(m.lacks, key)
			continue
		}
		if m.lacks == nil {
			m.lacks = map[string]bool{}
		}
		m.lacks[key] = true
	}
}
