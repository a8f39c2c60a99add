package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// mail is what came from a sidecar: a message, or the reason why no further one comes.
type mail struct {
	wire.Message
	name string
	rule string
	body []byte
	err  error
	way  int
}

// mailbox keeps what came until the case has a look.
type mailbox struct {
	mu     sync.Mutex
	all    []mail
	bytes  int
	closed bool
	came   chan struct{} // of a capacity of 1
	taken  *sync.Cond
}

// mailboxSize is how many bytes wait there at most. A sidecar that floods its host is not read meanwhile.
const mailboxSize = 64 << 20

func newMailbox() *mailbox {
	b := &mailbox{came: make(chan struct{}, 1)}
	b.taken = sync.NewCond(&b.mu)
	return b
}

func (b *mailbox) put(m mail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.bytes > mailboxSize && !b.closed {
		b.taken.Wait()
	}
	if b.closed {
		return
	}
	b.all, b.bytes = append(b.all, m), b.bytes+len(m.body)+100
	select {
	case b.came <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() (m mail, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return mail{}, false
	}
	m, b.all = b.all[0], b.all[1:]
	b.bytes -= len(m.body) + 100
	b.taken.Broadcast()
	return m, true
}

func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.taken.Broadcast()
}

// outbox writes without anybody waiting for it: a sidecar need not read while it writes.
type outbox struct {
	mu   sync.Mutex
	next *sync.Cond
	all  []piece
	busy bool // something is being written
	end  bool
	to   io.Writer
	shut func() // after the last piece
}

// piece is what is written at once, or byte by byte.
type piece struct {
	b      []byte
	single bool
}

func newOutbox(to io.Writer, shut func()) *outbox {
	o := &outbox{to: to, shut: shut}
	o.next = sync.NewCond(&o.mu)
	go o.write()
	return o
}

func (o *outbox) put(b []byte, single bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end { // what is answered now would be the rest of a message that is cut off
		return
	}
	o.all = append(o.all, piece{b, single})
	o.next.Broadcast()
}

// close ends the stream once all is written.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = true
	o.next.Broadcast()
}

func (o *outbox) write() {
	defer o.shut()
	for {
		o.mu.Lock()
		o.busy = false
		for len(o.all) == 0 && !o.end {
			o.next.Wait()
		}
		if len(o.all) == 0 {
			o.mu.Unlock()
			return
		}
		p := o.all[0]
		o.all, o.busy = o.all[1:], true
		o.mu.Unlock()
		for len(p.b) > 0 {
			n := len(p.b)
			if p.single {
				n = 1
			}
			if _, err := o.to.Write(p.b[:n]); err != nil {
				break // what comes from the other side says why
			}
			if p.b = p.b[n:]; p.single {
				time.Sleep(100 * time.Microsecond) // the other side reads it by itself
			}
		}
	}
}

// ask is one call of the kit's.
type ask struct {
	function
	id     uint64
	what   string // as findings have it
	answer bool   // DONE came
	status abi.Status
	body   []byte
	plain  bool // no service

	cancelled bool
	stops     bool // it is to be cancelled
	streams   abi.Stream
	granted   uint64 // how many bytes of output may come
	output    []byte
	pieces    int
	refused   bool   // nobody takes the output any more
	asked     uint64 // how many bytes of input the sidecar has asked for
	sent      uint64
	steps     int // messages about its progress
	hosts     int // calls of host functions for it
	input     []byte
}

