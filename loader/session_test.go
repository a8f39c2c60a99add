package loader_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func session(t testing.TB, p *loader.Plugin, config []byte) *loader.Session {
	t.Helper()
	s, err := p.NewSession(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func inSession(t testing.TB, s *loader.Session, name, in string) string {
	t.Helper()
	out, err := s.Call(ctx, name, []byte(in))
	require.NoError(t, err)
	return string(out)
}

// Each session is an instance of its own, beside those of the plug-in, with settings of its own.
func TestSession(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"services", "services_serial", "services_pinned"} {
			p := w.open(t, fixture.C(t, name), needed, loader.WithConfig([]byte("the plug-in's")))
			a, b, c := session(t, p, []byte("a")), session(t, p, nil), session(t, p, []byte{})
			assert.Equal(t, "a", inSession(t, a, "config", ""))
			assert.Equal(t, "the plug-in's", inSession(t, b, "config", ""))
			assert.Equal(t, "", inSession(t, c, "config", ""))
			for i := range 5 {
				for n, s := range []*loader.Session{a, b, c} {
					for range n + 1 {
						inSession(t, s, "add", "")
					}
				}
				assert.Equal(t, strconv.Itoa(i+1), call(t, p, "add", ""))
			}
			assert.Equal(t, []string{"6", "11", "16"}, []string{inSession(t, a, "add", ""), inSession(t, b, "add", ""), inSession(t, c, "add", "")})
			numbers := map[string]bool{call(t, p, "info", "instance"): true}
			for _, s := range []*loader.Session{a, b, c} {
				numbers[inSession(t, s, "info", "instance")] = true
				assert.Same(t, p, s.Plugin())
			}
			assert.Len(t, numbers, 4, "each has its number")
			h, err := a.Hook("pass")
			require.NoError(t, err)
			_, err = h.Call(ctx, nil)
			assert.ErrorIs(t, err, loader.ErrPass)
			_, err = a.Func("pass_")
			assert.ErrorIs(t, err, loader.ErrNoFunc)
			_, err = a.Hook("add")
			assert.ErrorIs(t, err, loader.ErrNoHook)
		}
	})
}

// Sessions begin and end while others call, and none ever meets another's instance.
func TestSessionsAtOnce(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "services_serial"), needed)
		var all sync.WaitGroup
		for user := range 16 {
			all.Go(func() {
				for round := range w.rounds(10, 3) {
					mine := fmt.Sprintf("user %d in round %d", user, round)
					s, err := p.NewSession(ctx, []byte(mine))
					if !assert.NoError(t, err) {
						return
					}
					for i := range 50 {
						out, err := s.Call(ctx, "config", nil)
						assert.NoError(t, err)
						assert.Equal(t, mine, string(out))
						out, err = s.Call(ctx, "add", nil)
						assert.NoError(t, err)
						assert.Equal(t, strconv.Itoa(i+1), string(out))
					}
					assert.NoError(t, s.Close())
					_, err = s.Call(ctx, "config", nil)
					assert.ErrorIs(t, err, loader.ErrClosed)
				}
			})
		}
		all.Wait()
	})
}

// A session whose instance panicked is lost, and says so; it is not started anew in silence. Others go on.
func TestSessionLost(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		s, other := session(t, p, nil), session(t, p, nil)
		assert.Equal(t, "1", inSession(t, s, "add", ""))
		assert.Equal(t, "1", inSession(t, other, "add", ""))
		_, err := s.Call(ctx, "panic", nil)
		require.ErrorIs(t, err, loader.ErrPanic)
		for range 3 {
			_, err = s.Call(ctx, "add", nil)
			require.ErrorIs(t, err, loader.ErrLost)
			var usage *loader.UsageError
			require.ErrorAs(t, err, &usage)
			assert.Equal(t, "add", usage.Func)
		}
		assert.Equal(t, "2", inSession(t, other, "add", ""))
		assert.Equal(t, "1", call(t, p, "add", ""))
	})
}

