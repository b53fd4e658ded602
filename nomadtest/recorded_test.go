package nomadtest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/wire"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestRecorded puts clusters in memory into the state in which real agents were recorded. It sends them
// every recorded request and compares status, headers and body. Each cluster gets its requests in the recorded
// order, at the same time as the other clusters. In bodies the test ignores only the values that notes lists,
// and the order of unordered elements.
func TestRecorded(t *testing.T) {
	t.Parallel()
	recordings, err := wire.All()
	require.NoError(t, err)
	for _, recording := range recordings {
		t.Run(recording.Nomad, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, recording)
			var differ atomic.Int64
			t.Cleanup(func() {
				t.Logf("%d recorded requests of Nomad %s: %d responses match, %d differ",
					len(recording.Exchanges), recording.Nomad, len(recording.Exchanges)-int(differ.Load()), differ.Load())
			})
			for _, x := range recording.Exchanges {
				require.NotNil(t, s.agents[x.Agent], x.Name) // so one of the clusters gets it
			}
			for _, cluster := range s.clusters {
				t.Run(cluster.Agents()[0].Name(), func(t *testing.T) {
					t.Parallel()
					for _, x := range recording.Exchanges {
						if !slices.Contains(cluster.Agents(), s.agents[x.Agent]) {
							continue
						}
						t.Run(x.Name, func(t *testing.T) {
							if testing.Short() && takesLong(x) {
								t.Skip("it takes 5 s")
							}
							s.before(x)
							problems := s.compare(x, s.send(x))
							for _, problem := range problems {
								t.Errorf("%s (%s %s): %s", x.Name, x.Method, x.Path, problem)
							}
							if len(problems) > 0 {
								differ.Add(1)
							}
						})
					}
				})
			}
		})
	}
}

// takesLong reports whether an agent without a leader waits 5 s before it responds.
func takesLong(x wire.Exchange) bool {
	return strings.HasPrefix(x.Path, "/v1/agent/health") &&
		(strings.Contains(x.Name, "wedge1") || strings.Contains(x.Name, "quorum")) && !strings.Contains(x.Path, "type=client")
}

// scene has the agents of a recording, in separate clusters.
type scene struct {
	t        *testing.T
	clusters []*nomadtest.Cluster
	agents   map[string]*nomadtest.Agent
	real     *strings.Replacer // replaces the names and addresses of the recorded agents
}

// peer joins the first server and then crashes.
const peer = "srv2"

func newScene(t *testing.T, recording wire.Recording) *scene {
	version := nomadtest.Version(recording.Nomad)
	key := nomadtest.GossipKey("cg8StVXbQJ0gPvMd9o7yrg==")
	denylist := nomadtest.Config("Client.Options", map[string]string{"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean"})
	first := start(t, version, nomadtest.RealDelays(),
		nomadtest.Servers(1, nomadtest.Names("srv1"), nomadtest.Debug(), key),
		nomadtest.Clients(1, nomadtest.Names("cli1"), nomadtest.Debug(), denylist))
	first.AddServer(peer, nomadtest.Unjoined(), key)
	both := []nomadtest.AgentOption{nomadtest.Names("both1"), denylist}
	if selfOf(t, recording, "both1").Stats["client"]["heartbeat_ttl"] == "0s" {
		both = append(both, nomadtest.RealDelays()) // it was recorded before its first heartbeat
	}
	second := start(t, version, nomadtest.Both(1, both...))
	third := start(t, version, nomadtest.RealDelays(), nomadtest.Servers(1, nomadtest.Names("wedge1"), nomadtest.Expect(3)))
	fourth := start(t, version, nomadtest.RealDelays(), nomadtest.Servers(1, nomadtest.Names("acl1"), nomadtest.ACLs()))
	s := &scene{t: t, clusters: []*nomadtest.Cluster{first, second, third, fourth}, agents: map[string]*nomadtest.Agent{}}
	for _, cluster := range s.clusters {
		for _, a := range cluster.Agents() {
			s.agents[a.Name()] = a
		}
	}
	s.real = strings.NewReplacer(s.identities(recording)...)
	return s
}

