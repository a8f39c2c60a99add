package loader_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// What a plug-in sees of other calls, for each word that it may declare.
func TestThreads(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, c := range []struct {
			threads string
			apart   bool // calls of an instance never run at the same time
			home    bool // calls run on start's thread
		}{{"serial", true, false}, {"concurrent", false, false}, {"pinned", true, true}} {
			t.Run(c.threads, func(t *testing.T) {
				logger, lines := logger()
				p, err := w.try(fixture.C(t, "threads_"+c.threads), loader.WithLogger(logger))
				require.NoError(t, err)
				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						for range 10 {
							_, err := p.Call(ctx, "stay", nil)
							assert.NoError(t, err)
							if c.apart {
								_, err = p.Call(ctx, "count", nil)
								assert.NoError(t, err)
							}
						}
					})
				}
				wg.Wait()
				var calls, most, elsewhere int
				_, err = fmt.Sscan(call(t, p, "report", ""), &calls, &most, &elsewhere)
				require.NoError(t, err)
				if c.apart {
					assert.Equal(t, 80, calls)
					assert.Equal(t, 1, most)
				} else {
					assert.Greater(t, most, 1)
				}
				if c.home {
					assert.Zero(t, elsewhere)
				}
				require.NoError(t, p.Close())
				assert.Equal(t, []string{""}, lines.all(), "stop ran where it must")
			})
		}
	})
}

func TestInstancesAreApart(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "state"), loader.WithConfig([]byte("100")), loader.WithInstances(4))
		assert.Equal(t, "4", call(t, p, "alive", ""))
		sum := 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		last := make(map[int]bool)
		for range 8 {
			wg.Go(func() {
				for range 50 {
					out, err := p.Call(ctx, "next", nil)
					assert.NoError(t, err)
					var n int
					fmt.Sscan(string(out), &n)
					mu.Lock()
					last[n] = true
					sum++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 400, sum)
		assert.True(t, last[101], "each counter starts at the configuration's number")
		other := w.open(t, fixture.C(t, "state"))
		assert.Equal(t, "1", call(t, other, "next", ""), "another plug-in of the same file has its own")
		if w.isolated && w.group == nil {
			assert.Equal(t, "1", call(t, other, "alive", ""), "a worker of its own has loaded the library anew")
		} else {
			assert.Equal(t, "5", call(t, other, "alive", ""))
		}
	})
}

// As many calls run at once as there are instances.
func TestInstancesRunAtTheSameTime(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"serial", "pinned"} {
			p := w.open(t, fixture.C(t, "threads_"+threads), loader.WithInstances(3))
			for idle := true; idle; { // an instance that had no call yet: the others were done sooner than it was asked
				idle = false
				var wg sync.WaitGroup
				for range 9 {
					wg.Go(func() {
						_, err := p.Call(ctx, "stay", nil)
						assert.NoError(t, err)
					})
				}
				wg.Wait()
				for range 20 {
					var calls, most, elsewhere int
					_, err := fmt.Sscan(call(t, p, "report", ""), &calls, &most, &elsewhere)
					require.NoError(t, err)
					require.LessOrEqual(t, most, 1)
					idle = idle || most == 0
				}
			}
		}
	})
}

// After a panic the instance is stopped and started anew, with the same configuration.
func TestPanicRenewsTheInstance(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, instances := range []int{1, 3} {
			p := w.open(t, fixture.C(t, "state"), loader.WithConfig([]byte("10")), loader.WithInstances(instances))
			alive := call(t, p, "alive", "")
			for range 5 {
				call(t, p, "next", "")
				number := call(t, p, "number", "")
				_, err := p.Call(ctx, "panic", nil)
				var e *loader.CallError
				require.ErrorAs(t, err, &e)
				assert.ErrorIs(t, err, loader.ErrPanic)
				assert.Equal(t, "index out of range", e.Message)
				if instances == 1 {
					assert.Equal(t, "11", call(t, p, "next", ""), "the state is new")
					assert.NotEqual(t, number, call(t, p, "number", ""))
				}
				assert.Equal(t, alive, call(t, p, "alive", ""), "the old state was dropped")
			}
		}
	})
}

func TestPanicsInParallel(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "state"), loader.WithInstances(2))
		alive := call(t, p, "alive", "")
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					if (g+i)%3 == 0 {
						_, err := p.Call(ctx, "panic", nil)
						assert.ErrorIs(t, err, loader.ErrPanic)
					} else {
						_, err := p.Call(ctx, "next", nil)
						assert.NoError(t, err)
					}
				}
			})
		}
		wg.Wait()
		_, err := p.Call(ctx, "next", nil)
		require.NoError(t, err)
		assert.Equal(t, alive, call(t, p, "alive", ""))
	})
}

// Many goroutines on few instances: no two calls of one instance at a time, and nobody waits for ever.
func TestContention(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		calls := w.rounds(3000, 200)
		if stress.Enabled {
			calls = 50
		}
		for _, threads := range []string{"serial", "pinned"} {
			p := w.open(t, tempLibrary(t, fixture.C(t, "threads_"+threads)))
			within(t, func() {
				var wg sync.WaitGroup
				for range 32 {
					wg.Go(func() {
						for range calls {
							_, err := p.Call(ctx, "count", nil)
							assert.NoError(t, err)
						}
					})
				}
				wg.Wait()
			})
			var counted, most, elsewhere int
			_, err := fmt.Sscan(call(t, p, "report", ""), &counted, &most, &elsewhere)
			require.NoError(t, err)
			assert.Equal(t, 32*calls, counted, "the plug-in counts without a lock")
			assert.Equal(t, 1, most)
		}
	})
}
