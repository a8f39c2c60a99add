package forms

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
)

// long reports whether `make forms` runs the tests, which has time.
func long() bool { return os.Getenv("FERRULE_TEST_OPENS") != "" }

// toolchains are the oldest version of Go that sdk-go promises, and the newest.
func toolchains(t *testing.T) []string {
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "sdk-go", "go.mod"))
	require.NoError(t, err)
	oldest := regexp.MustCompile(`(?m)^go (\d+\.\d+)(?:\.\d+)?$`).FindStringSubmatch(string(text))
	require.NotNil(t, oldest)
	newest, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "go@latest").Output()
	require.NoError(t, err)
	return []string{"go" + oldest[1] + ".0", "go" + strings.TrimSpace(string(newest))}
}

// Plug-ins that other versions of Go have built are opened by one host, beside each other, and each is what it is.
func TestVersions(t *testing.T) {
	if !long() {
		t.Skip("fetches two other versions of Go, and builds each form with them: make go-forms")
	}
	for _, f := range files {
		var all []*loader.Plugin
		for _, toolchain := range toolchains(t) {
			t.Run(f.name+" "+toolchain, func(t *testing.T) {
				path := fixture.SDKGoWith(t, toolchain, "everything", f.file)
				p, err := f.try(path, append(hostFuncs(), loader.WithConfig([]byte(`{"first":40}`)))...)
				require.NoError(t, err)
				all = append(all, p)
				for _, p := range all {
					out, err := p.Call(t.Context(), "next", nil)
					require.NoError(t, err)
					assert.Regexp(t, `^4\d$`, string(out))
				}
				out, err := p.Call(t.Context(), "version", nil)
				require.NoError(t, err)
				assert.Equal(t, toolchain, string(out))
				for _, c := range transcript.Everything {
					if strings.Contains(c.Name, "panic") {
						continue // a runtime's own words
					}
					t.Run(c.Name, func(t *testing.T) { compare(t, f, c, path) })
				}
			})
		}
		for _, p := range all {
			assert.NoError(t, p.Close())
		}
	}
}

// Nobody waits for a plug-in that is opened with a context that has ended.
func TestOpenedTooLate(t *testing.T) {
	each(t, files, func(t *testing.T, f form) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := loader.OpenContext(ctx, f.path(t), append(hostFuncs(), f.with...)...)
		assert.ErrorIs(t, err, context.Canceled)
	})
}
