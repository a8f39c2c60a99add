//go:build linux

package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// hang is after how long a call that must have ended is taken to hang. The machine may be busy.
const hang = 30 * time.Second

// library is the plug-in that hostile workers claim to run.
var library = &inspect.Library{
	Path: "/hostile.so", Description: abi.Description{Manifest: &abi.Manifest{Name: "hostile", Threads: abi.Serial},
		Funcs: []abi.Symbol{{Name: "one"}, {Name: "two"}},
		Hooks: []abi.Symbol{{Name: "hook"}},
		Imports: []abi.Symbol{{Name: "echo"}, {Name: "refuse"}, {Name: "panic"}, {Name: "call"}, {Name: "exit"},
			{Name: "large"}},
	}}

// victim is the host of the tests: what its functions do is what a careless host's would.
type victim struct {
	t      testing.TB
	plugin *Plugin
	most   int64
	calls  atomic.Int64
}

func (v *victim) Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	v.calls.Add(1)
	assert.LessOrEqual(v.t, int64(len(in)), v.most, "an input of a host function")
	before := crc32.ChecksumIEEE(in)
	defer func() { assert.Equal(v.t, before, crc32.ChecksumIEEE(in), "an input that changes while it is read") }()
	runtime.Gosched()
	switch ordinal {
	case 0:
		return bytes.Clone(in), abi.StatusOK
	case 1:
		return []byte("no"), abi.StatusFailed
	case 2:
		panic("a host function's")
	case 3:
		out, status, err := v.plugin.Append(ctx, engine.Fn{Index: 1}, nil, in[:min(len(in), 100)])
		checkCall(v.t, v.most, nil, out, status, err)
		return out, abi.StatusOK
	case 4:
		runtime.Goexit()
	case 5:
		return make([]byte, 1<<20+1), abi.StatusOK
	}
	assert.Fail(v.t, "a host function that there is not", "%d", ordinal)
	return nil, abi.StatusFailed
}

func (v *victim) Overdue(*engine.Limit) {}

func (v *victim) Panicked(_ context.Context, ordinal uint32, value any) ([]byte, abi.Status) {
	assert.Equal(v.t, uint32(2), ordinal)
	return fmt.Append(nil, value), abi.StatusFailed
}

func (v *victim) Log(_ context.Context, _ abi.Level, text, _ []byte) {
	before := crc32.ChecksumIEEE(text)
	runtime.Gosched()
	assert.Equal(v.t, before, crc32.ChecksumIEEE(text), "a line that changes while it is read")
}

// checkError checks that an error is one of those that package loader knows to dress.
func checkError(t testing.TB, err error) {
	t.Helper()
	switch err := err.(type) {
	case *engine.Crash:
		assert.NotZero(t, err.Attempt, "%v", err)
	case *engine.Overrun:
		assert.Error(t, err.Cause)
	case *engine.TooLong:
		assert.LessOrEqual(t, len(err.Text), 16<<10)
	case *engine.Violation, *engine.StartError, *inspect.Error:
		assert.LessOrEqual(t, len(err.Error()), 8<<20)
	default:
		assert.True(t, errors.Is(err, engine.ErrClosed) || errors.Is(err, engine.ErrReentrant) || errors.Is(err, engine.ErrEnded) ||
			errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled), "%T: %v", err, err)
	}
}

// checkForged checks that an error of a call is not one that only the host may make, and did not.
func checkForged(t testing.TB, p *Plugin, ctx context.Context, fn engine.Fn, err error) {
	t.Helper()
	assert.NotErrorIs(t, err, engine.ErrClosed, "it is open")
	assert.NotErrorIs(t, err, engine.ErrReentrant, "no host function has called")
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		assert.True(t, ctx.Err() != nil || fn.Limit != nil, "nothing has ended: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.startErr != nil { // a later worker said so when it was to open the plug-in
		return
	}
	var open *inspect.Error
	assert.False(t, errors.As(err, &open), "it is open: %v", err)
}

// checkCall checks what may come of a call, whatever the worker has done.
func checkCall(t testing.TB, longest int64, dst, out []byte, status abi.Status, err error) {
	t.Helper()
	if failed(err) {
		checkError(t, err)
		assert.Equal(t, len(dst), len(out))
		return
	}
	assert.GreaterOrEqual(t, status, abi.StatusOK)
	if status != abi.StatusOK {
		longest = max(longest, leastRoom)
	}
	require.GreaterOrEqual(t, len(out), len(dst))
	assert.LessOrEqual(t, int64(len(out)-len(dst)), longest)
	assert.Equal(t, string(dst), string(out[:len(dst)]))
}

