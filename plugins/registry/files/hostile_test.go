package files_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/registry/sourcetest"
)

// pushed is a folder with the releases.
func pushed(t *testing.T) (dir string, source *files.Folder) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "releases")
	source, err := files.NewFolder(dir)
	require.NoError(t, err)
	sourcetest.Push(t, source, sourcetest.Releases())
	return dir, source
}

// zipped writes a zip by what change does to the headers of a good one's files; more is what it adds.
func zipped(t *testing.T, more func(z *zip.Writer)) string {
	t.Helper()
	dir, _ := pushed(t)
	path := filepath.Join(t.TempDir(), "a.zip")
	out, err := os.Create(path)
	require.NoError(t, err)
	z := zip.NewWriter(out)
	require.NoError(t, z.AddFS(os.DirFS(dir)))
	more(z)
	require.NoError(t, z.Close())
	require.NoError(t, out.Close())
	return path
}

func add(z *zip.Writer, h zip.FileHeader, text string) {
	w, err := z.CreateHeader(&h)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err != nil {
		panic(err)
	}
}

// A zip that anybody packs of a folder is a bundle; one that could do harm is refused as a whole, in few words.
func TestBundlesOfOthers(t *testing.T) {
	t.Parallel()
	link := zip.FileHeader{Name: "link"}
	link.SetMode(fs.ModeSymlink | 0o777)
	device := zip.FileHeader{Name: "device"}
	device.SetMode(fs.ModeDevice | 0o777)
	raw := func(h zip.FileHeader) func(z *zip.Writer) {
		return func(z *zip.Writer) {
			w, err := z.CreateRaw(&h)
			if err == nil {
				_, err = w.Write([]byte("abc"))
			}
			if err != nil {
				panic(err)
			}
		}
	}
	for name, c := range map[string]struct {
		more  func(z *zip.Writer)
		words string // "": it is good
	}{
		"nothing more":             {func(*zip.Writer) {}, ""},
		"a folder":                 {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "more/"}, "") }, ""},
		"stored":                   {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "more/a"}, "b") }, ""},
		"a path upwards":           {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "../a"}, "b") }, `the path "../a"`},
		"a path within":            {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "a/../b"}, "b") }, `the path "a/../b"`},
		"an absolute path":         {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "/a"}, "b") }, `the path "/a"`},
		"a path of Windows":        {func(z *zip.Writer) { add(z, zip.FileHeader{Name: `a\..\..\b`}, "b") }, "the path"},
		"a drive":                  {func(z *zip.Writer) { add(z, zip.FileHeader{Name: `C:/b`}, "b") }, "the path"},
		"no name":                  {func(z *zip.Writer) { add(z, zip.FileHeader{Name: ""}, "b") }, "the path"},
		"a device of Windows":      {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "latest/nul"}, "b") }, `the path "latest/nul"`},
		"and with an ending":       {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "COM1.so/a"}, "b") }, `the path "COM1.so/a"`},
		"a dot that Windows drops": {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "latest./a"}, "b") }, `the path "latest./a"`},
		"a hidden file":            {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "latest/.lock"}, "b") }, `the path "latest/.lock"`},
		"a new line":               {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "a\nb"}, "b") }, "the path"},
		"letters of two forms": {func(z *zip.Writer) {
			add(z, zip.FileHeader{Name: "caf\u00e9"}, "b")
			add(z, zip.FileHeader{Name: "cafe\u0301"}, "b")
		}, "the path"},
		"a file and a folder": {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "a"}, "b"); add(z, zip.FileHeader{Name: "A/b"}, "c") }, `"a" in it, which is a file and a folder`},
		"a folder and a file": {func(z *zip.Writer) {
			add(z, zip.FileHeader{Name: "a/b/c"}, "b")
			add(z, zip.FileHeader{Name: "a"}, "c")
		}, `"a" in it, which is a file and a folder`},
		"something before it":       {func(z *zip.Writer) {}, "something before its files"},
		"another zip before it":     {func(z *zip.Writer) {}, "something before its files"},
		"a link":                    {func(z *zip.Writer) { add(z, link, "/etc/passwd") }, "is a link"},
		"a device":                  {func(z *zip.Writer) { add(z, device, "") }, "is a link or something else"},
		"a name twice":              {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "a"}, "b"); add(z, zip.FileHeader{Name: "a"}, "c") }, `"a" in it twice`},
		"a name in two cases":       {func(z *zip.Writer) { add(z, zip.FileHeader{Name: "a"}, "b"); add(z, zip.FileHeader{Name: "A"}, "c") }, `"A" in it twice`},
		"encrypted":                 {raw(zip.FileHeader{Name: "a", Flags: 1, CompressedSize64: 3, UncompressedSize64: 3}), "encrypted"},
		"another method":            {raw(zip.FileHeader{Name: "a", Method: 12, CompressedSize64: 3, UncompressedSize64: 3}), "method 12"},
		"a huge file":               {raw(zip.FileHeader{Name: "a", Method: zip.Deflate, CompressedSize64: 3, UncompressedSize64: 1 << 40}), "1099511627776 bytes"},
		"a bomb":                    {raw(zip.FileHeader{Name: "a", Method: zip.Deflate, CompressedSize64: 3, UncompressedSize64: 3 << 30}), "bytes in a bundle of"},
		"more packed than there is": {raw(zip.FileHeader{Name: "a", Method: zip.Deflate, CompressedSize64: 1 << 30, UncompressedSize64: 3}), "packed bytes in a bundle of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := zipped(t, c.more)
			if before := map[string]string{"something before it": "#!/bin/sh\n", "another zip before it": "PK\x03\x04" + strings.Repeat("\x00", 26)}[name]; before != "" {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(path, append([]byte(before), text...), 0o644))
			}
			b, err := files.NewBundle(path)
			require.NoError(t, err)
			versions, err := b.Versions(t.Context(), "sample-plugin")
			if c.words == "" {
				require.NoError(t, err)
				assert.Len(t, versions, 4)
				return
			}
			require.ErrorIs(t, err, registry.ErrMalformed)
			assert.ErrorContains(t, err, c.words)
		})
	}
	t.Run("all of the tests", func(t *testing.T) {
		t.Parallel()
		sourcetest.Run(t, func(t *testing.T, _ []sourcetest.Published) registry.Source {
			b, err := files.NewBundle(zipped(t, func(*zip.Writer) {}))
			require.NoError(t, err)
			return b
		})
	})
}

