// Package duplex is a stream of bytes in each direction over the messages of a broker, as docs/remote.md has it (rules B2 to B6): in order, whole, and no
// more under way than the other side has room for. Brokers lose messages when a connection breaks: then the stream ends, and nothing is sent again.
package duplex

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"time"
)

// The bounds of a stream, in bytes.
const (
	Window = 1 << 20   // how much may be under way in one direction, before the other side has used it,
	Pieces = 4096      // and in how many messages
	Piece  = 128 << 10 // the most in one message
	head   = 128       // the longest first line, with room
)

// How long nothing may come, before the other side is asked whether it is there, and before it is given up.
const (
	AskAfter = 100 * time.Millisecond // while something is waited for
	Idle     = 5 * time.Second        // while nothing is
)

// compared is how long the clocks are not compared anew while something is waited for: they drift.
const compared = 2 * time.Second

// The ends of a stream that are not the other side's wish. Error values that say more wrap them.
var (
	ErrGone   = errors.New("nobody listens any more where it was")   // the broker says so, or a last will
	ErrSilent = errors.New("nothing came from it")                   // for as long as it was waited for
	ErrLost   = errors.New("a message was lost between the two")     // what came does not continue what had come
	ErrBroke  = errors.New("what came breaks the rules of messages") // docs/remote.md
)

// Options are what a Conn is made of.
type Options struct {
	// Send hands a message to the broker, which keeps nothing of it. It may wait for the connection, not for the other side.
	Send func(message []byte) error
	// MaxMessage is how long one may be, in bytes; 0 is any length.
	MaxMessage int
	// Silence is how long the other side may say nothing while something is waited for; more than AskAfter.
	Silence time.Duration
	// Host says that this is the host's side: what it sends is stamped with the other side's clock.
	Host bool
}

// piece is data that has come in one message.
type piece struct {
	data []byte
	age  time.Duration // when it came
	at   time.Time     // that was
}

// Conn is one end. Read and Write are for one goroutine each at a time; the others, for any.
type Conn struct {
	o     Options
	piece int

	writing sync.Mutex // whose turn it is to send, in the order of the bytes
	buffer  []byte     // guarded by writing

	mu       sync.Mutex
	came     []piece // those from the first on nobody has read; that one may be in part
	first    int
	received uint64        // how many bytes have come
	used     uint64        // how many of them were read
	said     uint64        // how many of them the other side knows of
	unsaid   int           // how many messages were read since then
	sent     uint64        // how many bytes were sent, or are being
	handed   uint64        // how many of them the broker has
	taken    uint64        // how many of these the other side has read
	ends     []uint64      // where the messages end that it has not
	stamp    time.Duration // of what was read last
	stampAt  time.Time
	err      error         // the stream is over
	closed   bool          // by this side
	ready    chan struct{} // something has come, or is over; of a capacity of 1
	room     chan struct{} // the other side has read, or it is over; of a capacity of 1
	deadline time.Time
	timer    *time.Timer // of the deadline
	heard    time.Time   // when something came last
	asked    time.Time   // when it was asked for last,
	unheard  time.Time   // and first, since something was heard
	waiting  int         // who waits for something of the other side's
	waited   func()      // is endWait
	wanted   time.Time   // when that was last
	watch    *time.Timer
	due      time.Time // when it comes

	offset time.Duration // the other side's clock is ahead by so much,
	bound  time.Duration // give or take this; less than 0 while it is not known
	timed  time.Time     // when that was found
	done   chan struct{} // closed when it is over
}

// began is when this process did.
var began = time.Now()

// Clock is a time by this process's clock, in ns: the system's as it was when the process began, and steady from then on, whatever that is set to.
func Clock(t time.Time) int64 { return began.UnixNano() + int64(t.Sub(began)) }