// attack is one run against hostile workers.
type attack struct {
	traits  trait
	how     byte // bits: which kind of call, whether the limits are narrow, how the time is limited
	size    byte // of the inputs
	callers byte // at the same time
	script  []byte

	slow bool // with more time for everything, for tests that know what is to come of it
}

const (
	howAppend = 0
	howView   = 1
	howBatch  = 2
	howAll    = 3
	narrow    = 1 << 2 // outputs of 1,000 bytes at most
	timed     = 1 << 3 // by WithCallTimeout rather than the context
	roomy     = 1 << 4 // Append brings room of its own
)

func (a attack) bytes() []byte {
	return append([]byte{byte(a.traits), a.how, a.size, a.callers}, a.script...)
}

func attackOf(data []byte) (a attack, ok bool) {
	if len(data) < 4 || len(data) > 4<<10 {
		return a, false
	}
	return attack{trait(data[0]) &^ (unkillable | unreapable), data[1], data[2], data[3], data[4:], false}, true
}

var inputSizes = []int{0, 1, 100, 4000, 60 << 10, 64 << 10, 200 << 10, 2 << 20}

// result is what came of one call, for tests that know what is to come of it.
type result struct {
	out    []byte
	status abi.Status
	err    error
}

// run has the engine meet hostile workers. It returns the outcomes of the first caller's calls, and of opening and closing.
func (a attack) run(t testing.TB) (results []result, opened, closed error) {
	pace := time.Duration(1)
	if a.slow {
		pace = 20
	}
	w := &world{t: t, script: a.script, traits: a.traits, pace: pace}
	host := &victim{t: t, most: 1 << 20}
	o := Options{Grace: 2 * pace * time.Millisecond, StartTimeout: 20 * pace * time.Millisecond, StopTimeout: 20 * pace * time.Millisecond, MaxMessage: 1 << 20,
		Restart: Restart{Delay: 50 * time.Microsecond, MaxDelay: time.Millisecond, Limit: 3, Suspend: time.Millisecond}}
	if a.how&narrow != 0 {
		o.MaxMessage, host.most = 1000, 1000
	}
	timeout, limit := 6*pace*time.Millisecond, (*engine.Limit)(nil)
	if a.how&timed != 0 {
		limit, timeout = &engine.Limit{After: timeout, By: "loader.WithCallTimeout"}, time.Hour
	}
	p := newPlugin(library, library.Path, host, o, &engine.Options{Instances: 3})
	p.run = w.start
	host.plugin = p

	within(t, "opening", func() {
		_, opened = p.launch()
	})
	if opened != nil {
		switch opened.(type) {
		case *inspect.Error, *engine.StartError, *engine.Crash:
			checkError(t, opened)
		default:
			assert.Failf(t, "an error that Open does not know", "%T: %v", opened, opened)
		}
	} else {
		within(t, "calling", func() { results = a.calls(t, p, host.most, timeout, limit) })
	}
	checkRoom(t, p, o.MaxMessage, inputSizes[int(a.size)%len(inputSizes)])
	within(t, "closing", func() { closed = p.Close() })
	if closed != nil {
		crash, ok := closed.(*engine.Crash)
		assert.True(t, ok && crash.Attempt > 0, "%T: %v", closed, closed)
	}
	_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
	assert.Equal(t, engine.ErrClosed, err)
	w.checkGone(t, p)
	w.end()
	return results, opened, closed
}

func (a attack) calls(t testing.TB, p *Plugin, longest int64, timeout time.Duration, limit *engine.Limit) []result {
	size := inputSizes[int(a.size)%len(inputSizes)]
	in := bytes.Repeat([]byte("input."), size/6+1)[:size]
	var mu sync.Mutex
	var results []result
	var callers sync.WaitGroup
	for g := range 1 + int(a.callers)%4 {
		callers.Add(1)
		go func() {
			defer callers.Done() // also when a host function ends the goroutine
			for i := range 2 {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				fn := engine.Fn{Index: (g + i) % 3, Limit: limit}
				r := a.call(t, ctx, p, fn, g+i, longest, in)
				checkForged(t, p, ctx, fn, r.err)
				if g == 0 {
					mu.Lock()
					results = append(results, r)
					mu.Unlock()
				}
				cancel()
			}
		}()
	}
	callers.Wait()
	return results
}

