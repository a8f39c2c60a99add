// Package stream carries a call's streams (rule R24) between a plug-in, which takes and gives pieces, and an application's io.Reader and
// io.Writer, which may block for ever, fail, panic or end their goroutine.
//
// What may block has a goroutine of its own, so that a call returns when its context ends, whatever the reader or writer does. That
// goroutine may use them for longer than the call runs; it ends when they return.
package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
)

// PieceSize is how long a piece is at most that comes from a reader, in bytes. It is what the memory of a processor's core holds
// beside what a function does with it.
const PieceSize = 64 << 10

// Streams are those of one call. A Reader or Writer that is nil is one that the call does not have.
type Streams struct {
	In  *Reader
	Out *Writer
	// Written is closed when the output stream was written, or never will be. An engine sets it that writes behind the call; see Wait.
	Written <-chan struct{}
}

// Wait is Sink's, for an engine that has set Written.
func (s *Streams) Wait(done <-chan struct{}, patience <-chan time.Time) bool {
	select {
	case <-s.Written:
		return true
	default:
	}
	select {
	case <-s.Written:
		return true
	case <-done:
	case <-patience:
	}
	s.Out.Stop()
	return false
}

// writerPatience is how long a call that was broken off waits for a Write that is in progress.
const writerPatience = time.Second

// Patience returns Wait's patience with the writer of a call that has this error, if any: without end where the function has said by
// itself how it ended, and short where it was stopped, by its limit or with its process, so that the caller gets to know.
func Patience(err error) <-chan time.Time {
	if err == nil {
		return nil
	}
	return time.After(writerPatience)
}

// Err returns why a stream broke off, wrapped; nil where none did.
func (s *Streams) Err() error {
	if s.In != nil {
		if err := s.In.Err(); err != nil {
			return fmt.Errorf("the input stream broke off: %w", err)
		}
	}
	if s.Out != nil {
		if err := s.Out.Err(); err != nil {
			return fmt.Errorf("the output stream broke off: %w", err)
		}
	}
	return nil
}

// NotWritten is the message of a call whose context has ended before its output stream was written.
const NotWritten = "the function has returned, and not all of its output stream was written yet"

// errEnded is what became of a reader or writer that called runtime.Goexit.
var errEnded = errors.New("it ended its goroutine")

// Reader is an application's reader, which is asked by one goroutine at a time. Once it has failed, it is not asked again.
type Reader struct {
	r  io.Reader
	mu sync.Mutex
	// err is why there is no more, io.EOF at the end; guarded by mu.
	err  error
	lent lent // the piece that Piece has returned, of a reader whose bytes lie in memory
	// stopped says that it is not to be asked any more, and told that the plug-in knows that it failed; guarded by mu.
	stopped, told bool
}

// NewReader returns a Reader of r; of nil it is empty.
func NewReader(r io.Reader) *Reader {
	if r == nil {
		r = strings.NewReader("")
	}
	return &Reader{r: r}
}

// Blocks reports whether Read may wait for something. What is known not to need no goroutine of its own.
func (r *Reader) Blocks() bool {
	switch r.r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return false
	}
	return true
}

// Err returns why the reader failed, nil where it has not, or has come to its end, or where the plug-in had no wish to come so far.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == io.EOF || !r.told {
		return nil
	}
	return r.err
}

// Told takes in that the plug-in knows how the reader has ended.
func (r *Reader) Told() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = true
}

// Stop has the reader not be asked any more. One Read may be in progress, and goes on.
func (r *Reader) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

var errStopped = errors.New("it is not wanted any more")

// lent is an io.Writer that keeps the first piece of what it is given, and takes no more. It breaks io.Writer's rule not to keep it, so it
// is for those alone whose bytes stay where they are.
type lent struct{ piece []byte }

func (l *lent) Write(p []byte) (int, error) {
	l.piece = p[:min(len(p), PieceSize):min(len(p), PieceSize)]
	return len(l.piece), nil
}

// Piece returns the next bytes, PieceSize at most: those of the reader itself where they lie in memory, otherwise in buffer, which it
// makes when it is needed. They are to be read only, and until the next Piece. The error is as Read's.
func (r *Reader) Piece(buffer *[]byte) (piece []byte, err error) {
	var from io.WriterTo
	switch known := r.r.(type) {
	case *bytes.Reader:
		from = known
	case *bytes.Buffer:
		from = known
	default:
		if *buffer == nil {
			*buffer = make([]byte, PieceSize)
		}
		n, err := r.Read(*buffer)
		return (*buffer)[:n:n], err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, r.err
	case r.stopped:
		return nil, errStopped
	}
	r.lent.piece = nil
	r.err = guard("the reader", func() error {
		_, _ = from.WriteTo(&r.lent) // that it was to take more is no error
		return nil
	})
	if r.err == nil && len(r.lent.piece) == 0 {
		r.err = io.EOF
	}
	return r.lent.piece, r.err
}

// emptyReads is how many times in a row a reader may return no byte and no error.
const emptyReads = 100