// identities returns pairs of an ID or port of a recorded agent and that of the agent in memory.
func (s *scene) identities(recording wire.Recording) []string {
	var pairs []string
	base := strconv.Itoa(selfOf(s.t, recording, "srv1").Config.Ports.HTTP / 1000)
	for name, ports := range map[string]string{"srv1": "00", peer: "01", "cli1": "02", "acl1": "03", "wedge1": "04", "both1": "05"} {
		a := s.agents[name]
		for i, addr := range []string{strings.SplitN(a.URL(), "//", 2)[1], a.RPCAddr(), a.SerfAddr()} {
			pairs = append(pairs, fmt.Sprintf("%s%s%d", base, ports, i), addr[strings.LastIndex(addr, ":")+1:])
		}
	}
	for _, x := range recording.Exchanges {
		switch {
		case strings.HasPrefix(x.Name, "self on "):
			self := selfOf(s.t, recording, x.Agent)
			if id := self.Member.Tags["id"]; id != "" {
				pairs = append(pairs, id, s.agents[x.Agent].ServerID())
			}
			if id := self.Stats["client"]["node_id"]; id != "" {
				pairs = append(pairs, id, s.agents[x.Agent].NodeID())
			}
		case x.Name == "members after join", x.Name == "acl management: GET members":
			var members struct {
				Members []struct {
					Name string
					Tags map[string]string
				}
			}
			require.NoError(s.t, json.Unmarshal([]byte(x.Text()), &members))
			for _, m := range members.Members {
				pairs = append(pairs, m.Tags["id"], s.agents[strings.TrimSuffix(m.Name, ".global")].ServerID())
			}
		}
	}
	return pairs
}

// self has the fields of Self that the scene needs.
type self struct {
	Config struct{ Ports struct{ HTTP int } }
	Member struct{ Tags map[string]string }
	Stats  map[string]map[string]string
}

func selfOf(t *testing.T, recording wire.Recording, agent string) (out self) {
	for _, x := range recording.Exchanges {
		if x.Name == "self on "+agent {
			require.NoError(t, json.Unmarshal([]byte(x.Text()), &out))
		}
	}
	return out
}

// before repeats the changes that were made to the recorded agents before a request.
func (s *scene) before(x wire.Exchange) {
	switch x.Name {
	case "members with one failed":
		s.agents[peer].Stop()
	}
}

// timedResponse is a response with its duration.
type timedResponse struct {
	status int
	took   time.Duration
	header http.Header
	body   []byte
}

var tokens = map[string]string{
	"management": nomadtest.ManagementToken, "agent-read": nomadtest.AgentReadToken, "agent-write": nomadtest.AgentWriteToken,
	"expired": nomadtest.ExpiredToken, "deleted": nomadtest.UnknownToken, "node-read": nomadtest.NodeReadToken, "unknown": nomadtest.UnknownToken, "malformed": nomadtest.MalformedToken,
}

