package script_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

// what this process holds of the system.
type held struct {
	descriptors, threads, children int
	memory                         int64 // resident, in bytes
}

func holds(tb testing.TB) (h held) {
	tb.Helper()
	count := func(path string) int {
		entries, err := os.ReadDir(path)
		require.NoError(tb, err)
		return len(entries)
	}
	runtime.GC()
	debug.FreeOSMemory()
	h.descriptors, h.threads = count("/proc/self/fd"), count("/proc/self/task")
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(tb, err)
	for _, task := range tasks {
		children, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err == nil { // a thread may have ended since then
			h.children += len(strings.Fields(string(children)))
		}
	}
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(tb, err)
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(tb, err)
	h.memory = pages * int64(os.Getpagesize())
	return h
}

// Scripts that are opened, called and closed, some of which do not open, leave nothing: FERRULE_TEST_OPENS says how many.
func TestOpenedAndClosed(t *testing.T) {
	opens := 24
	if text := os.Getenv("FERRULE_TEST_OPENS"); text != "" {
		var err error
		opens, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	for name, e := range forms(t) {
		t.Run(name, func(t *testing.T) {
			file, fails := "busy"+e.ext, "// ferrule: name=fails version=1 fn=x\nexport const x = () => 1;\nconst kept = new Array(10000).fill(globalThis);\nthrow new Error('no');\n"
			if e.ext == ".py" {
				fails = "# ferrule: name=fails version=1 fn=x\nx = print\nkept = [globals()] * 10000\nraise ValueError('no')\n"
			}
			path, failing := write(t, file, busy[file]), write(t, "fails"+e.ext, fails)
			one := func(i int) {
				p, err := loader.Open(path, loader.WithEngine(e.engine), loader.WithHostFunc("square", double), loader.WithHostFunc("again", double))
				if !assert.NoError(t, err) {
					return
				}
				well(t, p)
				s, err := p.NewSession(t.Context(), nil)
				if assert.NoError(t, err) {
					assert.NoError(t, s.Close())
				}
				assert.NoError(t, p.Close())
				if i%8 != 0 {
					return
				}
				_, err = loader.Open(failing, loader.WithEngine(e.engine))
				assert.ErrorIs(t, err, loader.ErrStart)
			}
			many := func(n int) {
				work := make(chan int, n)
				for i := range n {
					work <- i
				}
				close(work)
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						for i := range work {
							one(i)
						}
					})
				}
				all.Wait()
			}
			many(8)
			before := holds(t)
			many(opens)
			var after held
			// What has ended is waited for beside the caller.
			for range 100 {
				if after = holds(t); after.descriptors <= before.descriptors && after.children <= before.children {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			assert.LessOrEqual(t, after.descriptors, before.descriptors)
			assert.LessOrEqual(t, after.children, before.children)
			assert.LessOrEqual(t, after.threads, before.threads+16, "Go keeps threads, for which there is a bound")
			assert.LessOrEqual(t, after.memory-before.memory, int64(24<<20), fmt.Sprintf("%d opens", opens))
			t.Logf("%d times: %+v, then %+v", opens, before, after)
		})
	}
}
