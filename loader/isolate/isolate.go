// Package isolate opens plug-ins in worker processes, where a crash is an error value.
//
//	p, err := loader.Open("libresize.so", isolate.InWorker())
//
// The file, the calls and the results are those of a plug-in in this process. The worker is this program's own binary,
// started again: importing this package is what makes it a worker then, before main and most other packages' init
// functions. Calls travel through shared memory.
//
// When a worker ends, the calls that were in it fail with a *loader.CrashError, and the next call starts another one, with
// a new state. No call waits for the old one's end.
//
// Nothing of a worker outlives it or the host, on Linux (amd64, arm64) and Windows: the processes that it has started end with
// it, in whatever group and session they are, also after SIGKILL of the host. On Linux a keeper sees to that, a process between
// the two; the layer "leaves no processes" in Isolation.Layers says that there is one. What remains (docs/isolation.md has it in
// full):
//
//   - a plug-in without a sandbox can kill its keeper, on purpose, or never cease to stop it after SIGKILL of the host;
//   - what has changed its real user (sudo) stays, unless the keeper is root's;
//   - what something else starts on the plug-in's behalf (a service manager, cron) is not its child;
//   - where the layer is missing, what has left the worker's process group stays (without a /proc of this PID namespace; macOS), or,
//     where there is no keeper on Linux, what has left its session, and after SIGKILL of the host all but the worker.
//
// # What it protects from
//
// By itself it protects the host from mistakes: wild pointers, aborts, endless loops, leaks. It does not stop code that
// means harm, which runs with all the rights of this user; see package sandbox for that, and docs/isolation.md.
package isolate

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/host"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
)

// Option is one choice of InWorker's, or NewGroup's; see the With… functions, and sandbox.With. Each is given once; a second one is an error,
// as with loader.Option. Making one does not fail: what is wrong with it is an *loader.OpenError of the kind loader.ErrOption,
// which Open returns. An Option can be used several times, by any goroutine.
type Option func(*host.Options) error

// once makes an option that can be given once.
func once(name string, set func(*host.Options) error) Option {
	return func(o *host.Options) error {
		if err := o.Once("isolate." + name); err != nil {
			return err
		}
		return set(o)
	}
}

// InWorker has loader.Open run the plug-in in a worker process, which is started by Open, and anew by the call after it has ended.
// The last one ends by Plugin.Close, or with this process. Without options a worker has an empty environment, the rights of
// this process, and no limits but those that the With… functions name. What InWorker returns can be used for several plug-ins, at
// the same time too: each gets its own worker; Group is several in one. It keeps copies of what the options were given, but for WithOutput's writer.
//
// Open fails with an *loader.OpenError of the kind loader.ErrOption where an option is wrong, loader.ErrSandbox where a sandbox cannot be
// had, loader.ErrStart where the worker ended or was not started, which wraps a *loader.CrashError, and with those of a plug-in in
// the process. Calls fail in addition with a *loader.CrashError, a *loader.DeadlineError, loader.ErrSuspended and loader.ErrViews.
//
// The other options of loader.Open mean the same as without it, but for WithUnload: closing the plug-in ends its worker
// anyway. At most 256 calls run at a time, views that are not released included; others wait, but where all 256 are views and
// none is released within a second: then they fail with loader.ErrViews. Each call has one host function under way at a time, and
// 32 more for all calls of the worker, where threads of the plug-in call them at once; others wait. The worker's working directory is the root. Every
// worker, also one that is started later, loads the bytes that were at the path when the plug-in was opened: a private copy
// of the file (see loader.WithPrivateCopy), of which there is one for all plug-ins of this process that opened it. Of a file
// of more than 64 MiB, without a digest, it is the file itself, by its descriptor; if that is overwritten in place, no
// worker is started any more.
func InWorker(opts ...Option) loader.Option { return loader.WithEngine(Engine(opts...)) }

// Engine returns the engine of InWorker, for an engine that opens a library itself, such as the interpreter of a script.
func Engine(opts ...Option) engine.Engine {
	o, err := options("InWorker", opts)
	return &host.Engine{Options: o, Wrong: err}
}

