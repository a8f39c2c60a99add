package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
)

// A node whose calls are lost is avoided; when that is over one call tries it, and others go elsewhere until that has come back. Each time is twice as long as the one before.
func TestAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{nodes: make(map[string]*node)}
		f.came(broker.Node{ID: "good", Address: "a", Serves: true})
		f.came(broker.Node{ID: "bad", Address: "b", Serves: true})
		good, bad := f.nodes["good"], f.nodes["bad"]
		good.calls = 100 // it is never the one with fewer
		for range 10 {
			f.avoid(bad, false) // those that were there together
		}
		var waited []time.Duration
		for range 7 {
			begin := time.Now()
			for f.pick(nil) != bad {
				time.Sleep(time.Millisecond)
			}
			waited = append(waited, time.Since(begin).Round(10*time.Millisecond))
			for range 10 {
				assert.Same(t, good, f.pick(nil), "one is there to find out")
			}
			if len(waited)%2 == 0 {
				f.comes(bad, true) // its context has ended, and nothing was heard
			}
			f.avoid(bad, false)
		}
		s := time.Second
		assert.Equal(t, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 16 * s, 16 * s}, waited)
		time.Sleep(17 * s)
		assert.Same(t, bad, f.pick(nil))
		f.comes(bad, false)
		for range 10 {
			assert.Same(t, bad, f.pick(nil))
			f.done(bad)
		}
		f.comes(bad, true)
		assert.Same(t, bad, f.pick(nil), "a call that is late says nothing of a node that was not in doubt")
		f.avoid(bad, false)
		time.Sleep(s)
		assert.Same(t, bad, f.pick(nil), "it is as short as at first")
		assert.Same(t, bad, f.pick(map[*node]bool{good: true}), "there is no other")
	})
}
