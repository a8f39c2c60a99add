package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// system is the child's keeper: its parent, in a process of its own, which becomes the parent of all that loses its own
// beneath it, and ends all of that when this process is gone; see keep.
type system struct {
	keeper  *exec.Cmd
	control *os.File // to the keeper: what it closes asks for the end
	over    chan struct{}
}

// live are the processes that were started here and whose End has not come: what they have started is theirs.
var (
	liveMu sync.Mutex
	live   = map[int]bool{}
)

func (p *Process) start(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	for tries := 1; ; tries++ {
		err := p.startKept(cmd)
		if err == io.EOF && tries < 10 {
			// What is typed on the terminal, or sent to the process group, reaches the keeper as long as it has no session of its own, and this process, too,
			// which is the one that knows what to do about it.
			switch w, _ := p.keeper.ProcessState.Sys().(syscall.WaitStatus); w.Signal() {
			case unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTERM:
				continue
			}
		}
		if err == io.EOF {
			err = fmt.Errorf("%s: its keeper has ended before it was started: %v", cmd.Path, p.keeper.ProcessState)
		}
		return err
	}
}

// startKept is start, and returns io.EOF when the keeper has ended before it has said anything.
func (p *Process) startKept(cmd *exec.Cmd) error {
	// A plug-in may kill the keeper. The child ends then, and what it has started becomes this process's.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetNonblock(pair[0], true) // it is waited for by the runtime's poller
	p.control = os.NewFile(uintptr(pair[0]), "control")
	other := os.NewFile(uintptr(pair[1]), "control")
	defer other.Close()
	k := exec.Command(self)
	k.Args = append([]string{"ferrule-keeper", cmd.Path}, cmd.Args...)
	k.Dir, k.Env = cmd.Dir, append(cmd.Environ(), fmt.Sprintf("%s=%d", keeperEnv, 3+len(cmd.ExtraFiles)))
	k.Stdin, k.Stdout, k.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	k.ExtraFiles = append(cmd.ExtraFiles[:len(cmd.ExtraFiles):len(cmd.ExtraFiles)], other)
	k.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.keeper, p.over = k, make(chan struct{})
	liveMu.Lock() // before it is looked at as somebody's orphan
	err = k.Start()
	if err == nil {
		live[k.Process.Pid] = true
	}
	liveMu.Unlock()
	if err != nil {
		p.control.Close()
		return err
	}
	go func() {
		_ = k.Wait()
		close(p.over)
	}()
	other.Close()
	m, err := p.receive()
	if err != nil || m.kind != started {
		p.ended()
		if err == nil {
			err = fmt.Errorf("%s: %w", cmd.Path, syscall.Errno(m.value))
		}
		return err
	}
	p.pid = int(m.value)
	liveMu.Lock()
	live[p.pid] = true
	liveMu.Unlock()
	go func() {
		defer close(p.done)
		if m, err := p.receive(); err == nil && m.kind == ended {
			p.state = stateOf(syscall.WaitStatus(m.value))
		} else {
			p.state = p.inherit()
		}
	}()
	return nil
}

// receive waits for a message of the keeper's, which the child may have stopped: it is woken again and again.
func (p *Process) receive() (message, error) {
	var b [messageSize]byte
	for n := 0; ; {
		_ = p.control.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		more, err := io.ReadFull(p.control, b[n:])
		switch n += more; {
		case err == nil:
			return decoded(b), nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return message{}, err
		}
		_ = p.keeper.Process.Signal(unix.SIGCONT)
	}
}

// inherit ends the child when somebody has killed its keeper: it is this process's child now, unless the keeper has reaped it
// and could not say so. Its number is somebody else's then.
func (p *Process) inherit() State {
	<-p.over
	status := syscall.WaitStatus(syscall.SIGKILL)
	for options := syscall.WNOHANG; ; {
		switch pid, err := syscall.Wait4(p.pid, &status, options, nil); {
		case err == syscall.EINTR:
		case err != nil || pid == p.pid:
			return stateOf(status)
		default:
			_ = unix.Kill(p.pid, unix.SIGKILL)
			options = 0
		}
	}
}

