package supervise

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// system is the child's keeper: its parent, in a process of its own, which becomes the parent of all that loses its own
// beneath it, and ends all of that when this process is gone; see keep.
type system struct {
	keeper  *exec.Cmd
	control *os.File      // to the keeper: what is closed of it asks for the end
	over    chan struct{} // closed when the keeper has ended
	empty   chan struct{} // closed when the keeper has said that nothing is left
	heard   chan struct{} // closed when the keeper says nothing any more

	mu   sync.Mutex
	left map[int]string // the names of what was found when the end was asked for
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
	// A plug-in may kill the keeper. The child ends then, and what it has started becomes this process's. An emulator that does not
	// know of this has no orphans found; see keep.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil && err != unix.EINVAL {
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
	p.keeper, p.over, p.empty, p.heard = k, make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.left = map[int]string{}
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
		liveMu.Lock()
		delete(live, k.Process.Pid)
		liveMu.Unlock()
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
	go p.listen()
	return nil
}

// listen takes the keeper's messages up to their end.
func (p *Process) listen() {
	defer close(p.heard)
	known := false
	for {
		switch m, err := p.receive(); {
		case err != nil:
			if !known {
				p.state = p.inherit()
				close(p.done)
			}
			return
		case m.kind == ended:
			p.state, known = stateOf(syscall.WaitStatus(m.value)), true
			close(p.done)
		case m.kind == left:
			p.mu.Lock()
			p.left[int(m.value)] = m.name
			p.mu.Unlock()
		case m.kind == empty:
			close(p.empty)
			return
		}
	}
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

// wait gives what the child has left time to end by itself.
func (p *Process) wait(grace time.Duration) {
	select {
	case <-p.empty:
	case <-p.over: // somebody has killed the keeper
	case <-time.After(grace):
	}
}

// end has the keeper end all that the child has started, which was asked to end. Only the keeper knows that nothing is left:
// then it has no child, and whoever has lost its parent beneath it would be one.
func (p *Process) end() (left, alive []string) {
	if c, err := p.control.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
	keeper := p.keeper.Process.Pid
	for begun, wait := time.Now(), time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		over := false
		select {
		case <-p.empty:
			over = true
		case <-p.over:
			<-p.heard
			over = true
		case <-time.After(wait):
		}
		if over {
			select {
			case <-p.empty:
			default: // somebody has killed the keeper
				alive = p.endOrphans()
			}
			p.ended()
			return p.names(), alive
		}
		// What is to end may stop the keeper, again and again. All of it is ended from here then.
		if s, ok := statOf(keeper); ok && s.stopped {
			p.found(sweep(keeper, func(int, stat) bool { return true }))
		}
		_ = p.keeper.Process.Signal(unix.SIGCONT)
		if time.Since(begun) < endTime {
			continue
		}
		select {
		case <-p.done:
		default: // nobody says how the child has ended
			_ = p.keeper.Process.Kill()
			<-p.over
			continue
		}
		descend(keeper, func(pid, _ int) bool {
			s, ok := statOf(pid)
			if ok && !s.zombie {
				alive = append(alive, s.name)
				p.found(map[int]stat{pid: s})
			}
			return ok
		})
		if len(alive) > 0 {
			p.control.Close() // and the keeper goes on by itself, up to keepTime
			liveMu.Lock()
			delete(live, p.pid)
			liveMu.Unlock()
		} else { // it knows nothing more than this process does, where the system does not list its children
			p.ended()
		}
		slices.Sort(alive)
		return p.names(), alive
	}
}

// found keeps the names of what has not ended by itself.
func (p *Process) found(all map[int]stat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid, s := range all {
		if !s.zombie && pid != p.pid {
			p.left[pid] = s.name
		}
	}
}

func (p *Process) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Values(p.left))
}

// endOrphans ends what has become this process's when the keeper was killed, and returns the names of what is left. This
// process has other children, and so it is never told that it has none: nothing is found several times in a row.
func (p *Process) endOrphans() (alive []string) {
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	self := os.Getpid()
	if !ownProc() {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
	for none, begun := 0, time.Now(); none < 5; {
		liveMu.Lock()
		all := sweep(self, func(pid int, s stat) bool {
			return !live[pid] && (s.session == p.pid || s.session != own && !live[s.session])
		})
		for pid := range all { // those that are this one's children
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		liveMu.Unlock()
		p.found(all)
		if none++; len(all) > 0 {
			none = 0
		} else {
			time.Sleep(time.Millisecond)
		}
		if time.Since(begun) > endTime {
			time.Sleep(50 * time.Millisecond) // what was killed ends
			for pid := range all {
				if s, ok := statOf(pid); ok && !s.zombie {
					alive = append(alive, s.name)
				}
			}
			break
		}
	}
	slices.Sort(alive)
	return alive
}

// ended ends the keeper, which has nothing to keep any more.
func (p *Process) ended() {
	_ = p.keeper.Process.Kill()
	<-p.over
	p.control.Close()
	liveMu.Lock()
	delete(live, p.pid)
	liveMu.Unlock()
}
