package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crossing"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() { verbs = append(verbs, benchVerb) }

// maxParallel is how many instances package loader opens at most.
const maxParallel = 256

// benchOptions are the flags of the verb.
type benchOptions struct {
	in                string
	hook              bool
	host              hostFlags
	sidecar           sidecarFlags
	duration, timeout time.Duration
	parallel          int
}

func benchVerb(a *app) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench [--sidecar] FILE FUNCTION [-- ARGUMENTS]",
		Short: "Measure what a call of a function costs, in-process and isolated",
		Long: `Measure how long calls of a plug-in's function take, in this process and in a worker process, side by side, with
the bare crossing as the baseline.

The bare crossing is the least that any call of native code from Go costs: a call, by the way in that the loader
uses, of a function of the system that does next to nothing (abs of the C library, GetCurrentThreadId on
Windows). What in-process has beyond it is the loader's work and the function's own.

All of them take turns, in rounds, so that what else the machine does meets all alike. In one part of its turn
calls run one after the other without a look at the clock; the mean and calls/s are from there. In the other
part every call is timed by itself; the percentiles and the histogram are from there, less what reading the
clock takes, and right to 1 % or to the clock's own step. Processors do some of a quick call while they read the
clock, so its percentiles may be below its mean. Calls that take longer than 10 µs are all timed. The first
calls of each turn do not count.

The function is called in a worker first, so that one that crashes or hangs is an error and not the end of this
command. A call that fails ends the measurement with its error. Log lines of the plug-in are dropped. All of it is in a
child of this command, which has no terminal and is killed, with all that it has started, when the plug-in keeps it from
going on.

--timeout is for opening the plug-in (its constructors and ferrule_start), for its first call, and for its ferrule_stop,
each by itself, in the worker and again in-process; what goes on for longer is ended within two seconds. Calls that are
measured have a context that cannot end: a turn of them is ended when it takes three times --timeout longer than its part
of --duration.

A WebAssembly module runs in this process, in its own sandbox; it is measured there alone, beside the bare crossing. So is a script in JavaScript, whose
interpreter is such a module. One in Python is measured in a worker and in this process, as a library is. A library with a Go runtime, which no host in Go
loads into its own process, is measured in a worker alone.

With --sidecar PROGRAM a sidecar is measured, which is a program in any language, or what answers at a URL, as call takes it; its arguments stand behind --. It is
measured alone, beside the bare crossing.

With --sandbox the worker is in that sandbox, and there are no calls in-process, which it cannot bound. With --import
the command runs once for each call of the import, and what it costs is measured, too.

With --json: file, plugin, version, function, input_bytes, output_bytes, parallel, seconds, clock_ns, and for
each of bare, in_process, isolated, module and sidecar: calls, mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns, per_second,
ratio. The ratio of in_process, of module and of sidecar is to bare, that of isolated to in_process; bare has none. With --sandbox, and of a library with a Go runtime, there is no
in_process, and isolated has no ratio; of a WebAssembly module, and of a script in JavaScript, there is module alone, and with --sidecar sidecar. Where there is no result, there is error, as call has it.

` + exitCodesOfCalls,
		Example: `  ferrule bench plugin.so count_vowels --in @README.md
  ferrule bench plugin.so count_vowels --in hello --duration 10s --parallel 4
  ferrule bench plugin.wasm count_vowels --in hello
  ferrule bench --sidecar ./shout shout --in hello
  ferrule bench discount.py before_checkout --in @cart.json --answer loyalty_points=7
  ferrule bench plugin.so total --in @cart.json --answer loyalty_points=7 --json | jq .isolated.p99_ns`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); o.sidecar.given && n >= 0 {
				args = args[:n]
			}
			return arguments("FILE", "FUNCTION")(cmd, args)
		},
		ValidArgsFunction: completeCall,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := o.sidecar.take(cmd.Flags(), args, cmd.ArgsLenAtDash())
			if err != nil {
				return err
			}
			result, err := o.bench(a, args[0], args[1])
			if err != nil || result == nil { // a guarded child has printed it
				return failure(inTime(err, o.timeout))
			}
			return a.print(result, func(w io.Writer) error { return result.print(w, a.terminal()) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.in, "in", "", "the input: `TEXT` or @FILE, as for call; without it the input is empty")
	flags.BoolVar(&o.hook, "hook", false,
		"measure what the plug-in attaches to an extension point with this name, not a function")
	o.host.add(flags)
	o.sidecar.add(flags)
	flags.DurationVar(&o.duration, "duration", 2*time.Second, "how long to measure, all together: a `TIME` such as 500ms or 2s")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "the `TIME` that opening the plug-in, its first call and its ferrule_stop may take, each; more than 0")
	flags.IntVar(&o.parallel, "parallel", 1, fmt.Sprintf("`HOW MANY` calls to make at a time, 1 to %d, with as many instances of the plug-in", maxParallel))
	return cmd
}

