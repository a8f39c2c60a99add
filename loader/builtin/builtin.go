// Package builtin opens Go functions as a plug-in: compiled into the host, behind the same *loader.Plugin as native code, with
// functions, hooks, imports, configuration, state and errors.
//
//	greeter := &builtin.Plugin{Name: "greeter", Version: "1.0.0", Funcs: []builtin.Function{
//		{Name: "greet", Call: func(ctx context.Context, in []byte) ([]byte, error) { return append([]byte("hello "), in...), nil }},
//	}}
//	p, err := builtin.Open(greeter)
//
// It is for three things: what an application does by itself where no plug-in is installed; the double of a plug-in, by
// which a host's own tests need no compiler and no native code; and a plug-in that was written with the module sdk-go, which From takes in.
//
// What the contract (include/ferrule.h) asks of a plug-in is asked of one in Go, and kept by the same rules: calls of a serial one never
// run side by side in an instance, one that panicked is stopped and started anew, imports without a host function fail at Open. What it
// does not have are the hazards: a Go function that panics is a status, and nothing needs to be isolated.
package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
)

// Func is a function or a hook of a plug-in. It runs on the caller's goroutine, or, with abi.Pinned, on the instance's; several may
// run at the same time, as Threads says.
//
// in is the caller's, valid until the function returns: copy what is kept. The result is copied before it is used, so it may
// be in, or what append makes of it, which is memory of its own. ctx is the caller's context, and names the call: Import, Log and State need it, and calls that are made
// with it are known to come from here. When it ends, the function should return soon, with its error.
//
// An error becomes the status and the message that the caller gets, as a *loader.CallError: a loader.Status that it wraps, from 1 on,
// whichever a plug-in in C could return; loader.ErrCancelled for a context's error; otherwise loader.ErrFailed. loader.ErrPass says that it has nothing to say to this input (rule R22). Where it wraps a *loader.CallError,
// ErrPanic and ErrMisuse, which are about that call, become ErrFailed. A panic is loader.ErrPanic, with the
// panic's text for a message and a line in the plug-in's log. After ErrPanic the instance is started anew before its next call. A function
// that ends its goroutine (t.FailNow in a test) ends its caller's, but in a pinned plug-in: there it is loader.ErrPanic.
type Func func(ctx context.Context, in []byte) ([]byte, error)

// Function is a function or a hook with what is said of it, which a meta text says of one in a library: no NUL, and UTF-8.
type Function struct {
	Name   string // a C identifier of at most 128 bytes; for a hook, its extension point
	Doc    string // what it does, for people; may be empty, as what follows
	In     string // the media type of its input
	Out    string // the media type of its output
	Schema string // a schema of its input or output
	// Stream says which streams a call of it may have, which Input and Output are then. None is the default.
	Stream abi.Stream
	// Keys are further keys of its meta text, such as a hook's order, before, after, priority and wrap (rule R32).
	Keys map[string]string
	Call Func // not nil

	made Func // what From has made of Call
}

// Plugin is a plug-in in Go, before it is opened. It can be opened any number of times, by any goroutine, each with its own instances. It
// is the caller's, and only read: change it before Open and Engine alone.
type Plugin struct {
	Name        string // as a manifest's name=
	Version     string // as a manifest's version=
	Description string // may be empty
	// Threads says how its functions may be called; see rule R13. abi.Serial, one call of an instance at a time, is the default.
	// With abi.Pinned each instance has a goroutine that is locked to its thread.
	Threads abi.Threads

	Funcs   []Function // what the host may call; each name once
	Hooks   []Function // what attaches to the host's extension points; each once
	Imports []string   // the names of the host functions that it needs; each once
	Wants   []string   // those that it uses where they are offered, and none of Imports; see Offered
	// ImportKeys are the keys of the meta texts of Imports and Wants, such as doc, from and why, by their names; of any number of them.
	ImportKeys map[string]map[string]string

	Keys         map[string]string // further keys of its manifest, such as homepage and provides (rule R32)
	ConfigSchema string            // a schema of its configuration; may be empty

	// Start makes the state of one instance, which State returns: once for each instance when the plug-in is opened, and again
	// after a panic. It runs on a goroutine of its own, or on the pinned instance's. config is what loader.WithConfig was given, and only
	// read. It may call host functions. An error fails Open as that of a function does; so do a panic, and ending the goroutine. nil is
	// a plug-in whose instances have no state, and no configuration.
	Start func(ctx context.Context, config []byte) (state any, err error)
	// Stop drops the state of one instance, when the plug-in is closed or the instance has panicked, on a goroutine as Start; or nil.
	// No call of the instance runs. A panic of it is a line in the plug-in's log.
	Stop func(state any)
	// StopContext is a Stop with a context, which Import, Info and Log take, and with an error, which is a line in the plug-in's log. One of the two is there at most.
	StopContext func(ctx context.Context, state any) error

	// Configure gives an instance new settings, when loader.Plugin.Configure is called, while no other call of it runs (rule R28). It takes them, or
	// fails and leaves the instance as it was. config is only read. With nil, new instances are started in the place of the old ones.
	Configure func(ctx context.Context, state any, config []byte) error

	// StateFormat is a word for the format of what Save returns and Resume takes (rule R29); all three are there, or none is.
	StateFormat string
	// Save returns an instance's state as bytes, for its successor, while no other call runs. The instance stays as it is.
	Save func(ctx context.Context, state any) ([]byte, error)
	// Resume has an instance that was just started take over the state of its predecessor. When it fails, the instance is stopped.
	Resume func(ctx context.Context, state any, saved []byte) error

	wrong *loader.OpenError // what From has found
}