// send sends a recorded request to the agent that plays the recorded one.
func (s *scene) send(x wire.Exchange) timedResponse {
	a := s.agents[x.Agent]
	var body io.Reader
	if x.RequestBody != "" {
		body = strings.NewReader(x.RequestBody)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, x.Method, a.URL()+s.real.Replace(x.Path), body)
	require.NoError(s.t, err)
	if x.Name == "members with gzip accepted" {
		request.Header.Set("Accept-Encoding", "gzip")
	}
	if token := tokens[x.Token]; token != "" {
		request.Header.Set("X-Nomad-Token", token)
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	streams := x.Endpoint() == "monitor" && x.Status == http.StatusOK
	if streams {
		for a.Listeners() > 0 { // of the previous stream
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // its end is logged a moment later
		go s.log(x)
	}
	began := time.Now()
	response, err := transport.RoundTrip(request)
	require.NoError(s.t, err, x.Name)
	defer response.Body.Close()
	var content []byte
	if streams {
		content = s.stream(x, response.Body)
	} else {
		content, err = io.ReadAll(response.Body)
		require.NoError(s.t, err, x.Name)
	}
	return timedResponse{response.StatusCode, time.Since(began), response.Header, content}
}

// log writes the recorded entries to the agent's log as soon as a stream is open.
func (s *scene) log(x wire.Exchange) {
	a := s.agents[x.Agent]
	for a.Listeners() == 0 {
		if s.t.Context().Err() != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	for _, line := range logged(s.text(x)) {
		a.Log(line.level, line.module, line.message, line.fields...)
	}
}

// stream reads a log until it has received as much as was recorded.
func (s *scene) stream(x wire.Exchange, body io.Reader) []byte {
	var got bytes.Buffer
	chunk := make([]byte, 64<<10)
	for {
		n, err := body.Read(chunk)
		got.Write(chunk[:n])
		if err == io.EOF || err == nil && len(logged(got.String())) >= len(logged(x.Text())) {
			return got.Bytes()
		}
		require.NoError(s.t, err, x.Name)
	}
}

type line struct {
	level, module, message string
	fields                 []any
}

var (
	textLine  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[([A-Z]+)\] +([^:]+): (.*)$`)
	textField = regexp.MustCompile(` (\w+)=("(?:[^"\\]|\\.)*"|\S*)`)
)

// logged returns the lines of a log stream in any of its forms.
func logged(stream string) []line {
	var lines []line
	for text := range strings.Lines(unframe(stream)) {
		text = strings.TrimSuffix(text, "\n")
		if m := textLine.FindStringSubmatch(text); m != nil {
			l := line{level: strings.ToLower(m[1]), module: m[2], message: m[3]}
			if message, fields, ok := strings.Cut(m[3], ": "); ok && textField.MatchString(" "+fields) {
				l.message = message
				for _, f := range textField.FindAllStringSubmatch(" "+fields, -1) {
					value := f[2]
					json.Unmarshal([]byte(f[2]), &value)
					l.fields = append(l.fields, f[1], value)
				}
			}
			lines = append(lines, l)
			continue
		}
		var known struct {
			Level   string `json:"@level"`
			Module  string `json:"@module"`
			Message string `json:"@message"`
		}
		var object map[string]json.RawMessage // values as they are written
		if json.Unmarshal([]byte(text), &known) == nil && json.Unmarshal([]byte(text), &object) == nil {
			l := line{level: known.Level, module: known.Module, message: known.Message}
			for _, name := range slices.Sorted(maps.Keys(object)) {
				if !strings.HasPrefix(name, "@") {
					l.fields = append(l.fields, name, object[name])
				}
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// unframe returns the data of the frames of a log stream. It ignores an incomplete frame at the end.
func unframe(stream string) string {
	decoder := json.NewDecoder(strings.NewReader(stream))
	decoder.DisallowUnknownFields()
	var text strings.Builder
	for {
		var frame struct {
			Data      []byte
			FileEvent string
			Offset    int
		}
		switch err := decoder.Decode(&frame); {
		case err == io.EOF, err == io.ErrUnexpectedEOF:
			whole := strings.LastIndexByte(text.String(), '\n') + 1
			return text.String()[:whole]
		case err != nil, frame.Data != nil && frame.FileEvent != "log":
			return stream // it has no frames
		}
		text.Write(frame.Data)
	}
}

// text returns a recorded body with the names and addresses of the agents in memory, without log frames.
func (s *scene) text(x wire.Exchange) string {
	text := x.Text()
	if x.Endpoint() == "monitor" {
		text = unframe(text)
	}
	return s.real.Replace(text)
}

// compare returns the differences.
func (s *scene) compare(x wire.Exchange, got timedResponse) []string {
	var problems []string
	differs := func(what string, want, got any) {
		problems = append(problems, fmt.Sprintf("%s\n  real      %v\n  in memory %v", what, want, got))
	}
	if got.status != x.Status {
		differs("status", x.Status, got.status)
	}
	if recorded := time.Duration(x.Seconds) * time.Second; x.Endpoint() == "health" && got.took < recorded {
		differs("time", recorded, got.took)
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Disposition", "X-Content-Type-Options", "Vary"} {
		if want, got := x.Header[name], got.header.Get(name); want != got {
			differs(name, want, got)
		}
	}
	for name := range got.header {
		if _, ok := x.Header[name]; !ok && name != "Content-Length" && name != "Date" {
			differs("header "+name, "none", got.header.Get(name))
		}
	}
	mine := string(got.body)
	if got.header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(bytes.NewReader(got.body))
		require.NoError(s.t, err, x.Name)
		text, err := io.ReadAll(unzipped)
		require.NoError(s.t, err, x.Name)
		mine = string(text)
	}
	if want, got := same(x, s.text(x)), same(x, mine); want != got {
		at := 0
		for at < min(len(want), len(got)) && want[at] == got[at] {
			at++
		}
		from := max(0, at-60)
		differs(fmt.Sprintf("body, from byte %d", at), want[from:min(len(want), at+160)], got[from:min(len(got), at+160)])
	}
	return problems
}

// notes lists values that differ in every response of a real agent. Each pattern is replaced by the
// string after it.
var notes = []struct{ pattern, by, why string }{
	{`"id":"[0-9a-f-]{36}","started":"[^"]*"`, `"id":"…","started":"…"`, "ID and start of a scheduler worker"},
	{`"workload_status":"(Backoff|WaitingToDequeue)"`, `"workload_status":"…"`, "what a worker does at this moment"},
	{`"goroutines":"\d+"`, `"goroutines":"…"`, "the process"},
	{`"version":"go[^"]*"`, `"version":"…"`, "the compiler"},
	{`"(kernel.name|arch)":"[^"]*"`, `"$1":"…"`, "the machine that runs the test"},
	{`"last_heartbeat":"[^"]*"`, `"last_heartbeat":"…"`, "time"},
	{`"heartbeat_ttl":"[1-9][^"]*"`, `"heartbeat_ttl":"…"`, "time; 0s is compared"},
	{`"last_contact":"[1-9][^"]*s"`, `"last_contact":"…"`, "time; 0 and never are compared"},
	{`"(term|last_log_term|last_log_index|applied_index|commit_index)":"\d+"`, `"$1":"…"`, "how much Raft has done"},
	{`"(member_time|health_score|query_queue)":"\d+"`, `"$1":"…"`, "how much Serf has done and has to do"},
	{`Suffrage:(Voter|Nonvoter) `, `Suffrage:… `, "whether autopilot has let a new server vote yet"},
	{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`, `<time>`, "time of a log entry"},
}

// same returns a body for the comparison: with the replacements of notes, and with unordered lists and
// maps sorted.
func same(x wire.Exchange, body string) string {
	switch {
	case x.Status != http.StatusOK:
		return body
	case x.Endpoint() == "monitor" && x.URL().Query().Get("plain") == "":
		// The distribution of entries over frames and heartbeats depends on timing.
		body = unframe(body)
	case strings.HasPrefix(x.Endpoint(), "pprof/"):
		return profileKind(body)
	}
	if json.Valid([]byte(body)) && strings.HasPrefix(body, "{") {
		indent := strings.HasPrefix(body, "{\n")
		body = sorted(body)
		if indent {
			body += "indented"
		}
	}
	for _, n := range notes {
		body = regexp.MustCompile(n.pattern).ReplaceAllString(body, n.by)
	}
	return body
}

// profileKind returns the part of a profile that must be equal: all of a command line, and only the
// format of others.
func profileKind(body string) string {
	switch {
	case strings.HasPrefix(body, "\x1f\x8b"):
		return "gzip"
	case strings.HasPrefix(body, "go 1.") && strings.HasPrefix(body[8:], "trace\x00"):
		return "trace"
	case strings.HasPrefix(body, "goroutine profile: total "):
		return "goroutines"
	}
	return body
}

// sorted sorts the parts of a JSON document that agents write in random order: unordered lists, and the
// keys of maps such as tags and statistics. The keys of all other objects keep their order.
func sorted(body string) string {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	var out strings.Builder
	value(decoder, &out, "")
	return out.String()
}

var unordered = regexp.MustCompile(`^(/Members/Tags|/member/Tags|/stats|/stats/[a-z]+|(/HostData)?/Network|(/HostData)?/Environment|/Keys)$`)

var unorderedList = regexp.MustCompile(`^(/Members|/schedulers/enabled_schedulers|/enabled_schedulers)$`)

func value(decoder *json.Decoder, out *strings.Builder, path string) {
	token, err := decoder.Token()
	if err != nil {
		panic(err)
	}
	switch token {
	case json.Delim('{'):
		var fields []string
		for decoder.More() {
			name, _ := decoder.Token()
			var field strings.Builder
			fmt.Fprintf(&field, "%q:", name)
			value(decoder, &field, path+"/"+name.(string))
			fields = append(fields, field.String())
		}
		decoder.Token()
		if unordered.MatchString(path) {
			slices.Sort(fields)
		}
		out.WriteString("{" + strings.Join(fields, ",") + "}")
	case json.Delim('['):
		var items []string
		for decoder.More() {
			var item strings.Builder
			value(decoder, &item, path)
			items = append(items, item.String())
		}
		decoder.Token()
		if unorderedList.MatchString(path) {
			slices.Sort(items)
		}
		out.WriteString("[" + strings.Join(items, ",") + "]")
	default:
		text, _ := json.Marshal(token)
		if number, ok := token.(json.Number); ok {
			text = []byte(number)
		}
		out.Write(text)
	}
}
