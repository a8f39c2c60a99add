package loader_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

func TestOpen(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		assert.Equal(t, "echo", p.Name())
		assert.Equal(t, "1.2.3", p.Version())
		assert.Equal(t, abi.Concurrent, p.Info().Manifest.Threads)
		assert.Equal(t, "blue", p.Info().Manifest.Keys.Get("x-colour"))
		assert.Equal(t, "hello", call(t, p, "echo", "hello"))
		p = w.open(t, copyTo(t, fixture.C(t, "echo"), filepath.Join(tempDir(t), "a plug-in (Größe 大)"+fixture.Ext())))
		assert.Equal(t, "hello", call(t, p, "echo", "hello"))
		if runtime.GOOS == "linux" { // whose file names are bytes
			p := w.open(t, copyTo(t, fixture.C(t, "echo"), filepath.Join(tempDir(t), "caf\xe9 \n\"\U0001F980.so")))
			assert.Equal(t, "hello", call(t, p, "echo", "hello"))
		}
	})
}

// In-process: nothing is opened.
func TestInspectRunsNothing(t *testing.T) {
	path := filepath.Join("inspect", "testdata")
	require.DirExists(t, path)
	lib, err := loader.Inspect(fixture.C(t, "echo"))
	require.NoError(t, err)
	assert.Equal(t, "echo", lib.Manifest.Name)
	var docs []string
	for _, f := range lib.Funcs {
		docs = append(docs, f.Name+":"+f.Doc)
	}
	assert.Contains(t, docs, "echo:Returns its input.")
	// undefined_symbol cannot be loaded at all, and is inspected all the same.
	lib, err = loader.Inspect(fixture.C(t, "undefined_symbol"))
	require.NoError(t, err)
	assert.Equal(t, "undefined_symbol", lib.Manifest.Name)
	// Whoever loads fault_constructor has crashed.
	lib, err = loader.Inspect(fixture.C(t, "fault_constructor"))
	require.NoError(t, err)
	assert.Equal(t, "fault_constructor", lib.Manifest.Name)
}

// Every fixture with a defect that Open finds: the kind of the error, and what its text must tell a reader.
func TestOpenDefects(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for name, want := range map[string]struct {
			kind error
			text string
		}{
			"no_manifest":              {loader.ErrNoContract, "FERRULE_PLUGIN"},
			"manifest_without_end":     {loader.ErrManifest, "R1"},
			"manifest_newer_major":     {loader.ErrMajor, "ferrule=2"},
			"manifest_without_name":    {loader.ErrManifest, "name"},
			"manifest_without_version": {loader.ErrManifest, "version"},
			"manifest_without_major":   {loader.ErrManifest, "ferrule=1"},
			"manifest_duplicate_name":  {loader.ErrManifest, `"name"`},
			"manifest_unknown_threads": {loader.ErrManifest, "parallel"},
			"manifest_not_utf8":        {loader.ErrManifest, "UTF-8"},
			"meta_without_end":         {loader.ErrManifest, "answer"},
			"function_name_too_long":   {loader.ErrName, "128"},
			"duplicate_symbol":         {loader.ErrDuplicate, "ferrule_fn_answer"},
			"import_not_offered":       {loader.ErrMissingImport, `loyalty_pionts, zzz`},
			"undefined_symbol":         {loader.ErrLoad, "ferrules_nobody_defines"},
			"start_fails":              {loader.ErrStart, "the configuration's own words"},
			"start_breaks_a_rule":      {loader.ErrStart, "R10"},
		} {
			t.Run(name, func(t *testing.T) {
				path := fixture.C(t, name)
				_, err := w.try(path, loader.WithConfig([]byte("the configuration's own words")),
					loader.WithHostFunc("loyalty_points", upper))
				var e *loader.OpenError
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, want.kind)
				assert.Equal(t, path, e.Path)
				if want.kind != loader.ErrStart { // whose cause says it
					assert.NotEmpty(t, e.Found)
					assert.NotEmpty(t, e.Expected)
				}
				assert.NotEmpty(t, e.Remedy)
				assert.ErrorContains(t, err, want.text)
				t.Log(err)
			})
		}
	})
}

