package nomadtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// heartbeat is the interval of heartbeats in a log stream.
const heartbeat = time.Second

// maxHistory is the minimum number of log entries that an agent keeps.
const maxHistory = 1000

var levels = []string{"trace", "debug", "info", "warn", "error"}

// entry is an entry of an agent's log. fields alternates names and values.
type entry struct {
	at                     time.Time
	level, module, message string
	fields                 []any
}

// text formats an entry as a line of a text log.
func (e entry) text() string {
	var line strings.Builder
	fmt.Fprintf(&line, "%s %-7s %s: %s", e.at.Format("2006-01-02T15:04:05.000Z07:00"), "["+strings.ToUpper(e.level)+"]", e.module, e.message)
	for i := 0; i+1 < len(e.fields); i += 2 {
		if i == 0 {
			line.WriteByte(':')
		}
		value := fmt.Sprint(e.fields[i+1])
		if value == "" || strings.ContainsAny(value, " \"=\n") {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&line, " %v=%s", e.fields[i], value)
	}
	return line.String() + "\n"
}

// object formats an entry as a line of a JSON log. Values that JSON does not support are written as
// strings.
func (e entry) object() string {
	object := map[string]any{"@level": e.level, "@message": e.message, "@module": e.module,
		"@timestamp": e.at.Format("2006-01-02T15:04:05.000000Z07:00")}
	for i := 0; i+1 < len(e.fields); i += 2 {
		value := e.fields[i+1]
		if _, err := json.Marshal(value); err != nil {
			value = fmt.Sprint(value)
		}
		object[fmt.Sprint(e.fields[i])] = value
	}
	encoded, _ := json.Marshal(object)
	return string(encoded) + "\n"
}

// Log adds an entry to the agent's log, for log streams and MonitorExport.
//
// level is trace, debug, info, warn or error; Log panics for any other. fields alternates names and
// values, as in log/slog.
func (a *Agent) Log(level, module, message string, fields ...any) {
	if !slices.Contains(levels, level) {
		panic(fmt.Sprintf("nomadtest: level %q: want one of %q", level, levels))
	}
	mu.Lock()
	defer mu.Unlock()
	a.emit(level, module, message, fields...)
}

// emit is Log with the lock held.
func (a *Agent) emit(level, module, message string, fields ...any) {
	if n := len(fields); n%2 != 0 {
		fields = append(fields[:n-1:n-1], "EXTRA_VALUE_AT_END", fields[n-1])
	}
	e := entry{time.Now().UTC(), level, module, message, fields}
	if slices.Index(levels, level) >= slices.Index(levels, "info") { // log_level is INFO
		if len(a.history) == 2*maxHistory {
			a.history = slices.Clone(a.history[maxHistory:])
		}
		a.history = append(a.history, e)
	}
	for _, listener := range a.listeners {
		select {
		case listener <- e:
		default: // too slow; real agents drop entries too
		}
	}
}

// subscribe returns a channel of new log entries. stop ends the subscription.
func (a *Agent) subscribe() (entries chan entry, stop func()) {
	entries = make(chan entry, 512)
	a.listeners = append(a.listeners, entries)
	return entries, func() {
		mu.Lock()
		defer mu.Unlock()
		a.listeners = slices.DeleteFunc(a.listeners, func(c chan entry) bool { return c == entries })
	}
}

// frames writes a log stream, in frames or plain.
type frames struct {
	w     http.ResponseWriter
	plain bool
}

func (f frames) begin() {
	contentType := "application/json"
	if f.plain {
		contentType = "text/plain"
	}
	f.w.Header().Set("Content-Type", contentType)
}

// frameSize is the maximum size of a frame's data.
const frameSize = 1024

// write sends a piece of a log: plain, or in frames with their offset in the piece.
func (f frames) write(text string) error {
	var err error
	if f.plain {
		_, err = f.w.Write([]byte(text))
		text = ""
	}
	for offset := 0; offset < len(text) && err == nil; offset += frameSize {
		frame, _ := json.Marshal(struct {
			Data      []byte
			FileEvent string
			Offset    int `json:",omitempty"`
		}{[]byte(text[offset:min(offset+frameSize, len(text))]), "log", offset})
		_, err = f.w.Write(frame)
	}
	http.NewResponseController(f.w).Flush()
	return err
}

func (f frames) beat() error {
	if f.plain {
		return nil
	}
	_, err := f.w.Write([]byte("{}"))
	http.NewResponseController(f.w).Flush()
	return err
}

// streamMonitor handles monitor. It is called without the lock.
func (a *Agent) streamMonitor(w http.ResponseWriter, r *http.Request) error {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return refusef(400, "nomadtest: a real agent ends when it is asked for its log over a WebSocket")
	}
	query := r.URL.Query()
	level := cmp.Or(strings.ToLower(strings.TrimSpace(query.Get("log_level"))), "info")
	least := slices.Index(levels, level)
	switch {
	case level == "off":
		least = len(levels)
	case least < 0:
		return refusef(400, "Unknown log level: %s", query.Get("log_level"))
	}
	asJSON, err := boolOf(query.Get("log_json"), "Unknown option for log json")
	if err != nil {
		return err
	}
	plain, err := boolOf(query.Get("plain"), "Unknown option for plain")
	if err != nil {
		return err
	}
	if _, err := boolOf(query.Get("log_include_location"), "Unknown option for log_include_location"); err != nil {
		return err
	}
	if query.Get("server_id") != "" && query.Get("node_id") != "" {
		return errTwoTargets
	}
	out := frames{w, plain}
	out.begin()
	target, _, err := a.streamTarget(w, r)
	if err != nil {
		return err
	}
	return a.stream(out, r, target, least, asJSON)
}