func (a attack) call(t testing.TB, ctx context.Context, p *Plugin, fn engine.Fn, n int, longest int64, in []byte) (r result) {
	how := int(a.how & 3)
	if how == howAll {
		how = n % 3
	}
	switch how {
	case howAppend:
		dst := []byte("before")
		if a.how&roomy != 0 {
			dst = append(make([]byte, 0, 1<<20+100), dst...)
		}
		r.out, r.status, r.err = p.Append(ctx, fn, dst, in)
		checkCall(t, longest, []byte("before"), r.out, r.status, r.err)
		r.out = r.out[len(dst):]
	case howView:
		var v *engine.View
		v, r.status, r.err = p.View(ctx, fn, in)
		if failed(r.err) {
			checkError(t, r.err)
			assert.Nil(t, v)
			return r
		}
		checkCall(t, longest, nil, v.Bytes, r.status, nil)
		_ = crc32.ChecksumIEEE(v.Bytes) // all of it can be read
		runtime.Gosched()
		r.out = bytes.Clone(v.Bytes)
		v.Release()
	case howBatch:
		inputs := slices.Collect(slices.Chunk(in, 1+len(in)/5))
		b := &engine.Batch{Out: []byte("old"), Records: make([]engine.Record, 3)}
		r.err = p.Batch(ctx, fn, inputs, b)
		if r.err != nil {
			checkError(t, r.err)
		} else {
			assert.Len(t, b.Records, len(inputs))
		}
		assert.LessOrEqual(t, len(b.Records), len(inputs))
		assert.LessOrEqual(t, len(b.Out), 2*len(in)+2<<20)
		total := 0
		for _, record := range b.Records {
			require.LessOrEqual(t, 0, record.Start)
			require.LessOrEqual(t, record.Start, record.End)
			require.LessOrEqual(t, record.End, len(b.Out))
			assert.True(t, record.Status >= 0 || record.Err != nil)
			total += record.End - record.Start
		}
		assert.LessOrEqual(t, total, len(b.Out))
		r.out = b.Out
	}
	return r
}

// within runs fn, which must not hang.
func within(t testing.TB, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(hang):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s hangs\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// checkRoom checks that workers got no more memory than the limits allow.
func checkRoom(t testing.TB, p *Plugin, longest int64, input int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.worker != nil {
		for _, l := range p.worker.lanes {
			if !l.owned() && !l.viewed { // nobody uses it
				// Room for the input and for what was asked for, and the answer of the largest host function.
				assert.LessOrEqual(t, int64(l.Extended()), 2*(2*int64(input)+longest+4<<20), "of one lane")
			}
		}
	}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	assert.Less(t, sample[0].Value.Uint64(), uint64(1<<30), "of the host")
}

// checkGone checks that a closed engine has let go of everything.
func (w *world) checkGone(t testing.TB, p *Plugin) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		p.mu.Lock()
		calls, refs, waiting := p.calls, 0, len(p.waiting)
		for _, worker := range w.workers {
			refs += max(worker.refs, -worker.refs)
		}
		p.mu.Unlock()
		if calls == 0 && refs == 0 && waiting == 0 {
			return
		}
		if time.Since(start) > hang {
			t.Fatalf("%d calls, %d uses of memory and %d that wait after Close", calls, refs, waiting)
		}
	}
}

// script puts steps together.
func script(steps ...any) (b []byte) {
	for _, s := range steps {
		switch s := s.(type) {
		case int:
			b = append(b, byte(s))
		case string:
			b = append(b, s...)
		case []byte:
			b = append(b, s...)
		}
	}
	return b
}

const rule = int(lane.FailedRule)

// Numbers that are the lengths of sayings.
const (
	startText    = 35
	openText     = 36
	startedAfter = 37
	batchText    = 38
)

