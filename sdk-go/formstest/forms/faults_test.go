package forms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// hostFuncs are what the plug-in everything imports.
func hostFuncs() (opts []loader.Option) {
	same := func(_ context.Context, in []byte) ([]byte, error) { return in, nil }
	return []loader.Option{loader.WithHostFunc("refuse", same), loader.WithHostFunc("back", same),
		loader.WithHostFunc("double", func(_ context.Context, in []byte) ([]byte, error) { return bytes.Repeat(in, 2), nil })}
}

// logged is a logger's lines.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) option() loader.Option {
	return loader.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}

// outcome is what a call fails with, and what its error says.
type outcome struct {
	is   kind
	says string
}

type kind int

const (
	crash    kind = iota // a *loader.CrashError
	panicked             // a *loader.CallError of ErrPanic
	deadline             // a *loader.DeadlineError
)

const late = "it did not return after its context had ended"

// fault is a function that ends more than its call.
type fault struct {
	fn, in  string
	outcome     // of a program, and of a library
	code    int // the exit code of a crash; -1 where a library ends by SIGABRT, and a program with 2
	module  outcome
	program *outcome // where it is another
}

var faults = []fault{
	{fn: "ends_goroutine", outcome: outcome{crash, "found a function of the plug-in that has ended its goroutine"}, code: 2,
		module:  outcome{panicked, "the module exited with the code 2; its last line: ferrule: found a function of the plug-in that has ended its goroutine"},
		program: &outcome{panicked, "the function has ended its goroutine"}}, // on which nobody else was
	{fn: "exits", in: "0", outcome: outcome{crash, "ended with exit code 0"}, module: outcome{panicked, "the module exited with the code 0"}},
	{fn: "exits", in: "3", outcome: outcome{crash, "ended with exit code 3"}, code: 3, module: outcome{panicked, "the module exited with the code 3"}},
	{fn: "fatal", outcome: outcome{crash, "the last words"}, code: 1, module: outcome{panicked, "the last words"}},
	{fn: "overflows", outcome: outcome{crash, "; it wrote: fatal error: stack overflow"}, code: -1, module: outcome{panicked, "; it wrote: fatal error: stack overflow"}},
	{fn: "panics", in: "mutex", outcome: outcome{crash, "; it wrote: fatal error: sync: unlock of unlocked mutex"}, code: -1,
		module: outcome{panicked, "everything.Panics; it wrote: fatal error: sync: unlock of unlocked mutex"}},
	{fn: "panics", in: "goroutine", outcome: outcome{crash, "; it wrote: panic: on a goroutine"}, code: -1, module: outcome{panicked, "; it wrote: panic: on a goroutine"}},
	{fn: "maps", outcome: outcome{crash, "; it wrote: fatal error: concurrent map "}, code: -1, module: outcome{deadline, late}}, // which has one thread
	{fn: "blocks", outcome: outcome{deadline, late}, module: outcome{panicked, "; it wrote: fatal error: all goroutines are asleep - deadlock!"}},
	{fn: "sleeps", outcome: outcome{deadline, late}, module: outcome{deadline, late}},
	{fn: "spins", outcome: outcome{deadline, late}, module: outcome{deadline, late}},
	{fn: "spins_with_calls", outcome: outcome{deadline, late}, module: outcome{deadline, late}},
}

// of is what a fault comes to in a form.
func (c fault) of(f form) outcome {
	switch {
	case f.name == "module":
		return c.module
	case f.name == "program" && c.program != nil:
		return *c.program
	}
	return c.outcome
}

// What ends a plug-in is a typed error of the call that was in it, with why; the next call finds a plug-in that was started anew. What it has logged before is there. Of a plug-in
// that is compiled in, such a fault is the host's own.
func TestFaults(t *testing.T) {
	const grace = 50 * time.Millisecond
	for _, f := range []form{
		{"program", program.file, []loader.Option{sidecar.Program(sidecar.WithGrace(grace))}},
		{"module", module.file, []loader.Option{loader.WithEngine(wasm.Engine(cached, wasm.WithGrace(grace)))}},
		{"library", library.file, []loader.Option{isolate.InWorker(isolate.WithGrace(grace))}},
	} {
		t.Run(f.name, func(t *testing.T) {
			var lines logged
			p := f.open(t, append(hostFuncs(), loader.WithConfig([]byte(`{"first":40}`)), lines.option())...)
			next := func() {
				t.Helper()
				out, err := p.Call(t.Context(), "next", nil)
				require.NoError(t, err)
				require.Equal(t, "41", string(out), "it was started anew, once")
			}
			for _, c := range faults {
				t.Run(c.fn+" "+c.in, func(t *testing.T) {
					next()
					ctx := t.Context()
					if c.of(f).is == deadline {
						short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
						defer cancel()
						ctx = short
					}
					_, err := p.Call(ctx, c.fn, []byte(c.in))
					f.isAs(t, c, err)
				})
			}
			assert.Contains(t, lines.String(), `level=WARN msg="it exits" plugin=everything code=3`)
			next()
			require.NoError(t, p.Close())
		})
	}
}

