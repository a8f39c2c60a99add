package release_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// An index that a web server has: what is asked for is counted, and once it was fetched nothing but the root is.
func TestIndex(t *testing.T) {
	built, err := index.Build("registry.example/acme", 3, time.Now(), []index.Entry{{Name: "tax", Summary: "Adds tax", Versions: []string{"1.0.0"}}}, nil, nil)
	require.NoError(t, err)
	key, err := sign.Generate()
	require.NoError(t, err)
	signature, err := sign.SignComment(key, built.Comment, strings.NewReader(string(built.Root)))
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, built.Write(folder, signature))

	var mu sync.Mutex
	var asked []string
	files := http.StripPrefix("/shop/plugins", http.FileServer(http.Dir(folder)))
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, strings.TrimPrefix(r.URL.String(), "/shop/plugins"))
		mu.Unlock()
		files.ServeHTTP(w, r)
	}))
	defer page.Close()
	took := func() []string {
		defer func() { asked = nil }()
		return asked
	}

	from, err := release.Index(page.URL + "/shop/plugins/?key=abc")
	require.NoError(t, err)
	assert.Equal(t, page.URL+"/shop/plugins/", from.String())
	trust, err := sign.NewTrust([]string{key.Public().String()}, nil, nil)
	require.NoError(t, err)
	o := index.Options{Verifier: trust, Cache: t.TempDir()}
	for i := range 2 {
		x, err := index.Open(t.Context(), from, o)
		require.NoError(t, err)
		assert.Equal(t, []string{"/index.json.minisig?key=abc", "/index.json?key=abc"}, took())
		_, err = x.Lookup(t.Context(), "tax")
		require.NoError(t, err)
		found, err := x.Search(t.Context(), "adds", 5)
		require.NoError(t, err)
		assert.Equal(t, 1, found.Total)
		if i == 0 {
			assert.Len(t, took(), 2)
		}
		assert.Empty(t, took())
	}

	_, err = from.Shard(t.Context(), "sha256:"+strings.Repeat("0", 64), 10)
	var e *registry.Error
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, registry.ErrNotFound)
	assert.Equal(t, from.String(), e.Source)
	for _, address := range []string{"oci://example.com/x", "https:///x", "http://{name}/", "https://example.com/%zz"} {
		_, err := release.Index(address)
		require.ErrorIs(t, err, registry.ErrMalformed, address)
	}
	none, err := release.Index(page.URL)
	require.NoError(t, err)
	_, err = index.Open(t.Context(), none, index.Options{})
	require.ErrorIs(t, err, registry.ErrNotFound)
}

// A server that sends without end is left.
func TestIndexWithoutEnd(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for line := []byte(strings.Repeat(" ", 1<<16)); r.Context().Err() == nil; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	defer page.Close()
	from, err := release.Index(page.URL)
	require.NoError(t, err)
	_, err = index.Open(t.Context(), from, index.Options{})
	require.ErrorIs(t, err, registry.ErrMalformed)
	_, err = from.Shard(t.Context(), "sha256:"+strings.Repeat("0", 64), 10)
	require.ErrorIs(t, err, registry.ErrMalformed)
}