// The worker of a session ends: the session is lost, and is not silently another one, while the plug-in goes on in the next worker.
func TestSessionCrashes(t *testing.T) {
	p := openServices(t, isolated)
	s := session(t, p, nil)
	assert.Equal(t, "1", inSession(t, s, "add", ""))
	_, err := s.Call(ctx, "crash", nil)
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	for range 3 {
		assert.Equal(t, "0 1 2", call(t, p, "ordinals", ""))
		_, err = s.Call(ctx, "add", nil)
		require.ErrorIs(t, err, loader.ErrLost)
	}
	assert.NoError(t, s.Close())
	assert.Equal(t, "1", inSession(t, session(t, p, nil), "add", ""), "a new one begins anew")
	_, err = p.Call(ctx, "crash", nil)
	require.ErrorAs(t, err, &crash)
}

// A session does not start where ferrule_start fails, its context has ended, or the plug-in is closed; the plug-in's Close ends sessions.
func TestSessionStartsAndEnds(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p, err := w.try(fixture.C(t, "services"), needed)
		require.NoError(t, err)
		_, err = p.NewSession(ctx, []byte("fails"))
		require.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorContains(t, err, "as it was told")
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err = p.NewSession(ended, nil)
		assert.ErrorIs(t, err, context.Canceled)
		//lint:ignore SA1012 it is what is tested
		_, err = p.NewSession(nil, nil)
		assert.ErrorIs(t, err, loader.ErrNilContext)

		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		f, err := s.Func("progress") // takes a while
		require.NoError(t, err)
		running := make(chan error, 1)
		go func() {
			_, err := f.Call(ctx, nil)
			running <- err
		}()
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, p.Close())
		require.NoError(t, <-running, "Close waits for what runs in a session")
		_, err = s.Call(ctx, "add", nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
		assert.NoError(t, s.Close())
		_, err = p.NewSession(ctx, nil)
		assert.ErrorIs(t, err, loader.ErrClosed)
	})
}

// New settings are taken by all instances or by none (R28); what starts later gets what was accepted last.
func TestConfigure(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "services_serial"), needed, loader.WithConfig([]byte("first")), loader.WithInstances(3))
		before := session(t, p, nil)
		everywhere := func(want string) {
			t.Helper()
			var all sync.WaitGroup
			for range 12 {
				all.Go(func() { assert.Equal(t, want, call(t, p, "config", "")) })
			}
			all.Wait()
		}
		everywhere("first")
		config := []byte("second")
		require.NoError(t, p.Configure(ctx, config))
		config[0] = 'X'
		everywhere("second")
		for _, refused := range []string{"refused", "not 0", "not 1", "not 2"} {
			err := p.Configure(ctx, []byte(refused))
			require.ErrorIs(t, err, loader.ErrInvalid, refused)
			var call *loader.CallError
			require.ErrorAs(t, err, &call)
			assert.Equal(t, "ferrule_configure", call.Func)
			assert.NotEmpty(t, call.Message)
			everywhere("second")
		}
		assert.Equal(t, "first", inSession(t, before, "config", ""), "a session keeps its own")
		assert.Equal(t, "second", inSession(t, session(t, p, nil), "config", ""))
		_, err := p.Call(ctx, "panic", nil)
		require.ErrorIs(t, err, loader.ErrPanic)
		everywhere("second")
	})
}

// Under load, every call sees one of the settings, whole, and none fails.
func TestConfigureUnderLoad(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"services", "services_serial", "services_pinned"} {
			p := w.open(t, fixture.C(t, name), needed, loader.WithConfig([]byte("0")), loader.WithInstances(2))
			var done atomic.Bool
			var least atomic.Int64
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for !done.Load() {
						from := least.Load()
						out, err := p.Call(ctx, "config", nil)
						if !assert.NoError(t, err) {
							return
						}
						n, err := strconv.ParseInt(string(out), 10, 64)
						assert.NoError(t, err)
						assert.GreaterOrEqual(t, n, from, "settings that were replaced before the call began")
					}
				})
			}
			for i := range w.rounds(200, 50) {
				require.NoError(t, p.Configure(ctx, []byte(strconv.Itoa(i+1))))
				least.Store(int64(i + 1))
			}
			done.Store(true)
			all.Wait()
		}
	})
}

