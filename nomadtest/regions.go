package nomadtest

import "net/http"

func (a *Agent) serveRegions(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	if _, err := a.parse(r); err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) { return server.pool.aliveRegions(), nil })
}
