package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// The keys that are no characters.
const (
	keyInterrupt rune = -1 - iota
	keySuspend
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyHome
	keyEnd
)

// wholeScreen is the whole of a terminal, and who types on it.
type wholeScreen struct {
	out   *os.File
	in    *os.File    // nil where nobody types
	state *term.State // of the terminal before
	keys  chan rune   // ends with what is typed
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the other screen, without a cursor, and lines that end at its edge
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// leaveWithin is how long what reads the standard output may take for the last of it, such as a terminal for showing that the screen is
// left. One that was stopped takes nothing any more.
const leaveWithin = 2 * time.Second

// endSoon has this command end soon after ctx, also where a write to the standard output waits for its reader, unless done
// was called by then.
func endSoon(ctx context.Context) (done func()) {
	over := make(chan struct{})
	go func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		select {
		case <-over:
		case <-time.After(leaveWithin):
			os.Exit(exitInterrupted)
		}
	}()
	return func() { close(over) }
}

// openScreen takes the terminal. Where in is none, there are no keys.
func openScreen(in io.Reader, out *os.File) (*wholeScreen, error) {
	s := &wholeScreen{out: out}
	if f, ok := in.(*os.File); ok && terminal(in) {
		s.in, s.keys = f, make(chan rune, 256)
	}
	if err := s.enter(); err != nil {
		s.restore()
		return nil, err
	}
	if s.in != nil {
		go s.read()
	}
	return s, nil
}

// enter has the terminal show the other screen, and hand over keys at once.
func (s *wholeScreen) enter() (err error) {
	if s.in != nil {
		if s.state, err = term.MakeRaw(int(s.in.Fd())); err != nil {
			return err
		}
	}
	_, err = io.WriteString(s.out, enterScreen)
	return err
}

// suspend gives the terminal back for as long as this command is stopped; all is for the job that it is in.
func (s *wholeScreen) suspend(all bool) error {
	s.restore()
	if _, err := io.WriteString(s.out, leaveScreen); err != nil {
		return err
	}
	suspend(all)
	return s.enter()
}

// close gives the terminal back as it was.
func (s *wholeScreen) close() {
	s.restore() // first: it is done when the terminal takes no text any more, too
	s.leaveSoon()
	_, _ = io.WriteString(s.out, leaveScreen)
}

// leaveSoon has this command end even where the terminal takes no text any more: what draws waits for that.
func (s *wholeScreen) leaveSoon() {
	time.AfterFunc(leaveWithin, func() {
		s.restore()
		os.Exit(exitInterrupted)
	})
}

func (s *wholeScreen) restore() {
	if s.state != nil {
		_ = term.Restore(int(s.in.Fd()), s.state)
	}
}

// draw shows a table.
func (s *wholeScreen) draw(b *board) error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24 // of one that does not say
	}
	text := "\x1b[H" + strings.Join(b.frame(width, height), "\x1b[K\r\n") + "\x1b[K\x1b[J"
	_, err = io.WriteString(s.out, text)
	return err
}

// read reads keys.
func (s *wholeScreen) read() {
	defer close(s.keys)
	var d keyDecoder
	b := make([]byte, 256)
	for {
		n, err := s.in.Read(b)
		for _, c := range b[:n] {
			if k, ok := d.next(c); ok {
				if k == keyInterrupt || k == 'q' {
					s.leaveSoon()
				}
				select {
				case s.keys <- k:
				default: // the terminal takes no text, and so nobody sees what keys do
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// keyDecoder makes keys of what a terminal sends.
type keyDecoder struct{ sequence []byte }

// next takes a byte; a key may be complete with it.
func (d *keyDecoder) next(c byte) (key rune, ok bool) {
	switch {
	case c == 0x1b:
		d.sequence = append(d.sequence[:0], c)
		return 0, false
	case len(d.sequence) == 1 && (c == '[' || c == 'O'):
		d.sequence = append(d.sequence, c)
		return 0, false
	case len(d.sequence) > 1:
		if d.sequence = append(d.sequence, c); c < 0x40 && len(d.sequence) < 16 { // a parameter
			return 0, false
		}
		key, ok = sequences[string(d.sequence[2:])]
		d.sequence = nil
		return key, ok
	}
	d.sequence = nil
	if c == 0x03 || c == 0x1c { // Ctrl-C and Ctrl-\, which are no signals now
		return keyInterrupt, true
	}
	if c == 0x1a { // Ctrl-Z, the same
		return keySuspend, true
	}
	return rune(c), c >= ' ' && c < 0x7f
}

// sequences are what comes after ESC [ or ESC O.
var sequences = map[string]rune{"A": keyUp, "B": keyDown, "5~": keyPageUp, "6~": keyPageDown, "H": keyHome, "F": keyEnd, "1~": keyHome, "4~": keyEnd}
