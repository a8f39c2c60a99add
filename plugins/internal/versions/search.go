package versions

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// errListed ends a search that has learned of more versions of a locked plug-in: the next one knows them from the start.
var errListed = errors.New("versions were listed")

// known is what the Universe has said.
type known struct {
	u          Universe
	versions   map[string][]ranges.Version
	candidates map[string]map[string]Candidate
	ranges     map[string]ranges.Range // by text
}

// parse reads each range once.
func (k *known) parse(text string) ranges.Range {
	r, ok := k.ranges[text]
	if !ok {
		r = ranges.Parse(text)
		k.ranges[text] = r
	}
	return r
}

func (k *known) list(ctx context.Context, name, by string) ([]ranges.Version, error) {
	if all, ok := k.versions[name]; ok {
		return all, nil
	}
	texts, err := k.u.Versions(ctx, name)
	if err != nil {
		return nil, &AskError{Plugin: name, For: by, Err: err}
	}
	texts = slices.Clone(texts)
	slices.Sort(texts)
	all := []ranges.Version{}
	for _, text := range slices.Compact(texts) {
		all = append(all, ranges.ParseVersion(text))
	}
	k.versions[name] = all
	return all, nil
}

func (k *known) candidate(ctx context.Context, name, version, by string) (Candidate, error) {
	if c, ok := k.candidates[name][version]; ok {
		return c, nil
	}
	c, err := k.u.Candidate(ctx, name, version)
	if err != nil {
		return c, &AskError{Plugin: name, Version: version, For: by, Err: err}
	}
	c.Name, c.Version = name, version
	if k.candidates[name] == nil {
		k.candidates[name] = map[string]Candidate{}
	}
	k.candidates[name][version] = c
	return c, nil
}

// absent is the value of a plug-in that is not in the solution. The others are its versions, the best first.
const absent = 0

// plugin is a variable of the search.
type plugin struct {
	name     string
	versions []ranges.Version // version i is the value i+1
	others   int              // the value of "a version that is not listed yet"; 0 where all are listed, or none counts
	locked   bool             // the value 1 is the locked version
	loaded   map[int]bool     // the values whose clauses are there
	needs    map[int][]int    // by value: the variables that it requires
}

// values is how many there are.
func (p *plugin) values() int { return max(len(p.versions), p.others) + 1 }

// where is the set of the versions for which it holds.
func (p *plugin) where(holds func(v ranges.Version) bool) set {
	in := newSet(p.values())
	for i, v := range p.versions {
		if holds(v) {
			in.add(i + 1)
		}
	}
	return in
}

// waiting is a line of `conflicts` about a plug-in that nothing has asked for yet.
type waiting struct {
	on, value int
	fact      *Fact
}

// search is one search. Its variables and clauses come as they are met.
type search struct {
	problem Problem
	known   *known
	solver
	plugins []*plugin
	byName  map[string]int
	roots   []int
	locked  []int // in the order of rule 1
	waits   map[string][]waiting
	asked   map[string]string // by whom each root is, the first by name
	pre     map[string]bool   // those of which prereleases count as releases do
}

func newSearch(p Problem, k *known) *search {
	return &search{problem: p, known: k, byName: map[string]int{}, waits: map[string][]waiting{}, asked: map[string]string{}, pre: map[string]bool{}}
}

func (s *search) run(ctx context.Context) (map[string]Candidate, error) {
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if failed := s.propagate(); failed != nil {
			if contradiction := s.learn(failed); contradiction != nil {
				return nil, s.explain(ctx, contradiction)
			}
			if s.work > mostWork {
				return nil, ErrTooHard
			}
			continue
		}
		if more, err := s.load(ctx); err != nil {
			return nil, err
		} else if more || s.next() || s.circle() {
			continue
		}
		return s.solution(), nil
	}
}

// start adds what is asked for and what is locked.
func (s *search) start(ctx context.Context) error {
	roots := slices.Clone(s.problem.Roots)
	slices.SortFunc(roots, func(a, b Root) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.By, b.By), cmp.Compare(a.Range, b.Range))
	})
	for _, r := range roots {
		s.pre[r.Name] = s.pre[r.Name] || ranges.Parse(r.Range).NamesPrerelease()
	}
	for _, r := range roots {
		on, err := s.variable(ctx, r.Name, r.By)
		if err != nil {
			return err
		}
		if !slices.Contains(s.roots, on) {
			s.roots = append(s.roots, on)
			s.asked[r.Name] = r.By
		}
		s.require(nil, on, &Fact{Kind: Asked, By: r.By, On: r.Name, Range: ranges.Parse(r.Range).String()})
	}
	for _, on := range s.roots {
		if s.plugins[on].locked {
			s.locked = append(s.locked, on)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.problem.Locked)) {
		if s.problem.Locked[name].Version == "" {
			continue
		}
		on, err := s.variable(ctx, name, "")
		if err != nil {
			return err
		}
		if !slices.Contains(s.roots, on) {
			s.locked = append(s.locked, on)
		}
	}
	return nil
}