// cases are attacks of which it is known what is to come: want is a part of the first call's error, or
// "" when it works, "*" for any error, and "-" for one of opening.
var cases = []struct {
	name string
	attack
	want string
}{
	{"an honest worker", attack{traits: tame, size: 2}, ""},
	{"an honest worker, all kinds of calls", attack{traits: tame, how: howAll, size: 3, callers: 3}, ""},
	{"an honest worker under narrow limits", attack{traits: tame, how: narrow, size: 2}, ""},
	{"longer than the narrow limit", attack{traits: tame, how: narrow, size: 3}, "WithMaxMessage"},
	{"longer than the narrow limit, in place", attack{traits: tame, how: narrow | howView, size: 3}, "WithMaxMessage"},

	{"silence", attack{traits: mute}, "deadline exceeded"},
	{"silence, and a time limit", attack{traits: mute, how: timed}, "loader.WithCallTimeout"},
	{"an end at once", attack{}, "*"},
	{"a turn that is nobody's", attack{traits: tame,
		script: script(stReceive, stTurn, 2)}, "0x0 where the lane's turn is"},
	{"a turn of 2^32-1", attack{traits: tame,
		script: script(stReceive, stTurn, 4)}, "0xffffffff where the lane's turn is"},
	{"a turn that is nearly the host's", attack{traits: tame,
		script: script(stReceive, stTurn, 5)}, "0x54534f49 where"},
	{"the turn given back", attack{traits: mute, script: script(stReceive, stTurn, 1)}, "deadline exceeded"},
	{"a message of kind 0", attack{traits: tame,
		script: script(stReceive, stMessage, 5, 0, 0, zero, zero, stPost)}, "the message 0"},
	{"a message of the host's kind", attack{traits: tame,
		script: script(stReceive, stMessage, 8, 0, 0, zero, zero, stPost)}, "the message 3"},
	{"a message of kind 2^32-1", attack{traits: tame,
		script: script(stReceive, stMessage, 14, 0, 0, zero, zero, stPost)}, "the message 4294967295"},
	{"a status of -1", attack{traits: tame,
		script: script(stReceive, stMessage, 0, 0, 10, zero, zero, stPost)}, "the status -1"},
	{"a status of -2^31", attack{traits: tame,
		script: script(stReceive, stMessage, 0, 0, 11, zero, zero, stPost)}, "the status -2147483648"},

	{"an output of 2^63 bytes", attack{traits: tame,
		script: script(stReceive, stDone, most)}, "an output of 9223372036854775808 bytes"},
	{"an output of 2^64-1 bytes", attack{traits: tame,
		script: script(stReceive, stDone, all)}, "an output of 18446744073709551615 bytes"},
	{"an output of 1 MiB where there is no room", attack{traits: tame,
		script: script(stReceive, stDone, mib)}, "an output of 1048576 bytes"},
	{"a view of 2^64-1 bytes", attack{traits: tame, how: howView,
		script: script(stReceive, stDone, all)}, "an output of 18446744073709551615 bytes"},
	{"a batch of 2^64-1 bytes", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stDone, all)}, "an output of 18446744073709551615 bytes"},
	{"an extent and its size are the host's to say", attack{
		script: script(stReceive, stMessage, 0, 0, 0, few, all, stPost, stReceive, stHonest), traits: tame}, ""},
	{"an output that grew into an extent", attack{traits: tame,
		script: script(stReceive, stGrow, 2, mib, stDone, mib)}, ""},
	{"an output beyond its extent", attack{traits: tame,
		script: script(stReceive, stGrow, 2, mib, stDone, above)}, "an output of 1048577 bytes"},
	{"room for more than is allowed", attack{traits: tame,
		script: script(stReceive, stGrow, 2, above, stDone, above)}, "an output of 1048577 bytes"},
	{"room for 2^63 bytes", attack{traits: tame,
		script: script(stReceive, stGrow, 2, most, stDone, most)}, "an output of 9223372036854775808 bytes"},
	{"room for 2^64-1 bytes", attack{traits: tame,
		script: script(stReceive, stGrow, 1, all, stGrow, 2, all, stDone, few)}, ""},
	{"room in region 3", attack{traits: tame, script: script(stReceive, stGrow, 3, few)}, "the region 3"},
	{"room beside the input", attack{traits: tame, script: script(stReceive, stGrow, 0, few)}, "the region 0"},
	{"room in region 2^32-1", attack{traits: tame,
		script: script(stReceive, stGrow, 255, few)}, "the region 4294967295"},
	{"room for ever", attack{traits: again,
		script: script(stReceive, stGrow, 2, mib, stGrow, 1, mib, stGrow, 2, few, stGrow, 2, above, stGrow, 1, most)}, "deadline exceeded"},
	{"room for ever, from what is left behind", attack{traits: again | orphan,
		script: script(stReceive, stGrow, 2, mib, stGrow, 1, mib)}, "deadline exceeded"},

	{"host function 6 of 6", attack{traits: tame,
		script: script(stReceive, stCall, 6, zero)}, "the host function 6 of 6"},
	{"host function 2^32-1", attack{traits: tame,
		script: script(stReceive, stCall, 255, zero)}, "the host function 4294967295 of 6"},
	{"a host function's input of 2^63 bytes", attack{traits: tame,
		script: script(stReceive, stCall, 0, most)}, "an input of 9223372036854775808 bytes"},
	{"a host function's input of 2^64-1 bytes", attack{traits: tame,
		script: script(stReceive, stCall, 0, all)}, "an input of 18446744073709551615 bytes"},
	{"a host function's input beyond the narrow limit", attack{traits: tame, how: narrow,
		script: script(stReceive, stCall, 0, 12, stDone, few)}, ""},
	{"a log line of 2^64-1 bytes", attack{traits: tame,
		script: script(stReceive, stLog, 1, all)}, "an input of 18446744073709551615 bytes"},
	{"a log line of level 2^32-1", attack{traits: tame, script: script(stReceive, stLog, 255, few, stDone, few)}, ""},
	{"log lines for ever", attack{traits: again, script: script(stReceive, stLog, 1, few)}, "deadline exceeded"},
	{"log lines for ever, from what is left behind", attack{traits: again | orphan,
		script: script(stReceive, stLog, 1, few)}, "deadline exceeded"},
	{"host functions for ever", attack{traits: again,
		script: script(stReceive, stCall, 0, few, stCall, 1, zero, stCall, 2, few)}, "deadline exceeded"},
	{"host functions for ever, in time", attack{traits: again | orphan, how: timed,
		script: script(stReceive, stCall, 0, few, stCall, 5, zero)}, "loader.WithCallTimeout"},
	{"calls in calls", attack{traits: again, callers: 2, script: script(stReceive, stCall, 3, few)}, "*"},
	{"a host function that panics", attack{traits: tame, script: script(stReceive, stCall, 2, few, stDone, few)}, ""},

	{"a failure of no kind", attack{traits: tame, script: script(stReceive, stFail, 99, zero, zero)}, "the failure 99"},
	{"a failure with a text of 2^64-1 bytes", attack{traits: tame,
		script: script(stReceive, stFail, rule, all, zero)}, "an output of 18446744073709551615 bytes"},
	{"a failure with a text from 2^63 on", attack{traits: tame,
		script: script(stReceive, stFail, rule, few, most)}, "a text at 9223372036854775808"},
	{"a failure with a text that is none", attack{traits: tame,
		script: script(stReceive, stSay, 9, stFail, rule, 3, zero)}, "overwritten"},
	{"a start that failed without having failed", attack{traits: tame,
		script: script(stReceive, stSay, 5, stFail, int(lane.FailedStart), 4, zero)}, "overwritten"},
	{"an open error that is none", attack{traits: tame,
		script: script(stReceive, stSay, 9, stFail, int(lane.FailedOpen), 3, zero)}, "overwritten"},
	{"a closed plug-in", attack{traits: tame,
		script: script(stReceive, stFail, int(lane.FailedClosed), zero, zero)}, "a plug-in that is closed, which it is not"},
	{"a closed plug-in, in a batch", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stFail, int(lane.FailedClosed), zero, zero)}, "a plug-in that is closed, which it is not"},
	{"a call that is re-entrant", attack{traits: tame,
		script: script(stReceive, stFail, int(lane.FailedReentrant), zero, zero)}, "re-entrant, which it is not"},
	{"a call that is re-entrant, in place", attack{traits: tame, how: howView,
		script: script(stReceive, stFail, int(lane.FailedReentrant), zero, zero)}, "re-entrant, which it is not"},
	{"an instance that has panicked, where none has", attack{traits: tame,
		script: script(stReceive, stFail, int(lane.FailedPoisoned), zero, zero)}, "an instance that has panicked, which none has"},
	{"an instance that has panicked, where none has, in place", attack{traits: tame, how: howView,
		script: script(stReceive, stFail, int(lane.FailedPoisoned), zero, zero)}, "an instance that has panicked, which none has"},
	{"an instance that has panicked, where none has, in a batch", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stFail, int(lane.FailedPoisoned), zero, zero)}, "which none has to be"},
	{"a start that failed when none was needed", attack{traits: tame,
		script: script(stReceive, stSay, 4, stFail, int(lane.FailedStart), startText, zero)}, "which none has to be"},
	{"a start that failed when none was needed, in a batch", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stSay, 4, stFail, int(lane.FailedStart), startText, zero)}, "which none has to be"},
	{"a start that failed after a batch's records without a panic", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stSay, 14, stFail, int(lane.FailedStart), startedAfter, batchText)}, "which none has to be"},
	{"an open error of a plug-in that is open", attack{traits: tame,
		script: script(stReceive, stSay, 6, stFail, int(lane.FailedOpen), openText, zero)}, "could not be opened, which it is"},
	{"a cancellation that nobody asked for", attack{traits: tame,
		script: script(stReceive, stFail, int(lane.FailedCancelled), zero, zero)}, "nobody cancelled"},
	{"too long, in many words", attack{traits: tame, how: roomy,
		script: script(stReceive, stFail, int(lane.FailedTooLong), mib, zero)}, "\x00"},

	{"a batch of nothing", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stDone, zero)}, "a batch that makes no sense"},
	{"a batch of records that are not there", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stSay, 11, stDone, few)}, "a batch that makes no sense"},
	{"a batch that ran too little", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stSay, 13, stDone, 4)}, "ran 0 of 5"},
	{"a batch that failed at 2^63, from what is left behind", attack{traits: mute | orphan, how: howBatch, size: 2,
		script: script(stReceive, stOutlive, stFail, rule, few, most)}, "deadline exceeded"},
	{"a batch that failed at 2^63", attack{traits: tame, how: howBatch, size: 2,
		script: script(stReceive, stFail, rule, few, most)}, "a text at 9223372036854775808"},

	{"the lane overwritten with 0xff", attack{traits: mute,
		script: script(stReceive, stFill, 255)}, "0xffffffff where the lane's turn is"},
	{"the lane overwritten with 0", attack{traits: mute,
		script: script(stReceive, stFill, 0)}, "0x0 where the lane's turn is"},
	{"a wrong opening", attack{traits: tame | hostileOpen, script: script(stReceive, stDone, few)}, "-"},
	{"an opening that nobody understands", attack{traits: tame | hostileOpen,
		script: script(stReceive, stSay, 9, stDone, 3)}, "-"},
	{"no opening", attack{traits: mute | hostileOpen}, "-"},
	{"an opening that says closed", attack{traits: tame | hostileOpen,
		script: script(stReceive, stFail, int(lane.FailedClosed), zero, zero)}, "-"},
	{"an opening that says re-entrant", attack{traits: tame | hostileOpen,
		script: script(stReceive, stFail, int(lane.FailedReentrant), zero, zero)}, "-"},
	{"an opening that says panicked", attack{traits: tame | hostileOpen,
		script: script(stReceive, stFail, int(lane.FailedPoisoned), zero, zero)}, "-"},
	{"an opening that says cancelled", attack{traits: tame | hostileOpen,
		script: script(stReceive, stFail, int(lane.FailedCancelled), zero, zero)}, "-"},
	{"an opening that calls the host for ever", attack{traits: again | orphan | hostileOpen,
		script: script(stReceive, stCall, 0, few, stCall, 4, few)}, "-"},
	{"an end right after the opening", attack{traits: hostileOpen, script: script(stReceive, stHonest, stExit)}, "*"},
}

