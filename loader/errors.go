package loader

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// OpenError says why a plug-in could not be opened or inspected: what was found, what was expected, what to do. Its Kind
// is one of the Err… values below, which errors.Is finds; errors.Is(err, fs.ErrNotExist) finds a missing file.
//
// It is the Error of package inspect, with the fields
//
//	Path     string // as it was given; the plug-in's name where there is no file
//	Symbol   string // the exported symbol it is about, or ""
//	Kind     error  // one of the Err… values
//	Found    string // what there is; may be empty
//	Expected string // what there should be; may be empty
//	Remedy   string // what to do, as a sentence without its full stop, or as a question; may be empty
//	Err      error  // the cause, such as a *fs.PathError or a *CallError of ferrule_start; may be nil
type OpenError = inspect.Error

// The kinds of an OpenError that reading the file brings up, by Open and Inspect alike.
var (
	ErrRead       = inspect.ErrRead       // missing, or not to be read
	ErrNotRegular = inspect.ErrNotRegular // a directory, a device
	ErrNotLibrary = inspect.ErrNotLibrary // another kind of file: text, an archive, a program
	ErrTruncated  = inspect.ErrTruncated  // the file ends before what its headers promise
	ErrMalformed  = inspect.ErrMalformed  // headers that make no sense
	ErrNoContract = inspect.ErrNoContract // a library that is no plug-in: without ferrule_manifest
	ErrManifest   = inspect.ErrManifest   // a manifest or meta text that breaks R1 or R3
	ErrMajor      = inspect.ErrMajor      // made for another major version of the contract
	ErrName       = inspect.ErrName       // an exported name that is not valid (R2)
	ErrDuplicate  = inspect.ErrDuplicate  // a symbol that is exported twice (R2)
	ErrSymbol     = inspect.ErrSymbol     // a symbol that is not what its name says
)

// The kinds of an OpenError that only Open brings up.
var (
	ErrPlatform      = native.ErrPlatform                                      // made for another system or architecture
	ErrGoRuntime     = native.ErrGoRuntime                                     // a Go c-shared library: two Go runtimes break each other
	ErrDigest        = native.ErrDigest                                        // not the bytes that WithSHA256 expects
	ErrExecStack     = native.ErrExecStack                                     // it asks for an executable stack; see WithExecutableStack
	ErrLoad          = native.ErrLoad                                          // the system's loader refused it
	ErrMissingImport = errors.New("needs host functions that are not offered") // see WithHostFunc
	ErrStart         = errors.New("could not be started")                      // ferrule_start failed; Err is a *CallError or *ContractError
	ErrState         = errors.New("the state cannot be handed over")           // see WithState and Plugin.Handover
	ErrNoEngine      = native.ErrNoEngine                                      // see WithEngine
	ErrOption        = engine.ErrOption                                        // of Open's own arguments
)

// The kinds of a UsageError.
var (
	ErrClosed            = engine.ErrClosed                 // Close or Shutdown was called before
	ErrReentrant         = engine.ErrReentrant              // the call would wait for itself
	ErrTooDeep           = engine.ErrTooDeep                // an ErrReentrant: calls through host functions nest deeper than 64
	ErrDeadlock          = engine.ErrDeadlock               // an ErrReentrant: calls of several plug-ins would wait for each other
	ErrNilContext        = engine.ErrNilContext             // a context is nil
	ErrNilArgument       = errors.New("an argument is nil") // a codec, or a *Batch
	ErrViews             = engine.ErrViews                  // isolated: 256 views are not released; see View.Release
	ErrLost              = engine.ErrLost                   // the session's instance is gone; see Session
	ErrNotHere           = errors.New("not to be had here") // the engine that runs the plug-in has no such thing
	ErrNoStream          = errors.New("no such stream")     // Stream was given a reader or writer for a function that has none
	ErrNoFunc            = errors.New("no such function")   // the plug-in exports none of that name
	ErrNoHook      error = noHook{}                         // an ErrNoFunc: the plug-in does not attach to that point
)

// noHook is ErrNoHook, an ErrNoFunc.
type noHook struct{}

