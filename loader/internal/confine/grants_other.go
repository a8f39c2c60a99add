//go:build !linux

package confine

import (
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// Grants returns nothing: no sandbox of these systems keeps files from a worker.
func Grants(string, *inspect.Library) ([]wire.Library, error) { return nil, nil }
