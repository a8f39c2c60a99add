package install_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

// update updates, and expects no fault of the whole.
func (p *place) update(in *install.Installer, o install.UpdateOptions, all ...install.Want) []install.Change {
	p.t.Helper()
	changes, _, err := in.Update(p.t.Context(), all, o)
	require.NoError(p.t, err)
	return changes
}

// Update takes the newest that fits into the lock, and a dry run says so without doing it. What is not named stays.
func TestUpdate(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"}, library{tag: "dddd", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_dddd")
	assert.Empty(t, p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa", "dist_dddd")...))
	p.publish(library{tag: "aaaa", version: "1.1.0", requires: "dist_bbbb ^1", permit: "443"}, library{tag: "bbbb", version: "1.1.0"}, library{tag: "bbbb", version: "2.0.0"}, library{tag: "dddd", version: "1.1.0"})

	out, err := p.installer().Outdated(t.Context(), []install.Want{{Name: "dist_bbbb", Range: "^1"}})
	require.NoError(t, err)
	assert.Equal(t, []install.Outdated{{Name: "dist_aaaa", Version: "1.0.0", Fits: "1.1.0", Newest: "1.1.0"}, {Name: "dist_bbbb", Version: "1.0.0", Fits: "1.1.0", Newest: "2.0.0"},
		{Name: "dist_dddd", Version: "1.0.0", Fits: "1.1.0", Newest: "1.1.0"}}, out)

	text, opened := p.text(), p.source.opened.Load()
	all := func(string, string, install.Ask) bool { return true }
	granting := func(o *install.Options) { o.Granted = all }
	expected := []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "1.1.0", Grants: []string{"connect 443"}}, {Name: "dist_bbbb", From: "1.0.0", To: "1.1.0"}, {Name: "dist_dddd", From: "1.0.0", To: "1.1.0"}}
	assert.Equal(t, expected, p.update(p.installer(granting), install.UpdateOptions{DryRun: true}, wants("dist_aaaa", "dist_dddd")...))
	assert.Equal(t, text, p.text())
	assert.Equal(t, opened, p.source.opened.Load(), "what would change is known without a file")

	assert.Equal(t, expected[2:], p.update(p.installer(), install.UpdateOptions{Names: []string{"dist_dddd"}}, wants("dist_aaaa", "dist_dddd")...))
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.0.0", "dist_dddd": "1.1.0"}, p.locked())
	assert.Equal(t, expected[:2], p.update(p.installer(granting), install.UpdateOptions{Names: []string{"dist_aaaa"}}, wants("dist_aaaa", "dist_dddd")...), "with what only it requires")
	assert.Equal(t, "1.1.0", p.plugins()["dist_aaaa"].Requires["dist_bbbb"])

	_, _, err = p.installer().Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{Names: []string{"dist_nobody"}})
	assert.ErrorIs(t, err, registry.ErrNotFound)
}

// An update that asks for more than was granted, is not what it should be, or cannot be beside the others is not taken. The others are.
func TestUpdateStays(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    error
		publish func(p *place)
		change  func(o *install.Options)
	}{
		{"more than config.yaml grants", registry.ErrGrant, func(p *place) { p.publish(library{tag: "aaaa", version: "1.1.0", permit: "443"}) },
			func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return false } }},
		{"more than it was locked with", registry.ErrGrant, func(p *place) { p.publish(library{tag: "aaaa", version: "1.1.0", permit: "443"}) }, nil},
		{"no signature", registry.ErrUnsigned, func(p *place) { p.pushAs(library{tag: "aaaa", version: "1.1.0"}, nil, nil) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.publish(plain, library{tag: "dddd", version: "1.0.0"})
			p.ensure(p.installer(), "dist_aaaa", "dist_dddd")
			tt.publish(p)
			p.publish(library{tag: "dddd", version: "1.1.0"})
			change := tt.change
			if change == nil {
				change = func(*install.Options) {}
			}
			changes := p.update(p.installer(change), install.UpdateOptions{}, wants("dist_aaaa", "dist_dddd")...)
			require.Len(t, changes, 2)
			assert.ErrorIs(t, p.whole(changes[0].Err), tt.kind)
			assert.Equal(t, "1.0.0", changes[0].To)
			assert.Equal(t, install.Change{Name: "dist_dddd", From: "1.0.0", To: "1.1.0"}, changes[1])
			assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_dddd": "1.1.0"}, p.locked())
		})
	}
}