// variable returns that of a plug-in, which it makes at the first time.
func (s *search) variable(ctx context.Context, name, by string) (int, error) {
	if on, ok := s.byName[name]; ok {
		return on, nil
	}
	lock := s.problem.Locked[name]
	locked := lock.Version != ""
	p := &plugin{name: name, locked: locked, loaded: map[int]bool{}, needs: map[int][]int{}}
	all, listed := s.known.versions[name]
	if !locked && !listed {
		var err error
		if all, err = s.known.list(ctx, name, by); err != nil {
			return 0, err
		}
	}
	p.versions = slices.Clone(all)
	slices.SortFunc(p.versions, func(a, b ranges.Version) int {
		return cmp.Or(cmp.Compare(s.rank(name, a), s.rank(name, b)), b.Compare(a))
	})
	if locked {
		p.versions = slices.DeleteFunc(p.versions, func(v ranges.Version) bool { return v.String() == lock.Version })
		p.versions = slices.Insert(p.versions, 0, ranges.ParseVersion(lock.Version))
		if !listed {
			p.others = 2
		}
	}
	may := newSet(p.values())
	for value := range p.values() {
		may.add(value)
	}
	on := s.solver.variable(may)
	s.plugins = append(s.plugins, p)
	s.byName[name] = on
	for _, w := range s.waits[name] {
		s.conflict(w, on)
	}
	delete(s.waits, name)
	if lock.Pinned && locked {
		in := newSet(p.values())
		in.add(absent)
		in.add(1)
		s.add(&clause{literals: []literal{{on, in}}, fact: pinned(name, lock)})
	}
	return on, nil
}

// pinned is the fact that a version stays.
func pinned(name string, lock Locked) *Fact {
	f := &Fact{Kind: Pinned, On: name, Range: lock.Version}
	if lock.Held {
		f.By = "the lock"
	}
	return f
}

// rank puts versions of a plug-in in classes, the best first. Within one the newest is the best.
func (s *search) rank(name string, v ranges.Version) int {
	switch {
	case !v.Comparable():
		return 2
	case v.Prerelease() && !s.pre[name]:
		return 1
	}
	return 0
}

// not is the literal that a plug-in has another value.
func (s *search) not(on, value int) literal {
	in := slices.Clone(s.first[on])
	in.remove(value)
	return literal{on, in}
}

// require adds the clause that a plug-in is there in a range, given the literals.
func (s *search) require(unless []literal, on int, fact *Fact) {
	p, r := s.plugins[on], s.known.parse(fact.Range)
	in := p.where(func(v ranges.Version) bool { return r.Fits(v) == ranges.In })
	if p.others > 0 {
		in.add(p.others) // one of them may fit
	}
	s.add(&clause{literals: append(unless, literal{on, in}), fact: fact})
}

// conflict adds the clause of a line of `conflicts`.
func (s *search) conflict(w waiting, with int) {
	p, r := s.plugins[with], s.known.parse(w.fact.Range)
	in := p.where(func(v ranges.Version) bool { return !r.MayFit(v) })
	in.add(absent)
	if p.others > 0 {
		in.add(p.others)
	}
	s.add(&clause{literals: []literal{s.not(w.on, w.value), {with, in}}, fact: w.fact})
}

// load adds the clauses of the versions that are settled now, and reports whether it did.
func (s *search) load(ctx context.Context) (more bool, err error) {
	for len(s.fixed) > 0 {
		on := s.fixed[len(s.fixed)-1]
		s.fixed = s.fixed[:len(s.fixed)-1]
		p, value := s.plugins[on], s.now[on].only()
		if value <= absent || p.loaded[value] {
			continue
		}
		if value == p.others {
			if _, err := s.known.list(ctx, p.name, s.neededBy(on)); err != nil {
				return false, err
			}
			return false, errListed
		}
		c, err := s.known.candidate(ctx, p.name, p.versions[value-1].String(), s.neededBy(on))
		if err != nil {
			return false, err
		}
		p.loaded[value] = true
		more = true
		if err := s.clauses(ctx, on, value, c); err != nil {
			return false, err
		}
	}
	return more, nil
}

// neededBy says who needs a plug-in now, for people.
func (s *search) neededBy(on int) string {
	by := s.asked[s.plugins[on].name]
	if by != "" {
		return by
	}
	for from, p := range s.plugins {
		if value := s.now[from].only(); value > absent && slices.Contains(p.needs[value], on) {
			if who := called(p.name, p.versions[value-1].String()); by == "" || who < by {
				by = who
			}
		}
	}
	return by
}