func TestLayout(t *testing.T) {
	w := &world{t: t, traits: mute, pace: 1}
	host := &victim{t: t, most: 1 << 20}
	o := Options{StartTimeout: 50 * time.Millisecond, StopTimeout: 50 * time.Millisecond, MaxMessage: 1 << 20}
	p := newPlugin(library, library.Path, host, o, &engine.Options{Instances: 1})
	w.traits |= hostileOpen
	p.run = w.start
	_, err := p.launch()
	require.Error(t, err, "nobody answers")
	h := w.all[0]
	assert.Equal(t, uint32(turnWorker), h.word(0).Load())
	assert.Equal(t, lane.OpOpen, h.down().Op)
	text := h.at()[callAt:][:h.down().Len]
	assert.True(t, bytes.HasPrefix(text, []byte("{")) && bytes.HasSuffix(text, []byte("}")), "%q", text)
	assert.Equal(t, uint64(upAt-callAt), h.down().OutAt+h.down().OutCap)
	_, err = h.world.workers[0].lanes[0].UpInput(lane.Message{Len: laneSize - upAt})
	assert.NoError(t, err)
	_, err = h.world.workers[0].lanes[0].UpInput(lane.Message{Len: laneSize - upAt + 1})
	assert.Error(t, err)
	*h.up() = lane.Message{Len: 0x1234}
	assert.Equal(t, uint64(0x1234), binary.LittleEndian.Uint64(h.at()[lenAt:]))
	w.end()
}

