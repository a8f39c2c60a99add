//go:build amd64 || arm64

package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/cmem"
)

// The keeper's own descriptors, behind those of the program. The program in assembly knows them.
const (
	fdControl = 16 + iota // to the host: what it closes asks for the end
	fdProgram
	fdProc  // the folder /proc, or none
	fdAlive // the end of a pipe that the program sees closed when the keeper is gone
	fdRoot
)

// Process is a keeper with the program that it has started.
type Process struct {
	pid     int // the program's
	keeper  int // the keeper's own
	control *os.File

	mu     sync.Mutex
	closed bool // control is shut down for writing, or closed
}

// program and programAddr: see the assembly. program is never called here.
//
//lint:ignore U1000 its bytes are what is run
func program()
func programAddr() uintptr

// request is spawn's argument. What it names by number is kept alive by the caller.
//
// Layout: as the assembly has it.
type request struct {
	all uint64 // the set of all signals
	//lint:ignore U1000 the assembly writes and reads it
	old     uint64 // the thread's own
	stack   uintptr
	program int64 // the descriptor of the keeper's program
	path    uintptr
	args    uintptr
	env     uintptr
	errno   int64 // why it did not start, negative; or 0
	n       int64
	moves   uintptr // n of them
}

type move struct{ from, to int64 }

// spawn starts a process of another program, and returns its number or an error, negative.
//
//go:noescape
func spawn(r *request) int

var _ [80 - unsafe.Sizeof(request{})]struct{}

// Spawner runs a function on a thread that lives as long as the process: the parent-death signal is sent when the thread
// ends that has started the child.
type Spawner func(func())

// Start starts a command. alive, if it is not nil, is the write end of a pipe of which the program has the read end among
// its files; the keeper holds it and nobody else does.
func Start(c Command, alive *os.File, on Spawner) (*Process, error) {
	image, err := imageFile()
	if err != nil {
		return nil, err
	}
	if len(c.Files) > MaxFiles {
		return nil, fmt.Errorf("%d descriptors, not %d at most", len(c.Files), MaxFiles)
	}
	args, err := vector(append([]string{"ferrule-keeper"}, c.Args...))
	if err != nil {
		return nil, err
	}
	env, err := vector(c.Env)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetNonblock(pair[0], true) // it is waited for by the runtime's poller, not in a thread
	p := &Process{control: os.NewFile(uintptr(pair[0]), "keeper")}
	var moves []move
	for i, f := range c.Files {
		moves = append(moves, move{int64(f.Fd()), int64(i)})
	}
	moves = append(moves, move{int64(pair[1]), fdControl}, move{int64(c.Program.Fd()), fdProgram})
	for _, own := range []struct {
		f  *os.File
		to int64
	}{{proc(), fdProc}, {alive, fdAlive}, {c.Root, fdRoot}} {
		if own.f != nil {
			moves = append(moves, move{int64(own.f.Fd()), own.to})
		}
	}
	stack := make([]byte, 4<<10)
	var empty [1]byte
	r := &request{all: ^uint64(0), stack: (cmem.Addr(stack) + uintptr(len(stack))) &^ 63, program: int64(image.Fd()), path: cmem.Addr(empty[:]),
		args: cmem.AddrOf(&args.pointers[0]), env: cmem.AddrOf(&env.pointers[0]), n: int64(len(moves)), moves: cmem.AddrOf(&moves[0])}
	var pid int
	on(func() {
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		pid = spawn(r)
	})
	runtime.KeepAlive(stack)
	runtime.KeepAlive(&empty)
	runtime.KeepAlive(args)
	runtime.KeepAlive(env)
	runtime.KeepAlive(moves)
	runtime.KeepAlive(c)
	runtime.KeepAlive(alive)
	unix.Close(pair[1])
	if pid < 0 {
		p.control.Close()
		return nil, os.NewSyscallError("clone", syscall.Errno(-pid))
	}
	p.keeper = pid
	if r.errno != 0 {
		p.control.Close()
		p.reap()
		return nil, &ExecError{os.NewSyscallError("execveat", syscall.Errno(-r.errno))}
	}
	said, err := p.read()
	switch {
	case err != nil:
		// Where a child does not share its parent's memory, as in an emulator, this is how its exec fails.
		err = &ExecError{fmt.Errorf("it ended before it had started anything: %w", err)}
	case said <= 0:
		err = os.NewSyscallError("execveat", syscall.Errno(-said))
	default:
		p.pid = int(said)
		return p, nil
	}
	p.Kill()
	p.Bury()
	return nil, err
}