// benchResult is what was measured; it is printed as JSON as it is.
type benchResult struct {
	File        string  `json:"file"`
	Plugin      string  `json:"plugin"`
	Version     string  `json:"version"`
	Function    string  `json:"function"`
	InputBytes  int     `json:"input_bytes"`
	OutputBytes int     `json:"output_bytes"` // of the first call
	Parallel    int     `json:"parallel"`
	Seconds     float64 `json:"seconds"`
	ClockNS     int64   `json:"clock_ns"`
	Bare        *costs  `json:"bare"`
	InProcess   *costs  `json:"in_process,omitempty"` // not with a sandbox, nor of a library with a Go runtime
	Isolated    *costs  `json:"isolated,omitempty"`   // not of a module, nor of a sidecar
	Module      *costs  `json:"module,omitempty"`     // of a WebAssembly module alone
	Sidecar     *costs  `json:"sidecar,omitempty"`    // of a sidecar alone

	sandboxed bool // Isolated is in a sandbox
}

// costs are what the calls of one kind cost.
type costs struct {
	Calls     int64   `json:"calls"`
	MeanNS    float64 `json:"mean_ns"`
	P50       int64   `json:"p50_ns"`
	P90       int64   `json:"p90_ns"`
	P99       int64   `json:"p99_ns"`
	P999      int64   `json:"p999_ns"`
	Max       int64   `json:"max_ns"`
	PerSecond float64 `json:"per_second"`
	Ratio     float64 `json:"ratio,omitempty"`

	times *latencies
}

