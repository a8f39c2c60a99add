package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

var threads = []string{"serial", "concurrent", "pinned"}

// each runs a test with plug-ins of each kind.
func each(t *testing.T, test func(t *testing.T, threads string)) {
	for _, kind := range threads {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// TestHello: the hello has the manifest, and comes behind the host's.
func TestHello(t *testing.T) {
	p := of("serial", nil)
	h := bare(t, p)
	h.send("HELLO 1\nContent-Length: 0\nx-anything: goes\n\n")
	h.expect("HELLO 1 Max-Body=268435456: " + string(p.Manifest()))
	h.leaves()
	noneLeft(t)
}

// TestCalls: functions answer, and what is not known is status 3.
func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, of(threads, func(_ context.Context, in []byte) ([]byte, error) {
			return nil, fmt.Errorf("caf\xe9 %s: %w", in, plugin.Status(1001))
		}))
		for i := range 100 {
			in := strings.Repeat("x", i*i*10)
			h.call(i+1, "echo", in)
			want := fmt.Sprintf("DONE %d 0", i+1)
			if in != "" {
				want += ": " + in
			}
			h.expect(want)
		}
		h.call(1, "f", "in")
		h.expect("DONE 1 1001: caf\uFFFD in")
		for _, name := range []string{"g", "ferrule.start", "ferrule.nothing"} {
			h.call(1, name, "")
			if got := h.next(); got.first != "DONE 1 3" || got.body == "" {
				t.Errorf("found %s of %s, expected status 3 with a message", got, name)
			}
		}
		h.call(1, "echo", "", "Hook: yes")
		if got := h.next(); got.first != "DONE 1 3" {
			t.Errorf("found %s of a hook that is none", got)
		}
		h.leaves()
		noneLeft(t)
	})
}

