package resolve_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/resolve"
)

// healthy makes n plug-ins that need only those before them, under names in no order, each with at most one service of its own:
// all of them start.
func healthy(r *rand.Rand, n int) plugins {
	all := make(plugins, n)
	names := r.Perm(n)
	for i := range all {
		p := &all[i]
		p.Name, p.Version = fmt.Sprintf("p%02d", names[i]), fmt.Sprintf("1.%d.0", i)
		if r.IntN(2) == 0 {
			p.Provides = []string{"of_" + p.Name}
		}
		for range min(i, r.IntN(4)) {
			on := all[r.IntN(i)]
			switch line := fmt.Sprintf("%s >=%s", on.Name, on.Version); {
			case len(on.Provides) > 0 && r.IntN(2) == 0:
				p.Imports = append(p.Imports, on.Provides...)
			case r.IntN(2) == 0:
				p.Requires = append(p.Requires, on.Name)
			default:
				p.Requires = append(p.Requires, line)
			}
		}
	}
	r.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// needs reports whether a plug-in of healthy, or of wild without ranges, says that it needs another itself.
func needs(p, on resolve.Plugin) bool {
	for _, line := range p.Requires {
		if name, _, _ := strings.Cut(line, " "); name == on.Name {
			return true
		}
	}
	return slices.ContainsFunc(p.Imports, func(service string) bool { return slices.Contains(on.Provides, service) })
}

// closure is which plug-in reaches which over any number of needs (Warshall).
func closure(all plugins) [][]bool {
	n := len(all)
	reach := make([][]bool, n)
	for i := range reach {
		reach[i] = make([]bool, n)
		for j := range reach[i] {
			reach[i][j] = needs(all[i], all[j])
		}
	}
	for k := range n {
		for i := range n {
			for j := range n {
				reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
			}
		}
	}
	return reach
}

func TestOrderRespectsEveryDependency(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		all := healthy(r, 1+r.IntN(25))
		result := shop(all)
		require.Empty(t, result.Failed)
		require.Len(t, result.Order, len(all))
		done := map[int]bool{}
		for p, i := range result.Order {
			for j := range all {
				require.False(t, needs(all[i], all[j]) && !done[j], "%s before %s", all[i].Name, all[j].Name)
			}
			for _, later := range result.Order[p+1:] { // ties by name: what comes later and could start now has a later name
				free := !slices.ContainsFunc(result.Order, func(j int) bool { return needs(all[later], all[j]) && !done[j] })
				require.False(t, free && all[later].Name < all[i].Name, "%s could start before %s", all[later].Name, all[i].Name)
			}
			done[i] = true
		}
	}
}

// Each way in which a plug-in can fail by itself fails those that reach it, and no others, and each says whom it reaches.
func TestAFailureFailsThoseThatReachIt(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	ways := map[error]func(p *resolve.Plugin){
		resolve.ErrMissing: func(p *resolve.Plugin) { p.Requires = append(p.Requires, "nobody") },
		resolve.ErrRange:   func(p *resolve.Plugin) { p.Range = "^7" },
		resolve.ErrHost:    func(p *resolve.Plugin) { p.Host = map[string]string{"shop": "^7"} },
		resolve.ErrService: func(p *resolve.Plugin) { p.Imports = append(p.Imports, "of_nobody") },
		resolve.ErrCircle:  func(p *resolve.Plugin) { p.Requires = append(p.Requires, p.Name) },
		resolve.ErrConflict: func(p *resolve.Plugin) {
			p.Conflicts = append(p.Conflicts, "victim")
		},
	}
	for range 100 {
		base := append(healthy(r, 1+r.IntN(20)), resolve.Plugin{Name: "victim"})
		reach := closure(base)
		for kind, way := range ways {
			broken := r.IntN(len(base) - 1)
			all := slices.Clone(base)
			all[broken].Requires, all[broken].Imports = slices.Clone(all[broken].Requires), slices.Clone(all[broken].Imports)
			way(&all[broken])
			result := shop(all)
			for i := range all {
				f := result.Failed[i]
				if i != broken && !reach[i][broken] {
					require.Nil(t, f, "%s", all[i].Name)
					require.Contains(t, result.Order, i)
					continue
				}
				require.NotNil(t, f, all[i].Name)
				require.ErrorIs(t, f, kind)
				require.Same(t, result.Failed[broken], f.Root())
				if i == broken {
					require.Equal(t, kind, f.Kind)
					require.Nil(t, f.Cause)
					continue
				}
				require.ErrorIs(t, f, resolve.ErrDependencyFailed)
				way := append([]string{all[i].Name}, f.Through...)
				require.Equal(t, all[broken].Name, way[len(way)-1])
				for at := range len(way) - 1 { // each needs the next itself
					from, on := named(all, way[at]), named(all, way[at+1])
					require.True(t, needs(from, on), "%s needs %s", from.Name, on.Name)
				}
			}
		}
	}
}