// stream sends the target's new log entries.
func (a *Agent) stream(out frames, r *http.Request, target *Agent, least int, asJSON bool) error {
	mu.Lock()
	entries, stop := target.subscribe()
	mu.Unlock()
	defer stop()
	if !a.realDelays {
		if out.beat() != nil {
			return nil
		}
	}
	return out.follow(r, entries, func(e entry) string {
		if slices.Index(levels, e.level) < least {
			return ""
		}
		if asJSON {
			return e.object()
		}
		return e.text()
	})
}

// follow sends entries and heartbeats until the request ends.
func (f frames) follow(r *http.Request, entries <-chan entry, text func(entry) string) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	var err error
	for err == nil {
		select {
		case e, running := <-entries:
			if !running {
				return nil
			}
			piece := text(e)
			for range len(entries) { // send the queued entries together
				piece += text(<-entries)
			}
			if piece != "" {
				err = f.write(piece)
			}
		case <-ticker.C:
			err = f.beat()
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}

// streamExport handles monitor/export. It is called without the lock.
func (a *Agent) streamExport(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	onDisk, err := boolFrom(query, "on_disk", "Unknown value for on-disk")
	if err != nil {
		return err
	}
	follow, err := boolFrom(query, "follow", "Unknown value for follow")
	if err != nil {
		return err
	}
	service := query.Get("service_name")
	since := 72 * time.Hour
	if text := query.Get("logs_since"); text != "" {
		if since, err = time.ParseDuration(text); err != nil {
			return refusef(400, "Unknown value for logs-since: %v", err)
		}
	}
	plain, err := boolFrom(query, "plain", "Unknown value for plain")
	if err != nil {
		return err
	}
	switch {
	case query.Get("node_id") != "" && query.Get("server_id") != "":
		return errTwoTargets
	case onDisk && service != "":
		return refusef(400, "Cannot target journald and nomad log file simultaneously")
	case !onDisk && service == "":
		return refusef(400, "Either -service-name or -on-disk must be set")
	case onDisk && follow:
		return refusef(400, "Cannot follow log file")
	case service != "" && !strings.Contains(service, "nomad"):
		return refusef(422, "service name must include 'nomad")
	case service != "" && !systemdName.MatchString(service):
		return refusef(422, "%s does not meet systemd conventions", service)
	}
	out := frames{w, plain}
	out.begin()
	target, passedOn, err := a.streamTarget(w, r)
	if err != nil {
		return err
	}
	if passedOn {
		// Servers forward this to another server as a request for monitor.
		return a.stream(out, r, target, slices.Index(levels, "info"), false)
	}
	if onDisk && target.logFile == "" {
		return refusef(400, "No nomad log file defined")
	}
	mu.Lock()
	history := slices.Clone(target.history)
	entries, stop := target.subscribe()
	mu.Unlock()
	defer stop()
	sent := false
	for _, e := range history {
		if onDisk || time.Since(e.at) <= since {
			if out.write(e.text()) != nil {
				return nil
			}
			sent = true
		}
	}
	if !onDisk && !sent && !follow {
		out.write("-- No entries --\n") // as journalctl prints it
	}
	if follow {
		return out.follow(r, entries, func(e entry) string { return e.text() })
	}
	return nil
}

// systemdName matches valid names of systemd services.
var systemdName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+$`)

var errTwoTargets = refusef(400, "Cannot target node and server simultaneously")

// streamTarget returns the agent whose log a request is for, after a check of its token.
//
// An agent in client mode ignores server_id and streams its own log. passedOn reports whether one
// server forwarded the request to another.
func (a *Agent) streamTarget(w http.ResponseWriter, r *http.Request) (found *Agent, passedOn bool, err error) {
	q, complaint := a.parse(r)
	complain(w, complaint)
	mu.Lock()
	defer mu.Unlock()
	if err := a.authorize(r, streamed, agentRead); err != nil {
		return nil, false, err
	}
	values := r.URL.Query()
	id, name := values.Get("node_id"), values.Get("server_id")
	if a.isLocalNode(id) || id == "" && !a.server {
		return a, false, nil
	}
	server := a
	if !a.server {
		if server = a.upstream(); server == nil {
			_, err := ask(a, func(*Agent) (any, error) { return nil, nil })
			return nil, false, refusef(500, "%s", strings.TrimPrefix(err.Error(), "rpc error: failed to get conn: "))
		}
	}
	switch {
	case id != "":
		node, _, err := server.findNode(id)
		var f *refusal
		if errors.As(err, &f) {
			return nil, false, refusef(500, "RPC Error:: %d,%s", f.status, f.text)
		}
		return node, false, err
	case name != "":
		other, err := server.forwardFor(name, q.region)
		if err != nil {
			return nil, false, refusef(400, "%s", err)
		}
		if other != nil {
			return other, true, nil
		}
	}
	return server, false, nil
}

func boolOf(text, complaint string) (bool, error) {
	if text == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, refusef(400, "%s: %v", complaint, err)
	}
	return value, nil
}

func boolFrom(query url.Values, name, complaint string) (bool, error) {
	text := query.Get(name)
	return boolOf(text, fmt.Sprintf("%s: Failed to parse value of %q (%s) as a bool", complaint, name, text))
}
