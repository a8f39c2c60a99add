package main

import (
	"bytes"
	encoding "encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// TestDiffEveryFact: each fact that inspect has is compared, or is here with the reason why it is not.
func TestDiffEveryFact(t *testing.T) {
	left := map[string]string{
		"description": "it is one of the keys",
		"arch":        "slices has it",
		"machine":     "slices has it, where Go has a word for it",
		"exports":     "what hosts use of them is compared by name",
		"size":        "it is no promise",
		"sha256":      "it is in old and new",
	}
	changed := func(f reflect.Value) reflect.Value {
		other := reflect.New(f.Type()).Elem()
		switch f.Interface().(type) {
		case string:
			other.SetString(f.String() + "9")
		case int, int64:
			other.SetInt(f.Int() + 1)
		case bool:
			other.SetBool(!f.Bool())
		case *bool:
			is := f.IsNil() || !f.Elem().Bool()
			other.Set(reflect.ValueOf(&is))
		case []string:
			other.Set(reflect.ValueOf([]string{"other"}))
		case []symbol:
			other.Set(reflect.ValueOf([]symbol{{Name: "other"}}))
		case map[string]string:
			other.Set(reflect.ValueOf(map[string]string{"other": "1"}))
		default:
			require.Fail(t, "a fact of another kind", "%v", f.Type())
		}
		return other
	}
	fresh := func() *description {
		d, err := describe(committed("elf-amd64-gcc.so"))
		require.NoError(t, err)
		return d
	}
	tried := 0
	var each func(of func(*description) reflect.Value)
	each = func(of func(*description) reflect.Value) {
		for i := range of(fresh()).NumField() {
			field := of(fresh()).Type().Field(i)
			if !field.IsExported() {
				continue
			}
			if field.Type == reflect.TypeFor[*hardening]() {
				each(func(d *description) reflect.Value { return of(d).Field(i).Elem() })
				continue
			}
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			d := fresh()
			of(d).Field(i).Set(changed(of(d).Field(i)))
			found := compare(fresh(), d).Changes
			if left[name] != "" {
				assert.Empty(t, found, "%s is compared", name)
				delete(left, name)
				continue
			}
			assert.NotEmpty(t, found, "nobody compares %s", name)
			tried++
		}
	}
	each(func(d *description) reflect.Value { return reflect.ValueOf(d.pluginFacts).Elem() })
	each(func(d *description) reflect.Value { return reflect.ValueOf(d.libraryFacts).Elem() })
	assert.Empty(t, left, "there is no such fact")
	assert.Greater(t, tried, 30)
}

// TestDiffSystem: a library that cannot be loaded where the one before was breaks hosts.
func TestDiffSystem(t *testing.T) {
	says := func(code int, want, old, new string) {
		t.Helper()
		stdout, stderr, got := ferrule(t, "", "inspect", "--diff", old, new)
		assert.Equal(t, code, got, "%s%s", stdout, stderr)
		assert.Regexp(t, want, stdout)
	}
	windows := func(major, minor uint16) string { // which it needs at least
		data, err := os.ReadFile(committed("pe-amd64-mingw.dll"))
		require.NoError(t, err)
		optional := encoding.LittleEndian.Uint32(data[0x3c:]) + 4 + 20
		encoding.LittleEndian.PutUint16(data[optional+48:], major)
		encoding.LittleEndian.PutUint16(data[optional+50:], minor)
		path := filepath.Join(t.TempDir(), "plugin.dll")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	six, ten := windows(6, 2), windows(10, 0)
	says(exitFailed, `BREAKING  minOS +changed: 6\.2 -> 10\.0 `, six, ten)
	says(exitOK, `ok  minOS +changed: 10\.0 -> 6\.2\n`, ten, six)

	if runtime.GOOS != "linux" {
		t.Skip("the others are made with the options of the GNU linker")
	}
	const linked = versionOne + `void *malloc(unsigned long); void *room(void) { return malloc(1); }` // to the C library
	old := compiled(t, linked)
	power := compiled(t, linked+`double pow(double, double); double answer(double x) { return pow(x, x); }`, "-lm")
	says(exitFailed, `BREAKING  minGlibc +changed: 2\.\d+(\.\d+)? -> 2\.\d+ `, old, power)
	says(exitOK, `ok  minGlibc `, power, old)

	stub := filepath.Join(t.TempDir(), "libc.musl-x86_64.so.1")
	data, err := os.ReadFile(compiled(t, "", "-nostdlib", "-Wl,-soname,libc.musl-x86_64.so.1"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(stub, data, 0o600))
	musl := compiled(t, versionOne, "-nostdlib", "-Wl,--no-as-needed", stub)
	says(exitFailed, `BREAKING  cLibrary +changed: glibc -> musl `, old, musl)
	says(exitFailed, `BREAKING  cLibrary +changed: musl -> glibc `, musl, old)

	local := compiled(t, linked+`static __thread int n __attribute__((tls_model("initial-exec"))); int count(void) { return ++n; }`)
	says(exitFailed, `BREAKING  staticTLS +changed: no -> yes `, old, local)
	says(exitOK, `ok  staticTLS `, local, old)
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		old, new string
		want     bool
	}{
		{"2.14", "2.36", true}, {"2.36", "2.14", false}, {"2.9", "2.14", true}, {"2.2.5", "2.17", true}, {"2.17", "2.17", false}, {"2.17", "2.17.1", true},
		{"", "2.17", true}, {"2.17", "", false}, {"", "", false}, {"6.3", "10.0", true},
	} {
		assert.Equal(t, c.want, newer(c.old, c.new), "%s -> %s", c.old, c.new)
	}
}

func TestSystemLibraries(t *testing.T) {
	for name, c := range map[string]struct {
		format inspect.Format
		want   bool
	}{
		"libc.so.6": {inspect.ELF, true}, "libc.so": {inspect.ELF, true}, "libc.so.7": {inspect.ELF, true}, "libm.so.6": {inspect.ELF, true},
		"libgcc_s.so.1": {inspect.ELF, true}, "ld-linux-x86-64.so.2": {inspect.ELF, true}, "ld-linux-aarch64.so.1": {inspect.ELF, true},
		"ld64.so.2": {inspect.ELF, true}, "ld-musl-aarch64.so.1": {inspect.ELF, true}, "libc.musl-x86_64.so.1": {inspect.ELF, true},
		"libsystemd.so.0": {inspect.ELF, false}, "libmagic.so.1": {inspect.ELF, false}, "libc.so.evil": {inspect.ELF, false},
		"libstdc++.so.6": {inspect.ELF, false}, "/opt/own/libc.so.6": {inspect.ELF, false}, "kernel32.dll": {inspect.ELF, false},
		"/usr/lib/libSystem.B.dylib": {inspect.MachO, true}, "/usr/lib/libc++.1.dylib": {inspect.MachO, true},
		"/System/Library/Frameworks/Security.framework/Versions/A/Security": {inspect.MachO, true},
		"/usr/local/lib/libSystem.dylib":                                    {inspect.MachO, false}, "@rpath/libc++.1.dylib": {inspect.MachO, false},
		"KERNEL32.dll": {inspect.PE, true}, "WS2_32.dll": {inspect.PE, true}, "ADVAPI32.dll": {inspect.PE, true},
		"api-ms-win-crt-runtime-l1-1-0.dll": {inspect.PE, true}, "bcryptprimitives.dll": {inspect.PE, true},
		"libstdc++-6.dll": {inspect.PE, false}, "kernel32.dll.so": {inspect.PE, false}, "VCRUNTIME140.dll": {inspect.PE, false},
	} {
		assert.Equal(t, c.want, systemLibrary(string(c.format), name), name)
	}
}

// TestInspectOneFile: the digest is of the file that is described, whatever is put at its path meanwhile.
func TestInspectOneFile(t *testing.T) {
	dir := t.TempDir()
	path, digests := filepath.Join(dir, "plugin"+fixture.Ext()), map[string]string{}
	var files []string
	for _, name := range []string{"echo", "state"} {
		d, err := describe(fixture.C(t, name))
		require.NoError(t, err)
		digests[d.Name] = d.SHA256
		data, err := os.ReadFile(fixture.C(t, name))
		require.NoError(t, err)
		files = append(files, filepath.Join(dir, name))
		require.NoError(t, os.WriteFile(files[len(files)-1], data, 0o600))
	}
	put := func(i int) error {
		next := filepath.Join(dir, "next")
		if err := os.Link(files[i%2], next); err != nil {
			return err
		}
		return os.Rename(next, path)
	}
	if err := put(0); err != nil {
		t.Skip("this file system has no links: ", err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 1; ; i++ {
			select {
			case <-end:
				return
			default:
				_ = put(i) // on Windows not while it is open
			}
		}
	}()
	for range 100 {
		var out, errs bytes.Buffer
		if code := run([]string{"inspect", "--json", path}, nil, &out, &errs); code != exitOK {
			assert.NotEqual(t, "linux", runtime.GOOS, errs.String())
			continue // on Windows a file is not there for a moment
		}
		var got struct{ Name, SHA256 string }
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		require.Equal(t, digests[got.Name], got.SHA256, got.Name)
	}
	close(end)
	<-ended
}
