package wasmtest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/wasm"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// publish publishes a version of plugin_aaaa as a module, signed with a key.
func publish(t *testing.T, to registry.Pusher, key sign.PrivateKey, version string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.wasm")
	module(t, "system", path, "1.0.0", version)
	r, contents, err := install.Release(path)
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	c := contents[registry.AnyPlatform]
	c.Signature, err = sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: registry.AnyPlatform}, bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, to.Push(t.Context(), r, map[string]registry.Content{registry.AnyPlatform: c}))
}

// From the registry to a call: a module that was signed and published is found, verified, locked and run; the lock and the store are enough from then on; who has another key gets nothing.
func TestFromRegistryToCall(t *testing.T) {
	for name, place := range site.Places(tiny) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, to := place(t)
			key, err := sign.Generate()
			require.NoError(t, err)
			publish(t, to, key, "1.0.0")
			s, stored := site.New(t), t.TempDir()
			download := []plugins.Option{plugins.Download(release.Pages, oci.Registries), plugins.StoreFolder(stored)}
			from := func(address string, key sign.PublicKey, text string) {
				s.Configure("registry: {url: '" + address + "', keys: [" + key.String() + "]}\nplugins: " + text)
			}
			from(address, key.Public(), "[plugin_aaaa]")
			sys := s.Start(wasm.Engine(), download...)
			p, _ := sys.Plugin("plugin_aaaa")
			require.NoError(t, p.Err)
			assert.Equal(t, "1.0.0", site.Call(t, sys, "plugin_aaaa", "version", ""))
			assert.Equal(t, "plugin_aaaa-any.wasm", filepath.Base(p.Source))
			l, err := lock.Load(install.LockOf(s.Config))
			require.NoError(t, err)
			e := l.Plugins["plugin_aaaa"]
			require.NotNil(t, e)
			assert.Equal(t, registry.Wasm, e.Kind)
			assert.Equal(t, key.Public().ID(), e.Key)
			assert.NotEmpty(t, e.Signatures[registry.AnyPlatform])

			publish(t, to, key, "1.1.0")
			sys = s.Start(wasm.Engine(), download...)
			assert.Equal(t, "1.0.0", site.Call(t, sys, "plugin_aaaa", "version", ""), "the lock is law")
			from("https://nowhere.invalid/{tag}", key.Public(), "[plugin_aaaa]")
			sys = s.Start(wasm.Engine(), download...)
			assert.Equal(t, "1.0.0", site.Call(t, sys, "plugin_aaaa", "version", ""), "nothing is asked")

			over, err := plugins.Survey(t.Context(), append([]plugins.Option{plugins.Config(s.Config)}, download...)...)
			require.NoError(t, err)
			assert.Equal(t, registry.Wasm, over.Installed["plugin_aaaa"].Kind)

			// What the store has is compared when it is loaded.
			data, err := os.ReadFile(p.Source)
			require.NoError(t, err)
			sys = s.Start(wasm.Engine(), download...)
			require.NoError(t, os.Chmod(p.Source, 0o644))
			require.NoError(t, os.WriteFile(p.Source, bytes.ReplaceAll(data, []byte("1.0.0"), []byte("9.9.9")), 0o644))
			f, err := sys.Func("plugin_aaaa", "version")
			if err == nil {
				_, err = f.Call(t.Context(), nil)
			}
			require.Error(t, err)
			site.Why(t, sys, "plugin_aaaa", plugins.ErrOpen)

			other, err := sign.Generate()
			require.NoError(t, err)
			fresh := site.New(t)
			fresh.Configure("registry: {url: '" + address + "', keys: [" + other.Public().String() + "]}\nplugins: [plugin_aaaa]")
			sys = fresh.Start(wasm.Engine(), plugins.Download(release.Pages, oci.Registries), plugins.StoreFolder(t.TempDir()))
			assert.ErrorIs(t, site.Why(t, sys, "plugin_aaaa", plugins.ErrFetch), registry.ErrKey)
		})
	}
}

// An application without an engine for modules installs none, and says why.
func TestDownloadWithoutEngine(t *testing.T) {
	address, to := site.Places(tiny)["folder"](t)
	key, err := sign.Generate()
	require.NoError(t, err)
	publish(t, to, key, "1.0.0")
	s := site.New(t)
	s.Configure("registry: {url: '" + address + "', keys: [" + key.Public().String() + "]}\nplugins: [plugin_aaaa]")
	sys := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), plugins.Config(s.Config), plugins.Download(), plugins.StoreFolder(t.TempDir()))
	require.NoError(t, sys.Start(t.Context()))
	defer sys.Close()
	e := site.Why(t, sys, "plugin_aaaa", plugins.ErrFetch)
	assert.ErrorIs(t, e, registry.ErrKind)
	assert.ErrorContains(t, e, "engine")
	assert.NoFileExists(t, install.LockOf(s.Config))

	sys = s.Start(wasm.Engine(), plugins.Download(), plugins.StoreFolder(t.TempDir()))
	assert.Equal(t, "1.0.0", site.Call(t, sys, "plugin_aaaa", "version", ""))
}

func tiny(t *testing.T) string { return fixture.Registry(t, "tiny") }
