package loader_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// The file that was opened is the file: what was read from it is what runs, whatever is at the path later.

// versioned writes the fixture version, or one that includes it, to path as another version of it.
func versioned(t testing.TB, name, path, version string) string {
	t.Helper()
	data, err := os.ReadFile(fixture.C(t, name))
	require.NoError(t, err)
	require.Len(t, version, len("1.0.0"))
	require.GreaterOrEqual(t, bytes.Count(data, []byte("1.0.0")), 2, "in the manifest and in the code")
	require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(data, []byte("1.0.0"), []byte(version)), 0o755))
	return path
}

func digestOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// assertRuns checks that a plug-in says in its description and in its code that it is this version.
func assertRuns(t testing.TB, p *loader.Plugin, version string) {
	t.Helper()
	assert.Equal(t, version, p.Version())
	assert.Equal(t, "code of "+version, call(t, p, "version", ""))
}

// happenings are what may come to a file after it was opened. None of them is seen by what runs from a copy.
var happenings = map[string]func(t *testing.T, path string){
	"nothing": func(*testing.T, string) {},
	"another version is renamed over it": func(t *testing.T, path string) {
		require.NoError(t, os.Rename(versioned(t, "version", path+".new", "2.0.0"), path))
	},
	"another library is renamed over it": func(t *testing.T, path string) {
		require.NoError(t, os.Rename(copyTo(t, fixture.C(t, "echo"), path+".new"), path))
	},
	"it is removed": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
	"it is overwritten in place": func(t *testing.T, path string) {
		versioned(t, "version", path, "2.0.0")
	},
	"it is overwritten in place, and its time set back": func(t *testing.T, path string) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		versioned(t, "version", path, "2.0.0")
		require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	},
	"it is cut short": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
	"its folder is moved away": func(t *testing.T, path string) {
		require.NoError(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".away"))
	},
}

// Every worker runs the bytes that Open saw, the first one and those that are started later; so does what is opened with a
// private copy in this process.
func TestFileChangesAfterOpen(t *testing.T) {
	needReplaceable(t)
	for name, happen := range happenings {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, w way) {
				for kind, options := range map[string]func(path string) []loader.Option{
					"with a digest":       func(path string) []loader.Option { return []loader.Option{loader.WithSHA256(digestOf(t, path))} },
					"with a private copy": func(string) []loader.Option { return []loader.Option{loader.WithPrivateCopy()} },
					"plain":               func(string) []loader.Option { return nil },
				} {
					if kind == "plain" && !w.isolated {
						continue // it is the file itself that runs
					}
					t.Run(kind, func(t *testing.T) {
						dir := filepath.Join(tempDir(t), "folder")
						require.NoError(t, os.Mkdir(dir, 0o755))
						path := versioned(t, "version", filepath.Join(dir, "plugin"+fixture.Ext()), "1.0.0")
						p := w.open(t, path, options(path)...)
						happen(t, path)
						assertRuns(t, p, "1.0.0")
						if !w.isolated {
							return
						}
						for range 2 {
							_, err := p.Call(ctx, "crash", nil)
							var crash *loader.CrashError
							require.ErrorAs(t, err, &crash)
							assertRuns(t, p, "1.0.0") // in the next worker
						}
					})
				}
			})
		})
	}
}

// A file that is opened again after it changed is what it is by then, with its own code and its own description.
func TestFileOpenedAgain(t *testing.T) {
	needReplaceable(t)
	bothWays(t, func(t *testing.T, w way) {
		for name, replace := range map[string]func(path string){
			"renamed over": func(path string) {
				require.NoError(t, os.Rename(versioned(t, "version", path+".new", "2.0.0"), path))
			},
			"removed and written": func(path string) {
				require.NoError(t, os.Remove(path))
				versioned(t, "version", path, "2.0.0")
			},
		} {
			for kind, options := range map[string][]loader.Option{"plain": nil, "private copy": {loader.WithPrivateCopy()},
				"unloaded": {loader.WithUnload()}, "private copy, unloaded": {loader.WithPrivateCopy(), loader.WithUnload()}} {
				t.Run(name+", "+kind, func(t *testing.T) {
					path := versioned(t, "version", filepath.Join(tempDir(t), "plugin"+fixture.Ext()), "1.0.0")
					first := w.open(t, path, options...)
					closed, err := w.try(path, options...)
					require.NoError(t, err)
					require.NoError(t, closed.Close())
					replace(path)
					second := w.open(t, path, options...)
					assertRuns(t, second, "2.0.0")
					assertRuns(t, w.open(t, path), "2.0.0")
					assertRuns(t, first, "1.0.0")
				})
			}
		}
	})
}