func (noHook) Error() string        { return "no such hook" }
func (noHook) Is(target error) bool { return target == ErrNoFunc }

// Status is what a plug-in's function returns. It is an error, so that errors.Is(err, loader.ErrInvalid) finds it in a
// *CallError, and so that a host function chooses the status that the plug-in gets by wrapping one:
//
//	return nil, fmt.Errorf("no customer %q: %w", name, loader.ErrInvalid)
type Status = abi.Status

// The statuses of the contract, as errors. A plug-in may have others of its own, from 1000 on.
const (
	ErrFailed      = abi.StatusFailed
	ErrInvalid     = abi.StatusInvalid
	ErrUnsupported = abi.StatusUnsupported
	ErrCancelled   = abi.StatusCancelled
	ErrPanic       = abi.StatusPanic
	ErrNoMemory    = abi.StatusNoMemory
	ErrPass        = abi.StatusPass
	ErrMisuse      = abi.StatusMisuse
)

// CallError says that a function ran and did not return OK, or that its context ended before it could run (then the
// Status is ErrCancelled), or that the engine found nobody to call (then it is ErrFailed).
//
// errors.Is finds the Status in it, and context.Canceled where a context ended; where nobody was called what the engine's package says of that, such as
// remote.ErrNoNode.
type CallError struct {
	Plugin  string // the plug-in's name
	Func    string // the function's name, or that of ferrule_start and the like; empty where there is none
	Status  Status // never OK
	Message string // the plug-in's own words, as it said them: they may hold what steers a terminal; may be empty
	Remedy  string // what the caller is to do, where the loader knows it: of a function that was called without its streams; may be empty

	cause  error // the context's, or a stream's, when that is why
	unmade bool  // nothing was called, and the message has it all
}

// maxMessage is how many bytes of a plug-in's own words an error has as a text, which others log and wrap. Of a cause it has as many: that may repeat what the plug-in has said.
const maxMessage = 64 << 10

// brief is an error's text of that length.
func brief(err error) string { return count.Cut(fmt.Sprint(err), maxMessage) }

// Error gives the status with the plug-in's own words, in which what steers a terminal is written out, and what to do. Of words without end it gives the beginning, and says so; Message
// has all of them.
func (e *CallError) Error() string {
	message := count.Cut(e.Message, maxMessage)
	text := fmt.Sprintf("plug-in %s: %s: %s", e.Plugin, e.Func, e.Status)
	if e.Func == "" {
		text = fmt.Sprintf("plug-in %s: %s", e.Plugin, e.Status)
	}
	switch {
	case e.unmade && e.Func != "": // nothing has failed that was called
		text = fmt.Sprintf("plug-in %s: %s: %s", e.Plugin, e.Func, message)
	case e.unmade:
		text = fmt.Sprintf("plug-in %s: %s", e.Plugin, message)
	case message != "":
		text += ": " + message
	}
	if e.cause != nil && !strings.Contains(e.Message, e.cause.Error()) {
		text += ": " + brief(e.cause)
	}
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return escape.Lines(text)
}

