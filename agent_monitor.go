package nomad

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// LogLevel is the level of a log entry.
type LogLevel string

// The levels of log entries, from the one that says most.
const (
	LevelTrace LogLevel = "trace"
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
)

// MonitorOptions says which log to stream, and how.
type MonitorOptions struct {
	Level    LogLevel // the lowest level to send; empty means LevelInfo
	JSON     bool     // lines of JSON, for LogStream.Entries, in place of text
	Location bool     // the source file and line with each entry
	Target   Target   // the agent whose log it is; the zero Target is the one that is called, as is any server to agents in client mode
}

var monitorEndpoint = endpoint{name: "Monitor", method: http.MethodGet, path: "/v1/agent/monitor", acl: "agent:read", since: "0.10.2"}

// Monitor streams an agent's log, beginning now, until the context ends or the stream is closed. It returns when the
// agent has begun to send, which takes up to a second, within the limit of WithTimeout. The stream uses a connection
// of its own, beside those of WithMaxConns.
//
// It needs an agent of any role and an ACL token with agent:read. A token that the agent does not know is
// ErrPermissionDenied and ErrInvalidToken, although the agent answers it with an empty stream. A target that it does
// not know is ErrNotFound, an unknown level ErrInvalidArgument before anything is sent. It makes the call
// GET /v1/agent/monitor.
func (a *Agent) Monitor(ctx context.Context, opts MonitorOptions) (*LogStream, error) {
	query := url.Values{}
	if opts.Level != "" {
		levels := []LogLevel{LevelTrace, LevelDebug, LevelInfo, LevelWarn, LevelError}
		if !slices.Contains(levels, opts.Level) {
			return nil, invalidArgument("Monitor", "level %q: want one of %q", opts.Level, levels)
		}
		query.Set("log_level", string(opts.Level))
	}
	if opts.JSON {
		query.Set("log_json", "true")
	}
	if opts.Location {
		query.Set("log_include_location", "true")
	}
	if err := opts.Target.addTo("Monitor", query); err != nil {
		return nil, err
	}
	return a.client.openLog(ctx, monitorEndpoint.to(query))
}

// MonitorExportOptions says which stored log to send. Either OnDisk or Service must be given.
type MonitorExportOptions struct {
	OnDisk  bool          // the agent's log file, as its setting log_file names it
	Service string        // the journal of a systemd service; its name must have nomad in it
	Since   time.Duration // how far to look back in the journal, in whole seconds; 0 means 72 h
	Follow  bool          // go on with what is added to the journal; not with OnDisk
	Target  Target        // the agent whose log it is; see MonitorOptions
}

var monitorExportEndpoint = endpoint{name: "MonitorExport", method: http.MethodGet, path: "/v1/agent/monitor/export", acl: "agent:read", since: "1.10.4"}

// MonitorExport streams what an agent's log has been, from its log file or from systemd's journal. The stream ends
// where the log does, unless Follow is set. It returns when the agent has begun to send.
//
// It needs an agent of any role of Nomad 1.10.4 or later, or fails with ErrUnsupported, and an ACL token with
// agent:read. Options that do not go together are ErrInvalidArgument before anything is sent; an agent without a log
// file is too. It makes the call GET /v1/agent/monitor/export.
func (a *Agent) MonitorExport(ctx context.Context, opts MonitorExportOptions) (*LogStream, error) {
	query := url.Values{}
	switch {
	case opts.OnDisk && opts.Service != "":
		return nil, invalidArgument("MonitorExport", "OnDisk and Service do not go together")
	case !opts.OnDisk && opts.Service == "":
		return nil, invalidArgument("MonitorExport", "want OnDisk or Service")
	case opts.OnDisk && opts.Follow:
		return nil, invalidArgument("MonitorExport", "OnDisk and Follow do not go together")
	case opts.Service != "" && (!isName(opts.Service) || !strings.Contains(opts.Service, "nomad") || len(opts.Service) > 255):
		return nil, invalidArgument("MonitorExport", "service %.300q: want the name of a systemd service with nomad in it", opts.Service)
	case opts.Since < 0 || opts.Since%time.Second != 0:
		return nil, invalidArgument("MonitorExport", "since %v: want whole seconds, 0 or more", opts.Since)
	}
	if opts.OnDisk {
		query.Set("on_disk", "true")
	} else {
		query.Set("service_name", opts.Service)
	}
	if opts.Since > 0 {
		query.Set("logs_since", opts.Since.String())
	}
	if opts.Follow {
		query.Set("follow", "true")
	}
	if err := opts.Target.addTo("MonitorExport", query); err != nil {
		return nil, err
	}
	return a.client.openLog(ctx, monitorExportEndpoint.to(query))
}

