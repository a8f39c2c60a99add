package install_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// indexed is an index of the place's, signed, of a serial number.
func (p *place) indexed(serial uint64, date time.Time, keys []index.RevokedKey, revoked ...index.Revocation) func(o *install.Options) {
	p.t.Helper()
	return p.indexedAs("registry.example/acme", serial, date, keys, revoked...)
}

// indexedAs is the index of a registry, whose address and key are the place's.
func (p *place) indexedAs(name string, serial uint64, date time.Time, keys []index.RevokedKey, revoked ...index.Revocation) func(o *install.Options) {
	p.t.Helper()
	b, err := index.Build(name, serial, date, nil, revoked, keys)
	require.NoError(p.t, err)
	signature, err := sign.SignComment(p.key, b.Comment, bytes.NewReader(b.Root))
	require.NoError(p.t, err)
	at := p.t.TempDir()
	require.NoError(p.t, b.Write(at, signature))
	return func(o *install.Options) {
		o.Index = &install.Index{Source: "the place", Open: func(ctx context.Context, seen lock.Index) (install.Revocations, lock.Index, error) {
			x, err := index.Open(ctx, index.Folder(at), index.Options{Verifier: p.trust(), Seen: seen})
			if err != nil {
				return nil, lock.Index{}, err
			}
			return x, x.Seen(), nil
		}}
	}
}

// A version that was revoked is not installed, and another one is; what is locked is told. An index that is older than the one before it is no index.
func TestIndex(t *testing.T) {
	p := newPlace(t)
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	first := p.indexed(5, day, nil, index.Revocation{Name: "dist_aaaa", Versions: "1.1.0", Why: "it loses orders"})
	p.publish(library{tag: "aaaa", version: "1.1.0"})
	e := p.refused(p.installer(first), registry.ErrRevoked, "dist_aaaa")
	assert.Contains(t, e.Found, "it loses orders")
	assert.Contains(t, e.Remedy, "ferrule install dist_aaaa@RANGE", "an update has nothing to go by")
	_, _, err := p.installer(first).Update(t.Context(), nil, install.UpdateOptions{Names: []string{"dist_aaaa"}})
	assert.ErrorContains(t, err, "found no plug-in of this name in the lock, expected one that is installed, and none is. Install it: ferrule install dist_aaaa")
	_, err = p.installer(first).Rollback(t.Context(), "dist_aaaa")
	assert.ErrorContains(t, err, "expected one that is installed, and none is")
	p.publish(plain)
	r := p.ensure(p.installer(first), "dist_aaaa")
	assert.Equal(t, "1.0.0", r.Plugins["dist_aaaa"].Version)
	assert.Contains(t, p.text(), "serial: 5")

	p.publish(library{tag: "bbbb", version: "1.0.0"})
	p.refused(p.installer(p.indexed(4, day.Add(-time.Hour), nil)), registry.ErrStale, "dist_bbbb", "dist_aaaa")
	second := p.indexed(6, day.Add(time.Minute), nil, index.Revocation{Name: "dist_aaaa", Versions: "<2", Why: "it loses orders"})
	out, err := p.installer(second).Outdated(t.Context(), wants("dist_aaaa"))
	require.NoError(t, err)
	require.Len(t, out, 1)
	assert.Equal(t, "Install another version: ferrule update dist_aaaa", p.whole(out[0].Err).Remedy)
	changes, _, err := p.installer(second).Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{})
	require.NoError(t, err)
	require.Len(t, changes, 1, "an update that finds no newer one says why the locked one should go")
	assert.ErrorIs(t, changes[0].Err, registry.ErrRevoked)
	assert.NotContains(t, p.whole(changes[0].Err).Remedy, "ferrule update", "which is what is done")
	assert.Contains(t, p.text(), "serial: 6", "an update has looked at the index")
	require.NoError(t, os.RemoveAll(p.store))
	p.refused(p.installer(second), registry.ErrRevoked, "dist_aaaa")

	// The key of a plug-in's own may be revoked by an index that another key has signed.
	author, err := sign.Generate()
	require.NoError(t, err)
	p.pushAs(library{tag: "cccc", version: "1.0.0"}, nil, func(path string) []byte { return p.sign(author, subject(library{tag: "cccc", version: "1.0.0"}), path) })
	third := p.indexed(7, day.Add(2*time.Minute), nil)
	fourth := p.indexed(8, day.Add(3*time.Minute), []index.RevokedKey{{ID: author.ID(), Why: "it was stolen"}})
	own := func(o *install.Options) {
		o.Trust, err = sign.NewTrust(nil, map[string][]string{"dist_cccc": {author.Public().String()}}, nil)
		require.NoError(t, err)
	}
	p.refused(p.installer(fourth, own), registry.ErrRevokedKey, "dist_cccc")
	e = p.refused(p.installer(third, own), registry.ErrStale, "dist_cccc")
	assert.Contains(t, e.Remedy, "delete its entry below indexes: of the lock")
	text := p.text()
	text, _, _ = strings.Cut(text, "\nindexes:\n") // the one entry
	require.NoError(t, os.WriteFile(p.lock, []byte(text), 0o644))
	p.ensure(p.installer(third, own), "dist_cccc")
}

