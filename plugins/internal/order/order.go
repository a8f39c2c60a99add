// Package order puts the hooks at one extension point in order, and says for each why it stands where it does. It is a pure
// function of what the hooks and the user say: no clock, no file, and no word on which of them was found first.
//
// These decide, the stronger first:
//
//  1. The user's list in config.yaml (hooks.<point>). `[audit, '*', tax]` is audit, then all that the list does not name, then
//     tax. Without '*' those that it does not name come behind those that it does. It wins over all that hooks say.
//  2. `first` and `last`: the hooks that say `first` stand before all others, those that say `last` behind all others.
//  3. `before` and `after`: the named plug-ins. Names that no hook at this point has are passed over: a plug-in may know of
//     others that are not installed.
//  4. `priority`: the higher first; 0 where a hook says none.
//  5. The plug-in's name, by byte values.
//
// Among all orders that 1 to 3 allow it is the one whose first hook is the best by 4 and 5, then whose second is, and so on.
// So a hook of high priority that waits for another (`after`) does not pull that one forward: both come when it is the other's
// turn.
//
// What contradicts itself costs a relation, never the point. Of a circle of before and after, the weakest relation is left
// out: the one that the hook of the lowest priority says, of those with the same priority the one whose name comes last; of one
// hook's own, `after` counts less than `before`, and a name that comes later less than one that comes sooner. A relation that
// `first` or `last` leaves no room for is left out, too. Each is a [Fault]. What only the user overrides is none:
// the [Place] says it.
package order

import (
	"cmp"
	"container/heap"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
)

// Hook is what one plug-in says of its hook at the point.
type Hook struct {
	Plugin   string   // the plug-in's name; each has one hook at a point
	First    bool     // order=first
	Last     bool     // order=last; with First it is a Fault, and neither counts
	Before   []string // names of plug-ins that it stands before; those that are not there are passed over
	After    []string // names of plug-ins that it stands behind, likewise
	Priority int      // the higher first
	Wrap     bool     // it stands around the hooks behind it: ordered as any other
	Optional bool     // the point need not be there: of no effect on the order
}

// Place is the place of one hook: that of its index in what Of returns.
type Place struct {
	Hook int // the hook's index in what Of was given

	// Reason says why the hook stands here, for people: "the user's list (config.yaml: hooks.before_save)", "first",
	// "before tax", "after tax", "priority 10", "by name", or several of them with a comma between. Where the user's list
	// overrides what a hook says, that follows: "; overrides `first`".
	Reason string
}

// Absence says why a plug-in has no hook at a point: what there is to do differs.
type Absence int

// The absences.
const (
	NotThere Absence = iota // no plug-in has this name
	NotKnown                // the same, where what is compiled into the application is not known
	Unlisted                // its file is there, and config.yaml does not name it
	Disabled                // config.yaml disables it
	Hookless                // it is there, and has no such hook
	Uncalled                // it is there, and its hook is none for this kind of point
)

// Of returns the order of the hooks at the point of a name, such as before_save, each of them once, and what could not be followed.
// user is the user's list for the point; nil where there is none. absent is asked for those in it that have no hook; nil is
// that none of them is there. The order and its reasons do not depend on the order of hooks, or on that of the
// names in Before and After. Two hooks of one plug-in stand beside each other or as their own words put them. Of keeps no
// argument and changes none; it may be called from several goroutines.
func Of(point string, hooks []Hook, user []string, absent func(plugin string) Absence) ([]Place, []Fault) {
	o := rank(hooks)
	o.point, o.list, o.absent = point, "hooks."+point, absent
	o.readList(user)
	o.readTiers()
	relations := o.relations()
	order := make([]int, 0, len(hooks)) // ranks
	order = append(order, o.named(before)...)
	for tier := first; tier <= last; tier++ {
		order = append(order, o.sort(tier, relations)...)
	}
	order = append(order, o.named(behind)...)
	o.reasonsOfNamed(order)
	places := make([]Place, len(order))
	for i, r := range order {
		places[i] = Place{Hook: o.index[r], Reason: o.reason[r]}
	}
	return places, o.faults
}

// The zones that the user's list makes.
const (
	before = iota // named, in front of '*'
	rest          // not named
	behind        // named, behind '*'
)

