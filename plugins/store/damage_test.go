package store_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

const text = "the bytes of a library"

// put puts the text.
func put(t testing.TB, s *store.Store) store.File {
	t.Helper()
	file, err := s.Put(t.Context(), digestOf(text), int64(len(text)), "sample.so", from(text))
	require.NoError(t, err)
	return file
}

// write replaces a file that may only be read.
func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o555))
}

func TestDamagedFilesAreReplaced(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte(text), 0o555))
	for name, c := range map[string]struct {
		damage func(t *testing.T, path string) // of the file
		says   string
	}{
		"a changed byte": {func(t *testing.T, path string) { write(t, path, "The"+text[3:]) },
			": found other bytes: " + digestOf("The"+text[3:]) + ", expected " + digestOf(text)},
		"no bytes":        {func(t *testing.T, path string) { write(t, path, "") }, "found other bytes"},
		"more bytes":      {func(t *testing.T, path string) { write(t, path, text+"\n") }, "found other bytes"},
		"another file":    {func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path+".bak", nil, 0o444)) }, "found several files: "},
		"a symbolic link": {func(t *testing.T, path string) { require.NoError(t, os.Remove(path)); link(t, outside, path) }, "found a symbolic link, expected a file"},
		"a folder": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o755))
		}, "found a folder, expected a file"},
		"a link in the folder's place": {func(t *testing.T, path string) {
			require.NoError(t, os.RemoveAll(filepath.Dir(path)))
			link(t, filepath.Dir(outside), filepath.Dir(path))
		}, "found a symbolic link, expected a folder"},
		"a file in the folder's place": {func(t *testing.T, path string) {
			require.NoError(t, os.RemoveAll(filepath.Dir(path)))
			require.NoError(t, os.WriteFile(filepath.Dir(path), []byte(text), 0o444))
		}, "found a file, expected a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "store")
			first := open(t, folder)
			file := put(t, first)
			require.NoError(t, first.Close())
			c.damage(t, file.Path)
			s := open(t, folder)
			_, err := s.Find(t.Context(), file.Digest)
			require.ErrorIs(t, err, registry.ErrDigest)
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, "Install it again, which puts this aside and fetches the file: ferrule install")
			assert.Equal(t, file, put(t, s))
			found, err := s.Find(t.Context(), file.Digest)
			require.NoError(t, err)
			assert.Equal(t, file, found)
			moved, err := filepath.Glob(filepath.Join(folder, "aside", "*"))
			require.NoError(t, err)
			assert.NotEmpty(t, moved, "what was found is not lost")
			_, _, err = s.GC(t.Context(), func(string) bool { return true }, 0)
			require.NoError(t, err)
			moved, err = filepath.Glob(filepath.Join(folder, "aside", "*"))
			require.NoError(t, err)
			assert.Empty(t, moved)
		})
	}
	got, err := os.ReadFile(outside)
	require.NoError(t, err)
	assert.Equal(t, text, string(got))
}

func link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil && runtime.GOOS == "windows" {
		t.Skip("Windows lets administrators make links")
	} else {
		require.NoError(t, err)
	}
}

// Whatever is planted in the store's folder, nothing outside it is written, deleted or found.
func TestNothingOutsideTheStore(t *testing.T) {
	digits := digestOf(text)[7:]
	for _, name := range []string{"sha256", "half", "lock", "aside", "half/" + digits, "lock/" + digits, "sha256/" + digits, "sha256/" + digits + "/sample.so"} {
		for _, kind := range []string{"file", "folder", "nothing"} {
			t.Run(name+" to "+kind, func(t *testing.T) {
				top := t.TempDir()
				folder, outside := filepath.Join(top, "store"), filepath.Join(top, "outside")
				at := filepath.Join(folder, filepath.FromSlash(name))
				require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o700))
				switch kind {
				case "file":
					require.NoError(t, os.WriteFile(outside, []byte("mine"), 0o600))
				case "folder":
					require.NoError(t, os.MkdirAll(filepath.Join(outside, digits), 0o700))
					require.NoError(t, os.WriteFile(filepath.Join(outside, digits, "mine"), nil, 0o600))
				}
				link(t, outside, at)
				before := tree(t, top, folder)
				s, err := store.Open(folder)
				if err == nil {
					_, err = s.Put(t.Context(), digestOf(text), int64(len(text)), "sample.so", from(text))
					if err == nil {
						_, err = s.Find(t.Context(), digestOf(text))
						require.NoError(t, err)
					}
					_, _, _ = s.GC(t.Context(), func(string) bool { return false }, 0)
					_ = s.Delete(t.Context(), digestOf(text))
					require.NoError(t, s.Close())
				}
				if err != nil {
					assert.ErrorIs(t, err, registry.ErrStore)
					assert.ErrorContains(t, err, at)
				}
				assert.Equal(t, before, tree(t, top, folder))
			})
		}
	}
}

