package pool

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
)

// No two instances have one number (rule R26): not one that is started when a call finds no other free, and a session's, whichever was first.
func TestNumbers(t *testing.T) {
	for _, sessionsFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("sessions first ", sessionsFirst), func(t *testing.T) {
			const instances, spare, sessions = 2, 2, 3
			g := newDoor()
			code := (&testPlugin{Exclusive: true, Threads: abi.Concurrent, Funcs: []testFunc{{Name: "f"}}}).code()
			code.Spare = spare
			code.Call = func(c *Call, _ int, _, _ []byte) ([]byte, abi.Status, error) {
				_, err := g.call(c.Context(), fmt.Append(nil, c.Number()))
				return nil, abi.StatusOK, err
			}
			p, err := Open(context.Background(), code, quietHost{}, &engine.Options{Instances: instances})
			require.NoError(t, err)
			seen := make(map[string]int)
			done := make(chan error)
			call := func(e engine.Plugin) {
				go func() {
					_, _, err := e.Append(context.Background(), engine.Fn{}, nil, nil)
					done <- err
				}()
				number := <-g.entered
				seen[number]++
			}
			begin := func() {
				for range sessions {
					s, err := p.NewSession(context.Background(), nil)
					require.NoError(t, err)
					call(s)
				}
			}
			if sessionsFirst {
				begin()
			}
			for range instances + spare { // each finds no other free
				call(p)
			}
			if !sessionsFirst {
				begin()
			}
			for n := range instances + spare + sessions {
				assert.Equal(t, 1, seen[strconv.Itoa(n)], "%d: %v", n, seen)
			}
			for range instances + spare + sessions {
				g.leave <- ""
				require.NoError(t, <-done)
			}
			require.NoError(t, p.Close())
		})
	}
}
