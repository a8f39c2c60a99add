// Package frame runs a plug-in for a host that keeps ferrule.h: it is what a shared library (package library) and a WebAssembly module (package module)
// have in common. Each of them has the frames of its form.
package frame

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// Service is one that takes a request.
type Service int32

// The services that take requests: host->call, host->info and host->next.
const (
	HostFunction Service = 0
	Info         Service = 1
	Next         Service = 2
)

// Misuse, More and NoMemory are statuses of services.
const (
	misuse      = int32(plugin.Misuse)
	more        = int32(8)
	unsupported = int32(plugin.Unsupported)
	noMemory    = int32(plugin.NoMemory)
)

// Frame is a call's frame, struct ferrule_call, with the services of its host. It is valid until the call's function returns.
type Frame interface {
	State() uintptr
	SetState(uintptr)
	// Input is readable until the function returns, and in the host's memory.
	Input() []byte
	// Reply makes a copy of out the result, or the message; false where there is no memory for it. It is called once, last.
	Reply(out []byte) bool
	// Cancelled reads the word of cancellation (R17).
	Cancelled() bool
	Progress(done, total uint64)
	// Ask makes a request: with an input, or the number of a result that was kept. n bytes of the result are in room, but with the status more: then so many are kept.
	Ask(s Service, ordinal uint32, in, room []byte, kept uint32) (n int, status int32, now uint32)
	Log(level int32, text string, fields []byte)
	// Piece lends the next piece of the input stream, until the next one.
	Piece() ([]byte, int32)
	Write(piece []byte) int32
	// Background returns the frame for what happens between calls, nil where there is none.
	Background() Frame
}

// Call runs a function, or a hook, by its number.
func Call(p *plugin.Plugin, n int, f Frame) int32 {
	state := instanceOf(f).state
	return run(p, f, func(h *host) ([]byte, int32) { return p.Call(h, h, state, n, f.Input()) })
}

// Start is ferrule_start.
func Start(p *plugin.Plugin, f Frame) int32 {
	in := &instance{}
	status := run(p, f, func(h *host) (out []byte, status int32) {
		h.more().starts = in
		in.state, out, status = p.Start(h, h, f.Input())
		return out, status
	})
	if status != 0 {
		in.between.end()
		return status
	}
	f.SetState(instances.add(in))
	return 0
}

// Stop is ferrule_stop.
func Stop(p *plugin.Plugin, f Frame) int32 {
	in := instanceOf(f)
	status := run(p, f, func(h *host) ([]byte, int32) { return p.Stop(h, h, in.state) })
	in.between.end()
	instances.remove(f.State())
	return status
}

// Configure is ferrule_configure.
func Configure(p *plugin.Plugin, f Frame) int32 {
	state := instanceOf(f).state
	return run(p, f, func(h *host) ([]byte, int32) { return p.Configure(h, h, state, f.Input()) })
}

// Save is ferrule_save.
func Save(p *plugin.Plugin, f Frame) int32 {
	state := instanceOf(f).state
	return run(p, f, func(h *host) ([]byte, int32) { return p.Save(h, h, state) })
}

// Resume is ferrule_resume.
func Resume(p *plugin.Plugin, f Frame) int32 {
	state := instanceOf(f).state
	return run(p, f, func(h *host) ([]byte, int32) { return p.Resume(h, h, state, f.Input()) })
}

// run runs what a frame asks for, and replies.
func run(p *plugin.Plugin, f Frame, what func(h *host) ([]byte, int32)) int32 {
	h := &host{frame: f, plugin: p}
	back := false
	defer func() {
		if back {
			return
		}
		// The goroutine is the host's thread: it cannot end, and there is no way back to the host from here.
		fmt.Fprintln(os.Stderr, "ferrule: found a function of the plug-in that has ended its goroutine (runtime.Goexit), expected it to return: the process ends")
		os.Exit(2)
	}()
	out, status := what(h)
	back = true
	h.end()
	if len(out) > 0 && !f.Reply(out) {
		f.Reply(nil)
		return noMemory
	}
	return status
}

