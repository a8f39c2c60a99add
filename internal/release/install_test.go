//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// user is somebody who has no checkout of this tree: its modules are on a proxy, at one version, and the cache is empty.
type user struct {
	version string
	env     []string
	bin     string // where go install puts what it builds
}

// newUser makes a proxy of the published modules, from the files that git knows.
func newUser(t *testing.T) *user {
	t.Helper()
	if testing.Short() {
		t.Skip("builds all from an empty cache of modules, which takes half a minute; run without -short")
	}
	fixture.Tool(t, "git", "apt-get install git")
	root := fixture.Root()
	if _, err := listed(root); err != nil {
		t.Skip("what is published are the files that git lists, and here it lists none: ", err)
	}
	_, version, err := published(root)
	require.NoError(t, err)

	// Always the same folder: what Go has built for a module in another place it does not know again. A lock, for two runs at once.
	build := filepath.Join(root, "build")
	require.NoError(t, os.MkdirAll(build, 0o777))
	lock, err := os.Create(filepath.Join(build, "install.lock"))
	require.NoError(t, err)
	t.Cleanup(func() { lock.Close() })
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	dir := filepath.Join(build, "_install") // which ./... leaves out, should a killed run leave it behind
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.Mkdir(dir, 0o777))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	u := &user{version: version + "-test", bin: filepath.Join(dir, "bin")}
	p, err := publish(root, filepath.Join(dir, "proxy"), u.version, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	require.NoError(t, err)
	u.env, err = p.env(filepath.Join(dir, "mod"), "GOBIN="+u.bin)
	require.NoError(t, err)
	return u
}

// run runs a program in a folder, and returns its standard output.
func (u *user) run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	out, err := output(dir, u.env, program, args...)
	require.NoError(t, err)
	return out
}

// shell is a block of commands on a page.
var shell = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// What is published can be installed and used where this tree is not: the command by go install, the library by go get.
func TestInstall(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	plugin := fixture.C(t, "echo")

	// One after another: of two go commands that begin with the same empty cache of modules, one in 60 does not find the module of
	// the command on the proxy, and says that the root's does not contain the package.
	t.Run("the command", func(t *testing.T) {
		dir := t.TempDir()
		u.run(t, dir, "go", "install", library+"/cmd/ferrule@"+u.version)
		installed, binary := filepath.Join(u.bin, "ferrule"), filepath.Join(dir, "ferrule")
		_, err := output(fixture.Root(), nil, "go", "build", "-o", binary, "./cmd/ferrule") // the tree's own
		require.NoError(t, err)
		assert.Contains(t, u.run(t, dir, installed, "--version"), "ferrule "+u.version+", contract ")
		assert.Contains(t, u.run(t, dir, installed, "inspect", plugin), "Answers in every way there is")
		assert.Equal(t, "Ada", u.run(t, dir, installed, "call", plugin, "echo", "--in", "Ada"))
		assert.Equal(t, "Ada", u.run(t, dir, installed, "call", "--isolated", plugin, "echo", "--in", "Ada"))
		// It has all that it hands out: the root's packages have the header and the SDKs.
		for _, language := range []string{"c", "cpp", "rust"} {
			want, got := filepath.Join(dir, "want", language), filepath.Join(dir, "got", language)
			u.run(t, dir, binary, "new", "--lang", language, "--name", "greeter", want)
			u.run(t, dir, installed, "new", "--lang", language, "--name", "greeter", got)
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
		commands := shell.FindStringSubmatch(section)
		require.NotNil(t, commands)
		assert.Regexp(t, `^\d+ vowels in main.go\n$`, u.run(t, dir, "sh", "-ec", commands[1]))
		requirements, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		require.NoError(t, err)
		assert.Contains(t, string(requirements), library+" "+u.version)
	})

	t.Run("the library", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(hostOfBothKinds), 0o666))
		u.run(t, dir, "go", "mod", "init", "example.com/user")
		u.run(t, dir, "go", "get", library+"@"+u.version)
		u.run(t, dir, "go", "mod", "tidy")
		u.run(t, dir, "go", "build", "-o", "user.exe", ".")
		assert.Equal(t, "in-process Ada\nisolated Ada\n", u.run(t, dir, filepath.Join(dir, "user.exe"), plugin, "Ada"))

		requirements := u.run(t, dir, "go", "list", "-m", "all")
		assert.Contains(t, requirements, library+" "+u.version+"\n")
		assert.NotContains(t, requirements, library+"/")
		assert.NotContains(t, requirements, "cobra", "what only the command needs")
	})
}

// hostOfBothKinds is a program of somebody's own.
const hostOfBothKinds = `package main

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
