package nomadtest_test

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nomad-go/nomad/internal/wire"
	"github.com/nomad-go/nomad/nomadtest"
)

// TestExtra plays the scenes of the extra recordings with clusters in memory. It sends the recorded
// requests in order and compares status, headers and body. The responses of unstable cases, in which two
// runs of real agents differed, are not compared. Differences in cases outside inScope are only counted
// and logged.
func TestExtra(t *testing.T) {
	t.Parallel()
	files, err := wire.Extras()
	require.NoError(t, err)
	if testing.Short() {
		files = files[:1]
	}
	t.Run("Recorded", func(t *testing.T) {
		for _, file := range files {
			for _, scene := range file.Scenes {
				t.Run(strings.TrimSuffix(file.File, ".json")+"/"+scene.Name, func(t *testing.T) {
					t.Parallel()
					replay(t, file, scene)
				})
			}
		}
	})
}

// inScope reports whether an agent in memory must send the same response as a real agent.
func inScope(path string) bool {
	return regexp.MustCompile(`^/v1/(agent|status|regions|nodes|node)\b`).MatchString(path)
}

func replay(t *testing.T, file wire.Extra, scene wire.Scene) {
	s := newStage(t, file, scene)
	same, unstable, beyond, beyondSame := 0, 0, 0, 0
	var differing []string
	for _, c := range scene.Cases {
		s.before(c)
		key := fmt.Sprintf("%s/%s/%d", strings.TrimSuffix(file.File, ".json"), scene.Name, c.N)
		t.Run(fmt.Sprintf("%04d %s %s", c.N, c.Agent, c.Method), func(t *testing.T) {
			if reason := s.unplayable(c); reason != "" {
				unstable++
				t.Skip(reason)
			}
			got, err := s.send(c)
			s.after(c)
			if c.Varies() {
				unstable++
				return
			}
			problems := s.compare(c, got, err)
			counts := inScope(c.Path)
			switch {
			case !counts && len(problems) == 0:
				beyond, beyondSame = beyond+1, beyondSame+1
			case !counts:
				beyond++
				t.Logf("out of scope: %s %s: %s", c.Name, c.Path, strings.Join(problems, "\n"))
			case len(problems) == 0 && differs[key] != "":
				t.Errorf("%s matches the recording, but is listed as different: %s", key, differs[key])
			case len(problems) == 0:
				same++
			case differs[key] != "":
				differing = append(differing, key+": "+differs[key])
			default:
				differing = append(differing, key)
				t.Errorf("%s %q %s: %s", key, c.Name, c.RequestBody, strings.Join(problems, "\n"))
			}
		})
	}
	t.Logf("%s %s: of %d stable cases %d match and %d differ; %d unstable; out of scope %d of %d match",
		file.File, scene.Name, same+len(differing), same, len(differing), unstable, beyondSame, beyond)
}

// stage is a scene played by agents in memory.
type stage struct {
	t       *testing.T
	scene   wire.Scene
	cluster *nomadtest.Cluster
	agents  map[string]*nomadtest.Agent // agents that were started
	late    map[string]bool             // agents that start in the course of the scene
	options map[string][]nomadtest.AgentOption
	real    *strings.Replacer // replaces the names and addresses of the recorded agents
}

const firstGossipKey = "cg8StVXbQJ0gPvMd9o7yrg=="

func newStage(t *testing.T, file wire.Extra, scene wire.Scene) *stage {
	s := &stage{t: t, scene: scene, agents: map[string]*nomadtest.Agent{}, late: map[string]bool{},
		options: map[string][]nomadtest.AgentOption{}}
	for _, c := range scene.Cases {
		if starts, _, _ := strings.Cut(c.Before, ";"); strings.HasPrefix(starts, "start ") && !strings.Contains(starts, "again") {
			for _, name := range s.named(starts) {
				s.late[name] = true
			}
		}
	}
	setup := ""
	for _, a := range scene.Agents {
		if strings.HasPrefix(a.Setup, "likewise") {
			setup += strings.TrimPrefix(a.Setup, "likewise")
		} else {
			setup = a.Setup
		}
		s.options[a.Name] = s.optionsOf(file, a, setup)
	}
	var groups []nomadtest.Option
	for _, a := range scene.Agents {
		switch {
		case s.late[a.Name]:
		case a.Role == "server":
			groups = append(groups, nomadtest.Servers(1, s.options[a.Name]...))
		case a.Role == "both":
			groups = append(groups, nomadtest.Both(1, s.options[a.Name]...))
		}
	}
	s.cluster = start(t, groups...)
	for _, a := range s.cluster.Agents() {
		s.agents[a.Name()] = a
		s.identify(a.Name())
	}
	for _, a := range scene.Agents {
		if a.Role == "client" && !s.late[a.Name] {
			s.addClient(a)
		}
	}
	s.settled()
	return s
}