// WithUnload of a library that the system does not unload: the system hands its code out again for its path, which must not
// run under the description of the file that is there by then. In-process: a worker loads one library.
func TestUnloadOfWhatTheSystemKeeps(t *testing.T) {
	needReplaceable(t)
	for _, name := range []string{"version", "version_nodelete"} {
		t.Run(name, func(t *testing.T) {
			path := versioned(t, name, filepath.Join(tempDir(t), "plugin"+fixture.Ext()), "1.0.0")
			for _, version := range []string{"1.0.0", "2.0.0", "2.0.0", "3.0.0", "1.0.0"} {
				if version != "1.0.0" || digestOf(t, path) != digestOf(t, fixture.C(t, name)) {
					require.NoError(t, os.Rename(versioned(t, name, path+".new", version), path))
				}
				p, err := loader.Open(path, loader.WithUnload())
				require.NoError(t, err)
				assertRuns(t, p, version)
				require.NoError(t, p.Close())
			}
			other := filepath.Join(filepath.Dir(path), "other"+fixture.Ext())
			require.NoError(t, os.Link(path, other)) // the same file, by another path
			assertRuns(t, open(t, other), "1.0.0")
			assertRuns(t, open(t, path), "1.0.0")
		})
	}
}

// A library that calls itself by another's path: the system would hand it out for that. In-process: a worker loads one.
func TestNamedAsAnotherFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the libraries of other systems have no DT_SONAME")
	}
	fixture.Loadable(t)
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	dir := tempDir(t)
	victim := versioned(t, "version", filepath.Join(dir, "victim.so"), "1.0.0")
	impostor := filepath.Join(dir, "impostor.so")
	run(t, cc, "-shared", "-fPIC", "-I", filepath.Join(fixture.Root(), "include"), "-DVERSION_OF_ANOTHER", "-Wl,-soname,"+victim,
		"-o", impostor, filepath.Join(fixture.Root(), "internal", "fixture", "c", "version.c"))
	data, err := os.ReadFile(impostor)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(impostor, bytes.ReplaceAll(data, []byte("1.0.0"), []byte("6.6.6")), 0o755))
	assertRuns(t, open(t, impostor), "6.6.6")
	assertRuns(t, open(t, victim), "1.0.0")
}

// Whatever comes and goes at the path while it is opened, each Open is over in time, and what it opens is whole.
func TestFileRaces(t *testing.T) {
	needReplaceable(t)
	bothWays(t, func(t *testing.T, w way) {
		dir := tempDir(t)
		one, two := versioned(t, "version", filepath.Join(dir, "one"), "1.0.0"), versioned(t, "version", filepath.Join(dir, "two"), "2.0.0")
		for kind, opts := range map[string][]loader.Option{"plain": nil, "unloaded": {loader.WithUnload()}, "private copy": {loader.WithPrivateCopy()},
			"digest": {loader.WithSHA256(digestOf(t, one))}} {
			t.Run(kind, func(t *testing.T) {
				path := filepath.Join(tempDir(t), "plugin"+fixture.Ext())
				become := []func(string){
					func(next string) { copyTo(t, one, next) },
					func(next string) { copyTo(t, two, next) },
					func(next string) { assert.NoError(t, os.Mkdir(next, 0o755)) },
					// The system's loader opens the path of a library in this process by itself, and waits at a fifo.
					func(next string) { assert.NoError(t, makeFifo(next)) },
				}
				if !w.isolated && (kind == "plain" || kind == "unloaded") {
					become = become[:3]
				}
				done := make(chan struct{})
				var changes sync.WaitGroup
				changes.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						default:
						}
						next := path + fmt.Sprint(i)
						become[i%len(become)](next)
						_ = os.Remove(path) // a folder is not renamed over
						assert.NoError(t, os.Rename(next, path))
					}
				})
				defer changes.Wait()
				defer close(done)
				opened := 0
				for range w.rounds(300, 20) {
					within(t, func() {
						p, err := w.try(path, opts...)
						if err != nil {
							var e *loader.OpenError
							assert.ErrorAs(t, err, &e)
							assert.NotEmpty(t, e.Remedy, err)
							return
						}
						opened++
						assert.Equal(t, "code of "+p.Version(), call(t, p, "version", ""))
						if kind == "digest" {
							assert.Equal(t, "1.0.0", p.Version())
						}
						assert.NoError(t, p.Close())
					})
				}
				t.Log(opened, "opened")
			})
		}
	})
}