// instance is one state of the plug-in.
type instance struct {
	state   any
	between *between
}

// instances are those that have started. A host keeps a number of one, since it may not keep what Go's memory has; 0 is none.
var instances table

type table struct {
	mu   sync.RWMutex
	list []*instance // at a number less 1
}

func (t *table) add(in *instance) uintptr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if free := slices.Index(t.list, nil); free >= 0 {
		t.list[free] = in
		return uintptr(free) + 1
	}
	t.list = append(t.list, in)
	return uintptr(len(t.list))
}

func (t *table) remove(n uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > 0 && n <= uintptr(len(t.list)) {
		t.list[n-1] = nil
	}
}

var none = &instance{}

func instanceOf(f Frame) *instance {
	n := f.State()
	if n == 0 {
		return none
	}
	instances.mu.RLock()
	defer instances.mu.RUnlock()
	if n <= uintptr(len(instances.list)) && instances.list[n-1] != nil {
		return instances.list[n-1]
	}
	return none
}

// host is who has called by a frame: a plugin.Host, and the call's context. Each call has one of its own, since a context may be kept: so it is small.
type host struct {
	frame  Frame
	plugin *plugin.Plugin
	mu     sync.Mutex // of what follows: a context may be asked at any time, also when the frame is no more
	over   bool
	rest   *rest // what most calls do not need; nil at first
}

type rest struct {
	starts   *instance // that Start makes; nil in other calls
	err      error
	done     chan struct{}
	asked    bool // for the deadline
	deadline time.Time

	reading sync.Mutex
	piece   []byte // what is left of the one that is lent
}

// more returns what most calls do not need. mu is held.
func (h *host) more() *rest {
	if h.rest == nil {
		h.rest = &rest{}
	}
	return h.rest
}

// look is how long a context that somebody waits for takes to see that its call is cancelled: the contract has a word, and nothing that wakes. It takes longer, up to rare, where the
// call goes on for long.
const (
	look = time.Millisecond
	rare = 20 * time.Millisecond
)

// Done returns a channel that is closed when the result is not wanted any more, a millisecond later, or, of a call that goes on for long, 20; and when the call is over.
func (h *host) Done() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.more()
	if r.done == nil {
		r.done = make(chan struct{})
		if h.ended() != nil {
			close(r.done)
		} else {
			go h.watch(r.done)
		}
	}
	return r.done
}

func (h *host) watch(done chan struct{}) {
	for pause := look; h.Err() == nil; pause = min(pause+pause/8, rare) { // what goes on between calls may wait for as long as the instance lives
		time.Sleep(pause)
	}
	close(done)
}

// ended returns why the context has ended, nil where it has not. mu is held.
func (h *host) ended() error {
	switch {
	case h.rest != nil && h.rest.err != nil:
		return h.rest.err
	case h.over:
		return context.Canceled
	case h.frame.Cancelled():
		r := h.more()
		r.err = context.Canceled
		if at := h.until(); !at.IsZero() && !time.Now().Before(at) {
			r.err = context.DeadlineExceeded
		}
		return r.err
	}
	return nil
}

// Err returns why the context has ended, nil where it has not.
func (h *host) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended()
}

// Deadline returns when the host will not wait any more.
func (h *host) Deadline() (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.until()
	return at, !at.IsZero()
}

// until is Deadline. mu is held.
func (h *host) until() time.Time {
	r := h.more()
	if !r.asked && !h.over {
		r.asked = true
		if left, status := h.request(Info, 0, []byte("remaining")); status == 0 {
			if ns, err := strconv.ParseInt(string(left), 10, 64); err == nil {
				r.deadline = time.Now().Add(time.Duration(ns))
			}
		}
	}
	return r.deadline
}

// Value has nothing.
func (h *host) Value(any) any { return nil }

// end ends the context: the frame is not used any more.
func (h *host) end() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
}

