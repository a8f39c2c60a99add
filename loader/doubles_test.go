package loader_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// inGo is the way in which a plug-in is one in Go: the double of a fixture.
var inGo = way{inGo: true}

// allWays is bothWays, and the same with doubles in Go. It is for the fixtures foreign_….
func allWays(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	bothWays(t, test)
	t.Run("in Go", func(t *testing.T) { test(t, inGo) })
}

// double returns the double of the fixture that is at the path.
func double(path string) *builtin.Plugin {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	if threads, ok := strings.CutPrefix(name, "foreign_"); ok {
		return foreignDouble(threads)
	}
	if strings.HasPrefix(name, "limits") {
		return limitsDouble(name)
	}
	p := servicesDouble()
	switch name {
	case "echo":
		return &builtin.Plugin{Name: "echo", Version: "1", Threads: abi.Concurrent}
	case "state":
		return stateDouble()
	case "services":
		p.Threads = abi.Concurrent
	case "services_other_state":
		p.Threads, p.StateFormat = abi.Concurrent, "count-2"
	case "services_refuses_state":
		p.Threads = abi.Concurrent
		p.Resume = func(context.Context, any, []byte) error {
			return fmt.Errorf("from another world: %w", loader.ErrInvalid)
		}
	case "services_serial":
	case "services_pinned":
		p.Threads = abi.Pinned
	case "services_replaced":
		p.Threads, p.Configure = abi.Concurrent, nil
	default:
		panic("no double of " + path)
	}
	return p
}

var aliveDoubles, lastDouble atomic.Int64

// stateDouble is the double of the fixture state.
func stateDouble() *builtin.Plugin {
	type counter struct{ n, number int64 }
	say := func(fn func(c *counter) int64) builtin.Func {
		return func(ctx context.Context, _ []byte) ([]byte, error) {
			return fmt.Append(nil, fn(builtin.State(ctx).(*counter))), nil
		}
	}
	return &builtin.Plugin{Name: "state", Version: "1",
		Start: func(_ context.Context, config []byte) (any, error) {
			if len(config) >= 32 {
				return nil, fmt.Errorf("the configuration is long: %w", loader.ErrInvalid)
			}
			n, _ := strconv.ParseInt(string(config), 10, 64)
			aliveDoubles.Add(1)
			return &counter{n, lastDouble.Add(1)}, nil
		},
		Stop: func(any) { aliveDoubles.Add(-1) },
		Funcs: []builtin.Function{{Name: "next", Call: say(func(c *counter) int64 { c.n++; return c.n })},
			{Name: "number", Call: say(func(c *counter) int64 { return c.number })},
			{Name: "alive", Call: say(func(*counter) int64 { return aliveDoubles.Load() })},
			{Name: "panic", Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.ErrPanic }}}}
}