// ExecError says that the keeper itself could not be started: the system does not run programs that lie in memory. Nothing
// of the command has run.
type ExecError struct{ Err error }

func (e *ExecError) Error() string { return "the keeper: " + e.Err.Error() }

// Unwrap returns the system's error.
func (e *ExecError) Unwrap() error { return e.Err }

// vector is what execve takes: addresses of strings that end in 0.
type vectors struct {
	pointers []uintptr
	text     []byte
}

func vector(all []string) (*vectors, error) {
	v := new(vectors)
	for _, s := range all {
		if i := indexNull(s); i >= 0 {
			return nil, fmt.Errorf("a zero byte in %q", s)
		}
		v.text = append(append(v.text, s...), 0)
	}
	at := cmem.Addr(v.text)
	for _, s := range all {
		v.pointers = append(v.pointers, at)
		at += uintptr(len(s)) + 1
	}
	v.pointers = append(v.pointers, 0)
	return v, nil
}

func indexNull(s string) int {
	for i := range len(s) {
		if s[i] == 0 {
			return i
		}
	}
	return -1
}

// PID returns the program's number.
func (p *Process) PID() int { return p.pid }

// Kill has the program end, and all that it has started. It does not wait.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if c, err := p.control.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// Wait waits for the program's end. ok is false when nobody says how it ended, because the keeper was killed. It is
// called once.
func (p *Process) Wait() (status syscall.WaitStatus, ok bool) {
	said, err := p.read()
	return syscall.WaitStatus(said), err == nil
}

// Bury waits until the keeper has ended, which it does when all is gone that the program had started. It is called once,
// after Wait.
func (p *Process) Bury() {
	for {
		if _, err := p.read(); err != nil {
			break
		}
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.control.Close()
	p.reap()
}

// reap waits for the keeper, which has closed its end and so is about to end.
func (p *Process) reap() {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 50*time.Millisecond) {
		pid, err := unix.Wait4(p.keeper, nil, unix.WNOHANG, nil)
		if pid != 0 && err != unix.EINTR { // it, or ECHILD where this process ignores SIGCHLD
			return
		}
		time.Sleep(wait)
	}
}

// read reads one number of the keeper's.
func (p *Process) read() (int32, error) {
	var b [4]byte
	_, err := io.ReadFull(p.control, b[:])
	return int32(binary.NativeEndian.Uint32(b[:])), err
}

var (
	imageOnce sync.Once
	image     *os.File
	imageErr  error

	procOnce sync.Once
	procDir  *os.File
)

// proc returns the folder /proc, which is opened once, or nil.
func proc() *os.File {
	procOnce.Do(func() {
		if fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			procDir = os.NewFile(uintptr(fd), "/proc")
		}
	})
	return procDir
}

// imageFile returns the keeper's program as a file in memory that nobody can change.
func imageFile() (*os.File, error) {
	imageOnce.Do(func() { image, imageErr = makeImage() })
	return image, imageErr
}

// endOfProgram is what stands behind the program's code.
const endOfProgram = 0x504545b4c455252f

func makeImage() (*os.File, error) {
	code := cmem.Bytes(programAddr(), maxProgram)
	length := -1
	for i := 0; i+8 <= len(code) && length < 0; i++ {
		if binary.LittleEndian.Uint64(code[i:]) == endOfProgram {
			length = i
		}
	}
	if length < 0 {
		return nil, errors.New("the keeper's program has no end")
	}
	fd, err := unix.MemfdCreate("ferrule-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("ferrule-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd:ferrule-keeper")
	if _, err = f.Write(elf(code[:length])); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// elf makes a program of code that may lie anywhere: one segment that is read and executed, and a stack that is not.
func elf(code []byte) []byte {
	const base, headers = 0x400000, 64 + 2*56
	size := uint64(headers + len(code))
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headers) // the first instruction
	b = le.AppendUint64(b, 64)           // the program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 2, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	segment := func(kind, flags uint32, values ...uint64) {
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, flags)
		for _, v := range values {
			b = le.AppendUint64(b, v)
		}
	}
	segment(1, 4|1, 0, base, base, size, size, 64<<10) // PT_LOAD
	segment(0x6474e551, 4|2, 0, 0, 0, 0, 0, 16)        // PT_GNU_STACK
	return append(b, code...)
}
