//go:build !linux || (!amd64 && !arm64)

package keeper

import "context"

// Process is a keeper with the program that it has started.
type Process struct{}

// Spawner runs a function on a thread that lives as long as the process.
type Spawner func(func())

// Start returns ErrUnsupported.
func Start(context.Context, Command, Spawner) (*Process, error) { return nil, ErrUnsupported }