const (
	maxFrame = 1 << 20 // bytes of a frame on the wire; agents send some 90 kB at most
	maxLine  = 1 << 20 // bytes of a line
)

// LogStream is the text of an agent's log, as it comes. Read it with one of Read, Lines and Entries, and close it; a
// loop over Lines or Entries closes it when it ends, in whatever way. It keeps no more than a frame and a line in memory.
//
// It ends with the context of the call that made it, and with ErrStreamStalled when nothing, not even a heartbeat, has
// come for 10 s while it was read. All but Close must be called from one goroutine at a time.
type LogStream struct {
	stream *stream
	dec    *jsontext.Decoder
	budget *budgetReader
	frame  logFrame
	rest   []byte // of the frame's data
	lines  *bufio.Reader
	err    error
}

// logFrame is a piece of a log on the wire. One without data is a heartbeat.
type logFrame struct{ Data []byte }

// openLog opens a log and reads its first frame.
func (c *Client) openLog(ctx context.Context, r *request) (*LogStream, error) {
	s, err := c.open(ctx, r, c.settings.timeout)
	if err != nil {
		return nil, err
	}
	l := &LogStream{stream: s, budget: &budgetReader{r: s.plain}}
	l.dec = jsontext.NewDecoder(l.budget, decodeOptions)
	l.lines = bufio.NewReaderSize(readerFunc(l.read), 16<<10)
	err = l.next()
	if s.head.Stop() && err == nil {
		return l, nil
	}
	if err == nil { // the limit was reached at the same moment
		err = s.explain(context.DeadlineExceeded)
	}
	l.Close()
	if err != io.EOF {
		return nil, err
	}
	if c.settings.token != "" {
		return nil, c.apiError(r, http.StatusOK, "the agent ended the log before it began, as it does when it does not know the token",
			ErrInvalidToken, ErrPermissionDenied)
	}
	return nil, c.callError(r, fmt.Errorf("%w: the log is empty", ErrInvalidResponse))
}

// next reads one frame.
func (l *LogStream) next() error {
	return l.stream.waiting(func() error {
		l.budget.left = maxFrame
		l.frame.Data = l.frame.Data[:0]
		if kind := l.dec.PeekKind(); kind != '{' && kind != jsontext.KindInvalid {
			return fmt.Errorf("%w: a frame begins with %q", ErrInvalidResponse, kind)
		}
		err := json.UnmarshalDecode(l.dec, &l.frame)
		l.rest = l.frame.Data
		switch {
		case err == nil, err == io.EOF:
			return err
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: the log was cut short: %w", ErrInvalidResponse, io.ErrUnexpectedEOF)
		case errors.As(err, new(*jsontext.SyntacticError)), errors.As(err, new(*json.SemanticError)),
			errors.As(err, new(base64.CorruptInputError)):
			return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
		}
		return err
	})
}