// A newer version that was revoked is none of those that an update could take, and the update says why nothing changes; of a locked one that was revoked it says how to go back.
func TestIndexOutdated(t *testing.T) {
	p := newPlace(t)
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	none := p.indexed(5, day, nil)
	p.publish(library{tag: "aaaa", version: "1.0.0"})
	p.ensure(p.installer(none), "dist_aaaa")
	p.publish(library{tag: "aaaa", version: "1.1.0"}, library{tag: "aaaa", version: "1.2.0"}, library{tag: "aaaa", version: "2.0.0"})
	wanted := install.Want{Name: "dist_aaaa", Range: "^1"}
	outdated := func(of func(*install.Options)) []install.Outdated {
		t.Helper()
		out, err := p.installer(of).Outdated(t.Context(), []install.Want{wanted})
		require.NoError(t, err)
		return out
	}
	row := install.Outdated{Name: "dist_aaaa", Version: "1.0.0", Fits: "1.2.0", Newest: "2.0.0"}
	assert.Equal(t, []install.Outdated{row}, outdated(none))
	r, err := p.source.Release(t.Context(), "dist_aaaa", "2.0.0")
	require.NoError(t, err)
	of := index.Revocation{Digest: r.Files[registry.ThisPlatform()].Digest, Why: "it forgets"}
	some := p.indexed(6, day.Add(time.Minute), nil, of, index.Revocation{Name: "dist_aaaa", Versions: "1.2.0", Why: "it loses orders"})
	row.Fits, row.Newest = "1.1.0", "1.1.0"
	assert.Equal(t, []install.Outdated{row}, outdated(some), "by number, and by digest")

	bad := index.Revocation{Name: "dist_aaaa", Versions: ">=1.1.0, <2", Why: "it loses orders"}
	all := p.indexed(7, day.Add(2*time.Minute), nil, of, bad)
	assert.Empty(t, outdated(all))
	changes, notices, err := p.installer(all).Update(t.Context(), []install.Want{wanted}, install.UpdateOptions{})
	require.NoError(t, err)
	assert.Empty(t, changes)
	require.Len(t, notices, 1)
	assert.Equal(t, "dist_aaaa 1.2.0: newer than 1.0.0, and not taken: found a version that was revoked: it loses orders, expected another", notices[0].String())

	require.Len(t, p.update(p.installer(p.indexed(8, day.Add(3*time.Minute), nil)), install.UpdateOptions{}, wanted), 1)
	require.Equal(t, "1.2.0", p.locked()["dist_aaaa"])
	changes, _, err = p.installer(p.indexed(9, day.Add(4*time.Minute), nil, bad)).Update(t.Context(), []install.Want{wanted}, install.UpdateOptions{})
	require.NoError(t, err)
	require.Len(t, changes, 1)
	assert.Contains(t, p.whole(changes[0].Err).Remedy, "No other version was taken: go back to 1.0.0 (ferrule rollback dist_aaaa), "+
		"have config.yaml ask for an older one (version: =1.0.0) and take it (ferrule update --allow-downgrade dist_aaaa), ask whoever")
	wanted.Range = "=1.0.0"
	changes = p.update(p.installer(p.indexed(10, day.Add(5*time.Minute), nil, bad)), install.UpdateOptions{Names: []string{"dist_aaaa"}, AllowDowngrade: true}, wanted)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.2.0", To: "1.0.0"}}, changes, "which is so")
}

// A locked version that was revoked is told also where a newer one is refused for something else: of an update that is the error.
func TestRevokedBesideRefused(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa")
	p.publish(library{tag: "aaaa", version: "1.1.0", permit: "443"})
	bad := index.Revocation{Name: "dist_aaaa", Versions: "1.0.0", Why: "it loses orders"}
	revoked := p.indexed(5, time.Now().UTC().Truncate(time.Second).Add(-time.Hour), nil, bad)
	refusing := func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return false } }
	for _, dry := range []bool{true, false} {
		changes, notices, err := p.installer(revoked, refusing).Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{DryRun: dry})
		require.NoError(t, err)
		require.Len(t, changes, 1)
		assert.ErrorIs(t, changes[0].Err, registry.ErrGrant)
		require.Len(t, notices, 1)
		assert.Contains(t, notices[0].String(), "dist_aaaa 1.0.0: ")
		assert.Contains(t, notices[0].String(), "found a version that was revoked: it loses orders, expected another. No other version was taken, and why is an error of its own: mend that, or remove it (ferrule remove dist_aaaa)")
	}
}

