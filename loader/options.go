package loader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// Option is one choice of Open's; see the With… functions, and package isolate.
//
// No option replaces another: one that is given twice is an OpenError of the kind ErrOption, whatever it says. WithHostFunc is
// given once for each name; isolate.InWorker is given once, with all its options. Those without a value, such as
// WithPrivateCopy, can be given again.
type Option func(*options) error

type options struct {
	hostFuncs map[string]HostFunc
	config    []byte
	logger    *slog.Logger
	instances int
	maxCalls  int // 0 is the default
	sha256    *libfile.Digest
	private   bool
	unload    bool
	execStack bool
	quick     bool
	engines   []engine.Engine // none is the native one
	required  []string        // functions
	versions  versionRange
	info      map[string]string
	data      string
	state     *State
	timeout   time.Duration // 0 is none
	overdue   func(name string, limit time.Duration)
	given     map[string]bool
}

// WithEngine has Open run the plug-in with e: native code in this process with Native, which is what Open does by itself; in a
// worker process with isolate.InWorker, which is such an option already; Go functions with package builtin; or WebAssembly with wasm.Engine, of the module
// github.com/ferrule-dev/ferrule/loader/wasm. Of several engines
// the first one that recognises the file, by its first bytes, or the name, takes it, so that a host can open a folder of plug-ins of all kinds
// with the same options. A file that none of them recognises is an *OpenError of the kind ErrNoEngine, which says which one would.
//
// The interface of engines is package loader/engine, which is experimental (docs/promises.md).
//
// Every engine is given once, and one for each kind of file: loader.Native and isolate.InWorker both open native code, and are not given
// together. nil, and one that was made with options that are wrong, is an *OpenError of the kind ErrOption. The
// options of Open mean the same with each engine, or are of no use to it, as its package says.
func WithEngine(e engine.Engine) Option {
	return func(o *options) error {
		if e == nil {
			return optionError("WithEngine", "nil", "an engine, such as loader.Native()")
		}
		if err := e.Fault(); err != nil {
			return err
		}
		for _, other := range o.engines {
			words := e.Words()
			if other.Name() == e.Name() { // of two sandboxes, which?
				return &OpenError{Kind: ErrOption, Found: e.Name() + " twice", Expected: "it once", Remedy: words.Twice}
			}
			if words.Names == nil && other.Words().Kind == words.Kind {
				return &OpenError{Kind: ErrOption, Found: fmt.Sprintf("%s and %s, which both open %s", other.Name(), e.Name(), words.Kind),
					Expected: "one engine for each kind of plug-in", Remedy: "Leave one of them out: the other opens all " + words.Kind}
			}
		}
		o.engines = append(o.engines, e)
		return nil
	}
}

// Native returns the engine that loads native code into this process. Open uses it where no engine is given; beside others it
// is given as any: loader.WithEngine(loader.Native()).
func Native() engine.Engine { return native.Engine{} }

// once makes an option that can be given once.
func once(name string, set func(*options) error) Option {
	return func(o *options) error {
		if o.given[name] {
			return &OpenError{Kind: ErrOption, Found: name + " twice", Expected: "it once", Remedy: "Leave one of them out: none replaces another"}
		}
		if o.given == nil {
			o.given = make(map[string]bool)
		}
		o.given[name] = true
		return set(o)
	}
}

// HostFunc is a function that the host offers to plug-ins.
//
// in is the plug-in's memory, valid until the function returns: copy what is kept. The result is copied at once.
// ctx is the one of the call in which the plug-in is; passed on to calls of plug-ins, it lets a loop back into the same
// instance be refused instead of waiting for ever. It may be kept: when the call is over, it is the caller's context and no
// more.
//
// An error becomes the status and the message that the plug-in gets: a Status that it wraps, ErrCancelled for a
// context's error, otherwise ErrFailed. A Status that the contract reserves becomes ErrFailed. A panic becomes ErrFailed
// and a log line. It may be called from several goroutines at the same time, on any thread.
//
// It may call plug-ins, with the context that it got or one derived from it. A call that would then wait for itself is refused: because
// its instances are in use by the calls that it comes from (ErrReentrant), because plug-ins would wait for each other in a circle
// (ErrDeadlock), or because more than 64 calls would be in progress one within the other (ErrTooDeep). With another context that is
// recognised only on the host function's own goroutine, and without the circle.
//
// One that the plug-in calls between calls is known in the same two ways. Who stops the instance waits for it: its calls of
// the plug-in are refused (ErrReentrant) where they would start the instance anew, while Configure or Handover changes the plug-in, and,
// if they have to wait, from when the instance is about to be stopped. A goroutine that such a host function starts and waits for, and
// that calls the plug-in with another context, is not known: this call waits for the instance, and so for itself, until its context ends.
// Give it the host function's context. Isolated, the bounds of package isolate end the worker where the host waits: for Configure,
// Handover and NewSession, for Close, and for calls whose context ends.
//
// It should not call runtime.Goexit, and so no testing.T.FailNow, which holds for contexts and log handlers, too: that skips the plug-in's
// frames, with what they would have freed, and the instance is replaced as after a panic. On a thread of the plug-in's own, in a pinned
// plug-in, and in one that imports nothing, it is the call that fails then, and no goroutine of the caller's ends.
type HostFunc func(ctx context.Context, in []byte) ([]byte, error)

