// Package folder is the files that a module sees by WASI. wazero's own folders follow symbolic links, also those that a module makes itself, to anywhere; these are
// an os.Root each, out of which nothing leads. What opens a file blocks on none: only regular files and folders are opened.
package folder

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	sysapi "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// Permit lets a module see a folder with all beneath, or one file.
type Permit struct {
	At    string // where the module sees it, an absolute path with /
	Path  string // of the folder, or the file
	Write bool   // it may be changed, too
}

// Folders are what a module sees, open until Close. They may be used by any number of instances at the same time.
type Folders struct {
	at     map[string]*folder
	roots  []*os.Root
	opened atomic.Int64 // files, of all instances
}

// Open opens what is permitted. A file is seen in its folder, of which nothing else is. What is permitted twice may be changed where one of them says so. The error says what is not there.
func Open(permits []Permit) (*Folders, error) {
	all := &Folders{at: make(map[string]*folder)}
	for _, p := range permits {
		if err := all.add(p); err != nil {
			all.Close()
			return nil, err
		}
	}
	return all, nil
}

func (all *Folders) add(p Permit) error {
	real, err := filepath.EvalSymlinks(p.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	at := path.Clean("/" + p.At)
	if info.IsDir() {
		f := all.folder(at)
		if f.root != nil && f.real != real {
			return &fs.PathError{Op: "open", Path: p.Path, Err: errTwice}
		}
		if f.root == nil {
			f.root, err = all.open(real)
		}
		f.real, f.write = real, f.write || p.Write
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: p.Path, Err: errKind}
	}
	f, name := all.folder(path.Dir(at)), path.Base(at)
	if known, ok := f.files[name]; ok {
		if known.real != real {
			return &fs.PathError{Op: "open", Path: p.Path, Err: errTwice}
		}
		known.write = known.write || p.Write
		f.files[name] = known
		return nil
	}
	root, err := all.open(filepath.Dir(real))
	if err == nil {
		f.files[name] = single{root, filepath.Base(real), p.Write, real}
	}
	return err
}

var (
	errKind  = errors.New("neither a folder nor a regular file")
	errTwice = errors.New("another one is seen at the same path")
)

func (all *Folders) folder(at string) *folder {
	if all.at[at] == nil {
		all.at[at] = &folder{files: make(map[string]single), open: &all.opened}
	}
	return all.at[at]
}

func (all *Folders) open(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err == nil {
		all.roots = append(all.roots, root)
	}
	return root, err
}

// Each calls mount for each place at which a module sees something.
func (all *Folders) Each(mount func(at string, fs sysapi.FS)) {
	for at, f := range all.at {
		mount(at, f)
	}
}

// Close closes them. No instance uses them any more.
func (all *Folders) Close() {
	for _, root := range all.roots {
		_ = root.Close()
	}
}

// folder is what is seen at one path: a folder, or only some files.
type folder struct {
	sysapi.UnimplementedFS
	root  *os.Root // nil where there are only files
	write bool
	real  string            // the path of root, without links
	open  *atomic.Int64     // Folders'
	files map[string]single // by the name at which each is seen; they come before those of root
}

// maxFiles is how many files and folders all instances of a plug-in may have open: more would be the host's descriptors.
const maxFiles = 256

// single is a file by itself.
type single struct {
	root  *os.Root
	name  string
	write bool
	real  string
}

// String is for wazero's errors.
func (f *folder) String() string { return "ferrule" }

// place is what a path leads to.
type place struct {
	root   *os.Root
	name   string
	write  bool
	single bool // the file stays where it is
}

// list reports whether a path is that of a folder that has only files.
func (f *folder) list(name string) bool { return f.root == nil && path.Clean(name) == "." }

func (f *folder) place(name string) (place, sysapi.Errno) {
	if s, ok := f.files[path.Clean(name)]; ok {
		return place{s.root, s.name, s.write, true}, 0
	}
	if f.root == nil {
		return place{}, sysapi.ENOENT
	}
	return place{f.root, filepath.FromSlash(name), f.write, false}, 0
}

