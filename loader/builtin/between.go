package builtin

import (
	"context"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
)

// Background gives Start a context for what the plug-in does while no call runs (rule R27): with Import, Offered, Info and Log, on any
// goroutine, until Stop returns. It ends before Stop begins, which waits for the goroutines that use it; calls of the plug-in that are made with
// it and need this instance fail from then on. When Start fails, it ends with it. It is the same each time. Outside of Start the error is a *Refused with
// loader.ErrMisuse.
func Background(ctx context.Context) (context.Context, error) {
	c := pool.Enter(ctx)
	if c == nil {
		return nil, &Refused{"background", abi.StatusMisuse, noCall("Background")}
	}
	defer c.Exit()
	if !c.Starts() {
		return nil, &Refused{"background", abi.StatusMisuse, "builtin.Background: found the context of a call, expected Start's"}
	}
	return c.Background(), nil
}
