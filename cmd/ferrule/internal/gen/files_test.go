package gen

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

var update = flag.Bool("update", false, "write the files of testdata that are made")

// everything makes a module of the package that uses all there is.
func everything(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "everything"))))
	write(t, dir, "-- go.mod --\n"+strings.Replace(goMod(), "vowels", "everything", 1))
	return dir
}

// TestGolden: what is written for a package that uses all there is, is what testdata has, is as gofmt has it, and is the same again; go vet finds nothing in it, in any form.
func TestGolden(t *testing.T) {
	dir := everything(t)
	r := run(t, dir)
	assert.Equal(t, "every-thing", r.Name)
	assert.Equal(t, []string{"any", "copy", "fail", "http_get", "names", "next", "nothing", "pairs", "renamed", "rest", "sum", "times", "twice", "write"}, r.Functions)
	assert.Equal(t, []string{"before_save", "twice"}, r.Hooks)
	assert.Equal(t, []string{"plain", "rate", "text"}, r.Imports)
	assert.Equal(t, []string{"look_up", "raw", "tell"}, r.Wants)
	require.Len(t, r.Files, 4)
	for _, f := range r.Files {
		assert.Equal(t, Written, f.State)
		text, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		golden := filepath.Join("testdata", filepath.Base(f.Path)+".golden")
		if *update {
			require.NoError(t, os.WriteFile(golden, text, 0o666))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), string(text), "go test ./internal/gen -run TestGolden -update")
		tidy, err := format.Source(text)
		require.NoError(t, err)
		assert.Equal(t, string(tidy), string(text))
	}
	for range 3 {
		assert.Empty(t, run(t, dir).Changed())
	}
	goCommand(t, dir, nil, "vet", "./...")
	goCommand(t, dir, []string{"GOOS=wasip1", "GOARCH=wasm"}, "vet", "./...")
	goCommand(t, dir, []string{"CGO_ENABLED=0"}, "test", "./...")
}

// TestWindows: a library for Windows has what one for this system has, though data is exported otherwise there.
func TestWindows(t *testing.T) {
	t.Parallel()
	compiler := fixture.Tool(t, "x86_64-w64-mingw32-gcc", "apt-get install gcc-mingw-w64-x86-64")
	dir := everything(t)
	run(t, dir)
	to := filepath.Join(t.TempDir(), "everything.dll")
	goCommand(t, dir, []string{"GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=1", "CC=" + compiler}, "build", "-buildmode=c-shared", "-o", to, "./cmd/every-thing")
	lib, err := inspect.File(to)
	require.NoError(t, err)
	assert.Equal(t, "every-thing", lib.Manifest.Name)
	all := func(symbols []abi.Symbol) (names []string) {
		for _, s := range symbols {
			names = append(names, s.Name)
		}
		slices.Sort(names)
		return names
	}
	assert.Equal(t, []string{"any", "copy", "fail", "http_get", "names", "next", "nothing", "pairs", "renamed", "rest", "sum", "times", "twice", "write"}, all(lib.Funcs))
	assert.Equal(t, []string{"plain", "rate", "text"}, all(lib.Imports))
	assert.Equal(t, []string{"look_up", "raw", "tell"}, all(lib.Wants))
	assert.True(t, slices.ContainsFunc(lib.Funcs, func(s abi.Symbol) bool { return s.Doc != "" }))
}

