package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/manifest"
)

// Reader reads messages from a stream. It is for one goroutine at a time.
type Reader struct {
	r       io.Reader
	buf     []byte
	at, end int    // what was read and not used yet
	rest    uint64 // of the body, that was not read yet
	maxBody uint64
	kept    []byte // what a message points to

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

// Whole returns the verb of the next message, where reading it and its body waits for nothing; otherwise 0, as within a body.
func (r *Reader) Whole() Verb {
	if r.rest > 0 {
		return 0
	}
	var found Verb
	var length uint64
	for b := r.buf[r.at:r.end]; ; {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return 0
		}
		line := trimmed(b[:i])
		b = b[i+1:]
		if found == 0 {
			word, _, _ := bytes.Cut(line, []byte{' '})
			if found = verb(word); found == 0 {
				return 0
			}
			continue
		}
		if len(line) == 0 {
			if uint64(len(b)) < length {
				return 0
			}
			return found
		}
		const name = "content-length:"
		if len(line) > len(name) && line[len(name)-1] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			length, _ = Number(bytes.Trim(line[len(name):], " \t")) // what is none ends the session when it is read
		}
	}
}

// fill reads more, behind what is in the buffer.
func (r *Reader) fill() error {
	if r.at > 0 {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	n, err := r.read(r.buf[r.end:], r.end > 0 || r.rest > 0)
	r.end += n
	return err
}

// read reads from the stream until there is something, which goes before an error. within is that a message has begun.
func (r *Reader) read(b []byte, within bool) (int, error) {
	for nothing := 0; nothing < 100; { // readers may return nothing, but not for ever
		n, err := r.r.Read(b)
		switch {
		case n > 0:
			return n, nil
		case within && r.Resume != nil && errors.Is(err, os.ErrDeadlineExceeded):
			r.Resume()
		case within && err == io.EOF:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		default:
			nothing++
		}
	}
	return 0, io.ErrNoProgress
}

// shown is quoted of a line of a head, but for a token, which is nobody's to read.
func shown(line []byte) string {
	if name, _, ok := bytes.Cut(line, []byte{':'}); ok && bytes.EqualFold(name, []byte("token")) {
		return strconv.Quote(string(name) + ": …")
	}
	return manifest.Quoted(line)
}

// Next reads the next message's head. What was not read of the body of the one before is passed over. The error is an *Error; io.EOF where the stream
// has ended between messages, and io.ErrUnexpectedEOF within one; or the stream's own. After an *Error there are no more messages (rule W3). After an
// os.ErrDeadlineExceeded nothing is lost: the next call goes on.
func (r *Reader) Next(m *Message) error {
	if err := r.Skip(); err != nil {
		return err
	}
	*m = Message{}
	// The head stays in the buffer until it is whole: an interruption loses none of it. Its lines are judged as they come, since whoever has sent a wrong
	// one may wait for an answer.
	for size, sized := 0, false; ; {
		head := r.buf[r.at+size : r.end]
		i := bytes.IndexByte(head, '\n')
		if i < 0 {
			line := trimmed(head)
			if err := bounds(size, len(head), line); err != nil {
				return err
			}
			if err := r.fill(); err != nil {
				if line = trimmed(r.buf[r.at:r.end]); err == io.ErrUnexpectedEOF && size == 0 && !begins(line) { // most likely a print
					return broken("W1", "a message", "%s, and the stream's end", manifest.Quoted(line))
				}
				return err
			}
			continue
		}
		line := trimmed(head[:i])
		if err := bounds(size, i+1, line); err != nil {
			return err
		}
		if !printable(line) {
			return broken("W1", "ASCII without control characters", "the line %s", shown(line))
		}
		var err error
		switch {
		case size == 0:
			err = r.first(m, line)
		case len(line) == 0:
			if err = m.whole(r.maxBody); err == nil {
				r.at, r.rest = r.at+size+i+1, m.Length
				return nil
			}
		default:
			err = r.field(m, line, &sized)
		}
		if err != nil {
			return err
		}
		size += i + 1
	}
}

// bounds holds a line, or what there is of it, to rule W2. Before it are so many bytes of the head, and it has n with its end. The bound that the stream
// breaks first counts, however it comes in pieces.
func bounds(before, n int, line []byte) error {
	if len(line) > MaxLine && before+MaxLine < MaxHead {
		return broken("W2", fmt.Sprintf("%d at most", MaxLine), "a line of more than %d bytes, which begins with %s", MaxLine, shown(line))
	}
	if before+n > MaxHead {
		return broken("W2", fmt.Sprintf("%d at most", MaxHead), "a head of more than %d bytes", MaxHead)
	}
	return nil
}

// printable reports whether a line is what rule W1 says: bytes from 32 to 126, and tabs.
func printable(line []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(line) >= 8; line = line[8:] {
		// The high bit of a byte is set by the one if it is below 32 or above 159, by the other if it is 127 to 254. A borrow or a carry, which comes from
		// a byte that is wrong itself, may set it for one that is right.
		x := binary.LittleEndian.Uint64(line)
		if ((x-32*each)|(x+each))&high != 0 && !slowPrintable(line[:8]) {
			return false
		}
	}
	return slowPrintable(line)
}

func slowPrintable(line []byte) bool {
	for _, c := range line {
		if (c < ' ' || c > '~') && c != '\t' {
			return false
		}
	}
	return true
}

// whole judges a head that is whole.
func (m *Message) whole(most uint64) error {
	expected := ""
	switch m.Verb {
	case Hello:
		most = MaxManifest
	case Log:
		most = MaxLog
		if m.Fields > m.Length {
			return broken("W13", "no more than the body has", "Fields: %d in a body of %s", m.Fields, count.Of(m.Length, "byte"))
		}
	case Cancel, Progress, More, Bye:
		most, expected = 0, "none"
	}
	if m.Length <= most {
		return nil
	}
	if expected == "" {
		expected = fmt.Sprintf("%d at most", most)
	}
	return broken("W2", expected, "%s with a body of %s", m.Verb, count.Of(m.Length, "byte"))
}

func trimmed(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// begins reports whether what there is of a first line may be that of a message.
func begins(line []byte) bool {
	word, _, whole := bytes.Cut(line, []byte{' '})
	if whole {
		return verb(word) != 0
	}
	return slices.ContainsFunc(verbs[Hello:], func(v string) bool { return strings.HasPrefix(v, string(word)) })
}

func verb(word []byte) Verb {
	switch string(word) {
	case "HELLO":
		return Hello
	case "CALL":
		return Call
	case "DONE":
		return Done
	case "CANCEL":
		return Cancel
	case "LOG":
		return Log
	case "PROGRESS":
		return Progress
	case "PART":
		return Part
	case "MORE":
		return More
	case "BYE":
		return Bye
	}
	return 0
}

// arguments are how many each verb has.
var arguments = [...]int{Hello: 1, Call: 2, Done: 2, Cancel: 1, Log: 1, Progress: 3, Part: 1, More: 2, Bye: 0}

// first reads a head's first line.
func (r *Reader) first(m *Message, line []byte) error {
	var words [4][]byte // the verb, and its arguments
	n, rest, more := 0, line, true
	for ; more && n < len(words); n++ {
		if i := bytes.IndexByte(rest, ' '); i >= 0 {
			words[n], rest = rest[:i], rest[i+1:]
		} else {
			words[n], more = rest, false
		}
		if n == 0 {
			if m.Verb = verb(words[0]); m.Verb == 0 {
				return broken("W1", "a message, which begins with HELLO, CALL, DONE, CANCEL, LOG, PROGRESS, PART, MORE or BYE", "the line %s", manifest.Quoted(line))
			}
		} else if len(words[n]) == 0 {
			more = true // one space too many
			break
		}
	}
	if more || n != 1+arguments[m.Verb] {
		return broken("W1", fmt.Sprintf("%s with %d arguments, one space before each", m.Verb, arguments[m.Verb]), "the line %s", manifest.Quoted(line))
	}
	switch m.Verb {
	case Hello:
		return m.argument(words[1], "the version", &m.Version)
	case Log:
		return level(words[1], "the level ", &m.Level)
	case Bye:
		return nil
	}
	if err := m.argument(words[1], "the id", &m.ID); err != nil {
		return err
	}
	if m.ID == 0 {
		return broken("W7", "1 or more", "the id 0 in %s", manifest.Quoted(line))
	}
	switch m.Verb {
	case Call:
		if !validName(words[2]) {
			return broken("W7", "a C identifier of 1 to 128 bytes, or one of the wire's own names", "a call of %s", manifest.Quoted(words[2]))
		}
		m.Name = r.keep(words[2])
	case Done:
		return m.status(words[2], &m.Status)
	case Progress:
		if err := m.argument(words[2], "what is done", &m.Done); err != nil {
			return err
		}
		return m.argument(words[3], "the total", &m.Total)
	case More:
		return m.argument(words[2], "how many bytes", &m.N)
	}
	return nil
}

// keep copies what a message has of its head: reading its body may move what is in the buffer.
func (r *Reader) keep(b []byte) []byte {
	r.kept = append(r.kept[:0], b...)
	return r.kept
}

func (m *Message) argument(b []byte, what string, to *uint64) error {
	var ok bool
	if *to, ok = Number(b); !ok {
		return broken("W2", aNumber, "%s as %s of %s", manifest.Quoted(b), what, m.Verb)
	}
	return nil
}

const aNumber = "a decimal number below 2^63"

func (m *Message) status(b []byte, to *abi.Status) error {
	var n uint64
	if err := m.argument(b, "the status", &n); err != nil {
		return err
	}
	*to = abi.Status(min(n, math.MaxInt32))
	if n > math.MaxInt32 {
		return broken("W8", "0 to 2147483647", "the status %d", n)
	}
	return nil
}

func level(b []byte, what string, to *abi.Level) error {
	switch string(b) {
	case "error":
		*to = abi.LogError
	case "warn":
		*to = abi.LogWarn
	case "info":
		*to = abi.LogInfo
	case "debug":
		*to = abi.LogDebug
	case "trace":
		*to = abi.LogTrace
	default:
		return broken("W13", "error, warn, info, debug or trace", "%s%s", what, manifest.Quoted(b))
	}
	return nil
}

// validName is abi.ValidName, or the same behind the wire's own prefix.
func validName(name []byte) bool {
	if len(name) > abi.MaxName {
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

// field reads another line of a head.
func (r *Reader) field(m *Message, line []byte, sized *bool) error {
	colon := bytes.IndexByte(line, ':')
	var small [longestField]byte
	name, ok := fold(&small, line[:max(colon, 0)])
	if !ok {
		return broken("W1", "Name: value, with a name of letters, digits and -, or the empty line that ends the head", "the line %s in the head of %s", manifest.Quoted(line), m.Verb)
	}
	value := bytes.Trim(line[colon+1:], " \t")
	var to *uint64
	switch string(name) {
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
	case "within":
		if m.Verb == Call {
			to = &m.Within
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
			var status abi.Status
			err := m.status(value, &status)
			m.Broken = status != abi.StatusOK
			return err
		}
	case "log":
		if m.Verb == Hello {
			return level(value, "Log: ", &m.Level)
		}
	case "hook":
		m.Hook = m.Verb == Call
	case "progress":
		m.Watched = m.Verb == Call
	case "resume":
		m.Resumes = m.Verb == Call
	case "rule":
		if m.Verb == Done {
			m.Rule = r.keep(value)
		}
	case "not-run":
		if m.Verb == Done {
			m.NotRun = reason(value) // one that is not known is none
		}
	case "token":
		if m.Verb == Hello {
			m.Token = r.keep(value)
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
				return broken("W15", "in, out or both", "Stream: %s", manifest.Quoted(value))
			}
		}
	}
	if to == nil {
		return nil
	}
	if *to, ok = Number(value); !ok {
		return broken("W2", aNumber, "%s in the head of %s", manifest.Quoted(line), m.Verb)
	}
	return nil
}

const longestField = len("content-length")

// fold writes the name of a field to small in small letters, as much of it as there is room for; one that is longer is none that this package
// knows, and comes back empty. ok is that it is a name.
func fold(small *[longestField]byte, name []byte) (folded []byte, ok bool) {
	for i, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		default:
			return nil, false
		}
		if i < len(small) {
			small[i] = c
		}
	}
	if len(name) > len(small) {
		return nil, true
	}
	return small[:len(name)], len(name) > 0
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
		n, err := r.read(room, true)
		dst, r.rest = dst[:len(dst)+n], r.rest-uint64(n)
		if err != nil {
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
