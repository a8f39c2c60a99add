// Package modules tests what holds between the Go modules of this repository, which go.work names.
package modules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// root is the path of the root's module, with which the paths of the others begin.
const root = "github.com/ferrule-dev/ferrule"

// goCommand runs the go command in a folder, and returns its standard output.
func goCommand(t *testing.T, dir string, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), args...)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "GOWORK="), env...) // the tree's, whatever the user has set
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "go %s\n%s", strings.Join(args, " "), &errs)
	return out
}

// decode returns the JSON values that a go command has written one after the other.
func decode[T any](t *testing.T, out []byte) (all []T) {
	t.Helper()
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var one T
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, one)
	}
}

// workFile is what `go work edit -json` and `go mod edit -json` say.
type workFile struct {
	Module struct{ Path string }
	Use    []struct{ DiskPath string }

	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

// wrong returns what is wrong with the modules of a tree whose root has a go.work: each go.mod is in it, has the path of its
// folder and no replace, and requires the others at the one version for which go.work takes the tree's.
func wrong(t *testing.T, tree string) (found []string) {
	t.Helper()
	work := decode[workFile](t, goCommand(t, tree, nil, "work", "edit", "-json", filepath.Join(tree, "go.work")))[0]
	used := map[string]bool{}
	for _, use := range work.Use {
		used[filepath.Clean(use.DiskPath)] = true
	}
	replaced := map[string]string{} // the version of a module that go.work takes from the tree, by its path
	for _, r := range work.Replace {
		replaced[r.Old.Path] = r.Old.Version
		if want, _ := strings.CutPrefix(r.Old.Path, root); filepath.Clean(r.New.Path) != filepath.Join(".", want) {
			found = append(found, "go.work: "+r.Old.Path+" is replaced by "+r.New.Path)
		}
	}
	require.NoError(t, filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "build" || name == "target" || name == ".git" || name == "testdata"):
			return filepath.SkipDir
		case name != "go.mod":
			return nil
		}
		dir, err := filepath.Rel(tree, filepath.Dir(path))
		require.NoError(t, err)
		mod := decode[workFile](t, goCommand(t, tree, nil, "mod", "edit", "-json", path))[0]
		if !used[dir] {
			found = append(found, dir+": go.work has no use of it")
		}
		delete(used, dir)
		if want := strings.TrimSuffix(root+"/"+filepath.ToSlash(dir), "/."); mod.Module.Path != want {
			found = append(found, dir+": its module is "+mod.Module.Path+", expected "+want)
		}
		if len(mod.Replace) > 0 {
			found = append(found, dir+": go.mod has a replace, with which nobody can go install it")
		}
		for _, r := range mod.Require {
			if own := r.Path == root || strings.HasPrefix(r.Path, root+"/"); own && replaced[r.Path] != r.Version {
				found = append(found, dir+": requires "+r.Path+" "+r.Version+", which go.work does not replace")
			}
		}
		return nil
	}))
	for dir := range used {
		found = append(found, dir+": go.work uses it, and there is no go.mod")
	}
	versions := map[string]bool{}
	for _, version := range replaced {
		versions[version] = true
	}
	if len(versions) > 1 {
		found = append(found, "go.work: replaces more than one version, but modules are tagged together")
	}
	slices.Sort(found)
	return found
}

func TestModules(t *testing.T) {
	t.Parallel()
	assert.Empty(t, wrong(t, fixture.Root()))
}

// The test of modules sees what can be wrong with them.
func TestModulesThatAreWrong(t *testing.T) {
	t.Parallel()
	const head = "go 1.26.0\n\nuse (\n\t.\n\t./a\n\t./gone\n)\n\nreplace " + root + " v0.1.0 => ./\n"
	dir := tree(t, map[string]string{
		"go.work":      head,
		"go.mod":       "module " + root + "\n\ngo 1.26.0\n",
		"a/go.mod":     "module " + root + "/a\n\ngo 1.26.0\n\nrequire " + root + " v0.2.0\n",
		"b/c/go.mod":   "module " + root + "/b/c\n\ngo 1.26.0\n\nrequire " + root + " v0.1.0\n\nreplace " + root + " => ../..\n",
		"b/d/go.mod":   "module example.com/d\n\ngo 1.26.0\n",
		"build/go.mod": "module built\n",
	})
	assert.Equal(t, []string{
		"a: requires " + root + " v0.2.0, which go.work does not replace",
		filepath.Join("b", "c") + ": go.mod has a replace, with which nobody can go install it",
		filepath.Join("b", "c") + ": go.work has no use of it",
		filepath.Join("b", "d") + ": go.work has no use of it",
		filepath.Join("b", "d") + ": its module is example.com/d, expected " + root + "/b/d",
		"gone: go.work uses it, and there is no go.mod",
	}, wrong(t, dir))
}

