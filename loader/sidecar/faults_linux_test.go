package sidecar_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// hang is after how long something that must have ended is taken to hang. The machine may be busy.
const hang = 30 * time.Second

// within fails the test when fn takes so long that it must be stuck.
func within(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(hang):
		panic("stuck") // with all goroutines' stacks
	}
}

// left is what this process has now that a plug-in might leave.
func left(t testing.TB) (goroutines, files int, folders, children []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	folders, err = filepath.Glob(filepath.Join(os.TempDir(), "ferrule-sidecar-*"))
	require.NoError(t, err)
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread may have ended
		children = append(children, strings.Fields(string(text))...)
	}
	return runtime.NumGoroutine(), len(entries), folders, children
}

var warm = sync.OnceFunc(func() {
	p, err := loader.Open(os.Args[0], program("none"))
	if err == nil {
		_ = p.Close()
	}
})

// leavesNothing has the test fail that leaves a process, a goroutine, a descriptor or a folder.
func leavesNothing(t *testing.T) {
	warm() // what is there once and for all
	goroutines, files, folders, children := left(t)
	t.Cleanup(func() {
		var why string
		for end := time.Now().Add(hang / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
			g, f, d, c := left(t)
			why = ""
			switch {
			case g > goroutines:
				why = fmt.Sprintf("%d goroutines, %d before", g, goroutines)
			case f > files:
				why = fmt.Sprintf("%d descriptors, %d before", f, files)
			case len(d) > len(folders):
				why = fmt.Sprintf("folders: %v", d)
			case len(c) > len(children):
				why = fmt.Sprintf("processes: %v, %v before", c, children)
			default:
				return
			}
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("left behind: %s\n%s", why, stacks[:runtime.Stack(stacks, true)])
	})
}

// atOnce has a program of the race detector's end when it is to: it waits a second for other threads otherwise.
var atOnce = sidecar.WithEnv("GORACE=atexit_sleep_ms=0")

// program is the option for a sidecar with a defect.
func program(name string, opts ...sidecar.Option) loader.Option {
	return sidecar.Program(append([]sidecar.Option{sidecar.WithArgs("defect", name), atOnce}, opts...)...)
}

// opened opens a sidecar with a defect.
func opened(t *testing.T, name string, o []sidecar.Option, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(self(t), append(opts, program(name, o...))...)
	require.NoError(t, err)
	t.Cleanup(func() { within(t, func() { assert.NoError(t, p.Close()) }) })
	return p
}

func call(t testing.TB, p *loader.Plugin, name, in string) string {
	t.Helper()
	out, err := p.Call(ctx, name, []byte(in))
	require.NoError(t, err)
	return string(out)
}

func crash(t testing.TB, err error) *loader.CrashError {
	t.Helper()
	var e *loader.CrashError
	require.ErrorAs(t, err, &e)
	return e
}

// assertGone fails when there is a process with this number, be it a zombie.
func assertGone(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return syscall.Kill(n, 0) == syscall.ESRCH }, hang, time.Millisecond, "the process %s is still there", pid)
}

var quick = sidecar.WithGrace(50 * time.Millisecond)

// What a sidecar does wrong in a call ends it, the call says what that was, and the next one has another process.
func TestFaultsInCalls(t *testing.T) {
	for name, c := range map[string]struct {
		text   string // what the error has
		code   int    // of a sidecar that has ended by itself
		signal os.Signal
		fault  string
	}{
		"half a head":                       {text: "exit code 0", fault: "within a message"},
		"an endless head":                   {text: "rule W2 "},
		"an endless head of lines":          {text: "rule W2 "},
		"a length that is no number":        {text: `0x5.*rule W2 `},
		"a length beyond all bounds":        {text: "9000000000000 bytes.*rule W2 "},
		"a wrong id":                        {text: `DONE \d+, which has no call.*rule W7 `},
		"garbage":                           {text: `\\x00\\x01\\x02.*rule W1 `},
		"a second hello":                    {text: "HELLO from a sidecar"},
		"a status that is none":             {text: "99999999999.*rule W8 "},
		"host calls without end":            {text: "1024.*rule W11 "},
		"strays without end":                {text: "1024.*rule W11 "},
		"a piece beyond what was asked for": {text: "rule W15 "},
		"exits within a body":               {text: "exit code 3; its last line: last words", code: 3, fault: "within a message"},
		"killed within a body":              {text: "killed.*within a message", code: -1, signal: syscall.SIGKILL, fault: "within a message"},
		"exits":                             {text: "exit code 7; its last line: last words", code: 7},
		"a print":                           {text: "the line \"found 3 files\".*rule W1 "},
		"closes its output":                 {text: "had closed its standard output"},
		"host calls too large":              {text: `with \d+ bytes.*rule W11`},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			stuck := make(chan struct{})
			var opts []sidecar.Option
			if name == "host calls too large" {
				opts = append(opts, sidecar.WithMaxMessage(1<<20))
			}
			p := opened(t, name, opts, loader.WithHostFunc("host", func(ctx context.Context, in []byte) ([]byte, error) {
				<-stuck
				return in, nil
			}))
			for attempt := 1; attempt <= 3; attempt++ {
				before := call(t, p, "pid", "")
				if attempt == 1 { // until the session is over, the host function holds up its call alone
					time.AfterFunc(500*time.Millisecond, func() { close(stuck) })
				}
				within(t, func() {
					_, err := p.Call(ctx, "do", []byte("x"))
					e := crash(t, err)
					assert.Equal(t, "defect", e.Plugin)
					assert.Equal(t, "do", e.Func)
					assert.Equal(t, attempt, e.Attempt)
					assert.Regexp(t, c.text, err.Error())
					assert.Contains(t, err.Error(), "the sidecar ")
					assert.Equal(t, c.fault, e.Fault)
					assert.ErrorIs(t, err, loader.ErrCrash)
					assert.NotErrorIs(t, err, loader.ErrSuspended)
					if e.Reason == "" {
						assert.Equal(t, c.code, e.ExitCode)
						assert.Equal(t, c.signal, e.Signal)
					}
				})
				assert.Equal(t, "works", call(t, p, "echo", "works"))
				assert.NotEqual(t, before, call(t, p, "pid", ""), "a new process")
				assertGone(t, before)
			}
		})
	}
}

