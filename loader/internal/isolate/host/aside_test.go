//go:build linux

package host

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// What a worker says by a lane aside is for a call that is there, or it is the worker's end.
func TestAsides(t *testing.T) {
	const itself = -100
	for _, c := range []struct {
		name    string
		waiting uint32
		say     lane.Message // its Status is a lane's number, after the call's
		want    string
	}{
		{"for the call", 1, lane.Message{Op: lane.OpHostCall}, ""},
		{"more than there are", 1 << 31, lane.Message{Op: lane.OpHostCall}, ""},
		{"a line", 1, lane.Message{Op: lane.OpLog}, ""},
		{"for itself", 1, lane.Message{Op: lane.OpHostCall, Status: itself}, "which has none"},
		{"for a lane that nobody uses", 1, lane.Message{Op: lane.OpHostCall, Status: -1}, "which has none"},
		{"for a lane that there is not", 1, lane.Message{Op: lane.OpHostCall, Status: lane.Lanes}, "which has none"},
		{"for a number that is none", 1, lane.Message{Op: lane.OpLog, Status: -1 << 31}, "which has none"},
		{"a function that there is not", 1, lane.Message{Op: lane.OpHostCall, Fn: 1000}, "the host function 1000"},
		{"the end", 1, lane.Message{Op: lane.OpDone}, "the end of a lane that has none"},
		{"something else", 1, lane.Message{Op: lane.OpOpen}, "the message 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inside, release := make(chan context.Context, 10), make(chan struct{})
			host := &opener{victim{t: t, most: 1 << 20}, func(ctx context.Context, _ *Plugin) ([]byte, abi.Status) {
				inside <- ctx
				<-release
				return nil, abi.StatusOK
			}}
			p, w, err := pluginFor(t, host, mute, nil)
			require.NoError(t, err)
			h := w.process.(*hostile)
			h.writers.Wait() // it is played from here on
			ended := make(chan error, 1)
			go func() {
				_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
				ended <- err
			}()
			within(t, "the call", func() {
				for !h.receive() {
				}
			})
			of := h.lane
			h.word(moreAt).Store(c.waiting)
			h.send(lane.Message{Op: lane.OpHostCall})
			first := <-inside
			within(t, "a lane aside", func() {
				for i := of; ; i = (i + 1) % served {
					if h.lane = i; i != of && h.word(0).Load() == turnWorker && h.down().Op == lane.OpAside {
						return
					}
					time.Sleep(10 * time.Microsecond)
				}
			})
			aside, say := h.lane, c.say
			if say.Status == itself {
				say.Status = int32(aside - of)
			}
			say.Status += int32(of)
			h.send(say)
			if c.want != "" {
				close(release)
				within(t, "the end", func() { err = <-ended })
				assert.ErrorContains(t, err, c.want)
				return
			}
			if say.Op == lane.OpHostCall {
				within(t, "the second one", func() { assert.Same(t, first, <-inside) })
			}
			close(release)
			within(t, "the answers", func() {
				for _, h.lane = range []int{aside, of} {
					for h.word(0).Load() != turnWorker {
						time.Sleep(10 * time.Microsecond)
					}
					assert.Equal(t, lane.OpAnswer, h.down().Op)
				}
			})
			h.asked[of] = lane.Message{Op: lane.OpCall}
			h.honest()
			within(t, "the end", func() { err = <-ended })
			assert.NoError(t, err)
			p.mu.Lock()
			defer p.mu.Unlock()
			assert.LessOrEqual(t, len(w.lanes), 2+lane.MaxAside)
		})
	}
}
