package soak

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/plugins"
)

// What a call may return is what held at some time from its beginning to its end, and nothing of before or after.
func TestModel(t *testing.T) {
	old := &Expectation{Versions: []string{"1.0.0"}, Numbers: []uint32{1}}
	m := NewMember("x", old)
	assert.Same(t, old, m.Now())
	between := old.And([]string{"1.1.0"}, []uint32{2}, Crashed)
	last := &Expectation{Versions: []string{"1.1.0"}, Numbers: []uint32{2}}

	before := m.Now()
	assert.True(t, m.Answers(before, "1.0.0", 1))
	assert.False(t, m.Answers(before, "1.1.0", 1))
	assert.False(t, m.May(before, Crashed))
	m.Become(between)
	during := m.Now()
	m.Become(last)
	after := m.Now()
	for _, c := range []struct {
		from         *Expectation
		version      string
		number       uint32
		answers, may bool
	}{{before, "1.0.0", 1, true, true}, {before, "1.1.0", 2, true, true}, {before, "1.2.0", 2, false, true}, {during, "1.0.0", 2, true, true}, {after, "1.0.0", 2, false, false}, {after, "1.1.0", 1, false, false}, {after, "1.1.0", 2, true, false}} {
		assert.Equal(t, c.answers, m.Answers(c.from, c.version, c.number), c)
		assert.Equal(t, c.may, m.May(c.from, Crashed), c)
	}
	m.Become(&Expectation{Silent: true, Kinds: []Kind{Disabled}})
	assert.False(t, m.Answers(m.Now(), "1.1.0", 2))
	assert.Empty(t, m.Fault(m.Now(), plugins.ErrDisabled))
	assert.Contains(t, m.Fault(m.Now(), loader.ErrPanic), `found an error of the kind "panicked"`)

	in := "a text"
	good := fmt.Sprintf("1.1.0 2 %08x", Hash(in)^2)
	assert.Empty(t, m.Judge(after, in, good))
	for _, out := range []string{"", "1.1.0", good + " ", " " + good, good[:len(good)-1] + "x", fmt.Sprintf("1.1.0 2 %08x", Hash(in)), fmt.Sprintf("1.0.0 2 %08x", Hash(in)^2)} {
		assert.NotEmpty(t, m.Judge(m.Now(), in, out), out)
	}
	assert.Equal(t, uint32(0xbf9cf968), Hash("foobar"), "as the authors of FNV say")
}

func TestKindOf(t *testing.T) {
	for kind, err := range map[Kind]error{Answered: nil, LeftOut: &plugins.Error{Kind: plugins.ErrBroken}, Disabled: &plugins.Error{Kind: plugins.ErrDisabled}, Lost: fmt.Errorf("x: %w", remote.ErrNodeLost), NoNode: remote.ErrNoNode,
		Suspended: loader.ErrSuspended, Killed: &loader.DeadlineError{}, Crashed: &plugins.HookError{Err: &loader.CrashError{}}, Cancelled: loader.ErrCancelled, Panicked: loader.ErrPanic, Failed: loader.ErrFailed,
		Unreachable: &loader.OpenError{Kind: loader.ErrRead}, Another: &loader.OpenError{Kind: loader.ErrLoad}, Unforeseen: errors.New("x")} {
		assert.Equal(t, kind, KindOf(err))
	}
}

