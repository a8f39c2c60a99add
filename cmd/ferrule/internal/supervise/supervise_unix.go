//go:build unix && !linux

package supervise

import (
	"os/exec"
	"syscall"
)

type system struct{ cmd *exec.Cmd }

func (p *Process) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.run(cmd)
	return nil
}

func (*Process) ended() {}

// killAll kills the child's process group. Right after the child was reaped its number is hardly another group's.
func (p *Process) killAll() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }
