package supervise

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
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
	left    = 'l' // with the number and the name of a process that ran when the keeper was to end all
	empty   = 'n' // there is nothing any more that the child has started
)

type message struct {
	kind  byte
	value uint32
	name  string // as much of it as the system says, which is 15 bytes
}

const (
	nameSize    = 16
	messageSize = 1 + 4 + nameSize
)

func (m message) encoded() []byte {
	var b [messageSize]byte
	b[0] = m.kind
	binary.LittleEndian.PutUint32(b[1:], m.value)
	copy(b[5:], m.name)
	return b[:]
}

func decoded(b [messageSize]byte) message {
	return message{b[0], binary.LittleEndian.Uint32(b[1:]), string(bytes.TrimRight(b[5:], "\x00"))}
}

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
	// Where orphans are not this process's, or are not found, the child's group is ended: that is all that can be had.
	groupOnly := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != nil || !ownProc()
	cmd := exec.Cmd{Path: os.Args[1], Args: os.Args[2:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	for n := 3; n < fd; n++ {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(n), "extra"))
	}
	if err := cmd.Start(); err != nil {
		errno := syscall.EINVAL
		errors.As(err, &errno)
		_, _ = control.Write(message{kind: failed, value: uint32(errno)}.encoded())
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
	_, _ = control.Write(message{kind: started, value: uint32(child)}.encoded())

	var mu sync.Mutex // the children's numbers are theirs as long as it is held
	reaped := false   // the child
	died := make(chan struct{}, 1)
	asked := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, control) // up to its end: the one who has started this process asks for that of all, or is gone
		close(asked)
		told := map[int]bool{child: true}
		for begun := time.Now(); time.Since(begun) < keepTime; {
			var lines []byte
			mu.Lock()
			found := sweep(os.Getpid(), func(int, stat) bool { return true })
			for pid, s := range found {
				if !s.zombie && !told[pid] {
					told[pid] = true
					lines = append(lines, message{left, uint32(pid), s.name}.encoded()...)
				}
			}
			_, _ = control.Write(lines)
			if groupOnly && !reaped { // its number is its own as long as the child has one
				_ = unix.Kill(-child, unix.SIGKILL)
			}
			mu.Unlock()
			select {
			case <-died: // whose children are this process's now
			case <-time.After(time.Millisecond):
			}
		}
		os.Exit(1)
	}()
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		mu.Lock()
		for err == nil {
			var status syscall.WaitStatus
			var pid int
			if pid, err = syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid == child && !reaped { // whose number may be another one's later
				reaped = true
				if groupOnly {
					_ = unix.Kill(-child, unix.SIGKILL) // right after that its number is hardly another group's
				}
				_, _ = control.Write(message{kind: ended, value: uint32(status)}.encoded())
			}
			if pid <= 0 {
				break
			}
		}
		if err == unix.ECHILD { // nothing is left, and so nothing can come
			_, _ = control.Write(message{kind: empty}.encoded())
			<-asked
			os.Exit(0)
		}
		mu.Unlock()
		select {
		case died <- struct{}{}:
		default:
		}
	}
}