// A fifo, a folder, nothing: what is at the path is said by Open as Inspect says it, and nobody waits for a writer.
func TestOpenSaysWhatInspectSays(t *testing.T) {
	dir := tempDir(t)
	paths := map[string]string{"folder": dir, "missing": filepath.Join(dir, "missing"), "empty": filepath.Join(dir, "empty"),
		"NUL": dir + "/a\x00b", "through a file": fixture.C(t, "echo") + "/x"}
	require.NoError(t, os.WriteFile(paths["empty"], nil, 0o644))
	if runtime.GOOS != "windows" {
		paths["fifo"] = filepath.Join(dir, "fifo")
		require.NoError(t, makeFifo(paths["fifo"]))
		paths["device"] = os.DevNull
	}
	bothWays(t, func(t *testing.T, w way) {
		for name, path := range paths {
			_, expected := loader.Inspect(path)
			require.Error(t, expected, name)
			for _, opts := range [][]loader.Option{nil, {loader.WithPrivateCopy()}, {loader.WithSHA256(strings.Repeat("00", 32))}} {
				within(t, func() {
					_, err := w.try(path, opts...)
					assert.EqualError(t, err, expected.Error(), name)
				})
			}
		}
	})
}

// Opens of one file at the same time share what is made for it, and leave nothing open.
func TestOpenManyAtOnce(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is open is read from /proc, which only Linux has")
	}
	bothWays(t, func(t *testing.T, w way) {
		path := versioned(t, "version", filepath.Join(tempDir(t), "many.so"), "1.0.0")
		for kind, opts := range map[string][]loader.Option{"plain": nil, "private copy": {loader.WithPrivateCopy()},
			"digest": {loader.WithSHA256(digestOf(t, path))}, "unloaded": {loader.WithPrivateCopy(), loader.WithUnload()}} {
			t.Run(kind, func(t *testing.T) {
				warm := w.open(t, versioned(t, "version", filepath.Join(tempDir(t), "warm.so"), "0.0.0"))
				assertRuns(t, warm, "0.0.0")
				before := openFiles(t)
				plugins := make([]*loader.Plugin, w.rounds(100, 15))
				var all sync.WaitGroup
				for i := range plugins {
					all.Go(func() {
						p, err := w.try(path, opts...)
						if assert.NoError(t, err) {
							plugins[i] = p
						}
					})
				}
				all.Wait()
				copies := map[string]bool{}
				for _, file := range openFiles(t) {
					if strings.Contains(file, "memfd:many.so") {
						copies[file] = true
					}
				}
				if w.isolated {
					assert.Len(t, copies, 1, "one copy for all")
				} else {
					assert.Empty(t, copies)
				}
				for _, p := range plugins {
					if p != nil {
						assertRuns(t, p, "1.0.0")
						assert.NoError(t, p.Close())
					}
				}
				assert.Eventually(t, func() bool { return len(openFiles(t)) <= len(before) }, time.Minute, time.Millisecond,
					"%v before, %v after", before, openFiles(t))
			})
		}
		t.Run("failures", func(t *testing.T) {
			before := openFiles(t)
			for _, name := range []string{"undefined_symbol", "no_manifest", "start_fails", "import_not_offered"} {
				for _, opts := range [][]loader.Option{nil, {loader.WithPrivateCopy()}, {loader.WithSHA256(strings.Repeat("00", 32))}} {
					_, err := w.try(fixture.C(t, name), opts...)
					assert.Error(t, err)
				}
			}
			assert.Eventually(t, func() bool { return len(openFiles(t)) <= len(before) }, time.Minute, time.Millisecond,
				"%v before, %v after", before, openFiles(t))
		})
	})
}

