package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

func TestOpenError(t *testing.T) {
	for _, kind := range kinds {
		in := &inspect.Error{Path: "there", Kind: kind, Symbol: "ferrule_start", Found: "a", Expected: "b", Remedy: "c",
			Err: errors.New("why")}
		out, err := ParseOpenError(OpenError(in), "here")
		require.NoError(t, err)
		assert.ErrorIs(t, out, kind)
		in.Path = "here" // the host's path of it counts
		assert.Equal(t, in.Error(), out.Error())
		assert.Equal(t, in, out)
	}
	for _, c := range []struct {
		in   error
		want *inspect.Error
	}{
		{errors.New("something else"), &inspect.Error{Kind: native.ErrLoad, Found: "something else"}},
		{&inspect.Error{Found: "without a kind"}, &inspect.Error{Kind: native.ErrLoad, Found: "without a kind"}},
		{&inspect.Error{Kind: errors.New("of its own")}, &inspect.Error{Kind: native.ErrLoad}},
		{&inspect.Error{Kind: inspect.ErrRead, Found: "not \xff UTF-8"},
			&inspect.Error{Kind: inspect.ErrRead, Found: "not \xff UTF-8"}},
	} {
		c.want.Path = "here"
		out, err := ParseOpenError(OpenError(c.in), "here")
		require.NoError(t, err)
		assert.Equal(t, c.want, out)
	}
}

func TestStartError(t *testing.T) {
	violation := &engine.Violation{Rule: "R8", Found: "x", Expected: "y"}
	for _, in := range []*engine.StartError{
		{Status: abi.StatusFailed, Message: "no licence"},
		{Status: math.MaxInt32},
		{Status: abi.StatusFailed, Message: "not \xff UTF-8"},
		{Err: violation},
	} {
		out, err := ParseStartError(StartError(in))
		require.NoError(t, err)
		assert.Equal(t, in, out)
	}
	for _, status := range []string{"0", "-1", "-2147483648", "2147483648", `"1"`} {
		_, err := ParseStartError([]byte(`{"Status":` + status + `}`))
		assert.Error(t, err, "a start that failed without having failed: %s", status)
	}
}

func TestViolationAndOpened(t *testing.T) {
	violation := &engine.Violation{Rule: "R10", Found: "the status -1", Expected: "0 or a positive number"}
	got, err := ParseViolation(Violation(violation))
	require.NoError(t, err)
	assert.Equal(t, violation, got)

	for _, in := range []Opened{{}, {Deaf: true}} {
		out, err := ParseOpened(Marshal(in))
		require.NoError(t, err)
		assert.Equal(t, in, out)
	}
	in := Open{Path: []byte("/\xff"), Copy: []byte("/\xfe"), Held: true, Instances: 3, Config: []byte("c"),
		Libraries: []Library{{[]byte("/lib/liba.so"), 1, 2}}, Contents: []string{"name"}, Sandbox: json.RawMessage(`{"Read":["/usr"]}`)}
	var out Open
	require.NoError(t, Unmarshal(Marshal(in), &out))
	assert.Equal(t, in, out)
}

// What is not understood is an error, however it is wrong.
func TestParseRefuses(t *testing.T) {
	long := `"` + strings.Repeat("x", maxText) + `"`
	deep := strings.Repeat("[", 20_000)
	for _, text := range []string{"", " ", "{", "[]", `"text"`, "1", "nul", `{"Status":1} {}`, "\x00", "\xff",
		long, deep, `{"Deaf":` + deep, `{"Deaf":5,"Violation":5,"Rule":5,"Kind":5}`} {
		_, err := ParseOpenError([]byte(text), "")
		assert.Error(t, err, "%.20q", text)
		_, err = ParseStartError([]byte(text))
		assert.Error(t, err, "%.20q", text)
		_, err = ParseViolation([]byte(text))
		assert.Error(t, err, "%.20q", text)
		_, err = ParseOpened([]byte(text))
		assert.Error(t, err, "%.20q", text)
	}
}

