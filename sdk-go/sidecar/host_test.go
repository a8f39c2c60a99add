package sidecar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/textproto"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// echo returns its input.
func echo(_ context.Context, _ any, in []byte) ([]byte, error) { return in, nil }

// of returns a plug-in with one function, f.
func of(threads string, f func(ctx context.Context, in []byte) ([]byte, error)) *plugin.Plugin {
	return plugin.New(plugin.Definition{Name: "one", Version: "1", Threads: threads, Imports: []plugin.Import{{Name: "ask"}}, Functions: []plugin.Function{
		{Name: "echo", Call: echo},
		{Name: "f", Call: func(ctx context.Context, _ any, in []byte) ([]byte, error) { return f(ctx, in) }},
	}})
}

// letter is a message as a host sees it.
type letter struct {
	first  string
	fields map[string]string
	body   string
}

// String is the first line and the body, with the fields that are no Content-Length, in order.
func (l letter) String() string {
	text := l.first
	for _, name := range []string{"For", "Fields", "Max-Body"} {
		if value, ok := l.fields[name]; ok {
			text += " " + name + "=" + value
		}
	}
	if l.body != "" {
		text += ": " + l.body
	}
	return text
}

// host is the other side of a session.
type host struct {
	testing.TB
	in      *os.File // what the sidecar reads
	r       *bufio.Reader
	out     io.Closer // what it writes
	outcome chan error
	cancel  context.CancelFunc
}

// bare begins a session without a hello.
func bare(t testing.TB, p *plugin.Plugin) *host {
	t.Helper()
	from, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &host{TB: t, in: in, r: bufio.NewReaderSize(out, 1<<20), out: out, outcome: make(chan error, 1), cancel: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.outcome <- Serve(ctx, from, to, p)
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the session does not end")
		}
	})
	return h
}

// greeted begins a session with its hellos, of which the host's has these fields.
func greeted(t testing.TB, p *plugin.Plugin, fields ...string) *host {
	t.Helper()
	h := bare(t, p)
	h.send("HELLO 1\n" + strings.Join(append(fields, "\n"), "\n"))
	if first := h.next().first; first != "HELLO 1" {
		t.Fatalf("found %s, expected HELLO 1", first)
	}
	return h
}

// send writes text as it is.
func (h *host) send(text string) {
	h.Helper()
	if _, err := io.WriteString(h.in, text); err != nil {
		h.Fatal(err)
	}
}

// call sends a CALL.
func (h *host) call(id int, name, in string, fields ...string) {
	h.Helper()
	h.message(fmt.Sprintf("CALL %d %s", id, name), in, fields...)
}

func (h *host) message(first, body string, fields ...string) {
	h.Helper()
	head := strings.Join(append([]string{first}, fields...), "\n")
	if body != "" {
		head += "\nContent-Length: " + strconv.Itoa(len(body))
	}
	h.send(head + "\n\n" + body)
}

// read reads a message.
func (h *host) read() (letter, error) {
	var l letter
	line, err := h.r.ReadString('\n')
	if err != nil {
		return l, err
	}
	l.first = strings.TrimSuffix(line, "\n")
	head, err := textproto.NewReader(h.r).ReadMIMEHeader()
	if err != nil {
		return l, err
	}
	l.fields = map[string]string{}
	for name, values := range maps.All(head) {
		l.fields[name] = values[0]
	}
	n := 0
	if text := l.fields["Content-Length"]; text != "" {
		if n, err = strconv.Atoi(text); err != nil {
			return l, err
		}
	}
	body := make([]byte, n)
	_, err = io.ReadFull(h.r, body)
	l.body = string(body)
	return l, err
}

func (h *host) next() letter {
	h.Helper()
	l, err := h.read()
	if err != nil {
		h.Fatalf("found no message: %v", err)
	}
	return l
}

// expect reads messages, and compares them.
func (h *host) expect(want ...string) {
	h.Helper()
	for _, w := range want {
		if got := h.next().String(); got != w {
			h.Fatalf("found %.300s, expected %.300s", got, w)
		}
	}
}

// ends waits until the session is over.
func (h *host) ends() error {
	h.Helper()
	select {
	case err := <-h.outcome:
		return err
	case <-time.After(time.Minute):
		h.Fatal("the session goes on, expected its end")
		return nil
	}
}

// leaves ends the session with BYE.
func (h *host) leaves() {
	h.Helper()
	h.send("BYE\n\n")
	if err := h.ends(); err != nil {
		h.Fatalf("found %v, expected a session that ends well", err)
	}
}

// breaksRule expects the session to end, since the host has broken this rule.
func (h *host) breaksRule(rule string) {
	h.Helper()
	err := h.ends()
	var broken *brokenRule
	if !errors.As(err, &broken) || broken.rule != rule {
		h.Fatalf("found %v, expected an end by rule %s", err, rule)
	}
}

// noneLeft fails where goroutines of a session remain.
func noneLeft(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left := 0
		for _, one := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(one, "sidecar.(*worker)") || strings.Contains(one, "sidecar.(*session)") || strings.Contains(one, "sidecar.run(") {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %d goroutines of sessions that are over:\n%s", left, stacks)
		}
	}
}
