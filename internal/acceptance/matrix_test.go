package acceptance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad"
	"github.com/nomad-go/nomad/internal/acceptance/testkit"
)

// kind is the form of a call's response, as far as it matters for faults.
type kind int

const (
	object  kind = iota // JSON
	nothing             // no content
	frames              // a stream of JSON frames
	bytesOf             // a stream of raw bytes
)

type matrixCall struct {
	name  string
	kind  kind
	put   bool
	valid string
	make  func(context.Context, *nomad.Client) error
}

// matrixCalls are all calls, each with a valid response. A call panics if it gets neither a result nor
// an error, or both where that is not allowed.
var matrixCalls = []matrixCall{
	{"Members", object, false, `{"ServerName":"a","ServerRegion":"global","ServerDC":"dc1","Members":[{"Name":"a.global","Addr":"127.0.0.1","Port":4648,"Status":"alive"}]}`, completeCalls["Members"]},
	{"Servers", object, false, `["127.0.0.1:4647"]`, completeCalls["Servers"]},
	{"Self", object, false, `{"config":{"Region":"global"},"member":{"Name":"a.global"},"stats":{"nomad":{"server":"true"}}}`, completeCalls["Self"]},
	{"UpdateServers", nothing, true, ``, completeCalls["UpdateServers"]},
	{"Join", object, true, `{"num_joined":1,"error":""}`, completeCalls["Join"]},
	{"ForceLeave", nothing, true, `{}`, completeCalls["ForceLeave"]},
	{"Health", object, false, `{"server":{"ok":true,"message":"ok"}}`, completeCalls["Health"]},
	{"Host", object, false, `{"AgentID":"a","HostData":{"OS":"linux"}}`, completeCalls["Host"]},
	{"Monitor", frames, false, `{}` + testkit.Frame(`{"@level":"info","@message":"a"}`+"\n"), completeCalls["Monitor"]},
	{"MonitorExport", frames, false, testkit.Frame("a\n"), completeCalls["MonitorExport"]},
	{"Profile", bytesOf, false, "\x1f\x8bprofile", completeCalls["Profile"]},
	{"Schedulers", object, false, `{"server_id":"a","schedulers":[]}`, completeCalls["Schedulers"]},
	{"SchedulerConfig", object, false, `{"server_id":"a","num_schedulers":1,"enabled_schedulers":["_core"]}`, completeCalls["SchedulerConfig"]},
	{"UpdateSchedulerConfig", object, true, `{"server_id":"a","num_schedulers":1,"enabled_schedulers":["_core"]}`, func(ctx context.Context, c *nomad.Client) error {
		config, err := c.Agent.UpdateSchedulerConfig(ctx, &nomad.SchedulerConfig{NumSchedulers: 1, EnabledSchedulers: []string{"_core"}})
		return some(config == nil, err)
	}},
	{"ListKeys", object, false, `{"Messages":{},"Keys":{"` + matrixKey + `":1},"NumNodes":1}`, completeCalls["ListKeys"]},
	{"InstallKey", object, true, `{"NumNodes":1}`, func(ctx context.Context, c *nomad.Client) error {
		ring, err := c.Agent.InstallKey(ctx, nomad.NewSecret(matrixKey))
		return some(ring == nil, err)
	}},
	{"UseKey", object, true, `{"NumNodes":1}`, func(ctx context.Context, c *nomad.Client) error {
		ring, err := c.Agent.UseKey(ctx, nomad.NewSecret(matrixKey))
		return some(ring == nil, err)
	}},
	{"RemoveKey", object, true, `{"NumNodes":1}`, func(ctx context.Context, c *nomad.Client) error {
		ring, err := c.Agent.RemoveKey(ctx, nomad.NewSecret(matrixKey))
		return some(ring == nil, err)
	}},
	{"Reload", nothing, true, `{}`, completeCalls["Reload"]},
	{"Status.Leader", object, false, `"a:1"`, completeCalls["Status.Leader"]},
	{"Status.Peers", object, false, `["a:1"]`, completeCalls["Status.Peers"]},
	{"Do GET", object, false, `["a"]`, func(ctx context.Context, c *nomad.Client) error {
		var out []string
		return testkit.Call(ctx, c, http.MethodGet, "/v1/x", nil, nil, &out)
	}},
	{"Do PUT", object, true, `{"a":1}`, func(ctx context.Context, c *nomad.Client) error {
		var out map[string]int
		return testkit.Call(ctx, c, http.MethodPut, "/v1/x", nil, map[string]int{"a": 1}, &out)
	}},
}

