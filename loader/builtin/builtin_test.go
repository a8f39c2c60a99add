package builtin_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

var ctx = context.Background()

// echo, state and host are the doubles of the fixtures of these names.
func echo() *builtin.Plugin {
	return &builtin.Plugin{Name: "echo", Version: "1.2.3", Description: "Answers in every way there is", Threads: abi.Concurrent,
		Funcs: []builtin.Function{
			{Name: "nothing", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }},
			{Name: "echo", Doc: "Returns its input.", In: "application/octet-stream", Out: "application/octet-stream",
				Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
			{Name: "fail", Call: func(_ context.Context, in []byte) ([]byte, error) { return nil, errors.New(string(in)) }},
			{Name: "fail_own", Call: func(_ context.Context, in []byte) ([]byte, error) {
				return nil, fmt.Errorf("%s: %w", in, loader.ErrInvalid)
			}},
		},
		Hooks: []builtin.Function{{Name: "before_echo", Doc: "Says that it was called.",
			Call: func(context.Context, []byte) ([]byte, error) { return []byte("hooked"), nil }}},
	}
}

// counter is an instance's state.
type counter struct{ n, number int }

func state() *builtin.Plugin {
	var alive, last atomic.Int32
	say := func(n int) ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }
	return &builtin.Plugin{Name: "state", Version: "1.0.0",
		Start: func(_ context.Context, config []byte) (any, error) {
			if len(config) >= 32 {
				return nil, fmt.Errorf("the configuration is long: %w", loader.ErrInvalid)
			}
			n, _ := strconv.Atoi(string(config))
			alive.Add(1)
			return &counter{n, int(last.Add(1))}, nil
		},
		Stop: func(any) { alive.Add(-1) },
		Funcs: []builtin.Function{
			{Name: "next", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				c := builtin.State(ctx).(*counter)
				c.n++
				return say(c.n)
			}},
			{Name: "number", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return say(builtin.State(ctx).(*counter).number) }},
			{Name: "alive", Call: func(context.Context, []byte) ([]byte, error) { return say(int(alive.Load())) }},
			{Name: "panic", Call: func(context.Context, []byte) ([]byte, error) { panic("index out of range") }},
		}}
}

func host() *builtin.Plugin {
	pass := func(name string) builtin.Function {
		return builtin.Function{Name: name, Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, name, in) }}
	}
	return &builtin.Plugin{Name: "host", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"upper", "again"},
		Funcs: []builtin.Function{pass("upper"), pass("again"),
			{Name: "log", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				builtin.Log(ctx, abi.LogWarn, string(in))
				return nil, nil
			}}}}
}

// ways are the engines that one table of cases runs over: the plug-in in C is the oracle of the one in Go.
var ways = map[string]func(t *testing.T, name string, double *builtin.Plugin, opts ...loader.Option) (*loader.Plugin, error){
	"native": func(t *testing.T, name string, _ *builtin.Plugin, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(fixture.C(t, name), opts...)
	},
	"isolated": func(t *testing.T, name string, _ *builtin.Plugin, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(fixture.C(t, name), append(opts, isolate.InWorker())...)
	},
	"builtin": func(_ *testing.T, _ string, double *builtin.Plugin, opts ...loader.Option) (*loader.Plugin, error) {
		return builtin.Open(double, opts...)
	},
}

// outcome is what a host sees of a call.
func outcome(out []byte, err error) string {
	var failed *loader.CallError
	switch {
	case err == nil:
		return fmt.Sprintf("%q", out)
	case errors.As(err, &failed):
		return fmt.Sprintf("%s %s: %q", failed.Plugin, failed.Func, failed.Status.String()+": "+failed.Message)
	}
	return fmt.Sprintf("%T %v", err, err)
}