// A plug-in without ferrule_configure gets new instances; one of which none starts, if one does not.
func TestConfigureByNewInstances(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "state"), loader.WithConfig([]byte("10")), loader.WithInstances(2))
		before, err := strconv.Atoi(call(t, p, "alive", ""))
		require.NoError(t, err)
		first := call(t, p, "number", "")
		require.NoError(t, p.Configure(ctx, []byte("20")))
		assert.NotEqual(t, first, call(t, p, "number", ""), "it is another instance")
		assert.Contains(t, []string{"21"}, call(t, p, "next", ""))
		assert.Equal(t, strconv.Itoa(before), call(t, p, "alive", ""), "those that were replaced are stopped")
		err = p.Configure(ctx, []byte(strings.Repeat("9", 32)))
		require.ErrorIs(t, err, loader.ErrStart)
		require.ErrorIs(t, err, loader.ErrInvalid)
		assert.Equal(t, strconv.Itoa(before), call(t, p, "alive", ""))
		_, err = p.Call(ctx, "panic", nil)
		require.ErrorIs(t, err, loader.ErrPanic)
		for range 2 {
			n, err := strconv.Atoi(call(t, p, "next", ""))
			require.NoError(t, err)
			assert.InDelta(t, 22, n, 1, "and began with the settings that were accepted last")
		}
		require.NoError(t, w.open(t, fixture.C(t, "echo")).Configure(ctx, []byte("any")), "there is nothing to set")
	})
}

// Configure waits for calls, as long as its context allows; not for itself.
func TestConfigureWaits(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		entered, leave := make(chan error, 10), make(chan struct{})
		p := w.open(t, fixture.C(t, "services"), loader.WithConfig([]byte("first")), needed,
			loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
				if string(in) == "inside" {
					return nil, plugins.get("waits").Configure(ctx, nil)
				}
				entered <- nil
				<-leave
				return plugins.get("waits").Call(ctx, "config", nil) // of a call that the gate waits for
			}))
		plugins.set("waits", p)
		_, err := p.Call(ctx, "upper", []byte("inside"))
		require.ErrorContains(t, err, "in use by the calls that led to this one")
		result := make(chan error, 1)
		go func() {
			out, err := p.Call(ctx, "upper", nil)
			if err == nil && string(out) != "first" {
				err = errors.New("settings " + string(out))
			}
			result <- err
		}()
		<-entered
		late, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		err = p.Configure(late, []byte("second"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, "first", call(t, p, "config", ""), "nothing was changed")
		configured := make(chan error, 1)
		go func() { configured <- p.Configure(ctx, []byte("second")) }()
		time.Sleep(20 * time.Millisecond)
		waiting := make(chan string, 1)
		go func() { waiting <- call(t, p, "config", "") }()
		time.Sleep(20 * time.Millisecond)
		close(leave)
		require.NoError(t, <-result, "what comes from a call that is waited for is let in")
		require.NoError(t, <-configured)
		assert.Equal(t, "second", <-waiting)
	})
}

// No update that was counted is lost while one plug-in hands its state over to the next, again and again (R29).
func TestHandover(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		updates := w.rounds(200_000, 20_000)
		for _, name := range []string{"services", "services_serial"} {
			path := fixture.C(t, name)
			first, err := w.try(path, needed)
			require.NoError(t, err)
			var now atomic.Pointer[loader.Plugin]
			now.Store(first)
			var left, counted atomic.Int64
			left.Store(int64(updates))
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						for {
							_, err := now.Load().Call(ctx, "add", nil)
							if errors.Is(err, loader.ErrClosed) {
								continue // it has a successor
							}
							if assert.NoError(t, err) {
								counted.Add(1)
							}
							break
						}
					}
				})
			}
			handovers := 0
			for left.Load() > 0 {
				old := now.Load()
				next, err := old.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
					assert.Equal(t, "count-1", s.Format())
					next, err := w.try(path, needed, loader.WithState(s))
					if err == nil {
						now.Store(next)
					}
					return next, err
				})
				require.NoError(t, err)
				require.Same(t, next, now.Load())
				require.NoError(t, old.Close())
				handovers++
				for soon := left.Load() - int64(updates/20); left.Load() > max(soon, 0); {
					time.Sleep(time.Millisecond)
				}
			}
			all.Wait()
			out, err := now.Load().Call(ctx, "add", nil)
			require.NoError(t, err)
			assert.Equal(t, strconv.FormatInt(counted.Load()+1, 10), string(out), "after %d handovers", handovers)
			assert.EqualValues(t, updates, counted.Load())
			assert.Positive(t, handovers)
			require.NoError(t, now.Load().Close())
		}
	})
}