// tree writes files to a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	}
	return dir
}

// Who uses the library gets what it needs, and of that no more than these.
func TestRootRequires(t *testing.T) {
	t.Parallel()
	mod := decode[workFile](t, goCommand(t, fixture.Root(), nil, "mod", "edit", "-json", "go.mod"))[0]
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	assert.ElementsMatch(t, []string{
		"github.com/ebitengine/purego",        // calls without cgo
		"github.com/elastic/go-seccomp-bpf",   // the sandbox
		"github.com/landlock-lsm/go-landlock", // the sandbox
		"github.com/stretchr/testify",         // tests
		"golang.org/x/sys",
	}, direct)
}

// A plug-in in Go gets the standard library and the SDK, and no host: neither side can see which version of the other it meets.
func TestSDKRequiresNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(fixture.Root(), "sdk-go")
	mod := decode[workFile](t, goCommand(t, dir, nil, "mod", "edit", "-json", "go.mod"))[0]
	assert.Empty(t, mod.Require)
	for _, system := range systems {
		for _, p := range decode[goPackage](t, goCommand(t, dir, []string{"GOOS=" + system, "CGO_ENABLED=0"}, "list", "-e", "-deps", "-test", "-json=ImportPath,Module", "./...")) {
			if p.Module != nil {
				assert.Equal(t, root+"/sdk-go", p.Module.Path, p.ImportPath)
			}
		}
	}
}

// reasons returns where RATIONALE.md's table says that each module is required: module → the folders of go.mod files.
func reasons(text string) map[string][]string {
	all := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+/[^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$").FindAllStringSubmatch(text, -1) {
		all[row[1]] = strings.Split(row[2], ", ")
	}
	return all
}

// Each module that a go.mod requires itself has its reason in RATIONALE.md, with who requires it; and no other one has.
func TestReasons(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "RATIONALE.md"))
	require.NoError(t, err)
	_, chapter, found := strings.Cut(string(text), "\n## Why each dependency?\n")
	require.True(t, found)
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	said := reasons(chapter)
	assert.Equal(t, []string{"all but the registries", "the peers and sdk-go"}, said["github.com/stretchr/testify"])
	delete(said, "github.com/stretchr/testify")

	required := map[string][]string{}
	require.NoError(t, filepath.WalkDir(fixture.Root(), func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (name == "build" || name == "target" || name == ".git"):
			return filepath.SkipDir
		case name != "go.mod":
			return nil
		}
		folder, err := filepath.Rel(fixture.Root(), filepath.Dir(path))
		require.NoError(t, err)
		if folder == "." {
			folder = "root"
		}
		tested := false
		for _, r := range decode[workFile](t, goCommand(t, fixture.Root(), nil, "mod", "edit", "-json", path))[0].Require {
			switch {
			case r.Indirect, r.Path == root, strings.HasPrefix(r.Path, root+"/"):
			case r.Path == "github.com/stretchr/testify":
				tested = true
			default:
				required[r.Path] = append(required[r.Path], filepath.ToSlash(folder))
			}
		}
		without := slices.Contains([]string{"plugins/oci/testdata/registries", "loader/wasm/internal/extism/peers", "sdk-go"}, filepath.ToSlash(folder))
		assert.Equal(t, !without, tested, folder)
		return nil
	}))
	for _, folders := range required {
		slices.Sort(folders)
	}
	for _, folders := range said {
		slices.Sort(folders)
	}
	assert.Equal(t, required, said)
}

// systems are those whose files are looked at: go list sees one at a time.
var systems = []string{"linux", "windows", "darwin"}

// goPackage is what `go list -json` says.
type goPackage struct {
	ImportPath string
	Module     *struct{ Path string }

	Imports, TestImports, XTestImports []string
}