// WithHostFunc offers a function to the plug-in, under the name that it imports, or wants (rule R23). One that the plug-in does not import
// is not an error: hosts offer the same set to all. A name that is no C identifier of at most 128 bytes, one that was given
// before, and a nil fn are an OpenError of kind ErrOption.
func WithHostFunc(name string, fn HostFunc) Option {
	return func(o *options) error {
		switch {
		case !abi.ValidName(name):
			return optionError("WithHostFunc", fmt.Sprintf("the name %q", name), "a C identifier of at most 128 bytes")
		case fn == nil:
			return optionError("WithHostFunc", fmt.Sprintf("nil for %q", name), "a function; JSONFunc and FuncWith make none of nil")
		case o.hostFuncs[name] != nil:
			return optionError("WithHostFunc", fmt.Sprintf("two functions for %q", name), "one")
		}
		if o.hostFuncs == nil {
			o.hostFuncs = make(map[string]HostFunc)
		}
		o.hostFuncs[name] = fn
		return nil
	}
}

// WithConfig gives the plug-in its configuration: the bytes that ferrule_start gets, in whatever format the plug-in
// documents. They are copied. A plug-in that exports no ferrule_start gets none, and is opened as without.
func WithConfig(config []byte) Option {
	return once("WithConfig", func(o *options) error {
		o.config = bytes.Clone(config)
		return nil
	})
}

// WithLogger sets where the plug-in's log lines go, with the attribute plugin set to its name; without it they go to
// slog.Default(). So do the loader's own about it: a host function that panicked, a ferrule_stop that failed, and, on Linux,
// symbols that the library defines and does not get, because the process has others of the same name. The attribute comes with
// each line: of the handler's methods Enabled and Handle are called, and no others. When one panics, the line is lost.
func WithLogger(logger *slog.Logger) Option {
	return once("WithLogger", func(o *options) error {
		if logger == nil {
			return optionError("WithLogger", "nil", "a logger; slog.New(slog.DiscardHandler) drops all lines")
		}
		o.logger = logger
		return nil
	})
}

// WithInstances sets how many instances of the plug-in there are, 1 to 65,536, each with its own state; the default is 1. It is how
// many calls of a serial or pinned plug-in run at the same time. A pinned plug-in, whose instances each take a thread, can have
// 1,024; Open refuses more.
func WithInstances(n int) Option {
	return once("WithInstances", func(o *options) error {
		if n < 1 || n > maxInstances {
			return optionError("WithInstances", fmt.Sprint(n), fmt.Sprintf("1 to %d", maxInstances))
		}
		o.instances = n
		return nil
	})
}

const maxInstances = 1 << 16

// maxPinned is how many instances of a pinned plug-in there can be: each has a thread of its own, of which a Go process has
// 10,000 (see debug.SetMaxThreads), and it ends where they are used up.
const maxPinned = 1 << 10

// WithMaxCalls sets how many calls of a concurrent plug-in run at a time at most, 1 to 8,192; others wait, until their context ends. A
// call that blocks in the plug-in, or in a host function, takes a thread, and a Go process that wants more than 10,000 ends
// (see debug.SetMaxThreads). The default is half of what debug.SetMaxThreads allowed when the first plug-in was opened: a
// host that opens several plug-ins whose calls block gives each of them less. Serial and pinned plug-ins run as many calls
// as they have instances (WithInstances). Isolated, no more than 256 calls run at a time, and the host's threads are not
// concerned.
func WithMaxCalls(n int) Option {
	return once("WithMaxCalls", func(o *options) error {
		if n < 1 || n > maxCalls {
			return optionError("WithMaxCalls", fmt.Sprint(n), fmt.Sprintf("1 to %d", maxCalls))
		}
		o.maxCalls = n
		return nil
	})
}

