//go:build unix

package lane

import (
	"fmt"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// memory is the host's side of the shared memory: a file without a name. It only grows; what is not used any more is
// given back to the system, and its place in the file is used again.
type memory struct {
	file *os.File
	base []byte // the header and the lanes

	mu   sync.Mutex
	tail uint64              // where the file ends
	free map[uint64][]uint64 // the places of unused extents, by size
}

// extent is a piece of memory behind the lanes.
type extent struct {
	id, size uint64 // id is its place in the file, never 0
	bytes    []byte // size of them, mapped in this process
}

func newMemory() (*memory, error) {
	file, err := createFile()
	if err != nil {
		return nil, err
	}
	m := &memory{file: file, tail: (baseSize + granule - 1) / granule * granule, free: make(map[uint64][]uint64)}
	if err = unix.Ftruncate(int(file.Fd()), baseSize); err == nil {
		if err = sealFile(file); err == nil {
			m.base, err = mapFile(int(file.Fd()), 0, baseSize)
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return m, nil
}

// granule is what the places of extents are multiples of, so that they can be mapped: of a page, on every system.
const granule = 64 << 10

func mapFile(fd int, at uint64, size uint64) ([]byte, error) {
	if at > math.MaxInt64 || size > math.MaxInt {
		return nil, unix.EINVAL
	}
	return unix.Mmap(fd, int64(at), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// alloc adds an extent of at least n bytes. Memory is used where it is written or read. What it holds is zero, or what an
// extent of this worker held before.
func (m *memory) alloc(n uint64) (*extent, error) {
	if n > math.MaxInt64/4 {
		return nil, unix.ENOMEM
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := &extent{size: extentSize(n)}
	if free := m.free[e.size]; len(free) > 0 {
		e.id = free[len(free)-1]
		m.free[e.size] = free[:len(free)-1]
	} else {
		if err := m.lengthen(m.tail + e.size); err != nil {
			return nil, fmt.Errorf("shared memory: %w", err)
		}
		e.id = m.tail
		m.tail += e.size
	}
	var err error
	if e.bytes, err = mapFile(int(m.file.Fd()), e.id, e.size); err != nil {
		m.free[e.size] = append(m.free[e.size], e.id)
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return e, nil
}

// lengthen makes the file end there, or behind: the worker may have made it longer, which is then not made shorter where that is forbidden to all.
func (m *memory) lengthen(end uint64) error {
	fd := int(m.file.Fd())
	err := unix.Ftruncate(fd, int64(end))
	var stat unix.Stat_t
	if err == unix.EPERM && unix.Fstat(fd, &stat) == nil && stat.Size >= int64(end) {
		return nil
	}
	return err
}

// release gives an extent back. Nobody uses its bytes any more.
func (m *memory) release(e *extent) {
	_ = unix.Munmap(e.bytes)
	punch(m.file, e.id, e.size)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free[e.size] = append(m.free[e.size], e.id)
}

func (m *memory) close() {
	_ = unix.Munmap(m.base)
	_ = m.file.Close()
}

// started is told of the worker's process, which needs nothing beyond what it inherited.
func (m *memory) started(*os.Process) error { return nil }

// files are what the worker inherits.
func (m *memory) files() []*os.File { return []*os.File{m.file} }

// mapping is the worker's side.
type mapping struct {
	file *os.File // which is open as long as there is a mapping of it, as fd
	fd   int
	base []byte
}

func attachMemory(file *os.File) (*mapping, error) {
	var stat unix.Stat_t
	fd := int(file.Fd())
	if err := unix.Fstat(fd, &stat); err != nil || stat.Size < baseSize {
		return nil, fmt.Errorf("no shared memory of a host (%s, %v)", count.Of(stat.Size, "byte"), err)
	}
	base, err := mapFile(fd, 0, baseSize)
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	return &mapping{file, fd, base}, nil
}

// use is told which part of base is used from now on.
func (m *mapping) use(at, size uint64) {
	page := uint64(os.Getpagesize())
	at, end := at&^(page-1), min((at+size+page-1)&^(page-1), uint64(len(m.base)))
	shared(m.base[at:end], at, uintptr(m.fd))
}

func (m *mapping) extent(id, size uint64) ([]byte, error) {
	b, err := mapFile(m.fd, id, size)
	if err == nil {
		shared(b, id, uintptr(m.fd))
	}
	return b, err
}

func (m *mapping) drop(b []byte) {
	unshared(b)
	_ = unix.Munmap(b)
}