// peer is one session with the sidecar. All but its boxes is the case's goroutine's.
//
// A program has two ways (rule W16): its standard streams, and the descriptors that the environment names. Both are listened to until one of them has something.
type peer struct {
	k       *probe
	process *supervise.Process // nil for a URL
	dir     string
	stderr  *os.File
	in      []*outbox // to the sidecar, one of each way
	way     int       // which one it is, -1 where that is not known
	box     *mailbox
	closers []func() error

	answered func(mail) // what an answer is to what is no message; nil where nothing of the kind was sent
	before   []byte     // the body of the last message that came

	about    *abi.Description
	hello    *mail
	level    abi.Level // the least important lines that were asked for
	over     bool      // nothing comes any more
	why      error     // and this is the reason: nil for the end of the stream
	faulty   bool      // a finding says why it is over
	retired  bool      // it has said BYE
	panicked bool
	started  bool // ferrule.start has worked, and ferrule.stop was not called
	ending   bool // it was told BYE
	last     uint64
	calls    map[uint64]*ask // without an answer
	known    map[uint64]bool // ids that were used
	theirs   map[uint64]bool // the sidecar's calls without an answer
	style    style

	host     func(a *ask, name string, in []byte) (abi.Status, []byte) // nil for the case's ordinary answers
	info     func(key string) (abi.Status, []byte)
	unwanted bool // no want is offered
	reversed bool // answers to calls that came together go in another order
	held     [][]byte
	logs     []mail
	asks     int // host functions that were called
	infos    int
}

// style is how messages are written.
type style struct {
	crlf    bool
	odd     bool // fields in capitals, with spaces, and with some that nobody knows
	single  bool // byte by byte
	zero    bool // Content-Length: 0 where there is no body
	collect bool // nothing goes before it is flushed
}

// dialing is how a session begins.
type dialing struct {
	standard bool   // a program has its standard streams alone
	maxBody  uint64 // what the sidecar is told; 0 for nothing
}

// dial reaches the sidecar. It says nothing yet. Where that fails there is nothing to check, which is panicked with.
func (k *probe) dial(d dialing) *peer {
	p := &peer{k: k, way: -1, box: newMailbox(), calls: map[uint64]*ask{}, known: map[uint64]bool{}, theirs: map[uint64]bool{}, level: abi.LogTrace}
	k.peers = append(k.peers, p)
	longest := uint64(wire.MaxBody)
	if d.maxBody != 0 {
		longest = d.maxBody
	}
	listen := func(way int, r io.Reader) { go p.listen(way, r, longest) }
	if k.kind != isProgram {
		s, err := k.connect()
		if err != nil {
			panic(k.unreached(err))
		}
		p.way = 0
		p.closers = append(p.closers, s.Close)
		p.in = []*outbox{newOutbox(s, func() { _ = s.CloseWrite() })}
		listen(0, s)
		return p
	}
	fail := func(err error) { panic(errStart{err}) }
	must := func(err error) {
		if err != nil {
			fail(err)
		}
	}
	var err error
	p.dir, err = makeTemp("ferrule-check-")
	must(err)
	work := filepath.Join(p.dir, "work")
	must(os.Mkdir(work, 0o700))
	p.stderr, err = os.Create(filepath.Join(p.dir, "stderr"))
	must(err)
	ways := 2
	if d.standard || runtime.GOOS == "windows" { // which has no descriptors to be given
		ways = 1
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	for way := range ways {
		r, in, err := os.Pipe()
		must(err)
		out, w, err := os.Pipe()
		must(err)
		theirs = append(theirs, r, w)
		p.closers = append(p.closers, out.Close)
		p.in = append(p.in, newOutbox(in, func() { in.Close() }))
		listen(way, out)
	}
	var extra []*os.File
	if ways == 2 {
		extra = theirs[2:]
	} else {
		p.way = 0
	}
	p.process, err = k.launch(work, theirs[0], theirs[1], p.stderr, extra)
	must(err)
	return p
}

// twoWay is what a URL leads to.
type twoWay interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// connect connects to the URL.
func (k *probe) connect() (twoWay, error) {
	ctx, stop := context.WithDeadline(k.ctx, k.until)
	defer stop()
	switch k.kind {
	case isFIFO:
		in, out, ok := strings.Cut(k.place, ",")
		if !ok {
			return nil, &inspect.Error{Kind: inspect.ErrRead, Found: "one path", Expected: "fifo:IN,OUT"}
		}
		return openFIFOs(ctx, in, out)
	case isPipe:
		return openNamedPipe(ctx, k.place)
	case isTCP:
		if k.TLS == nil {
			break
		}
		c, err := (&tls.Dialer{Config: k.TLS}).DialContext(ctx, k.kind, k.place)
		if err != nil {
			return nil, err
		}
		return c.(twoWay), nil
	}
	c, err := (&net.Dialer{}).DialContext(ctx, k.kind, k.place)
	if err != nil {
		return nil, err
	}
	return c.(twoWay), nil
}

func (p *peer) listen(way int, r io.Reader, longest uint64) {
	reader := wire.NewReader(r, longest)
	for {
		m := mail{way: way}
		if m.err = reader.Next(&m.Message); m.err == nil {
			m.name, m.rule = string(m.Name), string(m.Rule)
			m.body, m.err = reader.Body(nil)
		}
		p.box.put(m)
		if m.err != nil {
			_, _ = io.Copy(io.Discard, r) // what it prints may be long
			return
		}
	}
}

// raw sends bytes as they are.
func (p *peer) raw(b []byte) {
	for way, o := range p.in {
		if p.way < 0 || way == p.way {
			o.put(b, p.style.single)
		}
	}
}

// send sends a message.
func (p *peer) send(m wire.Message, body []byte) {
	b := wire.Append(nil, &m, len(body))
	head := string(b[:len(b)-1])
	if p.style.zero && len(body) == 0 {
		head += "Content-Length: 0\n"
	}
	if p.style.odd {
		first, fields, _ := strings.Cut(head, "\n")
		lines := []string{first, "X-Ferrule-Check: a field that nobody knows"}
		for line := range strings.Lines(fields) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			lines = append(lines, strings.ToUpper(name)+":\t  "+value+" ")
		}
		head = strings.Join(append(lines, "x-empty:", ""), "\n")
	}
	head += "\n"
	if p.style.crlf {
		head = strings.ReplaceAll(head, "\n", "\r\n")
	}
	b = append([]byte(head), body...)
	if p.style.collect {
		p.held = append(p.held, b)
		return
	}
	p.raw(b)
}

