package callctx

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// comesFrom returns what the calls hold that a call with ctx, on this goroutine, comes from.
func comesFrom(t *testing.T, ctx context.Context) (all []any) {
	c := ask(t, ctx)
	c.ComesFrom(func(outer *Call) bool {
		all = append(all, outer.Holds())
		return false
	})
	return all
}

// needsNumbers skips a test where goroutines are not told apart: there a goroutine is not known to serve a call.
func needsNumbers(t *testing.T) {
	t.Helper()
	if goroutine.ID() == 0 {
		t.Skip("on this architecture goroutines have no number")
	}
}

// Goroutines that serve calls do not all wait for one part of the table.
func TestServingIsSpread(t *testing.T) {
	needsNumbers(t)
	const many = 16 * len(serving)
	ids, leave := make(chan uintptr), make(chan struct{})
	defer close(leave)
	for range many { // all there at the same time, so that no two have the same number
		go func() {
			ids <- goroutine.ID()
			<-leave
		}()
	}
	parts := make(map[*serves]int)
	for range many {
		parts[part(<-ids)]++
	}
	assert.Greater(t, len(parts), len(serving)/2)
	for _, n := range parts {
		assert.Less(t, n, many/4)
	}
}

// A goroutine that serves a call comes from what the call comes from, too, and from each of them once.
func TestServeWithin(t *testing.T) {
	needsNumbers(t)
	outer := within(t, context.Background(), "outer")
	one := within(t, outer, "one")
	two := within(t, one, "two")
	defer one.Serve()()
	assert.Equal(t, []any{"one", "outer"}, comesFrom(t, context.Background()))
	defer two.Serve()()
	assert.Equal(t, []any{"two", "one", "outer"}, comesFrom(t, context.Background()))
	one.End()
	assert.Equal(t, []any{"two", "outer"}, comesFrom(t, context.Background()))
	two.End()
	assert.Equal(t, []any{"outer"}, comesFrom(t, context.Background()), "which still runs")
	outer.End()
	assert.Empty(t, comesFrom(t, context.Background()))
}

// A goroutine that serves a call is known, with any context, until it does not any more; others are not, and neither is a call that is over.
func TestServe(t *testing.T) {
	needsNumbers(t)
	background := context.Background()
	one, two, by := within(t, background, 1), within(t, background, 2), within(t, background, "by its context")
	assert.Empty(t, comesFrom(t, background))
	endOne := one.Serve()
	assert.Equal(t, []any{1}, comesFrom(t, background))
	endTwo := two.Serve()
	assert.Equal(t, []any{2, 1}, comesFrom(t, background), "the innermost first")
	assert.Equal(t, []any{"by its context", 2, 1}, comesFrom(t, by))
	c := ask(t, by)
	assert.True(t, c.ComesFrom(func(outer *Call) bool { return outer == one }))
	assert.True(t, Served(func(outer *Call) bool { return outer == two }))
	assert.False(t, Served(func(outer *Call) bool { return outer == by }), "nothing but its context says so")
	var all sync.WaitGroup
	for i := range 200 { // many have a part of the table in common
		all.Go(func() {
			assert.Empty(t, comesFrom(t, background))
			mine := within(t, background, 1000+i)
			end := mine.Serve()
			assert.Equal(t, []any{1000 + i}, comesFrom(t, background))
			end()
			assert.Empty(t, comesFrom(t, background))
		})
	}
	all.Wait()
	two.End()
	assert.Equal(t, []any{1}, comesFrom(t, background))
	endTwo()
	assert.Equal(t, []any{1}, comesFrom(t, background))
	endOne()
	assert.Empty(t, comesFrom(t, background))
	for i := range serving {
		require.Zero(t, serving[i].count.Load())
		require.Empty(t, serving[i].on)
	}
}
