package isolated

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/worker"
)

// What a program must import to be a worker, and a sandboxed one.
const (
	isolatePackage = "github.com/ferrule-dev/ferrule/loader/isolate"
	sandboxPackage = isolatePackage + "/sandbox"
)

// checkProgram refuses a program that would not be a worker when it is started as one, or no sandboxed one where that is
// asked for. Nothing of it runs. It reads the file once, and again when that has changed.
func checkProgram(path string, sandbox bool) error {
	refuse := func(found, expected, remedy string) *inspect.Error {
		return &inspect.Error{Kind: engine.ErrOption, Found: fmt.Sprintf("isolate.WithBinary with %q, %s", path, found), Expected: expected, Remedy: remedy}
	}
	const worker = "a program that imports " + isolatePackage
	what, versions, err := marksOf(path)
	if err != nil {
		var why *fs.PathError
		if errors.As(err, &why) {
			err = why.Err // its text repeats the path
		}
		refused := refuse("which cannot be read ("+err.Error()+")", worker, "Give the path of such a program")
		refused.Err = err
		return refused
	}
	version := workerside.Version
	switch {
	case what != "":
		return refuse(what, worker, "Give the path of such a program")
	case versions == nil:
		return refuse("a program that is no worker", worker, fmt.Sprintf("Import it there (import _ %q), and build that program again", isolatePackage))
	case !versions["plain"][version]:
		return refuse("a worker of another version of Ferrule", "one of this program's version", "Build both with the same version of Ferrule")
	case sandbox && !versions["sandbox"][version]:
		return refuse("a worker that cannot be sandboxed", "a program that imports "+sandboxPackage,
			fmt.Sprintf("Import it there (import _ %q), and build that program again", sandboxPackage))
	}
	return nil
}

// marks are what a file's markers say: by what it can be, the versions.
type marks map[string]map[string]bool

// programs remembers what was found in files, by their paths.
var programs struct {
	mu    sync.Mutex
	known map[string]program
}

type program struct {
	file  os.FileInfo
	what  string
	marks marks
}

// marksOf returns the markers of a program, nil if it has none; or in words what it is, if that is no program at all.
func marksOf(path string) (what string, found marks, err error) {
	info, err := os.Stat(path) // first: opening a pipe would wait for its writer
	if err != nil {
		return "", nil, err
	}
	if info.IsDir() {
		return "a folder", nil, nil
	} else if !info.Mode().IsRegular() {
		return "no regular file", nil, nil
	}
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if p, ok := programs.known[path]; ok && os.SameFile(p.file, info) && p.file.Size() == info.Size() && p.file.ModTime().Equal(info.ModTime()) {
		return p.what, p.marks, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	var head [2]byte
	if n, _ := file.ReadAt(head[:], 0); n == len(head) && string(head[:]) == "#!" {
		what = "a script"
	} else if found, err = findMarks(file); err != nil {
		return "", nil, err
	}
	if programs.known == nil {
		programs.known = make(map[string]program)
	}
	programs.known[path] = program{info, what, found}
	return what, found, nil
}

// findMarks reads a file to its end, in bounded memory.
func findMarks(file io.Reader) (found marks, err error) {
	const most = workerside.MarkerMost
	begin, end := []byte(workerside.MarkerBegin), []byte(workerside.MarkerEnd)
	window := make([]byte, 0, 256<<10)
	for {
		n, err := file.Read(window[len(window):cap(window)])
		window = window[:len(window)+n]
		last := err != nil
		if last && err != io.EOF {
			return nil, err
		}
		rest := window
		for {
			i := bytes.Index(rest, begin)
			if i < 0 {
				rest = rest[max(0, len(rest)-len(begin)+1):] // it may go on with the beginning of one
				break
			}
			rest = rest[i:]
			if len(rest) < most && !last {
				break
			}
			body := rest[len(begin):min(len(rest), most)]
			if j := bytes.Index(body, end); j >= 0 {
				if kind, version, ok := strings.Cut(string(body[:j]), "/"); ok {
					if found == nil {
						found = make(marks)
					}
					if found[kind] == nil {
						found[kind] = make(map[string]bool)
					}
					found[kind][version] = true
				}
			}
			rest = rest[len(begin):]
		}
		if last {
			return found, nil
		}
		window = window[:copy(window, rest)]
	}
}
