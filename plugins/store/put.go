package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sync"

	"github.com/ferrule-dev/ferrule/plugins/internal/diskfull"
	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// MaxSize is how many bytes a file may have whose size nobody knows beforehand.
const MaxSize = 4 << 30

// Fill writes the bytes of a file to half, from the offset from on, which is how many are there already. Where its source begins earlier, it calls
// half.Truncate first. What it has written when it returns an error stays, and the next Put goes on from there; so it may just return
// what its source says. It runs in the goroutine of Put, and is not called where the file is there.
type Fill func(ctx context.Context, half *Half, from int64) error

// Half is a file that is being filled. Its methods are for any goroutine. When the fill has returned, they change nothing any more.
type Half struct {
	limit int64

	mu   sync.Mutex
	file *os.File
	n    int64 // bytes that are there
	err  error // why no more can be written
}

// errEnded is for a fill that goes on behind its end: what it writes then may not come behind the digest's check.
var errEnded = errors.New("store: the fill has returned")

// Write appends. More bytes than the file is to have are ErrMalformed.
func (h *Half) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, h.err
	}
	if int64(len(p)) > h.limit-h.n {
		h.err = &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("more than %d bytes", h.limit), Expected: "no more of them"}
		return 0, h.err
	}
	n, err := h.file.WriteAt(p, h.n)
	h.n += int64(n)
	h.err = err
	return n, err
}

// Truncate drops all bytes from an offset on, which is from 0 to what is there. The next ones are written there.
func (h *Half) Truncate(size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if size < 0 || size > h.n {
		return fmt.Errorf("store: found the offset %d, expected one from 0 to %d", size, h.n)
	}
	if h.err == nil {
		h.n, h.err = size, h.file.Truncate(size)
	}
	return h.err
}

// by has a fill write to it, and returns why bytes could not be written, and the fill's own error.
func (h *Half) by(ctx context.Context, fill Fill) (write, err error) {
	h.err = nil
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		write, h.err = h.err, errEnded
	}()
	return nil, fill(ctx, h, h.n)
}

// restart drops all bytes, between fills.
func (h *Half) restart() error {
	h.n = 0
	return h.file.Truncate(0)
}

// Put returns the file with a digest, and fills it when it is not there. size is its size in bytes, -1 where that is not known; name is what it is called in the
// store, such as sample.so, unless it is there under another name. It is in use until Close, as one that was found.
//
// One process at a time fills the file with a digest. The others wait, and go on with what is there when that one fails or is killed. The bytes come to their
// place when they are all there, have the digest and are on the disk. Bytes that have another digest are ErrDigest, and are deleted.
//
// Without a digest ("") the file is kept by what its digest turns out to be. Nothing is known of it before, so all of it is fetched each time.
func (s *Store) Put(ctx context.Context, digest string, size int64, name string, fill Fill) (File, error) {
	if err := checkName(name); err != nil {
		return File{}, err
	}
	if size < -1 {
		return File{}, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("the size %d", size), Expected: "the number of bytes, or -1"}
	}
	digits, key := "", "new-"+rand.Text()
	if digest != "" {
		var err error
		if digits, err = hexOf(digest); err != nil {
			return File{}, err
		}
		key = digits
		if file, err := s.Find(ctx, digest); err == nil || !missing(err) {
			return file, err
		}
	}
	if err := s.makeFolders(); err != nil {
		return File{}, err
	}
	lock, err := s.lock(ctx, key)
	if err != nil {
		return File{}, err
	}
	defer lock.Release()
	if digits != "" {
		if file, err := s.Find(ctx, digest); err == nil || !missing(err) {
			return file, err
		}
	}
	half := path.Join(halfs, key)
	if digits == "" {
		defer s.root.Remove(half) // nothing is there any more when it has come to its place
	}
	got, err := s.fill(ctx, half, digits, size, fill)
	if err != nil {
		return File{}, err
	}
	if digits == "" {
		lock, err := s.lock(ctx, got)
		if err != nil {
			return File{}, err
		}
		defer lock.Release()
		if file, err := s.Find(ctx, "sha256:"+got); err == nil || !missing(err) {
			return file, err
		}
	}
	file, err := s.place(ctx, half, got, name)
	if diskfull.Is(err) {
		_ = s.root.Remove(half)
	}
	return file, err
}

// missing reports whether a file is to be fetched.
func missing(err error) bool {
	return errors.Is(err, registry.ErrNotFound) || errors.Is(err, errDamaged)
}

// lock waits for the lock of who fills or deletes the file with a digest.
func (s *Store) lock(ctx context.Context, key string) (*filelock.Lock, error) {
	name := path.Join(locks, key)
	lock, err := filelock.Acquire(ctx, s.root, name, 0o600)
	if err != nil && ctx.Err() != nil {
		return nil, &registry.Error{Kind: registry.ErrUnavailable, Path: s.path(name), Found: "another process that fetches sha256:" + key,
			Err: err, Remedy: "Wait for it, or end it: this one goes on then"}
	}
	return lock, s.fault(name, err)
}

