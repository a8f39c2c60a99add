package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
)

// Reader reads messages from a stream. It is for one goroutine at a time.
type Reader struct {
	r       io.Reader
	buf     []byte
	at, end int    // what was read and not used yet
	rest    uint64 // of the body, that was not read yet
	maxBody uint64

	// Resume is asked where reading was interrupted (os.ErrDeadlineExceeded) within a message: it makes reading possible again. nil
	// where nothing interrupts.
	Resume func()
}

// NewReader returns a reader of messages whose bodies have so many bytes at most.
func NewReader(r io.Reader, maxBody uint64) *Reader {
	return &Reader{r: r, buf: make([]byte, 64<<10), maxBody: maxBody}
}

// Buffered reports whether there is something that was read from the stream already.
func (r *Reader) Buffered() bool { return r.at < r.end || r.rest > 0 }

// fill reads more, behind what is in the buffer.
func (r *Reader) fill() error {
	if r.at > 0 {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	within := r.end > 0 || r.rest > 0
	for range 100 { // readers may return nothing, but not for ever
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil
		case within && r.Resume != nil && errors.Is(err, os.ErrDeadlineExceeded):
			r.Resume()
		case within && err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func longHead() error {
	return broken("W2", fmt.Sprintf("%d at most", MaxHead), "a head of more than %d bytes", MaxHead)
}

func tooLong(line []byte) error {
	return broken("W2", fmt.Sprintf("%d at most", MaxLine), "a line of more than %d bytes, which begins with %s", MaxLine, quoted(line))
}

// quoted is the beginning of a text for people.
func quoted(b []byte) string {
	const most = 60
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}

// Next reads the next message's head. What was not read of the body of the one before is passed over. The error is an *Error; io.EOF where the stream
// has ended between messages, and io.ErrUnexpectedEOF within one; or the stream's own. After an *os.ErrDeadlineExceeded, nothing is lost:
// the next call goes on.
func (r *Reader) Next(m *Message) error {
	if err := r.Skip(); err != nil {
		return err
	}
	// The whole head is in the buffer before it is looked at: its lines stay where they are, and an interruption loses none.
	for looked := 0; ; {
		n, whole := headIn(r.buf[r.at:r.end], &looked)
		if whole {
			return r.parse(m, r.buf[r.at:r.at+n], n)
		}
		if line := r.buf[r.at+looked : r.end]; len(line) > MaxLine+1 {
			return tooLong(line)
		}
		if r.end-r.at > MaxHead {
			return longHead()
		}
		if err := r.fill(); err != nil {
			if err == io.ErrUnexpectedEOF && looked == 0 { // what has not even a line is most likely a print
				return broken("W1", "a message", "%s, and the stream's end", quoted(r.buf[r.at:r.end]))
			}
			return err
		}
	}
}

// headIn finds the empty line that ends a head. looked is how much of b has whole lines, none of which is empty.
func headIn(b []byte, looked *int) (n int, whole bool) {
	for {
		i := bytes.IndexByte(b[*looked:], '\n')
		if i < 0 {
			return 0, false
		}
		at := *looked + i
		if *looked == 0 && !begins(b[:at]) { // no need to wait for the end of what is no message
			return at + 1, true
		}
		if i == 0 || i == 1 && b[at-1] == '\r' {
			return at + 1, true
		}
		*looked = at + 1
	}
}

// begins reports whether a line begins with a verb.
func begins(line []byte) bool {
	word, _, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\r'}), []byte{' '})
	return verb(word) != 0
}

func verb(word []byte) Verb {
	for v := Hello; v <= Bye; v++ {
		if string(word) == verbs[v] {
			return v
		}
	}
	return 0
}

// parse reads a head of n bytes, of which b is all.
func (r *Reader) parse(m *Message, b []byte, n int) error {
	r.at += n
	if n > MaxHead {
		return longHead()
	}
	first, rest, _ := bytes.Cut(b, []byte{'\n'})
	*m = Message{}
	if err := m.first(trimmed(first)); err != nil {
		return err
	}
	sized := false
	for {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if line = trimmed(line); len(line) == 0 {
			break
		}
		if err := m.field(line, &sized); err != nil {
			return err
		}
	}
	most := r.maxBody
	switch m.Verb {
	case Hello:
		most = MaxManifest
	case Log:
		most = MaxLog
		if m.Fields > m.Length {
			return broken("W13", "no more than the body has", "Fields: %d in a body of %d bytes", m.Fields, m.Length)
		}
	case Cancel, Progress, More, Bye:
		most = 0
	}
	if m.Length > most {
		return broken("W2", fmt.Sprintf("%d at most", most), "%s with a body of %d bytes", m.Verb, m.Length)
	}
	r.rest = m.Length
	return nil
}

func trimmed(line []byte) []byte { return bytes.TrimSuffix(line, []byte{'\r'}) }

// arguments are how many each verb has.
var arguments = [...]int{Hello: 1, Call: 2, Done: 2, Cancel: 1, Log: 1, Progress: 3, Part: 1, More: 2, Bye: 0}

// first reads a head's first line.
func (m *Message) first(line []byte) error {
	if len(line) > MaxLine {
		return tooLong(line)
	}
	word, rest, has := bytes.Cut(line, []byte{' '})
	if m.Verb = verb(word); m.Verb == 0 {
		return broken("W1", "a message, which begins with HELLO, CALL, DONE, CANCEL, LOG, PROGRESS, PART, MORE or BYE", "the line %s", quoted(line))
	}
	var args [3][]byte
	n := 0
	for has && n < len(args) {
		args[n], rest, has = bytes.Cut(rest, []byte{' '})
		n++
	}
	if has || n != arguments[m.Verb] || slices.ContainsFunc(args[:n], func(a []byte) bool { return len(a) == 0 }) {
		return broken("W1", fmt.Sprintf("%s with %d arguments, one space before each", m.Verb, arguments[m.Verb]), "the line %s", quoted(line))
	}
	number := func(i int, what string, to *uint64) error {
		var ok bool
		if *to, ok = Number(args[i]); !ok {
			return broken("W2", "a decimal number below 2^63", "%s as %s of %s", quoted(args[i]), what, m.Verb)
		}
		return nil
	}
	switch m.Verb {
	case Hello:
		return number(0, "the version", &m.Version)
	case Log:
		i := slices.Index(levels[:], string(args[0]))
		if i <= 0 {
			return broken("W13", "error, warn, info, debug or trace", "the level %s", quoted(args[0]))
		}
		m.Level = abi.Level(i)
		return nil
	case Bye:
		return nil
	}
	if err := number(0, "the id", &m.ID); err != nil {
		return err
	}
	if m.ID == 0 {
		return broken("W7", "1 or more", "the id 0 in %s", quoted(line))
	}
	switch m.Verb {
	case Call:
		m.Name = args[1]
		if !validName(m.Name) {
			return broken("W5", "a C identifier of 1 to 128 bytes, or one of the wire's own names", "a call of %s", quoted(m.Name))
		}
	case Done:
		var status uint64
		if err := number(1, "the status", &status); err != nil {
			return err
		}
		m.Status = abi.Status(min(status, math.MaxInt32))
		if status > math.MaxInt32 {
			return broken("W8", "0 to 2147483647", "the status %d", status)
		}
	case Progress:
		if err := number(1, "what is done", &m.Done); err != nil {
			return err
		}
		return number(2, "the total", &m.Total)
	case More:
		return number(1, "how many bytes", &m.N)
	}
	return nil
}

// validName is of a function, or of the wire's own.
func validName(name []byte) bool {
	if own, ok := bytes.CutPrefix(name, []byte("ferrule.")); ok {
		return len(own) > 0 && len(name) <= abi.MaxName
	}
	return abi.ValidName(string(name))
}

// field reads another line of a head.
func (m *Message) field(line []byte, sized *bool) error {
	if len(line) > MaxLine {
		return tooLong(line)
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 {
		return broken("W1", "Name: value, or the empty line that ends the head", "the line %s in the head of %s", quoted(line), m.Verb)
	}
	value = bytes.Trim(value, " \t")
	var to *uint64
	switch key := fold(name); key {
	case "content-length":
		if *sized {
			return broken("W1", "it once", "Content-Length twice in the head of %s", m.Verb)
		}
		*sized = true
		to = &m.Length
	case "for":
		if m.Verb == Call || m.Verb == Log {
			m.HasFor, to = true, &m.For
		}
	case "timeout":
		if m.Verb == Call {
			to = &m.Timeout
		}
	case "fields":
		if m.Verb == Log {
			to = &m.Fields
		}
	case "max-body":
		if m.Verb == Hello {
			to = &m.MaxBody
		}
	case "status":
		if m.Verb == Part {
			m.Broken = string(value) != "0"
		}
	case "log":
		if m.Verb == Hello {
			i := slices.Index(levels[:], string(value))
			if i <= 0 {
				return broken("W13", "error, warn, info, debug or trace", "Log: %s", quoted(value))
			}
			m.Level = abi.Level(i)
		}
	case "hook":
		m.Hook = m.Verb == Call
	case "progress":
		m.Watched = m.Verb == Call
	case "rule":
		if m.Verb == Done {
			m.Rule = value
		}
	case "token":
		if m.Verb == Hello {
			m.Token = value
		}
	case "stream":
		if m.Verb == Call {
			switch string(value) {
			case "in":
				m.Stream = abi.StreamIn
			case "out":
				m.Stream = abi.StreamOut
			case "both":
				m.Stream = abi.StreamBoth
			default:
				return broken("W15", "in, out or both", "Stream: %s", quoted(value))
			}
		}
	}
	if to == nil {
		return nil
	}
	if *to, ok = Number(value); !ok {
		return broken("W2", "a decimal number below 2^63", "%s in the head of %s", quoted(line), m.Verb)
	}
	return nil
}

// fold returns the name of a field that this package knows, in small letters; another one is "". It allocates nothing.
func fold(name []byte) string {
	for _, known := range [...]string{"content-length", "for", "timeout", "fields", "max-body", "status", "token", "stream", "log", "progress", "rule", "hook"} {
		if len(name) == len(known) && strings.EqualFold(string(name), known) {
			return known
		}
	}
	return ""
}

// Number reads a number of rule W2.
func Number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= math.MaxInt64
}

// Body appends the message's body to dst, or what was not read of it yet. The error is as Next's; what came before it was appended. What a length promises is not
// believed: memory grows as bytes come.
func (r *Reader) Body(dst []byte) ([]byte, error) {
	for r.rest > 0 {
		if r.at < r.end {
			n := int(min(r.rest, uint64(r.end-r.at)))
			dst = append(dst, r.buf[r.at:r.at+n]...)
			r.at, r.rest = r.at+n, r.rest-uint64(n)
			continue
		}
		r.at, r.end = 0, 0
		if r.rest < uint64(len(r.buf)) {
			if err := r.fill(); err != nil {
				return dst, err
			}
			continue
		}
		// A large one goes where it belongs at once.
		const step = 1 << 20
		dst = slices.Grow(dst, int(min(r.rest, max(step, uint64(len(dst))))))
		room := dst[len(dst):cap(dst)]
		room = room[:min(uint64(len(room)), r.rest)]
		n, err := r.r.Read(room)
		dst, r.rest = dst[:len(dst)+n], r.rest-uint64(n)
		switch {
		case n > 0:
		case r.Resume != nil && errors.Is(err, os.ErrDeadlineExceeded):
			r.Resume()
		case err == io.EOF:
			return dst, io.ErrUnexpectedEOF
		case err != nil:
			return dst, err
		}
	}
	return dst, nil
}

// Skip passes over what was not read of the body.
func (r *Reader) Skip() error {
	for r.rest > 0 {
		if r.at == r.end {
			r.at, r.end = 0, 0
			if err := r.fill(); err != nil {
				return err
			}
		}
		n := min(r.rest, uint64(r.end-r.at))
		r.at, r.rest = r.at+int(n), r.rest-n
	}
	return nil
}