// A sidecar that does not answer, whatever it does instead, is ended some time after the call was to stop; and a call without a bound that has an answer has it.
func TestFaultsThatTakeForEver(t *testing.T) {
	for _, name := range []string{"no answer", "a length that is too large", "log lines without end", "large log lines without end", "progress without end", "MORE without end",
		"pieces for no stream", "BYE without end", "no answer, many"} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			stuck := make(chan struct{})
			var lines atomic.Int64
			p := opened(t, name, []sidecar.Option{quick}, loader.WithLogger(slog.New(counter{&lines})), loader.WithHostFunc("host", func(ctx context.Context, in []byte) ([]byte, error) {
				<-stuck
				return nil, nil
			}))
			before := call(t, p, "pid", "")
			own, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			var others sync.WaitGroup
			if strings.HasPrefix(name, "large log") { // others go on meanwhile
				others.Go(func() {
					for own.Err() == nil {
						out, err := p.Call(ctx, "echo", []byte("beside"))
						if err != nil {
							crash(t, err)
							return
						}
						assert.Equal(t, "beside", string(out))
					}
				})
			}
			time.AfterFunc(400*time.Millisecond, func() { close(stuck) })
			within(t, func() {
				_, err := p.Call(own, "do", nil)
				var e *loader.DeadlineError
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorIs(t, err, loader.ErrCancelled)
				assert.Contains(t, err.Error(), "(sidecar.WithGrace); its sidecar was ended")
				others.Wait()
			})
			assert.Equal(t, "works", call(t, p, "echo", "works"))
			assert.NotEqual(t, before, call(t, p, "pid", ""))
			assertGone(t, before)
			if name == "log lines without end" {
				assert.Positive(t, lines.Load())
			}
		})
	}
}

// counter is a log that counts its lines.
type counter struct{ lines *atomic.Int64 }

func (c counter) Enabled(context.Context, slog.Level) bool  { return true }
func (c counter) Handle(context.Context, slog.Record) error { c.lines.Add(1); return nil }
func (c counter) WithAttrs([]slog.Attr) slog.Handler        { return c }
func (c counter) WithGroup(string) slog.Handler             { return c }

// stop stops a process, and waits until none of its threads runs: one of them takes the signal, and has to tell the others, which may answer meanwhile.
func stop(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n, syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		threads, err := filepath.Glob("/proc/" + pid + "/task/*/stat")
		require.NoError(t, err)
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if _, state, ok := strings.Cut(string(text), ") "); err != nil || !ok || state[0] != 'T' {
				return false
			}
		}
		return len(threads) > 0
	}, hang, time.Millisecond, "the process %s is not stopped", pid)
}

// A sidecar that is stopped, or does not read, cannot be asked, and is ended in time, whatever the size of the input.
func TestFaultStopped(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			leavesNothing(t)
			p := opened(t, "none", []sidecar.Option{quick, sidecar.WithStopTimeout(100 * time.Millisecond)})
			pid := call(t, p, "pid", "")
			stop(t, pid)
			own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			within(t, func() {
				_, err := p.Call(own, "echo", make([]byte, size))
				var e *loader.DeadlineError
				require.ErrorAs(t, err, &e)
			})
			assertGone(t, pid)
			again := call(t, p, "pid", "")
			assert.NotEqual(t, pid, again)
			stop(t, again) // Close ends it all the same
			within(t, func() { require.NoError(t, p.Close()) })
			assertGone(t, again)
		})
	}
}

// An answer that came while its call was still being written does not keep a call whose context ends.
func TestFaultAnswersWithoutReading(t *testing.T) {
	leavesNothing(t)
	over := make(chan struct{})
	p := listenRaw(t, func(conn net.Conn) {
		s := &raw{in: conn, out: conn}
		s.hello(fmt.Sprintf(manifest, "1.0.0", "serial", ""))
		head := make([]byte, 4<<10)
		for n := 0; !bytes.Contains(head[:n], []byte("CALL")); { // what has come of it
			more, err := s.in.Read(head[n:])
			if err != nil {
				return
			}
			n += more
		}
		s.print("DONE 1 0\n\n")
		<-over
	}, quick, sidecar.WithStopTimeout(100*time.Millisecond))
	defer close(over)
	own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	within(t, func() { _, _ = p.Call(own, "do", make([]byte, 32<<20)) })
}

// Each call whose context ends is told so, whenever that is, beside others and beside large inputs: none waits for its grace to be over.
func TestCancelsArrive(t *testing.T) {
	for name, args := range map[string][]string{"concurrent": {"sound"}, "pinned": {"sound", "pinned"}} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs(args...), sidecar.WithGrace(time.Hour)), loader.WithInstances(len(args)))
			require.NoError(t, err)
			before := call(t, p, "pid", "")
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for i := range 60 {
						own, cancel := context.WithCancel(ctx)
						after := time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel)
						_, err := p.Call(own, "wait", make([]byte, i%10*3000))
						after.Stop()
						cancel()
						if !assert.ErrorIs(t, err, context.Canceled) || !assert.NotErrorIs(t, err, loader.ErrCrash) {
							return
						}
						out, err := p.Call(ctx, "echo", []byte("beside"))
						assert.NoError(t, err)
						assert.Equal(t, "beside", string(out))
					}
				})
			}
			within(t, wg.Wait)
			if name == "concurrent" {
				assert.Equal(t, before, call(t, p, "pid", ""))
			}
			within(t, func() { require.NoError(t, p.Close()) })
		})
	}
}