func TestBatch(t *testing.T) {
	for _, in := range [][][]byte{
		{}, {{}}, {[]byte("a")}, {[]byte("a"), {}, []byte("bc"), {}}, {bytes.Repeat([]byte("x"), 100_000), []byte("y")},
	} {
		b := make([]byte, BatchSize(in))
		PutBatch(b, in)
		before := [][]byte{[]byte("kept")}
		out, err := ParseBatch(b, before)
		require.NoError(t, err)
		require.Len(t, out, 1+len(in))
		assert.Equal(t, "kept", string(out[0]))
		for i := range in {
			assert.Equal(t, in[i], append([]byte{}, out[1+i]...))
			assert.Equal(t, len(out[1+i]), cap(out[1+i]), "no input reaches into the next one")
		}
		for n := range min(len(b), 100) {
			_, err := ParseBatch(b[:n], nil)
			assert.ErrorIs(t, err, ErrBatch, "%d of %d bytes", n, len(b))
		}
	}
}

// batchOf makes the outcome of a batch: texts are outputs, "!" ones violations.
func batchOf(texts ...string) *engine.Batch {
	b := new(engine.Batch)
	for i, text := range texts {
		r := engine.Record{Start: len(b.Out), Status: abi.Status(i % 3)}
		if rest, broken := strings.CutPrefix(text, "!"); broken {
			r.Err, r.Status = &engine.Violation{Rule: "R8", Found: rest}, -1
		} else {
			b.Out = append(b.Out, text...)
		}
		r.End = len(b.Out)
		b.Records = append(b.Records, r)
	}
	return b
}

func TestOutcome(t *testing.T) {
	for _, batch := range []*engine.Batch{
		{}, batchOf(""), batchOf("one"), batchOf("one", "", "three"), batchOf("!why"), batchOf("a", "!b", "c", "!d", "!"),
	} {
		for _, ending := range []Ending{EndingNone, EndingCancelled, EndingFull} {
			b := AppendOutcome(nil, batch, ending)
			assert.GreaterOrEqual(t, len(b), OutcomeSize(batch))
			got := engine.Batch{}
			was, err := ParseOutcome(b, len(batch.Records), &got)
			require.NoError(t, err)
			assert.Equal(t, ending, was)
			assert.Equal(t, batch.Records, got.Records)
			assert.Equal(t, batch.Out, got.Out)

			// A second part of the same batch lies behind the first.
			_, err = ParseOutcome(b, len(batch.Records), &got)
			require.NoError(t, err)
			assert.Equal(t, append(bytes.Clone(batch.Out), batch.Out...), got.Out)
			for i, r := range got.Records[len(batch.Records):] {
				want := batch.Records[i]
				assert.Equal(t, want.Start+len(batch.Out), r.Start)
				assert.Equal(t, want.End+len(batch.Out), r.End)
			}

			if n := len(batch.Records); n > 0 {
				_, err = ParseOutcome(b, n-1, new(engine.Batch))
				assert.ErrorIs(t, err, ErrBatch, "more records than inputs")
			}
			for n := range len(b) {
				_, err := ParseOutcome(b[:n], len(batch.Records), new(engine.Batch))
				assert.ErrorIs(t, err, ErrBatch, "%d of %d bytes", n, len(b))
			}
		}
	}
}

// outcome writes 32-bit and 64-bit words, and text, one after the other.
func outcome(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case uint32:
			b = order.AppendUint32(b, p)
		case uint64:
			b = order.AppendUint64(b, p)
		case string:
			b = append(b, p...)
		}
	}
	return b
}

type (
	u32 = uint32
	u64 = uint64
)

