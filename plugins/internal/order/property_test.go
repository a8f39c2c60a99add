package order_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/order"
)

// random makes n hooks, and the user's list for half of the points. Names that nobody has are among those that are said.
func random(r *rand.Rand, n int) (hooks []order.Hook, user []string) {
	name := func() string { return fmt.Sprintf("p%02d", r.IntN(n+1)) }
	names := func() (some []string) {
		for range r.IntN(3) {
			some = append(some, name())
		}
		return some
	}
	for i := range n {
		h := order.Hook{Plugin: fmt.Sprintf("p%02d", i), Priority: []int{0, 0, 0, 1, 1, -3, 10}[r.IntN(7)], Wrap: r.IntN(2) == 0}
		switch r.IntN(8) {
		case 0:
			h.First = true
		case 1:
			h.Last = true
		case 2:
			h.First, h.Last = r.IntN(4) == 0, r.IntN(4) == 0
		}
		if r.IntN(2) == 0 {
			h.Before = names()
		}
		if r.IntN(2) == 0 {
			h.After = names()
		}
		hooks = append(hooks, h)
	}
	if r.IntN(2) == 0 {
		for range r.IntN(n + 1) {
			user = append(user, name())
		}
		if r.IntN(3) > 0 {
			user = slices.Insert(user, r.IntN(len(user)+1), "*")
		}
	}
	r.Shuffle(n, func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
	return hooks, user
}

// said is a relation as a hook says it: indexes of hooks.
type said struct {
	from, to, sayer int
	text            string
}

// model is what the documentation says of a point, written once more without a graph: over the lists themselves.
type model struct {
	hooks []order.Hook
	user  []string
	at    map[string]int // the index of a plug-in's hook
}

func newModel(hooks []order.Hook, user []string) *model {
	m := &model{hooks, user, map[string]int{}}
	for i, h := range hooks {
		m.at[h.Plugin] = i
	}
	return m
}

// better reports whether a hook is better by priority and name.
func (m *model) better(a, b int) bool {
	if m.hooks[a].Priority != m.hooks[b].Priority {
		return m.hooks[a].Priority > m.hooks[b].Priority
	}
	return m.hooks[a].Plugin < m.hooks[b].Plugin
}

// listed returns the hooks that the user's list puts in front, and behind.
func (m *model) listed() (front, back []int) {
	star := slices.Index(m.user, "*")
	for i, name := range m.user {
		hook, ok := m.at[name]
		if !ok || slices.Index(m.user, name) < i {
			continue
		}
		if star < 0 || i < star {
			front = append(front, hook)
		} else {
			back = append(back, hook)
		}
	}
	return front, back
}

func (m *model) named(i int) bool { return slices.Contains(m.user, m.hooks[i].Plugin) }

func (m *model) tier(i int) int {
	h := m.hooks[i]
	switch {
	case h.First && !h.Last:
		return -1
	case h.Last && !h.First:
		return 1
	}
	return 0
}

// relations returns all that hooks say of hooks that are there, the strongest first.
func (m *model) relations() (all []said) {
	for i, h := range m.hooks {
		for _, name := range h.Before {
			if t, ok := m.at[name]; ok && t != i {
				all = append(all, said{i, t, i, "before " + name})
			}
		}
		for _, name := range h.After {
			if t, ok := m.at[name]; ok && t != i {
				all = append(all, said{t, i, i, "after " + name})
			}
		}
	}
	slices.SortFunc(all, func(a, b said) int {
		if a.sayer != b.sayer {
			if m.better(a.sayer, b.sayer) {
				return -1
			}
			return 1
		}
		own := func(s said) int { // before, then after
			if s.from == s.sayer {
				return 0
			}
			return 1
		}
		return cmp.Or(own(a)-own(b), cmp.Compare(a.text, b.text))
	})
	return all
}

// inRest returns the relations that neither the user's list nor first and last decide.
func (m *model) inRest() []said {
	return slices.DeleteFunc(m.relations(), func(s said) bool {
		return m.named(s.from) || m.named(s.to) || m.tier(s.from) != m.tier(s.to)
	})
}

// brute returns the order by trying all: the first, by priority and name, of the permutations that keep to what must be kept; and
// the relations that were left out. A relation is kept when some permutation keeps it and all stronger ones.
func (m *model) brute() (best []int, out map[[2]int]bool) {
	n := len(m.hooks)
	var perms [][]int // the place of each hook, of those that keep to the user's list and the tiers
	front, back := m.listed()
	var extend func(order []int)
	extend = func(order []int) {
		if len(order) == n {
			place := make([]int, n)
			for p, h := range order {
				place[h] = p
			}
			perms = append(perms, place)
			return
		}
		for h := range n {
			if slices.Contains(order, h) {
				continue
			}
			p := len(order)
			switch {
			case p < len(front):
				if front[p] != h {
					continue
				}
			case p >= n-len(back):
				if back[p-(n-len(back))] != h {
					continue
				}
			case m.named(h), p > len(front) && m.tier(order[p-1]) > m.tier(h):
				continue
			}
			extend(append(slices.Clone(order), h))
		}
	}
	extend(nil)
	out = map[[2]int]bool{}
	for _, s := range m.inRest() {
		keep := slices.DeleteFunc(slices.Clone(perms), func(place []int) bool { return place[s.from] > place[s.to] })
		if len(keep) == 0 {
			out[[2]int{s.from, s.to}] = true
			continue
		}
		perms = keep
	}
	for _, place := range perms {
		order := make([]int, n)
		for h, p := range place {
			order[p] = h
		}
		if best == nil || slices.CompareFunc(order, best, func(a, b int) int {
			if a == b {
				return 0
			}
			if m.better(a, b) {
				return -1
			}
			return 1
		}) < 0 {
			best = order
		}
	}
	return best, out
}

func indexes(places []order.Place) (all []int) {
	for _, p := range places {
		all = append(all, p.Hook)
	}
	return all
}

func TestOrderIsTheFirstOfAllThatAreAllowed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	circles := 0
	for range 3000 {
		hooks, user := random(r, 1+r.IntN(6))
		m := newModel(hooks, user)
		want, out := m.brute()
		places, faults := order.Of("save", hooks, user, nil)
		require.Equal(t, want, indexes(places), "%+v, list %q", hooks, user)
		found := map[[2]int]bool{}
		for _, f := range faults {
			if f.Kind == order.ErrCircle && len(f.Circle) > 1 {
				found[[2]int{m.at[f.Circle[0]], m.at[f.Circle[1]]}] = true
			}
		}
		require.Equal(t, out, found, "%+v, list %q", hooks, user)
		circles += len(out)
	}
	assert.Greater(t, circles, 100, "the generator makes circles")
}

