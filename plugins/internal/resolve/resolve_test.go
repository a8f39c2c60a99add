package resolve_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/resolve"
)

type plugins = []resolve.Plugin

// shop resolves for the application shop 1.4.0, which offers points.
func shop(all plugins) resolve.Result {
	return resolve.Resolve("shop", "1.4.0", all, map[string]bool{"points": true, "revoked": false})
}

// started is the names of those that start, in order.
func started(all plugins, r resolve.Result) string {
	var names []string
	for _, i := range r.Order {
		names = append(names, all[i].Name)
	}
	return strings.Join(names, " ")
}

func TestStartOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		all  plugins
		want string
	}{
		{"none", nil, ""},
		{"by name", plugins{{Name: "b"}, {Name: "a"}, {Name: "c"}}, "a b c"},
		{"requires", plugins{{Name: "a", Requires: []string{"c", "b ^1"}}, {Name: "b", Version: "1.9.0", Requires: []string{" c\t>=1, <3 "}}, {Name: "c", Version: "2.0.0"}}, "c b a"},
		{"services", plugins{{Name: "a", Imports: []string{"sum"}}, {Name: "b"}, {Name: "c", Provides: []string{"sum"}}}, "b c a"},
		{"the application's offer is no dependency", plugins{{Name: "a", Imports: []string{"points"}}, {Name: "b"}}, "a b"},
		{"a range of the user", plugins{{Name: "a", Version: "2.1.0", Range: "^2"}}, "a"},
		{"made for this application", plugins{{Name: "a", Host: map[string]string{"shop": "^1.2", "crm": "^9"}}, {Name: "b", Host: map[string]string{"shop": ""}}}, "a b"},
		{"disabled is not there", plugins{{Name: "a"}, {Name: "b", Disabled: true, Requires: []string{"nobody"}}}, "a"},
		{"no conflict with what is not there", plugins{{Name: "a", Version: "1.0.0", Conflicts: []string{"b", "c", "d", "a", "e <2"}}, {Name: "b", Disabled: true}, {Name: "c", Requires: []string{"nobody"}}, {Name: "e", Version: "2.0.0"}}, "a e"},
		{"no range and any range take every version", plugins{{Name: "a", Requires: []string{"b", "c *", "d *"}}, {Name: "b", Version: "2024-01"}, {Name: "c"}, {Name: "d", Version: "1.0.0-rc.1"}}, "b c d a"},
		{"short versions", plugins{{Name: "a", Requires: []string{"b ^1.2", "c>=1", "d ~3.1"}}, {Name: "b", Version: "1.2"}, {Name: "c", Version: "v1"}, {Name: "d", Version: "3.1.7+build.5"}}, "b c d a"},
		{"a prerelease in a range that names one", plugins{{Name: "a", Requires: []string{"b ^2.0.0-0"}}, {Name: "b", Version: "2.0.0-rc.1"}}, "b a"},
		{"alternatives", plugins{{Name: "a", Requires: []string{"b 1.x || ^3"}}, {Name: "b", Version: "3.2.1"}}, "b a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, started(c.all, shop(c.all)))
		})
	}
}

// TestMore: what else a plug-in needs and has not comes with its first fault, whichever that is.
func TestMore(t *testing.T) {
	all := plugins{{Name: "a", Version: "1.0.0", Range: "^2", Requires: []string{"x", "y"}}, {Name: "b", Requires: []string{"x", "z"}, Imports: []string{"sum", "points"}}, {Name: "c", Requires: []string{"b"}}}
	r := shop(all)
	for i, want := range []string{"x y", "z sum", ""} {
		var got []string
		for _, f := range r.Failed[i].More {
			assert.Equal(t, all[i].Name, f.Plugin)
			got = append(got, strings.Trim(strings.Fields(f.Expected)[0], `"`))
		}
		assert.Equal(t, want, strings.Join(got, " "))
	}
}