// next waits for what comes.
func (p *peer) next(until time.Time) (mail, bool) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		if m, ok := p.box.take(); ok {
			return m, true
		}
		var quiet <-chan time.Time
		if p.reversed && len(p.held) > 0 {
			quiet = time.After(30 * time.Millisecond)
		}
		select {
		case <-p.box.came:
		case <-quiet:
			for _, b := range slices.Backward(p.held) {
				p.raw(b)
			}
			p.held = nil
		case <-t.C:
			return mail{}, false
		case <-p.k.ctx.Done():
			return mail{}, false
		}
	}
}

// pump takes what comes until something is so. It reports whether that came to be.
func (p *peer) pump(until time.Time, so func() bool) bool {
	for !so() {
		if p.over {
			return false
		}
		m, ok := p.next(until)
		if !ok {
			return false
		}
		p.take(m)
	}
	return true
}

// spent reports whether the session takes no more calls.
func (p *peer) spent() bool { return p == nil || p.over || p.panicked || p.retired || p.ending }

// broke reports that the session breaks a rule.
func (p *peer) broke(rule, function, expected, mend, seen string, args ...any) {
	p.k.add(Error, rule, function, fmt.Sprintf(seen, args...), expected, mend)
}

// take is what a host does with a message.
func (p *peer) take(m mail) {
	if p.way < 0 {
		switch {
		case m.way == 1 && m.err == nil:
			p.choose(1)
		case m.way == 0 && m.err == nil && m.Verb == wire.Hello:
			p.choose(0)
		case m.way == 0 && m.err != nil && !errors.Is(m.err, io.EOF): // a print, unless nothing comes by the other way
			if p.hello == nil {
				p.hello = &m
			}
			return
		case m.way == 1: // which it does not use
			if p.hello == nil {
				return
			}
			m = *p.hello
			p.hello = nil
			p.choose(0)
		case m.err != nil:
			if p.process != nil {
				select {
				case <-p.process.Done():
				case <-time.After(time.Until(p.k.soon(time.Second))):
					return // the other way may be its own
				}
			}
			p.choose(0)
		default:
			p.choose(0)
		}
	}
	if m.way != p.way {
		return // what is printed is for people
	}
	if m.err != nil {
		p.ended(m.err)
		return
	}
	p.before = m.body
	if p.hello == nil || p.hello.err != nil {
		if m.Verb != wire.Hello {
			p.broke("W4", "", "HELLO before anything else", "Send the hello first", "%s as the sidecar's first message", m.Verb)
		}
		p.hello = &m
		return
	}
	switch m.Verb {
	case wire.Hello:
		p.broke("W4", "", "one HELLO", "Send the hello once", "a second HELLO")
	case wire.Done:
		p.done(m)
	case wire.Call:
		p.called(m)
	case wire.Log:
		p.log(m)
	case wire.Progress:
		a := p.calls[m.ID]
		switch {
		case a != nil:
			a.steps++
		case !p.known[m.ID]:
			p.broke("W14", "", "the id of a call of the host's", "Say in PROGRESS which call it is of: the id of its CALL", "PROGRESS %d, and the host has no call of that id", m.ID)
		}
	case wire.Part:
		p.part(m)
	case wire.More:
		a := p.calls[m.ID]
		switch {
		case a != nil && a.streams&abi.StreamIn != 0:
			a.asked += m.N
		case a != nil || !p.known[m.ID]:
			p.broke("W15", "", "MORE for a call that has an input stream", "Ask for more of an input where the CALL said Stream: in, or both", "MORE %d, and the call has no input stream", m.ID)
		}
	case wire.Bye:
		p.retired = true
	default:
		p.broke("W7", "", "DONE, CALL, LOG, PROGRESS, PART, MORE or BYE", "Leave it out: it is for the host to send", "%s from the sidecar", m.Verb)
	}
}