// New makes an end. offset is how far the other side's clock is ahead, give or take bound.
func New(o Options, offset, bound time.Duration) *Conn {
	now := time.Now()
	c := &Conn{o: o, piece: Piece, ready: make(chan struct{}, 1), room: make(chan struct{}, 1), heard: now, offset: offset, bound: bound, timed: now,
		done: make(chan struct{})}
	c.waited = c.endWait
	if o.MaxMessage > 0 {
		c.piece = max(1, min(c.piece, o.MaxMessage-head))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch, c.due = time.AfterFunc(AskAfter, c.look), now.Add(AskAfter)
	return c
}

// Wait says that something of the other side's is waited for, until end is called: then it is asked more often whether it is there.
func (c *Conn) Wait() (end func()) {
	c.mu.Lock()
	c.waiting++
	if c.waiting == 1 {
		now := time.Now()
		c.heard = maxTime(c.heard, now.Add(-AskAfter)) // what did not come before was not waited for
		if c.wanted = now; c.due.After(now.Add(AskAfter)) {
			c.looks(AskAfter)
		}
	}
	c.mu.Unlock()
	return c.waited
}

func (c *Conn) endWait() {
	c.mu.Lock()
	c.waiting--
	c.mu.Unlock()
}

// looks has look be called after a time. mu is held.
func (c *Conn) looks(after time.Duration) {
	c.due = time.Now().Add(after)
	c.watch.Reset(after)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// look asks the other side whether it is there, where nothing was heard of it for a while.
func (c *Conn) look() {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	after, silence, busy := Idle, max(3*Idle, c.o.Silence), c.waiting > 0 || c.sent > c.taken
	if busy {
		after, silence = AskAfter, c.o.Silence
	}
	now := time.Now()
	quiet := now.Sub(c.heard)
	silent := !c.unheard.IsZero() && now.Sub(c.unheard) >= silence // since it was asked: this process may itself have been stopped
	asks := quiet >= after && now.Sub(c.asked) >= min(after, time.Second) || c.o.Host && (busy || now.Sub(c.wanted) < compared) && now.Sub(maxTime(c.timed, c.asked)) >= compared
	if asks {
		if c.asked = now; c.unheard.IsZero() {
			c.unheard = now
		}
	}
	c.looks(min(after, time.Second))
	c.mu.Unlock()
	if silent {
		c.giveUp(fmt.Errorf("%w for %v", ErrSilent, quiet.Round(time.Millisecond)))
		return
	}
	if asks {
		c.sendClock("ASK", uint64(Clock(now)))
	}
}

// giveUp ends the stream because of what the other side does, or does not, and tells it: what it does for this one is for nobody any more.
func (c *Conn) giveUp(why error) {
	c.Fail(why)
	c.send("END")
}

// sendClock sends how many bytes are on their way, or there, and times.
func (c *Conn) sendClock(verb string, times ...uint64) {
	c.mu.Lock()
	handed := c.handed
	c.mu.Unlock()
	c.send(verb, append([]uint64{handed}, times...)...)
}

// send sends what is no data.
func (c *Conn) send(verb string, numbers ...uint64) {
	c.mu.Lock()
	used := c.used
	c.said, c.unsaid = used, 0
	c.mu.Unlock()
	m := append(make([]byte, 0, head), verb...)
	m = appendNumber(m, used)
	for _, n := range numbers {
		m = appendNumber(m, n)
	}
	if err := c.o.Send(append(m, '\n')); err != nil {
		c.Fail(err)
	}
}

func appendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(append(b, ' '), n, 10) }

// Write sends b in pieces, and waits where the other side has no room.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for len(b) > 0 {
		c.mu.Lock()
		err, room := c.err, int(Window-(c.sent-c.taken))
		length := min(len(b), c.piece, room)
		if len(c.ends) >= Pieces {
			length = 0
		}
		at, used := c.sent, c.used
		if err == nil && length > 0 {
			c.sent += uint64(length)
			c.ends = append(c.ends, c.sent)
			c.said, c.unsaid = used, 0
		}
		offset := c.offset
		c.mu.Unlock()
		if err != nil {
			return n, err
		}
		if length <= 0 {
			end := c.Wait()
			select {
			case <-c.room:
			case <-c.done:
			}
			end()
			continue
		}
		m := append(c.buffer[:0], "DATA"...)
		m = appendNumber(appendNumber(m, used), at)
		if c.o.Host {
			m = appendNumber(m, uint64(max(1, Clock(time.Now())+int64(offset))))
		}
		m = append(append(m, '\n'), b[:length]...)
		c.buffer = m
		if err := c.o.Send(m); err != nil {
			c.Fail(err)
			return n, err
		}
		c.mu.Lock()
		c.handed += uint64(length)
		c.mu.Unlock()
		n, b = n+length, b[length:]
	}
	return n, nil
}

// Deliver takes a message that has come, which is the Conn's from then on. It is for one goroutine at a time, in the order in which they came, and does not wait.
func (c *Conn) Deliver(m []byte) {
	if err := c.deliver(m); err != nil {
		c.giveUp(err)
	}
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s (docs/remote.md)", ErrBroke, fmt.Sprintf(format, args...))
}