// change is place for what changes a file, and free for what takes one to or from its place.
func (f *folder) change(name string) (place, sysapi.Errno) {
	p, errno := f.place(name)
	if errno == 0 && !p.write {
		errno = sysapi.EROFS
	}
	return p, errno
}

func (f *folder) free(name string) (place, sysapi.Errno) {
	p, errno := f.change(name)
	if errno == 0 && p.single {
		errno = sysapi.EPERM
	}
	return p, errno
}

// errnoOf is an error in WASI's words. What leads out of an os.Root is no system's error.
func errnoOf(err error) sysapi.Errno {
	if err == nil {
		return 0
	}
	errno := sysapi.UnwrapOSError(err)
	if errno == sysapi.EIO && strings.HasSuffix(err.Error(), "path escapes from parent") {
		return sysapi.EPERM
	}
	return errno
}

// lstat looks at what is at a place itself. A file that is permitted by itself is not a link: somebody has put one in its place.
func (p place) lstat() (fs.FileInfo, sysapi.Errno) {
	info, err := p.root.Lstat(p.name)
	if err == nil && p.single && info.Mode()&fs.ModeSymlink != 0 {
		return nil, sysapi.EPERM
	}
	return info, errnoOf(err)
}

// listed is what a folder is that has only files.
var listed = sys.Stat_t{Mode: fs.ModeDir | 0o555, Nlink: 1}

// OpenFile is sys.FS's.
func (f *folder) OpenFile(name string, flag sysapi.Oflag, perm fs.FileMode) (sysapi.File, sysapi.Errno) {
	how := os.O_RDONLY
	switch flag & (sysapi.O_RDONLY | sysapi.O_RDWR | sysapi.O_WRONLY) {
	case sysapi.O_RDWR:
		how = os.O_RDWR
	case sysapi.O_WRONLY:
		how = os.O_WRONLY
	}
	for _, b := range []struct {
		guest sysapi.Oflag
		host  int
	}{{sysapi.O_APPEND, os.O_APPEND}, {sysapi.O_CREAT, os.O_CREATE}, {sysapi.O_EXCL, os.O_EXCL}, {sysapi.O_TRUNC, os.O_TRUNC}, {sysapi.O_SYNC | sysapi.O_DSYNC, os.O_SYNC}} {
		if flag&b.guest != 0 {
			how |= b.host
		}
	}
	changes := how&^(os.O_SYNC|os.O_EXCL) != os.O_RDONLY
	if f.list(name) {
		if changes {
			return nil, sysapi.EISDIR
		}
		l := &list{of: f}
		l.seek = l.to
		return l, 0
	}
	p, errno := f.place(name)
	if errno != 0 {
		return nil, errno
	}
	info, errno := p.lstat()
	switch {
	case errno == sysapi.ENOENT && how&os.O_CREATE != 0 && !p.single:
	case errno != 0:
		return nil, errno
	case info.Mode()&fs.ModeSymlink != 0 && flag&sysapi.O_NOFOLLOW != 0:
		return nil, sysapi.ELOOP
	case info.IsDir() && changes:
		return nil, sysapi.EISDIR
	}
	if changes && !p.write {
		return nil, sysapi.EROFS
	}
	if f.open.Add(1) > maxFiles {
		f.open.Add(-1)
		return nil, sysapi.EAGAIN // wazero has no word for a full table
	}
	before := info
	opened, err := p.root.OpenFile(p.name, how&^os.O_TRUNC|notBlocking, perm&0o777)
	if err != nil {
		f.open.Add(-1)
		return nil, errnoOf(err)
	}
	if info, err = opened.Stat(); err != nil {
		f.open.Add(-1)
		_ = opened.Close()
		return nil, errnoOf(err)
	}
	switch mode := info.Mode(); {
	case p.single && !os.SameFile(before, info): // a link has taken its place
		errno = sysapi.EPERM
	case !mode.IsRegular() && !mode.IsDir():
		errno = sysapi.EPERM
	case !mode.IsDir() && flag&sysapi.O_DIRECTORY != 0:
		errno = sysapi.ENOTDIR
	default:
		if how&os.O_TRUNC != 0 {
			if errno = errnoOf(opened.Truncate(0)); errno != 0 {
				break
			}
		}
		own := &file{file: opened, place: p, dir: mode.IsDir(), appends: how&os.O_APPEND != 0, open: f.open}
		own.seek = own.to
		return own, 0
	}
	f.open.Add(-1)
	_ = opened.Close()
	return nil, errno
}

