// Package engine is the interface between package loader, which every host sees, and what runs plug-ins: native code in
// this process (package native) or in a worker process (package host), Go functions (package builtin), WebAssembly (module loader/wasm).
// It is public for engines in other modules, which begin with package pool. It is experimental: it may change in a minor version (docs/promises.md).
//
// An Engine opens plug-ins of one kind; a Plugin is one that it has opened. They speak of a plug-in as its abi.Description
// has it, in statuses and violations; package loader dresses these as the errors that users match. Whatever differs between
// engines stays behind this interface, so that one table of tests runs on all of them.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Engine opens plug-ins of one kind. Its methods may be called from any goroutine, at any time.
type Engine interface {
	// Name is what a host writes to get the engine, such as isolate.InWorker. Errors name it so; it tells engines apart.
	Name() string

	// Words are how errors speak of it and of its plug-ins.
	Words() Words

	// Fault is what is wrong with the options that the engine was made with, an *inspect.Error of the kind ErrOption; nil
	// where nothing is. No other method is called then.
	Fault() error

	// Recognises reports whether the engine opens such files, by as little of f as tells: which of several engines is to open it.
	// What is broken is recognised as well, so that Open says what is wrong with it.
	Recognises(f *File) bool

	// Open opens f. Before any code of the plug-in runs, accept is asked, with what the plug-in says of itself; it returns the
	// host for it, or an error, which Open returns then. It may be asked more than once; the last host counts. It may be foreign code,
	// and is called with nothing locked.
	//
	// Otherwise the error is an *inspect.Error, a *StartError or a *Crash. When ctx ends, Open ends what it has started as
	// far as that can be done, and the error does not matter. ctx is not the plug-in's: it is no foreign code, and nothing of it
	// is kept.
	Open(ctx context.Context, f *File, o *Options, accept Accept) (Plugin, *abi.Description, error)
}

// Words are how errors speak of an engine and of its plug-ins.
type Words struct {
	// Kind is what it opens, such as "native code". Of two engines for one kind of file, the second would never open one.
	Kind string
	// Names are those that it opens in place of a file's path; nil where it opens files.
	Names []string
	// Twice is what to do where a host gives the engine twice, as a sentence without its full stop.
	Twice string

	// Overdue is what to do about a function that does not stop when it is asked to, as a sentence without its full stop.
	Overdue string

	Import   string // what stands before the name of an import
	Start    string // the function that starts an instance
	Starting string // what may keep a plug-in from being there
}

// NativeCode returns the words of an engine that opens libraries which have the contract's symbols.
func NativeCode(twice, overdue string) Words {
	return Words{Kind: "native code", Twice: twice, Overdue: overdue, Import: abi.PrefixImport, Start: abi.SymbolStart,
		Starting: "the library's constructors or its ferrule_start"}
}

// Accept is what a host says to a plug-in before anything of it runs; see Engine.Open.
type Accept func(*abi.Description) (Host, error)

// Options are the options of loader.Open. An engine for which one means nothing leaves it out of account.
type Options struct {
	SHA256    *Digest  // the digest that the file must have, or nil
	Private   bool     // load a copy that nobody else can write
	Unload    bool     // give the plug-in's code back when it is closed
	ExecStack bool     // open a library that asks for an executable stack, too
	Config    []byte   // what ferrule_start gets
	Instances int      // 1 or more
	State     [][]byte // what ferrule_resume gets, by instance; nil is nothing (rule R29)
	Data      string   // a folder of the plug-in's own, absolute, which a sandbox lets it use; "" is none
	Owner     string   // the plug-in that calls are of where its file is another one, such as its interpreter; "" is the file's
	MaxCalls  int      // how many calls of a concurrent plug-in run at a time; 0 is the engine's default
}

