// Package ferrule is for authors of plug-ins in Go. A plug-in is a package of ordinary functions, with comments that say which of them a host may call:
//
//	// Package vowels counts vowels.
//	//
//	//ferrule:plugin name=vowels version=1.0.0
//	package vowels
//
//	// CountVowels counts the vowels of a text.
//	//
//	//ferrule:export
//	func CountVowels(ctx context.Context, text string) (int, error) { … }
//
// `ferrule gen` writes what makes a plug-in of it, in four forms: compiled into a host, a program (a sidecar), a WebAssembly module, and a shared library.
//
// What is here is what such functions may ask of who has called them. ctx is always the context that the plug-in's function was given, or one that comes from it; any
// goroutine may use it until that function has returned; one that waits for the host by then, but in a sidecar, holds the call until it is back. From then on, and with a context of another kind, the error is a *Refused of ErrMisuse.
package ferrule

import (
	"context"
	"log/slog"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// Status is a kind of failure. A function that returns one, or an error that wraps one, fails with it. Those of a plug-in's own are numbers from 1000 on:
//
//	const ErrSoldOut = ferrule.Status(1001)
type Status = plugin.Status

// The kinds of failure that every host knows. Any other error is ErrFailed, but a context's, which is ErrCancelled.
const (
	ErrFailed      = plugin.Failed      // it did not work
	ErrInvalid     = plugin.Invalid     // the input is not what the function takes
	ErrUnsupported = plugin.Unsupported // not to be had here
	ErrCancelled   = plugin.Cancelled   // nobody wants the result any more
	ErrPanic       = plugin.Panic       // the code failed with its state unknown: the instance is started anew
	ErrNoMemory    = plugin.NoMemory    // memory was not enough
	ErrMisuse      = plugin.Misuse      // the caller broke a rule of the contract
	ErrPass        = plugin.Pass        // a hook has nothing to say to this input: it is no failure
)

// Refused is the error of a host function, and of what else is asked of the host.
type Refused = plugin.Refused

// Logger returns a logger whose lines, with their fields, go to the plug-in's log in the host. A line whose own context is of another call, as of
// slog.Logger.InfoContext, goes there as that call's. Lines of a call that is over are dropped.
func Logger(ctx context.Context) *slog.Logger { return slog.New(plugin.Handler(ctx)) }

// Call calls a host function by its name, which the plug-in has as an import or a want. Variables with the comment //ferrule:import do the same, with types.
// The result is the caller's. The error is a *Refused with the host function's status and message.
func Call(ctx context.Context, name string, in []byte) ([]byte, error) {
	return plugin.Ask(ctx, name, in)
}

// Offered reports whether the host offers the function with this name, of the plug-in's imports and wants.
func Offered(ctx context.Context, name string) bool {
	answer, err := plugin.Info(ctx, "offers."+name)
	return err == nil && answer == "yes"
}

// Info answers a key: "remaining" (the time that the call still has, in ns), "traceparent", "data" (a folder of the plug-in's own), "path" (the folder
// that the plug-in's file came from, of a library or a module), "instance", and an application's own, which have a dot in their name. What is not known is a *Refused of ErrUnsupported.
func Info(ctx context.Context, key string) (string, error) { return plugin.Info(ctx, key) }

// Progress says how far the call is: how much is done, and of how much, 0 where that is not known. It costs little: use it often.
func Progress(ctx context.Context, done, total uint64) { plugin.Progress(ctx, done, total) }

// Next runs what stands behind a hook with the key wrap=yes, with in, and returns its result: once, several times or not at all. It is ErrUnsupported where
// nothing stands behind.
func Next(ctx context.Context, in []byte) ([]byte, error) { return plugin.Next(ctx, in) }

// Background gives a start function a context for what the plug-in does while no call runs: with Call, Info, Offered and Logger, on any goroutine. It ends before the stop function
// is called, which waits for the goroutines that use it. A WebAssembly module has none: the error is ErrUnsupported there.
func Background(ctx context.Context) (context.Context, error) { return plugin.Background(ctx) }
