//go:build amd64 || arm64

package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// The keeper's own descriptors, behind those of the program. The program in assembly knows them.
const (
	fdControl = 16 + iota // to the host: what it closes asks for the end
	fdProgram
	fdProc // the folder /proc, or none
	fdRoot
)

// Process is a keeper with the program that it has started.
type Process struct {
	pid     int // the program's
	keeper  int // the keeper's own
	control *os.File
	// What signals are sent by, so that they reach nobody else. nil where the system has no such descriptors, before Linux 5.3.
	program, own *os.File

	mu     sync.Mutex
	closed bool          // control is shut down for writing, or closed
	buried chan struct{} // closed when nothing is left
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

// Start starts a command, and waits until the system has started the program or ctx ends. A file system that does not answer
// can make that long. The error is ErrUnsupported where the system runs no programs that lie in memory.
func Start(ctx context.Context, c Command, on Spawner) (*Process, error) {
	image, err := imageFile()
	if err != nil {
		return nil, refused("memfd_create", err)
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
	p := &Process{control: os.NewFile(uintptr(pair[0]), "keeper"), buried: make(chan struct{})}
	var moves []move
	for i, f := range c.Files {
		moves = append(moves, move{int64(f.Fd()), int64(i)})
	}
	moves = append(moves, move{int64(pair[1]), fdControl}, move{int64(c.Program.Fd()), fdProgram})
	for _, own := range []struct {
		f  *os.File
		to int64
	}{{proc(), fdProc}, {c.Root, fdRoot}} {
		if own.f != nil {
			moves = append(moves, move{int64(own.f.Fd()), own.to})
		}
	}
	stack := make([]byte, 4<<10)
	var empty [1]byte
	r := &request{all: ^uint64(0), stack: (raw.Addr(stack) + uintptr(len(stack))) &^ 63, program: int64(image.Fd()), path: raw.Addr(empty[:]),
		args: raw.AddrOf(&args.pointers[0]), env: raw.AddrOf(&env.pointers[0]), n: int64(len(moves)), moves: raw.AddrOf(&moves[0])}
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
	unix.Close(pair[1])
	if pid < 0 {
		p.control.Close()
		return nil, os.NewSyscallError("clone", syscall.Errno(-pid))
	}
	p.keeper, p.own = pid, pidfd(pid)
	if r.errno != 0 {
		p.Bury()
		return nil, notStarted(syscall.Errno(-r.errno))
	}
	stop := context.AfterFunc(ctx, func() {
		// It waits for the system, and does not look at control. The program gets SIGKILL from the kernel with that.
		p.signal(p.own, unix.SIGKILL)
		_ = p.control.SetReadDeadline(time.Unix(1, 0))
	})
	said, err := p.first(ctx)
	if !stop() || errors.Is(err, os.ErrDeadlineExceeded) { // which is seen before what ends with ctx is begun
		p.signal(p.own, unix.SIGKILL)
		go p.Bury() // which may take as long as the file system does
		return nil, fmt.Errorf("the system had not started the program: %w", context.Cause(ctx))
	}
	switch {
	case err != nil:
		status, ok := p.bury()
		switch {
		case ok && status.Exited() && status.ExitStatus() != 0: // a child that does not share this memory; see the assembly
			return nil, notStarted(syscall.Errno(status.ExitStatus()))
		case ok && status.Signaled():
			return nil, fmt.Errorf("the keeper was ended by the signal %q before it had started the program", status.Signal())
		}
		return nil, fmt.Errorf("the keeper had ended before it had started the program: %w", err)
	case said <= 0:
		p.Bury()
		return nil, os.NewSyscallError("execveat", syscall.Errno(-said))
	}
	p.pid = int(said)
	if p.program = pidfd(p.pid); p.program != nil {
		// The keeper tells of the program's end before it reaps it. So what has this number now is the program, or it has told.
		if p.told() {
			p.program.Close()
			p.program = nil
		} else {
			go p.watch()
		}
	}
	return p, nil
}

// first reads the keeper's first number, and wakes the keeper when somebody has stopped it before that. ctx ends the waiting.
func (p *Process) first(ctx context.Context) (said int32, err error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_ = p.control.SetReadDeadline(time.Now().Add(wait))
		if ctx.Err() != nil {
			_ = p.control.SetReadDeadline(time.Unix(1, 0)) // as it was set when ctx ended
		}
		said, err = p.read()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			_ = p.control.SetReadDeadline(time.Time{})
			return said, err
		}
		if ctx.Err() != nil {
			return said, err // and the deadline stays: nothing is read any more
		}
		if p.stopped() {
			p.signal(p.own, unix.SIGCONT)
		}
	}
}