// TestTexts: a text comes through C, and through the name of a function, as it is.
func TestTexts(t *testing.T) {
	t.Parallel()
	compiler := fixture.Tool(t, "cc", "apt-get install gcc")
	var all strings.Builder
	for c := rune(1); c < 0x180; c++ {
		all.WriteRune(c)
	}
	text := "a=1\x002\x00" + all.String() + "\u2028\u3000\ufeff???/ */ \\0 %41\x00"
	dir := t.TempDir()
	source := "#include <stdio.h>\n/* */ static const char text[] =" + cText(text) + ";\nint main(void) { return fwrite(text, 1, sizeof text, stdout) != sizeof text; }\n"
	require.NotContains(t, cText(text), "*/")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.c"), []byte(source), 0o666))
	out, err := exec.Command(compiler, "-trigraphs", "-o", filepath.Join(dir, "a"), filepath.Join(dir, "a.c")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	printed, err := exec.Command(filepath.Join(dir, "a")).Output()
	require.NoError(t, err)
	assert.Equal(t, text+"\x00", string(printed))

	name := escaped(text)
	assert.Len(t, strings.Fields(name), 1)
	assert.Equal(t, text, ofName(name))
}

func hex(c byte) byte { return byte(strings.IndexByte("0123456789ABCDEF", c)) }

// TestStale: whatever ferrule_gen.go has, and the program beside it, what is written is the same.
func TestStale(t *testing.T) {
	t.Parallel()
	dir := module(t, "-- vowels.go --\n// Package vowels counts.\n//\n//ferrule:plugin name=vowels version=1.0.0\npackage vowels\n\n//ferrule:export\nfunc A() {}\n\n//ferrule:export\nfunc B() {}\n")
	run(t, dir)
	file, program := filepath.Join(dir, goFile), filepath.Join(dir, "cmd", "vowels", "main.go")
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"nothing":               "",
		"its begin":             header[:20],
		"another package":       header + "\npackage other\n",
		"what does not compile": header + "\npackage vowels\n\nvar Plugin = Gone()\n",
		"no Go":                 "<<<<<<< HEAD\n" + header + "\npackage vowels\n=======\n",
		"an import too many":    header + "\npackage vowels\n\nimport \"example.com/none\"\n",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
		require.NoError(t, os.WriteFile(program, []byte(text), 0o666))
		r := run(t, dir)
		assert.Len(t, r.Changed(), 2, name)
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
	// A function that is gone.
	write(t, dir, smallest)
	assert.Equal(t, []string{"f"}, run(t, dir).Functions)
	goCommand(t, dir, nil, "vet", "./...")
	require.NoError(t, os.Remove(file))
	run(t, dir)
	assert.FileExists(t, file)
}

// TestForeign: a file that was not written is not written over, and nothing else is written then.
func TestForeign(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\n\n", "package vowels\n", "package other\n", "<<<<\n", "\ufeff" + header} {
		dir := module(t, smallest)
		require.NoError(t, os.WriteFile(filepath.Join(dir, goFile), []byte(text), 0o666))
		run(t, dir)
		assert.Empty(t, run(t, dir).Changed(), text)
	}
	for _, name := range []string{goFile, "cmd/vowels/main.go"} {
		dir := module(t, smallest)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.FromSlash(name)), 0o777))
		_, err := Run(t.Context(), Options{Dir: dir})
		require.Error(t, err)
		assert.Equal(t, "found the folder "+filepath.Join(dir, filepath.FromSlash(name))+", expected a file of this name, or none. Move the folder.", err.Error())
		assert.NoFileExists(t, filepath.Join(dir, "cmd", "vowels", "module.go"))

		dir = module(t, smallest)
		write(t, dir, "-- "+name+" --\npackage vowels\n\nfunc mine() {")
		_, err = Run(t.Context(), Options{Dir: dir})
		require.Error(t, err)
		assert.Contains(t, err.Error(), filepath.FromSlash(name)+", which ferrule gen has not written, expected no such file, or one of its own. Move it, or name another folder with -o.")
		all, err := filepath.Glob(filepath.Join(dir, "cmd", "vowels", "*"))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(all), 1)
	}
}

// TestMarked: a file that has the words of those that are written is nobody's but its author's.
func TestMarked(t *testing.T) {
	t.Parallel()
	words := "// Package main is mine.\npackage main\n\nimport _ \"example.com/vowels\"\n\nconst text = `\n" + header + "\n`\n\nfunc main() { println(text) }\n"
	dir := module(t, smallest)
	write(t, dir, "-- cmd/other/main.go --\n"+words)
	run(t, dir)
	assert.FileExists(t, filepath.Join(dir, "cmd", "other", "main.go"))
	_, err := Run(t.Context(), Options{Dir: dir, Out: filepath.Join(dir, "cmd", "other")})
	assert.ErrorContains(t, err, filepath.Join("cmd", "other", "main.go")+", which ferrule gen has not written, expected")
	assert.FileExists(t, filepath.Join(dir, "cmd", "vowels", "main.go"), "nothing is removed where nothing can be written")
	write(t, dir, "-- "+goFile+" --\n"+strings.Replace(words, "package main", "package vowels", 1))
	_, err = Run(t.Context(), Options{Dir: dir})
	assert.ErrorContains(t, err, goFile+", which ferrule gen has not written, expected")
}

// TestCheck: nothing is written, and what is not as it would be is said.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	check := func() (changed []string) {
		r, err := Run(t.Context(), Options{Dir: dir, Check: true})
		require.NoError(t, err)
		for _, f := range r.Changed() {
			name, err := filepath.Rel(dir, filepath.FromSlash(f.Path))
			require.NoError(t, err)
			changed = append(changed, f.State+" "+filepath.ToSlash(name))
		}
		return changed
	}
	assert.Equal(t, []string{"written ferrule_gen.go", "written cmd/vowels/library.go", "written cmd/vowels/main.go", "written cmd/vowels/module.go"}, check())
	assert.NoFileExists(t, filepath.Join(dir, goFile))
	run(t, dir)
	assert.Empty(t, check())
	write(t, dir, strings.ReplaceAll(smallest, "name=vowels", "name=words"))
	assert.Equal(t, []string{"written ferrule_gen.go", "written cmd/words/library.go", "written cmd/words/main.go", "written cmd/words/module.go",
		"removed cmd/vowels/library.go", "removed cmd/vowels/main.go", "removed cmd/vowels/module.go"}, check())
	assert.DirExists(t, filepath.Join(dir, "cmd", "vowels"))
}

