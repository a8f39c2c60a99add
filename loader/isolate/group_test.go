//go:build linux

package isolate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// The worker starts with the first plug-in and ends with the last one; two of one file are two plug-ins.
func TestGroup(t *testing.T) {
	g := isolate.NewGroup("kin")
	assert.Equal(t, "kin", g.Name())
	for range 2 {
		var pid string
		var plugins []*loader.Plugin
		for i, name := range []string{"fault_none", "fault_slow", "fault_none"} {
			p, err := loader.Open(fixture.C(t, name), isolate.InGroup(g))
			require.NoError(t, err)
			plugins = append(plugins, p)
			if i == 0 {
				pid = call(t, p, "pid", "")
			}
			assert.Equal(t, pid, call(t, p, "pid", ""))
			isolation, isolated := p.Isolation()
			assert.True(t, isolated)
			assert.Equal(t, pid, strconv.Itoa(isolation.PID))
		}
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n))
		require.NoError(t, err)
		assert.Equal(t, "ferrule-worker: kin\x00", string(arguments))
		for _, p := range plugins {
			assert.Equal(t, pid, call(t, p, "pid", ""), "those that are closed before are no reason to end")
			require.NoError(t, p.Close())
			_, err := p.Call(ctx, "pid", nil)
			assert.ErrorIs(t, err, loader.ErrClosed)
		}
		assertGone(t, pid)
	}
}

// A crash hits the group and says who did it, where that can be told; the group goes on.
func TestGroupCrash(t *testing.T) {
	for name, known := range map[string]bool{"fault_sigsegv": true, "fault_stack_overflow": true, "fault_abort": false, "fault_exit_code": false} {
		t.Run(name, func(t *testing.T) {
			known := known && os.Getenv(fixture.Emulated) == ""
			g := isolate.NewGroup("kin")
			begun := make(chan bool, 1)
			logger, lines := logger()
			idle := open(t, fixture.C(t, "echo"), isolate.InGroup(g), loader.WithLogger(logger))
			beside := open(t, fixture.C(t, "fault_infinite_loop"), isolate.InGroup(g), loader.WithLogger(whenBegun(func() { begun <- true })))
			p := open(t, fixture.C(t, name), isolate.InGroup(g))
			session, err := idle.NewSession(ctx, nil)
			require.NoError(t, err)
			before := call(t, beside, "pid", "")

			_, err = p.Call(ctx, "fault", nil)
			e := crash(t, err)
			assert.Equal(t, "kin", e.Group)
			assert.Equal(t, name, e.Culprit, "no other call was in the worker")
			assert.ErrorContains(t, err, `the worker of the group "kin"`)
			assert.ErrorContains(t, err, "by the plug-in "+name)
			require.Eventually(t, func() bool { return strings.Contains(lines(), "by the plug-in "+name) }, time.Minute, time.Millisecond)
			assert.Contains(t, lines(), "while no call ran in it")
			_, err = session.Call(ctx, "echo", nil)
			assert.ErrorIs(t, err, loader.ErrLost)
			assert.NoError(t, session.Close())

			between := call(t, beside, "pid", "")
			assert.NotEqual(t, before, between)
			other := make(chan error, 1)
			go func() {
				_, err := beside.Call(ctx, "fault", nil)
				other <- err
			}()
			<-begun
			_, err = p.Call(ctx, "fault", nil)
			for _, err := range []error{err, <-other} {
				e := crash(t, err)
				assert.Equal(t, "kin", e.Group)
				assert.Equal(t, 2, e.Attempt)
				assert.Equal(t, 1, e.Others)
				if known {
					assert.Equal(t, name, e.Culprit)
				} else {
					assert.Empty(t, e.Culprit, "either may be")
				}
			}
			assert.Equal(t, "works", call(t, idle, "echo", "works"))
			after := call(t, p, "pid", "")
			assert.NotEqual(t, between, after)
			assert.Equal(t, after, call(t, beside, "pid", ""))
		})
	}
}

