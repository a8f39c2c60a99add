package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// needed are the programs that building a plug-in takes, each with how to install it.
var needed = map[string][][2]string{
	"c":    {{"make", "apt-get install make"}, {"cc", "apt-get install gcc"}},
	"cpp":  {{"make", "apt-get install make"}, {"c++", "apt-get install g++"}},
	"go":   {{"make", "apt-get install make"}, {"cc", "apt-get install gcc"}},
	"rust": {{"cargo", "apt-get install cargo, or see https://rustup.rs"}},
}

// The way that new prints: build, call, check; then the plug-in's own tests.
func TestNewFromNothingToAResult(t *testing.T) {
	for _, lang := range []string{"c", "cpp", "rust"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			need(t, lang)
			dir := filepath.Join(t.TempDir(), "two words", "greeter-1")
			stdout, stderr, code := ferrule(t, "", "new", "--lang", lang, dir)
			require.Equal(t, 0, code, stderr)
			assert.Empty(t, stderr)
			_, commands, ok := strings.Cut(stdout, "Go on with\n\n")
			require.True(t, ok, stdout)
			require.Len(t, strings.Split(strings.TrimSpace(commands), "\n"), 3)

			out := shell(t, ".", strings.ReplaceAll(commands, "ferrule check", "ferrule check --level 10"))
			assert.Contains(t, out, "Hello, Ada!")
			assert.Contains(t, out, "; 0 errors, 0 warnings (--level 10 ")
			assert.NotContains(t, out, "warning:", "of a compiler")

			library := filepath.Join(dir, made(t, lang, "greeter-1").Library)
			about, err := loader.Inspect(library)
			require.NoError(t, err)
			assert.Equal(t, "greeter-1", about.Manifest.Name)
			assert.Equal(t, "0.1.0", about.Manifest.Version)
			require.Len(t, about.Funcs, 1)
			assert.Equal(t, "greet", about.Funcs[0].Name)
			assert.Equal(t, "Greets whoever the input names.", about.Funcs[0].Doc)
			assert.True(t, strings.HasPrefix(about.Funcs[0].In, "text/plain"), about.Funcs[0].In)
			assert.Empty(t, about.Imports)

			for _, in := range []string{"", "\xff\x00", strings.Repeat("x", 1<<20)} {
				got, err := openCall(t, library, in)
				switch {
				case lang == "rust" && in == "\xff\x00":
					assert.ErrorIs(t, err, loader.ErrInvalid)
				case in == "":
					require.NoError(t, err)
					assert.Equal(t, "Hello, world!", got)
				default:
					require.NoError(t, err)
					assert.Equal(t, "Hello, "+in+"!", got)
				}
			}

			if lang == "rust" {
				out = shell(t, dir, "cargo test --release --locked\nsh test.sh "+made(t, lang, "greeter-1").Library)
				assert.Contains(t, out, "test tests::greets ... ok")
			} else {
				out = shell(t, dir, "make test\nmake clean")
				assert.NoFileExists(t, library)
			}
			assert.NotContains(t, out, "warning:")
		})
	}
}

// The same way with --wasm: the module does what the library from the same files does, and passes at the highest level.
func TestNewWasm(t *testing.T) {
	for _, lang := range []string{"c", "cpp", "rust"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			needModules(t, lang)
			dir := filepath.Join(t.TempDir(), "two words", "greeter-1")
			stdout, stderr, code := ferrule(t, "", "new", "--json", "--wasm", "--lang", lang, dir)
			require.Equal(t, 0, code, stderr)
			var p plugin
			require.NoError(t, json.Unmarshal([]byte(stdout), &p))
			assert.True(t, p.Wasm)
			assert.Equal(t, ".wasm", filepath.Ext(p.Library))

			out := shell(t, ".", strings.ReplaceAll(strings.Join(p.Next, "\n"), "ferrule check", "ferrule check --level 10"))
			assert.Contains(t, out, "Hello, Ada!")
			assert.Contains(t, out, "; 0 errors, 0 warnings (--level 10 ")
			assert.NotContains(t, out, "warning:", "of a compiler")
			about, err := loader.Inspect(filepath.Join(dir, p.Library))
			require.NoError(t, err)
			assert.Equal(t, inspect.Wasm, about.Format)
			assert.Equal(t, "greeter-1", about.Manifest.Name)

			if lang == "rust" {
				out = shell(t, dir, "cargo test --release --locked\nsh test.sh "+p.Library)
				assert.Contains(t, out, "test tests::greets ... ok")
			} else {
				shell(t, dir, "make test\nmake\nmake clean")
				assert.NoFileExists(t, filepath.Join(dir, p.Library))
			}
		})
	}
}

