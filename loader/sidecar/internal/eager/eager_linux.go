package eager

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// own is a descriptor that does not block, and a read of it.
type own struct {
	conn syscall.RawConn
	try  func(descriptor uintptr) (done bool)

	// Of the read that runs.
	b      []byte
	waited bool
	n      int
	err    error
}

func newOwn(r io.Reader) *own {
	c, ok := r.(syscall.Conn)
	if !ok {
		return nil
	}
	conn, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	nonblocking := false
	if conn.Control(func(descriptor uintptr) {
		flags, err := unix.FcntlInt(descriptor, unix.F_GETFL, 0)
		nonblocking = err == nil && flags&unix.O_NONBLOCK != 0
	}) != nil || !nonblocking { // one that blocks waits on a thread anyway
		return nil
	}
	o := &own{conn: conn}
	o.try = o.once
	return o
}

func (o *own) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	o.b, o.waited = b, false
	err := o.conn.Read(o.try)
	o.b = nil
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case err != nil: // which has no name outside package os
		return 0, os.ErrClosed
	case o.err != nil:
		return 0, os.NewSyscallError("read", o.err)
	case o.n == 0:
		return 0, io.EOF
	}
	return o.n, nil
}

// once tries to read. The poller has it tried again.
func (o *own) once(descriptor uintptr) bool {
	if !o.waited { // most likely nothing is there yet: a read before that would be in vain
		o.waited = true
		ready := [1]unix.PollFd{{Fd: int32(descriptor), Events: unix.POLLIN}}
		_, _ = unix.Poll(ready[:], int(moment.Milliseconds())) // whatever comes of it, the read says more
	}
	for {
		o.n, o.err = unix.Read(int(descriptor), o.b)
		if o.err != unix.EINTR {
			return o.err != unix.EAGAIN
		}
	}
}
