package versions_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
)

// world is a universe: by name and version. It counts what it is asked.
type world struct {
	all   map[string]map[string]versions.Candidate
	asked map[string]int // "tax" its versions, "tax 1.0.0" a candidate
	fails map[string]error
}

func (w *world) ask(what string) error {
	w.asked[what]++
	return w.fails[what]
}

func (w *world) Versions(_ context.Context, name string) ([]string, error) {
	texts := slices.Collect(maps.Keys(w.all[name])) // in another order each time
	return texts, w.ask(name)
}

func (w *world) Candidate(_ context.Context, name, version string) (versions.Candidate, error) {
	c, ok := w.all[name][version]
	if !ok {
		c.Out = "is not there any more"
	}
	return c, w.ask(name + " " + version)
}

// of makes a world of lines: "tax 1.0.0: requires base ^1; conflicts old; host.shop ^2; out has no file for linux/arm64".
func of(lines ...string) *world {
	w := &world{all: map[string]map[string]versions.Candidate{}, asked: map[string]int{}, fails: map[string]error{}}
	for _, line := range lines {
		head, rest, _ := strings.Cut(line, ":")
		name, version, _ := strings.Cut(head, " ")
		c := versions.Candidate{Host: map[string]string{}, Data: line}
		for part := range strings.SplitSeq(rest, ";") {
			what, text, _ := strings.Cut(strings.TrimSpace(part), " ")
			switch app, host := strings.CutPrefix(what, "host."); {
			case host:
				c.Host[app] = text
			case what == "requires":
				c.Requires = append(c.Requires, text)
			case what == "conflicts":
				c.Conflicts = append(c.Conflicts, text)
			case what == "out":
				c.Out = text
			}
		}
		if w.all[name] == nil {
			w.all[name] = map[string]versions.Candidate{}
		}
		w.all[name][version] = c
	}
	return w
}

// asks is a problem of the application shop 1.4.0, from lines: "tax ^1" is what config.yaml asks for, "tax ^1 <command" the command line,
// "=tax 1.0.0" is locked, "!tax 1.0.0" pinned, "~tax 1.0.0" held.
func asks(lines ...string) versions.Problem {
	p := versions.Problem{App: "shop", AppVersion: "1.4.0", Locked: map[string]versions.Locked{}}
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, "="); ok {
			name, version, _ := strings.Cut(rest, " ")
			p.Locked[name] = versions.Locked{Version: version}
			continue
		}
		if held, ok := strings.CutPrefix(line, "~"); ok {
			name, version, _ := strings.Cut(held, " ")
			p.Locked[name] = versions.Locked{Version: version, Pinned: true, Held: true}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "!"); ok {
			name, version, _ := strings.Cut(rest, " ")
			p.Locked[name] = versions.Locked{Version: version, Pinned: true}
			continue
		}
		line, command := strings.CutSuffix(line, " <command")
		name, wanted, _ := strings.Cut(line, " ")
		by := "config.yaml"
		if command {
			by = "the command line"
		}
		p.Roots = append(p.Roots, versions.Root{Name: name, Range: wanted, By: by})
	}
	return p
}

// text is a solution in one line, by name.
func text(solution map[string]versions.Candidate) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(solution)) {
		all = append(all, name+" "+solution[name].Version)
	}
	return strings.Join(all, ", ")
}

// choice is a version of some plug-ins.
type choice map[string]string

// in reports whether a version is in a range.
func in(version, wanted string) bool {
	return ranges.Parse(wanted).Fits(ranges.ParseVersion(version)) == ranges.In
}

// reachable is what is asked for, and what the chosen versions require, in the order of rule 2: row by row, each by name.
func reachable(w *world, p versions.Problem, c choice) (names []string) {
	row := map[string]bool{}
	for _, r := range p.Roots {
		row[r.Name] = true
	}
	for len(row) > 0 {
		now := slices.Sorted(maps.Keys(row))
		names = append(names, now...)
		row = map[string]bool{}
		for _, name := range now {
			for _, line := range w.all[name][c[name]].Requires {
				if other, _ := ranges.Split(line); !slices.Contains(names, other) {
					row[other] = true
				}
			}
		}
	}
	return names
}

// valid reports whether a choice is a solution, as the package's description says.
func valid(w *world, p versions.Problem, c choice) bool {
	for _, r := range p.Roots {
		if version, ok := c[r.Name]; !ok || !in(version, r.Range) {
			return false
		}
	}
	for name, lock := range p.Locked {
		if version, ok := c[name]; ok && lock.Pinned && version != lock.Version {
			return false
		}
	}
	for name, version := range c {
		candidate, ok := w.all[name][version]
		if !ok || candidate.Out != "" || circular(w, c, name) {
			return false
		}
		if wanted, named := candidate.Host[p.App]; len(candidate.Host) > 0 && (!named || !in(p.AppVersion, wanted)) {
			return false
		}
		for _, line := range candidate.Requires {
			other, wanted := ranges.Split(line)
			if v, ok := c[other]; !ok || !in(v, wanted) {
				return false
			}
		}
		for _, line := range candidate.Conflicts {
			other, wanted := ranges.Split(line)
			if other == "" || !ranges.Parse(wanted).Sensible() {
				return false
			}
			if v, ok := c[other]; ok && other != name && ranges.Parse(wanted).MayFit(ranges.ParseVersion(v)) {
				return false
			}
		}
	}
	names := reachable(w, p, c)
	return len(names) == len(c)
}

