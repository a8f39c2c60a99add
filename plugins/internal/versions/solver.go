package versions

import (
	"math/bits"
	"slices"
)

// set is a set of values of a variable: a bit each.
type set []uint64

func newSet(values int) set    { return make(set, (values+63)/64) }
func (s set) add(value int)    { s[value/64] |= 1 << (value % 64) }
func (s set) remove(value int) { s[value/64] &^= 1 << (value % 64) }

func (s set) disjoint(of set) bool {
	for i, w := range s {
		if w&of[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) within(of set) bool {
	for i, w := range s {
		if w&^of[i] != 0 {
			return false
		}
	}
	return true
}

func (s set) and(of set) set {
	out := slices.Clone(s)
	for i := range out {
		out[i] &= of[i]
	}
	return out
}

func (s set) or(of set) set {
	out := slices.Clone(s)
	for i := range out {
		out[i] |= of[i]
	}
	return out
}

// only returns the one value that is in the set, -1 where there are none or several.
func (s set) only() int {
	value := s.next(0)
	for i, w := range s {
		if i == value/64 {
			w &= w - 1 // without the first
		}
		if w != 0 {
			return -1
		}
	}
	return value
}

// next returns the first value that is not below from, -1 where there is none.
func (s set) next(from int) int {
	for i := from / 64; i < len(s); i++ {
		w := s[i]
		if i == from/64 {
			w &= ^uint64(0) << (from % 64)
		}
		if w != 0 {
			return 64*i + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// literal says that a variable has a value in a set.
type literal struct {
	on int
	in set
}

// clause says that one of its literals holds. Each variable occurs in it once at most. The first two are watched.
type clause struct {
	literals []literal
	fact     *Fact     // why it holds; nil where it was learned
	from     []*clause // what it was learned from
}

// step narrows what a variable may be.
type step struct {
	on     int
	before set
	after  set
	why    *clause // nil: it was decided
	level  int     // how many decisions there are up to it
}

// solver finds values of variables that clauses allow: conflict-driven clause learning over finite domains. What a clause
// allows follows from the clauses alone, whatever is decided, so it never loses a solution, and never comes to a conflict twice.
type solver struct {
	first   []set   // what each variable may be at all
	now     []set   // what it may be now
	steps   []step  // how it came to that
	of      [][]int // the steps of each variable
	levels  []int   // how many steps there were before each decision
	watched [][]*clause
	changed []int     // variables whose watched clauses are to be looked at
	check   []*clause // clauses that are to be looked at
	fixed   []int     // variables that have come to one value; some may have been given back since

	conflicts int // how many there have been
	work      int // how many clauses and steps were looked at: a measure of time that is the same on every machine
}

// variable adds one, which has a value in the set.
func (s *solver) variable(values set) int {
	s.first, s.now = append(s.first, values), append(s.now, values)
	s.of, s.watched = append(s.of, nil), append(s.watched, nil)
	return len(s.first) - 1
}

// level is how many decisions there are.
func (s *solver) level() int { return len(s.levels) }

func (s *solver) fails(l literal) bool { return s.now[l.on].disjoint(l.in) }
func (s *solver) holds(l literal) bool { return s.now[l.on].within(l.in) }

// when returns the step at which a literal that fails began to; -1 where it never could hold, len(s.steps) where it does not fail.
func (s *solver) when(l literal) int {
	if s.first[l.on].disjoint(l.in) {
		return -1
	}
	for _, at := range s.of[l.on] {
		if s.steps[at].after.disjoint(l.in) {
			return at
		}
	}
	return len(s.steps)
}

// add adds a clause. Literals of one variable become one, those that cannot hold are left out. propagate looks at it.
func (s *solver) add(c *clause) *clause {
	var literals []literal
	for _, l := range c.literals {
		if i := slices.IndexFunc(literals, func(k literal) bool { return k.on == l.on }); i >= 0 {
			literals[i].in = literals[i].in.or(l.in)
		} else {
			literals = append(literals, l)
		}
	}
	literals = slices.DeleteFunc(literals, func(l literal) bool { return s.first[l.on].disjoint(l.in) })
	c.literals = literals
	for watch := range min(2, len(literals)) { // those that hold the longest: they are the first that no longer fail when steps are taken back
		for i := watch + 1; i < len(literals); i++ {
			if s.when(literals[i]) > s.when(literals[watch]) {
				literals[i], literals[watch] = literals[watch], literals[i]
			}
		}
		s.watched[literals[watch].on] = append(s.watched[literals[watch].on], c)
	}
	s.check = append(s.check, c)
	return c
}

// narrow takes a step. The literal does not fail.
func (s *solver) narrow(l literal, why *clause) {
	before := s.now[l.on]
	after := before.and(l.in)
	s.of[l.on] = append(s.of[l.on], len(s.steps))
	s.steps = append(s.steps, step{l.on, before, after, why, s.level()})
	s.now[l.on] = after
	s.changed = append(s.changed, l.on)
	if after.only() >= 0 {
		s.fixed = append(s.fixed, l.on)
	}
}

// decide takes a step that no clause asks for.
func (s *solver) decide(l literal) {
	s.levels = append(s.levels, len(s.steps))
	s.narrow(l, nil)
}

// back takes back all steps behind the first decisions.
func (s *solver) back(level int) {
	if level >= s.level() {
		return
	}
	for i := len(s.steps) - 1; i >= s.levels[level]; i-- {
		taken := s.steps[i]
		s.now[taken.on] = taken.before
		s.of[taken.on] = s.of[taken.on][:len(s.of[taken.on])-1]
	}
	s.steps, s.levels = s.steps[:s.levels[level]], s.levels[:level]
}

// propagate takes all steps that clauses ask for, and returns a clause that fails; nil where none does.
func (s *solver) propagate() *clause {
	for len(s.check) > 0 || len(s.changed) > 0 {
		if n := len(s.check); n > 0 {
			c := s.check[n-1]
			live, at := 0, 0
			for i := 0; i < len(c.literals) && live < 2; i++ {
				if !s.fails(c.literals[i]) {
					live, at = live+1, i
				}
			}
			if live == 0 {
				return c // it stays: once steps are taken back it is looked at again
			}
			s.check = s.check[:n-1]
			if live == 1 && !s.holds(c.literals[at]) {
				s.narrow(c.literals[at], c)
			}
			continue
		}
		on := s.changed[len(s.changed)-1]
		s.changed = s.changed[:len(s.changed)-1]
		if c := s.look(on); c != nil {
			s.changed = s.changed[:0]
			return c
		}
	}
	return nil
}

// look looks at the clauses that watch a variable.
func (s *solver) look(on int) *clause {
	all := s.watched[on]
	kept := all[:0]
	s.work += len(all)
	for i, c := range all {
		l := c.literals
		at := 0
		if len(l) > 1 && l[1].on == on {
			at = 1
		}
		if !s.fails(l[at]) {
			kept = append(kept, c)
			continue
		}
		if len(l) > 1 {
			l[at], l[1] = l[1], l[at] // what fails comes second
			if s.holds(l[0]) {
				kept = append(kept, c)
				continue
			}
			if other := s.free(l); other > 0 {
				l[1], l[other] = l[other], l[1]
				s.watched[l[1].on] = append(s.watched[l[1].on], c)
				continue
			}
		}
		kept = append(kept, c)
		if s.fails(l[0]) {
			s.watched[on] = append(kept, all[i+1:]...)
			return c
		}
		s.narrow(l[0], c)
	}
	s.watched[on] = kept
	return nil
}

// free returns the index of a literal behind the second that does not fail; 0 where there is none.
func (s *solver) free(l []literal) int {
	for i := 2; i < len(l); i++ {
		if !s.fails(l[i]) {
			return i
		}
	}
	return 0
}

// learn learns from a clause that fails, and takes back what led to it. It returns a clause without literals where nothing did:
// then there is no solution.
//
// The clause is resolved with the reason of the step that came last, again and again: of (x in S or A) and (x in T or B) follows
// (x in S and T, or A or B). It ends when one literal alone fails since the last decision that matters: without that decision the
// clause narrows it.
func (s *solver) learn(failed *clause) (contradiction *clause) {
	s.conflicts++
	type part struct {
		literal
		at int // the step since which it fails
	}
	var parts []part
	from := []*clause{failed}
	with := func(l literal) {
		if i := slices.IndexFunc(parts, func(p part) bool { return p.on == l.on }); i >= 0 {
			l.in = l.in.or(parts[i].in)
			parts = slices.Delete(parts, i, i+1)
		}
		if at := s.when(l); at >= 0 {
			parts = append(parts, part{l, at})
		}
	}
	for _, l := range failed.literals {
		with(l)
	}
	for len(parts) > 0 {
		s.work += len(parts)
		last, second := 0, -1
		for i := 1; i < len(parts); i++ {
			if parts[i].at > parts[last].at {
				last, second = i, last
			} else if second < 0 || parts[i].at > parts[second].at {
				second = i
			}
		}
		taken := s.steps[parts[last].at]
		level := 0
		if second >= 0 {
			level = s.steps[parts[second].at].level
		}
		if taken.level > level { // so it is above 0
			learned := &clause{from: from}
			for _, p := range parts {
				learned.literals = append(learned.literals, p.literal)
			}
			s.back(level)
			s.add(learned)
			return nil
		}
		in := parts[last].in
		parts = slices.Delete(parts, last, last+1)
		from = append(from, taken.why)
		for _, l := range taken.why.literals {
			if l.on == taken.on {
				l.in = l.in.and(in)
			}
			with(l)
		}
	}
	return &clause{from: from}
}

// origin returns the clauses that were not learned that a clause follows from, each once, in the order that they were met.
func origin(c *clause) (all []*clause) {
	seen := map[*clause]bool{c: true}
	for queue := []*clause{c}; len(queue) > 0; queue = queue[1:] {
		if queue[0].fact != nil {
			all = append(all, queue[0])
		}
		for _, of := range queue[0].from {
			if !seen[of] {
				seen[of] = true
				queue = append(queue, of)
			}
		}
	}
	return all
}