// check says what must hold of an order, whatever its size.
func check(t *testing.T, hooks []order.Hook, user []string) {
	m := newModel(hooks, user)
	places, faults := order.Of("save", hooks, user, nil)
	got := indexes(places)
	place := make([]int, len(hooks))
	for p, h := range got {
		place[h] = p
	}
	all := slices.Sorted(slices.Values(got))
	require.Len(t, all, len(hooks))
	for i, h := range all {
		require.Equal(t, i, h, "each hook once")
	}

	front, back := m.listed()
	require.Equal(t, front, append([]int(nil), got[:len(front)]...), "the user's list")
	require.Equal(t, back, append([]int(nil), got[len(got)-len(back):]...), "the user's list, behind '*'")

	related := map[[2]int]bool{} // kept, in the rest
	left := leftOut(t, m, faults)
	for _, s := range m.inRest() {
		if !left[[2]int{s.from, s.to}] {
			related[[2]int{s.from, s.to}] = true
			require.Less(t, place[s.from], place[s.to], "%s of %s", s.text, hooks[s.sayer].Plugin)
		}
	}
	for _, s := range m.relations() { // what the user overrides is said, what is kept is not
		if m.named(s.from) || m.named(s.to) {
			at := s.sayer
			if !m.named(at) {
				at = s.from + s.to - s.sayer
			}
			require.Equal(t, place[s.from] > place[s.to], strings.Contains(places[place[at]].Reason+",", "`"+s.text+"`"), places[place[at]].Reason)
		}
	}
	rest := got[len(front) : len(got)-len(back)]
	for i := 1; i < len(rest); i++ {
		a, b := rest[i-1], rest[i]
		require.LessOrEqual(t, m.tier(a), m.tier(b))
		if m.tier(a) == m.tier(b) && m.better(b, a) {
			require.True(t, related[[2]int{a, b}], "%s stands before the better %s for a reason", hooks[a].Plugin, hooks[b].Plugin)
		}
	}
	for p, h := range got {
		for _, word := range strings.Split(strings.SplitN(places[p].Reason, ";", 2)[0], ", ") {
			if name, ok := strings.CutPrefix(word, "before "); ok {
				require.True(t, related[[2]int{h, m.at[name]}] && m.better(m.at[name], h), "%s: %s", hooks[h].Plugin, word)
			}
			if name, ok := strings.CutPrefix(word, "after "); ok {
				require.True(t, related[[2]int{m.at[name], h}], "%s: %s", hooks[h].Plugin, word)
			}
		}
	}
}