// What is wrong before a sidecar has said what it is fails Open, which says it.
func TestFaultsBeforeHello(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		timeout time.Duration
	}{
		"no hello":             {"it had not said what it is in 300ms (sidecar.WithStartTimeout)", 300 * time.Millisecond},
		"another version":      {"found version 2 of the wire, expected version 1 (rule W4 ", hang},
		"a bad manifest":       {"rule W5 ", hang},
		"half a hello":         {"exit code 4", hang},
		"a call before hello":  {"rule W16", 3 * time.Second}, // which it is to do in that time
		"exits before hello":   {"exit code 5", hang},
		"a print before hello": {`found "loading the model" on the standard output, and HELLO behind it`, hang},
		"only prints":          {`but "press any key" on the standard output (rule W16 of docs/wire.md)`, 3 * time.Second},
		"does not start":       {"its ferrule.start had not returned in 3s (sidecar.WithStartTimeout)", 3 * time.Second}, // its hello is to come in that time, too
		"exits in start":       {"exit code 3", hang},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			within(t, func() {
				_, err := loader.Open(self(t), program(name, sidecar.WithStartTimeout(c.timeout)))
				var e *loader.OpenError
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, loader.ErrStart)
				assert.Contains(t, err.Error(), c.text)
				found := crash(t, err)
				if name == "exits before hello" {
					assert.ElementsMatch(t, []string{"usage: defect NAME", "no such defect"}, found.Output)
				}
			})
		})
	}
}

// Prints of a sidecar that has taken the descriptors do no harm, however many there are, and are kept.
func TestPrintsBesideTheWire(t *testing.T) {
	leavesNothing(t)
	var all bytes.Buffer
	var mu sync.Mutex
	p := opened(t, "prints beside", []sidecar.Option{sidecar.WithOutput(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return all.Write(b)
	}))})
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	_, err := p.Call(ctx, "do", nil)
	e := crash(t, err)
	assert.Equal(t, 6, e.ExitCode)
	require.NotEmpty(t, e.Output)
	assert.Equal(t, "its last print", e.Output[len(e.Output)-1])
	assert.ErrorContains(t, err, "its last line: its last print")
	mu.Lock()
	defer mu.Unlock()
	assert.Contains(t, all.String(), "much before hello\n")
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Answers that are as they should be, though little else is.
func TestOddAnswers(t *testing.T) {
	leavesNothing(t)
	t.Run("after CANCEL", func(t *testing.T) {
		p := opened(t, "late", []sidecar.Option{sidecar.WithGrace(hang)})
		own, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		out, err := p.Call(own, "do", nil)
		require.NoError(t, err)
		assert.Equal(t, "late", string(out))
		assert.Equal(t, "works", call(t, p, "echo", "works"))
	})
	t.Run("two", func(t *testing.T) {
		for _, name := range []string{"two answers", "a length that is too small", "closes its input"} {
			p := opened(t, name, nil)
			before := call(t, p, "pid", "")
			_, err := p.Call(ctx, "do", nil)
			require.NoError(t, err, "the first of them counts")
			require.Eventually(t, func() bool { // at the latest the next call finds the fault
				now, err := p.Call(ctx, "pid", nil)
				if err != nil {
					assert.Regexp(t, "rule W7 |rule W1 |closed its standard input", crash(t, err).Error(), name)
				}
				return err == nil && string(now) != before
			}, hang, time.Millisecond)
		}
	})
	t.Run("panic", func(t *testing.T) {
		p := opened(t, "panics", nil)
		for range 10 { // none is a crash
			before := call(t, p, "pid", "")
			_, err := p.Call(ctx, "do", nil)
			assert.ErrorIs(t, err, loader.ErrPanic)
			assert.ErrorContains(t, err, "oops")
			assert.NotEqual(t, before, call(t, p, "pid", ""))
		}
	})
	t.Run("an input beyond Max-Body", func(t *testing.T) {
		p := opened(t, "small bodies", nil)
		before := call(t, p, "pid", "")
		_, err := p.Call(ctx, "echo", make([]byte, 1001))
		assert.ErrorIs(t, err, loader.ErrNoMemory)
		assert.ErrorContains(t, err, "rule W2")
		assert.Len(t, call(t, p, "echo", strings.Repeat("x", 1000)), 1000)
		assert.Equal(t, before, call(t, p, "pid", ""))
	})
}

// Host calls of which it cannot be told whose they are, or that nobody offers, are answered, and harm nobody.
func TestStrayHostCalls(t *testing.T) {
	leavesNothing(t)
	p := opened(t, "host calls for others", nil, loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
	for range 3 {
		assert.Equal(t, "7 7 3", call(t, p, "do", ""))
	}
}

// A host function that does not return while its sidecar ends holds up its own call alone.
func TestHostFunctionThatDoesNotReturn(t *testing.T) {
	leavesNothing(t)
	leave, entered := make(chan struct{}), make(chan struct{}, 1)
	p := opened(t, "a host call, and exits", nil, loader.WithInstances(2), loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	}))
	died := make(chan error)
	go func() {
		_, err := p.Call(ctx, "do", nil)
		died <- err
	}()
	<-entered
	for range 10 {
		assert.Equal(t, "works", call(t, p, "echo", "works"))
	}
	close(leave)
	assert.Equal(t, 3, crash(t, <-died).ExitCode)
	within(t, func() { assert.Equal(t, "works", call(t, p, "echo", "works")) })
}

