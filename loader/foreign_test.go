package loader_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// foreign is a plug-in of the fixtures foreign_…, with a host function and a log handler that do what a test says.
type foreign struct {
	*loader.Plugin
	threads string
	host    atomic.Pointer[func(context.Context)]
	enabled atomic.Pointer[func(context.Context)]
	handle  atomic.Pointer[func(context.Context)]
}

func perform(at *atomic.Pointer[func(context.Context)], ctx context.Context) {
	if do := at.Load(); do != nil {
		(*do)(ctx)
	}
}

func (f *foreign) Enabled(ctx context.Context, _ slog.Level) bool {
	perform(&f.enabled, ctx)
	return true
}

func (f *foreign) Handle(ctx context.Context, _ slog.Record) error {
	perform(&f.handle, ctx)
	return nil
}

func (f *foreign) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f *foreign) WithGroup(string) slog.Handler      { return f }

// openForeign opens a plug-in without the end of the test closing it.
func openForeign(t *testing.T, w way, threads string, opts ...loader.Option) *foreign {
	t.Helper()
	f := &foreign{threads: threads}
	opts = append(opts, loader.WithLogger(slog.New(f)), loader.WithHostFunc("host", func(ctx context.Context, _ []byte) ([]byte, error) {
		perform(&f.host, ctx)
		return nil, nil
	}))
	p, err := w.try(fixture.C(t, "foreign_"+threads), opts...)
	require.NoError(t, err)
	f.Plugin = p
	return f
}

// everyForeign runs a test on each engine with each word that a plug-in may declare.
func everyForeign(t *testing.T, test func(t *testing.T, w way, f *foreign)) {
	allWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent", "pinned"} {
			t.Run(threads, func(t *testing.T) {
				f := openForeign(t, w, threads)
				test(t, w, f)
				f.sound(t)
				within(t, func() { assert.NoError(t, f.Close()) })
			})
		}
	})
}

// sound checks that calls go on as if nothing had been.
func (f *foreign) sound(t *testing.T) {
	t.Helper()
	f.host.Store(nil)
	f.enabled.Store(nil)
	f.handle.Store(nil)
	within(t, func() {
		for _, fn := range []string{"ok", "ask", "ask_on_thread", "log", "log_on_thread", "ok"} {
			_, err := f.Call(ctx, fn, nil)
			assert.NoError(t, err, fn)
		}
	})
}

// on runs fn on a goroutine of its own, which may end. The channel is closed then.
func on(fn func()) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() { _ = recover() }()
		fn()
	}()
	return over
}