// inward returns the imports of a module's insides by another one. The other may be older or newer than the insides: what is
// not public may have changed. Tests run in this tree only, and may use the root's test helpers.
func inward(packages []goPackage) (found []string) {
	for _, p := range packages {
		if p.Module == nil || p.Module.Path == root {
			continue
		}
		foreign := func(path string) bool {
			return strings.HasPrefix(path, root+"/") && strings.Contains(path, "/internal/") && !strings.HasPrefix(path, p.Module.Path+"/")
		}
		for _, path := range p.Imports {
			if foreign(path) {
				found = append(found, p.ImportPath+" imports "+path)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if foreign(path) && !strings.HasPrefix(path, root+"/internal/") {
				found = append(found, "a test of "+p.ImportPath+" imports "+path)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestNoModuleImportsAnothersInsides(t *testing.T) {
	t.Parallel()
	for _, goos := range systems {
		packages := decode[goPackage](t, goCommand(t, fixture.Root(), []string{"GOOS=" + goos, "CGO_ENABLED=0"},
			"list", "-e", "-json=ImportPath,Module,Imports,TestImports,XTestImports", "work"))
		others := slices.DeleteFunc(slices.Clone(packages), func(p goPackage) bool { return p.Module != nil && p.Module.Path == root })
		assert.Greater(t, len(others), 10, goos)
		assert.Empty(t, inward(packages), goos)
	}
	module := func(path string) *struct{ Path string } { return &struct{ Path string }{path} }
	assert.Equal(t, []string{
		"a test of " + root + "/b imports " + root + "/loader/internal/x",
		root + "/a/b imports " + root + "/internal/x",
		root + "/a/b imports " + root + "/loader/internal/x",
	}, inward([]goPackage{
		{root + "/loader", module(root), []string{root + "/loader/internal/x"}, nil, nil},
		{root + "/a/b", module(root + "/a"), []string{root + "/loader/internal/x", root + "/internal/x", root + "/a/internal/y", "internal/z"}, nil, nil},
		{root + "/b", module(root + "/b"), []string{root + "/loader", "fmt"}, []string{root + "/internal/fixture"}, []string{root + "/loader/internal/x"}},
	}))
}

// heavy are packages that no host gets for loading a plug-in, by themselves or by the beginning of their paths: a server,
// formats, engines and brokers have modules of their own.
var heavy = []string{"net/http", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3", "go.yaml.in/yaml", "sigs.k8s.io/yaml", "github.com/spf13",
	"github.com/tetratelabs/wazero", "github.com/extism", "oras.land", "github.com/opencontainers", "github.com/nats-io",
	"github.com/eclipse/paho.golang", "go.opentelemetry.io"}

// reaches returns the chains of imports by which packages get to what is heavy: one for each heavy package that is imported
// by one that is not.
func reaches(t *testing.T, dir, goos string, patterns ...string) (chains []string) {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Imports,DepOnly"}, patterns...)
	packages := decode[struct {
		ImportPath string
		Imports    []string
		DepOnly    bool
	}](t, goCommand(t, dir, []string{"GOOS=" + goos, "CGO_ENABLED=0"}, args...))
	imports, by := map[string][]string{}, map[string]string{}
	var next []string
	for _, p := range packages {
		imports[p.ImportPath] = p.Imports
		if !p.DepOnly {
			next, by[p.ImportPath] = append(next, p.ImportPath), ""
		}
	}
	require.NotEmpty(t, next, patterns)
	for ; len(next) > 0; next = next[1:] {
		at := next[0]
		if slices.ContainsFunc(heavy, func(h string) bool { return strings.HasPrefix(at+"/", h+"/") }) {
			chain := at
			for p := by[at]; p != ""; p = by[p] {
				chain = p + " → " + chain
			}
			chains = append(chains, chain)
			continue
		}
		for _, path := range imports[at] {
			if _, seen := by[path]; !seen {
				next, by[path] = append(next, path), at
			}
		}
	}
	slices.Sort(chains)
	return chains
}

func TestLoaderIsLight(t *testing.T) {
	t.Parallel()
	// Two packages are for who wants HTTP, and imported by nobody else: the engine for servers, and what makes one of a plug-in.
	web := []string{"loader/sidecar/web", "loader/sidecar/serve/web"}
	for _, goos := range systems {
		var light []string
		for _, path := range strings.Fields(string(goCommand(t, fixture.Root(), []string{"GOOS=" + goos, "CGO_ENABLED=0"}, "list", "./loader/...", "./abi/..."))) {
			if !slices.ContainsFunc(web, func(p string) bool { return strings.HasSuffix(path, "/"+p) }) {
				light = append(light, path)
			}
		}
		assert.Empty(t, reaches(t, fixture.Root(), goos, light...), goos)
	}
}

// The core system has the formats that it reads, and nothing of who watches it or of where plug-ins are fetched from: that is in a module of its own,
// or, for release pages and for the page of a system, in packages that nobody else there imports.
func TestPluginsIsLight(t *testing.T) {
	t.Parallel()
	for _, goos := range systems {
		reached := reaches(t, fixture.Root(), goos, "./plugins/...")
		assert.NotEmpty(t, reached, "the format of config.yaml")
		for _, chain := range reached {
			assert.Regexp(t, ` → go\.yaml\.in/yaml/v3$|^`+root+`/plugins/(release|web) → net/http$`, chain, goos)
		}
		for _, chain := range reaches(t, fixture.Root(), goos, "./plugins", "./plugins/monitor") {
			assert.NotContains(t, chain, "net/http", goos)
		}
	}
	for _, module := range []string{"./plugins/otel", "./plugins/oci"} {
		assert.NotEmpty(t, reaches(t, fixture.Root(), "linux", module))
	}
}

// Who uses OCI registries does not get the ones that its tests run.
func TestOCIRequires(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "plugins", "oci", "go.sum"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "oras.land/oras-go/v2")
	for _, registry := range []string{"github.com/distribution/", "github.com/google/go-containerregistry"} {
		assert.NotContains(t, string(text), registry)
	}
}

// The test of what loader reaches sees it, directly and through others.
func TestHeavyIsSeen(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26.0\n\nrequire (\n\tgopkg.in/yaml.v3 v3.0.0\n\tgithub.com/nats-io/nats.go v1.0.0\n)\n\n" +
			"replace gopkg.in/yaml.v3 => ./yaml\n\nreplace github.com/nats-io/nats.go => ./nats\n",
		"yaml/go.mod":      "module gopkg.in/yaml.v3\n",
		"yaml/yaml.go":     "package yaml\n",
		"nats/go.mod":      "module github.com/nats-io/nats.go\n",
		"nats/nats.go":     "package nats\n",
		"loader/a.go":      "package loader\n\nimport (\n\t_ \"example.com/m/deep\"\n\t_ \"net\"\n)\n",
		"loader/a_test.go": "package loader\n\nimport _ \"github.com/nats-io/nats.go\"\n", // a test's is nobody's
		"loader/web/a.go":  "package web\n\nimport _ \"net/http\"\n",
		"deep/a.go":        "package deep\n\nimport _ \"example.com/m/deeper\"\n",
		"deeper/a.go":      "package deeper\n\nimport _ \"gopkg.in/yaml.v3\"\n",
	})
	assert.Equal(t, []string{
		"example.com/m/loader → example.com/m/deep → example.com/m/deeper → gopkg.in/yaml.v3",
		"example.com/m/loader/web → net/http",
	}, reaches(t, dir, "linux", "./loader/..."))
	assert.Empty(t, reaches(t, dir, "linux", "net"))
	assert.NotEmpty(t, reaches(t, fixture.Root(), "linux", "./cmd/ferrule"), "cobra")
}

// ./... does not look where others build meanwhile: a folder that is gone by then would be an error.
func TestBuiltIsNotListed(t *testing.T) {
	for module, folders := range map[string][]string{".": {"build", "sdk-rust/target", "internal/fixture/rust-abort/target"}, "examples": {"target", "everywhere/extism/target"}} {
		dir := filepath.Join(fixture.Root(), module)
		for _, folder := range folders {
			folder = filepath.Join(dir, folder)
			require.NoError(t, os.MkdirAll(folder, 0o777))
			built, err := os.MkdirTemp(folder, "built-")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(built) })
			require.NoError(t, os.WriteFile(filepath.Join(built, "built.go"), []byte("package built\n"), 0o666))
		}
		listed := string(goCommand(t, dir, nil, "list", "./..."))
		assert.Contains(t, listed, root)
		assert.NotContains(t, listed, "/built-", "go.mod does not ignore the folder")
	}
}
