package builtin

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/internal/manifest"
)

// Source is a plug-in whose source says how it is called: what `ferrule gen` writes, a *plugin.Plugin of the module sdk-go, is one. Neither module imports the
// other, so that a plug-in needs no more than sdk-go; what its methods have to keep is said there.
type Source interface {
	Manifest() []byte // as a sidecar's: docs/wire.md, W5
	Function(name string, hook bool) (n int, ok bool)
	Call(ctx context.Context, h Host, state any, n int, in []byte) (out []byte, status int32)
	Start(ctx context.Context, h Host, config []byte) (state any, out []byte, status int32)
	Stop(ctx context.Context, h Host, state any) (out []byte, status int32)
	Configure(ctx context.Context, h Host, state any, config []byte) (out []byte, status int32)
	Save(ctx context.Context, h Host, state any) (out []byte, status int32)
	Resume(ctx context.Context, h Host, state any, saved []byte) (out []byte, status int32)
}

// Host is what a Source asks of who has called it, for as long as the call runs, or what Background is about. It is an alias of an interface without a name, as plugin.Host of the module sdk-go is: the two are one type.
type Host = interface {
	Ask(ctx context.Context, name string, in []byte) (out []byte, status int32)
	Next(ctx context.Context, in []byte) (out []byte, status int32)
	Info(ctx context.Context, key string) (value string, status int32)
	Log(ctx context.Context, level int32, text string, fields []byte)
	Progress(done, total uint64)
	Read(p []byte) (n int, status int32)
	Write(p []byte) (status int32)
	Background() (ctx context.Context, host any)
}

// From returns a plug-in that was written with the module sdk-go, compiled into the host:
//
//	p, err := builtin.Open(builtin.From(vowels.Plugin))
//
// It is what the plug-in is as a sidecar, a WebAssembly module or a library, with the same functions, hooks, imports, texts and statuses; a call costs as little as one of a
// Func does. What is wrong with its manifest, Open says. Each call of From returns a plug-in of its own, which the caller may change before it is opened. Of nil it makes nil,
// which Open refuses.
func From(p Source) *Plugin {
	if v := reflect.ValueOf(p); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	about, err := manifest.Parse(p.Manifest())
	if err != nil {
		wrong := err.(*manifest.Error) // which its errors are
		return &Plugin{wrong: unlike(wrong.Found, fmt.Sprintf("%s (rule %s of docs/wire.md)", wrong.Expected, wrong.Rule))}
	}
	m := about.Manifest
	made := &Plugin{Name: m.Name, Version: m.Version, Description: m.Description, Threads: m.Threads, StateFormat: m.State, ConfigSchema: about.ConfigSchema,
		Keys: others(m.Keys, "ferrule", "name", "version", "description", "threads", "state")}
	for _, kind := range []struct {
		hook bool
		from []abi.Symbol
		to   *[]Function
	}{{false, about.Funcs, &made.Funcs}, {true, about.Hooks, &made.Hooks}} {
		for _, s := range kind.from {
			n, ok := p.Function(s.Name, kind.hook)
			if !ok {
				return &Plugin{wrong: unlike(fmt.Sprintf("the function %s in the manifest of %q, and not in its Function", s.Name, m.Name), "it in both")}
			}
			call := func(ctx context.Context, in []byte) ([]byte, error) {
				if c, own := ctx.(*pool.Call); own { // as it comes where nobody has wrapped the function
					return came(p.Call(c.Context(), host{c}, c.State(), n, in))
				}
				h, state, err := of(ctx)
				if err != nil {
					return nil, err
				}
				return came(p.Call(ctx, h, state, n, in))
			}
			*kind.to = append(*kind.to, Function{Name: s.Name, Doc: s.Doc, In: s.In, Out: s.Out, Schema: s.Schema, Stream: s.Stream,
				Keys: others(s.Keys, "doc", "in", "out", "schema", "stream"), Call: call, made: call})
		}
	}
	for _, kind := range []struct {
		from []abi.Symbol
		to   *[]string
	}{{about.Imports, &made.Imports}, {about.Wants, &made.Wants}} {
		for _, s := range kind.from {
			*kind.to = append(*kind.to, s.Name)
			if keys := others(s.Keys); keys != nil {
				if made.ImportKeys == nil {
					made.ImportKeys = make(map[string]map[string]string)
				}
				made.ImportKeys[s.Name] = keys
			}
		}
	}
	if about.HasStart {
		made.Start = func(ctx context.Context, config []byte) (any, error) {
			h, _, err := of(ctx)
			if err != nil {
				return nil, err
			}
			state, out, status := p.Start(ctx, h, config)
			return state, failed(out, status)
		}
	}
	if about.HasStop {
		made.StopContext = func(ctx context.Context, state any) error {
			h, _, err := of(ctx)
			if err != nil {
				return err
			}
			return failed(p.Stop(ctx, h, state))
		}
	}
	if about.HasConfigure {
		made.Configure = func(ctx context.Context, state any, config []byte) error {
			h, _, err := of(ctx)
			if err != nil {
				return err
			}
			return failed(p.Configure(ctx, h, state, config))
		}
	}
	if about.HasSave {
		made.Save = func(ctx context.Context, state any) ([]byte, error) {
			h, _, err := of(ctx)
			if err != nil {
				return nil, err
			}
			return came(p.Save(ctx, h, state))
		}
	}
	if about.HasResume {
		made.Resume = func(ctx context.Context, state any, saved []byte) error {
			h, _, err := of(ctx)
			if err != nil {
				return err
			}
			return failed(p.Resume(ctx, h, state, saved))
		}
	}
	return made
}

