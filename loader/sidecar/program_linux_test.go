package sidecar_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// sum writes a file, and returns what WithSHA256 says of it.
func sum(t *testing.T, path, text string, mode os.FileMode) loader.Option {
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	digest := sha256.Sum256([]byte(text))
	return loader.WithSHA256(hex.EncodeToString(digest[:]))
}

// What is to run a script is a file. A FIFO would be waited for, and a device does what it likes when it is opened.
func TestInterpreterIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o700))
	for _, interpreter := range []string{fifo, "/dev/null", dir} {
		script := filepath.Join(dir, "script")
		require.NoError(t, os.WriteFile(script, []byte("#!"+interpreter+"\n"), 0o755))
		within(t, func() {
			_, err := loader.Open(script, sidecar.Program())
			assert.ErrorIs(t, err, loader.ErrNotRegular)
			assert.ErrorContains(t, err, "found no file at "+interpreter+", which is to run it")
		})
	}
	within(t, func() {
		_, err := loader.Open(filepath.Join(dir, "script"), sidecar.Program(sidecar.WithInterpreter(fifo)))
		assert.ErrorIs(t, err, loader.ErrNotRegular)
	})
}

// A program that is not opened leaves no copy behind, for whatever reason.
func TestRefusedCopiesAreGone(t *testing.T) {
	folder, dir := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", folder)
	for name, c := range map[string]struct {
		text string
		opts []sidecar.Option
		says string
	}{
		"no interpreter":         {"#!/usr/bin/env python3\n", []sidecar.Option{sidecar.WithInterpreter("no-such-program")}, "an interpreter that is not there"},
		"nothing at its #! line": {"#!/no/such/program\n", nil, "no program at /no/such/program"},
		"nothing in it":          {"#!\n", nil, "does not start by itself"},
		"an end at once":         {"#!/bin/sh\nexit 3\n", nil, "exit code 3"},
	} {
		path := filepath.Join(dir, "program")
		digest := sum(t, path, c.text, 0o755)
		_, err := loader.Open(path, sidecar.Program(c.opts...), digest)
		assert.ErrorContains(t, err, c.says, name)
	}
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left)

	path := filepath.Join(dir, "program")
	digest := sum(t, path, "#!/bin/sh\n", 0o755)
	t.Setenv("TMPDIR", filepath.Join(folder, "none"))
	_, err = loader.Open(path, sidecar.Program(), digest)
	assert.ErrorContains(t, err, "no place for a copy of the program, which WithSHA256 needs ("+unix.ENOENT.Error()+")")
}

// TestTemporaryFolderThatIsRelative: the copy that WithSHA256 needs is found by the program, which runs in another folder, and goes with the plug-in, wherever this process is by then.
func TestTemporaryFolderThatIsRelative(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "tmp"), 0o700))
	path := filepath.Join(folder, "where.py")
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "attacker.py"))
	require.NoError(t, err)
	digest := sum(t, path, string(text), 0o700)
	t.Chdir(folder)
	t.Setenv("TMPDIR", "tmp")
	p, err := loader.Open(path, sidecar.Program(sidecar.WithInterpreter(python(t))), digest)
	require.NoError(t, err)
	assert.Empty(t, call(t, p, "run", "import os; os.mkdir(os.environ['TMPDIR'] + '/mine')"))
	require.NoError(t, os.Remove(filepath.Join(folder, "tmp", "mine")))
	t.Chdir("/")
	require.NoError(t, p.Close())
	left, err := os.ReadDir(filepath.Join(folder, "tmp"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// TestProgramOnNoexec: where the system starts no program from a file system, the error says so, and of a copy how to have it elsewhere.
func TestProgramOnNoexec(t *testing.T) {
	mount, folder := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_NOEXEC, "size=64m"); err != nil {
		t.Skipf("a file system is mounted: %v", err)
	}
	defer func() { assert.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) }()
	text, err := os.ReadFile("/bin/true")
	require.NoError(t, err)
	there, elsewhere := filepath.Join(mount, "program"), filepath.Join(folder, "program")
	sum(t, there, string(text), 0o755)
	digest := sum(t, elsewhere, string(text), 0o755)
	t.Setenv("TMPDIR", mount)
	for name, opts := range map[string][]sidecar.Option{"bare": nil, "sandbox": {sidecar.WithSandbox(sandbox.Policy{})}} {
		t.Run(name, func(t *testing.T) {
			if opts != nil {
				sandboxed(t)
			}
			_, err := loader.Open(there, sidecar.Program(opts...))
			require.ErrorIs(t, err, loader.ErrStart)
			assert.ErrorContains(t, err, "the sidecar was not started: the file system of "+there+" is mounted noexec. Put the program on another file system")
			_, err = loader.Open(elsewhere, sidecar.Program(opts...), digest)
			require.ErrorIs(t, err, loader.ErrStart)
			assert.ErrorContains(t, err, "mounted noexec. Have TMPDIR name a folder on another file system")
		})
	}
}

// A digest says which bytes are run, and not that they may be.
func TestDigestOfWhatMayNotBeRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	digest := sum(t, path, "#!/bin/sh\n", 0o644)
	_, err := loader.Open(path, sidecar.Program(), digest)
	assert.ErrorContains(t, err, "a script that may not be executed")
	_, err = loader.Open(path, sidecar.Program(sidecar.WithInterpreter("sh")), digest)
	assert.ErrorContains(t, err, "exit code 0")
}

// TestLibraryAsProgram: a library of a plug-in is not run as a program, which would end by a fault. A program that exports what a plug-in does is run, however it is linked.
func TestLibraryAsProgram(t *testing.T) {
	library := fixture.C(t, "echo")
	var refused *loader.OpenError
	_, err := loader.Open(library, sidecar.Program())
	require.ErrorAs(t, err, &refused)
	assert.ErrorIs(t, err, loader.ErrNoEngine)
	assert.ErrorContains(t, err, "found a shared library, which is a plug-in by itself, expected a program. Open it without sidecar.Program().")
	p, err := loader.Open(library, loader.WithEngine(sidecar.Engine()), loader.WithEngine(loader.Native()))
	require.NoError(t, err, "of two engines the other one opens it")
	require.NoError(t, p.Close())
	_, err = loader.Open(library, sidecar.Program(sidecar.WithInterpreter("false")))
	assert.ErrorContains(t, err, "exit code 1", "what runs it may know what to do with it")

	dir := t.TempDir()
	source := filepath.Join(dir, "main.c")
	require.NoError(t, os.WriteFile(source, []byte("#include <ferrule/sdk.h>\nFERRULE_PLUGIN(FERRULE_NAME(\"p\") FERRULE_VERSION(\"1\"));\nint main(void) { return 3; }\n"), 0o600))
	for _, flags := range []string{"-no-pie", "-pie -fPIE", "-static", "-static-pie -fPIE"} {
		program := filepath.Join(dir, "program")
		args := append(strings.Fields(flags), "-rdynamic", "-I", filepath.Join(fixture.Root(), "include"), "-I", filepath.Join(fixture.Root(), "sdk-c", "include"), source, "-o", program)
		if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Logf("not to be had here: %s: %s", flags, out) // some systems have no static C library
			continue
		}
		_, err := loader.Open(program, sidecar.Program())
		assert.ErrorContains(t, err, "exit code 3", flags)
	}
}

// A program is in the host's session, with a process group of its own, as a worker is: see isolate's test of that name.
func TestSessionOfTheHost(t *testing.T) {
	state, ok := attacker(t, nil).Isolation()
	require.True(t, ok)
	fixture.CheckSession(t, state.PID, state.Layers)
}