// circular reports whether a plug-in needs itself.
func circular(w *world, c choice, start string) bool {
	seen := map[string]bool{}
	queue := []string{start}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, line := range w.all[queue[0]][c[queue[0]]].Requires {
			other, _ := ranges.Split(line)
			if other == start {
				return true
			}
			if !seen[other] {
				seen[other] = true
				queue = append(queue, other)
			}
		}
	}
	return false
}

// each calls f for each choice of versions that there are, f's argument is used again.
func each(w *world, f func(c choice)) {
	names := slices.Sorted(maps.Keys(w.all))
	c := choice{}
	var rest func(at int)
	rest = func(at int) {
		if at == len(names) {
			f(c)
			return
		}
		rest(at + 1)
		for version := range w.all[names[at]] {
			c[names[at]] = version
			rest(at + 1)
		}
		delete(c, names[at])
	}
	rest(0)
}

// best finds all solutions, and of them the one that the rules 1 and 2 name.
func best(w *world, p versions.Problem) (choice, bool) {
	var all []choice
	each(w, func(c choice) {
		if valid(w, p, c) {
			all = append(all, maps.Clone(c))
		}
	})
	if len(all) == 0 {
		return nil, false
	}
	only := func(keep func(c choice) bool) {
		if slices.ContainsFunc(all, keep) {
			all = slices.DeleteFunc(all, func(c choice) bool { return !keep(c) })
		}
	}
	root := map[string]bool{}
	pre := map[string]bool{}
	for _, r := range p.Roots {
		root[r.Name] = true
		pre[r.Name] = pre[r.Name] || strings.Contains(r.Range, "-")
	}
	for _, roots := range []bool{true, false} {
		for _, name := range slices.Sorted(maps.Keys(p.Locked)) {
			if root[name] == roots {
				only(func(c choice) bool { return c[name] == "" || c[name] == p.Locked[name].Version })
			}
		}
	}
	for at := 0; at < len(reachable(w, p, all[0])); at++ { // what comes before is the same in all
		name := reachable(w, p, all[0])[at]
		order := slices.Collect(maps.Keys(w.all[name]))
		slices.SortFunc(order, func(a, b string) int { return better(name, a, b, p, pre[name]) })
		for _, version := range order {
			if slices.ContainsFunc(all, func(c choice) bool { return c[name] == version }) {
				only(func(c choice) bool { return c[name] == version })
				break
			}
		}
	}
	return all[0], true
}

// better orders versions of a plug-in, the best first.
func better(name, a, b string, p versions.Problem, prereleases bool) int {
	class := func(text string) int {
		v := ranges.ParseVersion(text)
		switch {
		case text == p.Locked[name].Version:
			return 0
		case !v.Comparable():
			return 3
		case v.Prerelease() && !prereleases:
			return 2
		}
		return 1
	}
	if c := class(a) - class(b); c != 0 {
		return c
	}
	return ranges.ParseVersion(b).Compare(ranges.ParseVersion(a))
}

// wild makes a small universe and a problem in it, with all that can go wrong. hard is how much does.
func wild(r *rand.Rand, hard int) (*world, versions.Problem) {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	n := 1 + r.IntN(4) + r.IntN(20)/19
	name := func() string { return fmt.Sprintf("p%d", r.IntN(n+r.IntN(2)*r.IntN(2))) }
	wanted := func() string {
		if r.IntN(6) > hard {
			return pick("", "", " >=1", " ^1 || ^2", " >=1.1", " <2")
		}
		return pick("", " ^1", " ^2", " >=1.1", " <2", " *", " 1.0.0", " ^2.0.0-0", " >=1.1, <2.1", " ^1 || 2.0.0", " ^9")
	}
	var lines []string
	for i := range n {
		for _, version := range []string{"1.0.0", "1.1.0", "1.2", "2.0.0-rc.1", "2.0.0", "v2.1.0", "2024-01"} {
			if r.IntN(3) == 0 || strings.Count(strings.Join(lines, "\n"), fmt.Sprintf("p%d ", i)) > 3 {
				continue
			}
			line := fmt.Sprintf("p%d %s:", i, version)
			for range r.IntN(3) {
				other := name()
				if r.IntN(6) > hard { // no circle
					other = fmt.Sprintf("p%d", i+1+r.IntN(2))
				}
				if other < fmt.Sprintf("p%d", n) || r.IntN(8) < hard {
					line += "; requires " + other + wanted()
				}
			}
			if r.IntN(10) < hard {
				line += "; conflicts " + name() + wanted()
			}
			switch r.IntN(100 / (1 + 2*hard)) {
			case 0:
				line += "; out has no file for plan9/mips"
			case 1:
				line += "; host." + pick("shop", "crm") + pick(" ^1", " ^2", " bad")
			case 2:
				line += "; " + pick("requires", "conflicts") + pick(" ^1", " p0 ^^")
			}
			lines = append(lines, line)
		}
	}
	var problem []string
	for range 1 + r.IntN(3) {
		problem = append(problem, name()+wanted()+pick("", " <command"))
	}
	for range r.IntN(4) {
		problem = append(problem, pick("=", "=", "!")+name()+pick(" 1.0.0", " 1.1.0", " 2.0.0", " 0.9.0"))
	}
	return of(lines...), asks(problem...)
}

func solve(t testing.TB, w *world, p versions.Problem) (map[string]versions.Candidate, *versions.Conflict) {
	t.Helper()
	w.asked = map[string]int{}
	solution, err := versions.Resolve(t.Context(), p, w)
	for what, times := range w.asked {
		require.Equal(t, 1, times, "%s is asked once", what)
	}
	if err == nil {
		return solution, nil
	}
	conflict, ok := err.(*versions.Conflict)
	require.True(t, ok, "%v", err)
	return nil, conflict
}