func TestOpenStartError(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.try(fixture.C(t, "start_fails"), loader.WithConfig([]byte("no such table")))
		var call *loader.CallError
		require.ErrorAs(t, err, &call)
		assert.Equal(t, loader.CallError{Plugin: "start_fails", Func: "ferrule_start", Status: loader.ErrInvalid, Message: "no such table"}, *call)
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, ": could not be started: plug-in start_fails: ferrule_start: invalid input: no such table. "+
			"It was started with the configuration that Open was given (WithConfig): correct that where it is the reason")
		_, err = w.try(fixture.C(t, "start_fails"), loader.WithConfig([]byte("caf\xe9\xe9")))
		require.ErrorAs(t, err, &call)
		assert.Equal(t, "caf\uFFFD", call.Message)
		var contract *loader.ContractError
		_, err = w.try(fixture.C(t, "start_breaks_a_rule"))
		require.ErrorAs(t, err, &contract)
		assert.Equal(t, "R10", contract.Rule)
		assert.NotContains(t, err.Error(), "onfiguration", "which is not the reason")
		for _, none := range [][]loader.Option{nil, {loader.WithConfig(nil)}, {loader.WithConfig([]byte{})}} {
			_, err = w.try(fixture.C(t, "start_fails"), none...)
			assert.ErrorContains(t, err, "It was started without a configuration: give it one where it needs one (WithConfig)")
		}
	})
}

const goOnMusl = "a Go library cannot be loaded: its thread-local variables are for programs"

// Files that are no plug-in for this process, each of its own kind.
func TestOpenFiles(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		dir := tempDir(t)
		write := func(name string, data []byte) string {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, data, 0o644))
			return path
		}
		whole, err := os.ReadFile(fixture.C(t, "echo"))
		require.NoError(t, err)
		otherArch := "elf-arm64-gcc.so"
		if runtime.GOARCH == "arm64" {
			otherArch = "elf-amd64-gcc.so"
		}
		for name, c := range map[string]struct {
			path string
			kind error
			text string
		}{
			"missing":            {filepath.Join(dir, "missing.so"), fs.ErrNotExist, "missing.so"},
			"empty path":         {"", loader.ErrNotRegular, "empty path"},
			"path with a NUL":    {fixture.C(t, "echo") + "\x00.so", loader.ErrRead, "invalid argument"},
			"directory":          {dir, loader.ErrNotRegular, "directory"},
			"empty file":         {write("empty.so", nil), loader.ErrNotLibrary, "empty"},
			"text file":          {write("text.so", []byte("Dear Sir or Madam,\n")), loader.ErrNotLibrary, "text"},
			"truncated":          {write("truncated.so", whole[:len(whole)*2/5]), loader.ErrTruncated, ""},
			"other architecture": {filepath.Join("inspect", "testdata", otherArch), loader.ErrPlatform, runtime.GOARCH},
			"other system":       {filepath.Join("inspect", "testdata", map[bool]string{true: "elf-amd64-gcc.so", false: "pe-amd64-mingw.dll"}[runtime.GOOS == "windows"]), loader.ErrPlatform, runtime.GOOS},
			"Go c-shared":        {fixture.Go(t), loader.ErrGoRuntime, "go1."},
		} {
			t.Run(name, func(t *testing.T) {
				if w.isolated && c.kind == loader.ErrGoRuntime { // in a process of its own it may have one
					fixture.NotMusl(t, goOnMusl)
					assert.Equal(t, "works", call(t, w.open(t, c.path), "echo", "works"))
					return
				}
				_, err := w.try(c.path)
				var e *loader.OpenError
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, c.kind)
				assert.ErrorContains(t, err, c.text)
				assertSentence(t, e)
				t.Log(err)
			})
		}
	})
}

func TestOpenMissingImportNamesNearOne(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.try(fixture.C(t, "import_not_offered"), loader.WithHostFunc("loyalty_points", upper), loader.WithHostFunc("zzz", upper))
		assert.ErrorIs(t, err, loader.ErrMissingImport)
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assertSentence(t, e)
		assert.True(t, strings.HasSuffix(err.Error(), `; of what is offered: did you mean "loyalty_points"?`), err.Error())
	})
}

