package main

import (
	encoding "encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/loader/escape"
)

// progress writes messages to the standard error, and on a terminal a line that says how long the work takes, once that
// is more than a second, and how far it is, where that is known. The line makes room for messages, and is gone when the work is
// done.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	shown bool // whether the line is on the screen
	done  chan struct{}
	once  sync.Once

	told, read amount // what the plug-in says, and how much of the standard input was read
}

// amount is how much of something is done. A total of 0 is not known.
type amount struct{ done, total uint64 }

// The guarded child hands amounts up as 16 bytes.
func amountOf(b []byte) amount {
	return amount{encoding.LittleEndian.Uint64(b), encoding.LittleEndian.Uint64(b[8:])}
}

func (a amount) bytes() []byte {
	return encoding.LittleEndian.AppendUint64(encoding.LittleEndian.AppendUint64(nil, a.done), a.total)
}

// startProgress shows the line where shows says so.
func startProgress(w io.Writer, name string, shows bool) *progress {
	p := &progress{w: w, done: make(chan struct{})}
	if shows {
		go p.run(name)
	}
	return p
}

// tell is how far the plug-in says that its call is.
func (p *progress) tell(told amount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = told
}

// hasRead is how much of the standard input was read.
func (p *progress) hasRead(read amount) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = read
}

func (p *progress) run(name string) {
	name = escape.Line(name)
	if utf8.RuneCountInString(name) > longName {
		name = string([]rune(name)[:longName-1]) + "…"
	}
	start, tick := time.Now(), time.NewTicker(step)
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
				fmt.Fprintf(p.w, "\r%s: %s%.1f s\x1b[K", name, p.bar(), elapsed.Seconds())
				p.shown = true
			}
			p.mu.Unlock()
		}
	}
}

// The line is shorter than 80 characters, so that it is one.
const (
	longName = 24
	barCells = 20
)

// step is how often the line is drawn.
const step = 100 * time.Millisecond

// bar draws how far the work is: by what the plug-in says, where it knows the whole, otherwise by what was read. The caller holds
// p.mu.
func (p *progress) bar() string {
	a := p.told
	if a.total == 0 && p.read.total > 0 {
		a = p.read
	}
	switch {
	case a == amount{}:
		return ""
	case a.total == 0:
		return fmt.Sprintf("%d done, ", a.done)
	}
	part := min(float64(a.done)/float64(a.total), 1)
	cells := int(part * barCells)
	return fmt.Sprintf("[%s%s] %3d %%, ", strings.Repeat("#", cells), strings.Repeat(".", barCells-cells), int(part*100))
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