// A plug-in's own test finds what is wrong with it.
func TestNewTestCanFail(t *testing.T) {
	need(t, "c")
	dir := filepath.Join(t.TempDir(), "greeter")
	_, stderr, code := ferrule(t, "", "new", "--lang", "c", dir)
	require.Equal(t, 0, code, stderr)
	source := filepath.Join(dir, "src", "greeting.c")
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(source, []byte(strings.Replace(string(text), `"Hello, "`, `"Howdy, "`, 1)), 0o666))

	out, err := inShell(t, dir, "make test").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "test_greeting", "which test it is")
	assert.NotContains(t, string(out), "test.sh: ", "the tests of what it does come first")
	out, err = inShell(t, dir, "sh test.sh "+made(t, "c", "greeter").Library).CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "test.sh: greet of 'Ada': found 'Howdy, Ada!', expected 'Hello, Ada!'")

	require.NoError(t, os.WriteFile(source, text, 0o666))
	cmd := inShell(t, dir, "make test FERRULE=no-such-command")
	out, err = cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "no-such-command is missing: go install github.com/ferrule-dev/ferrule/cmd/ferrule@latest")
}

// A second file is built and linked, a name that nothing defines fails when linking, and the library is hardened.
func TestNewSecondFile(t *testing.T) {
	for _, lang := range []string{"c", "cpp"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			need(t, lang)
			p := made(t, lang, "greeter")
			shell(t, p.Dir, "make")
			write := func(name, text string) {
				f, err := os.OpenFile(filepath.Join(p.Dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
				require.NoError(t, err)
				_, err = f.WriteString(text)
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
			write("helper."+lang, "#include \"helper.h\"\nint helper(void) { return 3 + elsewhere; }\n")
			write("helper.h", "enum { elsewhere = 0 };\nint helper(void);\n")
			write("greeter."+lang, "\n#include \"helper.h\"\nFERRULE_FN(three) { return ferrule_replyf(call, \"%d\", helper()); }\n")
			shell(t, p.Dir, "make")
			library := filepath.Join(p.Dir, p.Library)
			three := func() string {
				stdout, stderr, code := ferrule(t, "", "call", library, "three", "--in", "")
				require.Zero(t, code, stderr)
				return stdout
			}
			assert.Equal(t, "3", three())
			stdout, _, _ := ferrule(t, "", "check", "--only", "symbols", library)
			assert.Contains(t, stdout, "0 errors, 0 warnings", "the helper is not exported")

			write("helper.h", "#define elsewhere 1\n") // a header is a source, too
			shell(t, p.Dir, "make")
			assert.Equal(t, "4", three())

			lib, err := loader.Inspect(library)
			require.NoError(t, err)
			if lib.Format == inspect.ELF {
				assert.Equal(t, inspect.RELROFull, lib.Hardening.RELRO)
				assert.True(t, lib.Hardening.BindNow)
			}

			write("greeter."+lang, "int nobody_defines(void);\nFERRULE_FN(f) { return nobody_defines(); }\n")
			out, err := inShell(t, p.Dir, "make").CombinedOutput()
			require.Error(t, err, "%s", out)
			assert.Contains(t, string(out), "nobody_defines")
		})
	}
}

// A source that has the name of the build file, or of a target, does not confuse make.
func TestNewNamesOfMake(t *testing.T) {
	for _, lang := range []string{"c", "cpp"} {
		need(t, lang)
		for _, name := range []string{"Makefile", "test", "wasm"} {
			for _, options := range [][]string{nil, {"--wasm"}} {
				p := made(t, lang, name, options...)
				shell(t, p.Dir, "make -n && make -n test && make -n clean") // with -n, too, it makes the build file anew
				module := shell(t, p.Dir, "make -n wasm "+languages[lang].Flags+"=-march=native")
				assert.Contains(t, module, "-o "+name+".wasm ")
				assert.NotContains(t, module, "-march=native", "what is for this processor")
			}
		}
	}
	p := made(t, "c", "Makefile")
	shell(t, p.Dir, "make")
	assert.FileExists(t, filepath.Join(p.Dir, p.Library))
}

// The plug-ins compile without a warning of either compiler, and cargo's formatter leaves the package as it is.
func TestNewIsTidy(t *testing.T) {
	for compiler, lang := range map[string]string{"gcc": "c", "clang": "c", "g++": "cpp", "clang++": "cpp"} {
		t.Run(compiler, func(t *testing.T) {
			need(t, lang)
			fixture.Tool(t, compiler, "apt-get install gcc g++ clang")
			p := made(t, lang, "greeter")
			dir := p.Dir
			l := languages[lang]
			shell(t, dir, "make "+p.Library+" tests/run "+l.Compiler+"="+compiler+" "+l.Flags+"='-O2 -Wall -Wextra -pedantic -Werror'")
		})
	}
	t.Run("cargo fmt", func(t *testing.T) {
		need(t, "rust")
		fixture.Tool(t, "rustfmt", "rustup component add rustfmt")
		shell(t, made(t, "rust", "greeter").Dir, "cargo fmt --check")
	})
}

// What a plug-in gets of the SDK is what the SDK has.
func TestNewCopies(t *testing.T) {
	same := func(dir, name, original string) {
		want, err := os.ReadFile(filepath.Join(fixture.Root(), filepath.FromSlash(original)))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
	for _, lang := range []string{"c", "cpp"} {
		dir := made(t, lang, "greeter").Dir
		same(dir, "include/ferrule.h", "include/ferrule.h")
		same(dir, "include/ferrule/sdk.h", "sdk-c/include/ferrule/sdk.h")
		same(dir, "include/ferrule/sdk.hpp", "sdk-c/include/ferrule/sdk.hpp")
		same(dir, "include/LICENSE", "LICENSE")
	}

	p := made(t, "go", "greeter")
	copied := 0
	for _, name := range p.Files {
		if of, ok := strings.CutPrefix(name, "sdk/"); ok && of != "LICENSE" {
			same(p.Dir, name, "sdk-go/"+of)
			copied++
		}
	}
	assert.Greater(t, copied, 15)
	same(p.Dir, "sdk/LICENSE", "LICENSE")

	p = made(t, "rust", "greeter")
	same(p.Dir, "vendor/LICENSE", "LICENSE")
	sources := 0
	for _, crate := range []string{"ferrule", "ferrule-macros"} {
		same(p.Dir, "vendor/"+crate+"/Cargo.toml", "sdk-rust/"+crate+"/Cargo.toml")
		files, err := filepath.Glob(filepath.Join(fixture.Root(), "sdk-rust", crate, "src", "*.rs"))
		require.NoError(t, err)
		for _, file := range files {
			name := crate + "/src/" + filepath.Base(file)
			same(p.Dir, "vendor/"+name, "sdk-rust/"+name)
			sources++
		}
	}
	assert.Greater(t, sources, 10)
	same(p.Dir, "vendor/ferrule/build.rs", "sdk-rust/ferrule/build.rs")
	manifest, err := os.ReadFile(filepath.Join(p.Dir, "Cargo.toml"))
	require.NoError(t, err)
	assert.Regexp(t, `ferrule-plugin = \{ version = "\d+\.\d+\.\d+", default-features = false \}`, string(manifest))
}

// --json names the files that are there, and the README has the same three commands as the usage.
func TestNewJSON(t *testing.T) {
	for _, c := range [][]string{{"c"}, {"cpp"}, {"rust"}, {"c", "--wasm"}, {"cpp", "--wasm"}, {"rust", "--wasm"}, {"js"}, {"python"}, {"go"}, {"go", "--wasm"}} {
		lang := c[0]
		p := made(t, lang, "greeter", c[1:]...)
		var there []string
		require.NoError(t, filepath.WalkDir(p.Dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(p.Dir, path)
				there = append(there, filepath.ToSlash(name))
			}
			return err
		}))
		slices.Sort(there)
		assert.Equal(t, there, p.Files)
		assert.Equal(t, "greeter", p.Name)
		assert.Equal(t, lang, p.Lang)
		assert.Equal(t, len(c) > 1, p.Wasm)

		readme, err := os.ReadFile(filepath.Join(p.Dir, "README.md"))
		require.NoError(t, err)
		want := "```sh\nferrule new --lang " + strings.Join(c, " ") + " greeter\n" +
			strings.ReplaceAll(strings.Join(p.Next[:len(p.Next)-1], "\n"), filepath.ToSlash(p.Dir), "greeter") + "\n```"
		assert.Contains(t, string(readme), want)
		for _, name := range there {
			text, err := os.ReadFile(filepath.Join(p.Dir, filepath.FromSlash(name)))
			require.NoError(t, err)
			if !strings.HasPrefix(name, "vendor/") {
				assert.NotRegexp(t, `(\{\{|\[\[)(\.|-|if|range|else|end)`, string(text), name)
				assert.NotContains(t, string(text), "NAME.", name)
			}
		}
	}
}

