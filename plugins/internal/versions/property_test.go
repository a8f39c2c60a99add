package versions_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
)

// against compares with brute force, and says whether there is a solution.
func against(t *testing.T, w *world, p versions.Problem) (solved bool) {
	t.Helper()
	want, there := best(w, p)
	solution, conflict := solve(t, w, p)
	said := fmt.Sprintf("%+v\n%+v", p, w.all)
	if !there {
		require.Nil(t, solution, said)
		explained(t, w, p, conflict, said)
		return false
	}
	require.Nil(t, conflict, said)
	got := choice{}
	for name, c := range solution {
		got[name] = c.Version
		require.Equal(t, w.all[name][c.Version].Data, c.Data)
		require.Equal(t, name, c.Name)
	}
	require.True(t, valid(w, p, got), said)
	require.Equal(t, want, got, said)
	return true
}

// explained says what must hold of a conflict: what it says is true, cannot be met, and is no more than that takes.
func explained(t *testing.T, w *world, p versions.Problem, c *versions.Conflict, said string) {
	t.Helper()
	require.NotNil(t, c, said)
	require.NotEmpty(t, c.Facts)
	require.NotEmpty(t, c.Remedy, c.Explanation)
	for _, f := range c.Facts {
		require.True(t, says(w, p, f), "%+v\n%s", f, said)
	}
	require.False(t, met(w, p, c.Facts), "%s\n%s", c.Explanation, said)
	for i := range c.Facts {
		fewer := slices.Delete(slices.Clone(c.Facts), i, i+1)
		require.True(t, met(w, p, fewer), "%s: %+v is one too many\n%s", c.Explanation, c.Facts[i], said)
	}
}

// says reports whether a fact is one.
func says(w *world, p versions.Problem, f versions.Fact) bool {
	c := w.all[f.Plugin][f.Version]
	line := func(line string) bool {
		name, wanted := ranges.Split(line)
		return name == f.On && wanted == f.Range
	}
	switch f.Kind {
	case versions.Asked:
		return slices.Contains(p.Roots, versions.Root{Name: f.On, Range: f.Range, By: f.By})
	case versions.Pinned:
		return p.Locked[f.On] == versions.Locked{Version: f.Range, Pinned: true, Held: f.By != ""}
	case versions.Needs:
		return slices.ContainsFunc(c.Requires, line)
	case versions.Conflicts:
		return slices.ContainsFunc(c.Conflicts, line)
	case versions.Host:
		return len(c.Host) > 0 && !(c.Host["shop"] == f.Range && in(p.AppVersion, f.Range) && f.Range != "")
	case versions.LeftOut:
		return c.Out == f.Text || w.all[f.Plugin][f.Version].Data == nil
	case versions.Senseless:
		return slices.ContainsFunc(slices.Concat(c.Requires, c.Conflicts), func(line string) bool {
			name, wanted := ranges.Split(line)
			return name == "" || !ranges.Parse(wanted).Sensible()
		})
	case versions.Circle:
		for i, l := range f.Circle {
			for _, version := range l.Versions {
				if !slices.ContainsFunc(w.all[l.Plugin][version].Requires, func(line string) bool {
					name, _ := ranges.Split(line)
					return name == l.On
				}) {
					return false
				}
			}
			if l.On != f.Circle[(i+1)%len(f.Circle)].Plugin {
				return false
			}
		}
		return len(f.Circle) > 0
	}
	return false
}

// unlisted is a version that fits everywhere: that of a locked plug-in whose versions were not asked for, in place of all that may be there.
const unlisted = "another"

