package lock_test

import (
	"context"
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

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// task is what a child does: this program again, in a process of its own.
type task struct {
	Path, Name string
	Endless    bool
	User       int
}

func TestMain(m *testing.M) {
	reexec.Main(m, func(do task) (err error) {
		if do.User != 0 {
			err = become(do.User)
		}
		for i := 0; err == nil; i++ {
			err = lock.Update(context.Background(), do.Path, func(l *lock.Lock) error {
				add(l, do.Name, fmt.Sprintf("1.0.%d", i))
				return nil
			})
			if !do.Endless {
				break
			}
		}
		return err
	})
}

// add adds a plug-in.
func add(l *lock.Lock, name, version string) {
	l.Plugins[name] = &lock.Entry{Version: version, Kind: registry.Library, Source: "oci://registry.example.com/" + name,
		Files: map[string]registry.File{"linux/amd64": {Digest: digest("1"), Size: 1}, "darwin/arm64": {Digest: digest("2"), Size: 2}}}
}

func update(t testing.TB, path string, change func(*lock.Lock)) {
	t.Helper()
	require.NoError(t, lock.Update(t.Context(), path, func(l *lock.Lock) error {
		change(l)
		return nil
	}))
}

// alone checks that nothing is in a folder but these.
func alone(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		if runtime.GOOS != "windows" || !strings.HasSuffix(e.Name(), ".update") {
			got = append(got, e.Name())
		}
	}
	assert.Equal(t, names, got)
}

func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ferrule.lock")
	_, err := lock.Load(path)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	update(t, path, func(l *lock.Lock) {})
	alone(t, dir)
	update(t, path, func(l *lock.Lock) { *l = *sample() })
	alone(t, dir, "ferrule.lock")
	got, err := lock.Load(path)
	require.NoError(t, err)
	assert.Equal(t, sample(), got)

	long := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(path, long, long))
	update(t, path, func(l *lock.Lock) { l.Plugins["tax"].Grants = []string{} })
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, long, info.ModTime(), "nothing is written when nothing has changed")

	no := errors.New("no")
	assert.Equal(t, no, lock.Update(t.Context(), path, func(l *lock.Lock) error {
		clear(l.Plugins)
		return no
	}))
	assert.Panics(t, func() { _ = lock.Update(t.Context(), path, func(*lock.Lock) error { panic("foreign code") }) })
	for name, wrong := range map[string]func(*lock.Entry){
		"version":  func(e *lock.Entry) { e.Version = "1" },
		"kind":     func(e *lock.Entry) { e.Kind = "plugin" },
		"digest":   func(e *lock.Entry) { e.Files["any"] = registry.File{Size: 1} },
		"size":     func(e *lock.Entry) { e.Files["any"] = registry.File{Digest: digest("1"), Size: -1} },
		"grant":    func(e *lock.Entry) { e.Grants = []string{"read /a\nplugins:"} },
		"files":    func(e *lock.Entry) { e.Files = nil },
		"secret":   func(e *lock.Entry) { e.Source = "https://user:secret@example.com" },
		"require":  func(e *lock.Entry) { e.Requires = map[string]string{"../x": "1.0.0"} },
		"not text": func(e *lock.Entry) { e.Tag = "\xff" },
	} {
		err := lock.Update(t.Context(), path, func(l *lock.Lock) error {
			wrong(l.Plugins["tax"])
			return nil
		})
		assert.ErrorIs(t, err, registry.ErrLock, name)
		assert.ErrorContains(t, err, "Nothing was written: no lock can say that", name)
	}
	alone(t, dir, "ferrule.lock")
	got, err = lock.Load(path)
	require.NoError(t, err)
	assert.Equal(t, sample(), got)

	require.NoError(t, os.WriteFile(path, []byte("format: 2\n"), 0o666))
	err = lock.Update(t.Context(), path, func(*lock.Lock) error { panic("it is not asked") })
	assert.ErrorContains(t, err, path+":1:9: found format 2, expected format 1. A newer version has written it")
	err = lock.Update(t.Context(), filepath.Join(dir, "none", "ferrule.lock"), func(*lock.Lock) error { panic("it is not asked") })
	assert.ErrorIs(t, err, registry.ErrLock)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A lock that cannot be read says so as everything else of the lock does, and what to do.
