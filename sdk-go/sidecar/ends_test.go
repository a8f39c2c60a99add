package sidecar

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// noProblem is an error of a type that cannot say anything where it is nil.
type noProblem struct{ text string }

func (p *noProblem) Error() string { return p.text }

// TestErrorsThatPanic: an error whose own method panics, such as a nil pointer that is one, is a panic of the call.
func TestErrorsThatPanic(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, of(threads, func(context.Context, []byte) ([]byte, error) {
			var p *noProblem
			return nil, p
		}))
		h.call(1, "f", "")
		if l := h.next(); !strings.HasPrefix(l.first, "LOG error") {
			t.Errorf("found %s, expected a line in the log", l)
		}
		if l := h.next(); l.first != "DONE 1 5" || !strings.Contains(l.body, "nil pointer dereference") {
			t.Errorf("found %s, expected a panic", l)
		}
		h.call(2, "echo", "on")
		h.expect("DONE 2 0: on")
		h.leaves()
	})
}

// TestReturnsBeforeItsGoroutines: a goroutine that the function has left in the host holds nobody.
func TestReturnsBeforeItsGoroutines(t *testing.T) {
	for what, wait := range map[string]func(context.Context) error{
		"a stream": func(ctx context.Context) error {
			_, err := plugin.Input(ctx).Read(make([]byte, 1))
			return err
		},
		"a host function": func(ctx context.Context) error {
			_, err := plugin.Ask(ctx, "ask", nil)
			return err
		},
	} {
		each(t, func(t *testing.T, threads string) {
			left := make(chan error, 1)
			waits := make(chan struct{})
			h := greeted(t, of(threads, func(ctx context.Context, _ []byte) ([]byte, error) {
				go func() {
					close(waits)
					left <- wait(ctx)
				}()
				<-waits
				return []byte("back"), nil
			}))
			h.call(1, "f", "", "Stream: in")
			asked := false
			done := func() string { // the next, beside what the goroutine asks: before the function has returned, after it, or not at all
				l := h.next()
				if strings.HasPrefix(l.first, "CALL") {
					asked, l = true, h.next()
				}
				return l.String()
			}
			if l := done(); l != "DONE 1 0: back" {
				t.Errorf("%s: found %s", what, l)
			}
			// A message, by which who reads sees that nobody waits for it; where the goroutine has asked only then, another one.
			for id, came := 2, false; !came; id++ {
				h.call(id, "echo", "on")
				if l := done(); l != fmt.Sprintf("DONE %d 0: on", id) {
					t.Fatalf("%s: found %s", what, l)
				}
				if asked { // rule W11
					asked = false
					h.message("DONE 1 7", "")
				}
				select {
				case err := <-left:
					if came = true; err == nil {
						t.Errorf("%s: no error of what was left", what)
					}
				case <-time.After(10 * time.Millisecond):
				}
			}
			h.leaves()
		})
	}
}

// TestStopJoins: what goes on between calls, and waits for the host, comes back when the stop function is called, which waits for it (R27).
func TestStopJoins(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		asks := make(chan struct{})
		p := plugin.New(plugin.Definition{Name: "one", Version: "1", Threads: threads, Imports: []plugin.Import{{Name: "ask"}}, Functions: []plugin.Function{{Name: "echo", Call: echo}},
			Start: func(ctx context.Context, _ []byte) (any, error) {
				between, err := plugin.Background(ctx)
				if err != nil {
					return nil, err
				}
				work := &sync.WaitGroup{}
				work.Add(1)
				go func() {
					defer work.Done()
					<-asks
					_, _ = plugin.Ask(between, "ask", nil)
				}()
				return work, nil
			},
			Stop: func(_ context.Context, work any) error {
				work.(*sync.WaitGroup).Wait()
				return nil
			}})
		h := greeted(t, p)
		h.call(1, "ferrule.start", "")
		h.expect("DONE 1 0")
		close(asks)
		if l := h.next(); !strings.HasPrefix(l.first, "CALL 1 ask") {
			t.Fatalf("found %s, expected a call of ask", l)
		}
		h.call(2, "ferrule.stop", "")
		h.expect("DONE 2 0")
		h.leaves()
	})
}

