package install_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// beside has dist_bbbb there, in a version.
func beside(version string) func(*install.Options) {
	return func(o *install.Options) {
		o.Local = map[string]*registry.Release{"dist_bbbb": {Name: "dist_bbbb", Version: version}}
	}
}

var needy = library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}

// A lock that was written beside a plug-in of a folder is completed where that is not, and what is in the folder is never in it.
func TestLockedBesideLocal(t *testing.T) {
	p := newPlace(t)
	p.publish(needy, library{tag: "bbbb", version: "1.2.0"})
	r := p.ensure(p.installer(beside("1.9.0")), "dist_aaaa")
	assert.Len(t, r.Plugins, 1)
	require.Equal(t, map[string]string{"dist_aaaa": "1.0.0"}, p.locked())
	text := p.text()
	p.ensure(p.installer(beside("1.9.0")), "dist_aaaa")
	assert.Equal(t, text, p.text())

	p.refused(p.installer(beside("2.0.0")), registry.ErrConflict, "dist_aaaa")
	p.refused(p.installer(func(o *install.Options) { o.ReadOnly = true }), registry.ErrNotFound, "dist_aaaa")
	r = p.ensure(p.installer(), "dist_aaaa")
	assert.Len(t, r.Plugins, 2)
	assert.Equal(t, []string{"dist_bbbb"}, r.Plugins["dist_aaaa"].Requires)
	assert.Equal(t, "1.2.0", p.plugins()["dist_aaaa"].Requires["dist_bbbb"])
	before := p.source.requests.Load()
	p.ensure(p.installer(), "dist_aaaa")
	assert.Equal(t, before, p.source.requests.Load())
}

// What is in a folder counts there, also where the lock has another version of it, and that stays in the lock for all others.
func TestLocalOverLocked(t *testing.T) {
	p := newPlace(t)
	other := library{tag: "dddd", version: "1.0.0", requires: "dist_bbbb ^1"}
	p.publish(needy, other, library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa")
	text := p.text()
	require.NoError(t, os.RemoveAll(filepath.Join(p.store, "sha256")))
	r := p.ensure(p.installer(beside("1.9.0")), "dist_aaaa")
	assert.NotContains(t, r.Plugins, "dist_bbbb", "it is neither loaded from the store nor fetched")
	assert.Equal(t, text, p.text())

	r = p.ensure(p.installer(beside("1.9.0")), "dist_aaaa", "dist_bbbb", "dist_dddd")
	assert.Len(t, r.Plugins, 2)
	assert.Equal(t, "1.0.0", p.plugins()["dist_dddd"].Requires["dist_bbbb"])
	p.refused(p.installer(beside("2.0.0")), registry.ErrConflict, "dist_aaaa")
	assert.Len(t, p.ensure(p.installer(), "dist_aaaa", "dist_dddd").Plugins, 3)
}

// An update beside a plug-in of a folder leaves what the lock has of that, and a lock that all can use.
func TestUpdateBesideLocal(t *testing.T) {
	p := newPlace(t)
	p.publish(needy, library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(), "dist_aaaa")
	p.publish(library{tag: "bbbb", version: "1.1.0"})
	text := p.text()
	assert.Empty(t, p.update(p.installer(beside("1.9.0")), install.UpdateOptions{}, wants("dist_aaaa")...))
	assert.Equal(t, text, p.text())

	p.publish(library{tag: "aaaa", version: "1.1.0", requires: "dist_bbbb ^1"})
	expected := []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "1.1.0"}}
	assert.Equal(t, expected, p.update(p.installer(beside("1.9.0")), install.UpdateOptions{DryRun: true}, wants("dist_aaaa")...))
	assert.Equal(t, text, p.text())
	assert.Equal(t, expected, p.update(p.installer(beside("1.9.0")), install.UpdateOptions{}, wants("dist_aaaa")...))
	assert.Equal(t, map[string]string{"dist_aaaa": "1.1.0", "dist_bbbb": "1.0.0"}, p.locked())
	p.ensure(p.installer(beside("1.9.0")), "dist_aaaa")
	assert.Len(t, p.ensure(p.installer(), "dist_aaaa").Plugins, 2)
	_, err := p.installer(beside("1.9.0")).Rollback(t.Context(), "dist_aaaa")
	require.NoError(t, err)
	assert.Len(t, p.ensure(p.installer(), "dist_aaaa").Plugins, 2)

	p.publish(library{tag: "aaaa", version: "2.0.0", requires: "dist_bbbb ^2"}, library{tag: "bbbb", version: "2.0.0"})
	changes := p.update(p.installer(beside("2.0.0")), install.UpdateOptions{Names: []string{"dist_aaaa"}, Unpin: true}, wants("dist_aaaa")...)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "2.0.0", Unpinned: true}, {Name: "dist_bbbb", From: "1.0.0"}}, changes, "the lock's does not fit any more")
	assert.Len(t, p.ensure(p.installer(), "dist_aaaa").Plugins, 2)
	assert.Equal(t, "2.0.0", p.locked()["dist_bbbb"])
}

// Granted is foreign: it is asked one thing at a time, however many plug-ins come.
func TestGrantedOneAtATime(t *testing.T) {
	p := newPlace(t)
	var names []string
	for _, tag := range []string{"aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff"} {
		p.publish(library{tag: tag, version: "1.0.0", permit: "443"})
		names = append(names, "dist_"+tag)
	}
	inside := make(chan struct{}, 1)
	asked := map[string]int{} // the race detector looks at it, too
	p.ensure(p.installer(func(o *install.Options) {
		o.Granted = func(plugin, _ string, _ install.Ask) bool {
			select {
			case inside <- struct{}{}:
			default:
				t.Error("a call began before another one ended")
				return true
			}
			runtime.Gosched()
			asked[plugin]++
			<-inside
			return true
		}
	}), names...)
	assert.Len(t, asked, len(names))
}

// Who may read a store may read all that is in it.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	for _, mode := range []os.FileMode{0o700, 0o755, 0o750} {
		p := newPlace(t)
		p.publish(plain)
		require.NoError(t, errors.Join(os.Mkdir(p.store, mode), os.Chmod(p.store, mode)))
		p.ensure(p.installer(), "dist_aaaa")
		n := 0
		for _, pattern := range []string{"signature", "signature/*", "user", "user/*", "user/*/path"} {
			all, err := filepath.Glob(filepath.Join(p.store, filepath.FromSlash(pattern)))
			require.NoError(t, err)
			for _, path := range all {
				n++
				info, err := os.Stat(path)
				require.NoError(t, err)
				want := mode
				if !info.IsDir() {
					want = mode & 0o644
				}
				assert.Equal(t, want, info.Mode().Perm(), path)
			}
		}
		assert.Equal(t, 5, n)
	}
}