func TestHostile(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of them wait
			c.slow = true
			results, opened, _ := c.run(t)
			if c.want == "-" {
				assert.Error(t, opened)
				return
			}
			require.NoError(t, opened)
			require.NotEmpty(t, results)
			got := results[0].err
			switch c.want {
			case "":
				assert.NoError(t, got)
			case "*":
				assert.Error(t, got)
			default:
				assert.ErrorContains(t, got, c.want)
			}
		})
	}
}

// pluginFor makes an engine with patience, whose workers do what the script says, and starts it.
func pluginFor(t *testing.T, host engine.Host, traits trait, steps []byte) (*Plugin, *worker, error) {
	t.Helper()
	w := &world{t: t, script: steps, traits: traits, pace: 20}
	o := Options{Grace: 5 * time.Millisecond, StartTimeout: 100 * time.Millisecond, StopTimeout: 100 * time.Millisecond, MaxMessage: 1 << 20,
		Restart: Restart{Delay: time.Millisecond, MaxDelay: time.Millisecond, Limit: 3, Suspend: time.Minute}}
	p := newPlugin(library, library.Path, host, o, &engine.Options{Instances: 2})
	p.run = w.start
	if o, ok := host.(*opener); ok {
		o.plugin = p
	}
	t.Cleanup(w.end)
	t.Cleanup(func() { within(t, "closing", func() { _ = p.Close() }) })
	var first *worker
	var err error
	within(t, "opening", func() { first, err = p.launch() })
	return p, first, err
}

