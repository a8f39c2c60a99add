package order

import (
	"slices"
	"strings"
)

// graph is which rank stands before which.
type graph struct{ next [][]int }

func newGraph(n int) *graph { return &graph{make([][]int, n)} }

func (g *graph) add(from, to int) { g.next[from] = append(g.next[from], to) }

// incoming returns how many relations lead to each rank.
func (g *graph) incoming() []int {
	n := make([]int, len(g.next))
	for _, next := range g.next {
		for _, to := range next {
			n[to]++
		}
	}
	return n
}

// path returns the shortest way between two ranks, both included; of several as short the one over what was added
// first. There must be one.
func (g *graph) path(from, to int) []int {
	came := map[int]int{from: from} // where the shortest way to each comes from
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for _, n := range g.next[queue[0]] {
			if _, ok := came[n]; !ok {
				came[n] = queue[0]
				queue = append(queue, n)
			}
		}
		if _, ok := came[to]; ok {
			break
		}
	}
	way := []int{to}
	for way[len(way)-1] != from {
		way = append(way, came[way[len(way)-1]])
	}
	slices.Reverse(way)
	return way
}

// core returns the ranks that are on a circle, or between two: all others have their place whatever is left out.
func core(n int, relations []relation) map[int]bool {
	forth, back := newGraph(n), newGraph(n)
	for _, rel := range relations {
		forth.add(rel.from, rel.to)
		back.add(rel.to, rel.from)
	}
	out := make([]bool, n)
	for _, g := range [][2]*graph{{forth, back}, {back, forth}} {
		waits := make([]int, n) // how many that are not out lead to each
		var free []int
		for r := range n {
			for _, from := range g[1].next[r] {
				waits[r] += flag(!out[from])
			}
			if waits[r] == 0 && !out[r] {
				free = append(free, r)
			}
		}
		for ; len(free) > 0; free = free[1:] {
			out[free[0]] = true
			for _, to := range g[0].next[free[0]] {
				if waits[to]--; waits[to] == 0 && !out[to] {
					free = append(free, to)
				}
			}
		}
	}
	ranks := map[int]bool{}
	for r := range n {
		if !out[r] {
			ranks[r] = true
		}
	}
	return ranks
}

// withoutCircles returns the relations, which come with the strongest first, without those that would close a circle of
// stronger ones. Each that it leaves out is a Fault, which names that circle.
func (o *orderer) withoutCircles(relations []relation) []relation {
	inCore := core(len(o.hooks), relations)
	if len(inCore) == 0 {
		return relations
	}
	kept, reach := newGraph(len(o.hooks)), newReach(inCore)
	return slices.DeleteFunc(relations, func(rel relation) bool {
		if !inCore[rel.from] || !inCore[rel.to] {
			return false
		}
		if reach.has(rel.to, rel.from) {
			o.faults = append(o.faults, o.circle(rel, kept.path(rel.to, rel.from)))
			return true
		}
		reach.add(rel.from, rel.to)
		kept.add(rel.from, rel.to)
		return false
	})
}

// circle is the Fault of a relation that was left out. way is the way back, from its second to its first.
func (o *orderer) circle(rel relation, way []int) Fault {
	circle := []string{o.hooks[rel.from].Plugin}
	for _, r := range way[:len(way)-1] {
		circle = append(circle, o.hooks[r].Plugin)
	}
	sayer := o.hooks[rel.sayer].Plugin
	var found strings.Builder
	for _, name := range circle {
		found.WriteString(show(name) + " before ")
	}
	return Fault{Kind: ErrCircle, Plugin: sayer, Circle: circle,
		Found: found.String() + show(circle[0]), Expected: "an order without a circle",
		Remedy: "`" + o.said(rel) + "` of " + show(sayer) + " was left out; change one of the plug-ins, or name them in config.yaml: " + o.list + ", in the order that you want"}
}

// reach knows which ranks of the core come behind which, over any number of relations: a bit for each pair.
type reach struct {
	bit  map[int]int // by rank
	rows [][]uint64  // by bit
}

func newReach(core map[int]bool) *reach {
	w := &reach{bit: make(map[int]int, len(core)), rows: make([][]uint64, len(core))}
	for r := range core {
		w.rows[len(w.bit)] = make([]uint64, (len(core)+63)/64)
		w.bit[r] = len(w.bit)
	}
	return w
}

func (w *reach) has(from, to int) bool { return w.hasBit(w.bit[from], w.bit[to]) }

func (w *reach) hasBit(from, to int) bool { return w.rows[from][to/64]>>(to%64)&1 == 1 }

func (w *reach) add(from, to int) {
	f, t := w.bit[from], w.bit[to]
	if w.hasBit(f, t) {
		return
	}
	for x := range w.rows {
		if x == f || w.hasBit(x, f) {
			w.rows[x][t/64] |= 1 << (t % 64)
			for i, word := range w.rows[t] {
				w.rows[x][i] |= word
			}
		}
	}
}