// A handover that fails leaves the plug-in as it was.
func TestHandoverFails(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		call(t, p, "add", "")
		_, err := p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
			return w.try(fixture.C(t, "services_other_state"), needed, loader.WithState(s))
		})
		require.ErrorIs(t, err, loader.ErrState)
		assert.ErrorContains(t, err, `"count-2"`)
		_, err = p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
			return w.try(fixture.C(t, "services_refuses_state"), needed, loader.WithState(s))
		})
		require.ErrorIs(t, err, loader.ErrStart)
		if w.inGo {
			assert.ErrorContains(t, err, "Resume")
		} else {
			assert.ErrorContains(t, err, "ferrule_resume")
		}
		_, err = p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
			return w.try(fixture.C(t, "services"), needed, loader.WithState(s), loader.WithInstances(2))
		})
		require.ErrorIs(t, err, loader.ErrState)
		_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, errBroken })
		require.ErrorIs(t, err, errBroken)
		_, err = p.Handover(ctx, nil)
		require.ErrorIs(t, err, loader.ErrNilArgument)
		_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return p, nil })
		require.ErrorIs(t, err, loader.ErrState)
		var forgetful *loader.Plugin
		_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) {
			var err error
			forgetful, err = w.try(fixture.C(t, "services"), needed)
			return forgetful, err
		})
		require.ErrorIs(t, err, loader.ErrState)
		require.ErrorContains(t, err, "loader.WithState")
		_, err = forgetful.Call(ctx, "add", nil)
		require.ErrorIs(t, err, loader.ErrClosed, "what begins from nothing is closed")
		_, err = w.open(t, fixture.C(t, "echo")).Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, nil })
		require.ErrorIs(t, err, loader.ErrState)
		assert.Equal(t, "2", call(t, p, "add", ""), "and it goes on")
	})
}

// The state may be another one, which is made of the old one's.
func TestHandoverChangesState(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		call(t, p, "add", "")
		next, err := p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
			return w.try(fixture.C(t, "services_other_state"), needed, loader.WithState(loader.NewState("count-2", s.Instances())))
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, next.Close()) }()
		assert.Equal(t, "2", call(t, next, "add", ""))
	})
}

// When Handover has returned, or Shutdown, none of its sessions begins a call.
func TestNoSessionGoesOn(t *testing.T) {
	ways := map[string]func(t *testing.T, w way, p *loader.Plugin){
		"Handover": func(t *testing.T, w way, p *loader.Plugin) {
			next, err := p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
				return w.try(fixture.C(t, "services"), needed, loader.WithState(s))
			})
			require.NoError(t, err)
			require.NoError(t, next.Close())
		},
		"Shutdown": func(t *testing.T, w way, p *loader.Plugin) {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_ = p.Shutdown(ended)
		},
	}
	allWays(t, func(t *testing.T, w way) {
		for name, end := range ways {
			for range w.rounds(50, 5) {
				p, err := w.try(fixture.C(t, "services"), needed)
				require.NoError(t, err)
				var sessions []*loader.Session
				for range 4 {
					s, err := p.NewSession(ctx, nil)
					require.NoError(t, err)
					inSession(t, s, "add", "")
					sessions = append(sessions, s)
				}
				end(t, w, p)
				for _, s := range sessions {
					_, err := s.Call(ctx, "add", nil)
					require.ErrorIs(t, err, loader.ErrClosed, name)
					require.ErrorContains(t, err, "open a new session")
				}
				if err := p.Close(); name == "Handover" || !w.isolated {
					require.NoError(t, err) // else its worker may have been killed
				}
			}
		}
	})
}