func TestAsNative(t *testing.T) {
	upper := loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) {
		if string(in) == "refuse" {
			return nil, fmt.Errorf("not this one: %w", loader.ErrUnsupported)
		}
		if string(in) == "panic" {
			panic("a fault of the host")
		}
		return bytes.ToUpper(in), nil
	})
	again := loader.WithHostFunc("again", func(_ context.Context, in []byte) ([]byte, error) { return in, nil })
	for name, c := range map[string]struct {
		fixture string
		double  func() *builtin.Plugin
		opts    []loader.Option
		do      func(p *loader.Plugin, say func(...any))
	}{
		"what it says of itself": {"echo", echo, nil, func(p *loader.Plugin, say func(...any)) {
			f, err := p.Func("echo")
			h, hookErr := p.Hook("before_echo")
			say(p.Name(), p.Version(), p.Info().Manifest.Threads, p.Info().Manifest.Description, f.Name(), err, h.Name(), hookErr)
			for _, f := range p.Info().Funcs {
				if f.Name == "echo" {
					say(f.Doc, f.In, f.Out)
				}
			}
			_, err = p.Hook("echo")
			say(err)
			_, err = p.Func("before_echo")
			say(err)
		}},
		"results and failures": {"echo", echo, nil, func(p *loader.Plugin, say func(...any)) {
			for _, in := range []string{"", "a", string(make([]byte, 100_000))} {
				for _, fn := range []string{"echo", "nothing"} {
					say(outcome(p.Call(ctx, fn, []byte(in))))
				}
			}
			say(outcome(p.Call(ctx, "fail", []byte("no such customer"))))
			say(outcome(p.Call(ctx, "fail_own", []byte("not a number"))))
			hook, _ := p.Hook("before_echo")
			say(outcome(hook.Call(ctx, nil)))
			f, _ := p.Func("echo")
			out, err := f.Append(ctx, []byte("before "), []byte("and after"))
			say(outcome(out, err))
			v, err := f.View(ctx, []byte("viewed"))
			say(string(v.Bytes()), err)
			v.Release()
			var b loader.Batch
			say(f.Batch(ctx, [][]byte{[]byte("one"), nil, []byte("three")}, &b), b.Len())
			for i := range b.Len() {
				say(outcome(b.Result(i)))
			}
			failing, _ := p.Func("fail")
			say(failing.Batch(ctx, [][]byte{[]byte("one"), []byte("two")}, &b), b.Len())
			for i := range b.Len() {
				say(outcome(b.Result(i)))
			}
		}},
		"contexts": {"echo", echo, nil, func(p *loader.Plugin, say func(...any)) {
			var none context.Context
			say(outcome(p.Call(none, "echo", nil)))
			ended, end := context.WithCancelCause(ctx)
			end(errors.New("the customer left"))
			say(outcome(p.Call(ended, "echo", nil)))
			say(p.Shutdown(none))
		}},
		"after Close": {"echo", echo, nil, func(p *loader.Plugin, say func(...any)) {
			say(p.Close(), p.Close(), p.Shutdown(ctx))
			say(outcome(p.Call(ctx, "echo", nil)))
			say(p.Name())
		}},
		"state and configuration": {"state", state, []loader.Option{loader.WithConfig([]byte("41"))}, func(p *loader.Plugin, say func(...any)) {
			say(outcome(p.Call(ctx, "next", nil)))
			say(outcome(p.Call(ctx, "next", nil)))
			say(outcome(p.Call(ctx, "alive", nil)))
		}},
		"instances": {"state", state, []loader.Option{loader.WithInstances(3)}, func(p *loader.Plugin, say func(...any)) {
			say(outcome(p.Call(ctx, "alive", nil)))
		}},
		"a panic starts the instance anew": {"state", state, []loader.Option{loader.WithConfig([]byte("7"))}, func(p *loader.Plugin, say func(...any)) {
			say(outcome(p.Call(ctx, "next", nil)))
			_, err := p.Call(ctx, "panic", nil)
			say(errors.Is(err, loader.ErrPanic))
			say(outcome(p.Call(ctx, "next", nil)))
			say(outcome(p.Call(ctx, "alive", nil)))
			f, _ := p.Func("panic")
			var b loader.Batch
			err = f.Batch(ctx, make([][]byte, 3), &b)
			say(err == nil, b.Len())
		}},
		"imports": {"host", host, []loader.Option{upper, again}, func(p *loader.Plugin, say func(...any)) {
			say(outcome(p.Call(ctx, "upper", []byte("abc"))))
			say(outcome(p.Call(ctx, "again", []byte("abc"))))
			_, err := p.Call(ctx, "upper", []byte("refuse"))
			say(errors.Is(err, loader.ErrUnsupported))
			_, err = p.Call(ctx, "upper", []byte("panic"))
			say(errors.Is(err, loader.ErrFailed))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			said := make(map[string][]string)
			for way, open := range ways {
				p, err := open(t, c.fixture, c.double(), append(c.opts, loader.WithLogger(slog.New(slog.DiscardHandler)))...)
				require.NoError(t, err)
				c.do(p, func(a ...any) { said[way] = append(said[way], fmt.Sprintln(a...)) })
				require.NoError(t, p.Close())
			}
			require.NotEmpty(t, said["native"])
			assert.Equal(t, said["native"], said["builtin"])
			assert.Equal(t, said["native"], said["isolated"])
		})
	}
}

