//go:build linux

package isolate_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Where every lane is held by a view the next call is told so: whoever holds them may be the one who waits.
func TestViewsInEveryLane(t *testing.T) {
	const lanes = 256
	for _, name := range []string{"echo", "fault_none"} { // serial, concurrent
		p := open(t, fixture.C(t, name), isolate.InWorker())
		f, err := p.Func("echo")
		require.NoError(t, err)
		var views []*loader.View
		for range lanes {
			v, err := f.View(ctx, []byte("view"))
			require.NoError(t, err)
			views = append(views, v)
		}
		within(t, time.Minute, func() {
			_, err := f.View(ctx, nil)
			var e *loader.UsageError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, loader.ErrViews)
			assert.Contains(t, e.Remedy, "View.Release")
			_, err = f.Call(ctx, nil)
			assert.ErrorIs(t, err, loader.ErrViews)
		})
		within(t, time.Minute, func() { // calls that a release lets in
			for _, v := range views {
				var wg sync.WaitGroup
				wg.Go(func() {
					assert.Eventually(t, func() bool {
						out, err := f.Call(ctx, []byte("works"))
						return err == nil && string(out) == "works"
					}, time.Minute, time.Millisecond)
				})
				assert.Equal(t, "view", string(v.Bytes()))
				v.Release()
				wg.Wait()
			}
		})
	}
}

// The writer of WithOutput that does not return is no worker's fault, and no call's.
func TestOutputThatBlocks(t *testing.T) {
	blocked := make(chan struct{})
	defer close(blocked)
	block := writer(func(b []byte) (int, error) { <-blocked; return len(b), nil })
	flood := open(t, fixture.C(t, "fault_flood"), isolate.InWorker(isolate.WithOutput(block)))
	pid := call(t, flood, "pid", "")
	within(t, time.Minute, func() { call(t, flood, "fault", "64") }) // 4 MiB
	assert.Equal(t, pid, call(t, flood, "pid", ""))

	dies := open(t, fixture.C(t, "fault_abort"), isolate.InWorker(isolate.WithOutput(block)))
	within(t, time.Minute, func() {
		_, err := dies.Call(ctx, "fault", nil)
		assert.Contains(t, strings.Join(crash(t, err).Output, "\n"), "last words")
		assert.Equal(t, "works", call(t, dies, "echo", "works"))
	})

	// Nor does a call's deadline wait for what the writer holds up. The machine may be busy: the fastest of some tries counts.
	fastest := time.Hour
	for try := 0; try < 10 && fastest >= 500*time.Millisecond; try++ {
		p := open(t, fixture.C(t, "fault_abort"), isolate.InWorker(isolate.WithOutput(block), isolate.WithGrace(100*time.Millisecond)))
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		start := time.Now()
		_, err := p.Call(soon, "fault", nil)
		fastest = min(fastest, time.Since(start))
		cancel()
		assert.Error(t, err)
	}
	assert.Less(t, fastest, 500*time.Millisecond)
}

// Whoever keeps up gets all of the output, in order, by the time that Close returns.
func TestOutputIsWhole(t *testing.T) {
	var mu sync.Mutex
	var got strings.Builder
	p, err := loader.Open(fixture.C(t, "fault_flood"), isolate.InWorker(isolate.WithOutput(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return got.Write(b)
	}))))
	require.NoError(t, err)
	written := strings.Repeat("x", 64<<10) + "\nlast line\n"
	for n := 1; n <= 20; n++ {
		call(t, p, "fault", "1")
		// All of it has come, not only what the call before wrote: whoever does not wait for it does not keep up.
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return got.Len() >= n*len(written) }, time.Minute, time.Millisecond)
	}
	require.NoError(t, p.Close())
	assert.Equal(t, strings.Repeat(written, 20), got.String())
}

// A log line that the host has no room for is cut, and says so.
func TestLongLogLine(t *testing.T) {
	for _, c := range []struct{ limit, length, atMost int }{
		{1000, 70_000, 1000}, {1000, 2000, 1000}, {1000, 999, 999}, {1 << 20, 2 << 20, 64 << 10}, {1 << 20, 1 << 20, 1 << 20},
	} {
		logger, lines := logger()
		p := open(t, fixture.C(t, "fault_log_long"), isolate.InWorker(isolate.WithMaxMessage(int64(c.limit))), loader.WithLogger(logger))
		assert.Equal(t, "0", call(t, p, "fault", strconv.Itoa(c.length)))
		text := lines()
		n := strings.Count(text, "y")
		assert.LessOrEqual(t, n, c.atMost)
		assert.Greater(t, n, c.atMost-100, "as much as there is room for")
		assert.Equal(t, c.length > c.atMost, strings.Contains(text, "(cut: it has "), "%d of %d", c.length, c.limit)
	}
}

// ferrule_stop that does not return costs its worker, after a bound of its own or the caller's.
func TestFaultStopHangs(t *testing.T) {
	path := fixture.C(t, "fault_stop_hang")
	p, err := loader.Open(path, isolate.InWorker(isolate.WithStopTimeout(50*time.Millisecond)))
	require.NoError(t, err)
	pid := call(t, p, "pid", "")
	within(t, time.Minute, func() { err = p.Close() })
	e := crash(t, err)
	assert.Equal(t, "ferrule_stop", e.Func)
	assert.Contains(t, e.Reason, "WithStopTimeout")
	assertGone(t, pid)

	p, err = loader.Open(path, isolate.InWorker(isolate.WithStopTimeout(time.Hour)))
	require.NoError(t, err)
	pid = call(t, p, "pid", "")
	within(t, time.Minute, func() {
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		err = p.Shutdown(soon)
		var late *loader.ShutdownError
		if errors.As(err, &late) { // the machine took longer to end the killed worker than Shutdown waits; then this is how it ended
			err = p.Shutdown(context.Background())
		}
	})
	assert.Contains(t, crash(t, err).Reason, "Shutdown")
	assertGone(t, pid)
	assert.Error(t, p.Close())
}

// Shutdown refuses calls at once, and ends those that run when its context does.
func TestShutdown(t *testing.T) {
	p, err := loader.Open(fixture.C(t, "fault_infinite_loop"), isolate.InWorker())
	require.NoError(t, err)
	pid := call(t, p, "pid", "")
	running := make(chan error, 1)
	go func() {
		_, err := p.Call(ctx, "fault", nil)
		running <- err
	}()
	time.Sleep(20 * time.Millisecond)
	within(t, time.Minute, func() {
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		assert.Error(t, p.Shutdown(soon))
		assert.Contains(t, crash(t, <-running).Reason, "Shutdown")
	})
	_, err = p.Call(ctx, "echo", nil)
	assert.ErrorIs(t, err, loader.ErrClosed)
	assertGone(t, pid)
	require.NoError(t, open(t, fixture.C(t, "echo"), isolate.InWorker()).Shutdown(ctx))
}
