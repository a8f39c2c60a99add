package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

// everything is an entry of Everything.
func everything(name string, config string, steps ...step) Transcript {
	return Transcript{Name: name, config: config, info: offered, funcs: forEverything, steps: steps}
}

// offered is what the host knows beside its functions.
var offered = []loader.Option{loader.WithPluginInfo("shop.tenant", "ada")}

// forEverything are the host functions that the plug-in everything imports, or wants.
var forEverything = map[string]loader.HostFunc{
	"double": func(_ context.Context, in []byte) ([]byte, error) { return bytes.Repeat(in, 2), nil },
	"refuse": func(_ context.Context, in []byte) ([]byte, error) {
		switch why := string(in); why {
		case "plain":
			return nil, errors.New("the host does not like it")
		case "own":
			return nil, loader.Status(1001)
		case "invalid":
			return nil, fmt.Errorf("what comes is wrong: %w", loader.ErrInvalid)
		case "pass":
			return nil, loader.ErrPass
		case "cancelled":
			return nil, context.Canceled
		case "panic":
			panic(errors.New("oh no"))
		case "long":
			return nil, errors.New(long)
		case "not UTF-8":
			return nil, errors.New("caf\xe9")
		case "not text":
			return []byte("caf\xe9"), nil
		}
		return in, nil
	},
	"back": func(ctx context.Context, in []byte) ([]byte, error) {
		return back(strings.TrimLeft(string(in), "0"))(ctx, in)
	},
	"add": loader.JSONFunc(func(_ context.Context, p map[string]int) (int, error) { return p["a"] + p["b"], nil }),
}