// TestEndsOfLines: a checkout with other ends of lines is as it has to be; and a package whose own files have them is read as any other.
func TestEndsOfLines(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	r := run(t, dir)
	for _, f := range append(r.Files, File{Path: filepath.ToSlash(filepath.Join(dir, "vowels.go"))}) {
		text, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(f.Path, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), 0o666))
	}
	assert.Empty(t, run(t, dir).Changed())
	text, err := os.ReadFile(filepath.Join(dir, "vowels.go"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vowels.go"), bytes.Replace(text, []byte("name=vowels"), []byte("name=words"), 1), 0o666))
	run(t, dir)
	assert.NoDirExists(t, filepath.Join(dir, "cmd", "vowels"), "the program of its former name is known as such")
}

// TestWritten: what is written keeps its rights and its link, what is as it has to be is not touched, and nothing else is left.
func TestWritten(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	run(t, dir)
	file, elsewhere := filepath.Join(dir, goFile), filepath.Join(t.TempDir(), "elsewhere.go")
	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	main := filepath.Join(dir, "cmd", "vowels", "main.go")
	require.NoError(t, os.Chtimes(main, long, long))
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(elsewhere, []byte(header), 0o640))
	if err := os.Symlink(elsewhere, file); err != nil {
		t.Skipf("no links here: %v", err)
	}
	run(t, dir)
	got, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
	nowhere := filepath.Join(dir, "cmd", "vowels", "library.go") // a link to what is not there yet
	require.NoError(t, os.Remove(nowhere))
	require.NoError(t, os.Symlink(filepath.Join("..", "there.go"), nowhere))
	run(t, dir)
	assert.FileExists(t, filepath.Join(dir, "cmd", "there.go"))
	target, err := os.Readlink(nowhere)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join("..", "there.go"), target)
	if os.Getuid() > 0 { // root may write to all
		require.NoError(t, os.WriteFile(main, []byte(header), 0o666))
		require.NoError(t, os.Chmod(main, 0o444))
		_, err = Run(t.Context(), Options{Dir: dir})
		assert.ErrorIs(t, err, fs.ErrPermission)
		require.NoError(t, os.Chmod(main, 0o644))
		run(t, dir)
		require.NoError(t, os.Chtimes(main, long, long))
	}
	info, err := os.Stat(elsewhere)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	}
	info, err = os.Lstat(file)
	require.NoError(t, err)
	assert.Equal(t, fs.ModeSymlink, info.Mode().Type())
	info, err = os.Stat(main)
	require.NoError(t, err)
	assert.True(t, info.ModTime().Equal(long))
	assertNoParts(t, dir)
	assertNoParts(t, filepath.Dir(elsewhere))
}

func assertNoParts(t *testing.T, dir string) {
	t.Helper()
	assert.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		assert.NotEqual(t, ".part", filepath.Ext(path))
		return err
	}))
}

// TestAtOnce: several at once in one folder, of which some find another name, and who builds meanwhile, do not disturb each other.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	run(t, dir)
	other := strings.ReplaceAll(smallest, "name=vowels", "name=words")
	for _, text := range []string{other, smallest, other} {
		write(t, dir, text)
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				_, err := Run(t.Context(), Options{Dir: dir})
				assert.NoError(t, err)
			})
		}
		wg.Go(func() {
			for range 20 {
				got, err := os.ReadFile(filepath.Join(dir, goFile))
				assert.NoError(t, err)
				assert.True(t, bytes.HasPrefix(got, []byte(header)) && bytes.HasSuffix(got, []byte("\n")), "%q", got)
			}
		})
		wg.Wait()
		assert.Empty(t, run(t, dir).Changed())
	}
	assertNoParts(t, dir)
	assert.NoDirExists(t, filepath.Join(dir, "cmd", "vowels"))
	goCommand(t, dir, nil, "vet", "./...")
}

// TestRenamed: the program of a former name goes, and nothing else that is there.
func TestRenamed(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	run(t, dir)
	const own = "-- cmd/vowels/own.go --\npackage main\n-- cmd/tool/main.go --\npackage main\n\nimport _ \"example.com/vowels\"\n\nfunc main() {}\n"
	write(t, dir, own)
	other := filepath.Join(dir, "cmd", "other")
	require.NoError(t, os.CopyFS(other, os.DirFS(filepath.Join(dir, "cmd", "vowels"))))
	text, err := os.ReadFile(filepath.Join(other, "main.go")) // of another package
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(other, "main.go"), bytes.ReplaceAll(text, []byte("example.com/vowels"), []byte("example.com/vowels/sub")), 0o666))
	write(t, dir, strings.ReplaceAll(smallest, "name=vowels", "name=words"))
	run(t, dir)
	assert.NoFileExists(t, filepath.Join(dir, "cmd", "vowels", "main.go"))
	assert.FileExists(t, filepath.Join(dir, "cmd", "vowels", "own.go"))
	assert.FileExists(t, filepath.Join(dir, "cmd", "tool", "main.go"))
	assert.FileExists(t, filepath.Join(other, "main.go"))
	assert.NoFileExists(t, filepath.Join(other, "module.go"))
	assert.FileExists(t, filepath.Join(dir, "cmd", "words", "module.go"))
	write(t, dir, strings.ReplaceAll(smallest, "name=vowels", "name=letters"))
	run(t, dir)
	assert.NoDirExists(t, filepath.Join(dir, "cmd", "words"))

	// Elsewhere than in cmd.
	_, err = Run(t.Context(), Options{Dir: dir, Out: filepath.Join(dir, "programs", "it")})
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(dir, "programs", "it", "main.go"))
	goCommand(t, dir, nil, "vet", ".", "./programs/it")
}

// TestPackages: packages of many kinds are made plug-ins of, which go vet finds nothing in.
func TestPackages(t *testing.T) {
	for name, c := range map[string]struct {
		files     string
		functions string
	}{
		"several files, and those of systems": {smallest + "\n-- a_linux.go --\npackage vowels\n\nconst system = 1\n-- a_other.go --\n//go:build !linux\n\npackage vowels\n\nconst system = 2\n-- b.go --\npackage vowels\n\n//ferrule:export\nfunc G() int { return system }\n" +
			"-- ignored.go --\n//go:build ignore\n\npackage main\n\nfunc main() {}\n-- c_test.go --\npackage vowels_test\n\nimport \"example.com/vowels\"\n\nvar _ = vowels.Plugin.Manifest\n-- d.go --\npackage vowels\n\nvar _ = Plugin.Manifest\n", "f g"},
		"a package of C": {smallest + "\n-- b.go --\npackage vowels\n\n// Twice is twice.\n//ferrule:export\nfunc Twice(n int32) int32 { return twice(n) }\n-- c.go --\npackage vowels\n\n// #include <stdint.h>\n// static int32_t twice(int32_t n) { return 2 * n; }\nimport \"C\"\n\nfunc twice(n int32) int32 { return int32(C.twice(C.int32_t(n))) }\n-- d.go --\n//go:build !cgo\n\npackage vowels\n\nfunc twice(n int32) int32 { return 2 * n }\n", "f twice"},
		"generic code":   {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\ntype list[T any] []T\n\nfunc (l list[T]) first() T { return l[0] }\n\ntype alias[T any] = list[T]\n\n//ferrule:export\nfunc F(l list[int]) int { return l.first() }\n\n//ferrule:export\nfunc G(l alias[string]) string { return list[string](l).first() }\n", "f g"},
		"types of others, of one name": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport (\n\ta \"example.com/vowels/a/plugin\"\n\tb \"example.com/vowels/b/plugin\"\n\t. \"net/url\"\n)\n\n//ferrule:export\nfunc F(v a.T) (b.T, error) { return b.T{}, nil }\n\n//ferrule:export\nfunc G(v Values) *URL { return nil }\n" +
			"-- a/plugin/a.go --\npackage plugin\n\ntype T struct{}\n-- b/plugin/b.go --\npackage plugin\n\ntype T struct{}\n", "f g"},
		"types under another name": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar f lib.Func\n\n//ferrule:export\nfunc F(v lib.T) {}\n" +
			"-- lib/lib.go --\npackage lib\n\nimport (\n\t\"context\"\n\n\t\"example.com/vowels/internal/near\"\n\t\"example.com/vowels/lib/internal/own\"\n)\n\ntype T = own.T\n\ntype Func func(context.Context, []T) (map[string]near.T, error)\n" +
			"-- lib/internal/own/own.go --\npackage own\n\ntype T struct{ A int }\n-- internal/near/near.go --\npackage near\n\ntype T struct{ A int }\n", "f"},
		"a package sidecar":          {strings.ReplaceAll(strings.ReplaceAll(smallest, "package vowels", "package sidecar"), "Package vowels", "Package sidecar"), "f"},
		"a package unsafe":           {strings.ReplaceAll(smallest, "package vowels", "package unsafe"), "f"},
		"a package library":          {strings.ReplaceAll(smallest, "package vowels", "package library"), "f"},
		"a package module":           {strings.ReplaceAll(smallest, "package vowels", "package module"), "f"},
		"a package plugin":           {strings.ReplaceAll(smallest, "package vowels", "package plugin"), "f"},
		"a package C":                {strings.ReplaceAll(smallest, "package vowels", "package C"), "f"},
		"a package init":             {strings.ReplaceAll(smallest, "package vowels", "package init"), "f"},
		"a package that is a symbol": {strings.ReplaceAll(smallest, "package vowels", "package ferrule_fn_f"), "f"},
		"a package that is a text":   {strings.ReplaceAll(smallest, "package vowels", "package ferrule_manifest"), "f"},
		"declarations that are names of imports": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport c \"context\"\n\ntype plugin struct{ A int }\n\nvar context, sidecar, library, module, unsafe, C, io int\n\nfunc ctx() {}\n\nfunc plugin2() {}\n\n//ferrule:export\nfunc F(c.Context, plugin) plugin { return plugin{} }\n" +
			"-- a_test.go --\npackage vowels\n\nvar plugin3, context2 int\n", "f"},
		"modules of such a name":     {"-- go.mod --\n" + strings.Replace(goMod(), "example.com/vowels", "example.com/plugin", 1) + strings.ReplaceAll(smallest, "package vowels", "package plugin"), "f"},
		"a module sidecar":           {"-- go.mod --\n" + strings.Replace(goMod(), "example.com/vowels", "sidecar", 1) + strings.ReplaceAll(smallest, "package vowels", "package sidecar"), "f"},
		"a module C":                 {"-- go.mod --\n" + strings.Replace(goMod(), "example.com/vowels", "example.com/C", 1) + smallest, "f"},
		"prose that is no directive": {smallest + "\n// F2 is for what has\n// ferrule: plugin authors like it,\n// ferrule:exporting, and\n// ferrule in ferrule:export too.\nfunc F2() {}\n//\tferrule:starting\n", "f"},
		"a package int32":            {strings.ReplaceAll(smallest, "package vowels", "package int32"), "f"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(c.files, `import "C"`) {
				fixture.Tool(t, "cc", "apt-get install gcc")
			}
			dir := module(t, c.files)
			r := run(t, dir)
			assert.Equal(t, c.functions, strings.Join(r.Functions, " "))
			goCommand(t, dir, nil, "vet", "./...")
			if !strings.Contains(c.files, `import "C"`) {
				goCommand(t, dir, []string{"GOOS=wasip1", "GOARCH=wasm"}, "vet", "./...")
			}
		})
	}
}