// The tiers of the rest.
const (
	first = iota
	middle
	last
)

// orderer is the work on one point. A rank stands for a hook: the best by priority and name has rank 0, so that nothing depends
// on the order in which the hooks came.
type orderer struct {
	hooks  []Hook           // by rank
	index  []int            // by rank: the index in what Of was given
	ranks  map[string][]int // by the plug-in's name
	point  string
	absent func(plugin string) Absence // or nil
	list   string                      // what messages call the user's list
	zone   []int                       // by rank
	spot   []int                       // by rank, of named hooks: the place in the user's list
	tier   []int                       // by rank
	reason []string                    // by rank
	over   [][]string                  // by rank: what the user's list overrides
	listed bool                        // the user's list names a hook that is there
	faults []Fault
}

// relation is `from stands before to`, and whose word that is.
type relation struct{ from, to, sayer int }

// rank ranks the hooks. Hooks of one plug-in with the same priority are told apart by all else that they say, so that which
// comes first depends on no index unless they are the same.
func rank(hooks []Hook) *orderer {
	n := len(hooks)
	o := &orderer{hooks: make([]Hook, n), index: make([]int, n), ranks: make(map[string][]int, n),
		zone: make([]int, n), spot: make([]int, n), tier: make([]int, n), reason: make([]string, n), over: make([][]string, n)}
	sorted := make([]Hook, n) // by index; the lists sorted, without doubles
	for i, h := range hooks {
		h.Before, h.After = set(h.Before), set(h.After)
		sorted[i], o.index[i] = h, i
	}
	slices.SortStableFunc(o.index, func(a, b int) int { return compare(&sorted[a], &sorted[b]) })
	for r, i := range o.index {
		o.hooks[r] = sorted[i]
		o.ranks[sorted[i].Plugin] = append(o.ranks[sorted[i].Plugin], r)
		o.zone[r] = rest
	}
	return o
}

func set(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// compare puts the hook of the higher priority first, then the one whose name comes first.
func compare(a, b *Hook) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Plugin, b.Plugin),
		flag(b.First)-flag(a.First), flag(a.Last)-flag(b.Last), slices.Compare(a.Before, b.Before), slices.Compare(a.After, b.After),
		flag(b.Wrap)-flag(a.Wrap), flag(b.Optional)-flag(a.Optional))
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// readList sets the zones and the spots. The first place of a name in the list counts.
func (o *orderer) readList(user []string) {
	seen, zone := map[string]bool{}, before
	for i, name := range user {
		if seen[name] {
			o.faults = append(o.faults, Fault{Kind: ErrTwice, Found: show(name) + " twice", Expected: "each name once",
				Remedy: "Take one of them out of config.yaml: " + o.list + "; the first counts"})
			continue
		}
		seen[name] = true
		if name == "*" {
			zone = behind
			continue
		}
		if len(o.ranks[name]) == 0 {
			o.faults = append(o.faults, o.unknown(name))
			continue
		}
		for _, r := range o.ranks[name] {
			o.zone[r], o.spot[r], o.listed = zone, i, true
		}
	}
}

// unknown is the fault of a name in the user's list that no hook has.
func (o *orderer) unknown(name string) Fault {
	f := Fault{Kind: ErrUnknown, Found: show(name), Expected: "the name of a plug-in with a hook at this point", Remedy: "Take it out of config.yaml: " + o.list}
	why := NotThere
	if o.absent != nil {
		why = o.absent(name)
	}
	switch why {
	case Unlisted:
		f.Found += ", which config.yaml does not name under plugins"
		f.Remedy += ", or name the plug-in there (ferrule enable)"
		return f
	case Disabled:
		f.Found += ", which is disabled"
		f.Remedy += ", or enable the plug-in (ferrule enable)"
		return f
	case Hookless:
		f.Found += ", which has no hook " + show(o.point)
		return f
	case Uncalled:
		f.Found += ", whose hook is never called: at points of the kind wrap a hook says wrap=yes, and at others it does not"
		return f
	}
	f.Found += ", and no plug-in of this name"
	names := make([]string, 0, len(o.ranks))
	for known := range o.ranks {
		names = append(names, known)
	}
	slices.Sort(names)
	switch near := abi.Nearest(name, names); {
	case near != "":
		f.Remedy = "Did you mean " + show(near) + "?"
	case why == NotKnown:
		f.Remedy += ", or install the plug-in, unless the application has it compiled in"
	default:
		f.Remedy += ", or install the plug-in"
	}
	return f
}

