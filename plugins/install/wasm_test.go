package install_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// module publishes dist_aaaa as a WebAssembly module, signed, and returns the path of its file.
func (p *place) module(version string) string {
	p.t.Helper()
	data, err := os.ReadFile(fixture.WasmC(p.t, "released"))
	require.NoError(p.t, err)
	path := filepath.Join(p.t.TempDir(), "dist.wasm")
	require.NoError(p.t, os.WriteFile(path, library{tag: "aaaa", version: version}.of(p.t, data), 0o644))
	r, contents, err := install.Release(path)
	require.NoError(p.t, err)
	require.Len(p.t, contents, 1)
	c := contents[registry.AnyPlatform]
	c.Signature = p.sign(p.key, sign.Subject{Name: r.Name, Version: r.Version, Platform: registry.AnyPlatform}, path)
	p.push(r, map[string]registry.Content{registry.AnyPlatform: c})
	return path
}

// A module is published, locked, installed, updated, verified and copied as a library is, once for all platforms.
func TestModule(t *testing.T) {
	p := newPlace(t)
	path := p.module("1.0.0")
	r, on, err := install.Describe(path)
	require.NoError(t, err)
	assert.Equal(t, registry.Wasm, r.Kind)
	assert.Equal(t, registry.AnyPlatform, on)

	in := p.installer()
	got := p.ensure(in, "dist_aaaa").Plugins["dist_aaaa"]
	assert.Equal(t, registry.Wasm, got.Kind)
	assert.Equal(t, "dist_aaaa-any.wasm", filepath.Base(got.Path))
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	has, err := os.ReadFile(got.Path)
	require.NoError(t, err)
	assert.Equal(t, want, has)
	e := p.plugins()["dist_aaaa"]
	assert.Equal(t, registry.Wasm, e.Kind)
	assert.Equal(t, p.key.ID(), e.Key)
	require.Len(t, e.Files, 1)
	assert.Equal(t, got.Digest, e.Files[registry.AnyPlatform].Digest)
	assert.NotEmpty(t, e.Signatures[registry.AnyPlatform])

	before := p.source.requests.Load()
	p.ensure(p.installer(), "dist_aaaa")
	assert.Equal(t, before, p.source.requests.Load(), "lock and store have it all")
	changes, failed, _, err := in.LockPlatforms(t.Context(), "plan9/386", "windows/arm64")
	require.NoError(t, err)
	assert.Empty(t, failed)
	assert.Empty(t, changes, "it is locked for all platforms")

	to, err := files.NewBundle(filepath.Join(t.TempDir(), "bundle.zip"))
	require.NoError(t, err)
	require.NoError(t, in.Copy(t.Context(), to, nil, []string{"plan9/386"}))
	copied, err := to.Release(t.Context(), "dist_aaaa", "1.0.0")
	require.NoError(t, err)
	assert.Equal(t, registry.Wasm, copied.Kind)
	assert.Equal(t, got.Digest, copied.Files[registry.AnyPlatform].Digest)

	// From the lock and another source, on a machine that has nothing.
	p.source.Source = to
	require.NoError(t, os.RemoveAll(filepath.Join(p.store, "sha256")))
	assert.Equal(t, got.Digest, p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"].Digest)

	// What lies in the store is compared with the lock each time.
	require.NoError(t, os.Chmod(got.Path, 0o644))
	require.NoError(t, os.WriteFile(got.Path, append(want, 0), 0o644))
	assert.Equal(t, got.Digest, p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"].Digest)
	has, err = os.ReadFile(got.Path)
	require.NoError(t, err)
	assert.Equal(t, want, has, "it was fetched again")
}

// A signature for one platform is none of a module, which is for all.
func TestModuleSignedForAPlatform(t *testing.T) {
	p := newPlace(t)
	path, other := filepath.Join(t.TempDir(), "dist.wasm"), library{tag: "aaaa", version: "1.1.0"}
	data, err := os.ReadFile(fixture.WasmC(t, "released"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, other.of(t, data), 0o644))
	r, contents, err := install.Release(path)
	require.NoError(t, err)
	c := contents[registry.AnyPlatform]
	c.Signature = p.sign(p.key, subject(other), path)
	p.push(r, map[string]registry.Content{registry.AnyPlatform: c})
	result, err := p.installer().Ensure(t.Context(), []install.Want{{Name: "dist_aaaa", Range: "1.1.0"}})
	require.NoError(t, err)
	require.ErrorIs(t, result.Failed["dist_aaaa"], registry.ErrPlatform)
}

// A plug-in may be a module in one version and a library in the next: the lock says what each is.
func TestModuleThenLibrary(t *testing.T) {
	p := newPlace(t)
	p.module("1.0.0")
	assert.Equal(t, registry.Wasm, p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"].Kind)
	p.publish(library{tag: "aaaa", version: "1.1.0"})
	_, _, err := p.installer().Update(t.Context(), wants("dist_aaaa"), install.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, registry.Library, p.ensure(p.installer(), "dist_aaaa").Plugins["dist_aaaa"].Kind)
	assert.Equal(t, registry.Library, p.plugins()["dist_aaaa"].Kind)

	// Where the application has no engine for it, the newest version that can be loaded is.
	q := newPlace(t)
	q.publish(library{tag: "aaaa", version: "1.0.0"})
	q.module("1.1.0")
	got := q.ensure(q.installer(func(o *install.Options) { o.Kinds = []registry.Kind{registry.Library} }), "dist_aaaa").Plugins["dist_aaaa"]
	assert.Equal(t, "1.0.0", got.Version)
}

// What is no release is said before it is one: files of two kinds, and what says neither its name nor its version.
func TestModuleRelease(t *testing.T) {
	p := newPlace(t)
	path := p.module("1.0.0")
	for _, paths := range [][]string{{path, p.build(plain)}, {p.build(plain), path}} {
		_, _, err := install.Release(paths...)
		require.ErrorIs(t, err, registry.ErrKind)
		p.whole(err)
	}
	_, _, err := install.Release(path, path)
	require.ErrorIs(t, err, registry.ErrPlatform)

	extism := filepath.Join(fixture.Extism(t), "count_vowels.wasm")
	_, _, err = install.Release(extism)
	require.ErrorIs(t, err, registry.ErrKind)
	assert.ErrorContains(t, err, "Extism")
}