// openFiles returns what this process's descriptors are.
func openFiles(t testing.TB) (files []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files = append(files, to)
		}
	}
	return files
}

// run runs a program that must not fail.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// assertNoWorker checks that no worker of a plug-in with this name is left.
func assertNoWorker(t testing.TB, name string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return // processes are listed in /proc, which only Linux has
	}
	own := fmt.Sprintf("PPid:\t%d\n", os.Getpid())
	assert.Eventually(t, func() bool {
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		require.NoError(t, err)
		for _, p := range processes {
			line, _ := os.ReadFile(p)
			status, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "status"))
			if strings.HasPrefix(string(line), "ferrule-worker: "+name+"\x00") && strings.Contains(string(status), own) {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond, "a worker of %s", name)
}

// gate is a plug-in whose constructor waits, and ferrule_start too, with a configuration.
type gate struct {
	t    testing.TB
	path string
}

func newGate(t testing.TB) gate {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("the fixture finds its own path by dladdr")
	}
	g := gate{t, tempLibrary(t, fixture.C(t, "constructor_waits"))}
	t.Cleanup(func() { g.let("go"); g.let("started") })
	return g
}

// let makes the file that the library waits for.
func (g gate) let(what string) { _ = os.WriteFile(g.path+"."+what, nil, 0o644) }

// reached waits until the library has made a file.
func (g gate) reached(what string) {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		_, err := os.Stat(g.path + "." + what)
		return err == nil
	}, time.Minute, time.Millisecond, what)
}