// named returns the agents that text mentions.
func (s *stage) named(text string) (names []string) {
	for _, a := range s.scene.Agents {
		if regexp.MustCompile(`(^|[ ,])` + regexp.QuoteMeta(a.Name) + `($|[ ,:;])`).MatchString(text) {
			names = append(names, a.Name)
		}
	}
	return names
}

var expects = regexp.MustCompile(`expects? (\d+)`)

// optionsOf returns the options for the description of an agent's setup.
func (s *stage) optionsOf(file wire.Extra, a wire.SceneAgent, setup string) []nomadtest.AgentOption {
	has := func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(setup) }
	opts := []nomadtest.AgentOption{nomadtest.Version(file.Nomad), nomadtest.Names(a.Name), nomadtest.Region(a.Region)}
	if m := expects.FindStringSubmatch(setup); m != nil {
		n, _ := strconv.Atoi(m[1])
		opts = append(opts, nomadtest.Expect(n))
	} else if a.Role != "client" {
		opts = append(opts, nomadtest.Expect(0))
	}
	if dc := s.tagsOf(a)["dc"]; dc != "" {
		opts = append(opts, nomadtest.Datacenter(dc))
	} else if dc := s.tagsOf(s.scene.Agents[0])["dc"]; dc != "" {
		opts = append(opts, nomadtest.Datacenter(dc))
	}
	if has(`enable_debug|\bdebug\b`) && !has(`no debug`) {
		opts = append(opts, nomadtest.Debug())
	}
	if has(`log file`) && !has(`no log file`) {
		opts = append(opts, nomadtest.LogFile())
	}
	if has(`gossip key K1`) {
		opts = append(opts, nomadtest.GossipKey(firstGossipKey))
	}
	if has(`(?i)\bACLs?\b`) && !has(`(?i)no ACLs?\b`) {
		opts = append(opts, nomadtest.ACLs())
	}
	switch {
	case has(`verify_https_client|mutual TLS`) && !has(`no verify_https_client`):
		opts = append(opts, nomadtest.MutualTLS())
	case has(`(?i)\bTLS\b|https`):
		opts = append(opts, nomadtest.TLS())
	}
	if a.Role != "client" && a.Name != s.scene.Agents[0].Name && !has(`\bjoins\b|same pool|one of three|likewise|cluster`) {
		opts = append(opts, nomadtest.Unjoined())
	}
	if m := regexp.MustCompile(`node pool "([^"]+)"`).FindStringSubmatch(setup); m != nil {
		opts = append(opts, nomadtest.Config("Client.NodePool", m[1]))
	}
	if m := regexp.MustCompile(`class "([^"]+)"`).FindStringSubmatch(setup); m != nil {
		opts = append(opts, nomadtest.Config("Client.NodeClass", m[1]))
	}
	if m := regexp.MustCompile(`meta (\w+) "([^"]+)"`).FindStringSubmatch(setup); m != nil {
		opts = append(opts, nomadtest.Config("Client.Meta", map[string]string{m[1]: m[2]}))
	}
	return opts
}

// addClient starts a client with the servers that its setup names, by default all servers of its region.
func (s *stage) addClient(a wire.SceneAgent) {
	var known []string
	for _, other := range s.scene.Agents {
		if other.Role != "client" && s.agents[other.Name] != nil && slices.Contains(s.named(a.Setup), other.Name) {
			known = append(known, s.agents[other.Name].RPCAddr())
		}
	}
	if known == nil {
		for _, other := range s.scene.Agents {
			if other.Role == "server" && other.Region == a.Region && s.agents[other.Name] != nil {
				known = append(known, s.agents[other.Name].RPCAddr())
			}
		}
	}
	s.agents[a.Name] = s.cluster.AddClient(a.Name, append(s.options[a.Name], nomadtest.KnownServers(known...))...)
	s.agents[a.Name].BeatByTheClock()
	s.identify(a.Name)
}

// identify gives an agent the IDs of the recorded agent.
func (s *stage) identify(name string) {
	for _, a := range s.scene.Agents {
		if a.Name == name {
			s.agents[name].Identify(cmp.Or(a.ServerID, s.tagsOf(a)["id"]), a.NodeID)
		}
	}
}