// TestSlowCalls: while a call runs that waits for nothing of the host's, others are read: they run where the plug-in is concurrent, and otherwise behind it; a
// CANCEL comes through in any case.
func TestSlowCalls(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		began := make(chan struct{}, 100)
		h := greeted(t, of(threads, func(ctx context.Context, _ []byte) ([]byte, error) {
			began <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		for round := range 5 {
			h.call(1, "f", "")
			<-began
			h.call(2, "echo", "beside")
			if threads == "concurrent" {
				h.expect("DONE 2 0: beside")
			}
			h.send("CANCEL 1\n\nCANCEL 17\n\n")
			h.expect("DONE 1 4: context canceled")
			if threads != "concurrent" {
				h.expect("DONE 2 0: beside")
			}
			for i := range round * 3 { // it goes on as before
				h.call(i+1, "echo", "x")
				h.expect(fmt.Sprintf("DONE %d 0: x", i+1))
			}
		}
		h.leaves()
		noneLeft(t)
	})
}

// TestSerial: of a serial plug-in one call runs at a time, of a pinned one on one thread, whatever the host sends.
func TestSerial(t *testing.T) {
	for _, threads := range []string{"serial", "pinned"} {
		t.Run(threads, func(t *testing.T) {
			var inside, most atomic.Int32
			ids := map[int]bool{}
			h := greeted(t, of(threads, func(context.Context, []byte) ([]byte, error) {
				most.Store(max(most.Load(), inside.Add(1)))
				defer inside.Add(-1)
				ids[thread()] = true // a race where two run
				time.Sleep(2 * tick)
				return nil, nil
			}))
			const all = 20
			for i := range all {
				h.call(i+1, "f", "")
			}
			for i := range all {
				h.expect(fmt.Sprintf("DONE %d 0", i+1))
			}
			if most.Load() != 1 {
				t.Errorf("found %d calls at a time, expected one", most.Load())
			}
			if threads == "pinned" && len(ids) != 1 {
				t.Errorf("found the threads %v, expected one", ids)
			}
			h.leaves()
		})
	}
}

// TestConcurrent: calls at the same time get their own answers, also where their functions ask the host.
func TestConcurrent(t *testing.T) {
	h := greeted(t, of("concurrent", func(ctx context.Context, in []byte) ([]byte, error) {
		n, _ := strconv.Atoi(string(in))
		if n%3 == 0 {
			time.Sleep(tick)
		}
		out, err := plugin.Ask(ctx, "ask", in)
		if err == nil && n%2 == 0 {
			out, err = plugin.Ask(ctx, "ask", out)
		}
		return out, err
	}))
	const all = 2000
	go func() {
		var text strings.Builder
		for i := range all {
			in := strconv.Itoa(i)
			fmt.Fprintf(&text, "CALL %d f\nContent-Length: %d\n\n%s", i+1, len(in), in)
		}
		_, _ = io.WriteString(h.in, text.String())
	}()
	answers := make(chan string, 2*all) // the host may be read before it writes
	var writing sync.WaitGroup
	writing.Add(1)
	go func() {
		defer writing.Done()
		for a := range answers {
			_, _ = io.WriteString(h.in, a)
		}
	}()
	seen := map[string]string{}
	for len(seen) < all {
		l := h.next()
		words := strings.Fields(l.first)
		switch words[0] {
		case "CALL":
			body := l.body + "."
			answers <- fmt.Sprintf("DONE %s 0\nContent-Length: %d\n\n%s", words[1], len(body), body)
		case "DONE":
			if words[2] != "0" || seen[words[1]] != "" {
				t.Fatalf("found %s", l)
			}
			seen[words[1]] = l.body
		}
	}
	close(answers)
	writing.Wait()
	for i := range all {
		want := strconv.Itoa(i) + strings.Repeat(".", 2-i%2)
		if got := seen[strconv.Itoa(i+1)]; got != want {
			t.Errorf("found %q, expected %q", got, want)
		}
	}
	h.leaves()
	noneLeft(t)
}

// TestHostFunctions: a function asks the host, and waits for that answer alone; CANCEL, and what is for others, comes meanwhile.
func TestHostFunctions(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, of(threads, func(ctx context.Context, in []byte) ([]byte, error) {
			if string(in) == "undeclared" {
				return plugin.Ask(ctx, "bad\n\nBYE", nil)
			}
			return plugin.Ask(ctx, "ask", in)
		}))
		h.call(7, "f", "what")
		h.expect("CALL 1 ask For=7: what")
		h.send("DONE 1 0\nContent-Length: 4\n\nthat")
		h.expect("DONE 7 0: that")
		h.call(7, "f", "")
		h.expect("CALL 2 ask For=7")
		h.send("DONE 2 1005\nContent-Length: 2\n\nno")
		h.expect("DONE 7 1005: ask: no")
		h.call(7, "f", "")
		h.expect("CALL 3 ask For=7")
		h.send("DONE 3 10\n\n") // which is read as 1
		h.expect("DONE 7 1: ask")
		h.call(7, "f", "")
		h.expect("CALL 4 ask For=7")
		h.send("CANCEL 7\n\n")
		h.expect("DONE 7 4: ask")
		h.send("DONE 4 0\n\n") // too late
		h.call(7, "f", "undeclared")
		if got := h.next(); got.first != "DONE 7 7" {
			t.Errorf("found %s, expected status 7", got)
		}
		h.call(9, "echo", "on")
		h.expect("DONE 9 0: on")
		h.send("DONE 4 0\n\n")
		h.breaksRule("W7")
	})
}

// TestOwnContext: who asks with a context of its own gets it back with that, though nothing comes from the host.
func TestOwnContext(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		var cancel context.CancelFunc
		h := greeted(t, of(threads, func(ctx context.Context, in []byte) ([]byte, error) {
			var own context.Context
			own, cancel = context.WithCancel(ctx)
			_, err := plugin.Ask(own, "ask", in)
			if !errors.Is(err, plugin.Cancelled) {
				return nil, fmt.Errorf("found %v", err)
			}
			return []byte("back"), nil
		}))
		h.call(1, "f", "")
		h.expect("CALL 1 ask For=1")
		cancel()
		h.expect("DONE 1 0: back")
		h.send("DONE 1 0\n\n")
		h.leaves()
		noneLeft(t)
	})
}