// bench measures one function. There is no result of a plug-in that cannot be stopped.
func (o *benchOptions) bench(a *app, file, fn string) (r *benchResult, failed error) {
	switch {
	case o.duration <= 0:
		return nil, usage(fmt.Sprintf("--duration %v", o.duration), "more than 0", "")
	case o.timeout <= 0:
		return nil, usage(fmt.Sprintf("--timeout %v", o.timeout), "more than 0", "")
	case o.parallel < 1 || o.parallel > maxParallel:
		return nil, usage(fmt.Sprintf("--parallel %d", o.parallel), fmt.Sprintf("1 to %d", maxParallel), "")
	}
	policy, err := o.host.policy()
	if err != nil {
		return nil, err
	}
	imports, err := o.host.imports(a)
	if err != nil {
		return nil, err
	}
	in, err := a.read(source{text: o.in}, "--in")
	if err != nil {
		return nil, err
	}
	config, err := a.read(source{text: o.host.config}, "--config")
	if err != nil {
		return nil, err
	}
	lib, beside, err := o.inspect(a, &file)
	if err != nil {
		return nil, err
	}
	symbol, err := findSymbol(lib, fn, o.hook)
	if err != nil {
		return nil, err
	}
	if symbol.Stream != 0 {
		return nil, usage(fmt.Sprintf("%s of plug-in %s, which works on streams (stream=%s)", fn, lib.Manifest.Name, symbol.Stream),
			"a function without", "Its speed is that of its stream: see what time ferrule call takes for a long one")
	}
	if err := checkImports(lib, imports); err != nil {
		return nil, err
	}
	if err := o.host.checkConfig(lib); err != nil {
		return nil, err
	}
	adapter := ""
	if engines.IsPython(lib) {
		if adapter, err = a.adapter(file); err != nil {
			return nil, err
		}
	}
	if !guarding {
		return nil, a.guard(file, lib.Manifest.Name, symbol, o.timeout)
	}
	opts := []loader.Option{
		loader.WithConfig(config), loader.WithInstances(o.parallel), loader.WithLogger(slog.New(slog.DiscardHandler)),
	}
	for name, s := range imports {
		opts = append(opts, loader.WithHostFunc(name, s.hostFunc(name, a.err)))
	}
	r = &benchResult{File: file, Plugin: lib.Manifest.Name, Version: lib.Manifest.Version, Function: fn, InputBytes: len(in),
		Parallel: o.parallel}

	bare, err := crossing.Bare()
	if err != nil {
		return nil, fmt.Errorf("the bare crossing cannot be measured: %w", err)
	}
	crossed := &target{call: func(dst []byte) ([]byte, error) { bare(); return dst, nil }}
	r.Bare = &crossed.costs
	targets := []*target{crossed}

	// Isolated first: whatever the function does to its process, it does it there. Each step has a time of its own, after
	// which this process is killed.
	step := func(s stage) {
		deadline(o.timeout + grace + guardSlack)
		reached(s)
	}
	var plugins []*loader.Plugin
	defer func() {
		for _, p := range slices.Backward(plugins) {
			step(stopping)
			failed = cmp.Or(failed, p.Close())
			step(stopped)
		}
	}()
	open := func(opts ...loader.Option) (*target, error) {
		step(opening)
		p, err := loader.Open(file, opts...)
		if err != nil {
			return nil, err
		}
		plugins = append(plugins, p)
		step(calling)
		t, err := o.first(p, fn, in)
		if err == nil {
			r.OutputBytes = t.room
		}
		return t, err
	}
	switch {
	case o.sidecar.given:
		apart, err := open(append(opts, loader.WithEngine(beside))...)
		if err != nil {
			return nil, err
		}
		r.Sidecar, targets = &apart.costs, append(targets, apart)
	case engines.IsBoxed(lib):
		box, err := inBox(lib, policy)
		if err != nil {
			return nil, err
		}
		inSandbox, err := open(append(opts, box)...)
		if err != nil {
			return nil, err
		}
		r.Module, targets = &inSandbox.costs, append(targets, inSandbox)
	default:
		apart, here := inWorker(policy, isolate.WithStartTimeout(o.timeout), isolate.WithStopTimeout(o.timeout)), loader.WithEngine(loader.Native())
		if engines.IsPython(lib) {
			here = engines.PythonHere(adapter)
			if apart, err = engines.Python(adapter, file, policy, isolate.WithStartTimeout(o.timeout), isolate.WithStopTimeout(o.timeout)); err != nil {
				return nil, err
			}
		}
		isolated, err := open(append(slices.Clip(opts), apart)...)
		if err != nil {
			return nil, err
		}
		if r.sandboxed = policy != nil; policy == nil && lib.GoVersion == "" {
			inProcess, err := open(append(slices.Clip(opts), here)...)
			if err != nil {
				return nil, err
			}
			r.InProcess, targets = &inProcess.costs, append(targets, inProcess)
		}
		r.Isolated, targets = &isolated.costs, append(targets, isolated)
	}

	clock, seconds, err := measure(targets, o.parallel, o.duration, func(length time.Duration) {
		deadline(length + 3*o.timeout + guardSlack) // there are three parts of a turn with one call at least
	})
	if err != nil {
		return nil, err
	}
	r.ClockNS, r.Seconds = clock.Nanoseconds(), seconds.Seconds()
	for _, c := range []*costs{r.Module, r.Sidecar} {
		if c != nil {
			c.Ratio = c.MeanNS / r.Bare.MeanNS
		}
	}
	if r.InProcess != nil {
		r.InProcess.Ratio = r.InProcess.MeanNS / r.Bare.MeanNS
		r.Isolated.Ratio = r.Isolated.MeanNS / r.InProcess.MeanNS
	}
	return r, nil
}

