// Package handover hands the files of libraries from a host to a worker that runs already, by their descriptors. On systems whose
// loaders load by path there is nothing to hand over.
package handover

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// FilesOfWorker is how many files a worker inherits for it.
const FilesOfWorker = 1

// Giver is the host's end: of a socket by which nothing comes back.
type Giver struct {
	mu    sync.Mutex // guards fd, which is -1 when it is closed
	fd    int
	inner *os.File // the worker's end, until the worker is started
}

// New makes both ends.
func New() (*Giver, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	g := &Giver{fd: fds[0], inner: os.NewFile(uintptr(fds[1]), "handover")}
	if err := unix.Shutdown(g.fd, unix.SHUT_RD); err != nil { // what the worker sends would stay with this process
		g.Close()
		return nil, os.NewSyscallError("shutdown", err)
	}
	return g, nil
}

// Files returns what the worker is to inherit. They stay the Giver's.
func (g *Giver) Files() []*os.File { return []*os.File{g.inner} }

// Started closes what only the worker is to have open.
func (g *Giver) Started() { g.inner.Close() }

// Give sends a file under a number, before the worker is asked to take it. It waits for room as long as the worker is not dying. The
// file stays the caller's; nil is none. The error is ErrNobody of a worker that has ended, or is dying: why, is not known here.
func (g *Giver) Give(number uint16, file *os.File, dying <-chan struct{}) error {
	if file == nil {
		return nil
	}
	message := binary.LittleEndian.AppendUint16(nil, number)
	rights := unix.UnixRights(int(file.Fd()))
	for {
		g.mu.Lock()
		err := unix.Sendmsg(g.fd, message, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		g.mu.Unlock()
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ETOOMANYREFS: // others are on their way, which the worker takes
			select {
			case <-time.After(time.Millisecond):
				continue
			case <-dying:
				return ErrNobody
			}
		case unix.EPIPE, unix.ECONNRESET:
			return ErrNobody
		}
		return fmt.Errorf("handing the library over: %w", os.NewSyscallError("sendmsg", err))
	}
}

// Close frees both ends. A Give that comes later fails.
func (g *Giver) Close() {
	g.inner.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fd >= 0 {
		_ = unix.Close(g.fd)
		g.fd = -1
	}
}

// Taker is the worker's end. It is used by one goroutine at a time.
type Taker struct {
	file  *os.File
	taken map[uint16]*os.File // those that came before others that are asked for
}

// NewTaker takes what Files returned, inherited.
func NewTaker(files []*os.File) *Taker {
	return &Taker{files[0], make(map[uint16]*os.File)}
}

// Take returns the file with this number, which the host has sent. It never waits: the plug-in may have taken it.
func (t *Taker) Take(number uint16) (*os.File, error) {
	for {
		if file := t.taken[number]; file != nil {
			delete(t.taken, number)
			return file, nil
		}
		var message [2]byte
		rights := make([]byte, unix.CmsgSpace(4))
		n, size, _, _, err := unix.Recvmsg(int(t.file.Fd()), message[:], rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvmsg", err)
		}
		fd, err := descriptor(rights[:size])
		if err != nil {
			return nil, err
		}
		file := os.NewFile(uintptr(fd), "handed over")
		if n != len(message) {
			file.Close()
			return nil, fmt.Errorf("a library's file with %s", count.Of(n, "byte"))
		}
		got := binary.LittleEndian.Uint16(message[:])
		if before := t.taken[got]; before != nil { // an opening that was given up
			before.Close()
		}
		t.taken[got] = file
	}
}

// descriptor returns the one that came with a message.
func descriptor(rights []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err == nil && len(messages) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	if err == nil {
		err = fmt.Errorf("a library's file did not arrive: the worker may have no descriptor free (sandbox.Policy.Files)")
	}
	return -1, err
}
