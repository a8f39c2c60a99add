package fleet

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
)

func of(nodes int) *fleet {
	f := &fleet{nodes: make(map[string]*node)}
	for i := range nodes {
		id := strconv.Itoa(i)
		f.came(broker.Node{ID: id, Name: "a", Address: id, Serves: true})
	}
	return f
}

// A call goes to a node with the fewest calls, of these to one that has a session, and to one that is avoided only where there is no other.
func TestPick(t *testing.T) {
	f := of(4)
	taken := make(map[*node]bool)
	for range 4 {
		n := f.pick(nil)
		require.False(t, taken[n])
		taken[n] = true
	}
	f.nodes["2"].small = &session{}
	require.Same(t, f.nodes["2"], f.pick(nil), "all have one call, and it has a session")
	require.NotSame(t, f.nodes["2"], f.pick(nil), "it has two")
	f = of(3)
	f.nodes["0"].leaves = true
	f.nodes["1"].calls = 100
	f.avoid(f.nodes["2"], false)
	require.Same(t, f.nodes["1"], f.pick(nil))
	require.Same(t, f.nodes["2"], f.pick(map[*node]bool{f.nodes["1"]: true}))
	require.Nil(t, f.pick(map[*node]bool{f.nodes["1"]: true, f.nodes["2"]: true}))
	require.Equal(t, 101, f.nodes["1"].calls)
	// Those that are alike have as many, give or take chance.
	f = of(4)
	counts := make(map[string]int)
	for range 4000 {
		n := f.pick(nil)
		counts[n.ID]++
		f.done(n)
	}
	for _, count := range counts {
		assert.InDelta(t, 1000, count, 200)
	}
}

// A node that is gone has no call any more, those beside it do; one that comes again is one.
func TestRemove(t *testing.T) {
	f := of(10)
	for _, id := range []string{"9", "0", "4", "4", "unknown"} {
		f.went(id)
	}
	f.came(broker.Node{ID: "4", Serves: true})
	f.came(broker.Node{ID: "3", Address: "another", Serves: true})
	f.came(broker.Node{ID: "3", Address: "another", Serves: true})
	f.avoid(f.nodes["5"], true)
	seen := make(map[string]bool)
	for range len(f.nodes) {
		seen[f.pick(nil).ID] = true
	}
	assert.Equal(t, map[string]bool{"1": true, "2": true, "3": true, "4": true, "6": true, "7": true, "8": true}, seen)
	assert.Len(t, f.list, len(seen))
	for i, n := range f.list {
		assert.Equal(t, i, n.at)
		assert.Same(t, n, f.nodes[n.ID])
	}
}

func BenchmarkPick(b *testing.B) {
	for _, nodes := range []int{1, 4, 100, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			f := of(nodes)
			for b.Loop() {
				f.done(f.pick(nil))
			}
		})
	}
}
