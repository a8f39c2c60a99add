//go:build unix && !(linux && (amd64 || arm64))

package host

import (
	"context"
	"os"
)

// startKept is for systems that have keepers.
func startKept(context.Context, *executable, string, []string, []*os.File, *os.File, string) (child, error) {
	return nil, errNoKeeper
}
