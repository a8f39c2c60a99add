//go:build linux

package host

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// stubborn makes an engine whose first worker has these traits and does what the script says, and whose later ones answer
// everything. Nothing waits for the first one's end: that comes when the test is over.
func stubborn(t *testing.T, traits trait, steps []byte, change func(o *Options)) (*Plugin, *world) {
	t.Helper()
	w := &world{t: t, script: steps, traits: traits, later: tame, pace: 20}
	o := Options{Grace: 5 * time.Millisecond, StartTimeout: time.Second, StopTimeout: time.Second, MaxMessage: 1 << 20,
		Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 100, Suspend: time.Minute}}
	if change != nil {
		change(&o)
	}
	p := newPlugin(library, library.Path, &victim{t: t, most: 1 << 20}, o, &engine.Options{Instances: 3})
	p.run = w.start
	t.Cleanup(w.end)
	within(t, "opening", func() {
		_, err := p.launch()
		require.NoError(t, err)
	})
	return p, w
}

// soon is a context that ends soon.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// kindsOfStubborn are processes that do not end when the host wants it.
var kindsOfStubborn = map[string]trait{
	"cannot be killed": mute | unkillable,
	"cannot be reaped": mute | unreapable,
	"neither":          mute | unkillable | unreapable,
}

// A deadline is kept, and a new call served, whether the worker ends or not.
func TestDeadlineWithStubborn(t *testing.T) {
	for name, traits := range kindsOfStubborn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, w := stubborn(t, traits, script(stReceive, stReceive), nil)
			p.leftPatience = 20 * time.Millisecond // for what is there until the world ends
			beside := make(chan error, 1)
			go func() {
				_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
				beside <- err
			}()
			within(t, "a call with a deadline", func() {
				for {
					_, _, err := p.Append(soon(t), engine.Fn{Index: 1}, nil, nil)
					overrun, ok := err.(*engine.Overrun)
					if ok {
						assert.Equal(t, context.DeadlineExceeded, overrun.Cause)
						return
					}
					require.ErrorIs(t, err, context.DeadlineExceeded, "not begun")
				}
			})
			within(t, "the call beside it", func() {
				err := <-beside
				crash, ok := err.(*engine.Crash)
				if assert.True(t, ok, "%T: %v", err, err) {
					assert.Equal(t, 1, crash.Attempt)
					assert.Contains(t, crash.Reason, "killed by the host")
				}
			})
			within(t, "a new call", func() {
				out, _, err := p.Append(context.Background(), engine.Fn{}, nil, []byte("again"))
				require.NoError(t, err)
				assert.Equal(t, "again", string(out))
			})
			assert.Equal(t, 2, p.Isolation().Attempt)
			var err error
			within(t, "closing", func() { err = p.Close() })
			if assert.IsType(t, (*engine.Crash)(nil), err) {
				assert.ErrorContains(t, err, "something of it was still there")
			}
			w.end()
			w.checkGone(t, p)
		})
	}
}

// What ends a worker is not waited for by opening either: not when it fails, and not when the plug-in is closed meanwhile.
func TestOpenWithStubborn(t *testing.T) {
	for name, traits := range kindsOfStubborn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, traits: traits | hostileOpen, pace: 20}
			o := Options{StartTimeout: 20 * time.Millisecond, StopTimeout: time.Second, MaxMessage: 1 << 20}
			p := newPlugin(library, library.Path, &victim{t: t, most: 1 << 20}, o, &engine.Options{Instances: 1})
			p.run = w.start
			within(t, "opening", func() {
				_, err := p.launch()
				assert.Error(t, err)
			})
			w.end()
		})
	}
}

