package loader_test

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// Everything that a host sees of a plug-in is written down, in this process and isolated: results, errors with their
// types, fields and texts, statuses, what host functions get, and log lines, in their order. It is the same.
//
// What may differ is not in the table, but in tests of its own, which ask way.isolated. There is:
//   - the room for a result that the caller brings no room for, as no caller of View does: isolated, there is more of it,
//     and a violation of R8 that tells of it says another number (TestCallDefects);
//   - what a plug-in knows of other plug-ins of the same file: isolated, nothing (TestInstancesAreApart, TestOpenDigest,
//     TestLateThread), and a view is no reason not to call release (TestView);
//   - a host function that ends its goroutine: isolated, the plug-in gets an error and goes on, and the goroutine is the
//     caller's also for a pinned plug-in (TestHostFuncEndsItsGoroutine);
//   - a library with a Go runtime, which only a worker can load (TestOpenFiles).
func TestTranscripts(t *testing.T) {
	calls, libraries := 0, make(map[string]bool)
	for _, c := range transcripts {
		t.Run(c.name, func(t *testing.T) {
			path := c.library(t)
			if c.fresh {
				path = tempLibrary(t, path)
			}
			here, there := c.record(t, inProcess, path), c.record(t, isolated, path)
			assert.Equal(t, here.lines, there.lines)
			assert.Equal(t, here.calls, there.calls)
			calls += here.calls
			libraries[c.library(t)] = true
		})
	}
	t.Logf("%d calls of %d libraries", calls, len(libraries))
	assert.GreaterOrEqual(t, calls, 200)
	assert.GreaterOrEqual(t, len(libraries), 20)
}

// transcript is what is done with one plug-in.
type transcript struct {
	name    string
	library func(testing.TB) string
	fresh   bool // it has static variables that other tests must not have touched
	shuffle bool // its lines come in any order: its own threads log and call, or any of its instances is taken
	options []loader.Option
	funcs   map[string]loader.HostFunc
	steps   []step
}

// step is one thing that is done with an open plug-in.
type step func(*recording)

// recording is what one run of a transcript came to.
type recording struct {
	testing.TB
	p     *loader.Plugin
	calls int // of functions, the records of batches among them

	mu    sync.Mutex
	lines []string
	begun func() // done when a plug-in says so, if not nil
}

func (r *recording) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// Write takes the logger's lines.
func (r *recording) Write(line []byte) (int, error) {
	r.say("  log: %s", bytes.TrimSuffix(line, []byte("\n")))
	if r.begun != nil && bytes.Contains(line, []byte("msg=begun")) {
		r.begun()
	}
	return len(line), nil
}

// record runs the transcript in one of the two ways.
func (c *transcript) record(t *testing.T, w way, path string) *recording {
	r := &recording{TB: t}
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
	opts := append([]loader.Option{loader.WithLogger(logger)}, c.options...)
	for name, fn := range c.funcs {
		opts = append(opts, loader.WithHostFunc(name, func(ctx context.Context, in []byte) (out []byte, err error) {
			r.say("  %s(%s)", name, shown(in))
			return fn(context.WithValue(ctx, key{}, r), in)
		}))
	}
	within(t, func() {
		if c.shuffle {
			defer func() { slices.Sort(r.lines) }()
		}
		var err error
		r.p, err = w.try(path, opts...)
		if err != nil {
			r.say("open: %s", described(err))
			return
		}
		r.say("open: %s %s", r.p.Name(), r.p.Version())
		for _, step := range c.steps {
			step(r)
		}
		r.say("close: %s", described(r.p.Close()))
	})
	return r
}

// shown is data in a transcript: itself, or what tells it from other data.
func shown(data []byte) string {
	if len(data) > 300 {
		return fmt.Sprintf("%.20q… %d bytes %x", data, len(data), sha256.Sum256(data))
	}
	return fmt.Sprintf("%q", data)
}

