package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// plan is what to measure, and how long.
type plan struct {
	contenders []*contender
	cases      []work
	rounds     int
	target     time.Duration // how long one contender's part of a round shall last
	most       time.Duration // from when on a contender does no more rounds of a case than leastRounds; 0 for never
	opens      int           // new processes for each round of the opening
}

// leastRounds is how many rounds a contender does of a case, however long they take.
const leastRounds = 3

// cell is what one contender did in one case.
type cell struct {
	ns     []float64 // for each call, one value a round; of some cases bytes
	allocs float64   // for each call, in the host's process
	why    string    // why there is nothing
	spent  time.Duration
}

// results are by case and contender, in the plan's order.
type results struct {
	plan
	cells  [][]cell
	caches string // the folder of the compilation caches
}

// measure runs the plan. Every contender has a process of its own, which lives through all rounds, and is checked in
// every case before anything is timed.
func measure(ctx context.Context, p plan, at places, progress io.Writer) (*results, error) {
	r := &results{plan: p, cells: make([][]cell, len(p.cases))}
	for i := range r.cells {
		r.cells[i] = make([]cell, len(p.contenders))
	}
	workers := make([]*process, len(p.contenders))
	defer func() {
		for _, w := range workers {
			if w != nil {
				w.end()
			}
		}
	}()
	for i, c := range p.contenders {
		var err error
		if workers[i], err = start(c, at, ""); err != nil {
			return nil, err
		}
	}
	caches, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(caches)
	r.caches = caches
	n, err := r.prepare(ctx, workers, at, progress)
	if err != nil {
		return nil, err
	}
	for round := range p.rounds {
		fmt.Fprintf(progress, "round %d of %d\n", round+1, p.rounds)
		for i, w := range p.cases {
			for k := range p.contenders {
				k = (k + round + i) % len(p.contenders)
				if err := ctx.Err(); err != nil {
					return nil, context.Cause(ctx)
				}
				cell := &r.cells[i][k]
				slow := r.most > 0 && cell.spent >= r.most && len(cell.ns) >= leastRounds
				if cell.why != "" || slow {
					continue
				}
				start := time.Now()
				ns, allocs, err := r.once(w, workers[k], p.contenders[k], at, n[i][k])
				if err != nil {
					return nil, err
				}
				cell.ns = append(cell.ns, ns)
				cell.allocs = allocs
				cell.spent += time.Since(start)
			}
		}
	}
	return r, nil
}

// once measures one contender in one case of one round: nanoseconds and allocations of a call.
func (r *results) once(w work, p *process, c *contender, at places, n int) (ns, allocs float64, err error) {
	if w.alone() {
		var all []float64
		for range r.opens {
			t, a, err := r.alone(w, c, at)
			if err != nil {
				return 0, 0, err
			}
			all = append(all, float64(t))
			allocs = float64(a)
		}
		return median(all), allocs, nil
	}
	calls := float64(n * w.goroutines())
	if w.percent > 0 {
		t, a, err := p.do("spread %s %d %d %d %d", w.fn, w.size, w.goroutines(), n, w.percent)
		return float64(t), float64(a) / calls, err
	}
	t, a, err := p.do("run %s %d %d %d", w.fn, w.size, w.goroutines(), n)
	return float64(t) / calls, float64(a) / calls, err
}

// alone is a case in a process that does nothing else. A warm cache is warm from the second time on.
func (r *results) alone(w work, c *contender, at places) (value, allocs int64, err error) {
	if w.fn == fileSize {
		if len(c.needs) == 0 {
			return 0, 0, unsupported("it is part of the host's")
		}
		info, err := os.Stat(filepath.Join(at.build, c.needs[0].file))
		if err != nil {
			return 0, 0, err
		}
		return info.Size(), 0, nil
	}
	compiled := ""
	switch w.cache {
	case emptyCache:
		if compiled, err = os.MkdirTemp(r.caches, ""); err != nil {
			return 0, 0, err
		}
		defer os.RemoveAll(compiled)
	case warmCache:
		compiled = filepath.Join(r.caches, strings.ReplaceAll(c.id(), "/", "-"))
	}
	var stderr io.Writer = os.Stderr
	if w.fails() {
		stderr = nil // what a panic has to say is known
	}
	p, err := startWith(c, at, compiled, stderr)
	if err != nil {
		return 0, 0, err
	}
	defer p.end()
	switch w.fn {
	case panicking, crashing:
		value, _, err = p.do("fail %s", w.fn)
		if errors.Is(err, errEnded) {
			err = unsupported("the host ends")
		}
		return value, 0, err
	case hostMemory, processMemory:
		value, _, err = p.do("memory %s", w.fn)
		return value, 0, err
	}
	return p.do("open")
}

func (w work) goroutines() int {
	if w.callers == perCore {
		return runtime.GOMAXPROCS(0)
	}
	return max(1, w.callers)
}

// prepare checks every contender in every case, and finds how many calls each does in a round, which warms it up.
func (r *results) prepare(ctx context.Context, workers []*process, at places, progress io.Writer) ([][]int, error) {
	n := make([][]int, len(r.cases))
	for i, w := range r.cases {
		n[i] = make([]int, len(workers))
		for k, p := range workers {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			var err error
			if w.alone() {
				_, _, err = r.alone(w, r.contenders[k], at)
			} else {
				_, _, err = p.do("check %s %d %d", w.fn, w.size, w.goroutines())
			}
			var no unsupported
			if errors.As(err, &no) {
				r.cells[i][k].why = string(no)
				continue
			}
			if err == nil && !w.alone() {
				n[i][k], err = calibrate(r.target, func(n int) (time.Duration, error) {
					ns, _, err := p.do("run %s %d %d %d", w.fn, w.size, w.goroutines(), n)
					return time.Duration(max(ns, 1)), err
				})
			}
			if err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(progress, "checked: %s\n", w)
	}
	return n, nil
}

// calibrate finds how many calls take the target's time; run says how long n take. One that was long because the system did something else
// meanwhile is not believed: so few calls would be made in each round that what is measured is the clock. What is much too long for that is.
func calibrate(target time.Duration, run func(n int) (time.Duration, error)) (int, error) {
	const again, tooLong = 4, 100
	for n := 1; ; n *= 4 {
		took, err := run(n)
		for i := 0; i < again && err == nil && took >= target/8 && took < tooLong*target; i++ {
			var other time.Duration
			other, err = run(n)
			took = min(took, other)
		}
		if err != nil {
			return 0, err
		}
		if took >= target/8 {
			return max(1, int(float64(n)*float64(target)/float64(took))), nil
		}
	}
}