// Secrets that no error may show.
const (
	matrixToken    = "hunter2-token"
	matrixPassword = "hunter2-password"
	matrixKey      = "aHVudGVyMi1rZXktaHVudGVyMi1rZXktaHVudGVyMi0="
)

// faulty is a connection on which a fault is played.
type faulty struct {
	net.Conn
	valid string // a valid response to the call
}

// say writes the given strings.
func (c *faulty) say(texts ...string) {
	for _, text := range texts {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// forever writes text repeatedly, with a pause before each repetition, until the client disconnects.
func (c *faulty) forever(text string, pause time.Duration) {
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		time.Sleep(pause)
	}
}

// hang waits until the client disconnects.
func (c *faulty) hang() { io.Copy(io.Discard, c) }

// reset makes Close reset the connection.
func (c *faulty) reset() { c.Conn.(*net.TCPConn).SetLinger(0) }

// matrixAgent serves one case: it plays the fault until it is mended, then sends valid responses.
type matrixAgent struct {
	net.Listener
	atConnect func(*faulty)
	atRequest func(*faulty)
	valid     string
	kind      kind
	mended    atomic.Bool
	open      atomic.Int64
	requests  atomic.Int64
	group     sync.WaitGroup
}

func (a *matrixAgent) serve() {
	for {
		conn, err := a.Accept()
		if err != nil {
			return
		}
		a.open.Add(1)
		a.group.Go(func() {
			defer a.open.Add(-1)
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			c := &faulty{conn, a.valid}
			if !a.mended.Load() && a.atConnect != nil {
				a.atConnect(c)
				return
			}
			a.respond(c)
		})
	}
}

// respond reads requests without net/http, so that the test does not depend on the code under test.
func (a *matrixAgent) respond(c *faulty) {
	if !readRequest(c) {
		return
	}
	a.requests.Add(1)
	if !a.mended.Load() {
		a.atRequest(c)
		return
	}
	c.say(whole("200 OK", "application/json", a.valid))
}

// readRequest reads a request. Its body is short and arrives together with the headers.
func readRequest(c net.Conn) bool {
	var head []byte
	for buffer := make([]byte, 4096); !bytes.Contains(head, []byte("\r\n\r\n")); {
		n, err := c.Read(buffer)
		if err != nil {
			return false
		}
		head = append(head, buffer[:n]...)
	}
	return true
}

// whole returns a complete response, after which the connection is closed.
func whole(status, contentType, body string, header ...string) string {
	head := "HTTP/1.1 " + status + "\r\nConnection: close\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n"
	if contentType != "" {
		head += "Content-Type: " + contentType + "\r\n"
	}
	for _, line := range header {
		head += line + "\r\n"
	}
	return head + "\r\n" + body
}

// outcome classifies an error: "ok" for none, "late" for a timeout, "lost" for a broken connection,
// "status" for an error response that matches no sentinel, otherwise the sentinels that it matches.
func outcome(err error) string {
	var op *net.OpError
	switch {
	case err == nil:
		return "ok"
	case testkit.Meaning(err) != "":
		return testkit.Meaning(err)
	case errors.Is(err, context.DeadlineExceeded):
		return "late"
	case errors.As(err, new(*nomad.APIError)):
		return "status"
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "lost"
	}
	return "other"
}

// TestFaultMatrix makes every call with every fault. Each call must end in time with the expected error.
// The error must show no secret, and no connection may be left open. When the fault is gone, the same
// client must succeed.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	var (
		mu         sync.Mutex
		violations []string
		group      sync.WaitGroup
		cases      atomic.Int64
		places     = make(chan struct{}, 32)
		outcomes   = map[string]map[string]int{}
	)
	faults := matrixFaults(t)
	for i, fault := range faults {
		for j, call := range matrixCalls {
			if testing.Short() && (i+j)%4 != 0 {
				continue
			}
			places <- struct{}{}
			group.Go(func() {
				defer func() { <-places }()
				cases.Add(1)
				got, wrong := runCase(t, fault, &call)
				mu.Lock()
				defer mu.Unlock()
				if outcomes[fault.name] == nil {
					outcomes[fault.name] = map[string]int{}
				}
				outcomes[fault.name][got]++
				for _, text := range wrong {
					violations = append(violations, fmt.Sprintf("%s × %s: %s", call.name, fault.name, text))
				}
			})
		}
	}
	group.Wait()
	slices.Sort(violations)
	for _, violation := range violations {
		t.Error(violation)
	}
	if testing.Verbose() {
		var table strings.Builder
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		for _, fault := range faults {
			fmt.Fprintf(w, "%s\t%v\n", fault.name, outcomes[fault.name])
		}
		w.Flush()
		t.Log("\n" + table.String())
	}
	if !testing.Short() {
		assert.GreaterOrEqual(t, cases.Load(), int64(2058))
	}
	t.Logf("%d calls × %d faults = %d cases, %d violations", len(matrixCalls), len(faults), cases.Load(), len(violations))
}

