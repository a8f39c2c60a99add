package loader_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
)

// quickHere says that this build has the quick crossing; everywhere else all of these tests see ordinary calls.
var quickHere = runtime.GOOS == "linux" && runtime.GOARCH == "amd64" && cross.Direct && !raceDetector &&
	(strings.HasPrefix(runtime.Version(), "go1.26") || strings.HasPrefix(runtime.Version(), "go1.27"))

// needQuick skips a test that has nothing to look at where all calls are ordinary.
func needQuick(t testing.TB) {
	t.Helper()
	if !quickHere {
		t.Skip("this build has no quick crossing")
	}
}

// Both have to say so, the function and the host; in workers, on an instance's own thread and in the portable build calls
// are ordinary, without an error.
func TestQuickIsWhereBothSaySo(t *testing.T) {
	path := fixture.C(t, "quick")
	bothWays(t, func(t *testing.T, w way) {
		here := quickHere && !w.isolated
		p := w.open(t, path, loader.WithQuick(), loader.WithQuick())
		assert.Equal(t, here, function(t, p, "echo").Quick())
		assert.False(t, function(t, p, "plain").Quick(), "it does not say so")
		hook, err := p.Hook("echo")
		require.NoError(t, err)
		assert.Equal(t, here, hook.Quick())
		session, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		f, err := session.Func("echo")
		require.NoError(t, err)
		assert.Equal(t, here, f.Quick(), "in a session")
		for _, f := range []*loader.Func{hook, f, function(t, p, "echo"), function(t, p, "plain")} {
			out, err := f.Call(ctx, []byte("in"))
			require.NoError(t, err)
			assert.Equal(t, "in", string(out))
		}
		require.NoError(t, session.Close())

		assert.False(t, function(t, w.open(t, path), "echo").Quick(), "the host does not say so")
		p = w.open(t, fixture.C(t, "quick_pinned"), loader.WithQuick())
		assert.False(t, function(t, p, "echo").Quick(), "it has a thread of its own")
		assert.Equal(t, "in", call(t, p, "echo", "in"))
		p = w.open(t, fixture.C(t, "quick_serial"), loader.WithQuick())
		assert.Equal(t, here, function(t, p, "echo").Quick())
		assert.Equal(t, "in", call(t, p, "echo", "in"))
	})
}

// What comes of a quick call is what comes of an ordinary one: outputs in rooms of all sizes, messages, the plug-in's own
// memory, broken rules, an instance that panics, a context that has ended or is nil, and a plug-in that is closed.
func TestQuickPromises(t *testing.T) {
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("no more"))
	living, cancel2 := context.WithCancel(context.WithValue(ctx, deedKey{}, "x"))
	defer cancel2()
	for _, name := range []string{"quick", "quick_serial"} {
		quick, ordinary := open(t, fixture.C(t, name), loader.WithQuick(), loader.WithCallTimeout(time.Minute)), open(t, fixture.C(t, name))
		require.Equal(t, quickHere, function(t, quick, "echo").Quick())
		both := func(fn, in string, dst []byte, ctx context.Context) {
			t.Helper()
			what := fmt.Sprintf("%s with %d bytes in a room of %d", fn, len(in), cap(dst)-len(dst))
			q, o := function(t, quick, fn), function(t, ordinary, fn)
			want, wantErr := o.Append(ctx, append(make([]byte, 0, cap(dst)), dst...), []byte(in))
			for range 70 { // one of them is timed
				got, err := q.Append(ctx, dst[:len(dst):cap(dst)], []byte(in))
				require.Equal(t, string(want), string(got), what)
				require.Equal(t, wantErr, err, what)
			}
		}
		for _, n := range []int{0, 1, 64, 4 << 10, 100_000} { // the longest takes too long for a quick call here and there
			in := strings.Repeat("x", n)
			for _, room := range []int{0, 1, 63, 64, 5 << 10, 100_000} {
				for _, fn := range []string{"echo", "own"} {
					both(fn, in, append(make([]byte, 0, room+3), "has"...), ctx)
					both(fn, in, make([]byte, 0, room), living)
				}
			}
			both("stack", in, nil, ctx)
		}
		for _, status := range []string{"0", "1", "3", "9", "10", "999", "1000", "2147483647", "-1", "-2147483648", "5", "0"} { // 5 is a panic
			both("status", status, nil, ctx)
			both("status", status, make([]byte, 0, 64), living)
		}
		both("out_len", "", make([]byte, 0, 8), ctx)
		for _, ctx := range []context.Context{nil, ended} {
			both("echo", "in", make([]byte, 0, 64), ctx)
		}
		out, err := function(t, quick, "frame").Call(living, nil)
		require.NoError(t, err)
		if quickHere {
			assert.Equal(t, "--hs", string(out), "no cancellation and no progress")
		}
		require.NoError(t, quick.Close())
		require.NoError(t, ordinary.Close())
		_, err = function(t, quick, "echo").Call(ctx, nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
	}
}