// Versions go down only where somebody says so: neither for a range of config.yaml nor because the source has nothing newer any more.
func TestDowngrade(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "aaaa", version: "2.0.0"})
	p.ensure(p.installer(), "dist_aaaa")
	require.Equal(t, "2.0.0", p.locked()["dist_aaaa"])
	old := install.Want{Name: "dist_aaaa", Range: "^1"}
	changes := p.update(p.installer(), install.UpdateOptions{}, old)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, p.whole(changes[0].Err), registry.ErrDowngrade)
	assert.Equal(t, "2.0.0", p.locked()["dist_aaaa"])

	served := newPlace(t)
	served.publish(plain)
	changes = p.update(p.installer(func(o *install.Options) { o.Sources = []registry.Source{served.source} }), install.UpdateOptions{}, wants("dist_aaaa")...)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, p.whole(changes[0].Err), registry.ErrDowngrade)
	assert.Equal(t, "2.0.0", p.locked()["dist_aaaa"])

	changes = p.update(p.installer(), install.UpdateOptions{AllowDowngrade: true}, old)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "2.0.0", To: "1.0.0"}}, changes)
	assert.Equal(t, "1.0.0", p.locked()["dist_aaaa"])
}

// A lock that says that a plug-in was locked with one that it does not have is said to be wrong.
func TestRollbackOfGhost(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	haunted := strings.Replace(p.text(), "    files:", "    requires:\n      ghost: 1.0.0\n    files:", 1)
	require.NotEqual(t, p.text(), haunted)
	require.NoError(t, os.WriteFile(p.lock, []byte(haunted), 0o644))
	p.publish(library{tag: "aaaa", version: "1.1.0"})
	p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa")...)
	require.Equal(t, "1.1.0", p.locked()["dist_aaaa"])
	now := p.text()
	_, err := p.installer().Rollback(t.Context(), "dist_aaaa")
	e := p.whole(err)
	require.ErrorIs(t, e, registry.ErrLock)
	assert.Contains(t, e.Found, "ghost")
	assert.Equal(t, now, p.text())
}

// Rollback has the version before back, without a request, and pins it: an update leaves it until it is told otherwise.
func TestRollback(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	_, err := p.installer().Rollback(t.Context(), "dist_aaaa")
	assert.ErrorIs(t, err, registry.ErrNotFound)
	before := p.plugins()
	p.publish(library{tag: "aaaa", version: "2.0.0", requires: "dist_bbbb ^2"}, library{tag: "bbbb", version: "2.0.0"})
	require.Len(t, p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa", "dist_bbbb")...), 2)
	after, requests := p.plugins(), p.source.requests.Load()

	_, err = p.installer().Rollback(t.Context(), "dist_bbbb")
	require.ErrorIs(t, err, registry.ErrConflict)
	assert.Contains(t, err.Error(), "dist_aaaa 2.0.0 needs dist_bbbb ^2")
	assert.Equal(t, after, p.plugins())

	// What a GC keeps is also what was there before.
	_, n, err := p.installer().GC(t.Context(), 0)
	require.NoError(t, err)
	assert.Zero(t, n)
	_, err = p.installer(func(o *install.Options) { o.Ranges = map[string]string{"dist_aaaa": "^2"} }).Rollback(t.Context(), "dist_bbbb", "dist_aaaa")
	require.ErrorIs(t, err, registry.ErrConflict)
	assert.Contains(t, err.Error(), "expected ^2, as config.yaml says")
	assert.Equal(t, after, p.plugins())
	changes, err := p.installer(func(o *install.Options) { o.Ranges = map[string]string{"dist_aaaa": ">=1", "dist_bbbb": ""} }).Rollback(t.Context(), "dist_bbbb", "dist_aaaa")
	require.NoError(t, err)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "2.0.0", To: "1.0.0"}, {Name: "dist_bbbb", From: "2.0.0", To: "1.0.0"}}, changes)
	for _, e := range before {
		e.Pinned = true
	}
	assert.Equal(t, before, p.plugins())
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	assert.Equal(t, requests, p.source.requests.Load())
	_, err = p.installer().Rollback(t.Context(), "dist_aaaa")
	assert.ErrorIs(t, err, registry.ErrNotFound, "it does not go forward")
	assert.Contains(t, p.whole(err).Remedy, "ferrule update --unpin dist_aaaa")
	assert.Equal(t, before, p.plugins())

	assert.Empty(t, p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa", "dist_bbbb")...))
	assert.Len(t, p.update(p.installer(), install.UpdateOptions{Names: []string{"dist_aaaa", "dist_bbbb"}, Unpin: true}, wants("dist_aaaa", "dist_bbbb")...), 2)
	assert.Equal(t, after, p.plugins())
}