func TestOpenOptions(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for name, opt := range map[string]loader.Option{
			"host function without a name":        loader.WithHostFunc("", upper),
			"host function with a name from afar": loader.WithHostFunc("loyalty-points", upper),
			"nil host function":                   loader.WithHostFunc("f", nil),
			"nil logger":                          loader.WithLogger(nil),
			"no instance":                         loader.WithInstances(0),
			"digest of another length":            loader.WithSHA256("abcd"),
			"nil option":                          nil,
			"nil option of InWorker":              isolate.InWorker(nil),
			"nil option behind a good one":        isolate.InWorker(isolate.WithGrace(time.Second), nil),
			"nil output":                          isolate.InWorker(isolate.WithOutput(nil)),
			"no grace":                            isolate.InWorker(isolate.WithGrace(-1)),
			"policy with less than nothing":       isolate.InWorker(sandbox.With(sandbox.Policy{Memory: -1})),
		} {
			t.Run(name, func(t *testing.T) {
				for _, opts := range [][]loader.Option{{opt}, {opt, loader.WithInstances(2)}, {loader.WithInstances(2), opt}} {
					_, err := w.try(fixture.C(t, "echo"), opts...)
					assert.ErrorIs(t, err, loader.ErrOption)
					var e *loader.OpenError
					require.ErrorAs(t, err, &e)
					assert.NotEmpty(t, e.Found)
					assert.NotEmpty(t, e.Expected)
					assert.NotEmpty(t, e.Remedy)
					t.Log(err)
				}
			})
			// An option may be used for many Opens, at the same time: what each returns is its own.
			t.Run(name+", twice", func(t *testing.T) {
				var errs [2]error
				var both sync.WaitGroup
				for i := range errs {
					both.Go(func() { _, errs[i] = w.try(fmt.Sprint("file", i), opt) })
				}
				both.Wait()
				assert.NotSame(t, errs[0], errs[1])
				assert.ErrorContains(t, errs[0], "file0: ")
				assert.ErrorContains(t, errs[1], "file1: ")
			})
		}
		_, err := w.try(fixture.C(t, "echo"), loader.WithHostFunc("f", upper), loader.WithHostFunc("f", upper))
		assert.ErrorIs(t, err, loader.ErrOption, "two functions of one name")
	})
}

func TestOpenDigest(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		path := fixture.C(t, "state")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		sum := sha256.Sum256(data)
		p := w.open(t, path, loader.WithSHA256(hex.EncodeToString(sum[:])))
		assert.Equal(t, "1", call(t, p, "next", ""))
		again := w.open(t, path, loader.WithSHA256(strings.ToUpper(hex.EncodeToString(sum[:]))))
		assert.Equal(t, "1", call(t, again, "next", ""))
		if !w.isolated { // each worker has its own image
			assert.Equal(t, "2", call(t, again, "alive", ""), "one image for one content")
		}
		sum[0] ^= 1
		_, err = w.try(path, loader.WithSHA256(hex.EncodeToString(sum[:])))
		assert.ErrorIs(t, err, loader.ErrDigest)
		assert.ErrorContains(t, err, hex.EncodeToString(sum[:]))
		if runtime.GOOS == "linux" {
			process := "self"
			if isolation, isolated := p.Isolation(); isolated {
				process = strconv.Itoa(isolation.PID)
			}
			maps, err := os.ReadFile("/proc/" + process + "/maps")
			require.NoError(t, err)
			if os.Getenv(fixture.Emulated) != "" {
				return // qemu's map has no rights: what is executed is the emulator
			}
			// Under the name of the file that had these bytes first, which another test may have opened.
			assert.Regexp(t, `r-xp .*memfd:\S+\.so`, string(maps), "what was verified is what is loaded, under a file's name")
		}
	})
}

func needReplaceable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let anybody replace the file of a library that is loaded")
	}
}

