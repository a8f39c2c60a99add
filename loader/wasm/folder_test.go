package wasm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// folders are two of one test: in is what a module is to see, with a link out of it and one within, and out is beside it.
func folders(t *testing.T) (in, out string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	in, out = filepath.Join(top, "in"), filepath.Join(top, "out")
	for path, text := range map[string]string{in + "/sub/b": "within", in + "/a": "seen", out + "/secret": "secret"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	for at, to := range map[string]string{in + "/within": "sub/b", in + "/absolute": out + "/secret", in + "/relative": "../out/secret", in + "/around": "../out"} {
		if err := os.Symlink(to, at); err != nil {
			t.Skip("this system has no symbolic links for this user: ", err)
		}
	}
	return in, out
}

// asker calls a plug-in's functions; a failure is its text with ! before it.
func asker(p *loader.Plugin) func(name, in string) string {
	return func(name, in string) string {
		out, err := p.Call(ctx, name, []byte(in))
		if err != nil {
			return "!" + err.Error()
		}
		return string(out)
	}
}

// A module has no environment, whatever the host has.
func TestNoEnvironment(t *testing.T) {
	t.Setenv("FERRULE_TEST_SECRET", "secret")
	assert.Empty(t, asker(open(t, "wasm_files", nil))("environs", ""))
}

// What the host does not have cannot be imported: a module that asks for it is not opened.
func TestNothingElseIsImported(t *testing.T) {
	text, err := os.ReadFile(fixture.WasmC(t, "wasm_files"))
	require.NoError(t, err)
	for _, other := range []string{"path_execute", "proc_spawned", "sock_connect"} { // as long as path_symlink, which it imports
		path := filepath.Join(t.TempDir(), "other.wasm")
		changed := bytes.ReplaceAll(text, []byte("\x0cpath_symlink"), []byte("\x0c"+other))
		require.NotEqual(t, text, changed)
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		_, err := loader.Open(path, loader.WithEngine(wasm.Engine()))
		assert.ErrorContains(t, err, `"`+other+`" is not exported`)
	}
}

// Nothing leads out of a folder that a module sees: no path, no link that is there, and none that it makes; and one that it may only read stays as it is.
func TestFolders(t *testing.T) {
	for _, c := range []struct {
		name  string
		write bool
	}{{"read", false}, {"write", true}} {
		t.Run(c.name, func(t *testing.T) {
			in, out := folders(t)
			do := asker(open(t, "wasm_files", []wasm.Option{wasm.WithFolder("/data", in, c.write)}))
			assert.Equal(t, "seen", do("reads", "/data/a"))
			assert.Equal(t, "within", do("reads", "/data/sub/b"))
			assert.Equal(t, "within", do("reads", "/data/within"), "a link that stays within")
			assert.Equal(t, "within", do("reads", "/data/sub/../sub/./b"))
			names := strings.Split(strings.TrimSpace(do("lists", "/data")), "\n")
			slices.Sort(names)
			assert.Equal(t, []string{"a 4", "absolute -1", "around -1", "relative -1", "sub -1", "within -1"}, names)
			for _, path := range []string{"/data/absolute", "/data/relative", "/data/around/secret", "/data/../out/secret", "/data/sub/../../out/secret", out + "/secret", "/etc/passwd"} {
				for _, what := range []string{do("reads", path), do("does", "stat "+path)} {
					assert.True(t, strings.HasPrefix(what, "!"), "%s: %s", path, what)
					assert.NotContains(t, what, "secret.")
				}
			}
			changes := []struct{ name, in string }{{"writes", "/data/new words"}, {"appends", "/data/new more"}, {"does", "mkdir /data/dir"}, {"does", "rename /data/new /data/dir/new"},
				{"does", "link /data/dir/new /data/dir/hard"}, {"does", "symlink ../a /data/sub/up"}, {"does", "symlink sub/b /data/soft"}, {"does", "truncate /data/dir/new 5"},
				{"does", "times /data/dir/new"}, {"does", "unlink /data/dir/hard"}}
			for _, change := range changes {
				got := do(change.name, change.in)
				if allowed := c.write && !strings.HasPrefix(change.in, "symlink"); allowed {
					assert.Empty(t, got, change.in)
				} else {
					assert.True(t, strings.HasPrefix(got, "!"), "%s: %q", change.in, got)
				}
			}
			if !c.write {
				entries, err := os.ReadDir(in)
				require.NoError(t, err)
				assert.Len(t, entries, 6)
				text, err := os.ReadFile(in + "/a")
				require.NoError(t, err)
				assert.Equal(t, "seen", string(text))
				for _, change := range []string{"unlink /data/a", "truncate /data/a 1", "times /data/a", "rename /data/a /data/b"} {
					assert.Contains(t, do("does", change), "!", change)
				}
				assert.Contains(t, do("writes", "/data/a x"), "Read-only file system")
				return
			}
			assert.Equal(t, "words", do("reads", "/data/dir/new"))
			assert.Equal(t, "sub/b", do("does", "readlink /data/within"))
			assert.Contains(t, do("does", "symlink . /data/here"), "!", "a way through it leads out")
			assert.Contains(t, do("does", "rename /data/within /data/sub/within"), "!", "a link may lead out from there")
			info, err := os.Stat(in + "/dir/new")
			require.NoError(t, err)
			assert.Equal(t, time.Unix(2, 0), info.ModTime())
			assert.Contains(t, do("does", "rmdir /data/dir"), "not empty")
			assert.Empty(t, do("does", "unlink /data/dir/new"))
			assert.Contains(t, do("does", "unlink /data/dir"), "!")
			assert.Contains(t, do("does", "rmdir /data/a"), "!")
			assert.Empty(t, do("does", "rmdir /data/dir"))
			for _, change := range []struct{ name, in string }{{"does", "symlink " + out + "/secret /data/made"}, {"does", "symlink ../out /data/made"}, {"does", "symlink sub/../../out /data/made"},
				{"does", "link /data/absolute /data/made/x"}, {"does", "rename /data/a /data/around/a"}, {"does", "unlink /data/around/secret"}, {"does", "mkdir /data/around/dir"},
				{"writes", "/data/around/new x"}, {"writes", "/data/absolute x"}, {"does", "truncate /data/relative 0"}, {"does", "times /data/relative"}} {
				got := do(change.name, change.in)
				assert.True(t, strings.HasPrefix(got, "!"), "%s: %q", change.in, got)
			}
			entries, err := os.ReadDir(out)
			require.NoError(t, err)
			assert.Len(t, entries, 1)
			text, err := os.ReadFile(out + "/secret")
			require.NoError(t, err)
			assert.Equal(t, "secret", string(text))
		})
	}
}

// A link that somebody puts there while the module runs leads out of it no more than one that was there.
func TestFolderLinkedLater(t *testing.T) {
	in, out := folders(t)
	do := asker(open(t, "wasm_files", []wasm.Option{wasm.WithFolder("/data", in, true)}))
	require.Equal(t, "within", do("reads", "/data/sub/b"))
	require.NoError(t, os.Rename(in+"/sub", in+"/was"))
	require.NoError(t, os.Symlink(out, in+"/sub"))
	assert.Contains(t, do("reads", "/data/sub/secret"), "!")
	assert.Contains(t, do("writes", "/data/sub/secret x"), "!")
	assert.Equal(t, "within", do("reads", "/data/was/b"))
}

// Several instances append to one file at the same time, and nothing is lost.
func TestFolderAppended(t *testing.T) {
	in, _ := folders(t)
	p := open(t, "wasm_files", []wasm.Option{wasm.WithFolder("/data", in, true)}, loader.WithInstances(4))
	done := make(chan error)
	for range 4 {
		go func() {
			for range 50 {
				if _, err := p.Call(ctx, "appends", []byte("/data/log 0123456789")); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	text, err := os.ReadFile(in + "/log")
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("0123456789", 200), string(text))
}

// What one plug-in is permitted it sees where it is, and nothing else: of the folder of a file no other file.
func TestPermits(t *testing.T) {
	in, out := folders(t)
	base := wasm.Engine()
	with := func(p engine.Permits) func(name, in string) string {
		t.Helper()
		e, err := base.(engine.Permitting).With(p)
		require.NoError(t, err)
		plugin, err := loader.Open(fixture.WasmC(t, "wasm_files"), loader.WithEngine(e))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, plugin.Close()) })
		return asker(plugin)
	}
	linked := filepath.Join(out, "linked")
	require.NoError(t, os.Symlink(in+"/sub/b", linked))
	guest := filepath.ToSlash
	do := with(engine.Permits{Read: []string{in + "/a", linked}, Write: []string{in + "/sub"}})
	assert.Equal(t, "seen", do("reads", guest(in)+"/a"))
	assert.Equal(t, "a 4\n", do("lists", guest(in)), "the folder of a file has that alone")
	assert.Equal(t, "within", do("reads", guest(linked)), "of a link that was permitted, what it led to then")
	assert.Contains(t, do("reads", guest(out)+"/secret"), "No such file")
	assert.Contains(t, do("reads", guest(in)+"/within"), "No such file")
	assert.Contains(t, do("writes", guest(in)+"/a x"), "Read-only file system")
	assert.Contains(t, do("writes", guest(in)+"/new x"), "!")
	assert.Empty(t, do("writes", guest(in)+"/sub/new x"))
	assert.FileExists(t, in+"/sub/new")

	do = with(engine.Permits{Write: []string{in + "/a"}})
	assert.Empty(t, do("writes", guest(in)+"/a other"))
	assert.Equal(t, "other", do("reads", guest(in)+"/a"))
	for _, change := range []string{"unlink %/a", "rename %/a %/b", "symlink sub %/a", "link %/a %/b"} {
		assert.Contains(t, do("does", strings.ReplaceAll(change, "%", guest(in))), "!", "the file stays where it is")
	}
	require.NoError(t, os.Remove(in+"/a"))
	require.NoError(t, os.Symlink("sub/b", in+"/a"))
	assert.Contains(t, do("reads", guest(in)+"/a"), "!", "a link in the place of a file that was permitted")

	do = with(engine.Permits{})
	assert.Contains(t, do("reads", guest(in)+"/sub/b"), "!", "nothing was permitted")
	assert.Equal(t, "held", do("holds", "20000000"))
	do = with(engine.Permits{Memory: 4 << 20})
	assert.Equal(t, "held", do("holds", "1000000"))
	assert.Contains(t, do("holds", "20000000"), "no memory")
}

