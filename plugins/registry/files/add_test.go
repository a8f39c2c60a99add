package files_test

import (
	"archive/zip"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
)

// What a second Push may add, and what it is told of what it may not.
func TestSecondPush(t *testing.T) {
	t.Parallel()
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	require.NoError(t, writeFile(a, "a"))
	require.NoError(t, writeFile(b, "b"))
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := place(t)(t)
			push := func(plugin, version, tag, platform, path, signature string) error {
				c := registry.Content{Path: path}
				if signature != "" {
					c.Signature = []byte("untrusted comment: " + signature)
				}
				return p.Push(t.Context(), &registry.Release{Name: plugin, Version: version, Tag: tag}, map[string]registry.Content{platform: c})
			}
			require.NoError(t, push("tax", "1.0.0", "v1", "linux/amd64", a, ""))
			require.NoError(t, push("audit", "1.0.0", "v1", "linux/amd64", a, ""), "another plug-in under the tag")
			require.NoError(t, push("tax", "1.0.0", "", "linux/amd64", a, "late"), "a signature later")
			require.NoError(t, push("tax", "2.0.0", "v2", "linux/amd64", b, ""))
			require.NoError(t, push("tax", "1.0.0", "", "darwin/arm64", b, "more"), "another platform")
			for words, err := range map[string]error{
				`found tag "v9", expected "v1"`:          push("tax", "1.0.0", "v9", "linux/amd64", a, ""),
				"another signature for linux/amd64":      push("tax", "1.0.0", "", "linux/amd64", a, "other"),
				"which is of version 1.0.0":              push("tax", "1.1.0", "v1", "linux/amd64", b, ""),
				"for linux/amd64, expected sha256:ca97":  push("tax", "1.0.0", "", "linux/amd64", b, ""),
				"v1/tax-darwin-arm64.dylib, which is of": push("tax", "1.2.0", "v1", "darwin/arm64", a, ""),
			} {
				assert.ErrorIs(t, err, registry.ErrReplaced)
				assert.ErrorContains(t, err, words)
			}
			for _, c := range [][2]string{{"Tax", "v3"}, {"rates", "V1"}} {
				err := push(c[0], "1.0.0", c[1], "linux/amd64", a, "")
				assert.ErrorIs(t, err, registry.ErrName)
				assert.ErrorContains(t, err, "differs")
			}
			for _, tag := range []string{".new", ".lock", "v1/.new", "v1."} {
				assert.ErrorIs(t, push("rates", "1.0.0", tag, "linux/amd64", a, ""), registry.ErrMalformed, tag)
			}
			// The indexes of a release have it as it is now, and those of the other plug-ins lie beside it.
			for _, tag := range []string{"v1", "v2"} {
				at, _, err := files.Open(fileURL(p, tag))
				require.NoError(t, err)
				_, err = at.Versions(t.Context(), "audit")
				if tag == "v1" {
					require.NoError(t, err)
					r, err := at.Release(t.Context(), "tax", "1.0.0")
					require.NoError(t, err)
					assert.Len(t, r.Files, 2)
					for platform, want := range map[string]string{"linux/amd64": "late", "darwin/arm64": "more"} {
						signature, err := at.Signature(t.Context(), r, platform)
						require.NoError(t, err)
						assert.Equal(t, "untrusted comment: "+want, string(signature))
					}
				}
				index, err := readIn(t, p, tag+"/tax.json")
				require.NoError(t, err)
				assert.Contains(t, index, "darwin/arm64")
				index, err = readIn(t, p, tag+"/audit.json")
				require.NoError(t, err)
				assert.Contains(t, index, `"audit"`)
			}
		})
	}
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

// fileURL is the registry that a place is, under a tag.
func fileURL(p registry.Pusher, tag string) config.Registry {
	return config.Registry{URL: p.String(), Tag: tag}
}

// readIn reads a file of a place.
func readIn(t *testing.T, p registry.Pusher, name string) (string, error) {
	t.Helper()
	u, err := url.Parse(p.String())
	require.NoError(t, err)
	path := filepath.FromSlash(u.Path)
	if runtime.GOOS == "windows" {
		path = path[1:]
	}
	if !strings.HasSuffix(path, ".zip") {
		text, err := os.ReadFile(filepath.Join(path, name))
		return string(text), err
	}
	z, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer z.Close()
	text, err := fs.ReadFile(z, name)
	return string(text), err
}