// runCase makes one call with one fault. It returns the outcome and a list of violations.
func runCase(t *testing.T, fault *matrixFault, call *matrixCall) (got string, wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	defer func() {
		if p := recover(); p != nil {
			complain("panic: %v", p)
		}
	}()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	agent := &matrixAgent{Listener: listener, atConnect: fault.connect, atRequest: fault.request, valid: call.valid, kind: call.kind}
	agent.group.Go(agent.serve)
	defer agent.group.Wait()
	defer listener.Close()

	records := new(syncBuffer)
	opts := append([]nomad.Option{
		nomad.WithAddress(fault.scheme + listener.Addr().String()), nomad.WithToken(matrixToken), nomad.WithBasicAuth("ops", matrixPassword),
		nomad.WithRetries(0), nomad.WithTimeout(20 * time.Second), nomad.WithMaxResponseSize(1 << 20),
		nomad.WithLogger(slog.New(slog.NewTextHandler(records, &slog.HandlerOptions{Level: slog.LevelDebug}))),
	}, fault.opts...)
	client, err := nomad.NewClient(opts...)
	require.NoError(t, err)
	defer client.Close()

	want, timeout := fault.want(call), 15*time.Second
	if want == "late" {
		timeout = 300 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	started := time.Now()
	err = call.make(ctx, client)
	took := time.Since(started)
	got = outcome(err)
	if call.name == "Monitor" && want == "ErrInvalidResponse" && got == "ErrStreamEnded" && errors.Is(err, io.ErrUnexpectedEOF) {
		want = got // a truncated log has another error than an invalid one
	}
	if got != want {
		complain("the outcome is %q, want %q: %v", got, want, err)
	}
	if took > timeout+5*time.Second {
		complain("it took %v with a timeout of %v", took, timeout)
	}
	if n := agent.requests.Load(); n > 1 && !(n == 2 && fault.name == "empty" && call.kind == frames) && !fault.redirects || n > 6 {
		complain("%d requests without retries", n)
	}
	if err != nil {
		text := err.Error()
		if !strings.HasPrefix(text, "nomad: ") {
			complain("the error has no prefix %q: %q", "nomad: ", text)
		}
		if len(text) > 4096 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			complain("the error is not one printable line of bounded length: %q", text)
		}
	}
	shown := fmt.Sprintf("%v %+v %#v %q %s", err, err, err, err, records)
	secrets := []string{"hunter2", "b3BzOmh1bnRlcjIt"}
	if strings.Contains(call.name, "Key") { // no other call has the key
		secrets = append(secrets, strings.TrimRight(matrixKey, "="))
	}
	for _, secret := range secrets {
		if strings.Contains(shown, secret) {
			complain("a secret is visible: %s", shown)
			break
		}
	}

	// The fault is removed, and the same client must succeed.
	agent.mended.Store(true)
	if !fault.lasts {
		if err := call.make(t.Context(), client); err != nil {
			complain("afterwards: %v", err)
		}
	}
	client.Close()
	for end := time.Now().Add(10 * time.Second); agent.open.Load() > 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			complain("%d connections are left open", agent.open.Load())
			break
		}
	}
	return got, wrong
}

// TestFaultMatrixIsComplete checks that the matrix has every method of the API.
func TestFaultMatrixIsComplete(t *testing.T) {
	names := map[string]bool{}
	for _, call := range matrixCalls {
		names[call.name] = true
	}
	for method := range reflect.TypeFor[*nomad.Agent]().Methods() {
		if method.Name != "Format" {
			assert.True(t, names[method.Name], method.Name)
		}
	}
	for method := range reflect.TypeFor[*nomad.Status]().Methods() {
		if method.Name != "Format" {
			assert.True(t, names["Status."+method.Name], method.Name)
		}
	}
	assert.Len(t, names, 23)
}