// lies are outcomes that claim what is not there.
var lies = map[string][]byte{
	"nothing":                             {},
	"half a head":                         outcome(u32(0), u32(0)),
	"more records than bytes":             outcome(u32(2), u32(0), u64(0), u64(0), u64(0), u32(0), u32(0)),
	"2^32-1 records":                      outcome(u32(math.MaxUint32), u32(0), u64(0)),
	"outputs of 2^63 bytes":               outcome(u32(0), u32(0), u64(1<<63)),
	"outputs of 2^64-1 bytes":             outcome(u32(1), u32(0), u64(math.MaxUint64), u64(0), u64(0), u32(0), u32(0)),
	"outputs of 2^64-24 bytes":            outcome(u32(1), u32(0), u64(math.MaxUint64-23), u64(0), u64(0), u32(0), u32(0)),
	"one byte too many":                   outcome(u32(1), u32(0), u64(5), u64(0), u64(0), u32(0), u32(0), "four"),
	"an end before the start":             outcome(u32(1), u32(0), u64(4), u64(3), u64(2), u32(0), u32(0), "four"),
	"an end behind the outputs":           outcome(u32(1), u32(0), u64(4), u64(0), u64(5), u32(0), u32(0), "four", "more"),
	"a start of 2^63":                     outcome(u32(1), u32(0), u64(4), u64(1<<63), u64(1<<63), u32(0), u32(0), "four"),
	"an end of 2^64-1":                    outcome(u32(1), u32(0), u64(4), u64(0), u64(math.MaxUint64), u32(0), u32(0), "four"),
	"the same bytes twice":                outcome(u32(2), u32(0), u64(4), u64(0), u64(4), u32(0), u32(0), u64(1), u64(2), u32(0), u32(0), "four"),
	"a status below 0":                    outcome(u32(1), u32(0), u64(0), u64(0), u64(0), u32(1<<31), u32(0)),
	"a text of 2^32-1 bytes":              outcome(u32(1), u32(0), u64(0), u64(0), u64(0), u32(0), u32(math.MaxUint32), "{}"),
	"a text that is longer than it is":    outcome(u32(1), u32(0), u64(0), u64(0), u64(0), u32(0), u32(3), "{}"),
	"a text that is no violation":         outcome(u32(1), u32(0), u64(0), u64(0), u64(0), u32(0), u32(2), "[]"),
	"a second record that makes no sense": outcome(u32(2), u32(0), u64(4), u64(0), u64(2), u32(0), u32(0), u64(3), u64(2), u32(0), u32(0), "four"),
}

// An outcome is taken as a whole or not at all, and costs what it is and not what it claims to be.
func TestOutcomeRefuses(t *testing.T) {
	for name, b := range lies {
		got := batchOf("before")
		spent := allocated(func() {
			_, err := ParseOutcome(b, math.MaxInt, got)
			assert.ErrorIs(t, err, ErrBatch, name)
		})
		assert.Equal(t, batchOf("before"), got, name)
		assert.Less(t, spent, uint64(1<<20), name)
	}
	for name, b := range map[string][]byte{
		"2^32-1 inputs":          outcome(u32(math.MaxUint32)),
		"one input too many":     outcome(u32(2), u64(0)),
		"an input of 2^63":       outcome(u32(1), u64(1<<63)),
		"an input of 2^64-1":     outcome(u32(1), u64(math.MaxUint64), "text"),
		"one byte too many":      outcome(u32(1), u64(5), "text"),
		"the second is too long": outcome(u32(2), u64(4), u64(1), "text"),
	} {
		spent := allocated(func() {
			_, err := ParseBatch(b, nil)
			assert.ErrorIs(t, err, ErrBatch, name)
		})
		assert.Less(t, spent, uint64(1<<20), name)
	}
}

// allocated returns how much memory fn allocates in large pieces, in bytes.
func allocated(fn func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	fn()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// affordable is how much memory the parsing of n bytes may take, in bytes: JSON has lists of nothing.
func affordable(n int) uint64 { return 1<<20 + 64*uint64(n) }

func FuzzParseOutcome(f *testing.F) {
	for _, b := range lies {
		f.Add(b, 3)
	}
	for _, batch := range []*engine.Batch{{}, batchOf("one", "", "three"), batchOf("a", "!b", "c", "!d", "!")} {
		f.Add(AppendOutcome(nil, batch, EndingCancelled), len(batch.Records))
	}
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		if most < 0 {
			most = 0 // of inputs
		}
		got := batchOf("before", "!", "!")
		var ending Ending
		var err error
		spent := allocated(func() { ending, err = ParseOutcome(data, most, got) })
		assert.LessOrEqual(t, spent, affordable(len(data)))
		checkOutcome(t, got, data, most, err)
		if err != nil {
			return
		}
		// What was understood is written as it was understood.
		got.Out, got.Records = nil, nil
		_, err = ParseOutcome(data, most, got)
		require.NoError(t, err)
		again := new(engine.Batch)
		was, err := ParseOutcome(AppendOutcome(nil, got, ending), most, again)
		require.NoError(t, err)
		assert.Equal(t, got.Records, again.Records)
		assert.True(t, bytes.Equal(got.Out, again.Out))
		assert.Equal(t, ending, was)
	})
}

