// Package plugin is what stands between a plug-in's functions and the form that it is built in: the Go code that `ferrule gen` writes makes a
// Plugin, and whoever runs it (package sidecar, library or module, or a host that has it compiled in) calls that.
//
// Authors need package ferrule; of this one they see the variable Plugin of their own package, which is a *Plugin.
package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// Definition is what `ferrule gen` has found in a package: what the plug-in says of itself, and what runs.
type Definition struct {
	Name        string
	Version     string
	Description string            // may be empty, as all that follows
	Threads     string            // "serial", which is the default, "concurrent" or "pinned": rule R13 of ferrule.h
	Keys        map[string]string // further keys of its manifest (R32); with Save, one is state
	Config      string            // a schema of its configuration

	Functions, Hooks []Function // each name once
	Imports, Wants   []Import   // each name once, in one of the two

	// Start makes the state of an instance of its configuration (R15), Stop drops it, Configure changes it (R28), Save and Resume hand it to a
	// successor (R29). Each may be nil; Save and Resume are both there or neither. No other call of the instance runs meanwhile.
	Start     func(ctx context.Context, config []byte) (state any, err error)
	Stop      func(ctx context.Context, state any) error
	Configure func(ctx context.Context, state any, config []byte) error
	Save      func(ctx context.Context, state any) ([]byte, error)
	Resume    func(ctx context.Context, state any, saved []byte) error
}

// Function is a function, or a hook.
type Function struct {
	Name string
	Keys map[string]string // of its meta text: doc, in, out, stream, and others (R32)
	// Call runs it. state is what Start has made for the instance, nil without one. in is readable until Call returns. The result is the caller's of
	// Call until the next one, and may be in. A panic is status 5.
	Call func(ctx context.Context, state any, in []byte) (out []byte, err error)
}

// Import is a host function, which is called by Ask.
type Import struct {
	Name string
	Keys map[string]string // of its meta text: doc and others
}

// Plugin is a plug-in in Go. It may be used by any goroutine.
type Plugin struct {
	d        Definition
	manifest []byte
}

// New makes one. It panics where the definition is not as its fields ask for, which `ferrule gen` has checked.
func New(d Definition) *Plugin {
	byName := func(a, b Function) int { return strings.Compare(a.Name, b.Name) }
	d.Functions, d.Hooks = slices.SortedFunc(slices.Values(d.Functions), byName), slices.SortedFunc(slices.Values(d.Hooks), byName)
	ordinals := func(a, b Import) int { return strings.Compare(a.Name, b.Name) }
	d.Imports, d.Wants = slices.SortedFunc(slices.Values(d.Imports), ordinals), slices.SortedFunc(slices.Values(d.Wants), ordinals)
	for _, list := range [][]Function{d.Functions, d.Hooks} {
		for i, f := range list {
			switch {
			case f.Call == nil:
				panic("plugin.New: the function " + f.Name + " has no Call")
			case i > 0 && list[i-1].Name == f.Name:
				panic("plugin.New: found two functions, or hooks, of the name " + f.Name + ", expected each once")
			}
		}
	}
	if !slices.Contains([]string{"", "serial", "concurrent", "pinned"}, d.Threads) {
		panic("plugin.New: found the Threads " + d.Threads + ", expected serial, concurrent or pinned")
	}
	if (d.Save == nil) != (d.Resume == nil) {
		panic("plugin.New: found one of Save and Resume, expected both or neither (rule R29)")
	}
	p := &Plugin{d: d}
	var manifest bytes.Buffer
	e := json.NewEncoder(&manifest)
	e.SetEscapeHTML(false) // which makes six bytes of one
	if err := e.Encode(p.about()); err != nil {
		panic("plugin.New: " + err.Error())
	}
	p.manifest = bytes.TrimSpace(manifest.Bytes())
	return p
}

