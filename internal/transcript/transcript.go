// Package transcript is the one table of what plug-ins of every engine are to do alike: what is done with each, written down in full.
//
// A test of an engine records each entry with its own plug-ins and with those of another engine, and compares.
package transcript

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// Transcript is what is done with one plug-in.
type Transcript struct {
	Name    string
	Library Source
	Fresh   bool            // it has static variables that other tests must not have touched
	shuffle bool            // its lines come in any order: its own threads log and call, or any of its instances is taken
	options []loader.Option // of what runs it: the configuration, how many instances
	config  string          // the configuration, where a successor may have another one
	info    []loader.Option // of the host
	funcs   map[string]loader.HostFunc
	steps   []step
}

// Source is where a plug-in is built from.
type Source struct {
	Kind Kind
	Name string
}

// Kind is a language, and a place of fixtures.
type Kind string

// The kinds of sources.
const (
	C    Kind = "C"    // internal/fixture/c
	SDK  Kind = "SDK"  // sdk-c/tests
	Rust Kind = "Rust" // sdk-rust/fixtures
)

// Built returns the path of the library that it is.
func (s Source) Built(tb testing.TB) string {
	tb.Helper()
	switch s.Kind {
	case C:
		return fixture.C(tb, s.Name)
	case SDK:
		return fixture.SDK(tb, s.Name)
	default:
		return fixture.Rust(tb, "fixture-"+s.Name)
	}
}

// Wasm returns the path of the WebAssembly module that it is.
func (s Source) Wasm(tb testing.TB) string {
	tb.Helper()
	switch s.Kind {
	case C:
		return fixture.WasmC(tb, s.Name)
	case SDK:
		return fixture.WasmSDK(tb, s.Name)
	default:
		return fixture.WasmRust(tb, "fixture-"+s.Name)
	}
}

// Open opens a plug-in, as loader.Open does with an engine's options.
type Open func(path string, opts ...loader.Option) (*loader.Plugin, error)

var ctx = context.Background()

type key struct{}

type point struct{ X, Y int }

func upper(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }
func echo(_ context.Context, in []byte) ([]byte, error)  { return in, nil }
func silent(context.Context, []byte) ([]byte, error)     { return nil, loader.Status(1001) }
func refuse(context.Context, []byte) ([]byte, error) {
	return nil, errors.Join(errors.New("refused"), loader.ErrUnsupported)
}
func repeat(_ context.Context, in []byte) ([]byte, error) {
	return []byte(strings.Repeat(string(in), 1000)), nil
}

// step is one thing that is done with an open plug-in.
type step func(*Recording)

// Recording is what one run of a transcript came to.
type Recording struct {
	testing.TB
	Plugin *loader.Plugin
	Calls  int // of functions, the records of batches among them

	mu    sync.Mutex
	Lines []string
	Begun func()                                                             // done when a plug-in says so, if not nil
	open  func(config string, more ...loader.Option) (*loader.Plugin, error) // opens the plug-in, once more with further options
}

// Say writes a line down.
func (r *Recording) Say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Lines = append(r.Lines, fmt.Sprintf(format, args...))
}

// Write takes the logger's lines.
func (r *Recording) Write(line []byte) (int, error) {
	r.Say("  log: %s", bytes.TrimSuffix(line, []byte("\n")))
	if r.Begun != nil && bytes.Contains(line, []byte("msg=begun")) {
		r.Begun()
	}
	return len(line), nil
}

// Node are the options of where the plug-in runs, and not of its host.
func (c *Transcript) Node() []loader.Option { return c.options }

// Record runs the transcript with the plug-in at path.
func (c *Transcript) Record(t testing.TB, open Open, path string) *Recording {
	return c.RecordApart(t, func(path string, opts ...loader.Option) (*loader.Plugin, error) {
		return open(path, append(opts, c.options...)...)
	}, path)
}

// RecordApart is Record where open is not given the options of where the plug-in runs.
func (c *Transcript) RecordApart(t testing.TB, open Open, path string) *Recording {
	r := &Recording{TB: t}
	logger := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: loader.LevelTrace,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey:
				return slog.Attr{}
			case "stack": // of whoever runs host functions
				return slog.Bool(a.Key, a.Value.String() != "")
			}
			return a
		}}))
	opts := append([]loader.Option{loader.WithLogger(logger)}, c.info...)
	for name, fn := range c.funcs {
		opts = append(opts, loader.WithHostFunc(name, func(ctx context.Context, in []byte) (out []byte, err error) {
			r.Say("  %s(%s)", name, Shown(in))
			return fn(context.WithValue(ctx, key{}, r), in)
		}))
	}
	Within(t, func() {
		if c.shuffle {
			defer func() { slices.Sort(r.Lines) }()
		}
		r.open = func(config string, more ...loader.Option) (*loader.Plugin, error) {
			if config != "" {
				more = append(more, loader.WithConfig([]byte(config)))
			}
			return open(path, append(opts[:len(opts):len(opts)], more...)...)
		}
		var err error
		r.Plugin, err = r.open(c.config)
		if err != nil {
			r.Say("open: %s", described(err))
			return
		}
		r.Say("open: %s %s", r.Plugin.Name(), r.Plugin.Version())
		for _, step := range c.steps {
			step(r)
		}
		r.Say("close: %s", described(r.Plugin.Close()))
	})
	return r
}