// tree has the names and bytes of what is below a folder, without one.
func tree(t testing.TB, top, without string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if path == without {
			return fs.SkipDir
		}
		all[path] = d.Type().String()
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			all[path] += string(text)
			return err
		}
		return err
	}))
	return all
}

func TestAHardLinkInTheHalfFilesPlace(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not say how many names a file has")
	}
	top := t.TempDir()
	s := open(t, filepath.Join(top, "store"))
	mine := filepath.Join(top, "mine")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(s.Folder(), "half"), 0o700))
	require.NoError(t, os.Link(mine, filepath.Join(s.Folder(), "half", digestOf(text)[7:])))
	put(t, s)
	got, err := os.ReadFile(mine)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(got))
}

func TestNamesAndDigestsThatAreNone(t *testing.T) {
	top := t.TempDir()
	s := open(t, filepath.Join(top, "a", "store"))
	before := tree(t, top, "")
	for _, name := range []string{"", ".", "..", "../x", "/x", `..\x`, `c:\x`, "x/y", "x:y", "x\x00", "x\n", "-rf", ".hidden", "x.", "NUL", "con.so", "Com1.dll",
		strings.Repeat("x", 161), "x y", "é.so"} {
		_, err := s.Put(t.Context(), digestOf(text), -1, name, never(t))
		assert.ErrorIs(t, err, registry.ErrMalformed, "%q", name)
		_, err = s.Put(t.Context(), "", -1, name, never(t))
		assert.ErrorIs(t, err, registry.ErrMalformed, "%q", name)
	}
	for _, digest := range []string{"sha256:", "sha256:../../x", "sha512:" + digestOf(text)[7:], strings.ToUpper(digestOf(text)), digestOf(text) + "0", digestOf(text)[:70] + "/"} {
		_, err := s.Put(t.Context(), digest, -1, "sample.so", never(t))
		assert.ErrorIs(t, err, registry.ErrMalformed, digest)
		_, err = s.Find(t.Context(), digest)
		assert.ErrorIs(t, err, registry.ErrMalformed, digest)
		assert.ErrorIs(t, s.Delete(t.Context(), digest), registry.ErrMalformed, digest)
	}
	_, err := s.Find(t.Context(), "")
	assert.ErrorIs(t, err, registry.ErrMalformed)
	_, err = s.Put(t.Context(), digestOf(text), -2, "sample.so", never(t))
	assert.ErrorIs(t, err, registry.ErrMalformed)
	assert.Equal(t, before, tree(t, top, ""))
}

func TestFillsGoOnWhereTheyWere(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	broken := errors.New("the connection was closed")
	try := func(size int64, fill store.Fill) error {
		_, err := s.Put(t.Context(), digestOf(text), size, "sample.so", fill)
		return err
	}
	some := func(want int64, bytes string, result error) store.Fill {
		return func(_ context.Context, half *store.Half, from int64) error {
			assert.Equal(t, want, from)
			_, err := half.Write([]byte(bytes))
			assert.NoError(t, err)
			return result
		}
	}
	size := int64(len(text))
	assert.Equal(t, broken, try(size, some(0, text[:5], broken)), "the fill's own error")
	err := try(size, some(5, text[5:7], nil))
	assert.ErrorIs(t, err, registry.ErrUnavailable)
	assert.ErrorContains(t, err, "found an end after 7 bytes, expected 22. Try again: it goes on from there")
	assert.Equal(t, broken, try(-1, some(7, text[7:9], broken)))
	assert.Panics(t, func() { _ = try(size, func(context.Context, *store.Half, int64) error { panic("foreign code") }) })

	var late *store.Half
	require.NoError(t, try(size, func(_ context.Context, half *store.Half, from int64) error {
		assert.Equal(t, int64(9), from)
		assert.Error(t, half.Truncate(10))
		assert.Error(t, half.Truncate(-1))
		assert.NoError(t, half.Truncate(3)) // a server that begins earlier
		_, err := half.Write([]byte(text[3:]))
		late = half
		return err
	}))
	_, err = late.Write([]byte("x"))
	assert.Error(t, err, "the fill has returned")
	assert.Error(t, late.Truncate(0))
	_, err = s.Find(t.Context(), digestOf(text))
	require.NoError(t, err)
}

func TestHalvesThatAreWrong(t *testing.T) {
	for name, half := range map[string]string{"other bytes": "THE BYTES", "more bytes": text + text, "all bytes": text, "as many bytes": strings.ToUpper(text)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "store"))
			at := filepath.Join(s.Folder(), "half", digestOf(text)[7:])
			require.NoError(t, os.Mkdir(filepath.Dir(at), 0o700))
			require.NoError(t, os.WriteFile(at, []byte(half), 0o600))
			if name == "all bytes" {
				_, err := s.Put(t.Context(), digestOf(text), int64(len(text)), "sample.so", never(t))
				require.NoError(t, err)
				return
			}
			put(t, s)
			assert.NoFileExists(t, at)
		})
	}
}