// What a host function or a log handler may do to the goroutine that it is on, at each place that the plug-in calls it from.
func TestForeignHostCode(t *testing.T) {
	everyForeign(t, func(t *testing.T, w way, f *foreign) {
		places := []struct {
			name string
			fns  []string
			at   *atomic.Pointer[func(context.Context)]
		}{
			{"host function", []string{"ask", "ask_on_thread"}, &f.host},
			{"Enabled", []string{"log", "log_on_thread"}, &f.enabled},
			{"Handle", []string{"log", "log_on_thread"}, &f.handle},
		}
		for _, place := range places {
			for _, fn := range place.fns {
				entries := map[string]func(ctx context.Context) error{
					"Call": func(ctx context.Context) error { _, err := f.Call(ctx, fn, nil); return err },
					"Batch": func(ctx context.Context) error {
						function, err := f.Func(fn)
						require.NoError(t, err)
						var b loader.Batch
						if err := function.Batch(ctx, [][]byte{nil}, &b); err != nil {
							return err
						}
						return b.Err()
					},
					"View": func(ctx context.Context) error {
						function, err := f.Func(fn)
						require.NoError(t, err)
						v, err := function.View(ctx, nil)
						if err == nil {
							v.Release()
						}
						return err
					},
				}
				for entry, call := range entries {
					name := place.name + "/" + fn + "/" + entry
					do := func(what func(context.Context)) { place.at.Store(&what) }

					do(func(context.Context) { panic("on purpose") })
					within(t, func() {
						err := call(ctx)
						if place.at == &f.host {
							assert.ErrorIs(t, err, loader.ErrFailed, name)
							if entry != "View" { // which gives the plug-in no room for the message
								assert.ErrorContains(t, err, "on purpose", name)
							}
						} else {
							assert.NoError(t, err, name)
						}
					})
					f.sound(t)

					do(func(context.Context) { runtime.Goexit() })
					var err error
					returned := false
					ended := on(func() { err = call(ctx); returned = true })
					within(t, func() { <-ended })
					if returned { // the host's code was not on the caller's goroutine
						assert.ErrorIs(t, err, loader.ErrPanic, name)
						assert.ErrorContains(t, err, "ended its goroutine", name)
					}
					f.sound(t)

					inside, leave := make(chan bool), make(chan bool)
					do(func(context.Context) { inside <- true; <-leave })
					blocked := on(func() { assert.NoError(t, call(ctx), name) })
					<-inside
					do(func(context.Context) {})
					soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
					if f.threads == "concurrent" {
						soon = ctx
					}
					within(t, func() {
						_, err := f.Call(soon, "ok", nil)
						if f.threads == "concurrent" {
							assert.NoError(t, err, name)
						} else {
							assert.ErrorIs(t, err, context.DeadlineExceeded, name)
						}
					})
					cancel()
					close(leave)
					within(t, func() { <-blocked })
					f.sound(t)

					results := make(chan error, 1)
					do(func(ctx context.Context) {
						place.at.Store(nil)
						_, err := f.Call(ctx, "ok", nil)
						results <- err
					})
					within(t, func() {
						assert.NoError(t, call(ctx), name)
						if err := <-results; f.threads == "concurrent" {
							assert.NoError(t, err, name)
						} else {
							assert.ErrorIs(t, err, loader.ErrReentrant, name)
						}
					})
					f.sound(t)
				}
			}
		}
	})
}

// foreignContext is a context whose methods do what a test says before they answer.
type foreignContext struct {
	context.Context
	done, err, value func()
}

func (c *foreignContext) Done() <-chan struct{} {
	if c.done != nil {
		c.done()
	}
	return c.Context.Done()
}

func (c *foreignContext) Err() error {
	if c.err != nil {
		c.err()
	}
	return c.Context.Err()
}

func (c *foreignContext) Value(key any) any {
	if c.value != nil {
		c.value()
	}
	return c.Context.Value(key)
}

// What a context may do in each of its methods, in each way to make a call: nothing is taken for the call by then.
func TestForeignContexts(t *testing.T) {
	everyForeign(t, func(t *testing.T, w way, f *foreign) {
		function, err := f.Func("ok")
		require.NoError(t, err)
		entries := map[string]func(ctx context.Context) error{
			"Call":   func(ctx context.Context) error { _, err := f.Call(ctx, "ok", nil); return err },
			"Append": func(ctx context.Context) error { _, err := function.Append(ctx, make([]byte, 0, 8), nil); return err },
			"Batch":  func(ctx context.Context) error { return function.Batch(ctx, [][]byte{nil}, new(loader.Batch)) },
			"View": func(ctx context.Context) error {
				v, err := function.View(ctx, nil)
				if err == nil {
					v.Release()
				}
				return err
			},
			"CallJSON": func(ctx context.Context) error {
				_, err := loader.CallJSON[int, int](ctx, f.Plugin, "ask", 1)
				return err
			},
		}
		for entry, call := range entries {
			var none context.Context
			err := call(none)
			assert.ErrorIs(t, err, loader.ErrNilContext, entry)
			var usage *loader.UsageError
			assert.ErrorAs(t, err, &usage, entry)
			for _, cancellable := range []bool{false, true} {
				for _, method := range []string{"Done", "Err", "Value"} {
					made := func(do func()) context.Context {
						c := &foreignContext{Context: ctx}
						if cancellable {
							inner, cancel := context.WithCancel(ctx)
							t.Cleanup(cancel)
							c.Context = inner
						}
						switch method {
						case "Done":
							c.done = do
						case "Err":
							c.err = do
						case "Value":
							c.value = do
						}
						return c
					}
					within(t, func() { <-on(func() { _ = call(made(func() { panic("on purpose") })) }) })
					f.sound(t)
					within(t, func() { <-on(func() { _ = call(made(runtime.Goexit)) }) })
					f.sound(t)
					leave := make(chan bool)
					blocked := on(func() { _ = call(made(func() { <-leave })) })
					f.sound(t) // whether it is there by now, or not yet
					close(leave)
					within(t, func() { <-blocked })
					within(t, func() {
						<-on(func() { _ = call(made(func() { _, _ = f.Call(ctx, "ok", nil) })) })
					})
					f.sound(t)
				}
			}
		}
	})
}

