package wire_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// How a stream ends for slow, if not by a rule that is broken.
const (
	ended = "the end"
	cut   = "cut off"
)

var (
	decimal   = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	callable  = regexp.MustCompile(`^(ferrule\.)?[A-Za-z_][A-Za-z0-9_]*$`)
	fieldLine = regexp.MustCompile(`^([A-Za-z0-9-]+):[ \t]*(.*?)[ \t]*$`)
	verbFirst = regexp.MustCompile(`^(HELLO|CALL|DONE|CANCEL|LOG|PROGRESS|PART|MORE|BYE) `)
	ascii     = regexp.MustCompile(`^[\t -~]*$`)
	severity  = []string{"", "error", "warn", "info", "debug", "trace"}
)

// slow reads the messages of a stream as docs/wire.md has them, with nothing of package wire's reader. The rule is what breaks, or how the stream ends.
func slow(stream string, maxBody uint64) (of []letter, rule string) {
	for stream != "" {
		l, rest, rule := slowOne(stream, maxBody)
		if rule != "" {
			return of, rule
		}
		of, stream = append(of, l), rest
	}
	return of, ended
}

// wrong is a rule that is broken, thrown by slowOne.
type wrong string

func slowOne(stream string, maxBody uint64) (l letter, rest, rule string) {
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
	status := func(text string) abi.Status {
		n := number(text)
		if n > 2147483647 {
			panic(wrong("W8"))
		}
		return abi.Status(n)
	}
	level := func(text string) abi.Level {
		i := slices.Index(severity, text)
		if i < 1 {
			panic(wrong("W13"))
		}
		return abi.Level(i)
	}

	lines := strings.Split(stream, "\n")
	offset, sized := 0, false
	for i, raw := range lines {
		last := i == len(lines)-1 // it has no end
		text := strings.TrimSuffix(raw, "\r")
		upTo := offset + len(raw)
		if !last {
			upTo++
		}
		if len(text) > 4096 || upTo > 16384 {
			panic(wrong("W2"))
		}
		if last {
			if i == 0 && !verbFirst.MatchString(text+" ") && !prefixOfVerb(text) {
				panic(wrong("W1"))
			}
			panic(wrong(cut))
		}
		offset = upTo
		if !ascii.MatchString(text) {
			panic(wrong("W1"))
		}
		m := &l.Message
		switch {
		case i == 0:
			words := strings.Split(text, " ")
			counts := map[string]int{"HELLO": 1, "CALL": 2, "DONE": 2, "CANCEL": 1, "LOG": 1, "PROGRESS": 3, "PART": 1, "MORE": 2, "BYE": 0}
			if n, ok := counts[words[0]]; !ok || len(words) != n+1 || slices.Contains(words, "") {
				panic(wrong("W1"))
			}
			id := func() {
				if m.ID = number(words[1]); m.ID == 0 {
					panic(wrong("W7"))
				}
			}
			switch words[0] {
			case "HELLO":
				m.Verb, m.Version = wire.Hello, number(words[1])
			case "CALL":
				m.Verb = wire.Call
				if id(); !callable.MatchString(words[2]) || len(words[2]) > 128 {
					panic(wrong("W7"))
				}
				m.Name = []byte(words[2])
			case "DONE":
				m.Verb = wire.Done
				id()
				m.Status = status(words[2])
			case "CANCEL":
				m.Verb = wire.Cancel
				id()
			case "LOG":
				m.Verb, m.Level = wire.Log, level(words[1])
			case "PROGRESS":
				m.Verb = wire.Progress
				id()
				m.Done, m.Total = number(words[2]), number(words[3])
			case "PART":
				m.Verb = wire.Part
				id()
			case "MORE":
				m.Verb = wire.More
				id()
				m.N = number(words[2])
			case "BYE":
				m.Verb = wire.Bye
			}
		case text != "":
			parts := fieldLine.FindStringSubmatch(text)
			if parts == nil {
				panic(wrong("W1"))
			}
			value := parts[2]
			switch name := strings.ToLower(parts[1]); m.Verb.String() + " " + name {
			case "CALL for", "LOG for":
				m.HasFor, m.For = true, number(value)
			case "CALL within":
				m.Within = number(value)
			case "CALL timeout":
				m.Timeout = number(value)
			case "CALL stream":
				words := map[string]abi.Stream{"in": abi.StreamIn, "out": abi.StreamOut, "both": abi.StreamBoth}
				if m.Stream = words[value]; m.Stream == 0 {
					panic(wrong("W15"))
				}
			case "CALL progress":
				m.Watched = true
			case "CALL resume":
				m.Resumes = true
			case "CALL hook":
				m.Hook = true
			case "DONE not-run":
				m.NotRun = map[string]wire.Reason{"busy": wire.Busy, "late": wire.Late, "leaving": wire.Leaving, "reentrant": wire.Reentrant}[value]
			case "DONE rule":
				m.Rule = []byte(value)
			case "LOG fields":
				m.Fields = number(value)
			case "PART status":
				m.Broken = status(value) != 0
			case "HELLO token":
				m.Token = []byte(value)
			case "HELLO log":
				m.Level = level(value)
			case "HELLO max-body":
				m.MaxBody = number(value)
			default:
				if name != "content-length" {
					break
				}
				if sized {
					panic(wrong("W1"))
				}
				sized, m.Length = true, number(value)
			}
		default:
			most := maxBody
			switch m.Verb {
			case wire.Hello:
				most = 1048576
			case wire.Log:
				if most = 1048576; m.Fields > m.Length {
					panic(wrong("W13"))
				}
			case wire.Cancel, wire.Progress, wire.More, wire.Bye:
				most = 0
			}
			if m.Length > most {
				panic(wrong("W2"))
			}
			if rest = stream[offset:]; m.Length > uint64(len(rest)) {
				panic(wrong(cut))
			}
			l.Body, rest = rest[:m.Length], rest[m.Length:]
			return l, rest, ""
		}
	}
	return l, "", cut
}