// While a constructor runs, everything goes on but what the system's loader itself holds up: nothing of that is under a lock
// of this package.
func TestSlowConstructorHoldsUpNothing(t *testing.T) {
	g := newGate(t)
	loaded := tempLibrary(t, fixture.C(t, "echo"))
	p := open(t, loaded)
	toClose, err := loader.Open(tempLibrary(t, fixture.C(t, "state")))
	require.NoError(t, err)
	isolatedOne := isolated.open(t, loaded)
	slow := make(chan error, 1)
	go func() {
		p, err := loader.Open(g.path)
		if err == nil {
			err = p.Close()
		}
		slow <- err
	}()
	g.reached("begun")
	within(t, func() {
		assert.Equal(t, "x", call(t, p, "echo", "x"))
		_, err := loader.Inspect(g.path)
		assert.NoError(t, err)
		again, err := loader.Open(loaded)
		assert.NoError(t, err)
		assert.Equal(t, "y", call(t, again, "echo", "y"))
		assert.NoError(t, again.Close())
		assert.NoError(t, toClose.Close())
		_, err = loader.Open(loaded, loader.WithSHA256(strings.Repeat("00", 32)))
		assert.ErrorIs(t, err, loader.ErrDigest)
		_, err = loader.Open(fixture.C(t, "no_manifest"))
		assert.ErrorIs(t, err, loader.ErrNoContract)
		another, err := isolated.try(loaded)
		assert.NoError(t, err)
		assert.Equal(t, "z", call(t, another, "echo", "z"))
		assert.NoError(t, another.Close())
		assert.Equal(t, "z", call(t, isolatedOne, "echo", "z"))

		// What waits for the system's loader, or for this very library, can be given up.
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		for _, path := range []string{g.path, tempLibrary(t, fixture.C(t, "rounds"))} {
			_, err = loader.OpenContext(short, path, loader.WithHostFunc("host", echo))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
	assert.Empty(t, slow, "its constructor still waits")
	g.let("go")
	within(t, func() { assert.NoError(t, <-slow) })
}

// Two Opens of one file at a time load it once; the second one waits for the first, and can give up.
func TestOpensShareALoad(t *testing.T) {
	g := newGate(t)
	plugins := make(chan *loader.Plugin, 4)
	for range cap(plugins) {
		go func() {
			p, err := loader.Open(g.path)
			assert.NoError(t, err)
			plugins <- p
		}()
	}
	g.reached("begun")
	why := errors.New("the test's own")
	short, cancel := context.WithCancelCause(ctx)
	time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
	within(t, func() {
		_, err := loader.OpenContext(short, g.path)
		assert.ErrorIs(t, err, why)
		assert.ErrorIs(t, err, loader.ErrStart)
	})
	require.NoError(t, os.Remove(g.path+".begun"))
	g.let("go")
	for range cap(plugins) {
		within(t, func() {
			p := <-plugins
			_, err := p.Call(ctx, "works", nil)
			assert.NoError(t, err)
			assert.NoError(t, p.Close())
		})
	}
	assert.NoFileExists(t, g.path+".begun", "its constructor ran once")
}

// OpenContext gives up in time, in whatever the library is, and cleans up after itself.
func TestOpenContextGivesUp(t *testing.T) {
	assertGaveUp := func(t *testing.T, err, cause error) {
		t.Helper()
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.NotEmpty(t, e.Path)
		assert.NotEmpty(t, e.Remedy)
		assert.ErrorContains(t, err, cause.Error())
		t.Log(err)
	}
	bothWays(t, func(t *testing.T, w way) {
		t.Run("before it begins", func(t *testing.T) {
			over, cancel := context.WithCancel(ctx)
			cancel()
			_, err := w.openContext(over, fixture.C(t, "echo"))
			assertGaveUp(t, err, context.Canceled)
		})
		t.Run("nil", func(t *testing.T) {
			//lint:ignore SA1012 it is what is tested
			_, err := w.openContext(nil, fixture.C(t, "echo"))
			assert.ErrorIs(t, err, loader.ErrOption)
		})
		t.Run("in time", func(t *testing.T) {
			long, cancel := context.WithTimeout(ctx, time.Hour)
			p, err := w.openContext(long, fixture.C(t, "echo"))
			require.NoError(t, err)
			cancel()
			assert.Equal(t, "goes on", call(t, p, "echo", "goes on"), "the plug-in is not bound to it")
			require.NoError(t, p.Close())
		})
	})
	t.Run("in-process/constructor", func(t *testing.T) {
		g := newGate(t)
		short, cancel := context.WithCancel(ctx)
		go func() { g.reached("begun"); cancel() }()
		within(t, func() {
			_, err := loader.OpenContext(short, g.path)
			assertGaveUp(t, err, context.Canceled)
		})
		g.let("go")
		p := open(t, g.path) // the library is loaded by then, or waited for
		_, err := p.Call(ctx, "works", nil)
		assert.NoError(t, err)
		assert.NoFileExists(t, g.path+".start", "what was given up is not started")
	})
	t.Run("in-process/ferrule_start", func(t *testing.T) {
		g := newGate(t)
		g.let("go")
		short, cancel := context.WithCancel(ctx)
		go func() { g.reached("start"); cancel() }()
		within(t, func() {
			_, err := loader.OpenContext(short, g.path, loader.WithConfig([]byte("wait")))
			assertGaveUp(t, err, context.Canceled)
		})
		assert.NoFileExists(t, g.path+".stopped")
		g.let("started")
		g.reached("stopped")
	})
	for name, config := range map[string]string{"fault_constructor_hang": "", "fault_start": "hang"} {
		t.Run("isolated/"+name, func(t *testing.T) {
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			within(t, func() {
				_, err := isolated.openContext(short, fixture.C(t, name), loader.WithConfig([]byte(config)))
				assertGaveUp(t, err, context.DeadlineExceeded)
			})
			assertNoWorker(t, name)
		})
	}
}

// A library that is beside the plug-in's file is found though a copy of that lies elsewhere, and also when the copy is loaded
// later, by another worker.
func TestCopyFindsWhatItBrings(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("$ORIGIN is for ELF")
	}
	fixture.NotMusl(t, "a library is known by its file's name only")
	fixture.Loadable(t)
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	include := filepath.Join(fixture.Root(), "include")
	for name, c := range map[string]struct{ soName, path string }{
		"named in its file":     {"-Wl,-soname,libbeside.so", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"},
		"not named in its file": {"-Wl,--build-id", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"},
		"by DT_RPATH":           {"-Wl,--build-id", "-Wl,--disable-new-dtags,-rpath,${ORIGIN}/lib"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			source := filepath.Join(dir, "source")
			require.NoError(t, os.Mkdir(filepath.Join(dir, "lib"), 0o755))
			require.NoError(t, os.WriteFile(source+"_deep.c", []byte("int deep(void) { return 40; }"), 0o644))
			require.NoError(t, os.WriteFile(source+"_beside.c", []byte("int deep(void); int beside(void) { return deep() + 2; }"), 0o644))
			require.NoError(t, os.WriteFile(source+".c", []byte(`#include <stdlib.h>
#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("brings") FERRULE_VERSION("1.0.0"));
int beside(void);
FERRULE_FN(beside) { call->out[0] = (uint8_t)beside(); call->out_len = 1; return FERRULE_OK; }
FERRULE_FN(crash) { (void)call; abort(); }
`), 0o644))
			lib := filepath.Join(dir, "lib")
			run(t, cc, "-shared", "-fPIC", "-o", lib+"/libdeep.so", source+"_deep.c")
			run(t, cc, "-shared", "-fPIC", c.soName, "-o", lib+"/libbeside.so", source+"_beside.c", "-L"+lib, "-ldeep", "-Wl,-rpath,$ORIGIN")
			path := filepath.Join(dir, "plugin.so")
			run(t, cc, "-shared", "-fPIC", "-I", include, "-o", path, source+".c", "-L"+lib, "-lbeside", c.path)
			bothWays(t, func(t *testing.T, w way) {
				for _, opts := range [][]loader.Option{nil, {loader.WithPrivateCopy()}, {loader.WithSHA256(digestOf(t, path))}} {
					p := w.open(t, path, opts...)
					assert.Equal(t, "*", call(t, p, "beside", ""))
					if w.isolated {
						_, err := p.Call(ctx, "crash", nil)
						assert.ErrorIs(t, err, loader.ErrCrash)
						assert.Equal(t, "*", call(t, p, "beside", ""))
					}
				}
			})
		})
	}
}

// builds builds libraries from C, each with its compiler's arguments, in a folder of their own: name.so from source, the
// plug-in last. It returns the folder.
func builds(t *testing.T, libraries ...[]string) (dir string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("$ORIGIN is for ELF")
	}
	fixture.NotMusl(t, "a library is known by its file's name only")
	fixture.Loadable(t)
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	dir = tempDir(t)
	for _, l := range libraries {
		out, source := filepath.Join(dir, l[0]+".so"), filepath.Join(dir, l[0]+".c")
		require.NoError(t, os.MkdirAll(filepath.Dir(out), 0o755))
		require.NoError(t, os.WriteFile(source, []byte(l[1]), 0o644))
		run(t, cc, append([]string{"-shared", "-fPIC", "-I", filepath.Join(fixture.Root(), "include"), "-o", out, source, "-L" + dir}, l[2:]...)...)
		require.NoError(t, os.Remove(source))
	}
	return dir
}

// A library that is beside the plug-in's file may use what the plug-in defines: its copy runs as the file does. What nothing
// defines is named.
func TestCopyThatOthersNeed(t *testing.T) {
	const plugin = `#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("brings") FERRULE_VERSION("1.0.0"));
int beside(void), own(void);
int own(void) { return 40; }
FERRULE_FN(beside) { call->out[0] = (uint8_t)beside(); call->out_len = 1; return FERRULE_OK; }
FERRULE_FN(crash) { (void)call; *(volatile int *)8 = 1; return FERRULE_OK; }
`
	for name, soName := range map[string]func(string) string{"named in its file": func(name string) string { return "-Wl,-soname," + name + ".so" },
		"not named in its file": func(string) string { return "-Wl,--build-id" }} {
		t.Run(name, func(t *testing.T) {
			dir := builds(t,
				[]string{"libdeep", "int own(void), deep(void); int deep(void) { return own() + 1; }", soName("libdeep")},
				[]string{"libbeside", "int own(void), deep(void), beside(void); int beside(void) { return own() + deep() - 39; }", soName("libbeside"), "-ldeep", "-Wl,-rpath,$ORIGIN"},
				[]string{"plugin", plugin, "-lbeside", "-Wl,-rpath,$ORIGIN"})
			path := filepath.Join(dir, "plugin.so")
			sandboxed := isolate.InWorker(isolate.WithEnv(workerEnv...), sandbox.With(sandbox.Policy{BestEffort: true}))
			for i, opts := range [][]loader.Option{ // the file last: what it brings along stays, and others would find it loaded
				{loader.WithPrivateCopy(), loader.WithUnload()}, {loader.WithPrivateCopy(), loader.WithUnload()},
				isolated.options(nil), {sandboxed}, nil,
			} {
				p, err := loader.Open(path, opts...)
				if assert.NoError(t, err, i) {
					assert.Equal(t, "*", call(t, p, "beside", ""), i)
					if i == 2 && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") && os.Getenv(fixture.Emulated) == "" {
						_, err := p.Call(ctx, "crash", nil)
						assert.ErrorContains(t, err, "ferrule_fn_crash", "where it was, although it was loaded together with the others")
					}
					assert.NoError(t, p.Close(), i)
				}
			}
		})
	}
	dir := builds(t,
		[]string{"liblacks", "int nowhere(void), own(void), beside(void); int beside(void) { return own() + nowhere(); }", "-Wl,-soname,liblacks.so"},
		[]string{"plugin", plugin, "-llacks", "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"})
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.try(filepath.Join(dir, "plugin.so"), loader.WithPrivateCopy())
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrLoad)
		assert.Equal(t, "nowhere", e.Symbol)
		assert.NotContains(t, err.Error(), "/proc/")
	})
}