// options are what the opts of a function come to, and what is wrong with the first of them that is.
func options(function string, opts []Option) (host.Options, error) {
	o := host.Options{
		Grace:        500 * time.Millisecond,
		StartTimeout: 30 * time.Second,
		StopTimeout:  2 * time.Second,
		Restart:      host.Restart{Delay: 10 * time.Millisecond, MaxDelay: time.Second, Limit: 5, Suspend: 5 * time.Second},
	}
	var failed error
	for i, opt := range opts {
		var err error
		if opt == nil {
			err = optionError(function, fmt.Sprintf("nil as option %d", i+1), "options that are made by functions named With…, or by sandbox.With")
		} else {
			err = opt(&o)
		}
		if failed == nil {
			failed = err
		}
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = maxMessage
		if o.Memory > 0 {
			o.MaxMessage = min(o.MaxMessage, o.Memory)
		}
	}
	return o, failed
}

// maxMessage is what there is without WithMaxMessage.
const maxMessage = 256 << 20

func optionError(option, found, expected string) error {
	return &loader.OpenError{Kind: loader.ErrOption, Found: "isolate." + option + " with " + found, Expected: expected,
		Remedy: "Change that option"}
}

func positive(option string, d time.Duration) error {
	if d <= 0 {
		return optionError(option, d.String(), "more than 0")
	}
	return nil
}

// WithBinary sets the program that is started as the worker, in place of this one. It must import this package, of the same
// version, and package sandbox where that is used: Open looks for that in its file, and fails with an *OpenError of the kind
// loader.ErrOption before anything of it runs. A program that carries such a one as data is refused as well. Every worker
// of the plug-in runs the file that Open saw: on Linux by its descriptor; elsewhere by its path, and none is started when
// another file is there. None is started when it was overwritten in place. A relative path is resolved when InWorker is called.
func WithBinary(path string) Option {
	return once("WithBinary", func(o *host.Options) error {
		if path == "" {
			return optionError("WithBinary", "an empty path", "the path of a program")
		}
		abs, err := abspath.Of(path) // a worker begins in another folder, and this process may change its own
		if err != nil {
			return optionError("WithBinary", err.Error(), "a path that can be made absolute")
		}
		o.Binary = abs
		return nil
	})
}

// WithEnv sets the worker's environment, as KEY=value; without it the environment is empty. TZ is this process's, where it
// is set here and env does not set it: a plug-in's local time is the host's. FERRULE_WORKER is the host's own word to the
// worker, and cannot be set: that is an error, as is what is not KEY=value or has a NUL byte in it.
func WithEnv(env ...string) Option {
	return once("WithEnv", func(o *host.Options) error {
		for _, variable := range env {
			name, _, ok := strings.Cut(strings.TrimPrefix(variable, "="), "=") // Windows has some that begin with it; see os.Environ
			switch {
			case !ok || name == "" || strings.ContainsRune(variable, 0):
				return optionError("WithEnv", fmt.Sprintf("%q", variable), "KEY=value, without NUL bytes")
			case strings.EqualFold(name, worker.Variable):
				return optionError("WithEnv", fmt.Sprintf("%q", variable), "no "+worker.Variable+", by which the host starts its worker")
			}
		}
		o.Env = append([]string(nil), env...)
		return nil
	})
}

// WithOutput sets where what the plug-in writes to its standard output and standard error goes; without it only the last
// lines are kept, for errors. It is written to by a goroutine for each worker, of which two may run at a time when one
// worker has ended: w is to allow that. It is never closed. Close gives it 100 ms for what it has not taken yet; what is left is
// written later. Its errors and panics are dropped, and nil is an error. Nothing waits for it: while it is slow up to 256 KiB are
// kept for it, and then output is dropped, which a line in its place says.
//
// What C code prints arrives line by line, and the rest by Close at the latest: the worker ends as a C program does, exit
// handlers and static destructors included. Functions that a library marks as its destructors (DT_FINI) run as well, but not with
// glibc where the worker's program is built with CGO_ENABLED=0: it has not begun as a C program.
func WithOutput(w io.Writer) Option {
	return once("WithOutput", func(o *host.Options) error {
		o.Output = w
		if w == nil {
			return optionError("WithOutput", "nil", "a writer; io.Discard drops it all")
		}
		return nil
	})
}

