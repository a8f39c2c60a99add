package install

import (
	"context"
	"math/rand/v2"
	"time"
)

// Jitter returns an Options.First that waits for a random time, from 0 up to a bound: of hosts that start at once, the first requests are spread evenly over that time.
// A host that has all of its lock in the store asks nothing, and waits for nothing. A bound of 0 or less waits for nothing, too. The error is the context's cause, when that
// ends before. It may be called from any goroutine; each call waits for a time of its own.
func Jitter(bound time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		if bound <= 0 {
			return context.Cause(ctx)
		}
		select {
		case <-time.After(rand.N(bound)):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
