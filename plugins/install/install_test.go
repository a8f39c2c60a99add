package install_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins/install"
)

// What is named is in the store and in the lock, with all that it requires; from then on no source is asked anything.
func TestEnsure(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1"}, library{tag: "bbbb", version: "1.0.0"}, library{tag: "bbbb", version: "1.2.0"},
		library{tag: "bbbb", version: "2.0.0"}, library{tag: "dddd", version: "1.0.0"})
	r := p.ensure(p.installer(), "dist_aaaa")
	require.Len(t, r.Plugins, 2)
	a, b := r.Plugins["dist_aaaa"], r.Plugins["dist_bbbb"]
	assert.Equal(t, "1.2.0", b.Version, "the newest in the range")
	assert.Equal(t, []string{"dist_bbbb"}, a.Requires)
	assert.Equal(t, p.key.ID(), a.Key)
	assert.True(t, a.New)
	assert.Empty(t, r.Notices)
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.2.0"}, p.locked())
	lib, err := loader.Open(a.Path)
	require.NoError(t, err)
	out, err := lib.Call(t.Context(), "version", nil)
	require.NoError(t, err)
	assert.Equal(t, "1.0.0", string(out))
	require.NoError(t, lib.Close())

	before, text := p.source.requests.Load(), p.text()
	again := p.ensure(p.installer(func(o *install.Options) {
		o.First = func(context.Context) error { return errors.New("there is no request to wait for") }
	}), "dist_aaaa")
	assert.Equal(t, before, p.source.requests.Load(), "lock and store have it all: no request")
	assert.Equal(t, text, p.text())
	a.New, b.New = false, false
	assert.Equal(t, map[string]install.Installed{"dist_aaaa": a, "dist_bbbb": b}, again.Plugins)

	p.publish(library{tag: "bbbb", version: "1.3.0"})
	p.ensure(p.installer(), "dist_aaaa", "dist_dddd", "dist_bbbb")
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.2.0", "dist_dddd": "1.0.0"}, p.locked(), "what is locked stays when something is added")
}
