//go:build !linux

package native

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
)

// PrivateCopy is a copy in memory, which path writes to a folder that only this user can change.
type PrivateCopy struct {
	*bytes.Reader
	data    []byte
	size    int64
	written string
}

// MakeCopy makes a private copy of the file at path.
func MakeCopy(path string) (*PrivateCopy, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return &PrivateCopy{Reader: bytes.NewReader(data), data: data, size: int64(len(data))}, nil
}

// path writes the copy under its digest in the user's cache folder, and returns where. Windows cannot remove a library
// that is loaded, so there the file stays, one for each content; the next process writes it anew, if it can, or finds
// the same bytes in it.
func (c *PrivateCopy) path(digest []byte, base string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "ferrule", hex.EncodeToString(digest))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	at := filepath.Join(dir, base)
	if old, err := os.ReadFile(at); err == nil && bytes.Equal(old, c.data) {
		return at, nil
	}
	tmp, err := os.CreateTemp(dir, base+".*")
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(c.data)
	if errClose := tmp.Close(); err == nil {
		err = errClose
	}
	if err == nil {
		err = os.Rename(tmp.Name(), at)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return "", err
	}
	c.written = at
	return at, nil
}

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

// close removes what path wrote; a library that is loaded stays usable without its file.
func (c *PrivateCopy) close() {
	if c.written != "" && os.Remove(c.written) == nil {
		_ = os.Remove(filepath.Dir(c.written))
	}
}