func prefixOfVerb(text string) bool {
	for _, v := range strings.Fields("HELLO CALL DONE CANCEL LOG PROGRESS PART MORE BYE") {
		if strings.HasPrefix(v, text) {
			return true
		}
	}
	return false
}

// random gives pieces of random sizes.
type random struct {
	r    io.Reader
	rand *rand.Rand
	most int
}

func (r random) Read(b []byte) (int, error) { return r.r.Read(b[:min(len(b), 1+r.rand.IntN(r.most))]) }

// same requires that the reader reads a stream as slow does.
func same(t *testing.T, stream string, maxBody uint64, from io.Reader) []letter {
	t.Helper()
	got, err := all(wire.NewReader(from, maxBody))
	want, rule := slow(stream, maxBody)
	broken, _ := errors.AsType[*wire.Error](err)
	switch {
	case err == io.EOF:
		require.Equal(t, rule, ended, "%q", stream)
	case err == io.ErrUnexpectedEOF:
		require.Equal(t, rule, cut, "%q", stream)
	case broken != nil:
		require.Equal(t, rule, broken.Rule, "%q: %v", stream, err)
	default:
		require.NoError(t, err, "an error that is none of the page's: %q", stream)
	}
	require.Equal(t, len(want), len(got), "%q", stream)
	for i := range want {
		// Nothing and empty are the same here.
		require.Equal(t, fmt.Sprintf("%+v", want[i]), fmt.Sprintf("%+v", got[i]), "%q", stream)
	}
	return got
}

