package store_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

func TestManyProcessesAtOnce(t *testing.T) {
	folder, dir := filepath.Join(t.TempDir(), "store"), t.TempDir()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			kind := strconv.Itoa(i % 4)
			do := task{Do: "put", Folder: folder, Text: strings.Repeat("text "+kind+"\n", 1000), Log: filepath.Join(dir, kind)}
			out, err := reexec.Command(t, do).Output()
			assert.NoError(t, err, "%s", out)
			path := strings.TrimSpace(strings.TrimPrefix(string(out), "put "))
			got, err := os.ReadFile(path)
			assert.NoError(t, err)
			assert.Equal(t, do.Text, string(got))
		})
	}
	all.Wait()
	for kind := range 4 {
		fills, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(kind)))
		require.NoError(t, err)
		assert.Equal(t, "0\n", string(fills), "one process fetches, the others wait")
	}
	assert.Len(t, everything(t, folder), 4)
}

func TestWhoWaitsTakesOver(t *testing.T) {
	folder, log := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "log")
	do := task{Do: "stall", Folder: folder, Text: strings.Repeat("a long text\n", 1000), Log: log}
	first, lines := start(t, do)
	line(t, lines, "half")
	do.Do = "put"
	_, waiting := start(t, do)
	time.Sleep(100 * time.Millisecond) // it should wait by now; when it does not yet, the test shows less
	assert.NoFileExists(t, log, "one process fetches, the others wait")
	require.NoError(t, first.Process.Kill())
	line(t, waiting, "put")
	fills, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(len(do.Text)/2)+"\n", string(fills), "it goes on where the killed one was")
}

// Killed at any point, the store has whole files only, and all work goes on.
func TestKills(t *testing.T) {
	const files, at = 6, 3
	folder := filepath.Join(t.TempDir(), "store")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	texts := map[string]string{}
	for i := range files {
		texts[digestOf(content(i))] = content(i)
	}
	kills := 0
	for end := time.Now().Add(reexec.Long(t, 3*time.Second)); time.Now().Before(end); {
		var all sync.WaitGroup
		for range at {
			cmd, lines := start(t, task{Do: "churn", Folder: folder, Seed: r.Uint64(), Files: files})
			after := time.Duration(r.Int64N(int64(60 * time.Millisecond)))
			all.Go(func() {
				if !assert.True(t, lines.Scan()) || !assert.Equal(t, "begin", lines.Text()) {
					return
				}
				time.Sleep(after)
				assert.NoError(t, cmd.Process.Kill())
				for lines.Scan() { // an error would be there
					assert.Fail(t, lines.Text())
				}
				_ = cmd.Wait()
			})
			kills++
		}
		all.Wait()
		s := open(t, folder)
		for digest, text := range texts {
			file, err := s.Find(t.Context(), digest)
			if err != nil { // not there, or damaged by the churn
				continue
			}
			got, err := os.ReadFile(file.Path)
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		}
		s.Close()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills", kills)
	s := open(t, folder)
	for digest, text := range texts {
		file, err := s.Put(t.Context(), digest, int64(len(text)), "sample.so", from(text))
		require.NoError(t, err)
		got, err := os.ReadFile(file.Path)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	assert.Len(t, everything(t, folder), files)
	s.Close()
	s = open(t, folder)
	_, n, err := s.GC(t.Context(), func(string) bool { return false }, 0)
	require.NoError(t, err)
	assert.Equal(t, files, n)
	left, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is left of those that were killed")
}

// Who has used a file until GC has it, and has written down that it needs it, keeps it.
func TestGCAsksAgain(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	text := "a library that a lock names since"
	file, err := s.Put(t.Context(), digestOf(text), -1, "sample.so", from(text))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	s = open(t, s.Folder())
	asked := 0
	_, n, err := s.GC(t.Context(), func(digest string) bool {
		assert.Equal(t, digestOf(text), digest)
		asked++
		return asked > 1
	}, 0)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.FileExists(t, file.Path)
}

func TestGCLeavesWhatAnotherProcessUses(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	put, s := open(t, folder), open(t, folder)
	none := func(string) bool { return false }
	text := "a library that is loaded"
	file, err := put.Put(t.Context(), digestOf(text), -1, "sample.so", from(text))
	require.NoError(t, err)
	using := reexec.Command(t, task{Do: "use", Folder: folder, Text: text})
	stdin, err := using.StdinPipe()
	require.NoError(t, err)
	using.Stdout, err = os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	require.NoError(t, using.Start())
	defer stdin.Close()
	require.Eventually(t, func() bool {
		out, err := os.ReadFile(using.Stdout.(*os.File).Name())
		return err == nil && strings.HasPrefix(string(out), "use ")
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, put.Close())

	filling, lines := start(t, task{Do: "stall", Folder: folder, Text: "a library that is being fetched"})
	line(t, lines, "half")
	half := filepath.Join(folder, "half", digestOf("a library that is being fetched")[7:])

	for range 2 {
		_, n, err := s.GC(t.Context(), none, 0)
		require.NoError(t, err)
		assert.Zero(t, n)
		assert.FileExists(t, file.Path)
		assert.FileExists(t, half)
		err = s.Delete(t.Context(), file.Digest)
		assert.ErrorContains(t, err, "found a file that a process uses or fills, expected one that none does. End the processes that use it first")
	}
	require.NoError(t, filling.Process.Kill())
	_ = filling.Wait()
	require.NoError(t, stdin.Close())
	require.NoError(t, using.Wait())
	freed, n, err := s.GC(t.Context(), none, 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, int64(len(text)+len("a library that is being fetched")/2), freed)
	assert.Empty(t, everything(t, folder))
	assert.NoFileExists(t, half)
}

// What a process has forgotten a GC takes; what it still uses stays, and what it finds again is in use again.
func TestForget(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	s, other := open(t, folder), open(t, folder)
	none := func(string) bool { return false }
	var files []store.File
	for _, text := range []string{"the version of before", "the version that runs"} {
		file, err := s.Put(t.Context(), digestOf(text), -1, "sample.so", from(text))
		require.NoError(t, err)
		files = append(files, file)
	}
	gone := func(want ...string) {
		t.Helper()
		_, n, err := other.GC(t.Context(), none, 0)
		require.NoError(t, err)
		assert.Equal(t, len(want), n)
		for _, path := range want {
			assert.NoFileExists(t, path)
		}
	}
	gone()
	s.Forget(func(digest string) bool { return digest == files[1].Digest })
	gone(files[0].Path)
	s.Forget(none)
	_, err := s.Find(t.Context(), files[1].Digest)
	require.NoError(t, err)
	gone()
	s.Forget(none)
	gone(files[1].Path)
}

// While files come, go and are damaged, a process has what it found until it closes the store.
func TestFoundStays(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "store")
	const n = 3
	end := time.Now().Add(reexec.Long(t, time.Second))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for time.Now().Before(end) {
				s, err := store.Open(folder)
				if !assert.NoError(t, err) {
					return
				}
				text := content(r.IntN(n))
				file, err := s.Put(t.Context(), digestOf(text), int64(len(text)), "sample.so", from(text))
				if !assert.NoError(t, err) {
					return
				}
				_, _, err = s.GC(t.Context(), func(string) bool { return false }, 0)
				assert.NoError(t, err)
				got, err := os.ReadFile(file.Path)
				assert.NoError(t, err)
				assert.Equal(t, text, string(got))
				assert.NoError(t, s.Close())
			}
		})
	}
	all.Wait()
}
