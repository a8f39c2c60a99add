package lane

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// memory is the host's side of the shared memory: mappings of the page file, which have no names. The worker inherits the
// first one. Mappings do not grow, so that each extent is one of its own, whose handle the host puts into the worker. They
// do not shrink either, whatever the worker does.
type memory struct {
	file   *os.File // the handle of the first mapping; no file, but inherited as one
	base   []byte   // the header and the lanes
	worker windows.Handle
}

// extent is a piece of memory behind the lanes.
type extent struct {
	id, size uint64 // id is the worker's handle of it, never 0
	bytes    []byte // size of them, mapped in this process
}

const mapAccess = windows.FILE_MAP_READ | windows.FILE_MAP_WRITE

func newMemory() (*memory, error) {
	handle, base, err := newMapping(baseSize)
	if err != nil {
		return nil, err
	}
	return &memory{file: os.NewFile(uintptr(handle), "mapping"), base: base, worker: windows.CurrentProcess()}, nil
}

// newMapping makes memory, all zero, and maps it. The handle is the caller's.
func newMapping(size uint64) (windows.Handle, []byte, error) {
	handle, err := windows.CreateFileMapping(windows.InvalidHandle, nil, windows.PAGE_READWRITE, uint32(size>>32), uint32(size), nil)
	if err != nil {
		return 0, nil, fmt.Errorf("shared memory: %w", os.NewSyscallError("CreateFileMapping", err))
	}
	b, err := mapView(handle, size)
	if err != nil {
		windows.CloseHandle(handle)
		return 0, nil, err
	}
	return handle, b, nil
}

func mapView(handle windows.Handle, size uint64) ([]byte, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("shared memory: %w", windows.ERROR_NOT_ENOUGH_MEMORY)
	}
	addr, err := windows.MapViewOfFile(handle, mapAccess, 0, 0, uintptr(size))
	if err != nil {
		return nil, fmt.Errorf("shared memory: %w", os.NewSyscallError("MapViewOfFile", err))
	}
	return raw.Bytes(addr, int(size)), nil
}

func unmap(b []byte) { _ = windows.UnmapViewOfFile(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// started is told of the worker's process; nil is this one, as in tests.
func (m *memory) started(p *os.Process) (err error) {
	if p == nil {
		return nil
	}
	err1 := p.WithHandle(func(handle uintptr) {
		err = windows.DuplicateHandle(windows.CurrentProcess(), windows.Handle(handle), windows.CurrentProcess(), &m.worker,
			windows.PROCESS_DUP_HANDLE, false, 0)
	})
	return errors.Join(err, err1)
}

// ofNobody is the id of an extent whose worker has ended.
const ofNobody = math.MaxUint64

// alloc adds an extent of at least n bytes, all zero. The system sets their memory aside at once; it is used where it is
// written or read.
func (m *memory) alloc(n uint64) (*extent, error) {
	if n > math.MaxInt64/4 {
		return nil, fmt.Errorf("shared memory: %w", windows.ERROR_NOT_ENOUGH_MEMORY)
	}
	e := &extent{size: extentSize(n)}
	handle, b, err := newMapping(e.size)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(handle) // what is mapped, and the worker's handle, keep the memory
	var given windows.Handle
	err = windows.DuplicateHandle(windows.CurrentProcess(), handle, m.worker, &given, mapAccess, false, 0)
	switch {
	case err == nil:
		e.id = uint64(given)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_INVALID_HANDLE):
		e.id = ofNobody // the worker has ended; whoever waits for it will see that
	default:
		unmap(b)
		return nil, fmt.Errorf("shared memory: %w", os.NewSyscallError("DuplicateHandle", err))
	}
	e.bytes = b
	return e, nil
}

// release gives an extent back. Nobody uses its bytes any more. The worker gives its side back when it is told of another
// place for that region, or of none.
func (m *memory) release(e *extent) { unmap(e.bytes) }

func (m *memory) close() {
	unmap(m.base)
	_ = m.file.Close()
	if m.worker != windows.CurrentProcess() {
		_ = windows.CloseHandle(m.worker)
	}
}

// files are what the worker inherits.
func (m *memory) files() []*os.File { return []*os.File{m.file} }

// mapping is the worker's side.
type mapping struct {
	file *os.File
	base []byte

	mu      sync.Mutex
	handles map[*byte]windows.Handle // of the extents, by where they begin
}

func attachMemory(file *os.File) (*mapping, error) {
	base, err := mapView(windows.Handle(file.Fd()), baseSize)
	if err != nil {
		return nil, err
	}
	return &mapping{file: file, base: base, handles: make(map[*byte]windows.Handle)}, nil
}

// use does nothing here: no process has a child with the same memory.
func (m *mapping) use(uint64, uint64) {}

// extent maps the extent that the host has given to this process under the handle id. The handle stays open as long as it
// is mapped, so that no other extent gets the same number meanwhile.
func (m *mapping) extent(id, size uint64) ([]byte, error) {
	b, err := mapView(windows.Handle(id), size)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.handles[unsafe.SliceData(b)] = windows.Handle(id)
	return b, nil
}

func (m *mapping) drop(b []byte) {
	at := unsafe.SliceData(b)
	m.mu.Lock()
	handle := m.handles[at]
	delete(m.handles, at)
	m.mu.Unlock()
	unmap(b) // first the memory, then its number
	_ = windows.CloseHandle(handle)
}
