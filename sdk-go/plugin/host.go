package plugin

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Host is who has called, for as long as the call runs: what the contract's services are (rule R18 of ferrule.h). Whoever runs a Plugin has one. It is an alias of
// an interface without a name, so that a package that is not to import this one can have the same type. Its methods may be called from any goroutine.
type Host = interface {
	// Ask calls the host function with this name: one of the plug-in's imports or wants. out is its result, or a message where the status is not 0, and the caller's.
	Ask(ctx context.Context, name string, in []byte) (out []byte, status int32)
	// Next runs what stands behind a hook that wraps others (R33).
	Next(ctx context.Context, in []byte) (out []byte, status int32)
	// Info answers a key (R26).
	Info(ctx context.Context, key string) (value string, status int32)
	// Log writes a line; level is 1 for an error to 5 for a trace, fields are key=value texts, each closed by a NUL.
	Log(ctx context.Context, level int32, text string, fields []byte)
	// Progress says how far the call is (R30).
	Progress(done, total uint64)
	// Read reads from the call's input stream (R24): n is 0 at its end.
	Read(p []byte) (n int, status int32)
	// Write writes to its output stream.
	Write(p []byte) (status int32)
	// Background returns a context and a Host for what happens between calls (R27); of Start alone. host is nil where there is none.
	Background() (ctx context.Context, host any)
}

// call is one call of the plug-in, which its context names. What is asked of the host is asked through it, until the function has returned.
type call struct {
	context.Context
	host   Host
	plugin *Plugin
	inside atomic.Int32 // how many goroutines are in the host for it; once it is over, overBit is set
}

const overBit = -1 << 30

// key is the key of the call in a context.
type key struct{}

// Value returns what the caller's context has, and the call.
func (c *call) Value(k any) any {
	if k == (key{}) {
		return c
	}
	return c.Context.Value(k)
}

// AfterFunc has package context follow the caller's context as that one allows, without a goroutine of its own.
func (c *call) AfterFunc(f func()) func() bool { return context.AfterFunc(c.Context, f) }

// enter returns the call that a context is of, nil where that is over, or it is of none. leave follows.
func enter(ctx context.Context) *call {
	c, _ := ctx.Value(key{}).(*call)
	if c == nil {
		return nil
	}
	if c.inside.Add(1) < 0 {
		c.inside.Add(-1)
		return nil
	}
	return c
}

func (c *call) leave() { c.inside.Add(-1) }

// over lets nobody use the call's host any more, and waits for those who do: a frame is the host's again when the function has returned. What they wait for ends with the caller's
// context at the longest. Of a host that lasts, which has a method End, nobody has to wait: it is told so, and has them come back.
func (c *call) over() {
	if c.inside.CompareAndSwap(0, overBit) {
		return
	}
	c.inside.Add(overBit)
	if lasting, ok := c.host.(interface{ End() }); ok {
		lasting.End()
		return
	}
	for pause := time.Microsecond; c.inside.Load() != overBit; pause = min(2*pause, time.Millisecond) {
		runtime.Gosched()
		time.Sleep(pause)
	}
}

func refused(name string) *Refused {
	return &Refused{name, Misuse, "found a context that is of no call in progress, expected the one that the plug-in's function was given, before it has returned"}
}

// Ask calls the host function with this name. ctx is the one that the plug-in's function was given, or comes from it. The result is the caller's. The error
// is a *Refused, with Misuse where ctx is of no call in progress.
func Ask(ctx context.Context, name string, in []byte) ([]byte, error) {
	c := enter(ctx)
	if c == nil {
		return nil, refused(name)
	}
	defer c.leave()
	return answer(name)(c.host.Ask(ctx, name, in))
}

// Next runs what stands behind a hook that wraps others. It is otherwise as Ask.
func Next(ctx context.Context, in []byte) ([]byte, error) {
	c := enter(ctx)
	if c == nil {
		return nil, refused("next")
	}
	defer c.leave()
	return answer("next")(c.host.Next(ctx, in))
}

func answer(name string) func([]byte, int32) ([]byte, error) {
	return func(out []byte, status int32) ([]byte, error) {
		if status != 0 {
			return nil, &Refused{name, Status(status), string(out)}
		}
		return out, nil
	}
}

// Info answers a key. It is otherwise as Ask.
func Info(ctx context.Context, key string) (string, error) {
	c := enter(ctx)
	switch {
	case c == nil:
		return "", refused("info")
	case key == "" || len(key) > 256 || !utf8.ValidString(key):
		c.leave()
		return "", &Refused{"info", Misuse, "found a key that is not UTF-8 of 1 to 256 bytes"}
	}
	defer c.leave()
	value, status := c.host.Info(ctx, key)
	if status != 0 {
		return "", &Refused{key, Status(status), value}
	}
	return value, nil
}

