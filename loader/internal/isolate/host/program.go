package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
)

// What a program must import to be a worker, and a sandboxed one.
const (
	isolatePackage = "github.com/ferrule-dev/ferrule/loader/isolate"
	sandboxPackage = isolatePackage + "/sandbox"
	workerProgram  = "a program that imports " + isolatePackage
	givePath       = "Give the path of such a program"
)

func programError(path, found, expected, remedy string) *inspect.Error {
	return &inspect.Error{Kind: engine.ErrOption, Found: fmt.Sprintf("isolate.WithBinary with %q, %s", path, found), Expected: expected, Remedy: remedy}
}

func unreadable(path string, err error) error {
	var why *fs.PathError
	if errors.As(err, &why) {
		err = why.Err // its text repeats the path
	}
	refused := programError(path, "which cannot be read ("+err.Error()+")", workerProgram, givePath)
	refused.Err = err
	return refused
}

// openProgram opens a program and checks it. Nothing of it runs.
func openProgram(path string, sandbox bool) (*os.File, libfile.Identity, error) {
	refuse := func(file *os.File, err error) (*os.File, libfile.Identity, error) {
		if file != nil {
			file.Close()
		}
		return nil, libfile.Identity{}, err
	}
	_, kind, err := libfile.Identify(path) // first: opening a device may do anything
	if err != nil {
		return refuse(nil, unreadable(path, err))
	}
	if kind == 0 {
		var file *os.File
		if file, err = os.OpenFile(path, os.O_RDONLY|openFlags, 0); err != nil {
			return refuse(nil, unreadable(path, err))
		}
		var seen libfile.Identity
		if seen, kind, err = libfile.IdentifyOpen(file); err != nil {
			return refuse(file, unreadable(path, err))
		}
		if kind == 0 {
			if err := checkProgram(file, path, seen, sandbox); err != nil {
				return refuse(file, err)
			}
			return file, seen, nil
		}
		file.Close() // it is something else by now
	}
	what := "no regular file"
	if kind.IsDir() {
		what = "a folder"
	}
	return refuse(nil, programError(path, what, workerProgram, givePath))
}

// checkProgram refuses a program that would not be a worker when it is started as one, or no sandboxed one where that is
// asked for. seen is the file's identity now.
func checkProgram(file *os.File, path string, seen libfile.Identity, sandbox bool) error {
	p, err := readProgram(file, path, seen)
	if err != nil {
		return err
	}
	switch {
	case p.script:
		return programError(path, "a script", workerProgram, givePath)
	case p.marks == nil:
		return programError(path, "a program that is no worker", workerProgram,
			fmt.Sprintf("Import it there (import _ %q), and build that program again", isolatePackage))
	case !p.marks[mark.Worker][mark.Version]:
		return programError(path, "a worker of another version of Ferrule", "one of this program's version", "Build both with the same version of Ferrule")
	case sandbox && !p.marks[mark.Sandboxed][mark.Version]:
		return programError(path, "a worker that cannot be sandboxed", "a program that imports "+sandboxPackage,
			fmt.Sprintf("Import it there (import _ %q), and build that program again", sandboxPackage))
	}
	return nil
}

// programs remembers what was found in files, by their paths.
var programs struct {
	mu    sync.Mutex
	known map[string]program
}

type program struct {
	seen   libfile.Identity
	script bool
	marks  mark.Found
}

// findMarks reads a program. Tests set it.
var findMarks = mark.Find

// readProgram says what a file is. It reads it once, and again when it has changed; meanwhile others are not held up, because
// a file may lie where reading takes long.
func readProgram(file *os.File, path string, seen libfile.Identity) (p program, err error) {
	programs.mu.Lock()
	p, ok := programs.known[path]
	programs.mu.Unlock()
	if ok && p.seen == seen {
		return p, nil
	}
	p = program{seen: seen}
	var head [2]byte
	if n, _ := file.ReadAt(head[:], 0); n == len(head) && string(head[:]) == "#!" {
		p.script = true
	} else if p.marks, err = findMarks(file); err != nil {
		return p, unreadable(path, err)
	}
	now, _, err := libfile.IdentifyOpen(file)
	if err != nil {
		return p, unreadable(path, err)
	}
	if !now.Renamed(seen) {
		return p, programError(path, "which is overwritten at this moment", "a file that stays", "Open the plug-in again")
	}
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if programs.known == nil {
		programs.known = make(map[string]program)
	}
	programs.known[path] = p
	return p, nil
}
