package loader

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// Isolation is the state of a plug-in that runs in a worker process; see package isolate.
type Isolation struct {
	PID     int      // the worker's process; 0 when there is none
	Attempt int      // how many workers there have been
	Layers  []string // what shuts the worker in: of the sandbox, and of the process itself

	Suspended time.Duration // not 0 while no worker is started, because too many have crashed: how much longer; until then calls fail with ErrSuspended
}

// The kinds of an OpenError, and of a CrashError, that only isolated plug-ins bring up.
var (
	ErrSandbox   = wire.ErrSandbox                                          // a sandbox that was asked for cannot be had
	ErrCrash     = errors.New("the worker crashed")                         // a CrashError
	ErrSuspended = errors.New("no worker is started, because they crashed") // a CrashError with Suspended
)

// CrashError says that the worker process of an isolated plug-in, or a sidecar, ended while a function ran in it, or that none is
// started because too many have crashed. What the function has done until then is not known. The next call runs in a new
// worker, with new instances.
type CrashError struct {
	Plugin    string        // the plug-in's name
	Func      string        // the function's name; empty when it was loaded or started
	Signal    os.Signal     // the signal that ended the worker, or nil
	ExitCode  int           // the worker's exit code; -1 when a signal ended it, or it could not be started
	Fault     string        // where the fault was, where that is known: the address, and the code by function or offset; in words
	Reason    string        // why, where it was the host that ended it, or could not start it; may be empty
	Output    []string      // the last lines, 20 at most, that the worker wrote to its standard output and its standard error; of a Go runtime's long report of its end, the first ones
	Attempt   int           // which of the workers it was, of the plug-in's or of its group's, from 1
	Group     string        // the name of the group whose worker it was; empty for a plug-in by itself; see isolate.Group
	Culprit   string        // in a group, the plug-in whose code or call was why, where that can be told: the worker's word, which a hostile one can forge
	Others    int           // how many other calls were in the worker: any of them may be why it ended
	Suspended time.Duration // not 0 when the function was not called: how long no worker will be started
	Late      time.Duration // not 0 when the host ended it because something was not done in that time, such as to start or to stop the plug-in; Reason says what, and which option bounds it

	cause   error  // the context's of Shutdown, when that is why
	subject string // engine.Crash's, as kind
	kind    error
}

// Error says how the worker ended, with the last line that it wrote, which may be of an earlier call, or what a Go runtime's report of its end begins with. What steers a terminal
// is written out.
func (e *CrashError) Error() string {
	text := "plug-in " + e.Plugin + ": "
	if e.Func != "" {
		text += e.Func + ": "
	}
	crash := &engine.Crash{Signal: e.Signal, Fault: e.Fault, Code: e.ExitCode, Reason: e.Reason, Others: e.Others, Suspended: e.Suspended, Group: e.Group, Culprit: e.Culprit,
		Subject: e.subject, Output: e.Output}
	return escape.Lines(text + crash.Error() + crash.LastWords())
}

// Unwrap returns ErrCrash, ErrSuspended when the function was not called, what the engine's package says of such errors (remote.ErrNodeLost), and the context's error when the worker was killed
// because the context of Shutdown had ended.
func (e *CrashError) Unwrap() []error {
	errs := []error{ErrCrash}
	if e.Suspended > 0 {
		errs = append(errs, ErrSuspended)
	}
	if e.kind != nil {
		errs = append(errs, e.kind)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// DeadlineError says that a function of an isolated plug-in, or of a WebAssembly module, did not return in time after its context had ended, or its
// limit was over, and that it was ended: its worker was killed, and the next call runs in a new worker, with new instances; a module's instance is started anew.
type DeadlineError struct {
	Plugin string        // the plug-in's name
	Func   string        // the function's name
	Grace  time.Duration // how long it had to return
	Cause  error         // the context's; one that wraps context.DeadlineExceeded, and names the limit, for WithCallTimeout and Func.WithTimeout

	by string // engine.Overrun's; "" for a worker
}

// Error says how long the function had.
func (e *DeadlineError) Error() string {
	after := fmt.Sprintf("after its context had ended (%s)", brief(e.Cause))
	if limit, ok := e.Cause.(*engine.Limit); ok {
		after = limit.Error()
	}
	return fmt.Sprintf("plug-in %s: %s: it did not return %s and %v more %s", e.Plugin, e.Func, after, e.Grace, cmp.Or(e.by, "(isolate.WithGrace); its worker was killed"))
}

// Unwrap returns ErrCancelled and the context's error.
func (e *DeadlineError) Unwrap() []error { return []error{ErrCancelled, e.Cause} }

func crashAtOpen(plugin, path string, crash *engine.Crash, words engine.Words) error {
	remedy := "Look for a fault in " + words.Starting
	byRuntime := lastwords.ByRuntime(crash.Signal, crash.Code)
	var file *fs.PathError
	switch {
	case crash.Remedy != "":
		remedy = crash.Remedy
	case crash.Late > 0:
		remedy = "Give it more time, or look for what " + words.Starting + " may wait for"
	case byRuntime && slices.ContainsFunc(crash.Output, lastwords.Unpreloaded):
		remedy = "Load AddressSanitizer's runtime before the library: isolate.WithEnv with LD_PRELOAD= and what gcc -print-file-name=libasan.so says"
	case crash.Bound == engine.BoundMemory, byRuntime && slices.ContainsFunc(crash.Output, lastwords.NoMemory):
		remedy = "Free memory, or raise the limit (ulimit -v, a memory cgroup; in a sandbox Policy.Memory, of which the worker itself needs up to 64 MiB)"
	case byRuntime && slices.ContainsFunc(crash.Output, lastwords.NoThread):
		remedy = "Free memory, or raise the limit of it (ulimit -v, a memory cgroup), or of the user's processes (ulimit -u)"
	case errors.Is(crash.Err, syscall.EMFILE), errors.Is(crash.Err, syscall.ENFILE):
		remedy = "Raise the limit of open descriptors (ulimit -n), or close what is not needed"
	case errors.Is(crash.Err, syscall.ENOMEM):
		remedy = "Free memory, or raise the limit of it (ulimit -v, a memory cgroup)"
	case errors.Is(crash.Err, syscall.EAGAIN):
		remedy = "Free memory, or raise the limit of the user's processes (ulimit -u)"
	case errors.As(crash.Err, &file) && file.Path == os.DevNull: // of which there may be none in a chroot or a container
		remedy = "Have " + os.DevNull + " where this process can read it: it is the worker's standard input"
	case errors.Is(crash.Err, fs.ErrNotExist), errors.Is(crash.Err, fs.ErrPermission):
		remedy = "Give a program that this process can execute with isolate.WithBinary"
	case crash.Err != nil:
		remedy = "See why the system does not start the worker's program"
	case crash.Unserved:
		remedy = "See that no init function of the worker's program panics or ends it where FERRULE_WORKER is set (that is this " +
			"program unless isolate.WithBinary names another), or name one with isolate.WithBinary that imports little else"
	}
	return &OpenError{Path: path, Kind: ErrStart, Err: crashError(plugin, "", crash), Remedy: remedy}
}

func crashError(plugin, fn string, c *engine.Crash) error {
	return &CrashError{Plugin: plugin, Func: fn, Signal: c.Signal, Fault: c.Fault, ExitCode: c.Code, Reason: c.Reason, Output: c.Output,
		Attempt: c.Attempt, Group: c.Group, Culprit: c.Culprit, Others: c.Others, Suspended: c.Suspended, Late: c.Late, cause: c.GivenUp,
		subject: c.Subject, kind: c.Kind}
}
