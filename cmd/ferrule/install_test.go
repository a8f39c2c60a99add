//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// moduleRegistry is this tree as a user meets it who has no checkout: its modules on a proxy, at one version, and an empty cache.
type moduleRegistry struct {
	version string
	env     []string
	bin     string // where go install puts what it builds
}

// library is the path of the root's module.
const library = "github.com/ferrule-dev/ferrule"

// publish makes a file proxy of the root's module, the command's and what it is made of, from the files that git knows.
func publish(t *testing.T) *moduleRegistry {
	t.Helper()
	if testing.Short() {
		t.Skip("builds all from an empty cache of modules, which takes half a minute; run without -short")
	}
	root := fixture.Root()
	listed, err := exec.Command(fixture.Tool(t, "git", "apt-get install git"), "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Skip("what is published are the files that git lists, and here it lists none: ", err)
	}
	var names []string
	sum := sha256.New()
	for _, name := range strings.Split(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		names = append(names, name)
	}

	// A version has one content for ever: of what Go knows by its version, it does not look at the files again.
	text, err := os.ReadFile(filepath.Join(root, "cmd", "ferrule", "go.mod"))
	require.NoError(t, err)
	mod, err := modfile.Parse("go.mod", text, nil)
	require.NoError(t, err)
	r := &moduleRegistry{}
	for _, required := range mod.Require {
		if required.Mod.Path == library {
			r.version = fmt.Sprintf("%s-test.h%x", required.Mod.Version, sum.Sum(nil)[:8])
		}
	}
	require.NotEmpty(t, r.version)

	// Always the same folder: what Go has built for a module in another place it does not know again. A lock, for two runs at once.
	build := filepath.Join(root, "build")
	require.NoError(t, os.MkdirAll(build, 0o777))
	lock, err := os.Create(filepath.Join(build, "install.lock"))
	require.NoError(t, err)
	t.Cleanup(func() { lock.Close() })
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	dir := filepath.Join(build, "_install") // which ./... leaves out, should a killed run leave it behind
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Mkdir(dir, 0o777))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	proxy := filepath.Join(dir, "proxy")
	r.bin = filepath.Join(dir, "bin")
	modules := map[string]string{library: "", library + "/cmd/ferrule": "cmd/ferrule/"} // and what the command needs of this tree, each with its folder
	for _, required := range mod.Require {
		if folder, ok := strings.CutPrefix(required.Mod.Path, library+"/"); ok {
			modules[required.Mod.Path] = folder + "/"
		}
	}
	for path, folder := range modules {
		var files []zip.File
		for _, name := range names {
			if in, ok := strings.CutPrefix(name, folder); ok {
				files = append(files, treeFile{in, filepath.Join(root, name)})
			}
		}
		at := filepath.Join(proxy, filepath.FromSlash(path), "@v")
		require.NoError(t, os.MkdirAll(at, 0o777))
		put := func(name string, text []byte) {
			require.NoError(t, os.WriteFile(filepath.Join(at, name), text, 0o666))
		}
		requirements := r.requirements(t, filepath.Join(root, folder, "go.mod"))
		mod := filepath.Join(dir, strings.ReplaceAll(path, "/", "-")+".mod")
		require.NoError(t, os.WriteFile(mod, requirements, 0o666))
		files = slices.DeleteFunc(files, func(f zip.File) bool { return f.Path() == "go.mod" })
		files = append(files, treeFile{"go.mod", mod})
		put("list", []byte(r.version+"\n"))
		put(r.version+".info", []byte(`{"Version":"`+r.version+`","Time":"2026-01-01T00:00:00Z"}`))
		put(r.version+".mod", requirements)
		var archive bytes.Buffer
		// It has the rules of the go command: what names of files may be, and that a module ends where another begins.
		require.NoError(t, zip.Create(&archive, module.Version{Path: path, Version: r.version}, files))
		put(r.version+".zip", archive.Bytes())
	}

	// The cache of the machine is a proxy, too, for what others have published; what it lacks comes from where it did.
	var env struct{ GOMODCACHE, GOPROXY string }
	out, err := exec.Command("go", "env", "-json", "GOMODCACHE", "GOPROXY").Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &env))
	r.env = append(os.Environ(),
		"GOPROXY="+url(proxy)+","+url(filepath.Join(env.GOMODCACHE, "cache", "download"))+","+env.GOPROXY,
		"GOWORK=off", "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOPRIVATE=", "GONOPROXY=none", "GO111MODULE=on",
		"GOMODCACHE="+filepath.Join(dir, "mod"), "GOBIN="+r.bin)
	return r
}

