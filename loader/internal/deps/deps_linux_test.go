package deps

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// library is a library to be written: the least that the dynamic linker accepts.
type library struct {
	needed         []string
	soName         string
	rpath, runPath string
	machine        uint16 // 0 is amd64
	class          byte   // 0 is 64 bits
	kind           uint16 // 0 is a shared library
	stack          uint32 // flags of PT_GNU_STACK; 0 is read and write
}

// bytes returns the library's file.
func (l library) bytes() []byte {
	if l.machine == 0 {
		l.machine = 62
	}
	if l.class == 0 {
		l.class = 2
	}
	if l.kind == 0 {
		l.kind = 3
	}
	if l.stack == 0 {
		l.stack = 6
	}
	strs := []byte{0}
	var dynamic []uint64
	add := func(tag uint64, text string) {
		dynamic = append(dynamic, tag, uint64(len(strs)))
		strs = append(append(strs, text...), 0)
	}
	for _, name := range l.needed {
		add(1, name)
	}
	if l.soName != "" {
		add(14, l.soName)
	}
	if l.rpath != "" {
		add(15, l.rpath)
	}
	if l.runPath != "" {
		add(29, l.runPath)
	}
	const head = 64 + 3*56
	symbols := uint64(head)    // one, of 24 bytes
	hash := symbols + 24       // one bucket, one chain
	table := hash + 16         // of 16 bytes for each entry
	tags := len(dynamic)/2 + 6 // with DT_NULL
	names := table + uint64(tags)*16
	dynamic = append(dynamic, 4, hash, 5, names, 6, symbols, 10, uint64(len(strs)), 11, 24, 0, 0)
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
	}
	size := names + uint64(len(strs))
	put([]byte("\x7fELF"), l.class, []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, l.kind, l.machine, uint32(1), uint64(0), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(3), uint16(0), uint16(0), uint16(0))
	put(uint32(1), uint32(6), uint64(0), uint64(0), uint64(0), size, size, uint64(4096))
	put(uint32(2), uint32(6), table, table, table, uint64(tags)*16, uint64(tags)*16, uint64(8))
	put(uint32(0x6474e551), l.stack, uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(16))
	put(make([]byte, 24), uint32(1), uint32(1), uint32(0), uint32(0), dynamic, strs)
	return b.Bytes()
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, data, 0o755))
}

// inspected is what package inspect would say of the library.
func (l library) inspected() *inspect.Library {
	lib := &inspect.Library{Format: inspect.ELF, OS: "linux", Arch: "amd64", Needed: l.needed, SOName: l.soName}
	switch {
	case l.runPath != "":
		lib.RunPath = strings.Split(l.runPath, ":")
	case l.rpath != "":
		lib.RunPath, lib.RPath = strings.Split(l.rpath, ":"), true
	}
	return lib
}

// resolve returns what Resolve finds, by name, with paths from dir on.
func resolve(t testing.TB, dir string, root library) map[string]string {
	t.Helper()
	list, _, err := Resolve(filepath.Join(dir, "p.so"), root.inspected())
	require.NoError(t, err)
	found := map[string]string{}
	for _, l := range list {
		rel, err := filepath.Rel(dir, l.Path)
		require.NoError(t, err)
		require.NotContains(t, found, l.Name)
		found[l.Name] = rel
	}
	return found
}

