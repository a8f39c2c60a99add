package plugins_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/install"
)

// hook is a hook of a plug-in in Go.
func hook(point string, call builtin.Func) []builtin.Function {
	return []builtin.Function{{Name: point, Call: call}}
}

// loyal gives customers with points a discount, and speaks to nobody else.
var loyal = &builtin.Plugin{Name: "loyal", Version: "1.2.0", Threads: abi.Concurrent, Imports: []string{"loyalty_points"},
	Hooks: hook("before_checkout", func(ctx context.Context, customer []byte) ([]byte, error) {
		points, err := builtin.Import(ctx, "loyalty_points", customer)
		if err != nil {
			return nil, err
		}
		if string(points) == "0" {
			return nil, loader.ErrPass
		}
		return []byte("10"), nil
	}),
	Funcs: []builtin.Function{{Name: "describe", Call: func(context.Context, []byte) ([]byte, error) {
		return []byte("points are worth it"), nil
	}}}}

// generous gives everybody a discount, behind loyal.
var generous = &builtin.Plugin{Name: "generous", Version: "1.0.0", Threads: abi.Concurrent,
	Hooks: []builtin.Function{{Name: "before_checkout", Keys: map[string]string{"after": "loyal"},
		Call: func(context.Context, []byte) ([]byte, error) { return []byte("1"), nil }}}}

// broken fails at every point that the examples have.
var broken = &builtin.Plugin{Name: "broken", Version: "0.1.0", Threads: abi.Concurrent, Hooks: slices.Concat(
	hook("sold", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("out of paper") }),
	hook("before_sale", func(context.Context, []byte) ([]byte, error) { return []byte("the till is closed"), nil }))}

// points is a function of the application's.
func points(_ context.Context, customer string) (int, error) {
	return len(customer) - 3, nil // Ada has none
}

// started is a system that runs; the example ends where it cannot.
func started(sys *plugins.System) *plugins.System {
	if err := sys.Start(context.Background()); err != nil {
		panic(err)
	}
	return sys
}

// An application with an extension point, a function for plug-ins, and two plug-ins that are compiled in.
func ExampleNew() {
	var sys *plugins.System = plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal, generous),
		plugins.Required("loyal"))
	defer sys.Close()
	var choices []plugins.OfferOption = []plugins.OfferOption{plugins.Public(), plugins.Doc("Reads a customer's points."),
		plugins.PerSecond(1000), plugins.With(loader.JSON)}
	plugins.Offer(sys, "loyalty_points", points, choices...)
	var discount *plugins.FirstPoint[string, int] = plugins.First[string, int](sys, "before_checkout", plugins.Limit(time.Second))
	started(sys)
	for _, customer := range []string{"Grace", "Ada"} {
		percent, found, err := discount.Call(context.Background(), customer)
		fmt.Println(customer, percent, found, err)
	}
	// Output:
	// Grace 10 true <nil>
	// Ada 1 true <nil>
}

// A function of the application knows which plug-in calls it.
func ExampleCaller() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", func(ctx context.Context, customer string) (int, error) {
		plugin, ok := plugins.Caller(ctx)
		fmt.Println(plugin, "asks for the points of", customer, ok)
		return 7, nil
	}, plugins.Public())
	discount := plugins.First[string, int](sys, "before_checkout")
	started(sys)
	percent, found, err := discount.Call(context.Background(), "Grace")
	fmt.Println(percent, found, err)
	// Output:
	// loyal asks for the points of Grace true
	// 10 true <nil>
}

// What there is, in which state, and in which order it is asked.
func ExampleSystem_List() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal, generous))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", points, plugins.Public())
	var options []plugins.PointOption = []plugins.PointOption{plugins.Documented("The discount of a cart."),
		plugins.Codec(loader.JSON)}
	plugins.First[string, int](sys, "before_checkout", options...)
	started(sys)
	for _, p := range sys.List() {
		var known plugins.Plugin = p
		fmt.Println(known.Name, known.Version, known.State == plugins.StateReady || known.State == plugins.StateStarted, known.Points)
	}
	for _, order := range sys.Hooks() {
		var kind plugins.Kind = order.Kind
		fmt.Println(order.Point, kind, order.Doc)
		for _, place := range order.Places {
			fmt.Printf("  %s: %s\n", place.Plugin, place.Reason)
		}
	}
	// Output:
	// generous 1.0.0 true [before_checkout]
	// loyal 1.2.0 true [before_checkout]
	// before_checkout first The discount of a cart.
	//   loyal: before generous
	//   generous: after loyal
}