func TestNewNames(t *testing.T) {
	for name, langs := range map[string]string{ // the languages that take it
		"greeter": "c cpp rust", "_x": "c cpp rust", "word-count": "c cpp rust", "A1": "c cpp rust", "fn": "c cpp rust",
		"a.b": "c cpp", "7zip": "c cpp", "syn": "c cpp", "ferrule": "c cpp", "ferrule_plugin": "c cpp", "ferrule-plugin-macros": "c cpp", "std": "c cpp",
		strings.Repeat("n", 128): "c cpp", strings.Repeat("n", 129): "",
		"two words": "", "-flag": "", "a/b": "", "naïve": "", ".": "", "..": "", "Makefile": "c cpp rust", "test": "c cpp", strings.Repeat("n", 64): "c cpp rust", strings.Repeat("n", 65): "c cpp", "a;b": "", "a\nb": "",
	} {
		for _, lang := range []string{"c", "cpp", "rust"} {
			dir := filepath.Join(t.TempDir(), "made")
			_, stderr, code := ferrule(t, "", "new", "--lang", lang, "--name="+name, dir)
			if slices.Contains(strings.Fields(langs), lang) {
				assert.Equal(t, 0, code, "%s %q: %s", lang, name, stderr)
			} else {
				assert.Equal(t, 2, code, "%s %q", lang, name)
				assert.Contains(t, stderr, "found the name ")
				assert.Contains(t, stderr, "Choose another with --name.\n")
				assert.NoDirExists(t, dir)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--lang", "c", dir, "--name", "n"}, "found \"file\" in " + dir + ", expected an empty folder, or one to be made"},
		{[]string{"--lang", "c", file}, "found a file at " + file + ", expected an empty folder"},
		{[]string{filepath.Join(dir, "new")}, "found no language, expected c, cpp, go, rust, python or js. Add --lang c, --lang cpp, --lang go or --lang rust; or --lang python, or js, for a plug-in that is a script"},
		{[]string{"c", "foo"}, "found 2 arguments: c foo, expected --lang LANGUAGE DIR. Write ferrule new --lang c foo."},
		{[]string{"foo", "bar"}, "found 2 arguments: foo bar, expected DIR"},
		{[]string{"--lang", "c", "--sidecar", filepath.Join(dir, "new")}, "found --sidecar with --lang c, expected it with python, js or go"},
		{[]string{"--lang", "zig", filepath.Join(dir, "new")}, `found the language "zig", expected c, cpp, go, rust, python or js`},
		{[]string{"--lang", "go", filepath.Join(dir, "_new")}, `found the name "_new", which Go builds nothing in a folder of, expected a letter or a digit first`},
		{[]string{"--lang", "go", "--wasm", "--sidecar", filepath.Join(dir, "new")}, "found --wasm and --sidecar, expected one of them"},
		{[]string{"--lang", "c", filepath.Join(dir, "my plugin")}, "Choose another with --name, such as --name my-plugin.\n"},
		{[]string{"--lang", "rust", filepath.Join(dir, "7.zip")}, "Choose another with --name, such as --name plugin-7-zip.\n"},
		{[]string{"--lang", "c", ""}, "found an empty DIR (is a variable not set?), expected ferrule new DIR"},
		{[]string{"--lang", "c"}, "found no DIR on the command line, expected ferrule new DIR"},
		{[]string{"--lang", "c", "--colour", filepath.Join(dir, "new")}, "found --colour, expected an option of ferrule new"},
	} {
		stdout, stderr, code := ferrule(t, "", append([]string{"new"}, test.args...)...)
		assert.Equal(t, 2, code, test.args)
		assert.Contains(t, stderr, test.want)
		assert.Contains(t, stderr, "See 'ferrule new --help'.")
		assert.Empty(t, stdout)
	}
	found, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, found, 1, "nothing was made")

	// What cannot be made, and what cannot be looked at.
	for _, at := range []string{filepath.Join(file, "below"), filepath.Join(file, "far", "below"), "/proc/x"} {
		if strings.HasPrefix(at, "/proc") && runtime.GOOS != "linux" {
			continue
		}
		stdout, stderr, code := ferrule(t, "", "new", "--lang", "c", "--json", at)
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, stderr, "ferrule: found the folder "+at+", where this cannot be done: ")
		assert.Contains(t, stderr, ", expected an empty folder, or one to be made. Name another folder")
		var got struct{ Error errorDetails }
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		assert.Equal(t, "the command line is wrong", got.Error.Kind)
		assert.Contains(t, got.Error.Remedy, "Name another folder")
	}
}