// TestModules: where the package's module does not do, it is said what to do; and one with a folder vendor needs the SDK in it once it is written.
func TestModules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ files, want string }{
		"no requirement": {"-- go.mod --\nmodule example.com/vowels\n\ngo 1.24\n" + smallest, "does not require github.com/ferrule-dev/ferrule/sdk-go, expected it to. Run: go get github.com/ferrule-dev/ferrule/sdk-go. The go command says: "},
		"one of Go's":    {"-- go.mod --\n" + strings.Replace(goMod(), "example.com/vowels", "plugin", 1) + strings.ReplaceAll(smallest, "package vowels", "package plugin"), " is of no module, expected one of a module. Make one: go mod init example.com/NAME. The go command says: ambiguous import: "},
		"no module":      {"-- go.mod --\n\n" + smallest, "expected one of a module. "},
		"no Go":          {"-- a.txt --\n", "found no Go package in "},
		"only tests":     {"-- a_test.go --\npackage a\n", "found no Go package in "},
		"a program":      {"-- main.go --\npackage main\n\nfunc main() {}\n", "found package main in "},
		"two packages":   {smallest + "\n-- other.go --\npackage other\n", "vowels.go:4:9: found package vowels, expected package other, as in other.go"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, c.files)
			if name == "no module" {
				require.NoError(t, os.Remove(filepath.Join(dir, "go.mod")))
			}
			_, err := Run(t.Context(), Options{Dir: dir})
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
		})
	}
	_, err := Run(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "none")})
	assert.ErrorAs(t, err, new(*Unready))

	dir := module(t, smallest)
	goCommand(t, dir, nil, "mod", "vendor") // nothing imports the SDK yet
	run(t, dir)
	goCommand(t, dir, nil, "mod", "vendor")
	assert.Empty(t, run(t, dir).Changed())
	goCommand(t, dir, nil, "vet", "./...")
}

// TestSnake: the names that hosts call functions by.
func TestSnake(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"CountVowels": "count_vowels", "ParseURL": "parse_url", "HTTPGet": "http_get", "URL": "url", "A": "a", "Sum256": "sum256", "UTF8Valid": "utf8_valid", "X1Y2": "x1_y2",
		"Foo_Bar": "foo_bar", "ID3Tags": "id3_tags", "IsATest": "is_a_test", "GetIDs": "get_ids", "IDsOf": "ids_of", "GetHTTPSets": "get_http_sets",
	} {
		assert.Equal(t, want, snake(name), name)
	}
}

// FuzzParse: whatever a comment has, it is read, or each slip is within it; and what is read has keys that the contract takes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"plugin name=a version=1", "hook a b", "export since=\"1\" a=`b`", "export =", "export a=\"\xff\"", "x", "", "export a=\"\\x00\"", "export\ta==b\r", "export a=\"b", "hook a=b c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		d, slips := parse(prefix + rest)
		for _, s := range slips {
			if s.at < 0 || s.at > len(prefix+rest) || s.found == "" || s.expected == "" {
				t.Fatalf("%q: %+v", rest, s)
			}
		}
		text := ""
		for _, k := range d.keys {
			if !strings.HasPrefix((prefix + rest)[k.at:], k.name+"=") {
				t.Fatalf("%q: %+v", rest, k)
			}
			text += k.name + "=" + k.value + "\x00"
		}
		if read, err := abi.ParseText([]byte(text + "\x00")); err != nil || len(read) != len(d.keys) {
			t.Fatalf("%q: %q: %v", rest, text, err)
		}
		if len(slips) == 0 && placeOf(d.word) == "" {
			t.Fatalf("%q", rest)
		}
	})
}

