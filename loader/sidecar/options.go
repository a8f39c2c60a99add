package sidecar

import (
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Option is one choice of Program's and Engine's; see the With… functions. Each is given once. Making one does not fail: what is wrong with it is a
// *loader.OpenError of the kind loader.ErrOption, which Open returns.
type Option func(*options) error

type options struct {
	interpreter []string
	args        []string
	env         []string
	output      io.Writer
	token       string
	tls         *tls.Config
	maxMessage  uint64
	grace       time.Duration
	start, stop time.Duration
	restart     restart
	sandbox     *confine.Bounds // nil: none
	any         bool            // it opens whatever is at a path
	given       engine.Given
}

// restart is what happens when sidecars end one after the other.
type restart struct {
	delay   time.Duration // before the third one is started; it doubles up to maxDelay
	limit   int           // so many crashes suspend it
	suspend time.Duration // for so long at first
}

const maxDelay = time.Second

// Program has loader.Open take what it is given as a sidecar: a program's path, or a URL. It is loader.WithEngine of Engine, but that it opens any file: where
// several engines are given, it comes last. What it returns can be used for several plug-ins, at the same time, too.
func Program(opts ...Option) loader.Option {
	return loader.WithEngine(newEngine(append([]Option{func(o *options) error { o.any = true; return nil }}, opts...)))
}

// Engine returns an engine for loader.WithEngine that opens sidecars beside plug-ins of other kinds: URLs, and files that are programs, by what is in them: a
// script that begins with #!, an executable of this system that is no library.
func Engine(opts ...Option) engine.Engine { return newEngine(opts) }

func newEngine(opts []Option) *sidecarEngine {
	e := &sidecarEngine{options: options{maxMessage: wire.MaxBody, grace: 500 * time.Millisecond, start: 30 * time.Second, stop: 2 * time.Second,
		restart: restart{10 * time.Millisecond, 5, 5 * time.Second}, given: engine.Given{By: by}}}
	e.fault = engine.Take(&e.given, &e.options, opts)
	return e
}

// by is the package's name, as errors have it.
const by = "sidecar"

func faulty(option, found, expected string) error {
	return (&engine.Given{By: by}).Faulty(option, found, expected)
}

func once(name string, set func(*options) error) Option {
	return func(o *options) error {
		if err := o.given.Once(name); err != nil {
			return err
		}
		return set(o)
	}
}

func positive(name string, d time.Duration, set func(*options)) Option {
	return once(name, func(o *options) error {
		set(o)
		if d <= 0 {
			return faulty(name, d.String(), "more than 0")
		}
		return nil
	})
}

// WithArgs sets the program's arguments, behind its name.
func WithArgs(args ...string) Option {
	return once("WithArgs", func(o *options) error {
		o.args = slices.Clone(args)
		for _, arg := range args {
			if strings.ContainsRune(arg, 0) {
				return faulty("WithArgs", fmt.Sprintf("%q", arg), "text without a NUL byte")
			}
		}
		return nil
	})
}

// WithInterpreter has the file at the path run by another program, such as python3, with its arguments, and the file's path behind them. A name without a separator is
// looked up in this process's PATH when a plug-in is opened. On Unix a script says so itself, in its first line (#!), and needs no interpreter here.
func WithInterpreter(program string, args ...string) Option {
	return once("WithInterpreter", func(o *options) error {
		if program == "" {
			return faulty("WithInterpreter", "an empty name", "the name or the path of a program")
		}
		o.interpreter = append([]string{program}, args...)
		return nil
	})
}

// WithEnv adds to the program's environment, as KEY=value. Without it a program has this process's PATH, HOME, TMPDIR, LANG and TZ, and on Windows what the system's own
// programs need; nothing else of this process's environment, which may have secrets in it.
func WithEnv(env ...string) Option {
	return once("WithEnv", func(o *options) error {
		o.env = slices.Clone(env)
		for _, variable := range env {
			name, _, ok := strings.Cut(variable, "=")
			switch {
			case !ok || name == "" || strings.ContainsRune(variable, 0):
				return faulty("WithEnv", fmt.Sprintf("%q", variable), "KEY=value without a NUL byte")
			case name == variableName:
				return faulty("WithEnv", fmt.Sprintf("%q", variable), "another variable: this one is the host's")
			}
		}
		return nil
	})
}

// WithOutput has what the program writes to its standard error, and to a standard output that is not the wire, written to w as well, by one goroutine at a time. What
// comes faster than w takes it is left out, with a line that says how much.
func WithOutput(w io.Writer) Option {
	return once("WithOutput", func(o *options) error {
		o.output = w
		if w == nil {
			return faulty("WithOutput", "nil", "a writer")
		}
		return nil
	})
}

// WithToken sets what a sidecar that somebody else has started compares before it answers (rule W4 of docs/wire.md): printable ASCII.
func WithToken(token string) Option {
	return once("WithToken", func(o *options) error {
		o.token = token
		if token == "" || strings.Trim(token, " ") != token || len(token) > 1024 || strings.ContainsFunc(token, func(c rune) bool { return c < ' ' || c > '~' }) {
			return faulty("WithToken", "a token that cannot be sent", "1 to 1024 printable ASCII characters, none of which is a space at an end")
		}
		return nil
	})
}

// WithTLS has a tcp: URL spoken to by TLS. config is not changed; without a ServerName it is the URL's host.
func WithTLS(config *tls.Config) Option {
	return once("WithTLS", func(o *options) error {
		if config == nil {
			return faulty("WithTLS", "nil", "a configuration, such as an empty one")
		}
		o.tls = config.Clone()
		return nil
	})
}

// Sandbox is a sandbox.Policy, of package loader/isolate/sandbox: a host without one does not link that package.
type Sandbox interface {
	// Bounds is what the policy comes to.
	Bounds() (*confine.Bounds, error)
}

// WithSandbox shuts the program in before anything of it runs: each of its processes, of every instance and every session, and what takes the place of one that has
// crashed. policy is a sandbox.Policy, which is copied. The program may read itself, the system's libraries, what it is linked to as far as a library may bring it along,
// and where it is a script the program that runs it, with what is that one's in the folders lib and share beside its own. It is started by this executable: its
// package sandbox takes over a process of it, before main, that is the program then. docs/sidecars.md has it in full.
//
// Open fails with an *loader.OpenError of the kind loader.ErrOption where the policy makes no sense, or the sidecar is a URL, of which nothing is started here; and of
// the kind loader.ErrSandbox where this system cannot keep to it, or a path is not there. A call that needs a new process fails with the latter when a path leads to
// something else by then. What keeps to it is in Plugin.Isolation's Layers.
func WithSandbox(policy Sandbox) Option {
	return once("WithSandbox", func(o *options) (err error) {
		if v := reflect.ValueOf(policy); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return faulty("WithSandbox", "nil", "a sandbox.Policy")
		}
		o.sandbox, err = policy.Bounds()
		return err
	})
}

