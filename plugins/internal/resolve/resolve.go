// Package resolve decides which plug-ins may start, and in which order: registration, before anything of a plug-in runs. It is a
// pure function of what the plug-ins' manifests, the application and the user's config.yaml say.
//
// What holds:
//
//   - One plug-in of each name. Of several the one of the first source in precedence counts, and the others are shadowed, which is
//     no fault: so that a `dev:` override takes the place of what is installed. Several of one precedence are a fault of each,
//     for nothing says which was meant.
//   - A plug-in that the user disabled, or did not list, is not there. Whoever needs it is told so.
//   - A plug-in's version is in the range that the user gives for it; the application's is in the range of the plug-in's
//     `host.<application>`. A plug-in that names other applications only was not made for this one. One that names none runs in
//     all.
//   - `requires` names plug-ins, one a line, with a range or without: `tax`, `tax ^1.2`, `tax >=1.2, <3`. All of them start.
//   - An import that the application offers is the application's. Another is a service: the plug-in whose `provides` has it starts
//     before. What the application offers, no plug-in provides. Of two plug-ins that provide the same the one whose name comes
//     first does, and the other fails.
//   - Circles through `requires` and services fail all that are on them.
//   - `conflicts` names plug-ins that it cannot run beside, as `requires` does. The one that says so fails, so that none can
//     turn off another, unless the user requires it and not the other: then the other fails, if it is not needed for the first.
//   - A plug-in whose dependency fails, fails too, and its fault says through whom. All others start.
//
// Versions and ranges are those of package ranges.
package resolve

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// Plugin is what is known of one plug-in before it is opened.
type Plugin struct {
	Name       string // from its manifest
	Version    string // from its manifest
	Source     string // where it comes from, for people: a path, a URL
	Precedence int    // of its source: of several plug-ins of one name the lowest counts

	Required bool   // the user's `required: true`: of weight where plug-ins conflict
	Disabled bool   // the user's `enabled: false`
	Unlisted bool   // its file is there, and the user's config.yaml does not name it: it is not there any more than one that is disabled
	Range    string // the user's `version:`; "" where there is none

	Host      map[string]string // by application: the range of the manifest's host.<application>
	Requires  []string          // a line each, as in the manifest
	Conflicts []string          // a line each, as in the manifest
	Provides  []string          // the functions that other plug-ins import from it
	Imports   []string          // the host functions that it cannot do without
}

// off says why the plug-in is not there; "" where it is.
func (p *Plugin) off() string {
	switch {
	case p.Disabled:
		return "is disabled"
	case p.Unlisted:
		return "is not listed"
	}
	return ""
}

// Result is what becomes of each plug-in. Each index of what Resolve was given is in one of Order, Failed, Shadowed, Disabled.
// The plug-ins that are shadowed or disabled are no concern of anybody's.
type Result struct {
	Order     []int          // those that may start: each behind all that it needs, else by name. They stop in reverse.
	Failed    map[int]*Fault // those that may not, and why
	Shadowed  map[int]int    // those in whose place another of the same name counts, and which
	Disabled  []int          // those that the user disabled or did not list, in the order that they came in
	Providers map[string]int // who provides a service: of those in Order
}

// Resolve decides for the application app, of a version. offers has the names of what the application itself offers as true.
// The result does not depend on the order of plugins, nor on that of a plug-in's lists. Resolve keeps no argument and changes
// none; it may be called from several goroutines.
func Resolve(app, version string, plugins []Plugin, offers map[string]bool) Result {
	r := &resolver{app: app, version: version, plugins: plugins, offers: offers,
		needs: make([][]need, len(plugins)), byName: make(map[string]int, len(plugins)),
		Result: Result{Failed: map[int]*Fault{}, Shadowed: map[int]int{}, Providers: map[string]int{}}}
	r.names()
	for _, i := range r.active {
		r.fail(i, r.ownFault(i))
	}
	r.services()
	for _, i := range r.active {
		needs, faults := r.dependencies(i)
		switch {
		case r.Failed[i] != nil:
			r.Failed[i].More = faults
		case faults != nil:
			r.fail(i, faults[0])
			faults[0].More = faults[1:]
		default:
			r.needs[i] = needs
		}
	}
	r.circles()
	r.spread()
	r.conflicts()
	r.start()
	return r.Result
}

