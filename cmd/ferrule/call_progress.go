package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader/escape"
)

// progress writes messages to the standard error, and on a terminal a line that says how long the work takes, once that
// is more than a second. The line makes room for messages, and is gone when the work is done.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	shown bool // whether the line is on the screen
	done  chan struct{}
	once  sync.Once
}

func startProgress(w io.Writer, name string) *progress {
	p := &progress{w: w, done: make(chan struct{})}
	if terminal(w) {
		go p.run(name)
	}
	return p
}

func (p *progress) run(name string) {
	start, tick := time.Now(), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if elapsed := time.Since(start); elapsed > time.Second {
			p.mu.Lock()
			select {
			case <-p.done:
			default:
				fmt.Fprintf(p.w, "\r%s: %.1f s", escape.Line(name), elapsed.Seconds())
				p.shown = true
			}
			p.mu.Unlock()
		}
	}
}

// Write writes a message.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.w.Write(b)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// stop takes the line away for good.
func (p *progress) stop() {
	p.once.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		close(p.done)
		p.clear()
	})
}
