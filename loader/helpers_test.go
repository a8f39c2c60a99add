package loader_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

var ctx = context.Background()

// way is a way in which a plug-in runs: in this process, where nothing is set.
type way struct {
	isolated, inGo bool
	group          *isolate.Group // that it is in, with isolated; nil by itself
}

// patience is the grace of the tests' workers: a call that was asked to stop, and does, is not to be killed because the machine has much else to do.
const patience = 5 * time.Second

var inProcess, isolated = way{}, way{isolated: true}

// bothWays runs a test with plug-ins in this process, and with the same ones in workers. What must hold is the same, but
// where the test asks w.isolated, and says why.
func bothWays(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	t.Run("in-process", func(t *testing.T) { test(t, inProcess) })
	t.Run("isolated", func(t *testing.T) { test(t, isolated) })
	t.Run("in a group", func(t *testing.T) {
		// With another plug-in that was there before, so that none of the test's is the only one, or the first one.
		w := way{isolated: true, group: isolate.NewGroup("kin", isolate.WithEnv(workerEnv...), isolate.WithGrace(patience))}
		beside := w.open(t, fixture.C(t, "echo"))
		test(t, w)
		require.Equal(t, "beside", call(t, beside, "echo", "beside"))
	})
}

// try opens a plug-in.
func (w way) try(path string, opts ...loader.Option) (*loader.Plugin, error) {
	if w.inGo {
		return builtin.Open(double(path), opts...)
	}
	return loader.Open(path, w.options(opts)...)
}

func (w way) openContext(ctx context.Context, path string, opts ...loader.Option) (*loader.Plugin, error) {
	return loader.OpenContext(ctx, path, w.options(opts)...)
}

func (w way) options(opts []loader.Option) []loader.Option {
	switch {
	case w.group != nil:
		opts = append(opts[:len(opts):len(opts)], isolate.InGroup(w.group))
	case w.isolated:
		opts = append(opts[:len(opts):len(opts)], isolate.InWorker(isolate.WithEnv(workerEnv...), isolate.WithGrace(patience)))
	}
	return opts
}

// open opens a plug-in until the end of the test.
func (w way) open(t testing.TB, path string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	p, err := w.try(path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	_, isolated := p.Isolation()
	require.Equal(t, w.isolated, isolated)
	return p
}

// rounds is how often a test does something that takes its time: less often where each time starts a worker, in short
// tests, and with the race detector, with which everything takes some ten times as long.
func (w way) rounds(inProcess, isolated int) int {
	n := inProcess
	if w.isolated {
		n = isolated
	}
	if testing.Short() || raceDetector {
		n = max(1, n/5)
	}
	return n
}

func open(t testing.TB, path string, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	return inProcess.open(t, path, opts...)
}

func call(t testing.TB, p *loader.Plugin, name, in string) string {
	t.Helper()
	out, err := p.Call(ctx, name, []byte(in))
	require.NoError(t, err)
	return string(out)
}

// assertSentence checks that an error says what to do in a sentence that begins as one and ends with one mark.
func assertSentence(t testing.TB, e *loader.OpenError) {
	t.Helper()
	if assert.NotEmpty(t, e.Remedy) {
		assert.Regexp(t, `^[A-Z].*[^.!]$`, e.Remedy)
		assert.Regexp(t, `[^.?!][.?]$`, e.Error())
	}
}

// lines is a logger's output.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.buf.String(), "\n"), "\n")
}

// logger returns a logger of all levels, without times, and what it wrote.
func logger() (*slog.Logger, *lines) {
	l := new(lines)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: loader.LevelTrace,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})), l
}

// whenBegun returns a logger that does something each time that a plug-in's log line says that a call has begun. Whoever ends
// a call's context so ends a call that runs, on a busy machine too; a time may be over before the call is entered.
func whenBegun(do func()) *slog.Logger {
	return slog.New(slog.NewTextHandler(writer(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte("msg=begun")) {
			do()
		}
		return len(line), nil
	}), &slog.HandlerOptions{Level: loader.LevelTrace}))
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// residentBytes returns the memory of this process that is in RAM.
func residentBytes(t testing.TB) int {
	t.Helper()
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator has memory of its own beside the program's")
	}
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is read from /proc, which only Linux has")
	}
	text, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	var pages int
	for _, c := range strings.Fields(string(text))[1] {
		pages = pages*10 + int(c-'0')
	}
	return pages * os.Getpagesize()
}

// upper is the host function of the fixtures that import one.
func upper(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }

// copyTo copies a library to another path.
func copyTo(t testing.TB, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, data, 0o755))
	return to
}

func tempLibrary(t testing.TB, from string) string {
	return copyTo(t, from, filepath.Join(tempDir(t), filepath.Base(from)))
}

// tempDir is TempDir for libraries: on Windows one that stays loaded for good, as some do here by design, cannot be
// deleted by the process that loaded it.
func tempDir(t testing.TB) string {
	if runtime.GOOS != "windows" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("", "ferrule-*")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// within fails the test when fn takes so long that it must be stuck: some make thousands of calls, each of which a busy machine makes wait for a turn.
func within(t testing.TB, fn func()) {
	t.Helper()
	done := make(chan bool, 1)
	go func() {
		returned := false
		defer func() { done <- returned }()
		fn()
		returned = true
	}()
	select {
	case returned := <-done:
		if !returned && !t.Failed() {
			t.Fatal("the goroutine was ended")
		}
	case <-time.After(2 * time.Minute):
		buf := make([]byte, 1<<20)
		t.Fatalf("stuck:\n%s", buf[:runtime.Stack(buf, true)])
	}
}