// need is what one plug-in needs of another: by how it says so.
type need struct {
	on   int
	step string // StepRequires or StepImports
	what string // the requirement line, or the service
}

// resolver is the work of Resolve.
type resolver struct {
	app, version string
	plugins      []Plugin
	offers       map[string]bool
	active       []int          // those that are neither disabled nor shadowed, by name
	byName       map[string]int // of active; of a double the first
	off          []int          // the disabled and unlisted that no other of their name stands in for, by name
	needs        [][]need       // by index; of those without a fault of their own
	Result
}

func (r *resolver) fail(i int, f *Fault) {
	if f != nil {
		f.Plugin = r.plugins[i].Name
		r.Failed[i] = f
	}
}

// names finds the one plug-in of each name.
func (r *resolver) names() {
	order := make([]int, len(r.plugins))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		p, q := &r.plugins[a], &r.plugins[b]
		return cmp.Or(cmp.Compare(p.Name, q.Name), cmp.Compare(p.Precedence, q.Precedence), cmp.Compare(p.Source, q.Source), cmp.Compare(p.Version, q.Version))
	})
	for _, i := range order {
		p := &r.plugins[i]
		if p.off() != "" {
			continue
		}
		chosen, ok := r.byName[p.Name]
		switch {
		case !ok:
			r.byName[p.Name] = i
			r.active = append(r.active, i)
		case p.Precedence > r.plugins[chosen].Precedence:
			r.Shadowed[i] = chosen
		default:
			r.active = append(r.active, i)
			r.fail(i, double(p, &r.plugins[chosen]))
			if r.Failed[chosen] == nil {
				r.fail(chosen, double(&r.plugins[chosen], p))
			}
		}
	}
	for _, i := range order {
		if name := r.plugins[i].Name; r.plugins[i].off() != "" {
			if _, ok := r.byName[name]; !ok {
				r.off = append(r.off, i)
			}
		}
	}
	for i := range r.plugins {
		if r.plugins[i].off() != "" {
			r.Disabled = append(r.Disabled, i)
		}
	}
}

func double(p, other *Plugin) *Fault {
	return &Fault{Kind: ErrDouble, Step: StepName, Found: "it in " + quote(p.Source) + " (" + ranges.Shown(p.Version) + ") and in " + quote(other.Source) + " (" + ranges.Shown(other.Version) + ")",
		Expected: "one plug-in of a name", Remedy: "Remove one of the two, or name the one that you mean in config.yaml: dev"}
}

// ownFault returns what is wrong with a plug-in whatever the others are.
func (r *resolver) ownFault(i int) *Fault {
	p := &r.plugins[i]
	if f := r.Failed[i]; f != nil {
		return f
	}
	switch verdict := fits(p.Version, p.Range); verdict {
	case ranges.In:
	case ranges.NoRange:
		return &Fault{Kind: ErrRange, Step: StepVersion, Found: quote(p.Range) + " as its version in config.yaml", Expected: ranges.Expected,
			Remedy: "Correct it in config.yaml: plugins: version"}
	default:
		return &Fault{Kind: kind(verdict), Step: StepVersion, Found: found(p.Version, verdict), Expected: quote(p.Range) + ", as config.yaml says",
			Remedy: "Install a version in that range, or change it in config.yaml: plugins: version"}
	}
	return r.hostFault(p)
}