func (c *Conn) deliver(m []byte) error {
	now := time.Now()
	line, _, ok := bytes.Cut(m[:min(len(m), head)], []byte{'\n'})
	if !ok {
		return broken("a message whose first line has no end")
	}
	body := m[len(line)+1:]
	verb, rest, _ := bytes.Cut(line, []byte{' '})
	var numbers [4]uint64
	count := 0
	for len(rest) > 0 {
		var word []byte
		word, rest, _ = bytes.Cut(rest, []byte{' '})
		n, err := strconv.ParseUint(string(word), 10, 63)
		if err != nil || count == len(numbers) {
			return broken("%.40q where four numbers at most stand", line)
		}
		numbers[count] = n
		count++
	}
	if count == 0 {
		return broken("%.40q without a number", line)
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil
	}
	c.heard, c.unheard = now, time.Time{}
	if used := numbers[0]; used > c.sent {
		c.mu.Unlock()
		return broken("it has used %d bytes, and %d were sent", used, c.sent)
	} else if used > c.taken {
		c.taken = used
		n := 0
		for n < len(c.ends) && c.ends[n] <= used {
			n++
		}
		c.ends = append(c.ends[:0], c.ends[n:]...)
		notify(c.room)
	}
	switch {
	case string(verb) == "DATA" && (count == 2 || count == 3):
		at := numbers[1]
		switch {
		case at != c.received:
			received := c.received
			c.mu.Unlock()
			return fmt.Errorf("%w: byte %d came, and %d was expected", ErrLost, at, received)
		case len(body) == 0:
			c.mu.Unlock()
			return broken("DATA without data")
		case c.received+uint64(len(body))-c.used > Window || len(c.came)-c.first >= 2*Pieces:
			c.mu.Unlock()
			return broken("more data than there is room for")
		}
		age := time.Duration(0)
		if count == 3 && !c.o.Host {
			age = max(0, time.Duration(Clock(now)-int64(numbers[2])))
		}
		c.came = append(c.came, piece{body, age, now})
		c.received += uint64(len(body))
		c.mu.Unlock()
		notify(c.ready)
	case (string(verb) == "ASK" && count == 3 || string(verb) == "HERE" && count == 4) && numbers[1] > c.received:
		received := c.received
		c.mu.Unlock()
		return fmt.Errorf("%w: %d bytes were sent, and %d came", ErrLost, numbers[1], received)
	case string(verb) == "ASK" && count == 3:
		c.mu.Unlock()
		c.sendClock("HERE", numbers[2], uint64(Clock(now)))
	case string(verb) == "HERE" && count == 4:
		if trip := Clock(now) - int64(numbers[2]); trip >= 0 && trip < math.MaxInt64/2 {
			bound := time.Duration(trip/2) + 1
			// A clock drifts: what was found long ago is less sure. What is beyond that was set.
			offset, drift := time.Duration(int64(numbers[3])-(int64(numbers[2])+trip/2)), now.Sub(c.timed)/2000
			if bound <= c.bound+drift || c.bound < 0 || (offset-c.offset).Abs() > bound+c.bound+drift {
				c.offset = offset
				c.bound, c.timed = bound, now
			}
		}
		c.mu.Unlock()
	case string(verb) == "USED" && count == 1:
		c.mu.Unlock()
	case string(verb) == "END" && count == 1:
		c.mu.Unlock()
		c.Fail(io.EOF)
	default:
		c.mu.Unlock()
		return broken("%.40q", line)
	}
	return nil
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Read reads what has come; it waits where nothing has. What came before the end is read first.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		switch {
		case c.first < len(c.came) && len(b) > 0:
			from := &c.came[c.first]
			n := copy(b, from.data)
			c.stamp, c.stampAt = from.age, from.at
			if from.data = from.data[n:]; len(from.data) == 0 {
				from.data = nil
				c.unsaid++
				c.first++
				c.trim()
			}
			c.used += uint64(n)
			says := (c.used-c.said >= Window/4 || c.unsaid >= Pieces/4) && c.err == nil
			c.mu.Unlock()
			if says {
				c.send("USED")
			}
			return n, nil
		case len(b) == 0:
			c.mu.Unlock()
			return 0, nil
		case c.err != nil:
			err := c.err
			c.mu.Unlock()
			return 0, err
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		c.mu.Unlock()
		<-c.ready
		c.mu.Lock()
		again := c.err != nil
		c.mu.Unlock()
		if again { // others that wait are woken, too
			notify(c.ready)
		}
	}
}

// trim makes room in came, of which no more than some few pieces are kept where none is left. mu is held.
func (c *Conn) trim() {
	const kept = 64
	switch left := len(c.came) - c.first; {
	case left == 0 && cap(c.came) > kept:
		c.came, c.first = nil, 0
	case left == 0:
		c.came, c.first = c.came[:0], 0
	case c.first >= left+kept: // what is moved was paid for by as many that were read
		n := copy(c.came, c.came[c.first:])
		clear(c.came[n:])
		c.came, c.first = c.came[:n], 0
	}
}

// Age returns how long ago the other side has sent what was read last, by the difference of the two clocks: only of the node's side.
func (c *Conn) Age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stampAt.IsZero() {
		return 0
	}
	return c.stamp + time.Since(c.stampAt)
}

// Clock returns how far the other side's clock is ahead, and how far off that may be.
func (c *Conn) Clock() (offset, bound time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset, c.bound
}

// SetReadDeadline ends a Read that waits, and those that come, when t is over; the zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.timer != nil {
		c.timer.Stop()
	}
	if t.IsZero() {
		return nil
	}
	if left := time.Until(t); left > 0 {
		c.timer = time.AfterFunc(left, func() { notify(c.ready) })
	} else {
		notify(c.ready)
	}
	return nil
}

// Fail ends the stream for a reason, which Read and Write return. What has come before can still be read.
func (c *Conn) Fail(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = why
	c.watch.Stop()
	if c.timer != nil {
		c.timer.Stop()
	}
	close(c.done)
	notify(c.ready)
	notify(c.room)
}

// Close ends the stream, and tells the other side.
func (c *Conn) Close() error {
	c.mu.Lock()
	over := c.err != nil
	c.closed = true
	c.mu.Unlock()
	if !over {
		c.send("END")
	}
	c.Fail(os.ErrClosed)
	return nil
}

// Done is closed when the stream is over, and Err says why then.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the stream is over; nil where it is not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
