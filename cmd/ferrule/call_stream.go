package main

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
)

// watched is the standard input as a function's input stream. It tells how much of it was read, where it is a file.
func (a *app) watched(p *progress) io.Reader {
	f, ok := a.in.(*os.File)
	if !ok {
		return a.in
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || at >= info.Size() {
		return f
	}
	tell := p.hasRead
	if guarding {
		tell = func(read amount) { _ = channel.send(frameRead, read.bytes()) }
	}
	return &watchedFile{f, amount{0, uint64(info.Size() - at)}, time.Now(), tell}
}

// isRegular reports whether the standard input is a regular file, which somebody has named as the input.
func (a *app) isRegular() bool {
	f, ok := a.in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// notEmpty is an input stream that fails where it has nothing. It is read by one goroutine at a time.
type notEmpty struct {
	io.Reader
	some bool
}

// errEmpty is the error of a stream that has nothing.
var errEmpty = errors.New("the standard input is empty")

func (n *notEmpty) Read(b []byte) (int, error) {
	read, err := n.Reader.Read(b)
	n.some = n.some || read > 0
	if err == io.EOF && !n.some {
		err = errEmpty
	}
	return read, err
}

// watchedFile is a file that tells how much of it was read, now and then.
type watchedFile struct {
	io.Reader
	read amount
	last time.Time
	tell func(amount)
}

func (w *watchedFile) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	w.read.done += uint64(n)
	if now := time.Now(); now.Sub(w.last) >= step {
		w.last = now
		w.tell(w.read)
	}
	return n, err
}

// outputStream is where a function's output stream goes: to the standard output, at once.
type outputStream struct{ *app }

func (o outputStream) Write(b []byte) (int, error) {
	if guarding {
		if n := len(b); n > 0 {
			o.unended.Store(b[n-1] != '\n')
		}
		return stream{channel, frameStream}.Write(b)
	}
	if err := o.hand(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// showsProgress reports whether it is shown how far a call is: on a terminal, unless it is for a program, or what the function
// writes is shown there itself.
func (a *app) showsProgress(symbol abi.Symbol) bool {
	if guarding {
		return a.handed.Progress
	}
	return terminal(a.err) && !a.json && (symbol.Stream&abi.StreamOut == 0 || !terminal(a.out))
}