// known are the errors that errors.Is finds in others.
var known = []error{loader.ErrFailed, loader.ErrInvalid, loader.ErrUnsupported, loader.ErrCancelled, loader.ErrPanic,
	loader.ErrNoMemory, loader.ErrMisuse, loader.ErrClosed, loader.ErrReentrant, loader.ErrNoFunc, loader.ErrStart,
	loader.ErrLoad, loader.ErrDigest, loader.ErrCrash, context.Canceled, context.DeadlineExceeded, errLeft}

var errLeft = errors.New("the customer left")

// described is an error in a transcript: its text, its type with its fields, and what errors.Is finds in it.
func described(err error) string {
	if err == nil {
		return "no error"
	}
	text := fmt.Sprintf("%q", err.Error())
	if len(text) > 600 {
		text = shown([]byte(err.Error()))
	}
	var call *loader.CallError
	var contract *loader.ContractError
	var usage *loader.UsageError
	var open *loader.OpenError
	var codec *loader.CodecError
	text += fmt.Sprintf(" %T", err)
	if errors.As(err, &call) {
		text += fmt.Sprintf(" {%s %s %d %s}", call.Plugin, call.Func, call.Status, shown([]byte(call.Message)))
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
func (r *recording) outcome(what string, out []byte, err error) {
	if err != nil {
		r.say("%s fails: %s; %s", what, described(err), shown(out))
	} else {
		r.say("%s = %s", what, shown(out))
	}
}

// calls a function once for each input, or without one.
func calls(fn string, inputs ...string) step {
	return func(r *recording) {
		if len(inputs) == 0 {
			inputs = []string{""}
		}
		for _, in := range inputs {
			r.calls++
			out, err := r.p.Call(ctx, fn, []byte(in))
			r.outcome(fmt.Sprintf("%s(%s)", fn, shown([]byte(in))), out, err)
		}
	}
}

// appends calls a function with room of the caller's.
func appends(fn, in string, room int) step {
	return func(r *recording) {
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		r.calls++
		out, err := f.Append(ctx, append(make([]byte, 0, 4+room), "kept"...), []byte(in))
		r.outcome(fmt.Sprintf("%s(%s) into %d", fn, shown([]byte(in)), room), out, err)
	}
}

// hooks calls what is attached to an extension point.
func hooks(point, in string) step {
	return func(r *recording) {
		f, err := r.p.Hook(point)
		var out []byte
		if err == nil {
			r.calls++
			out, err = f.Call(ctx, []byte(in))
		}
		r.outcome(fmt.Sprintf("hook %s(%s)", point, shown([]byte(in))), out, err)
	}
}

// views calls a function and reads its result in place.
func views(fn, in string) step {
	return func(r *recording) {
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		r.calls++
		v, err := f.View(ctx, []byte(in))
		var out []byte
		if err == nil {
			out = bytes.Clone(v.Bytes())
			v.Release()
		}
		r.outcome(fmt.Sprintf("view %s(%s)", fn, shown([]byte(in))), out, err)
	}
}

// batches calls a function with all inputs at once.
func batches(fn string, inputs ...string) step {
	return func(r *recording) {
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		var in [][]byte
		for _, text := range inputs {
			in = append(in, []byte(text))
		}
		var b loader.Batch
		r.say("batch %s of %d: %s", fn, len(in), described(f.Batch(ctx, in, &b)))
		r.calls += b.Len()
		for i := range b.Len() {
			out, err := b.Result(i)
			r.outcome(fmt.Sprintf("  %d (%s)", i, shown(in[i])), out, err)
		}
		r.say("  all: %s", described(b.Err()))
	}
}

// ends calls a function with a context that ends when the function says that it has begun: a time could be over before.
func ends(fn string, why error) step {
	return func(r *recording) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r.begun = func() { cancel(why) }
		defer func() { r.begun = nil }()
		r.calls++
		out, err := r.p.Call(ctx, fn, nil)
		r.outcome(fn+" until it is cancelled", out, err)
	}
}

// ended calls a function with a context that has ended.
func ended(fn string, why error) step {
	return func(r *recording) {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(why)
		r.calls++
		out, err := r.p.Call(ctx, fn, nil)
		r.outcome(fn+" until it is cancelled", out, err)
	}
}

// tries calls a function by Try.
func tries(fn string, inputs ...string) step {
	return func(r *recording) {
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		for _, in := range inputs {
			r.calls++
			out, status, err := f.Try(ctx, nil, []byte(in))
			r.outcome(fmt.Sprintf("try %s(%s) %d", fn, shown([]byte(in)), status), out, err)
		}
	}
}

// streams calls a function with the streams that its meta text says, of which the input breaks off where that is asked for.
func streams(fn, args, data string, breaks bool) step {
	return func(r *recording) {
		i := slices.IndexFunc(r.p.Info().Funcs, func(s abi.Symbol) bool { return s.Name == fn })
		require.GreaterOrEqual(r, i, 0, fn)
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		var in io.Reader
		var out io.Writer
		var written bytes.Buffer
		if has := r.p.Info().Funcs[i].Stream; has&abi.StreamIn != 0 {
			in = strings.NewReader(data)
			if breaks {
				in = io.MultiReader(in, iotest.ErrReader(errLeft))
			}
		}
		if has := r.p.Info().Funcs[i].Stream; has&abi.StreamOut != 0 {
			out = &written
		}
		r.calls++
		result, err := f.Stream(ctx, []byte(args), in, out)
		r.outcome(fmt.Sprintf("stream %s(%s) of %s, breaks %t, wrote %s", fn, shown([]byte(args)), shown([]byte(data)), breaks, shown(written.Bytes())), result, err)
	}
}

// wraps calls a hook that stands around a function in Go.
func wraps(point, in string, behind loader.HostFunc) step {
	return func(r *recording) {
		f, err := r.p.Hook(point)
		require.NoError(r, err)
		r.calls++
		out, err := f.Call(loader.WithNext(ctx, func(ctx context.Context, in []byte) ([]byte, error) {
			r.say("  behind(%s)", shown(in))
			return behind(ctx, in)
		}), []byte(in))
		r.outcome(fmt.Sprintf("wrap %s(%s)", point, shown([]byte(in))), out, err)
	}
}

// configures gives the plug-in new settings.
func configures(config string) step {
	return func(r *recording) { r.say("configure %q: %s", config, described(r.p.Configure(ctx, []byte(config)))) }
}

// sessions calls a function in a session of its own, once for each input.
func sessions(config, fn string, inputs ...string) step {
	return func(r *recording) {
		s, err := r.p.NewSession(ctx, []byte(config))
		if err != nil {
			r.say("session %q: %s", config, described(err))
			return
		}
		for _, in := range inputs {
			r.calls++
			out, err := s.Call(ctx, fn, []byte(in))
			r.outcome(fmt.Sprintf("session %q: %s(%s)", config, fn, shown([]byte(in))), out, err)
		}
		r.say("end of the session: %s", described(s.Close()))
	}
}

// watches calls a function, and writes down what it told of its progress last.
func watches(fn, in string) step {
	return func(r *recording) {
		f, err := r.p.Func(fn)
		require.NoError(r, err)
		var done, total uint64
		r.calls++
		out, err := f.Call(loader.WithProgress(ctx, func(d, t uint64) { done, total = d, t }), []byte(in))
		r.outcome(fmt.Sprintf("%s(%s) up to %d of %d", fn, shown([]byte(in)), done, total), out, err)
	}
}

// closes closes the plug-in before the end.
func closes(r *recording) { r.say("close: %s", described(r.p.Close())) }

// jsons calls a function with Go values.
func jsons[In, Out any](fn string, in In) step {
	return func(r *recording) {
		r.calls++
		out, err := loader.CallJSON[In, Out](ctx, r.p, fn, in)
		r.outcome(fmt.Sprintf("JSON %s(%T)", fn, in), fmt.Append(nil, out), err)
	}
}

// back calls a function of the plug-in that the host function was called by.
func back(fn string) loader.HostFunc {
	return func(ctx context.Context, in []byte) ([]byte, error) {
		r := ctx.Value(key{}).(*recording)
		out, err := r.p.Call(ctx, fn, in)
		r.say("  back in %s: %s %s", fn, shown(out), described(err))
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

func c(name string) func(testing.TB) string {
	return func(tb testing.TB) string { return fixture.C(tb, name) }
}

func rust(name string) func(testing.TB) string {
	return func(tb testing.TB) string { return fixture.Rust(tb, "fixture-"+name) }
}

func sdk(source string) func(testing.TB) string {
	return func(tb testing.TB) string { return fixture.SDK(tb, source) }
}

// long is longer than any room that is there without being asked for.
var long = strings.Repeat("long ", 40_000)

// everyRecord is what batch.h's function knows, but for l, whose room is not the same.
var everyRecord = []string{"e1", "o2", "f3", "h4", "n5", "z6", "", "e" + long, "o" + long, "h" + long, "f" + long, "e7"}

var transcripts = []transcript{
	{name: "echo", library: c("echo"), steps: []step{
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
		ended("echo", context.Canceled), ended("echo", errLeft), calls("held"),
		closes, calls("echo", "late"), views("echo", ""), batches("echo", ""), ended("echo", errLeft),
	}},
	{name: "host", library: c("host"), funcs: map[string]loader.HostFunc{"upper": upper, "again": echo}, steps: []step{
		calls("upper", "", "a", strings.Repeat("a", 64), strings.Repeat("a", 65), long),
		calls("upper_fetched", "", "b", long),
		calls("again", "the same", long), calls("upper_two_kept"), calls("upper_left", "x", long), calls("log"),
		calls("cancelled"), ends("wait", context.DeadlineExceeded),
		ends("wait", errLeft),
		ended("cancelled", errLeft), batches("upper", "a", long, ""),
	}},
	{name: "host functions that fail", library: c("host"), funcs: map[string]loader.HostFunc{"upper": panics,
		"again": failing(loader.ErrUnsupported)}, steps: []step{
		calls("upper", "x"), calls("upper_fetched", "x"), calls("upper_two_kept"), calls("again", "", "caf\xe9", long),
		batches("again", "a", "b"),
	}},
	{name: "host functions with statuses", library: c("host"),
		funcs: map[string]loader.HostFunc{"upper": failing(loader.Status(1234)),
			"again": failing(context.Canceled)}, steps: []step{calls("upper", "x"), calls("upper_fetched", long),
			calls("again", "y")}},
	{name: "host functions that call back", library: c("host"),
		funcs: map[string]loader.HostFunc{"upper": back("again"),
			"again": upper}, steps: []step{calls("upper", "there and back", long), calls("upper_fetched", "x"),
			batches("upper", "a", "b")}},
	{name: "pinned host", library: c("host_pinned"), funcs: map[string]loader.HostFunc{"upper": back("again"),
		"again": upper}, steps: []step{
		calls("again", "x"), calls("upper", "x"), calls("log"), ends("wait", errLeft),
		batches("again", "a", "b"),
	}},
	{name: "pinned host with instances", library: c("host_pinned"), options: []loader.Option{loader.WithInstances(2)},
		funcs: map[string]loader.HostFunc{"upper": back("again"), "again": upper}, steps: []step{
			calls("upper", "x", long)}},
	{name: "own threads", library: c("host"), shuffle: true, funcs: map[string]loader.HostFunc{"upper": upper,
		"again": echo},
		steps: []step{calls("threads", "", "")}},
	{name: "own threads and a panic", library: c("host"), shuffle: true,
		funcs: map[string]loader.HostFunc{"upper": panics, "again": echo},
		steps: []step{calls("threads")}},
	{name: "misuse", library: c("host_misused"), funcs: map[string]loader.HostFunc{"upper": upper}, steps: []step{
		calls("misuse", "", "")}},
	{name: "re-entrance", library: c("host_misused"), funcs: map[string]loader.HostFunc{"upper": back("misuse")},
		steps: []step{calls("misuse")}},
	{name: "re-entrance with instances", library: c("host_misused"), options: []loader.Option{loader.WithInstances(3)},
		funcs: map[string]loader.HostFunc{"upper": back("misuse")}, steps: []step{calls("misuse")}},
	{name: "import not offered", library: c("host"), funcs: map[string]loader.HostFunc{"uper": upper}},
	{name: "state", library: c("state"), fresh: true, options: []loader.Option{loader.WithConfig([]byte("41"))},
		steps: []step{
			calls("next", "", ""), calls("panic"), calls("next"), batches("next", "", "", ""), batches("panic", "", ""),
			calls("next"),
		}},
	{name: "state that cannot start", library: c("state"), options: []loader.Option{loader.WithConfig([]byte(long))}},
	{name: "start fails", library: c("start_fails"),
		options: []loader.Option{loader.WithConfig([]byte("caf\xe9\xe9"))}},
	{name: "start fails without a word", library: c("start_fails")},
	{name: "start breaks a rule", library: c("start_breaks_a_rule")},
	{name: "start works once", library: c("start_once"), fresh: true, steps: []step{
		calls("echo", "x"), batches("echo", "a", "panic", "b"), calls("echo", "x"), batches("echo", "a"),
		views("echo", "x"),
	}},
	{name: "stop fails", library: c("stop_fails"), options: []loader.Option{loader.WithInstances(3)}, steps: []step{
		calls("answer")}},
	{name: "undefined symbol", library: c("undefined_symbol")},
	{name: "no manifest", library: c("no_manifest")},
	{name: "another digest", library: c("echo"), options: []loader.Option{loader.WithSHA256(strings.Repeat("ab", 32))}},
	{name: "bad option", library: c("echo"), options: []loader.Option{loader.WithInstances(0)}},
	{name: "negative status", library: c("negative_status"), steps: []step{calls("answer"), views("answer", ""),
		batches("answer", "", "")}},
	{name: "NULL with a length", library: c("null_out_with_length"), steps: []step{calls("answer"), views("answer", ""),
		batches("answer", "", "")}},
	{name: "foreign out", library: c("foreign_out_without_release"), steps: []step{calls("answer"),
		batches("answer", "", "")}},
	{name: "length over PTRDIFF_MAX", library: c("out_len_beyond_ptrdiff_max"), fresh: true, steps: []step{
		calls("answer"), calls("released")}},
	{name: "message not UTF-8", library: c("message_not_utf8"), steps: []step{calls("answer"), batches("answer", "")}},
	{name: "frame overwritten", library: c("frame_overwritten"), steps: []step{calls("overwrite", "x", ""),
		batches("overwrite", "x", "")}},
	{name: "release uses the host", library: c("release_uses_host"), fresh: true, steps: []step{calls("answer"),
		calls("report")}},
	{name: "batches, serial", library: c("batch_serial"), funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{
			batches("record", everyRecord...), calls("record", everyRecord...), batches("record", "e", "p", "o"),
			calls("record", "p", "e"),
		}},
	{name: "batches, pinned", library: c("batch_pinned"), funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{name: "batches without ferrule_batch", library: c("batch_missing"),
		funcs: map[string]loader.HostFunc{"upper": upper},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{name: "batches that count too much", library: c("batch_counts_too_much"),
		funcs: map[string]loader.HostFunc{"upper": panics},
		steps: []step{batches("record", everyRecord...), batches("record", "e", "p", "o")}},
	{name: "SDK for C", library: sdk("helpers.c"), funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat,
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
	{name: "SDK for C with a configuration", library: sdk("helpers.c"),
		options: []loader.Option{loader.WithConfig([]byte("x"))},
		funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent,
			"greedy": echo,
			"hollow": echo, "stuck": echo, "growing": echo, "forgetful": echo}},
	{name: "SDK for C++", library: sdk("entries.cpp"), options: []loader.Option{loader.WithConfig([]byte("7"))},
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
	{name: "SDK for C++ that cannot start", library: sdk("entries.cpp"),
		options: []loader.Option{loader.WithConfig([]byte("bad"))},
		funcs:   map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent}},
	{name: "Rust, bytes", library: rust("echo"), steps: []step{
		calls("borrowed", "", "x", long), calls("owned", "x", long), calls("text", "x", "\xff"),
		calls("string", "Grüße"), calls("constant"),
		calls("named_lifetime", " x "), calls("type", "x"), calls("question_mark", "41", "x"), calls("any_error", "x"),
		calls("own_status", "sold"),
		batches("owned", "a", long), views("owned", long), calls("unit", "something"),
	}},
	{name: "Rust, state", library: rust("counter"), options: []loader.Option{loader.WithConfig([]byte("ada=12"))},
		funcs: map[string]loader.HostFunc{"call_me": back("add")}, steps: []step{
			calls("add", "1", "two"), calls("name"), calls("panics"), calls("add", "3"), calls("reenter"),
			batches("add", "1", "x", "2"), calls("panics"),
			batches("add", "0", "1"),
		}},
	{name: "Rust, state with instances", library: rust("counter"), shuffle: true,
		options: []loader.Option{loader.WithConfig([]byte("bob=1")), loader.WithInstances(2)},
		funcs:   map[string]loader.HostFunc{"call_me": echo}, steps: []step{calls("reenter")}},
	{name: "Rust, state that cannot start", library: rust("counter"),
		options: []loader.Option{loader.WithConfig([]byte("ada"))},
		funcs:   map[string]loader.HostFunc{"call_me": echo}},
	{name: "Rust, host functions", library: rust("imports"), funcs: map[string]loader.HostFunc{
		"loyalty_points": loader.JSONFunc(func(_ context.Context, n int) (int, error) { return n, nil }),
		"bytes":          echo, "now": func(context.Context, []byte) ([]byte, error) { return []byte("noon"), nil },
		"notify": silent,
		"sum":    loader.JSONFunc(func(_ context.Context, n []int) (int, error) { return len(n), nil }), "fails": refuse},
		steps: []step{
			calls("points", "17", "x"), calls("pass", "x", long), calls("total"), calls("failure"), calls("pass_failure"),
		}},
	{name: "Rust, JSON", library: rust("json"), steps: []step{
		hooks("before_checkout", `{"customer":"ada","total":200}`),
		hooks("before_checkout", `{"customer":"ada","total":0}`), hooks("before_checkout", "{")}},
	{name: "Rust, logs", library: rust("logs"), steps: []step{calls("levels", "x", long), calls("enabled")}},
	{name: "Rust, panics", library: rust("panics"), options: []loader.Option{loader.WithConfig([]byte("stop"))},
		steps: []step{
			calls("fine"), calls("panics", "text", "formatted", "index", "scope", "payload",
				"grenade", "error", "resumed", "caught", "thread", ""),
			batches("panics", "text", "", "index"), calls("fine"),
		}},
	{name: "Rust, panic in start", library: rust("panics"),
		options: []loader.Option{loader.WithConfig([]byte("start"))}},
	{name: "Rust, pinned", library: rust("pinned"), steps: []step{calls("next", "", ""), batches("next", "", "")}},
	{name: "Rust, batches", library: rust("batch"), funcs: map[string]loader.HostFunc{"cancel": silent}, steps: []step{
		batches("repeat", "3", "0", "9000", "100000", "x"), batches("panic_at", "a", "panic", "b"),
		batches("cancel_at", "a", "cancel", "b"),
	}},
	{name: "services of version 1.1", library: c("services"), options: []loader.Option{loader.WithConfig([]byte("first")), loader.WithPluginInfo("shop.tenant", "ada")},
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
	{name: "C SDK, services of version 1.1", library: sdk("helpers.c"), funcs: map[string]loader.HostFunc{"greedy": echo, "hollow": echo, "stuck": echo,
		"growing": echo, "forgetful": echo, "echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent, "cache": upper}, steps: []step{
		calls("pass"), calls("pass_with_reason", "cats"), tries("pass_with_reason", "cats"), calls("want_cache", "a", long), calls("want_mail", "a"),
		calls("offered", "cache", "mail"), calls("room_grows", "", "7"), streams("stream_count", "", long, true), streams("stream_copy", "", long, false),
		streams("stream_print", "text", "", false), streams("stream_fives", "", "twelve bytes", false), streams("stream_fives", "", "twelve bytes", true),
		calls("stream_count"), hooks("wrapper", "x"), wraps("wrapper", "x", upper), wraps("wrapper", long, upper), watches("progress", "seven"),
		calls("log_fields", "x"), calls("log_no_fields"), calls("background_outside"),
	}},
	{name: "C++ SDK, services of version 1.1", library: sdk("entries.cpp"), options: []loader.Option{loader.WithConfig([]byte("7"))},
		funcs: map[string]loader.HostFunc{"echo": echo, "repeat": repeat, "refuse": refuse, "silent": silent, "cache": upper}, steps: []step{
			calls("results", "pass", "reason", "error", "view", "x"), tries("results", "pass", "view"), calls("throws_pass"), calls("want_cache", "a"),
			calls("want_mail", "a"), calls("offers"), calls("knows", "instance", "shop.tenant"), streams("copies", "", long, false),
			streams("copies", "", "abc", true), streams("lines", "", "a\nb\nc", false), calls("lines"), hooks("wrapper", "x"), wraps("wrapper", "x", upper),
			wraps("wrapper", "x", failing(loader.ErrUnsupported)), watches("progresses", "seven"), calls("logs_fields", "x"), configures("40"), calls("get"),
			configures("x"), calls("get"), sessions("12", "get", ""), sessions("y", "get", ""),
		}},
	{name: "Rust, streams", library: rust("streams"), steps: []step{
		streams("count", "", "a\nb\n", false), streams("count", "", long, true), calls("count"), streams("produce", "3", "", false),
		streams("produce", "30000", "", false), streams("produce", "x", "", false), streams("shout", "> ", "a\nb", false), streams("shout", "", long, false),
		streams("shout", "", "\xff", false), streams("half", "", "abcdef", false), streams("half", "error", "abcdef", false),
		streams("half", "panic", "abcdef", false), streams("half", "", "a", false), batches("count", "", ""),
	}},
	{name: "Rust, room", library: rust("room"), steps: []step{
		calls("room_table", "3", "30000", "x"), calls("room_slice", "0", "1", "300000"), calls("room_dropped", "fail", "pass", "panic", ""),
		tries("room_dropped", "pass"), calls("room_reserved"), calls("room_unused"), calls("room_thread"), batches("room_slice", "3", "100000", "x", "0"),
		views("room_slice", "300000"), appends("room_slice", "9", 3),
	}},
	{name: "Rust, wants", library: rust("wants"), funcs: map[string]loader.HostFunc{"needed": upper, "city": echo}, steps: []step{
		calls("greet", "a"), calls("straight", "a", long), calls("both", "a")}},
	{name: "Rust, wants that are not offered", library: rust("wants"), funcs: map[string]loader.HostFunc{"needed": upper}, steps: []step{
		calls("greet", "a"), calls("straight", "a"), calls("both", "a")}},
	{name: "Rust, between calls", library: rust("between"), shuffle: true, funcs: map[string]loader.HostFunc{"push": echo}, steps: []step{
		calls("too_late"), closes}},
	{name: "Rust, settings", library: rust("handover"), options: []loader.Option{loader.WithConfig([]byte("2"))}, steps: []step{
		calls("next", "", ""), configures("5"), calls("next"), configures("0"), configures("x"), calls("next"), sessions("3", "next", "", ""),
		sessions("0", "next", ""), batches("next", "", ""),
	}},
	{name: "Rust, words", library: rust("words"), options: []loader.Option{loader.WithPluginInfo("shop.tenant", "ada")}, steps: []step{
		hooks("page", "/health"), hooks("page", "/"), wraps("page", "/twice", upper), wraps("page", "/x", failing(loader.ErrUnsupported)),
		hooks("double", "21"), hooks("double", "x"), calls("deep", "21", "x"), tries("deep", "21", "x"),
		calls("info", "shop.tenant", "instance", "shop.other"), watches("progress", ""), calls("fields"),
	}},
	{name: "Rust, own threads", library: rust("threads"), shuffle: true,
		funcs: map[string]loader.HostFunc{"shout": upper}, steps: []step{
			calls("shout_words", "a b c"), calls("after_scope"), calls("without_scope", "x"),
		}},
}
