package nomad

import (
	"context"
	"log/slog"
)

// logger is where a client tells what it does. Only WithLogger makes one of a *slog.Logger, so that the linker leaves what
// package log/slog writes with, a quarter of a megabyte, out of a program that does not call WithLogger.
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