// insiders opens a plug-in whose host function upper runs what it is told, for calls that come from calls.
func insiders(t *testing.T, w way, name string, do func(ctx context.Context, in string) ([]byte, error), opts ...loader.Option) *loader.Plugin {
	t.Helper()
	return w.open(t, fixture.C(t, name), append(opts, needed,
		loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) { return do(ctx, string(in)) }))...)
}

// inTime fails the test where fn takes longer than is sane.
func inTime(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		require.Fail(t, "it hangs", what)
	}
}

// What comes from a call that the gate waits for is let in: also where every slot is the gate's or in use, where a slot has to be made for it,
// and where the instance that is free has panicked.
func TestGateLetsInWhatItWaitsFor(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for name, c := range map[string]struct {
			fixture   string
			instances int
			panics    bool
		}{
			"a slot is to be made":     {"services", 1, false},
			"another instance is free": {"services_serial", 2, false},
			"it has panicked":          {"services_serial", 2, true},
		} {
			t.Run(name, func(t *testing.T) {
				var p *loader.Plugin
				entered, leave := make(chan struct{}), make(chan struct{})
				p = insiders(t, w, c.fixture, func(ctx context.Context, _ string) ([]byte, error) {
					close(entered)
					<-leave
					return p.Call(ctx, "ordinals", nil)
				}, loader.WithInstances(c.instances))
				result := make(chan error, 1)
				go func() {
					_, err := p.Call(ctx, "upper", nil)
					result <- err
				}()
				<-entered
				if c.panics {
					_, err := p.Call(ctx, "panic", nil)
					require.ErrorIs(t, err, loader.ErrPanic)
				}
				configured := make(chan error, 1)
				go func() { configured <- p.Configure(ctx, []byte("new")) }()
				time.Sleep(50 * time.Millisecond) // the gate is shut by then, or this shows nothing
				close(leave)
				inTime(t, "the call and the gate", func() {
					assert.NoError(t, <-result)
					assert.NoError(t, <-configured)
				})
				assert.Equal(t, "new", call(t, p, "config", ""))
			})
		}
	})
}

// A call that was already waiting, and comes from one that the gate waits for, gets what is given back next.
func TestGateServesWhoWaitsWithin(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		var p *loader.Plugin
		x, y, leaveX, leaveY := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
		p = insiders(t, w, "services_serial", func(ctx context.Context, in string) ([]byte, error) {
			if in == "y" {
				close(y)
				<-leaveY
				return nil, nil
			}
			close(x)
			<-leaveX
			return p.Call(ctx, "ordinals", nil)
		}, loader.WithInstances(2))
		results := make(chan error, 2)
		for _, in := range []string{"x", "y"} {
			go func() {
				_, err := p.Call(ctx, "upper", []byte(in))
				results <- err
			}()
		}
		<-x
		<-y
		close(leaveX) // its own call waits now
		time.Sleep(50 * time.Millisecond)
		configured := make(chan error, 1)
		go func() { configured <- p.Configure(ctx, []byte("new")) }()
		time.Sleep(50 * time.Millisecond)
		close(leaveY)
		inTime(t, "the calls and the gate", func() {
			assert.NoError(t, <-results)
			assert.NoError(t, <-results)
			assert.NoError(t, <-configured)
		})
	})
}

// The gate is for the plug-in's own calls: a session's host function that calls the plug-in waits as anybody does, and loses no update.
func TestGateAndSessions(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		var p *loader.Plugin
		entered, leave := make(chan struct{}), make(chan struct{})
		p = insiders(t, w, "services_serial", func(context.Context, string) ([]byte, error) {
			close(entered)
			<-leave
			return p.Call(ctx, "add", nil)
		})
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		type outcome struct {
			out []byte
			err error
		}
		result := make(chan outcome, 1)
		go func() {
			out, err := s.Call(ctx, "upper", nil)
			result <- outcome{out, err}
		}()
		<-entered
		next, err := p.Handover(ctx, func(st *loader.State) (*loader.Plugin, error) {
			close(leave)
			time.Sleep(50 * time.Millisecond) // for the call to come to the gate
			return w.try(fixture.C(t, "services_serial"), needed, loader.WithState(st))
		})
		require.NoError(t, err)
		defer next.Close()
		inTime(t, "the session's call", func() {
			if r := <-result; r.err == nil {
				assert.Fail(t, "an update was counted that the successor does not know", "%s", r.out)
			}
		})
		assert.Equal(t, "1", call(t, next, "add", ""))
	})
}