// A quick call allocates nothing, as an ordinary one.
func TestQuickAllocatesNothing(t *testing.T) {
	needQuick(t)
	f := function(t, open(t, fixture.C(t, "quick"), loader.WithQuick()), "echo")
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	living, cancel := context.WithCancel(ctx)
	defer cancel()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		for _, ctx := range []context.Context{ctx, living} {
			if _, err := f.Append(ctx, dst, in); err != nil {
				t.Error(err)
			}
		}
	}))
}

// Every host service refuses what comes from a quick call, whatever frame it has and wherever the table comes from; then the
// function is called in the ordinary way, in which the services serve, and the log says why.
func TestQuickGuard(t *testing.T) {
	needQuick(t)
	for _, fn := range []string{"uses", "uses_kept"} {
		log, said := logger()
		asked := 0
		p := open(t, fixture.C(t, "quick"), loader.WithQuick(), loader.WithLogger(log), loader.WithHostFunc("host",
			func(context.Context, []byte) ([]byte, error) { asked++; return nil, nil }))
		f := function(t, p, fn)
		require.True(t, f.Quick())
		out, err := f.Call(ctx, nil)
		require.NoError(t, err)
		assert.Equal(t, "777777777", string(out), fn)
		assert.False(t, f.Quick(), fn)
		require.Zero(t, asked)
		if lines := said.all(); assert.Len(t, lines, 1) {
			assert.Contains(t, lines[0], fn+" says quick=yes, and does not keep rule R34: it used a host service, which was refused")
			assert.Contains(t, lines[0], "level=WARN")
		}
		out, err = f.Call(ctx, nil)
		require.NoError(t, err)
		assert.Equal(t, byte('0'), out[0], "the service serves")
		assert.Equal(t, 1, asked)
		assert.Len(t, said.all(), 3, "two log lines of its own now, and none more of the loader's")
	}
}

// A function that takes longer than it says is called in the ordinary way soon; one that does so once is not.
func TestQuickDemotion(t *testing.T) {
	needQuick(t)
	log, said := logger()
	p := open(t, fixture.C(t, "quick"), loader.WithQuick(), loader.WithLogger(log))
	f := function(t, p, "slow")
	calls := 0
	for ; f.Quick(); calls++ {
		_, err := f.Append(ctx, nil, nil)
		require.NoError(t, err)
		require.Less(t, calls, 10, "it is still taken for a quick one")
	}
	assert.Greater(t, calls, 1, "a single long call is no proof")
	if lines := said.all(); assert.Len(t, lines, 1) {
		assert.Regexp(t, `slow says quick=yes, and does not keep rule R34: calls of it took longer than 20µs, the last one [0-9.]+m?s; its calls are ordinary`,
			lines[0])
	}
	_, err := f.Call(ctx, nil)
	require.NoError(t, err)
	assert.True(t, function(t, p, "echo").Quick(), "others are as they were")
	assert.Len(t, said.all(), 1)
}

// The kill switch, for a host whose users cannot change its code.
func TestQuickKillSwitch(t *testing.T) {
	if os.Getenv("FERRULE_NOQUICK") == "" {
		child := exec.Command(os.Args[0], "-test.run", "^TestQuickKillSwitch$", "-test.v", "-test.count=1")
		child.Env = append(os.Environ(), "FERRULE_NOQUICK=1")
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestQuickKillSwitch")
		return
	}
	p := open(t, fixture.C(t, "quick"), loader.WithQuick())
	assert.False(t, function(t, p, "echo").Quick())
	assert.Equal(t, "in", call(t, p, "echo", "in"))
}

// A quick function that faults ends the process as any does, with a trace of the Go code that led to it; one that uses up its
// stack ends it with the signal, and where that came.
func TestQuickCrash(t *testing.T) {
	needQuick(t)
	if fn := os.Getenv("FERRULE_TEST_CRASH"); fn != "" {
		callsWhatCrashes(function(t, open(t, fixture.C(t, "quick"), loader.WithQuick()), fn))
		return
	}
	for _, fn := range []string{"faults", "overflows"} {
		child := exec.Command(os.Args[0], "-test.run", "^TestQuickCrash$", "-test.count=1")
		child.Env = append(os.Environ(), "FERRULE_TEST_CRASH="+fn)
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", out)
		text := string(out)
		assert.Regexp(t, `SIGSEGV: segmentation violation\nPC=0x[0-9a-f]+ m=\d+ sigcode=\d+ addr=0x`, text, fn)
		if fn == "overflows" {
			continue // the runtime shows the words around the stack pointer first, and finds the guard page there
		}
		assert.Contains(t, text, "cross.quickFunction(", fn)
		assert.Contains(t, text, "loader_test.callsWhatCrashes(", fn)
		assert.Less(t, strings.Index(text, "cross.quickFunction("), strings.Index(text, "loader_test.callsWhatCrashes("), fn)
	}
}

//go:noinline
func callsWhatCrashes(f *loader.Func) { _, _ = f.Call(ctx, nil) }