// request asks for a result, of any length.
func (h *host) request(s Service, ordinal uint32, in []byte) ([]byte, int32) {
	room := make([]byte, 256)
	n, status, kept := h.frame.Ask(s, ordinal, in, room, 0)
	for status == more {
		room = make([]byte, n)
		n, status, kept = h.frame.Ask(s, ordinal, nil, room, kept)
	}
	if n > len(room) { // of a status that says nothing of n
		n = 0
	}
	return room[:n], status
}

// Ask calls a host function.
func (h *host) Ask(_ context.Context, name string, in []byte) ([]byte, int32) {
	ordinal, ok := h.plugin.Ordinal(name)
	if !ok {
		return fmt.Appendf(nil, "found %.140q, expected one of the plug-in's imports or wants", name), misuse
	}
	return h.request(HostFunction, ordinal, in)
}

// Next runs what stands behind a hook.
func (h *host) Next(_ context.Context, in []byte) ([]byte, int32) { return h.request(Next, 0, in) }

// Info answers a key.
func (h *host) Info(_ context.Context, key string) (string, int32) {
	value, status := h.request(Info, 0, []byte(key))
	return string(value), status
}

// Log writes a line.
func (h *host) Log(_ context.Context, level int32, text string, fields []byte) {
	h.frame.Log(level, text, fields)
}

// Progress says how far the call is.
func (h *host) Progress(done, total uint64) { h.frame.Progress(done, total) }

// Read reads from the input stream.
func (h *host) Read(p []byte) (int, int32) {
	h.mu.Lock()
	r := h.more()
	h.mu.Unlock()
	r.reading.Lock()
	defer r.reading.Unlock()
	if len(r.piece) == 0 {
		piece, status := h.frame.Piece()
		if status != 0 {
			return 0, status
		}
		r.piece = piece
	}
	n := copy(p, r.piece)
	r.piece = r.piece[n:]
	return n, 0
}

// Write writes to the output stream.
func (h *host) Write(p []byte) int32 { return h.frame.Write(p) }

// Background returns what Start has for what happens between calls; the same each time.
func (h *host) Background() (context.Context, any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rest == nil || h.rest.starts == nil {
		return nil, nil
	}
	in := h.rest.starts
	if in.between == nil {
		f := h.frame.Background()
		if f == nil {
			return nil, nil
		}
		in.between = &between{host: host{frame: f, plugin: h.plugin}}
	}
	return &in.between.host, in.between
}

// between is the host between calls, until Stop has returned: the plug-in's goroutines may use it at any time, so it refuses them by itself from then on.
type between struct {
	host
	using sync.RWMutex
	gone  bool
}

func (b *between) end() {
	if b == nil {
		return
	}
	b.host.end()
	b.using.Lock()
	b.gone = true
	b.using.Unlock()
}

// enter reports whether the frame may be used; leave follows where it may.
func (b *between) enter() bool {
	b.using.RLock()
	if b.gone {
		b.using.RUnlock()
		return false
	}
	return true
}

func (b *between) leave() { b.using.RUnlock() }

const stopped = "the instance has stopped"

func (b *between) Ask(ctx context.Context, name string, in []byte) ([]byte, int32) {
	if !b.enter() {
		return []byte(stopped), misuse
	}
	defer b.leave()
	return b.host.Ask(ctx, name, in)
}

func (b *between) Info(ctx context.Context, key string) (string, int32) {
	if !b.enter() {
		return stopped, misuse
	}
	defer b.leave()
	return b.host.Info(ctx, key)
}

func (b *between) Log(ctx context.Context, level int32, text string, fields []byte) {
	if b.enter() {
		defer b.leave()
		b.host.Log(ctx, level, text, fields)
	}
}

// A call has these, and what happens between calls has not.
func (b *between) Next(context.Context, []byte) ([]byte, int32)   { return nil, misuse }
func (b *between) Progress(uint64, uint64)                        {}
func (b *between) Read([]byte) (int, int32)                       { return 0, misuse }
func (b *between) Write([]byte) int32                             { return misuse }
func (b *between) Background() (ctx context.Context, between any) { return nil, nil }

var (
	_ plugin.Host     = (*host)(nil)
	_ plugin.Host     = (*between)(nil)
	_ context.Context = (*host)(nil)
)