// A host function that ends its goroutine ends its caller's, and the sidecar is not waited for.
func TestHostFunctionEndsItsGoroutine(t *testing.T) {
	leavesNothing(t)
	p := opened(t, "a host call", nil, loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) {
		switch string(in) {
		case "panic":
			panic("a host's")
		case "exit":
			runtime.Goexit()
		}
		return in, nil
	}))
	assert.Equal(t, "0 x", call(t, p, "do", "x"))
	assert.NotEqual(t, "0 ", call(t, p, "do", "panic")[:2])
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = p.Call(ctx, "do", []byte("exit"))
		t.Error("the goroutine goes on")
	}()
	within(t, func() { <-done })
	within(t, func() { assert.Equal(t, "0 x", call(t, p, "do", "x")) })
}

// Whatever a sidecar has started ends with it.
func TestChildrenEnd(t *testing.T) {
	for _, name := range []string{"a child", "20 children"} {
		for _, how := range []string{"Close", "crash"} {
			t.Run(name+", "+how, func(t *testing.T) {
				leavesNothing(t)
				p := opened(t, name, nil)
				pid := call(t, p, "pid", "")
				pids := strings.Fields(call(t, p, "do", ""))
				if how == "Close" {
					within(t, func() { require.NoError(t, p.Close()) })
				} else {
					n, err := strconv.Atoi(pid)
					require.NoError(t, err)
					require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
				}
				for _, one := range append(pids, pid) {
					assertGone(t, one)
				}
			})
		}
	}
}

// A sidecar that ends while no call runs is nobody's error; one that leaves is told that it may.
func TestEndsBetweenCalls(t *testing.T) {
	leavesNothing(t)
	p := opened(t, "none", nil)
	for range 10 { // more than the breaker allows in a row: a call has come back each time
		pid := call(t, p, "pid", "")
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
		assertGone(t, pid)
		require.Eventually(t, func() bool {
			_, err := p.Call(ctx, "echo", nil) // which may be before this process knows
			return err == nil
		}, hang, time.Millisecond)
	}
	for _, name := range []string{"leaves", "leaves within a call"} {
		p = opened(t, name, nil)
		for range 2 {
			pid := call(t, p, "pid", "")
			assert.Regexp(t, "gone soon|done after BYE", call(t, p, "do", ""))
			assertGone(t, pid) // without a further call
			assert.NotEqual(t, pid, call(t, p, "pid", ""))
			require.NoError(t, p.Configure(ctx, []byte("another"))) // which puts another one in its place, of which the same is true
		}
	}
}

// Close and Shutdown are over in time, whatever the sidecar does.
func TestStops(t *testing.T) {
	for name, line := range map[string]string{"deaf to BYE": "", "does not stop": "its ferrule.stop had not returned in 100ms", "exits in stop": "exit code 3",
		"fails in stop": `level=WARN msg="ferrule.stop: unsupported: the till stays open" plugin=defect`} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			var log bytes.Buffer
			p := opened(t, name, []sidecar.Option{sidecar.WithStopTimeout(100 * time.Millisecond)}, loader.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			pid := call(t, p, "pid", "")
			within(t, func() { require.NoError(t, p.Close()) })
			assertGone(t, pid)
			assert.Contains(t, log.String(), line)
		})
	}
	t.Run("Shutdown", func(t *testing.T) {
		leavesNothing(t)
		in := make(chan struct{})
		p := opened(t, "no answer, many", nil, loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
			in <- struct{}{}
			return nil, nil
		}))
		pid := call(t, p, "pid", "")
		errs := make(chan error)
		for range 8 {
			go func() {
				_, err := p.Call(ctx, "do", nil)
				errs <- err
			}()
		}
		for range 8 {
			<-in
		}
		own, cancel := context.WithCancel(ctx)
		cancel()
		var unfinished *loader.ShutdownError
		require.ErrorAs(t, p.Shutdown(own), &unfinished)
		assert.Equal(t, 8, unfinished.Calls)
		within(t, func() {
			for range 8 {
				err := <-errs
				assert.ErrorIs(t, err, context.Canceled)
				assert.Contains(t, crash(t, err).Reason, "the context of Shutdown had ended")
			}
			require.NoError(t, p.Close())
		})
		assertGone(t, pid)
	})
	t.Run("Close while calls run", func(t *testing.T) {
		leavesNothing(t)
		p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("sound")))
		require.NoError(t, err)
		pid := call(t, p, "pid", "")
		var wg sync.WaitGroup
		var answers atomic.Int64
		for range 64 {
			wg.Go(func() {
				for {
					out, err := p.Call(ctx, "echo", []byte("x"))
					if err != nil {
						assert.ErrorIs(t, err, loader.ErrClosed)
						return
					}
					assert.Equal(t, "x", string(out))
					answers.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return answers.Load() > 1000 }, hang, time.Millisecond)
		within(t, func() {
			assert.NoError(t, p.Close())
			wg.Wait()
		})
		assertGone(t, pid)
	})
}

// Open ends when its context does, and a call when its own does, while a sidecar is started.
func TestGivenUp(t *testing.T) {
	leavesNothing(t)
	for _, name := range []string{"no hello", "does not start"} {
		own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		within(t, func() {
			_, err := loader.OpenContext(own, self(t), program(name))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorIs(t, err, loader.ErrStart)
		})
		cancel()
	}
	once := filepath.Join(t.TempDir(), "once")
	p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("defect", "slow", once)))
	require.NoError(t, err)
	defer p.Close()
	n, err := strconv.Atoi(call(t, p, "pid", ""))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
	for range 7 { // more than the breaker allows: who gives up is no crash
		own, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err = p.Call(own, "echo", nil)
		cancel()
		if !errors.Is(err, loader.ErrCrash) { // the first one may be in the sidecar that has been killed
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorIs(t, err, loader.ErrCancelled)
		}
		assert.NotErrorIs(t, err, loader.ErrSuspended)
	}
	assert.Equal(t, "works", call(t, p, "echo", "works"))
}

