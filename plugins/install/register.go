package install

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// What the installer keeps in the store's folder, beside the files:
//
//	signature/<digest>        the signature of a file, as it came. It is worth what Trust says of it
//	user/<digest of path>/    a lock that uses the store
//	    path                  the lock's path
//	    before.lock           what was locked before the last change of each plug-in, as a lock: for Rollback
const (
	signatures = "signature"
	users      = "user"
	pathFile   = "path"
	beforeFile = "before.lock"
)

// inStore opens the store's folder, to write nothing outside it.
func (in *Installer) inStore(do func(root *os.Root) error) error {
	root, err := os.OpenRoot(in.Store.Folder())
	if err != nil {
		return &registry.Error{Path: in.Store.Folder(), Kind: registry.ErrStore, Err: err}
	}
	defer root.Close()
	return do(root)
}

// put writes a file of the store's folder in one step.
func (in *Installer) put(at string, text []byte) error {
	return in.inStore(func(root *os.Root) error {
		top, err := root.Stat(".")
		if err != nil {
			return in.unwritable(at, err)
		}
		mode := top.Mode().Perm()&0o755 | 0o700 // a store that others may read, they may read all of
		for i, c := range at {
			if c != '/' {
				continue
			}
			err := root.Mkdir(at[:i], mode)
			if err == nil {
				err = root.Chmod(at[:i], mode) // whatever the umask is
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return in.unwritable(at, err)
			}
		}
		half := path.Join(path.Dir(at), "."+rand.Text())
		if err := errors.Join(root.WriteFile(half, text, 0o600), root.Chmod(half, mode&0o644), root.Rename(half, at)); err != nil {
			_ = root.Remove(half)
			return in.unwritable(at, err)
		}
		return nil
	})
}

func (in *Installer) unwritable(at string, err error) error {
	return &registry.Error{Path: filepath.Join(in.Store.Folder(), filepath.FromSlash(at)), Kind: registry.ErrStore, Err: err, Remedy: "See who may write there, and how full the disk is"}
}

// read reads a file of the store's folder; nil where there is none.
func (in *Installer) read(at string, most int64) (text []byte) {
	_ = in.inStore(func(root *os.Root) error {
		info, err := root.Lstat(at)
		if err != nil || !info.Mode().IsRegular() || info.Size() > most {
			return err
		}
		text, err = root.ReadFile(at)
		return err
	})
	return text
}

func (in *Installer) keptSignature(digest string) []byte {
	hex := registry.Hex(digest)
	if hex == "" {
		return nil
	}
	return in.read(path.Join(signatures, hex), registry.MaxSignature)
}

func (in *Installer) keepSignature(digest string, text []byte) error {
	hex := registry.Hex(digest)
	if hex == "" || bytes.Equal(in.keptSignature(digest), text) {
		return nil
	}
	return in.put(path.Join(signatures, hex), text)
}

// user is the folder of this lock's registration, as it lies in the store.
func (in *Installer) user() string {
	sum := sha256.Sum256([]byte(in.Lock))
	return path.Join(users, hex.EncodeToString(sum[:]))
}

// register notes that the lock uses the store. A store that may only be read keeps nothing that GC could take.
func (in *Installer) register() error {
	at := path.Join(in.user(), pathFile)
	if string(in.read(at, 1<<16)) == in.Lock {
		return nil
	}
	err := in.put(at, []byte(in.Lock))
	if errors.Is(err, fs.ErrPermission) || readonlyfs.Is(err) {
		return nil
	}
	return err
}

func (in *Installer) beforePath() string {
	return filepath.Join(in.Store.Folder(), filepath.FromSlash(in.user()), beforeFile)
}

// before is what was locked before the last change of each plug-in.
func (in *Installer) before() (*lock.Lock, error) {
	l, err := lock.Load(in.beforePath())
	if errors.Is(err, fs.ErrNotExist) {
		return &lock.Lock{}, nil
	}
	return l, err
}

// remember notes what was locked before. nil is of what was removed: nothing of it is kept.
func (in *Installer) remember(ctx context.Context, entries map[string]*lock.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return lock.Update(ctx, in.beforePath(), func(l *lock.Lock) error {
		if l.Plugins == nil {
			l.Plugins = map[string]*lock.Entry{}
		}
		for name, e := range entries {
			if l.Plugins[name] = e; e == nil {
				delete(l.Plugins, name)
			}
		}
		return nil
	})
}

// DefaultAge is how old a file has to be for GC to delete it, where nobody says another age: what is being installed is in no lock yet.
const DefaultAge = 24 * time.Hour

// needed are the digests of what the locks name that use the store, and of what they named before their last change.
func (in *Installer) needed(olderThan time.Duration) (keep map[string]bool, err error) {
	keep = map[string]bool{}
	note := func(l *lock.Lock) {
		for _, e := range l.Plugins {
			for _, f := range e.Files {
				keep[f.Digest] = true
			}
		}
	}
	return keep, in.inStore(func(root *os.Root) error {
		names, err := fs.ReadDir(root.FS(), users)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return in.unwritable(users, err)
		}
		for _, dir := range names {
			at := path.Join(users, dir.Name())
			text, err := root.ReadFile(path.Join(at, pathFile))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it is just being registered
			}
			if err != nil {
				return in.unwritable(at, err)
			}
			l, err := lock.Load(string(text))
			if errors.Is(err, fs.ErrNotExist) {
				if info, err := root.Stat(path.Join(at, pathFile)); err == nil && time.Since(info.ModTime()) < olderThan {
					continue // it is registered before it is written for the first time
				}
				if err := root.RemoveAll(at); err != nil {
					return in.unwritable(at, err)
				}
				continue
			}
			if err != nil {
				return err
			}
			note(l)
			before, err := lock.Load(filepath.Join(in.Store.Folder(), filepath.FromSlash(at), beforeFile))
			if err == nil {
				note(before)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// GC deletes from the store what no lock names that uses it: of its register of locks those whose file is gone are dropped, unless they are younger than olderThan, and the others name what they
// have and what they had before their last change. Files that a process uses stay, and those that are younger than olderThan. A lock that cannot be read is an error, and
// nothing is deleted from then on. freed is in bytes, n counts files.
func (in *Installer) GC(ctx context.Context, olderThan time.Duration) (freed int64, n int, err error) {
	keep, err := in.needed(olderThan)
	if err != nil {
		return 0, 0, fmt.Errorf("nothing was deleted from the store: %w", err)
	}
	asked := map[string]bool{}
	var unknown error // what is needed by now
	freed, n, err = in.Store.GC(ctx, func(digest string) bool {
		if keep[digest] || !asked[digest] {
			asked[digest] = true
			return keep[digest]
		}
		if unknown == nil { // a lock may name it since
			var now map[string]bool
			if now, unknown = in.needed(olderThan); unknown == nil {
				keep = now
			} else {
				unknown = fmt.Errorf("nothing more was deleted from the store: %w", unknown)
			}
		}
		return unknown != nil || keep[digest]
	}, olderThan)
	return freed, n, errors.Join(err, unknown, in.inStore(func(root *os.Root) error { // of files that are gone
		names, err := fs.ReadDir(root.FS(), signatures)
		if err != nil {
			return nil
		}
		for _, name := range names {
			if _, err := root.Lstat(path.Join("sha256", name.Name())); !keep["sha256:"+name.Name()] && errors.Is(err, fs.ErrNotExist) {
				_ = root.Remove(path.Join(signatures, name.Name()))
			}
		}
		return nil
	}))
}