// readTiers sets the tiers. A hook that says both `first` and `last` has said nothing.
func (o *orderer) readTiers() {
	for r := range o.hooks {
		switch h := &o.hooks[r]; {
		case h.First && h.Last:
			o.tier[r] = middle
			o.faults = append(o.faults, Fault{Kind: ErrPlace, Plugin: h.Plugin, Found: "`first` and `last`", Expected: "one of the two",
				Remedy: "Neither counts; change the plug-in, or name it in config.yaml: " + o.list})
		case h.First:
			o.tier[r] = first
		case h.Last:
			o.tier[r] = last
		default:
			o.tier[r] = middle
		}
	}
}

// relations returns those that the user's list and the tiers leave to be kept, each once, the strongest first. It notes which
// others were overridden.
func (o *orderer) relations() []relation {
	var all []relation
	for r, h := range o.hooks {
		own := func(word string) {
			o.faults = append(o.faults, Fault{Kind: ErrCircle, Plugin: h.Plugin, Circle: []string{h.Plugin},
				Found: "`" + word + " " + show(h.Plugin) + "`, its own name", Expected: "the name of another plug-in", Remedy: "It is passed over; take it out of the plug-in"})
		}
		for _, name := range h.Before {
			if name == h.Plugin {
				own("before")
				continue
			}
			for _, t := range o.ranks[name] {
				all = o.relate(all, relation{r, t, r})
			}
		}
		for _, name := range h.After {
			if name == h.Plugin {
				own("after")
				continue
			}
			for _, t := range o.ranks[name] {
				all = o.relate(all, relation{t, r, r})
			}
		}
	}
	type ends struct{ from, to int }
	seen := make(map[ends]bool, len(all))
	return slices.DeleteFunc(all, func(rel relation) bool { // the first of those with the same ends is the strongest sayer's
		twice := seen[ends{rel.from, rel.to}]
		seen[ends{rel.from, rel.to}] = true
		return twice
	})
}

// relate appends rel to those that are to be kept, if it is.
func (o *orderer) relate(all []relation, rel relation) []relation {
	from, to := &o.hooks[rel.from], &o.hooks[rel.to]
	zone := cmp.Compare(o.zone[rel.from], o.zone[rel.to])
	if zone == 0 && o.zone[rel.from] != rest {
		zone = cmp.Compare(o.spot[rel.from], o.spot[rel.to])
	}
	switch tier := cmp.Compare(o.tier[rel.from], o.tier[rel.to]); {
	case zone < 0: // the user's list puts it so
	case zone > 0: // the user's list puts it the other way: said where the list's name stands, the sayer's if it is in the list
		at, other := rel.sayer, rel.from
		if other == at {
			other = rel.to
		}
		text := "`" + o.said(rel) + "`"
		if o.zone[at] == rest {
			at, text = other, text+" of "+show(o.hooks[at].Plugin)
		}
		o.over[at] = append(o.over[at], text)
	case tier < 0: // first and last put it so
	case tier > 0:
		o.faults = append(o.faults, Fault{Kind: ErrPlace, Plugin: o.hooks[rel.sayer].Plugin,
			Found:    "`" + o.said(rel) + "`, where " + show(to.Plugin) + " " + standing(o.tier[rel.to]) + " and " + show(from.Plugin) + " " + standing(o.tier[rel.from]),
			Expected: "a relation that first and last leave room for",
			Remedy:   "It is passed over; change one of the plug-ins, or name both in config.yaml: " + o.list})
	default:
		return append(all, rel)
	}
	return all
}

// said is how the sayer says the relation.
func (o *orderer) said(rel relation) string {
	if rel.sayer == rel.from {
		return "before " + show(o.hooks[rel.to].Plugin)
	}
	return "after " + show(o.hooks[rel.from].Plugin)
}

func standing(tier int) string {
	return [...]string{"says first", "says neither first nor last", "says last"}[tier]
}