const maxCalls = native.MostCalls

// WithSHA256 opens the library only when its SHA-256 digest, in hexadecimal, is this one. The bytes that were compared
// are the bytes that are loaded, from a private copy as in WithPrivateCopy.
func WithSHA256(digest string) Option {
	return once("WithSHA256", func(o *options) error {
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != sha256.Size {
			return optionError("WithSHA256", fmt.Sprintf("%q", digest), "64 hexadecimal digits")
		}
		o.sha256 = (*libfile.Digest)(sum)
		return nil
	})
}

// WithPrivateCopy loads a private copy of the file, made when it is opened, in place of the file itself: what happens to the
// file later does not change what runs. On Linux the copy is sealed, in memory, and has the file's name for profilers and
// debuggers; elsewhere it is a file in a folder of the user's cache that no other process uses, removed once it is loaded
// (on Windows by a later process). Plug-ins with the same bytes share one. It costs as much memory as the file is long, and
// the time to read it. The library's own path is another one then, for dladdr and the like; what it links to is found by
// its own folder ($ORIGIN) all the same. A file on a file system that is mounted noexec is refused, as without a copy.
//
// An isolated plug-in always runs from such a copy, which all its workers share; so does one in this process that is opened
// with a digest, or whose file was replaced while its library was loaded.
func WithPrivateCopy() Option {
	return func(o *options) error {
		o.private = true
		return nil
	}
}

// WithUnload has Close unload the library from the process, when every plug-in opened from the same file was opened
// so and is closed. Without it the library stays until the process ends, at the cost of its memory.
//
// Use it only for libraries that support it: if a thread of the library still runs, or something still holds one of its
// functions, such as an exit handler, the process crashes. And it often does nothing: C++ libraries with
// unique symbols, Rust libraries that used thread-local storage with destructors, libraries linked with -z nodelete,
// and every library on musl stay. When the file of one that stayed is replaced and opened again, a private copy is loaded.
// Close waits for the system's loader then, which waits for the constructors of a library that is being loaded.
func WithUnload() Option {
	return func(o *options) error {
		o.unload = true
		return nil
	}
}

// WithExecutableStack also opens a library that asks for an executable stack, or is linked to one that does; without it that
// is an OpenError of kind ErrExecStack. The C library then makes the stacks of the whole process executable, the host's
// included (isolated: the worker's), and an overflow of a buffer on one of them can run code. It is for old libraries that
// nobody can link anew; newer C libraries (glibc as of 2.41) refuse them all the same.
func WithExecutableStack() Option {
	return func(o *options) error {
		o.execStack = true
		return nil
	}
}

// WithQuick has functions that say quick=yes (rule R34) entered by the quick crossing: Append, Call and Try take about half the
// time, because the goroutine keeps its processor while the function runs. Use it for code that you trust as your own. Until such a
// function returns, no garbage collection begins, and no goroutine can be stopped; one that waits for something that only Go can
// bring about stops the process for good. A function that uses a host service gets FERRULE_MISUSE from it. Some calls are timed. A
// function that was found to take longer than 20 µs, or to use a host service, is called in the ordinary way from then on, with a
// line in the log.
//
// All that Append promises holds, but that the function hears of no cancellation, and of no limit (WithCallTimeout), while it
// runs. Where there is no quick crossing, calls are ordinary ones, and that is no error: see Func.Quick. It is there in this process
// on Linux on amd64, with Go 1.26 and 1.27, for plug-ins that are not pinned, without the race detector. FERRULE_NOQUICK=1 in the
// environment of the process turns it off.
func WithQuick() Option {
	return func(o *options) error {
		o.quick = true
		return nil
	}
}

// apply takes the options of an Open of path. An option's error is one value however often the option is used, and what each
// Open returns is its own: so it is copied.
func (o *options) apply(path string, opts []Option) error {
	for i, opt := range opts {
		var err error
		if opt == nil {
			err = optionError("Open", fmt.Sprintf("nil as option %d", i+1), "options that are made by functions named With… or Require…, or by InWorker")
		} else {
			err = opt(o)
		}
		if err != nil {
			own := *err.(*OpenError) // no option makes another
			own.Path = path
			return &own
		}
	}
	return nil
}

func isAbsolute(path string) bool { return filepath.IsAbs(path) }

func optionError(option, found, expected string) error {
	return &OpenError{Kind: ErrOption, Found: option + " with " + found, Expected: expected, Remedy: "Change the call of Open"}
}
