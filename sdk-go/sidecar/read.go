package sidecar

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// Bounds of rule W2, in bytes.
const (
	maxHead  = 16 << 10
	maxLine  = 4 << 10
	maxBody  = 256 << 20
	maxHello = 1 << 20
	maxLog   = 1 << 20
)

// verb is what a message is.
type verb uint8

const (
	hello verb = 1 + iota
	called
	done
	cancelled
	logged
	progress
	part
	more
	bye
)

// verbs are the words, and how many arguments each has.
var verbs = [...]struct {
	word      string
	arguments int
}{hello: {"HELLO", 1}, called: {"CALL", 2}, done: {"DONE", 2}, cancelled: {"CANCEL", 1}, logged: {"LOG", 1}, progress: {"PROGRESS", 3}, part: {"PART", 1}, more: {"MORE", 2}, bye: {"BYE", 0}}

func verbOf(word []byte) verb {
	switch string(word) {
	case "CALL":
		return called
	case "DONE":
		return done
	case "PART":
		return part
	case "MORE":
		return more
	case "CANCEL":
		return cancelled
	case "HELLO":
		return hello
	case "LOG":
		return logged
	case "PROGRESS":
		return progress
	case "BYE":
		return bye
	}
	return 0
}

// Streams of a call (rule W15).
const (
	streamIn  = 1
	streamOut = 2
)

// message is one message of a host's, but for its body. Fields that its verb does not have are zero.
type message struct {
	verb   verb
	id     uint64 // of CALL, DONE, CANCEL, PROGRESS, PART and MORE
	n      uint64 // the version of HELLO, the status of DONE, what MORE asks for
	name   []byte // of CALL; until the next message
	length uint64 // of the body

	level   int32  // HELLO's Log, 0 without
	maxBody uint64 // HELLO's Max-Body, 0 without
	timeout uint64 // CALL's, in ms
	stream  uint8  // CALL's
	hook    bool   // CALL's
	watched bool   // CALL's Progress
	broken  bool   // PART has a Status
}

// brokenRule says which rule of docs/wire.md the host has broken.
type brokenRule struct{ rule, found, expected string }

// Error says what was found and what was expected.
func (b *brokenRule) Error() string {
	return "found " + b.found + ", expected " + b.expected + " (rule " + b.rule + " of docs/wire.md)"
}

func breaks(rule, expected, found string, args ...any) error {
	return &brokenRule{rule, fmt.Sprintf(found, args...), expected}
}

// reader reads messages. It is one goroutine's at a time.
type reader struct {
	r       io.Reader
	buf     []byte
	at, end int    // what was read, and not used yet
	rest    uint64 // of the body, that was not read yet
	maxBody uint64
	name    [128]byte
}

func newReader(r io.Reader, maxBody uint64) *reader {
	return &reader{r: r, buf: make([]byte, 64<<10), maxBody: maxBody}
}

// whole reports whether the next message is one with this word and the space behind it, and was read from the stream already, with its body.
func (r *reader) whole(word string) bool {
	b := r.buf[r.at:r.end]
	if r.rest > 0 || len(b) < len(word) || string(b[:len(word)]) != word {
		return false
	}
	var length uint64
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return false
		}
		line := trimmed(b[:i])
		b = b[i+1:]
		if len(line) == 0 {
			return uint64(len(b)) >= length
		}
		const name = "content-length:"
		if len(line) > len(name) && line[len(name)-1] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			length, _ = number(bytes.Trim(line[len(name):], " \t")) // what is none ends the session when it is read
		}
	}
}