// read gives the text of the frames.
func (l *LogStream) read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		if l.err = l.next(); l.err != nil {
			l.Close()
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// Read reads the log's text. At the end of a log that has one it gives io.EOF. When the agent goes away in the middle of
// its work the error says so.
func (l *LogStream) Read(p []byte) (int, error) { return l.lines.Read(p) }

// Close ends the stream and its connection. It can be called from another goroutine than the one that reads, which then
// gets ErrClosed, and again. The error is always nil.
func (l *LogStream) Close() error { return l.stream.Close() }

// Lines gives the log's lines, without what ends them, however they were spread over frames. A line above 1 MiB comes in
// pieces. An error that ends the log comes last; the end of the log itself, and Close, are none.
func (l *LogStream) Lines() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		defer l.Close()
		for {
			line, err := l.line()
			if line != "" || err == nil {
				if !yield(line, nil) {
					return
				}
			}
			if err != nil {
				if err != io.EOF && !errors.Is(err, ErrClosed) {
					yield("", err)
				}
				return
			}
		}
	}
}

// line reads to the end of a line.
func (l *LogStream) line() (string, error) {
	var long []byte
	for {
		piece, err := l.lines.ReadSlice('\n')
		if err == nil && long == nil {
			return trimLine(piece), nil
		}
		long = append(long, piece...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(long) < maxLine:
		case errors.Is(err, bufio.ErrBufferFull):
			return string(long), nil
		case err == nil:
			return trimLine(long), nil
		default:
			return trimLine(long), err
		}
	}
}

// trimLine takes away what ends a line. The last one may not be ended, and then a carriage return is part of it.
func trimLine(line []byte) string {
	text, ended := strings.CutSuffix(string(line), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	return text
}

// LogEntry is an entry of a log in JSON.
type LogEntry struct {
	Time    time.Time      // when it was written; zero if the line does not tell
	Level   LogLevel       // empty if the line does not tell
	Module  string         // the part of Nomad that wrote it, such as nomad.raft
	Message string         // what happened, or the whole line when it is not an entry in JSON
	Fields  map[string]any // what else was written, by name; nil when there is nothing
}

// Entries gives the log's entries. It needs a stream that was opened with MonitorOptions.JSON; a line that is not an
// entry in JSON becomes one that has only a message. An error comes as with Lines.
func (l *LogStream) Entries() iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		for line, err := range l.Lines() {
			if err != nil {
				yield(LogEntry{}, err)
				return
			}
			if !yield(parseEntry(line), nil) {
				return
			}
		}
	}
}

// parseEntry reads an entry as Nomad's logger writes it.
func parseEntry(line string) LogEntry {
	var fields map[string]any
	if !strings.HasPrefix(line, "{") ||
		json.Unmarshal([]byte(line), &fields, decodeOptions, jsontext.AllowDuplicateNames(true)) != nil {
		return LogEntry{Message: line}
	}
	take := func(name string) string {
		text, ok := fields[name].(string)
		if ok {
			delete(fields, name)
		}
		return text
	}
	e := LogEntry{Level: LogLevel(take("@level")), Module: take("@module"), Message: take("@message")}
	if stamp, ok := fields["@timestamp"].(string); ok {
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			e.Time = at
			delete(fields, "@timestamp")
		}
	}
	if len(fields) > 0 {
		e.Fields = fields
	}
	return e
}

// String is the entry on one line, as in Nomad's log.
func (e LogEntry) String() string {
	var b strings.Builder
	if !e.Time.IsZero() {
		b.WriteString(e.Time.Format("2006-01-02T15:04:05.000Z07:00 "))
	}
	if e.Level != "" {
		fmt.Fprintf(&b, "%-7s ", "["+strings.ToUpper(oneLine(string(e.Level)))+"]")
	}
	if e.Module != "" {
		b.WriteString(oneLine(e.Module) + ": ")
	}
	b.WriteString(oneLine(e.Message))
	for _, name := range sortedNames(e.Fields) {
		text, ok := e.Fields[name].(string)
		if !ok {
			text = fmt.Sprint(e.Fields[name])
		} else if text == "" || strings.ContainsAny(text, " \"=") {
			text = strconv.Quote(text)
		}
		b.WriteString(" " + oneLine(name) + "=" + oneLine(text))
	}
	return b.String()
}

// oneLine escapes what does not print.
func oneLine(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// budgetReader reads no more than its budget.
type budgetReader struct {
	r    io.Reader
	left int
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: a frame above %d bytes", ErrInvalidResponse, maxFrame)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
