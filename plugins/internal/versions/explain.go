package versions

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// Kind is what a Fact says.
type Kind int

// The kinds. Of each: the fields of Fact that it has.
const (
	Asked     Kind = iota // By asks for On in Range
	Pinned                // On is pinned to the version Range; with By it merely has it, and stays
	Needs                 // Plugin Version requires On in Range
	Conflicts             // Plugin Version cannot run beside On in Range
	Host                  // Plugin Version is not made for the application: Text; Range is that of its host.<application>
	LeftOut               // Plugin Version cannot be chosen: Text
	Senseless             // Plugin Version has a line that makes no sense: Text
	Circle                // those of Circle would need each other
)

// Fact is what somebody says, and what counts in a Conflict.
type Fact struct {
	Kind            Kind
	Plugin, Version string
	On, Range       string
	By, Text        string
	Circle          []Link
}

// Link is a part of a circle: each of the versions needs On, whose link is the next, and the first that of the last.
type Link struct {
	Plugin   string
	Versions []string
	On       string
}

// Conflict says why there is no solution.
type Conflict struct {
	// Facts cannot all be met, whatever else there is: with the versions that there are. Without any one of them it would be another
	// matter, unless finding that out would have taken too long.
	Facts []Fact

	Explanation string // the facts as a sentence without its full stop
	Remedy      string // what to do, as a sentence without its full stop
}

// Error is the explanation and what to do.
func (c *Conflict) Error() string { return c.Explanation + ". " + c.Remedy }

// effort is how many conflicts the search for the least explanation may cost.
const effort = 20_000

// explain makes the Conflict of a contradiction.
func (s *search) explain(ctx context.Context, contradiction *clause) *Conflict {
	needed, open := []*clause(nil), s.near(origin(contradiction))
	for left := effort; len(open) > 0; { // what is far from what was asked for goes first
		last := open[len(open)-1]
		open = open[:len(open)-1]
		core, refuted := s.refute(ctx, slices.Concat(needed, open), &left)
		if !refuted {
			needed = append(needed, last)
			continue
		}
		open = slices.DeleteFunc(open, func(c *clause) bool {
			return !slices.ContainsFunc(core, func(k *clause) bool { return k.fact == c.fact })
		})
	}
	c := &Conflict{}
	for _, n := range s.near(needed) {
		c.Facts = append(c.Facts, *n.fact)
	}
	s.words(c)
	return c
}

// near orders clauses by how they are told: what is asked for, and behind each what follows from it.
func (s *search) near(all []*clause) []*clause {
	slices.SortFunc(all, func(a, b *clause) int { return s.compare(a.fact, b.fact) })
	var told []*clause
	taken := map[*clause]bool{}
	var tell func(c *clause)
	tell = func(c *clause) {
		if taken[c] {
			return
		}
		taken[c] = true
		told = append(told, c)
		if c.fact.Kind != Asked && c.fact.Kind != Needs {
			return
		}
		for _, next := range all {
			if next.fact.Plugin == c.fact.On {
				tell(next)
			}
		}
	}
	for _, c := range all {
		tell(c)
	}
	return told
}