// Unpin deletes the pin also where no other version is to be had, or none can be taken; a rollback does not go forward after that.
func TestUnpinStays(t *testing.T) {
	for name, newer := range map[string]library{"no newer version": {}, "one that asks for more": {tag: "aaaa", version: "2.0.0", permit: "443"}} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.publish(library{tag: "aaaa", version: "1.0.0"})
			p.ensure(p.installer(), "dist_aaaa")
			p.publish(library{tag: "aaaa", version: "1.1.0"})
			require.Len(t, p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa")...), 1)
			_, err := p.installer().Rollback(t.Context(), "dist_aaaa")
			require.NoError(t, err)
			require.True(t, p.plugins()["dist_aaaa"].Pinned)
			wanted := install.Want{Name: "dist_aaaa", Range: "=1.0.0"}
			if newer.tag != "" {
				p.publish(newer)
				wanted.Range = "=1.0.0 || ^2"
			}
			o := install.UpdateOptions{Names: []string{"dist_aaaa"}, Unpin: true, DryRun: true}
			text := p.text()
			require.Len(t, p.update(p.installer(), o, wanted), 1)
			assert.Equal(t, text, p.text())
			o.DryRun = false
			changes := p.update(p.installer(), o, wanted)
			require.Len(t, changes, 1)
			c := changes[0]
			assert.Equal(t, install.Change{Name: "dist_aaaa", From: "1.0.0", To: "1.0.0", Unpinned: true, Err: c.Err}, c)
			if newer.tag != "" {
				assert.ErrorIs(t, c.Err, registry.ErrGrant)
			} else {
				assert.NoError(t, c.Err)
			}
			assert.False(t, p.plugins()["dist_aaaa"].Pinned)
			_, err = p.installer().Rollback(t.Context(), "dist_aaaa")
			assert.ErrorIs(t, err, registry.ErrNotFound, "1.1.0 is what it was rolled back from")
			changes = p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa")...)
			require.NotEmpty(t, changes)
			if newer.tag == "" {
				assert.Equal(t, "1.1.0", p.locked()["dist_aaaa"], "a later update moves it")
			}
		})
	}
}

// A version that was published twice comes only where somebody says so, and a rollback has the bytes back that were there before; it does not go from a version to itself.
func TestUpdateReplaced(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	locked := p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"].Digest
	p.folder = filepath.Join(t.TempDir(), "again")
	p.publish(library{tag: "aaaa", version: "1.0.0", permit: "443"})
	again := &asked{Source: folder(t, p.folder)}
	from := func(o *install.Options) { o.Sources = []registry.Source{again} }
	changes := p.update(p.installer(from), install.UpdateOptions{Names: []string{"dist_aaaa"}}, wants("dist_aaaa")...)
	require.Len(t, changes, 1)
	e := p.whole(changes[0].Err)
	require.ErrorIs(t, e, registry.ErrReplaced)
	assert.Contains(t, e.Remedy, "ferrule update --replaced dist_aaaa")
	assert.Equal(t, 1, strings.Count(e.Error(), locked), "each digest is said once: %v", e)

	replaced := install.UpdateOptions{Names: []string{"dist_aaaa"}, Replaced: true}
	changes = p.update(p.installer(from), replaced, wants("dist_aaaa")...)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, changes[0].Err, registry.ErrGrant, "it asks for more, which holds for it as for each other")
	assert.Equal(t, locked, p.plugins()["dist_aaaa"].Files[registry.ThisPlatform()].Digest)
	granting := func(o *install.Options) {
		from(o)
		o.Granted = func(string, string, install.Ask) bool { return true }
	}
	changes = p.update(p.installer(granting), replaced, wants("dist_aaaa")...)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "1.0.0", Replaced: true, Grants: []string{"connect 443"}}}, changes)
	assert.NotEqual(t, locked, p.plugins()["dist_aaaa"].Files[registry.ThisPlatform()].Digest)
	assert.Empty(t, p.update(p.installer(granting), replaced, wants("dist_aaaa")...))

	_, err := p.installer().Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	assert.Equal(t, locked, p.plugins()["dist_aaaa"].Files[registry.ThisPlatform()].Digest)
	require.NoError(t, lock.Update(t.Context(), p.lock, func(l *lock.Lock) error { l.Plugins["dist_aaaa"].Pinned = false; return nil }))
	require.Len(t, p.update(p.installer(granting), replaced, wants("dist_aaaa")...), 1)
	_, err = p.installer().Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	require.NoError(t, lock.Update(t.Context(), p.lock, func(l *lock.Lock) error { l.Plugins = nil; return nil }))
	p.ensure(p.installer(granting), "dist_aaaa")
	_, err = p.installer().Rollback(t.Context(), "dist_aaaa")
	assert.ErrorIs(t, err, registry.ErrNotFound, "what was there before is what is there")
}

