package pool

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// No two instances have one number (rule R26): not one that is started when a call finds no other free, and a session's, whichever was first.
func TestNumbers(t *testing.T) {
	for _, sessionsFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("sessions first ", sessionsFirst), func(t *testing.T) {
			const instances, spare, sessions = 2, 2, 3
			g := newDoor()
			code := (&testPlugin{Exclusive: true, Threads: abi.Concurrent, Funcs: []testFunc{{Name: "f"}}}).code()
			code.Spare = spare
			code.Call = func(c *Call, _ int, _, _ []byte) ([]byte, abi.Status, error) {
				_, err := g.call(c.Context(), fmt.Append(nil, c.Number()))
				return nil, abi.StatusOK, err
			}
			p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: instances})
			require.NoError(t, err)
			seen := make(map[string]int)
			done := make(chan error)
			call := func(e engine.Plugin) {
				go func() {
					_, _, err := e.Append(context.Background(), engine.Fn{}, nil, nil)
					done <- err
				}()
				number := <-g.entered
				seen[number]++
			}
			begin := func() {
				for range sessions {
					s, err := p.NewSession(context.Background(), nil)
					require.NoError(t, err)
					call(s)
				}
			}
			if sessionsFirst {
				begin()
			}
			for range instances + spare { // each finds no other free
				call(p)
			}
			if !sessionsFirst {
				begin()
			}
			for n := range instances + spare + sessions {
				assert.Equal(t, 1, seen[strconv.Itoa(n)], "%d: %v", n, seen)
			}
			for range instances + spare + sessions {
				g.leave <- ""
				require.NoError(t, <-done)
			}
			require.NoError(t, p.Close())
		})
	}
}

// starter is a plug-in whose instances take one call at a time, and whose starts a test has in its hands.
type starter struct {
	*testPlugin
	starts int
	start  func(c *Call) error // or nil
}

func newStarter(funcs ...testFunc) *starter {
	return &starter{testPlugin: &testPlugin{Exclusive: true, Threads: abi.Concurrent, Funcs: append(funcs,
		testFunc{Name: "panics", Call: func(context.Context, []byte) ([]byte, error) { panic("a fault") }})}}
}

func (s *starter) code() *Code {
	code := s.testPlugin.code()
	code.Start = func(c *Call, config []byte) ([]byte, abi.Status, error) {
		s.starts++
		c.SetState(s.starts)
		if s.start != nil {
			if err := s.start(c); err != nil {
				return []byte(err.Error()), abi.StatusFailed, nil
			}
		}
		return nil, abi.StatusOK, nil
	}
	return code
}

// panics has an instance that is to be started anew.
func (s *starter) panics(t *testing.T, p *Pool) {
	t.Helper()
	_, status, err := p.Append(context.Background(), engine.Fn{Index: len(s.Funcs) - 1}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, abi.StatusPanic, status)
}

// A call starts the instance anew, which is no good again at once, and gives up: the place is the next call's alone, whom it starts it for
// once more.
func TestPlaceIsGivenUpOnce(t *testing.T) {
	g := newDoor()
	s := newStarter(testFunc{Name: "f", Call: g.call})
	p, err := Open(context.Background(), s.code(), quietHost{}, &engine.Options{Instances: 1})
	require.NoError(t, err)
	s.panics(t, p)

	done := make(chan error)
	call := func(ctx context.Context) {
		_, _, err := p.Append(ctx, engine.Fn{}, nil, nil)
		done <- err
	}
	ctx, cancel := context.WithCancel(context.Background())
	starting := make(chan struct{}, 1)
	s.start = func(c *Call) error {
		s.start = nil
		starting <- struct{}{}
		<-g.leave
		c.Spoil()
		cancel()
		return nil
	}
	go call(ctx)
	<-starting
	go call(context.Background())
	p.untilWaiting(t, 1)
	s.start = func(*Call) error { // for the one that waits
		starting <- struct{}{}
		<-g.leave
		return nil
	}
	g.leave <- ""
	<-starting
	var ended *engine.Ended
	require.ErrorAs(t, <-done, &ended, "who has given up")
	p.mu.Lock()
	calls, inside := len(p.calls), p.instances[0].calls
	p.mu.Unlock()
	assert.Equal(t, 1, calls, "the one that starts it")
	assert.Equal(t, 1, inside)
	s.start = nil
	g.leave <- ""
	<-g.entered
	g.leave <- ""
	require.NoError(t, <-done)
	require.NoError(t, p.Close())
	assert.Equal(t, 3, s.starts)
}

