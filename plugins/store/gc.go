package store

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// GC deletes the files that keep does not want, that no process uses or fills, and that are older than a duration, by the time of their last change; with 0
// their age does not count. So a clock that was set anew can make it keep a file longer or delete one sooner that nobody needs, not one that is kept
// or in use. It does so with half files too, and deletes what was put aside. freed is in bytes, n counts whole files. It goes on after an error, and
// returns all of them.
//
// keep is asked twice of a whole file that goes: the second time when nobody can begin to use it any more. Who has used it until then, and has written
// down that it is needed, is in its answer then.
func (s *Store) GC(ctx context.Context, keep func(digest string) bool, olderThan time.Duration) (freed int64, n int, err error) {
	var faults []error
	if err := s.makeFolders(); err != nil {
		return 0, 0, err
	}
	each := func(folder string, do func(name string) error) {
		names, err := s.names(folder)
		faults = append(faults, err)
		for _, name := range names {
			if ctx.Err() != nil {
				return
			}
			faults = append(faults, do(name))
		}
	}
	kept := func(name string) bool { return registry.Hex("sha256:"+name) != "" && keep("sha256:"+name) }
	each(whole, func(name string) error {
		if registry.Hex("sha256:"+name) == "" || kept(name) {
			return nil
		}
		size, gone, err := s.take(name, olderThan, kept)
		freed += size
		if gone && size > 0 {
			n++
		}
		return err
	})
	each(halfs, func(name string) error {
		if kept(name) {
			return nil
		}
		lock, err := filelock.TryAcquire(s.root, path.Join(locks, name), 0o600)
		if lock == nil {
			return s.fault(name, err)
		}
		defer lock.Release()
		at := path.Join(halfs, name)
		info, err := s.root.Lstat(at)
		if err != nil || young(info, olderThan) {
			return s.there(at, err)
		}
		freed += info.Size()
		return s.fault(at, s.root.RemoveAll(at))
	})
	each(aside, func(name string) error {
		at := path.Join(aside, name)
		info, err := s.root.Lstat(at)
		if err == nil && s.root.RemoveAll(at) == nil && info.Mode().IsRegular() {
			freed += info.Size()
		}
		return nil
	})
	each(locks, func(name string) error { // those of processes that were killed
		lock, err := filelock.TryAcquire(s.root, path.Join(locks, name), 0o600)
		if lock != nil {
			lock.Release()
		}
		return s.fault(path.Join(locks, name), err)
	})
	return freed, n, errors.Join(append(faults, ctx.Err())...)
}

// Delete deletes the file with a digest, whatever its bytes are. One that is not there is ErrNotFound, one that a process uses ErrStore.
func (s *Store) Delete(ctx context.Context, digest string) error {
	digits, err := hexOf(digest)
	if err != nil {
		return err
	}
	if _, err := s.root.Lstat(path.Join(whole, digits)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return s.absent(digits)
		}
		return s.fault(path.Join(whole, digits), err)
	}
	if err := errors.Join(ctx.Err(), s.makeFolders()); err != nil {
		return err
	}
	_, gone, err := s.take(digits, 0, func(string) bool { return false })
	if err == nil && !gone {
		err = &registry.Error{Kind: registry.ErrStore, Path: s.path(path.Join(whole, digits)), Found: "a file that a process uses or fills",
			Expected: "one that none does", Remedy: "End the processes that use it first"}
	}
	return err
}

// take deletes a whole file unless somebody uses or fills it, it is young, or kept says, when nobody else can have it, that it is needed.
func (s *Store) take(digits string, olderThan time.Duration, kept func(digits string) bool) (size int64, gone bool, err error) {
	lock, err := filelock.TryAcquire(s.root, path.Join(locks, digits), 0o600)
	if lock == nil {
		return 0, false, s.fault(path.Join(locks, digits), err)
	}
	defer lock.Release()
	dir := path.Join(whole, digits)
	info, err := s.root.Lstat(dir)
	if err != nil || young(info, olderThan) && !info.IsDir() {
		return 0, false, s.there(dir, err)
	}
	var names []string
	if info.IsDir() {
		if names, err = s.names(dir); err != nil {
			return 0, false, err
		}
	}
	for _, name := range names {
		at := path.Join(dir, name)
		info, err := s.root.Lstat(at)
		if err != nil || young(info, olderThan) {
			return 0, false, s.there(at, err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		f, err := s.root.Open(at)
		if err != nil {
			return 0, false, s.fault(at, err)
		}
		defer f.Close() // the lock is kept until the file has lost its name: who finds it then waits, and sees that it is gone
		if ok, err := filelock.Try(f, true); !ok {
			return 0, false, s.fault(at, err)
		}
		size += info.Size()
	}
	if kept(digits) {
		return 0, false, nil
	}
	moved, err := s.setAside(dir)
	if err != nil {
		return 0, false, err
	}
	for _, at := range moved {
		_ = s.root.RemoveAll(at) // Windows deletes no library that is loaded: a later GC does
	}
	_ = s.root.Remove(dir) // an empty folder is no file
	return size, true, nil
}

// young reports whether a file was changed after what may be deleted.
func young(info fs.FileInfo, olderThan time.Duration) bool {
	return olderThan > 0 && time.Since(info.ModTime()) < olderThan
}

// there is fault, but for what another process has deleted.
func (s *Store) there(at string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.fault(at, err)
}

// names lists a folder; one that is not there is empty.
func (s *Store) names(folder string) ([]string, error) {
	d, err := s.root.Open(folder)
	if err != nil {
		return nil, s.there(folder, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return names, s.there(folder, err) // it may go while it is read
}
