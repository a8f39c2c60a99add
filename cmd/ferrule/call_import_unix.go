//go:build !windows

package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// inShellOf is the system's shell with a command line. On Linux it has a session of its own, and so no terminal, as in the
// guarded child, and what has stayed in its group ends with it when ctx ends. Elsewhere it stays in the group of this process,
// because that is all that is found when this process is ended; see package supervise.
func inShellOf(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	if runtime.GOOS != "linux" {
		return cmd
	}
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
