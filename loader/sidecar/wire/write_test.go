package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// sent are messages as they are written.
var sent = []struct {
	m    wire.Message
	body string
	want string
}{
	{wire.Message{Verb: wire.Hello, Version: 1}, "", "HELLO 1\n\n"},
	{wire.Message{Verb: wire.Hello, Version: 1, Token: []byte("t 1"), Level: abi.LogWarn, MaxBody: 5, ID: 9, Name: []byte("n")}, "{}",
		"HELLO 1\nToken: t 1\nLog: warn\nMax-Body: 5\nContent-Length: 2\n\n{}"},
	{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), Length: 99, Status: 5, Level: abi.LogInfo}, "a", "CALL 1 f\nContent-Length: 1\n\na"},
	{wire.Message{Verb: wire.Call, ID: math.MaxInt64, Name: []byte("f"), HasFor: true, Timeout: 3, Stream: abi.StreamOut, Hook: true, Watched: true, Resumes: true}, "",
		"CALL 9223372036854775807 f\nFor: 0\nTimeout: 3\nStream: out\nHook: yes\nProgress: yes\nResume: yes\n\n"},
	{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), For: 5}, "", "CALL 1 f\n\n"}, // For was not said
	{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), Within: 7, Timeout: 5}, "", "CALL 1 f\nWithin: 7\nTimeout: 5\n\n"},
	{wire.Message{Verb: wire.Done, ID: 1, Status: 1, NotRun: wire.Leaving}, "", "DONE 1 1\nNot-Run: leaving\n\n"},
	{wire.Message{Verb: wire.Done, ID: 1, Status: 1000, Rule: []byte("R8")}, "x", "DONE 1 1000\nRule: R8\nContent-Length: 1\n\nx"},
	{wire.Message{Verb: wire.Cancel, ID: 1}, "", "CANCEL 1\n\n"},
	{wire.Message{Verb: wire.Log, Level: abi.LogError, HasFor: true, For: 2, Fields: 4}, "ta=b\x00", "LOG error\nFor: 2\nFields: 4\nContent-Length: 5\n\nta=b\x00"},
	{wire.Message{Verb: wire.Log}, "", "LOG trace\n\n"},            // what the wire has no word for
	{wire.Message{Verb: wire.Log, Level: 99}, "", "LOG trace\n\n"}, // nor for this
	{wire.Message{Verb: wire.Progress, ID: 1, Done: 2, Total: 3}, "", "PROGRESS 1 2 3\n\n"},
	{wire.Message{Verb: wire.Part, ID: 1}, "abc", "PART 1\nContent-Length: 3\n\nabc"},
	{wire.Message{Verb: wire.Part, ID: 1, Broken: true}, "", "PART 1\nStatus: 1\n\n"},
	{wire.Message{Verb: wire.More, ID: 1, N: 0}, "", "MORE 1 0\n\n"},
	{wire.Message{Verb: wire.Bye}, "", "BYE\n\n"},
}

func TestSent(t *testing.T) {
	var stream, want bytes.Buffer
	w := wire.NewWriter(&stream)
	for _, c := range sent {
		before := stream.Len()
		require.NoError(t, w.Send(&c.m, []byte(c.body)))
		assert.Equal(t, c.want, stream.String()[before:], "it is there when Send returns, where nobody else sends")
		assert.Equal(t, "kept"+strings.TrimSuffix(c.want, c.body), string(wire.Append([]byte("kept"), &c.m, len(c.body))))
		want.WriteString(c.want)
	}
	assert.Equal(t, want.String(), stream.String())
	_, err := all(wire.NewReader(&stream, mostBody))
	assert.Equal(t, io.EOF, err, "what is written keeps the rules")
}

// Whatever was read is written so that it reads as the same.
func TestSentAgain(t *testing.T) {
	for _, c := range kept {
		if len(c.want.Token) > 4000 {
			continue // written with a space it would be too long
		}
		var stream bytes.Buffer
		require.NoError(t, wire.NewWriter(&stream).Send(&c.want.Message, []byte(c.want.Body)))
		got, err := all(wire.NewReader(&stream, mostBody))
		require.Equal(t, io.EOF, err, "%.200q", c.stream)
		require.Equal(t, []letter{c.want}, got, "%.200q", c.stream)
	}
}

