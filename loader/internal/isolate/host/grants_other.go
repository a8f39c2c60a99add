//go:build !linux

package host

import (
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// grants returns nothing: no sandbox of these systems keeps files from a worker.
func grants(string, *inspect.Library) ([]wire.Library, error) { return nil, nil }