// Everything is what is done with the plug-in sdk-go/formstest/everything in each form that it is built in.
var Everything = []Transcript{
	everything("values", "",
		calls("echo", "", "x", "\xff\x00", long), calls("echo_text", "", "Grüße", "caf\xe9", "\xff", "a\x00b", long), calls("upper_text", "abc é", "é\xc3"),
		calls("add_up", `{"a":1,"b":2}`, `{"a":-1}`, `{}`, "", "{", `{"a":"x"}`, `{"a":1e99}`, `{"A":3}`, `[]`, "null", `{"a":1} 2`),
		calls("any_value", `{"z":[1,null,true,"é"],"a":1.5}`, "null", `"\ud800"`, "", "<&>"), calls("no_json"), calls("nothing", "", "ignored"), calls("not_text"),
		calls("empty"), calls("no_bytes"), calls("long", "0", "1", "65536", "-1", "x"), calls("long_text", "0", "70000"), calls("long_json", "0", "3", "9000"),
		calls("missing"), hooks("missing", ""), jsons[map[string]int, map[string]any]("add_up", map[string]int{"a": 2, "b": 3}), jsons[string, int]("add_up", "text"),
		appends("long", "9", 3), appends("long", "9", 100), appends("fails", "plain", 100), views("echo", "in place"), views("long", "70000"), views("fails", "plain"),
		batches("long", "3", "x", "70000", "-1"), batches("echo"), batches("fails", "plain", "pass", "1002")),
	everything("failures", "",
		calls("fails", "", "plain", "empty", "invalid", "wrapped", "in the middle", "joined", "cancelled", "deadline", "not UTF-8", "lines", "long", "both"),
		calls("fails", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "999", "1000", "2147483647"), tries("fails", "9", "1001", "both"), calls("fails_with_result"),
		calls("passes", "", "x"), tries("passes", "", "x"), calls("echo", "still there")),
	everything("state", `{"first":40}`,
		calls("next", "", ""), calls("about"), batches("next", "", "", ""), calls("keep", "abc"), calls("keep_text", "def"), calls("echo", "xyz", long), calls("kept"),
		calls("keep", ""), calls("kept"), configures(`{"greeting":"second"}`), calls("about"), configures(`{"start":"fails"}`), calls("about"), configures("{"), configures(`{"first":"x"}`), calls("about"),
		configures(""), calls("about"), sessions(`{"first":7}`, "next", "", ""), sessions("", "about", ""), sessions(`{"start":"fails"}`, "next", ""), sessions("[", "next", ""), calls("next"),
		handsOver(`{"greeting":"third"}`), calls("about"), calls("next"), handsOver(`{"start":"fails"}`), calls("next"), handsOver(`{"resume":"fails"}`), calls("next"), handsOver(""), calls("about")),
	everything("state that is not saved", `{"stop":"does not save"}`, calls("next"), handsOver(""), calls("next")),
	everything("start that logs", `{"start":"logs","stop":"logs","first":3}`, calls("next")),
	everything("start that asks", `{"start":"asks","greeting":"a"}`, calls("about")),
	everything("start that fails", `{"start":"fails"}`),
	everything("start that fails without a word", `{"start":"sold out"}`),
	everything("start that panics", `{"start":"panics"}`),
	everything("settings that are no JSON", `{"first":`),
	everything("settings of another type", `{"first":"x"}`),
	everything("stop that fails", `{"stop":"fails"}`, calls("next")),
	everything("stop that panics", `{"stop":"panics"}`, calls("next")),
	everything("host functions", "",
		calls("doubles", "", "a", long), calls("adds", `{"a":1,"b":2}`), calls("asks_absent"), calls("asks_unknown", "double", "unknown", "", "a b"),
		calls("hands_on", "plain", "own", "invalid", "pass", "cancelled", "panic", "long", "not UTF-8", "not text", "fine"),
		calls("refused", "plain", "own", "invalid", "pass", "cancelled", "panic", "not UTF-8"), calls("echo", "still there"), batches("hands_on", "plain", "fine", "own"), calls("other_context"),
		calls("of_no_hook"), calls("not_between")),
	{Name: "wants that are not offered", info: offered, funcs: without("add"), steps: []step{calls("adds", `{"a":1,"b":2}`), calls("offers", "add", "double", "absent", "unknown")}},
	{Name: "imports that are not offered", info: offered, funcs: without("double"), steps: []step{calls("echo", "x")}},
	{Name: "nested calls", options: []loader.Option{loader.WithInstances(3)}, info: offered, funcs: nested(), steps: []step{calls("back", "x", "deeper", "fails"), batches("back", "x", "fails"), calls("back", "x")}},
	{Name: "goroutines", shuffle: true, info: offered, funcs: forEverything, steps: []step{calls("parallel", "0", "1", "16"), calls("leaves"), calls("left"), calls("leaves"), calls("left"), calls("between", "between")}},
	everything("lines", "", calls("logs"), batches("logs", "", "")),
	everything("progress", "", watches("progresses", "0"), watches("progresses", "1"), watches("progresses", "1000"), calls("progresses", "3")),
	everything("what the host knows", "",
		calls("knows", "instance", "offers.double", "offers.add", "offers.absent", "offers.other", "shop.tenant", "shop.other", "data", "", "\xff", strings.Repeat("k", 256), strings.Repeat("k", 257)),
		calls("offers", "double", "add", "absent", "other", ""), calls("remaining"), traced("knows", "traceparent")),
	everything("hooks", `{"first":10}`,
		hooks("before_sale", `{"a":1,"b":2}`), hooks("before_sale", `{}`), hooks("before_sale", "{"), hooks("around", "none"), hooks("around", "pass"), hooks("around", "once"),
		wraps("around", "once", upper), wraps("around", "twice", upper), wraps("around", "none", upper), wraps("around", "once", panics), wraps("around", "once", failing(loader.Status(1234))),
		wraps("around", "twice", failing(loader.ErrUnsupported))),
	everything("ends of contexts", "",
		endsOn("waits", "select", ErrLeft), endsOn("waits", "err", ErrLeft), endsOn("waits", "derived", ErrLeft), endsOn("waits", "after", ErrLeft), endsOn("waits", "anyway", ErrLeft),
		endsOn("waits", "host", ErrLeft), endsOn("waits", "select", context.DeadlineExceeded), ended("waits", ErrLeft), calls("echo", "still there"), limited("remaining"),
		limited("echo"), calls("remaining")),
	everything("streams", "",
		streams("counts", "", "", false), streams("counts", "", "abc", false), streams("counts", "", long, false), streams("counts", "", "abc", true), calls("counts"),
		streams("first", "3", "abcdef", false), streams("first", "3", long, false), streams("first", "9", "abc", false), streams("first", "9", "abc", true), streams("first", "x", "abc", false),
		streams("gives", "0", "", false), streams("gives", "3", "", false), streams("gives", "30000", "", false), calls("gives", "0", "3"),
		streams("swaps", "> ", "aBc", false), streams("swaps", "", long, false), streams("swaps", "", "abc", true), calls("swaps", "x"), batches("counts", "", ""), breaksOff("gone"), calls("echo", "still there")),
	everything("panics", `{"first":5}`,
		calls("next"), calls("panics", "text", "error", "value", "shy", "empty", "nil", "map", "index", "pointer", "division", "assertion", "closed", "deferred", "host"), calls("next"),
		calls("recovers", "text", "index", "shy"), calls("next", ""), batches("panics", "text", "", "index"), hooks("before_sale", `{"a":1}`), calls("next"), calls("keep", "x"), calls("panics", "text"), calls("kept")),
}