// clauses adds those of a candidate.
func (s *search) clauses(ctx context.Context, on, value int, c Candidate) error {
	said := func(kind Kind, other, wanted, text string) *Fact {
		return &Fact{Kind: kind, Plugin: c.Name, Version: c.Version, On: other, Range: wanted, Text: text}
	}
	without := func(f *Fact) { s.add(&clause{literals: []literal{s.not(on, value)}, fact: f}) }
	if c.Out != "" {
		without(said(LeftOut, "", "", c.Out))
	}
	if wanted, text, ok := s.host(c); !ok {
		without(said(Host, "", wanted, text))
	}
	for _, line := range lines(c.Requires) {
		name, wanted := ranges.Split(line)
		if name == "" || !s.known.parse(wanted).Sensible() {
			without(said(Senseless, "", "", "requires "+quote(line)))
			continue
		}
		other, err := s.variable(ctx, name, called(c.Name, c.Version))
		if err != nil {
			return err
		}
		s.plugins[on].needs[value] = append(s.plugins[on].needs[value], other)
		if other != on { // else it is a circle
			s.require([]literal{s.not(on, value)}, other, said(Needs, name, wanted, ""))
		}
	}
	for _, line := range lines(c.Conflicts) {
		name, wanted := ranges.Split(line)
		if name == "" || !s.known.parse(wanted).Sensible() {
			without(said(Senseless, "", "", "conflicts "+quote(line)))
			continue
		}
		if name == c.Name {
			continue
		}
		w := waiting{on, value, said(Conflicts, name, wanted, "")}
		if with, ok := s.byName[name]; ok {
			s.conflict(w, with)
		} else {
			s.waits[name] = append(s.waits[name], w)
		}
	}
	return nil
}

// host reports whether a candidate is made for the application, and if not, what it says of it.
func (s *search) host(c Candidate) (wanted, text string, ok bool) {
	app := ranges.Shown(s.problem.App)
	wanted, named := c.Host[s.problem.App]
	if !named {
		var others []string
		for _, other := range slices.Sorted(maps.Keys(c.Host)) {
			others = append(others, ranges.Shown(other))
		}
		return "", "is made for " + list(others) + ", not for " + app, len(others) == 0
	}
	v := ranges.ParseVersion(s.problem.AppVersion)
	verdict := s.known.parse(wanted).Fits(v)
	if verdict == ranges.NoRange {
		return wanted, "says host." + app + "=" + quote(wanted) + ", which is no range", false
	}
	return wanted, "is made for " + app + " " + shownRange(wanted) + ", and this is " + app + " " + v.Found(verdict), verdict == ranges.In
}

// lines returns each line once, in an order that does not depend on theirs.
func lines(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

// next decides what comes next in the order of the package's description. It reports false where all is decided.
func (s *search) next() bool {
	for _, on := range s.locked {
		stays := newSet(s.plugins[on].values())
		stays.add(absent)
		stays.add(1)
		if l := (literal{on, stays}); !s.holds(l) && !s.fails(l) {
			s.decide(l)
			return true
		}
	}
	for on := range s.walk {
		if s.now[on].only() < 0 {
			best := newSet(s.plugins[on].values())
			best.add(s.now[on].next(absent + 1))
			s.decide(literal{on, best})
			return true
		}
	}
	return false
}

// walk goes through what is asked for, then what those require, and so on. It ends behind the first that is not settled when its
// turn has come to say what it requires.
func (s *search) walk(yield func(on int) bool) {
	seen := make([]bool, len(s.plugins))
	for row := s.roots; len(row) > 0; {
		var next []int
		for _, on := range row {
			seen[on] = true
		}
		for _, on := range row {
			if !yield(on) {
				return
			}
			for _, need := range s.plugins[on].needs[s.now[on].only()] {
				if !seen[need] {
					seen[need] = true
					next = append(next, need)
				}
			}
		}
		slices.SortFunc(next, func(a, b int) int { return cmp.Compare(s.plugins[a].name, s.plugins[b].name) })
		row = next
	}
}

// circle adds the clause that a circle among what is chosen must not be, and reports whether there is one. All versions that are
// known to need the next in it fall under it.
func (s *search) circle() bool {
	const open, done = 1, 2
	state := map[int]int{}
	var way, found []int
	var visit func(on int) bool
	visit = func(on int) bool {
		if state[on] != 0 {
			if state[on] == open {
				found = way[slices.Index(way, on):]
			}
			return state[on] == open
		}
		state[on] = open
		way = append(way, on)
		if slices.ContainsFunc(s.plugins[on].needs[s.now[on].only()], visit) {
			return true
		}
		state[on] = done
		way = way[:len(way)-1]
		return false
	}
	if !slices.ContainsFunc(s.roots, visit) {
		return false
	}
	c := &clause{fact: &Fact{Kind: Circle}}
	for i, on := range found {
		p, to := s.plugins[on], found[(i+1)%len(found)]
		link := Link{Plugin: p.name, On: s.plugins[to].name}
		without := slices.Clone(s.first[on])
		for value := range p.values() {
			if slices.Contains(p.needs[value], to) {
				without.remove(value)
				link.Versions = append(link.Versions, p.versions[value-1].String())
			}
		}
		c.literals = append(c.literals, literal{on, without})
		c.fact.Circle = append(c.fact.Circle, link)
	}
	s.add(c)
	return true
}

// solution is what is settled.
func (s *search) solution() map[string]Candidate {
	all := map[string]Candidate{}
	for on := range s.walk {
		p := s.plugins[on]
		all[p.name] = s.known.candidates[p.name][p.versions[s.now[on].only()-1].String()]
	}
	return all
}