// A worker may have ended when calls are about to use it.
func TestAdoptsTheDead(t *testing.T) {
	p, w, err := pluginFor(t, &victim{t: t, most: 1 << 20}, tame, nil)
	require.NoError(t, err)
	w.kill("", nil)
	<-w.gone
	p.mu.Lock()
	p.adopt(w.seats[0])
	p.mu.Unlock()
	within(t, "calling", func() {
		out, _, err := p.Append(context.Background(), engine.Fn{}, nil, []byte("again"))
		require.NoError(t, err, "in the next one")
		assert.Equal(t, "again", string(out))
	})
	assert.Equal(t, 2, p.Isolation().Attempt)
}

// The call before on a lane may be why its worker was killed, and have come to its end nevertheless.
func TestKilledForAnotherCall(t *testing.T) {
	p, w, err := pluginFor(t, &victim{t: t, most: 1 << 20}, mute, script(stReceive, stHonest, stReceive, stExit))
	require.NoError(t, err)
	within(t, "calling", func() {
		_, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil)
		require.NoError(t, err)
	})
	p.mu.Lock()
	p.seat.stopParking()
	w.free[0].killed = true
	p.mu.Unlock()
	within(t, "closing", func() { err = p.Close() })
	assert.IsType(t, (*engine.Crash)(nil), err)
}

// Lanes that are trimmed are not free, although nobody calls.
func TestCloseWhileTrimming(t *testing.T) {
	for range 20 {
		p, w, err := pluginFor(t, &victim{t: t, most: 1 << 20}, tame, nil)
		require.NoError(t, err)
		p.options.StopTimeout, p.exitPatience = hang, hang // the machine may be busy
		within(t, "calling", func() { _, _, _ = p.Append(context.Background(), engine.Fn{}, nil, make([]byte, 8<<20)) })
		go p.trim()
		within(t, "closing", func() { err = p.Close() })
		assert.NoError(t, err)
		assert.Nil(t, w.report().Signal, "it was asked to stop, not killed")
	}
}

// opener is a host whose function is called while the plug-in is opened.
type opener struct {
	victim
	function func(ctx context.Context, e *Plugin) ([]byte, abi.Status)
}

func (o *opener) Call(ctx context.Context, _ uint32, _ []byte) ([]byte, abi.Status) {
	return o.function(ctx, o.plugin)
}