// All that a process may do around quick calls, at the same time: stacks that grow and move, collections without a pause,
// signals to every thread, the profiler, goroutines that end or panic right after a call and host functions that do, threads
// that are locked, calls by both ways with the same slots, sessions and plug-ins that come and go. Each call gets what is its
// own. FERRULE_STRESS is how long it goes on, such as 1h.
func TestQuickTorture(t *testing.T) {
	long := 300 * time.Millisecond
	if text := os.Getenv("FERRULE_STRESS"); text != "" {
		var err error
		long, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	runtime.SetCPUProfileRate(0)
	require.NoError(t, pprof.StartCPUProfile(io.Discard))
	defer pprof.StopCPUProfile()
	stop := floodWithSignals(t)
	defer stop()
	for _, name := range []string{"quick", "quick_serial"} {
		t.Run(name, func(t *testing.T) {
			var current atomic.Pointer[loader.Plugin]
			inside := loader.WithHostFunc("host", func(ctx context.Context, in []byte) ([]byte, error) {
				d := ctx.Value(deedKey{}).(*deed)
				quickly(t, current.Load(), ctx, d.deep, d.deep) // on the stack that the C frames of an ordinary call lie on
				return d.do(ctx, nil)
			})
			quiet := loader.WithLogger(slog.New(slog.DiscardHandler))
			fresh := func() { current.Store(open(t, fixture.C(t, name), loader.WithQuick(), loader.WithInstances(4), quiet)) }
			fresh()
			around := open(t, fixture.C(t, "foreign_concurrent"), inside, quiet)
			var calls, quick atomic.Uint64
			until := time.Now().Add(long / 2)
			for round := 0; round < 2 || time.Now().Before(until) && !t.Failed(); round++ {
				var all sync.WaitGroup
				p := current.Load()
				for g := range 16 {
					all.Go(func() {
						for i := range 20 {
							if function(t, p, "echo").Quick() {
								quick.Add(1)
							}
							<-on(func() { tortureQuick(t, p, around, g, i+20*round) })
							calls.Add(1)
						}
					})
				}
				all.Wait()
				if quickHere && !function(t, p, "echo").Quick() { // signals and collections take their time, in a call, too
					fresh()
				}
			}
			assert.Equal(t, quickHere, quick.Load() > 0)
			t.Logf("%d rounds, %d of them quick", calls.Load(), quick.Load())
		})
	}
}

// tortureQuick is a round of TestQuickTorture, on a goroutine of its own with a small stack.
func tortureQuick(t *testing.T, p, around *loader.Plugin, g, i int) {
	depth := (g*7 + i) % 64
	switch (g + i) % 10 {
	case 0: // within a host function, which then does something
		d := &deed{what: []string{"returns", "panics", "exits", "collects"}[i/10%4], text: "x", deep: depth}
		_, _ = around.Call(context.WithValue(ctx, deedKey{}, d), []string{"ask", "ask_on_thread"}[i/10%2], nil)
	case 1:
		defer func() { _ = recover() }()
		defer quickly(t, p, ctx, g, i)
		quickly(t, p, ctx, depth, i)
		panic(i)
	case 2:
		defer quickly(t, p, ctx, g, i)
		quickly(t, p, ctx, depth, i)
		runtime.Goexit()
	case 3:
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		quickly(t, p, ctx, depth, i)
	case 4:
		living, cancel := context.WithCancel(ctx)
		defer cancel()
		quickly(t, p, living, depth, i)
	case 5:
		if s, err := p.NewSession(ctx, nil); assert.NoError(t, err) {
			if f, err := s.Func("echo"); assert.NoError(t, err) {
				out, err := f.Call(ctx, []byte{byte(i)})
				assert.NoError(t, err)
				assert.Equal(t, []byte{byte(i)}, out)
			}
			assert.NoError(t, s.Close())
		}
	case 6: // closed while others call it
		other, err := loader.Open(p.Library().Path, loader.WithQuick(), loader.WithLogger(slog.New(slog.DiscardHandler)))
		if assert.NoError(t, err) {
			f, done := function(t, other, "echo"), make(chan error)
			go func() {
				for {
					if _, err := f.Append(ctx, make([]byte, 0, 8), []byte("x")); err != nil {
						done <- err
						return
					}
				}
			}()
			runtime.Gosched()
			assert.NoError(t, other.Close())
			assert.ErrorIs(t, <-done, loader.ErrClosed)
		}
	default:
		quickly(t, p, ctx, depth, i)
	}
}

// quickly makes some quick calls, and an ordinary one between them, n KiB deeper on the stack, with what i makes.
func quickly(t *testing.T, p *loader.Plugin, ctx context.Context, n, i int) {
	if n > 0 {
		var fill [1 << 10]byte
		fill[n%len(fill)] = byte(n)
		quickly(t, p, ctx, n-1, i)
		runtime.KeepAlive(&fill)
		return
	}
	in := []byte(fmt.Sprintf("%0*d", i%200, i))
	for _, fn := range []string{"echo", "own", "plain", "echo", "echo", "echo", "echo", "echo"} {
		f, err := p.Func(fn)
		if err != nil {
			t.Error(err)
			return
		}
		out, err := f.Append(ctx, make([]byte, 0, 250), in)
		if err != nil || string(out) != string(in) {
			t.Errorf("%s returned %q and %v, and not %q", fn, out, err, in)
		}
	}
}