// compare orders facts: the roots first; of one plug-in its best version first.
func (s *search) compare(a, b *Fact) int {
	order := func(f *Fact) (first int) {
		if f.Kind != Asked {
			return 1
		}
		return 0
	}
	if c := order(a) - order(b); c != 0 {
		return c
	}
	for _, pair := range [][2]string{{a.Plugin, b.Plugin}, {a.By, b.By}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	if c := s.value(a) - s.value(b); c != 0 {
		return c
	}
	if c := int(a.Kind) - int(b.Kind); c != 0 {
		return c
	}
	for _, pair := range [][2]string{{a.On, b.On}, {a.Range, b.Range}, {a.Text, b.Text}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// value is that of the fact's version.
func (s *search) value(f *Fact) int {
	on, ok := s.byName[f.Plugin]
	if !ok {
		return 0
	}
	return slices.IndexFunc(s.plugins[on].versions, func(v ranges.Version) bool { return v.String() == f.Version })
}

// refute reports whether clauses alone cannot be met, and which of them it took. What cannot be told within what is left of the effort
// counts as met.
func (s *search) refute(ctx context.Context, all []*clause, left *int) (core []*clause, refuted bool) {
	var alone solver
	for _, may := range s.first {
		alone.variable(may)
	}
	for _, c := range all {
		alone.add(&clause{literals: slices.Clone(c.literals), fact: c.fact})
	}
	for *left > 0 && ctx.Err() == nil {
		if failed := alone.propagate(); failed != nil {
			*left--
			if contradiction := alone.learn(failed); contradiction != nil {
				return origin(contradiction), true
			}
			continue
		}
		on := slices.IndexFunc(alone.now, func(may set) bool { return may.only() < 0 })
		if on < 0 {
			return nil, false
		}
		one := newSet(64 * len(alone.now[on]))
		one.add(alone.now[on].next(0))
		alone.decide(literal{on, one})
	}
	return nil, false
}

// words says the facts for people.
func (s *search) words(c *Conflict) {
	var said []string
	for i := 0; i < len(c.Facts); {
		f := c.Facts[i]
		same := []string{f.Version}
		for i++; i < len(c.Facts) && f.Plugin != "" && alike(f, c.Facts[i]); i++ {
			same = append(same, c.Facts[i].Version)
		}
		said = append(said, s.sentence(f, same))
	}
	if last := len(said) - 1; last > 0 {
		said[last] = "but " + said[last]
	}
	c.Explanation = escape.Line(strings.Join(said, ", ")) // it has words of a server's
	c.Remedy = remedy(c.Facts)
}

// alike reports whether two facts are the same but for the version that says it.
func alike(a, b Fact) bool {
	return a.Kind == b.Kind && a.Plugin == b.Plugin && a.On == b.On && a.Range == b.Range && a.Text == b.Text
}

func (s *search) sentence(f Fact, versions []string) string {
	who := called(f.Plugin, versions...)
	several := func(one, more string) string {
		if len(versions) > 1 {
			return more
		}
		return one
	}
	wanted := strings.TrimSpace(ranges.Shown(f.On) + " " + shownRange(f.Range))
	switch f.Kind {
	case Asked:
		return f.By + " asks for " + wanted + s.nothing(f)
	case Pinned:
		if f.By != "" {
			return f.By + " has " + called(f.On, f.Range)
		}
		return ranges.Shown(f.On) + " is pinned to " + ranges.Shown(f.Range)
	case Needs:
		return who + several(" needs ", " need ") + wanted + s.nothing(f)
	case Conflicts:
		return who + " cannot run beside " + wanted
	case Senseless:
		return who + several(" says ", " say ") + f.Text + ", which makes no sense"
	case Circle:
		var links []string
		for _, l := range f.Circle {
			need := " needs "
			if len(l.Versions) > 1 {
				need = " need "
			}
			links = append(links, called(l.Plugin, l.Versions...)+need+ranges.Shown(l.On))
		}
		return "plug-ins cannot need each other in a circle (" + strings.Join(links, ", ") + ")"
	}
	text := f.Text
	if rest, ok := strings.CutPrefix(text, "has "); ok {
		text = several("has ", "have ") + rest
	} else if rest, ok := strings.CutPrefix(text, "is "); ok {
		text = several("is ", "are ") + rest
	} else if rest, ok := strings.CutPrefix(text, "was "); ok {
		text = several("was ", "were ") + rest
	} else if rest, ok := strings.CutPrefix(text, "says "); ok {
		text = several("says ", "say ") + rest
	}
	return who + " " + text
}

// nothing says of a range that no version is in it which versions there are.
func (s *search) nothing(f Fact) string {
	r := ranges.Parse(f.Range)
	p := s.plugins[s.byName[f.On]]
	var there []string
	for _, v := range p.versions {
		if p.others > 0 || r.Fits(v) == ranges.In {
			return ""
		}
		there = append(there, ranges.Shown(v.String()))
	}
	if len(there) == 1 { // there is room to say why not
		there[0] = p.versions[0].Found(r.Fits(p.versions[0]))
	}
	switch {
	case !r.Sensible():
		return ", which is no range of versions"
	case len(there) == 0:
		return ", and there is no plug-in " + ranges.Shown(f.On)
	}
	return ", of which there is only " + list(there)
}

// remedy says what can be done about the facts.
func remedy(facts []Fact) string {
	var ranged, roots, pinned, held, out []string
	hosts := false
	add := func(to *[]string, what string) {
		if !slices.Contains(*to, what) {
			*to = append(*to, what)
		}
	}
	for _, f := range facts {
		switch f.Kind {
		case Asked:
			if f.Range != "" && f.Range != "*" {
				add(&ranged, ranges.Shown(f.On)+" ("+f.By+")")
			}
			add(&roots, ranges.Shown(f.On))
		case Pinned:
			to := &pinned
			if f.By != "" {
				to = &held
			}
			add(to, ranges.Shown(f.On))
		case Host:
			hosts = true
		case LeftOut, Senseless, Circle:
			for _, l := range f.Circle {
				add(&out, ranges.Shown(l.Plugin))
			}
			if f.Plugin != "" {
				add(&out, ranges.Shown(f.Plugin))
			}
		}
	}
	var ways []string
	if len(ranged) > 0 {
		ways = append(ways, "ask for other versions of "+either(ranged))
	}
	if len(pinned) > 0 {
		ways = append(ways, "unpin "+either(pinned))
	}
	if len(held) > 0 {
		ways = append(ways, "update "+either(held)+" (ferrule update)")
	}
	if len(roots) > 0 {
		ways = append(ways, "leave out "+either(roots))
	}
	if hosts {
		ways = append(ways, "use a version of the application that they are made for")
	}
	if len(out) > 0 {
		ways = append(ways, "ask the author of "+either(out)+" for a version without that fault")
	}
	all := strings.Join(ways, ", or ")
	if all == "" {
		return ""
	}
	return strings.ToUpper(all[:1]) + all[1:]
}

// called is a plug-in and some of its versions: "tax 1.2.0", "tax 1.2.0 and 1.3.0", "tax 2.0.0 to 1.0.0 (20 versions)".
func called(name string, versions ...string) string {
	var shown []string
	for _, v := range versions {
		shown = append(shown, ranges.Shown(v))
	}
	return ranges.Shown(name) + " " + list(shown)
}

// list joins what there is of some: all, or the ends of a long list.
func list(all []string) string {
	switch n := len(all); {
	case n == 0:
		return ""
	case n == 1:
		return all[0]
	case n > 4:
		return all[0] + " … " + all[n-1] + " (" + strconv.Itoa(n) + " of them)"
	default:
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
}

func either(all []string) string {
	if n := len(all); n > 1 {
		return strings.Join(all[:n-1], ", ") + " or " + all[n-1]
	}
	return all[0]
}

// shownRange is a range for people; quoted where it makes no sense, for it may steer a terminal.
func shownRange(text string) string {
	if !ranges.Parse(text).Sensible() {
		return quote(text)
	}
	return strings.Join(strings.Fields(text), " ")
}

func quote(text string) string { return strconv.Quote(text) }