// The folder in which the command runs has no name in what is said, and the commands to go on with work from there.
func TestNewHere(t *testing.T) {
	need(t, "c")
	dir := filepath.Join(t.TempDir(), "here")
	require.NoError(t, os.Mkdir(dir, 0o777))
	out := shell(t, dir, "ferrule new --lang c .")
	said, commands, found := strings.Cut(out, "\n\n")
	require.True(t, found, out)
	assert.Equal(t, "Made here, a plug-in in C, in this folder. Go on with", said)
	assert.Contains(t, shell(t, dir, commands), "Hello, Ada!")
	text, err := inShell(t, dir, "ferrule new --lang c .").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(text), " in this folder, expected an empty folder, or one to be made. Name another folder.\n")
}

// An empty folder that is there is used, and one within a cargo workspace is a workspace of its own.
func TestNewInAFolderThatIsThere(t *testing.T) {
	need(t, "rust")
	dir := filepath.Join(t.TempDir(), "inner")
	require.NoError(t, os.Mkdir(dir, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "..", "Cargo.toml"), []byte("[workspace]\nmembers = []\n"), 0o666))
	shell(t, dir, "ferrule new --lang rust .\ncargo metadata --format-version 1 --locked >metadata")
	metadata, err := os.ReadFile(filepath.Join(dir, "metadata"))
	require.NoError(t, err)
	var found struct {
		Members []string `json:"workspace_members"`
	}
	require.NoError(t, json.Unmarshal(metadata, &found))
	require.Len(t, found.Members, 1)
	assert.Contains(t, found.Members[0], "inner")
}

