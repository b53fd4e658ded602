package nomadtest

import "fmt"

// join merges a server's pool with those of the servers at addresses. It returns the number of
// servers that it joined.
func (a *Agent) join(addresses []string) (int, error) {
	joined := 0
	var faults []string
	for _, address := range addresses {
		verb := "failed"
		if !a.atLeast(1, 9, 6) {
			verb = "Failed"
		}
		resolved, err := a.resolveSerf(address)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s to resolve %s: %s", verb, address, err))
			continue
		}
		other := registry[resolved]
		if other != nil && other.server && other.pool == nil {
			other = nil
		}
		switch {
		case other != nil && a.reaches(other) && resolved == other.rpcAddr():
			faults = append(faults, fmt.Sprintf("%s to join %s: read tcp 127.0.0.1:50000->%s: read: connection reset by peer",
				verb, resolved, resolved))
		case other == nil || !other.server || !a.reaches(other) || resolved != other.serfAddr():
			faults = append(faults, fmt.Sprintf("%s to join %s: dial tcp %s: connect: connection refused", verb, resolved, resolved))
		case !a.pool.keyring.shares(other.pool.keyring):
			faults = append(faults, fmt.Sprintf("%s to join %s: %s", verb, resolved, mismatch(a.pool.keyring, other.pool.keyring)))
		case a.pool.conflict(other.pool) != "":
			// Not Nomad's message: of two real servers with one name, one would be isolated.
			faults = append(faults, fmt.Sprintf("%s to join %s: both pools have a server %s", verb, resolved, a.pool.conflict(other.pool)))
		default:
			joined++
			unite(other.pool, a.pool)
		}
	}
	if joined == 0 {
		return 0, multiError(faults)
	}
	if m := a.member(); m != nil && m.present() {
		m.status = alive // a join refutes the status leaving
	}
	return joined, nil
}

// mismatch returns the error message of a server that cannot decrypt another server's gossip.
func mismatch(mine, theirs keyring) string {
	switch {
	case theirs.primary == "":
		return "encryption is configured but remote state is not encrypted"
	case mine.primary == "":
		return "remote state is encrypted and encryption is not configured"
	default:
		return "no installed keys could decrypt the message"
	}
}