// A view that is not released holds no call: the gate does not wait for it, and a session's counts for nobody else.
func TestGateAndViews(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		var p *loader.Plugin
		p = insiders(t, w, "services_serial", func(ctx context.Context, _ string) ([]byte, error) { return p.Call(ctx, "ordinals", nil) })
		running := make(chan *loader.View, 1)
		go func() {
			v, err := function(t, p, "progress").View(ctx, nil)
			assert.NoError(t, err)
			running <- v
		}()
		time.Sleep(50 * time.Millisecond)
		inTime(t, "Configure beside a view", func() { assert.NoError(t, p.Configure(ctx, nil)) })
		v := <-running
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		defer s.Close()
		f, err := s.Func("config")
		require.NoError(t, err)
		sv, err := f.View(ctx, nil)
		require.NoError(t, err)
		inTime(t, "a call within a call, beside a session's view", func() {
			_, err := p.Call(ctx, "upper", nil)
			assert.ErrorContains(t, err, "in use by the calls that led to this one")
		})
		sv.Release()
		v.Release()
	})
}

// Close may come while new instances take the place of the old ones: it waits for those to be stopped.
func TestCloseWhileConfigured(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"services_pinned", "services_serial"} {
			for range w.rounds(20, 4) {
				p, err := w.try(fixture.C(t, name), needed, loader.WithInstances(3))
				require.NoError(t, err)
				done := make(chan error, 1)
				go func() { done <- p.Configure(ctx, []byte("new")) }()
				inTime(t, "Close beside Configure", func() {
					assert.NoError(t, p.Close())
					if err := <-done; err != nil {
						assert.ErrorIs(t, err, loader.ErrClosed)
					}
				})
			}
		}
		p, err := w.try(fixture.C(t, "state"), loader.WithInstances(3))
		require.NoError(t, err)
		alive := func(p *loader.Plugin) string { return call(t, p, "alive", "") }
		other := w.open(t, fixture.C(t, "state"))
		before, err := strconv.Atoi(alive(other))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- p.Configure(ctx, []byte("7")) }()
		time.Sleep(time.Millisecond)
		require.NoError(t, p.Close())
		<-done
		if !w.isolated { // where each has a process of its own
			assert.Equal(t, strconv.Itoa(before-3), alive(other), "all are stopped when Close has returned")
		}
	})
}

// With a context that has ended nothing is changed.
func TestConfigureTooLate(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w, loader.WithConfig([]byte("first")))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		for range 20 {
			require.ErrorIs(t, p.Configure(ended, []byte("second")), context.Canceled)
		}
		_, err := p.Handover(ended, func(*loader.State) (*loader.Plugin, error) { return nil, errBroken })
		require.ErrorIs(t, err, context.Canceled)
		_, err = p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, nil })
		require.ErrorIs(t, err, loader.ErrNilArgument)
		assert.Equal(t, "first", call(t, p, "config", ""))
	})
}

// What is done behind the gate cannot call the plug-in, which would wait for the gate: from ferrule_configure, from ferrule_save, and from the start of new instances.
func TestGateRefusesWhoIsBehindIt(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, name := range []string{"services", "services_serial", "services_pinned"} {
			for _, withContext := range []bool{true, false} {
				var p *loader.Plugin
				refused := make(chan error, 1)
				p = insiders(t, w, name, func(inner context.Context, _ string) ([]byte, error) {
					if !withContext {
						inner = ctx
					}
					_, err := p.Call(inner, "ordinals", nil)
					refused <- err
					return nil, nil
				})
				inTime(t, name, func() {
					assert.NoError(t, p.Configure(ctx, []byte("calls")))
					err := <-refused
					assert.ErrorContains(t, err, "in use by the calls that led to this one", "%s, with its context: %v", name, withContext)
				})
				assert.Equal(t, "calls", call(t, p, "config", ""))
			}
		}
	})
}

