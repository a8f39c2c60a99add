//go:build !linux

package confine

import (
	"errors"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// FindNamed fails: nothing is granted.
func FindNamed(string, string) (File, error) { return File{}, errors.ErrUnsupported }

// Public reports nothing.
func Public(string) bool { return false }

// Grants returns nothing: no sandbox of these systems keeps files from a worker.
func Grants(string, *inspect.Library) ([]wire.Library, error) { return nil, nil }