// requirements is a go.mod of the tree that requires what is published here.
func (r *moduleRegistry) requirements(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	mod, err := modfile.Parse(path, text, nil)
	require.NoError(t, err)
	for _, required := range mod.Require {
		if required.Mod.Path == library || strings.HasPrefix(required.Mod.Path, library+"/") {
			require.NoError(t, mod.AddRequire(required.Mod.Path, r.version))
		}
	}
	text, err = mod.Format()
	require.NoError(t, err)
	return text
}

// treeFile is a file of the tree in a module.
type treeFile struct{ name, path string }

func (f treeFile) Path() string                 { return f.name }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(f.path) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(f.path) }

func url(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return "file://" + path
}

// run runs a program in a folder, and returns its standard output.
func (r *moduleRegistry) run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, r.env, &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v\n%s%s", program, args, out, &errs)
	return string(out)
}

// What is published can be installed and used where this tree is not: the command by go install, the library by go get.
func TestInstall(t *testing.T) {
	t.Parallel()
	r := publish(t)
	plugin := fixture.C(t, "echo")

	// One after another: of two go commands that begin with the same empty cache of modules, one in 60 does not find the module of
	// the command on the proxy, and says that the root's does not contain the package.
	t.Run("the command", func(t *testing.T) {
		dir := t.TempDir()
		r.run(t, dir, "go", "install", library+"/cmd/ferrule@"+r.version)
		installed := filepath.Join(r.bin, filepath.Base(binary))
		assert.Contains(t, r.run(t, dir, installed, "--version"), "ferrule "+r.version+", contract ")
		assert.Contains(t, r.run(t, dir, installed, "inspect", plugin), "Answers in every way there is")
		assert.Equal(t, "Ada", r.run(t, dir, installed, "call", plugin, "echo", "--in", "Ada"))
		assert.Equal(t, "Ada", r.run(t, dir, installed, "call", "--isolated", plugin, "echo", "--in", "Ada"))
		// It has all that it hands out: the root's packages have the header and the SDKs.
		for _, language := range []string{"c", "cpp", "rust"} {
			want, got := filepath.Join(dir, "want", language), filepath.Join(dir, "got", language)
			r.run(t, dir, binary, "new", "--lang", language, "--name", "greeter", want)
			r.run(t, dir, installed, "new", "--lang", language, "--name", "greeter", got)
			assert.Equal(t, contents(t, want), contents(t, got), language)
		}
	})

	// What docs/start.md says of a module of one's own works as it stands there.
	t.Run("the start", func(t *testing.T) {
		fixture.Tool(t, "cc", "apt-get install gcc")
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "c"), 0o777))
		for _, name := range []string{"main.go", "c/countvowels.c"} {
			text, err := os.ReadFile(filepath.Join(fixture.Root(), "examples", "countvowels", name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o666))
		}
		page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "start.md"))
		require.NoError(t, err)
		_, section, ok := strings.Cut(string(page), "\n## In a module of your own\n")
		require.True(t, ok)
		commands := blocks(section)[0]
		require.Equal(t, "sh", commands.language)
		assert.Regexp(t, `^\d+ vowels in main.go\n$`, r.run(t, dir, "sh", "-ec", commands.text))
		requirements, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		require.NoError(t, err)
		assert.Contains(t, string(requirements), library+" "+r.version)
	})

	t.Run("the library", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(user), 0o666))
		r.run(t, dir, "go", "mod", "init", "example.com/user")
		r.run(t, dir, "go", "get", library+"@"+r.version)
		r.run(t, dir, "go", "mod", "tidy")
		r.run(t, dir, "go", "build", "-o", "user.exe", ".")
		assert.Equal(t, "in-process Ada\nisolated Ada\n", r.run(t, dir, filepath.Join(dir, "user.exe"), plugin, "Ada"))

		requirements := r.run(t, dir, "go", "list", "-m", "all")
		assert.Contains(t, requirements, library+" "+r.version+"\n")
		assert.NotContains(t, requirements, library+"/")
		assert.NotContains(t, requirements, "cobra", "what only the command needs")
	})
}

// user is a program of somebody's own.
const user = `package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func main() {
	for name, opts := range [][]loader.Option{nil, {isolate.InWorker()}} {
		p, err := loader.Open(os.Args[1], opts...)
		if err != nil {
			log.Fatal(err)
		}
		out, err := p.Call(context.Background(), "echo", []byte(os.Args[2]))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", []string{"in-process", "isolated"}[name], out)
		if err := p.Close(); err != nil {
			log.Fatal(err)
		}
	}
}
`

// contents are the files below a folder, by their names.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		require.NoError(t, err)
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	}))
	require.NotEmpty(t, files)
	return files
}