// Where LD_LIBRARY_PATH and the plug-in's search path lead to different files, a copy gets the one that the file gets:
// LD_LIBRARY_PATH comes before DT_RUNPATH, and after DT_RPATH. It is the one of the process that loads it.
func TestCopyAndLibraryPath(t *testing.T) {
	const plugin = `#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("brings") FERRULE_VERSION("1.0.0"));
const char *beside(void);
FERRULE_FN(beside) { const char *s = beside(); while (*s) call->out[call->out_len++] = (uint8_t)*s++; return FERRULE_OK; }
`
	beside := func(whose string) string {
		return "const char *beside(void); const char *beside(void) { return \"" + whose + "\"; }"
	}
	for tags, before := range map[string]string{"-Wl,--enable-new-dtags": "other", "-Wl,--disable-new-dtags": "own"} {
		dir := builds(t,
			[]string{"libbeside", beside("own"), "-Wl,-soname,libbeside.so"},
			[]string{"other/libbeside", beside("other"), "-Wl,-soname,libbeside.so"},
			[]string{"foreign/libnothing", "int x;"},
			[]string{"plugin", plugin, "-lbeside", tags, "-Wl,-rpath,$ORIGIN"})
		require.NoError(t, os.Mkdir(filepath.Join(dir, "foreign", "libbeside.so"), 0o755))
		program, err := os.Executable()
		require.NoError(t, err)
		up, err := filepath.Rel(filepath.Dir(program), dir)
		require.NoError(t, err)
		for folders, whose := range map[string]string{
			"":                               "own",
			filepath.Join(dir, "other"):      before,
			"/nowhere:" + dir + "/other":     before,
			"$ORIGIN/" + up + "/other":       before, // the program's folder, not the plug-in's
			"$ORIGIN/other":                  "own",
			filepath.Join(dir, "foreign"):    "own",
			dir + "/plugin.so:" + dir + "/x": "own",
		} {
			p, err := loader.Open(filepath.Join(dir, "plugin.so"),
				isolate.InWorker(isolate.WithEnv(append(workerEnv[:len(workerEnv):len(workerEnv)], "LD_LIBRARY_PATH="+folders)...)))
			require.NoError(t, err)
			assert.Equal(t, whose, call(t, p, "beside", ""), "%s %s", tags, folders)
			require.NoError(t, p.Close())
		}
	}
}