// What Open refuses is refused with the same kind and the same words by every engine.
func TestOpenAsNative(t *testing.T) {
	for name, c := range map[string]struct {
		fixture string
		double  func() *builtin.Plugin
		opts    []loader.Option
		kind    error
	}{
		"an import that is not offered": {"host", host, nil, loader.ErrMissingImport},
		"a start that fails":            {"state", state, []loader.Option{loader.WithConfig(make([]byte, 40))}, loader.ErrStart},
		"no instance":                   {"state", state, []loader.Option{loader.WithInstances(0)}, loader.ErrOption},
	} {
		t.Run(name, func(t *testing.T) {
			said := make(map[string]string)
			for way, open := range ways {
				_, err := open(t, c.fixture, c.double(), c.opts...)
				var e *loader.OpenError
				require.ErrorAs(t, err, &e)
				require.ErrorIs(t, err, c.kind)
				e.Path = "the plug-in"
				said[way] = strings.NewReplacer("ferrule_import_", "Imports: ", "ferrule_start", "Start").Replace(e.Error())
			}
			assert.Equal(t, said["native"], said["builtin"])
			assert.Equal(t, said["native"], said["isolated"])
		})
	}
}

// Of several engines the one takes what is opened that recognises it.
func TestWithEngine(t *testing.T) {
	both := []loader.Option{loader.WithEngine(builtin.Engine(echo(), state())), loader.WithEngine(loader.Native())}
	library := fixture.C(t, "echo")
	for path, native := range map[string]bool{"echo": false, "state": false, library: true} {
		p, err := loader.Open(path, both...)
		require.NoError(t, err)
		assert.Equal(t, native, p.Library() != nil, path)
		require.NoError(t, p.Close())
	}
	_, err := loader.Open("ehco", both...)
	assert.ErrorIs(t, err, loader.ErrRead, "no plug-in in Go, and no file")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, `Check the path, or the name: did you mean "echo"?`)
	p, err := loader.Open(library, loader.WithEngine(builtin.Engine(echo())), isolate.InWorker())
	require.NoError(t, err)
	_, isolated := p.Isolation()
	assert.True(t, isolated)
	require.NoError(t, p.Close())

	dir := t.TempDir()
	files := map[string]string{"empty.so": "", "short.so": "ELF", "lib.a": "!<arch>\n", "run.py": "#!/usr/bin/env python3\n", "script.so": "/* GNU ld script */\n",
		"m.wasm": "\x00asm\x01\x00\x00\x00"}
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, alone := loader.Open(path)
		require.Error(t, alone)
		_, beside := loader.Open(path, both...)
		assert.EqualError(t, beside, alone.Error(), "the only engine that opens files says what is wrong")
		_, isolated := loader.Open(path, both[0], isolate.InWorker())
		assert.EqualError(t, isolated, alone.Error())
	}
	_, alone := loader.Open(dir)
	_, beside := loader.Open(dir, both...)
	assert.EqualError(t, beside, alone.Error())

	two := []loader.Option{both[0], both[1], loader.WithEngine(another{loader.Native()})}
	for _, c := range []struct {
		path, text string
		opts       []loader.Option
	}{
		{filepath.Join(dir, "empty.so"), "found an empty file, expected plug-ins in Go (builtin.Engine) or native code (loader.Native) or another kind (another.Engine). " +
			"Give the engine that opens such files", two},
		{library, "found native code, expected plug-ins in Go (builtin.Engine). Add loader.WithEngine(loader.Native()), or isolate.InWorker(); " +
			"of the names of plug-ins in Go: there is echo, state", both[:1]},
		{"ecko", `found no plug-in in Go of this name, and no file, expected plug-ins in Go (builtin.Engine). Check the name: did you mean "echo"?`, both[:1]},
	} {
		_, err = loader.Open(c.path, c.opts...)
		assert.ErrorIs(t, err, loader.ErrNoEngine)
		assert.NotErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, c.text)
	}
	for _, c := range []struct {
		text string
		opts []loader.Option
	}{
		{"WithEngine with nil", []loader.Option{loader.WithEngine(nil)}},
		{"builtin.Engine twice, expected it once. Give one builtin.Engine all plug-ins", append(both[:1:1], both[0])},
		{"isolate.InWorker twice, expected it once. Give one isolate.InWorker all its options", []loader.Option{isolate.InWorker(), isolate.InWorker()}},
		{"loader.Native twice, expected it once. Leave one of them out", []loader.Option{both[1], both[1]}},
		{"loader.Native and isolate.InWorker, which both open native code", []loader.Option{both[1], isolate.InWorker()}},
		{"isolate.InWorker and loader.Native, which both open native code", []loader.Option{isolate.InWorker(), both[0], both[1]}},
		{"isolate.WithGrace with 0s", append(both[:1:1], isolate.InWorker(isolate.WithGrace(0)))},
		{"WithSHA256 for a plug-in in Go", append(both[:1:1], loader.WithSHA256(fmt.Sprintf("%064x", 1)))},
	} {
		_, err := loader.Open("echo", c.opts...)
		assert.ErrorIs(t, err, loader.ErrOption)
		assert.ErrorContains(t, err, c.text)
	}
}

