// Everything is a sidecar that uses all that package sidecar has. With the argument `hostile` it also has functions that do harm.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
	"github.com/ferrule-dev/ferrule/sdk-go/sidecar"
)

// counter is the plug-in's state.
type counter struct {
	mu       sync.Mutex
	n        int
	greeting string
	between  sync.WaitGroup
}

func (c *counter) add(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return c.n
}

func start(ctx context.Context, config []byte) (any, error) {
	c := &counter{greeting: "hello"}
	if err := configure(ctx, c, config); err != nil {
		return nil, err
	}
	between, err := plugin.Background(ctx)
	if err != nil {
		return nil, err
	}
	c.between.Add(1)
	go func() {
		defer c.between.Done()
		slog.New(plugin.Handler(between)).Info("between", "calls", true)
		_, _ = plugin.Ask(between, "lookup", []byte("between"))
		<-between.Done()
	}()
	return c, nil
}

func configure(_ context.Context, state any, config []byte) error {
	if len(config) == 0 {
		return nil
	}
	var settings struct{ Greeting string }
	if err := json.Unmarshal(config, &settings); err != nil {
		return fmt.Errorf("the configuration is no JSON object with a greeting: %w", plugin.Invalid)
	}
	c := state.(*counter)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeting = settings.Greeting
	return nil
}

func function(name string, call func(ctx context.Context, c *counter, in []byte) ([]byte, error), keys ...string) plugin.Function {
	f := plugin.Function{Name: name, Keys: map[string]string{"doc": "What " + name + " does."}, Call: func(ctx context.Context, state any, in []byte) ([]byte, error) {
		return call(ctx, state.(*counter), in)
	}}
	for i := 0; i < len(keys); i += 2 {
		f.Keys[keys[i]] = keys[i+1]
	}
	return f
}

var functions = []plugin.Function{
	function("echo", func(_ context.Context, _ *counter, in []byte) ([]byte, error) { return in, nil }),
	function("greet", func(_ context.Context, c *counter, in []byte) ([]byte, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return append([]byte(c.greeting+" "), in...), nil
	}),
	function("length", func(_ context.Context, _ *counter, in []byte) ([]byte, error) {
		return strconv.AppendInt(nil, int64(len(in)), 10), nil
	}),
	function("count", func(_ context.Context, c *counter, _ []byte) ([]byte, error) {
		return strconv.AppendInt(nil, int64(c.add(1)), 10), nil
	}),
	function("wait", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		if string(in) == "no" {
			return in, nil
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}),
	function("sleep", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		d, err := time.ParseDuration(string(in))
		if err != nil {
			return nil, errors.Join(err, plugin.Invalid)
		}
		select {
		case <-time.After(d):
			return in, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}),
	function("fail", func(_ context.Context, _ *counter, in []byte) ([]byte, error) {
		return nil, fmt.Errorf("caf\xe9 %d: %w", len(in), plugin.Status(1001))
	}),
	function("lookup", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		return plugin.Ask(ctx, "lookup", in)
	}),
	function("lookups", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		const all = 20
		outs := make([][]byte, all)
		errs := make([]error, all)
		var running sync.WaitGroup
		for i := range all {
			running.Add(1)
			go func() {
				defer running.Done()
				outs[i], errs[i] = plugin.Ask(ctx, "lookup", strconv.AppendInt(nil, int64(i), 10))
			}()
		}
		running.Wait()
		return bytes.Join(outs, []byte(" ")), errors.Join(errs...)
	}),
	function("wanted", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		if offered, err := plugin.Info(ctx, "offers.extra"); err != nil || offered != "yes" {
			return nil, fmt.Errorf("extra is not offered: %w", plugin.Unsupported)
		}
		return plugin.Ask(ctx, "extra", in)
	}),
	function("info", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		value, err := plugin.Info(ctx, string(in))
		return []byte(value), err
	}),
	function("talk", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		log := slog.New(plugin.Handler(ctx))
		for _, level := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug, slog.LevelDebug - 4} {
			log.Log(ctx, level, "caf\xe9", "input", string(in), "length", len(in))
		}
		return nil, nil
	}),
	function("steps", func(ctx context.Context, _ *counter, _ []byte) ([]byte, error) {
		for i := range uint64(1000) {
			plugin.Progress(ctx, i+1, 1000)
		}
		return nil, nil
	}),
	function("print", func(_ context.Context, _ *counter, in []byte) ([]byte, error) {
		fmt.Printf("printed %q\n", in)
		rest, err := io.ReadAll(os.Stdin)
		return rest, err
	}),
	function("copy", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		n, err := io.Copy(plugin.Output(ctx), plugin.Input(ctx))
		return strconv.AppendInt(nil, n, 10), err
	}, "stream", "both"),
	function("sum", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		n, err := io.Copy(io.Discard, plugin.Input(ctx))
		return strconv.AppendInt(nil, n+int64(len(in)), 10), err
	}, "stream", "in"),
	function("pieces", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
		n, err := strconv.Atoi(string(in))
		if err != nil {
			n = 1000
		}
		out := plugin.Output(ctx)
		for i := range n {
			if _, err := fmt.Fprintf(out, "piece %d\n", i); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}, "stream", "out"),
}

var harmful = []plugin.Function{
	function("panics", func(context.Context, *counter, []byte) ([]byte, error) { panic("at the disco") }),
	function("goexit", func(context.Context, *counter, []byte) ([]byte, error) {
		runtime.Goexit()
		return nil, nil
	}),
	function("hangs", func(context.Context, *counter, []byte) ([]byte, error) { select {} }),
}

func main() {
	threads := "concurrent"
	for _, t := range []string{"serial", "pinned"} {
		if slices.Contains(os.Args, t) {
			threads = t
		}
	}
	all := functions
	if slices.Contains(os.Args, "hostile") {
		all = slices.Concat(functions, harmful)
	}
	sidecar.Main(plugin.New(plugin.Definition{
		Name: "everything", Version: "1.0.0", Description: "It uses all that a sidecar has.", Threads: threads, Keys: map[string]string{"state": "count", "license": "MIT"},
		Config:    `{"type":"object","properties":{"greeting":{"type":"string"}}}`,
		Functions: all,
		Hooks: []plugin.Function{
			function("around", func(ctx context.Context, _ *counter, in []byte) ([]byte, error) {
				out, err := plugin.Next(ctx, in)
				return append([]byte("around "), out...), err
			}, "wrap", "yes"),
			function("passes", func(context.Context, *counter, []byte) ([]byte, error) { return nil, plugin.Pass }),
		},
		Imports:   []plugin.Import{{Name: "lookup", Keys: map[string]string{"doc": "Looks something up."}}},
		Wants:     []plugin.Import{{Name: "extra"}},
		Start:     start,
		Configure: configure,
		Stop: func(_ context.Context, state any) error {
			c := state.(*counter)
			c.between.Wait()
			if path := os.Getenv("EVERYTHING_STOPPED"); path != "" {
				return os.WriteFile(path, []byte("stopped"), 0o666)
			}
			return nil
		},
		Save: func(_ context.Context, state any) ([]byte, error) {
			return strconv.AppendInt(nil, int64(state.(*counter).add(0)), 10), nil
		},
		Resume: func(_ context.Context, state any, saved []byte) error {
			n, err := strconv.Atoi(string(saved))
			if err != nil {
				return fmt.Errorf("the state is no number: %w", plugin.Invalid)
			}
			state.(*counter).add(n)
			return nil
		},
	}))
}
