package nomad

import (
	"context"
	"log/slog"
)

// logger is the part of *slog.Logger that a Client uses. Only WithLogger converts one, so that programs without it are not
// linked with the handlers of package log/slog, a quarter of a megabyte.
type logger interface {
	Enabled(context.Context, slog.Level) bool
	LogAttrs(context.Context, slog.Level, string, ...slog.Attr)
	Warn(string, ...any)
}

// noLogger is the logger of a client that was given none.
type noLogger struct{}

func (noLogger) Enabled(context.Context, slog.Level) bool                   { return false }
func (noLogger) LogAttrs(context.Context, slog.Level, string, ...slog.Attr) {}
func (noLogger) Warn(string, ...any)                                        {}
