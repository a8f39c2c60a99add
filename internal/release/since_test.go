//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// repository is one that has been released, or not yet.
type repository struct {
	testing.TB
	dir string
}

func newRepository(t *testing.T, files map[string]string) *repository {
	t.Helper()
	fixture.Tool(t, "git", "apt-get install git")
	r := &repository{t, t.TempDir()}
	r.git("init", "--quiet")
	r.write(files)
	r.commit()
	return r
}

func (r *repository) git(args ...string) {
	r.Helper()
	_, err := output(r.dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"), "git",
		append([]string{"-c", "user.name=test", "-c", "user.email=", "-c", "init.defaultBranch=main"}, args...)...)
	require.NoError(r, err)
}

func (r *repository) commit() {
	r.Helper()
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message", "a commit")
}

// write writes files; one without a text is removed.
func (r *repository) write(files map[string]string) {
	r.Helper()
	for name, text := range files {
		path := filepath.Join(r.dir, filepath.FromSlash(name))
		if text == "" {
			require.NoError(r, os.Remove(path))
			continue
		}
		require.NoError(r, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(r, os.WriteFile(path, []byte(text), 0o666))
	}
}

// released are modules as they were in a release.
var released = map[string]string{
	"go.mod":               "module example.com/m\n\ngo 1.26.0\n",
	"go.work":              "go 1.26.0\n\nuse (\n\t.\n\t./cmd/tool\n\t./other\n)\n\nreplace example.com/m v0.1.0 => ./\n",
	"a/a.go":               "// Package a is public.\npackage a\n\n// F does.\nfunc F(n int) error { return nil }\n\n// I is for others.\ntype I interface{ M() }\n",
	"gone/gone.go":         "// Package gone is public.\npackage gone\n",
	"open/open.go":         "// Package open is public, and\n// free. It is\n// experimental: it may change.\npackage open\n\n// F does.\nfunc F() {}\n",
	"internal/i/i.go":      "package i\n\nfunc F() {}\n",
	"program/main.go":      "package main\n\nfunc F() {}\n\nfunc main() {}\n",
	"other/go.mod":         "module example.com/m/other\n\ngo 1.26.0\n\nrequire example.com/m v0.1.0\n",
	"other/other.go":       "// Package other is the other module's.\npackage other\n\nimport \"example.com/m/a\"\n\n// V is a value.\nvar V a.I\n",
	"cmd/tool/go.mod":      "module example.com/m/cmd/tool\n\ngo 1.26.0\n",
	"cmd/tool/lib/lib.go":  "package lib\n\nfunc F() {}\n",
	"cmd/tool/testdata/no": "nothing\n",
}

// What a release has exported stays: apidiff finds what is gone or is another one, in each published module, committed or not, and says what was added.
func TestAPIDiff(t *testing.T) {
	t.Parallel()
	r := newRepository(t, released)
	compare := func(base string) (string, error) {
		var said bytes.Buffer
		s := &since{r.dir, base, &said}
		err := s.compare(t.Context(), s.goNames)
		return said.String(), err
	}
	said, err := compare("")
	require.NoError(t, err)
	assert.Equal(t, "there is no tag to compare with, so nothing is promised yet: BASE=rev compares with a commit\n", said)
	_, err = compare("no-such-revision")
	assert.ErrorContains(t, err, "found no revision no-such-revision")

	// Other tags are none of a release, and of two releases it is the newer one.
	r.git("tag", "v0.9.0")
	r.git("tag", "vague")
	r.git("tag", "other/v2.0.0")
	r.write(map[string]string{"a/late.go": "package a\n\n// Late came late.\nfunc Late() {}\n"})
	r.commit()
	r.git("tag", "v0.10.0")
	r.git("tag", "v0.11.0-rc.1")
	for _, c := range []struct {
		name   string
		files  map[string]string
		broken string // what is told of the change that fails; none where it passes
		said   []string
		not    []string
	}{
		{name: "nothing", said: []string{"compared with v0.10.0\n", "no public name was added, removed or changed\n"}},
		{name: "a function more", files: map[string]string{"a/more.go": "package a\n\n// More is new.\nfunc More() {}\n"}, said: []string{"compatible:\n  ./a.More: added\n"}, not: []string{"incompatible"}},
		{name: "a function less", files: map[string]string{"a/late.go": ""}, broken: "./a.Late: removed"},
		{name: "another type", files: map[string]string{"a/a.go": strings.Replace(released["a/a.go"], "n int", "n int64", 1)}, broken: "./a.F: changed from func(int) error to func(int64) error"},
		{name: "a method more for others", files: map[string]string{"a/a.go": strings.Replace(released["a/a.go"], "M()", "M(); N()", 1)}, broken: "./a.I.N: added"},
		{name: "a package less", files: map[string]string{"gone/gone.go": ""}, broken: "package example.com/m/gone: removed"},
		{name: "another module", files: map[string]string{"other/other.go": strings.Replace(released["other/other.go"], "var V a.I", "var V *a.I", 1)}, broken: "./other.V: changed from example.com/m/a.I to *example.com/m/a.I"},
		{name: "what has promised nothing", files: map[string]string{"open/open.go": strings.Replace(released["open/open.go"], "func F", "func G", 1), "internal/i/i.go": "package i\n",
			"program/main.go": "package main\n\nfunc main() {}\n", "cmd/tool/lib/lib.go": "package lib\n"},
			said: []string{"incompatible, in packages that may change (experimental ones, programs):\n  ./open.F: removed\n", "compatible:\n  ./open.G: added\n"}, not: []string{"/i.", "lib"}},
		{name: "that it is experimental, afterwards", files: map[string]string{"a/a.go": strings.Replace(released["a/a.go"], "is public.", "is free. It is experimental: so it is.", 1)},
			broken: "./a: declared experimental, or a program\n", said: []string{"no public name was added, removed or changed\n"}},
		{name: "that it is experimental, and another name", files: map[string]string{"a/a.go": strings.NewReplacer("is public.", "is free. It is experimental: so it is.", "func F", "func G").Replace(released["a/a.go"])},
			broken: "./a.F: removed", said: []string{"\n  ./a: declared experimental, or a program\n"}},
		{name: "that the other module's is", files: map[string]string{"other/other.go": strings.Replace(released["other/other.go"], "other module's.", "other module's. It is\n// experimental: so it is.", 1)},
			broken: "./other: declared experimental"},
		{name: "a program in its place", files: map[string]string{"gone/gone.go": "package main\n\nfunc main() {}\n"}, broken: "./gone: declared experimental, or a program"},
		{name: "that one more is experimental", files: map[string]string{"new/new.go": strings.Replace(released["open/open.go"], "package open", "package new", 1)}, said: []string{"compatible:\n  package example.com/m/new: added"}, not: []string{"incompatible"}},
		{name: "that it stays, afterwards", files: map[string]string{"open/open.go": "// Package open is public.\npackage open\n\n// F does.\nfunc F() {}\n"}, not: []string{"incompatible"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.write(c.files)
			defer r.git("stash", "--quiet", "--include-untracked")
			if c.files == nil { // there is something to put away
				r.write(map[string]string{"notes.txt": "nothing\n"})
			}
			said, err := compare("")
			if c.broken == "" {
				require.NoError(t, err, said)
			} else {
				require.ErrorContains(t, err, " incompatible change")
				assert.Regexp(t, "(?m)^incompatible(, promised before and not now)?:\n  "+regexp.QuoteMeta(c.broken), said)
			}
			for _, want := range c.said {
				assert.Contains(t, said, want)
			}
			for _, not := range c.not {
				assert.NotContains(t, said, not)
			}
		})
	}
	// A version that may break what was there says what it breaks.
	broken := map[string]string{"a/late.go": ""}
	for _, name := range []string{"go.work", "other/go.mod"} {
		broken[name] = strings.ReplaceAll(released[name], "v0.1.0", "v0.11.0")
	}
	r.write(broken)
	said, err = compare("")
	require.NoError(t, err)
	assert.Contains(t, said, "incompatible:\n  ./a.Late: removed\nv0.11.0 may break what v0.10.0 has exported: CHANGELOG.md says how to follow\n")
	r.git("checkout", "--quiet", ".")
	// What is tagged as it is is compared with the release before, and not with itself.
	said, err = compare("")
	require.NoError(t, err)
	assert.Contains(t, said, "compared with v0.9.0\ncompatible:\n  ./a.Late: added\n")
	// A base that is given counts, and not the tag.
	said, err = compare("v0.9.0")
	require.NoError(t, err)
	assert.Contains(t, said, "compared with v0.9.0\ncompatible:\n  ./a.Late: added\n")
}

// The next major version may break what was exported, and while that is 0 the next minor one; a commit is no version.
func TestMayBreak(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, c := range []struct {
		base, version string
		may           bool
	}{
		{"v0.10.0", "v0.10.0", false}, {"v0.10.0", "v0.10.1", false}, {"v0.10.0", "v0.11.0", true}, {"v0.10.0", "v1.0.0", true}, {"v0.10.0", "v0.9.0", false},
		{"v1.1.0", "v1.1.1", false}, {"v1.1.0", "v1.2.0", false}, {"v1.1.0", "v2.0.0", true}, {"v1.1.0", "v0.9.0", false}, {"main", "v0.11.0", false},
	} {
		path := "example.com/m"
		if strings.HasPrefix(c.version, "v2") {
			path += "/v2"
		}
		require.NoError(t, os.WriteFile(filepath.Join(root, "go.work"), []byte("go 1.26.0\n\nreplace "+path+" "+c.version+" => ./\n"), 0o666))
		may, err := (&since{root, c.base, io.Discard}).mayBreak()
		require.NoError(t, err)
		assert.Equal(t, c.may, may, "%s after %s", c.version, c.base)
	}
}

// A report that is not understood is none that says that nothing has changed.
func TestAPIDiffSaysSomethingElse(t *testing.T) {
	t.Parallel()
	_, err := (&since{log: io.Discard}).told("Incompatible changes:\n! second, different message\n", t.TempDir())
	assert.ErrorContains(t, err, `found the line "! second, different message"`)
}

// The crate's public names stay, too: cargo-semver-checks finds what is gone.
func TestSemverChecks(t *testing.T) {
	t.Parallel()
	if said, err := exec.Command("cargo", "semver-checks", "--version").CombinedOutput(); err != nil {
		t.Skipf("cargo-semver-checks is missing: cargo install cargo-semver-checks --locked --version %s takes some minutes (%v: %s)", semverChecks, err, said)
	}
	const crate = "//! The crate.\n\n/// Is there.\npub fn is_there(_: u32) {}\n"
	r := newRepository(t, map[string]string{
		"sdk-rust/Cargo.toml":         "[workspace]\nresolver = \"2\"\nmembers = [\"ferrule\"]\n",
		"sdk-rust/Cargo.lock":         "version = 3\n\n[[package]]\nname = \"ferrule-plugin\"\nversion = \"0.1.0\"\n",
		"sdk-rust/ferrule/Cargo.toml": "[package]\nname = \"ferrule-plugin\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[lib]\nname = \"ferrule\"\n",
		"sdk-rust/ferrule/src/lib.rs": crate,
	})
	compare := func() (string, error) {
		var said bytes.Buffer
		s := &since{r.dir, "", &said}
		err := s.compare(t.Context(), s.crate)
		return said.String(), err
	}
	said, err := compare()
	require.NoError(t, err)
	assert.Contains(t, said, "there is no tag to compare with")
	r.git("tag", "v0.1.0")
	r.write(map[string]string{"sdk-rust/ferrule/src/lib.rs": crate + "\n/// Is new.\npub fn is_new() {}\n"})
	said, err = compare()
	require.NoError(t, err, said)
	assert.Contains(t, said, "compared with v0.1.0\n")
	assert.Contains(t, said, "no semver update required")
	r.write(map[string]string{"sdk-rust/ferrule/src/lib.rs": strings.Replace(crate, "is_there", "is_elsewhere", 1)})
	said, err = compare()
	assert.ErrorContains(t, err, "the crate ferrule-plugin")
	assert.Contains(t, said, "ferrule::is_there")
}

// What the museum's plug-ins say of themselves stays what the headers write for the same source; where a function is gone, it is named.
func TestExhibits(t *testing.T) {
	for _, tool := range []string{"cc", "clang", "wasm-ld"} {
		fixture.Tool(t, tool, "apt-get install gcc clang lld wasi-libc libclang-rt-dev-wasm32")
	}
	fixture.WasmC(t, "echo") // leaves the test out where modules cannot be built
	dir := t.TempDir()
	command := filepath.Join(dir, "ferrule")
	_, err := output(fixture.Root(), nil, "go", "build", "-o", command, "./cmd/ferrule")
	require.NoError(t, err)
	tree := filepath.Join(dir, "tree")
	for _, folder := range []string{"include", "sdk-c/include", "abi/museum"} {
		require.NoError(t, os.CopyFS(filepath.Join(tree, filepath.FromSlash(folder)), os.DirFS(filepath.Join(fixture.Root(), filepath.FromSlash(folder)))))
	}
	compare := func(kinds ...string) (string, error) {
		var said bytes.Buffer
		err := (&rehearsal{work: dir, log: &said}).exhibits(t.Context(), tree, command, kinds...)
		return said.String(), err
	}
	said, err := compare("c", "c-wasm")
	require.NoError(t, err)
	if !strings.Contains(said, "the museum has none") {
		assert.Regexp(t, `inspect --diff of c-1\.\d+ as it is kept, .*: nothing that breaks a host`, said)
	}
	assert.Regexp(t, `inspect --diff of c-wasm-1\.\d+ as it is kept, .*: nothing that breaks a host`, said)
	_, err = compare("ada")
	assert.ErrorContains(t, err, "found no exhibit ada-VERSION")

	// Another version of the crates is no reason against a release: the exhibit's own lock does not know it.
	if cargo, err := exec.LookPath("cargo"); err == nil {
		require.NoError(t, os.CopyFS(filepath.Join(tree, "sdk-rust"), os.DirFS(filepath.Join(fixture.Root(), "sdk-rust"))))
		for _, name := range []string{"ferrule", "ferrule-macros"} {
			path := filepath.Join(tree, "sdk-rust", name, "Cargo.toml")
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			text = regexp.MustCompile(`(?m)^(version = "|ferrule-plugin-macros = .*version = "=)[0-9.]+`).ReplaceAll(text, []byte("${1}7.8.9"))
			require.NoError(t, os.WriteFile(path, text, 0o666))
		}
		lock := filepath.Join(tree, "abi", "museum", "rust-1.1", "Cargo.lock")
		before, err := os.ReadFile(lock)
		require.NoError(t, err)
		said, err := compare("rust")
		require.NoError(t, err, "%s: %s", cargo, said)
		after, err := os.ReadFile(lock)
		require.NoError(t, err)
		assert.Equal(t, string(before), string(after), "an exhibit stays as it is")
	}

	// A header that does not write down what a plug-in has: of a function its entry, of another one its streams.
	header := filepath.Join(tree, "sdk-c", "include", "ferrule", "sdk.h")
	text, err := os.ReadFile(header)
	require.NoError(t, err)
	for defect, c := range map[string]struct{ lines, want string }{
		"a function": {"#define ferrule_fn_work dropped_work\n", "function work removed: a host that calls it fails"},
		"a stream":   {"#undef FERRULE_STREAM\n#define FERRULE_STREAM(kind)\n", "function sum removed: what goes in or comes out may be something else"},
	} {
		require.NoError(t, os.WriteFile(header, append(text[:len(text):len(text)], c.lines...), 0o666))
		for _, kind := range []string{"c", "c-wasm"} {
			said, err := compare(kind)
			if strings.Contains(said, "the museum has none") {
				continue
			}
			require.ErrorContains(t, err, "says BREAKING: ", "%s, %s", defect, kind)
			assert.ErrorContains(t, err, c.want, "%s, %s", defect, kind)
		}
	}
}