// met reports whether facts can be met by any choice of versions, locked ones included.
func met(w *world, p versions.Problem, facts []versions.Fact) (ok bool) {
	there := &world{all: map[string]map[string]versions.Candidate{}}
	for name, all := range w.all {
		there.all[name] = map[string]versions.Candidate{}
		for version, c := range all {
			there.all[name][version] = c
		}
	}
	for name, lock := range p.Locked {
		if there.all[name] == nil {
			there.all[name] = map[string]versions.Candidate{}
		}
		there.all[name][lock.Version] = versions.Candidate{}
		if w.asked[name] == 0 {
			there.all[name][unlisted] = versions.Candidate{}
		}
	}
	each(there, func(c choice) {
		ok = ok || !slices.ContainsFunc(facts, func(f versions.Fact) bool {
			version, there := c[f.On]
			if f.Kind != versions.Asked && f.Kind != versions.Pinned && f.Kind != versions.Circle && c[f.Plugin] != f.Version {
				return false // nothing is said of it
			}
			switch f.Kind {
			case versions.Asked, versions.Needs:
				return !there || version != unlisted && !in(version, f.Range)
			case versions.Pinned:
				return there && version != f.Range
			case versions.Conflicts:
				return there && version != unlisted && ranges.Parse(f.Range).MayFit(ranges.ParseVersion(version))
			case versions.Circle:
				return !slices.ContainsFunc(f.Circle, func(l versions.Link) bool { return !slices.Contains(l.Versions, c[l.Plugin]) })
			}
			return true
		})
	})
	return ok
}

func TestAgainstBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	solved, kinds := map[bool]int{}, map[versions.Kind]int{}
	universes := 1200
	if raceDetector { // nothing of it is concurrent
		universes = 200
	}
	for i := range universes {
		w, p := wild(r, i%5)
		there := against(t, w, p)
		solved[there]++
		if !there {
			_, conflict := solve(t, w, p)
			for _, f := range conflict.Facts {
				kinds[f.Kind]++
			}
		}
	}
	t.Log(solved, kinds)
	if raceDetector {
		return // too few for the counts
	}
	assert.Greater(t, solved[true], 300)
	assert.Greater(t, solved[false], 400)
	assert.Len(t, kinds, 8, "conflicts of all kinds: %v", kinds)
}

// shuffled is the same problem in another order. The lists of a candidate are in another order, too.
func shuffled(r *rand.Rand, w *world, p versions.Problem) (*world, versions.Problem) {
	other := of()
	for name, all := range w.all {
		other.all[name] = map[string]versions.Candidate{}
		for version, c := range all {
			c.Requires, c.Conflicts = slices.Clone(c.Requires), slices.Clone(c.Conflicts)
			for _, list := range [][]string{c.Requires, c.Conflicts} {
				r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			}
			other.all[name][version] = c
		}
	}
	p.Roots = slices.Clone(p.Roots)
	r.Shuffle(len(p.Roots), func(i, j int) { p.Roots[i], p.Roots[j] = p.Roots[j], p.Roots[i] })
	return other, p
}

func TestTheOrderOfWhatIsGivenDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 600 {
		w, p := wild(r, i%5)
		solution, conflict := solve(t, w, p)
		asked := w.asked
		again, other := shuffled(r, w, p)
		solutionAgain, conflictAgain := solve(t, again, other)
		require.Equal(t, text(solution), text(solutionAgain))
		require.Equal(t, conflict, conflictAgain)
		require.Equal(t, asked, again.asked)
	}
}

func FuzzAgainstBruteForce(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed, byte(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, hard byte) {
		w, p := wild(rand.New(rand.NewPCG(seed, 0)), int(hard%10))
		against(t, w, p)
	})
}

// FuzzLines takes what a hostile registry may say.
func FuzzLines(f *testing.F) {
	for _, s := range [][5]string{{"1.0.0", "b ^1", "c", "^1.4", "^1"}, {"", "", "\x00", "\x1b[2J", "^^"}, {"1.0.0", "b ^2", "", "*", "^1"}, {"2024-01", "a", "a", "*", ""}, {"v1", "b>=1, <2 || 3.x", "b 1.0 - 2.0", "~1", ">=0-0"}} {
		f.Add(s[0], s[1], s[2], s[3], s[4])
	}
	f.Fuzz(func(t *testing.T, version, requires, conflicts, host, wanted string) {
		w := of("b 1.0.0", "b 2.0.0: out \x1b[2J\n")
		w.all["a"] = map[string]versions.Candidate{version: {Requires: []string{requires}, Conflicts: []string{conflicts}, Host: map[string]string{"shop": host}}}
		p := asks("a")
		p.Roots[0].Range = wanted
		solution, conflict := solve(t, w, p)
		if conflict == nil {
			require.Equal(t, version, solution["a"].Version)
			return
		}
		require.NotContains(t, conflict.Error(), "\x1b")
		require.NotContains(t, conflict.Error(), "\n")
	})
}
