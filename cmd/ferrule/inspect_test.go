package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// committed is the path of a library for another platform, from the data of package inspect's tests.
func committed(name string) string {
	return filepath.Join(fixture.Root(), "loader", "inspect", "testdata", name)
}

// compiled is the path of a plug-in made of a C source, which ferrule.h is put before.
func compiled(t *testing.T, source string, flags ...string) string {
	t.Helper()
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "plugin.c"), filepath.Join(dir, "plugin"+fixture.Ext())
	require.NoError(t, os.WriteFile(from, []byte("#include \"ferrule.h\"\n"+source), 0o600))
	include := filepath.Join(fixture.Root(), "include")
	args := append([]string{"-shared", "-fPIC", "-I", include, "-o", to, from}, flags...)
	out, err := exec.Command(fixture.Tool(t, cc, "apt-get install gcc"), args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return to
}

// badFiles are files that are no plug-ins, with what an error says of each.
func badFiles(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	whole, err := os.ReadFile(fixture.C(t, "echo"))
	require.NoError(t, err)
	return map[string]string{
		file("text.so", []byte("this is no library\n")): "not a shared library: found a text file",
		file("empty.so", nil):                           "not a shared library: found an empty file",
		file("truncated.so", whole[:len(whole)/2]):      "the file is truncated",
		t.TempDir():                                         "not a regular file: found a folder with no library in it", // with no library
		filepath.Join(dir, "missing.so"):                    "Check the path",
		fixture.C(t, "no_manifest"):                         "not a Ferrule plug-in",
		fixture.C(t, "manifest_newer_major"):                "found ferrule=2, expected ferrule=1",
		fixture.C(t, "manifest_without_end"):                "(rule R1)",
		file("script.so", []byte("#!/bin/sh\nexit 0\n")):    "found a script",
		file("archive.so", []byte("!<arch>\nlib.o/  \n")):   "an archive of object files",
		file("almost.so", []byte("\x7fELF\x02\x01\x01pad")): "the file is truncated",
	}
}

// Of a folder the libraries are described.
func TestInspectFolder(t *testing.T) {
	dir := t.TempDir()
	for from, name := range map[string]string{fixture.C(t, "echo"): "a.so", fixture.C(t, "state"): "b.DLL"} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.so"), 0o700))
	stdout, stderr, code := ferrule(t, "", "inspect", dir)
	require.Zero(t, code, stderr)
	assert.Regexp(t, `(?s)^echo 1\.2\.3 .*\nstate `, stdout)
}

func TestInspect(t *testing.T) {
	path := fixture.C(t, "echo")
	stdout, stderr, code := ferrule(t, "", "inspect", path)
	require.Zero(t, code, stderr)
	assert.Empty(t, stderr)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	for _, want := range []string{
		"echo 1.2.3  " + path + "\n",
		"\n  Answers in every way there is\n",
		"\n  contract   1\n", "\n  threads    concurrent\n", "\n  also has   batch\n",
		"\n  platform   " + runtime.GOOS + "/" + runtime.GOARCH + ", ",
		"\n  sha256     " + hex.EncodeToString(sum[:]) + "\n",
		"\n  x-colour   blue\n",
		"\n  functions\n    echo  application/octet-stream -> application/octet-stream\n      Returns its input.\n" +
			"    echo_own\n",
		"\n  hooks\n    before_echo\n      Says that it was called.\n",
	} {
		assert.Contains(t, stdout, want)
	}
	assert.NotContains(t, stdout, "\x1b", "no colours where no terminal is")
}

// object reads one JSON object.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	var o map[string]any
	require.NoError(t, d.Decode(&o), text)
	require.ErrorIs(t, d.Decode(&o), io.EOF, "one object only")
	return o
}

