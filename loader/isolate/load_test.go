//go:build linux

package isolate_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// Goroutines call while workers are killed at random moments: every call ends, in its own answer or a typed error, and
// nothing is left behind. FERRULE_TEST_KILLS sets how many workers are killed.
func TestKilledUnderLoad(t *testing.T) {
	kills := 100
	if text := os.Getenv("FERRULE_TEST_KILLS"); text != "" {
		_, err := fmt.Sscan(text, &kills)
		require.NoError(t, err)
	}
	logger := quiet
	path := fixture.C(t, "fault_none")
	p, err := loader.Open(path, loader.WithLogger(logger),
		isolate.InWorker(isolate.WithRestart(time.Millisecond, 1000000, time.Second)))
	require.NoError(t, err)
	call(t, p, "echo", "")
	files, memory := openFiles(t), resident(t)

	var stop atomic.Bool
	var answers, crashes atomic.Int64
	var wg sync.WaitGroup
	const goroutines = 64
	for g := range goroutines {
		wg.Go(func() {
			var dst []byte
			for i := 0; !stop.Load(); i++ {
				size := rand.IntN(200)
				if i%50 == 0 {
					size = 1 << rand.IntN(21)
				}
				in := append(fmt.Appendf(nil, "%d of %d:", i, g), bytes.Repeat([]byte{byte('a' + g%26)}, size)...)
				f, err := p.Func("echo")
				if !assert.NoError(t, err) {
					return
				}
				out, err := f.Append(ctx, dst[:0], in)
				if err == nil {
					answers.Add(1)
					if !assert.True(t, bytes.Equal(in, out), "another's bytes") {
						return
					}
					dst = out
					continue
				}
				crashes.Add(1)
				var e *loader.CrashError
				if !assert.ErrorAs(t, err, &e) {
					return
				}
				if !assert.Zero(t, e.Suspended) {
					return
				}
			}
		})
	}
	pids := map[int]bool{}
	for killed := 0; killed < kills; {
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		isolation, _ := p.Isolation()
		if isolation.PID == 0 || pids[isolation.PID] {
			continue
		}
		pids[isolation.PID] = true
		if err := syscall.Kill(isolation.PID, syscall.SIGKILL); err == nil {
			killed++
		} else {
			require.ErrorIs(t, err, syscall.ESRCH)
		}
	}
	stop.Store(true)
	within(t, time.Minute, wg.Wait)
	assert.Equal(t, "works", eventually(t, p))
	t.Logf("%d answers and %d crash errors from %d workers", answers.Load(), crashes.Load(), len(pids))
	assert.Greater(t, answers.Load(), int64(kills))
	assert.Greater(t, crashes.Load(), int64(0))

	require.Eventually(t, func() bool { return openFiles(t) <= files }, time.Minute, 10*time.Millisecond, "file descriptors: %d before", files)
	debug.FreeOSMemory()
	// Memory for long payloads is kept for some seconds.
	if !raceDetector { // which keeps shadows of memory
		require.Eventually(t, func() bool { return resident(t) < memory+48<<20 }, time.Minute, 10*time.Millisecond, "memory: %d before", memory)
	}
	require.NoError(t, p.Close())
	for pid := range pids {
		assertGone(t, fmt.Sprint(pid))
	}
	assert.Empty(t, left(t), "shared memory with a name")
}

func eventually(t *testing.T, p *loader.Plugin) (out string) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, err := p.Call(ctx, "echo", []byte("works"))
		out = string(b)
		return err == nil
	}, time.Minute, time.Millisecond)
	return out
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func resident(t testing.TB) int { return residentOf(t, os.Getpid()) }

func residentOf(t testing.TB, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size, pages int
	_, err = fmt.Sscan(string(text), &size, &pages)
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

var ours = regexp.MustCompile(`^ferrule[0-9]{5,}$`) // as os.CreateTemp makes them

// left returns the names of what a transport might leave behind.
func left(t testing.TB) (names []string) {
	for _, dir := range []string{os.TempDir(), "/dev/shm"} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, e := range entries {
			if ours.MatchString(e.Name()) {
				names = append(names, dir+"/"+e.Name())
			}
		}
	}
	return names
}

// within fails the test when fn takes so long that it must be stuck.
func within(t testing.TB, limit time.Duration, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		panic("stuck") // with all goroutines' stacks
	}
}

// available returns how much memory there is to be had, in MiB.
func available(t testing.TB) (mib int) {
	text, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "MemAvailable:")
	require.True(t, ok)
	_, err = fmt.Sscan(rest, &mib)
	require.NoError(t, err)
	return mib >> 10
}

// processorTime returns how long all threads of a process have run.
func processorTime(t testing.TB, pid int) (d time.Duration) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(t, err)
	require.NotEmpty(t, tasks)
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		require.NoError(t, err)
		var ns int64
		_, err = fmt.Sscan(string(text), &ns)
		require.NoError(t, err)
		d += time.Duration(ns)
	}
	return d
}

// An idle worker uses no processor time, whatever was called before.
func TestIdleWorker(t *testing.T) {
	p := open(t, fixture.C(t, "fault_none"), isolate.InWorker())
	for range 1000 {
		call(t, p, "echo", "x")
	}
	isolation, _ := p.Isolation()
	// On a busy machine it takes its time to go to sleep. Who spins has no second without.
	assert.Eventually(t, func() bool {
		before := processorTime(t, isolation.PID)
		time.Sleep(time.Second)
		used := processorTime(t, isolation.PID) - before
		t.Logf("used %v in a second", used)
		return used < 10*time.Millisecond
	}, time.Minute, time.Millisecond, "spinning would be all of it")
}

// FERRULE_TEST_LARGE is how many MiB are echoed, where there is memory for eight times that.
func TestLarge(t *testing.T) {
	size := 64
	if text := os.Getenv("FERRULE_TEST_LARGE"); text != "" {
		_, err := fmt.Sscan(text, &size)
		require.NoError(t, err)
	}
	for size > 64 && available(t) < 8*size {
		size /= 2
	}
	t.Logf("%d MiB", size)
	p := open(t, fixture.C(t, "echo"), isolate.InWorker(isolate.WithMaxMessage(int64(size)<<20)))
	in := bytes.Repeat([]byte("0123456789abcdef"), size<<20/16)
	for _, name := range []string{"echo", "echo_own"} {
		out, err := p.Call(ctx, name, in)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(in, out))
	}
	f, err := p.Func("echo")
	require.NoError(t, err)
	v, err := f.View(ctx, in)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(in, v.Bytes()))
	v.Release()

	limited := open(t, fixture.C(t, "echo"), isolate.InWorker(isolate.WithMaxMessage(1<<20)))
	_, err = limited.Call(ctx, "echo", in)
	assert.ErrorIs(t, err, loader.ErrNoMemory)
	assert.ErrorContains(t, err, "WithMaxMessage")
	assert.Equal(t, "works", call(t, limited, "echo", "works"))
}