// TestTimeout: a call's context has the host's deadline.
func TestTimeout(t *testing.T) {
	h := greeted(t, of("serial", func(ctx context.Context, in []byte) ([]byte, error) {
		deadline, ok := ctx.Deadline()
		if string(in) == "wait" {
			own, cancel := context.WithCancel(ctx)
			defer cancel()
			<-own.Done()
			return nil, own.Err()
		}
		left := time.Until(deadline)
		return fmt.Append(nil, ok, left > 59*time.Minute && left <= time.Hour), ctx.Err()
	}))
	h.call(1, "f", "")
	h.expect("DONE 1 0: false false")
	h.call(1, "f", "", "Timeout: 0")
	h.expect("DONE 1 0: false false")
	h.call(1, "f", "", "Timeout: 3600000")
	h.expect("DONE 1 0: true true")
	h.call(1, "f", "wait", "Timeout: 1")
	h.expect("DONE 1 4: context deadline exceeded")
	h.leaves()
}

// TestPanics: a panic is status 5, and so is a function that ends its goroutine; the session goes on, though the host ends it mostly.
func TestPanics(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, of(threads, func(_ context.Context, in []byte) ([]byte, error) {
			if string(in) == "goexit" {
				runtime.Goexit()
			}
			panic("at the disco")
		}), "Log: warn")
		for range 3 {
			h.call(1, "f", "")
			if got := h.next(); got.first != "LOG error" || !strings.HasPrefix(got.body, "panic: at the disco") || !strings.Contains(got.body, "TestPanics") {
				t.Errorf("found %s, expected the stack in a log line", got)
			}
			h.expect("DONE 1 5: at the disco")
			h.call(1, "f", "goexit")
			if got := h.next(); got.first != "LOG error" {
				t.Errorf("found %s, expected a log line", got)
			}
			if got := h.next(); got.first != "DONE 1 5" || !strings.Contains(got.body, "runtime.Goexit") {
				t.Errorf("found %s, expected status 5 and why", got)
			}
			h.call(1, "echo", "on")
			h.expect("DONE 1 0: on")
		}
		h.leaves()
		noneLeft(t)
	})
}

// TestLogs: lines have their level, their call and their fields, and those that nobody wants are not sent.
func TestLogs(t *testing.T) {
	p := of("serial", func(ctx context.Context, in []byte) ([]byte, error) {
		log := slog.New(plugin.Handler(ctx))
		for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug, slog.LevelDebug - 4} {
			log.Log(ctx, l, "caf\xe9", "in", string(in), "n", 1)
		}
		log.Error(strings.Repeat("é", maxLog), "long", strings.Repeat("y", maxLog))
		return nil, nil
	})
	all := []string{"error", "warn", "info", "debug", "trace"}
	for n, level := range all {
		h := greeted(t, p, "Log: "+level)
		h.call(3, "f", "it")
		for _, l := range all[:n+1] {
			h.expect("LOG " + l + " For=3 Fields=10: caf\uFFFDin=it\x00n=1\x00")
		}
		got := h.next()
		if got.first != "LOG error" || len(got.body) > maxLog || len(got.body) < maxLog/4 || !strings.HasPrefix(got.body, "éé") || strings.ContainsRune(got.body, '\uFFFD') {
			t.Errorf("found %.100s, of %d bytes", got, len(got.body))
		}
		h.expect("DONE 3 0")
		h.leaves()
	}
}

// TestProgress: where somebody wants to know, it is told at once, seldom, and at the end.
func TestProgress(t *testing.T) {
	h := greeted(t, of("serial", func(ctx context.Context, _ []byte) ([]byte, error) {
		for i := range uint64(100_000) {
			plugin.Progress(ctx, i+1, 1<<63)
		}
		return nil, nil
	}))
	h.call(1, "f", "")
	h.expect("DONE 1 0")
	begun := time.Now()
	h.call(1, "f", "", "Progress: yes")
	h.expect("PROGRESS 1 1 9223372036854775807")
	last, lines := "", 1
	for l := h.next().String(); l != "DONE 1 0"; l = h.next().String() {
		last = l
		lines++
	}
	if took := time.Since(begun); last != "PROGRESS 1 100000 9223372036854775807" || lines > 2+int(took/(time.Second/10)) {
		t.Errorf("found %d lines in %v, the last one of which is %s", lines, took, last)
	}
	h.leaves()
}

