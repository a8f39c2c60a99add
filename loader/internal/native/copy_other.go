//go:build !linux

package native

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
)

// PrivateCopy is a copy in memory and, for the system's loader, in a folder that only this user can change.
type PrivateCopy struct {
	*bytes.Reader
	size    int64
	at      string // where it is written
	written bool   // by this process, which removes it
}

// MakeCopy makes a private copy of the file at path, and writes it under its digest in the user's cache folder: now,
// because a process in a sandbox may not write a byte later (RLIMIT_FSIZE). Windows cannot remove a library that is
// loaded, so there the file stays, one for each content; the next process writes it anew, if it can, or finds the same
// bytes in it. Built, not run on macOS: see docs/macos.md.
func MakeCopy(path string) (*PrivateCopy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &PrivateCopy{Reader: bytes.NewReader(data), size: int64(len(data))}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(data)
	dir := filepath.Join(cache, "ferrule", hex.EncodeToString(digest[:]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c.at = filepath.Join(dir, filepath.Base(path))
	if old, err := os.ReadFile(c.at); err == nil && bytes.Equal(old, data) {
		return c, nil
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	_, err = tmp.Write(data)
	if errClose := tmp.Close(); err == nil {
		err = errClose
	}
	if err == nil {
		err = os.Rename(tmp.Name(), c.at)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return nil, err
	}
	c.written = true
	return c, nil
}

// path returns where the system's loader finds the copy.
func (c *PrivateCopy) path([]byte, string) (string, error) { return c.at, nil }

// cacheDir returns the user's cache folder, also where the environment does not say where that is: a worker's is empty.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil {
		return dir, nil
	}
	u, err1 := user.Current()
	if err1 != nil || u.HomeDir == "" {
		return "", err
	}
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(u.HomeDir, "AppData", "Local"), nil
	case "darwin", "ios":
		return filepath.Join(u.HomeDir, "Library", "Caches"), nil
	}
	return filepath.Join(u.HomeDir, ".cache"), nil
}

// close removes what MakeCopy wrote; a library that is loaded stays usable without its file.
func (c *PrivateCopy) close() {
	if c.written && os.Remove(c.at) == nil {
		_ = os.Remove(filepath.Dir(c.at))
	}
}