// Each fault, the words of its message, and who starts all the same.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		all  plugins
		kind error
		want []string // the messages, by plug-in
		rest string
	}{
		{"missing", plugins{{Name: "a", Requires: []string{"b ^1"}}, {Name: "z"}}, resolve.ErrMissing,
			[]string{`plug-in a: requires: a plug-in that it needs is not there: found no plug-in b, expected "b ^1". Install b, or disable a`}, "z"},
		{"disabled", plugins{{Name: "a", Requires: []string{"b"}}, {Name: "b", Disabled: true}}, resolve.ErrMissing,
			[]string{`plug-in a: requires: a plug-in that it needs is not there: found b, which is disabled, expected "b". Enable b in config.yaml, or disable a`}, ""},
		{"unlisted", plugins{{Name: "a", Requires: []string{"b"}}, {Name: "b", Unlisted: true}, {Name: "b", Unlisted: true, Source: "other"}}, resolve.ErrMissing,
			[]string{`plug-in a: requires: a plug-in that it needs is not there: found b, which is not listed, expected "b". Enable b in config.yaml, or disable a`}, ""},
		{"its provider is unlisted", plugins{{Name: "a", Imports: []string{"sum"}}, {Name: "b", Provides: []string{"sum"}, Unlisted: true}}, resolve.ErrService,
			[]string{`plug-in a: imports: a service that nobody provides, or several do: found b, which provides it and is not listed, expected "sum" from shop or from another plug-in. Enable b in config.yaml, or disable a`}, ""},
		{"range not met", plugins{{Name: "a", Requires: []string{"b ^1.2"}}, {Name: "b", Version: "2.0.0"}}, resolve.ErrRange,
			[]string{`plug-in a: requires: a version that is not in the range: found b 2.0.0, expected "b ^1.2". Install a version of b in that range, or disable a`}, "b"},
		{"prerelease", plugins{{Name: "a", Requires: []string{"b ^2"}}, {Name: "b", Version: "2.1.0-rc.1"}}, resolve.ErrRange,
			[]string{`plug-in a: requires: a version that is not in the range: found b 2.1.0-rc.1, a prerelease, which only a range that names one takes (^1.2.0-0), expected "b ^2". Install a version of b in that range, or disable a`}, "b"},
		{"no semantic version", plugins{{Name: "a", Requires: []string{"b ^1"}}, {Name: "b", Version: "2024-01"}}, resolve.ErrVersion,
			[]string{`plug-in a: requires: a version that cannot be compared: found b 2024-01, which is no semantic version, expected "b ^1". Install a version of b in that range, or disable a`}, "b"},
		{"no version", plugins{{Name: "a", Requires: []string{"b ^1"}}, {Name: "b"}}, resolve.ErrVersion,
			[]string{`plug-in a: requires: a version that cannot be compared: found b (no version), expected "b ^1". Install a version of b in that range, or disable a`}, "b"},
		{"a line that makes no sense", plugins{{Name: "a", Requires: []string{"b one\x1b[2J"}}, {Name: "b"}}, resolve.ErrRange,
			[]string{`plug-in a: requires: a version that is not in the range: found "b one\x1b[2J", expected the name of a plug-in, and a range of versions, such as ^1.2. Tell its author`}, "b"},
		{"a line without a name", plugins{{Name: "a", Requires: []string{">=1"}}}, resolve.ErrRange,
			[]string{`plug-in a: requires: a version that is not in the range: found ">=1", expected the name of a plug-in, and a range of versions, such as ^1.2. Tell its author`}, ""},
		{"the user's range", plugins{{Name: "a", Version: "1.9.0", Range: "^2"}}, resolve.ErrRange,
			[]string{`plug-in a: version: a version that is not in the range: found 1.9.0, expected "^2", as config.yaml says. Install a version in that range, or change it in config.yaml: plugins: version`}, ""},
		{"the user's range makes no sense", plugins{{Name: "a", Version: "1.9.0", Range: "^^2"}}, resolve.ErrRange,
			[]string{`plug-in a: version: a version that is not in the range: found "^^2" as its version in config.yaml, expected a range of versions, such as ^1.2. Correct it in config.yaml: plugins: version`}, ""},
		{"the user's range and no semantic version", plugins{{Name: "a", Version: "1.2-beta", Range: "^1"}}, resolve.ErrVersion,
			[]string{`plug-in a: version: a version that cannot be compared: found 1.2-beta, which is no semantic version, expected "^1", as config.yaml says. Install a version in that range, or change it in config.yaml: plugins: version`}, ""},
		{"another version of the application", plugins{{Name: "a", Host: map[string]string{"shop": "^2"}}}, resolve.ErrHost,
			[]string{`plug-in a: host: made for another application, or another version of this one: found shop 1.4.0, expected shop "^2", as its manifest says. Install a version of it that was made for this shop`}, ""},
		{"another application", plugins{{Name: "a", Host: map[string]string{"till": "^2", "crm": "^1"}}}, resolve.ErrHost,
			[]string{`plug-in a: host: made for another application, or another version of this one: found host.crm, host.till, expected host.shop, or no host.… at all. It was not made for shop: remove it, or ask its author for one that is`}, ""},
		{"a host range that makes no sense", plugins{{Name: "a", Host: map[string]string{"shop": "new"}}}, resolve.ErrHost,
			[]string{`plug-in a: host: made for another application, or another version of this one: found host.shop="new", expected a range of versions, such as ^1.2. Tell its author`}, ""},
		{"double", plugins{{Name: "a", Version: "1.0.0", Source: "/p/a.so"}, {Name: "a", Version: "2.0.0", Source: "/q/a.so"}}, resolve.ErrDouble,
			[]string{`plug-in a: name: several plug-ins of one name: found it in "/p/a.so" (1.0.0) and in "/q/a.so" (2.0.0), expected one plug-in of a name. Remove one of the two, or name the one that you mean in config.yaml: dev`,
				`plug-in a: name: several plug-ins of one name: found it in "/q/a.so" (2.0.0) and in "/p/a.so" (1.0.0), expected one plug-in of a name. Remove one of the two, or name the one that you mean in config.yaml: dev`}, ""},
		{"nobody has it", plugins{{Name: "a", Imports: []string{"sum"}}, {Name: "b", Imports: []string{"revoked"}}, {Name: "c", Imports: []string{"points"}}}, resolve.ErrService,
			[]string{`plug-in a: imports: a service that nobody provides, or several do: found nobody that has it, expected "sum" from shop or from another plug-in. Install a plug-in that provides it, or disable a`,
				`plug-in b: imports: a service that nobody provides, or several do: found nobody that has it, expected "revoked" from shop or from another plug-in. Install a plug-in that provides it, or disable b`}, "c"},
		{"its provider is disabled", plugins{{Name: "a", Imports: []string{"sum"}}, {Name: "b", Provides: []string{"sum"}, Disabled: true}}, resolve.ErrService,
			[]string{`plug-in a: imports: a service that nobody provides, or several do: found b, which provides it and is disabled, expected "sum" from shop or from another plug-in. Enable b in config.yaml, or disable a`}, ""},
		{"several disabled providers", plugins{{Name: "a", Imports: []string{"sum"}}, {Name: "d", Provides: []string{"sum"}, Disabled: true}, {Name: "c", Provides: []string{"sum"}, Disabled: true}, {Name: "b"}, {Name: "b", Provides: []string{"sum"}, Disabled: true}}, resolve.ErrService,
			[]string{`plug-in a: imports: a service that nobody provides, or several do: found c, which provides it and is disabled, expected "sum" from shop or from another plug-in. Enable c in config.yaml, or disable a`}, "b"},
		{"two providers", plugins{{Name: "c", Imports: []string{"sum"}}, {Name: "b", Provides: []string{"sum", "diff"}}, {Name: "a", Provides: []string{"sum"}}}, resolve.ErrService,
			[]string{`plug-in b: provides: a service that nobody provides, or several do: found "sum", which a provides, too, expected one provider of each service. Disable b or a in config.yaml`}, "a c"},
		{"a provider of what the application offers", plugins{{Name: "a", Provides: []string{"points"}}, {Name: "b", Imports: []string{"points"}}}, resolve.ErrService,
			[]string{`plug-in a: provides: a service that nobody provides, or several do: found "points", which shop itself offers, expected a service that the application does not offer. Disable a, or ask its author for another name`}, "b"},
		{"conflict: the one that says so", plugins{{Name: "b", Conflicts: []string{"c <2"}}, {Name: "c", Version: "1.9.0"}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 1.9.0 beside it, expected only one of the two, as b says: "c <2". Disable b or c in config.yaml`}, "c"},
		{"conflict: both say so", plugins{{Name: "b", Version: "1.0.0", Conflicts: []string{"c"}}, {Name: "c", Version: "1.9.0", Conflicts: []string{"b"}}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 1.9.0 beside it, expected only one of the two, as b says: "c". Disable b or c in config.yaml`}, "c"},
		{"conflict: the user requires the one that says so", plugins{{Name: "b", Version: "3.0.0", Conflicts: []string{"c"}, Required: true}, {Name: "c"}}, resolve.ErrConflict,
			[]string{`plug-in c: conflicts: plug-ins that cannot run beside each other: found b 3.0.0 beside it, expected only one of the two, as b says: "c". Disable b or c in config.yaml`}, "b"},
		{"conflict: the user requires both", plugins{{Name: "b", Conflicts: []string{"c"}, Required: true}, {Name: "c", Version: "1.0.0", Required: true}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 1.0.0 beside it, expected only one of the two, as b says: "c". Disable b or c in config.yaml`}, "c"},
		{"conflict with what it needs", plugins{{Name: "b", Conflicts: []string{"c"}, Requires: []string{"c"}, Required: true}, {Name: "c", Version: "1.0.0"}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 1.0.0 beside it, expected only one of the two, as b says: "c". Disable b or c in config.yaml`}, "c"},
		{"conflict with a version that cannot be compared", plugins{{Name: "b", Conflicts: []string{"c <1"}}, {Name: "c", Version: "2024-01"}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 2024-01 beside it, expected only one of the two, as b says: "c <1". Disable b or c in config.yaml`}, "c"},
		{"conflict with a prerelease", plugins{{Name: "b", Conflicts: []string{"c <2"}}, {Name: "c", Version: "2.0.0-rc.1"}, {Name: "d", Conflicts: []string{"c ^3"}}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found c 2.0.0-rc.1 beside it, expected only one of the two, as b says: "c <2". Disable b or c in config.yaml`}, "c d"},
		{"a conflict that makes no sense", plugins{{Name: "b", Conflicts: []string{"c ^^"}}}, resolve.ErrConflict,
			[]string{`plug-in b: conflicts: plug-ins that cannot run beside each other: found "c ^^", expected the name of a plug-in, and a range of versions, such as ^1.2. Tell its author`}, ""},
		{"circle", plugins{{Name: "c", Requires: []string{"a"}}, {Name: "b", Imports: []string{"sum"}}, {Name: "a", Requires: []string{"b"}}, {Name: "z"}, {Name: "c2", Provides: []string{"other"}}, {Name: "c1", Provides: []string{"sum"}, Requires: []string{"c"}}}, resolve.ErrCircle,
			[]string{`plug-in c: requires: plug-ins that need each other in a circle: found a requires b, b imports "sum" of c1, c1 requires c, c requires a, expected an order in which each starts behind what it needs. Disable one of them, or ask an author to need the other no longer`,
				`plug-in b: imports: plug-ins that need each other in a circle: found a requires b, b imports "sum" of c1, c1 requires c, c requires a, expected an order in which each starts behind what it needs. Disable one of them, or ask an author to need the other no longer`,
				`plug-in a: requires: plug-ins that need each other in a circle: found a requires b, b imports "sum" of c1, c1 requires c, c requires a, expected an order in which each starts behind what it needs. Disable one of them, or ask an author to need the other no longer`,
				`plug-in c1: requires: plug-ins that need each other in a circle: found a requires b, b imports "sum" of c1, c1 requires c, c requires a, expected an order in which each starts behind what it needs. Disable one of them, or ask an author to need the other no longer`}, "c2 z"},
		{"its own service", plugins{{Name: "a", Provides: []string{"sum"}, Imports: []string{"sum"}}}, resolve.ErrCircle,
			[]string{`plug-in a: imports: plug-ins that need each other in a circle: found a imports "sum" of a, expected an order in which each starts behind what it needs. Disable one of them, or ask an author to need the other no longer`}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shop(c.all)
			var texts []string
			for i := range c.all {
				if f := r.Failed[i]; f != nil {
					texts = append(texts, f.Error())
					assert.ErrorIs(t, f, c.kind)
					assert.Equal(t, c.all[i].Name, f.Plugin)
				}
			}
			assert.Equal(t, c.want, texts)
			assert.Equal(t, c.rest, started(c.all, r))
		})
	}
}