// A context whose Err panics later, while the call runs: what watches contexts does not ask them.
func TestForeignContextWhileItRuns(t *testing.T) {
	everyForeign(t, func(t *testing.T, w way, f *foreign) {
		inner, cancel := context.WithCancel(ctx)
		var running atomic.Bool
		c := &foreignContext{Context: inner, err: func() {
			if running.Load() {
				panic("on purpose")
			}
		}}
		entered, leave := make(chan bool), make(chan bool)
		do := func(context.Context) { entered <- true; <-leave }
		f.host.Store(&do)
		over := on(func() { _, _ = f.Call(c, "ask", nil) })
		<-entered
		running.Store(true)
		cancel()
		time.Sleep(5 * time.Millisecond) // the watcher looks
		close(leave)
		within(t, func() { <-over })
	})
}

// Why a context has ended is asked when nothing is held any more: while it does not say, the plug-in can be closed, and others
// are served.
func TestForeignCause(t *testing.T) {
	p, err := loader.Open(fixture.C(t, "fault_infinite_loop"), isolate.InWorker(isolate.WithEnv(workerEnv...), isolate.WithGrace(20*time.Millisecond)))
	require.NoError(t, err)
	f, err := p.Func("fault")
	require.NoError(t, err)
	entries := map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error { _, err := f.Append(ctx, nil, nil); return err },
		"View":   func(ctx context.Context) error { _, err := f.View(ctx, nil); return err },
		"Batch":  func(ctx context.Context) error { return f.Batch(ctx, [][]byte{nil}, new(loader.Batch)) },
	}
	asked, leave := make(chan bool, len(entries)), make(chan bool)
	over := make(chan error, len(entries))
	for _, call := range entries {
		inner, cancel := context.WithCancel(ctx)
		var ended atomic.Bool
		c := &foreignContext{Context: inner}
		c.value = func() {
			if ended.Load() {
				c.value = nil // it is asked by one goroutine
				asked <- true
				<-leave
			}
		}
		time.AfterFunc(50*time.Millisecond, func() { ended.Store(true); cancel() })
		go func() { over <- call(c) }()
		within(t, func() { <-asked })
	}
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	within(t, func() { assert.NoError(t, p.Close()) })
	close(leave)
	for range entries {
		within(t, func() { assert.ErrorIs(t, <-over, context.Canceled) })
	}
}

