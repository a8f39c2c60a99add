package isolate_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// runs reports whether there is a process with this number.
func runs(pid int) bool {
	handle, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(handle)
	event, err := windows.WaitForSingleObject(handle, 0)
	return err == nil && event == uint32(windows.WAIT_TIMEOUT)
}

// Each fault ends the worker, what calls get says how, and the next call works.
func TestFaults(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the Go runtime ends the worker itself here, with exit code 2")
	}
	beside := open(t, fixture.C(t, "fault_none"), isolate.InWorker())
	besidePID := call(t, beside, "pid", "")
	for _, c := range []struct {
		fixture string
		code    uint32
		words   string
		stderr  string
		arch    string // the only architecture where it is a fault like that
	}{
		{fixture: "fault_sigsegv", code: 0xc0000005, words: "ended by an access violation (exit code 0xc0000005)"},
		{fixture: "fault_sigfpe", code: 0xc0000094, words: "an integer division by zero", arch: "amd64"},
		{fixture: "fault_sigill", code: 0xc000001d, words: "an illegal instruction", arch: "amd64"},
		{fixture: "fault_stack_overflow", code: 0xc00000fd, words: "a stack overflow"},
		{fixture: "fault_exit_zero", code: 0},
		{fixture: "fault_exit_code", code: 7},
		{fixture: "fault_abort", code: 3, stderr: "last words"}, // as msvcrt's abort ends a process
	} {
		t.Run(c.fixture, func(t *testing.T) {
			if c.arch != "" && c.arch != runtime.GOARCH {
				t.Skip("no such fault on this architecture")
			}
			if c.fixture == "fault_stack_overflow" && windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
				t.Skip("Wine ends the thread, and the process goes on")
			}
			p := open(t, fixture.C(t, c.fixture), isolate.InWorker())
			for attempt := 1; attempt <= 2; attempt++ {
				before, err := strconv.Atoi(call(t, p, "pid", ""))
				require.NoError(t, err)
				_, err = p.Call(ctx, "fault", nil)
				e := crash(t, err)
				assert.Equal(t, "fault", e.Func)
				assert.Equal(t, attempt, e.Attempt)
				assert.Nil(t, e.Signal)
				assert.Equal(t, c.code, uint32(e.ExitCode))
				if c.words == "" {
					assert.Empty(t, e.Reason)
				}
				assert.Contains(t, e.Reason, c.words)
				assert.Contains(t, strings.Join(e.Output, "\n"), c.stderr)
				assert.Equal(t, "works", call(t, p, "echo", "works"))
				assert.NotEqual(t, fmt.Sprint(before), call(t, p, "pid", ""), "a new worker")
				assert.False(t, runs(before))
			}
		})
	}
	assert.Equal(t, besidePID, call(t, beside, "pid", ""), "the plug-in beside it has its worker still")
}

// The worker is ended from outside; memory that was added for long payloads goes with it, and is added to the next one.
func TestKilled(t *testing.T) {
	p := open(t, fixture.C(t, "fault_none"), isolate.InWorker())
	long := bytes.Repeat([]byte("x"), 5<<20)
	for range 3 {
		out, err := p.Call(ctx, "echo", long)
		require.NoError(t, err)
		require.True(t, bytes.Equal(long, out))
		isolation, _ := p.Isolation()
		require.True(t, runs(isolation.PID))
		handle, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(isolation.PID))
		require.NoError(t, err)
		require.NoError(t, windows.TerminateProcess(handle, 123))
		require.NoError(t, windows.CloseHandle(handle))
		require.Eventually(t, func() bool {
			_, err = p.Call(ctx, "echo", long)
			return err == nil || assert.Equal(t, 123, crash(t, err).ExitCode)
		}, time.Minute, time.Millisecond)
		call(t, p, "echo", "works")
		require.False(t, runs(isolation.PID))
	}
}

