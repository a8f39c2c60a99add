package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Cause returns why ctx has ended, or nil: context.Cause(ctx), in which errors.Is finds ctx.Err(), too. It runs foreign code.
func Cause(ctx context.Context) error {
	err, why := ctx.Err(), context.Cause(ctx)
	if err == nil || why == nil || errors.Is(why, err) {
		return why
	}
	return &cause{why, err}
}

// CauseOfCancelled is Cause for a call that came back as cancelled: a plug-in that knows the deadline may be done before the context's own timer has run.
func CauseOfCancelled(ctx context.Context) error {
	if err := Cause(ctx); err != nil {
		return err
	}
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	return nil
}

// cause is a context's cause that says nothing of how the context ended.
type cause struct{ why, err error }

func (c *cause) Error() string   { return fmt.Sprintf("%v: %v", c.err, c.why) }
func (c *cause) Unwrap() []error { return []error{c.why, c.err} }