// What is missing is another file than the plug-in's: a host that falls back on fs.ErrNotExist goes on without what was ordered otherwise.
func TestMissingIsThePluginItself(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	_, err := loader.Open(fixture.C(t, "echo"), isolate.InWorker(isolate.WithBinary(missing)))
	assert.ErrorIs(t, err, loader.ErrOption)
	assert.NotErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, fixture.C(t, "echo")+": ")
	_, err = loader.Open(missing, isolate.InWorker())
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// TestNilOption: an option that is nil is told by its place among those that the caller gave.
func TestNilOption(t *testing.T) {
	for text, opts := range map[string][]loader.Option{"Open with nil as option 1, expected options": {nil},
		"Open with nil as option 2, expected options that are made by functions named With… or Require…, or by InWorker": {loader.WithMaxCalls(1), nil}} {
		_, err := builtin.Open(&builtin.Plugin{Name: "x", Version: "1"}, opts...)
		assert.ErrorIs(t, err, loader.ErrOption)
		assert.ErrorContains(t, err, text)
	}
}

// another is an engine that recognises nothing.
type another struct{ engine.Engine }

func (another) Name() string                 { return "another.Engine" }
func (another) Words() engine.Words          { return engine.Words{Kind: "another kind"} }
func (another) Recognises(*engine.File) bool { return false }

