package gen

import (
	"bytes"
	"flag"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
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
	var back bytes.Buffer
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			back.WriteByte(name[i])
			continue
		}
		back.WriteByte(hex(name[i+1])<<4 | hex(name[i+2]))
		i += 2
	}
	assert.Equal(t, text, back.String())
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
	for _, name := range []string{goFile, "cmd/vowels/main.go"} {
		dir := module(t, smallest)
		write(t, dir, "-- "+name+" --\npackage vowels\n")
		_, err := Run(t.Context(), Options{Dir: dir})
		require.Error(t, err)
		assert.Contains(t, err.Error(), filepath.FromSlash(name)+", which ferrule gen has not written, expected no such file, or one of its own. Move it, or name another folder with -o.")
		all, err := filepath.Glob(filepath.Join(dir, "cmd", "vowels", "*"))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(all), 1)
	}
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
		"a package of C": {smallest + "\n-- c.go --\npackage vowels\n\n// #include <stdint.h>\n// static int32_t twice(int32_t n) { return 2 * n; }\nimport \"C\"\n\n// Twice is twice.\n//\n//ferrule:export\nfunc Twice(n int32) int32 { return int32(C.twice(C.int32_t(n))) }\n", "f twice"},
		"generic code":   {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\ntype list[T any] []T\n\nfunc (l list[T]) first() T { return l[0] }\n\ntype alias[T any] = list[T]\n\n//ferrule:export\nfunc F(l list[int]) int { return l.first() }\n\n//ferrule:export\nfunc G(l alias[string]) string { return list[string](l).first() }\n", "f g"},
		"types of others, of one name": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport (\n\ta \"example.com/vowels/a/plugin\"\n\tb \"example.com/vowels/b/plugin\"\n\t. \"net/url\"\n)\n\n//ferrule:export\nfunc F(v a.T) (b.T, error) { return b.T{}, nil }\n\n//ferrule:export\nfunc G(v Values) *URL { return nil }\n" +
			"-- a/plugin/a.go --\npackage plugin\n\ntype T struct{}\n-- b/plugin/b.go --\npackage plugin\n\ntype T struct{}\n", "f g"},
		"a package sidecar": {strings.ReplaceAll(strings.ReplaceAll(smallest, "package vowels", "package sidecar"), "Package vowels", "Package sidecar"), "f"},
		"a package unsafe":  {strings.ReplaceAll(smallest, "package vowels", "package unsafe"), "f"},
		"a package library": {strings.ReplaceAll(smallest, "package vowels", "package library"), "f"},
		"a package module":  {strings.ReplaceAll(smallest, "package vowels", "package module"), "f"},
		"a package plugin":  {strings.ReplaceAll(smallest, "package vowels", "package plugin"), "f"},
		"a package int32":   {strings.ReplaceAll(smallest, "package vowels", "package int32"), "f"},
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