func (r *resolver) hostFault(p *Plugin) *Fault {
	wanted, ok := p.Host[r.app]
	if !ok {
		if len(p.Host) == 0 {
			return nil
		}
		var others []string
		for app := range p.Host {
			others = append(others, "host."+ranges.Shown(app))
		}
		slices.Sort(others)
		return &Fault{Kind: ErrHost, Step: StepHost, Found: strings.Join(others, ", "), Expected: "host." + ranges.Shown(r.app) + ", or no host.… at all",
			Remedy: "It was not made for " + ranges.Shown(r.app) + ": remove it, or ask its author for one that is"}
	}
	switch verdict := fits(r.version, wanted); verdict {
	case ranges.In:
		return nil
	case ranges.NoRange:
		return &Fault{Kind: ErrHost, Step: StepHost, Found: "host." + ranges.Shown(r.app) + "=" + quote(wanted), Expected: ranges.Expected, Remedy: "Tell its author"}
	default:
		return &Fault{Kind: ErrHost, Step: StepHost, Found: ranges.Shown(r.app) + " " + found(r.version, verdict), Expected: ranges.Shown(r.app) + " " + quote(wanted) + ", as its manifest says",
			Remedy: "Install a version of it that was made for this " + ranges.Shown(r.app)}
	}
}

// services finds who provides what. It is settled before it is known whether the provider starts: the failure of one does not
// make another take its place.
func (r *resolver) services() {
	for _, i := range r.active {
		if r.Failed[i] != nil {
			continue
		}
		p := &r.plugins[i]
		provides := sorted(p.Provides)
		for _, service := range provides {
			other, taken := r.Providers[service]
			switch {
			case r.offers[service]:
				r.fail(i, &Fault{Kind: ErrService, Step: StepProvides, Found: quote(service) + ", which " + ranges.Shown(r.app) + " itself offers",
					Expected: "a service that the application does not offer", Remedy: "Disable " + ranges.Shown(p.Name) + ", or ask its author for another name"})
			case taken:
				r.fail(i, &Fault{Kind: ErrService, Step: StepProvides, Found: quote(service) + ", which " + ranges.Shown(r.plugins[other].Name) + " provides, too",
					Expected: "one provider of each service", Remedy: "Disable " + ranges.Shown(p.Name) + " or " + ranges.Shown(r.plugins[other].Name) + " in config.yaml"})
			default:
				continue
			}
			break
		}
		if r.Failed[i] == nil {
			for _, service := range provides {
				r.Providers[service] = i
			}
		}
	}
}

// dependencies returns what a plug-in needs of others, and what of it is not there.
func (r *resolver) dependencies(i int) (needs []need, faults []*Fault) {
	p := &r.plugins[i]
	for _, line := range sorted(p.Requires) {
		name, wanted := ranges.Split(line)
		fault := func(kind error, what, expected, remedy string) *Fault {
			f := &Fault{Plugin: p.Name, Kind: kind, Step: StepRequires, Found: what, Expected: expected, Remedy: remedy}
			faults = append(faults, f)
			return f
		}
		on, ok := r.byName[name]
		version := ""
		if ok {
			version = r.plugins[on].Version
		}
		verdict := fits(version, wanted)
		if name == "" || verdict == ranges.NoRange {
			fault(ErrRange, quote(line), "the name of a plug-in, and "+ranges.Expected, "Tell its author")
			continue
		}
		if at := slices.IndexFunc(r.off, func(i int) bool { return r.plugins[i].Name == name }); !ok && at >= 0 {
			fault(ErrMissing, ranges.Shown(name)+", which "+r.plugins[r.off[at]].off(), quote(line), "Enable "+ranges.Shown(name)+" in config.yaml, or disable "+ranges.Shown(p.Name))
			continue
		}
		if !ok {
			f := fault(ErrMissing, "no plug-in "+ranges.Shown(name), quote(line), "Install "+ranges.Shown(name)+", or disable "+ranges.Shown(p.Name))
			f.Absent = ranges.Shown(name)
			continue
		}
		if verdict != ranges.In {
			fault(kind(verdict), ranges.Shown(name)+" "+found(version, verdict), quote(line), "Install a version of "+ranges.Shown(name)+" in that range, or disable "+ranges.Shown(p.Name))
			continue
		}
		needs = append(needs, need{on, StepRequires, line})
	}
	for _, service := range sorted(p.Imports) {
		if r.offers[service] {
			continue
		}
		on, ok := r.Providers[service]
		if !ok {
			on, ok = r.firstOf(r.active, service) // one that failed: it says why
		}
		if !ok {
			faults = append(faults, r.nobody(p, service))
			continue
		}
		needs = append(needs, need{on, StepImports, service})
	}
	return needs, faults
}