// about is the manifest of docs/wire.md (W5).
func (p *Plugin) about() any {
	functions := func(list []Function) map[string]map[string]string {
		all := map[string]map[string]string{}
		for _, f := range list {
			all[f.Name] = notNil(f.Keys)
		}
		return all
	}
	imports := func(list []Import) map[string]map[string]string {
		all := map[string]map[string]string{}
		for _, i := range list {
			all[i.Name] = notNil(i.Keys)
		}
		return all
	}
	return struct {
		Name        string                       `json:"name"`
		Version     string                       `json:"version"`
		Threads     string                       `json:"threads,omitempty"`
		Description string                       `json:"description,omitempty"`
		Keys        map[string]string            `json:"keys,omitempty"`
		Functions   map[string]map[string]string `json:"functions,omitempty"`
		Hooks       map[string]map[string]string `json:"hooks,omitempty"`
		Imports     map[string]map[string]string `json:"imports,omitempty"`
		Wants       map[string]map[string]string `json:"wants,omitempty"`
		Services    []string                     `json:"services,omitempty"`
		Config      string                       `json:"config,omitempty"`
	}{p.d.Name, p.d.Version, p.d.Threads, p.d.Description, p.d.Keys, functions(p.d.Functions), functions(p.d.Hooks), imports(p.d.Imports), imports(p.d.Wants),
		p.Services(), p.d.Config}
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// Manifest returns what the plug-in says of itself, as a sidecar's manifest (docs/wire.md, W5). It is the caller's.
func (p *Plugin) Manifest() []byte { return bytes.Clone(p.manifest) }

// Services returns which of start, stop, configure, save and resume the plug-in has.
func (p *Plugin) Services() (names []string) {
	for _, s := range []struct {
		name string
		has  bool
	}{{"start", p.d.Start != nil}, {"stop", p.d.Stop != nil}, {"configure", p.d.Configure != nil}, {"save", p.d.Save != nil}, {"resume", p.d.Resume != nil}} {
		if s.has {
			names = append(names, s.name)
		}
	}
	return names
}

// Pinned reports whether all calls of an instance run on one thread of the system.
func (p *Plugin) Pinned() bool { return p.d.Threads == "pinned" }

// Concurrent reports whether several calls of an instance may run at the same time.
func (p *Plugin) Concurrent() bool { return p.d.Threads == "concurrent" }

// Function returns the number by which Call knows a function, or a hook; ok is false where it is none.
func (p *Plugin) Function(name string, hook bool) (n int, ok bool) {
	list, first := p.d.Functions, 0
	if hook {
		list, first = p.d.Hooks, len(p.d.Functions)
	}
	n, ok = slices.BinarySearchFunc(list, name, func(f Function, name string) int { return strings.Compare(f.Name, name) })
	return first + n, ok
}

// Functions returns how many functions and hooks there are: the functions come first, in the order of their names, and then the hooks.
func (p *Plugin) Functions() (functions, hooks int) { return len(p.d.Functions), len(p.d.Hooks) }

// Names returns the names of the functions, or of the hooks, in their order.
func (p *Plugin) Names(hooks bool) (names []string) {
	list := p.d.Functions
	if hooks {
		list = p.d.Hooks
	}
	for _, f := range list {
		names = append(names, f.Name)
	}
	return names
}

// Ordinal returns the number of an import, or a want, as rules R5 and R23 count them; ok is false where it is none.
func (p *Plugin) Ordinal(name string) (ordinal uint32, ok bool) {
	named := func(i Import, name string) int { return strings.Compare(i.Name, name) }
	at, ok := slices.BinarySearchFunc(p.d.Imports, name, named)
	if !ok {
		at, ok = slices.BinarySearchFunc(p.d.Wants, name, named)
		at += len(p.d.Imports)
	}
	return uint32(at), ok
}

// Call runs the function with this number in an instance with this state, for a caller behind h. ctx ends when the result is not wanted any more. in is only
// read, and not used after Call has returned. out is the result, or, with a status other than 0 (rule R10), a message; it may be in, and is the caller's.
//
// A panic of the function is status 5, and a line in the log with its stack: the instance is not to be called any more, but for Stop. A function that ends its goroutine
// (runtime.Goexit) ends Call's: a deferred function of the caller's can tell.
func (p *Plugin) Call(ctx context.Context, h Host, state any, n int, in []byte) (out []byte, status int32) {
	f := &p.d.Functions
	if n >= len(*f) {
		f, n = &p.d.Hooks, n-len(*f)
	}
	fn := &(*f)[n]
	return p.run(ctx, h, fn.Name, func(ctx context.Context) ([]byte, error) { return fn.Call(ctx, state, in) })
}

// Start makes the state of an instance; out is a message where status is not 0. It does nothing where the plug-in has none, as the others.
func (p *Plugin) Start(ctx context.Context, h Host, config []byte) (state any, out []byte, status int32) {
	if p.d.Start == nil {
		return nil, nil, 0
	}
	out, status = p.run(ctx, h, "start", func(ctx context.Context) (none []byte, err error) {
		state, err = p.d.Start(ctx, config)
		return nil, err
	})
	return state, out, status
}

// Stop drops the state of an instance.
func (p *Plugin) Stop(ctx context.Context, h Host, state any) (out []byte, status int32) {
	if p.d.Stop == nil {
		return nil, 0
	}
	return p.run(ctx, h, "stop", func(ctx context.Context) ([]byte, error) { return nil, p.d.Stop(ctx, state) })
}

// Configure gives an instance a new configuration.
func (p *Plugin) Configure(ctx context.Context, h Host, state any, config []byte) (out []byte, status int32) {
	if p.d.Configure == nil {
		return nil, 0
	}
	return p.run(ctx, h, "configure", func(ctx context.Context) ([]byte, error) { return nil, p.d.Configure(ctx, state, config) })
}

// Save returns an instance's state for a successor.
func (p *Plugin) Save(ctx context.Context, h Host, state any) (out []byte, status int32) {
	if p.d.Save == nil {
		return nil, 0
	}
	return p.run(ctx, h, "save", func(ctx context.Context) ([]byte, error) { return p.d.Save(ctx, state) })
}

// Resume gives an instance the state of its predecessor.
func (p *Plugin) Resume(ctx context.Context, h Host, state any, saved []byte) (out []byte, status int32) {
	if p.d.Resume == nil {
		return nil, 0
	}
	return p.run(ctx, h, "resume", func(ctx context.Context) ([]byte, error) { return nil, p.d.Resume(ctx, state, saved) })
}

// run runs what belongs to the plug-in, as a call.
func (p *Plugin) run(ctx context.Context, h Host, what string, f func(context.Context) ([]byte, error)) (out []byte, status int32) {
	c := &call{Context: ctx, host: h, plugin: p}
	back := false
	defer func() {
		if back {
			c.over()
			return
		}
		found := recover()
		if found != nil {
			out, status = said(found), int32(Panic)
			c.log(slog.LevelError, "panic: "+string(out), slog.String("in", what), slog.String("stack", stack()))
		} else { // which is what Goexit leaves behind
			c.log(slog.LevelError, what+" has ended its goroutine", slog.String("stack", stack()))
		}
		c.over()
	}()
	out, err := f(c)
	if err != nil {
		out, status = failure(err) // which runs the error's own code
	}
	back = true
	return out, status
}

// said is what a panic's value says, whatever it is: also where its own methods panic, with themselves, too, which package fmt passes on.
func said(value any) (text []byte) {
	defer func() {
		if recover() != nil {
			text = fmt.Appendf(nil, "a %T, which cannot say what it is", value)
		}
	}()
	return fmt.Append(nil, value)
}

// stack is where the plug-in's code was when it panicked, or ended its goroutine: a line for each of its functions, the innermost first.
func stack() string {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var lines []string
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, here+".(*Plugin)."): // what runs the plug-in's code, and what is deferred there
			if len(lines) > 0 {
				return strings.Join(lines, "\n")
			}
		case f.Function == "runtime.gopanic" || f.Function == "runtime.Goexit":
			lines = lines[:0]
		case f.Function != "":
			lines = append(lines, fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line))
		}
		if !more {
			return strings.Join(lines, "\n")
		}
	}
}

// here is this package's path.
const here = "github.com/ferrule-dev/ferrule/sdk-go/plugin"