// Files whose bytes lie over each other, which is how the smallest zips inflate to the most.
func TestOverlap(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range 5 {
		add(z, zip.FileHeader{Name: fmt.Sprint("file", i), Method: zip.Store}, strings.Repeat("x", 1000))
	}
	require.NoError(t, z.Close())
	text := b.Bytes()
	// All the files of the directory are the first one's bytes, and what comes between goes.
	first, end := bytes.Index(text, []byte("file1"))-30, bytes.Index(text, []byte("PK\x01\x02"))
	directory := bytes.Clone(text[end:])
	for at := 0; binary.LittleEndian.Uint32(directory[at:]) == 0x02014b50; {
		binary.LittleEndian.PutUint32(directory[at+42:], 0)
		at += 46 + int(binary.LittleEndian.Uint16(directory[at+28:])) + int(binary.LittleEndian.Uint16(directory[at+30:])) + int(binary.LittleEndian.Uint16(directory[at+32:]))
	}
	binary.LittleEndian.PutUint32(directory[len(directory)-6:], uint32(first))
	path := filepath.Join(t.TempDir(), "a.zip")
	require.NoError(t, os.WriteFile(path, append(bytes.Clone(text[:first]), directory...), 0o600))
	s, err := files.NewBundle(path)
	require.NoError(t, err)
	_, err = s.Versions(t.Context(), "file")
	assert.ErrorIs(t, err, registry.ErrMalformed)
	assert.ErrorContains(t, err, "overlap")
}

// Bytes of a bundle that are others: nobody gets other bytes as if they were the right ones, and nothing panics.
func TestDamagedBundle(t *testing.T) {
	t.Parallel()
	path := zipped(t, func(*zip.Writer) {})
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	want := sourcetest.Releases()[0].Files["linux/amd64"]
	refused := 0
	for at := 0; at < len(text); at += 31 {
		damaged := bytes.Clone(text)
		damaged[at] ^= 0x41
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		s, err := files.NewBundle(path)
		require.NoError(t, err)
		r, err := s.Release(t.Context(), "sample-plugin", "1.0.0")
		var got []byte
		if err == nil {
			var body io.ReadCloser
			if body, _, _, err = s.Open(t.Context(), r, "linux/amd64", 0); err == nil {
				got, err = io.ReadAll(body)
				body.Close()
			}
		}
		if err != nil {
			refused++
			var e *registry.Error
			require.ErrorAs(t, err, &e)
			continue
		}
		require.Equal(t, want, string(got), "byte %d", at)
	}
	assert.Positive(t, refused)
}

