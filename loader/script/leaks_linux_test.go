package script_test

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

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
			before := fixture.Holds(t)
			many(opens)
			var after fixture.Held
			// What has ended is waited for beside the caller.
			for range 100 {
				if after = fixture.Holds(t); after.Descriptors <= before.Descriptors && after.Children <= before.Children {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			assert.LessOrEqual(t, after.Descriptors, before.Descriptors)
			assert.LessOrEqual(t, after.Children, before.Children)
			assert.LessOrEqual(t, after.Threads, before.Threads+16, "Go keeps threads, for which there is a bound")
			assert.LessOrEqual(t, after.Memory-before.Memory, int64(24<<20), fmt.Sprintf("%d opens", opens))
			t.Logf("%d times: %+v, then %+v", opens, before, after)
		})
	}
}