func TestOtherBytes(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	for _, c := range []struct {
		size  int64
		bytes string
		kind  error
		says  string
	}{
		{int64(len(text)), strings.ToUpper(text), registry.ErrDigest, "found bytes with the digest " + digestOf(strings.ToUpper(text)) + ", expected " + digestOf(text)},
		{-1, text[1:], registry.ErrDigest, "Somebody changed them on the way or at the source: ask its owner, or try another source"},
		{int64(len(text)), text + "x", registry.ErrMalformed, "found more than 22 bytes"},
		{0, "x", registry.ErrMalformed, "found more than 0 bytes"},
	} {
		_, err := s.Put(t.Context(), digestOf(text), c.size, "sample.so", from(c.bytes))
		assert.ErrorIs(t, err, c.kind)
		assert.ErrorContains(t, err, c.says)
		left, err := filepath.Glob(filepath.Join(s.Folder(), "*", "*"))
		require.NoError(t, err)
		assert.Empty(t, left)
	}
}

func TestContextsEnd(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	s, other := open(t, folder), open(t, folder)
	ctx, cancel := context.WithCancel(t.Context())
	fills := make(chan struct{})
	result := make(chan error)
	go func() {
		_, err := other.Put(ctx, digestOf(text), -1, "sample.so", func(ctx context.Context, half *store.Half, _ int64) error {
			_, _ = half.Write([]byte(text[:4]))
			close(fills)
			<-ctx.Done()
			return ctx.Err()
		})
		result <- err
	}()
	<-fills
	short, stop := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer stop()
	_, err := s.Put(short, digestOf(text), -1, "sample.so", never(t))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "found another process that fetches "+digestOf(text))
	cancel()
	assert.ErrorIs(t, <-result, context.Canceled)
	_, err = s.Put(t.Context(), digestOf(text), -1, "sample.so", func(_ context.Context, half *store.Half, from int64) error {
		assert.Equal(t, int64(4), from)
		_, err := half.Write([]byte(text[from:]))
		return err
	})
	require.NoError(t, err)
	_, err = s.Find(ctx, digestOf(text))
	assert.ErrorIs(t, err, context.Canceled)
	_, _, err = s.GC(ctx, func(string) bool { return false }, 0)
	assert.ErrorIs(t, err, context.Canceled)
}

// A clock that was set makes no difference to what is kept or in use. Files' times say what the clock said.
func TestClocksThatWereSet(t *testing.T) {
	long := time.Now().Add(-20 * 365 * 24 * time.Hour)
	later := time.Now().Add(20 * 365 * 24 * time.Hour)
	for _, when := range []time.Time{long, later, time.Unix(0, 0)} {
		folder := filepath.Join(t.TempDir(), "store")
		s, other := open(t, folder), open(t, folder)
		file := put(t, s)
		kept, err := other.Put(t.Context(), "", -1, "kept.so", from("kept"))
		require.NoError(t, err)
		require.NoError(t, other.Close())
		gc := open(t, folder)
		keep := func(digest string) bool { return digest == kept.Digest }
		for _, path := range []string{file.Path, kept.Path, filepath.Dir(file.Path), filepath.Dir(kept.Path)} {
			require.NoError(t, os.Chtimes(path, when, when))
		}
		for _, age := range []time.Duration{0, time.Hour} {
			_, n, err := gc.GC(t.Context(), keep, age)
			require.NoError(t, err)
			assert.Zero(t, n)
		}
		assert.FileExists(t, file.Path)
		require.NoError(t, s.Close())
		_, n, err := gc.GC(t.Context(), keep, time.Hour)
		require.NoError(t, err)
		assert.Equal(t, when.Before(time.Now()), n == 1, "one that is younger than now is kept")
		_, _, err = gc.GC(t.Context(), keep, 0)
		require.NoError(t, err)
		assert.NoFileExists(t, file.Path)
		assert.FileExists(t, kept.Path)
	}
}

func TestDelete(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	s := open(t, folder)
	file := put(t, s)
	assert.ErrorIs(t, s.Delete(t.Context(), file.Digest), registry.ErrStore, "it is in use here")
	require.NoError(t, s.Close())
	s = open(t, folder)
	require.NoError(t, s.Delete(t.Context(), file.Digest))
	assert.ErrorIs(t, s.Delete(t.Context(), file.Digest), registry.ErrNotFound)
	left, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestDefault(t *testing.T) {
	cache := t.TempDir()
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(name, cache)
	}
	folder, err := store.Default()
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(folder, cache) && strings.HasSuffix(folder, filepath.Join("ferrule", "store")), folder)
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(name, "")
	}
	_, err = store.Default()
	assert.ErrorIs(t, err, registry.ErrStore)
	assert.ErrorContains(t, err, "Give a folder for the store")
}
