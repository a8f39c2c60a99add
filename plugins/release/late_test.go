package release_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/release"
)

// Credentials are looked for when something is asked: a .netrc that cannot be read stops nobody before.
func TestNetrcWhenAsked(t *testing.T) {
	dir := t.TempDir()
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	ask := func(netrc string) error {
		t.Setenv("NETRC", netrc)
		s, err := release.Hurried(config.Registry{URL: page.URL + "/{tag}"}, nil)
		require.NoError(t, err)
		_, err = release.Index(page.URL)
		require.NoError(t, err)
		_, err = s.Release(t.Context(), "sample", "1.0.0")
		return err
	}
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.ErrorIs(t, ask(filepath.Join(file, "netrc")), registry.ErrNotFound, "below a file there is none")
	assert.ErrorIs(t, ask(dir), registry.ErrNotFound)
	for _, home := range []string{"HOME", "USERPROFILE"} {
		t.Setenv(home, "")
	}
	assert.ErrorIs(t, ask(""), registry.ErrNotFound, "no home, no .netrc")
	if runtime.GOOS == "windows" {
		return
	}
	circle := filepath.Join(dir, "circle") // root cannot read it either
	require.NoError(t, os.Symlink(circle, circle))
	err := ask(circle)
	assert.ErrorIs(t, err, registry.ErrRefused)
	assert.ErrorContains(t, err, ".netrc")
}

// A connection that was answered by an error or by a redirect is used again.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	var connections, asked atomic.Int64
	page := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if to, ok := strings.CutPrefix(r.URL.Path, "/moved"); ok {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(strings.Repeat("no such file\n", 300)))
	}))
	page.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	page.Start()
	t.Cleanup(page.Close)
	s := hurried(t, page.URL+"/moved/{tag}")
	_, err := s.Release(t.Context(), "sample", "1.0.0")
	require.ErrorIs(t, err, registry.ErrNotFound)
	r := &registry.Release{Name: "sample", Version: "1.0.0", Files: map[string]registry.File{"linux/amd64": {}}}
	_, _, _, err = s.Open(t.Context(), r, "linux/amd64", 0)
	require.ErrorIs(t, err, registry.ErrNotFound)
	assert.Greater(t, asked.Load(), int64(20))
	assert.EqualValues(t, 1, connections.Load())
}

// The index of a release page is asked for with the query of registry.url, less what differs from release to release.
func TestIndexQuery(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.String())
		mu.Unlock()
		http.NotFound(w, r)
	})
	for query, want := range map[string]string{"": "", "?key=abc": "?key=abc", "?key=a%2Fb&v={version}&x=1": "?key=a%2Fb&x=1", "?v={version}": ""} {
		s := hurried(t, address+"/shop/{tag}"+query)
		from := s.(interface{ Index() index.Fetcher }).Index()
		_, _, err := from.Root(t.Context())
		require.ErrorIs(t, err, registry.ErrNotFound)
		assert.NotContains(t, from.String(), "abc")
		assert.Equal(t, []string{"/shop/index.json.minisig" + want, "/shop/index.json" + want}, asked)
		asked = nil
	}
}
