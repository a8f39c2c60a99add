package sidecar

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// plain is a message as plainly reads it.
type plain struct {
	verb                string
	id, n               uint64
	name                string
	level               int
	maxBody, timeout    uint64
	stream              string
	hook, looks, broken bool
	body                string
}

// How a stream ends for plainly, if not by a rule that is broken.
const (
	ended  = "the end"
	cutOff = "cut off"
)

var (
	ascii     = regexp.MustCompile(`^[\t -~]*$`)
	decimal   = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	aName     = regexp.MustCompile(`^(ferrule\.)?[A-Za-z_][A-Za-z0-9_]*$`)
	fieldLine = regexp.MustCompile(`^([A-Za-z0-9-]+):[ \t]*(.*?)[ \t]*$`)
	words     = map[string]int{"HELLO": 1, "CALL": 2, "DONE": 2, "CANCEL": 1, "LOG": 1, "PROGRESS": 3, "PART": 1, "MORE": 2, "BYE": 0}
	severity  = []string{"", "error", "warn", "info", "debug", "trace"}
)

// plainly reads the messages of a stream as docs/wire.md has them, slowly, and with nothing of the reader's. The rule is what breaks, or how the stream ends.
func plainly(stream string) (all []plain, rule string) {
	for stream != "" {
		p, rest, rule := plainlyOne(stream)
		if rule != "" {
			return all, rule
		}
		all, stream = append(all, p), rest
	}
	return all, ended
}

// wrong is a rule that is broken, thrown by plainlyOne.
type wrong string

func plainlyOne(stream string) (p plain, rest, rule string) {
	defer func() {
		if w, ok := recover().(wrong); ok {
			rule = string(w)
		}
	}()
	number := func(text string) uint64 {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil || !decimal.MatchString(text) {
			panic(wrong("W2"))
		}
		return n
	}
	status := func(text string) uint64 {
		n := number(text)
		if n > 1<<31-1 {
			panic(wrong("W8"))
		}
		return n
	}
	level := func(text string) int {
		i := slices.Index(severity, text)
		if i < 1 {
			panic(wrong("W13"))
		}
		return i
	}
	length, sized := uint64(0), false
	used := 0
	for first := true; ; first = false {
		line, _, ends := strings.Cut(stream[used:], "\n")
		size := len(line)
		if ends {
			size++
		}
		line = strings.TrimSuffix(line, "\r")
		if len(line) > 4096 && used+4096 < 16384 {
			panic(wrong("W2"))
		}
		if used+size > 16384 {
			panic(wrong("W2"))
		}
		if !ends {
			word, _, whole := strings.Cut(line, " ")
			begins := false
			for w := range words {
				begins = begins || whole && w == word || !whole && strings.HasPrefix(w, word)
			}
			if first && !begins {
				panic(wrong("W1"))
			}
			return p, "", cutOff
		}
		if !ascii.MatchString(line) {
			panic(wrong("W1"))
		}
		used += size
		switch {
		case first:
			args := strings.Split(line, " ")
			n, known := words[args[0]]
			if !known || len(args) != 1+n || slices.Contains(args, "") {
				panic(wrong("W1"))
			}
			p.verb = args[0]
			switch p.verb {
			case "BYE":
				continue
			case "HELLO":
				p.n = number(args[1])
				continue
			case "LOG":
				p.level = level(args[1])
				continue
			}
			if p.id = number(args[1]); p.id == 0 {
				panic(wrong("W7"))
			}
			switch p.verb {
			case "CALL":
				if p.name = args[2]; !aName.MatchString(p.name) || len(p.name) > 128 {
					panic(wrong("W7"))
				}
			case "DONE":
				p.n = status(args[2])
			case "MORE":
				p.n = number(args[2])
			case "PROGRESS":
				number(args[2])
				number(args[3])
			}
			continue
		case line != "":
			field := fieldLine.FindStringSubmatch(line)
			if field == nil {
				panic(wrong("W1"))
			}
			value := field[2]
			switch p.verb + " " + strings.ToLower(field[1]) {
			case p.verb + " content-length":
				if sized {
					panic(wrong("W1"))
				}
				sized, length = true, number(value)
			case "HELLO log":
				p.level = level(value)
			case "HELLO max-body":
				p.maxBody = number(value)
			case "CALL timeout":
				p.timeout = number(value)
			case "CALL stream":
				if p.stream = value; !slices.Contains([]string{"in", "out", "both"}, value) {
					panic(wrong("W15"))
				}
			case "CALL hook":
				p.hook = true
			case "CALL progress":
				p.looks = true
			case "PART status":
				p.broken = status(value) != 0
			}
			continue
		}
		most := uint64(256 << 20)
		switch p.verb {
		case "HELLO", "LOG":
			most = 1 << 20
		case "CANCEL", "PROGRESS", "MORE", "BYE":
			most = 0
		}
		if length > most {
			panic(wrong("W2"))
		}
		if uint64(len(stream)-used) < length {
			return p, "", cutOff
		}
		p.body = stream[used : used+int(length)]
		return p, stream[used+int(length):], ""
	}
}

