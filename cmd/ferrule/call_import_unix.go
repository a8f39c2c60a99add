//go:build !windows

package main

import (
	"context"
	"os/exec"
)

// inShellOf is the system's shell with a command line.
func inShellOf(ctx context.Context, line string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", line)
}
