package nomadtest

import (
	"net/http"
	"slices"
	"strings"
)

func (a *Agent) nodePool() string {
	if name, ok := a.clientSetting("NodePool").(string); ok && name != "" {
		return name
	}
	return "default"
}

// serveNodePools handles /v1/node/pools and /v1/node/pool/NAME.
func (a *Agent) serveNodePools(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	type nodePool struct {
		Name        string
		CreateIndex int
		ModifyIndex int
	}
	name, one := strings.CutPrefix(r.URL.Path, "/v1/node/pool/")
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			pools := []nodePool{{"all", firstIndex, firstIndex}, {"default", firstIndex, firstIndex}}
			for i, n := range server.pool.nodes(server.region) {
				known := slices.ContainsFunc(pools, func(p nodePool) bool { return p.Name == n.nodePool() })
				if !known {
					pools = append(pools, nodePool{n.nodePool(), nodeIndex + i, nodeIndex + i})
				}
			}
			if !one {
				pools = slices.DeleteFunc(pools, func(p nodePool) bool { return !strings.HasPrefix(p.Name, q.prefix) })
				return withMeta{body: pools, index: firstIndex, server: server}, nil
			}
			for _, p := range pools {
				if p.Name == name {
					return withMeta{body: p, index: p.ModifyIndex, server: server}, nil
				}
			}
			return withMeta{status: 404, message: "node pool not found", index: firstIndex, server: server}, nil
		})
	})
}
