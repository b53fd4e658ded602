package nomadtest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is a way for an agent to misbehave: it answers a request in place of the agent. It can call answer, with the
// request or another and with a writer of its own, to have the agent's answer or what a later fault makes of it.
type Fault func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc)

// Injection is a fault that an agent has.
type Injection struct {
	agent     *Agent
	fault     Fault
	endpoints []string
	left      int           // -1 for no end
	lasts     time.Duration // 0 for no end
	until     time.Time     // the same
	share     float64       // of the requests
	due       float64       // the part of a hit that is left from those before
	hits      int
}

// FaultOption limits a fault to some requests.
type FaultOption func(*Injection)

// On limits a fault to endpoints, named by their path below /v1/agent/, such as "members" or "keyring/list", or else by
// their whole path, such as "/v1/status/leader". One that ends in a slash stands for all below it: "pprof/".
func On(endpoints ...string) FaultOption {
	for _, endpoint := range endpoints {
		checkEndpoint(endpoint)
	}
	return func(i *Injection) { i.endpoints = append(i.endpoints, endpoints...) }
}

// checkEndpoint panics for the name of an endpoint that no agent has. A whole path that is not below /v1/agent/ can be any.
func checkEndpoint(endpoint string) {
	name := strings.TrimPrefix(endpoint, endpointPrefix)
	if strings.HasPrefix(name, "/") {
		return
	}
	if name == "" || !slices.ContainsFunc(endpointNames, func(known string) bool {
		return known == name || strings.HasSuffix(name, "/") && strings.HasPrefix(known, name)
	}) {
		panic(fmt.Sprintf("nomadtest: On(%q): want a path that begins with a slash, or one of %s", endpoint, strings.Join(endpointNames, ", ")))
	}
}

// endpointNames are the endpoints below /v1/agent/.
var endpointNames = []string{
	"force-leave", "health", "host", "join", "keyring/install", "keyring/list", "keyring/remove", "keyring/use", "members", "monitor",
	"monitor/export", "pprof/allocs", "pprof/block", "pprof/cmdline", "pprof/goroutine", "pprof/heap", "pprof/mutex", "pprof/profile",
	"pprof/threadcreate", "pprof/trace", "reload", "schedulers", "schedulers/config", "self", "servers",
}

// Times limits a fault to the next n requests that it applies to.
func Times(n int) FaultOption {
	if n < 1 {
		panic(fmt.Sprintf("nomadtest: Times(%d): want 1 or more", n))
	}
	return func(i *Injection) { i.left = n }
}

// For ends a fault some time after it was injected.
func For(d time.Duration) FaultOption {
	if d <= 0 {
		panic(fmt.Sprintf("nomadtest: For(%v): want more than 0", d))
	}
	return func(i *Injection) { i.lasts = d }
}

// Share limits a fault to a share of the requests that it applies to, evenly spread: with 0.25 it is every fourth of
// them, beginning with the fourth.
func Share(share float64) FaultOption {
	if !(share > 0 && share <= 1) {
		panic(fmt.Sprintf("nomadtest: Share(%v): want more than 0, and at most 1", share))
	}
	return func(i *Injection) { i.share = share }
}

// Inject makes the agent misbehave, on every request unless options say otherwise, until the fault is removed. Of
// several faults that apply to a request the first one injected is met first. Those that leave something of the agent's
// answer pass the request on to the next: Delay, Drip, ResetAfter, Truncate and StallAfter. The others end it.
func (a *Agent) Inject(f Fault, opts ...FaultOption) *Injection {
	if f == nil {
		panic("nomadtest: Inject: the fault is nil")
	}
	i := &Injection{agent: a, fault: f, left: -1, share: 1}
	for _, opt := range opts {
		opt(i)
	}
	if i.lasts > 0 {
		i.until = time.Now().Add(i.lasts)
	}
	mu.Lock()
	defer mu.Unlock()
	a.injections = append(slices.Clone(a.injections), i)
	return i
}

// Remove ends the fault. Requests that have met it already are not helped.
func (i *Injection) Remove() {
	mu.Lock()
	defer mu.Unlock()
	i.agent.injections = slices.DeleteFunc(slices.Clone(i.agent.injections), func(other *Injection) bool { return other == i })
}

// Format prints how many requests have met the fault, whatever the verb.
func (i *Injection) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Injection(%d hits)", i.Hits())
}

// Hits is how many requests have met the fault.
func (i *Injection) Hits() int {
	mu.Lock()
	defer mu.Unlock()
	return i.hits
}

// hit counts a request that meets the fault, and reports whether it does.
func (i *Injection) hit(path string) bool {
	if i.left == 0 || !i.until.IsZero() && !time.Now().Before(i.until) || !i.appliesTo(path) {
		return false
	}
	if i.due += i.share; i.due < 1-1e-9 { // ten times 0.1 is not quite 1
		return false
	}
	i.due--
	i.hits++
	i.left = max(i.left-1, -1)
	return true
}

