package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// peer is a sidecar in this process: on is what it does with a message, for each of its sessions, which have numbers from 0 on; false ends one. fields are of its hello.
func peer(t *testing.T, fields, manifest string, on func(n int64, s *raw, m message) bool) (url string) {
	var sessions atomic.Int64
	return listeningRaw(t, func(conn net.Conn) {
		n, s := sessions.Add(1)-1, &raw{in: conn, out: conn, r: wire.NewReader(conn, wire.MaxBody)}
		for {
			m, err := s.read()
			switch {
			case err != nil:
				return
			case m.Verb == wire.Hello:
				s.print("HELLO 1\n%sContent-Length: %d\n\n%s", fields, len(manifest), manifest)
			case !on(n, s, m):
				return
			}
		}
	})
}

// plain is a manifest, and offering one with services.
var plain = fmt.Sprintf(manifest, "1.0.0", "serial", "")

func offering(services string) string { return fmt.Sprintf(manifest, "1.0.0", "serial", services) }

// A sidecar that has answered, and does not read any more, does not keep a call whose context ends: neither with an input that is being sent, nor with the answer of a host function.
func TestAnsweredAndUnread(t *testing.T) {
	leavesNothing(t)
	over := make(chan struct{})
	defer close(over)
	t.Run("input", func(t *testing.T) {
		var read atomic.Int64
		url := peer(t, "", plain, func(_ int64, s *raw, m message) bool {
			if m.Verb == wire.Call {
				for before := int64(-1); before != read.Load(); { // nothing can be written any more
					before = read.Load()
					time.Sleep(20 * time.Millisecond)
				}
				s.done(m.ID, nil)
				<-over
			}
			return false
		})
		p, err := loader.Open(url, sidecar.Program(quick))
		require.NoError(t, err)
		f, err := p.Func("flow")
		require.NoError(t, err)
		own, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		short := iotest.OneByteReader(readerFunc(func(b []byte) (int, error) { read.Add(1); return len(b), nil }))
		within(t, func() { _, _ = f.Stream(own, nil, short, nil) })
		within(t, func() { require.NoError(t, p.Close()) })
	})
	for name, wait := range map[string]time.Duration{"host function": 0, "host function that returns late": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			url := peer(t, "", plain, func(_ int64, s *raw, m message) bool {
				if m.Verb == wire.Call {
					s.print("CALL 1 host\nFor: %d\n\n", m.ID)
					s.done(m.ID, nil)
					<-over
				}
				return false
			})
			p, err := loader.Open(url, sidecar.Program(quick), loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
				time.Sleep(wait)
				return make([]byte, 10<<20), nil
			}))
			require.NoError(t, err)
			own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			within(t, func() { _, _ = p.Call(own, "do", nil) })
			within(t, func() { require.NoError(t, p.Close()) })
		})
	}
}

// A service that does not return ends with the sidecar: when it has taken too long, and when nobody waits for it any more. What comes then has another sidecar.
func TestServicesThatDoNotReturn(t *testing.T) {
	services := map[string]func(context.Context, *loader.Plugin) error{
		"configure": func(ctx context.Context, p *loader.Plugin) error { return p.Configure(ctx, nil) },
		"save": func(ctx context.Context, p *loader.Plugin) error {
			_, err := p.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, errors.New("not come to") })
			return err
		},
	}
	const start = 5 * time.Second // which a busy machine needs, too
	t.Run("too long", func(t *testing.T) {
		leavesNothing(t)
		state := loader.WithState(loader.NewState("1", [][]byte{[]byte("s")}))
		var all sync.WaitGroup
		for name, service := range services {
			p := opened(t, "no service returns", []sidecar.Option{quick, sidecar.WithStartTimeout(start)})
			before := call(t, p, "pid", "")
			all.Go(func() {
				err := service(ctx, p)
				assert.ErrorIs(t, err, loader.ErrCrash)
				assert.ErrorContains(t, err, "its ferrule."+name+" had not returned in 5s (sidecar.WithStartTimeout)")
				out, err := p.Call(ctx, "pid", nil)
				assert.NoError(t, err)
				assert.NotEqual(t, before, string(out))
			})
		}
		all.Go(func() {
			_, err := loader.Open(self(t), state, program("no service returns", sidecar.WithStartTimeout(start)))
			assert.ErrorIs(t, err, loader.ErrCrash)
			assert.ErrorContains(t, err, "its ferrule.resume had not returned in 5s (sidecar.WithStartTimeout)")
		})
		within(t, all.Wait)
	})
	for name, service := range services {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			p := opened(t, "no service returns", []sidecar.Option{quick, sidecar.WithStartTimeout(time.Hour)})
			before := call(t, p, "pid", "")
			own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			within(t, func() {
				err := service(own, p)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorContains(t, err, "(sidecar.WithGrace); its sidecar was ended")
			})
			assertGone(t, before)
			assert.Equal(t, "works", call(t, p, "echo", "works"))
		})
	}
	t.Run("resume", func(t *testing.T) {
		leavesNothing(t)
		state := loader.WithState(loader.NewState("1", [][]byte{[]byte("s")}))
		own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		within(t, func() {
			_, err := loader.OpenContext(own, self(t), state, program("no service returns", sidecar.WithStartTimeout(time.Hour)))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "its ferrule.start or its ferrule.resume may wait for")
		})
	})
}