// leftOut returns the relations that faults say were left out, each of which is the weakest of a circle that is there.
func leftOut(t *testing.T, m *model, faults []order.Fault) map[[2]int]bool {
	left, strength := map[[2]int]bool{}, map[[2]int]int{}
	for i, s := range slices.Backward(m.relations()) {
		strength[[2]int{s.from, s.to}] = i // that of the strongest who says it
	}
	for _, f := range faults {
		if f.Kind != order.ErrCircle || len(f.Circle) == 1 {
			continue
		}
		ends := [2]int{m.at[f.Circle[0]], m.at[f.Circle[1]]}
		left[ends] = true
		for i, name := range f.Circle {
			next := [2]int{m.at[name], m.at[f.Circle[(i+1)%len(f.Circle)]]}
			own, ok := strength[next]
			require.True(t, ok, "%s before the next of %q", name, f.Circle)
			require.LessOrEqual(t, own, strength[ends], "%q: the weakest is left out", f.Circle)
		}
	}
	return left
}

func TestWhatHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		hooks, user := random(r, 1+r.IntN(40))
		check(t, hooks, user)
	}
}

func TestOrderDoesNotDependOnTheInputs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	shuffle := func(names []string) {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	for range 1000 {
		hooks, user := random(r, 1+r.IntN(30))
		places, faults := order.Of("save", hooks, user, nil)
		want := print(hooks, places)
		for i := range hooks {
			shuffle(hooks[i].Before)
			shuffle(hooks[i].After)
		}
		r.Shuffle(len(hooks), func(i, j int) { hooks[i], hooks[j] = hooks[j], hooks[i] })
		places, again := order.Of("save", hooks, user, nil)
		require.Equal(t, want, print(hooks, places))
		require.Equal(t, faults, again)
	}
}

func TestWrappersAreOrderedAsOthers(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		hooks, user := random(r, 1+r.IntN(20))
		places, _ := order.Of("save", hooks, user, nil)
		for i := range hooks {
			hooks[i].Wrap, hooks[i].Optional = !hooks[i].Wrap, !hooks[i].Optional
		}
		again, _ := order.Of("save", hooks, user, nil)
		require.Equal(t, places, again)
	}
}

func TestPriorityAloneIsASort(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		hooks, _ := random(r, 1+r.IntN(30))
		for i := range hooks {
			hooks[i] = order.Hook{Plugin: hooks[i].Plugin, Priority: hooks[i].Priority}
		}
		places, faults := order.Of("save", hooks, nil, nil)
		require.Empty(t, faults)
		require.True(t, slices.IsSortedFunc(indexes(places), func(a, b int) int {
			return cmp.Or(cmp.Compare(hooks[b].Priority, hooks[a].Priority), cmp.Compare(hooks[a].Plugin, hooks[b].Plugin))
		}))
	}
}

