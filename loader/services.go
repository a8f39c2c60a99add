package loader

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
)

// services is the host side of one plug-in, as its engine sees it (engine.Host).
type services struct {
	logger *slog.Logger
	plugin slog.Attr         // its name, with each line
	names  []abi.Symbol      // of imports and wants, by ordinal
	funcs  []HostFunc        // by ordinal; nil of a want that is not offered
	info   map[string]string // see WithPluginInfo
	data   string            // see WithDataFolder; may be empty
	overdue
}

func newServices(d *abi.Description, o *options, words engine.Words) *services {
	s := &services{logger: o.logger, plugin: slog.String(pluginKey, d.Manifest.Name), names: d.Ordinals(), info: o.info, data: o.data}
	for _, f := range s.names {
		s.funcs = append(s.funcs, o.hostFuncs[f.Name])
	}
	s.tell = s.tellsOf(o.overdue, words.Overdue)
	return s
}

// Call runs a host function and turns its error into a status.
func (s *services) Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	fn := HostFunc(nil)
	switch ordinal {
	case engine.Info:
		return s.answer(ctx, string(in))
	case engine.Next:
		if call, ok := ctx.(interface{ Next() any }); ok {
			fn, _ = call.Next().(HostFunc)
		}
	default:
		fn = s.funcs[ordinal]
	}
	if fn == nil {
		return nil, abi.StatusUnsupported // R23, R33
	}
	out, err := fn(ctx, slices.Clip(in)) // what is appended to in is memory of its own
	if err != nil {
		message, status := engine.Failure(err)
		if e, ok := err.(*hostCodecError); ok && ordinal != engine.Next {
			message = []byte(e.of(s.names[ordinal]))
		}
		return message, status
	}
	return out, abi.StatusOK
}

// name says in words which host function panicked.
func (s *services) name(ordinal uint32) string {
	switch ordinal {
	case engine.Info:
		return "the context of the call"
	case engine.Next:
		return "what stands behind the wrapper"
	default:
		return "host function " + s.names[ordinal].Name
	}
}

// Panicked turns a host function's panic into a status, and logs where it came from.
func (s *services) Panicked(ctx context.Context, ordinal uint32, value any) ([]byte, abi.Status) {
	text := fmt.Sprintf("%s panicked: %s", s.name(ordinal), panics.Text(value))
	s.log(ctx, slog.LevelError, text, slog.String("stack", string(debug.Stack())))
	return []byte(text), abi.StatusFailed
}

// Log writes one line of the plug-in's.
func (s *services) Log(ctx context.Context, level abi.Level, text, fields []byte) {
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
		s.logger.LogAttrs(ctx, to, strings.ToValidUTF8(string(count.Cut(text, maxLine)), "\uFFFD"), s.attributes(fields)...)
	}
}

// pluginKey is the key of the attribute that says which plug-in wrote a line.
const pluginKey = "plugin"

// What a plug-in writes in one line is bounded: an attribute takes many times as much memory as a short field, and what handles the line copies it, often
// several times.
const (
	maxLine   = 4 << 20 // bytes of its text, and of its fields
	maxFields = 256
)

// attributes returns a line's attributes: the plug-in's name, and its fields (R31), none of which can pass for the name.
func (s *services) attributes(fields []byte) []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 8), s.plugin)
	cut := len(fields) > maxLine
	for text := strings.ToValidUTF8(string(fields[:min(len(fields), maxLine)]), "\uFFFD"); text != ""; {
		if len(attrs) > maxFields || cut && !strings.Contains(text, "\x00") { // the last of them may not be whole
			cut = true
			break
		}
		var field string
		field, text, _ = strings.Cut(text, "\x00")
		key, value, _ := strings.Cut(field, "=")
		if key == pluginKey {
			key = "field." + key
		}
		attrs = append(attrs, slog.String(key, value))
	}
	if cut {
		attrs = append(attrs, slog.String("left out", "fields from here on: a line has "+count.Of(maxFields, "field")+" of "+count.Of(maxLine, "byte")+" at most"))
	}
	return attrs
}

// LevelTrace is the slog level of a plug-in's FERRULE_LOG_TRACE lines, below slog.LevelDebug.
const LevelTrace = slog.LevelDebug - 4

// log writes a line; a handler that panics must not unwind through the plug-in.
func (s *services) log(ctx context.Context, level slog.Level, text string, attrs ...slog.Attr) {
	defer func() { _ = recover() }()
	s.logger.LogAttrs(ctx, level, text, append([]slog.Attr{s.plugin}, attrs...)...)
}