// named returns the hooks of a zone of the user's list, in its order.
func (o *orderer) named(zone int) []int {
	var ranks []int
	for r := range o.hooks {
		if o.zone[r] == zone {
			ranks = append(ranks, r)
		}
	}
	slices.SortStableFunc(ranks, func(a, b int) int { return cmp.Compare(o.spot[a], o.spot[b]) })
	return ranks
}

// reasonsOfNamed sets the reasons of the hooks that the user's list names. order is that of all.
func (o *orderer) reasonsOfNamed(order []int) {
	if !o.listed {
		return
	}
	reason := "the user's list (config.yaml: " + o.list + ")"
	allFirst := true // those before the place all say first
	lastFrom := len(order)
	for lastFrom > 0 && o.tier[order[lastFrom-1]] == last {
		lastFrom--
	}
	for i, r := range order {
		if o.zone[r] != rest {
			over := o.over[r]
			if o.tier[r] == first && !allFirst {
				over = append(over, "`first`")
			}
			if o.tier[r] == last && i < lastFrom {
				over = append(over, "`last`")
			}
			o.reason[r] = reason
			if len(over) > 0 {
				o.reason[r] += "; overrides " + strings.Join(over, ", ")
			}
		}
		allFirst = allFirst && o.tier[r] == first
	}
}

// sort returns the ranks of a tier of the rest in their order, and sets their reasons.
func (o *orderer) sort(tier int, relations []relation) []int {
	var members []int // ranks, the best first
	in := make([]bool, len(o.hooks))
	for r := range o.hooks {
		if o.zone[r] == rest && o.tier[r] == tier {
			members = append(members, r)
			in[r] = true
		}
	}
	g := newGraph(len(o.hooks))
	for _, rel := range o.withoutCircles(slices.DeleteFunc(slices.Clone(relations), func(rel relation) bool { return !in[rel.from] })) {
		g.add(rel.from, rel.to)
	}
	waits := g.incoming()
	var free ranks
	for _, r := range members {
		if waits[r] == 0 {
			free = append(free, r) // members are sorted, so free is a heap
		}
	}
	order, worst := make([]int, 0, len(members)), -1 // worst is the highest rank that has its place
	after := make([]int, len(o.hooks))               // by rank: the hook that it waited for last
	for len(free) > 0 {
		r := heap.Pop(&free).(int)
		var why []string
		if worst > r { // one that is worse came before it: it had to wait
			why = append(why, "after "+show(o.hooks[after[r]].Plugin))
		}
		ahead := slices.DeleteFunc(slices.Clone(g.next[r]), func(t int) bool { return t > r }) // better ones that waited for it
		if len(ahead) > 0 {
			why = append(why, "before "+show(o.hooks[slices.Min(ahead)].Plugin))
		}
		o.reason[r] = o.reasonOf(r, why, len(members))
		worst = max(worst, r)
		order = append(order, r)
		for _, t := range g.next[r] {
			after[t] = r
			if waits[t]--; waits[t] == 0 {
				heap.Push(&free, t)
			}
		}
	}
	return order
}

// reasonOf says why a hook of the rest stands where it does: why are the relations that put it there; others is the size of its
// tier.
func (o *orderer) reasonOf(r int, why []string, others int) string {
	var reasons []string
	if tier := o.tier[r]; tier != middle {
		word := [...]string{first: "first", last: "last"}[tier]
		if o.listed {
			word += " of those that the user's list does not name"
		}
		reasons = append(reasons, word)
		if others == 1 {
			return word
		}
	}
	switch {
	case len(why) > 0:
		reasons = append(reasons, why...)
	case o.hooks[r].Priority != 0:
		reasons = append(reasons, "priority "+strconv.Itoa(o.hooks[r].Priority))
	case len(o.hooks) == 1:
		reasons = append(reasons, "the only one")
	default:
		reasons = append(reasons, "by name")
	}
	return strings.Join(reasons, ", ")
}

// ranks is a heap: the best on top.
type ranks []int

func (h ranks) Len() int           { return len(h) }
func (h ranks) Less(i, j int) bool { return h[i] < h[j] }
func (h ranks) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ranks) Push(x any)        { *h = append(*h, x.(int)) }
func (h *ranks) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}