func TestOfLeavesItsArgumentsAlone(t *testing.T) {
	hooks := []order.Hook{{Plugin: "b", Before: []string{"z", "a", "z"}, After: []string{"y", "b"}}, {Plugin: "a"}}
	user := []string{"x", "*", "*", "a"}
	order.Of("save", hooks, user, nil)
	assert.Equal(t, []order.Hook{{Plugin: "b", Before: []string{"z", "a", "z"}, After: []string{"y", "b"}}, {Plugin: "a"}}, hooks)
	assert.Equal(t, []string{"x", "*", "*", "a"}, user)
}

// FuzzOf takes a hook a line, `name priority words before,… after,…`, and the user's list: names of any bytes, and several hooks
// of one name.
func FuzzOf(f *testing.F) {
	f.Add("a 1 first b c\nb 0 last,first a a\nc -1 - - b", "c * a")
	f.Add("a 1 first b c\na 0 last a b\nb 0 - a a", "a,* b")
	f.Add("* 0 - * a\na 9 - b\nb 9 - a", "*")
	f.Add("\n0 A", "0")
	f.Fuzz(func(t *testing.T, text, list string) {
		var hooks []order.Hook
		for line := range strings.Lines(text) {
			fields := append(strings.Fields(line), "", "", "", "", "")
			h := order.Hook{Plugin: fields[0], First: strings.Contains(fields[2], "first"), Last: strings.Contains(fields[2], "last"),
				Before: strings.Split(fields[3], ","), After: strings.Split(fields[4], ",")}
			_, _ = fmt.Sscan(fields[1], &h.Priority)
			hooks = append(hooks, h)
		}
		if len(hooks) > 60 {
			t.Skip("more hooks than the oracle puts in order in time")
		}
		user := strings.Fields(list)
		places, faults := order.Of("save", hooks, user, nil)
		lines := print(hooks, places)
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(indexes(places)))), len(hooks), "each hook once")
		for _, f := range faults {
			require.NotContains(t, f.Error(), "\n")
			require.NotContains(t, f.Error(), "\x1b")
		}
		slices.Reverse(hooks)
		places, again := order.Of("save", hooks, user, nil)
		require.Equal(t, lines, print(hooks, places))
		require.Equal(t, faults, again)
		_, nameless := newModel(hooks, user).at[""]
		if len(newModel(hooks, user).at) == len(hooks) && !nameless && plain(text) { // the model knows one hook of a name, unquoted
			check(t, hooks, user)
		}
	})
}

// plain reports whether a text shows as it is in a message.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool {
		return c > '~' || c < ' ' && c != '\n' || strings.ContainsRune("`;*\"\\!#$%&'()+/:<=>?@[]^{|}~", c)
	})
}

func BenchmarkOf(b *testing.B) {
	hooks := make([]order.Hook, 1000)
	for i := range hooks {
		hooks[i] = order.Hook{Plugin: fmt.Sprintf("p%03d", i), Priority: i % 7}
		if i%3 == 0 {
			hooks[i].After = []string{fmt.Sprintf("p%03d", i/2), fmt.Sprintf("p%03d", i/3)}
		}
	}
	circles := slices.Clone(hooks)
	for i := range circles {
		circles[i].Before = []string{fmt.Sprintf("p%03d", (i*7+1)%1000), fmt.Sprintf("p%03d", (i*13+5)%1000)}
	}
	for name, hooks := range map[string][]order.Hook{"1000": hooks, "1000-circles": circles} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if places, _ := order.Of("save", hooks, []string{"p500", "*", "p001"}, nil); len(places) != len(hooks) {
					b.Fatal("hooks are missing")
				}
			}
		})
	}
}