// Whatever a host function does while its plug-in is opened, opening comes to an end.
func TestHostFunctionsWhileOpening(t *testing.T) {
	answered := script(stReceive, stCall, 2, few, stHonest)
	var nested error
	released := make(chan struct{})
	defer close(released)
	for _, c := range []struct {
		name     string
		steps    []byte
		function func(ctx context.Context, p *Plugin) ([]byte, abi.Status)
		want     string
	}{
		{"returns", answered, func(context.Context, *Plugin) ([]byte, abi.Status) { return nil, abi.StatusOK }, ""},
		{"calls the plug-in", answered, func(ctx context.Context, p *Plugin) ([]byte, abi.Status) {
			_, _, nested = p.Append(ctx, engine.Fn{}, nil, nil)
			return nil, abi.StatusOK
		}, ""},
		{"panics", answered, func(context.Context, *Plugin) ([]byte, abi.Status) { panic("so") }, ""},
		{"ends its goroutine", answered, func(context.Context, *Plugin) ([]byte, abi.Status) { runtime.Goexit(); return nil, 0 }, ""},
		{"does not return", script(stReceive, stCall, 0, few, stOutlive), func(context.Context, *Plugin) ([]byte, abi.Status) {
			<-released
			return nil, abi.StatusOK
		}, "had not started"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := pluginFor(t, &opener{victim{t: t, most: 1 << 20}, c.function}, tame|hostileOpen|orphan, c.steps)
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
		})
	}
	assert.Equal(t, engine.ErrReentrant, nested)
}

// A host function that ends its goroutine takes the call with it, once.
func TestHostileGoexit(t *testing.T) {
	for range 50 {
		results, opened, _ := attack{traits: tame, callers: 3, slow: true,
			script: script(stReceive, stCall, 4, few, stHonest, stReceive, stCall, 4, zero, stHonest)}.run(t)
		require.NoError(t, opened)
		assert.LessOrEqual(t, len(results), 2)
	}
}

// FuzzHostile has workers do what a script says; see step. Whatever they do, each call comes back, in time, with a result
// within the limits or an error that is known, and nothing is left of them.
func FuzzHostile(f *testing.F) {
	for _, c := range cases {
		f.Add(c.bytes())
	}
	values, step := 4, 1
	if testing.Short() {
		values, step = 1, 4
	}
	for where := range areas { // while the host reads
		for value := range values {
			for how := range 4 {
				f.Add(attack{traits: tame, how: byte(how), size: byte(2 + value), callers: byte(value),
					script: script(stReceive, stNoise, where, 4+value, stHonest, stReceive, stHonest)}.bytes())
			}
			f.Add(attack{traits: again | orphan, how: howAll, size: 3, callers: 2,
				script: script(stReceive, stNoise, where, 8+value, stCall, value, few, stGrow, 2, mib, stLog, 1, few, stHonest)}.bytes())
			f.Add(attack{traits: tame | hostileOpen,
				script: script(stNoise, where, 4+value, stReceive, stCall, value, few, stHonest)}.bytes())
		}
	}
	for other := range 4 { // lanes aside, for calls that are there and for such as are not
		for value := range values {
			f.Add(attack{traits: tame, how: howAll, callers: 3, script: script(stReceive, stWait, 1+value, stCall, value, few,
				stReceive, stAside, other, value, few, stHonest, stReceive, stAside, 1-other, 1, zero, stHonest)}.bytes())
		}
	}
	for n := 0; n < len(numbers); n += step {
		f.Add(attack{traits: tame, how: howAll, size: 6, callers: 1, script: script(stReceive, stGrow, 2, n, stDone, n)}.bytes())
		f.Add(attack{traits: tame, how: narrow, size: 1,
			script: script(stReceive, stGrow, 1, n, stCall, 0, n, stLog, 0, n, stDone, n)}.bytes())
		f.Add(attack{traits: tame, how: howBatch, size: 2,
			script: script(stReceive, stSay, 12, stNumber, 1, 64, n, stDone, few)}.bytes())
		f.Add(attack{traits: tame, how: howBatch, size: 2, script: script(stReceive, stSay, 12, stFail, n%9, n, 2)}.bytes())
		f.Add(attack{traits: tame, size: 6, script: script(stReceive, stExtend, n, stGrow, 2, mib, stDone, n)}.bytes())
		f.Add(attack{traits: tame, script: script(stHeader, n, n, stHeader, 0, n, stReceive, stHonest)}.bytes())
	}
	f.Add(attack{traits: again | noisy, how: howAll, size: 7, callers: 3,
		script: script(stWords, 1, 1, 1, stHonest, stRing, stSleep, stReceive)}.bytes())
	f.Add(attack{traits: tame, how: howAll, callers: 3,
		script: script(stReceive, stCall, 4, few, stCall, 3, few, stHonest, strings.Repeat(string(rune(stPost)), 20))}.bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, ok := attackOf(data); ok {
			a.run(t)
		}
	})
}