// made makes a plug-in, with these options too, and returns what `ferrule new --json` says of it.
func made(t *testing.T, lang, name string, options ...string) plugin {
	t.Helper()
	stdout, stderr, code := ferrule(t, "", append([]string{"new", "--json", "--lang", lang, filepath.Join(t.TempDir(), name)}, options...)...)
	require.Equal(t, 0, code, stderr)
	var p plugin
	require.NoError(t, json.Unmarshal([]byte(stdout), &p))
	return p
}

func openCall(t *testing.T, library, in string) (string, error) {
	t.Helper()
	p, err := loader.Open(library)
	require.NoError(t, err)
	defer func() { assert.NoError(t, p.Close()) }()
	out, err := p.Call(t.Context(), "greet", []byte(in))
	return string(out), err
}

func need(t *testing.T, lang string) {
	t.Helper()
	fixture.Tool(t, "sh", "on Windows see https://gitforwindows.org")
	for _, tool := range needed[lang] {
		fixture.Tool(t, tool[0], tool[1])
	}
}

// needModules is need for WebAssembly modules: what builds those of the tests builds those of a new plug-in.
func needModules(t *testing.T, lang string) {
	t.Helper()
	need(t, lang)
	switch lang {
	case "c":
		fixture.WasmC(t, "echo")
	case "cpp":
		fixture.WasmSDK(t, "noexceptions.cpp")
	case "rust":
		fixture.WasmRust(t, "fixture-echo")
	}
}