// A folder's links lead nowhere outside of it, what is no file is not read, and what was cut is said to be.
func TestHostileFolder(t *testing.T) {
	t.Parallel()
	dir, s := pushed(t)
	r, err := s.Release(t.Context(), "sample-plugin", "1.0.0")
	require.NoError(t, err)
	lib := filepath.Join(dir, "v1.0.0", "sample-plugin-linux-amd64.so")
	open := func() error {
		body, _, _, err := s.Open(t.Context(), r, "linux/amd64", 0)
		if err == nil {
			body.Close()
		}
		return err
	}
	require.NoError(t, open())
	content, err := os.ReadFile(lib)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(lib, content[1:], 0o600))
	err = open()
	assert.ErrorIs(t, err, registry.ErrDigest)
	assert.ErrorContains(t, err, fmt.Sprintf(`found "v1.0.0/sample-plugin-linux-amd64.so" with %d bytes, expected %d. Copy the release again`, len(content)-1, len(content)))
	require.NoError(t, os.Remove(lib))
	assert.ErrorIs(t, open(), registry.ErrNotFound)
	require.NoError(t, os.Mkdir(lib, 0o700))
	assert.ErrorIs(t, open(), registry.ErrMalformed)
	require.NoError(t, os.Remove(lib))
	outside := filepath.Join(t.TempDir(), "outside.so")
	require.NoError(t, os.WriteFile(outside, content, 0o600))
	if err := os.Symlink(outside, lib); err == nil { // Windows asks for a privilege
		assert.ErrorIs(t, open(), registry.ErrMalformed)
		require.NoError(t, os.Remove(lib))
		require.NoError(t, os.Rename(outside, filepath.Join(dir, "inside")))
		require.NoError(t, os.Symlink(filepath.Join("..", "inside"), lib))
		assert.NoError(t, open())
	}
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Remove(lib))
		require.NoError(t, exec.Command("mkfifo", lib).Run())
		assert.ErrorIs(t, open(), registry.ErrMalformed)
	}
	gone, err := files.NewFolder(filepath.Join(dir, "gone"))
	require.NoError(t, err)
	_, err = gone.Versions(t.Context(), "sample-plugin")
	assert.ErrorIs(t, err, registry.ErrUnavailable)
}

// A Push that was cut off between any two files: the release is not there, nothing else is lost, and the next Push makes it whole.
func TestPushThatWasCutOff(t *testing.T) {
	t.Parallel()
	dir, _ := pushed(t)
	before := contents(t, dir)
	more := sourcetest.Releases()[:1]
	more[0].Release.Version = "3.0.0"
	s, err := files.NewFolder(dir)
	require.NoError(t, err)
	sourcetest.Push(t, s, more)
	after := contents(t, dir)
	added := slices.DeleteFunc(slices.Sorted(maps.Keys(after)), func(name string) bool { return before[name] == after[name] })
	require.Greater(t, len(added), 5)
	index := filepath.Join("latest", "sample-plugin.json")
	for n := range len(added) {
		half := t.TempDir()
		state := maps.Clone(before)
		for _, name := range added[:n] {
			if name != index { // it comes last
				state[name] = after[name]
			}
		}
		for name, text := range state {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(half, name)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(half, name), []byte(text), 0o600))
		}
		require.NoError(t, os.MkdirAll(filepath.Join(half, ".new"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(half, ".new", "file"), []byte("half"), 0o600))
		s, err := files.NewFolder(half)
		require.NoError(t, err)
		_, err = s.Release(t.Context(), "sample-plugin", "3.0.0")
		require.ErrorIs(t, err, registry.ErrNotFound)
		sourcetest.Push(t, s, more)
		require.Equal(t, after, contents(t, half))
	}
}

// contents are the files of a folder, by their paths.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == ".lock" {
			return err
		}
		text, err := os.ReadFile(path)
		name, err2 := filepath.Rel(dir, path)
		all[name] = string(text)
		return errors.Join(err, err2)
	}))
	return all
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir, _ := pushed(t)
	packed := zipped(t, func(*zip.Writer) {})
	for _, path := range []string{dir, packed} {
		address := filepath.ToSlash(path)
		if !strings.HasPrefix(address, "/") {
			address = "/" + address
		}
		s, ok, err := files.Open(config.Registry{URL: "file://" + address, Tag: "v1.9.0"})
		require.NoError(t, err)
		require.True(t, ok)
		assert.Equal(t, "file://"+address, s.String())
		versions, err := s.Versions(t.Context(), "sample-plugin")
		require.NoError(t, err)
		assert.Equal(t, []string{"1.9.0"}, versions)
	}
	_, ok, err := files.Open(config.Registry{URL: "https://x"})
	assert.False(t, ok)
	assert.NoError(t, err)
	for _, bad := range []string{"file://", "file://host/a", "file:///a/{tag}", "file:///%zz"} {
		_, ok, err := files.Open(config.Registry{URL: bad})
		assert.True(t, ok)
		assert.ErrorIs(t, err, registry.ErrMalformed, bad)
		assert.ErrorContains(t, err, fmt.Sprintf("found the address of files %q, expected file:///path/of/a/folder", bad))
	}
	_, _, err = files.Open(config.Registry{URL: "file://user:secret@host/a"})
	assert.ErrorContains(t, err, `"file://…@host/a"`)
	assert.NotContains(t, err.Error(), "secret")
}