// A plug-in that imports nothing can still write lines. It is not known which goroutine its calls are on, so the handler is on
// another one.
func TestForeignHandlerOfAPluginWithoutImports(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		f := new(foreign)
		p, err := w.try(fixture.C(t, "check_log_not_utf8"), loader.WithLogger(slog.New(f)))
		require.NoError(t, err)
		for _, at := range []*atomic.Pointer[func(context.Context)]{&f.enabled, &f.handle} {
			exit := func(context.Context) { runtime.Goexit() }
			at.Store(&exit)
			returned := false
			ended := on(func() { _, err = p.Call(ctx, "log", nil); returned = true })
			within(t, func() { <-ended })
			assert.True(t, returned)
			assert.ErrorIs(t, err, loader.ErrPanic)
			fail := func(context.Context) { panic("on purpose") }
			at.Store(&fail)
			within(t, func() {
				_, err = p.Call(ctx, "log", nil)
				assert.NoError(t, err)
			})
			at.Store(nil)
		}
		within(t, func() {
			_, err = p.Call(ctx, "log", nil)
			assert.NoError(t, err)
			assert.NoError(t, p.Close())
		})
	})
}

// noAttrs is a log handler with which a logger cannot be made anew.
type noAttrs struct{ slog.Handler }

func (noAttrs) WithAttrs([]slog.Attr) slog.Handler { panic("WithAttrs is called") }
func (noAttrs) WithGroup(string) slog.Handler      { panic("WithGroup is called") }

// Opening makes no logger: that would run the handler's methods while something is opened.
func TestForeignHandlerAtOpen(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var out bytes.Buffer
		handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		p := w.open(t, fixture.C(t, "log_without_imports"), loader.WithLogger(slog.New(noAttrs{handler})))
		_, err := p.Call(ctx, "log", nil)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		assert.Regexp(t, `^level=\w+ msg=.* plugin=`+p.Info().Manifest.Name+"\n", out.String())
	})
}

// The context of OpenContext is asked once, by its caller's goroutine, before anything begins; a panic is the caller's.
func TestForeignContextAtOpen(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		path := fixture.C(t, "echo")
		p, err := w.openContext(&foreignContext{Context: inner, value: func() { panic("on purpose") }}, path)
		require.NoError(t, err, "it has no use for its values")
		require.NoError(t, p.Close())
		var asked atomic.Int32
		p, err = w.openContext(&foreignContext{Context: inner, err: func() {
			if asked.Add(1) > 1 {
				panic("on purpose")
			}
		}}, path)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		for _, c := range []*foreignContext{{Context: inner, done: func() { panic("on purpose") }}, {Context: inner, err: func() { panic("on purpose") }}} {
			assert.PanicsWithValue(t, "on purpose", func() { _, _ = w.openContext(c, path) })
		}
	})
}

// ferrule_start and ferrule_stop call the host, too: at Open, at renewal and at Close.
func TestForeignHostCodeAtStart(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "concurrent", "pinned"} {
			for name, do := range map[string]func(context.Context){
				"panics":   func(context.Context) { panic("on purpose") },
				"is ended": func(context.Context) { runtime.Goexit() },
			} {
				t.Run(threads+"/"+name, func(t *testing.T) {
					within(t, func() {
						_, err := w.try(fixture.C(t, "foreign_"+threads), loader.WithConfig([]byte("ask")),
							loader.WithLogger(slog.New(slog.DiscardHandler)),
							loader.WithHostFunc("host", func(ctx context.Context, _ []byte) ([]byte, error) { do(ctx); return nil, nil }))
						assert.ErrorIs(t, err, loader.ErrStart)
					})
					f := openForeign(t, w, threads, loader.WithConfig([]byte("ask")))
					_, err := f.Call(ctx, "fails", nil)
					require.ErrorIs(t, err, loader.ErrPanic)
					f.host.Store(&do)
					returned := false
					over := on(func() { _, err = f.Call(ctx, "ok", nil); returned = true })
					within(t, func() { <-over })
					if returned || !w.isolated || name != "is ended" { // isolated, it is the caller's goroutine that is ended
						assert.ErrorIs(t, err, loader.ErrStart, "the instance could not be started anew")
					}
					f.sound(t)
					within(t, func() { assert.NoError(t, f.Close()) })
				})
			}
		}
	})
}