// within runs fn, which is to end within a minute.
func Within(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan bool, 1)
	go func() {
		returned := false
		defer func() { done <- returned }()
		fn()
		returned = true
	}()
	select {
	case returned := <-done:
		if !returned && !t.Failed() {
			t.Fatal("the goroutine was ended")
		}
	case <-time.After(time.Minute):
		t.Fatal("it has not ended within a minute")
	}
}

// Shown is data in a transcript: itself, or what tells it from other data.
func Shown(data []byte) string {
	if len(data) > 300 {
		return fmt.Sprintf("%.20q… %d bytes %x", data, len(data), sha256.Sum256(data))
	}
	return fmt.Sprintf("%q", data)
}

// known are the errors that errors.Is finds in others.
var known = []error{loader.ErrFailed, loader.ErrInvalid, loader.ErrUnsupported, loader.ErrCancelled, loader.ErrPanic,
	loader.ErrNoMemory, loader.ErrMisuse, loader.ErrClosed, loader.ErrReentrant, loader.ErrNoFunc, loader.ErrStart,
	loader.ErrLoad, loader.ErrDigest, loader.ErrCrash, context.Canceled, context.DeadlineExceeded, ErrLeft}

// ErrLeft is why an input stream breaks off, and why a context ends.
var ErrLeft = errors.New("the customer left")

// described is an error in a transcript: its text, its type with its fields, and what errors.Is finds in it.
func described(err error) string {
	if err == nil {
		return "no error"
	}
	text := fmt.Sprintf("%q", err.Error())
	if len(text) > 600 {
		text = Shown([]byte(err.Error()))
	}
	var call *loader.CallError
	var contract *loader.ContractError
	var usage *loader.UsageError
	var open *loader.OpenError
	var codec *loader.CodecError
	text += fmt.Sprintf(" %T", err)
	if errors.As(err, &call) {
		text += fmt.Sprintf(" {%s %s %d %s}", call.Plugin, call.Func, call.Status, Shown([]byte(call.Message)))
	}
	if errors.As(err, &contract) {
		text += fmt.Sprintf(" %+v", *contract)
	}
	if errors.As(err, &usage) {
		text += fmt.Sprintf(" %+v", *usage)
	}
	if errors.As(err, &open) {
		text += fmt.Sprintf(" {%q %v %q %q %q %q %v}",
			open.Path, open.Kind, open.Symbol, open.Found, open.Expected, open.Remedy, open.Err)
	}
	if errors.As(err, &codec) {
		text += fmt.Sprintf(" {%s %s %s}", codec.Plugin, codec.Func, codec.Op)
	}
	for _, is := range known {
		if errors.Is(err, is) {
			text += fmt.Sprintf(" is %q", is)
		}
	}
	return text
}

// outcome writes down what came of something.
func (r *Recording) outcome(what string, out []byte, err error) {
	if err != nil {
		r.Say("%s fails: %s; %s", what, described(err), Shown(out))
	} else {
		r.Say("%s = %s", what, Shown(out))
	}
}

// calls a function once for each input, or without one.
func calls(fn string, inputs ...string) step {
	return func(r *Recording) {
		if len(inputs) == 0 {
			inputs = []string{""}
		}
		for _, in := range inputs {
			r.Calls++
			out, err := r.Plugin.Call(ctx, fn, []byte(in))
			r.outcome(fmt.Sprintf("%s(%s)", fn, Shown([]byte(in))), out, err)
		}
	}
}

// appends calls a function with room of the caller's.
func appends(fn, in string, room int) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		r.Calls++
		out, err := f.Append(ctx, append(make([]byte, 0, 4+room), "kept"...), []byte(in))
		r.outcome(fmt.Sprintf("%s(%s) into %d", fn, Shown([]byte(in)), room), out, err)
	}
}

