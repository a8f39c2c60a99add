//go:build unix && !linux

package supervise

import (
	"os/exec"
	"syscall"
)

//lint:ignore U1000 on Windows there is something in it
type system struct{}

func (*Process) prepare(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return nil
}

func (*Process) started()             {}
func (*Process) ended()               {}
func (*Process) left() map[int]string { return nil }
func (*Process) kill(map[int]string)  {}

// killAll kills the child's process group. Right after the child was reaped its number is hardly another group's.
func (p *Process) killAll() { _ = syscall.Kill(-p.Pid(), syscall.SIGKILL) }