// fill reads more, behind what is in the buffer.
func (r *reader) fill() error {
	within := r.end > r.at || r.rest > 0
	if r.at > 0 {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	n, err := r.read(r.buf[r.end:], within)
	r.end += n
	return err
}

// read reads until there is something, which goes before an error. within says that a message has begun.
func (r *reader) read(b []byte, within bool) (int, error) {
	for range 100 { // a reader may return nothing, but not for ever
		n, err := r.r.Read(b)
		switch {
		case n > 0:
			return n, nil
		case within && err == io.EOF:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// quoted is the beginning of a text, for people.
func quoted(b []byte) string {
	const most = 60
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}

// shown is quoted of a line of a head; a token is nobody's to read.
func shown(line []byte) string {
	if name, _, ok := bytes.Cut(line, []byte{':'}); ok && bytes.EqualFold(name, []byte("token")) {
		return strconv.Quote(string(name) + ": …")
	}
	return quoted(line)
}

func trimmed(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// next reads the head of the next message. What was not read of the body of the one before is passed over. The error is a *brokenRule, io.EOF where the stream has ended between
// messages, io.ErrUnexpectedEOF within one, or the stream's own; after it there is no message.
func (r *reader) next(m *message) error {
	if err := r.skip(); err != nil {
		return err
	}
	*m = message{}
	for size, sized := 0, false; ; { // lines are judged as they come: who has sent a wrong one may wait for an answer
		head := r.buf[r.at+size : r.end]
		i := bytes.IndexByte(head, '\n')
		if i < 0 {
			if err := bounds(size, len(head), trimmed(head)); err != nil {
				return err
			}
			if err := r.fill(); err != nil {
				if line := trimmed(r.buf[r.at:r.end]); err == io.ErrUnexpectedEOF && size == 0 && !begins(line) { // most likely a print
					return breaks("W1", "a message", "%s, and the stream's end", quoted(line))
				}
				return err
			}
			continue
		}
		line := trimmed(head[:i])
		if err := bounds(size, i+1, line); err != nil {
			return err
		}
		for _, c := range line {
			if (c < ' ' || c > '~') && c != '\t' {
				return breaks("W1", "ASCII without control characters", "the line %s", shown(line))
			}
		}
		var err error
		switch {
		case size == 0:
			err = r.first(m, line)
		case len(line) == 0:
			if err = m.check(r.maxBody); err == nil {
				r.at, r.rest = r.at+size+i+1, m.length
				return nil
			}
		default:
			err = m.field(line, &sized)
		}
		if err != nil {
			return err
		}
		size += i + 1
	}
}

// bounds holds a line, or what there is of it, to rule W2. Before it are so many bytes of the head, and it has n with its end.
func bounds(before, n int, line []byte) error {
	if len(line) > maxLine && before+maxLine < maxHead {
		return breaks("W2", "4096 at most", "a line of more than %d bytes, which begins with %s", maxLine, shown(line))
	}
	if before+n > maxHead {
		return breaks("W2", "16384 at most", "a head of more than %d bytes", maxHead)
	}
	return nil
}

// begins reports whether what there is of a first line may be a message's.
func begins(line []byte) bool {
	word, _, whole := bytes.Cut(line, []byte{' '})
	if whole {
		return verbOf(word) != 0
	}
	for _, v := range verbs[hello:] {
		if bytes.HasPrefix([]byte(v.word), word) {
			return true
		}
	}
	return false
}

// check judges a head that is whole.
func (m *message) check(most uint64) error {
	switch m.verb {
	case hello:
		most = maxHello
	case logged:
		most = maxLog
	case cancelled, progress, more, bye:
		if m.length > 0 {
			return breaks("W2", "none", "%s with a body of %d bytes", verbs[m.verb].word, m.length)
		}
	}
	if m.length > most {
		return breaks("W2", strconv.FormatUint(most, 10)+" at most", "%s with a body of %d bytes", verbs[m.verb].word, m.length)
	}
	return nil
}

// first reads a head's first line.
func (r *reader) first(m *message, line []byte) error {
	var words [4][]byte // the verb, and its arguments
	n, rest, further := 0, line, true
	for ; further && n < len(words); n++ {
		if i := bytes.IndexByte(rest, ' '); i >= 0 {
			words[n], rest = rest[:i], rest[i+1:]
		} else {
			words[n], further = rest, false
		}
	}
	if m.verb = verbOf(words[0]); m.verb == 0 {
		return breaks("W1", "a message, which begins with HELLO, CALL, DONE, CANCEL, LOG, PROGRESS, PART, MORE or BYE", "the line %s", quoted(line))
	}
	v := verbs[m.verb]
	wrong := further || n != 1+v.arguments
	for _, word := range words[:n] {
		wrong = wrong || len(word) == 0
	}
	if wrong {
		return breaks("W1", fmt.Sprintf("%s with %d arguments, one space before each", v.word, v.arguments), "the line %s", quoted(line))
	}
	switch m.verb {
	case bye:
		return nil
	case hello:
		return m.argument(words[1], "the version", &m.n)
	case logged:
		return level(words[1], &m.level)
	}
	if err := m.argument(words[1], "the id", &m.id); err != nil {
		return err
	}
	if m.id == 0 {
		return breaks("W7", "1 or more", "the id 0 in %s", quoted(line))
	}
	switch m.verb {
	case called:
		if !callable(words[2]) {
			return breaks("W7", "a C identifier of 1 to 128 bytes, or one of the wire's own names", "a call of %s", quoted(words[2]))
		}
		m.name = append(r.name[:0], words[2]...) // reading the body moves what is in the buffer
	case done:
		return m.status(words[2], &m.n)
	case progress:
		var ignored uint64
		if err := m.argument(words[2], "what is done", &ignored); err != nil {
			return err
		}
		return m.argument(words[3], "the total", &ignored)
	case more:
		return m.argument(words[2], "how many bytes", &m.n)
	}
	return nil
}

func (m *message) argument(b []byte, what string, to *uint64) (err error) {
	var ok bool
	if *to, ok = number(b); !ok {
		err = breaks("W2", aNumber, "%s as %s of %s", quoted(b), what, verbs[m.verb].word)
	}
	return err
}

const aNumber = "a decimal number below 2^63"

func (m *message) status(b []byte, to *uint64) error {
	if err := m.argument(b, "the status", to); err != nil {
		return err
	}
	if *to > math.MaxInt32 {
		return breaks("W8", "0 to 2147483647", "the status %d", *to)
	}
	return nil
}

var levels = [...]string{1: "error", 2: "warn", 3: "info", 4: "debug", 5: "trace"}

func level(b []byte, to *int32) error {
	for i, word := range levels {
		if i > 0 && string(b) == word {
			*to = int32(i)
			return nil
		}
	}
	return breaks("W13", "error, warn, info, debug or trace", "the level %s", quoted(b))
}

// callable reports whether a name is a C identifier of 128 bytes at most, or one behind `ferrule.`.
func callable(name []byte) bool {
	if len(name) > 128 {
		return false
	}
	name = bytes.TrimPrefix(name, []byte("ferrule."))
	for i, c := range name {
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return len(name) > 0
}

// field reads another line of a head. One that the verb has no use for is left out of account, as one of a host's call that only a sidecar's has.
func (m *message) field(line []byte, sized *bool) error {
	colon := bytes.IndexByte(line, ':')
	var room [len("content-length")]byte
	name, ok := folded(&room, line[:max(colon, 0)])
	if !ok {
		return breaks("W1", "Name: value, with a name of letters, digits and -, or the empty line that ends the head", "the line %s in the head of %s", shown(line), verbs[m.verb].word)
	}
	value := bytes.Trim(line[colon+1:], " \t")
	var to *uint64
	switch string(name) {
	case "content-length":
		if *sized {
			return breaks("W1", "it once", "Content-Length twice in the head of %s", verbs[m.verb].word)
		}
		*sized, to = true, &m.length
	case "timeout":
		if m.verb == called {
			to = &m.timeout
		}
	case "max-body":
		if m.verb == hello {
			to = &m.maxBody
		}
	case "log":
		if m.verb == hello {
			return level(value, &m.level)
		}
	case "hook":
		m.hook = m.verb == called
	case "progress":
		m.watched = m.verb == called
	case "status":
		if m.verb == part {
			var status uint64
			err := m.status(value, &status)
			m.broken = status != 0
			return err
		}
	case "stream":
		if m.verb == called {
			switch string(value) {
			case "in":
				m.stream = streamIn
			case "out":
				m.stream = streamOut
			case "both":
				m.stream = streamIn | streamOut
			default:
				return breaks("W15", "in, out or both", "Stream: %s", quoted(value))
			}
		}
	}
	if to != nil {
		if *to, ok = number(value); !ok {
			return breaks("W2", aNumber, "%s in the head of %s", quoted(line), verbs[m.verb].word)
		}
	}
	return nil
}

// folded writes the name of a field to room in small letters; one that is longer is none that this package knows, and comes back empty. ok is that it is a name.
func folded(room *[len("content-length")]byte, name []byte) (small []byte, ok bool) {
	for i, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		default:
			return nil, false
		}
		if i < len(room) {
			room[i] = c
		}
	}
	if len(name) > len(room) {
		return nil, true
	}
	return room[:len(name)], len(name) > 0
}

// number reads a number of rule W2.
func number(b []byte) (n uint64, ok bool) {
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

// body appends the body of the message to dst. Memory grows as bytes come: what a length promises is not believed.
func (r *reader) body(dst []byte) ([]byte, error) {
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
		dst = slices.Grow(dst, int(min(r.rest, max(1<<20, uint64(len(dst)))))) // a long one goes where it belongs at once
		room := dst[len(dst):cap(dst)]
		n, err := r.read(room[:min(uint64(len(room)), r.rest)], true)
		dst, r.rest = dst[:len(dst)+n], r.rest-uint64(n)
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// skip passes over what was not read of the body.
func (r *reader) skip() error {
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
