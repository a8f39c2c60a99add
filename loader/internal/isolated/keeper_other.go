//go:build !linux || (!amd64 && !arm64)

package isolated

import (
	"context"
	"os"
)

// startKept is for systems that have keepers.
func startKept(context.Context, *executable, string, []string, bool, []*os.File, *tail) (child, error) {
	return nil, errNoKeeper
}
