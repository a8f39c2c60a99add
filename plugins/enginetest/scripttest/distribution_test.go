package scripttest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// published are scripts in each language; the first line of one is for those who run it by hand.
var published = map[registry.Kind]struct{ file, text string }{
	registry.JavaScript: {"tax.js", "#!/usr/bin/env node\n// ferrule: name=tax version=%[1]s description=\"Taxes.\" provides=rate host.app=^1 permit.memory=1048576 import=points\n// ferrule: fn=rate fn=version\nimport { host } from 'ferrule';\n" +
		"export const rate = (who) => host.points(who);\nexport const version = () => '%[1]s';\n"},
	registry.Python: {"tax.py", "#!/usr/bin/env python3\n# ferrule: name=tax version=%[1]s description=\"Taxes.\" provides=rate host.app=^1 permit.memory=1048576 import=points\n# ferrule: fn=rate fn=version\nimport json, os.path\nfrom ferrule import host\n" +
		"def rate(who): return host.points(who)\ndef version(_): return '%[1]s'\n"},
}

// publish publishes a version of a script, signed with a key.
func publish(t *testing.T, to registry.Pusher, key sign.PrivateKey, kind registry.Kind, version string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), published[kind].file)
	data := []byte(fmt.Sprintf(published[kind].text, version))
	require.NoError(t, os.WriteFile(path, data, 0o755))
	r, contents, err := install.Release(path)
	require.NoError(t, err)
	assert.Equal(t, &registry.Release{Name: "tax", Version: version, Kind: kind, Summary: "Taxes.", Provides: []string{"rate"}, Host: map[string]string{"app": "^1"}, Imports: []string{"points"},
		Permits: map[string][]string{"memory": {"1048576"}}}, r)
	require.Len(t, contents, 1)
	c := contents[registry.AnyPlatform]
	c.Signature, err = sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: registry.AnyPlatform}, bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, to.Push(t.Context(), r, map[string]registry.Content{registry.AnyPlatform: c}))
}

// From the registry to a call: a script that was signed and published is found, verified, locked and run, on whatever platform; the lock is law until it is updated, and what was changed in the store does not run.
func TestFromRegistryToCall(t *testing.T) {
	for kind, script := range published {
		for name, place := range site.Places(tiny) {
			t.Run(string(kind)+", "+name, func(t *testing.T) {
				address, to := place(t)
				key, err := sign.Generate()
				require.NoError(t, err)
				publish(t, to, key, kind, "1.0.0")
				s, stored := site.New(t), t.TempDir()
				from := func(s *site.Site, key sign.PublicKey) {
					s.Configure("registry: {url: '" + address + "', keys: [" + key.String() + "]}\nplugins: [{name: tax, grant: [points]}]")
				}
				start := func(s *site.Site, stored string) *plugins.System {
					sys := s.System(both(t), plugins.Download(release.Pages, oci.Registries), plugins.StoreFolder(stored))
					plugins.Offer(sys, "points", func(_ context.Context, in []byte) ([]byte, error) { return append([]byte("points of "), in...), nil })
					require.NoError(t, sys.Start(t.Context()))
					return sys
				}
				from(s, key.Public())
				sys := start(s, stored)
				p, _ := sys.Plugin("tax")
				require.NoError(t, p.Err)
				assert.Equal(t, "1.0.0", site.Call(t, sys, "tax", "version", ""))
				assert.Equal(t, "points of me", site.Call(t, sys, "tax", "rate", "me"))
				assert.Equal(t, "tax-any"+filepath.Ext(script.file), filepath.Base(p.Source))
				assert.False(t, p.Sidecar)
				l, err := lock.Load(install.LockOf(s.Config))
				require.NoError(t, err)
				e := l.Plugins["tax"]
				require.NotNil(t, e)
				assert.Equal(t, kind, e.Kind)
				assert.Equal(t, key.Public().ID(), e.Key)
				assert.NotEmpty(t, e.Signatures[registry.AnyPlatform])
				assert.Len(t, e.Files, 1)

				publish(t, to, key, kind, "1.1.0")
				assert.Equal(t, "1.0.0", site.Call(t, start(s, stored), "tax", "version", ""), "the lock is law")
				c, err := config.Load(s.Config)
				require.NoError(t, err)
				trust, err := sign.TrustOf(c)
				require.NoError(t, err)
				st, err := store.Open(stored)
				require.NoError(t, err)
				in, err := install.New(install.Options{App: "app", Version: "1.0.0", Lock: install.LockOf(s.Config), Store: st, Sources: []registry.Source{to}, Trust: trust})
				require.NoError(t, err)
				changes, _, err := in.Update(t.Context(), []install.Want{{Name: "tax"}}, install.UpdateOptions{})
				require.NoError(t, err)
				require.Len(t, changes, 1)
				require.NoError(t, st.Close())
				sys = start(s, stored)
				assert.Equal(t, "1.1.0", site.Call(t, sys, "tax", "version", ""))

				// What the store has is compared when it is loaded.
				p, _ = sys.Plugin("tax")
				sys = start(s, stored)
				require.NoError(t, os.Chmod(p.Source, 0o644))
				require.NoError(t, os.WriteFile(p.Source, []byte(fmt.Sprintf(script.text, "1.1.0")+"\n"), 0o644))
				f, err := sys.Func("tax", "version")
				if err == nil {
					_, err = f.Call(t.Context(), nil)
				}
				require.Error(t, err)
				site.Why(t, sys, "tax", plugins.ErrOpen)

				other, err := sign.Generate()
				require.NoError(t, err)
				fresh := site.New(t)
				from(fresh, other.Public())
				assert.ErrorIs(t, site.Why(t, start(fresh, t.TempDir()), "tax", plugins.ErrFetch), registry.ErrKey)
			})
		}
	}
}