// Lstat is sys.FS's.
func (f *folder) Lstat(name string) (sys.Stat_t, sysapi.Errno) { return f.stat(name, (*os.Root).Lstat) }

// Stat is sys.FS's.
func (f *folder) Stat(name string) (sys.Stat_t, sysapi.Errno) { return f.stat(name, (*os.Root).Stat) }

func (f *folder) stat(name string, look func(*os.Root, string) (fs.FileInfo, error)) (sys.Stat_t, sysapi.Errno) {
	if f.list(name) {
		return listed, 0
	}
	p, errno := f.place(name)
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	if p.single {
		if _, errno := p.lstat(); errno != 0 {
			return sys.Stat_t{}, errno
		}
	}
	info, err := look(p.root, p.name)
	if err != nil {
		return sys.Stat_t{}, errnoOf(err)
	}
	return sys.NewStat_t(info), 0
}

// Mkdir is sys.FS's.
func (f *folder) Mkdir(name string, perm fs.FileMode) sysapi.Errno {
	p, errno := f.free(name)
	if errno != 0 {
		return errno
	}
	return errnoOf(p.root.Mkdir(strings.TrimRight(p.name, string(filepath.Separator)), perm&0o777))
}

// Chmod is sys.FS's.
func (f *folder) Chmod(name string, perm fs.FileMode) sysapi.Errno {
	p, errno := f.free(name)
	if errno != 0 {
		return errno
	}
	return errnoOf(p.root.Chmod(p.name, perm&0o777))
}

// Rename is sys.FS's.
func (f *folder) Rename(from, to string) sysapi.Errno {
	a, errno := f.free(from)
	if errno != 0 {
		return errno
	}
	b, errno := f.free(to)
	if errno != 0 {
		return errno
	}
	if info, err := a.root.Lstat(a.name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return sysapi.EPERM // it may lead out from another place
	}
	return errnoOf(a.root.Rename(a.name, b.name))
}

// Rmdir is sys.FS's.
func (f *folder) Rmdir(name string) sysapi.Errno { return f.remove(name, true) }

// Unlink is sys.FS's.
func (f *folder) Unlink(name string) sysapi.Errno { return f.remove(name, false) }

func (f *folder) remove(name string, dir bool) sysapi.Errno {
	p, errno := f.free(name)
	if errno != 0 {
		return errno
	}
	info, errno := p.lstat()
	switch {
	case errno != 0:
		return errno
	case dir && !info.IsDir():
		return sysapi.ENOTDIR
	case !dir && info.IsDir():
		return sysapi.EISDIR
	}
	return errnoOf(p.root.Remove(p.name))
}

// Link is sys.FS's.
func (f *folder) Link(from, to string) sysapi.Errno {
	a, errno := f.free(from)
	if errno != 0 {
		return errno
	}
	b, errno := f.free(to)
	if errno != 0 {
		return errno
	}
	return errnoOf(a.root.Link(a.name, b.name))
}

// Symlink is sys.FS's. Whoever looks into the folder from outside would follow a link that leads out of it, and a link through another one may do so
// whatever its words are: so a module makes none.
func (f *folder) Symlink(_, name string) sysapi.Errno {
	if _, errno := f.free(name); errno != 0 {
		return errno
	}
	return sysapi.EPERM
}

// Readlink is sys.FS's.
func (f *folder) Readlink(name string) (string, sysapi.Errno) {
	if f.list(name) {
		return "", sysapi.EINVAL
	}
	p, errno := f.place(name)
	if errno != 0 {
		return "", errno
	}
	to, err := p.root.Readlink(p.name)
	return filepath.ToSlash(to), errnoOf(err)
}

