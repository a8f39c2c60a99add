//go:build unix && !(linux && (amd64 || arm64))

package process

import "context"

// startKept is for systems that have keepers.
func startKept(context.Context, *Command, []string) (Child, error) { return nil, errNoKeeper }