// TestTimeoutWhileWaiting: a call that waits for the host ends with its time, also where no message comes.
func TestTimeoutWhileWaiting(t *testing.T) {
	for what, wait := range map[string]func(context.Context) error{
		"a host function": func(ctx context.Context) error {
			_, err := plugin.Ask(ctx, "ask", nil)
			return err
		},
		"an input stream": func(ctx context.Context) error {
			_, err := io.ReadAll(plugin.Input(ctx))
			return err
		},
		"an output stream": func(ctx context.Context) error {
			for {
				if _, err := plugin.Output(ctx).Write(make([]byte, window)); err != nil {
					return err
				}
			}
		},
	} {
		each(t, func(t *testing.T, threads string) {
			h := greeted(t, of(threads, func(ctx context.Context, _ []byte) ([]byte, error) { return nil, wait(ctx) }))
			h.call(1, "f", "", "Timeout: 50", "Stream: both")
			l := h.next()
			for strings.HasPrefix(l.first, "CALL") || strings.HasPrefix(l.first, "PART") {
				l = h.next()
			}
			if l.first != "DONE 1 4" {
				t.Errorf("%s: found %s, expected that it is cancelled", what, l)
			}
			h.leaves()
		})
	}
}

// TestBrokenStreamWithBody: the body of what says that a stream broke off does not count, also not for the window.
func TestBrokenStreamWithBody(t *testing.T) {
	comes := make(chan struct{})
	h := greeted(t, of("concurrent", func(ctx context.Context, _ []byte) ([]byte, error) {
		<-comes
		b, err := io.ReadAll(plugin.Input(ctx))
		if len(b) != window {
			t.Errorf("found %d bytes", len(b))
		}
		return nil, err
	}))
	h.call(1, "f", "", "Stream: in")
	h.message("PART 1", strings.Repeat("a", window))
	h.message("PART 1", "it broke off", "Status: 1")
	h.call(2, "echo", "read") // all that came before has been read
	h.expect("DONE 2 0: read")
	close(comes)
	l := h.next()
	for strings.HasPrefix(l.first, "MORE") {
		l = h.next()
	}
	if l.first != "DONE 1 1" {
		t.Errorf("found %s, expected that the stream broke off", l)
	}
	h.leaves()
}

// TestManifestIsShort: a schema is as long in the hello as it is.
func TestManifestIsShort(t *testing.T) {
	schema := `{"pattern":"` + strings.Repeat("<", 300_000) + `"}`
	p := plugin.New(plugin.Definition{Name: "one", Version: "1", Config: schema, Functions: []plugin.Function{{Name: "echo", Call: echo}}})
	if n := len(p.Manifest()); n > len(schema)+500 {
		t.Errorf("found %d bytes, of a schema of %d", n, len(schema))
	}
}

// TestFields: attributes without a key are fields, and those of nothing are not.
func TestFields(t *testing.T) {
	h := greeted(t, of("concurrent", func(ctx context.Context, _ []byte) ([]byte, error) {
		slog.New(plugin.Handler(ctx)).Info("x", slog.Attr{}, slog.String("", "v"), slog.Group("g"), slog.Group("", slog.Int("n", 1)))
		return nil, nil
	}))
	h.call(1, "f", "")
	if l := h.next(); l.body != "x=v\x00n=1\x00" {
		t.Errorf("found %q", l.body)
	}
	h.expect("DONE 1 0")
	h.leaves()
}

// TestPinnedAbandoned: the stop function of a pinned plug-in runs on the thread of its start function, also where the host is gone.
func TestPinnedAbandoned(t *testing.T) {
	var started, stopped int
	h := greeted(t, plugin.New(plugin.Definition{Name: "one", Version: "1", Threads: "pinned", Functions: []plugin.Function{{Name: "echo", Call: echo}},
		Start: func(context.Context, []byte) (any, error) { started = thread(); return nil, nil },
		Stop:  func(context.Context, any) error { stopped = thread() + 1; return nil }}))
	h.call(1, "ferrule.start", "")
	h.expect("DONE 1 0")
	_ = h.in.Close()
	_ = h.ends()
	if started+1 != stopped {
		t.Errorf("start ran on the thread %d, stop on %d", started, stopped-1)
	}
}

// TestMainEndsWhileACallRuns: what was wrong is said also where a function does not return.
func TestMainEndsWhileACallRuns(t *testing.T) {
	h, said := startedProgram(t, program(t))
	h.send("HELLO 1\n\n")
	h.next()
	h.call(1, "ferrule.start", "")
	h.expect("DONE 1 0")
	h.call(2, "hang", "")
	time.Sleep(10 * time.Millisecond) // so that it runs, in most runs
	h.send("hello\n\n")
	if status := h.exits(); status != 1 || !strings.Contains(said.String(), `found the line "hello"`) {
		t.Errorf("found the exit status %d and %q", status, said)
	}
}
