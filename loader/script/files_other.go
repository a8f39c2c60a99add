//go:build !unix

package script

import (
	"io/fs"
	"os/exec"
	"time"
)

const nonblock = 0

// whole has who waits for a command not wait for what it has started, when its context has ended.
func whole(cmd *exec.Cmd) { cmd.WaitDelay = time.Second }

func ownFolder(string, fs.FileInfo) error { return nil }
