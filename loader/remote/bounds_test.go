package remote_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

func init() {
	tests = append(tests, test{"SessionsAreBounded", testSessionsAreBounded}, test{"OpenErrors", testOpenErrors})
}

// More sessions than a node gives are refused, and a host that is gone leaves none.
func testSessionsAreBounded(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	k.Node(t, shout(), node{URL: s.URL(), Workers: 4, Sessions: 3})
	var all []*loader.Plugin
	open := func() (*loader.Plugin, error) {
		return loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
	}
	for range 3 {
		p, err := open()
		require.NoError(t, err)
		all = append(all, p)
	}
	_, err := open()
	require.ErrorIs(t, err, loader.ErrRead)
	assert.Contains(t, err.Error(), "as many sessions as it takes")
	require.NoError(t, all[0].Close())
	require.Eventually(t, func() bool {
		p, err := open()
		if err != nil {
			return false
		}
		all[0] = p
		return true
	}, time.Minute, 10*time.Millisecond)
	for _, p := range all {
		require.NoError(t, p.Close())
	}
}

// others are the schemes of another broker.
var others = map[string]string{"nats": "mqtt", "mqtt": "nats"}

// A host that cannot have what it asks for is told before anything is called.
func testOpenErrors(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	k.Node(t, shout(), node{URL: s.URL()})
	scheme, _, _ := strings.Cut(s.URL(), "://")
	for _, c := range []struct {
		path  string
		opts  []loader.Option
		kind  error
		words string
	}{
		{s.URL() + "/shout@^2", nil, loader.ErrRead, `found no node`},
		{s.URL() + "/whisper", nil, loader.ErrRead, `found no node`},
		{s.URL() + "/shout@one", nil, loader.ErrOption, `the versions "one"`},
		{s.URL() + "/sh out", nil, loader.ErrOption, `"sh out"`},
		{s.URL(), nil, loader.ErrOption, `without a plug-in's name`},
		{"localhost:1/shout", nil, loader.ErrOption, "found no scheme, such as " + scheme + "://, before the server, expected " + scheme + "://HOST:PORT/NAME"},
		{"ada:secret@localhost:1/shout", nil, loader.ErrOption, "found no scheme"},
		{"ftp://localhost:1/shout", nil, loader.ErrOption, "found a URL with the scheme ftp, expected " + scheme + "://HOST:PORT/NAME"},
		{others[scheme] + "://localhost:1/shout", nil, loader.ErrOption, "found a URL with the scheme " + others[scheme] + ", expected " + scheme + "://HOST:PORT/NAME, or " + scheme + "://HOST:PORT/NAME@VERSIONS. Open it with " +
			others[scheme] + ".Plugin(), of package"},
		{scheme + "://ada:secret@127.0.0.1:1/shout", nil, loader.ErrOption, `a user in the URL`},
		{scheme + "://127.0.0.1:1/shout", nil, loader.ErrRead, `no server that answers`},
		{s.URL() + "/shout", []loader.Option{loader.WithConfig([]byte("x"))}, loader.ErrOption, `WithConfig for a plug-in on other machines`},
		{s.URL() + "/shout", []loader.Option{loader.WithInstances(2)}, loader.ErrOption, `WithInstances for a plug-in on other machines`},
		{s.URL() + "/shout", []loader.Option{}, loader.ErrMissingImport, `suffix`},
	} {
		_, err := loader.Open(c.path, append(c.opts, k.Plugin(0))...)
		require.ErrorIs(t, err, c.kind, c.path)
		assert.Contains(t, err.Error(), c.words)
		assert.NotContains(t, err.Error(), "secret")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := loader.OpenContext(ctx, s.URL()+"/shout", k.Plugin(0), suffix())
	require.ErrorIs(t, err, context.Canceled)
}
