package loader_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/museum"
	"github.com/ferrule-dev/ferrule/loader"
)

// The museum's plug-ins were compiled once and are kept. What they are is read, and what they do is repeated, on each
// platform that they were built for; it is what the files beside them say. See abi/museum/README.md.

// libraryName is how an exhibit's files for the platforms are named.
var libraryName = regexp.MustCompile(`^([a-z]+)-([a-z0-9]+)\.(so|dll|dylib)$`)

// libraries returns the names of an exhibit's libraries.
func libraries(t *testing.T, exhibit string) (names []string) {
	entries, err := os.ReadDir(museum.Path(exhibit))
	require.NoError(t, err)
	for _, e := range entries {
		if libraryName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestMuseumIsFrozen(t *testing.T) {
	sums, err := os.ReadFile(museum.Path("SHA256SUMS"))
	require.NoError(t, err)
	frozen := make(map[string]string)
	for line := range strings.Lines(string(sums)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		require.True(t, ok && len(sum) == 64, "SHA256SUMS: found %q, expected what sha256sum writes", line)
		require.NotContains(t, frozen, name, "SHA256SUMS names it twice")
		frozen[name] = sum
	}
	there := make(map[string]bool)
	for _, exhibit := range museum.Exhibits(t) {
		require.NoError(t, filepath.WalkDir(museum.Path(exhibit), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(museum.Path(), path)
			require.NoError(t, err)
			name = filepath.ToSlash(name)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			sum := sha256.Sum256(content)
			there[name] = true
			switch found := hex.EncodeToString(sum[:]); frozen[name] {
			case found:
			case "":
				t.Errorf("abi/museum/%s is not in SHA256SUMS. If it is a new exhibit's, run in abi/museum: "+
					"sha256sum %s >>SHA256SUMS", name, name)
			default:
				t.Errorf("abi/museum/%s is not what was frozen: its SHA-256 is %s, expected %s. Exhibits stand for "+
					"what users have compiled, and never change: take the file from git again. What is new is an "+
					"exhibit of its own (abi/museum/README.md)", name, found, frozen[name])
			}
			return nil
		}))
	}
	for name := range frozen {
		assert.True(t, there[name], "abi/museum/%s is in SHA256SUMS and is gone: take it from git again", name)
	}
}

func TestMuseumInspect(t *testing.T) {
	for _, exhibit := range museum.Exhibits(t) {
		names := libraries(t, exhibit)
		if slices.Contains(museum.Modules(t), exhibit) {
			names = append(names, museum.Module)
		}
		require.NotEmpty(t, names, exhibit)
		for _, name := range names {
			t.Run(exhibit+"/"+name, func(t *testing.T) {
				lib, err := loader.Inspect(museum.Path(exhibit, name))
				require.NoError(t, err)
				if platform := libraryName.FindStringSubmatch(name); platform != nil {
					assert.Equal(t, platform[1:3], []string{lib.OS, lib.Arch})
				}
				museum.Compare(t, true, museum.Path(exhibit, "inspect.txt"), museum.Facts(lib))
			})
		}
	}
}

func TestMuseum(t *testing.T) {
	for _, exhibit := range museum.Exhibits(t) {
		if len(libraries(t, exhibit)) == 0 {
			continue // a module alone, which package loader/wasm plays
		}
		t.Run(exhibit, func(t *testing.T) {
			name := runtime.GOOS + "-" + runtime.GOARCH + fixture.Ext()
			if !slices.Contains(libraries(t, exhibit), name) {
				t.Skipf("the museum has no %s of %s", name, exhibit)
			}
			if strings.HasPrefix(exhibit, "rust-") {
				fixture.NotMusl(t, "there is no exhibit in Rust: those for Linux are made for glibc")
			}
			bothWays(t, func(t *testing.T, w way) {
				script, err := os.ReadFile(museum.Path(exhibit, "transcript.txt"))
				require.NoError(t, err)
				museum.Compare(t, !w.isolated, museum.Path(exhibit, "transcript.txt"), museum.Play(t, w.try, museum.Path(exhibit, name), string(script)))
			})
		})
	}
}