// WithMaxMessage sets how long an input or an output may be, in bytes; without it 256 MiB. A longer input fails its call with loader.ErrNoMemory; a longer output breaks the wire.
func WithMaxMessage(n int64) Option {
	return once("WithMaxMessage", func(o *options) error {
		o.maxMessage = uint64(n)
		if n < 1 || n > math.MaxInt32 {
			return faulty("WithMaxMessage", fmt.Sprint(n), "1 to 2147483647")
		}
		return nil
	})
}

// WithGrace sets how long a function may go on after its context has ended, or its limit is over (loader.WithCallTimeout); without it half a second. Then its sidecar is
// ended, and the call fails with a *loader.DeadlineError. d is more than 0.
func WithGrace(d time.Duration) Option {
	return positive("WithGrace", d, func(o *options) { o.grace = d })
}

// WithStartTimeout sets how long a sidecar may take until it has said what it is, and once more until its ferrule.start is done, or its ferrule.configure, ferrule.save
// or ferrule.resume; without it 30 seconds. d is more than 0.
func WithStartTimeout(d time.Duration) Option {
	return positive("WithStartTimeout", d, func(o *options) { o.start = d })
}

// WithStopTimeout sets how long a sidecar may take to stop: for its ferrule.stop, and once more to end when it was told BYE; without it 2 seconds. Then it is
// ended. d is more than 0.
func WithStopTimeout(d time.Duration) Option {
	return positive("WithStopTimeout", d, func(o *options) { o.stop = d })
}

// WithRestart sets what happens when sidecars end one after the other, without a call in between that came back: the first two are started at once, the
// next after delay, which doubles up to a second; after limit of them calls fail at once, with loader.ErrSuspended, and one is tried again after suspend,
// which doubles each time, up to 16 times of it. Without it these are 10 ms, 5 and 5 s. delay and suspend are more than 0, limit is 1 or more.
func WithRestart(delay time.Duration, limit int, suspend time.Duration) Option {
	return once("WithRestart", func(o *options) error {
		o.restart = restart{delay, limit, suspend}
		if delay <= 0 || suspend <= 0 || limit < 1 {
			return faulty("WithRestart", fmt.Sprintf("%v, %d and %v", delay, limit, suspend), "a delay and a suspension of more than 0, and a limit of 1 or more")
		}
		return nil
	})
}