// A sidecar that is in order, and that the host does not want, is told BYE, and ends by itself.
func TestRefusedAreToldBye(t *testing.T) {
	for _, name := range []string{"is refused", "fails to start", "another manifest, and is told BYE"} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			dir := t.TempDir()
			told := filepath.Join(dir, "told")
			p, err := loader.Open(self(t), sidecar.Program(atOnce, sidecar.WithArgs("defect", name, told, filepath.Join(dir, "once")), sidecar.WithStopTimeout(hang)))
			if err == nil {
				_, _ = p.Call(ctx, "do", nil)
				_, err = p.Call(ctx, "do", nil)
				defer p.Close()
			}
			require.Error(t, err)
			assert.FileExists(t, told)
		})
	}
}

// One that ends while Configure still starts others is known to have ended, although another one is put in its place.
func TestEndsWhileConfigured(t *testing.T) {
	leavesNothing(t)
	left := make(chan struct{})
	var arrived atomic.Int64
	both := make(chan struct{})
	url := peer(t, "", offering(`"start"`), func(n int64, s *raw, m message) bool {
		switch {
		case m.Verb == wire.Bye:
			if n == 2 {
				close(left)
			}
			return false
		case m.name == wire.Start && n == 2:
			s.done(m.ID, nil)
			s.print("BYE\n\n")
		case m.name == wire.Start && n == 3:
			<-left
			s.done(m.ID, nil)
		case m.name == "do":
			if arrived.Add(1) == 2 { // each in an instance of its own
				close(both)
			}
			<-both
			s.done(m.ID, nil)
		case m.Verb == wire.Call:
			s.done(m.ID, nil)
		}
		return true
	})
	p, err := loader.Open(url, sidecar.Program(), loader.WithInstances(2))
	require.NoError(t, err)
	within(t, func() { require.NoError(t, p.Configure(ctx, []byte("another"))) })
	within(t, func() {
		var calls sync.WaitGroup
		for range 2 {
			calls.Go(func() {
				_, err := p.Call(ctx, "do", nil)
				assert.NoError(t, err)
			})
		}
		calls.Wait()
	})
	within(t, func() { require.NoError(t, p.Close()) })
}

// ferrule.stop is called last of all, and once, also of a sidecar that leaves: before the host says BYE, with a further call or without; but not where the start has failed.
func TestStopComesLast(t *testing.T) {
	for name, c := range map[string]struct {
		start  string // its status
		again  int
		expect []string
	}{
		"leaves":               {"0", 0, []string{"ferrule.start", "do", "ferrule.stop", "BYE"}},
		"leaves, and a call":   {"0", 1, []string{"ferrule.start", "do", "ferrule.stop", "BYE"}},
		"the start has failed": {"1", 0, []string{"ferrule.start", "BYE"}},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			var mu sync.Mutex
			var seen []string // by the first one
			over := make(chan struct{})
			url := peer(t, "", offering(`"start","stop"`), func(n int64, s *raw, m message) bool {
				if n == 0 {
					what := m.Verb.String()
					if m.Verb == wire.Call {
						what = m.name
					}
					mu.Lock()
					seen = append(seen, what)
					mu.Unlock()
				}
				switch {
				case m.Verb == wire.Bye:
					if n == 0 {
						close(over)
					}
					return false
				case m.name == wire.Start && n == 0:
					if c.start != "0" {
						s.print("BYE\n\n")
					}
					s.print("DONE %d %s\n\n", m.ID, c.start)
				case m.name == "do" && n == 0:
					s.print("BYE\n\n")
					s.done(m.ID, nil)
				case m.Verb == wire.Call:
					s.done(m.ID, nil)
				}
				return true
			})
			p, err := loader.Open(url, sidecar.Program())
			if c.start == "0" {
				require.NoError(t, err)
				for range 1 + c.again {
					_, err = p.Call(ctx, "do", nil)
					require.NoError(t, err)
				}
			} else {
				require.ErrorIs(t, err, loader.ErrStart)
			}
			within(t, func() { <-over })
			mu.Lock()
			assert.Equal(t, c.expect, seen)
			mu.Unlock()
			if p != nil {
				within(t, func() { require.NoError(t, p.Close()) })
			}
		})
	}
}