// TestMaxBody: what is longer than the host takes is not sent.
func TestMaxBody(t *testing.T) {
	h := greeted(t, of("serial", func(ctx context.Context, in []byte) ([]byte, error) {
		if string(in) == "ask" {
			return plugin.Ask(ctx, "ask", make([]byte, 101))
		}
		return make([]byte, 101), nil
	}), "Max-Body: 100")
	h.call(1, "f", "")
	h.expect("DONE 1 6: the output has 101 bytes, and the host takes 100 at most")
	h.call(1, "f", "ask")
	h.expect("DONE 1 6: ask: it is longer than the host takes")
	h.call(1, "echo", strings.Repeat("x", 100))
	h.expect("DONE 1 0: " + strings.Repeat("x", 100))
	h.leaves()
}

// streaming is a plug-in with functions that have streams.
func streaming(threads string) *plugin.Plugin {
	f := func(name string, call func(ctx context.Context, in []byte) ([]byte, error)) plugin.Function {
		return plugin.Function{Name: name, Call: func(ctx context.Context, _ any, in []byte) ([]byte, error) { return call(ctx, in) }}
	}
	return plugin.New(plugin.Definition{Name: "streams", Version: "1", Threads: threads, Imports: []plugin.Import{{Name: "ask"}}, Functions: []plugin.Function{
		f("copy", func(ctx context.Context, _ []byte) ([]byte, error) {
			n, err := io.Copy(plugin.Output(ctx), plugin.Input(ctx))
			return strconv.AppendInt(nil, n, 10), err
		}),
		f("write", func(ctx context.Context, in []byte) ([]byte, error) {
			_, err := plugin.Output(ctx).Write(bytes.Repeat(in, 100_000))
			return nil, err
		}),
		f("read", func(ctx context.Context, _ []byte) ([]byte, error) {
			out, err := plugin.Ask(ctx, "ask", nil)
			if err != nil {
				return nil, err
			}
			rest, err := io.ReadAll(plugin.Input(ctx))
			return append(out, rest...), err
		}),
	}})
}

// TestStreams: a stream goes through, in pieces of any size, and nobody sends more than was asked for.
func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, streaming(threads))
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(i * i >> 8)
		}
		h.call(1, "copy", "", "Stream: both")
		var got []byte
		left, credit := want, window
		sent, ended := 0, false
		for size := 1; ; size = size*3 + 1 {
			for n := min(size, credit, len(left), 60_000); n > 0; n = min(size, credit, len(left), 60_000) {
				h.message("PART 1", string(left[:n]))
				left, credit, sent = left[n:], credit-n, sent+n
			}
			if len(left) == 0 && !ended {
				h.send("PART 1\n\n")
				ended = true
			}
			if size > 1<<20 {
				size = 1
			}
			l := h.next()
			words := strings.Fields(l.first)
			switch words[0] {
			case "PART":
				got = append(got, l.body...)
				h.send(fmt.Sprintf("MORE 1 %d\n\n", len(l.body)))
			case "MORE":
				n, _ := strconv.Atoi(words[2])
				credit += n
			case "DONE":
				if l.String() != "DONE 1 0: 1048576" || !bytes.Equal(got, want) {
					t.Fatalf("found %s, and %d bytes", l, len(got))
				}
				h.leaves()
				return
			}
		}
	})
}

// TestStreamsWhole: whatever was read at a time, a host that sends pieces as long as the window can send the next one once all that came was used.
func TestStreamsWhole(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, plugin.New(plugin.Definition{Name: "streams", Version: "1", Threads: threads, Functions: []plugin.Function{{Name: "read",
			Call: func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{plugin.Input(ctx)}, make([]byte, 4099))
				return strconv.AppendInt(nil, n, 10), err
			}}}}))
		h.call(1, "read", "", "Stream: in")
		h.message("PART 1", "x")
		sent, credit := 1, window-1
		for sent < 1+4*window {
			for credit < window {
				l := h.next()
				n, err := strconv.Atoi(strings.TrimPrefix(l.first, "MORE 1 "))
				if err != nil {
					t.Fatalf("found %s", l)
				}
				credit += n
			}
			h.message("PART 1", strings.Repeat("x", window))
			sent, credit = sent+window, credit-window
		}
		h.send("PART 1\n\n")
		for l := h.next(); l.String() != "DONE 1 0: 262145"; l = h.next() {
			if !strings.HasPrefix(l.first, "MORE 1 ") {
				t.Fatalf("found %s", l)
			}
		}
	})
}