func TestVerbsAndLevels(t *testing.T) {
	var words []string
	for v := wire.Verb(0); v <= wire.Bye+1; v++ {
		words = append(words, v.String())
	}
	assert.Equal(t, []string{"verb 0", "HELLO", "CALL", "DONE", "CANCEL", "LOG", "PROGRESS", "PART", "MORE", "BYE", "verb 10"}, words)
	for level, word := range map[abi.Level]string{0: "trace", abi.LogError: "error", abi.LogWarn: "warn", abi.LogInfo: "info", abi.LogDebug: "debug", abi.LogTrace: "trace", 200: "trace"} {
		assert.Equal(t, word, wire.LevelWord(level))
	}
	for _, c := range []struct {
		text string
		n    uint64
		ok   bool
	}{{"0", 0, true}, {"10", 10, true}, {"9223372036854775807", math.MaxInt64, true}, {"9223372036854775808", 0, false}, {"18446744073709551616", 0, false},
		{"", 0, false}, {"00", 0, false}, {"+0", 0, false}, {"-0", 0, false}, {" 1", 0, false}, {"1 ", 0, false}, {"\u0661", 0, false}, {"1\x00", 0, false}} {
		n, ok := wire.Number([]byte(c.text))
		assert.Equal(t, c.ok, ok, "%q", c.text)
		if ok {
			assert.Equal(t, c.n, n, "%q", c.text)
		}
	}
}

// What many send at the same time arrives whole, each sender's in its order.
func TestManySend(t *testing.T) {
	const senders, each = 64, 30
	body := func(sender, i int) []byte {
		n := []int{0, 1, 100, 16<<10 - 1, 16 << 10, 16<<10 + 1, 100 << 10}[(sender*7+i*3)%7]
		if i%2 == 0 {
			n = min(n, 200)
		}
		return bytes.Repeat([]byte{byte(sender), byte(i), '\n'}, n/3+1)[:n]
	}
	r, s := io.Pipe()
	w := wire.NewWriter(s)
	var all sync.WaitGroup
	for sender := range senders {
		all.Go(func() {
			scratch := make([]byte, 0, 100<<10)
			for i := range each {
				scratch = append(scratch[:0], body(sender, i)...)
				assert.NoError(t, w.Send(&wire.Message{Verb: wire.Call, ID: uint64(sender + 1), Name: fmt.Appendf(nil, "f%d", i)}, scratch))
				clear(scratch) // it is the sender's again
			}
		})
	}
	go func() {
		all.Wait()
		s.Close()
	}()
	reader, next := wire.NewReader(r, mostBody+10_000), make([]int, senders)
	for {
		l, err := one(reader)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		sender := int(l.ID) - 1
		i := next[sender]
		require.Equal(t, fmt.Sprintf("f%d", i), string(l.Name), "sender %d", sender)
		require.True(t, l.Body == string(body(sender, i)), "the body of %d of sender %d", i, sender)
		next[sender]++
	}
	for sender, n := range next {
		assert.Equal(t, each, n, "sender %d", sender)
	}
}

// failing is a stream that has room for so many bytes.
type failing struct {
	room   int
	err    error // nil for one that says nothing of what it did not write
	writes int
	failed bool
	after  int // writes after the first one that has failed
}

func (f *failing) Write(b []byte) (int, error) {
	f.writes++
	if f.failed {
		f.after++
	}
	n := min(len(b), f.room)
	f.room -= n
	if n < len(b) {
		f.failed = true
		return n, f.err
	}
	return n, nil
}