// Progress says how far the call is. Where ctx is of no call in progress, nobody is told.
func Progress(ctx context.Context, done, total uint64) {
	if c := enter(ctx); c != nil {
		defer c.leave()
		c.host.Progress(done, total)
	}
}

// Background returns a context for what the plug-in does between calls; of Start's context alone. It ends before Stop begins. The error is a *Refused: with
// Unsupported where the form has no threads, as a WebAssembly module.
func Background(ctx context.Context) (context.Context, error) {
	c := enter(ctx)
	if c == nil {
		return nil, refused("background")
	}
	defer c.leave()
	between, host := c.host.Background()
	h, ok := host.(Host)
	if !ok {
		return nil, &Refused{"background", Unsupported, "nothing goes on between calls here: a start function asks for it (rule R27), and a WebAssembly module has no threads for it"}
	}
	return &call{Context: between, host: h, plugin: c.plugin}, nil
}

// Input is the call's input stream; Output its output stream. Their errors are *Refused, as rule R24 says which.
func Input(ctx context.Context) io.Reader { return input{ctx} }

// Output is the call's output stream.
func Output(ctx context.Context) io.Writer { return output{ctx} }

type input struct{ ctx context.Context }

func (i input) Read(p []byte) (int, error) {
	c := enter(i.ctx)
	if c == nil {
		return 0, refused("the input stream")
	}
	defer c.leave()
	if len(p) == 0 {
		return 0, nil
	}
	n, status := c.host.Read(p)
	switch {
	case status != 0:
		return 0, &Refused{Name: "the input stream", Status: Status(status)}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

type output struct{ ctx context.Context }

func (o output) Write(p []byte) (int, error) {
	c := enter(o.ctx)
	if c == nil {
		return 0, refused("the output stream")
	}
	defer c.leave()
	if len(p) == 0 {
		return 0, nil
	}
	if status := c.host.Write(p); status != 0 {
		return 0, &Refused{Name: "the output stream", Status: Status(status)}
	}
	return len(p), nil
}

// log writes a line of the call's.
func (c *call) log(level slog.Level, text string, attrs ...slog.Attr) {
	c.host.Log(c, levelOf(level), text, Fields(nil, "", attrs))
}

// levelOf is a level of slog's as the contract counts them; what is below debug is a trace.
func levelOf(l slog.Level) int32 {
	switch {
	case l >= slog.LevelError:
		return 1
	case l >= slog.LevelWarn:
		return 2
	case l >= slog.LevelInfo:
		return 3
	case l >= slog.LevelDebug:
		return 4
	}
	return 5
}

var clean = strings.NewReplacer("\x00", "\uFFFD")

// Fields appends the fields of a log line (R31) for attributes; prefix is that of the groups around them. Their values are texts, and the keys of a group
// have its name before them.
func Fields(to []byte, prefix string, attrs []slog.Attr) []byte {
	for _, a := range attrs {
		value := a.Value.Resolve()
		if a.Equal(slog.Attr{}) { // as slog.Handler asks
			continue
		}
		if value.Kind() == slog.KindGroup {
			inner := prefix
			if a.Key != "" {
				inner += a.Key + "."
			}
			to = Fields(to, inner, value.Group())
			continue
		}
		to = append(to, strings.ReplaceAll(clean.Replace(prefix+a.Key), "=", "_")...)
		to = append(to, '=')
		to = append(append(to, clean.Replace(value.String())...), 0)
	}
	return to
}

// Logger is a slog.Handler that writes to the log of the call in the context that a line has, such as of slog.Logger.InfoContext; and where that has none, to the
// call in base.
type handler struct {
	base   context.Context
	prefix string
	fields []byte
}

// Handler returns a handler whose lines go to the plug-in's log: of the call in a line's context, or, where that has none, of the one in ctx. Where that
// one is over, the line is dropped.
func Handler(ctx context.Context) slog.Handler { return &handler{base: ctx} }

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	c := enter(ctx)
	if c == nil {
		if c, ctx = enter(h.base), h.base; c == nil {
			return nil
		}
	}
	defer c.leave()
	fields := append([]byte(nil), h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		fields = Fields(fields, h.prefix, []slog.Attr{a})
		return true
	})
	c.host.Log(ctx, levelOf(r.Level), clean.Replace(strings.TrimRight(r.Message, "\r\n")), fields)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.base, h.prefix, Fields(append([]byte(nil), h.fields...), h.prefix, attrs)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &handler{h.base, h.prefix + name + ".", h.fields}
}