func (p *peer) choose(way int) {
	p.way = way
	for i, o := range p.in {
		if i != way {
			o.close()
		}
	}
}

const mendPrint = "Print to the standard error; or take the descriptors that FERRULE_SIDECAR names, and have the standard output be as the standard error"

// ended is the end of what comes.
func (p *peer) ended(err error) {
	p.over = true
	var broken *wire.Error
	switch {
	case errors.As(err, &broken):
		p.faulty = true
		f := Finding{Rule: broken.Rule, Severity: Error, Function: p.running(), Seen: broken.Found, Expected: broken.Expected, Mend: mendOf[broken.Rule]}
		if broken.Rule == "W1" && p.process != nil && p.way == 0 && strings.HasPrefix(broken.Expected, "a message") {
			f.Rule, f.Mend, f.Seen = "W16", mendPrint, "on the standard output, where messages are: "+strings.TrimPrefix(broken.Found, "the line ")
		}
		switch {
		case broken.Rule == "W1" && counted(p.before, broken):
			f.Rule, f.Expected, f.Mend = "W1", "a message right behind the body before it, which has "+plural(len(p.before), "byte")+" by its Content-Length", mendCounted
			f.Seen = broken.Found + ", behind a body with characters of more than one byte"
		case broken.Rule == "W2" && strings.Contains(broken.Found, " with a body of "):
			f.Mend = mendLong
		}
		if f.Mend == "" {
			f.Mend = "See that rule of docs/wire.md"
		}
		if f.Function != "" {
			f.Seen = f.Function + ": " + f.Seen
			p.k.without[f.Function] = "the session broke off in case " + p.k.result.Case
		}
		p.k.result.add(f)
	case errors.Is(err, io.ErrUnexpectedEOF):
		p.why = err
	}
}

const (
	mendCounted = "Content-Length counts bytes, not characters: encode the text as UTF-8 first, and say the length of that"
	mendLong    = "Compare each body with the Max-Body of the host's hello before it is sent; answer with status 6 where an output is longer"
)

// counted reports whether the message behind a body is none because that body's Content-Length has counted characters: the body has some of more than one byte,
// and what stands behind it goes on with the rest of it, up to the next message or to the end.
func counted(body []byte, broken *wire.Error) bool {
	if !beyondASCII(body) {
		return false
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(broken.Found, "the line "), `"`)
	for _, verb := range []string{"HELLO ", "CALL ", "DONE ", "LOG ", "PROGRESS ", "PART ", "MORE ", "BYE"} {
		if strings.Index(rest, verb) > 0 {
			return true
		}
	}
	return strings.HasSuffix(broken.Found, ", and the stream's end") || strings.HasSuffix(broken.Found, "…")
}

func beyondASCII(text []byte) bool {
	return slices.ContainsFunc(text, func(b byte) bool { return b >= utf8.RuneSelf })
}