// A library that names another by a path from its own folder, and not by a folder to look in, cannot run from a copy. The error
// says so, and not where the copy is.
func TestCopyWithoutFolder(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("$ORIGIN is for ELF")
	}
	fixture.NotMusl(t, "$ORIGIN is part of a name there")
	fixture.Loadable(t)
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	for _, origin := range []string{"$ORIGIN", "${ORIGIN}"} {
		dir := tempDir(t)
		beside, source, path := filepath.Join(dir, "libbeside.so"), filepath.Join(dir, "source.c"), filepath.Join(dir, "plugin.so")
		require.NoError(t, os.WriteFile(source, []byte("int beside(void) { return 42; }"), 0o644))
		run(t, cc, "-shared", "-fPIC", "-Wl,-soname,"+origin+"/libbeside.so", "-o", beside, source)
		require.NoError(t, os.WriteFile(source, []byte(`#include "ferrule.h"
FERRULE_PLUGIN(FERRULE_NAME("brings") FERRULE_VERSION("1.0.0"));
int beside(void);
FERRULE_FN(beside) { call->out[0] = (uint8_t)beside(); call->out_len = 1; return FERRULE_OK; }
`), 0o644))
		run(t, cc, "-shared", "-fPIC", "-I", filepath.Join(fixture.Root(), "include"), "-o", path, source, beside)
		assert.Equal(t, "*", call(t, open(t, path), "beside", ""), "where it lies it runs")
		bothWays(t, func(t *testing.T, w way) {
			_, err := w.try(path, loader.WithPrivateCopy())
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, loader.ErrLoad)
			assert.Contains(t, e.Found, origin+"/libbeside.so")
			assert.Contains(t, e.Expected, "private copy")
			assert.Contains(t, e.Remedy, "-rpath")
			assert.NotContains(t, err.Error(), "/proc/")
		})
	}
}