// checkOutcome checks what must hold of a batch to which an outcome was added, whatever that was.
func checkOutcome(t *testing.T, got *engine.Batch, data []byte, most int, err error) {
	t.Helper()
	before := batchOf("before", "!", "!")
	if err != nil {
		assert.Equal(t, before, got)
		return
	}
	first := len(before.Records)
	require.GreaterOrEqual(t, len(got.Records), first)
	assert.Equal(t, before.Records, got.Records[:first])
	assert.Equal(t, before.Out, got.Out[:len(before.Out)])
	assert.LessOrEqual(t, len(got.Records)-first, most)
	assert.LessOrEqual(t, len(got.Out)-len(before.Out)+recordSize*(len(got.Records)-first)+headSize, len(data))
	total := 0
	for _, r := range got.Records[first:] {
		require.LessOrEqual(t, len(before.Out), r.Start)
		require.LessOrEqual(t, r.Start, r.End)
		require.LessOrEqual(t, r.End, len(got.Out))
		assert.True(t, r.Status >= 0 || r.Err != nil)
		total += r.End - r.Start
	}
	assert.LessOrEqual(t, total, len(got.Out)-len(before.Out))
}

func FuzzParseBatch(f *testing.F) {
	for _, in := range [][][]byte{{}, {{}}, {[]byte("a"), {}, []byte("bc"), {}}} {
		b := make([]byte, BatchSize(in))
		PutBatch(b, in)
		f.Add(b)
	}
	f.Add(outcome(u32(math.MaxUint32)))
	f.Add(outcome(u32(1), u64(math.MaxUint64), "text"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in [][]byte
		var err error
		spent := allocated(func() { in, err = ParseBatch(data, nil) })
		assert.LessOrEqual(t, spent, affordable(len(data)))
		assert.LessOrEqual(t, len(in), len(data)/8)
		if err != nil {
			return
		}
		b := make([]byte, BatchSize(in))
		require.LessOrEqual(t, len(b), len(data))
		PutBatch(b, in)
		assert.True(t, bytes.Equal(data[:len(b)], b))
	})
}

var texts = []string{"", "{}", "null", "[]", `""`, `{"Status":1,"Message":"bm8="}`,
	`{"Status":1,"Message":"no base64"}`, `{"Status":-1}`, `{"Status":2147483648}`,
	`{"Violation":{"Rule":"R8","Found":"x","Expected":"y"}}`, `{"Violation":null,"Status":0}`, `{"Rule":"\ud800"}`,
	`{"Kind":"cannot be read","Symbol":"s","Found":"/w==","Cause":"d2h5"}`, `{"Deaf":true}`, `{"Deaf":null}`, `{"deaf":false}`,
	"{\"Found\":\"\xff\"}", `{"Status":1e3}`, `{"Status":1e999}`, "[[[[[[[["}

func FuzzParseOpenError(f *testing.F) {
	for _, kind := range kinds {
		f.Add(OpenError(&inspect.Error{Kind: kind, Symbol: "s", Found: "f", Expected: "e", Remedy: "r", Err: errors.New("c")}))
	}
	fuzzText(f, func(data []byte) (any, []byte, error) {
		e, err := ParseOpenError(data, "path")
		if err != nil {
			return e, nil, err
		}
		_ = e.Error()
		return e, OpenError(e), nil
	})
}

func FuzzParseStartError(f *testing.F) {
	fuzzText(f, func(data []byte) (any, []byte, error) {
		e, err := ParseStartError(data)
		if err != nil {
			return e, nil, err
		}
		if e.Err == nil && e.Status <= abi.StatusOK {
			return e, nil, errors.New("a start that failed without having failed")
		}
		_ = e.Error()
		return e, StartError(e), nil
	})
}

func FuzzParseViolation(f *testing.F) {
	fuzzText(f, func(data []byte) (any, []byte, error) {
		v, err := ParseViolation(data)
		if err != nil {
			return v, nil, err
		}
		_ = v.Error()
		return v, Violation(v), nil
	})
}

func FuzzParseOpened(f *testing.F) {
	fuzzText(f, func(data []byte) (any, []byte, error) {
		o, err := ParseOpened(data)
		return o, Marshal(o), err
	})
}

// fuzzText checks that what parse makes of a text is the same when it is written and parsed again.
func fuzzText(f *testing.F, parse func([]byte) (v any, written []byte, err error)) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var first any
		var written []byte
		var err error
		spent := allocated(func() { first, written, err = parse(data) })
		assert.LessOrEqual(t, spent, affordable(len(data)))
		if err != nil {
			return
		}
		second, _, err := parse(written)
		require.NoError(t, err)
		assert.Equal(t, first, second)
	})
}