// Whoever goes back to a version that was revoked is told, by the rollback and by each update that leaves it pinned: it is done all the same, and before the index is asked. What is not in the store
// any more is not fetched.
func TestRollbackToRevoked(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	first := p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"]
	p.publish(library{tag: "aaaa", version: "1.1.0"})
	forward := func(o install.UpdateOptions) {
		t.Helper()
		p.update(p.installer(), o, wants("dist_aaaa")...)
		require.Equal(t, map[string]string{"dist_aaaa": "1.1.0"}, p.locked())
	}
	forward(install.UpdateOptions{})
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	revoked := p.indexed(5, day, nil, index.Revocation{Name: "dist_aaaa", Versions: "1.0.0", Why: "it loses orders"})
	const remedy = "Install another version: ferrule update --unpin dist_aaaa"

	changes, err := p.installer(revoked).Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked())
	require.Len(t, changes, 1)
	require.ErrorIs(t, changes[0].Revoked, registry.ErrRevoked)
	assert.Equal(t, remedy, p.whole(changes[0].Revoked).Remedy)
	for _, names := range [][]string{nil, {"dist_aaaa"}} {
		changes, notices, err := p.installer(revoked).Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{Names: names})
		require.NoError(t, err)
		assert.Empty(t, changes)
		require.Len(t, notices, 1)
		assert.Contains(t, notices[0].String(), "found a version that was revoked: it loses orders, expected another. "+remedy)
	}
	out, err := p.installer(revoked).Outdated(t.Context(), wants("dist_aaaa"))
	require.NoError(t, err)
	require.Len(t, out, 1)
	assert.Equal(t, remedy, p.whole(out[0].Err).Remedy)

	forward(install.UpdateOptions{Names: []string{"dist_aaaa"}, Unpin: true})
	down := func(o *install.Options) {
		o.Index = &install.Index{Source: "the place", Open: func(context.Context, lock.Index) (install.Revocations, lock.Index, error) {
			assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked(), "who goes back waits for no registry")
			return nil, lock.Index{}, &registry.Error{Kind: registry.ErrUnavailable, Found: "no network", Remedy: "Try again"}
		}}
	}
	changes, err = p.installer(down).Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	require.Len(t, changes, 1)
	assert.ErrorIs(t, changes[0].Revoked, registry.ErrUnavailable)

	forward(install.UpdateOptions{Names: []string{"dist_aaaa"}, Unpin: true})
	p.closed()
	require.NoError(t, os.Remove(first.Path))
	_, err = p.installer(revoked).Rollback(t.Context(), "dist_aaaa")
	require.ErrorIs(t, err, registry.ErrRevoked)
	assert.ErrorContains(t, err, "Nothing was changed")
	assert.Equal(t, map[string]string{"dist_aaaa": "1.1.0"}, p.locked())
}

// The index of another registry that has the same key is refused, and leaves no trace in the lock: neither its name nor a serial that this registry's own would have
// to follow.
func TestIndexOfAnotherRegistry(t *testing.T) {
	p := newPlace(t)
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	p.publish(plain)
	own := p.indexed(5, day, nil, index.Revocation{Name: "dist_aaaa", Versions: "1.1.0", Why: "it loses orders"})
	p.ensure(p.installer(own), "dist_aaaa")
	p.publish(library{tag: "aaaa", version: "1.1.0"})
	before := p.text()
	assert.Contains(t, before, "    name: registry.example/acme\n    serial: 5\n")
	other := p.indexedAs("registry.example/shop", 900, day.Add(time.Minute), nil)
	changes := p.update(p.installer(other), install.UpdateOptions{}, wants("dist_aaaa")...)
	require.Len(t, changes, 1)
	require.ErrorIs(t, changes[0].Err, registry.ErrIndex)
	assert.Contains(t, p.whole(changes[0].Err).Error(), "found the index of the registry registry.example/shop, expected that of registry.example/acme")
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	p.refused(p.installer(other), registry.ErrIndex, "dist_bbbb", "dist_aaaa")
	assert.Equal(t, before, p.text())
	p.ensure(p.installer(p.indexed(6, day.Add(2*time.Minute), nil)), "dist_aaaa", "dist_bbbb")
	assert.Contains(t, p.text(), "    name: registry.example/acme\n    serial: 6\n")
}