func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "ferrule.lock")
	require.NoError(t, os.Mkdir(folder, 0o755))
	never := func(*lock.Lock) error { panic("it is not asked") }
	paths := []string{folder}
	if secret := filepath.Join(dir, "secret.lock"); runtime.GOOS != "windows" && os.Getuid() != 0 {
		require.NoError(t, os.WriteFile(secret, []byte("format: 1\n"), 0))
		paths = append(paths, secret)
	}
	for _, path := range paths {
		_, loaded := lock.Load(path)
		for _, err := range []error{loaded, lock.Update(t.Context(), path, never)} {
			var e *registry.Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, registry.ErrLock)
			assert.Equal(t, path, e.Path)
			assert.NotEmpty(t, e.Found)
			assert.NotEmpty(t, e.Expected)
			assert.NotEmpty(t, e.Remedy)
		}
	}
}

// Who waits for another process waits no longer than its context.
func TestUpdateEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ferrule.lock")
	ended := errors.New("interrupted")
	update(t, path, func(l *lock.Lock) {
		ctx, end := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { end(ended) })
		assert.ErrorIs(t, lock.Update(ctx, path, func(*lock.Lock) error { panic("another one is in it") }), ended)
		add(l, "a", "1.0.0")
	})
	_, err := lock.Load(path)
	require.NoError(t, err)
}

func TestLinksStay(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	path, real := filepath.Join(dir, "ferrule.lock"), filepath.Join(other, "real.lock")
	if err := os.Symlink(real, path); err != nil {
		t.Skip("this system lets nobody make links: ", err)
	}
	for _, version := range []string{"1.0.0", "1.1.0"} { // the file is not there the first time
		update(t, path, func(l *lock.Lock) { add(l, "a", version) })
		got, err := lock.Load(path)
		require.NoError(t, err)
		assert.Equal(t, version, got.Plugins["a"].Version)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&fs.ModeSymlink)
	}
	alone(t, dir, "ferrule.lock")
	alone(t, other, "real.lock")
	circle := filepath.Join(dir, "circle")
	require.NoError(t, os.Symlink(circle, circle))
	assert.ErrorIs(t, lock.Update(t.Context(), circle, func(*lock.Lock) error { panic("it is not asked") }), registry.ErrLock)
}

// A path through a folder that is missing leads to no file, as Load has it, and not to one beside.
func TestNothingBehindNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it takes .. for what is before the name, there or not")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.Symlink("none/../ferrule.lock", "link"))
	for _, path := range []string{"none/../ferrule.lock", filepath.Join(dir, "none") + "/../ferrule.lock", "none/ferrule.lock", "none/..", "link"} {
		_, err := lock.Load(path)
		require.ErrorIs(t, err, fs.ErrNotExist, path)
		err = lock.Update(t.Context(), path, func(*lock.Lock) error { panic("it is not asked") })
		require.ErrorIs(t, err, fs.ErrNotExist, path)
		require.ErrorIs(t, err, registry.ErrLock, path)
	}
	alone(t, dir, "link")
	require.NoError(t, os.Mkdir("none", 0o700))
	for _, path := range []string{"none/../ferrule.lock", "link"} {
		update(t, path, func(l *lock.Lock) { add(l, "a", "1.0.0") })
	}
	_, err := os.Lstat("ferrule.lock")
	require.NoError(t, err)
}

func TestModesStay(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "ferrule.lock")
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o666} {
		update(t, path, func(l *lock.Lock) { add(l, "a", "1.0.0") })
		require.NoError(t, os.Chmod(path, mode))
		update(t, path, func(l *lock.Lock) { add(l, "a", "1.1.0") })
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm())
	}
	require.NoError(t, os.Chmod(path, 0o444))
	update(t, path, func(l *lock.Lock) {})
	err := lock.Update(t.Context(), path, func(l *lock.Lock) error {
		add(l, "b", "1.0.0")
		return nil
	})
	assert.ErrorIs(t, err, registry.ErrLock)
	assert.ErrorContains(t, err, path+": found a file or folder that may only be read, expected one that this user may write to: permission denied. Change the lock where it is written")
	assert.Equal(t, err, lock.Writable(t.Context(), path))
	alone(t, filepath.Dir(path), "ferrule.lock")
}

