package process

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// What is opened once for all programs.
var opened struct {
	mu   sync.Mutex
	root *os.File
	info os.FileInfo // of root
	null *os.File
	own  *os.File
}

// SelfLink is this process's program on Linux, also when its file was replaced or deleted.
const SelfLink = "/proc/self/exe"

// OwnProgram returns this program's file, or nil where the system does not give it. Other errors, such as a lack of descriptors, may be over
// the next time: they must not start programs that have no keeper. It is opened once, is everybody's, and not closed.
func OwnProgram() (*os.File, error) {
	if !ByDescriptor {
		return nil, nil
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.own == nil {
		var err error
		opened.own, err = os.Open(SelfLink)
		if err = UnlessForbidden(err); err != nil {
			return nil, err
		}
	}
	return opened.own, nil
}

// Null returns a file that has nothing to be read, as the standard input of a program that gets none. It is opened once: later there may
// be no such path. It is everybody's, and not closed.
func Null() (*os.File, error) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	var err error
	if opened.null == nil {
		opened.null, err = os.Open(os.DevNull)
	}
	return opened.null, err
}

// Root returns the folder that is this process's root at this time, for programs that it starts after it has changed that, or nil where
// it cannot be had, or programs are started by their paths. Other errors, such as a lack of descriptors, may be over the next time. The
// file is everybody's, and not closed.
func Root() (*os.File, error) {
	if !ByDescriptor {
		return nil, nil
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	info, err := os.Stat("/")
	if err != nil {
		return nil, UnlessForbidden(err)
	}
	if opened.root == nil || !os.SameFile(info, opened.info) {
		root, err := os.Open("/") // the one before may be in use, and the process's root seldom changes
		if err != nil {
			return nil, UnlessForbidden(err)
		}
		opened.root, opened.info = root, info
	}
	return opened.root, nil
}

// UnlessForbidden returns an error of opening a file if it may be over the next time, and nil for those by which the system says that the
// file is not to be had: a program is started without it then. Others must not start one without a keeper, or in another root.
func UnlessForbidden(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
