package nomad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nomad-go/nomad/internal/agentconn"
	"github.com/nomad-go/nomad/internal/body"
	"github.com/nomad-go/nomad/internal/logframe"
)

// LogLevel is the level of a log entry.
type LogLevel string

// The levels of log entries, from the most verbose.
const (
	LevelTrace LogLevel = "trace"
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
)

// MonitorOptions selects the log that [Agent.Monitor] streams.
type MonitorOptions struct {
	Level    LogLevel // lowest level, in upper or lower case; default LevelInfo
	JSON     bool     // lines of JSON, for LogStream.Entries, in place of text
	Location bool     // the source file and line with each entry

	// Target is the agent whose log it is; default the agent that receives the request. A client agent ignores OnServer
	// and streams its own log.
	Target Target
}

var monitorEndpoint = register(endpoint{name: "Monitor", method: http.MethodGet, path: "/v1/agent/monitor", acl: "agent:read", since: "0.10.2"})

// Monitor streams an agent's log from now on, until the context ends or the stream is closed.
//
// It returns when the agent has begun to send. That usually takes up to a second, and at most the limit of WithTimeout.
// The stream has a connection of its own in addition to those of WithMaxConns. The log has no end. If the agent or the
// target stops, or the connection is lost, the stream ends with ErrStreamEnded.
//
// It requires the ACL capability agent:read. Agents respond to an unknown token with an empty stream. Monitor
// recognizes that and returns ErrInvalidToken. An unknown target is ErrNotFound, an unknown level ErrInvalidArgument.
//
// Endpoint: GET /v1/agent/monitor
func (a *Agent) Monitor(ctx context.Context, opts MonitorOptions) (*LogStream, error) {
	query := url.Values{}
	if opts.Level != "" {
		level, err := logframe.ParseLevel(string(opts.Level))
		if err != nil {
			return nil, invalidArgument("Monitor", "Level: %v", err)
		}
		query.Set("log_level", level)
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
	return a.client.openLog(ctx, monitorEndpoint.newRequest(query), true)
}

// ParseLogLevel returns the level for a value of Nomad's setting log_level, in upper or lower case. The value warning
// means LevelWarn. The value off returns a level at which nothing is logged. Any other value is ErrInvalidArgument.
func ParseLogLevel(name string) (LogLevel, error) {
	level, err := logframe.ParseLevel(name)
	if err != nil {
		return "", invalidArgument("ParseLogLevel", "%v", err)
	}
	return LogLevel(level), nil
}

// MonitorExportOptions selects the stored log that [Agent.MonitorExport] streams. It needs either OnDisk or Service.
type MonitorExportOptions struct {
	OnDisk  bool          // the agent's log file, as its setting log_file names it
	Service string        // the journal of a systemd service, whose name must contain nomad
	Since   time.Duration // how far back to begin in the journal, in whole seconds; default 72 h; no effect with OnDisk
	Follow  bool          // continue with what is added to the journal; not with OnDisk
	Target  Target        // the agent whose log it is, as in MonitorOptions
}

var monitorExportEndpoint = register(endpoint{name: "MonitorExport", method: http.MethodGet, path: "/v1/agent/monitor/export", acl: "agent:read", since: "1.10.4"})

// MonitorExport streams an agent's past log, from its log file or from systemd's journal.
//
// It returns when the agent has begun to send. The stream ends at the end of the log. If the connection is lost before
// that, the error is ErrInvalidResponse, except between two frames behind a proxy that does not send chunks, as with
// HTTP/1.0: a loss then looks like the end. With Follow the stream continues, like one of Monitor.
//
// It requires Nomad 1.10.4 or later (ErrUnsupported) and the ACL capability agent:read. An unknown target is
// ErrNotFound. It returns ErrInvalidArgument if both or neither of OnDisk and Service are set, if Follow is set with
// OnDisk, if Service does not contain nomad or has more than 255 bytes, if Since is negative or not in whole seconds,
// if the Target is that of OnServer or OnNode with an empty string, and if the agent has no log file.
//
// Endpoint: GET /v1/agent/monitor/export
func (a *Agent) MonitorExport(ctx context.Context, opts MonitorExportOptions) (*LogStream, error) {
	query := url.Values{}
	switch {
	case opts.OnDisk && opts.Service != "":
		return nil, invalidArgument("MonitorExport", "OnDisk and Service contradict each other")
	case !opts.OnDisk && opts.Service == "":
		return nil, invalidArgument("MonitorExport", "want OnDisk or Service")
	case opts.OnDisk && opts.Follow:
		return nil, invalidArgument("MonitorExport", "OnDisk and Follow contradict each other")
	case opts.Service != "" && (!strings.Contains(opts.Service, "nomad") || len(opts.Service) > 255):
		return nil, invalidArgument("MonitorExport", "Service: %.300q: want the name of a systemd service that contains nomad", opts.Service)
	case opts.Since < 0 || opts.Since%time.Second != 0:
		return nil, invalidArgument("MonitorExport", "Since: %v: want whole seconds, 0 or more", opts.Since)
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
	return a.client.openLog(ctx, monitorExportEndpoint.newRequest(query), opts.Follow)
}

// LogStream is an agent's log. Read it with one of Read, Lines and Entries, and close it; a loop over Lines or Entries
// closes it. It keeps at most one frame and one line in memory.
//
// It ends when the context given to Monitor or MonitorExport ends. If a read or a loop waits 10 s for a whole frame,
// the stream ends with ErrStreamStalled. The time that the program takes between two reads does not count. A frame is a
// piece of the log or a heartbeat. Agents send heartbeats, so a log without new entries does not stall. All methods but
// Close must be called from one goroutine at a time.
type LogStream struct {
	stream  *stream
	frames  *logframe.Reader
	endless bool // an end is ErrStreamEnded
	text    *logframe.Text
	closed  atomic.Bool // Close was called
}

// openLog opens a log and reads its first frame.
func (c *Client) openLog(ctx context.Context, r *request, endless bool) (*LogStream, error) {
	r.deadline = time.Now().Add(c.settings.Timeout) // of all requests below
	for {
		l, err := c.tryLog(ctx, r, endless)
		switch {
		case err == nil:
			return l, nil
		case err != io.EOF:
			return nil, err
		}
		// The log ended before its first frame, as it does if the agent does not know the token.
		other, err := c.checkToken(ctx, r)
		switch {
		case err != nil:
			return nil, err
		case other:
			continue
		case endless:
			return nil, c.requestError(r, fmt.Errorf("%w before its first entry", ErrStreamEnded))
		}
		return l, nil
	}
}

// tryLog opens a log once. If the log is empty the error is io.EOF, and the LogStream is closed.
func (c *Client) tryLog(ctx context.Context, r *request, endless bool) (*LogStream, error) {
	s, err := c.open(ctx, r, c.settings.Timeout)
	if err != nil {
		return nil, err
	}
	l := &LogStream{stream: s, frames: logframe.NewReader(s.body), endless: endless}
	first, err := l.frame()
	if !s.Begun() && err == nil { // the limit was reached at the same moment
		err = context.DeadlineExceeded
	}
	l.text = logframe.NewText(first, l.next, l.ended)
	if err == nil {
		return l, nil
	}
	if err != io.EOF {
		err = l.explain(err)
	}
	l.text = logframe.NewText(nil, func() ([]byte, error) { return nil, io.EOF }, l.ended)
	l.stream.Close()
	return l, err
}

// checkToken finds out whether the token of a request is the reason for an empty log, by a request with it. It returns an
// error if that is so or cannot be found out, and reports whether the token file has another token by now.
func (c *Client) checkToken(ctx context.Context, r *request) (other bool, err error) {
	check := selfEndpoint.newRequest(nil)
	check.deadline = r.deadline
	_, err = c.do(ctx, check, new(Self))
	switch {
	case err == nil, errors.Is(err, ErrResponseTooLarge):
		other = check.token != r.token && r.refused == nil
		r.refused = append(r.refused, r.token)
		return other, nil
	case r.token != "" && (errors.Is(err, ErrPermissionDenied) || errors.Is(err, ErrInvalidResponse)):
		return false, c.apiError(r, http.StatusOK, "the agent ended the log before its first entry, as it does if it does not know the token",
			ErrInvalidToken, ErrPermissionDenied)
	case errors.Is(err, ErrInvalidResponse):
		return false, nil
	}
	return false, err
}

// frame reads a frame.
func (l *LogStream) frame() (piece []byte, err error) {
	err = l.stream.Wait(func() error {
		piece, err = l.frames.Next()
		return err
	})
	return piece, err
}

// next returns the next piece of the log. An error closes the stream.
func (l *LogStream) next() ([]byte, error) {
	piece, err := l.frame()
	if err != nil && (err != io.EOF || l.endless) {
		err = l.explain(err)
	}
	if err != nil {
		l.stream.Close()
	}
	return piece, err
}

// ended returns why the caller has ended the stream, or nil. What has arrived before that is not read any more.
func (l *LogStream) ended() error {
	cause := context.Cause(l.stream.Context)
	if cause == nil || cause == ErrClosed && !l.closed.Load() { // the latter at the end of the log
		return nil
	}
	return l.explain(cause)
}

// explain gives the error of a frame its meaning.
func (l *LogStream) explain(err error) error {
	s := l.stream
	stalled := errors.Is(s.Guard.Explain(err), ErrStreamStalled)
	var format *logframe.FormatError
	switch {
	case errors.As(err, &format) && (stalled || s.Context.Err() == nil): // it says more than the silence after it
		return s.client.requestError(s.r, l.formatError(format))
	case stalled && l.frames.Arrived():
		return s.client.requestError(s.r, fmt.Errorf("%w: a frame did not arrive whole within %v", ErrStreamStalled, stallLimit))
	case s.Context.Err() != nil:
	case err == io.EOF:
		err = ErrStreamEnded
	case errors.As(agentconn.Classify(err, nil), new(*agentconn.LostError)):
		ended := ErrInvalidResponse
		if l.endless {
			ended = ErrStreamEnded
		}
		err = fmt.Errorf("%w: the connection was lost: %w", ended, logframe.LostError{Err: err})
	default:
		err = fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	return s.explain(err)
}

// formatError gives what is in place of a frame its meaning.
func (l *LogStream) formatError(err *logframe.FormatError) error {
	r, c, message := l.stream.r, l.stream.client, err.Message
	if len(message) == logframe.MaxMessage {
		message = c.secrets(r).RemoveCut(message)
	}
	kinds := c.classify(r, http.StatusInternalServerError, message, true)
	switch page := body.CheckNoPage([]byte(message)); {
	case page != nil:
		return fmt.Errorf("%w: %w", ErrInvalidResponse, page)
	case kinds != nil:
		return c.apiError(r, http.StatusInternalServerError, message, kinds...)
	case logframe.IsMessage(message):
		return fmt.Errorf("%w: in place of a frame the log has: %s", ErrInvalidResponse, message)
	}
	return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
}

// Read reads the log as the agent wrote it: lines of text, or of JSON with MonitorOptions.JSON. At the end of a log
// from MonitorExport it returns io.EOF.
func (l *LogStream) Read(p []byte) (int, error) { return l.text.Read(p) }

// Close ends the stream and its connection. It can be called again, and from another goroutine: a Read in progress then
// fails with ErrClosed, and a loop ends. The error is always nil.
func (l *LogStream) Close() error {
	l.closed.Store(true)
	return l.stream.Close()
}

// Lines returns the log's lines without their line breaks. A line above 1 MiB is split. The sequence ends after an
// error. If the context ends, that error is the context's. The sequence ends without an error at the end of a log from
// MonitorExport, and after Close.
func (l *LogStream) Lines() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		defer l.Close()
		l.text.Lines(ErrClosed)(yield)
	}
}
