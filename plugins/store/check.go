package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/ferrule-dev/ferrule/plugins/internal/diskfull"
	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
)

// errDamaged is in the error of what lies in the place of a file and is not that file. Put replaces it.
var errDamaged = errors.New("damaged")

// check opens the file with a digest, with a lock that others share, and reads it all.
func (s *Store) check(ctx context.Context, digits string) (*os.File, File, error) {
	dir := path.Join(whole, digits)
	if err := s.private(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, File{}, s.absent(digits)
	} else if err != nil {
		return nil, File{}, err
	}
	names, err := s.names(dir)
	switch {
	case err != nil:
		return nil, File{}, err
	case len(names) == 0:
		return nil, File{}, s.absent(digits) // who made the folder did not come to the rename, or a GC was there
	case len(names) > 1:
		return nil, File{}, s.damage(dir, "several files: "+quote(names[0])+", "+quote(names[1]), "one")
	}
	at := path.Join(dir, names[0])
	f, err := s.open(ctx, at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, File{}, s.absent(digits)
	} else if err != nil {
		return nil, File{}, err
	}
	size, sum, err := sumOf(ctx, f)
	if err == nil && sum != digits {
		err = s.damage(at, "other bytes: sha256:"+sum, "sha256:"+digits)
	}
	if err != nil {
		f.Close()
		return nil, File{}, s.fault(at, err)
	}
	return f, File{s.path(at), "sha256:" + digits, size}, nil
}

// open opens a whole file, with a lock that others share.
func (s *Store) open(ctx context.Context, at string) (*os.File, error) {
	info, err := s.root.Lstat(at)
	if err != nil {
		return nil, s.fault(at, err)
	}
	if !info.Mode().IsRegular() { // it is not opened: that of a FIFO would wait
		return nil, s.damage(at, kindOf(info), "a file")
	}
	if found, _ := writable(info); found != "" {
		return nil, s.damage(at, found, "a file that nobody may write to")
	}
	f, err := s.root.Open(at)
	if err != nil {
		return nil, s.fault(at, err)
	}
	if err = filelock.Wait(ctx, f, false); err == nil {
		var current bool
		if current, err = filelock.Current(s.root, at, f); err == nil && !current {
			err = fs.ErrNotExist // a GC was here first
		}
	}
	if err != nil {
		f.Close()
		return nil, s.fault(at, err)
	}
	return f, nil
}

// private reports that a folder of the store is one, and that nobody else may write to it.
func (s *Store) private(at string) error {
	info, err := s.root.Lstat(at)
	if err != nil {
		return s.fault(at, err)
	}
	if !info.IsDir() {
		err := s.damage(at, kindOf(info), "a folder")
		if path.Dir(at) != whole {
			err = &registry.Error{Kind: registry.ErrStore, Path: s.path(at), Found: kindOf(info), Expected: "a folder", Remedy: "Delete it, or move it away"}
		}
		return err
	}
	if found, remedy := writable(info); found != "" {
		return &registry.Error{Kind: registry.ErrStore, Path: s.path(at), Found: found, Expected: "one that only its owner may write to: this user, or root",
			Remedy: remedy + strconv.Quote(s.path(at)) + ", or give another folder for the store"}
	}
	return nil
}

// sumOf reads all of a file.
func sumOf(ctx context.Context, f *os.File) (size int64, sum string, err error) {
	h := sha256.New()
	size, err = io.Copy(h, ctxio.Reader(ctx, io.NewSectionReader(f, 0, math.MaxInt64)))
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// path is where a name of the store is for others.
func (s *Store) path(at string) string { return filepath.Join(s.folder, filepath.FromSlash(at)) }

func (s *Store) absent(digits string) error {
	return &registry.Error{Kind: registry.ErrNotFound, Path: s.folder, Found: "no file with the digest sha256:" + digits,
		Expected: "one that was installed", Remedy: "Install it: ferrule install"}
}

func (s *Store) damage(at, found, expected string) error {
	return &registry.Error{Kind: registry.ErrDigest, Path: s.path(at), Found: found, Expected: expected, Err: errDamaged,
		Remedy: "Install it again, which puts this aside and fetches the file: ferrule install"}
}

// fault says what the system has against a file or folder of the store.
func (s *Store) fault(at string, err error) error { return fault(s.path(at), err) }

func fault(path string, err error) error {
	var known *registry.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	e := &registry.Error{Kind: registry.ErrStore, Path: path, Err: err}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		e.Err = cause.Err // its path is within the store's folder
	}
	switch {
	case diskfull.Is(err):
		e.Remedy = "Free space there, ferrule gc is one way, or give another folder for the store; then install again"
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOLCK):
		e.Remedy = "This file system has no locks: give a folder for the store on a disk of this machine"
	case readonlyfs.Is(err), errors.Is(err, fs.ErrPermission):
		e.Remedy = "This user may not do that: install as the folder's owner, or give a folder for the store that this user may write to"
	}
	return e
}

func kindOf(info fs.FileInfo) string {
	switch {
	case info.IsDir():
		return "a folder"
	case info.Mode()&fs.ModeSymlink != 0:
		return "a symbolic link"
	case !info.Mode().IsRegular():
		return fmt.Sprintf("a special file (%s)", info.Mode())
	}
	return "a file"
}

func quote(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return strconv.Quote(s)
}

// What a file in the store may be called: also where names have more rules, as on Windows. The length is not in the expression: a bound there is compiled
// as so many copies, which every program that imports this would wait for at its start.
var (
	named    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)
	reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)
)

func checkName(name string) error {
	if len(name) <= 160 && named.MatchString(name) && !reserved.MatchString(name) && !strings.HasSuffix(name, ".") {
		return nil
	}
	return &registry.Error{Kind: registry.ErrMalformed, Found: "the file name " + quote(name),
		Expected: "letters, digits and _ . + -, 160 of them at most, no . at its beginning or end, and no name that Windows reserves"}
}