// launch starts an agent of the scene.
func (s *stage) launch(name string) {
	if a := s.agents[name]; a != nil {
		a.Start()
		return
	}
	for _, a := range s.scene.Agents {
		if a.Name != name {
			continue
		}
		if a.Role == "client" {
			s.addClient(a)
		} else {
			s.agents[name] = s.cluster.AddServer(name, s.options[name]...)
			s.identify(name)
		}
	}
}

// settled is called when agents have started. It makes the recorded leader the leader, registers clients
// and records the IDs of all agents.
func (s *stage) settled() {
	if a := s.agents[cmp.Or(s.scene.Leader, s.scene.Agents[0].Name)]; a != nil && a.ServerID() != "" {
		a.TakeLead()
	}
	var pairs []string
	for _, recorded := range s.scene.Agents {
		a := s.agents[recorded.Name]
		if a == nil {
			continue
		}
		for port, addr := range map[int]string{recorded.HTTP: strings.SplitN(a.URL(), "//", 2)[1], recorded.RPC: a.RPCAddr(), recorded.Serf: a.SerfAddr()} {
			pairs = append(pairs, strconv.Itoa(port), addr[strings.LastIndex(addr, ":")+1:])
		}
	}
	s.real = strings.NewReplacer(pairs...)
}

// tagsOf returns the tags of a server, from a member list in the scene's cases.
func (s *stage) tagsOf(a wire.SceneAgent) map[string]string {
	for _, c := range s.scene.Cases {
		var members struct {
			Members []struct {
				Name string
				Tags map[string]string
			}
		}
		if strings.HasPrefix(c.Path, "/v1/agent/members") && json.Unmarshal([]byte(c.Body), &members) == nil {
			for _, m := range members.Members {
				if m.Name == a.Name+"."+a.Region {
					return m.Tags
				}
			}
		}
	}
	return nil
}

var waits = regexp.MustCompile(`wait (\d+)s`)

// before repeats the events that preceded a case.
func (s *stage) before(c wire.Case) {
	for step := range strings.SplitSeq(c.Before, ";") {
		step, _, _ = strings.Cut(strings.TrimSpace(step), ":")
		subject, _, _ := strings.Cut(step, " and wait")
		for _, name := range s.named(subject) {
			switch verb, _, _ := strings.Cut(subject, " "); verb {
			case "kill", "stop":
				s.agents[name].Stop()
			case "terminate":
				s.agents[name].Leave()
			case "start", "restart":
				s.launch(name)
				s.settled()
			}
		}
		if m := waits.FindStringSubmatch(step); m != nil {
			seconds, _ := strconv.Atoi(m[1])
			s.pass(time.Duration(seconds) * time.Second)
		}
	}
	if s.agents[c.Agent] == nil {
		s.launch(c.Agent)
		s.settled()
	}
}

// after advances the clock by the duration of a case.
func (s *stage) after(c wire.Case) { s.pass(time.Duration(c.Seconds * float64(time.Second))) }

func (s *stage) pass(d time.Duration) {
	for _, a := range s.agents {
		a.Elapse(d)
	}
}

func (s *stage) unplayable(c wire.Case) string {
	if c.Connection != "" {
		return "it is about a connection: " + c.Connection
	}
	if c.Token != "" && tokens[c.Token] == "" && c.Token != "anonymous" {
		return "no such token here: " + c.Token
	}
	return ""
}

// send sends the bytes of a recorded request, and reads as much of the response as was recorded.
func (s *stage) send(c wire.Case) (got timedResponse, err error) {
	a := s.agents[c.Agent]
	conn, err := s.dial(a)
	if err != nil {
		return timedResponse{}, err
	}
	defer conn.Close()
	limit := 4*time.Second + time.Duration(c.Seconds)*time.Second
	if c.Status == 0 && c.Cut {
		limit = 300 * time.Millisecond // no response was recorded
	}
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, s.request(c, a)); err != nil {
		return timedResponse{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.Method})
	if err != nil {
		return timedResponse{}, err
	}
	got = timedResponse{status: response.StatusCode, header: response.Header}
	if c.Cut && strings.Contains(c.Path, "/monitor") || strings.HasPrefix(c.Path, "/v1/event/stream") {
		got.body = beginning(conn, response.Body)
		return got, nil
	}
	got.body, err = io.ReadAll(response.Body)
	return got, err
}

// beginning reads the first data of a stream.
func beginning(conn net.Conn, body io.Reader) []byte {
	chunk := make([]byte, 64<<10)
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	var all []byte
	for len(all) < 2 || !strings.Contains(string(all), "}") {
		n, err := body.Read(chunk)
		all = append(all, chunk[:n]...)
		if err != nil {
			break
		}
	}
	return all
}