// TestPlaces: the program's folder is one of its own in the package's module, or nothing is written.
func TestPlaces(t *testing.T) {
	t.Parallel()
	const inner = "-- internal/words/words.go --\n// Package words counts.\n//\n//ferrule:plugin name=words version=1.0.0\npackage words\n\n//ferrule:export\nfunc F() {}\n"
	outside := t.TempDir()
	for name, c := range map[string]struct{ files, dir, out, want string }{
		"the package's":          {"", ".", ".", "found the package's own folder for its program, expected a folder of its own for the program, in the package's module. Name another folder with -o, or leave it out: cmd/vowels."},
		"outside of the module":  {"", ".", outside, ", which is not in the module example.com/vowels in "},
		"above the module":       {"", ".", "..", ", which is not in the module example.com/vowels in "},
		"another module":         {"-- other/go.mod --\nmodule example.com/other\n", ".", "other/cmd/it", ", which is in another module: "},
		"another package":        {"-- lib/lib.go --\npackage lib\n", ".", "lib", "lib.go, which ferrule gen has not written, with package lib, expected no such file beside the program. Move it, or name another folder with -o."},
		"another program":        {"-- cmd/it/it.go --\npackage main\n\nfunc main() {}\n", ".", "cmd/it", "it.go, which ferrule gen has not written, with a declaration of main"},
		"a name that is taken":   {"-- cmd/vowels/it.go --\npackage main\n\nvar ferrule_manifest int\n", ".", "", "it.go, which ferrule gen has not written, with a declaration of ferrule_manifest"},
		"a module in cmd":        {"-- cmd/vowels/go.mod --\nmodule example.com/other\n", ".", "", ", which is in another module: "},
		"a file":                 {"-- cmd --\n", ".", "", " can be no folder: "},
		"a file below":           {"-- it --\n", ".", "it", " can be no folder: "},
		"vendor":                 {"", ".", "vendor/it", ", in which Go builds nothing"},
		"a name that is none":    {"", ".", "a b'", ", in which Go builds nothing"},
		"an internal package":    {"-- a/" + inner[3:], "a/internal/words", "cmd/words", ", from which Go imports no example.com/vowels/a/internal/words, expected one in example.com/vowels/a"},
		"a package beside main":  {"-- a/" + inner[3:], "a/internal/words", "a/internal/words", "found the package's own folder for its program"},
		"the root, which is one": {inner, "internal/words", ".", "vowels.go, which ferrule gen has not written, with package vowels"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, smallest)
			write(t, dir, c.files)
			o := Options{Dir: filepath.Join(dir, filepath.FromSlash(c.dir)), Out: c.out}
			if c.out != "" && !filepath.IsAbs(c.out) {
				o.Out = filepath.Join(dir, filepath.FromSlash(c.out))
			}
			_, err := Run(t.Context(), o)
			require.ErrorAs(t, err, new(*Unready))
			assert.Contains(t, err.Error(), c.want)
			assert.NoFileExists(t, filepath.Join(o.Dir, goFile))
		})
	}
	// What does not stand in the way.
	dir := module(t, smallest+"\n"+inner+"-- cmd/vowels/log.go --\npackage main\n\nimport \"log\"\n\nfunc init() { log.SetFlags(0) }\n-- cmd/vowels/make.go --\n//go:build ignore\n\npackage main\n\nfunc main() {}\n-- cmd/vowels/a_test.go --\npackage main\n")
	run(t, dir)
	_, err := Run(t.Context(), Options{Dir: filepath.Join(dir, "internal", "words"), Out: filepath.Join(dir, "programs", "words")})
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err == nil {
		r, err := Run(t.Context(), Options{Dir: link, Out: filepath.Join(dir, "cmd", "vowels")})
		require.NoError(t, err)
		assert.Empty(t, r.Changed())
		_, err = Run(t.Context(), Options{Dir: dir, Out: link})
		assert.ErrorContains(t, err, "the package's own folder")
	}
	goCommand(t, dir, nil, "vet", "./...")
}