// A file with too much data for a copy is held open: what comes to its path does not matter, and that somebody writes into it
// is found out before another worker is started.
func TestFileTooLargeToCopy(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems load a library by its path, so that it is copied however large it is")
	}
	const large = 65 << 20
	for name, option := range map[string]isolate.Option{"plain": isolate.WithEnv(workerEnv...),
		"sandbox": sandbox.With(sandbox.Policy{BestEffort: true})} {
		t.Run(name, func(t *testing.T) {
			path := versioned(t, "version", filepath.Join(tempDir(t), "large.so"), "1.0.0")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, append(data, bytes.Repeat([]byte("x"), large)...), 0o755))
			p, err := loader.Open(path, isolate.InWorker(option))
			require.NoError(t, err)
			defer p.Close()
			for _, file := range openFiles(t) {
				assert.NotContains(t, file, "memfd:large.so")
			}
			require.NoError(t, os.Rename(path, path+".old"))
			versioned(t, "version", path, "2.0.0")
			for range 2 {
				assertRuns(t, p, "1.0.0")
				_, err = p.Call(ctx, "crash", nil)
				assert.ErrorIs(t, err, loader.ErrCrash)
			}
			require.NoError(t, os.WriteFile(path+".old", data, 0o755))
			_, err = p.Call(ctx, "version", nil)
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, loader.ErrDigest)
			assert.ErrorContains(t, err, "overwritten in place")
			assert.NotEmpty(t, e.Remedy)
		})
	}
}
