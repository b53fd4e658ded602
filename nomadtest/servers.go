package nomadtest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// learnServers sets a client's initial servers: those of KnownServers, or those of its region.
func (a *Agent) learnServers(agents []*Agent) {
	if a.known != nil {
		a.servers, a.configured = a.known, a.known
		return
	}
	for _, other := range agents {
		if other.server && other.running && other.region == a.region {
			a.servers = append(a.servers, other.rpcAddr())
		}
	}
	a.configured = a.servers
}

// upstream returns the first server in a client's list that it can connect to, or nil.
func (a *Agent) upstream() *Agent {
	if a.server {
		return a
	}
	for _, address := range a.servers {
		if other := registry[address]; other != nil && other.server && a.reaches(other) {
			return other
		}
	}
	return nil
}

// worksFor reports whether a client is connected to a server of the pool.
func (a *Agent) worksFor(p *pool) bool {
	server := a.upstream()
	return server != nil && server.pool == p
}

// firstHeartbeat is the time of the first heartbeat of an agent in both modes with real delays.
const firstHeartbeat = 15 * time.Second

// registered reports whether a client has had its first heartbeat.
func (a *Agent) registered() bool {
	return !a.server || !a.realDelays || time.Since(a.started) > firstHeartbeat
}

// heartbeatInterval is the interval at which a client renews its list of servers.
const heartbeatInterval = 15 * time.Second

// now returns the agent's time.
func (a *Agent) now() time.Time { return time.Now().Add(a.ahead) }

// heartbeat renews a client's list of servers if the heartbeat is due.
//
// Without real delays it is also due when the list has changed. A region without a leader sends no
// list. Before its first heartbeat, an agent in both modes has its own address twice: from the
// configuration and from its server.
func (a *Agent) heartbeat() {
	if !a.client || !a.running {
		return
	}
	if !a.registered() {
		a.servers = []string{a.rpcAddr(), a.rpcAddr()}
		return
	}
	server := a.upstream()
	if server == nil || server.pool.leader(server.region) == nil {
		return
	}
	var renewed []string
	for _, other := range server.pool.aliveServers(server.region) {
		renewed = append(renewed, other.rpcAddr())
	}
	slices.Sort(renewed)
	now := a.now()
	due := !now.Before(a.nextBeat)
	if !a.realDelays && !a.slowBeat {
		due = due || !slices.Equal(renewed, a.learned)
	}
	if due {
		a.servers, a.learned, a.nextBeat = renewed, renewed, now.Add(heartbeatInterval)
	}
}

// setServers replaces a client's list of servers by the reachable servers at addresses. It returns
// an error if none is reachable.
func (a *Agent) setServers(addresses []string) error {
	var good, faults []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil && strings.Contains(err.Error(), "missing port") {
			host, port, err = address, "4647", nil
		}
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		if n, err := strconv.Atoi(port); err != nil {
			faults = append(faults, fmt.Sprintf("lookup tcp/%s: unknown port", port))
			continue
		} else if n < 0 || n > 65535 {
			faults = append(faults, fmt.Sprintf("address %s: invalid port", port))
			continue
		}
		if host == "localhost" {
			host = "127.0.0.1"
		}
		resolved := net.JoinHostPort(host, port)
		switch other := registry[resolved]; {
		case host != "" && net.ParseIP(host) == nil:
			faults = append(faults, noSuchHost(host))
		case other != nil && other.server && a.reaches(other) && resolved == other.serfAddr():
			faults = append(faults, fmt.Sprintf("Server at address %s failed ping: rpc error: EOF", resolved))
		case other == nil || !other.server || !a.reaches(other) || resolved != other.rpcAddr():
			faults = append(faults, fmt.Sprintf("Server at address %s failed ping: rpc error: failed to get conn: "+
				"dial tcp %s: connect: connection refused", resolved, resolved))
		default:
			good = append(good, resolved)
		}
	}
	if len(good) == 0 {
		return multiError(faults)
	}
	a.heartbeat() // so that it does not replace the new list before the next heartbeat
	a.servers = good
	return nil
}
