// Package dl opens shared libraries, finds symbols in them and closes them, with the system's own loader. It adds what
// the system's interface lacks: errors that belong to the call that failed, and no surprising reading of a path.
package dl

import (
	"errors"
	"strings"
)

// Library is an open shared library.
type Library struct{ handle uintptr }

// Replaced is a symbol of a library in whose place the library itself gets another one.
type Replaced struct {
	Name string
	By   string // the path of what has the other one, as the system's loader knows it
}

// Error is what the system's loader said.
type Error struct{ Text string }

// Error returns the system's words.
func (e *Error) Error() string { return e.Text }

var errPath = errors.New("not a path that the system's loader takes as it is: it is empty or has a NUL byte in it")

// check refuses the paths that system loaders read in a way nobody means: "" is the program itself, and a NUL ends the
// path early.
func check(path string) error {
	if path == "" || strings.IndexByte(path, 0) >= 0 {
		return errPath
	}
	return nil
}
