package libfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// private is a file in memory, sealed: nobody can write to it any more. It has no name in any file system, and is gone when
// the last descriptor and the last mapping of it are. Or it is the descriptor of a file that is too large to be copied.
type private struct {
	file *os.File
	size int64
	held *Identity // of a file that is not in memory, when it was opened
}

// makeCopy makes a private copy of the file. Holes stay holes: a sparse file takes as much memory as it takes on its disk.
func makeCopy(f *File, name string) (private, error) {
	fd, err := memoryFile(name)
	if err != nil {
		return private{}, err
	}
	p := private{file: os.NewFile(uintptr(fd), "memfd:"+name), size: f.Size}
	if err = unix.Ftruncate(fd, f.Size); err == nil {
		err = f.whole(func(Identity) error { return copyData(fd, f) })
	}
	if err == nil {
		const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		p.close()
		return private{}, err
	}
	return p, nil
}

// Memory returns a copy of these bytes, under a name.
func Memory(name string, file []byte) (*Copy, error) {
	fd, err := memoryFile(name)
	if err != nil {
		return nil, err
	}
	p := private{file: os.NewFile(uintptr(fd), "memfd:"+name), size: int64(len(file))}
	if _, err := p.file.Write(file); err != nil {
		p.close()
		return nil, err
	}
	return alone(p), nil
}

// memoryFile makes a file in memory. Profilers and debuggers show its name where they would show a file's.
func memoryFile(name string) (int, error) {
	const longest = 249 // bytes that the system takes
	name = name[:min(len(name), longest)]
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3 does not know MFD_EXEC, and does not need it
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	other, err := duplicate(fd)
	_ = unix.Close(fd)
	return other, err
}

// few is more descriptors than most processes have.
const few = 512

// duplicate duplicates a descriptor. The other one has a number that comes back only in a process with very many, if the limit lets it: the path
// that a library was loaded by has the number, and lasts longer. A debugger opens it, and would wait for ever where a pipe has that number by then.
func duplicate(fd int) (int, error) {
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, few)
	if err != nil {
		other, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	return other, err
}

// copyData copies what of the file is no hole.
func copyData(to int, f *File) error {
	for at := int64(0); at < f.Size; {
		data, err := unix.Seek(f.fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO { // the rest is a hole
			return nil
		}
		if err != nil { // a file system that does not say
			data = at
		}
		end, err := unix.Seek(f.fd, data, unix.SEEK_HOLE)
		if err != nil {
			end = f.Size
		}
		end = min(end, f.Size)
		if end <= data { // it has become shorter
			return ErrChanged
		}
		err = readAll(f, data, end, func(b []byte, at int64) error {
			for len(b) > 0 {
				n, err := unix.Pwrite(to, b, at)
				if err != nil && err != unix.EINTR {
					return err
				}
				b, at = b[max(n, 0):], at+int64(max(n, 0))
			}
			return nil
		})
		if err != nil {
			return err
		}
		at = end
	}
	return nil
}

// What to do where a copy cannot be made. See vm.memfd_noexec in the kernel's documentation.
const (
	copyForbidden = "Let programs in memory run (sysctl vm.memfd_noexec=0 or 1, which a process's PID namespace may have for itself), " +
		"and memfd_create in the filter of system calls that the process is under"
	copyNoSpace   = "Free memory: the copy lies in it, and counts for the limit of the process's memory cgroup"
	copyElsewhere = "Let the process use memfd_create, and files in memory that are sealed"
)

// Hold returns the file itself in the place of a copy: nobody can put another in its place, but it can be overwritten.
// Then Check says so.
func Hold(f *File) (*Copy, error) {
	fd, err := duplicate(f.fd)
	if err != nil {
		return nil, err
	}
	id := f.identity
	return alone(private{os.NewFile(uintptr(fd), "library"), f.Size, &id}), nil
}

// TooLarge reports whether the file has so much data that a worker is to be given the file rather than a copy.
func TooLarge(f *File) bool {
	return f.data() > tooLarge
}

// data returns how many bytes of the file are no holes, at most.
func (f *File) data() int64 {
	const block = 512
	var s unix.Stat_t
	if unix.Fstat(f.fd, &s) != nil {
		return f.Size
	}
	return min(f.Size, s.Blocks*block)
}

// tooLarge is in bytes; see RATIONALE.md.
const tooLarge = 64 << 20

// Check returns ErrChanged when the bytes may be others than when the file was opened. Those of a copy never are.
func (p private) Check() error {
	if p.held == nil {
		return nil
	}
	var s unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &s); err != nil {
		return err
	}
	// The time of change moves, too, when the file is renamed, linked or removed, which does not matter here.
	if now := identityOf(&s); now.size != p.held.size || now.modified != p.held.modified {
		return ErrChanged
	}
	return nil
}

// Received returns a copy that another process has handed to this one, by Handoff or under the path At. It takes the
// descriptor over, also where it fails.
func Received(file *os.File, _ string) (*Copy, error) {
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(int(file.Fd()))
	if err != nil {
		return nil, err
	}
	return alone(private{file: os.NewFile(uintptr(fd), "library"), size: info.Size()}), nil
}

// Held reports whether it is the file itself.
func (p private) Held() bool { return p.held != nil }

// Handoff returns the descriptor that a worker is to get, or nil. It stays the copy's.
func (p private) Handoff() *os.File { return p.file }

// At returns the path by which other processes find the copy, or "".
func (private) At() string { return "" }

// ID tells the copy from every other one that there is at the same time, also of those that another process has made.
func (p private) ID() string {
	var s unix.Stat_t
	if err := unix.Fstat(int(p.file.Fd()), &s); err != nil {
		return p.Path()
	}
	return fmt.Sprintf("%d %d", s.Dev, s.Ino)
}

// Size returns how many bytes there are.
func (p private) Size() int64 { return p.size }

// ReadAt is io.ReaderAt's.
func (p private) ReadAt(b []byte, off int64) (int, error) { return readAt(int(p.file.Fd()), b, off) }

var paths atomic.Uint64

// Path returns where this process's loader finds the copy, as long as it is not released. The loader takes two libraries
// with one path for the same, and a descriptor's number comes back; so each path is spelled differently. It has this process's number in
// place of self, of which a debugger that reads the loader's list makes its own.
func (p private) Path() string {
	var spelling strings.Builder
	for n := paths.Add(1); n > 0; n >>= 1 {
		spelling.WriteString([]string{"/", "/."}[n&1])
	}
	process, err := os.Readlink("/proc/self") // as whoever has mounted it numbers processes
	if err != nil {
		process = "self" // it is not mounted
	}
	return fmt.Sprintf("/proc/%s/fd%s/%d", process, spelling.String(), p.file.Fd())
}

func (p private) close() { _ = p.file.Close() }