// A file takes the place of what is locked, by the rules of an update: no older version by itself, and in the range that is wanted.
func TestUpdateFromFile(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "aaaa", version: "1.1.0"})
	p.ensure(p.installer(), "dist_aaaa")
	file := func(version string) install.UpdateOptions {
		l := library{tag: "aaaa", version: version}
		path := p.build(l)
		require.NoError(t, os.WriteFile(path+".minisig", p.sign(p.key, subject(l), path), 0o600))
		return install.UpdateOptions{Names: []string{"dist_aaaa"}, From: install.File(path, "")}
	}
	older := file("1.0.5")
	changes := p.update(p.installer(), older, wants("dist_aaaa")...)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, changes[0].Err, registry.ErrDowngrade)
	older.AllowDowngrade = true
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.1.0", To: "1.0.5"}}, p.update(p.installer(), older, wants("dist_aaaa")...))
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.0.5", To: "2.0.0"}}, p.update(p.installer(), file("2.0.0"), wants("dist_aaaa")...), "though the registry has 1.1.0")
	changes = p.update(p.installer(), file("3.0.0"), install.Want{Name: "dist_aaaa", Range: "^2"})
	require.Len(t, changes, 1)
	assert.Contains(t, p.whole(changes[0].Err).Error(), "3.0.0")
	assert.Equal(t, "2.0.0", p.locked()["dist_aaaa"])
}

// What nobody wants any more goes with an update of all, and stays with one of some, and where it is to be kept.
func TestUpdateDrops(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"}, library{tag: "dddd", version: "1.0.0"}, library{tag: "eeee", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_dddd", "dist_eeee")
	assert.Empty(t, p.update(p.installer(), install.UpdateOptions{Names: []string{"dist_eeee"}}, wants("dist_eeee")...))
	l, err := lock.Load(p.lock)
	require.NoError(t, err)
	assert.Equal(t, []string{"dist_dddd", "dist_eeee"}, install.Unwanted(l, []string{"dist_aaaa"}))
	o := install.UpdateOptions{Keep: []string{"dist_aaaa"}, DryRun: true}
	gone := []install.Change{{Name: "dist_dddd", From: "1.0.0"}}
	assert.Equal(t, gone, p.update(p.installer(), o, wants("dist_eeee")...))
	assert.Len(t, p.locked(), 4)
	o.DryRun = false
	assert.Equal(t, gone, p.update(p.installer(), o, wants("dist_eeee")...))
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.0.0", "dist_eeee": "1.0.0"}, p.locked())
}

// A name that is almost one of a source's is told which one may be meant, and where it was asked for.
func TestNearName(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	e := p.refused(p.installer(func(o *install.Options) { o.Sources = []registry.Source{folder(t, p.folder)} }), registry.ErrNotFound, "dist_aaab")
	assert.Equal(t, "Did you mean dist_aaaa?", e.Remedy)
	assert.Contains(t, e.Error(), "releases")
}