// Read fills some of p, which is not empty. Its error is io.EOF at the end; and never nil with 0 bytes. A reader that panics, ends
// its goroutine or breaks io.Reader's rules has failed.
func (r *Reader) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	if err = r.err; err == nil && r.stopped {
		err = errStopped
	}
	r.mu.Unlock()
	if err != nil {
		return 0, err
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
		if n > 0 {
			err = nil // it is told the next time
		}
	}()
	err = errEnded
	err = guard("the reader", func() (err error) {
		for range emptyReads {
			if n, err = r.r.Read(p); n != 0 || err != nil {
				break
			}
		}
		switch {
		case n < 0 || n > len(p):
			n, err = 0, fmt.Errorf("the reader returned %s of a buffer of %d", count.Of(n, "byte"), len(p))
		case n == 0 && err == nil:
			err = io.ErrNoProgress
		}
		return err
	})
	return n, err
}

// guard runs foreign code, and makes an error of its panic, or of the end of its goroutine, which goes on to end.
func guard(who string, fn func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			cause, _ := value.(error)
			err = &panicked{who + " panicked: " + panics.Text(value), cause}
		}
	}()
	err = fn()
	returned = true
	return err
}

// panicked is the error of a reader or writer that panicked, perhaps with an error.
type panicked struct {
	text  string
	cause error // or nil
}

func (p *panicked) Error() string { return p.text }
func (p *panicked) Unwrap() error { return p.cause }

// Writer is an application's writer, which is used by one goroutine at a time. Once it has failed, it is not used again.
type Writer struct {
	w  io.Writer
	mu sync.Mutex
	// err is why it takes no more, and stopped says that it is not to be used any more; guarded by mu.
	err     error
	stopped bool
}

// NewWriter returns a Writer of w; nil takes everything.
func NewWriter(w io.Writer) *Writer {
	if w == nil {
		w = io.Discard
	}
	return &Writer{w: w}
}

// Blocks reports whether Write may wait for something.
func (w *Writer) Blocks() bool {
	switch w.w.(type) {
	case *bytes.Buffer, *strings.Builder:
		return false
	}
	return w.w != io.Discard
}

// Err returns why the writer failed, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Stop has the writer not be used any more. One Write may be in progress, and goes on.
func (w *Writer) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}

// Write writes all of p. A writer that panics, ends its goroutine or breaks io.Writer's rules has failed.
func (w *Writer) Write(p []byte) (n int, err error) {
	w.mu.Lock()
	if err = w.err; err == nil && w.stopped {
		err = errStopped
	}
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = err
	}()
	err = errEnded
	err = guard("the writer", func() error {
		var err error
		n, err = w.w.Write(p)
		switch {
		case n < 0 || n > len(p):
			n, err = 0, fmt.Errorf("the writer said that it wrote %d of %s", n, count.Of(len(p), "byte"))
		case n < len(p) && err == nil:
			err = io.ErrShortWrite
		}
		return err
	})
	return n, err
}

// Source is a call's input stream as the plug-in's side takes it.
type Source interface {
	// Next returns the next piece, which is to be read only, and until the next Next or End. It is empty at the end, and with a status
	// other than abi.StatusOK. It waits, until done is closed at the longest. It is called by one goroutine at a time.
	Next(done <-chan struct{}) ([]byte, abi.Status)
	// End ends it. Nothing of it is used any more.
	End()
}

// Sink is a call's output stream as the plug-in's side gives it.
type Sink interface {
	// Put passes a piece on, which is borrowed until Put returns. It waits as Next does. It is called by one goroutine at a time.
	Put(done <-chan struct{}, piece []byte) abi.Status
	// End ends it: no piece is taken any more. Wait waits until those that were taken have been written, until done is closed or
	// patience has something at the longest, and reports whether they were, or never will be. Where they were not, the writer gets
	// nothing more, but for a Write that is in progress.
	End()
	Wait(done <-chan struct{}, patience <-chan time.Time) bool
}

// statusOf is the status for a stream that has no more, for why.
func statusOf(why error) abi.Status {
	if why == nil || why == io.EOF {
		return abi.StatusOK
	}
	return abi.StatusFailed
}

// tell is the status by which the plug-in gets to know how the reader has ended.
func (r *Reader) tell(err error) abi.Status {
	status := statusOf(err)
	if status != abi.StatusOK {
		r.Told()
	}
	return status
}

// NewSource returns the Source of a reader in this process.
func NewSource(r *Reader) Source {
	if !r.Blocks() {
		return &direct{r: r}
	}
	return &pump{r: r, ended: make(chan struct{})}
}

// direct is a Source that reads when it is asked.
type direct struct {
	r      *Reader
	buffer []byte
}

func (d *direct) Next(<-chan struct{}) ([]byte, abi.Status) {
	piece, err := d.r.Piece(&d.buffer)
	return piece, d.r.tell(err)
}

func (*direct) End() {}