// servicesDouble is the double of the fixtures services…, but for rooms, which Go needs none of.
func servicesDouble() *builtin.Plugin {
	type instance struct {
		ended  chan struct{} // of the goroutine between calls; nil where there is none
		config string
		count  atomic.Int64
	}
	ask := func(name string) builtin.Func {
		return func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, name, in) }
	}
	pass := func(_ context.Context, in []byte) ([]byte, error) {
		if len(in) > 0 {
			return nil, fmt.Errorf("not today: %w", loader.ErrPass)
		}
		return nil, loader.ErrPass
	}
	status := func(err error) int {
		if err == nil || err == io.EOF {
			return 0
		}
		s := loader.Status(-1)
		errors.As(err, &s)
		return int(s)
	}
	statuses := func(reads int) builtin.Func {
		return func(ctx context.Context, _ []byte) ([]byte, error) {
			b := make([]byte, 64<<10)
			var all []any
			for range reads {
				_, err := builtin.Input(ctx).Read(b)
				all = append(all, status(err))
			}
			if reads == 1 {
				all = append(all, 0)
			}
			_, err := builtin.Output(ctx).Write([]byte("x"))
			return []byte(strings.TrimSpace(fmt.Sprintln(append(all, status(err))...))), nil
		}
	}
	next := func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Next(ctx, in) }
	var refusedOnce atomic.Bool // that an instance has refused the settings "once": then the next one does not start with them
	p := &builtin.Plugin{Name: "services", Version: "1.1.0", Imports: []string{"needed"}, Wants: []string{"upper", "again"}, ConfigSchema: "{}",
		Hooks: []builtin.Function{{Name: "answer", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}, {Name: "pass", Call: pass}, {Name: "around", Call: next, Keys: map[string]string{"wrap": "yes"}}}}
	for name, fn := range map[string]builtin.Func{
		"pass": pass, "upper": ask("upper"), "again": ask("again"), "next": next, "no_streams": statuses(1),
		"ordinals": func(context.Context, []byte) ([]byte, error) { return []byte("0 1 2"), nil },
		"info": func(ctx context.Context, in []byte) ([]byte, error) {
			out, err := builtin.Info(ctx, string(in))
			return []byte(out), err
		},
		"progress": func(ctx context.Context, _ []byte) ([]byte, error) {
			for i := uint64(1); i <= 5 && ctx.Err() == nil; i++ {
				builtin.Progress(ctx, 100*i, 500)
				time.Sleep(60 * time.Millisecond)
			}
			return []byte("watched"), nil
		},
		"background": func(ctx context.Context, _ []byte) ([]byte, error) {
			if _, err := builtin.Background(ctx); err != nil {
				return []byte("none"), nil
			}
			return []byte("a frame"), nil
		},
		"config": func(ctx context.Context, _ []byte) ([]byte, error) {
			return []byte(builtin.State(ctx).(*instance).config), nil
		},
		"add": func(ctx context.Context, _ []byte) ([]byte, error) {
			return fmt.Append(nil, builtin.State(ctx).(*instance).count.Add(1)), nil
		},
		"panic": func(context.Context, []byte) ([]byte, error) {
			return nil, fmt.Errorf("as it was told: %w", loader.ErrPanic)
		},
	} {
		p.Funcs = append(p.Funcs, builtin.Function{Name: name, Call: fn})
	}
	for name, f := range map[string]struct {
		has  abi.Stream
		call builtin.Func
	}{
		"sum": {abi.StreamIn, func(ctx context.Context, _ []byte) ([]byte, error) {
			sum, n, b := uint64(0), 0, make([]byte, 64<<10)
			for {
				got, err := builtin.Input(ctx).Read(b)
				for _, c := range b[:got] {
					sum += uint64(c)
				}
				n += got
				builtin.Progress(ctx, uint64(n), 0)
				if err == io.EOF {
					return fmt.Append(nil, sum, " ", n), nil
				}
				if err != nil {
					return nil, fmt.Errorf("the input broke off: %w", loader.Status(status(err)))
				}
			}
		}},
		"count": {abi.StreamOut, func(ctx context.Context, in []byte) ([]byte, error) {
			n, _ := strconv.Atoi(string(in))
			for i := range n {
				if _, err := fmt.Fprintln(builtin.Output(ctx), i); err != nil {
					return nil, fmt.Errorf("nobody takes it: %w", loader.Status(status(err)))
				}
			}
			return []byte("counted"), nil
		}},
		"swap": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			b := make([]byte, 64<<10)
			for {
				n, err := builtin.Input(ctx).Read(b)
				for i, c := range b[:n] {
					if c|0x20 >= 'a' && c|0x20 <= 'z' {
						b[i] ^= 0x20
					}
				}
				if _, wrong := builtin.Output(ctx).Write(b[:n]); wrong != nil {
					return nil, wrong
				}
				if err == io.EOF {
					return nil, nil
				} else if err != nil {
					return nil, err
				}
			}
		}},
		"pipe": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			_, err := io.Copy(builtin.Output(ctx), builtin.Input(ctx))
			return nil, err
		}},
		"first": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			b := make([]byte, 64<<10)
			n, err := builtin.Input(ctx).Read(b)
			if err != nil && err != io.EOF {
				return nil, err
			}
			_, err = builtin.Output(ctx).Write(b[:n])
			return nil, err
		}},
		"asks": {abi.StreamBoth, func(ctx context.Context, in []byte) ([]byte, error) {
			b := make([]byte, 64<<10)
			n, err := builtin.Input(ctx).Read(b)
			if err == nil {
				_, err = builtin.Output(ctx).Write(b[:n])
			}
			if err != nil {
				return nil, err
			}
			out, err := builtin.Import(ctx, "upper", in)
			if err == nil {
				_, err = io.Copy(builtin.Output(ctx), builtin.Input(ctx))
			}
			return out, err
		}},
		"for_ever": {abi.StreamOut, func(ctx context.Context, _ []byte) ([]byte, error) {
			for {
				if _, err := builtin.Output(ctx).Write(make([]byte, 1000)); err != nil {
					return nil, err
				}
			}
		}},
		"panics": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			b := make([]byte, 64<<10)
			n, _ := builtin.Input(ctx).Read(b)
			_, _ = builtin.Output(ctx).Write(b[:n])
			panic("half way")
		}},
		"ignores": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			_, _ = io.Copy(builtin.Output(ctx), builtin.Input(ctx))
			return []byte("all is well"), nil
		}},
		"statuses": {abi.StreamBoth, statuses(2)},
		"threads": {abi.StreamBoth, func(ctx context.Context, _ []byte) ([]byte, error) {
			var sum atomic.Uint64
			var all sync.WaitGroup
			failed := make(chan error, 4)
			for range 4 {
				all.Go(func() {
					for b := make([]byte, 64<<10); ; {
						n, err := builtin.Input(ctx).Read(b)
						for _, c := range b[:n] {
							sum.Add(uint64(c))
						}
						if err == io.EOF {
							return
						} else if err != nil {
							failed <- err
							return
						}
						_, _ = builtin.Output(ctx).Write([]byte("."))
					}
				})
			}
			all.Wait()
			select {
			case err := <-failed:
				return nil, err
			default:
				return fmt.Append(nil, sum.Load()), nil
			}
		}},
	} {
		p.Funcs = append(p.Funcs, builtin.Function{Name: name, Stream: f.has, Call: f.call})
	}
	p.Start = func(ctx context.Context, config []byte) (any, error) {
		self := &instance{config: string(config)}
		switch {
		case strings.HasPrefix(self.config, "fails"), self.config == "once" && refusedOnce.Swap(false):
			return nil, errors.New("as it was told")
		case strings.HasPrefix(self.config, "asks "):
			answer, err := builtin.Info(ctx, self.config[len("asks "):])
			if err != nil {
				return nil, err
			}
			self.config = answer
		case strings.HasPrefix(self.config, "between"):
			between, err := builtin.Background(ctx)
			if err != nil {
				return nil, err
			}
			if same, _ := builtin.Background(ctx); same != between {
				return nil, errors.New("another one")
			}
			self.ended = make(chan struct{})
			go func() {
				defer close(self.ended)
				if name, err := builtin.Info(between, "shop.name"); err == nil {
					builtin.Log(between, abi.LogInfo, name)
				}
				for n := 1; between.Err() == nil; n++ {
					if _, err := builtin.Import(between, "needed", fmt.Append(nil, "tick ", n)); errors.Is(err, loader.ErrMisuse) {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				builtin.Log(between, abi.LogInfo, "joins")
			}()
		}
		return self, nil
	}
	p.Configure = func(ctx context.Context, state any, config []byte) error {
		if number, ok := strings.CutPrefix(string(config), "not "); ok {
			if mine, _ := builtin.Info(ctx, "instance"); mine == number {
				return fmt.Errorf("not this one: %w", loader.ErrInvalid)
			}
		}
		if string(config) == "once" {
			refusedOnce.Store(true)
			return loader.ErrFailed
		}
		if string(config) == "refused" {
			return fmt.Errorf("as it was told: %w", loader.ErrInvalid)
		}
		state.(*instance).config = string(config)
		return nil
	}
	p.StateFormat = "count-1"
	p.Save = func(_ context.Context, state any) ([]byte, error) {
		return fmt.Append(nil, state.(*instance).count.Load()), nil
	}
	p.Resume = func(_ context.Context, state any, saved []byte) error {
		n, err := strconv.ParseInt(string(saved), 10, 64)
		state.(*instance).count.Store(n)
		return err
	}
	p.Stop = func(state any) {
		if ended := state.(*instance).ended; ended != nil {
			<-ended
		}
	}
	return p
}

// foreignDouble is the double of the fixture foreign_… for these threads.
func foreignDouble(threads string) *builtin.Plugin {
	p := &builtin.Plugin{Name: "foreign_" + threads, Version: "1.0.0", Imports: []string{"host"},
		Threads: map[string]abi.Threads{"serial": abi.Serial, "concurrent": abi.Concurrent, "pinned": abi.Pinned}[threads]}
	ask := func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "host", in) }
	say := func(ctx context.Context, _ []byte) ([]byte, error) {
		builtin.Log(ctx, abi.LogInfo, "line")
		return nil, nil
	}
	onThread := func(fn builtin.Func) builtin.Func {
		return func(ctx context.Context, in []byte) (out []byte, err error) {
			err = fmt.Errorf("a host function ended its goroutine: %w", loader.ErrPanic)
			<-on(func() { out, err = fn(ctx, in) })
			return out, err
		}
	}
	for name, fn := range map[string]builtin.Func{
		"ask": ask, "ask_on_thread": onThread(ask), "log": say, "log_on_thread": onThread(say),
		"ok":    func(context.Context, []byte) ([]byte, error) { return nil, nil },
		"fails": func(context.Context, []byte) ([]byte, error) { return nil, loader.ErrPanic },
		"ask_and_fail": func(ctx context.Context, in []byte) ([]byte, error) {
			_, _ = ask(ctx, in)
			return nil, loader.ErrPanic
		},
	} {
		p.Funcs = append(p.Funcs, builtin.Function{Name: name, Call: fn})
	}
	p.Start = func(ctx context.Context, config []byte) (any, error) {
		if len(config) > 0 && config[0] == 'a' {
			_, err := ask(ctx, config)
			return nil, err
		}
		return string(config), nil
	}
	p.Stop = func(state any) {
		if state == "stop" {
			panic("ferrule_stop fails")
		}
	}
	return p
}