// An error of the stream stays, and nothing is written after it: the other side would take it for something else.
func TestSendFails(t *testing.T) {
	gone := errors.New("the pipe is gone")
	for _, said := range []error{gone, nil} {
		for _, n := range []int{0, 10, 50_000} {
			f := &failing{room: 10, err: said} // the next head, or its body, fails
			if n == 10 {
				f.room = 100
			}
			w := wire.NewWriter(f)
			m := wire.Message{Verb: wire.Part, ID: 1}
			require.NoError(t, w.Send(&m, nil))
			want := said
			if want == nil {
				want = io.ErrShortWrite
			}
			var err error
			for err == nil {
				err = w.Send(&m, make([]byte, n))
			}
			assert.Equal(t, want, err)
			writes := f.writes
			f.room = math.MaxInt
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for _, n := range []int{0, 10, 50_000} {
						assert.Equal(t, want, w.Send(&m, make([]byte, n)))
					}
				})
			}
			all.Wait()
			assert.Equal(t, writes, f.writes, "something is written after an error")
			assert.Zero(t, f.after, "something is written after an error")
		}
	}
}

// loop is a stream whose end is its begin: what is written is read.
type loop struct {
	buf []byte
	at  int
}

func (l *loop) Write(b []byte) (int, error) {
	if l.at == len(l.buf) {
		l.buf, l.at = l.buf[:0], 0
	}
	l.buf = append(l.buf, b...)
	return len(b), nil
}

func (l *loop) Read(b []byte) (int, error) {
	if l.at == len(l.buf) {
		return 0, io.EOF
	}
	n := copy(b, l.buf[l.at:])
	l.at += n
	return n, nil
}

var crossings = []struct {
	name string
	m    wire.Message
	body int
}{
	{"call", wire.Message{Verb: wire.Call, ID: 123, Name: []byte("count_vowels")}, 32},
	{"call with all", wire.Message{Verb: wire.Call, ID: 123, Name: bytes.Repeat([]byte("n"), abi.MaxName), HasFor: true, For: 1, Timeout: 1000, Stream: abi.StreamBoth, Hook: true, Watched: true}, 32},
	{"done", wire.Message{Verb: wire.Done, ID: 123}, 32},
	{"done with a rule", wire.Message{Verb: wire.Done, ID: 123, Status: abi.StatusMisuse, Rule: []byte("R8")}, 32},
	{"log", wire.Message{Verb: wire.Log, Level: abi.LogInfo, HasFor: true, For: 123, Fields: 10}, 64},
	{"progress", wire.Message{Verb: wire.Progress, ID: 123, Done: 1, Total: 2}, 0},
	{"part", wire.Message{Verb: wire.Part, ID: 123}, 8 << 10},
	{"large part", wire.Message{Verb: wire.Part, ID: 123}, 32 << 10},
	{"more", wire.Message{Verb: wire.More, ID: 123, N: 65536}, 0},
	{"cancel", wire.Message{Verb: wire.Cancel, ID: 123}, 0},
	{"hello", wire.Message{Verb: wire.Hello, Version: 1, Token: []byte("token"), Level: abi.LogInfo, MaxBody: 1}, 100},
}

// Writing and reading a message allocates nothing, where the caller has room for its body.
func TestNoAllocations(t *testing.T) {
	for _, c := range crossings {
		l := &loop{}
		w, r := wire.NewWriter(l), wire.NewReader(l, wire.MaxBody)
		body, room := make([]byte, c.body), make([]byte, 0, c.body)
		var m, to wire.Message
		n := testing.AllocsPerRun(200, func() {
			m = c.m
			if err := w.Send(&m, body); err != nil {
				panic(err)
			}
			if err := r.Next(&to); err != nil {
				panic(err)
			}
			out, err := r.Body(room)
			if err != nil || len(out) != c.body || to.ID != c.m.ID {
				panic(fmt.Sprint("a message that is another one: ", to, err))
			}
		})
		assert.Zero(t, n, c.name)
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, c := range crossings {
		b.Run(strings.ReplaceAll(c.name, " ", "-"), func(b *testing.B) {
			l := &loop{}
			r := wire.NewReader(l, wire.MaxBody)
			body, room := make([]byte, c.body), make([]byte, 0, c.body)
			var head []byte
			var to wire.Message
			b.ReportAllocs()
			for b.Loop() {
				head = append(wire.Append(head[:0], &c.m, len(body)), body...)
				_, _ = l.Write(head)
				if err := r.Next(&to); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Body(room); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