// memoryRefused is whether the system was found not to run programs that lie in memory. It does not change its mind.
var memoryRefused atomic.Bool

// refused tells the errors by which the system says that from those that may be over the next time, such as a lack of
// descriptors or of memory: those must not start a program without a keeper.
func refused(call string, err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOEXEC),
		errors.Is(err, unix.ENOENT) && call == "execveat": // an emulator is to open it, by a path that there is not
		memoryRefused.Store(true)
		return ErrUnsupported
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(call, errno)
	}
	return fmt.Errorf("the keeper: %w", err)
}

// firstMoved is the number from which on the spawned process needs free descriptors. The assembly knows it.
const firstMoved = 32

// notStarted makes an error of the number by which a spawned process has ended. Where the limit of descriptors allows no number
// as high as firstMoved, fcntl answers EINVAL, and not EMFILE as it does for a number too few.
func notStarted(errno syscall.Errno) error {
	var limit unix.Rlimit
	if errno == unix.EINVAL && unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur <= firstMoved {
		return fmt.Errorf("the keeper: it needs descriptors from %d on, and the limit is %d: %w", firstMoved, limit.Cur,
			os.NewSyscallError("fcntl", unix.EMFILE))
	}
	return refused("execveat", errno)
}

// pidfd returns a descriptor of a process, or nil where there is none to be had.
func pidfd(pid int) *os.File {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	_ = unix.SetNonblock(fd, true) // for the runtime's poller
	return os.NewFile(uintptr(fd), "pidfd")
}

// signal sends a signal to one of the two processes, if its descriptor is there.
func (p *Process) signal(to *os.File, sig unix.Signal) {
	if to == nil {
		return
	}
	if c, err := to.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	}
}

// told reports whether control has something to be read.
func (p *Process) told() (yes bool) {
	if c, err := p.control.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { yes = readable(fd) })
	}
	return yes
}

func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return n > 0 && err == nil
}

// watch waits for the program's end by itself: its keeper may be stopped, and not tell.
func (p *Process) watch() {
	if c, err := p.program.SyscallConn(); err == nil && c.Read(readable) == nil {
		p.Kill()
	}
}

// vectors is what execve takes: addresses of strings that end in 0.
type vectors struct {
	pointers []uintptr
	text     []byte
}

// vector makes one, which the caller keeps alive.
func vector(all []string) (*vectors, error) {
	v := new(vectors)
	for _, s := range all {
		if i := indexNull(s); i >= 0 {
			return nil, fmt.Errorf("a zero byte in %q", s)
		}
		v.text = append(append(v.text, s...), 0)
	}
	at := raw.Addr(v.text)
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

// Kill has the program end, and all that it has started. It does not wait. The program gets SIGKILL from here, whatever the
// keeper does; the rest is the keeper's, which is woken for it when somebody has stopped it.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.signal(p.program, unix.SIGKILL)
	if c, err := p.control.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
	p.signal(p.own, unix.SIGCONT)
	go p.press()
}

// patience is for how long a keeper that is stopped again and again gets SIGCONT, before it gets SIGKILL.
var patience = 10 * time.Second

// stopped reports whether somebody has stopped the keeper. It is not called once that is reaped.
func (p *Process) stopped() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.keeper, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// press wakes the keeper as often as it is stopped, until all is over. Whoever stops it is most likely what it is to end, so
// what it would kill is killed from here. What is left when patience is over has no reaper from then on.
func (p *Process) press() {
	began := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case <-p.buried:
			return
		case <-time.After(wait):
		}
		if !p.stopped() {
			continue
		}
		alive := p.killChildren()
		if alive > 0 {
			wait = time.Millisecond // those whose parent it was come next
		}
		if lasts := time.Since(began); lasts > 2*patience || lasts > patience && alive == 0 {
			p.signal(p.own, unix.SIGKILL)
			return
		}
		p.signal(p.own, unix.SIGCONT)
	}
}