// What a plug-in lacks is told as the keys that are to be written, with all that its entry has there already. Of one that is a name alone it is the whole entry.
func TestHowToGrant(t *testing.T) {
	const trust = "If you trust it with that, "
	text := `plugins:
  - {name: a, grant: [one], permit: {connect: [80]}, isolate: {memory: 1100000}}
  - b
  - name: d
    permit: {memory: 64MiB, read: [/a b], write: [/w], listen: [0]}
  - {name: '7', isolate: {memory: 1MiB, group: '8', cpu: 90s, processes: 2, files: 9, grace: 50ms, stop: 3s, sandbox: best-effort}}
  - {name: e, permit: {}}
  - name: f
`
	c, err := config.Parse("shop.yaml", []byte(text))
	require.NoError(t, err)
	lacks := []install.Ask{{What: "connect", Item: "443"}, {What: "function", Item: "two"}, {What: "memory", Item: "1200000"}, {What: "read", Item: "/etc/hosts"}}
	how := install.HowToGrant(c)
	for _, tt := range []struct {
		name  string
		lacks []install.Ask
		want  string
	}{
		{"a", lacks, "write grant: [one, two] and permit: {read: [/etc/hosts], connect: [80, 443]} and isolate: {memory: 1200000} in its entry, line 2 of shop.yaml"},
		{"a", lacks[2:3], "write isolate: {memory: 1200000} in its entry, line 2 of shop.yaml"},
		{"b", lacks[:2], "write its entry, line 3 of shop.yaml, as {name: b, grant: [two], permit: {connect: [443]}}"},
		{"f", lacks[1:2], "write its entry, line 8 of shop.yaml, as {name: f, grant: [two]}"},
		{"d", lacks[:1], "write permit: {read: ['/a b'], write: [/w], connect: [443], listen: [0], memory: 64MiB} in its entry, line 4 of shop.yaml"},
		{"d", lacks[1:3], "write grant: [two] and permit: {read: ['/a b'], write: [/w], listen: [0], memory: 1200000} in its entry, line 4 of shop.yaml"},
		{"e", lacks[:1], "write permit: {connect: [443]} in its entry, line 7 of shop.yaml"},
		{"7", lacks[2:3], "write isolate: {group: '8', memory: 1200000, cpu: 1m30s, processes: 2, files: 9, grace: 50ms, stop: 3s, sandbox: best-effort} in its entry, line 6 of shop.yaml"},
		{"c", lacks[:3], "add to plugins in shop.yaml: {name: c, grant: [two], permit: {connect: [443], memory: 1200000}}. Then try again"},
		{"e", []install.Ask{{What: "read", Item: "/a], write: [/"}, {What: "memory", Item: "1}, permit: {write: [/]"}},
			"write permit: {read: ['/a], write: [/'], memory: '1}, permit: {write: [/]'} in its entry, line 7 of shop.yaml"},
	} {
		assert.Equal(t, trust+tt.want, how(tt.name, tt.lacks))
	}

	// A file that is to say more, once all has gone well.
	wanted, err := config.Parse("shop.yaml", []byte(strings.Replace(text, "  - b\n", "  - {name: b, grant: [three]}\n", 1)+"  - {name: c, version: '~1.2', grant: [three]}\n  - {name: '9', version: '1'}\n"))
	require.NoError(t, err)
	how = install.HowToGrantWith(c, wanted)
	assert.Equal(t, trust+"write its entry, line 3 of shop.yaml, as {name: b, grant: [three], permit: {connect: [443]}}", how("b", lacks[:1]))
	assert.Equal(t, trust+"add to plugins in shop.yaml: {name: c, version: '~1.2', grant: [three], permit: {connect: [443]}}. Then: ferrule install", how("c", lacks[:1]))
	assert.Equal(t, trust+"add to plugins in shop.yaml: {name: '9', version: '1', permit: {connect: [443]}}. Then: ferrule install", how("9", lacks[:1]))
}

// What is written so is read as what was lacking, and what was there before: by the parser itself.
func TestHowToGrantIsRead(t *testing.T) {
	const entry = "{name: d, grant: [on_*], permit: {memory: 65KiB, read: ['~', '/a b'], listen: [0]}}"
	c, err := config.Parse(filepath.Join(t.TempDir(), "shop.yaml"), []byte("plugins: ["+entry+"]"))
	require.NoError(t, err)
	written, ok := strings.CutPrefix(install.HowToGrant(c)("d", []install.Ask{{What: "connect", Item: "443"}, {What: "connect", Item: "0080"}, {What: "connect", Item: "080"}, {What: "listen", Item: "08080"}, {What: "service", Item: "rate"}}), "If you trust it with that, write ")
	require.True(t, ok)
	written, _, _ = strings.Cut(written, " in its entry")
	now, err := config.Parse("", []byte("plugins: [{name: d, "+strings.Replace(written, " and permit:", ", permit:", 1)+"}]"))
	require.NoError(t, err, written)
	want := *c.Plugin("d")
	want.Grant, want.Permit.Connect, want.Permit.Listen = append(want.Grant, "rate"), []int{443, 80}, []int{0, 8080}
	assert.Equal(t, want.Grant, now.Plugins[0].Grant)
	assert.Equal(t, want.Permit, now.Plugins[0].Permit)
}