// mendOf says what to do about a message that breaks a rule.
var mendOf = map[string]string{
	"W1":  "Write each head as the verb with its arguments, the fields, and an empty line; count the bytes of a body in Content-Length, once",
	"W2":  "Keep to the bounds, and write numbers as decimals without a sign or a zero before them",
	"W5":  "Call functions by their names: a C identifier, or one of the wire's own",
	"W7":  "Number calls from 1 on",
	"W8":  "Answer with a status of the table",
	"W13": "Write log lines as the rule has them",
	"W15": "Send what was asked for, and no more",
}

// running is the function that runs alone.
func (p *peer) running() string {
	if len(p.calls) != 1 {
		return ""
	}
	for _, a := range p.calls {
		return a.label
	}
	return ""
}

// done takes an answer.
func (p *peer) done(m mail) {
	a := p.calls[m.ID]
	if a == nil && p.answered != nil { // of what is no message
		if !p.faulty {
			p.answered(m)
		}
		return
	}
	if a == nil {
		if p.known[m.ID] {
			p.broke("W7", "", "one answer to each call", "Answer each call once", "DONE %d, a second answer to that call", m.ID)
		} else {
			p.broke("W7", "", "the id of a call that has no answer yet", "Answer with the id that the CALL had", "DONE %d, and the host has no call of that id", m.ID)
		}
		return
	}
	delete(p.calls, m.ID)
	a.answer, a.status, a.body = true, m.Status, m.body
	if m.Status == 8 || m.Status > 9 && m.Status < 1000 {
		p.k.add(Warning, "W8", a.label, fmt.Sprintf("%s: the status %d", a.what, m.Status), "a status of the table, or 1000 and more", "Use 1 for what has failed, which hosts take it for, or a number of your own from 1000 on")
	}
	if m.Status != 0 && !utf8.Valid(m.body) {
		p.broke("W8", a.label, "a message in UTF-8", "Encode the message as UTF-8, and quote what came from elsewhere", "%s: the message %s of status %d", a.what, brief(m.body), m.Status)
	}
	if m.Status == abi.StatusPanic && a.plain {
		p.panicked = true
		p.k.note("%s has panicked: a host starts a new sidecar then", a.label)
	}
	if m.rule != "" && m.Status != abi.StatusMisuse {
		p.k.add(Warning, "W8", a.label, fmt.Sprintf("%s: a field Rule with status %d", a.what, m.Status), "Rule with status 7 alone", "Leave it out")
	}
}

func brief(b []byte) string {
	if len(b) > 60 {
		return strconv.Quote(string(b[:60])) + "…"
	}
	return strconv.Quote(string(b))
}

// called answers a call of the sidecar's.
func (p *peer) called(m mail) {
	if p.theirs[m.ID] {
		p.broke("W7", "", "an id that no call of its own has which was not answered", "Count calls of the host up", "CALL %d %s, while another call of that id runs", m.ID, m.name)
	}
	status, out := p.allow(m)
	d := wire.Message{Verb: wire.Done, ID: m.ID, Status: status}
	b := append(wire.Append(nil, &d, len(out)), out...)
	if p.reversed {
		p.held = append(p.held, b)
		return
	}
	p.raw(b)
}