// firstOf returns the first plug-in that provides a service.
func (r *resolver) firstOf(plugins []int, service string) (i int, ok bool) {
	at := slices.IndexFunc(plugins, func(i int) bool { return slices.Contains(r.plugins[i].Provides, service) })
	if at < 0 {
		return 0, false
	}
	return plugins[at], true
}

// nobody is the fault of an import that nobody has.
func (r *resolver) nobody(p *Plugin, service string) *Fault {
	app := "the application"
	if r.app != "" { // else it is not known: see plugins.Survey
		app = ranges.Shown(r.app)
	}
	f := &Fault{Plugin: p.Name, Kind: ErrService, Step: StepImports, Found: "nobody that has it", Expected: quote(service) + " from " + app + " or from another plug-in",
		Remedy: "Install a plug-in that provides it, or disable " + ranges.Shown(p.Name)}
	if i, ok := r.firstOf(r.off, service); ok {
		name := ranges.Shown(r.plugins[i].Name)
		f.Found = name + ", which provides it and " + r.plugins[i].off()
		f.Remedy = "Enable " + name + " in config.yaml, or disable " + ranges.Shown(p.Name)
	}
	return f
}

// spread fails each plug-in that needs one that failed.
func (r *resolver) spread() {
	needed := make([][]int, len(r.plugins)) // by index: by whom
	waits := make([]int, len(r.plugins))
	var ready []int
	for _, i := range r.active {
		if r.Failed[i] != nil {
			ready = append(ready, i)
			continue
		}
		waits[i] = len(r.needs[i])
		for _, n := range r.needs[i] {
			needed[n.on] = append(needed[n.on], i)
		}
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	for ; len(ready) > 0; ready = ready[1:] { // all that a plug-in needs is done before it: its fault is that of the first that failed
		i := ready[0]
		if r.Failed[i] == nil {
			if at := slices.IndexFunc(r.needs[i], func(n need) bool { return r.Failed[n.on] != nil }); at >= 0 {
				r.fail(i, r.through(i, r.needs[i][at]))
			}
		}
		for _, by := range needed[i] {
			if waits[by]--; waits[by] == 0 {
				ready = append(ready, by)
			}
		}
	}
}

// through is the fault of a plug-in whose need failed.
func (r *resolver) through(i int, n need) *Fault {
	name, cause := r.plugins[n.on].Name, r.Failed[n.on]
	f := &Fault{Kind: ErrDependencyFailed, Step: n.step, Expected: quote(n.what), Through: append([]string{name}, cause.Through...), Cause: cause,
		Found: ranges.Shown(name) + ", which fails"}
	if n.step == StepImports {
		f.Kind = ErrService
		f.Found = ranges.Shown(name) + ", which provides it and fails"
	}
	root := f.Root()
	if len(cause.Through) > 0 {
		f.Found += " through " + strings.Join(mapped(cause.Through, ranges.Shown), ", ")
	}
	f.Found += " (" + root.Step + ": " + root.Kind.Error() + ": " + root.Found + ")"
	f.Remedy = "Mend " + ranges.Shown(root.Plugin) + ", or disable " + ranges.Shown(r.plugins[i].Name)
	return f
}

// conflicts fails one of each two that cannot run beside each other, in the order of the names of those that say so.
func (r *resolver) conflicts() {
	for _, i := range r.active {
		failed := len(r.Failed)
		for _, line := range sorted(r.plugins[i].Conflicts) {
			if r.Failed[i] != nil {
				break
			}
			p := &r.plugins[i]
			name, wanted := ranges.Split(line)
			if name == "" || fits("", wanted) == ranges.NoRange {
				r.fail(i, &Fault{Kind: ErrConflict, Step: StepConflicts, Found: quote(line), Expected: "the name of a plug-in, and " + ranges.Expected, Remedy: "Tell its author"})
				break
			}
			other, ok := r.byName[name]
			if !ok || other == i || r.Failed[other] != nil || !ranges.Parse(wanted).MayFit(ranges.ParseVersion(r.plugins[other].Version)) {
				continue
			}
			loser, winner := i, other
			if p.Required && !r.plugins[other].Required && !r.reaches(i, other) {
				loser, winner = other, i
			}
			r.fail(loser, &Fault{Kind: ErrConflict, Step: StepConflicts, Found: ranges.Shown(r.plugins[winner].Name) + " " + ranges.Shown(r.plugins[winner].Version) + " beside it",
				Expected: "only one of the two, as " + ranges.Shown(p.Name) + " says: " + quote(line), Remedy: "Disable " + ranges.Shown(p.Name) + " or " + ranges.Shown(name) + " in config.yaml"})
		}
		if len(r.Failed) > failed {
			r.spread()
		}
	}
}

// reaches reports whether a plug-in needs another, over any number of others.
func (r *resolver) reaches(from, to int) bool {
	seen := map[int]bool{from: true}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for _, n := range r.needs[queue[0]] {
			if n.on == to {
				return true
			}
			if !seen[n.on] {
				seen[n.on] = true
				queue = append(queue, n.on)
			}
		}
	}
	return false
}

