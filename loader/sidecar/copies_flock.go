//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sidecar

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// hold has other processes know that the folder of a copy is in use, until the file is closed: also by this process's end, whatever ends it.
func hold(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil { // where files cannot be locked, nobody takes them for left behind either
		f.Close()
		return nil, nil
	}
	return f, nil
}

// sweep removes the copies in a folder of processes that were killed. A folder that was made a moment ago may not be held yet.
func sweep(folder string) {
	all, _ := fs.Glob(os.DirFS(folder), copyPrefix+"*") // which fails for a faulty pattern alone
	for _, name := range all {
		dir := filepath.Join(folder, name)
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
		if err != nil { // another user's, who may have put something else there
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		f.Close()
	}
}