func named(all plugins, name string) resolve.Plugin {
	return all[slices.IndexFunc(all, func(p resolve.Plugin) bool { return p.Name == name })]
}

// wild makes plug-ins with all that can go wrong.
func wild(r *rand.Rand, n int) plugins {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	some := func(most int, one func() string) (list []string) {
		for range r.IntN(most + 1) {
			list = append(list, one())
		}
		return list
	}
	name := func() string { return fmt.Sprintf("p%d", r.IntN(n+1)) }
	service := func() string { return fmt.Sprintf("s%d", r.IntN(2*n)) }
	line := func() string { return name() + pick("", "", "", " ^1", " >=1.1", " *", " ^2", "^^") }
	var all plugins
	for i := range n {
		p := resolve.Plugin{Name: fmt.Sprintf("p%d", i), Version: pick("1.0.0", "1.2.0", "1.2", "2.0.0-rc.1", "2024-01", ""), Source: fmt.Sprint("source ", r.IntN(100000)),
			Required: r.IntN(4) == 0, Disabled: r.IntN(12) == 0, Requires: some(1, line), Provides: some(2, service)}
		if r.IntN(3) == 0 {
			p.Conflicts, p.Imports = some(1, line), some(1, service)
		}
		switch r.IntN(12) {
		case 0:
			p.Name = name()
			p.Precedence = r.IntN(2)
		case 1:
			p.Range = pick("^1", "^2", "bad", "*")
		case 2:
			p.Host = map[string]string{pick("shop", "crm"): pick("^1", "^2", "*", "")}
		}
		all = append(all, p)
	}
	return all
}

// printed is a result without indexes.
func printed(all plugins, r resolve.Result) (lines []string) {
	label := func(i int) string { return all[i].Name + " " + all[i].Source }
	for _, i := range r.Order {
		lines = append(lines, "start "+label(i))
	}
	var others []string
	for i, f := range r.Failed {
		others = append(others, label(i)+": "+f.Error()+fmt.Sprint(f.Circle, f.Through))
	}
	for i, by := range r.Shadowed {
		others = append(others, label(i)+" shadowed by "+label(by))
	}
	for _, i := range r.Disabled {
		others = append(others, label(i)+" disabled")
	}
	for service, i := range r.Providers {
		others = append(others, service+" of "+label(i))
	}
	slices.Sort(others)
	return append(lines, others...)
}

func TestResultDoesNotDependOnTheInputs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		all := wild(r, 1+r.IntN(15))
		want := printed(all, shop(all))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			for _, list := range [][]string{p.Requires, p.Conflicts, p.Provides, p.Imports} {
				r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			}
		}
		require.Equal(t, want, printed(all, shop(all)))
	}
}

// check says what must hold whatever the plug-ins are.
func check(t *testing.T, all plugins, result resolve.Result) {
	position := map[int]int{}
	for at, i := range result.Order {
		position[i] = at
	}
	for i, p := range all {
		places := 0
		for _, in := range []bool{slices.Contains(result.Order, i), result.Failed[i] != nil, slices.Contains(result.Disabled, i)} {
			if in {
				places++
			}
		}
		if _, shadowed := result.Shadowed[i]; shadowed {
			places++
		}
		require.Equal(t, 1, places, "%s is in one of the four", p.Name)
		if f := result.Failed[i]; f != nil {
			for what, text := range map[string]string{"plug-in": f.Plugin, "step": f.Step, "found": f.Found, "expected": f.Expected, "remedy": f.Remedy} {
				require.True(t, text != "" || what == "plug-in" && p.Name == "", "%s says %s", p.Name, what)
			}
			require.NotContains(t, f.Error(), "\n")
			require.NotContains(t, f.Error(), "\x1b")
		}
	}
	for i, at := range position {
		for _, line := range all[i].Requires {
			name, _ := ranges.Split(line)
			on := slices.IndexFunc(result.Order, func(j int) bool { return all[j].Name == name })
			require.True(t, on >= 0 && on < at, "%s starts behind %s", all[i].Name, name)
		}
		for _, service := range all[i].Imports {
			if service == "points" {
				continue
			}
			on, ok := result.Providers[service]
			require.True(t, ok && position[on] < at, "%s starts behind the provider of %s", all[i].Name, service)
		}
	}
	for service, i := range result.Providers {
		_, starts := position[i]
		require.True(t, starts && slices.Contains(all[i].Provides, service))
	}
}

func TestWhatHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	kinds := map[error]int{}
	for range 3000 {
		all := wild(r, 1+r.IntN(15))
		result := shop(all)
		check(t, all, result)
		for _, f := range result.Failed {
			kinds[f.Kind]++
			if f.Kind == resolve.ErrCircle {
				require.Contains(t, f.Circle, f.Plugin)
				for i, name := range f.Circle {
					next := f.Circle[(i+1)%len(f.Circle)]
					require.True(t, slices.ContainsFunc(all, func(p resolve.Plugin) bool {
						return p.Name == name && slices.ContainsFunc(all, func(on resolve.Plugin) bool { return on.Name == next && (requires(p, on) || needs(p, on)) })
					}), "%s needs %s", name, next)
				}
			}
		}
	}
	assert.Len(t, kinds, 9, "the generator makes each kind of fault")
}

func requires(p, on resolve.Plugin) bool {
	return slices.ContainsFunc(p.Requires, func(line string) bool {
		name, _ := ranges.Split(line)
		return name == on.Name
	})
}

// Two circles with a bridge between: those on a circle say that one, the bridge fails through the one that it needs.
func TestCirclesAndWhatStandsBetween(t *testing.T) {
	all := plugins{
		{Name: "a", Requires: []string{"b"}}, {Name: "b", Requires: []string{"a", "bridge"}}, {Name: "bridge", Requires: []string{"x"}},
		{Name: "x", Requires: []string{"y"}}, {Name: "y", Requires: []string{"z"}}, {Name: "z", Requires: []string{"x", "y"}}, {Name: "of_x", Requires: []string{"x"}},
	}
	r := shop(all)
	for i, want := range [][]string{{"a", "b"}, {"a", "b"}, nil, {"x", "y", "z"}, {"y", "z"}, {"y", "z"}, nil} {
		require.NotNil(t, r.Failed[i])
		assert.Equal(t, want, r.Failed[i].Circle, all[i].Name)
		require.ErrorIs(t, r.Failed[i], resolve.ErrCircle)
	}
	assert.Equal(t, []string{"x"}, r.Failed[2].Through)
}

func TestResolveLeavesItsArgumentsAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	all := wild(r, 30)
	before := fmt.Sprintf("%#v", all)
	offers := map[string]bool{"s1": true}
	resolve.Resolve("shop", "1.0.0", all, offers)
	assert.Equal(t, before, fmt.Sprintf("%#v", all))
	assert.Equal(t, map[string]bool{"s1": true}, offers)
}

func TestVersionsOfTheApplication(t *testing.T) {
	all := plugins{{Name: "a", Host: map[string]string{"shop": "^1.4"}}, {Name: "b", Host: map[string]string{"shop": ""}}}
	for version, want := range map[string]string{"1.4": "a b", "v1.5.0": "a b", "1.3.9": "b", "1.5.0-rc.1": "b", "": "b", "2024-01": "b", "01.2.3.4": "b"} {
		r := resolve.Resolve("shop", version, all, nil)
		assert.Equal(t, want, started(all, r), version)
		if f := r.Failed[0]; f != nil {
			assert.ErrorIs(t, f, resolve.ErrHost)
			assert.Contains(t, f.Found, "shop "+version)
		}
	}
}

// FuzzLines takes a line of `requires` or `conflicts`, the version of who is named, a range of the user's, and the application's
// version.
func FuzzLines(f *testing.F) {
	for _, s := range [][4]string{{"b ^1.2", "1.3.0", "*", "1.4.0"}, {"b>=1, <2 || 3.x", "3", "~1", ""}, {" b 1.0 - 2.0", "2024-01", ">=0-0", "v1"}, {"^1", "", "^^", "1.0.0-a+b"}, {"b\x00\x1b[2J", "\xff", "!=1", "x"}} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, line, version, versions, app string) {
		name, wanted := ranges.Split(line)
		require.Equal(t, strings.TrimSpace(line), strings.TrimSpace(name+line[strings.Index(line, name)+len(name):]))
		all := plugins{
			{Name: "a", Version: "1.0.0", Requires: []string{line}}, {Name: "b", Version: version}, {Name: "c", Conflicts: []string{line}},
			{Name: "d", Version: version, Range: versions}, {Name: "e", Host: map[string]string{"shop": wanted}}, {Name: name, Version: version, Precedence: 1},
		}
		result := resolve.Resolve("shop", app, all, nil)
		check(t, all, result)
		if len(result.Failed) == 0 || name != "b" {
			return
		}
		if result.Failed[0] == nil { // what is in the range of `requires` is in that of `conflicts`
			require.NotNil(t, result.Failed[2])
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	all := healthy(rand.New(rand.NewPCG(1, 1)), 1000)
	for b.Loop() {
		if len(shop(all).Order) != len(all) {
			b.Fatal("plug-ins are missing")
		}
	}
}
