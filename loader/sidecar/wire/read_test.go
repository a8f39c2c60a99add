package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// letter is a message with its body.
type letter struct {
	wire.Message
	Body string
}

// all reads messages up to an error.
func all(r *wire.Reader) ([]letter, error) {
	var of []letter
	for {
		l, err := one(r)
		if err != nil {
			return of, err
		}
		of = append(of, l)
	}
}

func one(r *wire.Reader) (letter, error) {
	var m wire.Message
	if err := r.Next(&m); err != nil {
		return letter{}, err
	}
	body, err := r.Body(nil)
	// Only now: what a message points to is there until the next one.
	m.Name, m.Token, m.Rule = bytes.Clone(m.Name), bytes.Clone(m.Token), bytes.Clone(m.Rule)
	return letter{m, string(body)}, err
}

// streams are one stream in different pieces.
func streams(stream string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole": strings.NewReader(stream), "byte by byte": iotest.OneByteReader(strings.NewReader(stream)),
		"halves": iotest.HalfReader(strings.NewReader(stream)), "the end with the last bytes": iotest.DataErrReader(strings.NewReader(stream)),
	}
}

const mostBody = 100_000

// line is a field that is left out of account, of n bytes without its end.
func line(n int) string { return "X: " + strings.Repeat("x", n-3) + "\n" }

// head is a CALL whose head has n bytes.
func head(n int) string {
	begin := "CALL 1 f\n" + line(4096) + line(4096) + line(4096)
	return begin + line(n-len(begin)-2) + "\n"
}

