package main

import (
	"context"
	"os/exec"
	"syscall"
)

// inShellOf is the system's shell with a command line. cmd does not read quotes as other programs do, so that the line must
// reach it as it is.
func inShellOf(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: `cmd /S /C "` + line + `"`}
	return cmd
}