// hooks calls what is attached to an extension point.
func hooks(point, in string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Hook(point)
		var out []byte
		if err == nil {
			r.Calls++
			out, err = f.Call(ctx, []byte(in))
		}
		r.outcome(fmt.Sprintf("hook %s(%s)", point, Shown([]byte(in))), out, err)
	}
}

// views calls a function and reads its result in place.
func views(fn, in string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		r.Calls++
		v, err := f.View(ctx, []byte(in))
		var out []byte
		if err == nil {
			out = bytes.Clone(v.Bytes())
			v.Release()
		}
		r.outcome(fmt.Sprintf("view %s(%s)", fn, Shown([]byte(in))), out, err)
	}
}

// batches calls a function with all inputs at once.
func batches(fn string, inputs ...string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		var in [][]byte
		for _, text := range inputs {
			in = append(in, []byte(text))
		}
		var b loader.Batch
		r.Say("batch %s of %d: %s", fn, len(in), described(f.Batch(ctx, in, &b)))
		r.Calls += b.Len()
		for i := range b.Len() {
			out, err := b.Result(i)
			r.outcome(fmt.Sprintf("  %d (%s)", i, Shown(in[i])), out, err)
		}
		r.Say("  all: %s", described(b.Err()))
	}
}

// ends calls a function with a context that ends when the function says that it has begun: a time could be over before.
func ends(fn string, why error) step {
	return func(r *Recording) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r.Begun = func() { cancel(why) }
		defer func() { r.Begun = nil }()
		r.Calls++
		out, err := r.Plugin.Call(ctx, fn, nil)
		r.outcome(fn+" until it is cancelled", out, err)
	}
}

// ended calls a function with a context that has ended.
func ended(fn string, why error) step {
	return func(r *Recording) {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(why)
		r.Calls++
		out, err := r.Plugin.Call(ctx, fn, nil)
		r.outcome(fn+" until it is cancelled", out, err)
	}
}

// tries calls a function by Try.
func tries(fn string, inputs ...string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		for _, in := range inputs {
			r.Calls++
			out, status, err := f.Try(ctx, nil, []byte(in))
			r.outcome(fmt.Sprintf("try %s(%s) %d", fn, Shown([]byte(in)), status), out, err)
		}
	}
}

// streams calls a function with the streams that its meta text says, of which the input breaks off where that is asked for.
func streams(fn, args, data string, breaks bool) step {
	return func(r *Recording) {
		i := slices.IndexFunc(r.Plugin.Info().Funcs, func(s abi.Symbol) bool { return s.Name == fn })
		require.GreaterOrEqual(r, i, 0, fn)
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		var in io.Reader
		var out io.Writer
		var written bytes.Buffer
		if has := r.Plugin.Info().Funcs[i].Stream; has&abi.StreamIn != 0 {
			in = strings.NewReader(data)
			if breaks {
				in = io.MultiReader(in, iotest.ErrReader(ErrLeft))
			}
		}
		if has := r.Plugin.Info().Funcs[i].Stream; has&abi.StreamOut != 0 {
			out = &written
		}
		r.Calls++
		result, err := f.Stream(ctx, []byte(args), in, out)
		r.outcome(fmt.Sprintf("stream %s(%s) of %s, breaks %t, wrote %s", fn, Shown([]byte(args)), Shown([]byte(data)), breaks, Shown(written.Bytes())), result, err)
	}
}

// wraps calls a hook that stands around a function in Go.
func wraps(point, in string, behind loader.HostFunc) step {
	return func(r *Recording) {
		f, err := r.Plugin.Hook(point)
		require.NoError(r, err)
		r.Calls++
		out, err := f.Call(loader.WithNext(ctx, func(ctx context.Context, in []byte) ([]byte, error) {
			r.Say("  behind(%s)", Shown(in))
			return behind(ctx, in)
		}), []byte(in))
		r.outcome(fmt.Sprintf("wrap %s(%s)", point, Shown([]byte(in))), out, err)
	}
}

// configures gives the plug-in new settings.
func configures(config string) step {
	return func(r *Recording) {
		r.Say("configure %q: %s", config, described(r.Plugin.Configure(ctx, []byte(config))))
	}
}

// sessions calls a function in a session of its own, once for each input.
func sessions(config, fn string, inputs ...string) step {
	return func(r *Recording) {
		s, err := r.Plugin.NewSession(ctx, []byte(config))
		if err != nil {
			r.Say("session %q: %s", config, described(err))
			return
		}
		for _, in := range inputs {
			r.Calls++
			out, err := s.Call(ctx, fn, []byte(in))
			r.outcome(fmt.Sprintf("session %q: %s(%s)", config, fn, Shown([]byte(in))), out, err)
		}
		r.Say("end of the session: %s", described(s.Close()))
	}
}

