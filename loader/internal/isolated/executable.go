package isolated

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
)

// executable is the program that a plug-in's workers run. Its file is opened once, when the plug-in is: later workers run
// it, too, when the file was replaced or deleted, and when this process has changed its root.
type executable struct {
	path string
	file *os.File    // nil where the system starts programs by path only
	info os.FileInfo // of file, when it was opened
	root *os.File    // the root folder at that time; likewise
	own  bool        // file is this plug-in's alone
}

// openExecutable opens the program that the options name.
func openExecutable(o *Options) (x executable, err error) {
	if o.Binary == "" {
		if x.path, err = self(); err != nil {
			return x, err
		}
		x.file, err = ownFile()
		x.root = rootFolder()
		return x, err
	}
	if err := o.checkProgram(); err != nil {
		return x, err
	}
	if x.path, err = filepath.Abs(o.Binary); err != nil || runtime.GOOS != "linux" {
		return x, err
	}
	if x.file, err = os.Open(x.path); err != nil {
		return x, err
	}
	x.own, x.root = true, rootFolder()
	checked, err := os.Stat(x.path)
	if err == nil {
		x.info, err = x.file.Stat()
	}
	if err != nil || !os.SameFile(checked, x.info) {
		x.close()
		return x, &inspect.Error{Kind: engine.ErrOption, Found: fmt.Sprintf("isolate.WithBinary with %q, which is replaced at this moment", o.Binary),
			Expected: "a file that stays", Remedy: "Open the plug-in again"}
	}
	return x, nil
}

// noProgram is the error for a worker whose program cannot be opened.
func noProgram(err error) error {
	var known *inspect.Error
	if errors.As(err, &known) {
		return err
	}
	return &engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: 1, Err: err}
}

// check checks the program again where it was overwritten since.
func (x *executable) check(o *Options) error {
	if x.info != nil {
		now, err := x.file.Stat()
		if err == nil && now.Size() == x.info.Size() && now.ModTime().Equal(x.info.ModTime()) {
			return nil
		}
	}
	return o.checkProgram()
}

func (x *executable) close() {
	if x.own {
		x.file.Close()
	}
}

// What is opened once for all plug-ins.
var opened struct {
	mu   sync.Mutex
	file *os.File
	path string // that os.Executable has said, where file cannot be had
	root *os.File
	info os.FileInfo // of root
	null *os.File
}

// nullFile returns what has nothing to be read, opened once: later there may be no such path.
func nullFile() (*os.File, error) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	var err error
	if opened.null == nil {
		opened.null, err = os.Open(os.DevNull)
	}
	return opened.null, err
}

// selfLink is this process's program, also when its file was replaced or deleted.
const selfLink = "/proc/self/exe"

// ownFile returns this program's file, or nil where the system does not give it. Other errors, such as a lack of descriptors,
// may be over the next time: they must not make workers that have no keeper.
func ownFile() (*os.File, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.file == nil {
		var err error
		opened.file, err = os.Open(selfLink)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	return opened.file, nil
}

// rootFolder returns the folder that is the root at this time, or nil where it cannot be had.
func rootFolder() *os.File {
	if runtime.GOOS != "linux" {
		return nil
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	info, err := os.Stat("/")
	if err != nil {
		return nil
	}
	if opened.root == nil || !os.SameFile(info, opened.info) {
		if opened.root, err = os.Open("/"); err != nil { // the one before may be in use, and the process's root seldom changes
			return nil
		}
		opened.info = info
	}
	return opened.root
}

// self returns this program's path.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(selfLink); err == nil {
			return selfLink, nil
		}
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.path != "" {
		return opened.path, nil
	}
	path, err := os.Executable()
	if err != nil && runtime.GOOS == "linux" && opened.file != nil {
		return selfLink, nil // it is not started by its path
	}
	if err != nil && runtime.GOOS == "linux" {
		err = fmt.Errorf("/proc is not mounted, by which this program finds its own file, and workers find what they load: mount it (%v)", err)
	}
	opened.path = path
	return path, err
}
