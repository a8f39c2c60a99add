//go:build !linux

package supervise

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// run waits for the child, which was started, and says how it has ended.
func (p *Process) run(cmd *exec.Cmd) {
	p.cmd, p.pid = cmd, cmd.Process.Pid
	go func() {
		_ = cmd.Wait()
		p.state = State{code: cmd.ProcessState.ExitCode(), text: cmd.ProcessState.String()}
		if w, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			p.state.signal = w.Signal()
		}
		close(p.done)
	}()
}

// Signal sends the child a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// wait gives nothing time: what the child has left is not found before it is killed.
func (p *Process) wait(time.Duration) {}

// end ends all that is found. What the child's end has left is found after it.
func (p *Process) end() (left, alive []string) {
	p.killAll()
	<-p.done
	p.killAll()
	p.ended()
	return nil, nil
}