// TestStreamsEnd: a stream that broke off, one that nobody takes, and a call without one.
func TestStreamsEnd(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, streaming(threads))
		h.call(1, "copy", "", "Stream: both")
		h.message("PART 1", "some")
		h.expect("PART 1: some")
		h.message("PART 1", "ignored", "Status: 1")
		l := h.next()
		if l.String() == "MORE 1 4" { // it had looked before the stream broke off
			l = h.next()
		}
		if l.String() != "DONE 1 1: the input stream" {
			t.Errorf("found %s", l)
		}
		h.call(1, "write", "x", "Stream: out")
		if got := h.next(); len(got.body) != window/2 {
			t.Errorf("found a piece of %d bytes", len(got.body))
		}
		h.next() // the rest of what may be sent
		h.send("MORE 1 0\n\n")
		h.expect("DONE 1 1: the output stream")
		h.call(1, "write", "x", "Stream: out")
		h.next()
		h.next()
		h.send("CANCEL 1\n\n")
		h.expect("DONE 1 4: the output stream")
		h.call(1, "copy", "", "Stream: in")
		h.message("PART 1", "x")
		h.expect("DONE 1 3: the output stream")
		h.call(1, "copy", "")
		h.expect("DONE 1 3: the input stream")
		h.message("PART 1", strings.Repeat("x", 2*window)) // of a call that is over
		// What comes while it waits for something else is kept.
		h.call(2, "read", "", "Stream: in")
		h.expect("CALL 1 ask For=2")
		h.message("PART 2", "a")
		h.message("PART 2", "b")
		h.send("PART 2\n\nDONE 1 0\nContent-Length: 2\n\n->")
		h.expect("DONE 2 0: ->ab")
		h.call(2, "read", "", "Stream: in")
		h.message("PART 2", strings.Repeat("x", window+1))
		h.breaksRule("W15")
	})
}

// stateful is a plug-in with all services, whose configuration is a number from which it counts; none is 0. stopped gets what it is told at its end.
func stateful(threads string, stopped chan<- string) *plugin.Plugin {
	set := func(n *int, config []byte) (err error) {
		if len(config) > 0 {
			if *n, err = strconv.Atoi(string(config)); err != nil {
				return fmt.Errorf("no number: %w", plugin.Invalid)
			}
		}
		return nil
	}
	var between context.Context
	return plugin.New(plugin.Definition{Name: "counts", Version: "1", Threads: threads, Keys: map[string]string{"state": "n"}, Imports: []plugin.Import{{Name: "ask"}},
		Functions: []plugin.Function{{Name: "count", Call: func(ctx context.Context, state any, in []byte) ([]byte, error) {
			if string(in) == "between" {
				return plugin.Ask(between, "ask", in)
			}
			n := state.(*int)
			*n++
			return strconv.AppendInt(nil, int64(*n), 10), nil
		}}},
		Start: func(ctx context.Context, config []byte) (any, error) {
			n := new(int)
			var err error
			if between, err = plugin.Background(ctx); err != nil {
				return nil, err
			}
			return n, set(n, config)
		},
		Stop: func(ctx context.Context, state any) error {
			_, err := plugin.Ask(between, "ask", nil)
			stopped <- fmt.Sprint(*state.(*int), " ", between.Err(), " ", err)
			return nil
		},
		Configure: func(_ context.Context, state any, config []byte) error {
			var n int
			err := set(&n, config)
			if err == nil {
				*state.(*int) = n
			}
			return err
		},
		Save: func(_ context.Context, state any) ([]byte, error) {
			return strconv.AppendInt(nil, int64(*state.(*int)), 10), nil
		},
		Resume: func(_ context.Context, state any, saved []byte) error { return set(state.(*int), saved) },
	})
}