// Utimens is sys.FS's.
func (f *folder) Utimens(name string, atim, mtim int64) sysapi.Errno {
	p, errno := f.change(name)
	if errno != 0 {
		return errno
	}
	return p.utimens(atim, mtim)
}

func (p place) utimens(atim, mtim int64) sysapi.Errno {
	return errnoOf(p.root.Chtimes(p.name, timeOf(atim), timeOf(mtim)))
}

func timeOf(ns int64) time.Time {
	if ns == sysapi.UTIME_OMIT {
		return time.Time{} // which Chtimes leaves as it is
	}
	return time.Unix(0, ns)
}

// seeker has Seek of sys.File. It is generic for go vet, which takes one of an int64 for io.Seeker's.
type seeker[T int64] struct {
	sysapi.UnimplementedFile
	seek func(offset T, whence int) (T, sysapi.Errno)
}

// Seek is sys.File's.
func (s *seeker[T]) Seek(offset T, whence int) (T, sysapi.Errno) { return s.seek(offset, whence) }

// file is an open one of an instance's, which uses it for one call at a time.
type file struct {
	seeker[int64]
	file    *os.File
	place   place
	dir     bool
	appends bool
	closed  atomic.Bool
	open    *atomic.Int64 // Folders'
}

func (f *file) Dev() (uint64, sysapi.Errno) {
	st, errno := f.Stat()
	return st.Dev, errno
}

func (f *file) Ino() (sys.Inode, sysapi.Errno) {
	st, errno := f.Stat()
	return st.Ino, errno
}

func (f *file) IsDir() (bool, sysapi.Errno) { return f.dir, 0 }

func (f *file) IsAppend() bool { return f.appends }

// SetAppend opens the file anew where that has to change: no system has one way to change it.
func (f *file) SetAppend(enable bool) sysapi.Errno {
	if enable == f.appends {
		return 0
	}
	if f.dir {
		return sysapi.EISDIR
	}
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return errnoOf(err)
	}
	how := os.O_RDWR
	if enable {
		how |= os.O_APPEND
	}
	if !f.place.write {
		return sysapi.EROFS
	}
	other, err := f.place.root.OpenFile(f.place.name, how|notBlocking, 0)
	if err != nil {
		return errnoOf(err)
	}
	was, err := f.file.Stat()
	is, err2 := other.Stat()
	if err != nil || err2 != nil || !os.SameFile(was, is) { // another one is at its place by now
		_ = other.Close()
		return sysapi.ENOENT
	}
	if _, err := other.Seek(at, io.SeekStart); err != nil {
		_ = other.Close()
		return errnoOf(err)
	}
	_ = f.file.Close()
	f.file, f.appends = other, enable
	return 0
}

func (f *file) Stat() (sys.Stat_t, sysapi.Errno) {
	info, err := f.file.Stat()
	if err != nil {
		return sys.Stat_t{}, errnoOf(err)
	}
	return sys.NewStat_t(info), 0
}

func (f *file) Read(b []byte) (int, sysapi.Errno) {
	if f.dir {
		return 0, sysapi.EISDIR
	}
	n, err := f.file.Read(b)
	return max(n, 0), errnoOf(ended(err))
}

func (f *file) Pread(b []byte, off int64) (int, sysapi.Errno) {
	if f.dir {
		return 0, sysapi.EISDIR
	}
	if off < 0 {
		return 0, sysapi.EINVAL
	}
	n, err := f.file.ReadAt(b, off)
	return n, errnoOf(ended(err))
}

// ended has the end of a file be no error, as WASI has it.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (f *file) to(offset int64, whence int) (int64, sysapi.Errno) {
	if whence < io.SeekStart || whence > io.SeekEnd || f.dir && (offset != 0 || whence != io.SeekStart) {
		return 0, sysapi.EINVAL
	}
	at, err := f.file.Seek(offset, whence)
	return at, errnoOf(err)
}

