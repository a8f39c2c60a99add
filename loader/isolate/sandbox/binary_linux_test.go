package sandbox_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// launcherSource is a program that carries a worker as data, and would start it.
const launcherSource = `package main

import (
	_ "embed"
	"os"
)

//go:embed worker
var worker []byte

func main() { os.WriteFile(os.Args[0]+".main-ran", worker[:1], 0o600) }
`

// A program that would be no worker is refused before anything of it runs, with words that say what it is and what to do.
func TestWithBinary(t *testing.T) {
	fixture.NotMusl(t, "a program that go builds uses glibc")
	fixture.Loadable(t)
	dir := t.TempDir()
	unboxed := filepath.Join(dir, "unboxed")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", unboxed, "./testdata/unboxed")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	program, err := os.ReadFile(unboxed)
	require.NoError(t, err)
	launcher := filepath.Join(dir, "launcher")
	build = exec.Command("go", "build", "-o", launcher, ".")
	build.Dir, build.Env = t.TempDir(), append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	for name, text := range map[string][]byte{"go.mod": []byte("module launcher\n"), "worker": program, "main.go": []byte(launcherSource)} {
		require.NoError(t, os.WriteFile(filepath.Join(build.Dir, name), text, 0o600))
	}
	out, err = build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	at := bytes.Index(program, mark.Number)
	require.Positive(t, at)
	version := program[at+len(mark.Number)+4:]
	require.Equal(t, mark.Version, int(binary.NativeEndian.Uint32(version)))
	binary.NativeEndian.PutUint32(version, mark.Version+1)
	other := filepath.Join(dir, "other-version")
	require.NoError(t, os.WriteFile(other, program, 0o700))
	script := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ntouch \"$0.main-ran\"\n"), 0o700))
	self, err := os.Executable()
	require.NoError(t, err)

	const plain = "github.com/ferrule-dev/ferrule/loader/isolate"
	for _, c := range []struct {
		path           string
		boxed          bool
		found, advised string // nothing where it is a worker
	}{
		{filepath.Join(dir, "nonexistent"), false, "no such file", "path of such a program"},
		{filepath.Join(dir, "nonexistent"), true, "no such file", "path of such a program"},
		{dir, false, "a folder", "path of such a program"},
		{"/dev/null", false, "no regular file", "path of such a program"},
		{"/bin/true", false, "no worker", plain},
		{"/bin/true", true, "no worker", plain},
		{launcher, false, "no worker", plain},
		{launcher, true, "no worker", plain},
		{script, false, "a script", "path of such a program"},
		{other, false, "another version", "same version"},
		{other, true, "another version", "same version"},
		{unboxed, true, "cannot be sandboxed", plain + "/sandbox"},
		{unboxed, false, "", ""},
		{self, false, "", ""},
		{self, true, "", ""},
	} {
		opts := []isolate.Option{isolate.WithBinary(c.path)}
		if c.boxed {
			opts = append(opts, sandbox.With(sandbox.Policy{}))
		}
		p, err := loader.Open(fixture.C(t, "echo"), isolate.InWorker(opts...))
		if c.found == "" {
			require.NoError(t, err)
			out, err := p.Call(context.Background(), "echo", []byte("works"))
			assert.NoError(t, err)
			assert.Equal(t, "works", string(out))
			require.NoError(t, p.Close())
			continue
		}
		var open *loader.OpenError
		require.ErrorAs(t, err, &open, c.path)
		assert.ErrorIs(t, err, loader.ErrOption)
		assert.Contains(t, open.Found, c.path)
		assert.Contains(t, open.Found, c.found)
		assert.Contains(t, open.Remedy, c.advised)
	}
	ran, err := filepath.Glob(filepath.Join(dir, "*.main-ran"))
	require.NoError(t, err)
	assert.Empty(t, ran, "the main function of a program that is no worker")
}