// fill has the half file filled and returns its digest. The caller has its lock.
func (s *Store) fill(ctx context.Context, at, digits string, size int64, fill Fill) (got string, err error) {
	file, err := s.openHalf(at)
	if err != nil {
		return "", err
	}
	// Bytes that are worth nothing do not stay: others of another digest, those that a full disk let in, and those that may not be on the disk.
	drop := true
	defer func() {
		file.Close()
		if drop {
			_ = s.root.Remove(at) // the next one begins at 0 when it stays: its digest is wrong
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return "", s.fault(at, err)
	}
	half := &Half{file: file, n: info.Size(), limit: size}
	if size < 0 {
		half.limit = MaxSize
	}
	if half.n > half.limit {
		if err := half.restart(); err != nil {
			return "", s.fault(at, err)
		}
	}
	for {
		from := half.n
		if from == 0 || from != size {
			drop = false
			write, err := half.by(ctx, fill)
			switch {
			case write != nil:
				drop = true
				return "", s.fault(at, write)
			case err != nil:
				return "", err
			case size >= 0 && half.n < size:
				return "", &registry.Error{Kind: registry.ErrUnavailable, Found: fmt.Sprintf("an end after %s", sentence.Count(half.n, "byte")), Expected: fmt.Sprint(size),
					Remedy: "Try again: it goes on from there"}
			}
			drop = true
		}
		_, got, err = sumOf(ctx, file)
		if err != nil {
			drop = ctx.Err() == nil
			return "", s.fault(at, err)
		}
		if digits == "" || got == digits {
			break
		}
		if from == 0 {
			return "", &registry.Error{Kind: registry.ErrDigest, Found: "bytes with the digest sha256:" + got, Expected: "sha256:" + digits,
				Remedy: "Somebody changed them on the way or at the source: ask its owner, or try another source"}
		}
		if err := half.restart(); err != nil { // what was there may be what is wrong: of another source, or lost by a system that crashed
			return "", s.fault(at, err)
		}
	}
	// Files are run from here, and changed by nobody.
	if err := errors.Join(file.Chmod(0o555), file.Sync()); err != nil {
		return "", s.fault(at, err)
	}
	drop = false
	return got, nil
}

// openHalf opens a half file, or makes it.
func (s *Store) openHalf(at string) (*os.File, error) {
	info, err := s.root.Lstat(at)
	switch {
	case err == nil && (!info.Mode().IsRegular() || links(info) > 1): // what is written to it would be written elsewhere
		err = s.root.RemoveAll(at)
	case err == nil && info.Mode().Perm()&0o600 != 0o600: // it was whole, and was to be renamed
		err = s.root.Chmod(at, 0o600)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return nil, s.fault(at, err)
	}
	f, err := s.root.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o600)
	return f, s.fault(at, err)
}

// place renames a half file to where it belongs. The caller has the lock of its digest.
func (s *Store) place(ctx context.Context, half, digits, name string) (File, error) {
	dir := path.Join(whole, digits)
	if _, err := s.setAside(dir); err != nil {
		return File{}, err
	}
	if err := s.makeFolder(dir); err != nil {
		return File{}, err
	}
	at := path.Join(dir, name)
	if err := s.root.Rename(half, at); err != nil {
		return File{}, s.fault(at, err)
	}
	// The file is whole either way; what may be lost without this, when the system crashes, is its name.
	for _, folder := range []string{dir, whole} {
		if err := s.sync(folder); err != nil {
			return File{}, s.fault(folder, err)
		}
	}
	f, err := s.open(ctx, at)
	if err != nil {
		return File{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return File{}, s.fault(at, err)
	}
	s.hold(digits, f)
	return File{s.path(at), "sha256:" + digits, info.Size()}, nil
}

// setAside moves what lies in the place of a file's folder to aside, where it is never loaded from, and says where it is then. Files go one by one: Windows
// renames no folder in which a file is open.
func (s *Store) setAside(dir string) (moved []string, err error) {
	info, err := s.root.Lstat(dir)
	if err != nil {
		return nil, s.there(dir, err)
	}
	names := []string{""}
	if info.IsDir() {
		if names, err = s.names(dir); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		from, to := path.Join(dir, name), path.Join(aside, rand.Text())
		if err := s.root.Rename(from, to); err != nil {
			return moved, s.fault(from, err)
		}
		moved = append(moved, to)
	}
	return moved, nil
}

func (s *Store) makeFolders() error {
	for _, folder := range []string{whole, halfs, locks, aside} {
		if err := s.makeFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

// makeFolder makes a folder of the store. Who may read the store's own folder may read it, and nobody else writes to it.
func (s *Store) makeFolder(at string) error {
	if err := s.private(at); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	top, err := s.root.Stat(".")
	if err != nil {
		return s.fault(at, err)
	}
	mode := top.Mode().Perm()&0o755 | 0o700
	switch err := s.root.Mkdir(at, mode); {
	case errors.Is(err, fs.ErrExist): // another process was faster
	case err != nil:
		return s.fault(at, err)
	default:
		if err := s.root.Chmod(at, mode); err != nil { // whatever the umask is
			return s.fault(at, err)
		}
	}
	return s.private(at)
}

// sync brings a folder's names to the disk. Windows has no such call, and some file systems do not know it.
func (s *Store) sync(at string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := s.root.Open(at)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !unknown(err) {
		return err
	}
	return nil
}
