package sandbox

import (
	"crypto/rand"
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/confine"
)

func init() {
	if confine.Requested() {
		confine.Main(launch)
	}
}

// launch is confine.Shut. What the program takes over from this process are the bounds that the system keeps through an execve: the filters,
// the rules and the limits. Those of memory and of descriptors are set last, and count what the program has from its beginning.
func launch(o *confine.Order) (layers []string, start func() syscall.Errno, err error) {
	args, err := pointers(o.Args)
	if err != nil {
		return nil, nil, err
	}
	env, err := pointers(o.Env)
	if err != nil {
		return nil, nil, err
	}
	p := &successor{Order: o}
	var word [8]byte
	_, _ = rand.Read(word[:]) // it does not fail
	p.word = binary.NativeEndian.Uint64(word[:]) | 1<<63
	if layers, err = take(o.Policy, o.Reads, p); err != nil {
		return nil, nil, err
	}
	path := new(byte)
	return layers, func() syscall.Errno {
		for i := range p.late {
			// Sound, here and below, because the kernel copies what it is given, and does not keep the pointers.
			_, _, e := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, uintptr(p.late[i].which), uintptr(unsafe.Pointer(&p.late[i].limit)), 0, 0, uintptr(p.word))
			if e != 0 {
				return e
			}
		}
		_, _, e := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(o.Program()), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&args[0])),
			uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, uintptr(p.word))
		runtime.KeepAlive(path)
		runtime.KeepAlive(args)
		runtime.KeepAlive(env)
		return e
	}, nil
}

// successor is what takes this process's place, in which nothing of a plug-in runs until then.
type successor struct {
	*confine.Order
	// word is in a register that the two system calls do not look at by which a launcher sets the last limits and starts the program. The filter
	// asks for it, so that nobody makes them later: it is known to nobody then.
	word uint64
	late []lateLimit // set in the end
}

type lateLimit struct {
	which int
	limit unix.Rlimit
}

// later has a limit set once everything else is done.
func (p *successor) later(which int, value uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(which, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	p.late = append(p.late, lateLimit{which, unix.Rlimit{Cur: value, Max: value}})
	return nil
}

// pointers is what execve takes.
func pointers(words [][]byte) ([]*byte, error) {
	var all []*byte
	for _, word := range words {
		p, err := syscall.BytePtrFromString(string(word))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return append(all, nil), nil
}