// A script whose header says what it is is no sidecar, whatever its first line says; one that imports files cannot be published, and none of it runs to find that out.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		return path
	}
	put("parts/x.mjs", "export const x = 1;\n")
	put("helper.py", "x = 1\n")
	for _, c := range []struct{ name, text, imports, remedy string }{
		{"a.js", "// ferrule: name=a version=1.0.0 fn=f\nimport { x } from './parts/x.mjs';\nexport const f = () => x;\n", "parts/x.mjs", "esbuild"},
		{"b.mjs", "#!/usr/bin/env node\n// ferrule: name=b version=1.0.0 fn=f\nimport './gone.mjs';\nexport const f = () => 1;\n", "gone.mjs", "one file"},
		{"c.py", "#!/usr/bin/env python3\n# ferrule: name=c version=1.0.0 fn=f\nimport json\nimport helper\ndef f(x): return x\n", "helper.py", "virtual environment"},
	} {
		path := put(c.name, c.text)
		_, _, err := install.Release(path)
		require.ErrorIs(t, err, registry.ErrMalformed)
		assert.ErrorContains(t, err, "a script that imports "+c.imports)
		assert.ErrorContains(t, err, c.remedy)
		_, _, err = install.Describe(path)
		assert.ErrorIs(t, err, registry.ErrMalformed)
		kind, err := install.ProgramKind(path)
		require.NoError(t, err)
		assert.Empty(t, kind, "it is not run to be asked what it is")
	}
	alone := put("d.py", "#!/usr/bin/env python3\n# ferrule: name=d version=1.0.0 fn=f\nimport json, ferrule\ndef f(x): return x\n")
	r, platform, err := install.Describe(alone)
	require.NoError(t, err)
	assert.Equal(t, registry.Python, r.Kind)
	assert.Equal(t, registry.AnyPlatform, platform)
	_, _, err = install.Release(alone, put("d.js", "// ferrule: name=d version=1.0.0 fn=f\n"))
	assert.ErrorIs(t, err, registry.ErrKind)
}

// An application installs the scripts that it has an engine for, and says of others why not.
func TestDownloadWithoutEngine(t *testing.T) {
	for kind, wants := range map[registry.Kind]bool{registry.JavaScript: true, registry.Python: false} {
		address, to := site.Places(tiny)["folder"](t)
		key, err := sign.Generate()
		require.NoError(t, err)
		publish(t, to, key, kind, "1.0.0")
		s := site.New(t)
		s.Configure("registry: {url: '" + address + "', keys: [" + key.Public().String() + "]}\nplugins: [{name: tax, grant: [points]}]")
		sys := s.System(javaScript(), plugins.Download(), plugins.StoreFolder(t.TempDir()))
		plugins.Offer(sys, "points", func(context.Context, []byte) ([]byte, error) { return nil, nil })
		require.NoError(t, sys.Start(t.Context()))
		if wants {
			assert.Equal(t, "1.0.0", site.Call(t, sys, "tax", "version", ""))
			continue
		}
		e := site.Why(t, sys, "tax", plugins.ErrFetch)
		assert.ErrorIs(t, e, registry.ErrKind)
		assert.ErrorContains(t, e, "engine")
		assert.NoFileExists(t, install.LockOf(s.Config))
	}
}

func tiny(t *testing.T) string { return fixture.Registry(t, "tiny") }