// A file that is replaced while its first version is loaded: the system alone would hand out the first one again.
// In-process: a worker loads one version.
func TestOpenReplacedFile(t *testing.T) {
	needReplaceable(t)
	for name, replace := range map[string]func(path, with string){
		"renamed over": func(path, with string) {
			require.NoError(t, os.Rename(copyTo(t, with, path+".new"), path))
		},
		"removed and written anew": func(path, with string) {
			require.NoError(t, os.Remove(path))
			copyTo(t, with, path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "plugin"+fixture.Ext())
			copyTo(t, fixture.C(t, "echo"), path)
			first := open(t, path)
			replace(path, fixture.C(t, "state"))
			second := open(t, path)
			assert.Equal(t, "state", second.Name())
			assert.Equal(t, "1", call(t, second, "next", ""))
			assert.Equal(t, "still here", call(t, first, "echo", "still here"))
			third := open(t, path)
			assert.Equal(t, "2", call(t, third, "alive", ""), "the second and the third share an image")
			replace(path, fixture.C(t, "host"))
			_, err := loader.Open(path)
			assert.ErrorIs(t, err, loader.ErrMissingImport, "the third content")
		})
	}
}

// In-process: it is this process that keeps the library, or not.
func TestOpenUnload(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what is mapped is read from /proc, which only Linux has")
	}
	fixture.NotMusl(t, "no library is ever unmapped")
	path := tempLibrary(t, fixture.C(t, "echo"))
	mapped := func() bool {
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		return strings.Contains(string(maps), path)
	}
	one, err := loader.Open(path, loader.WithUnload())
	require.NoError(t, err)
	two, err := loader.Open(path, loader.WithUnload())
	require.NoError(t, err)
	require.NoError(t, one.Close())
	assert.True(t, mapped())
	assert.Equal(t, "x", call(t, two, "echo", "x"))
	require.NoError(t, two.Close())
	assert.False(t, mapped())
	three, err := loader.Open(path)
	require.NoError(t, err)
	require.NoError(t, three.Close())
	assert.True(t, mapped(), "without the option it stays")
}

// Opening must say what is wrong with its own file, whatever else fails at the same time: dlerror keeps its text
// where another call can overwrite it.
func TestOpenErrorsAreNotMixedUp(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		dir := tempDir(t)
		errs := make(chan error)
		const goroutines = 8
		rounds := w.rounds(200, 5)
		undefined := fixture.C(t, "undefined_symbol")
		for g := range goroutines {
			path := copyTo(t, undefined, filepath.Join(dir, "copy"+string(rune('a'+g))+".so"))
			go func() {
				for range rounds {
					_, err := w.try(path)
					e, _ := errors.AsType[*loader.OpenError](err)
					if e == nil || e.Err == nil || !strings.Contains(e.Err.Error(), path+": undefined symbol") && !strings.Contains(e.Err.Error(), "relocating "+path) {
						errs <- errors.Join(errors.New("the text of another failure"), err)
						return
					}
				}
				errs <- nil
			}()
		}
		for range goroutines {
			assert.NoError(t, <-errs)
		}
	})
}

// TestLinkedForAnotherSystem: a library that nothing but what it is linked to gives away as another system's is refused
// before the system's loader sees it.
func TestLinkedForAnotherSystem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the library is made with the system's C compiler, for an ELF system that is not this one")
	}
	fixture.Loadable(t)
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	dir := tempDir(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	build := func(args ...string) {
		out, err := exec.Command(cc, append([]string{"-shared", "-fPIC", "-nostdlib"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	libc, plugin := filepath.Join(dir, "libc.so.7"), filepath.Join(dir, "plugin.so")
	build("-Wl,-soname,libc.so.7", "-Wl,--version-script="+write("libc.map", "FBSD_1.0 { global: *; };\n"), "-o", libc,
		write("libc.c", "int arc4random_uniform(unsigned n) { return n ? 0 : 1; }\n"))
	build("-I", filepath.Join(fixture.Root(), "include"), "-o", plugin, write("plugin.c", `#include "ferrule.h"
		FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1.0.0"));
		extern int arc4random_uniform(unsigned);
		FERRULE_FN(f) { (void)call; return arc4random_uniform(1); }`), libc)
	for _, opts := range [][]loader.Option{nil, {isolate.InWorker()}} {
		_, err := loader.Open(plugin, opts...)
		require.ErrorIs(t, err, loader.ErrPlatform)
		require.ErrorContains(t, err, "ELF for freebsd/"+runtime.GOARCH)
	}
}
