//go:build !linux

package confine

import (
	"context"
	"errors"
	"runtime"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// Find is for Linux, whose sandbox keeps files from a process.
func Find(string) (File, error) { return File{}, errors.ErrUnsupported }

// Start is process.Start: this system has nothing that shuts in a program which does not do so itself.
func (b *Bounds) Start(ctx context.Context, c process.Command, _ Order) (process.Child, error) {
	if !b.BestEffort {
		return nil, &inspect.Error{Kind: wire.ErrSandbox, Found: "a system (" + runtime.GOOS + ") that has nothing by which a program is shut in from outside",
			Expected: "all the layers that the policy needs", Remedy: "Use Linux, or set Policy.BestEffort to open the plug-in without"}
	}
	return process.Start(ctx, c)
}