// A memory that nothing in the file bounds is a plug-in's without a word, also of one that the file does not name: another one requires it.
func TestGrantsOfMemory(t *testing.T) {
	c, err := config.Parse("shop.yaml", []byte("plugins: [bare, {name: bound, permit: {memory: 64KiB}}]"))
	require.NoError(t, err)
	for name, most := range map[string]bool{"bare": true, "bound": false, "unnamed": true} {
		assert.True(t, install.Grants(c, name, install.Ask{What: "memory", Item: "65536"}), name)
		assert.Equal(t, most, install.Grants(c, name, install.Ask{What: "memory", Item: "65537"}), name)
		assert.False(t, install.Grants(c, name, install.Ask{What: "memory", Item: "64KiB"}), name)
		assert.False(t, install.Grants(c, name, install.Ask{What: "connect", Item: "443"}), name)
	}
}

// Each file in a folder has a lock of its own.
func TestLockOf(t *testing.T) {
	for path, want := range map[string]string{"config.yaml": "ferrule.lock", "a/config.yml": "a/ferrule.lock", "a/shop.yaml": "a/shop.lock", "b.d/staging": "b.d/staging.lock"} {
		assert.Equal(t, filepath.FromSlash(want), install.LockOf(filepath.FromSlash(path)))
	}
}

// Remove takes with it what nobody needs any more, and leaves what somebody does. GC deletes what no lock that uses the store names.
func TestRemoveAndGC(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"}, library{tag: "dddd", version: "1.0.0"})
	all := p.ensure(p.installer(), "dist_aaaa", "dist_dddd").Plugins
	other := *p
	other.lock = filepath.Join(t.TempDir(), "other.lock")
	other.opened = nil
	other.ensure(other.installer(), "dist_bbbb")

	_, err := p.installer().Remove(t.Context(), wants("dist_aaaa", "dist_dddd"), "dist_bbbb")
	assert.ErrorIs(t, err, registry.ErrConflict)
	removed, err := p.installer().Remove(t.Context(), wants("dist_aaaa", "dist_dddd"), "dist_aaaa")
	require.NoError(t, err)
	assert.Equal(t, []string{"dist_aaaa", "dist_bbbb"}, removed)
	assert.Equal(t, map[string]string{"dist_dddd": "1.0.0"}, p.locked())

	gc := func(age time.Duration) int {
		t.Helper()
		_, n, err := p.closed().GC(t.Context(), age)
		require.NoError(t, err)
		return n
	}
	assert.Zero(t, gc(install.DefaultAge), "they are young")
	assert.Equal(t, 1, gc(0))
	assert.NoFileExists(t, all["dist_aaaa"].Path)
	assert.FileExists(t, all["dist_bbbb"].Path, "the other lock names it")
	require.NoError(t, os.WriteFile(other.lock, []byte("nonsense"), 0o644))
	_, _, err = p.closed().GC(t.Context(), 0)
	assert.ErrorIs(t, err, registry.ErrLock)
	assert.FileExists(t, all["dist_bbbb"].Path)
	require.NoError(t, os.Remove(other.lock))
	for _, s := range other.opened {
		require.NoError(t, s.Close())
	}
	assert.Equal(t, 1, gc(0))
	assert.NoFileExists(t, all["dist_bbbb"].Path)
	assert.FileExists(t, all["dist_dddd"].Path)
}

// An update that cannot write the lock leaves what Rollback goes back to. What was removed is kept no longer.
func TestRollbackAfterAFailedUpdate(t *testing.T) {
	p := newPlace(t)
	for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
		p.publish(library{tag: "aaaa", version: version})
		if version == "3.0.0" {
			require.NoError(t, os.Chmod(p.lock, 0o444))
			_, _, err := p.installer().Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{})
			require.ErrorIs(t, err, registry.ErrLock)
			require.NoError(t, os.Chmod(p.lock, 0o644))
			continue
		}
		p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa")...)
	}
	require.Equal(t, map[string]string{"dist_aaaa": "2.0.0"}, p.locked())
	changes, err := p.installer().Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "2.0.0", To: "1.0.0"}}, changes)

	_, n, err := p.closed().GC(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "3.0.0, which is in no lock")
	_, err = p.installer().Remove(t.Context(), nil, "dist_aaaa")
	require.NoError(t, err)
	_, n, err = p.closed().GC(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, 2, n, "neither the version that was removed nor the one before it")
}