// allow looks at a call of the sidecar's, and finds its answer.
func (p *peer) allow(m mail) (abi.Status, []byte) {
	a, ok := p.whose(m)
	if !ok {
		return abi.StatusMisuse, []byte("for no call that runs")
	}
	if a != nil {
		a.hosts++
	}
	switch name := m.name; {
	case name == wire.Info:
		p.infos++
		key := string(m.body)
		if n := len(key); n == 0 || n > 256 || !utf8.ValidString(key) {
			if a != nil && bytes.Equal(m.body, a.input) { // it asks for what the caller, which is this kit, has said
				return abi.StatusMisuse, nil
			}
			p.k.once("keys", Warning, "W11", label(a), fmt.Sprintf("ferrule.info with the key %.80q", key), "a key of R26: UTF-8, of 1 to 256 bytes", "Ask for one of the keys of R26")
			return abi.StatusMisuse, nil
		}
		if p.info != nil {
			return p.info(key)
		}
		wanted, ok := strings.CutPrefix(key, "offers.")
		switch {
		case ok && !p.offers(wanted):
			return abi.StatusOK, []byte("no")
		case ok:
			return abi.StatusOK, []byte("yes")
		case key == "instance":
			return abi.StatusOK, []byte("0")
		}
		return abi.StatusUnsupported, nil
	case name == wire.Next:
		if a == nil || !a.wrap {
			p.broke("W11", label(a), "ferrule.next in a hook with the key wrap", "Declare wrap=yes, or leave the call out", "ferrule.next%s", forWhom(a))
			return abi.StatusMisuse, nil
		}
		if p.host != nil {
			return p.host(a, name, m.body)
		}
		return abi.StatusOK, m.body
	case strings.HasPrefix(name, "ferrule."):
		p.broke("W11", label(a), "ferrule.info or ferrule.next", "Call what the host has", "a call of %s%s", name, forWhom(a))
		return abi.StatusUnsupported, nil
	case !p.declares(name):
		p.broke("W11", label(a), "one of the manifest's imports or wants", "Name it in the manifest, as an import or as a want", "a call of %s%s, which the manifest does not name", name, forWhom(a))
		return abi.StatusUnsupported, nil
	case !p.offers(name):
		return abi.StatusUnsupported, []byte("this host does not offer it")
	case p.host != nil:
		p.asks++
		return p.host(a, name, m.body)
	}
	p.asks++
	return p.k.answer(m.name, m.body)
}

func label(a *ask) string {
	if a == nil {
		return ""
	}
	return a.label
}

func forWhom(a *ask) string {
	if a == nil {
		return ""
	}
	return " in " + a.what
}

// whose finds the call that a call of the sidecar's is for: nil for none.
func (p *peer) whose(m mail) (a *ask, ok bool) {
	switch {
	case m.HasFor && m.For != 0:
		if a = p.calls[m.For]; a == nil {
			p.broke("W11", "", "For with the id of a call that runs", "Say the id of the host's CALL; nothing is done for it once its DONE was sent", "CALL %s with For: %d, which is no call that runs", m.name, m.For)
			return nil, false
		}
	case m.HasFor:
	case len(p.calls) == 1:
		for _, a = range p.calls {
		}
	default:
		p.broke("W11", "", "For, where not exactly one call runs", "Say For with the id of the call, or For: 0 where it is done for none", "CALL %s without For, while %s", m.name, runs(len(p.calls)))
		return nil, false
	}
	return a, true
}

func runs(n int) string {
	if n == 0 {
		return "no call runs"
	}
	return plural(n, "call") + " run"
}

func (p *peer) declares(name string) bool {
	named := func(s abi.Symbol) bool { return s.Name == name }
	return p.about != nil && (slices.ContainsFunc(p.about.Imports, named) || slices.ContainsFunc(p.about.Wants, named))
}

// offers reports whether the host has a function.
func (p *peer) offers(name string) bool {
	named := func(s abi.Symbol) bool { return s.Name == name }
	return p.declares(name) && (!p.unwanted || slices.ContainsFunc(p.about.Imports, named))
}

// log looks at a log line.
func (p *peer) log(m mail) {
	const mend = "End the body with key=value and a NUL for each field, and say in Fields how many bytes these are"
	a := p.calls[m.For] // where it is of a call that is over, the line is of none
	p.logs = append(p.logs, m)
	text, fields := m.body[:len(m.body)-int(m.Fields)], m.body[len(m.body)-int(m.Fields):]
	if !utf8.Valid(m.body) {
		p.broke("W13", label(a), "text in UTF-8", "Encode log lines as UTF-8", "the log line %s", brief(m.body))
	}
	if bytes.IndexByte(text, 0) >= 0 && m.Fields == 0 {
		p.broke("W13", label(a), "a text without a NUL; fields behind it are counted by Fields", mend, "the log line %s", brief(m.body))
	}
	if len(fields) > 0 {
		whole := fields[len(fields)-1] == 0
		for field := range bytes.SplitSeq(bytes.TrimSuffix(fields, []byte{0}), []byte{0}) {
			if i := bytes.IndexByte(field, '='); i <= 0 {
				whole = false
			}
		}
		if !whole {
			p.broke("W13", label(a), "key=value, each closed by a NUL", mend, "the fields %s of a log line", brief(fields))
		}
	}
	if m.Level > p.level {
		p.k.add(Warning, "W4", label(a), fmt.Sprintf("a log line of level %s, where the host's hello said Log: %s", wire.LevelWord(m.Level), wire.LevelWord(p.level)),
			"no line that is less important", "Compare with the level before you send a line: nobody looks at it")
	}
}

