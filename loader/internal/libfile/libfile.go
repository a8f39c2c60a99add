// Package libfile opens the files of libraries for reading: regular files and nothing else, without waiting, and with as
// few system calls as that takes, because it is part of opening every plug-in. What was opened is then the file, whatever
// is at its path later: it is read, hashed and copied by its descriptor.
package libfile

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"sync"
)

// ErrNotRegular is what Open returns for a directory, a device and the like. Kind names it.
var ErrNotRegular = errors.New("not a regular file")

// ErrChanged is what reading a file ends in that somebody writes to meanwhile.
var ErrChanged = errors.New("the file was changed while it was read")

// Open opens the file at path. With ErrNotRegular it returns the kind of what is there. It looks before it opens, because
// opening a device may do anything.
func Open(path string) (*File, fs.FileMode, error) {
	if _, kind, err := Identify(path); err != nil {
		return nil, 0, err
	} else if kind != 0 {
		return nil, kind, ErrNotRegular
	}
	return OpenRegular(path)
}

// whole calls read, which reads the file, again until nothing has happened to it meanwhile; it gives read the identity that
// the file has before. It ends in ErrChanged when somebody has written to the file since it was opened, as far as the system's
// times tell. Renaming and linking a file, or changing its rights, also moves the time of change, which then no longer tells
// whether somebody wrote: so what was read is read again.
func (f *File) whole(read func(Identity) error) error {
	before, err := f.identify()
	for range 1 + rereads {
		switch {
		case err != nil:
			return err
		case !before.Renamed(f.identity):
			return ErrChanged
		}
		if err := read(before); err != nil {
			return err
		}
		now, errNow := f.identify()
		if errNow == nil && now == before {
			return nil
		}
		before, err = now, errNow
	}
	if err != nil {
		return err
	}
	return ErrChanged
}

// rereads is how often a file is read again that is renamed while it is read.
const rereads = 3

// Identity tells the file from every other one, and from itself after a change. It is as of when the file was opened.
func (f *File) Identity() Identity { return f.identity }

// SHA256 returns the digest of the file's bytes, in little memory however many they are.
// A second time the bytes are not read again, if they are the same.
func (f *File) SHA256() (Digest, error) {
	err := f.whole(func(now Identity) (err error) {
		if f.summed == now {
			return nil
		}
		f.summed = Identity{}
		if f.sum, err = digestOf(f, f.Size); err == nil {
			f.summed = now
		}
		return err
	})
	return f.sum, err
}

// Digest is an SHA-256.
type Digest = [sha256.Size]byte

// blocks are buffers for reading files.
var blocks = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func digestOf(r io.ReaderAt, size int64) (sum Digest, err error) {
	h := sha256.New()
	err = readAll(r, 0, size, func(b []byte, _ int64) error { return feed(h, b) })
	h.Sum(sum[:0])
	return sum, err
}

func feed(h hash.Hash, b []byte) error {
	_, err := h.Write(b)
	return err
}

// readAll hands the bytes of r from at up to end to take, block by block.
func readAll(r io.ReaderAt, at, end int64, take func(b []byte, at int64) error) error {
	block := blocks.Get().(*[256 << 10]byte)
	defer blocks.Put(block)
	for at < end {
		b := block[:min(int64(len(block)), end-at)]
		if n, err := r.ReadAt(b, at); n < len(b) {
			if err == nil || err == io.EOF { // it was longer when it was opened
				err = ErrChanged
			}
			return err
		}
		if err := take(b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}