// TestServices: an instance starts once, with its configuration, is given another, hands its state on, and stops.
func TestServices(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		stopped := make(chan string, 1)
		h := greeted(t, stateful(threads, stopped))
		status := func(want string, name, in string, fields ...string) {
			t.Helper()
			h.call(1, name, in, fields...)
			if got := h.next(); got.first != "DONE 1 "+want {
				t.Fatalf("found %s of %s, expected status %s", got, name, want)
			}
		}
		for _, name := range []string{"count", "ferrule.configure", "ferrule.save", "ferrule.resume", "ferrule.stop"} {
			status("7", name, "")
		}
		status("0", "ferrule.start", "5", "Resume: yes")
		status("7", "ferrule.start", "")
		status("2", "ferrule.resume", "x")
		status("0", "ferrule.resume", "41")
		h.call(2, "count", "")
		h.expect("DONE 2 0: 42")
		status("2", "ferrule.configure", "x")
		status("0", "ferrule.configure", "7")
		h.call(2, "ferrule.save", "")
		h.expect("DONE 2 0: 7")
		h.call(2, "count", "between")
		h.expect("CALL 1 ask For=0: between")
		h.send("DONE 1 0\nContent-Length: 3\n\nyes")
		h.expect("DONE 2 0: yes")
		status("0", "ferrule.stop", "")
		if got := <-stopped; got != "7 context canceled ask: cancelled" {
			t.Errorf("found %s", got)
		}
		status("7", "count", "")
		status("7", "ferrule.start", "")
		h.leaves()

		h = greeted(t, stateful(threads, stopped))
		h.call(1, "ferrule.start", "x")
		h.expect("DONE 1 2: no number")
		h.leaves() // and nothing is stopped
		noneLeft(t)
	})
}

// TestAbandoned: what was started is stopped, also where the host ends without a word.
func TestAbandoned(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		for how, end := range map[string]func(h *host){
			"BYE":           func(h *host) { h.send("BYE\n\n") },
			"the end":       func(h *host) { _ = h.in.Close() },
			"within a head": func(h *host) { h.send("CALL"); _ = h.in.Close() },
			"the context":   func(h *host) { h.cancel() },
			"no reader":     func(h *host) { _ = h.out.Close(); h.call(1, "count", "") },
			"no message":    func(h *host) { h.send("hello\n") },
		} {
			stopped := make(chan string, 1)
			h := greeted(t, stateful(threads, stopped))
			h.call(1, "ferrule.start", "5")
			h.expect("DONE 1 0")
			end(h)
			err := h.ends()
			if clean := how == "BYE" || how == "the end"; (err == nil) != clean {
				t.Errorf("%s: found %v", how, err)
			}
			if got := <-stopped; !strings.HasSuffix(got, "context canceled ask: the host is gone") {
				t.Errorf("%s: found %s", how, got)
			}
		}
		noneLeft(t)
	})
}

// TestBetween: what goes on between calls asks the host at any time, and holds up no call.
func TestBetween(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		asks, got := make(chan string), make(chan string)
		var between context.Context
		h := greeted(t, plugin.New(plugin.Definition{Name: "between", Version: "1", Threads: threads, Wants: []plugin.Import{{Name: "ask"}}, Functions: []plugin.Function{{Name: "echo", Call: echo}},
			Start: func(ctx context.Context, _ []byte) (any, error) {
				var err error
				between, err = plugin.Background(ctx)
				again, _ := plugin.Background(ctx)
				go func() {
					for name := range asks {
						out, err := plugin.Ask(between, name, nil)
						got <- fmt.Sprintf("%s %v", out, err)
					}
				}()
				slog.New(plugin.Handler(again)).Warn("begins")
				return nil, err
			},
			Stop: func(context.Context, any) error { return nil }}))
		h.call(1, "ferrule.start", "")
		h.expect("LOG warn For=0: begins", "DONE 1 0")
		for id := 1; id < 20; id++ {
			asks <- "ask"
			h.expect(fmt.Sprintf("CALL %d ask For=0", id))
			for range id % 4 {
				h.call(1, "echo", "x")
				h.expect("DONE 1 0: x")
			}
			h.send(fmt.Sprintf("DONE %d 0\nContent-Length: 1\n\ny", id))
			if out := <-got; out != "y <nil>" {
				t.Fatalf("found %s", out)
			}
		}
		if _, err := plugin.Next(between, nil); !errors.Is(err, plugin.Misuse) {
			t.Errorf("found %v of what stands behind", err)
		}
		for _, stream := range []error{func() error { _, err := plugin.Input(between).Read(make([]byte, 1)); return err }(), func() error { _, err := plugin.Output(between).Write([]byte{1}); return err }()} {
			if !errors.Is(stream, plugin.Misuse) {
				t.Errorf("found %v of a stream", stream)
			}
		}
		h.call(1, "ferrule.stop", "")
		h.expect("DONE 1 0")
		asks <- "ask"
		if out := <-got; !strings.Contains(out, "after the plug-in was stopped") {
			t.Errorf("found %s", out)
		}
		close(asks)
		h.leaves()
		noneLeft(t)
	})
}