// others are the keys of a text but for some, nil where there are none.
func others(text abi.Text, but ...string) (keys map[string]string) {
	for _, kv := range text {
		if !slices.Contains(but, kv.Key) {
			if keys == nil {
				keys = make(map[string]string)
			}
			keys[kv.Key] = kv.Value
		}
	}
	return keys
}

// unlike is what Open says of a Source that is none.
func unlike(found, expected string) *loader.OpenError {
	return &loader.OpenError{Kind: loader.ErrOption, Found: "builtin.From of a plug-in with " + found, Expected: expected, Remedy: "Have `ferrule gen` write it again"}
}

// of returns the host, and the state, of the call that a context is of. The error is a *Refused where it is of none.
func of(ctx context.Context) (Host, any, error) {
	c := pool.Enter(ctx)
	if c == nil {
		return nil, nil, &Refused{"call", abi.StatusMisuse, tooLate}
	}
	defer c.Exit()
	return host{c}, c.State(), nil
}

// said is what a Source has said of a failure, as an error that failure makes the same of again.
type said struct {
	status  abi.Status
	message string
}

// Error is the message, or the status where there is none.
func (s *said) Error() string {
	if s.message == "" {
		return s.status.String()
	}
	return s.message
}

// Unwrap returns the status.
func (s *said) Unwrap() error { return s.status }

// came makes a Func's results of a Source's.
func came(out []byte, status int32) ([]byte, error) {
	if status == 0 {
		return out, nil
	}
	return nil, failed(out, status)
}

// failed makes an error of a Source's results, nil where the status is 0. A status that is none is read as those who take them from elsewhere read it (R10).
func failed(message []byte, status int32) error {
	own := abi.Status(status)
	switch {
	case own == abi.StatusOK:
		return nil
	case own < 0, own == abi.StatusMore, own.Reserved():
		own = abi.StatusFailed
	}
	return &said{own, string(message)}
}

// host is a call's host as a Source sees it. That of what happens between calls may be used when that is over, and is refused then.
type host struct{ call *pool.Call }

// tooLate is what a Source is told of a call that is over.
const tooLate = "found a context that is of no call in progress, expected the one that the plug-in's function was given, before it has returned"

// Ask calls a host function.
func (h host) Ask(ctx context.Context, name string, in []byte) ([]byte, int32) {
	c := pool.Enter(h.call)
	if c == nil {
		return []byte(tooLate), int32(abi.StatusMisuse)
	}
	defer c.Exit()
	ordinal, ok := ordinal(c.About(), name)
	if !ok {
		return fmt.Appendf(nil, "found %.140q, expected one of the plug-in's imports or wants", name), int32(abi.StatusMisuse)
	}
	out, status := c.Host(ctx, ordinal, in)
	return bytes.Clone(out), int32(status)
}

// Next runs what stands behind a hook.
func (h host) Next(ctx context.Context, in []byte) ([]byte, int32) {
	c := pool.Enter(h.call)
	if c == nil {
		return []byte(tooLate), int32(abi.StatusMisuse)
	}
	defer c.Exit()
	out, status := c.Next(ctx, in)
	return bytes.Clone(out), int32(status)
}

// Info answers a key.
func (h host) Info(ctx context.Context, key string) (string, int32) {
	c := pool.Enter(h.call)
	switch {
	case c == nil:
		return tooLate, int32(abi.StatusMisuse)
	case key == "" || len(key) > maxKey || !utf8.ValidString(key):
		c.Exit()
		return "found a key that is not UTF-8 of 1 to 256 bytes", int32(abi.StatusMisuse)
	}
	defer c.Exit()
	if key == engine.KeyInstance {
		return strconv.Itoa(c.Number()), 0
	}
	out, status := c.Host(ctx, engine.Info, []byte(key))
	return string(out), int32(status)
}

// Log writes a line.
func (h host) Log(ctx context.Context, level int32, text string, fields []byte) {
	if c := pool.Enter(h.call); c != nil {
		defer c.Exit()
		c.Log(ctx, abi.Level(level), []byte(text), fields)
	}
}

// Progress says how far the call is.
func (h host) Progress(done, total uint64) {
	if c := pool.Enter(h.call); c != nil {
		defer c.Exit()
		c.Progress(done, total)
	}
}

// Read reads from the input stream.
func (h host) Read(p []byte) (int, int32) {
	c := pool.Enter(h.call)
	if c == nil {
		return 0, int32(abi.StatusMisuse)
	}
	defer c.Exit()
	n, status := c.Read(p)
	return n, int32(status)
}

// Write writes to the output stream.
func (h host) Write(p []byte) int32 {
	c := pool.Enter(h.call)
	if c == nil {
		return int32(abi.StatusMisuse)
	}
	defer c.Exit()
	return int32(c.Write(p))
}

// Background is what happens between calls; of Start alone.
func (h host) Background() (context.Context, any) {
	c := pool.Enter(h.call)
	if c == nil {
		return nil, nil
	}
	defer c.Exit()
	if !c.Starts() {
		return nil, nil
	}
	between := c.Background()
	return between, host{between.(*pool.Call)} // which it is
}
