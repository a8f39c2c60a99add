//go:build linux

package isolate_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Each fault ends the worker in a way of its own, and what calls get says which. The plug-in beside it, and this process,
// notice nothing, and the next call works.
func TestFaults(t *testing.T) {
	beside := open(t, fixture.C(t, "fault_none"), isolate.InWorker())
	besidePID := call(t, beside, "pid", "")
	for _, c := range []struct {
		fixture string
		in      string
		signal  syscall.Signal
		code    int
		stderr  string
	}{
		{fixture: "fault_sigsegv", signal: syscall.SIGSEGV},
		{fixture: "fault_sigfpe", signal: syscall.SIGFPE},
		{fixture: "fault_sigill", signal: syscall.SIGILL},
		{fixture: "fault_sigbus", signal: syscall.SIGBUS},
		{fixture: "fault_stack_overflow", signal: syscall.SIGSEGV},
		{fixture: "fault_abort", signal: syscall.SIGABRT, stderr: "last words"},
		{fixture: "fault_exit_zero", code: 0},
		{fixture: "fault_exit_code", code: 7},
		{fixture: "fault_sigkill", signal: syscall.SIGKILL},
		{fixture: "fault_heap_corruption", signal: syscall.SIGABRT, stderr: "invalid pointer"},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			if c.fixture == "fault_heap_corruption" {
				fixture.NotMusl(t, "the allocator has no last words")
			}
			p := open(t, fixture.C(t, c.fixture), isolate.InWorker())
			for attempt := 1; attempt <= 2; attempt++ {
				before := call(t, p, "pid", "")
				_, err := p.Call(ctx, "fault", []byte(c.in))
				e := crash(t, err)
				assert.Equal(t, "fault", e.Func)
				assert.Equal(t, c.fixture, e.Plugin)
				assert.Equal(t, attempt, e.Attempt)
				if c.signal != 0 {
					assert.Equal(t, c.signal, e.Signal)
					assert.Equal(t, -1, e.ExitCode)
				} else {
					assert.Nil(t, e.Signal)
					assert.Equal(t, c.code, e.ExitCode)
				}
				if c.stderr != "" && os.Getenv(fixture.Emulated) == "" { // which has last words of its own
					require.NotEmpty(t, e.Output)
					assert.Contains(t, e.Output[len(e.Output)-1], c.stderr)
					assert.ErrorContains(t, err, c.stderr)
				}
				assert.Equal(t, "works", call(t, p, "echo", "works"))
				assert.NotEqual(t, before, call(t, p, "pid", ""), "a new worker")
				assertGone(t, before)
			}
		})
	}
	assert.Equal(t, besidePID, call(t, beside, "pid", ""), "the plug-in beside it has its worker still")
}

// assertGone fails when there is a process with this number, be it a zombie.
func assertGone(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return syscall.Kill(n, 0) == syscall.ESRCH }, time.Minute, time.Millisecond,
		"the process %s is still there", pid)
}

func TestFaultRustPanicAbort(t *testing.T) {
	p := open(t, fixture.RustAbort(t), isolate.InWorker())
	_, err := p.Call(ctx, "fault", nil)
	e := crash(t, err)
	assert.Equal(t, syscall.SIGABRT, e.Signal)
	assert.Contains(t, strings.Join(e.Output, "\n"), "a panic that aborts")
	assert.Equal(t, "works", call(t, p, "echo", "works"))
}

// A Go plug-in runs isolated, where its runtime has the process's signals to share with nobody who matters.
func TestGoPlugin(t *testing.T) {
	fixture.NotMusl(t, "a Go library cannot be loaded: its thread-local variables are for programs")
	p := open(t, fixture.Go(t), isolate.InWorker())
	for range 3 {
		assert.Equal(t, "works", call(t, p, "echo", "works"))
		_, err := p.Call(ctx, "fault", nil)
		assert.Contains(t, strings.Join(crash(t, err).Output, "\n"), "a panic in Go")
	}
}

func TestFaultInConstructor(t *testing.T) {
	_, err := loader.Open(fixture.C(t, "fault_constructor"), isolate.InWorker())
	var e *loader.OpenError
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, loader.ErrStart)
	assert.Equal(t, syscall.SIGSEGV, crash(t, err).Signal)

	start := time.Now()
	_, err = loader.Open(fixture.C(t, "fault_constructor_hang"), isolate.InWorker(isolate.WithStartTimeout(200*time.Millisecond)))
	assert.Contains(t, crash(t, err).Reason, "WithStartTimeout")
	assert.Less(t, time.Since(start), 20*time.Second)
}

