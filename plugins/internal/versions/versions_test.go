package versions_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
)

func TestSolutions(t *testing.T) {
	for _, c := range []struct {
		name string
		w    *world
		p    versions.Problem
		want string
	}{
		{"nothing is asked for", of("a 1.0.0"), asks(), ""},
		{"the newest", of("a 1.0.0", "a 1.10.0", "a 1.9.0"), asks("a"), "a 1.10.0"},
		{"the newest that fits", of("a 1.0.0", "a 1.2.0", "a 2.0.0"), asks("a ^1"), "a 1.2.0"},
		{"all ranges of one name", of("a 1.0.0", "a 1.2.0", "a 1.3.0"), asks("a ^1", "a <1.3 <command"), "a 1.2.0"},
		{"what it requires", of("a 1.0.0: requires b ^1", "b 1.0.0: requires c", "b 2.0.0", "c 3.0.0", "d 1.0.0"), asks("a"), "a 1.0.0, b 1.0.0, c 3.0.0"},
		{"an older one for the sake of another", of("a 2.0.0: requires c ^2", "a 1.0.0: requires c ^1", "b 1.0.0: requires c ^1", "c 1.0.0", "c 2.0.0"), asks("a", "b"), "a 1.0.0, b 1.0.0, c 1.0.0"},
		{"the first by name is served first", of("a 2.0.0: conflicts b ^2", "a 1.0.0", "b 2.0.0", "b 1.0.0"), asks("b", "a"), "a 2.0.0, b 1.0.0"},
		{"a conflict that only comes later", of("a 1.0.0: conflicts c ^2", "b 1.0.0: requires c", "c 2.0.0", "c 1.0.0"), asks("a", "b"), "a 1.0.0, b 1.0.0, c 1.0.0"},
		{"made for this application", of("a 3.0.0: host.crm *", "a 2.0.0: host.shop ^2", "a 1.0.0: host.shop ^1.2; host.crm ^9"), asks("a"), "a 1.0.0"},
		{"no file for this platform", of("a 2.0.0: out has no file for linux/arm64", "a 1.0.0"), asks("a"), "a 1.0.0"},
		{"a release before a prerelease", of("a 2.0.0-rc.1", "a 1.0.0", "b 1.0.0-rc.1"), asks("a", "b"), "a 1.0.0, b 1.0.0-rc.1"},
		{"a prerelease that is asked for", of("a 2.0.0-rc.1", "a 1.0.0"), asks("a >=1.0.0-0"), "a 2.0.0-rc.1"},
		{"what cannot be compared comes last", of("a 2024-01", "a 0.1.0", "b 2024-01", "b 2024-02"), asks("a", "b"), "a 0.1.0, b 2024-02"},
		{"a conflict with what cannot be compared", of("a 2.0.0: conflicts b ^1", "a 1.0.0", "b 2024-01"), asks("a", "b"), "a 1.0.0, b 2024-01"},
		{"no circle", of("a 2.0.0: requires b", "a 1.0.0", "b 2.0.0: requires a", "b 1.0.0"), asks("a"), "a 2.0.0, b 1.0.0"},
		{"one that needs itself", of("a 2.0.0: requires a", "a 1.0.0"), asks("a"), "a 1.0.0"},
		{"a line that makes no sense", of("a 2.0.0: requires b ^^", "a 1.0.0", "b 1.0.0"), asks("a"), "a 1.0.0"},
		{"what is locked stays", of("a 1.0.0", "a 2.0.0: requires b ^2", "b 1.0.0", "b 2.0.0"), asks("a", "=a 1.0.0"), "a 1.0.0"},
		{"what is locked and needed by another stays", of("a 1.0.0: requires b", "b 1.0.0", "b 2.0.0"), asks("a", "=b 1.0.0"), "a 1.0.0, b 1.0.0"},
		{"a new one takes what is locked as it is", of("a 1.0.0: requires c ^1", "a 2.0.0: requires c ^2", "c 1.0.0", "c 2.0.0"), asks("a", "=c 1.0.0"), "a 1.0.0, c 1.0.0"},
		{"what is locked moves where it must", of("a 2.0.0: requires c ^2", "c 1.0.0", "c 2.0.0", "c 2.1.0"), asks("a", "=c 1.0.0"), "a 2.0.0, c 2.1.0"},
		{"what is locked moves where config.yaml changes", of("a 1.0.0", "a 2.0.0", "a 2.1.0"), asks("a ^2", "=a 1.0.0"), "a 2.1.0"},
		{"one moves, the other stays", of("a 1.0.0", "a 2.0.0", "b 1.0.0", "b 2.0.0"), asks("a", "b ^2", "=a 1.0.0", "=b 1.0.0"), "a 1.0.0, b 2.0.0"},
		{"what is locked and no longer needed goes", of("a 1.0.0", "c 1.0.0"), asks("a", "=c 1.0.0"), "a 1.0.0"},
		{"what is locked and left out now moves", of("a 1.0.0: out was revoked", "a 1.0.1"), asks("a", "=a 1.0.0"), "a 1.0.1"},
		{"what is locked and not there any more moves", of("a 1.0.1"), asks("a", "=a 1.0.0"), "a 1.0.1"},
		{"what is pinned is not moved", of("a 2.0.0: requires c ^2", "a 1.0.0: requires c ^1", "c 1.0.0", "c 2.0.0"), asks("a", "=a 2.0.0", "!c 1.0.0"), "a 1.0.0, c 1.0.0"},
		{"a lock without a version is none", of("a 1.0.0", "a 2.0.0"), asks("a", "=a"), "a 2.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			solution, conflict := solve(t, c.w, c.p)
			require.Nil(t, conflict)
			assert.Equal(t, c.want, text(solution))
		})
	}
}