// A plug-in that does not end in time takes the others along, which are told who it was.
func TestGroupDeadline(t *testing.T) {
	g := isolate.NewGroup("kin", isolate.WithGrace(20*time.Millisecond))
	sleeping := open(t, fixture.C(t, "fault_slow"), isolate.InGroup(g))
	late, cancel := context.WithCancelCause(ctx)
	p := open(t, fixture.C(t, "fault_infinite_loop"), isolate.InGroup(g), loader.WithLogger(whenBegun(func() { cancel(context.DeadlineExceeded) })))
	other := make(chan error, 1)
	go func() {
		_, err := sleeping.Call(ctx, "fault", []byte("3600000"))
		other <- err
	}()
	_, err := p.Call(late, "fault", nil)
	var e *loader.DeadlineError
	require.ErrorAs(t, err, &e)
	crash := crash(t, <-other)
	assert.Equal(t, "fault_infinite_loop", crash.Culprit)
	assert.ErrorContains(t, crash, "did not end in time, by the plug-in fault_infinite_loop")
	assert.Equal(t, "works", call(t, sleeping, "echo", "works"))
}

// One that cannot be started is no matter of the others', unless it takes the process along.
func TestGroupStart(t *testing.T) {
	g := isolate.NewGroup("kin", isolate.WithStartTimeout(time.Second))
	beside := open(t, fixture.C(t, "fault_none"), isolate.InGroup(g))
	pid := call(t, beside, "pid", "")
	path := fixture.C(t, "fault_start")
	for range 3 {
		_, err := loader.Open(path, isolate.InGroup(g), loader.WithConfig([]byte("fail")))
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "configured to fail", e.Message)
		_, err = loader.Open(filepath.Join(t.TempDir(), "none.so"), isolate.InGroup(g))
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
	assert.Equal(t, pid, call(t, beside, "pid", ""))

	_, err := loader.Open(path, isolate.InGroup(g), loader.WithConfig([]byte("crash")))
	require.ErrorIs(t, err, loader.ErrStart)
	assert.Equal(t, "fault_start", crash(t, err).Culprit)
	now := call(t, beside, "pid", "")
	assert.NotEqual(t, pid, now)
	_, err = loader.Open(fixture.C(t, "fault_constructor"), isolate.InGroup(g))
	require.ErrorIs(t, err, loader.ErrStart)
	assert.Equal(t, "fault_constructor", crash(t, err).Culprit)

	call(t, beside, "pid", "")
	_, err = loader.Open(path, isolate.InGroup(g), loader.WithConfig([]byte("hang")))
	assert.Contains(t, crash(t, err).Reason, "WithStartTimeout")
	assert.Equal(t, "fault_start", crash(t, err).Culprit)
	p := open(t, path, isolate.InGroup(g))
	assert.Equal(t, call(t, p, "pid", ""), call(t, beside, "pid", ""))
}

// A plug-in that does not stop has the worker killed; who closes another one is not concerned.
func TestGroupStop(t *testing.T) {
	g := isolate.NewGroup("kin", isolate.WithStopTimeout(100*time.Millisecond))
	beside := open(t, fixture.C(t, "fault_none"), isolate.InGroup(g))
	p, err := loader.Open(fixture.C(t, "fault_stop_hang"), isolate.InGroup(g))
	require.NoError(t, err)
	pid := call(t, p, "pid", "")
	e := crash(t, p.Close())
	assert.Contains(t, e.Reason, "WithStopTimeout")
	assert.Equal(t, "fault_stop_hang", e.Culprit)
	assertGone(t, pid)
	assert.Equal(t, "works", call(t, beside, "echo", "works"))
}

