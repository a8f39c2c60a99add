package script

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
)

// The bounds of what a script imports, in bytes: a file, and all together.
const (
	maxImport  = maxScript
	maxImports = 64 << 20
)

// files are those that a script may import: what lies beneath its folder. Each is read once, so that all instances have the same. It may be used by any goroutine.
type files struct {
	name   string // of the script itself
	folder string
	pinned bool // the digest of the script is known, and of nothing else

	mu   sync.Mutex
	kept map[string][]byte
	size int64
}

func newFiles(path string, pinned bool) (*files, error) {
	abs, err := engine.Absolute(path)
	if err != nil {
		return nil, err
	}
	return &files{name: filepath.Base(abs), folder: filepath.Dir(abs), pinned: pinned, kept: map[string][]byte{}}, nil
}

// read returns the text of a file, by its path in slashes, or a message.
func (f *files) read(name string) ([]byte, abi.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text, ok := f.kept[name]; ok {
		return text, abi.StatusOK
	}
	text, err := f.load(name)
	if err != nil {
		return []byte(err.Error()), abi.StatusFailed
	}
	f.kept[name] = text
	return text, abi.StatusOK
}

func (f *files) load(name string) ([]byte, error) {
	if f.pinned {
		return nil, fmt.Errorf("%s imports %s, and was opened by its digest, which says nothing of that file: make one file of both", f.name, name)
	}
	root, err := os.OpenRoot(f.folder)
	if err != nil {
		return nil, fmt.Errorf("%s imports %s, which cannot be read: %w", f.name, name, errors.Unwrap(err))
	}
	defer root.Close()
	file, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|nonblock, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s imports %s: found no such file in %s, expected one by its whole name, with .js or .mjs", f.name, name, f.folder)
		}
		return nil, fmt.Errorf("%s imports %s, which cannot be read: %w", f.name, name, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("it is no regular file")
	}
	if err == nil && (info.Size() > maxImport || f.size+info.Size() > maxImports) {
		err = fmt.Errorf("it has %d bytes, expected %d at most, and %d of all imports together", info.Size(), maxImport, maxImports)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(file, info.Size()))
	}
	if err != nil {
		return nil, fmt.Errorf("%s imports %s, which cannot be read: %w", f.name, name, err)
	}
	f.size += int64(len(text))
	return text, nil
}
