package lock

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/owner"
	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// patience is how long Update waits for others. They only read, change and write.
const patience = time.Minute

// Update changes a file. change gets what is in it, an empty lock where there is no file, and may change it; when it returns an error, which Update returns,
// nothing is written, and so when nothing has changed. One process at a time is in Update; so change does not wait for a network or a person. Update waits for the
// others for a minute at most, or until ctx ends, whose cause it returns then.
//
// Who reads sees the old file or the new one, whole. The new one has the mode of the old one, 0644 less the umask where there is none, and, where this process may, its owner; a symbolic link stays, and
// the file that it leads to is replaced. A file that may only be read is ErrLock, and so is what Parse would not take.
func Update(ctx context.Context, path string, change func(*Lock) error) error {
	return update(ctx, path, change, false)
}

// Writable returns the error with which Update would not write the file. It writes one beside it, which goes again, and the file stays as it is.
func Writable(ctx context.Context, path string) error {
	return update(ctx, path, func(*Lock) error { return nil }, true)
}

// update is Update, or Writable.
func update(ctx context.Context, path string, change func(*Lock) error, trial bool) error {
	real, err := resolve(path)
	if err != nil {
		return fault(path, err)
	}
	if info, err := os.Stat(real); err == nil && !info.Mode().IsRegular() { // nothing is to be made beside a device
		_, err := Load(path)
		return fault(path, err)
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return fault(path, err)
	}
	defer root.Close()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	base := filepath.Base(real)
	guard := "." + base + ".update"
	held, locked := filelock.Acquire(waiting, root, guard, 0o644)
	switch {
	case held != nil:
		defer held.Release()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waiting.Err() != nil:
		return &registry.Error{Kind: registry.ErrLock, Path: path, Found: "another process that changes it for more than a minute", Remedy: "End that process"}
	}
	before, err := Load(real)
	if errors.Is(err, fs.ErrNotExist) {
		before, err = Parse(path, []byte(head))
	}
	if err != nil {
		return fault(path, err)
	}
	old := before.Text()
	if err := change(before); err != nil {
		return err
	}
	text := before.Text()
	if bytes.Equal(text, old) && !trial {
		return nil
	}
	if locked != nil { // a folder that may only be read: no harm while nothing is to be written
		return fault(filepath.Join(root.Name(), guard), locked)
	}
	var wrong *registry.Error
	if _, err := Parse(path, text); errors.As(err, &wrong) {
		wrong.Path, wrong.Remedy = path, "Nothing was written: no lock can say that"
		return wrong
	}
	return fault(path, replace(root, base, text, trial))
}

// resolve follows the symbolic links of a path, whose file need not be there.
func resolve(path string) (string, error) {
	for range 40 {
		real, err := filepath.EvalSymlinks(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return real, err
		}
		if path, err = abspath.Of(path); err != nil {
			return "", err
		}
		dir, base := filepath.Split(path) // not Dir, which takes a .. out whatever it is behind
		dir, err = filepath.EvalSymlinks(dir)
		if err != nil {
			return "", err
		}
		to, err := os.Readlink(path)
		if err != nil { // no link, and no file
			return filepath.Join(dir, base), nil
		}
		if !filepath.IsAbs(to) {
			to = dir + string(filepath.Separator) + to // from where the link is, whatever led there; not joined, as a .. may be behind a link
		}
		path = to
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// replace writes a new file, and puts it in the place of the old one, or in a trial takes it away again. The caller has the lock: what an earlier one has left behind is nobody's.
func replace(root *os.Root, base string, text []byte, trial bool) (err error) {
	mode := fs.FileMode(0o644) // less the umask; nobody else is to write what is law, whatever that is
	info, err := root.Stat(base)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
		if mode&0o222 == 0 { // the rename would not mind
			return &fs.PathError{Op: "write", Path: base, Err: fs.ErrPermission}
		}
		f, err := root.OpenFile(base, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		f.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	temp := "." + base + ".new"
	if err := root.RemoveAll(temp); err != nil {
		return err
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temp)
		}
	}()
	_, err = f.Write(text)
	if info != nil {
		owner.Keep(f, info)
		err = errors.Join(err, f.Chmod(mode))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if trial {
		return root.Remove(temp)
	}
	if err := root.Rename(temp, base); err != nil {
		return err
	}
	if d, err := root.Open("."); err == nil && runtime.GOOS != "windows" { // the new file's name comes to the disk; without it the old file may come back
		_ = d.Sync()
		d.Close()
	}
	return nil
}

// fault says what the system has against the file.
func fault(path string, err error) error {
	var known *registry.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &registry.Error{Kind: registry.ErrLock, Path: path, Err: err}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		e.Err = cause.Err
	}
	if errors.Is(err, fs.ErrPermission) || readonlyfs.Is(err) {
		e.Found, e.Expected = "a file or folder that may only be read", "one that this user may write to"
		e.Remedy = "Change the lock where it is written, in development, and deliver it with the application; or give this user the right to write to it and its folder"
	}
	return e
}
