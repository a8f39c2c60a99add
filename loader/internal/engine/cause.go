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

// cause is a context's cause that says nothing of how the context ended.
type cause struct{ why, err error }

func (c *cause) Error() string   { return fmt.Sprintf("%v: %v", c.err, c.why) }
func (c *cause) Unwrap() []error { return []error{c.why, c.err} }

// Limit is why a call ended that isolate.WithCallTimeout had asked to stop.
type Limit struct{ After time.Duration }

// Error names the option.
func (l *Limit) Error() string { return fmt.Sprintf("after %v (isolate.WithCallTimeout)", l.After) }

// Unwrap returns context.DeadlineExceeded.
func (l *Limit) Unwrap() error { return context.DeadlineExceeded }

// Limited says that a call returned abi.StatusCancelled because of a Limit.
type Limited struct {
	Message string // the plug-in's
	Limit   *Limit
}

// Error says why.
func (l *Limited) Error() string { return l.Limit.Error() }

// Unwrap returns the limit.
func (l *Limited) Unwrap() error { return l.Limit }

// Count returns n of a thing, in the singular or the plural.
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