// Two processes see an address for the first time, and two registries there: the one that comes second to the lock does not take the other's name over.
func TestTwoRegistriesAtFirst(t *testing.T) {
	p := newPlace(t)
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	p.publish(plain)
	noted := lock.Index{Name: "registry.example/acme", Serial: 5, Date: day}
	race := func(o *install.Options) {
		p.indexedAs("registry.example/shop", 900, day, nil)(o)
		open := o.Index.Open
		o.Index.Open = func(ctx context.Context, seen lock.Index) (install.Revocations, lock.Index, error) {
			require.NoError(t, lock.Update(ctx, p.lock, func(l *lock.Lock) error { // the other process, meanwhile
				l.Indexes = map[string]lock.Index{o.Index.Source: noted}
				return nil
			}))
			return open(ctx, seen)
		}
	}
	_, err := p.installer(race).Ensure(t.Context(), wants("dist_aaaa"))
	require.ErrorIs(t, err, registry.ErrIndex)
	assert.Contains(t, err.Error(), "expected that of registry.example/acme, which another process has noted")
	l, err := lock.Load(p.lock)
	require.NoError(t, err)
	assert.Equal(t, noted, l.Indexes["the place"])
	assert.Empty(t, l.Plugins)
}

// A key that the index revokes ends what it has signed, also what is locked: where its file has to come, in an update, and in the list of what is old. What is there already starts as it would
// without a network, and somebody is told.
func TestIndexRevokesTheKeyOfTheLock(t *testing.T) {
	p := newPlace(t)
	author, err := sign.Generate()
	require.NoError(t, err)
	p.pushAs(plain, nil, func(path string) []byte { return p.sign(author, subject(plain), path) })
	own := func(o *install.Options) {
		o.Trust, err = sign.NewTrust([]string{p.key.Public().String()}, map[string][]string{"dist_aaaa": {author.Public().String()}}, nil)
		require.NoError(t, err)
	}
	p.ensure(p.installer(own), "dist_aaaa")
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(own), "dist_bbbb")
	p.publish(library{tag: "cccc", version: "1.0.0"})
	day := time.Now().UTC().Truncate(time.Second).Add(-time.Hour)
	revoked := p.indexed(3, day, []index.RevokedKey{{ID: author.ID(), Why: "it was stolen"}}, index.Revocation{Name: "dist_bbbb", Versions: "*", Why: "it loses orders"})

	assert.Empty(t, p.ensure(p.installer(own, revoked), "dist_aaaa", "dist_bbbb").Notices, "no index is needed")
	r := p.ensure(p.installer(own, revoked), "dist_aaaa", "dist_bbbb", "dist_cccc")
	require.Len(t, r.Notices, 2)
	assert.Contains(t, r.Notices[0].String(), "it was stolen")
	assert.Contains(t, r.Notices[1].String(), "it loses orders")

	out, err := p.installer(own, revoked).Outdated(t.Context(), nil)
	require.NoError(t, err)
	require.Len(t, out, 2)
	assert.ErrorIs(t, p.whole(out[0].Err), registry.ErrRevokedKey)
	assert.ErrorIs(t, p.whole(out[1].Err), registry.ErrRevoked)
	changes := p.update(p.installer(own, revoked), install.UpdateOptions{}, wants("dist_aaaa", "dist_bbbb", "dist_cccc")...)
	require.Len(t, changes, 2)
	assert.ErrorIs(t, changes[0].Err, registry.ErrRevokedKey)
	assert.ErrorIs(t, changes[1].Err, registry.ErrRevoked)
	p.closed()
	require.NoError(t, os.RemoveAll(p.store))
	p.refused(p.installer(own, revoked), registry.ErrRevokedKey, "dist_aaaa", "dist_cccc")
}

// An index that cannot be opened is asked for once in a call.
func TestIndexThatFails(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "bbbb", version: "1.0.0"}, library{tag: "cccc", version: "1.0.0"})
	opened := 0
	broken := func(o *install.Options) {
		o.Index = &install.Index{Source: "the place", Open: func(context.Context, lock.Index) (install.Revocations, lock.Index, error) {
			opened++
			return nil, lock.Index{}, &registry.Error{Source: "the place", Kind: registry.ErrSignature, Found: "other bytes"}
		}}
	}
	r, err := p.installer(broken).Ensure(t.Context(), wants("dist_aaaa", "dist_bbbb", "dist_cccc"))
	require.NoError(t, err)
	assert.Len(t, r.Failed, 3)
	assert.Equal(t, 1, opened)
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb", "dist_cccc")
	_, err = p.installer(broken).Outdated(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, 2, opened)
}

// Where nothing changes, nothing comes and goes beside the lock: who watches its folder would look at it again without end.
func TestNothingChanges(t *testing.T) {
	p := newPlace(t)
	p.publish(plain)
	x := p.indexed(5, time.Now().UTC().Truncate(time.Second).Add(-time.Hour), nil)
	p.ensure(p.installer(x), "dist_aaaa")
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(filepath.Dir(p.lock), long, long))
	p.refused(p.installer(x), registry.ErrNotFound, "dist_none", "dist_aaaa") // the index is opened
	info, err := os.Stat(filepath.Dir(p.lock))
	require.NoError(t, err)
	assert.Equal(t, long, info.ModTime())
}