// Open opens the plug-in with the options of loader.Open, whose errors it returns; Path is the plug-in's name in them. The options
// that are about files (loader.WithPrivateCopy, WithUnload, WithExecutableStack) do nothing, and neither does isolate.InWorker, which is for
// native code: a plug-in in Go runs in this process. loader.WithSHA256 is refused: there is no file. Without loader.WithMaxCalls
// any number of calls of a concurrent plug-in run at a time.
func Open(p *Plugin, opts ...loader.Option) (*loader.Plugin, error) {
	name := ""
	if p != nil {
		name = p.Name[:min(len(p.Name), abi.MaxName+1)] // one that is longer is refused, and stands in the error
	}
	if slices.ContainsFunc(opts, func(o loader.Option) bool { return o == nil }) {
		return loader.Open(name, opts...) // which says which one it is, by its place among the caller's
	}
	return loader.Open(name, append([]loader.Option{loader.WithEngine(Engine(p))}, opts...)...)
}

// Import calls the host function with this name, of those that the plug-in's Imports and Wants have; a want that is not offered is a *Refused with
// loader.ErrUnsupported. ctx is the one that the plug-in's function was
// given, or comes from it. The result is the plug-in's. The error is a *Refused with the host function's status and message; a panic of
// it is loader.ErrFailed, as for native code. Where ctx is of no call in progress, or the name is no import, it is one with loader.ErrMisuse.
//
// It may be used on any goroutine until the function that was given ctx returns, and is refused from then on. The call ends when
// those that are in a host function by then are back.
func Import(ctx context.Context, name string, in []byte) ([]byte, error) {
	c := pool.Enter(ctx)
	if c == nil {
		return nil, &Refused{name, abi.StatusMisuse, noCall("Import")}
	}
	defer c.Exit()
	ordinal, ok := ordinal(c.About(), name)
	if !ok {
		return nil, &Refused{name, abi.StatusMisuse, fmt.Sprintf("builtin.Import: found %.140q, expected one of the plug-in's Imports or Wants", name)}
	}
	return answer(name)(c.Host(ctx, ordinal, in))
}

// Refused is the error of Import: what the host function returned. It is the caller's.
type Refused struct {
	Import  string     // the host function's name
	Status  abi.Status // never abi.StatusOK
	Message string     // the host function's; may be empty
}

// Error gives the message, or the status where there is none.
func (r *Refused) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("%s: %s", r.Import, r.Status)
	}
	return fmt.Sprintf("%s: %s", r.Import, r.Message)
}

// Unwrap returns the status: a function that returns the error hands it on.
func (r *Refused) Unwrap() error { return r.Status }

// Log writes a line of a level, such as abi.LogInfo, with attributes to the plug-in's log, which loader.WithLogger sets; there their values are texts, and the keys of a group have its
// name before them. ctx is as for Import; where that is refused, the line is dropped.
func Log(ctx context.Context, level abi.Level, text string, attrs ...slog.Attr) {
	if c := pool.Enter(ctx); c != nil {
		defer c.Exit()
		c.Log(ctx, level, []byte(text), fields(nil, "", attrs))
	}
}

// State returns what Start made for the instance that the call runs in; nil without a Start, in it, and between calls. ctx is as for Import; where that is refused, it
// is nil.
func State(ctx context.Context) any {
	c := pool.Enter(ctx)
	if c == nil {
		return nil
	}
	defer c.Exit()
	return c.State()
}

// JSON makes a Func of a function on Go values, which loader.CallJSON calls. Input that is no JSON for In is loader.ErrInvalid; fn's own
// errors are as Func's. Of nil it makes nil, which Open refuses.
func JSON[In, Out any](fn func(context.Context, In) (Out, error)) Func {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context, data []byte) ([]byte, error) {
		var in In
		if err := json.Unmarshal(data, &in); err != nil {
			return nil, &notJSON{reflect.TypeFor[In](), err}
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	}
}

// notJSON says that an input is no JSON for a type. It is an ErrInvalid, whatever the type's own UnmarshalJSON makes of it.
type notJSON struct {
	of  reflect.Type
	err error
}

func (e *notJSON) Error() string {
	return fmt.Sprintf("the input is not JSON for the Go type %s: %v", e.of, e.err)
}

func (e *notJSON) Unwrap() error { return loader.ErrInvalid }