// A lock that is registered and not yet written keeps its registration, as long as it is young.
func TestGCOfALockThatIsToCome(t *testing.T) {
	p := newPlace(t)
	p.ensure(p.installer())
	registered := func() []string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(p.store, "user", "*", "path"))
		require.NoError(t, err)
		return all
	}
	require.Len(t, registered(), 1)
	require.NoFileExists(t, p.lock)
	_, _, err := p.installer().GC(t.Context(), install.DefaultAge)
	require.NoError(t, err)
	require.Len(t, registered(), 1)
	old := time.Now().Add(-2 * install.DefaultAge)
	require.NoError(t, os.Chtimes(registered()[0], old, old))
	_, _, err = p.installer().GC(t.Context(), install.DefaultAge)
	require.NoError(t, err)
	assert.Empty(t, registered())
}

// Remove leaves what is in the lock and wanted by nobody now, such as what is disabled: it takes only what it is asked for, and what that alone needs.
func TestRemoveLeavesTheDisabled(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"}, library{tag: "cccc", version: "1.0.0", requires: "dist_bbbb ^1"},
		library{tag: "dddd", version: "1.0.0"}, library{tag: "eeee", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_cccc", "dist_dddd", "dist_eeee")
	removed, err := p.installer().Remove(t.Context(), wants("dist_aaaa", "dist_eeee"), "dist_aaaa")
	require.NoError(t, err)
	assert.Equal(t, []string{"dist_aaaa"}, removed, "dist_bbbb is needed by dist_cccc, which is disabled")
	assert.Equal(t, map[string]string{"dist_bbbb": "1.0.0", "dist_cccc": "1.0.0", "dist_dddd": "1.0.0", "dist_eeee": "1.0.0"}, p.locked())
	removed, err = p.installer().Remove(t.Context(), wants("dist_eeee"), "dist_cccc")
	require.NoError(t, err)
	assert.Equal(t, []string{"dist_bbbb", "dist_cccc"}, removed)
	assert.Equal(t, map[string]string{"dist_dddd": "1.0.0", "dist_eeee": "1.0.0"}, p.locked())
}

// Verify says of each plug-in of the lock whether it is there, whole and signed.
func TestVerify(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "bbbb", version: "1.0.0"}, library{tag: "dddd", version: "1.0.0"})
	all := p.ensure(p.installer(), "dist_aaaa", "dist_bbbb", "dist_dddd").Plugins
	requests := p.source.requests.Load()
	r, err := p.installer().Verify(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Err())
	assert.Len(t, r.Plugins, 3)
	require.NoError(t, os.Remove(all["dist_aaaa"].Path))
	require.NoError(t, os.Chmod(all["dist_bbbb"].Path, 0o755))
	require.NoError(t, os.WriteFile(all["dist_bbbb"].Path, []byte("other bytes"), 0o755))
	r, err = p.installer().Verify(t.Context())
	require.NoError(t, err)
	assert.ErrorIs(t, r.Failed["dist_aaaa"], registry.ErrNotFound)
	assert.ErrorIs(t, r.Failed["dist_bbbb"], registry.ErrDigest)
	assert.Contains(t, r.Plugins, "dist_dddd")
	assert.Equal(t, requests, p.source.requests.Load())

	signatures, err := filepath.Glob(filepath.Join(p.store, "signature", "*"))
	require.NoError(t, err)
	require.Len(t, signatures, 3)
	for _, s := range signatures {
		require.NoError(t, os.WriteFile(s, p.sign(p.key, subject(library{tag: "zzzz", version: "1.0.0"}), all["dist_dddd"].Path), 0o600))
	}
	r, err = p.installer().Verify(t.Context())
	require.NoError(t, err)
	assert.Contains(t, r.Plugins, "dist_dddd", "the lock has a good one")
	p.signedInLock("dist_dddd", nil)
	r, err = p.installer().Verify(t.Context())
	require.NoError(t, err)
	assert.ErrorIs(t, r.Failed["dist_dddd"], registry.ErrName)

	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb", "dist_dddd") // what is missing or damaged comes again
	assert.FileExists(t, all["dist_aaaa"].Path)
}