// part takes a piece of an output.
func (p *peer) part(m mail) {
	a := p.calls[m.ID]
	switch {
	case a == nil && p.known[m.ID]:
		return
	case a == nil || a.streams&abi.StreamOut == 0:
		p.broke("W15", label(a), "PART for a call that has an output stream", "Send pieces where the CALL said Stream: out, or both", "PART %d, and the call has no output stream", m.ID)
		return
	case m.Broken:
		p.broke("W15", a.label, "a DONE with a status where the output breaks off", "Answer the call with a failure", "%s: a PART with Status", a.what)
	case len(m.body) == 0:
		p.broke("W15", a.label, "DONE at the output's end", "Leave out the empty PART: it is the end of an input, which the host sends", "%s: a PART without a body", a.what)
	}
	if a.refused {
		return
	}
	a.pieces++
	if uint64(len(m.body)) > a.granted {
		p.broke("W15", a.label, "no more than the host has asked for", "Count what was sent, and wait for MORE when it is what was asked for: 65,536 bytes at first",
			"%s: a piece of %s, where %d more were asked for", a.what, plural(len(m.body), "byte"), a.granted)
		a.refused = true
		return
	}
	a.granted -= uint64(len(m.body))
	if len(a.output) < 1<<20 {
		a.output = append(a.output, m.body...)
	}
}

// calling is how a call is made.
type calling struct {
	id      uint64 // 0 for the next one
	timeout uint64
	streams abi.Stream
	watched bool
	how     string // what differs, for findings
	service bool
}

// begin sends a call.
func (p *peer) begin(f function, in input, o calling) *ask {
	if o.id == 0 {
		for p.last++; p.known[p.last] && p.calls[p.last] != nil; p.last++ {
		}
		o.id = p.last
	}
	a := &ask{function: f, id: o.id, what: f.label + " with " + in.name + o.how, streams: o.streams, granted: wire.Window, asked: wire.Window, plain: !o.service, input: in.bytes}
	p.calls[o.id], p.known[o.id] = a, true
	name, hook := strings.CutPrefix(f.label, "hook ")
	p.send(wire.Message{Verb: wire.Call, ID: o.id, Name: []byte(name), Hook: hook, Timeout: o.timeout, Stream: o.streams, Watched: o.watched}, in.bytes)
	return a
}

// await waits for an answer. When none comes in time the call is cancelled; when there is none nevertheless, that is a finding, and the session is over.
func (p *peer) await(a *ask) bool {
	answered := func() bool { return a.answer }
	if p.pump(p.k.soon(p.k.budget()), answered) {
		return true
	}
	if !p.over {
		p.cancel(a)
		if p.pump(p.k.soon(p.k.patience()), answered) {
			p.k.slow[a.label] = true
			p.k.note("%s runs until it is cancelled: most cases leave it out", a.label)
			return true
		}
	}
	p.lost(a)
	return false
}

func (p *peer) cancel(a *ask) {
	a.cancelled = true
	p.send(wire.Message{Verb: wire.Cancel, ID: a.id}, nil)
}