// shell runs commands in a folder, with the command ferrule in the path, and returns what they print.
func shell(t *testing.T, dir, commands string) string {
	t.Helper()
	out, err := inShell(t, dir, commands).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func inShell(t *testing.T, dir, commands string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	cmd.Dir = dir
	path := filepath.Dir(binary) + string(os.PathListSeparator) + os.Getenv("PATH")
	cmd.Env = append(os.Environ(), "PATH="+path, "CARGO_TERM_COLOR=never")
	return cmd
}

// A plug-in that is a program is there at once: it is called, and passes, by the commands that new prints.
func TestNewSidecar(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing there starts a script by itself")
	}
	for lang, script := range map[string]string{"python": "greeter-1.py", "js": "greeter-1.js"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			if lang == "python" {
				fixture.Python(t)
			} else {
				fixture.Tool(t, "node", "apt-get install nodejs")
			}
			dir := filepath.Join(t.TempDir(), "two words", "greeter-1")
			stdout, stderr, code := ferrule(t, "", "new", "--json", "--sidecar", "--lang", lang, dir)
			require.Equal(t, 0, code, stderr)
			var p plugin
			require.NoError(t, json.Unmarshal([]byte(stdout), &p))
			assert.True(t, p.Sidecar)
			assert.Equal(t, script, p.Library)
			assert.Equal(t, []string{"README.md", script}, p.Files)
			require.Len(t, p.Next, 2)
			out := shell(t, ".", strings.ReplaceAll(strings.Join(p.Next, "\n"), "ferrule check", "ferrule check --strict --timeout 60s"))
			assert.Contains(t, out, "Hello, Ada!")
			assert.Contains(t, out, "; 0 errors, 0 warnings (--level 8 ")
			text, err := os.ReadFile(filepath.Join(dir, "README.md"))
			require.NoError(t, err)
			assert.Contains(t, string(text), "ferrule new --lang "+lang+" --sidecar greeter-1\nferrule call --sidecar greeter-1/"+script+" greet --in Ada\n")
		})
	}
	_, stderr, code := ferrule(t, "", "new", "--lang", "js", "--wasm", filepath.Join(t.TempDir(), "x"))
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "--wasm with --lang js")
}

