// Package agent serves recorded responses of a real agent for benchmarks, with the HTTP stack of Nomad.
//
// gorilla/handlers compresses responses. go-connlimit accepts 100 connections from one address and
// refuses more with 429. The agent runs in its own process, so that benchmarks measure only the client.
package agent

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/handlers"
	"github.com/hashicorp/go-connlimit"

	"github.com/nomad-go/nomad/internal/wire"
)

const (
	maxConns  = 100 // per address, the default of agents
	frameSize = 1024
)

// variable is the environment variable that makes a process the agent.
const variable = "NOMAD_GO_BENCH_AGENT"

// Process is an agent in its own process.
type Process struct {
	URL   string         // of the agent
	Pools map[int]string // URLs of agents, by the number of members in their pool
	stop  io.Closer
	cmd   *exec.Cmd
}

// Start runs this program again as the agent. The program must call Main first.
func Start() (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	facts, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{stop: stop, cmd: cmd}
	if err := json.NewDecoder(facts).Decode(&p); err != nil {
		p.Stop()
		return nil, fmt.Errorf("the agent did not start: %w", err)
	}
	return p, nil
}

// Stop ends the agent.
func (p *Process) Stop() {
	p.stop.Close()
	p.cmd.Wait()
}

// Main runs the agent until standard input ends, if Start started this process. Otherwise it
// returns at once.
func Main() {
	if os.Getenv(variable) == "" {
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve() error {
	responses, err := recorded()
	if err != nil {
		return err
	}
	facts := Process{Pools: map[int]string{}}
	if facts.URL, err = listen(responses); err != nil {
		return err
	}
	for _, n := range Sizes {
		body := MembersOf(responses[members].(wire.Exchange).Content(), n)
		pool := map[string]http.Handler{members: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(body)
		})}
		if facts.Pools[n], err = listen(pool); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(facts); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// listen serves handlers as an agent does.
func listen(responses map[string]http.Handler) (url string, err error) {
	mux := http.NewServeMux()
	for pattern, handler := range responses {
		mux.Handle(pattern, handler)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handlers.CompressHandler(mux), ConnState: limit()}
	go server.Serve(listener)
	return "http://" + listener.Addr().String(), nil
}

// limit refuses connections as agents do: 100 of them get a response at first, then ten a second.
func limit() func(net.Conn, http.ConnState) {
	var responded atomic.Int64
	started := time.Now()
	return connlimit.NewLimiter(connlimit.Config{MaxConnsPerClientIP: maxConns}).HTTPConnStateFuncWithErrorHandler(
		func(err error, conn net.Conn) {
			if errors.Is(err, connlimit.ErrPerClientIPLimitReached) && responded.Add(1) <= 100+int64(10*time.Since(started).Seconds()) {
				const text = "Your IP is issuing too many concurrent connections, please rate limit your calls\n"
				conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
				fmt.Fprintf(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
			}
			conn.Close()
		})
}

const members = "GET /v1/agent/members"

// recorded returns handlers with the recorded responses, and an endless log.
func recorded() (map[string]http.Handler, error) {
	recording, err := wire.Version("2.0.5")
	if err != nil {
		return nil, err
	}
	responses := map[string]http.Handler{"GET /v1/agent/monitor": http.HandlerFunc(monitor)}
	for pattern, name := range map[string]string{
		members:                     "members on srv1",
		"GET /v1/agent/servers":     "servers on cli1",
		"GET /v1/agent/self":        "self on srv1",
		"PUT /v1/agent/servers":     "update servers with two",
		"PUT /v1/agent/join":        "join one good and one bad",
		"PUT /v1/agent/force-leave": "force-leave the failed member",
		"GET /v1/agent/health":      "health on srv1",
	} {
		for _, x := range recording.Exchanges {
			if x.Name == name {
				responses[pattern] = x
			}
		}
		if responses[pattern] == nil {
			return nil, fmt.Errorf("no recording has %q", name)
		}
	}
	return responses, nil
}

// Sizes lists the pool sizes with an agent.
var Sizes = []int{3, 100, 1000, 10_000}

// MembersOf returns the response for a pool of n servers, based on a recorded response with one
// server.
func MembersOf(one []byte, n int) []byte {
	var response struct {
		Members                            []json.RawMessage
		ServerDC, ServerName, ServerRegion string
	}
	var facts []struct {
		Name string
		Port int
		Tags struct{ ID, Port string }
	}
	if err := json.Unmarshal(one, &response); err != nil {
		panic(err)
	}
	member := string(response.Members[0])
	if err := json.Unmarshal([]byte("["+member+"]"), &facts); err != nil {
		panic(err)
	}
	response.Members = nil
	for i := range n {
		response.Members = append(response.Members, json.RawMessage(strings.NewReplacer(
			facts[0].Name, fmt.Sprintf("server-%d.global", i),
			facts[0].Tags.ID, fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i),
			`"Addr":"127.0.0.1"`, fmt.Sprintf(`"Addr":"10.%d.%d.%d"`, i>>16&255, i>>8&255, i&255),
			strconv.Itoa(facts[0].Port), "4648",
			facts[0].Tags.Port, "4647",
		).Replace(member)))
	}
	body, err := json.Marshal(response)
	if err != nil {
		panic(err)
	}
	return body
}

// monitor sends a log as fast as the client reads it.
func monitor(w http.ResponseWriter, r *http.Request) {
	const line = "2026-11-01T12:00:00.000Z [DEBUG] http: request complete: method=GET path=/v1/agent/members duration=\"214.123µs\"\n"
	data := []byte(strings.Repeat(line, frameSize/len(line)))
	frame := `{"Data":"` + base64.StdEncoding.EncodeToString(data) + `","FileEvent":"log","Offset":` + strconv.Itoa(len(data)) + "}"
	w.Header().Set("Content-Type", "application/json")
	flusher := http.NewResponseController(w)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, frame); err != nil {
			return
		}
		flusher.Flush()
	}
}