// TestServicesAlone: nothing runs while a service does, and no service while a call does.
func TestServicesAlone(t *testing.T) {
	began, goes := make(chan struct{}), make(chan struct{})
	wait := func(context.Context, any, []byte) ([]byte, error) {
		began <- struct{}{}
		<-goes
		return nil, nil
	}
	h := greeted(t, plugin.New(plugin.Definition{Name: "waits", Version: "1", Threads: "concurrent", Functions: []plugin.Function{{Name: "f", Call: wait}},
		Start: func(ctx context.Context, _ []byte) (any, error) { return wait(ctx, nil, nil) }}))
	h.call(1, "ferrule.start", "")
	<-began
	for _, name := range []string{"ferrule.start", "f"} {
		h.call(2, name, "")
		if got := h.next(); got.first != "DONE 2 7" {
			t.Errorf("found %s of %s", got, name)
		}
	}
	goes <- struct{}{}
	h.expect("DONE 1 0")
	h.call(1, "f", "")
	<-began
	h.call(2, "ferrule.start", "")
	if got := h.next(); got.first != "DONE 2 7" {
		t.Errorf("found %s", got)
	}
	goes <- struct{}{}
	h.expect("DONE 1 0")
	h.leaves()
}

// TestBrokenRules: what is not a message, and more than may be, ends the session.
func TestBrokenRules(t *testing.T) {
	for text, rule := range map[string]string{
		"DONE 1 0\n\n":                          "W4",
		"HELLO 2\n\n":                           "W4",
		"HELLO 1\nContent-Length: 1\n\nx":       "W4",
		"HELLO 1\n\nHELLO 1\n\n":                "W4",
		"HELLO 1\n\nhello\n":                    "W1",
		"HELLO 1\n\nLOG info\n\n":               "W7",
		"HELLO 1\n\nDONE 1 0\n\n":               "W7",
		"HELLO 1\n\nCALL 1 f\n\nCALL 1 f\n\n":   "W7",
		"HELLO 1\n\nBYE\nContent-Length: 1\n\n": "W2",
	} {
		wait := func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, nil
		}
		for _, kind := range threads {
			h := bare(t, of(kind, wait))
			h.send(text)
			h.breaksRule(rule)
		}
	}
	noneLeft(t)
}

// TestTooMany: a host that calls more than it may ends the session.
func TestTooMany(t *testing.T) {
	wait := func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, nil
	}
	each(t, func(t *testing.T, threads string) {
		h := greeted(t, of(threads, wait))
		var calls strings.Builder
		for i := range maxCalls {
			fmt.Fprintf(&calls, "CALL %d f\n\n", i+1)
		}
		h.send(calls.String())
		h.call(maxCalls+1, "f", "")
		h.breaksRule("W7")

		h = greeted(t, of(threads, wait))
		h.call(1, "f", "x")
		h.send("CALL 2 f\nContent-Length: 268435456\n\n") // no byte of which comes
		h.breaksRule("W7")
	})
	noneLeft(t)
}