// Goroutines call with short and long payloads while workers are ended: every call ends in its own answer or a typed
// error, and no handles are left behind on either side.
func TestKilledUnderLoad(t *testing.T) {
	p := open(t, fixture.C(t, "fault_none"), loader.WithLogger(quiet),
		isolate.InWorker(isolate.WithRestart(time.Millisecond, 1000000, time.Second)))
	call(t, p, "echo", "")
	before := openHandles(t)
	var stop atomic.Bool
	var answers, crashes atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				size := rand.IntN(200)
				if i%10 == 0 {
					size = 1 << rand.IntN(23)
				}
				in := append(fmt.Appendf(nil, "%d of %d:", i, g), bytes.Repeat([]byte{byte('a' + g)}, size)...)
				out, err := p.Call(ctx, "echo", in)
				if err == nil {
					answers.Add(1)
					if !assert.True(t, bytes.Equal(in, out), "another's bytes") {
						return
					}
					continue
				}
				crashes.Add(1)
				var e *loader.CrashError
				if !assert.ErrorAs(t, err, &e) {
					return
				}
			}
		})
	}
	const kills = 20
	for killed, last := 0, 0; killed < kills; {
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		isolation, _ := p.Isolation()
		if isolation.PID == 0 || isolation.Attempt == last {
			continue
		}
		if handle, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(isolation.PID)); err == nil {
			_ = windows.TerminateProcess(handle, 123)
			_ = windows.CloseHandle(handle)
			last = isolation.Attempt
			killed++
		}
	}
	stop.Store(true)
	wg.Wait()
	require.Eventually(t, func() bool {
		_, err := p.Call(ctx, "echo", nil)
		return err == nil
	}, time.Minute, time.Millisecond)
	t.Logf("%d answers and %d crash errors", answers.Load(), crashes.Load())
	assert.Greater(t, answers.Load(), int64(kills))
	assert.Greater(t, crashes.Load(), int64(0))
	// The Go runtime keeps some for each thread that it has had.
	const threads = 5 * 40
	t.Logf("handles: %d before, %d now", before, openHandles(t))
	require.Eventually(t, func() bool { return openHandles(t) <= before+threads }, time.Minute, 10*time.Millisecond,
		"handles: %d before, %d now", before, openHandles(t))
}

// openHandles returns how many handles this process has.
func openHandles(t testing.TB) uint32 {
	t.Helper()
	buf := make([]uint64, 1<<17)
	size := uint32(len(buf) * 8)
	require.NoError(t, windows.NtQuerySystemInformation(windows.SystemProcessInformation, unsafe.Pointer(&buf[0]), size, &size))
	for at := uintptr(0); ; {
		p := (*windows.SYSTEM_PROCESS_INFORMATION)(unsafe.Add(unsafe.Pointer(&buf[0]), at))
		if int(p.UniqueProcessID) == os.Getpid() {
			require.NotZero(t, p.HandleCount)
			return p.HandleCount
		}
		require.NotZero(t, p.NextEntryOffset)
		at += uintptr(p.NextEntryOffset)
	}
}

// What the host has killed looks as it does elsewhere.
func TestKilledByTheHost(t *testing.T) {
	p := open(t, fixture.C(t, "fault_infinite_loop"), isolate.InWorker(isolate.WithGrace(20*time.Millisecond)))
	limited, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	beside := make(chan error)
	go func() {
		_, err := p.Call(ctx, "fault", nil)
		beside <- err
	}()
	_, err := p.Call(limited, "fault", nil)
	var e *loader.DeadlineError
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	other := crash(t, <-beside)
	assert.Equal(t, os.Kill, other.Signal)
	assert.Equal(t, -1, other.ExitCode)
	assert.Contains(t, other.Reason, "killed by the host")
	assert.Equal(t, "works", call(t, p, "echo", "works"))
}

func TestLayers(t *testing.T) {
	p := open(t, fixture.C(t, "fault_none"), isolate.InWorker())
	isolation, ok := p.Isolation()
	require.True(t, ok)
	assert.Equal(t, []string{"own job", "own handles", "no console", "dies with the host", "empty environment but SYSTEMROOT"}, isolation.Layers)
	p = open(t, fixture.C(t, "fault_none"), isolate.InWorker(isolate.WithEnv("A=1")))
	isolation, _ = p.Isolation()
	assert.NotContains(t, isolation.Layers, "empty environment but SYSTEMROOT")
}

// The host is ended: its workers, busy and idle, are gone within a second.
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
	isolation, _ := p.Isolation()
	fmt.Printf("worker %d\n", isolation.PID)
	_, _ = p.Call(ctx, fn, nil)
	time.Sleep(time.Minute)
}

// Long payloads in both directions, and in those of host functions, whose memory comes and goes.
func TestHostFunction(t *testing.T) {
	p := open(t, fixture.C(t, "host"), isolate.InWorker(), loader.WithLogger(quiet),
		loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }),
		loader.WithHostFunc("again", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	for _, size := range []int{1, 100, 70_000, 3 << 20, 10, 5 << 20, 100 << 10, 1} {
		in := bytes.Repeat([]byte("a"), size)
		out, err := p.Call(ctx, "upper", in)
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.ToUpper(in), out), size)
	}
}