// WithGrace sets how long a function may go on after its context has ended, or its limit is over (loader.WithCallTimeout), before its worker is killed; without it half
// a second. The call fails with a *loader.DeadlineError then, and others in that worker with a *loader.CrashError. d is more than 0:
// no function returns within no time.
func WithGrace(d time.Duration) Option {
	return once("WithGrace", func(o *host.Options) error {
		o.Grace = d
		return positive("WithGrace", d)
	})
}

// WithStopTimeout sets how long ferrule_stop may take, in all instances, when the plug-in is closed, before its worker is
// killed; without it 2 seconds. d is more than 0. Close returns a *loader.CrashError then. Plugin.Shutdown has a bound of its own.
//
// What is left of it, and 1 second at most, is for what runs after ferrule_stop: the exit handlers and destructors of the plug-in
// and of its libraries. If these take longer the worker is killed as well, and that is no error of Close's.
func WithStopTimeout(d time.Duration) Option {
	return once("WithStopTimeout", func(o *host.Options) error {
		o.StopTimeout = d
		return positive("WithStopTimeout", d)
	})
}

// WithStartTimeout sets how long the system may take to start a worker, and how long the worker may take to load the plug-in and start
// its instances; without it 30 seconds for each. d is more than 0. Then the worker is killed: Open fails with loader.ErrStart, and a call
// that needs a new worker with a *loader.CrashError. loader.OpenContext has a bound of its own.
func WithStartTimeout(d time.Duration) Option {
	return once("WithStartTimeout", func(o *host.Options) error {
		o.StartTimeout = d
		return positive("WithStartTimeout", d)
	})
}

// WithMaxMessage sets the longest output of a function, and the longest input of a host function, in bytes; without it 256
// MiB, or sandbox.Policy.Memory where that is less. n is 1 or more. What is longer fails with loader.ErrNoMemory. The words of a
// function that fails (loader.CallError's Message) are no output: they may always have 4 KiB.
//
// It bounds what a worker can make this process use for one call: twice as much, once in the shared memory and once in the
// caller's copy, which View does without; and as much again while a host function runs with such an input.
func WithMaxMessage(n int64) Option {
	return once("WithMaxMessage", func(o *host.Options) error {
		o.MaxMessage = n
		if n < 1 {
			return optionError("WithMaxMessage", fmt.Sprint(n), "1 or more")
		}
		return nil
	})
}

// WithRestart sets what happens when workers crash one after the other, without a call in between that came back: the
// first two are started at once, the next after delay, which doubles up to a second; after limit crashes calls fail at
// once, with loader.ErrSuspended, and a worker is tried again after suspend, which doubles each time, up to 16 times of it. Without
// it these are 10 ms, 5, and 5 s. delay and suspend are more than 0, limit is 1 or more.
func WithRestart(delay time.Duration, limit int, suspend time.Duration) Option {
	return once("WithRestart", func(o *host.Options) error {
		o.Restart.Delay, o.Restart.Limit, o.Restart.Suspend = delay, limit, suspend
		o.Restart.MaxDelay = max(delay, o.Restart.MaxDelay)
		if limit < 1 {
			return optionError("WithRestart", fmt.Sprintf("limit %d", limit), "1 or more")
		}
		if err := positive("WithRestart", delay); err != nil {
			return err
		}
		return positive("WithRestart", suspend)
	})
}

func init() {
	mark.OfWorker()
	// A program with package sandbox is taken over by that, once it is ready.
	if requested, sandbox := worker.Requested(); requested && !sandbox {
		worker.Main(nil)
	}
}
