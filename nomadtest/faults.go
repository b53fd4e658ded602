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

// Fault handles a request in place of the agent.
//
// next calls the next fault that applies or, after the last one, the agent itself. A fault may call
// it with another request or another writer.
type Fault func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)

// Injection is a fault that was injected into an agent.
type Injection struct {
	agent     *Agent
	fault     Fault
	endpoints []string
	left      int           // remaining requests, -1 for no limit
	lasts     time.Duration // 0 for no limit
	until     time.Time     // zero for no limit
	share     float64       // of the matching requests, 0 to 1
	due       float64       // fraction of a hit carried over from earlier requests
	hits      int
}

// FaultOption limits the requests that a fault applies to.
type FaultOption func(*Injection)

// On limits a fault to endpoints.
//
// An endpoint is a path below /v1/agent/, such as "members" or "keyring/list", or a whole path,
// such as "/v1/status/leader". A path that ends in a slash matches everything below it: "pprof/".
// On panics for an endpoint below /v1/agent/ that no agent has.
func On(endpoints ...string) FaultOption {
	for _, endpoint := range endpoints {
		checkEndpoint(endpoint)
	}
	return func(i *Injection) { i.endpoints = append(i.endpoints, endpoints...) }
}

// checkEndpoint panics for an unknown endpoint below /v1/agent/. It accepts any other whole path.
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

// endpointNames lists the endpoints below /v1/agent/.
var endpointNames = []string{
	"force-leave", "health", "host", "join", "keyring/install", "keyring/list", "keyring/remove", "keyring/use", "members", "monitor",
	"monitor/export", "pprof/allocs", "pprof/block", "pprof/cmdline", "pprof/goroutine", "pprof/heap", "pprof/mutex", "pprof/profile",
	"pprof/threadcreate", "pprof/trace", "reload", "schedulers", "schedulers/config", "self", "servers",
}

// Times limits a fault to the next n requests that it applies to. It panics if n is less than 1.
func Times(n int) FaultOption {
	if n < 1 {
		panic(fmt.Sprintf("nomadtest: Times(%d): want 1 or more", n))
	}
	return func(i *Injection) { i.left = n }
}

// For ends a fault after d, measured from Inject.
func For(d time.Duration) FaultOption {
	if d <= 0 {
		panic(fmt.Sprintf("nomadtest: For(%v): want more than 0", d))
	}
	return func(i *Injection) { i.lasts = d }
}

// Share applies a fault to a share of the requests, evenly spread.
//
// With 0.25, the fault applies to every fourth request, beginning with the fourth.
func Share(share float64) FaultOption {
	if !(share > 0 && share <= 1) {
		panic(fmt.Sprintf("nomadtest: Share(%v): want more than 0, and at most 1", share))
	}
	return func(i *Injection) { i.share = share }
}

// Inject adds a fault to the agent. Without options the fault applies to every request until it is
// removed. Inject panics if the fault is nil.
//
// If several faults apply to a request, the first one injected runs first. Delay, Drip, ResetAfter,
// Truncate and StallAfter pass the request on to the next fault. The others respond themselves, so
// later faults neither run nor count the request.
func (a *Agent) Inject(f Fault, opts ...FaultOption) *Injection {
	if f == nil {
		panic("nomadtest: Inject: the fault is nil")
	}
	i := &Injection{agent: a, fault: f, left: -1, share: 1}
	for n, opt := range opts {
		if opt == nil {
			panic(fmt.Sprintf("nomadtest: Inject: option %d is nil", n+1))
		}
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

// Remove removes the fault from the agent. It does not affect requests that are already being
// handled.
func (i *Injection) Remove() {
	mu.Lock()
	defer mu.Unlock()
	i.agent.injections = slices.DeleteFunc(slices.Clone(i.agent.injections), func(other *Injection) bool { return other == i })
}

// Format prints how many requests the fault was applied to, for every verb.
func (i *Injection) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "nomadtest.Injection(%d hits)", i.Hits())
}

// Hits returns how many requests the fault was applied to.
func (i *Injection) Hits() int {
	mu.Lock()
	defer mu.Unlock()
	return i.hits
}