// Plugin is one open plug-in. Its methods may be called from any goroutine, at any time.
type Plugin interface {
	// Append calls function fn with in, and appends its output to dst. With a status other than abi.StatusOK what was
	// appended is the message. in and dst are the caller's again on return; neither is kept.
	//
	// The error is not nil when there is no status: one of the errors below, a *Violation, a *StartError, or an *Ended when
	// ctx ended before the function was entered. It is that error itself, and wraps none of them. dst is returned as it was
	// then. But with fn.Limit as the error there is a status, abi.StatusCancelled, and its message was appended: the function was
	// asked to stop because of the limit, and not by ctx. It counts from when the function is entered: waiting for an instance does not count.
	Append(ctx context.Context, fn Fn, dst, in []byte) ([]byte, abi.Status, error)

	// Stream is Append with the call's streams (rule R24), which are not used any more when it returns, but by what waits in a reader or
	// a writer: each has a goroutine for that where it may block. Why a stream broke off is its own to say.
	Stream(ctx context.Context, fn Fn, dst, in []byte, st *stream.Streams) ([]byte, abi.Status, error)
	// Batch calls function fn with each of in, and writes what came of it to b. The error is as Append's, or an *Ended when
	// ctx ended on the way, or fn's limit was over; b then holds the records that ran. The inputs go to the plug-in in parts, each of which
	// has the limit of a call.
	Batch(ctx context.Context, fn Fn, in [][]byte, b *Batch) error

	// View calls function fn with in and returns its output where the plug-in has it. status and err are as
	// Append's; v is nil with an error, but that of the limit.
	View(ctx context.Context, fn Fn, in []byte) (v *View, status abi.Status, err error)

	// Close refuses new calls, waits for those that run, stops every instance and frees what the engine holds. A
	// second Close waits for the first one, and returns the same.
	Close() error

	// Shutdown is Close with a bound. When ctx ends first, it returns an *Unfinished with what still runs. What runs in
	// this process goes on then, and Close's work is finished behind it; what runs in another one is killed.
	Shutdown(ctx context.Context) error
}

// Sessions is what a Plugin adds that can start instances for one user each.
type Sessions interface {
	// NewSession starts an instance of its own, with config, or the settings that were accepted last where that is nil. The Plugin that it
	// returns has that instance only; once that has panicked, or its process has ended, its calls fail with ErrLost. Close
	// stops it; the plug-in's Close does so, too. The error is Append's.
	NewSession(ctx context.Context, config []byte) (Plugin, error)
}

// Quick is what a Plugin adds that can enter functions which say that they are quick by a shorter way (rule R34).
type Quick interface {
	// Quick returns the plug-in for the calls of function fn by that way; nil where it is not to be had, for this function, on
	// this platform or in this process.
	Quick(fn int) QuickPlugin
}

// QuickPlugin is a Plugin whose Append enters a function by the shorter way, unless that was found not to keep its promise:
// then, and for all else, it is the Plugin that it was made of. fn's limit means nothing to a call by that way, nor does ctx
// once the function is entered.
type QuickPlugin interface {
	Plugin
	// IsQuick reports whether function fn is still entered so.
	IsQuick(fn int) bool
}

// Configurable is what a Plugin adds that takes new settings while it runs.
type Configurable interface {
	// Configure gives config, which is kept, to all instances, or to none, when no call runs; calls that come meanwhile wait. With
	// a status other than abi.StatusOK, the bytes are its message. The error is Append's.
	Configure(ctx context.Context, config []byte) ([]byte, abi.Status, error)
}

// Holder is what a Plugin adds whose state can be handed over.
type Holder interface {
	// Hold waits until no call runs, and has those that come wait until Release, or Close, which refuses them. The error is Append's.
	Hold(ctx context.Context) (Hold, error)
}

// Hold is a Plugin of which no call runs. It is used by one goroutine at a time.
type Hold interface {
	// Save returns the states of all instances, which go on as they are. With a status other than abi.StatusOK there is none, and message
	// is its message. The error is Append's.
	Save() (states [][]byte, message []byte, status abi.Status, err error)
	// Release lets calls in again, also where the Plugin was closed meanwhile. Retire closes the Plugin in place of that: calls that have
	// waited fail with ErrClosed; it does not wait for the end of closing. One of the two is called, once.
	Release()
	Retire()
}

// Fn is one exported function or hook, and how long a call of it may run.
type Fn struct {
	Index int    // in the library's Funcs, or, behind those, in its Hooks
	Limit *Limit // or nil
}

// Batch is the outcome of Plugin.Batch. A second batch into the same one uses its memory again.
type Batch struct {
	Out     []byte   // the outputs, one somewhere after the other
	Records []Record // one for each input that ran, in the order of the inputs
	Failed  bool     // some record's status is not abi.StatusOK: who looks for one need not where it is false
	Limit   *Limit   // the function's, where it was asked to stop because of that; or nil
}

// Record is the outcome of one input.
type Record struct {
	Start, End int        // its output or message is Batch.Out[Start:End]
	Status     abi.Status // of the function
	Err        *Violation // not nil when the function broke a rule; the rest does not count then
}

// View is an output that is still where the plug-in has it.
type View struct {
	Bytes   []byte // valid until Release; the memory of a worker may change while it is read
	Release func() // gives the memory back; called once
}