// What a host function returns that is longer than the sidecar takes is told as status 6, in no more bytes than it takes.
func TestHostAnswersTooLong(t *testing.T) {
	for _, most := range []int{1000, 10} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			leavesNothing(t)
			var of uint64
			url := peer(t, fmt.Sprintf("Max-Body: %d\n", most), plain, func(_ int64, s *raw, m message) bool {
				switch m.Verb {
				case wire.Call:
					of = m.ID
					s.print("CALL 1 host\nFor: %d\n\n", m.ID)
				case wire.Done:
					s.done(of, fmt.Appendf(nil, "%d %s", m.Status, m.body))
				}
				return m.Verb != wire.Bye
			})
			p, err := loader.Open(url, sidecar.Program(), loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) { return make([]byte, most+1), nil }))
			require.NoError(t, err)
			const told = "the host function's output is longer than the longest message"
			assert.Equal(t, "6 "+told[:min(len(told), most)], call(t, p, "do", ""))
			require.NoError(t, p.Close())
		})
	}
}

// The field Rule counts with status 7, where it names a rule; and what the sidecar says of it is shown as UTF-8. None of these is a crash.
func TestRulesOfAnswers(t *testing.T) {
	leavesNothing(t)
	url := peer(t, "", plain, func(_ int64, s *raw, m message) bool {
		if m.Verb == wire.Call {
			s.print("DONE %d %s\nContent-Length: 6\n\na\xffb\nc\xfe", m.ID, m.body)
		}
		return m.Verb != wire.Bye
	})
	p, err := loader.Open(url, sidecar.Program())
	require.NoError(t, err)
	assert.Len(t, call(t, p, "do", "0\nRule: R8"), 6)
	for in, status := range map[string]abi.Status{"1\nRule: R8": abi.StatusFailed, "1000\nRule: R8": 1000, "7": abi.StatusMisuse, "7\nRule: a rule": abi.StatusMisuse, "7\nRule: R": abi.StatusMisuse,
		"7\nRule: R08": abi.StatusMisuse, "7\nRule: R0": abi.StatusMisuse, "1\nNot-Run: busy": abi.StatusFailed} {
		_, err = p.Call(ctx, "do", []byte(in))
		var e *loader.CallError
		if assert.ErrorAs(t, err, &e, in) {
			assert.Equal(t, status, e.Status, in)
		}
	}
	_, err = p.Call(ctx, "do", []byte("7\nRule: R8"))
	var e *loader.ContractError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, &loader.ContractError{Plugin: "defect", Func: "do", Rule: "R8", Found: "a\uFFFDb", Expected: "c\uFFFD"}, e)
	require.NoError(t, p.Close())
}

// An id of a call of the sidecar's that was not answered is no other one's.
func TestOneIDTwice(t *testing.T) {
	leavesNothing(t)
	in, leave := make(chan struct{}, 2), make(chan struct{})
	url := peer(t, "", plain, func(_ int64, s *raw, m message) bool {
		if m.Verb == wire.Call {
			s.print("CALL 7 host\nFor: %d\n\n", m.ID)
			<-in
			s.print("CALL 7 host\nFor: %d\n\n", m.ID)
		}
		return m.Verb != wire.Bye
	})
	p, err := loader.Open(url, sidecar.Program(), loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
		in <- struct{}{}
		<-leave
		return nil, nil
	}))
	require.NoError(t, err)
	time.AfterFunc(200*time.Millisecond, func() { close(leave) }) // the call ends with the host function
	own, cancel := context.WithTimeout(ctx, hang/2)
	defer cancel()
	within(t, func() {
		_, err = p.Call(own, "do", nil)
		assert.Regexp(t, "CALL 7 twice.*rule W7 ", crash(t, err).Error())
	})
	require.NoError(t, p.Close())
}
