package supervise

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A child has a keeper: this program again, which starts it, reaps its orphans, and is there when the process that has
// started the keeper is killed. It is no child's business: it has a session of its own, none of the child's streams, and
// nothing of a plug-in is ever loaded into it.

// keeperEnv says to a keeper that it is one, and has the number of the descriptor of its control socket.
const keeperEnv = "FERRULE_KEEPER"

// The messages of a keeper.
const (
	started = 's' // with the child's number
	failed  = 'f' // to start it, with the system's number of the error
	ended   = 'e' // with the child's wait status
)

type message struct {
	kind  byte
	value uint32
}

func (m message) write(to io.Writer) {
	_, _ = to.Write(binary.LittleEndian.AppendUint32([]byte{m.kind}, m.value))
}

const messageSize = 1 + 4

func decoded(b [messageSize]byte) message { return message{b[0], binary.LittleEndian.Uint32(b[1:])} }

func init() {
	if text := os.Getenv(keeperEnv); text != "" {
		fd, err := strconv.Atoi(text)
		if err != nil || fd < 3 || len(os.Args) < 3 {
			os.Exit(2)
		}
		os.Unsetenv(keeperEnv)
		keep(fd)
	}
}

// keepTime is how long a keeper goes on when it is alone, where it may not kill what there is.
const keepTime = 10 * time.Second

// keep is the keeper: it does not return. It runs on the process's first thread, which lives as long as the process: the
// child is killed when the thread ends that has started it.
func keep(fd int) {
	unix.CloseOnExec(fd)
	control := os.NewFile(uintptr(fd), "control")
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	cmd := exec.Cmd{Path: os.Args[1], Args: os.Args[2:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	for n := 3; n < fd; n++ {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(n), "extra"))
	}
	if err := cmd.Start(); err != nil {
		errno := syscall.EINVAL
		errors.As(err, &errno)
		message{failed, uint32(errno)}.write(control)
		os.Exit(1)
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil { // whoever reads what the child writes sees its end
		for n := range 3 {
			_ = unix.Dup3(int(null.Fd()), n, 0)
		}
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	child := cmd.Process.Pid
	message{started, uint32(child)}.write(control)

	var reaped atomic.Bool
	alone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, control) // up to its end
		close(alone)
		for begun := time.Now(); time.Since(begun) < keepTime; time.Sleep(time.Millisecond) {
			endChildren(child, &reaped)
		}
		os.Exit(1)
	}()
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR:
		case err != nil: // nothing is left, and so nothing can come
			<-alone
			os.Exit(0)
		case pid == child:
			reaped.Store(true)
			message{ended, uint32(status)}.write(control)
		}
	}
}

// endChildren kills this process's children, and the session of the one that it has started. What these have started become
// children of this process. Without /proc it kills the group of the one that it has started, as long as that has a number.
func endChildren(child int, reaped *atomic.Bool) {
	self, all := os.Getpid(), processes()
	if len(all) == 0 && !reaped.Load() {
		_ = unix.Kill(-child, unix.SIGKILL)
	}
	for pid, s := range all {
		if s.parent == self || s.session == child {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
