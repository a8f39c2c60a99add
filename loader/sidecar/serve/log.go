package serve

import (
	"context"
	"log/slog"
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// logger hands the plug-in's log lines to the host.
type logger struct {
	s     *session
	attrs []slog.Attr
	group string // of what comes, with its dot
}

func levelOf(l slog.Level) abi.Level {
	switch {
	case l >= slog.LevelError:
		return abi.LogError
	case l >= slog.LevelWarn:
		return abi.LogWarn
	case l >= slog.LevelInfo:
		return abi.LogInfo
	case l >= slog.LevelDebug:
		return abi.LogDebug
	}
	return abi.LogTrace
}

// Enabled is slog.Handler's.
func (h *logger) Enabled(_ context.Context, l slog.Level) bool { return levelOf(l) <= h.s.level }

// Handle is slog.Handler's.
func (h *logger) Handle(ctx context.Context, r slog.Record) error {
	m := wire.Message{Verb: wire.Log, Level: levelOf(r.Level)}
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		m.HasFor, m.For = true, c.id
	}
	const text = wire.MaxLog / 2
	body := []byte(r.Message[:min(len(r.Message), text)])
	begin := len(body)
	field := func(a slog.Attr, group string) bool {
		if a.Key == "plugin" && group == "" { // the host says so itself
			return true
		}
		one := append([]byte(group+a.Key+"="), a.Value.Resolve().String()...)
		if len(body)+len(one)+1 <= wire.MaxLog {
			body = append(append(body, one...), 0)
		}
		return true
	}
	for _, a := range h.attrs {
		field(a, "")
	}
	r.Attrs(func(a slog.Attr) bool { return field(a, h.group) })
	m.Fields = uint64(len(body) - begin)
	return h.s.w.Send(&m, body)
}

// WithAttrs is slog.Handler's.
func (h *logger) WithAttrs(attrs []slog.Attr) slog.Handler {
	own := *h
	own.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		own.attrs = append(own.attrs, slog.Attr{Key: h.group + a.Key, Value: a.Value})
	}
	return &own
}

// WithGroup is slog.Handler's.
func (h *logger) WithGroup(name string) slog.Handler {
	own := *h
	if name != "" {
		own.group += name + "."
	}
	return &own
}
