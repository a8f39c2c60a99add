// Package site is a core system in folders of a test's own, with what its tests ask of it, whichever engines it has; and places to publish to.
package site

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

// Site is a folder with plug-ins and a config.yaml.
type Site struct {
	t      testing.TB
	Folder string // of plug-ins
	Config string // the path of config.yaml
}

// New makes a site, which the test takes away.
func New(t testing.TB) *Site {
	t.Helper()
	return &Site{t, t.TempDir(), filepath.Join(t.TempDir(), "config.yaml")}
}

// Beside returns one with the same plug-ins, and a config.yaml of its own.
func (s *Site) Beside(t testing.TB) *Site {
	t.Helper()
	return &Site{t, s.Folder, filepath.Join(t.TempDir(), "config.yaml")}
}

// Put writes a file into the folder, in one step.
func (s *Site) Put(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.Folder, filepath.FromSlash(name))
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	require.NoError(s.t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(tmp, []byte(text), 0o644), os.Rename(tmp, path)))
	return path
}

// Configure writes config.yaml: its folders, and text.
func (s *Site) Configure(text string) {
	s.t.Helper()
	text = "folders: ['" + s.Folder + "']\n" + text
	require.NoError(s.t, errors.Join(os.WriteFile(s.Config+".new", []byte(text), 0o644), os.Rename(s.Config+".new", s.Config)))
}

// System makes a system with an engine, which the test shuts down.
func (s *Site) System(e engine.Engine, opts ...plugins.Option) *plugins.System {
	s.t.Helper()
	sys := plugins.New("app", "1.0.0", append([]plugins.Option{plugins.Logger(Quiet()), plugins.Config(s.Config), plugins.Engines(e)}, opts...)...)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(s.t, sys.Shutdown(ctx))
	})
	return sys
}

// Start makes a system, and starts it.
func (s *Site) Start(e engine.Engine, opts ...plugins.Option) *plugins.System {
	s.t.Helper()
	sys := s.System(e, opts...)
	require.NoError(s.t, sys.Start(s.t.Context()))
	return sys
}

// Quiet is a logger that says nothing.
func Quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// Call calls a function of a plug-in; a failure is its text with ! before it.
func Call(t testing.TB, sys *plugins.System, plugin, function, in string) string {
	t.Helper()
	f, err := sys.Func(plugin, function)
	require.NoError(t, err)
	out, err := f.Call(t.Context(), []byte(in))
	if err != nil {
		return "!" + err.Error()
	}
	return string(out)
}

// Why is the error of a plug-in.
func Why(t testing.TB, sys *plugins.System, name string, kind error) *plugins.Error {
	t.Helper()
	p, ok := sys.Plugin(name)
	require.True(t, ok)
	var e *plugins.Error
	require.ErrorAs(t, p.Err, &e, "%v", p.State)
	require.ErrorIs(t, e, kind)
	return e
}

// Raw is a plugins.Codec that has bytes as they are.
type Raw struct{}

// Marshal is plugins.Codec's.
func (Raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal is plugins.Codec's.
func (Raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// Places are where a plug-in may be published: each returns the registry.url, and who publishes there. distribution starts an OCI registry, and returns host and port.
func Places(distribution func(t *testing.T) string) map[string]func(t *testing.T) (address string, to registry.Pusher) {
	return map[string]func(t *testing.T) (address string, to registry.Pusher){
		"folder": func(t *testing.T) (string, registry.Pusher) {
			path := filepath.Join(t.TempDir(), "releases")
			to, err := files.NewFolder(path)
			require.NoError(t, err)
			return (&url.URL{Scheme: "file", Path: slashed(path)}).String(), to
		},
		"bundle": func(t *testing.T) (string, registry.Pusher) {
			path := filepath.Join(t.TempDir(), "releases.zip")
			to, err := files.NewBundle(path)
			require.NoError(t, err)
			return (&url.URL{Scheme: "file", Path: slashed(path)}).String(), to
		},
		"release page": func(t *testing.T) (string, registry.Pusher) {
			path := filepath.Join(t.TempDir(), "releases")
			to, err := files.NewFolder(path)
			require.NoError(t, err)
			server := httptest.NewServer(http.FileServer(http.Dir(path)))
			t.Cleanup(server.Close)
			return server.URL + "/{tag}", to
		},
		"OCI registry": func(t *testing.T) (string, registry.Pusher) {
			address := "oci://" + distribution(t) + "/acme"
			to, err := oci.New(address)
			require.NoError(t, err)
			return address, to
		},
	}
}

func slashed(path string) string {
	path = filepath.ToSlash(path)
	if path[0] != '/' { // a drive
		path = "/" + path
	}
	return path
}