// isAs checks the error of a fault.
func (f form) isAs(t *testing.T, c fault, err error) {
	t.Helper()
	expected := c.of(f)
	assert.ErrorContains(t, err, expected.says)
	assert.ErrorContains(t, err, "plug-in everything: "+c.fn+": ")
	switch expected.is {
	case deadline:
		var late *loader.DeadlineError
		require.ErrorAs(t, err, &late)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	case panicked:
		var call *loader.CallError
		require.ErrorAs(t, err, &call)
		assert.ErrorIs(t, err, loader.ErrPanic)
	default:
		var ended *loader.CrashError
		require.ErrorAs(t, err, &ended)
		switch {
		case c.code >= 0:
			assert.Equal(t, c.code, ended.ExitCode)
		case f.name == "library" && runtime.GOOS != "windows":
			assert.Equal(t, syscall.SIGABRT, ended.Signal)
		default:
			assert.Equal(t, 2, ended.ExitCode)
		}
	}
}

// A function that is compiled in ends its caller's goroutine, as any function in Go does; the plug-in is started anew then.
func TestGoexitCompiledIn(t *testing.T) {
	p := inHost.open(t, append(hostFuncs(), loader.WithConfig([]byte(`{"first":40}`)))...)
	ended := make(chan bool)
	go func() {
		returned := false
		defer func() { ended <- !returned }()
		_, _ = p.Call(t.Context(), "ends_goroutine", nil)
		returned = true
	}()
	require.True(t, <-ended)
	out, err := p.Call(t.Context(), "next", nil)
	require.NoError(t, err)
	assert.Equal(t, "41", string(out))
}

// bounded is a form with a limit of memory.
func (f form) bounded(n int64) form {
	switch f.name {
	case "module":
		f.with = []loader.Option{loader.WithEngine(wasm.Engine(cached, wasm.WithMemory(n)))}
	case "library":
		f.with = []loader.Option{isolate.InWorker(sandbox.With(sandbox.Policy{Memory: n, BestEffort: true}))}
	case "program":
		f.with = []loader.Option{sidecar.Program(sidecar.WithSandbox(sandbox.Policy{Memory: n, BestEffort: true}))}
	}
	return f
}

// Whatever memory a plug-in takes, it is the call's failure, and not its host's, where it has a limit.
func TestMemory(t *testing.T) {
	each(t, files, func(t *testing.T, f form) {
		if f.name != "module" && runtime.GOOS != "linux" {
			t.Skip("there are no limits of memory on " + runtime.GOOS)
		}
		p := f.bounded(192<<20).open(t, append(hostFuncs(), loader.WithConfig([]byte(`{"first":40}`)))...)
		for _, how := range []string{"at once", "text", "piece by piece"} {
			t.Run(how, func(t *testing.T) {
				_, err := p.Call(t.Context(), "grows", []byte(how))
				if f.name == "module" {
					assert.ErrorIs(t, err, loader.ErrPanic)
					assert.ErrorContains(t, err, "fatal error: out of memory")
				} else {
					assert.ErrorIs(t, err, loader.ErrCrash) // of which Go's collector may be the one who finds no memory, and has no word for that
				}
				out, err := p.Call(t.Context(), "next", nil)
				require.NoError(t, err)
				assert.Equal(t, "41", string(out))
			})
		}
	})
}

// An input that a module has no memory for is refused, and nothing of it is lost: Go's runtime, which ends a program without memory, is not asked.
func TestInputBeyondMemory(t *testing.T) {
	f := files[slices.IndexFunc(files, func(f form) bool { return f.name == "module" })].bounded(64 << 20)
	p := f.open(t, append(hostFuncs(), loader.WithConfig([]byte(`{"first":40}`)))...)
	_, err := p.Call(t.Context(), "next", make([]byte, 65<<20))
	assert.ErrorIs(t, err, loader.ErrNoMemory)
	out, err := p.Call(t.Context(), "next", nil)
	require.NoError(t, err)
	assert.Equal(t, "41", string(out))
}

// A collector that runs all the time moves nothing that the host has, and frees nothing of it.
func TestCollector(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	each(t, forms, func(t *testing.T, f form) {
		p := f.open(t, append(hostFuncs(), loader.WithInstances(4))...)
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				out, err := p.Call(t.Context(), "garbage", []byte("12"))
				assert.NoError(t, err)
				assert.Equal(t, "66", string(out))
			})
		}
		all.Wait()
	})
}

// Long inputs and results are what they are, also while others come and go.
func TestLongResults(t *testing.T) {
	sizes := []int{0, 64 << 10, 16 << 20}
	if testing.Short() {
		sizes = sizes[:2]
	} else if long() {
		sizes = append(sizes, 100<<20)
	}
	each(t, forms, func(t *testing.T, f form) {
		p := f.bounded(1<<30).open(t, append(hostFuncs(), loader.WithInstances(2))...)
		for _, n := range sizes {
			want := make([]byte, n)
			for i := range want {
				want[i] = byte(i * 31 >> 3)
			}
			out, err := p.Call(t.Context(), "long", fmt.Append(nil, n))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), n)
			out, err = p.Call(t.Context(), "echo", want)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), n)
		}
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				in := bytes.Repeat([]byte{byte(i)}, 256<<10+i)
				for range 4 {
					out, err := p.Call(t.Context(), "doubles", in)
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(bytes.Repeat(in, 2), out))
				}
			})
		}
		all.Wait()
	})
}

// A context's end ends a function that looks at it, with the error that it has for that.
func TestDeadline(t *testing.T) {
	each(t, forms, func(t *testing.T, f form) {
		p := f.open(t, hostFuncs()...)
		for _, how := range []string{"select", "err", "derived", "after"} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, err := p.Call(ctx, "waits", []byte(how))
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded, how)
			assert.ErrorIs(t, err, loader.ErrCancelled, how)
			var late *loader.DeadlineError
			assert.False(t, errors.As(err, &late), "%s: it has ended by itself: %v", how, err)
		}
	})
}