// TestManyQuestions: of the calls of the host's functions for one call no more are without an answer than may be.
func TestManyQuestions(t *testing.T) {
	const all = 3 * maxAsked
	h := greeted(t, of("concurrent", func(ctx context.Context, _ []byte) ([]byte, error) {
		var running sync.WaitGroup
		var failed atomic.Int32
		for i := range all {
			running.Add(1)
			go func() {
				defer running.Done()
				out, err := plugin.Ask(ctx, "ask", make([]byte, i%7))
				if err != nil || string(out) != strconv.Itoa(i%7) {
					failed.Add(1)
				}
			}()
		}
		running.Wait()
		return strconv.AppendInt(nil, int64(failed.Load()), 10), nil
	}))
	h.call(1, "f", "")
	var waiting []letter
	for range maxAsked {
		waiting = append(waiting, h.next())
	}
	for i := range all {
		l := waiting[0]
		waiting = waiting[1:]
		h.message("DONE "+strings.Fields(l.first)[1]+" 0", strconv.Itoa(len(l.body)))
		if i < all-maxAsked {
			waiting = append(waiting, h.next()) // each answer lets one more come
		}
	}
	h.expect("DONE 1 0: 0")
	h.leaves()

	h = greeted(t, of("concurrent", func(ctx context.Context, _ []byte) ([]byte, error) {
		var running sync.WaitGroup
		for range 3 {
			running.Add(1)
			go func() {
				defer running.Done()
				_, _ = plugin.Ask(ctx, "ask", make([]byte, 60))
			}()
		}
		running.Wait()
		return nil, nil
	}), "Max-Body: 100")
	h.call(1, "f", "")
	for i := range 3 {
		if got := h.next(); len(got.body) != 60 {
			t.Fatalf("found %s", got)
		}
		h.send(fmt.Sprintf("DONE %d 0\n\n", i+1))
	}
	h.expect("DONE 1 0")
	h.leaves()
}

// TestSlowHost: a host that does not read holds up what is written to it, and nothing else: it can still end the session.
func TestSlowHost(t *testing.T) {
	each(t, func(t *testing.T, threads string) {
		for _, how := range []string{"BYE", "the end", "the context"} {
			h := greeted(t, of(threads, nil))
			h.call(1, "echo", strings.Repeat("x", 10<<20))
			switch how {
			case "BYE":
				h.send("BYE\n\n")
			case "the end":
				_ = h.in.Close()
			default:
				h.cancel()
			}
			_ = h.ends()
		}
		noneLeft(t)
	})
}

// TestUnread: a host that does not read answers, and goes on to call, ends the session at some time, and memory has a bound until then.
func TestUnread(t *testing.T) {
	h := greeted(t, of("concurrent", nil))
	go func() {
		body := strings.Repeat("x", direct)
		for id := 1; ; id++ {
			if _, err := fmt.Fprintf(h.in, "CALL %d echo\nContent-Length: %d\n\n%s", id, len(body), body); err != nil {
				return
			}
		}
	}()
	h.breaksRule("W7")
}

// TestSessions: a thousand sessions leave nothing behind.
func TestSessions(t *testing.T) {
	all := 1000
	if testing.Short() {
		all = 100
	}
	before := openFiles()
	for i := range all {
		h := greeted(t, of(threads[i%3], func(ctx context.Context, in []byte) ([]byte, error) { return plugin.Ask(ctx, "ask", in) }))
		h.call(1, "echo", "x")
		h.expect("DONE 1 0: x")
		h.call(1, "f", "x")
		h.expect("CALL 1 ask For=1: x")
		if i%2 == 0 {
			_ = h.in.Close() // while a call runs
			_ = h.ends()
		} else {
			h.send("DONE 1 0\n\n")
			h.expect("DONE 1 0")
			h.leaves()
		}
		_, _ = h.in.Close(), h.out.Close()
	}
	noneLeft(t)
	if after := openFiles(); after > before+10 {
		t.Errorf("found %d files open, and %d before", after, before)
	}
}

// openFiles is how many files this process has open, 0 where that is not known.
func openFiles() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// TestContexts: a call's context is one that package context can follow, and ends with the call.
func TestContexts(t *testing.T) {
	var kept, derived context.Context
	var cancels context.CancelFunc
	h := greeted(t, of("serial", func(ctx context.Context, _ []byte) ([]byte, error) {
		kept = ctx
		derived, cancels = context.WithCancel(ctx)
		stop := context.AfterFunc(ctx, func() {})
		return fmt.Append(nil, stop(), stop(), ctx.Err(), ctx.Value("nothing")), nil
	}))
	h.call(1, "f", "")
	h.expect("DONE 1 0: true false <nil> <nil>")
	<-kept.Done()
	<-derived.Done()
	cancels()
	if !errors.Is(kept.Err(), context.Canceled) || !errors.Is(derived.Err(), context.Canceled) {
		t.Errorf("found %v and %v, expected contexts that have ended", kept.Err(), derived.Err())
	}
	late := make(chan struct{})
	context.AfterFunc(kept, func() { close(late) })
	<-late
	h.leaves()
}
