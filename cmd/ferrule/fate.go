package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crash"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
)

// stage is how far a process is with a plug-in that is loaded into it.
type stage string

// The stages, in their order. Before the first one nothing of the plug-in has run.
const (
	opening  stage = "opening"  // it is loaded, and its ferrule_start runs
	calling  stage = "calling"  // the function runs
	returned stage = "returned" // the function has returned
	stopping stage = "stopping" // its ferrule_stop runs
	stopped  stage = "stopped"  // nothing of it is called any more; threads of its own may run
)

// The kinds of a fate, as --json has them.
const (
	crashed        = "the plug-in crashed"
	lateKind       = "out of time"
	wasInterrupted = "interrupted"
)

// fate says what has become of a plug-in that is in no worker, or of the process that it was loaded into, and where.
type fate struct {
	kind             string
	path, plugin, fn string
	stage            stage
	text             string // what has become of it

	signal os.Signal // that ended the process, or nil
	code   *int      // or its exit code
	fault  string    // where it crashed; may be empty
	lines  []string  // the last that the plug-in wrote
	cause  error     // a context's
}

// Error says at which stage what has happened.
func (f *fate) Error() string {
	plugin := "plug-in " + f.plugin + ": "
	switch f.stage {
	case opening:
		text := f.path + ": could not be started: " + plugin + f.text
		if remedy := f.remedy(); remedy != "" {
			text += ". " + remedy + "."
		}
		return text
	case returned:
		return fmt.Sprintf("%safter %s had returned: %s", plugin, f.fn, f.text)
	case stopping:
		return plugin + "ferrule_stop: " + f.text
	case stopped:
		return plugin + "after ferrule_stop had returned: " + f.text
	case calling:
		return plugin + f.fn + ": " + f.text
	default:
		return plugin + "before anything of it ran: " + f.text
	}
}

// found adds where the process has crashed, if that was recorded and is what has ended it.
func (f *fate) found(record *os.File, signal os.Signal) {
	if record == nil {
		return
	}
	at := crash.Read(record)
	if number, ok := signal.(syscall.Signal); at == nil || !ok || at.Signal != int(number) {
		return
	}
	library := f.path
	if absolute, err := abspath.Of(library); err == nil {
		library = absolute
	}
	f.fault = at.Place(library)
	switch {
	case at.Overflow():
		f.fault = "stack overflow, " + f.fault
	case at.Accessed() && !at.Anywhere:
		f.fault = fmt.Sprintf("at the address %#x, %s", at.Address, f.fault)
	}
	f.fault = strings.TrimSuffix(f.fault, ", ")
	if f.fault != "" {
		f.text += " (" + f.fault + ")"
	}
}

// remedy is what to do, where that follows from the stage.
func (f *fate) remedy() string {
	switch {
	case f.stage != opening:
		return ""
	case f.byRuntime() && slices.ContainsFunc(f.lines, lastwords.Unpreloaded):
		return "Load AddressSanitizer's runtime before the library: LD_PRELOAD=$(gcc -print-file-name=libasan.so) in the environment of this " +
			"command, without --isolated; ferrule check does so by itself"
	case f.byRuntime() && slices.ContainsFunc(f.lines, lastwords.NoMemory):
		return "Free memory, or raise the limit (ulimit -v, a memory cgroup)"
	case f.byRuntime() && slices.ContainsFunc(f.lines, lastwords.NoThread):
		return "Free memory, or raise the limit of it (ulimit -v, a memory cgroup), or of the user's processes (ulimit -u)"
	case f.kind == crashed:
		return "Look for a fault in the library's constructors or its ferrule_start"
	case f.kind == lateKind:
		return "Give it more time, or look for what the library's constructors or its ferrule_start wait for"
	}
	return ""
}

// byRuntime reports whether the lines may say why the process ended.
func (f *fate) byRuntime() bool {
	code := -1
	if f.code != nil {
		code = *f.code
	}
	return f.kind == crashed && lastwords.ByRuntime(f.signal, code)
}

// function is what ran, as errors of isolated plug-ins have it.
func (f *fate) function() string {
	switch f.stage {
	case calling, returned:
		return f.fn
	case stopping, stopped:
		return "ferrule_stop"
	}
	return ""
}

func (f *fate) Unwrap() error { return f.cause }

// after says after what something was too late: the limit of the command line, or a signal.
func after(cause error, timeout time.Duration) string {
	if errors.Is(cause, context.Canceled) {
		return "after the interruption"
	}
	return fmt.Sprintf("after %v (--timeout)", timeout)
}

// worded is an error in the words of this command.
type worded struct {
	text string
	err  error
}

func (w *worded) Error() string { return w.text }
func (w *worded) Unwrap() error { return w.err }

// remedied is an error with what to do, a sentence without its full stop.
type remedied struct {
	err    error
	remedy string
}

func (r *remedied) Error() string { return r.err.Error() + ". " + r.remedy + "." }
func (r *remedied) Unwrap() error { return r.err }

// inTime says whose limit it was that a plug-in did not keep to.
func inTime(err error, timeout time.Duration) error {
	err = inWords(err)
	late, open := new(loader.DeadlineError), new(loader.OpenError)
	switch known := errors.As(err, new(*fate)); {
	case err == nil, known:
		return err
	case errors.As(err, &late):
		end := "its worker was killed"
		if strings.HasSuffix(err.Error(), "; it was ended") || strings.HasSuffix(err.Error(), "; its sidecar was ended") { // of a module, or a program
			end = "it was ended"
		}
		return &worded{fmt.Sprintf("plug-in %s: %s: it did not return %s, nor in the %v after; %s", late.Plugin, late.Func,
			after(late.Cause, timeout), late.Grace, end), err}
	case errors.Is(err, context.DeadlineExceeded):
		return &worded{strings.ReplaceAll(err.Error(), context.DeadlineExceeded.Error(), "out of time "+after(err, timeout)), err}
	case errors.Is(err, context.Canceled) && errors.As(err, &open):
		return &worded{open.Path + ": interrupted before it was started", err}
	case errors.Is(err, context.Canceled):
		return &worded{strings.ReplaceAll(err.Error(), context.Canceled.Error(), "interrupted"), err}
	}
	return err
}
