// Package keeper starts a program under a keeper: a process that sees to it that nothing outlives it which the program has
// started, however it ends.
//
// The keeper is the program's parent, and the reaper of its orphans: whoever loses its parent beneath it becomes the
// keeper's child, also when it has left its process group or its session. When the program ends, when the host asks for it,
// and when the host is gone, the keeper kills its children until there are none, and ends. The kernel kills the program
// when somebody has killed the keeper, and the host does, so that a keeper that is stopped holds up nothing: the host wakes it, and
// kills its children as long as somebody stops it again. When the host is gone the kernel wakes it, once.
//
// A keeper may not kill what has changed its real user, by a program such as sudo, unless it is root's. It goes on trying
// as long as the host is there, and for some ten seconds more.
//
// It is not a Go program, because there is one for each program: a Go program takes a millisecond to start and some
// megabytes; this one takes a tenth of that, and four pages. It is a page of machine code in this package, and never runs
// in this process: a memory file is made of it, once. It needs no file of a path, so that it can be started after the host
// has changed its root; and the program that it starts gets the root that the host had before.
package keeper

import (
	"errors"
	"os"
)

// Command says what is started.
type Command struct {
	Program *os.File // an executable file, of a format that the system runs by itself
	Root    *os.File // the folder that is to be its root, where the process may choose
	Args    []string
	Env     []string
	Files   []*os.File // its descriptors, from 0 on: MaxFiles at most
}

// MaxFiles is how many descriptors a Command may have.
const MaxFiles = 16

// ErrUnsupported says that this system has no keepers.
var ErrUnsupported = errors.New("keepers are for Linux on amd64 and arm64, where programs in memory are run")
