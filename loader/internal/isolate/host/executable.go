package host

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// executable is the program that a plug-in's workers run. Its file is opened once, when the plug-in is: later workers run
// it, too, when the file was replaced or deleted, and when this process has changed its root. What is checked is what is
// started: both are of the one descriptor.
type executable struct {
	path string
	file *os.File         // nil where the system starts programs by path only
	seen libfile.Identity // of the file that isolate.WithBinary names, when it was checked
	root *os.File         // the root folder when it was opened; nil as file
	own  bool             // isolate.WithBinary names it: file is this plug-in's alone
}

// rootFolder opens the root. Tests set it.
var rootFolder = process.Root

// openExecutable opens the program that the options name.
func openExecutable(o *Options) (x executable, err error) {
	if o.Binary == "" {
		if x.path, err = self(); err != nil {
			return x, err
		}
		if x.file, err = process.OwnProgram(); err != nil {
			return x, err
		}
	} else {
		x.own = true
		if x.path, err = abspath.Of(o.Binary); err != nil {
			return x, err
		}
		if x.file, x.seen, err = openProgram(x.path, o.Sandbox != nil); err != nil {
			return x, err
		}
		if !process.ByDescriptor {
			x.file.Close()
			x.file = nil
		}
	}
	if x.root, err = rootFolder(); err != nil {
		x.close()
	}
	return x, err
}

// noProgram is the error for a worker whose program cannot be opened.
func noProgram(err error) error {
	var known *inspect.Error
	if errors.As(err, &known) {
		return err
	}
	return &engine.Crash{Code: -1, Reason: "not started: " + err.Error(), Attempt: 1, Err: err}
}

// check refuses a program that is not what it was when the plug-in was opened. It is called by one goroutine at a time.
func (x *executable) check(o *Options) (err error) {
	if !x.own {
		return nil
	}
	var now libfile.Identity
	if x.file != nil {
		now, _, err = libfile.IdentifyOpen(x.file)
	} else {
		now, _, err = libfile.Identify(x.path)
	}
	if err != nil {
		return unreadable(x.path, err)
	}
	if now == x.seen {
		return nil
	}
	if now.Renamed(x.seen) { // or its times were set back by who has written to it
		file := x.file
		if file == nil {
			if file, now, err = openProgram(x.path, o.Sandbox != nil); err == nil {
				file.Close()
			}
		} else {
			err = checkProgram(file, x.path, now, o.Sandbox != nil)
		}
		if err != nil {
			return err
		}
	}
	if !now.Renamed(x.seen) {
		what := "was overwritten in place"
		if x.file == nil {
			what = "was replaced or overwritten"
		}
		return programError(x.path, "which "+what+" since the plug-in was opened", "the program that was checked then",
			"Rename new versions over old ones; close the plug-in and open it again")
	}
	x.seen = now
	return nil
}

// command is what is started. Without a keeper it is the file that was checked; this program is at its path.
func (x *executable) command() process.Command {
	return process.Command{Program: x.file, Path: x.path, ByPath: !x.own, Root: x.root}
}

func (x *executable) close() {
	if x.own && x.file != nil {
		x.file.Close()
	}
}

// opened is what os.Executable has said once, where the program's file cannot be had.
var opened struct {
	mu   sync.Mutex
	path string
}

// self returns this program's path.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(process.SelfLink); err == nil {
			return process.SelfLink, nil
		}
	}
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.path != "" {
		return opened.path, nil
	}
	path, err := os.Executable()
	if err != nil {
		if file, _ := process.OwnProgram(); file != nil {
			return process.SelfLink, nil // it is not started by its path
		}
	}
	if err != nil && runtime.GOOS == "linux" {
		err = fmt.Errorf("/proc is not mounted, by which this program finds its own file, and workers find what they load: mount it (%v)", err)
	}
	opened.path = path
	return path, err
}
