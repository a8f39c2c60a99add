package resolve

import (
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// circles fails the plug-ins that are on a circle. Those that only need one, or stand between two, fail through it later.
func (r *resolver) circles() {
	faults := map[int]*Fault{} // set when all are known, so that one does not hide another
	for i := range r.core() {
		if circle := r.circle(i); circle != nil {
			faults[i] = r.circleFault(i, circle)
		}
	}
	for i, f := range faults {
		r.fail(i, f)
	}
}

// core returns the plug-ins without a fault that are left when all are taken out, again and again, that need none of those left,
// or that none of those left needs: all circles, and what stands between two.
func (r *resolver) core() map[int]bool {
	left := map[int]bool{}
	for _, i := range r.active {
		if r.Failed[i] == nil {
			left[i] = true
		}
	}
	needs, needed := make([][]int, len(r.plugins)), make([][]int, len(r.plugins))
	for i := range left {
		for _, n := range r.needs[i] {
			if left[n.on] {
				needs[i] = append(needs[i], n.on)
				needed[n.on] = append(needed[n.on], i)
			}
		}
	}
	for _, way := range [][2][][]int{{needs, needed}, {needed, needs}} {
		count := make([]int, len(r.plugins))
		var free []int
		for i := range left {
			for _, on := range way[0][i] {
				if left[on] {
					count[i]++
				}
			}
			if count[i] == 0 {
				free = append(free, i)
			}
		}
		for ; len(free) > 0; free = free[1:] {
			delete(left, free[0])
			for _, by := range way[1][free[0]] {
				if count[by]--; count[by] == 0 && left[by] {
					free = append(free, by)
				}
			}
		}
	}
	return left
}

// step is a need of a plug-in.
type step struct {
	from int
	need
}

// circle returns the shortest circle that a plug-in is on, from the plug-in whose name comes first; nil where it is on none.
func (r *resolver) circle(start int) []step {
	came := map[int]step{} // how the shortest way to each ends
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		for _, n := range r.needs[queue[0]] {
			if _, ok := came[n.on]; !ok {
				came[n.on] = step{queue[0], n}
				queue = append(queue, n.on)
			}
		}
		if _, ok := came[start]; ok {
			break
		}
	}
	last, ok := came[start]
	if !ok {
		return nil
	}
	circle := []step{last}
	for last.from != start {
		last = came[last.from]
		circle = append(circle, last)
	}
	slices.Reverse(circle)
	head := 0
	for at := range circle {
		if r.plugins[circle[at].from].Name < r.plugins[circle[head].from].Name {
			head = at
		}
	}
	return append(slices.Clone(circle[head:]), circle[:head]...)
}

// circleFault is the fault of one of the plug-ins on a circle.
func (r *resolver) circleFault(of int, circle []step) *Fault {
	f := &Fault{Kind: ErrCircle, Expected: "an order in which each starts behind what it needs",
		Remedy: "Disable one of them, or ask an author to need the other no longer"}
	var found []string
	for _, s := range circle {
		from, on := ranges.Shown(r.plugins[s.from].Name), ranges.Shown(r.plugins[s.on].Name)
		f.Circle = append(f.Circle, r.plugins[s.from].Name)
		if s.from == of {
			f.Step = s.step
		}
		if s.step == StepImports {
			on = quote(s.what) + " of " + on
		}
		found = append(found, from+" "+s.step+" "+on)
	}
	f.Found = strings.Join(found, ", ")
	return f
}