// A view that is held when the time to close is over concerns no other plug-in; a call that runs does.
func TestGroupShutdown(t *testing.T) {
	g := isolate.NewGroup("kin")
	beside := open(t, fixture.C(t, "fault_none"), isolate.InGroup(g))
	pid := call(t, beside, "pid", "")
	over, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()

	p, err := loader.Open(fixture.C(t, "echo"), isolate.InGroup(g))
	require.NoError(t, err)
	f, err := p.Func("echo")
	require.NoError(t, err)
	view, err := f.View(ctx, []byte("held"))
	require.NoError(t, err)
	var unfinished *loader.ShutdownError
	require.ErrorAs(t, p.Shutdown(over), &unfinished)
	assert.Equal(t, 1, unfinished.Views)
	assert.Equal(t, "held", string(view.Bytes()))
	view.Release()
	require.NoError(t, p.Close())
	assert.Equal(t, pid, call(t, beside, "pid", ""))

	begun := make(chan bool, 1)
	p, err = loader.Open(fixture.C(t, "fault_infinite_loop"), isolate.InGroup(g), loader.WithLogger(whenBegun(func() { begun <- true })))
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := p.Call(ctx, "fault", nil)
		failed <- err
	}()
	<-begun
	assert.Error(t, p.Shutdown(over))
	assert.Equal(t, "fault_infinite_loop", crash(t, <-failed).Culprit)
	assert.NotEqual(t, pid, call(t, beside, "pid", ""))
}

// The order of restarts is the group's.
func TestGroupSuspended(t *testing.T) {
	g := isolate.NewGroup("kin", isolate.WithRestart(time.Millisecond, 2, time.Hour))
	p := open(t, fixture.C(t, "fault_sigsegv"), isolate.InGroup(g))
	beside := open(t, fixture.C(t, "fault_none"), isolate.InGroup(g))
	for range 2 {
		_, err := p.Call(ctx, "fault", nil)
		assert.Equal(t, syscall.SIGSEGV, crash(t, err).Signal)
	}
	_, err := beside.Call(ctx, "echo", nil)
	assert.ErrorIs(t, err, loader.ErrSuspended)
	assert.Equal(t, "fault_sigsegv", crash(t, err).Culprit)
	i, _ := p.Isolation()
	assert.Positive(t, i.Suspended)

	open(t, fixture.C(t, "echo"), isolate.InGroup(g)) // it may be what is opened in the place of the one that crashes
	i, _ = p.Isolation()
	assert.Zero(t, i.Suspended)
	assert.Equal(t, "x", call(t, beside, "echo", "x"))
}

// What concerns the worker is not a plug-in's to ask for.
func TestGroupRefuses(t *testing.T) {
	path := fixture.C(t, "echo")
	g := isolate.NewGroup("kin")
	for want, opts := range map[string][]loader.Option{
		"isolate.InWorker":                      {isolate.InGroup(g), isolate.InWorker(isolate.WithEnv("A=b"))},
		"isolate.InGroup":                       {isolate.InGroup(g), isolate.InGroup(isolate.NewGroup("others"))},
		"isolate.NewGroup with an empty name":   {isolate.InGroup(isolate.NewGroup(""))},
		"isolate.NewGroup with nil as option 1": {isolate.InGroup(isolate.NewGroup("kin", nil))},
		"isolate.WithGrace with 0s":             {isolate.InGroup(isolate.NewGroup("kin", isolate.WithGrace(0)))},
		"isolate.InGroup with nil":              {isolate.InGroup(nil)},
	} {
		_, err := loader.Open(path, opts...)
		assert.ErrorIs(t, err, loader.ErrOption, want)
		assert.ErrorContains(t, err, want)
	}
}

