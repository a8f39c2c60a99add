package gen

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// most is how long a file may be that is read: Go's own compiler takes no longer ones.
const most = 1 << 30

// read reads a file that is to be a regular one, if it is there: nobody may ever write into a pipe.
func read(path string) ([]byte, error) {
	text, err := regular.Read(path, most)
	if errors.Is(err, regular.ErrKind) {
		return nil, irregular(path)
	}
	return text, err
}

// regularOrNone is the error of read for what is there and no file; nil where there is nothing, a folder, or a file.
func regularOrNone(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return nil
	}
	return irregular(path)
}

func irregular(path string) error {
	return &Unready{path + ", which is neither a file nor a link to one", "a regular file of this name, or none", "Move it"}
}

// lines is a text with Go's ends of lines: a checkout may have given it others.
func lines(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }

// put has a file with a text, whole at every moment: others may read it meanwhile, or write the same. A link stays one, and what may be done with the file stays as it was.
func put(path string, text []byte) (err error) {
	path = end(path)
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err // whose file may only be read is asked first
	}
	for range 100 { // each that runs meanwhile takes one away at most: see sweep
		if err = replace(path, text); !errors.Is(err, errTaken) {
			break
		}
	}
	return err
}

// errTaken says that the part which was to be the file is gone.
var errTaken = errors.New("another ferrule gen has removed it")

// parts says how the names of the parts of a file begin and end; a number is between. They are none that the go command looks at.
func parts(name string) (prefix, suffix string) { return "." + name + ".", ".part" }

// replace is put, once.
func replace(path string, text []byte) (err error) {
	prefix, suffix := parts(filepath.Base(path))
	part := filepath.Join(filepath.Dir(path), prefix+strconv.FormatUint(rand.Uint64(), 36)+suffix)
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if info, there := os.Stat(path); there == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(part, path); err != nil {
		if _, gone := os.Lstat(part); errors.Is(gone, fs.ErrNotExist) {
			return errTaken
		}
	}
	return err
}

// sweep removes the parts of files with these names in a folder that runs have left which were killed. It may take one of a run that goes on: that one makes another. A run does this
// once, before it writes, so that none does it for ever.
func sweep(dir string, names ...string) {
	entries, _ := os.ReadDir(dir) // where there is no folder, there are no parts
	for _, e := range entries {
		for _, name := range names {
			prefix, suffix := parts(name)
			number, isPart := strings.CutPrefix(strings.TrimSuffix(e.Name(), suffix), prefix)
			if _, err := strconv.ParseUint(number, 36, 64); isPart && err == nil && strings.HasSuffix(e.Name(), suffix) && e.Type().IsRegular() {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// end is the file that a path leads to, which need not be there.
func end(path string) string {
	for range 40 { // as many links as Linux follows
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			dir := filepath.Dir(path)
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				dir = real // for what goes up in the link
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return path
}

// remove has a file gone, which another may have removed meanwhile.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