// Each plug-in has its say.
func ExampleCollect() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal, generous))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", points, plugins.Public())
	var offers *plugins.CollectPoint[string, int] = plugins.Collect[string, int](sys, "before_checkout", plugins.Parallel())
	started(sys)
	results, err := offers.Call(context.Background(), "Grace")
	for _, r := range results {
		var result plugins.Result[int] = r
		fmt.Println(result.Plugin, result.Value)
	}
	fmt.Println(err)
	// Output:
	// loyal 10
	// generous 1
	// <nil>
}

// A plug-in that fails is the error, or a line in the log, as the policy says. Whoever comes later is told the last event of
// each kind.
func ExampleNotify() {
	var policy plugins.Policy = plugins.Join
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(broken))
	defer sys.Close()
	var sold *plugins.NotifyPoint[string] = plugins.Notify[string](sys, "sold", plugins.OnError(policy),
		plugins.Breaker(3, time.Second), plugins.Keep(func(item string) string { return item }))
	started(sys)
	err := sold.Call(context.Background(), "tea")
	var failed *plugins.HookError
	if errors.As(err, &failed) {
		fmt.Println(failed.Plugin, failed.Point, errors.Is(err, loader.ErrFailed))
	}
	// Output: broken sold true
}

// Each plug-in changes what the one before it has made.
func ExamplePipe() {
	trim := &builtin.Plugin{Name: "trim", Version: "1.0.0",
		Hooks: hook("title", func(_ context.Context, in []byte) ([]byte, error) { return bytes.TrimSpace(in), nil })}
	upper := &builtin.Plugin{Name: "upper", Version: "1.0.0",
		Hooks: hook("title", func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil })}
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(trim, upper))
	defer sys.Close()
	var title *plugins.PipePoint[[]byte] = plugins.Pipe[[]byte](sys, "title")
	started(sys)
	out, err := title.Call(context.Background(), []byte("  green tea "))
	fmt.Printf("%q %v\n", out, err)
	// Output: "GREEN TEA" <nil>
}

// A plug-in may object.
func ExampleVeto() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(broken))
	defer sys.Close()
	var allowed *plugins.VetoPoint[string] = plugins.Veto[string](sys, "before_sale")
	started(sys)
	err := allowed.Call(context.Background(), "tea")
	var objection *plugins.Objection
	if errors.As(err, &objection) {
		fmt.Println(objection.Plugin, "objects:", objection.Reason)
	}
	// Output: broken objects: the till is closed
}

// Plug-ins stand around what the application does by itself.
func ExampleWrap() {
	polite := &builtin.Plugin{Name: "polite", Version: "1.0.0", Hooks: []builtin.Function{{Name: "print",
		Keys: map[string]string{"wrap": "yes"},
		Call: func(ctx context.Context, in []byte) ([]byte, error) {
			out, err := builtin.Next(ctx, in)
			return append(out, " Thank you."...), err
		}}}}
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(polite))
	defer sys.Close()
	var print *plugins.WrapPoint[[]byte, []byte] = plugins.Wrap(sys, "print",
		func(_ context.Context, item []byte) ([]byte, error) { return fmt.Appendf(nil, "Sold: %s.", item), nil })
	started(sys)
	out, err := print.Call(context.Background(), []byte("tea"))
	fmt.Println(string(out), err)
	// Output: Sold: tea. Thank you. <nil>
}

// A function of a plug-in, whichever version of it runs.
func ExampleSystem_Func() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", points, plugins.Public())
	plugins.First[string, int](sys, "before_checkout", plugins.Needs("describe"))
	started(sys)
	var describe *plugins.Func
	describe, err := sys.Func("loyal", "describe")
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := describe.Call(context.Background(), nil)
	fmt.Println(string(out), err)
	_, err = sys.Func("loyl", "describe")
	fmt.Println(errors.Is(err, plugins.ErrNotFound))
	// Output:
	// points are worth it <nil>
	// true
}

