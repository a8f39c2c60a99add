//go:build linux

package host

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// A call that comes from another one waits for a lane that is neither a call's nor to be had yet: it is being parked.
func TestWaitsForALaneThatIsBeingParked(t *testing.T) {
	p, _, err := pluginFor(t, &victim{t: t, most: 1 << 20}, tame, nil)
	require.NoError(t, err)
	require.Equal(t, 2, p.lanes)
	background := callctx.Background
	first, err := p.acquire(&background)
	require.NoError(t, err)
	outer := p.begin(first)
	var second *hostLane
	done := make(chan struct{})
	go func() {
		defer close(done)
		second, err = p.acquire(&background)
	}()
	<-done
	require.NoError(t, err)

	second.on.Store(nowhere) // the first half of park
	nested, err := callctx.Ask(outer.hostContext())
	require.NoError(t, err)
	taken := make(chan error, 1)
	go func() {
		l, err := p.acquire(&nested)
		if err == nil {
			p.disown(l)
		}
		taken <- err
	}()
	for queued := 0; queued == 0; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		queued = p.queued
		p.mu.Unlock()
		if len(taken) > 0 {
			break
		}
	}
	second.seat.push(second) // the second half
	p.mu.Lock()
	second.seat.unpark()
	p.mu.Unlock()
	select {
	case err := <-taken:
		assert.NoError(t, err)
	case <-time.After(hang):
		t.Error("it waits for ever")
	}
	outer.end()
}