// watches calls a function, and writes down what it told of its progress last.
func watches(fn, in string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		var done, total uint64
		r.Calls++
		out, err := f.Call(loader.WithProgress(ctx, func(d, t uint64) { done, total = d, t }), []byte(in))
		r.outcome(fmt.Sprintf("%s(%s) up to %d of %d", fn, Shown([]byte(in)), done, total), out, err)
	}
}

// closes closes the plug-in before the end.
func closes(r *Recording) { r.Say("close: %s", described(r.Plugin.Close())) }

// jsons calls a function with Go values.
func jsons[In, Out any](fn string, in In) step {
	return func(r *Recording) {
		r.Calls++
		out, err := loader.CallJSON[In, Out](ctx, r.Plugin, fn, in)
		r.outcome(fmt.Sprintf("JSON %s(%T)", fn, in), fmt.Append(nil, out), err)
	}
}

// back calls a function of the plug-in that the host function was called by.
func back(fn string) loader.HostFunc {
	return func(ctx context.Context, in []byte) ([]byte, error) {
		r := ctx.Value(key{}).(*Recording)
		out, err := r.Plugin.Call(ctx, fn, in)
		r.Say("  back in %s: %s %s", fn, Shown(out), described(err))
		return out, err
	}
}

// panics is a host function.
func panics(context.Context, []byte) ([]byte, error) { panic(errors.New("oh no")) }

// failing returns a host function that fails with its input as the message.
func failing(err error) loader.HostFunc {
	return func(_ context.Context, in []byte) ([]byte, error) {
		return []byte("dropped"), fmt.Errorf("%s: %w", in, err)
	}
}

// long is longer than any room that is there without being asked for.
var long = strings.Repeat("long ", 40_000)

// everyRecord is what batch.h's function knows, but for l, whose room is not the same.
var everyRecord = []string{"e1", "o2", "f3", "h4", "n5", "z6", "", "e" + long, "o" + long, "h" + long, "f" + long, "e7"}