// inspect finds what the plug-in says of itself, which a sidecar is asked for: then file becomes where it is, and there is an engine that opens it.
func (o *benchOptions) inspect(a *app, file *string) (lib *inspect.Library, beside engine.Engine, err error) {
	if !o.sidecar.given {
		lib, err = loader.Inspect(*file)
		return lib, nil, err
	}
	if *file, beside, err = o.sidecar.engine(a, *file); err != nil {
		return nil, nil, err
	}
	ctx, stop := interruptible(o.timeout)
	defer stop()
	lib, err = askSidecar(ctx, *file, beside)
	return lib, beside, inTime(err, o.timeout)
}

// first finds the function, and calls it for the first time, to see that it works.
func (o *benchOptions) first(p *loader.Plugin, fn string, in []byte) (*target, error) {
	find := p.Func
	if o.hook {
		find = p.Hook
	}
	f, err := find(fn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	start := time.Now()
	out, err := f.Call(ctx, in)
	if err != nil {
		return nil, err
	}
	return &target{
		first: time.Since(start),
		room:  len(out),
		call:  func(dst []byte) ([]byte, error) { return f.Append(context.Background(), dst, in) },
	}, nil
}

// print prints the figures for people.
func (r *benchResult) print(w io.Writer, pretty bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s %s: %s in, %d out, %d at a time, %.1f s\n\n",
		escape.Line(r.Function), escape.Line(r.Plugin), escape.Line(r.Version), plural(r.InputBytes, "byte"), r.OutputBytes, r.Parallel, r.Seconds)
	fmt.Fprintf(&b, "%-14s%9s%9s%9s%9s%9s%9s%13s\n", "", "mean", "p50", "p90", "p99", "p99.9", "max", "calls/s")
	row := func(name string, c *costs) {
		fmt.Fprintf(&b, "%-14s", name)
		b.WriteString(padded(nanoseconds(c.MeanNS), 9))
		for _, ns := range []int64{c.P50, c.P90, c.P99, c.P999, c.Max} {
			b.WriteString(padded(nanoseconds(float64(ns)), 9))
		}
		fmt.Fprintf(&b, "%13.0f\n", c.PerSecond)
	}
	row("bare crossing", r.Bare)
	switch {
	case r.Module != nil:
		row("WebAssembly", r.Module)
		fmt.Fprintf(&b, "\nAs WebAssembly it is %s bare crossings.\n", threeDigits(r.Module.Ratio))
		histogram(&b, pretty, []string{"WebAssembly"}, []*latencies{r.Module.times})
	case r.Sidecar != nil:
		row("sidecar", r.Sidecar)
		fmt.Fprintf(&b, "\nAs a sidecar it is %s bare crossings.\n", threeDigits(r.Sidecar.Ratio))
		histogram(&b, pretty, []string{"sidecar"}, []*latencies{r.Sidecar.times})
	case r.InProcess == nil:
		name := "isolated"
		if r.sandboxed {
			name = "in a sandbox"
		}
		row(name, r.Isolated)
		histogram(&b, pretty, []string{name}, []*latencies{r.Isolated.times})
	default:
		row("in-process", r.InProcess)
		row("isolated", r.Isolated)
		fmt.Fprintf(&b, "\nIn-process is %s bare crossings, isolated %s calls in-process.\n",
			threeDigits(r.InProcess.Ratio), threeDigits(r.Isolated.Ratio))
		histogram(&b, pretty, []string{"in-process", "isolated"}, []*latencies{r.InProcess.times, r.Isolated.times})
	}
	_, err := io.WriteString(w, b.String())
	return err
}
