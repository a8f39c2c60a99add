package index

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Where an index is, below the folder or address that publishes it.
const (
	RootFile      = "index.json"
	SignatureFile = "index.json.minisig"
	ShardFolder   = "index" // has the shards, named by their SHA-256 in hexadecimal
)

const temporary = ".new-*" // files that are being written

// Fetcher brings an index from where it is published. Its methods may be called from several goroutines at a time, end when the context does, and return
// *registry.Error: ErrNotFound where no index is there, ErrUnavailable where another try may do. What they read is bounded, whatever the other end sends. A
// Fetcher checks nothing: Open does.
type Fetcher interface {
	// String is the source as config.yaml and the lock write it, without what is secret.
	String() string

	// Root returns index.json, of at most MaxRoot bytes, and its signature, of at most registry.MaxSignature, which is nil where there is none.
	Root(ctx context.Context) (root, signature []byte, err error)

	// Shard returns the shard with a digest, sha256:…, that has so many bytes.
	Shard(ctx context.Context, digest string, size int64) ([]byte, error)
}

// Folder fetches from a folder, as Built.Write makes it. Links in it may lead to what lies in it, and nowhere else.
func Folder(path string) Fetcher { return folder(path) }

type folder string

func (f folder) String() string { return string(f) }

func (f folder) Root(ctx context.Context) (root, signature []byte, err error) {
	// The signature is written first: one that is newer than the root is for the next try.
	if signature, err = f.read(ctx, SignatureFile, registry.MaxSignature); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, nil, err
	}
	root, err = f.read(ctx, RootFile, MaxRoot)
	return root, signature, err
}

func (f folder) Shard(ctx context.Context, digest string, size int64) ([]byte, error) {
	hex := registry.Hex(digest)
	if hex == "" {
		return nil, &registry.Error{Source: string(f), Found: fmt.Sprintf("the digest %.100q", digest), Kind: registry.ErrMalformed}
	}
	return f.read(ctx, filepath.Join(ShardFolder, hex), size)
}

// read reads a file of at most limit bytes.
func (f folder) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	fault := &registry.Error{Source: string(f), Kind: registry.ErrUnavailable}
	if fault.Err = context.Cause(ctx); fault.Err != nil {
		return nil, fault
	}
	text, err := readIn(string(f), name, limit)
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, fs.ErrNotExist):
		fault.Kind, fault.Found, fault.Expected = registry.ErrNotFound, "no file "+filepath.ToSlash(name), "one"
		fault.Remedy = "An index is published as index.json with the folder index beside it"
	case errors.Is(err, errLong):
		fault.Kind, fault.Found, fault.Expected = registry.ErrMalformed, fmt.Sprintf("more in %s", filepath.ToSlash(name)), fmt.Sprintf("at most %d bytes", limit)
	default:
		fault.Err = err
	}
	return nil, fault
}

var errLong = errors.New("too long")

// readFile is readIn for a file of the cache.
func readFile(path string, limit int64) ([]byte, error) {
	return readIn(filepath.Dir(path), filepath.Base(path), limit)
}

// readIn reads a regular file of at most limit bytes that lies in a folder. A link leads to nothing outside of it.
func readIn(folder, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if info, err := root.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // a named pipe would be waited for without end
		return nil, fmt.Errorf("%s is no regular file", filepath.Join(folder, name))
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, errLong
	}
	return text, err
}

// readWhole reads a file that is to have a SHA-256 and a size. Any other is as none.
func readWhole(path, digits string, size int64) ([]byte, bool) {
	text, err := readFile(path, size)
	return text, err == nil && isOf(text, digits, size)
}

// isOf reports whether bytes have a size and a SHA-256.
func isOf(text []byte, digits string, size int64) bool {
	sum := sha256.Sum256(text)
	return int64(len(text)) == size && hex.EncodeToString(sum[:]) == digits
}

// writeFile puts a file in its place, in one step.
func writeFile(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), temporary)
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Close()); err == nil {
		// A web server that is somebody else reads it.
		err = errors.Join(os.Chmod(temp.Name(), 0o644), os.Rename(temp.Name(), path))
	}
	if err != nil {
		os.Remove(temp.Name())
	}
	return err
}