// TestInspectJSON pins the names of the fields: scripts rely on them.
func TestInspectJSON(t *testing.T) {
	path := committed("elf-amd64-gcc.so")
	stdout, stderr, code := ferrule(t, "", "inspect", "--json", path)
	require.Zero(t, code, stderr)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	meta := func(doc string) map[string]any { return map[string]any{"doc": doc} }
	assert.Equal(t, map[string]any{
		"file": path, "name": "probe", "version": "1.2.3", "abi": 1.0, "threads": "concurrent",
		"description": "One of everything.",
		"keys": map[string]any{"ferrule": "1", "name": "probe", "version": "1.2.3", "threads": "concurrent",
			"description": "One of everything.", "x-color": "blue"},
		"functions": []any{map[string]any{"name": "add"}, map[string]any{"name": "count", "doc": "Counts things.",
			"in": "text/plain", "out": "application/json", "schema": `{"type":"integer"}`,
			"keys": map[string]any{"doc": "Counts things.", "in": "text/plain", "out": "application/json",
				"schema": `{"type":"integer"}`, "x-cost": "low"}}},
		"hooks": []any{map[string]any{"name": "before_checkout", "doc": "Runs before a cart is paid.",
			"keys": meta("Runs before a cart is paid.")}},
		"imports": []any{map[string]any{"name": "Zone"}, map[string]any{"name": "points",
			"doc": "The customer's points.", "keys": meta("The customer's points.")}},
		"wants": []any{}, "start": true, "stop": true, "batch": true, "configure": false, "save": false, "resume": false,
		"reserved": []any{"ferrule_future", "ferrule_meta_fn_nothing"},
		"format":   "ELF", "os": "linux", "arch": "amd64", "machine": "x86-64 (EM 62)", "slices": []any{"amd64"},
		"cLibrary": "glibc", "exports": 15.0, "staticTLS": false,
		"needed": []any{"libc.so.6"}, "soname": "libprobe.so", "runpath": []any{"/opt/probe", "$ORIGIN"},
		"hardening": map[string]any{"relro": "partial", "bindNow": false, "textRel": false, "execStack": false,
			"writeExec": false, "aslr": true},
		"size": float64(len(data)), "sha256": hex.EncodeToString(sum[:]),
	}, object(t, stdout))
}

// TestInspectAnyPlatform: the same facts of libraries for other systems, nothing of which could run here.
func TestInspectAnyPlatform(t *testing.T) {
	for file, want := range map[string][]string{
		"elf-arm64-gcc.so":  {"linux/arm64, ELF, AArch64", "partial RELRO, bound lazily, NX stack, any address"},
		"elf-amd64-rust.so": {"linux/amd64, ELF", "full RELRO, bound at load, NX stack"},
		"elf-mips-clang.so": {"linux/mips, ELF", "no RELRO"},
		"pe-arm64-lld.dll": {"windows/arm64, PE", "needs      now.dll, later.dll",
			"no control flow guard, not signed"},
		"macho-fat-lipo.dylib":    {"darwin/", "slices       amd64, arm64 (", "search path  @loader_path"},
		"elf-s390x-sysv.so":       {"linux/s390x, ELF, S/390"},
		"elf-amd64-freebsd.so":    {"freebsd/amd64"},
		"pe-amd64-mingw.dll":      {"windows/amd64", "64-bit addresses"},
		"macho-amd64-clang.dylib": {"darwin/amd64, Mach-O", "not signed"},
	} {
		stdout, stderr, code := ferrule(t, "", "inspect", committed(file))
		require.Zero(t, code, "%s: %s", file, stderr)
		for _, part := range append(want, "probe 1.2.3", "count  text/plain -> application/json", "x-cost low") {
			assert.Contains(t, stdout, part, file)
		}
	}
	stdout, _, code := ferrule(t, "", "inspect", "--json", committed("macho-fat-lipo.dylib"))
	require.Zero(t, code)
	assert.Equal(t, []any{"amd64", "arm64"}, object(t, stdout)["slices"])

	stdout, _, code = ferrule(t, "", "inspect", fixture.Go(t))
	require.Zero(t, code)
	assert.Regexp(t, `\n  Go runtime +go\d`, stdout)
}

func TestInspectHardening(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the options are those of the GNU linker")
	}
	const source = `FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));`
	stdout, _, code := ferrule(t, "", "inspect", compiled(t, source, "-Wl,-z,execstack", "-Wl,-z,norelro"))
	require.Zero(t, code)
	assert.Contains(t, stdout, "no RELRO, bound")
	assert.Contains(t, stdout, "EXECUTABLE STACK")
	stdout, _, code = ferrule(t, "", "inspect", compiled(t, source, "-Wl,-z,relro,-z,now"))
	require.Zero(t, code)
	assert.Contains(t, stdout, "full RELRO, bound at load, NX stack")
}