// stateOf has the words of os.ProcessState.
func stateOf(w syscall.WaitStatus) State {
	s := State{code: w.ExitStatus()}
	if w.Signaled() {
		s.signal, s.text = w.Signal(), "signal: "+w.Signal().String()
	} else {
		s.text = "exit status " + strconv.Itoa(s.code)
	}
	if w.CoreDump() {
		s.text += " (core dumped)"
	}
	return s
}

// Signal sends the child a signal. The number is the child's as long as Done is not closed, but for the blink of an eye.
func (p *Process) Signal(s os.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return unix.Kill(p.pid, s.(syscall.Signal))
	}
}

// await waits for the child, which was killed. Its keeper may have been stopped: it is woken, and killed when that does not
// help.
func (p *Process) await() {
	for begun := time.Now(); ; {
		_ = p.keeper.Process.Signal(unix.SIGCONT)
		select {
		case <-p.done:
			return
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(begun) > endTime {
			_ = p.keeper.Process.Kill()
		}
	}
}

// reaped wakes the keeper, and reports whether it has no children any more, not even such as have ended.
func (p *Process) reaped() bool {
	_ = p.keeper.Process.Signal(unix.SIGCONT)
	for _, s := range processes() {
		if s.parent == p.keeper.Process.Pid {
			return false
		}
	}
	return true
}

// ended ends the keeper, which has nothing to keep any more.
func (p *Process) ended() {
	_ = p.keeper.Process.Kill()
	<-p.over
	p.control.Close()
	liveMu.Lock()
	delete(live, p.keeper.Process.Pid)
	delete(live, p.pid)
	liveMu.Unlock()
}

// killAll kills the child's process group at once, so that none of it starts another one meanwhile, and the other
// processes of its session. The session's number is nobody else's as long as it has a member, which is looked at first.
func (p *Process) killAll() {
	all := processes()
	group := len(all) == 0 // there is no /proc
	for pid, s := range all {
		if s.session == p.pid && s.group == p.pid {
			group = true
		} else if s.session == p.pid {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if group {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
}

// kill kills processes, and reaps those that have become this one's children.
func (p *Process) kill(found map[int]string) {
	for pid := range found {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// left returns the processes that the child has left and that run, with their names: those of its session, and orphans, which
// the system has made children of the keeper, or of this process when that was killed.
func (p *Process) left() map[int]string {
	liveMu.Lock()
	defer liveMu.Unlock()
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	self, keeper := os.Getpid(), p.keeper.Process.Pid
	found := map[int]string{}
	for pid, s := range processes() {
		switch {
		case live[pid] || pid == self:
		case s.session == p.pid, s.parent == keeper, s.parent == self && s.session != own && !live[s.session]:
			if s.zombie && s.parent != self {
				continue // its parent is to reap it, and this process when that one has ended
			}
			// A zombie cannot be reaped as long as a thread of it lives.
			if reaped, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); !s.zombie || reaped != pid {
				found[pid] = s.name
			}
		}
	}
	return found
}

// stat is what the system says of a process.
type stat struct {
	name                   string
	parent, group, session int
	zombie                 bool
}

// processes returns all processes of the system.
func processes() map[int]stat {
	folder, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	all := make(map[int]stat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		// The name is in brackets, and may have any character in it.
		from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if from < 0 || to < from {
			continue
		}
		fields := strings.Fields(string(text[to+1:]))
		if len(fields) < 4 {
			continue
		}
		s := stat{name: string(text[from+1 : to]), zombie: fields[0] == "Z" || fields[0] == "X"}
		s.parent, _ = strconv.Atoi(fields[1])
		s.group, _ = strconv.Atoi(fields[2])
		s.session, _ = strconv.Atoi(fields[3])
		all[pid] = s
	}
	return all
}