// Sidecars that end one after the other are started more and more rarely, and then not for a while. One that works ends that.
func TestRestarts(t *testing.T) {
	leavesNothing(t)
	p := opened(t, "exits", []sidecar.Option{sidecar.WithRestart(time.Millisecond, 3, 300*time.Millisecond)})
	for range 2 {
		for range 3 {
			_, err := p.Call(ctx, "do", nil)
			require.NotErrorIs(t, err, loader.ErrSuspended)
			assert.Equal(t, 7, crash(t, err).ExitCode)
		}
		_, err := p.Call(ctx, "echo", nil)
		require.ErrorIs(t, err, loader.ErrSuspended)
		e := crash(t, err)
		assert.Positive(t, e.Suspended)
		assert.Contains(t, err.Error(), "the sidecar keeps crashing; the last: the sidecar ended with exit code 7")
		require.Eventually(t, func() bool { _, err := p.Call(ctx, "echo", nil); return err == nil }, hang, 5*time.Millisecond)
	}
}

// One that says something else of itself when it is started anew is not taken for the same.
func TestAnotherManifest(t *testing.T) {
	leavesNothing(t)
	once := filepath.Join(t.TempDir(), "once")
	p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("defect", "another manifest", once)))
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Call(ctx, "do", nil)
	crash(t, err)
	for range 2 {
		_, err = p.Call(ctx, "echo", nil)
		assert.ErrorIs(t, err, loader.ErrLoad)
		assert.ErrorContains(t, err, "says something else of itself")
	}
}

// listenRaw has a function be the sidecar's end of each connection, in this process.
func listenRaw(t *testing.T, fn func(net.Conn), opts ...sidecar.Option) *loader.Plugin {
	t.Helper()
	p, err := loader.Open(listeningRaw(t, fn), sidecar.Program(opts...))
	require.NoError(t, err)
	t.Cleanup(func() { within(t, func() { assert.NoError(t, p.Close()) }) })
	return p
}

// listeningRaw is listenRaw without a host: it returns the URL.
func listeningRaw(t *testing.T, fn func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fs") // t.TempDir's path may be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fn(conn)
			}()
		}
	}()
	return "unix:" + filepath.Join(dir, "s")
}

// A token that is wrong gets no answer at all, and says nothing of the right one.
func TestToken(t *testing.T) {
	leavesNothing(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	own, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() {
		assert.NoError(t, serve.Listen(own, l, serve.Go(sound), serve.Options{Token: "right-token", Grace: time.Second}))
	})
	defer served.Wait()
	defer cancel()
	at := "tcp:" + l.Addr().String()
	p, err := loader.Open(at, sidecar.Program(sidecar.WithToken("right-token")))
	require.NoError(t, err)
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	for _, opts := range [][]sidecar.Option{nil, {sidecar.WithToken("wrong-token")}} {
		within(t, func() {
			_, err = loader.Open(at, sidecar.Program(opts...))
			assert.ErrorIs(t, err, loader.ErrStart)
			assert.Contains(t, crash(t, err).Error(), "the connection to tcp:")
			assert.NotContains(t, err.Error(), "-token")
		})
	}
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	require.NoError(t, p.Close())
}

// Large inputs and outputs go both ways at once, whoever reads slowly.
func TestLargeAndSlow(t *testing.T) {
	size := 100 << 20
	if testing.Short() || raceDetector { // which takes its time for each read
		size = 16 << 20
	}
	in := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	t.Run("the sidecar reads little at a time", func(t *testing.T) {
		leavesNothing(t)
		p := opened(t, "tiny reads", nil)
		within(t, func() {
			out, err := p.Call(ctx, "echo", in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(in, out))
		})
	})
	for _, name := range []string{"none", "none by descriptors", "tiny reads"} {
		t.Run("a stream, "+name, func(t *testing.T) {
			leavesNothing(t)
			p := opened(t, name, nil)
			f, err := p.Func("flow")
			require.NoError(t, err)
			sum := sha256.New()
			within(t, func() {
				_, err := f.Stream(ctx, nil, struct{ io.Reader }{bytes.NewReader(in)}, writer(func(b []byte) (int, error) {
					for part := range len(b)/701 + 1 { // which takes its time
						sum.Write(b[part*701 : min(len(b), (part+1)*701)])
					}
					return len(b), nil
				}))
				require.NoError(t, err)
			})
			assert.Equal(t, sha256.Sum256(in), [32]byte(sum.Sum(nil)))
		})
	}
	t.Run("many at once", func(t *testing.T) {
		leavesNothing(t)
		p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("sound")), loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
		require.NoError(t, err)
		defer p.Close()
		var wg sync.WaitGroup
		for g := range 16 { // host functions, too
			wg.Go(func() {
				own := append([]byte{byte(g)}, in[:size/64]...)
				for _, name := range []string{"echo", "rounds"} {
					out, err := p.Call(ctx, name, own)
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(own, out), name)
				}
			})
		}
		within(t, wg.Wait)
	})
}

