package nomadtest

import (
	"net/http"
	"strconv"
	"time"
)

// withMeta is a response with the index and leader headers.
type withMeta struct {
	body    any
	status  int // 0 for 200
	index   int
	server  *Agent
	next    string // token of the next page, if any
	message string // replaces the body if status is set
}

// writeHeaders writes the index, leader and pagination headers.
func (m withMeta) writeHeaders(h http.Header) {
	if m.server == nil {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	known, contact := m.server.pool.leader(m.server.region) != nil, time.Duration(0)
	if !known {
		contact = 1<<63 - 1
		if lost := m.server.pool.raft(m.server.region).lost; !lost.IsZero() {
			contact = time.Since(lost)
		}
	}
	if m.next != "" {
		h.Set("X-Nomad-Nexttoken", m.next)
	}
	h.Set("X-Nomad-Index", strconv.Itoa(m.index))
	h.Set("X-Nomad-Knownleader", strconv.FormatBool(known))
	h.Set("X-Nomad-Lastcontact", strconv.FormatInt(contact.Milliseconds(), 10))
}

// Indexes in the state of a cluster without jobs.
const (
	firstIndex     = 1 // initial state
	schedulerIndex = 5
	nodeIndex      = 10
)
