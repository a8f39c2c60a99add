package fleet

import (
	"fmt"
	"strconv"
	"testing"
	"time"

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

// A call goes to a node with the fewest calls, of these to one that has a session where a few have, and to one that is avoided only where there is no other.
func TestPick(t *testing.T) {
	f := of(2 * few)
	taken := make(map[*node]bool)
	for range 2 * few {
		n := f.pick(nil)
		require.False(t, taken[n])
		taken[n] = true
	}
	for i := range few {
		f.nodes[strconv.Itoa(i)].small = &session{}
	}
	for range few {
		require.NotNil(t, f.pick(nil).small, "all have one call, and it has a session")
	}
	for range few {
		require.Nil(t, f.pick(nil).small, "those have two")
	}
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

// A host that makes one call at a time makes it to each of a few nodes, also once it has sessions with them, and makes no session with all of many.
func TestPickOneAtATime(t *testing.T) {
	for _, nodes := range []int{2, few, 100} {
		f := of(nodes)
		counts := make(map[string]int)
		for range 1000 * few {
			n := f.pick(nil)
			n.small = &session{}
			counts[n.ID]++
			f.done(n)
		}
		require.Len(t, counts, min(nodes, few))
		for _, count := range counts {
			assert.InDelta(t, 1000*few/min(nodes, few), count, 400)
		}
	}
	// One that is avoided is none of the few.
	f := of(few + 1)
	for i := range few {
		f.nodes[strconv.Itoa(i)].small = &session{}
	}
	f.nodes["0"].avoided = time.Now().Add(time.Hour)
	seen := make(map[string]bool)
	for range few {
		seen[f.pick(nil).ID] = true
	}
	assert.True(t, seen[strconv.Itoa(few)])
	assert.False(t, seen["0"])
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