// hit reports whether the fault applies to a request, and counts it if so.
func (i *Injection) hit(path string) bool {
	if i.left == 0 || !i.until.IsZero() && !time.Now().Before(i.until) || !i.appliesTo(path) {
		return false
	}
	if i.due += i.share; i.due < 1-1e-9 { // ten times 0.1 is slightly less than 1
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

// meet runs a request through the faults that apply to it, and then through the agent's handler.
func (a *Agent) meet(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	mu.Lock()
	injections := a.injections
	mu.Unlock()
	a.meetOneOf(injections, w, r, next)
}

func (a *Agent) meetOneOf(injections []*Injection, w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	mu.Lock()
	at := slices.IndexFunc(injections, func(i *Injection) bool { return i.hit(r.URL.Path) })
	mu.Unlock()
	if at < 0 {
		next(w, r)
		return
	}
	if r, ok := w.(*recorder); ok { // no earlier fault has wrapped the writer
		r.fault()
	}
	injections[at].fault(w, r, func(w http.ResponseWriter, r *http.Request) { a.meetOneOf(injections[at+1:], w, r, next) })
}

// Delay delays the response by d.
func Delay(d time.Duration) Fault {
	if d < 0 {
		panic(fmt.Sprintf("nomadtest: Delay(%v): want 0 or more", d))
	}
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		pause(r, d)
		next(w, r)
	}
}

// Status responds with a status and a body. The content type is JSON for 200 and plain text
// otherwise.
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

// Redirect responds with 307 and a location.
func Redirect(location string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// Reset resets the connection without a response.
func Reset() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) { reset(w) }
}

// ResetAfter resets the connection after the headers and n bytes of the body.
//
// If the body has no more than n bytes, the connection is reset before the last byte.
func ResetAfter(n int) Fault {
	return cut("ResetAfter", n, func(w http.ResponseWriter, _ *http.Request) { reset(w) })
}

// Truncate closes the connection after the headers and n bytes of the body.
//
// If the body has no more than n bytes, the connection is closed before the last byte.
func Truncate(n int) Fault {
	return cut("Truncate", n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Garbage responds with bytes that are not HTTP, and closes the connection.
func Garbage() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if conn := hijack(w); conn != nil {
			conn.Write([]byte("\x16\x03\x01 these are not the bytes\r\nthat you are looking for\x00\xff\xfe\r\n\r\n"))
			conn.Close()
		}
		panic(http.ErrAbortHandler)
	}
}

// Stall never responds. It holds the request until the client gives up or the agent stops.
func Stall() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { stall(nil, r) }
}

// StallAfter sends the headers and n bytes of the body, then nothing until the client gives up or
// the agent stops.
//
// If the body has no more than n bytes, its last byte is not sent.
func StallAfter(n int) Fault { return cut("StallAfter", n, stall) }

func stall(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Drip sends the body n bytes at a time, with a pause after each chunk.
func Drip(n int, every time.Duration) Fault {
	if n < 1 || every < 0 {
		panic(fmt.Sprintf("nomadtest: Drip(%d, %v): want 1 byte or more, and 0 or more", n, every))
	}
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		next(&dripper{ResponseWriter: w, r: r, n: n, every: every}, r)
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

// pause waits for d. It aborts the handler if the request ends first.
func pause(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// cut passes on the headers and n bytes of the body, and then calls end, which does not return.
func cut(name string, n int, end func(http.ResponseWriter, *http.Request)) Fault {
	if n < 0 {
		panic(fmt.Sprintf("nomadtest: %s(%d): want 0 or more", name, n))
	}
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		c := &cutter{ResponseWriter: w, left: n, end: func() {
			http.NewResponseController(w).Flush()
			end(w, r)
		}}
		next(c, r)
		c.finish()
	}
}

// cutter holds back the last byte written to it, so that a response is never complete.
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

// reset closes the connection of a response with a TCP reset.
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

// hijack takes over the connection of a response. It returns nil if there is none.
func hijack(w http.ResponseWriter) net.Conn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	return conn
}

// contentLength sets Content-Length for short bodies, as package http does.
func contentLength(w http.ResponseWriter, body []byte) {
	if len(body) <= 2048 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
}