func without(name string) map[string]loader.HostFunc {
	rest := make(map[string]loader.HostFunc)
	for each, fn := range forEverything {
		if each != name {
			rest[each] = fn
		}
	}
	return rest
}

// nested are host functions, of which back calls the plug-in: deeper calls it once more.
func nested() map[string]loader.HostFunc {
	all := without("back")
	all["back"] = func(ctx context.Context, in []byte) ([]byte, error) {
		r := ctx.Value(key{}).(*Recording)
		fn, to := "upper_text", string(in)
		switch to {
		case "deeper":
			fn, to = "back", "x"
		case "fails":
			fn, to = "fails", "wrapped"
		}
		out, err := r.Plugin.Call(ctx, fn, []byte(to))
		r.Say("  back in %s: %s %s", fn, Shown(out), described(err))
		return out, err
	}
	return all
}

// handsOver has a successor with other settings, which takes over what the plug-in has; where that fails the plug-in goes on.
func handsOver(config string) step {
	return func(r *Recording) {
		next, err := r.Plugin.Handover(ctx, func(state *loader.State) (*loader.Plugin, error) {
			r.Say("  %s %d", state.Format(), len(state.Instances()))
			return r.open(config, loader.WithState(state))
		})
		r.Say("hand over to %q: %s", config, described(err))
		if err == nil {
			r.Say("  close: %s", described(r.Plugin.Close()))
			r.Plugin = next
		}
	}
}

// endsOn is ends with an input.
func endsOn(fn, in string, why error) step {
	return func(r *Recording) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r.Begun = func() { cancel(why) }
		defer func() { r.Begun = nil }()
		r.Calls++
		out, err := r.Plugin.Call(ctx, fn, []byte(in))
		r.outcome(fmt.Sprintf("%s(%q) until it is cancelled", fn, in), out, err)
	}
}

// limited calls a function with a deadline that is far away.
func limited(fn string) step {
	return func(r *Recording) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		r.Calls++
		out, err := r.Plugin.Call(ctx, fn, nil)
		r.outcome(fn+" with a deadline", out, err)
	}
}

// traced calls a function with a place in a trace.
func traced(fn, in string) step {
	return func(r *Recording) {
		r.Calls++
		out, err := r.Plugin.Call(loader.WithInfo(ctx, loader.TraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), fn, []byte(in))
		r.outcome(fmt.Sprintf("%s(%q) in a trace", fn, in), out, err)
	}
}

// breaksOff calls a function whose output nobody takes after some of it.
func breaksOff(fn string) step {
	return func(r *Recording) {
		f, err := r.Plugin.Func(fn)
		require.NoError(r, err)
		r.Calls++
		taken := 3
		out, err := f.Stream(ctx, nil, nil, writerFunc(func(p []byte) (int, error) {
			if taken--; taken < 0 {
				return 0, ErrLeft
			}
			return len(p), nil
		}))
		r.outcome(fn+" whose output breaks off", out, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