// An instance that could not be started anew is there again with new settings: the call that it has next ends as any other does, and the instance
// stays as it is.
func TestFailedStartIsForgotten(t *testing.T) {
	g := newDoor()
	s := newStarter(testFunc{Name: "f", Call: g.call})
	p, err := Open(context.Background(), s.code(), quietHost{}, &engine.Options{Instances: 1})
	require.NoError(t, err)
	s.panics(t, p)
	s.start = func(*Call) error { return errors.New("not with these settings") }
	_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
	var failed *engine.StartError
	require.ErrorAs(t, err, &failed)
	s.start = nil
	_, _, err = p.Configure(context.Background(), []byte("others"))
	require.NoError(t, err)

	starts, done := s.starts, make(chan error)
	call := func() {
		_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
		done <- err
	}
	for range 2 {
		go call()
		<-g.entered
		p.mu.Lock()
		p.settle() // as whoever has to know of all calls
		p.mu.Unlock()
		g.leave <- ""
		require.NoError(t, <-done)
	}
	assert.Equal(t, starts, s.starts, "nothing has happened to it")
	require.NoError(t, p.Close())
}

// What Spoiler has returned is of the start that it was made in, wherever new settings have put what was started, and of no later one.
func TestSpoilerIsOfItsStart(t *testing.T) {
	for _, exclusive := range []bool{true, false} {
		t.Run(fmt.Sprint("exclusive ", exclusive), func(t *testing.T) {
			s := newStarter(testFunc{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }})
			s.Exclusive = exclusive
			var spoil []func() // by start
			dies := false
			s.start = func(c *Call) error {
				spoil = append(spoil, c.Spoiler())
				if dies {
					dies = false
					spoil[len(spoil)-1]()
				}
				return nil
			}
			var state any
			code := s.code()
			code.Call = func(c *Call, _ int, dst, _ []byte) ([]byte, abi.Status, error) {
				state = c.State()
				return dst, abi.StatusOK, nil
			}
			stopping := func() {}
			code.Stop = func(*Call) { stopping() }
			p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: 1})
			require.NoError(t, err)
			calls := func(start int, why string) {
				t.Helper()
				_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
				require.NoError(t, err)
				assert.Equal(t, start, state, why)
			}
			configure := func() {
				t.Helper()
				_, _, err := p.Configure(context.Background(), []byte("new"))
				require.NoError(t, err)
			}
			calls(1, "as it was opened")
			stopping = func() { spoil[0]() } // its end is seen late
			configure()
			stopping = func() {}
			calls(2, "what was replaced has ended, and not what replaces it")
			spoil[1]()
			calls(3, "what replaced it has ended")
			spoil[1]()
			spoil[0]()
			calls(3, "both are not there any more")
			dies = true
			configure()
			calls(5, "what was to replace it has ended before it did")

			p.poison(p.instances[0])
			p.mu.Lock()
			r := p.enter(&callctx.Caller{Context: context.Background()}, 0) // which is to start it anew
			p.mu.Unlock()
			spoil[4]()
			assert.False(t, p.instances[0].poisoned, "the end of what was there is not that of what is to be")
			p.leave(r, true)
			calls(6, "it is started anew by the next one")
			calls(6, "and once")
			require.NoError(t, p.Close())
			assert.Equal(t, 6, s.starts)
		})
	}
}

// A call that somebody watches tells nothing of what another one in the instance has said before, to nobody.
func TestProgressIsTheCallsOwn(t *testing.T) {
	code := (&testPlugin{Exclusive: true, Funcs: []testFunc{{Name: "says"}, {Name: "silent"}}}).code()
	code.Call = func(c *Call, fn int, dst, _ []byte) ([]byte, abi.Status, error) {
		if fn == 0 {
			c.Progress(1, 2)
		}
		return dst, abi.StatusOK, nil
	}
	p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: 1})
	require.NoError(t, err)
	var told [][2]uint64
	watched := callctx.WithProgress(context.Background(), func(done, total uint64) { told = append(told, [2]uint64{done, total}) })
	for _, c := range []struct {
		ctx context.Context
		fn  int
	}{{context.Background(), 0}, {watched, 1}, {watched, 0}, {watched, 1}} {
		_, _, err := p.Append(c.ctx, engine.Fn{Index: c.fn}, nil, nil)
		require.NoError(t, err)
	}
	assert.Equal(t, [][2]uint64{{1, 2}}, told)
	require.NoError(t, p.Close())
}
