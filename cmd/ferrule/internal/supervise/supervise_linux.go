package supervise

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

//lint:ignore U1000 on Windows there is something in it
type system struct{}

func (*Process) prepare(cmd *exec.Cmd) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	return nil
}

func (*Process) started() {}
func (*Process) ended()   {}

// killAll kills the child's process group at once, so that none of it starts another one meanwhile, and the other
// processes of its session. The session's number is nobody else's as long as it has a member, which is looked at first.
func (p *Process) killAll() {
	all := processes()
	group := len(all) == 0 // there is no /proc
	for pid, s := range all {
		if s.session == p.Pid() && s.group == p.Pid() {
			group = true
		} else if s.session == p.Pid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if group {
		_ = unix.Kill(-p.Pid(), unix.SIGKILL)
	}
}

// kill kills processes, and reaps those that have become this one's children.
func (p *Process) kill(found map[int]string) {
	for pid := range found {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// left returns the processes that the child has left, and their names: those of its session, and orphans, which the
// system has made children of this process.
func (p *Process) left() map[int]string {
	liveMu.Lock()
	defer liveMu.Unlock()
	own, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	self := os.Getpid()
	found := map[int]string{}
	for pid, s := range processes() {
		switch {
		case live[pid] || pid == self:
		case s.session == p.Pid(), s.parent == self && s.session != own && !live[s.session]:
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
