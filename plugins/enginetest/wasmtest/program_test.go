package wasmtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// servers are the OCI registries of others.
var servers = map[string]func(t *testing.T) string{
	"distribution": func(t *testing.T) string {
		config, err := json.Marshal(map[string]any{"version": "0.1", "storage": map[string]any{"filesystem": map[string]any{"rootdirectory": t.TempDir()}}, "http": map[string]any{"addr": "127.0.0.1:0", "secret": "of this test"},
			"log": map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}}})
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(path, config, 0o600))
		return fixture.Registry(t, "distribution", path)
	},
	"go-containerregistry": func(t *testing.T) string { return fixture.Registry(t, "tiny") },
}

// A sidecar that is a program for each platform goes from an OCI registry to a call: signed, locked for all platforms, and this one's run; from the lock to another machine, and by a mirror, whole.
func TestProgramFromOCIToCall(t *testing.T) {
	other := "windows/amd64"
	if runtime.GOOS == "windows" {
		other = "linux/amd64"
	}
	programs := map[string]string{registry.ThisPlatform(): filepath.Join(t.TempDir(), "vowels"), other: filepath.Join(t.TempDir(), "vowels")}
	for platform, path := range programs {
		build := exec.Command("go", "build", "-o", path, ".")
		build.Dir = filepath.Join(fixture.Root(), "examples", "sidecar", "go")
		build.Env = append(os.Environ(), "GOOS="+filepath.Dir(platform), "GOARCH="+filepath.Base(platform), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	key, err := sign.Generate()
	require.NoError(t, err)
	about := &abi.Description{Manifest: &abi.Manifest{Name: "vowels", Version: "1.0.0", Description: "Counts vowels.", Keys: abi.Text{{Key: "provides", Value: "vowels_of"}, {Key: "host.app", Value: "^1"}}}}
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's credentials
			host := serve(t)
			to, err := oci.New("oci://" + host + "/acme")
			require.NoError(t, err)
			r, contents, err := install.ReleaseOfPrograms(about, programs[registry.ThisPlatform()], programs[other])
			require.NoError(t, err)
			require.Len(t, contents, 2)
			for platform, c := range contents {
				file, err := os.Open(c.Path)
				require.NoError(t, err)
				c.Signature, err = sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: platform}, file)
				require.NoError(t, err)
				require.NoError(t, file.Close())
				contents[platform] = c
			}
			require.NoError(t, to.Push(t.Context(), r, contents))

			config := filepath.Join(t.TempDir(), "config.yaml")
			stored := t.TempDir()
			start := func(url string, key sign.PublicKey) *plugins.System {
				t.Helper()
				require.NoError(t, os.WriteFile(config, []byte("registry: {url: '"+url+"', keys: ['"+key.String()+"']}\nplugins: [vowels]\n"), 0o644))
				sys := plugins.New("app", "1.0.0", plugins.Logger(site.Quiet()), plugins.Config(config), plugins.Download(oci.Registries), plugins.StoreFolder(stored))
				t.Cleanup(func() { assert.NoError(t, sys.Close()) })
				require.NoError(t, sys.Start(t.Context()))
				return sys
			}
			calls := func(sys *plugins.System) {
				t.Helper()
				p, _ := sys.Plugin("vowels")
				require.NoError(t, p.Err)
				f, err := sys.Func("vowels", "count_vowels")
				require.NoError(t, err)
				out, err := f.Call(t.Context(), []byte("a sidecar"))
				require.NoError(t, err)
				assert.Equal(t, "4", string(out))
			}
			calls(start("oci://"+host+"/acme", key.Public()))
			l, err := lock.Load(install.LockOf(config))
			require.NoError(t, err)
			e := l.Plugins["vowels"]
			require.NotNil(t, e)
			assert.Equal(t, registry.Program, e.Kind)
			assert.Equal(t, key.Public().ID(), e.Key)
			assert.Equal(t, []string{"host app ^1", "provides vowels_of", "summary Counts vowels."}, e.Says)
			for platform := range programs {
				assert.NotEmpty(t, e.Files[platform].Digest, platform)
				assert.NotEmpty(t, e.Signatures[platform], platform)
			}

			// Another registry gets the whole of it from the lock and the store, and a machine with the lock alone is met by it.
			s, err := store.Open(stored)
			require.NoError(t, err)
			defer s.Close()
			in, err := install.New(install.Options{App: "app", Version: "1.0.0", Lock: install.LockOf(config), Store: s, Sources: []registry.Source{to}})
			require.NoError(t, err)
			mirror, err := oci.New("oci://" + host + "/mirror")
			require.NoError(t, err)
			require.NoError(t, in.Copy(t.Context(), mirror, nil, nil))
			copied, err := mirror.Release(t.Context(), "vowels", "1.0.0")
			require.NoError(t, err)
			assert.Equal(t, []string{"vowels_of"}, copied.Provides)
			assert.Equal(t, map[string]string{"app": "^1"}, copied.Host)
			assert.Equal(t, "Counts vowels.", copied.Summary)
			assert.Len(t, copied.Files, 2)
			stored = t.TempDir()
			calls(start("oci://"+host+"/mirror", key.Public()))

			stranger, err := sign.Generate()
			require.NoError(t, err)
			stored, config = t.TempDir(), filepath.Join(t.TempDir(), "config.yaml")
			p, _ := start("oci://"+host+"/acme", stranger.Public()).Plugin("vowels")
			assert.ErrorIs(t, p.Err, plugins.ErrFetch)
			assert.ErrorIs(t, p.Err, registry.ErrKey)
		})
	}
}