func TestPluginIsChecked(t *testing.T) {
	fn := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	for text, p := range map[string]*builtin.Plugin{
		"nil as plug-in 1": nil,
		`the Name "", expected 1 to 128 letters, digits, _, - or .`: {Version: "1"},
		`"x" without a Version, expected one such as 1.0.0`:         {Name: "x"},
		`the Name "x\x00y=z"`: {Name: "x\x00y=z", Version: "1"},
		`"x" with the Description "a\xff", expected UTF-8 without a NUL`: {Name: "x", Version: "1", Description: "a\xff"},
		`"x" with the Threads 9, expected abi.Serial`:                    {Name: "x", Version: "1", Threads: 9},
		`the function f of "x" without a Call`:                           {Name: "x", Version: "1", Funcs: []builtin.Function{{Name: "f", Call: builtin.JSON[int, int](nil)}}},
		`the Name "nnnnn`:                                                {Name: strings.Repeat("n", 5<<20), Version: "1"},
		`a of "x": a NUL byte in its doc`:                                {Name: "x", Version: "1", Funcs: []builtin.Function{{Name: "a", Call: fn, Doc: "a\x00b"}}},
		`the hook a of "x": key "in"`:                                    {Name: "x", Version: "1", Hooks: []builtin.Function{{Name: "a", Call: fn, In: "text/\xff"}}},
		`the function "a-b" of "x"`:                                      {Name: "x", Version: "1", Funcs: []builtin.Function{{Name: "a-b", Call: fn}}},
		`two of the function a of "x"`:                                   {Name: "x", Version: "1", Funcs: []builtin.Function{{Name: "a", Call: fn}, {Name: "a", Call: fn}}},
		`the hook a of "x" without a Call`:                               {Name: "x", Version: "1", Hooks: []builtin.Function{{Name: "a"}}},
		`two of the import a of "x", expected `:                          {Name: "x", Version: "1", Imports: []string{"a", "b", "a"}},
	} {
		_, err := builtin.Open(p)
		assert.ErrorIs(t, err, loader.ErrOption, text)
		assert.ErrorContains(t, err, text)
		assert.NotContains(t, err.Error(), "FERRULE_")
		assert.Less(t, len(err.Error()), 1000)
	}
}

// A call that would wait for itself is refused, and so is a circle of several plug-ins.
func TestReentrance(t *testing.T) {
	var plugins [2]*loader.Plugin
	var refused error // what the innermost call got
	define := func(name string, threads abi.Threads, next int) *loader.Plugin {
		p, err := builtin.Open(&builtin.Plugin{Name: name, Version: "1", Threads: threads, Funcs: []builtin.Function{{Name: "f",
			Call: func(ctx context.Context, in []byte) ([]byte, error) {
				_, err := plugins[next].Call(ctx, "f", in)
				refused = cmp.Or(refused, err)
				return nil, err
			}}}})
		require.NoError(t, err)
		return p
	}
	for name, c := range map[string]struct {
		threads abi.Threads
		next    int
		want    error
	}{
		"itself":             {abi.Serial, 0, loader.ErrReentrant},
		"another and back":   {abi.Serial, 1, loader.ErrReentrant},
		"pinned":             {abi.Pinned, 1, loader.ErrReentrant},
		"recursion for ever": {abi.Concurrent, 0, loader.ErrTooDeep},
	} {
		t.Run(name, func(t *testing.T) {
			refused = nil
			plugins = [2]*loader.Plugin{define("a", c.threads, c.next), define("b", c.threads, 0)}
			_, err := plugins[0].Call(ctx, "f", nil)
			assert.ErrorIs(t, err, loader.ErrFailed)
			assert.ErrorIs(t, refused, c.want)
			for _, p := range plugins {
				require.NoError(t, p.Close())
			}
		})
	}

	// The same without the call's context, by which a native one is known, too: it is on the call's goroutine.
	for _, c := range []struct {
		threads abi.Threads
		want    error
	}{{abi.Serial, loader.ErrReentrant}, {abi.Concurrent, loader.ErrTooDeep}, {abi.Pinned, loader.ErrReentrant}} {
		var p *loader.Plugin
		refused = nil
		p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Threads: c.threads, Funcs: []builtin.Function{{Name: "f",
			Call: func(context.Context, []byte) ([]byte, error) {
				_, err := p.Call(context.Background(), "f", nil)
				refused = cmp.Or(refused, err)
				return nil, err
			}}}})
		require.NoError(t, err)
		_, err = p.Call(ctx, "f", nil)
		assert.ErrorIs(t, err, loader.ErrFailed)
		assert.ErrorIs(t, refused, c.want)
		require.NoError(t, p.Close())
	}

	// Two that are inside each other's waiting: a is in a's instance and wants b, b is in b's and wants a.
	var both sync.WaitGroup
	both.Add(2)
	meet := func(name string, next int) *loader.Plugin {
		p, err := builtin.Open(&builtin.Plugin{Name: name, Version: "1", Funcs: []builtin.Function{{Name: "f",
			Call: func(ctx context.Context, in []byte) ([]byte, error) {
				if len(in) > 0 {
					return []byte("through"), nil
				}
				both.Done()
				both.Wait()
				return plugins[next].Call(ctx, "f", []byte("on"))
			}}}})
		require.NoError(t, err)
		return p
	}
	plugins = [2]*loader.Plugin{meet("a", 1), meet("b", 0)}
	ends := make(chan string, 2)
	for _, p := range plugins {
		go func() { ends <- outcome(p.Call(ctx, "f", nil)) }()
	}
	said := []string{<-ends, <-ends}
	slices.Sort(said)
	assert.Equal(t, `"through"`, said[0], "one is refused, so that the other can go on")
	assert.Contains(t, said[1], "wait for each other")
	for _, p := range plugins {
		require.NoError(t, p.Close())
	}
}

