package plugins_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// A file in a folder that config.yaml does not name is there for nobody: what requires such a plug-in has it installed.
func TestDownloadBesideUnnamed(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0", "requires=")
	p.publish("bbbb", "1.2.0")
	folder := t.TempDir()
	path := filepath.Join(folder, "b"+fixture.Ext())
	variant(t, "released", path, "dist_aaaa", "dist_bbbb", "requires=", "x_quires=", "conflicts=", "x_nflicts=", "permit.connect=", "x_rmit.connect=")
	p.configure("dist_aaaa")
	sys := p.system(plugins.Folder(folder))
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
	assert.Equal(t, "1.2.0", version(t, sys, "dist_bbbb"))

	// Named, it counts, although the lock has another one. The lock stays, and is good for when it is gone.
	text, err := os.ReadFile(filepath.Join(p.folder, install.LockName))
	require.NoError(t, err)
	p.configure("dist_aaaa", "dist_bbbb")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_bbbb"))
	require.NoError(t, os.Remove(path))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "1.2.0", version(t, sys, "dist_bbbb"))
	after, err := os.ReadFile(filepath.Join(p.folder, install.LockName))
	require.NoError(t, err)
	assert.Equal(t, string(text), string(after))
}

// logging tells of each line that is logged.
type logging func(line string)

func (l logging) Write(line []byte) (int, error) {
	l(string(line))
	return len(line), nil
}

// A lock that changes just when the installer has ended is not missed by the next Reload.
func TestDownloadLockMoves(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	require.NoError(t, os.WriteFile(filepath.Join(p.folder, "config.yaml"), []byte("registry: {url: 'https://plugins.example/{tag}'}\nplugins: [dist_aaaa]\n"), 0o644))
	lock := filepath.Join(p.folder, install.LockName)
	p.publish("aaaa", "1.0.0")
	require.NoError(t, p.system().Start(t.Context()))
	old, err := os.ReadFile(lock)
	require.NoError(t, err)
	require.NoError(t, os.Remove(lock))
	p.publish("aaaa", "1.1.0")
	moved := false
	sys := p.system(plugins.Logger(slog.New(slog.NewTextHandler(logging(func(line string) {
		if strings.Contains(line, "NOT VERIFIED") && !moved { // the installer has ended by then
			moved = true
			assert.NoError(t, os.WriteFile(lock, old, 0o644))
		}
	}), nil))))
	require.NoError(t, sys.Start(t.Context()))
	require.True(t, moved)
	assert.Equal(t, "1.1.0", version(t, sys, "dist_aaaa"))
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
}

// A file that is damaged in the store, or gone from it, is fetched again, at once by Reload and otherwise when the plug-in is tried again.
func TestDownloadDamaged(t *testing.T) {
	fixture.Loadable(t)
	for name, damage := range map[string]func(path string) error{
		"other bytes": func(path string) error {
			text, err := os.ReadFile(path)
			text[len(text)-1] ^= 1
			return errors.Join(err, os.Chmod(path, 0o755), os.WriteFile(path, text, 0o755))
		},
		"gone": os.Remove,
	} {
		for _, reload := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				p := newPublisher(t)
				p.publish("aaaa", "1.0.0")
				p.configure("dist_aaaa")
				sys := p.system()
				require.NoError(t, sys.Start(t.Context()))
				a, _ := sys.Plugin("dist_aaaa")
				require.NoError(t, damage(a.Source))
				f, err := sys.Func("dist_aaaa", "version")
				require.NoError(t, err)
				_, err = f.Call(t.Context(), nil)
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "update the digest")
				assert.ErrorContains(t, err, "Reload")
				if name == "other bytes" {
					require.ErrorIs(t, err, loader.ErrDigest)
				}
				if reload {
					require.NoError(t, sys.Reload(t.Context()))
					assert.Equal(t, "1.0.0", version(t, sys, "dist_aaaa"))
					return
				}
				require.Eventually(t, func() bool { a, _ := sys.Plugin("dist_aaaa"); return a.State == plugins.StateStarted }, time.Minute, 10*time.Millisecond)
			})
		}
	}
}

// A lock that cannot be read is no version that does not fit.
func TestDownloadLockUnreadable(t *testing.T) {
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	p.configure("dist_aaaa")
	require.NoError(t, os.WriteFile(filepath.Join(p.folder, install.LockName), []byte("format: 1\n<<<<<<< ours\n"), 0o644))
	sys := p.system()
	require.NoError(t, sys.Start(t.Context()))
	a, _ := sys.Plugin("dist_aaaa")
	assert.ErrorIs(t, a.Err, plugins.ErrFetch)
	assert.ErrorIs(t, a.Err, registry.ErrLock)
	assert.NotErrorIs(t, a.Err, plugins.ErrRange)
	assert.ErrorContains(t, a.Err, "a conflict of a merge")
}

// hanging is a server that takes every request, and never answers. It says when one has come.
func hanging(t *testing.T) (url string, came <-chan struct{}) {
	t.Helper()
	asked, over := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	t.Cleanup(func() { close(over); server.Close() })
	return server.URL + "/{tag}", asked
}

// While a download hangs, what runs goes on; Start and Reload end with their context, and Close ends them.
func TestDownloadHangs(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	url, came := hanging(t)
	path := filepath.Join(p.folder, "config.yaml")
	configure := func(names string) {
		require.NoError(t, os.WriteFile(path, []byte("registry: {url: '"+url+"'}\nplugins: ["+names+"]\n"), 0o644))
	}
	folder := t.TempDir()
	variant(t, "released", filepath.Join(folder, "b"+fixture.Ext()), "dist_aaaa", "dist_bbbb", "requires=", "x_quires=", "conflicts=", "x_nflicts=", "permit.connect=", "x_rmit.connect=")
	system := func() *plugins.System { return p.system(plugins.Folder(folder), plugins.Download(release.Pages)) }

	configure("dist_aaaa")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, system().Start(ctx), context.DeadlineExceeded)

	configure("dist_bbbb")
	sys := system()
	require.NoError(t, sys.Start(t.Context()))
	configure("dist_aaaa, dist_bbbb")
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, sys.Reload(ctx), context.DeadlineExceeded)
	assert.Equal(t, "1.0.0", version(t, sys, "dist_bbbb"))

	for len(came) > 0 {
		<-came
	}
	ended := make(chan error, 1)
	go func() { ended <- sys.Reload(context.WithoutCancel(t.Context())) }()
	<-came
	assert.Equal(t, "1.0.0", version(t, sys, "dist_bbbb"), "while it hangs")
	require.NoError(t, closed(sys))
	require.ErrorIs(t, <-ended, plugins.ErrClosed)
}

// What is told of a registry's index is a line about no plug-in.
func TestDownloadTellsOfIndex(t *testing.T) {
	fixture.Loadable(t)
	p := newPublisher(t)
	p.publish("aaaa", "1.0.0")
	b, err := index.Build("registry.example/acme", 1, time.Now().Add(-40*24*time.Hour), nil, nil, nil)
	require.NoError(t, err)
	signature, err := sign.SignComment(p.key, b.Comment, bytes.NewReader(b.Root))
	require.NoError(t, err)
	require.NoError(t, b.Write(p.releases, signature))
	p.configure("dist_aaaa")
	require.NoError(t, p.system().Start(t.Context()))
	assert.Contains(t, p.logged(), "msg=installing source=", "and neither plugin nor version")
	assert.Contains(t, p.logged(), "40 days old")
}