func TestResolve(t *testing.T) {
	plain := library{}.bytes()
	needs := func(names ...string) []string { return names }
	for name, c := range map[string]struct {
		root  library
		files map[string][]byte
		links map[string]string
		want  map[string]string
	}{
		"beside itself": {library{needed: needs("liba.so"), runPath: "$ORIGIN"}, map[string][]byte{"liba.so": plain}, nil,
			map[string]string{"liba.so": "liba.so"}},
		"in braces": {library{needed: needs("liba.so"), runPath: "/none:${ORIGIN}/lib"}, map[string][]byte{"lib/liba.so": plain}, nil,
			map[string]string{"liba.so": "lib/liba.so"}},
		"the first folder counts": {library{needed: needs("liba.so"), runPath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": plain, "2/liba.so": plain}, nil, map[string]string{"liba.so": "1/liba.so"}},
		"another token": {library{needed: needs("liba.so"), runPath: "$ORIGINAL:$ORIGIN/$NONE"},
			map[string][]byte{"liba.so": plain}, nil, map[string]string{}},
		"no search path": {library{needed: needs("liba.so")}, map[string][]byte{"liba.so": plain}, nil, map[string]string{}},
		"a link": {library{needed: needs("liba.so"), runPath: "$ORIGIN"}, map[string][]byte{"real/liba.so.1": plain},
			map[string]string{"liba.so": "real/liba.so.1"}, map[string]string{"liba.so": "real/liba.so.1"}},
		"a link to no library": {library{needed: needs("liba.so"), runPath: "$ORIGIN"}, map[string][]byte{"shadow": []byte("root:*:1:0:9::::\n")},
			map[string]string{"liba.so": "shadow"}, map[string]string{}},
		"a link without an end": {library{needed: needs("liba.so"), runPath: "$ORIGIN"}, nil,
			map[string]string{"liba.so": "liba.so"}, map[string]string{}},
		"$ORIGIN of a link is its own folder": {library{needed: needs("liba.so"), runPath: "$ORIGIN/links"},
			map[string][]byte{"real/liba.so": library{needed: needs("libb.so"), runPath: "$ORIGIN"}.bytes(), "real/libb.so": plain, "links/libb.so": plain},
			map[string]string{"links/liba.so": "../real/liba.so"}, map[string]string{"liba.so": "real/liba.so", "libb.so": "links/libb.so"}},
		"another machine is passed over": {library{needed: needs("liba.so"), runPath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": library{machine: 183}.bytes(), "2/liba.so": plain}, nil, map[string]string{"liba.so": "2/liba.so"}},
		"another class is passed over": {library{needed: needs("liba.so"), runPath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": library{class: 1}.bytes(), "2/liba.so": plain}, nil, map[string]string{"liba.so": "2/liba.so"}},
		"a text file ends the search": {library{needed: needs("liba.so"), runPath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": bytes.Repeat([]byte("INPUT(libb.so)\n"), 9), "2/liba.so": plain}, nil, map[string]string{}},
		"an object file": {library{needed: needs("liba.so"), runPath: "$ORIGIN"},
			map[string][]byte{"liba.so": library{kind: 1}.bytes()}, nil, map[string]string{}},
		"DT_RPATH is inherited": {library{needed: needs("liba.so"), rpath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": library{needed: needs("libb.so")}.bytes(), "2/libb.so": plain}, nil,
			map[string]string{"liba.so": "1/liba.so", "libb.so": "2/libb.so"}},
		"DT_RUNPATH is not": {library{needed: needs("liba.so"), runPath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": library{needed: needs("libb.so")}.bytes(), "2/libb.so": plain}, nil,
			map[string]string{"liba.so": "1/liba.so"}},
		"DT_RUNPATH keeps from inheriting": {library{needed: needs("liba.so"), rpath: "$ORIGIN/1:$ORIGIN/2"},
			map[string][]byte{"1/liba.so": library{needed: needs("libb.so"), runPath: "/none"}.bytes(), "2/libb.so": plain}, nil,
			map[string]string{"liba.so": "1/liba.so"}},
		"a name with a slash": {library{needed: needs("$ORIGIN/x/liba.so")}, map[string][]byte{"x/liba.so": plain}, nil,
			map[string]string{"$ORIGIN/x/liba.so": "x/liba.so"}},
		"a path of no library": {library{needed: needs("/etc/passwd")}, nil, nil, map[string]string{}},
		"known by its own name": {library{needed: needs("liba.so", "libb.so"), runPath: "$ORIGIN"},
			map[string][]byte{"liba.so": library{soName: "libb.so"}.bytes(), "libb.so": plain}, nil, map[string]string{"liba.so": "liba.so"}},
		"two names of one file": {library{needed: needs("liba.so", "libb.so"), runPath: "$ORIGIN"},
			map[string][]byte{"liba.so": plain}, map[string]string{"libb.so": "liba.so"}, map[string]string{"liba.so": "liba.so"}},
		"in a circle": {library{needed: needs("liba.so"), runPath: "$ORIGIN", soName: "p.so"},
			map[string][]byte{"liba.so": library{needed: needs("libb.so", "p.so"), runPath: "$ORIGIN"}.bytes(),
				"libb.so": library{needed: needs("liba.so"), runPath: "$ORIGIN"}.bytes()}, nil,
			map[string]string{"liba.so": "liba.so", "libb.so": "libb.so"}},
		"the C library is there already": {library{needed: needs("libc.so.6"), runPath: "$ORIGIN"},
			map[string][]byte{"libc.so.6": plain}, nil, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t)
			write(t, filepath.Join(dir, "p.so"), c.root.bytes())
			for path, data := range c.files {
				write(t, filepath.Join(dir, path), data)
			}
			for path, to := range c.links {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
				require.NoError(t, os.Symlink(to, filepath.Join(dir, path)))
			}
			assert.Equal(t, c.want, resolve(t, dir, c.root))
		})
	}
}

// A file that the search leads to and that cannot be loaded is named, with what is wrong with it, and whether the dynamic
// linker searches on.
func TestUnfit(t *testing.T) {
	for name, c := range map[string]struct {
		file  []byte // nil is a folder
		err   error
		final bool
	}{
		"of another word size":  {library{class: 1}.bytes(), ErrWordSize, false},
		"for another processor": {library{machine: 183}.bytes(), ErrForeign, false},
		"a text":                {bytes.Repeat([]byte("INPUT(libb.so)\n"), 9), errHeader, true},
		"empty":                 {[]byte{}, ErrShort, true},
		"cut in its header":     {library{}.bytes()[:63], ErrShort, true},
		"cut behind its header": {library{}.bytes()[:64], errNoELF, true},
		"without its end":       {library{}.bytes()[:len(library{}.bytes())-1], ErrShort, true},
		"an object file":        {library{kind: 1}.bytes(), errNoELF, true},
		"a folder":              {nil, libfile.ErrNotRegular, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t)
			path := filepath.Join(dir, "1", "liba.so")
			if c.file == nil {
				require.NoError(t, os.MkdirAll(path, 0o755))
			} else {
				write(t, path, c.file)
			}
			write(t, filepath.Join(dir, "2", "liba.so"), library{}.bytes())
			root := library{needed: []string{"liba.so"}, runPath: "$ORIGIN/1:$ORIGIN/2"}
			found, unfit, err := Resolve(filepath.Join(dir, "p.so"), root.inspected())
			require.NoError(t, err)
			assert.Equal(t, []Unfit{{"liba.so", path, c.err, c.final}}, unfit)
			assert.Equal(t, c.final, len(found) == 0)
		})
	}
}

// What is relative is so to the working directory, as for the dynamic linker.
func TestRelative(t *testing.T) {
	dir := realDir(t)
	write(t, filepath.Join(dir, "lib", "liba.so"), library{}.bytes())
	write(t, filepath.Join(dir, "libb.so"), library{}.bytes())
	t.Chdir(dir)
	root := library{needed: []string{"liba.so", "libb.so"}, runPath: "lib:"}
	assert.Equal(t, map[string]string{"liba.so": "lib/liba.so", "libb.so": "libb.so"}, resolve(t, dir, root))
	assert.Equal(t, map[string]string{"lib/liba.so": "lib/liba.so"}, resolve(t, dir, library{needed: []string{"lib/liba.so"}}))
}

// A library comes before those that need it, and says what it asks for.
func TestOrder(t *testing.T) {
	dir := realDir(t)
	write(t, filepath.Join(dir, "liba.so"), library{needed: []string{"libb.so", "libc.so"}, runPath: "$ORIGIN", soName: "a"}.bytes())
	write(t, filepath.Join(dir, "libb.so"), library{needed: []string{"libd.so"}, runPath: "$ORIGIN", stack: 7}.bytes())
	write(t, filepath.Join(dir, "libd.so"), library{}.bytes())
	list, _, err := Resolve(filepath.Join(dir, "p.so"), library{needed: []string{"libd.so", "liba.so"}, runPath: "$ORIGIN"}.inspected())
	require.NoError(t, err)
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
		assert.Equal(t, l.Name == "libb.so", l.ExecStack, l.Name)
		info, err := os.Stat(l.Path)
		require.NoError(t, err)
		assert.True(t, os.SameFile(info, l.File))
	}
	assert.Equal(t, []string{"libd.so", "libb.so", "liba.so"}, names)
	assert.Equal(t, "a", list[2].SOName)
}

// A hostile library has the host look for no more than so much.
func TestBounds(t *testing.T) {
	dir := realDir(t)
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("lib%d.so", i))
	}
	for name, root := range map[string]library{
		"many names in many folders": {needed: many, runPath: strings.Repeat("/none:", 600)},
		"many names, each there":     {needed: many[:300], runPath: "$ORIGIN"},
	} {
		for _, file := range many[:300] {
			write(t, filepath.Join(dir, file), library{}.bytes())
		}
		_, _, err := Resolve(filepath.Join(dir, "p.so"), root.inspected())
		var e *inspect.Error
		require.ErrorAs(t, err, &e, name)
		assert.ErrorIs(t, err, inspect.ErrMalformed)
		assert.NotEmpty(t, e.Remedy)
	}
}

// Files that are no library of this platform, or cut anywhere, are none; reading them fails without more.
func TestReadBroken(t *testing.T) {
	m := machines["amd64"]
	whole := library{needed: []string{"liba.so"}, soName: "s", runPath: "$ORIGIN:/x"}.bytes()
	h, err := m.read(bytes.NewReader(whole), int64(len(whole)))
	require.NoError(t, err)
	require.Equal(t, &header{needed: []string{"liba.so"}, runPath: []string{"$ORIGIN", "/x"}, soName: "s"}, h)
	for n := range whole {
		_, err := m.read(bytes.NewReader(whole[:n]), int64(n))
		require.Error(t, err, "of %d bytes", n)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b := slices.Clone(whole)
		for range 1 + random.IntN(4) {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		_, err := m.read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			require.Contains(t, []error{ErrWordSize, ErrForeign, ErrShort, errHeader, errNoELF}, err)
		}
	}
}

// On libraries at random Resolve finds what the dynamic linker does.
func TestAsDynamicLinker(t *testing.T) {
	const linker = "/lib64/ld-linux-x86-64.so.2"
	if _, err := os.Stat(linker); err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs glibc's dynamic linker for amd64")
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for range 60 {
		dir := realDir(t)
		folders := []string{".", "1", "2", "2/glibc-hwcaps/x86-64-v2", "3"}
		var names []string
		for i := range 6 {
			names = append(names, fmt.Sprintf("libferrule%d.so", i))
		}
		any := func(list []string) string { return list[random.IntN(len(list))] }
		paths := []string{"$ORIGIN", "${ORIGIN}/1", "$ORIGIN/../2", dir + "/2", dir + "/3", "$ORIGIN/$LIB", dir, "/none", "$ORIGIN/..", ""}
		make := func() (l library) {
			for range random.IntN(4) {
				name := any(names)
				if random.IntN(8) == 0 {
					name = dir + "/" + any(folders) + "/" + name
				}
				l.needed = append(l.needed, name)
			}
			path := any(paths)
			for range random.IntN(3) {
				path += ":" + any(paths)
			}
			switch random.IntN(5) {
			case 0, 1:
				l.runPath = path
			case 2, 3:
				l.rpath = path
			}
			if random.IntN(4) == 0 {
				l.soName = any(names)
			}
			if random.IntN(12) == 0 {
				l.machine = 183
			}
			return l
		}
		for _, folder := range folders {
			for _, name := range names {
				path := filepath.Join(dir, folder, name)
				switch random.IntN(6) {
				case 0, 1, 2:
					write(t, path, make().bytes())
				case 3:
					to := filepath.Join(dir, any(folders), any(names))
					if _, err := os.Stat(to); err != nil {
						break // a link in a circle may end a search, or not
					}
					require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
					require.NoError(t, os.Symlink(to, path))
				}
			}
		}
		root := make()
		root.machine = 0
		root.needed = append(root.needed, any(names))
		write(t, filepath.Join(dir, "p.so"), root.bytes())

		cmd := exec.Command(linker, filepath.Join(dir, "p.so"))
		cmd.Env, cmd.Dir = []string{"LD_TRACE_LOADED_OBJECTS=1"}, dir
		text, err := cmd.CombinedOutput()
		if err != nil { // it gave up
			continue
		}
		want := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, rest, arrow := strings.Cut(strings.TrimSpace(line), " => ")
			if !arrow {
				name, _, _ = strings.Cut(strings.TrimSpace(line), " (")
				rest = name
			}
			path, _, _ := strings.Cut(rest, " (")
			if strings.Contains(name, "linux-vdso") || strings.Contains(name, "ld-linux") || path == "not found" {
				continue
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			real, err := filepath.EvalSymlinks(path)
			require.NoError(t, err, "%s", text)
			want[real] = name
		}
		t.Chdir(dir)
		list, _, err := Resolve(filepath.Join(dir, "p.so"), root.inspected())
		require.NoError(t, err)
		got := map[string]string{}
		for _, l := range list {
			got[l.Path] = l.Name
		}
		delete(want, filepath.Join(dir, "p.so"))
		require.Equal(t, want, got, "%+v: %s", root, text)
		found += len(got)
	}
	require.Greater(t, found, 30, "libraries in all")
}

// realDir is TempDir without links on the way.
func realDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return dir
}

// LD_LIBRARY_PATH is read as glibc reads it.
func TestFolders(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	origin := filepath.Dir(program)
	for text, want := range map[string][]string{
		"":                    nil,
		"/a":                  {"/a"},
		"/a:/b;c":             {"/a", "/b", "c"},
		":":                   {"", ""},
		"/a:":                 {"/a", ""},
		"$ORIGIN/x:${ORIGIN}": {origin + "/x", origin},
		"/$ORIGINAL":          {"/$ORIGINAL"},
	} {
		assert.Equal(t, want, folders(text), "%q", text)
	}
	dir := realDir(t)
	write(t, filepath.Join(dir, "own", "liba.so"), library{}.bytes())
	write(t, filepath.Join(dir, "other", "liba.so"), library{}.bytes())
	root := library{needed: []string{"liba.so"}, runPath: "$ORIGIN/own"}
	t.Chdir(filepath.Join(dir, "other"))
	for text, want := range map[string]int{"/nowhere": 1, "/nowhere:": 0, "$ORIGIN/other": 1, "own": 1, "../other": 0} {
		found, _, err := follow(filepath.Join(dir, "p.so"), root.inspected(), folders(text))
		require.NoError(t, err)
		assert.Len(t, found, want, "%q: what is not found by the system is found beside the library", text)
	}
}
