package nomadtest

import "net/http"

func (a *Agent) serveReload(r *http.Request) (any, error) {
	if !isWrite(r) {
		return nil, invalidMethod(405)
	}
	if err := a.authorize(r, resolved, agentWrite); err != nil {
		return nil, err
	}
	a.emit("info", "agent", "reloading agent")
	return nil, nil
}