// Table is all of them.
var Table = []Transcript{
	{Name: "echo", Library: Source{C, "echo"}, steps: []step{
		calls("echo", "", "hello", "caf\xe9\x00\n", long, strings.Repeat("x", 1<<21)),
		calls("echo_own", "", "mine", long), calls("nothing"),
		calls("pointers"), calls("held"),
		calls("fail", "", "why", "caf\xe9\xe9 \xff.", long), calls("fail_own", "why", long),
		calls("status", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "500", "999", "1000",
			"2147483647", "-1", "-2147483648"),
		appends("echo", "hello", 0), appends("echo", "hello", 3), appends("echo", "hello", 100),
		appends("echo_own", "hello", 100),
		appends("fail", "why", 2), hooks("before_echo", ""), hooks("before_ehco", ""), calls("ehco"), calls("resize"),
		views("echo", "in place"), views("echo", long), views("echo_own", ""), views("fail", "why"),
		views("status", "-3"),
		batches("echo"), batches("echo", "a", "", long, "b"), batches("fail_own", "a", ""),
		batches("status", "0", "1", "-1", "1000", "9"),
		jsons[point, point]("echo", point{1, 2}), jsons[string, point]("echo", "text"), jsons[func(), int]("echo", nil),
		ended("echo", context.Canceled), ended("echo", ErrLeft), calls("held"),
		closes, calls("echo", "late"), views("echo", ""), batches("echo", ""), ended("echo", ErrLeft),
	}},
	{Name: "host", Library: Source{C, "host"}, funcs: map[string]loader.HostFunc{"upper": upper, "again": echo}, steps: []step{
		calls("upper", "", "a", strings.Repeat("a", 64), strings.Repeat("a", 65), long),
		calls("upper_fetched", "", "b", long),
		calls("again", "the same", long), calls("upper_two_kept"), calls("upper_left", "x", long), calls("log"),
		calls("cancelled"), ends("wait", context.DeadlineExceeded),
		ends("wait", ErrLeft),
		ended("cancelled", ErrLeft), batches("upper", "a", long, ""),
	}},
	{Name: "host functions that fail", Library: Source{C, "host"}, funcs: map[string]loader.HostFunc{"upper": panics,
		"again": failing(loader.ErrUnsupported)}, steps: []step{
		calls("upper", "x"), calls("upper_fetched", "x"), calls("upper_two_kept"), calls("again", "", "caf\xe9", long),
		batches("again", "a", "b"),
	}},
	{Name: "host functions with statuses", Library: Source{C, "host"},
		funcs: map[string]loader.HostFunc{"upper": failing(loader.Status(1234)),
			"again": failing(context.Canceled)}, steps: []step{calls("upper", "x"), calls("upper_fetched", long),
			calls("again", "y")}},
	{Name: "host functions that call back", Library: Source{C, "host"},
		funcs: map[string]loader.HostFunc{"upper": back("again"),
			"again": upper}, steps: []step{calls("upper", "there and back", long), calls("upper_fetched", "x"),
			batches("upper", "a", "b")}},
	{Name: "pinned host", Library: Source{C, "host_pinned"}, funcs: map[string]loader.HostFunc{"upper": back("again"),
		"again": upper}, steps: []step{
		calls("again", "x"), calls("upper", "x"), calls("log"), ends("wait", ErrLeft),
		batches("again", "a", "b"),
	}},
	{Name: "pinned host with instances", Library: Source{C, "host_pinned"}, options: []loader.Option{loader.WithInstances(2)},
		funcs: map[string]loader.HostFunc{"upper": back("again"), "again": upper}, steps: []step{
			calls("upper", "x", long)}},
	{Name: "own threads", Library: Source{C, "host"}, shuffle: true, funcs: map[string]loader.HostFunc{"upper": upper,
		"again": echo},
		steps: []step{calls("threads", "", "")}},
	{Name: "own threads and a panic", Library: Source{C, "host"}, shuffle: true,
		funcs: map[string]loader.HostFunc{"upper": panics, "again": echo},
		steps: []step{calls("threads")}},
	{Name: "misuse", Library: Source{C, "host_misused"}, funcs: map[string]loader.HostFunc{"upper": upper}, steps: []step{
		calls("misuse", "", "")}},
	{Name: "re-entrance", Library: Source{C, "host_misused"}, funcs: map[string]loader.HostFunc{"upper": back("misuse")},
		steps: []step{calls("misuse")}},
	{Name: "re-entrance with instances", Library: Source{C, "host_misused"}, options: []loader.Option{loader.WithInstances(3)},
		funcs: map[string]loader.HostFunc{"upper": back("misuse")}, steps: []step{calls("misuse")}},
	{Name: "import not offered", Library: Source{C, "host"}, funcs: map[string]loader.HostFunc{"uper": upper}},
	{Name: "state", Library: Source{C, "state"}, Fresh: true, options: []loader.Option{loader.WithConfig([]byte("41"))},
		steps: []step{
			calls("next", "", ""), calls("panic"), calls("next"), batches("next", "", "", ""), batches("panic", "", ""),
			calls("next"),
		}},
	{Name: "state that cannot start", Library: Source{C, "state"}, options: []loader.Option{loader.WithConfig([]byte(long))}},
	{Name: "start fails", Library: Source{C, "start_fails"},
		options: []loader.Option{loader.WithConfig([]byte("caf\xe9\xe9"))}},
	{Name: "start fails without a word", Library: Source{C, "start_fails"}},
	{Name: "start breaks a rule", Library: Source{C, "start_breaks_a_rule"}},
	{Name: "start works once", Library: Source{C, "start_once"}, Fresh: true, steps: []step{
		calls("echo", "x"), batches("echo", "a", "panic", "b"), calls("echo", "x"), batches("echo", "a"),
		views("echo", "x"),
	}},
	{Name: "stop fails", Library: Source{C, "stop_fails"}, options: []loader.Option{loader.WithInstances(3)}, steps: []step{
		calls("answer")}},
	{Name: "undefined symbol", Library: Source{C, "undefined_symbol"}},
	{Name: "no manifest", Library: Source{C, "no_manifest"}},
	{Name: "another digest", Library: Source{C, "echo"}, options: []loader.Option{loader.WithSHA256(strings.Repeat("ab", 32))}},
	{Name: "bad option", Library: Source{C, "echo"}, options: []loader.Option{loader.WithInstances(0)}},
	{Name: "negative status", Library: Source{C, "negative_status"}, steps: []step{calls("answer"), views("answer", ""),
		batches("answer", "", "")}},
	{Name: "NULL with a length", Library: Source{C, "null_out_with_length"}, steps: []step{calls("answer"), views("answer", ""),
		batches("answer", "", "")}},
	{Name: "foreign out", Library: Source{C, "foreign_out_without_release"}, steps: []step{calls("answer"),
		batches("answer", "", "")}},
	{Name: "length over PTRDIFF_MAX", Library: Source{C, "out_len_beyond_ptrdiff_max"}, Fresh: true, steps: []step{
		calls("answer"), calls("released")}},
	{Name: "message not UTF-8", Library: Source{C, "message_not_utf8"}, steps: []step{calls("answer"), batches("answer", "")}},
	{Name: "frame overwritten", Library: Source{C, "frame_overwritten"}, steps: []step{calls("overwrite", "x", ""),
		batches("overwrite", "x", "")}},
	{Name: "release uses the host", Library: Source{C, "release_uses_host"}, Fresh: true, steps: []step{calls("answer"),
		calls("report")}},
	{Name: "batches, serial", Library: Source{C, "batch_serial"}, funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{
			batches("record", everyRecord...), calls("record", everyRecord...), batches("record", "e", "p", "o"),
			calls("record", "p", "e"),
		}},
	{Name: "batches, pinned", Library: Source{C, "batch_pinned"}, funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{Name: "batches without ferrule_batch", Library: Source{C, "batch_missing"},
		funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{Name: "batches that count too much", Library: Source{C, "batch_counts_too_much"},
		funcs: map[string]loader.HostFunc{"upper": panics},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{Name: "SDK for C", Library: Source{SDK, "helpers.c"}, funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat,
		"refuse": refuse,
		"silent": silent, "greedy": echo, "hollow": echo, "stuck": echo, "growing": echo, "forgetful": echo},
		steps: []step{
			calls("reply", "", "x", long), calls("reply_nothing"), calls("reply_text"), calls("reply_too_long", "x"),
			calls("replyf", "x", long),
			calls("reply_again", "again"), calls("reply_owned", "x", long), calls("fail", long), calls("fail_newline"),
			calls("fail_unprintable"),
			calls("in_text", "short", "longer than that", "a\x00b"), calls("buffer", long), calls("buffer_text", "x"),
			calls("buffer_too_long", "x"),
			calls("import_echo", "x", long), calls("import_repeat", "abc"), calls("import_refuse"), calls("import_silent"),
			calls("import_chain", "x"), calls("log", "warned", long), calls("log_error"), calls("log_trace"),
			calls("count"), calls("cancelled"),
			batches("import_chain", "a", "b"), views("buffer", long),
		}},
	{Name: "SDK for C with a configuration", Library: Source{SDK, "helpers.c"},
		options: []loader.Option{loader.WithConfig([]byte("x"))},
		funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent,
			"greedy": echo,
			"hollow": echo, "stuck": echo, "growing": echo, "forgetful": echo}},
	{Name: "SDK for C++", Library: Source{SDK, "entries.cpp"}, options: []loader.Option{loader.WithConfig([]byte("7"))},
		funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent},
		steps: []step{
			calls("echo", "", "x", long), calls("takes_nothing"), calls("takes_context"), calls("takes_const_context"),
			calls("takes_both", "x"),
			calls("returns_view", "xy", long), calls("returns_vector", long), calls("returns_unique", "x"),
			calls("returns_shared"),
			hooks("before", "x"), calls("add", "2", "40", "two"), calls("get"), calls("import_echo", long),
			calls("import_refuse"),
			calls("import_caught"), calls("logs"),
			calls("throws", "error", "own error", "ok", "invalid", "memory", "long", "nothing"),
			calls("get"), calls("throws", "int"), calls("add", "1"), calls("throws", "panic"), calls("get"),
			calls("get_of_base"),
			batches("throws", "error", "int", "invalid", "memory"), views("returns_const_reference", ""),
		}},
	{Name: "SDK for C++ that cannot start", Library: Source{SDK, "entries.cpp"},
		options: []loader.Option{loader.WithConfig([]byte("bad"))},
		funcs:   map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent}},
	{Name: "Rust, bytes", Library: Source{Rust, "echo"}, steps: []step{
		calls("borrowed", "", "x", long), calls("owned", "x", long), calls("text", "x", "\xff"),
		calls("string", "Grüße"), calls("constant"),
		calls("named_lifetime", " x "), calls("type", "x"), calls("question_mark", "41", "x"), calls("any_error", "x"),
		calls("own_status", "sold"),
		batches("owned", "a", long), views("owned", long), calls("unit", "something"),
	}},
	{Name: "Rust, state", Library: Source{Rust, "counter"}, options: []loader.Option{loader.WithConfig([]byte("ada=12"))},
		funcs: map[string]loader.HostFunc{"call_me": back("add")}, steps: []step{
			calls("add", "1", "two"), calls("name"), calls("panics"), calls("add", "3"), calls("reenter"),
			batches("add", "1", "x", "2"), calls("panics"),
			batches("add", "0", "1"),
		}},
	{Name: "Rust, state with instances", Library: Source{Rust, "counter"}, shuffle: true,
		options: []loader.Option{loader.WithConfig([]byte("bob=1")), loader.WithInstances(2)},
		funcs:   map[string]loader.HostFunc{"call_me": echo}, steps: []step{calls("reenter")}},
	{Name: "Rust, state that cannot start", Library: Source{Rust, "counter"},
		options: []loader.Option{loader.WithConfig([]byte("ada"))},
		funcs:   map[string]loader.HostFunc{"call_me": echo}},
	{Name: "Rust, host functions", Library: Source{Rust, "imports"}, funcs: map[string]loader.HostFunc{
		"loyalty_points": loader.JSONFunc(func(_ context.Context, n int) (int, error) { return n, nil }),
		"bytes":          echo, "now": func(context.Context, []byte) ([]byte, error) { return []byte("noon"), nil },
		"notify": silent,
		"sum":    loader.JSONFunc(func(_ context.Context, n []int) (int, error) { return len(n), nil }), "fails": refuse},
		steps: []step{
			calls("points", "17", "x"), calls("pass", "x", long), calls("total"), calls("failure"), calls("pass_failure"),
		}},
	{Name: "Rust, JSON", Library: Source{Rust, "json"}, steps: []step{
		hooks("before_checkout", `{"customer":"ada","total":200}`),
		hooks("before_checkout", `{"customer":"ada","total":0}`), hooks("before_checkout", "{")}},
	{Name: "Rust, logs", Library: Source{Rust, "logs"}, steps: []step{calls("levels", "x", long), calls("enabled")}},
	{Name: "Rust, panics", Library: Source{Rust, "panics"}, options: []loader.Option{loader.WithConfig([]byte("stop"))},
		steps: []step{
			calls("fine"), calls("panics", "text", "formatted", "index", "scope", "payload",
				"grenade", "error", "resumed", "caught", "thread", ""),
			batches("panics", "text", "", "index"), calls("fine"),
		}},
	{Name: "Rust, panic in start", Library: Source{Rust, "panics"},
		options: []loader.Option{loader.WithConfig([]byte("start"))}},
	{Name: "Rust, pinned", Library: Source{Rust, "pinned"}, steps: []step{calls("next", "", ""), batches("next", "", "")}},
	{Name: "Rust, batches", Library: Source{Rust, "batch"}, funcs: map[string]loader.HostFunc{"cancel": silent}, steps: []step{
		batches("repeat", "3", "0", "9000", "100000", "x"), batches("panic_at", "a", "panic", "b"),
		batches("cancel_at", "a", "cancel", "b"),
	}},
	{Name: "services of version 1.1", Library: Source{C, "services"}, options: []loader.Option{loader.WithConfig([]byte("first"))},
		info:  []loader.Option{loader.WithPluginInfo("shop.tenant", "ada")},
		funcs: map[string]loader.HostFunc{"needed": echo, "upper": upper}, steps: []step{
			tries("pass", "", "x"), calls("pass", "", "x"), hooks("pass", ""), calls("upper", "", "a", long), calls("again", "a"), calls("ordinals"),
			calls("info", "instance", "offers.upper", "offers.again", "offers.other", "shop.tenant", "shop.other", "remaining", "data", "", "\xff"),
			hooks("around", "x"), wraps("around", "x", upper), wraps("around", long, upper), wraps("around", "x", panics),
			wraps("around", "why", failing(loader.Status(1234))), calls("next", "x"), calls("log_fields", "text\x00a=1\x00b\x00", "\xff\x00\xff=\xff\x00"),
			watches("progress", ""), calls("progress"), calls("room", "0", "1", "100000", "5000000"), calls("room_grows", "abc", long), calls("room_own"),
			batches("room", "3", "100000", "0", "300000"), batches("room_grows", "abc", long, ""), views("room", "300000"), appends("room", "9", 3),
			streams("sum", "", "", false), streams("sum", "", "abc", false), streams("sum", "", long, false), streams("sum", "", "abc", true),
			streams("count", "3", "", false), streams("count", "30000", "", false), streams("swap", "", "aBc", false), streams("pipe", "", long, false),
			streams("pipe", "", "abc", true), streams("first", "", "x", false), streams("panics", "", "abc", false), streams("statuses", "", "a", false),
			calls("sum"), batches("sum", "", ""), calls("no_streams"), calls("background"), calls("config"), configures("second"), calls("config"),
			configures("refused"), calls("config"), sessions("mine", "config", ""), sessions("fails", "config", ""), calls("add", "", ""),
			sessions("mine", "add", "", ""),
		}},
	{Name: "C SDK, services of version 1.1", Library: Source{SDK, "helpers.c"}, funcs: map[string]loader.HostFunc{"greedy": echo, "hollow": echo, "stuck": echo,
		"growing": echo, "forgetful": echo, "echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent, "cache": upper}, steps: []step{
		calls("pass"), calls("pass_with_reason", "cats"), tries("pass_with_reason", "cats"), calls("want_cache", "a", long), calls("want_mail", "a"),
		calls("offered", "cache", "mail"), calls("room_grows", "", "7"), streams("stream_count", "", long, true), streams("stream_copy", "", long, false),
		streams("stream_print", "text", "", false), streams("stream_fives", "", "twelve bytes", false), streams("stream_fives", "", "twelve bytes", true),
		calls("stream_count"), hooks("wrapper", "x"), wraps("wrapper", "x", upper), wraps("wrapper", long, upper), watches("progress", "seven"),
		calls("log_fields", "x"), calls("log_no_fields"), calls("background_outside"),
	}},
	{Name: "C++ SDK, services of version 1.1", Library: Source{SDK, "entries.cpp"}, options: []loader.Option{loader.WithConfig([]byte("7"))},
		funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent, "cache": upper}, steps: []step{
			calls("results", "pass", "reason", "error", "view", "x"), tries("results", "pass", "view"), calls("throws_pass"), calls("want_cache", "a"),
			calls("want_mail", "a"), calls("offers"), calls("knows", "instance", "shop.tenant"), streams("copies", "", long, false),
			streams("copies", "", "abc", true), streams("lines", "", "a\nb\nc", false), calls("lines"), hooks("wrapper", "x"), wraps("wrapper", "x", upper),
			wraps("wrapper", "x", failing(loader.ErrUnsupported)), watches("progresses", "seven"), calls("logs_fields", "x"), configures("40"), calls("get"),
			configures("x"), calls("get"), sessions("12", "get", ""), sessions("y", "get", ""),
		}},
	{Name: "Rust, streams", Library: Source{Rust, "streams"}, steps: []step{
		streams("count", "", "a\nb\n", false), streams("count", "", long, true), calls("count"), streams("produce", "3", "", false),
		streams("produce", "30000", "", false), streams("produce", "x", "", false), streams("shout", "> ", "a\nb", false), streams("shout", "", long, false),
		streams("shout", "", "\xff", false), streams("half", "", "abcdef", false), streams("half", "error", "abcdef", false),
		streams("half", "panic", "abcdef", false), streams("half", "", "a", false), batches("count", "", ""),
	}},
	{Name: "Rust, room", Library: Source{Rust, "room"}, steps: []step{
		calls("room_table", "3", "30000", "x"), calls("room_slice", "0", "1", "300000"), calls("room_dropped", "fail", "pass", "panic", ""),
		tries("room_dropped", "pass"), calls("room_reserved"), calls("room_unused"), calls("room_thread"), batches("room_slice", "3", "100000", "x", "0"),
		views("room_slice", "300000"), appends("room_slice", "9", 3),
	}},
	{Name: "Rust, wants", Library: Source{Rust, "wants"}, funcs: map[string]loader.HostFunc{"needed": upper, "city": echo}, steps: []step{
		calls("greet", "a"), calls("straight", "a", long), calls("both", "a")}},
	{Name: "Rust, wants that are not offered", Library: Source{Rust, "wants"}, funcs: map[string]loader.HostFunc{"needed": upper}, steps: []step{
		calls("greet", "a"), calls("straight", "a"), calls("both", "a")}},
	{Name: "Rust, between calls", Library: Source{Rust, "between"}, shuffle: true, funcs: map[string]loader.HostFunc{"push": echo}, steps: []step{
		calls("too_late"), closes}},
	{Name: "Rust, settings", Library: Source{Rust, "handover"}, options: []loader.Option{loader.WithConfig([]byte("2"))}, steps: []step{
		calls("next", "", ""), configures("5"), calls("next"), configures("0"), configures("x"), calls("next"), sessions("3", "next", "", ""),
		sessions("0", "next", ""), batches("next", "", ""),
	}},
	{Name: "Rust, words", Library: Source{Rust, "words"}, info: []loader.Option{loader.WithPluginInfo("shop.tenant", "ada")}, steps: []step{
		hooks("page", "/health"), hooks("page", "/"), wraps("page", "/twice", upper), wraps("page", "/x", failing(loader.ErrUnsupported)),
		hooks("double", "21"), hooks("double", "x"), calls("deep", "21", "x"), tries("deep", "21", "x"),
		calls("info", "shop.tenant", "instance", "shop.other"), watches("progress", ""), calls("fields"),
	}},
	{Name: "Rust, own threads", Library: Source{Rust, "threads"}, shuffle: true,
		funcs: map[string]loader.HostFunc{"shout": upper}, steps: []step{
			calls("shout_words", "a b c"), calls("after_scope"), calls("without_scope", "x"),
		}},
}