func (s *stage) dial(a *nomadtest.Agent) (net.Conn, error) {
	scheme, address, _ := strings.Cut(a.URL(), "://")
	if scheme == "http" {
		return net.Dial("tcp", address)
	}
	config := clientConfig(s.t, s.cluster)
	return tls.Dial("tcp", address, config)
}

func clientConfig(t *testing.T, c *nomadtest.Cluster) *tls.Config {
	files := c.TLS()
	cert, err := tls.X509KeyPair(files.CertPEM, []byte(files.KeyPEM.Reveal()))
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true}
}

// request writes a recorded request.
func (s *stage) request(c wire.Case, a *nomadtest.Agent) string {
	if c.RequestBytes != "" {
		return s.real.Replace(c.RequestBytes)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\n", c.Method, s.real.Replace(c.Path))
	headers := c.Headers()
	if headers == nil {
		headers = map[string]string{}
	}
	if _, ok := headers["Host"]; !ok {
		headers["Host"] = strings.SplitN(a.URL(), "//", 2)[1]
	}
	if token := tokens[c.Token]; token != "" {
		headers["X-Nomad-Token"] = token
	}
	body := s.real.Replace(c.RequestBody)
	if headers["Transfer-Encoding"] == "" && (body != "" || slices.Contains([]string{"PUT", "POST", "PATCH"}, c.Method)) {
		headers["Content-Length"] = strconv.Itoa(len(body))
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(&out, "%s: %s\r\n", name, headers[name])
	}
	return out.String() + "\r\n" + body
}

// compare returns the differences.
func (s *stage) compare(c wire.Case, got timedResponse, err error) (problems []string) {
	differs := func(what string, want, got any) {
		problems = append(problems, fmt.Sprintf("%s\n  real      %v\n  in memory %v", what, want, got))
	}
	if c.Status == 0 {
		if err == nil {
			differs("status", "none: "+c.Note, got.status)
		}
		return problems
	}
	if err != nil && !(c.Cut && errors.Is(err, io.ErrUnexpectedEOF)) {
		differs("response", c.Status, err)
		return problems
	}
	if got.status != c.Status {
		differs("status", c.Status, got.status)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		if name == "Content-Length" || name == "Transfer-Encoding" || name == "Date" || name == "Connection" {
			continue
		}
		if want, got := headerValue(name, s.real.Replace(c.Header[name])), headerValue(name, got.header.Get(name)); want != got {
			differs(name, want, got)
		}
	}
	for name := range got.header {
		if _, ok := c.Header[name]; !ok && name != "Content-Length" && name != "Date" && name != "Connection" {
			differs("header "+name, "none", got.header.Get(name))
		}
	}
	recorded := s.real.Replace(c.Plain())
	if strings.HasPrefix(c.Path, "/v1/agent/servers") && strings.HasPrefix(recorded, "[") {
		recorded = sortAgain(recorded)
	}
	want, mine := s.comparable(c, recorded), s.comparable(c, string(wire.Unpack(got.header.Get("Content-Encoding"), got.body)))
	if c.Cut && got.header.Get("Content-Encoding") != "" {
		return problems
	}
	if c.Trimmed && !json.Valid([]byte(want)) || c.Cut && strings.HasPrefix(c.Path, "/v1/agent/self") {
		// The recording is truncated, maybe in the middle of a string that was replaced.
		end := min(max(0, len(want)-40), len(mine))
		want, mine = want[:end], mine[:end]
	}
	if strings.HasPrefix(c.Path, "/v1/node") && want != mine {
		var wanted, had any
		if json.Unmarshal([]byte(want), &wanted) == nil && json.Unmarshal([]byte(mine), &had) == nil && within(wanted, had, "") {
			return problems
		}
	}
	if want != mine {
		at := 0
		for at < min(len(want), len(mine)) && want[at] == mine[at] {
			at++
		}
		from := max(0, at-60)
		differs(fmt.Sprintf("body, from byte %d", at), want[from:min(len(want), at+200)], mine[from:min(len(mine), at+200)])
	}
	return problems
}

// sortAgain sorts the addresses of a list. Agents sort them as text, and the ports of agents in memory sort
// differently from the recorded ones.
func sortAgain(list string) string {
	address := regexp.MustCompile(`"[^"]*"`)
	addresses := address.FindAllString(list, -1)
	slices.Sort(addresses)
	i := -1
	return address.ReplaceAllStringFunc(list, func(string) string {
		i++
		return addresses[i]
	})
}

// headerValue returns the part of a header that must be equal: whether an index is 0, and whether there
// was contact recently or never.
func headerValue(name, value string) string {
	n, err := strconv.Atoi(value)
	switch {
	case err != nil || n == 0:
	case name == "X-Nomad-Index":
		return "above 0"
	case name == "X-Nomad-Lastcontact" && n < 60_000:
		return "0"
	}
	return value
}

// errorsBefore matches errors that agents write before the payload.
var errorsBefore = regexp.MustCompile("^(Invalid wait time|Invalid index|Expect a number for `per_page` query string parameter|" +
	"Expect `true` or `false` for `stale` query string parameter)")

// comparable returns the part of a body that must be equal.
func (s *stage) comparable(c wire.Case, body string) string {
	path, _, _ := strings.Cut(c.Path, "?")
	first := errorsBefore.FindString(body)
	payload := body[len(first):]
	switch {
	case strings.HasPrefix(path, "/v1/agent/monitor") && c.Status == http.StatusOK, first != "" && strings.HasPrefix(path, "/v1/agent/monitor"):
		if strings.HasPrefix(payload, "{") {
			return first + "frames"
		}
	case strings.HasPrefix(path, "/v1/agent/pprof/"), strings.HasPrefix(path, "/debug/pprof/"):
		return first + kindOfProfile(payload)
	case c.Cut && strings.HasPrefix(path, "/v1/agent/members"): // in any order
		return payload[:min(len(payload), 12)]
	case c.Cut && c.Body == "" && c.BodyBase64 == "":
		return "left out"
	case path == "/v1/metrics", path == "/v1/client/stats", path == "/v1/event/stream":
		return payload[:min(len(payload), 10)]
	}
	if json.Valid([]byte(payload)) && strings.HasPrefix(payload, "{") || strings.HasPrefix(payload, "[") {
		indent := strings.HasPrefix(payload, "{\n") || strings.HasPrefix(payload, "[\n")
		payload = sorted(payload)
		if strings.HasPrefix(path, "/v1/status/peers") { // ordered by when the servers joined
			var peers []string
			if json.Unmarshal([]byte(payload), &peers) == nil {
				slices.Sort(peers)
				payload = fmt.Sprint(peers)
			}
		}
		if indent && c.Note == "" { // replaced bodies have another indentation
			payload += "indented"
		}
	}
	for _, n := range append(moreNotes, asNotes()...) {
		payload = regexp.MustCompile(n[0]).ReplaceAllString(payload, n[1])
	}
	return first + payload
}

func asNotes() (all [][2]string) {
	for _, n := range notes {
		all = append(all, [2]string{n.pattern, n.by})
	}
	return all
}

// moreNotes are further replacements, in addition to notes.
var moreNotes = [][2]string{
	{`dial tcp 127\.0\.0\.1:\d{4,}: connect: connection refused`, `dial tcp …`}, // the server that a client calls
	{`read tcp 127\.0\.0\.1:\d+-`, `read tcp …-`},                               // the port of a connection
	{`"RetryJoin":\[[^\]]*\]`, `"RetryJoin":[]`},                                // the join addresses of the recorded servers
	{`"Network":\[[^\]]*\]`, `"Network":[]`},                                    // the machine's network
	{`("VAULT_TOKEN":"[^"]*"),|,?("VAULT_TOKEN":"[^"]*")`, ``},                  // the recorder's environment
}

func kindOfProfile(body string) string {
	if strings.HasPrefix(body, "goroutine ") && strings.Contains(body, "[running]:") {
		return "stacks"
	}
	if i := strings.Index(body, "\x00agent\x00"); i > 0 { // the path of the program depends on the recorder
		body = "nomad" + body[i:]
	}
	if regexp.MustCompile(`^(heap|threadcreate|allocs|block|mutex) ?profile|^--- |^threadcreate profile`).MatchString(body) {
		return body[:6]
	}
	return profileKind(body)
}

// within reports whether got has everything that want has. The recordings leave out most fields of nodes.
// Times, indexes and values that depend on the machine are not compared.
func within(want, got any, name string) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for name, value := range want {
			ok = ok && within(value, got[name], name)
		}
		return ok
	case []any:
		got, ok := got.([]any)
		ok = ok && len(got) == len(want)
		for i := range want {
			ok = ok && within(want[i], got[i], "")
		}
		return ok
	}
	return regexp.MustCompile(`Index$|Time$|^Timestamp$|At$|^ComputedClass$|^IdentitySigningKeyID$`).MatchString(name) || want == got
}