// A plug-in that is closed while its next worker starts does not wait for that one.
func TestCloseWhileStarting(t *testing.T) {
	p, w := stubborn(t, 0, nil, func(o *Options) { o.StartTimeout = time.Hour }) // the first one ends at once
	w.later = mute | hostileOpen
	failed := make(chan error, 1)
	within(t, "the second worker", func() {
		go func() {
			_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
			for err != nil && err != engine.ErrClosed { // in the first one
				_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
			}
			failed <- err
		}()
		for {
			p.mu.Lock()
			starts := p.opening != nil
			p.mu.Unlock()
			if starts {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	within(t, "closing", func() { assert.NoError(t, p.Close()) })
	within(t, "the call", func() { assert.Equal(t, engine.ErrClosed, <-failed) })
}

// Stopping has a bound of its own.
func TestStopTimeout(t *testing.T) {
	p, _ := stubborn(t, mute, nil, func(o *Options) { o.StartTimeout, o.StopTimeout = time.Hour, 20*time.Millisecond })
	within(t, "closing", func() { assert.ErrorContains(t, p.Close(), "WithStopTimeout") })
}

// A process that was killed may take its time to go, as on a machine that has much else to do: closing waits for it.
func TestKilledProcessTakesItsTime(t *testing.T) {
	p, w := stubborn(t, mute|unreapable, nil, nil)
	p.halt = func(*call) error { return nil } // and the process goes on
	p.exitPatience = 20 * time.Millisecond
	const longer = 1200 * time.Millisecond // than most take
	time.AfterFunc(longer, func() { w.over.Store(true) })
	within(t, "closing", func() { assert.NoError(t, p.Close()) })
	w.end()
	w.checkGone(t, p)
}

// shutdownSoon returns how p ended that is shut down with a context that ends at once: also where the machine took longer to end what was
// killed than Shutdown waits.
func shutdownSoon(t *testing.T, p *Plugin) error {
	err := p.Shutdown(soon(t))
	if late, ok := err.(*engine.Unfinished); ok {
		assert.Equal(t, &engine.Unfinished{Cause: context.DeadlineExceeded}, late)
		err = p.Shutdown(context.Background())
	}
	return err
}

// What runs in an orderly end after ferrule_stop has what is left of the time for that, and a bound of its own, and costs no error.
func TestExitPatience(t *testing.T) {
	for name, c := range map[string]struct {
		stop, exit time.Duration
		give       func(*testing.T, *Plugin) error
	}{
		"what is left":     {20 * time.Millisecond, time.Hour, func(_ *testing.T, p *Plugin) error { return p.Close() }},
		"its own bound":    {time.Hour, 20 * time.Millisecond, func(_ *testing.T, p *Plugin) error { return p.Close() }},
		"Shutdown's bound": {time.Hour, time.Hour, shutdownSoon},
	} {
		t.Run(name, func(t *testing.T) {
			p, w := stubborn(t, mute, nil, func(o *Options) { o.StopTimeout = c.stop })
			p.halt = func(*call) error { return nil } // and the process goes on
			p.exitPatience = c.exit
			within(t, "closing", func() { assert.NoError(t, c.give(t, p)) })
			w.checkGone(t, p)
		})
	}
}

// A process that the system does not get to start, because the file system of its program does not answer, holds up neither the
// launch, nor who gives up opening, nor closing: here because of a lease.
func TestLaunchHangs(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" || os.Getenv(fixture.Emulated) != "" {
		t.Skip("there are no keepers, and nothing else waits with a bound")
	}
	text, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, text, 0o755))
	held, err := os.Open(path)
	require.NoError(t, err)
	defer held.Close()
	if _, err := unix.FcntlInt(held.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("this file system has no leases: ", err)
	}
	for name, c := range map[string]struct {
		end  func(p *Plugin)
		want string
	}{
		"the time to start":         {func(*Plugin) {}, "had not started after 100ms (isolate.WithStartTimeout)"},
		"who opens gives up":        {(*Plugin).abandon, openGivenUp},
		"it is closed":              {func(p *Plugin) { _ = p.Close() }, "because the plug-in was closed"},
		"it is given up beforehand": {nil, openGivenUp},
	} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			o := Options{StartTimeout: time.Hour, StopTimeout: time.Second, MaxMessage: 1 << 20}
			if name == "the time to start" {
				o.StartTimeout = 100 * time.Millisecond
			}
			p := newPlugin(library, library.Path, &victim{t: t, most: 1 << 20}, o, &engine.Options{Instances: 1})
			library, err := native.OpenFile(fixture.C(t, "echo"), nil)
			require.NoError(t, err)
			p.file, err = library.ForWorkers(nil)
			require.NoError(t, err)
			library.Close()
			defer p.closeFile()
			p.program = executable{path: path, file: os.NewFile(uintptr(fd), path)}
			defer p.program.file.Close()
			if c.end == nil {
				p.abandon()
			}
			launched := make(chan error, 1)
			go func() {
				_, err := p.launch()
				launched <- err
			}()
			if c.end != nil {
				require.Eventually(t, func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return p.spawning != nil
				}, hang, time.Millisecond)
				time.Sleep(5 * time.Millisecond) // it may still be on its way to the system
				within(t, "the end", func() { c.end(p) })
			}
			within(t, "the launch", func() { err = <-launched })
			require.IsType(t, (*engine.Crash)(nil), err)
			assert.ErrorContains(t, err, c.want)
			assert.ErrorContains(t, err, "not started: ")
		})
	}
	require.Eventually(t, func() bool { return len(childrenOf(t)) == 0 }, hang, time.Millisecond, "something of them is left")
}

