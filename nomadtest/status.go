package nomadtest

import "net/http"

// leaderOf returns the RPC address of the leader of the requested region. Without a leader, it
// returns an empty string to a stale read and an error otherwise.
func (a *Agent) leaderOf(q query) (string, error) {
	return ask(a, func(server *Agent) (string, error) {
		return consistently(server, q, func(server *Agent) (string, error) {
			if leader := server.pool.leader(server.region); leader != nil {
				return leader.rpcAddr(), nil
			}
			return "", nil
		})
	})
}

func (a *Agent) serveLeader(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	return a.leaderOf(q)
}

func (a *Agent) servePeers(r *http.Request) (any, error) {
	if r.Method != http.MethodGet {
		return nil, invalidMethod(405)
	}
	q, err := a.parse(r)
	if err != nil {
		return nil, err
	}
	return ask(a, func(server *Agent) (any, error) {
		return consistently(server, q, func(server *Agent) (any, error) {
			peers := []string{}
			for _, name := range server.pool.raft(server.region).voters {
				if m := server.pool.members[name]; m != nil {
					peers = append(peers, m.agent.rpcAddr())
				}
			}
			return peers, nil
		})
	})
}