// Host is what an engine needs from the side that opened the plug-in. Its methods are called from any goroutine, at
// the same time.
type Host interface {
	// Call runs the host function with this ordinal, which the engine has checked: one of the imports and wants, Info or
	// Next. in is borrowed until Call returns; the output is not written to afterwards. It may panic; what then goes to the
	// plug-in is Panicked's to say.
	Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status)
	// Panicked says what a plug-in gets for a host function that panicked with value. It is called while the panic
	// unwinds, and does not panic.
	Panicked(ctx context.Context, ordinal uint32, value any) ([]byte, abi.Status)
	// Log takes one line of a plug-in, with its fields (rule R31), which are empty where there are none; both are borrowed
	// until Log returns. It does not panic.
	Log(ctx context.Context, level abi.Level, text, fields []byte)
	// Overdue says that a call has not come back, OverdueAfter after it was asked to stop because of this limit: once for each such
	// call. It returns at once, and runs no foreign code, so that it may be called with locks held.
	Overdue(limit *Limit)
}

// What a plug-in asks of its host beside host functions goes the same way, as if by ordinals that no library can have.
const (
	Info uint32 = 0xFFFF_FF00 + iota // the input is a key (rule R26)
	Next                             // what stands behind a wrapper, with the input (rule R33)
)

// The keys of Info that the engine answers itself: it alone knows where a call runs, and of what file.
const (
	KeyInstance = "instance"
	KeyPath     = "path"
)

// InfoKey is the key of contexts for the answers to Info, as strings: what a plug-in asks for in a call with such a context. It comes before what the host knows otherwise.
type InfoKey string

// KeyRemaining is the key of Info for how long the call still has, in ns: by its context, which knows of its limit.
const KeyRemaining = "remaining"

// ValidOrdinal reports whether Host.Call takes the ordinal, for a plug-in that may call so many host functions.
func ValidOrdinal(ordinal uint32, functions int) bool {
	return uint64(ordinal) < uint64(functions) || ordinal == Info || ordinal == Next
}

// ErrOption is the kind of an inspect.Error that says that an option of Open's is not valid.
var ErrOption = errors.New("an option is not valid")

// The errors of Append that say nothing about the function itself.
var (
	ErrClosed     = errors.New("the plug-in is closed")
	ErrReentrant  = errors.New("every instance of the plug-in is in use by the calls that led to this one")
	ErrNilContext = errors.New("the context is nil")
	ErrLost       = errors.New("the session's instance is gone, with all that it held")
	ErrEnded      = errors.New("a host function ended its goroutine") // on a thread of the plug-in's; a panic of the call

	ErrTooDeep  error = &reentrant{fmt.Sprintf("%d calls are in progress one within the other, through host functions", MaxDepth)}
	ErrDeadlock error = &reentrant{"the call and calls of other plug-ins would wait for each other for ever"}
)

// MaxDepth is how many calls may be in progress one within the other, through host functions. It keeps endless recursion
// from using up the stack of the thread that all of them are on in-process: with musl that is 128 KiB, 2 for each call.
const MaxDepth = 64

// reentrant is a special case of ErrReentrant.
type reentrant struct{ text string }

func (e *reentrant) Error() string        { return e.text }
func (e *reentrant) Is(target error) bool { return target == ErrReentrant }

// Ended says that a call was given up because its context has ended. Its cause is the caller's own, and may be or wrap
// anything, an error of this package or of another plug-in's call, too.
type Ended struct{ Cause error }

// Error returns the cause's words.
func (e *Ended) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *Ended) Unwrap() error { return e.Cause }

// Deadlock says that a call was refused because it would have closed a circle of calls that wait for each other.
type Deadlock struct {
	Plugins []string // each waits for the next one, and the last for the first
}

// Error names the circle.
func (d *Deadlock) Error() string { return fmt.Sprintf("%v: %s", ErrDeadlock, d.Circle()) }

// Circle names its members, the first one at its end again.
func (d *Deadlock) Circle() string {
	return fmt.Sprintf("%s → %s", strings.Join(d.Plugins, " → "), d.Plugins[0])
}

// Unwrap returns ErrDeadlock.
func (d *Deadlock) Unwrap() error { return ErrDeadlock }

// Violation says which rule of the contract a plug-in broke in a call.
type Violation struct {
	Rule     string // R1 to R34
	Found    string
	Expected string
}

// Error says what was found and what was expected.
func (v *Violation) Error() string {
	return fmt.Sprintf("found %s, expected %s (rule %s)", v.Found, v.Expected, v.Rule)
}

// StartError says that an instance could not be started: ferrule_start returned a status, or broke a rule.
type StartError struct {
	Symbol  string     // what failed, such as abi.SymbolResume; "" is abi.SymbolStart
	Status  abi.Status // abi.StatusOK when Err is set
	Message string
	Err     error // a *Violation, or nil
}

