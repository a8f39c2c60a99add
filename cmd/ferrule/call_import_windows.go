package main

import (
	"context"
	"os/exec"
	"strconv"
	"syscall"
)

// inShellOf is the system's shell with a command line. cmd does not read quotes as other programs do, so that the line must
// reach it as it is. What it has started ends with it when ctx ends.
func inShellOf(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd /S /C "` + line + `"`}
	cmd.Cancel = func() error {
		_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(cmd.Process.Pid)).Run()
		return cmd.Process.Kill()
	}
	return cmd
}