// lost reports that a call has no answer.
func (p *peer) lost(a *ask) {
	k := p.k
	defer p.kill()
	if p.faulty || k.ctx.Err() != nil {
		return
	}
	f := Finding{Rule: k.rule, Severity: Error, Function: a.label, Expected: k.expected, Mend: k.mend}
	if a.label == nobody.label {
		f.Function = ""
	} else if a.plain {
		k.without[a.label] = "it was not answered in case " + k.result.Case
	}
	switch {
	case p.over:
		f.Seen = fmt.Sprintf("%s: %s, and the call has no answer", a.what, p.end())
	case (k.ordinary || a.stops) && a.cancelled && a.plain && a.label != nobody.label:
		f.Rule, f.Expected, f.Mend = "W12", "an answer within half a second of CANCEL", "Look for CANCEL while a function runs that may run long, and answer with status 4"
		f.Seen = fmt.Sprintf("%s: no answer, and none %v after CANCEL: a host ends the sidecar then", a.what, k.patience())
		if k.about.Manifest.Threads != abi.Concurrent { // it need not read meanwhile
			f.Severity = Warning
		}
	default:
		f.Seen = a.what + ": no answer"
	}
	k.result.add(f)
}

// end says in words how the session has ended.
func (p *peer) end() string {
	words := "the sidecar has ended the session"
	if p.process != nil {
		select {
		case <-p.process.Done():
			words = "the sidecar has ended: " + p.process.State().String()
		case <-time.After(time.Until(p.k.soon(p.k.patience()))):
		}
		if said := strings.TrimSpace(tail(p.stderr)); said != "" {
			lines := strings.Split(said, "\n")
			words += fmt.Sprintf("; its last words: %q", strings.Join(lines[max(0, len(lines)-2):], "\n"))
		}
	}
	if p.why != nil {
		words += ", within a message"
	}
	return words
}

// call makes a call, and waits for its answer.
func (p *peer) call(f function, in input, o calling) (*ask, bool) {
	a := p.begin(f, in, o)
	return a, p.await(a)
}

// gone waits for the end of the session.
func (p *peer) gone(until time.Time) bool {
	if !p.pump(until, func() bool { return p.over }) {
		if !p.over {
			return false
		}
	}
	if p.process == nil {
		return true
	}
	select {
	case <-p.process.Done():
		return true
	case <-time.After(time.Until(until)):
		return false
	case <-p.k.ctx.Done():
		return false
	}
}

// kill ends the session without a word.
func (p *peer) kill() {
	p.over, p.faulty = true, true
	p.close(false)
}

// finish ends the session as a host does.
func (p *peer) finish() {
	if p.closers == nil {
		return
	}
	if p.k.ctx.Err() == nil && !p.over && !p.ending && len(p.calls) == 0 {
		if p.started && p.about.HasStop && !p.panicked {
			stop := p.begin(service(wire.Stop), input{}, calling{service: true})
			p.pump(time.Now().Add(p.k.patience()), func() bool { return stop.answer })
		}
		p.ending = true
		p.send(wire.Message{Verb: wire.Bye}, nil)
	}
	for _, o := range p.in {
		o.close()
	}
	// A pipe by name has no end of its own in one direction: without BYE nothing says that the session is over.
	well := p.k.ctx.Err() == nil && !p.k.lingers && (p.ending || p.k.kind != isPipe)
	if well {
		until := time.Now().Add(p.k.patience())
		if p.k.lingers = !p.gone(until); p.k.lingers {
			well = false
		}
	}
	p.close(well)
}

// close ends what is left. well says that the program has ended by itself.
func (p *peer) close(well bool) {
	if p.closers == nil {
		return
	}
	k := p.k
	p.box.close()
	for _, o := range p.in {
		o.close()
	}
	if p.process != nil {
		grace := time.Duration(0)
		if well && !k.said["left"] {
			grace = leftGrace
		}
		left, _ := p.process.End(grace)
		if well && len(left) > 0 {
			k.once("left", Error, "W6", "", fmt.Sprintf("left when the session was over: %s, %s", plural(len(left), "process"), supervise.Names(left)), "no process of the sidecar's when it has ended",
				"End the processes that it has started, and wait for them, before it ends")
		}
	}
	for _, closer := range p.closers {
		_ = closer()
	}
	p.closers = nil
	if p.stderr != nil {
		p.stderr.Close()
		if !k.said["files"] {
			r := &Result{}
			(&parent{}).leavesFiles(r, filepath.Join(p.dir, "work"))
			for _, f := range r.Findings {
				k.once("files", Warning, "W6", "", f.Seen, "nothing left when the sidecar has ended", "Make files where the configuration, the input or ferrule.info's data says")
			}
		}
		removeAll(p.dir)
	}
}
