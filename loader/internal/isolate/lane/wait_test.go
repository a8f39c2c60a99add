package lane

import (
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// What a wait may cost in processor time is bounded, whatever the waits before took.
func TestSpinnerBudget(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []time.Duration
		least  time.Duration
		most   time.Duration
	}{
		{"the first wait", nil, time.Microsecond, 5 * time.Microsecond},
		{"short waits", repeat(time.Microsecond, 3), time.Microsecond, 5 * time.Microsecond},
		{"a steady wait is spun through", repeat(20*time.Microsecond, 20), 30 * time.Microsecond, 45 * time.Microsecond},
		{"nearly too long", repeat(maxSpin, 20), maxSpin, maxSpin},
		{"too long to spin for", repeat(2*maxSpin, 20), 0, 0},
		{"for ever", repeat(Forever, 20), 0, 0},
		{"one long wait", append(repeat(time.Microsecond, 20), time.Hour), 0, 0},
		{"a clock that went back", repeat(-time.Microsecond, 20), 0, 2 * time.Microsecond},
	} {
		var s spinner
		for _, took := range c.before {
			s.note(took)
		}
		assert.GreaterOrEqual(t, s.budget(), c.least, c.name)
		assert.LessOrEqual(t, s.budget(), c.most, c.name)
	}
}

func TestSpinnerForgetsALongWait(t *testing.T) {
	var s spinner
	s.note(time.Hour)
	for n := 0; s.budget() == 0; n++ {
		assert.Less(t, n, 3, "short waits after which it still does not spin")
		s.note(time.Microsecond)
	}
}

func repeat(d time.Duration, n int) []time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return all
}

func TestExtentSize(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ n, want uint64 }{
		{1, mib}, {mib - 1, mib}, {mib, mib}, {mib + 1, 2 * mib}, {7*mib + 1, 8 * mib}, {8 * mib, 8 * mib},
		{8*mib + 1, 10 * mib}, {10 * mib, 10 * mib}, {1 << 30, 1 << 30}, {1<<30 + 1, 1<<30 + 1<<28}, {1 << 40, 1 << 40},
	} {
		assert.Equal(t, c.want, extentSize(c.n), "%d", c.n)
	}
	sizes := make(map[uint64]bool)
	last := uint64(0)
	for n := uint64(1); n < math.MaxInt64/4; n += 1 + n/100 {
		size := extentSize(n)
		assert.GreaterOrEqual(t, size, n)
		assert.LessOrEqual(t, size, max(n+n/4+1, n+mib), "%d", n)
		assert.Zero(t, size%mib, "%d", n)
		assert.GreaterOrEqual(t, size, last, "%d", n)
		assert.Equal(t, size, extentSize(size), "%d", n)
		sizes[size], last = true, size
	}
	assert.Less(t, len(sizes), 300, "a freed extent is used again only for one of the same size")
}

func newBell(t *testing.T) *bell {
	t.Helper()
	h, err := NewHost()
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h.bells.at(0)
}

// A wait ends when the word changes, and no later than its limit says; nobody is left counted as spinning.
func TestAwait(t *testing.T) {
	before := spinners.Load()
	var word, sleeps atomic.Uint32
	b := newBell(t)

	var s spinner
	start := time.Now()
	s.await(&word, 1, &sleeps, b, Forever)
	assert.Less(t, time.Since(start), 5*time.Second, "the word is another one already")

	for _, limit := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		start = time.Now()
		s.await(&word, 0, &sleeps, b, limit)
		assert.Less(t, time.Since(start), limit+5*time.Second)
		assert.Zero(t, sleeps.Load())
	}

	for _, delay := range []time.Duration{0, 10 * time.Microsecond, 10 * time.Millisecond} {
		word.Store(0)
		go func() {
			time.Sleep(delay)
			word.Store(1)
			b.alarm(&word)
		}()
		s.await(&word, 0, &sleeps, b, Forever)
		assert.Equal(t, uint32(1), word.Load())
		assert.Zero(t, sleeps.Load())
	}
	assert.Equal(t, before, spinners.Load())
}

// Whoever is woken for nothing looks again, or goes on waiting where nothing else could have happened.
func TestAwaitWokenForNothing(t *testing.T) {
	var word, sleeps atomic.Uint32
	b := newBell(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				time.Sleep(100 * time.Microsecond)
				b.alarm(&word)
			}
		}
	}()
	var s spinner
	start := time.Now()
	s.await(&word, 0, &sleeps, b, time.Minute)
	assert.Less(t, time.Since(start), 30*time.Second)
	assert.Zero(t, word.Load())

	time.AfterFunc(20*time.Millisecond, func() { word.Store(1) })
	s.await(&word, 0, &sleeps, b, Forever)
	assert.Equal(t, uint32(1), word.Load())
	assert.Zero(t, sleeps.Load())
	close(stop)
	<-stopped
}

// Of two that each publish a word and then look at the other one's, one at least finds it: else both would go to sleep. The memory
// is that of processes, of which the race detector leaves more to the processor than of Go's own.
func TestPublish(t *testing.T) {
	m, err := newMemory()
	require.NoError(t, err)
	defer m.close()
	// As in a lane: the words are in one line, and before them a side writes lines that the other one has read.
	words := raw.At[[2]atomic.Uint32](m.base, 0)
	lines := raw.At[[2][8][64]byte](m.base, 512)
	var began, ended atomic.Uint32
	var sum byte
	look := func(side int, round byte) uint32 {
		for i := range lines[side] {
			lines[side][i][0] = round
		}
		publish(&words[side], 1)
		return words[1-side].Load()
	}
	read := func(side int) {
		for i := range lines[side] {
			sum += lines[side][i][0]
		}
	}
	until := func(word *atomic.Uint32, value uint32) {
		for n := 0; word.Load() != value; n++ {
			if n > 100 { // the other one has no processor
				runtime.Gosched()
			}
		}
	}
	const rounds = 20_000
	var theirs uint32
	go func() {
		for i := range uint32(rounds) {
			until(&began, i+1)
			theirs = look(1, byte(i))
			read(0)
			ended.Store(i + 1)
		}
	}()
	missed := 0
	for i := range uint32(rounds) {
		words[0].Store(0)
		words[1].Store(0)
		began.Store(i + 1)
		ours := look(0, byte(i))
		until(&ended, i+1)
		read(1)
		if ours == 0 && theirs == 0 {
			missed++
		}
	}
	assert.Zero(t, missed, "rounds of %d in which neither has found what the other one had published", rounds)
}
