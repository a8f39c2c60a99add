package loader

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// services is the host side of one plug-in, as its engine sees it (engine.Host).
type services struct {
	logger  *slog.Logger
	plugin  slog.Attr    // its name, with each line
	imports []abi.Symbol // by ordinal
	funcs   []HostFunc   // by ordinal; none is nil
}

func newServices(d *abi.Description, o *options) *services {
	s := &services{logger: o.logger, plugin: slog.String("plugin", d.Manifest.Name), imports: d.Imports}
	for _, imp := range d.Imports {
		s.funcs = append(s.funcs, o.hostFuncs[imp.Name])
	}
	return s
}

// Call runs a host function and turns its error into a status.
func (s *services) Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	out, err := s.funcs[ordinal](ctx, in)
	if err != nil {
		message, status := engine.Failure(err)
		if e, ok := err.(*hostCodecError); ok {
			message = []byte(e.of(s.imports[ordinal]))
		}
		return message, status
	}
	return out, abi.StatusOK
}

// Panicked turns a host function's panic into a status, and logs where it came from.
func (s *services) Panicked(ctx context.Context, ordinal uint32, value any) ([]byte, abi.Status) {
	text := fmt.Sprintf("host function %s panicked: %v", s.imports[ordinal].Name, value)
	s.log(ctx, slog.LevelError, text, slog.String("stack", string(debug.Stack())))
	return []byte(text), abi.StatusFailed
}

// Log writes one line of the plug-in's.
func (s *services) Log(ctx context.Context, level abi.Level, text []byte) {
	to := slog.LevelInfo
	switch level {
	case abi.LogError:
		to = slog.LevelError
	case abi.LogWarn:
		to = slog.LevelWarn
	case abi.LogDebug:
		to = slog.LevelDebug
	case abi.LogTrace:
		to = LevelTrace
	}
	defer func() { _ = recover() }() // as in log; the handler is asked here already
	if s.logger.Enabled(ctx, to) {
		s.logger.LogAttrs(ctx, to, strings.ToValidUTF8(string(text), "\uFFFD"), s.plugin)
	}
}

// LevelTrace is the slog level of a plug-in's FERRULE_LOG_TRACE lines, below slog.LevelDebug.
const LevelTrace = slog.LevelDebug - 4

// log writes a line; a handler that panics must not unwind through the plug-in.
func (s *services) log(ctx context.Context, level slog.Level, text string, attrs ...slog.Attr) {
	defer func() { _ = recover() }()
	s.logger.LogAttrs(ctx, level, text, append([]slog.Attr{s.plugin}, attrs...)...)
}
