package main

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// target is one kind of calls.
type target struct {
	call  func(dst []byte) ([]byte, error) // appends to dst; from several goroutines at a time
	first time.Duration                    // how long the first call took
	room  int                              // how long its result was; there is more for those to come
	costs costs                            // what measure fills

	timedOnly bool
	lanes     []lane
}

// lane is what one goroutine has measured of a target.
type lane struct {
	dst     []byte
	times   *latencies
	calls   int64         // of those without a look at the clock, or of all where there are only timed ones
	elapsed time.Duration // in which they ran
	total   int64
}

const (
	measureRounds = 25
	slowCall      = 10 * time.Microsecond // beside which reading the clock is nothing
)

// measure has the targets take turns for the duration, each with parallel goroutines, and says what a reading of the clock
// takes and how long it all took. A call that fails ends it. It says before each turn how long that is to be.
func measure(targets []*target, parallel int, duration time.Duration, begin func(length time.Duration)) (clock, took time.Duration, err error) {
	clock = clockCost()
	for _, t := range targets {
		t.lanes = make([]lane, parallel)
		for i := range t.lanes {
			t.lanes[i] = lane{dst: make([]byte, 0, max(4096, t.room+t.room/2)), times: new(latencies)}
		}
		// The first call may have been slow because it was the first.
		t.timedOnly = t.first > slowCall
		if t.first > 0 && t.first < 10*time.Millisecond {
			start := time.Now()
			const some = 5
			for range some {
				begin(0)
				if _, err := t.call(t.lanes[0].dst[:0]); err != nil {
					return 0, 0, err
				}
			}
			t.timedOnly = time.Since(start)/some > slowCall
		}
	}
	turn := duration / time.Duration(measureRounds*len(targets))
	start := time.Now()
	for took == 0 || took < duration {
		for _, t := range targets {
			begin(turn)
			if err := t.turn(turn, clock); err != nil {
				return 0, 0, err
			}
		}
		took = time.Since(start)
	}
	for _, t := range targets {
		t.sum()
	}
	return clock, took, nil
}

// turn makes calls for one turn, on every lane.
func (t *target) turn(length, clock time.Duration) error {
	var wg sync.WaitGroup
	errs := make([]error, len(t.lanes))
	for i := range t.lanes {
		wg.Go(func() { errs[i] = t.run(&t.lanes[i], length, clock) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// run makes calls on one lane: some that do not count, then some without a look at the clock, then timed ones.
func (t *target) run(l *lane, length, clock time.Duration) error {
	call := t.call
	begin := time.Now()
	if !t.timedOnly {
		if _, err := t.calls(l, length/10); err != nil {
			return err
		}
		start := time.Now()
		n, err := t.calls(l, length*4/10)
		if err != nil {
			return err
		}
		l.calls, l.elapsed, l.total = l.calls+n, l.elapsed+time.Since(start), l.total+n
	} else if t.first < length/10 {
		if _, err := call(l.dst[:0]); err != nil {
			return err
		}
	}
	// One clock for both ends of a call, read without the time of day.
	start, n := time.Since(begin), int64(0)
	for now := start; now < length || n == 0; n++ {
		before := time.Since(begin)
		out, err := call(l.dst[:0])
		now = time.Since(begin)
		if err != nil {
			return err
		}
		l.times.add(max(0, now-before-clock))
		l.dst = out
	}
	l.total += n
	if t.timedOnly {
		l.calls, l.elapsed = l.calls+n, l.elapsed+time.Since(begin)-start
	}
	return nil
}

// calls makes calls for some time, one at least, and returns how many. It looks at the clock between groups of them, of
// some 50 µs.
func (t *target) calls(l *lane, length time.Duration) (n int64, err error) {
	start, group := time.Now(), int64(1)
	for now := time.Duration(0); n == 0 || now < length; {
		for range group {
			if l.dst, err = t.call(l.dst[:0]); err != nil {
				return n, err
			}
		}
		n += group
		before := now
		if now = time.Since(start); now-before < 50*time.Microsecond && group < 1<<20 {
			group *= 2
		}
	}
	return n, nil
}

// sum makes the costs of what the lanes have measured.
func (t *target) sum() {
	all := new(latencies)
	c := &t.costs
	var perCall float64
	for _, l := range t.lanes {
		all.merge(l.times)
		c.Calls += l.total
		c.PerSecond += float64(l.calls) / l.elapsed.Seconds()
		perCall += float64(l.elapsed.Nanoseconds()) / float64(l.calls) / float64(len(t.lanes))
	}
	c.times, c.MeanNS = all, perCall
	c.P50, c.P90, c.P99, c.P999 = all.quantile(0.5), all.quantile(0.9), all.quantile(0.99), all.quantile(0.999)
	c.Max = all.max
}

// clockCost returns what two readings of the clock with nothing between them show: their mean, because the clock's step
// may be longer, without the readings that something came between.
func clockCost() time.Duration {
	begin := time.Now()
	readings := make([]time.Duration, 4000)
	for i := range readings {
		before := time.Since(begin)
		readings[i] = time.Since(begin) - before
	}
	slices.Sort(readings)
	readings = readings[:len(readings)*9/10]
	var sum time.Duration
	for _, reading := range readings {
		sum += reading
	}
	return sum / time.Duration(len(readings))
}

// latencies counts how long calls took, in nanoseconds, in buckets less than 1 % wide: one for each value up to 255, then
// 128 for every doubling, up to 292 years.
type latencies struct {
	counts [57 * 128]int64
	total  int64
	max    int64
}

func (h *latencies) add(d time.Duration) {
	ns := uint64(d)
	h.counts[bucketOf(ns)]++
	h.total++
	h.max = max(h.max, int64(ns))
}

func bucketOf(ns uint64) int {
	shift := max(0, bits.Len64(ns)-8)
	return shift*128 + int(ns>>shift)
}

// bucketFrom returns the least value of a bucket.
func bucketFrom(i int) int64 {
	if i < 256 {
		return int64(i)
	}
	shift := i/128 - 1
	return int64(i-shift*128) << shift
}

func (h *latencies) merge(other *latencies) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns a value that the share q of the calls did not exceed; 0 when there was none.
func (h *latencies) quantile(q float64) int64 {
	rank := int64(math.Ceil(q * float64(h.total)))
	for i, n := range h.counts {
		if rank -= n; rank <= 0 && h.total > 0 {
			middle := (bucketFrom(i) + bucketFrom(i+1) - 1) / 2
			return min(middle, h.max)
		}
	}
	return h.max
}
