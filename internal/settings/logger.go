package settings

import (
	"context"
	"log/slog"
	"time"
)

// Logger is the part of *slog.Logger that a Client uses. Only WithLogger converts one, so that programs without it are not
// linked with the handlers of package log/slog, a quarter of a megabyte.
type Logger interface {
	Enabled(context.Context, slog.Level) bool
	LogAttrs(context.Context, slog.Level, string, ...slog.Attr)
	Warn(string, ...any)
}

type noLogger struct{}

func (noLogger) Enabled(context.Context, slog.Level) bool                   { return false }
func (noLogger) LogAttrs(context.Context, slog.Level, string, ...slog.Attr) {}
func (noLogger) Warn(string, ...any)                                        {}

// Attempt is what is logged of an attempt of a request.
type Attempt struct {
	Method, URL string
	Number      int
	Started     time.Time
	Status      int    // 0 if there is no response
	Err         string // without secrets
}

// Log logs the attempt at level debug.
func (a Attempt) Log(ctx context.Context, logger Logger) {
	attrs := []slog.Attr{
		slog.String("method", a.Method),
		slog.String("url", a.URL),
		slog.Int("attempt", a.Number),
		slog.Duration("duration", time.Since(a.Started)),
	}
	if a.Status > 0 {
		attrs = append(attrs, slog.Int("status", a.Status))
	}
	if a.Err != "" {
		attrs = append(attrs, slog.String("error", a.Err))
	}
	logger.LogAttrs(ctx, slog.LevelDebug, "nomad request", attrs...)
}
