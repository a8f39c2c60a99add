package engine

import (
	"context"
	"fmt"
	"time"
)

// Limit is how long a call of a function may run, whatever its context says; the function is asked to stop then. It is made once for a
// function, and shared by its calls. It is an error, too: why a call ended that was asked to.
type Limit struct {
	After time.Duration // more than 0
	By    string        // what a host has set it by, such as loader.WithCallTimeout
	Func  string        // the name of the function, or the hook
}

// Error says how long, and names the option.
func (l *Limit) Error() string { return fmt.Sprintf("after %v (%s)", l.After, l.By) }

// Unwrap returns context.DeadlineExceeded.
func (l *Limit) Unwrap() error { return context.DeadlineExceeded }

// OverdueAfter is how long a call has, since it was asked to stop because of its limit, until Host.Overdue is told. One that polls has to get a
// processor first: on a machine with a dozen of others that want one, that takes some slices of theirs.
const OverdueAfter = 50 * time.Millisecond