// pieces gives a stream in pieces of random lengths.
type pieces struct {
	rest string
	r    *rand.Rand
	most int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.rest == "" {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(1+p.r.IntN(p.most), len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

// quickly reads the messages of a stream with the reader.
func quickly(in io.Reader, whole bool) (all []plain, rule string, err error) {
	r := newReader(in, maxBody)
	var m message
	var body []byte
	for {
		isCall := r.whole("CALL ")
		err = r.next(&m)
		p := plain{verb: verbs[m.verb].word, id: m.id, n: m.n, name: string(m.name), level: int(m.level), maxBody: m.maxBody, timeout: m.timeout,
			stream: [...]string{"", "in", "out", "both"}[m.stream], hook: m.hook, looks: m.watched, broken: m.broken}
		if err == nil && whole {
			body, err = r.body(body[:0])
			p.body = string(body)
		}
		if isCall && (err == nil && m.verb != called || err == io.EOF || err == io.ErrUnexpectedEOF) {
			return all, "", fmt.Errorf("found %v and %w of what was to be a whole CALL", p, err)
		}
		var broken *brokenRule
		switch {
		case err == io.EOF:
			return all, ended, nil
		case err == io.ErrUnexpectedEOF:
			return all, cutOff, nil
		case errors.As(err, &broken):
			if broken.found == "" || broken.expected == "" {
				return all, broken.rule, fmt.Errorf("an error that says little: %w", err)
			}
			return all, broken.rule, nil
		case err != nil:
			return all, "", err
		}
		all = append(all, p)
	}
}

// same fails where the reader reads something else than plainly does.
func same(t *testing.T, stream string, r *rand.Rand) {
	t.Helper()
	want, rule := plainly(stream)
	got, found, err := quickly(&pieces{stream, r, 1 + r.IntN(1<<r.IntN(17))}, true)
	if err != nil || found != rule || !slices.Equal(got, want) {
		t.Fatalf("found %v, %s and %v, expected %v and %s, of %.500q", got, found, err, want, rule, stream)
	}
	skipped, found, err := quickly(&pieces{stream, r, 1 + r.IntN(1<<r.IntN(17))}, false) // the bodies are passed over
	for i := range want {
		want[i].body = ""
	}
	if rule == cutOff && len(skipped) > len(want) { // the one whose body ended too soon
		skipped = skipped[:len(want)]
	}
	if err != nil || found != rule || !slices.Equal(skipped, want) {
		t.Fatalf("found %v, %s and %v without bodies, expected %v and %s, of %.500q", skipped, found, err, want, rule, stream)
	}
}

// streamsOf are what a host may send, and what it may not.
var streamsOf = []string{
	"", "\n", "HELLO 1\n\n", "HELLO 1\r\n\r\n", "HELLO 1\nMax-Body: 10\nLOG: warn\nToken: x\n\nBYE\n\n", "HELLO 1\nlog: all\n\n", "HEL", "HELP", "hello\n", "hello", "BYE\n\nBYE", "BYE \n\n", "BYE 1\n\n",
	"CALL 1 f\nContent-Length: 3\n\nabcCALL 2 ferrule.start\nResume: yes\n\n", "CALL 1 f\ncontent-LENGTH:\t 3 \t\nHook: yes\nProgress: yes\nStream: both\nTimeout: 17\n\nabc", "CALL 1 f\nContent-Length: 3\n\nab",
	"CALL 1 f\nContent-Length: 3\nContent-Length: 3\n\nabc", "CALL 1 f\nContent-Length: 03\n\nabc", "CALL 1 f\nContent-Length: 268435457\n\n", "CALL 1 f\nContent-Length: 9223372036854775808\n\n", "CALL 1 f\nContent-Length: -1\n\n",
	"CALL 1 f\nContent-Length:5\n\n", "CALL 1 f\ncontent-length:5\r\n\r\nabcde", "CALL 0 f\n\n", "CALL 1\n\n", "CALL 1 f g\n\n", "CALL 1  f\n\n", "CALL 1 1f\n\n", "CALL 1 other.f\n\n", "CALL 1 ferrule.\n\n", "CALL 1 ferrule.a.b\n\n", "CALL 01 f\n\n", "CALL 9223372036854775807 f\n\n", "CALL 9223372036854775808 f\n\n",
	"CALL 1 f\nno field\n\n", "CALL 1 f\n: x\n\n", "CALL 1 f\nSome Name: x\n\n", "CALL 1 f\nX: a\x01b\n\n", "CALL 1 f\nX: é\n\n", "CALL 1 f\nX: a\tb~\n\n", "CALL 1 f\nX: \x7f\n\n", "CALL 1 f\nStream: up\n\n", "CALL 1 f\nFor: what\nFields: ever\nStatus: is\n\n",
	"CALL 1 f\rX: y\n\n", "CALL 1 f\nX: y\r\r\n\n",
	"DONE 1 0\nContent-Length: 1\n\nx", "DONE 1 2147483647\n\n", "DONE 1 2147483648\n\n", "DONE 1 ok\n\n", "CANCEL 1\n\n", "CANCEL 1\nContent-Length: 1\n\nx", "MORE 1 0\n\nMORE 1 5\n\n", "MORE 1\n\n", "PART 1\nContent-Length: 2\n\nhi", "PART 1\nStatus: 1\n\n", "PART 1\nStatus: x\n\n",
	"LOG info\nContent-Length: 2\n\nhi", "LOG loud\n\n", "LOG info\nContent-Length: 1048577\n\n", "HELLO 1\nContent-Length: 1048577\n\n", "PROGRESS 1 2 3\n\n", "PROGRESS 1 2\n\n", "FROBNICATE 1\n\n", "call 1 f\n\n",
	"CALL 1 " + strings.Repeat("f", 128) + "\n\n", "CALL 1 " + strings.Repeat("f", 129) + "\n\n", "CALL 1 ferrule." + strings.Repeat("f", 120) + "\n\n", "CALL 1 ferrule." + strings.Repeat("f", 121) + "\n\n",
	"CALL 1 f\nX: " + strings.Repeat("x", 4093) + "\n\n", "CALL 1 f\nX: " + strings.Repeat("x", 4094) + "\n\n", "CALL 1 f\nX: " + strings.Repeat("x", 4093) + "\r\n\n", strings.Repeat("x", 5000), "CALL 1 f\nX: " + strings.Repeat("x", 5000),
	"CALL 1 f\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\n", 16) + "\n", "CALL 1 f\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\n", 17) + "\n", "CALL 1 f\n" + strings.Repeat("X: y\n", 3274) + "abc\n\n", "CALL 1 f\n" + strings.Repeat("X: y\n", 3274) + "a: c\n\n",
	"CALL 1 f\nContent-Length: 200000\n\n" + strings.Repeat("0123456789", 20000) + "CALL 2 g\nContent-Length: 70000\n\n" + strings.Repeat("abcdefg", 10000),
}

// scribble makes a stream of what streams are made of, in any order.
func scribble(r *rand.Rand) string {
	parts := []string{"HELLO", "CALL", "DONE", "CANCEL", "LOG", "PART", "MORE", "BYE", " ", " ", " ", "\n", "\n", "\n\n", "\r\n", "0", "1", "2", "17", "f", "ferrule.", "info", "Content-Length: ", "Content-Length: 2\n\nxx", "Timeout: ", "Stream: in",
		"Log: ", "Max-Body: ", "Status: 3", ":", "\t", "x", "é", "\x00", "-", "_", "CALL 1 f\n", "PART 1\n", "MORE 1 1\n\n"}
	var text strings.Builder
	for range r.IntN(30) {
		text.WriteString(parts[r.IntN(len(parts))])
	}
	return text.String()
}

// TestReader: messages are read as the page has them, in any pieces.
func TestReader(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, stream := range streamsOf {
		for range 3 {
			same(t, stream, r)
		}
		for _, other := range streamsOf {
			if len(stream)+len(other) < 1000 { // longer ones are slow, and say no more
				same(t, stream+other, r)
			}
		}
	}
	for range 5000 {
		same(t, scribble(r), r)
	}
}

// FuzzReader: the same of any bytes, at a cost that they bear.
func FuzzReader(f *testing.F) {
	for i, stream := range streamsOf {
		if len(stream) < 20_000 {
			f.Add(stream, uint64(i))
		}
	}
	for seed := range uint64(20) {
		f.Add(scribble(rand.New(rand.NewPCG(seed, 1))), seed)
	}
	f.Fuzz(func(t *testing.T, stream string, seed uint64) { same(t, stream, rand.New(rand.NewPCG(seed, 2))) })
}

// TestLengthIsNotBelieved: memory grows as bytes come, and not as a length says.
func TestLengthIsNotBelieved(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := newReader(strings.NewReader("CALL 1 f\nContent-Length: 268435456\n\nabc"), maxBody)
	var m message
	if err := r.next(&m); err != nil {
		t.Fatal(err)
	}
	if body, err := r.body(nil); err != io.ErrUnexpectedEOF || string(body) != "abc" {
		t.Errorf("found %q and %v", body, err)
	}
	runtime.ReadMemStats(&after)
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 8<<20 {
		t.Errorf("found %d bytes of memory for three", spent)
	}
}

// nothing returns nothing, and no error.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// TestNoProgress: a reader that returns nothing for ever is an error, and no loop.
func TestNoProgress(t *testing.T) {
	if err := newReader(nothing{}, maxBody).next(new(message)); err != io.ErrNoProgress {
		t.Errorf("found %v", err)
	}
}

// TestTokenIsNotShown: an error has no token in it.
func TestTokenIsNotShown(t *testing.T) {
	for _, stream := range []string{"HELLO 1\nToken: secret\x01\n\n", "HELLO 1\ntoken: " + strings.Repeat("secret", 1000)} {
		err := newReader(strings.NewReader(stream), maxBody).next(new(message))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("found %v", err)
		}
	}
}