// A session called from its own host function is refused where it can have no other call, with the call's context and without.
func TestSessionReentrance(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		var s *loader.Session
		p := insiders(t, w, "services_serial", func(inner context.Context, in string) ([]byte, error) {
			if in == "without" {
				inner = ctx
			}
			return s.Call(inner, "ordinals", nil)
		})
		s = session(t, p, nil)
		for _, in := range []string{"with", "without"} {
			inTime(t, in, func() {
				_, err := s.Call(ctx, "upper", []byte(in))
				assert.ErrorContains(t, err, "in use by the calls that led to this one", in)
			})
		}
	})
}

// Instances that do something between calls begin and end as often as they like, in one worker.
func TestBetweenCallsAgainAndAgain(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "services"), needed)
		for range 150 {
			s, err := p.NewSession(ctx, []byte("between"))
			require.NoError(t, err)
			require.NoError(t, s.Close())
		}
	})
}

// A writer that is slow has nobody killed: the function has returned. It has a second for that, on a busy machine.
func TestSlowWriterWithinALimit(t *testing.T) {
	t.Parallel() // it waits
	p, err := loader.Open(fixture.C(t, "services"), needed, isolate.InWorker(isolate.WithEnv(workerEnv...), isolate.WithGrace(50*time.Millisecond)), loader.WithCallTimeout(time.Second))
	require.NoError(t, err)
	defer p.Close()
	s, err := p.NewSession(ctx, nil)
	require.NoError(t, err)
	defer s.Close()
	slow := writerFunc(func(b []byte) (int, error) { time.Sleep(1500 * time.Millisecond); return len(b), nil })
	_, err = function(t, p, "pipe").Stream(ctx, nil, strings.NewReader("hello"), slow)
	require.NoError(t, err)
	out, err := s.Call(ctx, "add", nil)
	require.NoError(t, err)
	assert.Equal(t, "1", string(out))
}

// An instance that does not take its old settings back is started anew (R28), which may fail: that is the error of the call that met
// it, and nobody else's.
func TestConfigureNotTakenBack(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		const instances = 3
		entered, leave := make(chan error), make(chan bool)
		p := w.open(t, fixture.C(t, "services_serial"), needed, loader.WithConfig([]byte("once")), loader.WithInstances(instances),
			loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) { entered <- nil; <-leave; return nil, nil }))
		s := session(t, p, nil)
		assert.Equal(t, "1", inSession(t, s, "add", ""))
		before, _ := p.Isolation()
		require.ErrorIs(t, p.Configure(ctx, []byte("not 2")), loader.ErrInvalid, "the last one refuses them, and the others do not take the old ones back")
		var calls sync.WaitGroup
		var failed []error
		for n := 0; n < instances; { // until there is a call in each of them
			calls.Go(func() {
				if _, err := p.Call(ctx, "upper", nil); err != nil {
					entered <- err
				}
			})
			if err := <-entered; err == nil {
				n++
			} else {
				failed = append(failed, err)
				require.Len(t, failed, 1)
			}
		}
		close(leave)
		calls.Wait()
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[0], loader.ErrStart)
		var open *loader.OpenError
		require.ErrorAs(t, failed[0], &open)
		assert.ErrorContains(t, open, "as it was told")
		assert.Equal(t, "2", inSession(t, s, "add", ""), "it goes on")
		after, _ := p.Isolation()
		assert.Equal(t, before.Attempt, after.Attempt, "and so does the worker")
	})
}