// scribble is a stream of messages, some of which are not quite right.
func scribble(r *rand.Rand) string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	number := func() string {
		if r.IntN(12) == 0 {
			return pick("0", "00", "-1", "+1", "01", "9223372036854775807", "9223372036854775808", "99999999999999999999", "x", "")
		}
		return strconv.Itoa(1 + r.IntN(20))
	}
	status := func() string {
		if r.IntN(12) == 0 {
			return number()
		}
		return pick("0", "1", "7", "8", "9", "10", "999", "1000", "2147483647", "2147483648", "4294967296")
	}
	level := func() string { return pick("error", "warn", "info", "debug", "trace", "trace", "info", "Info") }
	end := func() string { return pick("\n", "\n", "\r\n") }
	var b strings.Builder
	for range 1 + r.IntN(6) {
		verb := pick("HELLO", "CALL", "CALL", "DONE", "CANCEL", "LOG", "PROGRESS", "PART", "MORE", "BYE")
		first := verb
		switch verb {
		case "HELLO", "CANCEL", "PART":
			first += " " + number()
		case "CALL":
			first += " " + number() + " " + pick("f", "count_vowels", "ferrule.start", "ferrule.9", "a.b", strings.Repeat("n", 127+r.IntN(3)))
		case "DONE":
			first += " " + number() + " " + status()
		case "LOG":
			first += " " + level()
		case "PROGRESS":
			first += " " + number() + " " + number() + " " + number()
		case "MORE":
			first += " " + number() + " " + number()
		}
		b.WriteString(first + end())
		body := strings.Repeat(pick("b", "\n", "BYE\n\n", "\x00\xff"), r.IntN(40))
		if r.IntN(30) == 0 {
			body = strings.Repeat("large ", r.IntN(12_000))
		}
		if verb == "CANCEL" || verb == "PROGRESS" || verb == "MORE" || verb == "BYE" {
			body = body[:min(len(body), max(r.IntN(20)-18, 0))]
		}
		for range r.IntN(4) {
			name := pick("For", "Timeout", "Within", "Stream", "Progress", "Hook", "Rule", "Not-Run", "Fields", "Status", "Token", "Log", "Max-Body", "X-Own", "content-lengths")
			if r.IntN(3) == 0 {
				name = strings.ToUpper(name)
			}
			value := number()
			switch strings.ToLower(name) {
			case "stream":
				value = pick("in", "out", "both", "both", "in", "none")
			case "log":
				value = level()
			case "status":
				value = status()
			case "token", "rule", "x-own":
				value = pick("", "R8", "a b", "a:\tb", strings.Repeat("x", 4080+r.IntN(20)))
			case "not-run":
				value = pick("busy", "late", "leaving", "reentrant", "", "Busy", "asleep")
			case "fields":
				value = strconv.Itoa(r.IntN(len(body) + 2))
			}
			b.WriteString(name + ":" + pick("", " ", "\t ") + value + pick("", "", " \t") + end())
		}
		for range max(r.IntN(40)-37, 0) * r.IntN(4) {
			b.WriteString(line(3000+r.IntN(1100)) + pick("", "a:\n"))
		}
		if length := len(body); length > 0 || r.IntN(5) == 0 {
			if r.IntN(20) == 0 {
				length += r.IntN(5) - 2
			}
			b.WriteString(pick("Content-Length", "content-length") + ": " + strconv.Itoa(length) + end())
		}
		b.WriteString(end() + body)
	}
	s := []byte(b.String())
	for range max(r.IntN(6)-3, 0) { // what nobody thought of
		at := r.IntN(len(s))
		switch r.IntN(4) {
		case 0:
			s[at] = byte(r.IntN(256))
		case 1:
			s = slices.Delete(s, at, min(len(s), at+1+r.IntN(3)))
		case 2:
			s = slices.Insert(s, at, []byte(pick(" ", "\n", "\r", "\t", ":", "\x00", "ü", "\n\n", "0"))...)
		case 3:
			s = s[:at+1]
		}
		if len(s) == 0 {
			break
		}
	}
	return string(s)
}

func TestAsSlow(t *testing.T) {
	const maxBody = 40_000
	how := map[string]int{}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		stream := scribble(r)
		_, rule := slow(stream, maxBody)
		how[rule]++
		same(t, stream, maxBody, random{strings.NewReader(stream), r, []int{1, 10, 1000, 100_000}[r.IntN(4)]})
	}
	for _, rule := range []string{ended, cut, "W1", "W2", "W7", "W8", "W13", "W15"} {
		assert.Greater(t, how[rule], 5, "how many of the streams end so: %s", rule)
	}
}

// slow keeps the table, too: it is no mirror of the reader.
func TestSlow(t *testing.T) {
	for _, c := range kept {
		_, rule := slow(c.stream, mostBody)
		assert.Equal(t, ended, rule, "%.200q", c.stream)
	}
	for _, c := range broke {
		if _, rule := slow(c.stream+"BYE\n\n", mostBody); c.want != "" {
			assert.Regexp(t, "^W[0-9]+$", rule, "%.200q", c.stream)
		}
	}
}