// A script is there at once: it is called, and passes, by the commands that new prints, and by its own test, which finds what is wrong with it.
func TestNewScript(t *testing.T) {
	for lang, script := range map[string]string{"python": "greeter-1.py", "js": "greeter-1.js"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			fixture.Tool(t, "sh", "on Windows see https://gitforwindows.org")
			if lang == "python" {
				needPython(t)
			}
			dir := filepath.Join(t.TempDir(), "two words", "greeter-1")
			stdout, stderr, code := ferrule(t, "", "new", "--json", "--lang", lang, dir)
			require.Equal(t, 0, code, stderr)
			var p plugin
			require.NoError(t, json.Unmarshal([]byte(stdout), &p))
			assert.False(t, p.Sidecar)
			assert.Equal(t, script, p.Library)
			assert.Equal(t, []string{".github/workflows/release.yml", ".gitignore", "README.md", script, "test.sh"}, p.Files)
			out := shell(t, ".", strings.ReplaceAll(strings.Join(p.Next, "\n"), "ferrule check", "ferrule check --strict --level 10 --timeout 60s"))
			assert.Contains(t, out, "Hello, Ada!")
			assert.Contains(t, out, "; 0 errors, 0 warnings (--level 10 ")
			about, err := loader.Inspect(filepath.Join(dir, script))
			require.NoError(t, err)
			assert.Equal(t, "greeter-1", about.Manifest.Name)
			require.Len(t, about.Funcs, 1)
			assert.Equal(t, "Greets whoever the input names.", about.Funcs[0].Doc)

			shell(t, dir, "sh test.sh "+script)
			text, err := os.ReadFile(filepath.Join(dir, script))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, script), []byte(strings.Replace(string(text), "Hello, ", "Howdy, ", 1)), 0o666))
			failed, err := inShell(t, dir, "sh test.sh "+script).CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(failed), "test.sh: greet of 'Ada': found 'Howdy, Ada!', expected 'Hello, Ada!'")
		})
	}
}

// A plug-in in Go is built, called and checked by the commands that new prints, in each form, and passes its own tests; what `ferrule gen` writes is there already.
func TestNewGo(t *testing.T) {
	need(t, "go")
	for _, options := range [][]string{nil, {"--wasm"}, {"--sidecar"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "two words", "greeter-1")
			stdout, stderr, code := ferrule(t, "", append([]string{"new", "--json", "--lang", "go", dir}, options...)...)
			require.Equal(t, 0, code, stderr)
			var p plugin
			require.NoError(t, json.Unmarshal([]byte(stdout), &p))
			require.Len(t, p.Next, 3)
			out := shell(t, ".", strings.ReplaceAll(strings.Join(p.Next, "\n"), "ferrule check", "ferrule check --strict --timeout 60s"))
			assert.Contains(t, out, "Hello, Ada!")
			assert.Contains(t, out, "; 0 errors, 0 warnings (--level 8 ")
			if len(options) == 0 || p.Wasm {
				about, err := loader.Inspect(filepath.Join(dir, p.Library))
				require.NoError(t, err)
				assert.Equal(t, "greeter-1", about.Manifest.Name)
				assert.Equal(t, "0.1.0", about.Manifest.Version)
				require.Len(t, about.Funcs, 1)
				assert.Equal(t, "Greet greets whoever the input names.", about.Funcs[0].Doc)
				assert.Equal(t, "text/plain; charset=utf-8", about.Funcs[0].In)
			}
			out = shell(t, dir, "make test")
			assert.Contains(t, out, "ok  \texample.com/greeter1")
			assert.Contains(t, out, "0 errors, 0 warnings")

			// Its test finds what is wrong with it.
			source := filepath.Join(dir, "greeter1.go")
			text, err := os.ReadFile(source)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(source, []byte(strings.Replace(string(text), "Hello, ", "Howdy, ", 1)), 0o666))
			failed, err := inShell(t, dir, "make test").CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(failed), `Greet("Ada"): found "Howdy, Ada!", expected "Hello, Ada!"`)
			shell(t, dir, "make clean")
			assert.NoFileExists(t, filepath.Join(dir, p.Library))
		})
	}
}

// Whatever a plug-in in Go is called, its package builds, and `ferrule gen` would write what is there.
func TestNewGoNames(t *testing.T) {
	need(t, "go")
	for _, name := range []string{"sidecar", "main", "go", "string", "v2", "2-times", "my_test", "x_linux", "Makefile", "a.b", "test", "Q", "internal"} {
		p := made(t, "go", name)
		shell(t, p.Dir, "ferrule gen --check\ngo vet ./...\ngo test ./...\nGOOS=wasip1 GOARCH=wasm go vet ./...")
	}
}
