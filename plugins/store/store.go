// Package store keeps files by what is in them: a file lies at sha256/<digest>/<name> in the store's folder, where only whole files ever come to, by
// rename. Any number of processes may use a folder at the same time, be killed at any point, and find the disk full: what Find and Put return is
// whole, and is there until it is not used any more.
//
// What is in the folder beside that: half/ has files that are being fetched, or are to be fetched on; lock/ has the locks of who fetches; aside/ has what was
// found damaged, and what is being deleted. All of these may be deleted when no process uses the store.
//
// Nothing is written outside the folder, whatever names and links are in it. No decision depends on what time it is, but for the age that GC is given.
package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// The folders of a store.
const (
	whole = "sha256"
	halfs = "half"
	locks = "lock"
	aside = "aside"
)

// File is a whole file of the store.
type File struct {
	Path   string // absolute. The file may be read and run, not written
	Digest string // of its bytes: sha256: and 64 hexadecimal digits
	Size   int64  // in bytes
}

// Store is an open store. Its methods are for any goroutine. Their errors are *registry.Error, or what a context or a fill says: ErrStore where the
// folder cannot be used, ErrDigest where bytes are others than a digest says, ErrNotFound, ErrMalformed where a digest or a name is none.
type Store struct {
	folder string // absolute, without symbolic links
	root   *os.Root

	mu   sync.Mutex
	held map[string]*os.File // by digest: open and locked, so that no GC takes it
}

// Default returns the folder of the user's store, in the user's cache folder: $XDG_CACHE_HOME/ferrule/store or ~/.cache/ferrule/store, on macOS
// ~/Library/Caches/ferrule/store, on Windows %LocalAppData%\ferrule\store.
func Default() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", &registry.Error{Kind: registry.ErrStore, Err: err, Remedy: "Give a folder for the store (ferrule --store, plugins.StoreFolder), or set HOME"}
	}
	return filepath.Join(cache, "ferrule", "store"), nil
}

// Open opens the store in a folder, which it makes, private to the user, when it is not there. A folder that may only be read will do while all that
// is asked for is there. One that others may write to is an error, and one of another user, unless that is root: what is loaded from there
// could be theirs.
func Open(folder string) (*Store, error) {
	path, err := abspath.Of(folder)
	if err != nil {
		return nil, fault(folder, err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fault(path, err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, fault(path, err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fault(path, err)
	}
	s := &Store{folder: path, root: root, held: map[string]*os.File{}}
	for _, name := range []string{".", whole, halfs, locks, aside} {
		if err := s.private(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			root.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close ends the use of all files that were found. They stay, until a GC.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.held {
		f.Close()
	}
	clear(s.held)
	return s.root.Close()
}

// Forget ends the use of the files that were found and whose digest used is not true of. They stay, until a GC.
func (s *Store) Forget(used func(digest string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hex, f := range s.held {
		if !used("sha256:" + hex) {
			f.Close()
			delete(s.held, hex)
		}
	}
}

// Folder returns the store's folder: absolute, without symbolic links.
func (s *Store) Folder() string { return s.folder }

// Find returns the file with a digest. It reads all of it and compares the digest, each time it is called, at some 0.85 GB in a second. The file is in use until Close,
// or Forget: no GC takes it, of any process. What holds between this check and the moment when the file is loaded: nobody but its owner and
// root may write to the file or its folder, and no process that uses the store changes a file that is there.
//
// A file with other bytes is ErrDigest. It stays where it is, and the next Put with its digest replaces it.
func (s *Store) Find(ctx context.Context, digest string) (File, error) {
	hex, err := hexOf(digest)
	if err != nil {
		return File{}, err
	}
	f, file, err := s.check(ctx, hex)
	if err != nil {
		return File{}, err
	}
	s.hold(hex, f)
	return file, nil
}

// hold keeps a file open that is locked.
func (s *Store) hold(hex string, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.held[hex]; old != nil {
		old.Close() // it may be one that was replaced since
	}
	s.held[hex] = f
}

// hexOf returns the digits of a digest.
func hexOf(digest string) (string, error) {
	hex := registry.Hex(digest)
	if hex == "" {
		return "", &registry.Error{Kind: registry.ErrMalformed, Found: "the digest " + quote(cmp.Or(digest, "of no digits")),
			Expected: "sha256: and 64 hexadecimal digits, with small letters"}
	}
	return hex, nil
}