// What is only tried changes nothing, where there is a file and where there is none.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ferrule.lock")
	require.NoError(t, lock.Writable(t.Context(), path))
	alone(t, dir)
	update(t, path, func(l *lock.Lock) { add(l, "a", "1.0.0") })
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, lock.Writable(t.Context(), path))
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after))
	assert.Equal(t, before.ModTime(), after.ModTime())
	alone(t, dir, "ferrule.lock")
}

func TestManyProcessesUpdate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ferrule.lock")
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			out, err := reexec.Command(t, task{Path: path, Name: "p" + strconv.Itoa(i)}).Output()
			assert.NoError(t, err, "%s", out)
		})
	}
	all.Wait()
	got, err := lock.Load(path)
	require.NoError(t, err)
	assert.Len(t, got.Plugins, 64, "no change is lost")
	alone(t, dir, "ferrule.lock")
}

// Killed at any point, an update has happened or not.
func TestKilledUpdates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ferrule.lock")
	update(t, path, func(l *lock.Lock) { *l = *sample() })
	kills := 0
	for end := time.Now().Add(reexec.Long(t, time.Second)); time.Now().Before(end); kills++ {
		one, two := reexec.Command(t, task{Path: path, Name: "a", Endless: true}), reexec.Command(t, task{Path: path, Name: "b", Endless: true})
		require.NoError(t, one.Start())
		require.NoError(t, two.Start())
		time.Sleep(time.Duration(kills%40) * time.Millisecond)
		for _, cmd := range []*exec.Cmd{one, two} {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			require.False(t, cmd.ProcessState.Exited(), "it was killed, and did not fail")
		}
		got, err := lock.Load(path)
		require.NoError(t, err)
		require.Equal(t, sample().Plugins["tax"], got.Plugins["tax"])
	}
	t.Logf("%d kills", 2*kills)
	update(t, path, func(l *lock.Lock) { add(l, "c", "1.0.0") })
	alone(t, dir, "ferrule.lock")
}

// Changes to different plug-ins merge by themselves, and those to the same one conflict there.
func TestMerges(t *testing.T) {
	program := fixture.Tool(t, "git", "apt-get install git")
	dir := t.TempDir()
	path := filepath.Join(dir, "ferrule.lock")
	git := func(args ...string) (string, error) {
		cmd := exec.Command(program, append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := git(args...)
		require.NoError(t, err, out)
		return out
	}
	must("init", "-q", "-b", "main")
	update(t, path, func(l *lock.Lock) {
		for _, name := range []string{"b", "d", "f", "h"} {
			add(l, name, "1.0.0")
		}
	})
	must("add", "ferrule.lock")
	must("commit", "-qm", "one")
	branch := func(name string, change func(*lock.Lock)) {
		t.Helper()
		must("checkout", "-q", "-b", name, "main")
		update(t, path, change)
		must("commit", "-qam", name)
	}
	digests := func(e *lock.Entry) { // an update changes a block from its first line to its last
		e.Version = "1.1.0"
		for platform := range e.Files {
			e.Files[platform] = registry.File{Digest: digest("9"), Size: 9}
		}
	}
	branch("new", func(l *lock.Lock) {
		add(l, "a", "1.0.0")
		digests(l.Plugins["d"])
	})
	assert.Equal(t, "1 file changed, 11 insertions(+), 3 deletions(-)", strings.TrimSpace(strings.Split(must("diff", "--stat", "main", "new"), "\n")[1]))
	branch("other", func(l *lock.Lock) {
		digests(l.Plugins["f"]) // the block beside the one that the other branch changes
		add(l, "i", "1.0.0")
		delete(l.Plugins, "h")
	})
	must("merge", "-q", "-m", "merge", "new")
	got, err := lock.Load(path)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(got.Text()), string(text), "a merge is as if it had been written so")
	var versions []string
	for _, name := range []string{"a", "b", "d", "f", "i"} {
		versions = append(versions, got.Plugins[name].Version)
	}
	assert.Equal(t, []string{"1.0.0", "1.0.0", "1.1.0", "1.1.0", "1.0.0"}, versions)
	assert.Len(t, got.Plugins, 5)

	branch("third", func(l *lock.Lock) { l.Plugins["d"].Version = "2.0.0" })
	out, err := git("merge", "-q", "-m", "merge", "new")
	require.Error(t, err, out)
	_, err = lock.Load(path)
	assert.ErrorContains(t, err, "found a conflict of a merge, expected one side of it. Take one side (git checkout --ours or --theirs), then install or update again")
}