// What no module can have is an error with a type, before anything runs.
func TestPermitsRefused(t *testing.T) {
	for _, c := range []struct {
		permits engine.Permits
		says    string
	}{{engine.Permits{Connect: []uint16{443}}, "connect to (443)"}, {engine.Permits{Listen: []uint16{80}}, "listen on (80)"}, {engine.Permits{Memory: 1000}, "memory of 1000 bytes"}} {
		_, err := wasm.Engine().(engine.Permitting).With(c.permits)
		require.ErrorIs(t, err, loader.ErrOption)
		assert.ErrorContains(t, err, c.says)
	}
	in, out := folders(t)
	for name, opts := range map[string][]wasm.Option{"gone": {wasm.WithFolder("/data", in+"/gone", false)}, "twice": {wasm.WithFolder("/data", in, false), wasm.WithFolder("/data/", out, true)}} {
		_, err := loader.Open(fixture.WasmC(t, "wasm_files"), loader.WithEngine(wasm.Engine(opts...)))
		require.ErrorIs(t, err, loader.ErrOption, name)
		assert.ErrorContains(t, err, "a path that the module is to see", name)
	}
}

// A folder of the plug-in's own it can write to, at its path.
func TestDataFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modules have no drives")
	}
	data := t.TempDir()
	do := asker(open(t, "wasm_files", nil, loader.WithDataFolder(data)))
	assert.Empty(t, do("writes", data+"/x kept"))
	text, err := os.ReadFile(filepath.Join(data, "x"))
	require.NoError(t, err)
	assert.Equal(t, "kept", string(text))
}
