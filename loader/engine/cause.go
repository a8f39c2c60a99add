package engine

import (
	"context"
	"errors"
	"fmt"
)

// Cause returns why ctx has ended, or nil: context.Cause(ctx), in which errors.Is finds ctx.Err(), too. It runs foreign code.
func Cause(ctx context.Context) error {
	err, why := ctx.Err(), context.Cause(ctx)
	if err == nil || why == nil || errors.Is(why, err) {
		return why
	}
	return &cause{why, err}
}

// cause is a context's cause that says nothing of how the context ended.
type cause struct{ why, err error }

func (c *cause) Error() string   { return fmt.Sprintf("%v: %v", c.err, c.why) }
func (c *cause) Unwrap() []error { return []error{c.why, c.err} }
