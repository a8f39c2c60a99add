package pool

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
)

// BenchmarkPlaces is one more call while others are in progress, and one of a plug-in with many instances: neither costs more the more there are.
func BenchmarkPlaces(b *testing.B) {
	for _, c := range []struct {
		threads           abi.Threads
		inside, instances int
	}{{abi.Concurrent, 1, 1}, {abi.Concurrent, 1000, 1}, {abi.Concurrent, 10_000, 1}, {abi.Serial, 0, 1}, {abi.Serial, 0, 1 << 16}, {abi.Serial, 10_000, 1 << 16}} {
		b.Run(fmt.Sprintf("%s/inside=%d/instances=%d", c.threads, c.inside, c.instances), func(b *testing.B) {
			g := newDoor()
			g.entered = make(chan string, c.inside)
			p := opened(b, &testPlugin{Threads: c.threads, Funcs: []testFunc{{Name: "f", Call: g.call},
				{Name: "g", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}}, engine.Options{Instances: c.instances})
			done := make(chan error)
			for range c.inside {
				go func() {
					_, _, err := p.Append(context.Background(), engine.Fn{}, nil, nil)
					done <- err
				}()
				<-g.entered
			}
			for b.Loop() {
				if _, _, err := p.Append(context.Background(), engine.Fn{Index: 1}, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			close(g.leave)
			for range c.inside {
				require.NoError(b, <-done)
			}
		})
	}
}