// A number that stays, jumps about or is far off now and then is flat; one that grows is not, also where it jumps about.
func TestFlat(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	series := func(n int, value func(i int) float64) *Series {
		s := &Series{Name: "threads", Slack: 4, Share: 0.1}
		for i := range n {
			s.Add(float64(i), value(i))
		}
		return s
	}
	for name, value := range map[string]func(i int) float64{
		"stays":          func(int) float64 { return 100 },
		"falls":          func(i int) float64 { return 100 - float64(i) },
		"jumps about":    func(int) float64 { return 100 + 20*r.Float64() },
		"far off":        func(i int) float64 { return 100 + 1000*float64(i%10/9) },
		"one step":       func(i int) float64 { return 100 + math.Min(float64(i), 10) },
		"up at the end":  func(i int) float64 { return 100 + 100*float64(i/38) },
		"a saw's teeth":  func(i int) float64 { return 100 + float64(i%8) },
		"within its own": func(i int) float64 { return 100 + float64(i)/4 },
	} {
		assert.Empty(t, series(40, value).Fault(), name)
	}
	for name, value := range map[string]func(i int) float64{
		"grows":                     func(i int) float64 { return 100 + float64(i) },
		"grows, and jumps about":    func(i int) float64 { return 100 + float64(i) + 10*r.Float64() },
		"grows, and is now far off": func(i int) float64 { return 100 + float64(i) - 100*float64(i%10/9) },
		"doubles in the middle":     func(i int) float64 { return 100 * (1 + float64(i/20)) },
	} {
		assert.Contains(t, series(40, value).Fault(), "threads is not flat: found that it grew by ", name)
	}
	assert.Contains(t, series(3, func(int) float64 { return 1 }).Fault(), "let it run for longer")
	assert.InDelta(t, 39, series(40, func(i int) float64 { return float64(i) }).Growth(), 1e-9)
}

// What is said of a run while it goes on has words and units.
func TestProgress(t *testing.T) {
	memory, files := &Series{Name: "memory of the host", Unit: "MiB"}, &Series{Name: "temporary files"}
	memory.Add(1, 70)
	memory.Add(2, 71.25)
	files.Add(2, 3)
	assert.Equal(t, "after 1h2m3s: disturbances 1,234, memory of the host 71.2 MiB, temporary files 3", progress(time.Hour+2*time.Minute+3*time.Second+4*time.Millisecond, 1234, []*Series{memory, files}))
}

// A summary has all that a run has to tell, and takes the place of the one before in its page.
func TestSummary(t *testing.T) {
	s := &Summary{Date: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Machine: "2 cores and 24 GiB of memory", Duration: 20*time.Minute + 400*time.Millisecond, Seed: 42, Callers: 4, Calls: map[string]int64{"a function": 1234567, "a chain of hooks": 89},
		Outcomes: map[Kind]int64{Answered: 1000000, Crashed: 12}, Plugins: []Told{{Name: "soak_native", Form: "C", Place: "this process", Versions: 3, Answers: 1000, Replaced: 2, Restarts: 1}},
		Done: map[string]int64{"a worker killed": 7}, Worst: map[string]time.Duration{"a worker killed": 123456 * time.Microsecond}, Samples: 4, Left: map[string]int{"processes": 0, "goroutines": 0}}
	memory := &Series{Name: "memory of the host", Unit: "MiB", Slack: 10}
	for i := range 4 {
		memory.Add(float64(i), 70+float64(i)/4)
	}
	s.Series = []*Series{memory}
	text := s.Markdown()
	for _, want := range []string{"The run of 2026-03-04: 20m0s on a machine with 2 cores and 24 GiB of memory. 4 callers made 1,234,656 calls, and 7 disturbances happened. The seed was 42.",
		"| `soak_native` | C | this process | 3 | 1,000 | 2 | 1 |", "| a function | 1,234,567 |", "| crashed | 12 |", "| a worker killed | 7 | 120ms |",
		"| memory of the host | 70.0 MiB | 70.8 MiB | 0.8 MiB | 10.0 MiB |", "there were left of what had come: 0 goroutines, 0 processes."} {
		assert.Contains(t, text, want)
	}
	page, err := s.Put("# A page\n\n" + Begin + "what was there\n" + End + "the rest\n")
	require.NoError(t, err)
	assert.Equal(t, "# A page\n\n"+Begin+"\n"+text+"\n"+End+"the rest\n", page)
	again, err := s.Put(page)
	require.NoError(t, err)
	assert.Equal(t, page, again)
	_, err = s.Put("# A page\n")
	assert.ErrorContains(t, err, "found no lines")
}