func (f *file) Readdir(n int) ([]sysapi.Dirent, sysapi.Errno) {
	if !f.dir {
		return nil, sysapi.ENOTDIR
	}
	entries, err := f.file.ReadDir(n)
	all := make([]sysapi.Dirent, 0, len(entries))
	for _, e := range entries {
		d := sysapi.Dirent{Name: e.Name(), Type: e.Type()}
		if info, err := e.Info(); err == nil { // it may be gone by now
			d.Ino = sys.NewStat_t(info).Ino
		}
		all = append(all, d)
	}
	return all, errnoOf(ended(err))
}

func (f *file) Write(b []byte) (int, sysapi.Errno) {
	if f.dir {
		return 0, sysapi.EISDIR
	}
	n, err := f.file.Write(b)
	return n, errnoOf(err)
}

// Pwrite of a file that is appended to appends, as Linux has it.
func (f *file) Pwrite(b []byte, off int64) (int, sysapi.Errno) {
	if f.appends || f.dir {
		return f.Write(b)
	}
	if off < 0 {
		return 0, sysapi.EINVAL
	}
	n, err := f.file.WriteAt(b, off)
	return n, errnoOf(err)
}

func (f *file) Truncate(size int64) sysapi.Errno {
	switch {
	case f.dir:
		return sysapi.EISDIR
	case size < 0:
		return sysapi.EINVAL
	}
	return errnoOf(f.file.Truncate(size))
}

func (f *file) Sync() sysapi.Errno { return errnoOf(f.file.Sync()) }

func (f *file) Datasync() sysapi.Errno { return f.Sync() }

// Utimens sets the times of what is at the file's place.
func (f *file) Utimens(atim, mtim int64) sysapi.Errno {
	if !f.place.write {
		return sysapi.EROFS
	}
	return f.place.utimens(atim, mtim)
}

func (f *file) Close() sysapi.Errno {
	if f.closed.Swap(true) {
		return 0
	}
	f.open.Add(-1)
	return errnoOf(f.file.Close())
}

// list is an open folder that has only files.
type list struct {
	seeker[int64]
	of *folder
	at int
}

func (l *list) Dev() (uint64, sysapi.Errno)             { return 0, 0 }
func (l *list) Ino() (sys.Inode, sysapi.Errno)          { return 0, 0 }
func (l *list) IsDir() (bool, sysapi.Errno)             { return true, 0 }
func (l *list) Stat() (sys.Stat_t, sysapi.Errno)        { return listed, 0 }
func (l *list) Read([]byte) (int, sysapi.Errno)         { return 0, sysapi.EISDIR }
func (l *list) Write([]byte) (int, sysapi.Errno)        { return 0, sysapi.EISDIR }
func (l *list) Truncate(int64) sysapi.Errno             { return sysapi.EISDIR }
func (l *list) Utimens(int64, int64) sysapi.Errno       { return sysapi.EROFS }
func (l *list) Close() sysapi.Errno                     { return 0 }
func (l *list) Sync() sysapi.Errno                      { return 0 }
func (l *list) Datasync() sysapi.Errno                  { return 0 }
func (l *list) Pread([]byte, int64) (int, sysapi.Errno) { return 0, sysapi.EISDIR }

func (l *list) to(offset int64, whence int) (int64, sysapi.Errno) {
	if offset != 0 || whence != io.SeekStart {
		return 0, sysapi.EINVAL
	}
	l.at = 0
	return 0, 0
}

func (l *list) Readdir(n int) (all []sysapi.Dirent, errno sysapi.Errno) {
	names := make([]string, 0, len(l.of.files))
	for name := range l.of.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for ; l.at < len(names) && (n <= 0 || len(all) < n); l.at++ {
		d := sysapi.Dirent{Name: names[l.at]}
		if st, errno := l.of.Stat(d.Name); errno == 0 {
			d.Ino = st.Ino
		}
		all = append(all, d)
	}
	return all, 0
}