// Streams break off on each side, and the next call works.
func TestStreamsBrokenOff(t *testing.T) {
	leavesNothing(t)
	p := opened(t, "none", nil)
	f, err := p.Func("flow")
	require.NoError(t, err)
	broken := errors.New("the disk is gone")
	endless := readerFunc(func(b []byte) (int, error) { return len(b), nil })
	for name, c := range map[string]struct {
		r     io.Reader
		w     io.Writer
		check func(error)
	}{
		"the reader":  {io.MultiReader(strings.NewReader("some"), readerFunc(func([]byte) (int, error) { return 0, broken })), io.Discard, func(err error) { assert.ErrorIs(t, err, broken) }},
		"the writer":  {endless, writer(func([]byte) (int, error) { return 0, broken }), func(err error) { assert.ErrorIs(t, err, broken) }},
		"the sidecar": {io.MultiReader(strings.NewReader("exit"), endless), io.Discard, func(err error) { assert.Equal(t, 3, crash(t, err).ExitCode) }},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func() {
				_, err := f.Stream(ctx, nil, c.r, c.w)
				require.Error(t, err)
				c.check(err)
			})
			var all bytes.Buffer
			_, err := f.Stream(ctx, nil, strings.NewReader("works"), &all)
			require.NoError(t, err)
			assert.Equal(t, "works", all.String())
		})
	}
	t.Run("the context", func(t *testing.T) {
		own, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		within(t, func() {
			_, err := f.Stream(own, nil, endless, io.Discard)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
		assert.Equal(t, "works", call(t, p, "echo", "works"))
	})
}

// Pieces of an output that come before their call, and for a call that is over, are dropped, and are none of what that call may have (rule W15); those that come in one with
// its end are all there.
func TestPartsBesideTheirCall(t *testing.T) {
	leavesNothing(t)
	piece := func(id uint64, body string) string {
		return fmt.Sprintf("PART %d\nContent-Length: %d\n\n%s", id, len(body), body)
	}
	full := strings.Repeat("o", wire.Window)
	over := make(chan error, 8)
	p := listenRaw(t, func(conn net.Conn) {
		over <- func() error {
			r, m := wire.NewReader(conn, 1<<20), wire.Message{}
			about := fmt.Sprintf(manifest, "1.0.0", "serial", "")
			text := fmt.Sprintf("HELLO 1\nContent-Length: %d\n\n%s", len(about), about)
			for before := uint64(0); ; before = m.ID {
				if _, err := io.WriteString(conn, text); err != nil {
					return err
				}
				for m.Verb = 0; m.Verb != wire.Call; {
					if err := r.Next(&m); err != nil {
						return err
					}
					if err := r.Skip(); err != nil {
						return err
					}
				}
				text = fmt.Sprintf("DONE %d 0\n\n", m.ID)
				if m.Stream != 0 {
					text = piece(before, full) + piece(m.ID, full) + text
				}
				for _, id := range []uint64{m.ID, m.ID + 2} { // of the one that is over, and of one that is called when the next one is
					text += piece(id, full) + fmt.Sprintf("MORE %d 1\n\nPART %d\n\n", id, id)
				}
			}
		}()
	})
	f, err := p.Func("flow")
	require.NoError(t, err)
	for n := range 20 {
		call(t, p, "do", "")
		var out bytes.Buffer
		within(t, func() { _, err = f.Stream(ctx, nil, nil, &out) })
		require.NoError(t, err, n)
		assert.True(t, full == out.String(), "%d bytes", out.Len())
	}
	within(t, func() { require.NoError(t, p.Close()) })
	assert.ErrorIs(t, <-over, io.EOF)
}

// A sidecar whose pieces are as long as the window can send the next one once all that came was used, whatever it had sent before (rule W15).
func TestPiecesAsLongAsTheWindow(t *testing.T) {
	leavesNothing(t)
	over := make(chan error, 8)
	p := listenRaw(t, func(conn net.Conn) {
		over <- func() error {
			r, m := wire.NewReader(conn, 1<<20), wire.Message{}
			about := fmt.Sprintf(manifest, "1.0.0", "serial", "")
			if _, err := fmt.Fprintf(conn, "HELLO 1\nContent-Length: %d\n\n%s", len(about), about); err != nil {
				return err
			}
			for credit, id, pieces := uint64(0), uint64(0), 0; ; {
				if err := r.Next(&m); err != nil {
					return err
				}
				if err := r.Skip(); err != nil {
					return err
				}
				text := ""
				switch m.Verb {
				case wire.Call:
					credit, id, pieces = wire.Window-1, m.ID, 4
					text = fmt.Sprintf("PART %d\nContent-Length: 1\n\nx", id)
				case wire.More:
					if credit += m.N; credit < wire.Window || m.ID != id {
						continue
					}
					credit -= wire.Window
					text = fmt.Sprintf("PART %d\nContent-Length: %d\n\n%s", id, wire.Window, strings.Repeat("x", wire.Window))
					if pieces--; pieces == 0 {
						text += fmt.Sprintf("DONE %d 0\n\n", id)
					}
				}
				if _, err := io.WriteString(conn, text); err != nil {
					return err
				}
			}
		}()
	})
	f, err := p.Func("flow")
	require.NoError(t, err)
	for range 3 {
		var out bytes.Buffer
		within(t, func() { _, err = f.Stream(ctx, nil, nil, &out) })
		require.NoError(t, err)
		assert.Equal(t, 1+4*wire.Window, out.Len())
	}
	within(t, func() { require.NoError(t, p.Close()) })
	assert.ErrorIs(t, <-over, io.EOF)
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(b []byte) (int, error) { return r(b) }

// A session is a process of its own, and lost with it; views and batches are as with any engine.
func TestSessionsViewsBatches(t *testing.T) {
	leavesNothing(t)
	p, beside := opened(t, "exits", nil), opened(t, "exits", nil)
	own, theirs := call(t, p, "pid", ""), call(t, beside, "pid", "")
	assert.NotEqual(t, own, theirs, "another plug-in has a process of its own")
	s, err := p.NewSession(ctx, nil)
	require.NoError(t, err)
	other, err := s.Call(ctx, "pid", nil)
	require.NoError(t, err)
	assert.NotEqual(t, own, string(other))
	_, err = s.Call(ctx, "do", nil)
	assert.Equal(t, 7, crash(t, err).ExitCode)
	_, err = s.Call(ctx, "echo", nil)
	assert.ErrorIs(t, err, loader.ErrLost)
	assert.NoError(t, s.Close())
	assertGone(t, string(other))
	assert.Equal(t, own, call(t, p, "pid", ""), "nobody else notices")

	f, err := p.Func("echo")
	require.NoError(t, err)
	view, err := f.View(ctx, []byte("seen"))
	require.NoError(t, err)
	_, err = p.Call(ctx, "do", nil)
	crash(t, err)
	assert.Equal(t, "seen", string(view.Bytes()), "also when its sidecar has ended")
	view.Release()

	var b loader.Batch
	require.NoError(t, f.Batch(ctx, [][]byte{[]byte("one"), nil, []byte("three")}, &b))
	do, err := p.Func("do")
	require.NoError(t, err)
	err = do.Batch(ctx, [][]byte{nil, nil}, &b)
	assert.Equal(t, 7, crash(t, err).ExitCode)
	assert.Equal(t, "works", call(t, p, "echo", "works"))
	assert.Equal(t, theirs, call(t, beside, "pid", ""), "nor does another plug-in")
}

// Plug-ins that are reached at one URL have a session each, and one that ends, or breaks the wire, ends its own calls alone.
func TestSessionsOfOneURL(t *testing.T) {
	leavesNothing(t)
	url := peer(t, "", plain, func(n int64, s *raw, m message) bool {
		if m.Verb != wire.Call {
			return true
		}
		switch {
		case m.name == "echo":
			s.done(m.ID, strconv.AppendInt(nil, n, 10))
		case string(m.body) == "breaks":
			s.print("no message\n\n")
		default:
			return false
		}
		return true
	})
	open := func() *loader.Plugin {
		p, err := loader.Open(url, sidecar.Program())
		require.NoError(t, err)
		t.Cleanup(func() { within(t, func() { assert.NoError(t, p.Close()) }) })
		return p
	}
	p, beside := open(), open()
	theirs := call(t, beside, "echo", "")
	for _, how := range []string{"ends", "breaks"} {
		own := call(t, p, "echo", "")
		assert.NotEqual(t, theirs, own)
		_, err := p.Call(ctx, "do", []byte(how))
		assert.Error(t, err, how)
		assert.NotEqual(t, own, call(t, p, "echo", ""), how)
		assert.Equal(t, theirs, call(t, beside, "echo", ""), "nobody else notices")
	}
}

const script = `#!/usr/bin/env python3
import os, sys
manifest = b'{"name":"script","version":"1","functions":{"say":{}}}'
out, read = sys.stdout.buffer, sys.stdin.buffer
out.write(b"HELLO 1\nContent-Length: %d\n\n%s" % (len(manifest), manifest))
out.flush()
while True:
    head = []
    while not head or head[-1]:
        line = read.readline()
        if not line or line == b"BYE\n":
            sys.exit(0)
        head.append(line[:-1])
    words = head[0].split()
    if words[0] == b"CALL":
        said = " ".join(["WORD", os.environ.get("SAID", ""), os.environ.get("SECRET", ""), *sys.argv[1:]]).encode()
        out.write(b"DONE %s 0\nContent-Length: %d\n\n%s" % (words[1], len(said), said))
        out.flush()
`

// What is run is what was looked at, where a digest is given; and a script is run as its first line, or an option, says.
func TestScripts(t *testing.T) {
	fixture.Tool(t, "python3", "apt-get install python3")
	leavesNothing(t)
	t.Setenv("SECRET", "secret")
	dir := t.TempDir()
	write := func(name, word string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(script, "WORD", word, 1)), mode))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	open := func(path string, opts ...any) (*loader.Plugin, error) {
		var all []loader.Option
		own := []sidecar.Option{sidecar.WithArgs("a b", "c")}
		for _, o := range opts {
			switch o := o.(type) {
			case loader.Option:
				all = append(all, o)
			case sidecar.Option:
				own = append(own, o)
			}
		}
		return loader.Open(path, append(all, sidecar.Program(own...))...)
	}
	say := func(p *loader.Plugin, err error) string {
		t.Helper()
		require.NoError(t, err)
		defer func() { assert.NoError(t, p.Close()) }()
		return call(t, p, "say", "")
	}
	path := write("runs", "first", 0o755)
	assert.Equal(t, "first   a b c", say(open(path)), "nothing of this process's environment")
	assert.Equal(t, "first env  a b c", say(open(path, sidecar.WithEnv("SAID=env"))))

	plain := write("plain", "plain", 0o644)
	_, err := open(plain)
	assert.ErrorIs(t, err, loader.ErrRead)
	assert.ErrorContains(t, err, "WithInterpreter")
	assert.Equal(t, "plain   a b c", say(open(plain, sidecar.WithInterpreter("python3", "-E"))))
	chooser := filepath.Join(dir, "chooser") // an interpreter that is a script, and one that is run by such a one
	require.NoError(t, os.WriteFile(chooser, []byte("#!/bin/sh -e\nexec python3 \"$@\"\n"), 0o755))
	assert.Equal(t, "plain   a b c", say(open(plain, sidecar.WithInterpreter(chooser))))
	chosen := filepath.Join(dir, "chosen")
	require.NoError(t, os.WriteFile(chosen, []byte("#!"+chooser+"\n"+strings.Replace(script, "WORD", "chosen", 1)), 0o755))
	assert.Equal(t, "chosen   a b c", say(open(chosen)))
	itself := filepath.Join(dir, "itself")
	require.NoError(t, os.WriteFile(itself, []byte("#!"+itself+"\n"), 0o755))
	_, err = open(itself)
	assert.ErrorIs(t, err, loader.ErrRead)
	assert.ErrorContains(t, err, "5 scripts")
	nowhere := filepath.Join(dir, "nowhere")
	require.NoError(t, os.WriteFile(nowhere, []byte("#!/no/such/interpreter\n"), 0o755))
	_, err = open(nowhere)
	assert.ErrorIs(t, err, loader.ErrRead)
	assert.ErrorContains(t, err, "no program at /no/such/interpreter")
	_, err = open(plain, sidecar.WithInterpreter("no-such-interpreter"))
	assert.ErrorIs(t, err, loader.ErrOption)
	t.Chdir(dir)
	assert.Equal(t, "first   a b c", say(open("./runs")))
	assert.Equal(t, "first   a b c", say(open("runs")))

	digest := func(path string) string {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	expected := digest(path)
	p, err := open(path, loader.WithSHA256(expected))
	require.NoError(t, err)
	write("runs", "second", 0o755)
	s, err := p.NewSession(ctx, nil) // which starts what is there now
	require.NoError(t, err)
	out, err := s.Call(ctx, "say", nil)
	require.NoError(t, err)
	assert.Equal(t, "first   a b c", string(out))
	_, _, folders, _ := left(t)
	assert.NotEmpty(t, folders)
	require.NoError(t, s.Close())
	require.NoError(t, p.Close())
	_, _, after, _ := left(t)
	assert.Less(t, len(after), len(folders), "the copy is removed")
	_, err = open(path, loader.WithSHA256(expected))
	assert.ErrorIs(t, err, loader.ErrDigest)
	assert.Equal(t, "second   a b c", say(open(path)))
}

// Goroutines call while sidecars are killed at random moments: every call ends, in its own answer or a typed error, and nothing is left behind.
// FERRULE_TEST_KILLS sets how many are killed; without it there is a bound of time as well.
func TestKilledUnderLoad(t *testing.T) {
	kills, bound := 100, 10*time.Second
	if testing.Short() {
		kills = 20
	}
	if text := os.Getenv("FERRULE_TEST_KILLS"); text != "" {
		_, err := fmt.Sscan(text, &kills)
		require.NoError(t, err)
		bound = time.Hour
	}
	for name, args := range map[string][]string{"one at a time": {"defect", "none by descriptors"}, "many in one process": {"sound"}} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs(args...), sidecar.WithRestart(time.Millisecond, 1000000, time.Second)),
				loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }))
			require.NoError(t, err)
			var stop atomic.Bool
			var answers, crashes atomic.Int64
			var wg sync.WaitGroup
			pids := make(chan string, 1)
			for g := range 64 {
				wg.Go(func() {
					var dst []byte
					for i := 0; !stop.Load(); i++ {
						size := rand.IntN(200)
						if i%50 == 0 {
							size = 1 << rand.IntN(21)
						}
						in := append(fmt.Appendf(nil, "%d of %d:", i, g), bytes.Repeat([]byte{byte('a' + g%26)}, size)...)
						names := []string{"echo", "echo", "pid"}
						if args[0] == "sound" {
							names[0] = "rounds"
						}
						name := names[rand.IntN(3)]
						f, err := p.Func(name)
						if !assert.NoError(t, err) {
							return
						}
						out, err := f.Append(ctx, dst[:0], in)
						switch {
						case err != nil:
							crashes.Add(1)
							var e *loader.CrashError
							if !assert.ErrorAs(t, err, &e) || !assert.Zero(t, e.Suspended) {
								return
							}
							continue
						case name == "pid":
							select {
							case pids <- string(out):
							default:
							}
						case !assert.True(t, bytes.Equal(in, out), "another's bytes"):
							return
						}
						answers.Add(1)
						dst = out
					}
				})
			}
			killed, seen := 0, map[string]time.Time{} // the system gives numbers of processes again
			for end := time.Now().Add(bound); killed < kills && time.Now().Before(end); {
				var pid string
				within(t, func() { pid = <-pids })
				if at, ok := seen[pid]; ok && time.Since(at) < 5*time.Second {
					continue
				}
				seen[pid] = time.Now()
				time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
				n, err := strconv.Atoi(pid)
				require.NoError(t, err)
				require.NoError(t, syscall.Kill(n, syscall.SIGKILL))
				killed++
			}
			stop.Store(true)
			within(t, wg.Wait)
			require.Eventually(t, func() bool {
				out, err := p.Call(ctx, "echo", []byte("works"))
				return err == nil && string(out) == "works"
			}, hang, time.Millisecond)
			t.Logf("%d answers and %d crash errors, %d killed", answers.Load(), crashes.Load(), killed)
			assert.Greater(t, answers.Load(), int64(killed))
			assert.Positive(t, crashes.Load())
			within(t, func() { require.NoError(t, p.Close()) })
			for pid := range seen {
				assertGone(t, pid)
			}
		})
	}
}