// The application decides what a plug-in gets that no config.yaml grants.
func ExampleGrants() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal),
		plugins.Grants(func(asks plugins.Request) bool {
			fmt.Println(asks.Plugin, "asks for the", asks.What, asks.Name)
			return false
		}))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", points)
	started(sys)
	p, _ := sys.Plugin("loyal")
	var state plugins.State = p.State
	var why *plugins.Error
	if errors.As(p.Err, &why) {
		var step plugins.Step = why.Step
		fmt.Println(state, "at the step", step, errors.Is(why, plugins.ErrGrant))
	}
	// Output:
	// loyal asks for the function loyalty_points
	// failed at the step grant true
}

// Who watches over the system hears what happens, how often and how long.
func ExampleCounting() {
	var traced atomic.Int64
	var mu sync.Mutex
	var kinds []string
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(generous), plugins.Counting(),
		plugins.OnEvent(func(e plugins.Event) {
			var kind plugins.EventKind = e.Kind
			mu.Lock()
			defer mu.Unlock()
			if kind == plugins.EventState && e.State == plugins.StateStarted {
				kinds = append(kinds, e.Plugin+" "+string(e.State))
			}
		}),
		plugins.Trace(func(ctx context.Context, call plugins.Call) (context.Context, func(error)) {
			if call.Point == "before_checkout" {
				traced.Add(1)
			}
			return ctx, nil
		}))
	discount := plugins.First[string, int](sys, "before_checkout")
	started(sys)
	for range 3 {
		if _, _, err := discount.Call(context.Background(), "Ada"); err != nil {
			fmt.Println(err)
		}
	}
	for _, s := range sys.Stats() {
		var stat plugins.Stat = s
		fmt.Println(stat.Plugin, stat.Point, stat.Calls, stat.Failed)
	}
	sys.Close() // it waits for who is told of events
	fmt.Println(traced.Load(), kinds)
	// Output:
	// generous before_checkout 3 0
	// 3 [generous started]
}

// Native plug-ins come from a folder, in which they are replaced while the application runs.
func ExampleFolder() {
	library, ok := fixture.OfExample("echo")
	if !ok {
		panic("no library " + library + ": a C compiler is missing: apt-get install gcc")
	}
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	data, err := os.ReadFile(library)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, filepath.Base(library)), data, 0o700)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	var options []plugins.Option = []plugins.Option{plugins.Logger(quiet()), plugins.Folder(folder), plugins.Watch(),
		plugins.LoaderOptions(func(name string) []loader.Option { return []loader.Option{loader.WithMaxCalls(16)} })}
	sys := started(plugins.New("shop", "1.4.0", options...))
	defer sys.Close()
	echo, err := sys.Func("echo", "echo")
	if err != nil {
		fmt.Println(err)
		return
	}
	out, err := echo.Call(context.Background(), []byte("hello"))
	fmt.Println(string(out), err)
	// Output: hello <nil>
}

// What a tool sees of an application's config.yaml, without running any plug-in. What is not installed has failed, with what
// to do.
func ExampleSurvey() {
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(path, []byte("plugins:\n  - name: discount\n    version: ^2\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	var overview *plugins.Overview
	overview, err = plugins.Survey(context.Background(), plugins.Config(path),
		plugins.StoreFolder(filepath.Join(folder, "store")), plugins.LockFile(filepath.Join(folder, "ferrule.lock")), plugins.Download(), plugins.DownloadJitter(time.Minute),
		plugins.OnDownload(func(p install.Progress) { fmt.Println("downloads", p.Plugin) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range overview.Plugins {
		fmt.Println(p.Name, p.State, strings.Contains(p.Err.Error(), "discount"))
	}
	// Output: discount failed true
}

// The order of hooks says why each stands where it does.
func ExampleOrder() {
	sys := plugins.New("shop", "1.4.0", plugins.Logger(quiet()), plugins.Builtin(loyal, generous))
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", points, plugins.Public())
	plugins.First[string, int](sys, "before_checkout")
	started(sys)
	var order plugins.Order = sys.Hooks()[0]
	var last plugins.Place = order.Places[len(order.Places)-1]
	fmt.Println(last.Plugin, len(order.Faults))
	// Output: generous 0
}

// What an engine says of its options is said in the words of the file that its reader writes.
func ExampleInConfig() {
	err := plugins.InConfig(&loader.OpenError{Path: "tax.py", Kind: loader.ErrRead, Found: "an interpreter that is a script",
		Expected: "the program itself", Remedy: "Name that with sidecar.WithInterpreter"})
	var open *loader.OpenError
	if errors.As(err, &open) {
		fmt.Println(open.Remedy)
	}
	// Output: Name that by interpreter in its entry
}