// start orders those that have no fault.
func (r *resolver) start() {
	waits := make(map[int]int)
	needed := make(map[int][]int)
	free := &byName{of: r.plugins}
	for _, i := range r.active {
		if r.Failed[i] != nil {
			continue
		}
		waits[i] = len(r.needs[i])
		for _, n := range r.needs[i] {
			needed[n.on] = append(needed[n.on], i)
		}
		if waits[i] == 0 {
			heap.Push(free, i)
		}
	}
	for free.Len() > 0 {
		i := heap.Pop(free).(int)
		r.Order = append(r.Order, i)
		for _, by := range needed[i] {
			if waits[by]--; waits[by] == 0 {
				heap.Push(free, by)
			}
		}
	}
	for service, i := range r.Providers {
		if r.Failed[i] != nil {
			delete(r.Providers, service)
		}
	}
}

// byName is a heap of plug-ins, the first by name on top.
type byName struct {
	of   []Plugin
	heap []int
}

func (h *byName) Len() int           { return len(h.heap) }
func (h *byName) Less(i, j int) bool { return h.of[h.heap[i]].Name < h.of[h.heap[j]].Name }
func (h *byName) Swap(i, j int)      { h.heap[i], h.heap[j] = h.heap[j], h.heap[i] }
func (h *byName) Push(x any)         { h.heap = append(h.heap, x.(int)) }
func (h *byName) Pop() any {
	x := h.heap[len(h.heap)-1]
	h.heap = h.heap[:len(h.heap)-1]
	return x
}

func mapped(texts []string, f func(string) string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = f(text)
	}
	return out
}

func sorted(lines []string) []string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	return slices.Compact(lines)
}

// fits says whether a version is in a range.
func fits(version, versions string) ranges.Verdict {
	return ranges.Parse(versions).Fits(ranges.ParseVersion(version))
}

// found is what messages say of a version that is not in a range.
func found(version string, v ranges.Verdict) string { return ranges.ParseVersion(version).Found(v) }

// kind is of the Fault for a version that is not in a range.
func kind(v ranges.Verdict) error {
	if v == ranges.NoVersion {
		return ErrVersion
	}
	return ErrRange
}