// Shutdown of a session whose context has ended waits for a moment, as it does of a plug-in.
func TestSessionShutdownTooLate(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		entered, leave := make(chan bool), make(chan bool)
		p := w.open(t, fixture.C(t, "services"), needed,
			loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) { close(entered); <-leave; return nil, nil }))
		s, busy := session(t, p, nil), session(t, p, nil)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		assert.Equal(t, "1", inSession(t, s, "add", ""))
		if err := s.Shutdown(ended); err != nil { // the machine took longer for it than Shutdown waits
			var late *loader.ShutdownError
			require.ErrorAs(t, err, &late)
			assert.Zero(t, late.Calls+late.Views)
			assert.NoError(t, s.Close())
		}
		call := on(func() { _, err := busy.Call(ctx, "upper", nil); assert.NoError(t, err) })
		<-entered
		var unfinished *loader.ShutdownError
		require.ErrorAs(t, busy.Shutdown(ended), &unfinished)
		assert.Equal(t, 1, unfinished.Calls)
		close(leave)
		<-call
		assert.NoError(t, busy.Close())
	})
}

// A session is closed when its instance is stopped, also while as many views are held as there may be, so that nothing can be said to the worker.
func TestSessionCloseAmongViews(t *testing.T) {
	p := isolated.open(t, fixture.C(t, "state"))
	alive := function(t, p, "alive")
	before := call(t, p, "alive", "")
	s := session(t, p, nil)
	views := make([]*loader.View, 256)
	for i := range views {
		var err error
		views[i], err = alive.View(ctx, nil)
		require.NoError(t, err)
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	var unfinished *loader.ShutdownError
	require.ErrorAs(t, s.Shutdown(soon), &unfinished)
	assert.Equal(t, len(views), unfinished.Views)
	time.AfterFunc(1500*time.Millisecond, views[0].Release) // calls are refused before
	inTime(t, "closing", func() { assert.NoError(t, s.Close()) })
	assert.Equal(t, before, call(t, p, "alive", ""))
	for _, v := range views[1:] {
		v.Release()
	}
}

// A session is closed when its instance is stopped, also when the end of the plug-in does that.
func TestSessionCloseWhileThePluginIsClosed(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		ticks, leave := make(chan bool, 1), make(chan bool)
		p := w.open(t, fixture.C(t, "services"), loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) {
			select {
			case ticks <- true:
			default:
			}
			<-leave
			return nil, nil
		}))
		s := session(t, p, []byte("between"))
		<-ticks
		plugin := on(func() { assert.NoError(t, p.Close()) })
		require.Eventually(t, func() bool { _, err := p.Call(ctx, "ordinals", nil); return errors.Is(err, loader.ErrClosed) }, time.Minute, time.Millisecond)
		time.Sleep(20 * time.Millisecond) // it is on its way to the instance
		closed := on(func() { assert.NoError(t, s.Close()) })
		select {
		case <-closed:
			assert.Fail(t, "closed, and ferrule_stop waits for a host function")
		case <-time.After(50 * time.Millisecond):
		}
		close(leave)
		inTime(t, "closing", func() { <-plugin; <-closed })
	})
}

// A worker that dies while a host function runs that the plug-in has called between calls leaves that alone: what it does then is as before. Until
// the worker is gone it says nothing to anybody, so that the race detector sees what it has no right to look at.
func TestWorkerDiesBetweenCalls(t *testing.T) {
	var p *loader.Plugin
	kill, gone, died := make(chan *os.Process, 1), make(chan bool), make(chan error, 1)
	first := true
	p = isolated.open(t, fixture.C(t, "services"), loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) {
		if !first {
			return nil, nil
		}
		first = false
		err := (<-kill).Kill()
		<-gone
		if err == nil {
			_, err = p.Call(context.Background(), "ordinals", nil)
		}
		died <- err
		return nil, err
	}))
	session(t, p, []byte("between"))
	i, _ := p.Isolation()
	worker, err := os.FindProcess(i.PID)
	require.NoError(t, err)
	kill <- worker
	require.Eventually(t, func() bool { i, _ := p.Isolation(); return i.PID == 0 }, time.Minute, time.Millisecond)
	time.Sleep(50 * time.Millisecond) // for the one who serves what is between calls to see it
	close(gone)
	inTime(t, "the host function", func() { assert.NoError(t, <-died) })
}