// kept are messages that keep the rules, each with what it is read as.
var kept = []struct {
	stream string
	want   letter
}{
	{"HELLO 1\n\n", letter{wire.Message{Verb: wire.Hello, Version: 1}, ""}},
	{"HELLO 0\n\n", letter{wire.Message{Verb: wire.Hello}, ""}},
	{"HELLO 9223372036854775807\n\n", letter{wire.Message{Verb: wire.Hello, Version: 1<<63 - 1}, ""}},
	{"HELLO 1\r\nContent-Length: 2\r\n\r\n{}", letter{wire.Message{Verb: wire.Hello, Version: 1, Length: 2}, "{}"}},
	{"HELLO 1\nToken: a b\tc: d\nLog: trace\nMax-Body: 9223372036854775807\nTakes: more\n\n",
		letter{wire.Message{Verb: wire.Hello, Version: 1, Token: []byte("a b\tc: d"), Level: abi.LogTrace, MaxBody: 1<<63 - 1}, ""}},
	{"HELLO 1\nToken:" + strings.Repeat("t", wire.MaxLine-6) + "\n\n", letter{wire.Message{Verb: wire.Hello, Version: 1, Token: bytes.Repeat([]byte("t"), wire.MaxLine-6)}, ""}},
	{"HELLO 1\nContent-Length: 1048576\n\n" + strings.Repeat("b", wire.MaxManifest), letter{wire.Message{Verb: wire.Hello, Version: 1, Length: wire.MaxManifest}, strings.Repeat("b", wire.MaxManifest)}},

	{"CALL 1 f\n\n", letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f")}, ""}},
	{"CALL 1 f\nContent-Length: 0\n\n", letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f")}, ""}},
	{"CALL 1 f\ncOnTENT-leNGTH: \t 5\t \n\nBYE\n\n", letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), Length: 5}, "BYE\n\n"}},
	{"CALL 1 f\nContent-Length:3\r\n\n\x00\xff\r", letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), Length: 3}, "\x00\xff\r"}},
	{"CALL 1 f\nContent-Length: 100000\n\n" + strings.Repeat("b", mostBody), letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f"), Length: mostBody}, strings.Repeat("b", mostBody)}},
	{"CALL 9223372036854775807 " + strings.Repeat("n", abi.MaxName) + "\nContent-Length: 70000\n\n" + strings.Repeat("b", 70_000), // its name outlasts the reading of its body
		letter{wire.Message{Verb: wire.Call, ID: 1<<63 - 1, Name: bytes.Repeat([]byte("n"), abi.MaxName), Length: 70_000}, strings.Repeat("b", 70_000)}},
	{"CALL 7 ferrule.start\nFor: 0\nTimeout: 12\nStream: both\nProgress: yes\nHook: yes\nResume: yes\n\n",
		letter{wire.Message{Verb: wire.Call, ID: 7, Name: []byte("ferrule.start"), Hook: true, HasFor: true, Timeout: 12, Stream: abi.StreamBoth, Watched: true, Resumes: true}, ""}},
	{"CALL 7 ferrule." + strings.Repeat("n", abi.MaxName-8) + "\nFor: 9223372036854775807\nStream: in\n\n",
		letter{wire.Message{Verb: wire.Call, ID: 7, Name: []byte("ferrule." + strings.Repeat("n", abi.MaxName-8)), HasFor: true, For: 1<<63 - 1, Stream: abi.StreamIn}, ""}},
	{"CALL 7 _9\nStream: out\nTimeout: 0\n\n", letter{wire.Message{Verb: wire.Call, ID: 7, Name: []byte("_9"), Stream: abi.StreamOut}, ""}},
	{"CALL 7 f\nTimeout: 1\nTIMEOUT: 2\nFor: 1\nfor: 2\n\n", letter{wire.Message{Verb: wire.Call, ID: 7, Name: []byte("f"), Timeout: 2, HasFor: true, For: 2}, ""}},
	{"CALL 7 f\nFields: 01\nToken: t\nMax-Body: x\nLog: y\nStatus: z\nRule: R8\nNobody: knows\n1-2-3:\n\n", letter{wire.Message{Verb: wire.Call, ID: 7, Name: []byte("f")}, ""}},
	{head(wire.MaxHead), letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f")}, ""}},
	{"CALL 1 f\n" + strings.Repeat("x", wire.MaxLine-1) + ":\r\n\n", letter{wire.Message{Verb: wire.Call, ID: 1, Name: []byte("f")}, ""}},

	{"DONE 1 0\n\n", letter{wire.Message{Verb: wire.Done, ID: 1}, ""}},
	{"DONE 1 1\nNot-Run: busy\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: 1, NotRun: wire.Busy}, ""}},
	{"DONE 1 1\nNot-Run: Busy\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: 1}, ""}},
	{"DONE 1 7\nRule: R8\nContent-Length: 1\n\nm", letter{wire.Message{Verb: wire.Done, ID: 1, Status: 7, Rule: []byte("R8"), Length: 1}, "m"}},
	{"DONE 1 8\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: abi.StatusMore}, ""}}, // kept for later
	{"DONE 1 999\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: 999}, ""}},
	{"DONE 1 9\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: abi.StatusPass}, ""}},
	{"DONE 1 1000\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: abi.StatusOwn}, ""}},
	{"DONE 1 2147483647\nFor: x\n\n", letter{wire.Message{Verb: wire.Done, ID: 1, Status: 1<<31 - 1}, ""}},
	{"CANCEL 3\nContent-Length: 0\n\n", letter{wire.Message{Verb: wire.Cancel, ID: 3}, ""}},
	{"LOG error\n\n", letter{wire.Message{Verb: wire.Log, Level: abi.LogError}, ""}},
	{"LOG warn\n\n", letter{wire.Message{Verb: wire.Log, Level: abi.LogWarn}, ""}},
	{"LOG info\n\n", letter{wire.Message{Verb: wire.Log, Level: abi.LogInfo}, ""}},
	{"LOG debug\n\n", letter{wire.Message{Verb: wire.Log, Level: abi.LogDebug}, ""}},
	{"LOG trace\nFor: 3\nContent-Length: 5\nFields: 4\n\nta=b\x00", letter{wire.Message{Verb: wire.Log, Level: abi.LogTrace, HasFor: true, For: 3, Fields: 4, Length: 5}, "ta=b\x00"}},
	{"LOG info\nFields: 1048576\nContent-Length: 1048576\n\n" + strings.Repeat("l", wire.MaxLog),
		letter{wire.Message{Verb: wire.Log, Level: abi.LogInfo, Fields: wire.MaxLog, Length: wire.MaxLog}, strings.Repeat("l", wire.MaxLog)}},
	{"PROGRESS 1 0 9223372036854775807\n\n", letter{wire.Message{Verb: wire.Progress, ID: 1, Total: 1<<63 - 1}, ""}},
	{"PROGRESS 1 9223372036854775807 0\n\n", letter{wire.Message{Verb: wire.Progress, ID: 1, Done: 1<<63 - 1}, ""}},
	{"PART 1\nContent-Length: 3\n\nabc", letter{wire.Message{Verb: wire.Part, ID: 1, Length: 3}, "abc"}},
	{"PART 1\nStatus: 1\n\n", letter{wire.Message{Verb: wire.Part, ID: 1, Broken: true}, ""}},
	{"PART 1\nStatus: 1\nStatus: 0\n\n", letter{wire.Message{Verb: wire.Part, ID: 1}, ""}},
	{"MORE 1 0\n\n", letter{wire.Message{Verb: wire.More, ID: 1}, ""}},
	{"MORE 1 9223372036854775807\n\n", letter{wire.Message{Verb: wire.More, ID: 1, N: 1<<63 - 1}, ""}},
	{"BYE\n\n", letter{wire.Message{Verb: wire.Bye}, ""}},
	{"BYE\r\n\r\n", letter{wire.Message{Verb: wire.Bye}, ""}},
}

func TestKept(t *testing.T) {
	for _, c := range kept {
		for pieces, r := range streams(c.stream) {
			got, err := all(wire.NewReader(r, mostBody))
			require.Equal(t, io.EOF, err, "%.200q %s", c.stream, pieces)
			require.Equal(t, []letter{c.want}, got, "%.200q %s", c.stream, pieces)
		}
		if c.want.Verb == wire.Hello || c.want.Verb == wire.Log { // whatever Max-Body says
			got, err := all(wire.NewReader(strings.NewReader(c.stream), 0))
			require.Equal(t, io.EOF, err, "%.200q", c.stream)
			require.Equal(t, []letter{c.want}, got, "%.200q", c.stream)
		}
	}
	// One after the other.
	var stream strings.Builder
	var want []letter
	for range 3 {
		for _, c := range kept {
			stream.WriteString(c.stream)
			want = append(want, c.want)
		}
	}
	for pieces, r := range streams(stream.String()) {
		got, err := all(wire.NewReader(r, mostBody))
		require.Equal(t, io.EOF, err, pieces)
		require.Equal(t, want, got, pieces)
	}
}

// broke are messages with one defect each. What is behind it is a message that keeps the rules: nobody looks for it (W3).
var broke = []struct{ stream, want string }{
	// Prints.
	{"\n", `found the line "", expected a message, which begins with HELLO, CALL, DONE, CANCEL, LOG, PROGRESS, PART, MORE or BYE (rule W1 of docs/wire.md)`},
	{"\r\n\r\n", `found the line "", expected a message, which begins with HELLO`},
	{"hello, world\n", `found the line "hello, world", expected a message, which begins with HELLO`},
	{"hello 1\n\n", `found the line "hello 1", expected a message`},
	{"Traceback (most recent call last):\n", `found the line "Traceback (most recent call last):", expected a message`},
	{" BYE\n\n", `found the line " BYE", expected a message`},
	{"BYE\x00\n\n", `found the line "BYE\x00", expected ASCII without control characters (rule W1`},
	{"BYE2\n\n", `found the line "BYE2", expected a message`},
	{"BYEBYE\n\n", `found the line "BYEBYE", expected a message`},
	{"\ufeffHELLO 1\n\n", `found the line "\ufeffHELLO 1", expected ASCII`},
	{"\x1b[31mred\x1b[0m\n", `found the line "\x1b[31mred\x1b[0m", expected ASCII`},
	{"\x7fELF\n", `found the line "\x7fELF", expected ASCII`},
	{"CALL 1 gr\u00fc\u00dfe\n\n", "found the line \"CALL 1 gr\u00fc\u00dfe\", expected ASCII without control characters (rule W1"},
	{"CALL 1 f\nX: gr\u00fc\u00dfe\n\n", "found the line \"X: gr\u00fc\u00dfe\", expected ASCII"},
	{"CALL 1 f\nX: a\x00b\n\n", `found the line "X: a\x00b", expected ASCII`},
	{"CALL 1 f\nX: 1234567\x7f\n\n", `found the line "X: 1234567\x7f", expected ASCII`},
	{"CALL 1 f\nX: a\rb\n\n", `found the line "X: a\rb", expected ASCII`},
	{"CALL 1 f\r\r\n\n", `found the line "CALL 1 f\r", expected ASCII`},
	{"HELLO 1\nToken: s\u00e9cret\n\n", "found the line \"Token: \u2026\", expected ASCII"},
	{"POST / HTTP/1.1\r\n\r\n", `found the line "POST / HTTP/1.1", expected a message`},

	// Arguments.
	{"HELLO\n\n", `found the line "HELLO", expected HELLO with 1 arguments, one space before each (rule W1`},
	{"HELLO 1 \n\n", `found the line "HELLO 1 ", expected HELLO with 1 arguments`},
	{"HELLO  1\n\n", `found the line "HELLO  1", expected HELLO with 1 arguments`},
	{"HELLO 1 2\n\n", `found the line "HELLO 1 2", expected HELLO with 1 arguments`},
	{"HELLO\t1\n\n", `found the line "HELLO\t1", expected a message`},
	{"CALL 1\n\n", `found the line "CALL 1", expected CALL with 2 arguments`},
	{"CALL 1  f\n\n", `found the line "CALL 1  f", expected CALL with 2 arguments`},
	{"CALL 1 f g\n\n", `found the line "CALL 1 f g", expected CALL with 2 arguments`},
	{"DONE 1\n\n", `found the line "DONE 1", expected DONE with 2 arguments`},
	{"CANCEL\n\n", `found the line "CANCEL", expected CANCEL with 1 arguments`},
	{"LOG\n\n", `found the line "LOG", expected LOG with 1 arguments`},
	{"PROGRESS 1 2\n\n", `found the line "PROGRESS 1 2", expected PROGRESS with 3 arguments`},
	{"PROGRESS 1 2 3 4\n\n", `found the line "PROGRESS 1 2 3 4", expected PROGRESS with 3 arguments`},
	{"PROGRESS 1 2 3 4 5 6\n\n", `found the line "PROGRESS 1 2 3 4 5 6", expected PROGRESS with 3 arguments`},
	{"PART\n\n", `found the line "PART", expected PART with 1 arguments`},
	{"MORE 1\n\n", `found the line "MORE 1", expected MORE with 2 arguments`},
	{"BYE \n\n", `found the line "BYE ", expected BYE with 0 arguments`},
	{"BYE now\n\n", `found the line "BYE now", expected BYE with 0 arguments`},

	// Numbers.
	{"HELLO 01\n\n", `found "01" as the version of HELLO, expected a decimal number below 2^63 (rule W2`},
	{"HELLO one\n\n", `found "one" as the version of HELLO, expected a decimal number`},
	{"CALL +1 f\n\n", `found "+1" as the id of CALL, expected a decimal number`},
	{"CALL -1 f\n\n", `found "-1" as the id of CALL, expected a decimal number`},
	{"CALL 1.0 f\n\n", `found "1.0" as the id of CALL, expected a decimal number`},
	{"CALL 0x1 f\n\n", `found "0x1" as the id of CALL, expected a decimal number`},
	{"CALL 1_0 f\n\n", `found "1_0" as the id of CALL, expected a decimal number`},
	{"CALL 9223372036854775808 f\n\n", `found "9223372036854775808" as the id of CALL, expected a decimal number below 2^63`},
	{"CALL 18446744073709551617 f\n\n", `found "18446744073709551617" as the id of CALL, expected a decimal number below 2^63`},
	{"CALL " + strings.Repeat("9", 1000) + " f\n\n", `found "` + strings.Repeat("9", 60) + `"… as the id of CALL, expected a decimal number below 2^63`},
	{"PROGRESS 1 -0 1\n\n", `found "-0" as what is done of PROGRESS, expected a decimal number`},
	{"PROGRESS 1 1 00\n\n", `found "00" as the total of PROGRESS, expected a decimal number`},
	{"MORE 1 1e3\n\n", `found "1e3" as how many bytes of MORE, expected a decimal number`},
	{"CALL 1 f\nContent-Length: 05\n\nhello", `found "Content-Length: 05" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nContent-Length: +5\n\nhello", `found "Content-Length: +5" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nContent-Length: -1\n\n", `found "Content-Length: -1" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nContent-Length: \n\n", `found "Content-Length: " in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nContent-Length: 1, 1\n\n1", `found "Content-Length: 1, 1" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nContent-Length: 9223372036854775808\n\n", `found "Content-Length: 9223372036854775808" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nFor: 01\n\n", `found "For: 01" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nTimeout: 1s\n\n", `found "Timeout: 1s" in the head of CALL, expected a decimal number`},
	{"CALL 1 f\nTimeout: 1s\nTimeout: 1\n\n", `found "Timeout: 1s" in the head of CALL, expected a decimal number`},
	{"LOG info\nFields: x\n\n", `found "Fields: x" in the head of LOG, expected a decimal number`},
	{"LOG info\nFor: -1\n\n", `found "For: -1" in the head of LOG, expected a decimal number`},
	{"HELLO 1\nMax-Body: 1M\n\n", `found "Max-Body: 1M" in the head of HELLO, expected a decimal number`},
	{"PART 1\nStatus: no\n\n", `found "no" as the status of PART, expected a decimal number`},
	{"DONE 1 ok\n\n", `found "ok" as the status of DONE, expected a decimal number`},
	{"DONE 1 -1\n\n", `found "-1" as the status of DONE, expected a decimal number`},

	// Ids, names, statuses, levels, streams.
	{"CALL 0 f\n\n", `found the id 0 in "CALL 0 f", expected 1 or more (rule W7`},
	{"DONE 0 0\n\n", `found the id 0 in "DONE 0 0", expected 1 or more (rule W7`},
	{"CANCEL 0\n\n", `found the id 0 in "CANCEL 0", expected 1 or more`},
	{"PART 0\n\n", `found the id 0 in "PART 0", expected 1 or more`},
	{"MORE 0 1\n\n", `found the id 0 in "MORE 0 1", expected 1 or more`},
	{"PROGRESS 0 1 1\n\n", `found the id 0 in "PROGRESS 0 1 1", expected 1 or more`},
	{"CALL 1 9f\n\n", `found a call of "9f", expected a C identifier of 1 to 128 bytes, or one of the wire's own names (rule W7`},
	{"CALL 1 a-b\n\n", `found a call of "a-b", expected a C identifier`},
	{"CALL 1 a.b\n\n", `found a call of "a.b", expected a C identifier`},
	{"CALL 1 ferrule.\n\n", `found a call of "ferrule.", expected a C identifier`},
	{"CALL 1 ferrule.a.b\n\n", `found a call of "ferrule.a.b", expected a C identifier`},
	{"CALL 1 ferrule.9\n\n", `found a call of "ferrule.9", expected a C identifier`},
	{"CALL 1 Ferrule.start\n\n", `found a call of "Ferrule.start", expected a C identifier`},
	{"CALL 1 f\tg\n\n", `found a call of "f\tg", expected a C identifier`},
	{"CALL 1 " + strings.Repeat("n", abi.MaxName+1) + "\n\n", `found a call of "` + strings.Repeat("n", 60) + `"…, expected a C identifier of 1 to 128 bytes`},
	{"CALL 1 ferrule." + strings.Repeat("n", abi.MaxName-7) + "\n\n", `found a call of "ferrule.` + strings.Repeat("n", 52) + `"…, expected a C identifier of 1 to 128 bytes`},
	{"DONE 1 2147483648\n\n", `found the status 2147483648, expected 0 to 2147483647 (rule W8`},
	{"DONE 1 4294967296\n\n", `found the status 4294967296, expected 0 to 2147483647`},
	{"PART 1\nStatus: 2147483648\n\n", `found the status 2147483648, expected 0 to 2147483647 (rule W8`},
	{"LOG warning\n\n", `found the level "warning", expected error, warn, info, debug or trace (rule W13`},
	{"LOG INFO\n\n", `found the level "INFO", expected error, warn, info, debug or trace (rule W13`},
	{"LOG 1\n\n", `found the level "1", expected error`},
	{"HELLO 1\nLog: all\n\n", `found Log: "all", expected error, warn, info, debug or trace (rule W13`},
	{"HELLO 1\nLog:\n\n", `found Log: "", expected error`},
	{"CALL 1 f\nStream: yes\n\n", `found Stream: "yes", expected in, out or both (rule W15`},
	{"CALL 1 f\nStream: In\n\n", `found Stream: "In", expected in, out or both (rule W15`},

	// Fields.
	{"CALL 1 f\nfield\n\n", `found the line "field" in the head of CALL, expected Name: value, with a name of letters, digits and -, or the empty line that ends the head (rule W1`},
	{"CALL 1 f\n: 5\n\n", `found the line ": 5" in the head of CALL, expected Name: value`},
	{"CALL 1 f\n Content-Length: 5\n\nhello", `found the line " Content-Length: 5" in the head of CALL, expected Name: value`},
	{"CALL 1 f\nContent-Length : 5\n\nhello", `found the line "Content-Length : 5" in the head of CALL, expected Name: value`},
	{"CALL 1 f\n folded\n\n", `found the line " folded" in the head of CALL, expected Name: value`},
	{"CALL 1 f\n \n\n", `found the line " " in the head of CALL, expected Name: value`},
	{"CALL 1 f\nContent_Length: 5\n\nhello", `found the line "Content_Length: 5" in the head of CALL, expected Name: value`},
	{"CALL 1 f\n12:30:01 begun\n\n", ""}, // a name may be digits
	{"CALL 1 f\nContent-Length: 1\nContent-Length: 1\n\na", `found Content-Length twice in the head of CALL, expected it once (rule W1`},
	{"CALL 1 f\nContent-Length: 0\ncontent-length: 0\n\n", `found Content-Length twice in the head of CALL, expected it once (rule W1`},
	{"CALL 1 f\nCALL 2 g\n\n", `found the line "CALL 2 g" in the head of CALL, expected Name: value`},

	// Lengths.
	{"CALL 1 f\nContent-Length: 100001\n\n", `found CALL with a body of 100001 bytes, expected 100000 at most (rule W2`},
	{"DONE 1 0\nContent-Length: 9223372036854775807\n\n", `found DONE with a body of 9223372036854775807 bytes, expected 100000 at most (rule W2`},
	{"PART 1\nContent-Length: 100001\n\n", `found PART with a body of 100001 bytes, expected 100000 at most (rule W2`},
	{"HELLO 1\nContent-Length: 1048577\n\n", `found HELLO with a body of 1048577 bytes, expected 1048576 at most (rule W2`},
	{"LOG info\nContent-Length: 1048577\n\n", `found LOG with a body of 1048577 bytes, expected 1048576 at most (rule W2`},
	{"LOG info\nFields: 1\n\n", `found Fields: 1 in a body of 0 bytes, expected no more than the body has (rule W13`},
	{"LOG info\nContent-Length: 3\nFields: 4\n\nabc", `found Fields: 4 in a body of 3 bytes, expected no more than the body has (rule W13`},
	{"CANCEL 1\nContent-Length: 1\n\na", `found CANCEL with a body of 1 byte, expected none (rule W2`},
	{"PROGRESS 1 1 1\nContent-Length: 1\n\na", `found PROGRESS with a body of 1 byte, expected none (rule W2`},
	{"MORE 1 1\nContent-Length: 1\n\na", `found MORE with a body of 1 byte, expected none (rule W2`},
	{"BYE\nContent-Length: 1\n\na", `found BYE with a body of 1 byte, expected none (rule W2`},

	// Bounds.
	{head(wire.MaxHead + 1), `found a head of more than 16384 bytes, expected 16384 at most (rule W2`},
	{head(wire.MaxHead + 5000), `found a head of more than 16384 bytes, expected 16384 at most (rule W2`},
	{"BYE\n" + strings.Repeat("a:\n", 100_000), `found a head of more than 16384 bytes, expected 16384 at most (rule W2`},
	{"CALL 1 f\n" + line(wire.MaxLine+1) + "\n", `found a line of more than 4096 bytes, which begins with "X: ` + strings.Repeat("x", 57) + `"…, expected 4096 at most (rule W2`},
	{"CALL 1 f\n" + strings.Repeat("x", wire.MaxLine) + ":\r\n\n", `found a line of more than 4096 bytes`},
	{"CALL 1 " + strings.Repeat("n", wire.MaxLine-6) + "\n\n", `found a line of more than 4096 bytes, which begins with "CALL 1 nnn`},
	{"HELLO 1\nToken: " + strings.Repeat("secret", 1000) + "\n\n", `found a line of more than 4096 bytes, which begins with "Token: …", expected`},
	{strings.Repeat("x", 4096) + "\n", `found the line "` + strings.Repeat("x", 60) + `"…, expected a message`},
	{strings.Repeat("x", 4097) + "\n", `found a line of more than 4096 bytes, which begins with "xxx`},
	{strings.Repeat("\xff", 1_000_000), `found a line of more than 4096 bytes, which begins with "\xff`},
	{strings.Repeat("\x00", 100_000), `found a line of more than 4096 bytes, which begins with "\x00`},
}

func TestBroken(t *testing.T) {
	for _, c := range broke {
		stream := c.stream + "BYE\n\n"
		if c.want == "" {
			_, err := all(wire.NewReader(strings.NewReader(stream), mostBody))
			assert.Equal(t, io.EOF, err, "%.200q", c.stream)
			continue
		}
		before := "LOG info\nContent-Length: 3\n\nabc"
		var words string
		for pieces, s := range streams(before + stream) {
			r := wire.NewReader(s, mostBody)
			got, err := all(r)
			require.Len(t, got, 1, "%.200q %s", c.stream, pieces)
			broken, ok := errors.AsType[*wire.Error](err)
			require.True(t, ok, "%.200q %s: %v", c.stream, pieces, err)
			require.Contains(t, err.Error(), c.want, "%.200q %s", c.stream, pieces)
			require.Regexp(t, `^found .*, expected .* \(rule `+broken.Rule+` of docs/wire\.md\)$`, err.Error())
			require.NotContains(t, err.Error(), "secret")
			if words == "" {
				words = err.Error()
			}
			require.Equal(t, words, err.Error(), "%.200q: the error depends on the pieces", c.stream)
			require.Equal(t, err, r.Next(new(wire.Message)), "%.200q: somebody looks for the next message", c.stream)
		}
	}
}

// waiting fails a test that asks for more than there is: whoever has sent it waits for an answer.
type waiting struct{ t *testing.T }

func (w waiting) Read([]byte) (int, error) {
	assert.Fail(w.t, "the reader wants more of what is wrong already")
	return 0, io.EOF
}

// What is wrong is found when it is there, not when the head is whole.
func TestBrokenAtOnce(t *testing.T) {
	for _, c := range broke {
		if c.want == "" {
			continue
		}
		stream := c.stream
		if i := strings.Index(stream, "\n\n"); i > 0 && !strings.Contains(c.want, " body of ") && !strings.Contains(c.want, "a head of") {
			stream = stream[:i+1] // without the empty line
		}
		_, err := all(wire.NewReader(io.MultiReader(strings.NewReader(stream), waiting{t}), mostBody))
		assert.ErrorContains(t, err, c.want, "%.200q", c.stream)
	}
}

// A stream that ends anywhere: what was whole is there, and the error tells an end between messages from one within.
func TestCutOff(t *testing.T) {
	stream, ends := "", []int{0}
	for _, c := range kept {
		if len(c.stream) < 300 {
			stream += c.stream
			ends = append(ends, len(stream))
		}
	}
	for n := range len(stream) + 1 {
		whole := 0
		for whole+1 < len(ends) && ends[whole+1] <= n {
			whole++
		}
		want := io.ErrUnexpectedEOF
		if ends[whole] == n {
			want = io.EOF
		}
		got, err := all(wire.NewReader(strings.NewReader(stream[:n]), mostBody))
		require.Equal(t, want, err, "%q", stream[ends[whole]:n])
		require.Len(t, got, whole)

		// The same where nobody reads bodies.
		r, heads := wire.NewReader(iotest.OneByteReader(strings.NewReader(stream[:n])), mostBody), 0
		for err = nil; err == nil; heads++ {
			err = r.Next(new(wire.Message))
		}
		require.Equal(t, want, err, "%q", stream[ends[whole]:n])
	}
}

// What is no message and has no line's end is a print, not a message that is cut off.
func TestPrints(t *testing.T) {
	for print, found := range map[string]string{
		"hello":        `"hello"`,
		"HELLO":        "",
		"H":            "",
		"HE L":         `"HE L"`,
		"HELLO 1":      "",
		"HELLO, world": `"HELLO, world"`,
		"BYE\r":        "",
		"\r":           "", // nothing yet
		"\x00":         `"\x00"`,
		">>> ":         `">>> "`,
	} {
		for pieces, s := range streams(print) {
			_, err := all(wire.NewReader(s, mostBody))
			if found == "" {
				assert.Equal(t, io.ErrUnexpectedEOF, err, "%q %s", print, pieces)
			} else {
				assert.EqualError(t, err, "found "+found+", and the stream's end, expected a message (rule W1 of docs/wire.md)", "%q %s", print, pieces)
			}
		}
	}
}

// Memory grows as bytes come, whatever a length promises.
func TestPromises(t *testing.T) {
	for _, verb := range []string{"CALL 1 f", "DONE 1 0", "PART 1"} {
		for _, sent := range []int{0, 10, 100_000, 3_000_000} {
			s := strings.NewReader(verb + "\nContent-Length: 1073741824\n\n" + strings.Repeat("b", sent))
			var body []byte
			var err error
			spent := allocated(func() {
				r := wire.NewReader(s, 1<<30)
				require.NoError(t, r.Next(new(wire.Message)))
				body, err = r.Body(nil)
			})
			assert.Equal(t, io.ErrUnexpectedEOF, err)
			assert.Len(t, body, sent)
			assert.Less(t, spent, affordable(sent), "%s, of which %d bytes come", verb, sent)
		}
	}
}

// What was read of a body before an error is there, behind what the caller has.
func TestBodyAppends(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 65_535, 65_536, 1 << 20, 5 << 20} {
		want := bytes.Repeat([]byte("body"), n/4+1)[:n]
		stream := fmt.Sprintf("CALL 1 f\nContent-Length: %d\n\n%s", n, want)
		for pieces, s := range map[string]io.Reader{"whole": strings.NewReader(stream), "halves": iotest.HalfReader(strings.NewReader(stream))} {
			r := wire.NewReader(s, wire.MaxBody)
			require.NoError(t, r.Next(new(wire.Message)))
			got, err := r.Body(append(make([]byte, 0, 100), "before "...))
			require.NoError(t, err)
			require.True(t, string(got) == "before "+string(want), "%d bytes %s", n, pieces)
			got, err = r.Body(got)
			require.NoError(t, err)
			require.Len(t, got, 7+n, "a body is read once")
		}
		r := wire.NewReader(iotest.TimeoutReader(strings.NewReader(stream)), wire.MaxBody) // the second read fails
		var m wire.Message
		if err := r.Next(&m); err != nil {
			continue
		}
		got, err := r.Body([]byte("before "))
		if err != nil {
			require.Equal(t, iotest.ErrTimeout, err)
			require.True(t, strings.HasPrefix("before "+string(want), string(got)))
			got, err = r.Body(got)
		}
		require.NoError(t, err)
		require.True(t, string(got) == "before "+string(want))
	}
}

// A stream that gives nothing, and no error, is not read for ever.
func TestNoProgress(t *testing.T) {
	for _, stream := range []string{"", "CALL 1", "CALL 1 f\n", "CALL 1 f\nContent-Length: 10\n\nabc", "CALL 1 f\nContent-Length: 100000\n\nabc"} {
		r := wire.NewReader(io.MultiReader(strings.NewReader(stream), nothing{}), mostBody)
		_, err := all(r)
		assert.Equal(t, io.ErrNoProgress, err, "%q", stream)
		assert.Equal(t, io.ErrNoProgress, r.Next(new(wire.Message)), "%q", stream)
		assert.Equal(t, strings.Contains(stream, "CALL"), r.Buffered(), "%q", stream)
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// interrupted gives a byte at a time, and is interrupted before each of them, and before the end, so many times.
type interrupted struct {
	rest  string
	times int
	now   int
}

func (i *interrupted) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if i.now < i.times {
		i.now++
		return 0, &os.PathError{Op: "read", Path: "pipe", Err: os.ErrDeadlineExceeded}
	}
	i.now = 0
	if i.rest == "" {
		return 0, io.EOF
	}
	b[0], i.rest = i.rest[0], i.rest[1:]
	return 1, nil
}

// A reader is interrupted at every byte: without Resume it says so, and loses nothing; with it, only between messages.
func TestInterrupted(t *testing.T) {
	var stream string
	var want []letter
	for _, c := range kept {
		if len(c.stream) < 500 {
			stream, want = stream+c.stream, append(want, c.want)
		}
	}
	const large = 70_000 // of which the reader does not go through its buffer
	largeStream := fmt.Sprintf("CALL 5 large\nContent-Length: %d\n\n", large) + strings.Repeat("b", large)
	largeWant := []letter{{wire.Message{Verb: wire.Call, ID: 5, Name: []byte("large"), Length: large}, strings.Repeat("b", large)}}

	for _, c := range []struct {
		stream  string
		want    []letter
		times   int
		resumes bool
	}{
		{stream, want, 2, false}, {stream, want, 101, true}, // more often than a reader may return nothing
		{largeStream, largeWant, 1, false}, {largeStream, largeWant, 1, true},
	} {
		stream, want, times, resumes := c.stream, c.want, c.times, c.resumes
		for _, read := range []bool{false, true} { // the bodies, or nobody does
			r := wire.NewReader(&interrupted{rest: stream, times: times}, mostBody)
			resumed, kicked := 0, 0
			if resumes {
				r.Resume = func() { resumed++ }
			}
			for i := 0; ; i++ {
				var l letter
				err := os.ErrDeadlineExceeded
				for errors.Is(err, os.ErrDeadlineExceeded) {
					err = r.Next(&l.Message)
					kicked++
				}
				kicked--
				if i == len(want) {
					require.Equal(t, io.EOF, err)
					break
				}
				require.NoError(t, err)
				l.Name, l.Token, l.Rule = bytes.Clone(l.Name), bytes.Clone(l.Token), bytes.Clone(l.Rule)
				if !read {
					require.Equal(t, want[i].Message, l.Message)
					continue
				}
				var body []byte
				for body, err = r.Body(nil); errors.Is(err, os.ErrDeadlineExceeded); kicked++ {
					body, err = r.Body(body)
				}
				require.NoError(t, err)
				l.Body = string(body)
				require.Equal(t, want[i], l)
			}
			assert.Equal(t, times*(len(stream)+1), resumed+kicked)
			if resumes {
				assert.Equal(t, times*(len(want)+1), kicked, "within a message it goes on")
			}
		}
	}
}

// Every byte, at every place of a line, is one that a head may have, or none.
func TestCharacters(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			value := []byte(strings.Repeat("v", 20))
			value[at] = byte(c)
			stream := "HELLO 1\nToken:" + string(value) + "\n\n"
			got, err := all(wire.NewReader(strings.NewReader(stream), mostBody))
			switch {
			case c >= ' ' && c <= '~' || c == '\t':
				require.Equal(t, io.EOF, err, "%q", value)
				require.Equal(t, strings.Trim(string(value), " \t"), string(got[0].Token))
			case c == '\n', c == '\r' && at == 19: // the end of the line
				require.NotContains(t, fmt.Sprint(err), "expected ASCII", "%q", value)
			default:
				require.ErrorContains(t, err, "expected ASCII without control characters (rule W1", "%q", value)
			}
		}
	}
}
