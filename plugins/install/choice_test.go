package install_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// many is a source with many versions of dist_many beside what it has; each asks for something, or has a file that is none.
type many struct {
	*asked
	versions int
	permits  map[string][]string
	imports  []string
}

func (m *many) Versions(ctx context.Context, name string) ([]string, error) {
	if name != "dist_many" {
		return m.asked.Versions(ctx, name)
	}
	var all []string
	for i := range m.versions {
		all = append(all, fmt.Sprintf("1.%d.0", i))
	}
	return all, nil
}

func (m *many) Release(ctx context.Context, name, version string) (*registry.Release, error) {
	if name != "dist_many" {
		return m.asked.Release(ctx, name, version)
	}
	m.requests.Add(1)
	return &registry.Release{Name: name, Version: version, Permits: m.permits, Imports: m.imports,
		Files: map[string]registry.File{registry.ThisPlatform(): {Digest: "sha256:" + strings.Repeat("0", 64), Size: 1}}}, nil
}

// A plug-in of which no version is to be had is an error of its own, however many there are: nothing of it is locked, and the others are updated.
func TestUpdateWithManyVersions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    error
		source  many
		granted func(plugin, version string, ask install.Ask) bool
		most    int64 // files of it that may be asked for
	}{
		{"all ask for what is not granted", registry.ErrGrant, many{permits: map[string][]string{"connect": {"443"}}}, func(string, string, install.Ask) bool { return false }, 0},
		{"all import what is granted as a service alone", registry.ErrGrant, many{imports: []string{"points"}}, func(_, _ string, ask install.Ask) bool { return ask.What == "service" }, 0},
		{"no file is what it should be", registry.ErrNotFound, many{}, nil, 16},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.publish(plain)
			source := &tt.source
			source.asked, source.versions = p.source, 300
			from := func(o *install.Options) { o.Sources, o.Granted = []registry.Source{source}, tt.granted }
			p.ensure(p.installer(from), "dist_aaaa")
			p.publish(library{tag: "aaaa", version: "1.1.0"})
			opened, requests := p.source.opened.Load(), p.source.requests.Load()
			changes := p.update(p.installer(from), install.UpdateOptions{}, wants("dist_aaaa", "dist_many")...)
			require.Len(t, changes, 2)
			assert.Equal(t, install.Change{Name: "dist_aaaa", From: "1.0.0", To: "1.1.0"}, changes[0])
			assert.ErrorIs(t, p.whole(changes[1].Err), tt.kind)
			assert.Empty(t, changes[1].To)
			assert.Equal(t, map[string]string{"dist_aaaa": "1.1.0"}, p.locked())
			assert.LessOrEqual(t, p.source.opened.Load()-opened, tt.most+1)
			assert.LessOrEqual(t, p.source.requests.Load()-requests, int64(300+50), "each version is described once")
		})
	}
}

// A version that no lock can say is no choice: another one is taken, and where there is none, the others are installed.
func TestVersionThatNoLockCanSay(t *testing.T) {
	p := newPlace(t)
	odd := library{tag: "aaaa", version: "1.2-a"}
	p.publish(odd, library{tag: "bbbb", version: "1.0.0"})
	r, err := p.installer().Ensure(t.Context(), wants("dist_aaaa", "dist_bbbb"))
	require.NoError(t, err)
	require.ErrorIs(t, r.Failed["dist_aaaa"], registry.ErrMalformed)
	assert.Contains(t, p.whole(r.Failed["dist_aaaa"]).Error(), `found "1.2-a", expected a version as in 1.2.3`)
	assert.Equal(t, map[string]string{"dist_bbbb": "1.0.0"}, p.locked(), "the others are")
	p.publish(plain)
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.0.0"}, p.locked())
	require.NoError(t, lock.Update(t.Context(), p.lock, func(l *lock.Lock) error {
		delete(l.Plugins, "dist_aaaa")
		return nil
	}))
	p.publish(library{tag: "bbbb", version: "1.1.0"})
	p.update(p.installer(), install.UpdateOptions{}, wants("dist_aaaa", "dist_bbbb")...)
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.1.0"}, p.locked())
}