// The error of a crash says how many calls of others were in the sidecar, any of which may be why.
func TestCrashCountsOthers(t *testing.T) {
	leavesNothing(t)
	for _, n := range []int{0, 3} {
		entered := make(chan struct{}, n)
		p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("crowd")), loader.WithHostFunc("entered", func(context.Context, []byte) ([]byte, error) {
			entered <- struct{}{}
			return nil, nil
		}))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				_, err := p.Call(ctx, "wait", nil)
				assert.Equal(t, n, crash(t, err).Others)
			})
		}
		for range n {
			<-entered
		}
		_, err = p.Call(ctx, "exit", nil)
		assert.Equal(t, n, crash(t, err).Others)
		if n > 0 {
			assert.ErrorContains(t, err, "; 3 other calls in it")
		} else {
			assert.NotContains(t, err.Error(), "other call")
		}
		wg.Wait()
		require.NoError(t, p.Close())
	}
}

// crowd is a sidecar in which several calls are at a time: those that wait, until one ends it.
func init() {
	modes["crowd"] = func([]string) {
		plugin := &builtin.Plugin{Name: "crowd", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"entered"}, Funcs: []builtin.Function{
			{Name: "wait", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				if _, err := builtin.Import(ctx, "entered", in); err != nil {
					return nil, err
				}
				select {}
			}},
			{Name: "exit", Call: func(context.Context, []byte) ([]byte, error) { os.Exit(3); return nil, nil }},
		}}
		if err := serve.Stdio(ctx, serve.Go(plugin)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