// Plug-ins come and go while others are called.
func TestGroupChurn(t *testing.T) {
	g := isolate.NewGroup("kin")
	stays := open(t, fixture.C(t, "fault_none"), isolate.InGroup(g))
	pid := call(t, stays, "pid", "")
	paths := []string{fixture.C(t, "fault_none"), fixture.C(t, "echo"), fixture.C(t, "fault_slow")}
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	done := make(chan struct{})
	var callers, openers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				out, err := stays.Call(ctx, "echo", []byte("stays"))
				if !assert.NoError(t, err) || !assert.Equal(t, "stays", string(out)) {
					return
				}
			}
		})
	}
	for i := range 4 {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		openers.Go(func() {
			for range rounds {
				opts := []loader.Option{isolate.InGroup(g)}
				if random.IntN(2) == 0 {
					opts = append(opts, loader.WithUnload())
				}
				p, err := loader.Open(paths[random.IntN(len(paths))], opts...)
				if !assert.NoError(t, err) {
					return
				}
				text := fmt.Sprint(random.Uint64())
				for range random.IntN(4) {
					out, err := p.Call(ctx, "echo", []byte(text))
					assert.NoError(t, err)
					assert.Equal(t, text, string(out))
				}
				assert.NoError(t, p.Close())
			}
		})
	}
	openers.Wait()
	close(done)
	callers.Wait()
	assert.Equal(t, pid, call(t, stays, "pid", ""), "in one worker all the time")
}

// The last ones that are closed at the same time leave no process, and those that are opened meanwhile get one.
func TestGroupEnds(t *testing.T) {
	g := isolate.NewGroup("kin")
	path := fixture.C(t, "fault_none")
	rounds := 30
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		var all sync.WaitGroup
		pids := make(chan string, 8)
		for range cap(pids) {
			all.Go(func() {
				p, err := loader.Open(path, isolate.InGroup(g))
				if assert.NoError(t, err) {
					out, err := p.Call(ctx, "pid", nil)
					assert.NoError(t, err)
					pids <- string(out)
					assert.NoError(t, p.Close())
				}
			})
		}
		all.Wait()
		close(pids)
		for pid := range pids {
			assertGone(t, pid)
		}
	}
}

// takeAllLanes makes a call on each lane of the group's worker. One ends for each value in release, and all when that is closed.
func takeAllLanes(t *testing.T, g *isolate.Group) (release chan bool, calls *sync.WaitGroup) {
	t.Helper()
	const lanes = 256
	begun := make(chan bool, lanes)
	release, calls = make(chan bool, lanes), new(sync.WaitGroup)
	wait := loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) {
		begun <- true
		<-release
		return in, nil
	})
	p := open(t, fixture.C(t, "host"), isolate.InGroup(g), wait, loader.WithHostFunc("again", func(context.Context, []byte) ([]byte, error) { return nil, nil }))
	for range lanes {
		calls.Go(func() {
			_, err := p.Call(ctx, "upper", []byte("x"))
			assert.NoError(t, err)
		})
	}
	for range lanes {
		<-begun
	}
	return release, calls
}

// Calls of one plug-in that have all lanes of the worker hold up others, and only as long as they run.
func TestGroupLanes(t *testing.T) {
	g := isolate.NewGroup("kin")
	beside := open(t, fixture.C(t, "echo"), isolate.InGroup(g))
	release, calls := takeAllLanes(t, g)
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := beside.Call(soon, "echo", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits for a lane")
	var others sync.WaitGroup
	others.Go(func() {
		out, err := beside.Call(ctx, "echo", []byte("waits"))
		assert.NoError(t, err)
		assert.Equal(t, "waits", string(out))
	})
	others.Go(func() {
		late, err := loader.Open(fixture.C(t, "fault_none"), isolate.InGroup(g))
		if assert.NoError(t, err) {
			assert.NoError(t, late.Close())
		}
	})
	release <- true
	others.Wait() // by one lane
	close(release)
	calls.Wait()
}

// Plug-ins of a group call each other through host functions, as those of two workers do: a recursion without an end has one.
func TestGroupCallsEachOther(t *testing.T) {
	g := isolate.NewGroup("kin")
	var a, b *loader.Plugin
	calls := func(other **loader.Plugin) []loader.Option {
		upper := loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			if len(in) == 0 {
				return []byte("end"), nil
			}
			return (*other).Call(ctx, "upper", in[1:])
		})
		again := loader.WithHostFunc("again", func(ctx context.Context, in []byte) ([]byte, error) { return (*other).Call(ctx, "again", in) })
		return []loader.Option{isolate.InGroup(g), upper, again}
	}
	a = open(t, fixture.C(t, "host"), calls(&b)...)
	b = open(t, fixture.C(t, "host"), calls(&a)...)
	for range 3 {
		assert.Equal(t, "end", call(t, a, "upper", strings.Repeat("x", 20)))
		_, err := a.Call(ctx, "again", []byte("x"))
		require.Error(t, err)
		assert.Contains(t, err.Error(), "one within the other")
	}
}