// Unwrap returns the status, ErrFailed beside one that is reserved for later versions of the contract (R10), or for host services, and the
// error of the context, or of a stream's reader or writer, when the call ended because of it.
func (e *CallError) Unwrap() []error {
	errs := []error{e.Status}
	if e.Status.Reserved() || e.Status == abi.StatusMore {
		errs = append(errs, ErrFailed)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// ContractError says which rule of ferrule.h a plug-in broke in a call. Its output was dropped. It is a mistake in the
// plug-in, for its author to mend.
type ContractError struct {
	Plugin   string // the plug-in's name
	Func     string // the function's name, or ferrule_start
	Rule     string // "R1" to "R34"
	Found    string // what the plug-in did
	Expected string // what the rule asks for
}

// Error says what was found and what was expected.
func (e *ContractError) Error() string {
	return escape.Lines(fmt.Sprintf("plug-in %s: %s broke rule %s of ferrule.h: found %s, expected %s", e.Plugin, e.Func, e.Rule, e.Found, e.Expected))
}

// UsageError says why a function was not called.
type UsageError struct {
	Plugin string // the plug-in's name
	Func   string // the function's name; may be empty
	Kind   error  // one of ErrClosed, ErrReentrant, ErrTooDeep, ErrDeadlock, ErrNilContext, ErrNilArgument, ErrViews, ErrNoFunc, ErrNoHook, ErrNoStream, ErrLost, ErrNotHere, ErrState
	Remedy string // what to do
}

// Error says what was wrong and what to do.
func (e *UsageError) Error() string {
	text := "plug-in " + e.Plugin
	if e.Func != "" {
		text += ": " + e.Func
	}
	text += ": " + e.Kind.Error()
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Unwrap returns the kind.
func (e *UsageError) Unwrap() error { return e.Kind }

// ShutdownError says that the context of Plugin.Shutdown ended before the plug-in was closed, and what still runs. The rest
// is done in the background, when that is back.
type ShutdownError struct {
	Plugin string // the plug-in's name
	Calls  int    // in progress
	Views  int    // not released
	Cause  error  // why the context had ended

	unloading bool // no instance runs any more
}

// Error says what still runs, and what becomes of it.
func (e *ShutdownError) Error() string {
	unfinished := engine.Unfinished{Calls: e.Calls, Views: e.Views, Unloading: e.unloading, Cause: errors.New(brief(e.Cause))}
	return fmt.Sprintf("plug-in %s: %v; the rest is done in the background", e.Plugin, &unfinished)
}

// Unwrap returns the context's error.
func (e *ShutdownError) Unwrap() error { return e.Cause }

// CodecError says that a Go value could not be encoded for a plug-in, or its result not decoded.
type CodecError struct {
	Plugin   string // the plug-in's name
	Func     string // the function's name
	Op       string // "encode" or "decode"
	Found    string // the Go type that was to be encoded, or how the function's result begins
	Expected string // the codec's format, and for which Go type
	Remedy   string // what to do
	Err      error  // the codec's

	// MediaType is what the plug-in says of the function's input (encode) or result (decode), such as "text/plain"; "" when it
	// does not say.
	MediaType string
}

// Error says what was found, what was expected, what the codec said, and what to do.
func (e *CodecError) Error() string {
	what := "encoding the input"
	if e.Op == "decode" {
		what = "decoding the result"
	}
	return escape.Lines(fmt.Sprintf("plug-in %s: %s: %s: found %s, expected %s: %s; %s", e.Plugin, e.Func, what, e.Found, e.Expected, brief(e.Err), e.Remedy))
}

// Unwrap returns the codec's error.
func (e *CodecError) Unwrap() error { return e.Err }

// callError dresses what an engine returned for a call with ctx. err comes before status; message is the plug-in's.
func callError(plugin, fn string, status Status, message []byte, err error, ctx context.Context) error {
	switch err := err.(type) { // not errors.As: what an error wraps may be another plug-in's
	case nil:
		e := &CallError{Plugin: plugin, Func: fn, Status: status, Message: strings.ToValidUTF8(string(message), "\uFFFD")}
		if status == ErrCancelled {
			e.cause = engine.CauseOfCancelled(ctx)
		}
		return e
	case *engine.Limit:
		return &CallError{Plugin: plugin, Func: fn, Status: status, Message: strings.ToValidUTF8(string(message), "\uFFFD"), cause: err}
	case *engine.Ended:
		return &CallError{Plugin: plugin, Func: fn, Status: ErrCancelled, Message: "not called: " + err.Error(), cause: err.Cause}
	case *engine.StartError:
		return startError(plugin, "", err)
	case *engine.Crash:
		return crashError(plugin, fn, err)
	case *engine.Overrun:
		return &DeadlineError{plugin, fn, err.Grace, err.Cause, err.By}
	case *OpenError:
		return err
	case *engine.TooLong:
		return &CallError{Plugin: plugin, Func: fn, Status: ErrNoMemory, Message: err.Text}
	case *engine.Violation:
		return &ContractError{plugin, fn, err.Rule, err.Found, err.Expected}
	case *engine.Deadlock:
		return &UsageError{plugin, fn, ErrDeadlock, "they are " + err.Circle() +
			": open one of them with more instances (WithInstances), or do not call plug-ins from host functions of each other"}
	}
	switch err {
	case engine.ErrClosed:
		return &UsageError{plugin, fn, ErrClosed, "open it again before calling it; where it was handed over, call its successor"}
	case engine.ErrLost:
		return &UsageError{plugin, fn, ErrLost, "its instance has panicked, or the worker, or the node, that it was in is gone: open a new session, which begins anew"}
	case engine.ErrEnded:
		return &CallError{Plugin: plugin, Func: fn, Status: ErrPanic, Message: err.Error()}
	case engine.ErrNilContext:
		return &UsageError{plugin, fn, ErrNilContext, "pass context.Background() where there is no other"}
	case engine.ErrTooDeep:
		return &UsageError{plugin, fn, ErrTooDeep, "end the recursion between the plug-in and its host functions"}
	case engine.ErrReentrant:
		return &UsageError{plugin, fn, ErrReentrant,
			"open it with more instances (WithInstances), or do not call a plug-in from the host functions it calls"}
	case engine.ErrViews:
		return &UsageError{plugin, fn, ErrViews, "release each View once its bytes were read (View.Release)"}
	default: // engine.Plugin promises no other
		return &CallError{Plugin: plugin, Func: fn, Status: ErrFailed, Message: "not called: " + err.Error(), cause: err, unmade: true}
	}
}

// error is callError for a call of the function without streams.
func (f *Func) error(status Status, message []byte, err error, ctx context.Context) error {
	made := f.streamError(status, message, err, ctx)
	if call, ok := made.(*CallError); ok && call.Status == ErrUnsupported {
		call.Remedy = withoutStreams[f.symbol().Stream]
	}
	return made
}

// withoutStreams says what to do where a function was called without the streams that it has, and is unsupported so.
var withoutStreams = map[abi.Stream]string{
	abi.StreamIn:   "it reads an input stream, which it has only when it is called with Func.Stream",
	abi.StreamOut:  "it writes an output stream, which it has only when it is called with Func.Stream",
	abi.StreamBoth: "it reads an input stream and writes an output stream, which it has only when it is called with Func.Stream",
}

// streamError is callError for a call of the function with the streams that it has.
func (f *Func) streamError(status Status, message []byte, err error, ctx context.Context) error {
	made := callError(f.plugin.Name(), f.name, status, message, err, ctx)
	if usage, ok := made.(*UsageError); ok && usage.Kind == ErrClosed && f.engine != f.plugin.engine {
		usage.Remedy = "the session has ended, or its plug-in was closed: open a new session"
	}
	return made
}

// ofConfiguration is what there is to do about a start where nothing is known of the configuration but that it may be why: see startedWith.
const ofConfiguration = "Its configuration may be the reason, or that it has none"

func startError(plugin, path string, start *engine.StartError) *OpenError {
	e := &OpenError{Path: path, Kind: ErrStart, Remedy: ofConfiguration}
	if start.Status == ErrPanic || start.Err != nil {
		e.Remedy = "Mend the fault in it"
	}
	var violation *engine.Violation
	if errors.As(start.Err, &violation) {
		e.Err = &ContractError{plugin, start.Name(), violation.Rule, violation.Found, violation.Expected}
	} else {
		e.Err = &CallError{Plugin: plugin, Func: start.Name(), Status: start.Status,
			Message: strings.ToValidUTF8(start.Message, "\uFFFD")}
	}
	return e
}

// didYouMean returns a remedy that names the candidate nearest to name, or all when none is near and they are few.
func didYouMean(name string, candidates []string) string {
	switch best := abi.Nearest(name, candidates); {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(candidates) == 0:
		return "there is none"
	case len(candidates) <= 12:
		return "there is " + strings.Join(candidates, ", ")
	default:
		return fmt.Sprintf("there are %d others", len(candidates))
	}
}