func (i *Injection) appliesTo(path string) bool {
	return len(i.endpoints) == 0 || slices.ContainsFunc(i.endpoints, func(want string) bool {
		if !strings.HasPrefix(want, "/") {
			want = endpointPrefix + want
		}
		return path == want || strings.HasSuffix(want, "/") && strings.HasPrefix(path, want)
	})
}

// meet leads a request through the faults that apply to it, and then to the agent's answer.
func (a *Agent) meet(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	mu.Lock()
	injections := a.injections
	mu.Unlock()
	a.meetOneOf(injections, w, r, answer)
}

func (a *Agent) meetOneOf(injections []*Injection, w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	mu.Lock()
	at := slices.IndexFunc(injections, func(i *Injection) bool { return i.hit(r.URL.Path) })
	mu.Unlock()
	if at < 0 {
		answer(w, r)
		return
	}
	if r, ok := w.(*recorder); ok { // it is the first one that the request meets
		r.fault()
	}
	injections[at].fault(w, r, func(w http.ResponseWriter, r *http.Request) { a.meetOneOf(injections[at+1:], w, r, answer) })
}

// Delay answers after a time.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		pause(r, d)
		answer(w, r)
	}
}

// Status answers with a status and a body, which is declared as JSON for 200 and as plain text otherwise.
func Status(status int, body string) Fault {
	if status < 200 || status > 599 {
		panic(fmt.Sprintf("nomadtest: Status(%d): want 200 to 599", status))
	}
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		contentType := "text/plain; charset=utf-8"
		if status == http.StatusOK {
			contentType = "application/json"
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

// Redirect sends the caller elsewhere, with 307.
func Redirect(location string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// Reset breaks the connection before anything was answered.
func Reset() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) { reset(w) }
}

// ResetAfter breaks the connection after the head of the answer and n bytes of its body, or before its last byte if it
// has no more than n.
func ResetAfter(n int) Fault {
	return cut(n, func(w http.ResponseWriter, _ *http.Request) { reset(w) })
}

// Truncate ends the connection, in order, after the head of the answer and n bytes of its body, or before its last byte
// if it has no more than n.
func Truncate(n int) Fault {
	return cut(n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Garbage answers with bytes that are no HTTP, and ends the connection.
func Garbage() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if conn := hijack(w); conn != nil {
			conn.Write([]byte("\x16\x03\x01 these are not the bytes\r\nthat you are looking for\x00\xff\xfe\r\n\r\n"))
			conn.Close()
		}
		panic(http.ErrAbortHandler)
	}
}

// Stall answers nothing, until the caller gives up or the agent stops.
func Stall() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { stall(nil, r) }
}

// StallAfter answers the head and n bytes of the body, or all but its last byte if it has no more than n, and then nothing
// more, until the caller gives up or the agent stops.
func StallAfter(n int) Fault { return cut(n, stall) }

func stall(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Drip answers n bytes of the body at a time, with a pause after each.
func Drip(n int, every time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		answer(&dripper{ResponseWriter: w, r: r, n: max(n, 1), every: every}, r)
	}
}

type dripper struct {
	http.ResponseWriter
	r     *http.Request
	n     int
	every time.Duration
}

func (d *dripper) Write(p []byte) (written int, err error) {
	for chunk := range slices.Chunk(p, d.n) {
		n, err := d.ResponseWriter.Write(chunk)
		written += n
		if err != nil {
			return written, err
		}
		http.NewResponseController(d.ResponseWriter).Flush()
		pause(d.r, d.every)
	}
	return written, nil
}

func (d *dripper) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// pause waits, but not for longer than the request.
func pause(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// cut passes the head and n bytes of an answer on, and then ends it. The end does not return.
func cut(n int, end func(http.ResponseWriter, *http.Request)) Fault {
	return func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		c := &cutter{ResponseWriter: w, left: max(n, 0), end: func() {
			http.NewResponseController(w).Flush()
			end(w, r)
		}}
		answer(c, r)
		c.finish()
	}
}

// cutter keeps the last byte that it was given back, so that an answer is never complete.
type cutter struct {
	http.ResponseWriter
	left int
	held []byte
	over bool
	end  func()
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.over {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	given := append(c.held, p...)
	c.held = slices.Clone(given[len(given)-1:])
	given = given[:len(given)-1]
	if len(given) >= c.left {
		c.ResponseWriter.Write(given[:c.left])
		c.finish()
	}
	c.left -= len(given)
	c.ResponseWriter.Write(given)
	return len(p), nil
}

func (c *cutter) finish() {
	if !c.over {
		c.over = true
		c.end()
	}
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// reset breaks the connection of an answer so that the other side sees it.
func reset(w http.ResponseWriter) {
	if conn := hijack(w); conn != nil {
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		if t, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
			t.SetLinger(0)
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// hijack takes the connection of an answer, if it has one.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// contentLength declares how long a body will be, as package http does for short ones.
func contentLength(w http.ResponseWriter, body []byte) {
	if len(body) <= 2048 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
}