func TestExplanations(t *testing.T) {
	for _, c := range []struct {
		name string
		w    *world
		p    versions.Problem
		want string
	}{
		{"two that want different versions", of("a 2.0.0: requires b ^3", "c 1.2.0: requires b ~2.0", "b 2.0.0", "b 3.0.0", "z 1.0.0"), asks("a", "c ^1.2 <command", "z"),
			"config.yaml asks for a, a 2.0.0 needs b ^3, the command line asks for c ^1.2, but c 1.2.0 needs b ~2.0. Ask for other versions of c (the command line), or leave out a or c"},
		{"every version", of("a 2.0.0: requires b ^3", "a 2.1.0: requires b ^3", "b 2.0.0"), asks("a ^2", "b"),
			"config.yaml asks for a ^2, but a 2.1.0 and 2.0.0 need b ^3, of which there is only 2.0.0. Ask for other versions of a (config.yaml), or leave out a"},
		{"no such plug-in", of("a 1.0.0: requires nobody"), asks("a"), "config.yaml asks for a, but a 1.0.0 needs nobody, and there is no plug-in nobody. Leave out a"},
		{"no such plug-in is asked for", of(), asks("tex ^1"), "config.yaml asks for tex ^1, and there is no plug-in tex. Ask for other versions of tex (config.yaml), or leave out tex"},
		{"no version in the range", of("a 1.0.0", "a 2.1.0-rc.1", "a x"), asks("a ^2"),
			"config.yaml asks for a ^2, of which there is only 1.0.0, 2.1.0-rc.1 and x. Ask for other versions of a (config.yaml), or leave out a"},
		{"only a prerelease", of("a 2.1.0-rc.1"), asks("a ^2"),
			"config.yaml asks for a ^2, of which there is only 2.1.0-rc.1, a prerelease, which only a range that names one takes (^1.2.0-0). Ask for other versions of a (config.yaml), or leave out a"},
		{"no range", of("a 1.0.0"), asks("a ^^\x1b[2J"), `config.yaml asks for a "^^\x1b[2J", which is no range of versions. Ask for other versions of a (config.yaml), or leave out a`},
		{"held", of("a 2.0.0: requires b ^3", "b 2.0.0", "b 3.0.0"), asks("a", "~b 2.0.0"), "config.yaml asks for a, a 2.0.0 needs b ^3, but the lock has b 2.0.0. Update b (ferrule update), or leave out a"},
		{"pinned", of("a 2.0.0: requires b ^3", "b 2.0.0", "b 3.0.0"), asks("a", "!b 2.0.0"), "config.yaml asks for a, a 2.0.0 needs b ^3, but b is pinned to 2.0.0. Unpin b, or leave out a"},
		{"conflict", of("a 1.0.0: conflicts b", "b 1.0.0"), asks("a", "b <command"),
			"config.yaml asks for a, a 1.0.0 cannot run beside b, but the command line asks for b. Leave out a or b"},
		{"host", of("a 2.0.0: host.shop ^2", "a 1.0.0: host.crm *"), asks("a"),
			"config.yaml asks for a, a 2.0.0 is made for shop ^2, and this is shop 1.4.0, but a 1.0.0 is made for crm, not for shop. Leave out a, or use a version of the application that they are made for"},
		{"platform", of("a 2.0.0: out has no file for linux/arm64", "a 1.0.0: out has no file for linux/arm64"), asks("a"),
			"config.yaml asks for a, but a 2.0.0 and 1.0.0 have no file for linux/arm64. Leave out a, or ask the author of a for a version without that fault"},
		{"circle", of("a 1.0.0: requires b", "b 1.0.0: requires a"), asks("a"),
			"config.yaml asks for a, a 1.0.0 needs b, but plug-ins cannot need each other in a circle (a 1.0.0 needs b, b 1.0.0 needs a). Leave out a, or ask the author of a or b for a version without that fault"},
		{"a line", of("a 1.0.0: requires b ^^"), asks("a"), `config.yaml asks for a, but a 1.0.0 says requires "b ^^", which makes no sense. Leave out a, or ask the author of a for a version without that fault`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, conflict := solve(t, c.w, c.p)
			require.NotNil(t, conflict)
			assert.Equal(t, c.want, conflict.Error())
			explained(t, c.w, c.p, conflict, c.name)
		})
	}
}