// TestMethodsOfPointers: what encoding/json encodes by a method of the pointer's, is encoded by it.
func TestMethodsOfPointers(t *testing.T) {
	t.Parallel()
	dir := module(t, `-- vowels.go --
//ferrule:plugin name=vowels version=1.0.0 state=a
package vowels

import (
	"context"
	"errors"
	"math/big"
)

type name string

func (n *name) MarshalText() ([]byte, error) { return []byte("the " + *n), nil }

//ferrule:export
func A() big.Int { return *big.NewInt(7) }

//ferrule:export
func B() (struct{ N [1]big.Int }, error) {
	return struct{ N [1]big.Int }{[1]big.Int{*big.NewInt(7)}}, nil
}

//ferrule:export
func C() name { return "c" }

//ferrule:export
func D() (map[string]*big.Int, error) { return map[string]*big.Int{"d": big.NewInt(7)}, nil }

//ferrule:export
func E(n big.Int) (*big.Int, error) { return &n, nil }

//ferrule:export
func F() (big.Int, error) { return big.Int{}, errors.New("none") }

type T struct{}

//ferrule:start
func New() *T { return &T{} }

//ferrule:save
func (t *T) Save() big.Int { return *big.NewInt(7) }

//ferrule:resume
func (t *T) Resume(n big.Int) error { return nil }

//ferrule:import
var ask func(context.Context, big.Int) (map[string]big.Int, error)

//ferrule:import
var tell func(context.Context, [2]name) error
-- vowels_test.go --
package vowels

import (
	"context"
	"testing"
)

func TestAll(t *testing.T) {
	for name, want := range map[string]string{"a": "7", "b": `+"`{\"N\":[7]}`, \"c\": `\"the c\"`, \"d\": `{\"d\":7}`"+`, "e": "12", "f": "none"} {
		n, _ := Plugin.Function(name, false)
		if out, _ := Plugin.Call(context.Background(), nil, nil, n, []byte("12")); string(out) != want {
			t.Errorf("%s: %s", name, out)
		}
	}
	if out, _ := Plugin.Save(context.Background(), nil, &T{}); string(out) != "7" {
		t.Errorf("%s", out)
	}
}
`)
	run(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, goFile))
	require.NoError(t, err)
	assert.Contains(t, string(text), "in, err := plugin.ToJSON(&value)")
	goCommand(t, dir, []string{"CGO_ENABLED=0"}, "test", ".")
}

// TestSizes: texts of the longest that the contract has are taken, with what the types add to them.
func TestSizes(t *testing.T) {
	t.Parallel()
	of := func(doc, config int) string {
		return "//ferrule:plugin name=vowels version=1 config=`{\"a\":\"" + strings.Repeat("<", config) + "\"}`\npackage vowels\n\n//ferrule:export doc=\"" + strings.Repeat("x", doc) + "\"\nfunc F(s string) {}\n"
	}
	_, err := Source("example.com/vowels", []byte(of(65501, 1)))
	require.NoError(t, err)
	_, err = Source("example.com/vowels", []byte(of(65502, 1)))
	require.ErrorContains(t, err, "found keys and a doc comment of 65537 bytes, expected 65536 at most (rule R1)")

	// The manifest of a sidecar, of which a `<` is one byte.
	about := `{"name":"vowels","version":"1","functions":{"f":{"doc":"x","in":"text/plain; charset=utf-8"}},"config":"{\"a\":\"\"}"}`
	_, err = Source("example.com/vowels", []byte(of(1, 1<<20-len(about))))
	require.NoError(t, err)
	_, err = Source("example.com/vowels", []byte(of(1, 1<<20-len(about)+1)))
	require.ErrorContains(t, err, "found a plug-in whose texts have 1048577 bytes as JSON, expected 1048576 at most, which is all that a sidecar may say of itself (docs/wire.md, W2)")
}

// FuzzWrite: whatever a text has, what is written with it is Go, and has the text as it is.
func FuzzWrite(f *testing.F) {
	for _, seed := range []string{"a\ufeffb", "\ufeff", "*/ /* ??/ ??' %41 %s \\0 \\", "\u2028\u2029\u0085\u00a0\u3000", "\x01\x7f\r\n\t\v", "``\"'", "${a} #cgo LDFLAGS: -x\n//export f", "\xff\xed\xa0\x80", "\U0010ffff\u202e", "a\x00b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		config, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		q := strconv.Quote(text)
		source := fmt.Sprintf("//ferrule:plugin name=vowels version=1 description=%s license=%[1]s x-a=%[1]s config=%s\npackage vowels\n\n", q, strconv.Quote(`{"a":`+string(config)+`}`))
		source += fmt.Sprintf("//ferrule:export doc=%s x-b=%[1]s\nfunc F() {}\n", q)
		files, err := Source("example.com/vowels", []byte(source))
		if err != nil {
			if utf8.ValidString(text) && !strings.ContainsRune(text, 0) && !errors.As(err, new(Faults)) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		want := map[string]string{"ferrule_meta_config": `{"a":` + string(config) + "}"}
		if text == "" {
			want["ferrule_manifest"], want["ferrule_meta_fn_f"] = "ferrule=1\x00name=vowels\x00version=1\x00", ""
		} else {
			want["ferrule_manifest"] = "ferrule=1\x00name=vowels\x00version=1\x00description=" + text + "\x00license=" + text + "\x00x-a=" + text + "\x00"
			want["ferrule_meta_fn_f"] = "doc=" + text + "\x00x-b=" + text + "\x00"
		}
		for name, file := range files {
			if _, err := parser.ParseFile(token.NewFileSet(), name, file, parser.ParseComments); err != nil {
				t.Fatalf("%q: %v\n%s", text, err, file)
			}
		}
		library, module := string(files["cmd/vowels/library.go"]), string(files["cmd/vowels/module.go"])
		for symbol, want := range want {
			if want == "" {
				continue
			}
			_, c, _ := strings.Cut(library, "TEXT("+symbol+") =")
			c, _, _ = strings.Cut(c, ";\n")
			if got := ofC(t, c); got != want {
				t.Fatalf("%s: %q, not %q, of %s", symbol, got, want, c)
			}
			_, name, _ := strings.Cut(module, "//go:wasmexport "+symbol+"=")
			name, _, _ = strings.Cut(name, "\n")
			if got := ofName(name); got != want || len(strings.Fields(name)) != 1 {
				t.Fatalf("%s: %q, not %q, of %s", symbol, got, want, name)
			}
		}
	})
}