func TestDependencyFailedNamesTheRoot(t *testing.T) {
	all := plugins{
		{Name: "audit", Imports: []string{"sum"}},
		{Name: "points", Requires: []string{"audit"}},
		{Name: "tax", Provides: []string{"sum"}, Requires: []string{"round"}},
		{Name: "round", Requires: []string{"nobody"}},
		{Name: "healthy"},
	}
	r := shop(all)
	assert.Equal(t, "healthy", started(all, r))
	assert.Empty(t, r.Providers)
	f := r.Failed[1]
	require.NotNil(t, f)
	assert.Equal(t, []string{"audit", "tax", "round"}, f.Through)
	assert.Same(t, r.Failed[3], f.Root())
	assert.EqualError(t, f, `plug-in points: requires: a plug-in that it needs fails: found audit, which fails through tax, round (requires: a plug-in that it needs is not there: no plug-in nobody), expected "audit". Mend round, or disable points`)
	require.ErrorIs(t, f, resolve.ErrDependencyFailed)
	require.ErrorIs(t, f, resolve.ErrMissing, "the root's kind")
	assert.NotErrorIs(t, r.Failed[3], resolve.ErrDependencyFailed)

	service := r.Failed[0]
	require.ErrorIs(t, service, resolve.ErrService)
	require.ErrorIs(t, service, resolve.ErrDependencyFailed)
	assert.EqualError(t, service, `plug-in audit: imports: a service that nobody provides, or several do: found tax, which provides it and fails through round (requires: a plug-in that it needs is not there: no plug-in nobody), expected "sum". Mend round, or disable audit`)
}