// TestInspectForTerminals: what a library says of itself does not steer the terminal.
func TestInspectForTerminals(t *testing.T) {
	path := compiled(t, `
		FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1\x1b[31m") FERRULE_KEY("x", "a\nname: other"));
		FERRULE_FN(f) { return 0; }
		FERRULE_FN_META(f, FERRULE_DOC("one\ntwo\r\x07\xe2\x80\xae!"));`)
	stdout, _, code := ferrule(t, "", "inspect", path)
	require.Zero(t, code)
	assert.Contains(t, stdout, `p 1\x1b[31m`)
	assert.Contains(t, stdout, `a\nname: other`)
	assert.Contains(t, stdout, "      one\n      two\\x0d\\x07\\u{202e}!\n")
}

func TestInspectBadFiles(t *testing.T) {
	for path, want := range badFiles(t) {
		stdout, stderr, code := ferrule(t, "", "inspect", path)
		assert.Equal(t, 3, code, path)
		library := strings.Contains(path, "manifest") // of a library that is no plug-in the rest is said
		assert.Equal(t, library, strings.Contains(stdout, "\n  hardening  "), path)
		assert.Equal(t, library, stdout != "", path)
		assert.Contains(t, stderr, want)
		assert.Contains(t, stderr, path)

		stdout, _, code = ferrule(t, "", "inspect", "--json", path)
		assert.Equal(t, 3, code, path)
		o := object(t, stdout)
		assert.Equal(t, path, o["file"])
		assert.Contains(t, o["error"].(map[string]any)["text"], want)
		assert.NotContains(t, o, "name")
		assert.Equal(t, library, o["os"] != nil, path)
	}
	stdout, stderr, code := ferrule(t, "", "inspect")
	assert.Equal(t, 2, code)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "See 'ferrule inspect --help'.")
}

// TestInspectAnyLibrary: what every library has is said of one that is no plug-in, too.
func TestInspectAnyLibrary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the library is made with the options of the GNU linker")
	}
	path := compiled(t, `#include <math.h>
		#include <stdlib.h>
		__thread int counter __attribute__((tls_model("initial-exec")));
		double answer(double x) { counter++; free(malloc(3)); return pow(x, x); }`, "-Wl,--no-as-needed", "-lm", "-fPIC")
	stdout, stderr, code := ferrule(t, "", "inspect", path)
	assert.Equal(t, 3, code)
	assert.Contains(t, stderr, "not a Ferrule plug-in")
	assert.Contains(t, stdout, filepath.Base(path)+", not a Ferrule plug-in  "+path+"\n")
	assert.Regexp(t, `\n  C library +glibc, version 2\.\d+(\.\d+)? or newer\n`, stdout)
	assert.Regexp(t, `\n  exports +[1-9]\d* names\n`, stdout)
	assert.Contains(t, stdout, "\n  static TLS  yes")
	assert.NotContains(t, stdout, "contract")
	echo := fixture.C(t, "echo")
	stdout, stderr, code = ferrule(t, "", "inspect", path, echo)
	assert.Equal(t, 3, code)
	assert.Contains(t, stdout, "\n\necho 1.2.3  ")
	assert.Contains(t, stderr, "not plug-ins: 1 of 2 files")
	stdout, _, code = ferrule(t, "", "inspect", "--json", path)
	assert.Equal(t, 3, code)
	o := object(t, stdout)
	assert.Equal(t, "not a Ferrule plug-in", o["error"].(map[string]any)["kind"])
	assert.Equal(t, []any{"glibc", true, "linux"}, []any{o["cLibrary"], o["staticTLS"], o["os"]})
	for _, field := range []string{"name", "functions", "abi", "start"} {
		assert.NotContains(t, o, field)
	}

	stdout, _, _ = ferrule(t, "", "inspect", committed("macho-amd64-clang.dylib"))
	assert.Regexp(t, `\n  system +macOS 11\.0 or newer\n`, stdout)
	stdout, _, _ = ferrule(t, "", "inspect", committed("pe-arm64-lld.dll"))
	assert.Regexp(t, `\n  system +Windows 6\.0 or newer\n`, stdout)
}

// TestInspectSeveral: each file is described, whatever the others are.
func TestInspectSeveral(t *testing.T) {
	echo, state, missing := fixture.C(t, "echo"), fixture.C(t, "state"), filepath.Join(t.TempDir(), "missing")
	stdout, stderr, code := ferrule(t, "", "inspect", missing, echo, state)
	assert.Equal(t, 3, code)
	assert.True(t, strings.HasPrefix(stdout, "echo 1.2.3"), stdout)
	assert.Contains(t, stdout, "\n\nstate 1.0.0  ")
	assert.Contains(t, stderr, missing)
	assert.Contains(t, stderr, "not plug-ins: 1 of 3 files")

	stdout, _, code = ferrule(t, "", "inspect", "--json", echo, missing, state)
	assert.Equal(t, 3, code)
	var files []string
	for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
		var o struct {
			File  string
			Name  string
			Error *struct{ Kind string }
		}
		require.NoError(t, d.Decode(&o))
		files = append(files, o.File)
		if o.File == missing {
			assert.Equal(t, "the file cannot be read", o.Error.Kind)
		} else {
			assert.NotEmpty(t, o.Name)
		}
	}
	assert.Equal(t, []string{echo, missing, state}, files)
}