// childrenOf returns this process's children.
func childrenOf(t *testing.T) (pids []int) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		require.NoError(t, err)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Shutdown's context bounds stopping, and the calls that run.
func TestShutdown(t *testing.T) {
	forever := func(o *Options) { o.StopTimeout = time.Hour }
	t.Run("a stop that hangs", func(t *testing.T) {
		p, _ := stubborn(t, mute, nil, forever)
		within(t, "closing", func() {
			assert.ErrorContains(t, shutdownSoon(t, p), "the context of Shutdown had ended")
			assert.ErrorContains(t, p.Close(), "the context of Shutdown had ended", "the same for everybody")
		})
	})
	t.Run("a call that hangs", func(t *testing.T) {
		p, _ := stubborn(t, mute, script(stReceive), forever)
		called := make(chan error, 1)
		go func() {
			_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
			called <- err
		}()
		untilCalls(t, p, 1)
		within(t, "closing", func() { _ = p.Shutdown(soon(t)) })
		within(t, "the call", func() { assert.ErrorContains(t, <-called, "the context of Shutdown had ended") })
		within(t, "closing", func() { _ = p.Close() })
	})
	t.Run("a host function that hangs", func(t *testing.T) {
		p, _ := stubborn(t, tame, script(stReceive, stCall, 0, zero, stHonest), forever)
		release := make(chan struct{})
		p.host = &opener{victim: victim{t: t, most: 1 << 20}, function: func(context.Context, *Plugin) ([]byte, abi.Status) {
			<-release
			return nil, abi.StatusOK
		}}
		called := make(chan error, 1)
		go func() {
			_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
			called <- err
		}()
		untilCalls(t, p, 1)
		within(t, "closing", func() {
			err := p.Shutdown(soon(t))
			unfinished, ok := err.(*engine.Unfinished)
			if assert.True(t, ok, "%T: %v", err, err) {
				assert.Equal(t, engine.Unfinished{Calls: 1, Cause: context.DeadlineExceeded}, *unfinished)
			}
		})
		_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
		assert.Equal(t, engine.ErrClosed, err, "refused at once")
		close(release)
		within(t, "the rest, in the background", func() { <-called; _ = p.Close() })
	})
	t.Run("a view that is held", func(t *testing.T) {
		p, w := stubborn(t, tame, nil, forever)
		v, _, err := p.View(context.Background(), engine.Fn{}, []byte("view"))
		require.NoError(t, err)
		within(t, "closing", func() {
			assert.Equal(t, &engine.Unfinished{Views: 1, Cause: context.DeadlineExceeded}, p.Shutdown(soon(t)))
		})
		assert.Equal(t, "view", string(v.Bytes), "it can be read as long as it is held")
		v.Release()
		within(t, "the rest, in the background", func() { _ = p.Close() })
		w.checkGone(t, p)
	})
	t.Run("nothing that takes time", func(t *testing.T) {
		p, _ := stubborn(t, tame, nil, nil)
		within(t, "closing", func() { assert.NoError(t, p.Shutdown(context.Background())) })
	})
}

func untilCalls(t *testing.T, p *Plugin, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.calls == n
	}, hang, time.Millisecond)
	time.Sleep(5 * time.Millisecond) // it may still be on its way to the worker
}

// What several calls are told of one end is a value for each.
func TestErrorsOfOneEnd(t *testing.T) {
	p, _ := stubborn(t, mute, script(stReceive, stReceive), nil)
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
			errs <- err
		}()
	}
	untilCalls(t, p, 3)
	p.mu.Lock()
	w := p.worker
	p.mu.Unlock()
	w.kill("killed by the test", nil)
	seen := map[error]bool{}
	within(t, "the calls", func() {
		for range 3 {
			crash, ok := (<-errs).(*engine.Crash)
			require.True(t, ok)
			assert.Contains(t, crash.Reason, "by the test")
			crash.Reason = "mine"
			seen[crash] = true
		}
	})
	assert.Len(t, seen, 3)
	within(t, "closing", func() { _ = p.Close() })
}

// A start that failed is a word to believe when an instance had panicked.
func TestFailedRestartOfInstance(t *testing.T) {
	panics := script(stReceive, stMessage, 0, 0, int(abi.StatusPanic), zero, zero, stPost)
	failed := script(stReceive, stSay, 4, stFail, int(lane.FailedStart), startText, zero)
	require.Equal(t, int32(abi.StatusPanic), states[abi.StatusPanic])
	p, _ := stubborn(t, tame, append(panics, failed...), nil)
	within(t, "calling", func() {
		_, status, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
		require.NoError(t, err)
		assert.Equal(t, abi.StatusPanic, status)
		_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
		assert.Equal(t, &engine.StartError{Status: abi.StatusFailed, Message: "no"}, err)
	})
	within(t, "closing", func() { assert.NoError(t, p.Close()) })
}