// A provider that fails by itself is still the one that its importers name; a second one that is healthy takes its place only
// then.
func TestServiceOfAProviderThatFails(t *testing.T) {
	all := plugins{{Name: "a", Provides: []string{"sum"}, Host: map[string]string{"shop": "^9"}}, {Name: "c", Imports: []string{"sum"}}}
	r := shop(all)
	assert.Equal(t, []string{"a"}, r.Failed[1].Through)
	require.ErrorIs(t, r.Failed[1], resolve.ErrHost)

	all = append(all, resolve.Plugin{Name: "b", Provides: []string{"sum"}})
	r = shop(all)
	assert.Equal(t, "b c", started(all, r))
	assert.Equal(t, map[string]int{"sum": 2}, r.Providers)
}

func TestTheFirstSourceInPrecedenceCounts(t *testing.T) {
	all := plugins{
		{Name: "a", Version: "1.0.0", Source: "folder", Precedence: 2},
		{Name: "a", Version: "0.1.0-dev", Source: "dev", Precedence: 0},
		{Name: "a", Version: "2.0.0", Source: "registry", Precedence: 1},
		{Name: "b", Requires: []string{"a ^1"}},
	}
	r := shop(all)
	assert.Equal(t, map[int]int{0: 1, 2: 1}, r.Shadowed)
	assert.Equal(t, []int{1}, r.Order)
	require.ErrorIs(t, r.Failed[3], resolve.ErrRange, "only the one that counts is there")

	all = append(all, resolve.Plugin{Name: "a", Source: "dev too"})
	r = shop(all)
	require.ErrorIs(t, r.Failed[1], resolve.ErrDouble)
	require.ErrorIs(t, r.Failed[4], resolve.ErrDouble)
	assert.Equal(t, []int{0, 2}, sortedKeys(r.Shadowed))

	all[1].Disabled, all[4].Disabled = true, true
	r = shop(all)
	assert.Equal(t, []int{2}, r.Order, "what is disabled shadows nothing")
	assert.Equal(t, []int{1, 4}, r.Disabled)
}

func sortedKeys[V any](m map[int]V) []int {
	var keys []int
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestAFailedConflictFreesTheNext(t *testing.T) {
	all := plugins{{Name: "a", Conflicts: []string{"b"}}, {Name: "b"}, {Name: "c", Conflicts: []string{"a"}}, {Name: "d", Requires: []string{"a"}}}
	r := shop(all)
	assert.Equal(t, "b c", started(all, r), "a is gone when c is looked at")
	require.ErrorIs(t, r.Failed[3], resolve.ErrConflict)
	assert.True(t, errors.Is(r.Failed[3], resolve.ErrDependencyFailed))
}