// A function that does not return has Shutdown return in time; a call that waits gives up with its context.
func TestWaiting(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Funcs: []builtin.Function{{Name: "f",
		Call: func(context.Context, []byte) ([]byte, error) { close(inside); <-leave; return []byte("late"), nil }}}})
	require.NoError(t, err)
	first := make(chan string)
	go func() { first <- outcome(p.Call(ctx, "f", nil)) }()
	<-inside
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = p.Call(short, "f", nil)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	second := make(chan string)
	go func() { second <- outcome(p.Call(ctx, "f", nil)) }()
	time.Sleep(10 * time.Millisecond) // it waits, or comes later, which is the same
	var unfinished *loader.ShutdownError
	require.ErrorAs(t, p.Shutdown(short), &unfinished)
	assert.Equal(t, 1, unfinished.Calls)
	assert.Contains(t, <-second, "closed")
	close(leave)
	assert.Equal(t, `"late"`, <-first)
	require.NoError(t, p.Close())
}

// Foreign code may panic, end its goroutine or call back wherever it is called: the plug-in goes on.
func TestFaults(t *testing.T) {
	for _, threads := range []abi.Threads{abi.Serial, abi.Concurrent, abi.Pinned} {
		t.Run(threads.String(), func(t *testing.T) {
			var out bytes.Buffer
			started := 0
			p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Threads: threads,
				Start: func(context.Context, []byte) (any, error) {
					if started++; started == 3 {
						return nil, errors.New("not now")
					}
					return started, nil
				},
				Stop: func(any) { panic("a fault of Stop") },
				Funcs: []builtin.Function{
					{Name: "ends", Call: func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil }},
					{Name: "panics", Call: func(context.Context, []byte) ([]byte, error) { panic(errors.New("a fault")) }},
					{Name: "which", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return fmt.Append(nil, builtin.State(ctx)), nil }},
					{Name: "strays", Call: func(context.Context, []byte) ([]byte, error) { return builtin.Import(context.Background(), "x", nil) }},
				}}, loader.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
			require.NoError(t, err)
			ended := make(chan bool)
			go func() {
				returned := false
				defer func() { ended <- returned }()
				_, err := p.Call(ctx, "ends", nil)
				assert.ErrorIs(t, err, loader.ErrPanic)
				returned = true
			}()
			assert.Equal(t, threads == abi.Pinned, <-ended, "a pinned instance's goroutine is not the caller's")
			assert.Equal(t, `"2"`, outcome(p.Call(ctx, "which", nil)), "it was started anew")
			assert.Equal(t, `p panics: "panic: a fault"`, outcome(p.Call(ctx, "panics", nil)))
			_, err = p.Call(ctx, "which", nil)
			assert.ErrorIs(t, err, loader.ErrStart)
			assert.ErrorContains(t, err, "not now")
			assert.Equal(t, `"4"`, outcome(p.Call(ctx, "which", nil)))
			_, err = p.Call(ctx, "strays", nil)
			assert.ErrorContains(t, err, "builtin.Import: found a context that is of no call in progress")
			require.NoError(t, p.Close())
			assert.Contains(t, out.String(), "Stop panicked: a fault of Stop")
			assert.Contains(t, out.String(), "builtin_test.go", "where the panic came from")
		})
	}
}