// killChildren does what the keeper does, and returns how many there were that had not ended yet.
func (p *Process) killChildren() (alive int) {
	// A number is a child's for as long as the keeper has not reaped that. What has it when its descriptor is opened, and is
	// there still when the signal is sent, had it all the time in between: so it is the child that is listed in between.
	const atOnce = 64 // the host needs descriptors, too
	for pids := range slices.Chunk(p.children(), atOnce) {
		descriptors := make(map[int]*os.File)
		for _, pid := range pids {
			if fd := pidfd(pid); fd != nil {
				descriptors[pid] = fd
			}
		}
		for _, pid := range p.children() {
			fd := descriptors[pid]
			if fd == nil {
				continue
			}
			if c, err := fd.SyscallConn(); err == nil {
				_ = c.Control(func(fd uintptr) {
					if !readable(fd) { // or it has ended, and is not reaped
						alive++
					}
				})
			}
			p.signal(fd, unix.SIGKILL)
		}
		for _, fd := range descriptors {
			fd.Close()
		}
	}
	return alive
}

// children returns the numbers of the keeper's children, or none where they are not to be had.
func (p *Process) children() (pids []int) {
	dir := proc()
	if dir == nil {
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), fmt.Sprintf("%d/task/%[1]d/children", p.keeper), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "children")
	defer f.Close()
	text, _ := io.ReadAll(f)
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Wait waits for the program's end. ok is false when nobody says how it ended, because the keeper was killed. It is
// called once.
func (p *Process) Wait() (status syscall.WaitStatus, ok bool) {
	said, err := p.read()
	if err != nil {
		p.Kill() // the kernel does that as well, unless the program has asked it not to
	}
	return syscall.WaitStatus(said), err == nil
}

// Bury waits until the keeper has ended, which it does when all is gone that the program had started. It is called once,
// after Wait.
func (p *Process) Bury() { p.bury() }

// bury is Bury, and returns how the keeper has ended, where the system says it.
func (p *Process) bury() (status syscall.WaitStatus, ok bool) {
	for {
		if _, err := p.read(); err != nil {
			break
		}
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.control.Close()
	status, ok = p.reap()
	close(p.buried)
	for _, f := range []*os.File{p.program, p.own} {
		if f != nil {
			f.Close()
		}
	}
	return status, ok
}

// reap waits for the keeper, which has closed its end and so is about to end.
func (p *Process) reap() (syscall.WaitStatus, bool) {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(p.keeper, &status, unix.WNOHANG, nil)
		if pid != 0 && err != unix.EINTR { // it, or ECHILD where this process ignores SIGCHLD
			return syscall.WaitStatus(status), err == nil
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
	imageMu sync.Mutex
	image   *os.File

	procOnce sync.Once
	procDir  *os.File
)

// proc returns the folder /proc, which is opened once, or nil where a keeper does not find its children by it: that is
// where there is none, where it is of another PID namespace, whose numbers are others' here, and where the kernel lacks
// CONFIG_PROC_CHILDREN.
func proc() *os.File {
	procOnce.Do(func() { procDir = openProc("/proc") })
	return procDir
}

func openProc(path string) *os.File {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	folder := os.NewFile(uintptr(fd), path)
	var self [24]byte
	n, err := unix.Readlinkat(fd, "self", self[:])
	if err == nil && string(self[:n]) == strconv.Itoa(os.Getpid()) {
		var children int
		if children, err = unix.Openat(fd, "thread-self/children", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(children)
			return folder
		}
	}
	folder.Close()
	return nil
}

// FindsAll reports whether keepers find all that a program has started. Where they do not, the program's process group ends
// with it, and what has left that stays.
func FindsAll() bool { return proc() != nil }

// imageFile returns the keeper's program as a file in memory that nobody can change.
func imageFile() (*os.File, error) {
	if memoryRefused.Load() {
		return nil, unix.EACCES
	}
	imageMu.Lock()
	defer imageMu.Unlock()
	var err error
	if image == nil {
		image, err = makeImage()
	}
	return image, err
}

// endOfProgram is what stands behind the program's code.
const endOfProgram = 0x504545b4c455252f

func makeImage() (*os.File, error) {
	// A system without execveat must not come as far as spawn: in an emulator that is qemu-user, whose fork in place of vfork
	// may hang in the child. This call asks for a file that is not there.
	args := [2]*byte{new(byte), nil} // none at all would be a line in the kernel's log
	if _, _, err := unix.Syscall6(unix.SYS_EXECVEAT, ^uintptr(0), uintptr(unsafe.Pointer(new(byte))), uintptr(unsafe.Pointer(&args)), 0, unix.AT_EMPTY_PATH, 0); err == unix.ENOSYS {
		return nil, err
	}
	code := raw.Bytes(programAddr(), maxProgram)
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