// A bundle has what is locked, for the platforms that are asked for, with signatures: from it alone it is installed elsewhere.
func TestBundle(t *testing.T) {
	p := newPlace(t)
	a := library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	here, there := p.build(a), p.windows(a)
	r, platform, err := install.Describe(here)
	require.NoError(t, err)
	on := subject(a)
	on.Platform = windows
	p.push(r, map[string]registry.Content{platform: {Path: here, Signature: p.sign(p.key, subject(a), here)}, windows: {Path: there, Signature: p.sign(p.key, on, there)}})
	p.ensure(p.installer(), "dist_aaaa")
	assert.Len(t, p.plugins()["dist_aaaa"].Files, 2, "the lock has all platforms")

	path := filepath.Join(t.TempDir(), "shop.zip")
	bundle, err := files.NewBundle(path)
	require.NoError(t, err)
	require.NoError(t, p.installer().Copy(t.Context(), bundle, nil, nil))
	elsewhere := newPlace(t)
	elsewhere.key = p.key
	elsewhere.source.Source = bundle
	result := elsewhere.ensure(elsewhere.installer(), "dist_aaaa")
	assert.Len(t, result.Plugins, 2)
	assert.Equal(t, p.plugins()["dist_aaaa"].Files, elsewhere.plugins()["dist_aaaa"].Files)
	assert.Len(t, elsewhere.plugins()["dist_aaaa"].Signatures, 2)
	assert.Equal(t, p.plugins()["dist_aaaa"].Signatures, elsewhere.plugins()["dist_aaaa"].Signatures)
	assert.ErrorIs(t, p.installer().Copy(t.Context(), bundle, []string{"dist_bbbb"}, []string{windows}), registry.ErrPlatform)
	assert.ErrorIs(t, p.installer().Copy(t.Context(), bundle, []string{"dist_none"}, nil), registry.ErrNotFound)
}

// One file is enough, with its signature beside it, and what it requires from elsewhere.
func TestFile(t *testing.T) {
	p := newPlace(t)
	a := library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	path := p.build(a)
	from := func(o *install.Options) { o.Sources = append([]registry.Source{install.File(path, "")}, o.Sources...) }
	p.refused(p.installer(from), registry.ErrUnsigned, "dist_aaaa")
	require.NoError(t, os.WriteFile(path+".minisig", p.sign(p.key, subject(a), path), 0o644))
	p.ensure(p.installer(from), "dist_aaaa")
	assert.NotContains(t, p.text(), filepath.ToSlash(path), "a path of this machine is in no lock")
	require.NoError(t, os.Remove(path))
	p.ensure(p.installer(), "dist_aaaa")
	require.NoError(t, os.RemoveAll(p.store))
	p.refused(p.installer(), registry.ErrNotFound, "dist_aaaa")
}

// askedContext calls a function whenever it is asked whether it has ended.
type askedContext struct {
	context.Context
	asked func()
}

func (c askedContext) Err() error {
	c.asked()
	return c.Context.Err()
}

// A lock that cannot be read any more when GC asks for the second time is an error, too, and what was to go stays.
func TestGCOfALockThatBreaks(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0"}, library{tag: "dddd", version: "1.0.0"})
	all := p.ensure(p.installer(), "dist_aaaa", "dist_dddd").Plugins
	_, err := p.installer().Remove(t.Context(), wants("dist_dddd"), "dist_aaaa")
	require.NoError(t, err)
	text, err := os.ReadFile(p.lock)
	require.NoError(t, err)
	closed := p.closed()
	_, n, err := closed.GC(askedContext{t.Context(), func() { // after the first question
		require.NoError(t, os.WriteFile(p.lock, []byte("nonsense"), 0o644))
	}}, 0)
	require.ErrorIs(t, err, registry.ErrLock)
	assert.Contains(t, err.Error(), "nothing more was deleted from the store: ")
	assert.Zero(t, n)
	assert.FileExists(t, all["dist_aaaa"].Path)
	require.NoError(t, os.WriteFile(p.lock, text, 0o644))
	_, n, err = closed.GC(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}