// pump is a Source that reads ahead, on a goroutine of its own. It has some buffers, each of which is the goroutine's, the
// plug-in's, or on the way between them.
type pump struct {
	r     *Reader
	full  chan piece    // nil before the first Next, as empty
	empty chan []byte   // what the plug-in is done with
	ended chan struct{} // closed with End
	last  piece         // what Next returned
}

type piece struct {
	buffer []byte // the whole of it
	n      int
	err    error // why there is no more; nil while there is
}

// buffers is how many a pump has: one is read into, one is on its way, one the plug-in has.
const buffers = 3

func (p *pump) Next(done <-chan struct{}) ([]byte, abi.Status) {
	switch {
	case p.full == nil:
		p.full, p.empty = make(chan piece, buffers+1), make(chan []byte, buffers)
		for range buffers {
			p.empty <- nil // made when it is needed
		}
		go p.run()
	case p.last.err != nil:
		return nil, p.r.tell(p.last.err)
	case p.last.buffer != nil:
		p.empty <- p.last.buffer
		p.last = piece{}
	}
	select {
	case p.last = <-p.full:
	case <-p.ended:
		return nil, abi.StatusCancelled
	case <-done:
		select {
		case p.last = <-p.full: // it was there before
		default:
			return nil, abi.StatusCancelled
		}
	}
	return p.last.buffer[:p.last.n:p.last.n], p.r.tell(p.last.err)
}

func (p *pump) run() {
	ended := piece{err: errEnded}
	defer func() { p.full <- ended }() // there is always room, beside a piece for each buffer
	for {
		var buffer []byte
		select {
		case buffer = <-p.empty:
		case <-p.ended:
			return
		}
		if buffer == nil {
			buffer = make([]byte, PieceSize)
		}
		n, err := p.r.Read(buffer)
		if err != nil {
			ended.err = err
			return
		}
		p.full <- piece{buffer: buffer, n: n}
	}
}

func (p *pump) End() {
	p.r.Stop()
	close(p.ended)
}

// NewSink returns the Sink of a writer in this process.
func NewSink(w *Writer) Sink {
	if !w.Blocks() {
		return through{w}
	}
	return &drain{w: w, ended: make(chan struct{}), changed: make(chan struct{})}
}

// through is a Sink that writes when it is asked.
type through struct{ w *Writer }

func (t through) Put(_ <-chan struct{}, piece []byte) abi.Status {
	_, err := t.w.Write(piece)
	return statusOf(err)
}

func (through) End() {}

func (through) Wait(<-chan struct{}, <-chan time.Time) bool { return true }

// drain is a Sink that writes what it was given on a goroutine of its own, which is there while there is something to write. It
// takes up to drainSize bytes ahead of the writer.
type drain struct {
	w     *Writer
	ended chan struct{} // closed with End

	mu      sync.Mutex
	waiting []byte        // to be written; what is written now was taken out
	spare   []byte        // memory to be used again
	running bool          // the goroutine is there
	changed chan struct{} // closed, and made anew, when it has written something
}

const drainSize = 4 * PieceSize

func (d *drain) Put(done <-chan struct{}, piece []byte) abi.Status {
	for len(piece) > 0 {
		d.mu.Lock()
		n := min(len(piece), drainSize-len(d.waiting))
		d.waiting = append(d.waiting, piece[:n]...)
		piece = piece[n:]
		if !d.running && n > 0 {
			d.running = true
			go d.run()
		}
		changed := d.changed
		d.mu.Unlock()
		if d.w.Err() != nil {
			return abi.StatusFailed
		}
		if len(piece) == 0 {
			break
		}
		select {
		case <-changed:
		case <-d.ended:
			return abi.StatusCancelled
		case <-done:
			return abi.StatusCancelled
		}
	}
	return statusOf(d.w.Err())
}

// run writes until there is nothing more to write.
func (d *drain) run() {
	over := false
	defer func() {
		if !over { // the writer ends the goroutine
			d.mu.Lock()
			defer d.mu.Unlock()
			d.running = false
			d.tell()
		}
	}()
	for {
		d.mu.Lock()
		if len(d.waiting) == 0 || d.w.Err() != nil {
			d.running, over = false, true
			d.tell()
			d.mu.Unlock()
			return
		}
		batch := d.waiting
		d.waiting, d.spare = d.spare[:0], nil
		d.tell()
		d.mu.Unlock()
		_, _ = d.w.Write(batch) // d.w knows why not
		d.mu.Lock()
		d.spare = batch[:0]
		d.mu.Unlock()
	}
}

// tell wakes who waits. The caller holds d.mu.
func (d *drain) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *drain) End() { close(d.ended) }

func (d *drain) Wait(done <-chan struct{}, patience <-chan time.Time) bool {
	for {
		d.mu.Lock()
		running, changed := d.running, d.changed
		d.mu.Unlock()
		if !running {
			return true
		}
		select {
		case <-changed:
			continue
		case <-done:
		case <-patience:
		}
		d.w.Stop()
		return false
	}
}
