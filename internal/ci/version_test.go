package ci

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// versions are the places that have the version of the next release, each with a pattern whose group it is.
var versions = []struct{ file, pattern string }{
	{"go.work", `(?m)^\tgithub\.com/ferrule-dev/ferrule\S* v(\S+) =>`},
	{"sdk-c/Makefile", `(?m)^VERSION = (\S+)$`},
	{"sdk-rust/ferrule/Cargo.toml", `(?m)^version = "(.+)"$`},
	{"sdk-rust/ferrule/Cargo.toml", `(?m)^ferrule-plugin-macros = .*version = "=(.+?)"`},
	{"sdk-rust/ferrule-macros/Cargo.toml", `(?m)^version = "(.+)"$`},
	{"sdk-rust/Cargo.lock", `name = "ferrule-plugin(?:-macros)?"\nversion = "(.+)"`},
	{"examples/Cargo.lock", `name = "ferrule-plugin(?:-macros)?"\nversion = "(.+)"`},
	{"cmd/ferrule/new.go", `const sdkGoVersion = "v(.+)"`},
	{"internal/fixture/sdkgo.go", `require github\.com/ferrule-dev/ferrule/sdk-go v([0-9.]+)`},
	{"docs/start.md", `(?m)^\tgithub\.com/ferrule-dev/ferrule\S* v(\S+)`},
	{"docs/releases.md", `(?:ferrule(?:-sdk-c)?_|@v|release v|root's is ` + "`v|/v" + `)([0-9]+\.[0-9]+\.[0-9]+)`},
}

// otherVersions are the places that have another one than go.work.
func otherVersions(read func(file string) string) (found []string) {
	want := ""
	for _, v := range versions {
		all := regexp.MustCompile(v.pattern).FindAllStringSubmatch(read(v.file), -1)
		if len(all) == 0 {
			found = append(found, v.file+": no version")
		}
		for _, m := range all {
			if want == "" {
				want = m[1]
			}
			if m[1] != want {
				found = append(found, fmt.Sprintf("%s: %s, and not %s", v.file, m[1], want))
			}
		}
	}
	return found
}

// TestPreviews: as long as the version begins with 0, the pages say how it stands to what 1.0 promises; from then on they do not.
func TestPreviews(t *testing.T) {
	work, err := os.ReadFile(filepath.Join(fixture.Root(), "go.work"))
	require.NoError(t, err)
	version := regexp.MustCompile(versions[0].pattern).FindSubmatch(work)
	require.NotNil(t, version)
	for _, name := range []string{"CHANGELOG.md", "docs/releases.md", "docs/promises.md"} {
		page, err := os.ReadFile(filepath.Join(fixture.Root(), filepath.FromSlash(name)))
		require.NoError(t, err)
		says := regexp.MustCompile(`Versions 0\.x[^.]* are previews[^:]{0,20}: what .?1\.0 promises.{0,30} is held by tests in them already, and 1\.0\.0 is the first version for which .{0,20} binding\.`).
			MatchString(strings.Join(strings.Fields(string(page)), " "))
		assert.Equal(t, version[1][0] == '0', says, name)
	}
}

// TestOneVersion: what a release is called stands in many places, and is the same in each.
func TestOneVersion(t *testing.T) {
	texts := map[string]string{}
	for _, v := range versions {
		text, err := os.ReadFile(filepath.Join(fixture.Root(), filepath.FromSlash(v.file)))
		require.NoError(t, err)
		texts[v.file] = string(text)
	}
	assert.Empty(t, otherVersions(func(file string) string { return texts[file] }))
	for _, v := range versions { // one that was left out is found
		m := regexp.MustCompile(v.pattern).FindStringSubmatchIndex(texts[v.file])
		require.NotNil(t, m, v.file)
		found := otherVersions(func(file string) string {
			text := texts[file]
			if file == v.file {
				text = text[:m[2]] + "7.8.9" + text[m[3]:]
			}
			return text
		})
		assert.NotEmpty(t, found, v.file)
	}
}
