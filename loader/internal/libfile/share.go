package libfile

import (
	"fmt"
	"io"
	"sync"
)

// Copy is a private copy of a library's file, whose bytes are those that were at the path when it was opened, whatever
// happens there later. Those who ask for a copy of one file, or of files with one digest, share it.
type Copy struct {
	private // what the system has for it
	entry   *entry
}

// copies are the copies that somebody uses.
var copies struct {
	mu     sync.Mutex
	byFile map[Identity]*entry
	byHash map[Digest]*entry
}

// entry is a copy with those who use it.
type entry struct {
	make    sync.Once // of what follows; others wait meanwhile
	private private
	err     error
	hash    sync.Once
	sum     Digest
	sumErr  error

	// Guarded by copies.mu.
	refs   int
	files  []Identity // its keys in byFile
	hashed bool       // sum is its key in byHash
}

// Share returns a copy of the file, whose name, the last element of a path, the copy carries. The caller gives it back by
// Release. With a digest, it is one with that, or a *DigestError comes back: a file with more than a little data is read for
// that before any memory is taken for it.
func Share(f *File, name string, digest *Digest) (*Copy, error) {
	copies.mu.Lock()
	e := copies.byFile[f.Identity()]
	if e == nil && digest != nil && f.data() > little {
		copies.mu.Unlock()
		sum, err := f.SHA256()
		if err != nil {
			return nil, err
		}
		if sum != *digest {
			return nil, &DigestError{sum}
		}
		copies.mu.Lock()
		if e = copies.byFile[f.Identity()]; e == nil {
			if e = copies.byHash[sum]; e != nil {
				copies.byFile[f.Identity()] = e
				e.files = append(e.files, f.Identity())
			}
		}
	}
	if e == nil {
		if copies.byFile == nil {
			copies.byFile, copies.byHash = make(map[Identity]*entry), make(map[Digest]*entry)
		}
		e = &entry{files: []Identity{f.Identity()}}
		copies.byFile[f.Identity()] = e
	}
	e.refs++
	copies.mu.Unlock()
	e.make.Do(func() { e.private, e.err = makeCopy(f, name) })
	c := &Copy{e.private, e}
	if e.err != nil {
		c.Release()
		return nil, e.err
	}
	if digest != nil {
		sum, err := c.SHA256()
		if err == nil && sum != *digest {
			err = &DigestError{sum}
		}
		if err != nil {
			c.Release()
			return nil, err
		}
		copies.mu.Lock()
		other := copies.byHash[sum]
		if other != nil && other != e {
			other.refs++
			if id := f.Identity(); copies.byFile[id] == e { // the next one who opens this file finds it at once
				copies.byFile[id] = other
				other.files = append(other.files, id)
			}
		}
		copies.mu.Unlock()
		if other != nil && other != e { // there was one with this digest before
			c.Release()
			return &Copy{other.private, other}, nil
		}
	}
	return c, nil
}

// little is as many bytes as are copied before their digest is known, in place of reading them twice.
const little = 16 << 20

// DigestError says that a file has another digest than was asked for.
type DigestError struct{ Found Digest }

// Error gives the digest that the file has.
func (e *DigestError) Error() string { return fmt.Sprintf("SHA-256 %x", e.Found) }

// SHA256 returns the digest of the copy's bytes. It is made once. Those who ask for a copy with this digest share it from
// then on, unless it is one that nobody shares: a file that is held may be overwritten.
func (c *Copy) SHA256() (Digest, error) {
	e := c.entry
	e.hash.Do(func() {
		e.sum, e.sumErr = digestOf(c, c.Size())
		copies.mu.Lock()
		defer copies.mu.Unlock()
		if e.sumErr == nil && len(e.files) > 0 && copies.byHash[e.sum] == nil && e.refs > 0 {
			copies.byHash[e.sum], e.hashed = e, true
		}
	})
	return e.sum, e.sumErr
}

// Release ends the caller's use of the copy.
func (c *Copy) Release() {
	e := c.entry
	copies.mu.Lock()
	e.refs--
	last := e.refs == 0
	if last {
		for _, id := range e.files {
			if copies.byFile[id] == e {
				delete(copies.byFile, id)
			}
		}
		if e.hashed {
			delete(copies.byHash, e.sum)
		}
	}
	copies.mu.Unlock()
	if last && e.err == nil {
		e.private.close()
	}
}

// alone is a copy that nobody shares.
func alone(p private) *Copy { return &Copy{p, &entry{private: p, refs: 1}} }

var _ io.ReaderAt = (*Copy)(nil)
