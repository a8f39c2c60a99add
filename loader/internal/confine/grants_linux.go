package confine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/deps"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// Grants returns the files that the library at path brings along and that a sandbox lets the worker read, beyond what the
// policy says. Which files these are is the library's word, so it must not bring what is somebody's secret: each is a
// shared library that its search path leads to, and either lies in the plug-in's own folder or beneath it, or is there
// for every user of the machine to read.
func Grants(path string, lib *inspect.Library) ([]wire.Library, error) {
	found, _, err := deps.Resolve(path, lib)
	if err != nil {
		var e *inspect.Error
		if errors.As(err, &e) {
			e.Path = path
		}
		return nil, err
	}
	if len(found) == 0 {
		return nil, nil
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		folder = "" // nothing lies there
	}
	var list []wire.Library
	for _, l := range found {
		own := folder != "" && folder != "/" && strings.HasPrefix(l.Path, folder+"/")
		if stat, ok := l.File.Sys().(*syscall.Stat_t); ok && (own || public(l.Path, l.File)) {
			list = append(list, wire.Library{Path: []byte(l.Path), Device: uint64(stat.Dev), Inode: stat.Ino})
		}
	}
	return list, nil
}

// FindNamed is Find of a regular file that a program names by its own word, such as its linker: so it must not be somebody's secret. It lies beneath the program's own
// folder, or is there for every user of the machine to read. Another one is an *os.PathError with os.ErrPermission.
func FindNamed(program, path string) (File, error) {
	found, err := Find(path)
	if err != nil {
		return found, err
	}
	info, err := os.Lstat(string(found.Path))
	if err != nil {
		return File{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	folder, err := filepath.EvalSymlinks(filepath.Dir(program))
	own := err == nil && folder != "/" && strings.HasPrefix(string(found.Path), folder+"/")
	if !ok || !info.Mode().IsRegular() || uint64(stat.Dev) != found.Device || stat.Ino != found.Inode || !own && !public(string(found.Path), info) {
		return File{}, &os.PathError{Op: "grant", Path: string(found.Path), Err: os.ErrPermission}
	}
	return found, nil
}

// Public reports whether every user of this machine may read what is at path, and whatever it leads to.
func Public(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	info, err := os.Lstat(real)
	return err == nil && public(real, info)
}

// public reports whether every user of this machine may read the file at path, which has no links in it.
func public(path string, info fs.FileInfo) bool {
	const read, search = 0o004, 0o001
	if info.Mode()&read == 0 {
		return false
	}
	for path != "/" {
		path = filepath.Dir(path)
		if folder, err := os.Lstat(path); err != nil || folder.Mode()&search == 0 {
			return false
		}
	}
	return true
}