// What a group saves: shown, and bounded by what cannot be otherwise.
func TestGroupFootprint(t *testing.T) {
	many := 200
	if testing.Short() || raceDetector {
		many = 20
	}
	path := fixture.C(t, "echo")
	measure := func(option func() loader.Option) (workers, threads, resident int) {
		pids := make(map[int]bool)
		for range many {
			p, err := loader.Open(path, option())
			require.NoError(t, err)
			defer p.Close()
			_, err = p.Call(ctx, "echo", []byte("x"))
			require.NoError(t, err)
			isolation, _ := p.Isolation()
			pids[isolation.PID] = true
		}
		for pid := range pids {
			tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			require.NoError(t, err)
			threads += len(tasks)
			resident += proportional(t, pid)
		}
		return len(pids), threads, resident
	}
	g := isolate.NewGroup("kin")
	workers, threads, resident := measure(func() loader.Option { return isolate.InGroup(g) })
	manyWorkers, manyThreads, manyResident := measure(func() loader.Option { return isolate.InWorker() })
	t.Logf("%d plug-ins: in one group %d worker, %d threads, %.1f MB; by themselves %d workers, %d threads, %.1f MB", many,
		workers, threads, float64(resident)/1e6, manyWorkers, manyThreads, float64(manyResident)/1e6)
	assert.Equal(t, 1, workers)
	assert.Equal(t, many, manyWorkers)
	assert.Less(t, threads, many, "not one for each")
}

// proportional returns how many bytes of memory are a process's own, with its share of what it shares.
func proportional(t testing.TB, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var kB int
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kB); n == 1 {
			return kB << 10
		}
	}
	t.Fatal("no Pss in smaps_rollup")
	return 0
}

// Lanes that the calls of one plug-in have had are there for others, and for what is opened later.
func TestGroupLanesLeft(t *testing.T) {
	g := isolate.NewGroup("kin")
	beside := open(t, fixture.C(t, "echo"), isolate.InGroup(g))
	release, calls := takeAllLanes(t, g)
	close(release)
	calls.Wait()
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	late, err := loader.OpenContext(soon, fixture.C(t, "fault_none"), isolate.InGroup(g))
	require.NoError(t, err)
	out, err := beside.Call(soon, "echo", []byte("there"))
	require.NoError(t, err)
	assert.Equal(t, "there", string(out))
	require.NoError(t, late.Close())
}

// A call that comes from another one waits for a lane that a third call has, also where that one is just over.
func TestNestedWaitsForOthers(t *testing.T) {
	var p *loader.Plugin
	p = open(t, fixture.C(t, "host"), isolate.InWorker(), loader.WithMaxCalls(2),
		loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			if len(in) == 1 {
				return in, nil
			}
			return p.Call(ctx, "upper", in[1:])
		}),
		loader.WithHostFunc("again", func(context.Context, []byte) ([]byte, error) { return nil, nil }))
	const rounds = 200
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for range rounds {
				_, err := p.Call(ctx, "upper", []byte("x"))
				assert.NoError(t, err)
			}
		})
	}
	for range rounds {
		if !assert.Equal(t, "y", call(t, p, "upper", "xy")) {
			break
		}
	}
	others.Wait()
}