// ofName is the text in the name of an export, as loader/inspect reads it.
func ofName(name string) string {
	var back []byte
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			back = append(back, name[i])
			continue
		}
		back = append(back, hex(name[i+1])<<4|hex(name[i+2]))
		i += 2
	}
	return string(back)
}

// ofC is the text of string literals of C, each on a line.
func ofC(t *testing.T, literals string) string {
	var back []byte
	for line := range strings.SplitSeq(strings.TrimSpace(literals), "\n") {
		line = strings.TrimSpace(line)
		if len(line) < 2 || line[0] != '"' || line[len(line)-1] != '"' || strings.Contains(line, "??") || strings.Contains(line, "*/") {
			t.Fatalf("%q", line)
		}
		line = line[1 : len(line)-1]
		for i := 0; i < len(line); i++ {
			c := line[i]
			if c < ' ' || c > '~' || c == '"' {
				t.Fatalf("%q", line)
			}
			if c == '\\' {
				i++
				switch digits := len(line[i:]) - len(strings.TrimLeft(line[i:min(i+3, len(line))], "01234567")+line[min(i+3, len(line)):]); {
				case digits > 0:
					n, err := strconv.ParseUint(line[i:i+digits], 8, 8)
					if err != nil {
						t.Fatalf("%q: %v", line, err)
					}
					c = byte(n)
					i += digits - 1
				case line[i] == 'n':
					c = '\n'
				default:
					c = line[i]
				}
			}
			back = append(back, c)
		}
	}
	return string(back)
}

// TestLeft: the parts of files that a run has left which was killed go with the next one, wherever that one writes or has written; and nothing else does. A run that goes on makes
// another one of a part that was taken from it.
func TestLeft(t *testing.T) {
	t.Parallel()
	dir := module(t, smallest)
	run(t, dir)
	part := func(folder, name, number string) string {
		begin, end := parts(name)
		path := filepath.Join(dir, filepath.FromSlash(folder), begin+number+end)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(header), 0o666))
		return path
	}
	left := []string{part(".", goFile, "0"), part("cmd/vowels", "main.go", "1z"), part("cmd/vowels", "library.go", "zz"), part("cmd/former", "module.go", "3w5e11264sgsf")}
	others := []string{part(".", "vowels.go", "0"), part(".", goFile, ""), part("cmd/vowels", "main.go", "no number"), part("cmd/vowels", "own.go", "1"), filepath.Join(dir, "cmd", "vowels", ".main.go.1")}
	require.NoError(t, os.WriteFile(others[len(others)-1], nil, 0o666))
	_, err := Run(t.Context(), Options{Dir: dir, Check: true})
	require.NoError(t, err)
	for _, path := range left {
		assert.FileExists(t, path, "only compared")
	}
	assert.Empty(t, run(t, dir).Changed())
	for _, path := range left {
		assert.NoFileExists(t, path)
	}
	for _, path := range others {
		assert.FileExists(t, path)
	}

	path := filepath.Join(t.TempDir(), goFile)
	for range 50 {
		var sweeping sync.WaitGroup
		sweeping.Go(func() {
			for range 50 {
				sweep(filepath.Dir(path), goFile)
			}
		})
		assert.NoError(t, put(path, []byte(header)))
		sweeping.Wait()
	}
	assert.FileExists(t, path)
	assertNoParts(t, filepath.Dir(path))
}

// TestSignsOfPatterns: a folder's name may have the signs of a pattern: the program of a former name goes there, too.
func TestSignsOfPatterns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a [1]")
	write(t, dir, "-- go.mod --\n"+goMod()+smallest)
	run(t, dir)
	write(t, dir, strings.ReplaceAll(smallest, "name=vowels", "name=words"))
	assert.Len(t, run(t, dir).Changed(), 7)
	assert.NoDirExists(t, filepath.Join(dir, "cmd", "vowels"))
	goCommand(t, dir, nil, "vet", "./...")
}