// What is locked and stays costs no listing; what nothing leads to costs nothing.
func TestTheUniverseIsAskedForWhatMatters(t *testing.T) {
	w := of("a 1.0.0: requires b", "a 2.0.0", "b 1.0.0: conflicts d", "b 2.0.0", "c 1.0.0", "c 2.0.0", "d 1.0.0")
	solution, _ := solve(t, w, asks("a", "c", "=a 1.0.0", "=b 1.0.0", "=d 1.0.0"))
	assert.Equal(t, "a 1.0.0, b 1.0.0, c 2.0.0", text(solution))
	assert.Equal(t, []string{"a 1.0.0", "b 1.0.0", "c", "c 2.0.0"}, slices.Sorted(maps.Keys(w.asked)))
}

func TestAFailingUniverseSaysForWhom(t *testing.T) {
	broken := errors.New("no route to host")
	for what, want := range map[string]string{
		"a":       "the versions of a, needed for config.yaml: no route to host",
		"a 1.0.0": "a 1.0.0, needed for config.yaml: no route to host",
		"b":       "the versions of b, needed for a 1.0.0: no route to host",
		"b 2.0.0": "b 2.0.0, needed for a 1.0.0: no route to host",
		"c":       "the versions of c, needed for b 2.0.0: no route to host", // c is locked in a version that must move
	} {
		w := of("a 1.0.0: requires b", "b 2.0.0: requires c ^2", "c 2.0.0")
		w.fails[what] = broken
		solution, err := versions.Resolve(t.Context(), asks("a", "=c 1.0.0"), w)
		assert.Nil(t, solution)
		require.ErrorIs(t, err, broken, what)
		var ask *versions.AskError
		require.ErrorAs(t, err, &ask)
		assert.Equal(t, want, err.Error())
	}
}

// pigeons is a problem without a solution that takes for ever: n plug-ins, each in one of n-1 holes, no two in one.
func pigeons(n int) (*world, versions.Problem) {
	var lines, names []string
	for i := range n {
		name := "p" + strings.Repeat("i", i)
		for hole := range n - 1 {
			line := name + " " + string(rune('1'+hole)) + ".0.0:"
			for _, other := range names {
				line += "; conflicts " + other + " ^" + string(rune('1'+hole))
			}
			lines = append(lines, line)
		}
		names = append(names, name)
	}
	return of(lines...), asks(names...)
}

func TestTheContextEndsIt(t *testing.T) {
	w, p := pigeons(4)
	_, conflict := solve(t, w, p)
	require.NotNil(t, conflict)
	explained(t, w, p, conflict, "pigeons")

	w, p = pigeons(9)
	ctx := &counted{Context: t.Context(), left: 200}
	_, err := versions.Resolve(ctx, p, w)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, -1, ctx.left, "it asks no more")
}

// counted is a context that ends when it was asked so often.
type counted struct {
	context.Context
	left int
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestTooHard: plug-ins more than there is room for, each version of one excluding the same number of all others. That has no solution, and no short proof of it.
func TestTooHard(t *testing.T) {
	const count, room = 14, 13
	name := func(i int) string { return fmt.Sprintf("p%02d", i) }
	var lines, wanted []string
	for i := range count {
		wanted = append(wanted, name(i))
		for v := range room {
			line := fmt.Sprintf("%s %d.0.0:", name(i), v+1)
			separator := " "
			for other := range count {
				if other != i {
					line += fmt.Sprintf("%sconflicts %s =%d.0.0", separator, name(other), v+1)
					separator = "; "
				}
			}
			lines = append(lines, line)
		}
	}
	defer versions.WithWork(2_000_000)()
	_, err := versions.Resolve(t.Context(), asks(wanted...), of(lines...))
	require.ErrorIs(t, err, versions.ErrTooHard)
}
