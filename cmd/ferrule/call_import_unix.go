//go:build !windows

package main

import (
	"context"
	"os"
	"os/exec"
	"syscall"
)

// inShellOf is the system's shell with a command line. It has a session of its own, and so no terminal, as in the guarded
// child, and what it has started ends with it when ctx ends.
func inShellOf(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error {
		// The number is the group's as long as Run waits for the shell, but for the blink of an eye.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err == nil {
			return nil
		}
		return os.ErrProcessDone
	}
	return cmd
}