func TestFaultInStart(t *testing.T) {
	path := fixture.C(t, "fault_start")
	_, err := loader.Open(path, isolate.InWorker(), loader.WithConfig([]byte("crash")))
	assert.Equal(t, syscall.SIGSEGV, crash(t, err).Signal)
	_, err = loader.Open(path, isolate.InWorker(isolate.WithStartTimeout(200*time.Millisecond)), loader.WithConfig([]byte("hang")))
	assert.Contains(t, crash(t, err).Reason, "WithStartTimeout")
	_, err = loader.Open(path, isolate.InWorker(), loader.WithConfig([]byte("fail")))
	var e *loader.CallError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "ferrule_start", e.Func)
	assert.Equal(t, "configured to fail", e.Message)
	assert.Equal(t, "works", call(t, open(t, path, isolate.InWorker()), "echo", "works"))
}

func TestFaultInStop(t *testing.T) {
	p, err := loader.Open(fixture.C(t, "fault_stop"), isolate.InWorker())
	require.NoError(t, err)
	pid := call(t, p, "pid", "")
	err = p.Close()
	e := crash(t, err)
	assert.Equal(t, syscall.SIGSEGV, e.Signal)
	assert.Equal(t, "ferrule_stop", e.Func)
	assert.Equal(t, err, p.Close(), "the second Close says the same")
	assertGone(t, pid)
}

// The plug-in's own thread crashes when no call runs: nobody gets an error, the log has it, and the next call works.
func TestFaultAfterTheCall(t *testing.T) {
	logger, lines := logger()
	p := open(t, fixture.C(t, "fault_late_thread"), isolate.InWorker(), loader.WithLogger(logger))
	pid := call(t, p, "pid", "")
	call(t, p, "fault", "")
	assertGone(t, pid)
	require.Eventually(t, func() bool { return strings.Contains(lines(), "while no call ran in it") }, time.Minute, time.Millisecond)
	assert.Contains(t, lines(), "segmentation fault")
	assert.Equal(t, "works", call(t, p, "echo", "works"))
}

func TestFaultInfiniteLoop(t *testing.T) {
	for _, name := range []string{"fault_infinite_loop", "fault_deadlock"} {
		late, cancel := context.WithCancelCause(ctx)
		p := open(t, fixture.C(t, name), isolate.InWorker(isolate.WithGrace(50*time.Millisecond)),
			loader.WithLogger(whenBegun(func() { cancel(context.DeadlineExceeded) })))
		pid := call(t, p, "pid", "")
		_, err := p.Call(late, "fault", nil)
		var e *loader.DeadlineError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "fault", e.Func)
		assert.Equal(t, 50*time.Millisecond, e.Grace)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, loader.ErrCancelled)
		assert.Equal(t, "works", call(t, p, "echo", "works"))
		assertGone(t, pid)
	}
}

func TestCallTimeout(t *testing.T) {
	// The calls that work have the same times.
	p := open(t, fixture.C(t, "fault_infinite_loop"), isolate.InWorker(isolate.WithGrace(time.Second)), loader.WithCallTimeout(200*time.Millisecond))
	for range 2 {
		_, err := p.Call(ctx, "fault", nil)
		var e *loader.DeadlineError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, "works", call(t, p, "echo", "works"))
	}
	polite := open(t, fixture.C(t, "fault_polite_loop"), isolate.InWorker(), loader.WithCallTimeout(20*time.Millisecond))
	pid := call(t, polite, "pid", "")
	_, err := polite.Call(ctx, "fault", nil)
	var e *loader.CallError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, loader.ErrCancelled, e.Status)
	assert.Equal(t, pid, call(t, polite, "pid", ""), "who stops when asked keeps its worker")
}

// A batch has the time of a call for all the records that the worker is given at once. Those that ran are the caller's.
func TestCallTimeoutOfBatch(t *testing.T) {
	in := make([][]byte, 60)
	for i := range in {
		in[i] = []byte("10") // milliseconds
	}
	for limit, enough := range map[time.Duration]bool{200 * time.Millisecond: false, time.Hour: true} {
		p := open(t, fixture.C(t, "fault_slow"), isolate.InWorker(isolate.WithGrace(time.Minute)), loader.WithCallTimeout(limit))
		f, err := p.Func("fault")
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(ctx, in, &b)
		if enough {
			require.NoError(t, err)
			assert.Equal(t, len(in), b.Len())
		} else {
			var e *loader.CallError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "after 200ms (loader.WithCallTimeout)")
			assert.Less(t, b.Len(), len(in))
		}
		for i := range b.Len() {
			out, err := b.Result(i)
			require.NoError(t, err)
			assert.Equal(t, "10", string(out))
		}
		assert.Equal(t, "works", call(t, p, "echo", "works"))
	}
}

// A call that does not end takes the calls beside it along: they are told why.
func TestKilledBecauseOfAnother(t *testing.T) {
	begun := make(chan bool, 2)
	p := open(t, fixture.C(t, "fault_infinite_loop"), isolate.InWorker(isolate.WithGrace(20*time.Millisecond)),
		loader.WithLogger(whenBegun(func() { begun <- true })))
	beside := make(chan error)
	go func() {
		_, err := p.Call(ctx, "fault", nil)
		beside <- err
	}()
	<-begun
	late, cancel := context.WithCancelCause(ctx)
	go func() { <-begun; cancel(context.DeadlineExceeded) }()
	_, err := p.Call(late, "fault", nil)
	var e *loader.DeadlineError
	require.ErrorAs(t, err, &e)
	assert.Contains(t, crash(t, <-beside).Reason, "another call did not end in time")
}

// openToDamage opens a plug-in that damages its worker without ending it. The worker may notice at any time, at Close too,
// which then says that it crashed; it is gone after that in any case.
func openToDamage(t *testing.T, name string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(fixture.C(t, name), opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		isolation, ok := p.Isolation()
		assert.True(t, ok)
		if err := p.Close(); err != nil {
			assert.Equal(t, "ferrule_stop", crash(t, err).Func)
		}
		if isolation.PID != 0 {
			assertGone(t, strconv.Itoa(isolation.PID))
		}
	})
	return p
}

func TestFaultCloseFDs(t *testing.T) {
	p := openToDamage(t, "fault_close_fds", isolate.InWorker())
	for range 3 {
		_, err := p.Call(ctx, "fault", nil) // it may get out before the worker notices
		if err != nil {
			crash(t, err)
		}
		require.Eventually(t, func() bool {
			out, err := p.Call(ctx, "echo", []byte("works"))
			return err == nil && string(out) == "works"
		}, time.Minute, time.Millisecond)
	}
}

func TestFaultLeaks(t *testing.T) {
	p := open(t, fixture.C(t, "fault_fd_leak"), isolate.InWorker())
	assert.Regexp(t, "Too many open files|No file descriptors available", call(t, p, "fault", ""), "as glibc and musl have it")
	assert.Equal(t, "works", call(t, p, "echo", "works"))

	threads := open(t, fixture.C(t, "fault_thread_bomb"), isolate.InWorker())
	assert.Equal(t, "200", call(t, threads, "fault", "200"))
	assert.Equal(t, "works", call(t, threads, "echo", "works"))

	memory := open(t, fixture.C(t, "fault_memory_bomb"), isolate.InWorker())
	call(t, memory, "fault", strconv.Itoa(64<<20))
	assert.Equal(t, "works", call(t, memory, "echo", "works"))
}

// What a worker has forked ends with it.
func TestFaultForkBomb(t *testing.T) {
	p, err := loader.Open(fixture.C(t, "fault_fork_bomb"), isolate.InWorker())
	require.NoError(t, err)
	children := strings.Fields(call(t, p, "fault", "20"))
	require.Len(t, children, 20)
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	require.NoError(t, p.Close())
	for _, pid := range children {
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return !runs(n) }, time.Minute, time.Millisecond)
	}
}

// runs reports whether a process is there and no zombie: whose child it was may not have waited for it yet.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestFaultSharedGarbage(t *testing.T) {
	for _, pattern := range []string{"", "\x00", "\x01", "W", "\x7f"} {
		p := open(t, fixture.C(t, "fault_shared_garbage"), isolate.InWorker(), loader.WithLogger(quiet))
		pid := call(t, p, "pid", "")
		_, err := p.Call(ctx, "fault", []byte(pattern))
		assert.Contains(t, crash(t, err).Reason, "overwritten", "%q", pattern)
		assert.Equal(t, "works", call(t, p, "echo", "works"))
		assertGone(t, pid)
	}
}

func TestFaultSharedNoise(t *testing.T) {
	p := openToDamage(t, "fault_shared_noise", isolate.InWorker(isolate.WithGrace(100*time.Millisecond)), loader.WithLogger(quiet))
	for range 3 {
		soon, cancel := context.WithTimeout(ctx, time.Second)
		_, err := p.Call(soon, "fault", nil)
		for err == nil {
			_, err = p.Call(soon, "echo", []byte("anything"))
		}
		cancel()
		assert.Error(t, err)
		require.Eventually(t, func() bool {
			soon, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			out, err := p.Call(soon, "echo", []byte("works"))
			return err == nil && string(out) == "works"
		}, time.Minute, time.Millisecond)
	}
}