// Error gives the status with its message.
func (e *StartError) Error() string {
	if e.Err != nil {
		return e.Name() + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %s: %s", e.Name(), e.Status, e.Message)
}

// Name returns the symbol's name.
func (e *StartError) Name() string {
	if e.Symbol != "" {
		return e.Symbol
	}
	return abi.SymbolStart
}

// Unwrap returns the violation, or else the status.
func (e *StartError) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	return e.Status
}

// Isolated is what a Plugin adds that runs in another process.
type Isolated interface {
	Isolation() Isolation
}

// Isolation is the state of an isolated plug-in.
type Isolation struct {
	PID     int      // of the worker; 0 when there is none
	Attempt int      // how many workers there have been
	Layers  []string // of the sandbox and of the process itself that are active

	Suspended time.Duration // not 0 while no worker is started, because too many have crashed: how much longer
}

// Crash says that the worker, or what else the plug-in runs in, ended while a call ran in it, or could not be used.
type Crash struct {
	Signal  os.Signal // that ended it, or nil
	Code    int       // its exit code; -1 with a signal
	Reason  string    // in words, where the host ended it or it could not be started; may be empty
	Bound   Bound     // of its sandbox that Reason is about; empty where it is about none
	Output  []string  // the last lines that it wrote, to its standard output and its standard error; of a Go runtime's long report of its end, the first ones
	Attempt int       // which worker it was, from 1

	Kind    error  // what errors.Is finds beside loader.ErrCrash; or nil
	Subject string // what ended, as "the sidecar"; "" is the worker
	Remedy  string // what to do where it has ended while the plug-in was opened; "" where package loader knows

	Group    string // of a worker of several plug-ins, its name
	Culprit  string // in a group, the name of the plug-in whose code or call is why, where that can be told
	Fault    string // where in the code the fault was, in words; may be empty
	Unserved bool   // it ended before anything of the plug-in's ran in it
	Err      error  // why it could not be started, or nil

	Others  int   // how many other calls were in the worker, any of which may be why
	Unasked bool  // it was killed before it was asked to stop the plug-in
	GivenUp error // why the context of Shutdown had ended, where that is why; or nil

	Suspended time.Duration // not 0 when no worker was started, because too many had crashed: how much longer
	Late      time.Duration // not 0 when the host has ended it, or not waited for it any longer, because it had not started, stopped or what else Reason says in that time
}

// Bound is the name of a field of sandbox.Policy that bounds what a process uses.
type Bound string

// The bounds whose end is a process's own.
const (
	BoundMemory Bound = "Memory"
	BoundCPU    Bound = "CPU"
	BoundTime   Bound = "Time"
)

// Error says how the worker ended.
func (c *Crash) Error() string {
	worker := cmp.Or(c.Subject, "the worker")
	if c.Group != "" {
		worker = fmt.Sprintf("the worker of the group %q", c.Group)
	}
	text := fmt.Sprintf("%s ended with exit code %d", worker, c.Code)
	switch {
	case c.Reason != "":
		text = worker + " was " + c.Reason
		if c.Signal != nil && c.Fault != "" {
			text += fmt.Sprintf("; the signal was %q (%s)", c.Signal, c.Fault)
		}
	case c.Signal != nil:
		text = fmt.Sprintf("%s was ended by the signal %q", worker, c.Signal)
		if c.Fault != "" {
			text += " (" + c.Fault + ")"
		}
	}
	if c.Culprit != "" {
		text += ", by the plug-in " + c.Culprit
	}
	if c.Others > 0 {
		where := "the worker"
		if c.Subject != "" {
			where = "it"
		}
		text += fmt.Sprintf("; %s in %s", count.Of(c.Others, "other call"), where)
	}
	if c.Suspended > 0 {
		these := "workers keep"
		if c.Subject != "" {
			these = c.Subject + " keeps"
		}
		text = fmt.Sprintf("suspended for another %v, because %s crashing; the last: %s", (c.Suspended + time.Millisecond - 1).Truncate(time.Millisecond), these, text)
	}
	return text
}

// LastWords says which of the lines in Output says why it ended, as an error has it behind how it ended: "; its last line: …". It is "" without Output.
func (c *Crash) LastWords() string { return lastwords.Of(c.Output) }

// Overrun says that a call did not come back in time after its context had ended, and was ended: its worker was killed, or its instance is no good any more.
type Overrun struct {
	Grace time.Duration // how long it had
	Cause error         // why the context had ended
	By    string        // the option that sets how long, and what was done, as errors say it: "(wasm.WithGrace); it was ended"
}

// Error says how long the call had.
func (o *Overrun) Error() string {
	return fmt.Sprintf("it was asked to stop (%v) and had not %v later", o.Cause, o.Grace)
}

// TooLong says that an output could not be carried over.
type TooLong struct{ Text string }

// Error returns the worker's words.
func (t *TooLong) Error() string { return t.Text }