// versionOne is what the versions in TestDiff are compared with.
const versionOne = `FERRULE_PLUGIN(FERRULE_NAME("shop") FERRULE_VERSION("1") FERRULE_THREADS("concurrent"));
	FERRULE_IMPORT(points);
	FERRULE_FN(total) { return 0; }
	FERRULE_FN_META(total, FERRULE_DOC("The sum.") FERRULE_IN("application/json") FERRULE_SCHEMA("{}"));
	FERRULE_FN(plain) { return 0; }
	FERRULE_WANT(cache);
	FERRULE_FN(sum) { return 0; }
	FERRULE_FN_META(sum, FERRULE_STREAM("in"));
	FERRULE_HOOK(before_checkout) { return 0; }
`

func TestDiff(t *testing.T) {
	type found struct{ What, Name, Change, Field string }
	old := compiled(t, versionOne)
	without := strings.Replace(versionOne, "FERRULE_IMPORT(points);", "", 1)
	for _, c := range []struct {
		name     string
		from, to string // in the source; from is "" where to is added
		want     found
		breaking bool
	}{
		{"a function more", "", "FERRULE_FN(more) { return 0; }", found{"function", "more", "added", ""}, false},
		{"a function less", "FERRULE_FN(plain) { return 0; }", "", found{"function", "plain", "removed", ""}, true},
		{"a hook more", "", "FERRULE_HOOK(more) { return 0; }", found{"hook", "more", "added", ""}, false},
		{"a hook less", "FERRULE_HOOK(before_checkout) { return 0; }", "",
			found{"hook", "before_checkout", "removed", ""}, true},
		{"an import more", "", "FERRULE_IMPORT(more);", found{"import", "more", "added", ""}, true},
		{"an import less", "FERRULE_IMPORT(points);", "", found{"import", "points", "removed", ""}, false},
		{"another media type", "application/json", "text/plain", found{"function", "total", "changed", "in"}, true},
		{"no media type", `FERRULE_IN("application/json")`, "", found{"function", "total", "removed", "in"}, true},
		{"a new media type", `FERRULE_SCHEMA("{}")`, `FERRULE_SCHEMA("{}") FERRULE_OUT("text/plain")`,
			found{"function", "total", "added", "out"}, false},
		{"another schema", `"{}"`, `"[]"`, found{"function", "total", "changed", "schema"}, true},
		{"another text", "The sum.", "The total.", found{"function", "total", "changed", "doc"}, false},
		{"serial, with imports", `FERRULE_THREADS("concurrent")`, "", found{"threads", "", "changed", ""}, true},
		{"another name", `"shop"`, `"store"`, found{"name", "", "changed", ""}, true},
		{"another version", `FERRULE_VERSION("1")`, `FERRULE_VERSION("2")`, found{"version", "", "changed", ""}, false},
		{"a key", `FERRULE_VERSION("1")`, `FERRULE_VERSION("1") FERRULE_KEY("license", "MIT")`,
			found{"manifest", "", "added", "license"}, false},
		{"a start", "", "FERRULE_START { return 0; }", found{"export", "ferrule_start", "added", ""}, false},
		{"new settings", "", "FERRULE_CONFIGURE { return 0; }", found{"export", "ferrule_configure", "added", ""}, false},
		{"a want more", "", "FERRULE_WANT(more);", found{"want", "more", "added", ""}, false},
		{"a want less", "FERRULE_WANT(cache);", "", found{"want", "cache", "removed", ""}, false},
		{"another stream", `FERRULE_STREAM("in")`, `FERRULE_STREAM("both")`, found{"function", "sum", "changed", "stream"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := versionOne + c.to
			if c.from != "" {
				require.Contains(t, versionOne, c.from)
				source = strings.Replace(versionOne, c.from, c.to, 1)
			}
			new := compiled(t, source)
			stdout, stderr, code := ferrule(t, "", "inspect", "--json", "--diff", old, new)
			assert.Empty(t, stderr)
			var got struct {
				Old, New struct{ File, Name, Version, SHA256 string }
				Breaking bool
				Changes  []struct {
					found
					Breaking bool
					Why      string
				}
			}
			require.NoError(t, json.Unmarshal([]byte(stdout), &got))
			require.Len(t, got.Changes, 1, stdout)
			assert.Equal(t, c.want, got.Changes[0].found)
			assert.Equal(t, c.breaking, got.Changes[0].Breaking)
			assert.Equal(t, c.breaking, got.Breaking)
			assert.Equal(t, c.breaking, got.Changes[0].Why != "")
			assert.Equal(t, old, got.Old.File)
			assert.Len(t, got.New.SHA256, 64)

			text, _, textCode := ferrule(t, "", "inspect", "--diff", old, new)
			assert.Equal(t, code, textCode)
			if c.breaking {
				assert.Equal(t, 1, code)
				assert.Contains(t, text, "  BREAKING  "+strings.TrimSpace(c.want.What+" "+c.want.Name)+"  ")
				assert.Contains(t, text, "1 change, 1 that could break a host.")
			} else {
				assert.Equal(t, 0, code)
				assert.Contains(t, text, "  ok  "+strings.TrimSpace(c.want.What+" "+c.want.Name)+"  ")
				assert.Contains(t, text, "1 change, nothing that breaks a host.")
			}
		})
	}

	t.Run("nothing", func(t *testing.T) {
		stdout, _, code := ferrule(t, "", "inspect", "--diff", old, old)
		assert.Zero(t, code)
		assert.Equal(t, "shop 1 -> shop 1\nNothing has changed for hosts.\n", stdout)
	})
	t.Run("serial, without imports", func(t *testing.T) {
		serial := strings.Replace(without, `FERRULE_THREADS("concurrent")`, "", 1)
		stdout, _, code := ferrule(t, "", "inspect", "--diff", compiled(t, without), compiled(t, serial))
		assert.Zero(t, code)
		assert.Contains(t, stdout, "concurrent -> serial (calls wait for each other)")
	})
	t.Run("another library", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("the library is one of Linux")
		}
		new := compiled(t, versionOne, "-Wl,--no-as-needed", "-lresolv")
		stdout, _, code := ferrule(t, "", "inspect", "--diff", old, new)
		assert.Equal(t, 1, code)
		assert.Contains(t, stdout, "BREAKING  needed libresolv.so.2  added")
		_, _, code = ferrule(t, "", "inspect", "--diff", new, old)
		assert.Zero(t, code)
		_, _, code = ferrule(t, "", "inspect", "--diff", compiled(t, versionOne, "-Wl,--no-as-needed"), compiled(t, versionOne, "-Wl,--no-as-needed", "-lm"))
		assert.Zero(t, code, "libm is there wherever the C library is")
	})
	t.Run("another platform", func(t *testing.T) {
		fat := committed("macho-fat-lipo.dylib")
		stdout, _, code := ferrule(t, "", "inspect", "--diff", fat, committed("macho-amd64-clang.dylib"))
		assert.Equal(t, 1, code)
		assert.Contains(t, stdout, "BREAKING  architecture arm64  removed")
		stdout, _, code = ferrule(t, "", "inspect", "--diff", committed("macho-amd64-clang.dylib"), fat)
		assert.Zero(t, code, stdout)
		linux, windows := committed("elf-amd64-clang.so"), committed("pe-amd64-mingw.dll")
		stdout, _, code = ferrule(t, "", "inspect", "--diff", linux, windows)
		assert.Equal(t, 1, code)
		assert.Contains(t, stdout, "changed: linux -> windows")
	})
	t.Run("wrong uses", func(t *testing.T) {
		_, stderr, code := ferrule(t, "", "inspect", "--diff", old)
		assert.Equal(t, 2, code)
		assert.Contains(t, stderr, "with --diff, expected two, the old one and the new one")
		missing := filepath.Join(t.TempDir(), "missing")
		for _, pair := range [][]string{{missing, old}, {old, missing}} {
			stdout, stderr, code := ferrule(t, "", "inspect", "--diff", pair[0], pair[1])
			assert.Equal(t, 3, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, missing)
		}
	})
}

func TestTerminal(t *testing.T) {
	assert.False(t, colours(new(bytes.Buffer)))
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, terminal(null), "a device, but no terminal")
}