func TestRestartIsANewState(t *testing.T) {
	p := open(t, fixture.C(t, "fault_count"), isolate.InWorker())
	for attempt := 1; attempt <= 3; attempt++ {
		for i := 1; i <= 3; i++ {
			assert.Equal(t, strconv.Itoa(i), call(t, p, "next", ""))
		}
		isolation, ok := p.Isolation()
		assert.True(t, ok)
		assert.Equal(t, attempt, isolation.Attempt)
		assert.Equal(t, strconv.Itoa(isolation.PID), call(t, p, "pid", ""))
		_, err := p.Call(ctx, "crash", nil)
		assert.Equal(t, attempt, crash(t, err).Attempt)
	}
}

// Workers that crash one after the other are started later and later, and then not at all for a while.
func TestSuspended(t *testing.T) {
	p := open(t, fixture.C(t, "fault_count"), isolate.InWorker(isolate.WithRestart(10*time.Millisecond, 4, 2*time.Second)))
	for range 4 {
		_, err := p.Call(ctx, "crash", nil)
		assert.Zero(t, crash(t, err).Suspended)
		assert.NotErrorIs(t, err, loader.ErrSuspended)
	}
	isolation, _ := p.Isolation()
	assert.Positive(t, isolation.Suspended)
	assert.LessOrEqual(t, isolation.Suspended, 2*time.Second)
	isolation.Suspended = 0
	assert.Equal(t, loader.Isolation{Attempt: 4}, isolation)
	_, err := p.Call(ctx, "next", nil)
	e := crash(t, err)
	assert.ErrorIs(t, err, loader.ErrSuspended)
	assert.Greater(t, e.Suspended, time.Duration(0))
	assert.Equal(t, syscall.SIGSEGV, e.Signal, "of the last crash")
	require.Eventually(t, func() bool {
		out, err := p.Call(ctx, "next", nil)
		return err == nil && string(out) == "1"
	}, time.Minute, 10*time.Millisecond)
	_, err = p.Call(ctx, "crash", nil)
	assert.NotErrorIs(t, err, loader.ErrSuspended)
	assert.Equal(t, "1", call(t, p, "next", ""), "a call that works ends the series")
}

// The host dies by SIGKILL: its workers, busy and idle, end with it.
func TestHostKilled(t *testing.T) {
	for _, fn := range []string{"echo", "fault"} {
		host := exec.Command(os.Args[0], "-test.run", "^TestHostToKill$", "-test.v")
		host.Env = append(os.Environ(), "FERRULE_TEST_HOST="+fixture.C(t, "fault_infinite_loop")+" "+fn)
		out, err := host.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, host.Start())
		var pid int
		buf := make([]byte, 4096)
		for text := ""; pid == 0; {
			n, err := out.Read(buf)
			require.NoError(t, err, text)
			text += string(buf[:n])
			if _, after, ok := strings.Cut(text, "worker "); ok && strings.Contains(after, "\n") {
				_, err := fmt.Sscan(after, &pid)
				require.NoError(t, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
		require.True(t, runs(pid))
		require.NoError(t, host.Process.Kill())
		_ = host.Wait()
		require.Eventually(t, func() bool { return !runs(pid) }, time.Minute, time.Millisecond)
	}
}

// TestHostToKill is the host of TestHostKilled.
func TestHostToKill(t *testing.T) {
	path, fn, ok := strings.Cut(os.Getenv("FERRULE_TEST_HOST"), " ")
	if !ok {
		t.Skip("it is run by TestHostKilled")
	}
	p := open(t, path, isolate.InWorker())
	fmt.Printf("worker %s\n", call(t, p, "pid", ""))
	_, _ = p.Call(ctx, fn, nil)
	time.Sleep(time.Minute)
}

// The machine pauses: both processes stop for a while, and calls go on.
func TestPaused(t *testing.T) {
	p := open(t, fixture.C(t, "fault_slow"), isolate.InWorker())
	pid, err := strconv.Atoi(call(t, p, "pid", ""))
	require.NoError(t, err)
	for range 3 {
		done := make(chan error)
		go func() {
			out, err := p.Call(ctx, "fault", []byte("50"))
			if err == nil && string(out) != "50" {
				err = fmt.Errorf("%q", out)
			}
			done <- err
		}()
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
		assert.NoError(t, <-done)
		assert.Equal(t, strconv.Itoa(pid), call(t, p, "pid", ""))
	}
}

// A worker that stopped itself is one that does not answer.
func TestFaultStopSelf(t *testing.T) {
	late, cancel := context.WithCancelCause(ctx)
	p := open(t, fixture.C(t, "fault_stop_self"), isolate.InWorker(isolate.WithGrace(20*time.Millisecond)),
		loader.WithLogger(whenBegun(func() { cancel(context.DeadlineExceeded) })))
	_, err := p.Call(late, "fault", nil)
	var e *loader.DeadlineError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "works", call(t, p, "echo", "works"))
}
